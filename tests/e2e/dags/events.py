"""What the test of events watches: the backups of one vault. The watch begins when the Dag is unpaused."""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import DAG, task
from airflow.sdk import Asset, AssetWatcher

from airflow_provider_azbackup.triggers import AzureBackupEventTrigger

BACKUPS = Asset(
    "watched-backups",
    watchers=[
        AssetWatcher(name="azure", trigger=AzureBackupEventTrigger(vault_name="spare-60", poll_interval=15.0))
    ],
)

with DAG(dag_id="watched", schedule=[BACKUPS], max_active_runs=1):

    @task(inlets=[BACKUPS])
    def hear(triggering_asset_events: Any = None, inlet_events: Any = None) -> list[str]:
        """Return the jobs that no earlier event has reported, as the docs on events show it."""
        came = [event for events in triggering_asset_events.values() for event in events]
        first: dict[str, Any] = {}
        ended = [(job, event.timestamp) for event in came for job in event.extra["payload"]["backups"]]
        if any(job["redelivered"] for job, _ in ended):
            for event in inlet_events[BACKUPS]:
                for job in event.extra["payload"]["backups"]:
                    first.setdefault(job["job_id"], event.timestamp)
        return [job["job_id"] for job, at in ended if at == first.get(job["job_id"], at)]

    hear()

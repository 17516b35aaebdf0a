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
        """Return the jobs that no earlier event has told, as the docs on events show it."""
        came = [event for events in triggering_asset_events.values() for event in events]
        first: dict[str, Any] = {}
        if any(event.extra["payload"]["redelivered"] for event in came):
            for event in inlet_events[BACKUPS]:
                first.setdefault(event.extra["payload"]["job_id"], event.timestamp)
        ended = [(event.extra["payload"]["job_id"], event.timestamp) for event in came]
        return [job_id for job_id, at in ended if at == first.get(job_id, at)]

    hear()

"""A Dag that starts when a backup has ended; Airflow 2 knows no watched assets, so there it is none."""

from __future__ import annotations

from typing import Any

try:
    from airflow.sdk import DAG, Asset, AssetWatcher, task
except ImportError:
    pass
else:
    from airflow_provider_azbackup.triggers import AzureBackupEventTrigger

    watcher = AssetWatcher(
        name="azure", trigger=AzureBackupEventTrigger(vault_name="watched", poll_interval=15.0)
    )

    with DAG(
        dag_id="watched", schedule=[Asset("backups", watchers=[watcher])], is_paused_upon_creation=False
    ):

        @task
        def hear(triggering_asset_events: Any = None) -> list[str]:
            """Return the jobs whose ends have started this run."""
            events = [event for each in triggering_asset_events.values() for event in each]
            return [job["job_id"] for event in events for job in event.extra["payload"]["backups"]]

        hear()

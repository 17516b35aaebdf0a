"""Start a DAG whenever a backup of a VM has ended, no matter who started the backup.

A trigger watches the asset `payroll-backups`: it follows the jobs of the vault in
the triggerer. Backups that end well between two lists of the vault become one
event of the asset, and the event starts this DAG. `report` prints what the event
contains. An end marked `redelivered` may have been sent before, because a
triggerer died.

Watchers need Airflow 3.0. On older releases, and in a run started by hand, there
is nothing to report. Pausing the DAG ends the watch; afterwards you receive what
ended in between. Leave out `protected_item` to watch the whole vault, and set
`outcomes` to include failures.
"""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import DAG, task

try:
    from airflow.sdk import Asset, AssetWatcher
except ImportError:  # Airflow 2 has no watchers
    BACKUPS = None
else:
    from airflow_provider_azbackup.triggers import AzureBackupEventTrigger

    BACKUPS = Asset(
        "payroll-backups",
        watchers=[
            AssetWatcher(
                name="azure-backup",
                trigger=AzureBackupEventTrigger(
                    protected_item="vm-good", outcomes=["succeeded"]
                ),
            )
        ],
    )

with DAG(
    dag_id="azbackup_after_backup",
    schedule=[BACKUPS] if BACKUPS else None,
    tags=["azure-backup"],
    doc_md=__doc__,
):

    @task
    def report(triggering_asset_events: Any = None) -> list[str]:
        """Return which backups have ended."""
        events = [
            event
            for found in (triggering_asset_events or {}).values()
            for event in found
        ]
        ended = [
            job for event in events for job in event.extra["payload"]["backups"]
        ]
        lines = [
            f"{job['item']}: {job['status']} at {job['end_time']} ({job['job_id']})"
            for job in ended
        ]
        print(*lines or ["Started by hand: nothing has ended."], sep="\n")
        return lines

    report()

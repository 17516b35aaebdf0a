"""Run something whenever a backup of a machine has ended, whoever has started it: a policy, a person, a DAG.

The asset `payroll-backups` is watched by a trigger that follows the vault's jobs in the triggerer. Each
backup of the machine that ends well is told by an event of the asset, and an event starts this DAG. What ends
between two looks comes in one event, and events that come together make one run. `report` reads what they
carry. An end that says `redelivered` may have been told before: Airflow was killed when it was on its way.

Watchers came with Airflow 3.0; below it, and when it is started by hand, there is nothing to report. Pausing
the DAG ends the watch; when it goes on, what ended meanwhile is told. Leave `protected_item` out to follow
everything in the vault, and name other `outcomes` to hear of failures.
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
                trigger=AzureBackupEventTrigger(protected_item="vm-good", outcomes=["succeeded"]),
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
        """Say which backups it was that ended."""
        events = [event for found in (triggering_asset_events or {}).values() for event in found]
        ended = [job for event in events for job in event.extra["payload"]["backups"]]
        lines = [f"{job['item']}: {job['status']} at {job['end_time']}, job {job['job_id']}" for job in ended]
        print(*lines or ["Started by hand: nothing has ended."], sep="\n")
        return lines

    report()

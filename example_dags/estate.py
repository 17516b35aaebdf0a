"""Gate on a whole estate with one task, whose verdict names what is not backed up.

`tier_1` opens when all items of its scope have a recovery point that is at most 26
hours old, in any number of vaults. It is one task, however many items there are.
One item may be missing here (`allow=1`). The XCom `verdict` counts the items by
reason and describes those that are not fresh, and the task returns their ids.

`notify` goes through the verdict where you would call a notifier or open a ticket,
and `change_window` leaves alone what is not backed up.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_azbackup.sensors import AzureBackupFleetSensor

with DAG(
    dag_id="azbackup_estate", schedule=None, tags=["azure-backup"], doc_md=__doc__
):
    # A whole estate is subscriptions=[...], narrowed by policy, workload or tags.
    tier_1 = AzureBackupFleetSensor(
        task_id="tier_1",
        vaults=["demo-vault", "demo-vault-2"],
        protected_items=["nightly-1", "nightly-2", "vm-elsewhere", "payroll-vm"],
        max_age=timedelta(hours=26),
        allow=1,
        timeout=6 * 3600,
        deferrable=True,
    )

    @task
    def notify(verdict: dict[str, Any]) -> None:
        """Say which items have no fresh backup, and why."""
        for item in verdict["items"]:
            last = item["last_good"] or "never"
            print(f"{item['name']}: {item['reason']}. Last good backup: {last}")

    @task
    def change_window(left_alone: list[str]) -> None:
        """Do what must not be done to an item without a fresh backup."""
        print(f"Changing everything but {len(left_alone)} items.")

    notify(tier_1.output["verdict"])
    change_window(tier_1.output)

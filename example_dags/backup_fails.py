"""What happens when the backup fails: the work behind it is not done, and somebody is told why.

`patch` stays shut (`upstream_failed`). `notify` runs because `backup` failed, and reads what Azure said from
the XCom `job`, which is there whether the backup ended well or not.

In the demo the machine `vm-fails` is in a state that Azure cannot back up.
"""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_azbackup.operators import AzureBackupOperator

with DAG(dag_id="azbackup_backup_fails", schedule=None, tags=["azure-backup"], doc_md=__doc__):
    backup = AzureBackupOperator(task_id="backup", protected_item="vm-fails", deferrable=True)

    @task
    def patch() -> None:
        """Never reached: there is no backup to go back to."""
        raise AssertionError("this must not run behind a backup that failed")

    @task(trigger_rule="one_failed")
    def notify(ti: Any = None) -> str:
        """Say what failed, in Azure's own words; a message to a channel would be sent from here."""
        job = ti.xcom_pull(task_ids="backup", key="job")
        error = job["errors"][0]
        message = f"No backup of {job['item']}: {job['status']}, {error['title']}: {error['message']}"
        print(message, *error["recommendations"], sep="\n")
        return message

    backup >> [patch(), notify()]

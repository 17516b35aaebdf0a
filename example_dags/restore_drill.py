"""A restore drill: restore the newest recovery point of a VM, and check the result.

`restore` restores the disks of the VM into a staging storage account. It touches
no VM, and it succeeds only if Azure reports that the restore completed. `verify`
reads the facts of the job: the account that contains the disks, the template that
creates a VM from them, how long it took and how old the recovery point was. Put
what requires a successful drill after `verified`.

To run it on your own Azure, set up the connection `azure_backup_default`, name a
VM that your vault protects and a storage account in its region, and delete what
the drill leaves there.
"""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_azbackup.operators import AzureBackupRestoreOperator
from airflow_provider_azbackup.restore_to import disks

STAGING = (
    "/subscriptions/00000000-0000-0000-0000-00000000d3a0/resourceGroups/demo-rg"
    "/providers/Microsoft.Storage/storageAccounts/drillstaging"
)
LONGEST = 6 * 3600  # seconds that a restore may take

with DAG(
    dag_id="azbackup_restore_drill",
    schedule=None,
    tags=["azure-backup"],
    doc_md=__doc__,
):
    restore = AzureBackupRestoreOperator(
        task_id="restore",
        protected_item="vm-good",
        restore_to=disks(storage_account_id=STAGING),
        recovery_point="latest",
        deferrable=True,
        cancel_on_kill=True,
    )

    @task
    def verify(ti: Any = None) -> str:
        """Check that the disks are where they should be, and report it."""
        # Imported here, so that parsing this file does not load the Azure libraries.
        from airflow_provider_azbackup.hooks import AzureBackupHook

        with AzureBackupHook() as hook:
            # The list that all deferred tasks share does not contain the details.
            job = hook.get_job(
                ti.xcom_pull(task_ids="restore", key="job_id")
            ).facts()
        point = ti.xcom_pull(task_ids="restore", key="recovery_point")
        details = job["details"]
        if details.get("Target Storage Account Name") != STAGING.rpartition("/")[2]:
            raise ValueError(
                f"the disks went to {details.get('Target Storage Account Name')!r}"
            )
        if not details.get("Template Blob Uri"):
            raise ValueError(
                f"job {job['job_id']} names no restored disks: {details}"
            )
        if job["duration_seconds"] > LONGEST:
            raise ValueError(f"the restore took {job['duration_seconds']:.0f} s")
        return (
            f"{job['item']} as of {point['time']}, {point['consistency']}, was "
            f"restored in {job['duration_seconds']:.0f} s. The template for a VM: "
            f"{details['Template Blob Uri']}"
        )

    @task
    def verified(report: str) -> None:
        """Do what requires backups that can be restored."""
        print(f"Drill passed: {report}")

    report = verify()
    restore >> report
    verified(report)

"""A restore drill: restore the newest recovery point of a machine, and prove that something came out of it.

`restore` brings the disks of the machine into a staging storage account. It touches no machine, and it
succeeds only when Azure says that the restore completed. `verify` reads what the job tells: which account the
disks are in, the template that makes a machine of them, how long it took and how old the recovery point was.
What must not happen without a drill that went well goes behind `verified`.

On your own Azure: set the connection `azure_backup_default`, name a machine that your vault protects, and a
storage account in the vault's region. Delete what the drill leaves there.
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
LONGEST = 6 * 3600  # seconds a restore may take before somebody should look into it

with DAG(dag_id="azbackup_restore_drill", schedule=None, tags=["azure-backup"], doc_md=__doc__):
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
        """Check that the disks are where they were wanted, and say so in a line."""
        # Imported here, so that reading this file does not load the Azure libraries.
        from airflow_provider_azbackup.hooks import AzureBackupHook

        with AzureBackupHook() as hook:
            # The list that all deferred waits share leaves the details out.
            job = hook.get_job(ti.xcom_pull(task_ids="restore", key="job_id")).facts()
        point = ti.xcom_pull(task_ids="restore", key="recovery_point")
        told = job["details"]
        if told.get("Target Storage Account Name") != STAGING.rpartition("/")[2]:
            raise ValueError(f"the disks went to {told.get('Target Storage Account Name')!r}")
        if not told.get("Template Blob Uri"):
            raise ValueError(f"job {job['job_id']} tells of no restored disks: {told}")
        if job["duration_seconds"] > LONGEST:
            raise ValueError(f"the restore took {job['duration_seconds']:.0f} s")
        return (
            f"{job['item']} as of {point['time']}, {point['consistency']}, was restored in "
            f"{job['duration_seconds']:.0f} s; a machine is made by {told['Template Blob Uri']}"
        )

    @task
    def verified(report: str) -> None:
        """Do what counts on backups that can be restored."""
        print(f"Drill passed: {report}")

    report = verify()
    restore >> report
    verified(report)

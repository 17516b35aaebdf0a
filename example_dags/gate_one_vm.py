"""Patch a VM only after a backup of it has completed.

`backup` starts an on-demand backup, then frees its worker slot and waits in the
triggerer. It succeeds if Azure reports that the job completed, and fails in every
other case. So `patch` runs after a proven backup, or not at all.

To run it on your own Azure, set up the connection `azure_backup_default` and name
a VM that your vault protects.
"""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_azbackup.operators import AzureBackupOperator

with DAG(
    dag_id="azbackup_gate_one_vm",
    schedule=None,
    tags=["azure-backup"],
    doc_md=__doc__,
):
    backup = AzureBackupOperator(
        task_id="backup", protected_item="vm-good", deferrable=True
    )

    @task
    def patch(job_id: str) -> None:
        """Do what must not be done without a backup."""
        print(f"Patching vm-good. Its recovery point is that of job {job_id}.")

    patch(backup.output)

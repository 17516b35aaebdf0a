"""Patch a virtual machine only behind a backup of it that has completed.

`backup` starts an on-demand backup in Azure, then gives its worker slot back and waits in the triggerer. It
succeeds when Azure says that the job completed, and fails in every other case; so `patch` runs behind a
recovery point that exists, or not at all.

On your own Azure: set the connection `azure_backup_default`, and name a machine that your vault protects.
"""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_azbackup.operators import AzureBackupOperator

with DAG(dag_id="azbackup_gate_one_vm", schedule=None, tags=["azure-backup"], doc_md=__doc__):
    backup = AzureBackupOperator(task_id="backup", protected_item="vm-good", deferrable=True)

    @task
    def patch(job_id: str) -> None:
        """Do what must not be done without a backup."""
        print(f"Patching vm-good; the way back is the recovery point of job {job_id}.")

    patch(backup.output)

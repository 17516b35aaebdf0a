"""Two restores in place. A person is asked about each; a task has the name of the answer it will get."""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_azbackup.operators import AzureBackupRestoreOperator
from airflow_provider_azbackup.restore_to import original_vm

GROUP = "/subscriptions/00000000-0000-0000-0000-00000000d3a0/resourceGroups/demo-rg"
STAGING = f"{GROUP}/providers/Microsoft.Storage/storageAccounts/staging"
# By the name of its task: the VM that an approval overwrites.
VMS = {"approved": "vm-patched", "rejected": "payroll-vm"}

with DAG("approval", schedule=None):
    for task_id, vm in VMS.items():
        AzureBackupRestoreOperator(
            task_id=task_id,
            protected_item=vm,
            restore_to=original_vm(storage_account_id=STAGING),
            approve=True,
            azure_backup_conn_id="calm",
            poll_interval=3,
            deferrable=False,
            # A rejection must not be tried again.
            retries=2,
        )

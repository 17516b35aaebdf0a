"""A row of tasks for each workload: one for each thing that can be done with it (docs/workloads.md)."""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import DAG, TaskGroup

from airflow_provider_azbackup.operators import (
    AzureBackupCancelJobOperator,
    AzureBackupOperator,
    AzureBackupRestoreOperator,
)
from airflow_provider_azbackup.restore_to import (
    cluster,
    database_files,
    disks,
    new_disk,
    original_database,
    original_share,
    other_blobs,
)
from airflow_provider_azbackup.sensors import AzureBackupFreshnessSensor, AzureBackupJobSensor

GROUP = "/subscriptions/00000000-0000-0000-0000-00000000d3a0/resourceGroups/demo-rg"
STAGING = f"{GROUP}/providers/Microsoft.Storage/storageAccounts/staging"
DRILL = f"{GROUP}/providers/Microsoft.Compute/disks/drill"
DUMPS = "https://staging.blob.core.windows.net/dumps"
HERE = {"vault_name": "demo-backup-vault", "vault_type": "DataProtection"}
# By the name of its group: the item, its vault, where to restore it to.
WORKLOADS: dict[str, tuple[str, dict[str, str], Any]] = {
    "Azure_VM": ("vm-good", {}, disks(storage_account_id=STAGING)),
    "Azure_file_share": ("documents", {}, original_share(copy_options="Overwrite")),
    "SQL_in_an_Azure_VM": ("payroll", {}, original_database()),
    "SAP_HANA_in_an_Azure_VM": ("systemdb", {}, original_database()),
    "Disk": ("disk-good", HERE, new_disk(disk_id=DRILL)),
    "Blobs": ("demoblobs", HERE, other_blobs(storage_account_id=STAGING)),
    "PostgreSQL": ("demo-pg/orders", HERE, database_files(container_url=DUMPS, prefix="drill-")),
    "AKS": ("demo-aks", HERE, cluster(namespaces=["shop"])),
}
AWAITED = {"deferrable": True, "timeout": 600.0}

with DAG("workloads", schedule=None, default_args={"azure_backup_conn_id": "calm"}):
    for workload, (item, vault, place) in WORKLOADS.items():
        with TaskGroup(workload):
            back_up = AzureBackupOperator(
                task_id="back_up",
                protected_item=item,
                require_recovery_point=True,
                poll_interval=3,
                **vault,
                **AWAITED,
            )
            freshness = AzureBackupFreshnessSensor(
                task_id="freshness", protected_item=item, newer_than="{{ dag_run.run_after }}", **vault
            )
            # Somebody else's backup, for the sensor, and another one to be cancelled.
            started = AzureBackupOperator(
                task_id="started", protected_item=item, wait_for_completion=False, **vault
            )
            wait = AzureBackupJobSensor(
                task_id="wait", job_id=started.output, poke_interval=3, **vault, **AWAITED
            )
            restore = AzureBackupRestoreOperator(
                task_id="restore",
                protected_item=item,
                restore_to=place,
                poll_interval=3,
                **vault,
                **AWAITED,
            )
            check = AzureBackupRestoreOperator(
                task_id="check", protected_item=item, restore_to=place, validate_only=True, **vault
            )
            back_up >> freshness >> started
            wait >> check >> restore
            if not vault:
                doomed = AzureBackupOperator(task_id="doomed", protected_item=item, wait_for_completion=False)
                restore >> doomed
                AzureBackupCancelJobOperator(
                    task_id="cancel", job_id=doomed.output, poll_interval=3, **AWAITED
                )

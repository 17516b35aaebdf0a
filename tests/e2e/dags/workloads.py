"""A row of tasks for each workload, with a task for each thing that the README says can be done with it."""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import DAG, TaskGroup

from airflow_provider_azbackup.operators import (
    AzureBackupCancelJobOperator,
    AzureBackupOperator,
    AzureBackupRestoreOperator,
)
from airflow_provider_azbackup.restore_to import disks, original_database, original_share
from airflow_provider_azbackup.sensors import AzureBackupFreshnessSensor, AzureBackupJobSensor

STAGING = (
    "/subscriptions/00000000-0000-0000-0000-00000000d3a0/resourceGroups/demo-rg"
    "/providers/Microsoft.Storage/storageAccounts/staging"
)
HERE = {"vault_name": "demo-backup-vault", "vault_type": "DataProtection"}
# By the name of its group: the item, its vault, where to restore it to.
WORKLOADS: dict[str, tuple[str, dict[str, str], Any]] = {
    "Azure_VM": ("vm-good", {}, disks(storage_account_id=STAGING)),
    "Azure_file_share": ("documents", {}, original_share(copy_options="Overwrite")),
    "SQL_in_an_Azure_VM": ("payroll", {}, original_database()),
    "SAP_HANA_in_an_Azure_VM": ("systemdb", {}, original_database()),
    "Disk": ("disk-good", HERE, None),
    "Blobs": ("demoblobs", HERE, None),
    "PostgreSQL": ("demo-pg/orders", HERE, None),
    "AKS": ("demo-aks", HERE, None),
}
AWAITED = {"deferrable": True, "timeout": 600.0}

with DAG("workloads", schedule=None):
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
                task_id="freshness", protected_item=item, since="{{ dag_run.run_after }}", **vault
            )
            # Somebody else's backup, for the sensor, and another for whoever cancels.
            started = AzureBackupOperator(
                task_id="started", protected_item=item, wait_for_completion=False, **vault
            )
            wait = AzureBackupJobSensor(
                task_id="wait", job_id=started.output, poke_interval=3, **vault, **AWAITED
            )
            back_up >> freshness >> started
            end = wait
            if place:
                end >> (
                    restore := AzureBackupRestoreOperator(
                        task_id="restore",
                        protected_item=item,
                        restore_to=place,
                        poll_interval=3,
                        **AWAITED,
                    )
                )
                end = restore
            if not vault:
                doomed = AzureBackupOperator(task_id="doomed", protected_item=item, wait_for_completion=False)
                end >> doomed
                AzureBackupCancelJobOperator(
                    task_id="cancel", job_id=doomed.output, poll_interval=3, **AWAITED
                )

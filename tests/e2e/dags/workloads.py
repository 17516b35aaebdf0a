"""A row of tasks for each workload: one for each thing that can be done with it (docs/workloads.md)."""

from __future__ import annotations

import os
from typing import Any

from airflow.providers.common.compat.sdk import DAG, TaskGroup
from airflow.providers.standard.operators.empty import EmptyOperator

from airflow_provider_azbackup.drill import proven_restore
from airflow_provider_azbackup.operators import (
    AzureBackupCancelJobOperator,
    AzureBackupOperator,
    AzureBackupRestoreOperator,
)
from airflow_provider_azbackup.restore_to import (
    cluster,
    database_files,
    disks,
    new_database,
    new_disk,
    new_vm,
    original_database,
    original_share,
    other_blobs,
    other_database,
    other_share,
)
from airflow_provider_azbackup.sensors import AzureBackupFreshnessSensor, AzureBackupJobSensor

GROUP = "/subscriptions/00000000-0000-0000-0000-00000000d3a0/resourceGroups/demo-rg"
STAGING = f"{GROUP}/providers/Microsoft.Storage/storageAccounts/staging"
DRILL = f"{GROUP}/providers/Microsoft.Compute/disks/drill"
DUMPS = "https://staging.blob.core.windows.net/dumps"
MACHINE = f"{GROUP}/providers/Microsoft.Compute/virtualMachines/drill"
SUBNET = f"{GROUP}/providers/Microsoft.Network/virtualNetworks/net/subnets/default"
CLUSTER = f"{GROUP}/providers/Microsoft.ContainerService/managedClusters/drill"
DATABASE = f"{GROUP}/providers/Microsoft.DBforPostgreSQL/servers/drill/databases/drill"
HERE = {"vault_name": "demo-backup-vault", "vault_type": "DataProtection"}
# By the name of its group: the item, its vault, where to restore it to, and where else.
WORKLOADS: dict[str, tuple[str, dict[str, str], Any, Any]] = {
    "Azure_VM": (
        "vm-good",
        {},
        disks(storage_account_id=STAGING),
        new_vm(vm_id=MACHINE, subnet_id=SUBNET, storage_account_id=STAGING),
    ),
    "Azure_file_share": (
        "documents",
        {},
        original_share(copy_options="Overwrite"),
        other_share(storage_account_id=STAGING, share="drill", copy_options="Overwrite"),
    ),
    "SQL_in_an_Azure_VM": (
        "payroll",
        {},
        original_database(),
        other_database(database="MSSQLSERVER/drill", vm_id=MACHINE),
    ),
    "SAP_HANA_in_an_Azure_VM": (
        "systemdb",
        {},
        original_database(),
        other_database(database="HXE/DRILL", vm_id=MACHINE),
    ),
    "Disk": ("disk-good", HERE, new_disk(disk_id=DRILL), new_disk(disk_id=DRILL)),
    "Blobs": (
        "demoblobs",
        HERE,
        other_blobs(storage_account_id=STAGING),
        other_blobs(storage_account_id=STAGING, containers=["orders"]),
    ),
    "PostgreSQL": (
        "demo-pg/orders",
        HERE,
        database_files(container_url=DUMPS, prefix="drill-"),
        new_database(database_id=DATABASE),
    ),
    "AKS": (
        "demo-aks",
        HERE,
        cluster(namespaces=["shop"]),
        cluster(
            cluster_id=CLUSTER,
            namespaces=["shop"],
            staging_resource_group_id=GROUP,
            staging_storage_account_id=STAGING,
        ),
    ),
}
if "AZBACKUP_SAMPLE" in os.environ:
    WORKLOADS = dict([*WORKLOADS.items()][::2])
AWAITED = {"deferrable": True, "timeout": 600.0}

with DAG("workloads", schedule=None, default_args={"azure_backup_conn_id": "calm"}):
    for workload, (item, vault, place, elsewhere) in WORKLOADS.items():
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
            with proven_restore(item, restore_to=elsewhere, poll_interval=3, **vault, **AWAITED) as restored:
                EmptyOperator(task_id="opens")
            freshness >> restored.operator >> restore
            if workload != "Disk":
                freshness >> AzureBackupRestoreOperator(
                    task_id="secondary_region",
                    protected_item=item,
                    restore_to=elsewhere,
                    secondary_region=True,
                    poll_interval=3,
                    **vault,
                    **AWAITED,
                )
            if not vault:
                doomed = AzureBackupOperator(task_id="doomed", protected_item=item, wait_for_completion=False)
                restore >> doomed
                AzureBackupCancelJobOperator(
                    task_id="cancel", job_id=doomed.output, poll_interval=3, **AWAITED
                )

"""Where a restore goes to: a function for each place, for ``AzureBackupRestoreOperator(restore_to=...)``.

Each returns a plain dict, which may hold templates and be mapped over::

    from airflow_provider_azbackup.restore_to import disks

    AzureBackupRestoreOperator(
        task_id="restore",
        protected_item="shop-vm",
        restore_to=disks(storage_account_id="{{ var.value.staging_account }}"),
    )
"""

from __future__ import annotations

from airflow_provider_azbackup.core.restore.targets import (
    cluster,
    database_files,
    disks,
    new_database,
    new_disk,
    new_vm,
    original_blobs,
    original_database,
    original_share,
    original_vm,
    other_blobs,
    other_database,
    other_share,
)

__all__ = [
    "cluster",
    "database_files",
    "disks",
    "new_database",
    "new_disk",
    "new_vm",
    "original_blobs",
    "original_database",
    "original_share",
    "original_vm",
    "other_blobs",
    "other_database",
    "other_share",
]

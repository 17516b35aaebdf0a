"""Restore targets, for ``AzureBackupRestoreOperator(restore_to=...)``.

Each function returns a plain dict, so you can put templates into it and map over it::

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

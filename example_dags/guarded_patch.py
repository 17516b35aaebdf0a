"""Patch a VM after a backup of it, and restore that backup if the patch fails.

The tasks of the `with` block run after the backup. Here `patch` fails, so
`restore` restores the disks from the recovery point that the backup has made, and
the run counts as failed. If nothing fails, `restore` is skipped.

To run it on your own Azure, name your VM, and a storage account in the region of
the vault. `disks` does not touch the VM; `original_vm` replaces its disks.
"""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_azbackup.guard import backed_up
from airflow_provider_azbackup.restore_to import disks

STAGING = (
    "/subscriptions/00000000-0000-0000-0000-00000000d3a0/resourceGroups/demo-rg"
    "/providers/Microsoft.Storage/storageAccounts/patchstaging"
)

with (
    DAG(
        dag_id="azbackup_guarded_patch",
        schedule=None,
        tags=["azure-backup"],
        doc_md=__doc__,
    ),
    backed_up(
        "vm-patched", restore_to=disks(storage_account_id=STAGING), deferrable=True
    ),
):

    @task
    def patch() -> None:
        """Do the risky work."""
        raise RuntimeError("the patch broke vm-patched")

    @task
    def check() -> None:
        """Do what depends on it."""
        print("vm-patched answers.")

    patch() >> check()

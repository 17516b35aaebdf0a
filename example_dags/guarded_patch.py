"""Patch a machine behind a backup of its own, and have it back as it was if the patch goes wrong.

The tasks of the `with` block run behind the backup. Here `patch` fails, as patches do: so `restore` brings
back the disks from the very recovery point that the backup has made, and the run counts as failed. When
nothing fails, `restore` is skipped.

On your own Azure: name your machine, and a storage account in the vault's region. `disks` leaves the machine
alone; `original_vm` puts the disks back into it.
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
    DAG(dag_id="azbackup_guarded_patch", schedule=None, tags=["azure-backup"], doc_md=__doc__),
    backed_up("vm-patched", restore_to=disks(storage_account_id=STAGING), deferrable=True),
):

    @task
    def patch() -> None:
        """Do what may go wrong."""
        raise RuntimeError("the patch broke vm-patched")

    @task
    def check() -> None:
        """Do what is only worth doing if it went well."""
        print("vm-patched answers.")

    patch() >> check()

"""Tell whose job a job is: it names no protected item, only what that is called.

Source: https://learn.microsoft.com/rest/api/backup/jobs/get
"""

from __future__ import annotations

from airflow_provider_azbackup.core import calls, flows, replies
from airflow_provider_azbackup.core.jobs import Job
from airflow_provider_azbackup.core.replies import FoundItem
from airflow_provider_azbackup.core.resources import ProtectedItem, Vault
from airflow_provider_azbackup.core.wire import Flow
from airflow_provider_azbackup.exceptions import AzureBackupConfigError, AzureBackupNotFoundError

# Every kind of item with a list of its own: management type and item type, by the first part of its name.
LISTS = {
    item_type.casefold(): (management_type, item_type)
    for management_type, item_type in (*calls.ITEM_LISTS, ("AzureWorkload", "SAPHanaDBInstance"))
}


def is_of_machine(job: Job, item: ProtectedItem) -> bool:
    """Whether it is the job of a machine: the one kind that a job names in full."""
    return job.owner.casefold() == item.container.partition(";")[2].casefold()


def shows(job: Job, found: FoundItem) -> bool:
    """Whether the job of a share or a database carries the names of this item."""
    name = found.friendly_name.casefold()
    if found.item.kind == "azurefileshare":
        account = found.item.container.rpartition(";")[2]
        return job.item.casefold() == name and job.owner.casefold() == account.casefold()
    return job.item.casefold() in {name, f"{name} [{found.server.casefold()}]"}


def item_of(vault: Vault, job: Job) -> Flow[ProtectedItem]:
    """Return the protected item of a job.

    :raises AzureBackupNotFoundError: when the vault protects nothing of the job's names.
    :raises AzureBackupConfigError: when it protects several that the job's names could mean.
    """
    if job.backup_management_type.casefold() == "azureiaasvm":
        name = job.owner
        return ProtectedItem(vault=vault, container=f"IaasVMContainer;{name}", name=f"VM;{name}")
    found: list[FoundItem] = []
    for management_type, item_type in LISTS.values():
        if management_type.casefold() == job.backup_management_type.casefold():
            pages = yield from flows.all_pages(calls.list_protected_items(vault, management_type, item_type))
            found += [item for page in pages for item in replies.read_items(page)]
    meant = [item.item for item in dict.fromkeys(found) if shows(job, item)]
    if len(meant) == 1:
        return meant[0]
    if not meant:
        raise AzureBackupNotFoundError(f"vault {vault.name} protects nothing that {job} could be of")
    raise AzureBackupConfigError(
        f"{job} could be of {len(meant)} protected items of vault {vault.name}: "
        + ", ".join(item.path for item in meant)
    )

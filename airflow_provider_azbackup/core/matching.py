"""Tell whose job a job is: it names no protected item, only what that is called.

Source: https://learn.microsoft.com/rest/api/backup/jobs/get
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass

from airflow_provider_azbackup.core import calls, flows, replies
from airflow_provider_azbackup.core.jobs import Job, Outcome
from airflow_provider_azbackup.core.replies import FoundItem
from airflow_provider_azbackup.core.resources import BackupInstance, ProtectedItem, Vault
from airflow_provider_azbackup.core.wire import Flow, JsonObject
from airflow_provider_azbackup.exceptions import AzureBackupConfigError, AzureBackupNotFoundError

# Every kind of item with a list of its own: management type and item type, by the first part of its name.
LISTS = {
    item_type.casefold(): (management_type, item_type)
    for management_type, item_type in (*calls.ITEM_LISTS, ("AzureWorkload", "SAPHanaDBInstance"))
}


_WORTH = (Outcome.CANCELLED, Outcome.FAILED, Outcome.RUNNING, Outcome.WARNED, Outcome.SUCCEEDED)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A protected item by what its jobs call it, in lower case.

    :param item: the protected item.
    :param management: its backup management type; empty for a backup instance, whose jobs name it in full.
    :param owner: its container or storage account; empty for a database, whose jobs do not tell.
    :param names: what it is called; empty for a machine, which its container names in full.
    """

    item: ProtectedItem
    management: str = ""
    owner: str = ""
    names: tuple[str, ...] = ()

    @classmethod
    def of_machine(cls, item: ProtectedItem) -> Subject:
        """Return what the jobs of a machine call it."""
        return cls(item=item, management="AzureIaasVM", owner=item.container.partition(";")[2].casefold())

    def to_dict(self) -> JsonObject:
        """Return it as plain JSON."""
        return {**asdict(self), "item": self.item.path, "names": [*self.names]}

    @classmethod
    def from_dict(cls, stored: JsonObject) -> Subject:
        """Read it back."""
        return cls(**{**stored, "item": ProtectedItem.parse(stored["item"]), "names": (*stored["names"],)})

    @property
    def key(self) -> str:
        """What :func:`key_of` reads from a job of this item, and perhaps from others."""
        return self.owner or self.names[0].partition(" [")[0]

    def has(self, job: Job) -> bool:
        """Whether it is a job of this item and of no other."""
        return (
            self.management.casefold() in ("", job.backup_management_type.casefold())
            and self.owner in ("", job.owner.casefold())
            and (not self.names or job.item.casefold() in self.names)
        )


def key_of(body: JsonObject) -> str:
    """Read from a job in a list what narrows down, at little cost, which item it is of."""
    with suppress(KeyError, TypeError, AttributeError):
        properties = body["properties"]
        owner = (
            properties.get("containerName")
            or properties.get("storageAccountName")
            or properties.get("backupInstanceId")
        )
        return str(owner or properties["entityFriendlyName"].partition(" [")[0]).casefold()
    return ""


def subject_of(item: ProtectedItem) -> Flow[Subject]:
    """Return what the jobs of an item call it; for a machine nothing is read.

    :raises AzureBackupNotFoundError: when the vault does not protect it.
    :raises AzureBackupConfigError: when another item has the same names, or the kind has no jobs of its own.
    """
    if item.kind == "vm":
        return Subject.of_machine(item)
    if isinstance(item, BackupInstance):
        return Subject(item=item, owner=item.path.casefold())
    if item.kind not in LISTS:
        raise AzureBackupConfigError(
            f"{item.name!r} is of no kind whose jobs can be told; expected an item whose name starts with "
            f"one of {', '.join(LISTS)}"
        )
    pages = yield from flows.all_pages(calls.list_protected_items(item.vault, *LISTS[item.kind]))
    found = list(dict.fromkeys(found for page in pages for found in replies.read_items(page)))
    ours = next((each for each in found if each.item.path.casefold() == item.path.casefold()), None)
    if ours is None:
        raise AzureBackupNotFoundError(f"vault {item.vault.name} does not protect {item.name}")
    management, name = LISTS[item.kind][0], ours.friendly_name.casefold()
    if item.kind == "azurefileshare":
        owner = item.container.rpartition(";")[2].casefold()
        return Subject(item=item, management=management, owner=owner, names=(name,))
    others = [each for each in found if each.item != ours.item and each.friendly_name.casefold() == name]
    if twins := [each for each in others if each.server.casefold() == ours.server.casefold()]:
        raise AzureBackupConfigError(
            f"jobs do not tell {item.name} from {', '.join(each.item.name for each in twins)}, which has the "
            f"same name on the same server; gate on a job id instead"
        )
    # For some moments a job shows the name without the server.
    names = (f"{name} [{ours.server.casefold()}]", *(() if others else (name,)))
    return Subject(item=item, management=management, names=names)


def worth(job: Job) -> tuple[int, float]:
    """Return what puts backups in order: how far one has come to proving something, then how new it is."""
    return _WORTH.index(job.outcome), job.began


def best_of(jobs: Sequence[Job]) -> Job | None:
    """Return the backup that proves most, or may yet: the newest of those that have come furthest."""
    return max(jobs, key=worth, default=None)


def first_of(jobs: Sequence[Job]) -> Job | None:
    """Return the backup that began first."""
    return min(jobs, key=lambda job: job.began, default=None)


def is_of_machine(job: Job, item: ProtectedItem) -> bool:
    """Whether it is the job of a machine: the one kind that a job names in full."""
    return job.owner.casefold() == item.container.partition(";")[2].casefold()


def shows(job: Job, found: FoundItem, elsewhere: str = "") -> bool:
    """Whether the job of a share or a database carries the names of this item.

    :param elsewhere: a storage account that the job may carry instead of the share's own.
    """
    name = found.friendly_name.casefold()
    if found.item.kind == "azurefileshare":
        account = found.item.container.rpartition(";")[2]
        accounts = {account.casefold(), elsewhere.casefold() or account.casefold()}
        return job.item.casefold() == name and job.owner.casefold() in accounts
    return job.item.casefold() in {name, f"{name} [{found.server.casefold()}]"}


def backups_of(subject: Subject, after: float, now: float) -> Flow[list[Job]]:
    """Return the backups of an item that began since a moment, in the last 30 days at most.

    :param after: Unix time.
    :param now: Unix time.
    """
    window = calls.JobFilter(
        backup_management_type=subject.management or None,
        started_after=calls.moment(max(after, now - calls.LONGEST_WINDOW) - calls.SLACK),
        started_before=calls.moment(now + calls.SLACK),
    )
    vault = subject.item.vault
    jobs = yield from flows.list_jobs(calls.list_jobs(vault, **window), vault, **window)
    return [job for job in jobs if job.is_backup and subject.has(job) and job.began >= after]


def item_of(vault: Vault, job: Job) -> Flow[ProtectedItem]:
    """Return the protected item of a job.

    :raises AzureBackupNotFoundError: when the vault protects nothing of the job's names.
    :raises AzureBackupConfigError: when it protects several that the job's names could mean.
    """
    if vault.is_backup_vault:
        return ProtectedItem.parse(job.owner)
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

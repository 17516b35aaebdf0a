"""Tell whose job a job is: it names no protected item, only what that is called.

Source: https://learn.microsoft.com/rest/api/backup/jobs/get
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass

from airflow_provider_azbackup.core.conversations.items import list_protected_items
from airflow_provider_azbackup.core.conversations.jobs import list_jobs
from airflow_provider_azbackup.core.conversations.retry import all_pages
from airflow_provider_azbackup.core.model.jobs import Job, Outcome
from airflow_provider_azbackup.core.model.resources import BackupInstance, ProtectedItem, Vault
from airflow_provider_azbackup.core.model.workloads import MANAGEMENT_TYPES, WORKLOADS, management_type_of
from airflow_provider_azbackup.core.rest import requests, responses
from airflow_provider_azbackup.core.rest.responses import FoundItem
from airflow_provider_azbackup.core.wire import Flow, JsonObject
from airflow_provider_azbackup.exceptions import AzureBackupConfigError, AzureBackupNotFoundError

_WORTH = (Outcome.CANCELLED, Outcome.FAILED, Outcome.RUNNING, Outcome.WARNED, Outcome.SUCCEEDED)


@dataclass(frozen=True, kw_only=True)
class JobMatcher:
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
    def of_machine(cls, item: ProtectedItem) -> JobMatcher:
        """Return what the jobs of a machine call it."""
        return cls(item=item, management="AzureIaasVM", owner=item.container.partition(";")[2].casefold())

    def to_dict(self) -> JsonObject:
        """Return it as plain JSON."""
        return {**asdict(self), "item": self.item.path, "names": [*self.names]}

    @classmethod
    def from_dict(cls, stored: JsonObject) -> JobMatcher:
        """Read it back."""
        return cls(**{**stored, "item": ProtectedItem.parse(stored["item"]), "names": (*stored["names"],)})

    @property
    def key(self) -> str:
        """What :func:`match_key` reads from a job of this item, and perhaps from others."""
        return self.owner or _bare(self.names[0])

    def matches(self, job: Job) -> bool:
        """Whether it is a job of this item and of no other."""
        return (
            self.management.casefold() in ("", job.backup_management_type.casefold())
            and _may_be(job, self.item)
            and self.owner in ("", job.owner.casefold())
            and (not self.names or job.item.casefold() in self.names)
        )


def match_key(body: JsonObject) -> str:
    """Read from a job in a list what narrows down, at little cost, which item it is of."""
    with suppress(KeyError, TypeError, AttributeError):
        properties = body["properties"]
        owner = (
            properties.get("containerName")
            or properties.get("storageAccountName")
            or properties.get("backupInstanceId")
        )
        return str(owner or _bare(properties["entityFriendlyName"])).casefold()
    return ""


def _bare(name: str) -> str:
    """Return the name of a database without its server and, as jobs of SAP ASE have it, its system."""
    return name.partition(" [")[0].rpartition(";")[2]


def _may_be(job: Job, item: ProtectedItem) -> bool:
    """Whether a job is of an item's kind; for some moments the job of a database does not show its kind."""
    return job.workload.casefold() in ("", item.workload)


def names_in_jobs(found: FoundItem, *, with_server: bool = False) -> tuple[str, ...]:
    """Return what the jobs of a share or a database call it, in lower case.

    SAP ASE puts the system before the name, as the item's own name does: ``ab4;orders [asevm]``.

    :param with_server: the names that no database of another server has.
    """
    names = dict.fromkeys((found.friendly_name.casefold(), found.item.name.partition(";")[2].casefold()))
    server = f" [{found.server.casefold()}]"
    return (*(f"{name}{server}" for name in names), *(() if with_server else names))


def items_listed_with(item: ProtectedItem) -> Flow[list[FoundItem]]:
    """Return the protected items that a vault lists together with an item, which is one of them.

    :param item: of one of the kinds in :data:`~airflow_provider_azbackup.core.model.workloads.WORKLOADS`.
    """
    first = requests.list_protected_items(item.vault, management_type_of(item.workload))
    pages = yield from all_pages(first)
    return list(dict.fromkeys(found for page in pages for found in responses.read_items(page)))


def matcher_of(item: ProtectedItem) -> Flow[JobMatcher]:
    """Return what the jobs of an item call it; for a machine nothing is read.

    :raises AzureBackupNotFoundError: when the vault does not protect it.
    :raises AzureBackupConfigError: when another item has the same names, or the kind has no jobs of its own.
    """
    if item.workload == "vm":
        return JobMatcher.of_machine(item)
    if isinstance(item, BackupInstance):
        return JobMatcher(item=item, owner=item.path.casefold())
    if item.workload not in WORKLOADS:
        raise AzureBackupConfigError(
            f"{item.label!r} is of a kind whose jobs are not known; expected an item whose name starts with "
            f"one of {', '.join(WORKLOADS)}"
        )
    found = yield from items_listed_with(item)
    ours = next((each for each in found if each.item.path.casefold() == item.path.casefold()), None)
    if ours is None:
        raise AzureBackupNotFoundError(f"vault {item.vault.name} does not protect {item.label}")
    management, name = management_type_of(item.workload), ours.friendly_name.casefold()
    if item.workload == "azurefileshare":
        owner = item.container.rpartition(";")[2].casefold()
        return JobMatcher(item=item, management=management, owner=owner, names=(name,))
    names = set(names_in_jobs(ours))
    # A job names its kind, except in its first moments.
    others = [each for each in found if each.item != ours.item and names.intersection(names_in_jobs(each))]
    of_kind = [each for each in others if each.item.workload == item.workload]
    if twins := [each for each in of_kind if each.server.casefold() == ours.server.casefold()]:
        raise AzureBackupConfigError(
            f"the jobs of {_placed(item)} cannot be distinguished from those of "
            f"{', '.join(_placed(each.item) for each in twins)}, which has the same name on a server of the "
            f"same name; give a job id instead"
        )
    # For some moments a job shows the name without the server.
    return JobMatcher(item=item, management=management, names=names_in_jobs(ours, with_server=bool(others)))


def _placed(item: ProtectedItem) -> str:
    return f"{item.label} in {item.container}"


def proof_rank(job: Job) -> tuple[int, float]:
    """Return what puts backups in order: how far one has come to proving something, then how new it is."""
    return _WORTH.index(job.outcome), job.began


def best_backup(jobs: Sequence[Job]) -> Job | None:
    """Return the backup that proves most, or may yet: the newest of those that have come furthest."""
    return max(jobs, key=proof_rank, default=None)


def first_backup(jobs: Sequence[Job]) -> Job | None:
    """Return the backup that began first."""
    return min(jobs, key=lambda job: job.began, default=None)


def is_of_vm(job: Job, item: ProtectedItem) -> bool:
    """Whether it is the job of a machine: the one kind that a job names in full."""
    return job.owner.casefold() == item.container.partition(";")[2].casefold()


def shows_names_of(job: Job, found: FoundItem, elsewhere: str = "") -> bool:
    """Whether the job of a share or a database carries the names of this item.

    :param elsewhere: a storage account that the job may carry instead of the share's own.
    """
    if found.item.workload == "azurefileshare":
        account = found.item.container.rpartition(";")[2]
        accounts = {account.casefold(), elsewhere.casefold() or account.casefold()}
        return job.item.casefold() == found.friendly_name.casefold() and job.owner.casefold() in accounts
    return _may_be(job, found.item) and job.item.casefold() in names_in_jobs(found)


def backups_of(subject: JobMatcher, after: float, now: float) -> Flow[list[Job]]:
    """Return the backups of an item that began since a moment, in the last 30 days at most.

    :param after: Unix time.
    :param now: Unix time.
    """
    window = requests.JobFilter(
        backup_management_type=subject.management or None,
        started_after=requests.utc_datetime(max(after, now - requests.LONGEST_WINDOW) - requests.SLACK),
        started_before=requests.utc_datetime(now + requests.SLACK),
    )
    vault = subject.item.vault
    jobs = yield from list_jobs(requests.list_jobs(vault, **window), vault, **window)
    return [job for job in jobs if job.is_backup and subject.matches(job) and job.began >= after]


def item_of_job(vault: Vault, job: Job) -> Flow[ProtectedItem]:
    """Return the protected item of a job.

    :raises AzureBackupNotFoundError: when the vault protects nothing of the job's names.
    :raises AzureBackupConfigError: when it protects several that the job's names could mean.
    """
    if vault.is_backup_vault:
        return ProtectedItem.parse(job.owner)
    if job.backup_management_type.casefold() == "azureiaasvm":
        name = job.owner
        return ProtectedItem(vault=vault, container=f"IaasVMContainer;{name}", name=f"VM;{name}")
    if job.backup_management_type.casefold() not in map(str.casefold, MANAGEMENT_TYPES):
        raise AzureBackupConfigError(
            f"{job} is of management type {job.backup_management_type or 'unknown'}, whose items cannot be "
            f"found by their jobs; expected one of {', '.join(MANAGEMENT_TYPES)}"
        )
    wanted = requests.ItemFilter(backup_management_type=job.backup_management_type, include_deleted=True)
    found = yield from list_protected_items(vault, **wanted)
    meant = [item.item for item in found if shows_names_of(job, item)]
    if len(meant) == 1:
        return meant[0]
    if not meant:
        raise AzureBackupNotFoundError(f"vault {vault.name} protects nothing that {job} could be of")
    raise AzureBackupConfigError(
        f"{job} could be of {len(meant)} protected items of vault {vault.name}: "
        + ", ".join(item.path for item in meant)
    )

"""Find out which protected item a job belongs to. A job does not contain the item's id, only its names.

Source: https://learn.microsoft.com/rest/api/backup/jobs/get
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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

# How many items of the same name an error shows.
_MOST_TWINS = 5
_RANKING = (Outcome.CANCELLED, Outcome.FAILED, Outcome.RUNNING, Outcome.WARNED, Outcome.SUCCEEDED)


@dataclass(frozen=True, kw_only=True)
class JobMatcher:
    """Recognises the jobs of one protected item by the names that they contain, in lower case.

    :param item: the protected item.
    :param management: its backup management type; empty for a backup instance, whose jobs contain its id.
    :param owner: its container or storage account; empty for a database, whose jobs contain neither.
    :param names: its names in jobs; empty for a VM, which is identified by its container.
    """

    item: ProtectedItem
    management: str = ""
    owner: str = ""
    names: tuple[str, ...] = ()

    @classmethod
    def of_vm(cls, item: ProtectedItem) -> JobMatcher:
        """Return the matcher for a VM."""
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
        """What :func:`match_key` returns for the jobs of this item, and perhaps for jobs of other items."""
        return self.owner or _bare_name(self.names[0])

    def matches(self, job: Job) -> bool:
        """Whether it is a job of this item and of no other."""
        return (
            self.management.casefold() in ("", job.backup_management_type.casefold())
            and _may_be_of_workload(job, self.item)
            and self.owner in ("", job.owner.casefold())
            and (not self.names or job.item.casefold() in self.names)
        )


def match_key(body: JsonObject) -> str:
    """Read from a job in a list, at little cost, a key that narrows down which item it belongs to."""
    with suppress(KeyError, TypeError, AttributeError):
        properties = body["properties"]
        owner = (
            properties.get("containerName")
            or properties.get("storageAccountName")
            or properties.get("backupInstanceId")
        )
        return str(owner or _bare_name(properties["entityFriendlyName"])).casefold()
    return ""


def _bare_name(name: str) -> str:
    """Return the name of a database without its server and, for SAP ASE, without its system."""
    return name.partition(" [")[0].rpartition(";")[2]


def _may_be_of_workload(job: Job, item: ProtectedItem) -> bool:
    """Whether a job has the workload of an item, or none yet, as in the first moments of a database's job."""
    return job.workload.casefold() in ("", item.workload)


def names_in_jobs(found: FoundItem, *, with_server: bool = False) -> tuple[str, ...]:
    """Return the names of a share or a database in its jobs, in lower case.

    SAP ASE puts the system before the name, like the item's own name: ``ab4;orders [asevm]``.

    :param with_server: return only the names that no database of another server has.
    """
    names = dict.fromkeys((found.friendly_name.casefold(), found.item.name.partition(";")[2].casefold()))
    server = f" [{found.server.casefold()}]"
    return (*(f"{name}{server}" for name in names), *(() if with_server else names))


def items_listed_with(item: ProtectedItem) -> Flow[list[FoundItem]]:
    """Return the protected items that a vault lists together with an item, including the item itself.

    :param item: of one of the workloads in :data:`~airflow_provider_azbackup.core.model.workloads.WORKLOADS`.
    """
    first = requests.list_protected_items(item.vault, management_type_of(item.workload))
    pages = yield from all_pages(first)
    return list(
        dict.fromkeys(found for page in pages for found in responses.read_items(page, item.vault.secondary))
    )


def matcher_of(item: ProtectedItem) -> Flow[JobMatcher]:
    """Return the matcher for an item. For a VM or a backup instance, no request is sent.

    :raises AzureBackupNotFoundError: if the vault does not protect the item.
    :raises AzureBackupConfigError: if another item has the same names, or if the workload is not known.
    """
    if matcher := _matcher_of_names(item):
        return matcher
    found = yield from items_listed_with(item)
    ours = next((each for each in found if each.item.path.casefold() == item.path.casefold()), None)
    if ours is None:
        raise AzureBackupNotFoundError(f"vault {item.vault.name} does not protect {item.label}")
    return Namesakes(found).matcher_of(ours, item)


def _matcher_of_names(item: ProtectedItem) -> JobMatcher | None:
    """Return the matcher for a VM or a backup instance; None for what must be compared with other items.

    :raises AzureBackupConfigError: if the workload is not known.
    """
    if item.workload == "vm":
        return JobMatcher.of_vm(item)
    if isinstance(item, BackupInstance):
        return JobMatcher(item=item, owner=item.path.casefold())
    if item.workload not in WORKLOADS:
        raise AzureBackupConfigError(
            f"the jobs of {item.label!r} cannot be recognised, because its workload is not known; "
            f"expected an item whose name starts with one of {', '.join(WORKLOADS)}"
        )
    return None


class Namesakes:
    """The items of a vault by their names in jobs, to find out which of them can be recognised by their jobs.

    :param found: all items that the vault lists.
    """

    def __init__(self, found: Iterable[FoundItem]) -> None:
        self._by_name: dict[tuple[str, str], dict[str, FoundItem]] = {}
        for each in found:
            if each.item.workload not in ("vm", "backupinstance", "azurefileshare"):
                for name in names_in_jobs(each):
                    key = each.item.vault.path.casefold(), name
                    self._by_name.setdefault(key, {})[each.item.path.casefold()] = each

    def matcher_of(self, found: FoundItem, item: ProtectedItem | None = None) -> JobMatcher:
        """Return the matcher for one of the items.

        :param item: the same item, as its author named it.
        :raises AzureBackupConfigError: if another item has the same names, or if the workload is not known.
        """
        item = item or found.item
        if matcher := _matcher_of_names(item):
            return matcher
        management, name = management_type_of(item.workload), found.friendly_name.casefold()
        if item.workload == "azurefileshare":
            owner = item.container.rpartition(";")[2].casefold()
            return JobMatcher(item=item, management=management, owner=owner, names=(name,))
        # A job contains its workload, except in its first moments.
        twins = [
            each
            for group in self._others(found, names_in_jobs(found, with_server=True))
            for each in group.values()
            if each.item != item and each.item.workload == item.workload
        ]
        if twins := [*dict.fromkeys(twins)]:
            shown = ", ".join(_with_container(each.item) for each in twins[:_MOST_TWINS])
            raise AzureBackupConfigError(
                f"the jobs of {_with_container(item)} cannot be distinguished from those of {shown}, which "
                f"has the same name on a server of the same name; give a job id instead"
            )
        # In its first moments a job has the name without the server.
        shared = bool(self._others(found, names_in_jobs(found)))
        return JobMatcher(item=item, management=management, names=names_in_jobs(found, with_server=shared))

    def _others(self, found: FoundItem, names: Sequence[str]) -> list[dict[str, FoundItem]]:
        """Return the items that have one of the names, by ARM id, where others than this one have it."""
        ours, vault = found.item.path.casefold(), found.item.vault.path.casefold()
        groups = (self._by_name.get((vault, name), {}) for name in names)
        return [group for group in groups if len(group) > (ours in group)]


def _with_container(item: ProtectedItem) -> str:
    return f"{item.label} in {item.container}"


def proof_rank(job: Job) -> tuple[int, float]:
    """Return a sort key for backups: how good a proof the backup is or may become, then how new it is."""
    return _RANKING.index(job.outcome), job.began


def best_backup(jobs: Sequence[Job]) -> Job | None:
    """Return the backup with the highest :func:`proof_rank`; None if there is none."""
    return max(jobs, key=proof_rank, default=None)


def first_backup(jobs: Sequence[Job]) -> Job | None:
    """Return the backup that began first; None if there is none."""
    return min(jobs, key=lambda job: job.began, default=None)


def is_of_vm(job: Job, item: ProtectedItem) -> bool:
    """Whether a job belongs to a VM, which is the only workload that a job identifies completely."""
    return job.owner.casefold() == item.container.partition(";")[2].casefold()


def shows_names_of(job: Job, found: FoundItem, elsewhere: str = "") -> bool:
    """Whether the job of a share or a database contains the names of this item.

    :param elsewhere: a storage account that the job may contain instead of the share's own.
    """
    if found.item.workload == "azurefileshare":
        account = found.item.container.rpartition(";")[2]
        accounts = {account.casefold(), elsewhere.casefold() or account.casefold()}
        return job.item.casefold() == found.friendly_name.casefold() and job.owner.casefold() in accounts
    return _may_be_of_workload(job, found.item) and job.item.casefold() in names_in_jobs(found)


def backups_of(matcher: JobMatcher, after: float, now: float) -> Flow[list[Job]]:
    """Return the backups of an item that began at ``after`` or later, but in the last 30 days.

    :param after: Unix time.
    :param now: Unix time.
    """
    window = requests.JobFilter(
        backup_management_type=matcher.management or None,
        started_after=requests.utc_datetime(max(after, now - requests.LONGEST_WINDOW) - requests.SLACK),
        started_before=requests.utc_datetime(now + requests.SLACK),
    )
    vault = matcher.item.vault
    jobs = yield from list_jobs(requests.list_jobs(vault, **window), vault, **window)
    return [job for job in jobs if job.is_backup and matcher.matches(job) and job.began >= after]


def item_of_job(vault: Vault, job: Job) -> Flow[ProtectedItem]:
    """Return the protected item of a job.

    :raises AzureBackupNotFoundError: if the vault protects nothing with the names in the job.
    :raises AzureBackupConfigError: if it protects several items with these names.
    """
    if vault.is_backup_vault:
        return ProtectedItem.parse(job.owner)
    if job.backup_management_type.casefold() == "azureiaasvm":
        name = job.owner
        return ProtectedItem(vault=vault, container=f"IaasVMContainer;{name}", name=f"VM;{name}")
    if job.backup_management_type.casefold() not in map(str.casefold, MANAGEMENT_TYPES):
        raise AzureBackupConfigError(
            f"{job} has management type {job.backup_management_type or 'unknown'}, whose items cannot be "
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

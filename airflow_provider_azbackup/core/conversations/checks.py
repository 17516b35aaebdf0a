"""Whether a job is the one that a gate waits for.

No matter what named the job (Azure's response to a request, a record of an earlier try, a list, a trigger's
event or the author), what Azure reports about the job itself is compared with what the task asks for.

Source: https://learn.microsoft.com/rest/api/backup/jobs/get
"""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import Literal, TypeAlias

from airflow_provider_azbackup.core.conversations import matching
from airflow_provider_azbackup.core.model.arm_ids import match_vault, match_vm
from airflow_provider_azbackup.core.model.jobs import Job
from airflow_provider_azbackup.core.model.resources import JobRef, ProtectedItem
from airflow_provider_azbackup.core.rest import requests
from airflow_provider_azbackup.core.rest.responses import FoundItem
from airflow_provider_azbackup.core.wire import Flow
from airflow_provider_azbackup.exceptions import AzureBackupNotFoundError, AzureBackupWrongJobError

Action: TypeAlias = Literal["backup", "log backup", "restore", "anything"]
# What a task may wait for, and which jobs do that. Only the job sensor accepts any job. The backup of a log
# cannot be restored by itself, so it counts only for a task that has asked for one.
_ACTIONS: MappingProxyType[Action, Callable[[Job], bool]] = MappingProxyType(
    {
        "backup": lambda job: job.is_backup,
        "log backup": lambda job: job.action == "backup",
        "restore": lambda job: job.is_restore,
        "anything": lambda job: True,
    }
)
# The name of the VM's subscription in the details of its job, since 2026.
_VM_SUBSCRIPTION = "vm subscription id"


def check_ref(found: JobRef, expected: JobRef) -> None:
    """Reject a job whose vault or id is not that of the job that the task waits for.

    :param found: the job that was reported.
    :param expected: the job that the task waits for.
    :raises AzureBackupWrongJobError: showing both.
    """
    if found.path.casefold() != expected.path.casefold():
        raise AzureBackupWrongJobError(
            f"the reported job is not the one that this task waits for. Expected: {expected.path}. "
            f"Reported: {found.path}"
        )


def check_job(
    job: Job,
    item: ProtectedItem | None,
    *,
    action: Action,
    source: str = "",
    elsewhere: str = "",
    after: float = 0.0,
) -> Flow[None]:
    """Reject a job that is not what a gate waits for. This needs a request only for shares and databases.

    :param job: the job, read by itself or from a list.
    :param item: the item that it must belong to; None if the task names the job and no item.
    :param action: what the job must do.
    :param source: the item as the author named it. The subscription in a VM's ARM id is compared with the
        job.
    :param elsewhere: a storage account that the job may contain instead of the item's own.
    :param after: Unix time by Azure's clock before which it must not have begun; 0 for any time.
    :raises AzureBackupWrongJobError: if it is another job. The error shows what was expected and what was
        found.
    :raises AzureBackupNotFoundError: if the vault does not protect the item.

    Source: https://learn.microsoft.com/rest/api/backup/jobs/get
    """
    check_facts(job, item, action=action, source=source, after=after)
    if item is None or item.workload in ("backupinstance", "vm"):
        return
    found = yield from _listed(item)
    if not matching.shows_names_of(job, found, elsewhere):
        if item.workload == "azurefileshare":
            expected = f"{item.container.rpartition(';')[2]}/{found.friendly_name}"
            raise _wrong(job, "it belongs to another file share", expected, f"{job.owner}/{job.item}")
        raise _wrong(
            job, "it belongs to another database", f"{found.friendly_name} [{found.server}]", job.item
        )


def check_facts(
    job: Job, item: ProtectedItem | None, *, action: Action, source: str = "", after: float = 0.0
) -> None:
    """Reject a job that is not what a gate waits for, as far as the job itself shows that.

    The names of a share or a database are not compared.

    Parameters and errors: :func:`check_job`.
    """
    _check_body(job)
    if not _ACTIONS[action](job):
        raise _wrong(job, f"it is no {action}", action, f"{job.operation or 'a job without an operation'}")
    if job.began < after:
        raise _wrong(
            job,
            "it began too early",
            f"a job that began at {requests.utc_datetime(after)} or later",
            job.start_time,
        )
    if item is None:
        return
    if job.ref.vault.path.casefold() != item.vault.path.casefold():
        raise _wrong(job, "it belongs to another vault", item.vault.path, job.ref.vault.path)
    if item.workload == "backupinstance" and job.owner.casefold() != item.path.casefold():
        raise _wrong(job, "it belongs to another backup instance", item.path, job.owner)
    if item.workload == "vm":
        if not matching.is_of_vm(job, item):
            raise _wrong(job, "it belongs to another VM", item.container.partition(";")[2], job.owner)
        _check_subscription(job, source)


def _check_body(job: Job) -> None:
    """Reject a response or an event whose JSON describes another job."""
    name, arm_id = job.body.get("name"), job.body.get("id")
    if isinstance(name, str) and name.casefold() != job.ref.job_id.casefold():
        raise _wrong(job, "its JSON describes another job", job.ref.job_id, name)
    # An internal ring of Azure spells the provider in another way, so the names are compared.
    if isinstance(arm_id, str) and (found := match_vault(arm_id.partition("/backupJobs/")[0])):
        vault = job.ref.vault
        ours = (vault.subscription_id, vault.resource_group_name, vault.name)
        if tuple(map(str.casefold, found.groups())) != tuple(map(str.casefold, ours)):
            raise _wrong(job, "its JSON describes a job of another vault", job.ref.vault.path, arm_id)


def _check_subscription(job: Job, source: str) -> None:
    """Compare the subscription of a VM, which its names do not contain, if both sides know it."""
    shown = next((value for name, value in job.details if name.casefold() == _VM_SUBSCRIPTION), "")
    if shown and (found := match_vm(source)) and found.group(1).casefold() != shown.casefold():
        raise _wrong(
            job, "it belongs to a VM of another subscription", source, f"a VM of subscription {shown}"
        )


def _listed(item: ProtectedItem) -> Flow[FoundItem]:
    """Return a share or a database with the names that its jobs contain."""
    for found in (yield from matching.items_listed_with(item)):
        if found.item.path.casefold() == item.path.casefold():
            return found
    raise AzureBackupNotFoundError(f"vault {item.vault.name} does not protect {item.name} any more")


def _wrong(job: Job, reason: str, expected: object, found: object) -> AzureBackupWrongJobError:
    return AzureBackupWrongJobError(
        f"job {job.ref.job_id} is not what this task waits for: {reason}. Expected: {expected}. "
        f"Azure reports: {found or 'nothing'}. Job: {job.ref.path}",
        job=job.facts(),
    )

"""Conversations of several calls, written once and held by both drivers: start, follow, wait, look up.

A flow reads time from the answers it gets and asks for pauses through ``Call.after``; it never looks at a
clock and never sleeps.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from itertools import chain, repeat
from typing import Unpack

from airflow_provider_azbackup.core.model.error_codes import look_up
from airflow_provider_azbackup.core.model.jobs import Job
from airflow_provider_azbackup.core.model.names import (
    MANAGEMENT_TYPES,
    RECOVERY_SERVICES,
    WaitFor,
    check_item,
    close_to,
    closest_first,
    match_vault,
    match_vm,
    refuse_cancel,
    same_id,
    split_share_id,
)
from airflow_provider_azbackup.core.model.recovery_points import RecoveryPoint
from airflow_provider_azbackup.core.model.resources import (
    BackupInstance,
    JobRef,
    OperationRef,
    ProtectedItem,
    Vault,
    last_segment,
)
from airflow_provider_azbackup.core.rest import requests, responses
from airflow_provider_azbackup.core.rest.responses import BackupStatus, DataSource, FoundItem, Operation, Page
from airflow_provider_azbackup.core.wire import LAST_LOOK, Answer, Call, Flow, JsonObject, Lost, Reply, T
from airflow_provider_azbackup.exceptions import (
    AzureBackupAuthError,
    AzureBackupBusyError,
    AzureBackupConfigError,
    AzureBackupError,
    AzureBackupLimitError,
    AzureBackupNotFoundError,
    AzureBackupRefusedError,
    AzureBackupTimeoutError,
    AzureBackupTransientError,
    AzureBackupUnconfirmedStartError,
)

# Azure names the job of an accepted backup within seconds (62 s is the longest seen); after this it will not.
OPERATION_LIMIT = 300.0
# A job may be unknown to Azure for a moment after it was started.
NEWBORN = 60.0
# States of a backup instance that pass within minutes, in lower case. In any other one Azure is asked.
_PASSING = frozenset({"updatingprotection", "configuringprotection"})
# Seconds until such a state is read again.
_STATE_PAUSE = 60.0
# One stray 401, 403 or 404 in a wait of hours must not end it; one that lasts this long is the truth.
REFUSAL_GRACE = 40.0
# A list that never ends is a fault of whoever answers: 200 jobs a page make 100,000 jobs.
_MOST_PAGES = 500
_REFUSAL_PAUSE = 15.0
# The most seconds that are waited after one, whatever Azure asks for: a refusal that lasts must end the wait.
_LONGEST_REFUSAL_PAUSE = 300.0

Notice = Callable[[Job | None, AzureBackupError | None], None]


def ask(call: Call, *statuses: int) -> Flow[Reply]:
    """Send one call and return its answer.

    :raises AzureBackupError: a subclass for no answer, or for any status but the accepted ones (200).
    """
    return accepted((yield call), call, *statuses or (200,))


def trigger_backup(item: ProtectedItem, body: JsonObject) -> Flow[OperationRef]:
    """Start an on-demand backup and return the operation that Azure named. The request is sent once.

    That of a backup instance is made complete first, by what its policy says now.

    :raises AzureBackupUnconfirmedStartError: when no answer, or one of a broken server, leaves open whether
        the backup was started. It is not sent again: Azure would take it for a second backup.
    :raises AzureBackupError: when Azure refused it; then nothing was started.
    """
    if isinstance(item, BackupInstance):
        body = yield from by_rule(item, body)
    return (yield from start(item, requests.trigger_backup(item, body)))


def start(item: ProtectedItem, call: Call, what: str = "backup") -> Flow[OperationRef]:
    """Send the request that starts a job, once, and return the operation that Azure named.

    :param item: what the job is of.
    :param call: the request.
    :param what: what it asks for, in errors: a backup or a restore.
    :raises AzureBackupUnconfirmedStartError: as in :func:`trigger_backup`.
    :raises AzureBackupError: when Azure refused it; then nothing was started.
    """
    answer = yield call
    if isinstance(answer, Lost) and not answer.sent:
        raise answer.kind(f"no {what} of {item.label} was started: {answer.reason}")
    if isinstance(answer, Lost) or answer.status >= 500 or answer.status == 408:
        came = answer.reason if isinstance(answer, Lost) else f"answered {answer.status}"
        raise AzureBackupUnconfirmedStartError(
            f"the request for a {what} of {item.label} was sent, but it is not known whether Azure has "
            f"accepted it ({came}): a {what} may be running in vault {item.vault.name}.",
            status=None if isinstance(answer, Lost) else answer.status,
        )
    try:
        # Azure says 202; after any other 2xx a job may be running just as well.
        responses.raise_unless(answer, call, *range(200, 300))
    except AzureBackupTransientError as error:
        if error.status != 429:
            raise
        raise AzureBackupLimitError(
            str(error),
            status=error.status,
            code=error.code,
            request_id=error.request_id,
            retry_after=error.retry_after,
        ) from None
    if operation_id := responses.read_operation_id(answer):
        return OperationRef(vault=item.vault, operation_id=operation_id)
    raise AzureBackupUnconfirmedStartError(
        f"the {what} of {item.label} was accepted, but the answer names no operation; a {what} is probably "
        f"running in vault {item.vault.name}.",
        status=answer.status,
    )


def by_rule(instance: BackupInstance, body: JsonObject) -> Flow[JsonObject]:
    """Return the request for a backup of an instance, by the rule it names or by the one its policy has.

    :raises AzureBackupBusyError: while its protection is being configured or changed.
    :raises AzureBackupConfigError: when its policy has no backup rule, or several and none is named.
    """
    protection = responses.read_protection((yield from ask(requests.get_protected_item(instance))))
    if protection.state.casefold() in _PASSING:
        raise AzureBackupBusyError(
            f"backup instance {instance.label} in vault {instance.vault.name} is {protection.state}, which "
            f"passes within minutes; no backup of it was asked for",
            retry_after=_STATE_PAUSE,
        )
    options = body["backupRuleOptions"]
    if options["ruleName"]:
        return body
    if not protection.policy_id:
        raise AzureBackupTransientError(
            f"a backup instance names no policy; give rule_name. Backup instance: {instance.path}"
        )
    policy = requests.get_policy(instance, protection.policy_id)
    rules = responses.read_rules((yield from ask(policy)))
    if len(rules) != 1:
        raise AzureBackupConfigError(
            f"the policy {last_segment(policy.path)!r} of backup instance {instance.label} has "
            + (
                f"{len(rules)} backup rules; say which one as rule_name: {', '.join(r.name for r in rules)}"
                if rules
                else "no backup rule, so there is nothing to run on demand: what it backs up, it backs up "
                "all the time"
            )
        )
    tag = options["triggerOption"].get("retentionTagOverride") or rules[0].tag
    return requests.rule_request(rules[0].name, tag)


def get_operation(ref: OperationRef) -> Flow[Operation]:
    """Return where an operation stands."""
    return responses.read_operation(ref, (yield from ask(requests.get_operation(ref))))


def wait_for_operation(ref: OperationRef, what: str = "backup") -> Flow[JobRef]:
    """Follow the operation of an accepted backup or restore until it names its job.

    :param what: what was accepted, in errors: a backup or a restore.
    :raises AzureBackupRefusedError: when the operation failed: no job was started.
    :raises AzureBackupTransientError: likewise, for an internal error of Azure's.
    :raises AzureBackupUnconfirmedStartError: when it names no job, at its end or within
        :data:`OPERATION_LIMIT` seconds, or when Azure will not show it: a job may be running.
    """
    try:
        operation = yield from _end_of(ref)
    except AzureBackupTimeoutError as error:
        raise AzureBackupUnconfirmedStartError(f"{error}; a {what} may be running.") from None
    except AzureBackupError as error:
        # It was accepted all the same: a caller must not take this for "nothing started".
        raise AzureBackupUnconfirmedStartError(
            f"the {what} was accepted as operation {ref.operation_id} in vault {ref.vault.name} and "
            f"may be running, but Azure will not show the operation: {error}.",
            status=error.status,
            code=error.code,
            request_id=error.request_id,
        ) from None
    return _job_of_operation(operation, what)


def validate_restore(instance: BackupInstance, request: JsonObject) -> Flow[None]:
    """Ask Azure whether a restore would work, and follow that to its end. Nothing is started.

    :param request: the restore request.
    :raises AzureBackupRefusedError: when it would not.
    :raises AzureBackupTransientError: when Azure does not say within :data:`OPERATION_LIMIT` seconds.
    :raises AzureBackupError: when Azure could not be asked.
    """
    call = requests.validate_restore(instance, request)
    try:
        reply = yield from ask(call, 200, 202)
    except AzureBackupRefusedError as error:
        raise type(error)(
            f"nothing was restored, Azure's validation refuses the request: {error}",
            status=error.status,
            code=error.code,
            request_id=error.request_id,
            retry_after=error.retry_after,
        ) from None
    operation_id = responses.read_operation_id(reply)
    if operation_id is None:
        if reply.status == 200:  # it would
            return
        raise AzureBackupTransientError(
            f"nothing was restored, Azure's answer names no operation that would say whether a restore of "
            f"{instance.label} would work",
            status=reply.status,
        )
    try:
        operation = yield from _end_of(OperationRef(vault=instance.vault, operation_id=operation_id))
    except AzureBackupTimeoutError as error:
        raise AzureBackupTransientError(
            f"nothing was restored, Azure does not say whether it would work: {error}"
        ) from None
    if not operation.succeeded:
        raise _refusal(
            operation,
            f"nothing was restored, Azure says that the restore of {instance.label} would not work (its "
            f"validation ended {operation.status})",
        )


def _end_of(ref: OperationRef) -> Flow[Operation]:
    """Ask for an operation until it is over, and return it.

    :raises AzureBackupTimeoutError: when it is not within :data:`OPERATION_LIMIT` seconds.
    :raises AzureBackupError: when Azure will not show it.
    """
    call = requests.get_operation(ref)
    patience: Patience | None = None
    since = 0.0
    for interval in chain((1.0, 2.0, 3.0), repeat(5.0)):
        pause = spread_pause(interval, patience.fault if patience else None)
        answer = yield call.later(min(pause, OPERATION_LIMIT))
        if patience is None:
            since, patience = answer.at, Patience(answer.at)
        try:
            operation = responses.read_operation(ref, accepted(answer, call, 200))
        except AzureBackupError as error:
            patience.bear(error, answer.at)
        else:
            patience.calm()
            if not operation.is_running:
                return operation
        if answer.at - since >= OPERATION_LIMIT:
            break
    raise AzureBackupTimeoutError(
        f"operation {ref.operation_id} in vault {ref.vault.name} did not end within {OPERATION_LIMIT:g} s"
        f"{f' ({patience.fault})' if patience and patience.fault else ''}"
    )


def get_job(ref: JobRef) -> Flow[Job]:
    """Return how one job stands now."""
    return responses.read_job(ref, (yield from ask(requests.get_job(ref))))


def look_at_job(ref: JobRef, since: float) -> Flow[Job]:
    """Return how a job stands now, asking again for some seconds when it is denied: one refusal may be stray.

    :param since: Unix time the wait began; a job younger than a minute may still be unknown to Azure.
    :raises AzureBackupError: a 401, 403 or 404 that lasts, and any other fault at once.
    """
    call, patience, pause = requests.get_job(ref), Patience(since), 0.0
    while True:
        answer = yield call.later(pause)
        try:
            return responses.read_job(ref, accepted(answer, call, 200))
        except (AzureBackupAuthError, AzureBackupNotFoundError) as error:
            patience.bear(error, answer.at)
            pause = spread_pause(_REFUSAL_PAUSE, error)


def cancel_job(ref: JobRef) -> Flow[None]:
    """Ask for a job to be cancelled. To learn whether it was, keep reading the job.

    :raises AzureBackupRefusedError: when Azure declines, for example because the job is over.
    """
    yield from ask(requests.cancel_job(ref), 200, 202, 204)


def wait_for_job(
    ref: JobRef,
    *,
    poll_interval: float,
    deadline: float,
    since: float,
    notice: Notice,
    first_pause: float = 0.0,
    wait_for: WaitFor = "completion",
) -> Flow[Job]:
    """Look at a job until it is over, and return it, whatever its end.

    Throttling, broken servers and lost answers are waited out until the deadline; a 401, 403 or 404 that
    lasts ends the wait within a minute.

    :param ref: the job.
    :param poll_interval: seconds between looks, spread by 15 % so that many waits do not fall in step.
    :param deadline: Unix time of the last look.
    :param since: Unix time the wait began; a job younger than a minute may still be unknown to Azure.
    :param notice: told after each look: the job as last seen, and the fault if there was one.
    :param first_pause: seconds to let pass before the first look.
    :param wait_for: ``snapshot`` ends the wait for a machine's backup behind its snapshot.
    :raises AzureBackupTimeoutError: when the job still runs at the deadline.
    :raises AzureBackupError: when looking again cannot help.
    """
    call = replace(requests.get_job(ref), deadline=deadline + LAST_LOOK)
    patience = Patience(since)
    job: Job | None = None
    pause = min(first_pause, deadline - since)
    while True:
        answer = yield call.later(pause)
        try:
            job = responses.read_job(ref, accepted(answer, call, 200))
            patience.calm()
        except AzureBackupError as error:
            patience.bear(error, answer.at)
        notice(job, patience.fault)
        if job is not None and job.is_enough(wait_for):
            return job
        if answer.at >= deadline:
            raise AzureBackupTimeoutError(
                f"the wait is over after {answer.at - since:.0f} s, the job is not: "
                f"{job or f'job {ref.job_id} was never seen'}"
                f"{f' (last look: {patience.fault})' if patience.fault else ''}",
                job=job.facts() if job else None,
            )
        pause = min(spread_pause(poll_interval, patience.fault), deadline - answer.at)


def stop_job(ref: JobRef, *, since: float, until: float) -> Flow[Job]:
    """Ask for a job to be cancelled unless it is over or that was asked already; return how it stands then.

    :param since: Unix time the caller began.
    :param until: Unix time to which faults are waited out.
    :raises AzureBackupRefusedError: when Azure declines and the job goes on.
    :raises AzureBackupConfigError: for a job of a Backup vault, before anything is asked.
    """
    if ref.vault.is_backup_vault:
        raise refuse_cancel(f"to cancel job {ref.job_id} of vault {ref.vault.name}")

    def look() -> Flow[Job]:
        return insist(lambda: get_job(ref), since=since, until=until)

    job = yield from look()
    if not job.is_running or job.is_being_cancelled:
        return job
    try:
        yield from insist(lambda: cancel_job(ref), since=since, until=until)
    except AzureBackupRefusedError:
        # It may have ended in this moment, or a lost answer have cancelled it.
        job = yield from look()
        if job.is_running and not job.is_being_cancelled:
            raise
        return job
    return (yield from look())


def list_jobs(first: Call, vault: Vault, **wanted: Unpack[requests.JobFilter]) -> Flow[list[Job]]:
    """Return the jobs of all pages of a list.

    :param wanted: what the list was to be narrowed by, for a vault that cannot do that itself.
    """
    pages = yield from all_pages(first)
    jobs = [job for page in pages for job in responses.read_jobs(vault, page)]
    return [job for job in jobs if _is_wanted(job, wanted)] if vault.is_backup_vault else jobs


def _is_wanted(job: Job, wanted: requests.JobFilter) -> bool:
    words = (
        (wanted.get("status"), job.status),
        (wanted.get("operation"), job.operation),
        (wanted.get("backup_management_type"), job.backup_management_type),
    )
    return all(not word or word.casefold() == is_so.casefold() for word, is_so in words) and _is_between(
        job.start_time, wanted.get("started_after"), wanted.get("started_before")
    )


def _is_between(moment: str | None, after: datetime | None, before: datetime | None) -> bool:
    """Whether a moment is in a window; one that is not told is."""
    first, last = (
        bound if bound is None or bound.tzinfo else bound.replace(tzinfo=UTC) for bound in (after, before)
    )
    at = datetime.fromisoformat(moment) if moment else None
    return at is None or ((first is None or at >= first) and (last is None or at <= last))


def list_recovery_points(
    item: ProtectedItem, **wanted: Unpack[requests.PointFilter]
) -> Flow[list[RecoveryPoint]]:
    """Return an item's recovery points, all pages."""
    pages = yield from all_pages(requests.list_recovery_points(item, **wanted))
    points = [point for page in pages for point in responses.read_points(item, page)]
    if not item.vault.is_backup_vault:
        return points
    return [point for point in points if _is_between(point.time, wanted.get("after"), wanted.get("before"))]


def list_protected_items(vault: Vault, **wanted: Unpack[requests.ItemFilter]) -> Flow[list[FoundItem]]:
    """Return the protected items of a vault, all kinds and pages, each once.

    :param wanted: see :class:`~airflow_provider_azbackup.core.rest.requests.ItemFilter`.
    """
    kind = (wanted.get("backup_management_type") or "").casefold()
    policy, state = (wanted.get("policy") or "").casefold(), wanted.get("state") or ()
    states = {word.casefold() for word in ([state] if isinstance(state, str) else state)}
    found: list[FoundItem] = []
    for first in _lists_of(vault, kind):
        pages = yield from _of_vault(vault, all_pages(first))
        found += [item for page in pages for item in responses.read_items(page)]
    return [
        item
        for item in dict.fromkeys(found)
        if policy in ("", item.policy.casefold())
        and (not states or item.state.casefold() in states)
        and (wanted.get("include_deleted") or not item.is_deleted)
    ]


def _of_vault(vault: Vault, flow: Flow[T]) -> Flow[T]:
    """Hold a conversation; where Azure does not know the vault, its error names the one most like it."""
    try:
        return (yield from flow)
    except AzureBackupNotFoundError as error:
        if error.code not in ("ResourceNotFound", "ResourceGroupNotFound"):
            raise
        vaults: dict[str, str] = {}
        with suppress(AzureBackupError):
            listed = yield from ask(requests.list_vaults(vault.subscription_id, vault.vault_type))
            ids = [str(body.get("id")) for body in responses.read_page(listed).values]
            vaults = {found.group(3): found.group(2) for found in map(match_vault, ids) if found}
        names = [name for name in vaults if name.casefold() == vault.name.casefold()]
        close = f" (the vault is in {vaults[names[0]]!r})" if names else close_to(vault.name, vaults)
        cause, mark, rest = str(error).partition(";")
        error.args = (f"{cause}{close}{mark}{rest}",)
        raise


def protection_of(vm_id: str, region: str) -> Flow[BackupStatus]:
    """Return whether, and in which vault, a virtual machine is protected.

    :raises AzureBackupConfigError: when ``vm_id`` is not a VM's ARM id, or the item that Azure names for it
        protects another resource.
    """
    if not match_vm(vm_id):
        raise AzureBackupConfigError(
            f"this is not the ARM id of a virtual machine: {vm_id!r}; expected "
            f"/subscriptions/<id>/resourceGroups/<group>/providers/Microsoft.Compute/virtualMachines/<name>"
        )
    status = responses.read_backup_status((yield from ask(requests.backup_status(vm_id, region))))
    if item := status.item:
        found = responses.read_item(item, (yield from ask(requests.get_protected_item(item))))
        if not same_id(found.source_id, vm_id):
            raise AzureBackupConfigError(
                f"the protected item that Azure names for VM {last_segment(vm_id)!r} protects another "
                f"resource: {found.source_id or 'Azure does not name it'}. Given: {vm_id}. Protected item: "
                f"{item.path}"
            )
    return status


def get_recovery_point(item: ProtectedItem, point_id: str) -> Flow[RecoveryPoint]:
    """Return one recovery point.

    :raises AzureBackupNotFoundError: when the item has none of that id.
    """
    return responses.read_point(item, (yield from ask(requests.get_recovery_point(item, point_id))), point_id)


def get_source_id(item: ProtectedItem) -> Flow[str]:
    """Return the ARM id of the machine or storage account that an item protects."""
    return responses.read_source_id((yield from ask(requests.get_protected_item(item))))


def get_data_source(instance: BackupInstance) -> Flow[DataSource]:
    """Return what a backup instance protects."""
    return responses.read_data_source((yield from ask(requests.get_protected_item(instance))))


def find_ranges(instance: BackupInstance) -> Flow[RecoveryPoint]:
    """Return one entry for the stretches of time that a backup instance can be taken back to."""
    return responses.read_ranges(instance, (yield from ask(requests.find_ranges(instance))))


def get_region(vault: Vault) -> Flow[str]:
    """Return a vault's region."""
    return responses.read_region((yield from ask(requests.get_vault(vault))))


def resolve_protected_item(vault: Vault | None, name: str) -> Flow[ProtectedItem]:
    """Find the protected item that a DAG author means. The ARM id of an item is taken as it is.

    :param vault: where to look; an ARM id of a protected item brings its own.
    :param name: ARM id of the protected item, ARM id of the virtual machine or file share, or friendly name;
        in a Backup vault ARM id, name or friendly name of the backup instance.
    :raises AzureBackupNotFoundError: when the vault protects nothing of that name, or its data is deleted.
    :raises AzureBackupConfigError: for an ARM id of something else, or a name that several items share.
    """
    if item := _read_item_id(name):
        return item
    found = yield from _look_up(vault, name)
    return replace(found.item, written_as=found.friendly_name if name.startswith("/") else name)


def find_item(vault: Vault | None, name: str | ProtectedItem) -> Flow[FoundItem]:
    """Return the protected item that a DAG author means as Azure shows it now, also if its data is deleted.

    :param vault: as in :func:`resolve_protected_item`.
    :param name: likewise, or what that returned.
    :raises AzureBackupError: as there.
    """
    item = name if isinstance(name, ProtectedItem) else _read_item_id(name)
    if item is None:
        return (yield from _look_up(vault, str(name)))
    return responses.read_item(item, (yield from ask(requests.get_protected_item(item))))


def _read_item_id(name: str) -> ProtectedItem | None:
    check_item(name)
    is_item = "/protecteditems/" in name.casefold() or "/backupinstances/" in name.casefold()
    return ProtectedItem.parse(name) if is_item else None


def _look_up(vault: Vault | None, name: str) -> Flow[FoundItem]:
    if vault is None:
        raise AzureBackupConfigError(
            f"protected item {name!r} comes without a vault; give vault_name, resource_group_name and "
            f"subscription_id to the task or in the connection, or the item's ARM id"
        )
    share = split_share_id(name)
    if vault.is_backup_vault and (share or match_vm(name)):
        raise AzureBackupConfigError(
            f"vault {vault.name} is a Backup vault (Microsoft.DataProtection), and only Recovery Services "
            f"vaults protect VMs and file shares. Name such a vault, or leave out vault_type. Given: {name}"
        )
    if guess := ProtectedItem.of_vm(vault, name):
        return (yield from _item_of_vm(guess, name))
    wanted = requests.ItemFilter(
        backup_management_type="AzureStorage" if share else None, include_deleted=True
    )
    found = yield from list_protected_items(vault, **wanted)
    meant = [item for item in found if item.answers_to(share[1] if share else name)]
    if share:
        meant = [item for item in meant if same_id(item.source_id, share[0])]
    if meant:
        return _only_one(meant, name)
    called = share[1] if share else name
    names = closest_first(called, sorted({item.friendly_name for item in found}))
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    raise AzureBackupNotFoundError(
        f"vault {vault.name} protects nothing called {called!r}{close_to(called, names[:20])}; it protects "
        f"{', '.join(names[:20]) or 'nothing of that kind'}{more}{f'. Given: {name}' if share else ''}"
    )


def _item_of_vm(guess: ProtectedItem, vm_id: str) -> Flow[FoundItem]:
    """Return the item whose source is a VM, as the vault says.

    The names of an item hold the VM's resource group and name but not its subscription, and a vault may
    protect VMs of other subscriptions. So the name is only a guess at where to look first.

    :param guess: the item that would have the VM's names.
    :param vm_id: ARM id of the VM.
    :raises AzureBackupNotFoundError: when the vault does not protect the VM, or its data is soft-deleted.
    :raises AzureBackupConfigError: when the item of these names protects another VM.
    """
    vault = guess.vault
    try:
        named = responses.read_item(guess, (yield from ask(requests.get_protected_item(guess))))
    except AzureBackupNotFoundError:
        named = None
    if named and same_id(named.source_id, vm_id):
        return _only_one([named], vm_id)
    wanted = requests.ItemFilter(backup_management_type="AzureIaasVM", include_deleted=True)
    listed = yield from list_protected_items(vault, **wanted)
    if meant := [item for item in listed if same_id(item.source_id, vm_id)]:
        return _only_one(meant, vm_id)
    if named is None:
        raise AzureBackupNotFoundError(
            f"vault {vault.name} does not protect VM {last_segment(vm_id)!r}; "
            f"hook.backup_status(vm_id, region) returns the vault that does. Given: {vm_id}"
        )
    raise AzureBackupConfigError(
        f"vault {vault.name} protects another VM called {last_segment(vm_id)!r} in a resource group of the "
        f"same name; hook.backup_status(vm_id, region) returns the vault of the VM that was given. "
        f"Given: {vm_id}. Protected: {named.source_id or 'a resource that Azure does not name'}"
    )


def _only_one(meant: Sequence[FoundItem], name: str) -> FoundItem:
    """Return the one item that is meant; one whose data is soft-deleted is meant only if no other is.

    :param meant: at least one item.
    :param name: what the author wrote.
    :raises AzureBackupNotFoundError: when the data of all of them is soft-deleted.
    :raises AzureBackupConfigError: when several are meant.
    """
    vault = meant[0].item.vault.name
    live = [item for item in meant if not item.is_deleted]
    if len(live) == 1:
        return live[0]
    told = "; ".join(f"{each.item.path}{f' ({each.trouble})' if each.trouble else ''}" for each in meant)
    if not live:
        raise AzureBackupNotFoundError(
            f"vault {vault} does not protect {name!r} any more; nothing can be backed up or restored before "
            f"an undelete: {told}"
        )
    raise AzureBackupConfigError(
        f"{name!r} means {len(live)} protected items in vault {vault}; give the ARM id of one of them: {told}"
    )


def _lists_of(vault: Vault, kind: str) -> list[Call]:
    """Return the lists that show between them what a vault protects.

    :param kind: a backup management type in lower case, or an empty string for all.
    """
    if vault.is_backup_vault:
        return [requests.list_instances(vault)]
    return [
        requests.list_protected_items(vault, management_type)
        for management_type in MANAGEMENT_TYPES
        if kind in ("", management_type.casefold())
    ]


def probe(vault: Vault | None, subscription_id: str, vault_type: str = RECOVERY_SERVICES) -> Flow[str]:
    """Make the one cheap call of a connection test and say what was seen.

    With a vault it reads what every wait reads, the jobs; without one it lists the vaults.
    """
    if vault is not None:
        first = ask(requests.list_jobs(vault, status="InProgress"))
        page = responses.read_page((yield from _of_vault(vault, first)))
        running = len(page.values)
        if vault.is_backup_vault:  # which lists what is over, too
            running = sum(job.is_running for job in responses.read_jobs(vault, page))
        return f"vault {vault.name} in {vault.resource_group_name}, {running} jobs running"
    page = responses.read_page((yield from ask(requests.list_vaults(subscription_id, vault_type))))
    names = ", ".join(str(body.get("name")) for body in page.values[:10])
    return f"subscription {subscription_id}, no vault set; visible vaults: {names or 'none'}"


def is_newborn(since: float, at: float) -> bool:
    """Return whether a wait is so young that Azure may not know its job yet."""
    return at < since + NEWBORN


def later(flow: Flow[T], seconds: float) -> Flow[T]:
    """Hold a conversation once ``seconds`` have passed."""
    try:
        call = next(flow)
    except StopIteration as end:  # there was nothing to ask
        result: T = end.value
        return result
    return (yield from _resume(flow, call.later(call.after + seconds)))


def insist(make: Callable[[], Flow[T]], *, since: float, until: float, first_pause: float = 0.0) -> Flow[T]:
    """Hold a conversation anew until it succeeds: faults that may pass are waited out.

    :param make: makes the conversation.
    :param since: Unix time the wait began.
    :param until: Unix time after which any fault is raised.
    :param first_pause: seconds to let pass before the first time.
    :raises AzureBackupError: a fault that lasts, or that waiting cannot cure: also one that the conversation
        raises without having asked anything.
    """
    patience, heard = Patience(since), Heard(since)
    pause = first_pause
    for interval in chain((5.0, 10.0, 20.0, 40.0), repeat(60.0)):
        answers = heard.answers
        try:
            return (yield from heard.listen(later(_until(make(), until), pause)))
        except AzureBackupError as error:
            if heard.answers == answers:  # nothing was asked, so asking again would change nothing
                raise
            patience.bear(error, heard.at)
            if heard.at >= until:
                raise
            pause = min(spread_pause(interval, error), until - heard.at)
    raise AssertionError("repeat() has no end")


class Heard:
    """What time it is, by the last answer that was heard: here, and by Azure's own clock.

    :param at: Unix time before the first answer.
    """

    def __init__(self, at: float) -> None:
        self.at = self.sent_at = at
        self.ahead: float | None = None
        self.answers = 0

    def listen(self, flow: Flow[T]) -> Flow[T]:
        """Hold a conversation and take the time from its answers."""
        try:
            call = next(flow)
            while True:
                self.sent_at = self.at + call.after
                answer = yield call
                self.hear(answer)
                call = flow.send(answer)
        except StopIteration as end:
            result: T = end.value
            return result

    def hear(self, answer: Answer) -> None:
        """Take the time from one answer."""
        self.at = answer.at
        self.answers += 1
        if isinstance(answer, Reply) and answer.date is not None:
            self.ahead = answer.date - answer.at


class Patience:
    """Tells a fault that passes from one that lasts."""

    def __init__(self, since: float) -> None:
        self.since = since
        self.fault: AzureBackupError | None = None
        self.refused_at: float | None = None

    def calm(self) -> None:
        """Forget past faults: an answer came."""
        self.fault = self.refused_at = None

    def bear(self, error: AzureBackupError, at: float) -> None:
        """Bear a fault that may pass; raise one that has lasted or never will pass."""
        self.fault = error
        if isinstance(error, AzureBackupTransientError):
            return
        if not isinstance(error, AzureBackupAuthError | AzureBackupNotFoundError):
            raise error
        self.refused_at = at if self.refused_at is None else self.refused_at
        newborn = isinstance(error, AzureBackupNotFoundError) and is_newborn(self.since, at)
        if not newborn and at - self.refused_at >= REFUSAL_GRACE:
            raise error


def spread_pause(interval: float, fault: AzureBackupError | None = None) -> float:
    """Return the seconds to the next look: spread, never earlier than Azure asked, soon after a refusal."""
    asked = (fault.retry_after if fault else None) or 0.0
    if isinstance(fault, AzureBackupAuthError | AzureBackupNotFoundError):
        interval, asked = min(interval, _REFUSAL_PAUSE), min(asked, _LONGEST_REFUSAL_PAUSE)
    return max(interval * random.uniform(0.85, 1.15), asked * random.uniform(1.0, 1.15))


def _until(flow: Flow[T], deadline: float) -> Flow[T]:
    """Hold a conversation, and give each of its calls a deadline."""
    try:
        call = next(flow)
        while True:
            call = flow.send((yield replace(call, deadline=min(call.deadline, deadline))))
    except StopIteration as end:
        result: T = end.value
        return result


def _resume(flow: Flow[T], call: Call) -> Flow[T]:
    try:
        while True:
            call = flow.send((yield call))
    except StopIteration as end:
        result: T = end.value
        return result


def accepted(answer: Answer, call: Call, *statuses: int) -> Reply:
    """Return an answer with one of the statuses.

    :raises AzureBackupError: what any other one, or none, stands for.
    """
    if isinstance(answer, Lost):
        raise answer.kind(f"{answer.reason} ({call.method} {call.path} got no answer)")
    responses.raise_unless(answer, call, *statuses)
    return answer


def _job_of_operation(operation: Operation, what: str) -> JobRef:
    ref = operation.ref
    if not operation.succeeded:
        raise _refusal(
            operation,
            f"operation {ref.operation_id} in vault {ref.vault.name} ended {operation.status}, no {what} "
            f"was started",
        )
    try:
        return JobRef.parse(operation.job_id or "", ref.vault)
    except AzureBackupConfigError:
        raise AzureBackupUnconfirmedStartError(
            f"operation {ref.operation_id} in vault {ref.vault.name} succeeded without naming a job "
            f"({operation.job_id!r}); a {what} is probably running."
        ) from None


def _refusal(operation: Operation, what: str) -> AzureBackupError:
    """Return the error that an operation which failed stands for.

    :param what: what did not come of it.
    """
    row = look_up(operation.code)
    return row.meaning.error(
        f"{what}: {operation.code or 'no code'} {operation.message}".rstrip(),
        code=operation.code,
        retry_after=row.pause or None,
    )


def all_pages(first: Call) -> Flow[list[Page]]:
    """Return all pages of a list."""
    call, pages, seen = first, [], {first}
    while True:
        reply = yield from ask(call)
        pages.append(responses.read_page(reply))
        if not (link := pages[-1].next_link):
            return pages
        call = replace(requests.next_page(reply, link), api_version=first.api_version)
        if call in seen:
            raise AzureBackupTransientError(f"the pages of a list go round in a circle: {first.path}")
        if len(pages) >= _MOST_PAGES:
            raise AzureBackupTransientError(f"a list has more than {_MOST_PAGES} pages: {first.path}")
        seen.add(call)

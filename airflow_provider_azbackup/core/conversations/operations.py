"""Conversations about operations: start a backup or a restore, and follow it until Azure names the job."""

from __future__ import annotations

from itertools import chain, repeat

from airflow_provider_azbackup.core.conversations.retry import (
    Patience,
    accepted,
    all_pages,
    ask,
    spread_pause,
)
from airflow_provider_azbackup.core.model.error_codes import find_error_code
from airflow_provider_azbackup.core.model.jobs import JobError
from airflow_provider_azbackup.core.model.json_safe import LONGEST_MESSAGE, cut
from airflow_provider_azbackup.core.model.resources import (
    BackupInstance,
    JobRef,
    OperationRef,
    ProtectedItem,
    last_segment,
)
from airflow_provider_azbackup.core.rest import requests, responses
from airflow_provider_azbackup.core.rest.responses import Operation
from airflow_provider_azbackup.core.wire import Flow, JsonObject, NoResponse, Request
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

# Seconds within which Azure names the job of an accepted backup. The longest time seen is 62 s.
OPERATION_LIMIT = 300.0
# States of a backup instance that pass within minutes, in lower case. In any other state a request is sent.
_PASSING_STATES = frozenset({"updatingprotection", "configuringprotection"})
# Seconds until the caller should try again.
_STATE_PAUSE = 60.0


def trigger_backup(item: ProtectedItem, body: JsonObject) -> Flow[OperationRef]:
    """Start an on-demand backup and return the operation that Azure named. The request is sent once.

    The request for a backup instance is completed first, from what its policy says now.

    :raises AzureBackupUnconfirmedStartError: if there is no response, or a server error, so that the backup
        may or may not have been started. The request is not repeated, because Azure would start a second
        backup.
    :raises AzureBackupError: if Azure refused the request. Nothing was started then.
    """
    if isinstance(item, BackupInstance):
        body = yield from with_backup_rule(item, body)
    return (yield from start_job(item, requests.trigger_backup(item, body)))


def start_job(item: ProtectedItem, request: Request, what: str = "backup") -> Flow[OperationRef]:
    """Send the request that starts a job, once, and return the operation that Azure named.

    :param item: what is backed up or restored.
    :param request: the request.
    :param what: the word for it in errors: ``backup`` or ``restore``.
    :raises AzureBackupUnconfirmedStartError: as in :func:`trigger_backup`.
    :raises AzureBackupError: if Azure refused the request. Nothing was started then.
    """
    answer = yield request
    if isinstance(answer, NoResponse) and not answer.sent:
        raise answer.error(f"no {what} of {item.label} was started: {answer.reason}")
    if isinstance(answer, NoResponse) or answer.status >= 500 or answer.status == 408:
        reason = answer.reason if isinstance(answer, NoResponse) else f"answered {answer.status}"
        raise AzureBackupUnconfirmedStartError(
            f"the request for a {what} of {item.label} was sent, but it is not known whether Azure has "
            f"accepted it ({reason}): a {what} may be running in vault {item.vault.name}.",
            status=None if isinstance(answer, NoResponse) else answer.status,
        )
    try:
        # Azure answers 202. After any other 2xx a job may be running as well.
        responses.raise_for_status(answer, request, *range(200, 300))
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


def with_backup_rule(instance: BackupInstance, body: JsonObject) -> Flow[JsonObject]:
    """Return the body that asks for a backup of an instance, with the rule of its policy if it names none.

    :raises AzureBackupBusyError: while the protection of the instance is being configured or changed.
    :raises AzureBackupConfigError: if the policy has no backup rule, or has several and the body names none.
    """
    protection = responses.read_protection((yield from ask(requests.get_protected_item(instance))))
    if protection.state.casefold() in _PASSING_STATES:
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
    return requests.backup_rule_body(rules[0].name, tag)


def wait_for_operation(ref: OperationRef, what: str = "backup") -> Flow[JobRef]:
    """Read the operation of an accepted backup or restore until it names its job.

    :param what: the word for what was accepted in errors: ``backup`` or ``restore``.
    :raises AzureBackupRefusedError: if the operation failed, so that no job was started.
    :raises AzureBackupTransientError: if it failed with an internal error of Azure's.
    :raises AzureBackupUnconfirmedStartError: if it ends without a job, does not end within
        :data:`OPERATION_LIMIT` seconds, or cannot be read. A job may be running then.
    """
    try:
        operation = yield from _end_of(ref)
    except AzureBackupTimeoutError as error:
        raise AzureBackupUnconfirmedStartError(f"{error}; a {what} may be running.") from None
    except AzureBackupError as error:
        # The request was accepted all the same, so the caller must not conclude that nothing was started.
        raise AzureBackupUnconfirmedStartError(
            f"the {what} was accepted as operation {ref.operation_id} in vault {ref.vault.name} and "
            f"may be running, but Azure will not show the operation: {error}.",
            status=error.status,
            code=error.code,
            request_id=error.request_id,
        ) from None
    return _job_of_operation(operation, what)


def validate_restore(item: ProtectedItem, request: Request) -> Flow[None]:
    """Ask Azure whether a restore would work, and wait for the result. Nothing is started.

    :param item: what would be restored.
    :param request: the request for the check.
    :raises AzureBackupRefusedError: if the restore would not work.
    :raises AzureBackupTransientError: if there is no result within :data:`OPERATION_LIMIT` seconds.
    :raises AzureBackupError: if Azure could not be asked.
    """
    try:
        response = yield from ask(request, 200, 202)
    except AzureBackupRefusedError as error:
        raise type(error)(
            f"nothing was restored, Azure's validation refuses the request: {error}",
            status=error.status,
            code=error.code,
            request_id=error.request_id,
            retry_after=error.retry_after,
        ) from None
    operation_id = responses.read_operation_id(response)
    if operation_id is None:
        if response.status == 200:  # it would work
            return
        raise AzureBackupTransientError(
            f"nothing was restored, Azure's answer names no operation that would say whether a restore of "
            f"{item.label} would work",
            status=response.status,
        )
    try:
        operation = yield from _end_of(
            OperationRef(vault=item.vault, operation_id=operation_id, validates=True)
        )
    except AzureBackupTimeoutError as error:
        raise AzureBackupTransientError(
            f"nothing was restored, Azure does not say whether it would work: {error}"
        ) from None
    verdict = f"nothing was restored, Azure says that the restore of {item.label} would not work"
    if not operation.succeeded:
        raise _refusal(operation, f"{verdict} (its validation ended {operation.status})")
    if operation.obstacles:
        raise AzureBackupRefusedError(
            cut(f"{verdict}: {'; '.join(map(_with_advice, operation.obstacles))}", LONGEST_MESSAGE),
            code=next((each.title or each.code for each in operation.obstacles), None) or None,
        )


_ITEMS = "Microsoft.RecoveryServices/vaults/backupFabrics/protectionContainers/protectedItems"
_RESTORE = f"{_ITEMS}/recoveryPoints/restore/action"
_RESTORE_INSTANCE = "Microsoft.DataProtection/backupVaults/backupInstances/restore/action"


def check_right_to_restore(item: ProtectedItem) -> Flow[None]:
    """Refuse a check by an identity that may not restore, which Azure's own check does not notice.

    An identity that may not read its permissions is not refused.

    :raises AzureBackupAuthError: naming the right that is missing.
    """
    right = _RESTORE_INSTANCE if isinstance(item, BackupInstance) else _RESTORE
    request = requests.list_permissions(item)
    try:
        pages = yield from all_pages(request)
    except (AzureBackupAuthError, AzureBackupNotFoundError, AzureBackupRefusedError):
        return
    if not any(responses.is_granted(page, right) for page in pages):
        raise AzureBackupAuthError(
            f"Missing right: {right}. Give this identity a role that has it. Nothing was restored, and the "
            f"restore of {item.label} would be refused. Protected item: {item.path}"
        )


def _with_advice(error: JobError) -> str:
    advice = f" Recommended: {' '.join(error.recommendations)}" if error.recommendations else ""
    return f"{str(error) or 'no explanation given'}{advice}"


def _end_of(ref: OperationRef) -> Flow[Operation]:
    """Read an operation until it is over, and return it.

    :raises AzureBackupTimeoutError: if it does not end within :data:`OPERATION_LIMIT` seconds.
    :raises AzureBackupError: if it cannot be read.
    """
    request = requests.get_operation(ref)
    patience: Patience | None = None
    since = 0.0
    for interval in chain((1.0, 2.0, 3.0), repeat(5.0)):
        pause = spread_pause(interval, patience.fault if patience else None)
        answer = yield request.delayed(min(pause, OPERATION_LIMIT))
        if patience is None:
            since, patience = answer.at, Patience(answer.at)
        try:
            operation = responses.read_operation(ref, accepted(answer, request, 200))
        except AzureBackupError as error:
            patience.record_failure(error, answer.at)
        else:
            patience.record_success()
            if not operation.is_running:
                return operation
        if answer.at - since >= OPERATION_LIMIT:
            break
    raise AzureBackupTimeoutError(
        f"operation {ref.operation_id} in vault {ref.vault.name} did not end within {OPERATION_LIMIT:g} s"
        f"{f' ({patience.fault})' if patience and patience.fault else ''}"
    )


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
    """Return the error to raise for a failed operation.

    :param what: the consequence, with which the error begins.
    """
    meaning = find_error_code(operation.code)
    return meaning.error(
        f"{what}: {operation.code or 'no code'} {operation.message}".rstrip(),
        code=operation.code,
        retry_after=meaning.retry_after,
    )

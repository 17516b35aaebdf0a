"""A planned restore: its recovery point is chosen and its request made only when it is about to be sent.

Source: https://learn.microsoft.com/azure/backup/backup-azure-arm-userestapi-restoreazurevms
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from hashlib import sha256
from typing import Any, ClassVar, Unpack

from airflow_provider_azbackup.core.conversations.guards import find_guard_requests
from airflow_provider_azbackup.core.conversations.items import find_item, get_data_source, get_source_id
from airflow_provider_azbackup.core.conversations.operations import (
    check_right_to_restore,
    start_job,
    validate_restore,
)
from airflow_provider_azbackup.core.conversations.recovery_points import (
    find_restorable_ranges,
    get_recovery_point,
    list_recovery_points,
)
from airflow_provider_azbackup.core.conversations.retry import ask, retry_until
from airflow_provider_azbackup.core.conversations.vaults import get_region
from airflow_provider_azbackup.core.model.jobs import Job
from airflow_provider_azbackup.core.model.json_safe import cut
from airflow_provider_azbackup.core.model.recovery_points import (
    MOST_LISTED,
    RecoveryPoint,
    choose_recovery_point,
    choose_restorable_range,
    describe_recovery_points,
)
from airflow_provider_azbackup.core.model.resources import (
    BackupInstance,
    OperationRef,
    ProtectedItem,
    last_segment,
)
from airflow_provider_azbackup.core.model.validation import read_datetime
from airflow_provider_azbackup.core.model.workloads import management_type_of
from airflow_provider_azbackup.core.rest import requests, responses
from airflow_provider_azbackup.core.rest.responses import read_time
from airflow_provider_azbackup.core.restore.backup_vault_request import instance_request
from airflow_provider_azbackup.core.restore.check import (
    LATEST,
    RestoreOptions,
    check_restore,
    check_secondary_restore,
    check_target_fits,
    read_request,
    split_point_id,
)
from airflow_provider_azbackup.core.restore.drill import find_suffix, places_of, point_shown, unique_target
from airflow_provider_azbackup.core.restore.recovery_services_request import (
    check_share_tier,
    needs_region,
    needs_source,
    restore_request,
)
from airflow_provider_azbackup.core.restore.targets import read_target
from airflow_provider_azbackup.core.start.intent import Intent, Prepared
from airflow_provider_azbackup.core.wire import Flow, JsonObject, Request, T
from airflow_provider_azbackup.exceptions import (
    AzureBackupConfigError,
    AzureBackupError,
    AzureBackupNotFoundError,
    AzureBackupRefusedError,
)


@dataclass(frozen=True, kw_only=True)
class RestorePlan:
    """What to restore from and to, read and checked.

    Exactly one of ``target`` and ``body`` holds something. ``point`` is the id of a recovery point, or
    :data:`~airflow_provider_azbackup.core.restore.check.LATEST`.
    """

    target: JsonObject = field(default_factory=dict)
    body: JsonObject = field(default_factory=dict)
    point: str = LATEST
    as_of: datetime | None = None
    point_in_time: datetime | None = None

    @classmethod
    def read(cls, item: ProtectedItem, **options: Unpack[RestoreOptions]) -> RestorePlan:
        """Read what a DAG author wrote.

        :param item: what is restored.
        :param options: see :class:`~airflow_provider_azbackup.core.restore.check.RestoreOptions`.
        :raises AzureBackupConfigError: when it can be no restore, or not one of this item.
        """
        check_restore(**options, vault_type=item.vault.vault_type)
        target, body = options.get("restore_to"), options.get("request")
        owner, point = split_point_id(options.get("recovery_point") or LATEST)
        if owner and owner.casefold() != item.path.casefold():
            raise AzureBackupConfigError(
                f"recovery_point is one of another protected item: {owner}, not of {item.path}"
            )
        if item.vault.secondary:
            region = item.vault.secondary.name
            check_secondary_restore(restore_to=target, request=body, region=region)
        plan = cls(
            target=read_target(target) if target is not None else {},
            body=read_request(body) if body is not None else {},
            point=point,
            as_of=read_datetime("as_of", options.get("as_of")),
            point_in_time=read_datetime("point_in_time", options.get("point_in_time")),
        )
        if isinstance(item, BackupInstance):
            return plan._for_instance()
        if plan.target:  # a target of another workload need not wait for a recovery point to be found wrong
            restore_request(item, plan.target, point_id="")
        return plan

    def _for_instance(self) -> RestorePlan:
        """Take the recovery point from a body that names one: in a Backup vault's it stands there alone."""
        own = self.request.get("recoveryPointId") or self.request.get("recoveryPointTime")
        if own and (self.as_of or self.point not in (LATEST, own)):
            raise AzureBackupConfigError(
                f"request restores from {own!r} itself; drop {'as_of' if self.as_of else 'recovery_point'}"
            )
        named = self.request.get("recoveryPointId")
        return replace(self, point=str(named)) if named else self

    @property
    def request(self) -> JsonObject:
        """What is inside the body, all that a Backup vault knows of it; empty without a body."""
        inside: JsonObject = self.body.get("properties", {})
        return inside

    @property
    def goal(self) -> str:
        """The name of the restore target, or of a body the type of the request."""
        return goal_of(self.target, self.body)

    @property
    def fingerprint(self) -> str:
        """A few letters that are others for any other plan."""
        text = json.dumps(vars(self), sort_keys=True, default=str)
        return sha256(text.encode()).hexdigest()[:16]

    @property
    def from_archive(self) -> bool:
        """Whether it brings a recovery point back from the archive first; only a body can say so."""
        return "rehydrat" in str(self.request.get("objectType")).casefold()


@dataclass(frozen=True, kw_only=True)
class _Ready:
    """A restore with its recovery point chosen: the request for it, and the one for its check."""

    request: Request
    check: Request
    recovery_point: JsonObject


def prepare(item: ProtectedItem, plan: RestorePlan, until: float | None = None) -> Flow[Prepared]:
    """Choose the recovery point and make the request for a restore. Nothing is started.

    In a Backup vault Azure is also asked whether the restore would work.

    :param until: Unix time to which faults are waited out; None waits out none.
    :raises AzureBackupNotFoundError: when no recovery point will do; lists those that are there.
    :raises AzureBackupRefusedError: when the restore of a backup instance would not work.
    """
    ready = yield from _make_ready(item, plan, until)
    if isinstance(item, BackupInstance):
        yield from _patiently(partial(validate_restore, item, ready.check), until)
    return Prepared(request=ready.request, recovery_point=ready.recovery_point)


def validate(item: ProtectedItem, plan: RestorePlan, until: float | None = None) -> Flow[JsonObject]:
    """Find out whether a restore would work, and return the record of the check. Nothing is started.

    The recovery point is chosen as for a restore, and Azure checks everything else.

    :param until: as in :func:`prepare`.
    :raises AzureBackupError: when the restore would not work, or when that cannot be found out.
    """
    if item.vault.secondary and not isinstance(item, BackupInstance):
        raise AzureBackupConfigError(
            f"whether a restore in the secondary region would work cannot be asked of a Recovery Services "
            f"vault, only of a Backup vault; drop secondary_region to check one in the region of the vault, "
            f"{item.vault.name}"
        )
    found = yield from _patiently(partial(find_item, item.vault, item), until)
    if found.is_deleted:
        raise AzureBackupRefusedError(
            f"nothing was restored, the restore of {item.label} would not work: {found.trouble}. Undelete it "
            f"first. Protected item: {item.path}"
        )
    if not item.vault.secondary:
        yield from _patiently(partial(check_right_to_restore, item), until)
    ready = yield from _make_ready(item, plan, until)
    yield from _patiently(partial(validate_restore, item, ready.check), until)
    return record_of_check(item.path, plan.goal, recovery_point=ready.recovery_point)


# Version of the form of a record.
_RECORD_VERSION = 1


def record_of_check(
    item: str,
    goal: str,
    *,
    recovery_point: JsonObject | None = None,
    error: AzureBackupError | None = None,
) -> JsonObject:
    """Return the record of the check of a restore as plain JSON.

    :param item: what would be restored: its ARM id, or the name that was given.
    :param goal: the restore target, or the type of the request.
    :param recovery_point: facts of the recovery point that would be restored.
    :param error: why the restore would not work; None if it would.
    """
    return {
        "version": _RECORD_VERSION,
        "item": item,
        "restore_to": goal,
        "works": error is None,
        "recovery_point": recovery_point,
        "code": error and error.code,
        "reason": error and cut(str(error)),
    }


def _make_ready(item: ProtectedItem, plan: RestorePlan, until: float | None) -> Flow[_Ready]:
    if isinstance(item, BackupInstance):
        facts, body = yield from (_by_target if plan.target else _by_body)(item, plan, until)
        body, guarded = yield from _with_guard(item, body, until)
        return _Ready(
            request=replace(requests.restore_instance(item, body), names_guard=guarded),
            check=replace(requests.validate_instance_restore(item, body), names_guard=guarded),
            recovery_point=facts,
        )
    point, passed_over = yield from _choose(item, plan, until)
    body, target = plan.body, plan.target
    if target:
        check_share_tier(item, target, point)
        source_id = region = ""
        if needs_source(target):
            source_id = yield from _patiently(partial(get_source_id, item), until)
        if needs_region(item, target):
            region = yield from _patiently(partial(get_region, item.vault), until)
        body = restore_request(
            item,
            target,
            point_id=point.point_id,
            source_id=source_id,
            region=region,
            point_in_time=plan.point_in_time,
        )
    facts = _facts(point, passed_over)
    if plan.point_in_time:
        facts["time"] = plan.point_in_time.isoformat()
    body, guarded = yield from _with_guard(item, body, until)
    if item.vault.secondary:
        request = yield from _patiently(lambda: _cross_region_restore(item, point.point_id, body), until)
    else:
        request = requests.trigger_restore(item, point.point_id, body)
    return _Ready(
        request=replace(request, names_guard=guarded),
        check=replace(requests.validate_restore(item, point.point_id, body), names_guard=guarded),
        recovery_point=facts,
    )


def _cross_region_restore(item: ProtectedItem, point_id: str, body: JsonObject) -> Flow[Request]:
    """Return the request for a restore in the secondary region, which holds a token to the recovery point."""
    management_type = management_type_of(item.workload)
    aad = yield from ask(requests.aad_properties(item.vault, management_type))
    access = yield from ask(requests.access_token(item, point_id, responses.read_object(aad)))
    return requests.cross_region_restore(item, responses.read_access(access, management_type), body)


# The field of a restore request that names the requests of Resource Guards.
_GUARD_REQUESTS = "resourceGuardOperationRequests"


def _with_guard(item: ProtectedItem, body: JsonObject, until: float | None) -> Flow[tuple[JsonObject, bool]]:
    """Return a body that names the Resource Guards of the vault, and whether it names any.

    For the secondary region none is looked for: the vault's own region, which knows them, may be down.
    """
    inside = body.get("properties", body)
    if _GUARD_REQUESTS in inside:
        return body, True
    if item.vault.secondary:
        return body, False
    found = yield from _patiently(partial(find_guard_requests, item.vault), until)
    if not found:
        return body, False
    inside = {**inside, _GUARD_REQUESTS: found}
    return {**body, "properties": inside} if "properties" in body else inside, True


def _by_target(
    item: BackupInstance, plan: RestorePlan, until: float | None
) -> Flow[tuple[JsonObject, JsonObject]]:
    target, moment = plan.target, plan.point_in_time
    source = yield from _patiently(partial(get_data_source, item), until)
    check_target_fits(source.workload, item.label, target)
    passed_over: list[str] = []
    if moment:
        kept = yield from _patiently(partial(find_restorable_ranges, item), until)
        choose_restorable_range(item, [kept], moment, what="the versions that are kept")
        point = RecoveryPoint(item=item, point_id="", time=moment.isoformat())
    else:
        point, passed_over = yield from _choose(item, plan, until)
    region = target.get("region") or source.region  # which the secondary region leaves out
    if not region:
        region = yield from _patiently(partial(get_region, item.vault), until)
    request = instance_request(source, target, point=point, region=region, point_in_time=moment)
    return _facts(point, passed_over), request


def _by_body(
    item: BackupInstance, plan: RestorePlan, until: float | None
) -> Flow[tuple[JsonObject, JsonObject]]:
    if moment := plan.request.get("recoveryPointTime"):
        return RecoveryPoint(item=item, point_id="", time=read_time(moment)).facts(), plan.request
    point, passed_over = yield from _choose(item, plan, until)
    return _facts(point, passed_over), {**plan.request, "recoveryPointId": point.point_id}


def _facts(point: RecoveryPoint, passed_over: list[str]) -> JsonObject:
    """Return the facts of the recovery point that a restore takes, with why it takes no newer one."""
    return {**point.facts(), **({"passed_over": passed_over[:MOST_LISTED]} if passed_over else {})}


def restore(item: ProtectedItem, **options: Unpack[RestoreOptions]) -> Flow[OperationRef]:
    """Start a restore, once, and return the operation that Azure named.

    :param options: see :class:`~airflow_provider_azbackup.core.restore.check.RestoreOptions`.
    :raises AzureBackupNotFoundError: when no recovery point will do.
    :raises AzureBackupUnconfirmedStartError: when it is unknown whether the restore was started.
    :raises AzureBackupError: when Azure refused it.
    """
    prepared = yield from prepare(item, RestorePlan.read(item, **options))
    return (yield from start_job(item, prepared.request, RestoreIntent.noun))


def _choose(
    item: ProtectedItem, plan: RestorePlan, until: float | None
) -> Flow[tuple[RecoveryPoint, list[str]]]:
    """Return the recovery point to restore from, and why it is none of the newer ones."""
    if plan.point != LATEST:
        return (yield from _find(item, plan, until)), []
    query_type = "Log" if plan.point_in_time else None
    points = yield from _patiently(lambda: list_recovery_points(item, query_type=query_type), until)
    if plan.point_in_time:
        return choose_restorable_range(item, points, plan.point_in_time), []
    return choose_recovery_point(item, points, as_of=plan.as_of, from_archive=plan.from_archive)


def _find(item: ProtectedItem, plan: RestorePlan, until: float | None) -> Flow[RecoveryPoint]:
    """Return the recovery point that the author named.

    One that is partial or infected is restored only for those who write the request themselves: to look into
    an attack, for example. Whether one in the archive can be restored is for Azure to say.
    """
    point_id = plan.point
    try:
        point = yield from _patiently(lambda: get_recovery_point(item, point_id), until)
    except AzureBackupNotFoundError as error:
        points = yield from _patiently(lambda: list_recovery_points(item), until)
        raise AzureBackupNotFoundError(
            f"{item.label} has no recovery point {point_id!r}; {describe_recovery_points(points)}",
            status=error.status,
            code=error.code,
            request_id=error.request_id,
        ) from None
    if point.is_deleted or point.is_expired:
        raise AzureBackupConfigError(
            f"{point} of {item.label} is not restored: {point.loss}; name another one"
        )
    if point.damage and not plan.body:
        raise AzureBackupConfigError(
            f"{point} of {item.label} is not restored: {point.damage}. Name another one; if you want this "
            f"one all the same, write the restore as request instead of restore_to"
        )
    return point


def _patiently(make: Callable[[], Flow[T]], until: float | None) -> Flow[T]:
    return (yield from make() if until is None else retry_until(make, since=0.0, until=until))


@dataclass(frozen=True, kw_only=True)
class RestoreIntent(Intent):
    """One restore that a task wants.

    :param plan: from which recovery point, and where to.
    :param suffixes: of a restore drill: what the names of what it makes end in, and after that what those of
        earlier tries ended in. They are no part of the fingerprint, because a retry takes up a restore that
        an earlier try has started under its own suffix.
    """

    plan: RestorePlan
    suffixes: tuple[str, ...] = ()

    noun: ClassVar[str] = "restore"
    # Azure was never seen to refuse a restore while another one runs.
    may_start_unseen: ClassVar[bool] = False

    def is_kind_of(self, job: Job) -> bool:
        """Whether it is a restore in the same region; one in another region is in nobody's way."""
        return job.is_restore and (
            self.item.vault.secondary is not None or job.action != "crossregionrestore"
        )

    @property
    def fingerprint(self) -> str:
        """What distinguishes this restore from another one of the item."""
        region = self.item.vault.secondary
        return f"{self.plan.fingerprint}{f'@{region.name}' if region else ''}"

    @property
    def elsewhere(self) -> str:
        """The storage account that a share is restored to, which its job may carry for its own."""
        return account_of(self.plan.target, self.plan.request)

    def prepare(self) -> Flow[Prepared]:
        """Choose the recovery point and make the request."""
        if not self.suffixes:
            return (yield from prepare(self.item, self.plan, self.deadline))
        plan = replace(self.plan, target=unique_target(self.plan.target, self.suffixes[0]))
        prepared = yield from prepare(self.item, plan, self.deadline)
        return replace(prepared, suffix=self.suffixes[0])

    @property
    def is_marked(self) -> bool:
        """Whether only a job that carries this task's own mark is its job."""
        return bool(self.suffixes)

    @property
    def details_matter(self) -> bool:
        """Whether the details of a job could say whose it is."""
        return self.is_marked or bool(places_of(self.plan.target))

    def mark_on(self, job: Job) -> str:
        """Return the suffix of this task that a job shows; nothing where it shows none of them."""
        return find_suffix(self.plan.target, self.suffixes, dict(job.details)) if self.suffixes else ""

    def leads_elsewhere(self, job: Job) -> bool:
        """Whether a job shows that it restores to another place than this intent; False where it may not."""
        details = dict(job.details)
        return any(
            shown and not shown.casefold().startswith(wanted.casefold())
            for shown, wanted in ((details.get(name, ""), text) for name, text in places_of(self.plan.target))
        )

    def point_of(self, job: Job) -> JsonObject:
        """Return what a job shows of the recovery point that it restores, as far as it shows one."""
        return point_shown(dict(job.details))


def goal_of(restore_to: Mapping[str, Any] | None, request: Mapping[str, Any] | None) -> str:
    """Return the name of a restore target, or the type of a request in Azure's own words.

    Parameters: :func:`account_of`. What is no mapping has no name.
    """
    inner = request.get("properties", request) if isinstance(request, Mapping) else {}
    shown = restore_to.get("target") if isinstance(restore_to, Mapping) else None
    return str(shown or (inner.get("objectType", "") if isinstance(inner, Mapping) else ""))


def account_of(restore_to: Mapping[str, Any] | None, request: Mapping[str, Any] | None) -> str:
    """Return the storage account that a share is restored to, as its name; an empty string for its own.

    :param restore_to: a target of :mod:`airflow_provider_azbackup.restore_to`.
    :param request: a restore request in Azure's own words, with ``properties`` or without.
    """
    inner = (request or {}).get("properties", request or {})
    target = inner.get("targetDetails") if isinstance(inner, Mapping) else None
    account = target.get("targetResourceId") if isinstance(target, Mapping) else None
    return last_segment(str((restore_to or {}).get("storage_account_id") or account or ""))

"""One reader for each response: Azure's JSON goes in; a frozen value comes out, or an error that says why
not.

Readers accept every quirk that was seen in real traffic: other casing, V2 job types, integer ``actionsInfo``,
the year 0001, negative and ``d.hh:mm:ss`` durations, bodies that are empty or not JSON at all.

Source: https://learn.microsoft.com/rest/api/backup/
"""

from __future__ import annotations

import json
import math
import re
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote, urlsplit

from airflow_provider_azbackup.core.model.arm_ids import is_path_segment
from airflow_provider_azbackup.core.model.error_codes import find_error_code
from airflow_provider_azbackup.core.model.jobs import Job, JobError, JobTask
from airflow_provider_azbackup.core.model.json_safe import MOST_ENTRIES, clean, cut
from airflow_provider_azbackup.core.model.recovery_points import RecoveryPoint
from airflow_provider_azbackup.core.model.resources import (
    JobRef,
    OperationRef,
    ProtectedItem,
    SecondaryRegion,
    Vault,
    last_segment,
)
from airflow_provider_azbackup.core.rest.hints import refusal_text
from airflow_provider_azbackup.core.wire import JsonObject, Request, Response
from airflow_provider_azbackup.exceptions import (
    AzureBackupAuthError,
    AzureBackupConfigError,
    AzureBackupError,
    AzureBackupNotFoundError,
    AzureBackupRefusedError,
    AzureBackupTransientError,
)

_ERRORS: MappingProxyType[int, type[AzureBackupError]] = MappingProxyType(
    {
        401: AzureBackupAuthError,
        403: AzureBackupAuthError,
        404: AzureBackupNotFoundError,
        408: AzureBackupTransientError,
        429: AzureBackupTransientError,
    }
)
_ISO_DURATION = re.compile(
    r"(?P<sign>-)?P(?:(?P<d>\d+)D)?(?:T(?:(?P<h>\d+)H)?(?:(?P<m>\d+)M)?(?:(?P<s>\d+(?:\.\d+)?)S)?)?"
)
_NET_DURATION = re.compile(r"(?P<sign>-)?(?:(?P<d>\d+)\.)?(?P<h>\d+):(?P<m>\d+):(?P<s>\d+(?:\.\d+)?)")
# Two parts of the service write 0001 and 2001-01-01 for "never".
_NEVER = ("0001-", "2001-01-01T00:00:00")
# States in which no backup of an item is made, of both types of vault.
_STOPPED = re.compile(r"stopped|suspended|paused", re.IGNORECASE)


# Older api-versions write the words of an enumeration as numbers, in the order of Azure's declaration: tiers
# and their states until March 2022 (recorded: 1 to 3 and 1 to 4), others until 2024. A number beyond the end
# stays one, and is judged as a word that nobody knows.
_TIER_WORDS = ("Invalid", "InstantRP", "HardenedRP", "ArchivedRP")
_TIER_STATES = ("Invalid", "Valid", "Disabled", "Deleted", "Rehydrated")
_POINT_TYPES = (
    "Invalid",
    "Full",
    "Log",
    "Differential",
    "Incremental",
    "SnapshotFull",
    "SnapshotCopyOnlyFull",
)
_POINT_STATES = ("Completed", "Partial")
_THREAT_WORDS = ("Unknown", "Healthy", "UnHealthy", "Warning", "NotAvailable")
# States of threats that someone has dealt with, in lower case.
_THREATS_OVER = frozenset({"resolved", "ignored"})

# The signature in an address that gives access to what is there.
_SIGNATURE = re.compile(r"\bsig=[^&\s\"']*", re.IGNORECASE)
# In characters: the most that an error shows of the one inside it.
_LONGEST_CAUSE = 500
# Escapes in JSON that stand for characters which cannot be written down.
_ESCAPES = re.compile(r"\\u(?:00[01789]|d[89a-f])", re.IGNORECASE)
# The most values of a response that are read, because they are read at once on an event loop. 1,000 protected
# items have 60,000.
_MOST_VALUES = 200_000
# The longest id of an operation that is accepted, because an id must not be cut.
_LONGEST_ID = 500
# The most digits of a whole number, the years of a time, and the seconds of a duration (a century) that are
# read. Anything beyond counts as unknown, because it would overflow in the first computation.
_MOST_DIGITS = 30
_YEARS = range(1970, 9999)
_LONGEST_DURATION = 100 * 366 * 86_400.0

# The ends of Azure's names for a restore among the operations that a Resource Guard protects, in lower case.
_GUARDED_RESTORES = ("/recoverypoints/restore/action", "/backupinstances/restore/action")

# The final states of an operation. Any other word is newer than this table and means nothing for the backup
# yet.
_OPERATION_ENDS = frozenset({"succeeded", "failed", "canceled", "cancelled", "invalid"})


@dataclass(frozen=True, kw_only=True)
class Operation:
    """Where an asynchronous operation stands; ``job_id`` is None until it has made a job.

    ``obstacles`` are what the check of a restore has found, each of which makes the restore fail.
    """

    ref: OperationRef
    status: str
    job_id: str | None = None
    code: str | None = None
    message: str = ""
    obstacles: tuple[JobError, ...] = ()

    @property
    def is_running(self) -> bool:
        """Whether Azure still works on it. An unknown word counts as running."""
        return self.status.casefold() not in _OPERATION_ENDS

    @property
    def succeeded(self) -> bool:
        """Whether it succeeded, which for a backup only means that a job was created."""
        return self.status.casefold() == "succeeded"


@dataclass(frozen=True, kw_only=True)
class FoundItem:
    """A protected item as Azure shows it. Times are ISO 8601 in UTC, None for never.

    ``source_id`` is the ARM id of the VM or the storage account, ``server`` the VM of a database, ``state``
    such as ``Protected`` or ``ProtectionStopped``; ``last_backup_status`` is ``IRPending`` or empty before
    the first backup. ``is_deleted`` means that the backup data is soft-deleted: nothing can be restored from
    it before an undelete, and Azure purges it at ``purged_at`` where that is known. ``source_type`` is the
    type of a backup instance's data source, such as ``Microsoft.Compute/disks``, and ``tags`` are its tags. A
    Recovery Services vault lists neither.
    """

    item: ProtectedItem
    friendly_name: str
    source_id: str = ""
    server: str = ""
    policy: str = ""
    state: str = ""
    last_backup_status: str = ""
    last_backup_time: str | None = None
    last_recovery_point: str | None = None
    is_deleted: bool = False
    purged_at: str | None = None
    source_type: str = ""
    tags: tuple[tuple[str, str], ...] = ()

    def answers_to(self, name: str) -> bool:
        """Whether a person could mean this item by ``name``.

        This is its friendly name, for a database also with its server (``payroll [sqlvm]``), or its own name.
        """
        friendly = self.friendly_name.casefold()
        shown = f"{friendly} [{self.server.casefold()}]"
        return name.casefold() in {friendly, shown, self.item.name.casefold()}

    @property
    def trouble(self) -> str:
        """Why no new backup of it is made, for an error; empty if nothing is known to prevent one."""
        if self.is_deleted:
            when = f"is purged at {self.purged_at}" if self.purged_at else "is purged later"
            return f"its backup data is soft-deleted and {when}"
        return f"its state is {self.state}" if _STOPPED.search(self.state) else ""

    def facts(self) -> JsonObject:
        """Return it as a plain dict, for an XCom."""
        return {**asdict(self), "item": self.item.path, "tags": dict(self.tags)}


@dataclass(frozen=True, kw_only=True)
class FoundVault:
    """A vault with its tags."""

    vault: Vault
    tags: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class VaultHome:
    """Where a vault is.

    ``secondary`` is the region of its second copy, which only a Backup vault names.
    ``cross_region_restore`` is ``Enabled``, ``Disabled``, or empty if Azure does not show it.
    """

    region: str
    secondary: str = ""
    cross_region_restore: str = ""


@dataclass(frozen=True, kw_only=True)
class BackupStatus:
    """Whether and where a VM is protected. ``item`` is None and ``policy`` empty if it is not."""

    item: ProtectedItem | None
    policy: str = ""


@dataclass(frozen=True, kw_only=True)
class Protection:
    """How a backup instance is protected: the state, and the ARM id of the policy."""

    state: str
    policy_id: str


@dataclass(frozen=True, kw_only=True)
class DataSource:
    """What a backup instance protects: its ARM id, its type in the Backup vault, and its region."""

    resource_id: str
    source_type: str
    region: str = ""

    @property
    def workload(self) -> str:
        """Its type in lower case."""
        return self.source_type.casefold()


@dataclass(frozen=True, kw_only=True)
class BackupRule:
    """One backup rule of a policy; ``tag`` is how long its backups are kept unless another tag is given."""

    name: str
    tag: str


@dataclass(frozen=True, kw_only=True)
class Page:
    """One page of a list, the link to the next, and the Unix time it came, by Azure's clock if known.

    ``unread`` is the number of entries that are not objects, which are left out.
    """

    values: tuple[JsonObject, ...]
    next_link: str | None
    at: float = 0.0
    unread: int = 0


def raise_for_status(response: Response, request: Request, *accepted: int) -> None:
    """Raise an error unless the response has an accepted status.

    :raises AzureBackupError: a subclass, with Azure's code, message and request id.
    """
    if response.status in accepted:
        return
    # A 2xx other than the documented one is no refusal; it only lacks what was asked for.
    may_pass = response.status >= 500 or 200 <= response.status < 300
    error = _ERRORS.get(response.status, AzureBackupTransientError if may_pass else AzureBackupRefusedError)
    code, message = _error_of(response)
    meaning = find_error_code(code)
    # Any other status is more specific than a code: who is unknown, what is missing, what is broken.
    if (
        error is AzureBackupRefusedError or response.status == 429
    ) and meaning.error is not AzureBackupRefusedError:
        error = meaning.error
    raise error(
        refusal_text(request, response.status, code, message),
        status=response.status,
        code=code,
        request_id=response.headers.get("x-ms-request-id"),
        retry_after=meaning.retry_after if response.retry_after is None else response.retry_after,
    )


def read_operation_id(response: Response) -> str | None:
    """Read the operation id from a 202: the last segment of its URLs, without their signed query.

    The id of a Backup vault's operation ends in ``==``, which may be percent-encoded.
    """
    for header in ("azure-asyncoperation", "location"):
        operation_id = unquote(last_segment(response.headers.get(header, "")))
        is_clean = clean(operation_id) == operation_id and is_path_segment(operation_id)
        if is_clean and len(operation_id) <= _LONGEST_ID:
            return operation_id
    return None


def read_operation(ref: OperationRef, response: Response) -> Operation:
    """Read an operation's status.

    :raises AzureBackupTransientError: if the body is not one.
    """
    body = _object(response)
    status = _text(body.get("status"))
    if not status:
        raise _unreadable(response, "an operation's status")
    properties = _dict(body.get("properties"))
    error = _dict(body.get("error"))
    jobs = [properties.get("jobId"), *_list(properties.get("jobIds"))]
    return Operation(
        ref=ref,
        status=status,
        # An ARM id may stand where a GUID is expected; the last segment is the GUID in both.
        job_id=next((last_segment(_text(job)) for job in jobs if _text(job)), None),
        code=_text(error.get("code")) or None,
        message=_text(error.get("message")) + _advice(error),
        obstacles=_obstacles(_dict(properties.get("validateOperationResponse"))),
    )


def _obstacles(validation: JsonObject) -> tuple[JobError, ...]:
    """Read what the check of a restore has found; an entry that is not an object counts as well."""
    found = _shortened(_list(validation.get("validationResults")))
    return tuple(_job_error(each if isinstance(each, dict) else {"message": str(each)}) for each in found)


def read_protection(response: Response) -> Protection:
    """Read from a backup instance whether and by which policy it is protected."""
    properties = _dict(_object(response).get("properties"))
    return Protection(
        # The second field is the predecessor of the first. A response may contain either.
        state=_text(properties.get("currentProtectionState"))
        or _text(_dict(properties.get("protectionStatus")).get("status")),
        policy_id=_text(_dict(properties.get("policyInfo")).get("policyId")),
    )


def read_data_source(response: Response) -> DataSource:
    """Read from a backup instance what it protects.

    :raises AzureBackupTransientError: if the body does not name it.
    """
    source = _dict(_dict(_object(response).get("properties")).get("dataSourceInfo"))
    found = DataSource(
        resource_id=_first(source, "resourceID", "resourceId"),
        source_type=_text(source.get("datasourceType")),
        region=_text(source.get("resourceLocation")),
    )
    if found.resource_id and found.source_type:
        return found
    raise _unreadable(response, "a backup instance with what it protects")


def read_rules(response: Response) -> list[BackupRule]:
    """Read the backup rules of a Backup vault's policy, without its retention rules."""
    properties = _dict(_object(response).get("properties"))
    return [
        BackupRule(name=_text(rule.get("name")), tag=_default_tag(_dict(rule.get("trigger"))))
        for rule in _dicts(properties.get("policyRules"))
        if _text(rule.get("objectType")).casefold() == "azurebackuprule"
    ]


def _default_tag(trigger: JsonObject) -> str:
    """Return the tag of a rule's own backups; a rule without a schedule has one criterion and no list."""
    criteria = trigger.get("taggingCriteria")
    known = [criteria] if isinstance(criteria, dict) else _dicts(criteria)
    found = [each for each in known if each.get("isDefault") is not False]
    return _text(_dict(found[0].get("tagInfo")).get("tagName")) if found else ""


def read_job(ref: JobRef, response: Response) -> Job:
    """Read one job.

    :raises AzureBackupTransientError: if the body is not a job, or is another job.
    """
    body = _object(response)
    job = parse_job(ref, body)
    if job is None or (_name(body) or ref.job_id).casefold() != ref.job_id.casefold():
        raise _unreadable(response, f"job {ref.job_id}")
    return job


def read_jobs(vault: Vault, page: Page) -> list[Job]:
    """Read the jobs of one page of a list. An entry that is not a job is left out."""
    jobs = (parse_job(JobRef(vault=vault, job_id=_name(body)), body) for body in page.values)
    return [job for job in jobs if job is not None and job.ref.job_id]


def parse_job(ref: JobRef, body: JsonObject) -> Job | None:
    """Read a job from Azure's JSON; None if it contains no status.

    Both types of vault use the same envelope, but a Backup vault has other names for its content.

    :param ref: the job as it was asked for; the id in the body may be cased differently.
    :param body: the whole resource, from Azure or from a trigger's event.
    """
    body = _pick(body, _JOB)
    properties = _dict(body.get("properties"))
    status = _text(properties.get("status"))
    if not status:
        return None
    extended = _dict(properties.get("extendedInfo"))
    return Job(
        ref=ref,
        status=status,
        operation=_text(properties.get("operation")),
        category=_text(properties.get("operationCategory")),
        # In a Backup vault the data source's name is not the instance's: "postgres" of "server/postgres".
        item=_first(properties, "entityFriendlyName", "backupInstanceFriendlyName", "dataSourceName"),
        owner=_first(properties, "containerName", "storageAccountName", "backupInstanceId"),
        backup_management_type=_first(properties, "backupManagementType", "dataSourceType"),
        workload=_text(properties.get("workloadType")),
        activity_id=_first(properties, "activityId", "activityID"),
        start_time=read_time(properties.get("startTime")),
        end_time=read_time(properties.get("endTime")),
        duration_seconds=read_duration(properties.get("duration")),
        percent=_number(extended.get("progressPercentage")),
        message=_text(extended.get("dynamicErrorMessage")),
        errors=tuple(map(_job_error, (*_dicts(properties.get("errorDetails")), *_warnings(extended)))),
        tasks=tuple(map(_job_task, (*_dicts(extended.get("tasksList")), *_dicts(extended.get("subTasks"))))),
        details=tuple((name.strip(), _text(value)) for name, value in _details(extended).items()),
        body=body,
    )


def read_page(response: Response) -> Page:
    """Read one page of any list.

    :raises AzureBackupTransientError: if the body is not a list.
    """
    body = _object(response)
    if not isinstance(body.get("value"), list):
        raise _unreadable(response, "a list")
    values = tuple(_dicts(body["value"]))
    return Page(
        values=values,
        # The link must not be cut.
        next_link=body["nextLink"] if isinstance(body.get("nextLink"), str) else None,
        at=_azure_time(response),
        unread=len(body["value"]) - len(values),
    )


@dataclass(frozen=True, kw_only=True)
class GraphPage:
    """One page of what Resource Graph knows; ``skip_token`` is empty on the last one."""

    rows: tuple[JsonObject, ...]
    skip_token: str = ""


def read_graph_page(response: Response) -> GraphPage:
    """Read one page of an answer of Resource Graph. An entry that is not a row is left out.

    :raises AzureBackupTransientError: if the body contains no rows.
    """
    body = _object(response)
    if not isinstance(body.get("data"), list):
        raise _unreadable(response, "rows of Resource Graph")
    token = body.get("$skipToken")
    return GraphPage(rows=tuple(_dicts(body["data"])), skip_token=token if isinstance(token, str) else "")


def read_object(response: Response) -> JsonObject:
    """Read a JSON object that goes back to Azure as it is.

    :raises AzureBackupTransientError: if the body is not one.
    """
    return _object(response)


def read_access(response: Response, backup_management_type: str) -> JsonObject:
    """Read the token with which the secondary region reads a recovery point, as the restore there takes it.

    The error for a body without one does not show the body, which may be a secret.

    :raises AzureBackupTransientError: if there is none.
    """
    access = _dict(_dict(_json(response)).get("properties"))
    if not access:
        raise AzureBackupTransientError(
            f"Azure's answer holds no access to the recovery point ({response.status} from "
            f"{urlsplit(response.url).path})",
            status=response.status,
            request_id=response.headers.get("x-ms-request-id"),
        )
    # Microsoft's CLI writes this type for VMs, and sends on what came for all others.
    return {**access, "objectType": "CrrAccessToken"} if backup_management_type == "AzureIaasVM" else access


def read_home(response: Response) -> VaultHome | None:
    """Read where a vault is from what Resource Graph shows of it; None if it shows nothing.

    :raises AzureBackupTransientError: if the body contains no rows.
    """
    for row in read_graph_page(response).rows:
        properties = _dict(row.get("properties"))
        features = _dict(_dict(properties.get("featureSettings")).get("crossRegionRestoreSettings"))
        redundancy = _dict(properties.get("redundancySettings"))
        replicas = _list(properties.get("replicatedRegions"))
        if region := _region(row.get("location")):
            return VaultHome(
                region=region,
                secondary=next(filter(None, map(_region, replicas)), ""),
                cross_region_restore=_text(features.get("state") or redundancy.get("crossRegionRestore")),
            )
    return None


def _region(value: Any) -> str:
    """Return the name of a region as a path takes it; an empty text for anything else."""
    name = _text(value).replace(" ", "").casefold()
    return name if name.isascii() and name.isalnum() else ""


def read_items(page: Page, secondary: SecondaryRegion | None = None) -> list[FoundItem]:
    """Read the protected items of one page. An entry whose id has another shape is left out.

    :param secondary: the secondary region that has listed them; None for the region of the vault.
    """
    found = []
    for body in page.values:
        # The names come from the id: containerName of a VM lacks its prefix, and vaultId is a URL.
        with suppress(AzureBackupConfigError):
            item = ProtectedItem.parse(_text(body.get("id")))
            if secondary:
                item = replace(item, vault=replace(item.vault, secondary=secondary))
            found.append(_found(item, body))
    return found


def read_item(item: ProtectedItem, response: Response) -> FoundItem:
    """Read one protected item.

    :param item: what was asked for.
    :raises AzureBackupTransientError: if the body is not one.
    """
    body = _object(response)
    if not _dict(body.get("properties")):
        raise _unreadable(response, "a protected item")
    return _found(item, body)


def _found(item: ProtectedItem, body: JsonObject) -> FoundItem:
    properties = _dict(body.get("properties"))
    source, policy = _dict(properties.get("dataSourceInfo")), _dict(properties.get("policyInfo"))
    state = _first(properties, "protectionState", "currentProtectionState")
    return FoundItem(
        item=item,
        friendly_name=_text(properties.get("friendlyName")),
        source_id=_first(properties, "sourceResourceId", "virtualMachineId")
        or _first(source, "resourceID", "resourceId"),
        server=_text(properties.get("serverName")),
        policy=last_segment(_text(properties.get("policyId")) or _text(policy.get("policyId"))),
        state=state,
        last_backup_status=_text(properties.get("lastBackupStatus")),
        last_backup_time=read_time(properties.get("lastBackupTime")),
        last_recovery_point=read_time(properties.get("lastRecoveryPoint")),
        # With this flag set, the state of a Recovery Services vault's item says ProtectionStopped.
        is_deleted=properties.get("isScheduledForDeferredDelete") is True
        or state.casefold() in ("softdeleted", "softdeleting"),
        purged_at=_purged_at(properties),
        source_type=_text(source.get("datasourceType")),
        tags=_tags(body),
    )


def _tags(body: JsonObject) -> tuple[tuple[str, str], ...]:
    return tuple((cut(name), _text(value)) for name, value in _dict(body.get("tags")).items())


def read_vaults(page: Page) -> list[FoundVault]:
    """Read the vaults of one page. An entry whose id has another shape is left out."""
    found = []
    for body in page.values:
        with suppress(AzureBackupConfigError):
            found.append(FoundVault(vault=Vault.parse(_text(body.get("id"))), tags=_tags(body)))
    return found


def read_vault(vault: Vault, response: Response) -> FoundVault:
    """Read one vault.

    :param vault: what was asked for.
    """
    return FoundVault(vault=vault, tags=_tags(_object(response)))


def _purged_at(properties: JsonObject) -> str | None:
    """Return when soft-deleted data is purged.

    A Recovery Services vault names the moment of the deletion, in spite of the field's name, and the days
    after it: recorded 17 s after the deletion with 13 days and 23:59:42 left.
    """
    deleted = read_time(properties.get("deferredDeleteTimeInUTC"))
    days = _number(properties.get("softDeleteRetentionPeriod"))
    if deleted and days:
        with suppress(OverflowError):
            return (datetime.fromisoformat(deleted) + timedelta(days=days)).isoformat()
    return read_time(_dict(properties.get("deletionInfo")).get("scheduledPurgeTime"))


def read_recovery_points(item: ProtectedItem, page: Page) -> list[RecoveryPoint]:
    """Read the recovery points of one page; an entry without an id is left out."""
    return [_point(item, body, page.at) for body in page.values if _name(body)]


def read_recovery_point(item: ProtectedItem, response: Response, point_id: str) -> RecoveryPoint:
    """Read one recovery point.

    :param point_id: the one that was asked for.
    :raises AzureBackupTransientError: if the body is not a recovery point, or another one.
    """
    body = _object(response)
    if _name(body).casefold() != point_id.casefold():
        raise _unreadable(response, f"recovery point {point_id}")
    return _point(item, body, _azure_time(response))


def read_ranges(item: ProtectedItem, response: Response) -> RecoveryPoint:
    """Read the ranges of time to which an item can be restored, as one entry with all of them."""
    properties = _dict(_object(response).get("properties"))
    return RecoveryPoint(item=item, point_id="", ranges=_ranges(properties.get("restorableTimeRanges")))


def _ranges(value: Any) -> tuple[tuple[str, str], ...]:
    return tuple(
        (read_time(each.get("startTime")) or "", read_time(each.get("endTime")) or "")
        for each in _dicts(value)
    )


def read_source_id(response: Response) -> str:
    """Read from a protected item the ARM id of the VM or storage account that it protects.

    :raises AzureBackupTransientError: if the body does not name it.
    """
    properties = _dict(_object(response).get("properties"))
    if source_id := _text(properties.get("sourceResourceId") or properties.get("virtualMachineId")):
        return source_id
    raise _unreadable(response, "a protected item with what it protects")


def read_region(response: Response) -> str:
    """Read a vault's region.

    :raises AzureBackupTransientError: if the body does not name it.
    """
    if region := _text(_object(response).get("location")):
        return region
    raise _unreadable(response, "a vault with its region")


def _point(item: ProtectedItem, body: JsonObject, at: float) -> RecoveryPoint:
    properties = _dict(body.get("properties"))
    lasting = _dict(properties.get("recoveryPointProperties"))
    disks = _dict(properties.get("recoveryPointDiskConfiguration"))
    is_partial = _flag(properties.get("isPartialRP")) or _flag(lasting.get("isPartialRP"))
    # Of a disk or a database in a Backup vault the same field says Full or Incremental.
    point_type, is_instance = properties.get("recoveryPointType"), item.vault.is_backup_vault
    return RecoveryPoint(
        item=item,
        point_id=_name(body),
        # Databases spell both fields in their own way.
        time=read_time(properties.get("recoveryPointTime") or properties.get("recoveryPointTimeInUTC")),
        consistency="" if is_instance else _text(point_type),
        backup_type=_word(properties.get("type"), _POINT_TYPES) or (_text(point_type) if is_instance else ""),
        tiers=tuple(
            (
                _word(tier.get("type"), _TIER_WORDS),
                _word(tier.get("status"), _TIER_STATES) or _text(tier.get("state")),
            )
            for name in ("recoveryPointTierDetails", "recoveryPointDataStoresDetails")
            for tier in _dicts(properties.get(name))
        ),
        expiry=read_time(lasting.get("expiryTime") or properties.get("expiryTime")),
        ranges=_ranges(properties.get("timeRanges")),
        state="Partial" if is_partial else _word(properties.get("recoveryPointState"), _POINT_STATES),
        is_deleted=_flag(lasting.get("isSoftDeleted")) or _flag(properties.get("isSoftDeleted")),
        threat_status=_word(properties.get("threatStatus"), _THREAT_WORDS),
        threats=tuple(
            _text(threat.get("threatTitle")) or "a threat without a title"
            for threat in _dicts(properties.get("threatInfo"))
            if _text(threat.get("threatState")).casefold() not in _THREATS_OVER
        ),
        disks_included=_count(disks.get("numberOfDisksIncludedInBackup")),
        disks_attached=_count(disks.get("numberOfDisksAttachedToVm")),
        excluded_disks=tuple(
            _text(disk.get("name")) or f"LUN {_text(disk.get('lun'))}"
            for disk in _dicts(disks.get("excludedDiskList"))
        ),
        seen_at=at,
        body=body,
    )


def _azure_time(response: Response) -> float:
    return response.at if response.date is None else response.date


def _word(value: Any, words: tuple[str, ...]) -> str:
    """Return a word of an enumeration, which Azure may write as a number."""
    text = _text(value)
    numbered = dict(zip(map(str, range(len(words))), words, strict=True))
    return numbered.get(text, text)


def _flag(value: Any) -> bool:
    """Read a flag. Anything but a clear no is a yes, because these flags speak against a backup."""
    return _text(value).casefold() not in ("", "false", "0")


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def read_guard_requests(page: Page) -> list[str]:
    """Read which requests of Resource Guards a restore has to name."""
    details = [
        detail
        for proxy in page.values
        for detail in _dicts(_dict(proxy.get("properties")).get("resourceGuardOperationDetails"))
        if _text(detail.get("vaultCriticalOperation")).casefold().endswith(_GUARDED_RESTORES)
    ]
    found = (_text(detail.get("defaultResourceRequest")) for detail in details)
    return [*dict.fromkeys(each for each in found if each.startswith("/"))][:MOST_ENTRIES]


def is_granted(page: Page, action: str) -> bool:
    """Read whether one of the roles on a page grants an action. Azure writes ``*`` for any text."""

    def names(role: JsonObject, key: str) -> bool:
        patterns = (_text(each).casefold() for each in _list(role.get(key)))
        return any(fnmatchcase(action.casefold(), each.replace("[", "[[]")) for each in patterns)

    return any(names(role, "actions") and not names(role, "notActions") for role in page.values)


def read_backup_status(response: Response) -> BackupStatus:
    """Read which vault protects a VM.

    :raises AzureBackupTransientError: if the body does not contain that.
    """
    body = _object(response)
    if not (status := _text(body.get("protectionStatus"))):
        raise _unreadable(response, "a protection status")
    # For a VM that is not protected, Azure returns the names that its item would have, without a vault.
    if status.casefold() == "notprotected" or not (vault := _text(body.get("vaultId"))):
        return BackupStatus(item=None)
    item = ProtectedItem(
        vault=Vault.parse(vault),
        container=_text(body.get("containerName")),
        name=_text(body.get("protectedItemName")),
    )
    return BackupStatus(item=item, policy=_text(body.get("policyName")))


def read_time(value: Any) -> str | None:
    """Read a timestamp with up to seven digits of a second, as ISO 8601 in UTC.

    None for Azure's "never", and for a time so distant that computations with it overflow.
    """
    text = _text(value)
    if not text or text.startswith(_NEVER):
        return None
    try:
        moment = datetime.fromisoformat(text)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
        return moment.isoformat() if moment.year in _YEARS else None
    except (ValueError, OverflowError):
        return None


def read_duration(value: Any) -> float | None:
    """Read a duration in seconds from ISO 8601 or ``[d.]hh:mm:ss``; a clock that ran backwards gives 0.

    None for one of more than a century.
    """
    text = _text(value)
    found = _ISO_DURATION.fullmatch(text) or _NET_DURATION.fullmatch(text)
    if not text or not found:
        return None
    days, hours, minutes, seconds = (float(found[part] or 0) for part in "dhms")
    total = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    if total > _LONGEST_DURATION:
        return None
    return 0.0 if found["sign"] else total


# What is read and kept of a job, which goes through Airflow's database. None stands for a text or a number, a
# list for entries of one form, ANY for any texts and numbers.
_ANY = "any"
_CAUSE: JsonObject = {"code": None, "additionalInfo": {"DetailedNonLocalisedMessage": None}}
_ERROR: JsonObject = {
    **dict.fromkeys(("errorCode", "errorTitle", "code", "errorString", "message")),
    **{"recommendations": [None], "recommendedAction": [None], "innerError": _CAUSE},
}
_TASK: JsonObject = {
    **dict.fromkeys(("taskName", "taskId", "status", "taskStatus", "progressPercentage")),
    **dict.fromkeys(("taskExecutionDetails", "taskProgress")),
    "additionalDetails": {"DataTransferredInBytes": None},
}
_JOB: JsonObject = {
    **{"id": None, "name": None},
    "properties": {
        **dict.fromkeys(("status", "operation", "operationCategory", "entityFriendlyName")),
        **dict.fromkeys(("backupInstanceFriendlyName", "dataSourceName", "containerName")),
        **dict.fromkeys(("storageAccountName", "backupInstanceId", "backupManagementType", "dataSourceType")),
        **dict.fromkeys(("workloadType", "activityId", "activityID", "startTime", "endTime", "duration")),
        "errorDetails": [_ERROR],
        "extendedInfo": {
            **dict.fromkeys(("progressPercentage", "dynamicErrorMessage", "dataTransferredInBytes")),
            **{"recoveryDestination": None, "targetRecoverPoint": {"recoveryPointID": None}},
            **{"warningDetails": [{"warning": _ERROR}], "tasksList": [_TASK], "subTasks": [_TASK]},
            **{"propertyBag": _ANY, "additionalDetails": _ANY},
        },
    },
}


def _pick(value: Any, form: Any) -> Any:
    """Return the part of a response that matches a form, with its texts and lists cut."""
    if form is None:
        return cut(value) if isinstance(value, str) else None if isinstance(value, dict | list) else value
    if form is _ANY:
        return {cut(name): _pick(value[name], None) for name in [*_dict(value)][:MOST_ENTRIES]}
    if isinstance(form, list):
        entries = _list(value) if form[0] is None else _dicts(value)
        return [_pick(entry, form[0]) for entry in _shortened(entries)]
    return {name: _pick(value[name], inner) for name, inner in form.items() if name in _dict(value)}


def _shortened(entries: list[Any]) -> list[Any]:
    """Return so many entries that they can be kept. None that decides about a job is left out unnoticed.

    A cancellation is kept, and that others are left out is an error without a code, which no
    ``accept_warnings`` contains.
    """
    if len(entries) <= MOST_ENTRIES:
        return entries
    decides = [entry for entry in entries if _job_error(_of_warning(entry)).is_cancellation]
    kept = [*decides, *(entry for entry in entries if entry not in decides)][: MOST_ENTRIES - 1]
    words = f"Azure names {len(entries) - len(kept)} more, which are not read"
    return [*kept, {"errorString": words, "warning": {"errorString": words}}]


def _of_warning(entry: Any) -> JsonObject:
    """Return the error in an entry, which of a Backup vault is inside a warning; an empty one for a text."""
    return _dict(_dict(entry).get("warning")) or _dict(entry)


def _job_error(entry: JsonObject) -> JobError:
    advice = (*_list(entry.get("recommendations")), *_list(entry.get("recommendedAction")))
    return JobError(
        code=_text(entry.get("errorCode")),
        title=_first(entry, "errorTitle", "code"),
        message=_first(entry, "errorString", "message"),
        recommendations=tuple(_text(text).strip() for text in advice if _text(text).strip()),
        cause=_cause(_dict(entry.get("innerError"))),
    )


def _cause(inner: JsonObject) -> str:
    """Return what is inside an error, in one line; it may hold headers and a signed address."""
    text = _text(_dict(inner.get("additionalInfo")).get("DetailedNonLocalisedMessage"))
    shown = " ".join(_SIGNATURE.sub("sig=...", text.partition("Headers:")[0]).split())
    return cut(": ".join(filter(None, (_text(inner.get("code")), shown))), _LONGEST_CAUSE)


def _warnings(extended: JsonObject) -> list[JsonObject]:
    """Return why a job of a Backup vault ended with warnings, in the form of its errors."""
    return [_dict(each.get("warning")) for each in _dicts(extended.get("warningDetails"))]


def _details(extended: JsonObject) -> JsonObject:
    """Return what a job contains beyond its state: sizes, names, the recovery point that it made."""
    moved = extended.get("dataTransferredInBytes")
    if moved is None:  # a database server's restore has it in its phases
        phases = [_dict(each.get("additionalDetails")) for each in _dicts(extended.get("subTasks"))]
        moved = next(filter(None, (each.get("DataTransferredInBytes") for each in phases)), None)
    more = {
        "dataTransferredInBytes": moved,
        "recoveryPointID": _dict(extended.get("targetRecoverPoint")).get("recoveryPointID"),
        "recoveryDestination": extended.get("recoveryDestination"),
        "sourceRecoveryPointID": _dict(extended.get("sourceRecoverPoint")).get("recoveryPointID"),
        "sourceRecoveryPointTime": _dict(extended.get("sourceRecoverPoint")).get("recoveryPointTime"),
    }
    return {
        **_dict(extended.get("propertyBag")),
        **_dict(extended.get("additionalDetails")),
        **{name: value for name, value in more.items() if value is not None},
    }


def _job_task(entry: JsonObject) -> JobTask:
    percent = _number(entry.get("progressPercentage"))
    shown = "" if percent is None else f"{percent:g} %"
    return JobTask(
        # A Backup vault's task id is a number.
        name=_first(entry, "taskName", "taskId"),
        status=_first(entry, "status", "taskStatus"),
        progress=_first(entry, "taskExecutionDetails", "taskProgress") or shown,
        bytes_done=_size(_dict(entry.get("additionalDetails")).get("DataTransferredInBytes")),
    )


def _size(value: Any) -> int | None:
    """Return a number of bytes, which Azure writes as text."""
    text = _text(value)
    return int(text) if text.isdecimal() and len(text) <= _MOST_DIGITS else None


def _error_of(response: Response) -> tuple[str | None, str]:
    body = _dict(_json(response))
    error = _dict(body.get("error"))
    if not error:  # cross-region operations: {"ErrorCode": .., "Message": {"Value": ..}}
        error = {"code": body.get("ErrorCode"), "message": _dict(body.get("Message")).get("Value")}
    # This may be the page of a proxy, whose first words are better than nothing.
    message = _text(error.get("message")) or " ".join(response.text.split())[:200]
    return _text(error.get("code")) or None, message + _advice(error)


def _advice(error: JsonObject) -> str:
    """Return a Backup vault's cause of an error and its advice, after a blank; empty if there is neither."""
    facing = [_dict(each.get("info")) for each in _dicts(error.get("additionalInfo"))]
    causes = [_cause(_dict(info.get("innerError"))) for info in facing]
    texts = [_text(text).strip() for info in facing for text in _list(info.get("recommendedAction"))]
    cause = f" Cause: {'; '.join(filter(None, causes))}" if any(causes) else ""
    return cause + (cut(f" Recommended: {' '.join(filter(None, texts))}") if any(texts) else "")


def _json(response: Response) -> Any:
    """Return the content of a response; None if it is not JSON or has too many values to be read at once.

    A number that is not finite is read as null.
    """
    if response.text.count(",") > _MOST_VALUES:
        return None
    try:
        body = json.loads(response.text, parse_constant=_no_number, parse_float=_float, parse_int=_int)
        return _cleaned(body) if _ESCAPES.search(response.text) else body
    except (ValueError, RecursionError):
        return None


def _no_number(word: str) -> None:
    """Replace ``NaN``, ``Infinity`` and ``-Infinity``, which Python accepts as JSON, with None."""


def _float(digits: str) -> float | None:
    return found if math.isfinite(found := float(digits)) else None


def _int(digits: str) -> int | None:
    return int(digits) if len(digits) <= _MOST_DIGITS else None


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {clean(name): _cleaned(entry) for name, entry in value.items()}
    return [*map(_cleaned, value)] if isinstance(value, list) else value


def _object(response: Response) -> JsonObject:
    body = _json(response)
    if not isinstance(body, dict):
        raise _unreadable(response, "a JSON object")
    return body


def _unreadable(response: Response, expected: str) -> AzureBackupTransientError:
    return AzureBackupTransientError(
        f"Azure's answer is not {expected}: {' '.join(response.text.split())[:120]!r} "
        f"({response.status} from {urlsplit(response.url).path})",
        status=response.status,
        request_id=response.headers.get("x-ms-request-id"),
    )


def _name(body: JsonObject) -> str:
    return last_segment(_text(body.get("name")) or _text(body.get("id")))


def _number(value: Any) -> float | None:
    try:
        return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
    except OverflowError:
        return None


def _dict(value: Any) -> JsonObject:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _dicts(value: Any) -> list[JsonObject]:
    return [entry for entry in _list(value) if isinstance(entry, dict)]


def _first(body: JsonObject, *names: str) -> str:
    """Return the first text under one of the names that the two services use for one field."""
    return next((text for text in (_text(body.get(name)) for name in names) if text), "")


def _text(value: Any) -> str:
    return "" if value is None or isinstance(value, dict | list) else cut(str(value))

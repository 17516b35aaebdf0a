"""One builder for each REST operation that this provider uses. Builders return a :class:`Request`; they send
nothing.

Source of the paths and bodies: https://learn.microsoft.com/rest/api/backup/
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, TypedDict, Unpack, cast
from urllib.parse import parse_qsl, unquote, urlsplit

from airflow_provider_azbackup.core.model.arm_ids import DATA_PROTECTION, RECOVERY_SERVICES
from airflow_provider_azbackup.core.model.resources import (
    BackupInstance,
    JobRef,
    OperationRef,
    ProtectedItem,
    Vault,
    last_segment,
)
from airflow_provider_azbackup.core.model.validation import (
    cancel_unsupported,
    check_region,
    check_vault_options,
    did_you_mean,
    shown_host,
    unknown_word_error,
)
from airflow_provider_azbackup.core.model.workloads import COMPRESSED, MANAGEMENT_TYPES, WORKLOAD, WORKLOADS
from airflow_provider_azbackup.core.wire import JsonObject, Request, Response
from airflow_provider_azbackup.exceptions import AzureBackupConfigError, AzureBackupTransientError

# The version whose published specification this package was written against; bodies and paths have been
# the same from 2016-12-01 on, so a connection may name another one. Each type of vault has its own versions.
# Microsoft's newest clients (2026-10-01 and 2026-06-01) send the same requests and read the same fields, but
# for the threat status of a recovery point. So the default stays: every cloud knows it, while a version that
# a national cloud does not know yet would fail every request. A request that needs a newer one names it.
API_VERSION = "2024-04-01"
API_VERSIONS = MappingProxyType({RECOVERY_SERVICES: API_VERSION, DATA_PROTECTION: "2024-04-01"})
# From this version on, a recovery point contains the result of the scan for malware; older versions write a
# 0.
RECOVERY_POINT_API_VERSION = "2026-07-01"
# The one version in which Microsoft specifies the secondary region of Recovery Services vaults. Recovery
# points and items have the same paths there as in the region of the vault, so only the version distinguishes
# the two; Microsoft's clients (the passivestamp part of azure-mgmt-recoveryservicesbackup 9.2) send no other.
SECONDARY_REGION_API_VERSION = "2021-11-15"
# The version in which Backup vaults were recorded to answer about their secondary region.
_CROSS_REGION_API_VERSION = "2024-04-01"

# Seconds. Clocks differ by minutes, and the time of Azure's responses is in whole seconds.
SLACK = 600.0
# Microsoft's own tools never ask for the jobs of more than 30 days.
LONGEST_WINDOW = 30 * 24 * 3600.0 - 2 * SLACK


# Azure Resource Graph, and the version of its API. It answers over all subscriptions that it is asked about.
RESOURCE_GRAPH = "/providers/Microsoft.ResourceGraph/resources"
RESOURCE_GRAPH_API_VERSION = "2022-10-01"
# The most rows that it returns on one page.
_ROWS_A_PAGE = 1000


class ItemFilter(TypedDict, total=False):
    """What a list of protected items can be narrowed by, in upper or lower case.

    ``backup_management_type`` is ``AzureIaasVM``, ``AzureStorage`` or ``AzureWorkload``; ``policy`` the name
    of a backup policy; ``state`` one or several of ``Protected``, ``IRPending`` (never backed up),
    ``ProtectionStopped``, ... Items whose backup data is soft-deleted are left out unless ``include_deleted``
    is true.
    """

    backup_management_type: str | None
    policy: str | None
    state: str | Collection[str] | None
    include_deleted: bool


class BackupOptions(TypedDict, total=False):
    """The options of an on-demand backup.

    ``backup_type`` and ``enable_compression`` are for SQL and SAP HANA; anything else takes ``Full``, the
    default, and no compression setting. ``recovery_point_expiry`` is when Azure may delete the recovery
    point; None takes Azure's default, which is 30 days for a VM. Azure keeps an on-demand ``Full`` of SQL and
    SAP HANA for at least 45 days, and does not honour an expiry for ``Differential`` and ``Log``: there the
    policy decides.

    ``rule_name`` and ``retention_tag`` are for Backup vaults: the backup rule of the instance's policy that
    the backup follows, and the tag that says how long it is kept. None takes the one rule that the policy
    has, and the rule's own tag.
    """

    backup_type: str
    enable_compression: bool | None
    recovery_point_expiry: datetime | None
    rule_name: str | None
    retention_tag: str | None


class JobFilter(TypedDict, total=False):
    """What a list of jobs can be narrowed by.

    ``status`` is one of Azure's words, such as ``InProgress``; ``operation`` such as ``Backup``;
    ``backup_management_type`` is ``AzureIaasVM``, ``AzureStorage`` or ``AzureWorkload``, in a Backup vault
    the type of data source, such as ``Microsoft.Compute/disks``; ``started_after`` and ``started_before``
    bound the window of time Azure looks at.
    """

    status: str | None
    operation: str | None
    backup_management_type: str | None
    started_after: datetime | None
    started_before: datetime | None


class RecoveryPointFilter(TypedDict, total=False):
    """What a list of recovery points can be narrowed by.

    ``after`` and ``before`` bound the window of time; Azure is sent both or neither, so a hook adds the one
    that is missing. ``query_type`` is for databases: ``Full``, ``Log`` (the stretches of time their logs
    reach), ``FullAndDifferential``, ``All``, ...
    """

    after: datetime | None
    before: datetime | None
    query_type: str | None


# The words of a Recovery Services vault. In the specification of Backup vaults, they are free text.
STATUSES = ("InProgress", "Completed", "Failed", "CompletedWithWarnings", "Cancelled", "Cancelling")
OPERATIONS = (
    "Register",
    "UnRegister",
    "ConfigureBackup",
    "Backup",
    "Restore",
    "DisableBackup",
    "DeleteBackupData",
    "CrossRegionRestore",
    "Undelete",
    "UpdateCustomerManagedKey",
)
# Management types whose jobs a vault lists, although it does not list their items.
_SERVERS = ("MAB", "DPM", "AzureBackupServer", "AzureSql", "DefaultBackup")
_JOB_WORDS = MappingProxyType(
    {
        "status": STATUSES,
        "operation": OPERATIONS,
        "backup_management_type": (*MANAGEMENT_TYPES, *_SERVERS),
    }
)
_ITEM_WORDS = MappingProxyType(
    {
        "backup_management_type": MANAGEMENT_TYPES,
        "state": (
            "IRPending",
            "Protected",
            "ProtectionError",
            "ProtectionStopped",
            "ProtectionPaused",
            "BackupsSuspended",
        ),
    }
)
_POINT_WORDS = MappingProxyType(
    {
        "query_type": (
            "Full",
            "Log",
            "Differential",
            "FullAndDifferential",
            "All",
            "SnapshotFull",
            "SnapshotCopyOnlyFull",
            "Incremental",
        )
    }
)


def check_keywords(method: str, given: Collection[str], known: type) -> None:
    """Reject keywords that a method does not have: a misspelt one would silently mean the default.

    :param method: for the error.
    :param given: the keywords.
    :param known: the class that lists the keywords of the method.
    :raises AzureBackupConfigError: with the unknown keyword and the known ones.
    """
    words = list(known.__annotations__)
    if unknown := [name for name in given if name not in words]:
        raise AzureBackupConfigError(
            f"{method}() takes no {' and no '.join(unknown)}{did_you_mean(unknown[0], words)}; "
            f"it takes {', '.join(words)}"
        )


def normalize_job_filter(vault: Vault, wanted: JobFilter) -> JobFilter:
    """Return the filter of a list of jobs in Azure's own spelling.

    :raises AzureBackupConfigError: for a word that Azure does not know.
    """
    return wanted if vault.is_backup_vault else cast(JobFilter, _spelled(wanted, _JOB_WORDS))


def normalize_item_filter(vault: Vault, wanted: ItemFilter) -> ItemFilter:
    """Return the filter of a list of protected items in Azure's own spelling.

    :raises AzureBackupConfigError: for a word that Azure does not know.
    """
    if not vault.is_backup_vault:
        return cast(ItemFilter, _spelled(wanted, _ITEM_WORDS))
    if management_type := wanted.get("backup_management_type"):
        raise AzureBackupConfigError(
            f"backup_management_type {management_type!r} is for Recovery Services vaults, and {vault.name} "
            f"is a Backup vault; drop it"
        )
    return wanted


def normalize_recovery_point_filter(vault: Vault, wanted: RecoveryPointFilter) -> RecoveryPointFilter:
    """Return the filter of a list of recovery points in Azure's own spelling.

    :raises AzureBackupConfigError: for a word that Azure does not know.
    """
    if not vault.is_backup_vault:
        return cast(RecoveryPointFilter, _spelled(wanted, _POINT_WORDS))
    if word := wanted.get("query_type"):
        raise AzureBackupConfigError(
            f"query_type {word!r} is for Recovery Services vaults, and {vault.name} is a Backup vault; "
            f"drop it"
        )
    return wanted


def _spelled(wanted: Mapping[str, Any], words: Mapping[str, Collection[str]]) -> dict[str, Any]:
    found = dict(wanted)
    for name, known in words.items():
        value = wanted.get(name)
        if value is None or isinstance(value, str):
            found[name] = _word(name, value, known) if value else None
        elif name == "state" and isinstance(value, Collection) and not isinstance(value, Mapping | bytes):
            found[name] = [_word(name, each, known) for each in value]
        else:
            _word(name, value, known)
    return found


def _word(name: str, value: object, known: Collection[str]) -> str:
    for word in known:
        if isinstance(value, str) and word.casefold() == value.casefold():
            return word
    raise unknown_word_error(name, value, known)


def backup_body(item: ProtectedItem, **options: Unpack[BackupOptions]) -> JsonObject:
    """Return the body that asks for an on-demand backup.

    The body for a backup instance is incomplete if no rule is named: the policy must be read then.

    :param item: what to back up.
    :param options: see :class:`BackupOptions`.
    :raises AzureBackupConfigError: for a workload or a combination that Azure does not accept.

    Source: https://learn.microsoft.com/azure/backup/backup-azure-arm-userestapi-backupazurevms
    """
    backup_type = options.get("backup_type", "Full")
    compression, expiry = options.get("enable_compression"), options.get("recovery_point_expiry")
    rule, tag = options.get("rule_name"), options.get("retention_tag")
    if compression is not None and not isinstance(compression, bool):
        raise AzureBackupConfigError(f"enable_compression is {compression!r}; expected True, False or None")
    check_vault_options(
        item.vault.vault_type,
        cancels=[],
        other_vaults=[
            *([f"backup_type {backup_type!r}"] if backup_type != "Full" else []),
            *([] if compression is None else ["enable_compression"]),
            *([] if expiry is None else ["recovery_point_expiry"]),
        ],
        rules=[*(["rule_name"] if rule else []), *(["retention_tag"] if tag else [])],
    )
    if isinstance(item, BackupInstance):
        return backup_rule_body(rule or "", tag)
    if item.workload not in WORKLOADS:
        raise AzureBackupConfigError(
            f"{item.label!r} cannot be backed up on demand through the REST API; "
            f"expected an item whose name starts with one of {', '.join(WORKLOADS)}"
        )
    request, types = WORKLOADS[item.workload]
    if backup_type not in types:
        raise AzureBackupConfigError(
            f"backup_type {backup_type!r} is not offered for {item.label!r}; expected {_one_of(types)}"
        )
    properties: JsonObject = {"objectType": request}
    if request == WORKLOAD:
        properties["backupType"] = backup_type
    if compression is not None:
        if item.workload not in COMPRESSED:
            raise AzureBackupConfigError(f"enable_compression is for SQL and SAP HANA, not {item.label!r}")
        properties["enableCompression"] = compression
    if expiry is not None:
        properties["recoveryPointExpiryTimeInUTC"] = f"{_utc(expiry):%Y-%m-%dT%H:%M:%SZ}"
    return {"properties": properties}


def trigger_restore(item: ProtectedItem, point_id: str, body: JsonObject) -> Request:
    """Start a restore. The response names an operation. The request is not idempotent.

    Source: https://learn.microsoft.com/rest/api/backup/restores/trigger
    """
    return Request(method="POST", path=f"{item.path}/recoveryPoints/{point_id}/restore", body=body)


# What a vault is asked to validate, by workload, and the api-version that knows it. Databases have a type of
# their own since that version. File shares have none, so the general one of the specification is sent.
_VALIDATIONS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "vm": ("ValidateIaasVMRestoreOperationRequest", ""),
        **dict.fromkeys(
            ("sqldatabase", "saphanadatabase", "saphanadbinstance", "sapasedatabase"),
            ("ValidateAzureWorkloadRestoreOperationRequest", "2026-10-01"),
        ),
    }
)
_ANY_VALIDATION = ("ValidateRestoreOperationRequest", "")


def validate_restore(item: ProtectedItem, point_id: str, body: JsonObject) -> Request:
    """Ask whether a restore would work. The response names an operation.

    Source: https://learn.microsoft.com/rest/api/backup/validate-operation/trigger
    """
    object_type, version = _VALIDATIONS.get(item.workload, _ANY_VALIDATION)
    return Request(
        method="POST",
        path=f"{item.vault.path}/backupTriggerValidateOperation",
        body={
            "id": f"{item.path}/recoveryPoints/{point_id}",
            "properties": {"objectType": object_type, "restoreRequest": body["properties"]},
        },
        api_version=version,
    )


def validate_instance_restore(instance: BackupInstance, request: JsonObject) -> Request:
    """Ask whether a restore of a backup instance would work. The response names an operation.

    Source: https://learn.microsoft.com/rest/api/dataprotection/backup-instances/validate-for-restore and,
    for the secondary region,
    https://learn.microsoft.com/rest/api/dataprotection/backup-instances/validate-cross-region-restore
    """
    body = {"restoreRequestObject": request}
    if instance.vault.secondary:
        return _in_secondary_region(
            instance.vault,
            "validateCrossRegionRestore",
            {**body, "crossRegionRestoreDetails": _source(instance.vault, instance)},
        )
    return Request(method="POST", path=f"{instance.path}/validateRestore", body=body)


def restore_instance(instance: BackupInstance, request: JsonObject) -> Request:
    """Start a restore of a backup instance. The response names an operation. The request is not idempotent.

    Source: https://learn.microsoft.com/rest/api/dataprotection/backup-instances/trigger-restore and, for the
    secondary region,
    https://learn.microsoft.com/rest/api/dataprotection/backup-instances/trigger-cross-region-restore
    """
    if instance.vault.secondary:
        details = _source(instance.vault, instance)
        return _in_secondary_region(
            instance.vault,
            "crossRegionRestore",
            {"restoreRequestObject": request, "crossRegionRestoreDetails": details},
        )
    return Request(method="POST", path=f"{instance.path}/restore", body=request)


def list_permissions(item: ProtectedItem) -> Request:
    """List what the identity of the connection may do with an item, by role.

    Source: https://learn.microsoft.com/rest/api/authorization/permissions/list-for-resource
    """
    return Request(
        method="GET",
        path=f"{item.path}/providers/Microsoft.Authorization/permissions",
        only_api_version="2022-04-01",
    )


def list_guards(vault: Vault) -> Request:
    """List the Resource Guards that protect a vault, with what each of them protects.

    Source: https://learn.microsoft.com/rest/api/backup/resource-guard-proxies/get
    """
    return Request(method="GET", path=f"{vault.path}/backupResourceGuardProxies")


def find_restorable_ranges(instance: BackupInstance) -> Request:
    """Ask for the ranges of time to which a backup instance can be restored. Nothing is started.

    Source: https://learn.microsoft.com/rest/api/dataprotection/restorable-time-ranges/find
    """
    body = {"sourceDataStoreType": "OperationalStore"}
    return Request(method="POST", path=f"{instance.path}/findRestorableTimeRanges", body=body)


def backup_rule_body(rule_name: str, retention_tag: str | None) -> JsonObject:
    """Return the body that asks for a backup of a backup instance by a rule of its policy.

    :param rule_name: the rule.
    :param retention_tag: the tag that determines how long it is kept; None takes the tag of the rule.

    Source: https://learn.microsoft.com/rest/api/dataprotection/backup-instances/adhoc-backup
    """
    option = {"retentionTagOverride": retention_tag} if retention_tag else {}
    return {"backupRuleOptions": {"ruleName": rule_name, "triggerOption": option}}


def get_policy(instance: BackupInstance, policy_id: str) -> Request:
    """Read a policy of a Backup vault.

    :param policy_id: its ARM id. Only the name in it is used, so that no response can lead out of the vault.
    """
    return Request(method="GET", path=f"{instance.vault.path}/backupPolicies/{last_segment(policy_id)}")


def trigger_backup(item: ProtectedItem, body: JsonObject) -> Request:
    """Start an on-demand backup. The response names an operation. The request is not idempotent."""
    return Request(method="POST", path=f"{item.path}/backup", body=body)


def get_operation(ref: OperationRef) -> Request:
    """Ask for an operation, at the vault's own URL rather than the signed one in the response."""
    if region := ref.vault.secondary:
        subscription, provider = f"/subscriptions/{ref.vault.subscription_id}", ref.vault.vault_type
        collection = "operationStatus" if ref.vault.is_backup_vault else "backupCrrOperationsStatus"
        return Request(
            method="GET",
            path=f"{subscription}/providers/Microsoft.{provider}/locations/{region.name}"
            f"/{collection}/{ref.operation_id}",
            **_versions(ref.vault),
        )
    return Request(method="GET", path=ref.path)


def get_job(ref: JobRef) -> Request:
    """Ask how one job stands now.

    Source: https://learn.microsoft.com/azure/backup/backup-azure-arm-userestapi-managejobs and, for the
    secondary region, https://learn.microsoft.com/rest/api/backup/backup-crr-job-details/get and
    https://learn.microsoft.com/rest/api/dataprotection/fetch-cross-region-restore-job/get
    """
    vault = ref.vault
    if vault.secondary and vault.is_backup_vault:
        body = {**_source(vault), "jobId": ref.job_id}
        return _in_secondary_region(vault, "fetchCrossRegionRestoreJob", body)
    if vault.secondary:
        body = {"resourceId": vault.path, "jobName": ref.job_id}
        return _in_secondary_region(vault, "backupCrrJob", body)
    return Request(method="GET", path=ref.path)


def cancel_job(ref: JobRef) -> Request:
    """Ask Azure to cancel a job. The response only says that Azure will try.

    :raises AzureBackupConfigError: for a job of a Backup vault, which Azure cannot cancel.
    """
    if ref.vault.is_backup_vault:
        raise cancel_unsupported(f"to cancel job {ref.job_id} of vault {ref.vault.name}")
    return Request(method="POST", path=f"{ref.path}/cancel")


def list_jobs(vault: Vault, **wanted: Unpack[JobFilter]) -> Request:
    """List the jobs of a vault, narrowed by :class:`JobFilter`. The newest came first in all responses seen.

    A Backup vault lists all its jobs, in no particular order.
    """
    if vault.is_backup_vault:
        if vault.secondary:
            return _in_secondary_region(vault, "fetchCrossRegionRestoreJobs", _source(vault))
        return Request(method="GET", path=f"{vault.path}/backupJobs")
    query = _filter(
        status=wanted.get("status"),
        operation=wanted.get("operation"),
        backupManagementType=wanted.get("backup_management_type"),
        startTime=_twelve_hours(wanted.get("started_after")),
        endTime=_twelve_hours(wanted.get("started_before")),
    )
    if vault.secondary:
        return _in_secondary_region(vault, "backupCrrJobs", {"resourceId": vault.path}, query)
    return Request(method="GET", path=f"{vault.path}/backupJobs", query=query)


def list_protected_items(vault: Vault, backup_management_type: str) -> Request:
    """List the protected items of one management type in a vault: for ``AzureWorkload``, all databases.

    Source: https://learn.microsoft.com/rest/api/backup/backup-protected-items/list and, for the secondary
    region, https://learn.microsoft.com/rest/api/backup/backup-protected-items-crr/list
    """
    return Request(
        method="GET",
        path=f"{vault.path}/backupProtectedItems{'/' if vault.secondary else ''}",
        query=_filter(backupManagementType=backup_management_type),
        **_versions(vault),
    )


def list_instances(vault: Vault) -> Request:
    """List what a Backup vault protects."""
    return Request(method="GET", path=f"{vault.path}/backupInstances")


def list_recovery_points(item: ProtectedItem, **wanted: Unpack[RecoveryPointFilter]) -> Request:
    """List the recovery points of an item. The newest came first in all responses seen.

    A Backup vault lists all of them.

    :raises AzureBackupConfigError: if only one end of the window is given, which Microsoft's own tools never
        do.

    Source: https://learn.microsoft.com/rest/api/backup/recovery-points/list and, for the secondary region,
    https://learn.microsoft.com/rest/api/backup/recovery-points-crr/list and
    https://learn.microsoft.com/rest/api/dataprotection/fetch-secondary-recovery-points/list
    """
    if item.vault.is_backup_vault:
        if item.vault.secondary:
            return _in_secondary_region(item.vault, "fetchSecondaryRecoveryPoints", _source(item.vault, item))
        return Request(method="GET", path=f"{item.path}/recoveryPoints")
    after, before = wanted.get("after"), wanted.get("before")
    if (after is None) is not (before is None):
        raise AzureBackupConfigError(
            f"a list of recovery points was asked for with after={after} and before={before}; give both"
        )
    query = _filter(
        startDate=_twelve_hours(after),
        endDate=_twelve_hours(before),
        restorePointQueryType=wanted.get("query_type"),
    )
    path = f"{item.path}/recoveryPoints"
    if item.vault.secondary:
        return Request(method="GET", path=f"{path}/", query=query, **_versions(item.vault))
    return Request(method="GET", path=path, query=query, api_version=RECOVERY_POINT_API_VERSION)


def backup_status(vm_id: str, region: str) -> Request:
    """Ask which vault protects a virtual machine.

    :param vm_id: its ARM id.
    :param region: its region, such as ``westeurope``.
    :raises AzureBackupConfigError: if the region cannot be the name of one.

    Source: https://learn.microsoft.com/rest/api/backup/backup-status/get
    """
    check_region("region", region)
    subscription = vm_id.split("/")[2]
    return Request(
        method="POST",
        path=f"/subscriptions/{subscription}/providers/Microsoft.RecoveryServices/locations/{region}/backupStatus",
        body={"resourceType": "VM", "resourceId": vm_id},
    )


def get_recovery_point(item: ProtectedItem, point_id: str) -> Request:
    """Ask for one recovery point.

    Source: https://learn.microsoft.com/rest/api/backup/recovery-points/get
    """
    return Request(
        method="GET",
        path=f"{item.path}/recoveryPoints/{point_id}",
        api_version="" if item.vault.is_backup_vault else RECOVERY_POINT_API_VERSION,
    )


def get_protected_item(item: ProtectedItem) -> Request:
    """Ask for one protected item: what it protects, and in which state it is.

    Source: https://learn.microsoft.com/rest/api/backup/protected-items/get
    """
    return Request(method="GET", path=item.path)


def get_vault(vault: Vault) -> Request:
    """Ask for the vault itself: its region, for example."""
    return Request(method="GET", path=vault.path)


def list_vaults(subscription_id: str, vault_type: str = RECOVERY_SERVICES) -> Request:
    """List the vaults of a subscription, for the test of a connection without a vault."""
    collection = "backupVaults" if vault_type == DATA_PROTECTION else "vaults"
    return Request(
        method="GET", path=f"/subscriptions/{subscription_id}/providers/Microsoft.{vault_type}/{collection}"
    )


# The status of a job, and what the jobs of one item have in common.
_ROW = ("status", "containerName", "storageAccountName", "backupInstanceId", "entityFriendlyName")
_RECENT_JOBS = (
    "RecoveryServicesResources "
    "| where type in~ ('microsoft.recoveryservices/vaults/backupjobs', "
    "'microsoft.dataprotection/backupvaults/backupjobs') "
    "| where todatetime(properties.endTime) >= datetime({since}) "
    "or todatetime(properties.startTime) >= datetime({since}) "
    f"| project id, {', '.join(f'{name} = tostring(properties.{name})' for name in _ROW)} "
    "| order by id asc"
)


def query_recent_jobs(subscription_ids: Collection[str], since: datetime, skip_token: str = "") -> Request:
    """Ask Resource Graph for the jobs of both types of vault that began or ended since a moment.

    :param subscription_ids: where to look.
    :param skip_token: of the page before; empty for the first one.

    Source: https://learn.microsoft.com/rest/api/azureresourcegraph/resourcegraph/resources/resources
    """
    query = _RECENT_JOBS.format(since=f"{_utc(since):%Y-%m-%dT%H:%M:%SZ}")
    return _graph(subscription_ids, query, skip_token, without_retries=True)


_VAULTS = (
    "Resources "
    "| where type in~ ('microsoft.recoveryservices/vaults', 'microsoft.dataprotection/backupvaults') "
    "| project id | order by id asc"
)
_ITEMS = (
    "RecoveryServicesResources | where type in~ ("
    "'microsoft.recoveryservices/vaults/backupfabrics/protectioncontainers/protecteditems', "
    "'microsoft.dataprotection/backupvaults/backupinstances') "
    "| project id | order by id asc"
)


def query_vaults(subscription_ids: Collection[str], skip_token: str = "") -> Request:
    """Ask Resource Graph for the vaults of both types. Parameters are those of :func:`query_recent_jobs`.

    Source: https://learn.microsoft.com/azure/governance/resource-graph/reference/supported-tables-resources
    """
    return _graph(subscription_ids, _VAULTS, skip_token, without_retries=True)


def query_items(subscription_ids: Collection[str], skip_token: str = "") -> Request:
    """Ask Resource Graph for the protected items of both types of vault, as :func:`query_vaults` does.

    Source: https://learn.microsoft.com/azure/backup/query-backups-using-azure-resource-graph
    """
    return _graph(subscription_ids, _ITEMS, skip_token, without_retries=True)


def query_vault(vault: Vault) -> Request:
    """Ask Resource Graph where a vault is, and whether its backups can be restored in another region.

    Resource Graph belongs to no region, so it answers while the region of the vault does not.

    Source: https://learn.microsoft.com/azure/governance/resource-graph/reference/supported-tables-resources
    """
    query = f"Resources | where id =~ {_quoted(vault.path)} | project id, location, properties"
    return _graph([vault.subscription_id], query)


def query_instances(vault: Vault, skip_token: str = "") -> Request:
    """Ask Resource Graph for the backup instances of a resource group; no secondary region has a list of its
    own, and Microsoft's CLI asks likewise.

    :param skip_token: of the page before; empty for the first one.

    Source: https://learn.microsoft.com/azure/backup/query-backups-using-azure-resource-graph
    """
    return _graph(
        [vault.subscription_id],
        "RecoveryServicesResources | where type =~ 'microsoft.dataprotection/backupvaults/backupinstances' "
        f"and resourceGroup =~ {_quoted(vault.resource_group_name)} | project id, name, properties, tags "
        "| order by id asc",
        skip_token,
    )


def _graph(
    subscription_ids: Collection[str], query: str, skip_token: str = "", *, without_retries: bool = False
) -> Request:
    options: JsonObject = {"resultFormat": "objectArray", "$top": _ROWS_A_PAGE}
    if skip_token:
        options["$skipToken"] = skip_token
    body: JsonObject = {"subscriptions": [*subscription_ids], "query": query, "options": options}
    return Request(method="POST", path=RESOURCE_GRAPH, body=body, without_retries=without_retries)


def _quoted(text: str) -> str:
    if "'" in text or "\\" in text:
        raise AzureBackupConfigError(f"Resource Graph cannot be asked about {text!r}: remove the quote")
    return f"'{text}'"


def aad_properties(vault: Vault, backup_management_type: str) -> Request:
    """Ask who the secondary region of a Recovery Services vault is in Entra ID.

    Source: https://learn.microsoft.com/rest/api/backup/aad-properties/get
    """
    assert vault.secondary
    # Microsoft's CLI sends no filter for VMs.
    management_type = None if backup_management_type == "AzureIaasVM" else backup_management_type
    return Request(
        method="GET",
        path=f"/subscriptions/{vault.subscription_id}/providers/Microsoft.RecoveryServices"
        f"/locations/{vault.secondary.name}/backupAadProperties",
        query=_filter(backupManagementType=management_type),
        **_versions(vault),
    )


def access_token(item: ProtectedItem, point_id: str, aad: JsonObject) -> Request:
    """Ask for the token with which the secondary region may read one recovery point. The answer is a secret.

    :param aad: the response to :func:`aad_properties`.

    Source: https://learn.microsoft.com/rest/api/backup/recovery-points/get-access-token
    """
    path = f"{item.path}/recoveryPoints/{point_id}/accessToken"
    return Request(method="POST", path=path, body=aad, **_versions(item.vault))


def cross_region_restore(item: ProtectedItem, access: JsonObject, body: JsonObject) -> Request:
    """Start a restore in the secondary region, which is not idempotent. The response names an operation.

    :param access: what the response to :func:`access_token` contains.
    :param body: the request for a restore in the region of the vault.

    Source: https://learn.microsoft.com/rest/api/backup/cross-region-restore/trigger
    """
    restore = {"crossRegionRestoreAccessDetails": access, "restoreRequest": body["properties"]}
    return _in_secondary_region(item.vault, "backupCrossRegionRestore", restore)


class _Versions(TypedDict, total=False):
    api_version: str
    only_api_version: str


def _versions(vault: Vault) -> _Versions:
    """Return the versions of the API that know the secondary region; none for the region of the vault."""
    if not vault.secondary:
        return {}
    if vault.is_backup_vault:
        return {"api_version": _CROSS_REGION_API_VERSION}
    return {"only_api_version": SECONDARY_REGION_API_VERSION}


def _in_secondary_region(
    vault: Vault, operation: str, body: JsonObject, query: tuple[tuple[str, str], ...] = ()
) -> Request:
    """Return a request to the service in the secondary region of a vault."""
    assert vault.secondary
    group = f"/resourceGroups/{vault.resource_group_name}" if vault.is_backup_vault else ""
    return Request(
        method="POST",
        path=f"/subscriptions/{vault.subscription_id}{group}/providers/Microsoft.{vault.vault_type}"
        f"/locations/{vault.secondary.name}/{operation}",
        query=query,
        body=body,
        **_versions(vault),
    )


def _source(vault: Vault, instance: ProtectedItem | None = None) -> JsonObject:
    """Return what a request to the secondary region says of a Backup vault, or of one of its instances."""
    assert vault.secondary
    named = {"sourceBackupInstanceId": instance.path} if instance else {"sourceBackupVaultId": vault.path}
    return {"sourceRegion": vault.secondary.primary, **named}


def next_page(response: Response, link: str) -> Request:
    """Follow a ``nextLink`` on the host that sent it, and on no other.

    :raises AzureBackupTransientError: if the link names another host, which must not receive the token.
    """
    here = urlsplit(response.url)
    if _origin(link) != _origin(response.url):
        raise AzureBackupTransientError(
            f"the next page of a list is not followed, because the token of this connection is for "
            f"{here.netloc} only. Its host: {shown_host(link)!r}"
        )
    there = urlsplit(link)
    query = tuple((name, value) for name, value in parse_qsl(there.query) if name.lower() != "api-version")
    return Request(method="GET", path=unquote(there.path), query=query)


def _origin(url: str) -> tuple[str, str | None, int | None] | None:
    """Return scheme, host and port, or None if it is not a URL. Azure may or may not write the port 443."""
    try:
        parts = urlsplit(url)
        return parts.scheme, parts.hostname, parts.port or {"https": 443, "http": 80}.get(parts.scheme)
    except ValueError:
        return None


def _filter(**wanted: str | None) -> tuple[tuple[str, str], ...]:
    """Return an OData filter.

    :raises AzureBackupConfigError: for a quote, which would end the text in the filter.
    """
    if quoted := [f"{key} {value!r}" for key, value in wanted.items() if value and "'" in value]:
        raise AzureBackupConfigError(f"a list cannot be narrowed by {' or '.join(quoted)}: remove the quote")
    terms = [f"{key} eq '{value}'" for key, value in wanted.items() if value]
    return (("$filter", " and ".join(terms)),) if terms else ()


def _twelve_hours(when: datetime | None) -> str | None:
    if when is None:
        return None
    # strftime's %p follows the locale of the process and may be empty; Azure wants English AM and PM.
    when = _utc(when)
    return f"{when:%Y-%m-%d %I:%M:%S} {'AM' if when.hour < 12 else 'PM'}"


def utc_datetime(at: float) -> datetime:
    """Return a Unix time as a datetime in UTC, as the builders of this module take it."""
    return datetime.fromtimestamp(at, UTC)


def is_between(time: str | None, after: datetime | None, before: datetime | None) -> bool:
    """Whether an ISO 8601 time is in a window. A time that is not known counts as inside."""
    first, last = (
        bound if bound is None or bound.tzinfo else bound.replace(tzinfo=UTC) for bound in (after, before)
    )
    at = datetime.fromisoformat(time) if time else None
    return at is None or ((first is None or at >= first) and (last is None or at <= last))


def _utc(when: datetime) -> datetime:
    return when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)


def _one_of(words: Iterable[str]) -> str:
    return " or ".join(sorted(words))

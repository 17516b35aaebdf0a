"""Subscriptions, vaults, containers, protected items and recovery points as the service writes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from azure_backup_emulator.bodies.times import clock_duration, moment
from azure_backup_emulator.model.items import SOFT_DELETED_DAYS, Database, Item, Protection, Vault
from azure_backup_emulator.model.jobs import Job, Json, Point

# The name of the recovery point that stands for a database's logs; the names of all others are numbers.
RANGE = "DefaultRangeRecoveryPoint"
_ITEM_TYPE = "Microsoft.RecoveryServices/vaults/backupFabrics/protectionContainers/protectedItems"


def subscription(identity: str, tenant: str) -> Json:
    """Return a subscription as https://learn.microsoft.com/rest/api/resources/subscriptions/list shows it."""
    policies = {
        "locationPlacementId": "Public_2014-09-01",
        "quotaId": "PayAsYouGo_2014-09-01",
        "spendingLimit": "Off",
    }
    return {
        "id": f"/subscriptions/{identity}",
        "authorizationSource": "RoleBased",
        "managedByTenants": [],
        "subscriptionId": identity,
        "tenantId": tenant,
        "displayName": "Azure Backup emulator",
        "state": "Enabled",
        "subscriptionPolicies": policies,
    }


def vault(of: Vault) -> Json:
    return {
        "location": of.region,
        "name": of.name,
        "etag": "W/\"datetime'2026-01-01T00%3A00%3A00.0000000Z'\"",
        "properties": {
            "provisioningState": "Succeeded",
            "privateEndpointStateForBackup": "None",
            "privateEndpointStateForSiteRecovery": "None",
            "publicNetworkAccess": "Enabled",
            "redundancySettings": {
                "standardTierStorageRedundancy": "GeoRedundant"
                if of.secondary_region
                else "LocallyRedundant",
                "crossRegionRestore": "Enabled" if of.secondary_region else "Disabled",
            },
        },
        "id": of.path,
        "type": "Microsoft.RecoveryServices/vaults",
        "sku": {"name": "RS0", "tier": "Standard"},
        **({"tags": dict(of.tags)} if of.tags else {}),
    }


def container(of: Item) -> Json:
    """The container of an item; the list spells ``Compute`` where item ids have ``compute``, as recorded."""
    name = of.container.replace(";compute;", ";Compute;")
    return {
        "id": f"{of.vault.path}/backupFabrics/Azure/protectionContainers/{name}",
        "name": name,
        "type": "Microsoft.RecoveryServices/vaults/backupFabrics/protectionContainers",
        "properties": {
            **_CONTAINER[of.workload.management](of),
            "friendlyName": of.parent or of.name,
            "backupManagementType": of.workload.management,
            "registrationStatus": "Registered",
            "healthStatus": "Healthy",
        },
    }


def _vm_container(of: Item) -> Json:
    return {
        "virtualMachineId": of.source_id,
        "virtualMachineVersion": "Compute",
        "resourceGroup": of.group,
        "containerType": "Microsoft.Compute/virtualMachines",
        "protectableObjectType": "Microsoft.Compute/virtualMachines",
    }


def _storage_container(of: Item) -> Json:
    kind = {"containerType": "StorageContainer", "protectableObjectType": "StorageContainer"}
    return {
        "sourceResourceId": of.source_id,
        "storageAccountVersion": "Storage",
        "resourceGroup": of.group,
        **kind,
    }


def _database(of: Item) -> Database:
    database = of.workload.database
    assert database
    return database


def _workload_container(of: Item) -> Json:
    detail = {"status": "Success", "errorDetail": {"code": "Success", "message": "", "recommendations": [""]}}
    database = _database(of)
    hana = database.product == "SAPHana"
    counts = {"protectableItemCount": {"SAPHanaSystem": 1, "SAPHanaDatabase": 2}} if hana else {}
    inquiry = {
        "type": database.product,
        "itemCount": 4,
        "inquiryValidation": {**detail, "additionalDetail": "", **counts},
    }
    return {
        "sourceResourceId": of.source_id,
        "lastUpdatedTime": "2026-01-01T00:00:00.1234567Z",
        "extendedInfo": {
            "hostServerName": of.parent,
            "inquiryInfo": {**detail, "inquiryDetails": [inquiry]},
        },
        "containerType": "VMAppContainer",
        "protectableObjectType": "VMAppContainer",
    }


_CONTAINER = {
    "AzureIaasVM": _vm_container,
    "AzureStorage": _storage_container,
    "AzureWorkload": _workload_container,
}


_AT = ["2026-01-01T22:30:00Z"]
_DAILY = {
    "schedulePolicyType": "SimpleSchedulePolicy",
    "scheduleRunFrequency": "Daily",
    "scheduleRunTimes": _AT,
}
_THIRTY_DAYS = {"count": 30, "durationType": "Days"}
_LONG = {
    "retentionPolicyType": "LongTermRetentionPolicy",
    "dailySchedule": {"retentionTimes": _AT, "retentionDuration": _THIRTY_DAYS},
}
_DAILY_POLICY: Json = {"schedulePolicy": _DAILY, "retentionPolicy": _LONG, "timeZone": "UTC"}
_LOG: Json = {
    "policyType": "Log",
    "schedulePolicy": {"schedulePolicyType": "LogSchedulePolicy", "scheduleFrequencyInMins": 60},
    "retentionPolicy": {"retentionPolicyType": "SimpleRetentionPolicy", "retentionDuration": _THIRTY_DAYS},
}
_POLICY: Mapping[str, Json] = {
    "AzureIaasVM": {"instantRPDetails": {}, **_DAILY_POLICY, "instantRpRetentionRangeInDays": 2},
    "AzureStorage": _DAILY_POLICY,
    "AzureWorkload": {
        "settings": {"timeZone": "UTC", "issqlcompression": False, "isCompression": False},
        "subProtectionPolicy": [
            {"policyType": "Full", "schedulePolicy": _DAILY, "retentionPolicy": _LONG},
            _LOG,
        ],
    },
}


def policy(items: Sequence[Item]) -> Json:
    """The policy of these items: of the kind of the first, with the schedule of Azure's default policies."""
    first = items[0]
    kind = {} if first.kind == "VM" else {"workLoadType": first.workload.item_type}
    return {
        "id": f"{first.vault.path}/backupPolicies/{first.policy}",
        "name": first.policy,
        "type": "Microsoft.RecoveryServices/vaults/backupPolicies",
        "properties": {
            "backupManagementType": first.workload.management,
            **kind,
            **_POLICY[first.workload.management],
            "protectedItemsCount": len(items),
        },
    }


def item(
    of: Item, history: list[Job], now: float, *, protection: Protection, base: str, expand: bool = False
) -> Json:
    """A protected item with what its finished backups made of it.

    :param history: the item's backup jobs, oldest first.
    :param protection: whether it is still backed up.
    :param base: the service's own URL; ``vaultId`` is a full URL, as recorded.
    """
    done = [each for each in history if each.ended(now)]
    points = [each for each in history if each.snapshot_taken(now)]
    common: Json = {
        "friendlyName": of.name,
        "protectionStatus": "Unhealthy" if done and done[-1].ended(now) == "Failed" else "Healthy",
        "protectionState": protection.state or ("Protected" if points else "IRPending"),
        "backupManagementType": of.workload.management,
        "workloadType": of.workload.item_type,
        "containerName": of.container.partition(";")[2] if of.kind == "VM" else of.container,
        "sourceResourceId": of.source_id,
        "policyId": f"{of.vault.path}/backupPolicies/{of.policy}",
        "vaultId": f"{base}{of.vault.path}",
        "isArchiveEnabled": False,
        "softDeleteRetentionPeriod": 0,
    }
    extra = _ITEM[of.workload.management](of, done, points, expand, now)
    if protection.state == STOPPED:
        extra |= {"policyId": ""} | ({"policyName": ""} if "policyName" in extra else {})
    if protection.deleted_at is not None:
        extra |= _deleted(protection.deleted_at, now)
    return {"id": of.path, "name": of.native_name, "type": _ITEM_TYPE, "properties": {**common, **extra}}


STOPPED = "ProtectionStopped"


def _deleted(at: float, now: float) -> Json:
    """What an item says whose data is soft-deleted; the time is that of the deletion, as recorded."""
    return {
        "deferredDeleteTimeInUTC": moment(at),
        "isScheduledForDeferredDelete": True,
        "deferredDeleteTimeRemaining": clock_duration(at + SOFT_DELETED_DAYS * 86400 - now),
        "softDeleteRetentionPeriod": SOFT_DELETED_DAYS,
    }


def _last_status(last: Job, now: float) -> str:
    # The item of a job cancelled in transfer says Failed: recorded.
    ending = last.ended(now) or ""
    return ending if ending in ("Completed", "CompletedWithWarnings") else "Failed"


def _vm_item(of: Item, done: list[Job], points: list[Job], expand: bool, now: float) -> Json:
    extra: Json = {
        "virtualMachineId": of.source_id,
        "healthStatus": "Passed",
        "lastBackupStatus": _last_status(done[-1], now) if done else "",
        "lastBackupTime": moment(done[-1].starts) if done else "2001-01-01T00:00:00Z",
        "protectedItemDataId": str(of.number()),
        "protectedItemType": "Microsoft.Compute/virtualMachines",
        "policyName": of.policy,
    }
    if done:
        extra["healthDetails"] = [
            {
                "code": 400239,
                "title": "IaasVmHealthGreenDefault",
                "message": "Backup pre-check status of this virtual machine is OK.",
                "recommendations": [],
            }
        ]
    if points:
        extra["lastRecoveryPoint"] = moment(points[-1].point_at)
    if expand:
        extra["extendedInfo"] = {"recoveryPointCount": len(points), "policyInconsistent": False}
    return extra


def _storage_item(of: Item, done: list[Job], points: list[Job], expand: bool, now: float) -> Json:
    last: Json = {"lastBackupStatus": _last_status(done[-1], now) if done else "IRPending"}
    if done:
        last["lastBackupTime"] = moment(done[-1].starts)
    return {**last, "protectedItemType": "AzureFileShareProtectedItem"}


def _workload_item(of: Item, done: list[Job], points: list[Job], expand: bool, now: float) -> Json:
    sql = of.kind == "SQLDataBase"
    health = "IRPending"
    if done:
        health = "Unhealthy" if _last_status(done[-1], now) == "Failed" else "Healthy"
    extended: Json = {"recoveryPointCount": len(points), "policyState": "Consistent"}
    extra: Json = {
        "serverName": of.parent,
        "parentName": of.system.upper(),
        "parentType": _database(of).system_type,
        "lastBackupStatus": health,
        "protectedItemDataSourceId": str(of.number()),
        "protectedItemHealthStatus": health,
        "protectedItemType": _database(of).protected_type,
        "extendedInfo": {**extended, **({"recoveryModel": "SIMPLE"} if sql else {})},
    }
    if done:
        extra["lastBackupTime"] = moment(done[-1].starts)
    else:
        extra["lastBackupErrorDetail"] = {"code": "Success", "message": ""}
    if points:
        extra["lastRecoveryPoint"] = moment(points[-1].point_at)
        extra["extendedInfo"]["oldestRecoveryPoint"] = moment(points[0].point_at)
    return extra


_ITEM = {"AzureIaasVM": _vm_item, "AzureStorage": _storage_item, "AzureWorkload": _workload_item}
_NOT_MOVABLE = {
    "ArchivedRP": {
        "isReadyForMove": False,
        "additionalInfo": "We're still determining if this Recovery Point can be moved.. "
        "Please check again after some time.",
    }
}


def point_name(of: Job) -> str:
    """The decimal name of the recovery point a backup job made."""
    return str(of.item.number(of.id))


def recovery_point(of: Job, now: float, version: str) -> Json:
    """The recovery point a backup job made. Data still in transfer is in the instant tier only.

    :param version: the api-version that was asked for; threats are shown in words by newer ones alone.
    """
    at = of.point_at
    whole = of.ended(now) == "Completed"
    properties = _POINT[of.item.workload.management](of, at, whole)
    return {
        "id": f"{of.item.path}/recoveryPoints/{point_name(of)}",
        "name": point_name(of),
        "type": f"{_ITEM_TYPE}/recoveryPoints",
        "properties": properties | _marks(of, at, version),
    }


_TIER_NUMBERS = {"InstantRP": 1, "HardenedRP": 2, "ArchivedRP": 3}
_STATE_NUMBERS = {"Valid": 1, "Disabled": 2, "Deleted": 3, "Rehydrated": 4}


def _tiers(of: Job, *known: str) -> list[Json]:
    """The tiers of a point, as its job leaves them or as planned; numbers were written until March 2022."""
    found: dict[Any, Any] = dict(of.point.tiers or dict.fromkeys(known, "Valid"))
    if "numeric-tiers" in of.quirks:
        found = {_TIER_NUMBERS[tier]: _STATE_NUMBERS[state] for tier, state in found.items()}
    return [{"type": tier, "status": state} for tier, state in found.items()]


def _marks(of: Job, at: float, version: str) -> Json:
    """What Azure says of a point that is not as it should be, or not of the whole item."""
    point, found = of.point, Json()
    if point.partial:
        found["isPartialRP"] = True
    if point.soft_deleted or point.expires is not None:
        expiry = {} if point.expires is None else {"expiryTime": moment(at + point.expires)}
        found["recoveryPointProperties"] = {**expiry, "isSoftDeleted": point.soft_deleted}
    if point.threat is not None:
        words = version >= THREATS_FROM
        found["threatStatus"] = point.threat if words else 0
        if words and point.threat in ("UnHealthy", "Warning"):
            found["threatInfo"] = [_threat(at, point.threat)]
    if of.item.kind == "VM" and (point.excluded or point.disks > 1):
        found["recoveryPointDiskConfiguration"] = _disks(point)
    return found


THREATS_FROM = "2026-07-01"


def _threat(at: float, status: str) -> Json:
    when = moment(at)[:-1]  # without a zone, as recorded
    return {
        "threatTitle": "Ransomware indicators were detected",
        "threatDescription": "Ransomware indicators were detected",
        "lastUpdatedTime": when,
        "threatState": "Active",
        "threatStartTime": when,
        "threatEndTime": when,
        "threatURI": "https://portal.azure.com/#blade/Microsoft_Azure_Security/AlertBlade/alertId/emulated",
        "threatSeverity": "High" if status == "UnHealthy" else "Warning",
    }


def disk_names(point: Point) -> tuple[list[str], list[str]]:
    """The disks of a VM that are in a backup, and those that were left out."""
    named = ["os-disk", *(f"data-disk-{number}" for number in range(point.disks))]
    known = [name for name in named if name not in point.excluded][: point.disks - len(point.excluded)]
    return known, list(point.excluded)


def _disks(point: Point) -> Json:
    included, excluded = disk_names(point)
    number = iter(range(point.disks))
    lists = [
        [{"lun": next(number) - 1, "name": name} for name in names] for names in (included, excluded)
    ]  # the OS disk is number -1, as the command line counts
    return {
        "numberOfDisksIncludedInBackup": len(included),
        "numberOfDisksAttachedToVm": point.disks,
        "includedDiskList": lists[0],
        "excludedDiskList": lists[1],
    }


def log_range(of: Item, first: float, last: float) -> Json:
    """The entry that stands for a database's logs."""
    return {
        "id": f"{of.path}/recoveryPoints/{RANGE}",
        "name": RANGE,
        "type": f"{_ITEM_TYPE}/recoveryPoints",
        "properties": {
            "objectType": f"{_database(of).points}PointInTimeRecoveryPoint",
            "type": "Log",
            "timeRanges": [{"startTime": moment(first), "endTime": moment(last)}],
        },
    }


def _vm_point(of: Job, at: float, whole: bool) -> Json:
    tiers = ["InstantRP", "HardenedRP"] if whole else ["InstantRP"]
    return {
        "objectType": "IaasVMRecoveryPoint",
        "recoveryPointType": of.consistency,
        "recoveryPointTime": moment(at),
        "recoveryPointAdditionalInfo": "",
        "sourceVMStorageType": "PremiumVMOnPartialPremiumStorage",
        "isSourceVMEncrypted": False,
        "isInstantIlrSessionActive": False,
        "recoveryPointTierDetails": _tiers(of, *tiers),
        "isManagedVirtualMachine": True,
        "virtualMachineSize": "Standard_DS1_v2",
        "originalStorageAccountOption": False,
        "osType": "Windows",
        "recoveryPointMoveReadinessInfo": _NOT_MOVABLE,
        "securityType": "None",
        "isPrivateAccessEnabledOnAnyDisk": False,
    }


def _storage_point(of: Job, at: float, whole: bool) -> Json:
    share = f"https://{of.item.parent}.file.core.windows.net/{of.item.name}"
    return {
        "objectType": "AzureFileShareRecoveryPoint",
        "recoveryPointType": "FileSystemConsistent",
        "recoveryPointTime": moment(int(at)),
        "fileShareSnapshotUri": f"{share}?sharesnapshot={moment(int(at))[:-1]}.0000000Z",
        "recoveryPointSizeInGB": 0,
        "recoveryPointTierDetails": _tiers(of, "InstantRP"),
    }


def _workload_point(of: Job, at: float, whole: bool) -> Json:
    database = _database(of.item)
    return {
        "objectType": f"{database.points}RecoveryPoint",
        "recoveryPointTimeInUTC": moment(at),
        "type": of.backup_type.replace("CopyOnly", ""),
        "recoveryPointTierDetails": _tiers(of, database.tier),
        "recoveryPointMoveReadinessInfo": _NOT_MOVABLE,
    }


_POINT = {"AzureIaasVM": _vm_point, "AzureStorage": _storage_point, "AzureWorkload": _workload_point}


def backup_status(of: Item | None, machine: str, group: str) -> Json:
    """Return which vault protects a VM. An unprotected VM gets the names that it would have."""
    names: Json = {
        "fabricName": "Azure",
        "containerName": f"iaasvmcontainer;iaasvmcontainerv2;{group};{machine}",
        "protectedItemName": f"vm;iaasvmcontainerv2;{group};{machine}",
        "errorCode": "Success",
        "errorMessage": "",
    }
    if of is None:
        return {"protectionStatus": "NotProtected", **names}
    return {"protectionStatus": "Protected", "vaultId": of.vault.path, "policyName": of.policy, **names}


_LOCALISED = {
    "AzureIaasVM": "Azure Virtual Machine",
    "AzureStorage": "Azure Storage (Azure Files)",
    "AzureWorkload": "SQL in Azure VM",
}


def usage(management: str, count: int) -> Json:
    name: Any = {"value": management, "localizedValue": _LOCALISED[management]}
    return {"unit": "Count", "currentValue": count, "limit": -1, "name": name}

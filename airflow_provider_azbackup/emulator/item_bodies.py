"""Subscriptions, vaults, containers, protected items and recovery points as the service writes them."""

from __future__ import annotations

from typing import Any

from airflow_provider_azbackup.emulator.items import Item, Vault
from airflow_provider_azbackup.emulator.jobs import Job, Json
from airflow_provider_azbackup.emulator.restores import RANGE
from airflow_provider_azbackup.emulator.times import moment

_ITEM_TYPE = "Microsoft.RecoveryServices/vaults/backupFabrics/protectionContainers/protectedItems"


def subscription(identity: str, tenant: str) -> Json:
    """A subscription as https://learn.microsoft.com/rest/api/resources/subscriptions/list shows it."""
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
        },
        "id": of.path,
        "type": "Microsoft.RecoveryServices/vaults",
        "sku": {"name": "RS0", "tier": "Standard"},
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


def _workload_container(of: Item) -> Json:
    detail = {"status": "Success", "errorDetail": {"code": "Success", "message": "", "recommendations": [""]}}
    counts = (
        {}
        if of.kind == "SQLDataBase"
        else {"protectableItemCount": {"SAPHanaSystem": 1, "SAPHanaDatabase": 2}}
    )
    inquiry = {
        "type": "SQL" if of.kind == "SQLDataBase" else "SAPHana",
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


def item(of: Item, history: list[Job], now: float, *, base: str, expand: bool = False) -> Json:
    """A protected item with what its finished backups made of it.

    :param history: the item's backup jobs, oldest first.
    :param base: the service's own URL; ``vaultId`` is a full URL, as recorded.
    """
    done = [each for each in history if each.ended(now)]
    points = [each for each in history if each.snapshot_taken(now)]
    common: Json = {
        "friendlyName": of.name,
        "protectionStatus": "Healthy",
        "protectionState": "Protected" if points else "IRPending",
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
    return {"id": of.path, "name": of.native_name, "type": _ITEM_TYPE, "properties": {**common, **extra}}


def _last_status(last: Job, now: float) -> str:
    # The item of a job cancelled in transfer says Failed: recorded.
    return "Completed" if last.ended(now) == "Completed" else "Failed"


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
        extra["lastRecoveryPoint"] = moment(points[-1].starts + points[-1].point_after)
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
        health = "Healthy" if _last_status(done[-1], now) == "Completed" else "Unhealthy"
    extended: Json = {"recoveryPointCount": len(points), "policyState": "Consistent"}
    extra: Json = {
        "serverName": of.parent,
        "parentName": of.instance.upper() if sql else "HXE",
        "parentType": "AzureVmWorkloadSQLInstance" if sql else "AzureVmWorkloadSAPHanaSystem",
        "lastBackupStatus": health,
        "protectedItemDataSourceId": str(of.number()),
        "protectedItemHealthStatus": health,
        "protectedItemType": "AzureVmWorkloadSQLDatabase" if sql else "AzureVmWorkloadSAPHanaDatabase",
        "extendedInfo": {**extended, **({"recoveryModel": "SIMPLE"} if sql else {})},
    }
    if done:
        extra["lastBackupTime"] = moment(done[-1].starts)
    else:
        extra["lastBackupErrorDetail"] = {"code": "Success", "message": ""}
    if points:
        extra["lastRecoveryPoint"] = moment(points[-1].starts + points[-1].point_after)
        extra["extendedInfo"]["oldestRecoveryPoint"] = moment(points[0].starts + points[0].point_after)
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


def recovery_point(of: Job, now: float) -> Json:
    """The recovery point a backup job made. Data still in transfer is in the instant tier only."""
    at = of.starts + of.point_after
    whole = of.ended(now) == "Completed"
    return {
        "id": f"{of.item.path}/recoveryPoints/{point_name(of)}",
        "name": point_name(of),
        "type": f"{_ITEM_TYPE}/recoveryPoints",
        "properties": _POINT[of.item.workload.management](of, at, whole),
    }


def log_range(of: Item, first: float, last: float) -> Json:
    """The entry that stands for a database's logs."""
    sql = of.kind == "SQLDataBase"
    return {
        "id": f"{of.path}/recoveryPoints/{RANGE}",
        "name": RANGE,
        "type": f"{_ITEM_TYPE}/recoveryPoints",
        "properties": {
            "objectType": f"AzureWorkload{'SQL' if sql else 'SAPHana'}PointInTimeRecoveryPoint",
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
        "recoveryPointTierDetails": [{"type": tier, "status": "Valid"} for tier in tiers],
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
        "recoveryPointTierDetails": [{"type": "InstantRP", "status": "Valid"}],
    }


def _workload_point(of: Job, at: float, whole: bool) -> Json:
    sql = of.item.kind == "SQLDataBase"
    return {
        "objectType": f"AzureWorkload{'SQL' if sql else 'SAPHana'}RecoveryPoint",
        "recoveryPointTimeInUTC": moment(at),
        "type": of.backup_type.replace("CopyOnly", ""),
        "recoveryPointTierDetails": [{"type": "HardenedRP", "status": "Valid"}],
        "recoveryPointMoveReadinessInfo": _NOT_MOVABLE,
    }


_POINT = {"AzureIaasVM": _vm_point, "AzureStorage": _storage_point, "AzureWorkload": _workload_point}


def backup_status(of: Item | None, machine: str, group: str) -> Json:
    """Which vault protects a machine; an unprotected one still gets the names it would have."""
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

"""JSON as the recorded service writes it: one function per resource, dates and durations included."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow_provider_azbackup.emulator.model import Item, Job, Json, Operation, Vault

NEVER = "0001-01-01T00:00:00"  # without a zone, as recorded
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ITEM_TYPE = "Microsoft.RecoveryServices/vaults/backupFabrics/protectionContainers/protectedItems"


def moment(at: float) -> str:
    """Unix time as .NET prints it: up to seven digits of a second, trailing zeros cut."""
    ticks = round(at * 10_000_000)
    whole = _EPOCH + timedelta(seconds=ticks // 10_000_000)
    fraction = f".{ticks % 10_000_000:07}".rstrip("0").rstrip(".")
    return f"{whole:%Y-%m-%dT%H:%M:%S}{fraction}Z"


def american(at: float) -> str:
    """Unix time as property bags print it: ``6/19/2023 12:00:00 AM``, whatever the locale of this process."""
    when = _EPOCH + timedelta(seconds=int(at))
    half = "AM" if when.hour < 12 else "PM"
    return f"{when.month}/{when.day}/{when.year} {when.hour % 12 or 12}:{when:%M:%S} {half}"


def duration(seconds: float) -> str:
    """Seconds in ISO 8601, negative ones included: ``PT41M18.0540469S``, ``-PT4M20.8890416S``."""
    sign, ticks = ("-" if seconds < 0 else ""), round(abs(seconds) * 10_000_000)
    minutes, rest = divmod(ticks, 600_000_000)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    secs = f"{rest / 10_000_000:.7f}".rstrip("0").rstrip(".")
    parts = (("H", hours), ("M", minutes))
    time = "".join(f"{value}{unit}" for unit, value in parts if value)
    tail = f"{secs}S" if secs != "0" or not (time or days) else ""
    return f"{sign}P{f'{days}D' if days else ''}{'T' if time or tail else ''}{time}{tail}"


def clock_duration(seconds: float) -> str:
    """Seconds as samples of 2016 to 2018 have them: ``00:20:23.0896697``, ``1.09:22:25.7992056``."""
    whole, ticks = divmod(round(seconds * 10_000_000), 10_000_000)
    minutes, secs = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return f"{f'{days}.' if days else ''}{hours:02}:{minutes:02}:{secs:02}.{ticks:07}"


def activity(job: Job) -> str:
    text = hashlib.sha256(job.id.encode()).hexdigest()
    return f"{text[:8]}-{text[8:12]}-11ed-{text[12:16]}-c8f750f92764"


# errorDetails by operation, ending and kind of item, as recorded; "" is any kind.
_ERRORS: Mapping[tuple[str, str, str], Json] = {
    ("Backup", "Failed", "VM"): {
        "errorCode": 400095,
        "errorTitle": "UserErrorGuestAgentStatusUnavailable",
        "errorString": "VM agent unable to communicate with Azure Backup.",
        "recommendations": ["Make sure the VM agent is installed, running and has network connectivity."],
    },
    ("Backup", "Failed", "AzureFileShare"): {
        "errorCode": 1073871825,
        "errorString": "Microsoft Azure Backup encountered an internal error.",
        "recommendations": [
            "Wait for a few minutes and then try the operation again. If the issue persists, please contact "
            "Microsoft support."
        ],
    },
    ("Backup", "Failed", ""): {
        "errorCode": 520010,
        "errorTitle": "UserErrorVMInternetConnectivityIssue",
        "errorString": "The VM is not able to contact Azure service due to internet connectivity issues.",
        "recommendations": ["Ensure that the VM has outbound network connectivity to Azure Backup."],
    },
    ("Restore", "Failed", "VM"): {
        "errorCode": 400048,
        "errorTitle": "UserErrorBCMRestoreStorageAccountNotFound",
        "errorString": "Storage Account specified for Restore operation doesn't exist.",
        "recommendations": ["Make sure that the storage account exists till restore operation is completed."],
    },
    ("Restore", "Failed", "SQLDataBase"): {
        "errorCode": 520123,
        "errorTitle": "UserErrorRestoreFailedTargetFileAlreadyExists",
        "errorString": "The target file already exists.",
        "recommendations": ["Restore with the overwrite option, or to another path."],
    },
    ("Restore", "Failed", "SAPHanaDatabase"): {
        "errorCode": 520512,
        "errorTitle": "UserErrorIncompatibleSrcTargetSystemsForRestore",
        "errorString": "The source and target systems for restore are incompatible.",
        "recommendations": ["Case 1: SYSTEMDB cannot be renamed during restore."],
    },
    ("", "CompletedWithWarnings", ""): {
        "errorCode": 320001,
        "errorTitle": "ResourceNotFound",
        "errorString": "Could not perform the operation as VM no longer exists.",
        "recommendations": [
            "Stop protecting virtual machine without deleting backup data. More details at "
            "http://go.microsoft.com/fwlink/?LinkId=808124 "
        ],
    },
    ("", "Cancelled", ""): {
        "errorCode": 400158,
        "errorTitle": "UserErrorJobSuccessfullyCancelled",
        "errorString": "Job is cancelled.",
        "recommendations": [],
    },
}


def _error_details(job: Job, ending: str) -> list[Json]:
    if ending == "Completed":
        return []
    ending = "Cancelled" if ending == "CancelledInTransfer" else ending
    keys = [
        (operation, ending, kind) for operation in (job.operation, "Backup", "") for kind in (job.item.kind, "")
    ]
    known = next(_ERRORS[key] for key in keys if key in _ERRORS)
    found = dict(known if job.error is None or ending == "Cancelled" else job.error)
    if job.item.kind == "AzureFileShare":
        found.pop("errorTitle", None)  # storage jobs have no titles
    return [found]


def job(of: Job, now: float, *, vault_path: str, full: bool) -> Json:
    """A job as it stands.

    :param vault_path: the vault's path as the caller spelt it; Azure echoes the spelling in the id.
    :param full: with ``extendedInfo``, which lists leave out.
    """
    ending = of.ended(now)
    until = min(now, of.finish()[0])
    quirks = of.quirks
    properties: Json = {
        "jobType": of.item.workload.job_type + ("V2" if "v2-job-types" in quirks else ""),
        "duration": _duration(of, until - of.starts, ending),
        **_JOB_PROPERTIES[of.item.workload.management](of, now),
        "entityFriendlyName": _entity(of, now),
        "backupManagementType": of.item.workload.management,
        "operation": _operation_word(of, now),
        "status": of.status(now),
        "startTime": moment(of.starts),
        "activityId": activity(of),
    }
    if _shows_actions(of):
        properties["actionsInfo"] = [1] if "integer-actions" in quirks else ["Cancellable"]
    if ending:
        properties["endTime"] = moment(until)
        if details := _error_details(of, ending):
            properties["errorDetails"] = details
    if full:
        properties["extendedInfo"] = _EXTENDED[of.item.workload.management](of, now)
    return {
        "id": f"{vault_path}/backupJobs/{of.id}",
        "name": of.id,
        "type": "Microsoft.RecoveryServices/vaults/backupJobs",
        "properties": properties,
    }


def _duration(of: Job, seconds: float, ending: str | None) -> str:
    if "negative-duration" in of.quirks and not ending:
        return duration(-260.8890416)
    return clock_duration(seconds) if "clock-duration" in of.quirks else duration(seconds)


def _shows_actions(of: Job) -> bool:
    # Recorded: absent from configuration jobs and from most file share backups, there on everything else,
    # finished or not.
    return of.operation == "Restore" or (of.operation == "Backup" and of.item.kind != "AzureFileShare")


def _settled(of: Job, now: float) -> bool:
    """Whether a workload job has begun in earnest; before, it has neither task nor workload type."""
    return any(status != "NotStarted" for _, status, _, _ in of.tasks(now))


def _operation_word(of: Job, now: float) -> str:
    if of.item.workload.management != "AzureWorkload" or not _settled(of, now):
        return of.operation
    if of.operation == "Restore":
        return {"Failed": "Restore (Invalid)"}.get(of.ended(now) or "", "Restore (Full)")
    return f"{of.operation} ({of.backup_type})"


def _entity(of: Job, now: float) -> str:
    if of.item.kind == "SAPHanaDatabase":
        return f"{of.item.name.upper()} [{of.item.parent}]"
    if of.item.kind == "SQLDataBase" and _settled(of, now):
        return f"{of.item.name} [{of.item.parent}]"
    return of.item.name


def _vm_properties(of: Job, now: float) -> Json:
    return {"containerName": of.item.container.partition(";")[2], "virtualMachineVersion": "Compute"}


def _storage_properties(of: Job, now: float) -> Json:
    version = "ClassicCompute" if of.operation == "Restore" else "MicrosoftStorage"
    return {
        "storageAccountName": of.item.parent,
        "storageAccountVersion": version,
        "isUserTriggered": False,  # false even for an ad hoc backup, as recorded
    }


def _workload_properties(of: Job, now: float) -> Json:
    kind = {"workloadType": of.item.kind} if _settled(of, now) else {}
    return {**kind, "isUserTriggered": True}


_JOB_PROPERTIES = {
    "AzureIaasVM": _vm_properties,
    "AzureStorage": _storage_properties,
    "AzureWorkload": _workload_properties,
}


def _vm_extended(of: Job, now: float) -> Json:
    if of.operation == "Restore":
        return _vm_restore_extended(of, now)
    if of.operation != "Backup":
        return {"tasksList": [], "propertyBag": {"VM Name": of.item.name, "Policy Name": "DefaultPolicy"}}
    ending = of.ended(now)
    bag = {"VM Name": of.item.name}
    if of.expiry is not None:
        bag["Recovery Point Expiry Time in UTC"] = american(of.expiry // 86400 * 86400)
    if ending:
        size = of.item.number("size") % 20_000 + 1_000 if ending == "Completed" else 0
        bag["Backup Size"] = f"{size} MB"
    return {
        "tasksList": [_vm_task(of, now, *task) for task in of.tasks(now)],
        "propertyBag": bag,
        "internalPropertyBag": {"IsInstantRpJob": "True"},
    }


def _vm_task(of: Job, now: float, name: str, status: str, begins: float | None, ends: float | None) -> Json:
    lasted = 0.0 if begins is None else (ends if ends is not None else now) - begins
    task: Json = {
        "taskId": name,
        "startTime": NEVER if begins is None else moment(begins),
        "endTime": NEVER if ends is None else moment(ends),
        "duration": duration(lasted),
        "status": status,
    }
    if status == "InProgress" and name.startswith("Transfer"):
        task["taskExecutionDetails"] = _transferred(of, now)
    return task


def _transferred(of: Job, now: float) -> str:
    return f"{round(127 * of.share_done(now), 2):g} GBs / 127 GBs Transferred"


def _vm_restore_extended(of: Job, now: float) -> Json:
    ending = of.ended(now)
    account = str(of.request.get("storageAccountId", "")).rpartition("/")[2]
    bag = {
        "Job Type": "Recover disks",
        "Target VM Name": "vmName",
        "Target Storage Account Name": account,
        "Recovery point time ": american(of.request.get("pointTime", of.starts)),
    }
    blobs = f"https://{account}.blob.core.windows.net/{of.item.name}-{of.id}"
    if ending == "Completed":
        bag["Config Blob Name"] = f"config-{of.item.name}-{of.id}.json"
        bag["Config Blob Container Name"] = f"{of.item.name}-{of.id}"
        bag["Config Blob Uri"] = f"{blobs}/config-{of.item.name}-{of.id}.json"
        bag["Template Blob Uri"] = f"{blobs}/azuredeploy{of.id}.json"
    task: Json = {"taskId": "Transfer data from vault", "duration": "PT0S", "status": of.tasks(now)[0][1]}
    progress: Json = {"progressPercentage": float(max(1, int(of.share_done(now) * 100)))}
    if of.share_done(now) > 0.01:
        task["taskExecutionDetails"] = _transferred(of, now)
        left = 0.0 if ending else max(0.0, of.starts + of.lasts - now)
        progress["estimatedRemainingDuration"] = duration(left)
    return {
        "tasksList": [task],
        "propertyBag": bag,
        "internalPropertyBag": {"restoreLocationType": "RestoreDisks"},
        **progress,
    }


def _storage_extended(of: Job, now: float) -> Json:
    if of.operation == "Restore":
        bag = {
            "Source File Share Name": of.item.name,
            "Source Storage Account Name": of.item.parent,
            "Job Type": "Recovering to the original file share",
            "RestoreDestination": f"{of.item.parent}/{of.item.name}/",
            "Data Transferred (in MB)": "0",
            "Number Of Restored Files": "0",
            "Number Of Skipped Files": "0",
            "Number Of Failed Files": "0",
        }
        if of.ended(now):
            bag["RestoreRecoveryPointTime"] = american(of.request.get("pointTime", of.starts))
        return {"tasksList": [], "propertyBag": bag}
    bag = {
        "Data Transferred (in MB)": "0",
        "File Share Name": of.item.name,
        "Whether job is adhoc or scheduled.": "True",
    }
    return {"tasksList": _plain_tasks(of, now), "propertyBag": bag}


def _workload_extended(of: Job, now: float) -> Json:
    ending = of.ended(now)
    bag: Json = {}
    if ending:
        bag["Data Transferred (in MB)"] = "20.1147" if ending == "Completed" else "0"
    if of.operation == "Restore":
        bag["Job Type"] = "Recovery to an alternate database"
        if ending:
            bag["RestoreDestination"] = f"{of.item.parent}./{of.request.get('targetInfo', {}).get('databaseName', '')}"
    extended: Json = {"tasksList": _plain_tasks(of, now), "propertyBag": bag}
    if of.operation == "Restore" and ending == "Failed":
        extended["dynamicErrorMessage"] = "[HanaHelper]: Src and Target are incompatible containers SDC/SystemDB"
    return extended


def _plain_tasks(of: Job, now: float) -> list[Json]:
    return [{"taskId": name, "status": status} for name, status, _, _ in of.tasks(now) if status != "NotStarted"]


_EXTENDED = {"AzureIaasVM": _vm_extended, "AzureStorage": _storage_extended, "AzureWorkload": _workload_extended}


def operation(of: Operation, now: float) -> Json:
    """An operation's status: where the job id comes from."""
    body: Json = {
        "id": of.id,
        "name": of.id,
        "status": "InProgress",
        "startTime": moment(of.starts),
        "endTime": NEVER,
    }
    if now < of.ready or of.ending == "InProgress":
        return body
    body["endTime"] = body["startTime"]
    if of.error is not None:
        return {**body, "status": "Failed", "error": dict(of.error)}
    body["status"] = "Succeeded"
    if of.job is None or of.ending == "NoProperties":
        return body
    if of.ending == "JobIds":
        several: Json = {"jobIds": [of.job.id], "failedJobsError": {}}
        return {**body, "properties": {"objectType": "OperationStatusJobsExtendedInfo", **several}}
    name = of.job.id
    if "arm-job-id" in of.job.quirks:
        name = f"{of.job.item.vault.path}/backupJobs/{name}"
    return {**body, "properties": {"objectType": "OperationStatusJobExtendedInfo", "jobId": name}}


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
    """The container of an item. The list spells ``Compute`` with a capital where item ids do not, as recorded."""
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
    return {"sourceResourceId": of.source_id, "storageAccountVersion": "Storage", "resourceGroup": of.group, **kind}


def _workload_container(of: Item) -> Json:
    detail = {"status": "Success", "errorDetail": {"code": "Success", "message": "", "recommendations": [""]}}
    inquiry = {
        "type": "SQL" if of.kind == "SQLDataBase" else "SAPHana",
        "itemCount": 4,
        "inquiryValidation": {**detail, "additionalDetail": ""},
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
        "policyId": f"{of.vault.path}/backupPolicies/DefaultPolicy",
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
        "policyName": "DefaultPolicy",
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
        "parentName": "MSSQLSERVER" if sql else "HXE",
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
        "additionalInfo": "We're still determining if this Recovery Point can be moved.. Please check again after "
        "some time.",
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


def _vm_point(of: Job, at: float, whole: bool) -> Json:
    tiers = ["InstantRP", "HardenedRP"] if whole else ["InstantRP"]
    return {
        "objectType": "IaasVMRecoveryPoint",
        "recoveryPointType": "AppConsistent",
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
        "type": of.backup_type,
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
    return {"protectionStatus": "Protected", "vaultId": of.vault.path, "policyName": "DefaultPolicy", **names}


_LOCALISED = {
    "AzureIaasVM": "Azure Virtual Machine",
    "AzureStorage": "Azure Storage (Azure Files)",
    "AzureWorkload": "SQL in Azure VM",
}


def usage(management: str, count: int) -> Json:
    name: Any = {"value": management, "localizedValue": _LOCALISED[management]}
    return {"unit": "Count", "currentValue": count, "limit": -1, "name": name}

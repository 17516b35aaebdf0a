"""Jobs and operations as the recorded service writes them, with the differences between kinds of items."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from azure_backup_emulator.bodies.items import disk_names
from azure_backup_emulator.bodies.times import NEVER, american, clock_duration, duration, moment
from azure_backup_emulator.model.jobs import Job, Json, Operation, older_vm_jobs
from azure_backup_emulator.model.obstacles import OBSTACLES


def activity(job: Job) -> str:
    text = hashlib.sha256(job.id.encode()).hexdigest()
    return f"{text[:8]}-{text[8:12]}-11ed-{text[12:16]}-c8f750f92764"


# errorDetails by operation, ending and kind of item; "" is any. Recorded, but for the first and third, whose
# titles are from Azure's pages and whose numbers are this emulator's own.
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
        (operation, ending, kind)
        for operation in (job.operation, "Backup", "")
        for kind in (job.item.kind, "")
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
    # Recorded on all jobs, finished or not, except configuration jobs and most backups of file shares.
    return of.operation == "Restore" or (of.operation == "Backup" and of.item.kind != "AzureFileShare")


def _settled(of: Job, now: float) -> bool:
    """Return whether a workload job shows its task and its workload type, which it does not at first."""
    tasks = of.tasks(now)
    return not tasks or any(status != "NotStarted" for _, status, _, _ in tasks)


def _operation_word(of: Job, now: float) -> str:
    if of.region:
        return "CrossRegionRestore"
    backed_up = of.category in ("Backup", "Restore")
    if of.item.workload.management != "AzureWorkload" or not backed_up or not _settled(of, now):
        return of.operation
    if of.operation == "Restore":
        return {None: "Restore", "Failed": "Restore (Invalid)"}.get(of.ended(now), "Restore (Full)")
    return f"{of.operation} ({of.backup_type})"


def _entity(of: Job, now: float) -> str:
    if of.item.kind == "SAPHanaDatabase":
        return f"{of.item.name.upper()} [{of.item.parent}]"
    if of.item.kind in ("SAPHanaDBInstance", "SAPAseDatabase"):
        return f"{of.item.system};{of.item.name} [{of.item.parent}]"
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
        return {"tasksList": [], "propertyBag": {"VM Name": of.item.name, "Policy Name": of.item.policy}}
    ending = of.ended(now)
    bag = {"VM Name": of.item.name}
    if of.item.subscription:
        bag["VM Subscription ID"] = of.item.subscription
    if of.expiry is not None:
        bag["Recovery Point Expiry Time in UTC"] = american(of.expiry)
    if ending:
        size = of.item.number("size") % 20_000 + 1_000 if ending == "Completed" else 0
        bag["Backup Size"] = f"{size} MB"
        if of.point.disks > 1:
            disks = zip(("Backed-up disk(s)", "Excluded disk(s)"), disk_names(of.point), strict=True)
            bag |= {title: ", ".join(names) for title, names in disks if names}
    found: Json = {
        "tasksList": [_vm_task(of, now, *task) for task in of.tasks(now)],
        "propertyBag": bag,
        "internalPropertyBag": {"IsInstantRpJob": "True"},
    }
    if ending in (None, "Completed") and not older_vm_jobs(of.quirks):
        found["progressPercentage"] = _percentage(of, now)
    return found


def _vm_task(of: Job, now: float, name: str, status: str, begins: float | None, ends: float | None) -> Json:
    if "integer-actions" in of.quirks:  # the same old api-versions have tasks without times
        return {"taskId": name, "duration": "PT0S", "status": status}
    lasted = 0.0 if begins is None else (ends if ends is not None else now) - begins
    task: Json = {
        "taskId": name,
        "startTime": NEVER if begins is None else moment(begins),
        "endTime": NEVER if ends is None else moment(ends),
        "duration": duration(lasted),
        "status": status,
    }
    return task if older_vm_jobs(of.quirks) else {**task, "taskType": "Normal"}


def _percentage(of: Job, now: float) -> float:
    return float(max(1, int(of.share_done(now) * 100)))


def _transferred(of: Job, now: float) -> str:
    return f"{round(127 * of.share_done(now), 2):g} GBs / 127 GBs Transferred"


def _vm_restore_extended(of: Job, now: float) -> Json:
    ending = of.ended(now)
    account = str(of.request.get("storageAccountId", "")).rpartition("/")[2]
    bag = {
        "Job Type": "Recover disks",
        # Recorded for disks; for a new VM it is this emulator's guess.
        "Target VM Name": str(of.request.get("targetVirtualMachineId", "vmName")).rpartition("/")[2],
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
    progress: Json = {}
    if ending in (None, "Completed"):
        progress["progressPercentage"] = _percentage(of, now)
    if of.share_done(now) > 0.01:
        task["taskExecutionDetails"] = _transferred(of, now)
        left = 0.0 if ending else max(0.0, of.starts + of.lasts - now)
        progress["estimatedRemainingDuration"] = duration(left)
    return {
        "tasksList": [task],
        "propertyBag": bag,
        "internalPropertyBag": {"restoreLocationType": of.request.get("recoveryType", "RestoreDisks")},
        **progress,
    }


def _storage_extended(of: Job, now: float) -> Json:
    if of.operation == "Restore":
        target = of.request.get("targetDetails", {})
        share = target.get("name", of.item.name)
        account = target.get("targetResourceId", of.item.parent).rpartition("/")[2]
        aside = {"Target File Share Name": share, "Target Storage Account Name": account} if target else {}
        bag = {
            "Source File Share Name": of.item.name,
            "Source Storage Account Name": of.item.parent,
            **aside,
            "Job Type": f"Recover{' to an alternate' if target else 'ing to the original'} file share",
            "RestoreDestination": f"{account}/{share}/",
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
        aside = of.request.get("recoveryType") == "AlternateLocation"
        bag["Job Type"] = f"Recovery to {'an alternate' if aside else 'the original'} database"
        if ending:
            bag["RestoreDestination"] = (
                f"{of.item.parent}./{of.request.get('targetInfo', {}).get('databaseName', '')}"
            )
        if ending == "Completed":
            point = moment(int(of.request.get("pointTime", of.starts)))
            bag["RestoreRecoveryPointTime"] = point.replace("T", " ")
    extended: Json = {"tasksList": _plain_tasks(of, now), "propertyBag": bag}
    if of.operation == "Restore" and ending == "Failed":
        extended["dynamicErrorMessage"] = (
            "[HanaHelper]: Src and Target are incompatible containers SDC/SystemDB"
        )
    return extended


def _plain_tasks(of: Job, now: float) -> list[Json]:
    return [
        {"taskId": name, "status": status} for name, status, _, _ in of.tasks(now) if status != "NotStarted"
    ]


_EXTENDED = {
    "AzureIaasVM": _vm_extended,
    "AzureStorage": _storage_extended,
    "AzureWorkload": _workload_extended,
}


def export(of: Operation, now: float) -> Json:
    """Return the result of an export of jobs: the address of a file and its signature."""
    found: Json = {"objectType": "ExportJobsOperationResultInfo"}
    if now >= of.ready:
        blob = f"https://emulated.blob.core.windows.net/reportcontainer/exportjobsreport{of.id}"
        signature = "?sv=2014-02-14&sr=b&sig=emulated&sp=r"
        found |= {"blobUrl": blob, "blobSasKey": signature}
        found |= {"excelFileBlobUrl": f"{blob}_ExcelFile.xlsx", "excelFileBlobSasKey": signature}
    return {"operation": found, "headers": {}}


def operation(of: Operation, now: float) -> Json:
    """Return the status of an operation, which contains the job id."""
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
    if of.obstacles is not None:
        kind = {"objectType": "OperationStatusValidateOperationExtendedInfo"}
        return {**body, "properties": {**kind, **validation(of)}}
    if of.job is None or of.ending == "NoProperties":
        return body
    if of.ending == "JobIds":
        several: Json = {"jobIds": [of.job.id], "failedJobsError": {}}
        return {**body, "properties": {"objectType": "OperationStatusJobsExtendedInfo", **several}}
    name = of.job.id
    if "arm-job-id" in of.job.quirks:
        name = f"{of.job.item.vault.path}/backupJobs/{name}"
    return {**body, "properties": {"objectType": "OperationStatusJobExtendedInfo", "jobId": name}}


def validation(of: Operation) -> Json:
    """Return the result of the check of a restore; an empty list if nothing is in its way."""
    found = [OBSTACLES[name].words for name in of.obstacles or ()]
    return {"validateOperationResponse": {"validationResults": found}}

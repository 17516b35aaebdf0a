"""Backup vaults, their instances, policies, jobs, operations and recovery points as the service writes them.

A missing value is an explicit null, as recorded. Only instances and operations leave it out.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import Any

from azure_backup_emulator.bodies.jobs import activity
from azure_backup_emulator.bodies.times import NEVER, clock_duration, duration, moment
from azure_backup_emulator.model.instances import CONFIGURED, DATA_SOURCES, BackupVault, DataSource, Instance
from azure_backup_emulator.model.jobs import Job, Json, Operation

_TYPE = "Microsoft.DataProtection/backupVaults"
# Status words of older api-versions.
_OLDER = {"InProgress": "Started", "Completed": "Success", "CompletedWithWarnings": "SuccessWithWarning"}


def operation_name(identity: str) -> str:
    """Return the operation id that callers see: two GUIDs in base64, with padding."""
    first = hashlib.sha256(identity.encode()).hexdigest()
    guid = f"{first[:8]}-{first[8:12]}-{first[12:16]}-{first[16:20]}-{first[20:32]}"
    return base64.b64encode(f"{guid};{identity}".encode()).decode()


def operation_identity(name: str) -> str:
    """Return the id inside a name of ``operation_name``; an empty string if the text is not such a name."""
    try:
        return base64.b64decode(name, validate=True).decode().partition(";")[2].lower()
    except ValueError:
        return ""


def vault(of: BackupVault) -> Json:
    return {
        "id": of.path,
        "name": of.name,
        "type": _TYPE,
        "location": of.region,
        "eTag": "W/\"datetime'2026-01-01T00%3A00%3A00.0000000Z'\"",
        "identity": {"type": "SystemAssigned"},
        "properties": {
            "monitoringSettings": {"azureMonitorAlertSettings": {"alertsForAllJobFailures": "Enabled"}},
            "provisioningState": "Succeeded",
            "storageSettings": [
                {
                    "datastoreType": "VaultStore",
                    "type": "GeoRedundant" if of.secondary_region else "LocallyRedundant",
                }
            ],
            "featureSettings": {
                "crossRegionRestoreSettings": {"state": "Enabled" if of.secondary_region else "Disabled"}
            },
            "replicatedRegions": [of.secondary_region] if of.secondary_region else [],
        },
        **({"tags": dict(of.tags)} if of.tags else {}),
    }


def _policy_path(of: BackupVault | Instance, name: str) -> str:
    home = of.vault if isinstance(of, Instance) else of
    return f"{home.path}/backupPolicies/{name}"


# In these states the protection is still configured, and another field shows the state.
_STILL_CONFIGURED = (
    "ProtectionError",
    "UpdatingProtection",
    "BackupSchedulesSuspended",
    "RetentionSchedulesSuspended",
)


def instance(of: Instance, state: str) -> Json:
    """A backup instance.

    :param state: its ``currentProtectionState``.
    """
    source = of.workload
    described: Json = {
        "friendlyName": of.friendly_name,
        "dataSourceInfo": _resource(of, of.source_id, "Datasource"),
        "policyInfo": {"policyId": _policy_path(of, of.policy)},
        "protectionStatus": {"status": CONFIGURED if state in _STILL_CONFIGURED else state},
        "currentProtectionState": state,
        "provisioningState": "Succeeded",
        "objectType": "BackupInstance",
    }
    if state == "ProtectionError":
        described["protectionErrorDetails"] = error(None)
    if of.set_id:
        described["dataSourceSetInfo"] = _resource(of, of.set_id, "DatasourceSet")
    if source.store == "OperationalStore":
        group = f"/subscriptions/{of.vault.subscription}/resourceGroups/{of.group}"
        described["policyInfo"]["policyParameters"] = {
            "dataStoreParametersList": [
                {
                    "dataStoreType": "OperationalStore",
                    "objectType": "AzureOperationalStoreParameters",
                    "resourceGroupId": group,
                }
            ]
        }
    if of.kind == "ElasticSan":
        chosen: Json = {"resourceSelectors": [of.name], "matchPattern": "Exact", "selectionType": "Include"}
        described["policyInfo"]["policyParameters"]["backupDatasourceParametersList"] = [
            {"objectType": "GenericBackupDatasourceParameters", **chosen}
        ]
    if of.kind == "PostgreSQL":
        described["datasourceAuthCredentials"] = {
            "objectType": "SecretStoreBasedAuthCredentials",
            "secretStoreResource": {
                "secretStoreType": "AzureKeyVault",
                "uri": f"https://{of.parent}.vault.azure.net/secrets/{of.name}",
                "value": None,
            },
        }
    return {
        "properties": described,
        "id": of.path,
        "name": of.native_name,
        "type": f"{_TYPE}/backupInstances",
    }


def _resource(of: Instance, resource_id: str, kind: str) -> Json:
    provider, *path = resource_id.partition("/providers/")[2].split("/")
    return {
        "resourceID": resource_id,
        "resourceUri": "",
        "datasourceType": of.workload.source_type,
        "resourceName": resource_id.rpartition("/")[2],
        "resourceType": "/".join((provider, *path[::2])),
        "resourceLocation": of.vault.region,
        "objectType": kind,
    }


def policy(of: BackupVault, name: str, described: Mapping[str, Any]) -> Json:
    """A policy: its backup rules with their tags, and a retention rule for each tag."""
    source = DATA_SOURCES[described["kind"]]
    store = {"dataStoreType": source.store, "objectType": "DataStoreInfoBase"}
    tags = dict.fromkeys(tag for tags in described["rules"].values() for tag in tags) or {"Default": None}
    rules = [_backup_rule(rule, tags, store, source.point_type) for rule, tags in described["rules"].items()]
    kept = [_retention_rule(tag, store) for tag in tags]
    return {
        "id": _policy_path(of, name),
        "name": name,
        "type": f"{_TYPE}/backupPolicies",
        "properties": {
            "policyRules": [*rules, *kept],
            "datasourceTypes": [source.source_type],
            "objectType": "BackupPolicy",
        },
    }


def _backup_rule(name: str, tags: list[str], store: Json, backup_type: str) -> Json:
    criteria: list[Json] = [
        {
            "tagInfo": {"tagName": tag, "id": f"{tag}_"},
            "taggingPriority": 20 if number else 99,
            "isDefault": not number,
        }
        for number, tag in enumerate(tags)
    ]
    for each in criteria[1:]:
        each["criteria"] = [
            {
                "scheduleTimes": ["2019-03-01T13:00:00Z"],
                "daysOfTheWeek": ["Sunday"],
                "objectType": "ScheduleBasedBackupCriteria",
            }
        ]
    return {
        "backupParameters": {"backupType": backup_type, "objectType": "AzureBackupParams"},
        "trigger": {
            "schedule": {"repeatingTimeIntervals": ["R/2019-11-20T08:00:00-08:00/P1W"]},
            "taggingCriteria": criteria,
            "objectType": "ScheduleBasedTriggerContext",
        },
        "dataStore": store,
        "name": name,
        "objectType": "AzureBackupRule",
    }


def _retention_rule(tag: str, store: Json) -> Json:
    lasting = {"objectType": "AbsoluteDeleteOption", "duration": "P1W"}
    return {
        "lifecycles": [{"sourceDataStore": store, "deleteAfter": lasting}],
        "isDefault": tag == "Default",
        "name": tag,
        "objectType": "AzureRetentionRule",
    }


def ranges(of: Instance, reach: tuple[float, float] | None) -> Json:
    """Return the time ranges that an instance can be restored to."""
    found = []
    if reach:
        first, last = map(moment, reach)
        found = [{"startTime": first, "endTime": last, "objectType": "RestorableTimeRange"}]
    return {
        "properties": {
            "restorableTimeRanges": found,
            "objectType": "AzureBackupFindRestorableTimeRangesResponse",
        },
        "id": of.native_name,
        "type": f"{_TYPE}/backupInstances/findRestorableTimeRanges",
    }


def status(of: Job, now: float) -> str:
    """A job's status word."""
    word = of.status(now)
    if word == "InProgress" and "pauses" in of.quirks and 1 / 3 <= (now - of.starts) / of.lasts < 2 / 3:
        return "Paused"
    return _OLDER.get(word, word) if "older-words" in of.quirks else word


def job(of: Job, now: float, source: Instance, *, vault_path: str, full: bool) -> Json:
    """A job as it stands.

    :param vault_path: the vault's path as the caller spelt it.
    :param full: with ``extendedInfo``, which is null in lists; those also write durations as clocks do.
    """
    ending, kind = of.ended(now), source.workload
    until, asked = min(now, of.finish()[0]), bool(of.request)
    lasted = until - of.starts if ending else 0.0
    iso = full and "clock-duration" not in of.quirks
    properties: Json = {
        "activityID": activity(of),
        "subscriptionId": source.vault.subscription,
        "backupInstanceId": source.path,
        "policyId": _policy_path(source, source.policy),
        "dataSourceId": source.source_id,
        "vaultName": source.vault.name,
        "backupInstanceFriendlyName": source.friendly_name,
        "policyName": source.policy,
        "sourceResourceGroup": source.group,
        "dataSourceSetName": source.set_id.rpartition("/")[2] or None,
        "dataSourceName": source.source_name,
        "sourceDataStoreName": None,
        **_job_stores(of, kind, ending),
        "progressEnabled": kind.progress,
        "etag": f"W/\"datetime'{moment(until).replace(':', '%3A')}'\"",
        "sourceSubscriptionID": source.vault.subscription,
        "dataSourceLocation": source.vault.region,
        "startTime": moment(of.starts),
        "endTime": moment(until) if ending else None,
        "dataSourceType": kind.source_type,
        "operationCategory": None
        if "no-category" in of.quirks
        else "CrossRegionRestore"
        if of.region
        else of.category,
        "operation": of.operation,
        "status": status(of, now),
        "restoreType": None,
        "isUserTriggered": asked,
        "rehydrationPriority": None,
        "supportedActions": _job_actions(of, kind) if asked else [],
        "duration": duration(lasted) if iso else clock_duration(lasted).removesuffix(".0000000"),
        "progressUrl": None,
        "isCrossRegionRestore": None,
        "errorDetails": _job_errors(of) if ending in ("Failed", "Cancelled") else None,
        "extendedInfo": _extended(of, now, ending) if full else None,
    }
    return {
        "properties": properties,
        "id": f"{vault_path}/backupJobs/{of.id}",
        "name": of.id,
        "type": f"{_TYPE}/backupJobs",
    }


def _job_stores(of: Job, kind: DataSource, ending: str | None) -> Json:
    if of.operation == "Restore":
        source, destination = of.request.get("sourceDataStoreType", kind.store), None
    else:
        source, destination = None, kind.destination if ending else None
    return {"sourceDataStoreType": source, "destinationDataStoreName": destination}


def _job_actions(of: Job, kind: DataSource) -> list[str]:
    return ["Cancellable" if kind.cancellable and of.operation != "Restore" else ""]


def _job_errors(of: Job) -> list[Json]:
    return [nested_error(of.error) if "nested-errors" in of.quirks else error(of.error)]


_INTERNAL = {
    "code": "InternalServerError",
    "message": "An internal error occurred.",
    "recommendedAction": ["Please retry the operation after some time."],
}


def error(planned: Mapping[str, Any] | None) -> Json:
    """Return the error of a job: the planned one, in the form of either type of vault, or a recorded one."""
    found = dict(planned or _INTERNAL)
    if "errorTitle" in found:
        found = {
            "code": found["errorTitle"],
            "message": found["errorString"],
            "recommendedAction": found["recommendations"],
        }
    return {
        "message": "",
        "recommendedAction": [],
        "details": None,
        "code": "",
        "target": None,
        "innerError": None,
        "isRetryable": False,
        "isUserError": False,
        "properties": None,
        **found,
    }


def nested_error(planned: Mapping[str, Any] | None) -> Json:
    """Return the error as the cause of another one, as recorded for a database server."""
    outer = {
        "code": "DataSourceServerError",
        "message": "The operation has failed because of an error of the server.",
        "recommendedAction": ["See the inner error and take the steps that it suggests."],
        "target": "",
    }
    inner = {
        "code": "NoInnerErrorFromServer",
        "additionalInfo": {"DetailedNonLocalisedMessage": "Service request failed.\r\nStatus: 500"},
        "embeddedInnerError": None,
    }
    cause = error(outer) | {"details": [error(planned)], "innerError": inner}
    return error(outer) | {"details": [cause], "innerError": inner, "isRetryable": True}


def _extended(of: Job, now: float, ending: str | None) -> Json:
    source = of.item
    assert isinstance(source, Instance)
    restores = of.operation == "Restore"
    good = ending in ("Completed", "CompletedWithWarnings") and of.category == "Backup"
    tasks = [_task(of, source, index, *task[:2]) for index, task in enumerate(of.tasks(now), 1)]
    found: Json = {
        "backupInstanceState": None,
        "dataTransferredInBytes": 2063.0 if ending and source.workload.progress and not restores else None,
        "targetRecoverPoint": {"recoveryPointID": point_name(of), "recoveryPointTime": f"{NEVER}Z"}
        if good
        else None,
        "sourceRecoverPoint": _source_point(of) if restores else None,
        "recoveryDestination": of.request.get("destination") if restores else None,
        "subTasks": tasks,
        "additionalDetails": None if restores else {"RetentionTag": of.request.get("tag", "Default")},
    }
    if ending == "CompletedWithWarnings":  # by Microsoft's SDK; none was recorded
        warning = {"code": "UserErrorPartialBackup", "message": "Some resources were not backed up."}
        found["warningDetails"] = [{"resourceName": source.name, "warning": error(of.error or warning)}]
    return found


def _task(of: Job, source: Instance, index: int, name: str, state: str) -> Json:
    ended = state not in ("NotStarted", "InProgress")
    moved = source.number("size") % 2**30 if source.workload.progress else 0
    size = {"DataTransferredInBytes": str(moved)} if of.operation == "Restore" else {}
    details = {
        **(size or {"OriginalDatasourceSizeInBytes": "8442527"}),
        "TaskId": activity(of),
        "DatasourceType": source.workload.source_type,
    }
    return {
        "taskId": index,
        "taskName": name,
        "taskStatus": state,
        "taskProgress": None,
        "additionalDetails": details if ended else None,
    }


def _source_point(of: Job) -> Json:
    return {
        "recoveryPointID": of.request.get("recoveryPointId"),
        "recoveryPointTime": moment(of.request.get("pointTime", of.starts)),
    }


def operation(of: Operation, now: float, path: str) -> Json:
    """Return the status of an operation: ``Inprogress`` with a small p, and failures inside a 200.

    :param path: the operation's own.
    """
    body: Json = {
        "id": path,
        "name": path.rpartition("/")[2],
        "status": "Inprogress",
        "startTime": moment(of.starts),
        "endTime": f"{NEVER}Z",
    }
    if now < of.ready or of.ending == "InProgress":
        return body
    body["endTime"] = moment(int(of.ready))
    if of.error is not None:
        return {**body, "status": "Failed", "error": facing(**of.error)}
    body["status"] = "Succeeded"
    named = job_name(of)
    return {**body, "properties": named} if "jobId" in named else body


def job_name(of: Operation) -> Json:
    """Return the result of an operation: the ARM id of its job, if it makes one."""
    kind = {"objectType": "OperationJobExtendedInfo"}
    if of.job is None or of.ending == "NoProperties":
        return kind
    path = f"{of.job.item.vault.path}/backupJobs/{of.job.id}"
    if "other-casing" in of.job.quirks:
        path = path.replace("/resourceGroups/", "/resourcegroups/").replace(
            "/backupVaults/", "/BackupVaults/"
        )
    return {"jobId": of.job.id if "bare-job-id" in of.job.quirks else path, **kind}


def facing(code: str, message: str, action: str = "Check the message and try again.") -> Json:
    """Return an error with a recommended action."""
    info = {
        "message": message,
        "recommendedAction": [action],
        "code": code,
        "target": "",
        "isRetryable": False,
        "isUserError": False,
        "properties": {"ActivityId": "414e0438-f15c-11ec-9933-000d3a071c11"},
    }
    return {"additionalInfo": [{"type": "UserFacingError", "info": info}], "code": code, "message": message}


def point_name(of: Job) -> str:
    """The name of the recovery point that a backup job made."""
    return hashlib.sha256(of.id.encode()).hexdigest()[:32]


def stores(of: Job, source: Instance, now: float) -> dict[str, tuple[str, float]]:
    """Return the stores of a recovery point, each with its state and the time it was made there."""
    made = of.point_at
    if of.point.tiers:
        return {store: (state, made) for store, state in of.point.tiers.items()}
    found = {source.workload.store: ("COMMITTED", made)}
    if of.point.vaulted_after is not None:
        moved = of.finish()[0] + of.point.vaulted_after
        if now >= moved:
            found["VaultStore"] = ("COMMITTED", moved)
    return found


def _store(kind: str, state: str, since: float, name: str) -> Json:
    identity = hashlib.sha256(f"{name}/{kind}".encode()).hexdigest()
    return {
        "id": f"{identity[:8]}-{identity[8:12]}-{identity[12:16]}-{identity[16:20]}-{identity[20:32]}",
        "type": kind,
        "creationTime": moment(since),
        "expiryTime": None,
        "metaData": None,
        "visible": True,
        "state": state,
        "rehydrationExpiryTime": None,
        "rehydrationStatus": None,
    }


def recovery_point(of: Job, source: Instance, now: float) -> Json:
    """The recovery point that a backup job made."""
    made, name = of.point_at, point_name(of)
    at, identity = moment(made), hashlib.sha256(name.encode()).hexdigest()
    kept = source.workload.kept if of.point.expires is None else of.point.expires
    expiry = None if kept is None else moment(made + kept)
    whole = {"recoveryPointState": "Partial" if of.point.partial else "Completed"}
    lies_in = [_store(kind, state, since, name) for kind, (state, since) in stores(of, source, now).items()]
    return {
        "properties": {
            "objectType": "AzureBackupDiscreteRecoveryPoint",
            "recoveryPointId": name,
            "recoveryPointTime": at,
            "recoveryPointType": source.workload.point_type,
            "friendlyName": identity[:32],
            "recoveryPointDataStoresDetails": lies_in,
            "retentionTagName": of.request.get("tag", "Default"),
            "retentionTagVersion": "638276101640901318",
            "policyName": source.policy,
            "policyVersion": None,
            "expiryTime": expiry,
            **(whole if source.workload.completeness or of.point.partial else {}),
        },
        "id": f"{source.path}/recoveryPoints/{name}",
        "name": name,
        "type": f"{_TYPE}/backupInstances/recoveryPoints",
    }

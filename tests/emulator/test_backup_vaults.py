"""The emulator's Backup vaults: recorded shapes all the way down, recorded quirks, and rights."""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from azure_backup_emulator import Emulator
from tests.emulator.conftest import SUBSCRIPTION, Client
from tests.support.clock import ManualClock
from tests.support.recordings import example, exchanges, jobs, needs_recordings, replies, shape, without

VAULT = (
    f"{SUBSCRIPTION}/resourceGroups/demo-rg/providers/Microsoft.DataProtection/backupVaults/demo-backup-vault"
)
DISK, POSTGRES = "dpp_disk_backup_completed", "dpp_postgres_backup_and_restore_completed"
TAGGED, LISTED = "dpp_postgres_backup_retention_tag_override", "dpp_job_list_and_get"
RULES = {
    "disk-good": "BackupHourly",
    "orders": "BackupWeekly",
    "demoblobs": "BackupDaily",
    "demo-aks": "BackupHourly",
}
LOCATION = "/providers/Microsoft.DataProtection/locations/westeurope"


def trigger(client: Client, name: str, *, rule: str | None = None, **option: str) -> Any:
    body = {"backupRuleOptions": {"ruleName": rule or RULES[name], "triggerOption": option}}
    return client.post(f"{client.item(name)}/backup", body)


def operation_of(reply: Any) -> str:
    """The address of the operation that a 202 names."""
    assert reply.status_code == 202, reply.text
    return str(reply.headers["Azure-AsyncOperation"])


def job_of(client: Client, reply: Any, clock: ManualClock) -> str:
    """The path of the job that a 202 leads to."""
    clock.advance(2)
    return str(client.get(operation_of(reply)).json()["properties"]["jobId"])


def back_up(client: Client, clock: ManualClock, name: str, **option: str) -> str:
    """A backup that is over; the path of its job."""
    job = job_of(client, trigger(client, name, **option), clock)
    clock.advance(5000)
    return job


def point_of(client: Client, name: str) -> str:
    return str(client.get(f"{client.item(name)}/recoveryPoints").json()["value"][0]["name"])


def restore_of(point: str, **changes: Any) -> dict[str, Any]:
    target = {"resourceId": "/x/servers/demo-pg/databases/orders-2", "objectType": "Datasource"}
    return {
        "objectType": "AzureBackupRecoveryPointBasedRestoreRequest",
        "recoveryPointId": point,
        "sourceDataStoreType": "VaultStore",
        "restoreTargetInfo": {
            "objectType": "RestoreTargetInfo",
            "recoveryOption": "FailIfExists",
            "datasourceInfo": target,
        },
        **changes,
    }


# Shapes


@needs_recordings
@pytest.mark.parametrize(
    ("recording", "name", "tag"),
    [(DISK, "disk-good", None), (POSTGRES, "orders", None), (TAGGED, "orders", "Weekly")],
)
def test_a_backup_job_looks_as_recorded_at_every_stage(
    client: Client, clock: ManualClock, recording: str, name: str, tag: str | None
) -> None:
    job = job_of(client, trigger(client, name, **({"retentionTagOverride": tag} if tag else {})), clock)
    stages = [body for body in jobs(recording) if body["properties"]["operation"] == "Backup"]
    assert [body["properties"]["status"] for body in stages] == ["InProgress", "Completed"]
    for recorded in stages:
        ours = client.get(job).json()
        assert shape(ours) == shape(recorded)
        same = (
            "status",
            "operation",
            "operationCategory",
            "dataSourceType",
            "supportedActions",
            "progressEnabled",
        )
        more = ("isUserTriggered", "destinationDataStoreName", "sourceDataStoreType")
        for key in (*same, *more):
            assert ours["properties"][key] == recorded["properties"][key], key
        assert (ours["properties"]["duration"] == "PT0S") == (recorded["properties"]["duration"] == "PT0S")
        clock.advance(1000)
    kept = ours["properties"]["extendedInfo"]["additionalDetails"]["RetentionTag"]
    assert kept == (tag or "Default")


@needs_recordings
def test_a_restore_job_looks_as_recorded_at_every_stage(client: Client, clock: ManualClock) -> None:
    back_up(client, clock, "orders")
    request = restore_of(point_of(client, "orders"))
    job = job_of(client, client.post(f"{client.item('orders')}/restore", request), clock)
    stages = [body for body in jobs(POSTGRES) if body["properties"]["operation"] == "Restore"]
    for recorded in stages:
        ours = client.get(job).json()
        assert shape(ours) == shape(recorded)
        for key in ("status", "operation", "operationCategory", "sourceDataStoreType", "isUserTriggered"):
            assert ours["properties"][key] == recorded["properties"][key], key
        clock.advance(1000)
    assert len(stages) == 2
    assert ours["properties"]["extendedInfo"]["recoveryDestination"].endswith("/databases/orders-2")


@needs_recordings
@pytest.mark.parametrize(
    ("recording", "name", "source"),
    [
        (DISK, "disk-good", "Microsoft.Compute/disks"),
        (POSTGRES, "orders", "Microsoft.DBforPostgreSQL/servers/databases"),
        (POSTGRES, "demoblobs", "Microsoft.Storage/storageAccounts/blobServices"),
    ],
)
def test_a_backup_instance_looks_as_recorded(client: Client, recording: str, name: str, source: str) -> None:
    listed = next(replies(recording, "GET", "/backupInstances"))["body"]["value"]
    recorded = next(b for b in listed if b["properties"]["dataSourceInfo"]["datasourceType"] == source)
    ours = client.get(client.item(name)).json()
    assert shape(ours) == shape(without(recorded, "tags"))
    assert ours["properties"]["dataSourceInfo"]["datasourceType"] == source
    assert ours in client.get(f"{VAULT}/backupInstances").json()["value"]


@needs_recordings
def test_a_policy_looks_as_in_the_official_example(client: Client) -> None:
    ours = client.get(f"{VAULT}/backupPolicies/pg-policy").json()
    assert shape(ours) == shape(example("dpp__PolicyCRUD__GetBackupPolicy"))
    rules = ours["properties"]["policyRules"]
    assert [(rule["objectType"], rule["name"]) for rule in rules] == [
        ("AzureBackupRule", "BackupWeekly"),
        ("AzureRetentionRule", "Default"),
        ("AzureRetentionRule", "Weekly"),
    ]


@needs_recordings
def test_a_list_of_jobs_looks_as_recorded_and_takes_no_filter(
    azure: Emulator, client: Client, clock: ManualClock
) -> None:
    azure.plan("demoblobs", ending="Failed")
    back_up(client, clock, "demoblobs")
    trigger(client, "demoblobs")
    recorded = next(replies(LISTED, "GET", "/backupJobs"))["body"]
    ours = client.get(f"{VAULT}/backupJobs", params={"$filter": "status eq 'InProgress'"}).json()
    assert ours.keys() == recorded.keys()
    assert ours["nextLink"] is None
    by_status = {job["properties"]["status"]: job for job in recorded["value"]}
    assert [job["properties"]["status"] for job in ours["value"]] == ["Failed", "InProgress"]
    for job in ours["value"]:
        theirs = by_status[job["properties"]["status"]]
        assert shape(without(job, "sourceDataStoreType")) == shape(without(theirs, "sourceDataStoreType"))
    durations = [job["properties"]["duration"] for job in ours["value"]]
    assert durations == ["00:02:00", "00:00:00"]


@needs_recordings
def test_a_job_by_schedule_looks_as_recorded(azure: Emulator, client: Client, clock: ManualClock) -> None:
    job_id = azure.start_job("disk-good")
    clock.advance(1000)
    (recorded,) = jobs(LISTED)
    ours = client.get(f"{VAULT}/backupJobs/{job_id}").json()
    assert shape(ours) == shape(recorded)
    for key in ("status", "isUserTriggered", "supportedActions", "destinationDataStoreName"):
        assert ours["properties"][key] == recorded["properties"][key]


@needs_recordings
def test_a_list_of_recovery_points_looks_as_recorded(client: Client, clock: ManualClock) -> None:
    assert client.get(f"{client.item('orders')}/recoveryPoints").json() == {"value": []}
    job = client.get(back_up(client, clock, "orders", retentionTagOverride="Weekly")).json()
    recorded = next(replies(TAGGED, "GET", "/recoveryPoints"))["body"]
    ours = client.get(f"{client.item('orders')}/recoveryPoints", params={"$filter": ""}).json()
    # Two points of three have had an expiry since.
    assert shape(without(ours, "expiryTime")) == shape(without(recorded, "expiryTime"))
    point = ours["value"][0]
    assert point["properties"]["retentionTagName"] == "Weekly"
    assert point["name"] == job["properties"]["extendedInfo"]["targetRecoverPoint"]["recoveryPointID"]
    assert client.get(point["id"]).json() == point


@needs_recordings
def test_an_operation_looks_as_recorded_while_it_runs_and_when_it_has_made_its_job(
    client: Client, clock: ManualClock
) -> None:
    reply = trigger(client, "disk-good")
    for recorded in replies(DISK, "GET", "/operationStatus/"):
        ours = client.get(operation_of(reply)).json()
        assert shape(ours) == shape(recorded["body"])
        assert ours["status"] == recorded["body"]["status"]
        assert (ours["endTime"] == "0001-01-01T00:00:00Z") == (ours["status"] == "Inprogress")
        assert ours["id"].endswith(ours["name"])
        clock.advance(2)
    recorded = next(replies(DISK, "GET", "/operationResults/"))
    result = client.get(reply.headers["Location"])
    assert (result.status_code, shape(result.json())) == (200, shape(recorded["body"]))
    assert f"{LOCATION}/operationStatus/" in result.headers["Azure-AsyncOperation"]
    assert client.get(result.headers["Azure-AsyncOperation"]).json()["status"] == "Succeeded"


@needs_recordings
def test_an_operation_that_fails_does_so_inside_a_200_as_recorded(
    azure: Emulator, client: Client, clock: ManualClock
) -> None:
    azure.plan("disk-good", operation="Failed")
    reply = trigger(client, "disk-good")
    clock.advance(2)
    ours = client.get(operation_of(reply))
    recorded = [each["body"] for each in replies("dpp_operation_status_failed", "GET", "/operationStatus/")]
    failed = next(body for body in recorded if body["status"] == "Failed")
    assert ours.status_code == 200
    assert shape(ours.json()) == shape(failed)
    assert ours.json()["error"]["code"] == failed["error"]["code"]


@needs_recordings
@pytest.mark.parametrize("recording", [DISK, POSTGRES, TAGGED])
def test_a_trigger_is_answered_with_the_recorded_headers_and_no_body(client: Client, recording: str) -> None:
    reply = trigger(client, "orders")
    recorded = next(replies(recording, "POST", "/backup"))
    assert (reply.status_code, reply.content) == (recorded["status"], b"")
    assert {name.lower() for name in reply.headers} >= recorded["headers"].keys()
    for name in ("azure-asyncoperation", "location"):
        ours, theirs = (
            each.partition("?")[0].split("/") for each in (reply.headers[name], recorded["headers"][name])
        )
        assert ours[-2] == theirs[-2]
        assert len(ours) == len(theirs)
        plain, recorded_id = (base64.b64decode(each[-1]).decode() for each in (ours, theirs))
        assert [len(part) for part in plain.split(";")] == [len(part) for part in recorded_id.split(";")]
    assert reply.headers["Retry-After"] == "60"


@needs_recordings
def test_a_refusal_looks_as_recorded(client: Client) -> None:
    recorded = next(
        each["response"]["body"]
        for each in exchanges("error_bodies")
        if "findRestorableTimeRanges" in each["request"]["uri"] and each["response"]["status"] == 400
    )
    ours = trigger(client, "disk-good", rule="BackupYearly")
    assert ours.status_code == 400
    assert shape(ours.json()).keys() == shape(recorded).keys()
    assert shape(without(ours.json(), "innerError", "details")) == shape(
        without(recorded, "innerError", "details")
    )


@needs_recordings
def test_validation_of_a_restore_makes_no_job_and_ends_as_recorded(
    client: Client, clock: ManualClock
) -> None:
    back_up(client, clock, "orders")
    point = point_of(client, "orders")
    before = len(client.azure.service.world.jobs)
    ends = []
    for request in (restore_of(point), restore_of("no-such-point")):
        reply = client.post(f"{client.item('orders')}/validateRestore", {"restoreRequestObject": request})
        clock.advance(2)
        ends.append(client.get(operation_of(reply)).json())
        if request["recoveryPointId"] == point:
            result = client.get(reply.headers["Location"]).json()
    recorded = [each["body"] for each in replies(TAGGED, "GET", "/operationStatus/")][-1]
    assert shape(ends[0]) == shape(recorded)
    assert (ends[1]["status"], ends[1]["error"]["code"]) == ("Failed", "UserErrorRecoveryPointNotFound")
    assert result == {"objectType": "OperationJobExtendedInfo"}
    assert len(client.azure.service.world.jobs) == before


# Behaviour


@pytest.mark.parametrize("name", RULES)
def test_every_data_source_can_be_backed_up(client: Client, clock: ManualClock, name: str) -> None:
    job = client.get(back_up(client, clock, name)).json()["properties"]
    assert (job["status"], job["operation"]) == ("Completed", "Backup")
    assert job["backupInstanceId"] == client.item(name)
    assert client.get(f"{client.item(name)}/recoveryPoints").json()["value"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "UserErrorInvalidRequest"),
        ({"backupRuleOptions": {"ruleName": "BackupHourly"}}, "UserErrorInvalidRequest"),
        ({"backupRuleOptions": {"triggerOption": {}}}, "UserErrorBackupRuleNotFound"),
        ({"backupRuleOptions": {"ruleName": "Default", "triggerOption": {}}}, "UserErrorBackupRuleNotFound"),
        (
            {
                "backupRuleOptions": {
                    "ruleName": "BackupHourly",
                    "triggerOption": {"retentionTagOverride": "Never"},
                }
            },
            "UserErrorRetentionTagNotFound",
        ),
    ],
)
def test_a_request_that_names_no_rule_of_the_policy_is_refused(
    azure: Emulator, client: Client, body: dict[str, Any], code: str
) -> None:
    reply = client.post(f"{client.item('disk-good')}/backup", body)
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, code)
    assert azure.service.world.jobs == {}


def test_an_instance_that_is_not_protected_and_one_without_rules_are_refused(client: Client) -> None:
    for name in ("disk-unready", "democontinuous"):
        assert trigger(client, name, rule="BackupHourly").status_code == 400


@pytest.mark.parametrize(
    ("quirks", "words"),
    [
        ((), ["InProgress", "InProgress", "InProgress", "Completed"]),
        (("older-words",), ["Started", "Started", "Started", "Success"]),
        (("pauses",), ["InProgress", "Paused", "InProgress", "Completed"]),
    ],
)
def test_status_words_of_all_ages(
    azure: Emulator, client: Client, clock: ManualClock, quirks: tuple[str, ...], words: list[str]
) -> None:
    azure.plan("disk-good", quirks=quirks, seconds=300)
    job_id, seen = azure.start_job("disk-good"), []
    for _ in words:
        clock.advance(90)
        seen.append(client.get(f"{VAULT}/backupJobs/{job_id}").json()["properties"]["status"])
    assert seen == words


def test_a_job_with_warnings_tells_them_in_full_and_not_in_the_list(
    azure: Emulator, client: Client, clock: ManualClock
) -> None:
    azure.plan("disk-warned", quirks=["older-words"])
    job_id = azure.start_job("disk-warned", ending="CompletedWithWarnings")
    clock.advance(1000)
    full = client.get(f"{VAULT}/backupJobs/{job_id}").json()["properties"]
    (listed,) = client.get(f"{VAULT}/backupJobs").json()["value"]
    assert (full["status"], full["errorDetails"]) == ("SuccessWithWarning", None)
    assert full["extendedInfo"]["warningDetails"][0]["warning"]["code"] == "UserErrorPartialBackup"
    assert listed["properties"]["extendedInfo"] is None


@pytest.mark.parametrize(
    ("quirk", "spelling"),
    [
        ("other-casing", VAULT.replace("resourceGroups", "resourcegroups").replace("backupV", "BackupV")),
        ("bare-job-id", ""),
    ],
)
def test_a_job_id_may_be_spelt_otherwise(
    azure: Emulator, client: Client, clock: ManualClock, quirk: str, spelling: str
) -> None:
    azure.plan("disk-good", quirks=[quirk])
    named = job_of(client, trigger(client, "disk-good"), clock)
    assert named.rpartition("/backupJobs/")[0] == spelling
    assert client.get(f"{VAULT}/backupJobs/{named.rpartition('/')[2]}").status_code == 200
    if spelling:
        assert client.get(named).status_code == 200


def test_a_list_of_jobs_has_pages(azure: Emulator, client: Client) -> None:
    azure.configure(page_size=2)
    started = [azure.start_job("disk-good") for _ in range(5)]
    page, seen = client.get(f"{VAULT}/backupJobs").json(), []
    while True:
        seen += [job["name"] for job in page["value"]]
        if page["nextLink"] is None:
            break
        page = client.get(page["nextLink"], version=None).json()
    assert seen == started


def test_there_is_no_way_to_cancel_a_job(azure: Emulator, client: Client) -> None:
    job_id = azure.start_job("disk-good")
    reply = client.post(f"{VAULT}/backupJobs/{job_id}/cancel")
    assert (reply.status_code, reply.json()["error"]["code"]) == (404, "InvalidResourceType")


@pytest.mark.parametrize("busy", ["job", "operation", "conflict"])
def test_a_second_backup_can_be_refused_in_three_places(
    azure: Emulator, client: Client, clock: ManualClock, busy: str
) -> None:
    azure.start_job("disk-good")
    azure.plan("disk-good", busy=busy)
    code, reply = "UserErrorBackupOperationInProgress", trigger(client, "disk-good")
    if busy == "conflict":
        assert (reply.status_code, reply.json()["error"]["code"]) == (409, code)
        return
    clock.advance(2)
    found = client.get(operation_of(reply)).json()
    if busy == "job":
        found = client.get(found["properties"]["jobId"]).json()["properties"]["errorDetails"][0]
        assert found["code"] == code
    else:
        assert found["error"]["code"] == code


def test_points_in_time_and_destinations_of_a_restore_are_kept(client: Client, clock: ManualClock) -> None:
    path = f"{client.item('democontinuous')}/findRestorableTimeRanges"
    found = client.post(path, {"sourceDataStoreType": "OperationalStore"}).json()["properties"]
    (reach,) = found["restorableTimeRanges"]
    at = f"{datetime.fromisoformat(reach['startTime']) + timedelta(days=1):%Y-%m-%dT%H:%M:%SZ}"
    request = restore_of(
        "",
        objectType="AzureBackupRecoveryTimeBasedRestoreRequest",
        sourceDataStoreType="OperationalStore",
        recoveryPointTime=at,
    )
    for moment in ("2020-01-01T00:00:00Z", "yesterday"):
        reply = client.post(
            f"{client.item('democontinuous')}/restore", {**request, "recoveryPointTime": moment}
        )
        assert reply.status_code == 400
    job = job_of(client, client.post(f"{client.item('democontinuous')}/restore", request), clock)
    extended = client.get(job).json()["properties"]["extendedInfo"]
    assert extended["sourceRecoverPoint"]["recoveryPointTime"] == at


def test_what_has_recovery_points_can_be_taken_back_to_no_moment(client: Client) -> None:
    path = f"{client.item('demoblobs')}/findRestorableTimeRanges"
    found = client.post(path, {"sourceDataStoreType": "OperationalStore"}).json()
    assert found["properties"] == {
        "restorableTimeRanges": [],
        "objectType": "AzureBackupFindRestorableTimeRangesResponse",
    }
    assert client.post(path, {}).status_code == 400


def _to(kind: str, **fields: Any) -> dict[str, Any]:
    target = {"resourceID": "/x/storageAccounts/other", "objectType": "Datasource"}
    where = {"objectType": kind, "recoveryOption": "FailIfExists", "datasourceInfo": target}
    return {"restoreTargetInfo": {**where, **fields}}


CRITERIA = {"objectType": "KubernetesClusterRestoreCriteria", "includeClusterScopeResources": True}


@pytest.mark.parametrize(
    ("name", "changes", "told"),
    [
        ("orders", _to("RestoreTargetInfo", recoveryOption="Overwrite"), "recoveryOption must be"),
        ("orders", _to("RestoreTargetInfo", datasourceInfo={}), "datasourceInfo with a resourceID"),
        ("orders", _to("ItemLevelRestoreTargetInfo"), "restoreTargetInfo of this data source must"),
        ("orders", _to("RestoreFilesTargetInfo"), "url, filePrefix, restoreTargetLocationType must"),
        ("demo-pg-flexible", _to("RestoreTargetInfo"), "must be one of RestoreFilesTargetInfo"),
        ("disk-good", _to("RestoreTargetInfo"), "It lies in the OperationalStore"),
        ("demoblobs", _to("ItemLevelRestoreTargetInfo"), "restoreCriteria are needed"),
        (
            "demoblobs",
            _to("ItemLevelRestoreTargetInfo", restoreCriteria=[CRITERIA]),
            "must be of ItemPathBasedRestoreCriteria",
        ),
        (
            "demo-aks",
            _to("ItemLevelRestoreTargetInfo", restoreCriteria=[{"objectType": CRITERIA["objectType"]}]),
            "includeClusterScopeResources must be given",
        ),
    ],
)
def test_a_restore_request_must_fit_its_data_source(
    client: Client, clock: ManualClock, name: str, changes: dict[str, Any], told: str
) -> None:
    client.azure.start_job(name)
    clock.advance(1000)
    reply = client.post(f"{client.item(name)}/restore", restore_of(point_of(client, name), **changes))
    assert (reply.status_code, told in reply.text) == (400, True), reply.text


@pytest.mark.parametrize("ending", ["Succeeded", "Failed", "InProgress"])
def test_a_validation_ends_as_planned(client: Client, clock: ManualClock, ending: str) -> None:
    back_up(client, clock, "orders")
    client.azure.plan("orders", validation=ending)
    request = {"restoreRequestObject": restore_of(point_of(client, "orders"))}
    operation = operation_of(client.post(f"{client.item('orders')}/validateRestore", request))
    clock.advance(3600)
    assert client.get(operation).json()["status"].casefold() == ending.casefold()


@pytest.mark.parametrize(
    "changes",
    [
        {"objectType": "IaasVMRestoreRequest"},
        {"sourceDataStoreType": "Attic"},
        {"restoreTargetInfo": None},
        {"objectType": "AzureBackupRecoveryTimeBasedRestoreRequest", "recoveryPointTime": "yesterday"},
        {"recoveryPointId": "no-such-point"},
    ],
    ids=str,
)
def test_a_restore_request_that_makes_no_sense_is_refused(client: Client, changes: dict[str, Any]) -> None:
    reply = client.post(f"{client.item('orders')}/restore", restore_of("p", **changes))
    assert reply.status_code == 400, reply.text
    assert client.azure.service.world.jobs == {}


def test_a_restore_may_fail_before_it_has_a_job(azure: Emulator, client: Client, clock: ManualClock) -> None:
    back_up(client, clock, "orders")
    azure.plan("orders", operation="Failed")
    request = restore_of(point_of(client, "orders"))
    reply = client.post(f"{client.item('orders')}/restore", request)
    clock.advance(2)
    assert client.get(operation_of(reply)).json()["status"] == "Failed"
    assert client.get(reply.headers["Location"]).status_code == 400


def test_the_result_of_an_operation_is_a_202_while_it_runs(client: Client) -> None:
    reply = client.get(trigger(client, "disk-good").headers["Location"])
    assert (reply.status_code, reply.headers["Retry-After"]) == (202, "60")


# Vaults, rights, budgets


def test_vaults_are_listed_by_type(client: Client) -> None:
    group = f"{SUBSCRIPTION}/resourceGroups/demo-rg"
    for scope in (SUBSCRIPTION, group):
        (found,) = client.get(f"{scope}/providers/Microsoft.DataProtection/backupVaults").json()["value"]
        assert found == client.get(VAULT).json()
    elsewhere = f"{SUBSCRIPTION}/resourceGroups/other/providers/Microsoft.DataProtection/backupVaults"
    assert client.get(elsewhere).json() == {"value": []}
    older = client.get(f"{SUBSCRIPTION}/providers/Microsoft.RecoveryServices/vaults").json()["value"]
    assert [vault["name"] for vault in older] == ["demo-vault", "demo-vault-2"]


@pytest.mark.parametrize(
    ("path", "code"),
    [
        (f"{VAULT}-gone/backupJobs", "ResourceNotFound"),
        (VAULT.replace("demo-rg", "no-rg"), "ResourceGroupNotFound"),
        (
            VAULT.replace("Microsoft.DataProtection/backupVaults", "Microsoft.RecoveryServices/vaults"),
            "ResourceNotFound",
        ),
        (f"{VAULT}/backupInstances/none", "ResourceNotFound"),
        (f"{VAULT}/backupPolicies/none", "ResourceNotFound"),
        (f"{VAULT}/backupJobs/none", "ResourceNotFound"),
        (f"{VAULT}/operationStatus/bm9uZQ==", "ResourceNotFound"),
        (f"{VAULT}/operationStatus/none", "ResourceNotFound"),
    ],
)
def test_what_is_not_there_is_a_404(client: Client, path: str, code: str) -> None:
    reply = client.get(path)
    assert (reply.status_code, reply.json()["error"]["code"]) == (404, code)


def test_a_job_is_found_in_its_own_vault_alone(azure: Emulator, client: Client) -> None:
    older = f"{SUBSCRIPTION}/resourceGroups/demo-rg/providers/Microsoft.RecoveryServices/vaults/demo-vault"
    ours, theirs = azure.start_job("disk-good"), azure.start_job("vm-good")
    assert client.get(f"{VAULT}/backupJobs/{theirs}").status_code == 404
    assert client.get(f"{older}/backupJobs/{ours}").status_code == 404
    assert [job["name"] for job in client.get(f"{older}/backupJobs").json()["value"]] == [theirs]


@pytest.mark.parametrize(
    ("principal", "allowed"),
    [
        ("operator", {"instances", "policy", "jobs", "points", "trigger", "restore"}),
        ("reader", {"instances", "policy", "points"}),  # neither built-in role lists the reads of jobs
        ("waiter", {"jobs"}),
        ("nobody", set()),
    ],
)
def test_each_role_may_do_what_its_definition_lists(
    as_: Callable[[str], Client], principal: str, allowed: set[str]
) -> None:
    client = as_(principal)
    item = client.item("disk-good")
    asked = {
        "instances": client.get(f"{VAULT}/backupInstances"),
        "policy": client.get(f"{VAULT}/backupPolicies/disk-policy"),
        "jobs": client.get(f"{VAULT}/backupJobs"),
        "points": client.get(f"{item}/recoveryPoints"),
        "trigger": trigger(client, "disk-good"),
        "restore": client.post(f"{item}/restore", {}),
    }
    assert {name for name, reply in asked.items() if reply.status_code != 403} == allowed
    for name in asked.keys() - allowed:
        assert "'Microsoft.DataProtection/backupVaults/" in asked[name].json()["error"]["message"]


def test_what_is_left_to_read_is_counted_from_the_recorded_numbers(
    client: Client, clock: ManualClock
) -> None:
    header = "x-ms-ratelimit-remaining-subscription-resource-requests"
    clock.advance(3600)
    reply = trigger(client, "disk-good")
    left = {
        name: client.get(path).headers[header]
        for name, path in {
            "jobs": f"{VAULT}/backupJobs",
            "instances": f"{VAULT}/backupInstances",
            "operation": operation_of(reply),
            "result": reply.headers["Location"],
            "points": f"{client.item('disk-good')}/recoveryPoints",
        }.items()
    }
    assert left == {"jobs": "199", "instances": "1999", "operation": "999", "result": "199", "points": "99"}
    assert client.get(f"{VAULT}/backupJobs").headers[header] == "198"
    older = client.get(
        f"{SUBSCRIPTION}/resourceGroups/demo-rg/providers/Microsoft.RecoveryServices/vaults/demo-vault/backupJobs"
    )
    assert older.headers[header] == "149"


def test_jobs_and_operations_outlive_a_restart(tmp_path: Path, clock: ManualClock) -> None:
    with Emulator(directory=tmp_path, clock=clock) as azure:
        job_id = azure.start_job("disk-good")
    with Emulator(directory=tmp_path, clock=clock) as azure:
        assert azure.service.world.jobs[job_id].item == azure.service.world.named("disk-good")[0]

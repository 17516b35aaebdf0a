"""The emulator answers in the shape of recorded traffic: same keys, same types, all the way down."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from azure_backup_emulator import Emulator
from tests.emulator.conftest import SUBSCRIPTION, VAULT, Client
from tests.support.clock import ManualClock
from tests.support.recordings import example, exchanges, jobs, needs_recordings, replies, shape

pytestmark = needs_recordings

OLD: dict[str, Any] = {"quirks": ["integer-actions"]}
# recording, item, plan, and at which second of the emulated job each recorded answer is met again
BACKUPS = [
    ("vm_backup_completed", "vm-good", {"quirks": ["older-vm-jobs"]}, [2, 465, 1000, 3000]),
    ("afs_backup_completed", "documents", {}, [1.6, 10]),
    ("sql_backup_completed", "msdb", {}, [2, 500]),
    ("hana_backup_completed", "systemdb", {}, [2, 500]),
    (
        "vm_backup_cancelled_ends_completed_with_warnings",
        "vm-good",
        {"ending": "CancelledInTransfer", **OLD},
        [2, 465, 3000],
    ),
    (
        "vm_backup_completed_with_warnings",
        "vm-good",
        {"ending": "CompletedWithWarnings", **OLD},
        [2, 465, 1000, 3000],
    ),
]
SHARE: dict[str, Any] = {
    "objectType": "AzureFileShareRestoreRequest",
    "recoveryType": "OriginalLocation",
    "copyOptions": "Overwrite",
    "restoreRequestType": "FullShareRestore",
}
ASIDE = {
    **SHARE,
    "recoveryType": "AlternateLocation",
    "targetDetails": {"name": "elsewhere", "targetResourceId": "/x/storageAccounts/other"},
}
DISKS = {"objectType": "IaasVMRestoreRequest", "recoveryType": "RestoreDisks", "storageAccountId": "/x/disks"}
HANA = {
    "objectType": "AzureWorkloadSAPHanaRestoreRequest",
    "recoveryType": "AlternateLocation",
    "targetInfo": {
        "overwriteOption": "Overwrite",
        "containerId": "/x/protectionContainers/y",
        "databaseName": "HXE/HDB",
    },
}
RESTORES = [
    ("vm_restore_disks_completed", "vm-good", {}, DISKS, [1, 3000]),
    ("vm_restore_failed", "vm-good", {"ending": "Failed", **OLD}, DISKS, [1, 100, 3000]),
    ("afs_restore_completed", "documents", {}, SHARE, [1, 500]),
    ("afs_restore_failed", "documents", {"ending": "Failed"}, ASIDE, [1, 500]),
    ("hana_restore_failed", "systemdb", {"ending": "Failed"}, HANA, [1, 500]),
    ("hana_restore_transient_500", "systemdb", {}, HANA, [1, 100, 200, 500]),
]


def same_job(recorded: Any, ours: Any) -> None:
    """Shape and the words a client decides by."""
    assert shape(ours) == shape(recorded)
    for key in ("jobType", "operation", "status", "backupManagementType", "actionsInfo", "isUserTriggered"):
        assert ours["properties"].get(key) == recorded["properties"].get(key), key
    details = [
        [each.get("errorCode") for each in body["properties"].get("errorDetails", [])]
        for body in (ours, recorded)
    ]
    assert details[0] == details[1]
    tasks = [
        [(t["taskId"], t["status"]) for t in body["properties"]["extendedInfo"]["tasksList"]]
        for body in (ours, recorded)
    ]
    assert tasks[0] == tasks[1]


@pytest.mark.parametrize(("recording", "item", "plan", "seconds"), BACKUPS, ids=lambda value: str(value)[:40])
def test_a_backup_job_looks_as_recorded_at_every_stage(
    azure: Emulator,
    client: Client,
    clock: ManualClock,
    recording: str,
    item: str,
    plan: dict[str, Any],
    seconds: list[float],
) -> None:
    azure.plan(item, **plan)
    operation = client.back_up(item)
    started = clock()
    clock.advance(1)
    job_id = client.job_of(operation)
    recorded = jobs(recording)
    assert len(recorded) == len(seconds)
    for body, at in zip(recorded, seconds, strict=True):
        clock.advance(started + at - clock())
        same_job(body, client.get(f"{VAULT}/backupJobs/{job_id}").json())


@pytest.mark.parametrize(
    ("recording", "item", "plan", "request_", "seconds"), RESTORES, ids=lambda value: str(value)[:40]
)
def test_a_restore_job_looks_as_recorded_at_every_stage(
    azure: Emulator,
    client: Client,
    clock: ManualClock,
    started: Callable[..., str],
    recording: str,
    item: str,
    plan: dict[str, Any],
    request_: dict[str, Any],
    seconds: list[float],
) -> None:
    started(item)
    clock.advance(5000)
    azure.plan(item, **plan)
    point = client.get(f"{client.item(item)}/recoveryPoints").json()["value"][0]
    reply = client.post(f"{point['id']}/restore", {"properties": request_})
    assert reply.status_code == 202
    # The operation of a restore and its job share their id.
    job_id = reply.headers["Location"].partition("?")[0].rpartition("/")[2]
    begun = clock()
    for body, at in zip(jobs(recording), seconds, strict=True):
        clock.advance(begun + at - clock())
        same_job(body, client.get(f"{VAULT}/backupJobs/{job_id}").json())


@pytest.mark.parametrize(
    ("recording", "item", "part"),
    [
        ("vm_backup_completed", "vm-good", "/backupProtectedItems"),
        ("afs_backup_completed", "documents", "/backupProtectedItems"),
        ("sql_backup_completed", "msdb", "/protectedItems/SQLDataBase%3Bmssqlserver%3Bmsdb"),
        ("hana_backup_completed", "systemdb", "/protectedItems/saphanadatabase%3Bhxe%3Bsystemdb"),
    ],
)
def test_a_protected_item_looks_as_recorded_before_and_after_its_first_backup(
    client: Client, clock: ManualClock, started: Callable[..., str], recording: str, item: str, part: str
) -> None:
    before, after = (
        reply["body"] for reply in replies(recording, "GET", part) if "recoveryPoints" not in str(reply)
    )
    path = client.item(item)
    for body in (before, after):
        recorded = body["value"][0] if "value" in body else body
        ours = client.get(path).json()
        assert shape(ours) == shape(recorded)
        for key in ("protectionState", "lastBackupStatus", "protectedItemType", "workloadType"):
            assert ours["properties"][key] == recorded["properties"][key]
        started(item)
        clock.advance(5000)


@pytest.mark.parametrize(
    ("recording", "item"), [("vm_backup_completed", "vm-good"), ("afs_backup_completed", "documents")]
)
def test_a_list_of_recovery_points_looks_as_recorded(
    client: Client, clock: ManualClock, started: Callable[..., str], recording: str, item: str
) -> None:
    started(item)
    clock.advance(5000)
    recorded = next(replies(recording, "GET", "/recoveryPoints"))["body"]
    assert shape(client.get(f"{client.item(item)}/recoveryPoints").json()) == shape(recorded)


def test_a_hana_recovery_point_looks_as_recorded(
    client: Client, clock: ManualClock, started: Callable[..., str]
) -> None:
    started("systemdb")
    clock.advance(5000)
    recorded = next(replies("hana_restore_failed", "GET", "/recoveryPoints/"))["body"]
    point = client.get(f"{client.item('systemdb')}/recoveryPoints").json()["value"][0]
    assert shape(client.get(point["id"]).json()) == shape(recorded)


@pytest.mark.parametrize(
    ("recording", "management", "parent"),
    [
        ("vm_backup_completed", "AzureIaasVM", "vm-good"),
        ("sql_backup_completed", "AzureWorkload", "sqlvm"),
        ("hana_backup_completed", "AzureWorkload", "hanavm"),
    ],
)
def test_a_list_of_containers_looks_as_recorded(
    client: Client, recording: str, management: str, parent: str
) -> None:
    recorded = next(replies(recording, "GET", "/backupProtectionContainers"))["body"]
    text = f"backupManagementType eq '{management}' and friendlyName eq '{parent}' and status eq 'Registered'"
    ours = client.get(f"{VAULT}/backupProtectionContainers", params={"$filter": text}).json()
    assert shape(ours) == shape(recorded)


def test_an_operation_looks_as_recorded_while_it_runs_and_when_it_has_made_its_job(
    client: Client, clock: ManualClock
) -> None:
    operation = client.back_up("msdb")
    for recorded in replies("sql_backup_completed", "GET", "/backupOperations/"):
        ours = client.get(f"{VAULT}/backupOperations/{operation}").json()
        assert shape(ours) == shape(recorded["body"])
        assert ours["status"] == recorded["body"]["status"]
        assert (ours["endTime"] == "0001-01-01T00:00:00") == (ours["status"] == "InProgress")
        assert (ours["endTime"] == ours["startTime"]) == (ours["status"] == "Succeeded")
        clock.advance(2)


def test_a_trigger_is_answered_with_the_recorded_headers_and_no_body(client: Client) -> None:
    item = client.item("vm-good")
    reply = client.post(f"{item}/backup", {"properties": {"objectType": "IaasVMBackupRequest"}})
    recorded = next(replies("vm_backup_completed", "POST", "/backup"))
    assert (reply.status_code, reply.content) == (recorded["status"], b"")
    assert {name.lower() for name in reply.headers} >= recorded["headers"].keys() - {"transfer-encoding"}
    for name, kind in (("Azure-AsyncOperation", "operationsStatus"), ("Location", "operationResults")):
        address, _, query = reply.headers[name].partition("?")
        assert address.startswith(f"{client.azure.url}{item}/{kind}/")
        assert [part.partition("=")[0] for part in query.split("&")] == ["api-version", "t", "c", "s", "h"]
        assert 3200 < len(reply.headers[name]) < 3800
    assert reply.headers["Retry-After"] == "60"


def test_operation_results_answer_as_in_2016(client: Client, clock: ManualClock) -> None:
    running, done = replies(
        "vm_backup_then_cancel_2016",
        "GET",
        "/protectedItems/vm;iaasvmcontainerv2;arpittestresourcegroup;vkencryrestore/operationResults/",
    )
    operation = client.back_up("vm-good")
    for expected in (running, done):
        ours = client.get(f"{client.item('vm-good')}/operationResults/{operation}")
        assert ours.status_code == expected["status"]
        assert (ours.json() if ours.content else "") == expected["body"]
        names = {"retry-after", "azure-asyncoperation", "location"}
        assert names & {name.lower() for name in ours.headers} == names & expected["headers"].keys()
        clock.advance(2)


def test_a_cancel_is_answered_as_recorded(client: Client, started: Callable[..., str]) -> None:
    job_id = started("vm-good")
    reply = client.post(f"{VAULT}/backupJobs/{job_id}/cancel")
    recorded = next(replies("job_list_filters_and_cancel", "POST", "/cancel"))
    assert (reply.status_code, reply.content) == (recorded["status"], b"")
    for name in ("azure-asyncoperation", "location"):
        ours, theirs = (text.partition("?") for text in (reply.headers[name], recorded["headers"][name]))
        assert ours[0].split("/")[-2] == theirs[0].split("/")[-2]
        if name == "azure-asyncoperation":
            assert (
                ours[2].partition("&")[0] == theirs[2].partition("&")[0] == "api-version=2019-05-13-preview"
            )


def test_a_job_list_looks_as_recorded(azure: Emulator, client: Client, clock: ManualClock) -> None:
    azure.start_job("vm-good", operation="ConfigureBackup")
    clock.advance(100)
    azure.start_job("vm-good", operation="Backup")
    clock.advance(5000)
    azure.start_job("vm-good", operation="Restore")
    recorded = next(replies("job_list_filters_and_cancel", "GET", "/backupJobs"))["body"]
    ours = client.get(f"{VAULT}/backupJobs").json()
    assert [shape(job) for job in ours["value"]] == [shape(job) for job in recorded["value"]]
    assert shape(ours).keys() == shape(recorded).keys()


def test_a_configuration_job_looks_as_recorded_in_2026(
    azure: Emulator, client: Client, clock: ManualClock
) -> None:
    job_id = azure.start_job("vm-good", operation="ConfigureBackup")
    clock.advance(100)
    ours = client.get(f"{VAULT}/backupJobs/{job_id}").json()
    assert shape(ours) == shape(jobs("vm_enable_protection_2026")[0])


def test_the_throttling_answer_is_the_recorded_one(
    azure: Emulator, client: Client, clock: ManualClock
) -> None:
    azure.configure(job_read_budget=150)
    assert [client.get(f"{VAULT}/backupJobs").status_code for _ in range(150)] == [200] * 150
    clock.advance(3600 - 324)
    ours = client.get(f"{VAULT}/backupJobs")
    recorded = next(each for each in exchanges("job_poll_throttled_429") if each["response"]["status"] == 429)
    assert (ours.status_code, ours.json()) == (429, recorded["response"]["body"])
    assert ours.headers["Retry-After"] == "324"
    assert ours.headers["x-ms-failure-cause"] == recorded["response"]["headers"]["x-ms-failure-cause"]


@pytest.mark.parametrize("code", ["ResourceNotFound", "ResourceGroupNotFound"])
def test_a_missing_vault_or_group_is_answered_as_recorded(client: Client, code: str) -> None:
    missing = {
        "ResourceNotFound": f"{VAULT}-gone",
        "ResourceGroupNotFound": VAULT.replace("demo-rg", "no-rg"),
    }
    recorded = next(
        each["response"]
        for each in exchanges("error_bodies")
        if each["response"]["body"].get("error", {}).get("code") == code
    )
    ours = client.get(missing[code])
    assert ours.status_code == recorded["status"] == 404
    assert ours.json()["error"]["code"] == code
    assert shape(ours.json()) == shape(recorded["body"])
    assert ours.headers["x-ms-failure-cause"] == recorded["headers"]["x-ms-failure-cause"]


def test_backup_status_looks_as_in_the_official_example(client: Client) -> None:
    source = client.azure.service.world.named("vm-good")[0].source_id
    ours = client.post(
        f"{SUBSCRIPTION}/providers/Microsoft.RecoveryServices/locations/westeurope/backupStatus",
        {"resourceType": "VM", "resourceId": source},
    )
    assert shape(ours.json()) == shape(example("rsv__AzureIaasVm__GetBackupStatus"))


def test_usage_summaries_look_as_in_the_official_example(client: Client) -> None:
    text = "type eq 'BackupProtectedItemCountSummary'"
    ours = client.get(f"{VAULT}/backupUsageSummaries", params={"$filter": text}).json()
    assert shape(ours) == shape(example("rsv__Common__BackupProtectedItem_UsageSummary_Get"))
    assert {each["name"]["value"]: each["currentValue"] for each in ours["value"]} == {
        "AzureIaasVM": 30,
        "AzureStorage": 1,
        "AzureWorkload": 6,
    }

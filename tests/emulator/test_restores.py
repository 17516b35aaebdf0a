"""What the service takes for a restore, what it refuses, and how it shows a database's logs."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from azure_backup_emulator import Emulator
from tests.emulator.conftest import VAULT, Client
from tests.support.clock import ManualClock

DISKS: dict[str, Any] = {
    "objectType": "IaasVMRestoreRequest",
    "recoveryType": "RestoreDisks",
    "storageAccountId": "/x/storageAccounts/y",
}
ASIDE: dict[str, Any] = {
    **DISKS,
    "recoveryType": "AlternateLocation",
    "targetVirtualMachineId": "/x/virtualMachines/y",
    "targetResourceGroupId": "/x",
    "virtualNetworkId": "/x/virtualNetworks/y",
    "subnetId": "/x/virtualNetworks/y/subnets/z",
}
SHARE: dict[str, Any] = {
    "objectType": "AzureFileShareRestoreRequest",
    "recoveryType": "OriginalLocation",
    "copyOptions": "Skip",
    "restoreRequestType": "FullShareRestore",
}
FILE = {"path": "a", "fileSpecType": "File"}
SOME = {**SHARE, "restoreRequestType": "ItemLevelRestore", "restoreFileSpecs": [FILE]}
OTHER = {
    **SHARE,
    "recoveryType": "AlternateLocation",
    "targetDetails": {"name": "a", "targetResourceId": "/b"},
}
SQL: dict[str, Any] = {"objectType": "AzureWorkloadSQLRestoreRequest", "recoveryType": "OriginalLocation"}
BESIDE = {
    **SQL,
    "recoveryType": "AlternateLocation",
    "targetInfo": {"overwriteOption": "Overwrite", "containerId": "/x", "databaseName": "a/b"},
}
HANA = {**SQL, "objectType": "AzureWorkloadSAPHanaRestoreRequest"}
GOOD = [
    ("vm-good", DISKS),
    ("vm-good", {**DISKS, "recoveryType": "OriginalLocation"}),
    ("vm-good", ASIDE),
    ("vm-good", {**DISKS, "storageAccountId": None, "identityBasedRestoreDetails": {"objectType": "x"}}),
    ("vm-good", {**DISKS, "objectType": "IaasVMRestoreWithRehydrationRequest"}),
    ("documents", SHARE),
    ("documents", SOME),
    ("documents", OTHER),
    ("payroll", SQL),
    ("payroll", BESIDE),
    ("payroll", {**SQL, "objectType": "AzureWorkloadSQLRestoreWithRehydrateRequest"}),
    ("systemdb", HANA),
]


def restored(client: Client, clock: ManualClock, azure: Emulator, item: str, asked: Any) -> Any:
    azure.start_job(item)
    clock.advance(3000)
    (point,) = client.get(f"{client.item(item)}/recoveryPoints").json()["value"]
    return client.post(f"{point['id']}/restore", {"properties": asked})


@pytest.mark.parametrize(("item", "asked"), GOOD)
def test_a_whole_request_is_taken(
    azure: Emulator, client: Client, clock: ManualClock, item: str, asked: dict[str, Any]
) -> None:
    assert restored(client, clock, azure, item, asked).status_code == 202


def lacking(item: str, whole: dict[str, Any], *names: str) -> list[tuple[str, Any]]:
    """The request without each of these, one at a time; a dot leads into an object."""
    found = []
    for name in names:
        outer, _, inner = name.partition(".")
        rest = {key: value for key, value in whole.items() if key != outer}
        if inner:
            rest[outer] = {key: value for key, value in whole[outer].items() if key != inner}
        found.append((item, rest))
    return found


@pytest.mark.parametrize(
    ("item", "asked"),
    [
        ("vm-good", None),
        ("vm-good", {}),
        ("vm-good", SHARE),
        ("payroll", HANA),
        ("vm-good", {**DISKS, "recoveryType": "Offline"}),
        ("vm-good", {**DISKS, "recoveryPointId": "1"}),
        ("documents", {**SHARE, "recoveryType": "RestoreDisks"}),
        ("documents", {**SHARE, "copyOptions": "Invalid"}),
        ("documents", {**SOME, "restoreFileSpecs": []}),
        ("documents", {**SOME, "restoreFileSpecs": [FILE, {"path": "b"}]}),
        ("payroll", {**SQL, "objectType": "AzureWorkloadSQLPointInTimeRestoreRequest"}),
        *lacking("vm-good", DISKS, "objectType", "recoveryType", "storageAccountId"),
        *lacking(
            "vm-good",
            ASIDE,
            "targetVirtualMachineId",
            "targetResourceGroupId",
            "virtualNetworkId",
            "subnetId",
            "storageAccountId",
        ),
        *lacking("documents", SHARE, "copyOptions", "restoreRequestType"),
        *lacking("documents", OTHER, "targetDetails", "targetDetails.name", "targetDetails.targetResourceId"),
        *lacking(
            "payroll",
            BESIDE,
            "targetInfo",
            "targetInfo.overwriteOption",
            "targetInfo.containerId",
            "targetInfo.databaseName",
        ),
    ],
)
def test_a_request_that_lacks_something_is_refused_and_starts_nothing(
    azure: Emulator, client: Client, clock: ManualClock, item: str, asked: Any
) -> None:
    reply = restored(client, clock, azure, item, asked)
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "BMSUserErrorInvalidInput")
    assert len(client.get(f"{VAULT}/backupJobs").json()["value"]) == 1


def test_a_recovery_point_that_is_not_there_cannot_be_restored(client: Client) -> None:
    reply = client.post(f"{client.item('vm-good')}/recoveryPoints/1/restore", {"properties": DISKS})
    assert (reply.status_code, reply.json()["error"]["code"]) == (404, "ResourceNotFound")


def test_a_restore_can_be_declined_behind_its_operation(
    azure: Emulator, client: Client, clock: ManualClock
) -> None:
    azure.plan("vm-good", operation="Failed")
    reply = restored(client, clock, azure, "vm-good", DISKS)
    clock.advance(5)
    operation = reply.headers["Location"].partition("?")[0].rpartition("/")[2]
    body = client.get(f"{VAULT}/backupOperations/{operation}").json()
    assert (body["status"], body["error"]["code"]) == ("Failed", "UserErrorGuestAgentStatusUnavailable")
    assert len(client.get(f"{VAULT}/backupJobs").json()["value"]) == 1


@pytest.mark.parametrize("item", ["payroll", "systemdb"])
def test_the_logs_of_a_database_reach_from_its_first_full_backup_to_its_last_log_backup(
    azure: Emulator, client: Client, clock: ManualClock, item: str
) -> None:
    def listed(query: str = "") -> list[Any]:
        wanted = {"$filter": f"restorePointQueryType eq '{query}'"} if query else {}
        reply = client.get(f"{client.item(item)}/recoveryPoints", params=wanted)
        return [each["properties"]["type"] for each in reply.json()["value"]]

    for kind in ("Full", "Differential", "Log", "Log"):
        azure.start_job(item, backup_type=kind)
        clock.advance(3600)
    assert listed() == ["Differential", "Full"]
    assert (listed("Full"), listed("Differential"), listed("Log")) == (["Full"], ["Differential"], ["Log"])
    assert listed("FullAndDifferential") == ["Differential", "Full"]
    assert listed("All") == ["Differential", "Full", "Log"]
    name = f"{client.item(item)}/recoveryPoints/DefaultRangeRecoveryPoint"
    (reach,) = client.get(name).json()["properties"]["timeRanges"]
    first, *_, last = (job.starts + job.point_after for job in azure.service.world.jobs.values())
    told = [datetime.fromisoformat(reach[end]).timestamp() for end in ("startTime", "endTime")]
    assert told == pytest.approx([first, last])


@pytest.mark.parametrize("moment", [None, "soon", "2020-01-01T00:00:00Z"])
def test_a_moment_outside_the_logs_is_refused(
    azure: Emulator, client: Client, clock: ManualClock, moment: str | None
) -> None:
    for kind in ("Full", "Log"):
        azure.start_job("payroll", backup_type=kind)
        clock.advance(3600)
    asked = {**SQL, "objectType": "AzureWorkloadSQLPointInTimeRestoreRequest", "pointInTime": moment}
    path = f"{client.item('payroll')}/recoveryPoints/DefaultRangeRecoveryPoint/restore"
    assert client.post(path, {"properties": asked}).status_code == 400


def test_without_a_log_backup_there_are_no_logs(azure: Emulator, client: Client, clock: ManualClock) -> None:
    azure.start_job("payroll")
    clock.advance(3600)
    path = f"{client.item('payroll')}/recoveryPoints"
    assert client.get(f"{path}/DefaultRangeRecoveryPoint").status_code == 404
    assert client.get(path, params={"$filter": "restorePointQueryType eq 'Log'"}).json()["value"] == []
    assert client.get(path, params={"$filter": "restorePointQueryType eq 'Some'"}).status_code == 400

"""How a backup goes: its endings, its stages, its cancellation, and the ways its trigger can go wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from azure_backup_emulator import Emulator
from tests.emulator.conftest import VAULT, Client
from tests.support.clock import ManualClock

# ending, status, code and title in errorDetails, status of each task
ENDINGS = [
    ("Completed", "Completed", None, ["Completed", "Completed", "Completed"]),
    ("Failed", "Failed", "UserErrorGuestAgentStatusUnavailable", ["Failed", "NotStarted", "NotStarted"]),
    ("Cancelled", "Cancelled", "UserErrorJobSuccessfullyCancelled", ["Completed", "Cancelled", "NotStarted"]),
    (
        "CompletedWithWarnings",
        "CompletedWithWarnings",
        "ResourceNotFound",
        ["Completed", "Failed", "NotStarted"],
    ),
    (
        "CancelledInTransfer",
        "CompletedWithWarnings",
        "UserErrorJobSuccessfullyCancelled",
        ["Completed", "Cancelled", "NotStarted"],
    ),
]


def _tasks(job: dict[str, Any]) -> list[str]:
    return [task["status"] for task in job["extendedInfo"]["tasksList"]]


@pytest.mark.parametrize(("ending", "status", "title", "tasks"), ENDINGS)
def test_a_machine_backup_ends_as_planned(
    azure: Emulator,
    client: Client,
    clock: ManualClock,
    started: Callable[..., str],
    ending: str,
    status: str,
    title: str | None,
    tasks: list[str],
) -> None:
    azure.plan("vm-good", ending=ending, seconds=600)
    job_id = started("vm-good")
    clock.advance(597)
    assert client.job(job_id)["status"] == "InProgress"
    clock.advance(1.1)
    job = client.job(job_id)
    assert (job["status"], _tasks(job)) == (status, tasks)
    assert [error["errorTitle"] for error in job.get("errorDetails", [])] == ([title] if title else [])


@pytest.mark.parametrize("ending", [ending[0] for ending in ENDINGS])
@pytest.mark.parametrize("item", ["documents", "msdb", "systemdb"])
def test_every_workload_can_end_in_every_way(
    azure: Emulator, client: Client, clock: ManualClock, started: Callable[..., str], item: str, ending: str
) -> None:
    azure.plan(item, ending=ending, seconds=60)
    job_id = started(item)
    clock.advance(100)
    job = client.job(job_id)
    assert job["status"] == next(row[1] for row in ENDINGS if row[0] == ending)
    assert ("errorDetails" in job) == (ending != "Completed")
    titled = [error for error in job.get("errorDetails", []) if "errorTitle" in error]
    assert titled == [] if item == "documents" else len(titled) == (ending != "Completed")


def test_a_job_that_never_ends_is_still_running_after_a_month(
    azure: Emulator, client: Client, clock: ManualClock, started: Callable[..., str]
) -> None:
    azure.plan("vm-good", ending="Never")
    job_id = started("vm-good")
    clock.advance(30 * 86400)
    job = client.job(job_id)
    assert (job["status"], "endTime" in job) == ("InProgress", False)
    assert _tasks(job) == ["Completed", "Completed", "InProgress"]
    assert job["duration"].startswith("P30DT")


def test_progress_grows_while_data_is_transferred(
    client: Client, clock: ManualClock, started: Callable[..., str]
) -> None:
    job_id = started("vm-good")
    seen = []
    for _ in range(4):
        clock.advance(550)
        job = client.job(job_id)["extendedInfo"]
        # No backup of a VM was ever seen to report gigabytes.
        assert not any("taskExecutionDetails" in task for task in job["tasksList"])
        seen.append(job["progressPercentage"])
    assert seen == sorted(set(seen))
    assert 0 < seen[0] < seen[-1] < 100
    clock.advance(550)
    assert client.job(job_id)["extendedInfo"]["progressPercentage"] == 100.0


@pytest.mark.parametrize(("item", "seconds"), [("vm-good", 2480), ("documents", 3), ("msdb", 182)])
def test_a_backup_lasts_the_recorded_median(
    client: Client, clock: ManualClock, item: str, seconds: float
) -> None:
    operation = client.back_up(item)
    clock.advance(1)
    job_id = client.job_of(operation)
    clock.advance(seconds - 1.1)
    assert client.job(job_id)["status"] == "InProgress"
    clock.advance(0.2)
    assert client.job(job_id)["status"] == "Completed"


@pytest.mark.parametrize(
    "status", ["Invalid", "Hibernating", "InProgress", "Completed", "Failed", "Cancelled"]
)
def test_a_job_can_be_pinned_to_any_word_and_let_go(
    azure: Emulator, client: Client, clock: ManualClock, status: str
) -> None:
    job_id = azure.start_job("vm-good")
    clock.advance(10)
    azure.set_status(job_id, status)
    clock.advance(9999)
    job = client.job(job_id)
    assert job["status"] == status
    assert ("endTime" in job) == (status in ("Completed", "Failed", "Cancelled"))
    azure.set_status(job_id, None)
    assert client.job(job_id)["status"] == "Completed"


@pytest.mark.parametrize(
    ("after", "status", "points"), [(100, "Cancelled", 0), (1000, "CompletedWithWarnings", 1)]
)
def test_a_cancelled_machine_backup_ends_by_its_stage(
    azure: Emulator,
    client: Client,
    clock: ManualClock,
    started: Callable[..., str],
    after: float,
    status: str,
    points: int,
) -> None:
    job_id = started("vm-good")
    clock.advance(after)
    reply = client.post(f"{VAULT}/backupJobs/{job_id}/cancel")
    assert reply.status_code == 202
    assert client.job(job_id)["status"] == "Cancelling"
    clock.advance(11)
    job = client.job(job_id)
    assert job["status"] == status
    assert job["errorDetails"][0]["errorTitle"] == "UserErrorJobSuccessfullyCancelled"
    found = client.get(f"{client.item('vm-good')}/recoveryPoints").json()["value"]
    tiers = [[tier["type"] for tier in point["properties"]["recoveryPointTierDetails"]] for point in found]
    assert tiers == [["InstantRP"]] * points
    for kind, expected in (("Location", 204), ("Azure-AsyncOperation", 200)):
        assert client.get(reply.headers[kind], version=None).status_code == expected


@pytest.mark.parametrize("cancel", ["accepted", "declined", "ignored"])
def test_a_cancel_can_be_slow_declined_or_without_effect(
    azure: Emulator, client: Client, clock: ManualClock, started: Callable[..., str], cancel: str
) -> None:
    azure.plan("vm-good", cancel=cancel, cancel_seconds=120)
    job_id = started("vm-good")
    assert client.post(f"{VAULT}/backupJobs/{job_id}/cancel").status_code == (
        400 if cancel == "declined" else 202
    )
    clock.advance(119)
    assert client.job(job_id)["status"] == ("Cancelling" if cancel == "accepted" else "InProgress")
    clock.advance(5000)
    assert client.job(job_id)["status"] == ("Cancelled" if cancel == "accepted" else "Completed")


def test_a_job_that_completes_before_its_cancellation_got_through_is_completed(
    client: Client, clock: ManualClock, started: Callable[..., str]
) -> None:
    job_id = started("vm-good")
    clock.advance(2470)
    client.post(f"{VAULT}/backupJobs/{job_id}/cancel")
    clock.advance(20)
    assert client.job(job_id)["status"] == "Completed"


def test_what_has_ended_or_is_no_backup_cannot_be_cancelled(
    azure: Emulator, client: Client, clock: ManualClock
) -> None:
    configure, backup = azure.start_job("vm-good", operation="ConfigureBackup"), azure.start_job("documents")
    clock.advance(30)
    for job_id in (configure, backup):
        reply = client.post(f"{VAULT}/backupJobs/{job_id}/cancel")
        assert (reply.status_code, "code" in reply.json()["error"]) == (400, True)


@pytest.mark.parametrize("operation", ["Succeeded", "Failed", "InProgress", "NoProperties", "JobIds"])
def test_the_operation_of_a_trigger_ends_as_planned(
    azure: Emulator, client: Client, clock: ManualClock, operation: str
) -> None:
    azure.plan("vm-good", operation=operation, operation_seconds=13)
    name = client.back_up("vm-good")
    clock.advance(12.9)
    address = f"{VAULT}/backupOperations/{name}"
    assert client.get(address).json()["status"] == "InProgress"
    clock.advance(1000)
    body = client.get(address).json()
    assert body["status"] == {"Failed": "Failed", "InProgress": "InProgress"}.get(operation, "Succeeded")
    assert body.get("error", {}).get("code") == (
        "UserErrorGuestAgentStatusUnavailable" if operation == "Failed" else None
    )
    listed = [job["name"] for job in client.get(f"{VAULT}/backupJobs").json()["value"]]
    properties = body.get("properties", {})
    assert [properties["jobId"]] == listed if operation == "Succeeded" else "jobId" not in properties
    assert properties["jobIds"] == listed if operation == "JobIds" else "jobIds" not in properties
    assert len(listed) == (operation != "Failed")


def test_recorded_quirks_of_a_job_appear_on_demand(
    azure: Emulator, client: Client, clock: ManualClock
) -> None:
    azure.configure(quirks=["integer-actions", "v2-job-types"])
    azure.plan("vm-good", quirks=["negative-duration"])
    azure.plan("payroll", quirks=["clock-duration"])
    machine, database = azure.start_job("vm-good"), azure.start_job("payroll")
    clock.advance(150)
    assert client.job(machine)["actionsInfo"] == [1]
    assert client.job(machine)["jobType"] == "AzureIaaSVMJobV2"
    assert client.job(machine)["duration"] == "-PT4M20.8890416S"
    assert client.job(database)["jobType"] == "AzureWorkloadJobV2"
    assert client.job(database)["duration"] == "00:02:30.0000000"


def test_an_operation_can_name_its_job_by_arm_id(azure: Emulator, started: Callable[..., str]) -> None:
    azure.plan("vm-good", quirks=["arm-job-id"])
    assert started("vm-good").startswith(f"{VAULT}/backupJobs/")


def test_a_plan_with_an_unknown_word_or_item_is_an_error(azure: Emulator) -> None:
    for mistake in (
        {"ending": "Done"},
        {"operation": "?"},
        {"busy": "?"},
        {"cancel": "?"},
        {"quirks": ["?"]},
    ):
        with pytest.raises(ValueError, match="is not one of"):
            azure.plan("vm-good", **mistake)
    with pytest.raises(KeyError, match="no protected item"):
        azure.plan("vm-unknown")
    with pytest.raises(ValueError, match="several items"):
        azure.start_job("twin")


@pytest.mark.parametrize(
    ("item", "properties"),
    [
        ("vm-good", {"objectType": "AzureFileShareBackupRequest"}),
        ("vm-good", {"objectType": "IaasVMBackupRequest", "recoveryPointExpiryTimeInUTC": "soon"}),
        (
            "vm-good",
            {"objectType": "IaasVMBackupRequest", "recoveryPointExpiryTimeInUTC": "2020-01-01T00:00:00Z"},
        ),
        ("msdb", {"objectType": "AzureWorkloadBackupRequest", "backupType": "Complete"}),
        ("msdb", None),
    ],
)
def test_a_backup_request_of_the_wrong_kind_is_refused(client: Client, item: str, properties: Any) -> None:
    reply = client.post(f"{client.item(item)}/backup", {"properties": properties})
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "BMSUserErrorInvalidInput")
    assert client.get(f"{VAULT}/backupJobs").json() == {"value": []}


def test_a_retention_date_keeps_its_time_of_day(client: Client, started: Callable[..., str]) -> None:
    job_id = started("vm-good", recoveryPointExpiryTimeInUTC="2027-01-02T13:04:05Z")
    bag = client.job(job_id)["extendedInfo"]["propertyBag"]
    assert bag["Recovery Point Expiry Time in UTC"] == "1/2/2027 1:04:05 PM"

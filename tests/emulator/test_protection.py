"""Items that are not backed up any more, and jobs that are no backup."""

from __future__ import annotations

import pytest

from azure_backup_emulator import Emulator
from tests.emulator.conftest import VAULT, Client
from tests.support.clock import ManualClock
from tests.support.recordings import RECORDINGS, needs_recordings, shape


def test_a_stopped_item_stays_in_the_list_and_is_not_backed_up(
    azure: Emulator, client: Client, clock: ManualClock
) -> None:
    azure.start_job("vm-good")
    clock.advance(9000)
    azure.protect("vm-good", state="ProtectionStopped")
    item = client.get(client.item("vm-good")).json()["properties"]
    assert (item["protectionState"], item["policyId"], item["lastBackupStatus"]) == (
        "ProtectionStopped",
        "",
        "Completed",
    )
    body = {"properties": {"objectType": "IaasVMBackupRequest"}}
    refused = client.post(f"{client.item('vm-good')}/backup", body)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "UserErrorProtectionStopped")
    azure.protect("vm-good")
    assert client.post(f"{client.item('vm-good')}/backup", body).status_code == 202


def test_a_soft_deleted_item_shows_when_it_was_deleted(
    azure: Emulator, client: Client, clock: ManualClock
) -> None:
    azure.start_job("vm-good", ago=9000)
    azure.protect("vm-good", state="ProtectionStopped", deleted_ago=86400)
    listed = client.get(f"{VAULT}/backupProtectedItems").json()["value"]
    (item,) = [each["properties"] for each in listed if each["properties"]["friendlyName"] == "vm-good"]
    assert item["isScheduledForDeferredDelete"] is True
    assert item["deferredDeleteTimeRemaining"] == "13.00:00:00.0000000"
    assert item["softDeleteRetentionPeriod"] == 14
    # Its data is still there.
    assert len(client.get(f"{client.item('vm-good')}/recoveryPoints").json()["value"]) == 1
    refused = client.post(
        f"{client.item('vm-good')}/backup", {"properties": {"objectType": "IaasVMBackupRequest"}}
    )
    assert refused.json()["error"]["code"] == "UserErrorProtectedItemSoftDeleted"


@needs_recordings
def test_a_soft_deleted_item_looks_as_recorded(azure: Emulator, client: Client) -> None:
    import json

    recorded = json.loads((RECORDINGS.parent / "recordings-2" / "soft_deleted_items.json").read_text())
    azure.protect("vm-good", state="ProtectionStopped", deleted_ago=18)
    ours, theirs = (
        shape(body["properties"])
        for body in (
            client.get(client.item("vm-good")).json(),
            recorded["exchanges"][0]["body"]["value"][0],
        )
    )
    theirs.pop("sourceSideScanning")
    assert ours == theirs


@pytest.mark.parametrize(
    ("state", "status"),
    [
        ("UpdatingProtection", "ProtectionConfigured"),
        ("ProtectionError", "ProtectionConfigured"),
        ("BackupSchedulesSuspended", "ProtectionConfigured"),
        ("ProtectionStopped", "ProtectionStopped"),
        ("SoftDeleted", "SoftDeleted"),
    ],
)
def test_an_instance_can_be_in_every_state(azure: Emulator, client: Client, state: str, status: str) -> None:
    azure.protect("disk-good", state=state)
    found = client.get(client.item("disk-good")).json()["properties"]
    assert (found["currentProtectionState"], found["protectionStatus"]["status"]) == (state, status)
    assert ("protectionErrorDetails" in found) == (state == "ProtectionError")


@pytest.mark.parametrize(
    "operation",
    ["ConfigureBackup", "DeleteBackupData", "DisableBackup", "Undelete", "MoveRecoveryPoint"],
)
@pytest.mark.parametrize("item", ["vm-good", "documents", "payroll", "systemdb"])
def test_lists_show_jobs_that_are_no_backup(
    azure: Emulator, client: Client, clock: ManualClock, item: str, operation: str
) -> None:
    job_id = azure.start_job(item, operation=operation)
    clock.advance(100)
    (listed,) = client.get(f"{VAULT}/backupJobs").json()["value"]
    assert (listed["name"], listed["properties"]["operation"]) == (job_id, operation)
    assert client.job(job_id)["status"] == "Completed"
    assert client.get(f"{client.item(item)}/recoveryPoints").json()["value"] == []


@pytest.mark.parametrize(
    ("operation", "category"),
    [
        ("Tiering:Backup", "Tiering"),
        ("Backup:full", "Backup"),
        ("ConfigureProtection", "Management"),
        ("Restore", "Restore"),
    ],
)
def test_a_job_of_a_backup_vault_has_a_category(
    azure: Emulator, client: Client, clock: ManualClock, operation: str, category: str
) -> None:
    path = client.item("demo-aks").partition("/backupInstances/")[0]
    job_id = azure.start_job("demo-aks", operation=operation)
    clock.advance(1000)
    job = client.get(f"{path}/backupJobs/{job_id}").json()["properties"]
    assert (job["operation"], job["operationCategory"]) == (operation, category)
    assert (job["extendedInfo"]["targetRecoverPoint"] is not None) == (category == "Backup")
    azure.plan("demo-aks", quirks=["no-category"])
    other = azure.start_job("demo-aks", operation=operation)
    assert client.get(f"{path}/backupJobs/{other}").json()["properties"]["operationCategory"] is None


def test_the_backup_of_a_log_is_named_so(azure: Emulator, client: Client, clock: ManualClock) -> None:
    job_id = azure.start_job("payroll", backup_type="Log")
    clock.advance(1000)
    assert client.job(job_id)["operation"] == "Backup (Log)"


def test_an_error_can_be_nested(azure: Emulator, client: Client, clock: ManualClock) -> None:
    azure.plan("orders", quirks=["nested-errors"])
    error = {"code": "DiskIsFull", "message": "The disk is full.", "isRetryable": True}
    job_id = azure.start_job("orders", ending="Failed", error=error)
    clock.advance(1000)
    path = client.item("orders").partition("/backupInstances/")[0]
    (found,) = client.get(f"{path}/backupJobs/{job_id}").json()["properties"]["errorDetails"]
    assert found["innerError"]["embeddedInnerError"] is None
    (cause,) = found["details"]
    (root,) = cause["details"]
    assert (found["isRetryable"], cause["innerError"], root["code"], root["isRetryable"]) == (
        True,
        found["innerError"],
        "DiskIsFull",
        True,
    )


def test_protection_and_points_outlive_a_restart(tmp_path: object, clock: ManualClock) -> None:
    from pathlib import Path

    directory = Path(str(tmp_path))
    with Emulator(clock=clock, directory=directory) as first:
        first.protect("vm-good", state="ProtectionStopped", deleted_ago=5)
        job_id = first.start_job("vm-good", point={"partial": True})
    with Emulator(clock=clock, directory=directory) as second:
        world = second.service.world
        assert world.jobs[job_id].point.partial
        assert world.protection[world.named("vm-good")[0].path].deleted_at == pytest.approx(clock() - 5)

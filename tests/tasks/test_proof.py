"""The record of the proof: one form, in the XCom, in events, and as the last line of the log."""

from __future__ import annotations

import json
import logging
from datetime import timedelta
from typing import Any

import pytest

from airflow_provider_azbackup.core.model.proof import LONGEST_TEXT, Proof
from airflow_provider_azbackup.exceptions import AzureBackupJobFailedError, AzureBackupTimeoutError
from airflow_provider_azbackup.operators import AzureBackupOperator
from airflow_provider_azbackup.sensors import AzureBackupFreshnessSensor, AzureBackupJobSensor
from azure_backup_emulator import Emulator
from tests.support.tasks import TaskInstance, run

BOTH = pytest.mark.parametrize("deferrable", [False, True], ids=["in the worker", "deferred"])


def back_up(item: str, ti: TaskInstance, **arguments: Any) -> Any:
    if item == "demo-aks":
        arguments |= {"vault_name": "demo-backup-vault", "vault_type": "DataProtection"}
    return run(lambda: AzureBackupOperator(task_id="backup", protected_item=item, **arguments), ti)


@BOTH
@pytest.mark.parametrize("item", ["vm-good", "documents", "payroll", "systemdb", "demo-aks"])
def test_an_open_gate_leaves_the_record_of_its_proof(azure: Emulator, item: str, deferrable: bool) -> None:
    ti = TaskInstance()
    job_id = back_up(item, ti, deferrable=deferrable, require_recovery_point=True)
    record = ti.xcoms["proof"]
    assert Proof.from_dict(record).to_dict() == record  # type: ignore[union-attr]  # or it is none
    assert record["version"] == 1
    assert record["job_id"] == job_id
    (protected,) = azure.service.world.named(item)
    assert record["item_id"].casefold() == protected.path.casefold()
    assert record["vault_id"].casefold() == protected.vault.path.casefold()
    point = ti.xcoms["recovery_point"]
    assert (record["recovery_point_id"], record["recovery_point_time"]) == (
        point["recovery_point_id"],
        point["time"],
    )
    assert record["began"] < record["ended"]
    assert record["operation"].startswith("Backup")
    assert record["warnings"] == []
    assert len(json.dumps(record)) < 32 * 1024


def test_without_a_recovery_point_the_record_rests_on_the_job(azure: Emulator) -> None:
    ti = TaskInstance()
    back_up("vm-good", ti)
    record = ti.xcoms["proof"]
    assert record["recovery_point_id"] is record["tier"] is record["expiry"] is None
    assert record["item"] == "vm-good"


def test_it_names_the_disks_and_the_warnings(azure: Emulator) -> None:
    azure.plan("vm-good", point={"disks": 3, "excluded": ["data-2"], "threat": "Healthy"})
    ti = TaskInstance()
    back_up("vm-good", ti, require_recovery_point=True)
    record = ti.xcoms["proof"]
    assert (record["disks_included"], record["disks_attached"]) == (2, 3)
    assert "data-2" in record["left_out"]
    assert record["threat_status"] == "Healthy"
    ti = TaskInstance()
    back_up("vm-warned", ti, accept_warnings=True)
    assert ti.xcoms["proof"]["warnings"]


def test_a_shut_gate_leaves_none(azure: Emulator) -> None:
    ti = TaskInstance()
    with pytest.raises(AzureBackupJobFailedError):
        back_up("vm-fails", ti)
    assert "proof" not in ti.xcoms


def test_a_sensor_says_how_much_older_than_its_wait_a_backup_is(azure: Emulator, clock: Any) -> None:
    job_id = azure.start_job("vm-good", seconds=60)
    clock.advance(600)
    ti = TaskInstance()
    run(lambda: AzureBackupJobSensor(task_id="gate", job_id=job_id, deferrable=True), ti)
    assert ti.xcoms["proof"]["started_by"] == "found"
    assert 500 < ti.xcoms["proof"]["age_at_start_seconds"] < 700
    ti = TaskInstance()
    run(
        lambda: AzureBackupFreshnessSensor(
            task_id="gate", protected_item="vm-good", max_age=timedelta(hours=1), poke_interval=0.001
        ),
        ti,
    )
    record = ti.xcoms["proof"]
    assert record["job_id"] is None
    assert record["recovery_point_id"] == ti.xcoms["recovery_point"]["recovery_point_id"]
    assert record["age_at_start_seconds"] > 500


@BOTH
def test_the_proof_is_the_last_line_of_the_log(
    azure: Emulator, caplog: pytest.LogCaptureFixture, deferrable: bool
) -> None:
    with caplog.at_level(logging.INFO):
        back_up("vm-good", TaskInstance(), deferrable=deferrable, require_recovery_point=True)
    ours = [each.getMessage() for each in caplog.records if "Proof" in each.getMessage()]
    if ours:  # Airflow 3 writes a task's log past Python's logging
        assert ours[-1].startswith("Proof: Backup of vm-good in vault demo-vault, job ")


def test_the_line_is_for_people() -> None:
    proof = Proof(
        item="shop-vm",
        vault_id="/subscriptions/s/resourceGroups/g/providers/Microsoft.RecoveryServices/vaults/night-vault",
        operation="Backup",
        job_id="0f8c2a51",
        started_by="adopted",
        began="2026-11-30T03:23:03+00:00",
        ended="2026-11-30T04:00:00+00:00",
        recovery_point_id="591",
        recovery_point_time="2026-11-30T03:23:03+00:00",
        tier="HardenedRP",
        warnings=("UserErrorX",),
        age_at_start_seconds=17.0,
    )
    assert str(proof) == (
        "Backup of shop-vm in vault night-vault, job 0f8c2a51 (adopted) from 2026-11-30T03:23:03+00:00 to "
        "2026-11-30T04:00:00+00:00, recovery point 591 of 2026-11-30T03:23:03+00:00, HardenedRP, warnings "
        "accepted: UserErrorX, 17 s older than the start of this attempt"
    )


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"version": "1"},
        {"version": True},
        {"started_by": "somebody"},
        {"job_id": 1},
        {"warnings": "UserErrorX"},
        {"warnings": [1]},
        {"disks_included": "2"},
        {"age_at_start_seconds": "0"},
    ],
    ids=str,
)
def test_a_forged_record_is_none(change: dict[str, Any]) -> None:
    assert Proof.from_dict(Proof().to_dict())
    assert Proof.from_dict({**Proof().to_dict(), **change}) is None
    assert Proof.from_dict(None) is Proof.from_dict([]) is Proof.from_dict({}) is None


def test_its_texts_are_clean_and_short(azure: Emulator) -> None:
    error = {
        "errorCode": 1,
        "errorTitle": "X\n\x1b[31m" + "y" * 5000,
        "errorString": "",
        "recommendations": [],
    }
    azure.plan("vm-warned", ending="CompletedWithWarnings", error=error)
    ti = TaskInstance()
    back_up("vm-warned", ti, accept_warnings=True)
    (code,) = ti.xcoms["proof"]["warnings"]
    assert len(code) == LONGEST_TEXT
    assert code.isprintable()


@BOTH
def test_the_same_recovery_point_is_waited_for_until_it_is_in_the_tier(
    azure: Emulator, deferrable: bool
) -> None:
    azure.plan("demo-aks", point={"vaulted_after": 3600.0})
    asked = {"require_recovery_point": True, "min_tier": "HardenedRP", "deferrable": deferrable}
    ti = TaskInstance()
    back_up("demo-aks", ti, **asked)
    assert "VaultStore" in ti.xcoms["proof"]["tier"]
    assert azure.count("POST", "/backup") == 1
    # Hours of that are no worker's.
    assert any("min_tier" in arguments for arguments in ti.deferred_with) is deferrable
    azure.plan("demo-aks", point={"vaulted_after": 36000.0})
    with pytest.raises(AzureBackupTimeoutError, match="is not in HardenedRP"):
        back_up("demo-aks", TaskInstance(), timeout=7200.0, **asked)

"""Gates on the recovery point, and on the snapshot of a machine's backup, through operator and sensor."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_provider_azbackup.exceptions import (
    AzureBackupConfigError,
    AzureBackupGateShutError,
    AzureBackupJobFailedError,
    AzureBackupNotFoundError,
    AzureBackupRecoveryPointError,
    AzureBackupTimeoutError,
)
from airflow_provider_azbackup.operators import AzureBackupOperator
from airflow_provider_azbackup.sensors import AzureBackupJobSensor
from azure_backup_emulator import Emulator
from tests.support.tasks import Store, TaskInstance, run

BOTH = pytest.mark.parametrize("deferrable", [False, True], ids=["in the worker", "deferred"])
MODES = pytest.mark.parametrize(
    "mode", [{"poke_interval": 0.001}, {"deferrable": True}], ids=["poke", "deferred"]
)
SNAPSHOT = 0.186 * 2480  # seconds of the emulator's machines


def back_up(item: str = "vm-good", ti: TaskInstance | None = None, **arguments: Any) -> Any:
    return run(
        lambda: AzureBackupOperator(
            **{
                "task_id": "backup",
                "protected_item": item,
                "require_recovery_point": True,
                "deferrable": False,
                **arguments,
            }
        ),
        ti or TaskInstance(),
    )


def gate(job_id: str, ti: TaskInstance | None = None, **arguments: Any) -> Any:
    return run(
        lambda: AzureBackupJobSensor(
            **{"task_id": "gate", "job_id": job_id, "deferrable": False, "timeout": 7200, **arguments}
        ),
        ti or TaskInstance(),
    )


def over(azure: Emulator, clock: Any, item: str, **job: Any) -> str:
    """Somebody else's job, completed."""
    job_id = azure.start_job(item, seconds=300, **job)
    clock.advance(400)
    return job_id


@BOTH
@pytest.mark.parametrize(
    ("item", "tiers"),
    [
        ("vm-good", {"InstantRP": "Valid", "HardenedRP": "Valid"}),
        ("documents", {"InstantRP": "Valid"}),
        ("payroll", {"HardenedRP": "Valid"}),
        ("systemdb", {"HardenedRP": "Valid"}),
    ],
)
def test_the_point_that_a_backup_has_made_is_told(
    azure: Emulator, clock: Any, item: str, tiers: dict[str, str], deferrable: bool
) -> None:
    expiry = datetime.fromtimestamp(clock(), UTC) + timedelta(days=3)
    back_up(item)  # an earlier one
    clock.advance(60)
    ti = TaskInstance()
    job_id = back_up(item, ti, deferrable=deferrable, recovery_point_expiry=expiry)
    job, point = ti.xcoms["job"], ti.xcoms["recovery_point"]
    assert job["job_id"] == job_id
    made = datetime.fromisoformat(point["time"])
    assert -1 < (made - datetime.fromisoformat(job["start_time"])).total_seconds() < 60
    assert point["tiers"] == tiers
    assert point["arm_id"].endswith(f"/recoveryPoints/{point['recovery_point_id']}")
    # Azure's list of points leaves it out; the job of a VM names it to the second.
    assert point["expiry"] == (f"{expiry:%Y-%m-%dT%H:%M:%S}+00:00" if item == "vm-good" else None)
    assert point["consistency"] or point["backup_type"] == "Full"


@BOTH
def test_a_point_that_is_less_than_asked_for_keeps_the_gate_shut_and_a_retry_takes_another(
    azure: Emulator, deferrable: bool
) -> None:
    azure.plan("vm-good", consistency="CrashConsistent")
    ti = TaskInstance(retries=1, store=Store())
    wanted = {"deferrable": deferrable, "min_consistency": "AppConsistent", "min_tier": "HardenedRP"}
    with pytest.raises(AzureBackupRecoveryPointError, match="CrashConsistent, not AppConsistent") as error:
        back_up(ti=ti, **wanted)
    assert error.value.job and error.value.job["outcome"] == "succeeded"
    assert ti.xcoms["recovery_point"]["consistency"] == "CrashConsistent"
    azure.plan("vm-good")
    back_up(ti=ti.retry(), **wanted)
    assert azure.count("POST", "/backup") == 2


def test_a_point_that_is_not_listed_is_looked_for_again_by_a_retry_without_another_backup(
    azure: Emulator,
) -> None:
    ti = TaskInstance(retries=1, store=Store())
    azure.fault(path="/recoveryPoints", times=None, garbage='{"value": []}')
    with pytest.raises(AzureBackupNotFoundError, match="none of that time"):
        back_up(ti=ti)
    azure.clear_faults()
    back_up(ti=ti.retry())
    assert ti.xcoms["recovery_point"]["tiers"]["HardenedRP"] == "Valid"
    assert azure.count("POST", "/backup") == 1


def test_an_outage_while_the_point_is_looked_for_is_waited_out(azure: Emulator) -> None:
    azure.fault(path="/recoveryPoints", times=3, status=503)
    ti = TaskInstance()
    back_up(ti=ti)
    assert ti.xcoms["recovery_point"]


@MODES
@pytest.mark.parametrize("item", ["vm-good", "documents", "payroll", "systemdb"])
def test_a_sensor_finds_the_point_of_a_job_that_names_no_item(
    azure: Emulator, clock: Any, item: str, mode: dict[str, Any]
) -> None:
    ti = TaskInstance()
    job_id = over(azure, clock, item)
    assert gate(job_id, ti, require_recovery_point=True, **mode) == job_id
    (meant,) = azure.service.world.named(item)
    assert ti.xcoms["recovery_point"]["arm_id"].startswith(f"{meant.path}/recoveryPoints/")


@MODES
def test_a_sensor_refuses_a_point_for_good(azure: Emulator, clock: Any, mode: dict[str, Any]) -> None:
    azure.plan("vm-good", consistency="FileSystemConsistent")
    with pytest.raises(AzureBackupGateShutError, match="FileSystemConsistent, not AppConsistent"):
        gate(
            over(azure, clock, "vm-good"),
            require_recovery_point=True,
            min_consistency="AppConsistent",
            soft_fail=True,
            **mode,
        )


def test_databases_that_a_job_cannot_tell_apart_are_not_guessed(azure: Emulator, clock: Any) -> None:
    with pytest.raises(AzureBackupConfigError, match="could be of 2 protected items"):
        gate(over(azure, clock, azure.service.world.named("msdb")[0].path), require_recovery_point=True)


def test_a_restore_makes_no_point(azure: Emulator, clock: Any) -> None:
    with pytest.raises(AzureBackupConfigError, match=r"this is none: job .*Restore"):
        gate(over(azure, clock, "vm-good", operation="Restore"), require_recovery_point=True)


# The snapshot


@BOTH
def test_a_snapshot_opens_long_before_the_transfer_ends_and_a_sensor_waits_for_that(
    azure: Emulator, clock: Any, deferrable: bool
) -> None:
    ti, began = TaskInstance(), clock()
    job_id = back_up(ti=ti, wait_until="snapshot", deferrable=deferrable)
    assert SNAPSHOT <= clock() - began < SNAPSHOT + 180
    assert ti.xcoms["job"]["outcome"] == "running"
    assert ti.xcoms["recovery_point"]["tiers"] == {"InstantRP": "Valid"}
    if not deferrable:
        clock.advance(2480)
    assert gate(job_id, deferrable=deferrable, poke_interval=60) == job_id
    assert clock() - began > 2000


@MODES
def test_a_sensor_may_wait_for_the_snapshot_of_somebody_elses_backup(
    azure: Emulator, clock: Any, mode: dict[str, Any]
) -> None:
    job_id, began = azure.start_job("vm-good"), clock()
    clock.advance(0 if "deferrable" in mode else SNAPSHOT + 1)
    assert gate(job_id, wait_until="snapshot", **mode) == job_id
    assert SNAPSHOT <= clock() - began < 2000


@BOTH
@pytest.mark.parametrize(
    ("item", "opens"), [("vm-fails", False), ("vm-cancelled", True), ("vm-warned", True)]
)
def test_a_snapshot_is_judged_by_what_is_known_when_it_is_seen(
    azure: Emulator, item: str, opens: bool, deferrable: bool
) -> None:
    """A backup that fails in its snapshot shuts; one that fails later had one when the gate opened."""
    if opens:
        assert back_up(item, wait_until="snapshot", deferrable=deferrable)
        return
    with pytest.raises(AzureBackupJobFailedError):
        back_up(item, wait_until="snapshot", deferrable=deferrable)


@BOTH
@pytest.mark.parametrize("ending", ["Failed", "Cancelled", "CompletedWithWarnings", "CancelledInTransfer"])
def test_a_job_that_is_over_is_judged_by_its_end_snapshot_or_not(
    azure: Emulator, clock: Any, ending: str, deferrable: bool
) -> None:
    job_id = azure.start_job("vm-good", ending=ending, seconds=10)
    clock.advance(20)
    with pytest.raises(AzureBackupJobFailedError):
        run(
            lambda: AzureBackupOperator(
                task_id="gate", job_id=job_id, wait_until="snapshot", deferrable=deferrable
            ),
            TaskInstance(),
        )


@BOTH
def test_a_backup_that_is_being_cancelled_or_in_an_unknown_state_is_no_snapshot(
    azure: Emulator, clock: Any, deferrable: bool
) -> None:
    job_id = azure.start_job("vm-good")
    clock.advance(SNAPSHOT + 60)
    azure.set_status(job_id, "Hibernating")
    with pytest.raises(AzureBackupTimeoutError):
        run(
            lambda: AzureBackupOperator(
                task_id="gate", job_id=job_id, wait_until="snapshot", deferrable=deferrable, timeout=600
            ),
            TaskInstance(),
        )


def test_other_jobs_have_no_snapshot_and_are_waited_for_to_their_end(azure: Emulator, clock: Any) -> None:
    began = clock()
    gate(azure.start_job("payroll", seconds=600), wait_until="snapshot", deferrable=True)
    assert clock() - began >= 600


@pytest.mark.parametrize("item", ["documents", "payroll"])
def test_an_item_without_snapshots_is_refused_before_anything_is_started(azure: Emulator, item: str) -> None:
    with pytest.raises(AzureBackupConfigError, match="is for VMs"):
        back_up(item, wait_until="snapshot")
    assert not azure.count("POST", "/subscriptions/")


def test_a_database_has_no_consistency_to_ask_for(azure: Emulator) -> None:
    with pytest.raises(AzureBackupConfigError, match="Drop min_consistency"):
        back_up("payroll", min_consistency="AppConsistent")
    assert not azure.count("POST", "/subscriptions/")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"wait_until": "transfer"}, "'transfer'; expected one of completion, snapshot"),
        ({"min_tier": "Vault"}, "'Vault'; expected one of InstantRP, HardenedRP"),
        (
            {"min_consistency": "Good"},
            "'Good'; expected one of CrashConsistent, FileSystemConsistent, AppConsistent",
        ),
        (
            {"min_tier": "InstantRP", "require_recovery_point": False},
            "set require_recovery_point=True as well",
        ),
        ({"min_tier": "HardenedRP", "wait_until": "snapshot"}, "would never pass"),
    ],
)
@pytest.mark.parametrize("make", [AzureBackupOperator, AzureBackupJobSensor])
def test_what_can_never_be_is_refused_when_the_dag_is_parsed(
    make: Callable[..., Any], arguments: dict[str, Any], told: str
) -> None:
    job_id = "5f0c5b7e-6f0a-4b8e-9c57-0d5a3c1f2e4d"
    with pytest.raises(AzureBackupConfigError, match=told):
        make(**{"task_id": "gate", "job_id": job_id, "require_recovery_point": True, **arguments})

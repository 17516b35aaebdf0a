"""``unless_fresh``: a proven backup that is young enough makes another one unnecessary."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from airflow_provider_azbackup.exceptions import AzureBackupConfigError
from airflow_provider_azbackup.operators import AzureBackupOperator
from azure_backup_emulator import Emulator
from tests.support.tasks import Store, TaskInstance, run

BOTH = pytest.mark.parametrize("deferrable", [False, True], ids=["in the worker", "deferred"])
HOUR = 3600.0


def back_up(item: str = "vm-good", hours: float = 6, **arguments: Any) -> Callable[[], AzureBackupOperator]:
    return lambda: AzureBackupOperator(
        task_id="backup", protected_item=item, unless_fresh=timedelta(hours=hours), **arguments
    )


def posts(azure: Emulator) -> int:
    return len([entry for entry in azure.requests if entry["path"].endswith("/backup")])


@BOTH
@pytest.mark.parametrize("item", ["vm-good", "documents", "payroll", "systemdb"])
def test_a_proven_backup_that_is_young_enough_opens_the_gate_without_a_request(
    azure: Emulator, deferrable: bool, item: str
) -> None:
    job_id = azure.start_job(item, ago=5 * HOUR, seconds=600)
    ti = TaskInstance(store=Store())
    assert run(back_up(item, deferrable=deferrable), ti) == job_id
    assert (posts(azure), ti.deferred_with) == (0, [])
    proof = ti.xcoms["proof"]
    assert (proof["job_id"], proof["started_by"]) == (job_id, "found")
    assert proof["age_at_start_seconds"] == pytest.approx(5 * HOUR, abs=30)
    assert ti.xcoms["job_id"] == job_id


@BOTH
@pytest.mark.parametrize(
    "job",
    [
        {"ago": 7 * HOUR},
        {"ago": HOUR, "ending": "Failed"},
        {"ago": HOUR, "ending": "Cancelled"},
        {"ago": HOUR, "ending": "CompletedWithWarnings"},
        {"ago": HOUR, "operation": "ConfigureBackup"},
    ],
    ids=lambda job: "-".join(map(str, job.values())),
)
def test_any_other_one_does_not(azure: Emulator, deferrable: bool, job: dict[str, Any]) -> None:
    old = azure.start_job("vm-good", seconds=600, **job)
    assert run(back_up(deferrable=deferrable), TaskInstance(store=Store())) != old
    assert posts(azure) == 1


@BOTH
def test_it_must_meet_every_other_condition(azure: Emulator, deferrable: bool) -> None:
    azure.plan("vm-good", consistency="CrashConsistent")
    old = azure.start_job("vm-good", ago=HOUR, seconds=600)
    azure.plan("vm-good")
    task = back_up(deferrable=deferrable, require_recovery_point=True, min_consistency="AppConsistent")
    assert run(task, TaskInstance(store=Store())) != old
    assert posts(azure) == 1


@BOTH
def test_a_recovery_point_that_azure_marks_does_not_count(azure: Emulator, deferrable: bool) -> None:
    old = azure.start_job("vm-good", ago=HOUR, seconds=600, point={"partial": True})
    task = back_up(deferrable=deferrable, require_recovery_point=True)
    assert run(task, TaskInstance(store=Store())) != old


@BOTH
def test_the_backup_of_another_item_does_not_count(azure: Emulator, deferrable: bool) -> None:
    azure.start_job("fleet-01", ago=HOUR, seconds=600)
    run(back_up(deferrable=deferrable), TaskInstance(store=Store()))
    assert posts(azure) == 1


@BOTH
def test_one_that_runs_is_waited_out_and_then_counts(azure: Emulator, deferrable: bool) -> None:
    running = azure.start_job("vm-good", ago=600, seconds=1200)
    assert run(back_up(deferrable=deferrable), TaskInstance(store=Store())) == running
    assert posts(azure) == 0


@BOTH
def test_a_retry_goes_on_with_the_backup_that_it_has_asked_for(
    azure: Emulator, clock: Any, deferrable: bool
) -> None:
    azure.plan("vm-good", ending="Failed")
    ti = TaskInstance(store=Store(), retries=1)
    with pytest.raises(Exception, match="failed"):
        run(back_up(deferrable=deferrable), ti)
    azure.plan("vm-good")
    clock.advance(60)
    run(back_up(deferrable=deferrable), ti.retry())
    assert posts(azure) == 2


@pytest.mark.parametrize("value", [0, 3600, "6h", timedelta(), timedelta(seconds=-1)])
def test_anything_but_a_positive_timedelta_is_refused(value: Any) -> None:
    with pytest.raises(AzureBackupConfigError, match="unless_fresh"):
        AzureBackupOperator(task_id="backup", protected_item="vm-good", unless_fresh=value)

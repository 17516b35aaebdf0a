"""Late, before it is late: ``expected_by`` warns once and never decides whether the gate opens."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_provider_azbackup.core.model.json_safe import iso_time
from airflow_provider_azbackup.exceptions import AzureBackupConfigError
from airflow_provider_azbackup.operators import AzureBackupOperator
from airflow_provider_azbackup.runtime.compat import IS_AIRFLOW_3
from airflow_provider_azbackup.sensors import AzureBackupFreshnessSensor, AzureBackupJobSensor
from azure_backup_emulator import Emulator
from tests.support.tasks import TaskInstance, run


class Calls:
    """A callback of Airflow's kind that keeps what it was called with."""

    def __init__(self) -> None:
        self.late: list[dict[str, Any]] = []

    def __call__(self, context: Any) -> None:
        self.late.append(context["late"])


def at(clock: Any, minutes: float) -> datetime:
    return datetime.fromtimestamp(clock() + minutes * 60, UTC)


def task(kind: str, azure: Emulator, *, minutes: float, **given: Any) -> Callable[[], Any]:
    """Return what makes a task that waits for a backup of so many minutes, which has just begun."""
    job_id = azure.start_job("vm-good", seconds=minutes * 60)
    common: dict[str, Any] = {"task_id": "wait", "timeout": 6 * 3600, **given}
    makers: dict[str, Callable[[], Any]] = {
        "operator": lambda: AzureBackupOperator(job_id=job_id, **common),
        "job sensor": lambda: AzureBackupJobSensor(job_id=job_id, **common),
        "freshness sensor": lambda: AzureBackupFreshnessSensor(
            protected_item="vm-good", newer_than=timedelta(minutes=5), **common
        ),
    }
    return makers[kind]


KINDS = pytest.mark.parametrize("kind", ["operator", "job sensor", "freshness sensor"])
# A sensor in a worker sleeps for real; its looks are tested below.
WAYS = pytest.mark.parametrize(
    ("kind", "deferrable"),
    [("operator", False), ("operator", True), ("job sensor", True), ("freshness sensor", True)],
)


@WAYS
def test_a_backup_that_is_not_over_in_time_is_reported_once(
    azure: Emulator, clock: Any, kind: str, deferrable: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    calls, ti = Calls(), TaskInstance()
    expected_by = at(clock, 20)
    make = task(kind, azure, minutes=60, deferrable=deferrable, expected_by=expected_by, on_late=[calls])
    assert run(make, ti)
    (late,) = calls.late
    moment = iso_time(expected_by.timestamp())
    assert late["message"] == f"the backup was expected by {moment} and is not over"
    assert late["expected_by"] == moment
    assert capsys.readouterr().out.count("Late: the backup was expected by") == 1
    if deferrable and IS_AIRFLOW_3:
        assert ti.xcoms["backup_progress"]["late"] is True


@WAYS
def test_a_backup_that_is_over_in_time_is_not_reported(
    azure: Emulator, clock: Any, kind: str, deferrable: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    calls, ti = Calls(), TaskInstance()
    make = task(kind, azure, minutes=30, deferrable=deferrable, expected_by=at(clock, 60), on_late=calls)
    assert run(make, ti)
    assert calls.late == []
    assert "Late:" not in capsys.readouterr().out
    if deferrable and IS_AIRFLOW_3:
        assert ti.xcoms["backup_progress"]["late"] is False


@pytest.mark.parametrize("kind", ["job sensor", "freshness sensor"])
def test_a_sensor_in_a_worker_warns_at_its_first_look_past_the_time(
    azure: Emulator, clock: Any, kind: str
) -> None:
    calls, ti = Calls(), TaskInstance()
    sensor = task(kind, azure, minutes=60, expected_by=at(clock, 20), on_late=calls)()
    assert not sensor.poke(ti.context)
    assert calls.late == []
    for _ in range(2):
        clock.advance(21 * 60)
        assert not sensor.poke(ti.context)
        assert len(calls.late) == 1
    clock.advance(20 * 60)
    assert sensor.poke(ti.context)
    assert len(calls.late) == 1


@KINDS
def test_a_deferred_task_without_callbacks_warns_in_the_triggerer_and_is_not_resumed(
    azure: Emulator, clock: Any, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ti = TaskInstance()
    make = task(kind, azure, minutes=60, deferrable=True, expected_by=at(clock, 20))
    assert run(make, ti)
    assert [each["when_late"] for each in ti.deferred_with] == ["warn"]
    assert capsys.readouterr().out.count("Late: the backup was expected by") == 1


def test_a_task_that_has_warned_waits_on_without_a_second_warning(azure: Emulator, clock: Any) -> None:
    calls, ti = Calls(), TaskInstance()
    make = task("operator", azure, minutes=60, deferrable=True, expected_by=at(clock, 20), on_late=calls)
    assert run(make, ti)
    assert [each["when_late"] for each in ti.deferred_with] == ["resume", "warned"]
    assert len({each["deadline"] for each in ti.deferred_with}) == 1


def test_the_time_may_count_from_the_run_and_be_text(azure: Emulator, clock: Any) -> None:
    for expected_by in (timedelta(minutes=20), at(clock, 20).isoformat()):
        calls, ti = Calls(), TaskInstance()
        make = task("operator", azure, minutes=60, expected_by=expected_by, on_late=calls)
        run(make, ti)
        assert len(calls.late) == 1


def test_a_callback_that_fails_does_not_fail_the_gate(
    azure: Emulator, clock: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    def breaks(context: Any) -> None:
        raise RuntimeError("the chat is down")

    calls, ti = Calls(), TaskInstance()
    make = task(
        "operator", azure, minutes=60, deferrable=True, expected_by=at(clock, 20), on_late=[breaks, calls]
    )
    assert run(make, ti)
    assert len(calls.late) == 1
    assert "of on_late failed" in capsys.readouterr().out


def test_a_backup_in_the_way_makes_the_own_one_late(azure: Emulator, clock: Any) -> None:
    azure.start_job("vm-good", seconds=3600)
    calls, ti = Calls(), TaskInstance()
    run(
        lambda: AzureBackupOperator(
            task_id="t",
            protected_item="vm-good",
            deferrable=True,
            expected_by=at(clock, 0) if not ti.deferred_with else datetime(2020, 1, 1, tzinfo=UTC),
            on_late=calls,
        ),
        ti,
    )
    assert len(calls.late) == 1


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"on_late": print}, "on_late without expected_by"),
        ({"expected_by": timedelta(1), "on_late": "mail"}, "on_late of task 't' has 'm'"),
        ({"expected_by": timedelta(-1)}, "expected_by of task 't'"),
        ({"expected_by": "this evening"}, "expected_by"),
        (
            {"expected_by": timedelta(1), "on_late": print, "mode": "reschedule"},
            "deferrable=True or mode='poke'",
        ),
    ],
)
def test_what_could_never_warn_is_refused_when_the_dag_is_parsed(given: dict[str, Any], problem: str) -> None:
    with pytest.raises(AzureBackupConfigError, match=problem):
        AzureBackupJobSensor(task_id="t", job_id="5f0c5b7e-6f0a-4b8e-9c57-0d5a3c1f2e4d", **given)

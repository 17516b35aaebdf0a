"""One moment ends a wait, no matter who waits where, and how often it had to begin again."""

from __future__ import annotations

import asyncio
import importlib
import json
import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseSensorOperator,
    TaskDeferred,
)

from airflow_provider_azbackup.core.model.validation import IfRunning
from airflow_provider_azbackup.exceptions import AzureBackupTimeoutError
from airflow_provider_azbackup.operators import AzureBackupOperator
from airflow_provider_azbackup.sensors import AzureBackupJobSensor
from azure_backup_emulator import Emulator
from tests.support.tasks import Store, TaskInstance, ends_before, fire, run

try:
    from airflow.sdk.exceptions import AirflowRescheduleException
except ImportError:  # Airflow below 3.2
    from airflow.exceptions import AirflowRescheduleException

AIRFLOWS_SENSOR = importlib.import_module(BaseSensorOperator.__module__)

BOTH = pytest.mark.parametrize("deferrable", [False, True], ids=["in the worker", "deferred"])
HOUR = 3600.0
JOBS = "/backupJobs/"


class WorkerLostError(SystemExit):
    """The process is gone: worker or triggerer, whichever of its tasks runs in that moment."""


@pytest.fixture(autouse=True)
def endless(azure: Emulator) -> None:
    """Backups that never end."""
    azure.plan("vm-good", ending="Never")


@pytest.fixture
def upon(clock: Any) -> Iterator[Callable[..., None]]:
    """Do something once, at the end of the first wait that is meant."""
    advance = clock.advance

    def upon(meant: Callable[[float], bool], act: Callable[[], Any]) -> None:
        def pass_by(pause: float) -> None:
            advance(pause)
            if meant(pause):
                clock.advance = advance
                act()

        clock.advance = pass_by

    yield upon
    clock.__dict__.pop("advance", None)


@pytest.fixture
def airflow_on_the_clock(clock: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow's own sensor sleeps and reads the time by itself; here by the clock of the test."""

    def sleep(seconds: float) -> None:
        clock.sleep(seconds + 0.001)  # no sleep of a machine is exact

    monkeypatch.setattr(
        AIRFLOWS_SENSOR, "time", SimpleNamespace(**{**vars(time), "sleep": sleep, "monotonic": clock})
    )
    zone = AIRFLOWS_SENSOR.timezone
    monkeypatch.setattr(
        AIRFLOWS_SENSOR,
        "timezone",
        SimpleNamespace(**{**vars(zone), "utcnow": lambda: datetime.fromtimestamp(clock(), UTC)}),
    )


def back_up(ti: TaskInstance | None = None, **arguments: Any) -> Any:
    return run(
        lambda: AzureBackupOperator(
            **{"task_id": "backup", "protected_item": "vm-good", "deferrable": False, **arguments}
        ),
        ti or TaskInstance(store=Store()),
    )


def watch(job_id: str, ti: TaskInstance, clock: Any, **arguments: Any) -> Any:
    """Run a sensor to its end, as often as it is rescheduled."""
    arguments = {"task_id": "gate", "job_id": job_id, "deferrable": False, **arguments}
    while True:
        try:
            return run(lambda: AzureBackupJobSensor(**arguments), ti)
        except AirflowRescheduleException as later:
            ti.first_reschedule = ti.first_reschedule or ti.start_date
            # The scheduler comes round every few seconds.
            clock.advance(max(0.0, later.reschedule_date.timestamp() - clock()) + 2)


MODES: dict[str, dict[str, Any]] = {
    "poke": {"mode": "poke"},
    "reschedule": {"mode": "reschedule"},
    "deferred": {"deferrable": True},
}
IN_EVERY_MODE = pytest.mark.parametrize("mode", MODES.values(), ids=MODES)

# The operator


@BOTH
@pytest.mark.parametrize("poll_interval", [60, 1200])
def test_a_backup_is_waited_for_until_its_timeout_and_not_a_minute_longer(
    azure: Emulator, clock: Any, deferrable: bool, poll_interval: float
) -> None:
    began, ti = clock(), TaskInstance()
    with pytest.raises(AzureBackupTimeoutError) as late:
        back_up(ti, deferrable=deferrable, timeout=2 * HOUR, poll_interval=poll_interval)
    assert clock() - began == pytest.approx(2 * HOUR, abs=1)
    said = str(late.value)
    assert re.search(r"the job did not end within 7\d{3} s", said)
    assert "Backup of vm-good" in said and "InProgress" in said and "Validate Backup" in said
    assert "It goes on in Azure" in said
    assert late.value.job == ti.xcoms["job"]
    assert azure.count("POST", "/cancel") == 0


@BOTH
def test_a_retry_that_adopts_ends_when_the_first_try_would_have(
    azure: Emulator, clock: Any, upon: Callable[..., None], deferrable: bool
) -> None:
    def die() -> None:
        raise WorkerLostError

    began, ti = clock(), TaskInstance(retries=2, store=Store())
    for moment in (1000, 2500):
        upon(lambda _: clock() > began + moment, die)  # noqa: B023  # called before the next moment
        with pytest.raises(WorkerLostError):
            back_up(ti, deferrable=deferrable, timeout=HOUR)
        clock.advance(60)
        ti.retry()
    with pytest.raises(AzureBackupTimeoutError, match="goes on in Azure"):
        back_up(ti, deferrable=deferrable, timeout=HOUR)
    assert clock() - began == pytest.approx(HOUR, abs=1)
    assert azure.count("POST", "/backup") == 1


@BOTH
def test_a_person_who_clears_the_task_gives_it_its_full_time_again_to_wait_for_the_backup_before(
    azure: Emulator, clock: Any, upon: Callable[..., None], deferrable: bool
) -> None:
    def die() -> None:
        raise WorkerLostError

    began, ti = clock(), TaskInstance(store=Store())
    upon(lambda _: clock() > began + 3000, die)
    with pytest.raises(WorkerLostError):
        back_up(ti, deferrable=deferrable, timeout=HOUR)
    cleared = clock()
    with pytest.raises(AzureBackupTimeoutError, match=r"InProgress.*has started no backup of vm-good"):
        back_up(ti.clear(), deferrable=deferrable, timeout=HOUR)
    assert clock() - cleared == pytest.approx(HOUR, abs=1)
    assert azure.count("POST", "/backup") == 1


def test_a_resume_ends_the_wait_and_does_not_begin_it_anew(azure: Emulator) -> None:
    ti = TaskInstance()
    with pytest.raises(AzureBackupTimeoutError):
        back_up(ti, deferrable=True, timeout=HOUR)
    assert len(ti.deferred_with) == 1


def test_an_interval_longer_than_the_wait_does_not_lengthen_it(azure: Emulator, clock: Any) -> None:
    for limit in ({"timeout": HOUR}, {"execution_timeout": timedelta(hours=1)}):
        began = clock()
        with pytest.raises(AzureBackupTimeoutError):
            back_up(TaskInstance(), deferrable=True, poll_interval=2 * HOUR, **limit)
        assert clock() - began <= HOUR


@BOTH
@pytest.mark.parametrize("minutes", [60, 10, 2])
def test_the_execution_timeout_ends_a_wait_just_before_airflow_would(
    azure: Emulator, clock: Any, minutes: float, deferrable: bool
) -> None:
    began = clock()
    with pytest.raises(AzureBackupTimeoutError, match=r"InProgress.*goes on in Azure"):
        back_up(deferrable=deferrable, timeout=HOUR * 6, execution_timeout=timedelta(minutes=minutes))
    assert clock() - began == pytest.approx(ends_before(60 * minutes), abs=1)


@BOTH
def test_the_execution_timeout_counts_from_the_start_of_the_task_not_of_the_wait(
    azure: Emulator, clock: Any, deferrable: bool
) -> None:
    azure.plan("vm-good", ending="Never", operation_seconds=240)
    began = clock()
    with pytest.raises(AzureBackupTimeoutError):
        back_up(deferrable=deferrable, execution_timeout=timedelta(minutes=20))
    assert clock() - began == pytest.approx(ends_before(1200), abs=1)


@BOTH
def test_each_try_has_the_execution_timeout_of_airflow_and_all_share_the_timeout(
    azure: Emulator, clock: Any, deferrable: bool
) -> None:
    began, ti = clock(), TaskInstance(retries=3, store=Store())
    ends = []
    for _ in range(4):
        with pytest.raises(AzureBackupTimeoutError):
            back_up(ti, deferrable=deferrable, timeout=2400, execution_timeout=timedelta(minutes=15))
        ends.append(clock() - began)
        clock.advance(5)
        ti.retry()
    first = ends_before(900)
    assert ends == pytest.approx([first, 2 * first + 5, 2400, 2405], abs=2)
    assert azure.count("POST", "/backup") == 1


@BOTH
def test_a_try_that_begins_behind_the_deadline_looks_once_and_defers_no_more(
    azure: Emulator, clock: Any, deferrable: bool
) -> None:
    ti = TaskInstance(retries=1, store=Store())
    with pytest.raises(AzureBackupTimeoutError):
        back_up(ti, deferrable=deferrable, timeout=HOUR)
    ti.deferred_with.clear()
    clock.advance(HOUR)
    began = clock()
    with pytest.raises(AzureBackupTimeoutError, match="goes on in Azure"):
        back_up(ti.retry(), deferrable=deferrable, timeout=HOUR)
    assert (ti.deferred_with, clock() - began) == ([], pytest.approx(0, abs=1))


# Cancelled on request


@BOTH
@pytest.mark.parametrize("limit", [{"timeout": 1800}, {"execution_timeout": timedelta(minutes=30)}], ids=str)
def test_cancel_on_timeout_cancels_and_the_error_says_so(
    azure: Emulator, deferrable: bool, limit: dict[str, Any]
) -> None:
    with pytest.raises(AzureBackupTimeoutError, match=r"asked to cancel it.*Cancelling") as late:
        back_up(deferrable=deferrable, cancel_on_timeout=True, **limit)
    assert "goes on" not in str(late.value)
    assert azure.count("POST", "/cancel", 202) == azure.count("POST", "/cancel") == 1


@BOTH
@pytest.mark.parametrize("if_running", ["wait", "adopt"])
def test_what_this_task_did_not_start_is_never_cancelled(
    azure: Emulator, clock: Any, deferrable: bool, if_running: IfRunning
) -> None:
    azure.start_job("vm-good", ending="Never")
    clock.advance(60)
    said = "goes on in Azure" if if_running == "adopt" else "has started no backup of vm-good"
    with pytest.raises(AzureBackupTimeoutError, match=said):
        back_up(deferrable=deferrable, cancel_on_timeout=True, timeout=1800, if_running=if_running)
    assert azure.count("POST", "/cancel") == 0


@BOTH
def test_a_backup_that_was_only_found_is_never_cancelled(azure: Emulator, deferrable: bool) -> None:
    """What began after the request was sent is good enough to wait for, but may be somebody else's."""
    azure.fault(method="POST", path=r"/backup\?", processed=True, status=504)
    with pytest.raises(AzureBackupTimeoutError, match="goes on in Azure"):
        back_up(deferrable=deferrable, cancel_on_timeout=True, timeout=1800)
    assert azure.count("POST", "/cancel") == 0


@BOTH
def test_a_cancel_that_is_declined_at_the_timeout_is_told_as_that(azure: Emulator, deferrable: bool) -> None:
    azure.plan("vm-good", ending="Never", cancel="declined")
    with pytest.raises(
        AzureBackupTimeoutError,
        match=r"It goes on in Azure, which did not cancel it: .*NotInCancellableState",
    ):
        back_up(deferrable=deferrable, cancel_on_timeout=True, timeout=1800)


@BOTH
def test_an_azure_out_of_reach_at_the_timeout_does_not_hide_the_timeout(
    azure: Emulator, clock: Any, deferrable: bool, upon: Callable[..., None]
) -> None:
    began = clock()
    upon(lambda _: clock() > began + 1500, lambda: azure.fault(times=None, status=503))
    with pytest.raises(AzureBackupTimeoutError, match=r"did not cancel it: .*503"):
        back_up(deferrable=deferrable, cancel_on_timeout=True, timeout=1800)
    assert clock() - began < 1800 + 240


@BOTH
def test_a_job_that_ended_in_the_last_moment_is_not_cancelled_but_proven(
    azure: Emulator, clock: Any, deferrable: bool, upon: Callable[..., None]
) -> None:
    azure.plan("vm-good", seconds=1798)  # it is asked for some seconds after the wait began
    began = clock()
    upon(lambda _: clock() > began + 1799, lambda: azure.fault(path=JOBS, times=4, status=503, retry_after=1))
    ti = TaskInstance()
    assert back_up(ti, deferrable=deferrable, cancel_on_timeout=True, timeout=1800) == ti.xcoms["job_id"]
    assert azure.count("POST", "/cancel") == 0
    assert ti.xcoms["job"]["outcome"] == "succeeded"


# The trigger


@pytest.fixture
def arguments(azure: Emulator, clock: Any) -> dict[str, Any]:
    """Of a trigger that an operator has left in Airflow's database."""
    with pytest.raises(TaskDeferred) as deferred:
        AzureBackupOperator(
            task_id="backup", protected_item="vm-good", deferrable=True, timeout=HOUR
        ).execute(TaskInstance().context)
    stored: dict[str, Any] = json.loads(json.dumps(deferred.value.trigger.serialize()[1]))
    return stored


PATH = "airflow_provider_azbackup.triggers.AzureBackupJobTrigger"


def test_a_trigger_that_is_rebuilt_again_and_again_keeps_its_deadline(
    azure: Emulator, clock: Any, upon: Callable[..., None], arguments: dict[str, Any]
) -> None:
    def die() -> None:
        raise WorkerLostError

    for looks in (3, 6, 9, 12, 15):
        upon(lambda _: azure.count("GET", JOBS) >= looks, die)  # noqa: B023  # before the next one
        with pytest.raises(WorkerLostError):
            asyncio.run(fire(PATH, arguments))
        clock.advance(100)
    assert clock() < arguments["deadline"]
    event = asyncio.run(fire(PATH, arguments))
    assert event["error"]["type"] == "AzureBackupTimeoutError"
    assert f"within {HOUR:.0f} s" in event["error"]["message"]
    assert clock() == pytest.approx(arguments["deadline"], abs=1)


@pytest.mark.parametrize("poll_interval", [60.0, 1200.0])
@pytest.mark.parametrize("late", [-10.0, 0.0, 7200.0], ids=["just before", "at", "long after"])
def test_a_triggerer_that_comes_late_looks_soon_and_for_the_last_time(
    azure: Emulator, clock: Any, arguments: dict[str, Any], late: float, poll_interval: float
) -> None:
    clock.advance(arguments["deadline"] + late - clock())
    began = clock()
    event = asyncio.run(
        fire(PATH, {**arguments, "poll_interval": poll_interval, "first_pause": poll_interval})
    )
    assert event["error"]["type"] == "AzureBackupTimeoutError"
    assert clock() - began <= 70
    assert azure.count("GET", JOBS) == 1


def test_a_triggerer_that_comes_late_still_opens_the_gate_for_a_backup_that_is_there(
    azure: Emulator, clock: Any, arguments: dict[str, Any]
) -> None:
    azure.set_status(arguments["job_id"].rpartition("/")[2], "Completed")
    clock.advance(2 * HOUR)
    assert asyncio.run(fire(PATH, arguments))["error"] is None


def test_airflows_own_limit_stands_behind_the_deadline_even_for_slow_polls(
    azure: Emulator, clock: Any
) -> None:
    for poll_interval in (5, 60, 1200):
        with pytest.raises(TaskDeferred) as deferred:
            AzureBackupOperator(
                task_id="backup",
                protected_item="vm-good",
                deferrable=True,
                timeout=HOUR,
                poll_interval=poll_interval,
            ).execute(TaskInstance().context)
        trigger = deferred.value.trigger
        left = trigger.deadline - clock()
        assert deferred.value.timeout.total_seconds() >= left + 1.15 * trigger.first_pause


# The sensor


@IN_EVERY_MODE
@pytest.mark.parametrize("poke_interval", [300, 1500])
def test_a_sensor_times_out_at_its_timeout_in_every_mode(
    azure: Emulator, clock: Any, airflow_on_the_clock: None, mode: dict[str, Any], poke_interval: float
) -> None:
    job_id, began, ti = azure.start_job("vm-good", ending="Never"), clock(), TaskInstance()
    with pytest.raises(AirflowSensorTimeout):
        watch(job_id, ti, clock, timeout=HOUR, poke_interval=poke_interval, **mode)
    assert clock() - began == pytest.approx(HOUR, abs=5)
    assert azure.count("GET", JOBS) >= HOUR / poke_interval * 0.85


@IN_EVERY_MODE
@pytest.mark.parametrize("flag", ["soft_fail", "never_fail"])
def test_a_flag_forgives_the_timeout_of_a_sensor_in_every_mode(
    azure: Emulator, clock: Any, airflow_on_the_clock: None, mode: dict[str, Any], flag: str
) -> None:
    job_id, began = azure.start_job("vm-good", ending="Never"), clock()
    with pytest.raises(AirflowSkipException):
        watch(job_id, TaskInstance(), clock, timeout=HOUR, poke_interval=600, **{flag: True}, **mode)
    assert clock() - began == pytest.approx(HOUR, abs=5)


def test_a_deferred_sensor_that_meets_its_execution_timeout_can_be_retried(
    azure: Emulator, clock: Any
) -> None:
    job_id, began, ti = azure.start_job("vm-good", ending="Never"), clock(), TaskInstance()
    with pytest.raises(AzureBackupTimeoutError, match=r"InProgress.*goes on in Azure") as late:
        watch(job_id, ti, clock, deferrable=True, timeout=6 * HOUR, execution_timeout=timedelta(minutes=20))
    assert not isinstance(late.value, AirflowSensorTimeout | AirflowFailException)
    assert clock() - began == pytest.approx(ends_before(1200), abs=1)
    assert ti.xcoms["job"]["outcome"] == "running"


@pytest.mark.parametrize("flag", ["soft_fail", "never_fail"])
def test_a_flag_forgives_the_execution_timeout_of_a_deferred_sensor(
    azure: Emulator, clock: Any, flag: str
) -> None:
    job_id = azure.start_job("vm-good", ending="Never")
    with pytest.raises(AirflowSkipException, match=flag):
        watch(
            job_id,
            TaskInstance(),
            clock,
            deferrable=True,
            execution_timeout=timedelta(minutes=20),
            **{flag: True},
        )


def test_whichever_limit_of_a_deferred_sensor_comes_first_ends_it(azure: Emulator, clock: Any) -> None:
    job_id, began = azure.start_job("vm-good", ending="Never"), clock()
    with pytest.raises(AirflowSensorTimeout):
        watch(
            job_id,
            TaskInstance(),
            clock,
            deferrable=True,
            timeout=600,
            execution_timeout=timedelta(hours=2),
        )
    assert clock() - began == pytest.approx(600, abs=1)


def test_a_sensor_never_cancels_what_took_too_long(azure: Emulator, clock: Any) -> None:
    job_id = azure.start_job("vm-good", ending="Never")
    with pytest.raises(AirflowSensorTimeout):
        watch(job_id, TaskInstance(), clock, deferrable=True, timeout=600)
    assert azure.count("POST", "/cancel") == 0

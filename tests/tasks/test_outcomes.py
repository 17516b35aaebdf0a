"""Every status word through every way of waiting: the gate opens on succeeded, and on warned when asked."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
)

try:
    from airflow.sdk.exceptions import AirflowRescheduleException
except ImportError:  # Airflow 2
    from airflow.exceptions import AirflowRescheduleException

from airflow_provider_azbackup.exceptions import (
    AzureBackupJobFailedError,
    AzureBackupNotFoundError,
    AzureBackupRecoveryPointError,
    AzureBackupTimeoutError,
)
from airflow_provider_azbackup.operators import AzureBackupOperator
from airflow_provider_azbackup.sensors import AzureBackupJobSensor
from azure_backup_emulator import Emulator
from tests.support.tasks import TaskInstance, run

HOUR = 3600.0
RUNNING = ("InProgress", "Cancelling", "Hibernating")
SHUT = ("Failed", "Cancelled", "Invalid")
WAYS = ("poke", "reschedule", "deferrable sensor", "operator", "deferrable operator")


def wait(way: str, job_id: str, ti: TaskInstance | None = None, **arguments: Any) -> tuple[Any, TaskInstance]:
    """Wait on a job in one of the five ways; what the task returned, and its task instance."""
    ti = ti or TaskInstance()
    arguments = {"task_id": "gate", "job_id": job_id, **arguments}
    make: Callable[[], Any]
    if way in ("poke", "reschedule"):
        # Airflow itself sleeps between two pokes; nothing of ours does.
        arguments = {"mode": way, "deferrable": False, "poke_interval": 0.001, **arguments}
        arguments["timeout"] = arguments.pop("timeout", 0.003)

        def make() -> AzureBackupJobSensor:
            return AzureBackupJobSensor(**arguments)
    elif way == "deferrable sensor":

        def make() -> AzureBackupJobSensor:
            return AzureBackupJobSensor(**{"deferrable": True, "timeout": 3600, **arguments})
    else:

        def make() -> AzureBackupOperator:
            deferrable = way == "deferrable operator"
            return AzureBackupOperator(**{"deferrable": deferrable, "timeout": 3600, **arguments})

    return run(make, ti), ti


@pytest.fixture
def pinned(azure: Emulator) -> Callable[[str], str]:
    """A job pinned to a status word."""

    def pin(word: str) -> str:
        job_id = azure.start_job("vm-good", ending="Never")
        azure.set_status(job_id, word)
        return job_id

    return pin


def long_ago() -> TaskInstance:
    """The task instance of a sensor that has been rescheduled for a day."""
    return TaskInstance(first_reschedule=datetime.now(UTC) - timedelta(days=1))


@pytest.mark.parametrize("way", WAYS)
def test_the_gate_opens_on_completed(pinned: Callable[[str], str], way: str) -> None:
    job_id = pinned("Completed")
    returned, ti = wait(way, job_id)
    assert returned == job_id
    assert (ti.xcoms["job_id"], ti.xcoms["job"]["outcome"]) == (job_id, "succeeded")


@pytest.mark.parametrize("way", WAYS)
def test_warnings_open_the_gate_only_when_asked(azure: Emulator, way: str) -> None:
    job_id = azure.start_job("vm-good", ago=HOUR, seconds=600, ending="CompletedWithWarnings")
    assert wait(way, job_id, accept_warnings=True)[0] == job_id
    with pytest.raises(AzureBackupJobFailedError, match="accept_warnings is False"):
        wait(way, job_id)


@pytest.mark.parametrize("way", ["operator", "deferrable operator"])
@pytest.mark.parametrize("flaw", ["partial", "soft_deleted"])
def test_accepted_warnings_do_not_make_up_for_a_recovery_point_that_is_not_whole(
    azure: Emulator, way: str, flaw: str
) -> None:
    job_id = azure.start_job(
        "vm-good", ago=HOUR, seconds=600, ending="CompletedWithWarnings", point={flaw: True}
    )
    with pytest.raises(AzureBackupRecoveryPointError):
        wait(way, job_id, accept_warnings=True)


@pytest.mark.parametrize("way", ["operator", "deferrable operator"])
def test_accepted_warnings_do_not_make_up_for_a_recovery_point_that_is_not_there(
    pinned: Callable[[str], str], way: str
) -> None:
    with pytest.raises(AzureBackupNotFoundError, match="no recovery point"):
        wait(way, pinned("CompletedWithWarnings"), accept_warnings=True)


@pytest.mark.parametrize("word", SHUT)
@pytest.mark.parametrize("way", WAYS)
def test_the_gate_stays_shut_on_every_other_end(pinned: Callable[[str], str], way: str, word: str) -> None:
    with pytest.raises(AzureBackupJobFailedError, match=f"status {word}"):
        wait(way, pinned(word), accept_warnings=True)


@pytest.mark.parametrize("word", RUNNING)
@pytest.mark.parametrize("way", WAYS)
def test_a_job_that_is_not_over_is_waited_for_until_the_deadline(
    pinned: Callable[[str], str], way: str, word: str
) -> None:
    job_id = pinned(word)
    if way == "reschedule":
        with pytest.raises(AirflowRescheduleException):
            wait(way, job_id, timeout=3600)
        with pytest.raises(AirflowSensorTimeout):
            wait(way, job_id, long_ago(), timeout=3600)
        return
    with pytest.raises((AirflowSensorTimeout, AzureBackupTimeoutError)):
        wait(way, job_id, accept_warnings=True)


@pytest.mark.parametrize("way", WAYS)
def test_a_backup_cancelled_in_transfer_is_cancelled_even_when_warnings_are_accepted(
    azure: Emulator, clock: Any, way: str
) -> None:
    job_id = azure.start_job("vm-cancelled", ending="CancelledInTransfer", seconds=60)
    clock.advance(120)
    ti = TaskInstance()
    with pytest.raises(AzureBackupJobFailedError, match="was cancelled"):
        wait(way, job_id, ti, accept_warnings=True)
    assert ti.xcoms["job"]["status"] == "CompletedWithWarnings"
    assert ti.xcoms["job"]["outcome"] == "cancelled"


@pytest.mark.parametrize("flag", ["soft_fail", "never_fail"])
@pytest.mark.parametrize("word", [*SHUT, "CompletedWithWarnings"])
@pytest.mark.parametrize("way", WAYS[:3])
def test_no_flag_of_a_sensor_forgives_a_failed_backup(
    pinned: Callable[[str], str], way: str, word: str, flag: str
) -> None:
    with pytest.raises(AirflowFailException) as shut:
        wait(way, pinned(word), **{flag: True})
    assert isinstance(shut.value, AzureBackupJobFailedError)


@pytest.mark.parametrize("flag", ["soft_fail", "never_fail"])
@pytest.mark.parametrize("way", WAYS[:3])
def test_both_flags_forgive_a_wait_that_took_too_long(
    pinned: Callable[[str], str], way: str, flag: str
) -> None:
    with pytest.raises(AirflowSkipException):
        wait(way, pinned("InProgress"), long_ago() if way == "reschedule" else None, **{flag: True})


@pytest.mark.parametrize("way", WAYS[:3])
def test_without_a_flag_a_wait_that_took_too_long_is_a_sensor_timeout(
    pinned: Callable[[str], str], way: str
) -> None:
    with pytest.raises(AirflowSensorTimeout):
        wait(way, pinned("InProgress"), long_ago() if way == "reschedule" else None)


@pytest.mark.parametrize("way", WAYS)
def test_a_failure_carries_all_that_a_person_needs(azure: Emulator, clock: Any, way: str) -> None:
    job_id = azure.start_job("vm-fails", ending="Failed", seconds=60)
    clock.advance(120)
    ti = TaskInstance()
    with pytest.raises(AzureBackupJobFailedError) as failed:
        wait(way, job_id, ti)
    said, job = str(failed.value), ti.xcoms["job"]
    error = job["errors"][0]
    for fact in (
        "Failed",
        "Backup of vm-fails",
        error["title"],
        error["code"],
        error["message"],
        *error["recommendations"],
        *job["failed_tasks"],
        job["arm_id"],
        job["activity_id"],
    ):
        assert fact and fact in said
    assert failed.value.code == error["title"] == "UserErrorVmNotInDesirableState"
    assert failed.value.job == job

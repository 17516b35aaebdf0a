"""The sensor: any job, by GUID or ARM id, in three modes with one meaning."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSkipException,
    TaskDeferred,
)

try:
    from airflow.sdk.exceptions import AirflowRescheduleException
except ImportError:  # Airflow 2
    from airflow.exceptions import AirflowRescheduleException

from airflow_provider_azbackup.exceptions import (
    AzureBackupAuthError,
    AzureBackupConfigError,
    AzureBackupError,
    AzureBackupGateShutError,
    AzureBackupNotFoundError,
)
from airflow_provider_azbackup.sensors import AzureBackupJobSensor
from azure_backup_emulator import Emulator
from tests.support.tasks import TaskInstance, run

MODES: dict[str, dict[str, Any]] = {
    "poke": {"poke_interval": 0.001},
    "reschedule": {"mode": "reschedule"},
    "deferrable": {"deferrable": True},
}
NEVER_STARTED = "5f0c5b7e-6f0a-4b8e-9c57-0d5a3c1f2e4d"


def wait(job_id: str, ti: TaskInstance | None = None, **arguments: Any) -> Any:
    return run(
        lambda: AzureBackupJobSensor(
            **{"task_id": "gate", "job_id": job_id, "deferrable": False, "timeout": 3600, **arguments}
        ),
        ti or TaskInstance(),
    )


@pytest.fixture
def over(azure: Emulator, clock: Any) -> str:
    """A backup somebody else took, completed."""
    job_id = azure.start_job("vm-good", seconds=10)
    clock.advance(20)
    return job_id


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
def test_a_job_that_is_over_opens_at_the_first_look(azure: Emulator, over: str, mode: dict[str, Any]) -> None:
    ti = TaskInstance()
    assert wait(over, ti, **mode) == over
    assert azure.count("GET", "/backupJobs/") == 1
    assert {"job_id", "job", "azure_backup_job_url", "azure_backup_vault_url"} <= set(ti.xcoms)


def test_an_arm_id_wins_over_the_vault_of_the_connection(
    azure: Emulator, over: str, connect: Callable[..., None]
) -> None:
    connect(azure.connection(vault_name="demo-vault-2"))
    vault = azure.service.world.vaults[0].path
    assert wait(f"{vault.upper()}/BACKUPJOBS/{over}") == over


def test_an_arm_id_of_another_vault_than_the_task_names_is_refused(azure: Emulator, over: str) -> None:
    vault = azure.service.world.vaults[0].path
    with pytest.raises(AzureBackupConfigError, match="vault_name is 'demo-vault-2', not 'demo-vault'"):
        wait(f"{vault}/backupJobs/{over}", vault_name="demo-vault-2")


@pytest.mark.parametrize("operation", ["Backup", "Restore"])
def test_the_job_may_be_of_any_operation(azure: Emulator, clock: Any, operation: str) -> None:
    job_id = azure.start_job("vm-good", operation=operation, seconds=10)
    clock.advance(20)
    assert wait(job_id) == job_id


def test_a_deferred_wait_lasts_until_the_job_is_over(azure: Emulator) -> None:
    ti = TaskInstance()
    job_id = azure.start_job("vm-good", seconds=1200)
    assert wait(job_id, ti, deferrable=True, poke_interval=30) == job_id
    assert ti.deferred_with[0]["poll_interval"] == 30
    assert ti.xcoms["job"]["outcome"] == "succeeded"


def test_a_deferred_wait_costs_the_worker_no_look(azure: Emulator) -> None:
    job_id = azure.start_job("vm-good", seconds=1200)
    with pytest.raises(TaskDeferred) as deferred:
        AzureBackupJobSensor(task_id="gate", job_id=job_id, deferrable=True, timeout=600).execute(
            TaskInstance().context
        )
    assert azure.count("GET", "/backupJobs") == 0
    trigger = deferred.value.trigger
    # Airflow's own limit comes after the trigger's deadline, never before it.
    assert deferred.value.timeout.total_seconds() > trigger.deadline - trigger.since == 600


def test_a_rescheduled_wait_gives_the_slot_back_between_two_looks(azure: Emulator) -> None:
    job_id = azure.start_job("vm-good", seconds=1200)
    with pytest.raises(AirflowRescheduleException) as rescheduled:
        wait(job_id, mode="reschedule", poke_interval=90)
    pause = (rescheduled.value.reschedule_date - datetime.now(UTC)).total_seconds()
    assert 80 < pause <= 90


@pytest.mark.parametrize("fault", [{"status": 503}, {"reset": True}, {"html": True}, {"status": 408}])
def test_a_passing_fault_leaves_a_poking_wait_going(
    azure: Emulator, over: str, fault: dict[str, Any]
) -> None:
    azure.fault(path="/backupJobs/", times=4, **fault)  # all four tries of the first look
    assert wait(over, poke_interval=0.001) == over
    assert azure.count("GET", "/backupJobs/") == 5


def test_a_rescheduled_wait_never_looks_earlier_than_azure_asked(azure: Emulator, over: str) -> None:
    azure.fault(path="/backupJobs/", status=429, retry_after=324)
    with pytest.raises(AirflowRescheduleException) as rescheduled:
        wait(over, mode="reschedule", poke_interval=60)
    assert (rescheduled.value.reschedule_date - datetime.now(UTC)).total_seconds() > 320


def test_the_worker_has_time_to_leave_before_the_triggerer_looks(azure: Emulator, clock: Any) -> None:
    job_id = azure.start_job("vm-good", seconds=3)
    assert wait(job_id, deferrable=True, poke_interval=2) == job_id
    assert clock.waits[0] >= 15


def test_a_deferred_wait_rests_as_long_as_azure_asked_the_worker(azure: Emulator) -> None:
    job_id = azure.start_job("vm-good", seconds=1200)
    azure.fault(path="/backupJobs/", status=429, retry_after=324)
    assert wait(job_id, deferrable=True) == job_id
    throttled, next_look, *_ = (entry["at"] for entry in azure.requests if "/backupJobs/" in entry["path"])
    assert next_look - throttled >= 324


def test_a_job_may_be_unknown_in_the_first_minute_of_a_wait(azure: Emulator, over: str) -> None:
    azure.fault(path="/backupJobs/", status=404, times=2)
    assert wait(over, poke_interval=0.001) == over


def test_a_job_unknown_for_longer_ends_the_wait(azure: Emulator, clock: Any) -> None:
    long_waiting = TaskInstance(first_reschedule=datetime.fromtimestamp(clock() - 300, UTC))
    with pytest.raises(AzureBackupNotFoundError):
        wait(NEVER_STARTED, long_waiting, mode="reschedule")


def test_a_job_that_never_was_ends_a_deferred_wait_within_two_minutes(azure: Emulator, clock: Any) -> None:
    began = clock()
    with pytest.raises(AzureBackupNotFoundError):
        wait(NEVER_STARTED, deferrable=True)
    assert clock() - began < 120 * 1.15


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
def test_a_missing_right_fails_the_task_and_is_named(
    azure: Emulator, connect: Callable[..., None], over: str, mode: dict[str, Any]
) -> None:
    connect(azure.connection("nobody"))
    with pytest.raises(AzureBackupAuthError, match=r"Missing right: .*backupJobs/read"):
        wait(over, soft_fail=True, **mode)


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
def test_never_fail_forgives_not_being_able_to_look(
    azure: Emulator, connect: Callable[..., None], over: str, mode: dict[str, Any]
) -> None:
    connect(azure.connection("nobody"))
    with pytest.raises(AirflowSkipException):
        wait(over, never_fail=True, **mode)


def test_never_fail_forgives_a_right_lost_in_mid_wait(azure: Emulator) -> None:
    job_id = azure.start_job("vm-good", seconds=1200)
    azure.fault(path="/backupJobs/", status=403, times=None, after=1)
    with pytest.raises(AirflowSkipException, match="never_fail"):
        wait(job_id, deferrable=True, never_fail=True)
    with pytest.raises(AzureBackupAuthError):
        wait(job_id, deferrable=True, soft_fail=True)


def test_waiting_needs_no_right_but_to_read_jobs(
    azure: Emulator, connect: Callable[..., None], over: str
) -> None:
    connect(azure.connection("waiter"))
    assert wait(over) == over


def test_silent_fail_does_not_swallow_a_failed_backup(azure: Emulator, clock: Any) -> None:
    job_id = azure.start_job("vm-fails", ending="Failed", seconds=10)
    clock.advance(20)
    with pytest.raises(AzureBackupGateShutError):
        wait(job_id, poke_interval=0.001, silent_fail=True)


def test_a_shut_gate_is_not_retried(azure: Emulator, clock: Any) -> None:
    job_id = azure.start_job("vm-fails", ending="Failed", seconds=10)
    clock.advance(20)
    with pytest.raises(AirflowFailException) as shut:
        wait(job_id)
    assert shut.value.job["errors"][0]["recommendations"]


def test_the_last_look_comes_when_the_time_is_up_and_not_an_interval_later(azure: Emulator) -> None:
    job_id = azure.start_job("vm-good", ending="Never")
    with pytest.raises(AirflowRescheduleException) as rescheduled:
        wait(job_id, mode="reschedule", poke_interval=3600, timeout=600)
    assert 500 < (rescheduled.value.reschedule_date - datetime.now(UTC)).total_seconds() <= 600


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"job_id": "last-night"}, "'last-night' is not a job id"),
        ({"job_id": ""}, "'' is not a job id"),
        ({"job_id": NEVER_STARTED, "poke_interval": 0}, "poke_interval of task 'gate' is 0"),
        ({"job_id": NEVER_STARTED, "timeout": 0}, "timeout of task 'gate' is 0"),
    ],
)
def test_bad_arguments_are_refused_when_the_dag_is_parsed(arguments: dict[str, Any], complaint: str) -> None:
    with pytest.raises(AzureBackupConfigError, match=complaint):
        AzureBackupJobSensor(task_id="gate", **arguments)


def test_a_guid_without_a_vault_is_refused_before_any_request(
    azure: Emulator, connect: Callable[..., None]
) -> None:
    connect(azure.connection(vault_name=""))
    with pytest.raises(AzureBackupConfigError, match="comes without a vault"):
        wait(NEVER_STARTED)
    assert azure.requests == []


@pytest.mark.parametrize("event", [None, {}, {"status": "success"}, {"version": 1, "job": {}, "error": None}])
def test_the_gate_never_opens_on_an_event_it_cannot_read(azure: Emulator, event: Any) -> None:
    task = AzureBackupJobSensor(task_id="gate", job_id=NEVER_STARTED)
    with pytest.raises(AzureBackupError):
        task.execute_complete(TaskInstance().context, event)

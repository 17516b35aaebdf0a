"""The operator that cancels: one request, then a wait for the end, and that end as Azure reports it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from airflow_provider_azbackup.exceptions import (
    AzureBackupAuthError,
    AzureBackupConfigError,
    AzureBackupError,
    AzureBackupNotFoundError,
    AzureBackupRefusedError,
    AzureBackupTimeoutError,
    AzureBackupTransientError,
)
from airflow_provider_azbackup.operators import AzureBackupCancelJobOperator
from azure_backup_emulator import Emulator
from tests.support.tasks import Store, TaskInstance, ends_before, run

BOTH = pytest.mark.parametrize("deferrable", [False, True], ids=["in the worker", "deferred"])
CANCEL = "/cancel"
NEVER_STARTED = "5f0c5b7e-6f0a-4b8e-9c57-0d5a3c1f2e4d"


@pytest.fixture
def job_id(azure: Emulator) -> str:
    """A VM backup of 41 minutes that somebody else has started."""
    return azure.start_job("vm-good")


def cancel(job_id: str, ti: TaskInstance | None = None, **arguments: Any) -> Any:
    return run(
        lambda: AzureBackupCancelJobOperator(
            **{"task_id": "cancel", "job_id": job_id, "deferrable": False, **arguments}
        ),
        ti or TaskInstance(store=Store()),
    )


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


@BOTH
def test_a_running_job_is_cancelled_and_its_end_awaited(
    azure: Emulator, clock: Any, job_id: str, deferrable: bool
) -> None:
    clock.advance(120)  # the snapshot is being taken
    ti = TaskInstance()
    assert cancel(job_id, ti, deferrable=deferrable) == "cancelled"
    assert azure.count("POST", CANCEL) == 1
    assert (ti.xcoms["job_id"], ti.xcoms["job"]["outcome"]) == (job_id, "cancelled")
    assert ti.xcoms["job"]["status"] == "Cancelled"
    assert ti.xcoms["azure_backup_job_url"].endswith(job_id)
    assert bool(ti.deferred_with) is deferrable


@BOTH
def test_a_job_cancelled_in_transfer_is_cancelled_although_it_ends_with_warnings(
    azure: Emulator, clock: Any, job_id: str, deferrable: bool
) -> None:
    clock.advance(1800)
    ti = TaskInstance()
    assert cancel(job_id, ti, deferrable=deferrable) == "cancelled"
    assert ti.xcoms["job"]["status"] == "CompletedWithWarnings"
    assert ti.xcoms["job"]["errors"][0]["title"] == "UserErrorJobSuccessfullyCancelled"


@BOTH
@pytest.mark.parametrize(
    ("ending", "outcome"),
    [
        ("Completed", "succeeded"),
        ("CompletedWithWarnings", "warned"),
        ("Failed", "failed"),
        ("Cancelled", "cancelled"),
        ("CancelledInTransfer", "cancelled"),
    ],
)
def test_a_job_that_is_over_is_left_alone_and_its_end_told(
    azure: Emulator, clock: Any, ending: str, outcome: str, deferrable: bool
) -> None:
    over = azure.start_job("vm-good", ending=ending, seconds=60)
    clock.advance(120)
    ti = TaskInstance()
    assert cancel(over, ti, deferrable=deferrable) == ti.xcoms["job"]["outcome"] == outcome
    assert (azure.count("POST", CANCEL), ti.deferred_with) == (0, [])


@BOTH
def test_a_job_that_is_being_cancelled_is_only_waited_for(
    azure: Emulator, job_id: str, deferrable: bool
) -> None:
    azure.plan("vm-good", cancel_seconds=300)
    first = azure.start_job("vm-good")
    azure.service.world.cancel(azure.service.world.jobs[first], azure.service.clock())
    assert cancel(first, deferrable=deferrable) == "cancelled"
    assert azure.count("POST", CANCEL) == 0


@BOTH
def test_a_cancellation_that_comes_too_late_is_told_as_the_success_it_became(
    azure: Emulator, clock: Any, job_id: str, deferrable: bool
) -> None:
    azure.plan("vm-good", cancel_seconds=600)
    late = azure.start_job("vm-good", seconds=1200)
    clock.advance(900)
    ti = TaskInstance()
    assert cancel(late, ti, deferrable=deferrable) == "succeeded"
    assert azure.count("POST", CANCEL, 202) == 1
    assert ti.xcoms["job"]["status"] == "Completed"


@BOTH
def test_a_cancel_that_azure_declines_fails_with_its_words(
    azure: Emulator, job_id: str, deferrable: bool
) -> None:
    azure.service.world.jobs[job_id].cancel = "declined"
    with pytest.raises(AzureBackupRefusedError, match="not in a cancelable state") as refused:
        cancel(job_id, deferrable=deferrable)
    assert refused.value.code == "UserErrorJobNotInCancellableState"
    assert azure.count("POST", CANCEL) == 1


@pytest.mark.parametrize(("ending", "outcome"), [("Completed", "succeeded"), ("Failed", "failed")])
def test_a_cancel_that_is_declined_because_the_job_just_ended_is_no_error(
    azure: Emulator, clock: Any, ending: str, outcome: str
) -> None:
    ends = azure.start_job("vm-good", ending=ending, seconds=600)
    # Azure is busy for the rest of the job; then it declines to cancel what is over.
    azure.fault(method="POST", path=CANCEL, status=429, retry_after=300, times=1)
    clock.advance(400)
    assert cancel(ends) == outcome
    assert azure.count("POST", CANCEL, 400) == 1


@BOTH
@pytest.mark.parametrize(
    "fault",
    [{"status": 504}, {"status": 503, "retry_after": 20}, {"reset": True}],
    ids=["504", "503", "a reset"],
)
def test_a_lost_answer_to_a_cancel_that_worked_does_no_harm(
    azure: Emulator, job_id: str, fault: dict[str, Any], deferrable: bool
) -> None:
    azure.fault(method="POST", path=CANCEL, processed=True, **fault)
    assert cancel(job_id, deferrable=deferrable) == "cancelled"
    assert azure.count("POST", CANCEL) == 2


@BOTH
def test_a_cancel_that_a_broken_azure_did_not_hear_is_sent_again(
    azure: Emulator, clock: Any, job_id: str, deferrable: bool
) -> None:
    azure.fault(method="POST", path=CANCEL, status=504, times=4)
    began = clock()
    assert cancel(job_id, deferrable=deferrable) == "cancelled"
    assert azure.count("POST", CANCEL, 202) == 1
    assert clock() - began > 5 + 10 + 20 + 40 - 0.15 * 75


def test_an_outage_of_half_an_hour_delays_a_cancel_and_no_more(
    azure: Emulator, clock: Any, upon: Callable[..., None]
) -> None:
    endless = azure.start_job("vm-good", ending="Never")
    azure.fault(path="^/subscriptions/", times=None, status=503)
    began = clock()
    upon(lambda _: clock() >= began + 1800, azure.clear_faults)
    assert cancel(endless) == "cancelled"
    assert 1800 < clock() - began < 1800 + 300
    assert azure.count() < 4 * 60


@BOTH
def test_a_retry_sends_no_second_cancel(
    azure: Emulator, job_id: str, upon: Callable[..., None], deferrable: bool
) -> None:
    class WorkerLostError(SystemExit):
        """The process is gone, whichever of its tasks runs in that moment."""

    def die() -> None:
        raise WorkerLostError

    azure.plan("vm-good", cancel_seconds=900)
    slow, ti = azure.start_job("vm-good"), TaskInstance(retries=1, store=Store())
    upon(lambda pause: pause > 50, die)
    with pytest.raises(WorkerLostError):
        cancel(slow, ti, deferrable=deferrable)
    assert azure.count("POST", CANCEL, 202) == 1
    assert cancel(slow, ti.retry(), deferrable=deferrable) == "cancelled"
    assert azure.count("POST", CANCEL) == 1


@BOTH
def test_a_job_that_will_not_end_fails_the_task_when_its_time_is_up(
    azure: Emulator, clock: Any, deferrable: bool
) -> None:
    azure.plan("vm-good", cancel="ignored")
    stubborn, began = azure.start_job("vm-good", ending="Never"), clock()
    with pytest.raises(AzureBackupTimeoutError, match=r"did not end within 1800 s: job .*InProgress") as late:
        cancel(stubborn, deferrable=deferrable, timeout=1800)
    assert clock() - began == pytest.approx(1800, abs=1)
    assert azure.count("POST", CANCEL) == 1
    assert late.value.job and late.value.job["status"] == "InProgress"


@BOTH
def test_the_execution_timeout_ends_the_wait_for_the_end_as_well(
    azure: Emulator, clock: Any, deferrable: bool
) -> None:
    azure.plan("vm-good", cancel="ignored")
    stubborn, began = azure.start_job("vm-good", ending="Never"), clock()
    with pytest.raises(AzureBackupTimeoutError):
        cancel(stubborn, deferrable=deferrable, execution_timeout=timedelta(minutes=10))
    assert clock() - began == pytest.approx(ends_before(600), abs=5)


def test_a_job_nobody_knows_is_told_as_that(azure: Emulator) -> None:
    with pytest.raises(AzureBackupNotFoundError, match="404"):
        cancel(NEVER_STARTED)
    assert azure.count("POST", CANCEL) == 0


def test_the_right_that_is_missing_is_named(
    azure: Emulator, connect: Callable[..., None], job_id: str
) -> None:
    connect(azure.connection("waiter"))
    with pytest.raises(AzureBackupAuthError, match=r"Missing right: .*backupJobs/cancel/action"):
        cancel(job_id)


def test_an_azure_that_stays_away_fails_the_task_at_its_deadline_with_the_reason(
    azure: Emulator, clock: Any, job_id: str
) -> None:
    azure.fault(times=None, status=503)
    began = clock()
    with pytest.raises(AzureBackupTransientError, match="503"):
        cancel(job_id, timeout=1800)
    assert 1800 <= clock() - began < 1800 + 90


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"job_id": "last-night"}, "'last-night' is not a job id"),
        ({"timeout": 0}, "timeout of task 'cancel' is 0"),
        ({"poll_interval": float("inf")}, "poll_interval of task 'cancel' is inf"),
    ],
)
def test_bad_arguments_are_refused_when_the_dag_is_parsed(arguments: dict[str, Any], complaint: str) -> None:
    with pytest.raises(AzureBackupConfigError, match=complaint):
        AzureBackupCancelJobOperator(**{"task_id": "cancel", "job_id": NEVER_STARTED, **arguments})


@pytest.mark.parametrize("event", [None, "cancelled", {}, {"version": 1, "job": None, "error": None}])
def test_an_event_that_cannot_be_read_is_no_end_of_a_job(azure: Emulator, event: Any) -> None:
    task = AzureBackupCancelJobOperator(task_id="cancel", job_id=NEVER_STARTED)
    with pytest.raises(AzureBackupError):
        task.execute_complete(TaskInstance().context, event)

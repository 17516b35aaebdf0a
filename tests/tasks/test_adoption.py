"""One attempt, one backup of its own: through retries, Clears, crashes, lost answers and busy items."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_azbackup.core.model.validation import IfRunning, WaitUntil
from airflow_provider_azbackup.exceptions import (
    AzureBackupBusyError,
    AzureBackupJobFailedError,
    AzureBackupTimeoutError,
    AzureBackupUnconfirmedStartError,
)
from airflow_provider_azbackup.operators import AzureBackupOperator
from airflow_provider_azbackup.runtime import clock as clocks
from azure_backup_emulator import Emulator
from tests.support.pairs import pairwise
from tests.support.tasks import Store, TaskInstance, run

BOTH = pytest.mark.parametrize("deferrable", [False, True], ids=["in the worker", "deferred"])
STORES = pytest.mark.parametrize("store", [True, False], ids=["3.3", "below 3.3"])
AGAIN = pytest.mark.parametrize("again", [TaskInstance.retry, TaskInstance.clear], ids=["retry", "Clear"])
LASTS = 2480.0  # seconds, of the emulator's VM backup
SOON = 30.0


class WorkerDiedError(BaseException):
    """A worker that is gone, as by kill -9: no handler of the provider may report it."""


class Mortal:
    """The time of a worker that dies once something is so: at its next look at a clock.

    The transport looks at it after each answer, so this is as soon as an answer has come, and not yet read.
    """

    def __init__(self, clock: Any, dies: Callable[[], bool]) -> None:
        self.clock, self.dies = clock, dies

    def now(self) -> float:
        self._live()
        return float(self.clock())

    def sleep(self, seconds: float) -> None:
        self._live()
        self.clock.sleep(seconds)

    async def pause(self, seconds: float) -> None:
        self.sleep(seconds)

    def _live(self) -> None:
        if self.dies():
            raise WorkerDiedError


class MortalStore(Store):
    """A store that a worker dies at, in its n-th call, before or after that has taken effect."""

    def __init__(self, call: int, *, kept: bool) -> None:
        super().__init__()
        self.left, self.kept = call, kept

    def set(self, key: str, value: Any, *, retention: Any = None) -> None:
        self.left -= 1
        if self.left or self.kept:
            super().set(key, value)
        if not self.left:
            raise WorkerDiedError


class MortalTaskInstance(TaskInstance):
    """A task whose worker dies as it pushes an XCom of this key."""

    dies_at = ""

    def xcom_push(self, *, key: str, value: Any) -> None:
        if key == self.dies_at:
            self.dies_at = ""
            raise WorkerDiedError
        super().xcom_push(key=key, value=value)


@pytest.fixture(autouse=True)
def _nothing_is_cancelled(azure: Emulator) -> Iterator[None]:
    yield
    assert azure.count("POST", "/cancel") == 0


def back_up(item: str = "vm-good", **arguments: Any) -> Callable[[], AzureBackupOperator]:
    # Every look costs a request, and none of them matters here but the last.
    options = {"poll_interval": 300.0, **arguments}
    return lambda: AzureBackupOperator(task_id="backup", protected_item=item, **options)


def an_instance(store: bool = True, **options: Any) -> TaskInstance:
    return TaskInstance(store=Store() if store else None, **options)


def posts(azure: Emulator) -> int:
    return len([entry for entry in azure.requests if entry["path"].endswith("/backup")])


def jobs(azure: Emulator) -> list[str]:
    return list(azure.service.world.jobs)


def one_after_another(azure: Emulator) -> bool:
    """Whether there were two backups, and the second began after the end of the first."""
    first, second = azure.service.world.jobs.values()
    return bool(second.starts >= first.finish()[0])


def knows(store: bool, again: Any) -> bool:
    """Whether the next try may take up what this one has started: a retry that can read its note."""
    return store and again is TaskInstance.retry


def begin(azure: Emulator, clock: Any, task: Callable[[], AzureBackupOperator], ti: TaskInstance) -> str:
    """Begin a try, and lose it with its job running: the triggerer never fires, or the worker dies."""
    clock.advance(5)
    end = clock() + 600
    with (
        clocks.running_on(Mortal(clock, lambda: clock() >= end)),
        pytest.raises((TaskDeferred, WorkerDiedError)),
    ):
        task().execute(ti.context)
    return str(ti.xcoms["job_id"])


# --- a retry, a Clear


@BOTH
def test_a_retry_takes_up_the_backup_that_runs(azure: Emulator, clock: Any, deferrable: bool) -> None:
    ti, task = an_instance(), back_up(deferrable=deferrable)
    job_id = begin(azure, clock, task, ti)
    clock.advance(300)
    assert run(task, ti.retry()) == job_id
    assert (posts(azure), ti.xcoms["job_id"], ti.xcoms["job"]["outcome"]) == (1, job_id, "succeeded")
    assert all(trigger["job_id"].endswith(job_id) for trigger in ti.deferred_with)
    assert bool(ti.deferred_with) is deferrable


# Who cannot know, or may not take for its own, that the backup that runs was started by this attempt.
STRANGE = pytest.mark.parametrize(
    ("store", "again"),
    [(True, TaskInstance.clear), (False, TaskInstance.clear), (False, TaskInstance.retry)],
    ids=["Clear", "Clear below 3.3", "retry below 3.3"],
)


@BOTH
@STRANGE
def test_a_new_attempt_waits_for_the_end_of_the_backup_that_runs_and_takes_its_own(
    azure: Emulator, clock: Any, deferrable: bool, store: bool, again: Any
) -> None:
    ti, task = an_instance(store), back_up(deferrable=deferrable)
    first = begin(azure, clock, task, ti)
    clock.advance(300)
    second = run(task, again(ti))
    assert (posts(azure), jobs(azure)) == (2, [first, second])
    assert one_after_another(azure)
    assert (ti.xcoms["job_id"], ti.xcoms["job"]["job_id"]) == (second, second)
    assert [trigger["job_id"].rpartition("/")[2] for trigger in ti.deferred_with] == (
        [first, second] if deferrable else []
    )


@BOTH
@STRANGE
def test_a_new_attempt_adopts_the_backup_that_runs_where_the_author_says_so(
    azure: Emulator, clock: Any, deferrable: bool, store: bool, again: Any
) -> None:
    ti, task = an_instance(store), back_up(deferrable=deferrable, if_running="adopt")
    job_id = begin(azure, clock, task, ti)
    clock.advance(300)
    assert run(task, again(ti)) == job_id
    assert (posts(azure), ti.xcoms["job"]["outcome"]) == (1, "succeeded")


@BOTH
@STRANGE
def test_a_new_attempt_fails_while_a_backup_runs_where_the_author_says_so(
    azure: Emulator, clock: Any, deferrable: bool, store: bool, again: Any
) -> None:
    ti, task = an_instance(store), back_up(deferrable=deferrable, if_running="fail")
    begin(azure, clock, task, ti)
    with pytest.raises(AzureBackupBusyError, match="if_running is 'fail'"):
        run(task, again(ti))
    assert posts(azure) == 1


@pairwise(
    BOTH,
    pytest.mark.parametrize("counted", [True, False], ids=["Clear counted", "Clear not counted"]),
    pytest.mark.parametrize("over", [True, False], ids=["after success", "while it runs"]),
)
def test_a_clear_after_retries_were_lowered_takes_a_new_backup(
    azure: Emulator, clock: Any, deferrable: bool, counted: bool, over: bool
) -> None:
    """``max_tries`` is 1 before and after it, and only some Clears are counted by the run."""
    ti = an_instance(retries=1)
    before = back_up(deferrable=deferrable, retries=1)
    first = run(before, ti) if over else begin(azure, clock, before, ti)
    clock.advance(60)
    ti.retries = 0
    ti.clear()
    ti.dag_run.clear_number = int(counted)
    assert ti.max_tries == 1
    second = run(back_up(deferrable=deferrable, retries=0), ti)
    assert (posts(azure), jobs(azure)) == (2, [first, second])
    assert one_after_another(azure)


@BOTH
def test_a_retry_passes_at_once_if_its_backup_has_succeeded_meanwhile(
    azure: Emulator, clock: Any, deferrable: bool
) -> None:
    ti, task = an_instance(), back_up(deferrable=deferrable)
    job_id = begin(azure, clock, task, ti)
    clock.advance(LASTS)
    clock.waits.clear()
    assert run(task, ti.retry()) == job_id
    assert (posts(azure), ti.deferred_with, clock.waits) == (1, [], [])
    assert ti.xcoms["job"]["outcome"] == "succeeded"


@BOTH
def test_below_3_3_a_retry_cannot_know_a_backup_that_is_over(
    azure: Emulator, clock: Any, deferrable: bool
) -> None:
    ti, task = an_instance(store=False), back_up(deferrable=deferrable)
    begin(azure, clock, task, ti)
    clock.advance(LASTS)
    run(task, ti.retry())
    assert posts(azure) == 2


@BOTH
@STORES
def test_a_clear_after_the_end_takes_a_new_backup(
    azure: Emulator, clock: Any, deferrable: bool, store: bool
) -> None:
    ti, task = an_instance(store), back_up(deferrable=deferrable)
    first = run(task, ti)
    clock.advance(3600)
    assert run(task, ti.clear()) != first
    assert posts(azure) == 2


@BOTH
def test_a_clear_takes_a_new_backup_although_the_lost_try_has_succeeded_meanwhile(
    azure: Emulator, clock: Any, deferrable: bool
) -> None:
    ti, task = an_instance(retries=2), back_up(deferrable=deferrable)
    first = begin(azure, clock, task, ti)
    clock.advance(LASTS)
    second = run(task, ti.clear())
    assert (posts(azure), jobs(azure)) == (2, [first, second])


@BOTH
@STORES
def test_a_retry_after_a_failed_backup_takes_a_new_one(
    azure: Emulator, deferrable: bool, store: bool
) -> None:
    ti, task = an_instance(store, retries=1), back_up("vm-fails", deferrable=deferrable)
    with pytest.raises(AzureBackupJobFailedError):
        run(task, ti)
    azure.plan("vm-fails")
    assert run(task, ti.retry()) == jobs(azure)[1]
    assert posts(azure) == 2


@AGAIN
def test_a_backup_that_somebody_cancels_is_not_taken_up(azure: Emulator, clock: Any, again: Any) -> None:
    azure.plan("vm-good", cancel_seconds=120)
    ti, task = an_instance(), back_up(deferrable=True)
    job_id = begin(azure, clock, task, ti)
    azure.service.world.cancel(azure.service.world.jobs[job_id], clock())
    assert run(task, again(ti)) != job_id
    assert posts(azure) == 2
    first, second = azure.service.world.jobs.values()
    assert second.starts >= first.finish()[0]


@BOTH
def test_a_retry_of_a_retry_of_a_clear_still_knows(azure: Emulator, clock: Any, deferrable: bool) -> None:
    ti, task = an_instance(retries=3), back_up(deferrable=deferrable)
    run(task, ti)
    job_id = begin(azure, clock, task, ti.clear())
    begin(azure, clock, task, ti.retry())
    assert run(task, ti.retry()) == job_id
    assert posts(azure) == 2


@BOTH
@AGAIN
def test_a_mapped_index_that_means_another_item_now_takes_up_nothing_of_the_old_one(
    azure: Emulator, clock: Any, deferrable: bool, again: Any
) -> None:
    ti = an_instance()
    first = begin(azure, clock, back_up("fleet-01", deferrable=deferrable), ti)
    second = run(back_up("fleet-02", deferrable=deferrable), again(ti))
    assert second != first
    assert [job.item.name for job in azure.service.world.jobs.values()] == ["fleet-01", "fleet-02"]
    assert ti.xcoms["job"]["item"] == "fleet-02"


def test_two_mapped_tasks_whose_items_changed_places_make_no_further_backup_where_they_may_adopt(
    azure: Emulator, clock: Any
) -> None:
    one, two = an_instance(), an_instance()
    first = begin(azure, clock, back_up("fleet-01", deferrable=True), one)
    second = begin(azure, clock, back_up("fleet-02", deferrable=True), two)
    taken_first = back_up("fleet-02", deferrable=True, if_running="adopt")
    assert begin(azure, clock, taken_first, one.clear()) == second
    taken_second = back_up("fleet-01", deferrable=True, if_running="adopt")
    assert begin(azure, clock, taken_second, two.clear()) == first
    assert posts(azure) == 2


@STORES
@AGAIN
def test_a_task_that_waits_for_nothing_minds_a_running_backup_as_well(
    azure: Emulator, store: bool, again: Any
) -> None:
    ti, task = an_instance(store), back_up(wait_for_completion=False)
    first = run(task, ti)
    second = run(task, again(ti))
    if knows(store, again):
        assert (second, posts(azure)) == (first, 1)
    else:
        assert jobs(azure) == [first, second]
        assert one_after_another(azure)


# --- crashes


def assert_no_doubt(azure: Emulator, known: bool) -> None:
    """One backup where the next try knows it for its own; else a second one after the end of the first."""
    assert posts(azure) == len(jobs(azure)) == (1 if known else 2)
    assert known or one_after_another(azure)


def _between(azure: Emulator) -> dict[str, Callable[[], bool]]:
    """When a worker dies: as soon as this is so."""
    return {
        "Azure has the request": lambda: posts(azure) > 0,
        "Azure has named the operation": lambda: azure.count("GET", "/backupOperations/") > 0,
    }


@BOTH
@STORES
@AGAIN
@pytest.mark.parametrize("moment", ["Azure has the request", "Azure has named the operation"])
def test_a_crash_between_request_and_job_id_is_no_second_backup(
    azure: Emulator, clock: Any, deferrable: bool, store: bool, again: Any, moment: str
) -> None:
    ti, task = an_instance(store), back_up(deferrable=deferrable)
    with clocks.running_on(Mortal(clock, _between(azure)[moment])), pytest.raises(WorkerDiedError):
        task().execute(ti.context)
    clock.advance(SOON)
    assert run(task, again(ti)) == jobs(azure)[-1]
    assert_no_doubt(azure, knows(store, again))


@pytest.mark.parametrize("item", ["documents", "payroll", "systemdb"])
def test_a_crash_behind_the_request_is_no_second_backup_of_any_workload(
    azure: Emulator, clock: Any, item: str
) -> None:
    azure.plan(item, seconds=600)
    ti, task = an_instance(), back_up(item)
    dies = _between(azure)["Azure has the request"]
    with clocks.running_on(Mortal(clock, dies)), pytest.raises(WorkerDiedError):
        task().execute(ti.context)
    run(task, ti.retry())
    assert (posts(azure), len(jobs(azure))) == (1, 1)


@BOTH
@AGAIN
@pytest.mark.parametrize("kept", [True, False], ids=["kept", "lost"])
@pytest.mark.parametrize("call", [1, 2, 3])
def test_a_crash_at_a_note_is_no_second_backup_of_the_attempt(
    azure: Emulator, clock: Any, deferrable: bool, again: Any, kept: bool, call: int
) -> None:
    ti, task = TaskInstance(store=MortalStore(call, kept=kept)), back_up(deferrable=deferrable)
    with pytest.raises(WorkerDiedError):
        task().execute(ti.context)
    assert posts(azure) == (0 if call == 1 else 1)
    clock.advance(SOON)
    run(task, again(ti))
    assert_no_doubt(azure, knows(True, again) or call == 1)


@BOTH
@STORES
@AGAIN
@pytest.mark.parametrize("key", ["job_id", "azure_backup_vault_url"])
def test_a_crash_at_an_xcom_before_the_wait_is_no_second_backup_of_the_attempt(
    azure: Emulator, clock: Any, deferrable: bool, store: bool, again: Any, key: str
) -> None:
    ti, task = MortalTaskInstance(store=Store() if store else None), back_up(deferrable=deferrable)
    ti.dies_at = key
    with pytest.raises(WorkerDiedError):
        task().execute(ti.context)
    clock.advance(SOON)
    run(task, again(ti))
    assert_no_doubt(azure, knows(store, again))


@BOTH
def test_a_crash_at_the_very_end_lets_the_retry_pass(azure: Emulator, clock: Any, deferrable: bool) -> None:
    ti, task = MortalTaskInstance(store=Store()), back_up(deferrable=deferrable)
    ti.dies_at = "job"
    with pytest.raises(WorkerDiedError):
        run(task, ti)
    assert run(task, ti.retry()) == jobs(azure)[0]
    assert posts(azure) == 1
    assert ti.xcoms["job"]["outcome"] == "succeeded"


@BOTH
@pytest.mark.parametrize("ending", ["Completed", "Failed"])
def test_what_became_of_a_backup_before_the_retry_counts_also_when_no_id_of_it_was_noted(
    azure: Emulator, clock: Any, deferrable: bool, ending: str
) -> None:
    azure.plan("vm-good", ending=ending, seconds=600)
    ti, task = an_instance(), back_up(deferrable=deferrable)
    dies = _between(azure)["Azure has the request"]
    with clocks.running_on(Mortal(clock, dies)), pytest.raises(WorkerDiedError):
        task().execute(ti.context)
    clock.advance(1800)
    azure.plan("vm-good", seconds=600)
    ended = run(task, ti.retry())
    assert ended == jobs(azure)[0 if ending == "Completed" else 1]
    assert posts(azure) == (1 if ending == "Completed" else 2)


def test_below_3_3_a_backup_from_before_the_run_is_a_strangers(azure: Emulator, clock: Any) -> None:
    azure.start_job("vm-good", seconds=9000)
    clock.advance(600)
    ti, task = an_instance(store=False), back_up(deferrable=True, if_running="fail")
    for begin_try in (lambda: ti, ti.retry):
        with pytest.raises(AzureBackupBusyError):
            run(task, begin_try())
    assert posts(azure) == 0


@pytest.mark.parametrize("skew", [-600, -40, 40, 600])
@pytest.mark.parametrize("store", [True, False], ids=["Clear", "retry below 3.3"])
def test_a_clock_of_azures_that_differs_makes_an_older_backup_no_younger(
    azure: Emulator, clock: Any, skew: float, store: bool
) -> None:
    azure.configure(clock_skew=skew)
    ti, task = an_instance(store=store), back_up(deferrable=True)
    first = begin(azure, clock, task, ti)
    clock.advance(5)
    second = run(task, ti.clear() if store else ti.retry())
    assert jobs(azure) == [first, second]
    assert one_after_another(azure)


@pytest.mark.parametrize("call", ["get", "set"])
def test_without_a_word_from_the_store_nothing_is_started(azure: Emulator, call: str) -> None:
    class Unreachable(Store):
        def get(self, key: str, default: Any = None) -> Any:
            if call == "get":
                raise ConnectionError("Airflow's API does not answer")
            return super().get(key, default)

        def set(self, key: str, value: Any, *, retention: Any = None) -> None:
            raise ConnectionError("Airflow's API does not answer")

    with pytest.raises(ConnectionError):
        run(back_up(), TaskInstance(store=Unreachable()))
    assert posts(azure) == 0


@pairwise(
    AGAIN,
    pytest.mark.parametrize("version", [1, 99]),
    pytest.mark.parametrize("if_running", ["adopt", "wait", "fail"]),
)
def test_a_note_of_another_release_is_not_understood_but_its_running_backup_is_seen(
    azure: Emulator, clock: Any, again: Any, if_running: IfRunning, version: int
) -> None:
    ti, task = an_instance(), back_up(deferrable=True, if_running=if_running)
    job_id = begin(azure, clock, task, ti)
    assert ti.store is not None
    (key,) = ti.store
    ti.store[key]["version"] = version
    azure.fault(path=r"/backupJobs\?", times=9, status=503)
    if if_running == "fail":
        with pytest.raises(AzureBackupBusyError):
            run(task, again(ti))
    else:
        assert (run(task, again(ti)) == job_id) is (if_running == "adopt")
    assert posts(azure) == (2 if if_running == "wait" else 1)
    assert if_running != "wait" or one_after_another(azure)


@BOTH
@pytest.mark.parametrize("of", ["another VM", "another vault", "a restore", "before the request"])
def test_a_note_that_speaks_of_an_unrelated_job_is_not_believed(
    azure: Emulator, clock: Any, deferrable: bool, of: str
) -> None:
    ti, task = an_instance(), back_up(deferrable=deferrable)
    if of == "before the request":
        unrelated = azure.start_job("vm-good", seconds=60)
    elif of == "a restore":
        unrelated = azure.start_job("vm-good", operation="Restore", seconds=60)
    else:
        unrelated = azure.start_job("fleet-01", seconds=60)
    clock.advance(600)
    first = begin(azure, clock, task, ti)
    azure.set_status(first, "Failed")
    assert ti.store is not None
    (key,) = ti.store
    vault = azure.service.world.vaults[0].path
    if of == "another vault":
        vault = f"{vault}-2"
        azure.fault(
            method="GET", path=f"{vault}/backupJobs/", times=None, status=404, code="ResourceNotFound"
        )
    ti.store[key]["job"] = f"{vault}/backupJobs/{unrelated}"
    assert run(task, ti.retry()) == jobs(azure)[-1]
    assert jobs(azure)[:2] == [unrelated, first]
    assert (len(jobs(azure)), posts(azure)) == (3, 2)


@BOTH
def test_a_job_that_azure_denies_is_found_in_the_list(azure: Emulator, clock: Any, deferrable: bool) -> None:
    ti, task = an_instance(), back_up(deferrable=deferrable)
    job_id = begin(azure, clock, task, ti)
    clock.advance(LASTS)
    azure.fault(method="GET", path=f"/backupJobs/{job_id}", times=8, status=404, code="ResourceNotFound")
    assert run(task, ti.retry()) == job_id
    assert posts(azure) == 1


# --- lost answers

LOSSES = pytest.mark.parametrize(
    "loss",
    [
        {"status": 408},
        {"status": 500},
        {"status": 502},
        {"status": 503},
        {"status": 503, "retry_after": 1},
        {"status": 504},
        {"html": True},
        {"empty": True, "status": 202},
        {"reset": True},
    ],
    ids=[
        "408",
        "500",
        "502",
        "503",
        "503 with Retry-After",
        "504",
        "a proxy's page",
        "a bare 202",
        "a reset",
    ],
)


@pairwise(
    LOSSES,
    pytest.mark.parametrize("deferrable", [False, True], ids=["in the worker", "deferred"]),
    pytest.mark.parametrize("processed", [True, False], ids=["heard", "not heard"]),
)
def test_a_request_whose_answer_is_lost_becomes_one_backup(
    azure: Emulator, loss: dict[str, Any], deferrable: bool, processed: bool
) -> None:
    azure.fault(method="POST", path=r"/backup\?", processed=processed, **loss)
    azure.plan("vm-good", visible_after=50)
    ti = an_instance()
    assert run(back_up(deferrable=deferrable), ti) == jobs(azure)[0]
    assert (len(jobs(azure)), posts(azure)) == (1, 1 if processed else 2)
    assert ti.xcoms["job"]["outcome"] == "succeeded"


@pytest.mark.parametrize("item", ["documents", "payroll", "systemdb"])
@pytest.mark.parametrize("processed", [True, False], ids=["heard", "not heard"])
def test_a_lost_request_of_any_workload_becomes_one_backup(
    azure: Emulator, item: str, processed: bool
) -> None:
    azure.fault(method="POST", path=r"/backup\?", processed=processed, status=504)
    run(back_up(item), an_instance())
    assert (len(jobs(azure)), posts(azure)) == (1, 1 if processed else 2)


@BOTH
@AGAIN
def test_a_worker_that_dies_while_it_looks_for_a_lost_request_leaves_that_to_the_next(
    azure: Emulator, clock: Any, deferrable: bool, again: Any
) -> None:
    azure.fault(method="POST", path=r"/backup\?", processed=True, reset=True)
    azure.plan("vm-good", visible_after=60)
    ti, task = an_instance(), back_up(deferrable=deferrable)
    end = clock() + 20
    with clocks.running_on(Mortal(clock, lambda: clock() >= end)), pytest.raises(WorkerDiedError):
        task().execute(ti.context)
    run(task, again(ti))
    assert_no_doubt(azure, knows(True, again))


@BOTH
def test_an_outage_right_behind_a_lost_request_is_waited_out(
    azure: Emulator, clock: Any, deferrable: bool
) -> None:
    azure.fault(method="POST", path=r"/backup\?", processed=True, reset=True)
    azure.fault(method="GET", path="/backupJobs", after=1, times=40, reset=True)
    ti = an_instance()
    run(back_up(deferrable=deferrable), ti)
    assert (posts(azure), ti.xcoms["job"]["outcome"]) == (1, "succeeded")


def test_a_request_of_unknown_fate_is_sent_three_times_and_then_told(azure: Emulator, clock: Any) -> None:
    azure.fault(method="POST", path=r"/backup\?", times=None, status=504)
    ti, task = an_instance(retries=1), back_up()
    began = clock()
    with pytest.raises(AzureBackupUnconfirmedStartError):
        run(task, ti)
    assert posts(azure) == 3
    assert 3 * 180 <= clock() - began < 800
    azure.clear_faults()
    run(task, ti.retry())
    assert len(jobs(azure)) == 1


@AGAIN
def test_a_backup_that_shows_only_after_the_try_gave_up_is_found_by_the_next(
    azure: Emulator, clock: Any, again: Any
) -> None:
    azure.plan("vm-good", operation="NoProperties", visible_after=200)
    ti, task = an_instance(retries=1), back_up()
    with pytest.raises(AzureBackupUnconfirmedStartError):
        run(task, ti)
    azure.plan("vm-good")
    run(task, again(ti))
    assert_no_doubt(azure, knows(True, again))


def test_of_two_databases_of_one_name_none_is_taken_for_the_other(azure: Emulator, clock: Any) -> None:
    first, second = (item.path for item in azure.service.world.named("msdb"))
    azure.start_job(first, seconds=900)
    clock.advance(30)
    assert run(back_up(second), an_instance()) == jobs(azure)[1]
    azure.fault(method="POST", path=r"/backup\?", processed=True, status=504)
    with pytest.raises(AzureBackupUnconfirmedStartError, match="may be one of"):
        run(back_up(second), an_instance())
    assert posts(azure) == 2


@pytest.mark.parametrize("skew", [-600, -90, 90, 600])
@pytest.mark.parametrize("processed", [True, False], ids=["heard", "not heard"])
def test_clocks_that_differ_by_minutes_hide_no_backup(azure: Emulator, skew: float, processed: bool) -> None:
    azure.configure(clock_skew=skew)
    azure.fault(method="POST", path=r"/backup\?", processed=processed, status=504)
    run(back_up(), an_instance())
    assert (len(jobs(azure)), posts(azure)) == (1, 1 if processed else 2)


# --- busy

FORMS = pytest.mark.parametrize("form", ["conflict", "operation", "job"])


def a_stranger(azure: Emulator, form: str, seconds: float = 3600, **how: Any) -> str:
    """Start a backup of somebody else that the first look does not see; another is refused in this form."""
    job_id = azure.start_job("vm-good", seconds=seconds, **how)
    azure.plan("vm-good", busy=form)
    azure.fault(path=r"/backupJobs\?", times=4, status=503)
    return job_id


@pairwise(
    BOTH,
    FORMS,
    STORES,
)
def test_a_busy_item_makes_the_task_wait_for_the_backup_in_the_way(
    azure: Emulator, deferrable: bool, form: str, store: bool
) -> None:
    stranger, ti = a_stranger(azure, form), an_instance(store)
    own = run(back_up(deferrable=deferrable), ti)
    world = azure.service.world
    assert own == jobs(azure)[-1] == ti.xcoms["job_id"] == ti.xcoms["job"]["job_id"]
    assert world.jobs[own].starts >= world.jobs[stranger].finish()[0]
    assert posts(azure) == 2


@pairwise(
    BOTH,
    FORMS,
    STORES,
)
def test_a_busy_item_makes_the_task_adopt_the_backup_in_the_way_where_the_author_says_so(
    azure: Emulator, deferrable: bool, form: str, store: bool
) -> None:
    stranger, ti = a_stranger(azure, form), an_instance(store)
    assert run(back_up(deferrable=deferrable, if_running="adopt"), ti) == stranger
    assert ti.xcoms["job_id"] == stranger == ti.xcoms["job"]["job_id"]
    assert posts(azure) == 1


@pairwise(
    BOTH,
    FORMS,
    STORES,
)
def test_a_busy_item_fails_the_task_where_the_author_says_so(
    azure: Emulator, clock: Any, deferrable: bool, form: str, store: bool
) -> None:
    a_stranger(azure, form, seconds=600)
    ti = an_instance(store, retries=1)
    task = back_up(deferrable=deferrable, if_running="fail")
    with pytest.raises(AzureBackupBusyError):
        run(task, ti)
    assert posts(azure) == 1
    clock.advance(600)
    run(task, ti.retry())
    assert posts(azure) == 2


@pairwise(
    BOTH,
    pytest.mark.parametrize("hours", [0.005, 5, 80], ids=["18 seconds", "5 hours", "80 hours"]),
    pytest.mark.parametrize("wait_until", ["completion", "snapshot"]),
)
def test_a_policys_backup_that_began_before_the_task_is_never_the_tasks(
    azure: Emulator, clock: Any, deferrable: bool, hours: float, wait_until: WaitUntil
) -> None:
    """The snapshot of it may be done: it lacks what the tasks upstream have written since."""
    policys = azure.start_job("vm-good", seconds=3600 * hours + LASTS)
    clock.advance(3600 * hours)
    load_ended, ti = clock(), an_instance()
    own = run(back_up(deferrable=deferrable, wait_until=wait_until), ti)
    assert (posts(azure), jobs(azure)) == (1, [policys, own])
    assert one_after_another(azure)
    assert azure.service.world.jobs[own].starts >= load_ended
    assert ti.xcoms["job"]["job_id"] == own
    assert [trigger["cancel_on_kill"] for trigger in ti.deferred_with] == [False] * (2 * deferrable)


@BOTH
def test_the_recovery_point_is_younger_than_the_work_before_the_task(
    azure: Emulator, clock: Any, deferrable: bool
) -> None:
    azure.start_job("vm-good", seconds=3600)
    clock.advance(17)
    load_ended, ti = clock(), an_instance()
    run(back_up(deferrable=deferrable, require_recovery_point=True), ti)
    assert datetime.fromisoformat(ti.xcoms["recovery_point"]["time"]).timestamp() >= load_ended


@BOTH
def test_a_strangers_backup_that_the_list_shows_is_adopted_where_the_author_says_so(
    azure: Emulator, clock: Any, deferrable: bool
) -> None:
    stranger = azure.start_job("vm-good")
    clock.advance(60)
    assert run(back_up(deferrable=deferrable, if_running="adopt"), an_instance()) == stranger
    assert posts(azure) == 0


@BOTH
@pytest.mark.parametrize("ending", ["Failed", "Cancelled", "CompletedWithWarnings"])
def test_the_task_takes_its_own_backup_however_the_one_before_ended(
    azure: Emulator, clock: Any, deferrable: bool, ending: str
) -> None:
    stranger, ti = azure.start_job("vm-good", ending=ending, seconds=900), an_instance()
    clock.advance(60)
    own = run(back_up(deferrable=deferrable), ti)
    assert (posts(azure), jobs(azure)) == (1, [stranger, own])
    assert ti.xcoms["job"]["outcome"] == "succeeded"


@BOTH
def test_a_backup_before_that_never_ends_fails_the_task_at_its_deadline_with_nothing_started(
    azure: Emulator, clock: Any, deferrable: bool
) -> None:
    stranger = azure.start_job("vm-good", ending="Never")
    clock.advance(60)
    began = clock()
    with pytest.raises(AzureBackupTimeoutError, match="has started no backup of vm-good") as late:
        run(back_up(deferrable=deferrable, timeout=3600), an_instance())
    assert stranger in str(late.value)
    assert clock() - began == pytest.approx(3600, abs=5)
    assert (posts(azure), jobs(azure)) == (0, [stranger])


@BOTH
def test_the_time_that_a_backup_before_takes_is_part_of_the_tasks(
    azure: Emulator, clock: Any, deferrable: bool
) -> None:
    azure.start_job("vm-good", seconds=1800)
    clock.advance(1)
    began = clock()
    with pytest.raises(AzureBackupTimeoutError, match="goes on in Azure"):
        run(back_up(deferrable=deferrable, timeout=3600), an_instance())
    assert clock() - began == pytest.approx(3600, abs=5)
    assert posts(azure) == 1


@BOTH
@pytest.mark.parametrize("if_running", ["wait", "adopt"])
def test_a_database_backup_of_another_type_in_the_way_is_waited_out(
    azure: Emulator, clock: Any, deferrable: bool, if_running: IfRunning
) -> None:
    other = azure.start_job("payroll", backup_type="Differential", seconds=1200)
    azure.plan("payroll", busy="conflict", seconds=600)
    clock.advance(60)
    task = back_up("payroll", deferrable=deferrable, if_running=if_running)
    own = run(task, an_instance())
    assert jobs(azure) == [other, own]
    assert one_after_another(azure)


@BOTH
def test_a_strangers_backup_that_the_list_shows_is_refused_where_the_author_says_so(
    azure: Emulator, deferrable: bool
) -> None:
    azure.start_job("vm-good")
    with pytest.raises(AzureBackupBusyError):
        run(back_up(deferrable=deferrable, if_running="fail"), an_instance())
    assert posts(azure) == 0


@BOTH
@FORMS
def test_an_adopted_backup_that_fails_fails_the_task_and_the_retry_takes_its_own(
    azure: Emulator, deferrable: bool, form: str
) -> None:
    stranger, ti, task = (
        a_stranger(azure, form, 900, ending="Failed"),
        an_instance(),
        back_up(deferrable=deferrable, if_running="adopt"),
    )
    with pytest.raises(AzureBackupJobFailedError, match=stranger):
        run(task, ti)
    run(task, ti.retry())
    assert posts(azure) == 2


@FORMS
@pytest.mark.parametrize("if_running", ["wait", "adopt"])
def test_a_backup_in_the_way_that_shows_late_is_waited_for(
    azure: Emulator, form: str, if_running: IfRunning
) -> None:
    azure.plan("vm-good", busy=form, visible_after=50)
    stranger = azure.start_job("vm-good")
    taken = run(back_up(if_running=if_running), an_instance())
    assert (taken == stranger) is (if_running == "adopt")
    world = azure.service.world
    assert if_running == "adopt" or world.jobs[taken].starts >= world.jobs[stranger].finish()[0]
    assert posts(azure) <= 4


@FORMS
@AGAIN
def test_an_adopted_strangers_backup_is_taken_up_again(
    azure: Emulator, clock: Any, form: str, again: Any
) -> None:
    stranger, ti, task = a_stranger(azure, form), an_instance(), back_up(if_running="adopt")
    begin(azure, clock, task, ti)
    assert run(task, again(ti)) == stranger
    assert posts(azure) == 1


@pytest.mark.parametrize("if_running", ["wait", "adopt"])
def test_a_strangers_backup_may_end_before_ours_is_seen_to_fail(
    azure: Emulator, if_running: IfRunning
) -> None:
    stranger, ti = a_stranger(azure, "job", seconds=40), an_instance()
    taken = run(back_up(deferrable=True, if_running=if_running), ti)
    assert (taken == stranger) is (if_running == "adopt")
    assert (posts(azure), ti.xcoms["job"]["outcome"]) == (1 if if_running == "adopt" else 2, "succeeded")


# --- the deadline


@BOTH
@STORES
@AGAIN
def test_a_retry_keeps_the_deadline_of_the_first_start_and_a_new_attempt_sets_a_new_one(
    azure: Emulator, clock: Any, deferrable: bool, store: bool, again: Any
) -> None:
    azure.plan("vm-good", ending="Never")
    ti, task = an_instance(store), back_up(deferrable=deferrable, timeout=3600)
    began, known = clock(), knows(store, again)
    begin(azure, clock, task, ti)
    clock.advance(began + 1500 - clock())
    with pytest.raises(AzureBackupTimeoutError, match="goes on in Azure" if known else "has started no"):
        run(task, again(ti))
    assert clock() - began == pytest.approx(3600 if known else 3600 + 1500, abs=10)
    assert posts(azure) == 1


@BOTH
def test_a_retry_behind_the_deadline_looks_once_and_passes_if_the_backup_is_there(
    azure: Emulator, clock: Any, deferrable: bool
) -> None:
    ti, task = an_instance(retries=1), back_up(deferrable=deferrable, timeout=1800)
    with pytest.raises(AzureBackupTimeoutError):
        run(task, ti)
    with pytest.raises(AzureBackupTimeoutError):
        run(task, ti.retry())
    clock.advance(LASTS)
    assert run(task, ti.retry()) == jobs(azure)[0]
    assert posts(azure) == 1


@BOTH
def test_a_new_backup_has_the_whole_time_again(azure: Emulator, clock: Any, deferrable: bool) -> None:
    azure.plan("vm-good", ending="Failed", seconds=1700)
    ti, task = an_instance(retries=1), back_up(deferrable=deferrable, timeout=1800)
    with pytest.raises(AzureBackupJobFailedError):
        run(task, ti)
    azure.plan("vm-good", seconds=1700)
    run(task, ti.retry())
    assert ti.xcoms["job"]["outcome"] == "succeeded"

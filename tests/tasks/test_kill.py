"""Cancelled is only what a person ended, and only when asked: in worker and triggerer, in every state."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import threading
from collections.abc import Callable, Coroutine, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred
from airflow.triggers.base import BaseTrigger
from airflow.utils.state import TaskInstanceState

from airflow_provider_azbackup.core.model.validation import IfRunning
from airflow_provider_azbackup.core.start.intent import StartRecord
from airflow_provider_azbackup.exceptions import AzureBackupConfigError
from airflow_provider_azbackup.operators import (
    AzureBackupCancelJobOperator,
    AzureBackupOperator,
    AzureBackupRestoreOperator,
)
from airflow_provider_azbackup.restore_to import disks
from airflow_provider_azbackup.runtime import clock as clocks
from airflow_provider_azbackup.runtime.compat import attempt_of
from airflow_provider_azbackup.sensors import AzureBackupJobSensor
from airflow_provider_azbackup.tasks.state import KEY
from airflow_provider_azbackup.triggers import AzureBackupJobTrigger
from azure_backup_emulator import Emulator
from tests.support.tasks import Store, TaskInstance

task_runner = pytest.importorskip(
    "airflow.sdk.execution_time.task_runner", reason="Airflow 2 asks its database, not a supervisor"
)
if not hasattr(BaseTrigger, "on_kill"):
    pytest.skip("run on the triggerer of Airflow 3.3", allow_module_level=True)

from airflow.jobs.triggerer_job_runner import TriggerRunner  # noqa: E402  # after the skips above
from airflow.sdk.execution_time.comms import GetTaskStates, TaskStatesResult  # noqa: E402  # likewise

ENDED = {"failed", "success", "skipped"}
STATES = [*(state.value for state in TaskInstanceState), None]
WHERE = pytest.mark.parametrize("where", ["worker", "triggerer"])
CANCEL = "/cancel"
# What a trigger knows of its task instance.
TASK = {"dag_id": "nightly", "task_id": "backup", "run_id": "monday", "map_index": -1} | {
    "id": "0198c0de", "try_number": 1, "context_carrier": None
}  # fmt: skip


class KilledError(BaseException):
    """The process ends, as it does some seconds after it was asked to."""


class Supervisor:
    """Airflow's, as far as a task asks it what has become of a task."""

    def __init__(self) -> None:
        self.state: Any = "running"
        self.asked: list[Any] = []
        self.hold: Callable[[], Any] = lambda: None  # while a worker is answered
        self.seconds: Callable[[], Coroutine[Any, Any, Any]] = lambda: asyncio.sleep(0)  # and a trigger

    def send(self, message: Any) -> Any:
        if not isinstance(message, GetTaskStates):
            return None
        self.asked.append(message)
        self.hold()
        return self._answer()

    async def asend(self, message: Any) -> Any:
        if not isinstance(message, GetTaskStates):
            return None
        self.asked.append(message)
        await self.seconds()
        return self._answer()

    def _answer(self) -> TaskStatesResult:
        if isinstance(self.state, Exception):
            raise self.state
        states = self.state if isinstance(self.state, dict) else {"monday": {"backup": self.state}}
        return TaskStatesResult(task_states=states)


@pytest.fixture
def supervisor(monkeypatch: pytest.MonkeyPatch) -> Supervisor:
    found = Supervisor()
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", found, raising=False)
    return found


@pytest.fixture
def during(clock: Any) -> Iterator[Callable[..., None]]:
    """Do something once, in the first wait of at least so many seconds in which something is so."""
    advance = clock.advance

    def during(seconds: float, act: Callable[[], Any], when: Callable[[], bool] = lambda: True) -> None:
        def pass_by(pause: float) -> None:
            advance(pause)
            if pause >= seconds and when():
                clock.advance = advance
                act()

        clock.advance = pass_by

    yield during
    clock.__dict__.pop("advance", None)


def kill(task: Any) -> None:
    """What Airflow does to a task that runs."""
    task.on_kill()
    # Airflow ends the process some seconds later. A busy machine needs them for what takes no time otherwise.
    for thread in threading.enumerate():
        if thread.name == "azure-backup-on-kill":
            thread.join(60)
    raise KilledError


def backup(**arguments: Any) -> AzureBackupOperator:
    return AzureBackupOperator(
        **{"task_id": "backup", "protected_item": "vm-good", "cancel_on_kill": True, **arguments}
    )


class Loop(asyncio.SelectorEventLoop):
    """An event loop whose time can be put forward."""

    ahead = 0.0

    def time(self) -> float:
        return super().time() + self.ahead


class Triggerer:
    """Airflow's own, with one trigger in it, and a second that passes when a test says so.

    Time stands still between two looks at the job, as it nearly does for real.
    """

    def __init__(self, clock: Any, job_id: str) -> None:
        self.clock = self.now = clock
        self.sleep = clock.sleep
        self.arguments: dict[str, Any] = {
            "job_id": job_id,
            "azure_backup_conn_id": "azure_backup_default",
            "poll_interval": 60.0,
            "first_pause": 60.0,
            "deadline": clock() + 3600.0,
            "since": clock(),
            "cancel_on_kill": True,
        }
        self.cancelled = 0

    async def pause(self, seconds: float) -> None:
        if seconds >= 50:
            self.waits.set()
            await asyncio.get_running_loop().create_future()
        await self.clock.pause(seconds)
        await self.let_pass(1)

    async def let_pass(self, seconds: int) -> None:
        for _ in range(seconds):
            self.second.set()
            for _ in range(20):
                await asyncio.sleep(0)

    def kill(self, *, by_a_person: bool = True, **arguments: Any) -> None:
        """End the trigger while it waits; like 3.3.2, cancel it again every second until it is gone."""
        with asyncio.Runner(loop_factory=Loop) as runner:
            self.loop = runner.get_loop()
            runner.run(self._kill(by_a_person, AzureBackupJobTrigger(**{**self.arguments, **arguments})))

    async def _kill(self, by_a_person: bool, trigger: AzureBackupJobTrigger) -> None:
        trigger.task_instance = SimpleNamespace(**TASK)
        airflow, self.waits, self.second = TriggerRunner(), asyncio.Event(), asyncio.Event()
        with clocks.running_on(self):
            self.task = task = asyncio.create_task(airflow.run_trigger(1, trigger))
        airflow.triggers[1] = {"task": task, "is_watcher": False, "name": "backup", "events": 0}
        await self._whichever(task, self.waits)
        while not task.done():
            self.cancelled += 1
            if by_a_person:
                airflow.to_cancel.append(1)
                await airflow.cancel_triggers()
            else:  # a shutdown, and any release before 3.3, gives no reason
                task.cancel()
            await self._whichever(task, self.second)
            self.second.clear()
        assert task.cancelled()
        assert not airflow.events
        # Airflow takes the trigger for ended; its loop goes on, and with it what is at work there.
        if work := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(work, timeout=60)

    async def _whichever(self, task: asyncio.Task[Any], event: asyncio.Event) -> None:
        waiting = asyncio.ensure_future(event.wait())
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()


@pytest.fixture
def triggerer(azure: Emulator, clock: Any) -> Triggerer:
    azure.plan("vm-good", cancel_seconds=900)
    job_id = azure.start_job("vm-good", ending="Never")
    return Triggerer(clock, f"{azure.service.world.vaults[0].path}/backupJobs/{job_id}")


def item(azure: Emulator) -> str:
    """The ARM id, which nobody has to look up, of the VM whose backup the triggerer waits for."""
    return str(azure.service.world.named("vm-good")[0].path)


def its_retry(azure: Emulator, triggerer: Triggerer) -> TaskInstance:
    """The second try of a task whose first one has started the backup that the triggerer waits for."""
    ti, began = TaskInstance(retries=1, store=Store()), triggerer.arguments["since"]
    assert ti.store is not None
    note = StartRecord(
        item=item(azure),
        attempt=attempt_of(ti.context, 0),
        since=began,
        attempt_began=began,
        job=triggerer.arguments["job_id"],
    )
    ti.store.set(KEY, note.to_dict())
    return ti.retry()


@pytest.fixture
def killed(azure: Emulator, during: Callable[..., None], triggerer: Triggerer) -> Callable[..., None]:
    """Kill a task that waits for its backup, in the worker or in the triggerer."""

    def killed(where: str, cancel_on_kill: bool = True, *, first: Callable[[], Any] = lambda: None) -> None:
        if where == "triggerer":
            first()
            triggerer.kill(cancel_on_kill=cancel_on_kill)
            return
        task = backup(protected_item=item(azure), cancel_on_kill=cancel_on_kill)
        during(50, lambda: (first(), kill(task)))
        with pytest.raises(KilledError):
            task.execute(its_retry(azure, triggerer).context)

    return killed


def status(azure: Emulator) -> str:
    """How the one job stands."""
    (job,) = azure.service.world.jobs.values()
    return job.status(azure.service.clock())


# What a person ended, and what not


@WHERE
@pytest.mark.parametrize("state", STATES)
def test_only_a_task_that_a_person_ended_has_its_backup_cancelled(
    azure: Emulator, supervisor: Supervisor, killed: Callable[..., None], where: str, state: str | None
) -> None:
    supervisor.state = state
    killed(where)
    assert azure.count("POST", CANCEL, 202) == azure.count("POST", CANCEL) == (state in ENDED)
    assert (status(azure) == "Cancelling") is (state in ENDED)
    asked = {(each.dag_id, *each.run_ids, *each.task_ids, each.map_index) for each in supervisor.asked}
    assert asked == {("nightly", "monday", "backup", -1)}


def test_a_job_whose_end_another_triggerer_has_seen_is_not_cancelled(
    azure: Emulator, supervisor: Supervisor, triggerer: Triggerer
) -> None:
    """A triggerer that stood still hears late that its task has succeeded, and Airflow calls on_kill then."""
    supervisor.state = "success"
    (job_id,) = azure.service.world.jobs
    azure.set_status(job_id, "Completed")
    triggerer.kill()
    assert azure.count("POST", CANCEL) == 0


@WHERE
@pytest.mark.parametrize("state", STATES)
def test_nothing_is_cancelled_unless_cancel_on_kill_asks_for_it(
    azure: Emulator, supervisor: Supervisor, killed: Callable[..., None], where: str, state: str | None
) -> None:
    supervisor.state = state
    killed(where, cancel_on_kill=False)
    assert azure.count("POST", CANCEL) == 0
    assert supervisor.asked == []


@pytest.mark.parametrize("state", ["failed", "success", "running", "restarting"])
@pytest.mark.parametrize("cancel_on_kill", [True, False])
def test_a_restore_is_cancelled_by_the_same_rules(
    azure: Emulator,
    supervisor: Supervisor,
    during: Callable[..., None],
    clock: Any,
    capsys: Any,
    state: str,
    cancel_on_kill: bool,
) -> None:
    azure.start_job("vm-good")
    clock.advance(3000)
    azure.plan("vm-good", ending="Never")
    account = "/subscriptions/1/resourceGroups/2/providers/Microsoft.Storage/storageAccounts/3"
    task = AzureBackupRestoreOperator(
        task_id="backup",
        protected_item="vm-good",
        restore_to=disks(storage_account_id=account),
        cancel_on_kill=cancel_on_kill,
    )
    supervisor.state = state
    during(50, lambda: kill(task))
    with pytest.raises(KilledError):
        task.execute(TaskInstance().context)
    assert azure.count("POST", "/restore") == 1
    assert azure.count("POST", CANCEL) == (cancel_on_kill and state in ENDED)
    if cancel_on_kill and state not in ENDED:
        assert "its restore goes on in Azure" in capsys.readouterr().out


@WHERE
@pytest.mark.parametrize(
    "answer",
    [
        RuntimeError("the supervisor is gone"),
        {},
        {"monday": {}},
        {"tuesday": {"backup": "failed"}},
        {"monday": {"backup": "failed", "backup_1": "failed"}},
    ],
    ids=["raises", "nothing", "no task", "another run", "several tasks"],
)
def test_a_look_up_that_tells_nothing_leaves_the_backup_alone_and_says_so(
    azure: Emulator, supervisor: Supervisor, killed: Callable[..., None], where: str, answer: Any, capsys: Any
) -> None:
    supervisor.state = answer
    killed(where)
    assert supervisor.asked
    assert azure.count("POST", CANCEL) == 0
    assert "goes on" in capsys.readouterr().out


def test_a_look_up_that_hangs_lets_go_of_the_triggerer_before_airflow_does(
    azure: Emulator, supervisor: Supervisor, triggerer: Triggerer, capsys: Any
) -> None:
    async def hang() -> None:
        if len(supervisor.asked) > 1:
            late = triggerer.loop.create_future()
            triggerer.loop.call_later(28.0, late.set_result, None)
            triggerer.loop.ahead = 29.0  # Airflow gives up after 30
            await late

    supervisor.seconds = hang
    triggerer.kill()
    assert azure.count("POST", CANCEL) == 0
    assert "goes on in Azure: TimeoutError" in capsys.readouterr().out


def test_a_look_up_that_hangs_lets_go_of_the_worker(
    azure: Emulator,
    supervisor: Supervisor,
    killed: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
) -> None:
    hanging, asked = threading.Event(), threading.Event()
    waited: list[tuple[threading.Thread, float | None]] = []
    join = threading.Thread.join

    def hang() -> None:
        asked.set()
        hanging.wait(60)
        raise RuntimeError("late")

    def give_up(thread: threading.Thread, timeout: float | None = None) -> None:
        if thread.name != "azure-backup-on-kill":
            return join(thread, timeout)
        waited.append((thread, timeout))
        asked.wait(60)  # and the time it may take is up
        return None

    supervisor.hold = hang
    monkeypatch.setattr(threading.Thread, "join", give_up)
    killed("worker")
    assert azure.count("POST", CANCEL) == 0
    assert "Still asking Azure to cancel the backup; it may go on" in capsys.readouterr().out
    hanging.set()
    thread, limit = waited[0]
    join(thread, 60)
    assert thread.daemon, "a process that is to end must not wait for it"
    assert limit is not None and limit <= 2


# Airflow's triggerer, as it is


def test_a_cancellation_that_is_repeated_does_not_cut_the_work_off(
    azure: Emulator, supervisor: Supervisor, triggerer: Triggerer, clock: Any
) -> None:
    """3.3.2 sends it again every second, and so aborts all that on_kill awaits itself."""
    supervisor.state = "failed"
    azure.fault(method="POST", path=CANCEL, status=429, retry_after=1, times=5)
    began = clock()
    triggerer.kill()
    assert clock() - began >= 5
    assert triggerer.cancelled >= 3  # Airflow then takes the trigger for gone
    assert azure.count("POST", CANCEL, 202) == 1
    assert status(azure) == "Cancelling"


def test_a_look_up_that_takes_its_time_does_not_cut_the_work_off(
    azure: Emulator, supervisor: Supervisor, triggerer: Triggerer
) -> None:
    supervisor.state = "failed"
    supervisor.seconds = lambda: triggerer.let_pass(5 if len(supervisor.asked) > 1 else 0)
    triggerer.kill()
    assert triggerer.cancelled >= 3  # Airflow then takes the trigger for gone
    assert azure.count("POST", CANCEL, 202) == 1
    assert status(azure) == "Cancelling"


def test_the_first_question_of_a_triggerer_is_asked_before_anything_depends_on_it(
    azure: Emulator, supervisor: Supervisor, triggerer: Triggerer
) -> None:
    """Airflow then loads what answers it: 5 s, and a quarter of a minute on a busy machine."""
    supervisor.state = "failed"
    triggerer.kill()
    assert len(supervisor.asked) == 2
    supervisor.asked.clear()
    triggerer.kill(cancel_on_kill=False)
    assert supervisor.asked == []


def test_a_trigger_handed_to_another_triggerer_leaves_the_backup_to_it(
    azure: Emulator, supervisor: Supervisor, triggerer: Triggerer, capsys: Any
) -> None:
    """3.3.0 to 3.3.2 take a hand-over for a kill (apache/airflow 73454); the task is then still deferred."""
    supervisor.state = "deferred"
    triggerer.kill()
    assert azure.count("POST", CANCEL) == 0
    assert "Task is deferred, not ended" in capsys.readouterr().out


def test_a_triggerer_that_shuts_down_cancels_nothing(
    azure: Emulator, supervisor: Supervisor, triggerer: Triggerer
) -> None:
    supervisor.state = "failed"
    triggerer.kill(by_a_person=False)
    assert azure.count("POST", CANCEL) == 0


@pytest.mark.parametrize("state", STATES)
def test_below_3_3_a_cancelled_trigger_asks_the_same_question_itself(
    azure: Emulator,
    supervisor: Supervisor,
    triggerer: Triggerer,
    monkeypatch: pytest.MonkeyPatch,
    state: str | None,
) -> None:
    monkeypatch.delattr(BaseTrigger, "on_kill")  # Airflow's, as it was until 3.2
    supervisor.state = state
    triggerer.kill(by_a_person=False)
    assert azure.count("POST", CANCEL, 202) == azure.count("POST", CANCEL) == (state in ENDED)


def test_below_3_3_nothing_is_asked_without_cancel_on_kill(
    azure: Emulator, supervisor: Supervisor, triggerer: Triggerer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(BaseTrigger, "on_kill")
    supervisor.state = "failed"
    triggerer.kill(by_a_person=False, cancel_on_kill=False)
    assert supervisor.asked == []
    assert azure.count("POST", CANCEL) == 0


# The moment it happens


class KillingStore(Store):
    """A task state store; the task is killed while it is asked for, or given, a certain note."""

    def __init__(self, fatal: Callable[[Any], bool], kill: Callable[[], None]) -> None:
        super().__init__()
        self.fatal, self.kill = fatal, kill

    def get(self, key: str, default: Any = None) -> Any:
        if self.fatal(None):
            self.kill()
        return super().get(key, default)

    def set(self, key: str, value: Any, **options: Any) -> None:
        super().set(key, value, **options)
        if self.fatal(value):
            self.kill()


def test_a_worker_killed_before_it_asked_for_a_backup_has_nothing_to_cancel(
    azure: Emulator, supervisor: Supervisor
) -> None:
    supervisor.state = "failed"
    task = backup()
    ti = TaskInstance(store=KillingStore(lambda note: note is None, lambda: kill(task)))
    with pytest.raises(KilledError):
        task.execute(ti.context)
    assert azure.count("POST", "/subscriptions/") == 0


def test_a_task_killed_before_it_began_has_nothing_to_cancel(azure: Emulator, supervisor: Supervisor) -> None:
    supervisor.state = "failed"
    for cancel_on_kill in (False, True):
        backup(cancel_on_kill=cancel_on_kill).on_kill()
    assert azure.requests == []


def test_a_worker_killed_before_azure_named_the_operation_leaves_the_backup_to_a_later_try(
    azure: Emulator, supervisor: Supervisor, during: Callable[..., None]
) -> None:
    supervisor.state = "failed"
    azure.plan("vm-good", visible_after=30)
    azure.fault(method="POST", path="/backup[?]", status=504, processed=True)
    task, ti = backup(), TaskInstance(retries=1, store=Store())
    during(4, lambda: kill(task))
    with pytest.raises(KilledError):
        task.execute(ti.context)
    assert (azure.count("POST", CANCEL), status(azure)) == (0, "InProgress")
    job_id = backup().execute(ti.retry().context)
    assert [job_id] == list(azure.service.world.jobs)
    assert azure.count("POST", "/backup") == 1


@pytest.mark.parametrize("operation_seconds", [1, 12])
def test_a_worker_killed_between_operation_and_job_cancels_the_job_of_the_operation(
    azure: Emulator, supervisor: Supervisor, during: Callable[..., None], operation_seconds: float
) -> None:
    supervisor.state = "failed"
    azure.plan("vm-good", operation_seconds=operation_seconds)
    task = backup()
    during(0.5, lambda: kill(task), lambda: azure.count("GET", "/backupOperations/") > 0)
    with pytest.raises(KilledError):
        task.execute(TaskInstance(store=Store()).context)
    assert azure.count("GET", "/backupOperations/") >= 1
    assert (azure.count("POST", CANCEL, 202), status(azure)) == (1, "Cancelling")


@pytest.mark.parametrize("known", ["operation", "job"])
def test_a_worker_killed_while_it_writes_down_what_azure_said_cancels_that(
    azure: Emulator, supervisor: Supervisor, known: str
) -> None:
    supervisor.state = "failed"
    task = backup()
    store = KillingStore(lambda note: bool(note and note[known]), lambda: kill(task))
    with pytest.raises(KilledError):
        task.execute(TaskInstance(store=store).context)
    assert (azure.count("POST", CANCEL, 202), status(azure)) == (1, "Cancelling")


def test_a_worker_killed_while_it_talks_to_airflow_lets_that_end_and_cancels_then(
    azure: Emulator,
    supervisor: Supervisor,
    during: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The signal comes into the middle of a conversation whose lock the look-up of the state needs.

    Airflow 3 goes on after on_kill, and kills the process 5 s after it was asked to end.
    """
    line, limits = threading.Lock(), []
    threads: list[threading.Thread] = []
    join = threading.Thread.join

    def time_is_up(thread: threading.Thread, timeout: float | None = None) -> None:
        if thread.name != "azure-backup-on-kill":
            return join(thread, timeout)
        threads.append(thread)
        limits.append(timeout)
        return None

    class Talking(TaskInstance):
        def xcom_push(self, *, key: str, value: Any) -> None:
            with line:
                if not threads:
                    task.on_kill()
                super().xcom_push(key=key, value=value)

    def die_late() -> None:
        join(threads[0], 60)
        raise KilledError

    def wait_for_the_line() -> None:
        with line:
            pass

    supervisor.state, supervisor.hold = "failed", wait_for_the_line
    monkeypatch.setattr(threading.Thread, "join", time_is_up)
    task = backup()
    during(50, die_late)
    with pytest.raises(KilledError):
        task.execute(Talking(store=Store()).context)
    assert azure.count("POST", CANCEL, 202) == 1
    assert limits[0] <= 2, "the rest of the 5 s is for the request"


# What Azure makes of it


@WHERE
def test_a_cancel_that_azure_declines_is_told_as_that(
    azure: Emulator, supervisor: Supervisor, killed: Callable[..., None], where: str, capsys: Any
) -> None:
    supervisor.state = "failed"
    job = next(iter(azure.service.world.jobs.values()))
    job.cancel = "declined"
    killed(where)
    said = capsys.readouterr().out
    assert "not cancelled, it goes on" in said
    assert "400 UserErrorJobNotInCancellableState" in said
    assert azure.count("POST", CANCEL) == 1


@WHERE
def test_a_cancel_without_the_right_to_it_names_the_right(
    azure: Emulator,
    supervisor: Supervisor,
    killed: Callable[..., None],
    connect: Callable[..., None],
    where: str,
    capsys: Any,
) -> None:
    supervisor.state = "failed"
    connect(azure.connection("waiter"))
    killed(where)
    assert "Missing right: Microsoft.RecoveryServices" in capsys.readouterr().out
    assert status(azure) == "InProgress"


@WHERE
@pytest.mark.parametrize("fault", [{"status": 504}, {"reset": True}], ids=["504", "a reset"])
def test_a_cancel_whose_answer_is_lost_is_sent_again_because_that_does_no_harm(
    azure: Emulator,
    supervisor: Supervisor,
    killed: Callable[..., None],
    where: str,
    fault: dict[str, Any],
    capsys: Any,
) -> None:
    supervisor.state = "failed"
    azure.fault(method="POST", path=CANCEL, processed=True, **fault)
    killed(where)
    assert (status(azure), azure.count("POST", CANCEL)) == ("Cancelling", 2)
    assert "asked Azure to cancel job" in capsys.readouterr().out


@WHERE
@pytest.mark.parametrize("fault", [{"status": 504}, {"reset": True}], ids=["504", "a reset"])
def test_a_cancel_whose_answers_stay_lost_is_not_called_undone(
    azure: Emulator,
    supervisor: Supervisor,
    killed: Callable[..., None],
    where: str,
    fault: dict[str, Any],
    capsys: Any,
) -> None:
    supervisor.state = "failed"
    azure.fault(method="POST", path=CANCEL, processed=True, times=None, **fault)
    killed(where)
    assert status(azure).startswith("Cancell")
    assert azure.count("POST", CANCEL) <= 4
    assert "It is not known whether" in capsys.readouterr().out


@WHERE
@pytest.mark.parametrize("path", ["", CANCEL, "/token"], ids=["all of Azure", "Azure Backup", "sign-in"])
def test_a_task_killed_while_azure_is_out_of_reach_leaves_the_backup_and_says_so(
    azure: Emulator, supervisor: Supervisor, killed: Callable[..., None], where: str, path: str, capsys: Any
) -> None:
    supervisor.state = "failed"
    killed(where, first=lambda: azure.fault(path=path, times=None, reset=True))
    assert status(azure) == "InProgress"
    assert re.search(r"\bgo(es)? on\b", capsys.readouterr().out)
    assert azure.count() < 20


def test_a_trigger_killed_without_its_connection_leaves_the_backup_and_says_so(
    azure: Emulator,
    supervisor: Supervisor,
    triggerer: Triggerer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
) -> None:
    async def lose_it() -> None:
        if len(supervisor.asked) > 1:  # the first is asked at the start, to have Airflow load what answers
            monkeypatch.delenv("AIRFLOW_CONN_AZURE_BACKUP_DEFAULT")

    supervisor.state, supervisor.seconds = "failed", lose_it
    triggerer.kill()
    assert (azure.count("POST", CANCEL), status(azure)) == (0, "InProgress")
    assert "goes on" in capsys.readouterr().out


def test_a_worker_killed_after_its_connection_is_gone_cancels_with_the_one_it_has(
    azure: Emulator,
    supervisor: Supervisor,
    triggerer: Triggerer,
    during: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    supervisor.state = "failed"
    task = backup(protected_item=item(azure))

    def lose_and_kill() -> None:
        monkeypatch.delenv("AIRFLOW_CONN_AZURE_BACKUP_DEFAULT")
        kill(task)

    during(50, lose_and_kill)
    with pytest.raises(KilledError):
        task.execute(its_retry(azure, triggerer).context)
    assert azure.count("POST", CANCEL, 202) == 1


# Who never cancels


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_sensor_never_cancels_what_it_only_watches(
    azure: Emulator, supervisor: Supervisor, triggerer: Triggerer, deferrable: bool
) -> None:
    supervisor.state = "failed"
    sensor = AzureBackupJobSensor(
        task_id="gate", job_id=triggerer.arguments["job_id"], deferrable=deferrable, mode="reschedule"
    )
    with pytest.raises(BaseException) as left:  # Airflow's own words for "later"
        sensor.execute(TaskInstance().context)
    sensor.on_kill()
    if deferrable:
        assert isinstance(left.value, TaskDeferred)
        triggerer.kill(**left.value.trigger.serialize()[1])
    assert supervisor.asked == []
    assert azure.count("POST", CANCEL) == 0


def test_a_task_that_cancels_asks_once_even_if_it_is_killed_itself(
    azure: Emulator, supervisor: Supervisor, triggerer: Triggerer
) -> None:
    supervisor.state = "failed"
    task = AzureBackupCancelJobOperator(
        task_id="cancel", job_id=triggerer.arguments["job_id"], deferrable=True, poll_interval=60
    )
    with pytest.raises(TaskDeferred) as left:
        task.execute(TaskInstance().context)
    task.on_kill()
    triggerer.kill(**left.value.trigger.serialize()[1])
    assert azure.count("POST", CANCEL) == 1


@WHERE
@pytest.mark.parametrize("if_running", ["wait", "adopt"])
def test_a_backup_that_somebody_else_started_is_never_cancelled(
    azure: Emulator,
    supervisor: Supervisor,
    during: Callable[..., None],
    where: str,
    triggerer: Triggerer,
    clock: Any,
    if_running: IfRunning,
) -> None:
    supervisor.state = "failed"
    clock.advance(60)
    task = backup(deferrable=where == "triggerer", if_running=if_running)
    during(50, lambda: kill(task))
    with pytest.raises((KilledError, TaskDeferred)) as left:
        task.execute(TaskInstance(store=Store()).context)
    if isinstance(left.value, TaskDeferred):
        assert left.value.method_name == (
            "execute_complete" if if_running == "adopt" else "execute_after_other"
        )
        triggerer.kill(**left.value.trigger.serialize()[1])
    assert (azure.count("POST", "/protectedItems/"), azure.count("POST", CANCEL)) == (0, 0)


@WHERE
def test_a_backup_that_was_only_found_is_never_cancelled(
    azure: Emulator, supervisor: Supervisor, during: Callable[..., None], where: str, clock: Any
) -> None:
    """What began after the request was sent is good enough to wait for, but may be somebody else's."""
    supervisor.state = "failed"
    azure.plan("vm-good", ending="Never")
    azure.fault(method="POST", path=r"/backup\?", processed=True, status=504)
    task = backup(deferrable=where == "triggerer")
    during(50, lambda: kill(task))
    with pytest.raises((KilledError, TaskDeferred)) as left:
        task.execute(TaskInstance(store=Store()).context)
    if isinstance(left.value, TaskDeferred):
        Triggerer(clock, "").kill(**left.value.trigger.serialize()[1])
    assert (azure.count("POST", "/protectedItems/"), azure.count("POST", CANCEL)) == (1, 0)


@pytest.mark.parametrize("option", ["cancel_on_kill", "cancel_on_timeout"])
def test_a_backup_that_is_only_named_cannot_be_cancelled(triggerer: Triggerer, option: str) -> None:
    options = {"cancel_on_kill": False, option: True}
    with pytest.raises(AzureBackupConfigError, match="cancel only a backup that the task has started"):
        backup(job_id=triggerer.arguments["job_id"], protected_item=None, **options)


# What a kill shows


@WHERE
def test_a_kill_shows_no_secret_at_the_most_talkative(
    azure: Emulator,
    supervisor: Supervisor,
    killed: Callable[..., None],
    triggerer: Triggerer,
    where: str,
    caplog: pytest.LogCaptureFixture,
    capsys: Any,
) -> None:
    caplog.set_level(logging.DEBUG)
    supervisor.state = "failed"
    azure.fault(method="POST", path=CANCEL, status=429, retry_after=1, times=2)
    killed(where)
    told = caplog.text + str(capsys.readouterr()) + json.dumps(triggerer.arguments)
    assert "asked Azure to cancel job" in told
    assert azure.connection()["password"] not in told
    assert "ey" + "J" not in told  # how every token begins

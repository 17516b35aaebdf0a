"""Airflow as operator and trigger see it: in one process, in simulated time, and whatever can break does.

A :class:`Schedule` says what is to happen and is drawn from a seed. :class:`Airflow` runs a task through it:
workers, triggerers, retries, people and the task upstream on one side, the emulated Azure and other people's
backups on the other. :meth:`Airflow.breaches` returns what must never be, whatever happened.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import random
import selectors
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, TypeVar

from airflow.providers.common.compat.sdk import BaseOperator, TaskDeferred
from azure.core.pipeline.transport import AioHttpTransport

from airflow_provider_azbackup.core.start.search import BATCH_FROM
from airflow_provider_azbackup.exceptions import AzureBackupError
from airflow_provider_azbackup.operators import AzureBackupOperator
from airflow_provider_azbackup.runtime import clock as clocks
from azure_backup_emulator import Emulator
from tests.support.tasks import Store, TaskInstance

T = TypeVar("T")
HOUR = 3600.0
# Seconds that an answer of the emulator may really take.
REAL_PATIENCE = 60.0
# The same for every schedule, so that each can be had again alone.
EPOCH = 1_790_000_000.25
# Two triggerers that watch one job while each look is tried four times, next to a worker that begins.
REQUESTS_A_MINUTE = 45
CALM_TRIES = 12
# Seconds until a worker takes the task: what happens before that is there when it begins.
FIRST_TRY = 60.0

# --- what may happen

LOST: tuple[dict[str, Any], ...] = (
    {"status": 500},
    {"status": 503},
    {"status": 503, "retry_after": 2},
    {"status": 504},
    {"reset": True},
    {"html": True},
)
GARBLED: tuple[dict[str, Any], ...] = (
    *LOST,
    {"status": 429, "retry_after": 20},
    {"status": 429, "retry_after": 324},
    {"truncate": True},
    {"empty": True},
    {"garbage": "[1, 2"},
    # A stray one; what Azure denies for most of a minute counts as gone.
    {"status": 404, "code": "ResourceNotFound", "times": 2},
    {"expire_token": True},
)
OUTAGES: tuple[dict[str, Any], ...] = (
    {"reset": True},
    {"status": 503},
    {"status": 429},
    {"reset": True, "path": "."},
)
ITEMS = ("vm-good", "vm-good", "vm-good", "fleet-01", "documents", "payroll", "systemdb")
PLACES = (r"/backupJobs\?", "/backupJobs/", "/backupOperations/", "^/subscriptions/")
ENDINGS = ("Completed",) * 6 + (
    "Failed",
    "Failed",
    "Cancelled",
    "CompletedWithWarnings",
    "CancelledInTransfer",
)
OF_TRIGGERS = ("the trigger is lost", "the triggerer dies", "hand-over")
KINDS = (
    *("outage", "answers break", "answers break", "a request is lost", "a request is lost"),
    *("a stranger backs up",) * 4,
    *("a neighbour is backed up", "somebody cancels", "plans change", "plans change", "retries change"),
    *("the worker dies",) * 3,
    *("the worker dies after a request",) * 3,
    *("Airflow does not answer", "the trigger is lost", "the items move", "mark failed"),
    *("Clear",) * 3,
    *("the triggerer dies", "hand-over") * 3,
)


@dataclass(frozen=True, kw_only=True, order=True)
class Event:
    """Something that happens at a moment, in seconds from the start; what else it means is drawn then."""

    at: float
    kind: str


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """All that is decided before a task starts.

    :param store: whether there is a task state store: Airflow 3.3 and later.
    :param skew: seconds that Azure's clock is ahead.
    :param crowd: whether many backups of others begin with each try.
    """

    seed: int
    item: str
    store: bool
    retries: int
    skew: float
    busy: str | None
    visible_after: float
    options: dict[str, Any]
    events: tuple[Event, ...]
    crowd: bool


def draw(seed: int) -> Schedule:
    """Draw a schedule; the same for the same seed."""
    rng = random.Random(seed)
    store = rng.random() < 0.85
    spans = (FIRST_TRY, FIRST_TRY + 30, 900, HOUR, 3 * HOUR)
    moments = [rng.uniform(0, rng.choice(spans)) for _ in range(rng.randint(3, 10))]
    return Schedule(
        seed=seed,
        item=rng.choice(ITEMS),
        store=store,
        retries=rng.randint(0, 4),
        skew=rng.choice((0, 0, 40, -40, 240, -240)) if store else 0,
        busy=rng.choice((None, None, "conflict", "operation", "job")),
        # Without a store the list of running jobs is the only memory.
        visible_after=rng.choice((0, 20, 70, 70)) if store else 0,
        options={
            "deferrable": rng.random() < 0.6,
            "poll_interval": rng.choice((60, 60, 300, 600)),
            "timeout": rng.choice((24 * HOUR, 3 * HOUR, HOUR)),
            "if_running": rng.choice(("wait", "wait", "wait", "wait", "adopt", "fail")),
            "cancel_on_kill": rng.random() < 0.3,
        },
        events=tuple(sorted(Event(at=at, kind=rng.choice(KINDS)) for at in moments)),
        crowd=rng.random() < 0.2,
    )


# --- what breaks it off


class GoneError(SystemExit):
    """A process that is gone, as by kill -9, or a task that a person ended: no handler may hold it up.

    Whichever task on an event loop it comes up in, it ends the loop.
    """


class AirflowDownError(Exception):
    """Airflow's API did not answer, or its answer was lost."""


class _Store(Store):
    def __init__(self, world: Airflow) -> None:
        super().__init__()
        self.world = world

    def get(self, key: str, default: Any = None) -> Any:
        return self.world.call(lambda: super(_Store, self).get(key, default))

    def set(self, key: str, value: Any, *, retention: Any = None) -> None:
        self.world.call(lambda: super(_Store, self).set(key, value))

    def delete(self, key: str) -> None:
        self.world.call(lambda: super(_Store, self).delete(key))


class _TaskInstance(TaskInstance):
    def __init__(self, world: Airflow, **options: Any) -> None:
        super().__init__(**options)
        self.world = world

    def xcom_push(self, *, key: str, value: Any) -> None:
        self.world.call(lambda: super(_TaskInstance, self).xcom_push(key=key, value=value))
        if key == "job_id":
            self.world.held.append((self.world.attempt, self.world.azure_now(), value))


class _Clock:
    """The provider's time. Its looks at it are where a process can die: there is one after each answer."""

    def __init__(self, world: Airflow) -> None:
        self.world = world

    def now(self) -> float:
        self.world.live()
        return float(self.world.clock())

    def sleep(self, seconds: float) -> None:
        self.world.live()
        self.world.let_pass(seconds)

    async def pause(self, seconds: float) -> None:
        self.world.live()
        await asyncio.sleep(seconds)


class Loop(asyncio.SelectorEventLoop):
    """An event loop on simulated time, which moves only while everything on it waits for nothing but time."""

    def __init__(self, clock: Any) -> None:
        self.clock, self.at_work = clock, 0
        super().__init__(_Selector(self))

    def time(self) -> float:
        return float(self.clock())

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]  # variadic there
        self.at_work += 1
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(lambda _: self._done())
        return future

    @contextmanager
    def busy(self) -> Iterator[None]:
        """While something is under way that takes no simulated time."""
        self.at_work += 1
        try:
            yield
        finally:
            self._done()

    def _done(self) -> None:
        self.at_work -= 1


class _Selector(selectors.DefaultSelector):
    def __init__(self, loop: Loop) -> None:
        super().__init__()
        self.loop = loop

    def select(self, timeout: float | None = None) -> Any:
        if (ready := super().select(0)) or timeout == 0:
            return ready
        if self.loop.at_work or timeout is None:
            if not (ready := super().select(REAL_PATIENCE)):
                raise RuntimeError("everything has waited for a minute of real time")
            return ready
        # A hair more: the loop takes a timer for due within the resolution of a clock that starts at 0.
        self.loop.clock.advance(timeout + 1e-5)
        return []


@contextmanager
def network() -> Iterator[None]:
    """Let loops know of the requests of Microsoft's asynchronous clients that are under way."""
    originals = {name: getattr(AioHttpTransport, name) for name in ("send", "close")}

    def counted(original: Callable[..., Any]) -> Callable[..., Any]:
        async def counting(*arguments: Any, **options: Any) -> Any:
            loop = asyncio.get_running_loop()
            with loop.busy() if isinstance(loop, Loop) else nullcontext():
                return await original(*arguments, **options)

        return counting

    for name, original in originals.items():
        setattr(AioHttpTransport, name, counted(original))
    try:
        yield
    finally:
        for name, original in originals.items():
            setattr(AioHttpTransport, name, original)


# --- the world


@dataclass
class Airflow:
    """One task instance, everybody who has to do with it, and the story of what befell it.

    :param make: builds the task from the schedule's options.
    """

    azure: Emulator
    clock: Any
    schedule: Schedule
    make: Callable[..., BaseOperator] = AzureBackupOperator
    story: list[str] = field(default_factory=list)
    happened: Counter[str] = field(default_factory=Counter)
    unhandled: list[str] = field(default_factory=list)
    held: list[tuple[int, float, str]] = field(default_factory=list)
    strangers: set[str] = field(default_factory=set)
    # The moment, by Azure's clock, at which each attempt began, and at which the task upstream ended.
    attempts: list[float] = field(default_factory=list)
    loaded: float = 0.0
    marked: list[tuple[float, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        schedule = self.schedule
        self.rng = random.Random(schedule.seed + 1)
        self.began = self.clock.now = EPOCH
        self.events = [Event(at=self.began + event.at, kind=event.kind) for event in schedule.events]
        self.state, self.where = "none", ""
        # Both count down to 0; that of requests is how many Azure accepted before.
        self.dies_in, self.fails_in, self.dies_behind = 0, 0, float("inf")
        self.azure.configure(clock_skew=schedule.skew)
        self.item, self.moves = self._named(schedule.item), False
        self.retries = schedule.retries
        self.plan()
        store = _Store(self) if schedule.store else None
        self.ti = _TaskInstance(self, retries=schedule.retries, store=store)
        self.ti.try_number = 0  # the first try begins as all others do
        self.task: BaseOperator | None = None
        self.killed: list[Any] = []
        self.pending: list[str] = []

    @property
    def attempt(self) -> int:
        return len(self.attempts) - 1

    def azure_now(self) -> float:
        return float(self.clock()) + self.schedule.skew

    def _named(self, name: str) -> Any:
        return self.azure.service.world.named(name)[0]

    def tell(self, what: str) -> None:
        self.happened[what.partition(":")[0]] += 1
        self.story.append(f"{self.clock() - self.began:9.1f} {self.state}: {what}")

    # Where processes can die

    def live(self) -> None:
        """Die here, if it is time to."""
        if not self.where:
            return
        self.dies_in -= 1
        behind = self.where == "worker" and self._accepted() > self.dies_behind
        if self.dies_in == 0 or behind:
            self.dies_behind = float("inf")
            where, self.where = self.where, ""
            self.tell(f"the {where} is gone{' after a request' if behind else ''}")
            raise GoneError("died")

    def _accepted(self) -> int:
        return len(self.azure.service.world.operations)

    def call(self, effect: Callable[[], Any]) -> Any:
        """Call Airflow: the process may die before and after that takes effect, and so may the answer."""
        self.live()
        self.fails_in -= self.where == "worker"
        lost = self.fails_in == 0 and self.where == "worker"
        if lost and self.rng.random() < 0.5:
            raise AirflowDownError
        found = effect()
        if lost:
            raise AirflowDownError
        self.live()
        return found

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        events, where, self.events, self.where = self.events, self.where, [], ""
        try:
            yield
        finally:
            self.events, self.where = events, where

    # Time

    def let_pass(self, seconds: float) -> None:
        """Let time pass, and happen what happens meanwhile."""
        until = self.clock() + seconds
        while self.events and self.events[0].at <= until:
            event = self.events.pop(0)
            self.clock.advance(max(0.0, event.at - self.clock()))
            self.happen(event)
        self.clock.advance(max(0.0, until - self.clock()))

    def happen(self, event: Event) -> None:
        """Do what an event says; those of Azure happen to Azure, those of people end what is going on."""
        azure: dict[str, Callable[[], None]] = {
            "outage": self._outage,
            "over": self.azure.clear_faults,
            "answers break": self._break_answers,
            "a request is lost": self._lose_request,
            "a stranger backs up": lambda: self._back_up(self.item),
            "a neighbour is backed up": lambda: self._back_up(self._named(self.rng.choice(ITEMS))),
            "somebody cancels": self._cancel,
            "plans change": self.plan,
        }
        if event.kind in azure:
            self.tell(event.kind)
            azure[event.kind]()
        elif event.kind in OF_TRIGGERS:
            self.pending.append(event.kind)  # nobody is deferred now, but somebody will be
        elif event.kind == "the items move":
            self.moves = True
        elif event.kind == "retries change":
            self.retries = self.rng.randint(0, 4)
        elif event.kind == "the worker dies":
            self.dies_in = self.rng.randint(1, 30)
        elif event.kind == "the worker dies after a request":
            self.dies_behind = self._accepted()
        elif event.kind == "Airflow does not answer":
            self.fails_in = self.rng.randint(1, 10)
        elif event.kind in ("Clear", "mark failed"):
            self._person(event.kind)

    def _outage(self) -> None:
        self.azure.fault(**{"times": None, **self.rng.choice(OUTAGES)})
        lasts = self.rng.choice((self.rng.uniform(30, 300), self.rng.uniform(300, 2400)))
        self.events = sorted([*self.events, Event(at=self.clock() + lasts, kind="over")])

    def _break_answers(self) -> None:
        fault = {"times": self.rng.randint(1, 6), **self.rng.choice(GARBLED)}
        self.azure.fault(
            method="GET", path=self.rng.choice(PLACES), after=self.rng.choice((0, 0, 1, 2)), **fault
        )

    def _lose_request(self) -> None:
        heard, times = self.rng.random() < 0.6, self.rng.choice((1, 1, 2))
        # What is throttled was refused at the door, so nothing came of it.
        fault = self.rng.choice(LOST if heard else (*LOST, {"status": 429}))
        self.azure.fault(method="POST", path=r"/backup\?", processed=heard, times=times, **fault)

    def _back_up(self, item: Any) -> None:
        if not self.azure.service.world.running(item, self.azure_now()):  # Azure runs one at a time
            seconds, ending = self.rng.uniform(60, 3000), self.rng.choice(ENDINGS)
            self.strangers.add(self.azure.start_job(item.path, seconds=seconds, ending=ending))

    def _cancel(self) -> None:
        for job in self.azure.service.world.running(self.item, self.azure_now()):
            self.azure.service.world.cancel(job, self.azure_now())

    def plan(self, **changes: Any) -> None:
        """Decide how coming backups go."""
        drawn = {
            "ending": self.rng.choice(ENDINGS),
            "seconds": self.rng.uniform(60, self.rng.choice((120, 600, 6000))),
            "operation": self.rng.choice(
                ("Succeeded",) * 8 + ("Failed", "InProgress", "NoProperties", "JobIds")
            ),
            "operation_seconds": self.rng.choice((1, 1, 60)),
            "cancel_seconds": self.rng.choice((10, 200)),
        }
        self.azure.plan(
            self.item.path,
            busy=self.schedule.busy,
            visible_after=self.schedule.visible_after,
            **{**drawn, **changes},
        )

    def _person(self, does: str) -> None:
        ended = self.state in ("success", "failed")
        if self.state == "none" or (does == "mark failed" and ended):
            return
        self.tell(f"a person's {does}")
        in_worker, self.state = self.where == "worker", "failed" if does == "mark failed" else "restarting"
        if does == "mark failed":
            self.marked.append((self.azure_now(), float("inf")))
        if in_worker and self.task:
            with self.undisturbed():
                self.task.on_kill()
        # A Clear of a task that runs in a worker keeps max_tries and counts as one of the run; any other
        # raises max_tries, too.
        raise GoneError("restarted" if in_worker and does == "Clear" else does)

    # A task's life

    def run(self) -> None:
        """Run the task through the schedule, and then, under a clear sky, to its success."""
        with clocks.running_on(_Clock(self)):
            self.let_pass(FIRST_TRY)
            self._live_on()
            self._calm_down()

    def _live_on(self) -> None:
        """Begin a new attempt and follow the task until it is over and nothing is left to happen."""
        end = "Clear"
        while end != "over":
            end = self._next(end)

    def _next(self, end: str) -> str:
        if end in ("Clear", "restarted", "retry"):
            return self._begin(end)
        may = end in ("failed", "died") and self.ti.try_number <= self.ti.max_tries
        self.state = "up_for_retry" if may else "success" if end == "success" else "failed"
        try:
            self.let_pass(self.rng.choice((0, 0, 60, 300, 900)) if may else self._rest_of_time())
        except GoneError as gone:
            return str(gone)
        return "retry" if may else "over"

    def _rest_of_time(self) -> float:
        return max((event.at for event in self.events), default=self.clock()) - self.clock()

    def _begin(self, why: str) -> str:
        if why in ("Clear", "restarted"):
            self._load()
            self.attempts.append(self.azure_now())
            self._move()
        if why == "Clear" and self.ti.try_number:
            # What somebody changes in the DAG file counts from a Clear on.
            self.ti.retries = self.retries
            self.ti.clear()
        else:
            self.ti.dag_run.clear_number += why == "restarted"
            self.ti.retry()
        self.marked = [(at, min(until, self.azure_now())) for at, until in self.marked]
        self.tell(f"a try begins: {self.ti.try_number} of {self.ti.max_tries + 1}, by {why}")
        self.state = "running"
        for _ in range(BATCH_FROM if self.schedule.crowd else 0):
            self.strangers.add(self.azure.start_job("fleet-02", seconds=600))
        while self.killed:  # of triggers that were cleared away; Airflow calls them this late
            self._on_loop(self.killed.pop().on_kill())
        return self._work(lambda task: task.execute(self.ti.context))

    def _load(self) -> None:
        """Run the task upstream, as a Clear of it and all that follows does; a policy's backup may begin."""
        self.state = "none"
        self.let_pass(self.rng.random() * self.rng.choice((0, 5, 60, 600)))
        if self.rng.random() < 0.4:
            self._back_up(self.item)
            self.let_pass(self.rng.choice((0, 0.4, 2, 30)))
        self.loaded = self.azure_now()

    def _move(self) -> None:
        """Let the task's map index mean another item from this attempt on, if the items have moved."""
        if self.moves:
            self.item, self.moves = self._named(self.rng.choice(ITEMS)), False
            self.tell(f"the items have moved: {self.item.name}")
            self.plan()

    def _work(self, do: Callable[[Any], Any]) -> str:
        options = {**self.schedule.options, "retries": self.ti.retries}
        self.task = self.make(task_id="backup", protected_item=self.item.path, **options)
        self.state, self.where = "running", "worker"
        try:
            job_id = do(self.task)
        except TaskDeferred as deferred:
            return self._defer(deferred)
        except GoneError as gone:
            return str(gone)
        except (AzureBackupError, AirflowDownError) as error:
            self.tell(f"{type(error).__name__}: {str(error).splitlines()[:1]}")
            return "failed"
        except Exception as error:  # whatever else comes out of a task is a bug
            self.unhandled.append(repr(error))
            return "failed"
        finally:
            self.where = ""
        return self._succeed(job_id)

    def _succeed(self, job_id: str) -> str:
        self.tell(f"success: by job {job_id}")
        job = self.azure.service.world.jobs[job_id]
        if job.item != self.item:
            self.unhandled.append(f"success by a backup of {job.item.path}")
        if (ended := job.ended(self.azure_now())) != "Completed":
            self.unhandled.append(f"success by job {job_id}, which is {ended}")
        if job.finish()[0] < self.attempts[-1]:
            self.unhandled.append(f"success by job {job_id}, which was over before this attempt")
        if job.starts < self.loaded and self.schedule.options.get("if_running") != "adopt":
            self.unhandled.append(
                f"success by job {job_id}, which began {self.loaded - job.starts:.1f} s before the task "
                f"upstream ended"
            )
        return "success"

    # Deferral

    def _defer(self, deferred: TaskDeferred) -> str:
        self.state, self.where = "deferred", ""
        row = json.loads(json.dumps(deferred.trigger.serialize()))
        self.tell(f"deferred to {row[0].rpartition('.')[2]}")
        handed = json.loads(json.dumps(deferred.kwargs or {}))
        limit = self.clock() + (deferred.timeout.total_seconds() if deferred.timeout else float("inf"))
        try:
            told = self._watch(row, limit)
            self.where, self.state = "", "queued"
            self.let_pass(self.rng.choice((0, 5, 60)))
        except GoneError as gone:
            return str(gone)
        return self._work(
            lambda task: task.resume_execution(
                deferred.method_name, {**handed, "event": told}, self.ti.context
            )
        )

    def _on_loop(self, work: Coroutine[Any, Any, T]) -> T:
        with asyncio.Runner(loop_factory=lambda: Loop(self.clock)) as runner:
            return runner.run(work)

    def _watch(self, row: tuple[str, dict[str, Any]], limit: float) -> Any:
        """Run the trigger of a row, on one triggerer after another, until it fires."""
        while self.pending:
            event = Event(at=self.clock() + self.rng.uniform(0, 900), kind=self.pending.pop())
            self.events = sorted([*self.events, event])
        pause = 0.0
        while True:
            try:
                return self._on_loop(_Watch(self, row).run(pause, limit))
            except GoneError as gone:
                # It died of itself, in the middle of what it did, unless a person ended the task.
                if str(gone) != "died":
                    raise
                pause = self.rng.uniform(1, 200)
            finally:
                self.where = ""

    # The end

    def _calm_down(self) -> None:
        """Let nothing more happen: sooner or later the task must succeed."""
        self.events, self.pending, self.moves = [], [], False
        self.dies_in, self.fails_in, self.dies_behind = 0, 0, float("inf")
        self.azure.clear_faults()
        self.plan(ending="Completed", operation="Succeeded", seconds=600)
        for _ in range(CALM_TRIES):
            if self.state == "success":
                return
            self.let_pass(900)
            self._live_on()
        self.unhandled.append("no success although nothing is wrong any more")

    # What must never be

    def backups(self) -> list[Any]:
        """Our own backups, oldest first: those that a request of ours started and Azure did not refuse."""
        found = [
            job
            for job in self.azure.service.world.jobs.values()
            if job.id not in self.strangers and not job.refused
        ]
        return sorted(found, key=lambda job: job.starts)

    def breaches(self) -> list[str]:
        """Say in sentences what was not as it must be."""
        return [*self.unhandled, *self._doubled(), *self._cancelled(), *self._hasty()]

    def _doubled(self) -> Iterator[str]:
        jobs = self.azure.service.world.jobs
        for new in self.backups():
            attempt = sum(began <= new.starts for began in self.attempts) - 1
            own = [job for job in self.backups() if job.starts < new.starts]
            known = [jobs[name] for of, at, name in self.held if of == attempt and at < new.starts]
            for old in {job.id: job for job in (*own, *known) if job.item == new.item}.values():
                if not old.ended(new.starts) and not self._may_be_overlooked(old, new.starts):
                    yield f"{new.id} was started next to {old.id}"
                of_this_attempt = old in known or old.starts >= self.attempts[attempt]
                if old.ended(new.starts) == "Completed" and of_this_attempt and self.schedule.store:
                    yield f"{new.id} was started although {old.id} had succeeded"

    def _may_be_overlooked(self, job: Any, at: float) -> bool:
        # Without a store Azure's list of running jobs is all there is, and it shows no job that is cancelled.
        return not self.schedule.store and job.cancelled_at is not None and job.cancelled_at <= at

    def _cancelled(self) -> Iterator[str]:
        for entry in self.azure.requests:
            if entry["method"] != "POST" or not entry["path"].endswith("/cancel"):
                continue
            if not self.schedule.options.get("cancel_on_kill"):
                yield "a job was cancelled and nobody had asked for that"
            elif not any(at <= entry["at"] <= until for at, until in self.marked):
                yield "a job was cancelled that nobody had ended"
            elif any(stranger in entry["path"] for stranger in self.strangers):
                yield "a job was cancelled that this task had not started"

    def _hasty(self) -> Iterator[str]:
        moments = sorted(entry["at"] for entry in self.azure.requests)
        most = max((bisect_left(moments, at + 60) - i for i, at in enumerate(moments)), default=0)
        self.happened["requests"] += len(moments)
        self.happened["most in a minute"] = most
        if most > REQUESTS_A_MINUTE:
            yield f"{most} requests in one minute"


class _Watch:
    """A trigger's row, and what runs it: once usually, sometimes not at all, for a while twice."""

    def __init__(self, world: Airflow, row: tuple[str, dict[str, Any]]) -> None:
        self.world, (self.path, self.arguments) = world, row
        self.running: list[tuple[Any, asyncio.Task[Any]]] = []
        self.others: list[asyncio.Task[None]] = []

    async def run(self, pause: float, limit: float) -> Any:
        """Start the trigger after a pause in seconds; return what it reports before ``limit``."""
        world = self.world
        self._start(pause)
        try:
            while True:
                moment = min(limit, world.events[0].at if world.events else float("inf"))
                seconds = None if moment == float("inf") else max(0.0, moment - world.clock())
                tasks = [task for task in (*dict(self.running).values(), *self.others) if not task.done()]
                if all(not task.done() for _, task in self.running):
                    await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
                for _, task in self.running:
                    if task.done():
                        return task.result()
                if world.clock() >= limit:
                    world.tell("the deferral times out")
                    raise GoneError("failed")
                if world.events and world.clock() >= world.events[0].at:
                    await self._befall(world.events.pop(0))
        finally:
            world.where = ""
            while self.running:
                await self._kill_one()
            for other in self.others:
                other.cancel()
            await asyncio.gather(*self.others, return_exceptions=True)

    def _start(self, pause: float = 0.0) -> None:
        """Rebuild the trigger from its row and run it, after a pause in seconds."""
        self.others.append(asyncio.ensure_future(self._after(pause)))

    async def _after(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        module, _, name = self.path.rpartition(".")
        trigger = getattr(importlib.import_module(module), name)(**self.arguments)
        ti = self.world.ti
        trigger.task_instance = SimpleNamespace(
            dag_id=ti.dag_id, task_id=ti.task_id, run_id=ti.run_id, map_index=ti.map_index
        )
        self.running.append((trigger, asyncio.ensure_future(self._fire(trigger))))

    async def _fire(self, trigger: Any) -> Any:
        try:
            events = [event async for event in trigger.run()]
        except Exception as error:
            self.world.unhandled.append(f"a trigger raised {error!r}")
            raise GoneError("failed") from error
        if len(events) != 1:
            self.world.unhandled.append(f"a trigger fired {len(events)} times")
        return json.loads(json.dumps(events[0].payload))

    async def _befall(self, event: Event) -> None:
        """Let an event happen that may be about this deferral."""
        world = self.world
        if event.kind == "the trigger is lost":
            world.tell(event.kind)
            raise GoneError("failed")
        if event.kind == "the triggerer dies":
            world.tell(event.kind)
            if world.rng.random() < 0.5:  # in the middle of what it does
                world.where, world.dies_in = "triggerer", world.rng.randint(1, 4)
            else:
                await self._kill_one()
                self._start(world.rng.uniform(1, 200))
        elif event.kind == "hand-over":
            world.tell(event.kind)
            self._start()
            self.others.append(asyncio.ensure_future(self._let_go(world.rng.uniform(5, 300))))
        else:
            try:
                world.happen(event)
            except GoneError as gone:
                await self._person(str(gone))
                raise

    async def _kill_one(self) -> Any:
        if not self.running:
            return None
        trigger, task = self.running.pop(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return trigger

    async def _let_go(self, seconds: float) -> None:
        """End the first of two, as Airflow 3.3.2 does: by calling its ``on_kill``."""
        await asyncio.sleep(seconds)
        if len(self.running) > 1 and (trigger := await self._kill_one()):
            await trigger.on_kill()

    async def _person(self, did: str) -> None:
        """End all of them, for a person; after a Clear their ``on_kill`` comes when the next try runs."""
        triggers = []
        while self.running:
            triggers.append(await self._kill_one())
        if did == "Clear":
            self.world.killed = triggers
        else:
            await asyncio.gather(*(trigger.on_kill() for trigger in triggers))


class Supervisor:
    """Answers what a worker or a trigger asks Airflow about the state of a task."""

    def __init__(self) -> None:
        self.world: Airflow | None = None

    def send(self, question: Any) -> Any:
        assert self.world is not None
        if type(question).__name__ == "MaskSecret":  # Airflow 3.0 hands it secrets this way
            return None
        return SimpleNamespace(task_states={question.run_ids[0]: {question.task_ids[0]: self.world.state}})

    async def asend(self, question: Any) -> Any:
        return self.send(question)

"""Whatever befalls a backup that is started and waited for: one backup per attempt, and the gate is right.

Each run has a vault to itself, so whatever Azure was asked there was asked by that run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import psutil
import pytest

from dev.stack.airflow_api import FINISHED
from dev.stack.pace import Limit, slowness, stretch
from dev.stack.stack import SECOND, Stack
from tests.e2e.azure import Azure
from tests.e2e.chaos import FOR_EVER, Case, Chaos, Condition, Story, after

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def chaos(airflow: Stack, azure: Azure) -> Iterator[Chaos]:
    azure.reset()
    for pool in ("held", "freed"):
        airflow.call("POST", "/pools", {"name": pool, "slots": 0})
    yield Chaos(airflow, azure)
    azure.reset()


# Where a backup stands when something happens to its task.


def held(case: Case) -> Iterator[Condition]:
    """The task waits for a slot."""
    case.begin("chaos_held_cancels")
    yield lambda: case.state == "scheduled"


def soon_freed(case: Case) -> Iterator[Condition]:
    """The task waits for a slot that it will get."""
    case.begin("chaos_freed_cancels")
    yield lambda: case.state == "scheduled"


def asking(case: Case) -> Iterator[Condition]:
    """A worker looks around in the vault; it has not asked for a backup."""
    case.fault(path=".*", method="GET", latency=60 * slowness())
    case.begin("chaos_deferred_cancels")
    yield lambda: case.state == "running" and bool(case.requests)


def posting(dag_id: str, *, seconds: float) -> Story:
    """A worker has asked for a backup, Azure has started it, and the answer is on its way."""

    def story(case: Case) -> Iterator[Condition]:
        case.fault(path=r".*/backup\?", method="POST", latency=seconds * stretch(), processed=True)
        case.begin(dag_id)
        yield lambda: case.state == "running" and bool(case.jobs)

    return story


def accepted(dag_id: str, *, seconds: float, at_most: bool = False) -> Story:
    """Azure has accepted the backup, and does not say for some seconds which job it is.

    :param at_most: not longer on a slow machine: a worker that is ended has a few seconds to find the job.
    """

    def story(case: Case) -> Iterator[Condition]:
        pending = seconds * (1 if at_most else stretch())
        case.plan(**FOR_EVER, operation_seconds=pending * case.azure.speed)
        case.begin(dag_id)
        yield (
            lambda: case.state == "running" and any(each["status"] for each in case.asked("POST", "/backup"))
        )

    return story


def watched(dag_id: str) -> Story:
    """A worker waits for the job."""

    def story(case: Case) -> Iterator[Condition]:
        case.begin(dag_id)
        yield lambda: case.state == "running" and case.looks > 1

    return story


def deferred(dag_id: str) -> Story:
    """The triggerer waits for the job, and has looked at it."""

    def story(case: Case) -> Iterator[Condition]:
        case.begin(dag_id)
        yield lambda: case.state == "deferred"
        seen = case.looks
        yield lambda: case.looks > seen

    return story


def over(dag_id: str) -> Story:
    """The task has ended well."""

    def story(case: Case) -> Iterator[Condition]:
        case.plan(ending="Completed", seconds=2 * case.azure.speed)
        case.begin(dag_id)
        # The run as well: cleared while the scheduler ends it, a task stays cleared and is never run.
        yield lambda: case.is_over and case.airflow.state(case.task.run) in FINISHED

    return story


def met(before: Story, **fault: object) -> Story:
    """As ``before``, while the way to Azure is troubled."""

    def story(case: Case) -> Iterator[Condition]:
        case.fault(**fault)
        yield from before(case)

    return story


# What happens to the task then.


def mark(state: str) -> Callable[[Case], None]:
    return lambda case: case.airflow.set_state(case.task, state)


def fail_the_run(case: Case) -> None:
    case.airflow.set_run_state(case.task.run, "failed")


def clear(case: Case) -> None:
    case.airflow.clear(case.task)


def clear_and_free(case: Case) -> None:
    clear(case)
    case.airflow.call("PATCH", "/pools/freed", {"pool": "freed", "slots": 1, "include_deferred": False})


def kill(case: Case) -> None:
    case.airflow.kill_task(case.task)


def kill_the_worker(case: Case) -> None:
    """The process that holds the task's, and would report its end to Airflow."""
    holder = psutil.Process(case.task.pid).parent()
    assert holder
    holder.kill()


def kill_between_answer_and_note(case: Case) -> None:
    """Without Airflow's API a worker cannot note anything down; there it is killed."""
    with case.airflow.frozen("api-server"):
        limit = Limit(20)
        while not any(
            each["status"] for each in case.azure.find(method="POST", path_contains=f"/{case.vault}/")
        ):
            assert not limit.is_over, "Azure has not answered"
            time.sleep(0.2)
        time.sleep(1)
        kill(case)


def nothing(_: Case) -> None:
    pass


# How it goes on.


def stays_so(case: Case) -> Iterator[Condition]:
    """A person has ended the task, and nothing more is asked of Azure."""
    yield lambda: case.is_over
    # A trigger hears of it within three seconds, and takes up to six more to find out why.
    yield after(12)


def is_cancelled(case: Case) -> Iterator[Condition]:
    """A person has ended the task, and the backup is cancelled once."""
    yield lambda: case.is_over
    limit = Limit(60)
    yield lambda: case.statuses == ["Cancelled"] or limit.is_over
    yield after(5)


def goes_on(case: Case) -> Iterator[Condition]:
    """A later try, as a rule, waits for the backup that runs, and that ends well."""
    if case.task.run.dag_id.startswith("chaos_working"):
        yield lambda: case.state == "running"
        seen = case.looks
        yield lambda: case.looks > seen
    else:
        yield lambda: case.state == "deferred"
    case.complete()
    yield lambda: case.is_over


def begins_after_it(case: Case) -> Iterator[Condition]:
    """A new attempt waits for the end of the backup that runs, and then takes one of its own."""
    waits = "running" if case.task.run.dag_id.startswith("chaos_working") else "deferred"
    yield lambda: case.state == waits
    seen = case.looks
    yield lambda: case.looks > seen
    case.complete()
    yield lambda: len(case.jobs) == 2 and case.state == waits
    case.complete()
    yield lambda: case.is_over


def begins_anew(case: Case) -> Iterator[Condition]:
    """A later try takes a backup of its own."""
    yield lambda: len(case.jobs) == 2 and case.is_over


@dataclass(frozen=True, kw_only=True)
class End:
    """What must come of it.

    :param tries: how many there are at least; a busy machine may need another.
    :param jobs: how its backups stand, one for each that was asked for.
    """

    then: Story
    state: str
    gate: str
    tries: int = 1
    jobs: tuple[str, ...] = ("InProgress",)
    cancels: int = 0


FAILED = End(then=stays_so, state="failed", gate="upstream_failed")
PASSED = End(then=stays_so, state="success", gate="success")
SKIPPED = End(then=stays_so, state="skipped", gate="skipped")
WENT_ON = End(then=goes_on, state="success", gate="success", jobs=("Completed",))
TAKEN_UP = replace(WENT_ON, tries=2)
TAKEN_AGAIN = replace(TAKEN_UP, then=begins_after_it, jobs=("Completed", "Completed"))


def unasked(end: End) -> End:
    """Nothing was asked of Azure."""
    return replace(end, jobs=())


def cancelled(end: End) -> End:
    """The backup was cancelled, with one request."""
    return replace(end, then=is_cancelled, jobs=("Cancelled",), cancels=1)


SLOWLY = {"path": ".*/cancel", "method": "POST", "latency": 5}

Scene = tuple[Story, Callable[[Case], None], End]

SCENES: dict[str, Scene] = {
    # Nothing was asked of Azure yet.
    "held, marked failed": (held, mark("failed"), unasked(FAILED)),
    "held, marked success": (held, mark("success"), unasked(PASSED)),
    "held, cleared": (soon_freed, clear_and_free, TAKEN_UP),
    "asking, marked failed": (asking, mark("failed"), unasked(FAILED)),
    "asking, marked success": (asking, mark("success"), unasked(PASSED)),
    "asking, cleared": (asking, clear, TAKEN_UP),
    # Which job it is, is not known yet.
    "accepted, marked failed": (accepted("chaos_working", seconds=20), mark("failed"), FAILED),
    "accepted, marked failed, cancels": (
        accepted("chaos_working_cancels", seconds=3, at_most=True),
        mark("failed"),
        cancelled(FAILED),
    ),
    "accepted, cleared, cancels": (accepted("chaos_deferred_cancels", seconds=20), clear, TAKEN_AGAIN),
    # A worker waits.
    "watched, marked failed": (watched("chaos_working"), mark("failed"), FAILED),
    "watched, marked failed, cancels": (watched("chaos_working_cancels"), mark("failed"), cancelled(FAILED)),
    "watched, marked success, cancels": (
        watched("chaos_working_cancels"),
        mark("success"),
        cancelled(PASSED),
    ),
    "watched, cleared": (watched("chaos_working"), clear, TAKEN_AGAIN),
    "watched, cleared, cancels": (watched("chaos_working_cancels"), clear, TAKEN_AGAIN),
    # The triggerer waits.
    "deferred, marked failed": (deferred("chaos_deferred"), mark("failed"), FAILED),
    "deferred, marked failed, cancels": (
        deferred("chaos_deferred_cancels"),
        mark("failed"),
        cancelled(FAILED),
    ),
    "deferred, marked success": (deferred("chaos_deferred"), mark("success"), PASSED),
    "deferred, marked success, cancels": (
        deferred("chaos_deferred_cancels"),
        mark("success"),
        cancelled(PASSED),
    ),
    "deferred, marked skipped, cancels": (
        deferred("chaos_deferred_cancels"),
        mark("skipped"),
        cancelled(SKIPPED),
    ),
    "deferred, run failed, cancels": (
        deferred("chaos_deferred_cancels"),
        fail_the_run,
        replace(cancelled(FAILED), gate="skipped"),
    ),
    "deferred, cleared": (deferred("chaos_deferred"), clear, TAKEN_AGAIN),
    "deferred, cleared, cancels": (deferred("chaos_deferred_cancels"), clear, TAKEN_AGAIN),
    # The task is over.
    "over, marked failed, cancels": (
        over("chaos_deferred_cancels"),
        mark("failed"),
        replace(FAILED, gate="success", jobs=("Completed",)),
    ),
    "over, cleared": (
        over("chaos_deferred"),
        clear,
        replace(TAKEN_UP, then=begins_anew, jobs=("Completed", "Completed")),
    ),
    # Azure takes five seconds to cancel. The triggerer must wait for its answer; a worker has not the time.
    "deferred, marked failed, cancels slowly": (
        met(deferred("chaos_deferred_cancels"), **SLOWLY),
        mark("failed"),
        cancelled(FAILED),
    ),
    "watched, marked failed, cancels slowly": (
        met(watched("chaos_working_cancels"), **SLOWLY, processed=True),
        mark("failed"),
        cancelled(FAILED),
    ),
    # The worker's process is killed.
    "posting, killed": (posting("chaos_deferred_cancels", seconds=60), kill, TAKEN_UP),
    "accepted, killed": (accepted("chaos_deferred_cancels", seconds=20), kill, TAKEN_UP),
    "watched, killed": (watched("chaos_working_cancels"), kill, TAKEN_UP),
    "watched, orphaned": (watched("chaos_working_cancels"), kill_the_worker, TAKEN_UP),
    # Azure starts the backup and says nothing of it.
    "answered 504": (
        met(deferred("chaos_deferred"), path=r".*/backup\?", method="POST", status=504, processed=True),
        nothing,
        WENT_ON,
    ),
    "never answered": (
        met(deferred("chaos_deferred"), path=r".*/backup\?", method="POST", reset=True, processed=True),
        nothing,
        WENT_ON,
    ),
}
# Of this one the others would suffer: it stops Airflow's API.
ALONE: dict[str, Scene] = {
    "answered, killed": (
        posting("chaos_working_cancels", seconds=8),
        kill_between_answer_and_note,
        TAKEN_UP,
    ),
}


@pytest.fixture(scope="module")
def scenes(chaos: Chaos) -> dict[str, Case]:
    """Play all scenes side by side."""

    def whole(before: Story, act: Callable[[Case], None], end: End) -> Story:
        def story(case: Case) -> Iterator[Condition]:
            yield from before(case)
            act(case)
            yield lambda: case.tries >= end.tries
            yield from end.then(case)

        return story

    cases = {}
    for together in (SCENES, ALONE):
        cases |= (these := {name: chaos.case() for name in together})
        chaos.play([(these[name], whole(*scene)) for name, scene in together.items()], timeout=900)
    return cases


@pytest.mark.parametrize("name", [*SCENES, *ALONE])
def test_a_backup_is_taken_once_and_cancelled_only_if_a_person_ended_it(
    scenes: dict[str, Case], name: str
) -> None:
    case, (_, _, end) = scenes[name], {**SCENES, **ALONE}[name]
    assert case.trouble == ""
    assert (case.state, case.gate) == (end.state, end.gate)
    assert len(case.asked("POST", "/backup")) == len(end.jobs)
    assert case.statuses == list(end.jobs)
    assert len(case.asked("POST", "/cancel")) == end.cancels


# Airflow's own processes, and Azure itself, come and go while many wait. During each loss one backup ends;
# the others see all of them.

ENDS = {
    "one of two triggerers is dead": "chaos_deferred_cancels",
    "the only triggerer is dead": "chaos_deferred_cancels",
    "the triggerer is restarted": "chaos_deferred_cancels",
    "its triggerer stands still": "chaos_deferred_cancels",
    "Azure is away": "chaos_deferred_cancels",
    "Azure is away from a worker": "chaos_working_cancels",
    "scheduler and API server are dead": "chaos_deferred_cancels",
    "all is over": "chaos_deferred",
    "all is over, cancels": "chaos_deferred_cancels",
    "all is over, in a worker": "chaos_working_cancels",
}
OUTAGE = 60.0


class Vigil:
    """All these waits, and the triggerers that keep them, by the numbers that Airflow gave these."""

    def __init__(self, chaos: Chaos) -> None:
        self.chaos, self.airflow = chaos, chaos.airflow
        self.triggerers: dict[str, int] = {}
        self.cases = {name: chaos.case() for name in ENDS}

    def begin(self, *names: str) -> None:
        """Begin these runs and wait until their backups are waited for."""
        for name in names:
            self.cases[name].begin(ENDS[name])
        begun = [self.cases[name] for name in names]
        self.chaos.until(lambda: all(is_watched(case) for case in begun), timeout=150)

    def start_triggerer(self, name: str) -> None:
        known = self.airflow.triggerers()
        self.airflow.start("triggerer", name=name)
        self.chaos.until(lambda: bool(self.airflow.triggerers() - known), timeout=90)
        (self.triggerers[name],) = self.airflow.triggerers() - known

    def lose_triggerer(self, name: str) -> None:
        self.airflow.kill(name)
        del self.triggerers[name]

    def meet_triggerers(self) -> None:
        (self.triggerers["triggerer"],) = self.airflow.triggerers()

    def until_all_are_kept_by(self, name: str) -> None:
        """Wait until one triggerer has all the waits."""
        number = self.triggerers[name]
        self.chaos.until(lambda: {case.triggerer for case in self.deferred} == {number}, timeout=60)

    @property
    def begun(self) -> list[Case]:
        return [case for case in self.cases.values() if case.run]

    @property
    def deferred(self) -> list[Case]:
        return [case for case in self.begun if case.state == "deferred"]

    def is_unharmed(self) -> bool:
        """Whether each backup was asked for once, nothing was cancelled, and nobody has given up."""
        return all(
            (len(case.asked("POST", "/backup")), len(case.asked("POST", "/cancel"))) == (1, 0)
            and case.state != "failed"
            for case in self.begun
        )


def is_watched(case: Case) -> bool:
    if case.state == "deferred":
        return case.triggerer is not None
    return case.state == "running" and case.looks > 0


@pytest.fixture(scope="module")
def vigil(chaos: Chaos) -> Iterator[Vigil]:
    vigil = Vigil(chaos)
    if chaos.airflow.workers:  # then there are two already, and which has which number is not known
        chaos.airflow.stop(SECOND)
    vigil.meet_triggerers()
    vigil.start_triggerer(SECOND)
    # These two begin when Azure is about to go.
    vigil.begin(*(name for name in ENDS if not name.startswith("Azure")))
    yield vigil
    chaos.airflow.stop(SECOND)


def test_one_of_two_triggerers_dies(vigil: Vigil) -> None:
    ending = vigil.cases["one of two triggerers is dead"]
    (name,) = (name for name, number in vigil.triggerers.items() if number == ending.triggerer)
    vigil.lose_triggerer(name)
    ending.complete()
    (other,) = vigil.triggerers
    vigil.until_all_are_kept_by(other)
    assert vigil.is_unharmed(), str(vigil.chaos)


def test_the_only_triggerer_dies(vigil: Vigil) -> None:
    (name,) = vigil.triggerers
    vigil.lose_triggerer(name)
    vigil.cases["the only triggerer is dead"].complete()
    vigil.start_triggerer("triggerer")
    vigil.until_all_are_kept_by("triggerer")
    assert vigil.is_unharmed(), str(vigil.chaos)


def test_the_triggerer_is_restarted(vigil: Vigil) -> None:
    vigil.airflow.stop("triggerer")
    vigil.cases["the triggerer is restarted"].complete()
    vigil.start_triggerer("triggerer")
    vigil.until_all_are_kept_by("triggerer")
    assert vigil.is_unharmed(), str(vigil.chaos)


def test_a_triggerer_that_stood_still_too_long_has_lost_its_waits_and_cancels_nothing(vigil: Vigil) -> None:
    vigil.start_triggerer(SECOND)
    # What has ended before must have come to its gate, or the second triggerer is the one to see it.
    vigil.chaos.until(
        lambda: all(case.is_over for case in vigil.begun if case.statuses == ["Completed"]), timeout=90
    )
    with vigil.airflow.frozen("triggerer"):
        vigil.cases["its triggerer stands still"].complete()
        vigil.until_all_are_kept_by(SECOND)
    # Airflow 3.3.2 takes the hand-over for the doing of a user, and ends the trigger that was left.
    task = vigil.cases["all is over, cancels"].task
    vigil.chaos.until(
        lambda: any("Task is deferred, not ended" in line["event"] for line in vigil.airflow.log(task)),
        timeout=60,
    )
    vigil.chaos.until(after(5), timeout=30)
    assert vigil.is_unharmed(), str(vigil.chaos)


def test_azure_is_away_for_a_minute(vigil: Vigil) -> None:
    ending = ("Azure is away", "Azure is away from a worker")
    for name in ending:
        vigil.cases[name].plan(ending="Completed", seconds=OUTAGE * vigil.chaos.azure.speed)
    vigil.begin(*ending)
    vigil.chaos.azure.kill()
    time.sleep(OUTAGE)
    vigil.chaos.azure.start()
    seen = {case: case.looks for case in vigil.begun}
    vigil.chaos.until(lambda: all(seen[case] < case.looks or case.is_over for case in seen), timeout=60)
    # What has ended by now comes to its gate before anything else dies.
    vigil.chaos.until(
        lambda: all(case.is_over for case in seen if case.statuses == ["Completed"]), timeout=90
    )
    assert vigil.is_unharmed(), str(vigil.chaos)


def test_a_worker_dies_with_its_tasks(vigil: Vigil) -> None:
    airflow, waits = vigil.airflow, vigil.cases["all is over, in a worker"]
    if not airflow.workers:
        pytest.skip("the workers are children of the scheduler; they die with it below")
    name = airflow.worker_of(waits.task)
    tries, seen = waits.tries, waits.looks
    airflow.kill(name)
    # Another worker has it before this one is back.
    vigil.chaos.until(
        lambda: waits.tries > tries and waits.state == "running" and waits.looks > seen, timeout=120
    )
    airflow.start("worker", name=name)
    assert vigil.is_unharmed(), str(vigil.chaos)


def test_scheduler_and_api_server_die(vigil: Vigil) -> None:
    airflow, worker = vigil.airflow, vigil.cases["all is over, in a worker"]
    tries = worker.tries
    for name in ("scheduler", "api-server"):
        airflow.kill(name)
    vigil.cases["scheduler and API server are dead"].complete()
    # In this order, or tasks would be started that cannot speak to the API, and fail.
    airflow.start("api-server")
    vigil.chaos.until(lambda: True, timeout=90)
    airflow.start("scheduler")
    airflow.wait_until_healthy()
    # A task that ran in a child of the scheduler died with it; Airflow misses it in time and tries again. A
    # Celery worker goes on, or gives its task up when it has not reached the API for too long.
    died = not airflow.workers
    vigil.chaos.until(lambda: worker.tries >= tries + died and worker.state == "running", timeout=90)
    seen = worker.looks
    vigil.chaos.until(lambda: worker.looks > seen, timeout=60)
    assert vigil.is_unharmed(), str(vigil.chaos)


@pytest.fixture(scope="module")
def ended(vigil: Vigil) -> Vigil:
    for case in vigil.begun:
        case.complete()
    vigil.chaos.until(lambda: all(case.is_over for case in vigil.begun), timeout=120)
    return vigil


@pytest.mark.parametrize("name", ENDS)
def test_the_gate_opens_behind_a_backup_that_ends_while(ended: Vigil, name: str) -> None:
    case = ended.cases[name]
    assert (case.state, case.gate) == ("success", "success")
    assert case.statuses == ["Completed"]
    assert len(case.asked("POST", "/backup")) == 1
    assert len(case.asked("POST", "/cancel")) == 0

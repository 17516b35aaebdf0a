"""One backup for one intent on Airflow 2.11 to 3.2, whatever befalls the task; 3.3 has tests of its own.

Each release runs one Dag, and everything happens to its tasks at the same time: installing and starting an
Airflow takes longer than all of it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import psutil
import pytest

from azure_backup_emulator import Emulator
from dev.release.releases import (
    RELEASES,
    ROOT,
    EnvironmentMissingError,
    environment,
    interpreter,
    pytest_options,
)
from dev.stack.airflow_api import FINISHED, Run, Task
from dev.stack.pace import Limit, stretch
from dev.stack.postgres import Postgres
from tests.e2e.evidence import REQUESTS
from tests.releases.airflows import Airflow2, OldStack

pytestmark = pytest.mark.e2e

DAGS = Path(__file__).parent / "dags"
# What becomes of each task, and of the gate after it.
EXPECTED = {
    "failed": ("failed", "upstream_failed"),
    "failed-and-cancelled": ("failed", "upstream_failed"),
    "passed-and-cancelled": ("success", "success"),
    "failed-in-worker": ("failed", "upstream_failed"),
    "cleared": ("success", "success"),
    "cleared-in-worker": ("success", "success"),
    "restarted": ("success", "success"),
    "retried": ("success", "success"),
    "overdue": ("failed", "upstream_failed"),
    "overdue-and-cancelled": ("failed", "upstream_failed"),
}
# `make test` runs a real Airflow of the oldest release. CI runs all of them in a job of its own, as `make
# matrix` does. The newest release has tests/e2e.
RUN = tuple(RELEASES)[:1] if "AZBACKUP_SAMPLE" in os.environ else tuple(RELEASES)
CANCELLED = {"failed-and-cancelled", "passed-and-cancelled", "failed-in-worker", "overdue-and-cancelled"}
# Of the fast tests, which take their time: a sample. `make matrix` runs more of them there.
CHECKED = ("tests/test_triggers.py", "tests/test_provider_info.py", "tests/repository/test_upgrades.py")
CHECKED_AT_BOTH_ENDS = ("tests/test_operators.py", "tests/test_sensors.py")
IN_TIME = {name for name in EXPECTED if not name.startswith("overdue")}
IN_WORKER = {"failed-in-worker", "cleared-in-worker"}
COMPLETED = {name for name, (state, _) in EXPECTED.items() if state == "success"} - CANCELLED
CLEARED = ("cleared", "cleared-in-worker")
# What begins again: a Clear may have run the tasks upstream, and below Airflow 3.3 nothing shows a retry
# that the backup that runs is its own. Both wait for its end and take another one.
ANEW = {"cleared", "cleared-in-worker", "retried"}
# What a person does to which task.
ENDED = {
    "failed": "failed",
    "failed-and-cancelled": "failed",
    "failed-in-worker": "failed",
    "passed-and-cancelled": "success",
}
# A machine that no task backs up; a Dag starts when its backup has ended.
WATCHED = "watched"


@dataclass
class Story:
    """What was seen of one release."""

    release: str
    tasks: Mapping[str, Task] = field(default_factory=dict)
    jobs: Mapping[str, str] = field(default_factory=dict)
    posts: Mapping[str, int] = field(default_factory=dict)
    cancels: Mapping[str, int] = field(default_factory=dict)
    logs: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[str, str | None] = field(default_factory=dict)
    progress: Mapping[str, object] | None = None
    watched: str = ""
    heard: list[list[str]] = field(default_factory=list)
    triggerer_ended: bool = False
    execution_timeout: float = 0.0
    told: list[str] = field(default_factory=list)


CELLS = [(release, name) for release in RUN for name in EXPECTED]


class Telling:
    """Runs the Dag on one release and lets things happen to it.

    A step that does not come about in time is noted, and the telling goes on: the tests say what it cost.
    """

    def __init__(self, airflow: OldStack, azure: Emulator) -> None:
        self.airflow, self.azure = airflow, azure
        self.story = Story(release=airflow.release, execution_timeout=float(airflow.env["EXECUTION_TIMEOUT"]))
        self.began = time.monotonic()
        self.run: Run

    def tell(self) -> Story:
        self.airflow.wait_for_dags("intents")
        self.run = self.airflow.run_dag("intents")
        self._see("all wait", self._all_wait, 120)
        self.story.links = self.airflow.links(self._tasks()["restarted"])
        self.story.watched = self.azure.start_job(WATCHED, ending="Never", seconds=1e9)
        self._meddle()
        if self.airflow.release.startswith("3.0."):
            # Airflow 3.0 leaves it "restarting" for good (apache/airflow 55045); a second Clear helps.
            self._see("left restarting", self._is_left, 30)
            self.airflow.clear(self._tasks()["cleared-in-worker"])
        self._see("all wait again", self._all_wait_again, 90)
        self._see("cancelled", lambda: self._cancels("failed-and-cancelled") > 0, 20)
        self._see("overdue ended", lambda: self._ended("overdue", "overdue-and-cancelled"), 150)
        self.story.triggerer_ended = self.airflow.stop("triggerer")
        self.airflow.start("triggerer")
        self._see_more("triggerer ended and back", self._starts)
        self.airflow.kill("triggerer")
        self.airflow.start("triggerer")
        self._see_more("triggerer killed and back", self._starts)
        self._see_more("watching again", self._looks)
        self.story.progress = self.airflow.xcom(self._tasks()["restarted"], "backup_progress")
        for name in ANEW:
            self.azure.plan(name, seconds=240)
        for name in (*COMPLETED, WATCHED):
            if job := self._jobs().get(name):
                self.azure.set_status(job, "Completed")
        self._see("ended", lambda: self.airflow.state(self.run) in FINISHED, 180)
        if WATCHED in self.airflow.dag_ids():
            self._see("a Dag has heard of an end", lambda: bool(self._heard()), 60)
            self.story.heard = self._heard()
        return self._seen()

    def _heard(self) -> list[list[str]]:
        """The jobs of which each run of the Dag that watches has heard, as far as these have ended."""
        runs = self.airflow.call("GET", f"/dags/{WATCHED}/dagRuns", limit=10)["dag_runs"]
        known = [Run(dag_id=WATCHED, run_id=each["dag_run_id"]) for each in runs if each["state"] in FINISHED]
        return [self.airflow.xcom(self.airflow.task(run, "hear")) for run in known]

    def _meddle(self) -> None:
        """Do what a person does, and let Azure refuse a look at one of the jobs."""
        self.azure.fault(method="GET", path=f"backupJobs/{self._jobs()['retried']}", status=400)
        tasks = self._tasks()
        for name, state in ENDED.items():
            self.airflow.set_state(tasks[name], state)
        self.airflow.clear_all([tasks[name] for name in CLEARED])

    def _seen(self) -> Story:
        tasks = self._tasks()
        self.story.tasks = tasks
        states = {job["id"]: job["status"] for job in self.azure.service.state()["jobs"]}
        self.story.jobs = {name: states[job] for name, job in self._jobs().items()}
        self.story.posts = {name: self.azure.count("POST", f";{name}/backup") for name in EXPECTED}
        self.story.cancels = {name: self._cancels(name) for name in EXPECTED}
        self.story.logs = {name: self.airflow.log_text(name) for name in EXPECTED}
        return self.story

    def _see(self, what: str, holds: Callable[[], bool], within: float) -> bool:
        began, limit = time.monotonic(), Limit(within)
        while not (seen := holds()) and not limit.is_over:
            self.airflow.check()
            time.sleep(1.0)
        now = time.monotonic()
        self.story.told.append(f"{now - self.began:5.1f} s: {what}: {seen}, after {now - began:.1f} s")
        return seen

    def _see_more(self, what: str, count: Callable[[str], int]) -> None:
        before = count("restarted")
        self._see(what, lambda: count("restarted") > before, 60)

    def _tasks(self) -> dict[str, Task]:
        return {task.task_id: task for task in self.airflow.tasks(self.run)}

    def _jobs(self) -> dict[str, str]:
        """The job of each task, by the name of task and machine."""
        return {job["item"].rpartition(";")[2]: job["id"] for job in self.azure.service.state()["jobs"]}

    def _all_wait(self) -> bool:
        """Whether every job is watched: a task that is ended before a triggerer has it is ended unheard."""
        tasks = self._tasks()
        states = {name: "running" if name in IN_WORKER else "deferred" for name in IN_TIME}
        return all(self._looks(name) for name in EXPECTED) and all(
            tasks[name].state == state for name, state in states.items()
        )

    def _all_wait_again(self) -> bool:
        """Whether what was cleared or is retried waits in its next try."""
        tasks = self._tasks()
        states = {name: "running" if name in IN_WORKER else "deferred" for name in EXPECTED}
        return all((tasks[name].state, tasks[name].try_number) == (states[name], 2) for name in ANEW)

    def _is_left(self) -> bool:
        task = self._tasks()["cleared-in-worker"]
        return task.state == "restarting" and not psutil.pid_exists(task.pid or 0)

    def _ended(self, *names: str) -> bool:
        return all(self._tasks()[name].is_finished for name in names)

    def _starts(self, name: str) -> int:
        """How often a triggerer has begun to watch a job."""
        # Airflow 2 says so in the log of the triggerer, Airflow 3 in that of the task.
        said = (self.airflow.home / "triggerer.log").read_text() + self.airflow.log_text(name)
        return len(re.findall(rf"/{name}/-1/\d+ \(ID \d+\) starting", said))

    def _looks(self, name: str) -> int:
        job = self._jobs().get(name)
        return self.azure.count("GET", f"backupJobs/{job}") if job else 0

    def _cancels(self, name: str) -> int:
        job = self._jobs().get(name)
        return self.azure.count("POST", f"{job}/cancel") if job else 0


def tell(release: str, home: Path, ended: threading.Event) -> Story:
    """Start a release and all it needs, and return its story."""
    names = [*EXPECTED, WATCHED]
    seed = {
        "vaults": [{"name": name, "group": "demo-rg"} for name in names],
        "items": [{"kind": "VM", "name": name, "group": "demo-vms", "vault": name} for name in names],
    }
    with ExitStack() as running:
        azure = running.enter_context(Emulator(speed=120, seed=seed))
        azure.configure(job_read_budget=1_000_000)  # each is looked at every two seconds
        for name in EXPECTED:
            azure.plan(name, ending="Never", cancel_seconds=3600)
        # On Airflow 2 a worker must be back before it is over, and our limit comes only a tenth earlier.
        execution_timeout = (90 if release.startswith("2.") else 45) * stretch(2)
        env = {
            "AIRFLOW_CONN_AZURE_BACKUP_DEFAULT": json.dumps(azure.connection()),
            "EXECUTION_TIMEOUT": str(execution_timeout),
            "INTENTS": ",".join(EXPECTED),
        }
        airflow: OldStack
        if release.startswith("2."):
            database = running.enter_context(Postgres()).url
            airflow = Airflow2(release, dags=DAGS, home=home, env=env, ended=ended, database=database)
        else:
            airflow = OldStack(release, dags=DAGS, home=home, env=env, ended=ended)
        running.enter_context(airflow)
        try:
            story = Telling(airflow, azure).tell()
        finally:
            (home / REQUESTS).write_text("".join(json.dumps(each) + "\n" for each in azure.requests))
    print(f"Airflow {release}", *story.told, sep="\n  ")
    return story


def check(release: str, story: Future[Story] | None) -> subprocess.CompletedProcess[str]:
    """Run a sample of the fast tests of what Airflow runs of ours in the environment of a release."""
    if story:
        story.exception()  # it only has to be over
    oldest, *_, newest = RELEASES
    files = (*CHECKED, *(CHECKED_AT_BOTH_ENDS if release in (oldest, newest) else ()))
    return subprocess.run(
        [
            *(str(environment(release)), "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            *pytest_options(release),
            *files,
        ],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def asked_for(request: pytest.FixtureRequest) -> list[str]:
    """Return the releases that the tests of this file which are run are about."""
    items = [item for item in request.session.items if item.path == request.path]
    return [release for release in RELEASES if any(f"[{release}" in item.name for item in items)]


@pytest.fixture(scope="module")
def stories(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Mapping[str, Future[Story]]]:
    """The releases that are run, two at a time: most of the time an Airflow waits."""
    asked = asked_for(request)
    try:
        for release in asked:
            interpreter(release)
    except EnvironmentMissingError as error:
        pytest.skip(f"no Python here that these releases run on: {error}")
    ended = threading.Event()
    with ThreadPoolExecutor(max_workers=2) as pool:
        homes = {release: tmp_path_factory.mktemp(release) for release in asked if release in RUN}
        try:
            yield {release: pool.submit(tell, release, home, ended) for release, home in homes.items()}
        finally:
            ended.set()
            pool.shutdown(cancel_futures=True)


@pytest.fixture(scope="module")
def checks(
    stories: Mapping[str, Future[Story]], request: pytest.FixtureRequest
) -> Iterator[Mapping[str, Future[subprocess.CompletedProcess[str]]]]:
    """The fast tests on each release, after its story: they need the machine for themselves."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        yield {release: pool.submit(check, release, stories.get(release)) for release in asked_for(request)}


@pytest.fixture(scope="module", params=RUN)
def story(request: pytest.FixtureRequest, stories: Mapping[str, Future[Story]]) -> Story:
    return stories[request.param].result()


@pytest.mark.parametrize(("story", "name"), CELLS, indirect=["story"], scope="module")
def test_a_task_and_its_gate_end_as_they_must(story: Story, name: str) -> None:
    states = tuple(story.tasks[task_id].state for task_id in (name, f"behind-{name}"))
    assert states == EXPECTED[name], story.told


def test_each_attempt_makes_one_backup(story: Story) -> None:
    assert story.posts == {name: 1 + (name in ANEW) for name in EXPECTED}


def test_only_what_was_to_be_cancelled_is_cancelled_and_once(story: Story) -> None:
    assert story.cancels == {name: int(name in CANCELLED) for name in EXPECTED}
    left = {name for name, status in story.jobs.items() if status == "InProgress"}
    assert left == {"failed", "overdue"}


def test_a_deferred_wait_ends_at_the_execution_timeout(story: Story) -> None:
    limit = story.execution_timeout
    for name in ("overdue", "overdue-and-cancelled"):
        facts = story.tasks[name].facts
        began, ended = (datetime.fromisoformat(facts[key]) for key in ("start_date", "end_date"))
        # Not earlier than our margin, not later than a very busy machine takes to bring the worker back.
        assert 0.85 * limit < (ended - began).total_seconds() < 2 * limit + 15


def test_a_wait_that_took_too_long_says_what_becomes_of_the_job(story: Story) -> None:
    assert "It goes on in Azure" in story.logs["overdue"]
    assert "Azure was asked to cancel it" in story.logs["overdue-and-cancelled"]


def test_a_retry_waits_for_the_backup_that_runs_and_takes_its_own(story: Story) -> None:
    assert story.tasks["retried"].try_number == 2
    assert "Azure answered 400" in story.logs["retried"]
    assert "then this task starts its own backup" in story.logs["retried"]


def test_the_links_lead_to_job_and_vault_while_the_task_is_deferred(story: Story) -> None:
    assert set(story.links) == {"Azure Backup job", "Azure Backup vault"}
    assert all(str(link).startswith("https://portal.azure.com/") for link in story.links.values())


def test_progress_is_shown_while_the_task_is_deferred(story: Story) -> None:
    if story.release.startswith("2."):
        assert story.progress is None  # a trigger of Airflow 2 can write no XCom
    else:
        assert story.progress is not None
        assert story.progress["status"] == "InProgress"


def test_the_end_of_a_backup_starts_a_dag_once_though_the_triggerer_was_killed(story: Story) -> None:
    assert story.heard == ([] if story.release.startswith("2.") else [[story.watched]]), story.told


def test_a_triggerer_that_is_asked_to_end_need_not_be_killed(story: Story) -> None:
    assert story.triggerer_ended


@pytest.mark.parametrize("release", RELEASES)
def test_a_sample_of_the_fast_tests_passes_there(
    checks: Mapping[str, Future[subprocess.CompletedProcess[str]]], release: str
) -> None:
    done = checks[release].result()
    assert done.returncode == 0, done.stdout[-5000:]

"""A gate opens only on a backup that began after the task upstream of it had ended, on a real Airflow.

In each story a policy's backup of the VM is running when the task upstream ends, or somebody clears tasks.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from dev.stack.airflow_api import FINISHED, Json, Run, Task
from dev.stack.pace import Limit
from dev.stack.stack import Stack
from tests.e2e.azure import Azure

pytestmark = pytest.mark.e2e

# Emulated seconds that a backup lasts: ten seconds at the speed of these tests, or until a story ends it.
LASTS, FOR_EVER = 1200, 1e9
WAITING = ("deferred", "running")
# What the log says when a backup is waited out.
WAITS_OUT = "then this task starts its own backup"


class Story:
    """One run of a DAG of ``dags/upstream.py`` on a VM and a vault of its own.

    :param item: name of both.
    """

    def __init__(self, airflow: Stack, azure: Azure, name: str, item: str) -> None:
        self.airflow, self.azure, self.name, self.item = airflow, azure, name, item
        self.dag_id = STORIES[name]
        self.run: Run | None = None

    def begin(self) -> Story:
        """Start the run; a story about a policy has a backup of that running already."""
        if self.name.startswith("policy"):
            self.azure.start_job(self.item, seconds=FOR_EVER, ending="Never")
        else:
            self.azure.plan(self.item, seconds=FOR_EVER, ending="Never")
        self.run = self.airflow.run_dag(self.dag_id, {"item": self.item})
        return self

    def until_it_waits(self) -> dict[str, Task]:
        """Wait until the task has started a backup of its own and waits for it."""
        return self.until(lambda tasks: tasks["backup"].state in WAITING and bool(self.jobs()))

    def until_it_waits_out_another(self) -> None:
        self.until(lambda tasks: tasks["backup"].state in WAITING and WAITS_OUT in self.said())

    def end_first(self) -> None:
        """Let the backup that began first come to its end, and later ones come to it by themselves."""
        self.azure.plan(self.item, seconds=LASTS)
        self.azure.set_status(self.jobs()[0]["id"], "Completed")

    def tasks(self) -> dict[str, Task]:
        assert self.run
        return {task.task_id.rpartition(".")[2]: task for task in self.airflow.tasks(self.run)}

    def until(self, condition: Callable[[dict[str, Task]], bool], *, timeout: float = 240) -> dict[str, Task]:
        limit = Limit(timeout)
        while not condition(tasks := self.tasks()):
            self.airflow.check()
            assert not limit.is_over, {name: task.state for name, task in tasks.items()}
            time.sleep(1)
        return tasks

    def until_over(self) -> dict[str, Task]:
        """Wait for the end of the run, and not of its tasks alone.

        Cleared while the scheduler ends the run, a task stays cleared and is never run.
        """
        return self.until(lambda tasks: self.run is not None and self.airflow.state(self.run) in FINISHED)

    def jobs(self) -> list[Json]:
        """The backups of the VM, oldest first."""
        found = [
            job
            for job in self.azure.state()["jobs"]
            if job["item"].endswith(f";{self.item}") and job["operation"] == "Backup"
        ]
        return sorted(found, key=lambda job: job["starts"])

    def posts(self, ending: str = "/backup") -> int:
        found = self.azure.find(method="POST", path_contains=f"/vaults/{self.item}/")
        return sum(each["path"].endswith(ending) for each in found)

    def loaded(self) -> float:
        """Unix time at which the task upstream ended its work for the last time."""
        return float(self.airflow.xcom(self.tasks()["load"]))

    def recovery_point(self) -> float:
        """Unix time of the recovery point that the gate opened on."""
        point: Any = self.airflow.xcom(self.tasks()["backup"], "recovery_point")
        return datetime.fromisoformat(point["time"]).timestamp()

    def said(self) -> str:
        return "\n".join(line["event"] for line in self.airflow.log(self.tasks()["backup"]))


@pytest.fixture(scope="module")
def stories(airflow: Stack, azure: Azure) -> dict[str, Story]:
    """All stories side by side, each up to its end."""
    azure.reset()
    airflow.wait_for_dags(*DAG_IDS)
    told = {
        name: Story(airflow, azure, name, azure.spare_vaults[number]).begin()
        for number, name in enumerate(STORIES)
    }
    for name, story in told.items():
        if not name.startswith("policy"):
            tasks = story.until_it_waits()
        if name.startswith("cleared"):
            airflow.clear(tasks["load"])
            story.until(lambda now: now["backup"].try_number == 2)
        if name != "retries lowered":
            story.until_it_waits_out_another()
        story.end_first()
    lowered = told["retries lowered"]
    tasks = lowered.until_over()
    (airflow.dags / "upstream_retries.txt").write_text("0")
    _reparsed(airflow, tasks["backup"])
    body = {
        "dry_run": False,
        "dag_run_id": tasks["backup"].run.run_id,
        "task_ids": ["backup"],
        "include_downstream": True,
        "only_failed": False,
        "run_on_latest_version": True,
    }
    airflow.call("POST", f"/dags/{lowered.dag_id}/clearTaskInstances", body)
    lowered.until(lambda now: now["backup"].try_number == 2)
    for story in told.values():
        story.until_over()
    return told


def _reparsed(airflow: Stack, task: Task) -> None:
    """Wait until Airflow has read the number of retries again."""
    airflow.reparse(task.run.dag_id)
    limit = Limit(120)
    while airflow.call("GET", f"/dags/{task.run.dag_id}/tasks/backup")["retries"] != 0:
        assert not limit.is_over, "the DAG file was not read again"
        time.sleep(1)


# By the name of a story, its DAG.
STORIES = {
    "policy's runs": "upstream_deferred",
    "policy's runs, in a worker": "upstream_working",
    "policy's runs, after the snapshot": "upstream_snapshot",
    "policy's runs, guarded": "upstream_guarded",
    "cleared while deferred": "upstream_deferred",
    "cleared while running": "upstream_working",
    "retries lowered": "upstream_retries",
}
DAG_IDS = sorted({*STORIES.values()})
EACH = pytest.mark.parametrize("name", STORIES)


@EACH
def test_the_recovery_point_is_of_after_the_work_upstream(stories: dict[str, Story], name: str) -> None:
    story = stories[name]
    assert story.recovery_point() >= story.loaded()


@EACH
def test_the_gate_opens_and_each_attempt_asks_for_one_backup(stories: dict[str, Story], name: str) -> None:
    story = stories[name]
    attempts = 1 if name.startswith("policy") else 2
    assert story.posts() == attempts
    assert len(story.jobs()) == 2  # the policy's or the earlier attempt's, and the one that counts
    assert story.tasks()["drop"].state == ("failed" if "guarded" in name else "success")
    assert story.posts("/cancel") == 0


@pytest.mark.parametrize("name", [name for name in STORIES if name != "retries lowered"])
def test_the_log_says_which_backup_is_waited_out(stories: dict[str, Story], name: str) -> None:
    story = stories[name]
    assert story.jobs()[0]["id"] in story.said()
    assert WAITS_OUT in story.said()


def test_the_guard_restores_the_point_of_its_own_backup(stories: dict[str, Story]) -> None:
    story = stories["policy's runs, guarded"]
    restore = story.tasks()["restore"]
    assert restore.state == "success"
    point: Any = story.airflow.xcom(restore, "recovery_point")
    assert datetime.fromisoformat(point["time"]).timestamp() >= story.loaded()

"""A backup that waits in the triggerer: what can be seen of it, and what it survives."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dev.stack.airflow_api import Json, Task
from dev.stack.pace import Limit
from dev.stack.stack import Stack
from tests.e2e.azure import Azure

pytestmark = pytest.mark.e2e

GATE = "azbackup_gate_one_vm"


def deferred(airflow: Stack, azure: Azure) -> Task:
    """Start a backup that lasts half a minute, at the speed of these tests; return its task once it waits."""
    azure.reset()
    azure.plan("vm-good", seconds=3600)
    return airflow.wait_for_state(airflow.run_dag(GATE), "backup", "deferred", timeout=90)


def ends(pid: int | None, *, within: float = 10.0) -> bool:
    """Whether a process is gone soon: one that has deferred its task takes a moment to leave."""
    limit = Limit(within)
    while Path(f"/proc/{pid}").exists():
        if limit.is_over:
            return False
        time.sleep(0.2)
    return True


@dataclass(frozen=True, kw_only=True)
class Wait:
    """What was seen of one backup: while it waited, and afterwards."""

    job_id: str
    links: dict[str, str | None]
    trigger: Json
    pool: Json
    worker_left: bool
    states: dict[str, str]
    links_afterwards: dict[str, str | None]
    xcoms_afterwards: dict[str, Any]


@pytest.fixture(scope="module")
def wait(airflow: Stack, azure: Azure) -> Wait:
    task = deferred(airflow, azure)
    job_id = airflow.xcom(task, "job_id")
    links = airflow.links(task)
    pool = airflow.call("GET", "/pools/default_pool")
    worker_left = ends(task.pid)
    now = airflow.task(task.run, "backup")
    assert now.state == "deferred"  # so all of the above was seen before the end
    return Wait(
        job_id=job_id,
        links=links,
        trigger=now.facts["trigger"],
        pool=pool,
        worker_left=worker_left,
        states=airflow.wait(task.run),
        links_afterwards=airflow.links(task),
        xcoms_afterwards={key: airflow.xcom(task, key) for key in ("return_value", "job_id", "job")},
    )


def test_the_job_id_is_there_before_the_wait_and_stays(wait: Wait) -> None:
    assert len(wait.job_id) == 36
    assert wait.xcoms_afterwards["job_id"] == wait.xcoms_afterwards["return_value"] == wait.job_id
    assert wait.xcoms_afterwards["job"]["job_id"] == wait.job_id


def test_the_links_work_while_the_task_waits_and_afterwards(wait: Wait) -> None:
    assert set(wait.links) == {"Azure Backup job", "Azure Backup vault"}
    assert all(str(link).startswith("https://portal.azure.com/") for link in wait.links.values())
    assert wait.links_afterwards == wait.links


def test_a_task_that_waits_holds_neither_a_slot_nor_a_process(wait: Wait) -> None:
    pool = wait.pool
    assert (pool["deferred_slots"], pool["running_slots"], pool["queued_slots"]) == (1, 0, 0)
    assert wait.worker_left


def test_what_waits_shows_no_secret(wait: Wait, azure: Azure) -> None:
    assert wait.trigger["classpath"] == "airflow_provider_azbackup.triggers.AzureBackupJobTrigger"
    assert azure.connection()["password"] not in str(wait.trigger)


def test_the_task_resumes_and_opens_the_gate(wait: Wait) -> None:
    assert wait.states == {"backup": "success", "patch": "success"}

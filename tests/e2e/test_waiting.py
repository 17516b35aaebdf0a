"""A backup that waits in the triggerer: what can be seen of it, and what it survives."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_provider_azbackup.emulator import Emulator
from dev.airflow_api import Run, Task
from dev.stack import Stack

pytestmark = pytest.mark.e2e

GATE = "azbackup_gate_one_vm"
LINKS = {"Azure Backup job", "Azure Backup vault"}


def deferred(airflow: Stack) -> Task:
    return airflow.wait_for_state(airflow.run_dag(GATE), "backup", "deferred", timeout=90)


def backups(azure: Emulator) -> int:
    return azure.count(method="POST", path_contains="vm-good/backup")


@pytest.fixture(autouse=True)
def _lasting(azure: Emulator) -> None:
    """Have the next backups of the machine last an hour, which is half a real minute here."""
    azure.plan("vm-good", seconds=3600)


def test_while_the_job_runs_its_id_and_links_are_there_and_no_worker_is_held(airflow: Stack) -> None:
    task = deferred(airflow)
    job_id = airflow.xcom(task, "job_id")
    links = airflow.links(task)
    pool = airflow.call("GET", "/pools/default_pool")

    assert (
        airflow.task(task.run, "backup").state == "deferred"
    )  # still: all of the above was seen before the end
    assert len(job_id) == 36
    assert set(links) == LINKS
    assert all(str(link).startswith("https://portal.azure.com/") for link in links.values())
    assert (pool["deferred_slots"], pool["running_slots"], pool["queued_slots"]) == (1, 0, 0)
    assert not Path(f"/proc/{task.pid}").exists()

    assert airflow.wait(task.run) == {"backup": "success", "patch": "success"}
    assert airflow.links(task) == links
    assert airflow.xcom(task, "job_id") == airflow.xcom(task, "job")["job_id"] == airflow.xcom(task) == job_id


def test_another_triggerer_takes_over_from_one_that_was_killed(airflow: Stack, azure: Emulator) -> None:
    before = backups(azure)
    task = deferred(airflow)
    job_id = airflow.xcom(task, "job_id")
    airflow.stop("triggerer", kill=True)
    airflow.start("triggerer")

    assert airflow.wait(task.run) == {"backup": "success", "patch": "success"}
    assert airflow.xcom(task, "job")["job_id"] == job_id
    assert backups(azure) == before + 1
    assert azure.count(method="POST", path_contains="/cancel") == 0


def test_a_trigger_shows_no_secret_in_the_api(airflow: Stack, azure: Emulator) -> None:
    task = deferred(airflow)
    trigger = airflow.task(task.run, "backup").facts["trigger"]
    assert trigger["classpath"] == "airflow_provider_azbackup.triggers.AzureBackupJobTrigger"
    assert azure.connection()["password"] not in str(trigger)
    finish(airflow, task.run)


def test_no_log_holds_a_secret_or_a_token(airflow: Stack, azure: Emulator) -> None:
    logs = [path.read_text(errors="replace") for path in airflow.home.rglob("*.log*") if path.is_file()]
    assert len(logs) > 10
    for secret in (azure.connection()["password"], "Bearer ey", "client_secret="):
        assert not [log for log in logs if secret in log]


def finish(airflow: Stack, run: Run) -> None:
    assert airflow.wait(run)["backup"] == "success"

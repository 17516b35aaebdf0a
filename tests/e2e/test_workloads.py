"""What can be done for which workload: the first rows of the table in docs/workloads.md, in one run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from dev.stack.airflow_api import Run, Task
from dev.stack.stack import Stack
from tests.e2e.azure import Azure
from tests.test_workloads import CANNOT, CELLS, ON_AIRFLOW

pytestmark = pytest.mark.e2e

CAN = [cell for cell in CELLS if cell not in CANNOT and cell[0] in ON_AIRFLOW]


def _done(operation: str, outcome: str) -> Callable[[Any], bool]:
    # A database's operations are reported with their type: "Backup (Full)". A restore in the secondary region
    # is a "CrossRegionRestore" in Recovery Services vaults.
    return lambda job: job["operation"].split()[0].endswith(operation) and job["outcome"] == outcome


# The XCom in which a task reports what came of it, and how to see there that it was done.
TOLD: dict[str, tuple[str, str, Callable[[Any], bool]]] = {
    "back up": ("back_up", "job", _done("Backup", "succeeded")),
    "wait": ("wait", "job", _done("Backup", "succeeded")),
    "cancel": ("cancel", "job", _done("Backup", "cancelled")),
    "check a restore": ("check", "validation", lambda record: record["works"] is True),
    "restore": ("restore", "job", _done("Restore", "succeeded")),
    "freshness": ("freshness", "return_value", bool),
    "drill": ("proven_restore.record", "restore_record", lambda record: record["proven"] is True),
    "secondary region": ("secondary_region", "job", _done("Restore", "succeeded")),
    "recovery point": ("back_up", "recovery_point", lambda point: bool(point["arm_id"] and point["tiers"])),
}


@pytest.fixture(scope="module")
def tasks(airflow: Stack, begun: Mapping[str, Run]) -> dict[str, Task]:
    run = begun["test_workloads"]
    airflow.wait(run, timeout=420)
    return {task.name: task for task in airflow.tasks(run)}


@pytest.mark.parametrize(("workload", "what"), CAN, ids=lambda each: each)
def test_it_can_on_a_real_airflow(airflow: Stack, tasks: dict[str, Task], workload: str, what: str) -> None:
    name, key, shows = TOLD[what]
    task = tasks[f"{workload.replace(' ', '_')}.{name}"]
    assert task.state == "success"
    told: Any = airflow.xcom(task, key)
    assert shows(told), told


def test_nothing_in_the_run_went_another_way(tasks: dict[str, Task]) -> None:
    assert {task.state for task in tasks.values()} == {"success"}


def test_each_restore_in_the_secondary_region_was_asked_for_there_and_once(
    tasks: dict[str, Task], calm_azure: Azure
) -> None:
    asked = [entry["path"].partition("?")[0] for entry in calm_azure.find(method="POST")]
    there = [path for path in asked if path.endswith(("/backupCrossRegionRestore", "/crossRegionRestore"))]
    assert len(there) == sum(name.endswith(".secondary_region") for name in tasks) > 0

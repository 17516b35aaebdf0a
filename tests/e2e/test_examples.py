"""The examples on a real Airflow: what runs after a backup, what stays shut, and what Azure was asked."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from dev.demo.demo import BACKUPS, CONF, DRILLED, EXPECTED, MACHINES, NIGHTLY, SAMPLED, shortcomings
from dev.stack.airflow_api import FINISHED, Json, Run
from dev.stack.pace import Limit
from dev.stack.stack import Stack
from tests.e2e.azure import Azure
from tests.e2e.conftest import SETTINGS

pytestmark = pytest.mark.e2e


@dataclass
class Story:
    """All examples run side by side, and what was seen of them on the way."""

    runs: dict[str, Run]
    requests: list[Json] = field(default_factory=list)
    deferred_at_once: int = 0
    states: dict[str, dict[str, str]] = field(default_factory=dict)


@pytest.fixture(scope="module")
def story(airflow: Stack, azure: Azure) -> Iterator[Story]:
    for number in range(1, 21):
        # Half a real minute here: long enough for all of them to be waiting at once, on a busy machine too.
        azure.plan(f"fleet-{number:02}", seconds=3600)
    for machine in (DRILLED, *SAMPLED):
        azure.start_job(machine, seconds=1)
    for machine in NIGHTLY:
        azure.start_job(machine, seconds=3600)
    before = len(azure.requests)
    story = Story(runs={dag_id: airflow.run_dag(dag_id, CONF.get(dag_id)) for dag_id in EXPECTED})
    fleet, going, limit = story.runs["azbackup_fleet"], list(story.runs.values()), Limit(420)
    while going:
        airflow.check()
        states = Counter(task.state for task in airflow.tasks(fleet)) if fleet in going else Counter()
        story.deferred_at_once = max(story.deferred_at_once, states["deferred"])
        going = [run for run in going if airflow.state(run) not in FINISHED]
        assert not limit.is_over, f"the examples have not ended after {limit}"
        time.sleep(1)
    story.requests = azure.requests[before:]
    story.states = {
        dag_id: {task.name: task.state for task in airflow.tasks(run)} for dag_id, run in story.runs.items()
    }
    yield story


@pytest.mark.parametrize("dag_id", EXPECTED)
def test_every_task_of_an_example_ends_as_it_must(story: Story, dag_id: str) -> None:
    assert story.states[dag_id] == EXPECTED[dag_id]


def test_each_backup_is_asked_for_once(story: Story, airflow: Stack) -> None:
    asked = Counter(
        entry["path"].lower()
        for entry in story.requests
        if entry["method"] == "POST" and entry["path"].lower().endswith("/backup")
    )
    assert len(asked) == BACKUPS
    # A retry takes a failed backup again, and Airflow retries a task whose heartbeat it misses: two
    # backups are meant to fail.
    failing = [
        airflow.task(story.runs[dag_id], "backup")
        for dag_id, tasks in EXPECTED.items()
        if tasks.get("backup") == "failed"
    ]
    tries = {airflow.xcom(task, "job")["item"].lower(): task.try_number for task in failing}
    for path, times in asked.items():
        item = path.removesuffix("/backup").rpartition(";")[2]
        assert 1 <= times <= tries.get(item, 1), (path, times)


def test_the_demo_finds_nothing_wrong_with_them(airflow: Stack, story: Story) -> None:
    found = shortcomings(airflow, story.requests, story.runs.values(), MACHINES)
    # How often Azure was asked is counted by another test, which allows for Airflow's own retries.
    assert [each for each in found if "must end" in each] == []


def test_the_fleet_waits_without_worker_slots(story: Story) -> None:
    # If more of them wait than tasks can run at a time, waiting takes none.
    assert story.deferred_at_once > int(SETTINGS["AIRFLOW__CORE__PARALLELISM"])


def test_azure_sees_who_is_asking(story: Story) -> None:
    agents = {entry["user_agent"] for entry in story.requests if "/subscriptions/" in entry["path"]}
    assert all(agent.startswith("airflow-provider-azbackup/") for agent in agents)
    assert agents


def test_a_failed_backup_leaves_the_reason_for_others_to_read(story: Story, airflow: Stack) -> None:
    run = story.runs["azbackup_backup_fails"]
    job = airflow.xcom(airflow.task(run, "backup"), "job")
    assert (job["status"], job["outcome"]) == ("Failed", "failed")
    assert job["errors"][0]["title"] == "UserErrorVmNotInDesirableState"
    assert job["errors"][0]["recommendations"]
    assert "UserErrorVmNotInDesirableState" in airflow.xcom(airflow.task(run, "notify"))


def test_a_failed_backup_says_so_in_the_log_of_its_task(story: Story, airflow: Stack) -> None:
    task = airflow.task(story.runs["azbackup_backup_fails"], "backup")
    raised = [error for line in airflow.log(task) for error in line.get("error_detail") or []]
    assert raised[0]["exc_type"] == "AzureBackupJobFailedError"
    assert "UserErrorVmNotInDesirableState" in raised[0]["exc_value"]
    assert airflow.xcom(task, "job_id") in raised[0]["exc_value"]


def test_a_backup_cancelled_in_transfer_is_cancelled_even_where_warnings_pass(
    story: Story, airflow: Stack
) -> None:
    job = airflow.xcom(airflow.task(story.runs["azbackup_cancelled_in_transfer"], "backup"), "job")
    assert (job["status"], job["outcome"]) == ("CompletedWithWarnings", "cancelled")


def test_every_machine_of_the_fleet_has_a_job_of_its_own(story: Story, airflow: Stack) -> None:
    run = story.runs["azbackup_fleet"]
    jobs = [
        airflow.xcom(task, "job")
        for task in airflow.tasks(run)
        if task.task_id == "backup" and task.state == "success"
    ]
    assert sorted(job["item"] for job in jobs) == [f"fleet-{number:02}" for number in range(1, 21)]
    assert len({job["job_id"] for job in jobs}) == 20


def test_the_sensor_waited_for_the_very_job_that_was_handed_over(story: Story, airflow: Stack) -> None:
    run = story.runs["azbackup_job_handed_over"]
    job = airflow.xcom(airflow.task(run, "backed_up"), "job")
    assert job["job_id"] == airflow.xcom(airflow.task(run, "start"))
    assert job["item"] == "vm-handed-over"


def test_the_drill_restores_what_the_night_left_and_asks_for_it_once(story: Story, airflow: Stack) -> None:
    task = airflow.task(story.runs["azbackup_restore_drill"], "restore")
    job, point = airflow.xcom(task, "job"), airflow.xcom(task, "recovery_point")
    assert (job["operation"], job["outcome"], job["item"]) == ("Restore", "succeeded", DRILLED)
    asked = [
        entry["path"]
        for entry in story.requests
        if entry["path"].endswith("/restore") and f";{DRILLED}/" in entry["path"]
    ]
    assert [path.lower() for path in asked] == [f"{point['arm_id']}/restore".lower()]


def test_a_sample_of_the_fleet_is_proven_one_by_one(story: Story, airflow: Stack) -> None:
    tasks = airflow.tasks(story.runs["azbackup_sampled_drill"])
    records = [airflow.xcom(task, "restore_record") for task in tasks if task.task_id.endswith(".record")]
    assert [(each["proven"], each["reasons"], each["run"]["map_index"]) for each in records] == [
        (True, [], 0),
        (True, [], 1),
    ]
    drawn = airflow.xcom(airflow.task(story.runs["azbackup_sampled_drill"], "sample"))
    assert [each["item_id"].lower() for each in records] == [item.lower() for item in drawn]
    assert all(each["rto_seconds"] > 0 and each["rpo_seconds"] > 0 for each in records)
    assert all(each["checks"] == {"one.proven_restore.boots": "success"} for each in records)
    names = {made["name"] for each in records for made in each["made"]}
    assert len(names) == 2
    assert all(name.startswith("drill-") for name in names)


def test_a_patch_that_fails_brings_back_what_its_own_backup_has_kept(story: Story, airflow: Stack) -> None:
    run = story.runs["azbackup_guarded_patch"]
    backup, restore = (airflow.task(run, f"backed_up.{name}") for name in ("backup", "restore"))
    point = airflow.xcom(backup, "recovery_point")
    assert airflow.xcom(restore, "recovery_point")["arm_id"] == point["arm_id"]
    (asked,) = [
        entry["path"]
        for entry in story.requests
        if entry["path"].endswith("/restore") and ";vm-patched/" in entry["path"]
    ]
    assert asked.lower() == f"{point['arm_id']}/restore".lower()


def test_the_gates_of_last_night_open_behind_points_that_are_in_the_vault(
    story: Story, airflow: Stack
) -> None:
    run = story.runs["azbackup_last_night"]
    gates = [task for task in airflow.tasks(run) if task.task_id == "backed_up"]
    points = [airflow.xcom(task, "recovery_point") for task in gates]
    assert len({point["arm_id"] for point in points}) == len(NIGHTLY)
    assert all(point["tiers"]["HardenedRP"] == "Valid" for point in points)

"""Whatever an earlier release has left, handed over or pushed, today's reads: waits go on through an upgrade.

``tests/repository/upgrades`` holds what ``python -m dev.release.upgrades`` saw of the revisions that the
files are called after.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred
from airflow.triggers.base import BaseTrigger

from airflow_provider_azbackup import exceptions as errors
from airflow_provider_azbackup import triggers
from airflow_provider_azbackup.core.model.progress import PROGRESS
from airflow_provider_azbackup.core.polling.checkpoint import Checkpoint
from airflow_provider_azbackup.core.start.intent import StartRecord
from airflow_provider_azbackup.operators import AzureBackupOperator
from airflow_provider_azbackup.runtime.compat import IS_AIRFLOW_3
from airflow_provider_azbackup.tasks.state import KEY
from airflow_provider_azbackup.triggerer.checkpoints import VariableStore
from azure_backup_emulator import Emulator
from dev.release.upgrades import CASES, RECORDS, WATCH, make
from tests.support.tasks import Store, TaskInstance, run

RECORDED = {path.stem: json.loads(path.read_text()) for path in sorted(Path(RECORDS).glob("*.json"))}
STORIES = {
    f"{revision}: {case}": (case, story)
    for revision, stories in RECORDED.items()
    for case, story in stories.items()
    if case != WATCH
}
# Not of every revision: the first ones knew no watches, or recorded none.
WATCHES = {revision: stories[WATCH] for revision, stories in RECORDED.items() if WATCH in stories}
EACH = pytest.mark.parametrize(("case", "story"), STORIES.values(), ids=STORIES)


def rebuilt(path: str, arguments: dict[str, Any]) -> BaseTrigger:
    module, _, name = path.rpartition(".")
    trigger: BaseTrigger = getattr(import_module(module), name)(**arguments)
    return trigger


def without_additions(now: Any, then: Any) -> Any:
    """Return a value without the keys that a later release has added, at any depth."""
    if isinstance(now, dict) and isinstance(then, dict):
        return {name: without_additions(now[name], then[name]) for name in then}
    if isinstance(now, list) and isinstance(then, list) and len(now) == len(then):
        return [without_additions(one, other) for one, other in zip(now, then, strict=True)]
    return now


def test_every_case_was_recorded_of_some_revision() -> None:
    assert {case for case, _ in STORIES.values()} == set(CASES)


@EACH
def test_a_trigger_is_rebuilt_as_it_was(case: str, story: dict[str, Any]) -> None:
    path, arguments = story["trigger"]
    path_now, arguments_now = rebuilt(path, arguments).serialize()
    assert path_now == path
    now = {name: arguments_now.get(name) for name in arguments}
    assert now == {**arguments, "version": triggers.VERSION}


@EACH
def test_a_task_goes_on_behind_its_wait(azure: Emulator, case: str, story: dict[str, Any]) -> None:
    ti = TaskInstance(store=Store(story["notes"]), retries=2)
    result: Any = None
    error = None
    try:
        result = make(case, story["job_id"]).resume_execution(story["method"], story["handed"], ti.context)
    except TaskDeferred as again:
        result = {"deferred": again.trigger.serialize()[0]}
    except errors.AzureBackupError as met:
        error = type(met).__name__
    assert (result, error) == (story["result"], story["error"])
    for key, pushed in story["xcoms"].items():
        if key == PROGRESS and not IS_AIRFLOW_3:
            continue  # they were recorded on Airflow 3; before it nothing reports progress
        now = ti.xcoms[key]
        if isinstance(pushed, dict):  # of which only the moment of the look is another
            now = {**without_additions(now, pushed), "last_look": pushed.get("last_look")}
            pushed = {"last_look": None, **pushed}
        assert now == pushed


@EACH
def test_the_note_of_a_try_is_read_as_it_was_written(case: str, story: dict[str, Any]) -> None:
    for key, stored in story["notes"].items():
        assert key == KEY
        note = StartRecord.from_dict(stored)
        assert note is not None
        assert {name: note.to_dict().get(name) for name in stored} == stored


@pytest.mark.parametrize("left", WATCHES.values(), ids=WATCHES)
def test_a_watch_goes_on_where_it_was(left: dict[str, Any]) -> None:
    path, arguments = left["trigger"]
    path_now, arguments_now = rebuilt(path, arguments).serialize()
    assert path_now == path
    assert {name: arguments_now.get(name) for name in arguments} == arguments
    checkpoint = Checkpoint.from_dict(left["checkpoint"])
    assert checkpoint is not None
    assert checkpoint.reported
    assert checkpoint.running
    assert {name: checkpoint.to_dict().get(name) for name in left["checkpoint"]} == left["checkpoint"]
    # Below Airflow 3.3 it lies in a Variable whose name is made of the arguments.
    assert VariableStore(path_now, arguments_now).name == left["variable"]


def test_a_watch_was_recorded() -> None:
    assert WATCHES


# --- and what a newer release has left is refused, or left aside, in words


# A resume from this one reads the recovery point from Azure, which no record holds.
TIER = triggers.AzureBackupTierTrigger(
    job_id="/subscriptions/s/resourceGroups/g/providers/Microsoft.RecoveryServices/vaults/v/backupJobs/j",
    recovery_point="p",
    min_tier="HardenedRP",
    azure_backup_conn_id="azure_backup_default",
    deadline=1.0,
).serialize()
# What asks nothing is handed nothing that a record could show.
PAUSE = triggers.AzureBackupPauseTrigger(
    azure_backup_conn_id="azure_backup_default", deadline=1.0
).serialize()
# Its worker asks nothing, and a record of its event would be as long as an estate.
FLEET = triggers.AzureBackupFleetTrigger(
    scope={"vaults": ["/subscriptions/s/resourceGroups/g/providers/Microsoft.RecoveryServices/vaults/v"]},
    condition={"after": 1.0, "accept_warnings": False},
    azure_backup_conn_id="azure_backup_default",
    poll_interval=60.0,
    deadline=1.0,
).serialize()
TRIGGERS = {
    TIER[0]: TIER[1],
    FLEET[0]: FLEET[1],
    PAUSE[0]: PAUSE[1],
    **{story["trigger"][0]: story["trigger"][1] for _, story in STORIES.values()},
}


@pytest.mark.parametrize("path", TRIGGERS)
def test_a_trigger_of_a_newer_release_says_what_to_upgrade(path: str) -> None:
    """As a TypeError: it is what Airflow expects here; any other ends the triggerer with all its waits."""
    with pytest.raises(TypeError, match=r"newer release.*version 99.*upgrade the triggerer"):
        rebuilt(path, {**TRIGGERS[path], "version": 99, "invented": True})


@pytest.mark.parametrize("path", TRIGGERS)
def test_a_trigger_says_its_version(path: str) -> None:
    assert rebuilt(path, TRIGGERS[path]).serialize()[1]["version"] == triggers.VERSION


def test_every_trigger_that_a_task_waits_in_was_recorded() -> None:
    watch = f"{triggers.__name__}.AzureBackupEventTrigger"  # no task's: made again whenever its DAG is read
    own = {
        f"{kind.__module__}.{name}"
        for name, kind in vars(triggers).items()
        if isinstance(kind, type) and issubclass(kind, BaseTrigger) and not name.startswith("_")
    }
    assert {path for path in own if path.startswith("airflow_provider_azbackup.")} == {*TRIGGERS, watch}


@pytest.mark.parametrize("kind", ["backup", "job", "cancel", "freshness"])
def test_an_event_of_a_newer_release_says_what_to_upgrade(azure: Emulator, kind: str) -> None:
    task = make(kind, "6a7b0b7e-1c3d-4e5f-8a9b-0c1d2e3f4a5b")
    with pytest.raises(
        errors.AzureBackupError, match=r"newer release.*version 99.*upgrade the worker, then retry"
    ):
        task.resume_execution("execute_complete", {"event": {"version": 99}}, TaskInstance().context)


@pytest.fixture
def back_up(azure: Emulator) -> Callable[[TaskInstance], Any]:
    return lambda ti: run(lambda: AzureBackupOperator(task_id="task", protected_item="vm-good"), ti)


def test_a_note_of_a_newer_release_is_logged_and_the_running_backup_is_waited_out(
    azure: Emulator, back_up: Callable[[TaskInstance], Any], caplog: pytest.LogCaptureFixture, capsys: Any
) -> None:
    running = azure.start_job("vm-good", seconds=600)
    ti = TaskInstance(store=Store({KEY: {"version": 99, "invented": True}}), retries=2).retry()
    with caplog.at_level(logging.WARNING):
        assert back_up(ti) != running
    # Where a log goes to depends on the release.
    said = caplog.text + "".join(capsys.readouterr())
    assert "has left a record that this release of airflow-provider-azbackup cannot read" in said
    assert azure.count("POST", "/backup") == 1

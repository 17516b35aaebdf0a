"""A person decides about two restores in place: nothing is asked of Azure before a yes, nor after a no.

The run began with those of other modules. One restore is approved by the request that Airflow's UI sends. The
other is rejected in the browser, by ``test_page``; where that was left out, it is rejected as the first is
approved.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pytest

from dev.stack.airflow_api import Json, Run, Task
from dev.stack.pace import stretch
from dev.stack.stack import USER, Stack
from tests.e2e.azure import Azure

pytestmark = pytest.mark.e2e

# By the name of its task, which is also what the record calls the decision: the VM and the option chosen.
TASKS = {"approved": ("vm-patched", "Approve"), "rejected": ("payroll-vm", "Reject")}


@dataclass
class Decided:
    """A run of which every question is answered, and what was there before an answer."""

    tasks: dict[str, Task] = field(default_factory=dict)
    questions: dict[str, Json] = field(default_factory=dict)
    requests: dict[str, int] = field(default_factory=dict)


def question_of(task: Task) -> str:
    return f"{task.path}/{task.map_index}/hitlDetails"


def once_its_worker_has_left(airflow: Stack, task: Task) -> Json:
    """Return the question of a task. If the answer comes earlier, Airflow fails that try and asks again."""
    question = airflow.call("GET", question_of(task))
    asked_at = datetime.fromisoformat(question["created_at"]).timestamp()
    time.sleep(max(0.0, asked_at + 15 * stretch() - time.time()))
    return question


@pytest.fixture(scope="module")
def decided(airflow: Stack, calm_azure: Azure, begun: Mapping[str, Run]) -> Decided:
    run, decided = begun["test_restore_approval"], Decided()
    for task in airflow.changes(run, timeout=240):
        if task.state == "awaiting_input":
            vm, option = TASKS[task.name]
            decided.questions[task.name] = once_its_worker_has_left(airflow, task)
            decided.requests[task.name] = len(calm_azure.find(path_contains=vm))
            answer = {"chosen_options": [option], "params_input": {"reason": f"because of {vm}"}}
            airflow.call("PATCH", question_of(task), answer)
    decided.tasks = {task.name: task for task in airflow.tasks(run)}
    return decided


def test_the_question_comes_before_any_request_to_azure(decided: Decided) -> None:
    question = decided.questions["approved"]
    assert (question["subject"], question["options"]) == ("Restore vm-patched?", ["Approve", "Reject"])
    assert "original_vm" in question["body"]
    assert question["defaults"] is None
    assert set(decided.requests.values()) == {0}


def test_only_what_was_approved_is_restored_and_nobody_is_asked_twice(
    decided: Decided, calm_azure: Azure
) -> None:
    ends = {name: (task.state, task.try_number) for name, task in decided.tasks.items()}
    assert ends == {"approved": ("success", 1), "rejected": ("failed", 1)}
    asked = [each["path"] for each in calm_azure.find(method="POST", path_contains="vm-patched")]
    assert [path.rpartition("/")[2] for path in asked] == ["restore"]
    assert calm_azure.find(path_contains="payroll-vm") == []


@pytest.mark.parametrize("decision", TASKS)
def test_the_record_says_who_decided_and_why(airflow: Stack, decided: Decided, decision: str) -> None:
    task = decided.tasks[decision]
    answer = airflow.call("GET", question_of(task))
    record: Any = airflow.xcom(task, "approval")
    assert (record["decision"], record["name"]) == (decision, USER)
    assert record["by"] == answer["responded_by_user"]["id"]
    assert record["reason"] == answer["params_input"]["reason"] != ""
    assert any(f"{decision} by {USER}" in str(line) for line in airflow.log(task))

"""No conversation repeats what asks nothing: between two requests there is always an end or a pause."""

from __future__ import annotations

import inspect
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NoReturn

import pytest

from airflow_provider_azbackup import exceptions
from airflow_provider_azbackup.core.conversations import (
    checks,
    items,
    jobs,
    matching,
    operations,
    recovery_point_of_job,
    recovery_points,
    retry,
    secondary_region,
    vaults,
)
from airflow_provider_azbackup.core.conversations.jobs import get_job
from airflow_provider_azbackup.core.model.jobs import Job
from airflow_provider_azbackup.core.model.recovery_points import RecoveryPoint
from airflow_provider_azbackup.core.model.resources import BackupInstance
from airflow_provider_azbackup.core.rest import requests
from airflow_provider_azbackup.core.rest.responses import read_job
from airflow_provider_azbackup.core.restore import plan
from airflow_provider_azbackup.core.start import search
from airflow_provider_azbackup.core.start.intent import BackupIntent, Prepared, StartRecord
from airflow_provider_azbackup.core.start.search import start_or_adopt
from airflow_provider_azbackup.core.wire import Answer, Flow, Request
from airflow_provider_azbackup.exceptions import AzureBackupConfigError, AzureBackupError
from airflow_provider_azbackup.page import summary
from tests.support.play import ITEM, JOB, LOST, OPERATION, START, UNSENT, VAULT, answered, job_is

MODULES = (
    search,
    checks,
    items,
    jobs,
    matching,
    operations,
    plan,
    recovery_point_of_job,
    recovery_points,
    retry,
    secondary_region,
    summary,
    vaults,
)
ERRORS = [
    kind for _, kind in inspect.getmembers(exceptions, inspect.isclass) if issubclass(kind, AzureBackupError)
]
ANSWERS: dict[str, Answer] = {
    "no answer": LOST,
    "not sent": UNSENT,
    "503": answered(503),
    "404": answered(404),
    "busy": answered(400, {"error": {"code": "UserErrorBackupOperationInProgress"}}),
    "an empty list": answered(200, {"value": []}),
    "a job": job_is("InProgress", operation="Backup"),
}
# Seconds of CPU, a thousand times what a step needs: a loop that asks nothing never comes to its end.
LONGEST_STEP = 2.0
MOST_REQUESTS = 300
DISK = BackupInstance(vault=replace(VAULT, vault_type="DataProtection"), name="disk")
VM = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/v"
BODY: dict[str, Any] = {
    "properties": {"objectType": "AzureBackupRestoreRequest"},
    "backupRuleOptions": {"ruleName": "", "triggerOption": {}},
}


@contextmanager
def no_spinning(what: str) -> Iterator[None]:
    """Fail when a step takes more CPU than any step can need."""

    def spins(*_: object) -> NoReturn:
        pytest.fail(f"{what} spins without a request")

    before = signal.signal(signal.SIGVTALRM, spins)
    signal.setitimer(signal.ITIMER_VIRTUAL, LONGEST_STEP)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def hold(what: str, make: Callable[[], Flow[Any]], answer: Answer) -> None:
    """Hold a conversation to its end, or until it has asked often enough to show that it asks."""
    at = START
    try:
        with no_spinning(what):
            flow = make()
            request: Request = next(flow)
        for _ in range(MOST_REQUESTS):
            at += request.delay
            with no_spinning(what):
                request = flow.send(replace(answer, at=at))
    except (StopIteration, AzureBackupError):
        return


class Raises:
    """Stands in for an item, a job, a call or a function: whatever is asked of it raises."""

    def __init__(self, kind: type[AzureBackupError]) -> None:
        object.__setattr__(self, "kind", kind)

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("__"):
            return object.__getattribute__(self, name)
        return self()

    def __call__(self, *_: object, **__: object) -> NoReturn:
        # A new one each time: the traceback of one that is raised again and again never ends.
        raise object.__getattribute__(self, "kind")("raised before any request")


def raising(kind: type[AzureBackupError]) -> Callable[..., Flow[Any]]:
    """Return a function that makes a conversation which raises and asks nothing."""

    def silent(*_: object, **__: object) -> Flow[Any]:
        raise kind("raised before any request")
        yield  # a conversation all the same

    return silent


def a_job(management: str = "AzureIaasVM") -> Job:
    properties = {"operation": "Backup", "entityFriendlyName": "shop-vm", "startTime": "2026-09-21T14:00:00Z"}
    return read_job(JOB, job_is("Completed", backupManagementType=management, **properties))


INTENT = BackupIntent(
    item=ITEM, attempt="1", now=START, timeout=3600.0, if_running="wait", body={"properties": {}}
)
# A value for each parameter of a conversation, by its name.
VALUES: dict[str, Any] = {
    **{"vault": VAULT, "item": ITEM, "instance": DISK, "ref": JOB, "job": a_job(), "failed": a_job()},
    **{"request": requests.get_job(JOB), "first": requests.list_jobs(VAULT), "name": "shop-vm", "body": BODY},
    **{"intent": INTENT, "record": None, "matcher": matching.JobMatcher.of_vm(ITEM)},
    **{"save": lambda record: None, "log": lambda text: None, "on_read": lambda job, fault: None},
    **{"make": lambda: get_job(JOB), "flow": None, "now": START, "since": START, "after": START - 600},
    **{"until": START + 600, "deadline": START + 600, "seconds": 5.0, "poll_interval": 60.0},
    **{"point": RecoveryPoint(item=ITEM, point_id="1"), "point_id": "1", "min_tier": "HardenedRP"},
    **{"on_demand": True, "vm_id": VM, "region": "westeurope", "subscription_id": VAULT.subscription_id},
    **{"vault_type": "RecoveryServices", "wanted": True},
    **{"plan": plan.RestorePlan(body=BODY, point="1"), "action": "backup", "source": VM},
}
CONVERSATIONS = {
    f"{module.__name__.rpartition('.')[2]}.{name}": function
    for module in MODULES
    for name, function in inspect.getmembers(module, inspect.isfunction)
    if function.__module__ == module.__name__
    and not name.startswith("_")
    and str(function.__annotations__.get("return")).startswith("Flow[")
}


def arguments(function: Callable[..., Any], **changes: Any) -> dict[str, Any]:
    """What to call a conversation with; its options keep their defaults."""
    known: dict[str, Any] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        needed = parameter.default is parameter.empty and parameter.kind not in (
            parameter.VAR_KEYWORD,
            parameter.VAR_POSITIONAL,
        )
        if needed or name in ("source",):
            known[name] = get_job(JOB) if name == "flow" else VALUES[name]
    if "operation" in function.__name__:
        known["ref"] = OPERATION
    return {**known, **changes}


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("conversation", CONVERSATIONS)
def test_a_conversation_does_not_repeat_what_raises_before_its_first_request(
    conversation: str, error: type[AzureBackupError]
) -> None:
    function = CONVERSATIONS[conversation]
    for name, value in arguments(function).items():
        if value is None or isinstance(value, int | float | str | dict):
            continue
        stand_in = {"make": raising(error), "flow": raising(error)()}.get(name, Raises(error))
        changed = arguments(function, **{name: stand_in})
        hold(f"{conversation}({name}=...)", lambda changed=changed: function(**changed), LOST)


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
@pytest.mark.parametrize("conversation", CONVERSATIONS)
def test_a_conversation_asks_or_pauses_or_ends(conversation: str, answer: Answer) -> None:
    function = CONVERSATIONS[conversation]
    hold(conversation, lambda: function(**arguments(function)), answer)


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
@pytest.mark.parametrize("note", [True, False])
def test_a_start_does_not_repeat_a_preparation_that_asks_nothing(
    note: bool, answer: Answer, error: type[AzureBackupError]
) -> None:
    class Unprepared(BackupIntent):
        def prepare(self) -> Flow[Prepared]:
            return raising(error)()

    intent = Unprepared(**vars(INTENT))
    left = (
        StartRecord(item=ITEM.path, attempt="1", since=START, attempt_began=START, requested_at=START)
        if note
        else None
    )
    for fresh in (intent, replace(intent, if_running="adopt"), replace(intent, if_running="fail")):
        hold(
            "start_or_adopt",
            lambda fresh=fresh: start_or_adopt(fresh, left, save=lambda note: None, log=lambda text: None),
            answer,
        )


@pytest.mark.parametrize("management", ["MAB", "DPM", "AzureBackupServer", "AzureSql", ""])
def test_the_recovery_point_of_a_job_that_lists_none_is_refused_without_a_request(management: str) -> None:
    with no_spinning("find_recovery_point"), pytest.raises(AzureBackupConfigError):
        next(recovery_point_of_job.find_recovery_point(a_job(management), None, START))

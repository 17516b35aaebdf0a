"""Arguments that are not what they seem: text for a boolean, codes for warnings."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_azbackup import drill, guard, operators, sensors
from airflow_provider_azbackup.exceptions import (
    AzureBackupConfigError,
    AzureBackupJobFailedError,
    AzureBackupWrongJobError,
)
from airflow_provider_azbackup.operators import AzureBackupOperator
from airflow_provider_azbackup.restore_to import original_share, other_database, other_share
from airflow_provider_azbackup.runtime.compat import asks_people
from airflow_provider_azbackup.sensors import AzureBackupFreshnessSensor, AzureBackupJobSensor
from airflow_provider_azbackup.tasks.base import AzureBackupBaseOperator
from azure_backup_emulator import Emulator
from tests.support.tasks import Store, TaskInstance, fire, run

GUID = "5f0c5b7e-6f0a-4b8e-9c57-0d5a3c1f2e4d"
BOTH = pytest.mark.parametrize("deferrable", [False, True], ids=["in the worker", "deferred"])
RESTORE = {"protected_item": "documents", "restore_to": original_share(copy_options="Overwrite")}
ACCOUNT = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/a"
DRILL = other_share(storage_account_id=ACCOUNT, share="drill", copy_options="Skip")
# What the classes cannot do without.
NEEDED: dict[str, dict[str, Any]] = {
    "AzureBackupOperator": {"protected_item": "vm-good"},
    "AzureBackupRestoreOperator": RESTORE,
    "AzureBackupRestoreOnFailureOperator": {**RESTORE, "setup_task_id": "backup"},
    "AzureBackupDrillRestoreOperator": {"protected_item": "documents", "restore_to": DRILL},
    "AzureBackupCancelJobOperator": {"job_id": GUID},
    "AzureBackupListProtectedItemsOperator": {},
    "AzureBackupJobSensor": {"job_id": GUID},
    "AzureBackupFreshnessSensor": {"protected_item": "vm-good"},
    "AzureBackupFleetSensor": {},
}


def classes() -> Iterator[Any]:
    for module in (operators, sensors, drill, guard):
        for name, kind in vars(module).items():
            is_task = name.startswith("AzureBackup") and name.endswith(("Operator", "Sensor"))
            # The record of a drill talks to no vault.
            if is_task and kind.__module__ == module.__name__ and issubclass(kind, AzureBackupBaseOperator):
                yield kind


def booleans() -> Iterator[tuple[Any, str]]:
    """Every boolean argument of every operator and sensor, and Airflow's own that forgive a sensor."""
    for kind in classes():
        # Airflow wraps the constructor of every class, its own of those that have none, too.
        made = [inspect.unwrap(vars(each)["__init__"]) for each in kind.__mro__ if "__init__" in vars(each)]
        mine = [
            each
            for init in made
            if getattr(init, "__module__", "").startswith("airflow_provider_azbackup")
            for each in inspect.signature(init).parameters.values()
        ]
        names = {
            each.name for each in mine if str(each.annotation) in ("bool", "bool | None", "AcceptWarnings")
        }
        if kind.__name__.endswith("Sensor"):
            names |= {"soft_fail", "never_fail"}
        for name in sorted(names):
            yield kind, name


def test_every_class_is_known() -> None:
    assert {kind.__name__ for kind in classes()} == set(NEEDED)
    assert len({name for _, name in booleans()}) > 8


@pytest.mark.parametrize(("kind", "name"), [*booleans()], ids=lambda each: getattr(each, "__name__", each))
@pytest.mark.parametrize("value", ["False", "True", "{{ params.x }}", 0, 1, [None]], ids=str)
def test_what_is_no_boolean_is_refused_when_the_dag_is_parsed(kind: Any, name: str, value: Any) -> None:
    assert name not in kind.template_fields
    with pytest.raises(AzureBackupConfigError, match=f"{name} .*expected True"):
        kind(task_id="task", **NEEDED[kind.__name__], **{name: value})


@pytest.mark.parametrize(("kind", "name"), [*booleans()], ids=lambda each: getattr(each, "__name__", each))
def test_a_boolean_is_taken(kind: Any, name: str) -> None:
    if name == "approve" and not asks_people():
        pytest.skip("this Airflow cannot ask a person")
    for value in (False, True):
        always = ("wait_for_completion", "validate_only")
        if kind is drill.AzureBackupDrillRestoreOperator and name in always:
            continue  # a drill restores, and waits for it
        more = {"require_recovery_point": True} if name == "require_all_disks" else {}
        kind(task_id="task", **{**NEEDED[kind.__name__], **more, name: value})


WARNED = {
    "errorCode": 400094,
    "errorTitle": "UserErrorVmNotInDesirableState",
    "errorString": "VM is not in a state that allows backups.",
    "recommendations": [],
}
ACCEPTED: dict[str, Any] = {
    "all": True,
    "the symbol": {"UserErrorVmNotInDesirableState"},
    "the symbol in another case": ["usererrorvmnotindesirablestate"],
    "the number": (400094,),
    "the number as text": frozenset({"400094"}),
    "one of several": {"SomethingElse", 400094},
}
REFUSED: dict[str, Any] = {
    "none": False,
    "another symbol": {"UserErrorX"},
    "another number": {1},
    "an empty set": set(),
}


@BOTH
@pytest.mark.parametrize("accepted", ACCEPTED.values(), ids=ACCEPTED)
def test_warnings_are_accepted_by_their_codes(azure: Emulator, accepted: Any, deferrable: bool) -> None:
    azure.plan("vm-warned", ending="CompletedWithWarnings", error=WARNED)
    ti = TaskInstance()
    assert run(
        lambda: AzureBackupOperator(
            task_id="b", protected_item="vm-warned", accept_warnings=accepted, deferrable=deferrable
        ),
        ti,
    )
    assert ti.xcoms["job"]["outcome"] == "warned"


@BOTH
@pytest.mark.parametrize("accepted", REFUSED.values(), ids=REFUSED)
def test_other_warnings_keep_the_gate_shut(azure: Emulator, accepted: Any, deferrable: bool) -> None:
    azure.plan("vm-warned", ending="CompletedWithWarnings", error=WARNED)
    with pytest.raises(AzureBackupJobFailedError, match="ended with warnings"):
        run(
            lambda: AzureBackupOperator(
                task_id="b", protected_item="vm-warned", accept_warnings=accepted, deferrable=deferrable
            ),
            TaskInstance(),
        )


def test_a_cancelled_job_is_accepted_by_no_code(azure: Emulator) -> None:
    accepted = {"UserErrorJobSuccessfullyCancelled", 400158}
    with pytest.raises(AzureBackupJobFailedError, match="was cancelled"):
        run(
            lambda: AzureBackupOperator(task_id="b", protected_item="vm-cancelled", accept_warnings=accepted),
            TaskInstance(),
        )


@pytest.mark.parametrize(
    "value", [None, "UserErrorX", 400094, {True}, {""}, {"{{ x }}"}, [1.5], {"a": 1}], ids=repr
)
@pytest.mark.parametrize(
    "kind", [AzureBackupOperator, AzureBackupJobSensor, AzureBackupFreshnessSensor], ids=lambda k: k.__name__
)
def test_accept_warnings_is_a_boolean_or_a_collection_of_codes(kind: Any, value: Any) -> None:
    with pytest.raises(AzureBackupConfigError, match="accept_warnings of task 'task' is"):
        kind(task_id="task", accept_warnings=value, **NEEDED[kind.__name__])


@pytest.mark.parametrize(
    "kind", [AzureBackupOperator, AzureBackupJobSensor, AzureBackupFreshnessSensor], ids=lambda k: k.__name__
)
def test_require_all_disks_needs_the_recovery_point(kind: Any) -> None:
    with pytest.raises(AzureBackupConfigError, match="set require_recovery_point=True as well"):
        kind(task_id="task", require_all_disks=True, **NEEDED[kind.__name__])
    AzureBackupFreshnessSensor(
        task_id="task", protected_item="vm-good", max_age=timedelta(hours=1), require_all_disks=True
    )


# Arguments that text of a template is refused for, and those that Airflow renders

TEMPLATE = "{{ params.x }}"
DOCUMENTED = Path(__file__).parents[2] / "docs" / "reference" / "arguments.md"
TASKS = pytest.mark.parametrize("kind", [*classes()], ids=lambda each: each.__name__)


def own_arguments(kind: Any) -> set[str]:
    """The arguments of a class that Airflow's base classes do not have."""
    # Airflow wraps the constructor of every class, its own of those that have none, too.
    made = [inspect.unwrap(vars(each)["__init__"]) for each in kind.__mro__ if "__init__" in vars(each)]
    mine = [init for init in made if getattr(init, "__module__", "").startswith("airflow_provider_azbackup")]
    every = {name for init in mine for name in inspect.signature(init).parameters} - {"self", "kwargs"}
    return every - {"setup_task_id"}


def with_template(kind: Any, name: str) -> Any:
    needed = {**NEEDED[kind.__name__], name: TEMPLATE}
    if name == "job_id":
        needed.pop("protected_item", None)
    if name == "point_in_time":
        needed["restore_to"] = other_database(database="MSSQLSERVER/payroll")
    if name == "request":
        needed = {**needed, "restore_to": None, name: {"objectType": TEMPLATE}}
    return kind(task_id="task", **needed)


@TASKS
def test_a_template_is_refused_when_the_dag_is_parsed_where_it_would_never_be_rendered(kind: Any) -> None:
    for name in sorted(own_arguments(kind) - set(kind.template_fields)):
        with pytest.raises(AzureBackupConfigError, match=name):
            with_template(kind, name)


@TASKS
def test_a_template_is_taken_and_rendered_where_that_is_promised(kind: Any) -> None:
    for name in kind.template_fields:
        if name in ("restore_to", "request"):
            continue  # dicts, which Airflow renders from the inside; see tests/tasks/test_restores.py
        task = with_template(kind, name)
        task.render_template_fields({"params": {"x": "rendered"}})
        assert getattr(task, name) == "rendered"


@TASKS
def test_the_table_of_arguments_is_right(kind: Any) -> None:
    rows = [row.split(" | ") for row in DOCUMENTED.read_text().splitlines() if row.startswith("| `Azure")]
    names = {row[0].strip("| `"): [set(re.findall(r"`(\w+)`", cell)) for cell in row[1:]] for row in rows}
    if kind.__module__ in (drill.__name__, guard.__name__):  # made by their functions
        return
    rendered = set(kind.template_fields)
    assert names[kind.__name__] == [rendered, own_arguments(kind) - rendered]


# The arguments without which a task would do something else: restore the newest recovery point, for example.
DECISIVE = {
    "AzureBackupOperator": ["protected_item", "job_id", "recovery_point_expiry"],
    "AzureBackupRestoreOperator": ["protected_item", "recovery_point", "as_of", "point_in_time"],
    "AzureBackupCancelJobOperator": ["job_id"],
    "AzureBackupJobSensor": ["job_id"],
    "AzureBackupFreshnessSensor": ["protected_item", "newer_than"],
}


@pytest.mark.parametrize("nothing", [None, ""], ids=repr)
@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, name) for kind in classes() for name in DECISIVE.get(kind.__name__, [])],
    ids=lambda each: getattr(each, "__name__", each),
)
def test_an_argument_that_comes_to_nothing_is_not_one_that_was_left_out(
    azure: Emulator, kind: Any, name: str, nothing: Any
) -> None:
    azure.start_job("documents", ago=600)
    task = with_template(kind, name)
    setattr(task, name, nothing)  # as Airflow renders it, where a task that it reads has returned nothing
    with pytest.raises(AzureBackupConfigError, match=f"{name} of task 'task' came to nothing in this run"):
        task.execute(TaskInstance().context)
    assert azure.requests == []


@pytest.mark.parametrize("wrong", [["disks"], 7, [{}]], ids=repr)
def test_a_place_that_is_no_dict_is_refused(wrong: Any) -> None:
    for name in ("restore_to", "request"):
        with pytest.raises(AzureBackupConfigError, match=f"{name} is of type .*; expected a dict"):
            operators.AzureBackupRestoreOperator(task_id="task", protected_item="vm-good", **{name: wrong})


@TASKS
def test_a_connection_id_that_is_no_text_is_refused_when_the_dag_is_parsed(kind: Any) -> None:
    for wrong in (["azure_backup_default"], {}, 7):
        with pytest.raises(AzureBackupConfigError, match="azure_backup_conn_id of task 'task' is "):
            kind(task_id="task", **{**NEEDED[kind.__name__], "azure_backup_conn_id": wrong})


@pytest.mark.parametrize("name", ["poll_interval", "timeout"])
@pytest.mark.parametrize(
    "kind",
    [AzureBackupOperator, operators.AzureBackupRestoreOperator, operators.AzureBackupCancelJobOperator],
)
def test_an_interval_may_be_a_timedelta(kind: Any, name: str) -> None:
    task = kind(task_id="task", **NEEDED[kind.__name__], **{name: timedelta(minutes=2)})
    assert getattr(task, name) == 120.0
    for wrong in (timedelta(0), timedelta(seconds=-1), "60", TEMPLATE, True, None):
        with pytest.raises(AzureBackupConfigError, match=rf"{name} of task 'task' is .* or a timedelta"):
            kind(task_id="task", **NEEDED[kind.__name__], **{name: wrong})


@pytest.mark.parametrize("name", ["poke_interval", "timeout"])
def test_an_interval_of_a_sensor_may_be_a_timedelta(name: str) -> None:
    for kind in (AzureBackupJobSensor, AzureBackupFreshnessSensor):
        sensor = kind(task_id="task", **NEEDED[kind.__name__], **{name: timedelta(minutes=2)})
        assert getattr(sensor, name) == 120.0


@pytest.mark.parametrize("backoff", [True, False])
@pytest.mark.parametrize("kind", [AzureBackupJobSensor, AzureBackupFreshnessSensor], ids=lambda k: k.__name__)
def test_a_deferred_sensor_says_that_exponential_backoff_has_no_effect(
    azure: Emulator, kind: Any, monkeypatch: pytest.MonkeyPatch, backoff: bool
) -> None:
    job_id = azure.start_job("vm-good", seconds=600)
    more = {"job_id": job_id} if kind is AzureBackupJobSensor else {"protected_item": "vm-good"}
    sensor = kind(task_id="task", exponential_backoff=backoff, deferrable=True, **more)
    said: list[str] = []
    monkeypatch.setattr(sensor.log, "warning", lambda text, *_: said.append(text), raising=False)
    with pytest.raises(TaskDeferred):
        sensor.execute(TaskInstance().context)
    assert any("no effect on a deferred wait" in text for text in said) is backoff


def test_a_resume_that_is_handed_the_event_alone_goes_on_with_the_same_backup(
    azure: Emulator, clock: Any
) -> None:
    ti = TaskInstance(store=Store())
    make = partial(AzureBackupOperator, task_id="b", protected_item="vm-good", deferrable=True)
    began = clock()
    assert run(make, ti, drops=True) == ti.xcoms["job_id"]
    assert azure.count("POST", "/backup") == 1
    assert ti.xcoms["proof"]["started_by"] == "this task"
    assert ti.store and ti.store["azure_backup"]["since"] < began + 60


def test_a_resume_that_is_handed_the_event_alone_takes_no_other_job(azure: Emulator) -> None:
    ti = TaskInstance(store=Store())
    task = AzureBackupOperator(task_id="b", protected_item="vm-good", deferrable=True)
    with pytest.raises(TaskDeferred) as deferred:
        task.execute(ti.context)
    path, arguments = deferred.value.trigger.serialize()
    vault, _, _ = arguments["job_id"].rpartition("/")
    other = azure.start_job("vm-good", seconds=30)
    event = asyncio.run(fire(path, {**arguments, "job_id": f"{vault}/{other}"}))
    with pytest.raises(AzureBackupWrongJobError):
        task.execute_complete(ti.context, event=event)


@pytest.mark.parametrize("by", [{"max_age": timedelta(hours=1)}, {"newer_than": timedelta(hours=1)}], ids=str)
def test_a_sensor_that_is_handed_the_event_alone_opens(azure: Emulator, by: dict[str, Any]) -> None:
    azure.start_job("vm-warned", seconds=600, ending="Completed")
    make = partial(
        AzureBackupFreshnessSensor,
        task_id="f",
        protected_item="vm-warned",
        deferrable=True,
        timeout=7200,
        **by,
    )
    assert run(make, TaskInstance(), drops=True)


def test_a_job_that_is_taken_over_is_checked_when_the_event_comes_alone(azure: Emulator) -> None:
    job_id = azure.start_job("vm-good", seconds=600)
    make = partial(AzureBackupOperator, task_id="b", job_id=job_id, deferrable=True)
    assert run(make, TaskInstance(), drops=True) == job_id

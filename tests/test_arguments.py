"""Arguments that are not what they seem: text for a boolean, codes for warnings."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from airflow_provider_azbackup import guard, operators, sensors
from airflow_provider_azbackup.emulator import Emulator
from airflow_provider_azbackup.exceptions import AzureBackupConfigError, AzureBackupJobFailedError
from airflow_provider_azbackup.operators import AzureBackupOperator
from airflow_provider_azbackup.restore_to import original_share
from airflow_provider_azbackup.sensors import AzureBackupFreshnessSensor, AzureBackupJobSensor
from tests.tasks import TaskInstance, run

GUID = "5f0c5b7e-6f0a-4b8e-9c57-0d5a3c1f2e4d"
BOTH = pytest.mark.parametrize("deferrable", [False, True], ids=["in the worker", "deferred"])
RESTORE = {"protected_item": "documents", "restore_to": original_share(copy_options="Overwrite")}
# What the classes cannot do without.
NEEDED: dict[str, dict[str, Any]] = {
    "AzureBackupOperator": {"protected_item": "vm-good"},
    "AzureBackupRestoreOperator": RESTORE,
    "AzureBackupRestoreOnFailureOperator": {**RESTORE, "setup_task_id": "backup"},
    "AzureBackupCancelJobOperator": {"job_id": GUID},
    "AzureBackupListProtectedItemsOperator": {},
    "AzureBackupJobSensor": {"job_id": GUID},
    "AzureBackupFreshnessSensor": {"protected_item": "vm-good"},
}


def classes() -> Iterator[Any]:
    for module in (operators, sensors, guard):
        for name, kind in vars(module).items():
            is_task = name.startswith("AzureBackup") and name.endswith(("Operator", "Sensor"))
            if is_task and kind.__module__ == module.__name__:
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
    for value in (False, True):
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

"""What is forged, stale or mistaken never opens a gate: events, job ids, item ids and recovery points."""

from __future__ import annotations

import asyncio
import copy
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowSensorTimeout, TaskDeferred

from airflow_provider_azbackup.exceptions import (
    AzureBackupConfigError,
    AzureBackupError,
    AzureBackupGateShutError,
    AzureBackupNotFoundError,
    AzureBackupRecoveryPointError,
    AzureBackupWrongJobError,
)
from airflow_provider_azbackup.operators import AzureBackupOperator, AzureBackupRestoreOperator
from airflow_provider_azbackup.restore_to import original_vm
from airflow_provider_azbackup.sensors import (
    AzureBackupFreshnessSensor,
    AzureBackupJobSensor,
)
from azure_backup_emulator import Emulator
from tests.support.tasks import Store, TaskInstance, fire, run

BOTH = pytest.mark.parametrize("deferrable", [False, True], ids=["in the worker", "deferred"])
NOBODYS = "5f0c5b7e-6f0a-4b8e-9c57-0d5a3c1f2e4d"
VM = "/subscriptions/{}/resourceGroups/demo-vms/providers/Microsoft.Compute/virtualMachines/vm-good"
ELSEWHERE = "99999999-9999-9999-9999-999999999999"
# Operator and sensors end the wait in a word of their own; none of them is success.
SHUT = (AzureBackupError, AirflowSensorTimeout)

Event = dict[str, Any]


def properties(event: Event) -> dict[str, Any]:
    found: dict[str, Any] = event["job"]["body"]["properties"]
    return found


def renamed(event: Event, name: str) -> None:
    """The body of a job of another VM, by its names alone."""
    properties(event)["entityFriendlyName"] = name
    properties(event)["containerName"] = f"iaasvmcontainerv2;demo-vms;{name}"


def bag(event: Event, **details: str) -> None:
    properties(event)["extendedInfo"].setdefault("propertyBag", {}).update(
        {name.replace("_", " "): value for name, value in details.items()}
    )


def of_another_job(event: Event) -> None:
    event["job"]["arm_id"] = re.sub("[^/]+$", NOBODYS, event["job"]["arm_id"])


def of_another_vault(event: Event) -> None:
    event["job"]["arm_id"] = event["job"]["arm_id"].replace("/demo-vault/", "/demo-vault-2/")


# What is done to the true event of a backup that has completed, and the reason that the gate gives.
EVENTS: dict[str, tuple[Callable[[Event], Any], str]] = {
    "a job id that nobody knows": (of_another_job, "not the one that this task waits for"),
    "the job of another vault": (of_another_vault, "not the one that this task waits for.*demo-vault-2"),
    "the ARM id of a vault": (
        lambda e: e["job"].update(arm_id=e["job"]["arm_id"].partition("/backupJobs")[0]),
        "not a job id",
    ),
    "an ARM id that is a number": (lambda e: e["job"].update(arm_id=1), "holds no job"),
    "a body with the name of another job": (
        lambda e: e["job"]["body"].update(name=NOBODYS),
        f"its JSON describes another job.*{NOBODYS}",
    ),
    "a body with the id of another vault": (
        lambda e: e["job"]["body"].update(id=e["job"]["body"]["id"].replace("demo-vault", "demo-vault-2")),
        "its JSON describes a job of another vault",
    ),
    "no body": (lambda e: e["job"].update(body=None), "holds no job"),
    "a body that is text": (lambda e: e["job"].update(body="Completed"), "holds no job"),
    "a body without a status": (lambda e: properties(e).pop("status"), "holds no job"),
    "a job that is a list": (lambda e: e.update(job=[e["job"]]), "holds no job"),
    "neither a job nor an error": (lambda e: e.update(job=None), "holds no job"),
    "both a job and an error": (lambda e: e.update(error={"type": "X", "message": "x"}), "holds no job"),
    "an error that is text": (lambda e: e.update(job=None, error="x"), "holds no job"),
    "a newer version": (lambda e: e.update(version=2), "upgrade the worker"),
    "a version that is text": (lambda e: e.update(version="1"), "is not a job's"),
    "a version that is true": (lambda e: e.update(version=True), "is not a job's"),
    "no version": (lambda e: e.pop("version"), "is not a job's"),
    "a status that nobody knows": (lambda e: properties(e).update(status="Splendid"), "still run"),
    "a job that is still running": (lambda e: properties(e).update(status="InProgress"), "still run"),
    "a job that was cancelled": (
        lambda e: properties(e).update(
            errorDetails=[{"errorCode": 400158, "errorTitle": "UserErrorJobSuccessfullyCancelled"}]
        ),
        "was cancelled",
    ),
}
# Likewise; but the job sensor, which accepts any job of the vault, has nothing against these.
EVENTS_OF_OTHERS: dict[str, tuple[Callable[[Event], Any], str]] = {
    "the names of another VM": (lambda e: renamed(e, "vm-patched"), "it belongs to another VM.*vm-patched"),
    "a VM of the same name in another group": (
        lambda e: properties(e).update(containerName="iaasvmcontainerv2;demo-vms-b;vm-good"),
        "it belongs to another VM.*demo-vms-b",
    ),
    "no container": (lambda e: properties(e).pop("containerName"), "it belongs to another VM.*nothing"),
    "a VM of another subscription": (
        lambda e: bag(e, VM_Subscription_ID=ELSEWHERE),
        f"a VM of another subscription.*{ELSEWHERE}",
    ),
    **{
        f"the operation {operation}": (
            lambda e, operation=operation: properties(e).update(operation=operation),
            f"it is no backup.*{re.escape(operation)}",
        )
        for operation in ("DeleteBackupData", "DisableBackup", "ConfigureBackup", "Restore", "Backup (Log)")
    },
}


def deferred(task: Any, ti: TaskInstance) -> TaskDeferred:
    with pytest.raises(TaskDeferred) as found:
        task.execute(ti.context)
    return found.value


def resumed(make_task: Callable[[], Any], ti: TaskInstance, forge: Callable[[Event], Any]) -> Any:
    """Run a task to the end of its wait, forge the event that comes, and let the task read it."""
    wait = deferred(make_task(), ti)
    path, arguments = wait.trigger.serialize()
    event = copy.deepcopy(asyncio.run(fire(path, json.loads(json.dumps(arguments)))))
    forge(event)
    return make_task().resume_execution(
        wait.method_name, json.loads(json.dumps({**(wait.kwargs or {}), "event": event})), ti.context
    )


def backup_of(azure: Emulator, **arguments: Any) -> AzureBackupOperator:
    vm_id = VM.format(azure.service.world.subscription)
    return AzureBackupOperator(task_id="backup", protected_item=vm_id, deferrable=True, **arguments)


@pytest.mark.parametrize(
    ("forge", "reason"), {**EVENTS, **EVENTS_OF_OTHERS}.values(), ids={**EVENTS, **EVENTS_OF_OTHERS}
)
def test_a_backup_does_not_believe_a_forged_event(
    azure: Emulator, forge: Callable[[Event], Any], reason: str
) -> None:
    ti = TaskInstance(store=Store())
    with pytest.raises(AzureBackupError, match=f"(?s){reason}"):
        resumed(lambda: backup_of(azure), ti, forge)
    assert "proof" not in ti.xcoms


@pytest.mark.parametrize("event", [None, "done", 1, [], {}, {"version": 1}], ids=repr)
@pytest.mark.parametrize("kind", ["backup", "job sensor", "freshness sensor"])
def test_nobody_believes_an_event_that_is_none(azure: Emulator, clock: Any, event: Any, kind: str) -> None:
    job_id = azure.start_job("vm-good", seconds=60)
    ti = TaskInstance()
    make: dict[str, Callable[[], Any]] = {
        "backup": lambda: backup_of(azure),
        "job sensor": lambda: AzureBackupJobSensor(task_id="gate", job_id=job_id, deferrable=True),
        "freshness sensor": lambda: AzureBackupFreshnessSensor(
            task_id="gate", protected_item="vm-good", newer_than="2026-01-01", deferrable=True
        ),
    }
    wait = deferred(make[kind](), ti)
    clock.advance(3600)
    with pytest.raises(AzureBackupError, match="the trigger's event"):
        make[kind]().resume_execution(wait.method_name, {**(wait.kwargs or {}), "event": event}, ti.context)


@pytest.mark.parametrize(("forge", "reason"), EVENTS.values(), ids=EVENTS)
def test_a_job_sensor_does_not_believe_a_forged_event(
    azure: Emulator, forge: Callable[[Event], Any], reason: str
) -> None:
    job_id = azure.start_job("vm-good", seconds=60)
    with pytest.raises(AzureBackupError, match=f"(?s){reason}"):
        resumed(
            lambda: AzureBackupJobSensor(task_id="gate", job_id=job_id, deferrable=True),
            TaskInstance(),
            forge,
        )


@pytest.mark.parametrize("forge", [of_another_job, of_another_vault])
def test_never_fail_does_not_forgive_the_event_of_another_job(
    azure: Emulator, forge: Callable[[Event], Any]
) -> None:
    job_id = azure.start_job("vm-good", seconds=60)
    with pytest.raises(AzureBackupGateShutError, match="not the one that this task waits for"):
        resumed(
            lambda: AzureBackupJobSensor(task_id="gate", job_id=job_id, deferrable=True, never_fail=True),
            TaskInstance(),
            forge,
        )


@pytest.mark.parametrize(("forge", "reason"), EVENTS_OF_OTHERS.values(), ids=EVENTS_OF_OTHERS)
def test_a_freshness_sensor_waits_on_after_the_event_of_another_job(
    azure: Emulator, caplog: pytest.LogCaptureFixture, forge: Callable[[Event], Any], reason: str
) -> None:
    azure.start_job("vm-good", seconds=60)
    vm_id = VM.format(azure.service.world.subscription)

    def sensor() -> AzureBackupFreshnessSensor:
        return AzureBackupFreshnessSensor(
            task_id="gate", protected_item=vm_id, newer_than="2026-01-01", deferrable=True
        )

    ti = TaskInstance()
    with pytest.raises(TaskDeferred):
        resumed(sensor, ti, forge)


def test_a_freshness_sensor_waits_on_after_the_event_of_an_older_backup(azure: Emulator, clock: Any) -> None:
    def sensor() -> AzureBackupFreshnessSensor:
        since = datetime.fromtimestamp(began - 60, UTC)
        return AzureBackupFreshnessSensor(
            task_id="gate", protected_item="vm-good", newer_than=since, deferrable=True
        )

    began = clock()
    azure.start_job("vm-good", seconds=60)
    with pytest.raises(TaskDeferred):
        resumed(sensor, TaskInstance(), lambda e: properties(e).update(startTime="2026-01-01T00:00:00Z"))


# Of which item, and what a job of it that is no backup is called.
NO_BACKUPS = [
    *(
        ("vm-good", operation)
        for operation in ("DeleteBackupData", "DisableBackup", "ConfigureBackup", "Restore", "Undelete")
    ),
    ("documents", "Restore"),
    ("payroll", "Restore"),
    ("demo-aks", "Restore"),
    ("demo-aks", "Tiering:Backup"),
]


def over(azure: Emulator, clock: Any, item: str, **job: Any) -> str:
    """The ARM id of somebody else's job that has completed."""
    job_id = azure.start_job(item, seconds=30, **job)
    clock.advance(90)
    found = azure.service.world.jobs[job_id]
    return f"{found.item.vault.path}/backupJobs/{job_id}"


@BOTH
@pytest.mark.parametrize(("item", "operation"), NO_BACKUPS)
def test_a_job_id_that_is_no_backup_is_no_proof(
    azure: Emulator, clock: Any, item: str, operation: str, deferrable: bool
) -> None:
    job_id = over(azure, clock, item, operation=operation)
    with pytest.raises(AzureBackupWrongJobError, match=f"it is no backup.*{operation}"):
        run(lambda: AzureBackupOperator(task_id="b", job_id=job_id, deferrable=deferrable), TaskInstance())


@BOTH
def test_the_backup_of_a_log_is_no_proof_unless_it_was_asked_for(
    azure: Emulator, clock: Any, deferrable: bool
) -> None:
    job_id = over(azure, clock, "payroll", backup_type="Log")
    with pytest.raises(AzureBackupWrongJobError, match=r"it is no backup.*Backup \(Log\)"):
        run(lambda: AzureBackupOperator(task_id="b", job_id=job_id, deferrable=deferrable), TaskInstance())
    assert run(
        lambda: AzureBackupOperator(
            task_id="b", protected_item="payroll", backup_type="Log", deferrable=deferrable
        ),
        TaskInstance(),
    )


@BOTH
@pytest.mark.parametrize("item", ["vm-good", "documents", "payroll", "demo-aks"])
def test_a_job_id_of_a_backup_is_proof(azure: Emulator, clock: Any, item: str, deferrable: bool) -> None:
    job_id = over(azure, clock, item)
    assert run(lambda: AzureBackupOperator(task_id="b", job_id=job_id, deferrable=deferrable), TaskInstance())


@BOTH
def test_the_sensor_accepts_a_job_of_any_operation(azure: Emulator, clock: Any, deferrable: bool) -> None:
    for operation in ("DeleteBackupData", "ConfigureBackup", "Restore"):
        job_id = over(azure, clock, "vm-good", operation=operation)
        assert run(
            lambda job_id=job_id: AzureBackupJobSensor(task_id="g", job_id=job_id, deferrable=deferrable),
            TaskInstance(),
        )


_GROUP = "/subscriptions/00000000-0000-0000-0000-00000000d3a0/resourceGroups/demo-rg/providers"
_VAULT = f"{_GROUP}/Microsoft.RecoveryServices/vaults/demo-vault"
_JOB = f"{_VAULT}/backupJobs/{NOBODYS}"
_ITEM = (
    f"{_VAULT}/backupFabrics/Azure/protectionContainers/IaasVMContainer;iaasvmcontainerv2;demo-vms;vm-good"
    "/protectedItems/VM;iaasvmcontainerv2;demo-vms;vm-good"
)
_INSTANCE = f"{_GROUP}/Microsoft.DataProtection/backupVaults/demo-backup-vault/backupInstances/disk"
ELSEWHERES = {
    "vault_name": "demo-vault-2",
    "resource_group_name": "other-rg",
    "subscription_id": ELSEWHERE,
    "vault_type": "DataProtection",
}
OTHER_VAULTS = [
    (kind, name, arm_id, argument, ELSEWHERES[argument])
    for kind, name, arm_id in (
        (AzureBackupOperator, "job_id", _JOB),
        (AzureBackupOperator, "protected_item", _ITEM),
        (AzureBackupJobSensor, "job_id", _JOB),
        (AzureBackupFreshnessSensor, "protected_item", _ITEM),
        (AzureBackupRestoreOperator, "protected_item", _ITEM),
    )
    for argument in ELSEWHERES
]


@pytest.mark.parametrize(("kind", "name", "arm_id", "argument", "value"), OTHER_VAULTS)
def test_an_arm_id_of_another_vault_is_refused_when_the_dag_is_parsed(
    kind: Any, name: str, arm_id: str, argument: str, value: str
) -> None:
    more = {"restore_to": original_vm(storage_account_id=f"{_GROUP}/Microsoft.Storage/storageAccounts/s")}
    with pytest.raises(AzureBackupConfigError, match=f"{argument} is '{value}', not"):
        kind(
            task_id="t",
            **{name: arm_id, argument: value},
            **(more if kind is AzureBackupRestoreOperator else {}),
        )


@pytest.mark.parametrize("argument", ELSEWHERES)
@pytest.mark.parametrize("kind", ["backup of a job", "backup of an item", "job sensor", "freshness sensor"])
def test_an_arm_id_of_another_vault_is_refused_once_templates_are_rendered(
    azure: Emulator, kind: str, argument: str
) -> None:
    make: dict[str, Callable[[], Any]] = {
        "backup of a job": lambda: AzureBackupOperator(task_id="t", job_id="{{ x }}"),
        "backup of an item": lambda: AzureBackupOperator(task_id="t", protected_item="{{ x }}"),
        "job sensor": lambda: AzureBackupJobSensor(task_id="t", job_id="{{ x }}"),
        "freshness sensor": lambda: AzureBackupFreshnessSensor(
            task_id="t", protected_item="{{ x }}", newer_than="2026-01-01"
        ),
    }
    task = make[kind]()
    if hasattr(task, "job_id") and task.job_id:
        task.job_id = _JOB
    else:
        task.protected_item = _ITEM
    setattr(task, argument, ELSEWHERES[argument])
    with pytest.raises(AzureBackupConfigError, match=f"{argument} is '{ELSEWHERES[argument]}', not"):
        task.execute(TaskInstance().context)
    assert azure.requests == []


@BOTH
@pytest.mark.parametrize("kind", [AzureBackupOperator, AzureBackupFreshnessSensor])
def test_the_vm_of_another_subscription_is_not_the_one_of_the_same_name(
    azure: Emulator, clock: Any, kind: Any, deferrable: bool
) -> None:
    over(azure, clock, "vm-good")
    more = {} if kind is AzureBackupOperator else {"newer_than": "2026-01-01", "poke_interval": 0.001}
    with pytest.raises((AzureBackupConfigError, AzureBackupNotFoundError), match=ELSEWHERE):
        run(
            lambda: kind(task_id="t", protected_item=VM.format(ELSEWHERE), deferrable=deferrable, **more),
            TaskInstance(),
        )
    assert azure.count("POST", "/backup") == 0


# What Azure says of a recovery point, what is asked for, and the reason that the gate gives.
POINTS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "partial": ({"partial": True}, {}, "partial"),
    "deleted": ({"soft_deleted": True}, {}, "deleted"),
    "expired": ({"expires": 1.0}, {}, "expired"),
    "infected": ({"threat": "UnHealthy"}, {}, "UnHealthy"),
    "with a warning of threats": ({"threat": "Warning"}, {}, "Warning"),
    "in no tier": ({"tiers": {"InstantRP": "Deleted"}}, {}, "no tier"),
    "without a disk": (
        {"disks": 3, "excluded": ["data-2"]}, {"require_all_disks": True}, "2 of 3 attached disks"
    ),
}  # fmt: skip
POINTS = {
    name: case
    for name, case in POINTS.items()
    if name not in ("infected", "with a warning of threats", "expired", "not in the vault")
}


@BOTH
@pytest.mark.parametrize(("point", "asked", "reason"), POINTS.values(), ids=POINTS)
def test_a_recovery_point_that_is_no_proof_keeps_the_gate_shut(
    azure: Emulator, point: dict[str, Any], asked: dict[str, Any], reason: str, deferrable: bool
) -> None:
    azure.plan("vm-good", point=point)
    ti = TaskInstance()
    with pytest.raises(AzureBackupRecoveryPointError, match=f"(?s){reason}"):
        run(
            lambda: AzureBackupOperator(
                task_id="b",
                protected_item="vm-good",
                require_recovery_point=True,
                deferrable=deferrable,
                **asked,
            ),
            ti,
        )
    assert "proof" not in ti.xcoms


@pytest.mark.parametrize("mode", ["job sensor", "newer_than", "max_age"])
@pytest.mark.parametrize(("point", "asked", "reason"), POINTS.values(), ids=POINTS)
def test_nor_does_a_sensor_open_on_it(
    azure: Emulator, clock: Any, point: dict[str, Any], asked: dict[str, Any], reason: str, mode: str
) -> None:
    azure.plan("vm-good", point=point)
    job_id = over(azure, clock, "vm-good")
    asked = {"require_recovery_point": True, "timeout": 0.05, "poke_interval": 0.001, **asked}
    tasks: dict[str, Callable[[], Any]] = {
        "job sensor": lambda: AzureBackupJobSensor(task_id="g", job_id=job_id, **asked),
        "newer_than": lambda: AzureBackupFreshnessSensor(
            task_id="g", protected_item="vm-good", newer_than="2026-01-01", **asked
        ),
        "max_age": lambda: AzureBackupFreshnessSensor(
            task_id="g", protected_item="vm-good", max_age=timedelta(hours=2), **asked
        ),
    }
    with pytest.raises(SHUT):
        run(tasks[mode], TaskInstance())


def test_warnings_are_not_accepted_of_a_partial_recovery_point(azure: Emulator) -> None:
    azure.plan("vm-good", point={"partial": True})
    with pytest.raises(AzureBackupRecoveryPointError, match="partial"):
        run(
            lambda: AzureBackupOperator(
                task_id="b",
                protected_item="vm-good",
                require_recovery_point=True,
                accept_warnings=True,
            ),
            TaskInstance(),
        )


def test_a_job_that_a_sensor_refuses_is_not_tried_again(azure: Emulator, clock: Any) -> None:
    azure.plan("vm-good", point={"partial": True})
    job_id = over(azure, clock, "vm-good")
    with pytest.raises(AzureBackupGateShutError):
        run(
            lambda: AzureBackupJobSensor(task_id="g", job_id=job_id, require_recovery_point=True),
            TaskInstance(),
        )


def job_of(azure: Emulator, clock: Any, item: str, operation: str = "Backup") -> Callable[[Any], Any]:
    """Put a job that has completed into a note."""
    job_id = over(azure, clock, item, operation=operation)
    return lambda note: {**note, "job": job_id}


# What is done to the note that a try has left, by an emulator and its clock.
NOTES: dict[str, Callable[[Emulator, Any], Callable[[Any], Any]]] = {
    "another VM's job": lambda azure, clock: job_of(azure, clock, "vm-patched"),
    "the job of another vault": lambda azure, clock: job_of(azure, clock, "vm-elsewhere"),
    "a share's job": lambda azure, clock: job_of(azure, clock, "documents"),
    "the job of a Backup vault": lambda azure, clock: job_of(azure, clock, "disk-good"),
    "a deletion": lambda azure, clock: job_of(azure, clock, "vm-good", "DeleteBackupData"),
    "a restore": lambda azure, clock: job_of(azure, clock, "vm-good", "Restore"),
    "a change of protection": lambda azure, clock: job_of(azure, clock, "vm-good", "ConfigureBackup"),
    "another item": lambda *_: lambda note: {**note, "item": note["item"].replace("vm-good", "vm-patched")},
    "a number for a version": lambda *_: lambda note: {**note, "version": -1},
    "no version": lambda *_: lambda note: {k: v for k, v in note.items() if k != "version"},
    "text": lambda *_: lambda _: "done",
    "a list": lambda *_: lambda note: [note],
}


@BOTH
@pytest.mark.parametrize("forge", NOTES.values(), ids=NOTES)
def test_a_forged_note_never_opens_a_gate(
    azure: Emulator, clock: Any, forge: Callable[..., Callable[[Any], Any]], deferrable: bool
) -> None:
    ti = TaskInstance(store=Store(), retries=5)
    assert ti.store is not None
    wait = deferred(backup_of(azure), ti)
    mine = ti.xcoms["job_id"]
    assert wait.method_name == "execute_complete"
    forged = forge(azure, clock)
    (key,) = ti.store
    ti.store.set(key, forged(ti.store[key]))
    before = set(azure.service.world.jobs) - {mine}
    vm_id = VM.format(azure.service.world.subscription)
    for _ in range(3):
        ti.retry()
        try:
            result = run(
                lambda: AzureBackupOperator(task_id="b", protected_item=vm_id, deferrable=deferrable), ti
            )
            break
        except AzureBackupWrongJobError:
            assert "proof" not in ti.xcoms
    assert result not in before
    assert azure.service.world.jobs[result].item.name == "vm-good"

"""A person decides about a restore: before anything is asked of Azure, and only a yes restores."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException, TaskDeferred

from airflow_provider_azbackup.exceptions import AzureBackupConfigError, AzureBackupNotApprovedError
from airflow_provider_azbackup.guard import backed_up
from airflow_provider_azbackup.operators import AzureBackupRestoreOperator
from airflow_provider_azbackup.restore_to import original_vm
from airflow_provider_azbackup.runtime.compat import asks_people
from azure_backup_emulator import Emulator
from tests.support.tasks import Store, TaskInstance

STAGING = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/staging"
TARGET = original_vm(storage_account_id=STAGING)
PERSON = {"id": "1", "name": "ada"}

needs_people = pytest.mark.skipif(not asks_people(), reason="this Airflow cannot ask a person")


def restore(**arguments: Any) -> AzureBackupRestoreOperator:
    options = {"restore_to": TARGET, "approve": True, "deferrable": False, **arguments}
    return AzureBackupRestoreOperator(task_id="restore", protected_item="vm-good", **options)


@pytest.fixture
def asked(azure: Emulator, clock: Any, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What Airflow is asked; the VM has a recovery point."""
    from airflow.sdk.execution_time import task_runner

    azure.start_job("vm-good")
    clock.advance(3000)
    found: list[Any] = []

    def send(msg: Any) -> None:
        if hasattr(msg, "options"):  # others are about secrets
            found.append(msg)

    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", SimpleNamespace(send=send), raising=False)
    return found


def an_instance(**options: Any) -> TaskInstance:
    ti = TaskInstance(**options)
    ti.id = "0199d2a6-7e0e-7b4e-8d5e-4c1d3f1a2b3c"  # type: ignore[attr-defined]  # Airflow 3 has it
    return ti


def park(task: AzureBackupRestoreOperator, ti: TaskInstance) -> Any:
    """Run a task until it waits for a person; return how it is resumed."""
    try:
        task.execute(ti.context)
    except TaskDeferred as deferred:
        return deferred
    except BaseException as parked:
        assert type(parked).__name__ == "TaskAwaitingInput"
        return parked
    raise AssertionError("it did not wait for a person")


def answer(option: str, **more: Any) -> dict[str, Any]:
    return {
        "chosen_options": [option],
        "params_input": {"reason": "the patch broke it"},
        "responded_at": datetime(2026, 11, 30, 3, 0, tzinfo=UTC),
        "responded_by_user": PERSON,
        **more,
    }


def resume(waiting: Any, ti: TaskInstance, event: Any, task: Any = None) -> Any:
    handed = {**waiting.kwargs, "event": event}
    return (task or restore()).resume_execution(waiting.method_name, handed, ti.context)


def restores(azure: Emulator) -> int:
    return azure.count("POST", "/restore")


@needs_people
def test_an_approval_restores_and_is_kept(azure: Emulator, asked: list[Any]) -> None:
    ti = an_instance(store=Store())
    waiting = park(restore(approval_timeout=600), ti)
    assert restores(azure) == 0
    (question,) = asked
    assert (question.options, question.defaults) == (["Approve", "Reject"], None)
    assert "vm-good" in question.subject
    assert "original_vm" in question.body
    assert resume(waiting, ti, answer("Approve"))
    assert restores(azure) == 1
    assert ti.xcoms["approval"] == {
        "version": 1,
        "decision": "approved",
        "by": "1",
        "name": "ada",
        "reason": "the patch broke it",
        "at": "2026-11-30T03:00:00+00:00",
    }


@needs_people
@pytest.mark.parametrize(
    ("event", "decision"),
    [
        (answer("Reject"), "rejected"),
        ({"error": "no answer", "error_type": "timeout"}, "no answer"),
        ({"error": "bad input", "error_type": "validation"}, "unknown"),
        (answer("Approve", responded_by_user=None), "unknown"),
        (answer("Approve", timedout=True, responded_by_user=None), "no answer"),
        (answer("Approve", chosen_options=["Approve", "Reject"]), "unknown"),
        (answer("Approve", chosen_options=[]), "unknown"),
        (None, "unknown"),
        ("Approve", "unknown"),
    ],
)
def test_nothing_but_the_yes_of_a_person_restores(
    azure: Emulator, asked: list[Any], event: Any, decision: str
) -> None:
    ti = an_instance(store=Store(), retries=3)
    waiting = park(restore(), ti)
    with pytest.raises(AzureBackupNotApprovedError, match=decision) as failed:
        resume(waiting, ti, event)
    assert isinstance(failed.value, AirflowFailException)  # so that Airflow does not retry it
    assert (restores(azure), ti.xcoms["approval"]["decision"]) == (0, decision)


@needs_people
def test_a_retry_after_an_approval_does_not_ask_again_but_a_clear_does(
    azure: Emulator, asked: list[Any]
) -> None:
    ti = an_instance(store=Store(), retries=1)
    waiting = park(restore(), ti)
    azure.plan("vm-good", ending="Failed")
    with pytest.raises(Exception, match="failed"):
        resume(waiting, ti, answer("Approve"))
    azure.plan("vm-good", ending="Completed")
    assert restore().execute(ti.retry().context)
    assert len(asked) == 1
    park(restore(), ti.clear())
    assert (len(asked), restores(azure)) == (2, 2)


@needs_people
@pytest.mark.parametrize(
    "change",
    [
        {"restore_to": original_vm(storage_account_id=STAGING, luns=[0])},
        {"recovery_point": "another"},
        {"vault_name": "another-vault"},
        {"azure_backup_conn_id": "another"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_an_approval_is_for_one_restore_alone(
    azure: Emulator, asked: list[Any], change: dict[str, Any]
) -> None:
    ti = an_instance(store=Store(), retries=1)
    waiting = park(restore(), ti)
    azure.plan("vm-good", ending="Failed")
    with pytest.raises(Exception, match="failed"):
        resume(waiting, ti, answer("Approve"))
    park(restore(**change), ti.retry())
    assert len(asked) == 2


@needs_people
def test_what_a_person_writes_is_cut_and_cleaned(azure: Emulator, asked: list[Any]) -> None:
    ti = an_instance(store=Store())
    waiting = park(restore(), ti)
    event = answer("Reject", params_input={"reason": "no\x00" + "x" * 5000})
    with pytest.raises(AzureBackupNotApprovedError):
        resume(waiting, ti, event)
    reason = ti.xcoms["approval"]["reason"]
    assert (len(reason), reason[:3]) == (1000, "no\ufffd")


@needs_people
def test_the_guard_asks_before_it_restores(azure: Emulator) -> None:
    with DAG("patch", schedule=None) as dag, backed_up("vm-good", restore_to=TARGET, approve=True):
        pass
    assert dag.get_task("backed_up.restore").approve is True


def test_without_a_restore_there_is_nothing_to_approve() -> None:
    with (
        pytest.raises(AzureBackupConfigError, match="no restore_to that a person could approve"),
        DAG("patch", schedule=None),
        backed_up("vm-good", approve=True),
    ):
        pass


@pytest.mark.skipif(asks_people(), reason="this Airflow can ask a person")
def test_an_airflow_that_cannot_ask_refuses_when_the_dag_is_parsed() -> None:
    with pytest.raises(AzureBackupConfigError, match=r"Airflow 3\.1 or later"):
        restore()

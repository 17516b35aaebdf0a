"""Risky tasks between a backup and the way back: what is made of a block, and when it restores."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowSkipException

from airflow_provider_azbackup.emulator import Emulator
from airflow_provider_azbackup.exceptions import AzureBackupConfigError
from airflow_provider_azbackup.guard import backed_up
from airflow_provider_azbackup.restore_to import disks
from tests.tasks import TaskInstance

task_runner = pytest.importorskip(
    "airflow.sdk.execution_time.task_runner", reason="Airflow 2 tells states from its database"
)

from airflow.providers.standard.operators.empty import EmptyOperator  # noqa: E402  # Airflow 2 has it elsewhere

STAGING = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/staging"


def guarded(**arguments: Any) -> DAG:
    with DAG("patch", schedule=None) as dag:
        before = EmptyOperator(task_id="before")
        with backed_up("vm-good", deferrable=False, **arguments) as backup:
            EmptyOperator(task_id="patch") >> EmptyOperator(task_id="check")
        before >> backup >> EmptyOperator(task_id="elsewhere")
    return dag


def states(monkeypatch: pytest.MonkeyPatch, **told: str) -> list[Any]:
    """Let Airflow tell the states of tasks; return what it is asked."""
    asked: list[Any] = []

    def send(question: Any) -> Any:
        asked.append(question)
        return SimpleNamespace(task_states={"monday": {f"backed_up.{name}": told[name] for name in told}})

    double = SimpleNamespace(send=send, asend=None)
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", double, raising=False)
    return asked


def test_what_is_in_the_block_runs_behind_the_backup_and_before_the_way_back() -> None:
    dag = guarded(restore_to=disks(storage_account_id=STAGING))
    backup, restore = dag.get_task("backed_up.backup"), dag.get_task("backed_up.restore")
    assert (backup.is_setup, backup.require_recovery_point, restore.is_teardown) == (True, True, True)
    assert dag.get_task("backed_up.patch").upstream_task_ids == {"backed_up.backup"}
    assert restore.upstream_task_ids == {"backed_up.backup", "backed_up.check"}
    # A restore that went well is no reason to take the run for a success.
    assert not restore.on_failure_fail_dagrun


def test_without_a_place_there_is_no_way_back() -> None:
    dag = guarded()
    assert not dag.has_task("backed_up.restore")
    assert dag.get_task("backed_up.patch").upstream_task_ids == {"backed_up.backup"}


@pytest.mark.parametrize("check", ["failed", "upstream_failed"])
def test_a_failure_restores_that_very_backup(
    azure: Emulator, clock: Any, monkeypatch: pytest.MonkeyPatch, check: str
) -> None:
    dag, ti = guarded(restore_to=disks(storage_account_id=STAGING)), TaskInstance()
    dag.get_task("backed_up.backup").execute(ti.context)
    point = ti.xcoms["recovery_point"]
    azure.start_job("vm-good", seconds=30)  # somebody else's, and newer
    clock.advance(60)
    asked = states(monkeypatch, patch="failed" if check == "upstream_failed" else "success", check=check)
    restore = dag.get_task("backed_up.restore")
    assert "recovery_point" in restore.recovery_point
    restore.recovery_point = point["recovery_point_id"]  # as Airflow renders it
    assert restore.execute(ti.context)
    assert asked[0].task_ids == ["backed_up.check", "backed_up.patch"]
    (post,) = azure.service.requests(method="POST", path_contains="/restore")
    assert post["path"].casefold() == f"{point['arm_id']}/restore".casefold()


@pytest.mark.parametrize("check", ["success", "skipped"])
def test_without_a_failure_nothing_is_restored(
    azure: Emulator, monkeypatch: pytest.MonkeyPatch, check: str
) -> None:
    dag = guarded(restore_to=disks(storage_account_id=STAGING))
    states(monkeypatch, patch="success", check=check)
    with pytest.raises(AirflowSkipException, match=r"None of the guarded tasks has failed: backed_up\.check"):
        dag.get_task("backed_up.restore").execute(TaskInstance().context)
    assert not azure.count("POST", "/subscriptions/")


def test_mistakes_are_told_when_the_dag_is_parsed() -> None:
    with (
        pytest.raises(AzureBackupConfigError, match="protected_item"),
        DAG("patch", schedule=None),
        backed_up(" "),
    ):
        pass

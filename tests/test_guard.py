"""Risky tasks between a backup and the way back: what is made of a block, and when it restores."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowSkipException, task_group

from airflow_provider_azbackup.exceptions import (
    AzureBackupConfigError,
    AzureBackupError,
    AzureBackupNotFoundError,
)
from airflow_provider_azbackup.guard import backed_up
from airflow_provider_azbackup.restore_to import disks, original_database, original_vm
from azure_backup_emulator import Emulator
from tests.support.tasks import TaskInstance

task_runner = pytest.importorskip(
    "airflow.sdk.execution_time.task_runner", reason="Airflow 2 reads states from its database"
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
    """Let Airflow report the states of tasks; return what it is asked."""
    asked: list[Any] = []

    def send(question: Any) -> Any:
        asked.append(question)
        return SimpleNamespace(task_states={"monday": {f"backed_up.{name}": told[name] for name in told}})

    double = SimpleNamespace(send=send, asend=None)
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", double, raising=False)
    return asked


FLEET = ("fleet-01", "fleet-02", "fleet-03")


def fleet() -> DAG:
    """Return a DAG with a guard in a task group that is mapped over :data:`FLEET`."""
    with DAG("patch", schedule=None) as dag:
        before = EmptyOperator(task_id="before")

        @task_group
        def one(vm: str) -> None:
            with backed_up(vm, restore_to=original_vm(storage_account_id=STAGING), deferrable=False):
                EmptyOperator(task_id="patch") >> EmptyOperator(task_id="check")

        before >> one.expand(vm=[*FLEET])
    return dag


def mapped_states(monkeypatch: pytest.MonkeyPatch, found: dict[tuple[str, int], str]) -> None:
    """Let Airflow return the states of mapped task instances, chosen and named as its API does."""

    def send(question: Any) -> Any:
        chosen = {
            task_id if index < 0 else f"{task_id}_{index}": state
            for (task_id, index), state in found.items()
            if task_id in question.task_ids and question.map_index in (None, index)
        }
        return SimpleNamespace(task_states={"monday": chosen})

    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", SimpleNamespace(send=send), raising=False)


class MappedTaskInstance(TaskInstance):
    """A task instance of a mapped task; a pull without an index returns a list, as Airflow's does."""

    def __init__(self, index: int, pushed: list[Any]) -> None:
        super().__init__()
        self.map_index, self.pushed = index, pushed

    def xcom_pull(self, *, task_ids: str, key: str, map_indexes: int | None = None) -> Any:
        assert (task_ids, key) == ("one.backed_up.backup", "recovery_point")
        return self.pushed if map_indexes is None else self.pushed[map_indexes]


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
    restore.recovery_point = point["arm_id"]  # as Airflow renders it
    assert restore.execute(ti.context)
    assert asked[0].task_ids == ["backed_up.check", "backed_up.patch"]
    (post,) = azure.service.requests(method="POST", path_contains="/restore")
    assert post["path"].casefold() == f"{point['arm_id']}/restore".casefold()


def test_a_database_is_guarded_with_the_type_of_its_backup(
    azure: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        DAG("patch", schedule=None) as dag,
        backed_up(
            "payroll [sqlvm]",
            restore_to=original_database(),
            deferrable=False,
            backup_type="Full",
            enable_compression=True,
        ),
    ):
        EmptyOperator(task_id="patch")
    ti = TaskInstance()
    dag.get_task("backed_up.backup").execute(ti.context)
    states(monkeypatch, patch="failed")
    restore = dag.get_task("backed_up.restore")
    restore.recovery_point = ti.xcoms["recovery_point"]["arm_id"]  # as Airflow renders it
    assert restore.execute(ti.context)
    assert azure.count("POST", "/restore") == 1


@pytest.mark.parametrize("place", [None, disks(storage_account_id=STAGING)], ids=["no way back", "disks"])
def test_a_guard_that_would_not_wait_for_its_backup_is_refused(place: Any) -> None:
    with pytest.raises(AzureBackupConfigError, match="wait_for_completion"):
        guarded(restore_to=place, wait_for_completion=False)


@pytest.mark.parametrize("check", ["success", "skipped"])
def test_without_a_failure_nothing_is_restored(
    azure: Emulator, monkeypatch: pytest.MonkeyPatch, check: str
) -> None:
    dag = guarded(restore_to=disks(storage_account_id=STAGING))
    states(monkeypatch, patch="success", check=check)
    with pytest.raises(AirflowSkipException, match=r"None of the guarded tasks has failed: backed_up\.check"):
        dag.get_task("backed_up.restore").execute(TaskInstance().context)
    assert not azure.count("POST", "/subscriptions/")


def unmapped(dag: DAG, index: int, pushed: list[Any]) -> tuple[Any, MappedTaskInstance]:
    """Return the restore of one map index, rendered, and its task instance."""
    restore, ti = dag.get_task("one.backed_up.restore"), MappedTaskInstance(index, pushed)
    restore.protected_item = FLEET[index]
    restore.recovery_point = restore.render_template(restore.recovery_point, {"ti": ti})
    return restore, ti


def backups(clock: Any) -> list[Any]:
    """Take the backup of each map index; return the recovery points that they push."""
    pushed = []
    for vm in FLEET:
        backup, ti = fleet().get_task("one.backed_up.backup"), TaskInstance()
        backup.protected_item = vm
        backup.execute(ti.context)
        pushed.append(ti.xcoms["recovery_point"])
    return pushed


def test_in_a_mapped_task_group_a_failure_restores_its_own_vm_and_no_other(
    azure: Emulator, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pushed = backups(clock)
    own = {
        (f"one.backed_up.{name}", index): "success"
        for name in ("backup", "patch", "check")
        for index in range(len(FLEET))
    }
    failed = {("one.backed_up.patch", 1): "failed", ("one.backed_up.check", 1): "upstream_failed"}
    mapped_states(monkeypatch, {**own, **failed, ("before", -1): "success"})
    for index in (0, 2):
        restore, ti = unmapped(fleet(), index, pushed)
        with pytest.raises(AirflowSkipException, match="None of the guarded tasks has failed"):
            restore.execute(ti.context)
    assert not azure.count("POST", "/restore")
    restore, ti = unmapped(fleet(), 1, pushed)
    assert restore.execute(ti.context)
    (post,) = azure.service.requests(method="POST", path_contains="/restore")
    assert post["path"].casefold() == f"{pushed[1]['arm_id']}/restore".casefold()


def test_the_recovery_point_of_another_vm_is_never_restored(
    azure: Emulator, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pushed = backups(clock)
    mapped_states(
        monkeypatch, {("one.backed_up.patch", 1): "failed", ("one.backed_up.check", 1): "upstream_failed"}
    )
    restore, ti = unmapped(fleet(), 1, [pushed[1], pushed[0], pushed[2]])
    with pytest.raises(
        AzureBackupConfigError, match=r"recovery_point is one of .*fleet-01, not of .*fleet-02"
    ):
        restore.execute(ti.context)
    assert not azure.count("POST", "/restore")


def test_nothing_is_restored_while_the_state_of_a_guarded_task_is_not_known(
    azure: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    mapped_states(monkeypatch, {("one.backed_up.patch", 0): "failed", ("one.backed_up.patch", 1): "success"})
    restore, ti = fleet().get_task("one.backed_up.restore"), MappedTaskInstance(1, [])
    with pytest.raises(AzureBackupError, match=r"returned 1 states for 2 guarded tasks.* of map index 1\."):
        restore.execute(ti.context)
    assert not azure.count("POST", "/subscriptions/")


def test_a_failure_in_a_mapped_task_group_inside_the_block_restores_once(
    azure: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        DAG("patch", schedule=None) as dag,
        backed_up("vm-good", restore_to=disks(storage_account_id=STAGING)),
    ):

        @task_group
        def one(step: str) -> None:
            EmptyOperator(task_id="patch")

        one.expand(step=["a", "b"])
    restore = dag.get_task("backed_up.restore")
    for state, restores in (("success", False), ("failed", True)):
        inside = {("backed_up.one.patch", 0): "success", ("backed_up.one.patch", 1): state}
        mapped_states(monkeypatch, inside)
        restore.recovery_point = "none-of-this-id"
        # That it asks for the recovery point shows that it restores.
        with pytest.raises(AzureBackupNotFoundError if restores else AirflowSkipException):
            restore.execute(TaskInstance().context)


def test_mistakes_are_told_when_the_dag_is_parsed() -> None:
    with (
        pytest.raises(AzureBackupConfigError, match="protected_item"),
        DAG("patch", schedule=None),
        backed_up(" "),
    ):
        pass

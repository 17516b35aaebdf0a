"""What is protected, where, and how fresh: look-ups of the hooks, and the operator to map a fleet with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_azbackup.core.rest.requests import utc_datetime
from airflow_provider_azbackup.exceptions import AzureBackupConfigError, AzureBackupNotFoundError
from airflow_provider_azbackup.hooks import AzureBackupHook
from airflow_provider_azbackup.operators import (
    AzureBackupListProtectedItemsOperator,
    AzureBackupOperator,
)
from azure_backup_emulator import Emulator
from tests.support.tasks import TaskInstance, run


def names(found: list[Any]) -> list[str]:
    return sorted(each.friendly_name for each in found)


def test_all_kinds_are_listed_or_one(azure: Emulator, call: Callable[..., Any]) -> None:
    everything = names(call("list_protected_items"))
    assert {"vm-good", "documents", "payroll"} <= set(everything)
    assert "vm-elsewhere" not in everything  # of another vault
    assert names(call("list_protected_items", backup_management_type="AzureStorage")) == ["documents"]


def test_a_state_and_a_policy_narrow_the_list(azure: Emulator, clock: Any, call: Callable[..., Any]) -> None:
    azure.start_job("vm-good", seconds=10)
    clock.advance(20)
    assert names(call("list_protected_items", state="protected")) == ["vm-good"]
    machines = call("list_protected_items", backup_management_type="AzureIaasVM")
    default, fleet = sorted({each.policy for each in machines})
    assert "vm-good" in names(call("list_protected_items", policy=default.upper()))
    assert not set(names(call("list_protected_items", policy=default))) & set(
        names(call("list_protected_items", policy=fleet))
    )
    assert names(call("list_protected_items", policy="NoSuchPolicy")) == []


def test_an_item_tells_of_its_last_backup(azure: Emulator, clock: Any, call: Callable[..., Any]) -> None:
    azure.start_job("vm-good", seconds=10)
    clock.advance(20)
    found = {each.friendly_name: each for each in call("list_protected_items")}
    assert found["vm-good"].last_backup_status == "Completed"
    assert found["vm-good"].last_backup_time
    assert found["vm-handed-over"].last_backup_time is None


def test_points_are_listed_newest_first_and_in_a_window(
    azure: Emulator, clock: Any, call: Callable[..., Any]
) -> None:
    for _ in range(3):
        azure.start_job("vm-good", seconds=10)
        clock.advance(3600)
    points = call("list_recovery_points", "vm-good")
    assert [point.unix_time for point in points] == sorted(
        (point.unix_time for point in points), reverse=True
    )
    assert len(points) == 3
    assert len(call("list_recovery_points", "vm-good", after=utc_datetime(points[1].unix_time - 1))) == 2


def test_the_last_backup_is_the_newest_whatever_it_has_come_to(azure: Emulator, clock: Any) -> None:
    with AzureBackupHook() as hook:
        assert hook.last_backup("vm-good") is None
        azure.start_job("vm-good", seconds=10)
        clock.advance(60)
        newest = azure.start_job("vm-good", ending="Failed", seconds=10)
        azure.start_job("vm-good", operation="Restore", seconds=10)
        clock.advance(60)
        last = hook.last_backup("vm-good")
    assert last and last.ref.job_id == newest
    assert last.status == "Failed"


def test_a_machine_tells_its_vault_without_one_being_named(azure: Emulator, call: Callable[..., Any]) -> None:
    (item,) = azure.service.world.named("vm-elsewhere")
    found = call("backup_status", item.source_id, "westeurope")
    assert found.item.vault.name == "demo-vault-2"
    assert found.item.path.casefold() == item.path.casefold()
    assert found.policy


def test_an_unprotected_machine_has_none(azure: Emulator, call: Callable[..., Any]) -> None:
    machine = azure.service.world.named("vm-good")[0].source_id.replace("vm-good", "vm-new")
    assert call("backup_status", machine, "westeurope").item is None


def test_what_is_no_machine_is_refused_before_any_request(azure: Emulator, call: Callable[..., Any]) -> None:
    with pytest.raises(AzureBackupConfigError, match="is not the ARM id of a virtual machine"):
        call("backup_status", "vm-good", "westeurope")
    assert not azure.count("POST", "/subscriptions/")


def test_the_operator_returns_ids_to_map_over(azure: Emulator) -> None:
    ti = TaskInstance()
    found = run(
        lambda: AzureBackupListProtectedItemsOperator(task_id="fleet", backup_management_type="AzureStorage"),
        ti,
    )
    assert found == [azure.service.world.named("documents")[0].path]
    (told,) = ti.xcoms["protected_items"]
    assert told["friendly_name"] == "documents"
    assert told["item"] == found[0]


def test_a_deleted_item_is_left_out_unless_asked_for(azure: Emulator, call: Callable[..., Any]) -> None:
    azure.protect("vm-good", state="ProtectionStopped", deleted_ago=60.0)
    assert "vm-good" not in names(call("list_protected_items"))
    found = {each.friendly_name: each for each in call("list_protected_items", include_deleted=True)}
    assert (found["vm-good"].is_deleted, found["vm-fails"].is_deleted) == (True, False)
    assert found["vm-good"].facts()["purged_at"] == found["vm-good"].purged_at
    item = call("get_protected_item", azure.service.world.named("vm-good")[0].path)
    assert (item.is_deleted, item.purged_at) == (True, found["vm-good"].purged_at)


def test_several_states_narrow_the_list(azure: Emulator, call: Callable[..., Any]) -> None:
    azure.protect("vm-good", state="ProtectionStopped")
    stopped = names(call("list_protected_items", state="protectionstopped"))
    pending = names(call("list_protected_items", state="IRPending"))
    assert stopped == ["vm-good"]
    assert "vm-fails" in pending
    assert names(call("list_protected_items", state=["ProtectionStopped", "IRPending"])) == sorted(
        stopped + pending
    )


def fleet(**arguments: Any) -> Any:
    return run(lambda: AzureBackupListProtectedItemsOperator(task_id="fleet", **arguments), TaskInstance())


def test_a_fleet_of_nothing_is_an_error_that_names_the_nearest_policy_first(azure: Emulator) -> None:
    with pytest.raises(
        AzureBackupNotFoundError,
        match=r"nothing with policy 'fleeet'\. Policies of its items: fleet \(\d+\), .*States: IRPending",
    ) as caught:
        fleet(policy="fleeet")
    assert "allow_empty=True" in str(caught.value)
    with pytest.raises(AzureBackupConfigError, match=r"state is 'Protectd' \(did you mean 'Protected'\?\)"):
        fleet(state="Protectd")
    azure.protect("documents", deleted_ago=60.0)
    with pytest.raises(AzureBackupNotFoundError, match="Items whose backup data is soft-deleted: 1"):
        fleet(backup_management_type="AzureStorage")
    assert len(fleet(backup_management_type="AzureStorage", include_deleted=True)) == 1


def test_a_fleet_of_nothing_may_be_allowed(azure: Emulator) -> None:
    assert fleet(policy="fleeet", allow_empty=True) == []


def a_dag(*, mapped: bool) -> AzureBackupListProtectedItemsOperator:
    """Return the list task of a DAG that maps a gate over the list, or only hands the list to a task."""
    with DAG(dag_id="estate", schedule=None):
        items = AzureBackupListProtectedItemsOperator(task_id="fleet")
        if mapped:
            AzureBackupOperator.partial(task_id="backup").expand(protected_item=items.output)
        else:
            AzureBackupOperator(task_id="backup", protected_item="{{ ti.xcom_pull('fleet')[0] }}") << items
    return items


def test_a_list_that_airflow_would_not_map_is_refused_in_our_words(
    azure: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    length = len(run(lambda: a_dag(mapped=True), TaskInstance()))
    monkeypatch.setenv("AIRFLOW__CORE__MAX_MAP_LENGTH", str(length))
    assert len(run(lambda: a_dag(mapped=True), TaskInstance())) == length
    monkeypatch.setenv("AIRFLOW__CORE__MAX_MAP_LENGTH", str(length - 1))
    with pytest.raises(
        AzureBackupConfigError,
        match=rf"'fleet' found {length} items, .* over {length - 1} at most .*'backup'",
    ):
        run(lambda: a_dag(mapped=True), TaskInstance())


def test_a_long_list_that_nothing_is_mapped_over_is_a_warning(
    azure: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__MAX_MAP_LENGTH", "2")
    assert len(run(lambda: a_dag(mapped=False), TaskInstance())) > 2
    assert "No task is mapped over this list directly" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["allow_empty", "include_deleted"])
def test_text_is_no_permission(name: str) -> None:
    with pytest.raises(AzureBackupConfigError, match=f"{name} of task 'fleet' is 'False'"):
        AzureBackupListProtectedItemsOperator(task_id="fleet", **{name: "False"})


def test_a_management_type_that_no_item_has_is_refused_when_the_dag_is_parsed() -> None:
    with pytest.raises(AzureBackupConfigError, match="'VM'; expected one of AzureIaasVM"):
        AzureBackupListProtectedItemsOperator(task_id="fleet", backup_management_type="VM")

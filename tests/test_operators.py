"""The operator: one backup for one task, reported before the wait, clear about what it cannot know."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_azbackup.exceptions import (
    AzureBackupAuthError,
    AzureBackupConfigError,
    AzureBackupError,
    AzureBackupJobFailedError,
    AzureBackupNotFoundError,
    AzureBackupRefusedError,
    AzureBackupTimeoutError,
    AzureBackupTransientError,
)
from airflow_provider_azbackup.operators import AzureBackupOperator
from azure_backup_emulator import Emulator
from tests.support.tasks import TaskInstance, run

GUID = "5f0c5b7e-6f0a-4b8e-9c57-0d5a3c1f2e4d"
BOTH = pytest.mark.parametrize("deferrable", [False, True], ids=["in the worker", "deferred"])


def back_up(item: str = "vm-good", ti: TaskInstance | None = None, **arguments: Any) -> Any:
    return run(
        lambda: AzureBackupOperator(task_id="backup", protected_item=item, **arguments), ti or TaskInstance()
    )


def posts(azure: Emulator) -> int:
    return azure.count("POST", "/subscriptions/")


@BOTH
@pytest.mark.parametrize("item", ["vm-good", "documents", "payroll", "systemdb"])
def test_one_backup_is_started_and_waited_for(azure: Emulator, item: str, deferrable: bool) -> None:
    ti = TaskInstance()
    job_id = back_up(item, ti, deferrable=deferrable)
    assert ti.xcoms["job_id"] == job_id == ti.xcoms["job"]["job_id"]
    assert ti.xcoms["job"]["outcome"] == "succeeded"
    assert ti.xcoms["job"]["item"].lower().startswith(item)  # of a database: "SYSTEMDB [hanavm]"
    assert posts(azure) == 1
    assert bool(ti.deferred_with) is deferrable


@BOTH
def test_a_failed_backup_fails_the_task(azure: Emulator, deferrable: bool) -> None:
    ti = TaskInstance()
    with pytest.raises(AzureBackupJobFailedError, match="UserErrorVmNotInDesirableState"):
        back_up("vm-fails", ti, deferrable=deferrable)
    assert ti.xcoms["job"]["outcome"] == "failed"


def test_job_id_and_links_are_there_while_the_task_is_deferred(azure: Emulator) -> None:
    ti = TaskInstance()
    with pytest.raises(TaskDeferred):
        AzureBackupOperator(task_id="backup", protected_item="vm-good", deferrable=True).execute(ti.context)
    vault = azure.service.world.vaults[0].path
    tenant = azure.connection()["extra"]["tenant_id"]
    assert ti.xcoms["azure_backup_vault_url"] == f"https://portal.azure.com/#@{tenant}/resource{vault}"
    assert ti.xcoms["azure_backup_job_url"].endswith(f"{vault}/backupJobs/{ti.xcoms['job_id']}")


def test_a_backup_just_started_is_not_looked_at_before_the_deferral(azure: Emulator) -> None:
    with pytest.raises(TaskDeferred):
        AzureBackupOperator(task_id="backup", protected_item="vm-good", deferrable=True).execute(
            TaskInstance().context
        )
    assert azure.count("GET", "/backupJobs/") == 0


def test_a_deferred_wait_costs_the_worker_no_look(azure: Emulator, clock: Any) -> None:
    job_id = azure.start_job("vm-good", seconds=10)
    clock.advance(20)
    ti = TaskInstance()
    with pytest.raises(TaskDeferred):
        AzureBackupOperator(task_id="gate", job_id=job_id, deferrable=True).execute(ti.context)
    assert azure.count("GET", "/backupJobs") == 0


@pytest.mark.parametrize(
    ("item", "intervals"), [("vm-good", 5), ("payroll", 2), ("systemdb", 2), ("documents", 0.25)]
)
def test_the_first_look_waits_for_what_the_workload_takes_at_least(
    azure: Emulator, item: str, intervals: float
) -> None:
    ti = TaskInstance()
    back_up(item, ti, deferrable=True, poll_interval=60)
    assert ti.deferred_with[0]["first_pause"] == intervals * 60


@BOTH
def test_wait_for_completion_false_neither_waits_nor_defers(azure: Emulator, deferrable: bool) -> None:
    ti = TaskInstance()
    job_id = back_up(ti=ti, deferrable=deferrable, wait_for_completion=False)
    assert ti.xcoms["job_id"] == job_id
    assert ti.deferred_with == []
    assert azure.count("GET", "/backupJobs/") == 0


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 504, "processed": True},
        {"status": 500, "processed": True},
        {"status": 503, "processed": True, "retry_after": 1},
        {"reset": True, "processed": True},
    ],
    ids=["504", "500", "503 with Retry-After", "a reset"],
)
def test_a_backup_request_with_an_unknown_fate_is_not_sent_twice(
    azure: Emulator, fault: dict[str, Any]
) -> None:
    azure.fault(method="POST", path="/backup", times=None, **fault)
    ti = TaskInstance()
    back_up(ti=ti)
    assert posts(azure) == 1
    assert ti.xcoms["job"]["outcome"] == "succeeded"


def test_a_throttled_backup_request_is_sent_again_because_nothing_was_started(azure: Emulator) -> None:
    azure.fault(method="POST", path="/backup", times=2, status=429, retry_after=17)
    back_up()
    assert (posts(azure), azure.count("POST", "/backup", 202)) == (3, 1)


def test_a_backup_that_azure_accepted_and_dropped_is_told(azure: Emulator) -> None:
    azure.plan("vm-good", operation="Failed")
    with pytest.raises(AzureBackupRefusedError, match="no backup was started"):
        back_up()


@pytest.mark.parametrize("operation", ["InProgress", "NoProperties"])
def test_the_job_of_an_operation_that_names_none_is_found_in_the_list(
    azure: Emulator, operation: str
) -> None:
    azure.plan("vm-good", operation=operation)
    ti = TaskInstance()
    back_up(ti=ti)
    assert posts(azure) == 1
    assert ti.xcoms["job"]["outcome"] == "succeeded"


@BOTH
def test_a_wait_that_takes_too_long_says_what_the_job_was_doing(azure: Emulator, deferrable: bool) -> None:
    azure.plan("vm-good", ending="Never")
    ti = TaskInstance()
    with pytest.raises(AzureBackupTimeoutError, match="goes on in Azure"):
        back_up(ti=ti, deferrable=deferrable, timeout=1800)
    assert ti.xcoms["job"]["outcome"] == "running"


@pytest.mark.parametrize(
    "event",
    [
        None,
        "success",
        {},
        {"status": "success"},
        {"version": 1},
        {"version": 1, "job": None, "error": None},
        {"version": 1, "job": {"arm_id": "x", "body": {"properties": {"status": "Completed"}}}},
        {"version": 1, "job": {"arm_id": f"/v/backupJobs/{GUID}", "body": {}}, "error": None},
        {"version": 2, "job": {"body": {"properties": {"status": "Completed"}}}},
    ],
)
def test_the_gate_never_opens_on_an_event_it_cannot_read(azure: Emulator, event: Any) -> None:
    task = AzureBackupOperator(task_id="backup", protected_item="vm-good")
    with pytest.raises(AzureBackupError):
        task.execute_complete(TaskInstance().context, event)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({}, "neither of protected_item and job_id"),
        ({"protected_item": "vm", "job_id": GUID}, "both of protected_item and job_id"),
        ({"job_id": "last-night"}, "'last-night' is not a job id"),
        ({"job_id": f"/subscriptions/s/backupJobs/{GUID}"}, "is not a job id"),
        ({"protected_item": "/subscriptions/s/resourceGroups/g"}, "neither a name nor the ARM id"),
        ({"protected_item": " "}, "neither a name nor the ARM id"),
        ({"protected_item": "vm", "backup_type": "Partial"}, "backup_type is 'Partial'"),
        ({"protected_item": "vm", "recovery_point_expiry": "next week"}, "is not a date and time"),
        ({"protected_item": "vm", "poll_interval": 0}, "poll_interval of task 'backup' is 0"),
        ({"protected_item": "vm", "poll_interval": True}, "poll_interval of task 'backup' is True"),
        ({"protected_item": "vm", "timeout": -1}, "timeout of task 'backup' is -1"),
        ({"protected_item": "vm", "timeout": float("nan")}, "timeout of task 'backup' is nan"),
        ({"protected_item": "vm", "timeout": "3600"}, "timeout of task 'backup' is '3600'"),
    ],
)
def test_bad_arguments_are_refused_when_the_dag_is_parsed(arguments: dict[str, Any], complaint: str) -> None:
    with pytest.raises(AzureBackupConfigError, match=complaint):
        AzureBackupOperator(task_id="backup", **arguments)


def test_templates_are_checked_when_they_are_rendered(azure: Emulator) -> None:
    task = AzureBackupOperator(task_id="gate", job_id="{{ ti.xcom_pull('start') }}")
    task.job_id = "None"
    with pytest.raises(AzureBackupConfigError, match="'None' is not a job id"):
        task.execute(TaskInstance().context)
    assert azure.requests == []


def test_all_that_people_template_is_a_template_field() -> None:
    task = AzureBackupOperator(task_id="backup", protected_item="vm")
    assert set(task.template_fields) == {
        "protected_item",
        "job_id",
        "vault_name",
        "resource_group_name",
        "subscription_id",
        "vault_type",
        "recovery_point_expiry",
        "backup_type",
        "rule_name",
        "retention_tag",
        "expected_by",
        "azure_backup_conn_id",
    }
    assert all(hasattr(task, name) for name in task.template_fields)


def test_without_a_vault_nothing_is_asked(azure: Emulator, connect: Callable[..., None]) -> None:
    connect(azure.connection(vault_name=""))
    with pytest.raises(AzureBackupConfigError, match="comes without a vault"):
        back_up()
    assert azure.requests == []


def test_an_unknown_item_is_told_with_those_that_are_known(azure: Emulator) -> None:
    with pytest.raises(AzureBackupNotFoundError, match=r"protects nothing called 'vm-typo'.*documents"):
        back_up("vm-typo")
    assert posts(azure) == 0


def test_an_ambiguous_name_is_refused_with_its_candidates(azure: Emulator) -> None:
    with pytest.raises(AzureBackupConfigError, match=r"demo-vms;twin.*demo-vms-b;twin"):
        back_up("twin")
    assert posts(azure) == 0


def test_a_wrong_secret_is_told_without_the_secret(azure: Emulator, connect: Callable[..., None]) -> None:
    connect({**azure.connection(), "password": "a-very-wrong-secret"})
    with pytest.raises(AzureBackupAuthError, match="AADSTS7000215") as refused:
        back_up()
    assert "a-very-wrong-secret" not in str(refused.value)


def test_a_missing_right_is_named(azure: Emulator, connect: Callable[..., None]) -> None:
    connect(azure.connection("reader"))
    with pytest.raises(
        AzureBackupAuthError, match=r"Missing right: Microsoft\.RecoveryServices.*backup/action"
    ):
        back_up()


def test_an_endpoint_in_plain_http_is_refused_before_any_request(
    azure: Emulator, connect: Callable[..., None]
) -> None:
    connect(azure.connection(endpoint="http://management.example.com"))
    with pytest.raises(AzureBackupConfigError, match="plain http"):
        back_up()
    assert azure.requests == []


def test_an_unknown_cloud_is_refused_before_any_request(
    azure: Emulator, connect: Callable[..., None]
) -> None:
    connect(azure.connection(cloud_environment="AzureMoonCloud"))
    with pytest.raises(AzureBackupConfigError, match=r"'AzureMoonCloud'.*AzurePublicCloud"):
        back_up()
    assert azure.requests == []


def test_an_endpoint_nobody_listens_on_starts_nothing_and_says_so(
    azure: Emulator, connect: Callable[..., None]
) -> None:
    connect(azure.connection(endpoint="https://127.0.0.1:9"))
    item = azure.service.world.named("vm-good")[0].path
    with pytest.raises(AzureBackupTransientError, match=r"no backup of .* was started"):
        back_up(item)


@pytest.mark.parametrize(
    "expiry",
    [timedelta(days=45), "2027-01-31T10:00:00+02:00", datetime(2027, 1, 31, 8)],
    ids=["timedelta", "text", "naive"],
)
def test_the_expiry_of_the_recovery_point_reaches_azure(azure: Emulator, clock: Any, expiry: Any) -> None:
    ti = TaskInstance()
    back_up(ti=ti, recovery_point_expiry=expiry)
    told = ti.xcoms["job"]["details"]["Recovery Point Expiry Time in UTC"]
    day = (
        datetime.fromtimestamp(clock(), UTC) + expiry
        if isinstance(expiry, timedelta)
        else datetime(2027, 1, 31, tzinfo=UTC)
    )
    # Azure reports the day alone, and the clock has moved on by the length of the backup.
    assert abs(datetime.strptime(told.split()[0], "%m/%d/%Y").replace(tzinfo=UTC) - day) < timedelta(days=2)


def test_an_expiry_that_has_passed_is_refused_before_any_backup(azure: Emulator) -> None:
    with pytest.raises(AzureBackupConfigError, match="has passed"):
        back_up(recovery_point_expiry="2020-01-01")
    assert posts(azure) == 0


def test_a_backup_type_its_workload_does_not_know_is_refused_before_any_backup(azure: Emulator) -> None:
    with pytest.raises(AzureBackupConfigError, match="'Log' is not offered for 'systemdb'"):
        back_up("systemdb", backup_type="Log")
    with pytest.raises(AzureBackupConfigError, match="enable_compression is for SQL"):
        back_up("vm-good", enable_compression=True)
    assert posts(azure) == 0


def test_the_vault_of_a_task_goes_before_that_of_the_connection(azure: Emulator) -> None:
    with pytest.raises(AzureBackupNotFoundError, match="demo-vault-2"):
        back_up("vm-good", vault_name="demo-vault-2")


def test_nothing_that_leaves_the_task_holds_a_secret(azure: Emulator) -> None:
    ti = TaskInstance()
    back_up(ti=ti, deferrable=True)
    left = json.dumps([ti.xcoms, ti.deferred_with])
    assert azure.connection()["password"] not in left
    assert "ey" + "J" not in left

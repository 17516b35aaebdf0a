"""Mistakes that used to be taken without a word: each is refused, and the error says where to correct it."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG, BaseOperator

from airflow_provider_azbackup.exceptions import AzureBackupConfigError
from airflow_provider_azbackup.hooks import AzureBackupHook
from airflow_provider_azbackup.operators import (
    AzureBackupCancelJobOperator,
    AzureBackupListProtectedItemsOperator,
    AzureBackupOperator,
    AzureBackupRestoreOperator,
)
from airflow_provider_azbackup.restore_to import original_share
from airflow_provider_azbackup.sensors import AzureBackupFreshnessSensor, AzureBackupJobSensor
from azure_backup_emulator import Emulator
from tests.support.tasks import TaskInstance

Call = Callable[..., Any]
GUID = "5f0c5b7e-6f0a-4b8e-9c57-0d5a3c1f2e4d"
SHARE = original_share(copy_options="Overwrite")


@pytest.mark.parametrize(
    ("method", "arguments", "given", "hint"),
    [
        ("trigger_backup", ["payroll"], {"backup_typ": "CopyOnlyFull"}, "backup_type"),
        ("trigger_restore", ["documents"], {"restore_to": SHARE, "asof": "2026-01-01"}, "as_of"),
        ("list_jobs", [], {"statuss": "Failed"}, "status"),
        ("list_protected_items", [], {"polcy": "fleet"}, "policy"),
        ("list_recovery_points", ["vm-good"], {"befor": None}, "before"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_a_misspelt_keyword_of_a_hook_method_is_refused_before_any_request(
    azure: Emulator, call: Call, method: str, arguments: list[str], given: dict[str, Any], hint: str
) -> None:
    with pytest.raises(AzureBackupConfigError, match=rf"{method}\(\) takes no .*did you mean '{hint}'"):
        call(method, *arguments, **given)
    assert not azure.service.requests(path_contains="/subscriptions/")


@pytest.mark.parametrize("given", [None, ["vm-good"], {"name": "vm-good"}, 7], ids=repr)
@pytest.mark.parametrize(
    ("method", "more"),
    [
        ("trigger_backup", ()),
        ("resolve_protected_item", ()),
        ("get_protected_item", ()),
        ("list_recovery_points", ()),
        ("get_job", ()),
        ("cancel_job", ()),
        ("get_recovery_point", ("1234",)),
    ],
)
def test_what_is_no_text_is_refused_by_a_hook_method_before_any_request(
    azure: Emulator, call: Call, method: str, more: tuple[str, ...], given: Any
) -> None:
    with pytest.raises(AzureBackupConfigError):
        call(method, given, *more)
    assert not azure.service.requests(path_contains="/subscriptions/")


def test_a_vault_that_a_method_cannot_take_is_refused(azure: Emulator, call: Call) -> None:
    with pytest.raises(
        AzureBackupConfigError, match=r"list_protected_items\(\) takes no vault_name; it takes"
    ):
        call("list_protected_items", vault_name="demo-vault-2")


@pytest.mark.parametrize(
    ("method", "arguments", "given"),
    [
        ("list_jobs", [], {"status": "Faild"}),
        ("list_jobs", [], {"status": ["Failed"]}),
        ("list_jobs", [], {"operation": "Backups"}),
        ("list_jobs", [], {"backup_management_type": "AzureVM"}),
        ("list_protected_items", [], {"backup_management_type": "AzureVM"}),
        ("list_protected_items", [], {"state": ["Protected", "Stopped"]}),
        ("list_recovery_points", ["payroll"], {"query_type": "Logs"}),
        ("list_recovery_points", ["payroll"], {"after": "yesterday"}),
        ("trigger_backup", ["payroll"], {"backup_type": "copyonly"}),
        ("trigger_backup", ["payroll"], {"enable_compression": "False"}),
        ("trigger_backup", [["payroll"]], {}),
    ],
    ids=str,
)
def test_a_value_that_azure_does_not_know_is_refused(
    azure: Emulator, call: Call, method: str, arguments: list[Any], given: dict[str, Any]
) -> None:
    with pytest.raises(AzureBackupConfigError, match=r"expected|is not offered"):
        call(method, *arguments, **given)
    assert not azure.count("POST", "/subscriptions/")


def test_upper_and_lower_case_of_a_value_do_not_count(azure: Emulator, call: Call, clock: Any) -> None:
    azure.start_job("vm-fails", ending="Failed", seconds=10)
    clock.advance(60)
    azure.start_job("vm-good")
    assert [job.item for job in call("list_jobs", status="failed", operation="backup")] == ["vm-fails"]


@pytest.mark.parametrize(
    "value", [["vm-good"], ("vm-good",), {"name": "vm-good"}, {"vm-good"}, 7, b"vm"], ids=repr
)
@pytest.mark.parametrize(
    ("kind", "name", "needed"),
    [
        (AzureBackupOperator, "protected_item", {}),
        (AzureBackupOperator, "job_id", {}),
        (AzureBackupOperator, "vault_name", {"protected_item": "vm-good"}),
        (AzureBackupOperator, "backup_type", {"protected_item": "vm-good"}),
        (AzureBackupOperator, "azure_backup_conn_id", {"protected_item": "vm-good"}),
        (AzureBackupRestoreOperator, "protected_item", {"restore_to": SHARE}),
        (AzureBackupRestoreOperator, "recovery_point", {"restore_to": SHARE, "protected_item": "documents"}),
        (AzureBackupCancelJobOperator, "job_id", {}),
        (AzureBackupListProtectedItemsOperator, "policy", {}),
        (AzureBackupListProtectedItemsOperator, "subscription_id", {}),
        (AzureBackupJobSensor, "job_id", {}),
        (AzureBackupFreshnessSensor, "protected_item", {}),
    ],
    ids=lambda each: getattr(each, "__name__", each) if not isinstance(each, dict) else "",
)
def test_a_list_or_a_dict_where_text_belongs_is_refused_when_the_dag_is_parsed(
    kind: Any, name: str, needed: dict[str, Any], value: Any
) -> None:
    with pytest.raises(AzureBackupConfigError, match=rf"{name} of task 'task' is .*; expected text"):
        kind(task_id="task", **needed, **{name: value})


def test_the_error_about_a_list_shows_how_to_map() -> None:
    with pytest.raises(AzureBackupConfigError, match=r"\.expand\(protected_item=\[\.\.\.\]\)"):
        AzureBackupOperator(task_id="task", protected_item=["vm-good", "vm-warned"])  # type: ignore[arg-type]  # the mistake


def test_the_output_of_another_task_is_no_list() -> None:
    with DAG("d", schedule=None):
        fleet = AzureBackupListProtectedItemsOperator(task_id="fleet")
        AzureBackupOperator(task_id="backup", protected_item=fleet.output)


def test_a_dict_that_a_template_or_a_mapping_brings_is_refused_before_any_request(azure: Emulator) -> None:
    task = AzureBackupOperator(task_id="backup", protected_item="{{ params.item }}")
    task.protected_item = {"name": "vm-good"}  # type: ignore[assignment]  # as Airflow renders it
    with pytest.raises(
        AzureBackupConfigError, match=r"protected_item of task 'backup' is {'name': 'vm-good'}"
    ):
        task.execute(TaskInstance().context)
    assert azure.requests == []


@pytest.mark.parametrize("scheme", ["azure_backup", "AZURE_BACKUP"])
def test_a_connection_uri_with_an_underscore_signs_in_as_nobody(
    azure: Emulator, call: Call, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    uri = f"{scheme}://an-id:a-long-secret@/?tenant_id=t&subscription_id=s&resource_group_name=g&vault_name=v"
    monkeypatch.setenv("AIRFLOW_CONN_AZURE_BACKUP_DEFAULT", uri)
    with pytest.raises(
        AzureBackupConfigError, match="must begin with azure-backup://, with a dash"
    ) as caught:
        call("list_jobs")
    assert "a-long-secret" not in str(caught.value)


def test_a_connection_uri_with_a_dash_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    uri = "azure-backup://an-id:a-long-secret@/?tenant_id=t&subscription_id=s&resource_group_name=g&vault_name=v"
    monkeypatch.setenv("AIRFLOW_CONN_AZURE_BACKUP_DEFAULT", uri)
    with AzureBackupHook() as hook:
        assert hook.settings.credential == "ClientSecretCredential"
        assert hook.settings.credential_arguments["client_id"] == "an-id"
        assert hook.settings.vault_name == "v"


def test_a_connection_of_another_type_is_called_that(
    azure: Emulator, call: Call, connect: Callable[..., None]
) -> None:
    connect({"conn_type": "postgres", "login": "me", "password": "-", "host": "db"})
    with pytest.raises(AzureBackupConfigError, match="is of type 'postgres'; expected azure_backup or azure"):
        call("list_jobs")


@pytest.mark.parametrize(
    ("key", "hint"),
    [("vault", "vault_name"), ("tenant", "tenant_id"), ("client_secret", ""), ("vaultname", "vault_name")],
)
def test_an_unknown_key_in_the_extra_is_named(
    azure: Emulator, call: Call, connect: Callable[..., None], key: str, hint: str
) -> None:
    connect(azure.connection(**{key: "something-long"}))
    with pytest.raises(AzureBackupConfigError, match=f"unknown keys in its extra: '{key}'") as caught:
        call("list_jobs")
    assert (f"did you mean '{hint}'" in str(caught.value)) is bool(hint)
    assert "something-long" not in str(caught.value)


def test_keys_that_a_form_left_empty_are_no_mistake(azure: Emulator, connect: Callable[..., None]) -> None:
    connect(azure.connection(some_field_of_another_release=None))
    with AzureBackupHook() as hook:
        assert hook.settings.vault_name


class Inline(BaseOperator):
    """A task that runs an operator inside itself, as the function of a ``@task`` may."""


@pytest.mark.parametrize(
    "make",
    [
        lambda **more: AzureBackupOperator(task_id="inner", protected_item="vm-good", **more),
        lambda **more: AzureBackupOperator(task_id="inner", job_id=GUID, **more),
        lambda **more: AzureBackupRestoreOperator(
            task_id="inner", protected_item="documents", restore_to=SHARE, **more
        ),
        lambda **more: AzureBackupCancelJobOperator(task_id="inner", job_id=GUID, **more),
        lambda **more: AzureBackupJobSensor(task_id="inner", job_id=GUID, **more),
        lambda **more: AzureBackupFreshnessSensor(task_id="inner", protected_item="vm-good", **more),
    ],
    ids=["backup", "job", "restore", "cancel", "sensor", "freshness"],
)
def test_a_deferrable_operator_inside_another_task_fails_before_anything_is_started(
    azure: Emulator, make: Callable[..., Any]
) -> None:
    ti: Any = TaskInstance()
    ti.task = Inline(task_id="outer")
    with pytest.raises(
        AzureBackupConfigError, match=r"runs inside task 'outer' \(Inline\).*deferrable=False"
    ):
        make(deferrable=True).execute(ti.context)
    assert not azure.service.requests(path_contains="/subscriptions/")


def test_an_operator_that_waits_in_the_worker_may_run_inside_another_task(azure: Emulator) -> None:
    ti: Any = TaskInstance()
    ti.task = Inline(task_id="outer")
    assert AzureBackupOperator(task_id="inner", protected_item="vm-good", deferrable=False).execute(
        ti.context
    )


def test_a_mapped_operator_is_no_operator_inside_another_task() -> None:
    ti = SimpleNamespace(task=SimpleNamespace(task_id="backup", operator_class=AzureBackupOperator))
    AzureBackupOperator(task_id="backup", protected_item="vm-good", deferrable=True).check_resumes({"ti": ti})  # type: ignore[typeddict-item]  # all it reads

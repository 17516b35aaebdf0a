"""Both hooks, method by method, against the emulator: what comes back, and what an error says."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_provider_azbackup.core.model.jobs import Outcome
from airflow_provider_azbackup.core.model.resources import OperationRef, Vault
from airflow_provider_azbackup.exceptions import (
    AzureBackupConfigError,
    AzureBackupJobFailedError,
    AzureBackupNotFoundError,
    AzureBackupRefusedError,
    AzureBackupTimeoutError,
    AzureBackupUnconfirmedStartError,
)
from airflow_provider_azbackup.hooks import AzureBackupHook
from azure_backup_emulator import Emulator

Call = Callable[..., Any]
SUBSCRIPTION = "/subscriptions/00000000-0000-0000-0000-00000000d3a0"
VAULT = Vault.parse(
    f"{SUBSCRIPTION}/resourceGroups/demo-rg/providers/Microsoft.RecoveryServices/vaults/demo-vault"
)
MACHINE = f"{SUBSCRIPTION}/resourceGroups/demo-vms/providers/Microsoft.Compute/virtualMachines/vm-good"
ACCOUNT = f"{SUBSCRIPTION}/resourceGroups/demo-files/providers/Microsoft.Storage/storageAccounts/demofiles"
UNKNOWN = "6a7b0b7e-1c3d-4e5f-8a9b-0c1d2e3f4a5b"


def asked(azure: Emulator) -> list[str]:
    return [
        f"{each['method']} {each['path']}" for each in azure.requests if "/subscriptions/" in each["path"]
    ]


# Which item is meant


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("vm-good", "vm"),
        ("VM-Good", "vm"),
        ("VM;iaasvmcontainerv2;demo-vms;vm-good", "vm"),
        ("documents", "azurefileshare"),
        (f"{ACCOUNT}/fileServices/default/shares/documents", "azurefileshare"),
        ("payroll", "sqldatabase"),
        ("systemdb", "saphanadatabase"),
    ],
)
def test_a_name_or_a_share_leads_to_the_one_item_meant(
    azure: Emulator, call: Call, name: str, kind: str
) -> None:
    item = call("resolve_protected_item", name)
    assert item.workload == kind
    assert item.path in {each.path for each in azure.service.world.items}


def test_the_arm_id_of_an_item_needs_no_request_and_that_of_a_vm_one(azure: Emulator, call: Call) -> None:
    path = azure.service.world.named("vm-good")[0].path
    assert call("resolve_protected_item", path).path == path
    assert azure.requests == []
    assert call("resolve_protected_item", MACHINE).path == path
    assert asked(azure) == [f"GET {path}"]


def test_a_vm_of_another_subscription_is_not_the_protected_one_of_its_name(
    azure: Emulator, call: Call
) -> None:
    elsewhere = MACHINE.replace(VAULT.subscription_id, "99999999-9999-9999-9999-999999999999")
    with pytest.raises(AzureBackupConfigError, match=f"another VM called .*Given: {elsewhere}.*{MACHINE}"):
        call("trigger_backup", elsewhere)
    assert azure.count("POST", "/protectedItems/") == 0


def test_an_ambiguous_name_is_an_error_that_lists_the_candidates(azure: Emulator, call: Call) -> None:
    with pytest.raises(
        AzureBackupConfigError, match="'twin' means 2 protected items in vault demo-vault"
    ) as caught:
        call("trigger_backup", "twin")
    assert all(each.path in str(caught.value) for each in azure.service.world.named("twin"))
    assert azure.count("POST", "/protectedItems/") == 0


def test_an_unknown_name_is_an_error_that_lists_what_there_is(azure: Emulator, call: Call) -> None:
    with pytest.raises(
        AzureBackupNotFoundError, match="vault demo-vault protects nothing called 'vm-god'"
    ) as caught:
        call("trigger_backup", "vm-god")
    assert "(did you mean 'vm-good'?); it protects vm-good, " in str(caught.value)
    assert azure.count("POST", "/protectedItems/") == 0


def test_a_vm_that_is_not_protected_is_named_as_it_was_written(azure: Emulator, call: Call) -> None:
    bare = MACHINE.replace("vm-good", "vm-bare")
    with pytest.raises(
        AzureBackupNotFoundError, match=f"does not protect VM 'vm-bare'.* Given: {bare}"
    ) as caught:
        call("trigger_backup", bare)
    assert "hook.backup_status(vm_id, region)" in str(caught.value)


@pytest.mark.parametrize("text", ["", " ", "/subscriptions/s/resourceGroups/g", f"{MACHINE}/extensions/e"])
def test_what_can_be_no_item_is_told_before_any_request(azure: Emulator, call: Call, text: str) -> None:
    with pytest.raises(AzureBackupConfigError, match="is neither a name nor the ARM id of"):
        call("trigger_backup", text)
    assert azure.requests == []


# Starting


@pytest.mark.parametrize(
    ("item", "options", "operation"),
    [
        ("vm-good", {}, "Backup"),
        ("vm-good", {"recovery_point_expiry": datetime(2030, 1, 1, tzinfo=UTC)}, "Backup"),
        ("documents", {}, "Backup"),
        ("payroll", {}, "Backup (Full)"),
        ("payroll", {"backup_type": "CopyOnlyFull", "enable_compression": True}, "Backup (CopyOnlyFull)"),
        ("systemdb", {"backup_type": "Differential"}, "Backup (Differential)"),
    ],
)
def test_a_backup_of_each_workload_becomes_a_job_that_completes(
    azure: Emulator, call: Call, item: str, options: dict[str, Any], operation: str
) -> None:
    accepted = call("trigger_backup", item, **options)
    job = call("wait_for_job", call("wait_for_operation", accepted).job_id, timeout=86400)
    # Azure adds the machine to the name of a database: "payroll [sqlvm]".
    assert job.item.casefold().partition(" ")[0] == item
    assert (job.operation, job.outcome) == (operation, Outcome.SUCCEEDED)
    assert azure.count("POST", "/protectedItems/") == 1


@pytest.mark.parametrize(
    ("item", "options", "message"),
    [
        ("vm-good", {"backup_type": "Log"}, "backup_type 'Log' is not offered for"),
        ("systemdb", {"backup_type": "Log"}, "backup_type 'Log' is not offered for"),
        ("documents", {"enable_compression": False}, "enable_compression is for SQL and SAP HANA"),
    ],
)
def test_an_option_the_workload_does_not_know_is_told_and_nothing_is_started(
    azure: Emulator, call: Call, item: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(AzureBackupConfigError, match=message):
        call("trigger_backup", item, **options)
    assert azure.count("POST", "/protectedItems/") == 0


def test_an_operation_is_followed_until_it_names_its_job(azure: Emulator, call: Call) -> None:
    operation = call("trigger_backup", azure.service.world.named("vm-good")[0].path)
    assert call("wait_for_operation", operation).job_id in azure.service.world.jobs
    assert asked(azure)[1] == f"GET {VAULT.path}/backupOperations/{operation.operation_id}", (
        "not the signed URL"
    )


def test_a_failed_operation_says_why_and_that_nothing_was_started(azure: Emulator, call: Call) -> None:
    azure.plan("vm-good", operation="Failed")
    with pytest.raises(AzureBackupRefusedError, match="no backup was started: UserErrorGuestAgent") as caught:
        call("wait_for_operation", call("trigger_backup", MACHINE))
    assert caught.value.code == "UserErrorGuestAgentStatusUnavailable"


@pytest.mark.parametrize(
    ("operation", "message"),
    [("InProgress", "did not end within 300 s"), ("NoProperties", "succeeded without naming a job")],
)
def test_an_operation_without_a_job_ends_as_unconfirmed(
    azure: Emulator, call: Call, operation: str, message: str
) -> None:
    azure.plan("vm-good", operation=operation)
    with pytest.raises(AzureBackupUnconfirmedStartError, match=message):
        call("wait_for_operation", call("trigger_backup", MACHINE))


def test_an_operation_that_lists_its_jobs_names_the_first(azure: Emulator, call: Call) -> None:
    azure.plan("vm-good", operation="JobIds")
    ref = call("wait_for_operation", call("trigger_backup", MACHINE))
    assert ref.job_id in azure.service.world.jobs


def test_an_operation_that_azure_does_not_know_may_have_started_a_backup(azure: Emulator, call: Call) -> None:
    with pytest.raises(AzureBackupUnconfirmedStartError, match="404"):
        call("wait_for_operation", OperationRef(vault=VAULT, operation_id=UNKNOWN))


def test_a_second_backup_that_azure_refuses_is_told(azure: Emulator, call: Call) -> None:
    azure.plan("vm-good", busy="conflict")
    call("trigger_backup", MACHINE)
    with pytest.raises(AzureBackupRefusedError, match="409") as caught:
        call("trigger_backup", MACHINE)
    assert caught.value.request_id


# Looking


def test_a_job_is_found_by_its_guid_and_by_its_arm_id(azure: Emulator, call: Call) -> None:
    job_id = azure.start_job("vm-good")
    by_guid = call("get_job", job_id)
    assert by_guid == call("get_job", by_guid.ref.path)
    assert (by_guid.ref.vault, by_guid.item, by_guid.status) == (VAULT, "vm-good", "InProgress")


def test_an_arm_id_leads_to_a_job_of_another_vault_than_the_connections(azure: Emulator, call: Call) -> None:
    job_id = azure.start_job("vm-elsewhere")
    with pytest.raises(AzureBackupNotFoundError):
        call("get_job", job_id)
    job = call("get_job", f"{VAULT.path}-2/backupJobs/{job_id}")
    assert (job.ref.vault.name, job.item) == ("demo-vault-2", "vm-elsewhere")


def test_an_unknown_job_is_not_found(azure: Emulator, call: Call) -> None:
    with pytest.raises(AzureBackupNotFoundError, match="404 ResourceNotFound") as caught:
        call("get_job", UNKNOWN)
    assert (caught.value.status, caught.value.code) == (404, "ResourceNotFound")
    assert caught.value.request_id


@pytest.mark.parametrize(
    "text", ["", "42", "vm-good", f"{VAULT.path}/backupJobs/42", f"/elsewhere/{UNKNOWN}"]
)
def test_what_is_no_job_id_is_told_before_any_request(azure: Emulator, call: Call, text: str) -> None:
    with pytest.raises(AzureBackupConfigError, match="is not a job id"):
        call("get_job", text)
    assert azure.requests == []


def test_a_list_brings_the_jobs_of_all_pages(azure: Emulator, call: Call) -> None:
    jobs = {azure.start_job(f"fleet-{number:02}") for number in range(1, 11)}
    azure.configure(page_size=3)
    assert {job.ref.job_id for job in call("list_jobs")} == jobs
    assert azure.count("GET", "/backupJobs") == 4


def test_a_list_is_narrowed_by_status_operation_and_management_type(
    azure: Emulator, call: Call, clock: Any
) -> None:
    azure.start_job("vm-fails", ending="Failed", seconds=10)
    clock.advance(60)
    azure.start_job("vm-good")
    azure.start_job("documents", operation="Restore")

    def items(**wanted: Any) -> set[str]:
        return {job.item for job in call("list_jobs", **wanted)}

    assert items() == {"vm-fails", "vm-good", "documents"}
    assert items(status="InProgress") == {"vm-good", "documents"}
    assert items(status="Failed") == {"vm-fails"}
    assert items(operation="Restore") == {"documents"}
    assert items(backup_management_type="AzureStorage") == {"documents"}
    assert items(status="InProgress", backup_management_type="AzureIaasVM") == {"vm-good"}


def test_a_list_is_narrowed_to_a_window_of_time(azure: Emulator, call: Call, clock: Any) -> None:
    azure.start_job("fleet-01")
    clock.advance(7200)
    azure.start_job("fleet-02")
    clock.advance(60)
    now = datetime.fromtimestamp(clock(), UTC)
    hour = timedelta(hours=1)
    recent = call("list_jobs", started_after=now - hour, started_before=now + hour)
    older = call("list_jobs", started_after=now - 3 * hour, started_before=now - hour)
    assert ([job.item for job in recent], [job.item for job in older]) == (["fleet-02"], ["fleet-01"])


# Cancelling


def test_a_cancelled_job_ends_cancelled_and_fails_the_wait(azure: Emulator, call: Call) -> None:
    job_id = azure.start_job("vm-good")
    call("cancel_job", job_id)
    with pytest.raises(AzureBackupJobFailedError, match="was cancelled") as caught:
        call("wait_for_job", job_id, timeout=86400)
    assert caught.value.job and caught.value.job["outcome"] == "cancelled"


def test_a_job_that_is_over_cannot_be_cancelled(azure: Emulator, call: Call, clock: Any) -> None:
    job_id = azure.start_job("vm-good", seconds=60)
    clock.advance(120)
    with pytest.raises(AzureBackupRefusedError, match="400"):
        call("cancel_job", job_id)


# Waiting


@pytest.mark.parametrize(
    ("item", "says", "title"),
    [
        ("vm-fails", "Backup of vm-fails failed", "UserErrorVmNotInDesirableState"),
        ("vm-cancelled", "Backup of vm-cancelled was cancelled", "UserErrorJobSuccessfullyCancelled"),
        ("vm-warned", "accept_warnings is False", None),
    ],
)
def test_a_job_that_proves_no_backup_fails_the_wait_with_all_that_is_known(
    azure: Emulator, call: Call, item: str, says: str, title: str | None
) -> None:
    ref = call("wait_for_operation", call("trigger_backup", item))
    with pytest.raises(AzureBackupJobFailedError, match=says) as caught:
        call("wait_for_job", ref.job_id, timeout=86400)
    assert ref.path in str(caught.value)
    assert caught.value.job and caught.value.job["errors"]
    assert title in (None, caught.value.code)


def test_accept_warnings_lets_warnings_pass_and_nothing_else(azure: Emulator, call: Call) -> None:
    warned = call("wait_for_operation", call("trigger_backup", "vm-warned"))
    assert call("wait_for_job", warned.job_id, timeout=86400, accept_warnings=True).outcome is Outcome.WARNED
    for item in ("vm-cancelled", "vm-fails"):
        ref = call("wait_for_operation", call("trigger_backup", item))
        with pytest.raises(AzureBackupJobFailedError):
            call("wait_for_job", ref.job_id, timeout=86400, accept_warnings=True)


def test_a_wait_ends_at_its_timeout_with_the_job_as_last_seen(
    azure: Emulator, call: Call, clock: Any
) -> None:
    job_id = azure.start_job("vm-good", ending="Never")
    began = clock()
    with pytest.raises(AzureBackupTimeoutError, match=r"did not end within .* s: job .*InProgress") as caught:
        call("wait_for_job", job_id, timeout=1000, poll_interval=300)
    assert clock() - began == pytest.approx(1000, abs=0.01)
    assert caught.value.job and caught.value.job["status"] == "InProgress"
    assert azure.count("GET", "/backupJobs/") in (4, 5)


def test_watching_returns_the_job_however_it_ended(azure: Emulator, clock: Any) -> None:
    job_id = azure.start_job("vm-fails", ending="Failed", seconds=60)
    with AzureBackupHook() as hook:
        assert hook.wait_for_job(job_id, timeout=600, check=False).outcome is Outcome.FAILED


def test_cancelling_and_waiting_outlasts_a_busy_azure(azure: Emulator, call: Call) -> None:
    azure.plan("vm-good", ending="Never", cancel_seconds=60)
    job_id = azure.start_job("vm-good")
    azure.fault(path="/backupJobs/", status=503, times=5)
    assert call("cancel_job", job_id, wait=True, timeout=3600.0).outcome is Outcome.CANCELLED


@pytest.mark.parametrize("wrong", [{"wait_until": "snapshots"}, {"accept_warnings": "True"}])
def test_a_wait_rejects_a_wrong_word_before_any_request(
    azure: Emulator, call: Call, wrong: dict[str, Any]
) -> None:
    job_id = azure.start_job("vm-good")
    with pytest.raises(AzureBackupConfigError, match=next(iter(wrong))):
        call("wait_for_job", job_id, timeout=60.0, **wrong)
    assert azure.count("GET", "/backupJobs/") == 0


def test_cancelling_can_wait_for_the_end(azure: Emulator, call: Call) -> None:
    job_id = azure.start_job("vm-good", seconds=36000)
    job = call("cancel_job", job_id, wait=True, timeout=3600.0)
    assert job.outcome is Outcome.CANCELLED
    assert call("cancel_job", job_id, wait=True).ref == job.ref
    assert azure.count("POST", "/cancel") == 1

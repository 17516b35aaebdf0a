"""Whether a restore would work: every planted fault is named before anything is asked to be restored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_azbackup.exceptions import (
    AzureBackupAuthError,
    AzureBackupConfigError,
    AzureBackupError,
    AzureBackupNotFoundError,
    AzureBackupRefusedError,
    AzureBackupTransientError,
)
from airflow_provider_azbackup.operators import AzureBackupRestoreOperator
from airflow_provider_azbackup.restore_to import disks, new_disk, original_database, original_share
from azure_backup_emulator import Emulator
from azure_backup_emulator.model.obstacles import OBSTACLES
from tests.support.tasks import run
from tests.tasks.test_adoption import an_instance

GROUP = "/subscriptions/00000000-0000-0000-0000-00000000d3a0/resourceGroups/demo-rg"
ACCOUNT = f"{GROUP}/providers/Microsoft.Storage/storageAccounts/staging"
HERE = {"vault_name": "demo-backup-vault", "vault_type": "DataProtection"}
# One of each workload: what is restored, and where to.
WORKLOADS: dict[str, tuple[str, dict[str, Any]]] = {
    "VM": ("vm-good", {"restore_to": disks(storage_account_id=ACCOUNT)}),
    "file share": ("documents", {"restore_to": original_share(copy_options="Overwrite")}),
    "SQL Server": ("payroll", {"restore_to": original_database()}),
    "SAP HANA": ("systemdb", {"restore_to": original_database()}),
    "disk": (
        "disk-good",
        {"restore_to": new_disk(disk_id=f"{GROUP}/providers/Microsoft.Compute/disks/drill"), **HERE},
    ),
}


@pytest.fixture(autouse=True)
def _nights(azure: Emulator, clock: Any) -> None:
    """Every item has a recovery point, and nothing runs."""
    for item, _ in WORKLOADS.values():
        azure.start_job(item, seconds=100)
    clock.advance(3000)


def check(workload: str = "VM", **more: Any) -> Callable[[], AzureBackupRestoreOperator]:
    item, arguments = WORKLOADS[workload]
    given: dict[str, Any] = {"protected_item": item, **arguments, "validate_only": True, **more}
    return lambda: AzureBackupRestoreOperator(task_id="check", **given)


def path_of(azure: Emulator, item: str) -> str:
    return str(azure.service.world.named(item)[0].path)


def restores(azure: Emulator) -> int:
    """How many restores were asked for."""
    return azure.count("POST", "/restore")


@pytest.mark.parametrize("workload", WORKLOADS)
def test_a_restore_that_would_work_passes_and_returns_what_was_checked(
    azure: Emulator, workload: str
) -> None:
    ti = an_instance()
    record = run(check(workload, deferrable=True), ti)
    assert record == ti.xcoms["validation"]
    target = WORKLOADS[workload][1]["restore_to"]["target"]
    item = path_of(azure, WORKLOADS[workload][0])
    assert record.pop("recovery_point")["arm_id"].startswith(f"{item}/recoveryPoints/")
    assert record == {
        **{"version": 1, "item": item, "restore_to": target},
        **{"works": True, "code": None, "reason": None},
    }
    assert (restores(azure), ti.deferred_with) == (0, [])


# --- planted faults


def _tiers(state: str) -> dict[str, Any]:
    return {"tiers": {"InstantRP": state, "HardenedRP": state, "ArchivedRP": "Valid"}}


def _point(**facts: Any) -> Callable[[Emulator], None]:
    def plant(azure: Emulator) -> None:
        for job_id in list(azure.service.world.jobs):
            azure.change_point(job_id, **facts)

    return plant


PLANTED = [name for name in OBSTACLES if name not in ("archive", "infected", "expired", "deleted")]
# Fault: how it is planted, the error, and what it says. A wrong recovery point is found before Azure checks.
FAULTS: dict[str, tuple[Callable[[Emulator], None], type[AzureBackupError], str]] = {
    "archive": (_point(**_tiers("Deleted")), AzureBackupNotFoundError, "from the archive"),
    "infected": (_point(threat="UnHealthy"), AzureBackupNotFoundError, "(?i)unhealthy"),
    "expired": (_point(expires=60), AzureBackupNotFoundError, "expired"),
    "gone": (_point(soft_deleted=True), AzureBackupNotFoundError, "deleted"),
    "deleted": (
        lambda azure: azure.protect("vm-good", state="ProtectionStopped", deleted_ago=60),
        AzureBackupRefusedError,
        "soft-deleted.* Undelete it",
    ),
}


@pytest.mark.parametrize(
    ("workload", "fault"), [*(("VM", fault) for fault in PLANTED), ("disk", "permission"), ("disk", "name")]
)
def test_what_azure_finds_is_named(azure: Emulator, workload: str, fault: str) -> None:
    item, ti = WORKLOADS[workload][0], an_instance()
    azure.plan(item, obstacles=[fault])
    wrong = OBSTACLES[fault]
    with pytest.raises(
        AzureBackupRefusedError, match=f"nothing was restored.* {wrong.code}:? {wrong.message}"
    ) as failed:
        run(check(workload), ti)
    assert failed.value.code == wrong.code
    assert f"Recommended: {wrong.recommendation}" in str(failed.value)
    record = ti.xcoms["validation"]
    assert (record["works"], record["code"], record["item"]) == (False, wrong.code, item)
    assert wrong.message in record["reason"]
    assert restores(azure) == 0


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong_with_the_recovery_point_or_the_item_is_named(azure: Emulator, fault: str) -> None:
    plant, kind, words = FAULTS[fault]
    plant(azure)
    ti = an_instance()
    with pytest.raises(kind, match=words):
        run(check(protected_item=path_of(azure, "vm-good")), ti)
    assert ti.xcoms["validation"]["works"] is False
    assert restores(azure) == 0


def test_all_that_azure_finds_is_named(azure: Emulator) -> None:
    azure.plan("vm-good", obstacles=["quota", "subnet"])
    with pytest.raises(AzureBackupRefusedError) as failed:
        run(check(), an_instance())
    assert all(OBSTACLES[name].code in str(failed.value) for name in ("quota", "subnet"))


@pytest.mark.parametrize(
    ("workload", "right"),
    [
        ("VM", "vaults/backupTriggerValidateOperation/action"),
        ("disk", "backupVaults/backupInstances/validateRestore/action"),
    ],
)
def test_a_missing_right_is_named(
    azure: Emulator, connect: Callable[..., None], workload: str, right: str
) -> None:
    connect(azure.connection("reader"))
    with pytest.raises(AzureBackupAuthError, match=f"Missing right: .*{right}"):
        run(check(workload), an_instance())
    assert restores(azure) == 0


@pytest.mark.parametrize("workload", ["VM", "disk"])
def test_a_right_that_only_the_restore_needs_is_named(
    azure: Emulator, monkeypatch: pytest.MonkeyPatch, workload: str
) -> None:
    principals = azure.service.identity.principals
    actions = [each for each in principals["operator"].actions if not each.endswith("restore/action")]
    monkeypatch.setitem(principals, "operator", replace(principals["operator"], actions=actions))
    with pytest.raises(AzureBackupAuthError, match=r"Missing right: .*/restore/action"):
        run(check(workload), an_instance())
    assert restores(azure) == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"recovery_point": "7"}, "no recovery point '7'; there are: "),
        ({"as_of": "2020-01-01"}, "of 2020-01-01.* or before"),
    ],
)
def test_a_recovery_point_that_is_not_there_is_named(
    azure: Emulator, arguments: dict[str, Any], words: str
) -> None:
    with pytest.raises(AzureBackupNotFoundError, match=words):
        run(check(**arguments), an_instance())
    assert restores(azure) == 0


def test_a_request_that_azure_refuses_is_named(azure: Emulator) -> None:
    raw = {"objectType": "IaasVMRestoreRequest", "recoveryType": "AlternateLocation"}
    with pytest.raises(AzureBackupRefusedError, match=r"targetVirtualMachineId, .* must be given"):
        run(check(restore_to=None, request=raw), an_instance())
    assert restores(azure) == 0


@pytest.mark.parametrize("fault", ["quota", "subnet"])
def test_a_restore_that_is_started_all_the_same_fails_with_what_the_check_finds(
    azure: Emulator, fault: str
) -> None:
    azure.plan("vm-good", obstacles=[fault])
    with pytest.raises(AzureBackupError) as failed:
        run(check(validate_only=False), an_instance())
    assert failed.value.code == OBSTACLES[fault].code


# --- when Azure does not answer


@pytest.mark.parametrize("path", [r"/backupTriggerValidateOperation\?", "/backupValidateOperationsStatuses/"])
def test_faults_that_pass_are_waited_out(azure: Emulator, path: str) -> None:
    azure.fault(path=path, times=2, status=503)
    assert run(check(), an_instance())["works"] is True


def test_a_check_without_an_end_fails_and_holds_the_worker_for_minutes_only(
    azure: Emulator, clock: Any
) -> None:
    azure.plan("vm-good", validation="InProgress")
    began = clock()
    with pytest.raises(AzureBackupTransientError, match="Azure does not say whether it would work"):
        run(check(), an_instance())
    assert clock() - began < 700
    assert restores(azure) == 0


# --- arguments


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"validate_only": "True"}, "validate_only of task 'check' is 'True'"),
        ({"cancel_on_kill": True}, "validate_only restores nothing that cancel_on_kill"),
    ],
)
def test_what_makes_no_sense_is_refused_when_the_dag_is_read(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(AzureBackupConfigError, match=words):
        check(**arguments)()


def test_a_fleet_is_mapped() -> None:
    with DAG("tonight", schedule=None) as dag:
        AzureBackupRestoreOperator.partial(
            task_id="check", validate_only=True, restore_to=WORKLOADS["VM"][1]["restore_to"]
        ).expand(protected_item=["vm-good", "payroll-vm"])
    assert dag.task_ids == ["check"]


def test_both_hooks_check_a_restore(azure: Emulator, call: Callable[..., Any]) -> None:
    target = WORKLOADS["VM"][1]["restore_to"]
    assert call("validate_restore", "vm-good", restore_to=target)["works"] is True
    azure.plan("vm-good", obstacles=["quota"])
    with pytest.raises(AzureBackupRefusedError, match="quota has been reached"):
        call("validate_restore", "vm-good", restore_to=target)
    with pytest.raises(AzureBackupConfigError, match=r"validate_restore\(\) takes no restore_too"):
        call("validate_restore", "vm-good", restore_too=target)
    assert restores(azure) == 0

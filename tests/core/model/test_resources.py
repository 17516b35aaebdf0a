from __future__ import annotations

import pytest

from airflow_provider_azbackup.core.model.arm_ids import split_job_id, split_share_id
from airflow_provider_azbackup.core.model.resources import (
    JobRef,
    OperationRef,
    ProtectedItem,
    Vault,
    last_segment,
)
from airflow_provider_azbackup.core.model.validation import check_backup_type, check_item
from airflow_provider_azbackup.exceptions import AzureBackupConfigError
from tests.support.play import ITEM, JOB, OPERATION, VAULT

GROUP = "/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/apps-rg/providers"
MACHINE = f"{GROUP}/Microsoft.Compute/virtualMachines/shop-vm"
ACCOUNT = f"{GROUP}/Microsoft.Storage/storageAccounts/appdata"
SHARE = f"{ACCOUNT}/fileServices/default/shares/documents"


def test_paths_are_the_arm_ids_that_azure_documents() -> None:
    assert VAULT.path == (
        "/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/vaults-rg"
        "/providers/Microsoft.RecoveryServices/vaults/night-vault"
    )
    assert ITEM.path == (
        f"{VAULT.path}/backupFabrics/Azure/protectionContainers/IaasVMContainer;iaasvmcontainerv2;apps-rg;shop-vm"
        "/protectedItems/VM;iaasvmcontainerv2;apps-rg;shop-vm"
    )
    assert JOB.path == f"{VAULT.path}/backupJobs/{JOB.job_id}"
    assert OPERATION.path == f"{VAULT.path}/backupOperations/{OPERATION.operation_id}"


def test_what_is_written_is_read_back() -> None:
    assert Vault.parse(VAULT.path) == VAULT
    assert ProtectedItem.parse(ITEM.path) == ITEM
    assert JobRef.parse(JOB.path) == JobRef.parse(JOB.job_id, VAULT) == JOB


@pytest.mark.parametrize("change", [str.upper, str.lower])
def test_casing_of_an_arm_id_does_not_matter(change: type[str]) -> None:
    assert Vault.parse(change(VAULT.path)).name == change("night-vault")
    assert ProtectedItem.parse(change(ITEM.path)).workload == "vm"
    assert JobRef.parse(change(JOB.path)).job_id == change(JOB.job_id)
    found = ProtectedItem.of_vm(VAULT, change(MACHINE))
    assert found is not None
    assert found.path.casefold() == ITEM.path.casefold()
    assert split_share_id(change(SHARE)) == (change(ACCOUNT), change("documents"))


def test_a_job_of_azures_test_ring_is_asked_for_in_the_real_one() -> None:
    assert JobRef.parse(JOB.path.replace("RecoveryServices", "RecoveryServicesBVTD")) == JOB


def test_a_job_brings_its_vault_or_takes_the_one_at_hand() -> None:
    other = Vault(subscription_id="s", resource_group_name="g", name="v")
    assert JobRef.parse(JOB.path, other).vault == VAULT
    assert JobRef.parse(JOB.job_id, other).vault == other
    with pytest.raises(AzureBackupConfigError, match="comes without a vault"):
        JobRef.parse(JOB.job_id)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "nightly",
        JOB.job_id + "0",
        JOB.job_id.replace("-", ""),
        "{" + JOB.job_id + "}",
        "urn:uuid:" + JOB.job_id,
        JOB.job_id + "\n",
        VAULT.path,
        f"{VAULT.path}/backupJobs/nightly",
        f"{VAULT.path}/backupJobs/{JOB.job_id}/",
        f"/x/backupJobs/{JOB.job_id}",
        f"https://management.azure.com{JOB.path}",
        f"{JOB.path}?api-version=2024-04-01",
    ],
)
def test_what_is_no_job_id_is_told_before_any_request(text: str) -> None:
    with pytest.raises(AzureBackupConfigError, match=r"is not a job id; expected a GUID or /subscriptions/"):
        JobRef.parse(text, VAULT)
    with pytest.raises(AzureBackupConfigError):
        split_job_id(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "night-vault",
        VAULT.path[1:],
        VAULT.path + "/",
        VAULT.path.replace("/night-vault", "/ "),
        VAULT.path.replace("/vaults-rg", "/"),
        VAULT.path.replace("RecoveryServices", "DataProtection"),
        VAULT.path + "/backupJobs",
        VAULT.path + "?x",
        VAULT.path + "#x",
    ],
)
def test_what_is_no_vault_is_told_with_what_was_expected(text: str) -> None:
    with pytest.raises(
        AzureBackupConfigError, match=r"is not the ARM id of a vault: .*; expected /subscriptions/"
    ):
        Vault.parse(text)


def test_what_is_no_protected_item_is_told_with_what_was_expected() -> None:
    for text in (VAULT.path, MACHINE, ITEM.path + "/recoveryPoints/1", ITEM.path.replace("/Azure/", "/X/")):
        with pytest.raises(
            AzureBackupConfigError, match=r"is not the ARM id of a protected item: .*; expected"
        ):
            ProtectedItem.parse(text)
    with pytest.raises(AzureBackupConfigError, match="is not the ARM id of a vault"):
        ProtectedItem.parse(ITEM.path.replace("/vaults/", "/safes/"))


@pytest.mark.parametrize(
    "text", ["shop-vm", ITEM.name, ITEM.path, MACHINE, SHARE, SHARE.replace("shares", "fileshares")]
)
def test_all_forms_of_a_protected_item_may_be_given(text: str) -> None:
    check_item(text)


@pytest.mark.parametrize(
    "text", ["", "  ", VAULT.path, ACCOUNT, JOB.path, "/shop-vm", MACHINE + "/extensions/x"]
)
def test_nothing_and_the_arm_id_of_something_else_are_no_protected_item(text: str) -> None:
    with pytest.raises(AzureBackupConfigError, match="is neither a name nor the ARM id of"):
        check_item(text)


def test_only_a_machine_names_its_item_without_being_looked_up() -> None:
    assert ProtectedItem.of_vm(VAULT, MACHINE) == ITEM
    assert ProtectedItem.of_vm(VAULT, SHARE) is None
    assert split_share_id(SHARE.replace("shares", "fileShares")) == (ACCOUNT, "documents")
    assert split_share_id(MACHINE) is None


@pytest.mark.parametrize("name", ["Full", "Differential", "Log", "CopyOnlyFull", "SnapshotFull"])
def test_backup_types_of_any_workload_are_known(name: str) -> None:
    check_backup_type(name)
    with pytest.raises(
        AzureBackupConfigError, match=f"backup_type is '{name.lower()}' .*'{name}'.*; expected one of"
    ):
        check_backup_type(name.lower())


def test_of_a_signed_url_only_the_last_segment_is_kept() -> None:
    url = f"https://management.azure.com{ITEM.path}/operationsStatus/{OPERATION.operation_id}?t=1&c=a/b&s=c"
    assert last_segment(url) == OPERATION.operation_id
    assert last_segment(f"{OPERATION.operation_id}/") == OPERATION.operation_id
    assert last_segment(OPERATION.operation_id) == OPERATION.operation_id
    assert last_segment("") == ""
    assert OperationRef(vault=VAULT, operation_id=last_segment(url)) == OPERATION

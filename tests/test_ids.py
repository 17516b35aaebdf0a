"""Names, filters and addresses that lead elsewhere or hold a secret: refused, and no secret is repeated."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_azbackup import restore_to
from airflow_provider_azbackup.core.model.resources import ProtectedItem, Vault
from airflow_provider_azbackup.core.model.validation import shown_host
from airflow_provider_azbackup.core.rest import requests
from airflow_provider_azbackup.core.rest.responses import read_operation_id
from airflow_provider_azbackup.core.restore.check import split_point_id
from airflow_provider_azbackup.core.settings import Settings
from airflow_provider_azbackup.core.wire import Request, Response
from airflow_provider_azbackup.exceptions import AzureBackupConfigError
from airflow_provider_azbackup.operators import AzureBackupOperator

ODD = [".", "..", "%2e%2e", "a/..", "na\x00me", "na\nme", "name\x7f", ""]
GROUP = "/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups"
VM = f"{GROUP}/apps/providers/Microsoft.Compute/virtualMachines"
VAULT = f"{GROUP}/rg/providers/Microsoft.RecoveryServices/vaults/v"
ITEM = f"{VAULT}/backupFabrics/Azure/protectionContainers/c/protectedItems"
SECRET = "hunter2S3cr3tOfThePasteBuffer"


@pytest.mark.parametrize("odd", [odd for odd in ODD if odd])
@pytest.mark.parametrize("argument", ["vault_name", "resource_group_name", "subscription_id"])
def test_a_name_that_leads_elsewhere_is_refused_when_the_dag_is_parsed(argument: str, odd: str) -> None:
    with pytest.raises(AzureBackupConfigError, match=argument):
        AzureBackupOperator(task_id="backup", protected_item="vm", **{argument: odd})


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("form", ["vm", "item", "vault"])
def test_an_arm_id_with_such_a_name_is_refused_when_the_dag_is_parsed(form: str, odd: str) -> None:
    given = {
        "vm": f"{VM}/{odd}",
        "item": f"{ITEM}/{odd}",
        "vault": f"{GROUP}/{odd}/providers/Microsoft.RecoveryServices/vaults/v/backupFabrics/Azure"
        f"/protectionContainers/c/protectedItems/i",
    }[form]
    with pytest.raises(AzureBackupConfigError):
        AzureBackupOperator(task_id="backup", protected_item=given)


@pytest.mark.parametrize("name", ["a\x00b", "a\nb", "a\x1fb"])
def test_a_friendly_name_with_a_control_character_is_refused(name: str) -> None:
    with pytest.raises(AzureBackupConfigError):
        AzureBackupOperator(task_id="backup", protected_item=name)


@pytest.mark.parametrize("odd", [".", "..", "a\x00b"])
def test_a_recovery_point_with_such_a_name_is_refused(odd: str) -> None:
    with pytest.raises(AzureBackupConfigError, match="recovery_point"):
        split_point_id(odd)


@pytest.mark.parametrize("path", ["/a/../b", "/a/./b", "/a/..", "/a/b\x00", "/a\n/b"])
def test_nothing_is_sent_to_a_path_that_leads_elsewhere(path: str) -> None:
    with pytest.raises(AzureBackupConfigError, match="nothing is sent to"):
        Request(method="GET", path=path)


def test_dots_inside_a_name_lead_nowhere() -> None:
    item = ProtectedItem.parse(f"{ITEM}/VM;iaasvmcontainerv2;my.group;..vm..")
    assert Request(method="GET", path=item.path).path.endswith(";..vm..")


@pytest.mark.parametrize("odd", ["..", ".", "a%2f..%2fb"])
def test_an_operation_whose_id_leads_elsewhere_is_not_followed(odd: str) -> None:
    headers = {"location": f"https://management.azure.com/somewhere/{odd}"}
    assert read_operation_id(Response(status=202, at=0.0, headers=headers)) is None


def test_a_quote_in_a_filter_is_refused() -> None:
    vault = Vault.parse(VAULT)
    with pytest.raises(AzureBackupConfigError, match="remove the quote"):
        requests.list_jobs(vault, status="x' or status eq 'Failed")


@pytest.mark.parametrize("region", ["..", "west/europe", "west europe?", "a\x00", ""])
def test_an_odd_region_is_refused(region: str) -> None:
    with pytest.raises(AzureBackupConfigError, match="region"):
        requests.backup_status(f"{VM}/vm", region)
    with pytest.raises(AzureBackupConfigError, match="region"):
        restore_to.new_disk(disk_id=f"{GROUP}/apps/providers/Microsoft.Compute/disks/d", region=region or "/")


# As the address of a container, there is nothing wrong with this one.
PLAIN = f"https://login.example/{SECRET}"
PASTED = [
    f"https://user:{SECRET}@login.example",
    f"https://:{SECRET}@login.example",
    PLAIN,
    f"https://login.example?sig={SECRET}",
    f"https://login.example#{SECRET}",
    f"http://login.example/?sv=1&sig={SECRET}",
    f"{SECRET}~.x",
    f"DefaultEndpointsProtocol=https;AccountKey={SECRET}==",
]


@pytest.mark.parametrize("pasted", PASTED)
@pytest.mark.parametrize("field", ["endpoint", "authority", "portal", "scope"])
def test_no_error_repeats_a_secret_that_was_pasted_into_an_address(field: str, pasted: str) -> None:
    extra: dict[str, Any] = {"tenant_id": "t", field: pasted}
    with pytest.raises(AzureBackupConfigError) as refused:
        Settings.read("azure", login="id", password="pw", extra=extra)
    assert SECRET.casefold() not in str(refused.value).casefold()
    assert field in str(refused.value)


@pytest.mark.parametrize("pasted", [pasted for pasted in PASTED if pasted != PLAIN])
def test_no_error_repeats_a_secret_that_was_pasted_into_the_address_of_a_container(pasted: str) -> None:
    with pytest.raises(AzureBackupConfigError, match="container_url is not the plain address") as refused:
        restore_to.database_files(container_url=pasted, prefix="dump-")
    assert SECRET.casefold() not in str(refused.value).casefold()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:pw@login.example:8443/path?sig=1", "https://login.example:8443"),
        ("management.azure.com", "management.azure.com"),
        ("http://127.0.0.1:1/x", "http://127.0.0.1:1"),
        ("not a host", "..."),
        ("c2VjcmV0==", "..."),
    ],
)
def test_of_an_address_scheme_and_host_are_shown(url: str, shown: str) -> None:
    assert shown_host(url) == shown

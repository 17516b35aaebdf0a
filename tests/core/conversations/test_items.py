"""Lists, their pages, and the protected item that a name means."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_azbackup.core.conversations import matching
from airflow_provider_azbackup.core.conversations.items import get_backup_status, resolve_protected_item
from airflow_provider_azbackup.core.conversations.jobs import list_jobs
from airflow_provider_azbackup.core.model.resources import ProtectedItem, Vault
from airflow_provider_azbackup.core.rest import requests, responses
from airflow_provider_azbackup.core.wire import Request, Response
from airflow_provider_azbackup.exceptions import (
    AzureBackupAuthError,
    AzureBackupConfigError,
    AzureBackupNotFoundError,
    AzureBackupTransientError,
)
from tests.support.play import ITEM, JOB, LOST, VAULT, answered, ok, play, sample

GROUP = "/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/apps-rg/providers"
MACHINE = f"{GROUP}/Microsoft.Compute/virtualMachines/shop-vm"
ACCOUNTS = f"{GROUP}/Microsoft.Storage/storageAccounts"
SHARE = f"{ACCOUNTS}/appdata/fileServices/default/shares/documents"
NONE = answered(200, {"value": []})
LISTS = (ok("items_machines"), ok("items_shares"), ok("items_databases"))


def find(name: str, vault: Vault | None = VAULT) -> Any:
    return resolve_protected_item(vault, name)


def list_all() -> Any:
    return list_jobs(requests.list_jobs(VAULT), VAULT)


def page(body: dict[str, Any], *, next_path: str | None = None) -> Response:
    link = f"https://management.azure.com{next_path}?api-version=1&$skipToken=2" if next_path else None
    return answered(200, {**body, "nextLink": link})


@pytest.mark.parametrize("vault", [VAULT, None])
def test_the_arm_id_of_a_protected_item_needs_no_request_and_no_vault(vault: Vault | None) -> None:
    played = play(find(ITEM.path, vault))
    assert (played.result, played.requests) == (ITEM, [])


def read(of: ProtectedItem, source: str, **more: Any) -> Response:
    """The answer to a read of one protected item."""
    return answered(200, {"id": of.path, "properties": {"sourceResourceId": source, **more}})


def listed(*items: tuple[ProtectedItem, str, dict[str, Any]]) -> Response:
    """A list of protected items, each with its source and what else Azure says of it."""
    values = [
        {"id": of.path, "properties": {"friendlyName": "shop-vm", "sourceResourceId": source, **more}}
        for of, source, more in items
    ]
    return answered(200, {"value": values})


DELETED = {
    "protectionState": "ProtectionStopped",
    "isScheduledForDeferredDelete": True,
    "deferredDeleteTimeInUTC": "2026-11-01T10:00:00.5Z",
    "softDeleteRetentionPeriod": 14,
}
ELSEWHERE = MACHINE.replace("11111111", "99999999")
OTHER_NAME = ProtectedItem(
    vault=VAULT,
    container="IaasVMContainer;iaasvmcontainerv2;apps-rg;shop-vm-2",
    name="VM;iaasvmcontainerv2;apps-rg;shop-vm-2",
)


@pytest.mark.parametrize("source", [MACHINE, MACHINE.upper(), f"{MACHINE}/"])
def test_the_item_of_a_vm_is_the_one_whose_source_is_that_vm(source: str) -> None:
    played = play(find(MACHINE), read(ITEM, source))
    assert (played.result, played.requests) == (ITEM, [requests.get_protected_item(ITEM)])


def test_a_vm_of_another_subscription_than_the_vaults_is_protected_when_its_item_says_so() -> None:
    assert play(find(ELSEWHERE), read(ITEM, ELSEWHERE)).result == ITEM


def test_an_older_field_names_the_vm_as_well() -> None:
    body = {"properties": {"virtualMachineId": MACHINE}}
    assert play(find(MACHINE), answered(200, body)).result == ITEM


def test_the_item_of_a_vm_of_the_same_group_and_name_in_another_subscription_is_refused() -> None:
    with pytest.raises(AzureBackupConfigError, match=f"night-vault.*Given: {ELSEWHERE}.*{MACHINE}"):
        play(find(ELSEWHERE), read(ITEM, MACHINE), listed((ITEM, MACHINE, {})))
    with pytest.raises(AzureBackupConfigError, match="a resource that Azure does not name"):
        play(find(MACHINE), read(ITEM, ""), listed())


@pytest.mark.parametrize("first", [answered(404), read(ITEM, MACHINE)])
def test_an_item_that_has_not_the_names_of_its_vm_is_found_by_its_source(first: Response) -> None:
    found = play(find(ELSEWHERE), first, listed((ITEM, MACHINE, {}), (OTHER_NAME, ELSEWHERE.upper(), {})))
    assert found.result == OTHER_NAME


def test_a_vm_that_no_item_protects_is_named_as_it_was_written() -> None:
    with pytest.raises(
        AzureBackupNotFoundError, match=rf"not protect VM 'shop-vm'; hook\.backup_status.*{MACHINE}"
    ):
        play(find(MACHINE), answered(404), listed((OTHER_NAME, ELSEWHERE, {})))


def test_a_vm_whose_data_is_soft_deleted_is_not_taken_for_a_protected_one() -> None:
    with pytest.raises(
        AzureBackupNotFoundError, match=r"soft-deleted and is purged at 2026-11-15T10:00:00\.500000\+00:00"
    ):
        play(find(MACHINE), read(ITEM, MACHINE, **DELETED))


@pytest.mark.parametrize(
    ("answer", "kind"), [(LOST, AzureBackupTransientError), (answered(403), AzureBackupAuthError)]
)
def test_a_source_that_cannot_be_read_is_no_match(answer: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        play(find(MACHINE), answer)


def test_of_items_of_one_name_the_live_one_is_meant() -> None:
    items = listed((ITEM, MACHINE, DELETED), (OTHER_NAME, ELSEWHERE, {}))
    assert play(find("shop-vm"), items, *LISTS[1:]).result == OTHER_NAME
    with pytest.raises(AzureBackupNotFoundError, match="does not protect 'shop-vm' any more"):
        play(find("shop-vm"), listed((ITEM, MACHINE, DELETED)), *LISTS[1:])


def test_the_candidates_of_an_ambiguous_name_are_told_with_their_states() -> None:
    stopped = {"protectionState": "ProtectionStopped"}
    third = ProtectedItem(vault=VAULT, container="IaasVMContainer;c", name="VM;c")
    items = listed((ITEM, MACHINE, stopped), (OTHER_NAME, ELSEWHERE, {}), (third, "", DELETED))
    with pytest.raises(AzureBackupConfigError, match="'shop-vm' means 2 protected items") as caught:
        play(find("shop-vm"), items, *LISTS[1:])
    assert f"{ITEM.path} (its state is ProtectionStopped)" in str(caught.value)
    assert f"{third.path} (its backup data is soft-deleted" in str(caught.value)


def test_the_vault_that_azure_names_for_a_vm_is_believed_when_its_item_has_that_source() -> None:
    status = answered(
        200,
        {
            "protectionStatus": "Protected",
            "vaultId": VAULT.path,
            "containerName": ITEM.container,
            "protectedItemName": ITEM.name,
        },
    )
    assert play(get_backup_status(MACHINE, "westeurope"), status, read(ITEM, MACHINE)).result.item == ITEM
    with pytest.raises(AzureBackupConfigError, match=f"another resource: {MACHINE}.*{ELSEWHERE}"):
        play(get_backup_status(ELSEWHERE, "westeurope"), status, read(ITEM, MACHINE))


def test_an_escaped_id_is_the_same_id() -> None:
    escaped = ITEM.path.replace(";", "%3B")
    assert play(find(escaped)).result == ProtectedItem.parse(escaped.replace("%3B", "%3b")) == ITEM
    assert play(find(MACHINE.replace("-", "%2D")), read(ITEM, MACHINE)).result == ITEM


@pytest.mark.parametrize(
    "name", ["shop-vm", MACHINE, f"{ACCOUNTS}/appdata/fileServices/default/shares/documents"]
)
def test_what_must_be_looked_for_needs_a_vault(name: str) -> None:
    with pytest.raises(AzureBackupConfigError, match="comes without a vault; give vault_name"):
        play(find(name, None))


def test_a_friendly_name_is_looked_for_among_all_kinds() -> None:
    played = play(find("MSDB"), *LISTS)
    assert played.result.name == "SQLDataBase;mssqlserver;msdb"
    assert [dict(request.query)["$filter"] for request in played.requests] == [
        "backupManagementType eq 'AzureIaasVM'",
        "backupManagementType eq 'AzureStorage'",
        "backupManagementType eq 'AzureWorkload'",
    ]


@pytest.mark.parametrize("name", ["shop-vm", "Shop-VM", ITEM.name, ITEM.name.upper()])
def test_a_name_is_the_friendly_or_the_full_one_in_any_casing(name: str) -> None:
    assert play(find(name), *LISTS).result == ITEM


@pytest.mark.parametrize(("account", "item"), [("appdata", "a1" * 32), ("ARCHIVE", "b2" * 32)])
def test_a_share_is_looked_for_among_the_shares_of_its_account(account: str, item: str) -> None:
    share = f"{ACCOUNTS}/{account}/fileServices/default/shares/Documents"
    played = play(find(share), ok("items_shares"))
    assert played.result.name == f"AzureFileShare;{item}"
    assert len(played.requests) == 1


def test_a_name_that_several_items_share_is_told_with_all_of_them() -> None:
    with pytest.raises(
        AzureBackupConfigError, match="'twin' means 2 protected items in vault night"
    ) as error:
        play(find("twin"), *LISTS)
    for group in ("apps-rg", "test-rg"):
        assert f"{VAULT.path}/backupFabrics/Azure/protectionContainers/IaasVMContainer;" in str(error.value)
        assert f"/protectedItems/VM;iaasvmcontainerv2;{group};twin" in str(error.value)
    with pytest.raises(AzureBackupConfigError, match="'documents' means 2 protected items"):
        play(find("documents"), *LISTS)


def test_an_item_that_is_on_two_pages_is_one_item() -> None:
    machines = sample("items_machines")
    pages = (page(machines, next_path="/2"), page(machines), *LISTS[1:])
    assert play(find("shop-vm"), *pages).result == ITEM


def test_an_unknown_name_is_told_with_the_names_that_are_known() -> None:
    with pytest.raises(
        AzureBackupNotFoundError,
        match=r"^vault night-vault protects nothing called 'shop' \(did you mean 'shop-vm'\?\); "
        r"it protects shop-vm, documents, msdb, twin$",
    ):
        play(find("shop"), *LISTS)
    with pytest.raises(AzureBackupNotFoundError, match="it protects nothing of that kind"):
        play(find("shop"), NONE, NONE, NONE)
    with pytest.raises(AzureBackupNotFoundError, match="protects nothing called"):
        play(find(f"{ACCOUNTS}/other/fileServices/default/shares/documents"), ok("items_shares"))


@pytest.mark.parametrize("name", ["", " ", VAULT.path, f"{ACCOUNTS}/appdata", "/shop-vm"])
def test_what_can_be_no_item_is_told_before_any_request(name: str) -> None:
    with pytest.raises(AzureBackupConfigError, match="is neither a name nor the ARM id of"):
        play(find(name))


def test_the_item_of_a_vault_that_is_none_is_told_before_any_request() -> None:
    with pytest.raises(AzureBackupConfigError, match="neither a name nor the ARM id"):
        play(find(ITEM.path.replace("RecoveryServices", "DataProtection")))


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (LOST, AzureBackupTransientError),
        (answered(500), AzureBackupTransientError),
        (answered(200, "<html>"), AzureBackupTransientError),
        (answered(403), AzureBackupAuthError),
        (answered(404), AzureBackupNotFoundError),
    ],
)
def test_a_list_that_cannot_be_had_is_no_empty_list(answer: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        play(find("shop-vm"), ok("items_machines"), answer)
    with pytest.raises(kind):
        play(
            list_jobs(requests.list_jobs(VAULT), VAULT),
            page(sample("jobs_page"), next_path="/2"),
            answer,
        )


def test_all_pages_of_a_list_are_read() -> None:
    first = requests.list_jobs(VAULT, status="Completed")
    jobs = sample("jobs_page")
    played = play(
        list_jobs(first, VAULT),
        page(jobs, next_path="/a"),
        page({"value": []}, next_path="/b"),
        page(jobs),
    )
    assert [job.ref.job_id[:8] for job in played.result] == ["0f8c2a51", "1a2b3c4d"] * 2
    assert played.requests == [
        first,
        Request(method="GET", path="/a", query=(("$skipToken", "2"),)),
        Request(method="GET", path="/b", query=(("$skipToken", "2"),)),
    ]


def test_pages_that_go_round_in_a_circle_are_left() -> None:
    with pytest.raises(AzureBackupTransientError, match="go round in a circle"):
        play(
            list_all(),
            page(sample("jobs_page"), next_path="/a"),
            page(sample("jobs_page"), next_path="/b"),
            page(sample("jobs_page"), next_path="/a"),
        )


def test_a_page_elsewhere_is_not_asked_for() -> None:
    asked: list[Request] = []
    body = {"value": [], "nextLink": "https://evil.example/2"}
    with pytest.raises(AzureBackupTransientError, match=r"not followed.*'https://evil\.example'"):
        play(list_all(), answered(200, body), requests=asked)
    assert len(asked) == 1


def test_every_item_in_a_list_can_be_found_by_its_full_name() -> None:
    for body in (sample("items_machines"), sample("items_shares")):
        for each in body["value"]:
            assert play(find(each["name"]), *LISTS).result == ProtectedItem.parse(each["id"])


def database(group: str, name: str = "SQLDataBase;mssqlserver;payroll") -> ProtectedItem:
    return ProtectedItem(vault=VAULT, container=f"VMAppContainer;compute;{group};sql01", name=name)


def databases(*items: ProtectedItem, friendly: str = "payroll", server: str = "sql01") -> Response:
    properties = {"friendlyName": friendly, "serverName": server}
    return answered(200, {"value": [{"id": each.path, "properties": properties} for each in items]})


def job_named(name: str, workload: str) -> dict[str, Any]:
    properties = {
        "status": "Completed",
        "operation": "Backup (Full)",
        "entityFriendlyName": name,
        "backupManagementType": "AzureWorkload",
        "workloadType": workload,
    }
    return {"name": JOB.job_id, "properties": properties}


def test_databases_on_servers_of_one_name_are_named_with_their_containers() -> None:
    old, new = database("prod-a"), database("prod-b")
    with pytest.raises(
        AzureBackupConfigError, match=r"compute;prod-a;sql01 cannot be .*compute;prod-b;sql01"
    ):
        play(matching.matcher_of(old), databases(old, new))


@pytest.mark.parametrize(
    ("job", "is_it"),
    [
        (("payroll [sql01]", "SQLDataBase"), True),
        (("PAYROLL [SQL01]", "sqldatabase"), True),
        (("payroll [sql01]", ""), True),
        (("payroll", "SQLDataBase"), True),
        (("payroll [sql01]", "SAPHanaDatabase"), False),
        (("payroll [sql02]", "SQLDataBase"), False),
        (("mssqlserver;payroll [sql01]", "SQLDataBase"), True),
    ],
)
def test_a_job_is_of_a_database_by_its_name_its_server_and_its_kind(
    job: tuple[str, str], is_it: bool
) -> None:
    item = database("prod-a")
    subject = play(matching.matcher_of(item), databases(item)).result
    body = job_named(*job)
    found = responses.parse_job(JOB, body)
    assert found
    assert subject.matches(found) is is_it
    assert matching.match_key(body) == subject.key


def test_a_job_of_sap_ase_names_the_system_before_the_database() -> None:
    item = database("prod-a", "SAPAseDatabase;ab4;orders")
    subject = play(matching.matcher_of(item), databases(item, friendly="orders")).result
    body = job_named("ab4;orders [sql01]", "SAPAseDatabase")
    found = responses.parse_job(JOB, body)
    assert found
    assert subject.matches(found)
    assert matching.match_key(body) == subject.key

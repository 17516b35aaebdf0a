"""Requests to the secondary region of a vault, as Microsoft's clients send them, and what is read of it.

Requests to that of a Backup vault are compared in ``test_sdk_requests``. Microsoft's newest client for
Recovery Services vaults no longer has these operations, so theirs are written out: as recorded of azure-cli.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_azbackup.core.conversations.secondary_region import in_secondary_region
from airflow_provider_azbackup.core.model.regions import PAIRED, paired_region
from airflow_provider_azbackup.core.model.resources import (
    JobRef,
    OperationRef,
    ProtectedItem,
    SecondaryRegion,
    Vault,
)
from airflow_provider_azbackup.core.rest import requests, responses
from airflow_provider_azbackup.core.wire import JsonObject, Request, Response
from airflow_provider_azbackup.exceptions import (
    AzureBackupAuthError,
    AzureBackupConfigError,
    AzureBackupTransientError,
)

JOB = "c236c7d1-5938-47b6-80cd-01226bf4f26e"
HOME = Vault(subscription_id="s", resource_group_name="g", name="v")
VAULT = Vault(
    subscription_id="s",
    resource_group_name="g",
    name="v",
    secondary=SecondaryRegion(name="westus", primary="eastus"),
)
VM = ProtectedItem(vault=VAULT, container="c", name="VM;n")
LOCATION = "/subscriptions/s/providers/Microsoft.RecoveryServices/locations/westus"
AAD = {"properties": {"audience": "a"}}
ACCESS = {"objectType": "CrrAccessToken", "accessTokenString": "secret"}
SENT: dict[str, tuple[Request, tuple[str, str, tuple[tuple[str, str], ...], JsonObject | None]]] = {
    "read a job": (
        requests.get_job(JobRef(vault=VAULT, job_id=JOB)),
        ("POST", f"{LOCATION}/backupCrrJob", (), {"resourceId": VAULT.path, "jobName": JOB}),
    ),
    "list jobs": (
        requests.list_jobs(VAULT, status="InProgress"),
        (
            "POST",
            f"{LOCATION}/backupCrrJobs",
            (("$filter", "status eq 'InProgress'"),),
            {"resourceId": VAULT.path},
        ),
    ),
    "follow an operation": (
        requests.get_operation(OperationRef(vault=VAULT, operation_id="abc==")),
        ("GET", f"{LOCATION}/backupCrrOperationsStatus/abc==", (), None),
    ),
    "list items": (
        requests.list_protected_items(VAULT, "AzureIaasVM"),
        (
            "GET",
            f"{VAULT.path}/backupProtectedItems/",
            (("$filter", "backupManagementType eq 'AzureIaasVM'"),),
            None,
        ),
    ),
    "list recovery points": (
        requests.list_recovery_points(VM),
        ("GET", f"{VM.path}/recoveryPoints/", (), None),
    ),
    "ask who the region is, for a VM": (
        requests.aad_properties(VAULT, "AzureIaasVM"),
        ("GET", f"{LOCATION}/backupAadProperties", (), None),
    ),
    "ask who the region is, for a database": (
        requests.aad_properties(VAULT, "AzureWorkload"),
        (
            "GET",
            f"{LOCATION}/backupAadProperties",
            (("$filter", "backupManagementType eq 'AzureWorkload'"),),
            None,
        ),
    ),
    "get access to a recovery point": (
        requests.access_token(VM, "1", AAD),
        ("POST", f"{VM.path}/recoveryPoints/1/accessToken", (), AAD),
    ),
    "restore": (
        requests.cross_region_restore(VM, ACCESS, {"properties": {"objectType": "x"}}),
        (
            "POST",
            f"{LOCATION}/backupCrossRegionRestore",
            (),
            {"crossRegionRestoreAccessDetails": ACCESS, "restoreRequest": {"objectType": "x"}},
        ),
    ),
}


@pytest.mark.parametrize("what", SENT)
def test_the_secondary_region_of_a_recovery_services_vault_is_asked_as_by_azure_cli(what: str) -> None:
    ours, theirs = SENT[what]
    assert (ours.method, ours.path, ours.query, ours.body) == theirs
    assert ours.only_api_version == "2021-11-15"


def answered(body: Any, status: int = 200) -> Response:
    return Response(status=status, at=0.0, text=json.dumps(body))


def located(wanted: bool | str, vault: Vault, row: JsonObject | None) -> Vault:
    """Hold the conversation that finds the secondary region, with what Resource Graph shows of the vault."""
    flow = in_secondary_region(vault, wanted)
    try:
        request = next(flow)
        assert request.path == requests.RESOURCE_GRAPH
        flow.send(answered({"data": [] if row is None else [row]}))
    except StopIteration as end:
        found: Vault = end.value
        return found
    raise AssertionError("one request is enough")


BACKUP_VAULT = Vault(subscription_id="s", resource_group_name="g", name="v", vault_type="DataProtection")
ON = {"redundancySettings": {"crossRegionRestore": "Enabled"}}
OFF = {"redundancySettings": {"crossRegionRestore": "Disabled"}}
REPLICATED = {
    "replicatedRegions": ["West US"],
    "featureSettings": {"crossRegionRestoreSettings": {"state": "Enabled"}},
}


@pytest.mark.parametrize(
    ("vault", "row", "region"),
    [
        (HOME, {"location": "eastus", "properties": ON}, "westus"),
        (HOME, {"location": "East US", "properties": {}}, "westus"),
        (BACKUP_VAULT, {"location": "eastus2euap", "properties": REPLICATED}, "westus"),
    ],
    ids=["on", "not shown", "Backup vault"],
)
def test_resource_graph_says_where_the_copies_are(vault: Vault, row: JsonObject, region: str) -> None:
    found = located(True, vault, row).secondary
    assert found == SecondaryRegion(name=region, primary=row["location"].replace(" ", "").lower())


def test_a_region_that_is_named_is_taken() -> None:
    assert located("uksouth", HOME, None).secondary == SecondaryRegion(name="uksouth")
    # Requests about a Backup vault name its own region, too.
    row = {"location": "eastus", "properties": REPLICATED}
    assert located("uksouth", BACKUP_VAULT, row).secondary == SecondaryRegion(
        name="uksouth", primary="eastus"
    )
    assert located(False, HOME, None).secondary is None


@pytest.mark.parametrize(
    ("vault", "row", "kind", "words"),
    [
        (HOME, None, AzureBackupAuthError, "Missing right: Microsoft.RecoveryServices/vaults/read"),
        (
            BACKUP_VAULT,
            None,
            AzureBackupAuthError,
            "Missing right: Microsoft.DataProtection/backupVaults/read",
        ),
        (HOME, {"location": "eastus", "properties": OFF}, AzureBackupConfigError, "no cross-region restore"),
        (HOME, {"location": "italynorth", "properties": ON}, AzureBackupConfigError, "secondary_region=<reg"),
        (BACKUP_VAULT, {"location": "eastus", "properties": {}}, AzureBackupConfigError, "is not known"),
        (HOME, {"location": "../x", "properties": ON}, AzureBackupAuthError, "shows no vault"),
    ],
    ids=["not shown", "Backup vault not shown", "off", "no pair", "no copy", "no region"],
)
def test_a_region_that_is_not_known_is_refused(
    vault: Vault, row: JsonObject | None, kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        located(True, vault, row)


@pytest.mark.parametrize("wanted", ["", "west us", "../x", 1, None])
def test_what_names_no_region_is_refused(wanted: Any) -> None:
    with pytest.raises(AzureBackupConfigError, match="secondary_region is"):
        located(wanted, HOME, None)


def test_regions_are_paired_with_another_one() -> None:
    assert all(PAIRED[region] != region for region in PAIRED)
    assert (paired_region("West Europe"), paired_region("brazilsouth")) == ("northeurope", "southcentralus")
    assert paired_region("italynorth") == ""


def test_an_answer_without_access_is_not_shown() -> None:
    answer = Response(status=200, at=0.0, url="https://arm/accessToken", text='"secret"')
    with pytest.raises(AzureBackupTransientError) as caught:
        responses.read_access(answer, "AzureIaasVM")
    assert "secret" not in str(caught.value)
    body = {"properties": {"objectType": "Other", "accessTokenString": "secret"}}
    assert responses.read_access(answered(body), "AzureIaasVM")["objectType"] == "CrrAccessToken"
    assert responses.read_access(answered(body), "AzureStorage")["objectType"] == "Other"


def test_resource_graph_is_asked_about_no_name_that_would_end_the_text() -> None:
    vault = Vault(subscription_id="s", resource_group_name="g", name="v' or 1==1")
    with pytest.raises(AzureBackupConfigError, match="remove the quote"):
        requests.query_vault(vault)

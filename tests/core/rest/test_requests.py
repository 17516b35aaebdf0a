from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from airflow_provider_azbackup.core.model.resources import ProtectedItem
from airflow_provider_azbackup.core.rest import requests
from airflow_provider_azbackup.core.wire import Request
from airflow_provider_azbackup.exceptions import AzureBackupConfigError, AzureBackupTransientError
from tests.support.play import ITEM, JOB, OPERATION, VAULT, answered

MORNING = datetime(2026, 2, 3, 4, 5, 6, 789, tzinfo=UTC)


def item(name: str) -> ProtectedItem:
    return ProtectedItem(vault=VAULT, container="c", name=name)


@pytest.mark.parametrize(
    ("name", "options", "properties"),
    [
        ("VM;x", {}, {"objectType": "IaasVMBackupRequest"}),
        ("vm;x", {"backup_type": "Full"}, {"objectType": "IaasVMBackupRequest"}),
        (
            "AzureFileShare;x",
            {"recovery_point_expiry": MORNING},
            {
                "objectType": "AzureFileShareBackupRequest",
                "recoveryPointExpiryTimeInUTC": "2026-02-03T04:05:06Z",
            },
        ),
        (
            "SQLDataBase;i;d",
            {"backup_type": "CopyOnlyFull", "enable_compression": True},
            {
                "objectType": "AzureWorkloadBackupRequest",
                "backupType": "CopyOnlyFull",
                "enableCompression": True,
            },
        ),
        (
            "SAPHanaDatabase;hxe;systemdb",
            {"enable_compression": False, "recovery_point_expiry": None},
            {"objectType": "AzureWorkloadBackupRequest", "backupType": "Full", "enableCompression": False},
        ),
        (
            "SAPHanaDBInstance;hxe",
            {"backup_type": "SnapshotFull"},
            {"objectType": "AzureWorkloadBackupRequest", "backupType": "SnapshotFull"},
        ),
    ],
)
def test_each_workload_is_asked_for_in_its_own_words(
    name: str, options: dict[str, Any], properties: dict[str, Any]
) -> None:
    assert requests.backup_body(item(name), **options) == {"properties": properties}


@pytest.mark.parametrize(
    ("name", "options", "complaint"),
    [
        ("VM;x", {"backup_type": "Log"}, r"'Log' is not offered for 'VM;x'; expected Full"),
        ("AzureFileShare;x", {"backup_type": "full"}, r"'full' is not offered"),
        ("SAPHanaDatabase;x", {"backup_type": "Log"}, r"expected Differential or Full$"),
        ("SAPHanaDBInstance;x", {}, r"'Full' is not offered .* SnapshotCopyOnlyFull or SnapshotFull"),
        ("VM;x", {"enable_compression": False}, r"enable_compression is for SQL and SAP HANA, not 'VM;x'"),
        ("Windows;server", {}, r"cannot be backed up on demand .* vm, azurefileshare, sqldatabase"),
        ("shop-vm", {}, r"'shop-vm' cannot be backed up on demand"),
    ],
)
def test_what_azure_does_not_take_is_told_before_any_request(
    name: str, options: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(AzureBackupConfigError, match=complaint):
        requests.backup_body(item(name), **options)


@pytest.mark.parametrize(
    "moment",
    [
        datetime(2026, 2, 3, 4, 5, 6),
        datetime(2026, 2, 3, 5, 5, 6, tzinfo=timezone(timedelta(hours=1))),
        datetime(2026, 2, 2, 23, 5, 6, tzinfo=timezone(timedelta(hours=-5))),
    ],
)
def test_an_expiry_is_said_in_utc_and_is_utc_unless_it_says_otherwise(moment: datetime) -> None:
    body = requests.backup_body(ITEM, recovery_point_expiry=moment)
    assert body["properties"]["recoveryPointExpiryTimeInUTC"] == "2026-02-03T04:05:06Z"


def test_calls_name_a_path_below_the_vault_and_no_host() -> None:
    assert requests.trigger_backup(ITEM, {"properties": {}}) == Request(
        method="POST", path=f"{ITEM.path}/backup", body={"properties": {}}
    )
    assert requests.get_operation(OPERATION) == Request(method="GET", path=OPERATION.path)
    assert requests.get_job(JOB) == Request(method="GET", path=JOB.path)
    assert requests.cancel_job(JOB) == Request(method="POST", path=f"{JOB.path}/cancel")
    assert requests.list_vaults("s").path == "/subscriptions/s/providers/Microsoft.RecoveryServices/vaults"
    assert requests.list_protected_items(VAULT, "AzureIaasVM") == Request(
        method="GET",
        path=f"{VAULT.path}/backupProtectedItems",
        query=(("$filter", "backupManagementType eq 'AzureIaasVM'"),),
    )


@pytest.mark.parametrize(
    ("hour", "said"),
    [(0, "12:05:06 AM"), (1, "01:05:06 AM"), (11, "11:05:06 AM"), (12, "12:05:06 PM"), (13, "01:05:06 PM")],
)
def test_a_window_of_time_is_said_on_a_twelve_hour_clock(hour: int, said: str) -> None:
    request = requests.list_jobs(VAULT, started_after=MORNING.replace(hour=hour))
    assert request.query == (("$filter", f"startTime eq '2026-02-03 {said}'"),)


def test_a_list_of_jobs_is_narrowed_by_what_was_given_and_no_more() -> None:
    assert requests.list_jobs(VAULT).query == ()
    assert requests.list_jobs(VAULT, status=None, operation="").query == ()
    narrowed = requests.list_jobs(
        VAULT,
        status="InProgress",
        operation="Backup",
        backup_management_type="AzureIaasVM",
        started_after=MORNING,
        started_before=MORNING + timedelta(hours=12),
    )
    assert narrowed.query == (
        (
            "$filter",
            "status eq 'InProgress' and operation eq 'Backup' and backupManagementType eq 'AzureIaasVM'"
            " and startTime eq '2026-02-03 04:05:06 AM' and endTime eq '2026-02-03 04:05:06 PM'",
        ),
    )


HERE = answered(200)


@pytest.mark.parametrize("host", ["management.azure.com", "management.azure.com:443", "Management.Azure.com"])
def test_the_next_page_is_asked_for_as_the_link_says_in_the_api_version_of_the_connection(host: str) -> None:
    link = f"https://{host}{VAULT.path}/backup%3BJobs?Api-Version=2016-06-01&%24skipToken=a%2Bb%3D%3D&$filter=x+y"
    assert requests.next_page(HERE, link) == Request(
        method="GET",
        path=f"{VAULT.path}/backup;Jobs",
        query=(("$skipToken", "a+b=="), ("$filter", "x y")),
    )


@pytest.mark.parametrize(
    "link",
    [
        "https://evil.example/backupJobs?$skipToken=secret",
        "http://management.azure.com/backupJobs",
        "http://management.azure.com:443/backupJobs",
        "https://management.azure.com:8443/backupJobs",
        "https://management.azure.com@evil.example/backupJobs",
        "https://management.azure.com.evil.example/backupJobs",
        "//evil.example/backupJobs",
        "/backupJobs",
        "backupJobs",
        "https://[/",
        "https://management.azure.com:port/",
    ],
)
def test_a_token_never_goes_where_a_link_leads(link: str) -> None:
    with pytest.raises(AzureBackupTransientError, match="not followed, because the token") as refusal:
        requests.next_page(HERE, link)
    assert "secret" not in str(refusal.value)

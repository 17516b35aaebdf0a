"""Microsoft's own client, with Microsoft's own credentials, drives the emulator over TLS."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError
from azure.identity import ClientSecretCredential
from azure.identity.aio import ClientSecretCredential as AsyncClientSecretCredential
from azure.mgmt.recoveryservicesbackup import RecoveryServicesBackupClient
from azure.mgmt.recoveryservicesbackup.aio import RecoveryServicesBackupClient as AsyncBackupClient
from azure.mgmt.recoveryservicesbackup.models import (
    AzureFileShareBackupRequest,
    AzureFileShareRestoreRequest,
    AzureWorkloadBackupRequest,
    BackupRequestResource,
    BackupStatusRequest,
    IaasVMBackupRequest,
    IaasVMRestoreRequest,
    RestoreRequestResource,
    ValidateIaasVMRestoreOperationRequest,
    ValidateOperationRequestResource,
)

from azure_backup_emulator import Emulator
from azure_backup_emulator.model.obstacles import OBSTACLES
from tests.support.clock import ManualClock

HERE = ("demo-vault", "demo-rg")
DONE = [("Protected", "Completed"), ("Protected", "Healthy")]  # workloads say Healthy, as recorded
SCOPES = ["https://management.azure.com/.default"]
BODIES = {
    "vm-good": IaasVMBackupRequest(),
    "documents": AzureFileShareBackupRequest(),
    "msdb": AzureWorkloadBackupRequest(backup_type="Full"),
    "systemdb": AzureWorkloadBackupRequest(backup_type="Full"),
}


def _credential_options(azure: Emulator) -> dict[str, Any]:
    connection = azure.connection()
    return {
        "tenant_id": connection["extra"]["tenant_id"],
        "client_id": connection["login"],
        "client_secret": connection["password"],
        "authority": azure.url,
        "disable_instance_discovery": True,
        "connection_verify": azure.ca_bundle,
    }


def _client_options(azure: Emulator) -> dict[str, Any]:
    return {
        "subscription_id": azure.connection()["extra"]["subscription_id"],
        "base_url": azure.url,
        "credential_scopes": SCOPES,
        "connection_verify": azure.ca_bundle,
        "retry_total": 0,
    }


@pytest.fixture
def sdk(azure: Emulator) -> Iterator[RecoveryServicesBackupClient]:
    with (
        ClientSecretCredential(**_credential_options(azure)) as credential,
        RecoveryServicesBackupClient(credential, **_client_options(azure)) as client,
    ):
        yield client


@pytest.fixture
async def async_sdk(azure: Emulator) -> AsyncIterator[AsyncBackupClient]:
    async with AsyncExitStack() as stack:
        credential = await stack.enter_async_context(
            AsyncClientSecretCredential(**_credential_options(azure))
        )
        yield await stack.enter_async_context(AsyncBackupClient(credential, **_client_options(azure)))


class Operation:
    """Catches the operation id that the SDK's trigger throws away."""

    def __call__(self, response: Any) -> None:
        header = response.http_response.headers["Azure-AsyncOperation"]
        self.id = header.partition("?")[0].rpartition("/")[2]


def _names(item: Any) -> tuple[str, str, str]:
    return "Azure", item.id.partition("/protectionContainers/")[2].partition("/")[0], item.name


def _find(items: Any, name: str) -> Any:
    # By wire name: SDK 11.2.0 reads a VM's item, a recorded one too, as its base class without the field.
    return next(item for item in items if item.properties["friendlyName"] == name)


@pytest.mark.parametrize("name", BODIES)
def test_a_backup_from_item_to_recovery_point(
    sdk: RecoveryServicesBackupClient, clock: ManualClock, name: str
) -> None:
    item = _find(sdk.backup_protected_items.list(*HERE), name)
    operation = Operation()
    request = BackupRequestResource(properties=BODIES[name])
    sdk.backups.trigger(*HERE, *_names(item), request, raw_response_hook=operation)
    status = sdk.backup_operation_statuses.get(*HERE, operation.id)
    assert (status.status, status.properties) == ("InProgress", None)
    clock.advance(2)
    for status in (
        sdk.backup_operation_statuses.get(*HERE, operation.id),
        sdk.protected_item_operation_statuses.get(*HERE, *_names(item), operation.id),
    ):
        assert status.status == "Succeeded"
    job = sdk.job_details.get(*HERE, status.properties.job_id)
    assert (job.properties.status, job.properties.end_time) == ("InProgress", None)
    clock.advance(5000)
    job = sdk.job_details.get(*HERE, status.properties.job_id)
    assert (job.properties.status, job.properties.operation.split()[0]) == ("Completed", "Backup")
    assert job.properties.end_time > job.properties.start_time
    assert {task.status for task in job.properties.extended_info.tasks_list} == {"Completed"}
    points = list(sdk.recovery_points.list(*HERE, *_names(item)))
    assert len(points) == 1
    assert sdk.recovery_points.get(*HERE, *_names(item), points[0].name).id == points[0].id
    state = sdk.protected_items.get(*HERE, *_names(item)).properties
    assert (state["protectionState"], state["lastBackupStatus"]) in DONE


def test_a_list_of_jobs_with_filter_and_pages(
    azure: Emulator, sdk: RecoveryServicesBackupClient, clock: ManualClock
) -> None:
    azure.configure(page_size=3)
    names = [azure.start_job(f"fleet-{number:02}") for number in range(1, 11)]
    clock.advance(5000)
    running = azure.start_job("vm-good")
    assert {job.name for job in sdk.backup_jobs.list(*HERE)} == {*names, running}
    assert azure.count(path_contains="/backupJobs") == 4
    found = list(sdk.backup_jobs.list(*HERE, filter="status eq 'InProgress' and operation eq 'Backup'"))
    assert [job.name for job in found] == [running]
    assert found[0].properties.extended_info is None


def test_a_cancelled_backup(azure: Emulator, sdk: RecoveryServicesBackupClient, clock: ManualClock) -> None:
    job_id = azure.start_job("vm-good")
    clock.advance(1000)
    operation = Operation()
    sdk.job_cancellations.trigger(*HERE, job_id, raw_response_hook=operation)
    sdk.job_operation_results.get(*HERE, job_id, operation.id)
    assert sdk.job_details.get(*HERE, job_id).properties.status == "Cancelling"
    clock.advance(60)
    properties = sdk.job_details.get(*HERE, job_id).properties
    assert properties.status == "CompletedWithWarnings"
    assert [error.error_title for error in properties.error_details] == ["UserErrorJobSuccessfullyCancelled"]


@pytest.mark.parametrize("obstacles", [[], ["quota", "subnet"]])
def test_a_check_of_a_restore(
    sdk: RecoveryServicesBackupClient, azure: Emulator, clock: ManualClock, obstacles: list[str]
) -> None:
    azure.start_job("vm-good")
    clock.advance(5000)
    azure.plan("vm-good", obstacles=obstacles)
    item = _find(sdk.backup_protected_items.list(*HERE), "vm-good")
    point = next(iter(sdk.recovery_points.list(*HERE, *_names(item))))
    request = IaasVMRestoreRequest(recovery_type="RestoreDisks", storage_account_id="/x/disks")
    operation = Operation()
    sdk.validate_operation.begin_trigger(
        *HERE,
        ValidateOperationRequestResource(
            id=point.id, properties=ValidateIaasVMRestoreOperationRequest(restore_request=request)
        ),
        polling=False,
        raw_response_hook=operation,
    )
    clock.advance(2)
    status = sdk.validate_operation_statuses.get(*HERE, operation.id)
    found = status.properties.validate_operation_response.validation_results
    assert (status.status, [each.code for each in found]) == (
        "Succeeded",
        [OBSTACLES[name].code for name in obstacles],
    )
    assert [guard.name for guard in sdk.resource_guard_proxies.get(*HERE)] == []
    azure.configure(guards={"demo-vault": {}})
    (guard,) = sdk.resource_guard_proxies.get(*HERE)
    named = {each.default_resource_request for each in guard.properties.resource_guard_operation_details}
    assert f"{guard.properties.resource_guard_resource_id}/triggerRestoreRequests/default" in named


@pytest.mark.parametrize(
    ("name", "request_"),
    [
        ("vm-good", IaasVMRestoreRequest(recovery_type="RestoreDisks", storage_account_id="/x/disks")),
        (
            "documents",
            AzureFileShareRestoreRequest(
                recovery_type="OriginalLocation",
                copy_options="Overwrite",
                restore_request_type="FullShareRestore",
            ),
        ),
    ],
)
def test_a_restore(
    sdk: RecoveryServicesBackupClient, azure: Emulator, clock: ManualClock, name: str, request_: Any
) -> None:
    azure.start_job(name)
    clock.advance(5000)
    item = _find(sdk.backup_protected_items.list(*HERE), name)
    point = next(iter(sdk.recovery_points.list(*HERE, *_names(item))))
    operation = Operation()
    sdk.restores.begin_trigger(
        *HERE,
        *_names(item),
        point.name,
        RestoreRequestResource(properties=request_),
        polling=False,
        raw_response_hook=operation,
    )
    clock.advance(2)
    status = sdk.backup_operation_statuses.get(*HERE, operation.id)
    assert status.properties.job_id == operation.id
    clock.advance(1000)
    job = sdk.job_details.get(*HERE, operation.id).properties
    assert (job.operation, job.status) == ("Restore", "Completed")


def test_the_vault_of_a_machine(azure: Emulator, sdk: RecoveryServicesBackupClient) -> None:
    source = _find(sdk.backup_protected_items.list(*HERE), "vm-good").properties.source_resource_id
    for source_id, expected in ((source, "Protected"), (f"{source}-unknown", "NotProtected")):
        request = BackupStatusRequest(resource_type="VM", resource_id=source_id)
        found = sdk.backup_status.get("westeurope", request)
        assert found.protection_status == expected
        assert (found.vault_id is not None) == (expected == "Protected")
    assert [usage.unit for usage in sdk.backup_usage_summaries.list(*HERE)] == ["Count"] * 3
    containers = sdk.backup_protection_containers.list(
        *HERE, filter="backupManagementType eq 'AzureWorkload'"
    )
    assert sorted(each.properties.friendly_name for each in containers) == ["asevm", "hanavm", "sqlvm"]
    assert list(sdk.resource_guard_proxies.get(*HERE)) == []


POLICIES = {
    "DefaultPolicy": "AzureIaasVM",
    "fleet": "AzureIaasVM",
    "DailyShares": "AzureStorage",
    "HourlyLogBackup": "AzureWorkload",
    "DailyHana": "AzureWorkload",
    "DailyHanaInstance": "AzureWorkload",
    "DailyAse": "AzureWorkload",
}


def test_the_policies_of_a_vault(azure: Emulator, sdk: RecoveryServicesBackupClient) -> None:
    azure.configure(page_size=3)
    found = list(sdk.backup_policies.list(*HERE))
    assert {each.name: each.properties.backup_management_type for each in found} == POLICIES
    for policy in found:
        assert sdk.protection_policies.get(*HERE, policy.name) == policy
    assert sum(policy.properties.protected_items_count for policy in found) == len(
        list(sdk.backup_protected_items.list(*HERE))
    )
    (shares,) = sdk.backup_policies.list(*HERE, filter="backupManagementType eq 'AzureStorage'")
    assert shares.properties.retention_policy.daily_schedule.retention_duration.count == 30
    item = _find(sdk.backup_protected_items.list(*HERE), "documents")
    assert item.properties["policyId"] == shares.id
    with pytest.raises(HttpResponseError) as caught:
        sdk.protection_policies.get(*HERE, "none")
    assert caught.value.status_code == 404


def test_an_export_of_jobs(azure: Emulator, sdk: RecoveryServicesBackupClient, clock: ManualClock) -> None:
    locations: list[str] = []
    sdk.jobs.export(
        *HERE,
        filter="status eq 'Failed'",
        raw_response_hook=lambda response: locations.append(response.http_response.headers["Location"]),
    )
    operation = locations[0].partition("?")[0].rpartition("/")[2]
    result = sdk.export_jobs_operation_results.get(*HERE, operation).operation
    assert (result.object_type, result.blob_url) == ("ExportJobsOperationResultInfo", None)
    clock.advance(2)
    result = sdk.export_jobs_operation_results.get(*HERE, operation).operation
    assert operation in result.blob_url
    assert operation in result.excel_file_blob_url
    assert result.blob_sas_key.startswith("?")
    with pytest.raises(HttpResponseError) as caught:
        sdk.jobs.export(*HERE, filter="colour eq 'blue'")
    assert caught.value.status_code == 400


def test_an_error_reaches_the_client_with_its_code(sdk: RecoveryServicesBackupClient) -> None:
    with pytest.raises(HttpResponseError) as caught:
        sdk.job_details.get("no-vault", "demo-rg", "x")
    assert (caught.value.status_code, caught.value.error.code) == (404, "ResourceNotFound")


async def test_the_asynchronous_client_reads_the_same(
    async_sdk: AsyncBackupClient, azure: Emulator, clock: ManualClock
) -> None:
    item = _find([item async for item in async_sdk.backup_protected_items.list(*HERE)], "vm-good")
    operation = Operation()
    request = BackupRequestResource(properties=IaasVMBackupRequest())
    await async_sdk.backups.trigger(*HERE, *_names(item), request, raw_response_hook=operation)
    clock.advance(2)
    job_id = (await async_sdk.backup_operation_statuses.get(*HERE, operation.id)).properties.job_id
    clock.advance(1000)
    assert (await async_sdk.job_details.get(*HERE, job_id)).properties.status == "InProgress"
    text = "status eq 'InProgress'"
    assert [job.name async for job in async_sdk.backup_jobs.list(*HERE, filter=text)] == [job_id]
    await async_sdk.job_cancellations.trigger(*HERE, job_id)
    clock.advance(60)
    assert (await async_sdk.job_details.get(*HERE, job_id)).properties.status == "CompletedWithWarnings"
    points = [point async for point in async_sdk.recovery_points.list(*HERE, *_names(item))]
    tiers = points[0].properties.recovery_point_tier_details
    assert [tier.type for tier in tiers] == ["InstantRP"]

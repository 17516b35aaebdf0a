"""Each of our calls is, to method, path, filter and body, what Microsoft's clients send for the same intent.

Restores are compared in ``tests/tasks/test_restores.py`` and ``tests/tasks/test_instance_restores.py``,
intent by intent.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from azure.core.credentials import AccessToken
from azure.core.pipeline.transport import HttpTransport
from azure.mgmt.dataprotection import DataProtectionMgmtClient
from azure.mgmt.dataprotection import models as protection
from azure.mgmt.recoveryservices import RecoveryServicesClient
from azure.mgmt.recoveryservicesbackup import RecoveryServicesBackupClient
from azure.mgmt.recoveryservicesbackup import models as sdk

from airflow_provider_azbackup.core.model.recovery_points import THREATS, RecoveryPoint
from airflow_provider_azbackup.core.model.resources import (
    BackupInstance,
    JobRef,
    OperationRef,
    ProtectedItem,
    SecondaryRegion,
    Vault,
)
from airflow_provider_azbackup.core.rest import requests, responses
from airflow_provider_azbackup.core.rest.responses import DataSource, Page
from airflow_provider_azbackup.core.restore.backup_vault_request import instance_request
from airflow_provider_azbackup.core.wire import JsonObject, Request
from airflow_provider_azbackup.restore_to import new_disk

SUBSCRIPTION = "11111111-2222-3333-4444-555555555555"
OLDER = Vault(subscription_id=SUBSCRIPTION, resource_group_name="vaults-rg", name="shop-vault")
YOUNGER = Vault(
    subscription_id=SUBSCRIPTION,
    resource_group_name="vaults-rg",
    name="young-vault",
    vault_type="DataProtection",
)
JOB = "0f8c2a51-7d3e-4b6a-9c1d-5e2f7a8b9c0d"
OPERATION = "YTBiMWMyZDMtMDAwMC00MTExLTgyMjItMzMzMzQ0NDQ1NTU1Ow=="
POINT = "266330917466831"
COMPUTE = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/shop/providers/Microsoft.Compute"
MACHINE = f"{COMPUTE}/virtualMachines/web"
DRILL = f"{COMPUTE}/disks/web-drill"
EXPIRY = datetime(2027, 1, 2, 3, 4, 5, tzinfo=UTC)
SINCE, UNTIL = datetime(2026, 11, 1, 0, 30, tzinfo=UTC), datetime(2026, 11, 2, 13, 5, 9, tzinfo=UTC)


def item(container: str, name: str) -> ProtectedItem:
    return ProtectedItem(vault=OLDER, container=container, name=name)


VM = item("IaasVMContainer;iaasvmcontainerv2;shop;web", "VM;iaasvmcontainerv2;shop;web")
SHARE = item("StorageContainer;storage;shop;files", "AzureFileShare;0a1b2c")
SQL = item("VMAppContainer;compute;shop;sqlvm", "SQLDataBase;mssqlserver;orders")
HANA = item("VMAppContainer;compute;shop;hanavm", "SAPHanaDatabase;hxe;systemdb")
DISK = BackupInstance(vault=YOUNGER, name="web-disk-0f8c2a51")
ABROAD = replace(YOUNGER, secondary=SecondaryRegion(name="westus", primary="eastus"))
DISK_ABROAD = replace(DISK, vault=ABROAD)

ITEM = ("shop-vault", "vaults-rg", "Azure", VM.container, VM.name)
HERE = ("shop-vault", "vaults-rg")
THERE = ("vaults-rg", "young-vault")


def backs_up(of: ProtectedItem, request: Any) -> Callable[[Any], Any]:
    resource = sdk.BackupRequestResource(properties=request)
    return lambda az: az.backup.backups.trigger(*HERE, "Azure", of.container, of.name, resource)


def our_restore() -> JsonObject:
    source = DataSource(resource_id=f"{COMPUTE}/disks/web", source_type="Microsoft.Compute/disks")
    point = RecoveryPoint(item=DISK, point_id=JOB, tiers=(("OperationalStore", "COMMITTED"),))
    return instance_request(source, new_disk(disk_id=DRILL), point=point, region="westeurope")


def their_restore() -> Any:
    disk = protection.Datasource(
        object_type="Datasource",
        resource_id=DRILL,
        resource_name="web-drill",
        resource_type="Microsoft.Compute/disks",
        resource_uri="",
        resource_location="westeurope",
        datasource_type="Microsoft.Compute/disks",
    )
    return protection.AzureBackupRecoveryPointBasedRestoreRequest(
        recovery_point_id=JOB,
        source_data_store_type="OperationalStore",
        restore_target_info=protection.RestoreTargetInfo(
            recovery_option="FailIfExists", restore_location="westeurope", datasource_info=disk
        ),
    )


# What is asked for is compared in tests/tasks/test_restores.py; here it is only wrapped.
MACHINE_RESTORE = sdk.IaasVMRestoreRequest(recovery_type="RestoreDisks", recovery_point_id=POINT)


def validation_of(of: ProtectedItem, kind: Any) -> Any:
    return sdk.ValidateOperationRequestResource(
        id=f"{of.path}/recoveryPoints/{POINT}", properties=kind(restore_request=MACHINE_RESTORE)
    )


def abroad() -> Any:
    return protection.CrossRegionRestoreDetails(
        source_region="eastus", source_backup_instance_id=DISK_ABROAD.path
    )


def first_of(list_: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A list of Microsoft's asks only when it is read."""
    return lambda az: next(list_(az))


# What it is for: our call, and how Microsoft's client is asked for the same.
SAME: dict[str, tuple[Request, Callable[[Any], Any]]] = {
    "back up a machine": (
        requests.trigger_backup(VM, requests.backup_body(VM, recovery_point_expiry=EXPIRY)),
        backs_up(VM, sdk.IaasVMBackupRequest(recovery_point_expiry_time_in_utc=EXPIRY)),
    ),
    "back up a machine, kept as Azure likes": (
        requests.trigger_backup(VM, requests.backup_body(VM)),
        backs_up(VM, sdk.IaasVMBackupRequest()),
    ),
    "back up a share": (
        requests.trigger_backup(SHARE, requests.backup_body(SHARE, recovery_point_expiry=EXPIRY)),
        backs_up(SHARE, sdk.AzureFileShareBackupRequest(recovery_point_expiry_time_in_utc=EXPIRY)),
    ),
    "back up an SQL database": (
        requests.trigger_backup(
            SQL, requests.backup_body(SQL, backup_type="CopyOnlyFull", enable_compression=True)
        ),
        backs_up(SQL, sdk.AzureWorkloadBackupRequest(backup_type="CopyOnlyFull", enable_compression=True)),
    ),
    "back up a HANA database": (
        requests.trigger_backup(HANA, requests.backup_body(HANA, backup_type="Differential")),
        backs_up(HANA, sdk.AzureWorkloadBackupRequest(backup_type="Differential")),
    ),
    "back up a backup instance": (
        requests.trigger_backup(DISK, requests.backup_rule_body("BackupDaily", "Weekly")),
        lambda az: az.protection.backup_instances.begin_adhoc_backup(
            *THERE,
            DISK.name,
            protection.TriggerBackupRequest(
                backup_rule_options=protection.AdHocBackupRuleOptions(
                    rule_name="BackupDaily",
                    trigger_option=protection.AdhocBackupTriggerOption(retention_tag_override="Weekly"),
                )
            ),
        ),
    ),
    "ask what became of an operation": (
        requests.get_operation(OperationRef(vault=OLDER, operation_id=JOB)),
        lambda az: az.backup.backup_operation_statuses.get(*HERE, JOB),
    ),
    "read a job": (
        requests.get_job(JobRef(vault=OLDER, job_id=JOB)),
        lambda az: az.backup.job_details.get(*HERE, JOB),
    ),
    "cancel a job": (
        requests.cancel_job(JobRef(vault=OLDER, job_id=JOB)),
        lambda az: az.backup.job_cancellations.trigger(*HERE, JOB),
    ),
    "list all jobs": (requests.list_jobs(OLDER), first_of(lambda az: az.backup.backup_jobs.list(*HERE))),
    "list some jobs": (
        requests.list_jobs(
            OLDER,
            status="InProgress",
            operation="Backup",
            backup_management_type="AzureIaasVM",
            started_after=SINCE,
            started_before=UNTIL,
        ),
        first_of(
            lambda az: az.backup.backup_jobs.list(
                *HERE,
                filter="status eq 'InProgress' and operation eq 'Backup' and "
                "backupManagementType eq 'AzureIaasVM' and "
                "startTime eq '2026-11-01 12:30:00 AM' and endTime eq '2026-11-02 01:05:09 PM'",
            )
        ),
    ),
    "list protected items": (
        requests.list_protected_items(OLDER, "AzureWorkload"),
        first_of(
            lambda az: az.backup.backup_protected_items.list(
                *HERE, filter="backupManagementType eq 'AzureWorkload'"
            )
        ),
    ),
    "read a protected item": (
        requests.get_protected_item(VM),
        lambda az: az.backup.protected_items.get(*ITEM),
    ),
    "list recovery points": (
        requests.list_recovery_points(VM),
        first_of(lambda az: az.backup.recovery_points.list(*ITEM)),
    ),
    "list the stretches of a log": (
        requests.list_recovery_points(VM, after=SINCE, before=UNTIL, query_type="Log"),
        first_of(
            lambda az: az.backup.recovery_points.list(
                *ITEM,
                filter="startDate eq '2026-11-01 12:30:00 AM' and endDate eq '2026-11-02 01:05:09 PM' and "
                "restorePointQueryType eq 'Log'",
            )
        ),
    ),
    "read a recovery point": (
        requests.get_recovery_point(VM, POINT),
        lambda az: az.backup.recovery_points.get(*ITEM, POINT),
    ),
    "find the vault of a machine": (
        requests.backup_status(MACHINE, "westeurope"),
        lambda az: az.backup.backup_status.get(
            "westeurope", sdk.BackupStatusRequest(resource_type="VM", resource_id=MACHINE)
        ),
    ),
    "read a vault": (
        requests.get_vault(OLDER),
        lambda az: az.vaults.vaults.get("vaults-rg", "shop-vault"),
    ),
    "list the vaults of a subscription": (
        requests.list_vaults(SUBSCRIPTION),
        first_of(lambda az: az.vaults.vaults.list_by_subscription_id()),
    ),
    "ask what became of an operation of a Backup vault": (
        requests.get_operation(OperationRef(vault=YOUNGER, operation_id=OPERATION)),
        lambda az: az.protection.operation_status_backup_vault_context.get(*THERE, OPERATION),
    ),
    "read a job of a Backup vault": (
        requests.get_job(JobRef(vault=YOUNGER, job_id=JOB)),
        lambda az: az.protection.jobs.get(*THERE, JOB),
    ),
    "list the jobs of a Backup vault": (
        requests.list_jobs(YOUNGER),
        first_of(lambda az: az.protection.jobs.list(*THERE)),
    ),
    "list backup instances": (
        requests.list_instances(YOUNGER),
        first_of(lambda az: az.protection.backup_instances.list(*THERE)),
    ),
    "read a backup instance": (
        requests.get_protected_item(DISK),
        lambda az: az.protection.backup_instances.get(*THERE, DISK.name),
    ),
    "read a policy of a Backup vault": (
        requests.get_policy(DISK, f"{YOUNGER.path}/backupPolicies/nightly"),
        lambda az: az.protection.backup_policies.get(*THERE, "nightly"),
    ),
    "list the recovery points of a backup instance": (
        requests.list_recovery_points(DISK),
        first_of(lambda az: az.protection.recovery_points.list(*THERE, DISK.name)),
    ),
    "read a recovery point of a backup instance": (
        requests.get_recovery_point(DISK, JOB),
        lambda az: az.protection.recovery_points.get(*THERE, DISK.name, JOB),
    ),
    "validate a restore of a machine": (
        requests.validate_restore(VM, POINT, {"properties": MACHINE_RESTORE.as_dict()}),
        lambda az: az.backup.validate_operation.begin_trigger(
            *HERE, validation_of(VM, sdk.ValidateIaasVMRestoreOperationRequest)
        ),
    ),
    "validate a restore of a share": (
        requests.validate_restore(SHARE, POINT, {"properties": MACHINE_RESTORE.as_dict()}),
        lambda az: az.backup.validate_operation.begin_trigger(
            *HERE, validation_of(SHARE, sdk.ValidateRestoreOperationRequest)
        ),
    ),
    "validate a restore of a database": (
        requests.validate_restore(HANA, POINT, {"properties": MACHINE_RESTORE.as_dict()}),
        lambda az: az.backup.validate_operation.begin_trigger(
            *HERE, validation_of(HANA, sdk.ValidateAzureWorkloadRestoreOperationRequest)
        ),
    ),
    "ask what became of a validation": (
        requests.get_operation(OperationRef(vault=OLDER, operation_id=JOB, validates=True)),
        lambda az: az.backup.validate_operation_statuses.get(*HERE, JOB),
    ),
    "validate a restore of a backup instance": (
        requests.validate_instance_restore(DISK, our_restore()),
        lambda az: az.protection.backup_instances.begin_validate_for_restore(
            *THERE, DISK.name, protection.ValidateRestoreRequestObject(restore_request_object=their_restore())
        ),
    ),
    "list the Resource Guards of a vault": (
        requests.list_guards(OLDER),
        first_of(lambda az: az.backup.resource_guard_proxies.get(*HERE)),
    ),
    "list the Resource Guards of a Backup vault": (
        requests.list_guards(YOUNGER),
        first_of(lambda az: az.protection.dpp_resource_guard_proxy.list(*THERE)),
    ),
    "restore a backup instance": (
        requests.restore_instance(DISK, our_restore()),
        lambda az: az.protection.backup_instances.begin_trigger_restore(*THERE, DISK.name, their_restore()),
    ),
    "ask to which moments a backup instance can be taken back": (
        requests.find_restorable_ranges(DISK),
        lambda az: az.protection.restorable_time_ranges.find(
            *THERE,
            DISK.name,
            protection.AzureBackupFindRestorableTimeRangesRequest(source_data_store_type="OperationalStore"),
        ),
    ),
    "read a job of a Backup vault's secondary region": (
        requests.get_job(JobRef(vault=ABROAD, job_id=JOB)),
        lambda az: az.protection.fetch_cross_region_restore_job.get(
            "vaults-rg",
            "westus",
            protection.CrossRegionRestoreJobRequest(
                source_region="eastus", source_backup_vault_id=ABROAD.path, job_id=JOB
            ),
        ),
    ),
    "list the jobs of a Backup vault's secondary region": (
        requests.list_jobs(ABROAD),
        first_of(
            lambda az: az.protection.fetch_cross_region_restore_jobs.list(
                "vaults-rg",
                "westus",
                protection.CrossRegionRestoreJobsRequest(
                    source_region="eastus", source_backup_vault_id=ABROAD.path
                ),
            )
        ),
    ),
    "list the recovery points in the secondary region": (
        requests.list_recovery_points(DISK_ABROAD),
        first_of(
            lambda az: az.protection.fetch_secondary_recovery_points.list(
                "vaults-rg",
                "westus",
                protection.FetchSecondaryRPsRequestParameters(
                    source_region="eastus", source_backup_instance_id=DISK_ABROAD.path
                ),
            )
        ),
    ),
    "validate a restore in the secondary region": (
        requests.validate_instance_restore(DISK_ABROAD, our_restore()),
        lambda az: az.protection.backup_instances.begin_validate_cross_region_restore(
            "vaults-rg",
            "westus",
            protection.ValidateCrossRegionRestoreRequestObject(
                restore_request_object=their_restore(), cross_region_restore_details=abroad()
            ),
        ),
    ),
    "restore a backup instance in the secondary region": (
        requests.restore_instance(DISK_ABROAD, our_restore()),
        lambda az: az.protection.backup_instances.begin_trigger_cross_region_restore(
            "vaults-rg",
            "westus",
            protection.CrossRegionRestoreRequestObject(
                restore_request_object=their_restore(), cross_region_restore_details=abroad()
            ),
        ),
    ),
    "read a Backup vault": (
        requests.get_vault(YOUNGER),
        lambda az: az.protection.backup_vaults.get(*THERE),
    ),
    "list the Backup vaults of a subscription": (
        requests.list_vaults(SUBSCRIPTION, "DataProtection"),
        first_of(lambda az: az.protection.backup_vaults.get_in_subscription()),
    ),
}


class SentError(Exception):
    """Thrown instead of sending, with what would have been sent."""

    def __init__(self, request: Any) -> None:
        super().__init__(request.url)
        self.request = request


class Catching(HttpTransport[Any, Any]):
    """A transport that sends nothing."""

    def open(self) -> None: ...
    def close(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...
    def send(self, request: Any, **_: Any) -> Any:
        raise SentError(request)


class Credential:
    def get_token(self, *_: str, **__: Any) -> AccessToken:
        return AccessToken("token", 4_000_000_000)


class Microsoft:
    """Microsoft's three clients, which catch what they would send."""

    def __init__(self, stack: ExitStack) -> None:
        given = {"subscription_id": SUBSCRIPTION, "transport": Catching()}
        self.backup = stack.enter_context(RecoveryServicesBackupClient(Credential(), **given))
        self.vaults = stack.enter_context(RecoveryServicesClient(Credential(), **given))
        self.protection = stack.enter_context(DataProtectionMgmtClient(Credential(), **given))


@pytest.fixture(scope="module")
def microsoft() -> Iterator[Microsoft]:
    with ExitStack() as stack:
        yield Microsoft(stack)


@pytest.mark.parametrize("what", SAME)
def test_azure_is_asked_as_microsofts_clients_ask(microsoft: Microsoft, what: str) -> None:
    ours, theirs = SAME[what]
    with pytest.raises(SentError) as caught:
        theirs(microsoft)
    sent = caught.value.request
    url = urlsplit(sent.url)
    query = tuple((name, value) for name, value in parse_qsl(url.query) if name != "api-version")
    assert (sent.method, unquote(url.path), query) == (ours.method, ours.path, ours.query)
    body = sent.content if hasattr(sent, "content") else sent.body
    assert (json.loads(body) if body else None) == ours.body


def test_every_call_is_compared() -> None:
    """All builders of calls but these: a page follows a link, a restore by an item has tests of its own, and
    so have queries of Resource Graph and of permissions, whose clients are not installed, and the secondary
    region of Recovery Services vaults, which their newest client has no longer.
    """
    makers = {
        name
        for name, made in vars(requests).items()
        if callable(made) and getattr(made, "__annotations__", {}).get("return") == "Request"
    }
    text = Path(__file__).read_text()
    others = {
        "next_page",
        "trigger_restore",
        "query_recent_jobs",
        "list_permissions",
        "query_vault",
        "query_instances",
        "query_vaults",
        "query_items",
        "_graph",
    }
    others |= {"aad_properties", "access_token", "cross_region_restore", "_in_secondary_region"}
    assert {name for name in makers if f"requests.{name}(" not in text} == others


def test_what_a_recovery_point_says_is_spelt_as_microsofts_client_reads_it(microsoft: Microsoft) -> None:
    """Fields and enumerations that are read by name, and the version from which threats are shown."""
    whole = sdk.IaasVMRecoveryPoint(
        {
            "objectType": "IaasVMRecoveryPoint",
            "recoveryPointTime": "2026-09-14T08:08:04.5606237Z",
            "recoveryPointType": "AppConsistent",
            "recoveryPointTierDetails": [{"type": "InstantRP", "status": "Valid"}],
            "recoveryPointProperties": {"isSoftDeleted": True, "expiryTime": "2026-10-14T08:00:00Z"},
            "recoveryPointDiskConfiguration": {
                "numberOfDisksIncludedInBackup": 1,
                "numberOfDisksAttachedToVm": 2,
                "excludedDiskList": [{"lun": 0, "name": "logs"}],
            },
            "threatStatus": "UnHealthy",
            "threatInfo": [{"threatTitle": "Petya", "threatState": "Active"}],
        }
    )
    (ours,) = responses.read_recovery_points(
        VM, Page(values=({"name": POINT, "properties": whole.as_dict()},), next_link=None)
    )
    disks = whole.recovery_point_disk_configuration
    assert (ours.disks_included, ours.disks_attached) == (
        disks.number_of_disks_included_in_backup,
        disks.number_of_disks_attached_to_vm,
    )
    assert ours.excluded_disks == (disks.excluded_disk_list[0].name,)
    assert ours.is_deleted is whole.recovery_point_properties.is_soft_deleted
    assert ours.threat_status == whole.threat_status
    assert ours.threats == (whole.threat_info[0].threat_title,)
    assert {word.value.casefold() for word in sdk.ThreatStatus} == {*THREATS} - {""}
    assert {word.value for word in protection.RecoveryPointCompletionState} == {"Completed", "Partial"}
    assert microsoft.backup._config.api_version >= requests.RECOVERY_POINT_API_VERSION

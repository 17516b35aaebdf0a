"""Microsoft's own client for Backup vaults drives the emulator, and sends what the provider sends."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from azure.core.exceptions import HttpResponseError
from azure.identity import ClientSecretCredential
from azure.mgmt.dataprotection import DataProtectionMgmtClient
from azure.mgmt.dataprotection.models import (
    AdHocBackupRuleOptions,
    AdhocBackupTriggerOption,
    TriggerBackupRequest,
)

from airflow_provider_azbackup.core.model.resources import ProtectedItem
from airflow_provider_azbackup.core.rest import requests
from azure_backup_emulator import Emulator
from tests.support.clock import ManualClock

HERE = ("demo-rg", "demo-backup-vault")
SCOPES = ["https://management.azure.com/.default"]
RULES = {
    "disk-good": "BackupHourly",
    "orders": "BackupWeekly",
    "demoblobs": "BackupDaily",
    "demo-aks": "BackupHourly",
}


def client_of(azure: Emulator) -> Iterator[DataProtectionMgmtClient]:
    connection = azure.connection()
    with (
        ClientSecretCredential(
            connection["extra"]["tenant_id"],
            connection["login"],
            connection["password"],
            authority=azure.url,
            disable_instance_discovery=True,
            connection_verify=azure.ca_bundle,
        ) as credential,
        DataProtectionMgmtClient(
            credential,
            connection["extra"]["subscription_id"],
            base_url=azure.url,
            credential_scopes=SCOPES,
            connection_verify=azure.ca_bundle,
            retry_total=0,
        ) as client,
    ):
        yield client


@pytest.fixture
def sdk(azure: Emulator) -> Iterator[DataProtectionMgmtClient]:
    yield from client_of(azure)


class Trigger:
    """Catches the request of a trigger, and the operation id that the SDK's poller keeps to itself."""

    def __call__(self, response: Any) -> None:
        header = response.http_response.headers["Azure-AsyncOperation"]
        self.operation = unquote(header.partition("?")[0].rpartition("/")[2])
        sent = response.http_request
        self.method, self.url, self.body = sent.method, sent.url, sent.body


def request_of(rule: str, tag: str | None = None) -> TriggerBackupRequest:
    option = AdhocBackupTriggerOption(retention_tag_override=tag)
    return TriggerBackupRequest(
        backup_rule_options=AdHocBackupRuleOptions(rule_name=rule, trigger_option=option)
    )


def name_of(azure: Emulator, name: str) -> str:
    return azure.service.world.named(name)[0].native_name


@pytest.mark.parametrize("name", RULES)
def test_a_backup_from_instance_to_recovery_point(
    azure: Emulator, sdk: DataProtectionMgmtClient, clock: ManualClock, name: str
) -> None:
    instance = sdk.backup_instances.get(*HERE, name_of(azure, name))
    assert instance.id in {each.id for each in sdk.backup_instances.list(*HERE)}
    assert instance.properties.current_protection_state == "ProtectionConfigured"
    policy = sdk.backup_policies.get(*HERE, instance.properties.policy_info.policy_id.rpartition("/")[2])
    rules = [rule.name for rule in policy.properties.policy_rules if rule.object_type == "AzureBackupRule"]
    assert rules == [RULES[name]]
    trigger = Trigger()
    sdk.backup_instances.begin_adhoc_backup(
        *HERE, instance.name, request_of(rules[0]), polling=False, raw_response_hook=trigger
    )
    status = sdk.operation_status_backup_vault_context.get(*HERE, trigger.operation)
    assert (status.status, status.properties) == ("Inprogress", None)
    clock.advance(2)
    status = sdk.operation_status_backup_vault_context.get(*HERE, trigger.operation)
    assert status.status == "Succeeded"
    job_id = status.properties.job_id.rpartition("/")[2]
    job = sdk.jobs.get(*HERE, job_id).properties
    assert (job.status, job.operation, job.end_time) == ("InProgress", "Backup", None)
    clock.advance(5000)
    job = sdk.jobs.get(*HERE, job_id).properties
    assert (job.status, job.is_user_triggered) == ("Completed", True)
    assert job.end_time > job.start_time
    assert [task.task_status for task in job.extended_info.sub_tasks] == ["Completed"]
    (point,) = sdk.recovery_points.list(*HERE, instance.name)
    assert point.name == job.extended_info.target_recover_point.recovery_point_id
    assert sdk.recovery_points.get(*HERE, instance.name, point.name).id == point.id
    assert [each.name for each in sdk.jobs.list(*HERE)] == [job_id]


@pytest.mark.parametrize("tag", [None, "Weekly"])
def test_the_sdk_asks_for_a_backup_with_the_words_of_the_provider(
    azure: Emulator, sdk: DataProtectionMgmtClient, tag: str | None
) -> None:
    trigger = Trigger()
    sdk.backup_instances.begin_adhoc_backup(
        *HERE,
        name_of(azure, "orders"),
        request_of("BackupWeekly", tag),
        polling=False,
        raw_response_hook=trigger,
    )
    item = ProtectedItem.parse(azure.service.world.named("orders")[0].path)
    body = requests.backup_body(item, rule_name="BackupWeekly", retention_tag=tag)
    ours = requests.trigger_backup(item, body)
    assert (trigger.method, unquote(urlsplit(trigger.url).path)) == (ours.method, ours.path)
    assert json.loads(trigger.body) == ours.body


def test_a_list_of_jobs_with_pages(azure: Emulator, sdk: DataProtectionMgmtClient) -> None:
    azure.configure(page_size=3)
    names = [azure.start_job("disk-good") for _ in range(10)]
    assert [job.name for job in sdk.jobs.list(*HERE)] == names
    assert azure.count(path_contains="/backupJobs") == 4


def test_a_job_that_failed_and_one_with_warnings(
    azure: Emulator, sdk: DataProtectionMgmtClient, clock: ManualClock
) -> None:
    jobs = [azure.start_job("disk-good", ending=each) for each in ("Failed", "CompletedWithWarnings")]
    clock.advance(1000)
    failed, warned = (sdk.jobs.get(*HERE, job_id).properties for job_id in jobs)
    assert [error.code for error in failed.error_details] == ["InternalServerError"]
    assert warned.extended_info.warning_details[0].warning.code == "UserErrorPartialBackup"


def test_the_policies_of_a_vault(azure: Emulator, sdk: DataProtectionMgmtClient) -> None:
    azure.configure(page_size=4)
    found = list(sdk.backup_policies.list(*HERE))
    assert [policy.name for policy in found] == list(azure.service.world.policies)
    assert all(sdk.backup_policies.get(*HERE, policy.name) == policy for policy in found)


def test_vaults_and_errors(sdk: DataProtectionMgmtClient) -> None:
    assert sdk.backup_vaults.get(*HERE).name == "demo-backup-vault"
    with pytest.raises(HttpResponseError) as caught:
        sdk.jobs.get("demo-rg", "no-vault", "x")
    assert (caught.value.status_code, caught.value.error.code) == (404, "ResourceNotFound")


def test_the_sdks_own_poller_comes_to_the_job() -> None:
    """By the clock on the wall, whose minutes pass in a moment: a ``Retry-After`` is at least a second."""
    with Emulator(speed=600) as azure:
        for client in client_of(azure):
            poller = client.backup_instances.begin_adhoc_backup(
                *HERE, name_of(azure, "disk-good"), request_of("BackupHourly")
            )
            job_id = poller.result(timeout=30).job_id.rpartition("/")[2]
            assert client.jobs.get(*HERE, job_id).name == job_id

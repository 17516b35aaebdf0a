"""Backup vaults (Microsoft.DataProtection): another service with other words, held by the same core."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import formatdate
from typing import Any

import pytest

from airflow_provider_azbackup.core.conversations.items import resolve_protected_item
from airflow_provider_azbackup.core.conversations.jobs import cancel_job, cancel_unless_over, list_jobs
from airflow_provider_azbackup.core.conversations.operations import trigger_backup, wait_for_operation
from airflow_provider_azbackup.core.conversations.recovery_points import list_recovery_points
from airflow_provider_azbackup.core.conversations.vaults import probe
from airflow_provider_azbackup.core.model.arm_ids import infer_vault_type, split_job_id, vault_type_of
from airflow_provider_azbackup.core.model.jobs import JobError, JobTask, Outcome, is_proven
from airflow_provider_azbackup.core.model.resources import (
    BackupInstance,
    JobRef,
    OperationRef,
    ProtectedItem,
    Vault,
)
from airflow_provider_azbackup.core.model.validation import IfRunning, check_item
from airflow_provider_azbackup.core.polling.vault_poll import JobWaiter, VaultPoll
from airflow_provider_azbackup.core.rest import requests, responses
from airflow_provider_azbackup.core.settings import Settings
from airflow_provider_azbackup.core.start.intent import BackupIntent, StartRecord
from airflow_provider_azbackup.core.start.search import start_or_adopt
from airflow_provider_azbackup.core.wire import Answer, Request, Response
from airflow_provider_azbackup.exceptions import (
    AzureBackupConfigError,
    AzureBackupJobFailedError,
    AzureBackupNotFoundError,
    AzureBackupRefusedError,
    AzureBackupTransientError,
)
from tests.support import play as older
from tests.support.play import LOST, START, answered, ok, play, sample

VAULT = Vault(
    subscription_id="11111111-2222-3333-4444-555555555555",
    resource_group_name="vaults-rg",
    name="young-vault",
    vault_type="DataProtection",
)
DISK = BackupInstance(vault=VAULT, name="shop-disk-shop-disk-6d1f0a2b-0000-4111-8222-333344445555")
JOB = JobRef(vault=VAULT, job_id="0f8c2a51-7d3e-4b6a-9c1d-5e2f7a8b9c0d")
HOST = "https://management.azure.com"
OPERATION = OperationRef(
    vault=VAULT,
    operation_id="YTBiMWMyZDMtMDAwMC00MTExLTgyMjItMzMzMzQ0NDQ1NTU1O2M0ZDVlNmY3LTA4MTktNGEyYi04YzNkLTRlNWY2MDcxODI5"
    "Mw==",
)
MACHINE = (
    "/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/apps-rg/providers"
    "/Microsoft.Compute/virtualMachines/shop-vm"
)
BODY = requests.backup_body(DISK)
ACCEPTED = answered(202, azure_asyncoperation=f"https://management.azure.com{OPERATION.path}?api-version=1")
NIGHTLY = {"backupRuleOptions": {"ruleName": "BackupNightly", "triggerOption": {}}}


def policy(*rules: dict[str, Any]) -> Response:
    return answered(200, {"properties": {"policyRules": [{"objectType": "AzureRetentionRule"}, *rules]}})


def rule(name: str, tagging: Any = None) -> dict[str, Any]:
    return {"objectType": "AzureBackupRule", "name": name, "trigger": {"taggingCriteria": tagging}}


# Names and paths


def test_an_arm_id_tells_the_type_of_its_vault() -> None:
    assert Vault.parse(VAULT.path) == VAULT
    assert Vault.parse(
        VAULT.path.replace("Vaults", "vaults").replace("Groups", "groups").upper()
    ).is_backup_vault
    assert Vault.parse(older.VAULT.path) == older.VAULT
    assert not older.VAULT.is_backup_vault
    assert vault_type_of(VAULT.path) == "DataProtection"
    assert vault_type_of(f"{older.VAULT.path}/backupJobs") == "RecoveryServices"


def test_a_backup_instance_is_a_protected_item_that_its_arm_id_names() -> None:
    assert ProtectedItem.parse(DISK.path) == DISK
    assert ProtectedItem.parse(DISK.path.upper()).vault.is_backup_vault
    assert DISK.path == f"{VAULT.path}/backupInstances/{DISK.name}"
    check_item(DISK.path)
    for text in (
        f"{older.VAULT.path}/backupInstances/x",
        older.ITEM.path.replace(older.VAULT.path, VAULT.path),
    ):
        with pytest.raises(AzureBackupConfigError, match="is not the ARM id of a protected item"):
            ProtectedItem.parse(text)


def test_a_job_is_named_by_its_guid_or_its_arm_id() -> None:
    assert JobRef.parse(JOB.path) == JobRef.parse(JOB.job_id, VAULT) == JOB
    assert split_job_id(JOB.path) == (VAULT.path, JOB.job_id)


def test_an_operation_is_asked_about_at_the_vault_and_its_padding_is_kept() -> None:
    assert OPERATION.path == f"{VAULT.path}/operationStatus/{OPERATION.operation_id}"
    for address in (OPERATION.path, OPERATION.path.replace("=", "%3D")):
        signed = f"https://management.azure.com{address}?api-version=1&t=1&c=a/b==&s=c"
        assert (
            responses.read_operation_id(answered(202, azure_asyncoperation=signed)) == OPERATION.operation_id
        )


@pytest.mark.parametrize(
    ("vault_type", "text", "told"),
    [
        (None, DISK.path, "DataProtection"),
        ("RecoveryServices", JOB.path, "DataProtection"),
        ("DataProtection", older.ITEM.path, "RecoveryServices"),
        (None, MACHINE, "RecoveryServices"),
        ("DataProtection", "shop-disk", "DataProtection"),
        (None, "shop-disk", None),
        ("{{ var.value.kind }}", None, None),
    ],
)
def test_an_arm_id_tells_the_type_before_the_argument_does(vault_type: Any, text: Any, told: Any) -> None:
    assert infer_vault_type(vault_type, text) == told


# What is asked


def test_the_request_for_a_backup_names_rule_and_tag() -> None:
    assert requests.backup_body(DISK, rule_name="BackupWeekly", retention_tag="Weekly") == {
        "backupRuleOptions": {"ruleName": "BackupWeekly", "triggerOption": {"retentionTagOverride": "Weekly"}}
    }
    assert requests.backup_body(DISK, rule_name="BackupNightly") == NIGHTLY


@pytest.mark.parametrize(
    ("item", "options", "words"),
    [
        (DISK, {"backup_type": "Log"}, "backup_type 'Log': only Recovery Services vaults support that"),
        (DISK, {"enable_compression": False}, "enable_compression: only Recovery Services vaults"),
        (DISK, {"recovery_point_expiry": datetime.now(UTC)}, "recovery_point_expiry: only Recovery"),
        (older.ITEM, {"rule_name": "BackupDaily"}, "rule_name: only Backup vaults support that"),
        (older.ITEM, {"retention_tag": "Weekly"}, "retention_tag: only Backup vaults support that"),
    ],
)
def test_what_the_other_type_of_vault_knows_is_refused(item: Any, options: Any, words: str) -> None:
    with pytest.raises(AzureBackupConfigError, match=words):
        requests.backup_body(item, **options)


def test_lists_of_a_backup_vault_are_asked_for_without_a_filter() -> None:
    now = datetime.now(UTC)
    assert requests.list_jobs(VAULT, status="InProgress", started_after=now).query == ()
    assert requests.list_recovery_points(DISK, after=now).query == ()
    assert requests.list_vaults("s", "DataProtection").path == (
        "/subscriptions/s/providers/Microsoft.DataProtection/backupVaults"
    )


def test_each_type_of_vault_has_its_own_api_version() -> None:
    def settings(**extra: str) -> Settings:
        return Settings.read("nightly", login=None, password=None, extra=extra)

    ours = settings(api_version="2026-07-01")
    assert ours.version_of(older.JOB.path) == "2026-07-01"
    assert ours.version_of(JOB.path) == requests.API_VERSIONS["DataProtection"]
    theirs = settings(api_version="2026-06-01", vault_type="DataProtection")
    assert theirs.version_of(JOB.path) == "2026-06-01"
    assert theirs.version_of(older.JOB.path) == requests.API_VERSION
    with pytest.raises(AzureBackupConfigError, match=r"vault_type 'Backup' in .*; expected one of Recovery"):
        settings(vault_type="Backup")


def test_a_vault_that_is_named_has_the_type_of_the_task_or_of_the_connection() -> None:
    named = {
        "subscription_id": VAULT.subscription_id,
        "resource_group_name": "vaults-rg",
        "vault_name": "young-vault",
    }
    plain = Settings.read("c", login=None, password=None, extra={})
    typed = Settings.read("c", login=None, password=None, extra={"vault_type": "DataProtection"})
    assert plain.vault(**named, vault_type="DataProtection") == typed.vault(**named) == VAULT
    assert not plain.vault(**named).is_backup_vault
    assert not typed.vault(**named, vault_type="RecoveryServices").is_backup_vault
    with pytest.raises(AzureBackupConfigError, match="vault_type is 'Backup'"):
        plain.vault(**named, vault_type="Backup")


# Starting


def test_rule_and_tag_are_taken_from_the_policy_when_none_is_given() -> None:
    played = play(trigger_backup(DISK, BODY), ok("backup_instance"), ok("backup_policy"), ACCEPTED)
    assert played.result == OPERATION
    assert [(request.method, request.path) for request in played.requests] == [
        ("GET", DISK.path),
        ("GET", f"{VAULT.path}/backupPolicies/disk-policy"),
        ("POST", f"{DISK.path}/backup"),
    ]
    assert played.requests[-1].body == requests.backup_body(
        DISK, rule_name="BackupNightly", retention_tag="Default"
    )


def test_a_tag_that_is_given_comes_before_the_rules_own() -> None:
    body = requests.backup_body(DISK, retention_tag="Monthly")
    played = play(trigger_backup(DISK, body), ok("backup_instance"), ok("backup_policy"), ACCEPTED)
    assert played.requests[-1].body == requests.backup_body(
        DISK, rule_name="BackupNightly", retention_tag="Monthly"
    )


def test_a_rule_that_is_given_is_taken_as_it_is_and_the_policy_is_not_read() -> None:
    body = requests.backup_body(DISK, rule_name="BackupNightly")
    played = play(trigger_backup(DISK, body), ok("backup_instance"), ACCEPTED)
    assert [request.body for request in played.requests] == [None, NIGHTLY]


@pytest.mark.parametrize(
    ("tagging", "tag"),
    [
        ({"tagInfo": {"tagName": "Adhoc"}}, "Adhoc"),
        ([{"tagInfo": {"tagName": "A"}, "isDefault": False}], None),
        (None, None),
        ([7, {"tagInfo": None}], None),
    ],
    ids=["without a schedule", "none is its own", "none at all", "nonsense"],
)
def test_a_rule_may_tell_no_tag_of_its_own(tagging: Any, tag: str | None) -> None:
    answers = (ok("backup_instance"), policy(rule("BackupNightly", tagging)), ACCEPTED)
    played = play(trigger_backup(DISK, BODY), *answers)
    assert played.requests[-1].body == requests.backup_body(
        DISK, rule_name="BackupNightly", retention_tag=tag
    )


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ((rule("Daily"), rule("Weekly")), "has 2 backup rules; say which one as rule_name: Daily, Weekly"),
        ((), "has no backup rule, so there is nothing to run on demand"),
    ],
)
def test_a_policy_without_one_rule_to_follow_starts_nothing(rules: Any, words: str) -> None:
    asked: list[Request] = []
    with pytest.raises(AzureBackupConfigError, match=words):
        play(trigger_backup(DISK, BODY), ok("backup_instance"), policy(*rules), requests=asked)
    assert {request.method for request in asked} == {"GET"}


@pytest.mark.parametrize(
    "described",
    [{"currentProtectionState": "ProtectionStopped"}, {"protectionStatus": {"status": "NotProtected"}}],
)
def test_azure_decides_about_an_instance_that_is_not_protected(described: dict[str, Any]) -> None:
    asked: list[Request] = []
    refused = answered(400, {"error": {"code": "UserErrorNotProtected", "message": "it is not protected"}})
    with pytest.raises(AzureBackupRefusedError, match=r"it is not protected"):
        play(
            trigger_backup(DISK, NIGHTLY),
            answered(200, {"properties": described}),
            refused,
            requests=asked,
        )
    assert [request.method for request in asked] == ["GET", "POST"]


def test_an_instance_that_names_no_policy_needs_a_rule_name() -> None:
    bare = answered(200, {"properties": {}})
    with pytest.raises(AzureBackupTransientError, match="names no policy; give rule_name"):
        play(trigger_backup(DISK, BODY), bare)
    assert play(trigger_backup(DISK, NIGHTLY), bare, ACCEPTED).result == OPERATION


def test_the_name_of_a_policy_leads_out_of_no_vault() -> None:
    assert (
        requests.get_policy(DISK, f"{older.VAULT.path}/../backupPolicies/p").path
        == f"{VAULT.path}/backupPolicies/p"
    )


# What is answered


def test_an_operation_names_its_job_by_an_arm_id_in_any_casing() -> None:
    answers = (ok("vault_operation_in_progress"), ok("vault_operation_succeeded"))
    assert play(wait_for_operation(OPERATION), *answers).result == JOB


def test_an_operation_that_fails_inside_a_200_has_started_nothing() -> None:
    with pytest.raises(AzureBackupRefusedError) as error:
        play(wait_for_operation(OPERATION), ok("vault_operation_failed"))
    assert error.value.code == "UserErrorMissingPermissions"
    assert str(error.value).endswith(
        "no backup was started: UserErrorMissingPermissions The vault may not read the disk. Recommended: "
        "Grant the vault's identity Disk Backup Reader."
    )


def test_a_refusal_tells_what_azure_recommends() -> None:
    refusal = answered(400, {"error": sample("vault_operation_failed")["error"]})
    with pytest.raises(AzureBackupRefusedError, match=r"Recommended: Grant the vault's identity Disk"):
        play(trigger_backup(DISK, NIGHTLY), ok("backup_instance"), refusal)


def test_a_job_is_read_as_far_as_it_is_known() -> None:
    job = responses.read_job(JOB, ok("vault_job_running"))
    assert (job.outcome, job.phase, job.end_time) == (Outcome.RUNNING, "Trigger Backup", None)
    job = responses.read_job(JOB, ok("vault_job_completed"))
    assert (job.status, job.outcome, job.operation) == ("Completed", Outcome.SUCCEEDED, "Backup")
    assert (job.item, job.owner) == ("shop-disk", DISK.path)
    assert job.backup_management_type == "Microsoft.Compute/disks"
    assert job.activity_id == "7b1c9d2e-3f40-4a5b-8c6d-9e0f1a2b3c4d"
    assert (job.start_time, job.duration_seconds) == ("2026-02-03T01:00:00.123456+00:00", 185.2261867)
    assert job.tasks == (JobTask(name="Trigger Backup", status="Completed"),)
    assert dict(job.details) == {
        "RetentionTag": "Default",
        "recoveryPointID": "9f8e7d6c5b4a39281706f5e4d3c2b1a0",
    }
    assert job.facts()["arm_id"] == JOB.path


def test_a_failed_job_is_read_with_all_that_azure_says() -> None:
    job = responses.read_job(JOB, ok("vault_job_failed"))
    assert job.errors == (
        JobError(
            title="MOSJobTimedOutError",
            message="The job took too long.",
            recommendations=("Try again later.", "Ask for help."),
        ),
    )
    assert job.duration_seconds == pytest.approx(33 * 3600 + 22 * 60 + 25.7992056)
    assert job.failed_tasks == ("Trigger Backup",)
    with pytest.raises(AzureBackupJobFailedError) as error:
        is_proven(job, accept_warnings=True)
    assert error.value.code == "MOSJobTimedOutError"
    for words in ("Error: MOSJobTimedOutError The job took", "Recommended: Ask for help.", JOB.path):
        assert words in str(error.value)


def test_a_job_that_ended_with_warnings_tells_them() -> None:
    job = responses.read_job(JOB, ok("vault_job_warned"))
    assert (job.outcome, job.duration_seconds) == (Outcome.WARNED, 185.2261867)
    assert [error.title for error in job.errors] == ["UserErrorPartial"]
    assert is_proven(job, accept_warnings=True)
    with pytest.raises(AzureBackupJobFailedError, match="A part was left out"):
        is_proven(job, accept_warnings=False)


@pytest.mark.parametrize(
    ("word", "outcome"),
    [
        ("Started", Outcome.RUNNING),
        ("Paused", Outcome.RUNNING),
        ("Success", Outcome.SUCCEEDED),
        ("SuccessWithWarning", Outcome.WARNED),
    ],
)
def test_the_older_words_of_backup_vaults_are_known(word: str, outcome: Outcome) -> None:
    body = sample("vault_job_running")
    body["properties"]["status"] = word
    job = responses.read_job(JOB, answered(200, body))
    assert (job.outcome, job.is_recognised) == (outcome, True)
    assert JobTask(name="x", status="Started").is_running


def test_recovery_points_are_read_and_narrowed_down_here() -> None:
    def points(**wanted: datetime) -> Any:
        return play(list_recovery_points(DISK, **wanted), ok("vault_points")).result

    (point,) = points()
    assert (point.time, point.backup_type, point.consistency) == (
        "2026-02-03T01:00:40.516836+00:00",
        "Full",
        "",
    )
    assert point.tiers == (("VaultStore", "COMMITTED"),)
    assert point.usable_tiers == ("VaultStore",)
    assert point.expiry == "2026-03-03T01:00:40+00:00"
    assert point.path.startswith(f"{DISK.path}/recoveryPoints/9f8e")
    assert points(after=datetime(2026, 2, 3, 1, 0, 40), before=datetime(2026, 2, 3, 1, 0, 41)) == [point]
    assert (
        points(after=datetime(2026, 2, 3, 1, 0, 41)) == points(before=datetime(2026, 2, 3, tzinfo=UTC)) == []
    )


# Looking up


@pytest.mark.parametrize("name", ["shop-disk", "Shop-Disk", DISK.name, DISK.name.upper()])
def test_an_instance_is_looked_up_by_its_friendly_or_its_own_name(name: str) -> None:
    played = play(resolve_protected_item(VAULT, name), ok("backup_instances"))
    assert played.result == DISK
    assert [request.path for request in played.requests] == [f"{VAULT.path}/backupInstances"]


def test_the_arm_id_of_an_instance_needs_no_request_and_no_vault() -> None:
    assert play(resolve_protected_item(None, DISK.path)).result == DISK


def test_a_name_that_means_no_instance_or_several_is_told() -> None:
    with pytest.raises(AzureBackupNotFoundError, match=r"it protects shop-disk, shop-server/orders, twin$"):
        play(resolve_protected_item(VAULT, "shop"), ok("backup_instances"))
    with pytest.raises(AzureBackupConfigError, match=r"'twin' means 2 .*/backupInstances/twin-twin-a0000000"):
        play(resolve_protected_item(VAULT, "twin"), ok("backup_instances"))


def test_a_machine_is_not_looked_for_in_a_backup_vault() -> None:
    with pytest.raises(
        AzureBackupConfigError, match="only Recovery Services vaults protect VMs and file shares"
    ):
        play(resolve_protected_item(VAULT, MACHINE))


# Lists


def in_list(
    status: str = "InProgress", job_id: str = JOB.job_id, began: str = "01", **more: Any
) -> dict[str, Any]:
    body = sample("vault_job_running")
    properties = {"status": status, "startTime": f"2026-02-{began}T01:00:00Z", "extendedInfo": None, **more}
    return {**body, "name": job_id, "properties": {**body["properties"], **properties}}


def listed(*jobs: dict[str, Any]) -> Response:
    return answered(200, {"value": list(jobs), "nextLink": None})


def test_jobs_are_narrowed_down_here() -> None:
    jobs = listed(
        in_list(), in_list("Completed", began="02"), in_list("Failed", operation="Restore", began="03")
    )

    def statuses(**wanted: Any) -> list[str]:
        first = requests.list_jobs(VAULT, **wanted)
        return [job.status for job in play(list_jobs(first, VAULT, **wanted), jobs).result]

    assert statuses() == ["InProgress", "Completed", "Failed"]
    assert statuses(status="inprogress") == ["InProgress"]
    assert statuses(operation="Backup") == ["InProgress", "Completed"]
    assert statuses(backup_management_type="Microsoft.Compute/disks", status="Failed") == ["Failed"]
    assert statuses(started_after=datetime(2026, 2, 2, tzinfo=UTC)) == ["Completed", "Failed"]
    assert statuses(started_before=datetime(2026, 2, 2)) == ["InProgress"]


def test_a_connection_test_counts_the_jobs_that_run() -> None:
    seen = play(probe(VAULT, "s"), listed(in_list(), in_list("Completed"), in_list("Paused")))
    assert seen.result == "vault young-vault in vaults-rg, 2 jobs running"
    assert len(seen.requests) == 1
    vaults = answered(200, {"value": [{"name": "young-vault"}]})
    assert play(probe(None, "s", "DataProtection"), vaults).requests == [
        requests.list_vaults("s", "DataProtection")
    ]


# Cancelling


def test_nobody_is_asked_to_cancel_a_job_of_a_backup_vault() -> None:
    for flow in (cancel_job(JOB), cancel_unless_over(JOB, since=START, until=START)):
        with pytest.raises(
            AzureBackupConfigError, match="Azure has no way to cancel a job of a Backup vault"
        ):
            play(flow)


# One backup for one intent

OTHER = "11111111-aaaa-4bbb-8ccc-000000000002"


def intent(**changes: Any) -> BackupIntent:
    timing = {"attempt": "max_tries=0 retries=0 clears=0", "now": START, "timeout": 6 * 3600.0}
    return BackupIntent(**{"item": DISK, "body": NIGHTLY, **timing, **changes})


def secure(
    wanted: BackupIntent, note: StartRecord | None, *answers: Answer, then: Answer | None = None
) -> Any:
    asked: list[Request] = []
    kept: list[StartRecord | None] = []
    flow = start_or_adopt(wanted, note, save=kept.append, log=lambda _: None)
    played = play(flow, *answers, then=then, requests=asked)
    return played.result, asked, kept


def at(seconds: float) -> str:
    return datetime.fromtimestamp(START + seconds, UTC).isoformat()


@pytest.mark.parametrize("if_running", ["wait", "adopt"])
def test_a_running_backup_of_the_instance_is_met_and_another_instances_is_not(if_running: IfRunning) -> None:
    theirs = in_list(job_id=OTHER, backupInstanceId=f"{VAULT.path}/backupInstances/other", startTime=at(-5))
    over = in_list("Completed", job_id=OTHER, startTime=at(-9))
    running = in_list("Paused", backupInstanceId=DISK.path.replace("resourceGroups", "resourcegroups"))
    found, asked, _ = secure(intent(if_running=if_running), None, listed(theirs, over, running))
    if if_running == "adopt":
        assert (found.ref, found.started_by) == (JOB, "adopted")
    else:
        assert (found.ref, found.other.ref) == (None, JOB)
    assert [request.query for request in asked] == [()]


def test_a_restore_that_runs_is_no_backup() -> None:
    restore = in_list(operation="Restore", operationCategory="Restore", startTime=at(-5))
    answers = (listed(restore), ok("backup_instance"), ACCEPTED, ok("vault_operation_succeeded"))
    found, asked, _ = secure(intent(), None, *answers)
    assert (found.ref, found.started_by, found.workload) == (JOB, "this task", "backupinstance")
    assert [request.method for request in asked].count("POST") == 1


def test_a_lost_answer_is_settled_by_looking_for_the_instances_own_job() -> None:
    later = in_list(startTime=at(6))
    theirs = in_list(job_id=OTHER, backupInstanceId=f"{DISK.path}-2", startTime=at(5))
    dated = answered(200, {"value": []}, date=formatdate(START))
    answers = (dated, ok("backup_instance"), LOST, listed(theirs), listed(theirs, later))
    found, asked, kept = secure(intent(), None, *answers)
    assert (found.ref, found.started_by) == (JOB, "found")
    assert [request.method for request in asked].count("POST") == 1
    assert kept[-1] == replace(kept[0], job=JOB.path, started_by="found")


def test_a_note_leads_back_to_the_backup_it_speaks_of() -> None:
    running = answered(200, in_list(startTime=at(-50)))
    attempt = intent().attempt
    kept = StartRecord(
        item=DISK.path, attempt=attempt, since=START - 60, attempt_began=START - 60, job=JOB.path
    )
    note = StartRecord.from_dict(kept.to_dict())
    found, asked, _ = secure(intent(), note, running)
    assert (found.ref, found.started_by, found.since) == (JOB, "this task", START - 60)
    assert [request.path for request in asked] == [JOB.path]
    behind = replace(kept, requested_at=START - 55, operation=OPERATION.operation_id, job="")
    answers = (ok("vault_operation_succeeded"), running)
    found, asked, _ = secure(intent(), behind, *answers)
    assert found.ref == JOB
    assert asked[0].path == OPERATION.path


def test_an_instance_that_is_not_protected_leaves_no_note_behind() -> None:
    kept: list[StartRecord | None] = []
    flow = start_or_adopt(intent(), None, save=kept.append, log=lambda _: None)
    stopped = answered(200, {"properties": {"currentProtectionState": "ProtectionStopped"}})
    with pytest.raises(AzureBackupRefusedError):
        play(flow, listed(), stopped, answered(400))
    assert kept[-1] is None


# The poll of a vault


class Waits:
    """Waits on jobs of the vault, and what was reported to them."""

    def __init__(self, *job_ids: str) -> None:
        self.poll = VaultPoll(VAULT, START)
        self.told: dict[str, Answer] = {}
        self.waiters = [
            JobWaiter(JobRef(vault=VAULT, job_id=name), interval=60.0, since=START) for name in job_ids
        ]
        for waiter in self.waiters:
            self.poll.add(waiter)

    def ask(self, at: float) -> None:
        for waiter in self.waiters:
            name = waiter.ref.job_id
            waiter.ask(lambda answer, name=name: self.told.__setitem__(name, answer), not_before=at, due=at)

    def play(self, at: float, *answers: Response) -> list[Request]:
        """Make one turn; the calls that were made."""
        flow, made, left = self.poll.turn(at), [], [*answers]
        try:
            step = next(flow)
            while True:
                if step is not None:
                    made.append(step)
                step = flow.send(None if step is None else replace(left.pop(0), at=at))
        except StopIteration:
            assert not left
            return made


def test_one_list_without_a_filter_answers_all_waits_on_a_backup_vault() -> None:
    waits = Waits("a", "b")
    waits.ask(START)
    made = waits.play(
        START, listed(in_list("Completed", "A"), in_list("Started", "b"), in_list("Failed", "c"))
    )
    assert [(request.path, request.query) for request in made] == [(f"{VAULT.path}/backupJobs", ())]
    assert waits.told.keys() == {"a", "b"}


def test_few_waits_look_at_their_jobs_where_a_list_has_more_pages_than_they_are() -> None:
    waits = Waits("a", "b")
    waits.ask(START)
    pages = [
        answered(
            200, {"value": [in_list("InProgress", name)], "nextLink": f"https://management.azure.com/{name}"}
        )
        for name in ("a", "b")
    ]
    assert len(waits.play(START, *pages, listed())) == 3
    waits.ask(START + 60)
    looks = [
        waits.play(START + 60 + turn, answered(200, in_list("Completed", name)))
        for turn, name in enumerate("ab")
    ]
    assert sorted(request.path for made in looks for request in made) == [
        f"{VAULT.path}/backupJobs/{x}" for x in "ab"
    ]


def test_a_list_that_lacks_jobs_is_not_read_twice_as_one_of_running_jobs_would_be() -> None:
    waits, turns = Waits(*"abcdefgh"), []
    links = {f"{VAULT.path}/backupJobs": "/2", "/2": "/3", "/3": ""}
    for turn in range(12):
        at = START + 60 * turn
        waits.ask(at)
        flow, made = waits.poll.turn(at), list[str]()
        step = next(flow, None)
        while step is not None:
            made.append(step.path)
            link = links.get(step.path)
            some = {"value": [in_list("Completed", OTHER)] * 9, "nextLink": f"{HOST}{link}" if link else None}
            body = in_list(job_id=step.path[-1]) if link is None else some
            try:
                step = flow.send(replace(answered(200, body), at=at))
            except StopIteration:
                break
        turns.append(len(made))
    assert turns.count(3) >= 3
    assert set(turns) == {1, 3}


def test_a_list_that_never_ends_is_left_after_five_hundred_pages() -> None:
    waits = Waits("a", "b")
    waits.ask(START)
    links = iter(range(10_000))
    flow, asked = waits.poll.turn(START), 0
    step = next(flow, None)
    while step is not None or asked == 0:
        asked += 1
        body = {
            "value": [in_list("Completed", "z")],
            "nextLink": f"https://management.azure.com/{next(links)}",
        }
        try:
            step = flow.send(replace(answered(200, body), at=START))
        except StopIteration:
            break
    assert asked == 500


def test_what_crosses_from_the_triggerer_is_read_by_the_same_reader() -> None:
    from airflow_provider_azbackup.runtime.job_event import JobEvent

    job = responses.read_job(JOB, ok("vault_job_failed"))
    crossed = JobEvent.from_dict(json.loads(json.dumps(JobEvent(job=job).to_dict())))
    assert crossed.job == job

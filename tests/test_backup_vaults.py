"""Operators, sensor and hooks on Backup vaults: the same classes, the same rules, and no way to cancel."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_azbackup.core.conversations.retry import ask
from airflow_provider_azbackup.core.model.resources import JobRef, Vault
from airflow_provider_azbackup.core.model.validation import IfRunning
from airflow_provider_azbackup.core.wire import Request
from airflow_provider_azbackup.exceptions import (
    AzureBackupAuthError,
    AzureBackupBusyError,
    AzureBackupConfigError,
    AzureBackupGateShutError,
    AzureBackupJobFailedError,
    AzureBackupNotFoundError,
    AzureBackupRefusedError,
    AzureBackupTimeoutError,
)
from airflow_provider_azbackup.hooks import AzureBackupHook
from airflow_provider_azbackup.operators import AzureBackupCancelJobOperator, AzureBackupOperator
from airflow_provider_azbackup.sensors import AzureBackupJobSensor
from azure_backup_emulator import Emulator
from tests.support import virtual
from tests.support.tasks import Store, TaskInstance, fire, run

BOTH = pytest.mark.parametrize("deferrable", [False, True], ids=["in the worker", "deferred"])
STORES = pytest.mark.parametrize("store", [True, False], ids=["3.3", "below 3.3"])
HERE: dict[str, str] = {"vault_name": "demo-backup-vault", "vault_type": "DataProtection"}
# Friendly name, the rule and the tag that the policy of each has.
SOURCES = [
    ("disk-good", "BackupHourly", "Default"),
    ("demoblobs", "BackupDaily", "Default"),
    ("demo-pg/orders", "BackupWeekly", "Default"),
    ("demo-aks", "BackupHourly", "Default"),
]
GUID = "5f0c5b7e-6f0a-4b8e-9c57-0d5a3c1f2e4d"


def vault(azure: Emulator) -> str:
    return azure.service.world.backup_vaults[0].path


def path(azure: Emulator, name: str) -> str:
    return azure.service.world.named(name)[0].path


def back_up(item: str = "disk-good", ti: TaskInstance | None = None, **arguments: Any) -> Any:
    given = {**HERE, **arguments}
    return run(
        lambda: AzureBackupOperator(task_id="backup", protected_item=item, **given), ti or TaskInstance()
    )


def posts(azure: Emulator) -> list[str]:
    found = azure.service.requests(method="POST", path_contains="/subscriptions/")
    return [entry["path"] for entry in found]


def requests(azure: Emulator) -> int:
    return azure.count(path_contains="/subscriptions/")


# Backing up


@BOTH
@pytest.mark.parametrize(("item", "rule", "tag"), SOURCES, ids=[each[0] for each in SOURCES])
def test_one_backup_is_started_by_the_policys_rule_and_waited_for(
    azure: Emulator, item: str, rule: str, tag: str, deferrable: bool
) -> None:
    ti = TaskInstance()
    job_id = back_up(item, ti, deferrable=deferrable)
    facts = ti.xcoms["job"]
    assert ti.xcoms["job_id"] == job_id == facts["job_id"]
    assert (facts["outcome"], facts["status"], facts["operation"]) == ("succeeded", "Completed", "Backup")
    assert (facts["item"], facts["container"]) == (item, "")
    assert facts["item_id"] == path(azure, item.rpartition("/")[2])
    assert facts["category"] == "Backup"
    assert facts["arm_id"] == f"{vault(azure)}/backupJobs/{job_id}"
    step = {"name": "Trigger Backup", "status": "Completed", "progress": "", "bytes_done": None}
    assert facts["tasks"] == [step]
    assert facts["details"]["RetentionTag"] == tag
    assert facts["details"]["recoveryPointID"]
    job = azure.service.world.jobs[job_id]
    assert job.request == {"rule": rule, "tag": tag}
    assert posts(azure) == [f"{job.item.path}/backup"]
    assert [each["first_pause"] for each in ti.deferred_with] == ([90.0] if deferrable else [])


@pytest.mark.parametrize("by", ["friendly name", "name", "ARM id"])
def test_an_instance_may_be_named_in_three_ways(azure: Emulator, by: str) -> None:
    whole = path(azure, "orders")
    name = {"friendly name": "demo-pg/orders", "name": whole.rpartition("/")[2], "ARM id": whole}[by]
    # An ARM id brings its vault; the connection names one of the other type.
    here = dict.fromkeys(HERE) if by == "ARM id" else HERE
    job_id = back_up(name, **here)
    assert azure.service.world.jobs[job_id].item.path == whole


def test_the_connection_may_name_a_backup_vault(azure: Emulator, connect: Callable[..., None]) -> None:
    connect(azure.connection(**HERE))
    assert back_up("demo-aks", vault_name=None, vault_type=None)
    with pytest.raises(AzureBackupNotFoundError, match="demo-backup-vault protects nothing called 'vm-good'"):
        back_up("vm-good", vault_name=None, vault_type=None)
    assert back_up("vm-good", vault_name="demo-vault", vault_type="RecoveryServices")


def test_rule_and_tag_can_be_given(azure: Emulator) -> None:
    job_id = back_up("demo-pg/orders", rule_name="BackupWeekly", retention_tag="Weekly")
    assert azure.service.world.jobs[job_id].request == {"rule": "BackupWeekly", "tag": "Weekly"}
    assert azure.count("GET", "/backupPolicies/") == 0


def test_of_several_rules_one_has_to_be_named(azure: Emulator) -> None:
    with pytest.raises(AzureBackupConfigError, match="say which one as rule_name: BackupDaily, BackupWeekly"):
        back_up("demo-pg/ledger")
    assert posts(azure) == []
    job_id = back_up("demo-pg/ledger", rule_name="BackupDaily")
    assert azure.service.world.jobs[job_id].request["rule"] == "BackupDaily"


@pytest.mark.parametrize(
    ("item", "options", "kind", "words"),
    [
        (
            "democontinuous",
            {},
            AzureBackupConfigError,
            "has no backup rule, so there is nothing to run on dem",
        ),
        ("disk-good", {"rule_name": "BackupYearly"}, AzureBackupRefusedError, "UserErrorBackupRuleNotFound"),
        ("disk-good", {"retention_tag": "Yearly"}, AzureBackupRefusedError, "UserErrorRetentionTagNotFound"),
        ("disk-twin", {}, AzureBackupConfigError, "'disk-twin' means 2 protected items"),
        (
            "disk-gone",
            {},
            AzureBackupNotFoundError,
            r"protects nothing called 'disk-gone' \(did you mean 'disk-good'",
        ),
    ],
)
def test_what_cannot_be_backed_up_is_told_and_starts_nothing(
    azure: Emulator, item: str, options: dict[str, str], kind: type[Exception], words: str
) -> None:
    ti = TaskInstance(store=Store())
    with pytest.raises(kind, match=words):
        back_up(item, ti, **options)
    assert azure.service.world.jobs == {}
    assert ti.store == {}


# How it ends


@BOTH
def test_a_failed_backup_fails_the_task_with_azures_reasons(azure: Emulator, deferrable: bool) -> None:
    ti = TaskInstance()
    with pytest.raises(AzureBackupJobFailedError, match="MOSJobTimedOutError Job took very long") as error:
        back_up("disk-fails", ti, deferrable=deferrable)
    assert "Recommended: Please retry the operation after some time." in str(error.value)
    assert (error.value.code, ti.xcoms["job"]["outcome"]) == ("MOSJobTimedOutError", "failed")


@BOTH
@pytest.mark.parametrize("older", [False, True], ids=["newer words", "older words"])
def test_warnings_open_the_gate_only_when_asked(azure: Emulator, older: bool, deferrable: bool) -> None:
    azure.plan("disk-warned", ending="CompletedWithWarnings", quirks=["older-words"] if older else [])
    ti = TaskInstance()
    with pytest.raises(AzureBackupJobFailedError, match="UserErrorPartialBackup Some resources"):
        back_up("disk-warned", ti, deferrable=deferrable)
    assert ti.xcoms["job"]["outcome"] == "warned"
    assert ti.xcoms["job"]["status"] == ("SuccessWithWarning" if older else "CompletedWithWarnings")
    assert back_up("disk-warned", deferrable=deferrable, accept_warnings=True)


@BOTH
@pytest.mark.parametrize(
    "quirks", [["older-words"], ["pauses"], ["clock-duration"], ["pauses", "older-words"]], ids=str
)
def test_no_word_and_no_duration_of_azures_ends_a_wait_early(
    azure: Emulator, clock: Any, quirks: list[str], deferrable: bool
) -> None:
    azure.plan("demo-aks", quirks=quirks, seconds=1800)
    began, ti = clock(), TaskInstance()
    back_up("demo-aks", ti, deferrable=deferrable, poll_interval=30)
    assert clock() - began >= 1800
    assert ti.xcoms["job"]["status"] == ("Success" if "older-words" in quirks else "Completed")


@pytest.mark.parametrize("quirk", ["other-casing", "bare-job-id"])
def test_an_operation_may_spell_its_job_in_any_way(azure: Emulator, quirk: str) -> None:
    azure.plan("disk-good", quirks=[quirk])
    ti = TaskInstance()
    assert ti.xcoms.get("job_id") is None
    assert back_up(ti=ti) in azure.service.world.jobs
    link = unquote(ti.xcoms["azure_backup_job_url"])
    assert link.endswith(f"{vault(azure)}/backupJobs/{ti.xcoms['job_id']}")


def test_a_failure_inside_a_200_has_started_nothing(azure: Emulator) -> None:
    azure.plan("disk-good", operation="Failed")
    ti = TaskInstance(store=Store())
    with pytest.raises(
        AzureBackupRefusedError, match="no backup was started: UserErrorDiskAndSnapshot"
    ) as error:
        back_up(ti=ti)
    assert "Recommended: Check the message" in str(error.value)
    assert error.value.code == "UserErrorDiskAndSnapshotRGOrMSIPermissionsNotPresent"
    assert (azure.service.world.jobs, ti.store) == ({}, {})


@BOTH
def test_a_backup_that_takes_too_long_goes_on_and_is_told(azure: Emulator, deferrable: bool) -> None:
    azure.plan("disk-good", ending="Never")
    with pytest.raises(AzureBackupTimeoutError, match=r"Trigger Backup\. It goes on in Azure"):
        back_up(deferrable=deferrable, timeout=600)


def test_the_missing_right_is_named_where_a_built_in_role_does_not_do(
    azure: Emulator, connect: Callable[..., None]
) -> None:
    connect(azure.connection("reader"))
    right = "Missing right: Microsoft.DataProtection/backupVaults/backupJobs/read"
    with pytest.raises(AzureBackupAuthError, match=right):
        back_up()
    job_id = azure.start_job("disk-good")
    with AzureBackupHook(**HERE) as hook, pytest.raises(AzureBackupAuthError, match=right):
        hook.get_job(job_id)


# One intent, one backup


@BOTH
@STORES
def test_a_retry_takes_up_the_backup_of_the_try_before_if_it_can_know_it(
    azure: Emulator, clock: Any, store: bool, deferrable: bool
) -> None:
    azure.plan("disk-good", seconds=3600)
    ti = TaskInstance(retries=1, store=Store() if store else None)
    with pytest.raises(AzureBackupTimeoutError):
        back_up(ti=ti, deferrable=deferrable, timeout=600)
    job_id = back_up(ti=ti.retry(), deferrable=deferrable, timeout=9000)
    found = list(azure.service.world.jobs.values())
    assert found[-1].id == job_id
    assert len(posts(azure)) == len(found) == (1 if store else 2)
    assert store or found[1].starts >= found[0].finish()[0]


@pytest.mark.parametrize("fault", [{"reset": True}, {"status": 504}, {"status": 500}], ids=str)
def test_a_lost_answer_is_settled_by_looking_and_nothing_is_sent_twice(
    azure: Emulator, fault: dict[str, Any]
) -> None:
    azure.start_job("demo-aks")  # another instance's, in the same list
    azure.fault(method="POST", path="/backup", processed=True, **fault)
    job_id = back_up()
    assert azure.service.world.jobs[job_id].item.name == "disk-good"
    assert len(posts(azure)) == 1


def test_an_answer_that_names_the_job_at_once_is_settled_by_looking(azure: Emulator) -> None:
    """The SDK allows a 200 with the job's id in the body; it was never recorded."""
    answer = '{"objectType": "OperationJobExtendedInfo", "jobId": "x"}'
    azure.fault(method="POST", path="/backup", processed=True, status=200, garbage=answer)
    assert back_up() in azure.service.world.jobs
    assert len(posts(azure)) == 1


def test_a_request_that_never_arrived_is_sent_again(azure: Emulator) -> None:
    azure.fault(method="POST", path="/backup", reset=True)
    assert back_up() in azure.service.world.jobs
    assert len(azure.service.world.jobs) == 1


@BOTH
@pytest.mark.parametrize("if_running", ["wait", "adopt"])
def test_a_running_backup_of_the_instance_is_waited_out_or_adopted(
    azure: Emulator, clock: Any, if_running: IfRunning, deferrable: bool
) -> None:
    running = azure.start_job("disk-good", seconds=900)
    clock.advance(60)
    job_id = back_up(if_running=if_running, deferrable=deferrable)
    jobs = azure.service.world.jobs
    if if_running == "adopt":
        assert (job_id, posts(azure)) == (running, [])
    else:
        assert len(posts(azure)) == 1
        assert jobs[job_id].starts >= jobs[running].finish()[0]


def test_a_running_backup_is_not_adopted_where_that_is_not_wanted(azure: Emulator) -> None:
    azure.start_job("disk-good", seconds=900)
    with pytest.raises(AzureBackupBusyError, match=r"a backup of disk-good that began at .*if_running"):
        back_up(if_running="fail")
    assert posts(azure) == []


@pytest.mark.parametrize("if_running", ["wait", "adopt"])
@pytest.mark.parametrize("busy", ["job", "operation", "conflict"])
def test_a_backup_that_is_in_the_way_and_shows_late_is_waited_for(
    azure: Emulator, busy: str, if_running: IfRunning
) -> None:
    azure.plan("disk-good", visible_after=30)
    running = azure.start_job("disk-good", seconds=900)
    azure.plan("disk-good", busy=busy)
    ti = TaskInstance()
    job_id = back_up(ti=ti, if_running=if_running)
    jobs = azure.service.world.jobs
    assert (job_id == running) is (if_running == "adopt")
    assert if_running == "adopt" or jobs[job_id].starts >= jobs[running].finish()[0]
    assert ti.xcoms["job"]["outcome"] == "succeeded"


def test_another_instances_backup_is_in_nobodys_way(azure: Emulator) -> None:
    azure.start_job("demo-aks", seconds=900)
    azure.start_job("disk-good", operation="Restore", seconds=900)
    assert azure.service.world.jobs[back_up()].operation == "Backup"
    assert len(posts(azure)) == 1


# Cancelling


@pytest.mark.parametrize("argument", ["cancel_on_kill", "cancel_on_timeout"])
@pytest.mark.parametrize("told", ["an ARM id", "the argument", "the connection"])
def test_a_wish_to_cancel_is_refused_before_any_request(
    azure: Emulator, connect: Callable[..., None], argument: str, told: str
) -> None:
    arguments: dict[str, Any] = {
        "an ARM id": {"protected_item": path(azure, "disk-good")},
        "the argument": {"protected_item": "disk-good", **HERE},
        "the connection": {"protected_item": "disk-good"},
    }[told]
    connect(azure.connection(**HERE))
    words = f"{argument} of task 'backup' cannot work: Azure has no way to cancel a job of a Backup vault"
    with pytest.raises(AzureBackupConfigError, match=words):
        task = AzureBackupOperator(task_id="backup", **{argument: True}, **arguments)
        assert told == "the connection", "a type given as an argument is checked at construction"
        task.execute(TaskInstance().context)
    assert azure.requests == []


@pytest.mark.parametrize("argument", ["cancel_on_kill", "cancel_on_timeout"])
def test_a_job_that_the_task_does_not_start_is_not_cancelled_either(azure: Emulator, argument: str) -> None:
    with pytest.raises(AzureBackupConfigError, match="cancel only a backup that the task has started"):
        AzureBackupOperator(task_id="backup", job_id=GUID, **{argument: True})
    assert azure.requests == []


def test_the_operator_that_cancels_refuses_a_backup_vaults_job(
    azure: Emulator, connect: Callable[..., None]
) -> None:
    for arguments in ({"job_id": f"{vault(azure)}/backupJobs/{GUID}"}, {"job_id": GUID, **HERE}):
        with pytest.raises(
            AzureBackupConfigError, match="task 'cancel' cannot work: Azure has no way to canc"
        ):
            AzureBackupCancelJobOperator(task_id="cancel", **arguments)
    connect(azure.connection(**HERE))
    task = AzureBackupCancelJobOperator(task_id="cancel", job_id=GUID)
    with pytest.raises(AzureBackupConfigError, match="task 'cancel' cannot work"):
        task.execute(TaskInstance().context)
    assert azure.requests == []


def test_the_hook_refuses_to_cancel_a_backup_vaults_job(azure: Emulator) -> None:
    with AzureBackupHook(**HERE) as hook:
        for cancel in (lambda: hook.cancel_job(GUID), lambda: hook.cancel_job(GUID, wait=True)):
            with pytest.raises(AzureBackupConfigError, match="Azure has no way to cancel"):
                cancel()
    assert azure.requests == []


def test_azure_knows_no_such_request(azure: Emulator) -> None:
    """What is the reason of the refusal: the emulator answers as Resource Manager does to an unknown path."""
    job_id = azure.start_job("disk-good")
    with AzureBackupHook(**HERE) as hook:
        sent = Request(method="POST", path=f"{vault(azure)}/backupJobs/{job_id}/cancel")
        with pytest.raises(AzureBackupNotFoundError, match="404"):
            hook._play(ask(sent, 202))


# What one type of vault knows and the other does not


@pytest.mark.parametrize(
    ("item", "arguments", "words"),
    [
        ("instance", {"backup_type": "Log"}, "backup_type of task 'backup': only Recovery Services vaults"),
        (
            "instance",
            {"enable_compression": False},
            "enable_compression of task 'backup': only Recovery Serv",
        ),
        ("instance", {"recovery_point_expiry": "2099-01-01"}, "recovery_point_expiry of task 'backup': only"),
        (
            "machine",
            {"rule_name": "BackupDaily"},
            "rule_name of task 'backup': only Backup vaults support that",
        ),
        (
            "machine",
            {"retention_tag": "Weekly"},
            "retention_tag of task 'backup': only Backup vaults support that",
        ),
    ],
)
def test_arguments_for_the_other_type_of_vault_are_told_at_construction(
    azure: Emulator, item: str, arguments: dict[str, Any], words: str
) -> None:
    found = path(azure, "disk-good" if item == "instance" else "vm-good")
    with pytest.raises(AzureBackupConfigError, match=words):
        AzureBackupOperator(task_id="backup", protected_item=found, **arguments)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            {"protected_item": "vm-good", "rule_name": "BackupDaily"},
            "rule_name of task 'backup': only Backup",
        ),
        ({"protected_item": "disk-good", "backup_type": "Log", **HERE}, "backup_type of task"),
        (
            {"protected_item": "disk-good", "vault_type": "BackupVault"},
            "vault_type is 'BackupVault'",
        ),
    ],
)
def test_the_same_is_told_before_any_request_where_only_the_connection_tells_the_type(
    azure: Emulator, arguments: dict[str, Any], words: str
) -> None:
    with pytest.raises(AzureBackupConfigError, match=words):
        AzureBackupOperator(task_id="backup", **arguments).execute(TaskInstance().context)
    assert azure.requests == []


def test_a_template_is_looked_at_once_it_is_rendered(azure: Emulator) -> None:
    task = AzureBackupOperator(
        task_id="backup", protected_item=path(azure, "disk-good"), backup_type="{{ params.type }}"
    )
    task.backup_type = "Log"
    with pytest.raises(AzureBackupConfigError, match="backup_type of task 'backup': only Recovery Services"):
        task.execute(TaskInstance().context)
    task.backup_type = "Full"
    assert task.execute(TaskInstance().context)
    assert {"vault_type", "rule_name", "retention_tag"} <= set(task.template_fields)


# Waiting


@BOTH
@pytest.mark.parametrize("named", ["GUID", "ARM id"])
def test_the_sensor_waits_for_somebody_elses_job(
    azure: Emulator, clock: Any, named: str, deferrable: bool
) -> None:
    job_id = azure.start_job("demo-aks", seconds=900)
    clock.advance(0 if deferrable else 901)  # a poke sleeps by the clock on the wall
    given = (
        {"job_id": job_id, **HERE} if named == "GUID" else {"job_id": f"{vault(azure)}/backupJobs/{job_id}"}
    )
    ti = TaskInstance()
    found = run(lambda: AzureBackupJobSensor(task_id="gate", deferrable=deferrable, **given), ti)
    assert getattr(found, "xcom_value", found) == job_id
    assert ti.xcoms["job"]["outcome"] == "succeeded"
    assert ti.xcoms["azure_backup_vault_url"].endswith(vault(azure))


@BOTH
def test_the_sensor_stays_shut_behind_a_failed_job(azure: Emulator, clock: Any, deferrable: bool) -> None:
    job_id = azure.start_job("disk-good", operation="Restore", ending="Failed", seconds=300)
    clock.advance(0 if deferrable else 301)
    task = lambda: AzureBackupJobSensor(task_id="gate", job_id=job_id, deferrable=deferrable, **HERE)  # noqa: E731
    with pytest.raises(AzureBackupGateShutError, match="Restore of disk-good failed"):
        run(task, TaskInstance())


def test_a_fleet_of_deferred_waits_shares_its_reads(azure: Emulator, clock: Any) -> None:
    names = ["disk-good", "demoblobs", "orders", "ledger", "demo-aks", "disk-warned"]
    jobs = {name: azure.start_job(name, seconds=1800) for name in names}

    def trigger(job_id: str) -> dict[str, Any]:
        with pytest.raises(TaskDeferred) as deferred:
            AzureBackupJobSensor(
                task_id="gate", job_id=job_id, deferrable=True, poke_interval=60, **HERE
            ).execute(TaskInstance().context)
        return deferred.value.trigger.serialize()[1]

    async def wait() -> list[Any]:
        kind = "airflow_provider_azbackup.triggers.AzureBackupJobTrigger"
        return await asyncio.gather(*(fire(kind, trigger(job_id)) for job_id in jobs.values()))

    events = asyncio.run(wait())
    assert {event["job"]["body"]["name"] for event in events} == set(jobs.values())
    lists = [entry for entry in azure.requests if entry["path"].endswith("/backupJobs")]
    assert lists
    assert all(set(entry["query"]) == {"api-version"} for entry in lists)
    looks = azure.count("GET", "/backupJobs/")
    assert looks + len(lists) < len(jobs) * 1800 / 60


def start_in(azure: virtual.Azure, name: str, **job: Any) -> JobRef:
    """A job of a Backup vault's instance, in the emulator without sockets."""
    world = azure.service.world
    item = world.named(name)[0]
    started = world.start(item, azure.service.clock() - job.pop("ago", 0.0), "Backup", **job)
    return JobRef(vault=Vault.parse(item.vault.path), job_id=started.id)


def test_the_two_types_of_vault_have_reads_of_their_own() -> None:
    """No read of the one is left, which is nothing to a wait on the other."""

    async def main(clock: virtual.LoopClock) -> tuple[virtual.Wait, virtual.Wait]:
        azure = virtual.Azure(clock, job_read_budget=1)
        shared = virtual.poller(azure)
        jobs = azure.start(seconds=600), start_in(azure, "disk-good", seconds=600)
        older, ours = await asyncio.gather(*(virtual.wait_for(shared, clock, ref) for ref in jobs))
        await shared.close()
        return older, ours

    older, ours = virtual.run(main)
    assert (older.status, ours.status) == ("Completed", "Completed")
    assert ours.ended - virtual.START < 600 + 2 * 60
    assert older.ended - virtual.START > virtual.HOUR


@pytest.mark.parametrize("waits", [2, 60], ids=["few", "many"])
def test_waits_on_a_vault_with_a_long_history_cost_the_least_that_there_is(waits: int) -> None:
    """A look for each while they are fewer than the pages of a list, which shows all that ever was."""

    async def main(clock: virtual.LoopClock) -> tuple[virtual.Azure, list[virtual.Wait]]:
        azure = virtual.Azure(clock, page_size=20)
        for number in range(100):
            start_in(azure, "orders", seconds=10, ago=86400.0 - number)
        shared = virtual.poller(azure)
        jobs = [start_in(azure, "disk-good", seconds=3000) for _ in range(waits)]
        ended = await asyncio.gather(*(virtual.wait_for(shared, clock, ref) for ref in jobs))
        await shared.close()
        return azure, ended

    azure, ended = virtual.run(main)
    assert {wait.status for wait in ended} == {"Completed"}
    assert {read.filter for read in azure.reads} == {""}
    pages = (100 + waits + 19) // 20
    if waits < pages:
        # One list shows how long it is; then there is a look a minute for each.
        assert len(azure.lists) == pages
        assert len(azure.looks) <= waits * 3000 / 60 + waits
        assert max(wait.ended for wait in ended) - virtual.START < 3000 + 2 * 60
    else:
        assert len(azure.lists) > len(azure.looks)
        assert azure.per_hour()[0] <= 200


# The hooks


def test_both_hooks_hold_the_same_conversations(call: Callable[..., Any], azure: Emulator) -> None:
    item = call("resolve_protected_item", path(azure, "orders"))
    assert item.vault == Vault.parse(vault(azure))
    operation = call("trigger_backup", item, retention_tag="Weekly")
    ref = call("wait_for_operation", operation)
    assert ref.path.startswith(f"{vault(azure)}/backupJobs/")
    job = call("wait_for_job", ref.path, timeout=3600.0)
    assert job.backup_management_type == "Microsoft.DBforPostgreSQL/servers/databases"
    (point,) = call("list_recovery_points", item)
    assert point.point_id == dict(job.details)["recoveryPointID"]
    assert job.start_time < point.time < job.end_time


def test_jobs_are_listed_and_narrowed_down_on_all_pages(azure: Emulator, clock: Any) -> None:
    azure.configure(page_size=2)
    over = [azure.start_job("disk-good", seconds=1) for _ in range(3)]
    running = azure.start_job("orders", seconds=9000)
    with AzureBackupHook(**HERE) as hook:
        clock.advance(5)
        assert {job.ref.job_id for job in hook.list_jobs()} == {*over, running}
        assert [job.ref.job_id for job in hook.list_jobs(status="InProgress")] == [running]
    assert azure.count("GET", "/backupJobs") == 4
    assert all("$filter" not in entry["query"] for entry in azure.requests)


@pytest.mark.parametrize("version", [None, "2026-06-01"])
def test_the_api_version_of_the_connection_is_for_its_own_type_of_vault(
    azure: Emulator, connect: Callable[..., None], version: str | None
) -> None:
    given = {"api_version": version} if version else {}
    for here, own in ((HERE, True), ({}, False)):
        azure.reset()
        connect(azure.connection(**given, **here))
        with AzureBackupHook() as hook:
            hook.get_job(f"{vault(azure)}/backupJobs/{azure.start_job('disk-good')}")
            hook.get_job(f"{azure.service.world.vaults[0].path}/backupJobs/{azure.start_job('vm-good')}")
        versions = [
            entry["query"]["api-version"] for entry in azure.requests if "/backupJobs/" in entry["path"]
        ]
        usual = "2024-04-01"
        assert versions == ([version or usual, usual] if own else [usual, version or usual])


def test_the_test_button_asks_a_backup_vault(azure: Emulator, connect: Callable[..., None]) -> None:
    azure.start_job("disk-good")
    connect(azure.connection("waiter", **HERE))
    good, message = AzureBackupHook().test_connection()
    assert good, message
    assert message.endswith("vault demo-backup-vault in demo-rg, 1 jobs running.")
    assert requests(azure) == 1
    connect(azure.connection("nobody", **HERE))
    good, message = AzureBackupHook().test_connection()
    assert not good
    assert "Missing right: Microsoft.DataProtection/backupVaults/backupJobs/read." in message
    connect(azure.connection(vault_type="DataProtection", vault_name=""))
    assert "no vault set; visible vaults: demo-backup-vault." in AzureBackupHook().test_connection()[1]

"""Restores from task to job: every workload and target, one for one intent, as Microsoft's client asks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred
from azure.identity import ClientSecretCredential
from azure.mgmt.recoveryservicesbackup import RecoveryServicesBackupClient
from azure.mgmt.recoveryservicesbackup import models as sdk

from airflow_provider_azbackup.core.model.validation import IfRunning
from airflow_provider_azbackup.exceptions import (
    AzureBackupAuthError,
    AzureBackupBusyError,
    AzureBackupConfigError,
    AzureBackupJobFailedError,
    AzureBackupNotFoundError,
    AzureBackupRefusedError,
    AzureBackupTimeoutError,
    AzureBackupUnconfirmedStartError,
)
from airflow_provider_azbackup.operators import AzureBackupRestoreOperator
from airflow_provider_azbackup.restore_to import (
    disks,
    new_vm,
    original_database,
    original_share,
    original_vm,
    other_database,
    other_share,
)
from airflow_provider_azbackup.runtime import clock as clocks
from azure_backup_emulator import Emulator
from tests.support.tasks import Store, TaskInstance, run
from tests.tasks.test_adoption import (
    AGAIN,
    BOTH,
    LOSSES,
    STORES,
    STRANGE,
    Mortal,
    WorkerDiedError,
    an_instance,
)

GROUP = "/subscriptions/00000000-0000-0000-0000-00000000d3a0/resourceGroups/demo-rg"
ACCOUNT = f"{GROUP}/providers/Microsoft.Storage/storageAccounts/staging"
MACHINE = f"{GROUP}/providers/Microsoft.Compute/virtualMachines/drill"
NETWORK = f"{GROUP}/providers/Microsoft.Network/virtualNetworks/net"
DISKS = disks(storage_account_id=ACCOUNT)

TARGETS: dict[str, tuple[str, dict[str, Any]]] = {
    "disks": ("vm-good", DISKS),
    "disks into a group": ("vm-good", disks(storage_account_id=ACCOUNT, resource_group_id=GROUP, luns=[0])),
    "new machine": (
        "vm-good",
        new_vm(vm_id=MACHINE, subnet_id=f"{NETWORK}/subnets/default", storage_account_id=ACCOUNT),
    ),
    "same machine": ("vm-good", original_vm(storage_account_id=ACCOUNT)),
    "same share": ("documents", original_share(copy_options="Overwrite")),
    "files of a share": ("documents", original_share(copy_options="Skip", files=["a.txt"], folders=["b"])),
    "other share": (
        "documents",
        other_share(storage_account_id=ACCOUNT, share="drill", copy_options="CreateCopy"),
    ),
    "files into another share": (
        "documents",
        other_share(
            storage_account_id=ACCOUNT,
            share="drill",
            copy_options="FailOnConflict",
            folder="x",
            files=["a.txt"],
        ),
    ),
    "same SQL database": ("payroll", original_database()),
    "other SQL database": ("payroll", other_database(database="MSSQLSERVER/payroll_drill")),
    "same SAP HANA database": ("systemdb", original_database()),
    "other SAP HANA database": (
        "systemdb",
        other_database(database="HXE/DRILL", vm_id=MACHINE, overwrite=True),
    ),
}


@pytest.fixture(autouse=True)
def _nights(azure: Emulator, clock: Any) -> None:
    """Every item has a recovery point, and nothing runs."""
    for item in ("vm-good", "documents", "payroll", "systemdb"):
        azure.start_job(item)
    clock.advance(3000)


def restore(item: str = "vm-good", **arguments: Any) -> Callable[[], AzureBackupRestoreOperator]:
    arguments = {"restore_to": None if "request" in arguments else DISKS, **arguments}
    return lambda: AzureBackupRestoreOperator(task_id="restore", protected_item=item, **arguments)


def posts(azure: Emulator) -> list[str]:
    return [entry["path"] for entry in azure.requests if entry["path"].endswith("/restore")]


def restores(azure: Emulator) -> list[Any]:
    return [job for job in azure.service.world.jobs.values() if job.operation == "Restore"]


def points(azure: Emulator, item: str = "vm-good") -> list[str]:
    """The recovery points of an item, oldest first."""
    from airflow_provider_azbackup.hooks import AzureBackupHook

    with AzureBackupHook() as hook:
        found = hook.list_recovery_points(item)
    return [point.point_id for point in reversed(found)]


def asked_for(azure: Emulator) -> dict[str, Any]:
    """The properties of the last request, as they came to Azure."""
    return {name: value for name, value in restores(azure)[-1].request.items() if name != "pointTime"}


def begin(azure: Emulator, clock: Any, task: Callable[[], Any], ti: TaskInstance) -> str:
    """Begin a try, and lose it with its job running."""
    clock.advance(5)
    end = clock() + 60
    with (
        clocks.running_on(Mortal(clock, lambda: clock() >= end)),
        pytest.raises((TaskDeferred, WorkerDiedError)),
    ):
        task().execute(ti.context)
    return str(ti.xcoms["job_id"])


# --- from the task to the job


@BOTH
@pytest.mark.parametrize("name", TARGETS)
def test_a_restore_of_every_workload_to_every_target(azure: Emulator, deferrable: bool, name: str) -> None:
    item, target = TARGETS[name]
    ti = an_instance()
    job_id = run(restore(item, restore_to=target, deferrable=deferrable), ti)
    (job,) = restores(azure)
    assert (job.id, ti.xcoms["job_id"]) == (job_id, job_id)
    assert (len(posts(azure)), bool(ti.deferred_with)) == (1, deferrable)
    assert ti.xcoms["job"]["outcome"] == "succeeded"
    assert ti.xcoms["job"]["operation"].startswith("Restore")
    point = ti.xcoms["recovery_point"]
    assert posts(azure) == [f"{point['arm_id']}/restore"]
    assert point["arm_id"] == f"{job.item.path}/recoveryPoints/{points(azure, item)[-1]}"
    assert ti.xcoms["azure_backup_job_url"].endswith(f"/backupJobs/{job_id}")
    assert azure.count("POST", "/cancel") == 0


def test_the_drill_can_tell_what_was_restored_from_the_job(azure: Emulator) -> None:
    ti = an_instance()
    run(restore(), ti)
    job, point = ti.xcoms["job"], ti.xcoms["recovery_point"]
    assert job["details"]["Target Storage Account Name"] == "staging"
    assert job["details"]["Template Blob Uri"].startswith("https://staging.blob.core.windows.net/")
    assert job["duration_seconds"] == pytest.approx(187, abs=1)
    assert (point["consistency"], point["tiers"]) == (
        "AppConsistent",
        {"InstantRP": "Valid", "HardenedRP": "Valid"},
    )


def test_a_task_may_leave_as_soon_as_the_job_is_known(azure: Emulator) -> None:
    ti = an_instance()
    assert run(restore(wait_for_completion=False), ti) == restores(azure)[0].id
    assert set(ti.xcoms) == {"job_id", "recovery_point", "azure_backup_job_url", "azure_backup_vault_url"}


@BOTH
def test_a_restore_that_fails_keeps_the_gate_shut_and_says_why(azure: Emulator, deferrable: bool) -> None:
    azure.plan("vm-good", ending="Failed")
    ti = an_instance()
    with pytest.raises(AzureBackupJobFailedError, match="Restore of vm-good failed") as failed:
        run(restore(deferrable=deferrable), ti)
    assert failed.value.code == "UserErrorBCMRestoreStorageAccountNotFound"
    assert ti.xcoms["job"]["outcome"] == "failed"
    assert ti.xcoms["recovery_point"]["recovery_point_id"] == points(azure)[0]


@BOTH
@pytest.mark.parametrize("accept", [True, False])
def test_a_restore_with_warnings_passes_where_these_are_accepted(
    azure: Emulator, deferrable: bool, accept: bool
) -> None:
    azure.plan("vm-good", ending="CompletedWithWarnings")
    task = restore(deferrable=deferrable, accept_warnings=accept)
    if accept:
        assert run(task, an_instance()) == restores(azure)[0].id
    else:
        with pytest.raises(AzureBackupJobFailedError, match="accept_warnings is False"):
            run(task, an_instance())


def test_a_restore_that_azure_takes_and_then_declines_starts_nothing(azure: Emulator) -> None:
    azure.plan("vm-good", operation="Failed")
    store = Store()
    with pytest.raises(AzureBackupRefusedError, match="no restore was started"):
        run(restore(), TaskInstance(store=store))
    assert (restores(azure), store) == ([], {})


def test_a_request_that_azure_refuses_is_told_in_its_words(azure: Emulator) -> None:
    raw = {"objectType": "IaasVMRestoreRequest", "recoveryType": "AlternateLocation"}
    with pytest.raises(AzureBackupRefusedError, match=r"targetVirtualMachineId, .* must be given"):
        run(restore(request=raw), an_instance())


def test_a_missing_right_is_named(azure: Emulator, connect: Callable[..., None]) -> None:
    connect(azure.connection("reader"))
    with pytest.raises(AzureBackupAuthError, match=r"Missing right: .*recoveryPoints/restore/action"):
        run(restore(), an_instance())


# --- which recovery point


@pytest.fixture
def three(azure: Emulator, clock: Any) -> list[tuple[str, float]]:
    """Names and times of the three recovery points of a machine, oldest first."""
    for _ in range(2):
        clock.advance(86400)
        azure.start_job("vm-good")
        clock.advance(3000)
    jobs = [job for job in azure.service.world.jobs.values() if job.item.name == "vm-good"]
    return [(name, job.starts + job.point_after) for name, job in zip(points(azure), jobs, strict=True)]


def test_the_latest_is_the_default(azure: Emulator, three: list[tuple[str, float]]) -> None:
    ti = an_instance()
    run(restore(), ti)
    assert ti.xcoms["recovery_point"]["recovery_point_id"] == three[2][0]
    assert datetime.fromisoformat(ti.xcoms["recovery_point"]["time"]).timestamp() == pytest.approx(
        three[2][1]
    )


@pytest.mark.parametrize("form", ["id", "ARM id"])
def test_one_can_be_named(azure: Emulator, three: list[tuple[str, float]], form: str) -> None:
    (item,) = azure.service.world.named("vm-good")
    name = three[0][0]
    ti = an_instance()
    run(restore(recovery_point=name if form == "id" else f"{item.path}/recoveryPoints/{name}"), ti)
    assert ti.xcoms["recovery_point"]["recovery_point_id"] == name


@pytest.mark.parametrize("form", ["text", "datetime"])
def test_as_of_a_moment(azure: Emulator, three: list[tuple[str, float]], form: str) -> None:
    moment = datetime.fromtimestamp(three[1][1] + 60, UTC)
    ti = an_instance()
    run(restore(as_of=moment if form == "datetime" else moment.isoformat()), ti)
    assert ti.xcoms["recovery_point"]["recovery_point_id"] == three[1][0]


def test_without_one_of_that_age_nothing_is_started(azure: Emulator, three: list[tuple[str, float]]) -> None:
    with pytest.raises(AzureBackupNotFoundError, match=f"there are: .*{three[0][0]}"):
        run(restore(as_of="2020-01-01T00:00:00Z"), an_instance())
    assert posts(azure) == []


def test_an_item_without_any_starts_nothing_and_leaves_no_note(azure: Emulator) -> None:
    store = Store()
    with pytest.raises(AzureBackupNotFoundError, match="there are none at all"):
        run(restore("vm-handed-over"), TaskInstance(store=store))
    assert (posts(azure), store) == ([], {})


def test_one_that_is_not_there_is_told_with_those_that_are(azure: Emulator) -> None:
    with pytest.raises(
        AzureBackupNotFoundError, match=f"no recovery point '7'; there are: .*{points(azure)[0]}"
    ):
        run(restore(recovery_point="7"), an_instance())
    assert posts(azure) == []


@pytest.mark.parametrize("item", ["payroll", "systemdb"])
@pytest.mark.parametrize(
    "target", [original_database(), other_database(database="A/B")], ids=["same", "other"]
)
def test_a_database_up_to_a_moment_of_its_log(
    azure: Emulator, clock: Any, item: str, target: dict[str, Any]
) -> None:
    clock.advance(3600)
    moment = datetime.fromtimestamp(int(clock()) - 60, UTC)
    azure.start_job(item, backup_type="Log")
    clock.advance(600)
    ti = an_instance()
    run(restore(item, restore_to=target, point_in_time=moment), ti)
    assert posts(azure)[0].endswith("/recoveryPoints/DefaultRangeRecoveryPoint/restore")
    asked = asked_for(azure)
    assert asked["objectType"].endswith("PointInTimeRestoreRequest")
    assert datetime.fromisoformat(asked["pointInTime"]) == moment
    assert datetime.fromisoformat(ti.xcoms["recovery_point"]["time"]) == moment


def test_a_moment_that_no_log_reaches_starts_nothing(azure: Emulator, clock: Any) -> None:
    azure.start_job("payroll", backup_type="Log")
    clock.advance(600)
    late = datetime.fromtimestamp(clock() + 600, UTC)
    with pytest.raises(
        AzureBackupNotFoundError, match=r"the logs of .*payroll do not reach .*they reach from"
    ):
        run(restore("payroll", restore_to=original_database(), point_in_time=late), an_instance())
    assert posts(azure) == []


def test_a_log_backup_is_no_recovery_point_of_its_own(azure: Emulator, clock: Any) -> None:
    (full,) = points(azure, "payroll")
    azure.start_job("payroll", backup_type="Log")
    clock.advance(600)
    ti = an_instance()
    run(restore("payroll", restore_to=original_database()), ti)
    assert ti.xcoms["recovery_point"]["recovery_point_id"] == full


def test_a_body_of_the_author_goes_to_azure_as_it_is(azure: Emulator) -> None:
    raw = {
        "objectType": "IaasVMRestoreWithRehydrationRequest",
        "recoveryType": "RestoreDisks",
        "storageAccountId": ACCOUNT,
        "recoveryPointRehydrationInfo": {
            "rehydrationRetentionDuration": "P7D",
            "rehydrationPriority": "High",
        },
    }
    run(restore(request={"properties": raw}), an_instance())
    assert asked_for(azure) == raw
    run(restore(request=raw), an_instance())
    assert asked_for(azure) == raw


VAULTED = {"tiers": {"InstantRP": "Deleted", "HardenedRP": "Valid"}}


def test_a_whole_share_is_restored_from_the_vault_tier_to_another_place(azure: Emulator) -> None:
    for job in list(azure.service.world.jobs.values()):
        if job.item.name == "documents":
            azure.change_point(job.id, **VAULTED)
    target = other_share(storage_account_id=ACCOUNT, share="drill", folder="empty", copy_options="Overwrite")
    run(restore("documents", restore_to=target), an_instance())
    asked = asked_for(azure)
    assert (asked["restoreRequestType"], asked["copyOptions"]) == ("FullShareRestore", "Overwrite")
    for wrong in (
        original_share(copy_options="Overwrite"),
        {**target, "files": ["a.txt"]},
        {**target, "copy_options": "Skip"},
    ):
        with pytest.raises(AzureBackupConfigError, match=r"lies in the vault tier, .* Given: "):
            run(restore("documents", restore_to=wrong), an_instance())
    assert len(posts(azure)) == 1


# --- one intent, one restore


@BOTH
def test_a_retry_takes_up_the_restore_that_runs(azure: Emulator, clock: Any, deferrable: bool) -> None:
    ti, task = an_instance(), restore(deferrable=deferrable)
    job_id = begin(azure, clock, task, ti)
    point = dict(ti.xcoms["recovery_point"])
    clock.advance(30)
    assert run(task, ti.retry()) == job_id
    assert (len(posts(azure)), ti.xcoms["job"]["outcome"]) == (1, "succeeded")
    assert ti.xcoms["recovery_point"] == point


@BOTH
@STRANGE
@pytest.mark.parametrize("if_running", ["fail", "wait", "adopt"])
def test_a_new_attempt_does_what_the_author_says_about_the_restore_that_runs(
    azure: Emulator, clock: Any, deferrable: bool, store: bool, again: Any, if_running: IfRunning
) -> None:
    ti, task = an_instance(store), restore(deferrable=deferrable, if_running=if_running)
    first = begin(azure, clock, task, ti)
    clock.advance(30)
    if if_running == "fail":
        with pytest.raises(AzureBackupBusyError):
            run(task, again(ti))
    else:
        assert (run(task, again(ti)) == first) is (if_running == "adopt")
    assert len(posts(azure)) == (2 if if_running == "wait" else 1)
    if if_running == "wait":
        one, two = restores(azure)
        assert two.starts >= one.finish()[0]


@BOTH
def test_a_retry_passes_at_once_if_its_restore_has_succeeded_meanwhile(
    azure: Emulator, clock: Any, deferrable: bool
) -> None:
    ti, task = an_instance(), restore(deferrable=deferrable)
    job_id = begin(azure, clock, task, ti)
    clock.advance(600)
    clock.waits.clear()
    assert run(task, ti.retry()) == job_id
    assert (len(posts(azure)), clock.waits) == (1, [])


def test_a_retry_keeps_its_recovery_point_although_a_newer_one_has_come(azure: Emulator, clock: Any) -> None:
    azure.plan("vm-good", seconds=9000)
    ti, task = an_instance(), restore(deferrable=True)
    begin(azure, clock, task, ti)
    first = ti.xcoms["recovery_point"]["recovery_point_id"]
    azure.start_job("vm-good", seconds=60)
    clock.advance(600)
    assert len(points(azure)) == 2
    run(task, ti.retry())
    assert (ti.xcoms["recovery_point"]["recovery_point_id"], len(posts(azure))) == (first, 1)


@BOTH
@STORES
def test_a_clear_after_the_end_restores_again(
    azure: Emulator, clock: Any, deferrable: bool, store: bool
) -> None:
    ti, task = an_instance(store), restore(deferrable=deferrable)
    first = run(task, ti)
    clock.advance(3600)
    assert run(task, ti.clear()) != first
    assert len(posts(azure)) == 2


@BOTH
@STORES
def test_a_retry_after_a_failed_restore_starts_a_new_one(
    azure: Emulator, deferrable: bool, store: bool
) -> None:
    azure.plan("vm-good", ending="Failed")
    ti, task = an_instance(store, retries=1), restore(deferrable=deferrable)
    with pytest.raises(AzureBackupJobFailedError):
        run(task, ti)
    azure.plan("vm-good")
    assert run(task, ti.retry()) == restores(azure)[1].id
    assert len(posts(azure)) == 2


@BOTH
@pytest.mark.parametrize("store", [True, False], ids=["3.3", "below 3.3"])
@pytest.mark.parametrize("moment", ["Azure has the request", "Azure has named the operation"])
def test_a_crash_around_the_request_is_no_second_restore(
    azure: Emulator, clock: Any, deferrable: bool, store: bool, moment: str
) -> None:
    dies = {
        "Azure has the request": lambda: len(posts(azure)) > 0,
        "Azure has named the operation": lambda: azure.count("GET", "/backupOperations/") > 0,
    }[moment]
    ti, task = an_instance(store), restore(deferrable=deferrable)
    with clocks.running_on(Mortal(clock, dies)), pytest.raises(WorkerDiedError):
        task().execute(ti.context)
    clock.advance(30)
    if store:
        assert run(task, ti.retry()) == restores(azure)[0].id
    else:  # nobody can say whose restore it is
        with pytest.raises(AzureBackupBusyError):
            run(task, ti.retry())
    assert (len(posts(azure)), len(restores(azure))) == (1, 1)


@LOSSES
@BOTH
@pytest.mark.parametrize("processed", [True, False], ids=["heard", "not heard"])
def test_a_request_whose_answer_is_lost_becomes_one_restore(
    azure: Emulator, loss: dict[str, Any], deferrable: bool, processed: bool
) -> None:
    azure.fault(method="POST", path=r"/restore\?", processed=processed, **loss)
    azure.plan("vm-good", visible_after=50)
    ti = an_instance()
    assert run(restore(deferrable=deferrable), ti) == restores(azure)[0].id
    assert (len(restores(azure)), len(posts(azure))) == (1, 1 if processed else 2)
    assert ti.xcoms["job"]["outcome"] == "succeeded"
    assert ti.xcoms["recovery_point"]["recovery_point_id"] == points(azure)[0]
    assert len(set(posts(azure))) == 1


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("processed", [True, False], ids=["heard", "not heard"])
def test_a_lost_request_for_every_target_becomes_one_restore(
    azure: Emulator, name: str, processed: bool
) -> None:
    item, target = TARGETS[name]
    azure.fault(method="POST", path=r"/restore\?", processed=processed, status=504)
    run(restore(item, restore_to=target), an_instance())
    assert (len(restores(azure)), len(posts(azure))) == (1, 1 if processed else 2)


def test_a_request_of_unknown_fate_is_sent_three_times_and_then_told(azure: Emulator) -> None:
    azure.fault(method="POST", path=r"/restore\?", times=None, status=504)
    ti, task = an_instance(retries=1), restore()
    with pytest.raises(AzureBackupUnconfirmedStartError, match="a restore may be running"):
        run(task, ti)
    assert len(posts(azure)) == 3
    azure.clear_faults()
    run(task, ti.retry())
    assert len(restores(azure)) == 1


@BOTH
@STORES
def test_a_restore_of_somebody_else_is_refused(azure: Emulator, deferrable: bool, store: bool) -> None:
    azure.start_job("vm-good", operation="Restore")
    with pytest.raises(AzureBackupBusyError, match=r"a restore of .* that began at"):
        run(restore(deferrable=deferrable), an_instance(store))
    assert posts(azure) == []


@BOTH
def test_a_restore_of_somebody_else_is_waited_for_where_the_author_says_so(
    azure: Emulator, deferrable: bool
) -> None:
    stranger, ti = azure.start_job("vm-good", operation="Restore"), an_instance()
    assert run(restore(deferrable=deferrable, if_running="adopt"), ti) == stranger
    assert (posts(azure), "recovery_point" in ti.xcoms) == ([], False)


def test_a_backup_that_runs_is_in_no_restores_way(azure: Emulator) -> None:
    backup = azure.start_job("vm-good")
    assert run(restore(), an_instance()) != backup
    assert len(posts(azure)) == 1


@BOTH
@AGAIN
def test_a_task_whose_target_has_changed_does_not_take_up_what_goes_to_the_old_one(
    azure: Emulator, clock: Any, deferrable: bool, again: Any
) -> None:
    ti = an_instance()
    begin(azure, clock, restore(deferrable=deferrable), ti)
    moved = restore(restore_to=disks(storage_account_id=f"{ACCOUNT}2"), deferrable=deferrable)
    with pytest.raises(AzureBackupBusyError, match=r"a restore of .* that began at"):
        run(moved, again(ti))
    assert len(posts(azure)) == 1
    clock.advance(600)
    run(moved, again(ti))
    assert asked_for(azure)["storageAccountId"] == f"{ACCOUNT}2"
    assert len(posts(azure)) == 2


# --- the deadline


@BOTH
@pytest.mark.parametrize("cancels", [True, False])
def test_a_restore_that_takes_too_long(azure: Emulator, clock: Any, deferrable: bool, cancels: bool) -> None:
    azure.plan("vm-good", ending="Never")
    began = clock()
    task = restore(deferrable=deferrable, timeout=1800, cancel_on_timeout=cancels)
    said = "asked to cancel it" if cancels else "goes on in Azure"
    with pytest.raises(AzureBackupTimeoutError, match=said):
        run(task, an_instance())
    assert clock() - began == pytest.approx(1800, abs=120)
    assert azure.count("POST", "/cancel") == cancels


@BOTH
def test_a_retry_keeps_the_deadline_of_the_first_start(azure: Emulator, clock: Any, deferrable: bool) -> None:
    azure.plan("vm-good", ending="Never")
    ti, task = an_instance(), restore(deferrable=deferrable, timeout=3600)
    began = clock()
    begin(azure, clock, task, ti)
    clock.advance(began + 1500 - clock())
    with pytest.raises(AzureBackupTimeoutError):
        run(task, ti.retry())
    assert clock() - began == pytest.approx(3600, abs=60)


# --- arguments


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({}, "neither of restore_to and request"),
        ({"restore_to": DISKS, "request": {"objectType": "x"}}, "both of restore_to and request"),
        ({"restore_to": {"target": "moon"}}, "names the target 'moon'"),
        ({"restore_to": DISKS, "protected_item": ""}, "protected_item is neither .* Given: ''"),
        ({"restore_to": DISKS, "as_of": "soon"}, "as_of 'soon' is not a date and time"),
        ({"restore_to": DISKS, "point_in_time": "2026-01-01"}, "point_in_time is for databases"),
        ({"restore_to": DISKS, "recovery_point": "1", "as_of": "2026-01-01"}, "give one"),
        (
            {"restore_to": DISKS, "if_running": "hope"},
            "if_running of task 'restore' is 'hope'; expected one of wait, adopt, fail",
        ),
        ({"restore_to": DISKS, "timeout": -1}, "timeout of task 'restore' is -1"),
        ({"restore_to": DISKS, "poll_interval": "60"}, "poll_interval of task 'restore' is '60'"),
    ],
)
def test_what_can_be_no_restore_is_refused_when_the_dag_is_read(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(AzureBackupConfigError, match=told):
        AzureBackupRestoreOperator(**{"task_id": "restore", "protected_item": "vm-good", **arguments})


def test_templates_are_checked_when_they_are_rendered(azure: Emulator) -> None:
    task = restore(as_of="{{ params.when }}")()
    task.as_of = "None"
    with pytest.raises(AzureBackupConfigError, match="as_of 'None' is not a date and time"):
        task.execute(an_instance().context)
    assert posts(azure) == []


def test_a_target_of_another_workload_is_refused_before_azure_is_asked_for_a_restore(azure: Emulator) -> None:
    with pytest.raises(AzureBackupConfigError, match="expected one of original_share, other_share"):
        run(restore("documents"), an_instance())
    assert posts(azure) == []


def test_all_that_people_template_is_a_template_field() -> None:
    task = restore()()
    assert set(task.template_fields) >= {"restore_to", "request", "recovery_point", "as_of", "point_in_time"}
    assert all(hasattr(task, name) for name in task.template_fields)


def test_places_are_rendered_however_deep() -> None:
    target = other_share(
        storage_account_id=f"{GROUP}/providers/Microsoft.Storage/storageAccounts/{{{{ params.account }}}}",
        share="drill",
        copy_options="Skip",
        files=["{{ params.file }}"],
    )
    task = restore("documents", restore_to=target)()
    task.render_template_fields({"params": {"account": "staging", "file": "a.txt"}})
    assert task.restore_to["storage_account_id"] == ACCOUNT
    assert task.restore_to["files"] == ["a.txt"]


def test_a_mapped_restore_takes_targets_of_its_own() -> None:
    from airflow.providers.common.compat.sdk import DAG

    with DAG("drills", schedule=None) as dag:
        AzureBackupRestoreOperator.partial(task_id="restore", protected_item="vm-good").expand(
            restore_to=[DISKS]
        )
    assert dag.task_ids == ["restore"]


# --- as Microsoft's client asks for the same


@pytest.fixture
def client(azure: Emulator) -> Iterator[RecoveryServicesBackupClient]:
    connection = azure.connection()
    with (
        ClientSecretCredential(
            tenant_id=connection["extra"]["tenant_id"],
            client_id=connection["login"],
            client_secret=connection["password"],
            authority=azure.url,
            disable_instance_discovery=True,
            connection_verify=azure.ca_bundle,
        ) as credential,
        RecoveryServicesBackupClient(
            credential,
            subscription_id=connection["extra"]["subscription_id"],
            base_url=azure.url,
            credential_scopes=["https://management.azure.com/.default"],
            connection_verify=azure.ca_bundle,
            retry_total=0,
        ) as found,
    ):
        yield found


def _of_machine(**more: Any) -> sdk.IaasVMRestoreRequest:
    return sdk.IaasVMRestoreRequest(
        storage_account_id=ACCOUNT,
        region="westeurope",
        create_new_cloud_service=False,
        original_storage_account_option=False,
        **more,
    )


def _target(kind: str) -> sdk.TargetRestoreInfo:
    aside = (
        "VMAppContainer;compute;demo-rg;drill"
        if kind == "HXE/DRILL"
        else "VMAppContainer;compute;demo-vms;sqlvm"
    )
    return sdk.TargetRestoreInfo(
        overwrite_option="Overwrite" if kind == "HXE/DRILL" else "FailOnConflict",
        container_id=f"{GROUP}/providers/Microsoft.RecoveryServices/vaults/demo-vault/backupFabrics/Azure"
        f"/protectionContainers/{aside}",
        database_name=kind,
    )


SQL = {"should_use_alternate_target_location": True, "is_non_recoverable": False}
# The same intents in the words of Microsoft's client; what was backed up is added below.
INTENTS: dict[str, Any] = {
    "disks": _of_machine(recovery_type="RestoreDisks"),
    "disks into a group": _of_machine(
        recovery_type="RestoreDisks", target_resource_group_id=GROUP, restore_disk_lun_list=[0]
    ),
    "new machine": _of_machine(
        recovery_type="AlternateLocation",
        target_virtual_machine_id=MACHINE,
        target_resource_group_id=GROUP,
        virtual_network_id=NETWORK,
        subnet_id=f"{NETWORK}/subnets/default",
    ),
    "same machine": _of_machine(recovery_type="OriginalLocation"),
    "same share": sdk.AzureFileShareRestoreRequest(
        recovery_type="OriginalLocation", copy_options="Overwrite", restore_request_type="FullShareRestore"
    ),
    "files of a share": sdk.AzureFileShareRestoreRequest(
        recovery_type="OriginalLocation",
        copy_options="Skip",
        restore_request_type="ItemLevelRestore",
        restore_file_specs=[
            sdk.RestoreFileSpecs(path="a.txt", file_spec_type="File"),
            sdk.RestoreFileSpecs(path="b", file_spec_type="Directory"),
        ],
    ),
    "other share": sdk.AzureFileShareRestoreRequest(
        recovery_type="AlternateLocation",
        copy_options="CreateCopy",
        restore_request_type="FullShareRestore",
        target_details=sdk.TargetAFSRestoreInfo(name="drill", target_resource_id=ACCOUNT),
    ),
    "files into another share": sdk.AzureFileShareRestoreRequest(
        recovery_type="AlternateLocation",
        copy_options="FailOnConflict",
        restore_request_type="ItemLevelRestore",
        restore_file_specs=[
            sdk.RestoreFileSpecs(path="a.txt", file_spec_type="File", target_folder_path="x")
        ],
        target_details=sdk.TargetAFSRestoreInfo(name="drill", target_resource_id=ACCOUNT),
    ),
    "same SQL database": sdk.AzureWorkloadSQLRestoreRequest(recovery_type="OriginalLocation", **SQL),
    "other SQL database": sdk.AzureWorkloadSQLRestoreRequest(
        recovery_type="AlternateLocation", target_info=_target("MSSQLSERVER/payroll_drill"), **SQL
    ),
    "same SAP HANA database": sdk.AzureWorkloadSAPHanaRestoreRequest(recovery_type="OriginalLocation"),
    "other SAP HANA database": sdk.AzureWorkloadSAPHanaRestoreRequest(
        recovery_type="AlternateLocation", target_info=_target("HXE/DRILL"), target_virtual_machine_id=MACHINE
    ),
}
# Azure needs no telling what was backed up where it goes back over itself.
NAMELESS = {"same SQL database", "same SAP HANA database"}


def _sent_by(
    client: RecoveryServicesBackupClient, azure: Emulator, item: str, point: str, request: Any
) -> tuple[str, dict[str, Any]]:
    """Let Microsoft's client ask for a restore; return the path and the body of what it sent."""
    (found,) = azure.service.world.named(item)
    sent: list[Any] = []
    client.restores.begin_trigger(
        "demo-vault",
        "demo-rg",
        "Azure",
        found.container,
        found.native_name,
        point,
        sdk.RestoreRequestResource(properties=request),
        polling=False,
        raw_request_hook=lambda call: sent.append(call.http_request),
    )
    return unquote(urlsplit(sent[0].url).path), json.loads(sent[0].body)


@pytest.mark.parametrize("name", TARGETS)
def test_a_request_is_the_one_that_microsofts_client_sends_for_the_same_intent(
    azure: Emulator, client: RecoveryServicesBackupClient, name: str
) -> None:
    item, target = TARGETS[name]
    run(restore(item, restore_to=target, wait_for_completion=False), an_instance())
    path, ours = posts(azure)[0], asked_for(azure)
    (point,) = points(azure, item)
    (found,) = azure.service.world.named(item)
    theirs = INTENTS[name]
    if name not in NAMELESS:
        theirs.source_resource_id = found.source_id
    if name == "other SQL database":
        theirs.target_virtual_machine_id = found.source_id
    if found.kind == "VM":
        theirs.recovery_point_id = point
    assert _sent_by(client, azure, item, point, theirs) == (path, {"properties": ours})


@pytest.mark.parametrize(
    ("item", "kind"),
    [
        ("payroll", sdk.AzureWorkloadSQLPointInTimeRestoreRequest),
        ("systemdb", sdk.AzureWorkloadSAPHanaPointInTimeRestoreRequest),
    ],
)
def test_a_request_for_a_point_in_time_is_the_one_of_microsofts_client(
    azure: Emulator, client: RecoveryServicesBackupClient, clock: Any, item: str, kind: Any
) -> None:
    azure.start_job(item, backup_type="Log")
    clock.advance(600)
    moment = datetime.fromtimestamp(int(clock()) - 600, UTC)
    task = restore(item, restore_to=original_database(), point_in_time=moment, wait_for_completion=False)
    run(task, an_instance())
    path, ours = posts(azure)[0], asked_for(azure)
    theirs = kind(
        recovery_type="OriginalLocation", point_in_time=moment, **(SQL if item == "payroll" else {})
    )
    sent = _sent_by(client, azure, item, "DefaultRangeRecoveryPoint", theirs)
    assert sent == (path, {"properties": ours})


# --- the hooks


def test_both_hooks_restore_once_and_name_the_operation(azure: Emulator, call: Callable[..., Any]) -> None:
    operation = call("trigger_restore", "vm-good", restore_to=DISKS)
    ref = call("wait_for_operation", operation, "restore")
    assert ref.job_id == restores(azure)[0].id
    assert len(posts(azure)) == 1


def test_both_hooks_say_what_is_no_restore(azure: Emulator, call: Callable[..., Any]) -> None:
    with pytest.raises(AzureBackupConfigError, match="neither of restore_to and request"):
        call("trigger_restore", "vm-good")
    assert posts(azure) == []


def test_a_lost_answer_to_a_hook_is_told_and_not_sent_again(
    azure: Emulator, call: Callable[..., Any]
) -> None:
    azure.fault(method="POST", path=r"/restore\?", status=504)
    with pytest.raises(AzureBackupUnconfirmedStartError, match=r"request for a restore of .* was sent"):
        call("trigger_restore", "vm-good", restore_to=DISKS)
    assert len(posts(azure)) == 1


@pytest.mark.parametrize("form", ["id", "ARM id"])
def test_both_hooks_read_one_recovery_point(azure: Emulator, call: Callable[..., Any], form: str) -> None:
    (name,) = points(azure)
    (item,) = azure.service.world.named("vm-good")
    point = call(
        "get_recovery_point", "vm-good", name if form == "id" else f"{item.path}/recoveryPoints/{name}"
    )
    assert (point.point_id, point.usable_tiers) == (name, ("InstantRP", "HardenedRP"))
    with pytest.raises(AzureBackupNotFoundError):
        call("get_recovery_point", "vm-good", "7")

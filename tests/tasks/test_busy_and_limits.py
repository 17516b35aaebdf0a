"""The codes by which Azure says "not now", of every workload: the task waits, and says why and until when."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import Any

import pytest

from airflow_provider_azbackup.exceptions import (
    AzureBackupBusyError,
    AzureBackupDailyLimitError,
    AzureBackupError,
    AzureBackupJobFailedError,
    AzureBackupLimitError,
    AzureBackupRefusedError,
    AzureBackupTimeoutError,
    AzureBackupTransientError,
)
from airflow_provider_azbackup.operators import AzureBackupOperator, AzureBackupRestoreOperator
from airflow_provider_azbackup.restore_to import original_share
from airflow_provider_azbackup.runtime.compat import IS_AIRFLOW_3
from azure_backup_emulator import Emulator
from tests.support.pairs import pairwise
from tests.support.tasks import Store, TaskInstance, run

BOTH = pytest.mark.parametrize("deferrable", [False, True], ids=["in the worker", "deferred"])
FORMS = pytest.mark.parametrize("form", ["conflict", "operation", "job"])
SOME = pytest.mark.parametrize(
    ("item", "form"),
    [
        *(("vm-good", "conflict"), ("payroll", "operation"), ("systemdb", "job")),
        *(("documents", "job"), ("disk-good", "conflict"), ("demo-aks", "operation")),
    ],
)
HOUR = 3600.0
HERE = {"vault_name": "demo-backup-vault", "vault_type": "DataProtection"}
ITEMS: dict[str, dict[str, Any]] = {
    "vm-good": {},
    "payroll": {},
    "systemdb": {},
    "documents": {},
    "disk-good": HERE,
    "demo-aks": HERE,
}
BUSY = {
    "vm-good": "UserErrorBackupOperationInProgress",
    "payroll": "OperationCancelledBecauseConflictingOperationRunningUserError",
    "systemdb": "UserErrorBackupFailedAsRemedialBackupInProgress",
    "documents": "ParallelSnapshotRequest",
    "disk-good": "UserErrorMaxConcurrentOperationLimitReached",
    "demo-aks": "BMSUserErrorObjectLocked",
}
# Azure's own, which is all that a job of a file share has.
MESSAGES = {
    "ParallelSnapshotRequest": "A backup job is already in progress for this file share.",
    "UserErrorDTSDestLocked": "A recovery job is in process to the same destination.",
    "UserErrorAnotherRestoreInProgressOnSameTarget": (
        "Another restore job is in progress on the same target file share"
    ),
    "CloudDosTimeboudLimitReached": (
        "The operation is blocked, as a security precaution, since multiple attempts were made beyond an "
        "internal limit."
    ),
    "CloudDosAbsoluteLimitReached": (
        "Operation is blocked as you have reached the limit on number of operations permitted in 24 hours."
    ),
}
EACH = pytest.mark.parametrize("item", ITEMS)


class Watched(TaskInstance):
    """Keeps every report of ``backup_progress`` that a worker has pushed."""

    def __init__(self, **how: Any) -> None:
        super().__init__(store=Store(), **how)
        self.reports: list[dict[str, Any]] = []

    def xcom_push(self, *, key: str, value: Any) -> None:
        super().xcom_push(key=key, value=value)
        if key == "backup_progress":
            self.reports.append(value)


def back_up(item: str, **options: Any) -> Any:
    """Return what makes the task."""
    options = {"poll_interval": 60.0, **ITEMS[item], **options}
    return lambda: AzureBackupOperator(task_id="backup", protected_item=item, **options)


def refuse(azure: Emulator, item: str, form: str, code: str, seconds: float) -> str:
    """Let Azure refuse backups of an item for a time, because of a job that no list shows."""
    azure.plan(item, visible_after=1e9)
    hidden = azure.start_job(item, seconds=seconds)
    azure.plan(item, seconds=60, busy=form, busy_error=refusal(code))
    return hidden


def refusal(code: str) -> dict[str, str]:
    return {"code": code, "message": MESSAGES.get(code, "Not now.")}


def seen(code: str, item: str, form: str) -> str:
    """Return what a message shows of a refusal: the errors of file shares' jobs have no symbolic code."""
    return MESSAGES[code].rstrip(".") if item == "documents" and form == "job" else code


def posts(azure: Emulator) -> int:
    return azure.count("POST", "/backup")


@pairwise(
    BOTH,
    FORMS,
    EACH,
)
def test_a_busy_code_of_any_workload_is_waited_for_wherever_it_stands(
    azure: Emulator,
    clock: Any,
    caplog: pytest.LogCaptureFixture,
    capsys: Any,
    item: str,
    form: str,
    deferrable: bool,
) -> None:
    hidden, ti = refuse(azure, item, form, BUSY[item], HOUR), Watched()
    with caplog.at_level(logging.INFO):
        own = run(back_up(item, deferrable=deferrable), ti)
    jobs = azure.service.world.jobs
    assert jobs[own].starts >= jobs[hidden].finish()[0]
    assert ti.xcoms["job"]["outcome"] == "succeeded"
    assert posts(azure) <= 24
    said = caplog.text + "".join(capsys.readouterr())
    assert seen(BUSY[item], item, form) in said
    assert "Waiting until 20" in said
    assert "this task gives up at 20" in said
    if IS_AIRFLOW_3:
        waits = [report for report in ti.reports if report["waiting_for"]]
        assert waits
        assert all(seen(BUSY[item], item, form) in report["waiting_for"] for report in waits)
        assert all(datetime.fromisoformat(report["waiting_until"]) for report in waits)


@pytest.mark.parametrize(
    ("item", "form"), [("vm-good", "conflict"), ("disk-good", "operation"), ("documents", "job")]
)
def test_a_busy_item_that_stays_busy_ends_the_task_at_its_deadline_and_says_with_what(
    azure: Emulator, clock: Any, item: str, form: str
) -> None:
    refuse(azure, item, form, BUSY[item], 1e6)
    began = clock()
    words = f"(?s){seen(BUSY[item], item, form)}.*has started no backup of {item}"
    with pytest.raises(AzureBackupTimeoutError, match=words):
        run(back_up(item, timeout=4 * HOUR, deferrable=True), Watched())
    assert clock() - began <= 4 * HOUR + 60
    assert posts(azure) <= 30


@SOME
def test_a_busy_code_fails_the_task_at_once_where_the_author_says_so(
    azure: Emulator, item: str, form: str
) -> None:
    refuse(azure, item, form, BUSY[item], HOUR)
    with pytest.raises(AzureBackupBusyError, match=seen(BUSY[item], item, form)):
        run(back_up(item, if_running="fail"), Watched())
    assert posts(azure) == 1


@pytest.mark.parametrize(
    "error",
    [
        {"errorCode": 400001, "errorTitle": "", "errorString": "Command execution failed."},
        {"errorCode": 1, "errorString": "A backup job is already in progress for this file share."},
        {
            "errorCode": 2,
            "errorString": "Command execution failed.",
            "recommendations": ["Another operation is currently in progress on this item. Please wait."],
        },
    ],
    ids=["by its number", "by its message", "by its recommendation"],
)
def test_a_busy_error_without_a_symbolic_code_is_recognised(azure: Emulator, error: dict[str, Any]) -> None:
    azure.plan("documents", ending="Failed", seconds=2, error=error)
    with pytest.raises(AzureBackupBusyError, match=r"is|in progress|failed"):
        run(back_up("documents", if_running="fail"), Watched())


@BOTH
@SOME
def test_a_limit_is_waited_out_and_not_taken_for_a_refusal(
    azure: Emulator, clock: Any, item: str, form: str, deferrable: bool
) -> None:
    hidden, ti = refuse(azure, item, form, "CloudDosTimeboudLimitReached", HOUR), Watched()
    began = clock()
    own = run(back_up(item, deferrable=deferrable), ti)
    jobs = azure.service.world.jobs
    assert jobs[own].starts >= jobs[hidden].finish()[0]
    assert jobs[own].starts - began >= 2 * HOUR
    assert posts(azure) == 2


@BOTH
@EACH
def test_a_request_that_is_throttled_is_sent_again_when_azure_said(
    azure: Emulator, clock: Any, item: str, deferrable: bool
) -> None:
    azure.fault(method="POST", path=r"/backup\?", status=429, retry_after=900)
    began = clock()
    own = run(back_up(item, deferrable=deferrable), Watched())
    assert 900 <= azure.service.world.jobs[own].starts - began < 1200
    assert posts(azure) == 2


@pytest.mark.parametrize("status", [400, 409, 429])
@pytest.mark.parametrize("item", ["vm-good", "documents", "disk-good"])
def test_a_busy_code_means_the_same_under_any_status(azure: Emulator, item: str, status: int) -> None:
    azure.fault(method="POST", path=r"/backup\?", status=status, code=BUSY[item], message="Not now.")
    run(back_up(item), Watched())
    assert posts(azure) == 2


@BOTH
@pytest.mark.parametrize(
    ("answer", "most"),
    [
        ({"status": 409, "code": BUSY["vm-good"], "retry_after": 7200}, 2),
        ({"status": 409, "code": BUSY["vm-good"], "retry_after": 1}, 30),
        ({"status": 429, "retry_after": 300}, 4),
        ({"status": 429, "retry_after": 1}, 16),
        ({"status": 429}, 16),
    ],
    ids=str,
)
def test_a_pause_that_azure_asks_for_neither_outruns_the_deadline_nor_lets_a_task_ask_all_the_time(
    azure: Emulator, clock: Any, answer: dict[str, Any], most: int, deferrable: bool
) -> None:
    azure.fault(method="POST", path=r"/backup\?", times=None, **answer)
    began = clock()
    with pytest.raises((AzureBackupTimeoutError, AzureBackupLimitError)):
        run(back_up("vm-good", timeout=900, deferrable=deferrable), Watched())
    assert clock() - began <= 900
    assert posts(azure) <= most


def test_tasks_that_were_throttled_together_do_not_come_back_together(azure: Emulator, clock: Any) -> None:
    azure.fault(method="POST", path=r"/backup\?", status=429, retry_after=900, times=4)
    run(back_up("vm-good", timeout=6 * HOUR), Watched())
    waits = [wait for wait in clock.waits if wait >= 900]
    assert len({round(wait) for wait in waits}) > 1
    assert len(waits) == 4


@pytest.mark.parametrize("status", [403, 429])
def test_a_pause_that_azure_asks_for_does_not_outrun_the_wait_for_an_operation(
    azure: Emulator, clock: Any, status: int
) -> None:
    azure.fault(path="/backupOperations/", status=status, retry_after=500_000, times=None)
    ti, began = Watched(), clock()
    run(back_up("vm-good"), ti)
    assert ti.xcoms["job"]["outcome"] == "succeeded"
    assert clock() - began < 8 * HOUR
    assert posts(azure) == 1


@BOTH
def test_a_refusal_to_show_a_job_ends_the_wait_whatever_pause_azure_asks_for(
    azure: Emulator, clock: Any, deferrable: bool
) -> None:
    azure.fault(path="/backupJobs", status=403, retry_after=500_000, times=None, after=1)
    began = clock()
    with pytest.raises(AzureBackupError, match="403"):
        run(back_up("vm-good", deferrable=deferrable), Watched())
    assert clock() - began < HOUR


@BOTH
def test_what_a_task_has_waited_already_is_part_of_its_time(
    azure: Emulator, clock: Any, deferrable: bool
) -> None:
    refuse(azure, "vm-good", "conflict", BUSY["vm-good"], 1e6)
    began = clock()

    azure.fault(path="/backupJobs", status=503, times=None, after=12)
    with pytest.raises(AzureBackupError):
        run(back_up("vm-good", timeout=2 * HOUR, deferrable=deferrable), Watched())
    assert clock() - began <= 2 * HOUR + 60


@SOME
def test_a_limit_for_a_day_says_until_when_and_is_no_refusal(azure: Emulator, item: str, form: str) -> None:
    refuse(azure, item, form, "CloudDosAbsoluteLimitReached", HOUR)
    with pytest.raises(
        AzureBackupDailyLimitError, match=r"may accept the backup at 20\d\d-.*retry it then"
    ) as no:
        run(back_up(item), Watched())
    assert no.value.retry_after == 24 * HOUR
    assert posts(azure) == 1


@BOTH
def test_a_limit_for_a_day_is_waited_out_by_a_task_that_has_the_time(
    azure: Emulator, clock: Any, deferrable: bool
) -> None:
    azure.fault(method="POST", path=r"/backup\?", status=400, code="CloudDosAbsoluteLimitReachedWithRetry")
    began = clock()
    run(back_up("payroll", timeout=timedelta(days=3), deferrable=deferrable), Watched())
    assert clock() - began > 24 * HOUR
    assert posts(azure) == 2


def test_a_limit_that_lasts_longer_than_the_task_may_is_raised_at_once(azure: Emulator, clock: Any) -> None:
    azure.fault(method="POST", path=r"/backup\?", status=400, code="CloudDosTimeboudLimitReached", times=None)
    began = clock()
    with pytest.raises(AzureBackupLimitError, match="or give it a longer timeout"):
        run(back_up("disk-good", timeout=HOUR), Watched())
    assert clock() - began < 60


@pytest.mark.parametrize(
    ("code", "kind"),
    [("CloudInternalError", AzureBackupTransientError), ("UserErrorInvented", AzureBackupRefusedError)],
)
@pytest.mark.parametrize(
    ("item", "form"), [("vm-good", "conflict"), ("payroll", "operation"), ("disk-good", "operation")]
)
def test_an_internal_error_is_no_refusal_and_any_other_code_is_one(
    azure: Emulator, item: str, form: str, code: str, kind: type[AzureBackupError]
) -> None:
    refuse(azure, item, form, code, HOUR)
    with pytest.raises(kind, match=code) as raised:
        run(back_up(item), Watched())
    assert type(raised.value) is kind
    assert posts(azure) == 1


@EACH
def test_a_job_that_fails_with_any_other_code_fails_the_task(azure: Emulator, item: str) -> None:
    refuse(azure, item, "job", "UserErrorInvented", HOUR)
    with pytest.raises(AzureBackupJobFailedError, match="Not now"):
        run(back_up(item), Watched())
    assert posts(azure) == 1


@pairwise(
    BOTH,
    pytest.mark.parametrize("state", ["UpdatingProtection", "ConfiguringProtection"]),
    pytest.mark.parametrize("if_running", ["wait", "fail"]),
)
def test_an_instance_whose_protection_changes_is_waited_for(
    azure: Emulator, clock: Any, state: str, if_running: str, deferrable: bool
) -> None:
    azure.protect("disk-good", state=state, seconds=600)
    ti, began = Watched(), clock()
    own = run(back_up("disk-good", deferrable=deferrable, if_running=if_running), ti)
    assert azure.service.world.jobs[own].starts - began >= 600
    assert posts(azure) == 1
    if IS_AIRFLOW_3:
        assert state in ti.reports[0]["waiting_for"]


def test_an_instance_whose_protection_goes_on_changing_ends_the_task_at_its_deadline(azure: Emulator) -> None:
    azure.protect("disk-good", state="UpdatingProtection")
    with pytest.raises(AzureBackupTimeoutError, match="is UpdatingProtection"):
        run(back_up("disk-good", timeout=HOUR, deferrable=True), Watched())
    assert posts(azure) == 0


@pytest.mark.parametrize(
    "state", ["ProtectionError", "BackupSchedulesSuspended", "ProtectionStopped", "Invented"]
)
def test_of_an_instance_in_any_other_state_azure_is_asked_and_its_answer_passed_on(
    azure: Emulator, state: str
) -> None:
    azure.protect("disk-good", state=state)
    with pytest.raises(
        AzureBackupRefusedError, match=f"UserErrorProtectionNotConfigured.*{state}"
    ) as refused:
        run(back_up("disk-good"), Watched())
    assert refused.value.status == 400
    assert posts(azure) == 1


@pairwise(
    BOTH,
    FORMS,
    pytest.mark.parametrize(
        "code", ["UserErrorDTSDestLocked", "UserErrorAnotherRestoreInProgressOnSameTarget"]
    ),
)
def test_a_restore_that_another_one_holds_up_waits_or_fails_as_busy(
    azure: Emulator, code: str, form: str, deferrable: bool
) -> None:
    run(back_up("documents"), Watched())
    azure.plan("documents", visible_after=1e9)
    hidden = azure.start_job("documents", operation="Restore", seconds=HOUR)
    azure.plan("documents", seconds=60, busy=form, busy_error=refusal(code))

    def restore(**options: Any) -> Any:
        return lambda: AzureBackupRestoreOperator(
            task_id="restore",
            protected_item="documents",
            restore_to=original_share(copy_options="Overwrite"),
            deferrable=deferrable,
            **options,
        )

    with pytest.raises(AzureBackupBusyError, match=seen(code, "documents", form)):
        run(restore(if_running="fail"), Watched())
    own = run(restore(if_running="wait"), Watched())
    jobs = azure.service.world.jobs
    assert jobs[own].starts >= jobs[hidden].finish()[0]


@BOTH
def test_a_wait_for_another_backup_says_in_its_progress_that_it_is_none_of_the_tasks_own(
    azure: Emulator, clock: Any, deferrable: bool
) -> None:
    azure.start_job("vm-good", seconds=HOUR)
    clock.advance(60)
    ti = Watched()
    run(back_up("vm-good", deferrable=deferrable), ti)
    reasons = [args.get("waiting_for") for args in ti.deferred_with]
    assert reasons == (["the end of another backup of vm-good", ""] if deferrable else [])

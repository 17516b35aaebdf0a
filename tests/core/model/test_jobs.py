from __future__ import annotations

import json
from dataclasses import replace

import pytest

from airflow_provider_azbackup.core.model.jobs import OUTCOMES, Job, JobError, JobTask, Outcome, is_proven
from airflow_provider_azbackup.core.rest import responses
from airflow_provider_azbackup.exceptions import AzureBackupJobFailedError
from tests.support.play import JOB, ok

WORDS = {
    "InProgress": Outcome.RUNNING,
    "Cancelling": Outcome.RUNNING,
    "Completed": Outcome.SUCCEEDED,
    "CompletedWithWarnings": Outcome.WARNED,
    "Failed": Outcome.FAILED,
    "Cancelled": Outcome.CANCELLED,
    "Invalid": Outcome.FAILED,
    # Of Backup vaults.
    "Started": Outcome.RUNNING,
    "Paused": Outcome.RUNNING,
    "Success": Outcome.SUCCEEDED,
    "SuccessWithWarning": Outcome.WARNED,
    "Pondering": Outcome.RUNNING,  # no word of Azure's
}


def job(status: str, **more: object) -> Job:
    return replace(Job(ref=JOB, status=status), **more)


@pytest.mark.parametrize("change", [str, str.upper, str.lower])
@pytest.mark.parametrize("word", WORDS)
def test_every_status_word_in_any_casing_is_one_outcome(word: str, change: type[str]) -> None:
    found = job(change(word))
    assert found.outcome is WORDS[word]
    assert found.is_running is (WORDS[word] is Outcome.RUNNING)
    assert found.is_recognised is (word != "Pondering")


def test_the_table_holds_azures_words_and_every_outcome() -> None:
    assert set(OUTCOMES) == {word.casefold() for word in WORDS} - {"pondering"}
    assert set(OUTCOMES.values()) == set(Outcome)


@pytest.mark.parametrize("accept_warnings", [False, True])
@pytest.mark.parametrize("word", WORDS)
def test_the_gate_opens_behind_success_and_behind_warnings_only_when_asked(
    word: str, accept_warnings: bool
) -> None:
    outcome = WORDS[word]
    opens = outcome is Outcome.SUCCEEDED or (outcome is Outcome.WARNED and accept_warnings)
    if opens or outcome is Outcome.RUNNING:
        assert is_proven(job(word), accept_warnings=accept_warnings) is opens
        return
    with pytest.raises(AzureBackupJobFailedError) as failure:
        is_proven(job(word), accept_warnings=accept_warnings)
    assert failure.value.job
    assert failure.value.job["outcome"] == outcome.value


@pytest.mark.parametrize(
    "error",
    [
        JobError(title="UserErrorJobSuccessfullyCancelled"),
        JobError(title="usererrorjobsuccessfullycancelled", code="1"),
        JobError(code="400158"),
    ],
)
@pytest.mark.parametrize("word", ["Completed", "CompletedWithWarnings"])
def test_a_job_that_says_it_was_cancelled_proves_nothing_whatever_its_status(
    word: str, error: JobError
) -> None:
    cancelled = job(word, errors=(JobError(code="1"), error))
    assert cancelled.outcome is Outcome.CANCELLED
    with pytest.raises(AzureBackupJobFailedError, match="was cancelled"):
        is_proven(cancelled, accept_warnings=True)


def test_being_cancelled_ends_no_job_that_still_runs_and_excuses_none_that_failed() -> None:
    errors = (JobError(code="400158"),)
    assert job("Cancelling", errors=errors).outcome is Outcome.RUNNING
    assert job("Failed", errors=errors).outcome is Outcome.FAILED


def test_a_failure_carries_every_fact_into_its_message() -> None:
    failed = responses.read_job(JOB, ok("job_failed_database"))
    with pytest.raises(AzureBackupJobFailedError) as failure:
        is_proven(failed, accept_warnings=True)
    assert str(failure.value).splitlines() == [
        "Restore (Invalid) of SYSTEMDB [hana-vm] failed (status Failed).",
        "Error: UserErrorIncompatibleSrcTargetSystemsForRestore (520512): Source and target do not fit.",
        "Recommended: Restore to a fitting target.",
        "Azure adds: [HanaHelper]: containers do not fit",
        "Tasks not done: Transfer data from vault",
        f"Job: {JOB.path}",
        "Activity id: 9d8c7b6a-5e4f-4d3c-8b2a-1f0e9d8c7b6a",
    ]
    assert failure.value.code == "UserErrorIncompatibleSrcTargetSystemsForRestore"
    assert failure.value.job == failed.facts()


def test_a_failure_without_a_title_has_a_number_in_its_message() -> None:
    with pytest.raises(AzureBackupJobFailedError, match=r"Error: \(1073871825\): An internal error\."):
        is_proven(responses.read_job(JOB, ok("job_failed_share")), accept_warnings=False)


def test_a_failure_of_which_nothing_is_known_still_names_its_job() -> None:
    with pytest.raises(AzureBackupJobFailedError) as failure:
        is_proven(job("Failed"), accept_warnings=False)
    assert str(failure.value) == f"Job of an unnamed item failed (status Failed).\nJob: {JOB.path}"
    assert failure.value.code is None


def test_a_warning_says_how_it_could_have_passed() -> None:
    warned = responses.read_job(JOB, ok("job_warned"))
    assert is_proven(warned, accept_warnings=True)
    with pytest.raises(AzureBackupJobFailedError, match="ended with warnings, and accept_warnings is False"):
        is_proven(warned, accept_warnings=False)


@pytest.mark.parametrize(
    "name",
    ["job_running", "job_completed", "job_warned", "job_cancelled_in_transfer", "job_failed_share"],
)
def test_the_facts_of_a_job_are_plain_json(name: str) -> None:
    facts = responses.read_job(JOB, ok(name)).facts()
    assert json.loads(json.dumps(facts)) == facts
    assert (facts["job_id"], facts["arm_id"], facts["vault"]) == (JOB.job_id, JOB.path, "night-vault")
    assert "body" not in facts


def test_a_job_is_told_in_one_line() -> None:
    assert str(responses.read_job(JOB, ok("job_running"))) == (
        f"job {JOB.job_id} (Backup of shop-vm in apps-rg): InProgress, "
        "Transfer data to vault 31.5 GBs / 64 GBs Transferred"
    )
    assert str(job("Completed")) == f"job {JOB.job_id} (unnamed): Completed"


@pytest.mark.parametrize(
    ("operation", "category", "action", "backup_type", "is_backup", "is_restore"),
    [
        ("Backup", "", "backup", "", True, False),
        ("backup (CopyOnlyFull)", "", "backup", "CopyOnlyFull", True, False),
        ("Backup (Log)", "", "backup", "Log", False, False),
        ("Backup:log", "Backup", "backup", "log", False, False),
        ("Backup:full", "", "backup", "full", True, False),
        ("Backup", "Backup", "backup", "", True, False),
        ("Tiering:Backup", "Tiering", "tiering", "Backup", False, False),
        ("Tiering:Backup", "", "tiering", "Backup", False, False),
        ("Backup", "Tiering", "tiering", "", False, False),
        ("Backup", "Management", "management", "", False, False),
        ("Restore", "", "restore", "", False, True),
        ("Restore (Invalid)", "", "restore", "Invalid", False, True),
        ("RestoreWithRehydrate (Full)", "", "restorewithrehydrate", "Full", False, True),
        ("Restore:OLR", "Restore", "restore", "OLR", False, True),
        ("ConfigureBackup", "", "configurebackup", "", False, False),
        ("DeleteBackupData", "", "deletebackupdata", "", False, False),
        ("DisableBackup", "", "disablebackup", "", False, False),
        ("Backup of something new", "", "backup of something new", "", False, False),
        ("", "", "", "", False, False),
    ],
)
def test_what_a_job_is_is_decided_by_its_category_and_only_without_one_by_its_operation(
    operation: str, category: str, action: str, backup_type: str, is_backup: bool, is_restore: bool
) -> None:
    found = job("Completed", operation=operation, category=category)
    assert (found.action, found.backup_type) == (action, backup_type)
    assert (found.is_backup, found.is_restore) == (is_backup, is_restore)


def test_the_facts_of_a_job_name_what_it_is_of() -> None:
    machine = responses.read_job(JOB, ok("job_running")).facts()
    assert (machine["item"], machine["container"], machine["item_id"]) == (
        "shop-vm",
        "iaasvmcontainerv2;apps-rg;shop-vm",
        None,
    )
    database = responses.read_job(JOB, ok("job_failed_database"))
    assert database.container == database.item.partition("[")[2].rstrip("]")


def test_the_phase_is_the_first_task_that_runs() -> None:
    tasks = (
        JobTask(name="a", status="Completed"),
        JobTask(name="b", status="inprogress", progress="7 %"),
        JobTask(name="c", status="InProgress"),
    )
    assert job("InProgress", tasks=tasks).phase == "b 7 %"
    assert job("InProgress", tasks=tasks[:1]).phase == ""
    assert job("Failed", tasks=(JobTask(name="a", status="CANCELLED"),)).failed_tasks == ("a",)

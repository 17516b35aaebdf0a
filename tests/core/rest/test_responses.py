from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_azbackup.core.model.jobs import JobError, JobTask, Outcome
from airflow_provider_azbackup.core.rest import requests, responses
from airflow_provider_azbackup.core.wire import Response
from airflow_provider_azbackup.exceptions import (
    AzureBackupAuthError,
    AzureBackupError,
    AzureBackupNotFoundError,
    AzureBackupRefusedError,
    AzureBackupTransientError,
)
from tests.support.play import JOB, OPERATION, VAULT, answered, job_is, ok, sample

LOOK = requests.get_job(JOB)


def refusal(response: Response) -> AzureBackupError:
    with pytest.raises(AzureBackupError) as error:
        responses.raise_for_status(response, LOOK, 200)
    return error.value


def test_a_running_job_is_read_with_its_phase_and_progress() -> None:
    job = responses.read_job(JOB, ok("job_running"))
    assert job.ref == JOB
    assert (job.status, job.outcome) == ("InProgress", Outcome.RUNNING)
    assert (job.operation, job.item, job.backup_management_type) == ("Backup", "shop-vm", "AzureIaasVM")
    assert (job.start_time, job.end_time) == ("2026-02-03T01:00:00.123456+00:00", None)
    assert (job.duration_seconds, job.percent) == (750.5, 49.2)
    assert job.phase == "Transfer data to vault 31.5 GBs / 64 GBs Transferred"
    assert job.tasks[0] == JobTask(name="Take Snapshot", status="Completed")
    assert dict(job.details)["VM Name"] == "shop-vm"
    assert job.activity_id == "7b1c9d2e-3f40-4a5b-8c6d-9e0f1a2b3c4d"
    assert job.body["name"] == JOB.job_id


def test_a_failed_job_of_a_database_is_read_with_all_that_azure_says() -> None:
    job = responses.read_job(JOB, ok("job_failed_database"))
    assert job.outcome is Outcome.FAILED
    assert job.duration_seconds == 26 * 3600 + 3 * 60 + 4.5
    assert job.errors == (
        JobError(
            code="520512",
            title="UserErrorIncompatibleSrcTargetSystemsForRestore",
            message="Source and target do not fit.",
            recommendations=("Restore to a fitting target.",),
        ),
    )
    assert job.message == "[HanaHelper]: containers do not fit"
    assert job.failed_tasks == ("Transfer data from vault",)
    assert dict(job.details)["Recovery point time"] == "2/1/2026 1:03:06 PM"


def test_a_share_leaves_out_titles_and_its_clock_may_run_backwards() -> None:
    job = responses.read_job(JOB, ok("job_failed_share"))
    assert (job.errors[0].code, job.errors[0].title) == ("1073871825", "")
    assert job.errors[0].recommendations == ("Wait a little.", "Ask for help.")
    assert (job.duration_seconds, job.end_time, job.tasks) == (0.0, None, ())


@pytest.mark.parametrize("actions", [[1], ["Cancellable"], [], None, "Cancellable"])
@pytest.mark.parametrize(
    "kind", ["AzureIaaSVMJob", "AzureIaaSVMJobV2", "AzureStorageJobV2", "SomeJobV9", None]
)
def test_no_job_type_and_no_form_of_actions_keeps_a_job_from_being_read(actions: Any, kind: Any) -> None:
    job = responses.read_job(JOB, job_is("Completed", jobType=kind, actionsInfo=actions))
    assert job.outcome is Outcome.SUCCEEDED


@pytest.mark.parametrize("name", [JOB.job_id.upper(), None, "", f"{JOB.path}"])
def test_a_job_may_be_named_in_any_casing_by_its_arm_id_or_not_at_all(name: str | None) -> None:
    body = {"name": name, "properties": {"status": "Completed"}}
    assert responses.read_job(JOB, answered(200, body)).ref == JOB


def test_an_answer_about_another_job_is_none() -> None:
    body = {**sample("job_completed"), "name": "1a2b3c4d-5e6f-4708-9a1b-2c3d4e5f6071"}
    with pytest.raises(AzureBackupTransientError, match=f"is not job {JOB.job_id}"):
        responses.read_job(JOB, answered(200, body))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "<html><body>Sign in to the hotel's network</body></html>",
        '{"properties": {"status": "Comple',
        "null",
        "[]",
        "7",
        '"Completed"',
        "{}",
        '{"properties": null}',
        '{"properties": {"status": null}}',
        '{"properties": {"status": ""}}',
        '{"properties": {"status": ["Completed"]}}',
        "[" * 100_000,
        "9" * 5_000,
        "\ufeff{}",
    ],
)
def test_a_200_that_holds_no_job_is_no_answer_yet(text: str) -> None:
    with pytest.raises(
        AzureBackupTransientError, match=r"Azure's answer is not .*200 from /subscriptions/"
    ) as error:
        responses.read_job(JOB, answered(200, text))
    assert "api-version" not in str(error.value)
    assert len(str(error.value)) < 500


def test_whatever_is_missing_from_a_job_is_left_empty() -> None:
    job = responses.read_job(JOB, job_is("Failed"))
    assert (job.errors, job.tasks, job.details, job.percent, job.phase) == ((), (), (), None, "")
    odd = job_is("Failed", errorDetails="none", extendedInfo={"tasksList": [None, 7, {}], "propertyBag": []})
    job = responses.read_job(JOB, odd)
    assert (job.errors, job.details, job.tasks) == ((), (), (JobTask(name="", status=""),))


@pytest.mark.parametrize(
    ("percent", "read"),
    [
        ("49.5", 49.5),
        ("7", 7.0),
        ("9" * 400, None),
        ("1e999", None),
        ("NaN", None),
        ('"7"', None),
        ("[]", None),
    ],
)
def test_progress_is_a_number_or_nothing(percent: str, read: float | None) -> None:
    task = f'{{"taskId": "Transfer", "status": "InProgress", "progressPercentage": {percent}}}'
    extended = f'{{"progressPercentage": {percent}, "tasksList": [{task}]}}'
    text = f'{{"properties": {{"status": "InProgress", "extendedInfo": {extended}}}}}'
    job = responses.read_job(JOB, answered(200, text))
    assert job.percent == read
    assert job.phase == ("Transfer" if read is None else f"Transfer {read:g} %")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("PT41M15.9456185S", 2475.9456185),
        ("PT0S", 0.0),
        ("P1DT2H", 93600.0),
        ("PT1H30M", 5400.0),
        ("-PT4M20.8890416S", 0.0),
        ("00:20:23.0896697", 1223.0896697),
        ("1.09:22:25.7992056", 120145.7992056),
        ("-00:00:01", 0.0),
        ("", None),
        ("P1M", None),
        ("soon", None),
        (None, None),
        (7, None),
    ],
)
def test_durations_are_read_in_both_notations(text: Any, seconds: float | None) -> None:
    assert responses.read_duration(text) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-02-03T01:00:00.1234567Z", "2026-02-03T01:00:00.123456+00:00"),
        ("2026-02-03T01:00:00.1234Z", "2026-02-03T01:00:00.123400+00:00"),
        ("2026-02-03T01:00:00", "2026-02-03T01:00:00+00:00"),
        ("2026-02-03T01:00:00+05:30", "2026-02-02T19:30:00+00:00"),
        ("0001-01-01T00:00:00", None),
        ("0001-01-01T00:00:00Z", None),
        ("2001-01-01T00:00:00Z", None),
        ("9999-12-31T23:59:59-01:00", None),
        ("yesterday", None),
        ("", None),
        (None, None),
        ([], None),
    ],
)
def test_times_are_read_as_utc_and_azures_never_as_none(text: Any, moment: str | None) -> None:
    assert responses.read_time(text) == moment


def test_an_operation_names_its_job_once_it_has_one() -> None:
    running = responses.read_operation(OPERATION, ok("operation_in_progress"))
    assert (running.is_running, running.succeeded, running.job_id) == (True, False, None)
    done = responses.read_operation(OPERATION, ok("operation_succeeded"))
    assert (done.is_running, done.succeeded, done.job_id) == (False, True, JOB.job_id)
    several = responses.read_operation(OPERATION, ok("operation_several_jobs"))
    assert several.job_id == JOB.job_id
    failed = responses.read_operation(OPERATION, ok("operation_failed"))
    assert (failed.is_running, failed.succeeded) == (False, False)
    assert (failed.code, failed.message[:14]) == ("UserErrorBackupOperationInProgress", "Another backup")


@pytest.mark.parametrize(
    ("word", "running", "succeeded"),
    [
        ("Inprogress", True, False),
        ("SUCCEEDED", False, True),
        ("Failed", False, False),
        ("Canceled", False, False),
        ("Cancelled", False, False),
        ("Invalid", False, False),
        ("Pondering", True, False),
    ],
)
def test_an_operation_ends_with_the_words_that_are_known_to_end_one(
    word: str, running: bool, succeeded: bool
) -> None:
    operation = responses.read_operation(OPERATION, answered(200, {"status": word, "properties": None}))
    assert (operation.is_running, operation.succeeded, operation.job_id) == (running, succeeded, None)


@pytest.mark.parametrize("text", ["", "{}", "[]", "<html>", '{"status": ""}', '{"status": {}}'])
def test_a_200_that_holds_no_operation_is_no_answer_yet(text: str) -> None:
    with pytest.raises(AzureBackupTransientError):
        responses.read_operation(OPERATION, answered(200, text))


def test_the_operation_id_of_a_202_comes_without_the_signature() -> None:
    signed = f"https://management.azure.com/x/operationsStatus/{OPERATION.operation_id}?t=1&c=MIIH/x&s=y"
    other = "https://management.azure.com/x/operationResults/other?t=1"
    id_of = responses.read_operation_id
    assert id_of(answered(202, azure_asyncoperation=signed, location=other)) == OPERATION.operation_id
    assert id_of(answered(202, location=signed)) == OPERATION.operation_id
    assert id_of(answered(202)) is None
    assert id_of(answered(202, location="?t=1")) is None


def test_a_list_of_jobs_leaves_out_what_is_no_job() -> None:
    page = responses.read_page(ok("jobs_page"))
    assert [job.ref.job_id[:8] for job in responses.read_jobs(VAULT, page)] == ["0f8c2a51", "1a2b3c4d"]
    assert all(job.ref.vault == VAULT for job in responses.read_jobs(VAULT, page))
    odd = [None, 7, {}, {"name": "x"}, {"properties": {"status": "Completed"}}]
    assert (
        responses.read_jobs(VAULT, responses.read_page(answered(200, {"value": odd, "nextLink": None}))) == []
    )


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"value": null}', '{"value": {}}', "<html>"])
def test_a_200_that_holds_no_list_is_no_answer_yet(text: str) -> None:
    with pytest.raises(AzureBackupTransientError, match="is not a"):
        responses.read_page(answered(200, text))


def test_items_are_named_by_their_ids_alone() -> None:
    machine, *_ = responses.read_items(responses.read_page(ok("items_machines")))
    assert machine.item.container == "IaasVMContainer;iaasvmcontainerv2;apps-rg;shop-vm"
    assert machine.answers_to("SHOP-VM")
    assert machine.answers_to("vm;iaasvmcontainerv2;apps-rg;shop-vm")
    assert not machine.answers_to("shop")
    (database,) = responses.read_items(responses.read_page(ok("items_databases")))
    assert (database.friendly_name, database.server) == ("msdb", "sql-vm")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, AzureBackupAuthError),
        (403, AzureBackupAuthError),
        (404, AzureBackupNotFoundError),
        (408, AzureBackupTransientError),
        (429, AzureBackupTransientError),
        (500, AzureBackupTransientError),
        (502, AzureBackupTransientError),
        (503, AzureBackupTransientError),
        (504, AzureBackupTransientError),
        (599, AzureBackupTransientError),
        (204, AzureBackupTransientError),
        (202, AzureBackupTransientError),
        (307, AzureBackupRefusedError),
        (400, AzureBackupRefusedError),
        (409, AzureBackupRefusedError),
        (412, AzureBackupRefusedError),
    ],
)
def test_each_status_is_one_decision(status: int, kind: type[AzureBackupError]) -> None:
    error = refusal(answered(status, retry_after="7", x_ms_request_id="r-1"))
    assert type(error) is kind
    assert (error.status, error.code, error.request_id, error.retry_after) == (status, None, "r-1", 7.0)
    assert str(error) == f"Azure answered {status}: no explanation given (GET {JOB.path})"


def test_an_error_says_what_azure_said_and_which_right_is_missing() -> None:
    throttled = refusal(answered(429, sample("error_throttled")))
    assert (throttled.code, throttled.retry_after) == ("ResourceRequestsThrottled", 324.0)
    forbidden = refusal(answered(403, sample("error_forbidden")))
    assert forbidden.code == "AuthorizationFailed"
    assert str(forbidden).startswith("Missing right: Microsoft.RecoveryServices/Vaults/backupJobs/read. ")
    across = refusal(answered(500, sample("error_cross_region")))
    assert across.code == "CloudInternalError"
    assert str(across).startswith("Azure answered 500 CloudInternalError: An internal error. Wait a little.")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<html>\n  <h1>502 Bad  Gateway</h1></html>", "502: <html> <h1>502 Bad Gateway</h1></html>"),
        ("x" * 900, "502: " + "x" * 200),
        ("[]", "502: []"),
        ('{"error": "invalid_grant"}', '502: {"error": "invalid_grant"}'),
        ('{"message": "no route"}', '502: {"message": "no route"}'),
        ('{"error": {"code": 7, "message": null}}', '502 7: {"error": {"code": 7, "message": null}}'),
        ('{"error": {"code": "X", "message": "Y", "details": [{}]}}', "502 X: Y"),
        ("[" * 100_000, "502: " + "[" * 200),
        (" ", "502: no explanation given"),
    ],
)
def test_an_error_of_any_form_is_told_by_its_first_words(text: str, said: str) -> None:
    assert str(refusal(answered(502, text))) == f"Azure answered {said} (GET {JOB.path})"


def test_an_inner_error_is_shown_in_one_line_without_headers_and_signatures() -> None:
    inner = {
        "code": "NoInnerErrorFrom1PException",
        "additionalInfo": {
            "DetailedNonLocalisedMessage": "Service request failed.\r\nStatus: 500 at "
            "https://x.blob.core.windows.net/y?sv=1&sig=c2VjcmV0%3D&se=2 \r\n\r\nHeaders:\r\nSet-Cookie: a=b"
        },
    }
    error = {"code": "PostgreSQLFlexServerError", "message": "It failed.", "innerError": inner}
    body = {"properties": {"status": "Failed", "errorDetails": [error, {**error, "innerError": None}]}}
    job = responses.parse_job(JOB, body)
    assert job is not None
    first, second = map(str, job.errors)
    assert first == (
        "PostgreSQLFlexServerError It failed. Cause: NoInnerErrorFrom1PException: Service request failed. "
        "Status: 500 at https://x.blob.core.windows.net/y?sv=1&sig=...&se=2"
    )
    assert second == "PostgreSQLFlexServerError It failed."
    long = {**inner, "additionalInfo": {"DetailedNonLocalisedMessage": "x" * 5000}}
    cut = responses.parse_job(
        JOB, {"properties": {"status": "Failed", "errorDetails": [{**error, "innerError": long}]}}
    )
    assert cut is not None
    assert len(cut.errors[0].cause) == 500

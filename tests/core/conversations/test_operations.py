"""Starting, following, cancelling: conversations that end within minutes. Waiting is in test_jobs.py."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_azbackup.core.conversations.jobs import cancel_job, get_job
from airflow_provider_azbackup.core.conversations.operations import (
    trigger_backup,
    wait_for_operation,
)
from airflow_provider_azbackup.core.conversations.vaults import probe
from airflow_provider_azbackup.core.model.jobs import Outcome
from airflow_provider_azbackup.core.rest import requests
from airflow_provider_azbackup.core.wire import NoResponse, Request
from airflow_provider_azbackup.exceptions import (
    AzureBackupAuthError,
    AzureBackupError,
    AzureBackupLimitError,
    AzureBackupNotFoundError,
    AzureBackupRefusedError,
    AzureBackupTransientError,
    AzureBackupUnconfirmedStartError,
)
from tests.support.play import (
    ITEM,
    JOB,
    LOST,
    OPERATION,
    UNSENT,
    VAULT,
    answered,
    job_is,
    ok,
    play,
    sample,
)

BODY = requests.backup_body(ITEM)
NO_TOKEN = NoResponse(reason="wrong secret", at=0.0, sent=False, error=AzureBackupAuthError)
SIGNED = f"https://management.azure.com{ITEM.path}/operationsStatus/{OPERATION.operation_id}?t=1&c=x&s=y"
ACCEPTED = answered(202, azure_asyncoperation=SIGNED, retry_after="60")
PENDING, DONE = ok("operation_in_progress"), ok("operation_succeeded")


def start() -> Any:
    return trigger_backup(ITEM, BODY)


def follow() -> Any:
    return wait_for_operation(OPERATION)


def test_an_accepted_backup_is_known_by_its_operation_at_the_vault() -> None:
    played = play(start(), ACCEPTED)
    assert played.result == OPERATION
    assert played.requests == [requests.trigger_backup(ITEM, BODY)]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (LOST, r"not known whether Azure has accepted it \(the connection was reset\)"),
        (answered(408), r"not known whether Azure has accepted it \(answered 408\)"),
        (answered(500), r"not known whether Azure has accepted it \(answered 500\)"),
        (answered(503, retry_after="1"), r"not known whether Azure has accepted it \(answered 503\)"),
        (answered(504), r"not known whether Azure has accepted it \(answered 504\)"),
        (answered(202), "accepted, but the answer names no operation"),
        (answered(200), "accepted, but the answer names no operation"),
        (answered(204), "accepted, but the answer names no operation"),
    ],
)
def test_a_backup_request_whose_fate_is_unknown_is_not_sent_twice(answer: Any, words: str) -> None:
    asked: list[Request] = []
    with pytest.raises(AzureBackupUnconfirmedStartError, match=words) as error:
        play(start(), answer, requests=asked)
    assert len(asked) == 1
    assert "running in vault night-vault" in str(error.value)
    assert error.value.status == getattr(answer, "status", None)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (UNSENT, AzureBackupTransientError),
        (NO_TOKEN, AzureBackupAuthError),
        (answered(400), AzureBackupRefusedError),
        (answered(401), AzureBackupAuthError),
        (answered(403), AzureBackupAuthError),
        (answered(404), AzureBackupNotFoundError),
        (answered(409), AzureBackupRefusedError),
        (answered(429), AzureBackupLimitError),
        (answered(307), AzureBackupRefusedError),
    ],
)
def test_a_backup_that_was_certainly_not_started_is_told_as_that(
    answer: Any, kind: type[AzureBackupError]
) -> None:
    with pytest.raises(kind) as error:
        play(start(), answer)
    assert type(error.value) is kind


def test_an_unsent_request_says_that_nothing_was_started() -> None:
    with pytest.raises(AzureBackupTransientError, match=r"no backup of VM;.* was started: no such host"):
        play(start(), UNSENT)


def test_an_operation_is_asked_about_soon_and_then_every_five_seconds() -> None:
    played = play(follow(), *[PENDING] * 5, DONE)
    assert played.result == JOB
    assert {request.delayed(0.0) for request in played.requests} == {requests.get_operation(OPERATION)}
    for pause, planned in zip(played.pauses, (1, 2, 3, 5, 5, 5), strict=True):
        assert planned * 0.85 <= pause <= planned * 1.15


@pytest.mark.parametrize(
    "fault",
    [LOST, UNSENT, answered(500), answered(200, "<html>"), answered(404), answered(401), answered(403)],
)
def test_a_stray_fault_does_not_lose_an_accepted_backup(fault: Any) -> None:
    assert play(follow(), fault, PENDING, fault, DONE).result == JOB


def test_a_throttled_operation_is_asked_about_when_azure_said() -> None:
    played = play(follow(), answered(429, retry_after="40"), DONE)
    assert 40 <= played.pauses[1] <= 46


def test_a_failed_operation_says_that_no_backup_was_started() -> None:
    with pytest.raises(AzureBackupRefusedError, match=r"no backup was started: UserErrorBackup.* Another"):
        play(follow(), ok("operation_failed"))
    with pytest.raises(AzureBackupRefusedError, match=r"ended Canceled, no backup .*: no code$") as error:
        play(follow(), answered(200, {"status": "Canceled"}))
    assert error.value.code is None


@pytest.mark.parametrize(
    "properties",
    [None, {}, {"jobId": None}, {"jobId": ""}, {"jobIds": []}, {"jobId": "nightly"}, {"jobId": ["x"]}],
)
def test_an_operation_that_succeeds_without_a_job_leaves_the_start_unconfirmed(properties: Any) -> None:
    body = {**sample("operation_succeeded"), "properties": properties}
    with pytest.raises(AzureBackupUnconfirmedStartError, match="succeeded without naming a job"):
        play(follow(), answered(200, body))


@pytest.mark.parametrize("job_id", [JOB.path, JOB.path.replace("/subscriptions", "/Subscriptions")])
def test_an_arm_id_stands_for_its_guid(job_id: str) -> None:
    body = {**sample("operation_succeeded"), "properties": {"jobId": job_id}}
    assert play(follow(), answered(200, body)).result == JOB
    assert play(follow(), ok("operation_several_jobs")).result == JOB


@pytest.mark.parametrize("answer", [PENDING, LOST, answered(503), answered(200, {"status": "Pondering"})])
def test_an_operation_that_never_names_a_job_is_given_up_after_five_minutes(answer: Any) -> None:
    asked: list[Request] = []
    with pytest.raises(AzureBackupUnconfirmedStartError, match=r"did not end within 300 s.*may be running"):
        play(follow(), then=answer, requests=asked)
    assert 300 <= sum(request.delay for request in asked[1:]) < 310
    assert 50 < len(asked) < 80


@pytest.mark.parametrize(
    ("status", "soonest"),
    [(401, 40.0), (403, 40.0), (404, 60.0)],  # a 404 may only be too new
)
def test_an_operation_that_stays_out_of_sight_is_told_about_a_minute_later(
    status: int, soonest: float
) -> None:
    asked: list[Request] = []
    with pytest.raises(
        AzureBackupUnconfirmedStartError, match=r"accepted as operation .* may be running"
    ) as told:
        play(follow(), then=answered(status), requests=asked)
    assert told.value.status == status
    assert soonest <= sum(request.delay for request in asked[1:]) <= soonest + 5.0 * 1.15


def test_an_operation_that_azure_refuses_to_show_is_told_at_once() -> None:
    with pytest.raises(AzureBackupUnconfirmedStartError, match=r"may be running.*Azure answered 400"):
        play(follow(), answered(400))


def test_one_look_is_one_request() -> None:
    assert play(get_job(JOB), ok("job_completed")).result.outcome is Outcome.SUCCEEDED


@pytest.mark.parametrize("status", [200, 202, 204])
def test_a_cancellation_is_asked_for_once(status: int) -> None:
    played = play(cancel_job(JOB), answered(status))
    assert (played.result, played.requests) == (None, [requests.cancel_job(JOB)])


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (answered(400, {"error": {"code": "X", "message": "is over"}}), AzureBackupRefusedError),
        (answered(404), AzureBackupNotFoundError),
        (answered(500), AzureBackupTransientError),
        (LOST, AzureBackupTransientError),
        (NO_TOKEN, AzureBackupAuthError),
    ],
)
def test_a_cancellation_that_azure_declines_is_told(answer: Any, kind: type[AzureBackupError]) -> None:
    with pytest.raises(kind):
        play(cancel_job(JOB), answer)


def test_no_answer_to_a_look_says_what_was_asked_and_why_there_is_none() -> None:
    with pytest.raises(AzureBackupTransientError) as error:
        play(get_job(JOB), LOST)
    assert str(error.value) == f"the connection was reset (GET {JOB.path} got no answer)"
    with pytest.raises(AzureBackupAuthError, match=r"wrong secret .*got no answer"):
        play(get_job(JOB), NO_TOKEN)


def test_the_probe_of_a_connection_makes_one_call_and_says_what_it_saw() -> None:
    seen = play(probe(VAULT, "s"), ok("jobs_page"))
    assert seen.result == "vault night-vault in vaults-rg, 2 jobs running"
    assert seen.requests == [requests.list_jobs(VAULT, status="InProgress")]
    vaults = {"value": [{"name": f"v{number}"} for number in range(12)]}
    seen = play(probe(None, "s"), answered(200, vaults))
    assert seen.requests == [requests.list_vaults("s")]
    assert seen.result.startswith("subscription s, no vault set; visible vaults: v0, v1, ")
    assert seen.result.endswith("v9")
    assert play(probe(None, "s"), answered(200, {"value": []})).result.endswith("vaults: none")
    with pytest.raises(
        AzureBackupAuthError, match=r"Missing right: Microsoft.RecoveryServices/Vaults/backup"
    ):
        play(probe(VAULT, "s"), answered(403, sample("error_forbidden")))


def test_a_job_whose_status_is_unknown_is_running_as_far_as_one_look_tells() -> None:
    assert play(get_job(JOB), job_is("Pondering")).result.is_running

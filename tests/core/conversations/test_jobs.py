"""Waiting for a job: what it survives, how often it asks, and when it gives up."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_azbackup.core.conversations.jobs import wait_for_job
from airflow_provider_azbackup.core.model.jobs import Job, Outcome
from airflow_provider_azbackup.core.rest import requests
from airflow_provider_azbackup.core.wire import Answer, NoResponse, Request
from airflow_provider_azbackup.exceptions import (
    AzureBackupAuthError,
    AzureBackupError,
    AzureBackupNotFoundError,
    AzureBackupRefusedError,
    AzureBackupTimeoutError,
)
from tests.support.play import JOB, LOST, START, UNSENT, answered, job_is, ok, play, sample

RUNNING, DONE = job_is("InProgress", operation="Backup"), ok("job_completed")
THROTTLED = answered(429, sample("error_throttled"))
NO_TOKEN = NoResponse(reason="wrong secret", at=0.0, sent=False, error=AzureBackupAuthError)
TRANSIENT = [
    LOST,
    UNSENT,
    *(answered(status) for status in (408, 429, 500, 502, 503, 504)),
    answered(200),
    answered(200, "<html>"),
    answered(200, {"name": "another", "properties": {"status": "Completed"}}),
    answered(204),
]
REFUSALS = [
    (answered(401), AzureBackupAuthError),
    (answered(403), AzureBackupAuthError),
    (NO_TOKEN, AzureBackupAuthError),
    (answered(404), AzureBackupNotFoundError),
]


class Notices:
    """What a wait reported of each look."""

    def __init__(self) -> None:
        self.told: list[tuple[str | None, str | None]] = []

    def __call__(self, job: Job | None, fault: AzureBackupError | None) -> None:
        self.told.append((job.status if job else None, type(fault).__name__ if fault else None))


def wait(
    *, every: float = 60.0, lasts: float = 86400.0, notice: Any = None, age: float = 0.0, **more: Any
) -> Any:
    """A wait that began ``age`` seconds ago and may go on for ``lasts`` seconds."""
    return wait_for_job(
        JOB,
        poll_interval=every,
        deadline=START + lasts,
        since=START - age,
        on_read=notice or Notices(),
        **more,
    )


def test_a_wait_looks_at_once_and_then_once_an_interval() -> None:
    played = play(wait(), RUNNING, RUNNING, DONE)
    assert played.result.outcome is Outcome.SUCCEEDED
    assert {request.delayed(0.0) for request in played.requests} == {requests.get_job(JOB)}
    first, *rest = played.pauses
    assert first == 0.0
    assert all(51.0 <= pause <= 69.0 for pause in rest)


def test_a_wait_may_let_one_interval_pass_before_its_first_look() -> None:
    (pause,) = play(wait(first_pause=60.0), DONE).pauses
    assert pause == 60.0


def test_waits_that_began_together_do_not_stay_in_step() -> None:
    pauses = [play(wait(), RUNNING, DONE).pauses[1] for _ in range(20)]
    assert len(set(pauses)) > 10


@pytest.mark.parametrize("word", ["Completed", "CompletedWithWarnings", "Failed", "Cancelled", "Invalid"])
def test_every_end_ends_the_wait_with_the_job_whatever_it_is(word: str) -> None:
    assert play(wait(), job_is("InProgress"), job_is("Cancelling"), job_is(word)).result.status == word


def test_an_unknown_word_neither_ends_the_wait_nor_outlasts_the_deadline() -> None:
    assert play(wait(), job_is("Pondering"), DONE).result.status == "Completed"
    with pytest.raises(AzureBackupTimeoutError, match="Pondering"):
        play(wait(lasts=600.0), then=job_is("Pondering"))


@pytest.mark.parametrize("fault", TRANSIENT)
def test_a_fault_that_may_pass_is_waited_out(fault: Answer) -> None:
    notices = Notices()
    played = play(wait(notice=notices), fault, RUNNING, *[fault] * 100, DONE)
    assert played.result.outcome is Outcome.SUCCEEDED
    passing = "AzureBackupTransientError"
    assert notices.told[:3] == [(None, passing), ("InProgress", None), ("InProgress", passing)]
    assert notices.told[-1] == ("Completed", None)
    assert all(51.0 <= pause <= 69.0 for pause in played.pauses[1:])


@pytest.mark.parametrize(("fault", "kind"), REFUSALS)
def test_a_refusal_that_lasts_ends_the_wait_within_a_minute(
    fault: Answer, kind: type[AzureBackupError]
) -> None:
    asked: list[Request] = []
    with pytest.raises(kind) as error:
        play(wait(age=3600.0), RUNNING, then=fault, requests=asked)
    assert type(error.value) is kind
    refused_for = sum(request.delay for request in asked[2:])
    assert 40.0 <= refused_for < 58.0
    assert len(asked) <= 6


@pytest.mark.parametrize(("fault", "kind"), REFUSALS)
def test_a_stray_refusal_does_not_end_the_wait(fault: Answer, kind: type[AzureBackupError]) -> None:
    played = play(wait(age=3600.0), RUNNING, fault, fault, RUNNING, fault, fault, DONE)
    assert played.result.outcome is Outcome.SUCCEEDED
    assert all(pause <= 17.25 for pause in (*played.pauses[2:4], *played.pauses[5:7]))


def test_a_job_may_be_unknown_to_azure_in_the_first_minute_of_its_wait() -> None:
    assert play(wait(every=10.0), *[answered(404)] * 6, RUNNING, DONE).result.status == "Completed"
    asked: list[Request] = []
    with pytest.raises(AzureBackupNotFoundError):
        play(wait(), then=answered(404), requests=asked)
    assert 60.0 <= sum(request.delay for request in asked) < 78.0


@pytest.mark.parametrize("status", [400, 405, 409, 410, 307])
def test_what_looking_again_cannot_cure_ends_the_wait_at_once(status: int) -> None:
    with pytest.raises(AzureBackupRefusedError):
        play(wait(), RUNNING, answered(status))


def test_a_wait_is_over_at_its_deadline_and_says_so() -> None:
    asked: list[Request] = []
    with pytest.raises(AzureBackupTimeoutError) as error:
        play(wait(lasts=600.0, age=30.0), then=RUNNING, requests=asked)
    assert sum(request.delay for request in asked) == pytest.approx(600.0)
    assert str(error.value).startswith(f"the job did not end within 630 s: job {JOB.job_id} (Backup")
    assert error.value.job
    assert error.value.job["status"] == "InProgress"


def test_a_wait_that_never_saw_its_job_says_why() -> None:
    with pytest.raises(
        AzureBackupTimeoutError, match=r"was never seen \(last read: Azure answered 503"
    ) as error:
        play(wait(lasts=600.0), then=answered(503))
    assert error.value.job is None


@pytest.mark.parametrize("lasts", [0.0, -100.0])
def test_a_deadline_that_has_passed_still_allows_one_look(lasts: float) -> None:
    assert play(wait(lasts=lasts), DONE).result.status == "Completed"
    with pytest.raises(AzureBackupTimeoutError):
        play(wait(lasts=lasts), RUNNING)


def test_the_last_look_may_still_find_the_job_done() -> None:
    played = play(wait(lasts=110.0, every=90.0), RUNNING, RUNNING, DONE)
    assert played.at == pytest.approx(START + 110.0)


@pytest.mark.parametrize(
    ("fault", "asked_for"),
    [
        (THROTTLED, 324.0),
        (answered(429, retry_after="400"), 400.0),
        (answered(503, retry_after="120"), 120.0),
        (answered(403, retry_after="90"), 90.0),
        (answered(503, retry_after="5"), 51.0),
    ],
)
def test_a_wait_asks_again_no_earlier_than_azure_said(fault: Answer, asked_for: float) -> None:
    played = play(wait(age=3600.0), RUNNING, fault, DONE)
    assert asked_for <= played.pauses[2] <= max(69.0, asked_for * 1.15)


# The same examples in every run: a test that fails says something about the change before it.
steady = settings(deadline=None, derandomize=True)
SECONDS = st.floats(min_value=1.0, max_value=3600.0)
FAULTS = st.one_of(
    st.sampled_from([RUNNING, *TRANSIENT]),
    st.integers(min_value=0, max_value=3600).map(lambda s: answered(429, retry_after=str(s))),
    st.integers(min_value=0, max_value=3600).map(lambda s: answered(503, retry_after=str(s))),
)


@steady
@given(every=SECONDS, answers=st.lists(FAULTS, max_size=20))
def test_every_pause_keeps_to_the_interval_and_to_what_azure_asked(
    every: float, answers: list[Answer]
) -> None:
    played = play(wait(every=every, lasts=10.0**7), *answers, DONE)
    for answer, pause in zip(answers, played.pauses[1:], strict=True):
        asked = getattr(answer, "retry_after", None) or 0.0
        assert pause >= asked
        assert every * 0.85 - 1e-6 <= pause <= max(every, asked) * 1.15 + 1e-6


@steady
@given(
    every=SECONDS,
    intervals=st.floats(min_value=0.0, max_value=30.0),
    fault=st.sampled_from(
        [RUNNING, *TRANSIENT, *(fault for fault, _ in REFUSALS), THROTTLED, job_is("Pondering")]
    ),
)
def test_no_fault_makes_a_wait_ask_more_often_than_it_may(
    every: float, intervals: float, fault: Answer
) -> None:
    lasts = every * intervals
    asked: list[Request] = []
    with pytest.raises(AzureBackupError):
        play(wait(every=every, lasts=lasts), then=fault, requests=asked)
    # The soonest look is 0.85 of the interval, or of 15 s after a refusal, but for the one at the deadline.
    assert len(asked) <= 2 + lasts / (min(every, 15.0) * 0.85)
    assert sum(request.delay for request in asked) <= lasts + 1e-3
    if not isinstance(fault, NoResponse) and fault.status not in (401, 403, 404):
        assert len(asked) <= 2 + lasts / (every * 0.85)


@pytest.mark.parametrize("fault", [answered(401), answered(404), *TRANSIENT])
def test_alternating_faults_are_no_hot_loop_either(fault: Answer) -> None:
    asked: list[Request] = []
    with pytest.raises(AzureBackupError):
        play(wait(lasts=3600.0), *[fault, answered(500)] * 200, requests=asked)
    assert len(asked) <= 2 + 3600.0 / (15.0 * 0.85)

"""Whatever comes back, it is read as a job or as one of our errors, and opens no gate by accident."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from airflow_provider_azbackup.core.conversations.items import get_source_id
from airflow_provider_azbackup.core.conversations.jobs import cancel_job, get_job
from airflow_provider_azbackup.core.conversations.operations import trigger_backup, wait_for_operation
from airflow_provider_azbackup.core.conversations.recovery_points import (
    get_recovery_point,
    list_recovery_points,
)
from airflow_provider_azbackup.core.conversations.vaults import get_region, probe
from airflow_provider_azbackup.core.model.jobs import Job, is_proven
from airflow_provider_azbackup.core.model.recovery_points import (
    choose_recovery_point,
    choose_restorable_range,
)
from airflow_provider_azbackup.core.model.resources import BackupInstance
from airflow_provider_azbackup.core.rest import requests, responses
from airflow_provider_azbackup.core.wire import Flow, Response
from airflow_provider_azbackup.exceptions import AzureBackupError, AzureBackupNotFoundError
from tests.support.play import ITEM, JOB, OPERATION, VAULT, play, sample

INSTANCE = BackupInstance(vault=replace(VAULT, vault_type="DataProtection"), name="disk")

# The same examples in every run: a test that fails says something about the change before it.
steady = settings(deadline=None, derandomize=True)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
WORDS = st.sampled_from(
    ["Completed", "COMPLETED", "Success", "CompletedWithWarnings", "Failed", "InProgress", "Invalid"]
)
TIMES = st.sampled_from(["0001-01-01T00:00:00", "9999-12-31T23:59:59-14:00", "PT1S", "-1.00:00:00", "P"])
MOMENT = datetime(2026, 9, 1, tzinfo=UTC)
MOMENTS = st.sampled_from(["2026-08-31T00:00:00Z", "2026-09-02T00:00:00.1234567Z", "2026-09-01"])
HUGE = st.sampled_from([10**400, -(10**400), 1e308, True])
LEAVES = st.one_of(JSON, WORDS, TIMES, HUGE)
# A job in which anything may stand anywhere.
ERRORS = st.fixed_dictionaries(
    {},
    optional={
        "errorCode": LEAVES | st.just(400158),
        "errorTitle": LEAVES | st.just("UserErrorJobSuccessfullyCancelled"),
        "errorString": LEAVES,
        "recommendations": LEAVES,
        "code": LEAVES,
        "message": LEAVES,
        "recommendedAction": LEAVES,
    },
)
TASKS = st.fixed_dictionaries(
    {},
    optional={
        "taskId": LEAVES,
        "status": LEAVES,
        "progressPercentage": LEAVES,
        "taskExecutionDetails": LEAVES,
        "taskName": LEAVES,
        "taskStatus": LEAVES,
    },
)
EXTENDED = st.fixed_dictionaries(
    {},
    optional={
        "tasksList": st.lists(TASKS | JSON, max_size=3) | JSON,
        "propertyBag": st.dictionaries(st.text(), JSON, max_size=3) | JSON,
        "progressPercentage": LEAVES,
        "dynamicErrorMessage": LEAVES,
        "subTasks": st.lists(TASKS | JSON, max_size=3) | JSON,
        "additionalDetails": JSON,
        "targetRecoverPoint": JSON,
        "warningDetails": st.lists(st.fixed_dictionaries({"warning": ERRORS}) | JSON, max_size=2) | JSON,
    },
)
PROPERTIES = st.fixed_dictionaries(
    {},
    optional={
        "status": LEAVES,
        "operation": LEAVES,
        "entityFriendlyName": LEAVES,
        "dataSourceName": LEAVES,
        "backupInstanceId": LEAVES,
        "startTime": LEAVES,
        "endTime": LEAVES,
        "duration": LEAVES,
        "errorDetails": st.lists(ERRORS | JSON, max_size=3) | JSON,
        "extendedInfo": EXTENDED | JSON,
        "activityId": LEAVES,
    },
)
BODIES = st.fixed_dictionaries(
    {},
    optional={
        "properties": PROPERTIES | JSON,
        "name": st.just(JOB.job_id) | JSON,
        "error": JSON,
        "value": JSON,
    },
)
TEXTS = st.one_of(BODIES.map(json.dumps), JSON.map(json.dumps), st.text())
STATUSES = st.sampled_from([200, 202, 204, 301, 400, 401, 403, 404, 408, 409, 429, 500, 502, 503, 504])
HEADERS = st.dictionaries(
    st.sampled_from(["retry-after", "location", "azure-asyncoperation", "x-ms-request-id"]),
    st.text() | st.sampled_from(["7", "Mon, 01 Jan 99999 00:00:00 GMT", "Mon, 99 Foo 2026", "https://[/"]),
)
REPLIES = st.builds(
    Response,
    status=STATUSES,
    at=st.just(0.0),
    url=st.just("https://management.azure.com/x"),
    headers=HEADERS,
    text=TEXTS,
)


def held(flow: Flow[Any], *answers: Response) -> Any:
    """What a conversation comes to: a result, or one of our errors."""
    try:
        return play(flow, *answers, then=answers[-1]).result
    except AzureBackupError as error:
        return error


@steady
@given(text=TEXTS)
@example(text="[" * 100_000)
@example(
    text='{"properties": {"status": "Completed", "extendedInfo": {"progressPercentage": %s}}}' % ("9" * 400)
)
@example(text=json.dumps(sample("job_cancelled_in_transfer")))
def test_any_text_is_a_job_or_an_error_and_proves_a_backup_only_by_the_word_completed(text: str) -> None:
    job = held(get_job(JOB), Response(status=200, at=0.0, text=text))
    if isinstance(job, AzureBackupError):
        return
    assert isinstance(job, Job)
    json.dumps(job.facts())
    assert str(job)
    for accept_warnings in (False, True):
        try:
            proven = is_proven(job, accept_warnings=accept_warnings)
        except AzureBackupError:
            continue
        word = str(json.loads(text)["properties"]["status"]).casefold()
        warned = {"completedwithwarnings", "successwithwarning"} if accept_warnings else set()
        assert not proven or word in {"completed", "success", *warned}
        assert not proven or "UserErrorJobSuccessfullyCancelled" not in {error.title for error in job.errors}
        assert not proven or "400158" not in {error.code for error in job.errors}


@steady
@given(response=REPLIES)
def test_any_answer_to_anything_we_ask_is_a_value_or_one_of_our_errors(response: Response) -> None:
    for flow in (
        trigger_backup(ITEM, requests.backup_body(ITEM)),
        wait_for_operation(OPERATION),
        get_job(JOB),
        cancel_job(JOB),
        probe(VAULT, "s"),
        get_recovery_point(ITEM, "7"),
        get_source_id(ITEM),
        get_region(VAULT),
        trigger_backup(INSTANCE, requests.backup_body(INSTANCE)),
        probe(INSTANCE.vault, "s"),
        list_recovery_points(INSTANCE),
    ):
        result = held(flow, response)
        assert result is None or result == [] or result


TIERS = st.fixed_dictionaries({}, optional={"type": LEAVES, "status": LEAVES | st.just("Valid")})
RANGES = st.fixed_dictionaries({}, optional={"startTime": LEAVES | MOMENTS, "endTime": LEAVES | MOMENTS})
POINTS = st.fixed_dictionaries(
    {"name": JSON},
    optional={
        "properties": JSON
        | st.fixed_dictionaries(
            {},
            optional={
                "recoveryPointTime": LEAVES | MOMENTS,
                "recoveryPointTierDetails": st.lists(TIERS | JSON, max_size=3) | JSON,
                "timeRanges": st.lists(RANGES | JSON, max_size=2) | JSON,
            },
        )
    },
)


@steady
@given(body=JSON | POINTS, link=st.text() | st.just("https://[/"))
def test_any_list_is_read_or_told(body: Any, link: str) -> None:
    response = Response(
        status=200, at=0.0, url="https://h/x", text=json.dumps({"value": [body], "nextLink": link})
    )
    page = responses.read_page(response)
    assert all(job.ref.job_id for job in responses.read_jobs(VAULT, page))
    assert all(item.item.path for item in responses.read_items(page))
    points = responses.read_recovery_points(ITEM, page)
    for choose in (
        choose_recovery_point,
        partial(choose_restorable_range, moment=MOMENT),
        partial(choose_recovery_point, as_of=MOMENT),
    ):
        with suppress(AzureBackupNotFoundError):
            assert choose(ITEM, points) in points
    try:
        request = requests.next_page(response, link)
    except AzureBackupError:
        return
    assert request.path.startswith("/") or request.path == ""


@steady
@given(text=st.text())
def test_any_text_for_a_time_a_duration_or_a_pause_is_read_or_left_out(text: str) -> None:
    assert responses.read_time(text) is None or text
    duration = responses.read_duration(text)
    assert duration is None or duration >= 0
    asked = Response(status=429, at=0.0, headers={"retry-after": text}, text=text).retry_after
    assert asked is None or asked >= 0

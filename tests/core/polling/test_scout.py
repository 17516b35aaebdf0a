"""Resource Graph as a scout: what it is asked, what is made of any answer, and when it is asked again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from airflow_provider_azbackup.core.model.resources import Vault
from airflow_provider_azbackup.core.polling.scout import INTERVAL, OVERLAP, Scout, Sighting
from airflow_provider_azbackup.core.wire import Answer, NoResponse, Request, Response
from airflow_provider_azbackup.exceptions import AzureBackupAuthError, AzureBackupTransientError
from azure_backup_emulator.arm import kql
from tests.support.virtual import START

SUBSCRIPTION = "11111111-2222-3333-4444-555555555555"
VAULT = Vault(subscription_id=SUBSCRIPTION, resource_group_name="rg", name="v")
OTHER = Vault(subscription_id=f"9{SUBSCRIPTION[1:]}", resource_group_name="rg", name="v")


def row(job_id: str = "a1", status: Any = "Completed", vault: Vault = VAULT, **more: Any) -> dict[str, Any]:
    return {"id": f"{vault.path}/backupJobs/{job_id}", "status": status, "containerName": "c", **more}


def answer(
    *rows: Any, at: float = START, token: Any = None, headers: dict[str, str] | None = None
) -> Response:
    body = {"totalRecords": len(rows), "count": len(rows), "data": rows, "resultTruncated": "false"}
    if token is not None:
        body |= {"resultTruncated": "true", "$skipToken": token}
    return Response(status=200, at=at, text=json.dumps(body), headers=headers or {})


def refused(status: int, **headers: str) -> Response:
    body = json.dumps({"error": {"code": "RateLimiting", "message": "Please wait."}})
    return Response(status=status, at=START, text=body, headers=headers)


def sweep(
    scout: Scout, *answers: Answer, at: float = START, vaults: Sequence[Vault] = (VAULT,)
) -> tuple[list[Sighting], list[Request]]:
    """Play one sweep; what it has shown, and what was asked."""
    flow, asked, left = scout.sweep(at, vaults), [], [*answers]
    try:
        request = next(flow)
        while True:
            asked.append(request)
            request = flow.send(left.pop(0))
    except StopIteration as end:
        assert not left
        found: list[Sighting] = end.value
        return found, asked


def since(request: Request) -> str:
    assert request.body
    return str(request.body["query"]).partition("datetime(")[2].partition("datetime(")[2].partition(")")[0]


# What it asks


def test_one_query_is_about_all_subscriptions_of_the_vaults() -> None:
    _, (request,) = sweep(Scout(START), answer(), vaults=(VAULT, OTHER, VAULT))
    assert (request.method, request.path) == ("POST", "/providers/Microsoft.ResourceGraph/resources")
    assert request.body
    assert request.body["subscriptions"] == [VAULT.subscription_id, OTHER.subscription_id]
    assert request.body["options"] == {"resultFormat": "objectArray", "$top": 1000}
    assert kql.read(request.body["query"]).columns[:2] == ("id", "status")
    assert request.without_retries


def test_more_subscriptions_than_one_query_takes_are_asked_about_in_several() -> None:
    many = [
        Vault(subscription_id=f"{n:08}{SUBSCRIPTION[8:]}", resource_group_name="g", name="v")
        for n in range(1500)
    ]
    _, asked = sweep(Scout(START), answer(), answer(), vaults=many)
    assert [len(each.body["subscriptions"]) for each in asked if each.body] == [1000, 500]


def test_a_sweep_looks_back_to_the_one_before_and_a_little_further() -> None:
    scout = Scout(START)
    _, (first,) = sweep(scout, answer())
    assert since(first) == "2026-09-21T13:13:20Z"  # START is 14:13:20; jobs may have ended before the start
    _, (second,) = sweep(scout, answer(), at=START + 60)
    assert since(second) == "2026-09-21T14:03:20Z"
    _, (third,) = sweep(scout, NoResponse(reason="gone", at=START + 3600), at=START + 3600)
    _, (fourth,) = sweep(scout, answer(), at=START + 7200)
    # What a failed sweep did not show is made up for.
    assert since(third) == since(fourth) == "2026-09-21T14:04:20Z"
    assert OVERLAP == 600


def test_the_moments_are_by_azures_clock() -> None:
    scout = Scout(START)
    sweep(scout, answer(headers={"date": "Mon, 21 Sep 2026 14:18:20 GMT"}))
    _, (request,) = sweep(scout, answer(), at=START + 60)
    assert since(request) == "2026-09-21T14:08:20Z"


def test_pages_are_read_by_their_tokens_to_the_last() -> None:
    found, asked = sweep(
        Scout(START), answer(row("a1"), token="x"), answer(row("a2"), token="y"), answer(row("a3"))
    )
    assert [each.job_id for each in found] == ["a1", "a2", "a3"]
    assert [each.body["options"].get("$skipToken") for each in asked if each.body] == [None, "x", "y"]


def test_pages_that_go_round_in_a_circle_come_to_an_end() -> None:
    found, asked = sweep(Scout(START), answer(row(), token="x"), answer(row("a2"), token="x"))
    assert (len(found), len(asked)) == (2, 2)
    endless = [answer(token=f"{n}") for n in range(20)]
    assert len(sweep(Scout(START), *endless)[1]) == 20


# What it makes of the answers


def test_a_job_is_news_when_it_is_first_shown_and_when_it_is_over() -> None:
    scout = Scout(START)
    for status, news in (("InProgress", [True]), ("InProgress", [False]), ("Failed", [True])):
        found, _ = sweep(scout, answer(row(status=status)))
        assert [each.is_news for each in found] == news
    # Neither a doubled row nor a copy that is late makes it news again.
    found, _ = sweep(scout, answer(row(), row(), row(status="InProgress"), row()))
    assert [each.is_news for each in found] == [False] * 4


def test_upper_and_lower_case_do_not_matter() -> None:
    shouted = {**row(), "id": f"{VAULT.path.upper()}/BACKUPJOBS/A1"}
    ((found,), _) = sweep(Scout(START), answer(shouted))
    assert (found.vault, found.job_id, found.key) == (VAULT.path.casefold(), "a1", "c")


@pytest.mark.parametrize(
    ("status", "is_running"),
    [("InProgress", True), ("Cancelling", True), ("Completed", False), ("failed", False), ("Odd", True)],
)
def test_only_a_word_that_is_known_to_be_the_last_one_is_an_end(status: str, is_running: bool) -> None:
    ((found,), _) = sweep(Scout(START), answer(row(status=status)))
    assert found.is_running is is_running


def test_rows_that_mean_nothing_are_passed_over() -> None:
    odd = [
        None,
        7,
        [],
        {},
        row(vault=OTHER),
        {"id": VAULT.path, "status": "Completed"},
        {"id": {"a": 1}, "status": "Completed"},
        row(status=None),
        row(status={"a": 1}),
        row("", "Completed"),
        {**row("odd"), "containerName": ["x"], "entityFriendlyName": None},
    ]
    found, _ = sweep(Scout(START), answer(*odd, row("good")))
    assert [each.job_id for each in found] == ["odd", "good"]


@pytest.mark.parametrize(
    "text", ["", "[]", "null", "<html>", '{"data": {}}', '{"data": "x"}', "{" * 10_000, '{"value": []}']
)
def test_an_answer_without_rows_is_a_fault(text: str) -> None:
    scout = Scout(START)
    assert sweep(scout, Response(status=200, at=START, text=text))[0] == []
    assert isinstance(scout.fault, AzureBackupTransientError)
    assert not scout.helps(START)


def test_what_was_shown_before_a_page_failed_counts() -> None:
    scout = Scout(START)
    found, _ = sweep(scout, answer(row(), token="x"), refused(503))
    assert [each.job_id for each in found] == ["a1"]
    assert scout.fault


@pytest.mark.parametrize("token", [7, {"a": 1}, [], ""])
def test_a_token_that_is_none_ends_the_pages(token: Any) -> None:
    assert len(sweep(Scout(START), answer(row(), token=token))[1]) == 1


# When it asks again, and whether it counts


def test_it_helps_while_it_answers_and_for_some_minutes_after() -> None:
    scout = Scout(START)
    assert not scout.helps(START)
    sweep(scout, answer())
    assert scout.helps(START + 299)
    sweep(scout, NoResponse(reason="gone", at=START + 60), at=START + 60)
    assert scout.helps(START + 299)
    assert not scout.helps(START + 301)


def test_a_right_that_is_missing_is_the_fault_that_is_reported() -> None:
    scout = Scout(START)
    sweep(scout, refused(403))
    assert isinstance(scout.fault, AzureBackupAuthError)
    sweep(scout, answer())
    assert scout.fault is None


def test_it_asks_every_minute_or_as_often_as_the_most_impatient_wait_reads() -> None:
    scout = Scout(START)
    assert scout.pause(300.0, START) == INTERVAL
    assert scout.pause(30.0, START) == 30.0
    assert scout.pause(1.0, START) == 15.0


def test_the_longer_it_is_not_answered_the_rarer_it_asks() -> None:
    scout, pauses = Scout(START), []
    for _ in range(12):
        sweep(scout, refused(403))
        pauses.append(scout.pause(60.0, START))
    assert pauses[:4] == [120.0, 240.0, 480.0, 600.0]
    assert pauses[-1] == 600.0
    sweep(scout, answer())
    assert scout.pause(60.0, START) == 60.0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"x-ms-user-quota-remaining": "0", "x-ms-user-quota-resets-after": "00:05:00"}, 300.0),
        ({"retry-after": "200"}, 200.0),
        ({"x-ms-user-quota-resets-after": "99:59:59"}, 600.0),
        ({"x-ms-user-quota-resets-after": "soon"}, 120.0),
        ({}, 120.0),
    ],
)
def test_after_a_429_it_waits_for_its_quota(headers: dict[str, str], seconds: float) -> None:
    scout = Scout(START)
    sweep(scout, refused(429, **headers))
    assert scout.pause(60.0, START) == seconds


def test_the_next_page_waits_for_a_quota_that_is_used_up() -> None:
    spent = {"x-ms-user-quota-remaining": "0", "x-ms-user-quota-resets-after": "00:00:05"}
    _, asked = sweep(Scout(START), answer(row(), token="x", headers=spent), answer())
    assert [each.delay for each in asked] == [0.0, 5.0]

"""Resource Graph: queries over vaults, protected items and jobs, and how far they are from the truth."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from airflow_provider_azbackup.core.rest import requests as requests_of_ours
from airflow_provider_azbackup.core.rest.responses import read_graph_page
from airflow_provider_azbackup.core.wire import Response
from azure_backup_emulator import Emulator
from azure_backup_emulator.arm import kql
from azure_backup_emulator.estate import estate
from tests.emulator.conftest import Client
from tests.support.clock import ManualClock

GRAPH = "/providers/Microsoft.ResourceGraph/resources"
VERSION = "2022-10-01"
JOBS = (
    "RecoveryServicesResources | where type in~ ('Microsoft.RecoveryServices/vaults/backupJobs', "
    "'Microsoft.DataProtection/backupVaults/backupJobs')"
)


def ask(client: Client, query: str, *, subscriptions: list[str] | None = None, **options: Any) -> Any:
    body: dict[str, Any] = {"query": query, "options": options}
    if subscriptions is not None:
        body["subscriptions"] = subscriptions
    return client.post(GRAPH, body, version=VERSION)


def rows(client: Client, query: str, **more: Any) -> list[dict[str, Any]]:
    answer = ask(client, query, **more)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


def test_jobs_of_both_types_of_vault_are_found_as_their_lists_show_them(
    azure: Emulator, client: Client, clock: ManualClock
) -> None:
    jobs = {azure.start_job("vm-good"), azure.start_job("disk-good")}
    clock.advance(400)
    found = rows(client, f"{JOBS} | project id, name, type, properties")
    assert {row["name"] for row in found} == jobs
    for row in found:
        assert row["type"] == row["type"].lower()
        listed = client.get(row["id"].rpartition("/")[0]).json()["value"]
        assert row["properties"] in [each["properties"] for each in listed]
    status = {row["type"].partition("/")[0]: row["properties"]["status"] for row in found}
    assert status == {"microsoft.recoveryservices": "InProgress", "microsoft.dataprotection": "Completed"}


def test_a_query_finds_the_jobs_that_have_ended_since(
    azure: Emulator, client: Client, clock: ManualClock
) -> None:
    for seconds in (100, 300, 5000):
        azure.start_job("vm-good", seconds=seconds)
    since = "2026-01-01T00:00:00Z"
    clock.advance(1000)
    query = (
        f"{JOBS}\n| where todatetime(properties.endTime) >= datetime({since})\n"
        "| project id, status = tostring(properties.status), ended = properties.endTime | order by id asc"
    )
    found = rows(client, query)
    assert [set(row) for row in found] == [{"id", "status", "ended"}] * 2
    assert {row["status"] for row in found} == {"Completed"}
    assert [row["id"] for row in found] == sorted(row["id"] for row in found)
    assert rows(client, query.replace("2026", "2090")) == []


def test_items_and_vaults_of_both_types_are_found(client: Client) -> None:
    world = client.azure.service.world
    for kind in (
        "Microsoft.RecoveryServices/vaults/backupFabrics/protectionContainers/protectedItems",
        "microsoft.dataprotection/backupvaults/backupinstances",
    ):
        found = rows(client, f"recoveryservicesresources | where type =~ '{kind}'")
        provider = kind.partition("/")[0].lower()
        expected = {item.path.lower() for item in world.items if provider in item.path.lower()}
        assert {row["id"].lower() for row in found} == expected
    vaults = rows(client, "Resources | project name")
    assert {row["name"] for row in vaults} == {v.name for v in (*world.vaults, *world.backup_vaults)}


def test_the_provider_finds_vaults_and_items_of_both_types(client: Client) -> None:
    world = client.azure.service.world
    expected = {
        requests_of_ours.query_vaults: {each.path for each in (*world.vaults, *world.backup_vaults)},
        requests_of_ours.query_items: {each.path for each in world.items},
    }
    for query, paths in expected.items():
        request = query([*world.subscriptions])
        answer = client.post(request.path, request.body, version=VERSION)
        page = read_graph_page(Response(status=200, at=0.0, text=answer.text))
        assert {str(row["id"]).casefold() for row in page.rows} == {path.casefold() for path in paths}


def test_pages_follow_each_other_by_their_skip_token(azure: Emulator, client: Client) -> None:
    jobs = {azure.start_job("vm-good") for _ in range(7)}
    seen, token = [], None
    for _ in range(3):
        options = {"$top": 3, **({"$skipToken": token} if token else {})}
        page = ask(client, f"{JOBS} | project id, name | order by id asc", **options).json()
        assert page["totalRecords"] == 7
        assert page["count"] == len(page["data"])
        seen += [row["name"] for row in page["data"]]
        token = page.get("$skipToken")
        assert page["resultTruncated"] == ("true" if token else "false")
    assert token is None
    assert (len(seen), set(seen)) == (7, jobs)


def test_pages_without_an_id_have_no_successor(azure: Emulator, client: Client) -> None:
    for _ in range(3):
        azure.start_job("vm-good")
    page = ask(client, f"{JOBS} | project name", **{"$top": 2}).json()
    assert (page["resultTruncated"], "$skipToken" in page) == ("true", False)


@pytest.fixture(scope="module")
def whole() -> Iterator[Client]:
    seed = estate(vaults=6, items=60, subscriptions=2)
    with Emulator(clock=ManualClock(), seed=seed) as azure, requests.Session() as session:
        session.verify, session.trust_env = azure.ca_bundle, False
        yield Client(azure=azure, session=session)


def test_a_query_is_about_the_subscriptions_that_it_names(whole: Client) -> None:
    first, second = whole.azure.service.world.subscriptions
    everywhere = rows(whole, f"{JOBS} | project id, subscriptionId")
    assert {row["subscriptionId"] for row in everywhere} == {first, second}
    found = rows(whole, f"{JOBS} | project id, subscriptionId", subscriptions=[second.upper()])
    assert {row["subscriptionId"] for row in found} == {second}
    assert rows(whole, JOBS, subscriptions=["00000000-0000-0000-0000-000000000000"]) == []


def test_rows_that_a_caller_may_not_read_are_left_out_in_silence(
    azure: Emulator, as_: Callable[[str], Client]
) -> None:
    azure.start_job("vm-good")
    azure.start_job("disk-good")
    kinds = {}
    for who in ("operator", "reader", "waiter", "nobody"):
        found = rows(as_(who), "RecoveryServicesResources | project type")
        kinds[who] = {row["type"].rpartition("/")[2] for row in found}
    assert kinds["operator"] == {"backupjobs", "protecteditems", "backupinstances"}
    assert kinds["waiter"] == {"backupjobs"}
    assert kinds["nobody"] == set()
    # Azure's role of readers lacks the jobs of Backup vaults.
    assert len(rows(as_("reader"), JOBS)) == 1
    assert rows(as_("nobody"), "Resources") == []


def test_what_is_late_shows_jobs_as_they_were(azure: Emulator, client: Client, clock: ManualClock) -> None:
    azure.configure(resource_graph={"lag": 60})
    job = azure.start_job("vm-good", seconds=100)
    status = f"{JOBS} | project status = properties.status"
    assert rows(client, status) == []
    clock.advance(120)
    assert client.job(job)["status"] == "Completed"
    assert rows(client, status) == [{"status": "InProgress"}]
    clock.advance(60)
    assert rows(client, status) == [{"status": "Completed"}]


def test_rows_may_be_missing_or_doubled_or_of_a_hidden_vault(azure: Emulator, client: Client) -> None:
    for number in range(1, 21):
        azure.start_job(f"fleet-{number:02}")
    azure.start_job("vm-elsewhere")

    def names(**settings: Any) -> list[str]:
        azure.configure(resource_graph=settings)
        return [row["name"] for row in rows(client, JOBS)]

    everything = names()
    assert len(everything) == 21
    some = names(gaps=0.4)
    assert 0 < len(some) < 21  # which ones is chance
    assert some == names(gaps=0.4)
    doubled = names(doubles=0.4)
    assert {*doubled} == {*everything}
    assert 21 < len(doubled) < 42
    assert len(names(hidden=["demo-vault-2"])) == 20


def test_a_user_may_ask_fifteen_times_in_five_seconds(
    azure: Emulator, as_: Callable[[str], Client], clock: ManualClock
) -> None:
    answers = [ask(as_("operator"), JOBS) for _ in range(16)]
    left = [int(each.headers["x-ms-user-quota-remaining"]) for each in answers]
    assert left == [*range(14, -1, -1), 0]
    assert [each.status_code for each in answers] == [200] * 15 + [429]
    assert answers[-1].json()["error"]["code"] == "RateLimiting"
    assert answers[-1].headers["x-ms-user-quota-resets-after"] == "00:00:05"
    assert ask(as_("reader"), JOBS).status_code == 200
    clock.advance(5)
    assert ask(as_("operator"), JOBS).status_code == 200


def test_queries_cost_neither_job_reads_nor_writes(azure: Emulator, client: Client) -> None:
    azure.configure(job_read_budget=0)
    answer = ask(client, JOBS)
    assert answer.status_code == 200
    assert not [name for name in answer.headers if "ratelimit" in name.lower()]


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("RecoveryServicesResources | summarize count() by type", "does not know the operator 'summarize'"),
        ("RecoveryServicesResources | where type contains 'jobs'", "expected '=='"),
        ("RecoveryServicesResources | where isUserTriggered == true", "no column 'isUserTriggered'"),
        ("RecoveryServicesResources | where type == 'a' or", "expected a value, not 'the end'"),
        ("RecoveryServicesResources | project properties.status", "expected a pipe, not '.'"),
        ("RecoveryServicesResources | project id | where type == 'a'", "no column 'type' here, only id"),
        ("RecoveryServicesResources | where type == 'a\\'b'", "cannot read"),
        ("RecoveryServicesResources | where todatetime(id) > datetime(yesterday)", "yesterday"),
        (f"RecoveryServicesResources | where {'(' * 200}", "so many parentheses"),
        (f"RecoveryServicesResources | where {'tolower(' * 3000}id", "so many parentheses"),
        ("SecurityResources", "no table 'securityresources'"),
        ("| where", "expected a word"),
        ("   ", "query must be a text"),
    ],
)
def test_a_query_that_is_not_understood_is_refused_with_the_reason(
    client: Client, query: str, reason: str
) -> None:
    answer = ask(client, query)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, "BadRequest")
    assert reason in error["details"][0]["message"]


@pytest.mark.parametrize(
    "options",
    [{"$top": 0}, {"$top": 1001}, {"$top": "many"}, {"$skipToken": "LTU="}, {"resultFormat": "table"}],
)
def test_an_option_that_is_not_understood_is_refused(client: Client, options: dict[str, Any]) -> None:
    assert ask(client, JOBS, **options).status_code == 400


def run(query: str) -> list[Any]:
    table = [
        {"id": "a", "type": "X", "properties": {"n": 1, "at": "2026-01-01T00:00:00Z", "deep": {"er": "y"}}},
        {"id": "b", "type": "x", "properties": {"n": 2, "at": "2026-01-02T00:00:00+01:00"}},
        {"id": "c", "type": "z", "properties": {"at": None}},
    ]
    return [row["id"] for row in kql.read(f"t | {query}").run(table)]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("where type == 'x'", "b"),
        ("where type =~ 'x'", "ab"),
        ("where type in ('X', 'z')", "ac"),
        ("where type in~ ('X', \"Z\")", "abc"),
        ("where type == 'z' or type == 'x' and id == 'a'", "c"),
        ("where (type == 'z' or type =~ 'x') and id < 'c'", "ab"),
        ("where todatetime(properties.at) >= datetime(2026-01-01T12:00:00Z)", "b"),
        ("where todatetime(properties.at) < datetime('2026-01-01T12:00:00Z')", "a"),
        ("where properties.at > 5", ""),
        ("where properties.n >= 2", "b"),
        ("where properties.deep == 'y'", ""),
        ("where properties.deep.er == 'y'", "a"),
        ("where tolower(type) == 'x' | limit 1", "a"),
        ("order by id", "cba"),
        ("order by id desc | take 2", "cb"),
        ("order by type asc | where id > 'a'", "bc"),
        ("project id, kind = type | where kind == 'z'", "c"),
    ],
)
def test_the_operators_do_what_kusto_does(query: str, found: str) -> None:
    assert "".join(run(query)) == found

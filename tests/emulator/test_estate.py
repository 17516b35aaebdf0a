"""A whole estate: many vaults in several subscriptions, whose items had their nightly backups."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import requests

from azure_backup_emulator import Emulator
from azure_backup_emulator.arm.gateway import Request
from azure_backup_emulator.estate import NIGHTS, estate
from azure_backup_emulator.service import Service
from tests.emulator.conftest import Client
from tests.support.clock import ManualClock
from tests.support.work import lines_of

VAULTS, ITEMS, SUBSCRIPTIONS = 8, 400, 3
PROVIDERS = ("Microsoft.RecoveryServices/vaults", "Microsoft.DataProtection/backupVaults")
LISTS = {PROVIDERS[0]: "backupProtectedItems", PROVIDERS[1]: "backupInstances"}


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """A client of an estate whose clock stands still."""
    seed = estate(vaults=VAULTS, items=ITEMS, subscriptions=SUBSCRIPTIONS)
    with Emulator(clock=ManualClock(), seed=seed) as azure, requests.Session() as session:
        session.verify, session.trust_env = azure.ca_bundle, False
        yield Client(azure=azure, session=session)


def listed(client: Client, path: str) -> list[dict[str, Any]]:
    found, following = [], path
    while following:
        page = client.get(following, version="2026-07-01" if following == path else None).json()
        found += page["value"]
        following = page.get("nextLink")
    return found


def subscriptions(client: Client) -> list[str]:
    return [each["id"] for each in listed(client, "/subscriptions")]


def vaults(client: Client) -> list[str]:
    return [
        vault["id"]
        for subscription in subscriptions(client)
        for provider in PROVIDERS
        for vault in listed(client, f"{subscription}/providers/{provider}")
    ]


def test_each_subscription_lists_its_own_vaults_of_both_types(client: Client) -> None:
    assert len(subscriptions(client)) == SUBSCRIPTIONS
    found = vaults(client)
    assert len(found) == len({*found}) == VAULTS
    assert sum("backupVaults" in each for each in found) == VAULTS // 4
    for subscription in subscriptions(client):
        assert any(each.startswith(subscription) for each in found)


def test_a_vault_is_in_one_subscription_only(client: Client) -> None:
    first, second = subscriptions(client)[:2]
    vault = next(each for each in vaults(client) if each.startswith(first))
    assert client.get(vault).json()["id"] == vault
    assert client.get(vault.replace(first, second)).status_code == 404
    unknown = client.get(vault.replace(first, "/subscriptions/none"))
    assert unknown.json()["error"]["code"] == "SubscriptionNotFound"


def test_every_item_is_listed_once_and_vaults_have_equal_shares(client: Client) -> None:
    sizes = []
    names: set[str] = set()
    for vault in vaults(client):
        items = listed(client, f"{vault}/{next(LISTS[each] for each in PROVIDERS if each in vault)}")
        assert all(item["id"].startswith(vault) for item in items)
        names |= {item["id"] for item in items}
        sizes.append(len(items))
    assert sizes == [ITEMS // VAULTS] * VAULTS
    assert len(names) == ITEMS


def test_the_nights_are_those_of_the_table(client: Client) -> None:
    world, now = client.azure.service.world, client.azure.service.clock()
    found: Counter[str] = Counter()
    for item in world.items:
        jobs = world.jobs_of(item)
        if not jobs:
            found["never tried"] += 1
        elif world.protection_of(item, now).state:
            found["stopped"] += 1
        else:
            *_, before, last = jobs
            assert before.ended(now) == "Completed"
            assert now - 86400 < last.starts < now
            found[last.ended(now) or "running"] += 1
    assert found == {word: share * ITEMS // 100 for word, share in NIGHTS.items()}


def test_the_same_numbers_give_the_same_estate() -> None:
    first, second = (estate(vaults=5, items=50, subscriptions=2) for _ in range(2))
    assert first == second


def test_each_subscription_has_job_reads_of_its_own(client: Client) -> None:
    client.azure.configure(job_read_budget=1)
    by_subscription = {
        each.partition("/resourceGroups")[0]: each for each in vaults(client) if "Recovery" in each
    }
    try:
        for _ in range(2):
            answers = [client.get(f"{vault}/backupJobs").status_code for vault in by_subscription.values()]
        assert len(by_subscription) > 1
        assert answers == [429] * len(by_subscription)
        assert client.azure.count(path_contains="/backupJobs", status=200) == len(by_subscription)
    finally:
        client.azure.reset()


def test_seeded_jobs_are_not_started_again_by_an_emulator_that_continues(tmp_path: Path) -> None:
    clock, seed = ManualClock(), estate(vaults=1, items=30)
    with Emulator(clock=clock, seed=seed, directory=tmp_path) as azure:
        before = {job.id: job.starts for job in azure.service.world.jobs.values()}
    clock.advance(3600)
    with Emulator(clock=clock, seed=seed, directory=tmp_path) as azure:
        assert {job.id: job.starts for job in azure.service.world.jobs.values()} == before
        azure.reset()
        assert {job.id for job in azure.service.world.jobs.values()} == {*before}


def test_an_impossible_estate_is_refused() -> None:
    with pytest.raises(ValueError, match="2 vaults, 3 subscriptions"):
        estate(vaults=2, items=1, subscriptions=3)


@pytest.mark.parametrize("name", ["backupJobs", "backupProtectedItems"])
def test_starting_and_listing_cost_four_times_as_much_for_four_times_the_items(name: str) -> None:
    def start(items: int) -> Service:
        return Service(clock=ManualClock(), speed=1, seed=estate(vaults=1, items=items))

    def list_all(service: Service, items: int) -> None:
        service.configure(page_size=10)
        bearer = service.identity.token(service.identity.principals["reader"], "https://management.azure.com")
        version = {"api-version": "2026-07-01"}
        query, listed = version, 0
        while query:
            request = Request(
                method="GET",
                path=f"{service.world.vaults[0].path}/{name}",
                query=query,
                headers={"authorization": f"Bearer {bearer}"},
                body=b"",
                base="https://localhost",
            )
            page = service.answer(request).body
            listed += len(page["value"])
            query = dict(parse_qsl(urlsplit(page.get("nextLink", "")).query))
        assert listed >= items

    started = {items: lines_of(partial(start, items)) for items in (50, 200)}
    listed = {items: lines_of(partial(list_all, start(items), items)) for items in started}
    for cost in (started, listed):
        assert 0 < cost[200] < 5 * cost[50]

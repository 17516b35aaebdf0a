"""One poller for all waits of a triggerer: virtual time, and the emulator's own lists and budgets."""

from __future__ import annotations

import asyncio
import gc
import json
import random
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar, copy_context
from itertools import pairwise
from statistics import mean
from typing import Any, ClassVar
from weakref import WeakSet

import aiohttp
import pytest
from airflow.secrets import BaseSecretsBackend

from airflow_provider_azbackup.core.model.resources import JobRef
from airflow_provider_azbackup.core.wire import Answer, NoResponse, Request, Response
from airflow_provider_azbackup.exceptions import (
    AzureBackupAuthError,
    AzureBackupNotFoundError,
    AzureBackupTimeoutError,
)
from airflow_provider_azbackup.runtime.compat import IS_AIRFLOW_3
from airflow_provider_azbackup.triggerer.poller import joined
from azure_backup_emulator import Emulator
from tests.support.secrets_backends import forget_secrets_backends
from tests.support.virtual import BASE, HOUR, START, Azure, LoopClock, Wait, poller, run, settle, wait_for


async def all_of(azure: Azure, clock: LoopClock, refs: Any, **options: Any) -> list[Wait]:
    """Wait for many jobs with one poller."""
    shared = poller(azure)
    try:
        return await asyncio.gather(*(wait_for(shared, clock, ref, **options) for ref in refs))
    finally:
        await shared.close()


def delays(azure: Azure, waits: list[Wait]) -> list[float]:
    """Seconds from the end of each job to the end of its wait, the shortest first."""
    return sorted(wait.ended - azure.end_of(wait.ref) for wait in waits)


# Reads that do not depend on the number of waits


def test_one_list_answers_all_waits_on_a_vault() -> None:
    async def main(clock: LoopClock) -> None:
        azure = Azure(clock, job_read_budget=100_000)
        waits = await all_of(azure, clock, [azure.start(seconds=1000 + n) for n in range(50)])
        assert {wait.status for wait in waits} == {"Completed"}
        assert azure.looks == []
        assert len(azure.lists) <= 1100 / 60 + 2
        assert delays(azure, waits)[-1] <= 70

    run(main)


def test_hundreds_of_waits_need_no_more_reads_than_two() -> None:
    async def main(clock: LoopClock, waited: int) -> float:
        azure = Azure(clock, page_size=150)
        refs = [azure.start(seconds=1800 + 10 * n) for n in range(150)]
        waits = await all_of(azure, clock, [*refs[: waited - 1], refs[-1]])
        assert {wait.status for wait in waits} == {"Completed"}
        assert azure.throttled == 0
        return len(azure.reads)

    few, many = (run(lambda clock, n=n: main(clock, n)) for n in (2, 150))  # type: ignore[misc]
    assert many <= 1.1 * few


def test_one_wait_alone_reads_its_one_job() -> None:
    async def main(clock: LoopClock) -> None:
        azure = Azure(clock)
        for _ in range(500):
            azure.start(seconds=9000)
        (wait,) = await all_of(azure, clock, [azure.start(seconds=2000)])
        assert (wait.status, azure.lists) == ("Completed", [])
        assert len(azure.looks) <= 2000 / (0.85 * 60) + 2

    run(main)


def test_hundreds_of_waits_on_a_small_budget_are_told_within_the_sweep_it_allows() -> None:
    async def main(clock: LoopClock, page_size: int) -> float:
        azure = Azure(clock, page_size=page_size)
        waits = await all_of(azure, clock, [azure.start(seconds=1800 + 18 * n) for n in range(150)])
        assert {wait.status for wait in waits} == {"Completed"}
        assert azure.throttled == 0
        assert max(azure.per_hour().values()) <= 120
        return delays(azure, waits)[148]

    assert run(lambda clock: main(clock, 150)) <= 1.2 * 60
    assert run(lambda clock: main(clock, 30)) <= 1.2 * 5 * HOUR / 120


@pytest.mark.parametrize("ending", ["CompletedWithWarnings", "CancelledInTransfer", "Failed", "Cancelled"])
def test_an_end_that_a_list_cannot_explain_is_looked_up_once(ending: str) -> None:
    async def main(clock: LoopClock) -> None:
        azure = Azure(clock)
        good, bad = azure.start(seconds=2000), azure.start(seconds=1000, ending=ending)
        _, wait = await all_of(azure, clock, [good, bad])
        assert wait.job is not None
        assert wait.job.tasks  # what a list leaves out
        (look,) = [read for read in azure.looks if bad.job_id in read.path]
        assert look.at - azure.end_of(bad) <= 130

    run(main)


def test_when_hundreds_fail_at_once_the_list_does_where_no_read_is_left_for_each() -> None:
    async def main(clock: LoopClock) -> None:
        azure = Azure(clock)
        waits = await all_of(azure, clock, [azure.start(seconds=1000, ending="Failed") for _ in range(150)])
        assert all(wait.job and wait.job.errors for wait in waits)
        assert delays(azure, waits)[-1] < 300

    run(main)


def test_warnings_are_never_taken_from_a_list_however_many_there_are() -> None:
    async def main(clock: LoopClock) -> None:
        azure = Azure(clock, job_read_budget=10_000)
        refs = [azure.start(seconds=1000, ending="CompletedWithWarnings") for _ in range(40)]
        waits = await all_of(azure, clock, refs)
        assert all(wait.job and wait.job.tasks for wait in waits)
        assert len(azure.looks) == 40

    run(main)


def test_two_waits_on_one_job_share_its_reads_without_a_list() -> None:
    async def main(clock: LoopClock) -> None:
        azure = Azure(clock)
        ref = azure.start(seconds=2000)
        waits = await all_of(azure, clock, [ref, ref, ref])
        assert {wait.status for wait in waits} == {"Completed"}
        assert azure.lists == []
        assert len(azure.looks) <= 2 * (2000 / (0.85 * 60)) + 3

    run(main)


def test_however_a_vault_is_spelt_it_is_read_as_one() -> None:
    async def main(clock: LoopClock) -> None:
        azure = Azure(clock, job_read_budget=10_000)
        one, two = azure.start(seconds=2000), azure.start(seconds=2000)
        shouted = type(two)(vault=type(two.vault).parse(two.vault.path.upper()), job_id=two.job_id.upper())
        waits = await all_of(azure, clock, [one, shouted])
        assert {wait.status for wait in waits} == {"Completed"}
        assert azure.looks == []

    run(main)


def test_only_what_runs_is_listed_where_that_is_cheaper_and_nothing_is_missed() -> None:
    async def main(clock: LoopClock) -> None:
        azure = Azure(clock, page_size=20, job_read_budget=10_000)
        for number in range(300):  # the vault's history of the day
            azure.start(ago=40_000 - 100 * number, seconds=50)
        waits = await all_of(azure, clock, [azure.start(seconds=600 + 700 * n) for n in range(8)])
        assert {wait.status for wait in waits} == {"Completed"}
        assert delays(azure, waits)[-1] <= 130
        cheap = [read for read in azure.lists if "InProgress" in read.filter]
        assert len(cheap) > 0.7 * len(azure.lists)

    run(main)


def test_a_job_that_began_before_the_window_is_looked_up() -> None:
    async def main(clock: LoopClock) -> None:
        azure = Azure(clock, job_read_budget=10_000)
        old = azure.start(ago=31 * 24 * HOUR, seconds=31 * 24 * HOUR + 4000)
        young = azure.start(seconds=3000)
        waits = await all_of(azure, clock, [old, young])
        assert {wait.status for wait in waits} == {"Completed"}
        assert delays(azure, waits)[-1] <= 140
        wanted = [read.filter for read in azure.lists]
        assert wanted and all("startTime eq '2026-08-2" in each for each in wanted[2:])  # 30 days, no more

    run(main)


# Each wait is its own


def test_each_wait_has_its_own_deadline() -> None:
    async def main(clock: LoopClock) -> None:
        azure = Azure(clock)
        refs = [azure.start(ending="Never") for _ in range(20)]
        shared, now = poller(azure), clock.now()
        waits = await asyncio.gather(
            *(
                wait_for(shared, clock, ref, poll_interval=300.0, deadline=now + 1000 + 7 * n)
                for n, ref in enumerate(refs)
            )
        )
        await shared.close()
        assert all(isinstance(wait.error, AzureBackupTimeoutError) for wait in waits)
        late = [wait.ended - now - 1000 - 7 * n for n, wait in enumerate(waits)]
        assert min(late) >= 0 and max(late) <= 61
        assert len(azure.reads) < 40

    run(main)


@pytest.mark.parametrize("seed", range(12))
def test_a_job_that_ends_just_before_the_deadline_is_seen_in_time_even_by_a_slow_wait(seed: int) -> None:
    random.seed(seed)  # what waits spread their looks by

    async def main(clock: LoopClock) -> None:
        azure = Azure(clock)
        other, ref = azure.start(seconds=9000), azure.start(seconds=1990)
        shared = poller(azure)
        _, wait = await asyncio.gather(
            wait_for(shared, clock, other, poll_interval=1200.0),
            wait_for(shared, clock, ref, poll_interval=1200.0, deadline=clock.now() + 2000),
        )
        await shared.close()
        assert wait.status == "Completed"
        assert wait.ended - START <= 2020

    run(main)


def test_a_wait_without_news_costs_nothing_but_a_word_now_and_then() -> None:
    async def main(clock: LoopClock) -> None:
        azure = Azure(clock)
        waits = await all_of(azure, clock, [azure.start(seconds=9000) for _ in range(5)])
        assert {wait.status for wait in waits} == {"Completed"}
        assert all(9000 / 1000 <= len(wait.notices) <= 9000 / 900 + 3 for wait in waits)

    run(main)


def test_a_stray_refusal_is_forgotten_when_the_job_was_seen_again() -> None:
    async def main(clock: LoopClock) -> None:
        azure = Azure(clock)
        for after in (5, 8, 11, 14):  # each long after the one before
            azure.service.add_fault(path="/backupJobs", status=403, times=1, after=after)
        waits = await all_of(azure, clock, [azure.start(seconds=4000) for _ in range(10)])
        assert {wait.status for wait in waits} == {"Completed"}

    run(main)


def test_each_wait_has_its_own_interval_and_all_profit_from_the_shortest() -> None:
    async def main(clock: LoopClock) -> None:
        azure = Azure(clock, job_read_budget=100_000)
        fast, slow = azure.start(seconds=3600), azure.start(seconds=2000)
        shared = poller(azure)
        quick, calm = await asyncio.gather(
            wait_for(shared, clock, fast, poll_interval=30.0),
            wait_for(shared, clock, slow, poll_interval=1000.0),
        )
        await shared.close()
        assert calm.ended - azure.end_of(slow) <= 40
        assert calm.ended < quick.ended
        assert 2000 / 36 <= len(azure.lists) <= 2000 / 25

    run(main)


def test_an_interval_is_met_when_the_budget_is_rich() -> None:
    async def main(clock: LoopClock) -> None:
        azure = Azure(clock, job_read_budget=100_000, latency=0.05)
        waits = await all_of(azure, clock, [azure.start(seconds=2000) for _ in range(30)], poll_interval=10.0)
        assert {wait.status for wait in waits} == {"Completed"}
        at = [read.at for read in azure.lists][60:]  # by then it has seen how rich
        gaps = [later - now for now, later in pairwise(at)]
        assert mean(gaps) == pytest.approx(10.0, rel=0.02)
        assert max(gaps) < 11

    run(main)


# One bad vault


@pytest.mark.parametrize(("status", "error"), [(403, AzureBackupAuthError), (404, AzureBackupNotFoundError)])
@pytest.mark.parametrize("waits", [1, 30])
def test_a_vault_that_refuses_ends_its_waits_soon_and_hurts_no_other(
    status: int, error: type[Exception], waits: int
) -> None:
    async def main(clock: LoopClock) -> None:
        azure = Azure(clock, vaults=2)
        shared = poller(azure)
        bad = [wait_for(shared, clock, azure.start(0, seconds=5000)) for _ in range(waits)]
        good = [wait_for(shared, clock, azure.start(1, seconds=5000)) for _ in range(30)]
        everything = asyncio.gather(*bad, *good)
        await asyncio.sleep(1000)
        azure.service.add_fault(path="vault-00", status=status, times=None)
        ended = await everything
        await shared.close()
        assert all(isinstance(wait.error, error) for wait in ended[:waits])
        assert max(wait.ended for wait in ended[:waits]) - START - 1000 <= 240
        assert {wait.status for wait in ended[waits:]} == {"Completed"}
        assert all(fault is None for wait in ended[waits:] for _, _, fault in wait.notices)

    run(main)


def test_a_stray_refusal_ends_no_wait() -> None:
    async def main(clock: LoopClock) -> None:
        azure = Azure(clock)
        azure.service.add_fault(path="/backupJobs", status=403, times=1, after=5)
        waits = await all_of(azure, clock, [azure.start(seconds=2000) for _ in range(10)])
        assert {wait.status for wait in waits} == {"Completed"}

    run(main)


def test_a_slow_vault_does_not_hold_up_another() -> None:
    async def main(clock: LoopClock) -> None:
        azure = Azure(clock, vaults=2, job_read_budget=10_000)
        answer = azure.answer

        async def slow(call: Request) -> Answer:
            if "vault-00" in call.path:
                await asyncio.sleep(250)
            return await answer(call)

        azure.answer = slow  # type: ignore[method-assign]
        shared = poller(azure)
        waits = await asyncio.gather(
            *(wait_for(shared, clock, azure.start(n % 2, seconds=2000)) for n in range(20))
        )
        await shared.close()
        assert {wait.status for wait in waits} == {"Completed"}
        assert delays(azure, waits[1::2])[-1] <= 75

    run(main)


# Lists that break


def _lose(azure: Azure, meant: Callable[[Request], bool], times: float) -> None:
    left = times

    def instead(call: Request) -> Answer | None:
        nonlocal left
        if left and meant(call):
            left -= 1
            return NoResponse(reason="the connection broke", at=azure.clock.now())
        return None

    azure.instead = instead


def _is_later_page(call: Request) -> bool:
    return "$skipToken" in dict(call.query)


@pytest.mark.parametrize("times", [1, float("inf")], ids=["once", "always"])
@pytest.mark.parametrize(
    "meant",
    [_is_later_page, lambda call: call.path.endswith("/backupJobs")],
    ids=["a later page", "every page"],
)
def test_a_lost_page_ends_no_wait_and_is_gone_round(times: float, meant: Callable[[Request], bool]) -> None:
    async def main(clock: LoopClock) -> None:
        azure = Azure(clock, page_size=10, job_read_budget=10_000)
        _lose(azure, meant, times)
        waits = await all_of(azure, clock, [azure.start(seconds=2000 + n) for n in range(30)])
        assert {wait.status for wait in waits} == {"Completed"}
        assert delays(azure, waits)[-1] <= 300

    run(main)


def test_an_outage_of_everything_costs_few_reads_however_many_wait() -> None:
    async def main(clock: LoopClock) -> None:
        azure = Azure(clock, job_read_budget=100_000)
        refs = [azure.start(seconds=4000) for _ in range(100)]
        waiting = asyncio.ensure_future(all_of(azure, clock, refs))
        await asyncio.sleep(1000)
        azure.service.add_fault(times=None, status=503)
        before = len(azure.reads)
        await asyncio.sleep(1800)
        assert len(azure.reads) - before <= 2.2 * 1800 / 60
        azure.service.clear_faults()
        waits = await waiting
        assert {wait.status for wait in waits} == {"Completed"}
        assert delays(azure, waits)[-1] <= 130

    run(main)


@pytest.mark.parametrize("link", ["https://elsewhere.example", BASE])
def test_a_link_to_another_host_or_to_the_same_page_is_not_followed(link: str) -> None:
    async def main(clock: LoopClock) -> None:
        azure = Azure(clock, page_size=100, job_read_budget=10_000)

        def astray(call: Request) -> Answer | None:
            if not call.path.endswith("/backupJobs"):
                return None
            found = azure._answer(call)
            assert isinstance(found, Response)
            body = {**json.loads(found.text), "nextLink": f"{link}{call.path}?$skipToken=round"}
            return Response(
                status=200, at=found.at, url=found.url, headers=found.headers, text=json.dumps(body)
            )

        azure.instead = astray
        waits = await all_of(azure, clock, [azure.start(seconds=1000) for _ in range(10)])
        assert {wait.status for wait in waits} == {"Completed"}
        assert len(azure.lists) <= 2 * 1000 / 60 + 4

    run(main)


def test_garbage_in_place_of_a_list_ends_no_wait() -> None:
    async def main(clock: LoopClock) -> None:
        azure = Azure(clock, job_read_budget=10_000)
        for garbage in ("", "[]", '{"value": 5}', '{"value": [1, null, {}, {"name": 3}]}', "<html>"):
            azure.service.add_fault(path="/backupJobs[?]", garbage=garbage, times=3)
        waits = await all_of(azure, clock, [azure.start(seconds=2500) for _ in range(10)])
        assert {wait.status for wait in waits} == {"Completed"}

    run(main)


def test_a_list_that_lags_behind_delays_and_nothing_else() -> None:
    async def main(clock: LoopClock) -> None:
        azure = Azure(clock, job_read_budget=10_000)
        waits = await all_of(azure, clock, [azure.start(seconds=1000, visible_after=900) for _ in range(20)])
        assert {wait.status for wait in waits} == {"Completed"}
        assert all(fault is None for wait in waits for _, _, fault in wait.notices)
        assert delays(azure, waits)[-1] <= 130

    run(main)


def test_a_job_that_no_list_ever_shows_is_looked_up() -> None:
    async def main(clock: LoopClock) -> None:
        azure = Azure(clock)
        azure.start(seconds=9000)
        hidden = azure.start(seconds=2000, visible_after=1e9)
        waits = await all_of(azure, clock, [hidden, azure.start(seconds=3000)])
        assert {wait.status for wait in waits} == {"Completed"}
        assert delays(azure, waits)[-1] <= 200

    run(main)


def test_a_deleted_job_ends_its_own_wait_alone() -> None:
    async def main(clock: LoopClock) -> None:
        azure = Azure(clock)
        gone, *others = (azure.start(seconds=4000) for _ in range(10))
        waiting = asyncio.ensure_future(all_of(azure, clock, [gone, *others], poll_interval=300.0))
        await asyncio.sleep(1000)
        azure.forget(gone)
        await waiting
        first, *rest = waiting.result()
        assert isinstance(first.error, AzureBackupNotFoundError)
        assert first.ended - START - 1000 <= 300 * 1.15 + 120
        assert {wait.status for wait in rest} == {"Completed"}

    run(main)


@pytest.mark.parametrize("skew", [-900.0, -120.0, 120.0, 900.0])
def test_clocks_that_differ_by_minutes_hide_no_job(skew: float) -> None:
    async def main(clock: LoopClock) -> None:
        azure = Azure(clock, clock_skew=skew, job_read_budget=10_000)
        waits = await all_of(azure, clock, [azure.start(seconds=1500 + n) for n in range(20)])
        assert {wait.status for wait in waits} == {"Completed"}
        assert len(azure.looks) <= 20
        assert delays(azure, waits)[-1] <= 130

    run(main)


def test_a_wait_that_begins_anew_after_a_restart_goes_on_where_it_was() -> None:
    async def main(clock: LoopClock) -> None:
        azure = Azure(clock)
        refs = [azure.start(seconds=3000) for _ in range(50)]
        options = {"since": clock.now(), "deadline": clock.now() + 4000}
        first = asyncio.ensure_future(all_of(azure, clock, refs, **options))
        await asyncio.sleep(1500)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        await asyncio.sleep(200)
        waits = await all_of(azure, clock, refs, **options)
        assert {wait.status for wait in waits} == {"Completed"}
        assert azure.opened == azure.closed == 2
        assert azure.throttled == 0

    run(main)


# A budget


def test_a_refusal_of_too_many_reads_is_told_to_all_and_obeyed_by_all() -> None:
    async def main(clock: LoopClock) -> None:
        azure = Azure(clock, vaults=3)
        shared = poller(azure)
        waits = [wait_for(shared, clock, azure.start(n % 3, seconds=4000)) for n in range(30)]
        everything = asyncio.gather(*waits)
        await asyncio.sleep(1000)
        azure.service.add_fault(path="/backupJobs", status=429, retry_after=700, times=1)
        ended = await everything
        await shared.close()
        assert {wait.status for wait in ended} == {"Completed"}
        refused = next(read.at for read in azure.reads if read.status == 429)
        later = [read.at for read in azure.reads if read.at > refused + 1]
        assert later[0] - refused >= 700
        assert all(any(fault and fault.status == 429 for _, _, fault in wait.notices) for wait in ended)

    run(main)


def _slice(azure: Azure, begin: float, end: float) -> int:
    return sum(begin <= read.at - START < end for read in azure.reads)


def test_two_triggerers_with_one_budget_throttle_neither_and_keep_their_share() -> None:
    async def main(clock: LoopClock) -> None:
        azure = Azure(clock, vaults=4)
        both = [poller(azure, {}), poller(azure, {})]
        waits = await asyncio.gather(
            *(wait_for(both[n % 2], clock, azure.start((n // 2) % 4, seconds=4 * HOUR)) for n in range(80))
        )
        for each in both:
            await each.close()
        assert {wait.status for wait in waits} == {"Completed"}
        assert azure.throttled == 0
        assert max(_slice(azure, hour * HOUR, (hour + 1) * HOUR) for hour in range(4)) <= 126

    run(main)


def test_connections_of_one_identity_share_a_budget() -> None:
    async def main(clock: LoopClock) -> None:
        azure = Azure(clock, vaults=2)
        queues: dict[Any, Any] = {}
        both = [poller(azure, queues), poller(azure, queues)]
        waits = await asyncio.gather(
            *(wait_for(both[n % 2], clock, azure.start(n % 2, seconds=2 * HOUR)) for n in range(20))
        )
        for each in both:
            await each.close()
        assert {wait.status for wait in waits} == {"Completed"}
        assert len(queues) == 1
        assert max(azure.per_hour().values()) <= 121

    run(main)


@pytest.mark.parametrize("share", [0.2, 0.8])
def test_people_find_their_share_untouched(share: float) -> None:
    async def main(clock: LoopClock) -> None:
        azure = Azure(clock, vaults=5)
        shared = poller(azure, job_read_share=str(share))
        waits = [wait_for(shared, clock, azure.start(n % 5, seconds=3 * HOUR)) for n in range(50)]
        everything = asyncio.gather(*waits)
        person, refused = azure.hook(), 0
        look = Request(method="GET", path=f"{azure.vaults[0].path}/backupJobs")
        for _ in range(int(3 * HOUR / 130)):  # 27 or 28 an hour
            await asyncio.sleep(130)
            answer = await person.read(look)
            refused += isinstance(answer, Response) and answer.status == 429
        ended = await everything
        await shared.close()
        assert (refused, azure.throttled) == (0, 0)
        assert {wait.status for wait in ended} == {"Completed"}

    run(main)


def test_when_people_use_all_of_it_waits_go_on_slowly_and_recover() -> None:
    async def main(clock: LoopClock) -> None:
        azure = Azure(clock)
        shared = poller(azure)
        everything = asyncio.gather(
            *(wait_for(shared, clock, azure.start(seconds=2.5 * HOUR)) for _ in range(20))
        )
        await asyncio.sleep(600)
        person = azure.hook()
        for _ in range(140):
            await person.read(Request(method="GET", path=f"{azure.vaults[0].path}/backupJobs"))
        ended = await everything
        await shared.close()
        assert {wait.status for wait in ended} == {"Completed"}
        assert azure.throttled <= 12  # most are the person's
        assert delays(azure, ended)[-1] <= 150

    run(main)


def test_when_many_vaults_compete_each_gets_its_fair_part() -> None:
    async def main(clock: LoopClock) -> None:
        azure = Azure(clock, vaults=20)
        shared = poller(azure)
        waits = await asyncio.gather(
            *(wait_for(shared, clock, azure.start(n % 20, seconds=2000 + 50 * n)) for n in range(200))
        )
        await shared.close()
        assert {wait.status for wait in waits} == {"Completed"}
        assert azure.throttled == 0
        late = [wait.ended - azure.end_of(wait.ref) for wait in waits]
        by_vault = [mean(late[n::20]) for n in range(20)]
        assert max(by_vault) <= 2 * mean(by_vault)
        assert max(late) <= 1.3 * 20 * 31

    run(main)


# Coming and going


def test_waits_come_and_go_and_are_cancelled_at_any_moment() -> None:
    async def main(clock: LoopClock) -> None:
        chance = random.Random(7)
        azure = Azure(clock, vaults=3, job_read_budget=2000)
        shared = poller(azure)

        async def one(number: int) -> Wait | None:
            await asyncio.sleep(chance.random() * 3000)
            ref = azure.start(chance.randrange(3), seconds=100 + chance.random() * 3000)
            task = asyncio.ensure_future(wait_for(shared, clock, ref))
            if number % 2:
                return await task
            await asyncio.wait([task], timeout=chance.random() * 500)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            return None

        waits = [wait for wait in await asyncio.gather(*map(one, range(200))) if wait]
        await shared.close()
        assert {wait.status for wait in waits} == {"Completed"}
        assert delays(azure, waits)[-1] <= 200
        assert shared._vaults == {}

    run(main)


def test_a_read_that_breaks_in_an_unforeseen_way_is_a_passing_fault_to_all() -> None:
    async def main(clock: LoopClock) -> None:
        azure = Azure(clock)
        broken = 0

        def crash(call: Request) -> Answer | None:
            nonlocal broken
            if 1000 < clock.now() - START < 1200:
                broken += 1
                raise RuntimeError("a bug of ours")
            return None

        azure.instead = crash
        waits = await all_of(azure, clock, [azure.start(seconds=3000) for _ in range(10)])
        assert broken
        assert {wait.status for wait in waits} == {"Completed"}
        assert all(any("a bug of ours" in str(fault) for _, _, fault in wait.notices) for wait in waits)

    run(main)


# The connection that waits share, on a real event loop


# Left by tests of processes that die.
OTHERS: WeakSet[aiohttp.ClientSession] = WeakSet()


def _open_sessions() -> int:
    gc.collect()
    return sum(not session.closed for session in _sessions() if session not in OTHERS)


def _sessions() -> Iterator[aiohttp.ClientSession]:
    # By type(): to ask some objects of Airflow for their class makes them import what they stand for.
    return (each for each in gc.get_objects() if type(each) is aiohttp.ClientSession)


def _nothing_is_left() -> bool:
    return asyncio.all_tasks() == {asyncio.current_task()} and _open_sessions() == 0


@pytest.fixture
def look(azure: Emulator, clock: Any) -> Callable[..., Any]:
    """Join the poller of a connection and wait for a job of ten minutes."""
    OTHERS.update(_sessions())

    async def look(conn_id: str = "azure_backup_default", seconds: float = 600.0) -> Any:
        job_id = azure.start_job("vm-good", seconds=seconds)
        ref = JobRef.parse(f"{azure.service.world.vaults[0].path}/backupJobs/{job_id}")
        async with joined(conn_id, deadline=clock() + HOUR) as shared:
            return await shared.watch_job(
                ref,
                poll_interval=60.0,
                deadline=clock() + HOUR,
                since=clock(),
                on_read=lambda *_: None,
                first_pause=15.0,
            )

    return look


def test_waits_that_begin_in_one_moment_come_in_one_by_one(azure: Emulator, clock: Any) -> None:
    """As after a restart: others on the event loop have their turns between them."""

    async def main() -> None:
        turns, came = 0, list[int]()

        async def come() -> None:
            async with joined("azure_backup_default", deadline=clock() + HOUR):
                came.append(turns)
                await asyncio.sleep(0)

        waits = [asyncio.ensure_future(come()) for _ in range(100)]
        while not all(wait.done() for wait in waits):
            await asyncio.sleep(0)
            turns += 1
        assert max(map(came.count, came)) <= 2
        await settle()

    asyncio.run(main())


def test_waits_share_one_client_and_the_last_one_out_closes_it(
    azure: Emulator, look: Callable[..., Any]
) -> None:
    async def main() -> None:
        tasks = [asyncio.ensure_future(look(seconds=600 + 100 * n)) for n in range(5)]
        most = seen = 0
        while not all(task.done() for task in tasks):
            await asyncio.sleep(0)
            if (asked := azure.count("GET", "/backupJobs")) > seen + 4:
                seen, most = asked, max(most, _open_sessions())
        assert most == 1
        assert {task.result().status for task in tasks} == {"Completed"}
        await settle()
        assert _nothing_is_left()
        assert (await look()).status == "Completed"  # and the next one opens it again
        await settle()
        assert _nothing_is_left()

    asyncio.run(main())


# Teams that share a triggerer

TEAM: ContextVar[str] = ContextVar("team")


class SecretsOfTeams(BaseSecretsBackend):
    """Keeps another connection under the same id for each team."""

    connections: ClassVar[dict[str, dict[str, Any]]] = {}

    def get_conn_value(self, conn_id: str, **_: Any) -> str | None:
        return json.dumps(self.connections[TEAM.get()]) if conn_id == "shared" else None


@pytest.fixture
def teams(azure: Emulator, monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    """Three teams: two have the same settings, and the third has an identity without rights."""
    monkeypatch.setenv("AIRFLOW__SECRETS__BACKEND", f"{__name__}.SecretsOfTeams")
    forget_secrets_backends(monkeypatch)
    reader = azure.connection()
    teams = {"red": reader, "blue": reader, "green": azure.connection("nobody")}
    monkeypatch.setattr(SecretsOfTeams, "connections", teams)
    return teams


async def looks_of(teams: dict[str, dict[str, Any]], look: Callable[..., Any]) -> dict[str, Any]:
    """Wait for a job for each team at the same time; return the status or the error."""

    def begin(team: str) -> asyncio.Task[Any]:
        variables = copy_context()
        variables.run(TEAM.set, team)
        return asyncio.get_running_loop().create_task(look("shared"), context=variables)

    ended = await asyncio.gather(*map(begin, teams), return_exceptions=True)
    await settle()
    assert _nothing_is_left()
    return dict(zip(teams, ended, strict=True))


@pytest.mark.skipif(not IS_AIRFLOW_3, reason="Airflow 2 has no teams")
def test_teams_do_not_share_an_identity_under_one_connection_id(
    teams: dict[str, dict[str, Any]],
    look: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__MULTI_TEAM", "True")
    ended = asyncio.run(looks_of(teams, look))
    assert (ended["red"].status, ended["blue"].status) == ("Completed", "Completed")
    assert isinstance(ended["green"], AzureBackupAuthError)
    assert all(team["password"] not in caplog.text for team in teams.values())


@pytest.mark.skipif(not IS_AIRFLOW_3, reason="Airflow 2 has no teams")
def test_a_rotated_secret_is_read_for_the_team_that_the_wait_is_of(
    teams: dict[str, dict[str, Any]],
    look: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    azure: Emulator,
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__MULTI_TEAM", "True")

    async def main() -> None:
        variables = copy_context()
        variables.run(TEAM.set, "red")
        wait = asyncio.get_running_loop().create_task(look("shared", HOUR / 2), context=variables)
        while not azure.count("GET", "/backupJobs", 200) and not wait.done():
            await asyncio.sleep(0)
        azure.configure(expired_secrets=["operator"])
        azure.fault(path="/backupJobs", expire_token=True)
        teams["red"] = azure.connection("reader")
        assert (await wait).status == "Completed"

    asyncio.run(main())


def test_a_wait_may_be_cancelled_at_any_moment_while_the_connection_is_opened(
    look: Callable[..., Any],
) -> None:
    async def main() -> None:
        for steps in [*range(0, 30, 3), *range(30, 300, 53)]:
            first, second = asyncio.ensure_future(look()), asyncio.ensure_future(look())
            for _ in range(steps):
                await asyncio.sleep(0)
            first.cancel()
            (ended,) = await asyncio.gather(first, return_exceptions=True)
            assert isinstance(ended, asyncio.CancelledError) or ended.status == "Completed"
            if steps % 2:
                second.cancel()
                await asyncio.gather(second, return_exceptions=True)
            else:
                assert (await second).status == "Completed"
            await settle()
            assert asyncio.all_tasks() == {asyncio.current_task()}, steps
        assert _nothing_is_left()

    asyncio.run(main())


def test_a_connection_that_cannot_be_read_fails_those_who_wait_and_is_tried_anew(
    azure: Emulator, connect: Callable[..., None], look: Callable[..., Any]
) -> None:
    async def main() -> None:
        ended = await asyncio.gather(look("late_connection"), look("late_connection"), return_exceptions=True)
        assert all("late_connection" in str(each) for each in ended)
        connect(azure.connection(), "late_connection")
        assert (await look("late_connection")).status == "Completed"
        await settle()
        assert _nothing_is_left()

    asyncio.run(main())


def test_each_event_loop_has_a_poller_of_its_own(look: Callable[..., Any]) -> None:
    found: list[str] = []

    def triggerer() -> None:
        found.append(context.copy().run(asyncio.run, look()).status)

    context = copy_context()
    threads = [threading.Thread(target=triggerer) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["Completed", "Completed"]

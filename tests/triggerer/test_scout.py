"""Resource Graph as a scout of the poller: ends are known sooner, and never because it said so."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_azbackup.core.conversations.matching import JobMatcher
from airflow_provider_azbackup.core.model.resources import JobRef
from airflow_provider_azbackup.core.wire import Answer, NoResponse, Request, Response
from tests.support.virtual import BASE, HOUR, START, Azure, LoopClock, Wait, poller, run, wait_for

LOGGER = "airflow_provider_azbackup.triggerer.scouting"
# `make test` takes a sample; CI takes all in its other jobs.
SEEDS = 20 if "AZBACKUP_SAMPLE" in os.environ else 200
BATCH = 10


async def all_of(
    azure: Azure, clock: LoopClock, refs: Any, *, scout: bool = True, **options: Any
) -> list[Wait]:
    """Wait for many jobs with one poller."""
    shared = poller(azure, resource_graph=str(scout).lower())
    try:
        return await asyncio.gather(*(wait_for(shared, clock, ref, **options) for ref in refs))
    finally:
        await shared.close()


def spread_over(azure: Azure, vaults: int, waits: int, seed: int = 1) -> list[JobRef]:
    """Jobs in many vaults that end at any time in the second hour."""
    chance = random.Random(seed)
    return [azure.start(n % vaults, seconds=HOUR * (1 + chance.random())) for n in range(waits)]


def delays(azure: Azure, waits: list[Wait]) -> list[float]:
    assert {wait.status for wait in waits} == {"Completed"}
    return sorted(wait.ended - azure.end_of(wait.ref) for wait in waits)


def many_vaults(
    *, scout: bool = True, vaults: int = 20, waits: int = 40, **settings: Any
) -> tuple[Azure, list[float]]:
    """Wait in many vaults of one subscription; the emulator, and how long after each end it was known."""

    async def main(clock: LoopClock) -> tuple[Azure, list[float]]:
        azure = Azure(clock, vaults=vaults, **settings)
        waited = await all_of(azure, clock, spread_over(azure, vaults, waits), scout=scout)
        return azure, delays(azure, waited)

    return run(main)


# Where reads are scarce, they go where something has happened


def test_in_many_vaults_an_end_is_known_after_a_sweep_instead_of_after_a_round_of_all_vaults() -> None:
    without, late = many_vaults(scout=False)
    assert without.queries == []
    assert late[-2] > 400
    azure, soon = many_vaults()
    assert soon[-2] < 100
    assert len(azure.reads) < len(without.reads)
    assert azure.throttled == 0
    # One query a minute, whatever the number of vaults.
    assert len(azure.queries) <= 2 * 60 + 1


def test_it_is_not_asked_unless_the_connection_says_so() -> None:
    async def main(clock: LoopClock) -> None:
        azure = Azure(clock, vaults=2)
        shared = poller(azure)
        await asyncio.gather(*(wait_for(shared, clock, azure.start(n, seconds=900)) for n in range(2)))
        await shared.close()
        assert azure.queries == []

    run(main)


def test_many_ends_in_one_vault_are_read_from_one_list() -> None:
    async def main(clock: LoopClock) -> None:
        azure = Azure(clock, vaults=4)
        crowd = [azure.start(0, seconds=1800) for _ in range(30)]
        others = [azure.start(n, seconds=3600) for n in (1, 2, 3)]
        await all_of(azure, clock, [*crowd, *others])
        assert not [read for read in azure.looks if crowd[0].vault.path in read.path]

    run(main)


def test_an_end_that_a_list_cannot_explain_is_read_by_itself_at_once() -> None:
    async def main(clock: LoopClock) -> None:
        azure = Azure(clock, vaults=20)
        refs = spread_over(azure, 20, 40)
        bad = azure.start(3, seconds=4000, ending="Failed")
        *_, wait = await all_of(azure, clock, [*refs, bad])
        assert wait.status == "Failed"
        assert wait.job and wait.job.tasks
        assert wait.ended - azure.end_of(bad) < 100

    run(main)


def test_a_job_that_is_looked_for_is_found_when_it_is_first_shown() -> None:
    async def main(clock: LoopClock, scout: bool) -> float:
        azure = Azure(clock, machines=2)
        shared = poller(azure, resource_graph=str(scout).lower())
        search = asyncio.ensure_future(
            shared.find_backup(
                JobMatcher.of_vm(azure.machine(1)),
                after=START,
                known=frozenset(),
                poll_interval=1200.0,
                first_pause=0.0,
                until=START + 3 * HOUR,
            )
        )
        await asyncio.sleep(1500)
        azure.start(2, seconds=HOUR)  # of another VM
        lists = len(azure.lists)
        await asyncio.sleep(300)
        assert len(azure.lists) == lists
        began = clock.now()
        ref = azure.start(1, seconds=HOUR)
        found = await search
        assert found
        assert found.ref.job_id == ref.job_id
        await shared.close()
        return clock.now() - began

    assert run(lambda clock: main(clock, scout=True)) < 80
    assert run(lambda clock: main(clock, scout=False)) > 200


def test_a_watch_on_a_vault_lists_it_when_something_is_new_there() -> None:
    async def main(clock: LoopClock) -> None:
        azure = Azure(clock, vaults=2)
        shared = poller(azure, resource_graph="true")
        watch = shared.follow(azure.vaults[0], apart=1800.0, after=lambda: START - HOUR)
        assert (await anext(watch)).jobs == ()
        await asyncio.sleep(300)
        azure.start(0, seconds=60)
        azure.start(1, seconds=60)
        began = clock.now()
        assert len((await anext(watch)).jobs) == 1
        assert clock.now() - began < 80
        await watch.aclose()
        await shared.close()

    run(main)


# It only causes a look


def graph(*rows: dict[str, Any], at: float, **more: Any) -> Response:
    return Response(status=200, at=at, url=BASE, text=json.dumps({"data": rows, **more}))


def test_what_it_says_of_a_job_ends_no_wait() -> None:
    async def main(clock: LoopClock) -> None:
        azure = Azure(clock, vaults=3)
        refs = [azure.start(n % 3, seconds=3000 + 100 * n) for n in range(6)]

        def over(call: Request) -> Answer | None:
            """Claim from the start that all jobs have completed."""
            if "ResourceGraph" not in call.path:
                return None
            rows = [{"id": ref.path, "status": "Completed"} for ref in (*refs, *refs)]
            return graph(*rows, at=clock.now())

        azure.instead = over
        late = delays(azure, await all_of(azure, clock, refs))
        assert late[0] > 0
        # And each wait fell for it once.
        assert len(azure.looks) <= 2 * len(refs)

    run(main)


def test_without_its_rows_ends_are_known_by_the_usual_reads() -> None:
    _, usual = many_vaults(scout=False, vaults=6, waits=18)
    azure, late = many_vaults(vaults=6, waits=18, resource_graph={"gaps": 1.0})
    assert azure.queries
    assert late[-1] < 4 * usual[-1]


def test_a_copy_that_is_late_costs_no_more_than_its_lag() -> None:
    _, late = many_vaults(resource_graph={"lag": 200.0})
    assert late[-2] < 200 + 100


# Any answer is a normal one

FAULTS: dict[str, Callable[[float], Answer]] = {
    "no right": lambda at: Response(status=403, at=at, text='{"error": {"code": "AuthorizationFailed"}}'),
    "throttled": lambda at: Response(
        status=429, at=at, headers={"x-ms-user-quota-resets-after": "00:00:07"}, text="{}"
    ),
    "broken": lambda at: Response(status=500, at=at, text="<html>"),
    "no answer": lambda at: NoResponse(reason="timeout", at=at),
    "nonsense": lambda at: Response(status=200, at=at, text="[[[["),
}


@pytest.mark.parametrize("name", FAULTS)
def test_while_it_does_not_answer_vaults_are_listed_as_usual(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, LOGGER)

    async def main(clock: LoopClock, scout: bool) -> list[float]:
        azure = Azure(clock, vaults=4)

        def fault(call: Request) -> Answer | None:
            return FAULTS[name](clock.now()) if "ResourceGraph" in call.path else None

        azure.instead = fault
        return delays(azure, await all_of(azure, clock, spread_over(azure, 4, 12), scout=scout))

    # Four vaults, of which one is listed about every half minute. When in that time a job ends is chance.
    for scout in (False, True):
        late = run(lambda clock, scout=scout: main(clock, scout=scout))
        assert late[-1] < 4 * 34
    (record,) = [each for each in caplog.records if "Resource Graph" in each.message]
    assert record.levelname == "WARNING"
    assert "Reader on the vaults" in record.message
    assert "resource_graph" in record.message


def test_one_line_is_logged_when_it_stops_and_one_when_it_resumes(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER)

    async def main(clock: LoopClock) -> None:
        azure = Azure(clock, vaults=4)

        def fault(call: Request) -> Answer | None:
            lost = START + 1200 < clock.now() < START + 4800
            return FAULTS["broken"](clock.now()) if lost and "ResourceGraph" in call.path else None

        azure.instead = fault
        assert delays(azure, await all_of(azure, clock, spread_over(azure, 4, 12)))

    run(main)
    levels = [each.levelname for each in caplog.records if "Resource Graph" in each.message]
    assert levels == ["WARNING", "INFO"]


def test_a_fault_of_ours_in_it_disturbs_no_wait(caplog: pytest.LogCaptureFixture) -> None:
    async def main(clock: LoopClock) -> None:
        azure = Azure(clock, vaults=2)

        def fault(call: Request) -> Answer | None:
            if "ResourceGraph" in call.path:
                raise RuntimeError("a mistake")
            return None

        azure.instead = fault
        assert delays(azure, await all_of(azure, clock, spread_over(azure, 2, 6)))

    run(main)
    assert "a mistake" in caplog.text


# Seeded nights: whatever it leaves out, delays, doubles or refuses, against what really happened


def live_through(seed: int) -> None:
    chance = random.Random(f"scout {seed}")
    random.seed(seed)  # what the provider spreads its pauses by
    vaults = chance.randint(1, 6)
    waits = chance.randint(1, 8)
    copy = {
        "lag": chance.choice([0.0, 30.0, 400.0, 5000.0]),
        "gaps": chance.choice([0.0, 0.2, 1.0]),
        "doubles": chance.choice([0.0, 0.5, 1.0]),
        "hidden": [f"vault-{n:02}" for n in range(vaults) if chance.random() < 0.2],
    }
    endings = [chance.choice(["Completed"] * 6 + ["Failed", "CompletedWithWarnings"]) for _ in range(waits)]
    begins = [START + chance.uniform(0, HOUR) for _ in range(chance.randint(0, 3))]
    silences = [(begin, begin + chance.uniform(60, HOUR)) for begin in begins]
    what = chance.choice([*FAULTS])

    async def main(clock: LoopClock) -> None:
        azure = Azure(
            clock,
            vaults=vaults,
            page_size=chance.choice([2, 200]),
            job_read_budget=chance.choice([150, 150, 1000]),
            resource_graph=copy,
        )
        refs = [
            azure.start(chance.randrange(vaults), seconds=chance.uniform(60, HOUR), ending=ending)
            for ending in endings
        ]

        def fault(call: Request) -> Answer | None:
            lost = any(begin <= clock.now() <= end for begin, end in silences)
            return FAULTS[what](clock.now()) if lost and "ResourceGraph" in call.path else None

        azure.instead = fault
        waited = await all_of(azure, clock, refs, poll_interval=chance.choice([30.0, 60.0]))
        for wait, ending in zip(waited, endings, strict=True):
            end = azure.end_of(wait.ref)
            assert wait.status == ending, f"seed {seed}: {wait}"
            # A read of this very vault came between the end and the moment when it was known.
            home = wait.ref.vault.path.casefold()
            assert any(
                end <= read.at <= wait.ended and read.status == 200 and home in read.path.casefold()
                for read in azure.reads
            ), f"seed {seed}: {wait} was over at {end}"
            assert wait.ended - end < 4 * HOUR, f"seed {seed}: {wait}"
        assert azure.throttled == 0, f"seed {seed}"

    run(main)


@pytest.mark.parametrize("first", range(0, SEEDS, BATCH))
def test_every_end_is_known_and_none_before_the_job_was_read(first: int) -> None:
    logging.disable(logging.CRITICAL)
    try:
        for seed in range(first, first + BATCH):
            live_through(seed)
    finally:
        logging.disable(logging.NOTSET)

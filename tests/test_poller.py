"""One poller for all waits of a triggerer: hours of virtual time, and the emulator's own lists and budgets."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.virtual import Azure, LoopClock, Wait, poller, run, wait_for


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
        azure = Azure(clock, page_size=300)
        refs = [azure.start(seconds=1800 + 10 * n) for n in range(300)]
        waits = await all_of(azure, clock, [*refs[: waited - 1], refs[-1]])
        assert {wait.status for wait in waits} == {"Completed"}
        assert azure.throttled == 0
        return len(azure.reads)

    few, many = (run(lambda clock, n=n: main(clock, n)) for n in (2, 300))  # type: ignore[misc]
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

"""When a backup is likely to end, from what waits read anyway and one list a day."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from itertools import pairwise
from typing import Any

import pytest

from airflow_provider_azbackup.core.model.forecast import Forecast
from airflow_provider_azbackup.core.model.resources import JobRef
from airflow_provider_azbackup.core.wire import NoResponse
from airflow_provider_azbackup.runtime import clock as clocks
from airflow_provider_azbackup.triggerer.outlook import Outlook
from airflow_provider_azbackup.triggerer.progress import Progress
from tests.support.virtual import HOUR, Azure, LoopClock, Read, poller, run

DAY = 24 * HOUR
# Minutes of the nights before, newest first; a failed one took no time.
NIGHTS = (34, 31, 35, 32, 38, 33, 36, 37, 39)


def remember(azure: Azure, machine: int = 0, nights: tuple[int, ...] = NIGHTS) -> None:
    for number, minutes in enumerate(nights, 1):
        azure.start(machine, ago=number * DAY, seconds=minutes * 60)


class Forecasts:
    """Waits as triggers do, and asks for a forecast at each look."""

    def __init__(self, azure: Azure, clock: LoopClock) -> None:
        self.clock, self.shared = clock, poller(azure)
        self.seen: list[tuple[float, Forecast | None]] = []

    def on_read(self, job: Any, fault: Any) -> None:
        if job is not None and job.is_running:
            self.seen.append((self.clock.now(), self.shared.forecast(job)))

    async def wait(self, ref: JobRef) -> None:
        await self.shared.watch_job(
            ref,
            poll_interval=60.0,
            deadline=self.clock.now() + DAY,
            since=self.clock.now(),
            on_read=self.on_read,
            first_pause=15.0,
        )

    @property
    def known(self) -> list[tuple[float, Forecast]]:
        return [(at, found) for at, found in self.seen if found]


def is_history(read: Read) -> bool:
    return "Completed" in read.filter


def test_one_list_a_day_and_vault_serves_the_forecasts_of_all_waits() -> None:
    async def main(clock: LoopClock) -> tuple[Azure, Forecasts, float]:
        azure = Azure(clock, machines=5)
        for machine in range(6):
            remember(azure, machine)
        began = clock.now()
        waits = Forecasts(azure, clock)
        await asyncio.gather(*(waits.wait(azure.start(machine, seconds=HOUR / 2)) for machine in range(6)))
        await asyncio.gather(*(waits.wait(azure.start(machine, seconds=HOUR / 2)) for machine in range(6)))
        await waits.shared.close()
        return azure, waits, began

    azure, waits, began = run(main)
    assert sum(map(is_history, azure.reads)) == 1
    # It comes with the next news or within a quarter of an hour, and says how long such a backup takes.
    at, found = waits.known[0]
    assert at - began < 1000
    assert abs(found.p50 - began - 35 * 60) < 5
    assert found.p90 and abs(found.p90 - began - 39 * 60) < 5


def test_the_list_is_read_again_after_a_day() -> None:
    async def main(clock: LoopClock) -> Azure:
        azure = Azure(clock, machines=1)
        waits = Forecasts(azure, clock)
        for _ in range(3):
            await waits.wait(azure.start(seconds=HOUR))
            await asyncio.sleep(11 * HOUR)
        await waits.shared.close()
        return azure

    first, second = [read.at for read in run(main).reads if is_history(read)]
    assert second - first >= DAY - 600


def test_pages_of_the_past_take_a_tenth_of_the_reads_at_most() -> None:
    async def main(clock: LoopClock) -> Azure:
        azure = Azure(clock, machines=30, page_size=20, job_read_budget=150)
        for machine in range(31):
            remember(azure, machine, NIGHTS[:4])
        waits = Forecasts(azure, clock)
        await asyncio.gather(*(waits.wait(azure.start(machine, seconds=2 * HOUR)) for machine in range(31)))
        await waits.shared.close()
        return azure

    azure = run(main)
    past = [read.at for read in azure.reads if is_history(read)]
    assert len(past) == 7  # 124 jobs, 20 on a page
    assert min(after - before for before, after in pairwise(past)) >= 10 * 20
    assert azure.throttled == 0


def test_waits_teach_each_other_without_any_further_read() -> None:
    async def main(clock: LoopClock) -> tuple[Azure, Forecasts]:
        azure = Azure(clock)
        azure.instead = lambda call: (
            NoResponse(reason="lost", at=clock.now()) if "Completed" in str(call.query) else None
        )
        waits = Forecasts(azure, clock)
        for minutes in NIGHTS:
            await waits.wait(azure.start(seconds=minutes * 60))
        assert not waits.known
        await waits.wait(azure.start(seconds=HOUR / 2))
        await waits.shared.close()
        return azure, waits

    azure, waits = run(main)
    assert waits.known
    assert sum(map(is_history, azure.reads)) == 1  # a page that is lost ends the list for the day


def test_a_restore_has_no_forecast_and_asks_for_none() -> None:
    async def main(clock: LoopClock) -> tuple[Azure, Forecasts]:
        azure = Azure(clock)
        remember(azure)
        world, item = azure.service.world, azure.service.world.items[0]
        started = world.start(item, azure.service.clock(), "Restore", seconds=HOUR)
        waits = Forecasts(azure, clock)
        await waits.wait(JobRef(vault=azure.vaults[0], job_id=started.id))
        await waits.shared.close()
        return azure, waits

    azure, waits = run(main)
    assert waits.seen and not waits.known
    assert not any(map(is_history, azure.reads))


class Log:
    """Keeps warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def info(self, *words: Any) -> None:
        pass

    def warning(self, text: str, *words: Any) -> None:
        self.warnings.append(text % words)


@pytest.mark.parametrize(("minutes", "warned_after"), [(30, 0), (36.8, 34), (50, None)])
def test_a_wait_warns_as_soon_as_its_backup_is_more_likely_late_than_not(
    minutes: float, warned_after: float | None
) -> None:
    async def main(clock: LoopClock) -> tuple[list[str], list[float]]:
        azure, log = Azure(clock), Log()
        remember(azure)
        shared = poller(azure)
        began = clock.now()
        outlook = Outlook(
            log,
            Progress(None),
            expected_by=began + minutes * 60,
            foresees=True,
            not_before=began + 15,
        )
        outlook.poller = shared
        outlook.judge()
        at: list[float] = []

        def warn(_: object) -> None:
            at.append(clock.now() - began)
            outlook.warn()

        outlook.late.add_done_callback(warn)
        await shared.watch_job(
            azure.start(seconds=45 * 60),
            poll_interval=60.0,
            deadline=began + DAY,
            since=began,
            on_read=outlook.see,
            first_pause=15.0,
        )
        outlook.close()
        await shared.close()
        return log.warnings, at

    def on_virtual_time(clock: LoopClock) -> Awaitable[tuple[list[str], list[float]]]:
        with clocks.running_on(clock):
            return asyncio.ensure_future(main(clock))

    lines, at = run(on_virtual_time)
    assert len(lines) == len(at) == (0 if warned_after is None else 1)
    if warned_after is not None:
        assert lines[0].startswith("Late: the backup is expected by")
        # It takes minutes until past backups are listed.
        assert warned_after * 60 - 5 <= at[0] <= max(warned_after * 60 + 70, 900)

"""How many reads of Azure many waits need, and how late they learn of an end: ours and the usual ways.

Hours pass in virtual time, against the emulator's own lists and its budget of 150 reads of jobs an hour. CPU
time is the process's own, without the emulator's part.

    python -m dev.bench.reads [--waits 1 10 100 1000 5000] [--write]

``--write`` puts table and plot into docs/performance.md and docs/performance.svg.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import random
import time
import tracemalloc
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_provider_azbackup.core.conversations.jobs import wait_for_job
from airflow_provider_azbackup.core.model.resources import JobRef
from airflow_provider_azbackup.core.rest import requests, responses
from airflow_provider_azbackup.core.wire import Answer, Request, Response
from airflow_provider_azbackup.exceptions import AzureBackupError
from tests.support.virtual import HOUR, Azure, LoopClock, poller, run

DOCS = Path(__file__).resolve().parents[2] / "docs"
WAITS = (1, 10, 100, 1000, 5000)
VAULTS = (1, 5, 20)
# Jobs end evenly spread over this time after the start of all waits.
FIRST_END, LAST_END = 0.5 * HOUR, 2.5 * HOUR
PATIENCE = 96 * HOUR


class Metered(Azure):
    """Notes what CPU time the emulator takes: it is not the client's."""

    own_cpu = 0.0

    def _answer(self, call: Request) -> Answer:
        began = time.process_time()
        try:
            return super()._answer(call)
        finally:
            self.own_cpu += time.process_time() - began


# A way to wait: returns when all jobs were seen to be over, and reports of each when it was.
Way = Callable[[Azure, LoopClock, Sequence[JobRef], Callable[[JobRef], None]], Awaitable[None]]


def ours(interval: float = 60.0, **extra: Any) -> Way:
    """One poller for all; each wait wants a look in ``interval`` seconds; ``extra`` is the connection's."""

    async def way(
        azure: Azure, clock: LoopClock, refs: Sequence[JobRef], seen: Callable[[JobRef], None]
    ) -> None:
        shared = poller(azure, **extra)

        async def wait(ref: JobRef) -> None:
            now = clock.now()
            await shared.watch_job(
                ref,
                poll_interval=interval,
                deadline=now + PATIENCE,
                since=now,
                on_read=lambda *_: None,
                first_pause=300.0,
            )
            seen(ref)

        await asyncio.gather(*map(wait, refs))
        await shared.close()

    return way


async def a_get_per_job(
    azure: Azure, clock: LoopClock, refs: Sequence[JobRef], seen: Callable[[JobRef], None]
) -> None:
    """A GET for each job every 60 s over one shared client, as patient as ours."""

    async def wait(ref: JobRef) -> None:
        now = clock.now()
        flow = wait_for_job(
            ref,
            poll_interval=60.0,
            deadline=now + PATIENCE,
            since=now,
            on_read=lambda *_: None,
            first_pause=300.0,
        )
        try:
            call = next(flow)
            while True:
                await asyncio.sleep(call.delay)
                call = flow.send(await azure.answer(call))
        except StopIteration:
            seen(ref)
        except AzureBackupError:
            pass  # its time was over

    await asyncio.gather(*map(wait, refs))


async def official(
    azure: Azure, clock: LoopClock, refs: Sequence[JobRef], seen: Callable[[JobRef], None]
) -> None:
    """The loop of Azure's CLI and PowerShell: a GET for each job every 30 s; a 429 is slept out."""

    async def wait(ref: JobRef) -> None:
        end = clock.now() + PATIENCE
        while clock.now() < end:
            answer = await azure.answer(requests.get_job(ref))
            assert isinstance(answer, Response)
            if answer.status == 200 and not responses.read_job(ref, answer).is_running:
                seen(ref)
                return
            await asyncio.sleep(answer.retry_after if answer.status == 429 and answer.retry_after else 30.0)

    await asyncio.gather(*map(wait, refs))


@dataclass(frozen=True, kw_only=True)
class Row:
    """How one way did: reads an hour that were answered, refused ones in all, seconds of delay."""

    way: str
    waits: int
    vaults: int
    page: int
    reads: float
    busiest_hour: int
    throttled: int
    p50: float
    p99: float
    unfairness: float
    unseen: int
    cpu_ms: float
    queries: float


def measure(name: str, way: Way, *, waits: int, vaults: int = 1, page: int = 1000, **settings: Any) -> Row:
    """Let one way wait for many jobs.

    :param page: jobs on one page of a list; the real number is not known.
    :param settings: of the emulator.
    """

    async def main(clock: LoopClock) -> Row:
        azure = Metered(clock, vaults=vaults, page_size=page, **settings)
        chance = random.Random(waits)
        ends = [FIRST_END + (LAST_END - FIRST_END) * chance.random() for _ in range(waits)]
        refs = [azure.start(n % vaults, seconds=end) for n, end in enumerate(ends)]
        delays: dict[JobRef, float] = {}

        def seen(ref: JobRef) -> None:
            delays[ref] = clock.now() - azure.end_of(ref)

        began, cpu = clock.now(), time.process_time()
        await way(azure, clock, refs, seen)
        cpu, hours = time.process_time() - cpu - azure.own_cpu, (clock.now() - began) / HOUR
        late = sorted(delays.values()) or [math.nan]
        by_vault = [
            sum(delays.get(ref, PATIENCE) for ref in refs[n::vaults]) / len(refs[n::vaults])
            for n in range(vaults)
        ]
        answered: dict[int, int] = {}
        for read in azure.reads:
            if read.status != 429:
                answered[int((read.at - began) // HOUR)] = answered.get(int((read.at - began) // HOUR), 0) + 1
        return Row(
            way=name,
            waits=waits,
            vaults=vaults,
            page=page,
            reads=sum(answered.values()) / max(1.0, hours),
            busiest_hour=max(answered.values()),
            throttled=azure.throttled,
            p50=late[len(late) // 2],
            p99=late[min(len(late) - 1, int(0.99 * len(late)))],
            unfairness=max(by_vault) / (sum(by_vault) / vaults),
            unseen=waits - len(delays),
            cpu_ms=cpu / waits * 1000,
            queries=len(azure.queries) / max(1.0, hours),
        )

    return run(main)


def memory_per_wait(many: int = 1000) -> float:
    """Return the KiB that one more wait holds, at its second look."""

    async def main(clock: LoopClock, waits: int) -> int:
        azure = Azure(clock, page_size=5000)
        refs = [azure.start(seconds=HOUR) for _ in range(many)]
        tracemalloc.start()
        waiting = asyncio.ensure_future(ours()(azure, clock, refs[:waits], lambda _: None))
        await asyncio.sleep(900)
        held = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        await waiting
        return held

    few, all_of_them = (run(lambda clock, n=n: main(clock, n)) for n in (2, many))  # type: ignore[misc]
    return float(all_of_them - few) / (many - 2) / 1024


def rows(waits: Iterable[int]) -> Iterable[Row]:
    """Measure all ways, one after the other."""
    for number in waits:
        for vaults in (each for each in VAULTS if each <= number):
            yield measure("ours", ours(), waits=number, vaults=vaults, page=5000)
            if number / vaults > 200:
                yield measure("ours", ours(), waits=number, vaults=vaults, page=200)
        yield measure("ours, every 30 s", ours(30.0), waits=number, page=5000)
        yield measure("a GET per job", a_get_per_job, waits=number)
        yield measure("official loop", official, waits=number)


HEAD = (
    "| way | waits | vaults | jobs a page | reads/h | busiest hour | 429s | delay p50 s | delay p99 s "
    "| slowest vault / mean | never seen | CPU ms/wait |"
)


def line(row: Row) -> str:
    """Return a row of the table."""
    page = f"{row.page}" if row.way.startswith("ours") else "-"
    return (
        f"| {row.way} | {row.waits} | {row.vaults} | {page} | {row.reads:.0f} | {row.busiest_hour} "
        f"| {row.throttled} | {row.p50:.0f} | {row.p99:.0f} | {row.unfairness:.2f} | {row.unseen} "
        f"| {row.cpu_ms:.1f} |"
    )


def plot(found: Sequence[Row]) -> str:
    """Draw the delay over the number of waits, both by powers of ten, as SVG."""
    wide, high, left, below = 720, 400, 70, 50
    most = max(2.0, *(row.p99 for row in found if row.p99 > 0))
    tens = math.ceil(math.log10(most))

    def x(waits: float) -> float:
        return left + (wide - left - 170) * math.log10(max(1, waits)) / math.log10(5000)

    def y(seconds: float) -> float:
        return 20 + (high - 20 - below) * (1 - math.log10(max(1.0, seconds)) / tens)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" font-family="sans-serif" '
        'font-size="12"><rect width="100%" height="100%" fill="white"/>'
    ]
    for ten in range(tens + 1):
        parts.append(
            f'<path d="M{left} {y(10**ten):.0f}H{wide - 170}" stroke="#ddd"/>'
            f'<text x="{left - 8}" y="{y(10**ten) + 4:.0f}" text-anchor="end">{10**ten:,}</text>'
        )
    parts += [
        f'<text x="{x(waits):.0f}" y="{high - below + 18}" text-anchor="middle">{waits:,}</text>'
        for waits in WAITS
    ]
    parts.append(
        f'<text x="{(left + wide - 170) / 2:.0f}" y="{high - 12}" text-anchor="middle">'
        "waits, in one vault</text>"
        f'<text x="16" y="{high / 2:.0f}" text-anchor="middle" transform="rotate(-90 16 {high / 2:.0f})">'
        "delay p99, seconds</text>"
    )
    lines: tuple[tuple[str, str, Callable[[Row], bool]], ...] = (
        ("ours, one page", "#0a7d32", lambda row: row.way == "ours" and row.page != 200),
        (
            "ours, 200 a page",
            "#6abf4b",
            lambda row: row.way == "ours" and (row.page == 200 or row.waits <= 200),
        ),
        ("a GET per job", "#d97706", lambda row: row.way == "a GET per job"),
        ("official loop", "#b91c1c", lambda row: row.way == "official loop"),
    )
    for number, (name, colour, meant) in enumerate(lines):
        some = sorted((row for row in found if row.vaults == 1 and meant(row)), key=lambda row: row.waits)
        way = " ".join(f"{x(row.waits):.1f},{y(row.p99):.1f}" for row in some)
        parts.append(
            f'<polyline points="{way}" fill="none" stroke="{colour}" stroke-width="2"/>'
            f'<text x="{wide - 160}" y="{40 + 18 * number}" fill="{colour}">{name}</text>'
        )
    return "\n".join([*parts, "</svg>\n"])


def insert(name: str, text: str, path: Path = DOCS / "performance.md") -> None:
    """Put what was measured between its marks in a document."""
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
    before, _, rest = path.read_text().partition(begin)
    after = rest.partition(end)[2]
    path.write_text(f"{before}{begin}\n{text}\n\n{end}{after}")


def write(found: Sequence[Row], memory: float) -> None:
    """Put table and plot into docs/."""
    table = "\n".join([HEAD, "|---" * (HEAD.count("|") - 1) + "|", *map(line, found)])
    insert("reads", f"{table}\n\nOne more wait holds {memory:.1f} KiB of objects.")
    (DOCS / "performance.svg").write_text(plot(found))


def main() -> None:
    """Measure and print, row by row."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--waits", type=int, nargs="+", default=WAITS)
    parser.add_argument("--write", action="store_true", help="put table and plot into docs/")
    asked = parser.parse_args()
    print(HEAD, flush=True)
    found = []
    for row in rows(asked.waits):
        found.append(row)
        print(line(row), flush=True)
    memory = memory_per_wait()
    print(f"\nOne more wait holds {memory:.1f} KiB.")
    if asked.write:
        write(found, memory)


if __name__ == "__main__":
    main()

"""What a verdict over an estate costs: CPU, and how long it holds the event loop.

    python -m dev.bench.estate [--vaults 60] [--items 5000] [--write]

The emulator's estate is read once, in the process and without sockets. Then every item is judged from what
the lists have shown, as a wait does whenever one of them has news. ``--write`` puts the figures into
docs/performance.md.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, TypeVar

from airflow_provider_azbackup.core.estate.look import Estate
from airflow_provider_azbackup.core.estate.scope import Condition, Scope
from airflow_provider_azbackup.core.estate.verdict import Verdict
from airflow_provider_azbackup.core.wire import Answer, Request, Response
from azure_backup_emulator.arm import gateway
from azure_backup_emulator.estate import estate as estate_seed
from azure_backup_emulator.service import Service
from dev.bench.reads import insert

T = TypeVar("T")
START = 1_790_000_000.0
BASE = "https://management.azure.com"
Turns = Generator[Request | None, Answer | None, T]


@dataclass(kw_only=True)
class Cost:
    """What holding conversations cost, without the server.

    :param seconds: of CPU.
    :param longest: seconds of the longest step between two turns of others.
    """

    seconds: float = 0.0
    longest: float = 0.0

    def step(self, flow: Turns[Any], answer: Answer | None) -> Request | None:
        began = time.process_time()
        try:
            return flow.send(answer)
        finally:
            took = time.process_time() - began
            self.seconds += took
            self.longest = max(self.longest, took)


class Azure:
    """The emulator in the process."""

    def __init__(self, vaults: int, items: int) -> None:
        self.service = Service(clock=lambda: START, speed=1, seed=estate_seed(vaults=vaults, items=items))
        principal = self.service.identity.principals["operator"]
        self.service.identity.check = lambda *_: (principal, {})  # type: ignore[method-assign]  # tokens are no matter here
        self.service.configure(page_size=200, job_read_budget=100_000)

    def answer(self, call: Request) -> Answer:
        asked = gateway.Request(
            method=call.method,
            path=call.path,
            query={"api-version": "2024-04-01", **dict(call.query)},
            headers={},
            body=b"",
            base=BASE,
        )
        found = self.service.answer(asked)
        return Response(
            status=found.status, at=START, url=BASE + call.path, text=json.dumps(found.body), headers={}
        )

    def hold(self, flow: Turns[T], cost: Cost) -> T:
        """Hold a conversation, and note what it cost."""
        answer: Answer | None = None
        try:
            while True:
                request = cost.step(flow, answer)
                answer = self.answer(request) if request else None
        except StopIteration as end:
            result: T = end.value
            return result


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was measured.

    :param lists: cost of reading all lists of items.
    :param first: cost of the first verdict.
    :param again: cost of a verdict when one vault has news.
    """

    verdict: Verdict
    lists: Cost
    first: Cost
    again: Cost

    def __str__(self) -> str:
        rows = {
            "Reading all lists of items": self.lists,
            "The verdict over all items": self.first,
            "The verdict when one vault has news": self.again,
        }
        lines = ["| Step | CPU | Longest hold of the event loop |", "| --- | --- | --- |"]
        for name, cost in rows.items():
            lines.append(f"| {name} | {cost.seconds * 1000:.0f} ms | {cost.longest * 1000:.1f} ms |")
        return "\n".join(lines)


def measure(vaults: int, items: int) -> Report:
    """Read an estate, and judge it twice."""
    azure = Azure(vaults, items)
    gc.collect()
    gc.freeze()  # the emulator's own objects are not the provider's
    subscriptions = tuple({each.path.split("/")[2] for each in azure.service.world.vaults})
    condition = Condition(after=START - 12 * 3600.0)
    look = Estate(Scope(subscriptions=subscriptions), condition, poll_interval=60.0)
    lists, first, again = Cost(), Cost(), Cost()
    for _ in range(2):  # the vaults, then what they protect
        for flow in look.due(START):
            azure.hold(flow, lists)
    for vault in look.vaults:
        azure.hold(look.read_jobs(vault, START), Cost())
    azure.hold(look.judge(START), first)
    vault = look.vaults[0]
    running = next(iter(_jobs(azure, vault.path)))
    azure.service.set_status(running, "Completed")
    azure.hold(look.read_jobs(vault, START), Cost())
    return Report(verdict=azure.hold(look.judge(START), again), lists=lists, first=first, again=again)


def _jobs(azure: Azure, vault: str) -> list[str]:
    jobs = azure.service.world.jobs.values()
    return [job.id for job in jobs if job.item.vault.path == vault]


def main() -> None:
    """Measure, print, and write on request."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--vaults", type=int, default=60)
    parser.add_argument("--items", type=int, default=5000)
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    report = measure(asked.vaults, asked.items)
    print(report)
    print(report.verdict)
    if asked.write:
        insert("estate", str(report))


if __name__ == "__main__":
    main()

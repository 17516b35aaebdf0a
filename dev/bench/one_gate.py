"""One gate for a whole estate, and mapped gates, on a real Airflow whose triggerer is killed halfway of both.

    python -m dev.bench.one_gate [--vaults 60] [--items 5000] [--waits 1000] [--write]

First the mapped gates of dev.bench.fleet wait for as many jobs. Then one ``AzureBackupFleetSensor`` waits for
an estate of the emulator, which ends its backups step by step. At each step the verdict must count as fresh
exactly the items that have a good backup, as the emulator knows it. Both parts have an emulator of their own,
so that reads of Azure can be counted apart. ``--write`` puts both reports into docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from azure_backup_emulator import Emulator
from azure_backup_emulator.estate import estate as estate_seed
from dev.bench.fleet import BLOCKED, Fleet, started
from dev.bench.fleet import Report as FleetReport
from dev.bench.fleet import table as fleet_table
from dev.bench.reads import insert
from dev.stack.airflow_api import FINISHED, Run, Task
from dev.stack.pace import Limit
from dev.stack.stack import Stack, take_signals

DAG = textwrap.dedent("""\
    from datetime import timedelta

    from airflow.providers.standard.operators.empty import EmptyOperator
    from airflow.sdk import DAG

    from airflow_provider_azbackup.sensors import AzureBackupFleetSensor

    with DAG("estate", schedule=None):
        gate = AzureBackupFleetSensor(
            task_id="gate",
            subscriptions=SUBSCRIPTIONS,
            newer_than=timedelta(hours=12),
            poke_interval=INTERVAL,
            timeout=6 * 3600,
            deferrable=True,
            azure_backup_conn_id="estate",
            retries=3,
            retry_delay=timedelta(seconds=1),
        )
        gate >> EmptyOperator(task_id="after")
""")
HOURS = 12 * 3600.0
SUBSCRIPTIONS = 4
# The read of jobs costs nothing here, as in Azure in July 2026, where each answer reported 249 as left.
BUDGET = 100_000
PARTS = ("triggerer", "scheduler", "api-server")


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one part of the run took.

    :param reads: of jobs.
    :param lists: other reads: of vaults and protected items.
    :param cpu: seconds by the part of Airflow. Workers are children of the scheduler.
    :param blocked: seconds that a triggerer's event loop stood still, where Airflow warns of it.
    """

    reads: int
    lists: int
    minutes: float
    cpu: dict[str, float]
    blocked: list[float]


@dataclass(frozen=True, kw_only=True)
class Step:
    """One verdict, and the truth.

    :param fresh: items that the verdict counts as fresh.
    :param truly: items that are.
    """

    what: str
    fresh: int
    truly: int
    total: int


@dataclass(frozen=True, kw_only=True)
class Report:
    """What came of it."""

    vaults: int
    items: int
    mapped: FleetReport
    mapped_cost: Cost
    steps: list[Step]
    opened_early: bool
    opened: bool
    cost: Cost

    @property
    def is_right(self) -> bool:
        """Whether each verdict was as the emulator knows it, and the gate opened when all was fresh."""
        right = all(each.fresh == each.truly and each.total == self.items for each in self.steps)
        return right and self.opened and not self.opened_early and self.mapped.is_right


class OneGate:
    """The second part: one task for an estate."""

    def __init__(self, stack: Stack, azure: Emulator) -> None:
        self.stack, self.azure = stack, azure
        self.world = azure.service.world
        self.began = time.time()
        self.steps: list[Step] = []
        self.run: Run

    def play(self) -> tuple[bool, bool]:
        """Run it; return whether the gate opened too early, and whether it opened in the end."""
        for job in self.azure.service.state()["jobs"]:
            if job["status"] == "InProgress":  # so that nothing ends by itself
                self.azure.set_status(job["id"], "InProgress")
        self.run = self.stack.run_dag("estate")
        self._until("deferred", lambda: self._gate().state == "deferred", 600)
        self._step("at the start")
        missing = sorted(self._not_fresh())
        jobs = [self.azure.start_job(path, ending="Never", seconds=1e9) for path in missing]
        half = len(jobs) // 2
        self._end(jobs[:half])
        self.stack.kill("triggerer")
        self._end(jobs[half:-1])  # while no triggerer runs
        print(f"{time.time() - self.began:6.0f} s: the triggerer is killed", flush=True)
        self.stack.start("triggerer")
        self._step("after the triggerer was killed, with one item missing")
        early = self._gate().state != "deferred"
        self._end(jobs[-1:])
        self._until("over", lambda: self.stack.state(self.run) in FINISHED, 900)
        self._step("at the end")
        states = {task.task_id: task.state for task in self.stack.tasks(self.run)}
        return early, states == {"gate": "success", "after": "success"}

    def _gate(self) -> Task:
        return self.stack.task(self.run, "gate")

    def _verdict(self) -> dict[str, Any]:
        return self.stack.xcom(self._gate(), "verdict") or {}

    def _not_fresh(self) -> set[str]:
        """The items without a good backup of the night, as the emulator knows it."""
        state = self.azure.service.state()
        good = {
            job["item"]
            for job in state["jobs"]
            if job["status"] == "Completed" and job["starts"] >= self.began - HOURS
        }
        return {item.path for item in self.world.items} - good

    def _step(self, what: str) -> None:
        """Wait for a verdict that is newer than all that happened and that could read all, and keep it."""
        now = time.time()
        known = self._verdict().get("at")
        truly = len(self.world.items) - len(self._not_fresh())
        if what != "at the end":
            self._until(f"a verdict {what}", lambda: self._is_whole_since(known), 900)
        verdict = self._verdict()
        step = Step(what=what, fresh=verdict["counts"]["fresh"], truly=truly, total=verdict["total"])
        print(f"{now - self.began:6.0f} s: {step}", flush=True)
        self.steps.append(step)

    def _is_whole_since(self, known: object) -> bool:
        verdict = self._verdict()
        return verdict.get("at") not in (None, known) and not verdict["counts"]["unreadable"]

    def _end(self, jobs: list[str]) -> None:
        for job in jobs:
            self.azure.set_status(job, "Completed")

    def _until(self, what: str, holds: Callable[[], bool], within: float) -> None:
        limit = Limit(within)
        while not holds():
            self.stack.check()
            if limit.is_over:
                raise TimeoutError(f"not {what} in {limit}: {self._gate()}")
            time.sleep(1)
        print(f"{time.time() - self.began:6.0f} s: {what}", flush=True)


class Meter:
    """Measures one part of the run."""

    def __init__(self, stack: Stack, azure: Emulator) -> None:
        self.stack, self.azure = stack, azure
        self.began, self.cpu, self.blocked = time.time(), self._cpu(), len(self._blocked())

    def read(self) -> Cost:
        """Return what has been spent since the start."""
        reads = self.azure.count("GET", "/backupJobs")
        now = self._cpu()
        return Cost(
            reads=reads,
            lists=self.azure.count("GET", "/subscriptions") - reads,
            minutes=round((time.time() - self.began) / 60, 1),
            cpu={part: round(now[part] - self.cpu[part], 1) for part in PARTS},
            blocked=self._blocked()[self.blocked :],
        )

    def _cpu(self) -> dict[str, float]:
        return {part: self.stack.cpu(part) for part in PARTS}

    def _blocked(self) -> list[float]:
        log = (self.stack.home / "triggerer.log").read_text(errors="replace")
        return [float(seconds) for seconds in BLOCKED.findall(log)]


def measure(home: Path, *, vaults: int, items: int, waits: int, interval: float = 60.0) -> Report:
    """Run both parts on one Airflow.

    :param vaults: of the estate, in up to four subscriptions.
    :param items: of the estate.
    :param waits: how many mapped gates there are.
    :param interval: seconds between two looks.
    """
    subscriptions = min(SUBSCRIPTIONS, vaults)
    seed = estate_seed(vaults=vaults, items=items, subscriptions=subscriptions)
    with Emulator(speed=1, seed=seed) as azure:
        azure.configure(job_read_budget=BUDGET, page_size=200)
        named = {each["subscription"] for each in (*seed["vaults"], *seed["backup_vaults"])}
        source = DAG.replace("SUBSCRIPTIONS", repr(sorted(named)))
        env = {"AIRFLOW_CONN_ESTATE": json.dumps(azure.connection())}
        with started(home, waits=waits, interval=interval, others={"estate": source}, env=env) as fleet:
            mapped, mapped_cost = _mapped(fleet)
            meter, gate = Meter(fleet.stack, azure), OneGate(fleet.stack, azure)
            early, opened = gate.play()
            return Report(
                vaults=vaults,
                items=items,
                mapped=mapped,
                mapped_cost=mapped_cost,
                steps=gate.steps,
                opened_early=early,
                opened=opened,
                cost=meter.read(),
            )


def _mapped(fleet: Fleet) -> tuple[FleetReport, Cost]:
    meter = Meter(fleet.stack, fleet.azure)
    return fleet.play(), meter.read()


def table(report: Report) -> str:
    """Return the report as rows."""
    mapped, one = report.mapped_cost, report.cost
    wrong = sum(each.fresh != each.truly for each in report.steps) + report.opened_early + (not report.opened)
    blocked = [max(each.blocked, default="below 0.2") for each in (mapped, one)]
    rows: dict[str, tuple[object, object]] = {
        "items": (report.mapped.waits, f"{report.items:,}"),
        "vaults": (1, report.vaults),
        "gates lost or wrong; verdicts that differ from the truth": (
            sum(report.mapped.wrong.values()),
            wrong,
        ),
        "reads of jobs": (mapped.reads, one.reads),
        "lists of vaults and items": (mapped.lists, one.lists),
        **{
            f"CPU of the {part} for an item / that of one gate": (
                f"{mapped.cpu[part] / report.mapped.waits / (one.cpu[part] / report.items):.0f}",
                1,
            )
            for part in PARTS
        },
        "longest block of the event loop, s": (blocked[0], blocked[1]),
    }
    lines = ["| | mapped gates | one gate |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| {name} | {left} | {right} |" for name, (left, right) in rows.items())])


def main() -> int:
    """Run it as the command line says; the exit status is 0 if every gate was right."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--vaults", type=int, default=60)
    parser.add_argument("--items", type=int, default=5000)
    parser.add_argument("--waits", type=int, default=1000)
    parser.add_argument("--write", action="store_true", help="put the report into docs/")
    asked = parser.parse_args()
    take_signals()
    home = Path(tempfile.mkdtemp(prefix="azbackup-one-gate-"))
    report = measure(home, vaults=asked.vaults, items=asked.items, waits=asked.waits)
    print(json.dumps(asdict(report), indent=2))
    print(table(report))
    if asked.write:
        insert("fleet", fleet_table(report.mapped))
        insert("one-gate", table(report))
    if report.is_right:
        shutil.rmtree(home)
    else:
        print(f"The logs are in {home}.")
    return 0 if report.is_right else 1


if __name__ == "__main__":
    sys.exit(main())

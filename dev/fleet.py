"""Many mapped gates on a real Airflow, whose only triggerer is killed halfway: is any gate lost, or wrong?

    python -m dev.fleet [--waits 1000] [--write]

The jobs are in one vault of the emulator, which grants 150 reads of jobs in an hour of real time, as Azure
does. One in fifty fails, so its gate must stay shut. A thousand gates take about half an hour: Airflow
starts a process for each of them twice. ``--write`` puts the report into docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import tempfile
import textwrap
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

import psutil

from airflow_provider_azbackup.emulator import Emulator
from dev.airflow_api import FINISHED, Run, Task
from dev.bench import insert
from dev.postgres import Postgres
from dev.stack import Stack

DAG = textwrap.dedent("""\
    from airflow.providers.standard.operators.empty import EmptyOperator
    from airflow.sdk import DAG, task, task_group

    from airflow_provider_azbackup.sensors import AzureBackupJobSensor

    with DAG("gates", schedule=None, max_active_tasks=4096):

        @task
        def jobs(dag_run):
            return dag_run.conf["jobs"]

        @task_group
        def gated(job_id):
            gate = AzureBackupJobSensor(
                task_id="gate", job_id=job_id, deferrable=True, poke_interval=INTERVAL, timeout=6 * 3600
            )
            gate >> EmptyOperator(task_id="behind")

        gated.expand(job_id=jobs())
""")
# A triggerer that was killed is missed after seconds, not after half a minute.
SETTINGS = {
    "AIRFLOW__CORE__MAX_MAP_LENGTH": "4096",
    # A scheduler with thousands of tasks takes seconds for a round, and starts no more than so many in one.
    "AIRFLOW__CORE__PARALLELISM": "24",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_POOL_SIZE": "40",
    "AIRFLOW__SCHEDULER__MAX_TIS_PER_QUERY": "64",
    "AIRFLOW__TRIGGERER__CAPACITY": "4096",
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "10",
}
BLOCKED = re.compile(r"async thread was blocked for ([\d.]+) seconds")
# Longer than this the event loop must never stand still.
STILL = 0.5
# Of so many jobs one fails, this one.
OF, FAILS = 50, 4


@dataclass(frozen=True, kw_only=True)
class Report:
    """What came of it.

    :param opened: gates behind a backup that succeeded, with the task behind them run.
    :param shut: gates in front of a backup that failed, with the task behind them not run.
    :param wrong: any other gates, by states.
    :param reads: of jobs, answered.
    :param blocked: seconds that a triggerer's event loop stood still, where Airflow warns of it: over 0.2 s.
    :param delay_p50: seconds from the end of a job to the event of its trigger; of those that ended while a
        triggerer ran.
    """

    waits: int
    opened: int
    shut: int
    wrong: dict[str, int]
    reads: int
    throttled: int
    minutes: float
    blocked: list[float]
    delay_p50: float
    delay_p99: float
    events_behind_the_kill: int


class Fleet:
    """One run of it."""

    def __init__(self, stack: Stack, azure: Emulator, *, waits: int) -> None:
        self.stack, self.azure, self.waits = stack, azure, waits
        self.jobs = [azure.start_job("vm-good", ending="Never", seconds=1e9) for _ in range(waits)]
        self.ended: dict[str, float] = {}
        self.began = time.time()
        self.run: Run

    def play(self) -> Report:
        self.run = self.stack.run_dag("gates", {"jobs": self.jobs})
        self._until("deferred", lambda: self._count("deferred") == self.waits, 3600)
        # Every trigger has been started, and every wait has had time for a look.
        self._until("awaited", lambda: self._logs("starting") >= self.waits, 300)
        half = self.waits // 2
        self._end(self.jobs[:half])
        self._until("half of half are over", lambda: self._fired() >= half // 2, 1800)
        self.stack.kill("triggerer")
        killed = time.time()
        print(f"{killed - self.began:6.0f} s: the triggerer is killed", flush=True)
        self._end(self.jobs[half:])
        self.stack.start("triggerer")
        self._until("all is over", lambda: self.stack.state(self.run) in FINISHED, 3600)
        return self._report(killed)

    def _end(self, jobs: list[str]) -> None:
        for job in jobs:
            failed = self.jobs.index(job) % OF == FAILS
            self.azure.set_status(job, "Failed" if failed else "Completed")
            self.ended[job] = time.time()

    def _until(self, what: str, holds: Callable[[], bool], within: float) -> None:
        until = time.monotonic() + within
        while not holds():
            self.stack.check()
            if time.monotonic() > until:
                raise TimeoutError(f"not {what} in {within:.0f} s: {self._states()}")
            time.sleep(2)
        print(f"{time.time() - self.began:6.0f} s: {what}", flush=True)

    def _count(self, state: str) -> int:
        found = self.stack.call(
            "GET", f"{self.run.path}/taskInstances", state=state, task_id="gated.gate", limit=1
        )
        return int(found["total_entries"])

    def _states(self) -> dict[str, int]:
        return {state: self._count(state) for state in ("scheduled", "running", "deferred", *FINISHED)}

    def _trigger_logs(self) -> dict[int, str]:
        """What the triggers of each gate logged, whichever triggerer they ran in."""
        found: dict[int, str] = {}
        for file in sorted(self.stack.home.glob("logs/dag_id=gates/**/*.trigger.*.log")):
            index = int(next(part for part in file.parts if part.startswith("map_index="))[10:])
            found[index] = found.get(index, "") + file.read_text(errors="replace")
        return found

    def _logs(self, word: str) -> int:
        return sum(word in text for text in self._trigger_logs().values())

    def _fired(self) -> int:
        return self._logs("Trigger fired event")

    def _report(self, killed: float) -> Report:
        gates = {task.map_index: task.state for task in self._tasks("gated.gate")}
        behind = {task.map_index: task.state for task in self._tasks("gated.behind")}
        ends: Counter[tuple[str, str, str]] = Counter()
        for index, job in enumerate(self.jobs):
            status = next(each["status"] for each in self._azure_jobs if each["id"] == job)
            ends[status, gates.get(index, "lost"), behind.get(index, "lost")] += 1
        opened = ends.pop(("Completed", "success", "success"), 0)
        shut = ends.pop(("Failed", "failed", "upstream_failed"), 0)
        delays, after = [], 0
        for index, text in self._trigger_logs().items():
            for line in text.splitlines():
                if "Trigger fired event" in line:
                    fired = datetime.fromisoformat(json.loads(line)["timestamp"]).timestamp()
                    after += fired > killed
                    if index < self.waits // 2 and fired < killed:
                        delays.append(fired - self.ended[self.jobs[index]])
        delays.sort()
        return Report(
            waits=self.waits,
            opened=opened,
            shut=shut,
            wrong={" / ".join(states): number for states, number in ends.items()},
            reads=self.azure.count("GET", "backupJobs", 200),
            throttled=self.azure.count("GET", "backupJobs", 429),
            minutes=round((time.time() - self.began) / 60, 1),
            blocked=[
                float(seconds) for seconds in BLOCKED.findall((self.stack.home / "triggerer.log").read_text())
            ],
            delay_p50=round(delays[len(delays) // 2], 1),
            delay_p99=round(delays[int(0.99 * len(delays))], 1),
            events_behind_the_kill=after,
        )

    @property
    def _azure_jobs(self) -> list[dict[str, str]]:
        if not hasattr(self, "_known"):
            self._known: list[dict[str, str]] = self.azure.service.state()["jobs"]
        return self._known

    def _tasks(self, task_id: str) -> list[Task]:
        return [task for task in self.stack.tasks(self.run) if task.task_id == task_id]


def _yield_to_the_triggerer() -> None:
    """Give the workers a lower priority: where there are so many, a triggerer has a core of its own."""
    for process in psutil.Process().children():
        if "scheduler" in process.cmdline():
            for each in (process, *process.children(recursive=True)):
                each.nice(19)


def measure(home: Path, *, waits: int, interval: float = 60.0) -> Report:
    """Run it, with everything it needs started and ended.

    :param interval: seconds between two looks.
    """
    dags = home / "dags"
    dags.mkdir(parents=True)
    (dags / "gates.py").write_text(DAG.replace("INTERVAL", str(interval)))
    with Emulator(speed=1) as azure, Postgres() as database:
        azure.configure(job_read_budget=150, page_size=2 * waits)
        connection = json.dumps(azure.connection())
        with Stack(
            dags=dags,
            home=home / "airflow",
            database=database.url,
            env={**SETTINGS, "AIRFLOW_CONN_AZURE_BACKUP_DEFAULT": connection},
        ) as stack:
            stack.wait_for_dags("gates")
            _yield_to_the_triggerer()
            return Fleet(stack, azure, waits=waits).play()


def table(report: Report) -> str:
    """Return the report as rows."""
    rows = {
        "gates": report.waits,
        "opened, behind a backup that succeeded": report.opened,
        "kept shut, behind one that failed": report.shut,
        "lost, or wrong": sum(report.wrong.values()),
        "events that came from the second triggerer": report.events_behind_the_kill,
        f"reads of jobs in {report.minutes:.0f} minutes": report.reads,
        "429s": report.throttled,
        "seconds from an end to its event, p50 and p99": f"{report.delay_p50:.0f}, {report.delay_p99:.0f}",
        "times the event loop was blocked over 0.2 s, over 0.5 s": (
            f"{len(report.blocked)}, {sum(seconds > STILL for seconds in report.blocked)}"
        ),
    }
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])


def main() -> int:
    """Run it as the command line says; the exit status is 0 if no gate was lost or wrong."""
    parser = argparse.ArgumentParser(prog="python -m dev.fleet", description=__doc__)
    parser.add_argument("--waits", type=int, default=1000)
    parser.add_argument("--write", action="store_true", help="put the report into docs/performance.md")
    asked = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="azbackup-fleet-"))
    report = measure(home, waits=asked.waits)
    print(json.dumps(asdict(report), indent=2))
    right = report.opened + report.shut == report.waits and not report.throttled
    right = right and max(report.blocked, default=0.0) <= STILL
    if asked.write:
        insert("fleet", table(report))
    if right:
        shutil.rmtree(home)
    else:
        print(f"The logs are in {home}.")
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())

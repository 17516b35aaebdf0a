"""Many mapped gates on a real Airflow, whose triggerer is killed halfway: is any gate lost, wrong or doubled?

    python -m dev.bench.fleet [--celery] [--waits 1000] [--write]

The jobs are in one vault of the emulator, which grants 150 reads of jobs in an hour of real time, the least
that Azure was seen to grant. One in fifty fails, so its gate must stay shut. A thousand gates take about half
an hour: Airflow starts a process for each of them twice. ``--write`` puts the report into
docs/performance.md.

With ``--celery`` there are two workers and two triggerers. One gate in twenty starts its backup itself, and
while they do, a worker is killed; halfway, one of the triggerers. That report is written into docs/scale.md.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import shutil
import sys
import tempfile
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from azure_backup_emulator import Emulator, seed
from dev.bench.reads import DOCS, insert
from dev.stack.airflow_api import FINISHED, Run
from dev.stack.broker import Broker
from dev.stack.pace import Limit
from dev.stack.postgres import Postgres
from dev.stack.stack import Stack, take_signals

DAG = textwrap.dedent("""\
    from datetime import timedelta

    from airflow.providers.standard.operators.empty import EmptyOperator
    from airflow.sdk import DAG, ExceptionRetryPolicy, RetryAction, RetryRule, task, task_group

    from airflow_provider_azbackup.exceptions import AzureBackupJobFailedError
    from airflow_provider_azbackup.operators import AzureBackupOperator
    from airflow_provider_azbackup.sensors import AzureBackupJobSensor

    # A task that died with its worker is tried again, a backup that failed is not.
    options = {
        "task_id": "gate",
        "deferrable": True,
        "retries": 3,
        "retry_delay": timedelta(seconds=1),
        "retry_policy": ExceptionRetryPolicy(
            rules=[RetryRule(exception=AzureBackupJobFailedError, action=RetryAction.FAIL)]
        ),
    }

    with DAG("gates", schedule=None, max_active_tasks=4096):

        @task(retries=3, retry_delay=timedelta(seconds=1))
        def conf(name, dag_run):
            return dag_run.conf[name]

        @task_group
        def started(machine):
            gate = AzureBackupOperator(
                protected_item=machine, poll_interval=INTERVAL, timeout=6 * 3600, priority_weight=9, **options
            )
            gate >> EmptyOperator(task_id="after")

        @task_group
        def awaited(job_id):
            gate = AzureBackupJobSensor(job_id=job_id, poke_interval=INTERVAL, timeout=6 * 3600, **options)
            gate >> EmptyOperator(task_id="after")

        started.expand(machine=conf.override(task_id="machines")("machines"))
        awaited.expand(job_id=conf.override(task_id="jobs")("jobs"))
""")
GROUPS = ("started", "awaited")
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
# A task that died with its worker is missed after a minute, not after five. So none that lives may be kept
# from saying so by many others: a few at a time.
CELERY = {
    "AIRFLOW__CORE__PARALLELISM": "8",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "60",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "10",
}
# What Airflow says of an event: in the log of its task or, where that was closed a moment too early, in the
# triggerer's own, as this one.
FIRED = re.compile(
    r"^(\S+) .*Trigger fired event .* name='gates/[^']*/(\w+)\.gate/(\d+)/\d+ \(ID \d+\)'", re.MULTILINE
)
BLOCKED = re.compile(r"async thread was blocked for ([\d.]+) seconds")
# Longer than this the event loop must never stand still.
STILL = 0.5
# Of so many jobs one fails, this one.
OF, FAILS = 50, 4
# On Celery, of so many gates one starts its backup itself. Each looks once for one that runs already, and so
# spends one of the reads that the waits are to have.
STARTS_ONE_OF = 20
SCALE = DOCS / "scale.md"
Gate = tuple[str, int]


@dataclass(frozen=True, kw_only=True)
class Report:
    """What came of it.

    :param opened: gates after a backup that succeeded, with the task after them run.
    :param shut: gates after a backup that failed, with the task after them not run.
    :param wrong: any other gates, by states.
    :param starts: gates that start their backup themselves.
    :param backups: what Azure has started for them.
    :param cancels: requests to cancel one.
    :param retried: gates whose task died with the worker that was killed, and was tried again.
    :param moved: waits that the killed triggerer had, and another took over.
    :param reads: of jobs, answered.
    :param blocked: seconds that a triggerer's event loop stood still, where Airflow warns of it: over 0.2 s.
    :param delay_p50: seconds from the end of a job to the event of its trigger; of those that ended while a
        triggerer ran.
    """

    waits: int
    opened: int
    shut: int
    wrong: dict[str, int]
    starts: int
    backups: int
    cancels: int
    retried: int
    moved: int
    reads: int
    throttled: int
    minutes: float
    blocked: list[float]
    delay_p50: float
    delay_p99: float
    events_behind_the_kill: int

    @property
    def is_right(self) -> bool:
        """Whether every gate is as its backup says, each asked for once and never cancelled."""
        gates = self.opened + self.shut == self.waits and not self.wrong
        return gates and (self.backups, self.cancels, self.throttled) == (self.starts, 0, 0)


class Fleet:
    """One run of it."""

    def __init__(self, stack: Stack, azure: Emulator, *, waits: int, starts: int) -> None:
        self.stack, self.azure, self.waits, self.starts = stack, azure, waits, starts
        self.counts = dict(zip(GROUPS, (starts, waits - starts), strict=True))
        self.gates = [(group, index) for group, count in self.counts.items() for index in range(count)]
        # Those that start their backup themselves have no job yet.
        self.jobs = [azure.start_job("vm-good", ending="Never", seconds=1e9) for _ in range(waits - starts)]
        self.ended: dict[Gate, float] = {}
        self.kept_by: dict[Gate, int] = {}
        self.began = time.time()
        self.run: Run

    def play(self) -> Report:
        machines = [name(number) for number in range(self.starts)]
        for machine in machines:
            self.azure.plan(machine, ending="Never", seconds=1e9)
        self.run = self.stack.run_dag("gates", {"machines": machines, "jobs": self.jobs})
        if self.starts:
            self._lose_a_worker()
        self._until("deferred", lambda: self._count("deferred") == self.waits, 3600)
        # Every trigger has been started, and every wait has had time for a look.
        self._until("awaited", lambda: self._logs("starting") >= self.waits, 300)
        self._end([gate for gate in self.gates if self._is_early(gate)])
        self._until("half of half are over", lambda: len(self._events()) >= self.waits // 4, 1800)
        self.kept_by = self._keepers()
        self.stack.kill("triggerer")
        killed = time.time()
        print(f"{killed - self.began:6.0f} s: the triggerer is killed", flush=True)
        self._end([gate for gate in self.gates if not self._is_early(gate)])
        if not self.stack.workers:  # else there is another, which takes all waits over
            self.stack.start("triggerer")
        self._until("all is over", lambda: self.stack.state(self.run) in FINISHED, 3600)
        return self._report(killed)

    def _lose_a_worker(self) -> None:
        """Kill a worker among the starts of backups; another takes its place, as Kubernetes would see to."""
        self._until("half of the backups run", lambda: len(self._started()) >= self.starts // 2, 600)
        lost = self.stack.workers[0]
        self.stack.kill(lost)
        print(f"{time.time() - self.began:6.0f} s: a worker is killed", flush=True)
        self.stack.start("worker", name=lost)
        self.stack.lower(lost)

    def _started(self) -> list[tuple[str, str]]:
        """The machine and the id of each backup that a gate has had Azure start."""
        return [
            (job["item"].rpartition(";")[2], job["id"])
            for job in self.azure.service.state()["jobs"]
            if job["id"] not in self.jobs
        ]

    def _end(self, gates: list[Gate]) -> None:
        known = dict(self._started())
        for gate in gates:
            group, index = gate
            job = known[name(index)] if group == "started" else self.jobs[index]
            self.azure.set_status(job, "Failed" if self._fails(gate) else "Completed")
            self.ended[gate] = time.time()

    def _is_early(self, gate: Gate) -> bool:
        """Whether its backup ends before the triggerer does; so does one half of each kind."""
        return 2 * gate[1] < self.counts[gate[0]]

    def _fails(self, gate: Gate) -> bool:
        return self.gates.index(gate) % OF == FAILS

    def _until(self, what: str, holds: Callable[[], bool], within: float) -> None:
        limit = Limit(within)
        while not holds():
            self.stack.check()
            if limit.is_over:
                raise TimeoutError(f"not {what} in {limit}: {self._states()}")
            time.sleep(2)
        print(f"{time.time() - self.began:6.0f} s: {what}", flush=True)

    def _count(self, state: str) -> int:
        found = [
            self.stack.call(
                "GET", f"{self.run.path}/taskInstances", state=state, task_id=f"{group}.gate", limit=1
            )
            for group in GROUPS
        ]
        return sum(int(each["total_entries"]) for each in found)

    def _states(self) -> dict[str, int]:
        return {state: self._count(state) for state in ("scheduled", "running", "deferred", *FINISHED)}

    def _keepers(self) -> dict[Gate, int]:
        """Which triggerer keeps which wait, by the numbers that Airflow gave these."""
        return {
            (task.task_id.partition(".")[0], task.map_index): job["id"]
            for task in self.stack.tasks(self.run)
            if task.state == "deferred" and (job := task.facts["triggerer_job"])
        }

    def _trigger_logs(self) -> dict[Gate, str]:
        """What the triggers of each gate logged, whichever triggerer they ran in."""
        found: dict[Gate, str] = {}
        for file in sorted(self.stack.home.glob("logs/dag_id=gates/**/*.trigger.*.log")):
            facts = dict(part.partition("=")[::2] for part in file.parts if "=" in part)
            gate = (facts["task_id"].partition(".")[0], int(facts["map_index"]))
            found[gate] = found.get(gate, "") + file.read_text(errors="replace")
        return found

    def _logs(self, word: str) -> int:
        return sum(word in text for text in self._trigger_logs().values())

    def _events(self) -> dict[Gate, float]:
        """When the end of each job was reported, as Unix time. That it was found is reported before."""
        told = [
            (gate, str(json.loads(line)["timestamp"]))
            for gate, text in self._trigger_logs().items()
            for line in text.splitlines()
            if "Trigger fired event" in line
        ]
        for moment, group, index in FIRED.findall(self._triggerers_logs()):
            told.append(((group, int(index)), moment))
        found: dict[Gate, float] = {}
        for gate, fired in sorted(
            (gate, datetime.fromisoformat(moment).timestamp()) for gate, moment in told
        ):
            if fired >= self.ended.get(gate, math.inf):
                found.setdefault(gate, fired)
        return found

    def _triggerers_logs(self) -> str:
        """What the triggerers said themselves, both lives of one that was killed among them."""
        logs = self.stack.home.glob("triggerer*.log")
        return "\n".join(log.read_text(errors="replace") for log in logs)

    def _report(self, killed: float) -> Report:
        tasks = {(task.task_id, task.map_index): task for task in self.stack.tasks(self.run)}
        ends: Counter[tuple[str, ...]] = Counter()
        for gate in self.gates:
            both = (tasks.get((f"{gate[0]}.{each}", gate[1])) for each in ("gate", "after"))
            states = (task.state if task else "lost" for task in both)
            ends["Failed" if self._fails(gate) else "Completed", *states] += 1
        opened = ends.pop(("Completed", "success", "success"), 0)
        shut = ends.pop(("Failed", "failed", "upstream_failed"), 0)
        events, alive = self._events(), self.stack.triggerers()
        delays = sorted(
            fired - self.ended[gate]
            for gate, fired in events.items()
            if self._is_early(gate) and fired < killed
        )
        return Report(
            waits=self.waits,
            opened=opened,
            shut=shut,
            wrong={" / ".join(states): number for states, number in ends.items()},
            starts=self.starts,
            backups=len(self._started()),
            cancels=self.azure.count("POST", "/cancel"),
            retried=sum(task.try_number > 1 for task in tasks.values() if task.task_id.endswith(".gate")),
            moved=sum(job not in alive for job in self.kept_by.values()),
            reads=self.azure.count("GET", "backupJobs", 200),
            throttled=self.azure.count("GET", "backupJobs", 429),
            minutes=round((time.time() - self.began) / 60, 1),
            blocked=[float(seconds) for seconds in BLOCKED.findall(self._triggerers_logs())],
            delay_p50=round(delays[len(delays) // 2], 1),
            delay_p99=round(delays[int(0.99 * len(delays))], 1),
            events_behind_the_kill=sum(fired > killed for fired in events.values()),
        )


def name(number: int) -> str:
    """Return what a machine is called that a gate backs up itself."""
    return f"fleet-{number + 1:02}"


def measure(home: Path, *, waits: int, interval: float = 60.0, celery: bool = False) -> Report:
    """Run it, with everything it needs started and ended. The arguments are those of :func:`started`."""
    with started(home, waits=waits, interval=interval, celery=celery) as fleet:
        return fleet.play()


@contextmanager
def started(
    home: Path,
    *,
    waits: int,
    interval: float = 60.0,
    celery: bool = False,
    others: Mapping[str, str] | None = None,
    env: Mapping[str, str] | None = None,
) -> Iterator[Fleet]:
    """Start everything that a fleet needs, and end it afterwards.

    :param interval: seconds between two looks.
    :param celery: on two workers and two triggerers.
    :param others: the sources of further DAGs, by id.
    :param env: further variables of the environment.
    """
    dags = home / "dags"
    dags.mkdir(parents=True)
    sources = {"gates": DAG, **(others or {})}
    for dag_id, source in sources.items():
        (dags / f"{dag_id}.py").write_text(source.replace("INTERVAL", str(interval)))
    starts = max(2, waits // STARTS_ONE_OF) if celery else 0
    items = [*seed.DEFAULT["items"], *seed.fleet(starts)[20:]]
    with (
        Emulator(speed=1, seed={"items": items}) as azure,
        Postgres() as database,
        Broker() if celery else nullcontext() as broker,
    ):
        azure.configure(job_read_budget=150, page_size=2 * waits)
        connection = json.dumps(azure.connection())
        with Stack(
            dags=dags,
            home=home / "airflow",
            database=database.url,
            broker=broker.url if broker else "",
            env={
                **SETTINGS,
                **(CELERY if celery else {}),
                "AIRFLOW_CONN_AZURE_BACKUP_DEFAULT": connection,
                **(env or {}),
            },
        ) as stack:
            stack.wait_for_dags(*sources)
            # Elsewhere the workers have their own computers, so here they get less time than the triggerers.
            for each in stack.workers or ("scheduler",):  # without Celery they are children of the scheduler
                stack.lower(each)
            yield Fleet(stack, azure, waits=waits, starts=starts)


def table(report: Report) -> str:
    """Return the report as rows."""
    rows = {
        "gates": report.waits,
        "opened after a backup that succeeded": report.opened,
        "kept shut after one that failed": report.shut,
        "lost, or wrong": sum(report.wrong.values()),
        **(_of_celery(report) if report.starts else {}),
        "events that came from the second triggerer": report.events_behind_the_kill,
        f"reads of jobs in {report.minutes:.0f} minutes": report.reads,
        "429s": report.throttled,
        "seconds from an end to its event, p50 and p99": f"{report.delay_p50:.0f}, {report.delay_p99:.0f}",
        "times the event loop was blocked over 0.2 s, over 0.5 s": (
            f"{len(report.blocked)}, {sum(seconds > STILL for seconds in report.blocked)}"
        ),
    }
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])


def _of_celery(report: Report) -> dict[str, object]:
    return {
        "gates that start their backup themselves": report.starts,
        "backups that Azure has started for them": report.backups,
        "cancels": report.cancels,
        "tasks that died with the killed worker, and were tried again": report.retried,
        "waits that the other triggerer took over": report.moved,
    }


def run(*, waits: int, interval: float = 60.0, celery: bool, write: bool) -> bool:
    """Run it and report what came of it; return whether all was as it must be.

    :param write: into docs/, as well.
    """
    home = Path(tempfile.mkdtemp(prefix="azbackup-fleet-"))
    report = measure(home, waits=waits, interval=interval, celery=celery)
    print(json.dumps(asdict(report), indent=2))
    # Where two triggerers share the cores with all the rest, neither can be asked never to wait for one.
    right = report.is_right and (celery or max(report.blocked, default=0.0) <= STILL)
    if write:
        insert("fleet", table(report), SCALE if celery else DOCS / "performance.md")
    if right:
        shutil.rmtree(home)
    else:
        print(f"The logs are in {home}.")
    return right


def main() -> int:
    """Run it as the command line says; the exit status is 0 if no gate was lost, wrong or doubled."""
    parser = argparse.ArgumentParser(prog="python -m dev.bench.fleet", description=__doc__)
    parser.add_argument("--waits", type=int, default=1000)
    parser.add_argument("--celery", action="store_true", help="two workers and two triggerers")
    parser.add_argument("--write", action="store_true", help="put the report into docs/")
    parser.add_argument("--interval", type=float, default=60.0, help="seconds between two looks")
    asked = parser.parse_args()
    take_signals()
    return 0 if run(**vars(asked)) else 1


if __name__ == "__main__":
    sys.exit(main())

"""``make demo``: the example Dags on a real Airflow, against the emulator, as they go and as they ended.

Ends with a table of what each task did and why, then stays up until Ctrl-C. With ``EXIT=1`` or ``CI=true`` in
the environment it ends by itself. The exit status is 0 only if every Dag did what it must.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import sys
import tempfile
import textwrap
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from urllib.parse import urlsplit

from azure_backup_emulator import Emulator, seed
from dev.stack.airflow_api import FINISHED, Json, Run, Task
from dev.stack.pace import Limit
from dev.stack.stack import PASSWORD, USER, Stack, StackError, take_signals

EXAMPLES = Path(__file__).parents[2] / "example_dags"
LIMIT = 600.0  # seconds for all examples together, and 3 for each machine; they need one or two minutes
OURS = "airflow_provider_azbackup"

# What each example is there to show: the state every task must end in.
EXPECTED: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "azbackup_gate_one_vm": {"backup": "success", "patch": "success"},
        "azbackup_backup_fails": {"backup": "failed", "notify": "success", "patch": "upstream_failed"},
        "azbackup_cancelled_in_transfer": {"backup": "failed", "patch": "upstream_failed"},
        "azbackup_job_handed_over": {"start": "success", "backed_up": "success", "patch": "success"},
        "azbackup_restore_drill": {"restore": "success", "verify": "success", "verified": "success"},
        "azbackup_sampled_drill": {
            "machines": "success",
            "sample": "success",
            **{
                f"one.{name}[{index}]": "success"
                for name in (
                    "proven_restore.begin",
                    "proven_restore.restore",
                    "proven_restore.boots",
                    "proven_restore.record",
                )
                for index in range(2)
            },
        },
        "azbackup_last_night": {
            "protected": "success",
            **{f"backed_up[{machine}]": "success" for machine in range(3)},
            "migrate": "success",
        },
        "azbackup_guarded_patch": {
            "backed_up.backup": "success",
            "backed_up.patch": "failed",
            "backed_up.check": "upstream_failed",
            "backed_up.restore": "success",
        },
        "azbackup_estate": {"tier_1": "success", "notify": "success", "change_window": "success"},
        # Started by hand as well: an event would be seen in the next list, minutes later.
        "azbackup_after_backup": {"report": "success"},
        "azbackup_fleet": {
            "machines": "success",
            **{f"backup[{machine}]": "success" for machine in range(20)},
            "patch_fleet": "success",
        },
    }
)
# What a run of an example is given: a smaller sample than it would take.
CONF: Mapping[str, Mapping[str, object]] = MappingProxyType({"azbackup_sampled_drill": {"sample": 2}})
BACKUPS = 25
MACHINES = 20  # of the fleet, among the tasks and the backups above
# What the drills restore: machines that the policy has backed up in the night before.
DRILLED = "vm-good"
SAMPLED = tuple(machine["name"] for machine in seed.fleet(MACHINES))
# Whose backups, made by a policy, are under way when the gates look for them.
NIGHTLY = ("nightly-1", "nightly-2", "vm-elsewhere")


def quick_polling(seconds: float) -> str:
    """Return a cluster policy under which our tasks look at their job every so many seconds.

    The examples keep the minute that suits the real Azure; an hour of the emulator's lasts seconds.
    """
    return textwrap.dedent(f"""\
        def task_policy(task):
            mapped = getattr(task, "partial_kwargs", {{}})
            if mapped.get("deferrable"):
                sensor = task.task_type.endswith("Sensor")
                mapped["poke_interval" if sensor else "poll_interval"] = {seconds}
            for name in ("poll_interval", "poke_interval"):  # the operator's, the sensor's
                if hasattr(task, name):
                    setattr(task, name, {seconds})
        """)


class Screen:
    """Prints what changes while Dags run: the states of tasks, and what our own code logs of a job.

    Mapped tasks share a line, at most one in a few seconds: twenty of them change all the time.
    """

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.began = time.monotonic()
        self._states: dict[tuple[str, str], str] = {}
        self._told: dict[tuple[str, str], float] = {}
        self._logged: Counter[str] = Counter()

    def follow(self, runs: list[Run], *, within: float) -> None:
        """Print what changes until every run has ended.

        :raises StackError: when one has not in so many seconds of a quiet machine.
        """
        going, limit = list(runs), Limit(within)
        while going:
            self.stack.check()
            # Asked before the tasks are, so that nothing can change unseen after the last look.
            ended = [run for run in going if self.stack.state(run) in FINISHED]
            for run in going:
                self._look(run, last=run in ended)
            going = [run for run in going if run not in ended]
            if going and limit.is_over:
                raise StackError(f"not ended after {limit}: {', '.join(run.dag_id for run in going)}")
            time.sleep(0.5)

    def _look(self, run: Run, *, last: bool) -> None:
        tasks: dict[str, list[Task]] = {}
        for task in self.stack.tasks(run):
            tasks.setdefault(task.task_id, []).append(task)
        for name, found in tasks.items():
            states = Counter(task.state for task in found)
            over = last or set(states) <= FINISHED
            if len(found) == 1:
                self._tell_log(found[0])
                self._tell_state(run, name, found[0].state)
            elif over or time.monotonic() - self._told.get((run.dag_id, name), 0) > 3:
                self._tell_state(run, name, ", ".join(f"{states[word]} {word}" for word in sorted(states)))

    def _tell_state(self, run: Run, name: str, state: str) -> None:
        if self._states.get((run.dag_id, name), "none") != state:
            self._states[run.dag_id, name] = state
            self._told[run.dag_id, name] = time.monotonic()
            self._print(run, name, state)

    def _tell_log(self, task: Task) -> None:
        """Print the lines that our operators, sensors and triggers have logged since the last look."""
        if task.state not in ("running", "deferred"):
            return
        ours = [str(line["event"]) for line in self.stack.log(task) if OURS in str(line.get("logger"))]
        for event in ours[self._logged[task.path] :]:
            self._print(task.run, task.name, f"  {event.splitlines()[0]}")
        self._logged[task.path] = len(ours)

    def _print(self, run: Run, name: str, text: str) -> None:
        passed = time.monotonic() - self.began
        print(f"{passed:6.1f} s  {run.dag_id:32} {name:11} {text}", flush=True)


def why(stack: Stack, task: Task) -> str:
    """Say in a line why a task ended as it did: what Azure said, what it raised, what it printed."""
    if task.state == "upstream_failed":
        return "not run: what it depends on did not succeed"
    if job := stack.xcom(task, "job"):
        facts = [
            f"job {job['status']}",
            *(f"{error['title']}: {error['message']}" for error in job["errors"]),
        ]
        return ", ".join(facts)
    lines = stack.log(task)
    for line in lines:
        for raised in line.get("error_detail") or []:
            return f"{raised['exc_type']}: {raised['exc_value']}"
    printed = [str(line["event"]) for line in lines if line.get("logger") == "task.stdout"]
    if printed:
        return printed[0]
    returned = stack.xcom(task)
    return f"returned {f'{len(returned)} of them' if isinstance(returned, list) else returned}"


def rows(stack: Stack, runs: list[Run]) -> Iterator[tuple[str, str, str, str]]:
    """Yield Dag, task, state and reason; mapped tasks that ended alike share a row."""
    for run in runs:
        shown: Counter[tuple[str, str, str]] = Counter()
        for task in stack.tasks(run):
            shown[task.task_id, task.state, why(stack, task)] += 1
        for (name, state, reason), count in shown.items():
            yield run.dag_id, name if count == 1 else f"{name} x {count}", state, reason


def table(lines: list[tuple[str, str, str, str]]) -> str:
    """Lay rows out under their headings, the last column wrapped into what the terminal leaves."""
    heads = ("DAG", "TASK", "STATE", "WHY")
    widths = [max(len(line[column]) for line in [heads, *lines]) for column in range(3)]
    left = max(30, shutil.get_terminal_size((140, 40)).columns - sum(widths) - 6)
    out = []
    for line in [heads, *lines]:
        reason = textwrap.wrap(line[3], left) or [""]
        cells = [line[:3], *[("", "", "")] * (len(reason) - 1)]
        for cell, text in zip(cells, reason, strict=True):
            padded = "  ".join(value.ljust(width) for value, width in zip(cell, widths, strict=True))
            out.append(f"{padded}  {text}".rstrip())
    return "\n".join(out)


def shortcomings(stack: Stack, requests: Sequence[Json], runs: Iterable[Run], machines: int) -> list[str]:
    """Return in what the runs differ from what the examples must do; nothing, if all is well.

    :param requests: what Azure was asked.
    :param machines: of the fleet.
    """
    found = []
    for run in runs:
        states = {task.name: task.state for task in stack.tasks(run)}
        every = EXPECTED[run.dag_id]
        expected = {name: state for name, state in every.items() if "backup[" not in name}
        if len(expected) < len(every):
            expected |= {f"backup[{machine}]": "success" for machine in range(machines)}
        for name, state in expected.items():
            if states.get(name) != state:
                found.append(f"{run.dag_id}: {name} must end as {state}, and is {states.get(name)}")
    asked = [entry["path"].lower() for entry in requests if entry["path"].endswith("/backup")]
    wanted = BACKUPS - MACHINES + machines
    if not len(asked) == len(set(asked)) == wanted:
        found.append(f"{wanted} backups were wanted, and Azure was asked for {len(asked)}")
    return found


def demo(*, speed: float, port: int, machines: int, stay: bool, home: Path) -> list[str]:
    """Start everything, run the examples, report on them, and end everything; see :func:`shortcomings`."""
    others = [item for item in seed.DEFAULT["items"] if not item["name"].startswith("fleet-")]
    items = [*others, *seed.fleet(machines)]
    with Emulator(speed=speed, directory=home / "azure", seed={"items": items}) as azure:
        # Its hour lasts seconds, but reads are planned by the clock of this machine: grant enough of them.
        azure.configure(job_read_budget=math.ceil(150 * speed))
        for machine in (DRILLED, *(each["name"] for each in seed.fleet(machines))):
            azure.start_job(machine, seconds=1)
        for machine in NIGHTLY:
            azure.start_job(machine, seconds=90 * speed)
        print(f"Azure Backup emulator: {azure.url}, {speed:g} times as fast as Azure", flush=True)
        print("Airflow: starting", flush=True)
        connection = json.dumps(azure.connection())
        with Stack(
            dags=EXAMPLES,
            home=home / "airflow",
            port=port,
            env={
                "AIRFLOW_CONN_AZURE_BACKUP_DEFAULT": connection,
                # The page talks to no host but Azure's unless the deployment lists it.
                "AIRFLOW__AZURE_BACKUP__ALLOWED_HOSTS": urlsplit(azure.url).netloc,
            },
            local_settings=quick_polling(max(1.0, 600 / speed)),
        ) as stack:
            stack.wait_for_dags(*EXPECTED)
            print(f"Airflow: {stack.url}, user {USER}, password {PASSWORD}\n", flush=True)
            runs = [stack.run_dag(dag_id, CONF.get(dag_id)) for dag_id in EXPECTED]
            Screen(stack).follow(runs, within=LIMIT + 3 * machines)
            print(f"\n{table(list(rows(stack, runs)))}\n")
            found = shortcomings(stack, azure.requests, runs, machines)
            backups = BACKUPS - MACHINES + machines
            well = f"Every Dag did what it must; Azure was asked for {backups} backups, once each."
            print("\n".join(found) or well)
            if stay:
                print(
                    f"\nAirflow stays up at {stack.url} (user {USER}, password {PASSWORD}). Ctrl-C ends it."
                )
                _wait_for_ctrl_c(stack)
            print("Stopping.", flush=True)
    return found


def _wait_for_ctrl_c(stack: Stack) -> None:
    sys.stdout.flush()
    try:
        while True:
            stack.check()
            time.sleep(1)
    except KeyboardInterrupt:
        print()


def main() -> int:
    """Run the demo as the command line and the environment say; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m dev.demo.demo", description=__doc__)
    parser.add_argument("--speed", type=float, default=120.0, help="emulated seconds in a real one")
    parser.add_argument("--port", type=int, default=0, help="of Airflow's UI; a free one if not given")
    parser.add_argument("--machines", type=int, default=MACHINES, help="how many the fleet has")
    options = parser.parse_args()
    stay = os.environ.get("EXIT", "") in ("", "0") and os.environ.get("CI", "").lower() != "true"
    take_signals()
    home = Path(tempfile.mkdtemp(prefix="azbackup-demo-"))
    try:
        found = demo(speed=options.speed, port=options.port, machines=options.machines, stay=stay, home=home)
    except StackError as error:
        print(f"{error}\nThe logs are in {home}.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        shutil.rmtree(home, ignore_errors=True)
        return 130
    if found:
        print(f"The logs are in {home}.")
        return 1
    shutil.rmtree(home, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

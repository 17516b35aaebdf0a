"""How long a triggerer's event loop stands still when many triggers are handed to it: Airflow's, and ours.

    python -m dev.bench.takeover [--triggers 800] [--write]

That is what happens when a triggerer dies and another takes over. First each of the tasks waits for a trigger
of Airflow's own that has nothing to do (``DateTimeTrigger``, for tomorrow), then for a job of the emulator's.
The tasks are put to sleep in the database, as no worker has a part in it. ``--write`` puts the figures into
docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import textwrap
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow_provider_azbackup.core.model.resources import Vault
from azure_backup_emulator import Emulator
from dev.bench.fleet import BLOCKED, SETTINGS, STILL
from dev.bench.reads import insert
from dev.stack.pace import Limit
from dev.stack.postgres import Postgres
from dev.stack.stack import Stack

DAG = textwrap.dedent("""\
    from airflow.providers.standard.operators.bash import BashOperator
    from airflow.sdk import DAG

    with DAG("parked", schedule=None, max_active_tasks=4096):
        BashOperator.partial(task_id="wait", pool="closed").expand(bash_command=["true"] * NUMBER)
""")
# Runs in Airflow's own environment: the model of a trigger encrypts its arguments with the key there.
PARK = textwrap.dedent("""\
    import json
    import sys
    from datetime import UTC, datetime

    from airflow.models.taskinstance import TaskInstance
    from airflow.models.trigger import Trigger
    from airflow.utils.session import create_session
    from sqlalchemy import select

    name, *arguments = json.load(sys.stdin)
    with create_session() as session:
        tasks = session.scalars(select(TaskInstance).where(TaskInstance.dag_id == "parked"))
        for task, values in zip(tasks, arguments, strict=True):
            if "moment" in values:
                values["moment"] = datetime.fromisoformat(values["moment"])
            trigger = Trigger(classpath=name, kwargs=values)
            session.add(trigger)
            session.flush()
            task.trigger_id, task.state, task.start_date = trigger.id, "deferred", datetime.now(UTC)
            task.next_method, task.next_kwargs, task.try_number = "execute_complete", {}, 1
""")
# Seconds that are watched from the first trigger on.
WATCHED = 60


class Takeover:
    """One Airflow, with tasks that wait for what is asked for."""

    def __init__(self, stack: Stack, *, triggers: int) -> None:
        self.stack, self.triggers = stack, triggers
        self.seen = 0

    def prepare(self) -> None:
        """Have the tasks, and neither a scheduler nor a triggerer."""
        run = self.stack.run_dag("parked", {})
        limit = Limit(300)
        while self.stack.call("GET", f"{run.path}/taskInstances", state="scheduled", limit=1)[
            "total_entries"
        ] < (self.triggers):
            if limit.is_over:
                raise TimeoutError(f"the tasks were not scheduled in {limit}")
            time.sleep(1)
        for name in ("scheduler", "triggerer"):
            self.stack.kill(name)

    def blocked(self, name: str, arguments: list[dict[str, Any]]) -> list[float]:
        """Return the seconds that the loop stood still, each time it was over 0.2 s.

        :param name: class path of the trigger.
        :param arguments: of the trigger of each task.
        """
        subprocess.run(
            [sys.executable, "-c", PARK],
            input=json.dumps([name, *arguments]),
            env=self.stack.env,
            cwd=self.stack.home,
            text=True,
            check=True,
        )
        self.stack.start("triggerer")
        self.seen += self.triggers
        limit = Limit(300)
        while self._started() < self.seen:
            self.stack.check()
            if limit.is_over:
                raise TimeoutError(f"{self._started()} of {self.seen} triggers were started in {limit}")
            time.sleep(1)
        time.sleep(WATCHED)
        self.stack.kill("triggerer")
        log = (self.stack.home / "triggerer.log").read_text()
        return [float(seconds) for seconds in BLOCKED.findall(log.rpartition("Starting the triggerer")[2])]

    def _started(self) -> int:
        return len(list(self.stack.home.glob("logs/dag_id=parked/**/*.trigger.*.log")))


def measure(home: Path, *, triggers: int) -> dict[str, list[float]]:
    """Return what :meth:`Takeover.blocked` found, by whose triggers they were."""
    dags = home / "dags"
    dags.mkdir(parents=True)
    (dags / "parked.py").write_text(DAG.replace("NUMBER", str(triggers)))
    with Emulator(speed=1) as azure, Postgres() as database:
        azure.configure(job_read_budget=150, page_size=2 * triggers)
        connection = json.dumps(azure.connection())
        env = {**SETTINGS, "AIRFLOW_CONN_AZURE_BACKUP_DEFAULT": connection}
        with Stack(dags=dags, home=home / "airflow", database=database.url, env=env) as stack:
            stack.cli("pools", "set", "closed", "0", "nothing leaves it")
            stack.wait_for_dags("parked")
            takeover = Takeover(stack, triggers=triggers)
            takeover.prepare()
            tomorrow = {
                "moment": (datetime.now(UTC) + timedelta(days=1)).isoformat(),
                "end_from_trigger": False,
            }
            theirs = takeover.blocked(
                "airflow.providers.standard.triggers.temporal.DateTimeTrigger", [tomorrow] * triggers
            )
            now, place = time.time(), azure.connection()["extra"]
            vault = Vault(
                subscription_id=place["subscription_id"],
                resource_group_name=place["resource_group_name"],
                name=place["vault_name"],
            )
            jobs = [azure.start_job("vm-good", ending="Never", seconds=1e9) for _ in range(triggers)]
            waits = [
                {
                    "job_id": f"{vault.path}/backupJobs/{job}",
                    "azure_backup_conn_id": "azure_backup_default",
                    "poll_interval": 60.0,
                    "first_pause": 15.0,
                    "deadline": now + 6 * 3600,
                    "since": now,
                }
                for job in jobs
            ]
            ours = takeover.blocked("airflow_provider_azbackup.triggers.AzureBackupJobTrigger", waits)
    return {"`DateTimeTrigger` of Airflow, which does nothing": theirs, "a wait for a job, of ours": ours}


def table(found: dict[str, list[float]], triggers: int) -> str:
    """Return it as rows."""
    rows = [
        f"| {name} | {len(blocked)} | {sum(seconds > STILL for seconds in blocked)} "
        f"| {max(blocked, default=0.0):.2f} |"
        for name, blocked in found.items()
    ]
    head = f"| {triggers} triggers handed over at once | blocked over 0.2 s | over 0.5 s | longest, s |"
    return "\n".join([head, "|---|---|---|---|", *rows])


def main() -> None:
    """Run it as the command line says."""
    parser = argparse.ArgumentParser(
        prog="python -m dev.bench.takeover", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--triggers", type=int, default=800)
    parser.add_argument("--write", action="store_true", help="put the figures into docs/performance.md")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="azbackup-takeover-") as home:
        found = measure(Path(home), triggers=asked.triggers)
    print(json.dumps(found, indent=2))
    if asked.write:
        insert("takeover", table(found, asked.triggers))


if __name__ == "__main__":
    main()

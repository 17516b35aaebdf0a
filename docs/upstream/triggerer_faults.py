"""Two faults of Airflow's triggerer, without servers.

AIRFLOW_HOME=$(mktemp -d) python triggerer_faults.py on_kill
AIRFLOW_HOME=$(mktemp -d) python triggerer_faults.py event

What the supervisor of the triggers does with its database is done here by hand: it
is given triggers to run, and is shown that they are not wanted any more.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import Any

HOME = Path(os.environ["AIRFLOW_HOME"])
NOTES = HOME / "notes"
os.environ["PYTHONPATH"] = str(
    Path(__file__).parent
)  # for the process of the triggers

from airflow.triggers.base import BaseTrigger, TriggerEvent  # noqa: E402  # see above


def note(text: str) -> None:
    with NOTES.open("a") as notes:
        notes.write(f"  {text}\n")


class _Trigger(BaseTrigger):
    def serialize(self) -> tuple[str, dict[str, Any]]:
        return f"triggerer_faults.{type(self).__name__}", {}


class SlowToCancel(_Trigger):
    """Needs five seconds to cancel its remote job."""

    async def run(self):
        await asyncio.sleep(3600)
        yield TriggerEvent(None)

    async def on_kill(self):
        began, how = time.monotonic(), "ended by itself"
        try:
            await asyncio.sleep(5)
        except BaseException as error:
            how = f"was cut off by {type(error).__name__}"
            raise
        finally:
            note(f"on_kill {how} after {time.monotonic() - began:.1f} s")


class OddEvent(_Trigger):
    """Fires an event with half of a surrogate pair, which JSON may contain."""

    async def run(self):
        await asyncio.sleep(1)
        yield TriggerEvent({"message": "half of a pair: \ud83d"})


class Bystander(_Trigger):
    """Has nothing to do with it."""

    async def run(self):
        try:
            await asyncio.sleep(3600)
        except BaseException as error:
            note(f"the bystander ended with {type(error).__name__}")
            raise
        yield TriggerEvent(None)


def main(fault: str) -> None:
    from airflow import __version__
    from airflow.executors.workloads import RunTrigger
    from airflow.jobs.job import Job
    from airflow.jobs.triggerer_job_runner import TriggerRunnerSupervisor
    from airflow.models.trigger import Trigger
    from airflow.utils.db import initdb

    initdb()
    supervisor = TriggerRunnerSupervisor.start(job=Job(id=1), capacity=10)
    kinds = [SlowToCancel] if fault == "on_kill" else [Bystander, OddEvent]
    for number, kind in enumerate(kinds, 1001):
        supervisor.creating_triggers.append(
            RunTrigger(
                id=number,
                classpath=f"triggerer_faults.{kind.__name__}",
                encrypted_kwargs=Trigger.encrypt_kwargs({}),
            )
        )
        supervisor.running_triggers.add(number)

    def serve(seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and supervisor.is_alive():
            supervisor._service_subprocess(0.1)

    serve(40)
    if fault == "on_kill":
        supervisor.update_triggers(set())  # their rows are gone: a user has acted
        serve(20)
    note(f"the process of the triggers is {_life(supervisor)}")
    note(f"events that have arrived: {[*supervisor.events]}")
    supervisor.kill(force=True)
    print(f"Airflow {__version__}\n{NOTES.read_text()}", end="")


def _life(supervisor: Any) -> str:
    return "alive" if supervisor.is_alive() else "dead"


if __name__ == "__main__":
    main(sys.argv[1])

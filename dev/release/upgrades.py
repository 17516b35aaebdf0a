"""Record what a revision of this package hands to the next process, for tests/repository/test_upgrades.py.

``python -m dev.release.upgrades [REVISION]`` runs tasks of that revision of this repository against its own
emulator, and writes what they kept, handed over and pushed into
``tests/repository/upgrades/<revision>.json``. Record each release, and whatever changed such a shape; never
edit what was recorded.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ROOT = Path(__file__).parents[2]
RECORDS = ROOT / "tests" / "repository" / "upgrades"
PACKAGE = "airflow_provider_azbackup"
# Emulated seconds that pass in a real one, and how many a backup lasts.
SPEED, LASTS = 60.0, 300.0
# What makes the operator leave the search for its job to the triggerer.
BATCH_FROM = 25

# The jobs that cases need: of which item, and how they end.
STARTED = {
    "job": ("fleet-01", "Completed"),
    "cancel": ("fleet-05", "Never"),
    "freshness": ("fleet-03", "Completed"),
    "fleet": ("fleet-07", "Completed"),
    "job that is expected": ("fleet-08", "Completed"),
}
# Module and name of a class, and its arguments; of some they hold the job that was started for them.
CASES: Mapping[str, tuple[str, str, Callable[[str], dict[str, Any]]]] = {
    "backup": ("operators", "AzureBackupOperator", lambda _: {"protected_item": "vm-good"}),
    "backup that fails": ("operators", "AzureBackupOperator", lambda _: {"protected_item": "vm-fails"}),
    "backup that takes too long": (
        "operators",
        "AzureBackupOperator",
        lambda _: {"protected_item": "vm-cancelled", "timeout": 20.0},
    ),
    "job": ("sensors", "AzureBackupJobSensor", lambda job_id: {"job_id": job_id}),
    "cancel": ("operators", "AzureBackupCancelJobOperator", lambda job_id: {"job_id": job_id}),
    "freshness": (
        "sensors",
        "AzureBackupFreshnessSensor",
        lambda _: {"protected_item": "fleet-03", "newer_than": "2026-01-01T00:00:00+00:00"},
    ),
    "fleet": (
        "sensors",
        "AzureBackupFleetSensor",
        lambda _: {"protected_items": ["fleet-07"], "newer_than": "2026-01-01T00:00:00+00:00"},
    ),
    "job that is expected": (
        "sensors",
        "AzureBackupJobSensor",
        lambda job_id: {"job_id": job_id, "expected_by": "2099-01-01T00:00:00+00:00"},
    ),
    "restore": (
        "operators",
        "AzureBackupRestoreOperator",
        lambda _: {
            "protected_item": "documents",
            "restore_to": import_module(f"{PACKAGE}.restore_to").original_share(copy_options="Skip"),
        },
    ),
    "backup in a crowd": ("operators", "AzureBackupOperator", lambda _: {"protected_item": "fleet-04"}),
}
# Apart from the cases, what an asset's watch keeps.
WATCH = "watch"


def make(case: str, job_id: str) -> Any:
    """Return the task of a case, None where a revision has no such class.

    :param job_id: a job that was started for it.
    """
    module, name, arguments = CASES[case]
    kind = getattr(import_module(f"{PACKAGE}.{module}"), name, None)
    interval = "poke_interval" if module == "sensors" else "poll_interval"
    options = {"task_id": "task", "deferrable": True, interval: 2.0, "retries": 2}
    return kind(**options, **arguments(job_id)) if kind else None


class _Store(dict[str, Any]):
    """Airflow's task state store."""

    def set(self, key: str, value: Any) -> None:
        self[key] = json.loads(json.dumps(value))

    def delete(self, key: str) -> None:
        self.pop(key, None)


class _Try:
    """The first try of a task: what it keeps, hands over and pushes."""

    def __init__(self, case: str, job_id: str) -> None:
        self.case, self.job_id = case, job_id
        self.store, self.xcoms = _Store(), dict[str, Any]()
        now = datetime.now(UTC)
        ti = SimpleNamespace(
            dag_id="nightly", task_id="task", run_id="monday", map_index=-1, try_number=1, max_tries=2,
            start_date=now, xcom_push=self._push,
        )  # fmt: skip
        run = SimpleNamespace(start_date=now - timedelta(seconds=1))
        self.context: Any = {"ti": ti, "dag_run": run, "task_state_store": self.store}

    def _push(self, *, key: str, value: Any) -> None:
        self.xcoms[key] = json.loads(json.dumps(value))

    def leave(self) -> bool:
        """Execute the task; False where a revision has no such class."""
        from airflow.providers.common.compat.sdk import TaskDeferred

        if (task := make(self.case, self.job_id)) is None:
            return False
        try:
            task.execute(self.context)
        except TaskDeferred as left:
            self.trigger, self.method, self.kwargs = left.trigger, left.method_name, left.kwargs
            return True
        raise AssertionError(f"{self.case} did not defer")

    async def resume(self) -> dict[str, Any]:
        """Run the trigger, resume in a new task, and return the whole story."""
        from airflow.providers.common.compat.sdk import TaskDeferred

        path, arguments = self.trigger.serialize()
        note = dict(self.store)
        (event,) = [event.payload async for event in self.trigger.run()]
        self.xcoms.clear()
        result: Any = None
        error = None
        handed = json.loads(json.dumps({**(self.kwargs or {}), "event": event}))
        try:
            task = make(self.case, self.job_id)
            result = await asyncio.to_thread(task.resume_execution, self.method, handed, self.context)
        except TaskDeferred as again:
            result = {"deferred": again.trigger.serialize()[0]}
        except Exception as met:
            error = type(met).__name__
        return {
            "job_id": self.job_id,
            "notes": note,
            "trigger": [path, arguments],
            "method": self.method,
            "handed": handed,
            "result": result,
            "error": error,
            "xcoms": self.xcoms,
        }


class _Asset(dict[str, Any]):
    """Airflow's state store of one asset."""

    async def aget(self, key: str) -> Any:
        return self.get(key)

    async def aset(self, key: str, value: Any) -> None:
        self[key] = json.loads(json.dumps(value))


async def watch(azure: Any) -> dict[str, Any]:
    """Watch the ends of an item's backups, and return what is kept once one was reported and one runs."""
    stores = import_module(f"{PACKAGE}.triggerer.checkpoints")
    kind = import_module(f"{PACKAGE}.triggers").AzureBackupEventTrigger
    azure.start_job("fleet-06", seconds=SPEED)
    azure.start_job("fleet-06", ending="Never")
    trigger, kept = (
        kind(protected_item="fleet-06", outcomes=["succeeded", "failed"], poll_interval=2.0),
        _Asset(),
    )
    trigger.asset_state_store = kept
    events = aiter(trigger.run())
    await anext(events)
    # On its way at first; after a while it counts as stored, and that is written down before the next end.
    with suppress(TimeoutError):
        await asyncio.wait_for(anext(events), 20.0)
    path, arguments = trigger.serialize()
    return {
        "trigger": [path, arguments],
        "variable": stores.VariableStore(path, arguments).name,
        "checkpoint": kept[stores.KEY],
    }


async def record() -> dict[str, Any]:
    """Run all cases with the package that is imported, and return their stories."""
    emulator = import_module("azure_backup_emulator")
    with emulator.Emulator(speed=SPEED) as azure:
        os.environ["AIRFLOW_CONN_AZURE_BACKUP_DEFAULT"] = json.dumps(azure.connection())
        for name in ("vm-good", "vm-fails", "documents", "fleet-04"):
            azure.plan(name, ending="Failed" if name == "vm-fails" else "Completed", seconds=LASTS)
        azure.plan("vm-cancelled", ending="Never")
        azure.start_job("documents", seconds=SPEED)  # what is restored
        await asyncio.sleep(2.0)
        waits = []
        for case in CASES:
            if case == "backup in a crowd":
                for _ in range(BATCH_FROM):
                    azure.start_job("fleet-02", seconds=10 * LASTS)
            item, ending = STARTED.get(case, ("", ""))
            wait = _Try(case, azure.start_job(item, ending=ending, seconds=LASTS) if item else "")
            if wait.leave():
                waits.append(wait)
        stories = await asyncio.gather(*(each.resume() for each in waits))
        watched = {WATCH: await watch(azure)}
    return {**{each.case: story for each, story in zip(waits, stories, strict=True)}, **watched}


def record_revision(revision: str) -> Path:
    """Record a revision with its own package, under its short name."""

    def git(*arguments: str) -> bytes:
        return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True).stdout

    name = git("rev-parse", "--short=7", revision).decode().strip()
    with tempfile.TemporaryDirectory() as directory:
        with tarfile.open(fileobj=io.BytesIO(git("archive", name, PACKAGE, "emulator"))) as archive:
            archive.extractall(directory, filter="data")
        done = subprocess.run(
            [sys.executable, __file__, "--here"],
            env={
                **os.environ,
                "PYTHONPATH": f"{directory}{os.pathsep}{directory}/emulator",
                "AIRFLOW_HOME": directory,
                "NO_PROXY": "localhost",
            },
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
    RECORDS.mkdir(exist_ok=True)
    path = RECORDS / f"{name}.json"
    path.write_text(json.dumps(json.loads(done.stdout.splitlines()[-1]), indent=1, sort_keys=True) + "\n")
    return path


def main() -> None:
    """Record one revision, HEAD if none is named."""
    if sys.argv[1:] == ["--here"]:
        print(json.dumps(asyncio.run(record())))
    else:
        print(record_revision(sys.argv[1] if sys.argv[1:] else "HEAD"))


if __name__ == "__main__":
    main()

"""Backups end while the triggerer is killed twice: what becomes of the events of an asset, and of its Dag.

``AZBACKUP_ENDS=500 .venv/bin/pytest -s -m e2e tests/e2e/test_events.py`` does it with five hundred.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from dev.stack.airflow_api import Json, Run
from dev.stack.pace import Limit
from dev.stack.stack import Stack
from tests.e2e.azure import Azure

pytestmark = pytest.mark.e2e

DAG, ASSET, MACHINE = "watched", "watched-backups", "spare-60"
JOBS = int(os.environ.get("AZBACKUP_ENDS", "100"))
# Real seconds in which they end, one after the other.
SPREAD = max(20.0, 0.08 * JOBS)


def until(found: Callable[[], bool], airflow: Stack, *, timeout: float) -> None:
    """Wait until something is so."""
    limit = Limit(timeout)
    while not found():
        airflow.check()
        assert not limit.is_over, found
        time.sleep(0.5)


def pause(airflow: Stack, paused: bool) -> None:
    """Pause or unpause the Dag, and have its file read again: only then Airflow looks to its watchers."""
    airflow.set_paused(DAG, paused)
    airflow.reparse(DAG)


class Asset:
    """The watched asset, as Airflow's API shows it."""

    def __init__(self, airflow: Stack) -> None:
        self._airflow = airflow
        (found,) = [
            each for each in airflow.call("GET", "/assets", limit=100)["assets"] if each["name"] == ASSET
        ]
        self._id = found["id"]

    @property
    def is_watched(self) -> bool:
        """Whether the watch has begun: it has written down where."""
        kept = self._airflow.call("GET", f"/assets/{self._id}/state-store")["asset_state_store"]
        return any(entry["key"] == "azure_backup_events" for entry in kept)

    @property
    def count(self) -> int:
        return int(self._page(0, 1)["total_entries"])

    def ends(self) -> Iterator[Json]:
        """Yield all that the events have reported."""
        for first in range(0, self.count, 100):
            for event in self._page(first, 100)["asset_events"]:
                yield from event["extra"]["payload"]["backups"]

    def _page(self, first: int, limit: int) -> Json:
        return self._airflow.call(
            "GET", "/assets/events", asset_id=self._id, offset=first, limit=limit, order_by="timestamp"
        )


def heard(airflow: Stack) -> Counter[str]:
    """Return how often runs of the Dag had each job reported, repeats left out as the docs show it."""
    runs = airflow.call("GET", f"/dags/{DAG}/dagRuns", limit=100)["dag_runs"]
    assert {run["run_type"] for run in runs} <= {"asset_triggered"}
    tasks = [airflow.task(Run(dag_id=DAG, run_id=run["dag_run_id"]), "hear") for run in runs]
    return Counter(job_id for task in tasks for job_id in airflow.xcom(task) or ())


def test_ends_and_two_kills_miss_no_event_and_repeat_none_unsaid(airflow: Stack, azure: Azure) -> None:
    began = time.monotonic()
    azure.reset()
    pause(airflow, paused=False)
    asset = Asset(airflow)
    try:
        until(lambda: asset.is_watched, airflow, timeout=60)
        ids = [azure.start_job(MACHINE, seconds=120 * (5 + SPREAD * number / JOBS)) for number in range(JOBS)]
        for kill in (1, 2):
            until(lambda kill=kill: asset.count >= kill, airflow, timeout=60)  # type: ignore[misc]  # a default
            airflow.kill("triggerer")
            airflow.start("triggerer")
        until(lambda: set(ids) <= {end["job_id"] for end in asset.ends()}, airflow, timeout=90)
        until(lambda: set(heard(airflow)) == set(ids), airflow, timeout=60)
        ends, runs = [*asset.ends()], heard(airflow)
        told = Counter(end["job_id"] for end in ends)
        again = Counter(end["job_id"] for end in ends if end["redelivered"])
        print(
            f"{JOBS} ends in {asset.count} events: {len(ends) - JOBS} were repeated, {again.total()} say "
            f"that they may have been; runs of the Dag have heard of {len(runs)}; "
            f"{time.monotonic() - began:.0f} s"
        )
        assert set(told) == set(ids)
        assert all(times - 1 <= again[job_id] for job_id, times in told.items())
        assert set(runs.values()) == {1}
    finally:
        airflow.wait_until_healthy()
        pause(airflow, paused=True)

"""Run a task as Airflow would: execute, defer, run the trigger from its database row, resume."""

from __future__ import annotations

import asyncio
import importlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from typing import Any

from airflow.providers.common.compat.sdk import TaskDeferred
from airflow.triggers.base import BaseTrigger

from airflow_provider_azbackup.runtime import clock as clocks
from tests.support.virtual import hang_up


def ends_before(execution_timeout: float) -> float:
    """After how many seconds a wait ends by itself: before Airflow's alarm, and earlier on Airflow 2."""
    early = 5.0 if find_spec("airflow.sdk") else 60.0
    return max(execution_timeout - early, 0.9 * execution_timeout)


class Store(dict[str, Any]):
    """Airflow's task state store: it outlives tries and Clears."""

    def set(self, key: str, value: Any, *, retention: Any = None) -> None:
        self[key] = json.loads(json.dumps(value))

    def delete(self, key: str) -> None:
        self.pop(key, None)


@dataclass
class DagRun:
    start_date: datetime
    run_after: datetime | None = None
    logical_date: datetime | None = None
    data_interval_start: datetime | None = None
    data_interval_end: datetime | None = None
    clear_number: int = 0


class TaskInstance:
    """What operators use of Airflow's task instance, and what Airflow keeps between its tries.

    :param retries: how often a failed try is tried again.
    :param store: the task state store; None is an Airflow below 3.3.
    """

    dag_id, task_id, run_id, map_index = "nightly", "backup", "monday", -1

    def __init__(
        self,
        first_reschedule: datetime | None = None,
        *,
        retries: int = 0,
        store: Store | None = None,
    ) -> None:
        self.xcoms: dict[str, Any] = {}
        self.first_reschedule = first_reschedule
        self.deferred_with: list[dict[str, Any]] = []
        self.store = store
        self.try_number, self.max_tries, self.retries = 1, retries, retries
        self.start_date = datetime.fromtimestamp(clocks.current().now(), UTC)
        self.dag_run = DagRun(self.start_date)

    @property
    def context(self) -> dict[str, Any]:
        context = {"ti": self, "dag_run": self.dag_run}
        return context if self.store is None else {**context, "task_state_store": self.store}

    def retry(self) -> TaskInstance:
        """Begin the next try, as Airflow does after a failure: XComs are gone, ``max_tries`` stays."""
        self.xcoms.clear()
        self.try_number += 1
        self.start_date = datetime.fromtimestamp(clocks.current().now(), UTC)
        return self

    def clear(self) -> TaskInstance:
        """Begin a new attempt, as a person's Clear does: ``max_tries`` rises."""
        self.max_tries = self.try_number + self.retries
        self.dag_run.clear_number += 1
        self.dag_run.start_date = datetime.fromtimestamp(clocks.current().now(), UTC)
        return self.retry()

    def xcom_push(self, *, key: str, value: Any) -> None:
        json.dumps(value)  # an XCom that is no plain JSON would be refused by Airflow's API
        self.xcoms[key] = value

    def xcom_pull(self, *, task_ids: str, key: str, map_indexes: int | None = None) -> Any:
        """Return what this task instance has pushed; None for all others."""
        own = (task_ids, map_indexes) == (self.task_id, self.map_index)
        return self.xcoms.get(key) if own else None

    def get_first_reschedule_date(self, context: Any) -> datetime | None:
        return self.first_reschedule


def run(make_task: Any, ti: TaskInstance, *, drops: bool = False) -> Any:
    """Run a task to its end.

    :param make_task: builds the task; called again for the resume, as a worker parses the DAG file again.
    :param drops: whether a resume gets the event alone, as in ``dag.test()`` of Airflow 3.3.2.
    """
    try:
        return make_task().execute(ti.context)
    except TaskDeferred as deferred:
        return _resume(make_task, ti, deferred, drops)


def _resume(make_task: Any, ti: TaskInstance, deferred: TaskDeferred, drops: bool) -> Any:
    path, arguments = deferred.trigger.serialize()
    ti.deferred_with.append(arguments)
    event = asyncio.run(fire(path, json.loads(json.dumps(arguments))))
    kept = {} if drops else deferred.kwargs or {}
    handed = json.loads(json.dumps({**kept, "event": event}))
    try:
        return make_task().resume_execution(deferred.method_name, handed, ti.context)
    except TaskDeferred as again:
        return _resume(make_task, ti, again, drops)


async def fire(path: str, arguments: dict[str, Any]) -> Any:
    """Rebuild a trigger from its database row and return the payload of its one event."""
    module, _, name = path.rpartition(".")
    trigger: BaseTrigger = getattr(importlib.import_module(module), name)(**arguments)
    events = [event async for event in trigger.run()]
    await hang_up()
    assert len(events) == 1
    return json.loads(json.dumps(events[0].payload))

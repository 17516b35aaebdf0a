"""Run a task as Airflow would: execute, defer, run the trigger from its database row, resume."""

from __future__ import annotations

import asyncio
import importlib
import json
from datetime import datetime
from typing import Any

from airflow.providers.common.compat.sdk import TaskDeferred
from airflow.triggers.base import BaseTrigger


class TaskInstance:
    """What operators use of Airflow's task instance: XComs, and when a rescheduled wait began."""

    def __init__(self, first_reschedule: datetime | None = None) -> None:
        self.xcoms: dict[str, Any] = {}
        self.first_reschedule = first_reschedule
        self.deferred_with: list[dict[str, Any]] = []

    def xcom_push(self, *, key: str, value: Any) -> None:
        json.dumps(value)  # an XCom that is no plain JSON would be refused by Airflow's API
        self.xcoms[key] = value

    def get_first_reschedule_date(self, context: Any) -> datetime | None:
        return self.first_reschedule


def run(make_task: Any, ti: TaskInstance) -> Any:
    """Run a task to its end.

    :param make_task: builds the task; called anew for the resume, as a worker parses the DAG file anew.
    """
    context = {"ti": ti}
    try:
        return make_task().execute(context)
    except TaskDeferred as deferred:
        path, arguments = deferred.trigger.serialize()
        ti.deferred_with.append(arguments)
        event = asyncio.run(fire(path, json.loads(json.dumps(arguments))))
        return make_task().resume_execution(deferred.method_name, {"event": event}, context)


async def fire(path: str, arguments: dict[str, Any]) -> Any:
    """Rebuild a trigger from its database row and return the payload of its one event."""
    module, _, name = path.rpartition(".")
    trigger: BaseTrigger = getattr(importlib.import_module(module), name)(**arguments)
    events = [event async for event in trigger.run()]
    assert len(events) == 1
    return json.loads(json.dumps(events[0].payload))

"""One drill as Airflow runs it: its restore, states for its checks, then its record, without an Airflow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from airflow.providers.common.compat.sdk import DAG

from tests.support.tasks import Store, TaskInstance, run

GROUP = "/subscriptions/00000000-0000-0000-0000-00000000d3a0/resourceGroups/demo-rg"
STAGING = f"{GROUP}/providers/Microsoft.Storage/storageAccounts/staging"
MACHINE = f"{GROUP}/providers/Microsoft.Compute/virtualMachines/vm-drill"
SUBNET = f"{GROUP}/providers/Microsoft.Network/virtualNetworks/net/subnets/default"


class DrillTaskInstance(TaskInstance):
    """A task instance of a drill, which may read the XComs of the others."""

    def __init__(self, drill: Drill, task_id: str, index: int, **options: Any) -> None:
        super().__init__(**options)
        self.drill, self.task_id, self.map_index = drill, task_id, index
        drill.xcoms[task_id, index] = self.xcoms

    def xcom_pull(self, *, task_ids: str, key: str, map_indexes: int | None = None) -> Any:
        return self.drill.xcoms.get((task_ids, map_indexes), {}).get(key)


@dataclass
class Drill:
    """What Airflow knows of one run of a drill.

    :param dag: parses the DAG file.
    :param prefix: of the ids of the tasks of the drill.
    """

    dag: Callable[[], DAG]
    prefix: str = "proven_restore"
    states: dict[tuple[str, int], str] = field(default_factory=dict)
    xcoms: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)

    def send(self, question: Any) -> Any:
        """Answer what a task asks about states, chosen and named as Airflow's API does."""
        chosen = {
            task_id if index < 0 else f"{task_id}_{index}": state
            for (task_id, index), state in self.states.items()
            if task_id in question.task_ids and question.map_index in (None, index)
        }
        return SimpleNamespace(task_states={question.run_ids[0]: chosen})

    def task(self, name: str) -> Any:
        return self.dag().get_task(f"{self.prefix}.{name}")

    def instance(self, name: str, index: int = -1, **options: Any) -> DrillTaskInstance:
        return DrillTaskInstance(self, f"{self.prefix}.{name}", index, **options)

    def restore(self, ti: DrillTaskInstance | None = None, **rendered: Any) -> DrillTaskInstance:
        """Run the restore to its end, and keep its state."""
        ti = ti or self.instance("restore", store=Store())

        def make() -> Any:
            task = self.task("restore")
            for name, value in rendered.items():
                setattr(task, name, value)
            return task

        self.states[ti.task_id, ti.map_index] = "failed"
        run(make, ti)
        self.states[ti.task_id, ti.map_index] = "success"
        return ti

    def check(self, index: int = -1, **states: str) -> None:
        for name, state in states.items():
            self.states[f"{self.prefix}.{name}", index] = state

    def record(
        self, index: int = -1, ti: Any = None, events: Any = None
    ) -> tuple[dict[str, Any], Exception | None]:
        """Run the record; return the evidence, and how the task failed.

        :param events: by outlet.
        """
        ti = ti or self.instance("record", index)
        failure = None
        try:
            self.task("record").execute({**ti.context, "outlet_events": {} if events is None else events})
        except Exception as error:
            failure = error
        return ti.xcoms["restore_record"], failure

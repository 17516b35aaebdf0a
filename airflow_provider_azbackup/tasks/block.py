"""The tasks of a ``with`` block between a setup and its teardown, as the teardown sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator


def tasks_between(setup_task_id: str, teardown: BaseOperator) -> list[str]:
    """Return the ids of the tasks that run after a setup and before its teardown, sorted."""
    setup = teardown.dag.get_task(setup_task_id)
    return sorted(setup.get_flat_relative_ids() & teardown.get_flat_relative_ids(upstream=True))


def map_index_for(task_id: str, teardown: BaseOperator, ti: Any) -> int | None:
    """Return which task instance of a task belongs to a teardown; None for all of them.

    In a mapped task group these are the task instances of the same map index. Of a task outside the mapped
    group, every task instance comes before the teardown.

    :param ti: the task instance of the teardown.
    """
    group = teardown.get_closest_mapped_task_group()
    inside = group and teardown.dag.get_task(task_id).get_closest_mapped_task_group() is group
    return int(ti.map_index) if inside else None

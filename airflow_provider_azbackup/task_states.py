"""Ask Airflow what has become of a task, from a worker or from a trigger.

None of this is public API of Airflow, so all of it may fail: a caller that cannot find out must do nothing.
"""

from __future__ import annotations

import asyncio
from typing import Any

# What a person makes of a task by marking it or by ending its run. A hand-over to another triggerer and a
# restart leave it "deferred" or "running"; a Clear makes it "restarting" or gives it a new attempt's state.
FINISHED = frozenset({"failed", "success", "skipped"})


def state_of(ti: Any) -> str:
    """Return the state that Airflow holds for a task instance now; for a worker.

    :param ti: anything with ``dag_id``, ``task_id``, ``run_id`` and ``map_index``.
    :raises Exception: whatever Airflow raises, or a LookupError, when it cannot be found out.
    """
    try:
        from airflow.sdk.execution_time import task_runner
    except ImportError:
        return _state_in_database(ti)
    return _only_state(ti, task_runner.SUPERVISOR_COMMS.send(_question(ti)))


async def state_on_loop(ti: Any) -> str:
    """Return the state that Airflow holds for a task instance now; for a trigger.

    It awaits Airflow's own channel: a thread that waits on it would hold up the end of a triggerer.

    :param ti: as for :func:`state_of`.
    :raises Exception: as :func:`state_of`.
    """
    try:
        from airflow.sdk.execution_time import task_runner
    except ImportError:
        return await asyncio.to_thread(_state_in_database, ti)
    return _only_state(ti, await task_runner.SUPERVISOR_COMMS.asend(_question(ti)))


def _question(ti: Any) -> Any:
    from airflow.sdk.execution_time.comms import GetTaskStates

    return GetTaskStates(dag_id=ti.dag_id, task_ids=[ti.task_id], run_ids=[ti.run_id], map_index=ti.map_index)


def _only_state(ti: Any, answer: Any) -> str:
    states = list(answer.task_states.get(ti.run_id, {}).values())
    if len(states) != 1:
        raise LookupError(f"Airflow named {len(states)} states of task {ti.task_id}")
    return str(states[0])


def _state_in_database(ti: Any) -> str:
    # Airflow 2: workers and triggerers reach the database themselves.
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session

    with create_session() as session:
        state = (
            session.query(TaskInstance.state)
            .filter_by(dag_id=ti.dag_id, task_id=ti.task_id, run_id=ti.run_id, map_index=ti.map_index)
            .scalar()
        )
    if state is None:
        raise LookupError(f"Airflow names no state of task {ti.task_id}")
    return str(state)

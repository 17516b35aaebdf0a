"""Ask Airflow what has become of a task, from a worker or from a trigger.

None of this is public API of Airflow, so all of it may fail: a caller that cannot find out must do nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

if TYPE_CHECKING:
    from airflow.triggers.base import BaseTrigger

# Whether a trigger has Airflow's own channel, by which it writes XComs and Variables.
IS_AIRFLOW_3 = find_spec("airflow.sdk") is not None

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


def states_of(ti: Any, task_ids: Sequence[str]) -> set[str]:
    """Return the states in which Airflow holds tasks of the same run now, mapped ones included; for a worker.

    :param ti: anything with ``dag_id`` and ``run_id``.
    :raises Exception: whatever Airflow raises when it cannot be found out.
    """
    try:
        from airflow.sdk.execution_time import task_runner
        from airflow.sdk.execution_time.comms import GetTaskStates
    except ImportError:
        return _states_in_database(ti, task_ids)
    asked = GetTaskStates(dag_id=ti.dag_id, task_ids=[*task_ids], run_ids=[ti.run_id])
    answer: Any = task_runner.SUPERVISOR_COMMS.send(asked)
    return {str(state) for state in answer.task_states.get(ti.run_id, {}).values()}


async def state_on_loop(ti: Any, *, limit: float) -> str:
    """Return the state that Airflow holds for a task instance now; for a trigger.

    It uses Airflow's own channel: a thread that waits on that would hold up the end of a triggerer. A
    question is never taken back: up to Airflow 3.1 its answer would be read as that to the next one, which
    brings the whole triggerer down.

    :param ti: as for :func:`state_of`.
    :param limit: seconds to wait for the answer.
    :raises TimeoutError: when none came.
    :raises Exception: as :func:`state_of`.
    """
    try:
        from airflow.sdk.execution_time import task_runner
    except ImportError:
        return await asyncio.to_thread(_state_in_database, ti)
    asked = _sent(task_runner.SUPERVISOR_COMMS, _question(ti))
    await asyncio.wait({asked}, timeout=limit)
    if not asked.done():
        raise TimeoutError(f"Airflow named no state of task {ti.task_id} within {limit:g} s")
    return _only_state(ti, asked.result())


async def ask_on_loop(question: Any) -> Any:
    """Put any question to Airflow's own channel and return the answer; for a trigger.

    Whoever asks may be cancelled; the question is not, for the reason that :func:`state_on_loop` gives.

    :param question: a message of ``airflow.sdk.execution_time.comms``.
    :raises Exception: as :func:`state_of`.
    """
    from airflow.sdk.execution_time import task_runner

    return await asyncio.shield(_sent(task_runner.SUPERVISOR_COMMS, question))


def event_trigger_class() -> type[BaseTrigger]:
    """Return what the trigger of a watched asset derives from; Airflow 2 knows no such assets."""
    from airflow.triggers import base

    return getattr(base, "BaseEventTrigger", base.BaseTrigger)


def shares_streams() -> bool:
    """Whether watches share a stream, and hear which of their events are stored: Airflow 3.3."""
    return hasattr(event_trigger_class(), "create_shared_stream_producer")


def keeps_asset_states() -> bool:
    """Whether Airflow keeps states with assets: Airflow 3.3."""
    if not IS_AIRFLOW_3:
        return False
    from airflow.sdk.execution_time import comms

    return hasattr(comms, "SetAssetStateStoreByName")


def warm_up(ti: Any) -> None:
    """Ask once on each loop, so that the answer is quick when it is needed.

    The first question in a triggerer's life takes 5 s, and a quarter of a minute on a busy machine: Airflow
    loads what answers it. Nobody waits for this one.
    """
    loop = asyncio.get_running_loop()
    if loop not in _WARM:
        _WARM.add(loop)
        asked = asyncio.ensure_future(state_on_loop(ti, limit=60.0))
        _ASKED.add(asked)
        asked.add_done_callback(_heard)


_WARM: WeakSet[asyncio.AbstractEventLoop] = WeakSet()
# The loop itself holds tasks but weakly.
_ASKED: set[asyncio.Future[Any]] = set()


def _sent(channel: Any, question: Any) -> asyncio.Future[Any]:
    asked: asyncio.Future[Any] = asyncio.ensure_future(channel.asend(question))
    _ASKED.add(asked)
    asked.add_done_callback(_heard)
    return asked


def _heard(asked: asyncio.Future[Any]) -> None:
    _ASKED.discard(asked)
    if not asked.cancelled():
        asked.exception()  # retrieved, or asyncio complains of an answer that nobody waits for any more


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


def _states_in_database(ti: Any, task_ids: Sequence[str]) -> set[str]:
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session

    with create_session() as session:
        found = session.query(TaskInstance.state).filter(
            TaskInstance.dag_id == ti.dag_id,
            TaskInstance.run_id == ti.run_id,
            TaskInstance.task_id.in_(task_ids),
        )
        return {str(state) for (state,) in found}

"""All that depends on the release of Airflow, 2.11 to 3.4; no other module knows of one.

What a release offers is looked for, its number is never read: a later one may bring, or take away, any of it.
What can be had from ``airflow.providers.common.compat`` on all of them comes from there.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping, Sequence
from contextvars import Context as Variables
from contextvars import copy_context
from datetime import UTC, datetime, timedelta, tzinfo
from importlib import import_module
from importlib.util import find_spec
from inspect import signature
from typing import TYPE_CHECKING, Any, NoReturn
from weakref import WeakSet

from airflow.providers.common.compat.sdk import TaskDeferred, conf

from airflow_provider_azbackup.runtime import clock

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator, Context
    from airflow.sdk import ExceptionRetryPolicy, RetryAction, RetryRule
    from airflow.triggers.base import BaseTrigger

# Airflow 3 keeps tasks and triggers away from its database; they ask a supervisor instead.
IS_AIRFLOW_3 = find_spec("airflow.sdk") is not None

# Seconds by which our limit comes before Airflow's own alarm at the execution_timeout, which knows nothing of
# the job. Airflow 2 refuses even to resume a task after that, and a worker takes its time to come.
LAST_WORD = 5.0 if IS_AIRFLOW_3 else 60.0
# Seconds that the code stands still which on_kill of a worker interrupts. Airflow 3 lets it go on after that,
# and the thread with it, and kills the process 5 s after it was asked to end; Airflow 2 ends it as soon as
# on_kill is done.
WORKER_KILL_LIMIT = 2.0 if IS_AIRFLOW_3 else 20.0

# --- what has become of a task. None of this is public API of Airflow, so all of it may fail: a caller that
# cannot find out must do nothing.

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


def states_of(ti: Any, task_ids: Sequence[str], *, map_index: int | None = None) -> list[str]:
    """Return the states that Airflow holds for task instances of the same run now; for a worker.

    :param ti: anything with ``dag_id`` and ``run_id``.
    :param map_index: which task instance of each task; None returns the states of all of them.
    :raises Exception: whatever Airflow raises when it cannot be found out.
    """
    try:
        from airflow.sdk.execution_time import task_runner
        from airflow.sdk.execution_time.comms import GetTaskStates
    except ImportError:
        return _states_in_database(ti, task_ids, map_index)
    asked = GetTaskStates(dag_id=ti.dag_id, task_ids=[*task_ids], run_ids=[ti.run_id], map_index=map_index)
    answer: Any = task_runner.SUPERVISOR_COMMS.send(asked)
    return [str(state) for state in answer.task_states.get(ti.run_id, {}).values()]


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
        raise TimeoutError(f"Airflow returned no state of task {ti.task_id} within {limit:g} s")
    return _only_state(ti, asked.result())


async def ask_on_loop(question: Any) -> Any:
    """Put any question to Airflow's own channel and return the answer; for a trigger.

    The caller may be cancelled; the question is not, for the reason that :func:`state_on_loop` gives.

    :param question: a message of ``airflow.sdk.execution_time.comms``.
    :raises Exception: as :func:`state_of`.
    """
    from airflow.sdk.execution_time import task_runner

    return await asyncio.shield(_sent(task_runner.SUPERVISOR_COMMS, question))


async def read_variable(name: str) -> str | None:
    """Return what an Airflow Variable holds, None when there is none; for a trigger, Airflow 3.0 and later.

    :raises Exception: as :func:`state_of`.
    """
    from airflow.sdk.exceptions import ErrorType
    from airflow.sdk.execution_time.comms import ErrorResponse, GetVariable

    answer = await ask_on_loop(GetVariable(key=name))
    if not isinstance(answer, ErrorResponse):
        return answer.value  # type: ignore[no-any-return]  # Airflow's own is typed so
    if answer.error == ErrorType.VARIABLE_NOT_FOUND:
        return None
    raise LookupError(f"Airflow did not return Variable {name}: {answer.error}")


async def write_variable(name: str, value: str, description: str) -> None:
    """Write an Airflow Variable; as :func:`read_variable`."""
    from airflow.sdk.execution_time.comms import PutVariable

    await ask_on_loop(PutVariable(key=name, value=value, description=description))


async def write_xcom(ti: Any, key: str, value: Any) -> None:
    """Write an XCom of a task that is deferred; for a trigger, Airflow 3.0 and later.

    :param ti: as for :func:`state_of`.
    :raises Exception: as :func:`state_of`.
    """
    where = {"dag_id": ti.dag_id, "task_id": ti.task_id, "run_id": ti.run_id, "map_index": ti.map_index}
    # Loading it takes a moment, and so may a backend of the user's.
    module = "airflow.sdk.execution_time.xcom"
    loaded: Any = sys.modules.get(module) or await asyncio.to_thread(import_module, module)
    from airflow.sdk.bases.xcom import BaseXCom
    from airflow.sdk.execution_time.comms import SetXCom

    if loaded.XCom.serialize_value is not BaseXCom.serialize_value:
        value = await asyncio.to_thread(loaded.XCom.serialize_value, value, key=key, **where)
    await ask_on_loop(SetXCom(key=key, value=value, **where))


def event_trigger_class() -> type[BaseTrigger]:
    """Return what the trigger of a watched asset derives from; Airflow 2 knows no such assets."""
    from airflow.triggers import base

    return getattr(base, "BaseEventTrigger", base.BaseTrigger)


def shares_streams() -> bool:
    """Whether watches share a stream, and hear which of their events are stored: Airflow 3.3."""
    return hasattr(event_trigger_class(), "create_shared_stream_producer")


def takes_queue() -> bool:
    """Whether an event trigger can name the triggerers that run it: Airflow 3.4."""
    return "queue" in signature(event_trigger_class().__init__).parameters


def keeps_asset_states() -> bool:
    """Whether Airflow keeps states with assets: Airflow 3.3."""
    if not IS_AIRFLOW_3:
        return False
    from airflow.sdk.execution_time import comms

    return hasattr(comms, "SetAssetStateStoreByName")


def warm_up(ti: Any) -> None:
    """Ask once on each loop, so that the answer is quick when it is needed.

    The first question in a triggerer's life takes 5 s, and a quarter of a minute on a busy computer: Airflow
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
        raise LookupError(f"Airflow returned {len(states)} states of task {ti.task_id}")
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
        raise LookupError(f"Airflow has no state of task {ti.task_id}")
    return str(state)


def _states_in_database(ti: Any, task_ids: Sequence[str], map_index: int | None) -> list[str]:
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session

    with create_session() as session:
        found = session.query(TaskInstance.state).filter(
            TaskInstance.dag_id == ti.dag_id,
            TaskInstance.run_id == ti.run_id,
            TaskInstance.task_id.in_(task_ids),
            *(() if map_index is None else (TaskInstance.map_index == map_index,)),
        )
        return [str(state) for (state,) in found]


# --- what some releases have and others lack


def runs_inline() -> bool:
    """Return whether this is a ``dag.test()``, which runs tasks and triggers in one process.

    It has neither a worker that has to leave nor a triggerer. Airflow puts a supervisor of its own for this
    into the process; where a release has none, the answer is False.
    """
    supervisor = sys.modules.get("airflow.sdk.execution_time.supervisor")
    runner = sys.modules.get("airflow.sdk.execution_time.task_runner")
    inline = getattr(supervisor, "InProcessSupervisorComms", None)
    return inline is not None and isinstance(getattr(runner, "SUPERVISOR_COMMS", None), inline)


def trigger_hears_of_kills() -> bool:
    """Whether Airflow calls ``on_kill`` of a trigger, as it does from 3.3 on, or only cancels its ``run``."""
    from airflow.triggers.base import BaseTrigger

    return hasattr(BaseTrigger, "on_kill")


def state_limit() -> float:
    """Return the seconds in which a trigger must hear from Airflow what became of its task.

    The first question in a triggerer's life takes 5 s, more on a busy computer: Airflow loads what answers
    it. Below 3.3 the end of a triggerer asks it as well, when nobody answers, and must not be held up for
    long.
    """
    return 20.0 if trigger_hears_of_kills() else 10.0


def task_state_store(context: Context) -> Any:
    """Return the store that outlives the tries of a task, from Airflow 3.3 on; None below."""
    return context.get("task_state_store")


def attempt_of(context: Context, retries: int | None) -> str:
    """Return what a retry of a task keeps and a Clear changes.

    A Clear sets ``max_tries`` to the number of the try plus ``retries``, so the two together differ, even
    when somebody has lowered ``retries`` in between. A Clear of a *running* task changes neither, but it
    raises the run's number of Clears. What this cannot show: a Clear of a running task that leaves the run
    alone, which only the REST API can ask for (``reset_dag_runs=false``).

    :param retries: of the operator.
    """
    ti, clears = context["ti"], getattr(context["dag_run"], "clear_number", None) or 0
    return f"max_tries={ti.max_tries} retries={retries or 0} clears={clears}"


def wait_began(context: Context) -> float:
    """Return the Unix time at which a sensor began to wait: before the first of all reschedules."""
    ti = context["ti"]
    first = getattr(ti, "get_first_reschedule_date", None)
    # Airflow 2 keeps the date of the first poke in the task instance itself.
    began = first(context) if first else ti.start_date
    return float(began.timestamp()) if began else clock.current().now()


def has_secrets_backend() -> bool:
    """Return whether Airflow asks a secrets backend here: one that is out of order finds no connection."""
    return any(
        conf.get(section, option, fallback="")
        for section, option in (("secrets", "backend"), ("workers", "secrets_backend"))
    )


def reads_by_team() -> bool:
    """Whether a connection may differ between the teams that share this Airflow."""
    return bool(conf.getboolean("core", "multi_team", fallback=False))


def variables_of_reads() -> Variables:
    """Return the context variables of reads that several waits share.

    There are none, or what the reads log would go to the log of the wait that came first. Where a connection
    may differ between teams, these are the variables of the running trigger, by which Airflow may know whose
    connection is read, except for those of its log.
    """
    if not reads_by_team():
        return Variables()
    from structlog.contextvars import clear_contextvars

    variables = copy_context()
    variables.run(clear_contextvars)
    return variables


def default_zone() -> tzinfo | None:
    """Return the time zone of moments that name none: Airflow's ``[core] default_timezone``.

    :return: None for ``system``, the zone of the computer that Airflow runs on.
    """
    name = conf.get("core", "default_timezone", fallback="utc")
    if name.casefold() == "system":
        return None
    if name.casefold() == "utc":
        return UTC
    from zoneinfo import ZoneInfo

    return ZoneInfo(name)


def interval_start(context: Context) -> datetime | None:
    """Return the start of a run's data interval, or the moment of a run that has none."""
    return _of_run(context, "data_interval_start") or run_moment(context)


def run_moment(context: Context) -> datetime | None:
    """Return the moment a run is for: the latest of those that Airflow names; None when it names none.

    A run from ``airflow dags trigger``, the REST API or an asset event has no logical date on Airflow 3 and
    no data interval, only the moment after which it may run. The data interval of a run that a person starts
    may have ended long before; the later moment asks more of a backup, so it is the safe one.
    """
    names = ("data_interval_end", "logical_date", "run_after")
    known = [moment for name in names if (moment := _of_run(context, name))]
    return max(known, default=None) or _of_run(context, "start_date")


def _of_run(context: Context, name: str) -> datetime | None:
    # Airflow 2 has all of them in the context, Airflow 3 some only where there is a logical date.
    found = getattr(context["dag_run"], name, None) or context.get(name)
    return found if isinstance(found, datetime) else None


def is_parsing() -> bool:
    """Whether Airflow reads a DAG file in this moment; False where that cannot be found out."""
    for name in ("airflow.sdk.definitions._internal.contextmanager", "airflow.models.dag"):
        context = getattr(sys.modules.get(name), "DagContext", None)
        if context is not None:
            return getattr(context, "current_autoregister_module_name", None) is not None
    return False


def connection_form(fields: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the connection form for Airflow below 3.2, which does not read it in the provider info.

    :param fields: ``conn-fields`` of the provider info.
    """
    from flask_appbuilder.fieldwidgets import BS3TextFieldWidget  # type: ignore[import-not-found]  # Airflow below 3.2 has it
    from flask_babel import lazy_gettext  # type: ignore[import-not-found]  # as above
    from wtforms import StringField  # type: ignore[import-untyped]  # as above

    return {
        name: StringField(
            lazy_gettext(field["label"]), widget=BS3TextFieldWidget(), description=field["description"]
        )
        for name, field in fields.items()
    }


def empty_operator() -> type[BaseOperator]:
    """Return Airflow's operator that does nothing, which the scheduler marks as successful by itself."""
    try:
        from airflow.providers.standard.operators.empty import EmptyOperator
    except ImportError:  # Airflow 2
        from airflow.operators.empty import EmptyOperator  # type: ignore[import-not-found,no-redef]  # as above
    return EmptyOperator


def asks_people() -> bool:
    """Whether a task can wait for a person's decision: Airflow 3.1, below 3.3 with the standard provider."""
    return _is_there("airflow.sdk.execution_time.hitl") and (
        _parks_tasks() or _is_there("airflow.providers.standard.triggers.hitl")
    )


def ask_person(
    task: BaseOperator,
    context: Context,
    *,
    subject: str,
    body: str,
    options: Sequence[str],
    fields: Mapping[str, str],
    timeout: timedelta,
    method_name: str,
    kwargs: dict[str, Any],
) -> NoReturn:
    """Ask a person in Airflow's UI, and let the worker go until there is a decision; see :func:`asks_people`.

    :param options: of which one can be chosen; there is no default.
    :param fields: what a person can enter in addition, by name with its description.
    :param timeout: after which the task is resumed without a decision.
    :param method_name: resumes the task, with ``event`` and ``kwargs``.
    """
    from airflow.sdk import Param
    from airflow.sdk.execution_time.hitl import upsert_hitl_detail

    ti: Any = context["ti"]
    params = {
        name: Param("", type=["null", "string"], description=text).serialize()
        for name, text in fields.items()
    }
    upsert_hitl_detail(
        ti_id=ti.id, options=[*options], subject=subject, body=body, multiple=False, params=params
    )
    if _parks_tasks():
        from airflow.sdk.exceptions import TaskAwaitingInput

        raise TaskAwaitingInput(method_name=method_name, kwargs=kwargs, timeout=timeout)
    from airflow.providers.standard.triggers.hitl import HITLTrigger

    until = datetime.fromtimestamp(clock.current().now(), UTC) + timeout
    trigger = HITLTrigger(ti_id=ti.id, options=[*options], params=params, timeout_datetime=until)
    raise TaskDeferred(trigger=trigger, method_name=method_name, kwargs=kwargs)


def _parks_tasks() -> bool:
    """Whether a task waits for a person without a triggerer: Airflow 3.3."""
    if not IS_AIRFLOW_3:
        return False
    from airflow.sdk import exceptions

    return hasattr(exceptions, "TaskAwaitingInput")


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ImportError:  # of a package above it
        return False


def retry_policies() -> tuple[type[ExceptionRetryPolicy], type[RetryAction], type[RetryRule]]:
    """Return Airflow's classes for retry policies.

    :raises ImportError: below Airflow 3.3, which brought them, saying so.
    """
    try:
        from airflow.sdk import ExceptionRetryPolicy, RetryAction, RetryRule
    except ImportError:
        raise ImportError(
            "airflow_provider_azbackup.retries needs Airflow 3.3 or later, which brought retry policies; "
            "on earlier releases set retries and retry_delay"
        ) from None
    return ExceptionRetryPolicy, RetryAction, RetryRule

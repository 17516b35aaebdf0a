"""Reads from Airflow's database which task instances wait, or have waited, for which job.

Our tasks push the portal's address of their job before they wait, and it contains the job's ARM id. Any task
can push the same, so each value is checked for its type and its length.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.jobs.job import Job
from airflow.models.taskinstance import TaskInstance
from airflow.models.trigger import Trigger
from airflow.models.xcom import XComModel
from airflow.providers.common.compat.sdk import conf
from sqlalchemy import String, and_, case, cast, func, select
from sqlalchemy.orm import aliased

from airflow_provider_azbackup.core.estate import VERDICT
from airflow_provider_azbackup.core.model.progress import PROGRESS
from airflow_provider_azbackup.core.restore.evidence import RECORD
from airflow_provider_azbackup.links import AzureBackupJobLink
from airflow_provider_azbackup.page.facts import drill, job_facts, verdict
from airflow_provider_azbackup.runtime.portal import job_of

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from airflow_provider_azbackup.core.wire import JsonObject

# At most so many task instances and verdicts are shown, the newest. XComs of more characters are not read.
MOST, MOST_VERDICTS, MOST_DRILLS = 1000, 20, 500
# How far back restore drills are shown, in seconds: some are made once a year.
DRILLS_SINCE = 400 * 24 * 3600.0
_LONGEST, _LONGEST_VERDICT = 50_000, 1_000_000
_LONGEST_LINK = 2_000
# From Airflow 3.4 on, an XCom belongs to one attempt of a task, and what was the table is a view of two
# tables. An outer join with that view would read all of it.
_ATTEMPT: Any = getattr(XComModel, "task_instance_id", None)
# The XComs that a tab shows.
_SHOWN = (AzureBackupJobLink.key, "job", PROGRESS, "recovery_point", "proof", VERDICT)


def gated_dag_ids(session: Session, since: datetime) -> set[str]:
    """Return the ids of the Dags with tasks that waited for a job since a time, or with restore drills."""
    links = select(XComModel.dag_id).where(*_is_link(since))
    verdicts = select(XComModel.dag_id).where(*_is_verdict(since))
    drills = select(XComModel.dag_id).where(*_is_drill(since))
    return set(session.scalars(links.union(verdicts, drills)))


def recent(session: Session, dag_ids: Collection[str], since: datetime) -> tuple[list[JsonObject], bool]:
    """Return the task instances of some Dags that have waited for a job since a time, newest first.

    :param dag_ids: ids of Dags whose XComs the user may read.
    :returns: at most :data:`MOST` of them, and whether there are more.
    """
    # The limit comes before the joins, because joining a week of XComs takes seconds.
    links = (
        select(XComModel)
        .where(*_is_link(since), XComModel.dag_id.in_(dag_ids))
        .order_by(XComModel.timestamp.desc())
        .limit(MOST + 1)
        .subquery()
    )
    link = aliased(XComModel, links)
    rows = session.execute(
        select(
            link.dag_id,
            link.run_id,
            link.task_id,
            link.map_index,
            link.value,
            TaskInstance.state,
            TaskInstance.start_date,
            TaskInstance.id,
        )
        .join(TaskInstance, _same_task(TaskInstance, link))
        .order_by(link.timestamp.desc())
    ).all()
    jobs = _jobs(session, [row[-1] for row in rows[:MOST]])
    found = [
        {
            "dag_id": dag_id,
            "run_id": run_id,
            "task_id": task_id,
            "map_index": map_index,
            "state": state,
            "started": began.timestamp() if began else None,
            "job": ref.job_id.casefold(),
            "vault": ref.vault.name,
            "vault_id": ref.vault.path.casefold(),
            "arm_id": ref.vault.path,
            **_result(_pushed(jobs.get(attempt))),
        }
        for dag_id, run_id, task_id, map_index, value, state, began, attempt in rows[:MOST]
        if (ref := job_of(_pushed(value)))
    ]
    return found, len(rows) > MOST


def verdicts(session: Session, dag_ids: Collection[str], since: datetime) -> list[JsonObject]:
    """Return the last verdict of each fleet sensor of some Dags, newest first, at most :data:`MOST_VERDICTS`.

    :param dag_ids: ids of Dags whose XComs the user may read.
    """
    names = ("dag_id", "run_id", "task_id", "map_index")
    rows = session.execute(
        select(
            XComModel.dag_id,
            XComModel.run_id,
            XComModel.task_id,
            XComModel.map_index,
            TaskInstance.state,
            XComModel.timestamp,
            XComModel.value,
        )
        .join(TaskInstance, _same_task(TaskInstance, XComModel))
        .where(*_is_verdict(since), XComModel.dag_id.in_(dag_ids))
        .order_by(XComModel.timestamp.desc())
        .limit(MOST_VERDICTS)
    )
    found: dict[tuple[str, str, int], JsonObject] = {}
    for dag_id, run_id, task_id, map_index, state, at, value in rows:
        task = (dag_id, task_id, map_index)
        if task not in found and (facts := verdict(_pushed(value))):
            which = dict(zip(names, (dag_id, run_id, task_id, map_index), strict=True))
            found[task] = {**which, "state": state, "at": at.timestamp(), "verdict": facts}
    return [*found.values()]


def drills(session: Session, dag_ids: Collection[str], since: datetime) -> list[JsonObject]:
    """Return the restore drills of each item: the last one that is proven, and the last one.

    :param dag_ids: ids of Dags whose XComs the user may read.
    """
    rows = session.execute(
        select(
            XComModel.dag_id,
            XComModel.run_id,
            XComModel.task_id,
            XComModel.map_index,
            XComModel.timestamp,
            XComModel.value,
        )
        .where(*_is_drill(since), XComModel.dag_id.in_(dag_ids))
        .order_by(XComModel.timestamp.desc())
        .limit(MOST_DRILLS)
    )
    found: dict[str, JsonObject] = {}
    for dag_id, run_id, task_id, map_index, at, value in rows:
        if not (facts := drill(_pushed(value))):
            continue
        which = {"dag_id": dag_id, "run_id": run_id, "task_id": task_id, "map_index": map_index}
        entry = {**which, "at": at.timestamp(), **facts}
        of_item = found.setdefault(facts.get("item_id", "").casefold(), {"last": entry, "proven": None})
        if facts["proven"] and of_item["proven"] is None:
            of_item["proven"] = entry
    return [*found.values()]


def of_task(session: Session, dag_id: str, run_id: str, task_id: str, map_index: int) -> dict[str, Any]:
    """Return what a task instance has pushed about its job, by key, or nothing for other tasks."""
    rows = session.execute(
        select(XComModel.key, XComModel.value).where(
            XComModel.dag_id == dag_id,
            XComModel.run_id == run_id,
            XComModel.task_id == task_id,
            XComModel.map_index == map_index,
            XComModel.key.in_(_SHOWN),
            func.length(cast(XComModel.value, String))
            <= case((XComModel.key == VERDICT, _LONGEST_VERDICT), else_=_LONGEST),
        )
    )
    found = {key: _pushed(value) for key, value in rows}
    return found if {AzureBackupJobLink.key, VERDICT} & found.keys() else {}


def state_of(
    session: Session, dag_id: str, run_id: str, task_id: str, map_index: int, *, now: float
) -> JsonObject:
    """Return how a task instance stands: its state, the name of its class, the number of its try.

    ``unwatched_since`` is the Unix time since which a deferred task has had no living triggerer; None if it
    has one.

    :param now: Unix time.
    """
    row = session.execute(
        select(
            TaskInstance.state,
            TaskInstance.operator,
            TaskInstance.try_number,
            Trigger.created_date,
            Job.latest_heartbeat,
        )
        .outerjoin(Trigger, TaskInstance.trigger_id == Trigger.id)
        .outerjoin(Job, Trigger.triggerer_id == Job.id)
        .where(
            TaskInstance.dag_id == dag_id,
            TaskInstance.run_id == run_id,
            TaskInstance.task_id == task_id,
            TaskInstance.map_index == map_index,
        )
    ).first()
    if row is None:
        return {}
    state, operator, try_number, created, heartbeat = row
    limit = conf.getfloat("triggerer", "triggerer_health_check_threshold", fallback=30.0)
    last = heartbeat or created
    is_unwatched = last is not None and (heartbeat is None or heartbeat.timestamp() < now - limit)
    return {
        "state": state,
        "operator": operator or "",
        "try_number": try_number,
        "unwatched_since": last.timestamp() if state == "deferred" and is_unwatched else None,
    }


def _same_task(one: Any, other: Any) -> Any:
    """Return the condition that the rows of two tables belong to the same task instance."""
    names = ("dag_id", "run_id", "task_id", "map_index")
    return and_(*(getattr(one, name) == getattr(other, name) for name in names))


def _jobs(session: Session, attempts: Collection[Any]) -> dict[Any, Any]:
    """Return what some task instances have pushed as ``job``, by the id of the task instance."""
    attempt = TaskInstance.id if _ATTEMPT is None else _ATTEMPT
    found = select(attempt, XComModel.value)
    if _ATTEMPT is None:
        found = found.select_from(XComModel).join(TaskInstance, _same_task(TaskInstance, XComModel))
    rows = session.execute(
        found.where(
            attempt.in_(attempts),
            XComModel.key == "job",
            func.length(cast(XComModel.value, String)) <= _LONGEST,
        )
    )
    return {row[0]: row[1] for row in rows}


def _is_link(since: datetime) -> tuple[Any, ...]:
    return (
        XComModel.key == AzureBackupJobLink.key,
        XComModel.timestamp >= since,
        func.length(cast(XComModel.value, String)) <= _LONGEST_LINK,
    )


def _is_verdict(since: datetime) -> tuple[Any, ...]:
    return (
        XComModel.key == VERDICT,
        XComModel.timestamp >= since,
        func.length(cast(XComModel.value, String)) <= _LONGEST_VERDICT,
    )


def _is_drill(since: datetime) -> tuple[Any, ...]:
    # An older one than the rest of what is shown: a drill is rare, and its record is what is asked for later.
    return (
        XComModel.key == RECORD,
        XComModel.timestamp >= since - timedelta(seconds=DRILLS_SINCE),
        func.length(cast(XComModel.value, String)) <= _LONGEST,
    )


def _result(job: Any) -> JsonObject:
    """Return what a finished job has pushed and what Azure's list of jobs does not contain."""
    known = job_facts(job)
    return {
        "item": known.get("item", ""),
        "outcome": known.get("outcome", ""),
        "size": known.get("size_bytes"),
    }


def _pushed(value: Any) -> Any:
    """Return an XCom as it was pushed. Airflow stores it as JSON, or as a text that holds JSON."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):  # it is not JSON, or deeper than anything that we push
        return value

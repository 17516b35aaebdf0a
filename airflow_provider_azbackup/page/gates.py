"""What Airflow itself knows of jobs: which task instances wait, or have waited, for which of them.

Our tasks push the portal's address of their job before they wait, and it names the job in full. Any task can
push the same, so every value is read field by field, with its type and its length checked.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from sqlalchemy import String, and_, cast, func, select
from sqlalchemy.orm import aliased

from airflow_provider_azbackup.core.model.progress import PROGRESS
from airflow_provider_azbackup.links import AzureBackupJobLink
from airflow_provider_azbackup.page.facts import job_facts
from airflow_provider_azbackup.runtime.portal import job_of

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from airflow_provider_azbackup.core.wire import JsonObject

# Task instances that are shown at most, the newest; and characters of an XCom that is read at all.
MOST = 1000
_LONGEST = 50_000
_LONGEST_LINK = 2_000
# What a tab shows of its task.
_SHOWN = (AzureBackupJobLink.key, "job", PROGRESS, "recovery_point", "proof")


def gated_dag_ids(session: Session, since: datetime) -> set[str]:
    """Return the ids of the Dags whose tasks have waited for a job since a moment."""
    gated = select(XComModel.dag_id).where(*_is_link(since)).distinct()
    return set(session.scalars(gated))


def recent(session: Session, dag_ids: Collection[str], since: datetime) -> tuple[list[JsonObject], bool]:
    """Return the task instances of these Dags that have waited for a job since a moment, newest first.

    :param dag_ids: of Dags whose XComs the user may read.
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
    link, job = aliased(XComModel, links), aliased(XComModel)
    rows = session.execute(
        select(
            link.dag_id,
            link.run_id,
            link.task_id,
            link.map_index,
            link.value,
            TaskInstance.state,
            TaskInstance.start_date,
            job.value,
        )
        .join(TaskInstance, _same_task(TaskInstance, link))
        .outerjoin(
            job,
            and_(
                _same_task(job, link),
                job.key == "job",
                func.length(cast(job.value, String)) <= _LONGEST,
            ),
        )
        .order_by(link.timestamp.desc())
    ).all()
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
            **_size_and_end(_plain(job)),
        }
        for dag_id, run_id, task_id, map_index, value, state, began, job in rows[:MOST]
        if (ref := job_of(_plain(value)))
    ]
    return found, len(rows) > MOST


def of_task(session: Session, dag_id: str, run_id: str, task_id: str, map_index: int) -> dict[str, Any]:
    """Return what a task instance has pushed about its job, by key; empty when it is none of ours."""
    rows = session.execute(
        select(XComModel.key, XComModel.value).where(
            XComModel.dag_id == dag_id,
            XComModel.run_id == run_id,
            XComModel.task_id == task_id,
            XComModel.map_index == map_index,
            XComModel.key.in_(_SHOWN),
            func.length(cast(XComModel.value, String)) <= _LONGEST,
        )
    )
    found = {key: _plain(value) for key, value in rows}
    return found if AzureBackupJobLink.key in found else {}


def _same_task(one: Any, other: Any) -> Any:
    """Return the condition that rows of two tables are of one task instance."""
    names = ("dag_id", "run_id", "task_id", "map_index")
    return and_(*(getattr(one, name) == getattr(other, name) for name in names))


def _is_link(since: datetime) -> tuple[Any, ...]:
    return (
        XComModel.key == AzureBackupJobLink.key,
        XComModel.timestamp >= since,
        func.length(cast(XComModel.value, String)) <= _LONGEST_LINK,
    )


def _size_and_end(job: Any) -> JsonObject:
    """Return of a job that is over what no list of Azure's shows."""
    known = job_facts(job)
    return {
        "item": known.get("item", ""),
        "outcome": known.get("outcome", ""),
        "size": known.get("size_bytes"),
    }


def _plain(value: Any) -> Any:
    """Return an XCom as it was pushed; Airflow keeps it as JSON, or as JSON in a text."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):  # no JSON, or JSON of a depth that nothing of ours has
        return value

"""What Airflow itself knows of jobs: which task instances wait, or have waited, for which of them.

Our tasks push the portal's address of their job before they wait. Nobody else writes that key, and the
address names the job in full.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from sqlalchemy import String, and_, cast, func, select
from sqlalchemy.orm import aliased

from airflow_provider_azbackup.core.progress import PROGRESS
from airflow_provider_azbackup.core.resources import JobRef
from airflow_provider_azbackup.core.settings import CLOUDS, JOB_PAGE
from airflow_provider_azbackup.exceptions import AzureBackupConfigError
from airflow_provider_azbackup.links import AzureBackupJobLink

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from airflow_provider_azbackup.core.wire import JsonObject

# Task instances that are shown at most, the newest; and characters of an XCom that is read for its facts.
MOST = 1000
_LONGEST = 50_000
_PORTALS = frozenset(urlsplit(cloud.portal).netloc for cloud in CLOUDS.values())
# What a tab shows of its task.
_SHOWN = (AzureBackupJobLink.key, "job", PROGRESS, "recovery_point", "proof")


def recent(session: Session, dag_ids: Collection[str], since: datetime) -> list[JsonObject]:
    """Return the task instances of these Dags that have waited for a job since a moment, newest first.

    :param dag_ids: of Dags that whoever asks may read.
    """
    told = aliased(XComModel)
    same = and_(
        told.dag_id == XComModel.dag_id,
        told.run_id == XComModel.run_id,
        told.task_id == XComModel.task_id,
        told.map_index == XComModel.map_index,
        told.key == "job",
        func.length(cast(told.value, String)) <= _LONGEST,
    )
    rows = session.execute(
        select(
            XComModel.dag_id,
            XComModel.run_id,
            XComModel.task_id,
            XComModel.map_index,
            XComModel.value,
            TaskInstance.state,
            TaskInstance.start_date,
            told.value,
        )
        .join(TaskInstance, _of_task())
        .outerjoin(told, same)
        .where(
            XComModel.key == AzureBackupJobLink.key,
            XComModel.timestamp >= since,
            XComModel.dag_id.in_(dag_ids),
        )
        .order_by(XComModel.timestamp.desc())
        .limit(MOST)
    )
    return [
        {
            "dag_id": dag_id,
            "run_id": run_id,
            "task_id": task_id,
            "map_index": map_index,
            "state": state,
            "started": began.timestamp() if began else None,
            "job": ref.job_id.casefold(),
            "vault": ref.vault.name,
            **_facts(_plain(job)),
        }
        for dag_id, run_id, task_id, map_index, link, state, began, job in rows
        if (ref := ref_of(_plain(link)))
    ]


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


def ref_of(link: Any) -> JobRef | None:
    """Read which job a portal's address is of; None when it is of none."""
    try:
        text, page, quoted = str(link).partition(JOB_PAGE)
        return JobRef.parse(unquote(quoted) if page else text.partition("/resource")[2])
    except AzureBackupConfigError:
        return None


def is_portal(link: Any, portal: str = "") -> bool:
    """Whether a link, which any author of a Dag can have pushed, leads to a portal of Azure.

    :param portal: of the connection, where it names one of its own.
    """
    try:
        parts = urlsplit(str(link))
    except ValueError:
        return False
    return parts.scheme == "https" and parts.netloc in _PORTALS | {urlsplit(portal).netloc} - {""}


def _of_task() -> Any:
    return and_(
        TaskInstance.dag_id == XComModel.dag_id,
        TaskInstance.run_id == XComModel.run_id,
        TaskInstance.task_id == XComModel.task_id,
        TaskInstance.map_index == XComModel.map_index,
    )


def _facts(job: Any) -> JsonObject:
    """Return of a job that is over what no list of Azure's shows."""
    facts = job if isinstance(job, dict) else {}
    size = facts.get("size_bytes")
    return {
        "item": str(facts.get("item") or ""),
        "outcome": str(facts.get("outcome") or ""),
        "size": size if isinstance(size, int | float) else None,
    }


def _plain(value: Any) -> Any:
    """Return an XCom as it was pushed; Airflow keeps it as JSON, or as JSON in a text."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value

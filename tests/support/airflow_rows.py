"""Rows of Airflow's database, as its own processes write them, on each release that has the page."""

from __future__ import annotations

from typing import Any

from airflow.models import taskinstance, xcom
from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

TASKS = taskinstance.TaskInstance.__table__
# Airflow 3.4 keeps XComs with one attempt of a task; what was the table is a view of two.
_BY_ATTEMPT: Any = getattr(xcom, "XComModelV2", None)
XCOMS = (_BY_ATTEMPT or xcom.XComModel).__table__
# What XComs are called in the plan of a query: the tables themselves, and not what joins them.
XCOM_TABLES = "xcom_v[12]" if _BY_ATTEMPT else r"xcom(_\d+)?"
# Airflow 3.4 calls the map index the place in a region.
_INDEX = "map_index" if "map_index" in TASKS.c else "region_index"
_OF_TASK = ("dag_id", "run_id", "task_id", "map_index")


def add_tasks(session: Session, *rows: dict[str, Any]) -> None:
    """Insert task instances, with the names of their columns as in Airflow 3.3."""
    session.execute(insert(TASKS), [{_column(name): value for name, value in row.items()} for row in rows])


def add_xcoms(session: Session, *rows: dict[str, Any]) -> None:
    """Insert XComs of task instances that are there, with the names of their columns as in Airflow 3.3."""
    if _BY_ATTEMPT is None:
        session.execute(insert(XCOMS), [*rows])
        return
    columns = [TASKS.c[_column(name)] for name in _OF_TASK]
    attempts = {tuple(of): attempt for attempt, *of in session.execute(select(TASKS.c.id, *columns))}
    session.execute(
        insert(XCOMS),
        [
            {
                "task_instance_id": attempts[tuple(row[name] for name in _OF_TASK)],
                **{name: row[name] for name in ("key", "value", "timestamp")},
            }
            for row in rows
        ],
    )


def delete_all(session: Session, *models: Any) -> None:
    """Delete all XComs and task instances, then all rows of some models."""
    for table in (XCOMS, TASKS, *(model.__table__ for model in models)):
        session.execute(delete(table))


def _column(name: str) -> str:
    return _INDEX if name == "map_index" else name

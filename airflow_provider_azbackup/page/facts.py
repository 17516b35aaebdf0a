"""Checks what a task has pushed before the page shows it, because any task may push anything.

Only known types and limited lengths pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from airflow_provider_azbackup.core.model.jobs import Outcome
from airflow_provider_azbackup.core.model.json_safe import MOST_ENTRIES, clean, cut

if TYPE_CHECKING:
    from airflow_provider_azbackup.core.wire import JsonObject

# JavaScript represents whole numbers below this exactly.
_LARGEST = 2**53
# The items of a verdict that are shown.
MOST_ITEMS = 200


def job_facts(job: Any) -> JsonObject:
    """Return the facts of a job that the page shows. Azure's property bag is not among them.

    :param job: as a task has pushed it, or from :func:`~airflow_provider_azbackup.page.summary.phases`.
    """
    return _read(job, _OF_JOB)


def scalars(facts: Any) -> JsonObject:
    """Return the facts that are texts, numbers or booleans, at most 50."""
    if not isinstance(facts, dict):
        return {}
    read = {cut(clean(name)): _scalar(value) for name, value in facts.items()}
    return dict([(name, value) for name, value in read.items() if value is not None][:MOST_ENTRIES])


def verdict(facts: Any) -> JsonObject:
    """Return what the page shows of a fleet sensor's verdict; empty for anything else under its key."""
    if not isinstance(facts, dict) or not isinstance(facts.get("counts"), dict):
        return {}
    items = facts.get("items")
    shown = items[:MOST_ITEMS] if isinstance(items, list) else []
    counts = {name: _number(value) for name, value in scalars(facts["counts"]).items()}
    return {
        **scalars(facts),
        "counts": {name: count for name, count in counts.items() if count is not None},
        "items": [scalars(item) for item in shown],
        "unreadable": scalars(facts.get("unreadable")),
    }


def drill(facts: Any) -> JsonObject:
    """Return what the page shows of the record of a restore drill; empty for anything else under its key."""
    if not isinstance(facts, dict) or not isinstance(facts.get("proven"), bool):
        return {}
    return {**_read(facts, _OF_DRILL), "proven": facts["proven"]}


def _read(facts: Any, fields: Mapping[str, Callable[[Any], Any]]) -> JsonObject:
    """Return the fields of a dict that pass their check."""
    if not isinstance(facts, dict):
        return {}
    read = {name: check(facts[name]) for name, check in fields.items() if name in facts}
    return {name: value for name, value in read.items() if value is not None}


def _text(value: Any) -> str | None:
    return cut(clean(value)) if isinstance(value, str) else None


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    # NaN and the infinities fail this comparison.
    return value if is_number and -_LARGEST < value < _LARGEST else None


def _scalar(value: Any) -> str | float | bool | None:
    if isinstance(value, bool):
        return value
    return _text(value) if isinstance(value, str) else _number(value)


def _outcome(value: Any) -> str | None:
    return value if value in [outcome.value for outcome in Outcome] else None


def _texts(value: Any) -> list[str]:
    entries = value if isinstance(value, list | tuple) else []
    return [text for entry in entries[:MOST_ENTRIES] if (text := _text(entry)) is not None]


def _entries(fields: Mapping[str, Callable[[Any], Any]]) -> Callable[[Any], list[JsonObject]]:
    def read(value: Any) -> list[JsonObject]:
        entries = value if isinstance(value, list | tuple) else []
        return [_read(entry, fields) for entry in entries[:MOST_ENTRIES] if isinstance(entry, dict)]

    return read


_OF_ERROR = MappingProxyType({"title": _text, "code": _text, "message": _text, "recommendations": _texts})
_OF_PHASE = MappingProxyType({"name": _text, "status": _text, "progress": _text})
_OF_DRILL: MappingProxyType[str, Callable[[Any], Any]] = MappingProxyType(
    {
        "item": _text,
        "item_id": _text,
        "vault_id": _text,
        "rto_seconds": _number,
        "rpo_seconds": _number,
        "reasons": _texts,
    }
)
_OF_JOB: MappingProxyType[str, Callable[[Any], Any]] = MappingProxyType(
    {
        "item": _text,
        "item_id": _text,
        "container": _text,
        "operation": _text,
        "status": _text,
        "outcome": _outcome,
        "backup_management_type": _text,
        "start_time": _text,
        "end_time": _text,
        "start": _number,
        "end": _number,
        "duration_seconds": _number,
        "duration": _number,
        "percent": _number,
        "phase": _text,
        "message": _text,
        "activity_id": _text,
        "errors": _entries(_OF_ERROR),
        "tasks": _entries(_OF_PHASE),
        "size_bytes": _number,
    }
)

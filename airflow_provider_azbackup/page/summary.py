"""What a page shows of a vault: its jobs in plain facts, and which of its items are overdue."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from operator import attrgetter
from typing import Any

from airflow_provider_azbackup.core.conversations.matching import is_of_machine, shows
from airflow_provider_azbackup.core.conversations.retry import ask
from airflow_provider_azbackup.core.model.jobs import Job, Outcome
from airflow_provider_azbackup.core.model.progress import percent_of
from airflow_provider_azbackup.core.model.resources import BackupInstance, Vault
from airflow_provider_azbackup.core.rest import requests, responses
from airflow_provider_azbackup.core.rest.responses import FoundItem
from airflow_provider_azbackup.core.wire import Call, Flow, JsonObject

# How far back the page looks.
WEEK = 7 * 24 * 3600.0
# Pages of a list that are read for a page: 200 jobs each, as seen.
MOST_PAGES = 20
# What runs longer than this and than twice its longest success of the week is told of as late.
_LONG = 3600.0
# A backup is not expected of what is in such a state.
_RESTING = re.compile(r"stopped|suspended|paused|softdelet|notprotected", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Listed:
    """The jobs of a vault, newest first; ``cut`` when there are more than were read."""

    jobs: tuple[Job, ...]
    cut: bool = False


def list_week(vault: Vault, now: float) -> Flow[Listed]:
    """Return the jobs of a vault's last week, with at most :data:`MOST_PAGES` reads.

    :param now: Unix time.
    """
    window = requests.JobFilter(
        started_after=requests.moment(now - WEEK - requests.SLACK),
        started_before=requests.moment(now + requests.SLACK),
    )
    call: Call | None = requests.list_jobs(vault, **window)
    jobs: dict[str, Job] = {}
    seen: set[Call] = set()
    while call and call not in seen and len(seen) < MOST_PAGES:
        seen.add(call)
        reply = yield from ask(call)
        page = responses.read_page(reply)
        jobs |= {job.ref.job_id.casefold(): job for job in responses.read_jobs(vault, page)}
        call = requests.next_page(reply, page.next_link) if page.next_link else None
    # A Backup vault lists all it has ever done; a running job counts however long ago it began.
    wanted = [job for job in jobs.values() if job.is_running or not 0 < job.began < now - WEEK]
    wanted.sort(key=lambda job: job.began, reverse=True)
    return Listed(jobs=tuple(wanted), cut=call is not None and call not in seen)


def key_of(job: Job) -> str:
    """Return what puts jobs of one item together: all that they call it."""
    return "|".join((job.backup_management_type, job.owner, job.item)).casefold()


def row(job: Job) -> JsonObject:
    """Return a job as a page takes it; times are Unix time."""
    return {
        "id": job.ref.job_id,
        "item": job.item,
        "key": key_of(job),
        "kind": job.backup_management_type,
        "operation": job.operation,
        "outcome": job.outcome.value,
        "status": job.status,
        "start": job.began or None,
        "end": _seconds(job.end_time),
        "duration": job.duration_seconds,
        "errors": [_plain(asdict(error)) for error in job.errors],
    }


def phases(job: Job) -> JsonObject:
    """Return what one job tells of itself beyond a list: its phases, how far it has come, its size."""
    return {
        **row(job),
        "backup_management_type": job.backup_management_type,
        "percent": percent_of(job),
        "message": job.message,
        "activity_id": job.activity_id,
        "tasks": [asdict(task) for task in job.tasks],
        "size_bytes": job.size_bytes,
    }


def overdue(
    items: Sequence[FoundItem], jobs: Sequence[Job], *, now: float, within: float
) -> list[JsonObject]:
    """Return which items have no successful backup that is new enough, and which jobs take too long.

    :param items: what the vault protects.
    :param jobs: its jobs of the last week.
    :param now: Unix time.
    :param within: seconds in which a backup of each item is expected.
    """
    found = []
    # All jobs under one key are of one item, or of none: one of them tells for all.
    alike: dict[str, list[Job]] = {}
    for job in filter(attrgetter("is_backup"), jobs):
        alike.setdefault(key_of(job), []).append(job)
    for item in items:
        if _RESTING.search(item.state):
            continue
        backups = [job for group in alike.values() if _is_of(group[0], item) for job in group]
        good = [job.began for job in backups if job.outcome is Outcome.SUCCEEDED]
        last = max([*good, _seconds(item.last_recovery_point) or 0.0])
        if now - last > within:
            running = any(job.is_running for job in backups)
            why = "running" if running else "no_backup"
            found.append(_late(_name_of(item), why, last or None, source=item.source_id))
    longest = _longest(jobs)
    for job in jobs:
        usual = longest.get(key_of(job))
        if job.is_running and job.began and now - job.began > max(_LONG, 2 * (usual or within)):
            found.append(_late(job.item, "long", job.began, usual=usual, id=job.ref.job_id))
    return sorted(found, key=lambda each: (each["since"] or 0.0, each["item"]))


def _name_of(item: FoundItem) -> str:
    """Return what jobs call an item: a database with its machine."""
    return f"{item.friendly_name} [{item.server}]" if item.server else item.friendly_name


def _late(item: str, why: str, since: float | None, **more: Any) -> JsonObject:
    return {"item": item, "why": why, "since": since, **more}


def _longest(jobs: Iterable[Job]) -> dict[str, float]:
    found: dict[str, float] = {}
    for job in jobs:
        if job.outcome is Outcome.SUCCEEDED and job.duration_seconds is not None:
            found[key_of(job)] = max(found.get(key_of(job), 0.0), job.duration_seconds)
    return found


def _is_of(job: Job, found: FoundItem) -> bool:
    if isinstance(found.item, BackupInstance):
        return job.owner.casefold() == found.item.path.casefold()
    if found.item.kind == "vm":
        return is_of_machine(job, found.item)
    return shows(job, found)


def _plain(error: JsonObject) -> JsonObject:
    return {**error, "recommendations": [*error["recommendations"]]}


def _seconds(moment: str | None) -> float | None:
    return datetime.fromisoformat(moment).timestamp() if moment else None

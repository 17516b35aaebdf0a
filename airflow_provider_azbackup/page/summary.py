"""What the page shows of a vault: its jobs as plain JSON, and which of its items are overdue."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from airflow_provider_azbackup.core.conversations.matching import is_of_vm, names_in_jobs, shows_names_of
from airflow_provider_azbackup.core.conversations.retry import ask
from airflow_provider_azbackup.core.model.jobs import Job, Outcome
from airflow_provider_azbackup.core.model.progress import percent_of
from airflow_provider_azbackup.core.model.resources import BackupInstance, Vault
from airflow_provider_azbackup.core.rest import requests, responses
from airflow_provider_azbackup.core.rest.responses import FoundItem
from airflow_provider_azbackup.core.wire import Flow, JsonObject, Request

# How far back the page looks.
WEEK = 7 * 24 * 3600.0
# The pages of Azure's list that are read at most. Azure was seen to return 200 jobs on each.
MOST_PAGES = 20
# A job is late when it runs longer than this and than twice the longest success of its item this week.
_LONG = 3600.0
# No backup is expected of an item in such a state.
_INACTIVE = re.compile(r"stopped|suspended|paused|softdelet|notprotected", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Listed:
    """The jobs of a vault, newest first. ``cut`` means that there are more than were read."""

    jobs: tuple[Job, ...]
    cut: bool = False


def list_week(vault: Vault, now: float) -> Flow[Listed]:
    """Return the jobs of a vault in the last week, with at most :data:`MOST_PAGES` reads.

    :param now: Unix time.
    """
    window = requests.JobFilter(
        started_after=requests.utc_datetime(now - WEEK - requests.SLACK),
        started_before=requests.utc_datetime(now + requests.SLACK),
    )
    call: Request | None = requests.list_jobs(vault, **window)
    jobs: dict[str, Job] = {}
    seen: set[Request] = set()
    while call and call not in seen and len(seen) < MOST_PAGES:
        seen.add(call)
        reply = yield from ask(call)
        page = responses.read_page(reply)
        jobs |= {job.ref.job_id.casefold(): job for job in responses.read_jobs(vault, page)}
        call = requests.next_page(reply, page.next_link) if page.next_link else None
    # A Backup vault lists all jobs it has ever had. A running job is shown no matter when it began.
    wanted = [job for job in jobs.values() if job.is_running or not 0 < job.began < now - WEEK]
    wanted.sort(key=lambda job: job.began, reverse=True)
    return Listed(jobs=tuple(wanted), cut=call is not None and call not in seen)


def item_key(job: Job) -> str:
    """Return a key that the jobs of one item share: all the names that they have for it."""
    return "|".join((job.backup_management_type, job.owner, job.item)).casefold()


def row(job: Job) -> JsonObject:
    """Return a job as the page's script expects it. Times are Unix time."""
    return {
        "id": job.ref.job_id,
        "item": job.item,
        "key": item_key(job),
        "operation": job.operation,
        "outcome": job.outcome.value,
        "status": job.status,
        "start": job.began or None,
        "end": _seconds(job.end_time),
        "duration": job.duration_seconds,
        "errors": [asdict(error) for error in job.errors],
    }


def phases(job: Job) -> JsonObject:
    """Return a job with what no list contains: its phases, its progress and its size."""
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
    """Return the items without a successful backup that is new enough, and the jobs that take too long.

    :param items: what the vault protects.
    :param jobs: its jobs of the last week.
    :param now: Unix time.
    :param within: seconds in which a backup of each item is expected.
    """
    found = [*_overdue_items(items, jobs, now, within), *_long_jobs(jobs, now, within)]
    return sorted(found, key=lambda each: (each["since"] or 0.0, each["item"]))


def _overdue_items(
    items: Iterable[FoundItem], jobs: Iterable[Job], now: float, within: float
) -> Iterator[JsonObject]:
    # A vault may have thousands of items and jobs, so an item is compared only with jobs that have its name.
    by_name: dict[_Name, list[Job]] = defaultdict(list)
    for job in jobs:
        if job.is_backup:
            for name in _names_in(job):
                by_name[name].append(job)
    for item in items:
        if _INACTIVE.search(item.state):
            continue
        backups = [job for name in _names_of(item) for job in by_name.get(name, ()) if _is_of(job, item)]
        good = [job.began for job in backups if job.outcome is Outcome.SUCCEEDED]
        last = max([*good, _seconds(item.last_recovery_point) or 0.0])
        if now - last > within:
            why = "running" if any(job.is_running for job in backups) else "no_backup"
            yield {"item": _title_of(item), "why": why, "since": last or None, "source": item.source_id}


def _long_jobs(jobs: Sequence[Job], now: float, within: float) -> Iterator[JsonObject]:
    longest: dict[str, float] = {}
    for job in jobs:
        if job.outcome is Outcome.SUCCEEDED and job.duration_seconds is not None:
            longest[item_key(job)] = max(longest.get(item_key(job), 0.0), job.duration_seconds)
    for job in jobs:
        if job.is_running and job.began:
            usual = longest.get(item_key(job))
            if now - job.began > max(_LONG, 2 * (usual or within)):
                yield {
                    "item": job.item,
                    "why": "long",
                    "since": job.began,
                    "usual": usual,
                    "id": job.ref.job_id,
                }


# The owner and the item that a job names, in lower case; an empty text stands for any.
_Name = tuple[str, str]


def _names_in(job: Job) -> set[_Name]:
    owner, item = job.owner.casefold(), job.item.casefold()
    return {(owner, ""), ("", item), (owner, item)}


def _names_of(found: FoundItem) -> Iterable[_Name]:
    """Return the names of which a job of this item has one. Other jobs may have it too."""
    item = found.item
    if isinstance(item, BackupInstance):
        return [(item.path.casefold(), "")]
    if item.workload == "vm":
        return [(item.container.partition(";")[2].casefold(), "")]
    if item.workload == "azurefileshare":
        return [(item.container.rpartition(";")[2].casefold(), found.friendly_name.casefold())]
    return [("", name) for name in names_in_jobs(found)]


def _is_of(job: Job, found: FoundItem) -> bool:
    if isinstance(found.item, BackupInstance):
        return job.owner.casefold() == found.item.path.casefold()
    if found.item.workload == "vm":
        return is_of_vm(job, found.item)
    return shows_names_of(job, found)


def _title_of(item: FoundItem) -> str:
    """Return what jobs call an item: a database with its server."""
    return f"{item.friendly_name} [{item.server}]" if item.server else item.friendly_name


def _seconds(moment: str | None) -> float | None:
    return datetime.fromisoformat(moment).timestamp() if moment else None

"""What the page shows of a vault: its jobs as plain JSON, which items are overdue, and how the night went."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from types import MappingProxyType

from airflow_provider_azbackup.core.conversations.matching import names_in_jobs
from airflow_provider_azbackup.core.conversations.retry import ask
from airflow_provider_azbackup.core.model.jobs import Job, Outcome
from airflow_provider_azbackup.core.model.progress import percent_of
from airflow_provider_azbackup.core.model.resources import BackupInstance, ProtectedItem, Vault
from airflow_provider_azbackup.core.model.workloads import ON_DEMAND_A_DAY
from airflow_provider_azbackup.core.rest import requests, responses
from airflow_provider_azbackup.core.rest.responses import FoundItem
from airflow_provider_azbackup.core.wire import Flow, JsonObject, Request

# How far back the page looks, and how far back a night reaches.
WEEK = 7 * 24 * 3600.0
NIGHT = 24 * 3600.0
# The entries of each list in the overview of a vault; their number is given in full.
MOST_LISTED = 20
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
    # A Backup vault lists all jobs it has ever had. A running job is shown no matter when it began. Azure's
    # JSON is not kept, because it takes most of the memory.
    wanted = [
        replace(job, body={}) for job in jobs.values() if job.is_running or not 0 < job.began < now - WEEK
    ]
    wanted.sort(key=lambda job: job.began, reverse=True)
    return Listed(jobs=tuple(wanted), cut=call is not None and call not in seen)


def item_key(job: Job) -> str:
    """Return a key that the jobs of one item share: all the names that they have for it."""
    return "|".join((job.backup_management_type, job.owner, job.item)).casefold()


def rows(jobs: Sequence[Job]) -> list[JsonObject]:
    """Return jobs as the page's script expects them, each with a title that no other item has."""
    by_key = {item_key(job): job for job in jobs}
    titles = dict(zip(by_key, _distinct([_names_of_job(job) for job in by_key.values()]), strict=True))
    return [{**row(job), "title": titles[item_key(job)]} for job in jobs]


def row(job: Job) -> JsonObject:
    """Return a job as the page's script expects it. Times are Unix time."""
    return {
        "id": job.ref.job_id,
        "item": job.item,
        "key": item_key(job),
        "operation": job.operation,
        "is_backup": job.action == "backup",
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


def night(jobs: Sequence[Job], late: Sequence[JsonObject], *, now: float) -> JsonObject:
    """Return what the overview shows of a vault: how the last backup of each item in the last day ended.

    :param jobs: the jobs of the last week, newest first.
    :param late: what :func:`overdue` has returned.
    :param now: Unix time.
    """
    last: dict[str, Job] = {}
    for job in jobs:
        if job.is_backup and (job.is_running or max(job.began, job.ended) >= now - NIGHT):
            last.setdefault(item_key(job), job)
    long = [each for each in late if each["why"] == "long"]
    missing = [each for each in late if each["why"] != "long"]
    return {
        "counts": dict(Counter(job.outcome.value for job in last.values())),
        "errors": _by_code(last.values())[:MOST_LISTED],
        "overdue": missing[:MOST_LISTED],
        "overdue_count": len(missing),
        "long": long[:MOST_LISTED],
        "long_count": len(long),
    }


def _by_code(jobs: Iterable[Job]) -> list[JsonObject]:
    """Group the jobs that ended badly by Azure's error code, the most frequent first."""
    groups: dict[str, JsonObject] = {}
    for job in jobs:
        if job.outcome in (Outcome.FAILED, Outcome.WARNED, Outcome.CANCELLED):
            error = job.errors[0] if job.errors else None
            code = (error.title or error.code) if error else ""
            group = groups.setdefault(
                code,
                {"code": code, "message": error.message if error else "", "count": 0, "items": []},
            )
            group["count"] += 1
            if len(group["items"]) < MOST_LISTED:
                group["items"].append({"item": job.item, "key": item_key(job)})
    return sorted(groups.values(), key=lambda group: -group["count"])


@dataclass(slots=True)
class _Seen:
    """What the jobs with one name say: Unix time of the last good one, and whether one is running."""

    last: float = 0.0
    is_running: bool = False


def _overdue_items(
    items: Sequence[FoundItem], jobs: Iterable[Job], now: float, within: float
) -> Iterator[JsonObject]:
    seen = _backups_by_name(jobs)
    names = [_names_of(item) for item in items]
    shared = Counter(name for each in names for name in each)
    titles = _distinct([_names_of_item(item) for item in items])
    for item, own, title in zip(items, names, titles, strict=True):
        if _INACTIVE.search(item.state):
            continue
        found = [seen[name] for name in own if name in seen]
        # A success that could be of another item as well proves nothing.
        ended = [seen[name].last for name in own if name in seen and shared[name] == 1]
        last = max([*ended, _seconds(item.last_recovery_point) or 0.0])
        if now - last > within:
            why = "running" if any(each.is_running for each in found) else "no_backup"
            yield {"item": title, "why": why, "since": last or None}


def _backups_by_name(jobs: Iterable[Job]) -> dict[_Name, _Seen]:
    # Each name is looked up once. A vault may have thousands of items and jobs, and comparing them in pairs
    # would take seconds.
    seen: dict[_Name, _Seen] = {}
    for job in jobs:
        outcome = job.outcome
        if outcome in (Outcome.RUNNING, Outcome.SUCCEEDED) and job.is_backup:
            good = job.began if outcome is Outcome.SUCCEEDED else 0.0
            for name in _names_in(job):
                if (known := seen.get(name)) is None:
                    known = seen[name] = _Seen()
                known.last = max(known.last, good)
                known.is_running = known.is_running or outcome is Outcome.RUNNING
    return seen


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


# What a job names of its item, in lower case: the owner, the item, the workload. The parts that do not matter
# for an item of its kind are empty.
_Name = tuple[str, str, str]


def _names_in(job: Job) -> list[_Name]:
    owner, item = job.owner.casefold(), job.item.casefold()
    return [(owner, "", ""), (owner, item, ""), ("", item, job.workload.casefold())]


def _names_of(found: FoundItem) -> list[_Name]:
    """Return the names of which a job of this item has one."""
    item = found.item
    if isinstance(item, BackupInstance):
        return [(item.path.casefold(), "", "")]
    if item.workload == "vm":
        return [(item.container.partition(";")[2].casefold(), "", "")]
    if item.workload == "azurefileshare":
        return [(_account_of(item).casefold(), found.friendly_name.casefold(), "")]
    # In its first moments a job has no workload yet.
    names = dict.fromkeys(names_in_jobs(found))
    return [("", name, workload) for name in names for workload in (item.workload, "")]


def _account_of(item: ProtectedItem) -> str:
    return item.container.rpartition(";")[2]


def _names_of_item(found: FoundItem) -> tuple[str, ...]:
    """Return what people call an item, then what distinguishes it from others of that name."""
    item, name = found.item, found.friendly_name or found.item.name
    if found.server:
        # "SQLDataBase;mssqlserver;msdb" names the instance.
        parts = item.name.split(";")
        name = f"{name} [{found.server}{f' / {parts[1].upper()}' if len(parts) > 2 else ''}]"
    if isinstance(item, BackupInstance):
        return name, item.name
    if item.workload == "azurefileshare":
        return name, _account_of(item), item.path
    return name, *item.container.split(";")[-2:-1], item.path


def _names_of_job(job: Job) -> tuple[str, ...]:
    """Return the same for the item of a job."""
    owner = job.owner.rpartition("/")[2] if job.ref.vault.is_backup_vault else job.owner
    return job.item or "unnamed", owner.split(";")[-2:][0], job.backup_management_type


def _distinct(named: Sequence[tuple[str, ...]]) -> list[str]:
    """Return a title for each entry: its name, with as much of what follows the name as makes it unique."""
    titles = [name for name, *_ in named]
    for place in range(1, max(map(len, named), default=0)):
        count = Counter(titles)
        titles = [
            f"{title} in {parts[place]}"
            if count[title] > 1 and len(parts) > place and parts[place]
            else title
            for title, parts in zip(titles, named, strict=True)
        ]
    return titles


# What a Clear of a task does, by its class. A task that starts a job is not among them.
_LOOKS_AGAIN = MappingProxyType(
    {
        "AzureBackupJobSensor": "It would look at the same job again, and the end of a job never changes.",
        "AzureBackupFreshnessSensor": "It would look again, and open after a backup that is good enough.",
        "AzureBackupFleetSensor": "It would look at every item of its scope again.",
    }
)


def after_clear(
    operator: str, job: JsonObject, jobs: Sequence[Job], *, now: float, read_at: float | None
) -> str:
    """Return what a Clear of a task would do now, as text for the tab; empty if that is not known.

    :param operator: the name of the task's class.
    :param job: the facts of the task's job, if it has one.
    :param jobs: the jobs of its vault as last listed.
    :param now: Unix time.
    :param read_at: Unix time of that list; None if there is none.
    """
    if operator in _LOOKS_AGAIN:
        return _LOOKS_AGAIN[operator]
    if operator not in ("AzureBackupOperator", "AzureBackupRestoreOperator"):
        return ""
    is_backup = operator == "AzureBackupOperator"
    noun = "backup" if is_backup else "restore"
    known = [each for each in jobs if _is_of_same_item(each, job)]
    mine = [each for each in known if (each.is_backup if is_backup else each.is_restore)]
    if running := _running_job(job, known, mine):
        does = f"It would wait for the {noun} that is running, job {running}, and then start its own."
    elif read_at is None or not known:
        does = f"It would start a new {noun}, after the end of one that may be running by then."
    else:
        does = f"It would start a new {noun}, because none is running."
    return f"{does}{_daily_limit(mine, now) if is_backup else ''}"


def _running_job(job: JsonObject, known: Sequence[Job], mine: Sequence[Job]) -> str:
    """Return the id of a job that a new one would have to wait for; empty if none is known.

    :param job: the facts of the task's job.
    :param known: the listed jobs of its item.
    :param mine: those of them that are backups, or restores, as the task's job is.
    """
    for each in mine:
        if each.is_running:
            return each.ref.job_id
    runs = job.get("outcome") == "running" and all(each.is_running for each in known)
    return str(job.get("job_id", "")) if runs else ""


def _daily_limit(backups: Sequence[Job], now: float) -> str:
    """Return how much of the daily limit may be used. Azure does not list which backups are on demand."""
    limit = ON_DEMAND_A_DAY.get(backups[0].backup_management_type.casefold()) if backups else None
    if limit is None:
        return ""
    used = min(limit, sum(job.began >= now - NIGHT for job in backups))
    warning = ", so Azure may refuse another" if used == limit else ""
    return f" Up to {used} of the {limit} on-demand backups of a day are used{warning}."


def _is_of_same_item(one: Job, other: JsonObject) -> bool:
    """Whether a job and the facts of another one name the same item."""
    same = {
        "item": one.item,
        "item_id": one.item_id or "",
        "container": one.container,
        "backup_management_type": one.backup_management_type,
    }
    return all(str(other.get(name) or "").casefold() == value.casefold() for name, value in same.items())


def _seconds(moment: str | None) -> float | None:
    return datetime.fromisoformat(moment).timestamp() if moment else None

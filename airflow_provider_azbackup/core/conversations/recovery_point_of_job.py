"""The recovery point that a backup has made.

A job of a Backup vault names its recovery point. Any other job does not, so its recovery point is found by
its time. Points and jobs carry different clocks: that of Azure, of the storage account, of the VM that runs
SAP HANA. So the job's window is widened on both sides, and what lies in it is compared with the item's other
jobs.

Source: https://learn.microsoft.com/rest/api/backup/recovery-points/list
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from operator import attrgetter

from airflow_provider_azbackup.core.conversations import matching
from airflow_provider_azbackup.core.conversations.jobs import get_job, list_jobs
from airflow_provider_azbackup.core.conversations.recovery_points import (
    get_recovery_point,
    list_recovery_points,
)
from airflow_provider_azbackup.core.conversations.retry import ResponseClock, retry_until
from airflow_provider_azbackup.core.model.jobs import Job, Outcome
from airflow_provider_azbackup.core.model.recovery_points import RecoveryPoint
from airflow_provider_azbackup.core.model.resources import BackupInstance, ProtectedItem
from airflow_provider_azbackup.core.model.workloads import MANAGEMENT_TYPES
from airflow_provider_azbackup.core.rest import requests
from airflow_provider_azbackup.core.wire import Flow
from airflow_provider_azbackup.exceptions import AzureBackupConfigError, AzureBackupNotFoundError

# Seconds in which a list of recovery points may still lack one that exists.
LISTING_LIMIT = 300.0
# The pauses before the looks at that list, together a little longer than that.
_PAUSES = (0.0, 5.0, 10.0, 20.0, *[30.0] * 9)
# Seconds by which a recovery point may be earlier than the start of its job or later than its end. Recorded:
# up to 202 s before (SAP HANA) and 12.5 s after (file shares).
BEFORE = 300.0
AFTER = 60.0
# A recovery point may give its time in whole seconds.
_SECOND = 1.0
# Kinds whose recovery points were always inside their jobs: 316 of 316 VMs, 29 of 29 SQL databases, 39 of 39
# backup instances. Of any other kind one inside may be another job's all the same.
_SAME_CLOCK = frozenset({"vm", "sqldatabase", "backupinstance"})
# "6/19/2023 12:00:00 AM": always the American form; until 2026 always midnight.
_EXPIRY = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{4}) (\d{1,2}):(\d{2}):(\d{2}) ([AP])M")
# More of a list than is needed does no harm: which end of a backup the window is about is not documented.
_MARGIN = 3600.0
# Seconds before the job's start from which its item's other jobs are listed: a full backup may take hours.
_BEFORE_IT = 24 * 3600.0


def find_recovery_point(job: Job, item: ProtectedItem | None, now: float) -> Flow[RecoveryPoint]:
    """Return the recovery point of a backup; a list may show it some moments late.

    :param job: the backup, over or past its snapshot.
    :param item: what it has backed up; None looks it up by the job's names.
    :param now: Unix time.
    :raises AzureBackupConfigError: for a job that makes no recovery point that can be listed: a restore, the
        backup of a log, the backup of a MARS agent.
    :raises AzureBackupNotFoundError: when no list shows it within :data:`LISTING_LIMIT` seconds, or when it
        cannot be distinguished from those of the item's other jobs; lists them.
    """
    vault = job.ref.vault
    if not job.is_backup or not job.began:
        raise AzureBackupConfigError(
            f"require_recovery_point is for backups that make one, and this is none: {job}"
        )
    listed = {each.casefold() for each in MANAGEMENT_TYPES} | ({""} if item else set())
    if not vault.is_backup_vault and job.backup_management_type.casefold() not in listed:
        raise AzureBackupConfigError(
            f"require_recovery_point works for {', '.join(MANAGEMENT_TYPES)}, whose recovery points Azure "
            f"lists; {job} is of {job.backup_management_type or 'no known management type'}. "
            f"Drop require_recovery_point"
        )
    heard, until = ResponseClock(now), now + LISTING_LIMIT
    if item is None:
        item = yield from heard.follow(
            retry_until(lambda: matching.item_of_job(vault, job), since=now, until=until)
        )
    if isinstance(item, BackupInstance):
        named = _named(job)
        if not named:  # a job from a list lacks it
            look = retry_until(lambda: get_job(job.ref), since=now, until=until)
            named = _named((yield from heard.follow(look)))
        if named:
            return (yield from heard.follow(_get(job, item, named, now)))
    return (yield from heard.follow(_search(job, item, now)))


def _named(job: Job) -> str:
    return dict(job.details).get("recoveryPointID", "")


def _get(job: Job, item: ProtectedItem, point_id: str, now: float) -> Flow[RecoveryPoint]:
    """Return the recovery point that a job names."""
    heard, until = ResponseClock(now), now + LISTING_LIMIT
    for pause in _PAUSES:
        look = retry_until(
            lambda: get_recovery_point(item, point_id), since=now, until=until, first_pause=pause
        )
        try:
            point = yield from heard.follow(look)
        except AzureBackupNotFoundError:
            if heard.at >= until:
                break
            continue
        if point.time and not _may_have_made(job, point):
            raise AzureBackupNotFoundError(
                f"{job} names {point}, which is not of its time: from {job.start_time} to {job.end_time}"
            )
        return point
    raise AzureBackupNotFoundError(f"{item.label} has no recovery point {point_id}, which {job} names")


def _search(job: Job, item: ProtectedItem, now: float) -> Flow[RecoveryPoint]:
    """Return the recovery point that lies in a job's window and belongs to no other job."""
    heard, until = ResponseClock(now), now + LISTING_LIMIT
    kind = _kind(job.backup_type)
    wanted = requests.RecoveryPointFilter(
        after=requests.utc_datetime(job.began - _MARGIN),
        before=requests.utc_datetime((job.ended or heard.at) + _MARGIN),
    )
    if kind not in ("", "full"):
        wanted["query_type"] = job.backup_type
    points: list[RecoveryPoint] = []
    others: list[Job] | None = None
    for pause in _PAUSES:
        look = retry_until(
            lambda: list_recovery_points(item, **wanted), since=now, until=until, first_pause=pause
        )
        found = yield from heard.follow(look)
        points = [p for p in found if p.time and kind in ("", _kind(p.backup_type))]
        inside = [point for point in points if _is_inside(job, point)]
        if len(inside) == 1 and item.workload in _SAME_CLOCK:
            return _complete(inside[0], job)
        if any(_may_have_made(job, point) for point in points):
            if others is None:
                others = yield from heard.follow(
                    retry_until(lambda: _other_backups(job, kind), since=now, until=until)
                )
            if point := _assign(job, others, points):
                return _complete(point, job)
        if heard.at >= until:
            break
    shown = ", ".join(map(str, points)) or "none of that time"
    if others:
        raise AzureBackupNotFoundError(
            f"it is not clear which recovery point of {item.label} {job} has made (begun {job.start_time}): "
            f"there are also {'; '.join(f'{each} begun {each.start_time}' for each in others)}, and the list "
            f"shows {shown}"
        )
    raise AzureBackupNotFoundError(
        f"no recovery point of {item.label} was found that {job} has made (begun {job.start_time}); the list "
        f"shows {shown}"
    )


def _other_backups(job: Job, kind: str) -> Flow[list[Job]]:
    """Return the other backups of the same item, and of the same type, whose recovery point may be near."""
    vault = job.ref.vault
    window = requests.JobFilter(
        backup_management_type=job.backup_management_type or None,
        started_after=requests.utc_datetime(job.began - _BEFORE_IT),
        started_before=requests.utc_datetime((job.ended or job.began) + _MARGIN),
    )
    jobs = yield from list_jobs(requests.list_jobs(vault, **window), vault, **window)
    return [
        each
        for each in jobs
        if each.ref.job_id.casefold() != job.ref.job_id.casefold()
        and each.is_backup
        and _may_be_of_one_item(each, job)
        and (not kind or _kind(each.backup_type) in ("", kind))
    ]


def _may_be_of_one_item(one: Job, other: Job) -> bool:
    """Compare the names in two jobs; in doubt they are of one item, as a new job may leave out the server."""
    names = [each.item.casefold().partition(" [") for each in (one, other)]
    owners = {each.owner.casefold() for each in (one, other)} - {""}
    servers = {server for _, _, server in names} - {""}
    return names[0][0] == names[1][0] and len(owners) < 2 and len(servers) < 2


def _assign(job: Job, others: Sequence[Job], points: Sequence[RecoveryPoint]) -> RecoveryPoint | None:
    """Return the recovery point that only this job can have made; None when that is not clear."""
    jobs = [job, *others]
    alone = [p for p in points if [each for each in jobs if _may_have_made(each, p)] == [job]]
    if len(alone) == 1:
        return alone[0]
    # Jobs and recovery points that overlap: as many of each, all by one clock, are in one order.
    group, theirs = [job], list[RecoveryPoint]()
    for _ in jobs:
        theirs = [p for p in points if any(_may_have_made(each, p) for each in group)]
        group = [each for each in jobs if each in group or any(_may_have_made(each, p) for p in theirs)]
    certain = all(each.outcome in (Outcome.SUCCEEDED, Outcome.WARNED) for each in group if each is not job)
    if not certain or len(group) != len(theirs):
        return None
    place = sorted(group, key=attrgetter("began")).index(job)
    return sorted(theirs, key=attrgetter("unix_time"))[place]


def _may_have_made(job: Job, point: RecoveryPoint) -> bool:
    return job.began - BEFORE <= point.unix_time <= (job.ended or math.inf) + AFTER


def _is_inside(job: Job, point: RecoveryPoint) -> bool:
    return job.began - _SECOND < point.unix_time <= (job.ended or math.inf)


def _complete(point: RecoveryPoint, job: Job) -> RecoveryPoint:
    """Add the expiry that a VM's job names: a list of recovery points may leave it out."""
    return replace(point, expiry=point.expiry or read_expiry(job))


def read_expiry(job: Job) -> str | None:
    """Read from a VM's job when its recovery point expires; None when it does not say."""
    found = _EXPIRY.match(dict(job.details).get("Recovery Point Expiry Time in UTC", ""))
    if not found:
        return None
    month, day, year, hour, minute, second = map(int, found.groups()[:6])
    try:
        at = datetime(
            year, month, day, hour % 12 + (12 if found[7] == "P" else 0), minute, second, tzinfo=UTC
        )
    except ValueError:  # a date outside the calendar
        return None
    return at.isoformat()


def _kind(backup_type: str) -> str:
    """A copy-only backup leaves a full recovery point."""
    return backup_type.casefold().replace("copyonly", "")

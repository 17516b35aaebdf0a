"""Find the recovery point that a backup has made.

A job of a Backup vault names its recovery point. Any other job does not, so its recovery point is found by
time. The times of recovery points and jobs come from different clocks: those of Azure, of the storage
account, or of the VM that runs SAP HANA. So the job's window is widened on both sides, and the recovery
points in it are compared with the item's other jobs.

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

# Seconds for which a new recovery point may be missing from the list.
LISTING_LIMIT = 300.0
# Seconds before each read of that list; together they are a little longer.
_PAUSES = (0.0, 5.0, 10.0, 20.0, *[30.0] * 9)
# Seconds by which a recovery point may be earlier than the start of its job or later than its end. Recorded:
# up to 202 s before (SAP HANA) and 12.5 s after (file shares).
BEFORE = 300.0
AFTER = 60.0
# A recovery point may give its time in whole seconds.
_SECOND = 1.0
# Workloads whose recovery points were always inside their jobs: 316 of 316 VMs, 29 of 29 SQL databases, 39 of
# 39 backup instances. For any other workload, a recovery point inside a job may still belong to another job.
_SAME_CLOCK = frozenset({"vm", "sqldatabase", "backupinstance"})
# For example "6/19/2023 12:00:00 AM". The form is always American, and until 2026 the time is always
# midnight.
_EXPIRY = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{4}) (\d{1,2}):(\d{2}):(\d{2}) ([AP])M")
# Seconds by which the window of a list is widened, because it is not documented whether it applies to the
# start or the end of a backup.
_MARGIN = 3600.0
# Seconds before the start of the job from which other jobs are listed: a full backup may take hours.
OTHER_JOBS_BEFORE = 24 * 3600.0


def find_recovery_point(
    job: Job, item: ProtectedItem | None, now: float, *, known_jobs: Sequence[Job] | None = None
) -> Flow[RecoveryPoint]:
    """Return the recovery point of a backup, which a list may show some moments late.

    :param job: the backup, over or past its snapshot.
    :param item: what it has backed up; if None, it is looked up by the names in the job.
    :param now: Unix time.
    :param known_jobs: the jobs of the vault that began in the :data:`OTHER_JOBS_BEFORE` seconds before this
        one, or later; None lists them where they are needed.
    :raises AzureBackupConfigError: for a job without a recovery point that can be listed: a restore, the
        backup of a log, the backup of a MARS agent.
    :raises AzureBackupNotFoundError: if no list shows it within :data:`LISTING_LIMIT` seconds, or if it
        cannot be distinguished from those of the item's other jobs, which the error lists.
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
            f"lists; {job} has management type {job.backup_management_type or 'unknown'}. "
            f"Drop require_recovery_point"
        )
    clock, until = ResponseClock(now), now + LISTING_LIMIT
    if item is None:
        item = yield from clock.follow(
            retry_until(lambda: matching.item_of_job(vault, job), since=now, until=until)
        )
    if isinstance(item, BackupInstance):
        point_id = _recovery_point_id(job)
        if not point_id:  # a job from a list lacks it
            read = retry_until(lambda: get_job(job.ref), since=now, until=until)
            point_id = _recovery_point_id((yield from clock.follow(read)))
        if point_id:
            return (yield from clock.follow(_get_named(job, item, point_id, now)))
    return (yield from clock.follow(_search(job, item, now, known_jobs)))


def _recovery_point_id(job: Job) -> str:
    """Return the id of the recovery point that a job names; empty if it names none."""
    return dict(job.details).get("recoveryPointID", "")


def _get_named(job: Job, item: ProtectedItem, point_id: str, now: float) -> Flow[RecoveryPoint]:
    """Return the recovery point that a job names."""
    clock, until = ResponseClock(now), now + LISTING_LIMIT
    for pause in _PAUSES:
        read = retry_until(
            lambda: get_recovery_point(item, point_id), since=now, until=until, first_pause=pause
        )
        try:
            point = yield from clock.follow(read)
        except AzureBackupNotFoundError:
            if clock.at >= until:
                break
            continue
        if point.time and not _may_have_made(job, point):
            raise AzureBackupNotFoundError(
                f"{job} names {point}, which is not of its time: from {job.start_time} to {job.end_time}"
            )
        return point
    raise AzureBackupNotFoundError(f"{item.label} has no recovery point {point_id}, which {job} names")


def _search(
    job: Job, item: ProtectedItem, now: float, known_jobs: Sequence[Job] | None
) -> Flow[RecoveryPoint]:
    """Return the recovery point that is in the window of a job and belongs to no other job."""
    clock, until = ResponseClock(now), now + LISTING_LIMIT
    backup_type = _restorable_as(job.backup_type)
    wanted = requests.RecoveryPointFilter(
        after=requests.utc_datetime(job.began - _MARGIN),
        before=requests.utc_datetime((job.ended or clock.at) + _MARGIN),
    )
    if backup_type not in ("", "full"):
        wanted["query_type"] = job.backup_type
    points: list[RecoveryPoint] = []
    others = None if known_jobs is None else _others_among(known_jobs, job, backup_type)
    for pause in _PAUSES:
        read = retry_until(
            lambda: list_recovery_points(item, **wanted), since=now, until=until, first_pause=pause
        )
        found = yield from clock.follow(read)
        points = [p for p in found if p.time and backup_type in ("", _restorable_as(p.backup_type))]
        inside = [point for point in points if _is_inside(job, point)]
        if len(inside) == 1 and item.workload in _SAME_CLOCK:
            return _complete(inside[0], job)
        if any(_may_have_made(job, point) for point in points):
            if others is None:
                others = yield from clock.follow(
                    retry_until(lambda: _other_backups(job, backup_type), since=now, until=until)
                )
            if point := _assign(job, others, points):
                return _complete(point, job)
        if clock.at >= until:
            break
    raise _not_found(job, item, points, others or [])


def _not_found(
    job: Job, item: ProtectedItem, points: Sequence[RecoveryPoint], others: Sequence[Job]
) -> AzureBackupNotFoundError:
    shown = ", ".join(map(str, points)) or "none of that time"
    if others:
        return AzureBackupNotFoundError(
            f"it is not clear which recovery point of {item.label} {job} has made (begun {job.start_time}): "
            f"there are also {'; '.join(f'{each} begun {each.start_time}' for each in others)}, and the list "
            f"shows {shown}"
        )
    return AzureBackupNotFoundError(
        f"no recovery point of {item.label} was found that {job} has made (begun {job.start_time}); the list "
        f"shows {shown}"
    )


def _other_backups(job: Job, backup_type: str) -> Flow[list[Job]]:
    """Return the other backups of the same item and type whose recovery points may be near."""
    vault = job.ref.vault
    window = requests.JobFilter(
        backup_management_type=job.backup_management_type or None,
        started_after=requests.utc_datetime(job.began - OTHER_JOBS_BEFORE),
        started_before=requests.utc_datetime((job.ended or job.began) + _MARGIN),
    )
    jobs = yield from list_jobs(requests.list_jobs(vault, **window), vault, **window)
    return _others_among(jobs, job, backup_type)


def _others_among(jobs: Sequence[Job], job: Job, backup_type: str) -> list[Job]:
    return [
        each
        for each in jobs
        if each.ref.job_id.casefold() != job.ref.job_id.casefold()
        and each.is_backup
        and _may_be_same_item(each, job)
        and (not backup_type or _restorable_as(each.backup_type) in ("", backup_type))
    ]


def _may_be_same_item(one: Job, other: Job) -> bool:
    """Whether two jobs may belong to one item, judging by their names. A new job may lack the server."""
    names = [each.item.casefold().partition(" [") for each in (one, other)]
    owners = {each.owner.casefold() for each in (one, other)} - {""}
    servers = {server for _, _, server in names} - {""}
    return names[0][0] == names[1][0] and len(owners) < 2 and len(servers) < 2


def _assign(job: Job, others: Sequence[Job], points: Sequence[RecoveryPoint]) -> RecoveryPoint | None:
    """Return the recovery point that only this job can have made; None if that is not clear."""
    jobs = [job, *others]
    alone = [p for p in points if [each for each in jobs if _may_have_made(each, p)] == [job]]
    if len(alone) == 1:
        return alone[0]
    # If as many jobs as recovery points overlap, both have the same order, because each comes from one clock.
    group, theirs = [job], list[RecoveryPoint]()
    for _ in jobs:
        theirs = [p for p in points if any(_may_have_made(each, p) for each in group)]
        group = [each for each in jobs if each in group or any(_may_have_made(each, p) for p in theirs)]
    certain = all(each.outcome in (Outcome.SUCCEEDED, Outcome.WARNED) for each in group if each is not job)
    if not certain or len(group) != len(theirs):
        return None
    position = sorted(group, key=attrgetter("began")).index(job)
    return sorted(theirs, key=attrgetter("unix_time"))[position]


def _may_have_made(job: Job, point: RecoveryPoint) -> bool:
    return job.began - BEFORE <= point.unix_time <= (job.ended or math.inf) + AFTER


def _is_inside(job: Job, point: RecoveryPoint) -> bool:
    return job.began - _SECOND < point.unix_time <= (job.ended or math.inf)


def _complete(point: RecoveryPoint, job: Job) -> RecoveryPoint:
    """Add the expiry that a VM's job names, because a list of recovery points may lack it."""
    return replace(point, expiry=point.expiry or read_expiry(job))


def read_expiry(job: Job) -> str | None:
    """Return when the recovery point of a VM's job expires, as the job says; None if it does not."""
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


def _restorable_as(backup_type: str) -> str:
    """Return a backup type in lower case. A copy-only backup makes a full recovery point."""
    return backup_type.casefold().replace("copyonly", "")

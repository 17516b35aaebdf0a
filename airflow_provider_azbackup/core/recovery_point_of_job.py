"""The recovery point that a backup has made: the job does not name it, so it is found by its time.

Source: https://learn.microsoft.com/rest/api/backup/recovery-points/list
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from datetime import UTC, datetime
from itertools import chain, repeat
from operator import attrgetter

from airflow_provider_azbackup.core import calls, flows, matching
from airflow_provider_azbackup.core.jobs import BACKUP, Job
from airflow_provider_azbackup.core.points import RecoveryPoint
from airflow_provider_azbackup.core.resources import ProtectedItem
from airflow_provider_azbackup.core.wire import Flow
from airflow_provider_azbackup.exceptions import AzureBackupConfigError, AzureBackupNotFoundError

# Seconds in which a list of recovery points may still lack one that exists.
POINT_LIMIT = 300.0
# A share's recovery point tells its time in whole seconds.
_SECOND = 1.0
# "6/19/2023 12:00:00 AM": always the American form, always midnight.
_DATE = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{4}) ")
# More of a list than is needed does no harm: which end of a backup the window is about is not documented.
_MARGIN = 3600.0


def find_recovery_point(job: Job, item: ProtectedItem | None, now: float) -> Flow[RecoveryPoint]:
    """Return the recovery point of a backup; a list may show it some moments late.

    :param job: the backup, over or past its snapshot.
    :param item: what it has backed up; None looks it up by the job's names.
    :param now: Unix time.
    :raises AzureBackupConfigError: for a job that makes no recovery point: a restore, the backup of a log.
    :raises AzureBackupNotFoundError: when no list shows it within :data:`POINT_LIMIT` seconds.
    """
    if not matching.is_backup(job) or not job.began:
        raise AzureBackupConfigError(
            f"require_recovery_point is for backups that make one, and this is none: {job}"
        )
    heard, until = flows.Heard(now), now + POINT_LIMIT
    if item is None:
        vault = job.ref.vault
        item = yield from heard.listen(
            flows.insist(lambda: matching.item_of(vault, job), since=now, until=until)
        )
    target, told = item, BACKUP.fullmatch(job.operation)
    ended = datetime.fromisoformat(job.end_time).timestamp() if job.end_time else math.inf
    wanted = calls.PointFilter(
        after=calls.moment(job.began - _MARGIN),
        before=calls.moment((ended if job.end_time else heard.at) + _MARGIN),
    )
    backup_type = (told and told[1]) or ""
    kind = _kind(backup_type)
    if kind not in ("", "full"):
        wanted["query_type"] = backup_type
    points: list[RecoveryPoint] = []
    for pause in chain((0.0, 5.0, 10.0, 20.0), repeat(30.0)):
        points = yield from heard.listen(
            flows.insist(
                lambda: flows.list_recovery_points(target, **wanted),
                since=now,
                until=until,
                first_pause=pause,
            )
        )
        for point in sorted(points, key=attrgetter("made")):
            if job.began - _SECOND < point.made <= ended and kind in ("", _kind(point.backup_type)):
                return replace(point, expiry=point.expiry or _expiry(job))
        if heard.at >= until:
            break
    raise AzureBackupNotFoundError(
        f"no recovery point of {item.name} was found that {job} has made (begun {job.start_time}); the list "
        f"shows {', '.join(map(str, points)) or 'none of that time'}"
    )


def _expiry(job: Job) -> str | None:
    """Read the expiry, cut to its day, from a machine's job: a list of points may leave it out."""
    found = _DATE.match(dict(job.details).get("Recovery Point Expiry Time in UTC", ""))
    return datetime(int(found[3]), int(found[1]), int(found[2]), tzinfo=UTC).isoformat() if found else None


def _kind(backup_type: str) -> str:
    """A copy-only backup leaves a full recovery point."""
    return backup_type.casefold().replace("copyonly", "")

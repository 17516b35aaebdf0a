"""How far a backup has come, in numbers: what the XCom ``backup_progress`` holds.

Source: https://learn.microsoft.com/azure/backup/backup-azure-arm-userestapi-managejobs
"""

from __future__ import annotations

import re
from typing import Any

from airflow_provider_azbackup.core.model.forecast import Forecast, expected_times
from airflow_provider_azbackup.core.model.jobs import Job
from airflow_provider_azbackup.core.model.json_safe import iso_time
from airflow_provider_azbackup.core.wire import JsonObject
from airflow_provider_azbackup.exceptions import AzureBackupError

# The key of the XCom.
PROGRESS = "backup_progress"
# The fields whose change makes a report worth writing. The others change with every read.
_REPORTED = (
    *("job_id", "status", "phase", "percent", "bytes_done", "bytes_total", "fault", "waiting_for"),
    *("expected_end", "expected_late", "late"),
)
_LONGEST_FAULT = 500
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_SIZE = r"(\d{1,20}(?:\.\d{1,20})?)\s*([KMGT]?)Bs?"
_TRANSFER = re.compile(rf"{_SIZE}\s*/\s*{_SIZE}\b.*", re.IGNORECASE)
# Of a Backup vault's phase it may be a number alone.
_PERCENT = re.compile(r"(\d{1,20}(?:\.\d{1,20})?)(?: ?%)?")


def progress_report(
    job: Job | None,
    fault: AzureBackupError | None,
    at: float,
    *,
    waiting_for: str = "",
    waiting_until: float | None = None,
    expected: Forecast | None = None,
    late: bool | None = None,
) -> JsonObject:
    """Return how far a job has come, as far as Azure reports it. A list of jobs reports neither phase nor
    bytes.

    :param job: the job as last read; None if it was never read.
    :param fault: why the last read failed; None if it did not.
    :param at: Unix time of the last read.
    :param waiting_for: what has to end before the task's own job can start; empty for the task's own job.
    :param waiting_until: Unix time until which the task waits for that.
    :param expected: when the job is likely to end; None if it is over or that is not known.
    :param late: whether it ends, or is likely to end, after the task's ``expected_by``; None without one.
    """
    known: dict[str, Any] = {"job_id": None, "status": None, "phase": "", "elapsed_seconds": None}
    done, total, percent = None, None, None
    if job is not None:
        done, total = bytes_transferred(job)
        percent = percent_of(job)
        known |= {
            "job_id": job.ref.job_id,
            "status": job.status,
            "phase": next((task.name for task in job.tasks if task.is_running), ""),
            "elapsed_seconds": _elapsed(job, at),
        }
    return {
        **known,
        "percent": percent,
        "bytes_done": done,
        "bytes_total": total,
        "last_look": iso_time(at),
        "fault": str(fault)[:_LONGEST_FAULT] if fault else None,
        "waiting_for": waiting_for[:_LONGEST_FAULT] or None,
        "waiting_until": None if waiting_until is None else iso_time(waiting_until),
        **expected_times(expected),
        "late": late,
    }


def has_news(now: JsonObject, before: JsonObject | None) -> bool:
    """Whether a report differs from the one before in more than the time that has passed."""
    return before is None or any(now[name] != before[name] for name in _REPORTED)


def bytes_transferred(job: Job) -> tuple[int | None, int | None]:
    """Return the bytes that the running phase has moved, or that the last phase of a job that is over has
    moved, and of how many.
    """
    for task in job.tasks:
        if task.is_running and (found := _TRANSFER.fullmatch(task.progress)):
            return _bytes(*found.group(1, 2)), _bytes(*found.group(3, 4))
    known = (task.bytes_done for task in reversed(job.tasks) if task.is_running or not job.is_running)
    return next((done for done in known if done is not None), None), None


def percent_of(job: Job) -> float | None:
    """Return Azure's own percentage, else that of the running phase."""
    done, total = bytes_transferred(job)
    if job.percent is not None:
        return job.percent
    if done is not None and total:
        return round(100 * done / total, 1)
    shown = (_PERCENT.fullmatch(task.progress) for task in job.tasks if task.is_running)
    return next((float(found[1]) for found in shown if found), None)


def _bytes(number: str, unit: str) -> int:
    return round(float(number) * _UNITS[unit.upper()])


def _elapsed(job: Job, at: float) -> float | None:
    if job.duration_seconds is not None:
        return round(job.duration_seconds, 1)
    return round(max(0.0, at - job.began), 1) if job.began else None

"""When a running backup is likely to end, from how long earlier backups of the same item took.

Durations of backups have heavy tails: most nights take as long as the night before, and one takes five times
as long. So nothing is fitted to them. The forecast is the median and the ninth decile of those durations that
are longer than the backup has run already. `docs/performance.md` says how often that is right.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median, quantiles

from airflow_provider_azbackup.core.model.jobs import Job, Outcome
from airflow_provider_azbackup.core.model.json_safe import iso_time
from airflow_provider_azbackup.core.wire import JsonObject

# Of how many nights there must be at least: the ninth decile of fewer would lie beyond the longest of them.
FEWEST = 9


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """When a backup is likely to end, in Unix time.

    :param p50: it ends before this time as often as after it.
    :param p90: nine in ten such backups have ended by this time. None once fewer than nine earlier backups
        took longer than this one has run already.
    """

    p50: float
    p90: float | None


def forecast(durations: Sequence[float], *, began: float, now: float) -> Forecast | None:
    """Return when a backup that still runs is likely to end.

    Its failure is not foreseen, because the durations are those of backups that succeeded.

    :param durations: seconds that earlier backups of the item took, in any order; see :func:`past_durations`.
    :param began: Unix time at which it began.
    :param now: Unix time at which it still ran.
    :return: None when there are fewer than nine durations, or when it has run longer than all of them.
    """
    longer = [each for each in durations if each > now - began]
    if len(durations) < FEWEST or not longer:
        return None
    p90 = began + quantiles(longer, n=10)[-1] if len(longer) >= FEWEST else None
    return Forecast(p50=began + median(longer), p90=p90)


def late_from(durations: Sequence[float], *, began: float, expected_by: float) -> float:
    """Return the Unix time from which a backup that still runs is more likely to be late than not.

    That is ``expected_by`` itself, or earlier: the first moment at which the median of :func:`forecast` has
    passed it. The ninth decile would be too early. When it passes ``expected_by``, nine in ten such backups
    still end in time.

    :param durations: as in :func:`forecast`.
    :param began: Unix time at which it began.
    :param expected_by: Unix time by which it should be over.
    """
    for elapsed in (0.0, *sorted(durations)):
        found = forecast(durations, began=began, now=began + elapsed)
        if found is None or began + elapsed >= expected_by:
            break
        if found.p50 > expected_by:
            return began + elapsed
    return expected_by


def lateness(found: Forecast | None, *, expected_by: float, now: float) -> JsonObject:
    """Return in words and times why a backup counts as late.

    :param found: when it is likely to end; None if that is not known.
    :param expected_by: Unix time by which it should be over.
    :param now: Unix time.
    """
    if now >= expected_by:
        message = f"the backup was expected by {iso_time(expected_by)} and is not over"
    else:
        likely = f", but is likely to end at {iso_time(found.p50)}" if found else ""
        message = f"the backup is expected by {iso_time(expected_by)}{likely}"
    return {"message": message, "expected_by": iso_time(expected_by), **expected_times(found)}


def expected_times(found: Forecast | None) -> JsonObject:
    """Return a forecast in ISO 8601, as ``expected_end`` (p50) and ``expected_late`` (p90)."""
    return {
        "expected_end": iso_time(found.p50) if found else None,
        "expected_late": iso_time(found.p90) if found and found.p90 is not None else None,
    }


def forecast_key(job: Job) -> tuple[str, ...]:
    """Return what the job has in common with others that take about as long: item, container, type of backup.

    A job names neither its item nor its type in full, so two items may share a key. That makes a forecast
    worse; nothing else depends on it.
    """
    return tuple(map(str.casefold, (job.ref.vault.path, job.owner, job.item, job.backup_type)))


def past_duration(job: Job) -> float | None:
    """Return the seconds that a backup took; None for a job that says nothing about the next backup."""
    counts = job.is_backup and job.outcome in (Outcome.SUCCEEDED, Outcome.WARNED)
    return job.duration_seconds or None if counts else None


def past_durations(jobs: Iterable[Job], like: Job) -> list[float]:
    """Return the seconds that earlier backups of the same item and type took.

    :param jobs: of the vault, any.
    :param like: the backup that runs.
    """
    key = forecast_key(like)
    found = (past_duration(job) for job in jobs if forecast_key(job) == key)
    return [seconds for seconds in found if seconds]

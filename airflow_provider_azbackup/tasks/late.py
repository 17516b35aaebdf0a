"""What a task does about a late backup: it warns once, and runs callbacks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from airflow_provider_azbackup.exceptions import AzureBackupConfigError, AzureBackupError
from airflow_provider_azbackup.runtime import clock
from airflow_provider_azbackup.tasks.arguments import read_moment

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_azbackup.core.model.jobs import Job
    from airflow_provider_azbackup.core.wire import JsonObject

# As Airflow types its own callbacks: a notifier, or a function of the context.
OnLate: TypeAlias = Callable[[Any], object] | Sequence[Callable[[Any], object]] | None


def check_on_late(task_id: str, on_late: OnLate, *, expects: bool, once: bool) -> None:
    """Refuse callbacks that could never run, or not just once.

    :param expects: whether the task expects its backup by any time.
    :param once: whether the task can know that it has warned already.
    :raises AzureBackupConfigError: naming them, and what is expected.
    """
    if on_late is not None and not expects:
        raise AzureBackupConfigError(
            f"task {task_id!r} was given on_late without expected_by, so nothing would be late; give both"
        )
    if on_late is not None and not once:
        raise AzureBackupConfigError(
            f"task {task_id!r} was given on_late with mode='reschedule', in which it would run at every "
            f"look; give deferrable=True or mode='poke'"
        )
    for each in _callbacks(on_late):
        if not callable(each):
            raise AzureBackupConfigError(
                f"on_late of task {task_id!r} has {each!r}; expected a notifier or a function of the "
                f"context, or a list of them"
            )


def _callbacks(on_late: OnLate) -> list[Any]:
    return [] if on_late is None else [*on_late] if isinstance(on_late, Sequence) else [on_late]


class WarnsWhenLate:
    """A task that may expect its backup by some time; without one, none of this does anything."""

    expected_by: datetime | timedelta | str | None = None
    on_late: OnLate = None
    # Unix time at which this try has warned.
    _warned_at: float | None = None

    if TYPE_CHECKING:
        task_id: str
        log: Any

    def late_arguments(self, context: Context) -> dict[str, Any]:
        """Return what a trigger needs to know in order to warn, or to have this task warn."""
        if self.expected_by is None:
            return {}
        when = "warned" if self._warned_at else "resume" if _callbacks(self.on_late) else "warn"
        return {"expected_by": self._expected_at(context), "when_late": when}

    def late_state(self) -> dict[str, Any]:
        """Return what the instance that resumes this task must be handed."""
        return {"warned_at": self._warned_at} if self._warned_at else {}

    def hears_late(self, context: Context, event: Any) -> bool:
        """Warn, if a trigger's event says no more than that the backup is late; then the wait goes on."""
        from airflow_provider_azbackup.runtime.job_event import JobEvent

        with suppress(AzureBackupError):  # which is raised where the event is read next
            reported = JobEvent.from_dict(event)
            if reported.late and reported.job is None and reported.error is None:
                self.warn_late(context, reported.late)
                return True
        return False

    def check_late(self, context: Context, job: Job | None = None, fault: object = None) -> None:
        """Warn in the worker, once the time has passed. No forecast is made here.

        :param job: as last read; None if there is none yet.
        """
        if self.expected_by is None or self._warned_at or (job and not job.is_running):
            return
        at, now = self._expected_at(context), clock.current().now()
        if now >= at:
            self.warn_late(context, self._lateness(at, now))

    def _lateness(self, expected_by: float, now: float) -> JsonObject:
        """Return why this task counts as late, once the time has passed."""
        from airflow_provider_azbackup.core.model.forecast import lateness

        return lateness(None, expected_by=expected_by, now=now)

    def late_facts(self, context: Context, job: Job | None) -> JsonObject:
        """Return for an event whether the backup came late.

        :param job: None where there is only a recovery point.
        """
        if self.expected_by is None:
            return {}
        from airflow_provider_azbackup.core.model.json_safe import iso_time

        at = self._expected_at(context)
        ended = (job.ended if job and not job.is_running else 0.0) or clock.current().now()
        return {"expected_by": iso_time(at), "late": ended > at}

    def _expected_at(self, context: Context) -> float:
        return read_moment(context, self.task_id, "expected_by", self.expected_by, side="after").timestamp()

    def warn_late(self, context: Context, late: JsonObject) -> None:
        """Warn, and run the callbacks."""
        self._warned_at = clock.current().now()
        self.log.warning("Late: %s", late["message"])
        cast("dict[str, Any]", context)["late"] = late
        for callback in _callbacks(self.on_late):
            try:
                callback(context)
            except Exception:  # as for Airflow's own callbacks: the task goes on
                self.log.exception("Callback %r of on_late failed", callback)

"""Log a wait in a few lines: one when something changes, one each half hour when nothing does."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from airflow_provider_azbackup.runtime import clock

if TYPE_CHECKING:
    from airflow_provider_azbackup.core.model.jobs import Job
    from airflow_provider_azbackup.exceptions import AzureBackupError

# Seconds after which a wait without news says that it is alive.
_HEARTBEAT = 1800.0


class JobLog:
    """Logs what is new about one job.

    :param log: the log of the task or of the trigger.
    """

    def __init__(self, log: logging.Logger | Any) -> None:
        self._log = log
        self._reported = ("", "")
        self._fault: tuple[type[AzureBackupError], int | None] | None = None
        self._is_puzzled = False
        self._reported_at = clock.current().now()

    def report(self, job: Job | None, fault: AzureBackupError | None) -> None:
        """Log what is new since the last look.

        :param job: the job as last seen, None before it was seen at all.
        :param fault: why this look failed, None when it did not.
        """
        self._report_fault(fault)
        if job is not None and fault is None:
            self._report_job(job)

    def _report_fault(self, fault: AzureBackupError | None) -> None:
        now = (type(fault), fault.status) if fault else None
        if fault and now != self._fault:
            self._log.warning("Could not look at the job, so the wait goes on: %s", fault)
        elif self._fault and not fault:
            self._log.info("Azure answers again.")
        self._fault = now

    def _report_job(self, job: Job) -> None:
        if not job.is_recognised and not self._is_puzzled:
            self._is_puzzled = True
            self._log.warning(
                "Azure reports status %r, which this release does not know: it keeps the gate shut and the "
                "wait going until the deadline.",
                job.status,
            )
        phase = next((task.name for task in job.tasks if task.is_running), "")
        # Between two phases no task runs: that is no news.
        is_news = (job.status, phase) != self._reported and (phase or job.status != self._reported[0])
        now = clock.current().now()
        if is_news:
            self._reported = (job.status, phase)
        if is_news or now - self._reported_at >= _HEARTBEAT:
            self._reported_at = now
            self._log.info("Azure Backup %s", job if job.is_running else job.summary())

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
        self._told: tuple[str, str] | None = None
        self._fault: tuple[type[AzureBackupError], int | None] | None = None
        self._puzzled = False
        self._spoke_at = clock.current().now()

    def report(self, job: Job | None, fault: AzureBackupError | None) -> None:
        """Log what is new since the last look.

        :param job: the job as last seen, None before it was seen at all.
        :param fault: why this look failed, None when it did not.
        """
        now = (type(fault), fault.status) if fault else None
        if fault and now != self._fault:
            self._log.warning("Could not look at the job, the wait goes on: %s", fault)
        elif self._fault and not fault:
            self._log.info("Azure answers again.")
        self._fault = now
        if job is None or fault:
            return
        now_is = clock.current().now()
        if not job.is_recognised and not self._puzzled:
            self._puzzled = True
            self._log.warning(
                "Azure reports status %r, which this release does not know: it keeps the gate shut and the "
                "wait going until the deadline.",
                job.status,
            )
        told = (job.status, next((task.name for task in job.tasks if task.is_running), ""))
        # Between two phases no task runs: that is no news.
        news = told != self._told and (told[1] or told[0] != (self._told or ("",))[0])
        if news or now_is - self._spoke_at >= _HEARTBEAT:
            self._told = told if news else self._told
            self._spoke_at = now_is
            self._log.info("Azure Backup %s", job if job.is_running else job.summary())

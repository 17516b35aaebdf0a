"""What is made of each look at the job of one deferred task: log lines, its progress, whether it is late."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from airflow_provider_azbackup.core.model.forecast import lateness
from airflow_provider_azbackup.runtime import clock
from airflow_provider_azbackup.runtime.job_log import JobLog

if TYPE_CHECKING:
    from airflow_provider_azbackup.core.model.forecast import Forecast
    from airflow_provider_azbackup.core.model.jobs import Job
    from airflow_provider_azbackup.core.wire import JsonObject
    from airflow_provider_azbackup.exceptions import AzureBackupError
    from airflow_provider_azbackup.triggerer.poller import Poller
    from airflow_provider_azbackup.triggerer.progress import Progress

# Seconds after which lateness is judged again without a look: by then more may be known of earlier backups.
_AGAIN = 300.0


class Outlook:
    """Takes every look at the job of a task.

    :param log: the trigger's.
    :param progress: of the task.
    :param expected_by: Unix time by which the backup should be over; None for none.
    :param foresees: False judges lateness by the clock alone, where the task does not wait for the job's end.
    :param not_before: Unix time before which a backup is not reported as late.
    """

    def __init__(
        self, log: Any, progress: Progress, *, expected_by: float | None, foresees: bool, not_before: float
    ) -> None:
        self._log = log
        self._job_log = JobLog(log)
        self._progress = progress
        self._expected_by = expected_by
        self._foresees = foresees
        self._not_before = not_before
        self._job: Job | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.poller: Poller | None = None
        # Done once the backup is more likely to be late than not: with a lateness.
        self.late: asyncio.Future[JsonObject] = asyncio.get_running_loop().create_future()

    def see(self, job: Job | None, fault: AzureBackupError | None) -> None:
        """Log and show what a look has brought.

        :param job: the job as last seen, None before it was seen at all.
        :param fault: why this look failed, None when it did not.
        """
        self._job = job
        self._job_log.report(job, fault)
        self._progress.tell(job, fault, self._forecast())
        self.judge()

    def judge(self) -> None:
        """Find out whether the backup is late, now and whenever that may have changed."""
        if self._expected_by is None or self.late.done() or (self._job and not self._job.is_running):
            return
        now, at = clock.current().now(), self._expected_by
        if self._foresees and self.poller and self._job:
            at = self.poller.late_from(self._job, at)
        left = max(at, self._not_before) - now
        self.close()
        if left <= 0:
            found = self._forecast() if self._foresees else None
            self.late.set_result(lateness(found, expected_by=self._expected_by, now=now))
        else:
            self._timer = asyncio.get_running_loop().call_later(min(left, _AGAIN), self.judge)

    def warn(self) -> None:
        """Log and show that the backup is late."""
        self._log.warning("Late: %s", self.late.result()["message"])
        self._progress.late = True
        self._progress.tell(self._job, None, self._forecast())

    def close(self) -> None:
        """Judge no more without a look."""
        if self._timer:
            self._timer.cancel()

    def _forecast(self) -> Forecast | None:
        return self.poller.forecast(self._job) if self.poller and self._job else None

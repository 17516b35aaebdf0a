"""Log lines about an estate: when its counts have changed, and not at every look."""

from __future__ import annotations

from typing import Any

from airflow_provider_azbackup.core.estate.verdict import Verdict
from airflow_provider_azbackup.runtime import clock

# The fewest seconds between two lines.
_PAUSE = 60.0


class VerdictLog:
    """Writes the verdicts of one wait to the log of its task.

    :param log: the task's own.
    """

    def __init__(self, log: Any) -> None:
        self._log = log
        self._logged: tuple[object, ...] = ()
        self._logged_at = 0.0

    def report(self, verdict: Verdict) -> bool:
        """Log a verdict, if it is news; return whether it was."""
        now = clock.current().now()
        news = dict(verdict.counts), verdict.unreadable
        if news == self._logged or now - self._logged_at < _PAUSE:
            return False
        self._logged, self._logged_at = news, now
        self._log.info("%s", verdict)
        return True

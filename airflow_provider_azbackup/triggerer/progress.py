"""Show how a deferred wait stands: the XComs ``backup_progress`` and ``verdict``, written from the triggerer.

Airflow 3.0 and later. Nothing waits for it and nothing fails by it. One write goes out at a time, with a
pause after each, and of a task that is not written yet only the newest report: a thousand waits that hear
news in one moment must not keep Airflow from anything else.
"""

from __future__ import annotations

import asyncio
import logging
from contextvars import Context
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from airflow_provider_azbackup.core.estate import VERDICT
from airflow_provider_azbackup.core.model.json_safe import json_safe
from airflow_provider_azbackup.core.model.progress import PROGRESS, has_news, progress_report
from airflow_provider_azbackup.runtime import clock
from airflow_provider_azbackup.runtime.compat import write_xcom

if TYPE_CHECKING:
    from airflow_provider_azbackup.core.estate.verdict import Verdict
    from airflow_provider_azbackup.core.model.forecast import Forecast
    from airflow_provider_azbackup.core.model.jobs import Job
    from airflow_provider_azbackup.core.wire import JsonObject
    from airflow_provider_azbackup.exceptions import AzureBackupError

# Seconds after each write.
_PAUSE = 0.1
# Seconds after which a report without news is written, so that its last look is not too old.
_HEARTBEAT = 1800.0
# The fewest seconds between two verdicts of a task, which may be long.
_VERDICTS_APART = 180.0
log = logging.getLogger(__name__)


class _WaitReport:
    """An XCom that a task has while it waits.

    :param ti: the task instance as a trigger knows it; None is written nothing of.
    """

    key: str

    def __init__(self, ti: Any) -> None:
        self._ti = ti
        self._reported_at = 0.0

    def close(self) -> None:
        """Write no more: the task has gone on, and knows better."""
        _outbox().drop(self)

    async def write(self, facts: JsonObject) -> None:
        """Write a report.

        :raises Exception: whatever Airflow raises.
        """
        await write_xcom(self._ti, self.key, json_safe(facts))

    def _put(self, facts: JsonObject, now: float) -> None:
        """Have it written soon."""
        self._reported_at = now
        if self._ti is not None:
            _outbox().put(self, facts)


class VerdictReport(_WaitReport):
    """Writes the verdict of one task, when its counts have changed, at most every three minutes.

    :param ti: as above.
    :param late: as for :class:`Progress`.
    """

    key = VERDICT

    def __init__(self, ti: Any, *, late: bool | None = None) -> None:
        super().__init__(ti)
        self.late = late
        self._reported: object = None

    def tell(self, verdict: Verdict) -> None:
        """Have a verdict written, if it is news."""
        now = clock.current().now()
        news = dict(verdict.counts), verdict.unreadable, self.late
        since = now - self._reported_at
        if since >= _HEARTBEAT or (news != self._reported and since >= _VERDICTS_APART):
            self._reported = news
            late = {} if self.late is None else {"late": self.late}
            self._put({**verdict.to_dict(), **late}, now)


class Progress(_WaitReport):
    """Writes the progress of one task.

    :param ti: the task instance as a trigger knows it; None is written nothing of.
    :param waiting_for: why the task waits for a job that is not its own; empty for its own job.
    :param waiting_until: Unix time to which it waits for that job.
    :param late: whether the backup is late already; None if it is not expected by any time.
    """

    key = PROGRESS

    def __init__(
        self,
        ti: Any,
        *,
        waiting_for: str = "",
        waiting_until: float | None = None,
        late: bool | None = None,
    ) -> None:
        super().__init__(ti)
        self.late = late
        self._waiting_for = waiting_for
        self._waiting_until = waiting_until if waiting_for else None
        self._reported: JsonObject | None = None

    def tell(self, job: Job | None, fault: AzureBackupError | None, expected: Forecast | None = None) -> None:
        """Have written what is new since the last look.

        :param job: the job as last seen, None before it was seen at all.
        :param fault: why this look failed, None when it did not.
        :param expected: when the job is likely to end.
        """
        now = clock.current().now()
        facts = progress_report(
            job,
            fault,
            now,
            waiting_for=self._waiting_for,
            waiting_until=self._waiting_until,
            expected=expected,
            late=self.late,
        )
        if has_news(facts, self._reported) or now - self._reported_at >= _HEARTBEAT:
            self._reported = facts
            self._put(facts, now)


class _Outbox:
    """What is to be written, the newest report of each task."""

    def __init__(self) -> None:
        self._waiting: dict[_WaitReport, JsonObject] = {}
        self._writer: asyncio.Task[None] | None = None
        self._complained = False

    def put(self, report: _WaitReport, facts: JsonObject) -> None:
        self._waiting[report] = facts
        if self._writer is None or self._writer.done():
            # Its own context: it serves all tasks, and its log lines are none of theirs.
            self._writer = asyncio.get_running_loop().create_task(self._write(), context=Context())

    def drop(self, report: _WaitReport) -> None:
        self._waiting.pop(report, None)

    async def _write(self) -> None:
        while self._waiting:
            report = next(iter(self._waiting))
            try:
                await report.write(self._waiting.pop(report))
            except Exception as error:
                if not self._complained:
                    self._complained = True
                    log.debug("Airflow took no report of a wait: %s: %s", type(error).__name__, error)
            await asyncio.sleep(_PAUSE)


_OUTBOXES: WeakKeyDictionary[asyncio.AbstractEventLoop, _Outbox] = WeakKeyDictionary()


def _outbox() -> _Outbox:
    return _OUTBOXES.setdefault(asyncio.get_running_loop(), _Outbox())

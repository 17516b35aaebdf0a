"""Find the jobs that may be those of an intent: by Azure's lists, and by what lists show of a job.

A list shows a job late, and names a database and the type of its backup later still. So a job that is not
listed is looked for again, and where it stays open whether a job is meant, the answer is "may be".

Source: https://learn.microsoft.com/azure/backup/backup-azure-arm-userestapi-managejobs
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from itertools import chain, repeat
from operator import attrgetter
from typing import Unpack

from airflow_provider_azbackup.core.conversations import matching
from airflow_provider_azbackup.core.conversations.jobs import get_job, list_jobs
from airflow_provider_azbackup.core.conversations.retry import ResponseClock, retry_until
from airflow_provider_azbackup.core.model.jobs import Job
from airflow_provider_azbackup.core.model.resources import JobRef
from airflow_provider_azbackup.core.model.workloads import management_type_of
from airflow_provider_azbackup.core.rest import requests
from airflow_provider_azbackup.core.rest.responses import FoundItem
from airflow_provider_azbackup.core.start.intent import (
    Intent,
    StartRecord,
)
from airflow_provider_azbackup.core.wire import Answer, Flow, Request
from airflow_provider_azbackup.exceptions import (
    AzureBackupNotFoundError,
    AzureBackupUnconfirmedStartError,
)

# How long to look for a job that a lost answer may have started: the longest that Azure was seen to take
# from a request to its job are 66 s.
SETTLED = 180.0
# Azure gives its time in whole seconds.
SECOND = 2.0
# Azure's time is rounded down, so it may be this much later than it says.
_ROUNDING = 1.0
# Where no response gave a time: how far the clock of a worker may be off.
SKEW = 300.0
MINUTE = 60.0
_DAY = 24 * 3600.0
_PAUSES = (5.0, 10.0, 20.0, 40.0)


class JobFinder(ResponseClock):
    """Looks for jobs of the item of an intent.

    :param intent: what is wanted.
    """

    def __init__(self, intent: Intent) -> None:
        super().__init__(intent.now)
        self.intent = intent
        # How many jobs of the vault the last list showed that began within a minute.
        self.recent_jobs = 0
        self._attempt_began = intent.attempt_began

    @property
    def attempt_began(self) -> float:
        """Unix time by Azure's clock at which this attempt had certainly begun."""
        return self.intent.now + SKEW if self._attempt_began is None else self._attempt_began

    def observe(self, answer: Answer) -> None:
        """Take the time from one answer; the first that names it shows when the attempt had begun."""
        super().observe(answer)
        if self._attempt_began is None and self.ahead is not None:
            since = max(0.0, self.sent_at - self.intent.now)
            self._attempt_began = self.at + self.ahead + _ROUNDING - since

    def azure_time(self) -> float:
        """Return Azure's time at the last answer; not later than that when no answer had it."""
        return self.at + (-SKEW if self.ahead is None else self.ahead)

    def running(self, until: float, pause: float = 0.0, *, any_type: bool = False) -> Flow[Job | None]:
        """Return the running job of the item that began last.

        :param until: Unix time to which faults are waited out.
        :param pause: seconds to let pass first.
        :param any_type: whether a backup of another type counts: when it is in the way.
        """
        listed = partial(self._list, status="InProgress")
        found, _ = yield from self._find(listed, until, pause, any_type=any_type)
        # A Backup vault's list shows what is over as well.
        found = [job for job in found if job.is_running and not job.is_being_cancelled]
        return max(found, key=attrgetter("began"), default=None)

    def met_by(self, failed: Job) -> Flow[Job | None]:
        """Return the job of the item that was running when ``failed`` began; a list may show it late."""
        began, until = failed.began, self.intent.deadline
        for pause in (0.0, *_PAUSES):
            running = yield from self.running(until, pause, any_type=True)
            if running:
                return running
            since = partial(self._began_since, began - _DAY, 0.0)
            jobs, _ = yield from self._find(since, until, 0.0, any_type=True)
            met = [job for job in jobs if job.began <= began <= _seconds(job.end_time)]
            if met := [job for job in met if job.ref != failed.ref]:
                return max(met, key=attrgetter("began"))
        return None

    def trace(self, record: StartRecord) -> Flow[Job | None]:
        """Return the first job of the item that began since a request, running or over.

        :param record: of the request. While it is not long ago, a job may still come to light.
        """
        asked = record.requested_at
        began, pause, pauses = self.at, 0.0, chain(_PAUSES, repeat(_PAUSES[-1]))
        while True:
            found, unclear = yield from self._find(
                partial(self._began_since, asked, pause), self.intent.deadline, pause, asked - SECOND
            )
            # Only where no answer named a time: then nothing shows what was first, the attempt or the job.
            early = [job for job in found if job.began < record.attempt_began - _ROUNDING]
            found = yield from self._leading_here([job for job in found if job not in early])
            if found:
                return min(found, key=attrgetter("began"))
            long_ago = self.azure_time() - asked >= SETTLED + 2 * SKEW
            if long_ago or self.at - began >= SETTLED:
                if unclear or early:
                    doubt = "another item of that name" if unclear else "a time before this attempt"
                    raise AzureBackupUnconfirmedStartError(
                        f"a {self.intent.noun} that began since may be one of {self.intent.item.label}, or "
                        f"of {doubt}: {', '.join(map(str, (*unclear, *early)))}"
                    )
                return None
            pause = min(next(pauses), began + SETTLED - self.at)

    def _leading_here(self, jobs: list[Job]) -> Flow[list[Job]]:
        """Return the jobs that carry this task's mark, or else those that do not show another place."""
        full = []
        for job in jobs:
            full.append((yield from self.with_details(job)))
        marked = [job for job in full if self.intent.mark_on(job)]
        return marked or [job for job in full if not self.intent.leads_elsewhere(job)]

    def with_details(self, job: Job) -> Flow[Job]:
        """Return a job with its details, where they could say whose it is; a list does not have them."""
        if not self.intent.details_matter:
            return job
        try:
            return (yield from self.look(job.ref, self.at, 0.0))
        except AzureBackupNotFoundError:
            return job

    def _began_since(self, asked: float, pause: float) -> Request:
        slack = SECOND if self.ahead is not None else 2 * SKEW
        return self._list(
            started_after=requests.utc_datetime(asked - SKEW),
            started_before=requests.utc_datetime(self.azure_time() + pause + slack),
        )

    def _list(self, **wanted: Unpack[requests.JobFilter]) -> Request:
        if not self.intent.item.vault.is_backup_vault:
            wanted["backup_management_type"] = management_type_of(self.intent.item.workload)
        return requests.list_jobs(self.intent.item.vault, **wanted)

    def _find(
        self,
        make: Callable[[], Request],
        until: float,
        pause: float,
        since: float = 0.0,
        *,
        any_type: bool = False,
    ) -> Flow[tuple[list[Job], list[Job]]]:
        """List jobs, and return those that are of the intent's kind and item, and those that may be.

        Azure names a database and the type of its backup only some moments after the job began.
        """
        for again in (*_PAUSES[:3], 0.0):
            jobs = yield from retry_until(
                lambda: list_jobs(make(), self.intent.item.vault),
                since=0.0,
                until=until,
                first_pause=pause,
            )
            self.recent_jobs = sum(job.began >= self.azure_time() - MINUTE for job in jobs)
            jobs = [job for job in jobs if job.began >= since and self.intent.is_kind_of(job)]
            is_named = self.intent.item.workload in ("vm", "backupinstance")
            names = () if is_named or not jobs else (yield from self.namesakes(until))
            verdicts = [(job, self.is_ours(job, names, any_type=any_type)) for job in jobs]
            found = [job for job, verdict in verdicts if verdict]
            unclear = [job for job, verdict in verdicts if verdict is None]
            if found or not unclear or not again:
                break
            pause = again
        return found, unclear

    def namesakes(self, until: float) -> Flow[Sequence[FoundItem]]:
        item = self.intent.item
        return (yield from retry_until(lambda: matching.items_listed_with(item), since=0.0, until=until))

    def is_ours(self, job: Job, names: Sequence[FoundItem], *, any_type: bool = False) -> bool | None:
        """Whether a job is one of the item, by what a list shows of it; None for "may be"."""
        item = self.intent.item
        if item.workload == "backupinstance":
            return job.owner.casefold() == item.path.casefold()
        if item.workload == "vm":
            return matching.is_of_vm(job, item)
        meant = [found for found in names if matching.shows_names_of(job, found, self.intent.elsewhere)]
        if item.path.casefold() not in {found.item.path.casefold() for found in meant}:
            return False
        if len(meant) > 1:
            return None
        return any_type or self.intent.fits(job)

    def look(self, ref: JobRef, since: float, pause: float) -> Flow[Job]:
        return (
            yield from retry_until(
                lambda: get_job(ref),
                since=since,
                until=self.intent.deadline,
                first_pause=pause,
            )
        )


def _seconds(moment: str | None) -> float:
    return datetime.fromisoformat(moment).timestamp() if moment else 0.0

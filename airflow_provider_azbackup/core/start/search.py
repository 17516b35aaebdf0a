"""One job for one intent: find the one that was started already, and start one only if there is none.

Azure's requests for a backup and for a restore are not idempotent, so before each one this module looks for
what an earlier try left behind: its own record, and Azure's list of jobs. Whatever leaves open whether a job
was started is settled by looking, never by asking again.

A job counts as the task's own only if it began after the first try of this attempt did, by Azure's clock: an
older one shows the item as it was before the tasks upstream of this one. So that no doubt remains, a request
is sent some seconds after the attempt began, and a job that began earlier is never one of ours.

Source: https://learn.microsoft.com/azure/backup/backup-azure-arm-userestapi-backupazurevms
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from itertools import chain, repeat
from operator import attrgetter
from typing import Unpack

from airflow_provider_azbackup.core.conversations import matching
from airflow_provider_azbackup.core.conversations.jobs import get_job, list_jobs
from airflow_provider_azbackup.core.conversations.operations import start_job, wait_for_operation
from airflow_provider_azbackup.core.conversations.retry import ResponseClock, retry_until, spread_pause
from airflow_provider_azbackup.core.model.jobs import Job, is_proven
from airflow_provider_azbackup.core.model.resources import JobRef, OperationRef
from airflow_provider_azbackup.core.model.validation import StartedBy
from airflow_provider_azbackup.core.model.workloads import management_of
from airflow_provider_azbackup.core.rest import requests
from airflow_provider_azbackup.core.rest.responses import FoundItem
from airflow_provider_azbackup.core.start.intent import (
    BUSY_LIMIT,
    Intent,
    Prepared,
    StartRecord,
)
from airflow_provider_azbackup.core.wire import Answer, Flow, JsonObject, Request
from airflow_provider_azbackup.exceptions import (
    AzureBackupBusyError,
    AzureBackupError,
    AzureBackupJobFailedError,
    AzureBackupLimitError,
    AzureBackupNotFoundError,
    AzureBackupRefusedError,
    AzureBackupTransientError,
    AzureBackupUnconfirmedStartError,
)

# How long to look for a job that a lost answer may have started: the longest that Azure was seen to take
# from a request to its job are 66 s.
SETTLED = 180.0
# How often one intent may be sent when nothing came of the time before.
SENDS = 3
# How many jobs must have begun within a minute for the next one to be looked for together with all others:
# to ask for each operation by itself would use up the reads of operations, too.
BATCH_FROM = 25
# The time Azure tells with its answers is in whole seconds.
_SECOND = 2.0
# Azure's time is rounded down, so it may be this much later than it says.
_ROUNDING = 1.0
# Where no answer told a time: how far the clock of a worker may be off.
_SKEW = 300.0
# Azure's clock and Airflow's differ a little.
_MINUTE = 60.0
_DAY = 24 * 3600.0
_PAUSES = (5.0, 10.0, 20.0, 40.0)

Save = Callable[["StartRecord | None"], None]
Log = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class StartedJob:
    """The job of an intent: itself and the kind of item, since when it is waited for, its end if over.

    One that was left in a crowd has no job yet, but the record of its request. Where another job has to end
    first, there is nothing but ``other``. Where Azure has refused the request for now, there is nothing but
    ``obstacle``, which says why. ``attempt_began`` is as in :class:`StartRecord`.
    """

    ref: JobRef | None
    since: float
    attempt_began: float
    started_by: StartedBy = "this task"
    kind: str = ""
    ended: Job | None = None
    record: StartRecord | None = None
    recovery_point: JsonObject = field(default_factory=dict)
    other: Job | None = None
    obstacle: AzureBackupRefusedError | None = None


def start_or_adopt(
    intent: Intent, record: StartRecord | None, *, save: Save, log: Log, batch_lookup: bool = False
) -> Flow[StartedJob]:
    """Find the job of this intent, or start it. However often it is asked, Azure makes one job.

    :param record: what an earlier try of this task left.
    :param save: keeps a record for later tries; None says that there is nothing to save.
    :param log: told in a sentence what is found and done.
    :param batch_lookup: whether a machine's accepted backup may be left without its job in a crowd, when many
        others have begun within a minute. Whoever allows it finds the job by the returned record.
    :return: with ``other`` set when that job has to end before this intent can go on, and with ``obstacle``
        set when the item is busy with what no list shows or a limit is reached; then ask again.
    :raises AzureBackupBusyError: when another such job of the item runs and ``if_running`` is ``fail``.
    :raises AzureBackupUnconfirmedStartError: when it stays unknown whether a job was started.
    :raises AzureBackupError: when Azure refused it; then nothing was started.
    """
    if record and not _is_of(record, intent):
        record = None
    search = _Search(intent, save, log, batch_lookup=batch_lookup and intent.item.workload == "vm")
    if record and (started := (yield from search.follow(search.recall(record)))):
        return started
    fresh = intent.may_start_unseen and record is None and not intent.is_blind
    return (yield from search.follow(search.start(fresh=fresh)))


def resume_after_obstacle(intent: Intent, failed: Job, *, save: Save, log: Log) -> Flow[StartedJob]:
    """Decide how to go on after a job of the intent's kind and item that Azure did not carry out for now.

    :param failed: the job, which has an :attr:`~airflow_provider_azbackup.core.model.jobs.Job.obstacle`.
    :return: as :func:`start_or_adopt` does; a job under ``other`` may be over by now.
    :raises AzureBackupBusyError: when the item is busy and ``if_running`` is ``fail``.
    """
    search = _Search(intent, save, log)
    return (yield from search.follow(search.join(failed)))


def _is_of(record: StartRecord, intent: Intent) -> bool:
    """Return whether a record is about this intent, and not about another item or another restore of it."""
    same_item = record.item.casefold() == intent.item.path.casefold()
    return same_item and record.fingerprint == intent.fingerprint


class _Search(ResponseClock):
    """The conversations of one intent."""

    def __init__(self, intent: Intent, save: Save, log: Log, *, batch_lookup: bool = False) -> None:
        super().__init__(intent.now)
        self.batch_lookup = batch_lookup
        self.crowd = 0
        self.intent = intent
        self.save = save
        self.log = log
        self._attempt_began = intent.attempt_began

    @property
    def attempt_began(self) -> float:
        """Unix time by Azure's clock at which this attempt had certainly begun."""
        return self.intent.now + _SKEW if self._attempt_began is None else self._attempt_began

    def observe(self, answer: Answer) -> None:
        """Take the time from one answer; the first that names it shows when the attempt had begun."""
        super().observe(answer)
        if self._attempt_began is None and self.ahead is not None:
            since = max(0.0, self.sent_at - self.intent.now)
            self._attempt_began = self.at + self.ahead + _ROUNDING - since

    def azure_time(self) -> float:
        """Return Azure's time at the last answer; not later than that when no answer told it."""
        return self.at + (-_SKEW if self.ahead is None else self.ahead)

    def recall(self, record: StartRecord) -> Flow[StartedJob | None]:
        """Follow a record to the job it speaks of; None when that is none, or is over and will not do."""
        intent, same = self.intent, record.attempt == self.intent.attempt
        if same:
            self._attempt_began = record.attempt_began
        ref = record.target
        if not isinstance(ref, JobRef):
            ref = yield from self._trace_record(record, ref)
        if ref is None:
            return None
        pause = 0.0
        while True:
            try:
                job = yield from self._look(ref, record.since, pause)
            except AzureBackupNotFoundError:
                # The list may know it all the same, and another one is not to be had back.
                self.log(f"Azure does not know job {ref.job_id} any more; looking for it among all jobs")
                found = (yield from self._trace(record)) if record.requested_at else None
                if found is None:
                    return None
                job, ref = found, found.ref
            if flaw := (yield from self._flaw(job, record if same else None)):
                self.log(f"What an earlier try noted is not believed, because {flaw}: {job}")
                self._attempt_began = intent.attempt_began
                return None
            if not job.is_being_cancelled or intent.if_running == "wait":
                break
            # Neither a job to wait for, nor out of the way of another.
            self.log(f"This task has started {job}; waiting until it is cancelled")
            if self.at >= intent.deadline:
                raise AzureBackupBusyError(f"still being cancelled: {job}", job=job.facts())
            pause = spread_pause(30.0)
        if job.is_running and (not same or job.is_being_cancelled):
            whose = "Somebody cancels it" if same else "An earlier attempt of this task started it"
            return self._meet(job, whose)
        if job.is_running or (same and self._is_proven(job)):
            self.save(replace(record, job=ref.path))
            self.log(f"This task has started it before, so no {intent.noun} is asked for: {job}")
            return StartedJob(
                ref=ref,
                since=record.since,
                attempt_began=self.attempt_began,
                started_by=record.started_by,
                ended=None if job.is_running else job,
                recovery_point=record.recovery_point,
            )
        self.log(f"An earlier {job}; this {'retry' if same else 'new attempt'} takes a new {intent.noun}")
        return None

    def _flaw(self, job: Job, record: StartRecord | None) -> Flow[str]:
        """Return why a job cannot be the one that this task has started; an empty string when it can.

        :param record: of this attempt, which speaks of the job; None when it is of an earlier one.
        """
        item = self.intent.item
        if job.ref.vault.path.casefold() != item.vault.path.casefold():
            return f"it is of vault {job.ref.vault.path}, not of {item.vault.path}"
        if not self.intent.is_kind_of(job):
            return f"it is no {self.intent.noun}"
        known = item.workload in ("vm", "backupinstance")
        names = () if known else (yield from self._names(self.intent.deadline))
        if self._is_ours(job, names) is False:
            return f"it is no {self.intent.noun} of {item.label} of the type that is wanted"
        adopts = record and record.started_by == "adopted" and self.intent.if_running == "adopt"
        if record and not adopts and job.began < (record.requested_at or record.attempt_began) - _SECOND:
            return f"it began at {job.start_time}, before this attempt asked for it"
        return ""

    def start(self, *, fresh: bool) -> Flow[StartedJob]:
        """Adopt the job that runs, or start one.

        :param fresh: that no earlier try can have started one.
        """
        intent, item = self.intent, self.intent.item
        sent, pause, asked, busy_since = 0, 0.0, 0.0, 0.0
        ready: Prepared | None = None
        busy_pauses = chain((15.0,), repeat(60.0))
        # A task that has waited already asks less often.
        busy_limit = BUSY_LIMIT if intent.attempt_began is None else _MINUTE
        # Nothing of ours can be running then, and Azure refuses a second backup beside another's: a list that
        # cannot be had now, because all reads are used up, need not hold up the first request.
        blind = intent.now if fresh else intent.deadline
        while True:
            running = yield from self._seen_running(blind, pause, fresh=fresh, any_type=bool(busy_since))
            if running:
                return self._meet(running)
            if ready is None:
                looked = self.at
                try:
                    ready = yield from intent.prepare()
                except (AzureBackupBusyError, AzureBackupLimitError) as error:
                    return self._later(error)
                if self.at - looked > _MINUTE:
                    continue  # so long ago that another may have begun since
            # A request of unknown fate may show its job late, so the search always begins at the first one.
            asked = asked or self._send_at()
            asking = StartRecord(
                item=item.path,
                attempt=intent.attempt,
                since=intent.now,
                attempt_began=self.attempt_began,
                requested_at=asked,
                fingerprint=intent.fingerprint,
                recovery_point=ready.recovery_point,
            )
            accepted: StartRecord | None = None
            self.save(asking)
            try:
                call = replace(ready.call.delayed(asked - self.azure_time()), without_retries=True)
                operation = yield from start_job(item, call, intent.noun)
                accepted = replace(asking, operation=operation.operation_id, attempt_began=self.attempt_began)
                self.save(accepted)
                self.log(
                    f"Azure accepted the {intent.noun} of {item.label} as operation {operation.operation_id}"
                )
                if self.batch_lookup and self.crowd >= BATCH_FROM:
                    return StartedJob(
                        ref=None, since=intent.now, attempt_began=self.attempt_began, record=accepted
                    )
                ref = yield from wait_for_operation(operation, intent.noun)
            except (AzureBackupBusyError, AzureBackupLimitError) as error:
                # What is in the way may be what a request of unknown fate has started.
                self.save(asking if sent else None)
                is_busy = isinstance(error, AzureBackupBusyError)
                if is_busy and intent.if_running == "fail":
                    raise
                busy_since = busy_since or self.at
                pause, blind = spread_pause(next(busy_pauses), error), intent.deadline
                # A longer pause, which only Azure asks for, is not spent in the worker.
                is_long = pause >= 2 * _MINUTE or self.at + pause >= intent.deadline
                if not is_busy or is_long or self.at - busy_since >= busy_limit:
                    return self._later(error)
                # It may not be in the list yet, and one that has just ended is in nobody's way.
                self.log(f"{error}. Looking for that {intent.noun}")
                asked = asked if sent else 0.0
            except AzureBackupUnconfirmedStartError as error:
                sent += 1
                self.log(f"{error} Looking for {SETTLED:g} s whether it was")
                asking = replace(asking, attempt_began=self.attempt_began)
                found = yield from self._settle(asking, error)
                if found:
                    self.save(replace(asking, job=found.ref.path, started_by="found"))
                    self.log(f"One {intent.noun} began after the request was sent: {found}")
                    return self._take(found, "found", ready.recovery_point)
                if accepted or sent >= SENDS:
                    raise
                self.log(f"No {intent.noun} of {item.label} was started; asking again")
                pause = 0.0
            except AzureBackupError:
                self.save(None)  # refused, so there is nothing to find
                raise
            else:
                self.save(replace(accepted, job=ref.path))
                self.log(f"The {intent.noun} of {item.label} is job {ref.job_id}")
                return StartedJob(
                    ref=ref,
                    since=intent.now,
                    attempt_began=self.attempt_began,
                    kind=item.workload,
                    recovery_point=ready.recovery_point,
                )

    def _seen_running(self, until: float, pause: float, *, fresh: bool, any_type: bool) -> Flow[Job | None]:
        """Return what :meth:`running` does; None too if ``fresh`` allows to go on without the list."""
        try:
            return (yield from self.running(until, pause, any_type=any_type))
        except AzureBackupTransientError as error:
            if not fresh:
                raise
            self.log(
                f"Cannot see whether a {self.intent.noun} of {self.intent.item.label} is running: {error}"
            )
            self.crowd = BATCH_FROM
            return None

    def _send_at(self) -> float:
        """Return Azure's time at which to send the request, so that no older job can be taken for its job."""
        if self.ahead is None:
            return self.azure_time()
        return max(self.azure_time(), self.attempt_began + _SECOND)

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

    def join(self, failed: Job) -> Flow[StartedJob]:
        """Decide how to go on after a job of this intent that Azure did not carry out for now.

        :param failed: the job.
        :raises AzureBackupBusyError: when the item is busy and ``if_running`` is ``fail``.
        """
        obstacle = failed.obstacle or AzureBackupBusyError(f"{failed} failed", job=failed.facts())
        self.save(None)
        if isinstance(obstacle, AzureBackupLimitError):
            return self._later(obstacle)
        if self.intent.if_running == "fail":
            raise obstacle
        other = yield from self._beside(failed)
        if other is None:
            return self._later(obstacle)
        self.log(f"{failed} failed because of another one")
        return self._meet(other)

    def _later(self, obstacle: AzureBackupRefusedError) -> StartedJob:
        """Return that Azure has refused this intent for now."""
        return StartedJob(
            ref=None, since=self.intent.now, attempt_began=self.attempt_began, obstacle=obstacle
        )

    def _beside(self, failed: Job) -> Flow[Job | None]:
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

    def _meet(self, job: Job, whose: str = "This task did not start it") -> StartedJob:
        """Decide about a running job of the item that no answer to a request of this attempt has named.

        :param whose: a clause about who started it.
        """
        intent = self.intent
        what = f"{intent.noun} of {intent.item.label} that began at {job.start_time}"
        if intent.if_running == "fail":
            raise AzureBackupBusyError(
                f"there is a {what}, and if_running is 'fail': {job}. {whose}", job=job.facts()
            )
        fits = not job.is_being_cancelled and intent.fits(job) is not False
        young = job.began >= self.attempt_began
        if fits and (young or intent.if_running == "adopt"):
            when = (
                "after this attempt"
                if young
                else f"{self.attempt_began - job.began:.0f} s before this attempt"
            )
            self.log(f"There is a {what}, {when}, so no other is asked for: {job}")
            started_by: StartedBy = "found" if young else "adopted"
            self.save(
                StartRecord(
                    item=intent.item.path,
                    attempt=intent.attempt,
                    since=intent.now,
                    attempt_began=self.attempt_began,
                    job=job.ref.path,
                    started_by=started_by,
                    fingerprint=intent.fingerprint,
                )
            )
            return self._take(job, started_by)
        self.log(
            f"There is a {what}: {job}. {whose}, and it may lack what the tasks before this one have done. "
            f"Waiting for its end; then this task starts its own {intent.noun}"
        )
        return StartedJob(ref=None, since=intent.now, attempt_began=self.attempt_began, other=job)

    def _take(self, job: Job, started_by: StartedBy, point: JsonObject | None = None) -> StartedJob:
        return StartedJob(
            ref=job.ref,
            since=self.intent.now,
            attempt_began=self.attempt_began,
            started_by=started_by,
            ended=None if job.is_running else job,
            recovery_point=point or {},
        )

    def _trace_record(self, record: StartRecord, operation: OperationRef | None) -> Flow[JobRef | None]:
        """Find the job of a try that broke off before it knew one."""
        if operation:
            self.log(
                f"An earlier try ended after Azure had accepted operation {record.operation}; following it"
            )
            try:
                return (yield from wait_for_operation(operation, self.intent.noun))
            except (AzureBackupRefusedError, AzureBackupTransientError):
                return None
            except AzureBackupUnconfirmedStartError as error:
                self.log(str(error))
        self.log(
            f"An earlier try ended while it asked for a {self.intent.noun}; checking whether one was started"
        )
        job = yield from self._trace(record)
        return job.ref if job else None

    def _settle(self, asking: StartRecord, doubt: AzureBackupError) -> Flow[Job | None]:
        try:
            return (yield from self._trace(asking))
        except AzureBackupError as error:
            raise AzureBackupUnconfirmedStartError(
                f"{doubt} Looking for it failed, too: {error}", status=doubt.status
            ) from None

    def _trace(self, record: StartRecord) -> Flow[Job | None]:
        """Return the first job of the item that began since a request, running or over.

        :param record: of the request. While it is not long ago, a job may still come to light.
        """
        asked = record.requested_at
        began, pause, pauses = self.at, 0.0, chain(_PAUSES, repeat(_PAUSES[-1]))
        while True:
            found, unclear = yield from self._find(
                partial(self._began_since, asked, pause), self.intent.deadline, pause, asked - _SECOND
            )
            # Only where no answer named a time: then nothing shows what was first, the attempt or the job.
            early = [job for job in found if job.began < record.attempt_began - _ROUNDING]
            if found := [job for job in found if job not in early]:
                return min(found, key=attrgetter("began"))
            long_ago = self.azure_time() - asked >= SETTLED + 2 * _SKEW
            if long_ago or self.at - began >= SETTLED:
                if unclear or early:
                    doubt = "another item of that name" if unclear else "a time before this attempt"
                    raise AzureBackupUnconfirmedStartError(
                        f"a {self.intent.noun} that began since may be one of {self.intent.item.label}, or "
                        f"of {doubt}: {', '.join(map(str, (*unclear, *early)))}"
                    )
                return None
            pause = min(next(pauses), began + SETTLED - self.at)

    def _began_since(self, asked: float, pause: float) -> Request:
        slack = _SECOND if self.ahead is not None else 2 * _SKEW
        return self._list(
            started_after=requests.utc_datetime(asked - _SKEW),
            started_before=requests.utc_datetime(self.azure_time() + pause + slack),
        )

    def _list(self, **wanted: Unpack[requests.JobFilter]) -> Request:
        if not self.intent.item.vault.is_backup_vault:
            wanted["backup_management_type"] = management_of(self.intent.item.workload)
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
            self.crowd = sum(job.began >= self.azure_time() - _MINUTE for job in jobs)
            jobs = [job for job in jobs if job.began >= since and self.intent.is_kind_of(job)]
            told = self.intent.item.workload in ("vm", "backupinstance")
            names = () if told or not jobs else (yield from self._names(until))
            verdicts = [(job, self._is_ours(job, names, any_type=any_type)) for job in jobs]
            found = [job for job, verdict in verdicts if verdict]
            unclear = [job for job, verdict in verdicts if verdict is None]
            if found or not unclear or not again:
                break
            pause = again
        return found, unclear

    def _names(self, until: float) -> Flow[Sequence[FoundItem]]:
        item = self.intent.item
        return (yield from retry_until(lambda: matching.items_listed_with(item), since=0.0, until=until))

    def _is_ours(self, job: Job, names: Sequence[FoundItem], *, any_type: bool = False) -> bool | None:
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

    def _look(self, ref: JobRef, since: float, pause: float) -> Flow[Job]:
        return (
            yield from retry_until(
                lambda: get_job(ref),
                since=since,
                until=self.intent.deadline,
                first_pause=pause,
            )
        )

    def _is_proven(self, job: Job) -> bool:
        try:
            return is_proven(job, accept_warnings=self.intent.accept_warnings)
        except AzureBackupJobFailedError:
            return False


def _seconds(moment: str | None) -> float:
    return datetime.fromisoformat(moment).timestamp() if moment else 0.0

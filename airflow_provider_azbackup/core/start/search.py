"""One job for one intent: find the one that was started already, and start one only if there is none.

Azure's requests for a backup and for a restore are not idempotent. So before each request, this module looks
for what an earlier try has left: its own record, and Azure's list of jobs. When it is unknown whether a
request started a job, the module looks for that job. It never asks again before it has looked.

A job counts as the task's own only if it began after the first try of this attempt did, by Azure's clock,
because an older one shows the item as it was before the tasks upstream of this one ran. To leave no doubt, a
request is sent some seconds after the attempt began.

A search for a job goes through these states. :data:`TRANSITIONS` has the reason for each arrow, and a test
compares this picture with that table::

    stateDiagram-v2
        [*] --> looking
        looking --> asking: no job of the item runs
        looking --> done: a job of the item runs
        asking --> looking: the preparation took over a minute, or the item is busy
        asking --> following: Azure accepted the request
        asking --> doubting: no response came, or one of a broken server
        asking --> done: Azure refused for longer than a worker waits, or the job is looked up in a batch
        following --> looking: the operation failed because the item is busy
        following --> doubting: the operation names no job
        following --> done: the operation names its job, or failed for long
        doubting --> looking: no job began since the request
        doubting --> done: a job began since the request
        done --> [*]

``looking``
    Asks Azure's list for a running job of the item. Every request is sent from here only after such a look,
    because a job that runs already is adopted, waited for, or in the way.
``asking``
    Prepares the request, which may take reads of its own, saves a record of it, and sends it once. The record
    is saved first: if the worker dies in between, the next try knows that a job may have been started.
``following``
    Azure has accepted the request as an operation. Reads that operation until it names its job.
``doubting``
    No response came, or one that names no job. Looks through the lists for a job that began since the
    request. Only if none has come to light after three minutes is it safe to ask again.
``done``
    The search has an end: a job to wait for, a job or a refusal that is in the way, or an error.

Source: https://learn.microsoft.com/azure/backup/backup-azure-arm-userestapi-backupazurevms
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from itertools import chain, repeat
from types import MappingProxyType
from typing import TypedDict, Unpack

from airflow_provider_azbackup.core.conversations.operations import start_job, wait_for_operation
from airflow_provider_azbackup.core.conversations.retry import spread_pause
from airflow_provider_azbackup.core.model.jobs import Job, is_proven
from airflow_provider_azbackup.core.model.resources import JobRef, OperationRef
from airflow_provider_azbackup.core.model.validation import StartedBy
from airflow_provider_azbackup.core.start.find import MINUTE, SECOND, SETTLED, JobFinder
from airflow_provider_azbackup.core.start.intent import (
    BUSY_LIMIT,
    Intent,
    Prepared,
    StartRecord,
)
from airflow_provider_azbackup.core.wire import Flow, JsonObject
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

# How often one intent may be sent when nothing came of the time before.
SENDS = 3
# How many jobs must have begun within a minute for the job of the next backup to be looked up together with
# all others. To read each operation by itself would use up the quota of operation reads as well.
BATCH_FROM = 25

Save = Callable[["StartRecord | None"], None]
Log = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class StartedJob:
    """The job of an intent, or why there is none yet.

    :param ref: the job; None while it is unknown.
    :param since: Unix time the wait for it began.
    :param attempt_began: as in :class:`StartRecord`.
    :param started_by: who started it.
    :param workload: of the item, where this search has started the job.
    :param ended: the job, where it is over already.
    :param record: of an accepted request whose job is looked up in a batch.
    :param recovery_point: facts of the recovery point that is restored from.
    :param suffix: as in :class:`StartRecord`; empty for a job that no record of this task speaks of.
    :param other: a job that has to end before this intent can go on.
    :param obstacle: why Azure has refused the request for now.
    """

    ref: JobRef | None
    since: float
    attempt_began: float
    started_by: StartedBy = "this task"
    workload: str = ""
    ended: Job | None = None
    record: StartRecord | None = None
    recovery_point: JsonObject = field(default_factory=dict)
    suffix: str = ""
    other: Job | None = None
    obstacle: AzureBackupRefusedError | None = None


class _Found(TypedDict, total=False):
    """The fields of :class:`StartedJob` that differ from search to search."""

    started_by: StartedBy
    workload: str
    ended: Job | None
    record: StartRecord | None
    recovery_point: JsonObject
    suffix: str
    other: Job | None
    obstacle: AzureBackupRefusedError | None


def start_or_adopt(
    intent: Intent, record: StartRecord | None, *, save: Save, log: Log, batch_lookup: bool = False
) -> Flow[StartedJob]:
    """Find the job of this intent, or start it. However often it is asked, Azure makes one job.

    :param record: what an earlier try of this task left.
    :param save: keeps a record for later tries; None forgets the last one.
    :param log: takes a sentence about what was found or done.
    :param batch_lookup: whether an accepted backup of a VM may be returned without its job while many other
        backups begin. The caller then looks the job up by the returned record.
    :return: with ``other`` set when that job has to end before this intent can go on, and with ``obstacle``
        set when Azure refuses the request for now; then ask again later.
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
    return (yield from search.follow(_Start(search, fresh=fresh).run()))


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


class _Search(JobFinder):
    """What is known of one intent, and what to do about a job that was found."""

    def __init__(self, intent: Intent, save: Save, log: Log, *, batch_lookup: bool = False) -> None:
        super().__init__(intent)
        self.batch_lookup = batch_lookup
        self.save = save
        self.log = log

    def recall(self, record: StartRecord) -> Flow[StartedJob | None]:
        """Follow a record to the job it speaks of; None when that is none, or is over and will not do."""
        intent, same = self.intent, record.attempt == self.intent.attempt
        if same:
            self._attempt_began = record.attempt_began
        ref = record.target_in(intent.item.vault)
        if not isinstance(ref, JobRef):
            ref = yield from self._trace_record(record, ref)
        if ref is None:
            return None
        job = yield from self._recorded_job(record, ref)
        if job is None:
            return None
        if job.is_running and (not same or job.is_being_cancelled):
            whose = "Somebody cancels it" if same else "An earlier attempt of this task started it"
            return self.meet(job, whose)
        if job.is_running or (same and self._is_proven(job)):
            self.save(replace(record, job=job.ref.path))
            self.log(
                f"This task started this job in an earlier try, so no other {intent.noun} is requested: {job}"
            )
            return StartedJob(
                ref=job.ref,
                since=record.since,
                attempt_began=self.attempt_began,
                started_by=record.started_by,
                ended=None if job.is_running else job,
                recovery_point=record.recovery_point,
                suffix=record.suffix,
            )
        self.log(f"An earlier {job}; this {'retry' if same else 'new attempt'} takes a new {intent.noun}")
        return None

    def _recorded_job(self, record: StartRecord, ref: JobRef) -> Flow[Job | None]:
        """Return the job that a record names, once it is not one being cancelled; None if it will not do."""
        intent, same = self.intent, record.attempt == self.intent.attempt
        pause = 0.0
        while True:
            try:
                job = yield from self.look(ref, record.since, pause)
            except AzureBackupNotFoundError:
                # The list may know it all the same, and another one is not to be had back.
                self.log(f"Azure does not know job {ref.job_id} any more; looking for it among all jobs")
                found = (yield from self.trace(record)) if record.requested_at else None
                if found is None:
                    return None
                job, ref = found, found.ref
            if flaw := (yield from self._flaw(job, record if same else None)):
                self.log(f"Ignoring the record of an earlier try, because {flaw}: {job}")
                self._attempt_began = intent.attempt_began
                return None
            if not job.is_being_cancelled or intent.if_running == "wait":
                return job
            # Neither a job to wait for, nor out of the way of another.
            self.log(f"This task has started {job}; waiting until it is cancelled")
            if self.at >= intent.deadline:
                raise AzureBackupBusyError(f"still being cancelled: {job}", job=job.facts())
            pause = spread_pause(30.0)

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
        names = () if known else (yield from self.namesakes(self.intent.deadline))
        if self.is_ours(job, names) is False:
            return f"it is no {self.intent.noun} of {item.label} of the type that is wanted"
        adopts = record and record.started_by == "adopted" and self.intent.if_running == "adopt"
        if record and not adopts and job.began < (record.requested_at or record.attempt_began) - SECOND:
            return f"it began at {job.start_time}, before this attempt asked for it"
        return ""

    def join(self, failed: Job) -> Flow[StartedJob]:
        """Decide how to go on after a job of this intent that Azure did not carry out for now.

        :param failed: the job.
        :raises AzureBackupBusyError: when the item is busy and ``if_running`` is ``fail``.
        """
        obstacle = failed.obstacle or AzureBackupBusyError(f"{failed} failed", job=failed.facts())
        self.save(None)
        if isinstance(obstacle, AzureBackupLimitError):
            return self.obstructed(obstacle)
        if self.intent.if_running == "fail":
            raise obstacle
        other = yield from self.met_by(failed)
        if other is None:
            return self.obstructed(obstacle)
        self.log(f"{failed} failed because of another one")
        return self.meet(other)

    def started(self, ref: JobRef | None, **found: Unpack[_Found]) -> StartedJob:
        """Return what was found for this intent; the wait for it begins with this search."""
        return StartedJob(ref=ref, since=self.intent.now, attempt_began=self.attempt_began, **found)

    def obstructed(self, obstacle: AzureBackupRefusedError) -> StartedJob:
        """Return that Azure has refused this intent for now."""
        return self.started(None, obstacle=obstacle)

    def meet(self, job: Job, whose: str = "This task did not start it") -> StartedJob:
        """Decide about a running job of the item that no answer to a request of this attempt has named.

        :param whose: a clause about who started it.
        """
        intent = self.intent
        what = f"{intent.noun} of {intent.item.label} that began at {job.start_time}"
        fits = not job.is_being_cancelled and intent.fits(job) is not False
        if fits and (mark := intent.mark_on(job)):
            return self._take_marked(job, mark, what)
        if intent.if_running == "fail":
            raise AzureBackupBusyError(
                f"there is a {what}, and if_running is 'fail': {job}. {whose}{self._how_to_wait(job)}",
                job=job.facts(),
            )
        young = job.began >= self.attempt_began and not (intent.is_marked or intent.leads_elsewhere(job))
        if fits and (young or intent.if_running == "adopt"):
            when = (
                "after this attempt"
                if young
                else f"{self.attempt_began - job.began:.0f} s before this attempt"
            )
            self.log(f"There is a {what}, {when}, so no other is requested: {job}")
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
            return self.take(job, started_by)
        self.log(
            f"There is a {what}: {job}. {whose}, and it may lack what the tasks before this one have done. "
            f"Waiting for its end; then this task starts its own {intent.noun}"
        )
        return self.started(None, other=job)

    def _take_marked(self, job: Job, mark: str, what: str) -> StartedJob:
        """Take up a job that carries this task's own mark, of which no record is left."""
        self.log(
            f"There is a {what}. It makes something whose name ends in {mark}, which only this task asks "
            f"for, so no other is requested: {job}"
        )
        taken = StartRecord(
            item=self.intent.item.path,
            attempt=self.intent.attempt,
            since=self.intent.now,
            attempt_began=self.attempt_began,
            requested_at=job.began,
            job=job.ref.path,
            fingerprint=self.intent.fingerprint,
            recovery_point=self.intent.point_of(job),
            suffix=mark,
        )
        self.save(taken)
        return self.take(job, "this task", taken)

    def _how_to_wait(self, job: Job) -> str:
        """Return what to do about a restore that may be this task's own, of which no record is left."""
        if self.intent.noun != "restore":
            return ""
        if self.intent.leads_elsewhere(job):
            return ". It restores to another place. Give if_running='wait' to restore after its end"
        return (
            ". Azure shows nothing by which it could be recognised as this task's own, such as one from "
            "before a Clear. Give if_running='wait' to restore after its end, or 'adopt' to accept it"
        )

    def take(self, job: Job, started_by: StartedBy, asked: StartRecord | None = None) -> StartedJob:
        """Return a job that a list has shown as the one of this intent.

        :param asked: of the request that has started it, if one of this task has.
        """
        return self.started(
            job.ref,
            started_by=started_by,
            ended=None if job.is_running else job,
            recovery_point=asked.recovery_point if asked else {},
            suffix=asked.suffix if asked else "",
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
        job = yield from self.trace(record)
        return job.ref if job else None

    def find_lost(self, asking: StartRecord, doubt: AzureBackupError) -> Flow[Job | None]:
        """Return the job of a request of unknown fate; None when it has certainly started none.

        :param doubt: why its fate is unknown.
        :raises AzureBackupUnconfirmedStartError: when that stays unknown.
        """
        try:
            return (yield from self.trace(asking))
        except AzureBackupError as error:
            raise AzureBackupUnconfirmedStartError(
                f"{doubt} Looking for it failed, too: {error}", status=doubt.status
            ) from None

    def _is_proven(self, job: Job) -> bool:
        try:
            return is_proven(job, accept_warnings=self.intent.accept_warnings)
        except AzureBackupJobFailedError:
            return False


class State(Enum):
    """Where the search for a job stands."""

    LOOKING = "looking"
    ASKING = "asking"
    FOLLOWING = "following"
    DOUBTING = "doubting"
    DONE = "done"


# Which state may follow which, and why.
TRANSITIONS: Mapping[State, Mapping[State, str]] = MappingProxyType(
    {
        State.LOOKING: {
            State.ASKING: "no job of the item runs",
            State.DONE: "a job of the item runs",
        },
        State.ASKING: {
            State.LOOKING: "the preparation took over a minute, or the item is busy",
            State.FOLLOWING: "Azure accepted the request",
            State.DOUBTING: "no response came, or one of a broken server",
            State.DONE: "Azure refused for longer than a worker waits, or the job is looked up in a batch",
        },
        State.FOLLOWING: {
            State.LOOKING: "the operation failed because the item is busy",
            State.DOUBTING: "the operation names no job",
            State.DONE: "the operation names its job, or failed for long",
        },
        State.DOUBTING: {
            State.LOOKING: "no job began since the request",
            State.DONE: "a job began since the request",
        },
    }
)


class _Start:
    """Adopts the running job of an item or starts one, by the states in the head of this file.

    :param search: of the intent.
    :param fresh: that no earlier try can have started a job.
    """

    def __init__(self, search: _Search, *, fresh: bool) -> None:
        self.search, self.intent, self.item = search, search.intent, search.intent.item
        self.fresh = fresh
        self.pause = 0.0
        # When nothing of ours can be running, a list that cannot be had now, because all reads are used up,
        # does not hold up the first request: Azure refuses a second backup while another one runs anyway.
        self.look_until = self.intent.now if fresh else self.intent.deadline
        self.busy_since = 0.0
        self.busy_pauses = chain((15.0,), repeat(60.0))
        # A task that has waited already asks less often.
        self.busy_limit = BUSY_LIMIT if self.intent.attempt_began is None else MINUTE
        self.prepared: Prepared | None = None
        # By Azure's clock. The search for a lost job always begins at the first request, because a job may
        # be shown late.
        self.requested_at = 0.0
        # How many requests are of unknown fate.
        self.unconfirmed = 0
        self.doubt: AzureBackupError | None = None
        self.asked: StartRecord | None = None
        self.accepted: StartRecord | None = None
        self.operation: OperationRef | None = None
        self.result: StartedJob | None = None

    def run(self) -> Flow[StartedJob]:
        """Go from state to state until there is a result."""
        steps = {
            State.LOOKING: self._look,
            State.ASKING: self._ask,
            State.FOLLOWING: self._follow,
            State.DOUBTING: self._search_for_lost,
        }
        state = State.LOOKING
        while state is not State.DONE:
            following = yield from steps[state]()
            assert following in TRANSITIONS[state], f"{state.value} to {following.value}"
            state = following
        assert self.result is not None
        return self.result

    def _look(self) -> Flow[State]:
        try:
            running = yield from self.search.running(
                self.look_until, self.pause, any_type=bool(self.busy_since)
            )
        except AzureBackupTransientError as error:
            if not self.fresh:
                raise
            self.search.log(
                f"Cannot see whether a {self.intent.noun} of {self.item.label} is running: {error}"
            )
            self.search.recent_jobs = BATCH_FROM
            running = None
        if running is None:
            return State.ASKING
        if self.intent.is_marked:
            running = yield from self.search.with_details(running)
        return self._done(self.search.meet(running))

    def _ask(self) -> Flow[State]:
        search, intent = self.search, self.intent
        if self.prepared is None:
            began = search.at
            try:
                self.prepared = yield from intent.prepare()
            except (AzureBackupBusyError, AzureBackupLimitError) as error:
                return self._done(search.obstructed(error))
            if search.at - began > MINUTE:
                return State.LOOKING  # so long ago that another job may have begun since
        self.requested_at = self.requested_at or self._send_at()
        self.accepted = None
        self.asked = StartRecord(
            item=self.item.path,
            attempt=intent.attempt,
            since=intent.now,
            attempt_began=search.attempt_began,
            requested_at=self.requested_at,
            fingerprint=intent.fingerprint,
            recovery_point=self.prepared.recovery_point,
            suffix=self.prepared.suffix,
        )
        search.save(self.asked)
        request = self.prepared.request.delayed(self.requested_at - search.azure_time())
        try:
            self.operation = yield from start_job(
                self.item, replace(request, without_retries=True), intent.noun
            )
        except AzureBackupError as error:
            return self._after(error)
        self.accepted = replace(
            self.asked, operation=self.operation.operation_id, attempt_began=search.attempt_began
        )
        search.save(self.accepted)
        accepted_as = f"operation {self.operation.operation_id}"
        search.log(f"Azure accepted the {intent.noun} of {self.item.label} as {accepted_as}")
        if search.batch_lookup and search.recent_jobs >= BATCH_FROM:
            return self._done(search.started(None, record=self.accepted))
        return State.FOLLOWING

    def _send_at(self) -> float:
        """Return Azure's time at which to send the request, so that no older job can be taken for its job."""
        now = self.search.azure_time()
        return now if self.search.ahead is None else max(now, self.search.attempt_began + SECOND)

    def _follow(self) -> Flow[State]:
        assert self.operation and self.accepted
        try:
            ref = yield from wait_for_operation(self.operation, self.intent.noun)
        except AzureBackupError as error:
            return self._after(error)
        self.search.save(replace(self.accepted, job=ref.path))
        self.search.log(f"The {self.intent.noun} of {self.item.label} is job {ref.job_id}")
        return self._done(
            self.search.started(
                ref,
                workload=self.item.workload,
                recovery_point=self.accepted.recovery_point,
                suffix=self.accepted.suffix,
            )
        )

    def _search_for_lost(self) -> Flow[State]:
        search, noun = self.search, self.intent.noun
        assert self.asked and self.doubt
        self.unconfirmed += 1
        search.log(f"{self.doubt} Checking the job list for {SETTLED:g} s to find out")
        self.asked = replace(self.asked, attempt_began=search.attempt_began)
        found = yield from search.find_lost(self.asked, self.doubt)
        if found:
            search.save(replace(self.asked, job=found.ref.path, started_by="found"))
            search.log(f"One {noun} began after the request was sent: {found}")
            return self._done(search.take(found, "found", self.asked))
        if self.accepted or self.unconfirmed >= SENDS:
            raise self.doubt
        search.log(f"No {noun} of {self.item.label} was started; asking again")
        self.pause = 0.0
        return State.LOOKING

    def _after(self, error: AzureBackupError) -> State:
        """Decide what follows on an error of the request or of its operation.

        :raises AzureBackupError: when Azure refused the request; then there is no job to find.
        """
        if isinstance(error, AzureBackupBusyError | AzureBackupLimitError):
            return self._after_obstacle(error)
        if isinstance(error, AzureBackupUnconfirmedStartError):
            self.doubt = error
            return State.DOUBTING
        self.search.save(None)
        raise error

    def _after_obstacle(self, error: AzureBackupBusyError | AzureBackupLimitError) -> State:
        """Ask again soon for an item that is busy; leave a longer wait to the caller."""
        search = self.search
        # What is in the way may be what a request of unknown fate has started.
        search.save(self.asked if self.unconfirmed else None)
        is_busy = isinstance(error, AzureBackupBusyError)
        if is_busy and self.intent.if_running == "fail":
            raise error
        self.busy_since = self.busy_since or search.at
        self.pause = spread_pause(next(self.busy_pauses), error)
        self.look_until = self.intent.deadline
        # A longer pause, which only Azure asks for, is not spent in the worker.
        is_long = self.pause >= 2 * MINUTE or search.at + self.pause >= self.intent.deadline
        if not is_busy or is_long or search.at - self.busy_since >= self.busy_limit:
            return self._done(search.obstructed(error))
        # It may not be in the list yet, and one that has just ended is in nobody's way.
        search.log(f"{error}. Looking for that {self.intent.noun}")
        self.requested_at = self.requested_at if self.unconfirmed else 0.0
        return State.LOOKING

    def _done(self, result: StartedJob) -> State:
        self.result = result
        return State.DONE

"""One job for one intent: find the one that was started already, and start one only if there is none.

Azure's requests for a backup and for a restore are not idempotent, so before each one this module looks for
what an earlier try left behind: its own note, and Azure's list of jobs. Whatever leaves open whether a job
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
from typing import Any, ClassVar, Unpack

from airflow_provider_azbackup.core.conversations import matching
from airflow_provider_azbackup.core.conversations.jobs import get_job, list_jobs
from airflow_provider_azbackup.core.conversations.operations import by_rule, start, wait_for_operation
from airflow_provider_azbackup.core.conversations.retry import Heard, insist, spread_pause
from airflow_provider_azbackup.core.model.jobs import Job, is_proven
from airflow_provider_azbackup.core.model.resources import BackupInstance, JobRef, OperationRef, ProtectedItem
from airflow_provider_azbackup.core.model.validation import AcceptWarnings, IfRunning, StartedBy
from airflow_provider_azbackup.core.model.workloads import REQUESTS, SCHEDULED_TYPES, management_of
from airflow_provider_azbackup.core.rest import requests
from airflow_provider_azbackup.core.rest.responses import FoundItem
from airflow_provider_azbackup.core.wire import Answer, Call, Flow, JsonObject
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
# How often one intent may be sent when nothing came of the time before, and for how many seconds a worker
# asks again for a busy item before it waits longer.
SENDS = 3
BUSY_LIMIT = 300.0
# How many jobs must have begun within a minute for the next one to be looked for together with all others:
# to ask for each operation by itself would use up the reads of operations, too.
CROWD = 25
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
_VERSION = 2

Remember = Callable[["Note | None"], None]
Tell = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Note:
    """What a try leaves behind for the next one, written before a request is sent and after each answer.

    :param item: ARM id of what is backed up or restored. A mapped task's index is only a position: items
        move.
    :param attempt: what a retry keeps and a Clear changes, as
        :func:`~airflow_provider_azbackup.runtime.compat.attempt_of` returns it.
    :param since: Unix time the wait for this job began.
    :param began: Unix time by Azure's clock at which the first try of the attempt had begun.
    :param asked: Unix time by Azure's clock before the request was sent.
    :param operation: id of the operation, once Azure named it.
    :param job: ARM id of the job, once Azure named it.
    :param started_by: who started the job.
    :param mark: what tells this intent from others of the item; see :class:`Intent`.
    :param point: facts of the recovery point that is restored from.
    """

    item: str
    attempt: str
    since: float
    began: float
    asked: float = 0.0
    operation: str = ""
    job: str = ""
    started_by: StartedBy = "this task"
    mark: str = ""
    point: JsonObject = field(default_factory=dict)

    @property
    def target(self) -> JobRef | OperationRef | None:
        """What this job is known by; None before Azure answered."""
        vault = ProtectedItem.parse(self.item).vault
        if self.job:
            return JobRef.parse(self.job)
        return OperationRef(vault=vault, operation_id=self.operation) if self.operation else None

    def to_dict(self) -> JsonObject:
        """Return the note as plain JSON."""
        of_restores = {name: value for name in _OF_RESTORES if (value := getattr(self, name))}
        return {"version": _VERSION, **{name: getattr(self, name) for name in _FIELDS}, **of_restores}

    @classmethod
    def from_dict(cls, stored: object) -> Note | None:
        """Read a note back; None when it has a form that this release does not know."""
        if not isinstance(stored, dict) or stored.get("version") != _VERSION:
            return None
        try:
            of_restores = {name: kind(stored.get(name, kind())) for name, kind in _OF_RESTORES.items()}
            note = cls(**{name: kind(stored[name]) for name, kind in _FIELDS.items()}, **of_restores)
            ProtectedItem.parse(note.item)
        except (KeyError, TypeError, ValueError):  # a wrong ARM id is a ValueError, too
            return None
        return note


_FIELDS: dict[str, Any] = {
    "item": str, "attempt": str, "since": float, "began": float, "asked": float, "operation": str, "job": str,
    "started_by": str,
}  # fmt: skip
_OF_RESTORES: dict[str, Any] = {"mark": str, "point": dict}


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A request that is ready to be sent, and facts of the recovery point it restores from."""

    call: Call
    point: JsonObject = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Intent:
    """One job that somebody wants, however often a worker has to begin anew to get it.

    :param item: what it is of.
    :param attempt: as in :class:`Note`.
    :param now: Unix time.
    :param timeout: seconds the job may take.
    :param began: Unix time by Azure's clock at which the attempt had begun; None when it begins now.
    :param is_blind: whether an earlier try may have started a job and left no note.
    :param if_running: what to do about a running job of this kind that began before this attempt.
    :param accept_warnings: as everywhere.
    """

    item: ProtectedItem
    attempt: str
    now: float
    timeout: float
    began: float | None = None
    is_blind: bool = False
    if_running: IfRunning = "wait"
    accept_warnings: AcceptWarnings = False

    noun: ClassVar[str]
    # Whether the first request may be sent although the list cannot be had, because Azure runs one such job
    # of an item at a time.
    may_start_unseen: ClassVar[bool]

    @property
    def deadline(self) -> float:
        """Unix time at which the wait for a job started now would end."""
        return self.now + self.timeout

    @property
    def mark(self) -> str:
        """What tells this intent from another one of the item; empty where all are alike."""
        return ""

    @property
    def elsewhere(self) -> str:
        """A storage account that the jobs of this intent may carry instead of the item's own."""
        return ""

    def prepare(self) -> Flow[Prepared]:
        """Make the request, reading what it takes. Nothing is started."""
        raise NotImplementedError

    def is_kind_of(self, job: Job) -> bool:
        """Whether a job does what is wanted, of whatever item."""
        raise NotImplementedError

    def fits(self, job: Job) -> bool | None:
        """Whether a job of the item is of the type that is wanted; None for "may be"."""
        return True


@dataclass(frozen=True, kw_only=True)
class BackupIntent(Intent):
    """One backup that somebody wants.

    :param body: the request for it.
    """

    body: JsonObject

    noun: ClassVar[str] = "backup"
    may_start_unseen: ClassVar[bool] = True

    @property
    def backup_type(self) -> str:
        """``Full`` and so on for a database, an empty string for what knows one kind of backup only."""
        return str(self.body.get("properties", {}).get("backupType", ""))

    def prepare(self) -> Flow[Prepared]:
        """Return the request; of a backup instance its policy may have to say by which rule."""
        item, body = self.item, self.body
        if isinstance(item, BackupInstance):
            body = yield from insist(
                lambda: by_rule(item, self.body), since=self.now, until=self.now + BUSY_LIMIT
            )
        return Prepared(call=requests.trigger_backup(self.item, body))

    def is_kind_of(self, job: Job) -> bool:
        """Whether it is a backup, be it of a log."""
        return job.action == self.noun

    def fits(self, job: Job) -> bool | None:
        """Whether a backup of the item is of the type that is wanted; None for "may be"."""
        if not (wanted := self.backup_type):
            return True
        shown = "".join(filter(str.isalpha, job.backup_type)).casefold()
        known = {name.casefold() for name in SCHEDULED_TYPES.union(*(each for _, each in REQUESTS.values()))}
        return shown == wanted.casefold() if shown in known else None


@dataclass(frozen=True, kw_only=True)
class Secured:
    """The job of an intent: itself and the kind of item, since when it is waited for, its end if over.

    One that was left in a crowd has no job yet, but the note of its request. Where another job has to end
    first, there is nothing but ``other``. Where Azure has refused the request for now, there is nothing but
    ``obstacle``, which says why. ``began`` is as in :class:`Note`.
    """

    ref: JobRef | None
    since: float
    began: float
    started_by: StartedBy = "this task"
    kind: str = ""
    over: Job | None = None
    note: Note | None = None
    point: JsonObject = field(default_factory=dict)
    other: Job | None = None
    obstacle: AzureBackupRefusedError | None = None


def secure_job(
    intent: Intent, note: Note | None, *, remember: Remember, tell: Tell, may_leave: bool = False
) -> Flow[Secured]:
    """Find the job of this intent, or start it. However often it is asked, Azure makes one job.

    :param note: what an earlier try of this task left.
    :param remember: keeps a note for later tries; None says that there is nothing to remember.
    :param tell: told in a sentence what is found and done.
    :param may_leave: whether a machine's accepted backup may be left without its job in a crowd, when many
        others have begun within a minute. Whoever allows it finds the job by the returned note.
    :return: with ``other`` set when that job has to end before this intent can go on, and with ``obstacle``
        set when the item is busy with what no list shows or a limit is reached; then ask again.
    :raises AzureBackupBusyError: when another such job of the item runs and ``if_running`` is ``fail``.
    :raises AzureBackupUnconfirmedStartError: when it stays unknown whether a job was started.
    :raises AzureBackupError: when Azure refused it; then nothing was started.
    """
    if note and (note.item.casefold() != intent.item.path.casefold() or note.mark != intent.mark):
        note = None
    search = _Search(intent, remember, tell, may_leave=may_leave and intent.item.kind == "vm")
    if note and (secured := (yield from search.listen(search.recall(note)))):
        return secured
    fresh = intent.may_start_unseen and note is None and not intent.is_blind
    return (yield from search.listen(search.start(fresh=fresh)))


def join_other(intent: Intent, failed: Job, *, remember: Remember, tell: Tell) -> Flow[Secured]:
    """Decide how to go on after a job of the intent's kind and item that Azure did not carry out for now.

    :param failed: the job, which has an :attr:`~airflow_provider_azbackup.core.model.jobs.Job.obstacle`.
    :return: as :func:`secure_job` does; a job under ``other`` may be over by now.
    :raises AzureBackupBusyError: when the item is busy and ``if_running`` is ``fail``.
    """
    search = _Search(intent, remember, tell)
    return (yield from search.listen(search.join(failed)))


class _Search(Heard):
    """The conversations of one intent."""

    def __init__(self, intent: Intent, remember: Remember, tell: Tell, *, may_leave: bool = False) -> None:
        super().__init__(intent.now)
        self.may_leave = may_leave
        self.crowd = 0
        self.intent = intent
        self.remember = remember
        self.tell = tell
        self._began = intent.began

    @property
    def began(self) -> float:
        """Unix time by Azure's clock at which this attempt had certainly begun."""
        return self.intent.now + _SKEW if self._began is None else self._began

    def hear(self, answer: Answer) -> None:
        """Take the time from one answer; the first that names it shows when the attempt had begun."""
        super().hear(answer)
        if self._began is None and self.ahead is not None:
            since = max(0.0, self.sent_at - self.intent.now)
            self._began = self.at + self.ahead + _ROUNDING - since

    def azure_time(self) -> float:
        """Return Azure's time at the last answer; not later than that when no answer told it."""
        return self.at + (-_SKEW if self.ahead is None else self.ahead)

    def recall(self, note: Note) -> Flow[Secured | None]:
        """Follow a note to the job it speaks of; None when that is none, or is over and will not do."""
        intent, same = self.intent, note.attempt == self.intent.attempt
        if same:
            self._began = note.began
        ref = note.target
        if not isinstance(ref, JobRef):
            ref = yield from self._trace_note(note, ref)
        if ref is None:
            return None
        pause = 0.0
        while True:
            try:
                job = yield from self._look(ref, note.since, pause)
            except AzureBackupNotFoundError:
                # The list may know it all the same, and another one is not to be had back.
                self.tell(f"Azure does not know job {ref.job_id} any more; looking for it among all jobs")
                found = (yield from self._trace(note)) if note.asked else None
                if found is None:
                    return None
                job, ref = found, found.ref
            if flaw := (yield from self._flaw(job, note if same else None)):
                self.tell(f"What an earlier try noted is not believed, because {flaw}: {job}")
                self._began = intent.began
                return None
            if not job.is_being_cancelled or intent.if_running == "wait":
                break
            # Neither a job to wait for, nor out of the way of another.
            self.tell(f"This task has started {job}; waiting until it is cancelled")
            if self.at >= intent.deadline:
                raise AzureBackupBusyError(f"still being cancelled: {job}", job=job.facts())
            pause = spread_pause(30.0)
        if job.is_running and (not same or job.is_being_cancelled):
            whose = "Somebody cancels it" if same else "An earlier attempt of this task started it"
            return self._meet(job, whose)
        if job.is_running or (same and self._is_proven(job)):
            self.remember(replace(note, job=ref.path))
            self.tell(f"This task has started it before, so no {intent.noun} is asked for: {job}")
            return Secured(
                ref=ref,
                since=note.since,
                began=self.began,
                started_by=note.started_by,
                over=None if job.is_running else job,
                point=note.point,
            )
        self.tell(f"An earlier {job}; this {'retry' if same else 'new attempt'} takes a new {intent.noun}")
        return None

    def _flaw(self, job: Job, note: Note | None) -> Flow[str]:
        """Return why a job cannot be the one that this task has started; an empty string when it can.

        :param note: of this attempt, which speaks of the job; None when it is of an earlier one.
        """
        item = self.intent.item
        if job.ref.vault.path.casefold() != item.vault.path.casefold():
            return f"it is of vault {job.ref.vault.path}, not of {item.vault.path}"
        if not self.intent.is_kind_of(job):
            return f"it is no {self.intent.noun}"
        known = item.kind in ("vm", "backupinstance")
        names = () if known else (yield from self._names(self.intent.deadline))
        if self._is_ours(job, names) is False:
            return f"it is no {self.intent.noun} of {item.label} of the type that is wanted"
        adopts = note and note.started_by == "adopted" and self.intent.if_running == "adopt"
        if note and not adopts and job.began < (note.asked or note.began) - _SECOND:
            return f"it began at {job.start_time}, before this attempt asked for it"
        return ""

    def start(self, *, fresh: bool) -> Flow[Secured]:
        """Adopt the job that runs, or start one.

        :param fresh: that no earlier try can have started one.
        """
        intent, item = self.intent, self.intent.item
        sent, pause, asked, busy_since = 0, 0.0, 0.0, 0.0
        ready: Prepared | None = None
        busy_pauses = chain((15.0,), repeat(60.0))
        # A task that has waited already asks less often.
        busy_limit = BUSY_LIMIT if intent.began is None else _MINUTE
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
            asking = Note(
                item=item.path,
                attempt=intent.attempt,
                since=intent.now,
                began=self.began,
                asked=asked,
                mark=intent.mark,
                point=ready.point,
            )
            accepted: Note | None = None
            self.remember(asking)
            try:
                call = replace(ready.call.later(asked - self.azure_time()), once=True)
                operation = yield from start(item, call, intent.noun)
                accepted = replace(asking, operation=operation.operation_id, began=self.began)
                self.remember(accepted)
                self.tell(
                    f"Azure accepted the {intent.noun} of {item.label} as operation {operation.operation_id}"
                )
                if self.may_leave and self.crowd >= CROWD:
                    return Secured(ref=None, since=intent.now, began=self.began, note=accepted)
                ref = yield from wait_for_operation(operation, intent.noun)
            except (AzureBackupBusyError, AzureBackupLimitError) as error:
                # What is in the way may be what a request of unknown fate has started.
                self.remember(asking if sent else None)
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
                self.tell(f"{error}. Looking for that {intent.noun}")
                asked = asked if sent else 0.0
            except AzureBackupUnconfirmedStartError as error:
                sent += 1
                self.tell(f"{error} Looking for {SETTLED:g} s whether it was")
                asking = replace(asking, began=self.began)
                found = yield from self._settle(asking, error)
                if found:
                    self.remember(replace(asking, job=found.ref.path, started_by="found"))
                    self.tell(f"One {intent.noun} began after the request was sent: {found}")
                    return self._take(found, "found", ready.point)
                if accepted or sent >= SENDS:
                    raise
                self.tell(f"No {intent.noun} of {item.label} was started; asking again")
                pause = 0.0
            except AzureBackupError:
                self.remember(None)  # refused, so there is nothing to find
                raise
            else:
                self.remember(replace(accepted, job=ref.path))
                self.tell(f"The {intent.noun} of {item.label} is job {ref.job_id}")
                return Secured(ref=ref, since=intent.now, began=self.began, kind=item.kind, point=ready.point)

    def _seen_running(self, until: float, pause: float, *, fresh: bool, any_type: bool) -> Flow[Job | None]:
        """Return what :meth:`running` does; None too if ``fresh`` allows to go on without the list."""
        try:
            return (yield from self.running(until, pause, any_type=any_type))
        except AzureBackupTransientError as error:
            if not fresh:
                raise
            self.tell(
                f"Cannot see whether a {self.intent.noun} of {self.intent.item.label} is running: {error}"
            )
            self.crowd = CROWD
            return None

    def _send_at(self) -> float:
        """Return Azure's time at which to send the request, so that no older job can be taken for its job."""
        if self.ahead is None:
            return self.azure_time()
        return max(self.azure_time(), self.began + _SECOND)

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

    def join(self, failed: Job) -> Flow[Secured]:
        """Decide how to go on after a job of this intent that Azure did not carry out for now.

        :param failed: the job.
        :raises AzureBackupBusyError: when the item is busy and ``if_running`` is ``fail``.
        """
        obstacle = failed.obstacle or AzureBackupBusyError(f"{failed} failed", job=failed.facts())
        self.remember(None)
        if isinstance(obstacle, AzureBackupLimitError):
            return self._later(obstacle)
        if self.intent.if_running == "fail":
            raise obstacle
        other = yield from self._beside(failed)
        if other is None:
            return self._later(obstacle)
        self.tell(f"{failed} failed because of another one")
        return self._meet(other)

    def _later(self, obstacle: AzureBackupRefusedError) -> Secured:
        """Return that Azure has refused this intent for now."""
        return Secured(ref=None, since=self.intent.now, began=self.began, obstacle=obstacle)

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

    def _meet(self, job: Job, whose: str = "This task did not start it") -> Secured:
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
        young = job.began >= self.began
        if fits and (young or intent.if_running == "adopt"):
            when = "after this attempt" if young else f"{self.began - job.began:.0f} s before this attempt"
            self.tell(f"There is a {what}, {when}, so no other is asked for: {job}")
            started_by: StartedBy = "found" if young else "adopted"
            self.remember(
                Note(
                    item=intent.item.path,
                    attempt=intent.attempt,
                    since=intent.now,
                    began=self.began,
                    job=job.ref.path,
                    started_by=started_by,
                    mark=intent.mark,
                )
            )
            return self._take(job, started_by)
        self.tell(
            f"There is a {what}: {job}. {whose}, and it may lack what the tasks before this one have done. "
            f"Waiting for its end; then this task starts its own {intent.noun}"
        )
        return Secured(ref=None, since=intent.now, began=self.began, other=job)

    def _take(self, job: Job, started_by: StartedBy, point: JsonObject | None = None) -> Secured:
        return Secured(
            ref=job.ref,
            since=self.intent.now,
            began=self.began,
            started_by=started_by,
            over=None if job.is_running else job,
            point=point or {},
        )

    def _trace_note(self, note: Note, operation: OperationRef | None) -> Flow[JobRef | None]:
        """Find the job of a try that broke off before it knew one."""
        if operation:
            self.tell(
                f"An earlier try ended after Azure had accepted operation {note.operation}; following it"
            )
            try:
                return (yield from wait_for_operation(operation, self.intent.noun))
            except (AzureBackupRefusedError, AzureBackupTransientError):
                return None
            except AzureBackupUnconfirmedStartError as error:
                self.tell(str(error))
        self.tell(
            f"An earlier try ended while it asked for a {self.intent.noun}; checking whether one was started"
        )
        job = yield from self._trace(note)
        return job.ref if job else None

    def _settle(self, asking: Note, doubt: AzureBackupError) -> Flow[Job | None]:
        try:
            return (yield from self._trace(asking))
        except AzureBackupError as error:
            raise AzureBackupUnconfirmedStartError(
                f"{doubt} Looking for it failed, too: {error}", status=doubt.status
            ) from None

    def _trace(self, note: Note) -> Flow[Job | None]:
        """Return the first job of the item that began since a request, running or over.

        :param note: of the request. While it is not long ago, a job may still come to light.
        """
        asked = note.asked
        began, pause, pauses = self.at, 0.0, chain(_PAUSES, repeat(_PAUSES[-1]))
        while True:
            found, unclear = yield from self._find(
                partial(self._began_since, asked, pause), self.intent.deadline, pause, asked - _SECOND
            )
            # Only where no answer named a time: then nothing shows what was first, the attempt or the job.
            early = [job for job in found if job.began < note.began - _ROUNDING]
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

    def _began_since(self, asked: float, pause: float) -> Call:
        slack = _SECOND if self.ahead is not None else 2 * _SKEW
        return self._list(
            started_after=requests.moment(asked - _SKEW),
            started_before=requests.moment(self.azure_time() + pause + slack),
        )

    def _list(self, **wanted: Unpack[requests.JobFilter]) -> Call:
        if not self.intent.item.vault.is_backup_vault:
            wanted["backup_management_type"] = management_of(self.intent.item.kind)
        return requests.list_jobs(self.intent.item.vault, **wanted)

    def _find(
        self,
        make: Callable[[], Call],
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
            jobs = yield from insist(
                lambda: list_jobs(make(), self.intent.item.vault),
                since=0.0,
                until=until,
                first_pause=pause,
            )
            self.crowd = sum(job.began >= self.azure_time() - _MINUTE for job in jobs)
            jobs = [job for job in jobs if job.began >= since and self.intent.is_kind_of(job)]
            told = self.intent.item.kind in ("vm", "backupinstance")
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
        return (yield from insist(lambda: matching.alike(item), since=0.0, until=until))

    def _is_ours(self, job: Job, names: Sequence[FoundItem], *, any_type: bool = False) -> bool | None:
        """Whether a job is one of the item, by what a list shows of it; None for "may be"."""
        item = self.intent.item
        if item.kind == "backupinstance":
            return job.owner.casefold() == item.path.casefold()
        if item.kind == "vm":
            return matching.is_of_machine(job, item)
        meant = [found for found in names if matching.shows(job, found, self.intent.elsewhere)]
        if item.path.casefold() not in {found.item.path.casefold() for found in meant}:
            return False
        if len(meant) > 1:
            return None
        return any_type or self.intent.fits(job)

    def _look(self, ref: JobRef, since: float, pause: float) -> Flow[Job]:
        return (
            yield from insist(
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

"""One job for one intent: find the one that was started already, and start one only if there is none.

Azure's requests for a backup and for a restore are not idempotent, so before each one this module looks for
what an earlier try left behind: its own note, and Azure's list of jobs. Whatever leaves open whether a job
was started is settled by looking, never by asking again.

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

from airflow_provider_azbackup.core import calls, flows, matching
from airflow_provider_azbackup.core.jobs import Job, is_proven
from airflow_provider_azbackup.core.names import REQUESTS, SCHEDULED_TYPES, AcceptWarnings, management_of
from airflow_provider_azbackup.core.replies import FoundItem
from airflow_provider_azbackup.core.resources import BackupInstance, JobRef, OperationRef, ProtectedItem
from airflow_provider_azbackup.core.wire import Call, Flow, JsonObject
from airflow_provider_azbackup.exceptions import (
    AzureBackupBusyError,
    AzureBackupError,
    AzureBackupJobFailedError,
    AzureBackupNotFoundError,
    AzureBackupRefusedError,
    AzureBackupTransientError,
    AzureBackupUnconfirmedStartError,
)

# How long to look for a job that a lost answer may have started: the longest that Azure was seen to take
# from a request to its job are 66 s.
SETTLED = 180.0
# How often one intent may be sent when nothing came of the time before, and how long a busy item is asked.
SENDS = 3
BUSY_LIMIT = 300.0
# How many jobs must have begun within a minute for the next one to be looked for together with all others:
# to ask for each operation by itself would use up the reads of operations, too.
CROWD = 25
# The time Azure tells with its answers is in whole seconds.
_SECOND = 2.0
# Where no answer told a time: how far the clock of a worker may be off.
_SKEW = 300.0
# Azure's clock and Airflow's differ a little.
_MINUTE = 60.0
_DAY = 24 * 3600.0
_PAUSES = (5.0, 10.0, 20.0, 40.0)
_VERSION = 1


Remember = Callable[["Note | None"], None]
Tell = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Note:
    """What a try leaves behind for the next one, written before a request is sent and after each answer.

    :param item: ARM id of what is backed up or restored. A mapped task's index is only a position: items
        move.
    :param attempt: Airflow's ``max_tries``, which a retry keeps and a Clear raises.
    :param since: Unix time the wait for this job began.
    :param asked: Unix time by Azure's clock before the request was sent.
    :param operation: id of the operation, once Azure named it.
    :param job: ARM id of the job, once Azure named it.
    :param mark: what tells this intent from others of the item; see :class:`Intent`.
    :param point: facts of the recovery point that is restored from.
    """

    item: str
    attempt: int
    since: float
    asked: float = 0.0
    operation: str = ""
    job: str = ""
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
    "item": str, "attempt": int, "since": float, "asked": float, "operation": str, "job": str
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
    :param earlier: Unix time since when an earlier try may have started it without leaving a note, or None
        when none can have: a running job of this kind that is younger counts as our own.
    :param adopt_others: whether a running job of this kind that somebody else started will do.
    :param accept_warnings: as everywhere.
    """

    item: ProtectedItem
    attempt: int
    now: float
    timeout: float
    earlier: float | None = None
    adopt_others: bool = True
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

    def note(self, job: JobRef, since: float, point: JsonObject | None = None) -> Note:
        """Return the note to leave of a job that is waited for since a Unix time."""
        return Note(
            item=self.item.path,
            attempt=self.attempt,
            since=since,
            job=job.path,
            mark=self.mark,
            point=point or {},
        )

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
        return str(self.body["properties"].get("backupType", ""))

    def prepare(self) -> Flow[Prepared]:
        """Return the request; of a backup instance its policy may have to say by which rule."""
        item, body = self.item, self.body
        if isinstance(item, BackupInstance):
            body = yield from flows.insist(
                lambda: flows.by_rule(item, self.body), since=self.now, until=self.now + BUSY_LIMIT
            )
        return Prepared(call=calls.trigger_backup(self.item, body))

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

    One that was left in a crowd has no job yet, but the note of its request.
    """

    ref: JobRef | None
    since: float
    adopted: bool
    kind: str = ""
    over: Job | None = None
    note: Note | None = None
    point: JsonObject = field(default_factory=dict)


def secure_job(
    intent: Intent, note: Note | None, *, remember: Remember, tell: Tell, may_leave: bool = False
) -> Flow[Secured]:
    """Find the job of this intent, or start it. However often it is asked, Azure makes one job.

    :param note: what an earlier try of this task left.
    :param remember: keeps a note for later tries; None says that there is nothing to remember.
    :param tell: told in a sentence what is found and done.
    :param may_leave: whether a machine's accepted backup may be left without its job in a crowd, when many
        others have begun within a minute. Whoever allows it finds the job by the returned note.
    :raises AzureBackupBusyError: when another such job of the item runs and is not, or cannot be, adopted.
    :raises AzureBackupUnconfirmedStartError: when it stays unknown whether a job was started.
    :raises AzureBackupError: when Azure refused it; then nothing was started.
    """
    if note and (note.item.casefold() != intent.item.path.casefold() or note.mark != intent.mark):
        note = None
    search = _Search(intent, remember, tell, may_leave=may_leave and intent.item.kind == "vm")
    if note and (secured := (yield from search.listen(search.recall(note)))):
        return secured
    fresh = intent.may_start_unseen and note is None and intent.earlier is None
    return (yield from search.listen(search.start(fresh=fresh)))


def find_other(intent: Intent, failed: Job) -> Flow[Job | None]:
    """Return the job of the intent's kind and item that was in the way of another, running or over by now.

    :param failed: the job that failed because of it.
    """
    search = _Search(intent, lambda _: None, lambda _: None)
    return (yield from search.listen(search.beside(failed)))


class _Search(flows.Heard):
    """The conversations of one intent."""

    def __init__(self, intent: Intent, remember: Remember, tell: Tell, *, may_leave: bool = False) -> None:
        super().__init__(intent.now)
        self.may_leave = may_leave
        self.crowd = 0
        self.intent = intent
        self.remember = remember
        self.tell = tell

    def azure_time(self) -> float:
        """Return Azure's time at the last answer; not later than that when no answer told it."""
        return self.at + (-_SKEW if self.ahead is None else self.ahead)

    def recall(self, note: Note) -> Flow[Secured | None]:
        """Follow a note to the job it speaks of; None when that is none, or is over and will not do."""
        intent, same = self.intent, note.attempt == self.intent.attempt
        ref = note.target
        if not isinstance(ref, JobRef):
            ref = yield from self._trace_note(note, ref)
        if ref is None:
            return None
        since = note.since if same else intent.now
        pause = 0.0
        while True:
            try:
                job = yield from self._look(ref, note.since, pause)
            except AzureBackupNotFoundError:
                # The list may know it all the same, and another one is not to be had back.
                self.tell(f"Azure does not know job {ref.job_id} any more; looking for it among all jobs")
                found = (yield from self._trace(note.asked)) if note.asked else None
                if found is None:
                    return None
                job, ref = found, found.ref
            if not job.is_being_cancelled:
                break
            # Neither a job to wait for, nor out of the way of another.
            self.tell(f"This task has started {job}; waiting until it is cancelled")
            if self.at >= intent.deadline:
                raise AzureBackupBusyError(f"still being cancelled: {job}", job=job.facts())
            pause = flows.spread_pause(30.0)
        if job.is_running or (same and self._is_proven(job)):
            self.remember(replace(note, job=ref.path, attempt=intent.attempt, since=since))
            self.tell(f"This task has started it before, so no {intent.noun} is asked for: {job}")
            return Secured(
                ref=ref,
                since=since,
                adopted=True,
                over=None if job.is_running else job,
                point=note.point,
            )
        self.tell(f"An earlier {job}; this {'retry' if same else 'new attempt'} takes a new {intent.noun}")
        return None

    def start(self, *, fresh: bool) -> Flow[Secured]:
        """Adopt the job that runs, or start one.

        :param fresh: that no earlier try can have started one.
        """
        intent, item = self.intent, self.intent.item
        sent, pause, asked, busy_since = 0, 0.0, 0.0, 0.0
        ready: Prepared | None = None
        busy_pauses = chain((15.0,), repeat(60.0))
        # Nothing of ours can be running then, and Azure refuses a second backup beside another's: a list that
        # cannot be had now, because all reads are used up, need not hold up the first request.
        blind = intent.now if fresh else intent.deadline
        while True:
            try:
                running = yield from self.running(blind, pause)
            except AzureBackupTransientError as error:
                if not fresh:
                    raise
                self.tell(f"Cannot see whether a {intent.noun} of {item.name} is running: {error}")
                running, self.crowd = None, CROWD
            if running:
                return self._adopt(running)
            if ready is None:
                looked = self.at
                ready = yield from intent.prepare()
                if self.at - looked > _MINUTE:
                    continue  # so long ago that another may have begun since
            # A request of unknown fate may show its job late, so the search always begins at the first one.
            asked = asked or self.azure_time()
            asking = Note(
                item=item.path,
                attempt=intent.attempt,
                since=intent.now,
                asked=asked,
                mark=intent.mark,
                point=ready.point,
            )
            accepted: Note | None = None
            self.remember(asking)
            try:
                operation = yield from flows.start(item, ready.call, intent.noun)
                accepted = replace(asking, operation=operation.operation_id)
                self.remember(accepted)
                self.tell(
                    f"Azure accepted the {intent.noun} of {item.name} as operation {operation.operation_id}"
                )
                if self.may_leave and self.crowd >= CROWD:
                    return Secured(ref=None, since=intent.now, adopted=False, note=accepted)
                ref = yield from flows.wait_for_operation(operation, intent.noun)
            except AzureBackupBusyError as error:
                # What is in the way may be what a request of unknown fate has started.
                self.remember(asking if sent else None)
                busy_since = busy_since or self.at
                if not intent.adopt_others or self.at - busy_since >= BUSY_LIMIT:
                    raise
                self.tell(f"{error}. Looking for that {intent.noun}")
                # It may not be in the list yet, and one that has just ended is in nobody's way.
                pause, blind = flows.spread_pause(next(busy_pauses), error), intent.deadline
                asked = asked if sent else 0.0
            except AzureBackupUnconfirmedStartError as error:
                sent += 1
                self.tell(f"{error} Looking for {SETTLED:g} s whether it was")
                found = yield from self._settle(asking, error)
                if found:
                    return self._adopt(found, ours=True, point=ready.point)
                if accepted or sent >= SENDS:
                    raise
                self.tell(f"No {intent.noun} of {item.name} was started; asking again")
                pause = 0.0
            except AzureBackupError:
                self.remember(None)  # refused, so there is nothing to find
                raise
            else:
                self.remember(replace(accepted, job=ref.path))
                self.tell(f"The {intent.noun} of {item.name} is job {ref.job_id}")
                return Secured(ref=ref, since=intent.now, adopted=False, kind=item.kind, point=ready.point)

    def running(self, until: float, pause: float = 0.0) -> Flow[Job | None]:
        """Return the running job of the item that began last.

        :param until: Unix time to which faults are waited out.
        :param pause: seconds to let pass first.
        """
        found, _ = yield from self._find(partial(self._list, status="InProgress"), until, pause)
        # A Backup vault's list shows what is over as well.
        found = [job for job in found if job.is_running and not job.is_being_cancelled]
        return max(found, key=attrgetter("began"), default=None)

    def beside(self, failed: Job) -> Flow[Job | None]:
        """Return the job of the item that went on when ``failed`` began; a list may show it late."""
        began, until = failed.began, self.intent.deadline
        for pause in (0.0, *_PAUSES):
            running = yield from self.running(until, pause)
            if running:
                return running
            jobs, _ = yield from self._find(partial(self._began_since, began - _DAY, 0.0), until, 0.0)
            met = [job for job in jobs if job.began <= began <= _seconds(job.end_time)]
            if met := [job for job in met if job.ref != failed.ref]:
                return max(met, key=attrgetter("began"))
        return None

    def _adopt(self, job: Job, *, ours: bool = False, point: JsonObject | None = None) -> Secured:
        intent = self.intent
        ours = ours or (intent.earlier is not None and job.began >= intent.earlier - _MINUTE)
        if not (ours or intent.adopt_others):
            raise AzureBackupBusyError(
                f"a {intent.noun} of {intent.item.name} is running already, and if_running is 'fail': {job}",
                job=job.facts(),
            )
        since = min(intent.now, job.began) if ours else intent.now
        self.remember(intent.note(job.ref, since, point))
        self.tell(f"There is a {intent.noun} of {intent.item.name}, so no other is asked for: {job}")
        return Secured(ref=job.ref, since=since, adopted=True, point=point or {})

    def _trace_note(self, note: Note, operation: OperationRef | None) -> Flow[JobRef | None]:
        """Find the job of a try that broke off before it knew one."""
        if operation:
            self.tell(f"An earlier try broke off behind operation {note.operation}; following that")
            try:
                return (yield from flows.wait_for_operation(operation, self.intent.noun))
            except AzureBackupRefusedError:
                return None
            except AzureBackupUnconfirmedStartError as error:
                self.tell(str(error))
        self.tell(
            f"An earlier try broke off while it asked for a {self.intent.noun}; "
            f"looking whether one was started"
        )
        job = yield from self._trace(note.asked)
        return job.ref if job else None

    def _settle(self, asking: Note, doubt: AzureBackupError) -> Flow[Job | None]:
        try:
            return (yield from self._trace(asking.asked))
        except AzureBackupError as error:
            raise AzureBackupUnconfirmedStartError(
                f"{doubt} Looking for it failed, too: {error}", status=doubt.status
            ) from None

    def _trace(self, asked: float) -> Flow[Job | None]:
        """Return the first job of the item that began since ``asked``, running or over.

        :param asked: Unix time by Azure's clock. While it is not long ago, one may still come to light.
        """
        began, pause, pauses = self.at, 0.0, chain(_PAUSES, repeat(_PAUSES[-1]))
        while True:
            found, unclear = yield from self._find(
                partial(self._began_since, asked, pause), self.intent.deadline, pause, asked - _SECOND
            )
            if found:
                return min(found, key=attrgetter("began"))
            long_ago = self.azure_time() - asked >= SETTLED + 2 * _SKEW
            if long_ago or self.at - began >= SETTLED:
                if unclear:
                    raise AzureBackupUnconfirmedStartError(
                        f"a {self.intent.noun} that began since may be one of {self.intent.item.name}, or "
                        f"of another item of that name: {', '.join(map(str, unclear))}"
                    )
                return None
            pause = min(next(pauses), began + SETTLED - self.at)

    def _began_since(self, asked: float, pause: float) -> Call:
        slack = _SECOND if self.ahead is not None else 2 * _SKEW
        return self._list(
            started_after=calls.moment(asked - _SKEW),
            started_before=calls.moment(self.azure_time() + pause + slack),
        )

    def _list(self, **wanted: Unpack[calls.JobFilter]) -> Call:
        if not self.intent.item.vault.is_backup_vault:
            wanted["backup_management_type"] = management_of(self.intent.item.kind)
        return calls.list_jobs(self.intent.item.vault, **wanted)

    def _find(
        self, make: Callable[[], Call], until: float, pause: float, since: float = 0.0
    ) -> Flow[tuple[list[Job], list[Job]]]:
        """List jobs, and return those that are of the intent's kind and item, and those that may be.

        Azure names a database and the type of its backup only some moments after the job began.
        """
        for again in (*_PAUSES[:3], 0.0):
            jobs = yield from flows.insist(
                lambda: flows.list_jobs(make(), self.intent.item.vault),
                since=0.0,
                until=until,
                first_pause=pause,
            )
            self.crowd = sum(job.began >= self.azure_time() - _MINUTE for job in jobs)
            jobs = [job for job in jobs if job.began >= since and self.intent.is_kind_of(job)]
            told = self.intent.item.kind in ("vm", "backupinstance")
            names = () if told or not jobs else (yield from self._names(until))
            verdicts = [(job, self._is_ours(job, names)) for job in jobs]
            found = [job for job, verdict in verdicts if verdict]
            unclear = [job for job, verdict in verdicts if verdict is None]
            if found or not unclear or not again:
                break
            pause = again
        return found, unclear

    def _names(self, until: float) -> Flow[Sequence[FoundItem]]:
        item = self.intent.item
        return (yield from flows.insist(lambda: matching.alike(item), since=0.0, until=until))

    def _is_ours(self, job: Job, names: Sequence[FoundItem]) -> bool | None:
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
        return self.intent.fits(job)

    def _look(self, ref: JobRef, since: float, pause: float) -> Flow[Job]:
        return (
            yield from flows.insist(
                lambda: flows.get_job(ref),
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

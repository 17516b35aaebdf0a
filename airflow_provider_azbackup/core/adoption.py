"""One backup for one intent: find the backup that was started already, and start one only if there is none.

Azure's request for a backup is not idempotent, so before each one this module looks for what an earlier try
left behind: its own note, and Azure's list of jobs. Whatever leaves open whether a backup was started is
settled by looking, never by asking again.

Source: https://learn.microsoft.com/azure/backup/backup-azure-arm-userestapi-backupazurevms
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from itertools import chain, repeat
from typing import Any, Unpack

from airflow_provider_azbackup.core import calls, flows, replies
from airflow_provider_azbackup.core.jobs import Job, is_proven
from airflow_provider_azbackup.core.names import REQUESTS
from airflow_provider_azbackup.core.replies import FoundItem
from airflow_provider_azbackup.core.resources import JobRef, OperationRef, ProtectedItem
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

# How long to look for a backup that a lost answer may have started: the longest that Azure was seen to take
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

# "Backup", and once Azure has looked at the database "Backup (Full)".
_OPERATION = re.compile(r"Backup(?: \(([^)]*)\))?", re.IGNORECASE)
_LISTS = {
    item_type.casefold(): (management_type, item_type)
    for management_type, item_type in (*calls.ITEM_LISTS, ("AzureWorkload", "SAPHanaDBInstance"))
}

Remember = Callable[["Note | None"], None]
Tell = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Note:
    """What a try leaves behind for the next one, written before a request is sent and after each answer.

    :param item: ARM id of what is backed up. A mapped task's index is only a position: items move.
    :param attempt: Airflow's ``max_tries``, which a retry keeps and a Clear raises.
    :param since: Unix time the wait for this backup began.
    :param asked: Unix time by Azure's clock before the request was sent.
    :param operation: id of the operation, once Azure named it.
    :param job: ARM id of the job, once Azure named it.
    """

    item: str
    attempt: int
    since: float
    asked: float = 0.0
    operation: str = ""
    job: str = ""

    @property
    def target(self) -> JobRef | OperationRef | None:
        """What this backup is known by; None before Azure answered."""
        vault = ProtectedItem.parse(self.item).vault
        if self.job:
            return JobRef.parse(self.job)
        return OperationRef(vault=vault, operation_id=self.operation) if self.operation else None

    def to_dict(self) -> JsonObject:
        """Return the note as plain JSON."""
        return {"version": _VERSION, **asdict(self)}

    @classmethod
    def from_dict(cls, stored: object) -> Note | None:
        """Read a note back; None when it has a form that this release does not know."""
        if not isinstance(stored, dict) or stored.get("version") != _VERSION:
            return None
        try:
            note = cls(**{name: kind(stored[name]) for name, kind in _FIELDS.items()})
            ProtectedItem.parse(note.item)
        except (KeyError, TypeError, ValueError):  # a wrong ARM id is a ValueError, too
            return None
        return note


_FIELDS: dict[str, Any] = {
    "item": str, "attempt": int, "since": float, "asked": float, "operation": str, "job": str
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Intent:
    """One backup that somebody wants, however often a worker has to begin anew to get it.

    :param item: what to back up.
    :param body: the request for it.
    :param attempt: as in :class:`Note`.
    :param now: Unix time.
    :param timeout: seconds the backup may take.
    :param earlier: Unix time since when an earlier try may have started it without leaving a note, or None
        when none can have: a running backup that is younger counts as our own.
    :param adopt_others: whether a running backup that somebody else started will do.
    :param accept_warnings: as everywhere.
    """

    item: ProtectedItem
    body: JsonObject
    attempt: int
    now: float
    timeout: float
    earlier: float | None = None
    adopt_others: bool = True
    accept_warnings: bool = False

    @property
    def deadline(self) -> float:
        """Unix time at which the wait for a backup started now would end."""
        return self.now + self.timeout

    def note(self, job: JobRef, since: float) -> Note:
        """Return the note to leave of a job that is waited for since a Unix time."""
        return Note(item=self.item.path, attempt=self.attempt, since=since, job=job.path)

    @property
    def backup_type(self) -> str:
        """``Full`` and so on for a database, an empty string for what knows one kind of backup only."""
        return str(self.body["properties"].get("backupType", ""))


@dataclass(frozen=True, kw_only=True)
class Secured:
    """The backup of an intent: its job and kind of item, since when it is waited for, its end if over.

    One that was left in a crowd has no job yet, but the note of its request.
    """

    ref: JobRef | None
    since: float
    adopted: bool
    kind: str = ""
    over: Job | None = None
    note: Note | None = None


def secure_backup(
    intent: Intent, note: Note | None, *, remember: Remember, tell: Tell, may_leave: bool = False
) -> Flow[Secured]:
    """Find the backup of this intent, or start it. However often it is asked, Azure makes one backup.

    :param note: what an earlier try of this task left.
    :param remember: keeps a note for later tries; None says that there is nothing to remember.
    :param tell: told in a sentence what is found and done.
    :param may_leave: whether a machine's accepted backup may be left without its job in a crowd, when many
        others have begun within a minute. Whoever allows it finds the job by the returned note.
    :raises AzureBackupBusyError: when another backup of the item runs and is not, or cannot be, adopted.
    :raises AzureBackupUnconfirmedStartError: when it stays unknown whether a backup was started.
    :raises AzureBackupError: when Azure refused it; then nothing was started.
    """
    if note and note.item.casefold() != intent.item.path.casefold():
        note = None
    search = _Search(intent, remember, tell, may_leave=may_leave and intent.item.kind == "vm")
    if note and (secured := (yield from search.listen(search.recall(note)))):
        return secured
    return (yield from search.listen(search.start(fresh=note is None and intent.earlier is None)))


def find_other(intent: Intent, failed: Job) -> Flow[Job | None]:
    """Return the backup of the intent's item that was in the way of another, running or over by now.

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
        """Follow a note to the backup it speaks of; None when that is none, or is over and will not do."""
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
                # The list may know it all the same, and another backup is not to be had back.
                self.tell(f"Azure does not know job {ref.job_id} any more; looking for it among all jobs")
                found = (yield from self._trace(note.asked)) if note.asked else None
                if found is None:
                    return None
                job, ref = found, found.ref
            if not job.is_being_cancelled:
                break
            # Neither a backup to wait for, nor out of the way of another.
            self.tell(f"This task has started {job}; waiting until it is cancelled")
            if self.at >= intent.deadline:
                raise AzureBackupBusyError(f"still being cancelled: {job}", job=job.facts())
            pause = flows.spread_pause(30.0)
        if job.is_running or (same and self._is_proven(job)):
            self.remember(replace(note, job=ref.path, attempt=intent.attempt, since=since))
            self.tell(f"This task has started it before, so no backup is asked for: {job}")
            return Secured(ref=ref, since=since, adopted=True, over=None if job.is_running else job)
        self.tell(f"An earlier {job}; this {'retry' if same else 'new attempt'} takes a new backup")
        return None

    def start(self, *, fresh: bool) -> Flow[Secured]:
        """Adopt the backup that runs, or start one.

        :param fresh: that no earlier try can have started one.
        """
        intent, item = self.intent, self.intent.item
        sent, pause, asked, busy_since = 0, 0.0, 0.0, 0.0
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
                self.tell(f"Cannot see whether a backup of {item.name} is running: {error}")
                running, self.crowd = None, CROWD
            if running:
                return self._adopt(running)
            # A request of unknown fate may show its job late, so the search always begins at the first one.
            asked = asked or self.azure_time()
            asking = Note(item=item.path, attempt=intent.attempt, since=intent.now, asked=asked)
            accepted: Note | None = None
            self.remember(asking)
            try:
                operation = yield from flows.trigger_backup(item, intent.body)
                accepted = replace(asking, operation=operation.operation_id)
                self.remember(accepted)
                self.tell(f"Azure accepted the backup of {item.name} as operation {operation.operation_id}")
                if self.may_leave and self.crowd >= CROWD:
                    return Secured(ref=None, since=intent.now, adopted=False, note=accepted)
                ref = yield from flows.wait_for_operation(operation)
            except AzureBackupBusyError as error:
                # What is in the way may be what a request of unknown fate has started.
                self.remember(asking if sent else None)
                busy_since = busy_since or self.at
                if not intent.adopt_others or self.at - busy_since >= BUSY_LIMIT:
                    raise
                self.tell(f"{error}. Looking for that backup")
                # It may not be in the list yet, and one that has just ended is in nobody's way.
                pause, blind = flows.spread_pause(next(busy_pauses), error), intent.deadline
                asked = asked if sent else 0.0
            except AzureBackupUnconfirmedStartError as error:
                sent += 1
                self.tell(f"{error} Looking for {SETTLED:g} s whether it was")
                found = yield from self._settle(asking, error)
                if found:
                    return self._adopt(found, ours=True)
                if accepted or sent >= SENDS:
                    raise
                self.tell(f"No backup of {item.name} was started; asking again")
                pause = 0.0
            except AzureBackupError:
                self.remember(None)  # refused, so there is nothing to find
                raise
            else:
                self.remember(replace(accepted, job=ref.path))
                self.tell(f"The backup of {item.name} is job {ref.job_id}")
                return Secured(ref=ref, since=intent.now, adopted=False, kind=item.kind)

    def running(self, until: float, pause: float = 0.0) -> Flow[Job | None]:
        """Return the running backup of the item that began last.

        :param until: Unix time to which faults are waited out.
        :param pause: seconds to let pass first.
        """
        found, _ = yield from self._find(partial(self._list, status="InProgress"), until, pause)
        # A Backup vault's list shows what is over as well.
        found = [job for job in found if job.is_running and not job.is_being_cancelled]
        return max(found, key=_began, default=None)

    def beside(self, failed: Job) -> Flow[Job | None]:
        """Return the backup of the item that went on when ``failed`` began; a list may show it late."""
        began, until = _began(failed), self.intent.deadline
        for pause in (0.0, *_PAUSES):
            running = yield from self.running(until, pause)
            if running:
                return running
            jobs, _ = yield from self._find(partial(self._began_since, began - _DAY, 0.0), until, 0.0)
            met = [job for job in jobs if _began(job) <= began <= _seconds(job.end_time)]
            if met := [job for job in met if job.ref != failed.ref]:
                return max(met, key=_began)
        return None

    def _adopt(self, job: Job, *, ours: bool = False) -> Secured:
        intent = self.intent
        ours = ours or (intent.earlier is not None and _began(job) >= intent.earlier - _MINUTE)
        if not (ours or intent.adopt_others):
            raise AzureBackupBusyError(
                f"a backup of {intent.item.name} is running already, and if_running is 'fail': {job}",
                job=job.facts(),
            )
        since = min(intent.now, _began(job)) if ours else intent.now
        self.remember(intent.note(job.ref, since))
        self.tell(f"There is a backup of {intent.item.name}, so no other is asked for: {job}")
        return Secured(ref=job.ref, since=since, adopted=True)

    def _trace_note(self, note: Note, operation: OperationRef | None) -> Flow[JobRef | None]:
        """Find the job of a try that broke off before it knew one."""
        if operation:
            self.tell(f"An earlier try broke off behind operation {note.operation}; following that")
            try:
                return (yield from flows.wait_for_operation(operation))
            except AzureBackupRefusedError:
                return None
            except AzureBackupUnconfirmedStartError as error:
                self.tell(str(error))
        self.tell("An earlier try broke off while it asked for a backup; looking whether one was started")
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
        """Return the first backup of the item that began since ``asked``, running or over.

        :param asked: Unix time by Azure's clock. While it is not long ago, a backup may still come to light.
        """
        began, pause, pauses = self.at, 0.0, chain(_PAUSES, repeat(_PAUSES[-1]))
        while True:
            found, unclear = yield from self._find(
                partial(self._began_since, asked, pause), self.intent.deadline, pause, asked - _SECOND
            )
            if found:
                return min(found, key=_began)
            long_ago = self.azure_time() - asked >= SETTLED + 2 * _SKEW
            if long_ago or self.at - began >= SETTLED:
                if unclear:
                    raise AzureBackupUnconfirmedStartError(
                        f"a backup that began since may be one of {self.intent.item.name}, or of another "
                        f"item of that name: {', '.join(map(str, unclear))}"
                    )
                return None
            pause = min(next(pauses), began + SETTLED - self.at)

    def _began_since(self, asked: float, pause: float) -> Call:
        slack = _SECOND if self.ahead is not None else 2 * _SKEW
        return self._list(
            started_after=_moment(asked - _SKEW),
            started_before=_moment(self.azure_time() + pause + slack),
        )

    def _list(self, **wanted: Unpack[calls.JobFilter]) -> Call:
        if not self.intent.item.vault.is_backup_vault:
            wanted["backup_management_type"] = self._kind()[0]
        return calls.list_jobs(self.intent.item.vault, **wanted)

    def _find(
        self, make: Callable[[], Call], until: float, pause: float, since: float = 0.0
    ) -> Flow[tuple[list[Job], list[Job]]]:
        """List jobs, and return those that back the item up and those that may.

        Azure names a database and the type of its backup only some moments after the job began.
        """
        for again in (*_PAUSES[:3], 0.0):
            jobs = yield from flows.insist(
                lambda: flows.list_jobs(make(), self.intent.item.vault),
                since=0.0,
                until=until,
                first_pause=pause,
            )
            self.crowd = sum(_began(job) >= self.azure_time() - _MINUTE for job in jobs)
            jobs = [job for job in jobs if _began(job) >= since and _OPERATION.fullmatch(job.operation)]
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
        first = calls.list_protected_items(self.intent.item.vault, *self._kind())
        pages = yield from flows.insist(lambda: flows.all_pages(first), since=0.0, until=until)
        return [found for page in pages for found in replies.read_items(page)]

    def _is_ours(self, job: Job, names: Sequence[FoundItem]) -> bool | None:
        """Whether a backup is one of the item, by what a list shows of it; None for "may be"."""
        item = self.intent.item
        if item.kind == "backupinstance":
            return job.owner.casefold() == item.path.casefold()
        if item.kind == "vm":
            return job.owner.casefold() == item.container.partition(";")[2].casefold()
        meant = [found for found in names if _shows(job, found)]
        if item.path.casefold() not in {found.item.path.casefold() for found in meant}:
            return False
        if len(meant) > 1:
            return None
        if not (wanted := self.intent.backup_type):
            return True
        match = _OPERATION.fullmatch(job.operation)
        shown = "".join(filter(str.isalpha, (match and match[1]) or "")).casefold()
        known = {backup_type.casefold() for _, types in REQUESTS.values() for backup_type in types}
        return shown == wanted.casefold() if shown in known else None

    def _kind(self) -> tuple[str, str]:
        return _LISTS[self.intent.item.kind]

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


def _shows(job: Job, found: FoundItem) -> bool:
    """Whether the job of a share or a database carries the names of this item."""
    name = found.friendly_name.casefold()
    if found.item.kind == "azurefileshare":
        account = found.item.container.rpartition(";")[2]
        return job.item.casefold() == name and job.owner.casefold() == account.casefold()
    return job.item.casefold() in {name, f"{name} [{found.server.casefold()}]"}


def _began(job: Job) -> float:
    return _seconds(job.start_time)


def _seconds(moment: str | None) -> float:
    return datetime.fromisoformat(moment).timestamp() if moment else 0.0


def _moment(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)

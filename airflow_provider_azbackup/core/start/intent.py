"""One job that a task wants: what it is, how it is asked for, and what is kept of it between tries.

:class:`Intent` says what a task wants, :class:`StartRecord` what an earlier try has done about it.
:mod:`~airflow_provider_azbackup.core.start.search` finds or starts the job.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from airflow_provider_azbackup.core.conversations.operations import with_backup_rule
from airflow_provider_azbackup.core.conversations.retry import retry_until
from airflow_provider_azbackup.core.model.jobs import Job
from airflow_provider_azbackup.core.model.resources import (
    BackupInstance,
    JobRef,
    OperationRef,
    ProtectedItem,
    Vault,
)
from airflow_provider_azbackup.core.model.validation import AcceptWarnings, IfRunning, StartedBy
from airflow_provider_azbackup.core.model.workloads import SCHEDULED_TYPES, WORKLOADS
from airflow_provider_azbackup.core.rest import requests
from airflow_provider_azbackup.core.wire import Flow, JsonObject, Request

# Seconds for which a worker asks again for a busy item before it waits longer.
BUSY_LIMIT = 300.0


_VERSION = 2


@dataclass(frozen=True, kw_only=True)
class StartRecord:
    """What a try leaves for the next one, written before a request is sent and after each answer.

    :param item: ARM id of what is backed up or restored. A mapped task's index is only a position: items
        move.
    :param attempt: what a retry keeps and a Clear changes, as
        :func:`~airflow_provider_azbackup.runtime.compat.attempt_of` returns it.
    :param since: Unix time the wait for this job began.
    :param attempt_began: Unix time by Azure's clock at which the first try of the attempt had begun.
    :param requested_at: Unix time by Azure's clock before the request was sent.
    :param operation: id of the operation, once Azure named it.
    :param job: ARM id of the job, once Azure named it.
    :param started_by: who started the job.
    :param fingerprint: what distinguishes this intent from others of the item; see :class:`Intent`.
    :param recovery_point: facts of the recovery point that is restored from.
    :param suffix: what the names of what a restore drill makes end in.
    """

    item: str
    attempt: str
    since: float
    attempt_began: float
    requested_at: float = 0.0
    operation: str = ""
    job: str = ""
    started_by: StartedBy = "this task"
    fingerprint: str = ""
    recovery_point: JsonObject = field(default_factory=dict)
    suffix: str = ""

    @property
    def target(self) -> JobRef | OperationRef | None:
        """What this job is known by; None before Azure answered."""
        return self.target_in(ProtectedItem.parse(self.item).vault)

    def target_in(self, vault: Vault) -> JobRef | OperationRef | None:
        """Return the same, to be asked in the secondary region if that of the item is asked there."""
        if self.job:
            ref = JobRef.parse(self.job)
            return replace(ref, vault=replace(ref.vault, secondary=vault.secondary))
        return OperationRef(vault=vault, operation_id=self.operation) if self.operation else None

    def to_dict(self) -> JsonObject:
        """Return the record as plain JSON."""
        of_restores = {name: value for name in _OF_RESTORES if (value := getattr(self, name))}
        return {"version": _VERSION, **{name: getattr(self, name) for name in _FIELDS}, **of_restores}

    @classmethod
    def from_dict(cls, stored: object) -> StartRecord | None:
        """Read a record back; None when it has a form that this release does not know."""
        if not isinstance(stored, dict) or stored.get("version") != _VERSION:
            return None
        try:
            of_restores = {name: kind(stored.get(name, kind())) for name, kind in _OF_RESTORES.items()}
            record = cls(**{name: kind(stored[name]) for name, kind in _FIELDS.items()}, **of_restores)
            ProtectedItem.parse(record.item)
        except (KeyError, TypeError, ValueError):  # a wrong ARM id is a ValueError, too
            return None
        return record


_FIELDS: dict[str, Any] = {
    "item": str, "attempt": str, "since": float, "attempt_began": float, "requested_at": float,
    "operation": str, "job": str, "started_by": str,
}  # fmt: skip


_OF_RESTORES: dict[str, Any] = {"fingerprint": str, "recovery_point": dict, "suffix": str}


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A request that is ready to be sent, and facts of the recovery point it restores from.

    :param suffix: as in :class:`StartRecord`.
    """

    request: Request
    recovery_point: JsonObject = field(default_factory=dict)
    suffix: str = ""


@dataclass(frozen=True, kw_only=True)
class Intent:
    """One job that somebody wants, however often a worker has to start again to get it.

    :param item: what it is of.
    :param attempt: as in :class:`StartRecord`.
    :param now: Unix time.
    :param timeout: seconds the job may take.
    :param attempt_began: Unix time by Azure's clock at which the attempt had begun; None when it begins now.
    :param is_blind: whether an earlier try may have started a job and left no record.
    :param if_running: what to do about a running job of this kind that began before this attempt.
    :param accept_warnings: as everywhere.
    """

    item: ProtectedItem
    attempt: str
    now: float
    timeout: float
    attempt_began: float | None = None
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
    def fingerprint(self) -> str:
        """What distinguishes this intent from another one of the item; empty where all are alike."""
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

    # What distinguishes the jobs of one item by where they lead to, for intents that lead somewhere. Only the
    # details of a job show it.

    @property
    def is_marked(self) -> bool:
        """Whether only a job that carries this task's own mark is its job."""
        return False

    @property
    def details_matter(self) -> bool:
        """Whether the details of a job could say whose it is."""
        return False

    def mark_on(self, job: Job) -> str:
        """Return this task's own mark on a job; nothing where there is none."""
        return ""

    def leads_elsewhere(self, job: Job) -> bool:
        """Whether a job shows that it is not this intent's."""
        return False

    def point_of(self, job: Job) -> JsonObject:
        """Return what a job shows of the recovery point that it restores."""
        return {}


@dataclass(frozen=True, kw_only=True)
class BackupIntent(Intent):
    """One backup that a task wants.

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
            body = yield from retry_until(
                lambda: with_backup_rule(item, self.body), since=self.now, until=self.now + BUSY_LIMIT
            )
        return Prepared(request=requests.trigger_backup(self.item, body))

    def is_kind_of(self, job: Job) -> bool:
        """Whether it is a backup, be it of a log."""
        return job.action == self.noun

    def fits(self, job: Job) -> bool | None:
        """Whether a backup of the item is of the type that is wanted; None for "may be"."""
        if not (wanted := self.backup_type):
            return True
        shown = "".join(filter(str.isalpha, job.backup_type)).casefold()
        known = {name.casefold() for name in SCHEDULED_TYPES.union(*(each for _, each in WORKLOADS.values()))}
        return shown == wanted.casefold() if shown in known else None

"""What a job is, and the one table that decides whether it opens the gate.

Source: https://learn.microsoft.com/azure/backup/backup-azure-arm-userestapi-managejobs
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from types import MappingProxyType
from typing import Any

from airflow_provider_azbackup.core.model.error_codes import ErrorCode, find_error_code
from airflow_provider_azbackup.core.model.resources import JobRef
from airflow_provider_azbackup.core.model.validation import AcceptWarnings, WaitUntil, read_warnings
from airflow_provider_azbackup.core.wire import JsonObject
from airflow_provider_azbackup.exceptions import (
    AzureBackupBusyError,
    AzureBackupJobFailedError,
    AzureBackupLimitError,
    AzureBackupRefusedError,
)


class Outcome(Enum):
    """How a job stands, in the five words on which every decision of this package is based."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    WARNED = "warned"
    FAILED = "failed"
    CANCELLED = "cancelled"


# Azure's status words, in lower case: seven of Recovery Services vaults, four more of Backup vaults. A word
# that is missing here is newer than this table. It must neither open the gate nor end the wait for a running
# backup, so it counts as running until the deadline.
OUTCOMES = MappingProxyType(
    {
        "inprogress": Outcome.RUNNING,
        "cancelling": Outcome.RUNNING,
        "started": Outcome.RUNNING,
        "paused": Outcome.RUNNING,
        "completed": Outcome.SUCCEEDED,
        "success": Outcome.SUCCEEDED,
        "completedwithwarnings": Outcome.WARNED,
        "successwithwarning": Outcome.WARNED,
        "failed": Outcome.FAILED,
        "cancelled": Outcome.CANCELLED,
        # The zero of Azure's enumeration, never seen in traffic. It is not a state of a job that can still
        # succeed.
        "invalid": Outcome.FAILED,
    }
)

# A VM backup cancelled during the transfer ends CompletedWithWarnings, with this among its errors.
CANCELLED_ERROR = "UserErrorJobSuccessfullyCancelled"
_CANCELLED_CODE = "400158"


@dataclass(frozen=True, kw_only=True)
class JobError:
    """One entry of a job's ``errorDetails``; file shares and MARS agents leave the title out.

    ``code`` is a number, ``title`` the symbolic code: the only one that a Backup vault has. ``cause`` is what
    a database server or a cluster has reported to Azure Backup, where Azure passes that on.
    """

    code: str = ""
    title: str = ""
    message: str = ""
    recommendations: tuple[str, ...] = ()
    cause: str = ""

    @property
    def is_cancellation(self) -> bool:
        """Whether this error means that someone cancelled the job."""
        return self.title.casefold() == CANCELLED_ERROR.casefold() or self.code == _CANCELLED_CODE

    @property
    def meaning(self) -> ErrorCode:
        """What this error means, of :data:`~airflow_provider_azbackup.core.model.error_codes.ERROR_CODES`."""
        return find_error_code(self.title, number=self.code, texts=(self.message, *self.recommendations))

    def __str__(self) -> str:
        cause = self.cause and f"Cause: {self.cause}"
        parts = (self.title, self.code and f"({self.code}):", self.message, cause)
        return " ".join(part for part in parts if part)


@dataclass(frozen=True, kw_only=True)
class JobTask:
    """One phase of a job; ``progress`` is Azure's own text, such as ``63.5 GBs / 127 GBs Transferred``.

    ``bytes_done`` is how much it has moved, where Azure reports that as a number.
    """

    name: str
    status: str
    progress: str = ""
    bytes_done: int | None = None

    @property
    def is_running(self) -> bool:
        """Whether this phase is the one going on."""
        return self.status.casefold() in {"inprogress", "started"}


@dataclass(frozen=True, kw_only=True)
class Job:
    """How one job stood when Azure was asked. Times are ISO 8601 in UTC, durations seconds.

    ``ref`` is the job as it was asked for, ``body`` what is read of Azure's own JSON: it crosses from the
    triggerer to the worker, where the same reader reads it again. ``operation`` is Azure's word for what the
    job does, such as ``Backup (Full)``; ``category`` is the ``operationCategory`` of a Backup vault's job,
    such as ``Backup``.
    ``item`` is the friendly name of what is backed up, ``owner`` its container or its storage account, or the
    ARM id of a backup instance; ``workload`` is the kind of a database, such as ``SQLDataBase``.
    """

    ref: JobRef
    status: str
    operation: str = ""
    category: str = ""
    item: str = ""
    owner: str = ""
    backup_management_type: str = ""
    workload: str = ""
    activity_id: str = ""
    start_time: str | None = None
    end_time: str | None = None
    duration_seconds: float | None = None
    percent: float | None = None
    message: str = ""
    errors: tuple[JobError, ...] = ()
    tasks: tuple[JobTask, ...] = ()
    details: tuple[tuple[str, str], ...] = ()
    body: JsonObject = field(default_factory=dict, repr=False, compare=False)

    @property
    def outcome(self) -> Outcome:
        """How the job stands. If any of its errors says that it was cancelled, it proves no backup."""
        found = OUTCOMES.get(self.status.casefold(), Outcome.RUNNING)
        over_well = found in (Outcome.SUCCEEDED, Outcome.WARNED)
        return Outcome.CANCELLED if over_well and any(e.is_cancellation for e in self.errors) else found

    @property
    def is_running(self) -> bool:
        """Whether the job may still come to another end."""
        return self.outcome is Outcome.RUNNING

    @property
    def action(self) -> str:
        """What the job does, as one word in lower case: ``backup``, ``restore``, or another word of Azure's.

        The category decides; the operation does only where there is no category.
        """
        found = _OPERATION.fullmatch(self.operation)
        return (self.category or (found[1] if found else self.operation)).casefold()

    @property
    def backup_type(self) -> str:
        """The type of a database's backup, such as ``Full``; empty where Azure does not name one."""
        found = _OPERATION.fullmatch(self.operation)
        return ((found[2] or found[3]) if found else "") or ""

    @property
    def is_backup(self) -> bool:
        """Whether it is a backup that can be restored by itself; the backup of a log is not."""
        return self.action == "backup" and self.backup_type.casefold() != "log"

    @property
    def is_restore(self) -> bool:
        """Whether it is a restore: from the archive or not, in the same region or in another one."""
        return self.action in ("restore", "restorewithrehydrate", "crossregionrestore")

    @property
    def container(self) -> str:
        """What holds the item: a VM's container, a share's storage account, a database's server.

        Empty for a Backup vault, which names the instance in full.
        """
        if self.ref.vault.is_backup_vault:
            return ""
        found = _SERVER.search(self.item)
        return self.owner or (found[1] if found else "")

    @property
    def item_id(self) -> str | None:
        """ARM id of the backup instance; None in a Recovery Services vault, whose jobs do not name one."""
        return self.owner if self.ref.vault.is_backup_vault and self.owner else None

    @property
    def began(self) -> float:
        """Unix time of its start by Azure's clock; 0 if Azure does not report it."""
        return datetime.fromisoformat(self.start_time).timestamp() if self.start_time else 0.0

    @property
    def ended(self) -> float:
        """Unix time of its end by Azure's clock; 0 if Azure does not report it."""
        return datetime.fromisoformat(self.end_time).timestamp() if self.end_time else 0.0

    @property
    def size_bytes(self) -> int | None:
        """How much was backed up or moved, if Azure reports it. A list of jobs does not."""
        for name, value in self.details:
            unit = _SIZES.get(name.casefold())
            if unit is not None and (found := _NUMBER.match(value)) and len(found[0]) <= _MOST_DIGITS:
                return round(float(found[0]) * unit)
        return None

    @property
    def is_being_cancelled(self) -> bool:
        """Whether Azure is cancelling it on request."""
        return self.status.casefold() == "cancelling"

    @property
    def obstacle(self) -> AzureBackupRefusedError | None:
        """Why Azure did not carry it out for now: a busy item or a limit. None for any other outcome."""
        if self.outcome is not Outcome.FAILED:
            return None
        for error in self.errors:
            if issubclass(error.meaning.error, AzureBackupBusyError | AzureBackupLimitError):
                return error.meaning.error(
                    f"{self} failed: {error}",
                    code=error.title or error.code,
                    retry_after=error.meaning.retry_after,
                    job=self.facts(),
                )
        return None

    @property
    def is_recognised(self) -> bool:
        """Whether :data:`OUTCOMES` knows the status word."""
        return self.status.casefold() in OUTCOMES

    @property
    def snapshot_taken(self) -> bool:
        """Whether this backup of a VM has taken its snapshot, from which it can be restored, and still runs.

        It is False once the job is being cancelled, and in a state that is not known.
        """
        return (
            self.backup_management_type.casefold() == "azureiaasvm"
            and self.status.casefold() == "inprogress"
            and any(
                task.name.casefold() == "take snapshot" and task.status.casefold() == "completed"
                for task in self.tasks
            )
        )

    def is_enough(self, wait_until: WaitUntil) -> bool:
        """Whether there is nothing left to wait for: it is over, or no more than its snapshot is wanted."""
        return not self.is_running or (wait_until == "snapshot" and self.snapshot_taken)

    @property
    def phase(self) -> str:
        """The task that runs now with its progress, or an empty string."""
        running = [task for task in self.tasks if task.is_running]
        return " ".join(part for part in (running[0].name, running[0].progress) if part) if running else ""

    @property
    def failed_tasks(self) -> tuple[str, ...]:
        """Names of the phases that failed or were cancelled."""
        return tuple(task.name for task in self.tasks if task.status.casefold() in {"failed", "cancelled"})

    def digest(self) -> dict[str, Any]:
        """Return what an event about the job carries: which, of what, how it ended, from when to when.

        Keys may be added; ``version`` goes up when one is taken away or means something else.
        """
        return {
            "version": 1,
            "job_id": self.ref.job_id,
            "arm_id": self.ref.path,
            "vault": self.ref.vault.name,
            "item": self.item,
            "item_id": self.item_id,
            "container": self.container,
            "operation": self.operation,
            "category": self.category,
            "status": self.status,
            "outcome": self.outcome.value,
            "start_time": self.start_time,
            "end_time": self.end_time,
            "duration_seconds": self.duration_seconds,
            "size_bytes": self.size_bytes,
        }

    def facts(self) -> dict[str, Any]:
        """Return the job as a plain dict: the XCom ``job``, and ``job`` of an error."""
        return {
            **self.digest(),
            "backup_management_type": self.backup_management_type,
            "percent": self.percent,
            "phase": self.phase,
            "message": self.message,
            "errors": [
                {**asdict(error), "recommendations": [*error.recommendations]} for error in self.errors
            ],
            "tasks": [asdict(task) for task in self.tasks],
            "failed_tasks": [*self.failed_tasks],
            "details": dict(self.details),
            "activity_id": self.activity_id,
        }

    def __str__(self) -> str:
        """One line for a log: which job of what, how it stands."""
        item = f"of {self.item}" if self.item else ""
        # A VM's container is "iaasvmcontainerv2;<group>;<name>"; a database's name has its server already.
        within = f"in {self.container.split(';')[-2:][0]}" if self.container and self.owner else ""
        what = " ".join(part for part in (self.operation, item, within) if part)
        shown = any(task.is_running and task.progress for task in self.tasks)
        percent = f"{self.percent:g} %" if self.is_running and self.percent is not None and not shown else ""
        state = ", ".join(part for part in (self.status, self.phase, percent) if part)
        return f"job {self.ref.job_id} ({what or 'unnamed'}): {state}"

    def summary(self) -> str:
        """One line for a log about the end: with how long it took, how much it was, and its phases."""
        took, size = self.duration_seconds, self.size_bytes
        phases = ", ".join(f"{task.name} {task.status}" for task in self.tasks)
        more = (
            f"after {timedelta(seconds=round(took))}" if took is not None and not self.is_running else "",
            f"{size / 2**20:.0f} MB" if size else "",
            f"phases: {phases}" if phases and not self.is_running else "",
        )
        return ", ".join((str(self), *(part for part in more if part)))


# What the sizes of a job are called in its details, in lower case, and the bytes in one of them.
_SIZES = MappingProxyType(
    {"backup size": 2**20, "data transferred (in mb)": 2**20, "datatransferredinbytes": 1}
)
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
# A size of more digits is unknown.
_MOST_DIGITS = 30
# "Backup", and once Azure has looked at a database "Backup (Full)"; of a Backup vault also "Backup:full" and
# "Tiering:Backup", where the first word is the category.
_OPERATION = re.compile(r"(\w+)(?: \(([^)]*)\)|:(.*))?")
# A database with its server: "payroll [sqlvm]".
_SERVER = re.compile(r" \[([^\]]+)\]$")


def is_proven(job: Job, *, accept_warnings: AcceptWarnings, wait_until: WaitUntil = "completion") -> bool:
    """Decide whether the end of ``job`` opens the gate: the one decision of operators, sensors and hooks.

    :param job: the job as last read.
    :param accept_warnings: which warnings to let pass; True is all, a collection holds the codes
        to accept.
    :param wait_until: ``snapshot`` lets a VM's backup pass that goes on after its snapshot. Of a job that is
        over the end counts all the same.
    :return: True when it opens, False when the job is still running.
    :raises AzureBackupJobFailedError: if the job is over and proves no backup.
    :raises AzureBackupConfigError: if ``accept_warnings`` is neither a boolean nor a collection of codes.
    """
    accepted = read_warnings("accept_warnings", accept_warnings)
    if job.outcome is Outcome.SUCCEEDED:
        return True
    if job.is_running:
        return job.is_enough(wait_until)
    refusal = _refusal(job, accepted) if job.outcome is Outcome.WARNED else _ENDS[job.outcome]
    if not refusal:
        return True
    raise AzureBackupJobFailedError(
        _failure_text(job, refusal),
        code=next((e.title for e in job.errors if e.title), None),
        job=job.facts(),
    )


def warning_codes(job: Job) -> list[str]:
    """Return the codes of the warnings that a job has ended with, by symbol where it has one."""
    if job.outcome is not Outcome.WARNED:
        return []
    return list(dict.fromkeys(error.title or error.code or "without a code" for error in job.errors))


def _refusal(job: Job, accepted: bool | tuple[str, ...]) -> str:
    """Return why the warnings of a job are not accepted; an empty string if all are."""
    if accepted is True:
        return ""
    if not accepted:
        return f"ended with warnings, and accept_warnings is {'False' if accepted is False else 'empty'}"
    if not job.errors:
        return "ended with warnings, and Azure names no code for them that accept_warnings could contain"
    known = set(accepted)
    others = [e for e in job.errors if known.isdisjoint((e.title.casefold(), e.code.casefold()))]
    if not others:
        return ""
    return f"ended with warnings that accept_warnings does not contain: {'; '.join(map(str, others))}"


_ENDS = MappingProxyType({Outcome.FAILED: "failed", Outcome.CANCELLED: "was cancelled"})


def _failure_text(job: Job, end: str) -> str:
    lines = [
        f"{job.operation or 'Job'} of {job.item or 'an unnamed item'} {end} (status {job.status}).",
        *(f"Error: {error}" for error in job.errors),
        *(f"Recommended: {text}" for error in job.errors for text in error.recommendations),
        f"Azure adds: {job.message}" if job.message else "",
        f"Tasks not done: {', '.join(job.failed_tasks)}" if job.failed_tasks else "",
        f"Job: {job.ref.path}",
        f"Backup instance: {job.item_id}" if job.item_id else "",
        f"Container: {job.owner}" if job.owner and not job.item_id else "",
        f"Activity id: {job.activity_id}" if job.activity_id else "",
    ]
    return "\n".join(line for line in lines if line)

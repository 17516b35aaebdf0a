"""Jobs and operations as functions of time, and the plans that decide how they run and end.

A job stores when it started, how long it lasts and how it ends. What it looks like at a moment is computed
from that. Durations are emulated seconds divided by the emulator's speed, and moments are Unix time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from azure_backup_emulator.model.checks import made
from azure_backup_emulator.model.items import VALIDATION, Item, Phase
from azure_backup_emulator.model.obstacles import OBSTACLES

Json = dict[str, Any]
OPERATION_SECONDS = 1.0
CANCEL_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a job ends: the status word, and what becomes of the task that was running."""

    status: str
    task: str


ENDINGS: Mapping[str, Ending] = {
    "Completed": Ending(status="Completed", task="Completed"),
    "Failed": Ending(status="Failed", task="Failed"),
    "Cancelled": Ending(status="Cancelled", task="Cancelled"),
    "CompletedWithWarnings": Ending(status="CompletedWithWarnings", task="Failed"),
    "CancelledInTransfer": Ending(status="CompletedWithWarnings", task="Cancelled"),
    "Never": Ending(status="InProgress", task="InProgress"),
}
OPERATION_ENDINGS = ("Succeeded", "Failed", "InProgress", "NoProperties", "JobIds")
VALIDATIONS = ("Succeeded", "Failed", "InProgress")
BUSY = (None, "job", "operation", "conflict")
CONSISTENCIES = ("AppConsistent", "FileSystemConsistent", "CrashConsistent")
CANCEL = ("accepted", "declined", "ignored")
QUIRKS = (
    "integer-actions",
    "v2-job-types",
    "negative-duration",
    "clock-duration",
    "arm-job-id",
    # Of Backup vaults: Started, Success, SuccessWithWarning; Paused in the middle third of a job.
    "older-words",
    "pauses",
    "other-casing",
    "bare-job-id",
    "no-category",
    "nested-errors",
    "numeric-tiers",
    "older-vm-jobs",
)
# Of a job, its operation's family in a Backup vault; anything else is Management.
CATEGORIES = ("Backup", "Restore", "Tiering")
THREATS = (None, "Unknown", "Healthy", "UnHealthy", "Warning", "NotAvailable")


def one_of(what: str, value: str | None, allowed: Sequence[str | None] | Mapping[str, Any]) -> None:
    if value not in allowed:
        raise ValueError(f"{what} {value!r} is not one of {', '.join(map(str, allowed))}")


def older_vm_jobs(quirks: Sequence[str]) -> bool:
    """Whether the backups of VMs look as they did before 2026."""
    return "older-vm-jobs" in quirks or "integer-actions" in quirks


@dataclass(frozen=True, kw_only=True)
class Point:
    """What is special about the recovery point of a backup. Seconds are emulated ones in a plan.

    :param before_start: the point's time is so many seconds before its job's start: the clock of a VM.
    :param after_end: the point's time is so many seconds after its job's end: the clock of a storage account.
    :param partial: Azure marks it as partial: ``isPartialRP``, in a Backup vault ``recoveryPointState``.
    :param soft_deleted: ``recoveryPointProperties.isSoftDeleted``, of a Recovery Services vault.
    :param expires: the point expires so many seconds after its time; below 0, it has expired before.
    :param threat: a word of ``THREATS`` for ``threatStatus``, which is shown in words from api-version
        2026-07-01 on and as the number 0 before that; of a Recovery Services vault.
    :param disks: how many disks the VM has attached. The first is the OS disk.
    :param excluded: names of the disks that the backup leaves out, of those attached.
    :param tiers: states by tier in place of those that the job leaves, such as ``{"InstantRP": "Deleted"}``.
    :param vaulted_after: so many seconds after the job's end, the same point also appears in the VaultStore.
    """

    before_start: float | None = None
    after_end: float | None = None
    partial: bool = False
    soft_deleted: bool = False
    expires: float | None = None
    threat: str | None = None
    disks: int = 1
    excluded: Sequence[str] = ()
    tiers: Mapping[str, str] | None = None
    vaulted_after: float | None = None

    def __post_init__(self) -> None:
        one_of("threat", self.threat, THREATS)
        if self.before_start is not None and self.after_end is not None:
            raise ValueError("a point is before its job's start or after its end, not both")
        if len(self.excluded) >= self.disks > 1 or (self.excluded and self.disks == 1):
            raise ValueError(f"of {self.disks} disks, {len(self.excluded)} cannot be left out")


_SECONDS = ("before_start", "after_end", "expires", "vaulted_after")


def in_real_seconds(point: Mapping[str, Any], speed: float) -> Json:
    """The fields of a ``Point`` with their emulated seconds divided by the speed."""
    made(Point, point, "point")
    return {
        key: value / speed if key in _SECONDS and value is not None else value for key, value in point.items()
    }


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How the next backups and restores of an item run and end.

    :param ending: a word of ``ENDINGS``.
    :param seconds: how long the job lasts, in emulated seconds; None is the workload's median.
    :param error: the ``errorDetails`` entry of a job that does not end well; None is a recorded one.
    :param operation: how the operation of the trigger ends, a word of ``OPERATION_ENDINGS``.
    :param validation: how the check of a restore ends: a word of ``VALIDATIONS``.
    :param obstacles: what the check of a restore finds, and makes a restore fail: words of ``OBSTACLES``.
    :param operation_seconds: how long that operation stays InProgress, in emulated seconds.
    :param busy: how a backup or restore is refused while another one of the item runs, a word of ``BUSY``;
        None does not refuse it, and both run.
    :param busy_error: ``code`` and ``message`` of the refusal; None takes those of a running backup.
    :param visible_after: after how many emulated seconds lists show the job.
    :param cancel: how a cancel request is answered, a word of ``CANCEL``.
    :param cancel_seconds: how long the job stays Cancelling, in emulated seconds.
    :param consistency: consistency of the recovery point of a VM, a word of ``CONSISTENCIES``.
    :param quirks: words of ``QUIRKS``, each a shape Azure was recorded to answer with.
    :param point: what is special about the recovery point: fields of ``Point``.
    """

    ending: str = "Completed"
    seconds: float | None = None
    error: Mapping[str, Any] | None = None
    operation: str = "Succeeded"
    validation: str = "Succeeded"
    obstacles: Sequence[str] = ()
    operation_seconds: float = OPERATION_SECONDS
    busy: str | None = None
    busy_error: Mapping[str, str] | None = None
    visible_after: float = 0.0
    cancel: str = "accepted"
    cancel_seconds: float = CANCEL_SECONDS
    consistency: str = "AppConsistent"
    quirks: Sequence[str] = ()
    point: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        one_of("ending", self.ending, ENDINGS)
        one_of("operation", self.operation, OPERATION_ENDINGS)
        one_of("validation", self.validation, VALIDATIONS)
        for obstacle in self.obstacles:
            one_of("obstacle", obstacle, OBSTACLES)
        one_of("busy", self.busy, BUSY)
        one_of("cancel", self.cancel, CANCEL)
        one_of("consistency", self.consistency, CONSISTENCIES)
        for quirk in self.quirks:
            one_of("quirk", quirk, QUIRKS)
        made(Point, self.point, "point")


@dataclass(kw_only=True)
class Job:
    """One job. ``lasts``, ``..._lasts`` and ``..._after`` are real seconds, already divided by the speed."""

    id: str
    item: Item
    operation: str
    starts: float
    lasts: float
    ending: str
    error: Mapping[str, Any] | None = None
    refused: bool = False  # because of another backup of the item
    quirks: Sequence[str] = ()
    cancel: str = "accepted"
    cancel_lasts: float = 0.0
    point_after: float = 0.0
    named_after: float = 0.0
    visible_after: float = 0.0
    consistency: str = "AppConsistent"
    backup_type: str = "Full"
    expiry: float | None = None
    region: str = ""  # the secondary region that it runs in
    request: Json = field(default_factory=dict)
    cancelled_at: float | None = None
    pinned: tuple[str, float] | None = None
    facts: Json = field(default_factory=dict)  # the fields of ``Point`` in real seconds

    @property
    def category(self) -> str:
        """The family of the operation: ``Tiering:Backup`` is Tiering, ``DeleteBackupData`` Management."""
        family = self.operation.partition(":")[0]
        return family if family in CATEGORIES else "Management"

    @property
    def point(self) -> Point:
        """What is special about the recovery point."""
        return Point(**self.facts)

    @property
    def point_at(self) -> float:
        """The time of the recovery point, by whatever clock it is written."""
        point = self.point
        if point.before_start is not None:
            return self.starts - point.before_start
        end = self.finish()[0]
        if point.after_end is not None and end < math.inf:
            return end + point.after_end
        return self.starts + self.point_after

    @property
    def phases(self) -> tuple[Phase, ...]:
        phases = self.item.workload.phases.get(self.operation.partition(":")[0], ())
        if phases and phases[-1].task == VALIDATION:
            # Without a validation the transfer is the last task, also where the backup does not get that far.
            if older_vm_jobs(self.quirks):
                phases = (*phases[:-2], replace(phases[-2], ends=1.0))
            elif self.ending not in ("Completed", "Never"):
                phases = (*phases[:-2], replace(phases[-2], ends=1.0), replace(phases[-1], begins=math.inf))
        # A backup fails in its first task, and the later tasks never start.
        if self.ending == "Failed" and self.cancelled_at is None and len(phases) > 1:
            return (replace(phases[0], ends=1.0), *(replace(each, begins=math.inf) for each in phases[1:]))
        return phases

    def finish(self) -> tuple[float, str]:
        """Return when the job ends, and how (a word of ``ENDINGS``)."""
        if self.pinned:
            word, moment = self.pinned
            return (moment, word) if word in ENDINGS else (math.inf, "Never")
        natural = math.inf if self.ending == "Never" else self.starts + self.lasts
        if self.cancelled_at is None or self.cancelled_at + self.cancel_lasts >= natural:
            return natural, self.ending
        phases = self.phases
        in_transfer = len(phases) > 1 and self.cancelled_at >= self.starts + phases[0].ends * self.lasts
        return self.cancelled_at + self.cancel_lasts, "CancelledInTransfer" if in_transfer else "Cancelled"

    def ended(self, now: float) -> str | None:
        """Return how the job ended (a word of ``ENDINGS``), or None while it runs."""
        moment, ending = self.finish()
        return ending if now >= moment else None

    def status(self, now: float) -> str:
        if self.pinned:
            return ENDINGS[self.pinned[0]].status if self.pinned[0] in ENDINGS else self.pinned[0]
        ending = self.ended(now)
        if ending:
            return ENDINGS[ending].status
        return "InProgress" if self.cancelled_at is None else "Cancelling"

    def tasks(self, now: float) -> list[tuple[str, str, float | None, float | None]]:
        """Return name, status, begin and end of each task; a moment in the future is None."""
        finish, ending = self.finish()
        return [self._task(phase, now, finish, ending) for phase in self.phases]

    def _task(
        self, phase: Phase, now: float, finish: float, ending: str
    ) -> tuple[str, str, float | None, float | None]:
        begins = self.starts + max(phase.begins * self.lasts, self.named_after)
        ends = math.inf if phase.ends == 1.0 else self.starts + phase.ends * self.lasts
        if now < begins or begins >= finish:
            return phase.task, "NotStarted", None, None
        if now < min(ends, finish):
            return phase.task, "InProgress", begins, None
        return phase.task, "Completed" if ends < finish else ENDINGS[ending].task, begins, min(ends, finish)

    def share_done(self, now: float) -> float:
        """Return how much of the transfer is done, from 0 to 1. A job that never ends stops at 0.99."""
        transfer = next((phase for phase in self.phases if phase.task.startswith("Transfer")), Phase(task=""))
        begins, lasts = transfer.begins, transfer.ends - transfer.begins
        done = ((min(now, self.finish()[0]) - self.starts) / max(self.lasts, 1e-9) - begins) / lasts
        return max(0.0, min(done, 1.0 if self.ended(now) else 0.99))

    def snapshot_taken(self, now: float) -> bool:
        """Return whether the recovery point exists: after the first task, even if the second one fails."""
        return self.category == "Backup" and any(task[1] == "Completed" for task in self.tasks(now)[:1])


@dataclass(frozen=True, kw_only=True)
class Operation:
    """What a 202 response refers to. It ends when the job exists, and then contains the job's id.

    ``obstacles`` are the result of the check of a restore, which makes no job; None for anything else.
    """

    id: str
    starts: float
    ready: float
    ending: str = "Succeeded"
    job: Job | None = None
    error: Mapping[str, str] | None = None
    obstacles: Sequence[str] | None = None

"""What the emulated service knows. State is a function of time: no timers, no threads, no sleeping.

A job stores when it started, how long it lasts and how it ends; what it looks like at a moment is computed
from that. Durations are emulated seconds divided by the emulator's speed, moments are Unix time.
"""

from __future__ import annotations

import hashlib
import math
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

Json = dict[str, Any]


@dataclass(kw_only=True, eq=False)
class RefusalError(Exception):
    """A request that is answered with an error envelope instead of a result."""

    status: int
    code: str
    message: str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One task of a job, as fractions of the job's whole duration."""

    task: str
    begins: float = 0.0
    ends: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Workload:
    """One kind of protected item. Durations are medians of recorded jobs, in seconds, by operation."""

    management: str
    item_type: str
    job_type: str
    backup_request: str
    restore_request: str
    phases: Mapping[str, tuple[Phase, ...]]
    seconds: Mapping[str, float]
    point_after: float  # seconds from the job's start to the time of its recovery point


_TO_VAULT = (Phase(task="Transfer data to vault"),)
_FROM_VAULT = (Phase(task="Transfer data from vault"),)
WORKLOADS: Mapping[str, Workload] = {
    "VM": Workload(
        management="AzureIaasVM",
        item_type="VM",
        job_type="AzureIaaSVMJob",
        backup_request="IaasVMBackupRequest",
        restore_request="IaasVMRestore",
        phases={
            "Backup": (
                Phase(task="Take Snapshot", ends=0.186),
                Phase(task="Transfer data to vault", begins=0.2),
            ),
            "Restore": _FROM_VAULT,
        },
        seconds={"Backup": 2480, "Restore": 187},
        point_after=8,
    ),
    "AzureFileShare": Workload(
        management="AzureStorage",
        item_type="AzureFileShare",
        job_type="AzureStorageJob",
        backup_request="AzureFileShareBackupRequest",
        restore_request="AzureFileShareRestore",
        phases={"Backup": (Phase(task="Take Snapshot"),)},
        seconds={"Backup": 3, "Restore": 34},
        point_after=1,
    ),
    "SQLDataBase": Workload(
        management="AzureWorkload",
        item_type="SQLDataBase",
        job_type="AzureWorkloadJob",
        backup_request="AzureWorkloadBackupRequest",
        restore_request="AzureWorkloadSQL",
        # The first recorded answers of an SQL job name no task yet and call the operation plain "Backup".
        phases={
            "Backup": (Phase(task="Transfer data to vault", begins=0.08),),
            "Restore": (Phase(task="Transfer data from vault", begins=0.08),),
        },
        seconds={"Backup": 182, "Restore": 272},
        point_after=20,
    ),
    "SAPHanaDatabase": Workload(
        management="AzureWorkload",
        item_type="SAPHanaDatabase",
        job_type="AzureWorkloadJob",
        backup_request="AzureWorkloadBackupRequest",
        restore_request="AzureWorkloadSAPHana",
        phases={"Backup": _TO_VAULT, "Restore": _FROM_VAULT},
        seconds={"Backup": 182, "Restore": 272},
        point_after=20,
    ),
}
OTHER_SECONDS = 60.0  # ConfigureBackup, DisableBackup and the like
OPERATION_SECONDS = 1.0
CANCEL_SECONDS = 10.0
BUSY_SECONDS = 5.0


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
BUSY = ("job", "operation", "conflict")
CANCEL = ("accepted", "declined", "ignored")
QUIRKS = ("integer-actions", "v2-job-types", "negative-duration", "clock-duration", "arm-job-id")


def _one_of(what: str, value: str, allowed: Sequence[str] | Mapping[str, Any]) -> None:
    if value not in allowed:
        raise ValueError(f"{what} {value!r} is none of {', '.join(allowed)}")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How the coming backups and restores of an item go.

    :param ending: a word of ``ENDINGS``.
    :param seconds: how long the job lasts, in emulated seconds; None is the workload's median.
    :param error: the ``errorDetails`` entry of a job that does not end well; None is a recorded one.
    :param operation: how the operation behind the trigger ends, a word of ``OPERATION_ENDINGS``.
    :param operation_seconds: how long that operation stays InProgress, in emulated seconds.
    :param busy: what happens to a backup asked for while another runs, a word of ``BUSY``.
    :param cancel: what a cancel request meets, a word of ``CANCEL``.
    :param cancel_seconds: how long the job stays Cancelling, in emulated seconds.
    :param quirks: words of ``QUIRKS``, each a shape Azure was recorded to answer with.
    """

    ending: str = "Completed"
    seconds: float | None = None
    error: Mapping[str, Any] | None = None
    operation: str = "Succeeded"
    operation_seconds: float = OPERATION_SECONDS
    busy: str = "job"
    cancel: str = "accepted"
    cancel_seconds: float = CANCEL_SECONDS
    quirks: Sequence[str] = ()

    def __post_init__(self) -> None:
        _one_of("ending", self.ending, ENDINGS)
        _one_of("operation", self.operation, OPERATION_ENDINGS)
        _one_of("busy", self.busy, BUSY)
        _one_of("cancel", self.cancel, CANCEL)
        for quirk in self.quirks:
            _one_of("quirk", quirk, QUIRKS)


@dataclass(frozen=True, kw_only=True)
class Vault:
    """A Recovery Services vault."""

    subscription: str
    group: str
    name: str
    region: str

    @property
    def path(self) -> str:
        return (
            f"/subscriptions/{self.subscription}/resourceGroups/{self.group}"
            f"/providers/Microsoft.RecoveryServices/vaults/{self.name}"
        )


@dataclass(frozen=True, kw_only=True)
class Item:
    """A protected item. ``parent`` is the storage account or the machine a share or database lives in."""

    vault: Vault
    kind: str
    name: str
    group: str
    parent: str = ""

    @property
    def workload(self) -> Workload:
        return WORKLOADS[self.kind]

    @property
    def container(self) -> str:
        return {
            "VM": f"IaasVMContainer;iaasvmcontainerv2;{self.group};{self.name}",
            "AzureFileShare": f"StorageContainer;storage;{self.group};{self.parent}",
        }.get(self.kind, f"VMAppContainer;compute;{self.group};{self.parent}")

    @property
    def native_name(self) -> str:
        share = hashlib.sha256(f"{self.parent}/{self.name}".encode()).hexdigest()
        return {
            "VM": f"VM;iaasvmcontainerv2;{self.group};{self.name}",
            "AzureFileShare": f"AzureFileShare;{share}",
            "SQLDataBase": f"SQLDataBase;mssqlserver;{self.name}",
            "SAPHanaDatabase": f"SAPHanaDatabase;hxe;{self.name}",
        }[self.kind]

    @property
    def path(self) -> str:
        return (
            f"{self.vault.path}/backupFabrics/Azure/protectionContainers/{self.container}"
            f"/protectedItems/{self.native_name}"
        )

    @property
    def source_id(self) -> str:
        """The ARM id of the machine or storage account; the small s is as recorded for storage accounts."""
        kind = (
            f"Microsoft.storage/storageAccounts/{self.parent}"
            if self.kind == "AzureFileShare"
            else f"Microsoft.Compute/virtualMachines/{self.parent or self.name}"
        )
        return f"/subscriptions/{self.vault.subscription}/resourceGroups/{self.group}/providers/{kind}"

    def number(self, salt: str = "") -> int:
        """A stable decimal number of this item, for the ids Azure counts in."""
        return int.from_bytes(hashlib.sha256((self.path + salt).encode()).digest()[:6], "big")


@dataclass(kw_only=True)
class Job:
    """One job. ``lasts``, ``cancel_lasts`` and ``point_after`` are real seconds: speed is divided out."""

    id: str
    item: Item
    operation: str
    starts: float
    lasts: float
    ending: str
    error: Mapping[str, Any] | None = None
    quirks: Sequence[str] = ()
    cancel: str = "accepted"
    cancel_lasts: float = 0.0
    point_after: float = 0.0
    backup_type: str = "Full"
    expiry: float | None = None
    request: Json = field(default_factory=dict)
    cancelled_at: float | None = None
    pinned: tuple[str, float] | None = None

    @property
    def phases(self) -> tuple[Phase, ...]:
        phases = self.item.workload.phases.get(self.operation, ())
        # A backup that fails does so in its first task; the later ones never start.
        if self.ending == "Failed" and self.cancelled_at is None and len(phases) > 1:
            return (replace(phases[0], ends=1.0), *(replace(each, begins=math.inf) for each in phases[1:]))
        return phases

    def finish(self) -> tuple[float, str]:
        """When the job ends, and in which way (a word of ``ENDINGS``)."""
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
        """The way the job ended, or None while it has not."""
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
        """Name, status, begin and end of each task; None for a moment that has not come."""
        finish, ending = self.finish()
        return [self._task(phase, now, finish, ending) for phase in self.phases]

    def _task(
        self, phase: Phase, now: float, finish: float, ending: str
    ) -> tuple[str, str, float | None, float | None]:
        begins = self.starts + phase.begins * self.lasts
        ends = math.inf if phase.ends == 1.0 else self.starts + phase.ends * self.lasts
        if now < begins or begins >= finish:
            return phase.task, "NotStarted", None, None
        if now < min(ends, finish):
            return phase.task, "InProgress", begins, None
        return phase.task, "Completed" if ends < finish else ENDINGS[ending].task, begins, min(ends, finish)

    def share_done(self, now: float) -> float:
        """How much of the last task is done, from 0 to 1. A job that never ends stops at 0.99."""
        begins = self.phases[-1].begins if self.phases else 0.0
        done = ((min(now, self.finish()[0]) - self.starts) / max(self.lasts, 1e-9) - begins) / (1 - begins)
        return max(0.0, min(done, 1.0 if self.ended(now) else 0.99))

    def snapshot_taken(self, now: float) -> bool:
        """Whether the job's recovery point exists: after the first task, whatever happens to the second."""
        return self.operation == "Backup" and any(task[1] == "Completed" for task in self.tasks(now)[:1])


@dataclass(frozen=True, kw_only=True)
class Operation:
    """What a 202 names: it ends when the job exists, and tells the job's id."""

    id: str
    starts: float
    ready: float
    ending: str = "Succeeded"
    job: Job | None = None
    error: Mapping[str, str] | None = None


class World:
    """Everything that exists: vaults, items, jobs, operations, plans.

    :param seed: see ``seed.DEFAULT``.
    :param speed: emulated seconds per second of the clock.
    """

    def __init__(self, seed: Mapping[str, Any], speed: float) -> None:
        self.speed = speed
        self.subscription = str(seed["subscription_id"])
        self.region = str(seed["region"])
        self.vaults = [
            Vault(subscription=self.subscription, region=self.region, group=each["group"], name=each["name"])
            for each in seed["vaults"]
        ]
        self.items: list[Item] = []
        self.plans: dict[str, Plan] = {}
        for each in seed["items"]:
            named = [vault for vault in self.vaults if vault.name == each.get("vault", self.vaults[0].name)]
            values = {key: each[key] for key in ("kind", "name", "group", "parent") if key in each}
            self.items.append(Item(vault=named[0], **values))
            self.plans[self.items[-1].path] = Plan(**each.get("plan", {}))
        self.jobs: dict[str, Job] = {}
        self.operations: dict[str, Operation] = {}
        self.quirks: Sequence[str] = ()
        self.page_size = 200

    def named(self, name: str) -> list[Item]:
        """The items of a friendly name, a native name or an ARM id; at least one."""
        wanted = name.lower()
        found = [i for i in self.items if wanted in (i.name.lower(), i.native_name.lower(), i.path.lower())]
        if not found:
            raise KeyError(f"no protected item {name!r}; there are {sorted({i.name for i in self.items})}")
        return found

    def plan(self, name: str, **changes: Any) -> None:
        """Decide how the coming jobs of an item go; of all of them where several share the name."""
        for item in self.named(name):
            self.plans[item.path] = Plan(**changes)

    def running(self, item: Item, now: float) -> list[Job]:
        return [
            job
            for job in self.jobs.values()
            if job.item == item and job.operation == "Backup" and not job.ended(now)
        ]

    def start(self, item: Item, now: float, operation: str, job_id: str | None = None, **changes: Any) -> Job:
        """Start a job of an item as planned; ``changes`` are fields of the job, or ``seconds``."""
        plan = self.plans[item.path]
        seconds = changes.pop("seconds", None)
        if seconds is None:
            seconds = plan.seconds
        if seconds is None:
            seconds = item.workload.seconds.get(operation, OTHER_SECONDS)
        settings = {
            "ending": plan.ending,
            "error": plan.error if operation == "Backup" else None,
            "quirks": [*plan.quirks, *self.quirks],
            "cancel": plan.cancel,
            "cancel_lasts": plan.cancel_seconds / self.speed,
            "point_after": min(item.workload.point_after, seconds) / self.speed,
        }
        job = Job(
            id=job_id or str(uuid.uuid4()),
            item=item,
            operation=operation,
            starts=now,
            lasts=seconds / self.speed,
            **{**settings, **changes},
        )
        _one_of("ending", job.ending, ENDINGS)
        self.jobs[job.id] = job
        return job

    def back_up(self, item: Item, now: float, **request: Any) -> Operation:
        """Do what a backup request asks: usually a job, and an operation that will name it."""
        plan = self.plans[item.path]
        busy = plan.busy if self.running(item, now) else None
        if busy == "conflict":
            raise RefusalError(status=409, code=BACKUP_RUNS["code"], message=BACKUP_RUNS["message"])
        if busy == "operation":
            return self.add_operation(now, plan, ending="Failed", error=BACKUP_RUNS)
        if plan.operation == "Failed":
            return self.add_operation(now, plan, ending="Failed", error=dict(OPERATION_FAILED))
        if busy == "job":
            request |= {"ending": "Failed", "seconds": BUSY_SECONDS, "error": BACKUP_RUNS_DETAILS}
        return self.add_operation(
            now, plan, ending=plan.operation, job=self.start(item, now, "Backup", **request)
        )

    def restore(self, item: Item, now: float, request: Json) -> Operation:
        """Start a restore; since 2021 its job has the operation's id."""
        identity = str(uuid.uuid4())
        job = self.start(item, now, "Restore", identity, request=request)
        plan = self.plans[item.path]
        return self.add_operation(now, plan, id=identity, ending=plan.operation, job=job)

    def add_operation(self, now: float, plan: Plan, **values: Any) -> Operation:
        """Remember an operation so that it can be asked for; it is ready after the plan's seconds for it."""
        ready = now + plan.operation_seconds / self.speed
        operation = Operation(starts=now, ready=ready, **{"id": str(uuid.uuid4()), **values})
        self.operations[operation.id] = operation
        return operation

    def cancel(self, job: Job, now: float) -> Operation:
        """Ask a job to stop. Azure's codes for a refusal are not published; these are the emulator's own."""
        if job.operation not in ("Backup", "Restore"):
            raise RefusalError(
                status=400,
                code="UserErrorJobCancelNotSupported",
                message="Cancellation is not supported for this type of job.",
            )
        if job.ended(now) or job.cancel == "declined":
            raise RefusalError(
                status=400,
                code="UserErrorJobNotInCancellableState",
                message="The job is not in a cancelable state. Wait until the job completes.",
            )
        if job.cancel == "accepted" and job.cancelled_at is None:
            job.cancelled_at = now
        return self.add_operation(now, Plan(operation_seconds=0), ending="NoProperties")


BACKUP_RUNS = {
    "code": "UserErrorBackupOperationInProgress",
    "message": "Unable to initiate backup as another backup operation is currently in progress.",
}
BACKUP_RUNS_DETAILS = {
    "errorCode": 400020,  # the title is from Azure's troubleshooting page, the number is this emulator's own
    "errorTitle": BACKUP_RUNS["code"],
    "errorString": BACKUP_RUNS["message"],
    "recommendations": ["Wait until the backup that is running has completed, then retry the operation."],
}
OPERATION_FAILED = {
    "code": "UserErrorGuestAgentStatusUnavailable",
    "message": "VM agent unable to communicate with Azure Backup.",
}

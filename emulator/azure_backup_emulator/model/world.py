"""What the emulated service knows and does. It has no timers and no threads; the caller passes the time."""

from __future__ import annotations

import uuid
from bisect import insort_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from azure_backup_emulator.model.checks import made
from azure_backup_emulator.model.instances import BackupVault, Instance
from azure_backup_emulator.model.items import WORKLOADS, Item, Protection, Vault
from azure_backup_emulator.model.jobs import (
    ENDINGS,
    Job,
    Json,
    Operation,
    Plan,
    Point,
    in_real_seconds,
    one_of,
)
from azure_backup_emulator.model.obstacles import OBSTACLES
from azure_backup_emulator.model.store import Store

OTHER_SECONDS = 60.0  # ConfigureBackup, DisableBackup and the like
BUSY_SECONDS = 1.0
BACKUP_RUNS = {
    "code": "UserErrorBackupOperationInProgress",
    "message": "Unable to initiate backup as another backup operation is currently in progress.",
}
BUSY_ERROR_CODE = 400020  # Azure publishes its titles; this number is the emulator's own
OPERATION_FAILED = {
    "code": "UserErrorGuestAgentStatusUnavailable",
    "message": "VM agent unable to communicate with Azure Backup.",
}


@dataclass(kw_only=True, eq=False)
class RefusalError(Exception):
    """A request that is answered with an error envelope instead of a result."""

    status: int
    code: str
    message: str
    headers: Mapping[str, str] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict)  # further keys of the error


def obstructed(item: Item, obstacles: Sequence[str]) -> Json:
    """Return the fields of a restore's job that fails because something is in its way."""
    if not obstacles:
        return {}
    first = OBSTACLES[obstacles[0]]
    if isinstance(item, Instance):
        names = ("code", "message", "recommendedAction")
    else:
        names = ("errorTitle", "errorString", "recommendations")
    words = dict(zip(names, (first.code, first.message, [first.recommendation]), strict=True))
    return {"ending": "Failed", "error": words}


def _own(seeded: Mapping[str, Any]) -> Json:
    """The fields of a seeded item itself."""
    policy = WORKLOADS[seeded["kind"]].policy if seeded["kind"] in WORKLOADS else ""
    named = {"policy": policy, **seeded}
    return {key: value for key, value in named.items() if key not in ("vault", "plan", "state", "jobs")}


class Inventory:
    """What exists at the start. A reset returns to it.

    :param seed: what ``seed.read`` returns.
    :raises ValueError: if two items have one ARM id, or a plan is not valid.
    """

    def __init__(self, seed: Mapping[str, Any]) -> None:
        self.tenant, self.subscription = str(seed["tenant_id"]), str(seed["subscription_id"])
        self.region = str(seed["region"])
        home = {"subscription": self.subscription, "region": self.region}
        self.vaults = [Vault(**{**home, **each}) for each in seed["vaults"]]
        self.backup_vaults = [BackupVault(**{**home, **each}) for each in seed["backup_vaults"]]
        every = [*self.vaults, *self.backup_vaults]
        self.vault_at = {each.path.lower(): each for each in every}
        self.subscriptions = [*dict.fromkeys([self.subscription, *(each.subscription for each in every)])]
        self.policies: Mapping[str, Mapping[str, Any]] = seed["backup_policies"]
        self.items: list[Item] = []
        self.items_in: dict[str, list[Item]] = {each.path: [] for each in every}
        self.jobs: dict[str, Sequence[Mapping[str, Any]]] = {}
        self.plans: dict[str, Plan] = {}
        self.protection: dict[str, Protection] = {}
        self._named: dict[str, list[Item]] = {}
        for kind, vaults, seeded in (
            (Item, self.vaults, seed["items"]),
            (Instance, self.backup_vaults, seed["backup_instances"]),
        ):
            named = {vault.name: vault for vault in reversed(vaults)}
            for each in seeded:
                vault = named[each.get("vault", self.vaults[0].name)]
                self._add(kind(vault=vault, **_own(each)), each)

    def _add(self, item: Item, seeded: Mapping[str, Any]) -> None:
        if item.path in self.plans:
            raise ValueError(f"seed: two items are one in Azure, {item.path}")
        self.items.append(item)
        self.items_in[item.vault.path].append(item)
        self.jobs[item.path] = seeded.get("jobs", ())
        for name in {item.name.lower(), item.native_name.lower(), item.path.lower()}:
            self._named.setdefault(name, []).append(item)
        self.plans[item.path] = made(Plan, seeded.get("plan", {}), f"seed: plan of {item.name}")
        self.protection[item.path] = Protection(state=seeded.get("state", ""))

    def at(self, path: str) -> Item | None:
        """Return the item of an ARM id, ignoring case."""
        return next(iter(self._named.get(path.lower(), ())), None)

    def named(self, name: str) -> list[Item]:
        """Return the items with a friendly name, a native name or an ARM id.

        :raises KeyError: if there is none.
        """
        found = self._named.get(name.lower())
        if not found:
            raise KeyError(f"no protected item {name!r}; there are {sorted({i.name for i in self.items})}")
        return found


class World:
    """Everything that exists: vaults, items, jobs, operations, plans.

    :param inventory: what there is at the start.
    :param speed: emulated seconds per second of the clock.
    :param store: keeps jobs, operations and plans. What it contains exists from the start.
    """

    def __init__(self, inventory: Inventory, speed: float, store: Store) -> None:
        self.speed, self.store = speed, store
        self.tenant, self.subscription = inventory.tenant, inventory.subscription
        self.region, self.policies = inventory.region, inventory.policies
        self.subscriptions, self.vault_at = inventory.subscriptions, inventory.vault_at
        self.vaults, self.backup_vaults = inventory.vaults, inventory.backup_vaults
        self.items, self.items_in = inventory.items, inventory.items_in
        self.named, self.at = inventory.named, inventory.at
        self.plans, self.protection = dict(inventory.plans), dict(inventory.protection)
        self.jobs: dict[str, Job] = {}
        self._jobs_of: dict[str, list[Job]] = {}
        self._jobs_in: dict[str, list[Job]] = {}
        self.operations: dict[str, Operation] = {}
        self._load({item.path: item for item in self.items})
        self.quirks: Sequence[str] = ()
        self.page_size = 200
        # Regions whose services answer 503. Resource Manager itself belongs to none.
        self.down_regions: Sequence[str] = ()
        # Vaults with a Resource Guard, by name: fields of ``service.Guard``.
        self.guards: Mapping[str, Mapping[str, str]] = {}
        # How far Resource Graph is from the truth: fields of ``service.ResourceGraph``.
        self.resource_graph: Mapping[str, Any] = {}

    def _load(self, items: Mapping[str, Item]) -> None:
        """Continue with the stored state. Jobs of items that the seed no longer has are dropped."""
        for path, kept in self.store.all("plan").items():
            if path in items:
                self.plans[path] = Plan(**kept)
        for path, kept in self.store.all("protection").items():
            if path in items:
                self.protection[path] = Protection(**kept)
        for kept in self.store.all("job").values():
            if item := items.get(kept["item"]):
                pinned = kept["pinned"] and tuple(kept["pinned"])
                self._add_job(Job(**{**kept, "item": item, "pinned": pinned}))
        for name, kept in self.store.all("operation").items():
            self.operations[name] = Operation(**{**kept, "job": self.jobs.get(kept["job"])})

    def keep(self, job: Job) -> None:
        """Store a job as it is now."""
        if job.id not in self.jobs:
            self._add_job(job)
        self.store.put("job", job.id, {**vars(job), "item": job.item.path})

    def _add_job(self, job: Job) -> None:
        self.jobs[job.id] = job
        self._jobs_of.setdefault(job.item.path, []).append(job)
        # Recovery Services vaults list the newest first. The recorded lists of Backup vaults had no order.
        newest_first = not isinstance(job.item.vault, BackupVault)
        listed = self._jobs_in.setdefault(job.item.vault.path, [])
        insort_right(listed, job, key=lambda each: -each.starts if newest_first else 0.0)

    def jobs_of(self, item: Item) -> Sequence[Job]:
        """The jobs of an item, in the order in which they became known."""
        return self._jobs_of.get(item.path, ())

    def jobs_in(self, vault: Vault) -> list[Job]:
        """The jobs of a vault, in the order in which it lists them."""
        return self._jobs_in.get(vault.path, [])

    def start_seeded(self, inventory: Inventory, now: float) -> None:
        """Start the jobs of the seed, most of which are over by now, unless the store has kept them."""
        for item in self.items:
            for number, seeded in enumerate(inventory.jobs[item.path]):
                identity = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{item.path}#{number}"))
                if identity not in self.jobs:
                    given = {key: value for key, value in seeded.items() if key not in ("ago", "operation")}
                    began = now - seeded.get("ago", 0.0) / self.speed
                    self.start(item, began, seeded.get("operation", "Backup"), identity, **given)

    def plan(self, name: str, **changes: Any) -> None:
        """Decide how the next jobs of all items with a name run and end."""
        for item in self.named(name):
            self.plans[item.path] = made(Plan, changes, "plan")
            self.store.put("plan", item.path, vars(self.plans[item.path]))

    def protect(self, name: str, state: str, deleted_at: float | None, until: float | None = None) -> None:
        """Change the protection of all items with a name."""
        for item in self.named(name):
            found = Protection(state=state, deleted_at=deleted_at, until=until)
            self.protection[item.path] = found
            self.store.put("protection", item.path, vars(found))

    def protection_of(self, item: Item, now: float) -> Protection:
        """Return how an item is protected at a moment."""
        found = self.protection[item.path]
        return found if found.until is None or now < found.until else Protection()

    def change_point(self, job_id: str, **facts: Any) -> None:
        """Change what is special about the recovery point of a job; what is not named stays."""
        job = self.jobs[job_id]
        changed = job.facts | in_real_seconds(facts, self.speed)
        Point(**changed)
        job.facts = changed
        self.keep(job)

    def running(self, item: Item, now: float, category: str = "Backup") -> list[Job]:
        """The item's jobs of a kind that really run: not one that is only about to be refused."""
        return [
            job
            for job in self.jobs_of(item)
            if job.category == category and not job.ended(now) and not job.refused
        ]

    def start(self, item: Item, now: float, operation: str, job_id: str | None = None, **changes: Any) -> Job:
        """Start a job of an item as planned; ``changes`` are fields of the job, or ``seconds``."""
        plan = self.plans[item.path]
        seconds = changes.pop("seconds", None)
        if seconds is None:
            seconds = plan.seconds
        if seconds is None:
            seconds = item.workload.seconds.get(operation.partition(":")[0], OTHER_SECONDS)
        settings = {
            "ending": plan.ending,
            "error": plan.error if operation == "Backup" else None,
            "quirks": [*plan.quirks, *self.quirks],
            "cancel": plan.cancel,
            "cancel_lasts": plan.cancel_seconds / self.speed,
            "point_after": min(item.workload.point_after, seconds) / self.speed,
            "named_after": min(item.workload.named_after, seconds / 2) / self.speed,
            "consistency": plan.consistency,
            "backup_type": changes.pop("backup_type", None) or item.workload.backup_type,
            "visible_after": plan.visible_after / self.speed,
            "facts": in_real_seconds(changes.pop("point", None) or plan.point, self.speed),
        }
        job = Job(
            id=job_id or str(uuid.uuid4()),
            item=item,
            operation=operation,
            starts=now,
            lasts=seconds / self.speed,
            **{**settings, **changes},
        )
        one_of("ending", job.ending, ENDINGS)
        self.keep(job)
        return job

    def back_up(self, item: Item, now: float, **request: Any) -> Operation:
        """Start a backup, and return the operation that will name its job."""
        plan = self.plans[item.path]
        if refused := self.refused(item, now, "Backup"):
            return refused
        if plan.operation == "Failed":
            error = item.workload.operation_failed or OPERATION_FAILED
            return self.add_operation(now, plan, ending="Failed", error=dict(error))
        request |= self.refused_job(item, now, "Backup")
        return self.add_operation(
            now, plan, ending=plan.operation, job=self.start(item, now, "Backup", **request)
        )

    def refused(self, item: Item, now: float, category: str) -> Operation | None:
        """Return the operation that refuses a request because another job of its kind runs, if the plan
        says so.

        :raises RefusalError: if the response refuses it.
        """
        plan = self.plans[item.path]
        refusal = plan.busy_error or BACKUP_RUNS
        busy = plan.busy if plan.busy and self.running(item, now, category) else None
        if busy == "conflict":
            raise RefusalError(status=409, code=refusal["code"], message=refusal["message"])
        if busy == "operation":
            return self.add_operation(now, plan, ending="Failed", error=dict(refusal))
        return None

    def refused_job(self, item: Item, now: float, category: str) -> Json:
        """Return the fields of a job that fails because another one of its kind runs."""
        plan = self.plans[item.path]
        refusal = plan.busy_error or BACKUP_RUNS
        if plan.busy != "job" or not self.running(item, now, category):
            return {}
        details = {
            "errorCode": BUSY_ERROR_CODE,
            "errorTitle": refusal["code"],
            "errorString": refusal["message"],
            "recommendations": ["Wait for the operation that is running, then retry the operation."],
        }
        return {"ending": "Failed", "seconds": BUSY_SECONDS, "error": details, "refused": True}

    def restore(
        self, item: Item, now: float, request: Json, obstacles: Sequence[str] = (), region: str = ""
    ) -> Operation:
        """Start a restore. Since 2021 its job has the operation's id. It fails if something is in its way.

        :param region: the secondary region, if it runs there.
        """
        plan = self.plans[item.path]
        if plan.operation == "Failed":
            return self.add_operation(now, plan, ending="Failed", error=dict(OPERATION_FAILED))
        if refused := self.refused(item, now, "Restore"):
            return refused
        identity = str(uuid.uuid4())
        more = self.refused_job(item, now, "Restore") or obstructed(item, obstacles)
        job = self.start(item, now, "Restore", identity, request=request, region=region, **more)
        return self.add_operation(now, plan, id=identity, ending=plan.operation, job=job)

    def add_operation(self, now: float, plan: Plan, **values: Any) -> Operation:
        """Store an operation. It is ready after ``operation_seconds`` of the plan."""
        ready = now + plan.operation_seconds / self.speed
        operation = Operation(starts=now, ready=ready, **{"id": str(uuid.uuid4()), **values})
        self.operations[operation.id] = operation
        job = operation.job
        self.store.put("operation", operation.id, {**vars(operation), "job": job.id if job else None})
        return operation

    def cancel(self, job: Job, now: float) -> Operation:
        """Cancel a job. Azure does not publish its codes for a refusal, so these are the emulator's own."""
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
            self.keep(job)
        return self.add_operation(now, Plan(operation_seconds=0), ending="NoProperties")

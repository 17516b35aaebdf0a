"""Small estates, drawn from a seed: what is true of them, what Azure shows of that, and a wait for them.

Azure shows jobs late, denies vaults for a time, breaks lists off, shows items twice or not at all. Items
come, go and change their names. Half of the waits also ask Resource Graph, a bad copy of all that. The wait
is killed and run again. :func:`live_through` returns what must never be.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

from airflow_provider_azbackup.core.estate.scope import Condition, Scope
from airflow_provider_azbackup.core.estate.verdict import Reason, Verdict
from airflow_provider_azbackup.core.rest.requests import RESOURCE_GRAPH
from airflow_provider_azbackup.core.settings import Settings
from airflow_provider_azbackup.core.wire import Answer, NoResponse, Request, Response
from airflow_provider_azbackup.runtime import clock as clocks
from airflow_provider_azbackup.triggerer.fleet import EstateWait
from airflow_provider_azbackup.triggerer.hook import TriggererHook
from airflow_provider_azbackup.triggerer.poller import Poller
from tests.support.virtual import BASE, START, LoopClock, run

SUBSCRIPTION = "00000000-0000-0000-0000-00000000d3a0"
GROUP = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg"
KINDS = {"vm": "AzureIaasVM", "sql": "AzureWorkload", "disk": ""}
ENDS = ("Completed",) * 12 + ("Failed", "Cancelled", "CompletedWithWarnings", "CancelledInTransfer")
WITH_POINT = {"Completed", "CompletedWithWarnings", "CancelledInTransfer"}
FAULTS = ("denied", "broken", "lost", "cut", "twice", "left out", "jobs denied", "points denied")
# Seconds: the wait, and after which nothing goes wrong any more.
WAIT, CALM = 3600.0, 2000.0
# Seconds from the start of a job to the moment that its recovery point shows.
POINT_AFTER = 5.0


@dataclass(eq=False)
class TrueJob:
    """A backup: when it ran, how it ends, and what its item was called when it began."""

    number: int
    began: float
    ended: float
    end: str
    name: str
    is_log: bool = False

    @property
    def job_id(self) -> str:
        return f"00000000-0000-0000-0000-{self.number:012}"

    def status(self, at: float) -> str:
        if at < self.ended:
            return "InProgress"
        return "CompletedWithWarnings" if self.end == "CancelledInTransfer" else self.end


@dataclass(eq=False)
class TrueItem:
    """A protected item as it really is."""

    kind: str
    vault: str
    name: str
    server: str
    created: float
    deleted: float
    renamed: float
    new_name: str
    soft_deleted: float
    jobs: list[TrueJob] = field(default_factory=list)

    @property
    def path(self) -> str:
        if self.kind == "disk":
            return f"{self.vault}/backupInstances/{self.name}"
        container, item = {
            "vm": (
                f"IaasVMContainer;iaasvmcontainerv2;rg;{self.name}",
                f"VM;iaasvmcontainerv2;rg;{self.name}",
            ),
            "sql": (f"VMAppContainer;compute;rg;{self.server}", f"SQLDataBase;mssqlserver;{self.name}"),
        }[self.kind]
        return f"{self.vault}/backupFabrics/Azure/protectionContainers/{container}/protectedItems/{item}"

    def exists(self, at: float) -> bool:
        return self.created <= at < self.deleted

    def called(self, at: float) -> str:
        return self.new_name if at >= self.renamed else self.name

    def proof(self, after: float, at: float, good: set[str]) -> TrueJob | None:
        """The backup since a moment that really proves this item fresh at another.

        :param good: the ends that count.
        """
        for job in self.jobs:
            if not job.is_log and job.began >= after and job.ended <= at and job.end in good:
                return job
        return None


@dataclass(frozen=True)
class Fault:
    """What goes wrong, in which vault, from when to when."""

    kind: str
    vault: str
    begins: float
    ends: float

    def is_on(self, kind: str, path: str, at: float) -> bool:
        return self.kind == kind and path.startswith(self.vault + "/") and self.begins <= at < self.ends


@dataclass
class World:
    """An estate, by its seed."""

    seed: int
    vaults: list[str] = field(default_factory=list)
    items: list[TrueItem] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    kills: list[float] = field(default_factory=list)
    shown: set[str] = field(default_factory=set)
    # When a vault begins to exist that did not at the start.
    appears: dict[str, float] = field(default_factory=dict)
    # How often Resource Graph was asked, and how often the first pages of items.
    queries: int = 0
    item_lists: int = 0

    def __post_init__(self) -> None:
        rng = self.rng = random.Random(self.seed)
        self.after = START - rng.choice((0, 600, 7200))
        self.poll_interval = rng.choice((300.0, 600.0, 900.0))
        self.lag, self.page = rng.choice((0.0, 30.0, 120.0)), rng.choice((1, 2, 50))
        self.accepts_warnings, self.by_point = rng.random() < 0.3, rng.random() < 0.2
        self.whole_subscription, self.is_good_night = rng.random() < 0.4, rng.random() < 0.8
        copy = self.copy = random.Random(self.seed + 1_000_000)
        self.asks_copy, self.copy_lag = copy.random() < 0.5, copy.choice((0.0, 60.0, 900.0))
        number = 0
        for place in range(rng.choice((1, 2, 2, 3))):
            is_backup_vault = rng.random() < 0.3
            kind = "DataProtection/backupVaults" if is_backup_vault else "RecoveryServices/vaults"
            self.vaults.append(f"{GROUP}/providers/Microsoft.{kind}/vault-{place}")
            for _ in range(rng.randint(1, 4)):
                number += 1
                self._add_item(number, is_backup_vault)
        span = WAIT - 700
        for _ in range(rng.randint(0, 4)):
            begins = START + rng.choice((-100.0, rng.uniform(0, CALM - 300)))
            fault = rng.choice(FAULTS)
            self.faults.append(
                Fault(
                    fault, rng.choice(self.vaults), begins, min(begins + rng.uniform(30, 1200), START + CALM)
                )
            )
        self.kills = sorted(START + rng.uniform(20, span) for _ in range(rng.choice((0, 0, 1, 3))))
        if self.kills:  # what a list leaves out from the beginning, nobody can miss
            self.faults = [each for each in self.faults if each.kind != "left out"]
        self.faults = [
            each
            if each.kind != "left out"
            else Fault(each.kind, each.vault, max(each.begins, START + 600), each.ends)
            for each in self.faults
        ]

    def _add_item(self, number: int, is_backup_vault: bool) -> None:
        rng, never = self.rng, START + 10 * WAIT
        kind = "disk" if is_backup_vault else rng.choice(("vm", "sql"))
        late = rng.random() < 0.1
        created = START + rng.uniform(300, CALM) if late else START - 90_000
        item = TrueItem(
            kind=kind,
            vault=self.vaults[-1],
            # Some databases of different servers have one name.
            name=f"{kind}-{number if kind != 'sql' or rng.random() < 0.5 else 0}",
            server=f"server-{number}",
            created=created,
            deleted=max(created, START) + rng.uniform(100, CALM) if rng.random() < 0.1 else never,
            renamed=START + rng.uniform(60, CALM) if rng.random() < 0.1 else never,
            new_name=f"renamed-{number}",
            soft_deleted=START + rng.uniform(0, CALM) if rng.random() < 0.03 else never,
        )
        began = created if late else self.after - rng.uniform(100, 80_000)
        for nth in range(rng.randint(1, 3)):
            took = rng.uniform(60, 900)
            job = TrueJob(number * 10 + nth, began, began + took, rng.choice(ENDS), item.called(began))
            job.is_log = kind == "sql" and rng.random() < 0.2
            item.jobs.append(job)
            began = max(began + took, self.after + rng.uniform(-300, CALM - 900))
        if self.is_good_night and rng.random() < 0.98:
            began = max(began, created, self.after + rng.uniform(0, CALM - 900))
            name = item.called(began)
            item.jobs.append(TrueJob(number * 10 + 9, began, began + rng.uniform(60, 900), "Completed", name))
        self.items.append(item)

    @property
    def good(self) -> set[str]:
        """The ends of backups that prove an item fresh."""
        if self.by_point:
            return WITH_POINT
        return {"Completed", "CompletedWithWarnings"} if self.accepts_warnings else {"Completed"}

    def is_on(self, kind: str, path: str, at: float) -> bool:
        return any(each.is_on(kind, path, at) for each in self.faults)

    # What Azure shows

    def answer(self, call: Request, at: float) -> Answer:
        if (self.rng.random() < 0.01 and at < START + CALM) or self.is_on("lost", call.path, at):
            return NoResponse(reason="the connection broke", at=at)
        if self.is_on("broken", call.path, at):
            return self._says(503, {"error": {"code": "ServerTimeout", "message": "later"}}, call, at)
        if call.path == RESOURCE_GRAPH:
            return self._graph(call, at)
        if call.path.startswith(f"/subscriptions/{SUBSCRIPTION}/providers/"):
            found = [{"id": each} for each in self._vaults_at(at) if call.path.split("/")[4] in each]
            return self._pages(found, call, at)
        if self._is_denied(call.path, at):
            return self._says(403, {"error": {"code": "AuthorizationFailed", "message": "no"}}, call, at)
        there = self._vaults_at(at)
        vault = next(each for each in there if call.path == each or call.path.startswith(each + "/"))
        below = call.path[len(vault) + 1 :]
        ours = [each for each in self.items if each.vault == vault]
        if not below:
            return self._says(200, {"id": vault}, call, at)
        if below in ("backupProtectedItems", "backupInstances"):
            return self._items(ours, call, at)
        if below.startswith("backupJobs"):
            return self._jobs(ours, below.partition("/")[2], call, at)
        item = next((each for each in ours if call.path.startswith(each.path) and each.exists(at)), None)
        if item is None:
            return self._says(404, {"error": {"code": "BMSUserErrorNotFound", "message": "gone"}}, call, at)
        if call.path.endswith("/recoveryPoints"):
            return self._points(item, call, at)
        return self._says(200, self._item(item, at), call, at)

    def _vaults_at(self, at: float) -> list[str]:
        return [*self.vaults, *(vault for vault, since in self.appears.items() if since <= at)]

    def _graph(self, call: Request, at: float) -> Answer:
        """What a copy shows that is late, leaves out rows, shows others twice, and some that never were."""
        self.queries += 1
        if self.copy.random() < 0.1:
            return self._says(429, {"error": {"code": "RateLimiting", "message": "later"}}, call, at)
        query = str((call.body or {})["query"])
        if "backupjobs" in query:
            rows = [
                {"id": f"{item.vault}/backupJobs/{job.job_id}", "status": job.status(at - self.copy_lag)}
                for item in self.items
                for job in item.jobs
                if job.began <= at - self.copy_lag
            ]
        elif query.startswith("Resources"):
            there = self._vaults_at(at - self.copy_lag)
            rows = [{"id": each} for each in (*there, f"{there[-1]}-that-never-was")]
        else:
            rows = [{"id": each.path} for each in self.items if each.exists(at - self.copy_lag)]
            rows += [{"id": f"{each.path}-that-never-was"} for each in self.items[:1]]
        shown = [row for row in rows if self.copy.random() < 0.9]
        data = [*shown, *shown[:1], {"id": "no ARM id"}, {"id": None}]
        return self._says(200, {"data": data}, call, at)

    def _is_denied(self, path: str, at: float) -> bool:
        return (
            self.is_on("denied", path, at)
            or ("/backupJobs" in path and self.is_on("jobs denied", path, at))
            or ("/recoveryPoints" in path and self.is_on("points denied", path, at))
        )

    def _items(self, ours: list[TrueItem], call: Request, at: float) -> Answer:
        wanted = dict(call.query).get("$filter", "")
        self.item_lists += "$skipToken" not in dict(call.query)
        there = [each for each in ours if each.exists(at) and KINDS[each.kind] in wanted]
        # What no list has shown, nobody can miss.
        if self.is_on("left out", call.path, at) and there and there[-1].path in self.shown:
            there = there[:-1]
        bodies = [self._item(each, at) for each in there]
        if self.is_on("twice", call.path, at):
            bodies += bodies[:1]
        answer = self._pages(bodies, call, at)
        if isinstance(answer, Response) and answer.status == 200 and "nextLink" not in answer.text:
            self.shown |= {each.path for each in there}
        return answer

    def _item(self, item: TrueItem, at: float) -> dict[str, Any]:
        deleted = at >= item.soft_deleted
        if item.kind == "disk":
            state = {"currentProtectionState": "SoftDeleted" if deleted else "ProtectionConfigured"}
        else:
            state = {"protectionState": "Protected", "serverName": item.server}
        properties = {"friendlyName": item.called(at), **state}
        if deleted:
            properties["isScheduledForDeferredDelete"] = True  # type: ignore[assignment]  # a flag among texts
        return {"id": item.path, "name": item.path.rpartition("/")[2], "properties": properties}

    def _jobs(self, ours: list[TrueItem], job_id: str, call: Request, at: float) -> Answer:
        shown = at - (0.0 if job_id else self.lag)
        bodies = [
            self._job(item, job, shown, alone=bool(job_id))
            for item in ours
            for job in item.jobs
            if job.began <= shown and job_id in ("", job.job_id)
        ]
        if not job_id:
            bodies.sort(key=lambda body: str(body["properties"]["startTime"]), reverse=True)
            return self._pages(bodies, call, at)
        if not bodies:
            return self._says(404, {"error": {"code": "ResourceNotFound", "message": "none"}}, call, at)
        return self._says(200, bodies[0], call, at)

    def _job(self, item: TrueItem, job: TrueJob, at: float, *, alone: bool) -> dict[str, Any]:
        properties: dict[str, Any] = {
            "status": job.status(at),
            "operation": "Backup",
            "startTime": iso(job.began),
            "entityFriendlyName": job.name,
        }
        if at >= job.ended:
            properties["endTime"] = iso(job.ended)
        if item.kind == "vm":
            names = {
                "containerName": f"iaasvmcontainerv2;rg;{item.name}",
                "backupManagementType": "AzureIaasVM",
            }
        elif item.kind == "sql":
            kind = "Log" if job.is_log else "Full"
            names = {
                "entityFriendlyName": f"{job.name} [{item.server}]",
                "backupManagementType": "AzureWorkload",
                "workloadType": "SQLDataBase",
                "operation": f"Backup ({kind})",
            }
        else:
            names = {"backupInstanceId": item.path, "operationCategory": "Backup"}
        properties |= names
        if alone and job.end == "CancelledInTransfer" and at >= job.ended:
            properties["errorDetails"] = [
                {"errorTitle": "UserErrorJobSuccessfullyCancelled", "errorCode": 400158}
            ]
        return {"id": f"{item.vault}/backupJobs/{job.job_id}", "name": job.job_id, "properties": properties}

    def _points(self, item: TrueItem, call: Request, at: float) -> Answer:
        # The snapshot of a backup that was cancelled in its transfer is a recovery point, too.
        made = [job for job in item.jobs if job.end in WITH_POINT and job.ended <= at and not job.is_log]
        bodies = [
            {
                "name": f"p{job.number}",
                "id": f"{item.path}/recoveryPoints/p{job.number}",
                "properties": {
                    "recoveryPointTime": iso(job.began + POINT_AFTER),
                    "recoveryPointTimeInUTC": iso(job.began + POINT_AFTER),
                    **({"type": "Full"} if item.kind == "sql" else {}),
                },
            }
            for job in made
        ]
        return self._pages(bodies, call, at)

    def _pages(self, bodies: list[dict[str, Any]], call: Request, at: float) -> Answer:
        query = dict(call.query)
        first = int(query.get("$skipToken", "0"))
        if first and self.is_on("cut", call.path, at):
            return self._says(500, {"error": {"code": "CloudInternalError", "message": "later"}}, call, at)
        body: dict[str, Any] = {"value": bodies[first : first + self.page]}
        if first + self.page < len(bodies):
            kept = "".join(f"&$filter={query['$filter']}" for _ in "1" if "$filter" in query)
            body["nextLink"] = f"{BASE}{call.path}?$skipToken={first + self.page}{kept.replace(' ', '%20')}"
        return self._says(200, body, call, at)

    def _says(self, status: int, body: dict[str, Any], call: Request, at: float) -> Response:
        return Response(
            status=status,
            at=at,
            url=BASE + call.path,
            headers={"x-ms-ratelimit-remaining-subscription-resource-requests": "249"},
            text=json.dumps(body),
        )

    # What must never be

    def breaches(self, verdict: Verdict, at: float) -> list[str]:
        """What is wrong with a verdict that was given at a moment.

        What changed in the last interval before it may be missing from it.
        """
        found: list[str] = []
        ids = {each.casefold() for each in verdict.ids}
        # A recovery point is of a moment after the start of its job.
        after = self.after - POINT_AFTER if self.by_point else self.after
        lasting = [
            each
            for each in self.items
            if each.created <= at - self.poll_interval - 30 and each.deleted > at and each.soft_deleted > at
        ]
        if verdict.unreadable_total:
            return found
        if verdict.total < len(lasting):
            found.append(f"lost: {verdict.total} of {len(lasting)} items")
        for item in lasting:
            if not item.proof(after, at, self.good) and item.path.casefold() not in ids:
                found.append(f"wrong fresh: {item.path}")
        return found

    def should_open(self) -> bool:
        """Whether the gate must have opened when the time is up, because nothing goes wrong near the end."""
        end = START + WAIT - 600
        if any(each.renamed < end and each.exists(end) for each in self.items):
            return False  # jobs of its former name prove nothing
        there = [each for each in self.items if each.exists(end)]
        if any(each.created > START - 10 for each in there) or not there:
            return False
        if self.by_point or any(each.kind == "left out" for each in self.faults):
            return False
        return all(
            each.proof(self.after, end - 600, self.good) and each.soft_deleted > START + WAIT
            for each in there
        )


def iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat()


class EstateHook:
    """What the poller uses of :class:`TriggererHook`."""

    def __init__(self, world: World, clock: LoopClock) -> None:
        self.world, self.clock = world, clock
        extra = {"tenant_id": "t", "resource_graph": world.asks_copy}
        self.settings = Settings.read("azure", login="app", password="-", extra=extra)

    async def read(self, call: Request) -> Answer:
        await asyncio.sleep(0.2)
        return self.world.answer(call, self.clock.now())

    async def __aexit__(self, *_: object) -> None:
        pass


def live_through(seed: int, make: Callable[..., EstateWait] = EstateWait) -> tuple[World, list[str]]:
    """Wait for the estate of a seed, and return it with what must never be.

    :param make: builds the wait.
    """
    world = World(seed)
    random.seed(seed)  # what the provider spreads its pauses by
    scope = (
        Scope(subscriptions=(SUBSCRIPTION,))
        if world.whole_subscription
        else Scope(vaults=tuple(world.vaults))
    )
    condition = Condition(
        after=world.after,
        by_point=world.by_point,
        accept_warnings=world.accepts_warnings and not world.by_point,
    )
    if world.by_point:
        world.accepts_warnings = False
    breaches: list[str] = []

    async def main(clock: LoopClock) -> Verdict | None:
        poller = Poller(cast(TriggererHook, EstateHook(world, clock)), clock, {}, Context())

        try:
            for until in [*world.kills, START + 2 * WAIT]:
                wait = make(
                    poller,
                    scope,
                    condition,
                    poll_interval=world.poll_interval,
                    deadline=START + WAIT,
                    notice=lambda _: None,
                )
                with suppress(TimeoutError):
                    async with asyncio.timeout(until - clock.now()):
                        verdict = await wait.verdict()
                    breaches.extend(world.breaches(verdict, clock.now()))
                    return verdict
            return None
        finally:
            await poller.close()

    async def on_its_clock(clock: LoopClock) -> Verdict | None:
        with clocks.running_on(clock):
            return await main(clock)

    try:
        verdict = run(on_its_clock)
    except Exception as error:
        # Of an estate whose items have all gone nothing is left to wait for.
        if not re.search("selects nothing|AuthorizationFailed", str(error)):
            breaches.append(f"{type(error).__name__}: {error}")
        return world, breaches
    if verdict is None or (world.should_open() and not verdict.opens(0)):
        breaches.append(f"shut: {verdict and verdict.to_dict()}")
    if verdict is not None and Reason.FRESH in verdict.counts and verdict.opens(0) and verdict.missing:
        breaches.append("open in spite of what is missing")
    return world, breaches

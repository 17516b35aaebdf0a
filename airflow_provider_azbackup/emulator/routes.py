"""Azure Resource Manager in front of the model: a table of routes, each with the right it needs.

Nothing here knows a socket: an :class:`Ask` goes in, an :class:`Answer` or a ``Refusal`` comes out.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from airflow_provider_azbackup.emulator import bodies
from airflow_provider_azbackup.emulator.identity import Identity, Principal
from airflow_provider_azbackup.emulator.model import WORKLOADS, Item, Job, Json, Operation, Refusal, Vault, World

JOBS_READ = "Microsoft.RecoveryServices/vaults/backupJobs/read"
HOUR = 3600.0
GATEWAY = {"x-ms-failure-cause": "gateway"}
SERVICE = {"x-ms-failure-cause": "service"}
BACKUP_TYPES = ("Full", "Differential", "Log", "CopyOnlyFull", "Incremental", "SnapshotFull", "SnapshotCopyOnlyFull")


@dataclass(frozen=True, kw_only=True)
class Ask:
    """A request. ``path`` is decoded, ``base`` is the scheme and host the caller used."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    base: str

    def json(self) -> Json:
        try:
            found = json.loads(self.body or b"{}")
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise invalid("The request content was invalid and could not be deserialized.")
        return found


@dataclass(kw_only=True)
class Answer:
    """A response; ``body`` is JSON to be, None is no body at all."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


def invalid(message: str) -> Refusal:
    return Refusal(status=400, code="BMSUserErrorInvalidInput", message=message)


def not_found(message: str, headers: Mapping[str, str] = SERVICE) -> Refusal:
    return Refusal(status=404, code="ResourceNotFound", message=message, headers=headers)


@dataclass(kw_only=True)
class Budget:
    """Requests left in a fixed window, per subscription and action."""

    size: int
    used: int = 0
    since: float = -math.inf


class Arm:
    """The gateway: who asks, may they, is there budget left, and which handler answers."""

    def __init__(self, world: World, identity: Identity, clock: Callable[[], float], job_read_budget: int) -> None:
        self.world, self.identity, self.clock = world, identity, clock
        self.job_read_budget = job_read_budget
        self.budgets: dict[str, Budget] = {}

    def answer(self, ask: Ask, principal: Principal) -> Answer:
        """Answer an authenticated request, or raise a Refusal."""
        if not ask.query.get("api-version"):
            raise Refusal(
                status=400,
                code="MissingApiVersionParameter",
                message="The api-version query parameter (?api-version=) is required for all requests.",
            )
        path = re.sub("%3b", ";", ask.path, flags=re.IGNORECASE)
        for route in ROUTES:
            match = route.pattern.fullmatch(path) if route.method == ask.method else None
            if match:
                return self._serve(route, Call(self, ask, match.groupdict()), principal)
        raise Refusal(
            status=404,
            code="InvalidResourceType",
            message=f"The emulator has no {ask.method} {ask.path}.",
            headers=GATEWAY,
        )

    def _serve(self, route: Route, call: Call, principal: Principal) -> Answer:
        subscription = call.parts["sub"]
        if subscription.lower() != self.world.subscription.lower():
            raise Refusal(
                status=404,
                code="SubscriptionNotFound",
                message=f"The subscription '{subscription}' could not be found.",
                headers=GATEWAY,
            )
        action = f"Microsoft.RecoveryServices/{route.action}"
        if not principal.may(action):
            raise Refusal(
                status=403,
                code="AuthorizationFailed",
                message=f"The client '{principal.client_id}' with object id '{principal.object_id}' does not have "
                f"authorization to perform action '{action}' over scope '{call.scope}' or the scope is invalid. "
                "If access was recently granted, please refresh your credentials.",
                headers=GATEWAY,
            )
        spent = self.spend(action, route.method)
        answer = route.handler(call)
        answer.headers = {**spent, **answer.headers}
        return answer

    def spend(self, action: str, method: str) -> dict[str, str]:
        """Count one request, and tell the caller what is left; the 151st job read of an hour is refused.

        Only job reads were ever recorded throttled by the service; other actions just count down.
        """
        now, window = self.clock(), HOUR / self.world.speed
        jobs = action.lower() == JOBS_READ.lower()
        size = 1200 if method != "GET" else self.job_read_budget if jobs else 1100
        key = "writes" if method != "GET" else action.lower()
        budget = self.budgets.setdefault(key, Budget(size=size))
        if now >= budget.since + window:
            budget.since, budget.used = now, 0
        budget.size, budget.used = size, budget.used + 1
        left = budget.size - budget.used
        if jobs and left < 0:
            wait = max(1, math.ceil(budget.since + window - now))
            raise Refusal(
                status=429,
                code="ResourceRequestsThrottled",
                message=f"Number of requests for action '{JOBS_READ}' exceeded the limit of '{budget.size}' for time "
                f"interval '01:00:00'. Please try again after '{wait}' seconds.",
                headers={**GATEWAY, "Retry-After": str(wait)},
            )
        name = "resource-requests" if method == "GET" else "writes"
        return {f"x-ms-ratelimit-remaining-subscription-{name}": str(max(0, left))}


class Call:
    """One request on its way through a handler: what the path names, looked up."""

    def __init__(self, arm: Arm, ask: Ask, parts: Mapping[str, str]) -> None:
        self.arm, self.ask, self.parts = arm, ask, parts
        self.world, self.now = arm.world, arm.clock()

    @property
    def scope(self) -> str:
        return self.parts.get("item_path") or self.parts.get("vault_path") or f"/subscriptions/{self.parts['sub']}"

    def vault(self) -> Vault:
        group, name = self.parts["group"], self.parts["vault"]
        near = [vault for vault in self.world.vaults if vault.group.lower() == group.lower()]
        if not near:
            raise Refusal(
                status=404,
                code="ResourceGroupNotFound",
                message=f"Resource group '{group}' could not be found.",
                headers=GATEWAY,
            )
        for vault in near:
            if vault.name.lower() == name.lower():
                return vault
        raise not_found(
            f"The Resource 'Microsoft.RecoveryServices/vaults/{name}' under resource group '{group}' was not found. "
            "For more details please go to https://aka.ms/ARMResourceNotFoundFix",
            GATEWAY,
        )

    def items(self) -> list[Item]:
        vault = self.vault()
        return [item for item in self.world.items if item.vault == vault]

    def item(self) -> Item:
        wanted = (self.parts["container"].lower(), self.parts["item"].lower())
        for item in self.items():
            if (item.container.lower(), item.native_name.lower()) == wanted:
                return item
        raise not_found(f"The protected item '{self.parts['item']}' was not found in this vault.")

    def job(self) -> Job:
        job = self.world.jobs.get(self.parts["job"].lower())
        if job is None or job.item.vault != self.vault():
            raise not_found(f"The job '{self.parts['job']}' was not found.")
        return job

    def operation(self) -> Operation:
        self.vault()
        operation = self.world.operations.get(self.parts["operation"].lower())
        if operation is None:
            raise not_found(f"The operation '{self.parts['operation']}' was not found.")
        return operation

    def history(self, item: Item) -> list[Job]:
        """The item's backup jobs, oldest first."""
        jobs = [each for each in self.world.jobs.values() if each.item == item and each.operation == "Backup"]
        return sorted(jobs, key=lambda each: each.starts)

    def point(self) -> Job:
        for job in self.history(self.item()):
            if bodies.point_name(job) == self.parts["point"] and job.snapshot_taken(self.now):
                return job
        raise not_found(f"The recovery point '{self.parts['point']}' was not found.")

    def filters(self, *known: str) -> dict[str, str]:
        """``$filter`` as a table; only ``eq`` and ``and``, as every known client sends it."""
        text = self.ask.query.get("$filter", "")
        found = dict(re.findall(r"(\w+)\s+eq\s+'?([^']*?)'?(?:\s+and\s+|\s*$)", text))
        rest = re.sub(r"(\w+)\s+eq\s+'?([^']*?)'?(?:\s+and\s+|\s*$)", "", text)
        if rest.strip() or not found.keys() <= set(known):
            raise invalid(f"The filter {text!r} is not valid. It may name {', '.join(known)}.")
        return found

    def page(self, values: Sequence[Json]) -> Answer:
        """One page, with a ``nextLink`` when there is more. The token names the last value seen."""
        seen = base64.urlsafe_b64decode(self.ask.query.get("$skipToken", "").encode() + b"==").decode()
        start = next((i + 1 for i, value in enumerate(values) if value["id"] == seen), 0) if seen else 0
        some = values[start : start + self.world.page_size]
        body: Json = {"value": some}
        if start + len(some) < len(values):
            token = base64.urlsafe_b64encode(some[-1]["id"].encode()).decode()
            query = {**self.ask.query, "$skipToken": token}
            body["nextLink"] = f"{self.ask.base}{self.ask.path}?" + "&".join(
                f"{key}={_quote(value)}" for key, value in query.items()
            )
        return Answer(body=body)

    def accepted(self, operation: Operation, path: str, status: str, version: str | None = None) -> Answer:
        """202 with the two signed addresses of an operation."""
        mine = self.ask.query["api-version"]
        return Answer(
            status=202,
            headers={
                "Azure-AsyncOperation": self._signed(f"{path}/{status}/{operation.id}", version or mine),
                "Location": self._signed(f"{path}/operationResults/{operation.id}", mine),
                "Retry-After": self.retry_after(),
            },
        )

    def retry_after(self) -> str:
        """A minute, as recorded; an emulated one."""
        return str(max(1, math.ceil(60 / self.world.speed)))

    def _signed(self, path: str, version: str) -> str:
        """An operation address of about 3.5 KB: time, certificate and signatures are filler of the real length."""
        ticks = int(self.now * 10_000_000) + 621_355_968_000_000_000
        c, s, h = (_filler(f"{part}{path}", size) for part, size in (("c", 1950), ("s", 256), ("h", 32)))
        return f"{self.ask.base}{path}?api-version={version}&t={ticks}&c={c}&s={s}&h={h}"


def _filler(seed: str, size: int) -> str:
    return base64.urlsafe_b64encode(hashlib.shake_256(seed.encode()).digest(size)).decode().rstrip("=")


def _quote(text: str) -> str:
    from urllib.parse import quote

    return quote(text, safe="")


# Handlers


def list_vaults(call: Call) -> Answer:
    return call.page([bodies.vault(vault) for vault in call.world.vaults])


def get_vault(call: Call) -> Answer:
    return Answer(body=bodies.vault(call.vault()))


def list_items(call: Call) -> Answer:
    keys = ("backupManagementType", "itemType", "friendlyName", "policyName", "containerName", "fabricName", "healthState")
    wanted = call.filters(*keys)
    found = [
        item
        for item in call.items()
        if wanted.get("backupManagementType", item.workload.management).lower() == item.workload.management.lower()
        and wanted.get("itemType", item.workload.item_type).lower() == item.workload.item_type.lower()
    ]
    return call.page([_item_body(call, item) for item in found])


def _item_body(call: Call, item: Item, expand: bool = False) -> Json:
    return bodies.item(item, call.history(item), call.now, base=call.ask.base, expand=expand)


def get_item(call: Call) -> Answer:
    return Answer(body=_item_body(call, call.item(), "expand" in call.filters("expand")))


def list_containers(call: Call) -> Answer:
    wanted = call.filters("backupManagementType", "friendlyName", "status")
    found = {
        body["id"]: body
        for body in map(bodies.container, call.items())
        if wanted.get("backupManagementType", "").lower() in ("", body["properties"]["backupManagementType"].lower())
        and wanted.get("friendlyName", "").lower() in ("", body["properties"]["friendlyName"].lower())
        and wanted.get("status", "").lower() in ("", "registered")
    }
    return call.page(list(found.values()))


def back_up(call: Call) -> Answer:
    item = call.item()
    asked = call.ask.json().get("properties")
    workload = item.workload
    if not isinstance(asked, dict) or asked.get("objectType") != workload.backup_request:
        raise invalid(f"objectType must be {workload.backup_request} for a protected item of type {item.kind}.")
    kind = asked.get("backupType", "Full")
    if workload.management == "AzureWorkload" and kind not in BACKUP_TYPES:
        raise invalid(f"backupType {kind!r} is none of {', '.join(BACKUP_TYPES)}.")
    expiry = _expiry(call, asked.get("recoveryPointExpiryTimeInUTC"))
    if expiry is None and item.kind == "VM":
        expiry = call.now + 30 * 86400
    operation = call.world.back_up(item, call.now, backup_type=kind, expiry=expiry)
    return call.accepted(operation, item.path, "operationsStatus")


def _expiry(call: Call, text: str | None) -> float | None:
    if text is None:
        return None
    try:
        when = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        raise invalid(f"recoveryPointExpiryTimeInUTC {text!r} is not a date and time.") from None
    at = when.replace(tzinfo=when.tzinfo or UTC).timestamp()
    if at <= call.now:
        raise invalid(f"recoveryPointExpiryTimeInUTC {text!r} is in the past.")
    return at


def get_operation(call: Call) -> Answer:
    return Answer(body=bodies.operation(call.operation(), call.now))


def item_operation_result(call: Call) -> Answer:
    """202 while the operation runs, then 204: never a job id, as recorded."""
    operation = call.operation()
    running = call.now < operation.ready or operation.ending == "InProgress"
    answer = call.accepted(operation, call.item().path, "operationsStatus")
    if not running:
        answer.headers.pop("Location")
    return Answer(status=202 if running else 204, body={} if running else None, headers=answer.headers)


def vault_operation_result(call: Call) -> Answer:
    operation = call.operation()
    return Answer(status=202 if call.now < operation.ready else 204)


def list_jobs(call: Call) -> Answer:
    vault = call.vault()
    wanted = call.filters("status", "operation", "backupManagementType", "jobId", "startTime", "endTime")
    first = _window(wanted.get("startTime"), -math.inf)
    last = _window(wanted.get("endTime"), math.inf)
    found = [
        job
        for job in sorted(call.world.jobs.values(), key=lambda each: each.starts, reverse=True)
        if job.item.vault == vault
        and wanted.get("status", "").lower() in ("", job.status(call.now).lower())
        and wanted.get("operation", "").lower() in ("", job.operation.lower())
        and wanted.get("backupManagementType", "").lower() in ("", job.item.workload.management.lower())
        and wanted.get("jobId", "").lower() in ("", job.id)
        and first <= job.starts <= last
    ]
    return call.page([_job_body(call, job, full=False) for job in found])


def _window(text: str | None, default: float) -> float:
    """A bound of the time window, ``2016-06-21 11:17:42 PM``: a 12-hour clock, English, UTC."""
    if text is None:
        return default
    match = re.fullmatch(r"(\d{4}-\d\d-\d\d) (0\d|1[0-2]):(\d\d:\d\d) (AM|PM)", text)
    try:
        if match is None:
            raise ValueError(text)
        hour = int(match[2]) % 12 + (12 if match[4] == "PM" else 0)
        return datetime.fromisoformat(f"{match[1]}T{hour:02}:{match[3]}+00:00").timestamp()
    except ValueError:
        raise invalid(f"The date {text!r} is not of the form yyyy-MM-dd hh:mm:ss tt.") from None


def _job_body(call: Call, job: Job, *, full: bool) -> Json:
    return bodies.job(job, call.now, vault_path=call.parts["vault_path"], full=full)


def get_job(call: Call) -> Answer:
    return Answer(body=_job_body(call, call.job(), full=True))


def cancel_job(call: Call) -> Answer:
    job = call.job()
    operation = call.world.cancel(job, call.now)
    path = f"{job.item.vault.path}/backupJobs/{job.id}"
    # A fixed preview version, whatever was asked for: recorded.
    return call.accepted(operation, path, "operationsStatus", "2019-05-13-preview")


def job_operation_result(call: Call) -> Answer:
    call.job()
    call.operation()
    return Answer(status=204)


def list_points(call: Call) -> Answer:
    item = call.item()
    call.filters("startDate", "endDate", "restorePointQueryType", "extendedInfo")
    jobs = [job for job in reversed(call.history(item)) if job.snapshot_taken(call.now)]
    return call.page([bodies.recovery_point(job, call.now) for job in jobs])


def get_point(call: Call) -> Answer:
    return Answer(body=bodies.recovery_point(call.point(), call.now))


def restore(call: Call) -> Answer:
    point = call.point()
    asked = call.ask.json().get("properties")
    prefix = point.item.workload.restore_request
    if not isinstance(asked, dict) or not str(asked.get("objectType")).startswith(prefix):
        raise invalid(f"objectType must be a restore request of this item, {prefix}...")
    request = {**asked, "pointTime": point.starts + point.point_after}
    operation = call.world.restore(point.item, call.now, request)
    return call.accepted(operation, point.item.path, "operationsStatus")


def backup_status(call: Call) -> Answer:
    asked = call.ask.json()
    source = str(asked.get("resourceId", ""))
    match = re.fullmatch(r"/subscriptions/[^/]+/resourceGroups/([^/]+)/providers/.*/([^/]+)", source, re.IGNORECASE)
    if asked.get("resourceType") != "VM" or match is None:
        raise invalid("resourceType must be VM and resourceId the ARM id of a virtual machine.")
    found = [i for i in call.world.items if i.kind == "VM" and i.source_id.lower() == source.lower()]
    return Answer(body=bodies.backup_status(found[0] if found else None, match[2], match[1]))


def usage(call: Call) -> Answer:
    kind = call.filters("type").get("type", "BackupProtectedItemCountSummary")
    counted = [item.workload.management for item in call.items()]
    if kind == "BackupProtectionContainerCountSummary":
        counted = [management for management, _ in {(i.workload.management, i.container) for i in call.items()}]
    kinds = dict.fromkeys(workload.management for workload in WORKLOADS.values())
    return Answer(body={"value": [bodies.usage(each, counted.count(each)) for each in kinds]})


@dataclass(frozen=True)
class Route:
    """A method, a path, the action its right is called, and who answers."""

    method: str
    pattern: re.Pattern[str]
    action: str
    handler: Callable[[Call], Answer]


SUB = r"/subscriptions/(?P<sub>[^/]+)"
VAULT = (
    rf"(?P<vault_path>{SUB}/resourceGroups/(?P<group>[^/]+)"
    r"/providers/Microsoft\.RecoveryServices/vaults/(?P<vault>[^/]+))"
)
ITEM = (
    rf"(?P<item_path>{VAULT}/backupFabrics/[^/]+/protectionContainers/(?P<container>[^/]+)"
    r"/protectedItems/(?P<item>[^/]+))"
)
OPERATION = r"(?P<operation>[^/]+)"
_ITEMS = "vaults/backupFabrics/protectionContainers/protectedItems"


def _route(method: str, path: str, action: str, handler: Callable[[Call], Answer]) -> Route:
    return Route(method, re.compile(path + "/?", re.IGNORECASE), action, handler)


# Recovery Services vaults. Another kind of vault brings a second table and is added to ROUTES.
RECOVERY_SERVICES = (
    _route("GET", rf"{SUB}/providers/Microsoft\.RecoveryServices/vaults", "vaults/read", list_vaults),
    _route("GET", VAULT, "vaults/read", get_vault),
    _route("GET", rf"{VAULT}/backupProtectedItems", "vaults/backupProtectedItems/read", list_items),
    _route("GET", rf"{VAULT}/backupProtectionContainers", "vaults/backupProtectionContainers/read", list_containers),
    _route("GET", ITEM, f"{_ITEMS}/read", get_item),
    _route("POST", rf"{ITEM}/backup", f"{_ITEMS}/backup/action", back_up),
    _route("GET", rf"{ITEM}/operationsStatus/{OPERATION}", f"{_ITEMS}/operationsStatus/read", get_operation),
    _route("GET", rf"{ITEM}/operationResults/{OPERATION}", f"{_ITEMS}/operationResults/read", item_operation_result),
    _route("GET", rf"{ITEM}/recoveryPoints", f"{_ITEMS}/recoveryPoints/read", list_points),
    _route("GET", rf"{ITEM}/recoveryPoints/(?P<point>[^/]+)", f"{_ITEMS}/recoveryPoints/read", get_point),
    _route("POST", rf"{ITEM}/recoveryPoints/(?P<point>[^/]+)/restore", f"{_ITEMS}/recoveryPoints/restore/action", restore),
    _route("GET", rf"{VAULT}/backupOperations/{OPERATION}", "vaults/backupOperations/read", get_operation),
    _route("GET", rf"{VAULT}/backupOperationResults/{OPERATION}", "vaults/backupOperations/read", vault_operation_result),
    _route("GET", rf"{VAULT}/backupJobs", "vaults/backupJobs/read", list_jobs),
    _route("GET", rf"{VAULT}/backupJobs/(?P<job>[^/]+)", "vaults/backupJobs/read", get_job),
    _route("POST", rf"{VAULT}/backupJobs/(?P<job>[^/]+)/cancel", "vaults/backupJobs/cancel/action", cancel_job),
    _route(
        "GET",
        rf"{VAULT}/backupJobs/(?P<job>[^/]+)/operationResults/{OPERATION}",
        "vaults/backupJobs/operationResults/read",
        job_operation_result,
    ),
    _route(
        "GET",
        rf"{VAULT}/backupJobs/(?P<job>[^/]+)/operationsStatus/{OPERATION}",
        "vaults/backupJobs/operationResults/read",
        get_operation,
    ),
    _route("GET", rf"{VAULT}/backupUsageSummaries", "vaults/backupUsageSummaries/read", usage),
    _route(
        "POST",
        rf"{SUB}/providers/Microsoft\.RecoveryServices/locations/[^/]+/backupStatus",
        "locations/backupStatus/action",
        backup_status,
    ),
)
ROUTES = RECOVERY_SERVICES


def trace_headers(ask: Ask) -> dict[str, str]:
    """The headers every recorded answer carries, and the ids a support request needs."""
    identity = str(uuid.uuid4())
    found = {
        "Server": "Kestrel",
        "Cache-Control": "no-cache",
        "Pragma": "no-cache",
        "Expires": "-1",
        "X-Content-Type-Options": "nosniff",
        "Strict-Transport-Security": "max-age=31536000; includeSubDomains",
        "x-ms-request-id": identity,
        "x-ms-correlation-request-id": ask.headers.get("x-ms-correlation-request-id", identity),
    }
    if client := ask.headers.get("x-ms-client-request-id"):
        found["x-ms-client-request-id"] = client
    return found

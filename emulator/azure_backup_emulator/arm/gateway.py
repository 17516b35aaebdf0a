"""Azure Resource Manager: checks the caller, the rights and the quota, and looks up what a request names.

Nothing here knows a socket. A :class:`Request` goes in; a :class:`Response` or a ``RefusalError`` comes out.
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
from email.utils import formatdate
from itertools import islice
from typing import Any, TypeVar
from urllib.parse import quote

from azure_backup_emulator.arm.identity import Principal
from azure_backup_emulator.bodies.items import point_name
from azure_backup_emulator.model.items import Item, Vault
from azure_backup_emulator.model.jobs import Job, Json, Operation
from azure_backup_emulator.model.world import RefusalError, World

RECOVERY_SERVICES, DATA_PROTECTION = "Microsoft.RecoveryServices", "Microsoft.DataProtection"
JOBS_READ = f"{RECOVERY_SERVICES}/vaults/backupJobs/read"
# Requests to a vault in this api-version are answered by its secondary region.
SECONDARY_VERSION = "2021-11-15"
HOUR = 3600.0
T = TypeVar("T")
GATEWAY = {"x-ms-failure-cause": "gateway"}
SERVICE = {"x-ms-failure-cause": "service"}


@dataclass(frozen=True, kw_only=True)
class Request:
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
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise invalid("The request content was invalid and could not be deserialized.")
        return found


@dataclass(kw_only=True)
class Response:
    """A response. ``body`` becomes JSON; None means no body."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


def invalid(message: str) -> RefusalError:
    return RefusalError(status=400, code="BMSUserErrorInvalidInput", message=message)


def not_found(message: str, headers: Mapping[str, str] = SERVICE) -> RefusalError:
    return RefusalError(status=404, code="ResourceNotFound", message=message, headers=headers)


@dataclass(kw_only=True)
class Budget:
    """Requests left in a fixed window, per subscription and action."""

    size: int
    used: int = 0
    since: float = -math.inf


@dataclass(frozen=True)
class Route:
    """A method, a path, the action that the caller needs, and the handler.

    An empty action needs no right: everyone who is signed in may list what they can see.
    """

    method: str
    pattern: re.Pattern[str]
    action: str
    handler: Callable[[Call], Response]
    provider: str = RECOVERY_SERVICES
    # An hour, of what is read here; job reads of Recovery Services vaults have their own. 0 is not counted.
    reads: int = 1100


class Arm:
    """The gateway, which finds the handler of a request."""

    def __init__(
        self, routes: Sequence[Route], world: World, clock: Callable[[], float], job_read_budget: int
    ) -> None:
        self.routes, self.world, self.clock = routes, world, clock
        self.job_read_budget = job_read_budget
        self.newest_api_version: str | None = None
        self.budgets: dict[tuple[str, str], Budget] = {}
        # Of Resource Graph: when a user's window began and how many queries came since; jobs that are over.
        self.graph_budgets: dict[str, list[float]] = {}
        self.ended_jobs: dict[str, Json] = {}

    def answer(self, request: Request, principal: Principal, tenants: Sequence[str] = ()) -> Response:
        """Answer an authenticated request, or raise a RefusalError.

        :param tenants: whose tokens the request contains, in lower case.
        """
        if not request.query.get("api-version"):
            raise RefusalError(
                status=400,
                code="MissingApiVersionParameter",
                message="The api-version query parameter (?api-version=) is required for all requests.",
            )
        self._check_version(request)
        path = re.sub("%3b", ";", request.path, flags=re.IGNORECASE)
        for route in self.routes:
            match = route.pattern.fullmatch(path) if route.method == request.method else None
            if match:
                call = Call(self, request, match.groupdict(), principal, route.provider, tenants)
                return self._serve(route, call)
        raise RefusalError(
            status=404,
            code="InvalidResourceType",
            message=f"The emulator has no {request.method} {request.path}.",
            headers=GATEWAY,
        )

    def _check_version(self, request: Request) -> None:
        """Refuse an api-version that is newer than the cloud."""
        version, newest = request.query["api-version"], self.newest_api_version
        if newest is None or version[:10] <= newest:
            return
        named = re.search(r"/providers/([^/]+)/([^/]+)", request.path)
        region = self.world.region
        provider, kind = named.groups() if named else ("Microsoft.Resources", "subscriptions")
        raise RefusalError(
            status=400,
            code="NoRegisteredProviderFound",
            message=f"No registered resource provider found for location '{region}' and API version "
            f"'{version}' for type '{kind}' of '{provider}'. The supported api-versions are '2016-12-01, "
            f"2024-04-01, {newest}'. The supported locations are '{region}'.",
            headers=GATEWAY,
        )

    def _serve(self, route: Route, call: Call) -> Response:
        subscription = call.parts.get("sub", self.world.subscription).lower()
        if subscription not in map(str.lower, self.world.subscriptions):
            raise RefusalError(
                status=404,
                code="SubscriptionNotFound",
                message=f"The subscription '{call.parts['sub']}' could not be found.",
                headers=GATEWAY,
            )
        action = route.action and f"{route.provider}/{route.action}"
        if action:
            call.need(action)
        if (region := call.region).lower() in map(str.lower, self.world.down_regions):
            raise RefusalError(
                status=503,
                code="ServiceUnavailable",
                message=f"The service in {region} is temporarily unavailable. Please try again later.",
                headers=SERVICE,
            )
        spent = self.spend(action, route.method, route.reads, subscription) if route.reads else {}
        answer = route.handler(call)
        answer.headers = {**spent, **answer.headers}
        return answer

    def spend(self, action: str, method: str, allowed: int = 1100, subscription: str = "") -> dict[str, str]:
        """Count one request in a subscription, and return a header with what is left.

        The 151st job read of an hour is refused. The service was only recorded throttling job reads, so other
        quotas are only counted down.
        """
        now, window = self.clock(), HOUR / self.world.speed
        jobs = action.lower() == JOBS_READ.lower()
        size = 1200 if method != "GET" else self.job_read_budget if jobs else allowed
        key = subscription, "writes" if method != "GET" else action.lower()
        budget = self.budgets.setdefault(key, Budget(size=size))
        if now >= budget.since + window:
            budget.since, budget.used = now, 0
        budget.size, budget.used = size, budget.used + 1
        left = budget.size - budget.used
        if jobs and left < 0:
            wait = max(1, math.ceil(budget.since + window - now))
            raise RefusalError(
                status=429,
                code="ResourceRequestsThrottled",
                message=f"Number of requests for action '{JOBS_READ}' exceeded the limit of '{budget.size}' "
                f"for time interval '01:00:00'. Please try again after '{wait}' seconds.",
                headers={**GATEWAY, "Retry-After": str(wait)},
            )
        counter = "subscription-resource-requests" if action else "tenant-reads"
        name = counter if method == "GET" else "subscription-writes"
        return {f"x-ms-ratelimit-remaining-{name}": str(max(0, left))}


# A term of a filter. The pattern never backtracks, so its time grows only with the length of the text.
_TERM = re.compile(
    r"(?P<key>\w++)\s++eq\s++(?:'(?P<quoted>(?:[^']|'')*+)'|(?P<plain>[^'\s]++))(?:\s++and\s++(?=\w)|\Z)"
)


class Call:
    """A request in a handler, with look-ups of what its path names."""

    def __init__(
        self,
        arm: Arm,
        request: Request,
        parts: Mapping[str, str],
        principal: Principal,
        provider: str = RECOVERY_SERVICES,
        tenants: Sequence[str] = (),
    ) -> None:
        self.tenants = tenants
        self.arm, self.request, self.parts, self.principal = arm, request, parts, principal
        self.provider = provider
        self.world, self.now = arm.world, arm.clock()

    @property
    def scope(self) -> str:
        return (
            self.parts.get("item_path")
            or self.parts.get("vault_path")
            or f"/subscriptions/{self.parts['sub']}"
        )

    def need(self, action: str) -> None:
        """Refuse a caller without a right.

        :raises RefusalError: with 403.
        """
        principal = self.principal
        if not principal.may(action):
            raise RefusalError(
                status=403,
                code="AuthorizationFailed",
                message=f"The client '{principal.client_id}' with object id '{principal.object_id}' does not "
                f"have authorization to perform action '{action}' over scope '{self.scope}' or the scope is "
                "invalid. If access was recently granted, please refresh your credentials.",
                headers=GATEWAY,
            )

    @property
    def in_secondary_region(self) -> bool:
        """Whether a request to a vault is one to its secondary region."""
        versions = self.provider == RECOVERY_SERVICES and self.request.query["api-version"]
        return versions == SECONDARY_VERSION and bool(self.vault().secondary_region)

    @property
    def region(self) -> str:
        """The region whose service answers; an empty string where Resource Manager does by itself."""
        if "vault" not in self.parts:
            return self.parts.get("region", "")
        return self.vault().secondary_region if self.in_secondary_region else self.vault().region

    def vault(self) -> Vault:
        group, name = self.parts["group"], self.parts["vault"]
        kind = "backupVaults" if self.provider == DATA_PROTECTION else "vaults"
        home = f"/subscriptions/{self.parts['sub']}/resourceGroups/{group}/"
        if vault := self.world.vault_at.get(f"{home}providers/{self.provider}/{kind}/{name}".lower()):
            return vault
        if not any(path.startswith(home.lower()) for path in self.world.vault_at):
            raise RefusalError(
                status=404,
                code="ResourceGroupNotFound",
                message=f"Resource group '{group}' could not be found.",
                headers=GATEWAY,
            )
        raise not_found(
            f"The Resource '{self.provider}/{kind}/{name}' under resource group '{group}' was not "
            "found. For more details please go to https://aka.ms/ARMResourceNotFoundFix",
            GATEWAY,
        )

    def items(self) -> list[Item]:
        return self.world.items_in[self.vault().path]

    def item(self) -> Item:
        named = f"protectionContainers/{self.parts['container']}/protectedItems/{self.parts['item']}"
        if item := self.world.at(f"{self.vault().path}/backupFabrics/Azure/{named}"):
            return item
        raise not_found(f"The protected item '{self.parts['item']}' was not found in this vault.")

    def job(self) -> Job:
        job = self.world.jobs.get(self.parts["job"].lower())
        if job is None or job.region or job.item.vault != self.vault():
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
        jobs = [each for each in self.world.jobs_of(item) if each.category == "Backup"]
        return sorted(jobs, key=lambda each: each.starts)

    def point(self, item: Item | None = None, name: str | None = None) -> Job:
        """Return the backup that made a recovery point, by default the one that the path names."""
        name = self.parts["point"] if name is None else name
        for job in self.history(item or self.item()):
            if point_name(job) == name and job.snapshot_taken(self.now):
                return job
        raise not_found(f"The recovery point '{name}' was not found.")

    def log(self, item: Item) -> tuple[float, float] | None:
        """Return the first and the last moment that a database's logs cover; they begin with its first full
        backup.
        """
        done = [each for each in self.history(item) if each.snapshot_taken(self.now)]
        starts = [each.point_at for each in done if each.backup_type == "Full"]
        ends = [each.point_at for each in done if each.backup_type == "Log"]
        return (starts[0], ends[-1]) if starts and ends and starts[0] < ends[-1] else None

    def filters(self, *known: str) -> dict[str, str]:
        """Return ``$filter`` as a table. Clients send only ``eq`` and ``and``, so nothing else is known."""
        text = self.request.query.get("$filter", "").strip()
        found, at = {}, 0
        while at < len(text):
            term = _TERM.match(text, at)
            if term is None or term["key"] not in known:
                raise invalid(f"The filter {text!r} is not valid. It may name {', '.join(known)}.")
            found[term["key"]] = term["plain"] or (term["quoted"] or "").replace("''", "'")
            at = term.end()
        return found

    def page(
        self,
        values: Sequence[T],
        body: Callable[[T], Json],
        name: Callable[[T], str],
        wanted: Callable[[T], bool] = lambda _: True,
    ) -> Response:
        """Return one page, with a ``nextLink`` if there is more. Its token names the last value of the page,
        and where that was, so that a page costs no more than what it looks at.

        :param body: makes the body of one value; it is called for the values of this page only.
        :param name: returns the unique name of a value.
        :param wanted: whether a value is to be listed.
        """
        token = self.request.query.get("$skipToken", "")
        try:
            seen = base64.urlsafe_b64decode(token.encode() + b"==").decode()
        except ValueError:
            raise invalid(f"The $skipToken {token!r} is not valid.") from None
        found = (i for i in range(_start(values, seen, name), len(values)) if wanted(values[i]))
        some = [*islice(found, self.world.page_size)]
        page: Json = {"value": [body(values[i]) for i in some]}
        if next(found, None) is not None:
            last = f"{some[-1]}:{name(values[some[-1]])}"
            token = base64.urlsafe_b64encode(last.encode()).decode()
            query = {**self.request.query, "$skipToken": token}
            page["nextLink"] = f"{self.request.base}{self.request.path}?" + "&".join(
                f"{key}={quote(value, safe='')}" for key, value in query.items()
            )
        return Response(body=page)

    def accepted(
        self,
        operation: Operation,
        path: str,
        status: str,
        version: str | None = None,
        results: str = "operationResults",
    ) -> Response:
        """Return a 202 with the two signed addresses of an operation."""
        mine = self.request.query["api-version"]
        return Response(
            status=202,
            headers={
                "Azure-AsyncOperation": self._signed(f"{path}/{status}/{operation.id}", version or mine),
                "Location": self._signed(f"{path}/{results}/{operation.id}", mine),
                "Retry-After": self.retry_after(),
            },
        )

    def retry_after(self) -> str:
        """Return one emulated minute in real seconds; a minute was recorded."""
        return str(max(1, math.ceil(60 / self.world.speed)))

    def _signed(self, path: str, version: str) -> str:
        """Return an operation's address of about 3.5 KB. Certificate and signatures are filler of the real
        length.
        """
        ticks = int(self.now * 10_000_000) + 621_355_968_000_000_000
        c, s, h = (_filler(f"{part}{path}", size) for part, size in (("c", 1950), ("s", 256), ("h", 32)))
        return f"{self.request.base}{path}?api-version={version}&t={ticks}&c={c}&s={s}&h={h}"


def _start(values: Sequence[T], seen: str, name: Callable[[T], str]) -> int:
    """Return where a page begins whose token has this text."""
    place, _, last = seen.partition(":")
    at = int(place) if place.isdecimal() and len(place) < 10 else 0
    if at < len(values) and name(values[at]) == last:
        return at + 1
    return next((i + 1 for i, value in enumerate(values) if name(value) == last), 0) if last else 0


def _filler(seed: str, size: int) -> str:
    return base64.urlsafe_b64encode(hashlib.shake_256(seed.encode()).digest(size)).decode().rstrip("=")


def trace_headers(request: Request, now: float) -> dict[str, str]:
    """Return the headers of every recorded response: Azure's time, and the ids that a support request
    needs.
    """
    identity = str(uuid.uuid4())
    found = {
        "Date": formatdate(now, usegmt=True),
        "Server": "Kestrel",
        "Cache-Control": "no-cache",
        "Pragma": "no-cache",
        "Expires": "-1",
        "X-Content-Type-Options": "nosniff",
        "Strict-Transport-Security": "max-age=31536000; includeSubDomains",
        "x-ms-request-id": identity,
        "x-ms-correlation-request-id": request.headers.get("x-ms-correlation-request-id", identity),
    }
    if client := request.headers.get("x-ms-client-request-id"):
        found["x-ms-client-request-id"] = client
    return found

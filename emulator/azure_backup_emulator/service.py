"""Sign-in, Resource Manager and the control endpoint on one host.

Tests and demos use the control endpoint, ``/_emulator``. Requests and responses are JSON::

    GET  /_emulator              this text
    GET  /_emulator/state        clock, settings, faults and jobs as they stand
    GET  /_emulator/requests     the requests so far: method, path, query, status, at, client_request_id,
                                 user_agent, principal, auxiliary (whether a token of another tenant came
                                 along), number; never a token or a body. A status of null means no response.
                                 Filter: ?method=POST&path_contains=/backup&status=202
    POST /_emulator/plan         {"item": "vm-good", "ending": "Failed", "seconds": 60, ...}
                                 ending     Completed, Failed, Cancelled, CompletedWithWarnings,
                                            CancelledInTransfer or Never
                                 error      an errorDetails entry for a job that does not end well
                                 operation  Succeeded, Failed, InProgress (for ever), NoProperties or JobIds
                                 validation of a restore: Succeeded, Failed or InProgress
                                 obstacles  to a restore: quota, permission, account, firewall, subnet, group,
                                            name, region, archive, infected, expired, deleted
                                 operation_seconds   how long the operation is InProgress
                                 busy       job, operation or conflict: how a second backup or restore is
                                            refused while one runs; null does not refuse it
                                 busy_error          code and message of that refusal
                                 visible_after       how long lists do not show the job yet
                                 consistency         of a VM's recovery point: AppConsistent,
                                            FileSystemConsistent, CrashConsistent
                                 cancel     accepted, declined (400) or ignored; cancel_seconds
                                 quirks     integer-actions, v2-job-types, negative-duration,
                                            clock-duration, arm-job-id; of Backup vaults: older-words
                                            (Started, Success, SuccessWithWarning), pauses (Paused),
                                            other-casing and bare-job-id (of an operation's job id)
                                            no-category (operationCategory null) and nested-errors;
                                            numeric-tiers of recovery points; older-vm-jobs (as before 2026)
                                 point      of the recovery point: partial, soft_deleted, expires, threat,
                                            tiers, disks, excluded, before_start, after_end, vaulted_after
    POST /_emulator/start_job    {"item": "vm-good", "operation": "Backup", "ending": "Failed", "seconds": 60,
                                 "backup_type": "Log", "ago": 3600, "point": {"partial": true}}
                                 operation  any operation of Azure: DeleteBackupData, Tiering:Backup, ...
    POST /_emulator/change_point {"job_id": "...", "threat": "UnHealthy"}
    POST /_emulator/protect      {"item": "vm-good", "state": "ProtectionStopped", "deleted_ago": 3600,
                                 "seconds": 600}
                                 without state and deleted_ago, the item is protected again
    POST /_emulator/set_status   {"job_id": "...", "status": "Hibernating"}   null lets the job continue
    POST /_emulator/fault        {"path": "/backupJobs/", "times": 2, "status": 503, "retry_after": 1}
                                 who: method, times (null: until cleared), after, path: text, in which
                                 .* . [...] ^ $ | mean what they mean in a regular expression
                                 what: status with code, message, retry_after; latency; reset; truncate; html;
                                 empty; garbage; expire_token; claims; redirect; next_link
                                 processed: the request takes effect, its answer is late, lost or replaced
    POST /_emulator/clear        remove all faults
    POST /_emulator/configure    {"token_lifetime": 60, "job_read_budget": 150, "page_size": 9, "quirks": [],
                                 "clock_skew": -90,   seconds Azure's clock is ahead; set before the first job
                                 "newest_api_version": "2025-02-01",   newer ones get 400
                                 "down_regions": ["westeurope"],   whose services answer 503
                                 "expired_secrets": ["reader"],   principals whose secret has expired
                                 "guards": {"demo-vault": {"tenant_id": "..."}},   Resource Guards of vaults
                                 "resource_graph": {"lag": 120, "gaps": 0.1, "doubles": 0.1,
                                                    "hidden": ["demo-vault-2"]}}   how it differs
    POST /_emulator/reset        return to the state at the start
"""

from __future__ import annotations

import re
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict
from urllib.parse import parse_qsl

from azure_backup_emulator import seed as seeds
from azure_backup_emulator.arm.faults import HTML, RECORDED, Fault, Faults
from azure_backup_emulator.arm.gateway import Arm, Request, Response, trace_headers
from azure_backup_emulator.arm.identity import Identity, SignInError, instance_discovery
from azure_backup_emulator.arm.recovery_services import ROUTES
from azure_backup_emulator.arm.resource_graph import RESOURCE_GRAPH
from azure_backup_emulator.arm.secondary_region import SECONDARY_REGION
from azure_backup_emulator.model.checks import fit, fitting, made
from azure_backup_emulator.model.jobs import QUIRKS, Json, one_of
from azure_backup_emulator.model.store import FileStore, Log, Store
from azure_backup_emulator.model.world import Inventory, RefusalError, World

CONTROL = "/_emulator"
# The header with the tokens of further tenants.
AUXILIARY = "x-ms-authorization-auxiliary"
JOB_READS_AN_HOUR = 150
TOKEN_LIFETIME = 3599.0
SLOWEST, FASTEST = 0.001, 1_000_000


class ResourceGraph(TypedDict, total=False):
    """How far Resource Graph is from what the vaults say.

    ``lag`` are the emulated seconds by which it is late, ``gaps`` and ``doubles`` the shares, from 0 to 1, of
    the rows that it leaves out for ever and that it shows twice, ``hidden`` the names of vaults without rows.
    """

    lag: float
    gaps: float
    doubles: float
    hidden: Sequence[str]


class Guard(TypedDict, total=False):
    """A Resource Guard, in the tenant of the vault unless it names another one."""

    tenant_id: str


class Settings(TypedDict, total=False):
    """What :meth:`Emulator.configure` changes."""

    token_lifetime: float
    expired_secrets: Sequence[str]
    job_read_budget: int
    page_size: int
    quirks: Sequence[str]
    resource_graph: ResourceGraph
    guards: Mapping[str, Guard]
    clock_skew: float
    newest_api_version: str | None
    down_regions: Sequence[str]


class Service:
    """The emulated services without their socket. Safe to use from several threads.

    :param clock: Unix time as the vaults see it.
    :param speed: emulated seconds per second of that clock.
    :param seed: changes to ``seed.DEFAULT``, key by key.
    """

    def __init__(self, *, clock: Callable[[], float], speed: float, seed: Mapping[str, Any] | None) -> None:
        if not SLOWEST <= speed <= FASTEST:
            raise ValueError(f"speed must be from {SLOWEST} to {FASTEST:,}, not {speed}")
        self.speed, self.skew = speed, 0.0
        self._clock = clock
        self.seed = seeds.read(seed or {})
        self.inventory = Inventory(self.seed)
        self.store = Store()
        self.identity = Identity(self.seed, time.time, self.store)
        self.lock = threading.RLock()
        self._begin()

    def clock(self) -> float:
        """Return Unix time as the vaults see it now."""
        return self._clock() + self.skew

    def keep(self, path: Path) -> None:
        """Continue with the state in a file, and write every change to it before the response is sent.

        :raises OSError: if another emulator has the file open, or another release wrote it.
        """
        with self.lock:
            self.store = FileStore(path)
            try:
                self.identity = Identity(self.seed, time.time, self.store)
                self._begin()
            except (sqlite3.DatabaseError, AttributeError, KeyError, TypeError, ValueError) as error:
                raise OSError(
                    f"{path} cannot be read ({error}). If another release of the emulator has written it, "
                    "delete it or use another directory"
                ) from error

    def close(self) -> None:
        """Close the file, so that another emulator can open it."""
        with self.lock:
            self.store.close()

    def _begin(self) -> None:
        self.skew = 0.0
        self.world = World(self.inventory, self.speed, self.store)
        self.world.start_seeded(self.inventory, self.clock())
        self.arm = Arm(
            (*ROUTES, *SECONDARY_REGION, *RESOURCE_GRAPH), self.world, self.clock, JOB_READS_AN_HOUR
        )
        self.identity.lifetime, self.identity.expired_secrets = TOKEN_LIFETIME, ()
        self.faults = Faults(self.store)
        self.log = Log(self.store)
        self.configure(**self.store.all("setting"))

    def reset(self) -> None:
        """Return to the seed: no jobs, no faults, full quotas, no recorded requests. Tokens stay valid."""
        with self.lock:
            self.store.clear()
            self.identity.revoked.clear()
            self._begin()

    def configure(self, **settings: Any) -> None:
        """Change the settings that :meth:`Emulator.configure` names.

        Set the clock skew before the first job, because to a running job it is a jump in time.
        """
        places: Mapping[str, tuple[object, str]] = {
            "token_lifetime": (self.identity, "lifetime"),
            "expired_secrets": (self.identity, "expired_secrets"),
            "job_read_budget": (self.arm, "job_read_budget"),
            "page_size": (self.world, "page_size"),
            "quirks": (self.world, "quirks"),
            "resource_graph": (self.world, "resource_graph"),
            "guards": (self.world, "guards"),
            "clock_skew": (self, "skew"),
            "newest_api_version": (self.arm, "newest_api_version"),
            "down_regions": (self.world, "down_regions"),
        }
        fit(settings, Settings, "settings")
        for name, least in (("page_size", 1), ("job_read_budget", 0)):
            if settings.get(name, least) < least:
                raise ValueError(f"settings: {name} must be at least {least}, not {settings[name]}")
        for each in settings.get("guards", ()):
            one_of("settings: guards", each, [vault.name for vault in self.world.vault_at.values()])
        for name, allowed in (("quirks", QUIRKS), ("expired_secrets", self.identity.principals)):
            for each in settings.get(name, ()):
                one_of(f"settings: {name}", each, allowed)
        with self.lock:
            for name, value in settings.items():
                setattr(*places[name], value)
                self.store.put("setting", name, value)
            guards = self.world.guards.values()
            self.identity.further_tenants = [each["tenant_id"] for each in guards if "tenant_id" in each]

    def start_job(
        self,
        item: str,
        *,
        operation: str = "Backup",
        ending: str = "Completed",
        seconds: float | None = None,
        backup_type: str | None = None,
        ago: float = 0.0,
        point: Mapping[str, Any] | None = None,
        error: Mapping[str, Any] | None = None,
    ) -> str:
        """Start a job as a policy does, and return its id; see ``Emulator.start_job``."""
        with self.lock:
            found = self.world.named(item)
            if len(found) > 1:
                raise ValueError(f"{item!r} is several items: {[each.path for each in found]}")
            changes: Json = {} if error is None else {"error": error}
            if operation == "CrossRegionRestore":
                operation, changes["region"] = "Restore", found[0].vault.secondary_region
                if not changes["region"]:
                    raise ValueError(f"the vault of {item!r} has no secondary_region")
            return self.world.start(
                found[0],
                self.clock() - ago / self.speed,
                operation,
                ending=ending,
                seconds=seconds,
                backup_type=backup_type,
                point=point,
                **changes,
            ).id

    def change_point(self, job_id: str, **facts: Any) -> None:
        """Change what is special about the recovery point of a job; see ``jobs.Point``."""
        with self.lock:
            self.world.change_point(job_id, **facts)

    def protect(
        self, item: str, *, state: str = "", deleted_ago: float | None = None, seconds: float | None = None
    ) -> None:
        """Put the protection of an item into a state; see ``Emulator.protect``."""
        with self.lock:
            now = self.clock()
            deleted_at = None if deleted_ago is None else now - deleted_ago / self.speed
            until = None if seconds is None else now + seconds / self.speed
            self.world.protect(item, state, deleted_at, until)

    def plan(self, item: str, **changes: Any) -> None:
        """Decide how the next jobs of an item run and end; see ``jobs.Plan``."""
        with self.lock:
            self.world.plan(item, **changes)

    def set_status(self, job_id: str, status: str | None) -> None:
        """Fix the status of a job to a word, known or invented; None lets the job continue."""
        with self.lock:
            job = self.world.jobs[job_id]
            job.pinned = None if status is None else (status, self.clock())
            self.world.keep(job)

    def add_fault(self, **spec: Any) -> str:
        """Add a fault and return its id; see ``faults.Fault``."""
        with self.lock:
            return self.faults.add(made(Fault, spec, "fault"))

    # Requests

    def remember(self, request: Request) -> Json:
        """Record a request before it is answered. Its status stays None if it never is."""
        entry: Json = {
            "method": request.method,
            "path": request.path,
            "query": dict(request.query),
            "status": None,
            "at": self.clock(),
            "client_request_id": request.headers.get("x-ms-client-request-id"),
            "user_agent": request.headers.get("user-agent"),
            "principal": self._principal(request),
            "auxiliary": AUXILIARY in request.headers,
        }
        with self.lock:
            self.log.add(entry)
        return entry

    def answered(self, entry: Json, status: int) -> None:
        """Record the status with which a request was answered."""
        with self.lock:
            entry["status"] = status
            self.log.keep(entry)

    def _principal(self, request: Request) -> str | None:
        try:
            return self.identity.check(request.headers.get("authorization", ""), request.base)[0].name
        except RefusalError:
            return None

    def fault_for(self, request: Request, target: str) -> Fault | None:
        """Return the fault that applies to a request, if any."""
        with self.lock:
            fault = self.faults.take(request.method, target)
            if fault and fault.claims and self._answers_challenge(request):
                return None
            return fault

    def _answers_challenge(self, request: Request) -> bool:
        try:
            _, claims = self.identity.check(request.headers.get("authorization", ""), request.base)
            return bool(claims["answers_challenge"])
        except RefusalError:
            return False

    def answer(self, request: Request) -> Response:
        """Answer a request as Azure would."""
        with self.lock:
            try:
                answer = self._sign_in(request)
                if answer is None:
                    principal, claims = self.identity.check(
                        request.headers.get("authorization", ""), request.base
                    )
                    answer = self.arm.answer(request, principal, self._tenants(request, claims))
            except SignInError as refused:
                answer = Response(status=refused.status, body=refused.body)
            except RefusalError as refused:
                answer = _refusal(refused)
        answer.headers = {**trace_headers(request, self.clock()), **answer.headers}
        return answer

    def _tenants(self, request: Request, claims: Json) -> list[str]:
        """Return the tenants of the tokens in a request.

        :raises RefusalError: if one of them is not valid.
        """
        further = [each.strip() for each in request.headers.get(AUXILIARY, "").split(",") if each.strip()]
        found = [claims, *(self.identity.check(each, request.base)[1] for each in further)]
        return [str(each.get("tid", self.identity.tenant)).lower() for each in found]

    def _sign_in(self, request: Request) -> Response | None:
        match = re.fullmatch(
            r"/([^/]+)/(v2\.0/\.well-known/openid-configuration|oauth2/v2\.0/token)", request.path
        )
        if match and match[2].endswith("token"):
            form = dict(parse_qsl(request.body.decode(errors="replace")))
            return Response(body=self.identity.grant(match[1], form))
        if match:
            return Response(body=self.identity.discovery(match[1], request.base))
        if request.path == "/common/discovery/instance":
            return Response(body=instance_discovery(self.identity.tenant, request.base))
        if request.path == "/msi/token":
            header = request.headers.get("x-identity-header", "")
            status, body = self.identity.managed_token(header, request.query)
            return Response(status=status, body=body)
        return None

    def fault_response(self, fault: Fault, request: Request) -> Response:
        """Return the response of a fault, which replaces the real one."""
        headers = {} if fault.retry_after is None else {"Retry-After": f"{fault.retry_after:g}"}
        if fault.claims:
            answer = _refusal(self.identity.claims_challenge())
        elif fault.expire_token:
            answer = self._expire(request)
        elif fault.redirect:
            answer = Response(status=307, headers={"Location": fault.redirect.rstrip("/") + request.path})
        elif fault.html:
            status = fault.status or 502
            answer = Response(
                status=status, body=HTML.format(status).encode(), headers={"Content-Type": "text/html"}
            )
        elif fault.empty:
            answer = Response(status=fault.status or 200, body=b"")
        elif fault.garbage is not None:
            answer = Response(status=fault.status or 200, body=fault.garbage.encode())
        else:
            code, message, cause = RECORDED.get(
                fault.status or 0, ("BadRequest", "The request is invalid.", "gateway")
            )
            error = {"code": fault.code or code, "message": fault.message or message}
            answer = Response(
                status=fault.status or 500, body={"error": error}, headers={"x-ms-failure-cause": cause}
            )
        answer.headers = {**trace_headers(request, self.clock()), **answer.headers, **headers}
        return answer

    def _expire(self, request: Request) -> Response:
        try:
            _, claims = self.identity.check(request.headers.get("authorization", ""), request.base)
        except RefusalError as refused:
            return _refusal(refused)
        self.identity.revoked.add(claims["uti"])
        self.store.put("revoked", claims["uti"], True)
        return _refusal(self.identity.expired(claims))

    # The control endpoint

    def control(self, request: Request) -> Response:
        """Answer a request to ``/_emulator``; a mistake in it gets 400 and the reason."""
        command = COMMANDS.get((request.method, request.path.removeprefix(CONTROL).strip("/")))
        if command is None:
            return Response(
                status=404, body={"error": f"no {request.method} {request.path}; see GET {CONTROL}"}
            )
        try:
            arguments = request.json() if request.method == "POST" else request.query
            fitting(command, arguments, command.__name__)
            found = command(self, **arguments)
        except (ValueError, TypeError, KeyError, RecursionError, RefusalError) as mistake:
            reason = mistake.message if isinstance(mistake, RefusalError) else str(mistake)
            return Response(status=400, body={"error": reason})
        if command in (Service.start_job, Service.add_fault):
            found = {"job_id" if command is Service.start_job else "id": found}
        found = {} if found is None else found
        headers = {"Content-Type": "text/plain"} if isinstance(found, bytes) else {}
        return Response(body=found, headers=headers)

    def help(self) -> bytes:
        """Return a description of the control endpoint."""
        return (__doc__ or "").encode()

    def clear_faults(self) -> None:
        """Remove all faults."""
        with self.lock:
            self.faults.clear()

    def requests(self, **wanted: Any) -> list[Json]:
        """Return the requests so far, oldest first; see ``Log.find``."""
        with self.lock:
            return self.log.find(**wanted)

    def state(self) -> Json:
        """Return the clock, the settings, the faults and the jobs."""
        with self.lock:
            now = self.clock()
            jobs: Sequence[Json] = [
                {
                    "id": j.id,
                    "item": j.item.path,
                    "operation": j.operation,
                    "status": j.status(now),
                    "starts": j.starts,
                }
                for j in self.world.jobs.values()
            ]
            return {
                "now": now,
                "speed": self.speed,
                "token_lifetime": self.identity.lifetime,
                "job_read_budget": self.arm.job_read_budget,
                "page_size": self.world.page_size,
                "clock_skew": self.skew,
                "faults": list(self.faults.known),
                "jobs": jobs,
            }


COMMANDS: Mapping[tuple[str, str], Callable[..., Any]] = {
    ("GET", ""): Service.help,
    ("GET", "requests"): Service.requests,
    ("GET", "state"): Service.state,
    ("POST", "plan"): Service.plan,
    ("POST", "start_job"): Service.start_job,
    ("POST", "set_status"): Service.set_status,
    ("POST", "change_point"): Service.change_point,
    ("POST", "protect"): Service.protect,
    ("POST", "fault"): Service.add_fault,
    ("POST", "clear"): Service.clear_faults,
    ("POST", "configure"): Service.configure,
    ("POST", "reset"): Service.reset,
}


def _refusal(refused: RefusalError) -> Response:
    error = {**refused.more, "code": refused.code, "message": refused.message}
    return Response(status=refused.status, body={"error": error}, headers=dict(refused.headers))

"""The emulator on a socket: aiohttp over TLS, on loopback only, in a thread of its own."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import re
import shutil
import socket
import ssl
import struct
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from azure_backup_emulator import tls
from azure_backup_emulator.arm.faults import Fault
from azure_backup_emulator.arm.gateway import Request, Response
from azure_backup_emulator.model.jobs import Json, one_of
from azure_backup_emulator.service import CONTROL, Service

LARGEST_BODY = 2**20


def _discreet(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    # aiohttp logs what it cannot read of a request: the Authorization header, when that is the broken line.
    if isinstance(error, HttpProcessingError):
        record.exc_info = None
    # And a body that breaks off or is no chunks, which is answered already.
    return not isinstance(error, web.RequestPayloadError)


# The names by which a client on this computer calls it. A web page can let a name of its own lead to
# 127.0.0.1 (DNS rebinding); the browser then sends that name.
_HERE = r"(localhost|127\.0\.0\.1|\[::1\])(:\d{1,5})?"
HOST, ORIGIN = re.compile(_HERE, re.IGNORECASE), re.compile(f"https?://{_HERE}", re.IGNORECASE)
LOGGER = logging.getLogger(__name__)
LOGGER.addFilter(_discreet)


class Emulator:
    """A running emulator, as a context manager.

    :param clock: Unix time as the vaults see it. A test hands in one it moves by hand.
    :param speed: every emulated duration, and the hour of the job read budget, is divided by this.
    :param port: 0 takes a free one. There is no host: it listens on loopback only.
    :param directory: where ``ca.pem`` goes, and ``state.db``: an emulator started again on it, also after
        a kill, goes on with the same jobs, plans, faults, requests, secrets, tokens and certificate. A
        temporary one, removed at the end, when left out.
    :param seed: changes to ``seed.DEFAULT``, key by key.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.time,
        speed: float = 1.0,
        port: int = 0,
        directory: Path | None = None,
        seed: Mapping[str, Any] | None = None,
    ) -> None:
        self.service = Service(clock=clock, speed=speed, seed=seed)
        self.port = port
        self._temporary = directory is None
        # Made when it starts: an emulator that never does leaves nothing behind.
        self.directory = (
            directory or Path(tempfile.gettempdir(), f"azbackup-emulator-{uuid.uuid4()}")
        ).resolve()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None

    def __enter__(self) -> Emulator:
        # Keys go here, for their owner's eyes alone.
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with ExitStack() as undo:
            undo.callback(self._leave)
            if not self._temporary:
                self.service.keep(self.directory / "state.db")
            context = self._trust()
            sockets = _loopback(self.port)
            undo.pop_all()
        self.port = sockets[0].getsockname()[1]
        ready = threading.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(sockets, context, ready)),
            name="azbackup-emulator",
            daemon=True,
        )
        self._thread.start()
        if not ready.wait(30):
            raise RuntimeError("the emulator did not start within 30 seconds")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._loop and self._stop and self._thread:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(10)
        self._leave()

    def _leave(self) -> None:
        self.service.close()
        if self._temporary:
            shutil.rmtree(self.directory, ignore_errors=True)

    def _trust(self) -> ssl.SSLContext:
        """The certificates that were here before, or new ones."""
        service = self.service
        for name in service.identity.principals:
            if self._certificate(name).exists():
                service.identity.public_keys[name] = tls.public_key(self._certificate(name))
        return tls.server_context(self.directory, service.store.lasting("tls", tls.new, tls.is_good))

    def _certificate(self, principal: str) -> Path:
        return self.directory / f"{principal}.pem"

    @property
    def url(self) -> str:
        """Where everything is: Resource Manager, sign-in and control."""
        return f"https://localhost:{self.port}"

    @property
    def ca_bundle(self) -> str:
        """The certificate file that clients must trust."""
        return str(self.directory / "ca.pem")

    def connection(self, principal: str = "operator", **extra: Any) -> Json:
        """An Airflow connection of a principal; ``json.dumps`` makes it an ``AIRFLOW_CONN_...`` variable."""
        one_of("principal", principal, self.service.identity.principals)
        who = self.service.identity.principals[principal]
        vault = self.service.world.vaults[0]
        return {
            "conn_type": "azure_backup",
            "login": who.client_id,
            "password": who.secret,
            "extra": {
                "tenant_id": self.service.identity.tenant,
                "subscription_id": vault.subscription,
                "resource_group_name": vault.group,
                "vault_name": vault.name,
                "endpoint": self.url,
                "authority": self.url,
                "ca_bundle": self.ca_bundle,
                **extra,
            },
        }

    def certificate(self, principal: str = "operator") -> str:
        """Register a new certificate for a principal; the path of the file that holds it and its key."""
        path = self._certificate(principal)
        self.service.identity.public_keys[principal] = tls.client_certificate(path, principal)
        return str(path)

    def federated_token_file(self, principal: str = "operator") -> str:
        """The path of a token file as Kubernetes projects it for a workload identity."""
        path = self.directory / f"{principal}.token"
        token = self.service.identity.federated(self.service.identity.principals[principal])
        tls.write_whole(path, token.encode())
        return str(path)

    def managed_identity(self) -> dict[str, str]:
        """The environment variables of an App Service whose managed identity this emulator serves."""
        return {
            "IDENTITY_ENDPOINT": f"{self.url}/msi/token",
            "IDENTITY_HEADER": self.service.identity.identity_header,
        }

    def plan(
        self, item_name: str, *, ending: str = "Completed", seconds: float | None = None, **more: Any
    ) -> None:
        """Decide how the next and later jobs of an item go.

        :param item_name: friendly name (all items that share it), native name or ARM id.
        :param ending: Completed, Failed, Cancelled, CompletedWithWarnings, CancelledInTransfer or Never.
        :param seconds: how long they last, in emulated seconds.
        :param more: ``error``, ``operation``, ``validation``, ``operation_seconds``, ``busy``,
            ``busy_error``, ``cancel``, ``cancel_seconds``, ``visible_after``, ``quirks``, ``point``: see
            ``jobs.Plan``.
        """
        self.service.plan(item_name, ending=ending, seconds=seconds, **more)

    def start_job(
        self,
        item_name: str,
        *,
        operation: str = "Backup",
        ending: str = "Completed",
        seconds: float | None = None,
        backup_type: str | None = None,
        ago: float = 0.0,
        point: Mapping[str, Any] | None = None,
        error: Mapping[str, Any] | None = None,
    ) -> str:
        """Start somebody else's job of an item, as a policy or the portal does, and return its id.

        :param operation: ``Backup``, ``Restore`` or any other of Azure's, such as ``DeleteBackupData``,
            ``DisableBackup`` or ``ConfigureBackup``; in a Backup vault also ``Tiering:Backup``.
        :param ending: as in :meth:`plan`.
        :param seconds: how long it lasts, in emulated seconds.
        :param backup_type: of a database: ``Full`` (the default), ``Differential``, ``Log``, ...; of a HANA
            instance ``SnapshotFull``.
        :param ago: how many emulated seconds ago it began. It may have ended since.
        :param point: what is special about its recovery point, in place of what is planned: fields of
            ``jobs.Point``.
        :param error: the error of a job that does not end well.
        """
        return self.service.start_job(
            item_name,
            operation=operation,
            ending=ending,
            seconds=seconds,
            backup_type=backup_type,
            ago=ago,
            point=point,
            error=error,
        )

    def change_point(self, job_id: str, **facts: Any) -> None:
        """Change what is special about the recovery point that a job has made or will make.

        :param facts: fields of ``jobs.Point``: ``partial``, ``soft_deleted``, ``expires``, ``threat``,
            ``tiers``, ``disks``, ``excluded``, ``before_start``, ``after_end``, ``vaulted_after``.
        """
        self.service.change_point(job_id, **facts)

    def protect(
        self,
        item_name: str,
        *,
        state: str = "",
        deleted_ago: float | None = None,
        seconds: float | None = None,
    ) -> None:
        """Put the protection of an item into another state; without arguments, back into the usual one.

        :param item_name: as in :meth:`plan`.
        :param state: ``ProtectionStopped`` and the like; of a backup instance ``UpdatingProtection``,
            ``ProtectionError``, ``SoftDeleted``, ...
        :param deleted_ago: how many emulated seconds ago its data was deleted. It is kept for 14 days, and
            the item stays in lists. Azure calls the state of such an item ``ProtectionStopped``.
        :param seconds: for how many emulated seconds it is in that state; None for good.
        """
        self.service.protect(item_name, state=state, deleted_ago=deleted_ago, seconds=seconds)

    def set_status(self, job_id: str, status: str | None) -> None:
        """Pin a job to any status word, also an invented one; None lets it go on."""
        self.service.set_status(job_id, status)

    def fault(self, **spec: Any) -> str:
        """Let coming requests meet trouble: one, unless ``times`` says otherwise; see ``faults.Fault``."""
        return self.service.add_fault(**spec)

    def clear_faults(self) -> None:
        """Put no fault in force any more."""
        self.service.clear_faults()

    def configure(self, **settings: Any) -> None:
        """Change settings until the next reset.

        :param settings: ``token_lifetime`` (seconds), ``job_read_budget``, ``page_size``, ``quirks``, and
            ``clock_skew``: seconds that Azure's clock (job times, ``Date``) is ahead of the one handed in.
            ``newest_api_version``: a date such as ``2025-02-01``; any newer version is answered with 400
            NoRegisteredProviderFound, as by a cloud that is older. None knows all.
            ``expired_secrets``: names of principals whose client secret has expired.
        """
        self.service.configure(**settings)

    @property
    def requests(self) -> list[Json]:
        """What was asked so far, oldest first, without tokens and bodies."""
        return self.service.requests()

    def count(
        self, method: str | None = None, path_contains: str | None = None, status: int | None = None
    ) -> int:
        """How many requests had this method, this in their path (ignoring case), and this status."""
        return len(self.service.requests(method=method, path_contains=path_contains, status=status))

    def reset(self) -> None:
        """Back to the state at start; addresses, secrets and tokens stay valid."""
        self.service.reset()

    async def _serve(
        self, sockets: list[socket.socket], context: ssl.SSLContext, ready: threading.Event
    ) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        application = web.Application(client_max_size=LARGEST_BODY)
        application.router.add_route("*", "/{tail:.*}", self._handle)
        runner = web.AppRunner(
            application,
            access_log=None,
            logger=LOGGER,
            shutdown_timeout=0.1,
            handler_cancellation=True,
            auto_decompress=False,  # no client of Azure compresses what it sends
        )
        await runner.setup()
        for each in sockets:
            await web.SockSite(runner, each, ssl_context=context).start()
        ready.set()
        await self._stop.wait()
        server = runner.server
        transports = [each.transport for each in server.connections] if server else []
        await runner.cleanup()
        # A TLS goodbye waits for the client's; one that keeps its connection would hold us for 30 s.
        for transport in filter(None, transports):
            transport.abort()
        await asyncio.sleep(0.01)

    async def _handle(self, http: web.Request) -> web.StreamResponse:
        if refused := _foreign(http):
            return _response(Response(status=403, body={"error": {"code": "Forbidden", "message": refused}}))
        if (http.content_length or 0) > LARGEST_BODY:
            raise web.HTTPRequestEntityTooLarge(LARGEST_BODY, http.content_length or 0)
        try:
            body = await http.read()
        except web.RequestPayloadError as error:
            raise web.HTTPBadRequest from error
        request = Request(
            method=http.method,
            path=http.path,
            query=dict(http.query),
            headers={name.lower(): _clean(value) for name, value in http.headers.items()},
            body=body,
            base=f"https://{http.host}",
        )
        if request.path == CONTROL or request.path.startswith(f"{CONTROL}/"):
            return _response(self.service.control(request))
        entry = self.service.remember(request)
        fault = self.service.fault_for(request, f"{request.path}?{http.query_string}".removesuffix("?"))
        if fault is None:
            answer = self.service.answer(request)
        else:
            found = await self._answer_with_fault(fault, request, http)
            if isinstance(found, web.StreamResponse):
                return found
            answer = found
        self.service.answered(entry, answer.status)
        return _response(answer)

    async def _answer_with_fault(
        self, fault: Fault, request: Request, http: web.Request
    ) -> Response | web.StreamResponse:
        # A client that gives up during the wait ends this task; what was processed stays so.
        done = self.service.answer(request) if fault.processed else None
        if fault.latency:
            await asyncio.sleep(fault.latency)
        answer = done or (self.service.answer(request) if fault.waits_for_answer else Response())
        if fault.reset:
            _drop(http, hard=True)
            return web.Response()
        if fault.truncate:
            return await _truncated(http, answer)
        if fault.next_link and isinstance(answer.body, dict) and "value" in answer.body:
            answer.body["nextLink"] = f"{fault.next_link.rstrip('/')}{request.path}?$skipToken=elsewhere"
        return self.service.trouble(fault, request) if fault.replaces else answer


def _foreign(request: web.Request) -> str:
    """Why a request is not answered: it calls another host, or a page of another site sends it."""
    hosts, origin = request.headers.getall("Host", []), request.headers.get("Origin")
    if len(hosts) != 1 or not HOST.fullmatch(hosts[0]):
        return f"The emulator answers to localhost, 127.0.0.1 and [::1] only, not to Host {_clean(hosts)}."
    if origin is not None and not ORIGIN.fullmatch(origin):
        return f"The emulator answers no web page of another site: Origin is {_clean(origin)!r}."
    return ""


def _clean(text: object) -> str:
    """Text in which bytes that were no UTF-8 are question marks, so that it can be encoded again."""
    return str(text).encode(errors="replace").decode()


def _response(answer: Response) -> web.Response:
    # Some say what the client has sent; a header can hold less than JSON can.
    answer.headers = {name: re.sub(r"[^ -~]", "?", value) for name, value in answer.headers.items()}
    if answer.body is None:
        response = web.Response(status=answer.status, headers=answer.headers)
        if answer.status != 204:
            response.headers["Content-Length"] = "0"
        response.headers.popall("Content-Type", None)
        return response
    data = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
    headers = {"Content-Type": "application/json; charset=utf-8", **answer.headers}
    return web.Response(status=answer.status, body=data, headers=headers)


def _drop(request: web.Request, *, hard: bool) -> None:
    """End the connection; ``hard`` sends a reset, as a dying gateway does, instead of a goodbye."""
    transport = request.transport
    if transport is None:
        return
    if hard:
        raw = transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    else:
        transport.close()


async def _truncated(request: web.Request, answer: Response) -> web.StreamResponse:
    """Half of the body under headers that promise the whole."""
    whole = _response(answer)
    data = whole.body if isinstance(whole.body, bytes) else b""
    response = web.StreamResponse(status=answer.status, headers=whole.headers)
    response.content_length = len(data)
    await response.prepare(request)
    await response.write(data[: len(data) // 2])
    _drop(request, hard=False)
    return response


def _loopback(port: int) -> list[socket.socket]:
    """Listening sockets on 127.0.0.1 and, where there is one, ::1, with the same port."""
    for _ in range(20):
        first = _bound(socket.AF_INET, "127.0.0.1", port)
        try:
            return [first, _bound(socket.AF_INET6, "::1", first.getsockname()[1])]
        except OSError as error:
            if error.errno != errno.EADDRINUSE or port:
                if error.errno == errno.EADDRINUSE:
                    first.close()
                    raise
                return [first]  # no IPv6 here
            first.close()
    raise OSError(errno.EADDRINUSE, "no port is free on both loopback addresses")


def _bound(family: socket.AddressFamily, host: str, port: int) -> socket.socket:
    found = socket.socket(family, socket.SOCK_STREAM)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            found.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        found.bind((host, port))
        found.listen(512)
    except OSError:
        found.close()
        raise
    return found

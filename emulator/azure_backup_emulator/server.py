"""The emulator as an HTTPS server. aiohttp runs in its own thread and listens on the loopback interface
only.
"""

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
    # aiohttp logs the line of a request that it cannot parse, which can be the Authorization header.
    if isinstance(error, HttpProcessingError):
        record.exc_info = None
    # It also logs a body that breaks off or is badly chunked, which has been answered already.
    return not isinstance(error, web.RequestPayloadError)


# The host names that a client on this computer uses. A web page can make a name of its own resolve to
# 127.0.0.1 (DNS rebinding), and the browser then sends that name.
_HERE = r"(localhost|127\.0\.0\.1|\[::1\])(:\d{1,5})?"
HOST, ORIGIN = re.compile(_HERE, re.IGNORECASE), re.compile(f"https?://{_HERE}", re.IGNORECASE)
LOGGER = logging.getLogger(__name__)
LOGGER.addFilter(_discreet)


class Emulator:
    """A running emulator, as a context manager.

    :param clock: returns Unix time as the vaults see it. A test can pass a clock that it moves itself.
    :param speed: emulated seconds per real second. Every duration, and the hour of the job-read quota, is
        divided by it.
    :param port: port on the loopback interface; 0 takes a free one.
    :param directory: directory for ``ca.pem`` and ``state.db``. An emulator that is started again on it, even
        after a kill, continues with the same jobs, plans, faults, requests, secrets, tokens and certificate.
        Default: a temporary directory that is removed at the end.
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
        # The directory is created on start, so an emulator that is never started leaves no files.
        self.directory = (
            directory or Path(tempfile.gettempdir(), f"azbackup-emulator-{uuid.uuid4()}")
        ).resolve()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None

    def __enter__(self) -> Emulator:
        # Private keys are stored here, so only the owner may read the directory.
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
        """Return a TLS context with the certificate of the directory, or with a new one."""
        service = self.service
        for name in service.identity.principals:
            if self._certificate(name).exists():
                service.identity.public_keys[name] = tls.public_key(self._certificate(name))
        return tls.server_context(self.directory, service.store.lasting("tls", tls.new, tls.is_good))

    def _certificate(self, principal: str) -> Path:
        return self.directory / f"{principal}.pem"

    @property
    def url(self) -> str:
        """The address of Resource Manager, of sign-in and of the control endpoint."""
        return f"https://localhost:{self.port}"

    @property
    def ca_bundle(self) -> str:
        """The certificate file that clients must trust."""
        return str(self.directory / "ca.pem")

    def connection(self, principal: str = "operator", **extra: Any) -> Json:
        """Return the Airflow connection of a principal. Its ``json.dumps`` is the value of
        ``AIRFLOW_CONN_...``.

        :param principal: name of a principal of the seed.
        :param extra: further keys for the connection's extra.
        :raises ValueError: if there is no such principal.
        """
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
        """Register a new certificate for a principal; return the path of a PEM file with the certificate
        and its key.
        """
        path = self._certificate(principal)
        self.service.identity.public_keys[principal] = tls.client_certificate(path, principal)
        return str(path)

    def federated_token_file(self, principal: str = "operator") -> str:
        """Write a token as Kubernetes projects it for a workload identity; return the path of the file."""
        path = self.directory / f"{principal}.token"
        token = self.service.identity.federated(self.service.identity.principals[principal])
        tls.write_whole(path, token.encode())
        return str(path)

    def managed_identity(self) -> dict[str, str]:
        """Return the environment variables with which App Service offers a managed identity."""
        return {
            "IDENTITY_ENDPOINT": f"{self.url}/msi/token",
            "IDENTITY_HEADER": self.service.identity.identity_header,
        }

    def plan(
        self, item_name: str, *, ending: str = "Completed", seconds: float | None = None, **more: Any
    ) -> None:
        """Decide how the next jobs of an item run and end.

        :param item_name: friendly name (all items that share it), native name or ARM id.
        :param ending: Completed, Failed, Cancelled, CompletedWithWarnings, CancelledInTransfer or Never.
        :param seconds: how long they last, in emulated seconds. Default: the median of recorded jobs.
        :param more: ``error``, ``operation``, ``validation``, ``obstacles``, ``operation_seconds``, ``busy``,
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
        """Start a job of an item as a policy or the portal does, and return its id.

        :param operation: ``Backup``, ``Restore`` or another operation of Azure, such as ``DeleteBackupData``,
            ``DisableBackup`` or ``ConfigureBackup``; in a Backup vault also ``Tiering:Backup``.
            ``CrossRegionRestore`` is a restore in the secondary region of the item's vault.
        :param ending: as in :meth:`plan`.
        :param seconds: how long it lasts, in emulated seconds.
        :param backup_type: of a database: ``Full`` (the default), ``Differential``, ``Log``, ...; of a HANA
            instance ``SnapshotFull``.
        :param ago: how many emulated seconds ago it began. It may already have ended.
        :param point: what is special about its recovery point, as fields of ``jobs.Point``. They replace the
            plan's.
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
        """Change what is special about the recovery point of a job, which may not exist yet.

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
        """Put the protection of an item into a state. Without a state, the item is protected again.

        :param item_name: as in :meth:`plan`.
        :param state: ``ProtectionStopped`` and the like; of a backup instance ``UpdatingProtection``,
            ``ProtectionError``, ``SoftDeleted``, ...
        :param deleted_ago: how many emulated seconds ago its data was deleted. The data is kept for 14
        days, and lists still show the item. Azure calls the state of such an item ``ProtectionStopped``.
        :param seconds: how many emulated seconds the state lasts; None means that it does not end.
        """
        self.service.protect(item_name, state=state, deleted_ago=deleted_ago, seconds=seconds)

    def set_status(self, job_id: str, status: str | None) -> None:
        """Fix the status of a job to any word, known or invented. None lets the job continue."""
        self.service.set_status(job_id, status)

    def fault(self, **spec: Any) -> str:
        """Disturb the next matching request, or the next ``times`` ones, and return the fault's id.

        :param spec: fields of ``faults.Fault``.
        :raises ValueError: if a field is unknown or its value is not valid.
        """
        return self.service.add_fault(**spec)

    def clear_faults(self) -> None:
        """Remove all faults."""
        self.service.clear_faults()

    def configure(self, **settings: Any) -> None:
        """Change settings until the next reset.

        :param settings: ``token_lifetime`` in seconds; ``job_read_budget``, reads of jobs in an emulated
            hour; ``page_size``; ``quirks``, which then apply to all jobs; ``clock_skew``, the seconds by
            which Azure's clock (job times, ``Date``) is ahead of ``clock``; ``newest_api_version``, a date
            such as ``2025-02-01``: a request with a newer version gets 400 NoRegisteredProviderFound, as
            from an older cloud, and None accepts all versions; ``expired_secrets``, the names of principals
            whose client secret has expired; ``guards``, by the name of a vault the Resource Guard that
            protects it, with its ``tenant_id`` if that is another one; ``resource_graph``, how far Resource
            Graph is from the truth: its ``lag`` in emulated seconds, the shares of ``gaps`` and ``doubles``,
            and ``hidden`` vaults; ``down_regions``, the names of regions whose services answer 503.
        """
        self.service.configure(**settings)

    @property
    def requests(self) -> list[Json]:
        """All requests so far, oldest first, without tokens and bodies."""
        return self.service.requests()

    def count(
        self, method: str | None = None, path_contains: str | None = None, status: int | None = None
    ) -> int:
        """Return how many requests had this method, this text in their path (ignoring case), and this
        status.
        """
        return len(self.service.requests(method=method, path_contains=path_contains, status=status))

    def reset(self) -> None:
        """Return to the state at the start. Addresses, secrets and tokens stay valid."""
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
        # Closing TLS waits for the client, so a client that keeps its connection would delay the end by 30 s.
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
        # A client that gives up during the wait cancels this task. What was processed stays processed.
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
        return self.service.fault_response(fault, request) if fault.replaces else answer


def _foreign(request: web.Request) -> str:
    """Return why a request is refused (another host name, a page of another site), or an empty string."""
    hosts, origin = request.headers.getall("Host", []), request.headers.get("Origin")
    if len(hosts) != 1 or not HOST.fullmatch(hosts[0]):
        return f"The emulator answers to localhost, 127.0.0.1 and [::1] only, not to Host {_clean(hosts)}."
    if origin is not None and not ORIGIN.fullmatch(origin):
        return f"The emulator answers no web page of another site: Origin is {_clean(origin)!r}."
    return ""


def _clean(text: object) -> str:
    """Replace what was not UTF-8 by question marks, so that the text can be encoded again."""
    return str(text).encode(errors="replace").decode()


def _response(answer: Response) -> web.Response:
    # Some headers repeat what the client sent in JSON, which allows more characters than a header.
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
    """End the connection; with ``hard`` by a TCP reset, as a gateway that dies does."""
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
    """Send half of the body after headers that announce all of it."""
    whole = _response(answer)
    data = whole.body if isinstance(whole.body, bytes) else b""
    response = web.StreamResponse(status=answer.status, headers=whole.headers)
    response.content_length = len(data)
    await response.prepare(request)
    await response.write(data[: len(data) // 2])
    _drop(request, hard=False)
    return response


def _loopback(port: int) -> list[socket.socket]:
    """Return listening sockets on 127.0.0.1 and, if IPv6 is available, on the same port of ::1."""
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

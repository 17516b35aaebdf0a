"""Recorded traffic as a server: it answers what was recorded, in that order, and nothing else.

What our requests may differ in from the recorded ones is said here, in code, and nowhere else:

* a path by casing and by escapes (``;`` or ``%3B``), a filter by the order of its terms;
* a vault's ``backupOperations/<id>`` is asked for where the client of 2016 took the item's
  ``operationsStatus/<id>``, and the fabric is called ``Azure`` where one of its requests has another name;
* a list of protected items may be narrowed by the management type alone, where the recorded one is also
  narrowed by the type of item;
* a friendly name is looked for in lists that the recorded client, which knew the type, never asked for: they
  are empty, and the test names them;
* a list of recovery points may be narrowed by dates where the recorded one is not, and one of them may be
  read by its id, which the recorded clients looked for in the list;
* the jobs next to one whose recovery point is looked for are a list that no recorded client asked for: it is
  empty where the test names it;
* an expiry has whole seconds, and a request without a body is recorded as null or as empty text.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import re
import threading
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from airflow_provider_azbackup.core.model.jobs import Job
from airflow_provider_azbackup.core.model.resources import OperationRef, Vault
from airflow_provider_azbackup.core.rest import requests, responses
from airflow_provider_azbackup.core.wire import Response
from airflow_provider_azbackup.hooks import AzureBackupAsyncHook, AzureBackupHook

RECORDINGS = Path(__file__).resolve().parents[3] / "shared" / "recordings"
RECORDINGS_2 = RECORDINGS.with_name("recordings-2")
# What `make live` wrote about somebody's vault.
LIVE_RECORDINGS = Path(__file__).resolve().parents[1] / "live-recordings"

needs_recordings = pytest.mark.skipif(
    not RECORDINGS.is_dir(), reason="recordings are kept next to the project, not in it"
)

# Of the connection, not of the answer.
_HOP = {"content-length", "transfer-encoding", "connection", "server", "date"}
_EXPIRY = "recoveryPointExpiryTimeInUTC"


def exchanges(name: str) -> list[dict[str, Any]]:
    """The exchanges of a recording of Recovery Services vaults."""
    found: list[dict[str, Any]] = json.loads((RECORDINGS / f"{name}.json").read_text())["exchanges"]
    return found


def newer_exchanges(name: str) -> list[dict[str, Any]]:
    """The exchanges of a recording of the second set, in the order of their dates where all have one."""
    found: list[dict[str, Any]] = [
        {
            "request": {"method": each["method"], "uri": each["uri"], "body": each.get("request")},
            "response": {"status": each["status"], "headers": each["headers"], "body": each["body"]},
        }
        for each in json.loads((RECORDINGS_2 / f"{name}.json").read_text())["exchanges"]
    ]
    dates = [each["response"]["headers"].get("date") for each in found]
    if all(dates):
        found.sort(key=lambda each: parsedate_to_datetime(each["response"]["headers"]["date"]))
    return found


@dataclass(frozen=True, kw_only=True)
class Line:
    """A request as two clients can mean the same by it."""

    method: str
    path: str
    filter: frozenset[str]

    @classmethod
    def read(cls, method: str, uri: str) -> Line:
        parts = urlsplit(uri)
        path = unquote(parts.path).casefold()
        path = re.sub(r"/backupfabrics/.*/operationsstatus/", "/backupoperations/", path)
        path = path.replace("/backupfabrics/azureiaasvm/", "/backupfabrics/azure/")
        terms = parse_qs(parts.query).get("$filter", [""])[0]
        return cls(method=method, path=path, filter=frozenset(filter(None, terms.split(" and "))))

    def means(self, recorded: Line) -> bool:
        """Whether this request asks for what the recorded one asked for."""
        if (self.method, self.path) != (recorded.method, recorded.path):
            return False
        if self.path.endswith("/backupprotecteditems"):
            return self.filter <= recorded.filter
        if self.path.endswith("/recoverypoints"):
            return self.filter >= recorded.filter
        return self.filter == recorded.filter


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request as it arrived, at virtual time ``at``; ``exchange`` is None when it was refused."""

    line: Line
    at: float
    version: str
    headers: dict[str, str]
    body: Any
    exchange: int | None
    status: int


@dataclass
class Replay:
    """One recording, served."""

    exchanges: list[dict[str, Any]]
    now: Callable[[], float]
    empty_lists: frozenset[str] = frozenset()
    requests: list[Request] = field(default_factory=list)
    url: str = ""
    _served: dict[int, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.lines = [Line.read(e["request"]["method"], e["request"]["uri"]) for e in self.exchanges]

    @property
    def version(self) -> str:
        """The api-version of the recorded client."""
        return _version(self.exchanges[0]["request"]["uri"])

    @property
    def vault(self) -> dict[str, str]:
        """The vault of the recording, as a connection's extra names it."""
        parts = urlsplit(self.exchanges[0]["request"]["uri"]).path.split("/")
        return {"subscription_id": parts[2], "resource_group_name": parts[4], "vault_name": parts[8]}

    def sent(self, method: str, part: str) -> list[Request]:
        """The requests of a method whose path holds ``part``."""
        return [r for r in self.requests if r.line.method == method and part.casefold() in r.line.path]

    def answer(self, method: str, uri: str, headers: dict[str, str], body: Any) -> dict[str, Any]:
        """The next recorded answer to a request, or the refusal of one that was never made.

        A recording knows its own api-version alone, as a cloud that is late does.
        """
        line = Line.read(method, uri)
        if _version(uri) > self.version and "/recoverypoints" in line.path:
            error = {
                "code": "InvalidApiVersionParameter",
                "message": f"The api-version '{_version(uri)}' ...",
            }
            return {"status": 400, "headers": {}, "body": {"error": error}}
        with self._lock:
            index = self._next(line)
            if index is not None:
                self._served[index] = self._served.get(index, 0) + 1
                found = self.exchanges[index]["response"]
            elif point := self._listed_point(line):
                found = {"status": 200, "headers": {}, "body": point}
            elif self._is_empty(line):
                found = {"status": 200, "headers": {}, "body": {"value": []}}
            else:
                found = {"status": 400, "headers": {}, "body": {"error": {"code": "NotRecorded"}}}
            self.requests.append(
                Request(
                    line=line,
                    at=self.now(),
                    version=_version(uri),
                    headers=headers,
                    body=body,
                    exchange=index,
                    status=found["status"],
                )
            )
            return found

    def check(self) -> None:
        """Everything asked for was recorded, in this order, by these words, with these bodies."""
        served = [r for r in self.requests if r.exchange is not None]
        refused = [r.line for r in self.requests if r.status == 400 and r.exchange is None]
        assert not refused, refused
        assert [r.exchange for r in served] == sorted(r.exchange for r in served if r.exchange is not None)
        for request in served:
            recorded = self.exchanges[request.exchange or 0]["request"]
            assert request.version == _version(recorded["uri"])
            assert request.headers["authorization"].startswith("Bearer ")
            bodies = _whole_seconds(request.body), _whole_seconds(recorded.get("body"))
            assert bodies[0] == bodies[1], bodies

    def _listed_point(self, line: Line) -> Any:
        """The recovery point that a request reads by its id, out of a recorded list."""
        for recorded, exchange in zip(self.lines, self.exchanges, strict=True):
            if recorded.path.endswith("/recoverypoints") and line.path.startswith(f"{recorded.path}/"):
                points = exchange["response"]["body"]["value"]
                return next((each for each in points if unquote(each["id"]).casefold() == line.path), None)
        return None

    def _is_empty(self, line: Line) -> bool:
        if line.path.endswith("/backupjobs"):
            return "backupJobs" in self.empty_lists
        return any(f"backupManagementType eq '{each}'" in line.filter for each in self.empty_lists)

    def _next(self, line: Line) -> int | None:
        for index, recorded in enumerate(self.lines):
            left = self.exchanges[index].get("repeated", 1) - self._served.get(index, 0)
            if left and line.means(recorded):
                return index
        return None


def serve(replay: Replay) -> Iterator[Replay]:
    """Serve a recording over plain HTTP on loopback until the generator is closed."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # The answers are small and many; waiting for an acknowledgement would cost 40 ms for each.
        disable_nagle_algorithm = True
        wbufsize = -1

        def do(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            text = self.rfile.read(size)
            found = replay.answer(
                self.command,
                self.path,
                {name.lower(): value for name, value in self.headers.items()},
                json.loads(text) if text else None,
            )
            body = found.get("body")
            data = (
                body.encode() if isinstance(body, str) else b"" if body is None else json.dumps(body).encode()
            )
            self.send_response(found["status"])
            for name, value in found["headers"].items():
                if name not in _HOP:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do  # noqa: N815  # the names http.server looks for

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = False
        replay.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield replay
        finally:
            server.shutdown()
            thread.join()


def _text(body: Any) -> str:
    return body if isinstance(body, str) else json.dumps(body)


def _version(uri: str) -> str:
    return parse_qs(urlsplit(uri).query)["api-version"][0]


def _whole_seconds(body: Any) -> Any:
    if not body or _EXPIRY not in body.get("properties", {}):
        return body or None
    expiry = re.sub(r"\.\d+Z$", "Z", body["properties"][_EXPIRY])
    return {**body, "properties": {**body["properties"], _EXPIRY: expiry}}


Hook = AzureBackupHook | AzureBackupAsyncHook
Conversation = Callable[[Hook], Coroutine[Any, Any, Any]]


def by_worker(conversation: Conversation) -> Any:
    """Hold a conversation through the hook of tasks."""
    with AzureBackupHook() as hook:
        try:
            conversation(hook).send(None)
        except StopIteration as end:
            return end.value
        raise AssertionError("a method of the blocking hook has awaited something")


def by_triggerer(conversation: Conversation) -> Any:
    """Hold a conversation through the hook of triggers."""

    async def run() -> Any:
        async with AzureBackupAsyncHook() as hook:
            return await conversation(hook)

    return asyncio.run(run())


async def said(result: Any) -> Any:
    """What a hook's method returns, whichever hook's it is."""
    return await result if inspect.isawaitable(result) else result


async def watch(hook: Hook, job_id: str, clock: Any) -> Job:
    """Watch a job as the recorded clients did, every half minute."""
    return await said(hook.wait_for_job(job_id, poll_interval=30.0, timeout=86400.0, check=False))


def operation_of(exchange: dict[str, Any]) -> OperationRef:
    """The operation that a recorded 202 names."""
    vault = urlsplit(exchange["request"]["uri"]).path.partition("/backupFabrics/")[0]
    operation_id = responses.read_operation_id(reply_of(exchange))
    assert operation_id
    return OperationRef(vault=Vault.parse(vault), operation_id=operation_id)


def reply_of(exchange: dict[str, Any]) -> Response:
    """A recorded answer, as the drivers hand one to the core."""
    found = exchange["response"]
    return Response(status=found["status"], at=0.0, headers=found["headers"], text=_text(found.get("body")))


def options_of(exchange: dict[str, Any]) -> requests.BackupOptions:
    """What a recorded backup request asks for, as an author would say it."""
    wanted = exchange["request"]["body"]["properties"]
    options: requests.BackupOptions = {}
    if _EXPIRY in wanted:
        options["recovery_point_expiry"] = datetime.fromisoformat(wanted[_EXPIRY])
    if "backupType" in wanted:
        options |= {"backup_type": wanted["backupType"], "enable_compression": wanted["enableCompression"]}
    return options


def accepted(replay: Replay) -> list[dict[str, Any]]:
    """The exchanges of a recording that name an operation."""
    return [e for e in replay.exchanges if "azure-asyncoperation" in e["response"]["headers"]]

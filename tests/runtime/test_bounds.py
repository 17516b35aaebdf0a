"""No answer takes longer or is larger than its limit, whatever the server does."""

from __future__ import annotations

import asyncio
import gzip
import json
import ssl
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from airflow_provider_azbackup.core.conversations.jobs import get_job
from airflow_provider_azbackup.core.conversations.retry import retry_until
from airflow_provider_azbackup.core.model.progress import progress_report
from airflow_provider_azbackup.core.rest import responses
from airflow_provider_azbackup.core.settings import Settings
from airflow_provider_azbackup.core.wire import RESPONSE_GRACE, Answer, Flow, NoResponse, Request, Response
from airflow_provider_azbackup.exceptions import AzureBackupTimeoutError, AzureBackupTransientError
from airflow_provider_azbackup.hooks import AzureBackupHook
from airflow_provider_azbackup.operators import AzureBackupOperator
from airflow_provider_azbackup.runtime import clock as clocks
from airflow_provider_azbackup.runtime.transport import LARGEST_ANSWER, AsyncDriver, SyncDriver
from azure_backup_emulator import Emulator, tls
from dev.stack.pace import Limit
from tests.support.play import JOB, START, UNSENT, VAULT, answered, play
from tests.support.tasks import TaskInstance, run
from tests.support.virtual import HOUR, Azure, LoopClock, poller, wait_for
from tests.support.virtual import run as run_virtual

# Not a GET: it is sent once, so one call is one answer.
CALL = Request(method="POST", path="/somewhere", body={})
# Seconds for one answer.
LIMIT = 1.0


def one() -> Flow[Answer]:
    return (yield CALL)


def in_worker(settings: Settings) -> Answer:
    driver = SyncDriver(settings, read_timeout=LIMIT)
    try:
        return driver.play(one())
    finally:
        driver.close()


def in_triggerer(settings: Settings) -> Answer:
    async def reread() -> Settings:
        return settings

    async def ask() -> Answer:
        driver = AsyncDriver(settings, reread=reread, read_timeout=LIMIT)
        try:
            return await driver.play(one())
        finally:
            await driver.close()

    return asyncio.run(ask())


@pytest.fixture(params=[in_worker, in_triggerer], ids=["worker", "triggerer"])
def ask(
    request: pytest.FixtureRequest, azure: Emulator, connect: Callable[..., None]
) -> Callable[..., Answer]:
    """Ask a server that answers as a test wants; the emulator does the sign-in."""

    def ask(send: Callable[[BaseHTTPRequestHandler], None]) -> Answer:
        with serving(send) as url:
            connect(azure.connection(endpoint=url))
            with AzureBackupHook() as hook:
                settings = hook.settings
            answer: Answer = request.param(settings)
            return answer

    return ask


@contextmanager
def serving(
    send: Callable[[BaseHTTPRequestHandler], None], context: ssl.SSLContext | None = None
) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            with suppress(OSError):  # the other side has had enough
                send(self)

        do_GET = do_POST  # noqa: N815  # as http.server calls it

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def finish_request(self, request: Any, client_address: Any) -> None:
            if context is None:
                super().finish_request(request, client_address)
                return
            with suppress(OSError), context.wrap_socket(request, server_side=True) as wrapped:
                super().finish_request(wrapped, client_address)

    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads, server.block_on_close = True, False
    thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"http{'s' if context else ''}://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def begin(handler: BaseHTTPRequestHandler, length: int | None = None, **headers: str) -> None:
    handler.send_response(200)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    if length is not None:
        handler.send_header("Content-Length", str(length))
    handler.end_headers()


@pytest.mark.parametrize("length", [100_000, None], ids=["with a length", "until it closes"])
def test_an_answer_that_trickles_in_ends_with_its_time(
    ask: Callable[..., Answer], length: int | None
) -> None:
    def send(handler: BaseHTTPRequestHandler) -> None:
        begin(handler, length)
        for _ in range(100):
            handler.wfile.write(b" ")
            time.sleep(LIMIT / 4)

    limit = Limit(10 * LIMIT)
    answer = ask(send)
    assert not limit.is_over
    assert isinstance(answer, NoResponse)
    assert answer.sent
    assert "read time" in answer.reason.casefold()


def test_headers_that_trickle_in_end_with_their_time(ask: Callable[..., Answer]) -> None:
    def send(handler: BaseHTTPRequestHandler) -> None:
        for letter in "HTTP/1.0 200 " + 100 * "O":
            handler.wfile.write(letter.encode())
            time.sleep(LIMIT / 4)

    limit = Limit(10 * LIMIT)
    answer = ask(send)
    assert not limit.is_over
    assert isinstance(answer, NoResponse)
    assert answer.sent
    assert "read time" in answer.reason.casefold()


@pytest.mark.parametrize("deferrable", [False, True], ids=["in the worker", "in the triggerer"])
def test_a_trickling_answer_does_not_outrun_the_deadline(
    azure: Emulator, connect: Callable[..., None], deferrable: bool
) -> None:
    def send(handler: BaseHTTPRequestHandler) -> None:
        begin(handler, 100_000)
        for _ in range(200):
            handler.wfile.write(b" ")
            time.sleep(0.2)

    def make() -> AzureBackupOperator:
        return AzureBackupOperator(
            task_id="backup",
            job_id=f"{VAULT.path}/backupJobs/6a7b0b7e-1c3d-4e5f-8a9b-0c1d2e3f4a5b",
            timeout=3,
            poll_interval=1,
            deferrable=deferrable,
        )

    # The answer takes real time, so the wait has to see it pass.
    with serving(send) as url, clocks.running_on(clocks.SystemClock()):
        connect(azure.connection(endpoint=url))
        limit = Limit(3 + 3 * RESPONSE_GRACE)
        with pytest.raises(AzureBackupTimeoutError, match="never seen"):
            run(make, TaskInstance())
    assert not limit.is_over


def test_a_trickling_answer_to_the_sign_in_does_not_outrun_the_deadline(
    azure: Emulator, connect: Callable[..., None], tmp_path: Path
) -> None:
    context = tls.server_context(tmp_path, tls.new())

    def send(handler: BaseHTTPRequestHandler) -> None:
        begin(handler, 100_000)
        for _ in range(400):
            handler.wfile.write(b" ")
            time.sleep(0.2)

    def make() -> AzureBackupOperator:
        return AzureBackupOperator(
            task_id="backup", job_id=JOB.path, timeout=3, poll_interval=1, deferrable=False
        )

    with serving(send, context) as url, clocks.running_on(clocks.SystemClock()):
        connect(azure.connection(authority=url, ca_bundle=str(tmp_path / "ca.pem")))
        limit = Limit(40)
        with pytest.raises(AzureBackupTimeoutError, match="never seen"):
            run(make, TaskInstance())
    assert not limit.is_over


def test_an_answer_that_is_huge_once_decompressed_is_refused(ask: Callable[..., Answer]) -> None:
    body = gzip.compress(bytes(40 * LARGEST_ANSWER), 1)

    def send(handler: BaseHTTPRequestHandler) -> None:
        begin(handler, len(body), Content_Encoding="gzip")
        handler.wfile.write(body)

    tracemalloc.start()
    answer = ask(send)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert isinstance(answer, NoResponse)
    assert answer.sent
    assert f"more than {LARGEST_ANSWER} bytes" in answer.reason
    assert most < 8 * LARGEST_ANSWER


@pytest.mark.parametrize("coding", ["", "gzip"])
def test_an_answer_of_any_other_size_is_read_whole(ask: Callable[..., Answer], coding: str) -> None:
    text = json.dumps({"value": ["ü" * 1000] * 3000}, ensure_ascii=False)
    body = gzip.compress(text.encode()) if coding else text.encode()

    def send(handler: BaseHTTPRequestHandler) -> None:
        begin(handler, len(body), **({"Content_Encoding": coding} if coding else {}))
        handler.wfile.write(body)

    answer = ask(send)
    assert isinstance(answer, Response)
    assert answer.text == text


def test_an_answer_that_breaks_off_is_no_answer(ask: Callable[..., Answer]) -> None:
    def send(handler: BaseHTTPRequestHandler) -> None:
        begin(handler, 100)
        handler.wfile.write(b"{}")

    answer = ask(send)
    assert isinstance(answer, NoResponse)
    assert answer.sent


def test_a_list_of_too_many_values_does_not_stop_the_loop() -> None:
    text = f'{{"value": [{",".join(["{}"] * (LARGEST_ANSWER // 3 - 10))}]}}'
    assert len(text) > 0.9 * LARGEST_ANSWER
    began = time.process_time()
    with pytest.raises(AzureBackupTransientError, match="is not"):
        responses.read_page(answered(200, text))
    assert time.process_time() - began < 1.0


def test_each_page_of_a_list_counts_against_the_budget() -> None:
    """Ten pages a list are ten reads: counted as one, they would use up the hour's reads of everybody."""
    budget = 150

    async def main(clock: LoopClock) -> None:
        azure = Azure(clock, page_size=10, job_read_budget=budget)
        refs = [azure.start(seconds=HOUR - 60) for _ in range(100)]
        shared = poller(azure)
        try:
            await asyncio.gather(*(wait_for(shared, clock, ref) for ref in refs))
        finally:
            await shared.close()
        assert azure.throttled == 0
        assert budget / 2 < len(azure.reads) <= 1.1 * budget

    run_virtual(main)


@pytest.mark.parametrize(
    "properties",
    [
        {"startTime": "9999-12-31T23:59:59Z"},
        {"startTime": "0000-00-00T00:00:00Z"},
        {"startTime": "2026-01-01T00:00:00+99:99"},
        {"startTime": 10**40},
        {"duration": "P99999999999999999999D"},
        {"duration": f"{'9' * 400}:00:00"},
        {"progressPercentage": 10**400},
        {"extendedInfo": {"progressPercentage": 10**400}},
        {"extendedInfo": {"propertyBag": {"Backup Size": f"{'9' * 400} MB"}}},
        {"extendedInfo": {"propertyBag": {"Backup Size": 10**400}}},
        {"extendedInfo": {"tasksList": [{"status": "InProgress", "progressPercentage": 10**400}]}},
        {
            "extendedInfo": {
                "tasksList": [
                    {"status": "InProgress", "taskExecutionDetails": f"{'9' * 400} MB/{'9' * 400} MB"}
                ]
            }
        },
    ],
    ids=str,
)
def test_a_number_or_a_date_that_overflows_is_unknown(properties: dict[str, Any]) -> None:
    text = json.dumps({"name": JOB.job_id, "properties": {"status": "InProgress", **properties}})
    job = responses.read_job(JOB, answered(200, text))
    assert (job.began, job.ended, job.duration_seconds, job.size_bytes, job.percent) == (
        0,
        0,
        None,
        None,
        None,
    )
    assert progress_report(job, None, START)["percent"] is None
    json.dumps(job.facts(), allow_nan=False)
    assert str(job)
    assert job.summary()


@pytest.mark.parametrize("asked", ["Fri, 31 Dec 9999 23:59:59 GMT", "9" * 400, "1e400", "-1"])
def test_a_pause_that_overflows_is_not_waited_for(asked: str) -> None:
    busy = answered(503, **{"Retry-After": asked})
    reply = Response(status=503, at=START, headers={"retry-after": asked})
    assert reply.retry_after is None
    with pytest.raises(AzureBackupTransientError):
        play(retry_until(lambda: get_job(JOB), since=START, until=START + 60), then=busy)


def test_a_long_pause_that_azure_asks_for_does_not_outrun_the_deadline() -> None:
    busy = answered(503, **{"retry-after": "500000"})
    asked: list[Request] = []
    with pytest.raises(AzureBackupTransientError):
        play(
            retry_until(lambda: get_job(JOB), since=START, until=START + 600),
            UNSENT,
            then=busy,
            requests=asked,
        )
    assert sum(call.delay for call in asked) == pytest.approx(600)

"""Whatever is answered to whatever was asked: the gate waits or there is a clear error, at a bounded pace."""

from __future__ import annotations

import gzip
import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count, cycle
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowSensorTimeout
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from airflow_provider_azbackup.core.conversations.jobs import cancel_unless_over, wait_for_job
from airflow_provider_azbackup.core.conversations.retry import all_pages
from airflow_provider_azbackup.core.model.jobs import Outcome
from airflow_provider_azbackup.core.rest import requests
from airflow_provider_azbackup.core.restore.plan import RestoreIntent, RestorePlan
from airflow_provider_azbackup.core.restore.targets import disks
from airflow_provider_azbackup.core.start.intent import BackupIntent, Intent, StartRecord
from airflow_provider_azbackup.core.start.search import StartedJob, start_or_adopt
from airflow_provider_azbackup.core.wire import Flow, NoResponse, Response
from airflow_provider_azbackup.exceptions import AzureBackupError
from airflow_provider_azbackup.operators import AzureBackupCancelJobOperator, AzureBackupOperator
from airflow_provider_azbackup.sensors import AzureBackupJobSensor
from azure_backup_emulator import Emulator
from tests.core.conversations.test_any_answer import BODIES, JSON, REPLIES
from tests.support.play import ITEM, START
from tests.support.play import JOB as JOB_REF
from tests.support.tasks import Store, TaskInstance, run

JOB = JOB_REF.job_id
OPERATION = "c4d5e6f7-0819-4a2b-8c3d-4e5f60718293"
# Requests within any 60 s of simulated time. One look is four tries at most, and aiohttp sends a GET once
# more by itself when a connection it has kept turns out to be gone.
STARTING, WAITING = 60, 16
SIGN_IN = "/oauth2/v2.0/token"

PLACES: dict[str, tuple[str, str]] = {
    "the item": ("GET", r"/backupProtectedItems\?"),
    "the list of jobs": ("GET", r"/backupJobs\?"),
    "the request": ("POST", r"/backup\?"),
    "the operation": ("GET", r"/backupOperations/"),
    "the job": ("GET", r"/backupJobs/[^?]"),
    "the cancel": ("POST", r"/cancel\?"),
}


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer, byte by byte. ``raw`` takes the place of all else; ``cut`` ends it in the middle."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    cut: bool = False
    raw: bytes | None = None


def answered(body: Any, status: int = 200, **headers: str) -> Answer:
    found = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return Answer(status=status, headers=found, body=json.dumps(body).encode())


def item(azure: Emulator) -> dict[str, Any]:
    return {
        "id": azure.service.world.named("documents")[0].path,
        "name": "documents",
        "properties": {"friendlyName": "documents", "backupManagementType": "AzureStorage"},
    }


@dataclass(repr=False)
class Scripted:
    """An Azure Backup whose backups never end, and which gives one strange answer to one kind of question."""

    url: str
    clock: Callable[[], float]
    usual: dict[str, Answer]
    place: str = ""
    strange: Callable[[], Answer] = Answer
    times: float = float("inf")
    asked: list[tuple[float, str, str]] = field(default_factory=list)

    def begin(self, place: str, strange: Answer | Callable[[], Answer], times: float = float("inf")) -> None:
        """Answer so, and so often, what is asked at a place from now on."""
        self.place, self.times = place, times
        self.strange = (lambda: strange) if isinstance(strange, Answer) else strange
        self.asked.clear()

    def answer(self, method: str, path: str) -> Answer:
        place = next(
            name for name, (verb, form) in PLACES.items() if verb == method and re.search(form, path)
        )
        self.asked.append((self.clock(), place, path))
        if place == self.place and self.times > 0:
            self.times -= 1
            return self.strange()
        return self.usual[place]

    def count(self, place: str) -> int:
        return sum(each == place for _, each, _ in self.asked)

    def busiest_minute(self) -> int:
        """The most requests within any 60 s."""
        times = [at for at, _, _ in self.asked]
        return max((sum(at <= other < at + 60 for other in times) for at in times), default=0)


@pytest.fixture
def scripted(azure: Emulator, clock: Any, connect: Callable[..., None]) -> Iterator[Scripted]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            told = found.answer(self.command, self.path)
            if told.raw is not None:
                self.wfile.write(told.raw)
                self.close_connection = True
                return
            self.send_response_only(told.status, "Strange")
            for name, value in told.headers:
                self.send_header(name, value)
            bodiless = told.status in (204, 304)
            if not bodiless:
                self.send_header("Content-Length", str(len(told.body) + told.cut))
            self.end_headers()
            self.wfile.write(b"" if bodiless else told.body)
            self.close_connection = told.cut

        do_POST = do_GET  # noqa: N815  # as http.server calls it

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    found = Scripted(
        url=f"http://127.0.0.1:{server.server_address[1]}",
        clock=clock,
        usual={
            "the item": answered({"value": [item(azure)]}),
            "the list of jobs": answered({"value": []}),
            "the request": answered(
                None, 202, Azure_AsyncOperation=f"https://azure.example/backupOperations/{OPERATION}?t=1"
            ),
            "the operation": answered({"status": "Succeeded", "properties": {"jobId": JOB}}),
            "the job": answered({"name": JOB, "properties": {"status": "InProgress", "operation": "Backup"}}),
            "the cancel": answered(None, 202),
        },
    )
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    connect(azure.connection(endpoint=found.url))
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


# What may come

HEADER_TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40)
HEADERS = st.lists(
    st.one_of(
        st.tuples(
            st.just("Retry-After"),
            HEADER_TEXT
            | st.sampled_from(["0", "1", "324", "-5", "1e9", "999999", "Mon, 01 Jan 99999 00:00:00 GMT"]),
        ),
        st.tuples(
            st.sampled_from(
                ["Azure-AsyncOperation", "Location", "WWW-Authenticate", "Date", "x-ms-request-id"]
            ),
            HEADER_TEXT
            | st.sampled_from(
                [
                    "https://[/",
                    "https://azure.example/backupOperations/",
                    'Bearer error="insufficient_claims", claims="%%%"',
                    "Thu, 99 Foo 2026",
                ]
            ),
        ),
        st.tuples(
            st.just("Content-Type"),
            st.sampled_from(["text/html", "application/json; charset=utf-7", "", ";"]),
        ),
        st.tuples(st.just("Content-Encoding"), st.sampled_from(["gzip", "deflate", "br", "nonsense"])),
        st.tuples(st.just("Set-Cookie"), HEADER_TEXT),
    ),
    max_size=3,
    unique_by=lambda each: each[0],
).map(tuple)
STATUSES = st.sampled_from([200, 202, 204, 400, 401, 403, 404, 408, 409, 429, 500, 503, 504]) | st.integers(
    200, 599
)
LISTS = st.fixed_dictionaries(
    {"value": st.lists(BODIES | JSON, max_size=3) | JSON},
    optional={"nextLink": HEADER_TEXT | JSON, "id": JSON},
)
OPERATIONS = st.fixed_dictionaries(
    {},
    optional={
        "status": st.sampled_from(["Succeeded", "Failed", "InProgress", "Invalid"]) | JSON,
        "properties": st.fixed_dictionaries({}, optional={"jobId": JSON, "jobIds": JSON}) | JSON,
        "error": JSON,
    },
)
BYTES = st.one_of(
    st.one_of(BODIES, LISTS, OPERATIONS, JSON).map(lambda body: json.dumps(body).encode()),
    st.text().map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.binary(),
    st.just(b"<html><body><h1>502 Bad Gateway</h1></body></html>"),
)
ANSWERS = st.one_of(
    st.builds(Answer, status=STATUSES, headers=HEADERS, body=BYTES, cut=st.booleans()),
    st.builds(Answer, body=BYTES),
    st.builds(Answer, raw=st.binary(max_size=60) | st.just(b"HTTP/1.1 200 OK\r\n\r\n{}")),
)
# The same examples in every run: a test that fails says something about the change before it.
steady = settings(deadline=None, derandomize=True, max_examples=150)
over_http = settings(
    steady,
    max_examples=6,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
# requests leaves a connection to the garbage collector when it could not make sense of what came over it.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def says_completed(status: int, text: str) -> bool:
    """Whether the answer is, to a reader of JSON, a job that has completed."""
    try:
        word = json.loads(text)["properties"]["status"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return False
    return status == 200 and str(word).casefold() == "completed"


def held(make: Callable[[], Any]) -> Any:
    """What a task comes to; anything but a value, an error of ours and a sensor's timeout fails the test."""
    try:
        return run(make, TaskInstance(store=Store()))
    except (AzureBackupError, AirflowSensorTimeout) as error:
        assert str(error)
        return error


def operator(**arguments: Any) -> AzureBackupOperator:
    arguments = {"protected_item": "documents", "timeout": 300, **arguments}
    return AzureBackupOperator(task_id="backup", poll_interval=60, **arguments)


# By conversation: hundreds of examples, in simulated time

HEARD = st.lists(
    REPLIES | st.builds(NoResponse, reason=st.text(), at=st.just(0.0), sent=st.booleans()),
    min_size=1,
    max_size=4,
)


def hold(flow: Flow[Any], heard: list[Any]) -> tuple[Any, list[float]]:
    """What a conversation comes to when it hears these answers round and round, and when it asked."""
    at, times = START, []
    try:
        call = next(flow)
        for answer in cycle(heard):
            at += call.delay
            times.append(at)
            assert len(times) < 3_000, "it never comes to an end"
            call = flow.send(replace(answer, at=at))
    except StopIteration as end:
        return end.value, times
    except AzureBackupError as error:
        return error, times
    raise AssertionError("cycle() has no end")


def busiest_minute(times: list[float]) -> int:
    """The most requests within any 60 s."""
    last, found = 0, 0
    for first, at in enumerate(times):
        last = max(last, first)
        while last < len(times) and times[last] < at + 60:
            last += 1
        found = max(found, last - first)
    return found


def proves(heard: list[Any]) -> bool:
    """Whether one of the answers says, to a reader of JSON, that a job has completed."""
    return any(
        isinstance(answer, Response) and says_completed(answer.status, answer.text) for answer in heard
    )


NOTES = st.builds(
    StartRecord,
    item=st.just(ITEM.path),
    attempt=st.sampled_from(["first", "second"]),
    since=st.just(START - 60),
    attempt_began=st.just(START - 63),
    requested_at=st.just(START - 60),
    operation=st.sampled_from(["", OPERATION]),
    job=st.sampled_from(["", JOB_REF.path]),
)


@steady
@given(heard=HEARD, note=st.none() | NOTES)
def test_whatever_is_heard_on_the_way_to_a_backup_ends_with_a_job_or_a_clear_error(
    heard: list[Any], note: StartRecord | None
) -> None:
    ends_with_a_job_or_an_error(
        BackupIntent(item=ITEM, body=requests.backup_body(ITEM), attempt="first", now=START, timeout=1800),
        heard,
        note,
    )


@steady
@given(heard=HEARD, note=st.none() | NOTES)
def test_whatever_is_heard_on_the_way_to_a_restore_ends_with_a_job_or_a_clear_error(
    heard: list[Any], note: StartRecord | None
) -> None:
    account = "/subscriptions/1/resourceGroups/2/providers/Microsoft.Storage/storageAccounts/3"
    order = RestorePlan.read(ITEM, restore_to=disks(storage_account_id=account))
    note = note and replace(note, fingerprint=order.fingerprint)
    ends_with_a_job_or_an_error(
        RestoreIntent(item=ITEM, plan=order, attempt="first", now=START, timeout=1800), heard, note
    )


def ends_with_a_job_or_an_error(intent: Intent, heard: list[Any], note: StartRecord | None) -> None:
    came, times = hold(start_or_adopt(intent, note, save=lambda _: None, log=lambda _: None), heard)
    if isinstance(came, StartedJob):
        assert [came.ref, came.other, came.obstacle].count(None) == 2
        assert came.ended is None or proves(heard)
    else:
        assert isinstance(came, AzureBackupError) and str(came)
    assert busiest_minute(times) <= STARTING
    assert times[-1] <= START + 1800 + 1200


@steady
@given(heard=HEARD)
def test_whatever_is_heard_of_a_job_ends_its_wait_with_a_job_or_a_clear_error(heard: list[Any]) -> None:
    came, times = hold(
        wait_for_job(JOB_REF, poll_interval=60, deadline=START + 7200, since=START, on_read=lambda *_: None),
        heard,
    )
    assert isinstance(came, AzureBackupError) or came.outcome is not Outcome.SUCCEEDED or proves(heard)
    assert busiest_minute(times) <= WAITING / 4
    assert times[-1] <= START + 7200


@steady
@given(heard=HEARD)
def test_whatever_is_heard_while_a_job_is_cancelled_is_a_job_or_a_clear_error(heard: list[Any]) -> None:
    came, times = hold(cancel_unless_over(JOB_REF, since=START, until=START + 3600), heard)
    assert isinstance(came, AzureBackupError) or came.ref == JOB_REF
    assert busiest_minute(times) <= STARTING
    assert times[-1] <= START + 3600 + 1200


@pytest.mark.parametrize("place", ["the item", "the list of jobs"])
def test_a_list_that_has_always_one_more_page_comes_to_an_end(place: str) -> None:
    first = (
        requests.list_protected_items(ITEM.vault, "AzureIaasVM")
        if place == "the item"
        else requests.list_jobs(ITEM.vault, status="InProgress")
    )
    number, flow = count(), all_pages(first)

    def page() -> Response:
        link = f"https://management.azure.com{first.path}?$skipToken={next(number)}"
        body = json.dumps({"value": [], "nextLink": link})
        return Response(status=200, at=START, url="https://management.azure.com/x", text=body)

    with pytest.raises(AzureBackupError):
        next(flow)
        for _ in range(20_000):
            flow.send(page())


# Over HTTP, byte by byte: what azure-core, azure-identity, requests and aiohttp make of it


@over_http
@given(told=ANSWERS, times=st.sampled_from([1, 3, float("inf")]), deferrable=st.booleans())
@pytest.mark.parametrize("place", ["the item", "the list of jobs", "the request", "the operation"])
def test_no_strange_answer_on_the_way_to_a_backup_opens_the_gate(
    scripted: Scripted, place: str, told: Answer, times: float, deferrable: bool
) -> None:
    scripted.begin(place, told, times)
    assert isinstance(held(lambda: operator(deferrable=deferrable)), AzureBackupError)
    assert scripted.busiest_minute() <= STARTING


@over_http
@given(told=ANSWERS, times=st.sampled_from([1, 3, float("inf")]), deferrable=st.booleans())
@example(told=answered({"name": JOB, "properties": {"status": "COMPLETED"}}), times=1, deferrable=True)
@example(
    told=Answer(headers=(("Content-Encoding", "gzip"),), body=gzip.compress(b"{}")[:-4]),
    times=1,
    deferrable=False,
)
@pytest.mark.parametrize("kind", ["operator", "sensor"])
def test_no_strange_answer_about_a_job_opens_the_gate_unless_it_says_completed(
    scripted: Scripted, kind: str, told: Answer, times: float, deferrable: bool
) -> None:
    def make() -> Any:
        if kind == "operator":
            return operator(protected_item=None, job_id=JOB, deferrable=deferrable)
        return AzureBackupJobSensor(
            task_id="gate", job_id=JOB, timeout=300, deferrable=True, poke_interval=60
        )

    scripted.begin("the job", told, times)
    came = held(make)
    assert isinstance(came, Exception) or (
        came == JOB and told.raw is None and says_completed(told.status, told.body.decode("utf-8", "replace"))
    )
    assert scripted.busiest_minute() <= WAITING


@over_http
@given(told=ANSWERS, times=st.sampled_from([1, 3, float("inf")]), deferrable=st.booleans())
@pytest.mark.parametrize("place", ["the job", "the cancel"])
def test_no_strange_answer_makes_a_cancellation_succeed_or_run_hot(
    scripted: Scripted, place: str, told: Answer, times: float, deferrable: bool
) -> None:
    scripted.begin(place, told, times)
    came = held(
        lambda: AzureBackupCancelJobOperator(
            task_id="cancel", job_id=JOB, timeout=300, deferrable=deferrable
        ),
    )
    assert isinstance(came, AzureBackupError) or place == "the job"
    assert scripted.busiest_minute() <= STARTING


@over_http
@given(
    told=st.one_of(
        st.just('{"access_token": 5, "expires_in": "x"}'),
        st.dictionaries(
            st.sampled_from(
                ["access_token", "expires_in", "expires_on", "refresh_in", "error", "token_type"]
            ),
            JSON,
        ).map(json.dumps),
        JSON.map(json.dumps),
        st.text(st.characters(codec="utf-8")),
    ),
    status=st.sampled_from([200, 200, 400, 401, 429, 500, 503]),
    kind=st.sampled_from(["operator", "deferred", "sensor"]),
)
def test_no_strange_answer_of_the_sign_in_service_opens_the_gate_or_runs_hot(
    azure: Emulator, clock: Any, told: str, status: int, kind: str
) -> None:
    azure.reset()
    azure.fault(path=SIGN_IN, garbage=told, status=status, times=None)

    def make() -> Any:
        if kind == "sensor":
            return AzureBackupJobSensor(
                task_id="gate", job_id=JOB, timeout=300, deferrable=True, poke_interval=60
            )
        return operator(protected_item=None, job_id=JOB, deferrable=kind == "deferred")

    assert isinstance(held(make), AzureBackupError | AirflowSensorTimeout)
    # Each look may sign in once by itself and, refused, once more with a connection read again.
    assert busiest_minute([entry["at"] for entry in azure.requests]) <= 40

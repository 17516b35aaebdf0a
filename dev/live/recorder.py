"""Our hook, on a transport that keeps every answer of Azure's, retries and all."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlsplit

from requests import Response as HttpResponse

from airflow_provider_azbackup.core.wire import Answer, Flow, JsonObject, Request, Response
from airflow_provider_azbackup.hooks import AzureBackupHook
from airflow_provider_azbackup.runtime.transport import SyncDriver
from dev.live.redaction import Redaction

# Fields of a running job that differ from one answer to the next.
_VOLATILE = frozenset(
    {"duration", "progressPercentage", "estimatedRemainingDuration", "taskExecutionDetails"}
)
_REMAINING = "x-ms-ratelimit-remaining-subscription-resource-requests"


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """A request as it was sent and its answer; times are Unix times of this computer."""

    method: str
    url: str
    sent: str
    status: int
    headers: dict[str, str]
    text: str
    sent_at: float
    at: float

    @property
    def path(self) -> str:
        """The path of the address."""
        return urlsplit(self.url).path

    @property
    def answer(self) -> Response:
        """The answer in the form in which the core reads it."""
        return Response(status=self.status, at=self.at, url=self.url, headers=self.headers, text=self.text)

    @property
    def remaining(self) -> int | None:
        """How many reads are left, by the answer's header; None if it does not say."""
        value = self.headers.get(_REMAINING, "")
        return int(value) if value.removeprefix("-").isdigit() else None

    @property
    def is_job_read(self) -> bool:
        """Whether it counts against the quota of job reads."""
        return self.method == "GET" and "/backupjobs" in self.path.casefold()


@dataclass
class Tape:
    """All exchanges with Azure Resource Manager, and how many requests went to other hosts or for tokens."""

    endpoint: str
    exchanges: list[Exchange] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    others: int = 0

    def hear(self, response: HttpResponse, *_: Any, **__: Any) -> None:
        """Note an answer; ``requests`` calls this for each."""
        sent, now = response.request, time.time()
        url = sent.url or ""
        if not url.startswith(f"{self.endpoint}/subscriptions/"):
            self.others += 1
            return
        self.tokens.add(sent.headers.get("Authorization", "").removeprefix("Bearer "))
        body = sent.body or b""
        self.exchanges.append(
            Exchange(
                method=sent.method or "",
                url=url,
                sent=body.decode() if isinstance(body, bytes) else str(body),
                status=response.status_code,
                headers={name.lower(): value for name, value in response.headers.items()},
                text=response.text,
                sent_at=now - response.elapsed.total_seconds(),
                at=now,
            )
        )

    def job_reads(self) -> Iterator[Exchange]:
        """Return the answers to reads of jobs."""
        return (each for each in self.exchanges if each.is_job_read)


class _Driver(SyncDriver):
    def hear(self, listen: Callable[..., None]) -> Self:
        self._transport.session.hooks["response"].append(listen)
        return self


class RecordingHook(AzureBackupHook):
    """The hook of tasks, with a tape of what went over the wire."""

    def __enter__(self) -> Self:
        self.tape = Tape(self.settings.endpoint)
        self._driver = _Driver(self.settings, reread=self._read).hear(self.tape.hear)
        return self

    def send(self, request: Request) -> Response:
        """Send one request of our own making, for what no method of the hook shows.

        :raises AssertionError: when no answer came.
        """
        answer = self._play(_one(request))
        assert isinstance(answer, Response), answer
        return answer


def _one(request: Request) -> Flow[Answer]:
    return (yield request)


def recording(tape: Tape, redaction: Redaction, description: str) -> JsonObject:
    """Return a tape in the form in which recordings are kept, redacted.

    Consecutive reads of the same with the same answer, apart from how far the job is, are one exchange with
    the number of times in ``repeated``.
    """
    exchanges: list[JsonObject] = []
    for index, each in enumerate(tape.exchanges):
        found: JsonObject = {
            "index": index,
            "request": {
                "method": each.method,
                "uri": redaction.url(each.url),
                "body": redaction.body(each.sent) or None,
            },
            "response": {
                "status": each.status,
                "headers": redaction.headers(each.headers),
                "body": redaction.body(each.text),
            },
        }
        if exchanges and each.method == "GET" and _gist(exchanges[-1]) == _gist(found):
            exchanges[-1]["repeated"] = exchanges[-1].get("repeated", 1) + 1
            headers = found["response"]["headers"]
            exchanges[-1]["last_repeat"] = {
                name: headers[name] for name in ("date", _REMAINING) if name in headers
            }
        else:
            exchanges.append(found)
    return {
        "source": "make live",
        "description": description,
        "replaced": redaction.replaced,
        "exchanges": exchanges,
    }


def _gist(exchange: JsonObject) -> str:
    response = exchange["response"]
    return json.dumps([exchange["request"], response["status"], _lasting(response["body"])])


def _lasting(body: Any) -> Any:
    if isinstance(body, dict):
        return {name: _lasting(value) for name, value in body.items() if name not in _VOLATILE}
    return [_lasting(each) for each in body] if isinstance(body, list) else body

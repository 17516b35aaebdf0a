"""Send a request: once, page after page, or again until it succeeds.

A flow reads time from the answers it gets and asks for pauses through ``Request.after``; it never looks at a
clock and never sleeps.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from itertools import chain, repeat

from airflow_provider_azbackup.core.rest import requests, responses
from airflow_provider_azbackup.core.rest.responses import Page
from airflow_provider_azbackup.core.wire import Answer, Flow, NoResponse, Request, Response, T
from airflow_provider_azbackup.exceptions import (
    AzureBackupAuthError,
    AzureBackupError,
    AzureBackupNotFoundError,
    AzureBackupTransientError,
)

# A job may be unknown to Azure for a moment after it was started.
NEWBORN = 60.0
# One stray 401, 403 or 404 in a wait of hours must not end it; one that lasts this long is the truth.
REFUSAL_GRACE = 40.0
# A list that never ends is a fault of whoever answers: 200 jobs a page make 100,000 jobs.
_MOST_PAGES = 500
_REFUSAL_PAUSE = 15.0
# The most seconds that are waited after one, whatever Azure asks for: a refusal that lasts must end the wait.
_LONGEST_REFUSAL_PAUSE = 300.0


def ask(call: Request, *statuses: int) -> Flow[Response]:
    """Send one call and return its answer.

    :raises AzureBackupError: a subclass for no answer, or for any status but the accepted ones (200).
    """
    return accepted((yield call), call, *statuses or (200,))


def is_newborn(since: float, at: float) -> bool:
    """Return whether a wait is so young that Azure may not know its job yet."""
    return at < since + NEWBORN


def delayed(flow: Flow[T], seconds: float) -> Flow[T]:
    """Hold a conversation once ``seconds`` have passed."""
    try:
        call = next(flow)
    except StopIteration as end:  # there was nothing to ask
        result: T = end.value
        return result
    return (yield from _resume(flow, call.delayed(call.after + seconds)))


def retry_until(
    make: Callable[[], Flow[T]], *, since: float, until: float, first_pause: float = 0.0
) -> Flow[T]:
    """Hold a conversation anew until it succeeds: faults that may pass are waited out.

    :param make: makes the conversation.
    :param since: Unix time the wait began.
    :param until: Unix time after which any fault is raised.
    :param first_pause: seconds to let pass before the first time.
    :raises AzureBackupError: a fault that lasts, or that waiting cannot cure: also one that the conversation
        raises without having asked anything.
    """
    patience, heard = Patience(since), ResponseClock(since)
    pause = first_pause
    for interval in chain((5.0, 10.0, 20.0, 40.0), repeat(60.0)):
        answers = heard.answers
        try:
            return (yield from heard.follow(delayed(_until(make(), until), pause)))
        except AzureBackupError as error:
            if heard.answers == answers:  # nothing was asked, so asking again would change nothing
                raise
            patience.record_failure(error, heard.at)
            if heard.at >= until:
                raise
            pause = min(spread_pause(interval, error), until - heard.at)
    raise AssertionError("repeat() has no end")


class ResponseClock:
    """What time it is, by the last answer that was heard: here, and by Azure's own clock.

    :param at: Unix time before the first answer.
    """

    def __init__(self, at: float) -> None:
        self.at = self.sent_at = at
        self.ahead: float | None = None
        self.answers = 0

    def follow(self, flow: Flow[T]) -> Flow[T]:
        """Hold a conversation and take the time from its answers."""
        try:
            call = next(flow)
            while True:
                self.sent_at = self.at + call.after
                answer = yield call
                self.observe(answer)
                call = flow.send(answer)
        except StopIteration as end:
            result: T = end.value
            return result

    def observe(self, answer: Answer) -> None:
        """Take the time from one answer."""
        self.at = answer.at
        self.answers += 1
        if isinstance(answer, Response) and answer.date is not None:
            self.ahead = answer.date - answer.at


class Patience:
    """Tells a fault that passes from one that lasts."""

    def __init__(self, since: float) -> None:
        self.since = since
        self.fault: AzureBackupError | None = None
        self.refused_at: float | None = None

    def record_success(self) -> None:
        """Forget past faults: an answer came."""
        self.fault = self.refused_at = None

    def record_failure(self, error: AzureBackupError, at: float) -> None:
        """Bear a fault that may pass; raise one that has lasted or never will pass."""
        self.fault = error
        if isinstance(error, AzureBackupTransientError):
            return
        if not isinstance(error, AzureBackupAuthError | AzureBackupNotFoundError):
            raise error
        self.refused_at = at if self.refused_at is None else self.refused_at
        newborn = isinstance(error, AzureBackupNotFoundError) and is_newborn(self.since, at)
        if not newborn and at - self.refused_at >= REFUSAL_GRACE:
            raise error


def spread_pause(interval: float, fault: AzureBackupError | None = None) -> float:
    """Return the seconds to the next look: spread, never earlier than Azure asked, soon after a refusal."""
    asked = (fault.retry_after if fault else None) or 0.0
    if isinstance(fault, AzureBackupAuthError | AzureBackupNotFoundError):
        interval, asked = min(interval, _REFUSAL_PAUSE), min(asked, _LONGEST_REFUSAL_PAUSE)
    return max(interval * random.uniform(0.85, 1.15), asked * random.uniform(1.0, 1.15))


def _until(flow: Flow[T], deadline: float) -> Flow[T]:
    """Hold a conversation, and give each of its calls a deadline."""
    try:
        call = next(flow)
        while True:
            call = flow.send((yield replace(call, deadline=min(call.deadline, deadline))))
    except StopIteration as end:
        result: T = end.value
        return result


def _resume(flow: Flow[T], call: Request) -> Flow[T]:
    try:
        while True:
            call = flow.send((yield call))
    except StopIteration as end:
        result: T = end.value
        return result


def accepted(answer: Answer, call: Request, *statuses: int) -> Response:
    """Return an answer with one of the statuses.

    :raises AzureBackupError: what any other one, or none, stands for.
    """
    if isinstance(answer, NoResponse):
        raise answer.kind(f"{answer.reason} ({call.method} {call.path} got no answer)")
    responses.raise_for_status(answer, call, *statuses)
    return answer


def all_pages(first: Request) -> Flow[list[Page]]:
    """Return all pages of a list."""
    call, pages, seen = first, [], {first}
    while True:
        reply = yield from ask(call)
        pages.append(responses.read_page(reply))
        if not (link := pages[-1].next_link):
            return pages
        call = replace(requests.next_page(reply, link), api_version=first.api_version)
        if call in seen:
            raise AzureBackupTransientError(f"the pages of a list go round in a circle: {first.path}")
        if len(pages) >= _MOST_PAGES:
            raise AzureBackupTransientError(f"a list has more than {_MOST_PAGES} pages: {first.path}")
        seen.add(call)

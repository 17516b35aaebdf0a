"""Send a request: once, page after page, or again until it succeeds.

A flow takes the time from the responses that it gets, and asks for pauses through ``Request.delay``. It never
reads a clock and never sleeps.
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

# Seconds for which Azure may not know a job that was just started.
NEWBORN = 60.0
# Seconds for which a 401, 403 or 404 may last before it ends a wait: a single one must not end a wait of
# hours.
REFUSAL_GRACE = 40.0
# Seconds between the reads after a 401, 403 or 404, and the most of them, whatever Azure asks for: a refusal
# that lasts must end the wait.
REFUSAL_PAUSE = 15.0
_LONGEST_REFUSAL_PAUSE = 300.0
# A list that never ends is a fault of the server: 500 pages of 200 jobs are 100,000 jobs.
_MOST_PAGES = 500


def ask(request: Request, *statuses: int) -> Flow[Response]:
    """Send one request and return the response.

    :param statuses: the accepted statuses; 200 if none is given.
    :raises AzureBackupError: a subclass, if there is no response or its status is not accepted.
    """
    return accepted((yield request), request, *statuses or (200,))


def accepted(answer: Answer, request: Request, *statuses: int) -> Response:
    """Return a response that has one of the statuses.

    :raises AzureBackupError: a subclass, if there is no response or its status is another one.
    """
    if isinstance(answer, NoResponse):
        raise answer.error(f"{answer.reason} ({request.method} {request.path} got no answer)")
    responses.raise_for_status(answer, request, *statuses)
    return answer


def all_pages(first: Request) -> Flow[list[Page]]:
    """Return all pages of a list.

    :raises AzureBackupTransientError: if the list does not end.
    """
    request, pages, seen = first, [], {first}
    while True:
        response = yield from ask(request)
        pages.append(responses.read_page(response))
        if not (link := pages[-1].next_link):
            return pages
        request = replace(
            requests.next_page(response, link),
            api_version=first.api_version,
            only_api_version=first.only_api_version,
        )
        if request in seen:
            raise AzureBackupTransientError(f"the pages of a list go round in a circle: {first.path}")
        if len(pages) >= _MOST_PAGES:
            raise AzureBackupTransientError(f"a list has more than {_MOST_PAGES} pages: {first.path}")
        seen.add(request)


def delayed(flow: Flow[T], seconds: float) -> Flow[T]:
    """Run a flow once ``seconds`` have passed."""
    try:
        request = next(flow)
    except StopIteration as end:  # it sends nothing
        result: T = end.value
        return result
    return (yield from _resume(flow, request.delayed(request.delay + seconds)))


def retry_until(
    make: Callable[[], Flow[T]], *, since: float, until: float, first_pause: float = 0.0
) -> Flow[T]:
    """Run a flow again and again until it succeeds, as long as its faults may pass.

    :param make: makes the flow.
    :param since: Unix time at which the wait began.
    :param until: Unix time after which any fault is raised.
    :param first_pause: seconds to wait before the first run.
    :raises AzureBackupError: for a fault that lasts or that waiting cannot cure, and for one that the flow
        raises before it has sent anything.
    """
    patience, clock = Patience(since), ResponseClock(since)
    pause = first_pause
    for interval in chain((5.0, 10.0, 20.0, 40.0), repeat(60.0)):
        answers = clock.answers
        try:
            return (yield from clock.follow(delayed(_until(make(), until), pause)))
        except AzureBackupError as error:
            if clock.answers == answers:  # nothing was sent, so another run would end the same way
                raise
            patience.record_failure(error, clock.at)
            if clock.at >= until:
                raise
            pause = min(spread_pause(interval, error), until - clock.at)
    raise AssertionError("repeat() has no end")


class ResponseClock:
    """The time, taken from the responses to a flow: by this computer's clock and by Azure's.

    ``at`` is the Unix time of the last answer, ``sent_at`` that of its request, ``ahead`` the seconds by
    which Azure's clock is ahead of this computer's (None if no response has shown it), and ``answers`` how
    many answers have come.

    :param at: Unix time before the first answer.
    """

    def __init__(self, at: float) -> None:
        self.at = self.sent_at = at
        self.ahead: float | None = None
        self.answers = 0

    def follow(self, flow: Flow[T]) -> Flow[T]:
        """Run a flow and take the time from its answers."""
        try:
            request = next(flow)
            while True:
                self.sent_at = self.at + request.delay
                answer = yield request
                self.observe(answer)
                request = flow.send(answer)
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
    """Decides whether a fault may pass or has lasted too long. ``fault`` is the last one, None after a
    success.

    :param since: Unix time at which the wait began.
    """

    def __init__(self, since: float) -> None:
        self.since = since
        self.fault: AzureBackupError | None = None
        self.refused_at: float | None = None

    def record_success(self) -> None:
        """Forget past faults."""
        self.fault = self.refused_at = None

    def record_failure(self, error: AzureBackupError, at: float) -> None:
        """Remember a fault that may pass.

        :param at: Unix time of the fault.
        :raises AzureBackupError: the fault itself, if it has lasted too long or can never pass.
        """
        self.fault = error
        if isinstance(error, AzureBackupTransientError):
            return
        if not isinstance(error, AzureBackupAuthError | AzureBackupNotFoundError):
            raise error
        self.refused_at = at if self.refused_at is None else self.refused_at
        newborn = isinstance(error, AzureBackupNotFoundError) and is_newborn(self.since, at)
        if not newborn and at - self.refused_at >= REFUSAL_GRACE:
            raise error


def is_newborn(since: float, at: float) -> bool:
    """Return whether a wait is so young that Azure may not know its job yet."""
    return at < since + NEWBORN


def spread_pause(interval: float, fault: AzureBackupError | None = None) -> float:
    """Return the seconds until the next read: spread at random, and never less than Azure asked for.

    :param interval: seconds between reads.
    :param fault: the fault of the last read; after a 401, 403 or 404 the next read comes soon.
    """
    asked = (fault.retry_after if fault else None) or 0.0
    if isinstance(fault, AzureBackupAuthError | AzureBackupNotFoundError):
        interval, asked = min(interval, REFUSAL_PAUSE), min(asked, _LONGEST_REFUSAL_PAUSE)
    return max(interval * random.uniform(0.85, 1.15), asked * random.uniform(1.0, 1.15))


def _until(flow: Flow[T], deadline: float) -> Flow[T]:
    """Run a flow and give each of its requests a deadline."""
    try:
        request = next(flow)
        while True:
            request = flow.send((yield replace(request, deadline=min(request.deadline, deadline))))
    except StopIteration as end:
        result: T = end.value
        return result


def _resume(flow: Flow[T], request: Request) -> Flow[T]:
    """Run the rest of a flow, beginning with a request that it has already yielded."""
    try:
        while True:
            request = flow.send((yield request))
    except StopIteration as end:
        result: T = end.value
        return result

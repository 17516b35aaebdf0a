"""One list of a vault's jobs answers every wait on that vault: what to read, and who gets what was read.

A list is a hint. What it shows is true. What it leaves out says nothing, and is read by itself. So a wait
ends on nothing but a job that Azure showed as over.

Each turn of a poll goes through these states. :data:`TRANSITIONS` has the reason for each arrow, and a test
compares this picture with that table::

    stateDiagram-v2
        [*] --> resting
        resting --> listing_running: a list is due, and running jobs fit on its first page
        resting --> listing_all: a list is due
        resting --> reading_one: a waiter needs more than a list shows, or is alone
        resting --> reading_history: a page of past backups is due, for forecasts
        listing_running --> listing_all: reading the missing jobs one by one would cost more
        listing_running --> resting: the list was delivered or broke off
        listing_all --> resting: the list was delivered or broke off
        reading_one --> resting: the job was delivered, or why it could not be read
        reading_history --> resting: a page of past backups was read, or broke off

``resting``
    Nothing is due. The poller asks :meth:`VaultPoll.due` when that changes.
``listing_running``
    Reads the jobs that still run, which costs one page where the list of all costs several. A job that is
    missing from it has ended, or is shown late, so it is read by itself at once. The list has to fit on one
    page, because a list that shrinks while it is read leaves jobs out.
``listing_all``
    Reads every job that began since the oldest one that somebody waits for. Only this list shows how many
    pages there are and how many of the jobs run, so it chooses the kind of the next list. A job that is
    missing from it is read by itself when its waiter is due.
``reading_one``
    Reads one job: because it is missing from a list, because a list leaves out why it did not complete, or
    because so few wait that a list would cost more. Lists and single reads take turns when both are due, so
    that neither starves the other.

``reading_history``
    Reads one page of the backups of the last month, for forecasts. No wait ends by it. The poller chooses its
    time so that such pages are a small share of all reads.

Resource Graph may show that a job is over, or that there is a new one (:meth:`VaultPoll.take_hints`). Then
the job or a list is read sooner. Nobody is given what it has shown.

A list that breaks off delivers its error to the waiters that it has not served. When the next one breaks off
as well, those jobs are read one by one, unless Azure throttles.

Source: https://learn.microsoft.com/azure/backup/backup-azure-arm-userestapi-managejobs
"""

from __future__ import annotations

import math
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from enum import Enum
from itertools import chain
from types import MappingProxyType
from typing import Any, TypeAlias

from airflow_provider_azbackup.core.conversations.matching import match_key
from airflow_provider_azbackup.core.conversations.retry import ResponseClock, accepted
from airflow_provider_azbackup.core.model.resources import Vault, last_segment
from airflow_provider_azbackup.core.polling.history import History
from airflow_provider_azbackup.core.polling.scout import Sighting
from airflow_provider_azbackup.core.polling.waits import SOONEST, JobWaiter, ListReader
from airflow_provider_azbackup.core.rest import requests, responses
from airflow_provider_azbackup.core.rest.responses import Page
from airflow_provider_azbackup.core.wire import Answer, JsonObject, NoResponse, Request, Response, T
from airflow_provider_azbackup.exceptions import AzureBackupError, AzureBackupTransientError

# The most pages of one list: a list without an end is a fault of the server.
_MOST_PAGES = 500
# How many deliveries are made in one go, before everybody else on the event loop has a turn.
_AT_ONCE = 10

# A conversation that sometimes yields None, so that others have a turn among many deliveries.
_Turn: TypeAlias = Generator[Request | None, Answer | None, T]


class State(Enum):
    """What a poll reads now."""

    RESTING = "resting"
    LISTING_RUNNING = "listing_running"
    LISTING_ALL = "listing_all"
    READING_ONE = "reading_one"
    READING_HISTORY = "reading_history"


# Which state may follow which, and why.
TRANSITIONS: Mapping[State, Mapping[State, str]] = MappingProxyType(
    {
        State.RESTING: {
            State.LISTING_RUNNING: "a list is due, and running jobs fit on its first page",
            State.LISTING_ALL: "a list is due",
            State.READING_ONE: "a waiter needs more than a list shows, or is alone",
            State.READING_HISTORY: "a page of past backups is due, for forecasts",
        },
        State.LISTING_RUNNING: {
            State.LISTING_ALL: "reading the missing jobs one by one would cost more",
            State.RESTING: "the list was delivered or broke off",
        },
        State.LISTING_ALL: {State.RESTING: "the list was delivered or broke off"},
        State.READING_ONE: {State.RESTING: "the job was delivered, or why it could not be read"},
        State.READING_HISTORY: {State.RESTING: "a page of past backups was read, or broke off"},
    }
)


class VaultPoll(ResponseClock):
    """The reads of one vault, for all waits on its jobs.

    :param vault: the vault.
    :param at: Unix time.
    :param history: learns from all jobs that are read.
    """

    def __init__(self, vault: Vault, at: float, history: History | None = None) -> None:
        super().__init__(at)
        self.vault = vault
        self.history = history or History(vault)
        # Unix time at which a page of past backups may be read.
        self.history_at = math.inf
        # By job id, in lower case.
        self.waiters: dict[str, set[JobWaiter]] = {}
        self.readers: set[ListReader[Any]] = set()
        self._listed_at = -math.inf
        # Unix time since which a list is wanted because Resource Graph has shown something new.
        self._list_wanted = math.inf
        # Of the last list of all jobs.
        self._pages = 1
        # How many single reads may come before the next list: each page of a list is one read, too.
        self._reads_owed = 0
        self._only_running = False
        self._broke_off = False

    def add(self, waiter: JobWaiter) -> None:
        """Let one more wait take part."""
        self.waiters.setdefault(waiter.ref.job_id.casefold(), set()).add(waiter)

    def remove(self, waiter: JobWaiter) -> None:
        """Let a wait go; it can ask no more."""
        waiter.withdraw()
        waits = self.waiters.get(waiter.ref.job_id.casefold(), set())
        waits.discard(waiter)
        if not waits:
            self.waiters.pop(waiter.ref.job_id.casefold(), None)

    def due(self) -> float:
        """Return the Unix time of the next turn; infinity while nobody asks."""
        asked = min(self._list_due(), min((self._read_due(each) for each in self._all()), default=math.inf))
        return math.inf if asked == math.inf else min(asked, self.history_at)

    def urgent_due(self) -> float:
        """Return the Unix time of the next read of something that has happened, as far as that is known."""
        reads = (max(each.not_before, each.look_up_at) for each in self._all())
        return min(self._wanted_list_due(), min(reads, default=math.inf))

    @property
    def interval(self) -> float:
        """The fewest seconds between two reads that somebody wants."""
        waiters, readers = (each.interval for each in self._all()), (each.interval for each in self.readers)
        return min(chain(waiters, readers), default=math.inf)

    def take_hints(self, sightings: Collection[Sighting], at: float) -> bool:
        """Look sooner at what Resource Graph has shown, and return whether that makes a read due.

        A job that is over is worth one read for each wait, even if Resource Graph shows it again and again.

        :param sightings: jobs of this vault.
        :param at: Unix time.
        """
        over = (each.job_id for each in sightings if not each.is_running)
        hinted = [w for job_id in over for w in self.waiters.get(job_id, ()) if w.hinted_at == math.inf]
        for waiter in hinted:
            waiter.hinted_at, waiter.look_up_at = at, min(waiter.look_up_at, at)
        keys = {each.key for each in self.readers}
        news = any(each.is_news and (None in keys or each.key in keys) for each in sightings) and bool(keys)
        if news:
            self._list_wanted = min(self._list_wanted, at)
        return news or bool(hinted)

    def turn(self, at: float) -> _Turn[None]:
        """Read a list or one job, whatever is due, and deliver it.

        :param at: Unix time.
        """
        self.at = at
        steps = {
            State.LISTING_RUNNING: self._list_running,
            State.LISTING_ALL: self._list_all,
            State.READING_ONE: self._read_one,
            State.READING_HISTORY: self._read_history,
        }
        state = self._next_read()
        assert state is State.RESTING or state in TRANSITIONS[State.RESTING]
        while state is not State.RESTING:
            following = yield from steps[state]()
            assert following in TRANSITIONS[state], f"{state.value} to {following.value}"
            state = following

    def _next_read(self) -> State:
        """Return what to read in this turn."""
        if self.history_at <= self.at < self.urgent_due():
            return State.READING_HISTORY
        late = [each for each in self._all() if self._read_due(each) <= self.at]
        # What Resource Graph has shown as over since the last list: one of these is read before a list of
        # several pages, and a list before several of these.
        over = {each.ref.job_id for each in late if self._listed_at < each.hinted_at <= self.at}
        crowded = len(over) > self._pages
        one_first = late and (self._reads_owed or (over and self._pages > 1))
        if crowded or (self._list_due() <= self.at and not one_first):
            # A backup that was started just now may have failed already, and would be missing.
            everything = crowded or self.readers or self._list_wanted <= self.at or not self._only_running
            self._reads_owed, self._listed_at, self._list_wanted = self._pages, self.at, math.inf
            return State.LISTING_ALL if everything else State.LISTING_RUNNING
        if late:
            self._reads_owed = max(0, self._reads_owed - 1)
            return State.READING_ONE
        return State.RESTING

    def fail(self, answer: Answer) -> _Turn[None]:
        """Deliver the same fault to everybody who asks."""
        self.observe(answer)
        yield from self._fail(self._asking(), answer)

    @property
    def _reads_one_by_one(self) -> bool:
        """Whether reading each job by itself costs no more than a list.

        A Backup vault lists all it has ever done, on many pages; a Recovery Services vault what is asked for.
        """
        cost = self._pages if self.vault.is_backup_vault else 1
        return 0 < len(self.waiters) <= cost and not self.readers

    def _all(self) -> Iterable[JobWaiter]:
        return (waiter for waits in self.waiters.values() for waiter in waits)

    def _asking(self) -> list[JobWaiter]:
        return [each for each in self._all() if each.not_before <= self.at]

    def _wanted_list_due(self) -> float:
        return max(self._list_wanted, self._listed_at + SOONEST)

    def _list_due(self) -> float:
        if self._reads_one_by_one:
            return self._wanted_list_due()
        waiters = (each.list_due(self._listed_at) for each in self._all())
        readers = (max(each.due, self._listed_at + SOONEST) for each in self.readers)
        return min(chain(waiters, readers, (self._wanted_list_due(),)))

    def _read_due(self, waiter: JobWaiter) -> float:
        """Return the Unix time at which the job of a waiter is to be read by itself."""
        found = max(waiter.not_before, waiter.look_up_at)
        return min(found, waiter.due) if self._reads_one_by_one else found

    def _read_one(self) -> _Turn[State]:
        late = (each for each in self._all() if self._read_due(each) <= self.at)
        waiter = min(late, key=lambda each: (each.look_up_at > self.at, each.looked_up_at, each.look_up_at))
        request = requests.get_job(waiter.ref)
        answer = yield request
        assert answer is not None
        self.observe(answer)
        try:
            job = responses.read_job(waiter.ref, accepted(answer, request, 200))
            self.history.learn(job)
        except AzureBackupError as error:
            job = None
            if self._broke_off and isinstance(error, AzureBackupTransientError):
                # Neither lists nor jobs can be read, so reading more of them would not help.
                for each in self._all():
                    each.look_up_at = math.inf
        for each in [*self.waiters.get(waiter.ref.job_id.casefold(), ())]:
            each.look_up_at, each.looked_up_at = math.inf, self.at
            if job:
                each.learn_start(job)
            each.answer(self.at, answer)
        return State.RESTING

    def _read_history(self) -> _Turn[State]:
        self.history_at = math.inf
        if request := self.history.request(self.at + (self.ahead or 0.0)):
            answer = yield request
            assert answer is not None
            self.observe(answer)
            for _ in self.history.take(answer):
                yield None
        return State.RESTING

    def _list_running(self) -> _Turn[State]:
        missed = yield from self._read_list(only_running=True)
        if len(missed) > self._pages:
            return State.LISTING_ALL
        for waiter in missed:
            waiter.look_up_at = self.at
        return State.RESTING

    def _list_all(self) -> _Turn[State]:
        for waiter in (yield from self._read_list(only_running=False)):
            waiter.look_up_at = waiter.due
        return State.RESTING

    def _read_list(self, *, only_running: bool) -> _Turn[list[JobWaiter]]:
        """Read a list to its end, deliver it, and return who asks for a job that it does not show."""
        delivery = _Delivery(self)
        request: Request | None = self._first_page(only_running)
        read: set[Request] = set()
        while request:
            read.add(request)
            answer = yield request
            assert answer is not None
            self.observe(answer)
            try:
                page, request = _read_page(answer, request)
            except AzureBackupError as error:
                yield from self._break_off(answer, error, delivery)
                return []
            if request in read or len(read) >= _MOST_PAGES:  # the pages go round in a circle
                request = None
            for _ in delivery.deliver(page):
                yield None
        self._broke_off = False
        delivery.end()
        if not only_running:
            self._choose_next_list(delivery)
        return [each for each in delivery.missed() if each.not_before <= self.at]

    def _break_off(self, answer: Answer, error: AzureBackupError, delivery: _Delivery) -> _Turn[None]:
        # A later page that is lost says nothing about the jobs on it, nor about the vault.
        if delivery.sizes or (isinstance(answer, Response) and answer.status < 300):
            error = AzureBackupTransientError(f"a list of jobs failed: {error}")
            answer = NoResponse(reason=str(error), at=self.at)
        for each in [*self.readers]:
            each.fail_list(error, self.at)
        missed = delivery.missed()
        yield from self._fail(missed, answer)
        throttled = isinstance(answer, Response) and answer.status == 429
        again, self._broke_off = self._broke_off, isinstance(error, AzureBackupTransientError)
        for waiter in missed if again and self._broke_off and not throttled else ():
            waiter.look_up_at = self.at

    def _fail(self, waiters: list[JobWaiter], answer: Answer) -> _Turn[None]:
        for start in range(0, len(waiters), _AT_ONCE):
            for waiter in waiters[start : start + _AT_ONCE]:
                waiter.answer(answer.at, answer)
            yield None

    def _choose_next_list(self, delivery: _Delivery) -> None:
        """Choose whether the next list is one of all jobs, or of those that run.

        The second costs one read, and one more for each job that has ended since.
        """
        self._pages = len(delivery.sizes)
        fits = delivery.running < delivery.sizes[0]
        cheaper = 1 + max(1, delivery.ended) < self._pages
        self._only_running = not self.vault.is_backup_vault and fits and cheaper

    def _first_page(self, only_running: bool) -> Request:
        now = self.at + (self.ahead or 0.0)
        began = (each.began_after for each in self._all())
        oldest = min(chain(began, (each.after for each in self.readers))) - requests.SLACK
        return requests.list_jobs(
            self.vault,
            status="InProgress" if only_running else None,
            started_after=requests.utc_datetime(max(oldest, now - requests.LONGEST_WINDOW)),
            started_before=requests.utc_datetime(now + (2.0 if self.ahead is not None else requests.SLACK)),
        )


class _Delivery:
    """Takes a list to those whom it concerns, page by page.

    :param poll: whose waiters and readers they are.
    """

    def __init__(self, poll: VaultPoll) -> None:
        self._poll = poll
        self._asking = poll._asking()
        self._shown: set[str] = set()
        # By what a job has in common with what is sought; under None are those who take every job.
        self._readers: dict[str | None, list[ListReader[Any]]] = {}
        for each in poll.readers:
            each.begin_list()
            self._readers.setdefault(each.key, []).append(each)
        # Of each page, and how many jobs on all of them run, and how many of those that were read have ended.
        self.sizes: list[int] = []
        self.running = self.ended = 0

    def deliver(self, page: Page) -> Iterator[None]:
        """Read what somebody waits for on a page, and deliver it, some jobs at a time."""
        self.sizes.append(len(page.values))
        self.running += sum(map(_is_running, page.values))
        wanted = [body for body in page.values if self._is_wanted(body)]
        for start in range(0, len(wanted), _AT_ONCE):
            some = replace(page, values=tuple(wanted[start : start + _AT_ONCE]))
            for job in responses.read_jobs(self._poll.vault, some):
                job_id = job.ref.job_id.casefold()
                self._shown.add(job_id)
                self.ended += not job.is_running
                self._poll.history.learn(job)
                for each in (*self._readers.get(match_key(job.body), ()), *self._readers.get(None, ())):
                    each.take(job)
                for waiter in [*self._poll.waiters.get(job_id, ())]:
                    waiter.take_listed(job, self._poll.at)
            yield None

    def end(self) -> None:
        """Have every reader draw its conclusion from the list."""
        for each in chain.from_iterable(self._readers.values()):
            each.end_list(self._poll.at)

    def missed(self) -> list[JobWaiter]:
        """Return who has asked for a job that the pages so far do not show."""
        return [each for each in self._asking if each.ref.job_id.casefold() not in self._shown]

    def _is_wanted(self, body: JsonObject) -> bool:
        return None in self._readers or _id_of(body) in self._poll.waiters or match_key(body) in self._readers


def _read_page(answer: Answer, request: Request) -> tuple[Page, Request | None]:
    """Return a page, and the request for the next one if there is one."""
    response = accepted(answer, request, 200)
    page = responses.read_page(response)
    if not page.next_link:
        return page, None
    following = requests.next_page(response, page.next_link)
    return page, replace(following, only_api_version=request.only_api_version)


def _id_of(body: JsonObject) -> str:
    return last_segment(str(body.get("name") or body.get("id"))).casefold()


def _is_running(body: JsonObject) -> bool:
    with suppress(KeyError, TypeError):
        return str(body["properties"]["status"]).casefold() == "inprogress"
    return False

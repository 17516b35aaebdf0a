"""One list of a vault's jobs answers every wait on that vault: what to read, and what that means to whom.

A list is a hint. What it shows is true; what it leaves out says nothing, and is looked up by itself. So a
wait ends on nothing but a job that Azure showed as over.

Source: https://learn.microsoft.com/azure/backup/backup-azure-arm-userestapi-managejobs
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import Any, Generic, NotRequired, TypeAlias, TypedDict, Unpack

from airflow_provider_azbackup.core.conversations.matching import JobMatcher, match_key
from airflow_provider_azbackup.core.conversations.retry import Patience, ResponseClock, accepted, spread_pause
from airflow_provider_azbackup.core.model.jobs import Job, Outcome
from airflow_provider_azbackup.core.model.resources import JobRef, Vault, last_segment
from airflow_provider_azbackup.core.rest import requests, responses
from airflow_provider_azbackup.core.wire import Answer, JsonObject, NoResponse, Request, Response, T
from airflow_provider_azbackup.exceptions import AzureBackupError, AzureBackupTransientError

# How long before a wait its job may have begun, until the job tells; one that began earlier is looked up.
_HEAD_START = 24 * 3600.0
# Seconds between two lists, however soon somebody wants one.
SOONEST = 15.0
# Pages of a list that never ends, which is a fault of whoever answers.
_MOST_PAGES = 500
# Waits told of their jobs in one go, before everybody else on the event loop has a turn.
_AT_ONCE = 10

# A conversation that sometimes yields None: there is much to tell, let others go first.
_Turn: TypeAlias = Generator[Request | None, Answer | None, T]


class Watcher:
    """One wait on one job, as the sweep of its vault sees it.

    :param ref: the job.
    :param interval: seconds between two looks.
    :param since: Unix time the wait began.
    :param whole: that it needs the phases of a running job, which a list leaves out.
    """

    def __init__(self, ref: JobRef, *, interval: float, since: float, whole: bool = False) -> None:
        self.ref = ref
        self._whole = whole
        self.interval = self.apart = interval
        self.began_after = since - _HEAD_START
        self.look_up_at = math.inf
        self.looked_up_at = 0.0
        self.not_before = self.due = math.inf
        self._quiet_until = 0.0
        self._latest = math.inf
        self._status = ""
        self._tell: Callable[[Answer], None] | None = None

    def ask(
        self,
        tell: Callable[[Answer], None],
        *,
        not_before: float,
        due: float,
        quiet_until: float = 0.0,
        latest: float = math.inf,
        apart: float | None = None,
    ) -> None:
        """Ask for the next look.

        :param tell: takes the answer.
        :param not_before: Unix time before which none is wanted.
        :param due: Unix time by which one is wanted; then one in every interval.
        :param quiet_until: Unix time by which an answer is wanted even if a look brings no news.
        :param latest: Unix time of the last look, which comes whatever was listed just before.
        :param apart: seconds that a list has to be newer than the last one, instead of the interval.
        """
        self._tell, self.not_before, self.due = tell, not_before, max(due, not_before)
        self._quiet_until, self._latest = quiet_until, latest
        self.apart = self.interval if apart is None else min(apart, self.interval)

    def list_due(self, listed_at: float) -> float:
        """Return the Unix time at which a list is due for this wait.

        :param listed_at: Unix time of the one before.
        """
        following = min(listed_at + self.apart, max(self._latest, listed_at + SOONEST))
        return max(self.due, following)

    def drop(self) -> None:
        """Take the question back."""
        self._tell, self.not_before, self.due = None, math.inf, math.inf

    def hear(self, at: float, answer: Callable[[], Answer]) -> None:
        """Take an answer, if one is wanted."""
        if (tell := self._tell) is not None and at >= self.not_before:
            self.drop()
            self._status = ""
            tell(answer())

    def see(self, job: Job, at: float) -> None:
        """Take what a list shows: news at once, no news when it is due.

        Of an end other than ``Completed`` a list may leave the reasons out, so that is looked up. If that
        was not to be had until the next list, the errors in the list do, where they cannot open a gate.
        """
        self.know(job)
        if self._whole and job.is_running:
            self.look_up_at = min(at, self.look_up_at) if at >= self.due else self.look_up_at
            return
        undecided = not job.is_running and job.outcome is not Outcome.SUCCEEDED
        passed_over = self.look_up_at < at and bool(job.errors) and job.outcome is not Outcome.WARNED
        if undecided and not passed_over:
            self.look_up_at = min(at, self.look_up_at)
            return
        self.look_up_at = math.inf
        if undecided or job.status != self._status or at >= max(self.due, self._quiet_until):
            self.hear(at, partial(_shown, job, at))
            self._status = "" if self._tell else job.status
        elif at >= self.due:
            self.due, self.apart = min(at + self.interval, self._quiet_until), self.interval

    def know(self, job: Job) -> None:
        """Take from a job when it began."""
        self.began_after = job.began or self.began_after


class Wanted(TypedDict):
    """Which backup a :class:`Start` is about, and how it is looked for.

    ``after`` is the Unix time, by Azure's clock, since which it must have begun; ``known`` are the ids of
    jobs, in lower case, that are not meant. ``apart`` are the seconds between two lists, ``misses`` how many
    of them may not show it, ``until`` the Unix time of the last; ``choose`` picks one of those a list shows.
    """

    after: float
    known: NotRequired[frozenset[str]]
    apart: float
    misses: NotRequired[float]
    until: float
    choose: Callable[[Sequence[Job]], Job | None]


class Reader(Generic[T]):
    """Somebody who reads lists of jobs, each to its end.

    :param after: Unix time by Azure's clock since which jobs must have begun to be shown.
    :param due: Unix time by which a list is wanted.
    :param apart: seconds between two lists.
    :param tell: takes what came of a list, or an error that lasts.
    """

    # What a job must have in common with what is sought, see :func:`match_key`; None seeks all.
    key: str | None = None

    def __init__(
        self, *, after: float, due: float, apart: float, tell: Callable[[T | AzureBackupError], None]
    ) -> None:
        self.after, self.due, self.tell = after, due, tell
        self._apart = apart
        self._patience = Patience(due)
        self._found: list[Job] = []

    def prepare(self) -> None:
        """Take that a list begins now."""
        self._found = []

    def see(self, job: Job) -> None:
        """Take a job from a list."""
        self._found.append(job)

    def conclude(self, at: float) -> None:
        """Take that a list has come to its end."""
        raise NotImplementedError

    def fail(self, error: AzureBackupError, at: float) -> None:
        """Take that a list could not be read."""
        self._found, self.due = [], at + spread_pause(self._apart, error)
        try:
            self._patience.record_failure(error, at)
        except AzureBackupError as lasting:
            self.tell(lasting)


class Start(Reader[Job | None]):
    """Somebody who wants to know of a backup that is not known yet, and that lists are to show.

    :param subject: what is backed up.
    :param due: Unix time by which a list is wanted.
    :param tell: takes the job, an error that lasts, or None when lists do not show it.
    :param wanted: see :class:`Wanted`.
    """

    def __init__(
        self,
        subject: JobMatcher,
        *,
        due: float,
        tell: Callable[[Job | AzureBackupError | None], None],
        **wanted: Unpack[Wanted],
    ) -> None:
        super().__init__(after=wanted["after"], due=due, apart=wanted["apart"], tell=tell)
        self.subject, self.key, self._choose = subject, subject.key, wanted["choose"]
        self._misses, self._known = wanted.get("misses", math.inf), wanted.get("known", frozenset())
        self._until = wanted["until"]

    def see(self, job: Job) -> None:
        """Take a job from a list."""
        if job.is_backup and job.began >= self.after and job.ref.job_id.casefold() not in self._known:
            self._found += [job] if self.subject.matches(job) else []

    def conclude(self, at: float) -> None:
        """Take that a list has come to its end."""
        self._patience.record_success()
        self._misses -= 1
        if self._found or self._misses <= 0 or at >= self._until:
            self.tell(self._choose(self._found))
        self._found, self.due = [], min(at + self._apart, max(self._until, at + SOONEST))


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What one list has shown.

    :param jobs: all jobs on it.
    :param after: Unix time by Azure's clock since which jobs began; of earlier ones it may show none.
    :param at: Unix time.
    :param ahead: seconds by which Azure's clock is ahead.
    """

    jobs: tuple[Job, ...]
    after: float
    at: float
    ahead: float = 0.0


class Follower(Reader[Listing]):
    """Somebody who wants to see every job of a vault, again and again.

    ``after`` may be moved at any time; it counts from the next list on.
    """

    _covers = math.inf

    def prepare(self) -> None:
        """Take that a list begins now."""
        super().prepare()
        self._covers = self.after

    def conclude(self, at: float) -> None:
        """Take that a list has come to its end."""
        self._patience.record_success()
        found, self._found = self._found, []
        self.due = at + spread_pause(self._apart)
        self.tell(Listing(jobs=tuple(found), after=self._covers, at=at))


def _shown(job: Job, at: float) -> Response:
    return Response(status=200, at=at, text=json.dumps(job.body))


class Sweep(ResponseClock):
    """The reads of one vault, for all waits on its jobs.

    :param vault: the vault.
    :param at: Unix time.
    """

    def __init__(self, vault: Vault, at: float) -> None:
        super().__init__(at)
        self.vault = vault
        self.watchers: dict[str, set[Watcher]] = {}
        self.starts: set[Reader[Any]] = set()
        self._listed_at = -math.inf
        self._pages = 1
        self._look_ups_owed = 0
        self._only_running = False
        self._broke_off = False

    def add(self, watcher: Watcher) -> None:
        """Let one more wait take part."""
        self.watchers.setdefault(watcher.ref.job_id.casefold(), set()).add(watcher)

    def remove(self, watcher: Watcher) -> None:
        """Let a wait go; it may ask no more."""
        watcher.drop()
        waits = self.watchers.get(watcher.ref.job_id.casefold(), set())
        waits.discard(watcher)
        if not waits:
            self.watchers.pop(watcher.ref.job_id.casefold(), None)

    def due(self) -> float:
        """Return the Unix time of the next turn; infinity while nobody asks."""
        return min(self._list_due(), min((self._look_up_due(each) for each in self._all()), default=math.inf))

    def turn(self, at: float) -> _Turn[None]:
        """Read a list or one job, whatever is due, and answer whom it concerns.

        :param at: Unix time.
        """
        self.at = at
        late = [each for each in self._all() if self._look_up_due(each) <= at]
        # Neither may starve the other: the list serves everybody, a look-up somebody it cannot serve.
        if self._list_due() <= at and not (late and self._look_ups_owed):
            self._look_ups_owed = self._pages
            yield from self._list(at)
        elif late:
            self._look_ups_owed = max(0, self._look_ups_owed - 1)
            yield from self._look_up(min(late, key=lambda each: (each.looked_up_at, each.look_up_at)))

    def fail(self, answer: Answer) -> _Turn[None]:
        """Tell everybody who asks of the same fault."""
        self.observe(answer)
        yield from self._fail(self._asking(), answer)

    @property
    def _is_alone(self) -> bool:
        """Whether looking at each job costs no more reads than a list.

        A Backup vault lists whatever it has ever done, on many pages; the other type what is asked for.
        """
        cost = self._pages if self.vault.is_backup_vault else 1
        return 0 < len(self.watchers) <= cost and not self.starts

    def _all(self) -> Iterable[Watcher]:
        return (watcher for waits in self.watchers.values() for watcher in waits)

    def _asking(self) -> list[Watcher]:
        return [each for each in self._all() if each.not_before <= self.at]

    def _list_due(self) -> float:
        if self._is_alone:
            return math.inf
        watchers = (each.list_due(self._listed_at) for each in self._all())
        starts = (max(each.due, self._listed_at + SOONEST) for each in self.starts)
        return min(chain(watchers, starts), default=math.inf)

    def _look_up_due(self, watcher: Watcher) -> float:
        found = max(watcher.not_before, watcher.look_up_at)
        return min(found, watcher.due) if self._is_alone else found

    def _look_up(self, watcher: Watcher) -> _Turn[None]:
        call = requests.get_job(watcher.ref)
        answer = yield call
        assert answer is not None
        self.observe(answer)
        try:
            job = responses.read_job(watcher.ref, accepted(answer, call, 200))
        except AzureBackupError as error:
            job = None
            if self._broke_off and isinstance(error, AzureBackupTransientError):
                # Neither lists nor jobs can be read: there is no going round that, only waiting.
                for each in self._all():
                    each.look_up_at = math.inf
        for each in [*self.watchers.get(watcher.ref.job_id.casefold(), ())]:
            each.look_up_at, each.looked_up_at = math.inf, self.at
            if job:
                each.know(job)
            each.hear(self.at, lambda: answer)

    def _list(self, at: float) -> _Turn[None]:
        self._listed_at = at
        # What was started just now may have failed already.
        only_running = self._only_running and not self.starts
        missed = yield from self._read_list(only_running=only_running)
        if only_running and len(missed) > self._pages:
            # Asking for each would cost more than one list of all.
            only_running = False
            missed = yield from self._read_list(only_running=False)
        for watcher in missed:
            # What runs no more is looked up at once, what no list shows when it is due.
            watcher.look_up_at = self.at if only_running else watcher.due

    def _read_list(self, *, only_running: bool) -> _Turn[list[Watcher]]:
        """Read a list to its end; return who asks for a job that it does not show."""
        asking, shown = self._asking(), set[str]()
        starts: dict[str | None, list[Reader[Any]]] = {}
        for each in self.starts:
            each.prepare()
            starts.setdefault(each.key, []).append(each)
        sizes: list[int] = []
        running, ended = 0, 0
        call: Request | None = self._first(only_running)
        seen = set()
        while call:
            seen.add(call)
            answer = yield call
            assert answer is not None
            self.observe(answer)
            try:
                reply = accepted(answer, call, 200)
                page = responses.read_page(reply)
                call = requests.next_page(reply, page.next_link) if page.next_link else None
            except AzureBackupError as error:
                unseen = [each for each in asking if each.ref.job_id.casefold() not in shown]
                yield from self._break_off(answer, error, unseen, first=not sizes)
                return []
            if call in seen or len(seen) >= _MOST_PAGES:  # round in a circle
                call = None
            sizes.append(len(page.values))
            running += sum(map(_runs, page.values))
            meant = [
                body
                for body in page.values
                if None in starts or _id_of(body) in self.watchers or match_key(body) in starts
            ]
            for start in range(0, len(meant), _AT_ONCE):
                some = replace(page, values=tuple(meant[start : start + _AT_ONCE]))
                for job in responses.read_jobs(self.vault, some):
                    job_id = job.ref.job_id.casefold()
                    shown.add(job_id)
                    ended += not job.is_running
                    for each in (*starts.get(match_key(job.body), ()), *starts.get(None, ())):
                        each.see(job)
                    for watcher in [*self.watchers.get(job_id, ())]:
                        watcher.see(job, self.at)
                yield None
        self._broke_off = False
        for each in chain.from_iterable(starts.values()):
            each.conclude(self.at)
        if not only_running:
            self._choose(sizes, running, ended)
        return [
            each for each in asking if each.ref.job_id.casefold() not in shown and each.not_before <= self.at
        ]

    def _break_off(
        self, answer: Answer, error: AzureBackupError, unseen: list[Watcher], *, first: bool
    ) -> _Turn[None]:
        # A later page that is lost says nothing of the jobs on it, nor of the vault.
        if not first or (isinstance(answer, Response) and answer.status < 300):
            error = AzureBackupTransientError(f"a list of jobs failed: {error}")
            answer = NoResponse(reason=str(error), at=self.at)
        for each in [*self.starts]:
            each.fail(error, self.at)
        yield from self._fail(unseen, answer)
        throttled = isinstance(answer, Response) and answer.status == 429
        again, self._broke_off = self._broke_off, isinstance(error, AzureBackupTransientError)
        # A list that breaks off time and again is gone round: the jobs it does not show are looked up.
        for watcher in unseen if again and self._broke_off and not throttled else ():
            watcher.look_up_at = self.at

    def _fail(self, watchers: list[Watcher], answer: Answer) -> _Turn[None]:
        for start in range(0, len(watchers), _AT_ONCE):
            for watcher in watchers[start : start + _AT_ONCE]:
                watcher.hear(answer.at, lambda: answer)
            yield None

    def _choose(self, sizes: list[int], running: int, ended: int) -> None:
        """Choose the next list: everything in the window, or what runs and then what is missing from it.

        Only where what runs fits on one page: a list that shrinks while it is read leaves jobs out.
        """
        self._pages = len(sizes)
        narrows = not self.vault.is_backup_vault
        self._only_running = narrows and running < sizes[0] and 1 + max(1, ended) < self._pages

    def _first(self, only_running: bool) -> Request:
        now = self.at + (self.ahead or 0.0)
        began = (each.began_after for each in self._all())
        oldest = min(chain(began, (each.after for each in self.starts))) - requests.SLACK
        return requests.list_jobs(
            self.vault,
            status="InProgress" if only_running else None,
            started_after=requests.utc_datetime(max(oldest, now - requests.LONGEST_WINDOW)),
            started_before=requests.utc_datetime(now + (2.0 if self.ahead is not None else requests.SLACK)),
        )


def _id_of(body: JsonObject) -> str:
    return last_segment(str(body.get("name") or body.get("id"))).casefold()


def _runs(body: JsonObject) -> bool:
    with suppress(KeyError, TypeError):
        return str(body["properties"]["status"]).casefold() == "inprogress"
    return False

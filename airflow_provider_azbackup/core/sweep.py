"""One list of a vault's jobs answers every wait on that vault: what to read, and what that means to whom.

A list is a hint. What it shows is true; what it leaves out says nothing, and is looked up by itself. So a
wait ends on nothing but a job that Azure showed as over.

Source: https://learn.microsoft.com/azure/backup/backup-azure-arm-userestapi-managejobs
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime

from airflow_provider_azbackup.core import calls, flows, replies
from airflow_provider_azbackup.core.jobs import Job, Outcome
from airflow_provider_azbackup.core.resources import JobRef, Vault
from airflow_provider_azbackup.core.wire import Answer, Call, Flow, Lost, Reply
from airflow_provider_azbackup.exceptions import AzureBackupError

# How long before a wait its job may have begun, until the job tells; one that began earlier is looked up.
_HEAD_START = 24 * 3600.0
# Clocks differ by minutes, and Azure tells the time of its answers in seconds.
_SLACK = 600.0
# Microsoft's own tools never ask for more than 30 days.
_LONGEST_WINDOW = 30 * 24 * 3600.0 - 2 * _SLACK


class Watcher:
    """One wait on one job, as the sweep of its vault sees it.

    :param ref: the job.
    :param interval: seconds between two looks.
    :param since: Unix time the wait began.
    """

    def __init__(self, ref: JobRef, *, interval: float, since: float) -> None:
        self.ref = ref
        self.interval = interval
        self.began_after = since - _HEAD_START
        self.must_look_up = False
        self.not_before = self.due = math.inf
        self._status = ""
        self._tell: Callable[[Answer], None] | None = None

    def ask(self, tell: Callable[[Answer], None], *, not_before: float, due: float) -> None:
        """Ask for the next look.

        :param tell: takes the answer.
        :param not_before: Unix time before which none is wanted.
        :param due: Unix time by which one is wanted even if there is no news.
        """
        self._tell, self.not_before, self.due = tell, not_before, due

    def drop(self) -> None:
        """Take the question back."""
        self._tell, self.not_before, self.due = None, math.inf, math.inf

    def hear(self, answer: Answer) -> bool:
        """Take an answer, if one is wanted; return whether it was."""
        if (tell := self._tell) is None or answer.at < self.not_before:
            return False
        self.drop()
        tell(answer)
        return True

    def see(self, job: Job, at: float) -> None:
        """Take what a list shows: news at once, no news when it is due.

        Of an end other than ``Completed`` a list may leave the reasons out, so that is looked up.
        """
        self.know(job)
        self.must_look_up = not job.is_running and job.outcome is not Outcome.SUCCEEDED
        if self.must_look_up or (job.status == self._status and at < self.due):
            return
        if self.hear(Reply(status=200, at=at, text=json.dumps(job.body))):
            self._status = job.status

    def know(self, job: Job) -> None:
        """Take from a job when it began."""
        if job.start_time:
            self.began_after = datetime.fromisoformat(job.start_time).timestamp()


class Sweep(flows.Heard):
    """The reads of one vault, for all waits on its jobs.

    :param vault: the vault.
    :param at: Unix time.
    """

    def __init__(self, vault: Vault, at: float) -> None:
        super().__init__(at)
        self.vault = vault
        self.watchers: set[Watcher] = set()
        self._list_at = at
        self._pages = 1
        self._only_running = False
        self._broke_off = False

    def due(self) -> float:
        """Return the Unix time of the next turn; infinity while nobody asks."""
        now, later = math.inf, math.inf
        for watcher in self.watchers:
            wanted = max(watcher.due, watcher.not_before)
            if watcher.must_look_up or len(self.watchers) == 1:
                now = min(now, watcher.not_before if watcher.must_look_up else wanted)
            else:
                later = min(later, wanted)
        return min(now, max(later, self._list_at))

    def turn(self, at: float) -> Flow[None]:
        """Read what is due, and answer whom it concerns.

        :param at: Unix time.
        """
        self.at = at
        alone = len(self.watchers) == 1
        if not alone and at >= self._list_at and any(not each.must_look_up for each in self._asking()):
            yield from self._list(at)
        looked_up = [each for each in self._asking() if alone or each.must_look_up]
        # Many look-ups must not starve the list, which serves everybody else.
        for watcher in sorted(looked_up, key=lambda each: each.due)[: max(1, self._pages)]:
            yield from self._look_up(watcher)

    def fail(self, answer: Answer) -> None:
        """Tell everybody who asks of the same fault."""
        self.hear(answer)
        for watcher in self._asking():
            watcher.hear(answer)

    def _asking(self) -> list[Watcher]:
        return [each for each in self.watchers if each.not_before <= self.at]

    def _look_up(self, watcher: Watcher) -> Flow[None]:
        call = calls.get_job(watcher.ref)
        answer = yield call
        self.hear(answer)
        watcher.must_look_up = False
        with suppress(AzureBackupError):
            watcher.know(replies.read_job(watcher.ref, flows.accepted(answer, call, 200)))
        watcher.hear(answer)

    def _list(self, at: float) -> Flow[None]:
        self._list_at = at + min(each.interval for each in self.watchers)
        missed = yield from self._read_list(only_running=self._only_running)
        if self._only_running and len(missed) > self._pages:
            # Asking for each would cost more than one list of all.
            missed = yield from self._read_list(only_running=False)
        for watcher in missed:
            watcher.must_look_up = True

    def _read_list(self, *, only_running: bool) -> Flow[list[Watcher]]:
        """Read a list to its end; return who asks for a job that it does not show."""
        waiting = {*self._asking()}
        by_id: dict[str, list[Watcher]] = {}
        for watcher in self.watchers:
            by_id.setdefault(watcher.ref.job_id.casefold(), []).append(watcher)
        sizes: list[int] = []
        running, ended = 0, 0
        call: Call | None = self._first(only_running)
        seen = set()
        while call:
            seen.add(call)
            answer = yield call
            self.hear(answer)
            try:
                reply = flows.accepted(answer, call, 200)
                page = replies.read_page(reply)
                call = calls.next_page(reply, page.next_link) if page.next_link else None
                if call in seen:
                    call = None
            except AzureBackupError as error:
                return self._break_off(answer, error, waiting, first=not sizes)
            sizes.append(len(page.values))
            for job in replies.read_jobs(self.vault, page):
                running += job.is_running
                for watcher in by_id.get(job.ref.job_id.casefold(), ()):
                    waiting.discard(watcher)
                    ended += not job.is_running
                    watcher.see(job, self.at)
        self._broke_off = False
        if not only_running:
            self._choose(sizes, running, ended)
        return [watcher for watcher in waiting if watcher in self.watchers and watcher.not_before <= self.at]

    def _break_off(
        self, answer: Answer, error: AzureBackupError, waiting: Iterable[Watcher], *, first: bool
    ) -> list[Watcher]:
        # A later page that is lost says nothing of the jobs on it, nor of the vault.
        if not first or (isinstance(answer, Reply) and answer.status < 300):
            answer = Lost(reason=f"a list of jobs broke off: {error}", at=self.at)
        unseen = [each for each in waiting if each in self.watchers and each.not_before <= self.at]
        again, self._broke_off = self._broke_off and not first, not first
        for watcher in unseen:
            watcher.hear(answer)
        # A page that is lost time and again is gone round: the jobs on it are looked up.
        for watcher in unseen if again else ():
            watcher.must_look_up = True
        return []

    def _choose(self, sizes: list[int], running: int, ended: int) -> None:
        """Choose the next list: everything in the window, or what runs and then what is missing from it.

        Only where what runs fits on one page: a list that shrinks while it is read leaves jobs out.
        """
        self._pages = len(sizes)
        self._only_running = running < sizes[0] and 1 + max(1, ended) < self._pages

    def _first(self, only_running: bool) -> Call:
        now = self.at + (self.ahead or 0.0)
        oldest = min(each.began_after for each in self.watchers) - _SLACK
        return calls.list_jobs(
            self.vault,
            status="InProgress" if only_running else None,
            started_after=_moment(max(oldest, now - _LONGEST_WINDOW)),
            started_before=_moment(now + (2.0 if self.ahead is not None else _SLACK)),
        )


def _moment(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)

"""Who waits for jobs of a vault: for one job, for a backup that has no known job yet, or for all of them.

:mod:`~airflow_provider_azbackup.core.polling.vault_poll` reads for all of them together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, NotRequired, TypeAlias, TypedDict, Unpack

from airflow_provider_azbackup.core.conversations.jobs import ListedJob
from airflow_provider_azbackup.core.conversations.matching import JobMatcher
from airflow_provider_azbackup.core.conversations.retry import Patience, spread_pause
from airflow_provider_azbackup.core.model.jobs import Job, Outcome
from airflow_provider_azbackup.core.model.resources import JobRef
from airflow_provider_azbackup.core.wire import Answer, T
from airflow_provider_azbackup.exceptions import AzureBackupError

# How long before a wait its job may have begun, as long as its start is unknown. One that began earlier is
# read by itself.
_HEAD_START = 24 * 3600.0
# The fewest seconds between two lists, however soon somebody wants one.
SOONEST = 15.0

# What a wait for a job can be given: a response of Azure, no response, or the job as a list shows it.
JobAnswer: TypeAlias = Answer | ListedJob


class JobWaiter:
    """One wait for one job, as the poll of its vault sees it.

    :param ref: the job.
    :param interval: seconds between two reads.
    :param since: Unix time the wait began.
    :param needs_phases: whether it needs the phases of a running job, which a list leaves out.
    """

    def __init__(self, ref: JobRef, *, interval: float, since: float, needs_phases: bool = False) -> None:
        self.ref = ref
        self._needs_phases = needs_phases
        self.interval = self.apart = interval
        self.began_after = since - _HEAD_START
        self.look_up_at = math.inf
        self.looked_up_at = 0.0
        # When Resource Graph has first shown the job as over.
        self.hinted_at = math.inf
        self.not_before = self.due = math.inf
        self._quiet_until = 0.0
        self._latest = math.inf
        self._status = ""
        self._deliver: Callable[[JobAnswer], None] | None = None

    def ask(
        self,
        deliver: Callable[[JobAnswer], None],
        *,
        not_before: float,
        due: float,
        quiet_until: float = 0.0,
        latest: float = math.inf,
        apart: float | None = None,
    ) -> None:
        """Ask for the next read.

        :param deliver: takes the answer.
        :param not_before: Unix time before which no answer is wanted.
        :param due: Unix time by which a read is wanted, and from then on one in every interval.
        :param quiet_until: Unix time by which an answer is wanted even if the reads bring no news.
        :param latest: Unix time of the last read, which is made however new the last list is.
        :param apart: the fewest seconds between the last list and the next one, instead of the interval.
        """
        self._deliver, self.not_before, self.due = deliver, not_before, max(due, not_before)
        self._quiet_until, self._latest = quiet_until, latest
        self.apart = self.interval if apart is None else min(apart, self.interval)

    def list_due(self, listed_at: float) -> float:
        """Return the Unix time at which this wait needs a list.

        :param listed_at: Unix time of the last list.
        """
        following = min(listed_at + self.apart, max(self._latest, listed_at + SOONEST))
        return max(self.due, following)

    def withdraw(self) -> None:
        """Take the question back."""
        self._deliver, self.not_before, self.due = None, math.inf, math.inf

    def answer(self, at: float, answer: JobAnswer) -> None:
        """Deliver an answer, if one is wanted by now."""
        if (deliver := self._deliver) is not None and at >= self.not_before:
            self.withdraw()
            self._status = ""
            deliver(answer)

    def take_listed(self, job: Job, at: float) -> None:
        """Take the job as a list shows it: deliver news at once, and no news when an answer is due.

        A list may leave out why a job did not complete, so such a job is read by itself. If that read has
        not succeeded by the next list, the errors in the list are enough, unless they could open a gate.
        """
        self.learn_start(job)
        if self._needs_phases and job.is_running:
            self.look_up_at = min(at, self.look_up_at) if at >= self.due else self.look_up_at
            return
        undecided = not job.is_running and job.outcome is not Outcome.SUCCEEDED
        passed_over = self.look_up_at < at and bool(job.errors) and job.outcome is not Outcome.WARNED
        if undecided and not passed_over:
            self.look_up_at = min(at, self.look_up_at)
            return
        self.look_up_at = math.inf
        if undecided or job.status != self._status or at >= max(self.due, self._quiet_until):
            self.answer(at, ListedJob(job=replace(job, ref=self.ref), at=at))
            self._status = "" if self._deliver else job.status
        elif at >= self.due:
            self.due, self.apart = min(at + self.interval, self._quiet_until), self.interval

    def learn_start(self, job: Job) -> None:
        """Note when the job began."""
        self.began_after = job.began or self.began_after


class FinderOptions(TypedDict):
    """Which backup a :class:`BackupFinder` is about, and how it is looked for.

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


class ListReader(Generic[T]):
    """Takes lists of the jobs of a vault, each to its end.

    :param after: Unix time by Azure's clock since which jobs must have begun to be shown.
    :param due: Unix time by which a list is wanted.
    :param apart: seconds between two lists.
    :param deliver: takes what a list has shown, or an error that lasts.
    """

    # What a job must have in common with what is sought, see :func:`match_key`; None seeks all.
    key: str | None = None

    def __init__(
        self, *, after: float, due: float, apart: float, deliver: Callable[[T | AzureBackupError], None]
    ) -> None:
        self.after, self.due, self.deliver = after, due, deliver
        self._apart = apart
        self._patience = Patience(due)
        self._found: list[Job] = []

    @property
    def interval(self) -> float:
        """Seconds between two lists."""
        return self._apart

    def begin_list(self) -> None:
        """Prepare for a new list."""
        self._found = []

    def take(self, job: Job) -> None:
        """Take a job from a list."""
        self._found.append(job)

    def end_list(self, at: float) -> None:
        """Deliver what the list has shown."""
        raise NotImplementedError

    def fail_list(self, error: AzureBackupError, at: float) -> None:
        """Note that a list could not be read; deliver an error that lasts."""
        self._found, self.due = [], at + spread_pause(self._apart, error)
        try:
            self._patience.record_failure(error, at)
        except AzureBackupError as lasting:
            self.deliver(lasting)


class BackupFinder(ListReader[Job | None]):
    """Looks through lists for a backup whose job is not known yet.

    :param subject: what is backed up.
    :param due: Unix time by which a list is wanted.
    :param deliver: takes the job, an error that lasts, or None when no list has shown it.
    :param wanted: see :class:`FinderOptions`.
    """

    def __init__(
        self,
        subject: JobMatcher,
        *,
        due: float,
        deliver: Callable[[Job | AzureBackupError | None], None],
        **wanted: Unpack[FinderOptions],
    ) -> None:
        super().__init__(after=wanted["after"], due=due, apart=wanted["apart"], deliver=deliver)
        self.subject, self.key, self._choose = subject, subject.key, wanted["choose"]
        self._misses, self._known = wanted.get("misses", math.inf), wanted.get("known", frozenset())
        self._until = wanted["until"]

    def take(self, job: Job) -> None:
        """Take a job from a list."""
        if job.is_backup and job.began >= self.after and job.ref.job_id.casefold() not in self._known:
            self._found += [job] if self.subject.matches(job) else []

    def end_list(self, at: float) -> None:
        """Deliver what the list has shown."""
        self._patience.record_success()
        self._misses -= 1
        if self._found or self._misses <= 0 or at >= self._until:
            self.deliver(self._choose(self._found))
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


class VaultFollower(ListReader[Listing]):
    """Takes every job of a vault, list after list.

    ``after`` may be changed at any time; the change counts from the next list on.
    """

    _covers = math.inf

    def begin_list(self) -> None:
        """Prepare for a new list."""
        super().begin_list()
        self._covers = self.after

    def end_list(self, at: float) -> None:
        """Deliver what the list has shown."""
        self._patience.record_success()
        found, self._found = self._found, []
        self.due = at + spread_pause(self._apart)
        self.deliver(Listing(jobs=tuple(found), after=self._covers, at=at))

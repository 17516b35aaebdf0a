"""What the page reads from Azure: one list of a vault for everybody who looks at it, within a budget.

Nobody who opens a page waits for Azure longer than a moment, and no number of people makes it read more. The
reads are those that waits leave to people, see ``job_read_share`` of the connection.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field

from airflow_provider_azbackup.core.conversations.items import list_protected_items
from airflow_provider_azbackup.core.conversations.jobs import get_job
from airflow_provider_azbackup.core.model.jobs import Job
from airflow_provider_azbackup.core.model.resources import JobRef, Vault
from airflow_provider_azbackup.core.polling.budget import Budget
from airflow_provider_azbackup.core.rest.responses import FoundItem
from airflow_provider_azbackup.core.settings import Settings
from airflow_provider_azbackup.core.wire import Flow, Response, T
from airflow_provider_azbackup.exceptions import AzureBackupError
from airflow_provider_azbackup.page import summary
from airflow_provider_azbackup.runtime import clock

# Seconds between two lists of a vault at least; more where a list takes several reads.
LEAST = 180.0
# Seconds until a list that failed is tried again.
_AGAIN = 60.0
# Seconds for which the list of protected items and a running job are as good as new.
_ITEMS_LAST, _JOB_LASTS = 900.0, 60.0
# Real seconds that somebody who opens the page waits for a list; then it comes without, and asks again.
_PATIENCE = 1.5
# Seconds to connect and to read: a page is not worth more.
_TO_CONNECT, _TO_READ = 5.0, 20.0
# Seconds after which a vault that nobody has looked at is forgotten, and how many single jobs are kept.
_KEPT = 3600.0
_MOST_JOBS = 500
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class View:
    """What is known of a vault. Times are Unix time; ``read_at`` None: nothing has been read yet.

    ``fault`` says why the last list failed, ``items_fault`` why what the vault protects could not be listed.
    ``next_at`` is when the next list may come, ``reading`` that one is under way.
    """

    jobs: tuple[Job, ...] = ()
    cut: bool = False
    items: tuple[FoundItem, ...] = ()
    read_at: float | None = None
    fault: str = ""
    items_fault: str = ""
    next_at: float = 0.0
    reading: bool = False


@dataclass
class _Queue:
    """The reads of one identity in one subscription."""

    # The page may use whatever is left, but no faster than the reads that waits leave to people come.
    budget: Budget
    people: float
    lock: threading.Lock = field(default_factory=threading.Lock)
    shelves: list[_Shelf] = field(default_factory=list)

    def interval(self) -> float:
        """Return the seconds between two lists of a vault that keep all of them to the share of people."""
        granted = max(1.0, self.budget.limit * self.people)
        return max(LEAST, sum(shelf.cost for shelf in self.shelves) * self.budget.window / granted)


@dataclass(eq=False)
class _Shelf:
    """One vault, and what was last read of it."""

    queue: _Queue
    asked_at: float
    listed: summary.Listed = field(default_factory=lambda: summary.Listed(jobs=()))
    items: tuple[FoundItem, ...] = ()
    read_at: float | None = None
    items_at: float | None = None
    fault: str = ""
    items_fault: str = ""
    failed_at: float = float("-inf")
    cost: int = 1
    task: Future[None] | None = None

    def next_at(self, now: float) -> float:
        """Return the Unix time from which a list may come."""
        due = self.failed_at + _AGAIN
        if self.read_at is not None:
            due = max(due, self.read_at + self.queue.interval())
        return max(due, self.queue.budget.ready_at(now))


@dataclass
class _Look:
    job: Job | None  # None: it could not be read
    at: float


class Reads:
    """Reads vaults for all who open the page in this process. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queues: dict[Hashable, _Queue] = {}
        self._shelves: dict[Hashable, _Shelf] = {}
        self._jobs: OrderedDict[Hashable, _Look] = OrderedDict()
        # Azure's slowness may take these threads, never those in which Airflow answers.
        self._workers = ThreadPoolExecutor(max_workers=4, thread_name_prefix="azure-backup-page")

    async def vault(self, settings: Settings, vault: Vault) -> View:
        """Return what is known of a vault, read anew when that is due and granted.

        :param settings: the connection; another one with the same credential sees the same.
        """
        now = clock.current().now()
        with self._lock:
            shelf = self._shelf(settings, vault, now)
            if (shelf.task is None or shelf.task.done()) and now >= shelf.next_at(now):
                shelf.task = self._start(lambda: self._list(shelf, settings, vault))
            task = shelf.task
        if task and shelf.read_at is None:
            await asyncio.wait([asyncio.wrap_future(task)], timeout=_PATIENCE)
        # Asked first: what is not being read any more is there.
        reading = bool(task and not task.done())
        return View(
            jobs=shelf.listed.jobs,
            cut=shelf.listed.cut,
            items=shelf.items,
            read_at=shelf.read_at,
            fault=shelf.fault,
            items_fault=shelf.items_fault,
            next_at=shelf.next_at(now),
            reading=reading,
        )

    async def job(self, settings: Settings, ref: JobRef) -> Job | None:
        """Return a job with its phases as it was within the last minute, or None when no read is granted."""
        key = (_credential(settings), ref.path.casefold())
        now = clock.current().now()
        with self._lock:
            queue, known = self._queue(settings, ref.vault, now), self._jobs.get(key)
        if known and (now < known.at + _JOB_LASTS or (known.job and not known.job.is_running)):
            return known.job
        task = self._start(lambda: self._look(queue, settings, ref, key))
        await asyncio.wait([asyncio.wrap_future(task)], timeout=_PATIENCE)
        with self._lock:
            known = self._jobs.get(key)
        return known.job if known else None

    def _start(self, work: Callable[[], None]) -> Future[None]:
        # With its context: the clock is handed in there.
        return self._workers.submit(copy_context().run, work)

    def _shelf(self, settings: Settings, vault: Vault, now: float) -> _Shelf:
        key = (_credential(settings), vault.path.casefold())
        for other, shelf in [*self._shelves.items()]:
            # What nobody looks at must not make those wait who look at something else.
            if other != key and shelf.asked_at < now - _KEPT:
                del self._shelves[other]
                shelf.queue.shelves.remove(shelf)
        if key not in self._shelves:
            queue = self._queue(settings, vault, now)
            self._shelves[key] = _Shelf(queue, now)
            queue.shelves.append(self._shelves[key])
        self._shelves[key].asked_at = now
        return self._shelves[key]

    def _queue(self, settings: Settings, vault: Vault, now: float) -> _Queue:
        # By the identity: Azure does not count by secrets.
        key = (settings.endpoint, settings.identity, vault.subscription_id.casefold(), vault.vault_type)
        if key not in self._queues:
            self._queues[key] = _Queue(Budget(1.0, now), 1.0 - settings.job_read_share)
        return self._queues[key]

    def _list(self, shelf: _Shelf, settings: Settings, vault: Vault) -> None:
        now = clock.current().now()
        try:
            with shelf.queue.lock:
                spent, listed = self._play(shelf.queue, settings, vault, summary.list_week(vault, now))
            shelf.listed, shelf.cost, shelf.read_at, shelf.fault = listed, spent, now, ""
        except Exception as error:  # the page shows it beside what it has
            shelf.fault, shelf.failed_at = _told(error, "jobs", vault), now
            return
        if shelf.items_at is not None and now < shelf.items_at + _ITEMS_LAST:
            return
        try:
            shelf.items = tuple(_converse(settings, list_protected_items(vault)))
            shelf.items_fault = ""
        except Exception as error:  # as above
            shelf.items_fault = _told(error, "protected items", vault)
        shelf.items_at = now

    def _look(self, queue: _Queue, settings: Settings, ref: JobRef, key: Hashable) -> None:
        now = clock.current().now()
        with queue.lock:
            known = self._jobs.get(key)
            # While this waited for its turn, somebody else may have read it.
            if (known and now < known.at + _JOB_LASTS) or now < queue.budget.ready_at(now):
                return
            job = known.job if known else None
            try:
                _, job = self._play(queue, settings, ref.vault, get_job(ref))
            except Exception as error:  # what Airflow itself knows of the job is shown anyway
                _told(error, f"job {ref.job_id}", ref.vault)
        with self._lock:
            self._jobs[key] = _Look(job, now)
            self._jobs.move_to_end(key)
            while len(self._jobs) > _MOST_JOBS:
                self._jobs.popitem(last=False)

    def _play(self, queue: _Queue, settings: Settings, vault: Vault, flow: Flow[T]) -> tuple[int, T]:
        """Hold a conversation about jobs; return how many reads it took, and what it was held for."""
        spent = 0

        def metered() -> Flow[T]:
            nonlocal spent
            try:
                call = next(flow)
                while True:
                    spent += 1
                    queue.budget.spend(clock.current().now())
                    answer = yield call
                    if isinstance(answer, Response):
                        queue.budget.hear(answer, vault.path.casefold())
                    call = flow.send(answer)
            except StopIteration as end:
                result: T = end.value
                return result

        result = _converse(settings, metered())
        return spent, result


def _credential(settings: Settings) -> str:
    """Return what tells credentials apart: whoever knows a client id alone must not see what it reads."""
    secret = sorted(settings.credential_arguments.items())
    told = (settings.endpoint, settings.authority, settings.credential, secret)
    return hashlib.sha256(repr(told).encode()).hexdigest()


def _converse(settings: Settings, flow: Flow[T]) -> T:
    """Sign in, hold a conversation with every call sent once, and close."""
    from airflow_provider_azbackup.runtime.transport import SyncDriver

    driver = SyncDriver(settings, connection_timeout=_TO_CONNECT, read_timeout=_TO_READ)
    try:
        return driver.play(flow, retry=False)
    finally:
        driver.close()


def _told(error: Exception, what: str, vault: Vault) -> str:
    if isinstance(error, AzureBackupError):
        log.warning("The page cannot read the %s of vault %s: %s", what, vault.name, error)
        return str(error)
    log.error("Reading the %s of vault %s for the page failed", what, vault.name, exc_info=error)
    return f"reading the {what} failed ({type(error).__name__}); the log of the API server says more"

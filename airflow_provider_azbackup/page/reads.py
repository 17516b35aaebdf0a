"""Reads Azure for the page: one list of a vault for everybody who looks at it, within a quota.

Opening the page waits at most a moment for Azure, and more people who open it cause no more reads. The page
uses the share of Azure's job-read quota that waiting tasks leave, see ``job_read_share`` of the connection.
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

# The least number of seconds between two lists of a vault. It grows where a list takes several reads.
LEAST = 180.0
# Seconds before a failed list is tried again.
_AGAIN = 60.0
# Seconds for which the list of protected items and a running job are not read again.
_ITEMS_LAST, _JOB_LASTS = 900.0, 60.0
# Real seconds that the first answer waits for a list. After that the page appears empty and asks again.
_PATIENCE = 1.5
# Seconds allowed to connect and to read.
_TO_CONNECT, _TO_READ = 5.0, 20.0
# A vault is forgotten after so many seconds without a visitor, and at most so many single jobs are kept.
_KEPT = 3600.0
_MOST_JOBS = 500
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class View:
    """What is known of a vault. Times are Unix time. ``read_at`` is None before the first list.

    ``fault`` is why the last list of jobs failed, ``items_fault`` why the last list of protected items did.
    The next list may come at ``next_at``, and ``reading`` is true while one is being read.
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
class _Quota:
    """The reads of one identity in one subscription."""

    # The page may use whatever is left, but on average no more than the share that waiting tasks leave.
    budget: Budget
    share: float
    lock: threading.Lock = field(default_factory=threading.Lock)
    vaults: list[_KnownVault] = field(default_factory=list)

    def interval(self) -> float:
        """Return the seconds between two lists of a vault that keep all vaults within the share."""
        granted = max(1.0, self.budget.limit * self.share)
        return max(LEAST, sum(known.cost for known in self.vaults) * self.budget.window / granted)


@dataclass(eq=False)
class _KnownVault:
    """One vault, and what was last read from it."""

    quota: _Quota
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
            due = max(due, self.read_at + self.quota.interval())
        return max(due, self.quota.budget.ready_at(now))


@dataclass
class _KnownJob:
    job: Job | None  # None when it could not be read
    at: float


class Reads:
    """Reads vaults for everybody who opens the page in this process. It may be used from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._quotas: dict[Hashable, _Quota] = {}
        self._vaults: dict[Hashable, _KnownVault] = {}
        self._jobs: OrderedDict[Hashable, _KnownJob] = OrderedDict()
        # A slow Azure may occupy these threads, but not those in which Airflow answers.
        self._workers = ThreadPoolExecutor(max_workers=4, thread_name_prefix="azure-backup-page")

    async def vault(self, settings: Settings, vault: Vault) -> View:
        """Return what is known of a vault. It is read again when that is due and the quota allows it.

        :param settings: the connection. Connections with the same credential share what is known.
        """
        now = clock.current().now()
        with self._lock:
            known = self._known_vault(settings, vault, now)
            if (known.task is None or known.task.done()) and now >= known.next_at(now):
                known.task = self._start(lambda: self._read_vault(known, settings, vault))
            task = known.task
        if task and known.read_at is None:
            await asyncio.wait([asyncio.wrap_future(task)], timeout=_PATIENCE)
        # This is checked first, because all results are in place once the task is done.
        reading = bool(task and not task.done())
        return View(
            jobs=known.listed.jobs,
            cut=known.listed.cut,
            items=known.items,
            read_at=known.read_at,
            fault=known.fault,
            items_fault=known.items_fault,
            next_at=known.next_at(now),
            reading=reading,
        )

    async def job(self, settings: Settings, ref: JobRef) -> Job | None:
        """Return a job with its phases, at most a minute old, or None when the quota allows no read."""
        key = (_credential(settings), ref.path.casefold())
        now = clock.current().now()
        with self._lock:
            quota, known = self._quota(settings, ref.vault, now), self._jobs.get(key)
        if known and (now < known.at + _JOB_LASTS or (known.job and not known.job.is_running)):
            return known.job
        task = self._start(lambda: self._read_job(quota, settings, ref, key))
        await asyncio.wait([asyncio.wrap_future(task)], timeout=_PATIENCE)
        with self._lock:
            known = self._jobs.get(key)
        return known.job if known else None

    def _start(self, work: Callable[[], None]) -> Future[None]:
        # The context carries the clock.
        return self._workers.submit(copy_context().run, work)

    def _known_vault(self, settings: Settings, vault: Vault, now: float) -> _KnownVault:
        key = (_credential(settings), vault.path.casefold())
        for other, known in [*self._vaults.items()]:
            # A vault without visitors must not use up the quota of the others.
            if other != key and known.asked_at < now - _KEPT:
                del self._vaults[other]
                known.quota.vaults.remove(known)
        if key not in self._vaults:
            quota = self._quota(settings, vault, now)
            self._vaults[key] = _KnownVault(quota, now)
            quota.vaults.append(self._vaults[key])
        self._vaults[key].asked_at = now
        return self._vaults[key]

    def _quota(self, settings: Settings, vault: Vault, now: float) -> _Quota:
        # Azure counts per identity, not per secret.
        key = (settings.endpoint, settings.identity, vault.subscription_id.casefold(), vault.vault_type)
        if key not in self._quotas:
            self._quotas[key] = _Quota(Budget(1.0, now), 1.0 - settings.job_read_share)
        return self._quotas[key]

    def _read_vault(self, known: _KnownVault, settings: Settings, vault: Vault) -> None:
        now = clock.current().now()
        try:
            with known.quota.lock:
                spent, listed = self._play(known.quota, settings, vault, summary.list_week(vault, now))
            known.listed, known.cost, known.read_at, known.fault = listed, spent, now, ""
        except Exception as error:  # the page shows it together with what it has
            known.fault, known.failed_at = _report(error, "jobs", vault), now
            return
        if known.items_at is not None and now < known.items_at + _ITEMS_LAST:
            return
        try:
            known.items = tuple(_converse(settings, list_protected_items(vault)))
            known.items_fault = ""
        except Exception as error:  # as above
            known.items_fault = _report(error, "protected items", vault)
        known.items_at = now

    def _read_job(self, quota: _Quota, settings: Settings, ref: JobRef, key: Hashable) -> None:
        now = clock.current().now()
        with quota.lock:
            known = self._jobs.get(key)
            # Another request may have read it while this one waited for the lock.
            if (known and now < known.at + _JOB_LASTS) or now < quota.budget.ready_at(now):
                return
            job = known.job if known else None
            try:
                _, job = self._play(quota, settings, ref.vault, get_job(ref))
            except Exception as error:  # the tab still shows what Airflow knows of the job
                _report(error, f"job {ref.job_id}", ref.vault)
        with self._lock:
            self._jobs[key] = _KnownJob(job, now)
            self._jobs.move_to_end(key)
            while len(self._jobs) > _MOST_JOBS:
                self._jobs.popitem(last=False)

    def _play(self, quota: _Quota, settings: Settings, vault: Vault, flow: Flow[T]) -> tuple[int, T]:
        """Play a flow that reads jobs. Return the number of its reads, and its result."""
        spent = 0

        def metered() -> Flow[T]:
            nonlocal spent
            try:
                call = next(flow)
                while True:
                    spent += 1
                    quota.budget.spend(clock.current().now())
                    answer = yield call
                    if isinstance(answer, Response):
                        quota.budget.hear(answer, vault.path.casefold())
                    call = flow.send(answer)
            except StopIteration as end:
                result: T = end.value
                return result

        result = _converse(settings, metered())
        return spent, result


def _credential(settings: Settings) -> str:
    """Return a key for a credential. It covers the secret, because a client id alone must not be enough."""
    secret = sorted(settings.credential_arguments.items())
    whole = (settings.endpoint, settings.authority, settings.credential, secret)
    return hashlib.sha256(repr(whole).encode()).hexdigest()


def _converse(settings: Settings, flow: Flow[T]) -> T:
    """Sign in, play a flow without retries, and close."""
    from airflow_provider_azbackup.runtime.transport import SyncDriver

    driver = SyncDriver(settings, connection_timeout=_TO_CONNECT, read_timeout=_TO_READ)
    try:
        return driver.play(flow, retry=False)
    finally:
        driver.close()


def _report(error: Exception, what: str, vault: Vault) -> str:
    if isinstance(error, AzureBackupError):
        log.warning("Cannot read the %s of vault %s for the page: %s", what, vault.name, error)
        return str(error)
    log.error("Reading the %s of vault %s for the page failed", what, vault.name, exc_info=error)
    return f"Reading the {what} failed ({type(error).__name__}). See the log of the API server."

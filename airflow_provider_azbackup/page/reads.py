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
from airflow_provider_azbackup.core.conversations.vaults import list_vaults
from airflow_provider_azbackup.core.model.arm_ids import VAULT_TYPES
from airflow_provider_azbackup.core.model.jobs import Job
from airflow_provider_azbackup.core.model.resources import JobRef, Vault
from airflow_provider_azbackup.core.polling.budget import Budget
from airflow_provider_azbackup.core.rest.responses import FoundItem
from airflow_provider_azbackup.core.settings import Settings
from airflow_provider_azbackup.core.wire import Flow, JsonObject, Response, T
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
# The jobs of a vault are forgotten after so many seconds without a visitor, how its night went after more. At
# most so many single jobs are kept.
_KEPT, _NIGHT_KEPT = 3600.0, 24 * 3600.0
_MOST_JOBS = 500
# Seconds for which the vaults of a subscription are not listed again. Azure does not count it among the reads
# of jobs.
_VAULTS_LAST = 3600.0
# Seconds in which the overview expects a backup of each item: a day, and two hours because nights differ.
DAILY = 26 * 3600.0
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
    # How the last night went, and the Unix time at which that was known.
    night: JsonObject | None = None
    night_at: float | None = None

    def forget_jobs(self) -> None:
        """Keep only how the night went, because the jobs of many vaults take much memory."""
        self.listed, self.items = summary.Listed(jobs=()), ()
        self.read_at = self.items_at = None
        self.quota.vaults.remove(self)

    def view(self, now: float) -> View:
        """Return what is known."""
        return View(
            jobs=self.listed.jobs,
            cut=self.listed.cut,
            items=self.items,
            read_at=self.read_at,
            fault=self.fault,
            items_fault=self.items_fault,
            next_at=self.next_at(now),
            # This is read first, because all results are in place once the task is done.
            reading=bool(self.task and not self.task.done()),
        )

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


@dataclass
class _KnownVaults:
    task: Future[tuple[tuple[Vault, ...], str]]
    at: float


class Reads:
    """Reads vaults for everybody who opens the page in this process. It may be used from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._quotas: dict[Hashable, _Quota] = {}
        self._vaults: dict[Hashable, _KnownVault] = {}
        self._jobs: OrderedDict[Hashable, _KnownJob] = OrderedDict()
        self._listings: dict[Hashable, _KnownVaults] = {}
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
        return known.view(now)

    def known(self, settings: Settings, vault: Vault) -> View:
        """Return what is known of a vault, without a request to Azure."""
        with self._lock:
            known = self._vaults.get((_credential(settings), vault.path.casefold()))
        return known.view(clock.current().now()) if known else View()

    def night(self, settings: Settings, vault: Vault) -> tuple[JsonObject | None, float | None]:
        """Return how the last night of a vault went and the Unix time of that, without a request to Azure."""
        with self._lock:
            known = self._vaults.get((_credential(settings), vault.path.casefold()))
            return (known.night, known.night_at) if known else (None, None)

    async def vaults(self, settings: Settings) -> tuple[tuple[Vault, ...], str] | None:
        """Return the vaults of both kinds in the subscription of a connection, and why some are missing.

        None means that they are being listed. That is done once in an hour at most, for all connections with
        the same credential.
        """
        if not settings.subscription_id:
            return (), "The connection names no subscription, so its vaults cannot be listed."
        key, now = (_credential(settings), settings.subscription_id.casefold()), clock.current().now()
        with self._lock:
            known = self._listings.get(key)
            if known is None or (known.task.done() and now >= known.at + _VAULTS_LAST):
                task = self._start(lambda: _list_vaults(settings))
                known = self._listings[key] = _KnownVaults(task, now)
        await asyncio.wait([asyncio.wrap_future(known.task)], timeout=_PATIENCE)
        return known.task.result() if known.task.done() else None

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

    def _start(self, work: Callable[[], T]) -> Future[T]:
        # The context carries the clock.
        return self._workers.submit(copy_context().run, work)

    def _known_vault(self, settings: Settings, vault: Vault, now: float) -> _KnownVault:
        key = (_credential(settings), vault.path.casefold())
        for other, known in [*self._vaults.items()]:
            # A vault without visitors must not use up the quota of the others.
            if other != key and known.asked_at < now - _KEPT and known in known.quota.vaults:
                known.forget_jobs()
            if other != key and known.asked_at < now - _NIGHT_KEPT:
                del self._vaults[other]
        known = self._vaults.setdefault(key, _KnownVault(self._quota(settings, vault, now), now))
        if known not in known.quota.vaults:
            known.quota.vaults.append(known)
        known.asked_at = now
        return known

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
            known.fault, known.failed_at = _report(error, "jobs", f"vault {vault.name}"), now
            return
        if known.items_at is None or now >= known.items_at + _ITEMS_LAST:
            try:
                known.items = tuple(_converse(settings, list_protected_items(vault)))
                known.items_fault = ""
            except Exception as error:  # as above
                known.items_fault = _report(error, "protected items", f"vault {vault.name}")
            known.items_at = now
        late = summary.overdue(known.items, listed.jobs, now=now, within=DAILY)
        known.night, known.night_at = summary.night(listed.jobs, late, now=now), now

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
                _report(error, f"job {ref.job_id}", f"vault {ref.vault.name}")
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


def _list_vaults(settings: Settings) -> tuple[tuple[Vault, ...], str]:
    found: list[Vault] = []
    faults: list[str] = []
    for vault_type in VAULT_TYPES:
        try:
            found += _converse(settings, list_vaults(settings.subscription_id, vault_type))
        except Exception as error:  # the page shows it together with the vaults of the other kind
            faults.append(_report(error, "vaults", f"subscription {settings.subscription_id}"))
    return tuple(found), " ".join(faults)


def _report(error: Exception, what: str, where: str) -> str:
    if isinstance(error, AzureBackupError):
        log.warning("Cannot read the %s of %s for the page: %s", what, where, error)
        return str(error)
    log.error("Reading the %s of %s for the page failed", what, where, exc_info=error)
    return f"Reading the {what} failed ({type(error).__name__}). See the log of the API server."

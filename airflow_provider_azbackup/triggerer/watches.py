"""Follow the backups of a vault and report their ends, each once: the work of the event trigger.

Lists come from the poller, so that watches and waits on a vault share them. Where Airflow says which events
it has stored (3.3), how far a watch has come is written down after that; elsewhere, a moment later.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from airflow_provider_azbackup.core.model.jobs import Job, Outcome
from airflow_provider_azbackup.core.model.json_safe import json_safe
from airflow_provider_azbackup.core.model.resources import Vault
from airflow_provider_azbackup.core.polling.checkpoint import HEAD_START, Checkpoint, advance
from airflow_provider_azbackup.exceptions import AzureBackupError
from airflow_provider_azbackup.runtime import clock
from airflow_provider_azbackup.triggerer.hook import TriggererHook
from airflow_provider_azbackup.triggerer.poller import VaultName, joined

if TYPE_CHECKING:
    from airflow_provider_azbackup.core.conversations.matching import JobMatcher
    from airflow_provider_azbackup.core.polling.waits import Listing
    from airflow_provider_azbackup.triggerer.checkpoints import CheckpointStore
    from airflow_provider_azbackup.triggerer.poller import Poller

# Seconds after which Airflow has long stored an event that it was handed, where it does not say so.
_STORED_AFTER = 10.0
# Seconds until what could not be read is tried again.
_RETRY_PAUSE = 300.0
_STORE_PAUSE = 15.0
# What a look-up may take at the least.
_LEAST_READ_TIME = 60.0
_GRACE = 2.0
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class WatchedVault:
    """The vault that is followed, and how: watches with equal vaults share one stream of lists.

    :param conn_id: the connection, read again wherever the trigger runs.
    :param vault_id: its ARM id; "" for the vault that is named.
    :param vault_name: the vault, instead of the connection's.
    :param resource_group_name: its resource group, instead of the connection's.
    :param subscription_id: its subscription, instead of the connection's.
    :param vault_type: its type, instead of the connection's.
    :param apart: seconds between two lists.
    """

    conn_id: str
    vault_id: str
    vault_name: str | None
    resource_group_name: str | None
    subscription_id: str | None
    vault_type: str | None
    apart: float

    @property
    def named(self) -> VaultName:
        """The parts of the vault's name that are given."""
        return {
            "vault_name": self.vault_name,
            "resource_group_name": self.resource_group_name,
            "subscription_id": self.subscription_id,
            "vault_type": self.vault_type,
        }


@dataclass(frozen=True, kw_only=True)
class SharedList:
    """A list, and how far each watch has come that has taken it.

    :param listing: what the list has shared.
    :param checkpoints: written by the watches, to be saved when their events are stored.
    """

    listing: Listing
    checkpoints: dict[Watch, Checkpoint] = field(default_factory=dict)

    async def save(self) -> None:
        """Have every watch write down that what it reported of this list has arrived."""
        for watch, checkpoint in self.checkpoints.items():
            await watch.save(checkpoint)


class Watch:
    """What one trigger reports, and has reported.

    :param store: where it keeps that.
    :param outcomes: the outcomes that it reports.
    :param subject: the one item it is about; None is about all.
    :param log: the trigger's own.
    """

    def __init__(
        self, store: CheckpointStore, *, outcomes: Iterable[Outcome], subject: JobMatcher | None, log: Any
    ) -> None:
        self._store, self._outcomes, self._subject, self._log = store, frozenset(outcomes), subject, log
        self._checkpoint: Checkpoint | None = None
        self._saved: Checkpoint | None = None
        self._began = clock.current().now()
        # What may have arrived already when the last watch broke off.
        self._sent: frozenset[str] = frozenset()
        # What is sent off and what has arrived are written from two tasks: neither may forget the other's.
        self._writing = asyncio.Lock()
        self.is_open = True

    async def load(self) -> None:
        """Read how far the last watch had come; wait until that can be read, or its ends would be missed."""
        while True:
            try:
                found = await self._store.load()
                break
            except Exception as error:
                self._log.warning("How far the watch had come cannot be read now: %s", error)
                await clock.current().pause(_STORE_PAUSE)
        self._checkpoint = self._saved = Checkpoint.from_dict(found)
        if self._checkpoint:
            self._sent = self._checkpoint.sent
        elif found is not None:
            self._log.warning(
                "The stored state of this watch cannot be read, so the watch starts from the beginning"
            )

    @property
    def oldest(self) -> float:
        """The Unix time since which the next list has to show the jobs that began."""
        return self._checkpoint.oldest if self._checkpoint else self._began - HEAD_START

    def take(self, listing: Listing) -> tuple[Checkpoint, list[Job]] | None:
        """Return how far a list brings this watch, and what has newly ended; None when the list is too short.

        :param listing: of jobs since a moment, which must not be later than ``oldest``.
        """
        if listing.after > self.oldest:
            return None
        ours = (job for job in listing.jobs if self._subject is None or self._subject.matches(job))
        return advance(self._before(listing), ours, listing.at + listing.ahead)

    def wants(self, *outcomes: Outcome) -> bool:
        """Whether this watch reports any of these ends."""
        return not self._outcomes.isdisjoint(outcomes)

    async def new_ends(self, shared: SharedList) -> list[dict[str, Any]]:
        """Return the ends that are new on a list, and note beforehand that they are on their way."""
        if (taken := self.take(shared.listing)) is None:
            return []
        checkpoint, new = taken
        ends = [job for job in new if self.wants(job.outcome)]
        async with self._writing:
            before = self._saved or self._before(shared.listing)
            # What could not be noted could come twice and not say so: the next list shows it again.
            if ends and not await self._write(before.sending(ends)):
                return []
        self._checkpoint = shared.checkpoints[self] = checkpoint
        return [_payload(job, again=job.ref.job_id.casefold() in self._sent) for job in ends]

    async def save(self, checkpoint: Checkpoint) -> None:
        """Write down how far the watch has come, unless that is no news or the watch is over."""
        async with self._writing:
            if self.is_open and checkpoint.is_news_to(self._saved):
                # What later lists have sent off is still on its way.
                sent = self._saved.sent.difference(checkpoint.reported) if self._saved else frozenset[str]()
                await self._write(replace(checkpoint, sent=sent))

    def _before(self, listing: Listing) -> Checkpoint:
        return self._checkpoint or Checkpoint.begin(self._began + listing.ahead)

    async def _write(self, checkpoint: Checkpoint) -> bool:
        """Write a checkpoint down; return whether that was possible."""
        try:
            await self._store.save(json_safe(checkpoint.to_dict()))
        except Exception as error:
            self._log.warning("How far the watch has come cannot be written down now: %s", error)
            return False
        self._saved = checkpoint
        return True


_WATCHES: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[WatchedVault, set[Watch]]] = WeakKeyDictionary()


def watches_of(watched: WatchedVault) -> set[Watch]:
    """Return the watches on a vault that run on this event loop."""
    return _WATCHES.setdefault(asyncio.get_running_loop(), {}).setdefault(watched, set())


@asynccontextmanager
async def watching(
    watched: WatchedVault,
    store: CheckpointStore,
    *,
    outcomes: Sequence[str],
    protected_item: str | None,
    log: Any,
) -> AsyncIterator[Watch]:
    """Begin a watch, or go on with it; it ends with the ``async with`` block.

    :param watched: see :class:`WatchedVault`.
    :param store: where it keeps how far it has come.
    :param outcomes: the outcomes that it reports.
    :param protected_item: the one item it is about.
    :param log: the trigger's own.
    """
    subject = await _subject(watched, protected_item, log) if protected_item else None
    watch = Watch(store, outcomes=map(Outcome, outcomes), subject=subject, log=log)
    await watch.load()
    watches_of(watched).add(watch)
    try:
        yield watch
    finally:
        watch.is_open = False
        watches_of(watched).discard(watch)


async def _subject(watched: WatchedVault, protected_item: str, log: Any) -> JobMatcher:
    """Find what the jobs of an item call it; a watch has no end, so it waits until that can be found."""
    while True:
        try:
            async with TriggererHook(watched.conn_id, **watched.named) as hook:
                now = clock.current().now()
                return await hook.find_subject(protected_item, deadline=now + _RETRY_PAUSE)
        except AzureBackupError as error:
            log.warning("%s cannot be watched now: %s", protected_item, error)
        await clock.current().pause(_RETRY_PAUSE)


async def follow(watched: WatchedVault) -> AsyncGenerator[SharedList, None]:
    """Yield the lists of a vault for the watches on it, for ever: what goes wrong is tried again later."""
    while True:
        # After a restart the watches come one by one, and the first list is to serve all of them.
        while not watches_of(watched):
            await clock.current().pause(1.0)
        await clock.current().pause(_GRACE)
        try:
            async with joined(watched.conn_id, deadline=clock.current().now() + _RETRY_PAUSE) as poller:
                vault = _vault(watched, poller)
                lists = poller.follow(vault, apart=watched.apart, after=lambda: _oldest(watched))
                async with aclosing(lists):
                    async for listing in lists:
                        yield SharedList(
                            listing=await _confirm_warned(poller, listing, watches_of(watched), watched.apart)
                        )
        except AzureBackupError as error:
            log.warning("The backups of a vault cannot be followed now: %s", error)
        except Exception:
            # Airflow would restart the watch every second.
            log.exception("Following the backups of a vault failed")
        await clock.current().pause(_RETRY_PAUSE)


async def ends_without_sharing(
    watched: WatchedVault, watch: Watch
) -> AsyncGenerator[list[dict[str, Any]], None]:
    """Yield the ends that each list brings, on an Airflow that does not say what it has stored."""
    async with aclosing(follow(watched)) as lists:
        async for shared in lists:
            if ends := await watch.new_ends(shared):
                yield ends
                await clock.current().pause(_STORED_AFTER)
            await shared.save()


def _vault(watched: WatchedVault, poller: Poller) -> Vault:
    return Vault.parse(watched.vault_id) if watched.vault_id else poller.vault(**watched.named)


def _oldest(watched: WatchedVault) -> float:
    """Return since when the watches on a vault want to see jobs."""
    now = clock.current().now()
    return min((watch.oldest for watch in watches_of(watched)), default=now)


async def _confirm_warned(
    poller: Poller, listing: Listing, watches: Iterable[Watch], patience: float
) -> Listing:
    """Read the jobs that a list shows as ended with warnings and that are new: they may have been cancelled.

    What cannot be looked up in time stays as if it still ran, and is reported later.
    """
    warned = tuple(job for job in listing.jobs if job.outcome is Outcome.WARNED)
    new = {
        job.ref.job_id: job
        for watch in watches
        if warned and watch.wants(Outcome.WARNED, Outcome.CANCELLED)
        for job in (watch.take(replace(listing, jobs=warned)) or (None, []))[1]
    }
    if not new:
        return listing
    looked_up = await asyncio.gather(*(_read_job(poller, job, patience) for job in new.values()))
    sure = dict(zip(new, looked_up, strict=True))
    return replace(listing, jobs=tuple(sure.get(job.ref.job_id, job) for job in listing.jobs))


async def _read_job(poller: Poller, job: Job, patience: float) -> Job:
    now = clock.current().now()
    try:
        return await poller.watch_job(
            job.ref,
            poll_interval=patience,
            deadline=now + max(patience, _LEAST_READ_TIME),
            since=now,
            on_read=lambda *_: None,
            first_pause=0.0,
        )
    except AzureBackupError as error:
        log.warning("How %s ended cannot be looked up now: %s", job, error)
        return replace(job, status="InProgress")


def _payload(job: Job, *, again: bool) -> dict[str, Any]:
    return {**job.digest(), "errors": job.facts()["errors"], "redelivered": again}

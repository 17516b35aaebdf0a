"""One poller for all waits of a triggerer: they share its connection, its client and its reads of jobs.

It lives on the event loop that its waits run on. The first wait opens it, the last one out closes it. Where
teams share an Airflow, the same connection id may mean another identity for each team. There, waits share a
poller only if each of them has read the same settings itself.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager, suppress
from contextvars import Context
from dataclasses import dataclass, field, replace
from datetime import timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any, TypedDict, Unpack
from weakref import WeakKeyDictionary

from airflow.providers.common.compat.sdk import Stats

from airflow_provider_azbackup.core.conversations.jobs import OnRead, wait_for_job
from airflow_provider_azbackup.core.conversations.matching import JobMatcher, best_backup, first_backup
from airflow_provider_azbackup.core.model.forecast import FEWEST, Forecast, forecast, late_from
from airflow_provider_azbackup.core.polling.budget import Budget
from airflow_provider_azbackup.core.polling.history import History
from airflow_provider_azbackup.core.polling.vault_poll import VaultPoll
from airflow_provider_azbackup.core.polling.waits import (
    SOONEST,
    BackupFinder,
    FinderOptions,
    JobAnswer,
    JobWaiter,
    Listing,
    VaultFollower,
)
from airflow_provider_azbackup.core.wire import RESPONSE_GRACE, Answer, NoResponse, Request, Response
from airflow_provider_azbackup.exceptions import (
    AzureBackupConfigError,
    AzureBackupError,
    AzureBackupTimeoutError,
)
from airflow_provider_azbackup.runtime import clock as clocks
from airflow_provider_azbackup.runtime.compat import reads_by_team, variables_of_reads
from airflow_provider_azbackup.triggerer.hook import TriggererHook
from airflow_provider_azbackup.triggerer.scouting import Scouting, VaultLoop

if TYPE_CHECKING:
    from airflow_provider_azbackup.core.model.jobs import Job
    from airflow_provider_azbackup.core.model.resources import JobRef, ProtectedItem, Vault
    from airflow_provider_azbackup.core.model.validation import WaitUntil

# Seconds that a last look, at a wait's deadline, may take when reads are scarce: a tenth of the wait, at most
# this.
_LONGEST_GRACE = 60.0
# Seconds after which a wait is given an answer without news, so that it can log that it is alive.
_QUIET = 900.0
# Lists that do not show the job of an accepted backup, until it is asked for by its operation.
_MOST_MISSES = 3
# The time in Azure's responses is in whole seconds.
_SECOND = 2.0
# Of how many reads one may be of a list of past backups.
_HISTORY_SHARE = 10
# Seconds until a poller that broke tries again.
_RETRY_PAUSE = 30.0
log = logging.getLogger(__name__)


class VaultName(TypedDict):
    """The parts of a vault's name; None takes the connection's."""

    vault_name: str | None
    resource_group_name: str | None
    subscription_id: str | None
    vault_type: str | None


@asynccontextmanager
async def joined(
    azure_backup_conn_id: str, *, deadline: float, notice: Callable[[AzureBackupError], None] = lambda _: None
) -> AsyncIterator[Poller]:
    """Join the poller of a connection on this event loop; the first one opens it, the last one closes it.

    :param deadline: Unix time to which a connection that cannot be read is asked for again.
    :param notice: is called with the error of each try that has failed.
    :raises AzureBackupTimeoutError: when the connection cannot be read by the deadline.
    :raises AzureBackupError: when the connection is wrong, or not visible here.
    """
    loop, key = asyncio.get_running_loop(), azure_backup_conn_id
    if reads_by_team():
        key = await _digest(azure_backup_conn_id, deadline, notice)
    shared = _ON_LOOPS.setdefault(loop, {}).setdefault(key, _Shared())
    shared.users += 1
    shared.latest = max(shared.latest, deadline)
    try:
        if shared.opening is None:
            variables = variables_of_reads()
            shared.opening = loop.create_task(
                _open(
                    azure_backup_conn_id, clocks.current(), _BUDGETS.setdefault(loop, {}), shared, variables
                ),
                context=variables.copy(),
            )
        poller = await _by(deadline, shared, shared.opening, notice)
        # After a restart all waits come to this point in one moment: let others have a turn between them.
        async with shared.turn:
            await asyncio.sleep(0)
        yield poller
    finally:
        shared.users -= 1
        here = _ON_LOOPS[loop]
        if (not shared.users or shared.failed) and here.get(key) is shared:
            del here[key]
        if not shared.users and shared.opening:
            await asyncio.shield(loop.create_task(_close(shared.opening), context=Context()))


@dataclass
class _Shared:
    users: int = 0
    opening: asyncio.Task[Poller] | None = None
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    # The latest deadline of all who wait for the connection, why it cannot be read, and what is done at the
    # next such fault.
    latest: float = 0.0
    fault: AzureBackupError | None = None
    news: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def report(self, fault: AzureBackupError) -> None:
        """Wake all who wait, because the connection could not be read."""
        news, self.news = self.news, asyncio.get_running_loop().create_future()
        self.fault = fault
        news.set_result(None)

    @property
    def failed(self) -> bool:
        """Whether the connection could not be opened; the next wait tries again."""
        task = self.opening
        return bool(task and task.done() and (task.cancelled() or task.exception()))


_ON_LOOPS: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, _Shared]] = WeakKeyDictionary()
_BUDGETS: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[object, _Queue]] = WeakKeyDictionary()


async def _digest(conn_id: str, deadline: float, notice: Callable[[AzureBackupError], None]) -> str:
    """Return a digest of the settings that a connection has for the running trigger, with its secret."""
    try:
        settings = await TriggererHook(conn_id).read_settings(until=lambda: deadline, notice=notice)
    except AzureBackupError as error:
        raise _timely(error, deadline) from None
    whole = (settings, sorted(settings.credential_arguments.items()))
    return sha256(repr(whole).encode()).hexdigest()


async def _open(
    conn_id: str, clock: clocks.Clock, queues: dict[object, _Queue], shared: _Shared, variables: Context
) -> Poller:
    with clocks.running_on(clock):
        hook = await TriggererHook(conn_id).open(until=lambda: shared.latest, notice=shared.report)
    return Poller(hook, clock, queues, variables)


async def _by(
    deadline: float,
    shared: _Shared,
    opening: asyncio.Task[Poller],
    notice: Callable[[AzureBackupError], None],
) -> Poller:
    """Wait for the poller until a deadline, and pass on why it is not there yet; others may wait longer."""
    while not opening.done():
        if shared.fault:
            notice(shared.fault)
        left = max(0.0, deadline - clocks.current().now())
        # A try may take a moment, also where the deadline has passed already.
        news = shared.news
        either: list[asyncio.Future[Any]] = [opening, news]
        await asyncio.wait(either, timeout=left + _LONGEST_GRACE, return_when=asyncio.FIRST_COMPLETED)
        if not (opening.done() or news.done()):
            raise AzureBackupTimeoutError(
                f"the wait is over: {shared.fault or 'the connection was not read'}"
            )
    try:
        return await asyncio.shield(opening)
    except AzureBackupError as error:
        raise _timely(error, deadline) from None


def _timely(error: AzureBackupError, deadline: float) -> AzureBackupError:
    """Return an error as it is before a deadline, and as the end of the wait after that."""
    if clocks.current().now() < deadline:
        return error
    return AzureBackupTimeoutError(f"the wait is over: {error}")


async def _close(opening: asyncio.Task[Poller]) -> None:
    opening.cancel()
    with suppress(asyncio.CancelledError, Exception):
        await (await opening).close()


@dataclass
class _Queue:
    """The reads of one identity in one subscription: one at a time, in the order they were asked for.

    While Resource Graph says where something has happened, those reads come first. All others, the usual
    ones, then wait in a line and take at most every second read. They take at least every fourth, because
    Resource Graph may be wrong.
    """

    budget: Budget
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    # How long backups took, by vault. Past the last wait on a vault, for the next one.
    histories: dict[str, History] = field(default_factory=dict)
    # Unix time of the last page of past backups that is planned.
    history_at: float = 0.0
    # By vault, what wakes those whose usual read is due; the first one is next.
    line: dict[str, asyncio.Event] = field(default_factory=dict)
    # Unix time before which there is no other usual read.
    usual_from: float = 0.0

    def usual_due(self, at: float) -> float:
        """Return the Unix time of the next usual read."""
        return min(max(self.usual_from, self.budget.calm_at), self.usual_from + 2 * self.budget.gap(at))

    def spend(self, at: float, *, usual: bool) -> None:
        """Note that a read is sent now."""
        self.budget.spend(at)
        if usual:
            self.usual_from = max(self.usual_from, at) + 2 * self.budget.gap(at)

    def leave_line(self, vault: str) -> None:
        """Let the next vault have its usual read."""
        if self.line.pop(vault, None) and self.line:
            next(iter(self.line.values())).set()


class Poller:
    """Reads jobs for all waits on one connection.

    :param hook: open; the poller closes it.
    :param clock: the time of the waits.
    :param queues: of this event loop: pollers with the same identity share what Azure grants it.
    :param variables: the context variables with which it reads.
    """

    def __init__(
        self, hook: TriggererHook, clock: clocks.Clock, queues: dict[object, _Queue], variables: Context
    ) -> None:
        self._hook = hook
        self._clock = clock
        self._queues = queues
        self._variables = variables
        self._vaults: dict[str, VaultLoop] = {}
        self._waits = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._scout = Scouting(hook, clock, self._vaults) if hook.settings.resource_graph else None
        self._scouting: asyncio.Task[None] | None = None

    async def watch_job(
        self,
        ref: JobRef,
        *,
        poll_interval: float,
        deadline: float,
        since: float,
        on_read: OnRead,
        first_pause: float,
        wait_until: WaitUntil = "completion",
    ) -> Job:
        """Wait for a job with reads that all waits share."""
        self._waits += 1
        vault_loop = self._loop_of(ref.vault)
        waiter = JobWaiter(ref, interval=poll_interval, since=since, needs_phases=wait_until == "snapshot")
        vault_loop.poll.add(waiter)
        flow = wait_for_job(
            ref,
            poll_interval=poll_interval,
            deadline=deadline,
            since=since,
            on_read=on_read,
            first_pause=first_pause,
            wait_until=wait_until,
        )
        not_before = self._clock.now() + first_pause
        grace = _last_read(deadline - since)
        try:
            call, apart = next(flow), poll_interval
            while True:
                call = flow.send(
                    await self._next_answer(vault_loop, waiter, call, not_before, deadline, grace, apart)
                )
                # An earlier look than usual, the last one or one after a refusal, does not wait for a list.
                apart = poll_interval if call.delay >= 0.85 * poll_interval else max(call.delay, SOONEST)
        except StopIteration as end:
            job: Job = end.value
            return job
        finally:
            self._waits -= 1
            vault_loop.poll.remove(waiter)
            self._leave(vault_loop)

    async def find_job(
        self, item: ProtectedItem, *, requested_at: float, first_pause: float, until: float
    ) -> JobRef | None:
        """Return the job of a VM backup that Azure has accepted; lists answer this for all together.

        :param requested_at: Unix time by Azure's clock before it was asked for.
        :param first_pause: seconds to let pass before the first look.
        :param until: Unix time of the last look, which may take a minute.
        :return: None when it is not to be found this way.
        """
        subject = JobMatcher.of_vm(item)
        job = await self._find(
            subject,
            first_pause=first_pause,
            until=until,
            after=requested_at - _SECOND,
            apart=2 * SOONEST,
            choose=first_backup,
            misses=_MOST_MISSES,
        )
        return job.ref if job else None

    async def find_backup(
        self,
        subject: JobMatcher,
        *,
        after: float,
        known: frozenset[str],
        poll_interval: float,
        first_pause: float,
        until: float,
    ) -> Job | None:
        """Wait until a list shows a backup of an item, running or over; lists serve all who wait.

        :param after: Unix time by Azure's clock since which it must have begun.
        :param known: ids of jobs, in lower case, that are not meant.
        :param poll_interval: seconds between two lists.
        :param first_pause: seconds to let pass before the first.
        :param until: Unix time of the last look, which may take a minute.
        :return: the one that proves most, or may yet; None when there was none until the end.
        :raises AzureBackupError: when this identity may not list jobs.
        """
        return await self._find(
            subject,
            first_pause=first_pause,
            until=until,
            after=after,
            apart=poll_interval,
            choose=best_backup,
            known=known,
        )

    async def read(self, request: Request) -> Answer:
        """Send one read of anything but jobs, and return what came of it."""
        return await self._hook.read(request)

    @property
    def asks_resource_graph(self) -> bool:
        """Whether the connection allows it."""
        return self._scout is not None

    def vault(self, **named: Unpack[VaultName]) -> Vault:
        """Return the vault that is named, or the connection's.

        :raises AzureBackupConfigError: when neither names one.
        """
        if vault := self._hook.settings.vault(**named):
            return vault
        raise AzureBackupConfigError(
            f"no vault is named; give vault_name, resource_group_name and subscription_id, or put them into "
            f"the extra of connection {self._hook.settings.conn_id!r}"
        )

    def forecast(self, job: Job) -> Forecast | None:
        """Return when a running backup is likely to end, by this computer's clock.

        If little is known of earlier backups, their list is read: once a day and vault, for all waits
        together, and with at most a tenth of the reads.

        :return: None for anything else, or while too little is known.
        """
        durations, began = self._past_of(job)
        return forecast(durations, began=began, now=self._clock.now())

    def late_from(self, job: Job | None, expected_by: float) -> float:
        """Return the Unix time from which a backup that still runs is more likely to be late than not.

        :param job: as last read; None if it is not known yet.
        :param expected_by: Unix time by which it should be over.
        """
        if job is None:
            return expected_by
        durations, began = self._past_of(job)
        return late_from(durations, began=began, expected_by=expected_by)

    def _past_of(self, job: Job) -> tuple[list[float], float]:
        """Return how long backups like a running one took, and when it began by this computer's clock."""
        vault_loop = self._vaults.get(_key(job.ref.vault))
        if vault_loop is None or not (job.is_running and job.is_backup and job.began):
            return [], job.began
        durations = vault_loop.poll.history.durations(job)
        if len(durations) < FEWEST:
            self._want_history(vault_loop)
        return durations, job.began - (vault_loop.poll.ahead or 0.0)

    async def follow(
        self, vault: Vault, *, apart: float, after: Callable[[], float]
    ) -> AsyncGenerator[Listing, None]:
        """Yield what lists of a vault show, the newest one when several have come; lists serve all who wait.

        :param apart: seconds between two lists.
        :param after: returns the Unix time, by Azure's clock, since which the jobs on the next list began.
        :raises AzureBackupError: when this identity may not list jobs.
        """
        latest: list[Listing | AzureBackupError] = []
        news = asyncio.Event()

        def deliver(listing: Listing | AzureBackupError) -> None:
            latest[:] = [listing]
            news.set()

        vault_loop = self._loop_of(vault)
        follower = VaultFollower(after=after(), due=self._clock.now(), apart=apart, deliver=deliver)
        vault_loop.poll.readers.add(follower)
        vault_loop.wake.set()
        try:
            while True:
                await news.wait()
                news.clear()
                newest = latest[-1]
                if isinstance(newest, AzureBackupError):
                    raise newest
                yield replace(newest, ahead=vault_loop.poll.ahead or 0.0)
                follower.after = after()
        finally:
            vault_loop.poll.readers.discard(follower)
            self._leave(vault_loop)

    async def _find(
        self, subject: JobMatcher, *, first_pause: float, **wanted: Unpack[FinderOptions]
    ) -> Job | None:
        loop, now = asyncio.get_running_loop(), self._clock.now()
        found: asyncio.Future[Job | None] = loop.create_future()

        def deliver(job: Job | AzureBackupError | None) -> None:
            if found.done():
                return
            if isinstance(job, AzureBackupError):
                found.set_exception(job)
            else:
                found.set_result(job)

        vault_loop = self._loop_of(subject.item.vault)
        finder = BackupFinder(subject, due=now + first_pause, deliver=deliver, **wanted)
        vault_loop.poll.readers.add(finder)
        vault_loop.wake.set()
        left = wanted["until"] - now
        timer = loop.call_later(max(first_pause, left) + _last_read(left), deliver, None)
        try:
            return await found
        finally:
            timer.cancel()
            vault_loop.poll.readers.discard(finder)
            self._leave(vault_loop)

    async def close(self) -> None:
        """End all reading and close client and credential."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._hook.__aexit__()

    async def _next_answer(
        self,
        vault_loop: VaultLoop,
        waiter: JobWaiter,
        call: Request,
        not_before: float,
        deadline: float,
        grace: float,
        apart: float,
    ) -> JobAnswer:
        loop, now = asyncio.get_running_loop(), self._clock.now()
        answered: asyncio.Future[JobAnswer] = loop.create_future()

        def deliver(answer: JobAnswer) -> None:
            if not answered.done():
                answered.set_result(answer)

        def give_up() -> None:
            waiter.withdraw()
            deliver(NoResponse(reason="no read of jobs was to be had in time", at=self._clock.now()))

        due = now + call.delay
        quiet_until = min(deadline, now + _QUIET)
        not_before = min(max(now, not_before), due)
        waiter.ask(
            deliver, not_before=not_before, due=due, quiet_until=quiet_until, latest=deadline, apart=apart
        )
        vault_loop.wake.set()
        timer = loop.call_later(max(0.0, deadline - now) + grace, give_up)
        try:
            return await answered
        finally:
            timer.cancel()

    def _leave(self, vault_loop: VaultLoop) -> None:
        """End the reading of a vault that nobody asks about any more."""
        vault = vault_loop.poll.vault
        if not (vault_loop.poll.waiters or vault_loop.poll.readers):
            vault_loop.task.cancel()
            self._vaults.pop(_key(vault), None)
            self._queue(vault).leave_line(_key(vault))
        vault_loop.wake.set()

    def _loop_of(self, vault: Vault) -> VaultLoop:
        if _key(vault) not in self._vaults:
            history = self._queue(vault).histories.setdefault(_key(vault), History(vault))
            poll, wake = VaultPoll(vault, self._clock.now(), history), asyncio.Event()
            self._vaults[_key(vault)] = VaultLoop(poll, self._begin(self._serve(poll, wake)), wake)
            if self._scout and not self._scouting:
                self._scouting = self._begin(self._scout.run())
        return self._vaults[_key(vault)]

    def _want_history(self, vault_loop: VaultLoop) -> None:
        """Have past backups listed, unless that was done in the last day or is under way."""
        poll = vault_loop.poll
        if poll.history_at == math.inf and poll.history.request(self._clock.now() + (poll.ahead or 0.0)):
            self._plan_history(poll)
            vault_loop.wake.set()

    def _plan_history(self, poll: VaultPoll) -> None:
        """Choose the time of the next page of past backups: all vaults together use few reads for them."""
        queue, now = self._queue(poll.vault), self._clock.now()
        queue.history_at = max(now, queue.history_at) + _HISTORY_SHARE * queue.budget.gap(now)
        poll.history_at = queue.history_at

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, context=self._variables.copy())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _serve(self, poll: VaultPoll, wake: asyncio.Event) -> None:
        with clocks.running_on(self._clock):
            while True:
                try:
                    await self._rest(poll, wake)
                    await self._play(poll)
                    if poll.history.is_being_read and poll.history_at == math.inf:
                        self._plan_history(poll)
                except Exception as error:  # whatever it is, no wait may end or hang for it
                    log.exception("Reading the jobs of vault %s failed", poll.vault.name)
                    reason = f"reading jobs failed: {type(error).__name__}: {error}"
                    await _in_turns(poll.fail(NoResponse(reason=reason, at=self._clock.now())))
                    await self._clock.pause(_RETRY_PAUSE)

    async def _rest(self, poll: VaultPoll, wake: asyncio.Event) -> None:
        """Let time pass until a read is due; a new question may be due earlier."""
        while (seconds := self._due(poll, wake) - self._clock.now()) > 0:
            wake.clear()
            waits: list[asyncio.Task[object]] = [asyncio.create_task(wake.wait())]
            if seconds < math.inf:
                waits.append(asyncio.create_task(self._clock.pause(seconds)))
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
                await asyncio.gather(*waits, return_exceptions=True)

    def _due(self, poll: VaultPoll, wake: asyncio.Event) -> float:
        """Return the Unix time of the next turn of a poll; a usual read may have to wait in a line."""
        due, now = poll.due(), self._clock.now()
        if not (self._scout and self._scout.helps()):
            return due
        queue, key = self._queue(poll.vault), _key(poll.vault)
        if due > now:
            queue.leave_line(key)
            return due
        queue.line.setdefault(key, wake)
        is_next = next(iter(queue.line)) == key
        return min(poll.urgent_due(), queue.usual_due(now) if is_next else math.inf)

    async def _play(self, poll: VaultPoll) -> None:
        """Make one turn of a poll; the right to read comes first, so that it asks as things stand then."""
        queue = self._queue(poll.vault)
        async with queue.turn:
            await self._wait_for(queue.budget)
            now = self._clock.now()
            Stats.gauge("azure_backup.waits", self._waits)
            Stats.timing("azure_backup.lag", timedelta(seconds=max(0.0, now - poll.due())))
            usual = poll.urgent_due() > now
            flow = poll.turn(now)
            queue.leave_line(_key(poll.vault))
            if not (call := next(flow, None)):
                return
            queue.spend(now, usual=usual)
        answer: Answer | None = await self._read(queue, poll, call)
        with suppress(StopIteration):
            while True:
                following = flow.send(answer)
                if following is None:
                    await asyncio.sleep(0)
                    answer = None
                    continue
                async with queue.turn:
                    await self._wait_for(queue.budget)
                    queue.spend(self._clock.now(), usual=usual)
                answer = await self._read(queue, poll, following)

    async def _wait_for(self, budget: Budget) -> None:
        while (seconds := budget.ready_at(self._clock.now()) - self._clock.now()) > 0:
            await self._clock.pause(seconds)

    async def _read(self, queue: _Queue, poll: VaultPoll, call: Request) -> Answer:
        answer = await self._hook.read(call)
        Stats.incr("azure_backup.job_reads")
        if isinstance(answer, Response):
            queue.budget.hear(answer, _key(poll.vault))
            Stats.gauge("azure_backup.job_reads_left", queue.budget.left)
            if answer.status == 429:
                Stats.incr("azure_backup.throttled")
                await self._report_throttling(queue, answer)
        return answer

    async def _report_throttling(self, queue: _Queue, answer: Response) -> None:
        for vault_loop in [*self._vaults.values()]:
            if self._queue(vault_loop.poll.vault) is queue:
                await _in_turns(vault_loop.poll.fail(answer))

    def _queue(self, vault: Vault) -> _Queue:
        settings = self._hook.settings
        # Each type of vault has reads of its own.
        key = (settings.endpoint, settings.identity, vault.subscription_id.casefold(), vault.vault_type)
        if key not in self._queues:
            self._queues[key] = _Queue(Budget(settings.job_read_share, self._clock.now()))
        return self._queues[key]


async def _in_turns(deliveries: Iterable[object]) -> None:
    """Call back many waits, some at a time."""
    for _ in deliveries:
        await asyncio.sleep(0)


def _last_read(wait: float) -> float:
    """Return the seconds after its deadline in which a wait of so many seconds still takes an answer."""
    return min(_LONGEST_GRACE, max(RESPONSE_GRACE, wait / 10))


def _key(vault: Vault) -> str:
    """Spelt either way, it is one vault; its secondary region has lists of its own."""
    region = vault.secondary.name.casefold() if vault.secondary else ""
    return f"{vault.path.casefold()}{f'@{region}' if region else ''}"

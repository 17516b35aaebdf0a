"""Wait for an estate on the triggerer's event loop, with the lists of jobs that all waits share."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import aclosing, suppress
from typing import TypeVar

from airflow_provider_azbackup.core.estate.look import Estate, Turns
from airflow_provider_azbackup.core.estate.scope import Condition, Scope
from airflow_provider_azbackup.core.estate.verdict import Verdict, lateness
from airflow_provider_azbackup.core.model.jobs import Job
from airflow_provider_azbackup.core.model.resources import Vault
from airflow_provider_azbackup.core.polling.scout import EstateScout
from airflow_provider_azbackup.core.wire import Answer, Flow, JsonObject
from airflow_provider_azbackup.exceptions import AzureBackupError
from airflow_provider_azbackup.runtime import clock as clocks
from airflow_provider_azbackup.triggerer.poller import Poller

T = TypeVar("T")

# How many reads of lists and recovery points are under way at the same time.
_AT_ONCE = 8
# Seconds until the jobs of a vault are listed again that could not be listed.
_RETRY_PAUSE = 300.0
# Seconds that the lists of jobs may take at the deadline.
_LAST_LOOK = 60.0
# Seconds after which it is foreseen again when running backups will end.
_FORESEE_AGAIN = 300.0
# The fewest seconds between two judgements: lists of several vaults often come together.
_LEAST_REST = 2.0
log = logging.getLogger(__name__)


class EstateWait:
    """One wait for an estate.

    :param poller: reads jobs, and everything else with the same client.
    :param scope: which items.
    :param condition: what each must prove.
    :param poll_interval: seconds between two looks at the jobs of a vault.
    :param deadline: Unix time of the last look.
    :param notice: is called with each verdict, once the jobs of all vaults have been asked for.
    :param expected_by: Unix time by which the gate should be open; None for none.
    :param on_late: is called once, with why, when it is likely to open later. If it returns True, the wait
        ends.
    """

    def __init__(
        self,
        poller: Poller,
        scope: Scope,
        condition: Condition,
        *,
        poll_interval: float,
        deadline: float,
        notice: Callable[[Verdict], object],
        expected_by: float | None = None,
        on_late: Callable[[JsonObject], bool] = lambda _: False,
    ) -> None:
        self._poller, self._notice = poller, notice
        self._expected_by, self._on_late, self._foresee_at = expected_by, on_late, 0.0
        self._estate = Estate(scope, condition, poll_interval=poll_interval, foresee=poller.forecast)
        self._allow, self._poll_interval, self._deadline = condition.allow, poll_interval, deadline
        self._clock = clocks.current()
        self._news = asyncio.Event()
        self._followers: dict[Vault, asyncio.Task[None]] = {}
        self._confirming: dict[str, asyncio.Task[None]] = {}
        self._scouting: asyncio.Task[None] | None = None

    async def verdict(self) -> Verdict:
        """Return the verdict that opens the gate, or the last one: at the deadline, or because it is late.

        :raises AzureBackupError: if the scope selects nothing.
        """
        try:
            while True:
                now = self._clock.now()
                if now >= self._deadline:
                    return await self._last_look(now)
                verdict = await self._settle(now)
                if self._poller.asks_resource_graph and not self._scouting:
                    self._scouting = asyncio.create_task(self._scout())
                if verdict.opens(self._allow):
                    # What has come, gone or changed since the last lists counts, too.
                    oldest = now - self._poll_interval
                    self._estate.expire(oldest)
                    verdict = await self._settle(now)
                    if verdict.opens(self._allow) and self._estate.is_current(oldest):
                        return verdict
                if self._estate.has_asked():
                    self._notice(verdict)
                if await self._ends_late(verdict, now):
                    return verdict
                await self._rest()
        finally:
            tasks = [*self._followers.values(), *self._confirming.values()]
            tasks += [self._scouting] if self._scouting else []
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _last_look(self, now: float) -> Verdict:
        """Return a verdict by lists that are read once more, as far as they can be soon."""
        for follower in self._followers.values():
            follower.cancel()
        self._followers.clear()
        self._estate.expire(now)
        await self._settle(now)  # which asks for the lists of jobs
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_LOOK):
                while not self._estate.has_asked(now):
                    self._news.clear()
                    await self._news.wait()
                    await self._settle(now)
        return await self._settle(now)

    async def _ends_late(self, verdict: Verdict, now: float) -> bool:
        """Find out whether the gate is late, report that once, and return whether the wait ends by it."""
        if (by := self._expected_by) is None:
            return False
        ends: list[float] = []
        if now < by:
            if now < self._foresee_at:
                return False
            self._foresee_at = now + _FORESEE_AGAIN
            ends = await self._play(self._estate.likely_late(by))
            if len(ends) <= verdict.allowed(self._allow):
                return False
        self._expected_by = None
        return self._on_late(lateness(verdict, ends, expected_by=by, now=now))

    async def _settle(self, now: float) -> Verdict:
        """Read what is due, and judge, until nothing more is due."""
        while True:
            verdict = await self._play(self._estate.judge(now))
            if not await self._read(self._estate.due(now)):
                break
        self._follow()
        self._confirm()
        return verdict

    async def _read(self, conversations: Iterator[Turns[None]]) -> int:
        """Hold conversations, some at a time, and return how many there were."""
        count = 0

        async def work() -> None:
            nonlocal count
            for each in conversations:
                count += 1
                await self._play(each)

        async with asyncio.TaskGroup() as group:
            for _ in range(_AT_ONCE):
                group.create_task(work())
        return count

    async def _play(self, flow: Turns[T] | Flow[T]) -> T:
        answer: Answer | None = None
        try:
            while True:
                request = next(flow) if answer is None else flow.send(answer)
                if request is None:
                    await asyncio.sleep(0)
                    answer = None
                    continue
                if request.delay:
                    await self._clock.pause(request.delay)
                answer = await self._poller.read(request)
        except StopIteration as end:
            result: T = end.value
            return result

    async def _rest(self) -> None:
        """Let time pass until something is due, or until a list of jobs has come."""
        await self._clock.pause(min(_LEAST_REST, max(0.0, self._deadline - self._clock.now())))
        due = min(self._deadline, self._expected_by or self._deadline, self._estate.due_at())
        left = max(0.0, due - self._clock.now())
        if not self._followers and not self._scouting:
            await self._clock.pause(left)
            return
        # Lists of jobs come all the time, and those who read them let the time pass between them.
        with suppress(TimeoutError):
            await asyncio.wait_for(self._news.wait(), left)
        self._news.clear()

    async def _scout(self) -> None:
        """Ask Resource Graph from time to time what lists may lack, until the task is cancelled."""
        scout = EstateScout(self._clock.now())
        while True:
            await self._clock.pause(scout.pause(self._clock.now()))
            failed = scout.fault is not None
            try:
                shown = await self._play(scout.sweep(self._clock.now(), self._estate.subscriptions))
            except Exception as error:  # whatever it is, lists are read as usual
                log.exception("Asking Resource Graph for vaults and items failed")
                scout.record_failure(AzureBackupError(f"{type(error).__name__}: {error}"))
                continue
            if scout.fault and not failed:
                log.info(
                    "Resource Graph shows no new vaults and items; they are listed as usual: %s", scout.fault
                )
            if self._estate.take_hints(shown):
                self._news.set()

    # --- jobs

    def _follow(self) -> None:
        """Follow the jobs of the vaults that have items which are not fresh, and of no other."""
        needed = [vault for vault in self._estate.vaults if self._estate.needs_jobs(vault)]
        for vault in needed:
            if vault not in self._followers:
                self._followers[vault] = asyncio.create_task(self._follow_jobs(vault))
        for vault in [vault for vault in self._followers if vault not in needed]:
            self._followers.pop(vault).cancel()

    async def _follow_jobs(self, vault: Vault) -> None:
        while True:
            try:
                lists = self._poller.follow(
                    vault, apart=self._poll_interval, after=lambda: self._estate.jobs_since
                )
                async with aclosing(lists):
                    async for listing in lists:
                        await self._play(self._estate.take_jobs(vault, listing.jobs, listing.at))
                        self._news.set()
            except AzureBackupError as error:
                self._estate.fail_jobs(vault, error, self._clock.now())
            except Exception as error:  # whatever it is, the other vaults are still looked at
                log.exception("Following the jobs of vault %s failed", vault.name)
                fault = AzureBackupError(f"{type(error).__name__}: {error}")
                self._estate.fail_jobs(vault, fault, self._clock.now())
            self._news.set()
            await self._clock.pause(_RETRY_PAUSE)

    def _confirm(self) -> None:
        """Read backups by themselves that lists show as ended with warnings."""
        for job in self._estate.unconfirmed():
            if job.ref.path not in self._confirming:
                task = asyncio.create_task(self._read_job(job))
                self._confirming[job.ref.path] = task

    async def _read_job(self, job: Job) -> None:
        try:
            found = await self._poller.watch_job(
                job.ref,
                poll_interval=self._poll_interval,
                deadline=self._deadline,
                since=self._clock.now(),
                on_read=lambda *_: None,
                first_pause=0.0,
            )
            self._estate.take_job(found)
            self._news.set()
        except AzureBackupError as error:
            log.warning("How %s ended cannot be looked up now: %s", job, error)
            await self._clock.pause(_RETRY_PAUSE)
        finally:
            self._confirming.pop(job.ref.path, None)

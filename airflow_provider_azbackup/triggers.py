"""Triggers that wait for a job or a backup. They start nothing, because Airflow may run a trigger again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Hashable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import replace
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Self
from weakref import WeakKeyDictionary

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_azbackup.core.model.arm_ids import match_item, split_instance_id
from airflow_provider_azbackup.core.model.json_safe import json_safe
from airflow_provider_azbackup.core.model.validation import (
    END_OUTCOMES,
    check_item,
    check_outcomes,
    check_vault_type,
    read_interval,
    reject_template,
)
from airflow_provider_azbackup.exceptions import (
    AzureBackupConfigError,
    AzureBackupError,
    AzureBackupTimeoutError,
    AzureBackupTransientError,
)
from airflow_provider_azbackup.runtime import clock
from airflow_provider_azbackup.runtime.compat import (
    FINISHED,
    event_trigger_class,
    runs_inline,
    shares_streams,
    state_limit,
    state_on_loop,
    takes_queue,
    trigger_hears_of_kills,
    warm_up,
)

if TYPE_CHECKING:
    from datetime import timedelta

    from airflow.triggers.base import BaseEventTrigger
    from airflow.triggers.shared_stream import SharedStreamProducer

    from airflow_provider_azbackup.core.conversations.jobs import OnRead
    from airflow_provider_azbackup.core.estate.verdict import Verdict
    from airflow_provider_azbackup.core.model.jobs import Job
    from airflow_provider_azbackup.core.model.validation import WaitUntil, WhenLate
    from airflow_provider_azbackup.core.wire import JsonObject
    from airflow_provider_azbackup.hooks import AzureBackupAsyncHook
    from airflow_provider_azbackup.runtime.job_event import JobEvent
    from airflow_provider_azbackup.triggerer.outlook import Outlook
    from airflow_provider_azbackup.triggerer.poller import Poller
    from airflow_provider_azbackup.triggerer.watches import Watch

    Join = Callable[..., AbstractAsyncContextManager[Poller]]
else:
    BaseEventTrigger = event_trigger_class()

# Seconds; Airflow's own limit of on_kill is 30.
_KILL_LIMIT = 25.0
_PATIENCE = 10.0
# A worker that has deferred its task takes some seconds to leave, more on a busy computer, and Airflow
# (3.3.2) fails a task whose trigger fires before that: apache/airflow issues 66374 and 67287.
LEAST_PAUSE = 15.0
# The same in a dag.test(), where no worker has to leave.
_INLINE_PAUSE = 1.0
# How many seconds to wait for a list that names the job of an accepted backup: for an hour no reads may be
# left.
_FIND_LIMIT = 4000.0
# Of what serialize() writes. It goes up with every change: workers and triggerers are upgraded one by one, so
# a trigger may be rebuilt by an older release, or a newer one. See tests/repository/test_upgrades.py.
VERSION = 3


def _least_pause() -> float:
    """Return the seconds before which no trigger fires."""
    return _INLINE_PAUSE if runs_inline() else LEAST_PAUSE


def _load() -> object:
    """Return what a wait needs and parsing a DAG file does not load.

    Airflow reads connections with the last one.
    """
    from asgiref import sync

    from airflow_provider_azbackup.runtime import fleet_event, job_event, job_log, verdict_log
    from airflow_provider_azbackup.triggerer import checkpoints, fleet, outlook, poller, progress, watches

    shared = poller, progress, watches, checkpoints, job_event, job_log, sync
    return *shared, fleet, fleet_event, outlook, verdict_log


async def _loaded() -> None:
    """Import what waits need: here, so that parsing a DAG file need not pay for it, and in a thread.

    Once for all waits of a loop. After a restart they come by the thousand: they go on one by one, so that
    others have a turn between them.
    """
    loop = asyncio.get_running_loop()
    if loop not in _LOADED:
        load = loop.run_in_executor(None, _load)
        _LOADED[loop] = load, asyncio.Lock()
    loading, turn = _LOADED[loop]
    await asyncio.shield(loading)
    async with turn:
        await asyncio.sleep(0)


_LOADED: WeakKeyDictionary[asyncio.AbstractEventLoop, tuple[asyncio.Future[object], asyncio.Lock]] = (
    WeakKeyDictionary()
)


class _Trigger(BaseTrigger):
    """What all triggers do: fire once, and cancel what they wait for when a person ends the task.

    All arguments are plain JSON without secrets. ``version`` says in which form they were written; what the
    first release wrote has none.
    """

    azure_backup_conn_id: str
    deadline: float
    cancel_on_kill: bool

    def __new__(cls, *_: Any, version: int = VERSION, **__: Any) -> Self:
        """Refuse what a newer release has written, before its arguments are looked at.

        :raises TypeError: saying what to do; any other would end the whole triggerer (Airflow 2.11 to 3.3).
        """
        if version > VERSION:
            raise TypeError(
                f"{cls.__name__} was deferred by a newer release of airflow-provider-azbackup (its arguments "
                f"have version {version}, this release reads up to {VERSION}): upgrade the triggerer"
            )
        return super().__new__(cls)

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's own is untyped

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and yield the one event."""
        try:
            await _loaded()
            from airflow_provider_azbackup.triggerer.poller import joined

            if self.cancel_on_kill:
                warm_up(self.task_instance)
            now = clock.current().now()
            event = await self._watch(partial(joined, self.azure_backup_conn_id, deadline=self.deadline), now)
        except asyncio.CancelledError:
            if not trigger_hears_of_kills():  # then this is the only word of it
                await self.on_kill()
            raise
        yield TriggerEvent(event)  # type: ignore[no-untyped-call]  # as above

    async def on_kill(self) -> None:
        """Ask Azure to cancel the job, if that is wanted and a person has really ended the task.

        Airflow (3.3.0 to 3.3.2) calls this also when the trigger has only moved to another triggerer (pull
        request 73454), and repeats its cancellation until it has broken off whatever this awaits. So the work
        is a task of its own, and asks Airflow for the state of the task first.
        """
        if not self.cancel_on_kill:
            return
        loop = asyncio.get_running_loop()
        work, end = loop.create_task(self._cancel_if_ended()), loop.time() + _KILL_LIMIT + 1
        while not work.done() and loop.time() < end:
            with suppress(asyncio.CancelledError):
                await asyncio.shield(work)

    async def _watch(self, join: Join, now: float) -> dict[str, Any]:
        """Wait with the poller that ``join`` joins; return the payload of the event."""
        raise NotImplementedError

    async def _job(self, hook: AzureBackupAsyncHook) -> str:
        """Return the ARM id of the job to cancel."""
        raise NotImplementedError

    async def _cancel_if_ended(self) -> None:
        await asyncio.to_thread(import_module, "airflow_provider_azbackup.hooks")
        from airflow_provider_azbackup.hooks import AzureBackupAsyncHook

        try:
            async with asyncio.timeout(_KILL_LIMIT):
                state = await state_on_loop(self.task_instance, limit=state_limit())
                if state not in FINISHED:
                    self.log.info("Task is %s, not ended: its job goes on in Azure", state)
                    return
                async with AzureBackupAsyncHook(self.azure_backup_conn_id) as hook:
                    job_id = await self._job(hook)
                    if state == "success" and await _is_over(hook, job_id):
                        # Another triggerer has seen its end, and this one was only late to hear of it.
                        self.log.info("Task is %s, and job %s is over", state, job_id)
                        return
                    await hook.cancel_job(job_id, patience=_PATIENCE)
            self.log.info("Task is %s: asked Azure to cancel job %s", state, job_id)
        except AzureBackupTransientError as error:
            self.log.warning("It is not known whether the job was cancelled or goes on in Azure: %s", error)
        except AzureBackupError as error:
            self.log.warning("The job was not cancelled, it goes on in Azure: %s", error)
        except Exception as error:
            # Airflow shows no traceback of what fails here; whatever it is, the job is left alone.
            self.log.exception("The job goes on in Azure: %s", type(error).__name__)


async def _is_over(hook: AzureBackupAsyncHook, job_id: str) -> bool:
    """Return whether a job is known to be over; one read, because a person may wait for the cancellation."""
    with suppress(AzureBackupError):
        return not (await hook.get_job(job_id)).is_running
    return False


class _Aside:
    """A log whose lines are written by a thread, in their order.

    The lines of all triggers go through one pipe of Airflow's. When many jobs end at once and its reader is
    busy, a line may take seconds, in which the event loop of all triggers must not stand still.

    :param log: the trigger's own.
    """

    def __init__(self, log: Any) -> None:
        self._log = log
        self._last: asyncio.Task[None] | None = None

    def info(self, *words: Any) -> None:
        self._last = asyncio.create_task(self._write(self._last, self._log.info, *words))

    def warning(self, *words: Any) -> None:
        self._last = asyncio.create_task(self._write(self._last, self._log.warning, *words))

    async def written(self) -> None:
        """Wait until all of it is written."""
        if self._last:
            await asyncio.shield(self._last)

    async def _write(
        self, before: asyncio.Task[None] | None, write: Callable[..., None], *words: Any
    ) -> None:
        if before:
            await before
        await asyncio.to_thread(write, *words)


class _Watch(_Trigger):
    """A trigger whose event is a :class:`~airflow_provider_azbackup.runtime.job_event.JobEvent`."""

    what: str
    waiting_for = ""
    wait_until: WaitUntil = "completion"
    expected_by: float | None = None
    when_late: WhenLate = "warn"

    async def _watch(self, join: Join, now: float) -> dict[str, Any]:
        from airflow_provider_azbackup.runtime.job_event import JobEvent
        from airflow_provider_azbackup.triggerer.outlook import Outlook
        from airflow_provider_azbackup.triggerer.progress import Progress

        log = _Aside(self.log)
        warned = self.when_late == "warned"
        progress = Progress(
            self.task_instance,
            waiting_for=self.waiting_for,
            waiting_until=self.deadline,
            late=None if self.expected_by is None else warned,
        )
        outlook = Outlook(
            log,
            progress,
            expected_by=None if warned else self.expected_by,
            foresees=self.wait_until == "completion",
            not_before=now + _least_pause(),
        )
        try:
            async with join(notice=partial(outlook.see, None)) as poller:
                outlook.poller = poller
                event = await self._event(poller, outlook, now)
        except AzureBackupError as error:
            event = JobEvent(error=error)
        except Exception as error:
            # Whatever it was, the gate stays shut and the worker gets to say why.
            self.log.exception("Watching %s failed", self.what)
            reason = f"watching {self.what} failed: {type(error).__name__}: {error}"
            event = JobEvent(error=AzureBackupError(reason))
        finally:
            progress.close()
            outlook.close()
        if outlook.late.done():
            event = replace(event, late=outlook.late.result())
        await log.written()
        return event.to_dict()

    async def _event(self, poller: Poller, outlook: Outlook, now: float) -> JobEvent:
        """Return how the wait ends; on the way there, warn if the backup is late, or end it for that."""
        from airflow_provider_azbackup.runtime.job_event import JobEvent

        if self.expected_by is None or self.when_late == "warned":
            return JobEvent(job=await self._see(poller, outlook.see, now))
        outlook.judge()
        seeing = asyncio.ensure_future(self._see(poller, outlook.see, now))
        try:
            either: list[asyncio.Future[Any]] = [seeing, outlook.late]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not seeing.done():
                if self.when_late == "resume":
                    return JobEvent()
                outlook.warn()
            return JobEvent(job=await seeing)
        finally:
            seeing.cancel()
            await asyncio.gather(seeing, return_exceptions=True)

    async def _see(self, poller: Poller, on_read: OnRead, now: float) -> Job:
        """Return the job that ends the wait."""
        raise NotImplementedError


class AzureBackupJobTrigger(_Watch):
    """Fires once, when a job is over, when its deadline has passed, or when looking again cannot help.

    The event is a :class:`~airflow_provider_azbackup.runtime.job_event.JobEvent`. With the arguments one can
    read one job, as far as the connection allows, and nothing else.

    :param job_id: ARM id of the job.
    :param azure_backup_conn_id: id of the connection, which is read again wherever the trigger runs.
    :param poll_interval: seconds between looks.
    :param first_pause: seconds before the first look, here or after a restart. Not 0: the worker has just
        looked, and an event that came before the worker has let go would be lost.
    :param deadline: Unix time of the last look; it survives a restart of the triggerer.
    :param since: Unix time the wait began.
    :param cancel_on_kill: ask Azure to cancel the job when a person ends the task while it waits here.
    :param wait_until: ``snapshot`` fires after the snapshot of a VM's backup.
    :param waiting_for: why the task waits for a job that is not its own, for ``backup_progress``.
    :param expected_by: Unix time by which the backup should be over; None for none.
    :param when_late: what happens once it is more likely to be late than not: ``warn`` logs it, ``resume``
        fires with that, ``warned`` does neither, because the task has warned already.
    :param secondary_region: the region that is asked about the job; empty for the region of the vault.
    :param primary_region: the region of the vault, where requests to the secondary one name it.
    :param version: the form of these arguments.
    """

    def __init__(
        self,
        *,
        job_id: str,
        azure_backup_conn_id: str,
        poll_interval: float,
        first_pause: float,
        deadline: float,
        since: float,
        cancel_on_kill: bool = False,
        wait_until: WaitUntil = "completion",
        waiting_for: str = "",
        expected_by: float | None = None,
        when_late: WhenLate = "warn",
        secondary_region: str = "",
        primary_region: str = "",
        version: int = VERSION,
    ) -> None:
        super().__init__()
        self.job_id = job_id
        self.what = f"job {job_id}"
        self.azure_backup_conn_id = azure_backup_conn_id
        self.poll_interval = poll_interval
        self.first_pause = first_pause
        self.deadline = deadline
        self.since = since
        self.cancel_on_kill = cancel_on_kill
        self.wait_until = wait_until
        self.waiting_for = waiting_for
        self.expected_by = expected_by
        self.when_late = when_late
        self.secondary_region = secondary_region
        self.primary_region = primary_region

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments that rebuild an equal trigger."""
        return (
            "airflow_provider_azbackup.triggers.AzureBackupJobTrigger",
            {
                "job_id": self.job_id,
                "azure_backup_conn_id": self.azure_backup_conn_id,
                "poll_interval": self.poll_interval,
                "first_pause": self.first_pause,
                "deadline": self.deadline,
                "since": self.since,
                "cancel_on_kill": self.cancel_on_kill,
                "wait_until": self.wait_until,
                "waiting_for": self.waiting_for,
                "expected_by": self.expected_by,
                "when_late": self.when_late,
                "secondary_region": self.secondary_region,
                "primary_region": self.primary_region,
                "version": VERSION,
            },
        )

    async def _see(self, poller: Poller, on_read: OnRead, now: float) -> Job:
        from airflow_provider_azbackup.core.model.resources import JobRef, SecondaryRegion

        ref = JobRef.parse(self.job_id)
        if self.secondary_region:
            region = SecondaryRegion(name=self.secondary_region, primary=self.primary_region)
            ref = replace(ref, vault=replace(ref.vault, secondary=region))
        # Counted from the start of the wait: a restart need not wait again. However late it is, and however
        # long the pause, the last look comes at the deadline.
        pause = self.since + self.first_pause * random.uniform(1.0, 1.15) - now
        pause = _INLINE_PAUSE if runs_inline() else max(LEAST_PAUSE, min(pause, self.deadline - now))
        return await poller.watch_job(
            ref,
            poll_interval=self.poll_interval,
            deadline=self.deadline,
            since=self.since,
            on_read=on_read,
            # Some of it has passed if the connection could not be read at once.
            first_pause=max(0.0, now + pause - clock.current().now()),
            wait_until=self.wait_until,
        )

    async def _job(self, hook: AzureBackupAsyncHook) -> str:
        return self.job_id


class AzureBackupFreshnessTrigger(_Watch):
    """Fires once, when a backup of an item that began since a moment is over, or at its deadline.

    Any end will do: the worker decides what it proves, and waits on if it proves nothing. Lists of jobs serve
    all who wait for the same vault.

    :param subject: what is backed up, as a
        :class:`~airflow_provider_azbackup.core.conversations.matching.JobMatcher`.
    :param after: Unix time since which the backup must have begun.
    :param known: ids of jobs, in lower case, that have proved nothing already.
    :param azure_backup_conn_id: id of the connection, which is read again wherever the trigger runs.
    :param poll_interval: seconds between looks.
    :param deadline: Unix time of the last look; it survives a restart of the triggerer.
    :param since: Unix time the wait began.
    :param wait_until: as in :class:`AzureBackupJobTrigger`.
    :param expected_by: as in :class:`AzureBackupJobTrigger`.
    :param when_late: as in :class:`AzureBackupJobTrigger`.
    :param version: as in :class:`AzureBackupJobTrigger`.
    """

    cancel_on_kill = False

    def __init__(
        self,
        *,
        subject: dict[str, Any],
        after: float,
        known: list[str],
        azure_backup_conn_id: str,
        poll_interval: float,
        deadline: float,
        since: float,
        wait_until: WaitUntil = "completion",
        expected_by: float | None = None,
        when_late: WhenLate = "warn",
        version: int = VERSION,
    ) -> None:
        super().__init__()
        self.subject = subject
        self.what = f"backups of {subject['item']}"
        self.after = after
        self.known = known
        self.azure_backup_conn_id = azure_backup_conn_id
        self.poll_interval = poll_interval
        self.deadline = deadline
        self.since = since
        self.wait_until = wait_until
        self.expected_by = expected_by
        self.when_late = when_late

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments that rebuild an equal trigger."""
        return (
            "airflow_provider_azbackup.triggers.AzureBackupFreshnessTrigger",
            {
                "subject": self.subject,
                "after": self.after,
                "known": self.known,
                "azure_backup_conn_id": self.azure_backup_conn_id,
                "poll_interval": self.poll_interval,
                "deadline": self.deadline,
                "since": self.since,
                "wait_until": self.wait_until,
                "expected_by": self.expected_by,
                "when_late": self.when_late,
                "version": VERSION,
            },
        )

    async def _see(self, poller: Poller, on_read: OnRead, now: float) -> Job:
        from airflow_provider_azbackup.core.conversations.matching import JobMatcher
        from airflow_provider_azbackup.core.model.jobs import Outcome

        job = await poller.find_backup(
            JobMatcher.from_dict(self.subject),
            after=self.after,
            known=frozenset(self.known),
            poll_interval=self.poll_interval,
            first_pause=_least_pause(),
            until=self.deadline,
        )
        if job is None:
            raise AzureBackupTimeoutError(
                f"the wait is over after {clock.current().now() - self.since:.0f} s"
            )
        on_read(job, None)
        if job.outcome is Outcome.SUCCEEDED:
            return job
        # Of another end a list may leave the reasons out, and of what runs it shows no phases.
        return await poller.watch_job(
            job.ref,
            poll_interval=self.poll_interval,
            deadline=self.deadline,
            since=self.since,
            on_read=on_read,
            first_pause=0.0,
            wait_until=self.wait_until,
        )


class AzureBackupFleetTrigger(_Trigger):
    """Fires once, when the items of an estate have fresh backups, or at its deadline.

    The event is a :class:`~airflow_provider_azbackup.runtime.fleet_event.FleetEvent`. The worker decides by
    its counts whether the gate opens.

    :param scope: which items, as a :class:`~airflow_provider_azbackup.core.estate.scope.Scope`.
    :param condition: what each must prove, as a
        :class:`~airflow_provider_azbackup.core.estate.scope.Condition`.
    :param azure_backup_conn_id: id of the connection, which is read again wherever the trigger runs.
    :param poll_interval: seconds between looks.
    :param deadline: Unix time of the last look; it survives a restart of the triggerer.
    :param expected_by: Unix time by which the gate should be open; None for none.
    :param when_late: as in :class:`AzureBackupJobTrigger`.
    :param version: as there.
    """

    cancel_on_kill = False

    def __init__(
        self,
        *,
        scope: dict[str, Any],
        condition: dict[str, Any],
        azure_backup_conn_id: str,
        poll_interval: float,
        deadline: float,
        expected_by: float | None = None,
        when_late: WhenLate = "warn",
        version: int = VERSION,
    ) -> None:
        super().__init__()
        self.scope = scope
        self.condition = condition
        self.azure_backup_conn_id = azure_backup_conn_id
        self.poll_interval = poll_interval
        self.deadline = deadline
        self.expected_by = expected_by
        self.when_late = when_late

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments that rebuild an equal trigger."""
        return (
            "airflow_provider_azbackup.triggers.AzureBackupFleetTrigger",
            {
                "scope": self.scope,
                "condition": self.condition,
                "azure_backup_conn_id": self.azure_backup_conn_id,
                "poll_interval": self.poll_interval,
                "deadline": self.deadline,
                "expected_by": self.expected_by,
                "when_late": self.when_late,
                "version": VERSION,
            },
        )

    async def _watch(self, join: Join, now: float) -> dict[str, Any]:
        from airflow_provider_azbackup.core.estate.scope import Condition, Scope
        from airflow_provider_azbackup.runtime.fleet_event import FleetEvent
        from airflow_provider_azbackup.runtime.verdict_log import VerdictLog
        from airflow_provider_azbackup.triggerer.fleet import EstateWait
        from airflow_provider_azbackup.triggerer.progress import VerdictReport

        scope, condition = Scope.from_dict(self.scope), Condition.from_dict(self.condition)
        log = _Aside(self.log)
        verdict_log, warned = VerdictLog(log), self.when_late == "warned"
        report = VerdictReport(self.task_instance, late=None if self.expected_by is None else warned)
        late: JsonObject | None = None

        def notice(verdict: Verdict) -> None:
            verdict_log.report(verdict)
            report.tell(verdict)

        def on_late(why: JsonObject) -> bool:
            nonlocal late
            if self.when_late == "resume":
                late = why
                return True
            log.warning("Late: %s", why["message"])
            report.late = True
            return False

        try:
            await clock.current().pause(_least_pause())
            async with join(notice=partial(log.warning, "%s")) as poller:
                wait = EstateWait(
                    poller,
                    scope,
                    condition,
                    poll_interval=self.poll_interval,
                    deadline=self.deadline,
                    notice=notice,
                    expected_by=None if warned else self.expected_by,
                    on_late=on_late,
                )
                verdict = await wait.verdict()
            event = FleetEvent(scope=scope, condition=condition, verdict=None if late else verdict, late=late)
        except AzureBackupError as error:
            event = FleetEvent(scope=scope, condition=condition, error=error)
        except Exception as error:
            # Whatever it was, the gate stays shut and the worker gets to say why.
            self.log.exception("Watching an estate failed")
            reason = f"watching an estate failed: {type(error).__name__}: {error}"
            event = FleetEvent(scope=scope, condition=condition, error=AzureBackupError(reason))
        finally:
            report.close()
        await log.written()
        return event.to_dict()


class AzureBackupTierTrigger(_Watch):
    """Fires once, when a recovery point has reached a tier, or when it has not by its deadline.

    Which of the two it was, the worker finds out: the event is one about the job that has made the point.

    :param job_id: ARM id of the job.
    :param recovery_point: ARM id of the recovery point.
    :param min_tier: ``InstantRP`` or ``HardenedRP``.
    :param azure_backup_conn_id: id of the connection, which is read again wherever the trigger runs.
    :param deadline: Unix time of the last look; it survives a restart of the triggerer.
    :param version: as in :class:`AzureBackupJobTrigger`.
    """

    cancel_on_kill = False

    def __init__(
        self,
        *,
        job_id: str,
        recovery_point: str,
        min_tier: str,
        azure_backup_conn_id: str,
        deadline: float,
        version: int = VERSION,
    ) -> None:
        super().__init__()
        self.job_id = job_id
        self.recovery_point = recovery_point
        self.what = f"recovery point {recovery_point}"
        self.min_tier = min_tier
        self.azure_backup_conn_id = azure_backup_conn_id
        self.deadline = deadline

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments that rebuild an equal trigger."""
        return (
            "airflow_provider_azbackup.triggers.AzureBackupTierTrigger",
            {
                "job_id": self.job_id,
                "recovery_point": self.recovery_point,
                "min_tier": self.min_tier,
                "azure_backup_conn_id": self.azure_backup_conn_id,
                "deadline": self.deadline,
                "version": VERSION,
            },
        )

    async def _see(self, poller: Poller, on_read: OnRead, now: float) -> Job:
        from airflow_provider_azbackup.core.model.resources import JobRef
        from airflow_provider_azbackup.hooks import AzureBackupAsyncHook

        await clock.current().pause(_least_pause())
        async with AzureBackupAsyncHook(self.azure_backup_conn_id) as hook:
            with suppress(AzureBackupError):  # the worker looks again, and says what it is
                await hook.wait_for_tier(self.recovery_point, self.min_tier, deadline=self.deadline)
        return await poller.watch_job(
            JobRef.parse(self.job_id),
            poll_interval=60.0,
            deadline=max(self.deadline, clock.current().now()) + LEAST_PAUSE,
            since=now,
            on_read=on_read,
            first_pause=0.0,
        )


class AzureBackupStartTrigger(_Trigger):
    """Fires once, when the job of an accepted backup is known, or is not to be found in lists.

    Where many backups begin at once, one list names the jobs of all of them, so that no task has to ask for
    its own operation. The event is ``{"version": 1, "job_id": <ARM id or null>}``.

    :param record: what is known of the backup, a
        :class:`~airflow_provider_azbackup.core.start.intent.StartRecord`.
    :param azure_backup_conn_id: id of the connection, which is read again wherever the trigger runs.
    :param deadline: Unix time of the end, found or not.
    :param version: as in :class:`AzureBackupJobTrigger`.
    """

    # A task that cancels waits for the job of its own operation, in the worker.
    cancel_on_kill = False

    def __init__(
        self,
        *,
        record: dict[str, Any],
        azure_backup_conn_id: str,
        deadline: float,
        version: int = VERSION,
    ) -> None:
        super().__init__()
        self.record = record
        self.azure_backup_conn_id = azure_backup_conn_id
        self.deadline = deadline

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments that rebuild an equal trigger."""
        return (
            "airflow_provider_azbackup.triggers.AzureBackupStartTrigger",
            {
                "record": self.record,
                "azure_backup_conn_id": self.azure_backup_conn_id,
                "deadline": self.deadline,
                "version": VERSION,
            },
        )

    async def _watch(self, join: Join, now: float) -> dict[str, Any]:
        from airflow_provider_azbackup.core.model.resources import ProtectedItem

        try:
            async with join() as poller:
                ref = await poller.find_job(
                    ProtectedItem.parse(self.record["item"]),
                    requested_at=self.record["requested_at"],
                    first_pause=_least_pause(),
                    until=min(self.deadline, now + _FIND_LIMIT),
                )
        except Exception as error:  # the worker asks for the operation itself
            self.log.warning("Looking for the job of an accepted backup failed: %s", error)
            ref = None
        return {"version": 1, "job_id": ref.path if ref else None}


class AzureBackupPauseTrigger(_Trigger):
    """Fires once, at a moment from which on Azure may accept a request that it has refused for now.

    It asks Azure nothing; the worker asks again. The event is ``{"version": 1}``.

    :param azure_backup_conn_id: the connection of the task.
    :param deadline: Unix time at which it fires; it survives a restart of the triggerer.
    :param version: as in :class:`AzureBackupJobTrigger`.
    """

    # There is no job yet.
    cancel_on_kill = False

    def __init__(self, *, azure_backup_conn_id: str, deadline: float, version: int = VERSION) -> None:
        super().__init__()
        self.azure_backup_conn_id = azure_backup_conn_id
        self.deadline = deadline

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments that rebuild an equal trigger."""
        return (
            "airflow_provider_azbackup.triggers.AzureBackupPauseTrigger",
            {
                "azure_backup_conn_id": self.azure_backup_conn_id,
                "deadline": self.deadline,
                "version": VERSION,
            },
        )

    async def _watch(self, join: Join, now: float) -> dict[str, Any]:
        await clock.current().pause(max(_least_pause(), self.deadline - now))
        return {"version": 1}


class AzureBackupEventTrigger(BaseEventTrigger):
    """For an ``AssetWatcher``, Airflow 3.0 and later: fires whenever backups have ended.

    The trigger reports each backup that ends while the asset is watched, no matter who started it. It leaves
    out backups of transaction logs. All backups that first appear in the same listing of the vault are sent
    as one event, because Airflow passes only the first of several simultaneous events to a DAG run. The
    payload of the event, in the ``extra`` of the asset event, holds ``backups``. Each of them has ``job_id``,
    ``arm_id``, ``vault``, ``item``, ``operation``, ``status``, ``outcome``, ``start_time``, ``end_time``,
    ``duration_seconds``, ``size_bytes``, ``errors``, and ``redelivered``, which says whether it may have been
    sent before.

    Watches on a vault share its lists of jobs with each other and with all deferred waits. How far a watch
    has come outlives the triggerer: it is kept in the asset state store on Airflow 3.3, and in an Airflow
    Variable on earlier releases.

    :param protected_item: the item whose backups are reported: the ARM id of the protected item, of the
        virtual machine or of the file share, or a friendly name; in a Backup vault the ARM id, name or
        friendly name of the backup instance. Default: all items of the vault.
    :param outcomes: which outcomes to report: any of ``succeeded``, ``warned``, ``failed`` and ``cancelled``.
        Default: ``succeeded``.
    :param vault_name: name of the vault. Default: the connection's.
    :param resource_group_name: resource group of the vault. Default: the connection's.
    :param subscription_id: subscription of the vault. Default: the connection's.
    :param vault_type: ``RecoveryServices`` for a Recovery Services vault, ``DataProtection`` for a Backup
        vault. Default: the connection's.
    :param poll_interval: seconds, or a timedelta, between two lists of the vault's jobs, which Azure limits
        for the whole subscription. Default: 300.
    :param azure_backup_conn_id: id of a connection of type ``azure_backup``, or of an existing one of type
        ``azure``. Default: ``azure_backup_default``.
    :param queue: the queue of the triggerers that run the watch, as in ``airflow triggerer --queues``. Needs
        Airflow 3.4. Default: the triggerers without a queue.
    :raises AzureBackupConfigError: when the trigger is made, for unknown outcomes, wrong numbers, a ``queue``
        below Airflow 3.4, and templates, because Airflow renders nothing of a trigger.

    Source: https://learn.microsoft.com/azure/backup/backup-azure-arm-userestapi-managejobs
    """

    def __init__(
        self,
        *,
        protected_item: str | None = None,
        outcomes: Sequence[str] = END_OUTCOMES[:1],
        vault_name: str | None = None,
        resource_group_name: str | None = None,
        subscription_id: str | None = None,
        vault_type: str | None = None,
        poll_interval: float | timedelta = 300.0,
        azure_backup_conn_id: str = "azure_backup_default",
        queue: str | None = None,
    ) -> None:
        if queue is not None and not takes_queue():
            raise AzureBackupConfigError(
                f"queue={queue!r} needs Airflow 3.4 or later, where an event trigger can name the triggerers "
                "that run it; leave it out"
            )
        named = {} if queue is None else {"queue": queue}
        super().__init__(**named)  # type: ignore[no-untyped-call]  # Airflow's own is untyped
        if protected_item is not None:
            check_item(protected_item)
        if vault_type is not None:
            check_vault_type(vault_type)
        poll_interval = read_interval("poll_interval", poll_interval)
        places = {
            "protected_item": protected_item,
            "vault_name": vault_name,
            "resource_group_name": resource_group_name,
            "subscription_id": subscription_id,
            "azure_backup_conn_id": azure_backup_conn_id,
        }
        for name, text in places.items():
            reject_template(name, text, owner="an event trigger")
        self.protected_item = protected_item
        self.outcomes = check_outcomes(outcomes)
        self.vault_name = vault_name
        self.resource_group_name = resource_group_name
        self.subscription_id = subscription_id
        self.vault_type = vault_type
        self.poll_interval = poll_interval
        self.azure_backup_conn_id = azure_backup_conn_id

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments that rebuild an equal trigger."""
        return (
            "airflow_provider_azbackup.triggers.AzureBackupEventTrigger",
            {
                "protected_item": self.protected_item,
                "outcomes": self.outcomes,
                "vault_name": self.vault_name,
                "resource_group_name": self.resource_group_name,
                "subscription_id": self.subscription_id,
                "vault_type": self.vault_type,
                "poll_interval": self.poll_interval,
                "azure_backup_conn_id": self.azure_backup_conn_id,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Fire for each list with ended backups, where Airflow does not report which events it has stored."""
        await _loaded()
        from airflow_provider_azbackup.triggerer.watches import WatchedVault, ends_without_sharing

        async with self._watching() as watch:
            async for ended in ends_without_sharing(WatchedVault(**self._where()), watch):
                yield TriggerEvent({"backups": json_safe(ended)})  # type: ignore[no-untyped-call]  # Airflow's own

    def shared_stream_key(self) -> Hashable | None:
        """Share one stream among all watches on a vault, where Airflow reports which events it has stored."""
        if not shares_streams():
            return None
        # Plain words: the class that they describe is not loaded yet, and this must not take long.
        return "azure_backup", *self._where().values()

    @classmethod
    def create_shared_stream_producer(cls, kwargs: dict[str, Any]) -> SharedStreamProducer:
        """Return what lists the vault's jobs for all watches, and learns which events Airflow has stored."""
        from airflow_provider_azbackup.triggerer.stream import Stream

        return Stream(cls(**kwargs)._where())

    async def filter_shared_stream(self, shared_stream: AsyncIterator[Any]) -> AsyncIterator[TriggerEvent]:
        """Fire for each list with ended backups that are new to this watch."""
        await _loaded()
        async with self._watching() as watch:
            async for shared in shared_stream:
                if ended := await watch.new_ends(shared):
                    yield TriggerEvent({"backups": json_safe(ended)})  # type: ignore[no-untyped-call]  # as above

    def _where(self) -> dict[str, Any]:
        """Return what a :class:`~airflow_provider_azbackup.triggerer.watches.WatchedVault` is made of."""
        item = self.protected_item or ""
        vault = (match_item(item) or ("", ""))[1] or (split_instance_id(item) or ("",))[0]
        return {
            "conn_id": self.azure_backup_conn_id,
            # Of an item that does not name it, the vault is the one that is named, or the connection's.
            "vault_id": vault,
            "vault_name": self.vault_name,
            "resource_group_name": self.resource_group_name,
            "subscription_id": self.subscription_id,
            "vault_type": self.vault_type,
            "apart": self.poll_interval,
        }

    def _watching(self) -> AbstractAsyncContextManager[Watch]:
        from airflow_provider_azbackup.triggerer.checkpoints import store_of
        from airflow_provider_azbackup.triggerer.watches import WatchedVault, watching

        return watching(
            WatchedVault(**self._where()),
            store_of(self),
            outcomes=self.outcomes,
            protected_item=self.protected_item,
            log=self.log,
        )

"""The base class of operators that start a job: start it once, wait for it, give it up, cancel it.

From top to bottom the file follows a task. Airflow calls ``execute`` of the operator or, after a deferral,
one of the ``execute_...`` methods here. Both lead to ``_start``, ``_await`` and ``_finish``. An operator adds
what it wants (``_intent``) and rejects what its vault does not know (``_check_options``).
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from airflow_provider_azbackup.core.model.json_safe import iso_time
from airflow_provider_azbackup.core.model.validation import (
    IF_RUNNING,
    AcceptWarnings,
    check_vault_options,
    check_word,
    read_warnings,
)
from airflow_provider_azbackup.exceptions import (
    AzureBackupBusyError,
    AzureBackupError,
    AzureBackupLimitError,
    AzureBackupRecoveryPointError,
    AzureBackupRefusedError,
    AzureBackupTimeoutError,
    AzureBackupTransientError,
    AzureBackupUnconfirmedStartError,
    AzureBackupWrongJobError,
)
from airflow_provider_azbackup.runtime import clock
from airflow_provider_azbackup.tasks.arguments import check_booleans, read_seconds
from airflow_provider_azbackup.tasks.base import JobBaseOperator
from airflow_provider_azbackup.tasks.on_kill import CancelOnKill
from airflow_provider_azbackup.tasks.state import TaskState

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_azbackup.core.model.jobs import Job
    from airflow_provider_azbackup.core.model.resources import JobRef
    from airflow_provider_azbackup.core.model.validation import IfRunning, StartedBy
    from airflow_provider_azbackup.core.start.intent import Intent, StartRecord
    from airflow_provider_azbackup.core.start.search import StartedJob
    from airflow_provider_azbackup.tasks.hook import TaskHook

# Seconds a worker spends on cancelling what took too long.
_STOP_LIMIT = 120.0
# Azure's clock is read in whole seconds.
_SECONDS = 2.0
# Seconds between the end of a job that was in the way and the next request.
_BREATH = 15.0
# The least seconds until Azure is asked again after a refusal, and the most after one that names no time:
# then the task waits as long as it has waited already, so that a long wait costs few requests.
_SHORTEST_DELAY, _LONGEST_DELAY = 60.0, 3600.0
# Seconds before the deadline of the task at which it asks for the last time.
_LAST_REQUEST = 60.0


@dataclass(frozen=True, kw_only=True)
class Wait:
    """A wait for a job.

    :param since: Unix time it began.
    :param attempt_began: Unix time by Azure's clock at which this attempt of the task had begun.
    :param started_by: who started the job.
    """

    since: float
    attempt_began: float
    started_by: StartedBy

    @property
    def is_ours(self) -> bool:
        """Whether this task may cancel the job: Azure has named it in its answer to this task's request."""
        return self.started_by == "this task"


class StartBaseOperator(JobBaseOperator):
    """A task that starts one job for one intent, through retries and Clears, and waits for a proven end.

    :param wait_for_completion: False ends the task as soon as the job id is known, which proves nothing.
        Default: True.
    :param poll_interval: seconds, or a timedelta, between two looks at the job. Azure limits the reads of
        jobs for each subscription, and all waits, people and other tools share that limit. Default: 60.
    :param timeout: seconds, or a timedelta, from the start of the job, through all retries that adopt it.
        Airflow's ``execution_timeout`` ends the wait as well, deferred or not. Default: 86400, one day.
    :param if_running: what to do about a running job of the same kind on the item that this task did not
        start. ``wait`` waits for its end, within ``timeout``, and then starts a job of this task's own.
        ``adopt`` accepts it as it is. ``fail`` raises an error.
    :param cancel_on_kill: True asks Azure to cancel the job when a person marks the running or deferred task
        as failed, succeeded or skipped. A Clear, a restart and a hand-over to another triggerer never cancel,
        and a job that this task did not start is never cancelled. Default: False, because a backup that
        finishes is a recovery point, and a cancelled one is nothing.
    :param cancel_on_timeout: True asks Azure to cancel the job that this task started when ``timeout`` is
        over. Azure cannot cancel jobs of Backup vaults, so ``cancel_on_kill`` and ``cancel_on_timeout`` are
        rejected there. Default: False.
    :param accept_warnings: which jobs that ended ``CompletedWithWarnings`` to accept: True for all, or a set
        of Azure's error codes, by symbol or number, that has to contain every warning of the job. Default:
        False.
    """

    # What the job is, in logs and errors: a backup or a restore.
    noun: ClassVar[str]
    # How many poll intervals a job that was just started needs no look, by kind of item; else two.
    first_looks: ClassVar[Mapping[str, float]]

    protected_item: str | None
    job_id: str | None = None
    # How old a backup may be that makes another one unnecessary; for operators that know such a thing.
    unless_fresh: timedelta | None = None

    def __init__(
        self,
        *,
        wait_for_completion: bool = True,
        poll_interval: float | timedelta = 60.0,
        timeout: float | timedelta = 24 * 3600.0,
        if_running: IfRunning = "wait",
        cancel_on_kill: bool = False,
        cancel_on_timeout: bool = False,
        accept_warnings: AcceptWarnings = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_booleans(
            self.task_id,
            wait_for_completion=wait_for_completion,
            cancel_on_kill=cancel_on_kill,
            cancel_on_timeout=cancel_on_timeout,
        )
        read_warnings(f"accept_warnings of task {self.task_id!r}", accept_warnings)
        check_word(f"if_running of task {self.task_id!r}", if_running, IF_RUNNING)
        self.wait_for_completion = wait_for_completion
        self.poll_interval, self.timeout = read_seconds(
            self.task_id, poll_interval=poll_interval, timeout=timeout
        )
        self.if_running = if_running
        self.cancel_on_kill = cancel_on_kill
        self.cancel_on_timeout = cancel_on_timeout
        self.accept_warnings = accept_warnings
        self._kill: CancelOnKill | None = None

    def execute(self, context: Context) -> str:
        """Do what the task is for."""
        raise NotImplementedError

    def execute_complete(
        self,
        context: Context,
        event: Any = None,
        job_id: str | None = None,
        since: float | None = None,
        try_number: int | None = None,
        attempt_began: float | None = None,
        started_by: StartedBy = "found",
        warned_at: float | None = None,
    ) -> str:
        """Take the wait back from the triggerer: success only for a proven end."""
        if self.is_stale(context, try_number):
            return self.execute(context)
        self._warned_at = warned_at
        if try_number is None and (record := self._dropped(context)) and record.job:
            job_id, since, attempt_began, started_by = (
                record.job,
                record.since,
                record.attempt_began,
                record.started_by,
            )
        if job_id is None and self.job_id is not None:
            with self.hook() as hook:
                job_id = hook.job_ref(self.job_id).path
        since = clock.current().now() if since is None else since
        wait = Wait(
            since=since,
            attempt_began=since if attempt_began is None else attempt_began,
            started_by=started_by,
        )
        if self.hears_late(context, event):
            with self.hook() as hook:
                return self._await(context, hook, hook.job_ref(str(job_id)), wait, None)
        try:
            job = self.resume(context, event, job_id)
        except AzureBackupTimeoutError as error:
            with self.hook() as hook:
                return self._give_up(context, hook, job_id, wait, error)
        return self._finish(context, job, wait)

    def execute_after_other(
        self,
        context: Context,
        event: Any = None,
        since: float | None = None,
        try_number: int | None = None,
        attempt_began: float | None = None,
        warned_at: float | None = None,
    ) -> str:
        """Go on once the job that was in the way is over, however it ended: Azure is asked again anyway.

        :raises AzureBackupTimeoutError: when it still runs at the deadline of the task.
        """
        from airflow_provider_azbackup.runtime.job_event import JobEvent

        if self.is_stale(context, try_number) or since is None:
            return self.execute(context)
        self._warned_at = warned_at
        self.hears_late(context, event)
        error = JobEvent.from_dict(event).error
        if isinstance(error, AzureBackupTimeoutError):
            self._in_the_way(error, error.job)
        return self._start(context, since=since, attempt_began=attempt_began)

    def execute_again(
        self,
        context: Context,
        event: Any = None,
        since: float | None = None,
        try_number: int | None = None,
        attempt_began: float | None = None,
        warned_at: float | None = None,
    ) -> str:
        """Ask Azure again, after a time in which it would have refused."""
        if self.is_stale(context, try_number) or since is None:
            return self.execute(context)
        self._warned_at = warned_at
        return self._start(context, since=since, attempt_began=attempt_began)

    def execute_found(
        self,
        context: Context,
        event: Any = None,
        record: Any = None,
        try_number: int | None = None,
        warned_at: float | None = None,
    ) -> str:
        """Take an accepted backup back from the triggerer, with its job if a list has named it."""
        from airflow_provider_azbackup.core.model.resources import JobRef, OperationRef
        from airflow_provider_azbackup.core.start.intent import StartRecord

        accepted = self._dropped(context) if record is None else StartRecord.from_dict(record)
        if accepted is None or self.is_stale(context, try_number):
            return self.execute(context)
        self._warned_at = warned_at
        told = event.get("job_id") if isinstance(event, dict) and event.get("version") == 1 else None
        target = JobRef.parse(told) if told else accepted.target
        with self.hook() as hook:
            self._be_ready_to_cancel(context, hook)
            task_state = TaskState(context, self.retries)
            self._save(task_state, accepted)
            try:
                is_named = isinstance(target, OperationRef)
                ref = (
                    hook.wait_for_operation(target, self.noun) if isinstance(target, OperationRef) else target
                )
            except (
                AzureBackupBusyError,
                AzureBackupLimitError,
                AzureBackupTransientError,
                AzureBackupUnconfirmedStartError,
            ) as error:
                self.log.info("%s", error)
                ref = None
            except AzureBackupRefusedError:
                self._save(task_state, None)
                raise
            if ref is not None:
                started_by: StartedBy = "this task" if is_named else "found"
                self._save(task_state, replace(accepted, job=ref.path, started_by=started_by))
                self.log.info("The %s is job %s", self.noun, ref.job_id)
                wait = Wait(since=accepted.since, attempt_began=accepted.attempt_began, started_by=started_by)
                return self._await(context, hook, ref, wait, None, self._quiet("vm"))
        return self._start(context, accepted, since=accepted.since, attempt_began=accepted.attempt_began)

    def _dropped(self, context: Context) -> StartRecord | None:
        """Return what a task noted before it was deferred, where the resume was handed nothing.

        ``dag.test()`` of Airflow 3.3.2 passes on the event alone.
        """
        task_state = TaskState(context, self.retries)
        return (
            task_state.record
            if task_state.record and task_state.record.attempt == task_state.attempt
            else None
        )

    def on_kill(self) -> None:
        """Cancel the job of a running task, if ``cancel_on_kill`` asks for it and a person ended the task."""
        if self._kill:
            self._kill.run()

    def _start(
        self,
        context: Context,
        record: StartRecord | None = None,
        *,
        since: float | None = None,
        attempt_began: float | None = None,
        batch_lookup: bool = False,
    ) -> str:
        """Find or start the job and wait for it.

        :param record: of a request that Azure has accepted.
        :param since: Unix time the wait began; None when it begins now.
        :param attempt_began: Unix time by Azure's clock at which this attempt had begun, where that is known.
        """
        with self.hook() as hook:
            self._be_ready_to_cancel(context, hook)
            task_state = TaskState(context, self.retries)
            if task_state.is_foreign:
                self.log.warning(
                    "An earlier try has left a record that this release of airflow-provider-azbackup cannot "
                    "read, perhaps a newer one's; looking for its %s among Azure's jobs instead",
                    self.noun,
                )
            while True:
                intent = self._intent(context, hook, task_state, attempt_began, since)
                since = intent.now if since is None else since
                self._check_time(intent, since, context)
                found = self.unless_fresh and self._fresh_enough(context, hook, task_state, intent)
                if found:
                    return found
                started = hook.start_or_adopt(
                    intent,
                    record or task_state.record,
                    save=partial(self._save, task_state),
                    log=self.log.info,
                    batch_lookup=batch_lookup,
                )
                if not self._waited(context, hook, started, since):
                    return self._go_on(context, hook, started, since)
                record, attempt_began = None, started.attempt_began

    def _fresh_enough(
        self, context: Context, hook: TaskHook, task_state: TaskState, intent: Intent
    ) -> str | None:
        """Return the id of a job that makes another one unnecessary; None when there is none."""
        raise NotImplementedError

    def _go_on(self, context: Context, hook: TaskHook, started: StartedJob, since: float) -> str:
        if started.recovery_point:
            context["ti"].xcom_push(key="recovery_point", value=started.recovery_point)
            for flaw in started.recovery_point.get("passed_over", ()):
                self.log.warning("Not restored from %s", flaw)
        # A job that an earlier try has started is waited for since then.
        wait = Wait(
            since=min(since, started.since),
            attempt_began=started.attempt_began,
            started_by=started.started_by,
        )
        if started.ref is None:
            self._leave(context, started)
        # Nothing is known of when a job that was found is to end.
        quiet = self._quiet(started.workload) if started.workload else 0.0
        return self._await(context, hook, started.ref, wait, started.ended, quiet)

    def _leave(self, context: Context, started: StartedJob) -> NoReturn:
        """Let the triggerer find the job, together with those of all others that begin now."""
        from airflow_provider_azbackup.triggers import AzureBackupStartTrigger

        assert started.record is not None
        record, deadline = started.record.to_dict(), self.deadline(context, started.since)
        self.log.info("Many backups are starting, so the triggerer looks up their jobs together")
        self.defer(
            trigger=AzureBackupStartTrigger(
                record=record,
                azure_backup_conn_id=self.azure_backup_conn_id,
                deadline=deadline,
            ),
            method_name="execute_found",
            kwargs={"record": record, "try_number": context["ti"].try_number, **self.late_state()},
            timeout=self.backstop(deadline),
        )

    def _waited(self, context: Context, hook: TaskHook, started: StartedJob, since: float) -> bool:
        """Wait for what is in the way, so that Azure can be asked again; False if nothing is in the way."""
        if started.other:
            self._wait_out(context, hook, started.other, since, started.attempt_began)
        elif started.obstacle:
            self._ask_later(context, started.obstacle, since, started.attempt_began)
        else:
            return False
        return True

    def _wait_out(
        self, context: Context, hook: TaskHook, other: Job, since: float, attempt_began: float
    ) -> None:
        """Wait until a job is over that this task did not start, however it ends; it is never cancelled.

        :raises AzureBackupTimeoutError: when it still runs at the deadline of the task.
        """
        deadline = self.deadline(context, since)
        if not other.is_running:
            clock.current().sleep(_BREATH)  # Azure may take a moment to let go of it
            return
        if self.deferrable and clock.current().now() < deadline:
            self.wait_in_triggerer(
                context,
                other.ref,
                poll_interval=self.poll_interval,
                since=since,
                deadline=deadline,
                waiting_for=f"the end of another {self.noun} of {self.protected_item}",
                method_name="execute_after_other",
                kwargs={"attempt_began": attempt_began},
            )
        try:
            hook.watch_job(
                other.ref,
                poll_interval=self.poll_interval,
                deadline=deadline,
                on_read=lambda *_: self.check_late(context),
            )
        except AzureBackupTimeoutError as error:
            self._in_the_way(error, error.job)

    def _ask_later(
        self, context: Context, obstacle: AzureBackupRefusedError, since: float, attempt_began: float
    ) -> None:
        """Wait until Azure may accept the request that it has refused for now.

        :param obstacle: why it has.
        :raises AzureBackupLimitError: when a limit lasts longer than the task may take.
        :raises AzureBackupTimeoutError: when the time of the task is up.
        """
        now, deadline = clock.current().now(), self.deadline(context, since)
        why = str(obstacle).rstrip(".")
        delay = obstacle.retry_after or min(now - since, _LONGEST_DELAY)
        at = now + max(delay, _SHORTEST_DELAY)
        if isinstance(obstacle, AzureBackupLimitError) and at >= deadline:
            raise type(obstacle)(
                f"{why}. Azure may accept the {self.noun} at {iso_time(at)}, after this task would have "
                f"given up ({iso_time(deadline)}): retry it then, or give it a longer timeout",
                **vars(obstacle),
            )
        # Tasks that were refused together must not come back together.
        at = min(now + (at - now) * random.uniform(1.0, 1.1), deadline - _LAST_REQUEST)
        if at <= now:
            self._in_the_way(
                AzureBackupTimeoutError(f"the wait is over after {now - since:.0f} s: {why}"), obstacle.job
            )
        self.log.info(
            "%s. Waiting until %s, then asking again; this task gives up at %s",
            why,
            iso_time(at),
            iso_time(deadline),
        )
        self.show_wait(context, why, until=at)
        if self.deferrable:
            from airflow_provider_azbackup.triggers import AzureBackupPauseTrigger

            self.defer(
                trigger=AzureBackupPauseTrigger(azure_backup_conn_id=self.azure_backup_conn_id, deadline=at),
                method_name="execute_again",
                kwargs={
                    "since": since,
                    "try_number": context["ti"].try_number,
                    "attempt_began": attempt_began,
                },
                timeout=self.backstop(at),
            )
        clock.current().sleep(at - now)

    def _check_time(self, intent: Intent, since: float, context: Context) -> None:
        """Start nothing once the time is up that was spent on waiting for another job.

        :raises AzureBackupTimeoutError: then.
        """
        if since < intent.now and intent.now >= self.deadline(context, since):
            self._in_the_way(
                AzureBackupTimeoutError(f"the wait is over after {intent.now - since:.0f} s"), None
            )

    def _in_the_way(self, error: AzureBackupError, job: dict[str, Any] | None) -> NoReturn:
        raise AzureBackupTimeoutError(
            f"{error}. This task has started no {self.noun} of {self.protected_item}, because another one "
            f"that it did not start was in the way",
            job=job,
        ) from None

    def _elsewhere(self) -> str:
        """Return a storage account that the job may carry instead of the item's own."""
        return ""

    def _check_options(self, kind: str | None) -> None:
        """Refuse what a type of vault does not know.

        :param kind: the type; None when it is not known yet.
        :raises AzureBackupConfigError: naming the arguments.
        """
        check_vault_options(
            kind,
            cancels=self._given(cancel_on_kill=self.cancel_on_kill, cancel_on_timeout=self.cancel_on_timeout),
            other_vaults=[],
            rules=[],
        )

    def _given(self, **arguments: Any) -> list[str]:
        """Return the names of the arguments that ask for something, as an error shows them."""
        # A template may come to nothing; it is looked at once it is rendered.
        wished = {name: value for name, value in arguments.items() if "{{" not in str(value)}
        return [f"{name} of task {self.task_id!r}" for name, value in wished.items() if value]

    def _be_ready_to_cancel(self, context: Context, hook: TaskHook) -> None:
        self._check_options(hook.type_of(str(self.job_id or self.protected_item)))
        self._kill = CancelOnKill(self, context, hook, self.noun) if self.cancel_on_kill else None

    def _quiet(self, kind: str) -> float:
        """Return the seconds in which there is nothing to see of a job that was just started."""
        return self.first_looks.get(kind, 2.0) * self.poll_interval

    def _intent(
        self,
        context: Context,
        hook: TaskHook,
        task_state: TaskState,
        attempt_began: float | None,
        since: float | None,
    ) -> Intent:
        """Return what this task wants.

        :param attempt_began: Unix time by Azure's clock at which this attempt had begun; None when it begins
            now.
        :param since: Unix time the wait began; None when it begins now.
        """
        raise NotImplementedError

    def _wanted(
        self,
        context: Context,
        hook: TaskHook,
        task_state: TaskState,
        attempt_began: float | None,
        since: float | None,
    ) -> dict[str, Any]:
        """Return what any intent of this task holds."""
        now = clock.current().now()
        # What the task has waited already is part of its time.
        left = max(0.0, self.deadline(context, now if since is None else since) - now)
        return {
            "item": hook.resolve_protected_item(
                str(self.protected_item), patience=left, secondary_region=self.secondary_region
            ),
            "attempt": task_state.attempt,
            "now": now,
            "timeout": left,
            "attempt_began": attempt_began,
            "is_blind": task_state.is_blind and context["ti"].try_number > 1,
            "if_running": self.if_running,
            "accept_warnings": self.accept_warnings,
        }

    def _save(self, task_state: TaskState, record: StartRecord | None) -> None:
        if self._kill:  # first: Airflow may be asking to end in this moment
            ours = record is not None and record.started_by == "this task"
            self._kill.target = record.target if record and ours else None
        task_state.save(record)

    def _await(
        self,
        context: Context,
        hook: TaskHook,
        ref: JobRef,
        wait: Wait,
        job: Job | None,
        nothing_for: float = 0.0,
    ) -> str:
        self.announce(context, hook, ref)
        if not self.wait_for_completion:
            return ref.job_id
        deadline = self.deadline(context, wait.since)
        if job is None:
            if self.deferrable and clock.current().now() < deadline:
                self.wait_in_triggerer(
                    context,
                    ref,
                    poll_interval=self.poll_interval,
                    since=wait.since,
                    deadline=deadline,
                    first_pause=nothing_for,
                    cancel_on_kill=self.cancel_on_kill and wait.is_ours,
                    wait_until=self.wait_until,
                    kwargs={
                        "job_id": ref.path,
                        "attempt_began": wait.attempt_began,
                        "started_by": wait.started_by,
                    },
                )
            try:
                job = hook.watch_job(
                    ref,
                    poll_interval=self.poll_interval,
                    deadline=deadline,
                    wait_until=self.wait_until,
                    on_read=partial(self.check_late, context),
                )
            except AzureBackupTimeoutError as error:
                return self._give_up(context, hook, ref.path, wait, error)
        return self._finish(context, job, wait)

    def _finish(self, context: Context, job: Job, wait: Wait) -> str:
        if job.obstacle and self.protected_item is not None:
            return self._join(context, job, wait)
        try:
            # A job that a list has shown counts only if it began after this attempt did.
            after = (
                wait.attempt_began - _SECONDS if wait.started_by == "found" and self.protected_item else 0.0
            )
            opens = self.judge(
                context,
                job,
                self.protected_item,
                elsewhere=self._elsewhere(),
                after=after,
                since=wait.since,
                started_by=wait.started_by,
                attempt_began=wait.attempt_began,
                handed={
                    "job_id": job.ref.path,
                    "since": wait.since,
                    "attempt_began": wait.attempt_began,
                    "started_by": wait.started_by,
                },
            )
        except (AzureBackupRecoveryPointError, AzureBackupWrongJobError):
            TaskState(context, self.retries).save(None)  # so that a retry takes another backup
            raise
        if not opens:
            raise AzureBackupTimeoutError(f"the wait ended while the job still runs: {job}", job=job.facts())
        self.log.info("Azure Backup %s", job.summary())
        self.publish(context, job)
        return job.ref.job_id

    def _join(self, context: Context, failed: Job, wait: Wait) -> str:
        """Go on after a job that Azure did not carry out for now."""
        with self.hook() as hook:
            self._be_ready_to_cancel(context, hook)
            task_state = TaskState(context, self.retries)
            intent = self._intent(context, hook, task_state, wait.attempt_began, wait.since)
            try:
                started = hook.resume_after_obstacle(
                    intent, failed, save=partial(self._save, task_state), log=self.log.info
                )
            except AzureBackupBusyError:
                context["ti"].xcom_push(key="job", value=failed.facts())
                raise
            if not self._waited(context, hook, started, wait.since):
                return self._go_on(context, hook, started, wait.since)
        return self._start(context, since=wait.since, attempt_began=wait.attempt_began)

    def _give_up(
        self,
        context: Context,
        hook: TaskHook,
        job_id: str | None,
        wait: Wait,
        error: AzureBackupError,
    ) -> str:
        if not (self.cancel_on_timeout and wait.is_ours and job_id):
            self.overdue(context, error)
        try:
            job = hook.stop_job(job_id, deadline=clock.current().now() + _STOP_LIMIT)
        except AzureBackupError as refusal:
            self.overdue(context, error, f"It goes on in Azure, which did not cancel it: {refusal}")
        if job.is_running:
            fate = f"Azure was asked to cancel it, as cancel_on_timeout says: {job.status}"
            self.overdue(context, error, fate)
        return self._finish(context, job, wait)  # it ended in the last moment

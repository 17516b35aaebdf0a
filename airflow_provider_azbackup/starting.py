"""What the operators that start a job have in common: secure it, wait for it, give it up, cancel it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NoReturn

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_azbackup import clock
from airflow_provider_azbackup.core.names import (
    AcceptWarnings,
    check_vault_options,
    check_vault_type,
    read_warnings,
)
from airflow_provider_azbackup.exceptions import (
    AzureBackupBusyError,
    AzureBackupConfigError,
    AzureBackupError,
    AzureBackupRecoveryPointError,
    AzureBackupTimeoutError,
    AzureBackupWrongJobError,
)
from airflow_provider_azbackup.kill import Kill
from airflow_provider_azbackup.links import AzureBackupJobLink, AzureBackupVaultLink
from airflow_provider_azbackup.memory import Memory
from airflow_provider_azbackup.waiting import JobWait, check_booleans, check_literal, check_seconds

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_azbackup.core.adoption import Intent, Note, Secured
    from airflow_provider_azbackup.core.jobs import Job
    from airflow_provider_azbackup.core.resources import JobRef
    from airflow_provider_azbackup.hooks import AzureBackupHook

# Seconds a worker spends on cancelling what took too long.
_STOP_LIMIT = 120.0


class StartOperator(JobWait, BaseOperator):
    """Starts one job for one intent, through retries and Clears, and waits for a proven end.

    The parameters are explained where operators pass them on.
    """

    operator_extra_links = (AzureBackupJobLink(), AzureBackupVaultLink())
    ui_color = "#d6eaf8"

    noun: ClassVar[str]
    # How many poll intervals a job that was just started needs no look, by kind of item; else two.
    first_looks: ClassVar[Mapping[str, float]]

    protected_item: str | None
    job_id: str | None = None

    def __init__(
        self,
        *,
        vault_name: str | None,
        resource_group_name: str | None,
        subscription_id: str | None,
        vault_type: str | None,
        wait_for_completion: bool,
        deferrable: bool,
        poll_interval: float,
        timeout: float,
        if_running: Literal["adopt", "fail"],
        cancel_on_kill: bool,
        cancel_on_timeout: bool,
        accept_warnings: AcceptWarnings,
        azure_backup_conn_id: str,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_seconds(self.task_id, poll_interval=poll_interval, timeout=timeout)
        check_booleans(
            self.task_id,
            wait_for_completion=wait_for_completion,
            deferrable=deferrable,
            cancel_on_kill=cancel_on_kill,
            cancel_on_timeout=cancel_on_timeout,
        )
        read_warnings(f"accept_warnings of task {self.task_id!r}", accept_warnings)
        check_literal(vault_type, check_vault_type)
        if if_running not in ("adopt", "fail"):
            raise AzureBackupConfigError(
                f"task {self.task_id!r}: if_running is {if_running!r}; expected 'adopt' or 'fail'"
            )
        self.vault_name = vault_name
        self.resource_group_name = resource_group_name
        self.subscription_id = subscription_id
        self.vault_type = vault_type
        self.wait_for_completion = wait_for_completion
        self.deferrable = deferrable
        self.poll_interval = poll_interval
        self.timeout = timeout
        self.if_running = if_running
        self.cancel_on_kill = cancel_on_kill
        self.cancel_on_timeout = cancel_on_timeout
        self.accept_warnings = accept_warnings
        self.azure_backup_conn_id = azure_backup_conn_id
        self._kill: Kill | None = None

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
    ) -> str:
        """Take the wait back from the triggerer: success only for a proven end."""
        if self.is_stale(context, try_number):
            return self.execute(context)
        since = clock.current().now() if since is None else since
        try:
            job = self.resume(context, event, job_id)
        except AzureBackupTimeoutError as error:
            with self.hook() as hook:
                return self._give_up(context, hook, job_id, since, error)
        return self._finish(context, job, since)

    def on_kill(self) -> None:
        """Cancel the job of a running task, if ``cancel_on_kill`` asks for it and a person ended the task."""
        if self._kill:
            self._kill.run()

    def _secure(self, context: Context, note: Note | None = None, *, may_leave: bool = False) -> str:
        with self.hook() as hook:
            self._be_ready_to_cancel(context, hook)
            memory = Memory(context)
            if memory.is_foreign:
                self.log.warning(
                    "An earlier try has left a note that this release of airflow-provider-azbackup cannot "
                    "read, a newer one's perhaps; looking for its %s among Azure's jobs instead",
                    self.noun,
                )
            secured = hook.secure_job(
                self._intent(context, hook, memory),
                note or memory.note,
                remember=partial(self._remember, memory),
                tell=self.log.info,
                may_leave=may_leave,
            )
            if secured.point:
                context["ti"].xcom_push(key="recovery_point", value=secured.point)
                for flaw in secured.point.get("passed_over", ()):
                    self.log.warning("Not restored from %s", flaw)
            if secured.ref is None:
                self._leave(context, secured)
            quiet = 0.0 if secured.adopted else self._quiet(secured.kind)
            return self._await(context, hook, secured.ref, secured.since, secured.over, quiet)

    def _elsewhere(self) -> str:
        """Return a storage account that the job may carry instead of the item's own."""
        return ""

    def _leave(self, context: Context, secured: Secured) -> NoReturn:
        """Let the triggerer find the job; only who allows it has to."""
        raise NotImplementedError

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
        """Return the names of the arguments that ask for something, as an error tells them."""
        # A template may come to nothing; it is looked at once it is rendered.
        wished = {name: value for name, value in arguments.items() if "{{" not in str(value)}
        return [f"{name} of task {self.task_id!r}" for name, value in wished.items() if value]

    def _be_ready_to_cancel(self, context: Context, hook: AzureBackupHook) -> None:
        self._check_options(hook.type_of(str(self.job_id or self.protected_item)))
        self._kill = Kill(self, context, hook, self.noun) if self.cancel_on_kill else None

    def _quiet(self, kind: str) -> float:
        """Return the seconds in which there is nothing to see of a job that was just started."""
        return self.first_looks.get(kind, 2.0) * self.poll_interval

    def _intent(self, context: Context, hook: AzureBackupHook, memory: Memory) -> Intent:
        """Return what this task wants."""
        raise NotImplementedError

    def _wanted(self, context: Context, hook: AzureBackupHook, memory: Memory) -> dict[str, Any]:
        """Return what any intent of this task holds."""
        ti, now = context["ti"], clock.current().now()
        # A try that knows nothing of the one before takes for its job what began since the run did.
        blind = ti.try_number > 1 and memory.is_blind
        began = context["dag_run"].start_date if blind else None
        return {
            "item": hook.resolve_protected_item(str(self.protected_item)),
            "attempt": ti.max_tries,
            "now": now,
            "timeout": self.timeout,
            "earlier": began.timestamp() if began else None,
            "adopt_others": self.if_running == "adopt",
            "accept_warnings": self.accept_warnings,
        }

    def _remember(self, memory: Memory, note: Note | None) -> None:
        if self._kill:  # first: Airflow may be asking to end in this moment
            self._kill.target = note.target if note else None
        memory.keep(note)

    def _await(
        self,
        context: Context,
        hook: AzureBackupHook,
        ref: JobRef,
        since: float,
        job: Job | None,
        nothing_for: float = 0.0,
    ) -> str:
        self.announce(context, hook, ref)
        if not self.wait_for_completion:
            return ref.job_id
        deadline = self.deadline(context, since)
        if job is None:
            if self.deferrable and clock.current().now() < deadline:
                self.wait_in_triggerer(
                    context,
                    ref,
                    poll_interval=self.poll_interval,
                    since=since,
                    deadline=deadline,
                    first_pause=nothing_for,
                    cancel_on_kill=self.cancel_on_kill,
                )
            try:
                job = hook.watch_job(
                    ref.path, poll_interval=self.poll_interval, deadline=deadline, wait_for=self.wait_for
                )
            except AzureBackupTimeoutError as error:
                return self._give_up(context, hook, ref.path, since, error)
        return self._finish(context, job, since)

    def _finish(self, context: Context, job: Job, since: float) -> str:
        if job.met_another and self.protected_item is not None:
            return self._join(context, job, since)
        try:
            opens = self.settle(context, job, self.protected_item, elsewhere=self._elsewhere(), since=since)
        except (AzureBackupRecoveryPointError, AzureBackupWrongJobError):
            Memory(context).keep(None)  # so that a retry takes another backup
            raise
        if not opens:
            raise AzureBackupTimeoutError(f"the wait ended while the job still runs: {job}", job=job.facts())
        self.log.info("Azure Backup %s", job.story())
        self.publish(context, job)
        return job.ref.job_id

    def _join(self, context: Context, failed: Job, since: float) -> str:
        """Wait for the job of the same kind that was in the way of ours."""
        with self.hook() as hook:
            memory = Memory(context)
            intent = self._intent(context, hook, memory)
            other = hook.find_other(intent, failed) if self.if_running == "adopt" else None
            if other is None:
                context["ti"].xcom_push(key="job", value=failed.facts())
                raise AzureBackupBusyError(
                    f"Azure made no {self.noun} of {intent.item.name} beside another job of it: {failed}",
                    code=next((error.title for error in failed.errors), None),
                    job=failed.facts(),
                )
            self.log.info("%s failed because of another; waiting for that: %s", failed, other)
            self._remember(memory, intent.note(other.ref, since))
            return self._await(context, hook, other.ref, since, None if other.is_running else other)

    def _give_up(
        self,
        context: Context,
        hook: AzureBackupHook,
        job_id: str | None,
        since: float,
        error: AzureBackupError,
    ) -> str:
        if not (self.cancel_on_timeout and job_id):
            self.overdue(context, error)
        try:
            job = hook.stop_job(job_id, deadline=clock.current().now() + _STOP_LIMIT)
        except AzureBackupError as refusal:
            self.overdue(context, error, f"It goes on in Azure, which did not cancel it: {refusal}")
        if job.is_running:
            fate = f"Azure was asked to cancel it, as cancel_on_timeout says: {job.status}"
            self.overdue(context, error, fate)
        return self._finish(context, job, since)  # it ended in the last moment

"""Start an on-demand backup, or take a job id, and let downstream tasks run only behind a proven backup."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from airflow.providers.common.compat.sdk import BaseOperator, conf

from airflow_provider_azbackup import clock
from airflow_provider_azbackup.core.names import (
    DATA_PROTECTION,
    check_backup_type,
    check_item,
    check_vault_options,
    check_vault_type,
    refuse_cancel,
    split_job_id,
    told_type,
)
from airflow_provider_azbackup.exceptions import (
    AzureBackupBusyError,
    AzureBackupConfigError,
    AzureBackupError,
    AzureBackupRefusedError,
    AzureBackupTimeoutError,
    AzureBackupUnconfirmedStartError,
)
from airflow_provider_azbackup.kill import Kill
from airflow_provider_azbackup.links import AzureBackupJobLink, AzureBackupVaultLink
from airflow_provider_azbackup.memory import Memory
from airflow_provider_azbackup.waiting import JobWait, check_literal, check_seconds

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_azbackup.core.adoption import Intent, Note, Secured
    from airflow_provider_azbackup.core.jobs import Job
    from airflow_provider_azbackup.core.resources import JobRef
    from airflow_provider_azbackup.hooks import AzureBackupHook

# How many poll intervals a backup that was just started needs no look: a VM's was never seen to take less
# than a quarter of an hour, a database's two minutes; a file share's may be over in seconds. What a Backup
# vault keeps takes a minute and a half at least, as far as recorded.
_FIRST_LOOK = {"vm": 5.0, "azurefileshare": 0.0, "backupinstance": 1.5}
# Seconds a worker spends on cancelling what took too long.
_STOP_LIMIT = 120.0


class AzureBackupOperator(JobWait, BaseOperator):
    """Backs up one protected item, or takes a job somebody else started, and waits for a proven backup.

    One intent makes one backup: a retry takes up the backup that an earlier try has started, and so does a
    Clear while it runs; a Clear after its end takes a new one. On Airflow 3.3 and later a note in the task
    state store tells which backup that is; on earlier releases a running backup of the item is taken for it.

    Returns the job id. Pushes XComs: ``job_id`` before the wait, ``job`` (a dict of facts: status, outcome,
    item, times, errors, tasks, sizes) at its end, good or bad, and the portal links of job and vault.

    :param protected_item: what to back up: ARM id of the protected item, ARM id of the virtual machine or of
        the file share, or a friendly name; in a Backup vault ARM id, name or friendly name of the backup
        instance. Exactly one of this and ``job_id``.
    :param job_id: a job that already runs: GUID or ARM id.
    :param vault_name: the vault, instead of the connection's.
    :param resource_group_name: its resource group, instead of the connection's.
    :param subscription_id: its subscription, instead of the connection's.
    :param vault_type: ``RecoveryServices``, or ``DataProtection`` for a Backup vault, instead of the
        connection's. An ARM id tells it by itself.
    :param rule_name: for a Backup vault: the backup rule to follow; default: the one that the instance's
        policy has.
    :param retention_tag: for a Backup vault: the tag that says how long the backup is kept; default: the
        rule's own.
    :param recovery_point_expiry: when Azure may delete the recovery point: a datetime, ISO 8601 text, or a
        timedelta from the start of the task. Default: Azure's, 30 days for a VM, the policy's for a database.
    :param backup_type: ``Full``; for SQL and SAP HANA also ``Differential``, ``Log``, ``CopyOnlyFull``,
        ``Incremental``, ``SnapshotFull``, ``SnapshotCopyOnlyFull``, where the workload knows them.
    :param enable_compression: for SQL and SAP HANA; default: the policy's.
    :param wait_for_completion: False ends the task as soon as the job id is known, proving nothing.
    :param deferrable: wait in the triggerer, without holding a worker slot. Default: Airflow's
        ``[operators] default_deferrable``.
    :param poll_interval: seconds between two looks at the job. Azure grants about 150 looks an hour and
        subscription, to everybody together.
    :param timeout: seconds from the start of the backup, through retries that take it up; Airflow's
        ``execution_timeout`` ends the wait as well, deferred or not.
    :param if_running: what to do about a running backup of the item that somebody else has started:
        ``adopt`` waits for that one, ``fail`` raises. Azure runs one backup of an item at a time.
    :param cancel_on_kill: ask Azure to cancel the job when a person marks the running or deferred task as
        failed, succeeded or skipped. A Clear, a restart and a hand-over never cancel.
    :param cancel_on_timeout: ask Azure to cancel the job when the wait for it has taken too long. Neither is
        for Backup vaults: nobody can cancel a job there.
    :param accept_warnings: let a job pass that ended ``CompletedWithWarnings``. For a VM that means a
        snapshot exists, but it never reached the vault.
    :param azure_backup_conn_id: connection of type ``azure_backup``, or an existing one of type ``azure``.
    :raises AzureBackupConfigError: at construction, for both or none of item and job id, bad numbers, and
        what the type of vault does not know; before any request where only the connection tells the type.
    :raises AzureBackupJobFailedError: when the job is over and proves no backup; a retry takes a new backup.
    :raises AzureBackupTimeoutError: when the job still runs after ``timeout`` seconds.
    :raises AzureBackupBusyError: when another backup of the item is in the way.
    :raises AzureBackupUnconfirmedStartError: when a request's answer was lost, and what Azure shows does not
        tell whether a backup was started.

    Source: https://learn.microsoft.com/azure/backup/backup-azure-arm-userestapi-backupazurevms
    """

    template_fields: Sequence[str] = (
        "protected_item",
        "job_id",
        "vault_name",
        "resource_group_name",
        "subscription_id",
        "vault_type",
        "recovery_point_expiry",
        "backup_type",
        "rule_name",
        "retention_tag",
        "azure_backup_conn_id",
    )
    operator_extra_links = (AzureBackupJobLink(), AzureBackupVaultLink())
    ui_color = "#d6eaf8"

    def __init__(
        self,
        *,
        protected_item: str | None = None,
        job_id: str | None = None,
        vault_name: str | None = None,
        resource_group_name: str | None = None,
        subscription_id: str | None = None,
        vault_type: str | None = None,
        recovery_point_expiry: datetime | timedelta | str | None = None,
        backup_type: str = "Full",
        enable_compression: bool | None = None,
        rule_name: str | None = None,
        retention_tag: str | None = None,
        wait_for_completion: bool = True,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poll_interval: float = 60.0,
        timeout: float = 24 * 3600.0,
        if_running: Literal["adopt", "fail"] = "adopt",
        cancel_on_kill: bool = False,
        cancel_on_timeout: bool = False,
        accept_warnings: bool = False,
        azure_backup_conn_id: str = "azure_backup_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if (protected_item is None) == (job_id is None):
            raise AzureBackupConfigError(
                f"task {self.task_id!r} was given {'neither' if job_id is None else 'both'} of "
                f"protected_item and job_id; give exactly one"
            )
        check_seconds(self.task_id, poll_interval=poll_interval, timeout=timeout)
        if if_running not in ("adopt", "fail"):
            raise AzureBackupConfigError(
                f"task {self.task_id!r}: if_running is {if_running!r}; expected 'adopt' or 'fail'"
            )
        check_literal(backup_type, check_backup_type)
        check_literal(recovery_point_expiry, lambda text: read_expiry(text, 0.0))
        check_literal(job_id, split_job_id)
        check_literal(protected_item, check_item)
        check_literal(vault_type, check_vault_type)
        self.protected_item = protected_item
        self.job_id = job_id
        self.vault_name = vault_name
        self.resource_group_name = resource_group_name
        self.subscription_id = subscription_id
        self.vault_type = vault_type
        self.recovery_point_expiry = recovery_point_expiry
        self.backup_type = backup_type
        self.enable_compression = enable_compression
        self.rule_name = rule_name
        self.retention_tag = retention_tag
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
        self._check_options(told_type(vault_type, protected_item, job_id))

    def _check_options(self, kind: str | None) -> None:
        """Refuse what a type of vault does not know.

        :raises AzureBackupConfigError: naming the arguments.
        """

        def given(**arguments: Any) -> list[str]:
            # A template may come to nothing; it is looked at once it is rendered.
            wished = {name: value for name, value in arguments.items() if "{{" not in str(value)}
            return [f"{name} of task {self.task_id!r}" for name, value in wished.items() if value]

        check_vault_options(
            kind,
            cancels=given(cancel_on_kill=self.cancel_on_kill, cancel_on_timeout=self.cancel_on_timeout),
            other_vaults=given(
                backup_type=self.backup_type if self.backup_type != "Full" else None,
                enable_compression=self.enable_compression is not None,
                recovery_point_expiry=self.recovery_point_expiry,
            ),
            rules=given(rule_name=self.rule_name, retention_tag=self.retention_tag),
        )

    def execute(self, context: Context) -> str:
        """Find or start the backup, or take the job, say which it is, and wait for it as asked."""
        if self.job_id is None:
            # What a list shows may be another's, if both began in the same second.
            adopts = self.if_running == "adopt"
            return self._secure(context, may_leave=adopts and self.deferrable and self.wait_for_completion)
        with self.hook() as hook:
            self._be_ready_to_cancel(context, hook)
            ref = hook.job_ref(self.job_id)
            if self._kill:
                self._kill.target = ref
            return self._await(context, hook, ref, clock.current().now(), None)

    def execute_found(self, context: Context, event: Any, note: Any, try_number: int) -> str:
        """Take an accepted backup back from the triggerer, with its job if a list has told it."""
        from airflow_provider_azbackup.core.adoption import Note
        from airflow_provider_azbackup.core.resources import JobRef, OperationRef

        accepted = Note.from_dict(note)
        if accepted is None or self.is_stale(context, try_number):
            return self.execute(context)
        told = event.get("job_id") if isinstance(event, dict) and event.get("version") == 1 else None
        target = JobRef.parse(told) if told else accepted.target
        with self.hook() as hook:
            self._be_ready_to_cancel(context, hook)
            memory = Memory(context)
            self._remember(memory, accepted)
            try:
                ref = hook.wait_for_operation(target) if isinstance(target, OperationRef) else target
            except (AzureBackupBusyError, AzureBackupUnconfirmedStartError) as error:
                self.log.info("%s", error)
                ref = None
            except AzureBackupRefusedError:
                self._remember(memory, None)
                raise
            if ref is not None:
                self._remember(memory, replace(accepted, job=ref.path))
                self.log.info("The backup is job %s", ref.job_id)
                return self._await(context, hook, ref, accepted.since, None, self._quiet("vm"))
        return self._secure(context, accepted)

    def execute_complete(
        self,
        context: Context,
        event: Any = None,
        job_id: str | None = None,
        since: float | None = None,
        try_number: int | None = None,
    ) -> str:
        """Take the wait back from the triggerer: success only for a job that proves a backup."""
        if self.is_stale(context, try_number):
            return self.execute(context)
        since = clock.current().now() if since is None else since
        try:
            job = self.resume(context, event)
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
            secured = hook.secure_backup(
                self._intent(context, hook, memory),
                note or memory.note,
                remember=partial(self._remember, memory),
                tell=self.log.info,
                may_leave=may_leave,
            )
            if secured.ref is None:
                self._leave(context, secured)
            quiet = 0.0 if secured.adopted else self._quiet(secured.kind)
            return self._await(context, hook, secured.ref, secured.since, secured.over, quiet)

    def _leave(self, context: Context, secured: Secured) -> NoReturn:
        """Let the triggerer find the job, together with those of all others that begin now."""
        from airflow_provider_azbackup.triggers import AzureBackupStartTrigger

        assert secured.note is not None
        note, deadline = secured.note.to_dict(), self.deadline(context, secured.since)
        self.log.info("Many backups begin now; the triggerer finds the jobs of all of them")
        self.defer(
            trigger=AzureBackupStartTrigger(
                note=note,
                azure_backup_conn_id=self.azure_backup_conn_id,
                deadline=deadline,
                cancel_on_kill=self.cancel_on_kill,
            ),
            method_name="execute_found",
            kwargs={"note": note, "try_number": context["ti"].try_number},
            timeout=self.backstop(deadline),
        )

    def _be_ready_to_cancel(self, context: Context, hook: AzureBackupHook) -> None:
        self._check_options(hook.type_of(str(self.job_id or self.protected_item)))
        self._kill = Kill(self, context, hook) if self.cancel_on_kill else None

    def _quiet(self, kind: str) -> float:
        """Return the seconds in which there is nothing to see of a backup that was just started."""
        return _FIRST_LOOK.get(kind, 2.0) * self.poll_interval

    def _intent(self, context: Context, hook: AzureBackupHook, memory: Memory) -> Intent:
        from airflow_provider_azbackup.core import adoption, calls

        ti, now = context["ti"], clock.current().now()
        item = hook.resolve_protected_item(str(self.protected_item))
        # A try that knows nothing of the one before takes for its backup what began since the run did.
        blind = ti.try_number > 1 and memory.is_blind
        began = context["dag_run"].start_date if blind else None
        return adoption.Intent(
            item=item,
            body=calls.backup_request(
                item,
                backup_type=self.backup_type,
                enable_compression=self.enable_compression,
                recovery_point_expiry=read_expiry(self.recovery_point_expiry, now),
                rule_name=self.rule_name,
                retention_tag=self.retention_tag,
            ),
            attempt=ti.max_tries,
            now=now,
            timeout=self.timeout,
            earlier=began.timestamp() if began else None,
            adopt_others=self.if_running == "adopt",
            accept_warnings=self.accept_warnings,
        )

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
                job = hook.watch_job(ref.path, poll_interval=self.poll_interval, deadline=deadline)
            except AzureBackupTimeoutError as error:
                return self._give_up(context, hook, ref.path, since, error)
        return self._finish(context, job, since)

    def _finish(self, context: Context, job: Job, since: float) -> str:
        if job.met_another and self.protected_item is not None:
            return self._join(context, job, since)
        if not self.settle(context, job):
            raise AzureBackupTimeoutError(f"the wait ended while the job still runs: {job}", job=job.facts())
        self.log.info("Azure Backup %s", job)
        return job.ref.job_id

    def _join(self, context: Context, failed: Job, since: float) -> str:
        """Wait for the backup that was in the way of ours."""
        with self.hook() as hook:
            memory = Memory(context)
            intent = self._intent(context, hook, memory)
            other = hook.find_other(intent, failed) if self.if_running == "adopt" else None
            if other is None:
                context["ti"].xcom_push(key="job", value=failed.facts())
                raise AzureBackupBusyError(
                    f"Azure did not back {intent.item.name} up beside another backup of it: {failed}",
                    code=next((error.title for error in failed.errors), None),
                    job=failed.facts(),
                )
            self.log.info("%s failed because of another backup; waiting for that: %s", failed, other)
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


class AzureBackupCancelJobOperator(JobWait, BaseOperator):
    """Cancels a job of a Recovery Services vault and waits until it is over.

    Jobs of Backup vaults cannot be cancelled; one is refused before any request.

    Returns how the job ended: ``cancelled``, or, when it was over before it could be cancelled,
    ``succeeded``, ``warned`` or ``failed``. Pushes XComs: ``job_id``, ``job`` at its end, and the links. A
    job that is over is left alone, and one that is being cancelled is only waited for: a retry does no harm.

    :param job_id: GUID or ARM id of the job.
    :param vault_name: the Recovery Services vault, instead of the connection's.
    :param resource_group_name: its resource group, instead of the connection's.
    :param subscription_id: its subscription, instead of the connection's.
    :param vault_type: ``RecoveryServices``, where the connection names a Backup vault.
    :param deferrable: wait in the triggerer, without holding a worker slot. Default: Airflow's
        ``[operators] default_deferrable``.
    :param poll_interval: seconds between two looks at the job.
    :param timeout: seconds until the job must be over.
    :param azure_backup_conn_id: connection of type ``azure_backup``, or an existing one of type ``azure``.
    :raises AzureBackupRefusedError: when Azure declines to cancel and the job goes on.
    :raises AzureBackupTimeoutError: when the job still runs after ``timeout`` seconds.

    Source: https://learn.microsoft.com/rest/api/backup/job-cancellations/trigger
    """

    template_fields: Sequence[str] = (
        "job_id",
        "vault_name",
        "resource_group_name",
        "subscription_id",
        "vault_type",
        "azure_backup_conn_id",
    )
    operator_extra_links = (AzureBackupJobLink(), AzureBackupVaultLink())
    ui_color = "#d6eaf8"
    accept_warnings = True

    def __init__(
        self,
        *,
        job_id: str,
        vault_name: str | None = None,
        resource_group_name: str | None = None,
        subscription_id: str | None = None,
        vault_type: str | None = None,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poll_interval: float = 60.0,
        timeout: float = 3600.0,
        azure_backup_conn_id: str = "azure_backup_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_seconds(self.task_id, poll_interval=poll_interval, timeout=timeout)
        check_literal(job_id, split_job_id)
        check_literal(vault_type, check_vault_type)
        if told_type(vault_type, job_id) == DATA_PROTECTION:
            raise refuse_cancel(f"task {self.task_id!r}")
        self.job_id = job_id
        self.vault_name = vault_name
        self.resource_group_name = resource_group_name
        self.subscription_id = subscription_id
        self.vault_type = vault_type
        self.deferrable = deferrable
        self.poll_interval = poll_interval
        self.timeout = timeout
        self.azure_backup_conn_id = azure_backup_conn_id

    def execute(self, context: Context) -> str:
        """Ask Azure to cancel the job, and wait for its end."""
        since = clock.current().now()
        deadline = self.deadline(context, since)
        with self.hook() as hook:
            ref = hook.job_ref(self.job_id)
            if ref.vault.is_backup_vault:
                raise refuse_cancel(f"task {self.task_id!r}")
            self.announce(context, hook, ref)
            job = hook.stop_job(ref.path, deadline=deadline)
            if job.is_running:
                self.log.info("Asked Azure to cancel %s", job)
                if self.deferrable:
                    self.wait_in_triggerer(
                        context,
                        ref,
                        poll_interval=self.poll_interval,
                        since=since,
                        deadline=deadline,
                    )
                try:
                    job = hook.watch_job(ref.path, poll_interval=self.poll_interval, deadline=deadline)
                except AzureBackupTimeoutError as error:
                    self.overdue(context, error)
            return self._finish(context, job)

    def execute_complete(
        self, context: Context, event: Any = None, try_number: int | None = None, **_: Any
    ) -> str:
        """Take the wait back from the triggerer."""
        if self.is_stale(context, try_number):
            return self.execute(context)
        try:
            job = self.resume(context, event)
        except AzureBackupTimeoutError as error:
            self.overdue(context, error)
        return self._finish(context, job)

    def _finish(self, context: Context, job: Job) -> str:
        context["ti"].xcom_push(key="job", value=job.facts())
        self.log.info("Azure Backup %s", job)
        return job.outcome.value


def read_expiry(value: datetime | timedelta | str | None, now: float) -> datetime | None:
    """Read when a recovery point may be deleted.

    :param value: a moment, ISO 8601 text (UTC unless it says otherwise) or a time from now.
    :param now: Unix time.
    :raises AzureBackupConfigError: when it is no moment, or one that has passed.
    """
    if not value:
        return None
    today = datetime.fromtimestamp(now, UTC)
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        raise AzureBackupConfigError(
            f"recovery_point_expiry {value!r} is not a moment; expected ISO 8601, such as "
            f"2027-01-31T00:00:00Z"
        ) from None
    if isinstance(moment, timedelta):
        moment = today + moment
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    if moment <= today:
        raise AzureBackupConfigError(f"recovery_point_expiry {value!r} has passed; expected a later moment")
    return moment

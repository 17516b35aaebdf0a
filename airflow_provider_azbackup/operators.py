"""Operators that back up, restore, cancel a job, and list what a vault protects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from airflow.providers.common.compat.sdk import AirflowFailException, conf

from airflow_provider_azbackup.core.model.arm_ids import DATA_PROTECTION, infer_vault_type
from airflow_provider_azbackup.core.model.validation import (
    cancel_unsupported,
    check_backup_type,
    check_secondary_region,
    check_vault_options,
    check_word,
    most_similar_first,
    read_datetime,
)
from airflow_provider_azbackup.core.model.workloads import MANAGEMENT_TYPES
from airflow_provider_azbackup.exceptions import (
    AzureBackupConfigError,
    AzureBackupError,
    AzureBackupJobFailedError,
    AzureBackupNotApprovedError,
    AzureBackupNotFoundError,
    AzureBackupTimeoutError,
)
from airflow_provider_azbackup.runtime import clock
from airflow_provider_azbackup.runtime.compat import ask_person, asks_people, default_zone
from airflow_provider_azbackup.tasks.arguments import (
    check_booleans,
    check_gate,
    check_unless_templated,
    read_seconds,
)
from airflow_provider_azbackup.tasks.base import AzureBackupBaseOperator, JobBaseOperator
from airflow_provider_azbackup.tasks.expected import ExpectedBaseOperator
from airflow_provider_azbackup.tasks.start import StartBaseOperator, Wait
from airflow_provider_azbackup.tasks.state import TaskState

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_azbackup.core.conversations.checks import Action
    from airflow_provider_azbackup.core.model.jobs import Job
    from airflow_provider_azbackup.core.model.resources import ProtectedItem
    from airflow_provider_azbackup.core.model.validation import (
        IfRunning,
        WaitUntil,
    )
    from airflow_provider_azbackup.core.rest.responses import FoundItem
    from airflow_provider_azbackup.core.start.intent import Intent
    from airflow_provider_azbackup.tasks.hook import TaskHook

# How many poll intervals a backup that was just started needs no look: a VM's was never seen to take less
# than a quarter of an hour, a database's two minutes; a file share's may be over in seconds. What a Backup
# vault keeps takes a minute and a half at least, as far as recorded.
_FIRST_LOOKS = MappingProxyType({"vm": 5.0, "azurefileshare": 0.0, "backupinstance": 1.5})
# The same of a restore: a VM's was never seen to take less than a minute, a database's three, one of a Backup
# vault a minute and three quarters.
_FIRST_LOOKS_OF_RESTORES = MappingProxyType({"vm": 1.0, "azurefileshare": 0.5, "backupinstance": 1.5})
# Seconds for which a worker asks again whether a restore would work, while Azure does not answer.
_CHECK_LIMIT = 300.0


class AzureBackupOperator(ExpectedBaseOperator, StartBaseOperator):
    """Backs up one protected item, or takes a running job, and waits for a proven backup.

    One attempt makes one backup. An attempt is the first try of a task and its retries: a retry adopts the
    backup that an earlier try started. A Clear is a new attempt, because it may have run the upstream tasks
    again. It waits for the end of a backup that is still running, and then takes a new one. On Airflow 3.3
    and later a record in the task state store says which backup a retry adopts. On earlier releases there is
    no record, so a retry waits for the end of a running backup and takes a new one, unless
    ``if_running="adopt"``.

    The operator backs up Azure VMs, Azure file shares, SQL Server, SAP HANA and SAP ASE in Azure VMs, and in
    Backup vaults disks, blobs, PostgreSQL and AKS. To back up several items, map it:
    ``AzureBackupOperator.partial(...).expand(protected_item=[...])``.

    It returns the job id, and pushes the XComs ``job_id`` before the wait, ``job`` (a dict of facts: status,
    outcome, item, times, errors, tasks, sizes) at the end of the job, however it ended, ``proof`` after a
    proven backup, and the portal links of job and vault.

    :param protected_item: what to back up: the ARM id of the protected item, the ARM id of the virtual
        machine or of the file share, or a friendly name. In a Backup vault: the ARM id, name or friendly name
        of the backup instance. If several items share a name, the error lists them. Give exactly one of this
        and ``job_id``.
    :param job_id: a backup job that was already started: GUID or ARM id. Other jobs are rejected, for example
        a restore, the backup of a log, ``ConfigureBackup`` or ``DeleteBackupData``. An ARM id must name the
        same vault as the arguments of the vault, where you give them.
    :param recovery_point_expiry: when Azure may delete the recovery point: a datetime, ISO 8601 text, or a
        timedelta from the start of the task. Default: Azure's own, which is 30 days for a VM. Azure keeps an
        on-demand ``Full`` of SQL and SAP HANA for at least 45 days; ``CopyOnlyFull`` has no such minimum. For
        ``Differential`` and ``Log`` Azure follows the policy instead.
    :param backup_type: ``Full`` for everything; for SQL also ``Differential``, ``Log`` and ``CopyOnlyFull``;
        for SAP HANA also ``Differential``; for SAP ASE also ``Differential`` and ``Log``; for an SAP HANA
        instance ``SnapshotFull`` and ``SnapshotCopyOnlyFull``. Azure runs ``Incremental`` backups of SAP HANA
        by policy only.
    :param enable_compression: True or False for SQL and SAP HANA. Default: the policy's setting.
    :param rule_name: only for Backup vaults: the backup rule to follow. Default: the rule of the instance's
        policy.
    :param retention_tag: only for Backup vaults: the tag that says how long the backup is kept. Default: the
        tag of the rule.
    :param if_running: what to do about a running backup of the item that this task did not start. Azure runs
        one backup of an item at a time, and a backup that began before this task lacks what the upstream
        tasks did. ``wait`` waits for its end, within ``timeout``, and then starts a backup of this task's
        own, however the other one ended. ``adopt`` accepts it as it is; the log and the XCom ``proof`` say
        how long before this task it began. ``fail`` raises an error. A backup that began after the first try
        of this attempt counts as the task's own. Default: ``wait``.
    :param unless_fresh: a timedelta. If a proven backup that meets all other conditions began at most this
        long before the attempt, the task succeeds without starting another one.
    :param accept_warnings: which backups that ended ``CompletedWithWarnings`` to accept: True for all, or a
        set of Azure's error codes, by symbol or number, that has to contain every warning of the job. A
        cancelled job is never accepted, nor is one without a recovery point or with a partial one: the task
        reads the recovery point to find out. Microsoft documents the status only for AKS: volumes were
        skipped or not snapshotted, or hooks failed. For VMs there are four recordings: the VM was gone, or
        the job was cancelled, and the data did not reach the vault. For SQL, SAP HANA, file shares, MARS and
        DPM no source says what it means. Default: False.
    :param require_recovery_point: True also finds the recovery point that the backup made, and pushes its
        facts as the XCom ``recovery_point``: id, time, consistency, tiers, expiry. A recovery point that
        Azure marks as partial, deleted, expired or unhealthy is rejected.
    :param min_consistency: the least consistency of the recovery point: ``CrashConsistent``,
        ``FileSystemConsistent`` or ``AppConsistent``. Azure reports it for VMs and file shares. Needs
        ``require_recovery_point``.
    :param min_tier: the tier that the recovery point has to reach: ``InstantRP`` (a snapshot near the source)
        or ``HardenedRP`` (in the vault). The task waits for the same recovery point to reach the tier. Needs
        ``require_recovery_point``.
    :param require_all_disks: True rejects a backup that left out disks of a VM or volumes of an AKS cluster.
        Needs ``require_recovery_point``.
    :param wait_until: ``completion`` waits for the end of the job. ``snapshot`` opens after the snapshot of a
        VM's backup, which takes minutes. You can restore from the snapshot, but it is kept with the VM's
        disks, and the transfer to the vault, which takes hours, may still fail. An ``AzureBackupJobSensor``
        on the same job can wait for the transfer later. Backups of other items have no such moment. Default:
        ``completion``.
    :param kwargs: the arguments of :class:`~airflow_provider_azbackup.tasks.start.StartBaseOperator`, of
        :class:`~airflow_provider_azbackup.tasks.expected.ExpectedBaseOperator`, of their base classes, and of
        Airflow's operators.
    :raises AzureBackupConfigError: when the DAG is parsed, for both or none of item and job id, wrong
        numbers, an ARM id of another vault than the task names, and arguments that the type of vault does not
        know; before any request where only the connection shows the type.
    :raises AzureBackupJobFailedError: when the job is over and proves no backup; a retry takes a new backup.
    :raises AzureBackupWrongJobError: when the job is of another item, of another vault, or no backup.
    :raises AzureBackupRecoveryPointError: when the recovery point is worse than asked for; a retry takes a
        new backup.
    :raises AzureBackupNotFoundError: when the recovery point is not found; a retry looks again.
    :raises AzureBackupTimeoutError: when the job still runs after ``timeout`` seconds.
    :raises AzureBackupBusyError: when another backup of the item is running and ``if_running`` is ``fail``.
    :raises AzureBackupUnconfirmedStartError: when the response to a request was lost, and what Azure shows
        does not say whether a backup was started.

    Source: https://learn.microsoft.com/azure/backup/backup-azure-arm-userestapi-backupazurevms
    """

    template_fields: Sequence[str] = (
        "protected_item",
        "job_id",
        "recovery_point_expiry",
        "backup_type",
        "rule_name",
        "retention_tag",
        *ExpectedBaseOperator.template_fields,
    )
    fields_of_any_type = ExpectedBaseOperator.fields_of_any_type | {"recovery_point_expiry"}
    required_if_given = ExpectedBaseOperator.required_if_given | {
        "protected_item",
        "job_id",
        "recovery_point_expiry",
    }
    noun = "backup"
    first_looks = _FIRST_LOOKS

    def __init__(
        self,
        *,
        protected_item: str | None = None,
        job_id: str | None = None,
        recovery_point_expiry: datetime | timedelta | str | None = None,
        backup_type: str = "Full",
        enable_compression: bool | None = None,
        rule_name: str | None = None,
        retention_tag: str | None = None,
        unless_fresh: timedelta | None = None,
        require_recovery_point: bool = False,
        min_consistency: str | None = None,
        min_tier: str | None = None,
        require_all_disks: bool = False,
        wait_until: WaitUntil = "completion",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if (protected_item is None) == (job_id is None):
            raise AzureBackupConfigError(
                f"task {self.task_id!r} was given {'neither' if job_id is None else 'both'} of "
                f"protected_item and job_id; give exactly one"
            )
        check_booleans(
            self.task_id,
            require_recovery_point=require_recovery_point,
            require_all_disks=require_all_disks,
            **({} if enable_compression is None else {"enable_compression": enable_compression}),
        )
        starts = self.cancel_on_kill or self.cancel_on_timeout or unless_fresh is not None
        if job_id is not None and starts:
            raise AzureBackupConfigError(
                f"task {self.task_id!r}: cancel_on_kill and cancel_on_timeout cancel only a backup that the "
                f"task has started, and unless_fresh is about starting one; drop them or job_id"
            )
        if unless_fresh is not None and not (
            isinstance(unless_fresh, timedelta) and unless_fresh > timedelta()
        ):
            raise AzureBackupConfigError(
                f"unless_fresh of task {self.task_id!r} is {unless_fresh!r}; expected a positive timedelta"
            )
        check_gate(
            self.task_id,
            wait_until=wait_until,
            require_recovery_point=require_recovery_point,
            min_consistency=min_consistency,
            min_tier=min_tier,
            require_all_disks=require_all_disks,
        )
        self.protected_item = protected_item
        self.job_id = job_id
        self.recovery_point_expiry = recovery_point_expiry
        self.backup_type = backup_type
        self.enable_compression = enable_compression
        self.rule_name = rule_name
        self.retention_tag = retention_tag
        self.unless_fresh = unless_fresh
        self.require_recovery_point = require_recovery_point
        self.min_consistency = min_consistency
        self.min_tier = min_tier
        self.require_all_disks = require_all_disks
        self.wait_until = wait_until
        self.check_arguments()

    def check_arguments(self) -> None:
        """Refuse what can be no backup, as far as it is known when the DAG is parsed."""
        super().check_arguments()
        check_unless_templated(self.backup_type, check_backup_type)
        check_unless_templated(self.recovery_point_expiry, lambda text: read_expiry(text, 0.0))
        self._check_options(infer_vault_type(self.vault_type, self.protected_item, self.job_id))

    @property
    def action(self) -> Action:
        """What a job must have done to open the gate; a log backup opens it only if one was asked for."""
        asked = self.protected_item is not None and self.backup_type.casefold() == "log"
        return "log backup" if asked else "backup"

    def _check_options(self, kind: str | None) -> None:
        super()._check_options(kind)
        check_vault_options(
            kind,
            cancels=[],
            other_vaults=self._given(
                backup_type=self.backup_type if self.backup_type != "Full" else None,
                enable_compression=self.enable_compression is not None,
                recovery_point_expiry=self.recovery_point_expiry,
            ),
            rules=self._given(rule_name=self.rule_name, retention_tag=self.retention_tag),
        )

    def execute(self, context: Context) -> str:
        """Find or start the backup, or take the job, say which it is, and wait for it as asked."""
        self.check_resumes(context)
        if self.job_id is None:
            # What a list shows may be somebody else's, if both began in the same second: good enough to wait
            # for, but not to cancel.
            cancels = self.cancel_on_kill or self.cancel_on_timeout
            leaves = self.deferrable and self.wait_for_completion and not cancels
            return self._start(context, batch_lookup=leaves and self.if_running != "fail")
        with self.hook() as hook:
            self._check_options(hook.type_of(self.job_id))
            ref = hook.job_ref(self.job_id)
            now = clock.current().now()
            return self._await(
                context, hook, ref, Wait(since=now, attempt_began=now, started_by="found"), None
            )

    def _intent(
        self,
        context: Context,
        hook: TaskHook,
        task_state: TaskState,
        attempt_began: float | None,
        since: float | None,
    ) -> Intent:
        from airflow_provider_azbackup.core.rest import requests
        from airflow_provider_azbackup.core.start.intent import BackupIntent

        wanted = self._wanted(context, hook, task_state, attempt_began, since)
        self._check_kind(wanted["item"])
        hook.check_tier(wanted["item"], self.min_tier, deadline=wanted["now"] + wanted["timeout"])
        body = requests.backup_body(
            wanted["item"],
            backup_type=self.backup_type,
            enable_compression=self.enable_compression,
            recovery_point_expiry=read_expiry(self.recovery_point_expiry, wanted["now"]),
            rule_name=self.rule_name,
            retention_tag=self.retention_tag,
        )
        return BackupIntent(**wanted, body=body)

    def _fresh_enough(
        self, context: Context, hook: TaskHook, task_state: TaskState, intent: Intent
    ) -> str | None:
        from airflow_provider_azbackup.core.conversations.matching import proof_rank
        from airflow_provider_azbackup.core.rest.requests import utc_datetime

        asked = task_state.record is not None and task_state.record.attempt == task_state.attempt
        if self.unless_fresh is None or asked:
            return None
        attempt_began = intent.now if intent.attempt_began is None else intent.attempt_began
        subject = hook.find_subject(intent.item.path, deadline=intent.deadline)
        backups = hook.list_backups_of(
            subject, since=utc_datetime(attempt_began) - self.unless_fresh, deadline=intent.deadline
        )
        for job in sorted(backups, key=proof_rank, reverse=True):
            if job.is_running or intent.fits(job) is False:
                continue
            try:
                # A list may leave out why a job ended with warnings.
                job = hook.look_at_job(job.ref, since=intent.now)
                self.announce(context, hook, job.ref)
                self.judge(
                    context,
                    job,
                    self.protected_item,
                    # What its recovery point has not reached by now is not there.
                    since=intent.now - self.timeout,
                    attempt_began=attempt_began,
                )
            except (
                AzureBackupJobFailedError,
                AzureBackupNotFoundError,
                AzureBackupTimeoutError,
            ) as error:
                self.log.info("%s does not make another backup unnecessary: %s", job, error)
                continue
            self.log.info("%s is fresh enough, so no other backup is requested", job)
            self.publish(context, job)
            return job.ref.job_id
        return None

    def _check_kind(self, item: ProtectedItem) -> None:
        """Refuse to ask of an item what its backups never are, before any is started."""
        if self.wait_until == "snapshot" and item.workload != "vm":
            raise AzureBackupConfigError(
                f"wait_until='snapshot' is for VMs, and {item.label} is not one; use 'completion'"
            )
        if self.min_consistency and item.workload not in ("vm", "azurefileshare"):
            raise AzureBackupConfigError(
                f"min_consistency is for VMs and file shares, and {item.label} is neither: Azure reports no "
                f"consistency of it. Drop min_consistency"
            )


class _NotApprovedError(AzureBackupNotApprovedError, AirflowFailException):
    """The error as Airflow has to see it in order not to retry; the module of the errors imports nothing."""


class AzureBackupRestoreOperator(StartBaseOperator):
    """Restores one protected item from a recovery point, and waits for a proven restore.

    One attempt makes one restore, by the rules of :class:`AzureBackupOperator`: a retry adopts the restore
    that an earlier try started. A restore that this attempt did not start may have another target, or restore
    an older recovery point, so it is adopted only with ``if_running="adopt"``.

    In a Backup vault Azure first checks whether the restore would work. If it would not, nothing is started.

    The operator returns the job id, and pushes the XComs ``recovery_point`` (a dict of facts: id, ARM id,
    time, consistency, tiers, expiry) and ``job_id`` before the wait, ``job`` at the end of the job, however
    it ended, and the portal links.

    :param protected_item: what to restore: the ARM id of the protected item, the ARM id of the virtual
        machine or of the file share, or a friendly name. In a Backup vault: the ARM id, name or friendly name
        of the backup instance.
    :param restore_to: the restore target that a function of :mod:`airflow_provider_azbackup.restore_to`
        returned, such as ``disks(storage_account_id=...)``. Give exactly one of this and ``request``.
    :param request: a restore request in Azure's own words, which is sent as it is: ``{"properties": {...}}``
        or its content. It is for restores that ``restore_to`` does not know, such as bringing a recovery
        point back from the archive. In a Backup vault the recovery point is added to a request that names
        none.
    :param recovery_point: ``latest`` is the newest one that can be restored from. Otherwise the id or the ARM
        id of one, which Azure may refuse. Default: ``latest``.
    :param as_of: restores the newest recovery point of this moment or before: a datetime or ISO 8601 text.
    :param point_in_time: a datetime or ISO 8601 text. For SQL and SAP HANA: restores up to this moment by the
        log. For blobs that are restored in place: goes back to this moment.
    :param if_running: what to do about a running restore of the item that this attempt did not start.
        ``fail`` raises an error. ``wait`` waits for its end and then starts this one. ``adopt`` accepts it,
        whatever its target. Default: ``fail``.
    :param validate_only: True asks Azure whether the restore would work, and restores nothing. The task then
        returns the record of the check, a dict that it also pushes as the XCom ``validation``, and fails if
        the restore would not work. It is never deferred, because the check takes seconds. Default: False.
    :param secondary_region: True restores in the secondary region of a vault with cross-region restore, from
        what Azure has copied there. No request goes to the region of the vault, so the restore also works
        while that is down; Resource Graph says where the vault and its copy are. The name of a region takes
        that one, for a Recovery Services vault without asking Resource Graph. Targets must be in the
        secondary region. Azure cannot cancel such a restore. Default: False.
    :param approve: True asks a person in Airflow's UI before anything is asked of Azure, and restores only if
        that person approves. A rejection and no answer fail the task, which is not retried. The XCom
        ``approval`` holds the decision, who made it and the reason. On Airflow 3.3 and later, a retry after
        an approval does not ask again; a Clear does. Needs Airflow 3.1. Default: False.
    :param approval_timeout: seconds, or a timedelta, in which a person has to approve. Default: 3600.
    :param accept_warnings: which restores that ended ``CompletedWithWarnings`` to accept: True for all, or a
        set of Azure's error codes that has to contain every warning of the job. No source says what the
        status means for a restore. Files may have been skipped, so compare the restored data before you use
        it. A cancelled restore is never accepted. Default: False.
    :param kwargs: the arguments of :class:`~airflow_provider_azbackup.tasks.start.StartBaseOperator`, of its
        base classes, and of Airflow's operators.
    :raises AzureBackupConfigError: when the DAG is parsed, for what can be no restore, and arguments that the
        type of vault does not know; before any request where only the connection shows the type.
    :raises AzureBackupNotFoundError: when no recovery point will do; it lists those that exist.
    :raises AzureBackupNotApprovedError: when no person has approved the restore; nothing is restored.
    :raises AzureBackupRefusedError: when Azure says that the restore would not work; nothing is restored.
    :raises AzureBackupJobFailedError: when the job is over and proves no restore; a retry starts a new one.
    :raises AzureBackupTimeoutError: when the job still runs after ``timeout`` seconds.
    :raises AzureBackupBusyError: when another restore of the item is running and ``if_running`` is ``fail``.
    :raises AzureBackupUnconfirmedStartError: when the response to a request was lost, and what Azure shows
        does not say whether a restore was started.

    Source: https://learn.microsoft.com/azure/backup/backup-azure-arm-userestapi-restoreazurevms
    """

    template_fields: Sequence[str] = (
        "protected_item",
        "restore_to",
        "request",
        "recovery_point",
        "as_of",
        "point_in_time",
        *StartBaseOperator.template_fields,
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"restore_to": "json", "request": "json"}
    fields_of_any_type = frozenset({"restore_to", "request", "as_of", "point_in_time"})
    required_fields = frozenset({"protected_item", "recovery_point"})
    required_if_given = frozenset({"as_of", "point_in_time"})
    ui_color = "#e8daef"
    noun = "restore"
    first_looks = _FIRST_LOOKS_OF_RESTORES

    def __init__(
        self,
        *,
        protected_item: str,
        restore_to: Mapping[str, Any] | None = None,
        request: Mapping[str, Any] | None = None,
        recovery_point: str = "latest",
        as_of: datetime | str | None = None,
        point_in_time: datetime | str | None = None,
        if_running: IfRunning = "fail",
        validate_only: bool = False,
        secondary_region: bool | str = False,
        approve: bool = False,
        approval_timeout: float | timedelta = 3600.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(if_running=if_running, **kwargs)
        check_booleans(self.task_id, validate_only=validate_only, approve=approve)
        if approve and not asks_people():
            raise AzureBackupConfigError(
                f"approve of task {self.task_id!r} is True, and this Airflow cannot ask a person: that takes "
                f"Airflow 3.1 or later, and below 3.3 apache-airflow-providers-standard. Drop approve"
            )
        check_secondary_region(f"secondary_region of task {self.task_id!r}", secondary_region)
        if validate_only and (self.cancel_on_kill or self.cancel_on_timeout):
            raise AzureBackupConfigError(
                f"task {self.task_id!r}: validate_only restores nothing that cancel_on_kill or "
                f"cancel_on_timeout could cancel; drop them"
            )
        self.protected_item = protected_item
        self.restore_to = restore_to
        self.request = request
        self.recovery_point = recovery_point
        self.as_of = as_of
        self.point_in_time = point_in_time
        self.validate_only = validate_only
        self.secondary_region = secondary_region
        self.approve = approve
        (self.approval_timeout,) = read_seconds(self.task_id, approval_timeout=approval_timeout)
        self.check_arguments()

    def check_arguments(self) -> None:
        """Refuse what can be no restore, as far as it is known when the DAG is parsed."""
        # Here, so that a DAG file without a restore does not pay for it.
        from airflow_provider_azbackup.core.restore.check import check_restore, check_secondary_restore

        super().check_arguments()
        vault_type = infer_vault_type(self.vault_type, self.protected_item)
        check_restore(
            restore_to=self.restore_to,
            request=self.request,
            recovery_point=self.recovery_point,
            as_of=self.as_of,
            point_in_time=self.point_in_time,
            vault_type=vault_type,
        )
        if self.secondary_region:
            check_secondary_restore(restore_to=self.restore_to, request=self.request)
        self._check_options(vault_type)

    def _check_options(self, kind: str | None) -> None:
        super()._check_options(kind)
        if self.secondary_region and (self.cancel_on_kill or self.cancel_on_timeout):
            raise AzureBackupConfigError(
                f"task {self.task_id!r}: Azure cannot cancel a restore in the secondary region; drop "
                f"cancel_on_kill and cancel_on_timeout"
            )

    @property
    def action(self) -> Action:
        """What a job must have done to open the gate."""
        return "restore"

    def _elsewhere(self) -> str:
        from airflow_provider_azbackup.core.restore.plan import account_of

        return account_of(self.restore_to, self.request)

    def execute(self, context: Context) -> Any:
        """Find or start the restore, say which it is, and wait for it as asked; or only check it."""
        if self.validate_only:
            return self._validate(context)
        self.check_resumes(context)
        if self.approve and not TaskState(context, self.retries).is_approved(self._asked()):
            self._ask(context)
        return self._start(context)

    def _asked(self) -> str:
        """Return what distinguishes the restore that a person is asked about from others."""
        from airflow_provider_azbackup.core.restore.approval import digest_of

        return digest_of(self.secondary_region, *(getattr(self, name) for name in self.template_fields))

    def _ask(self, context: Context) -> NoReturn:
        """Let a person decide before anything is asked of Azure."""
        from airflow_provider_azbackup.core.model.json_safe import clean, cut
        from airflow_provider_azbackup.core.restore.approval import APPROVE, REASON, REJECT

        self.check_resumes(context, resumes_by="execute_decided")
        target = dict(self.restore_to or {}).get("target", "a request in Azure's own words")
        point = self.point_in_time or self.as_of or self.recovery_point
        self.log.info("Waiting for a person to approve the restore, for %.0f s", self.approval_timeout)
        ask_person(
            self,
            context,
            subject=cut(clean(f"Restore {self.protected_item}?"), 200),
            body=cut(clean(f"Target: {target}. Recovery point: {point}.")),
            options=(APPROVE, REJECT),
            fields={REASON: "Why? It is kept in the XCom of the task."},
            timeout=timedelta(seconds=self.approval_timeout),
            method_name="execute_decided",
            kwargs={"try_number": context["ti"].try_number},
        )

    def execute_decided(self, context: Context, event: Any = None, try_number: int | None = None) -> Any:
        """Restore if a person has approved it.

        :raises AzureBackupNotApprovedError: when nobody has; then nothing was restored.
        """
        from airflow_provider_azbackup.core.restore.approval import APPROVAL, read_decision

        if self.is_stale(context, try_number):
            return self.execute(context)
        decision = read_decision(event)
        context["ti"].xcom_push(key=APPROVAL, value=decision)
        shown = f"{decision['decision']}{_by(decision)}"
        if decision["decision"] != "approved":
            raise _NotApprovedError(f"nothing was restored of {self.protected_item}: {shown}")
        self.log.info("The restore was %s", shown)
        TaskState(context, self.retries).approve(self._asked())
        return self._start(context)

    def _validate(self, context: Context) -> dict[str, Any]:
        """Return the record of the check of the restore; push it as well, because an error returns none."""
        from airflow_provider_azbackup.core.restore.plan import goal_of, record_of_check

        item = str(self.protected_item)
        with self.hook() as hook:
            try:
                record = hook.validate_restore(
                    item,
                    patience=min(self.timeout, _CHECK_LIMIT),
                    secondary_region=self.secondary_region,
                    restore_to=self.restore_to,
                    request=self.request,
                    recovery_point=self.recovery_point,
                    as_of=self.as_of,
                    point_in_time=self.point_in_time,
                )
            except AzureBackupError as error:
                goal = goal_of(self.restore_to, self.request)
                failed = record_of_check(item, goal, error=error)
                context["ti"].xcom_push(key="validation", value=failed)
                raise
        context["ti"].xcom_push(key="validation", value=record)
        self.log.info("The restore of %s would work; nothing was restored", item)
        return record

    def _intent(
        self,
        context: Context,
        hook: TaskHook,
        task_state: TaskState,
        attempt_began: float | None,
        since: float | None,
    ) -> Intent:
        from airflow_provider_azbackup.core.restore.plan import RestoreIntent, RestorePlan

        wanted = self._wanted(context, hook, task_state, attempt_began, since)
        order = RestorePlan.read(
            wanted["item"],
            restore_to=self.restore_to,
            request=self.request,
            recovery_point=self.recovery_point,
            as_of=read_datetime("as_of", self.as_of, zone=default_zone()),
            point_in_time=read_datetime("point_in_time", self.point_in_time, zone=default_zone()),
        )
        return RestoreIntent(**wanted, plan=order)


class AzureBackupCancelJobOperator(JobBaseOperator):
    """Cancels a job of a Recovery Services vault and waits until it is over.

    Azure cannot cancel jobs of Backup vaults, so such a job is rejected before any request.

    The operator returns how the job ended: ``cancelled``, or, when it was over before it could be cancelled,
    ``succeeded``, ``warned`` or ``failed``. It pushes the XComs ``job_id``, ``job`` at the end of the job,
    and the portal links. A job that is over is left alone, and a job that is being cancelled is only waited
    for, so a retry does no harm.

    :param job_id: GUID or ARM id of the job.
    :param poll_interval: seconds, or a timedelta, between two looks at the job. Default: 60.
    :param timeout: seconds, or a timedelta, until the job must be over. Default: 3600.
    :param kwargs: the arguments of :class:`~airflow_provider_azbackup.tasks.base.JobBaseOperator`, of its
        base class, and of Airflow's operators.
    :raises AzureBackupConfigError: for a job of a Backup vault.
    :raises AzureBackupRefusedError: when Azure declines to cancel and the job goes on.
    :raises AzureBackupTimeoutError: when the job still runs after ``timeout`` seconds.

    Source: https://learn.microsoft.com/rest/api/backup/job-cancellations/trigger
    """

    template_fields: Sequence[str] = ("job_id", *JobBaseOperator.template_fields)
    required_fields = frozenset({"job_id"})

    def __init__(
        self,
        *,
        job_id: str,
        poll_interval: float | timedelta = 60.0,
        timeout: float | timedelta = 3600.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.job_id = job_id
        self.poll_interval, self.timeout = read_seconds(
            self.task_id, poll_interval=poll_interval, timeout=timeout
        )
        self.check_arguments()

    def check_arguments(self) -> None:
        """Refuse a job that nobody can cancel, as far as it is known when the DAG is parsed."""
        super().check_arguments()
        if infer_vault_type(self.vault_type, self.job_id) == DATA_PROTECTION:
            raise cancel_unsupported(f"task {self.task_id!r}")

    def execute(self, context: Context) -> str:
        """Ask Azure to cancel the job, and wait for its end."""
        self.check_resumes(context)
        since = clock.current().now()
        deadline = self.deadline(context, since)
        with self.hook() as hook:
            ref = hook.job_ref(self.job_id)
            if ref.vault.is_backup_vault:
                raise cancel_unsupported(f"task {self.task_id!r}")
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
                        kwargs={"job_id": ref.path},
                    )
                try:
                    job = hook.watch_job(ref, poll_interval=self.poll_interval, deadline=deadline)
                except AzureBackupTimeoutError as error:
                    self.overdue(context, error)
            return self._finish(context, job)

    def execute_complete(
        self, context: Context, event: Any = None, try_number: int | None = None, **_: Any
    ) -> str:
        """Take the wait back from the triggerer."""
        if self.is_stale(context, try_number):
            return self.execute(context)
        with self.hook() as hook:
            expected = hook.job_ref(self.job_id).path
        try:
            job = self.resume(context, event, expected)
        except AzureBackupTimeoutError as error:
            self.overdue(context, error)
        return self._finish(context, job)

    def _finish(self, context: Context, job: Job) -> str:
        context["ti"].xcom_push(key="job", value=job.facts())
        self.log.info("Azure Backup %s", job.summary())
        return job.outcome.value


class AzureBackupListProtectedItemsOperator(AzureBackupBaseOperator):
    """Lists what a vault protects, so that you can map a backup or a gate over it.

    The operator returns the ARM ids of the items, sorted by their names, for
    ``AzureBackupOperator.partial(...).expand(protected_item=items.output)``. It pushes the XCom
    ``protected_items``: for each item a dict with its name, policy, state and the time of the last backup.

    An empty list fails the task, because Airflow skips a task that is mapped over nothing, and a skipped gate
    lets other tasks run. So does a list that is longer than Airflow's ``[core] max_map_length`` if a task is
    mapped over it, because Airflow would not map it.

    :param backup_management_type: ``AzureIaasVM``, ``AzureStorage`` or ``AzureWorkload``. Default: all. Leave
        it out for a Backup vault, which knows none of them.
    :param policy: name of a backup policy. Default: all policies.
    :param state: one or several of ``Protected``, ``IRPending`` (never backed up), ``ProtectionStopped`` and
        Azure's other states. Default: all states.
    :param include_deleted: True also lists items whose backup data is soft-deleted. They cannot be backed up
        or restored before an undelete. Default: False.
    :param allow_empty: True returns an empty list instead of failing when the vault protects no such item.
        Default: False.
    :param kwargs: the arguments of :class:`~airflow_provider_azbackup.tasks.base.AzureBackupBaseOperator` and
        of Airflow's operators.
    :raises AzureBackupConfigError: when the DAG is parsed, for a management type that no item has; when it
        runs, for more items than Airflow maps a task over.
    :raises AzureBackupNotFoundError: when there is no such item. The error names the policies and states that
        items of the vault have.

    Source: https://learn.microsoft.com/rest/api/backup/backup-protected-items/list
    """

    template_fields: Sequence[str] = ("policy", "state", *AzureBackupBaseOperator.template_fields)
    fields_of_any_type = frozenset({"state"})

    def __init__(
        self,
        *,
        backup_management_type: str | None = None,
        policy: str | None = None,
        state: str | Collection[str] | None = None,
        include_deleted: bool = False,
        allow_empty: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_booleans(self.task_id, include_deleted=include_deleted, allow_empty=allow_empty)
        if backup_management_type is not None:
            name = f"backup_management_type of task {self.task_id!r}"
            check_word(name, backup_management_type, MANAGEMENT_TYPES)
        self.backup_management_type = backup_management_type
        self.policy = policy
        self.state = state
        self.include_deleted = include_deleted
        self.allow_empty = allow_empty
        self.check_arguments()

    def execute(self, context: Context) -> list[str]:
        """List the items."""
        kind = self.backup_management_type
        with self.hook() as hook:
            found = hook.list_protected_items(
                backup_management_type=kind,
                policy=self.policy,
                state=self.state,
                include_deleted=self.include_deleted,
            )
            if not found and not self.allow_empty:
                everything = hook.list_protected_items(backup_management_type=kind, include_deleted=True)
                raise AzureBackupNotFoundError(self._nothing(everything))
        self._check_length(context, len(found))
        found.sort(key=lambda each: (each.friendly_name.casefold(), each.item.path))
        context["ti"].xcom_push(key="protected_items", value=[each.facts() for each in found])
        self.log.info("The vault protects %d such items", len(found))
        return [each.item.path for each in found]

    def _check_length(self, context: Context, length: int) -> None:
        """Refuse a list that Airflow would not map a task over, before Airflow fails the task for it.

        :raises AzureBackupConfigError: if a task is mapped over the list; otherwise it is a warning.
        """
        # The default is Airflow's own. It checks a list once it is pushed, but not the lists of mapped tasks.
        most = conf.getint("core", "max_map_length", fallback=1024)
        if most is None or length <= most or context["ti"].map_index not in (None, -1):
            return
        mapped = next(self.iter_mapped_dependants(), None) if self.get_dag() else None
        message = (
            f"task {self.task_id!r} found {length} items, and Airflow maps a task over {most} at most "
            f"([core] max_map_length). To gate on all of them with one task, use AzureBackupFleetSensor. "
            f"Otherwise narrow the list by policy, state or backup_management_type, split it over several "
            f"list tasks, or raise the setting on the API server, the scheduler and the workers"
        )
        if mapped:
            raise AzureBackupConfigError(f"{message}. The mapped task is {mapped.node_id!r}")
        self.log.warning("%s. No task is mapped over this list directly, so it is returned", message)

    def _nothing(self, everything: Sequence[FoundItem]) -> str:
        """Say what there is instead of what was asked for."""
        wanted = {name: getattr(self, name) for name in ("backup_management_type", "policy", "state")}
        given = ", ".join(f"{name} {value!r}" for name, value in wanted.items() if value)
        live = [each for each in everything if not each.is_deleted]
        policies = Counter(each.policy or "none" for each in live)
        states = Counter(each.state or "none" for each in live)
        deleted = len(everything) - len(live)
        return (
            f"task {self.task_id!r}: the vault protects nothing{f' with {given}' if given else ''}. "
            f"Policies of its items: {_counted(policies, self.policy or '')}. "
            f"States: {_counted(states, self.state if isinstance(self.state, str) else '')}."
            f"{f' Items whose backup data is soft-deleted: {deleted}.' if deleted else ''} "
            f"Give allow_empty=True if an empty list is acceptable"
        )


def _counted(words: Counter[str], wanted: str) -> str:
    """Return words with how often each is there: those like the wanted one first, then the frequent ones."""
    order = most_similar_first(wanted, [word for word, _ in words.most_common()])
    return ", ".join(f"{word} ({words[word]})" for word in order) or "none"


def _by(decision: Mapping[str, str]) -> str:
    """Return who has decided, when and why, for a sentence; nothing where nobody has."""
    if not decision["by"]:
        return ""
    reason = f", because: {decision['reason']}" if decision["reason"] else ", without a reason"
    return f" by {decision['name'] or decision['by']} at {decision['at']}{reason}"


def read_expiry(value: datetime | timedelta | str | None, now: float) -> datetime | None:
    """Read when a recovery point may be deleted.

    :param value: a moment, ISO 8601 text (in Airflow's default time zone unless it says otherwise) or a time
        from now.
    :param now: Unix time.
    :raises AzureBackupConfigError: when it is no moment, or one that has passed.
    """
    today = datetime.fromtimestamp(now, UTC)
    if isinstance(value, timedelta):
        moment: datetime | None = today + value
    else:
        moment = read_datetime("recovery_point_expiry", value, zone=default_zone())
    if moment and moment <= today:
        raise AzureBackupConfigError(f"recovery_point_expiry {value!r} has passed; expected a later moment")
    return moment

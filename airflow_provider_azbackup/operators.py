"""Start an on-demand backup, or take a job id, and let downstream tasks run only behind a proven backup."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator, conf

from airflow_provider_azbackup import clock
from airflow_provider_azbackup.core.names import check_backup_type, check_item, split_job_id
from airflow_provider_azbackup.exceptions import (
    AzureBackupConfigError,
    AzureBackupNotFoundError,
    AzureBackupTimeoutError,
    AzureBackupTransientError,
)
from airflow_provider_azbackup.links import AzureBackupJobLink, AzureBackupVaultLink
from airflow_provider_azbackup.waiting import JobWait, check_literal, check_seconds

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_azbackup.core.jobs import Job
    from airflow_provider_azbackup.core.resources import JobRef
    from airflow_provider_azbackup.hooks import AzureBackupHook


class AzureBackupOperator(JobWait, BaseOperator):
    """Backs up one protected item, or takes a job somebody else started, and waits for a proven backup.

    Returns the job id. Pushes XComs: ``job_id`` before the wait, ``job`` (a dict of facts: status, outcome,
    item, times, errors, tasks, sizes) at its end, good or bad, and the portal links of job and vault.

    :param protected_item: what to back up: ARM id of the protected item, ARM id of the virtual machine or of
        the file share, or a friendly name. Exactly one of this and ``job_id``.
    :param job_id: a job that already runs: GUID or ARM id.
    :param vault_name: the Recovery Services vault, instead of the connection's.
    :param resource_group_name: its resource group, instead of the connection's.
    :param subscription_id: its subscription, instead of the connection's.
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
    :param timeout: seconds the wait may last; the job goes on in Azure beyond it.
    :param accept_warnings: let a job pass that ended ``CompletedWithWarnings``. For a VM that means a
        snapshot exists, but it never reached the vault.
    :param azure_backup_conn_id: connection of type ``azure_backup``, or an existing one of type ``azure``.
    :raises AzureBackupConfigError: at construction, for both or none of item and job id and bad numbers.
    :raises AzureBackupJobFailedError: when the job is over and proves no backup; a retry takes a new backup.
    :raises AzureBackupTimeoutError: when the job still runs after ``timeout`` seconds.
    :raises AzureBackupUnconfirmedStartError: when it is unknown whether a backup was started.

    Source: https://learn.microsoft.com/azure/backup/backup-azure-arm-userestapi-backupazurevms
    """

    template_fields: Sequence[str] = (
        "protected_item",
        "job_id",
        "vault_name",
        "resource_group_name",
        "subscription_id",
        "recovery_point_expiry",
        "backup_type",
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
        recovery_point_expiry: datetime | timedelta | str | None = None,
        backup_type: str = "Full",
        enable_compression: bool | None = None,
        wait_for_completion: bool = True,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poll_interval: float = 60.0,
        timeout: float = 24 * 3600.0,
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
        check_literal(backup_type, check_backup_type)
        check_literal(recovery_point_expiry, lambda text: read_expiry(text, 0.0))
        check_literal(job_id, split_job_id)
        check_literal(protected_item, check_item)
        self.protected_item = protected_item
        self.job_id = job_id
        self.vault_name = vault_name
        self.resource_group_name = resource_group_name
        self.subscription_id = subscription_id
        self.recovery_point_expiry = recovery_point_expiry
        self.backup_type = backup_type
        self.enable_compression = enable_compression
        self.wait_for_completion = wait_for_completion
        self.deferrable = deferrable
        self.poll_interval = poll_interval
        self.timeout = timeout
        self.accept_warnings = accept_warnings
        self.azure_backup_conn_id = azure_backup_conn_id

    def execute(self, context: Context) -> str:
        """Start the backup or take the job, say which it is, and wait for it as asked."""
        with self.hook() as hook:
            ref = self._start(hook) if self.job_id is None else hook.job_ref(self.job_id)
            self.announce(context, hook, ref)
            if not self.wait_for_completion:
                return ref.job_id
            since = clock.current().now()
            deadline = since + self.timeout
            if not self.deferrable:
                return self._finish(context, self._watch(context, hook, ref, deadline))
            asked_to_wait = 0.0
            if self.job_id is not None:
                # Somebody else's job may be over already; one just started is not.
                try:
                    job = hook.get_job(ref.path)
                    if not job.is_running:
                        return self._finish(context, job)
                except (AzureBackupTransientError, AzureBackupNotFoundError) as error:
                    asked_to_wait = error.retry_after or 0.0
        return self.wait_in_triggerer(
            ref,
            poll_interval=self.poll_interval,
            asked_to_wait=asked_to_wait,
            since=since,
            deadline=deadline,
        )

    def execute_complete(self, context: Context, event: Any = None) -> str:
        """Take the wait back from the triggerer: success only for a job that proves a backup."""
        return self._finish(context, self.resume(context, event))

    def _start(self, hook: AzureBackupHook) -> JobRef:
        item = hook.resolve_protected_item(str(self.protected_item))
        operation = hook.trigger_backup(
            item,
            backup_type=self.backup_type,
            enable_compression=self.enable_compression,
            recovery_point_expiry=read_expiry(self.recovery_point_expiry, clock.current().now()),
        )
        self.log.info("Azure accepted the backup of %s as operation %s", item.name, operation.operation_id)
        ref = hook.wait_for_operation(operation)
        self.log.info("The backup of %s is job %s", item.name, ref.job_id)
        return ref

    def _watch(self, context: Context, hook: AzureBackupHook, ref: JobRef, deadline: float) -> Job:
        try:
            return hook.watch_job(ref.path, poll_interval=self.poll_interval, deadline=deadline)
        except AzureBackupTimeoutError as error:
            if error.job:
                context["ti"].xcom_push(key="job", value=error.job)
            raise

    def _finish(self, context: Context, job: Job) -> str:
        if not self.settle(context, job):
            raise AzureBackupTimeoutError(f"the wait ended while the job still runs: {job}", job=job.facts())
        self.log.info("Azure Backup %s", job)
        return job.ref.job_id


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

"""Wait on a job somebody else started: a backup, a restore, or any other job of a vault."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseSensorOperator,
    PokeReturnValue,
    conf,
)

from airflow_provider_azbackup import clock
from airflow_provider_azbackup.core.names import check_vault_type, split_job_id
from airflow_provider_azbackup.exceptions import (
    AzureBackupError,
    AzureBackupJobFailedError,
    AzureBackupTimeoutError,
    AzureBackupTransientError,
)
from airflow_provider_azbackup.links import AzureBackupJobLink, AzureBackupVaultLink
from airflow_provider_azbackup.story import Story
from airflow_provider_azbackup.waiting import JobWait, check_literal, check_seconds

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_azbackup.core.jobs import Job
    from airflow_provider_azbackup.hooks import AzureBackupHook


class AzureBackupGateShutError(AzureBackupJobFailedError, AirflowFailException):
    """The awaited job is over and proves no backup; no retry of the sensor can change that."""


class AzureBackupJobSensor(JobWait, BaseSensorOperator):
    """Opens when a job has succeeded; fails, without a retry, when it ended in any other way.

    ``mode="poke"``, ``mode="reschedule"`` and ``deferrable=True`` mean the same by ``timeout`` (seconds from
    the start of the wait), ``soft_fail`` and ``never_fail``: both forgive a wait that took too long, and the
    task is skipped; ``never_fail`` also forgives not being able to look. Neither forgives a failed job.
    A skipped gate still lets tasks with ``trigger_rule="none_failed"`` run.

    Returns the job id. Pushes XComs: ``job_id`` before the wait, ``job`` (a dict of facts) at its end, and
    the portal links of job and vault.

    :param job_id: GUID or ARM id of the job. A GUID is looked up in the vault of the task or the connection.
    :param vault_name: the vault, instead of the connection's.
    :param resource_group_name: its resource group, instead of the connection's.
    :param subscription_id: its subscription, instead of the connection's.
    :param vault_type: ``RecoveryServices``, or ``DataProtection`` for a Backup vault, instead of the
        connection's. An ARM id tells it by itself.
    :param accept_warnings: let a job pass that ended ``CompletedWithWarnings``. For a VM backup that means a
        snapshot exists, but it never reached the vault.
    :param deferrable: wait in the triggerer, without holding a worker slot. Default: Airflow's
        ``[operators] default_deferrable``.
    :param azure_backup_conn_id: connection of type ``azure_backup``, or an existing one of type ``azure``.
    :param kwargs: of Airflow's sensors: ``poke_interval`` and ``timeout`` in seconds, ``mode``,
        ``soft_fail``, ``never_fail``, ...
    :raises AzureBackupGateShutError: when the job is over and proves no backup.
    :raises AirflowSensorTimeout: when it still runs after ``timeout`` seconds.
    :raises AzureBackupError: when Azure will not let this identity look.

    Source: https://learn.microsoft.com/azure/backup/backup-azure-arm-userestapi-managejobs
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

    def __init__(
        self,
        *,
        job_id: str,
        vault_name: str | None = None,
        resource_group_name: str | None = None,
        subscription_id: str | None = None,
        vault_type: str | None = None,
        accept_warnings: bool = False,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        azure_backup_conn_id: str = "azure_backup_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_seconds(self.task_id, poke_interval=self.poke_interval, timeout=self.timeout)
        check_literal(job_id, split_job_id)
        check_literal(vault_type, check_vault_type)
        self.job_id = job_id
        self.vault_name = vault_name
        self.resource_group_name = resource_group_name
        self.subscription_id = subscription_id
        self.vault_type = vault_type
        self.accept_warnings = accept_warnings
        self.deferrable = deferrable
        self.azure_backup_conn_id = azure_backup_conn_id
        self._open: AzureBackupHook | None = None
        self._story: Story | None = None
        self._since = 0.0
        self._asked_to_wait = 0.0

    def execute(self, context: Context) -> Any:
        """Wait in the mode that was asked for."""
        self._since = _wait_began(context)
        with self.hook() as self._open:
            ref = self._open.job_ref(self.job_id)
            self.announce(context, self._open, ref)
            if not self.deferrable:
                try:
                    return super().execute(context)
                except AirflowSensorTimeout as error:
                    self._forgive_timeout(str(error))
                    raise
        deadline = self.deadline(context, self._since)
        return self.wait_in_triggerer(
            context,
            ref,
            poll_interval=self.poke_interval,
            since=self._since,
            deadline=deadline,
        )

    def poke(self, context: Context) -> PokeReturnValue | bool:
        """Look once. A fault that may pass leaves the gate shut and the wait going."""
        self._story = self._story or Story(self.log)
        self._asked_to_wait = 0.0
        with nullcontext(self._open) if self._open else self.hook() as hook:
            try:
                job = hook.look_at_job(self.job_id, since=self._since or clock.current().now())
            except AzureBackupTransientError as error:
                self._asked_to_wait = error.retry_after or 0.0
                self._story.tell(None, error)
                return False
        self._story.tell(job, None)
        return PokeReturnValue(True, job.ref.job_id) if self._passes(context, job) else False

    def execute_complete(
        self,
        context: Context,
        event: Any = None,
        since: float | None = None,
        try_number: int | None = None,
        **_: Any,
    ) -> Any:
        """Take the wait back from the triggerer: success only for a job that proves a backup."""
        if self.is_stale(context, try_number):
            return self.execute(context)
        try:
            job = self.resume(context, event)
        except AzureBackupTimeoutError as error:
            message = f"{error}. It goes on in Azure"
            self._forgive_timeout(message)
            if since is not None and self.deadline(context, since) < since + self.timeout:
                # The execution_timeout is up, which a retry may cure.
                raise AzureBackupTimeoutError(message, job=error.job) from None
            raise AirflowSensorTimeout(message) from error
        except AzureBackupError as error:
            self._forgive_blindness(error)
            raise
        if not self._passes(context, job):
            raise AzureBackupError(f"the trigger gave up on a job that still runs: {job}", job=job.facts())
        self.log.info("Azure Backup %s", job)
        return job.ref.job_id

    def _passes(self, context: Context, job: Job) -> bool:
        try:
            return self.settle(context, job)
        except AzureBackupJobFailedError as error:
            # Airflow reads these flags in more places than one, and differently in each: they forgive a
            # wait, never a failed backup.
            self.soft_fail = self.never_fail = False
            raise AzureBackupGateShutError(str(error), code=error.code, job=error.job) from None

    def _forgive_timeout(self, message: str) -> None:
        if self.soft_fail or self.never_fail:
            flag = "soft_fail" if self.soft_fail else "never_fail"
            raise AirflowSkipException(f"Skipping, as {flag} asks: {message}")

    def _forgive_blindness(self, error: AzureBackupError) -> None:
        # _passes has taken the flag back where the error is a job that failed.
        if self.never_fail:
            raise AirflowSkipException(f"Skipping, as never_fail asks: {error}") from error

    def _get_next_poke_interval(
        self, started_at: datetime | float, run_duration: Callable[[], float], poke_count: int
    ) -> float:
        """Never look again earlier than Azure asked; look for the last time when the timeout is up."""
        usual: float = super()._get_next_poke_interval(started_at, run_duration, poke_count)
        return min(max(usual, self._asked_to_wait), max(1.0, self.timeout - run_duration()))


def _wait_began(context: Context) -> float:
    """Return when the wait began: before the first of all reschedules."""
    ti = context["ti"]
    first = getattr(ti, "get_first_reschedule_date", None)
    # Airflow 2 keeps the date of the first poke in the task instance itself.
    began = first(context) if first else ti.start_date
    return float(began.timestamp()) if began else clock.current().now()

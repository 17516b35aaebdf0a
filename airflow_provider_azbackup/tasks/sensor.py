"""The base class of sensors: it looks once in any mode, and forgives a long wait, never a failed backup."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseSensorOperator,
)

from airflow_provider_azbackup.core.model.validation import read_warnings
from airflow_provider_azbackup.exceptions import (
    AzureBackupError,
    AzureBackupGateShutError,
    AzureBackupJobFailedError,
    AzureBackupTimeoutError,
    AzureBackupTransientError,
)
from airflow_provider_azbackup.runtime.compat import wait_began
from airflow_provider_azbackup.runtime.job_log import JobLog
from airflow_provider_azbackup.tasks.arguments import (
    check_booleans,
    check_gate,
    read_seconds,
)
from airflow_provider_azbackup.tasks.base import JobBaseOperator

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_azbackup.core.model.jobs import Job
    from airflow_provider_azbackup.core.model.validation import AcceptWarnings
    from airflow_provider_azbackup.tasks.hook import TaskHook


T = TypeVar("T")


class _GateShutError(AzureBackupGateShutError, AirflowFailException):
    """The error as Airflow has to see it in order not to retry; the module of the errors imports nothing."""


class AzureBackupBaseSensorOperator(JobBaseOperator, BaseSensorOperator):
    """The base class of the sensors: looks once in any mode, and forgives a long wait, never a failed backup.

    :param accept_warnings: which jobs that ended ``CompletedWithWarnings`` to accept: True for all, or a set
        of Azure's error codes, by symbol or number, that has to contain every warning of the job. See
        :class:`~airflow_provider_azbackup.operators.AzureBackupOperator` for backups and
        :class:`~airflow_provider_azbackup.operators.AzureBackupRestoreOperator` for restores. Default: False.
    :param require_recovery_point: True also finds the recovery point that the backup made, and pushes its
        facts as the XCom ``recovery_point``: id, time, consistency, tiers, expiry.
    :param min_consistency: the least consistency of the recovery point: ``CrashConsistent``,
        ``FileSystemConsistent`` or ``AppConsistent``. Azure reports it for VMs and file shares.
    :param min_tier: the tier that the recovery point has to reach: ``InstantRP`` (a snapshot near the source)
        or ``HardenedRP`` (in the vault). The task waits for the same recovery point to reach the tier.
    :param require_all_disks: True rejects a backup that left out disks of a VM or volumes of an AKS cluster.
        Needs ``require_recovery_point``.
    :param kwargs: the arguments of Airflow's sensors: ``poke_interval`` and ``timeout`` in seconds, ``mode``,
        ``soft_fail``, ``never_fail`` and so on. ``exponential_backoff`` and ``max_wait`` have no effect on a
        deferred wait, and the log of the task says so.
    """

    _open: TaskHook | None = None
    _job_log: JobLog | None = None
    _since = 0.0
    _asked_to_wait = 0.0

    def __init__(
        self,
        *,
        accept_warnings: AcceptWarnings = False,
        require_recovery_point: bool = False,
        min_consistency: str | None = None,
        min_tier: str | None = None,
        require_all_disks: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        read_seconds(self.task_id, poke_interval=self.poke_interval, timeout=self.timeout)
        check_booleans(
            self.task_id,
            require_recovery_point=require_recovery_point,
            require_all_disks=require_all_disks,
            soft_fail=self.soft_fail,
            never_fail=self.never_fail,
        )
        read_warnings(f"accept_warnings of task {self.task_id!r}", accept_warnings)
        self.accept_warnings = accept_warnings
        self.require_recovery_point = require_recovery_point
        self.min_consistency = min_consistency
        self.min_tier = min_tier
        self.require_all_disks = require_all_disks

    def _check_gate(self) -> None:
        """Refuse what no recovery point can ever be; a child calls it once it knows what it waits for."""
        check_gate(
            self.task_id,
            wait_until=self.wait_until,
            require_recovery_point=self.require_recovery_point,
            min_consistency=self.min_consistency,
            min_tier=self.min_tier,
            require_all_disks=self.require_all_disks,
        )

    def _say_no_backoff(self) -> None:
        if self.deferrable and self.exponential_backoff:
            self.log.warning(
                "exponential_backoff and max_wait have no effect on a deferred wait: the triggerer looks "
                "every %g s (poke_interval). For a growing interval give deferrable=False",
                self.poke_interval,
            )

    def _look(self, context: Context, look: Callable[[TaskHook], T]) -> T | None:
        """Look at Azure; None when a fault that may pass leaves the wait going."""
        self._since = self._since or wait_began(context)
        self._job_log = self._job_log or JobLog(self.log)
        self._asked_to_wait = 0.0
        with nullcontext(self._open) if self._open else self.hook() as hook:
            try:
                return look(hook)
            except AzureBackupTransientError as error:
                self._asked_to_wait = error.retry_after or 0.0
                self._job_log.report(None, error)
                return None

    def _passes(self, context: Context, job: Job) -> bool:
        try:
            since = self._since or None
            opens = self.judge(
                context,
                job,
                since=since,
                attempt_began=since,
                handed={"job_id": job.ref.path, "since": since},
            )
        except AzureBackupJobFailedError as error:
            self._shut(error)
        except AzureBackupTimeoutError as error:
            self._forgive_timeout(str(error))
            self._time_is_up(context, str(error), error.job)
        if opens:
            self.publish(context, job)
        return opens

    def _shut(self, error: AzureBackupJobFailedError) -> NoReturn:
        """Keep the gate shut for good.

        :raises AzureBackupGateShutError: always.
        """
        # Airflow reads these flags in more places than one, and differently in each: they forgive a wait,
        # never a failed backup.
        self.soft_fail = self.never_fail = False
        raise _GateShutError(str(error), code=error.code, job=error.job) from None

    def _time_is_up(self, context: Context, message: str, job: dict[str, Any] | None) -> NoReturn:
        self.soft_fail = self.never_fail = False  # what was to be forgiven has been
        if self._since and self.deadline(context, self._since) < self._since + self.timeout:
            # The execution_timeout is up, which a retry may cure.
            raise AzureBackupTimeoutError(message, job=job)
        raise AirflowSensorTimeout(message)

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

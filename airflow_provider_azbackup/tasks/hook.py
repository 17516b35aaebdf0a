"""The hook of the operators and sensors: what a task does with Azure that no DAG author needs to call."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_azbackup.core.conversations import jobs, matching, retry
from airflow_provider_azbackup.core.conversations.checks import Action, check_job
from airflow_provider_azbackup.core.conversations.recovery_points import check_tier
from airflow_provider_azbackup.core.estate.look import without_turns
from airflow_provider_azbackup.core.model.resources import Vault
from airflow_provider_azbackup.core.start.search import resume_after_obstacle, start_or_adopt
from airflow_provider_azbackup.hooks import AzureBackupHook
from airflow_provider_azbackup.runtime import clock

if TYPE_CHECKING:
    from airflow_provider_azbackup.core.conversations.jobs import OnRead
    from airflow_provider_azbackup.core.conversations.matching import JobMatcher
    from airflow_provider_azbackup.core.estate.look import Turns
    from airflow_provider_azbackup.core.model.jobs import Job
    from airflow_provider_azbackup.core.model.resources import JobRef, ProtectedItem
    from airflow_provider_azbackup.core.model.validation import WaitUntil
    from airflow_provider_azbackup.core.start.intent import Intent, StartRecord
    from airflow_provider_azbackup.core.start.search import StartedJob
    from airflow_provider_azbackup.core.wire import Flow

T = TypeVar("T")
# Seconds in which faults that may pass are waited out when the item of a job that is over is looked up.
_PATIENCE = 300.0


class TaskHook(AzureBackupHook):
    """The public hook, and what one task needs beyond it. Parameters are those of the public hook."""

    def twin(self) -> TaskHook:
        """Return a hook on the same connection, as it was read here, with a client of its own."""
        twin = TaskHook(
            self.azure_backup_conn_id,
            vault_name=self.vault_name,
            resource_group_name=self.resource_group_name,
            subscription_id=self.subscription_id,
            vault_type=self.vault_type,
        )
        twin._settings = self.settings
        return twin

    def start_or_adopt(
        self,
        intent: Intent,
        record: StartRecord | None,
        *,
        save: Callable[[StartRecord | None], None],
        log: Callable[[str], None],
        batch_lookup: bool = False,
    ) -> StartedJob:
        """Find the backup or restore that an earlier try of a task has started, or start one.

        Parameters and errors: :func:`~airflow_provider_azbackup.core.start.search.start_or_adopt`.
        """
        return self._play(start_or_adopt(intent, record, save=save, log=log, batch_lookup=batch_lookup))

    def resume_after_obstacle(
        self,
        intent: Intent,
        failed: Job,
        *,
        save: Callable[[StartRecord | None], None],
        log: Callable[[str], None],
    ) -> StartedJob:
        """Decide how to go on after a job that Azure did not carry out for now.

        Parameters and errors: :func:`~airflow_provider_azbackup.core.start.search.resume_after_obstacle`.
        """
        return self._play(resume_after_obstacle(intent, failed, save=save, log=log))

    def locate_job(
        self, job_id: str, secondary_region: bool | str = False, *, deadline: float = 0.0
    ) -> JobRef:
        """Return a job, and where to ask about it. Costs a request only for the secondary region.

        :param job_id: GUID or ARM id.
        :param secondary_region: as in ``AzureBackupHook.resolve_protected_item``.
        :param deadline: Unix time to which faults that may pass are waited out.
        """
        now = clock.current().now()
        return self._play(
            retry.retry_until(lambda: self._job_ref(job_id, secondary_region), since=now, until=deadline)
        )

    def look_at_job(self, ref: JobRef, *, since: float) -> Job:
        """Return how a job stands now, asking again for up to a minute when it is denied.

        :param since: Unix time the wait for it began.
        :raises AzureBackupAuthError: when a 401 or 403 lasts.
        """
        return self._play(jobs.get_job_despite_refusals(ref, since))

    def watch_job(
        self,
        ref: JobRef,
        *,
        poll_interval: float,
        deadline: float,
        wait_until: WaitUntil = "completion",
        on_read: OnRead = lambda *_: None,
    ) -> Job:
        """Look at a job until it is over and return it, however it ended.

        :param ref: the job.
        :param poll_interval: seconds between two looks.
        :param deadline: Unix time of the last look.
        :param wait_until: ``snapshot`` ends the wait for a VM's backup after its snapshot.
        :param on_read: called after each look, as by
            :func:`~airflow_provider_azbackup.core.conversations.jobs.wait_for_job`.
        :raises AzureBackupTimeoutError: when it still runs then.
        """
        return self._play(
            self._watching(
                ref, poll_interval=poll_interval, deadline=deadline, wait_until=wait_until, on_read=on_read
            )
        )

    def stop_job(self, job_id: str, *, deadline: float) -> Job:
        """Ask Azure to cancel a job, unless it is over or being cancelled, and return how it stands then.

        :param job_id: GUID or ARM id.
        :param deadline: Unix time to which faults that may pass are waited out.
        :raises AzureBackupRefusedError: when Azure declines and the job goes on.
        :raises AzureBackupConfigError: for a job of a Backup vault, which nobody can cancel.
        """
        now = clock.current().now()
        return self._play(jobs.cancel_unless_over(self.job_ref(job_id), since=now, until=deadline))

    def check_job(
        self,
        job: Job,
        protected_item: str | None,
        *,
        action: Action,
        elsewhere: str = "",
        after: float = 0.0,
        secondary_region: bool | str = False,
    ) -> ProtectedItem | None:
        """Refuse a job that is not what a gate waits for; return the item that it is of.

        :param job: the job, read by itself or from a list.
        :param protected_item: as in ``AzureBackupHook.resolve_protected_item``, or None.
        :param action: ``backup``, ``log backup``, ``restore`` or ``anything``.
        :param elsewhere: a storage account that the job may carry instead of the item's own.
        :param after: Unix time by Azure's clock before which it must not have begun; 0 for any time.
        :param secondary_region: where to look the item up, as in ``resolve_protected_item``.
        :raises AzureBackupWrongJobError: when it is another job; shows both sides.
        """
        now = clock.current().now()
        wanted = {"action": action, "elsewhere": elsewhere, "after": after}
        flow = retry.retry_until(
            lambda: self._checked(job, protected_item, secondary_region, **wanted),
            since=now,
            until=now + _PATIENCE,
        )
        return self._play(flow)

    def find_subject(self, protected_item: str, *, deadline: float) -> JobMatcher:
        """Find a protected item, and what its jobs call it.

        :param protected_item: as in ``AzureBackupHook.resolve_protected_item``.
        :param deadline: Unix time to which faults that may pass are waited out.
        :raises AzureBackupConfigError: when jobs do not distinguish it from another item.
        """
        now = clock.current().now()
        return self._play(retry.retry_until(lambda: self._subject(protected_item), since=now, until=deadline))

    def list_backups_of(self, subject: JobMatcher, *, since: datetime, deadline: float = 0.0) -> list[Job]:
        """Return the backups that began since a moment, as :meth:`AzureBackupHook.list_backups` does.

        :param subject: what :meth:`find_subject` returned.
        :param since: at most 30 days ago.
        :param deadline: Unix time to which faults that may pass are waited out.
        """
        now, after = clock.current().now(), since.timestamp()
        return self._play(
            retry.retry_until(lambda: matching.backups_of(subject, after, now), since=now, until=deadline)
        )

    def check_tier(
        self, item: ProtectedItem, min_tier: str | None, *, on_demand: bool = True, deadline: float
    ) -> None:
        """Refuse a tier that no recovery point of an item can reach.

        Costs one read for a backup instance, and none for anything else.

        :param item: what is backed up, as ``AzureBackupHook.resolve_protected_item`` returned it.
        :param min_tier: ``InstantRP``, ``HardenedRP`` or None.
        :param on_demand: whether the recovery point is to be that of an on-demand backup.
        :param deadline: Unix time to which faults that may pass are waited out.
        :raises AzureBackupConfigError: when waiting for it would be in vain.
        """
        now = clock.current().now()
        self._play(
            retry.retry_until(
                lambda: check_tier(item, min_tier, on_demand=on_demand), since=now, until=deadline
            )
        )

    def vault_path(self, vault: str) -> str:
        """Return the ARM id of a vault.

        :param vault: its ARM id, its name, or nothing for the vault of the task or the connection.
        :raises AzureBackupConfigError: when a name comes without the rest, or nothing names a vault.
        """
        if vault.startswith("/"):
            return Vault.parse(vault).path
        named = TaskHook(
            self.azure_backup_conn_id,
            vault_name=vault or self.vault_name,
            resource_group_name=self.resource_group_name,
            subscription_id=self.subscription_id,
            vault_type=self.vault_type,
        )
        named._settings = self.settings
        return named._needed_vault().path

    def converse(self, flow: Turns[T]) -> T:
        """Hold a conversation of :mod:`~airflow_provider_azbackup.core.estate.look`."""
        return self._play(without_turns(flow))

    def _checked(
        self, job: Job, protected_item: str | None, secondary_region: bool | str, **wanted: Any
    ) -> Flow[ProtectedItem | None]:
        item = None if protected_item is None else (yield from self._item(protected_item, secondary_region))
        yield from check_job(job, item, source=protected_item or "", **wanted)
        return item

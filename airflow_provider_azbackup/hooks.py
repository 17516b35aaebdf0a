"""Hooks that talk to Azure Backup: one for tasks, and one for triggers and other event loops.

The second has most methods of the first as coroutines.

azure-core, azure-identity and the HTTP libraries are imported when a hook first talks to Azure, never when a
DAG file is parsed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from datetime import datetime
from importlib import import_module
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack, get_args

from airflow.providers.common.compat.connection import get_async_connection, get_async_extra_dejson
from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook

from airflow_provider_azbackup.core.conversations import (
    items,
    jobs,
    matching,
    operations,
    recovery_points,
    retry,
)
from airflow_provider_azbackup.core.conversations.matching import JobMatcher
from airflow_provider_azbackup.core.conversations.recovery_point_of_job import find_recovery_point
from airflow_provider_azbackup.core.conversations.recovery_points import wait_for_tier
from airflow_provider_azbackup.core.conversations.secondary_region import (
    in_secondary_region,
    item_in_secondary_region,
    job_in_secondary_region,
)
from airflow_provider_azbackup.core.model.arm_ids import RECOVERY_SERVICES, infer_vault_type
from airflow_provider_azbackup.core.model.jobs import Job, is_proven
from airflow_provider_azbackup.core.model.recovery_points import RecoveryPoint
from airflow_provider_azbackup.core.model.resources import JobRef, OperationRef, ProtectedItem, Vault
from airflow_provider_azbackup.core.model.validation import (
    WaitUntil,
    check_texts,
    check_vault_of,
    check_word,
    read_datetime,
    read_warnings,
)
from airflow_provider_azbackup.core.rest import requests
from airflow_provider_azbackup.core.rest.responses import BackupStatus, FoundItem
from airflow_provider_azbackup.core.restore import plan
from airflow_provider_azbackup.core.restore.check import RestoreOptions, split_point_id
from airflow_provider_azbackup.core.settings import Settings
from airflow_provider_azbackup.exceptions import (
    AzureBackupConfigError,
    AzureBackupError,
    AzureBackupNotFoundError,
    AzureBackupTransientError,
)
from airflow_provider_azbackup.get_provider_info import CONNECTION_FIELDS, UI_FIELD_BEHAVIOUR
from airflow_provider_azbackup.runtime import clock
from airflow_provider_azbackup.runtime.compat import (
    connection_form,
    default_zone,
    has_secrets_backend,
    is_parsing,
)
from airflow_provider_azbackup.runtime.connection_test import ask_azure
from airflow_provider_azbackup.runtime.job_log import JobLog

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Connection

    from airflow_provider_azbackup.core.model.validation import AcceptWarnings
    from airflow_provider_azbackup.core.wire import Flow
    from airflow_provider_azbackup.runtime.transport import AsyncDriver, SyncDriver

T = TypeVar("T")
DEFAULT_CONN_ID = "azure_backup_default"
# Seconds in which a connection that cannot be read is asked for again: a secrets backend that does not answer
# looks to Airflow like a connection that is not there.
_CONNECTION_PATIENCE = 300.0
# The same where there is no secrets backend that could be out of order: the triggerer does not see it.
_INVISIBLE_PATIENCE = 50.0
_NOT_VISIBLE = (
    "connection {name!r} is not visible to the triggerer ({error}). A connection in the environment of a "
    "worker exists on that worker only: set AIRFLOW_CONN_{variable} for the triggerer as well, or keep the "
    "connection in Airflow's database, or in a secrets backend that is configured for the triggerer too"
)
log = logging.getLogger(__name__)


class _Target:
    """What both hooks know before they talk: which connection, and which vault a task means."""

    def __init__(
        self,
        azure_backup_conn_id: str = DEFAULT_CONN_ID,
        *,
        vault_name: str | None = None,
        resource_group_name: str | None = None,
        subscription_id: str | None = None,
        vault_type: str | None = None,
    ) -> None:
        super().__init__()
        self.azure_backup_conn_id = azure_backup_conn_id
        self.vault_name = vault_name
        self.resource_group_name = resource_group_name
        self.subscription_id = subscription_id
        self.vault_type = vault_type
        self._settings: Settings | None = None

    @property
    def settings(self) -> Settings:
        """The connection, read and checked."""
        raise NotImplementedError

    def job_ref(self, job_id: str) -> JobRef:
        """Return the job and vault that a GUID or an ARM id means. No request is sent.

        :raises AzureBackupConfigError: when it is neither, a GUID comes without a vault, or the ARM id names
            another vault than this hook was given.
        """
        self._check_vault("job_id", job_id)
        return JobRef.parse(job_id, self._vault())

    def _check_vault(self, name: str, text: str) -> None:
        """Refuse an ARM id of another vault; that of the connection is only a default."""
        check_vault_of(
            name,
            text,
            vault_name=self.vault_name,
            resource_group_name=self.resource_group_name,
            subscription_id=self.subscription_id,
            vault_type=self.vault_type,
        )

    def _item(
        self, protected_item: str | ProtectedItem, secondary_region: bool | str = False
    ) -> Flow[ProtectedItem]:
        if isinstance(protected_item, ProtectedItem):
            return item_in_secondary_region(protected_item, secondary_region)
        check_texts("the hook", protected_item=protected_item)
        self._check_vault("protected_item", protected_item)
        return items.resolve_protected_item(self._vault(), protected_item, secondary_region)

    def _item_patiently(
        self, protected_item: str | ProtectedItem, patience: float, secondary_region: bool | str
    ) -> Flow[ProtectedItem]:
        def find() -> Flow[ProtectedItem | AzureBackupNotFoundError]:
            try:
                return (yield from self._item(protected_item, secondary_region))
            except AzureBackupNotFoundError as error:
                return error  # nothing that waiting would cure

        now = clock.current().now()
        found = yield from retry.retry_until(find, since=now, until=now + patience)
        if isinstance(found, AzureBackupNotFoundError):
            raise found
        return found

    def _job_ref(self, job_id: str, secondary_region: bool | str) -> Flow[JobRef]:
        return job_in_secondary_region(self.job_ref(job_id), secondary_region)

    def _job(self, job_id: str, secondary_region: bool | str) -> Flow[Job]:
        ref = yield from self._job_ref(job_id, secondary_region)
        return (yield from jobs.get_job(ref))

    def _vault(self) -> Vault | None:
        return self.settings.vault(
            vault_name=self.vault_name,
            resource_group_name=self.resource_group_name,
            subscription_id=self.subscription_id,
            vault_type=self.vault_type,
        )

    def type_of(self, text: str) -> str:
        """Return the type of vault that an ARM id or a name is of. No request is sent.

        :param text: of a protected item or a job.
        """
        return infer_vault_type(self.vault_type or self.settings.vault_type, text) or RECOVERY_SERVICES

    def _found(self, protected_item: str | ProtectedItem, patience: float) -> Flow[FoundItem]:
        if not isinstance(protected_item, ProtectedItem):
            self._check_vault("protected_item", protected_item)
        vault, now = self._vault(), clock.current().now()
        return retry.retry_until(
            lambda: items.find_item(vault, protected_item), since=0.0, until=now + patience
        )

    def _backup(self, item: ProtectedItem, options: requests.BackupOptions) -> Flow[OperationRef]:
        _localize(options, "recovery_point_expiry")
        return operations.trigger_backup(item, requests.backup_body(item, **options))

    def _check_restore(
        self, item: ProtectedItem, patience: float, options: RestoreOptions
    ) -> Flow[dict[str, Any]]:
        requests.check_keywords("validate_restore", options, RestoreOptions)
        _localize(options, "as_of", "point_in_time")
        until = clock.current().now() + patience if patience else None
        return plan.validate(item, plan.RestorePlan.read(item, **options), until)

    def _subject(self, protected_item: str) -> Flow[JobMatcher]:
        item = yield from self._item(protected_item)
        return (yield from matching.matcher_of(item))

    def _backups(self, protected_item: str, after: float, now: float) -> Flow[list[Job]]:
        subject = yield from self._subject(protected_item)
        return (yield from matching.backups_of(subject, after, now))

    def _points(self, item: ProtectedItem, wanted: requests.RecoveryPointFilter) -> Flow[list[RecoveryPoint]]:
        wanted = requests.normalize_recovery_point_filter(item.vault, wanted)
        _localize(wanted, "after", "before")
        after, before = wanted.get("after"), wanted.get("before")
        if after and not before:
            wanted["before"] = requests.utc_datetime(clock.current().now() + requests.SLACK)
        if before and not after:
            wanted["after"] = requests.utc_datetime(0.0)
        return recovery_points.list_recovery_points(item, **wanted)

    def _point(self, item: ProtectedItem, recovery_point: str) -> Flow[RecoveryPoint]:
        return recovery_points.get_recovery_point(item, split_point_id(recovery_point)[1])

    def _tier(self, point: RecoveryPoint | str, min_tier: str, deadline: float) -> Flow[RecoveryPoint]:
        if isinstance(point, str):
            owner, point_id = split_point_id(point)
            point = RecoveryPoint(item=ProtectedItem.parse(owner or ""), point_id=point_id)
        return wait_for_tier(point, min_tier, since=clock.current().now(), deadline=deadline)

    def _cancel(self, job_id: str, patience: float) -> Flow[None]:
        ref, now = self.job_ref(job_id), clock.current().now()
        return retry.retry_until(lambda: jobs.cancel_job(ref), since=0.0, until=now + patience)

    def _watching(
        self,
        ref: JobRef,
        *,
        poll_interval: float,
        deadline: float,
        wait_until: WaitUntil = "completion",
        on_read: jobs.OnRead = lambda *_: None,
    ) -> Flow[Job]:
        report = JobLog(getattr(self, "log", log)).report

        def read(job: Job | None, fault: AzureBackupError | None) -> None:
            report(job, fault)
            on_read(job, fault)

        return jobs.wait_for_job(
            ref,
            poll_interval=poll_interval,
            deadline=deadline,
            since=clock.current().now(),
            on_read=read,
            wait_until=wait_until,
        )

    def _items(self, wanted: requests.ItemFilter, secondary_region: bool | str) -> Flow[list[FoundItem]]:
        requests.check_keywords("list_protected_items", wanted, requests.ItemFilter)
        vault = self._needed_vault()
        wanted = requests.normalize_item_filter(vault, wanted)
        vault = yield from in_secondary_region(vault, secondary_region)
        return (yield from items.list_protected_items(vault, **wanted))

    def _jobs(self, wanted: requests.JobFilter, secondary_region: bool | str) -> Flow[list[Job]]:
        requests.check_keywords("list_jobs", wanted, requests.JobFilter)
        vault = self._needed_vault()
        wanted = requests.normalize_job_filter(vault, wanted)
        _localize(wanted, "started_after", "started_before")
        vault = yield from in_secondary_region(vault, secondary_region)
        return (yield from jobs.list_jobs(requests.list_jobs(vault, **wanted), vault, **wanted))

    def _needed_vault(self) -> Vault:
        if vault := self._vault():
            return vault
        raise AzureBackupConfigError(
            f"no vault is named; give vault_name, resource_group_name and subscription_id to the hook, "
            f"or put them into the extra of connection {self.azure_backup_conn_id!r}"
        )


class AzureBackupHook(_Target, BaseHook):
    """Azure Backup for tasks: starts, finds, watches and cancels jobs of a vault.

    Close it, or use it in a ``with`` block, when done.

    :param azure_backup_conn_id: connection of type ``azure_backup``, or an existing one of type ``azure``.
    :param vault_name: the vault, instead of the connection's.
    :param resource_group_name: its resource group, instead of the connection's.
    :param subscription_id: its subscription, instead of the connection's.
    :param vault_type: ``RecoveryServices``, or ``DataProtection`` for a Backup vault, instead of the
        connection's. You can leave it out where you give an ARM id, which shows the type.
    """

    conn_name_attr = "azure_backup_conn_id"
    default_conn_name = DEFAULT_CONN_ID
    conn_type = "azure_backup"
    hook_name = "Azure Backup"

    _driver: SyncDriver | None = None

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the connection form's fields for Airflow below 3.2; later ones read the provider info."""
        return connection_form(CONNECTION_FIELDS)

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return labels and placeholders of the connection form for Airflow below 3.2."""
        return {name.replace("-", "_"): value for name, value in UI_FIELD_BEHAVIOUR.items()}

    @property
    def settings(self) -> Settings:
        """The connection, read once and checked.

        :raises AzureBackupConfigError: naming the field that is wrong.
        """
        if self._settings is None:
            if is_parsing():
                self.log.warning(
                    "A hook is used while Airflow reads a DAG file, so Azure is asked each time it does. "
                    "Call the hook in a task"
                )
            self._settings = self._read_patiently()
        return self._settings

    def _read_patiently(self) -> Settings:
        # Without a secrets backend, a connection that a worker does not find is a mistake of the author.
        until = clock.current().now() + _CONNECTION_PATIENCE if has_secrets_backend() else 0.0
        for pause in _pauses():
            try:
                return self._read()
            except AirflowNotFoundException as error:
                if (left := until - clock.current().now()) <= 0:
                    raise
                log.warning("Connection %r cannot be read now: %s", self.azure_backup_conn_id, error)
                clock.current().sleep(min(pause, left))
        raise AssertionError("the pauses have no end")

    def _read(self) -> Settings:
        conn = self.get_connection(self.azure_backup_conn_id)
        return Settings.read(
            self.azure_backup_conn_id,
            conn_type=conn.conn_type,
            login=conn.login,
            password=conn.password,
            extra=conn.extra_dejson,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections to Azure and to Entra ID; the hook may be used again."""
        if self._driver:
            self._driver.close()
            self._driver = None

    def resolve_protected_item(
        self, protected_item: str, *, patience: float = 0.0, secondary_region: bool | str = False
    ) -> ProtectedItem:
        """Find a protected item.

        :param protected_item: ARM id of the protected item, ARM id of the virtual machine or of the file
            share, or a friendly name; in a Backup vault ARM id, name or friendly name of the backup instance.
            All but the ARM id of an item need requests.
        :param patience: seconds in which faults that may pass are waited out; a name that the vault does not
            know is none.
        :param secondary_region: True finds it in the secondary region of a vault with cross-region restore,
            without asking the region of the vault, and whatever is asked about the item that is returned is
            asked there. The name of a region takes that one. Default: False.
        :raises AzureBackupNotFoundError: when the vault protects nothing of that name, or its backup data is
            soft-deleted.
        :raises AzureBackupConfigError: when several items share the name, which are listed, or when the item
            that has a VM's resource group and name protects another VM.
        """
        return self._play(self._item_patiently(protected_item, patience, secondary_region))

    def get_protected_item(self, protected_item: str | ProtectedItem, *, patience: float = 0.0) -> FoundItem:
        """Return a protected item as Azure shows it now: source, policy, state, whether its data is deleted.

        :param protected_item: as in :meth:`resolve_protected_item`, or what that returned.
        :param patience: seconds in which faults that may pass are waited out.
        :raises AzureBackupError: as in :meth:`resolve_protected_item`; an item that is given by its own ARM
            id is returned even if its data is soft-deleted.

        Source: https://learn.microsoft.com/rest/api/backup/protected-items/get
        """
        return self._play(self._found(protected_item, patience))

    def trigger_backup(
        self, protected_item: str | ProtectedItem, **options: Unpack[requests.BackupOptions]
    ) -> OperationRef:
        """Start an on-demand backup, once, and return the operation Azure named; it is not a job yet.

        :param protected_item: as in :meth:`resolve_protected_item`, or what that returned.
        :param options: ``backup_type``, ``enable_compression``, ``recovery_point_expiry``, and for a Backup
            vault ``rule_name``, ``retention_tag``; see
            :class:`~airflow_provider_azbackup.core.rest.requests.BackupOptions`.
        :raises AzureBackupConfigError: for an option or a value that is not known, before the backup starts.
        :raises AzureBackupUnconfirmedStartError: when it is unknown whether the backup was started.
        :raises AzureBackupError: when Azure refused it.

        Source: https://learn.microsoft.com/azure/backup/backup-azure-arm-userestapi-backupazurevms
        """
        requests.check_keywords("trigger_backup", options, requests.BackupOptions)
        if not isinstance(protected_item, ProtectedItem):
            protected_item = self.resolve_protected_item(protected_item)
        return self._play(self._backup(protected_item, options))

    def trigger_restore(
        self,
        protected_item: str | ProtectedItem,
        *,
        secondary_region: bool | str = False,
        **options: Unpack[RestoreOptions],
    ) -> OperationRef:
        """Start a restore, once, and return the operation Azure named; it is not a job yet.

        In a Backup vault Azure is asked first whether it would work, and followed until it has answered.

        :param protected_item: as in :meth:`resolve_protected_item`, or what that returned.
        :param secondary_region: as in :meth:`resolve_protected_item`: the restore runs there.
        :param options: ``restore_to``, ``request``, ``recovery_point``, ``as_of``, ``point_in_time``; see
            :class:`~airflow_provider_azbackup.core.restore.check.RestoreOptions`.
        :raises AzureBackupNotFoundError: when no recovery point will do; lists those that are there.
        :raises AzureBackupUnconfirmedStartError: when it is unknown whether the restore was started.
        :raises AzureBackupError: when Azure refused it, or says that it would not work.

        Source: https://learn.microsoft.com/rest/api/backup/restores/trigger
        """
        requests.check_keywords("trigger_restore", options, RestoreOptions)
        protected_item = self._play(self._item(protected_item, secondary_region))
        _localize(options, "as_of", "point_in_time")
        return self._play(plan.restore(protected_item, **options))

    def validate_restore(
        self,
        protected_item: str | ProtectedItem,
        *,
        patience: float = 0.0,
        secondary_region: bool | str = False,
        **options: Unpack[RestoreOptions],
    ) -> dict[str, Any]:
        """Ask Azure whether a restore would work now, and return the record of the check.

        Nothing is restored. It takes seconds, and at most five minutes.

        :param protected_item: as in :meth:`resolve_protected_item`, or what that returned.
        :param patience: seconds in which faults that may pass are waited out.
        :param secondary_region: as in :meth:`resolve_protected_item`: whether a restore there would work,
            which Azure says of Backup vaults only.
        :param options: as in :meth:`trigger_restore`.
        :return: ``version``, ``item``, ``restore_to`` (name of the target), ``works`` (True), the facts of
            the ``recovery_point``, and ``code`` and ``reason`` (None).
        :raises AzureBackupRefusedError: when the restore would not work; names Azure's reasons.
        :raises AzureBackupError: when it would not work for another reason, such as a missing right or
            recovery point, or when Azure could not be asked.

        Source: https://learn.microsoft.com/rest/api/backup/validate-operation/trigger
        """
        protected_item = self._play(self._item_patiently(protected_item, patience, secondary_region))
        return self._play(self._check_restore(protected_item, patience, options))

    def wait_for_operation(self, operation: OperationRef, what: str = "backup") -> JobRef:
        """Follow an accepted backup or restore until Azure names its job: seconds, at most five minutes.

        :param what: what was accepted, in errors: a backup or a restore.
        :raises AzureBackupRefusedError: when the operation failed.
        :raises AzureBackupUnconfirmedStartError: when it names no job.
        """
        return self._play(operations.wait_for_operation(operation, what))

    def get_job(self, job_id: str, *, secondary_region: bool | str = False) -> Job:
        """Return how a job stands now. Costs a read of jobs, which Azure limits for the whole subscription.

        :param job_id: GUID or ARM id.
        :param secondary_region: as in :meth:`resolve_protected_item`, for a restore that runs there.
        """
        return self._play(self._job(job_id, secondary_region))

    def list_jobs(
        self, *, secondary_region: bool | str = False, **wanted: Unpack[requests.JobFilter]
    ) -> list[Job]:
        """Return the vault's jobs, all pages; each without its tasks, which only :meth:`get_job` brings.

        :param secondary_region: as in :meth:`resolve_protected_item`: the restores that run there.
        :param wanted: ``status``, ``operation``, ``backup_management_type``, ``started_after``,
            ``started_before``; see :class:`~airflow_provider_azbackup.core.rest.requests.JobFilter`.
        """
        return self._play(self._jobs(wanted, secondary_region))

    def cancel_job(
        self,
        job_id: str,
        *,
        wait: bool = False,
        poll_interval: float = 60.0,
        timeout: float = 3600.0,
        patience: float = 0.0,
    ) -> Job | None:
        """Ask Azure to cancel a job of a Recovery Services vault.

        :param job_id: GUID or ARM id of the job.
        :param wait: True waits until the job is over. A job that is over already is left alone then, and one
            that is being cancelled is only waited for.
        :param poll_interval: with ``wait``: seconds between two looks at the job.
        :param timeout: with ``wait``: seconds until the job must be over.
        :param patience: without ``wait``: seconds for which the request is repeated after faults that may
            pass. Asking twice does no harm. With ``wait``, it is repeated until ``timeout`` has passed.
        :return: with ``wait`` the job at its end, however it ended; else None.
        :raises AzureBackupRefusedError: when Azure declines and the job goes on.
        :raises AzureBackupTimeoutError: when the job still runs after ``timeout`` seconds.
        :raises AzureBackupConfigError: for a job of a Backup vault, which Azure cannot cancel.

        Source: https://learn.microsoft.com/rest/api/backup/job-cancellations/trigger
        """
        if not wait:
            self._play(self._cancel(job_id, patience))
            return None
        now = clock.current().now()
        ref, deadline = self.job_ref(job_id), now + timeout
        job = self._play(jobs.cancel_unless_over(ref, since=now, until=deadline))
        if not job.is_running:
            return job
        return self._play(self._watching(ref, poll_interval=poll_interval, deadline=deadline))

    def wait_for_job(
        self,
        job_id: str,
        *,
        poll_interval: float = 60.0,
        timeout: float,
        accept_warnings: AcceptWarnings = False,
        wait_until: WaitUntil = "completion",
        check: bool = True,
        secondary_region: bool | str = False,
    ) -> Job:
        """Wait for a job, and return it only when it has succeeded.

        :param job_id: GUID or ARM id of the job.
        :param poll_interval: seconds between two looks at the job.
        :param timeout: seconds that the wait may last.
        :param accept_warnings: True also accepts ``CompletedWithWarnings``; a set of Azure's error codes
            accepts it where every warning of the job is one of these.
        :param wait_until: ``snapshot`` ends the wait for a VM's backup after its snapshot.
        :param check: False returns the job however it ended.
        :param secondary_region: as in :meth:`resolve_protected_item`, for a restore that runs there.
        :raises AzureBackupJobFailedError: when the job is over and has not succeeded.
        :raises AzureBackupTimeoutError: when the job still runs after ``timeout`` seconds.
        """
        check_word("wait_until", wait_until, get_args(WaitUntil))
        read_warnings("accept_warnings", accept_warnings)
        deadline = clock.current().now() + timeout
        ref = self._play(self._job_ref(job_id, secondary_region))
        job = self._play(
            self._watching(ref, poll_interval=poll_interval, deadline=deadline, wait_until=wait_until)
        )
        if check:
            is_proven(job, accept_warnings=accept_warnings, wait_until=wait_until)
        return job

    def test_connection(self) -> tuple[bool, str]:
        """Ask Azure for real, once, within ten seconds: which identity, which vault, which right is missing.

        The Test button runs this in the API server, whose managed identity is not the worker's. A host is
        asked only when it belongs to a known cloud or is listed in ``[azure_backup] allowed_hosts``.

        :return: whether Azure answered, and what to show.
        """
        try:
            self._settings = settings = self._settings or self._read()
            return ask_azure(settings, self._vault(), self.vault_type or settings.vault_type)
        except AzureBackupError as error:
            return False, str(error)

    def list_protected_items(
        self, *, secondary_region: bool | str = False, **wanted: Unpack[requests.ItemFilter]
    ) -> list[FoundItem]:
        """Return what the vault protects: VMs, file shares, SQL and SAP HANA databases.

        :param secondary_region: as in :meth:`resolve_protected_item`.
        :param wanted: ``backup_management_type``, ``policy``, ``state``; see
            :class:`~airflow_provider_azbackup.core.rest.requests.ItemFilter`.
        """
        return self._play(self._items(wanted, secondary_region))

    def last_backup(self, protected_item: str) -> Job | None:
        """Return the newest backup of an item in 30 days, no matter how it ended; None when there is none.

        Costs a read of the vault's job list.
        """
        backups = self.list_backups(protected_item, since=requests.utc_datetime(0.0))
        return max(backups, key=lambda job: job.began, default=None)

    def backup_status(self, vm_id: str, region: str) -> BackupStatus:
        """Return whether, and in which vault, a virtual machine is protected; no vault need be named.

        :param vm_id: ARM id of the VM.
        :param region: its region, such as ``westeurope``.
        :raises AzureBackupConfigError: when it is not the ARM id of a VM.

        Source: https://learn.microsoft.com/rest/api/backup/backup-status/get
        """
        return self._play(items.get_backup_status(vm_id, region))

    def find_recovery_point(
        self, job: Job, protected_item: str | ProtectedItem | None = None
    ) -> RecoveryPoint:
        """Return the recovery point that a backup has made.

        A job of a Backup vault names it. Any other job does not, so it is found by its time, and never taken
        for that of another backup of the item; to rule that out may cost a read of the vault's job list.

        :param job: the backup, over or past its snapshot.
        :param protected_item: what it has backed up, as in :meth:`resolve_protected_item`; None looks it up
            by the names that the job shows.
        :raises AzureBackupNotFoundError: when none is listed within five minutes, or when it is not clear
            which one it is.
        :raises AzureBackupConfigError: for a job that makes none, or none that Azure lists.
        """
        if isinstance(protected_item, str):
            protected_item = self.resolve_protected_item(protected_item)
        return self._play(find_recovery_point(job, protected_item, clock.current().now()))

    def list_backups(self, protected_item: str, *, since: datetime) -> list[Job]:
        """Return the backups of one item that began at or after a moment, no matter who started them.

        Costs a read of the vault's job list, which Azure limits for the whole subscription.

        :param protected_item: as in :meth:`resolve_protected_item`.
        :param since: at most 30 days ago; Azure lists no older jobs.
        :raises AzureBackupConfigError: when a job does not show whether it is one of this item or of another.
        """
        now, after = clock.current().now(), since.timestamp()
        flow = retry.retry_until(lambda: self._backups(protected_item, after, now), since=now, until=now)
        return self._play(flow)

    def list_recovery_points(
        self,
        protected_item: str | ProtectedItem,
        *,
        secondary_region: bool | str = False,
        **wanted: Unpack[requests.RecoveryPointFilter],
    ) -> list[RecoveryPoint]:
        """Return an item's recovery points, newest first as far as seen.

        :param protected_item: as in :meth:`resolve_protected_item`, or what that returned.
        :param secondary_region: as in :meth:`resolve_protected_item`: those that have been copied there.
        :param wanted: ``after``, ``before``, ``query_type``; see
            :class:`~airflow_provider_azbackup.core.rest.requests.RecoveryPointFilter`.

        Source: https://learn.microsoft.com/rest/api/backup/recovery-points/list
        """
        requests.check_keywords("list_recovery_points", wanted, requests.RecoveryPointFilter)
        protected_item = self._play(self._item(protected_item, secondary_region))
        return self._play(self._points(protected_item, wanted))

    def get_recovery_point(
        self,
        protected_item: str | ProtectedItem,
        recovery_point: str,
        *,
        secondary_region: bool | str = False,
    ) -> RecoveryPoint:
        """Return one recovery point of an item.

        :param protected_item: as in :meth:`resolve_protected_item`, or what that returned.
        :param recovery_point: its id or its ARM id.
        :param secondary_region: as in :meth:`resolve_protected_item`.
        :raises AzureBackupNotFoundError: when the item has none of that id.

        Source: https://learn.microsoft.com/rest/api/backup/recovery-points/get
        """
        protected_item = self._play(self._item(protected_item, secondary_region))
        return self._play(self._point(protected_item, recovery_point))

    def wait_for_tier(
        self, recovery_point: RecoveryPoint | str, min_tier: str, *, deadline: float
    ) -> RecoveryPoint:
        """Read one recovery point again until it has reached a tier, and return it as it is then.

        It is also returned once Azure marks it as deleted, expired, partial or infected. Ask it by
        :meth:`~airflow_provider_azbackup.core.model.recovery_points.RecoveryPoint.shortcoming`.

        :param recovery_point: as a method of this hook returned it, or its ARM id.
        :param min_tier: ``InstantRP`` or ``HardenedRP``.
        :param deadline: Unix time of the last look.
        :raises AzureBackupTimeoutError: when it has not reached the tier by then.
        :raises AzureBackupConfigError: for text that is no ARM id of a recovery point.

        Source: https://learn.microsoft.com/rest/api/backup/recovery-points/get
        """
        return self._play(self._tier(recovery_point, min_tier, deadline))

    def _play(self, flow: Flow[T]) -> T:
        if self._driver is None:
            from airflow_provider_azbackup.runtime.transport import SyncDriver

            self._driver = SyncDriver(self.settings, reread=self._read)
        return self._driver.play(flow)


class AzureBackupAsyncHook(_Target):
    """Azure Backup for triggers: the methods of :class:`AzureBackupHook`, on an event loop.

    ``async with`` reads the connection without blocking the loop and closes client and credential at the end.
    Parameters are those of :class:`AzureBackupHook`.
    """

    _driver: AsyncDriver | None = None

    @property
    def settings(self) -> Settings:
        """The connection, as read by ``async with``."""
        if self._settings is None:
            raise RuntimeError("use AzureBackupAsyncHook in an 'async with' block: it reads the connection")
        return self._settings

    async def __aenter__(self) -> Self:
        until = clock.current().now() + _CONNECTION_PATIENCE
        await self._open(until=lambda: until)
        return self

    async def _open(
        self,
        *,
        until: Callable[[], float],
        notice: Callable[[AzureBackupError], None] = lambda _: None,
    ) -> None:
        """Read the connection and make a client.

        :param until: returns the Unix time to which a connection that cannot be read is asked for again.
        :param notice: is called with the error of each try that has failed.
        :raises AzureBackupConfigError: when the connection is wrong, or not visible here until then. Without
            a secrets backend, which may be out of order, that is certain within a minute.
        :raises AzureBackupTransientError: when it cannot be read for another reason.
        """
        self._settings = await self._read(await self._connection(until, notice))
        # The first import of azure and aiohttp takes 0.2 s, and the triggerer's loop serves others.
        await asyncio.to_thread(import_module, "azure.identity.aio")
        transport = await asyncio.to_thread(import_module, "airflow_provider_azbackup.runtime.transport")
        self._driver = transport.AsyncDriver(self._settings, reread=self._reread)

    async def __aexit__(self, *_: object) -> None:
        if self._driver:
            await self._driver.close()
            self._driver = None

    async def _read(self, conn: Connection) -> Settings:
        return Settings.read(
            self.azure_backup_conn_id,
            conn_type=conn.conn_type,
            login=conn.login,
            password=conn.password,
            extra=await get_async_extra_dejson(conn),
        )

    async def _reread(self) -> Settings:
        return await self._read(await _read_connection(self.azure_backup_conn_id))

    async def _connection(
        self, until: Callable[[], float], notice: Callable[[AzureBackupError], None]
    ) -> Connection:
        gives_up = clock.current().now() + _INVISIBLE_PATIENCE
        for pause in _pauses():
            fault: AzureBackupError
            try:
                return await _read_connection(self.azure_backup_conn_id)
            except AirflowNotFoundException as error:
                fault = AzureBackupConfigError(
                    _NOT_VISIBLE.format(
                        name=self.azure_backup_conn_id,
                        variable=self.azure_backup_conn_id.upper(),
                        error=error,
                    )
                )
                end = until() if has_secrets_backend() else min(until(), gives_up)
            except Exception as error:  # Airflow, and what reads the connection for it, raise what they like
                fault = AzureBackupTransientError(
                    f"connection {self.azure_backup_conn_id!r} cannot be read now: "
                    f"{type(error).__name__}: {error}"
                )
                end = until()
            if (left := end - clock.current().now()) <= 0:
                raise fault
            log.warning("%s", fault)
            notice(fault)
            await clock.current().pause(min(pause, left))
        raise AssertionError("the pauses have no end")

    async def resolve_protected_item(
        self, protected_item: str, *, secondary_region: bool | str = False
    ) -> ProtectedItem:
        """Find a protected item, as :meth:`AzureBackupHook.resolve_protected_item` does."""
        return await self._play(self._item(protected_item, secondary_region))

    async def get_protected_item(
        self, protected_item: str | ProtectedItem, *, patience: float = 0.0
    ) -> FoundItem:
        """Return a protected item, as :meth:`AzureBackupHook.get_protected_item` does."""
        return await self._play(self._found(protected_item, patience))

    async def trigger_backup(
        self, protected_item: str | ProtectedItem, **options: Unpack[requests.BackupOptions]
    ) -> OperationRef:
        """Start an on-demand backup, once, as :meth:`AzureBackupHook.trigger_backup` does.

        Never from a trigger's ``run``: Airflow may run that again elsewhere at any moment.
        """
        requests.check_keywords("trigger_backup", options, requests.BackupOptions)
        if not isinstance(protected_item, ProtectedItem):
            protected_item = await self.resolve_protected_item(protected_item)
        return await self._play(self._backup(protected_item, options))

    async def trigger_restore(
        self,
        protected_item: str | ProtectedItem,
        *,
        secondary_region: bool | str = False,
        **options: Unpack[RestoreOptions],
    ) -> OperationRef:
        """Start a restore, once, as :meth:`AzureBackupHook.trigger_restore` does.

        Never from a trigger's ``run``: Airflow may run that again elsewhere at any moment.
        """
        requests.check_keywords("trigger_restore", options, RestoreOptions)
        protected_item = await self._play(self._item(protected_item, secondary_region))
        _localize(options, "as_of", "point_in_time")
        return await self._play(plan.restore(protected_item, **options))

    async def validate_restore(
        self,
        protected_item: str | ProtectedItem,
        *,
        patience: float = 0.0,
        secondary_region: bool | str = False,
        **options: Unpack[RestoreOptions],
    ) -> dict[str, Any]:
        """Ask Azure whether a restore would work, as :meth:`AzureBackupHook.validate_restore` does."""
        protected_item = await self._play(self._item_patiently(protected_item, patience, secondary_region))
        return await self._play(self._check_restore(protected_item, patience, options))

    async def wait_for_operation(self, operation: OperationRef, what: str = "backup") -> JobRef:
        """Follow an accepted backup or restore, as :meth:`AzureBackupHook.wait_for_operation` does."""
        return await self._play(operations.wait_for_operation(operation, what))

    async def get_job(self, job_id: str, *, secondary_region: bool | str = False) -> Job:
        """Return how a job stands now, as :meth:`AzureBackupHook.get_job` does."""
        return await self._play(self._job(job_id, secondary_region))

    async def list_jobs(
        self, *, secondary_region: bool | str = False, **wanted: Unpack[requests.JobFilter]
    ) -> list[Job]:
        """Return the vault's jobs, as :meth:`AzureBackupHook.list_jobs` does."""
        return await self._play(self._jobs(wanted, secondary_region))

    async def list_protected_items(
        self, *, secondary_region: bool | str = False, **wanted: Unpack[requests.ItemFilter]
    ) -> list[FoundItem]:
        """Return what the vault protects, as :meth:`AzureBackupHook.list_protected_items` does."""
        return await self._play(self._items(wanted, secondary_region))

    async def backup_status(self, vm_id: str, region: str) -> BackupStatus:
        """Return whether a VM is protected, as :meth:`AzureBackupHook.backup_status` does."""
        return await self._play(items.get_backup_status(vm_id, region))

    async def list_recovery_points(
        self,
        protected_item: str | ProtectedItem,
        *,
        secondary_region: bool | str = False,
        **wanted: Unpack[requests.RecoveryPointFilter],
    ) -> list[RecoveryPoint]:
        """Return an item's recovery points, as :meth:`AzureBackupHook.list_recovery_points` does."""
        requests.check_keywords("list_recovery_points", wanted, requests.RecoveryPointFilter)
        protected_item = await self._play(self._item(protected_item, secondary_region))
        return await self._play(self._points(protected_item, wanted))

    async def get_recovery_point(
        self,
        protected_item: str | ProtectedItem,
        recovery_point: str,
        *,
        secondary_region: bool | str = False,
    ) -> RecoveryPoint:
        """Return one recovery point, as :meth:`AzureBackupHook.get_recovery_point` does."""
        protected_item = await self._play(self._item(protected_item, secondary_region))
        return await self._play(self._point(protected_item, recovery_point))

    async def find_recovery_point(
        self, job: Job, protected_item: str | ProtectedItem | None = None
    ) -> RecoveryPoint:
        """Return the recovery point of a backup, as :meth:`AzureBackupHook.find_recovery_point` does."""
        if isinstance(protected_item, str):
            protected_item = await self.resolve_protected_item(protected_item)
        return await self._play(find_recovery_point(job, protected_item, clock.current().now()))

    async def wait_for_tier(
        self, recovery_point: RecoveryPoint | str, min_tier: str, *, deadline: float
    ) -> RecoveryPoint:
        """Wait for a recovery point to reach a tier, as :meth:`AzureBackupHook.wait_for_tier` does."""
        return await self._play(self._tier(recovery_point, min_tier, deadline))

    async def cancel_job(
        self,
        job_id: str,
        *,
        wait: bool = False,
        poll_interval: float = 60.0,
        timeout: float = 3600.0,
        patience: float = 0.0,
    ) -> Job | None:
        """Ask Azure to cancel a job, as :meth:`AzureBackupHook.cancel_job` does."""
        if not wait:
            await self._play(self._cancel(job_id, patience))
            return None
        now = clock.current().now()
        ref, deadline = self.job_ref(job_id), now + timeout
        job = await self._play(jobs.cancel_unless_over(ref, since=now, until=deadline))
        if not job.is_running:
            return job
        return await self._play(self._watching(ref, poll_interval=poll_interval, deadline=deadline))

    async def wait_for_job(
        self,
        job_id: str,
        *,
        poll_interval: float = 60.0,
        timeout: float,
        accept_warnings: AcceptWarnings = False,
        wait_until: WaitUntil = "completion",
        check: bool = True,
        secondary_region: bool | str = False,
    ) -> Job:
        """Wait for a job, as :meth:`AzureBackupHook.wait_for_job` does."""
        check_word("wait_until", wait_until, get_args(WaitUntil))
        read_warnings("accept_warnings", accept_warnings)
        deadline = clock.current().now() + timeout
        ref = await self._play(self._job_ref(job_id, secondary_region))
        job = await self._play(
            self._watching(ref, poll_interval=poll_interval, deadline=deadline, wait_until=wait_until)
        )
        if check:
            is_proven(job, accept_warnings=accept_warnings, wait_until=wait_until)
        return job

    async def _play(self, flow: Flow[T]) -> T:
        return await self._open_driver().play(flow)

    def _open_driver(self) -> AsyncDriver:
        if self._driver is None:
            raise RuntimeError("use AzureBackupAsyncHook in an 'async with' block: it opens the client")
        return self._driver


def _localize(options: Any, *names: str) -> None:
    """Give the moments among a call's options Airflow's time zone where they name none."""
    for name in names:
        if name in options:
            options[name] = read_datetime(name, options[name], zone=default_zone())


def _pauses() -> Iterator[float]:
    """Return the seconds between the tries to read a connection."""
    return chain((5.0, 15.0, 30.0), repeat(60.0))


async def _read_connection(conn_id: str) -> Connection:
    # Shielded: up to Airflow 3.1, a question to Airflow that is taken back brings the triggerer down.
    return await asyncio.shield(asyncio.ensure_future(get_async_connection(conn_id)))

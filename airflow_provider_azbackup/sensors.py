"""Sensors that wait for a job of a vault, no matter who started it, or for a fresh backup of an item."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import (
    AirflowSensorTimeout,
    AirflowSkipException,
    PokeReturnValue,
)

from airflow_provider_azbackup.core.estate import VERDICT
from airflow_provider_azbackup.core.model.validation import check_secondary_region, read_warnings
from airflow_provider_azbackup.core.model.workloads import TIERS
from airflow_provider_azbackup.exceptions import (
    AzureBackupAuthError,
    AzureBackupConfigError,
    AzureBackupError,
    AzureBackupJobFailedError,
    AzureBackupNotFoundError,
    AzureBackupTimeoutError,
    AzureBackupTransientError,
    AzureBackupWrongJobError,
)
from airflow_provider_azbackup.links import AzureBackupVaultLink
from airflow_provider_azbackup.runtime import clock
from airflow_provider_azbackup.runtime.compat import interval_start, wait_began
from airflow_provider_azbackup.tasks.arguments import check_moment, read_moment, read_seconds
from airflow_provider_azbackup.tasks.expected import ExpectedBaseOperator
from airflow_provider_azbackup.tasks.fleet import (
    check_allow,
    check_scope,
    read_tags,
    read_texts,
    vaults_of,
)
from airflow_provider_azbackup.tasks.sensor import AzureBackupBaseSensorOperator

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_azbackup.core.conversations.checks import Action
    from airflow_provider_azbackup.core.conversations.matching import JobMatcher
    from airflow_provider_azbackup.core.estate.look import Estate
    from airflow_provider_azbackup.core.estate.scope import Condition, Scope
    from airflow_provider_azbackup.core.estate.verdict import Verdict
    from airflow_provider_azbackup.core.model.jobs import Job
    from airflow_provider_azbackup.core.model.resources import JobRef, ProtectedItem
    from airflow_provider_azbackup.core.model.validation import WaitUntil
    from airflow_provider_azbackup.core.wire import JsonObject
    from airflow_provider_azbackup.runtime.fleet_event import FleetEvent
    from airflow_provider_azbackup.runtime.verdict_log import VerdictLog
    from airflow_provider_azbackup.tasks.hook import TaskHook


# Seconds that a worker waits for Azure to say what an item is called.
_PATIENCE = 300.0
# A smaller number of seconds is likely to be meant as hours.
_LEAST_AGE = 60.0


class AzureBackupJobSensor(ExpectedBaseOperator, AzureBackupBaseSensorOperator):
    """Opens when a job has succeeded; fails, without a retry, when it ended in any other way.

    It accepts a job of **any** operation of the vault: a backup or a restore, but also ``ConfigureBackup`` or
    ``DeleteBackupData``. It proves that this very job ended well, not that there is a backup. Where you need
    a proven backup, use :class:`~airflow_provider_azbackup.operators.AzureBackupOperator` with ``job_id``,
    which accepts backups only, or :class:`AzureBackupFreshnessSensor`.

    ``timeout`` (seconds from the start of the wait), ``soft_fail`` and ``never_fail`` mean the same with
    ``mode="poke"``, ``mode="reschedule"`` and ``deferrable=True``. Both flags forgive a wait that took too
    long: the task is skipped. ``never_fail`` also forgives that the sensor could not look. Neither forgives a
    failed job. Note that a skipped gate lets tasks with ``trigger_rule="none_failed"`` run.

    The sensor returns the job id, and pushes the XComs ``job_id`` before the wait, ``job`` (a dict of facts)
    at its end, and the portal links of job and vault.

    :param job_id: GUID or ARM id of the job. A GUID is looked up in the vault of the task or of the
        connection. An ARM id must name the same vault as the arguments of the vault, where you give them.
    :param wait_until: ``completion`` waits for the end of the job. ``snapshot`` opens after the snapshot of a
        VM's backup, which takes minutes. You can restore from the snapshot, but it is kept with the VM's
        disks, and the transfer to the vault, which takes hours, may still fail. Another sensor can wait for
        the transfer later. For other jobs the sensor waits until they end. Default: ``completion``.
    :param secondary_region: True asks the secondary region of the vault, for a restore that runs there; the
        region of the vault may be down. The name of a region takes that one. Default: False.
    :param kwargs: the arguments of :class:`AzureBackupBaseSensorOperator`, of
        :class:`~airflow_provider_azbackup.tasks.expected.ExpectedBaseOperator`, of their base classes, and of
        Airflow's sensors.
    :raises AzureBackupGateShutError: when the job is over and proves no backup, or when the trigger reports
        another job.
    :raises AzureBackupConfigError: for an ARM id of another vault than the task names.
    :raises AzureBackupNotFoundError: when a recovery point is required and none is found.
    :raises AirflowSensorTimeout: when the job still runs after ``timeout`` seconds.
    :raises AzureBackupError: when Azure does not let this identity look.

    Source: https://learn.microsoft.com/azure/backup/backup-azure-arm-userestapi-managejobs
    """

    template_fields: Sequence[str] = ("job_id", *ExpectedBaseOperator.template_fields)
    required_fields = frozenset({"job_id"})

    def __init__(
        self,
        *,
        job_id: str,
        wait_until: WaitUntil = "completion",
        secondary_region: bool | str = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_secondary_region(f"secondary_region of task {self.task_id!r}", secondary_region)
        if secondary_region and (self.require_recovery_point or wait_until == "snapshot"):
            raise AzureBackupConfigError(
                f"task {self.task_id!r} waits for a job in the secondary region, where only restores run. A "
                f"restore makes neither a recovery point nor a snapshot; drop require_recovery_point and "
                f"wait_until"
            )
        self.job_id = job_id
        self.wait_until = wait_until
        self.secondary_region = secondary_region
        self._ref: JobRef | None = None
        self._check_gate()
        self.check_arguments()

    def execute(self, context: Context) -> Any:
        """Wait in the mode that was asked for."""
        self.check_resumes(context)
        self._say_no_backoff()
        self._since = wait_began(context)
        with self.hook() as self._open:
            ref = self._open.job_ref(self.job_id)
            self.announce(context, self._open, ref)
            if not self.deferrable:
                try:
                    return super().execute(context)
                except AirflowSensorTimeout as error:
                    self._forgive_timeout(str(error))
                    raise
            return self._wait(context, self._located(self._open, clock.current().now() + _PATIENCE))

    def _located(self, hook: TaskHook, deadline: float = 0.0) -> JobRef:
        """Return the job, and where to ask about it.

        :param deadline: Unix time to which faults that may pass are waited out.
        """
        if self._ref is None:
            self._ref = hook.locate_job(self.job_id, self.secondary_region, deadline=deadline)
        return self._ref

    def _wait(self, context: Context, ref: JobRef) -> NoReturn:
        """Give the worker slot back until the job is over."""
        self.wait_in_triggerer(
            context,
            ref,
            poll_interval=self.poke_interval,
            since=self._since,
            deadline=self.deadline(context, self._since),
            wait_until=self.wait_until,
            kwargs={"job_id": ref.path},
        )

    def poke(self, context: Context) -> PokeReturnValue | bool:
        """Look once. A fault that may pass leaves the gate shut and the wait going."""
        job = self._look(context, lambda hook: hook.look_at_job(self._located(hook), since=self._since))
        if job is None:
            self.check_late(context)
            return False
        assert self._job_log
        self._job_log.report(job, None)
        if self._passes(context, job):
            return PokeReturnValue(True, job.ref.job_id)
        self.check_late(context, job)
        return False

    def execute_complete(
        self,
        context: Context,
        event: Any = None,
        since: float | None = None,
        try_number: int | None = None,
        warned_at: float | None = None,
        **_: Any,
    ) -> Any:
        """Take the wait back from the triggerer: success only for a job that proves a backup."""
        if self.is_stale(context, try_number):
            return self.execute(context)
        self._warned_at = warned_at
        with self.hook() as hook:
            expected = hook.job_ref(self.job_id)
            if self.hears_late(context, event):
                self._since = wait_began(context) if since is None else since
                return self._wait(context, self._located(hook, clock.current().now() + _PATIENCE))
        try:
            job = self.resume(context, event, expected.path)
        except AzureBackupWrongJobError as error:
            self._shut(error)
        except AzureBackupTimeoutError as error:
            self._since = wait_began(context) if since is None else since
            message = f"{error}. It goes on in Azure"
            self._forgive_timeout(message)
            self._time_is_up(context, message, error.job)
        except AzureBackupError as error:
            self._forgive_blindness(error)
            raise
        self._since = wait_began(context) if since is None else since
        self.log.info("Azure Backup %s", job.summary())
        if not self._passes(context, job):
            raise AzureBackupError(f"the trigger gave up on a job that still runs: {job}", job=job.facts())
        return job.ref.job_id


class _FreshBaseSensorOperator(AzureBackupBaseSensorOperator):
    """What the sensors have in common that ask for fresh backups: since when a backup is fresh.

    :param newer_than: see :class:`AzureBackupFreshnessSensor`.
    :param max_age: likewise.
    """

    template_fields: Sequence[str] = ("newer_than", *AzureBackupBaseSensorOperator.template_fields)
    fields_of_any_type = frozenset({"newer_than"})
    required_if_given = frozenset({"newer_than"})

    def __init__(
        self,
        *,
        newer_than: datetime | timedelta | str | None = None,
        max_age: timedelta | float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if newer_than is not None and max_age is not None:
            raise AzureBackupConfigError(
                f"task {self.task_id!r} was given both of newer_than and max_age; give one of them"
            )
        age = None if max_age is None else read_seconds(self.task_id, max_age=max_age)[0]
        if age is not None and age < _LEAST_AGE and not isinstance(max_age, timedelta):
            raise AzureBackupConfigError(
                f"max_age of task {self.task_id!r} is {age:g} seconds, less than any backup takes; for "
                f"{age:g} hours give timedelta(hours={age:g})"
            )
        self.newer_than = newer_than
        self.max_age = age
        if age is not None:
            self.require_recovery_point = True
        self._check_gate()

    def check_arguments(self) -> None:
        """Refuse a moment that is none, as far as it is known when the DAG is parsed."""
        super().check_arguments()
        check_moment(self.task_id, "newer_than", self.newer_than)

    def _after(self, context: Context) -> datetime:
        """Return the moment since which a backup is fresh."""
        if self.max_age is not None:
            return datetime.fromtimestamp(self._since - self.max_age, UTC)
        given = interval_start(context) if self.newer_than is None else self.newer_than
        return read_moment(context, self.task_id, "newer_than", given, side="before")


class AzureBackupFreshnessSensor(ExpectedBaseOperator, _FreshBaseSensorOperator):
    """Opens when there is a fresh backup of an item, no matter who took it; a policy makes most backups.

    With ``newer_than``, a backup that began at or after that moment must have succeeded. The sensor waits for
    one that is running. One that failed proves nothing, and the sensor waits for another one. Backups of
    transaction logs do not count. With ``max_age``, there must be a recovery point that was no older than
    that when the wait began, or that was made during the wait, however its backup ended: the recovery point
    of a VM exists as soon as the snapshot does, and ``min_tier="HardenedRP"`` asks for one in the vault.

    Modes, ``timeout``, ``soft_fail`` and ``never_fail`` mean what they mean for
    :class:`AzureBackupJobSensor`. A wait that took too long because backups failed is not forgiven. The error
    says whether a backup was even tried.

    A deferred wait uses lists of jobs that all deferred waits on the vault share. In the other modes each
    look lists the jobs for itself, or with ``max_age`` the recovery points, whose reads Azure counts
    separately.

    The sensor returns the id of the job, or with ``max_age`` the ARM id of the recovery point. It pushes
    XComs at the end: ``job_id`` and ``job`` (a dict of facts), ``recovery_point`` where one is required, and
    the portal links.

    :param protected_item: the ARM id of the protected item, the ARM id of the virtual machine or of the file
        share, or a friendly name. In a Backup vault: the ARM id, name or friendly name of the backup
        instance.
    :param newer_than: a datetime, ISO 8601 text, or a timedelta before the moment of the run. That moment is
        the end of its data interval or, where that is later or missing, the moment after which it may run.
        Text and datetimes without a time zone are in Airflow's ``[core] default_timezone``. Default: the
        start of the run's data interval; in a run without one, the moment of the run. Note that Airflow 3
        gives cron schedules intervals of no length (``create_cron_data_intervals``), so there the default is
        the moment of the run as well. Azure lists the jobs of 30 days.
    :param max_age: a timedelta, or seconds (60 at least). Give at most one of this and ``newer_than``.
    :param kwargs: the arguments of :class:`AzureBackupBaseSensorOperator`, of
        :class:`~airflow_provider_azbackup.tasks.expected.ExpectedBaseOperator`, of their base classes, and of
        Airflow's sensors.
    :raises AirflowSensorTimeout: when there is no fresh backup after ``timeout`` seconds.
    :raises AzureBackupConfigError: for an item whose jobs look like those of another item.
    :raises AzureBackupNotFoundError: when the backup data of the item is soft-deleted.
    :raises AzureBackupError: when Azure does not let this identity look.

    Source: https://learn.microsoft.com/azure/backup/backup-azure-arm-userestapi-managejobs
    """

    template_fields: Sequence[str] = (
        "protected_item",
        *ExpectedBaseOperator.template_fields[:1],
        *_FreshBaseSensorOperator.template_fields,
    )
    fields_of_any_type = ExpectedBaseOperator.fields_of_any_type | _FreshBaseSensorOperator.fields_of_any_type
    required_if_given = ExpectedBaseOperator.required_if_given | _FreshBaseSensorOperator.required_if_given
    required_fields = frozenset({"protected_item"})

    def __init__(
        self,
        *,
        protected_item: str,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.protected_item = protected_item
        # A recovery point is there, and found by a look at any time, as soon as the snapshot is.
        self.wait_until = "completion" if self.max_age is None or self.min_tier == TIERS[-1] else "snapshot"
        self._subject: JobMatcher | None = None
        self._tried: list[str] = []
        self._passed_over: list[str] = []
        self.check_arguments()

    def execute(self, context: Context) -> Any:
        """Wait in the mode that was asked for."""
        self.check_resumes(context)
        self._say_no_backoff()
        self._since = wait_began(context)
        with self.hook() as self._open:
            if self.deferrable:
                return self._go_on(context, self._open)
            try:
                return super().execute(context)
            except (AirflowSensorTimeout, AirflowSkipException) as error:
                # Airflow has forgiven it already, and knows nothing of what was tried.
                self._give_up(context, self._open, str(error), None)

    def poke(self, context: Context) -> PokeReturnValue | bool:
        """Look once. A fault that may pass leaves the gate shut and the wait going."""
        if found := self._look(context, lambda hook: self._find(context, hook)):
            return PokeReturnValue(True, found)
        self.check_late(context)
        return False

    def execute_complete(
        self,
        context: Context,
        event: Any = None,
        since: float | None = None,
        tried: Sequence[str] = (),
        try_number: int | None = None,
        item: str | None = None,
        warned_at: float | None = None,
    ) -> Any:
        """Take the wait back from the triggerer, and wait on if the backup proves nothing."""
        if self.is_stale(context, try_number):
            return self.execute(context)
        # dag.test() of Airflow 3.3.2 passes on the event alone.
        self._since, self._tried = wait_began(context) if since is None else since, [*tried]
        self._warned_at = warned_at
        with self.hook() as hook:
            if self.hears_late(context, event):
                return self._go_on(context, hook)
            try:
                job = self.resume(context, event)
            except AzureBackupTimeoutError as error:
                self._give_up(context, hook, str(error), error.job)
            except AzureBackupError as error:
                self._forgive_blindness(error)
                raise
            return self._proven(context, hook, job, item) or self._go_on(context, hook)

    @property
    def action(self) -> Action:
        """What a job must have done to open the gate."""
        return "backup"

    def _check_kept(self, hook: TaskHook, item: ProtectedItem | str) -> None:
        """Refuse an item whose backup data is soft-deleted: no backup of it is fresh.

        :raises AzureBackupNotFoundError: says when the data is purged.
        """
        try:
            found = hook.get_protected_item(item, patience=_PATIENCE if self.deferrable else 0.0)
        except AzureBackupAuthError as error:
            self._forgive_blindness(error)
            raise
        if found.is_deleted:
            self.soft_fail = self.never_fail = False  # they forgive a wait
            raise AzureBackupNotFoundError(
                f"the gate stays shut, because nothing of {self.protected_item} can be restored before an "
                f"undelete: {found.trouble}"
            )
        if found.trouble:
            self.log.warning("%s may not be backed up any more: %s", self.protected_item, found.trouble)

    def _find(self, context: Context, hook: TaskHook) -> str | None:
        """Look at what there is now; return what the sensor returns, or None."""
        after = self._after(context)
        if (subject := self._subject) is None:
            subject = hook.find_subject(self.protected_item, deadline=0.0)
            hook.check_tier(subject.item, self.min_tier, on_demand=False, deadline=0.0)
            self._check_kept(hook, subject.item)
            self._subject = subject
        if self.max_age is not None:
            return self._fresh_recovery_point(context, hook, subject, after)
        from airflow_provider_azbackup.core.conversations.matching import proof_rank
        from airflow_provider_azbackup.core.model.jobs import Outcome

        assert self._job_log
        backups = hook.list_backups_of(subject, since=after)
        for job in sorted(backups, key=proof_rank, reverse=True):
            if job.is_running:
                self._job_log.report(job, None)
            elif job.ref.job_id not in self._tried:
                if job.outcome is Outcome.WARNED and self.accept_warnings:
                    # A list may leave out that it was cancelled.
                    job = hook.look_at_job(job.ref, since=self._since)
                if found := self._proven(context, hook, job, subject.item):
                    return found
        return None

    def _go_on(self, context: Context, hook: TaskHook) -> Any:
        """Give the worker slot back until the next backup is over."""
        from airflow_provider_azbackup.triggers import LEAST_PAUSE, AzureBackupFreshnessTrigger

        after, deadline = self._after(context), self.deadline(context, self._since)
        patient_until = min(deadline, clock.current().now() + _PATIENCE)
        subject = hook.find_subject(self.protected_item, deadline=patient_until)
        hook.check_tier(subject.item, self.min_tier, on_demand=False, deadline=patient_until)
        self._check_kept(hook, subject.item)
        if self.max_age is not None:
            with suppress(AzureBackupTransientError):
                if found := self._fresh_recovery_point(context, hook, subject, after):
                    return found
        link = hook.settings.portal_link(subject.item.vault.path)
        context["ti"].xcom_push(key=AzureBackupVaultLink.key, value=link)
        self.log.info("Waiting for a backup of %s that began since %s", subject.item.label, after)
        self.say_who_waits(LEAST_PAUSE)
        return self.defer(
            trigger=AzureBackupFreshnessTrigger(
                subject=subject.to_dict(),
                after=after.timestamp(),
                known=[job_id.casefold() for job_id in self._tried],
                azure_backup_conn_id=self.azure_backup_conn_id,
                poll_interval=self.poke_interval,
                deadline=deadline,
                since=self._since,
                wait_until=self.wait_until,
                **self.late_arguments(context),
            ),
            method_name="execute_complete",
            kwargs={
                "since": self._since,
                "tried": self._tried,
                "try_number": context["ti"].try_number,
                "item": subject.item.path,
                **self.late_state(),
            },
            timeout=self.backstop(deadline + 2 * self.poke_interval),
        )

    def _proven(
        self, context: Context, hook: TaskHook, job: Job, item: ProtectedItem | str | None
    ) -> str | None:
        """Return what the sensor returns if the job proves a backup; else remember that it does not."""
        self.announce(context, hook, job.ref)
        self._check_kept(hook, item or self.protected_item)
        try:
            after = self._after(context).timestamp()
            opens = self.judge(
                context,
                job,
                self.protected_item,
                after=after,
                since=self._since,
                attempt_began=self._since,
                handed={"since": self._since, "tried": self._tried, "item": getattr(item, "path", item)},
            )
            if opens:
                self.publish(context, job)
                return self._recovery_point.path if self.max_age and self._recovery_point else job.ref.job_id
        except (AzureBackupJobFailedError, AzureBackupNotFoundError, AzureBackupTimeoutError) as error:
            self.log.warning("It proves nothing, so the wait goes on: %s", error)
        self._tried.append(job.ref.job_id)
        return None

    def _fresh_recovery_point(
        self, context: Context, hook: TaskHook, subject: JobMatcher, after: datetime
    ) -> str | None:
        from airflow_provider_azbackup.core.model.proof import prove
        from airflow_provider_azbackup.core.model.recovery_points import newest_sufficient

        point, passed_over = newest_sufficient(
            hook.list_recovery_points(subject.item, after=after),
            after.timestamp(),
            min_consistency=self.min_consistency,
            min_tier=self.min_tier,
            require_all_disks=self.require_all_disks,
        )
        for flaw in [flaw for flaw in passed_over if flaw not in self._passed_over]:
            self.log.warning("Not fresh enough: %s", flaw)
        self._passed_over = passed_over
        if point is None:
            return None
        context["ti"].xcom_push(key="recovery_point", value=point.facts())
        self.log.info("There is %s", point)
        self._recovery_point = point
        self._proof = prove(None, point, subject.item, started_by="found", attempt_began=self._since or None)
        self.publish(context, None)
        return point.path

    def _give_up(
        self, context: Context, hook: TaskHook, message: str, job: dict[str, Any] | None
    ) -> NoReturn:
        """Say what was tried in all that time.

        :raises AirflowSensorTimeout: or what stands for it.
        """
        after = self._after(context)
        try:
            backups = hook.list_backups(self.protected_item, since=after)
        except AzureBackupError as error:
            self._forgive_blindness(error)
            self._time_is_up(context, f"{message}. The backups since then cannot be listed: {error}", job)
        tried = "; ".join(map(str, backups)) or "no backup was even tried"
        message = f"{message}. {self.protected_item} since {after.isoformat()}: {tried}"
        if all(each.is_running for each in backups):
            self._forgive_timeout(message)
        self._time_is_up(context, message, job)


# The arguments that say which items a fleet sensor is about.
_SCOPE = ("vaults", "subscriptions", "policy", "workload", "state", "tags", "protected_items", "exclude")


class AzureBackupFleetSensor(ExpectedBaseOperator, _FreshBaseSensorOperator):
    """Opens when all items of an estate have fresh backups: one task for any number of vaults and items.

    For every item it asks for the proof that :class:`AzureBackupFreshnessSensor` asks for. ``allow`` says how
    many items may fall short. The gate never opens on what could not be read: a vault that denies its lists,
    a list that breaks off, an item that a list shows twice. The other vaults are looked at all the same.

    The scope is the connection's vault, ``vaults``, or all vaults of ``subscriptions``. It is narrowed by
    ``policy``, ``workload``, ``state`` and ``tags``, or by a list of ``protected_items``. Before the gate
    opens, lists that are older than ``poke_interval`` are read again, so that no new item is missed.

    A deferred wait is one trigger, and uses the lists of jobs that all deferred waits on a vault share. In
    the other modes a worker lists the jobs of each vault by itself, so prefer ``deferrable=True`` for more
    than a few vaults. With ``mode="reschedule"`` each look reads everything again.

    Modes, ``timeout``, ``soft_fail`` and ``never_fail`` mean what they mean for
    :class:`AzureBackupFreshnessSensor`. A wait that took too long because backups failed is not forgiven.

    The sensor returns the ARM ids of the items that are not fresh, at most 1,000: an empty list when all
    are. It pushes the XCom ``verdict`` when the counts change, and at the end.

    :param vaults: names or ARM ids of vaults of either type, one or several. A name takes resource group,
        subscription and type from the task or the connection. Default: the vaults of ``protected_items``
        where these are ARM ids, else the connection's vault.
    :param subscriptions: ids of subscriptions, one or several, instead of vaults.
    :param policy: name of a backup policy, or several. Default: all.
    :param workload: ``VM``, ``AzureFileShare``, ``SQLDataBase``, ``SAPHanaDatabase``, ``SAPHanaDBInstance``
        or ``SAPAseDatabase``, in a Backup vault the type of the data source such as
        ``Microsoft.Compute/disks``; one or several. Default: all.
    :param state: protection state, such as ``Protected``, or several. An item whose state changes to
        another one leaves the scope. Default: all.
    :param tags: tags that an item must have, as a dict. A tag that an item does not have itself is that of
        its vault, and Azure lists tags of items for Backup vaults only. Default: no tags are compared.
    :param protected_items: the items themselves, one or several: ARM ids, ARM ids of VMs or file shares, or
        names that only one item has. Excludes ``policy``, ``workload``, ``state`` and ``tags``.
    :param exclude: items that do not count, named likewise, or ARM ids of vaults. A name excludes all items
        that have it.
    :param newer_than: as for :class:`AzureBackupFreshnessSensor`.
    :param max_age: as there.
    :param allow: how many items may fall short (a whole number), or which share of them (below 1). Items that
        cannot be read are never allowed. Default: 0.
    :param kwargs: the arguments of :class:`AzureBackupBaseSensorOperator`, of
        :class:`~airflow_provider_azbackup.tasks.expected.ExpectedBaseOperator`, of their base classes, and of
        Airflow's sensors. With ``expected_by``, the task warns when more backups than ``allow`` permits are
        likely to end later.
    :raises AirflowSensorTimeout: when too many items are not fresh after ``timeout`` seconds.
    :raises AzureBackupNotFoundError: when the scope selects nothing; the error says what there is.
    :raises AzureBackupError: when the trigger's event cannot be read, or is of another scope or condition.

    Source: https://learn.microsoft.com/azure/backup/backup-azure-arm-userestapi-managejobs
    """

    template_fields: Sequence[str] = (
        "vaults",
        "subscriptions",
        "policy",
        "workload",
        "state",
        "tags",
        "protected_items",
        "exclude",
        *ExpectedBaseOperator.template_fields[:1],
        *_FreshBaseSensorOperator.template_fields,
    )
    fields_of_any_type = (
        ExpectedBaseOperator.fields_of_any_type | _FreshBaseSensorOperator.fields_of_any_type | {*_SCOPE}
    )
    required_if_given = ExpectedBaseOperator.required_if_given | _FreshBaseSensorOperator.required_if_given
    operator_extra_links = (AzureBackupVaultLink(),)

    def __init__(
        self,
        *,
        vaults: str | Collection[str] | None = None,
        subscriptions: str | Collection[str] | None = None,
        policy: str | Collection[str] | None = None,
        workload: str | Collection[str] | None = None,
        state: str | Collection[str] | None = None,
        tags: Mapping[str, str] | None = None,
        protected_items: str | Collection[str] | None = None,
        exclude: str | Collection[str] | None = None,
        allow: float = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_allow(f"task {self.task_id!r}", allow)
        self.vaults = vaults
        self.subscriptions = subscriptions
        self.policy = policy
        self.workload = workload
        self.state = state
        self.tags = tags
        self.protected_items = protected_items
        self.exclude = exclude
        self.allow = allow
        self._given: set[str] = set()
        self._estate: Estate | None = None
        self._verdict: Verdict | None = None
        self._verdict_log: VerdictLog | None = None
        self.check_arguments()

    def check_arguments(self) -> None:
        """Refuse a scope that contradicts itself, as far as it is known when the DAG is parsed."""
        super().check_arguments()
        where = f"task {self.task_id!r}"
        self._given = {name for name in _SCOPE if getattr(self, name) is not None}
        for one, others in (
            ("vaults", {"subscriptions"}),
            ("protected_items", {"policy", "workload", "state", "tags"}),
        ):
            if one in self._given and (both := sorted(others & self._given)):
                raise AzureBackupConfigError(
                    f"{where} was given {one} and {' and '.join(both)}; give one of them"
                )
        check_scope(where, **{name: getattr(self, name) for name in _SCOPE})

    def execute(self, context: Context) -> Any:
        """Wait in the mode that was asked for."""
        self.check_resumes(context)
        self._say_no_backoff()
        self._since = wait_began(context)
        with self.hook() as self._open:
            if self.deferrable:
                self._wait(context, self._open)
            try:
                return super().execute(context)
            except (AirflowSensorTimeout, AirflowSkipException) as error:
                # Airflow has forgiven it already, and knows nothing of the verdict.
                self._give_up(context, str(error))

    def poke(self, context: Context) -> PokeReturnValue | bool:
        """Look once. A fault that may pass leaves the gate shut and the wait going."""
        verdict = self._look(context, lambda hook: self._survey(context, hook))
        if verdict is None:
            self.check_late(context)
            return False
        self._verdict = verdict
        if self._verdict_log and self._verdict_log.report(verdict):
            self._push(context, verdict)
        if verdict.opens(self.allow):
            return PokeReturnValue(True, self._conclude(context, verdict))
        self.check_late(context)
        return False

    def execute_complete(
        self,
        context: Context,
        event: Any = None,
        since: float | None = None,
        try_number: int | None = None,
        warned_at: float | None = None,
        **_: Any,
    ) -> Any:
        """Take the wait back from the triggerer: success only for a verdict about this very scope."""
        from airflow_provider_azbackup.runtime.fleet_event import FleetEvent

        if self.is_stale(context, try_number):
            return self.execute(context)
        # dag.test() of Airflow 3.3.2 passes on the event alone.
        self._since = wait_began(context) if since is None else since
        self._warned_at = warned_at
        reported = FleetEvent.from_dict(event)
        with self.hook() as hook:
            self._check_event(reported, self._scope(hook), self._condition(context))
            if reported.late is not None:
                self.warn_late(context, reported.late)
                self._wait(context, hook)
        if reported.error is not None:
            self._forgive_blindness(reported.error)
            raise reported.error
        verdict = self._verdict = reported.verdict
        assert verdict is not None
        if not verdict.opens(self.allow):
            waited = clock.current().now() - self._since
            self._give_up(context, f"The wait is over after {waited:.0f} s")
        return self._conclude(context, verdict)

    def _check_event(self, reported: FleetEvent, scope: Scope, condition: Condition) -> None:
        """Refuse an event about other items, or about another condition.

        :raises AzureBackupError: showing both.
        """
        for name, ours, theirs in (
            ("scope", scope, reported.scope),
            ("condition", condition, reported.condition),
        ):
            if ours != theirs:
                raise AzureBackupError(
                    f"the trigger's event is about another {name} than this task. Expected: {ours}. "
                    f"Reported: {theirs}"
                )

    def _scope(self, hook: TaskHook) -> Scope:
        """Return the scope, once templates are rendered."""
        from airflow_provider_azbackup.core.estate.scope import Scope

        where = f"task {self.task_id!r}"
        given = {name: getattr(self, name) for name in _SCOPE}
        for name in sorted(self._given):
            if given[name] in (None, "", "None"):
                raise AzureBackupConfigError(
                    f"{name} of {where} came to nothing in this run ({given[name]!r}), and without it the "
                    f"task would be about other items. Correct the template, or leave {name} out"
                )
        check_scope(where, **given)
        texts = {name: read_texts(where, name, value) for name, value in given.items() if name != "tags"}
        vaults = texts["vaults"]
        if not vaults and not texts["subscriptions"]:
            vaults = vaults_of(texts["protected_items"]) or ("",)
        return Scope(
            vaults=tuple(dict.fromkeys(hook.vault_path(vault) for vault in vaults)),
            subscriptions=texts["subscriptions"],
            policies=texts["policy"],
            workloads=texts["workload"],
            states=texts["state"],
            tags=read_tags(where, self.tags),
            protected_items=texts["protected_items"],
            exclude=texts["exclude"],
        )

    def _condition(self, context: Context) -> Condition:
        from airflow_provider_azbackup.core.estate.scope import Condition

        return Condition(
            after=self._after(context).timestamp(),
            by_point=self.max_age is not None,
            accept_warnings=read_warnings("accept_warnings", self.accept_warnings),
            require_recovery_point=self.require_recovery_point,
            min_consistency=self.min_consistency,
            min_tier=self.min_tier,
            require_all_disks=self.require_all_disks,
            allow=self.allow,
        )

    def _survey(self, context: Context, hook: TaskHook) -> Verdict:
        """Look at the estate now."""
        from airflow_provider_azbackup.core.estate.look import Estate
        from airflow_provider_azbackup.runtime.verdict_log import VerdictLog
        from airflow_provider_azbackup.tasks.fleet import survey

        if self._estate is None:
            scope, condition = self._scope(hook), self._condition(context)
            self._estate = Estate(scope, condition, poll_interval=self.poke_interval)
        self._verdict_log = self._verdict_log or VerdictLog(self.log)
        verdict = survey(hook, self._estate, poll_interval=self.poke_interval, allow=self.allow)
        self._asked_to_wait = max(0.0, self._estate.blocked_until() - clock.current().now())
        return verdict

    def _wait(self, context: Context, hook: TaskHook) -> NoReturn:
        """Give the worker slot back until the verdict is there."""
        from airflow_provider_azbackup.triggers import LEAST_PAUSE, AzureBackupFleetTrigger

        scope, condition = self._scope(hook), self._condition(context)
        deadline = self.deadline(context, self._since)
        if len(scope.vaults) == 1 and not scope.subscriptions:
            link = hook.settings.portal_link(scope.vaults[0])
            context["ti"].xcom_push(key=AzureBackupVaultLink.key, value=link)
        self.log.info(
            "Waiting for backups that began since %s of: %s", self._after(context).isoformat(), scope
        )
        self.say_who_waits(LEAST_PAUSE)
        self.defer(
            trigger=AzureBackupFleetTrigger(
                scope=scope.to_dict(),
                condition=condition.to_dict(),
                azure_backup_conn_id=self.azure_backup_conn_id,
                poll_interval=self.poke_interval,
                deadline=deadline,
                **self.late_arguments(context),
            ),
            method_name="execute_complete",
            kwargs={
                "since": self._since,
                "try_number": context["ti"].try_number,
                **self.late_state(),
            },
            timeout=self.backstop(deadline + 2 * self.poke_interval),
        )

    def _conclude(self, context: Context, verdict: Verdict) -> list[str]:
        """Push and publish the verdict that opens the gate; return what the sensor returns."""
        self.log.info("The gate opens: %s", verdict)
        self._push(context, verdict)
        self.tell_outlets(context, {VERDICT: verdict.digest(), **self.late_facts(context, None)})
        return [*verdict.ids]

    def _push(self, context: Context, verdict: Verdict) -> None:
        context["ti"].xcom_push(key=VERDICT, value={**verdict.to_dict(), **self.late_facts(context, None)})

    def _lateness(self, expected_by: float, now: float) -> JsonObject:
        from airflow_provider_azbackup.core.estate.verdict import lateness

        return lateness(self._verdict, (), expected_by=expected_by, now=now)

    def _give_up(self, context: Context, message: str) -> NoReturn:
        """Say what is missing after all that time, the cause first.

        :raises AirflowSensorTimeout: or what stands for it.
        """
        if (verdict := self._verdict) is None:
            self._forgive_timeout(message)
            self._time_is_up(context, message, None)
        self._push(context, verdict)
        named = f": {verdict.first_missing}" if verdict.missing else ""
        message = f"{verdict}{named}. {message}"
        if verdict.is_forgivable:
            self._forgive_timeout(message)
        if verdict.is_blind:
            self._forgive_blindness(AzureBackupError(message))
        self._time_is_up(context, message, None)

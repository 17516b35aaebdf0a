"""The base classes of operators and sensors.

:class:`AzureBackupBaseOperator` owns the arguments that name the vault. :class:`JobBaseOperator` hands the
wait for a job to the triggerer, takes it back, and decides whether the job opens the gate.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from airflow.providers.common.compat.sdk import BaseOperator, conf

from airflow_provider_azbackup.core.model.arm_ids import split_job_id
from airflow_provider_azbackup.core.model.validation import (
    check_item,
    check_name,
    check_texts,
    check_vault_of,
    check_vault_type,
)
from airflow_provider_azbackup.exceptions import (
    AzureBackupConfigError,
    AzureBackupError,
    AzureBackupRecoveryPointError,
    AzureBackupTimeoutError,
)
from airflow_provider_azbackup.links import AzureBackupJobLink, AzureBackupVaultLink
from airflow_provider_azbackup.runtime import clock
from airflow_provider_azbackup.runtime.compat import IS_AIRFLOW_3, LAST_WORD, runs_inline
from airflow_provider_azbackup.tasks.arguments import check_booleans, check_unless_templated
from airflow_provider_azbackup.tasks.late import WarnsWhenLate

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_azbackup.core.conversations.checks import Action
    from airflow_provider_azbackup.core.model.jobs import Job
    from airflow_provider_azbackup.core.model.proof import Proof
    from airflow_provider_azbackup.core.model.recovery_points import RecoveryPoint
    from airflow_provider_azbackup.core.model.resources import JobRef, ProtectedItem
    from airflow_provider_azbackup.core.model.validation import AcceptWarnings, StartedBy, WaitUntil
    from airflow_provider_azbackup.runtime.job_event import JobEvent
    from airflow_provider_azbackup.tasks.hook import TaskHook

# How the arguments that name something in a vault are checked. Whatever class has them, they mean the same.
_NAMES_IN_A_VAULT: Mapping[str, Callable[[str], object]] = MappingProxyType(
    {"protected_item": check_item, "job_id": split_job_id}
)
# The trigger keeps the deadline itself and reports it. Airflow's own limit comes this many seconds later, so
# that it never cuts off a last look that takes its time.
_BACKSTOP = 120.0


class AzureBackupBaseOperator(BaseOperator):
    """A task that talks to one vault.

    :param vault_name: name of the vault. Default: the connection's.
    :param resource_group_name: resource group of the vault. Default: the connection's.
    :param subscription_id: subscription of the vault. Default: the connection's.
    :param vault_type: ``RecoveryServices`` for a Recovery Services vault, ``DataProtection`` for a Backup
        vault. Default: the connection's. You can leave it out where you give an ARM id, which shows the type.
    :param azure_backup_conn_id: id of a connection of type ``azure_backup``, or of an existing one of type
        ``azure``. Default: ``azure_backup_default``.
    """

    template_fields: Sequence[str] = (
        "vault_name",
        "resource_group_name",
        "subscription_id",
        "vault_type",
        "azure_backup_conn_id",
    )
    ui_color = "#d6eaf8"
    # Template fields that may be something else than text once they are rendered.
    fields_of_any_type: ClassVar[frozenset[str]] = frozenset()
    # Template fields that must not be empty once they are rendered: always, and where the author gave them.
    required_fields: ClassVar[frozenset[str]] = frozenset()
    required_if_given: ClassVar[frozenset[str]] = frozenset()

    def __init__(
        self,
        *,
        vault_name: str | None = None,
        resource_group_name: str | None = None,
        subscription_id: str | None = None,
        vault_type: str | None = None,
        azure_backup_conn_id: str = "azure_backup_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.vault_name = vault_name
        self.resource_group_name = resource_group_name
        self.subscription_id = subscription_id
        self.vault_type = vault_type
        self.azure_backup_conn_id = azure_backup_conn_id
        self._required: frozenset[str] = self.required_fields

    def check_arguments(self) -> None:
        """Refuse wrong template fields when the DAG is parsed. Templates are left for later.

        A class calls this once, at the end of its constructor. Constructors themselves only store template
        fields, as Airflow asks for, because Airflow renders them later.

        :raises AzureBackupConfigError: naming the argument and its value.
        """
        where = f"task {self.task_id!r}"
        check_texts(where, **self._texts())
        for name in ("vault_name", "resource_group_name", "subscription_id"):
            if value := getattr(self, name):
                check_unless_templated(value, partial(check_name, f"{name} of {where}"))
        check_unless_templated(self.vault_type, check_vault_type)
        for name, check in _NAMES_IN_A_VAULT.items():
            if name in self.template_fields:
                value = getattr(self, name, None)
                check_unless_templated(value, check)
                check_unless_templated(value, partial(self._check_vault, f"{name} of {where}"))
        self._required = self.required_fields | {
            name for name in self.required_if_given if getattr(self, name, None) is not None
        }

    def hook(self) -> TaskHook:
        """Return a hook on the connection and the vault of this task, once templates are rendered.

        :raises AzureBackupConfigError: when a template has been rendered to something else than text, or to
            nothing where the task would do something else without the argument.
        """
        from airflow_provider_azbackup.tasks.hook import TaskHook

        check_texts(f"task {self.task_id!r}", **self._texts())
        for name in sorted(self._required):
            if (value := getattr(self, name)) in (None, ""):
                instead = f"; or leave {name} out" if name in self.required_if_given else ""
                raise AzureBackupConfigError(
                    f"{name} of task {self.task_id!r} came to nothing in this run ({value!r}), and without "
                    f"it the task would do something else. Correct the template, or what the task that it "
                    f"reads returns{instead}"
                )
        return TaskHook(
            self.azure_backup_conn_id,
            vault_name=self.vault_name,
            resource_group_name=self.resource_group_name,
            subscription_id=self.subscription_id,
            vault_type=self.vault_type,
        )

    def _texts(self) -> dict[str, object]:
        names = [name for name in self.template_fields if name not in self.fields_of_any_type]
        # The constructor of a subclass may store fields of its own after ours has run.
        return {name: getattr(self, name) for name in names if name in vars(self)}

    def _check_vault(self, name: str, text: str) -> None:
        """Refuse the ARM id of another vault; the hook compares once more, when templates are rendered."""
        check_vault_of(
            name,
            text,
            vault_name=self.vault_name,
            resource_group_name=self.resource_group_name,
            subscription_id=self.subscription_id,
            vault_type=self.vault_type,
        )


class JobBaseOperator(WarnsWhenLate, AzureBackupBaseOperator):
    """A task that waits for a job, in the worker or in the triggerer.

    :param deferrable: True waits in the triggerer, which holds no worker slot. Default: Airflow's
        ``[operators] default_deferrable``.
    """

    # Whether the job is asked about in the secondary region of the vault, or in which region.
    secondary_region: bool | str = False
    operator_extra_links: Collection[AzureBackupJobLink | AzureBackupVaultLink] = (
        AzureBackupJobLink(),
        AzureBackupVaultLink(),
    )
    # Where a child has no such argument, this is what it means.
    accept_warnings: AcceptWarnings
    wait_until: WaitUntil = "completion"
    require_recovery_point: bool = False
    min_consistency: str | None = None
    min_tier: str | None = None
    require_all_disks: bool = False
    timeout: float

    # What the last look has proved.
    _recovery_point: RecoveryPoint | None = None
    _proof: Proof | None = None

    def __init__(
        self,
        *,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_booleans(self.task_id, deferrable=deferrable)
        self.deferrable = deferrable

    @property
    def action(self) -> Action:
        """What a job must have done to open the gate."""
        return "anything"

    def check_resumes(self, context: Context, *, resumes_by: str = "execute_complete") -> None:
        """Refuse a deferrable operator inside another task, which Airflow could not resume.

        :param resumes_by: the method that Airflow would call.
        :raises AzureBackupConfigError: before anything is started.
        """
        task = getattr(context["ti"], "task", None)
        kind = getattr(task, "operator_class", None)  # which a mapped operator stands for
        kind = kind if isinstance(kind, type) else type(task)
        leaves = self.deferrable or resumes_by != "execute_complete"
        if task is None or not leaves or callable(getattr(kind, resumes_by, None)):
            return
        raise AzureBackupConfigError(
            f"{type(self).__name__} {self.task_id!r} runs inside task {task.task_id!r} ({kind.__name__}), "
            f"which Airflow could not resume after a deferral. Make it a task of its own, or give it "
            f"deferrable=False"
        )

    def announce(self, context: Context, hook: TaskHook, ref: JobRef) -> None:
        """Push the job id and the portal links before any wait, so that they can be read meanwhile."""
        for key, value in (
            ("job_id", ref.job_id),
            (AzureBackupJobLink.key, hook.settings.portal_link(ref.path)),
            (AzureBackupVaultLink.key, hook.settings.portal_link(ref.vault.path)),
        ):
            context["ti"].xcom_push(key=key, value=value)

    def deadline(self, context: Context, since: float) -> float:
        """Return the Unix time at which the wait ends: by ``timeout``, or by Airflow's ``execution_timeout``.

        Airflow 3 forgets the latter while a task is deferred, and begins it again at each resume.

        :param since: Unix time the wait began.
        """
        limit = since + self.timeout
        if self.execution_timeout is None:
            return limit
        began, seconds = context["ti"].start_date, self.execution_timeout.total_seconds()
        start = began.timestamp() if began else clock.current().now()
        return min(limit, start + max(seconds - LAST_WORD, 0.9 * seconds))

    def wait_in_triggerer(
        self,
        context: Context,
        ref: JobRef,
        *,
        poll_interval: float,
        since: float,
        deadline: float,
        first_pause: float = 0.0,
        cancel_on_kill: bool = False,
        wait_until: WaitUntil = "completion",
        waiting_for: str = "",
        method_name: str = "execute_complete",
        kwargs: dict[str, Any],
    ) -> NoReturn:
        """Give the worker slot back until the job is over.

        :param first_pause: seconds in which there is nothing to see; the first look comes after 15 at least.
        :param waiting_for: why the task waits for a job that is not its own, for ``backup_progress``.
        :param method_name: resumes the task.
        :param kwargs: what it is handed besides the event, ``since`` and ``try_number``.
        """
        from airflow_provider_azbackup.triggers import LEAST_PAUSE, AzureBackupJobTrigger

        self.say_who_waits(max(first_pause, LEAST_PAUSE))
        region = ref.vault.secondary
        self.defer(
            trigger=AzureBackupJobTrigger(
                job_id=ref.path,
                azure_backup_conn_id=self.azure_backup_conn_id,
                poll_interval=poll_interval,
                first_pause=max(first_pause, LEAST_PAUSE),
                deadline=deadline,
                since=since,
                cancel_on_kill=cancel_on_kill,
                wait_until=wait_until,
                waiting_for=waiting_for,
                secondary_region=region.name if region else "",
                primary_region=region.primary if region else "",
                **self.late_arguments(context),
            ),
            method_name=method_name,
            # The new instance that resumes knows nothing of this one but what it is handed here.
            kwargs={
                "since": since,
                "try_number": context["ti"].try_number,
                **kwargs,
                **self.late_state(),
            },
            timeout=self.backstop(deadline + 2 * poll_interval),
        )

    def say_who_waits(self, first_pause: float) -> None:
        """Log that the triggerer waits, because without a running triggerer nothing else would be logged.

        :param first_pause: seconds until its first look.
        """
        if runs_inline():
            self.log.info(
                "Inside dag.test() there is no triggerer: the first look comes after about a second"
            )
            return
        self.log.info(
            "The triggerer waits for it from now on, and looks first after about %.0f s. If nothing more is "
            "logged here, check that a triggerer is running",
            first_pause,
        )

    def backstop(self, deadline: float) -> timedelta:
        """Return Airflow's own limit of a deferral whose trigger ends it at ``deadline``."""
        return timedelta(seconds=max(0.0, deadline - clock.current().now()) + _BACKSTOP)

    def is_stale(self, context: Context, try_number: int | None) -> bool:
        """Whether a resume belongs to an earlier try: Airflow before 3.1.1 also hands its event to the next.

        Such a try has to begin at its beginning; apache/airflow issue 56704.
        """
        return try_number is not None and try_number != context["ti"].try_number

    def judge(
        self,
        context: Context,
        job: Job,
        protected_item: str | None = None,
        *,
        elsewhere: str = "",
        after: float = 0.0,
        since: float | None = None,
        started_by: StartedBy = "found",
        attempt_began: float | None = None,
        handed: dict[str, Any] | None = None,
    ) -> bool:
        """Push the facts of a job after the wait for it, and decide whether it opens the gate.

        :param protected_item: what it must be of; None where the task names only the job.
        :param elsewhere: a storage account that the job may carry instead of the item's own.
        :param after: Unix time by Azure's clock before which it must not have begun; 0 for any time.
        :param since: Unix time the wait began, for the deadline of ``min_tier``; None is now.
        :param started_by: who started the job, for the proof.
        :param attempt_began: Unix time by Azure's clock at which this attempt began, for the proof.
        :param handed: with what ``execute_complete`` goes on when a deferrable task waits for ``min_tier`` in
            the triggerer; None waits here.
        :return: False when it is still running.
        :raises AzureBackupWrongJobError: when it is not a job of this item and kind in this vault.
        :raises AzureBackupJobFailedError: when it proves no backup, or not one as good as is asked for.
        :raises AzureBackupNotFoundError: when a recovery point is asked for and none is found.
        :raises AzureBackupTimeoutError: when its recovery point does not reach ``min_tier`` in time.
        """
        from airflow_provider_azbackup.core.model.jobs import Outcome, is_proven
        from airflow_provider_azbackup.core.model.proof import prove

        if job.is_enough(self.wait_until):
            context["ti"].xcom_push(key="job", value=job.facts())
        if not is_proven(job, accept_warnings=self.accept_warnings, wait_until=self.wait_until):
            return False
        with self.hook() as hook:
            item = hook.check_job(
                job,
                protected_item,
                action=self.action,
                elsewhere=elsewhere,
                after=after,
                secondary_region=self.secondary_region,
            )
            # What ended with warnings may have left a partial recovery point, or none.
            warned = job.outcome is Outcome.WARNED and job.is_backup and self.action != "anything"
            if self.require_recovery_point or warned:
                start = clock.current().now() if since is None else since
                deadline = self.deadline(context, start)
                point = self._judge_recovery_point(context, hook, job, item, deadline, handed)
                self._recovery_point = point
        self._proof = prove(
            job, self._recovery_point, item, started_by=started_by, attempt_began=attempt_began
        )
        return True

    def publish(self, context: Context, job: Job | None) -> None:
        """Push the proof, put what was proved into the events of the task's outlets, and log it last.

        :param job: what has succeeded; None where the recovery point is all that is known.
        """
        proof = self._proof.to_dict() if self._proof else None
        if proof:
            context["ti"].xcom_push(key="proof", value=proof)
        proved = {
            **(job.digest() if job else {}),
            **({"recovery_point": self._recovery_point.facts()} if self._recovery_point else {}),
            **({"proof": proof} if proof else {}),
            **self.late_facts(context, job),
        }
        self.tell_outlets(context, proved)
        if self._proof:
            self.log.info("Proof: %s", self._proof)

    def tell_outlets(self, context: Context, facts: dict[str, Any]) -> None:
        """Put facts into the events of the task's outlets."""
        for outlet in self.outlets:
            # Airflow 2 lets anything be an outlet, and whatever goes wrong here, the backup is good.
            try:
                context["outlet_events"][outlet].extra.update(facts)
            except Exception as error:
                self.log.debug("Outlet %s takes no facts: %s: %s", outlet, type(error).__name__, error)

    def _judge_recovery_point(
        self,
        context: Context,
        hook: TaskHook,
        job: Job,
        item: ProtectedItem | None,
        deadline: float,
        handed: dict[str, Any] | None,
    ) -> RecoveryPoint:
        from airflow_provider_azbackup.core.model.recovery_points import RecoveryPoint, left_out

        point = hook.find_recovery_point(job, item)
        asked = partial(
            RecoveryPoint.shortcoming,
            min_consistency=self.min_consistency,
            require_all_disks=self.require_all_disks,
            job=job,
        )
        flaw = asked(point)
        if self.min_tier and not flaw and not point.has_reached(self.min_tier):
            self.log.info("Waiting for %s to reach %s", point, self.min_tier)
            if self.deferrable and handed is not None and clock.current().now() < deadline:
                self._wait_for_tier(context, job, point, self.min_tier, deadline, handed)
            point = hook.wait_for_tier(point, self.min_tier, deadline=deadline)
            flaw = asked(point, min_tier=self.min_tier)
        context["ti"].xcom_push(key="recovery_point", value=point.facts())
        if flaw:
            raise AzureBackupRecoveryPointError(
                f"{job} has made {point}, but {flaw}. Recovery point: {point.path}", job=job.facts()
            )
        if missing := left_out(point, job):
            self.log.warning("Not everything is in %s: %s", point, missing)
        self.log.info("The backup made %s", point)
        return point

    def _wait_for_tier(
        self,
        context: Context,
        job: Job,
        point: RecoveryPoint,
        min_tier: str,
        deadline: float,
        handed: dict[str, Any],
    ) -> NoReturn:
        """Give the worker slot back until a recovery point has reached a tier, which may take hours."""
        from airflow_provider_azbackup.triggers import AzureBackupTierTrigger

        self.defer(
            trigger=AzureBackupTierTrigger(
                job_id=job.ref.path,
                recovery_point=point.path,
                min_tier=min_tier,
                azure_backup_conn_id=self.azure_backup_conn_id,
                deadline=deadline,
            ),
            method_name="execute_complete",
            kwargs={"try_number": context["ti"].try_number, **handed, **self.late_state()},
            timeout=self.backstop(deadline),
        )

    def overdue(
        self, context: Context, error: AzureBackupError, fate: str = "It goes on in Azure"
    ) -> NoReturn:
        """Report what a job was doing when the wait for it ended, and what became of it.

        :raises AzureBackupTimeoutError: always.
        """
        if error.job:
            context["ti"].xcom_push(key="job", value=error.job)
        raise AzureBackupTimeoutError(f"{error}. {fate}", job=error.job) from None

    def resume(self, context: Context, event: Any, expected: str | None = None) -> Job:
        """Read the trigger's event; push what is known of the job when the wait ended otherwise.

        :param expected: ARM id of the job that is waited for; None where any job of the item will do.
        :raises AzureBackupWrongJobError: when the event reports another job.
        :raises AzureBackupError: the error the trigger met, or that its event cannot be read.
        """
        from airflow_provider_azbackup.core.conversations.checks import check_ref
        from airflow_provider_azbackup.core.model.resources import JobRef
        from airflow_provider_azbackup.runtime.job_event import JobEvent

        reported = JobEvent.from_dict(event)
        if reported.job is not None and expected is not None:
            check_ref(reported.job.ref, JobRef.parse(expected))
        if reported.late:
            self._warned_at = clock.current().now()
        if IS_AIRFLOW_3:
            self._last_progress(context, reported)
        if reported.job is not None:
            return reported.job
        error = reported.error or AzureBackupError("the trigger's event holds neither a job nor an error")
        if error.job:
            context["ti"].xcom_push(key="job", value=error.job)
        raise error

    def show_wait(self, context: Context, why: str, *, until: float) -> None:
        """Show in ``backup_progress`` why there is no job yet, on Airflow 3.

        :param why: what the task waits for.
        :param until: Unix time of the next request.
        """
        from airflow_provider_azbackup.core.model.progress import PROGRESS, progress_report

        if IS_AIRFLOW_3:
            value = progress_report(None, None, clock.current().now(), waiting_for=why, waiting_until=until)
            context["ti"].xcom_push(key=PROGRESS, value=value)

    def _last_progress(self, context: Context, reported: JobEvent) -> None:
        """Replace the last report of the progress by the end of the job."""
        from airflow_provider_azbackup.core.model.progress import PROGRESS, progress_report

        if reported.job is not None:
            late = self.late_facts(context, reported.job).get("late")
            value = progress_report(reported.job, None, clock.current().now(), late=late)
            context["ti"].xcom_push(key=PROGRESS, value=value)

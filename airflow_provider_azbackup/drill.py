"""Restore drills: restore, check what was restored, and keep the evidence.

:func:`proven_restore` is a ``with`` block. It restores a protected item under names that nothing else has,
runs the check tasks of the block, and records what came of it, whatever happens. The block is made of
Airflow's own setup and teardown tasks, so that clearing a check repeats the whole drill: a record never
mixes two restores.

Source: https://airflow.apache.org/docs/apache-airflow/stable/howto/setup-and-teardown.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException, BaseOperator, TaskGroup

from airflow_provider_azbackup.exceptions import (
    AzureBackupBusyError,
    AzureBackupConfigError,
    AzureBackupError,
    AzureBackupNotProvenError,
)
from airflow_provider_azbackup.operators import AzureBackupRestoreOperator
from airflow_provider_azbackup.runtime import clock
from airflow_provider_azbackup.runtime.compat import empty_operator, states_of
from airflow_provider_azbackup.tasks.block import map_index_for, tasks_between

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, XComArg

    from airflow_provider_azbackup.core.model.jobs import Job
    from airflow_provider_azbackup.core.start.intent import Intent
    from airflow_provider_azbackup.core.start.search import StartedJob
    from airflow_provider_azbackup.tasks.hook import TaskHook

# The XCom of the facts of a restore, for the checks.
RESTORED = "restored"
# Of how many tries, and of how many Clears, a restore that still runs is recognised.
_MOST_EARLIER = 20


class _NotProvenError(AzureBackupNotProvenError, AirflowFailException):
    """The error as Airflow has to see it in order not to retry; the module of the errors imports nothing."""


class AzureBackupDrillRestoreOperator(AzureBackupRestoreOperator):
    """Restores under a name of its own, never in place, and hands on what it has made.

    Made by :func:`proven_restore`. It pushes the XCom ``restored`` as soon as the job is known, and again
    when the restore is proven.

    :param kwargs: of :class:`~airflow_provider_azbackup.operators.AzureBackupRestoreOperator`, except
        ``request``, ``wait_for_completion``, ``validate_only`` and ``if_running="adopt"``.
    :raises AzureBackupConfigError: when the DAG is parsed, for a target that overwrites something.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        where = f"a restore drill ({self.task_id!r})"
        if not self.wait_for_completion or self.validate_only:
            raise AzureBackupConfigError(
                f"{where} must wait for a restore, because the checks run on what it has made; leave out "
                f"wait_for_completion and validate_only"
            )
        if self.if_running == "adopt":
            raise AzureBackupConfigError(
                f"if_running of {where} is 'adopt'; expected 'fail' or 'wait', because what another "
                f"restore makes is not known"
            )

    def check_arguments(self) -> None:
        """Refuse what would overwrite something, as far as it is known when the DAG is parsed."""
        from airflow_provider_azbackup.core.restore.drill import check_drill
        from airflow_provider_azbackup.core.restore.targets import is_known

        super().check_arguments()
        if is_known(self.restore_to):
            check_drill(self.restore_to)

    def _intent(self, context: Context, *rest: Any) -> Intent:
        from airflow_provider_azbackup.core.restore.plan import RestoreIntent

        intent = super()._intent(context, *rest)
        assert isinstance(intent, RestoreIntent)
        return replace(intent, suffixes=self._suffixes(context, intent.fingerprint))

    def _suffixes(self, context: Context, fingerprint: str) -> tuple[str, ...]:
        """Return what the names end in that this try asks for, and those that earlier ones have asked for.

        :param fingerprint: of the restore. One of another recovery point, or to another target, is not this
            task's any more.
        """
        from airflow_provider_azbackup.core.restore.drill import suffix_of

        ti, clears = context["ti"], int(_clears(context))
        who = (ti.dag_id, ti.run_id, ti.task_id, ti.map_index, fingerprint)
        return tuple(
            suffix_of(*who, clear, number)
            for clear in range(clears, max(-1, clears - _MOST_EARLIER), -1)
            for number in range(ti.try_number, max(0, ti.try_number - _MOST_EARLIER), -1)
        )

    def _go_on(self, context: Context, hook: TaskHook, started: StartedJob, since: float) -> str:
        """Hand on what the restore makes, before the wait for it."""
        if not started.suffix or started.ref is None:
            raise AzureBackupBusyError(
                f"a restore of {self.protected_item} is running that does not carry this drill's mark, so "
                f"what it makes is not known. Clear the drill once that restore is over"
            )
        item = hook.resolve_protected_item(str(self.protected_item), secondary_region=self.secondary_region)
        self._hand_on(
            context,
            {
                "item_id": item.path,
                "vault_id": item.vault.path,
                "job_id": started.ref.job_id,
                "suffix": started.suffix,
                "recovery_point_id": started.recovery_point.get("recovery_point_id"),
                "recovery_point_time": started.recovery_point.get("time"),
            },
        )
        return super()._go_on(context, hook, started, since)

    def publish(self, context: Context, job: Job | None) -> None:
        """Hand on what the restore has made, once it is proven."""
        super().publish(context, job)
        ti = context["ti"]
        known = ti.xcom_pull(task_ids=self.task_id, key=RESTORED, map_indexes=ti.map_index)
        if job is None or not isinstance(known, dict) or known.get("job_id") != job.ref.job_id:
            raise AzureBackupError(
                f"{job or 'the restore'} is over, but its names are lost: the XCom {RESTORED!r} of this try "
                f"is about another job or gone. Clear the task for a new drill"
            )
        if not job.details:  # a list that deferred tasks share does not contain them
            with self.hook() as hook:
                ref = hook.locate_job(job.ref.path, self.secondary_region)
                job = hook.look_at_job(ref, since=clock.current().now())
        self._hand_on(context, known, job)

    def _hand_on(self, context: Context, known: Mapping[str, Any], job: Job | None = None) -> None:
        from airflow_provider_azbackup.core.restore.drill import made_by, unique_target
        from airflow_provider_azbackup.core.restore.evidence import facts_of_restore

        target = unique_target({**(self.restore_to or {})}, str(known["suffix"]))
        facts = facts_of_restore(
            job,
            known=known,
            target=target["target"],
            made=made_by(target, dict(job.details) if job else {}),
            attempt=_clears(context),
        )
        push = context["ti"].xcom_push
        push(key=RESTORED, value=facts)
        # So that restored["arm_id"] works, which Airflow reads as the XCom of that key.
        for name in ("name", "arm_id"):
            push(key=name, value=facts[name])


class AzureBackupDrillRecordOperator(BaseOperator):
    """Records what came of a restore drill, and succeeds only if the restore is proven.

    Made by :func:`proven_restore`, as the teardown of its block. It pushes the XCom ``restore_record``,
    whatever happened. An event of its outlets carries the same, and there is one only for a proven restore,
    because an event starts what waits for it.

    :param restore_task_id: the restore.
    :raises AzureBackupNotProvenError: when the restore is not proven. Airflow does not retry the task.
    """

    ui_color = "#d6eaf8"

    def __init__(self, *, restore_task_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.restore_task_id = restore_task_id

    def execute(self, context: Context) -> bool:
        """Ask Airflow for the states of the restore and of the checks, and record the evidence."""
        from airflow_provider_azbackup.core.restore.evidence import RECORD, judge

        ti = context["ti"]
        checks = tasks_between(self.restore_task_id, self)
        index = map_index_for(self.restore_task_id, self, ti)
        record = judge(
            ti.xcom_pull(
                task_ids=self.restore_task_id, key=RESTORED, map_indexes=-1 if index is None else index
            ),
            self._states(ti, self.restore_task_id),
            {task_id: self._states(ti, task_id) for task_id in checks},
            now=clock.current().now(),
            attempt=_clears(context),
            run={"dag_id": ti.dag_id, "run_id": ti.run_id, "map_index": ti.map_index},
        )
        ti.xcom_push(key=RECORD, value=record)
        for made in record["made"]:
            self.log.info(
                "The drill made %s %s. To remove it: %s", made["kind"], made["name"], made["remove"]
            )
        if not record["proven"]:
            raise _NotProvenError(
                f"the restore of {record['item'] or 'the item'} is not proven: {'; '.join(record['reasons'])}"
            )
        for outlet in self.outlets:
            with suppress(
                Exception
            ):  # Airflow 2 lets anything be an outlet, and the restore is proven anyway
                context["outlet_events"][outlet].extra.update({RECORD: record})
        self.log.info(
            "The restore of %s is proven: %s s to restore, from a recovery point that was %s s old",
            record["item"],
            record["rto_seconds"],
            record["rpo_seconds"],
        )
        return True

    def _states(self, ti: Any, task_id: str) -> list[str]:
        """Return the states of a task; nothing where Airflow returns none, so that it counts as missing."""
        return states_of(ti, [task_id], map_index=map_index_for(task_id, self, ti))


def _clears(context: Context) -> str:
    """Return what a Clear of the run changes."""
    return str(getattr(context["dag_run"], "clear_number", None) or 0)


@contextmanager
def proven_restore(
    protected_item: str,
    *,
    restore_to: Mapping[str, Any],
    group_id: str = "proven_restore",
    outlets: Any = None,
    **arguments: Any,
) -> Iterator[XComArg]:
    """Restore an item, run the checks of a ``with`` block on what was restored, and record the evidence.

    The tasks in the block are the checks. The restore is proven if it succeeded, there is at least one
    check, and all of them succeeded. A failed, skipped or missing check, or a block without one, makes it
    "not proven", and then the run fails. What was restored stays: the record lists it, with the commands that
    remove it. In a mapped task group, each map index has a drill and a record of its own.

    :param protected_item: what to restore, as in
        :class:`~airflow_provider_azbackup.operators.AzureBackupRestoreOperator`.
    :param restore_to: a restore target, made by a function of :mod:`airflow_provider_azbackup.restore_to`.
        Targets that overwrite something are refused. The names that Azure is to give get a suffix, which is
        another one in each run, map index and try.
    :param group_id: id of the task group, which has the tasks ``begin``, ``restore`` and ``record``. Default:
        ``proven_restore``.
    :param outlets: assets of ``record``. They get an event when the restore is proven.
    :param arguments: arguments of
        :class:`~airflow_provider_azbackup.operators.AzureBackupRestoreOperator`, such as ``recovery_point``,
        ``deferrable``, ``timeout`` and ``vault_name``.
    :return: the XCom ``restored`` of the restore, for the arguments of the checks: a dict with ``name`` and
        ``arm_id`` of what was made, ``made`` (all of it), and the facts of the restore.
    :raises AzureBackupConfigError: for wrong arguments, and for a target that overwrites something.
    """
    with TaskGroup(group_id=group_id):
        begin = empty_operator()(task_id="begin")
        restore = AzureBackupDrillRestoreOperator(
            task_id="restore", protected_item=protected_item, restore_to=restore_to, **arguments
        )
        record: Any = AzureBackupDrillRecordOperator(
            task_id="record",
            restore_task_id=restore.task_id,
            **({} if outlets is None else {"outlets": outlets}),
        )
        # A teardown runs if one of its setups succeeded, so with `begin` a failed restore is recorded, too.
        record.as_teardown(setups=[begin, restore], on_failure_fail_dagrun=True)
        begin >> restore
        restored: XComArg = restore.output[RESTORED]  # type: ignore[index]  # Airflow's plain one is
        with record:
            yield restored

"""Guard risky tasks: take a backup before them, and restore it if one of them fails.

The tasks of a ``with`` block, and no others, run after the backup. The block is made of Airflow's own setup
and teardown, so that clearing a guarded task takes a new backup first, and the rest of the DAG stays as it
is. It is no decorator, because a decorator would guard one task, and what is risky is mostly several tasks in
an order of their own.

Source: https://airflow.apache.org/docs/apache-airflow/stable/howto/setup-and-teardown.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowSkipException, TaskGroup

from airflow_provider_azbackup.exceptions import AzureBackupConfigError, AzureBackupError
from airflow_provider_azbackup.operators import AzureBackupOperator, AzureBackupRestoreOperator
from airflow_provider_azbackup.tasks.block import map_index_for, tasks_between

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

_FAILED = frozenset({"failed", "upstream_failed"})
# What a restore has no use for: how the backup is taken, and what it has to prove.
_OF_BACKUP = frozenset(
    {
        "backup_type",
        "enable_compression",
        "min_consistency",
        "min_tier",
        "recovery_point_expiry",
        "require_all_disks",
        "retention_tag",
        "rule_name",
    }
)
# What a backup has no use for.
_OF_RESTORE = frozenset({"approve", "approval_timeout"})


class AzureBackupRestoreOnFailureOperator(AzureBackupRestoreOperator):
    """Restores if one of the tasks between a setup and this, its teardown, has failed; else it is skipped.

    Made by :func:`backed_up`.

    :param setup_task_id: the setup.
    :param kwargs: of :class:`~airflow_provider_azbackup.operators.AzureBackupRestoreOperator`.
    """

    def __init__(self, *, setup_task_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.setup_task_id = setup_task_id

    def execute(self, context: Context) -> Any:
        """Ask Airflow for the states of the guarded tasks, and restore if one of them has failed.

        In a mapped task group only the task instances of the same map index count: each index has a backup
        of its own, and a failure of one must not restore the others.

        :raises AirflowSkipException: when none has failed.
        :raises AzureBackupError: when Airflow does not return the state of every guarded task.
        """
        guarded = tasks_between(self.setup_task_id, self)
        if not self._states(context["ti"], guarded) & _FAILED:
            raise AirflowSkipException(f"None of the guarded tasks has failed: {', '.join(guarded)}")
        self.log.info("A guarded task has failed, so the backup before it is restored")
        return super().execute(context)

    def _states(self, ti: Any, guarded: list[str]) -> set[str]:
        from airflow_provider_azbackup.runtime.compat import states_of

        inside = [task_id for task_id in guarded if map_index_for(task_id, self, ti) is not None]
        asked = ((inside, ti.map_index), ([each for each in guarded if each not in inside], None))
        states: set[str] = set()
        for task_ids, map_index in asked:
            found = states_of(ti, task_ids, map_index=map_index) if task_ids else []
            if len(found) < len(task_ids):
                raise AzureBackupError(
                    f"nothing was restored: Airflow returned {len(found)} states for {len(task_ids)} guarded "
                    f"tasks, so it is not known whether one has failed: {', '.join(task_ids)}"
                    f"{'' if map_index is None else f' of map index {map_index}'}. Clear this task to retry"
                )
            states.update(found)
        return states


@contextmanager
def backed_up(
    protected_item: str,
    *,
    restore_to: Mapping[str, Any] | None = None,
    group_id: str = "backed_up",
    **arguments: Any,
) -> Iterator[AzureBackupOperator]:
    """Run the tasks of a ``with`` block after a proven backup, in a task group of their own.

    If one of them fails and ``restore_to`` is given, the recovery point of that very backup is restored
    there; the run counts as failed all the same. If the backup fails, nothing is run and nothing restored.
    In a mapped task group, each map index has a backup of its own and is restored on its own.

    :param protected_item: what to back up: the ARM id of the protected item, the ARM id of the virtual
        machine or of the file share, or a friendly name.
    :param restore_to: a restore target, made by a function of :mod:`airflow_provider_azbackup.restore_to`;
        None restores nothing.
    :param group_id: id of the task group, which has the tasks ``backup`` and ``restore``. Default:
        ``backed_up``.
    :param arguments: arguments of both operators, such as ``deferrable``, ``poll_interval``, ``timeout`` and
        ``vault_name``, arguments of the backup alone, such as ``backup_type`` and ``min_consistency``, and
        of the restore alone: ``approve`` and ``approval_timeout``.
    :return: the operator of the backup.
    :raises AzureBackupConfigError: for wrong arguments, as the operators raise it, and for
        ``wait_for_completion=False``.
    """
    if restore_to is None and (given := sorted(_OF_RESTORE & arguments.keys())):
        raise AzureBackupConfigError(
            f"backed_up({protected_item!r}) has {' and '.join(given)}, and no restore_to that a person could "
            f"approve; give restore_to, or leave {'them' if given[1:] else 'it'} out"
        )
    if not arguments.get("wait_for_completion", True):
        raise AzureBackupConfigError(
            f"wait_for_completion of backed_up({protected_item!r}) is False, so the tasks in the block would "
            f"run before the backup is proven; leave it out"
        )
    with TaskGroup(group_id=group_id):
        backup = AzureBackupOperator(
            task_id="backup",
            protected_item=protected_item,
            require_recovery_point=restore_to is not None,
            **{name: value for name, value in arguments.items() if name not in _OF_RESTORE},
        )
        backup.as_setup()  # type: ignore[no-untyped-call]  # Airflow's own is untyped
        scope: Any = backup
        if restore_to is not None:
            name = backup.task_id
            scope = AzureBackupRestoreOnFailureOperator(
                task_id="restore",
                setup_task_id=name,
                protected_item=protected_item,
                restore_to=restore_to,
                # Without map_indexes, a mapped task instance pulls a list of all indexes. The ARM id also
                # names the item, so that no recovery point of another item is ever restored.
                recovery_point=(
                    f"{{{{ ti.xcom_pull(task_ids='{name}', key='recovery_point', map_indexes=ti.map_index)"
                    f"['arm_id'] }}}}"
                ),
                **{name: value for name, value in arguments.items() if name not in _OF_BACKUP},
            ).as_teardown(setups=backup)
        with scope:
            yield backup

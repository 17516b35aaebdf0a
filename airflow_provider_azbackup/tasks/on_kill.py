"""Cancel the job of a task that a person ended while it ran in a worker."""

from __future__ import annotations

import threading
from contextvars import copy_context
from typing import TYPE_CHECKING

from airflow_provider_azbackup.exceptions import AzureBackupError, AzureBackupTransientError
from airflow_provider_azbackup.runtime.compat import FINISHED, WORKER_KILL_LIMIT, state_of

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator, Context

    from airflow_provider_azbackup.core.model.resources import JobRef, OperationRef
    from airflow_provider_azbackup.tasks.hook import TaskHook

_PATIENCE = 10.0


class CancelOnKill:
    """What ``on_kill`` of a worker needs, kept up to date while it works.

    Airflow calls ``on_kill`` in the handler of a signal, in the middle of whatever the process was doing. So
    the work is done in a thread, with a client of its own: a lock that the interrupted code holds then costs
    the cancellation, not the process.

    :param task: the operator, for its log.
    :param context: Airflow's, of this try.
    :param hook: knows connection and vault.
    :param what: what the job is, for the log: a backup or a restore.
    """

    def __init__(self, task: BaseOperator, context: Context, hook: TaskHook, what: str = "backup") -> None:
        self._what = what
        self._ti = context["ti"]
        self._log = task.log
        # Now: in the handler the connection may be out of reach.
        self._hook = hook.twin()
        self.target: JobRef | OperationRef | None = None

    def run(self) -> None:
        """Ask Azure to cancel the job, if Airflow says that a person ended the task."""
        thread = threading.Thread(
            target=copy_context().run, args=(self._cancel,), name="azure-backup-on-kill", daemon=True
        )
        thread.start()
        thread.join(WORKER_KILL_LIMIT)
        if thread.is_alive():
            self._log.warning("Still asking Azure to cancel the %s; it may go on", self._what)

    def _cancel(self) -> None:
        from airflow_provider_azbackup.core.model.resources import OperationRef

        if (target := self.target) is None:
            return
        try:
            state = state_of(self._ti)
            if state not in FINISHED:
                self._log.info("Task is %s, not ended: its %s goes on in Azure", state, self._what)
                return
            with self._hook as hook:
                if isinstance(target, OperationRef):
                    ref = hook.wait_for_operation(target, self._what)
                else:
                    ref = target
                hook.cancel_job(ref.path, patience=_PATIENCE)
            self._log.info("Task is %s: asked Azure to cancel job %s", state, ref.job_id)
        except AzureBackupTransientError as error:
            self._log.warning(
                "It is not known whether the %s was cancelled or goes on in Azure: %s", self._what, error
            )
        except AzureBackupError as error:
            self._log.warning("The %s was not cancelled, it goes on in Azure: %s", self._what, error)
        except Exception as error:  # it cannot be found out, so the job is left alone
            self._log.exception("The %s goes on in Azure: %s", self._what, type(error).__name__)

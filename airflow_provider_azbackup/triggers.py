"""Watch a job from the triggerer; start nothing there: Airflow may run a trigger again at any moment."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import suppress
from importlib import import_module
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_azbackup import clock
from airflow_provider_azbackup.exceptions import AzureBackupError, AzureBackupTransientError

# Seconds; Airflow's own limit of on_kill is 30.
_KILL_LIMIT = 25.0
# The first question in a triggerer's life takes 5 s, more on a busy machine: Airflow loads what answers it.
# Below 3.3 the end of a triggerer asks it as well, when nobody answers, and must not be held up for long.
_STATE_LIMIT = 20.0 if hasattr(BaseTrigger, "on_kill") else 10.0
_PATIENCE = 10.0
# A worker that has deferred its task takes some seconds to leave, more on a busy machine, and Airflow (3.3.2)
# fails a task whose trigger fires before that: apache/airflow issues 66374 and 67287.
LEAST_PAUSE = 15.0


class AzureBackupJobTrigger(BaseTrigger):
    """Fires once, when a job is over, when its deadline has passed, or when looking again cannot help.

    The event is a :class:`~airflow_provider_azbackup.events.JobEvent`. All arguments are plain JSON without
    secrets; whoever holds them can look at one job as the connection allows, and no more.

    :param job_id: ARM id of the job.
    :param azure_backup_conn_id: the connection, read anew wherever the trigger runs.
    :param poll_interval: seconds between looks.
    :param first_pause: seconds before the first look, here or after a restart. Not 0: the worker has just
        looked, and an event that came before the worker has let go would be lost.
    :param deadline: Unix time of the last look; it survives a restart of the triggerer.
    :param since: Unix time the wait began.
    :param cancel_on_kill: ask Azure to cancel the job when a person ends the task while it waits here.
    """

    def __init__(
        self,
        *,
        job_id: str,
        azure_backup_conn_id: str,
        poll_interval: float,
        first_pause: float,
        deadline: float,
        since: float,
        cancel_on_kill: bool = False,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's own is untyped
        self.job_id = job_id
        self.azure_backup_conn_id = azure_backup_conn_id
        self.poll_interval = poll_interval
        self.first_pause = first_pause
        self.deadline = deadline
        self.since = since
        self.cancel_on_kill = cancel_on_kill

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments that rebuild an equal trigger."""
        return (
            "airflow_provider_azbackup.triggers.AzureBackupJobTrigger",
            {
                "job_id": self.job_id,
                "azure_backup_conn_id": self.azure_backup_conn_id,
                "poll_interval": self.poll_interval,
                "first_pause": self.first_pause,
                "deadline": self.deadline,
                "since": self.since,
                "cancel_on_kill": self.cancel_on_kill,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Watch the job and yield the one event."""
        # Here, and in a thread first: parsing a DAG file need not pay for it, nor the loop stand still.
        await asyncio.to_thread(import_module, "airflow_provider_azbackup.poller")
        from airflow_provider_azbackup.core.resources import JobRef
        from airflow_provider_azbackup.events import JobEvent
        from airflow_provider_azbackup.poller import joined
        from airflow_provider_azbackup.story import Story
        from airflow_provider_azbackup.task_states import warm_up

        if self.cancel_on_kill:
            warm_up(self.task_instance)
        now = clock.current().now()
        # Counted from the start of the wait: a restart need not wait again. However late it is, and however
        # long the pause, the last look comes at the deadline.
        pause = self.since + self.first_pause * random.uniform(1.0, 1.15) - now
        pause = max(LEAST_PAUSE, min(pause, self.deadline - now))
        try:
            async with joined(self.azure_backup_conn_id) as poller:
                job = await poller.watch_job(
                    JobRef.parse(self.job_id),
                    poll_interval=self.poll_interval,
                    deadline=self.deadline,
                    since=self.since,
                    notice=Story(self.log).tell,
                    first_pause=pause,
                )
            event = JobEvent(job=job)
        except asyncio.CancelledError:
            if not hasattr(BaseTrigger, "on_kill"):  # Airflow below 3.3 has no other word for it
                await self.on_kill()
            raise
        except AzureBackupError as error:
            event = JobEvent(error=error)
        except Exception as error:
            # Whatever it was, the gate stays shut and the worker gets to say why.
            self.log.exception("Watching job %s broke off", self.job_id)
            event = JobEvent(
                error=AzureBackupError(
                    f"watching job {self.job_id} broke off: {type(error).__name__}: {error}"
                )
            )
        yield TriggerEvent(event.to_dict())  # type: ignore[no-untyped-call]  # as above

    async def on_kill(self) -> None:
        """Ask Azure to cancel the job, if that is wanted and a person has really ended the task.

        Airflow (3.3.0 to 3.3.2) calls this also when the trigger has only moved to another triggerer (pull
        request 73454), and repeats its cancellation until it has broken off whatever this awaits. So the work
        is a task of its own, and asks Airflow for the state of the task first.
        """
        if not self.cancel_on_kill:
            return
        loop = asyncio.get_running_loop()
        work, end = loop.create_task(self._cancel_if_ended()), loop.time() + _KILL_LIMIT + 1
        while not work.done() and loop.time() < end:
            with suppress(asyncio.CancelledError):
                await asyncio.shield(work)

    async def _cancel_if_ended(self) -> None:
        await asyncio.to_thread(import_module, "airflow_provider_azbackup.hooks")
        from airflow_provider_azbackup.hooks import AzureBackupAsyncHook
        from airflow_provider_azbackup.task_states import FINISHED, state_on_loop

        try:
            async with asyncio.timeout(_KILL_LIMIT):
                state = await state_on_loop(self.task_instance, limit=_STATE_LIMIT)
                if state not in FINISHED:
                    self.log.info("Task is %s, not ended: job %s goes on", state, self.job_id)
                    return
                async with AzureBackupAsyncHook(self.azure_backup_conn_id) as hook:
                    await hook.cancel_job(self.job_id, patience=_PATIENCE)
            self.log.info("Task is %s: asked Azure to cancel job %s", state, self.job_id)
        except AzureBackupTransientError as error:
            self.log.warning(
                "It is not known whether job %s was cancelled or goes on: %s", self.job_id, error
            )
        except AzureBackupError as error:
            self.log.warning("Job %s was not cancelled, it goes on: %s", self.job_id, error)
        except Exception as error:
            # Airflow shows no traceback of what fails here; whatever it is, the backup is left alone.
            self.log.exception("Job %s goes on: %s", self.job_id, type(error).__name__)

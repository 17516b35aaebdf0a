"""What crosses from the triggerer to the worker: one writer, one reader."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from airflow_provider_azbackup.core.model.jobs import Job
from airflow_provider_azbackup.core.model.json_safe import json_safe
from airflow_provider_azbackup.core.model.resources import JobRef
from airflow_provider_azbackup.core.model.validation import check_version
from airflow_provider_azbackup.core.rest.responses import parse_job
from airflow_provider_azbackup.core.wire import JsonObject
from airflow_provider_azbackup.exceptions import AzureBackupError

_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class JobEvent:
    """How a deferred wait ended: with a job that is over or an error, or only because the backup is late.

    It carries what is read of Azure's own JSON of the job, not a verdict: the worker reads it and decides
    with the functions that decide everywhere else.
    """

    job: Job | None = None
    error: AzureBackupError | None = None
    # Why the backup counts as late, from `lateness` in core/model/forecast.py. A task that gets nothing else
    # warns and goes back to waiting.
    late: JsonObject | None = None

    def to_dict(self) -> JsonObject:
        """Return the event as plain JSON that every database takes."""
        event: JsonObject = json_safe(
            {
                "version": _VERSION,
                "job": {"arm_id": self.job.ref.path, "body": self.job.body} if self.job else None,
                "error": self.error.facts() if self.error else None,
                **({"late": self.late} if self.late else {}),
            }
        )
        return event

    @classmethod
    def from_dict(cls, payload: Any) -> JobEvent:
        """Read an event back.

        :raises AzureBackupError: when it is not one of ours: a gate must not open on what it cannot read.
        """
        payload = check_version(
            payload, _VERSION, what="the trigger's event", otherwise="the trigger's event is not a job's"
        )
        error, found = payload.get("error"), payload.get("job")
        late = payload.get("late")
        late = late if isinstance(late, dict) and isinstance(late.get("message"), str) else None
        if isinstance(error, dict) and found is None:
            return cls(error=AzureBackupError.from_facts(error), late=late)
        body = found.get("body") if isinstance(found, dict) else None
        arm_id = found.get("arm_id") if isinstance(found, dict) else None
        if error is None and isinstance(body, dict) and isinstance(arm_id, str):
            job = parse_job(JobRef.parse(arm_id), body)
            if job is not None:
                return cls(job=job, late=late)
        if error is None and found is None and late:
            return cls(late=late)
        raise AzureBackupError(f"the trigger's event holds no job: {str(payload)[:200]!r}")

"""What one try of a task leaves for the next: a record in Airflow's task state store, 3.3 and later."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_azbackup.core.model.json_safe import json_safe
from airflow_provider_azbackup.runtime.compat import attempt_of, task_state_store

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_azbackup.core.start.intent import StartRecord

# Renaming one would break the retries under way.
KEY, APPROVAL_KEY = "azure_backup", "azure_backup_approval"


class TaskState:
    """The records of one task instance; below Airflow 3.3 there is no store, and nothing is kept.

    :param context: Airflow's, of the running try.
    :param retries: of the operator.
    """

    def __init__(self, context: Context, retries: int | None) -> None:
        from airflow_provider_azbackup.core.start.intent import StartRecord

        self.attempt = attempt_of(context, retries)

        self._store: Any = task_state_store(context)
        found = None if self._store is None else self._store.get(KEY)
        self.record: StartRecord | None = None if found is None else StartRecord.from_dict(found)
        # What an earlier try has left is of a release that this one does not know, or nobody's.
        self.is_foreign = found is not None and self.record is None
        self.is_blind = self._store is None or self.is_foreign

    def is_approved(self, digest: str) -> bool:
        """Whether a person has approved a restore in an earlier try of this attempt."""
        known = None if self._store is None else self._store.get(APPROVAL_KEY)
        return bool(known == {"attempt": self.attempt, "digest": digest})

    def approve(self, digest: str) -> None:
        """Keep an approval for the later tries of this attempt."""
        if self._store is not None:
            self._store.set(APPROVAL_KEY, {"attempt": self.attempt, "digest": digest})

    def save(self, record: StartRecord | None) -> None:
        """Keep a record for later tries; None forgets the last one."""
        self.record = record
        if self._store is None:
            return
        if record is None:
            self._store.delete(KEY)
        else:
            self._store.set(KEY, json_safe(record.to_dict()))

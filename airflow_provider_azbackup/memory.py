"""What one try of a task leaves for the next: a note in Airflow's task state store, 3.3 and later."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_azbackup.core.adoption import Note

# Renaming it would break the retries under way.
KEY = "azure_backup"


class Memory:
    """The notes of one task instance; below Airflow 3.3 there is no store, and nothing is kept.

    :param context: Airflow's, of the running try.
    """

    def __init__(self, context: Context) -> None:
        self._store: Any = context.get("task_state_store")

    @property
    def lasts(self) -> bool:
        """Whether what is kept here is there at the next try."""
        return self._store is not None

    def recall(self) -> Note | None:
        """Return what an earlier try has left."""
        from airflow_provider_azbackup.core.adoption import Note

        return Note.from_dict(self._store.get(KEY)) if self.lasts else None

    def keep(self, note: Note | None) -> None:
        """Keep a note for later tries; None forgets the last one."""
        if not self.lasts:
            return
        if note is None:
            self._store.delete(KEY)
        else:
            self._store.set(KEY, note.to_dict())

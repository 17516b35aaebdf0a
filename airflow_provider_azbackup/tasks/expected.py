"""The base class of tasks that may expect their backup by some time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from airflow_provider_azbackup.tasks.arguments import check_moment
from airflow_provider_azbackup.tasks.base import JobBaseOperator
from airflow_provider_azbackup.tasks.late import OnLate, check_on_late


class ExpectedBaseOperator(JobBaseOperator):
    """A task that warns when its backup is late, before it is late if that can be foreseen.

    :param expected_by: when the backup should be over: a datetime, ISO 8601 text, or a timedelta after the
        moment of the run. The task warns once in each try: when this time has passed, or earlier if earlier
        backups of the item show that a running one is more likely to end after it than before it. It warns in
        its log, in the XCom ``backup_progress``, and through ``on_late``. The gate does not depend on it.
        Text and datetimes without a time zone are in Airflow's ``[core] default_timezone``. Only a deferred
        task foresees anything.
    :param on_late: a notifier or a function of the context, or a list of them, as for Airflow's own
        callbacks. They run in a worker, for which a deferred task is resumed once. The context holds
        ``late``, a dict of ``message``, ``expected_by``, ``expected_end`` and ``expected_late``. Not for a
        sensor with ``mode="reschedule"`` that is not deferrable.
    """

    template_fields: Sequence[str] = ("expected_by", *JobBaseOperator.template_fields)
    fields_of_any_type = frozenset({"expected_by"})
    required_if_given = frozenset({"expected_by"})

    def __init__(
        self,
        *,
        expected_by: datetime | timedelta | str | None = None,
        on_late: OnLate = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        # Each look of a rescheduled sensor is a new process, which cannot know whether it has warned already.
        once = self.deferrable or getattr(self, "mode", "poke") == "poke"
        check_on_late(self.task_id, on_late, expects=expected_by is not None, once=once)
        self.expected_by = expected_by
        self.on_late = on_late

    def check_arguments(self) -> None:
        """Refuse a moment that is none, as far as it is known when the DAG is parsed."""
        super().check_arguments()
        check_moment(self.task_id, "expected_by", self.expected_by)

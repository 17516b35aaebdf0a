"""Defers for a minute, with an execution_timeout of 20 seconds."""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger
from airflow.sdk import DAG, BaseOperator


class Waits(BaseOperator):
    """Leaves the wait to the triggerer."""

    def execute(self, context):
        trigger = TimeDeltaTrigger(timedelta(minutes=1))
        self.defer(trigger=trigger, method_name="resume")

    def resume(self, context, event=None):
        self.log.info("resumed")


with DAG(dag_id="timeout_over_deferral", schedule=None):
    Waits(task_id="waits", execution_timeout=timedelta(seconds=20))

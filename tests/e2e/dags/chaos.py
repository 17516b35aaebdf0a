"""What the chaos tests run: one backup and the gate after it. Which machine it is, each run says itself."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG
from airflow.providers.standard.operators.empty import EmptyOperator

from airflow_provider_azbackup.operators import AzureBackupOperator

# Where a run waits, and whether a person who ends its task cancels the job.
DAGS: dict[str, dict[str, Any]] = {
    "chaos_deferred": {"deferrable": True},
    "chaos_deferred_cancels": {"deferrable": True, "cancel_on_kill": True},
    "chaos_freed_cancels": {"deferrable": True, "cancel_on_kill": True, "pool": "freed"},
    "chaos_held_cancels": {"deferrable": True, "cancel_on_kill": True, "pool": "held"},
    "chaos_working": {"deferrable": False},
    "chaos_working_cancels": {"deferrable": False, "cancel_on_kill": True},
}

for name, options in DAGS.items():
    with DAG(dag_id=name, schedule=None, max_active_runs=64, max_active_tasks=64):
        backup = AzureBackupOperator(
            task_id="backup",
            protected_item="{{ dag_run.conf['item'] }}",
            vault_name="{{ dag_run.conf['vault'] }}",
            azure_backup_conn_id="{{ dag_run.conf['conn_id'] }}",
            poll_interval=3,
            retries=3,
            retry_delay=timedelta(seconds=1),
            **options,
        )
        # Airflow runs this one without a process: it is a success as soon as it may run.
        backup >> EmptyOperator(task_id="gate")

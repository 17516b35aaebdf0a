"""A task whose work must be in the backup, the backup, and the task that destroys that work."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import DAG, task
from airflow.providers.standard.operators.empty import EmptyOperator

from airflow_provider_azbackup.guard import backed_up
from airflow_provider_azbackup.operators import AzureBackupOperator
from airflow_provider_azbackup.restore_to import original_vm

STAGING = (
    "/subscriptions/00000000-0000-0000-0000-00000000d3a0/resourceGroups/demo-rg"
    "/providers/Microsoft.Storage/storageAccounts/staging"
)
# How often the backup of one of the DAGs is retried; a test lowers it.
RETRIES = Path(__file__).with_name("upstream_retries.txt")
DAGS: dict[str, dict[str, Any]] = {
    "upstream_deferred": {},
    "upstream_working": {"deferrable": False},
    "upstream_snapshot": {"wait_until": "snapshot"},
    "upstream_retries": {"retries": int(RETRIES.read_text()) if RETRIES.exists() else 1},
}
ITEM = {
    "protected_item": "{{ dag_run.conf['item'] }}",
    "vault_name": "{{ dag_run.conf['item'] }}",
}


def load() -> Any:
    """Return the task upstream."""

    @task
    def load() -> float:
        time.sleep(2)
        return time.time()

    return load()


for name, options in DAGS.items():
    with DAG(dag_id=name, schedule=None):
        backup = AzureBackupOperator(
            task_id="backup",
            poll_interval=3,
            require_recovery_point=True,
            retry_delay=timedelta(seconds=1),  # a Clear of a running task waits for it, too
            **{"deferrable": True, **ITEM, **options},
        )
        load() >> backup >> EmptyOperator(task_id="drop")

with DAG(dag_id="upstream_guarded", schedule=None):
    loaded = load()
    with backed_up(
        ITEM["protected_item"],
        vault_name=ITEM["vault_name"],
        restore_to=original_vm(storage_account_id=STAGING),
        deferrable=True,
        poll_interval=3,
    ) as guarded:

        @task
        def drop() -> None:
            raise RuntimeError("the change went wrong")

        drop()
    loaded >> guarded

"""Backups that are meant once each, with a gate after every one; what befalls them is up to the test.

Each task backs up a machine of its own name, in a vault of its own name: each wait reads its job by itself.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_azbackup.operators import AzureBackupOperator

try:
    from airflow.providers.standard.operators.empty import EmptyOperator
except ImportError:  # Airflow 2
    from airflow.operators.empty import EmptyOperator

TIMEOUT = timedelta(seconds=float(os.environ["EXECUTION_TIMEOUT"]))
INTENTS: dict[str, dict[str, Any]] = {
    "failed": {},
    "failed-and-cancelled": {"cancel_on_kill": True},
    "passed-and-cancelled": {"cancel_on_kill": True},
    "failed-in-worker": {"cancel_on_kill": True, "deferrable": False},
    "cleared": {"cancel_on_kill": True},
    "cleared-in-worker": {"cancel_on_kill": True, "deferrable": False},
    "restarted": {"cancel_on_kill": True},
    "retried": {"cancel_on_kill": True, "retries": 1},
    "overdue": {"cancel_on_kill": True, "execution_timeout": TIMEOUT},
    "overdue-and-cancelled": {"cancel_on_timeout": True, "execution_timeout": TIMEOUT},
}

with DAG(dag_id="intents", schedule=None):
    for name in os.environ["INTENTS"].split(","):
        options = INTENTS[name]
        backup = AzureBackupOperator(
            task_id=name,
            protected_item=name,
            vault_name=name,
            priority_weight=2 if "execution_timeout" in options else 1,  # the longest wait begins first
            retry_delay=timedelta(seconds=1),  # a Clear of a running task waits for it too
            **{"deferrable": True, "poll_interval": 2, **options},
        )
        backup >> EmptyOperator(task_id=f"behind-{name}")

"""Airflow's command with imports done in advance: ``python -m dev.stack.preloaded scheduler``.

The scheduler and the Dag processor fork a process for each task and each file. Without this, each of these
would import our modules, Microsoft's clients and parts of Airflow itself, which takes more than a second.
"""

from __future__ import annotations

import importlib
from contextlib import suppress

from airflow.__main__ import main

MODULES = (
    "airflow.executors.workloads",
    "airflow.sdk.definitions.asset.metadata",
    "airflow.sdk.definitions.decorators",
    "airflow.sdk.definitions.decorators.condition",
    "airflow.sdk.definitions.decorators.setup_teardown",
    "airflow.sdk.execution_time.cache",
    "airflow.sdk.execution_time.supervisor",
    "airflow.sdk.execution_time.task_runner",
    "airflow_provider_azbackup.hooks",
    "airflow_provider_azbackup.links",
    "airflow_provider_azbackup.operators",
    "airflow_provider_azbackup.sensors",
    "airflow_provider_azbackup.triggers",
    "airflow_provider_azbackup.runtime.transport",
    "azure.core.rest._requests_basic",
    "azure.identity",
    "jinja2.ext",
    "msal_extensions",
)

if __name__ == "__main__":
    for name in MODULES:
        # Older releases of Airflow lack some of them.
        with suppress(ImportError):
            importlib.import_module(name)
    main()  # type: ignore[no-untyped-call]  # Airflow does not annotate it

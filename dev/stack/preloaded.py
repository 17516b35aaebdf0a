"""Airflow's commands, begun by forking a process that has done its imports.

``python -m dev.stack.preloaded`` reads from its standard input, line by line, which commands to begin: JSON
with ``log``, the file to which one writes, and ``arguments``, what would stand after ``airflow``. It answers
each with the id of a process, which leads a session of its own. :mod:`dev.stack.forks` is the other side.

A triggerer computes for a dozen seconds before its first trigger runs, nearly all of it for imports and for
the API it serves to itself. Forked, it starts in one. The scheduler and the Dag processor fork a process for
each task and each file. Without our modules and Microsoft's clients imported before that, each of these would
import them again.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import signal
import sys
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TextIO

AIRFLOW = (
    "airflow.__main__",
    "airflow.cli.commands.api_server_command",
    "airflow.cli.commands.dag_processor_command",
    "airflow.cli.commands.scheduler_command",
    "airflow.cli.commands.triggerer_command",
    "airflow.executors.workloads",
    "airflow.jobs.scheduler_job_runner",
    "airflow.jobs.triggerer_job_runner",
    "airflow.sdk.definitions.asset.metadata",
    "airflow.sdk.definitions.decorators",
    "airflow.sdk.definitions.decorators.condition",
    "airflow.sdk.definitions.decorators.setup_teardown",
    "airflow.sdk.execution_time.cache",
    "airflow.sdk.execution_time.supervisor",
    "airflow.sdk.execution_time.task_runner",
    "jinja2.ext",
)
# For processes that fork a lot. Triggerers import them when the first wait comes, as they do anywhere.
OURS = (
    "airflow_provider_azbackup.hooks",
    "airflow_provider_azbackup.links",
    "airflow_provider_azbackup.operators",
    "airflow_provider_azbackup.sensors",
    "airflow_provider_azbackup.triggers",
    "airflow_provider_azbackup.runtime.transport",
    "azure.core.rest._requests_basic",
    "azure.identity",
    "msal_extensions",
)


def load(modules: Collection[str]) -> None:
    """Import modules. Older releases of Airflow lack some of them."""
    for name in modules:
        with suppress(ImportError):
            importlib.import_module(name)


def prepare_api() -> None:
    """Make the API that a triggerer serves to itself; most of it is made by the first request."""
    with suppress(ImportError, AttributeError):
        from airflow.jobs.triggerer_job_runner import in_process_api_server
        from httpx import AsyncClient

        async def ask() -> None:
            async with AsyncClient(transport=in_process_api_server().atransport) as client:
                await client.get("http://in-process.invalid./")

        asyncio.run(ask())


def forget_ended(*_: object) -> None:
    """Wait for processes that have ended, so that the system forgets them."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def begin(log: str, arguments: Sequence[str], answers: TextIO) -> None:
    """Make this process, which was forked, the one that runs a command, and answer that it is there."""
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with Path(os.devnull).open() as nothing, Path(log).open("ab") as written:
        for source, target in ((nothing, 0), (written, 1), (written, 2)):
            os.dup2(source.fileno(), target)
    print(os.getpid(), file=answers, flush=True)
    answers.close()
    sys.argv = ["airflow", *arguments]


def serve() -> None:
    """Fork a process for each command that is asked for; return in that process only, or at the end."""
    # What the imports print is no answer.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    load(AIRFLOW)
    signal.signal(signal.SIGCHLD, forget_ended)
    has_api = False
    for line in sys.stdin:
        asked = json.loads(line)
        kind = asked["arguments"][0]
        if kind == "triggerer" and not has_api:
            prepare_api()
            has_api = True
        if os.fork() == 0:
            begin(asked["log"], asked["arguments"], answers)
            if kind in ("scheduler", "dag-processor"):
                load(OURS)
            importlib.import_module("airflow.__main__").main()
            return


if __name__ == "__main__":
    serve()

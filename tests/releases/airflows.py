"""Older Airflows, each in an environment of its own, driven as the UI drives them: through their REST API."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from dev.release.releases import environment
from dev.stack.airflow_api import Json, Task
from dev.stack.stack import PROCESSES, Stack, StackError

SETTINGS = {
    # For Airflow 2 alone: 3.0 begins to watch an asset when it reads the file of the Dag again.
    "AIRFLOW__SCHEDULER__MIN_FILE_PROCESS_INTERVAL": "3600",
    # What happened to a task while it runs is noticed after seconds, not after half a minute.
    "AIRFLOW__SCHEDULER__LOCAL_TASK_JOB_HEARTBEAT_SEC": "3",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_SEC": "3",
    # So is a triggerer that was killed.
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "6",
}


class OldStack(Stack):
    """One of the releases, running while the ``with`` block lasts.

    :param release: one of ``dev.release.releases.RELEASES``; its environment is made when missing.
    :param ended: set when the tests are ended; whatever waits for Airflow then gives up.
    """

    def __init__(
        self, release: str, *, dags: Path, home: Path, env: Mapping[str, str], ended: threading.Event
    ) -> None:
        super().__init__(dags=dags, home=home, env={**SETTINGS, **env})
        self.release = release
        self.ended = ended
        python = environment(release)
        self.python = str(python)
        # Airflow starts some of its own processes by name.
        self.env["PATH"] = f"{python.parent}:{self.env['PATH']}"

    def check(self) -> None:
        if self.ended.is_set():
            raise StackError("the tests were ended")
        super().check()

    def clear_all(self, tasks: Sequence[Task]) -> None:
        """Have tasks of one run and all after them run again."""
        for task in tasks:
            self.clear(task)

    def log_text(self, task_id: str) -> str:
        """Return all that workers and triggerers wrote into the logs of a task, try after try."""
        files = sorted(
            file for file in (self.home / "logs").rglob("*.log*") if f"task_id={task_id}/" in str(file)
        )
        return "\n".join(file.read_text(errors="replace") for file in files if file.is_file())


class Airflow2(OldStack):
    """Airflow 2.11: the webserver of then, and a database that stands several writers, for tasks write to it.

    :param database: a PostgreSQL, as SQLAlchemy names it.
    """

    first: Mapping[str, str] = {name: name for name in ("webserver", "scheduler", "triggerer")}
    parts = ("metadatabase", "scheduler", "triggerer")

    def __init__(
        self,
        release: str,
        *,
        dags: Path,
        home: Path,
        env: Mapping[str, str],
        ended: threading.Event,
        database: str,
    ) -> None:
        settings = {
            "AIRFLOW__API__AUTH_BACKENDS": "airflow.api.auth.backend.default",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            # Two minutes, the default, in which a busy machine may not have started it.
            "AIRFLOW__WEBSERVER__WEB_SERVER_MASTER_TIMEOUT": "1200",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database,
        }
        super().__init__(release, dags=dags, home=home, env={**settings, **env}, ended=ended)
        web = ("webserver", "--workers", "1", "--hostname", "127.0.0.1", "--port", str(self.port))
        self.programs = {**PROCESSES, "webserver": web}
        self._token = "none is needed"

    def __enter__(self) -> Self:
        self.home.mkdir(parents=True, exist_ok=True)
        # Any caller, from this machine alone, may do everything.
        (self.home / "webserver_config.py").write_text("AUTH_ROLE_PUBLIC = 'Admin'\n")
        return super().__enter__()

    def _send(self, method: str, path: str, body: Json | None) -> Json:
        path = path.replace("/api/v2/monitor/", "/api/v1/").replace("/api/v2/", "/api/v1/", 1)
        # A list of tasks cannot be sorted there; no run of these tests needs a second page of it.
        path = path.removesuffix("&order_by=id")
        if body is not None and "logical_date" in body:
            body = {"conf": body["conf"]}
        return super()._send(method, path, body)

    def links(self, task: Task) -> dict[str, str | None]:
        return dict(self.call("GET", f"{task.path}/links"))

    def set_state(self, task: Task, state: str) -> None:
        self.call("PATCH", task.path, {"new_state": state, "dry_run": False})

    def clear_all(self, tasks: Sequence[Task]) -> None:
        # Not by REST as the others: what 2.11 answers there with 200 leaves a running task as it is.
        names = "|".join(task.task_id for task in tasks)
        dag_id = tasks[0].run.dag_id
        self.cli("tasks", "clear", "--yes", "--task-regex", f"^({names})$", "--downstream", dag_id)

"""A small client of Airflow 3's REST API, of the standard library."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from dev.stack.pace import Limit

Json = dict[str, Any]

FINISHED = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})


class AirflowApiError(Exception):
    """An answer other than 2xx; ``status`` is 0 when there was no answer at all."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of one Dag."""

    dag_id: str
    run_id: str

    @property
    def path(self) -> str:
        return f"/dags/{quote(self.dag_id)}/dagRuns/{quote(self.run_id, safe='')}"


@dataclass(frozen=True, kw_only=True)
class Task:
    """One task of a run as it stood when asked; ``map_index`` is -1 where the task is not mapped."""

    run: Run
    task_id: str
    map_index: int
    state: str
    try_number: int
    pid: int | None
    facts: Json

    @property
    def path(self) -> str:
        return f"{self.run.path}/taskInstances/{quote(self.task_id)}"

    @property
    def name(self) -> str:
        return self.task_id if self.map_index < 0 else f"{self.task_id}[{self.map_index}]"

    @property
    def is_finished(self) -> bool:
        return self.state in FINISHED


class AirflowApi:
    """Airflow as seen by a user who is logged in.

    :param url: where the API server listens, without a path.
    :param username: of the simple auth manager; the token is fetched at the first call.
    """

    def __init__(self, url: str, *, username: str, password: str) -> None:
        self.url = url
        self.username = username
        self.password = password
        self._token = ""

    def call(self, method: str, path: str, body: Json | None = None, **query: object) -> Json:
        """Send one request under ``/api/v2`` and return the JSON answered.

        :raises AirflowApiError: on any status but 2xx, with the beginning of what was answered.
        """
        if not self._token:
            login = {"username": self.username, "password": self.password}
            self._token = self._send("POST", "/auth/token", login)["access_token"]
        return self._send(method, f"/api/v2{path}{'?' + urlencode(query) if query else ''}", body)

    def _send(self, method: str, path: str, body: Json | None) -> Json:
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, headers=headers, method=method)
        try:
            # A proxy of the environment must not stand between two processes of one machine.
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
                request, timeout=60
            ) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            with error:
                detail = error.read()[:500].decode(errors="replace")
            raise AirflowApiError(f"{method} {path}: {error.code} {detail}", error.code) from None
        except OSError as error:
            raise AirflowApiError(f"{method} {path}: {error}") from error
        answered: Json = json.loads(text) if text else {}
        return answered

    def health(self) -> dict[str, str]:
        """Return ``healthy`` or another word for each of Airflow's parts; needs no login."""
        parts = self._send("GET", "/api/v2/monitor/health", None)
        return {name: (part or {}).get("status") or "missing" for name, part in parts.items()}

    def dag_ids(self) -> set[str]:
        return {dag["dag_id"] for dag in self.call("GET", "/dags", limit=100)["dags"]}

    def import_errors(self) -> list[str]:
        return [error["stack_trace"] for error in self.call("GET", "/importErrors")["import_errors"]]

    def set_paused(self, dag_id: str, paused: bool) -> None:
        self.call("PATCH", f"/dags/{quote(dag_id)}", {"is_paused": paused}, update_mask="is_paused")

    def reparse(self, dag_id: str) -> None:
        """Have the file of a Dag read again, soon."""
        token = self.call("GET", f"/dags/{quote(dag_id)}")["file_token"]
        self.call("PUT", f"/parseDagFile/{quote(token, safe='')}")

    def run_dag(self, dag_id: str, conf: Mapping[str, object] | None = None) -> Run:
        """Unpause a Dag, start a run of it, and return the run."""
        self.set_paused(dag_id, False)
        body = {"logical_date": None, "conf": dict(conf or {})}
        answer = self.call("POST", f"/dags/{quote(dag_id)}/dagRuns", body)
        return Run(dag_id=dag_id, run_id=answer["dag_run_id"])

    def state(self, run: Run) -> str:
        return str(self.call("GET", run.path)["state"])

    def tasks(self, run: Run) -> list[Task]:
        """Return every task of a run, mapped ones one by one, in the order of their names."""
        found: list[Json] = []
        first, total = 0, 1
        while first < total:
            page = self.call("GET", f"{run.path}/taskInstances", limit=100, offset=first, order_by="id")
            found += page["task_instances"]
            first, total = first + 100, page["total_entries"]
        return sorted(map(_task, found), key=lambda task: (task.task_id, task.map_index))

    def tasks_of(self, runs: Sequence[Run]) -> list[Task]:
        """Return every task of many runs, in a few requests."""
        found: list[Json] = []
        for first in range(0, len(runs), 20):
            ids = [run.run_id for run in runs[first : first + 20]]
            body = {"dag_run_ids": ids, "page_limit": 100}
            found += self.call("POST", "/dags/~/dagRuns/~/taskInstances/list", body)["task_instances"]
        return [_task(facts) for facts in found]

    def task(self, run: Run, task_id: str, map_index: int = -1) -> Task:
        """Return one task.

        :raises LookupError: when the run has no such task.
        """
        for task in self.tasks(run):
            if (task.task_id, task.map_index) == (task_id, map_index):
                return task
        raise LookupError(f"{run.dag_id} has no task {task_id}[{map_index}] in {run.run_id}")

    def changes(self, run: Run, *, timeout: float, every: float = 1.0) -> Iterator[Task]:
        """Yield each task whenever its state is seen to have changed, until the run has ended.

        :param timeout: seconds of a quiet machine after which waiting is an error.
        :param every: seconds between two looks.
        :raises TimeoutError: with the states last seen.
        """
        seen: dict[str, str] = {}
        limit = Limit(timeout)
        while True:
            # The run is read before its tasks, so that nothing can change unseen after the last look.
            ended = self.state(run) in FINISHED
            for task in self.tasks(run):
                if seen.get(task.name) != task.state:
                    seen[task.name] = task.state
                    yield task
            if ended:
                return
            if limit.is_over:
                raise TimeoutError(f"{run.dag_id} has not ended after {limit}: {seen}")
            time.sleep(every)

    def wait(self, run: Run, *, timeout: float = 180.0) -> dict[str, str]:
        """Wait for the end of a run and return the state each of its tasks ended in, by name."""
        return {task.name: task.state for task in self.changes(run, timeout=timeout)}

    def wait_for_state(self, run: Run, task_id: str, state: str, *, timeout: float = 60.0) -> Task:
        """Wait until a task is seen in a state, and return it.

        :raises TimeoutError: when it is not in time, or the run ended without it.
        """
        for task in self.changes(run, timeout=timeout, every=0.5):
            if (task.task_id, task.state) == (task_id, state):
                return task
        raise TimeoutError(f"{run.dag_id} ended and {task_id} was never seen {state}")

    def xcom(self, task: Task, key: str = "return_value") -> Any:
        """Return an XCom's value, or None when the task pushed none of that key."""
        path = f"{task.path}/xcomEntries/{quote(key, safe='')}"
        try:
            return self.call("GET", path, map_index=task.map_index, stringify="false")["value"]
        except AirflowApiError as error:
            if error.status == 404:
                return None
            raise

    def triggerers(self) -> set[int]:
        """Return the numbers of the triggerers that run, as far as Airflow knows."""
        found = self.call("GET", "/jobs", job_type="TriggererJob", is_alive="true", limit=100)
        return {job["id"] for job in found["jobs"]}

    def task_store(self, task: Task) -> Json:
        """Return what a task keeps in Airflow's task state store, from try to try."""
        answer = self.call("GET", f"{task.path}/state-store", map_index=task.map_index, limit=100)
        return {entry["key"]: entry["value"] for entry in answer["task_state_store"]}

    def links(self, task: Task) -> dict[str, str | None]:
        """Return the extra links of a task by name; None for one that leads nowhere yet."""
        answer = self.call("GET", f"{task.path}/links", map_index=task.map_index)
        return dict(answer["extra_links"])

    def log(self, task: Task) -> list[Json]:
        """Return the lines of a task's last try, the triggerer's among them, as Airflow structured them."""
        path = f"{task.path}/logs/{max(task.try_number, 1)}"
        content = self.call("GET", path, full_content="true", map_index=task.map_index)["content"]
        return [line if isinstance(line, dict) else {"event": line} for line in content]

    def set_state(self, task: Task, state: str) -> None:
        """Mark a task failed, success or skipped, as a user does in the UI."""
        self.call("PATCH", _own_path(task), {"new_state": state})

    def set_run_state(self, run: Run, state: str) -> None:
        """Mark a run failed or success, and its unfinished tasks with it, as a user does in the UI."""
        self.call("PATCH", run.path, {"state": state}, update_mask="state")

    def clear(self, task: Task, *, downstream: bool = True) -> None:
        """Have a task run again, and all after it by default, as a user does in the UI."""
        body = {
            "dry_run": False,
            "dag_run_id": task.run.run_id,
            "task_ids": [task.task_id if task.map_index < 0 else [task.task_id, task.map_index]],
            "include_downstream": downstream,
            "only_failed": False,
        }
        self.call("POST", f"/dags/{quote(task.run.dag_id)}/clearTaskInstances", body)


def _task(facts: Json) -> Task:
    return Task(
        run=Run(dag_id=facts["dag_id"], run_id=facts["dag_run_id"]),
        task_id=facts["task_id"],
        map_index=facts["map_index"],
        state=facts["state"] or "none",
        try_number=facts["try_number"],
        pid=facts["pid"],
        facts=facts,
    )


def _own_path(task: Task) -> str:
    return task.path if task.map_index < 0 else f"{task.path}/{task.map_index}"

"""A real Airflow 3 in a directory of its own: API server, scheduler, Dag processor and triggerers.

LocalExecutor and one triggerer; with a broker, CeleryExecutor, two workers and two triggerers. SQLite by
default. Only the API server listens, on the loopback interface. ``airflow standalone`` would be
shorter, but it opens log servers on every interface and does not end its children.
"""

from __future__ import annotations

import base64
import json
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from dev.stack.airflow_api import AirflowApi, AirflowApiError, Task
from dev.stack.forks import Child, Forks
from dev.stack.pace import Limit

PROCESSES: Mapping[str, tuple[str, ...]] = {
    "api-server": ("api-server",),
    # The log servers would listen on every interface; on one machine the API server reads the files itself.
    "scheduler": ("scheduler", "--skip-serve-logs"),
    "dag-processor": ("dag-processor",),
    "triggerer": ("triggerer", "--skip-serve-logs"),
    "worker": ("celery", "worker", "--skip-serve-logs"),
}
# What is started at first, by its name here, and what each is.
ONE_MACHINE: Mapping[str, str] = {
    name: name for name in ("api-server", "scheduler", "dag-processor", "triggerer")
}
WORKERS = ("worker", "worker-2")
SECOND = "triggerer-2"
DISTRIBUTED: Mapping[str, str] = {**ONE_MACHINE, SECOND: "triggerer", **dict.fromkeys(WORKERS, "worker")}
PARTS = ("metadatabase", "scheduler", "triggerer", "dag_processor")
USER = "admin"
PASSWORD = "admin"  # the UI is reachable from this machine alone, and lives as long as the command


class StackError(Exception):
    """Airflow did not start, or one of its processes ended; carries the end of that one's log."""


class Stack(AirflowApi):
    """Airflow, running while the ``with`` block lasts; nothing of it runs or listens afterwards.

    :param dags: the Dags folder.
    :param home: a directory for database, logs and configuration; made when missing.
    :param port: of API and UI; 0 takes a free one.
    :param database: as SQLAlchemy names it; a file in ``home`` when left out. Two triggerers need PostgreSQL.
    :param broker: as Celery names it, for workers and triggerers of which each could be on its own machine.
    :param env: further variables of the environment, connections say.
    :param local_settings: source of an ``airflow_local_settings.py``, cluster policies say.
    """

    python = sys.executable
    programs: Mapping[str, tuple[str, ...]] = PROCESSES
    first = ONE_MACHINE
    parts = PARTS

    def __init__(
        self,
        *,
        dags: Path,
        home: Path,
        port: int = 0,
        database: str = "",
        broker: str = "",
        env: Mapping[str, str] | None = None,
        local_settings: str = "",
    ) -> None:
        self.port = port or free_port()
        super().__init__(f"http://127.0.0.1:{self.port}", username=USER, password=PASSWORD)
        self.dags = dags.resolve()
        self.home = home.resolve()
        stored = {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database} if database else {}
        self.env = {**_inherited(), **self._settings(), **stored, **(env or {})}
        self.workers: tuple[str, ...] = WORKERS if broker else ()
        if broker:
            self.first = DISTRIBUTED
            self.env = {**self._celery(broker), **self.env}
        self.local_settings = local_settings
        self._forks: Forks | None = None
        self._processes: dict[str, Child] = {}
        # Seconds of CPU of those that have been killed.
        self._spent: dict[str, float] = {}

    def _settings(self) -> dict[str, str]:
        return {
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(self.port),
            "AIRFLOW__API__SECRET_KEY": secrets.token_hex(32),
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(64),
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.dags),
            # Airflow would write one into airflow.cfg, which the processes that are forked have not read.
            "AIRFLOW__CORE__FERNET_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            # LocalExecutor forks this many idle workers at once, 32 by default.
            "AIRFLOW__CORE__PARALLELISM": "4",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(self.home / "passwords.json"),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
            "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
            "AIRFLOW__SCHEDULER__ENABLE_HEALTH_CHECK": "False",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            "NO_PROXY": "127.0.0.1,localhost",
            # Airflow starts some of its own processes by name.
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "PYTHONUNBUFFERED": "1",
        }

    def _celery(self, broker: str) -> dict[str, str]:
        slots = int(self.env["AIRFLOW__CORE__PARALLELISM"])
        return {
            "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
            "AIRFLOW__CELERY__BROKER_URL": broker,
            # One second, the default, is not enough for a broker that shares two cores with all this.
            "AIRFLOW__CELERY__OPERATION_TIMEOUT": "15",
            "AIRFLOW__CELERY__WORKER_CONCURRENCY": str(max(1, slots // len(WORKERS))),
            # What a worker was handed and had not begun when it died is handed to another after a minute, not
            # after ten.
            "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": "60",
            "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "5",
            # This is the default; unless it is written out, a warning says so each time.
            "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT": "86400",
        }

    def __enter__(self) -> Self:
        (self.home / "config").mkdir(parents=True, exist_ok=True)
        (self.home / "config" / "airflow_local_settings.py").write_text(self.local_settings)
        (self.home / "passwords.json").write_text(json.dumps({USER: PASSWORD}))
        try:
            self._forks = Forks(self.python, env=self.env, log=self.home / "preloaded.log")
            self.cli("db", "migrate")
            for name, kind in self.first.items():
                self.start(kind, name=name)
            self.wait_until_healthy()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def cli(self, *arguments: str) -> str:
        """Run one ``airflow`` command to its end and return what it printed.

        :raises StackError: when it fails, with the end of its output.
        """
        done = subprocess.run(
            [self.python, "-m", "airflow", *arguments],
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            raise StackError(
                f"airflow {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout[-3000:]}"
            )
        return done.stdout

    def start(self, kind: str, *, name: str = "") -> None:
        """Start one of the processes, in a session of its own that all its children stay in.

        :param kind: one of ``programs``.
        :param name: what to call it here, and its log, when there is another of its kind.
        """
        name = name or kind
        # Celery distinguishes workers by these names.
        own = [f"--celery-hostname={name}@%h"] if kind == "worker" else []
        if self._forks is None:
            raise StackError("Airflow has been ended")
        try:
            self._processes[name] = self._forks.start([*self.programs[kind], *own], self._log(name))
        except OSError as error:
            raise StackError(f"airflow {kind} cannot be started:\n{error}") from error

    def kill(self, name: str) -> None:
        """End one of the processes as a crash would, without a goodbye; :meth:`start` starts it again."""
        self._spent[name] = self.cpu(name)
        _kill(self._processes.pop(name))

    def stop(self, name: str) -> bool:
        """End one of the processes as an operator would, with time to tidy up.

        :return: whether it ended in that time.
        """
        return end([self._processes.pop(name)], within=30.0)

    @contextmanager
    def frozen(self, name: str) -> Iterator[None]:
        """Keep one of the processes from running, with all its children, while the ``with`` block lasts."""
        leader = self._processes[name].pid
        _signal(leader, signal.SIGSTOP)
        try:
            yield
        finally:
            _signal(leader, signal.SIGCONT)

    def kill_task(self, task: Task) -> None:
        """End the process of a running task as a crash would; the worker it ran in lives on.

        :raises StackError: when no process is known of, or it has ended by itself; with how its task stands.
        """
        if task.pid is None:
            raise StackError(f"{task.name} of {task.run.run_id} has no process; it is {task.state}")
        try:
            os.kill(task.pid, signal.SIGKILL)
        except ProcessLookupError:
            now = self.task(task.run, task.task_id)
            raise StackError(
                f"process {task.pid} of {task.name} of {task.run.run_id} was {task.state} (try "
                f"{task.try_number}) and is gone; now it is {now.state} (try {now.try_number}), {now.pid}"
            ) from None

    def lower(self, name: str) -> None:
        """Give one of the processes the lowest priority, with all its children and those to come."""
        for pid in _session(self._processes[name].pid):
            with suppress(psutil.NoSuchProcess):
                psutil.Process(pid).nice(19)

    def cpu(self, name: str) -> float:
        """Return the seconds of CPU of one of the processes with all its children, past lives included."""
        seconds = self._spent.get(name, 0.0)
        for pid in _session(self._processes[name].pid) if name in self._processes else ():
            with suppress(psutil.NoSuchProcess):
                # Children that have ended count as part of their parent, so none counts twice.
                seconds += sum(psutil.Process(pid).cpu_times()[:4])
        return seconds

    def worker_of(self, task: Task) -> str:
        """Return the name of the worker that a running task is in.

        :raises StackError: when it is in none.
        """
        for name in self.workers:
            if task.pid in _session(self._processes[name].pid):
                return name
        raise StackError(f"{task.name} of {task.run.run_id} is in no worker; it is {task.state}")

    def close(self) -> None:
        """End all processes: asked first, killed 15 s later; an interruption kills them at once."""
        processes = list(self._processes.values())
        self._processes.clear()
        try:
            end(processes, within=15.0)
        finally:
            if self._forks:
                self._forks.close()
                self._forks = None

    def check(self) -> None:
        """Make sure that what was started is still running.

        :raises StackError: naming the process that ended, with the end of its log.
        """
        for name, process in self._processes.items():
            if not process.is_running():
                tail = self._log(name).read_text(errors="replace")[-3000:]
                raise StackError(f"airflow {name} has ended:\n{tail}")

    def wait_until_healthy(self, *, timeout: float = 180.0) -> None:
        """Wait until all parts call themselves healthy.

        :raises StackError: when one has ended or has not come up in ``timeout`` seconds of a quiet machine.
        """
        limit = Limit(timeout)
        seen: object = None
        while not limit.is_over:
            self.check()
            try:
                seen = health = self.health()
            except AirflowApiError as error:
                seen, health = error, {}
            if all(health.get(part) == "healthy" for part in self.parts):
                return
            time.sleep(0.5)
        raise StackError(f"Airflow is not healthy after {limit}: {seen}")

    def wait_for_dags(self, *dag_ids: str, timeout: float = 120.0) -> None:
        """Wait until these Dags have been read from their files.

        :raises StackError: when a file cannot be imported, or the Dags are not there in time.
        """
        limit = Limit(timeout)
        while missing := set(dag_ids) - self.dag_ids():
            self.check()
            if errors := self.import_errors():
                raise StackError("A Dag file cannot be imported:\n" + "\n".join(errors))
            if limit.is_over:
                raise StackError(f"Not read in {limit}: {', '.join(sorted(missing))}")
            time.sleep(0.5)

    def _log(self, name: str) -> Path:
        return self.home / f"{name}.log"


def free_port() -> int:
    """Return a port of the loopback interface that nobody uses.

    It is one that no system hands out by itself (Linux gives connections ports from 32768 on, others from
    49152 on): those are taken again at any time, by any connection of any program.
    """
    while True:
        port = random.randrange(10_000, 32_768)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def _inherited() -> dict[str, str]:
    """Return this environment without whatever another Airflow was set up with."""
    return {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")}


def take_signals() -> None:
    """Have a command take the same way out however it is asked to end, and with it what it has started."""
    # A shell starts background jobs deaf to SIGINT.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)


def _interrupt(number: int, _frame: object) -> None:
    raise KeyboardInterrupt(signal.Signals(number).name)


def end(processes: Iterable[subprocess.Popen[bytes] | Child], *, within: float) -> bool:
    """End processes that lead a session, and whatever else is in their sessions.

    :param within: seconds they have after SIGTERM; what is left then, or at an interruption, is killed.
    :return: whether the leaders ended in that time.
    """
    processes = list(processes)
    for process in processes:
        process.terminate()
    until = time.monotonic() + within
    left = 0
    try:
        for process in processes:
            try:
                process.wait(timeout=max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                left += 1
    finally:
        for process in processes:
            _kill(process)
    return not left


def _kill(leader: subprocess.Popen[bytes] | Child) -> None:
    """Kill a whole session; its groups would not do: the executor gives each task a group of its own."""
    _signal(leader.pid, signal.SIGKILL)
    leader.wait()


def _signal(leader: int, number: signal.Signals) -> None:
    for pid in _session(leader):
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _session(leader: int) -> list[int]:
    found = []
    for pid in psutil.pids():
        with suppress(ProcessLookupError, PermissionError):
            if os.getsid(pid) == leader:
                found.append(pid)
    return found

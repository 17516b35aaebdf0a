"""Processes of Airflow that are forked off one which has done the imports; see :mod:`dev.stack.preloaded`."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil


class Child:
    """A process that was forked off another, and can be asked what a ``Popen`` can.

    :param pid: its id; it leads a session.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._process: psutil.Process | None = None
        # It may have ended already.
        if psutil.pid_exists(pid):
            self._process = psutil.Process(pid)

    def is_running(self) -> bool:
        """Return whether it has not ended."""
        return self._process is not None and self._process.is_running()

    def terminate(self) -> None:
        """Ask it to end."""
        if self._process and self.is_running():
            self._process.terminate()

    def wait(self, timeout: float | None = None) -> None:
        """Wait for its end.

        :param timeout: seconds; None for as long as it takes.
        :raises subprocess.TimeoutExpired: when it runs on.
        """
        if self._process is None:
            return
        try:
            self._process.wait(timeout)
        except psutil.TimeoutExpired as error:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0) from error


class Forks:
    """Begins commands of Airflow, with one environment.

    :param python: the interpreter that has this Airflow.
    :param env: the environment of all commands.
    :param log: the file for what the imports print.
    """

    def __init__(self, python: str, *, env: Mapping[str, str], log: Path) -> None:
        self._log = log
        with log.open("ab") as file:
            self._source = subprocess.Popen(
                [python, "-m", "dev.stack.preloaded"],
                env=env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                start_new_session=True,
                text=True,
            )

    def start(self, arguments: Sequence[str], log: Path) -> Child:
        """Begin a command, in a session of its own that all its children stay in.

        :param arguments: what would stand after ``airflow``.
        :param log: the file to which it writes.
        :raises OSError: when there is nothing to fork off, with what it printed last.
        """
        assert self._source.stdin is not None
        assert self._source.stdout is not None
        with suppress(BrokenPipeError):
            self._source.stdin.write(json.dumps({"log": str(log), "arguments": [*arguments]}) + "\n")
            self._source.stdin.flush()
        if answer := self._source.stdout.readline():
            return Child(int(answer))
        raise OSError(self._log.read_text(errors="replace")[-3000:])

    def close(self) -> None:
        """End the process with the imports; what was forked off lives on."""
        for pipe in (self._source.stdin, self._source.stdout):
            assert pipe is not None
            pipe.close()
        self._source.kill()
        self._source.wait()

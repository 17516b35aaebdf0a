"""The older releases of Airflow that the provider promises to run on: what is installed for each, and where.

Nothing newer than its date is taken for a release, because the unlocked ones no longer start: 3.0 breaks on a
newer fastapi, 3.2 on a newer pydantic and svcs. ``python -m dev.releases lock`` remakes the lists under
``requirements/``; :func:`environment` installs one. The newest release is the one of ``make test``.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

ROOT = Path(__file__).parent.parent
ENVIRONMENTS = ROOT / ".venv-releases"

# Release and the last day whose uploads it was seen to run with.
RELEASES: Mapping[str, str] = MappingProxyType(
    {"2.11.2": "2026-04-15", "3.0.6": "2025-09-20", "3.1.8": "2026-04-10", "3.2.2": "2026-06-30"}
)
# The provider needs these newer than some of those days, azure-identity needs its msal.
LATER = ("apache-airflow-providers-common-compat", "azure-core", "azure-identity", "msal")
LATER_DATE = "2026-11-20"
# What runs the tests there, and what links the package from a clone.
TOOLS = (
    "editables",
    "hatchling>=1.27",
    "hypothesis",
    "psycopg2-binary",
    "pytest>=8.4",
    "pytest-asyncio>=1.0",
)
# The Pythons that all of these releases know.
PYTHONS = ((3, 11), (3, 13))


class EnvironmentMissingError(Exception):
    """No environment of a release can be made on this machine; says why."""


def lock_file(release: str) -> Path:
    """Return the list of what is installed for a release."""
    return ROOT / "requirements" / f"airflow-{release}.txt"


def lock(release: str) -> None:
    """Remake the list of a release, keeping to its date."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "pyproject.toml").write_text(_project(release))
        _uv(
            *("--directory", directory, "pip", "compile", "pyproject.toml"),
            *("--output-file", str(lock_file(release))),
            *("--universal", "--generate-hashes", "--no-header", "--no-annotate", "--upgrade"),
            *("--python-version", _version(PYTHONS[0])),
            *("--exclude-newer", RELEASES[release]),
            *(f"--exclude-newer-package={package}={LATER_DATE}" for package in LATER),
        )


def _project(release: str) -> str:
    """Return a project that depends on what ours does, on this very release, and on fewer Pythons."""
    ours = _ours()["dependencies"]
    below = _version(PYTHONS[1])
    return (
        "[project]\n"
        'name = "releases"\n'
        'version = "0"\n'
        f'requires-python = ">={_version(PYTHONS[0])},<{below}"\n'
        f"dependencies = {json.dumps([f'apache-airflow=={release}', *ours, *TOOLS])}\n"
        "[tool.uv]\n"
        f"environments = [\"python_full_version < '{below}'\"]\n"
    )


def _ours() -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return project


def environment(release: str) -> Path:
    """Return the Python of an environment that holds a release and our package, linked; made when missing.

    :raises EnvironmentMissingError: when no Python fits, or the installation fails: no package index, say.
    """
    directory = ENVIRONMENTS / release
    python, done = directory / "bin" / "python", directory / "installed"
    wanted = hashlib.sha256(lock_file(release).read_bytes() + json.dumps(_ours()).encode()).hexdigest()
    if not (done.exists() and done.read_text() == wanted):
        _uv("venv", "--clear", "--python", interpreter(), str(directory))
        install = ("pip", "install", "--python", str(python))
        _uv(*install, "--require-hashes", "--requirement", str(lock_file(release)))
        _uv(*install, "--no-deps", "--no-build-isolation", "--editable", str(ROOT))
        done.write_text(wanted)
    return python


def interpreter() -> str:
    """Return this Python, or another one of this machine, of a version that all the releases know.

    :raises EnvironmentMissingError: when there is none.
    """
    if PYTHONS[0] <= sys.version_info[:2] < PYTHONS[1]:
        return sys.executable
    return _uv(
        "python", "find", "--system", "--no-project", f">={_version(PYTHONS[0])},<{_version(PYTHONS[1])}"
    )


def _version(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"


def _uv(*arguments: str) -> str:
    """Run uv and return what it printed.

    :raises EnvironmentMissingError: with what it printed.
    """
    beside = Path(sys.executable).with_name("uv")
    uv = str(beside) if beside.exists() else shutil.which("uv")
    if uv is None:
        raise EnvironmentMissingError("uv is neither beside this Python nor on the path")
    done = subprocess.run(
        [uv, *arguments],
        cwd=ROOT,
        env={**os.environ, "UV_PYTHON_DOWNLOADS": "never", "UV_LINK_MODE": "copy"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise EnvironmentMissingError(f"uv {' '.join(arguments[:2])} failed: {done.stdout[-2000:]}")
    return done.stdout.strip()


def main(arguments: Sequence[str]) -> None:
    """Remake all lists, or make all environments."""
    does = {"lock": lock, "install": environment}
    if len(arguments) != 1 or arguments[0] not in does:
        sys.exit("usage: python -m dev.releases lock|install")
    for release in RELEASES:
        print(f"Airflow {release}", flush=True)
        does[arguments[0]](release)


if __name__ == "__main__":
    main(sys.argv[1:])

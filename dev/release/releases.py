"""The releases of Airflow that the provider promises to run on: what is installed for each, and where.

Nothing newer than its date is taken for an older release, because the unlocked ones no longer start: 3.0
breaks on a newer fastapi, 3.2 on a newer pydantic and svcs. ``python -m dev.release.releases lock`` remakes
the lists under ``requirements/``. They are installed by the sessions of ``noxfile.py``, an environment for
each Python, and by :func:`environment` for tests that start several of these Airflows at once. The newest
release is the one of ``make test``, and has its list.
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
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

ROOT = Path(__file__).parents[2]
ENVIRONMENTS = ROOT / ".venv-releases"


@dataclass(frozen=True, kw_only=True)
class Release:
    """What is known of a release of Airflow.

    :param day: the last day whose uploads it was seen to run with.
    :param pythons: the versions of Python that it supports, of those that we support.
    :param without: words in the names of fast tests that cannot be run there.
    """

    day: str
    pythons: tuple[str, ...]
    without: tuple[str, ...] = ()


RELEASES: Mapping[str, Release] = MappingProxyType(
    {
        "2.11.2": Release(
            day="2026-04-15",
            pythons=("3.11", "3.12"),
            # A sensor in reschedule mode asks the database for its past there, and a unit test has none.
            without=("reschedul", "unknown_for_longer", "last_look_comes"),
        ),
        "3.0.6": Release(
            day="2025-09-20",
            pythons=("3.11", "3.12"),
            # The supervisor of its dag.test() is asked for connections even where the environment has them.
            without=("inside_dag_test",),
        ),
        "3.1.8": Release(day="2026-04-10", pythons=("3.11", "3.12", "3.13")),
        "3.2.2": Release(day="2026-06-30", pythons=("3.11", "3.12", "3.13")),
    }
)
# The release of requirements/test.txt.
NEWEST = "3.3.2"
ALL: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        **{name: release.pythons for name, release in RELEASES.items()},
        NEWEST: ("3.11", "3.12", "3.13"),
    }
)
# The newest pre-release of the next one: run to learn what it will break, with no promise.
NEXT = "3.4.0b2"
_NEXT = Release(day="2026-11-30", pythons=ALL[NEWEST])
TRIED: Mapping[str, tuple[str, ...]] = MappingProxyType({**ALL, NEXT: _NEXT.pythons})
LOWEST_LIST = ROOT / "requirements" / "lowest.txt"
# The provider needs these newer than some of those days, azure-identity needs its msal.
LATER = (
    "apache-airflow-providers-common-compat",
    "azure-core",
    "azure-identity",
    "azure-mgmt-core",
    "azure-mgmt-dataprotection",
    "azure-mgmt-recoveryservices",
    "azure-mgmt-recoveryservicesbackup",
    "msal",
)
LATER_DATE = "2026-11-20"
# What runs the tests there, and what links the package from a clone.
TOOLS = (
    "azure-mgmt-dataprotection",
    "azure-mgmt-recoveryservices",
    "azure-mgmt-recoveryservicesbackup",
    "editables",
    "hatchling>=1.27",
    "hypothesis",
    "psycopg2-binary",
    "pytest>=8.4",
    "pytest-asyncio>=1.0",
    "pytest-xdist",
)


class EnvironmentMissingError(Exception):
    """No environment of a release can be made on this machine; says why."""


def lock_file(release: str) -> Path:
    """Return the list of what is installed for a release."""
    return ROOT / "requirements" / ("test.txt" if release == NEWEST else f"airflow-{release}.txt")


def lock(release: str) -> None:
    """Remake the list of a release, keeping to its date."""
    known = _NEXT if release == NEXT else RELEASES[release]
    _compile(
        lock_file(release),
        [f"apache-airflow=={release}", *_dependencies(), *TOOLS],
        known.pythons,
        *("--exclude-newer", known.day),
        *(f"--exclude-newer-package={package}={LATER_DATE}" for package in LATER),
    )


def lock_lowest() -> None:
    """Remake the list of the lowest versions that pyproject.toml allows, of what the package itself names."""
    wanted = [each for each in _dependencies() if not each.startswith("apache-airflow>")]
    _compile(LOWEST_LIST, wanted, ALL[NEWEST], "--resolution", "lowest-direct", "--no-deps")


def _compile(output: Path, wanted: Sequence[str], pythons: Sequence[str], *options: str) -> None:
    low, below = pythons[0], f"3.{int(pythons[-1].partition('.')[2]) + 1}"
    project = (
        "[project]\n"
        'name = "releases"\n'
        'version = "0"\n'
        f'requires-python = ">={low},<{below}"\n'
        f"dependencies = {json.dumps(wanted)}\n"
        "[tool.uv]\n"
        f"environments = [\"python_full_version < '{below}'\"]\n"
    )
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "pyproject.toml").write_text(project)
        _uv(
            *("--directory", directory, "pip", "compile", "pyproject.toml", "--output-file", str(output)),
            *("--universal", "--generate-hashes", "--no-header", "--no-annotate", "--upgrade"),
            *("--python-version", low, *options),
        )


def _ours() -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return project


def _dependencies() -> list[str]:
    return [str(each) for each in _ours()["dependencies"]]


def installs(release: str, *, lowest: bool = False) -> list[tuple[str, ...]]:
    """Return the arguments of ``uv pip install``, call by call, for a release and our packages, linked.

    :param lowest: whether what our package needs is as old as it may be.
    """
    older = [("--no-deps", "--require-hashes", "--requirement", str(LOWEST_LIST))] if lowest else []
    return [
        ("--require-hashes", "--requirement", str(lock_file(release))),
        *older,
        ("--no-deps", "--no-build-isolation", "--editable", str(ROOT), "--editable", str(ROOT / "emulator")),
    ]


def pytest_options(release: str) -> list[str]:
    """Return the options of pytest for a release: what cannot run there, and what is not held against it."""
    if release == NEWEST:
        return []
    without = "" if release == NEXT else " or ".join(RELEASES[release].without)
    # An older Airflow warns of its own future, a newer one of ours; the tests on the newest speak for us.
    return ["-W", "default", "--disable-warnings", *(["-k", f"not ({without})"] if without else [])]


def environment(release: str) -> Path:
    """Return the Python of an environment that holds a release and our package, linked; made when missing.

    :raises EnvironmentMissingError: when no Python fits, or the installation fails: no package index, say.
    """
    directory = ENVIRONMENTS / release
    program, done = directory / "bin" / "python", directory / "installed"
    said = lock_file(release).read_bytes() + json.dumps(_ours()).encode()
    wanted = hashlib.sha256(said).hexdigest()
    if not (done.exists() and done.read_text() == wanted):
        _uv("venv", "--clear", "--python", interpreter(release), str(directory))
        for told in installs(release):
            _uv("pip", "install", "--python", str(program), *told)
        done.write_text(wanted)
    return program


def empty_environment(release: str, wheels: Sequence[Path], directory: Path) -> Path:
    """Return the Python of a new environment with a release, wheels of ours, what all need, and no more.

    :raises EnvironmentMissingError: as :func:`environment`.
    """
    _uv("venv", "--python", interpreter(release), str(directory))
    program = directory / "bin" / "python"
    _uv(
        *("pip", "install", "--python", str(program), "--constraints", str(lock_file(release))),
        *(f"apache-airflow=={release}", *map(str, wheels)),
    )
    return program


def interpreter(release: str) -> str:
    """Return this Python, or another one of this machine, that a release supports.

    :raises EnvironmentMissingError: when there is none.
    """
    fit = ALL[release]
    if f"{sys.version_info[0]}.{sys.version_info[1]}" in fit:
        return sys.executable
    for version in fit:
        with suppress(EnvironmentMissingError):
            return _uv("python", "find", "--system", "--no-project", version)
    raise EnvironmentMissingError(f"no Python {' or '.join(fit)}")


def _uv(*arguments: str) -> str:
    """Run uv and return what it printed.

    :raises EnvironmentMissingError: with what it printed.
    """
    beside = Path(sys.executable).with_name("uv")
    uv = str(beside) if beside.exists() else shutil.which("uv")
    if uv is None:
        raise EnvironmentMissingError("uv is neither next to this Python nor on the path")
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
    does: Mapping[str, Callable[[str], object]] = {"lock": lock, "install": environment}
    if len(arguments) != 1 or arguments[0] not in does:
        sys.exit("usage: python -m dev.release.releases lock|install")
    for release in (*RELEASES, *([NEXT] if arguments == ["lock"] else [])):
        print(f"Airflow {release}", flush=True)
        does[arguments[0]](release)
    if arguments == ["lock"]:
        lock_lowest()


if __name__ == "__main__":
    main(sys.argv[1:])

"""The tests on every release of Airflow and every Python that we promise: ``make matrix`` runs them all.

    nox --list                  what there is
    nox --tags airflow-3.1.8    one release, on each of its Pythons
    nox --session pre_release   the fast tests on the newest pre-release of Airflow, which we do not promise

On the first Python of a release all fast tests are run; on the others those that reach into Airflow, and
with the lowest dependencies those that reach into these as well. The rest is our own core, the same
everywhere. Then each release is started for real, with its triggerer, and the wheel is installed into an
empty environment of each. ``dev.release.matrix`` makes tables of the reports. What has a report is not run
again until the next commit, so an interrupted run is taken up where it was.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nox

from dev.release.matrix import LOWEST, cells, is_whole, report
from dev.release.releases import ALL, NEWEST, NEXT, RELEASES, installs, pytest_options

nox.options.default_venv_backend = "uv"
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = False

# What reaches into Airflow: its base classes, its context, its XComs, its database, its supervisor.
AIRFLOWS = (
    "tests/tasks/test_cancel.py",
    "tests/tasks/test_deadlines.py",
    "tests/repository/test_example_dags.py",
    "tests/tasks/test_freshness.py",
    "tests/test_guard.py",
    "tests/tasks/test_kill.py",
    "tests/test_operators.py",
    "tests/test_provider_info.py",
    "tests/tasks/test_restores.py",
    "tests/test_retries.py",
    "tests/test_sensors.py",
    "tests/test_triggers.py",
    "tests/repository/test_upgrades.py",
)
# What reaches into the Azure libraries and requests.
LIBRARIES = (
    "tests/runtime/test_credentials.py",
    "tests/test_hooks.py",
    "tests/recordings/test_recordings.py",
    "tests/tasks/test_rotation.py",
    "tests/runtime/test_test_connection.py",
    "tests/runtime/test_transport.py",
    "tests/runtime/test_transport_trust.py",
)
# The newest release on its triggerer; the others have tests/releases.
NEWEST_STACK = tuple(
    f"tests/e2e/test_{name}.py" for name in ("waiting", "examples", "installation", "workloads")
)


def tag(release: str) -> str:
    return f"airflow-{release}"


@nox.session
@nox.parametrize(
    ("python", "airflow", "dependencies"),
    [
        nox.param(python, release, age, id=f"{release}-{python}-{age}", tags=[tag(release)])
        for release in ALL
        for python, age in cells(release)
    ],
)
def fast(session: nox.Session, airflow: str, dependencies: str) -> None:
    """Fast tests beside a release of Airflow, with the newest dependencies of ours or the lowest."""
    run_fast(session, airflow, dependencies)


@nox.session(default=False)
@nox.parametrize(
    ("python", "dependencies"),
    [nox.param(python, age, id=f"{python}-{age}") for python, age in cells(NEXT)],
)
def pre_release(session: nox.Session, dependencies: str) -> None:
    """Fast tests on the newest pre-release of Airflow."""
    run_fast(session, NEXT, dependencies)


def run_fast(session: nox.Session, airflow: str, dependencies: str) -> None:
    """Install a release of Airflow, and run the fast tests of a cell."""
    python = str(session.python)
    path = not_yet(session, f"{airflow} {python} {dependencies}")
    # The same files serve each environment, wherever file systems allow.
    session.env["UV_LINK_MODE"] = "hardlink"
    lowest = dependencies == LOWEST
    for told in installs(airflow, lowest=lowest):
        session.install("--quiet", *told)
    if lowest and airflow in RELEASES:  # the tests add providers to a newer one that want more than we do
        session.run("uv", "pip", "check")
    files = [*AIRFLOWS, *(LIBRARIES if lowest else ())]
    if is_whole(airflow, python, dependencies):
        files = ["tests"]
    run(session, "python", path, "-n", "auto", "-m", "not e2e", *pytest_options(airflow), *files)


@nox.session(venv_backend="none")
@nox.parametrize("airflow", [nox.param(release, id=release, tags=[tag(release)]) for release in ALL])
def wheel(session: nox.Session, airflow: str) -> None:
    """The wheel in an empty environment of a release: listed, known, valid, and no import warns."""
    path = not_yet(session, f"{airflow} wheel")
    run(session, sys.executable, path, "-m", "e2e", "-k", airflow, "tests/releases/test_wheel.py")


@nox.session(venv_backend="none")
@nox.parametrize(
    "airflow",
    [
        nox.param("older", id="older", tags=[tag(release) for release in RELEASES]),
        nox.param(NEWEST, id=NEWEST, tags=[tag(NEWEST)]),
    ],
)
def stack(session: nox.Session, airflow: str) -> None:
    """A real scheduler and triggerer: trigger, defer, resume, gate; the older releases two at a time."""
    path = not_yet(session, f"{airflow} stack")
    files = NEWEST_STACK if airflow == NEWEST else ("tests/releases/test_releases.py",)
    run(session, sys.executable, path, "-m", "e2e", *files)


def not_yet(session: nox.Session, name: str) -> Path:
    """Return where the report of a session goes; end the session if it is there."""
    path = report(name)
    if path.exists():
        session.skip(f"it was run on this commit: {path}")
    return path


def run(session: nox.Session, python: str, path: Path, *options: str) -> None:
    """Run tests, with a report."""
    session.run(
        *(python, "-m", "pytest", "--quiet", "-p", "no:cacheprovider", f"--junitxml={path}", *options),
        env={"PYTHONPATH": "."},
        external=True,
    )

"""Run the tests on every release of Airflow and every Python that we promise, and write down what came of it.

Each cell is an environment of its own, made anew. On the first Python of a release all fast tests are run, in
the other cells those that reach into Airflow (:data:`SAMPLE`): our own core is the same everywhere. Then each
release is started for real, with its triggerer, and the wheel is installed into an empty environment of each.
What an interrupted run has seen is taken up by the next one on the same commit.

``python -m dev.matrix`` prints the tables, ``--write`` puts them into docs/compatibility.md, cell by cell.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any
from xml.etree import ElementTree

from dev.releases import (
    ALL,
    ENVIRONMENTS,
    LOWEST,
    NEWEST,
    RELEASES,
    ROOT,
    EnvironmentMissingError,
    environment,
    interpreter,
)

NEWEST_DEPENDENCIES, LOWEST_DEPENDENCIES = "newest", "lowest"
DOCUMENT = ROOT / "docs" / "compatibility.md"
SEEN = ENVIRONMENTS / "matrix.json"
# What reaches into Airflow: its base classes, its context, its XComs, its database, its supervisor.
SAMPLE = tuple(
    f"tests/test_{name}.py"
    for name in (
        "cancel",
        "deadlines",
        "example_dags",
        "freshness",
        "guard",
        "kill",
        "operators",
        "provider_info",
        "restores",
        "retries",
        "sensors",
        "triggers",
        "upgrades",
    )
)
# What a release cannot run, by words in the names of tests, and why.
WITHOUT: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        # A sensor in reschedule mode asks the database for its past, and a unit test has none.
        "2.11.2": ("reschedul", "unknown_for_longer", "last_look_comes"),
    }
)
# The real triggerer of the newest release; the others have tests/releases.
NEWEST_STACK = ("tests/e2e/test_waiting.py", "tests/e2e/test_examples.py", "tests/e2e/test_installation.py")


class Matrix:
    """What was seen, cell by cell.

    :param whole: whether all fast tests are run on every Python.
    :param workers: how many processes run the fast tests of a cell.
    :param write: whether docs/compatibility.md is told of each cell as it comes.
    """

    def __init__(self, *, whole: bool, workers: str, write: bool) -> None:
        self.whole, self.workers, self.write = whole, workers, write
        # The tables themselves are written while it runs.
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs")
        self.revision = _git("rev-parse", "--short=7", "HEAD") + ("-dirty" if changed else "")
        found = json.loads(SEEN.read_text()) if SEEN.exists() else {}
        self.seen: dict[str, str] = found["seen"] if found.get("revision") == self.revision else {}

    def run(self, only: Sequence[str], *, fast: bool) -> None:
        """Run every cell that was not run yet.

        :param only: releases; all if it is empty.
        :param fast: whether nothing is run but the fast tests.
        """
        releases = [release for release in ALL if not only or release in only]
        for release in releases:
            for python, dependencies in cells(release):
                self._once(f"{release} {python} {dependencies}", self._fast, release, python, dependencies)
        if fast:
            return
        for release in releases:
            self._once(f"{release} wheel", self._wheel, release)
        if {*releases} & {*RELEASES}:
            self._once("stack", self._stacks)
        if NEWEST in releases:
            self._once(f"{NEWEST} stack", self._tests, sys.executable, NEWEST_STACK, "e2e")

    def _once(self, name: str, look: Any, *arguments: Any) -> None:
        if name not in self.seen:
            began = time.monotonic()
            found = look(*arguments)
            self.seen |= found if isinstance(found, dict) else {name: found}
            SEEN.parent.mkdir(exist_ok=True)
            SEEN.write_text(json.dumps({"revision": self.revision, "seen": self.seen}, indent=1))
            print(f"{name}: {self.seen[name]} ({time.monotonic() - began:.0f} s)", flush=True)
            if self.write:
                from dev.bench import insert  # which imports Airflow

                insert("matrix", tables(self.revision, self.seen), DOCUMENT)

    def _fast(self, release: str, python: str, dependencies: str) -> str:
        try:
            interpreter(release, python)
        except EnvironmentMissingError as error:
            return f"not run here: {error}"
        lowest = dependencies == LOWEST_DEPENDENCIES
        try:
            program = environment(release, python, lowest=lowest, directory=ENVIRONMENTS / "matrix")
        except EnvironmentMissingError as error:
            print(error, flush=True)
            return "**could not be installed**"
        whole = self.whole or (python == ALL[release][0] and not lowest)
        said = self._tests(str(program), ("tests",) if whole else SAMPLE, "not e2e", release)
        return said if whole else f"sample: {said}"

    def _wheel(self, release: str) -> str:
        return self._tests(sys.executable, ("tests/releases/test_wheel.py",), "e2e", keep=release)

    def _stacks(self) -> dict[str, str]:
        """Run all older releases: they are started two at a time."""
        cases = self._cases(sys.executable, ("tests/releases/test_releases.py",), "e2e")
        told = {
            f"{release} stack": _told([case for case in cases if f"[{release}" in case.get("name", "")])
            for release in RELEASES
        }
        return {"stack": _told(cases), **told}

    def _tests(
        self, program: str, files: Sequence[str], marked: str, release: str = "", keep: str = ""
    ) -> str:
        return _told(self._cases(program, files, marked, release, keep))

    def _cases(
        self, program: str, files: Sequence[str], marked: str, release: str = "", keep: str = ""
    ) -> list[ElementTree.Element]:
        """Run tests and return their cases as JUnit tells them."""
        words = " or ".join(WITHOUT.get(release, ()))
        with tempfile.TemporaryDirectory() as directory:
            report = Path(directory, "report.xml")
            command = [program, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}"]
            if marked != "e2e":
                command += ["-n", self.workers]
            if release and release != NEWEST:
                # An older Airflow warns of its own future; of ours the tests on the newest tell.
                command += ["-W", "default", "--disable-warnings"]
            if words or keep:
                command += ["-k", f"not ({words})" if words else keep]
            done = subprocess.run(
                [*command, "-m", marked, *files],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
            if done.returncode:
                print(done.stdout[-6000:], flush=True)
            return [*ElementTree.parse(report).iter("testcase")] if report.exists() else []


def cells(release: str) -> list[tuple[str, str]]:
    """Return the Pythons of a release, each with the age of what our package needs."""
    pythons = ALL[release]
    newest = [(python, NEWEST_DEPENDENCIES) for python in pythons]
    return [*newest, (pythons[0], LOWEST_DEPENDENCIES)]


def _told(cases: Sequence[ElementTree.Element]) -> str:
    """Return how many tests passed and did not."""
    if not cases:
        return "**nothing ran**"
    counts = {
        word: sum(case.find(tag) is not None for case in cases)
        for word, tag in (("failed", "failure"), ("broken", "error"), ("skipped", "skipped"))
    }
    passed = len(cases) - sum(counts.values())
    others = [f"**{n} {word}**" if word != "skipped" else f"{n} skipped" for word, n in counts.items() if n]
    return ", ".join([f"{passed} passed", *others])


def tables(revision: str, seen: Mapping[str, str]) -> str:
    """Return what was seen, for people."""

    def cell(release: str, python: str) -> str:
        if python not in ALL[release]:
            return "not supported by Airflow"
        return seen.get(f"{release} {python} {NEWEST_DEPENDENCIES}", "not run")

    pythons = ALL[NEWEST]
    pins = ", ".join(line.partition(" ")[0] for line in LOWEST.read_text().splitlines() if "==" in line)
    fast = [["Airflow", *(f"Python {python}" for python in pythons), "lowest dependencies"]]
    real = [["Airflow", "on a real scheduler and triggerer", "the wheel in an empty environment"]]
    for release, (first, *_) in ALL.items():
        lowest = seen.get(f"{release} {first} {LOWEST_DEPENDENCIES}", "not run")
        fast.append([release, *(cell(release, python) for python in pythons), lowest])
        real.append([release, *(seen.get(f"{release} {what}", "not run") for what in ("stack", "wheel"))])
    return "\n\n".join(
        [
            f"Seen on commit {revision}; the lowest dependencies are {pins}, on Python {pythons[0]}.",
            _table(fast),
            _table(real),
        ]
    )


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *rest = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([head, "|---" * len(rows[0]) + "|", *rest])


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    ).stdout.strip()


def main() -> None:
    """Run the matrix and print it; fail if anything in it did."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("releases", nargs="*", help=f"of {', '.join(ALL)}; all if none is named")
    parser.add_argument("--fast", action="store_true", help="the fast tests alone")
    parser.add_argument("--whole", action="store_true", help="all fast tests in every cell, not a sample")
    parser.add_argument("--workers", default="auto", help="processes that run the fast tests of a cell")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/compatibility.md")
    asked = parser.parse_args()
    if unknown := {*asked.releases} - {*ALL}:
        parser.error(f"not among {', '.join(ALL)}: {', '.join(sorted(unknown))}")
    matrix = Matrix(whole=asked.whole, workers=asked.workers, write=asked.write)
    matrix.run(asked.releases, fast=asked.fast)
    print(f"\n{tables(matrix.revision, matrix.seen)}")
    sys.exit(any("**" in said for said in matrix.seen.values()))


if __name__ == "__main__":
    main()

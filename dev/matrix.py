"""Tables of what the sessions of ``noxfile.py`` have seen, for docs/compatibility.md.

``python -m dev.matrix`` prints them, ``--write`` puts them into the document. The exit status is 0 only if
nothing in them failed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

from dev.releases import ALL, LOWEST_LIST, NEWEST, RELEASES, ROOT

NEWEST_DEPENDENCIES, LOWEST = "newest", "lowest"
DOCUMENT = ROOT / "docs" / "compatibility.md"
NOT_RUN = "not run"


@cache
def revision() -> str:
    """Return the commit that is looked at, and whether anything but the documents differs from it."""
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs")
    return _git("rev-parse", "--short=7", "HEAD") + ("-dirty" if changed else "")


def report(name: str) -> Path:
    """Return where a session tells pytest to write what came of its tests on this commit."""
    return ROOT / ".nox" / "reports" / revision() / f"{name}.xml"


def cells(release: str) -> list[tuple[str, str]]:
    """Return the Pythons of a release, each with the age of what our package needs."""
    pythons = ALL[release]
    newest = [(python, NEWEST_DEPENDENCIES) for python in pythons]
    return [*newest, (pythons[0], LOWEST)]


def is_whole(release: str, python: str, dependencies: str) -> bool:
    """Whether a cell runs all fast tests, and not only what may differ from the release's first Python."""
    return (python, dependencies) == (ALL[release][0], NEWEST_DEPENDENCIES)


def seen(name: str, *, of: str = "") -> str:
    """Return how many tests of a session passed and did not.

    :param of: the release to which they are confined.
    """
    path = report(name)
    if not path.exists():
        return NOT_RUN
    cases = [
        each
        for each in ElementTree.parse(path).iter("testcase")
        if f"[{of}" in each.get("name", "") or not of
    ]
    counts = {
        word: sum(case.find(tag) is not None for case in cases)
        for word, tag in (("failed", "failure"), ("broken", "error"), ("skipped", "skipped"))
    }
    passed = len(cases) - sum(counts.values())
    others = [f"**{n} {word}**" if word != "skipped" else f"{n} skipped" for word, n in counts.items() if n]
    return ", ".join([f"{passed} passed" if passed else "**none passed**", *others])


def tables() -> str:
    """Return what was seen, for people."""

    def cell(release: str, python: str, dependencies: str = NEWEST_DEPENDENCIES) -> str:
        if python not in ALL[release]:
            return "not supported by Airflow"
        found = seen(f"{release} {python} {dependencies}")
        return found if found == NOT_RUN or is_whole(release, python, dependencies) else f"sample: {found}"

    pythons = ALL[NEWEST]
    pins = ", ".join(line.partition(" ")[0] for line in LOWEST_LIST.read_text().splitlines() if "==" in line)
    fast = [["Airflow", *(f"Python {python}" for python in pythons), "lowest dependencies"]]
    real = [["Airflow", "on a real scheduler and triggerer", "the wheel in an empty environment"]]
    for release, (first, *_) in ALL.items():
        stack = seen("older stack", of=release) if release in RELEASES else seen(f"{release} stack")
        fast.append([release, *(cell(release, each) for each in pythons), cell(release, first, LOWEST)])
        real.append([release, stack, seen(f"{release} wheel")])
    return "\n\n".join(
        [
            f"Seen on commit {revision()}; the lowest dependencies are {pins}, on Python {pythons[0]}.",
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


def main() -> int:
    """Tell what was seen."""
    parser = argparse.ArgumentParser(
        prog="python -m dev.matrix", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--write", action="store_true", help="put the tables into docs/compatibility.md")
    asked = parser.parse_args()
    told = tables()
    print(told)
    if asked.write:
        from dev.bench import insert  # which imports Airflow

        insert("matrix", told, DOCUMENT)
    return "**" in told


if __name__ == "__main__":
    sys.exit(main())

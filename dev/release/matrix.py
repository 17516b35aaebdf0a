"""Tables of what the sessions of ``noxfile.py`` have seen, for docs/compatibility.md.

``python -m dev.release.matrix`` prints them, ``--write`` puts them into the document. The exit status is 0
only if nothing in them failed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

from dev.release.releases import ALL, LOWEST_LIST, NEWEST, NEXT, RELEASES, ROOT, TRIED

NEWEST_DEPENDENCIES, LOWEST = "newest", "lowest"
REPORTS = ROOT / ".nox" / "reports"
DOCUMENT = ROOT / "docs" / "compatibility.md"
NOT_RUN = "not run"
# In the name of a row whose failures are not failures of ours.
_PRE = "(pre-release)"


@cache
def revision() -> str:
    """Return the commit that is looked at, and whether anything but the documents differs from it."""
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs")
    return _git("rev-parse", "--short=7", "HEAD") + ("-dirty" if changed else "")


def report(name: str) -> Path:
    """Return where a session has pytest write what came of its tests on this commit."""
    return REPORTS / revision() / f"{name}.xml"


def newest(name: str) -> Path | None:
    """Return the newest report of a session, on whichever commit; None when there is none."""
    return max(REPORTS.glob(f"*/{name}.xml"), key=lambda path: path.stat().st_mtime, default=None)


def cells(release: str) -> list[tuple[str, str]]:
    """Return the Pythons of a release, each with the age of what our package needs."""
    pythons = TRIED[release]
    newest = [(python, NEWEST_DEPENDENCIES) for python in pythons]
    return [*newest, (pythons[0], LOWEST)]


def is_whole(release: str, python: str, dependencies: str) -> bool:
    """Whether a cell runs all fast tests, and not only what may differ from the release's first Python."""
    return (python, dependencies) == (TRIED[release][0], NEWEST_DEPENDENCIES)


def seen(name: str, *, of: str = "") -> str:
    """Return how many tests of a session passed and did not.

    :param of: the release to which they are confined.
    """
    path = newest(name)
    if path is None:
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
        if python not in TRIED[release]:
            return "not supported by Airflow"
        found = seen(f"{release} {python} {dependencies}")
        return found if found == NOT_RUN or is_whole(release, python, dependencies) else f"sample: {found}"

    def commits(*names: str) -> str:
        return ", ".join(sorted({path.parent.name for path in map(newest, names) if path}))

    pythons = ALL[NEWEST]
    pins = ", ".join(line.partition(" ")[0] for line in LOWEST_LIST.read_text().splitlines() if "==" in line)
    fast = [["Airflow", *(f"Python {python}" for python in pythons), "lowest dependencies", "commit"]]
    real = [["Airflow", "on a real scheduler and triggerer", "the wheel in an empty environment", "commit"]]
    for release, (first, *_) in TRIED.items():
        each = [f"{release} {python} {dependencies}" for python, dependencies in cells(release)]
        fast.append(
            [
                f"{release} {_PRE}" if release == NEXT else release,
                *(cell(release, python) for python in pythons),
                cell(release, first, LOWEST),
                commits(*each),
            ]
        )
        if release == NEXT:
            continue
        stack, wheel = f"{'older' if release in RELEASES else release} stack", f"{release} wheel"
        of = release if release in RELEASES else ""
        real.append([release, seen(stack, of=of), seen(wheel), commits(stack, wheel)])
    return "\n\n".join(
        [
            f"The lowest dependencies are {pins}, on Python {pythons[0]}.",
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
    """Print what was seen."""
    parser = argparse.ArgumentParser(
        prog="python -m dev.release.matrix", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--write", action="store_true", help="put the tables into docs/compatibility.md")
    asked = parser.parse_args()
    told = tables()
    print(told)
    if asked.write:
        from dev.bench.reads import insert  # which imports Airflow

        insert("matrix", told, DOCUMENT)
    return any("**" in row and _PRE not in row for row in told.splitlines())


if __name__ == "__main__":
    sys.exit(main())

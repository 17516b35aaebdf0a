"""``make distributed``: two Celery workers and two triggerers, with Redis and PostgreSQL, on this machine.

    python -m dev.bench.distributed [--waits 1000] [--write]

Runs the examples and the chaos set of ``tests/e2e`` on them, then many gates of which none may be lost, wrong
or doubled when a worker and a triggerer are killed; see dev/bench/fleet.py. ``--waits 0`` leaves the gates
out, ``--write`` puts what was seen into docs/scale.md. The exit status is 0 only if all was as it must be.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections import Counter
from importlib.metadata import version
from pathlib import Path

from dev.bench import fleet
from dev.bench.reads import DOCS, insert
from dev.stack.broker import server
from dev.stack.postgres import installed
from dev.stack.stack import end, take_signals

ROOT = DOCS.parent
TESTS = {
    "the example DAGs": "tests/e2e/test_examples.py",
    "the chaos set": "tests/e2e/test_chaos.py",
}
ENDS = ("passed", "failed", "skipped")


def play(report: Path) -> bool:
    """Run the tests where workers and triggerers are by themselves; return whether none failed.

    :param report: where pytest writes what came of them.
    """
    command = [sys.executable, "-m", "pytest", "-m", "e2e", *TESTS.values(), f"--junitxml={report}"]
    # What the server's package brings for tests is not wanted in ours.
    command += ["-p", "no:valkey", "-p", "no:cacheprovider"]
    env = {**os.environ, "E2E_EXECUTOR": "celery"}
    process = subprocess.Popen(command, cwd=ROOT, env=env, start_new_session=True)
    try:
        return process.wait() == 0
    finally:
        end([process], within=60.0)


def table(report: Path) -> str:
    """Return what came of the tests, a row for each file."""
    ends: Counter[tuple[str, str]] = Counter()
    seconds = dict.fromkeys(TESTS.values(), 0.0)
    for case in ElementTree.parse(report).iter("testcase"):
        file = case.get("classname", "").replace(".", "/") + ".py"
        if file not in seconds:  # one that was broken off has no name
            continue
        tags = {child.tag for child in case}
        end = "failed" if tags & {"failure", "error"} else "skipped" if "skipped" in tags else "passed"
        ends[file, end] += 1
        seconds[file] += float(case.get("time", 0))
    rows = ["| | tests passed | failed | skipped | minutes |", "|---|---|---|---|---|"]
    for name, file in TESTS.items():
        numbers = " | ".join(str(ends[file, end]) for end in ENDS)
        rows.append(f"| {name}, `{file}` | {numbers} | {seconds[file] / 60:.1f} |")
    return "\n".join(rows)


def versions() -> str:
    """Say what all of it ran on."""
    names = {"Airflow": "apache-airflow", "its Celery provider": "apache-airflow-providers-celery"}
    programs = {
        "broker": server(),
        "database": str(installed() / "bin" / "postgres"),
    }
    parts = [f"{name} {version(package)}" for name, package in names.items()]
    for name, program in programs.items():
        said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
        # The beginning will do: what it is, and its version; the rest says how it was built.
        parts.append(f"{name} {' '.join(said.split()[:3])}")
    return f"Seen on {', '.join(parts)}."


def main() -> int:
    """Run it all as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m dev.bench.distributed", description=__doc__)
    parser.add_argument("--waits", type=int, default=1000, help="how many gates; 0 leaves them out")
    parser.add_argument("--write", action="store_true", help="put what was seen into docs/scale.md")
    asked = parser.parse_args()
    take_signals()
    with tempfile.TemporaryDirectory(prefix="azbackup-distributed-") as directory:
        report = Path(directory, "report.xml")
        right = play(report)
        seen = f"{table(report)}\n\n{versions()}"
    print(f"\n{seen}\n", flush=True)
    if asked.write:
        insert("tests", seen, fleet.SCALE)
    if asked.waits:
        right = fleet.run(waits=asked.waits, celery=True, write=asked.write) and right
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())

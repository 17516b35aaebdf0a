"""Measure how the house is built and how it speaks, in this clone and in any revision of it.

``python -m dev.release.house [REVISION]`` prints one line for each figure, of the revision, if one is named,
and of this clone. The figures are counted from the source. Only the switches are counted while one deferred
backup runs against the emulator, on a clock that a wait moves forward.
"""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Mapping
from io import BytesIO
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = "airflow_provider_azbackup"
# What is counted as a part of the emulator, not of the package, wherever it is kept.
EMULATOR = "emulator"
COMPLEX = 15

# One deferred backup: the calls that lead from one of the modules of a task to another one.
SWITCHES = r"""
import asyncio, json, os, sys
from importlib import import_module

def load(*names):
    for name in names:
        try:
            return import_module(name)
        except ImportError:
            pass

Emulator = load("azure_backup_emulator", "airflow_provider_azbackup.emulator").Emulator
tasks = load("tests.support.tasks", "tests.tasks")
ManualClock = load("tests.support.clock", "tests.clock").ManualClock
clocks = load("airflow_provider_azbackup.runtime.clock", "airflow_provider_azbackup.clock")
operators = load("airflow_provider_azbackup.operators")
from airflow.providers.common.compat.sdk import TaskDeferred

PARTS = ("tasks.base", "tasks.waiting", "waiting", "tasks.start", "starting", "operators")
HEIGHT = {f"airflow_provider_azbackup.{name}": height for height, name in enumerate(PARTS)}
seen, switches, upward = set(), 0, 0

class Hands:
    now = clock = ManualClock()

    def sleep(self, seconds):
        self.clock.advance(seconds)

    async def pause(self, seconds):
        self.clock.advance(seconds)
        await asyncio.sleep(0)

def watch(frame, event, argument):
    global switches, upward
    name = frame.f_globals.get("__name__", "")
    if event != "call" or not name.startswith("airflow_provider_azbackup.") or ".emulator" in name:
        return
    if frame.f_code.co_name == "<module>":
        return
    seen.add(name)
    if name in HEIGHT:
        caller = frame.f_back
        while caller and caller.f_globals.get("__name__") not in HEIGHT:
            caller = caller.f_back
        if caller and caller.f_globals["__name__"] != name:
            switches += 1
            upward += HEIGHT[caller.f_globals["__name__"]] < HEIGHT[name]

async def first(trigger):
    async for event in trigger.run():
        return event.payload

with Emulator(clock=Hands.clock) as azure, clocks.running_on(Hands()):
    os.environ["AIRFLOW_CONN_AZURE_BACKUP_DEFAULT"] = json.dumps(azure.connection())
    task = operators.AzureBackupOperator(task_id="backup", protected_item="vm-good", deferrable=True)
    ti = tasks.TaskInstance(store=tasks.Store())
    sys.setprofile(watch)
    try:
        task.execute(ti.context)
    except TaskDeferred as deferred:
        left = deferred
    payload = asyncio.run(first(left.trigger))
    getattr(task, left.method_name)(ti.context, event=payload, **(left.kwargs or {}))
    sys.setprofile(None)
print(json.dumps([len(seen), switches, upward]))
"""


def modules(package: Path) -> dict[str, ast.Module]:
    """Return every module of the package without the emulator: its dotted name, and its source."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        name = ".".join(path.relative_to(package).with_suffix("").parts).removesuffix(".__init__")
        if name.partition(".")[0] not in (EMULATOR, "__init__"):
            found[name] = ast.parse(path.read_text())
    return found


def imported(tree: ast.Module) -> Iterable[str]:
    """Return the modules of the package that a module imports, wherever in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PACKAGE):
            base = (node.module or "").removeprefix(PACKAGE).lstrip(".")
            yield from (f"{base}.{alias.name}".lstrip(".") for alias in node.names)


def arrows(found: Mapping[str, ast.Module], inside: str = "") -> set[tuple[str, str]]:
    """Return which entry of a folder imports which other one.

    :param inside: the folder, with a dot at its end; the package itself if empty.
    """

    def room(name: str) -> str:
        return name.removeprefix(inside).partition(".")[0] if name.startswith(inside) else ""

    rooms = {room(name) for name in found}
    pairs = {(room(name), room(other)) for name, tree in found.items() for other in imported(tree)}
    return {(one, other) for one, other in pairs if one and one != other and other in rooms - {""}}


def circular(pairs: set[tuple[str, str]]) -> int:
    """Return how many arrows lead back, over others, to where they come from."""
    reached = set(pairs)
    while more := {(a, d) for a, b in reached for c, d in pairs if b == c} - reached:
        reached |= more
    return sum((other, one) in reached for one, other in pairs)


def plumbing(tree: ast.Module) -> int:
    """Return how many lines of a module only take arguments and keep or pass them: the constructors."""
    return sum(
        (node.end_lineno or 0) - node.lineno + 1 - (len((ast.get_docstring(node) or "").splitlines()))
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name == "__init__"
    )


def complexity(function: ast.AST) -> int:
    """Return the cyclomatic complexity of a function: one, and one more wherever it may go two ways."""
    ways = 1
    branches = ast.If | ast.IfExp | ast.For | ast.AsyncFor | ast.While | ast.ExceptHandler | ast.match_case
    for node in ast.walk(function):
        if isinstance(node, ast.BoolOp):
            ways += len(node.values) - 1
        elif isinstance(node, ast.comprehension):
            ways += 1 + len(node.ifs)
        elif isinstance(node, branches):
            ways += 1
    return ways


def complex_functions(found: Mapping[str, ast.Module]) -> list[tuple[int, str]]:
    """Return the functions whose complexity is above the limit, the highest first."""
    named = [
        (complexity(node), f"{module}.{node.name}")
        for module, tree in found.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    return sorted((each for each in named if each[0] > COMPLEX), reverse=True)


def switches(root: Path) -> list[int]:
    """Return modules passed, switches and upward switches along one deferred backup."""
    with tempfile.TemporaryDirectory() as home:
        path = os.pathsep.join(map(str, (root, root / EMULATOR)))
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", SWITCHES],
            env={**os.environ, "PYTHONPATH": path, "AIRFLOW_HOME": home, "NO_PROXY": "localhost"},
            cwd=home,
            capture_output=True,
            text=True,
            check=True,
        )
    found: list[int] = json.loads(done.stdout.splitlines()[-1])
    return found


def prose(root: Path) -> str:
    """Return the text of README and docs without code, tables and links."""
    pages = [root / "README.md", *sorted((root / "docs").rglob("*.md"))]
    text = "\n\n".join(page.read_text() for page in pages)
    text = re.sub(r"(?ms)^```.*?^```$", "", text)
    text = re.sub(r"(?m)^\|.*$|^--8<--.*$|^:::.*$", "", text)
    return re.sub(r"`[^`]*`|\]\([^)]*\)|https?://\S+", " x ", text)


def figures(root: Path) -> dict[str, float]:
    """Return all figures of one checkout."""
    package = root / PACKAGE
    found = modules(package)
    top, core = arrows(found), arrows(found, "core.")
    passed, switched, upward = switches(root)
    text = prose(root)
    words, sentences = len(text.split()), len(re.findall(r"[.!?](?=\s)", text))

    def of_10_000(pattern: str) -> float:
        return round(10_000 * len(re.findall(pattern, text, re.IGNORECASE)) / words, 1)

    lines = {path: len(path.read_text().splitlines()) for path in package.rglob("*.py")}
    operators = package / "operators.py"
    return {
        "Entries at the top of the package": len({name.partition(".")[0] for name in found}),
        "Arrows between them": len(top),
        "Arrows that close a circle": circular(top),
        "Entries of the core": len({name.split(".")[1] for name in found if name.startswith("core.")}),
        "Arrows between these": len(core),
        "Arrows that close a circle there": circular(core),
        "Modules that one deferred backup passes": passed,
        "Switches among operators and their bases": switched,
        "Switches upward": upward,
        "Lines of constructors in operators.py": plumbing(ast.parse(operators.read_text())),
        "Lines of operators.py": lines[operators],
        f"Functions with a complexity above {COMPLEX}": len(complex_functions(found)),
        "Lines of the package, without the emulator": sum(
            count for path, count in lines.items() if EMULATOR not in path.relative_to(package).parts
        ),
        "Words of docs": sum(len(page.read_text().split()) for page in (root / "docs").rglob("*.md")),
        "Words of the README": len((root / "README.md").read_text().split()),
        "'behind' in 10,000 words": of_10_000(r"\bbehind\b"),
        "'tell', 'told' in 10,000 words": of_10_000(r"\b(?:tells?|told)\b"),
        "'for example' in 10,000 words": of_10_000(r"\bfor example\b"),
        "Colons and semicolons in a sentence": round(len(re.findall("[:;]", text)) / sentences, 2),
    }


def main(revisions: list[str]) -> None:
    """Print the figures of the revisions and of this clone."""
    seen = {}
    for revision in revisions:
        archive = subprocess.run(["git", "archive", revision], cwd=ROOT, check=True, capture_output=True)
        with tempfile.TemporaryDirectory() as directory:
            with tarfile.open(fileobj=BytesIO(archive.stdout)) as files:
                files.extractall(directory, filter="data")
            seen[revision] = figures(Path(directory))
    seen["now"] = figures(ROOT)
    print(f"| | {' | '.join(seen)} |\n|---|{'---:|' * len(seen)}")
    for name in seen["now"]:
        print(f"| {name} | {' | '.join(str(each[name]) for each in seen.values())} |")
    for ways, function in complex_functions(modules(ROOT / PACKAGE)):
        print(f"{function}: {ways}")


if __name__ == "__main__":
    main(sys.argv[1:])

"""What importing our modules costs a Dag file, over what it imports anyway, compared with others.

Every import runs in an interpreter of its own, on top of :data:`BASE`; the subjects take turns, so that a
busy moment of the machine does not befall one of them alone. CPU is the process's own, not wall-clock time.

    python dev/bench/import_cost.py [--rounds 7] [--json]

The milliseconds are those of one machine; the ratio to the Data Factory operators is nearly that of any.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from statistics import median

BASE = "from airflow.sdk import DAG, BaseOperator, BaseSensorOperator"
OURS = "airflow_provider_azbackup"
DATA_FACTORY = "airflow.providers.microsoft.azure.operators.data_factory"

# What a row is called, and the modules that it imports together.
SUBJECTS: Mapping[str, tuple[str, ...]] = {
    "operators": (f"{OURS}.operators",),
    "sensors": (f"{OURS}.sensors",),
    "links": (f"{OURS}.links",),
    "triggers": (f"{OURS}.triggers",),
    "operators, sensors, links": tuple(f"{OURS}.{name}" for name in ("operators", "sensors", "links")),
    "all four": tuple(f"{OURS}.{name}" for name in ("operators", "sensors", "links", "triggers")),
    "Data Factory operators": (DATA_FACTORY,),
    "Data Factory sensors": ("airflow.providers.microsoft.azure.sensors.data_factory",),
    "HTTP sensors": ("airflow.providers.http.sensors.http",),
}

# Garbage is collected first: else a collection of all that Airflow loaded falls into some of the imports.
_CHILD = """
import gc, importlib, json, sys, time
{base}
def resident():
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS"))
    except OSError:
        return None
gc.collect()
loaded, memory, cpu = len(sys.modules), resident(), time.process_time()
try:
    for name in {modules!r}:
        importlib.import_module(name)
except ModuleNotFoundError as missing:
    print(json.dumps({{"missing": missing.name}}))
else:
    spent = time.process_time() - cpu
    grown = None if memory is None else resident() - memory
    print(json.dumps({{"cpu_ms": spent * 1000, "rss_mib": grown, "modules": len(sys.modules) - loaded}}))
"""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """One import: milliseconds of CPU, MiB of resident memory (None but on Linux), modules loaded with it."""

    cpu_ms: float
    rss_mib: float | None
    modules: int


def measure(modules: Iterable[str], *, home: str) -> Cost | None:
    """Import modules in a fresh interpreter, on top of :data:`BASE`.

    :param modules: names, imported in this order.
    :param home: an ``AIRFLOW_HOME`` that may be written to.
    :return: what it cost, or None when one of them is not installed.
    :raises subprocess.CalledProcessError: when an import fails in any other way.
    """
    # A Dag processor finds modules compiled; where they may not be written, this would measure a compiler.
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [sys.executable, "-c", _CHILD.format(base=BASE, modules=[*modules])],
        env={**kept, "AIRFLOW_HOME": home},
        check=True,
        capture_output=True,
        text=True,
    )
    # Whatever Airflow says at its start comes before.
    found = json.loads(done.stdout.splitlines()[-1])
    if missing := found.get("missing"):
        if missing.partition(".")[0] == OURS:
            raise ModuleNotFoundError(f"no module named {missing!r}", name=missing)
        return None
    return Cost(**found)


def compare(subjects: Mapping[str, Iterable[str]], *, rounds: int) -> dict[str, list[Cost]]:
    """Measure all subjects in turn, several times; a subject that is not installed has an empty list.

    :param subjects: modules by the name of the row.
    :param rounds: how often each is measured, after a first time that only compiles what is not compiled.
    """
    found: dict[str, list[Cost]] = {name: [] for name in subjects}
    with tempfile.TemporaryDirectory(prefix="import-cost-") as home:
        for turn in range(rounds + 1):
            for name, modules in subjects.items():
                if (cost := measure(modules, home=home)) and turn:
                    found[name].append(cost)
    return found


def typical(costs: list[Cost]) -> Cost:
    """Return the medians of several measurements."""
    memory = [cost.rss_mib for cost in costs if cost.rss_mib is not None]
    return Cost(
        cpu_ms=median(cost.cpu_ms for cost in costs),
        rss_mib=median(memory) if memory else None,
        modules=round(median(cost.modules for cost in costs)),
    )


def table(found: Mapping[str, list[Cost]]) -> list[str]:
    """Lay the medians out as lines of text, each CPU also as a share of the Data Factory operators'."""
    yardstick = found.get("Data Factory operators")
    against = typical(yardstick).cpu_ms if yardstick else None
    head = f"over {BASE.partition(' import ')[2]}"
    lines = [f"{head:44}{'CPU ms':>8}{'least':>8}{'MiB':>8}{'modules':>9}{'ratio':>9}"]
    for name, costs in found.items():
        if not costs:
            lines.append(f"{name:44}{'not installed':>16}")
            continue
        cost = typical(costs)
        memory = "-" if cost.rss_mib is None else f"{cost.rss_mib:.2f}"
        ratio = "-" if against is None else f"{cost.cpu_ms / against:.3f}"
        least = min(each.cpu_ms for each in costs)
        lines.append(f"{name:44}{cost.cpu_ms:8.1f}{least:8.1f}{memory:>8}{cost.modules:9}{ratio:>9}")
    return lines


def main() -> None:
    """Print the table, or all measurements as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7, help="measurements of each (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print every measurement, and no table")
    arguments = parser.parse_args()
    found = compare(SUBJECTS, rounds=arguments.rounds)
    if arguments.json:
        print(json.dumps({name: [asdict(cost) for cost in costs] for name, costs in found.items()}, indent=1))
    else:
        print("\n".join(table(found)))


if __name__ == "__main__":
    main()

"""What Resource Graph as a scout is good for: many vaults in one subscription, with and without it.

Hours pass in virtual time, against the emulator's lists, its Resource Graph and its budget of 150 reads of
jobs an hour.

    python -m dev.bench.scout [--write]

``--write`` puts the table into docs/performance.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from dev.bench.reads import Row, insert, measure, ours

# Waits and vaults. Of a thousand jobs, more end than can be read in time.
CASES = ((100, 1), (100, 5), (100, 20), (100, 60), (1000, 20))
# How Resource Graph may differ from the truth, by what the table calls it.
COPIES = {"5 minutes late": {"lag": 300.0}, "1 job in 10 is missing": {"gaps": 0.1}}
HEAD = "| waits | vaults | Resource Graph | reads/h | queries/h | 429s | delay p50 s | delay p99 s |"


def rows() -> Iterable[Row]:
    """Measure with and without Resource Graph."""
    scout = ours(resource_graph="true")
    for waits, vaults in CASES:
        yield measure("not asked", ours(), waits=waits, vaults=vaults)
        yield measure("asked", scout, waits=waits, vaults=vaults)
    for name, copy in COPIES.items():
        yield measure(f"asked, {name}", scout, waits=100, vaults=20, resource_graph=copy)


def line(row: Row) -> str:
    """Return a row of the table."""
    assert row.unseen == 0, row
    return (
        f"| {row.waits} | {row.vaults} | {row.way} | {row.reads:.0f} | {row.queries:.0f} | {row.throttled} "
        f"| {row.p50:.0f} | {row.p99:.0f} |"
    )


def main() -> None:
    """Measure and print, row by row."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--write", action="store_true", help="put the table into docs/")
    asked = parser.parse_args()
    lines = [HEAD, "|---" * (HEAD.count("|") - 1) + "|"]
    for row in rows():
        lines.append(line(row))
        print(lines[-1], flush=True)
    if asked.write:
        insert("scout", "\n".join(lines))


if __name__ == "__main__":
    main()

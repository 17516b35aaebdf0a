"""How good the forecasts of a backup's end are: how often they hold, and how many warnings are false alarms.

Ten thousand backups of as many items, each with a month of past nights. How long a night takes is drawn
from one of three kinds of distributions with heavy tails; one backup in ten begins hours late. The forecasts
see nothing but durations of the nights before.

    python -m dev.bench.forecast [--jobs 10000] [--seed 1] [--write]

``--write`` puts the tables into docs/performance.md.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles

from airflow_provider_azbackup.core.model.forecast import forecast, late_from

PAGE = Path(__file__).resolve().parents[2] / "docs" / "performance.md"
NIGHTS = 30
# How late a backup begins that does not begin in time, as a share of the time it is given.
LATEST_START = 1.5
LATE_STARTS = 0.1


def any_item(draw: random.Random) -> Callable[[], float]:
    """Return what draws the seconds of one item's next backup."""
    scale = 60 * 10 ** draw.uniform(0.3, 2.3)  # two minutes to three hours
    kind = draw.randrange(3)
    if kind == 0:
        spread = draw.uniform(0.2, 1.0)
        return lambda: scale * draw.lognormvariate(0, spread)
    if kind == 1:
        tail = draw.uniform(1.2, 3.0)
        return lambda: scale * draw.paretovariate(tail)
    spread, slow = draw.uniform(0.1, 0.3), draw.uniform(0.02, 0.1)
    return lambda: (
        scale * draw.lognormvariate(0, spread) * (draw.uniform(2, 8) if draw.random() < slow else 1)
    )


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """Shares of the backups that ended before their p50 and p90.

    :param at_start: as forecast when they began, and ``underway`` when they had run for some time already.
    """

    at_start: tuple[float, float]
    underway: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Warnings:
    """Shares of all backups.

    :param late: that ended after ``expected_by``.
    :param false: that were warned of and ended before it.
    :param foreseen: of the late ones, those that were warned of before they were late.
    """

    late: float
    false: float
    foreseen: float


def coverage(jobs: int, seed: int) -> Coverage:
    """Compare forecasts with how the backups ended."""
    draw = random.Random(seed)
    start, underway = [], []
    for _ in range(jobs):
        night = any_item(draw)
        past = [night() for _ in range(draw.randint(9, NIGHTS))]
        took = night()
        first = forecast(past, began=0.0, now=0.0)
        assert first and first.p90
        start.append((took <= first.p50, took <= first.p90))
        # A moment that knows nothing of this backup but that it runs.
        now = draw.choice(past) * draw.random()
        later = forecast(past, began=0.0, now=now) if took > now else None
        if later and later.p90:
            underway.append((took <= later.p50, took <= later.p90))
    return Coverage(at_start=_means(start), underway=_means(underway))


def warnings(jobs: int, seed: int, *, slack: float, use_p90: bool = False) -> Warnings:
    """Let tasks expect their backups by a time, and count the warnings.

    :param slack: how much time each task gives its backup from the usual start, in what nine nights in ten
        need.
    :param use_p90: warn as soon as p90, not p50, is later than ``expected_by``.
    """
    draw = random.Random(seed)
    late = false = foreseen = 0
    for _ in range(jobs):
        night = any_item(draw)
        past = [night() for _ in range(NIGHTS)]
        by = slack * quantiles(past, n=10)[-1]
        began = draw.uniform(0, LATEST_START) * by if draw.random() < LATE_STARTS else 0.0
        ended = began + night()
        warn = _from_p90(past, began, by) if use_p90 else late_from(past, began=began, expected_by=by)
        is_warned = max(warn, began) < min(ended, by)
        late += ended > by
        false += is_warned and ended <= by
        foreseen += is_warned and ended > by
    return Warnings(late=late / jobs, false=false / jobs, foreseen=foreseen / max(1, late))


def _from_p90(past: list[float], began: float, by: float) -> float:
    for elapsed in (0.0, *sorted(past)):
        found = forecast(past, began=began, now=began + elapsed)
        if found is None or found.p90 is None or began + elapsed >= by:
            break
        if found.p90 > by:
            return began + elapsed
    return by


def _means(pairs: list[tuple[bool, bool]]) -> tuple[float, float]:
    return sum(first for first, _ in pairs) / len(pairs), sum(second for _, second in pairs) / len(pairs)


def tables(jobs: int, seed: int) -> str:
    """Return the figures as Markdown."""
    found = coverage(jobs, seed)
    lines = [
        "| forecast | ended before `expected_end` | ended before `expected_late` |",
        "|---|---|---|",
        f"| when the backup began | {found.at_start[0]:.1%} | {found.at_start[1]:.1%} |",
        f"| while it ran | {found.underway[0]:.1%} | {found.underway[1]:.1%} |",
        "",
        "| time given, in what nine nights in ten need | late | false alarms | late ones that were foreseen "
        "| false alarms if p90 warned |",
        "|---|---|---|---|---|",
    ]
    for slack in (1.25, 1.5, 2.0, 3.0):
        ours = warnings(jobs, seed, slack=slack)
        other = warnings(jobs, seed, slack=slack, use_p90=True)
        lines.append(
            f"| {slack:g} | {ours.late:.1%} | {ours.false:.1%} | {ours.foreseen:.0%} | {other.false:.1%} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Print the figures, or write them into the page."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    text = tables(given.jobs, given.seed)
    print(text)
    if given.write:
        before, rest = PAGE.read_text().split("<!-- forecast -->")
        after = rest.split("<!-- end of forecast -->")[1]
        PAGE.write_text(f"{before}<!-- forecast -->\n\n{text}\n\n<!-- end of forecast -->{after}")


if __name__ == "__main__":
    main()

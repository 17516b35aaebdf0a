"""The verdict over an estate costs little, and never holds the event loop for long."""

from __future__ import annotations

from dev.bench.estate import measure
from dev.stack.pace import slowness


def test_a_verdict_is_cheap_and_gives_others_a_turn() -> None:
    report = measure(12, 1000)
    assert report.verdict.total == 1000
    # CPU, so the load does not count, but the speed does. 5,000 items may cost 0.5 s.
    pace = max(1.0, slowness())
    assert report.first.seconds < 0.1 * pace
    assert report.again.seconds < 0.5 * report.first.seconds
    assert max(report.first.longest, report.lists.longest) < 0.2 * pace

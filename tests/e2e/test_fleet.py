"""Many gates in one vault, on an Airflow of their own whose only triggerer is killed halfway."""

from __future__ import annotations

from pathlib import Path

import pytest

from dev.bench.fleet import STILL, measure
from dev.stack.pace import slowness

pytestmark = pytest.mark.e2e


def test_no_gate_of_a_fleet_is_lost_or_wrong_when_its_triggerer_dies_halfway(tmp_path: Path) -> None:
    report = measure(tmp_path, waits=12, interval=15.0)
    assert (report.opened, report.shut, report.wrong) == (11, 1, {})
    assert report.events_behind_the_kill >= 3
    assert report.throttled == 0
    assert max(report.blocked, default=0.0) <= STILL * slowness()
    # Every look at 12 jobs is one read, and of the one that failed another.
    assert report.reads <= report.minutes * 4 + 4

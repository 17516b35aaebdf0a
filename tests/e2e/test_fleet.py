"""Many gates, and one gate for an estate, on an Airflow whose only triggerer is killed halfway of both."""

from __future__ import annotations

import pytest

from dev.bench.fleet import STILL
from dev.bench.one_gate import Report, measure
from dev.stack.pace import slowness

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    return measure(tmp_path_factory.mktemp("fleet"), vaults=8, items=400, waits=12, interval=15.0)


def test_no_gate_of_a_fleet_is_lost_or_wrong_when_its_triggerer_dies_halfway(report: Report) -> None:
    mapped = report.mapped
    assert (mapped.opened, mapped.shut, mapped.wrong) == (11, 1, {})
    assert mapped.events_behind_the_kill >= 3
    assert mapped.throttled == 0
    assert max(mapped.blocked, default=0.0) <= STILL * slowness()
    # Every look at 12 jobs is one read, and of the one that failed another.
    assert mapped.reads <= mapped.minutes * 4 + 4


def test_the_verdict_of_one_gate_is_the_truth_when_its_triggerer_dies_halfway(report: Report) -> None:
    assert [each.fresh for each in report.steps] == [each.truly for each in report.steps]
    assert {each.total for each in report.steps} == {400}
    assert report.steps[0].fresh < report.steps[1].fresh < report.steps[2].fresh == 400


def test_one_gate_opens_when_every_item_is_fresh_and_no_earlier(report: Report) -> None:
    assert (report.opened_early, report.opened) == (False, True)
    assert max(report.cost.blocked, default=0.0) <= STILL * slowness()

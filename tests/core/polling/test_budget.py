"""How fast jobs may be read, by what Azure's answers say."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from airflow_provider_azbackup.core.polling.budget import HOUR, Budget
from airflow_provider_azbackup.core.wire import Response

LEFT = "x-ms-ratelimit-remaining-subscription-resource-requests"
THROTTLED = (
    "Number of requests for action 'Microsoft.RecoveryServices/vaults/backupJobs/read' exceeded the limit of "
    "'{}' for time interval '01:00:00'. Please try again after '{}' seconds."
)


class Service:
    """Grants so many reads in each fixed window; the first window began a while ago."""

    def __init__(self, size: int, window: float = HOUR, began: float = 0.0) -> None:
        self.size, self.window, self.began, self.used = size, window, began, 0

    def read(self, at: float) -> Response:
        if at >= self.began + self.window:
            self.began, self.used = at, 0
        self.used += 1
        if self.used > self.size:
            wait = int(self.began + self.window - at) + 1
            return Response(status=429, at=at, text=THROTTLED.format(self.size, wait))
        return Response(status=200, at=at, headers={LEFT: str(self.size - self.used)})


def play(service: Service, budgets: list[Budget], *, begin: float, until: float) -> list[tuple[float, int]]:
    """Let each budget read as soon as it may; when, and with what status."""
    reads: list[tuple[float, int]] = []
    at = begin
    while at < until:
        budget = min(budgets, key=lambda each: each.ready_at(at))
        at = max(at, budget.ready_at(at))
        budget.spend(at)
        response = service.read(at)
        budget.hear(response, "vault")
        reads.append((at, response.status))
    return reads


@pytest.mark.parametrize("size", [150, 250, 300, 1100])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
@pytest.mark.parametrize("late", [0.0, 900.0, 3000.0])
def test_the_share_is_kept_in_every_window_and_nearly_used(size: int, share: float, late: float) -> None:
    reads = play(Service(size), [Budget(share, late)], begin=late, until=late + 6 * HOUR)
    assert {status for _, status in reads} == {200}
    for window in range(1, 6):
        used = sum(late + window * HOUR <= at < late + (window + 1) * HOUR for at, _ in reads)
        assert used <= size * share + 4
    assert len(reads) >= 6 * (min(size, 150) * share - 8) * 0.9


def test_several_who_see_the_same_number_shrink_keep_the_share_together() -> None:
    for many in (2, 3, 5):
        service = Service(150)
        reads = play(service, [Budget(0.8, 0.0) for _ in range(many)], begin=0.0, until=5 * HOUR)
        assert {status for _, status in reads} == {200}
        for hour in range(5):
            assert sum(hour * HOUR <= at < (hour + 1) * HOUR for at, _ in reads) <= 120 + 6 * many


def test_an_hour_has_no_hole_at_its_end() -> None:
    reads = play(Service(150), [Budget(0.8, 0.0)], begin=0.0, until=8 * HOUR)
    gaps = [later - now for (now, _), (later, _) in pairwise(reads)]
    assert max(gaps) <= 33


def test_a_429_is_obeyed_to_the_second_and_its_limit_believed() -> None:
    budget = Budget(0.8, 0.0)
    budget.spend(100.0)
    budget.hear(Response(status=429, at=100.0, text=THROTTLED.format(90, 324)), "vault")
    assert budget.ready_at(100.0) == pytest.approx(424.0)
    assert budget.limit == 90
    assert budget.gap(424.0) == pytest.approx(HOUR / (90 * 0.8 - 8))


def test_a_429_without_a_time_slows_down_all_the_same() -> None:
    budget = Budget(0.8, 0.0)
    budget.hear(Response(status=429, at=100.0), "vault")
    assert budget.ready_at(100.0) > 125


def test_a_number_that_does_not_shrink_sets_reads_free() -> None:
    budget, at = Budget(0.8, 0.0), 0.0
    for _ in range(20):
        at = max(at, budget.ready_at(at))
        budget.spend(at)
        budget.hear(Response(status=200, at=at, headers={LEFT: "249"}), "vault")
    assert budget.gap(at) < 1


@pytest.mark.parametrize("left", ["0", "-1"])
def test_an_empty_budget_that_still_serves_is_no_new_window(left: str) -> None:
    budget = Budget(0.8, 0.0)
    for at in (1000.0, 1600.0, 2200.0):
        budget.spend(at)
        budget.hear(Response(status=200, at=at, headers={LEFT: left}), "vault")
    assert budget.window == HOUR
    assert budget.gap(2200.0) == 600


@pytest.mark.parametrize("header", ["", "many", "1e999", "nan", "-inf"])
def test_a_number_that_is_none_changes_little(header: str) -> None:
    budget = Budget(0.8, 0.0)
    budget.hear(Response(status=200, at=1.0, headers={LEFT: header}), "vault")
    budget.hear(Response(status=200, at=2.0, headers={}), "vault")
    assert budget.limit == 150
    assert 0 < budget.gap(2.0) <= 600


def test_reads_of_others_slow_us_down_before_their_share_is_touched() -> None:
    chance = random.Random(3)
    service, budget, at, refused = Service(150), Budget(0.8, 0.0), 0.0, 0
    others = sorted(hour * HOUR + chance.random() * HOUR for hour in range(6) for _ in range(60))
    while at < 6 * HOUR:
        due = budget.ready_at(at)
        if others and others[0] <= due:
            at = max(at, others.pop(0))
            refused += service.read(at).status == 429
            continue
        at = max(at, due)
        budget.spend(at)
        budget.hear(service.read(at), "vault")
    assert refused == 0


@pytest.mark.parametrize("before", [300, 1100, 10_000])
def test_a_limit_that_falls_is_known_two_windows_later(before: int) -> None:
    service = Service(before)
    budget = Budget(0.8, 0.0)
    play(service, [budget], begin=0.0, until=2 * HOUR)
    service.size = 150
    assert {status for _, status in play(service, [budget], begin=2 * HOUR, until=5 * HOUR)} <= {200, 429}
    reads = play(service, [budget], begin=5 * HOUR, until=8 * HOUR)
    assert {status for _, status in reads} == {200}
    assert 3 * 110 * 0.9 <= len(reads) <= 3 * 124


def test_what_was_tried_in_vain_before_the_first_answer_is_not_waited_for() -> None:
    budget = Budget(0.8, 0.0)
    for at in range(0, 60, 5):  # an outage, before anything was known
        budget.spend(float(at))
    assert budget.ready_at(60.0) > 200
    budget.hear(Service(10_000).read(60.0), "vault")
    assert budget.ready_at(60.0) <= 62

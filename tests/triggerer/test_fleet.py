"""A wait for an estate: what it shows on the way, and what its last look is worth."""

from __future__ import annotations

from contextvars import Context
from types import SimpleNamespace
from typing import Any, cast

import pytest

from airflow_provider_azbackup.core.estate.scope import Condition, Scope
from airflow_provider_azbackup.core.estate.verdict import Reason, Verdict
from airflow_provider_azbackup.runtime import clock as clocks
from airflow_provider_azbackup.triggerer.fleet import EstateWait
from airflow_provider_azbackup.triggerer.hook import TriggererHook
from airflow_provider_azbackup.triggerer.poller import Poller
from tests.support.estates import SUBSCRIPTION, EstateHook, Fault, TrueItem, TrueJob, World
from tests.support.virtual import START, LoopClock, run


def estate(*ends: float) -> World:
    """One vault of VMs whose backups end so many seconds after the start."""
    world = World(0)
    world.vaults, world.faults, world.kills, world.items = world.vaults[:1], [], [], []
    world.after, world.lag, world.page, world.asks_copy = START - 600, 0.0, 50, False
    for number, end in enumerate(ends):
        never = START + 1e6
        job = TrueJob(number, START - 60, START + end, "Completed", f"vm-{number}")
        item = TrueItem(
            *("vm", world.vaults[0], f"vm-{number}", "", START - 90_000, never, never, "", never), [job]
        )
        world.items.append(item)
    # Responses are lost at random in a world, and not here.
    world.rng = cast(Any, SimpleNamespace(random=lambda: 1.0))
    return world


def wait_for(
    world: World, *, poll_interval: float, seconds: float, scope: Scope | None = None
) -> tuple[Verdict, float, list[Verdict]]:
    """Return the verdict, the seconds that it took, and all verdicts on the way."""
    seen: list[Verdict] = []

    async def main(clock: LoopClock) -> tuple[Verdict, float]:
        with clocks.running_on(clock):
            poller = Poller(cast(TriggererHook, EstateHook(world, clock)), clock, {}, Context())
            try:
                wait = EstateWait(
                    poller,
                    scope or Scope(vaults=tuple(world.vaults)),
                    Condition(after=world.after),
                    poll_interval=poll_interval,
                    deadline=START + seconds,
                    notice=seen.append,
                )
                return await wait.verdict(), clock.now() - START
            finally:
                await poller.close()

    return *run(main), seen


def test_the_verdict_at_the_deadline_is_of_that_moment() -> None:
    verdict, took, seen = wait_for(estate(3500, 3550, 9000), poll_interval=1500, seconds=3600)
    # The last list before it shows nothing that has ended.
    assert seen[-1].counts[Reason.FRESH] == 0
    assert (verdict.counts[Reason.FRESH], verdict.counts[Reason.RUNNING]) == (2, 1)
    assert took < 3620


def test_what_has_ended_just_before_the_deadline_opens_the_gate() -> None:
    verdict, _, _ = wait_for(estate(3500, 3550), poll_interval=1500, seconds=3600)
    assert verdict.opens(0)


@pytest.mark.parametrize("fault", ["broken", "lost"])
def test_a_vault_that_does_not_answer_at_the_deadline_does_not_hold_up_the_end(fault: str) -> None:
    world = estate(9000)
    world.faults = [Fault(fault, world.vaults[0], START + 3000, START + 1e6)]
    verdict, took, _ = wait_for(world, poll_interval=300, seconds=3600)
    assert (verdict.counts.get(Reason.UNREADABLE), verdict.unreadable_total) in ((1, 0), (None, 1))
    assert took < 3670


# Resource Graph


def growing(asks: bool, *, kind: str = "an item") -> World:
    """Items that are never fresh, one of which begins to exist after 700 s, alone or with its vault."""
    world = estate(9000, 9000)
    world.asks_copy, world.copy_lag = asks, 60.0
    world.copy = cast(Any, SimpleNamespace(random=lambda: 0.5))
    world.items[1].created = START + 700
    if kind == "a vault":
        world.items[1].vault = f"{world.vaults[0]}-2"
        world.appears = {f"{world.vaults[0]}-2": START + 700}
    return world


def first_shown(seen: list[Verdict], total: int) -> float:
    return next(each.at for each in seen if each.total == total) - START


@pytest.mark.parametrize("kind", ["an item", "a vault"])
def test_what_resource_graph_shows_is_looked_for_at_once(kind: str) -> None:
    scope = Scope(subscriptions=(SUBSCRIPTION,))
    _, _, seen = wait_for(growing(True, kind=kind), poll_interval=300, seconds=3000, scope=scope)
    assert 700 < first_shown(seen, 2) < 700 + 60 + 300 + 310
    verdict, _, seen = wait_for(growing(False, kind=kind), poll_interval=300, seconds=3000, scope=scope)
    # The lists of the last look show it. No earlier one does.
    assert {each.total for each in seen} == {1}
    assert verdict.total == 2


def test_resource_graph_is_not_asked_unless_the_connection_says_so() -> None:
    world = growing(False)
    wait_for(world, poll_interval=300, seconds=3000)
    assert world.queries == 0


def test_items_that_resource_graph_alone_shows_are_looked_for_once() -> None:
    asked, usual = estate(9000), estate(9000)
    asked.asks_copy, asked.copy = True, cast(Any, SimpleNamespace(random=lambda: 0.5))
    for world in (asked, usual):
        wait_for(world, poll_interval=300, seconds=3000)
    assert asked.queries > 10
    assert usual.item_lists <= asked.item_lists <= usual.item_lists + 4


def test_resource_graph_that_does_not_answer_changes_nothing() -> None:
    world = estate(1000, 2000)
    world.asks_copy, world.copy = True, cast(Any, SimpleNamespace(random=lambda: 0.0))
    verdict, took, _ = wait_for(world, poll_interval=300, seconds=3600)
    assert verdict.opens(0)
    assert 2000 < took < 2400

"""Random estates: no item is taken for fresh that is not, and none is lost.

``AZBACKUP_ESTATES=10000`` in the environment lives through as many, in about an hour.
"""

from __future__ import annotations

import os
from typing import Any

import pytest

from airflow_provider_azbackup.core.estate.look import Estate
from airflow_provider_azbackup.core.model.jobs import Job, Outcome
from airflow_provider_azbackup.triggerer.fleet import EstateWait
from tests.support.estates import FAULTS, World, live_through

SEEDS = int(os.environ.get("AZBACKUP_ESTATES", "100" if "AZBACKUP_SAMPLE" in os.environ else "400"))
BATCH = 20


@pytest.mark.parametrize("first", range(0, SEEDS, BATCH))
def test_whatever_happens_no_item_is_wrongly_fresh_and_none_is_lost(first: int) -> None:
    for seed in range(first, first + BATCH):
        _, breaches = live_through(seed)
        assert not breaches, f"seed {seed}"


def test_the_estates_hold_all_that_may_happen() -> None:
    worlds = [World(seed) for seed in range(500)]
    items = [item for world in worlds for item in world.items]
    assert {fault.kind for world in worlds for fault in world.faults} == set(FAULTS)
    assert {item.kind for item in items} == {"vm", "sql", "disk"}
    assert any(item.renamed < item.deleted < 2_000_000_000 for item in items)
    for choice in ("accepts_warnings", "by_point", "whole_subscription"):
        assert {getattr(world, choice) for world in worlds} == {True, False}
    assert any(len(world.kills) == 3 for world in worlds)
    # Most gates open: what is never open is never wrong.
    assert sum(world.should_open() for world in worlds) > 50


# An estate that does each of these wrong must be found out, or the seeds above prove nothing.


class Forgetful(Estate):
    """Opens by old lists of items."""

    def expire(self, before: float) -> None:
        pass

    def is_current(self, since: float) -> bool:
        return True


class Blind(Forgetful):
    """Takes a list that could not be read for an empty one, once it has asked for it."""

    def _unreadable(self) -> dict[str, str]:
        return {name: fault for name, fault in super()._unreadable().items() if "not been read yet" in fault}


class Trusting(Estate):
    """Takes warnings from a list, which leaves out that the job was cancelled."""

    def _by_job(self, vault: Any, path: str, job: Job) -> Any:
        if job.outcome is Outcome.WARNED:
            vault.confirmed.add(job.ref.job_id.casefold())
        return super()._by_job(vault, path, job)


class Careless(Estate):
    """Takes any backup for a fresh one."""

    @property
    def jobs_since(self) -> float:
        return 0.0

    def _jobs_of(self, vault: Any, path: str) -> list[Job]:
        object.__setattr__(self.condition, "after", 0.0)  # frozen, for good reasons
        return super()._jobs_of(vault, path)


@pytest.mark.parametrize("kind", [Forgetful, Blind, Trusting, Careless])
def test_an_estate_that_does_wrong_is_found_out(kind: type[Estate]) -> None:
    class Wrong(EstateWait):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self._estate.__class__ = kind

    assert any(live_through(seed, Wrong)[1] for seed in range(1000))

"""Hundreds of random nights: whatever happens, one backup for one intent, and no gate opens on less."""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Iterator
from typing import Any

import pytest

from airflow_provider_azbackup.operators import AzureBackupOperator
from azure_backup_emulator import Emulator
from tests.support.chaos import KINDS, Airflow, Supervisor, draw, network

task_runner = pytest.importorskip(
    "airflow.sdk.execution_time.task_runner", reason="Airflow 2 asks its database, not a supervisor"
)

# `make test` takes a sample; CI takes all in its other jobs, on each release, as a bare pytest does.
SEEDS = 40 if "AZBACKUP_SAMPLE" in os.environ else 1000
BATCH = 20


@pytest.fixture(autouse=True)
def supervisor(monkeypatch: pytest.MonkeyPatch) -> Iterator[Supervisor]:
    """Airflow's side of a worker or triggerer; and no logs, of which there would be many."""
    found = Supervisor()
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", found, raising=False)
    logging.disable(logging.CRITICAL)
    with network():
        yield found
    logging.disable(logging.NOTSET)


def live_through(seed: int, azure: Emulator, clock: Any, supervisor: Supervisor, **options: Any) -> Airflow:
    azure.reset()
    random.seed(seed)  # what the provider spreads its pauses by
    world = supervisor.world = Airflow(azure, clock, draw(seed), **options)
    world.run()
    return world


@pytest.mark.parametrize("first", range(0, SEEDS, BATCH))
def test_whatever_happens_there_is_one_backup_for_one_intent(
    azure: Emulator, clock: Any, supervisor: Supervisor, first: int
) -> None:
    for seed in range(first, first + BATCH):
        world = live_through(seed, azure, clock, supervisor)
        assert not (breaches := world.breaches()), "\n".join(
            [f"seed {seed}: {world.schedule}", *world.story, *breaches]
        )


def test_the_nights_hold_all_that_may_happen() -> None:
    nights = [draw(seed) for seed in range(1000)]
    assert {event.kind for night in nights for event in night.events} == set(KINDS)
    assert {(night.store, night.options["deferrable"]) for night in nights} == {
        (store, deferrable) for store in (True, False) for deferrable in (True, False)
    }
    assert {night.crowd for night in nights if night.options["deferrable"]} == {True, False}
    assert {night.busy for night in nights} == {None, "conflict", "operation", "job"}
    assert draw(7) == draw(7) != draw(8)


# An operator that does each of these wrong must be found out, or the nights above prove nothing.


class Forgetful(AzureBackupOperator):
    """Takes no notes, as if there were no store."""

    def execute(self, context: Any) -> str:
        return super().execute({name: context[name] for name in context if name != "task_state_store"})


class Careless(AzureBackupOperator):
    """Sends its request without a look at what runs or was sent before."""

    def execute(self, context: Any) -> str:
        with self.hook() as hook:
            operation = hook.trigger_backup(str(self.protected_item))
            job = hook.wait_for_job(
                hook.wait_for_operation(operation).job_id, timeout=self.timeout, check=False
            )
            return self._finish(context, job, 0.0)


class Credulous(AzureBackupOperator):
    """Takes a backup that has begun for one that is there."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, wait_for_completion=False)


class Hasty(AzureBackupOperator):
    """Looks every half second."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "poll_interval": 0.5})


class Deadly(AzureBackupOperator):
    """Cancels without being asked to."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "cancel_on_kill": True})


class Clumsy(AzureBackupOperator):
    """Stumbles over what Airflow hands it."""

    def execute(self, context: Any) -> str:
        return super().execute({**context, "dag_run": None, "ti": None})


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (Forgetful, "had succeeded"),
        (Careless, "was started next to"),
        (Credulous, "success by job"),
        (Hasty, "requests in one minute"),
        (Deadly, "nobody had asked for that"),
        (Clumsy, "AttributeError"),
    ],
)
def test_an_operator_that_does_wrong_is_found_out(
    azure: Emulator, clock: Any, supervisor: Supervisor, make: Any, complaint: str
) -> None:
    for seed in range(SEEDS):
        if any(
            complaint in breach
            for breach in live_through(seed, azure, clock, supervisor, make=make).breaches()
        ):
            return
    pytest.fail(f"{make.__name__} got through {SEEDS} nights")

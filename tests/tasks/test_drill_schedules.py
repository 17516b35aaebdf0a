"""Two hundred random drills: whatever dies, one restore an attempt, and a record that is right."""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_azbackup.drill import (
    AzureBackupDrillRecordOperator,
    AzureBackupDrillRestoreOperator,
    proven_restore,
)
from airflow_provider_azbackup.exceptions import AzureBackupNotProvenError
from airflow_provider_azbackup.restore_to import new_vm
from azure_backup_emulator import Emulator
from tests.support.chaos import (
    LOST,
    Airflow,
    AirflowDownError,
    GoneError,
    Supervisor,
    draw,
    network,
)
from tests.support.drills import MACHINE, STAGING, SUBNET
from tests.support.tasks import TaskInstance

task_runner = pytest.importorskip(
    "airflow.sdk.execution_time.task_runner", reason="Airflow 2 asks its database, not a supervisor"
)

from airflow.providers.standard.operators.empty import EmptyOperator  # noqa: E402  # Airflow 2 has it elsewhere

# `make test` tries a sample; CI's other jobs try all.
SEEDS = 10 if "AZBACKUP_SAMPLE" in os.environ else 200
BATCH = 10
RESTORE = "proven_restore.restore"
STATES = ("success",) * 8 + ("failed", "skipped", "upstream_failed", "")


def parse(protected_item: str, checks: int, **options: Any) -> DAG:
    with DAG("drill", schedule=None) as dag:
        target = new_vm(vm_id=MACHINE, subnet_id=SUBNET, storage_account_id=STAGING)
        with proven_restore(protected_item, restore_to=target, **options):
            for number in range(checks):
                EmptyOperator(task_id=f"check_{number}")
    return dag


@dataclass
class DrillAirflow(Airflow):
    """A world in which the task is the restore of a drill, with checks and a record after it.

    :param wrong: what takes the place of the restore or of the record, by the class it is derived from.
    """

    wrong: Mapping[type, type] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.checks = random.Random(self.schedule.seed).choice((0, 1, 2, 2, 3))
        self.results: dict[str, str] = {}
        self.asks_record = False
        self.records: list[dict[str, Any]] = []
        self.clock.now = 0.0
        super().__post_init__()
        self.ti.task_id = RESTORE
        self.strangers.add(self.azure.start_job(self.item.path, seconds=60))
        self.clock.advance(600)
        self.began = self.clock()

        def make(*, task_id: str, retries: int, **options: Any) -> Any:
            task = self.planted(parse(checks=self.checks, **options).get_task(RESTORE))
            task.retries = retries
            return task

        self.make = make

    def planted(self, task: Any) -> Any:
        """Return a task as the one that does wrong in its place, if there is one."""
        task.__class__ = self.wrong.get(type(task), type(task))
        return task

    def _move(self) -> None:
        self.moves = False

    def _load(self) -> None:
        super()._load()
        # A restore shows a recovery point, no matter what the tasks upstream have done since.
        self.loaded = 0.0

    def _lose_request(self) -> None:
        heard, times = self.rng.random() < 0.6, self.rng.choice((1, 1, 2))
        self.azure.fault(
            method="POST", path=r"/restore\?", processed=heard, times=times, **self.rng.choice(LOST)
        )

    def states_of(self, task_ids: list[str]) -> dict[str, str]:
        if not self.asks_record:
            return {task_ids[0]: self.state}
        known = {RESTORE: "success" if self.state == "success" else "failed", **self.results}
        return {task_id: known[task_id] for task_id in task_ids if known.get(task_id)}

    def _next(self, end: str) -> str:
        is_over = end in ("success", "mark failed")
        is_over = is_over or (end in ("failed", "died") and self.ti.try_number > self.ti.max_tries)
        if is_over:
            self.state = "success" if end == "success" else "failed"
            self._record()
        return super()._next(end)

    def _record(self) -> None:
        """Draw how the checks end, and record the drill: the first worker may die at any step of that."""
        ids = [f"proven_restore.check_{number}" for number in range(self.checks)]
        drawn = {task_id: self.rng.choice(STATES) for task_id in ids}
        self.results = drawn if self.state == "success" else dict.fromkeys(ids, "upstream_failed")
        ti = _RecordInstance(self)
        self.asks_record = True
        for dies_in in (self.rng.randint(1, 8), 0):
            self.where, self.dies_in = "worker", dies_in
            task = self.planted(parse(self.item.path, self.checks).get_task("proven_restore.record"))
            ti.xcoms.clear()
            succeeded = False
            try:
                succeeded = bool(task.execute({**ti.context, "outlet_events": {}}))
            except (GoneError, AirflowDownError):
                continue
            except AzureBackupNotProvenError:
                pass
            finally:
                self.where = ""
            self._judge(ti.xcoms["restore_record"], succeeded)
            break
        self.asks_record = False

    def _judge(self, record: dict[str, Any], succeeded: bool) -> None:
        """Compare the record with what Azure and Airflow know."""
        self.tell(f"recorded: {record['proven']} {record['reasons']}")
        self.records.append(record)
        passed = self.state == "success" and self.checks > 0
        passed = passed and all(result == "success" for result in self.results.values())
        wrong = [
            ("proven", record["proven"], passed),
            ("the task", succeeded, passed),
            ("reasons", bool(record["reasons"]), not passed),
            ("checks", record["checks"], {name: state or "missing" for name, state in self.results.items()}),
        ]
        job = self.azure.service.world.jobs.get(record["job_id"])
        if job is not None:
            machine = job.request["targetVirtualMachineId"]
            wrong += [
                ("item_id", record["item_id"], job.item.path),
                ("made", [each["arm_id"] for each in record["made"]], [machine]),
                ("a stranger's", job.id in self.strangers, False),
            ]
        if self.state == "success":
            assert job is not None
            ended = job.finish()[0]
            wrong += [
                ("ended", job.ended(self.azure_now()), "Completed"),
                ("rto", round(record["rto_seconds"]), round(ended - job.starts)),
            ]
        self.unhandled += [f"record: {what} is {is_}, not {must}" for what, is_, must in wrong if is_ != must]

    def breaches(self) -> list[str]:
        names = [
            job.request["targetVirtualMachineId"]
            for job in self.azure.service.world.jobs.values()
            if job.operation == "Restore"
        ]
        twice = [] if len(names) == len(set(names)) else [f"one name for two restores: {names}"]
        return [*super().breaches(), *twice]


class _RecordInstance(TaskInstance):
    """The task instance of the record, which reads what the restore has pushed."""

    def __init__(self, world: DrillAirflow) -> None:
        super().__init__()
        self.world, self.dag_run, self.task_id = world, world.ti.dag_run, "proven_restore.record"

    def xcom_push(self, *, key: str, value: Any) -> None:
        self.world.call(lambda: super(_RecordInstance, self).xcom_push(key=key, value=value))

    def xcom_pull(self, *, task_ids: str, key: str, map_indexes: int | None = None) -> Any:
        return self.world.call(lambda: self.world.ti.xcoms.get(key))


class _Supervisor(Supervisor):
    def send(self, question: Any) -> Any:
        if isinstance(self.world, DrillAirflow) and hasattr(question, "task_ids"):
            return SimpleNamespace(task_states={question.run_ids[0]: self.world.states_of(question.task_ids)})
        return super().send(question)


@pytest.fixture
def supervisor(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Supervisor]:
    found = _Supervisor()
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", found, raising=False)
    logging.disable(logging.CRITICAL)
    with network():
        yield found
    logging.disable(logging.NOTSET)


def live_through(
    seed: int, azure: Emulator, clock: Any, supervisor: _Supervisor, **options: Any
) -> DrillAirflow:
    azure.reset()
    random.seed(seed)
    night = draw(seed)
    # Another restore of the item is never adopted, and no backup is in a restore's way.
    if_running = "fail" if night.options["if_running"] == "fail" else "wait"
    night = replace(
        night,
        item="vm-good",
        busy=None,
        crowd=False,
        options={**night.options, "if_running": if_running},
    )
    world = supervisor.world = DrillAirflow(azure, clock, night, **options)
    world.run()
    return world


@pytest.mark.parametrize("first", range(0, SEEDS, BATCH))
def test_whatever_dies_there_is_one_restore_an_attempt_and_a_record_that_is_right(
    azure: Emulator, clock: Any, supervisor: _Supervisor, first: int
) -> None:
    verdicts = set()
    for seed in range(first, first + BATCH):
        world = live_through(seed, azure, clock, supervisor)
        assert not (breaches := world.breaches()), "\n".join(
            [f"seed {seed}: {world.schedule}", *world.story, *breaches]
        )
        verdicts |= {record["proven"] for record in world.records}
    assert verdicts == {True, False}


# A drill that does each of these wrong must be found out, or the drills above prove nothing.


class Forgetful(AzureBackupDrillRestoreOperator):
    """Keeps no notes and gives each restore a new mark, so that it recognises none of its own."""

    def execute(self, context: Any) -> str:
        return super().execute({name: context[name] for name in context if name != "task_state_store"})

    def _suffixes(self, context: Any, fingerprint: str) -> tuple[str, ...]:
        return (f"{random.randrange(10**6):06}",)


class Unimaginative(AzureBackupDrillRestoreOperator):
    """Gives what every try restores the same name."""

    def _suffixes(self, context: Any, fingerprint: str) -> tuple[str, ...]:
        return ("drill",)


class Credulous(AzureBackupDrillRecordOperator):
    """Takes a check that has failed for one that has passed."""

    def _states(self, ti: Any, task_id: str) -> list[str]:
        return ["success" for _ in super()._states(ti, task_id)]


class Lenient(AzureBackupDrillRecordOperator):
    """Does not miss a check that has not run."""

    def _states(self, ti: Any, task_id: str) -> list[str]:
        return super()._states(ti, task_id) or ["success"]


# The last one is the seed from which on it is looked for; the earlier ones do not lead there.
@pytest.mark.parametrize(
    ("wrong", "complaint", "first"),
    [
        (Forgetful, "had succeeded", 0),
        (Unimaginative, "one name for two restores", 3),
        (Credulous, "record: proven is True", 9),
        (Lenient, "record: checks is", 20),
    ],
)
def test_a_drill_that_does_wrong_is_found_out(
    azure: Emulator, clock: Any, supervisor: _Supervisor, wrong: type, complaint: str, first: int
) -> None:
    for seed in range(first, 200):
        world = live_through(seed, azure, clock, supervisor, wrong={wrong.__base__: wrong})
        if any(complaint in breach for breach in world.breaches()):
            return
    pytest.fail(f"{wrong.__name__} got through 200 drills")

"""A restore drill: never in place, under names of its own, and evidence of it whatever happens."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException, Asset, TaskDeferred, task_group

from airflow_provider_azbackup.drill import proven_restore
from airflow_provider_azbackup.exceptions import (
    AzureBackupBusyError,
    AzureBackupConfigError,
    AzureBackupJobFailedError,
    AzureBackupNotProvenError,
)
from airflow_provider_azbackup.restore_to import disks, new_vm, original_vm
from airflow_provider_azbackup.runtime import clock as clocks
from azure_backup_emulator import Emulator
from tests.support.drills import MACHINE, STAGING, SUBNET, Drill
from tests.support.tasks import Store
from tests.tasks.test_adoption import Mortal, WorkerDiedError

task_runner = pytest.importorskip(
    "airflow.sdk.execution_time.task_runner", reason="Airflow 2 reads states from its database"
)

from airflow.providers.standard.operators.empty import EmptyOperator  # noqa: E402  # Airflow 2 has it elsewhere
from airflow.sdk.execution_time.context import OutletEventAccessors  # noqa: E402  # likewise

TARGET = new_vm(vm_id=MACHINE, subnet_id=SUBNET, storage_account_id=STAGING)


def dag(checks: tuple[str, ...] = ("boots", "answers"), item: str = "vm-good", **arguments: Any) -> Any:
    def parse() -> DAG:
        with DAG("drill", schedule=None) as made:
            options = {"restore_to": TARGET, "deferrable": False, **arguments}
            with proven_restore(item, **options):
                for name in checks:
                    EmptyOperator(task_id=name)
        return made

    return parse


@pytest.fixture
def drill(azure: Emulator, clock: Any, monkeypatch: pytest.MonkeyPatch) -> Drill:
    """A drill of a VM with a recovery point, and nothing runs."""
    azure.start_job("vm-good")
    clock.advance(3000)
    found = Drill(dag())
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", found, raising=False)
    return found


def restores(azure: Emulator) -> list[Any]:
    return [job for job in azure.service.world.jobs.values() if job.operation == "Restore"]


def test_the_checks_run_between_the_restore_and_its_record() -> None:
    made = dag()()
    begin, restore, record = (
        made.get_task(f"proven_restore.{name}") for name in ("begin", "restore", "record")
    )
    assert (begin.is_setup, restore.is_setup, record.is_teardown) == (True, True, True)
    assert record.on_failure_fail_dagrun
    assert restore.upstream_task_ids == {begin.task_id}
    for name in ("boots", "answers"):
        check = made.get_task(f"proven_restore.{name}")
        assert check.upstream_task_ids == {begin.task_id, restore.task_id}
        assert record.task_id in check.downstream_task_ids


@pytest.mark.parametrize("deferrable", [False, True], ids=["in the worker", "deferred"])
def test_what_was_made_is_handed_on_and_proven(azure: Emulator, drill: Drill, deferrable: bool) -> None:
    drill.dag = dag(deferrable=deferrable)
    restored = drill.restore().xcoms
    (job,) = restores(azure)
    name = job.request["targetVirtualMachineId"].rpartition("/")[2]
    assert name.startswith("vm-drill-")
    assert len(name) == len("vm-drill-") + 8
    assert (restored["name"], restored["arm_id"]) == (name, job.request["targetVirtualMachineId"])
    assert restored["restored"]["made"] == [
        {
            "kind": "virtual machine",
            "name": name,
            "arm_id": f"{MACHINE.rpartition('/')[0]}/{name}",
            "remove": f"az resource delete --ids {MACHINE.rpartition('/')[0]}/{name}",
        }
    ]
    drill.check(boots="success", answers="success")
    record, failure = drill.record()
    assert (failure, record["proven"], record["reasons"]) == (None, True, [])
    assert record["checks"] == {"proven_restore.answers": "success", "proven_restore.boots": "success"}
    assert (record["item"], record["job_id"], record["restore"]) == ("vm-good", job.id, "success")
    assert record["rto_seconds"] == pytest.approx(187, abs=1)
    assert record["rpo_seconds"] == pytest.approx(3000 + 10, abs=60)
    assert record["made"][0]["name"] == name
    assert record["run"] == {"dag_id": "nightly", "run_id": "monday", "map_index": -1}


@pytest.mark.parametrize(
    ("states", "reason"),
    [
        ({"boots": "success", "answers": "failed"}, "check proven_restore.answers is failed"),
        ({"boots": "success", "answers": "skipped"}, "check proven_restore.answers is skipped"),
        ({"boots": "upstream_failed", "answers": "success"}, "check proven_restore.boots is upstream_failed"),
        ({"boots": "success"}, "check proven_restore.answers is missing"),
        ({"boots": "running", "answers": "success"}, "check proven_restore.boots is running"),
    ],
)
def test_nothing_is_proven_unless_every_check_has_passed(
    drill: Drill, states: dict[str, str], reason: str
) -> None:
    drill.restore()
    drill.check(**states)
    record, failure = drill.record()
    assert (record["proven"], record["reasons"]) == (False, [reason])
    assert isinstance(failure, AzureBackupNotProvenError)
    assert isinstance(failure, AirflowFailException)  # so that Airflow does not retry it
    assert reason in str(failure)


def test_a_block_without_a_check_proves_nothing(drill: Drill) -> None:
    drill.dag = dag(checks=())
    drill.restore()
    record, _ = drill.record()
    assert (record["proven"], record["reasons"]) == (False, ["there is no check in the block"])
    assert record["rto_seconds"]


def test_a_restore_that_fails_is_recorded_with_what_it_may_have_made(azure: Emulator, drill: Drill) -> None:
    azure.plan("vm-good", ending="Failed")
    with pytest.raises(AzureBackupJobFailedError):
        drill.restore()
    drill.check(boots="upstream_failed", answers="upstream_failed")
    record, _ = drill.record()
    assert not record["proven"]
    assert record["reasons"][0] == "the restore is failed"
    assert (record["ended"], record["rto_seconds"]) == (None, None)
    assert (
        record["made"][0]["name"] == restores(azure)[0].request["targetVirtualMachineId"].rpartition("/")[2]
    )


def test_a_restore_that_a_person_marks_as_successful_proves_nothing(drill: Drill) -> None:
    drill.states["proven_restore.restore", -1] = "success"
    drill.check(boots="success", answers="success")
    record, _ = drill.record()
    assert not record["proven"]
    assert "has left no facts" in record["reasons"][0]


def test_what_an_earlier_attempt_has_left_is_no_evidence(drill: Drill) -> None:
    drill.restore()
    drill.states["proven_restore.restore", -1] = "upstream_failed"
    drill.check(boots="upstream_failed", answers="upstream_failed")
    ti = drill.instance("record")
    ti.clear()
    record, _ = drill.record(ti=ti)
    assert (record["proven"], record["job_id"], record["made"]) == (False, None, [])


def test_each_try_and_each_attempt_has_names_of_its_own(azure: Emulator, drill: Drill) -> None:
    ti = drill.instance("restore", store=Store(), retries=1)
    azure.plan("vm-good", ending="Failed")
    for again in (lambda: ti, ti.retry, ti.clear):
        again()
        with pytest.raises(AzureBackupJobFailedError):
            drill.restore(ti)
    names = {job.request["targetVirtualMachineId"] for job in restores(azure)}
    assert len(names) == len(restores(azure)) == 3


def test_a_restore_of_somebody_else_is_never_taken_for_the_drills_own(azure: Emulator, drill: Drill) -> None:
    azure.start_job("vm-good", operation="Restore")
    with pytest.raises(AzureBackupBusyError):
        drill.restore()
    drill.dag = dag(if_running="wait")
    restored = drill.restore().xcoms["restored"]
    assert len(restores(azure)) == 2
    assert restored["job_id"] == restores(azure)[-1].id


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"restore_to": original_vm(storage_account_id=STAGING)}, "never restores in place"),
        ({"wait_for_completion": False}, "must wait for a restore"),
        ({"validate_only": True}, "must wait for a restore"),
        ({"if_running": "adopt"}, "expected 'fail' or 'wait'"),
        ({"restore_to": None, "request": {"objectType": "IaasVMRestoreRequest"}}, "only a target shows"),
        ({"restore_to": {**TARGET, "more": {"recoveryType": "OriginalLocation"}}}, "another place"),
    ],
)
def test_what_a_drill_must_not_do_is_refused_when_the_dag_is_parsed(
    arguments: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(AzureBackupConfigError, match=complaint):
        dag(**arguments)()


def test_in_a_mapped_task_group_each_index_has_a_record_of_its_own(
    azure: Emulator, clock: Any, drill: Drill
) -> None:
    items = ("fleet-01", "fleet-02")
    for item in items:
        azure.start_job(item)
    clock.advance(3000)

    def parse() -> DAG:
        with DAG("drill", schedule=None) as made:

            @task_group
            def one(vm: str) -> None:
                with proven_restore(vm, restore_to=TARGET, deferrable=False):
                    EmptyOperator(task_id="boots")

            one.expand(vm=[*items])
        return made

    drill.dag, drill.prefix = parse, "one.proven_restore"
    names = set()
    for index, item in enumerate(items):
        ti = drill.instance("restore", index, store=Store())
        drill.restore(ti, protected_item=item)
        names.add(ti.xcoms["name"])
    drill.check(0, boots="success")
    drill.check(1, boots="failed")
    first, second = (drill.record(index)[0] for index in (0, 1))
    assert (first["proven"], first["item"]) == (True, "fleet-01")
    assert (second["proven"], second["item"]) == (False, "fleet-02")
    assert len(names) == 2
    assert second["run"]["map_index"] == 1


@pytest.mark.parametrize("answers", ["success", "failed"])
def test_only_a_proven_restore_is_an_event(drill: Drill, answers: str) -> None:
    proven = Asset(name="payroll-restored", uri="payroll-restored")
    drill.dag = dag(outlets=[proven])
    events = OutletEventAccessors()
    drill.restore()
    drill.check(boots="success", answers=answers)
    record, failure = drill.record(events=events)
    # Airflow makes the event only if the task succeeds.
    assert (failure is None) is (answers == "success")
    assert events[proven].extra == ({"restore_record": record} if answers == "success" else {})


# --- a running restore of which no record is left, as after a Clear on Airflow 3.4


def lose(azure: Emulator, clock: Any, drill: Drill, ti: Any) -> str:
    """Begin a restore and lose the try with the job running; return the id of the job."""
    end = clock() + 60
    with (
        clocks.running_on(Mortal(clock, lambda: clock() >= end)),
        pytest.raises((TaskDeferred, WorkerDiedError)),
    ):
        drill.task("restore").execute(ti.context)
    return str(restores(azure)[-1].id)


@pytest.mark.parametrize("store", [True, False], ids=["3.4", "below 3.3"])
@pytest.mark.parametrize("again", ["retry", "clear"])
def test_a_running_restore_is_recognised_by_its_name_alone(
    azure: Emulator, clock: Any, drill: Drill, store: bool, again: str
) -> None:
    ti = drill.instance("restore", store=Store() if store else None, retries=1)
    job_id = lose(azure, clock, drill, ti)
    if store:
        ti.store.clear()  # as Airflow 3.4 does on a Clear
    drill.restore(getattr(ti, again)())
    assert [job.id for job in restores(azure)] == [job_id]
    drill.check(boots="success", answers="success")
    instance = drill.instance("record")
    instance.dag_run = ti.dag_run
    record, failure = drill.record(ti=instance)
    assert (failure, record["proven"], record["job_id"]) == (None, True, job_id)
    machine = restores(azure)[0].request["targetVirtualMachineId"]
    assert record["made"][0]["arm_id"] == machine
    assert record["rpo_seconds"] == pytest.approx(3000, abs=100)


def test_a_restore_to_another_place_is_never_recognised(azure: Emulator, clock: Any, drill: Drill) -> None:
    ti = drill.instance("restore", store=Store())
    lose(azure, clock, drill, ti)
    ti.store.clear()
    elsewhere = new_vm(vm_id=f"{MACHINE}2", subnet_id=SUBNET, storage_account_id=STAGING)
    drill.dag = dag(restore_to=elsewhere)
    with pytest.raises(AzureBackupBusyError, match="if_running='wait'"):
        drill.restore(ti.clear())
    assert len(restores(azure)) == 1


def test_a_restore_that_azure_shows_no_name_of_is_not_recognised_and_the_error_says_so(
    azure: Emulator, clock: Any, drill: Drill
) -> None:
    drill.dag = dag(restore_to=disks(storage_account_id=STAGING))
    ti = drill.instance("restore", store=Store())
    lose(azure, clock, drill, ti)
    ti.store.clear()
    with pytest.raises(
        AzureBackupBusyError, match=r"nothing by which it could be recognised .*if_running='wait'"
    ):
        drill.restore(ti.clear())
    drill.dag = dag(restore_to=disks(storage_account_id=STAGING), if_running="wait")
    drill.restore(ti.clear())
    first, second = restores(azure)
    assert second.starts >= first.finish()[0]

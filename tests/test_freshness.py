"""Gates on the scheduled backup: no job id, whoever has taken it, in three modes with one meaning."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowSensorTimeout, AirflowSkipException, TaskDeferred

from airflow_provider_azbackup.emulator import Emulator
from airflow_provider_azbackup.exceptions import AzureBackupAuthError, AzureBackupConfigError
from airflow_provider_azbackup.sensors import AzureBackupFreshnessSensor
from tests.tasks import TaskInstance, fire, run

MODES: dict[str, dict[str, Any]] = {
    "poke": {"poke_interval": 0.001},
    "deferred": {"deferrable": True},
}
BOTH = pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
ITEMS = ["vm-good", "documents", "payroll", "systemdb"]


def ago(clock: Any, seconds: float) -> datetime:
    return datetime.fromtimestamp(clock() - seconds, UTC)


def gate(item: str = "vm-good", ti: TaskInstance | None = None, **arguments: Any) -> Any:
    return run(
        lambda: AzureBackupFreshnessSensor(
            **{
                "task_id": "gate",
                "protected_item": item,
                "deferrable": False,
                "timeout": 7200,
                **arguments,
            }
        ),
        ti or TaskInstance(),
    )


def over(azure: Emulator, clock: Any, item: str, ending: str = "Completed") -> str:
    """Last night's backup."""
    job_id = azure.start_job(item, ending=ending, seconds=30)
    clock.advance(60)
    return job_id


@BOTH
@pytest.mark.parametrize("item", ITEMS)
def test_a_backup_since_then_opens(azure: Emulator, clock: Any, item: str, mode: dict[str, Any]) -> None:
    ti, job_id = TaskInstance(), over(azure, clock, item)
    assert gate(item, ti, since=ago(clock, 3600), **mode) == job_id
    assert ti.xcoms["job_id"] == ti.xcoms["job"]["job_id"] == job_id
    assert {"azure_backup_job_url", "azure_backup_vault_url"} <= set(ti.xcoms)


@BOTH
def test_one_that_began_before_is_not_fresh_and_nobody_tried_another(
    azure: Emulator, clock: Any, mode: dict[str, Any]
) -> None:
    over(azure, clock, "vm-good")
    with pytest.raises(AirflowSensorTimeout, match="no backup was even tried"):
        gate(since=ago(clock, 20), timeout=0.05 if "poke_interval" in mode else 600, **mode)


@pytest.mark.parametrize("item", ITEMS)
def test_a_running_backup_is_waited_for(azure: Emulator, clock: Any, item: str) -> None:
    job_id = azure.start_job(item, seconds=900)
    began = clock()
    assert gate(item, since=ago(clock, 3600), deferrable=True) == job_id
    assert 880 < clock() - began < 1100


def test_a_backup_that_begins_during_the_wait_opens(azure: Emulator, clock: Any) -> None:
    azure.plan("vm-good", visible_after=600.0)  # what no list shows is not there
    job_id = azure.start_job("vm-good", seconds=900)
    assert gate(since=ago(clock, 60), deferrable=True) == job_id


@BOTH
@pytest.mark.parametrize("ending", ["Failed", "Cancelled", "CompletedWithWarnings", "CancelledInTransfer"])
def test_one_that_proves_nothing_keeps_the_gate_shut_and_is_named_at_the_end(
    azure: Emulator, clock: Any, ending: str, mode: dict[str, Any]
) -> None:
    job_id = over(azure, clock, "vm-good", ending)
    with pytest.raises(AirflowSensorTimeout, match=rf"{job_id} \(Backup of vm-good in demo-vms\)"):
        gate(
            since=ago(clock, 3600),
            timeout=0.05 if "poke_interval" in mode else 600,
            # Forgives waits, not failures.
            soft_fail=True,
            **mode,
        )


@BOTH
def test_a_success_after_a_failure_opens_whichever_a_list_shows_first(
    azure: Emulator, clock: Any, mode: dict[str, Any]
) -> None:
    over(azure, clock, "vm-good", "Failed")
    good = over(azure, clock, "vm-good")
    over(azure, clock, "vm-good", "Failed")
    assert gate(since=ago(clock, 3600), **mode) == good


def test_after_a_failure_the_next_backup_is_waited_for(azure: Emulator, clock: Any) -> None:
    azure.start_job("vm-good", ending="Failed", seconds=120)
    azure.plan("vm-good", visible_after=400.0)
    good = azure.start_job("vm-good", seconds=900)
    ti = TaskInstance()
    assert gate(ti=ti, since=ago(clock, 60), deferrable=True) == good
    assert [len(each["known"]) for each in ti.deferred_with] == [0, 1]


@BOTH
def test_warnings_pass_where_they_are_accepted_unless_it_was_cancelled(
    azure: Emulator, clock: Any, mode: dict[str, Any]
) -> None:
    since = ago(clock, 60)
    warned = over(azure, clock, "vm-warned", "CompletedWithWarnings")
    assert gate("vm-warned", since=since, accept_warnings=True, **mode) == warned
    over(azure, clock, "vm-cancelled", "CancelledInTransfer")
    short = {"timeout": 0.05 if "poke_interval" in mode else 600}
    with pytest.raises(AirflowSensorTimeout):
        gate("vm-cancelled", since=since, accept_warnings=True, **short, **mode)


@BOTH
def test_a_wait_in_which_nothing_was_tried_may_be_forgiven(azure: Emulator, mode: dict[str, Any]) -> None:
    with pytest.raises(AirflowSkipException):
        gate(
            since="2026-01-01",
            soft_fail=True,
            timeout=0.05 if "poke_interval" in mode else 600,
            **mode,
        )


def test_a_restore_or_the_backup_of_another_item_is_no_backup_of_this_one(
    azure: Emulator, clock: Any
) -> None:
    azure.start_job("vm-good", operation="Restore", seconds=10)
    for other in ("vm-warned", "documents", azure.service.world.named("twin")[1].path):
        azure.start_job(other, seconds=10)
    clock.advance(60)
    with pytest.raises(AirflowSensorTimeout, match="no backup was even tried"):
        gate(azure.service.world.named("twin")[0].path, since=ago(clock, 3600), timeout=0.05)
    with pytest.raises(AirflowSensorTimeout, match="no backup was even tried"):
        gate(since=ago(clock, 3600), timeout=0.05)


@BOTH
def test_databases_that_jobs_do_not_tell_apart_are_refused(azure: Emulator, mode: dict[str, Any]) -> None:
    with pytest.raises(AzureBackupConfigError, match="same name on the same server"):
        gate(azure.service.world.named("msdb")[0].path, since="2026-01-01", **mode)


@BOTH
def test_the_point_of_the_backup_may_be_asked_for(azure: Emulator, clock: Any, mode: dict[str, Any]) -> None:
    ti, job_id = TaskInstance(), over(azure, clock, "vm-good")
    wanted = {"require_recovery_point": True, "min_tier": "HardenedRP"}
    assert gate(ti=ti, since=ago(clock, 3600), **wanted, **mode) == job_id
    assert ti.xcoms["recovery_point"]["tiers"]["HardenedRP"] == "Valid"


# Age


@BOTH
def test_a_point_that_is_young_enough_opens_at_once(
    azure: Emulator, clock: Any, mode: dict[str, Any]
) -> None:
    over(azure, clock, "vm-good")
    ti = TaskInstance()
    point = gate(ti=ti, max_age=timedelta(hours=1), **mode)
    assert point == ti.xcoms["recovery_point"]["arm_id"]
    assert not ti.deferred_with
    assert not azure.count("GET", "/backupJobs")


@BOTH
def test_an_old_point_does_not(azure: Emulator, clock: Any, mode: dict[str, Any]) -> None:
    over(azure, clock, "vm-good")
    clock.advance(7200)
    with pytest.raises(AirflowSensorTimeout, match="no backup was even tried"):
        gate(max_age=3600, timeout=0.05 if "poke_interval" in mode else 600, **mode)


def test_without_a_young_point_the_next_backup_is_waited_for_until_its_point_is_good(
    azure: Emulator, clock: Any
) -> None:
    azure.start_job("vm-good")
    azure.start_job("vm-warned")
    began, ti = clock(), TaskInstance()
    gate(ti=ti, max_age=3600, deferrable=True)
    assert ti.xcoms["recovery_point"]["tiers"] == {"InstantRP": "Valid"}
    assert clock() - began < 1000  # behind the snapshot, as a look at the points finds it
    gate("vm-warned", ti, max_age=3600, min_tier="InstantRP", deferrable=True)
    gate(ti=ti, max_age=7200, min_tier="HardenedRP", deferrable=True)
    assert ti.xcoms["recovery_point"]["tiers"]["HardenedRP"] == "Valid"
    assert clock() - began > 2400


@BOTH
def test_a_point_counts_however_its_backup_ended_unless_it_must_be_in_the_vault(
    azure: Emulator, clock: Any, mode: dict[str, Any]
) -> None:
    over(azure, clock, "vm-cancelled", "CancelledInTransfer")
    ti = TaskInstance()
    assert gate("vm-cancelled", ti, max_age=3600, **mode) == ti.xcoms["recovery_point"]["arm_id"]
    assert ti.xcoms["recovery_point"]["tiers"] == {"InstantRP": "Valid"}
    short = {"timeout": 0.05 if "poke_interval" in mode else 600}
    with pytest.raises(AirflowSensorTimeout, match="CompletedWithWarnings"):
        gate("vm-cancelled", max_age=3600, min_tier="HardenedRP", soft_fail=True, **short, **mode)


# Faults, and what is wrong


@BOTH
def test_an_outage_is_waited_out(azure: Emulator, clock: Any, mode: dict[str, Any]) -> None:
    job_id = over(azure, clock, "documents")
    azure.fault(path="/backup", times=4, status=503)
    assert gate("documents", since=ago(clock, 3600), **mode) == job_id


@BOTH
def test_who_may_not_list_jobs_is_told_so(
    azure: Emulator, connect: Callable[..., None], mode: dict[str, Any]
) -> None:
    connect(azure.connection(principal="nobody"))
    with pytest.raises(AzureBackupAuthError, match="backupJobs/read"):
        gate(azure.service.world.named("vm-good")[0].path, since="2026-01-01", **mode)


@BOTH
def test_not_being_able_to_look_may_be_forgiven(
    azure: Emulator, connect: Callable[..., None], mode: dict[str, Any]
) -> None:
    connect(azure.connection(principal="nobody"))
    with pytest.raises(AirflowSkipException):
        gate(azure.service.world.named("vm-good")[0].path, since="2026-01-01", never_fail=True, **mode)


def test_many_waits_on_a_vault_share_their_lists(azure: Emulator, clock: Any) -> None:
    """Twenty that wait for twenty machines list no more often than one does."""
    machines = [f"fleet-{number:02}" for number in range(1, 21)]
    for machine in machines:
        azure.start_job(machine, seconds=1200)
    triggers = [_deferred(machine, ago(clock, 60)) for machine in machines]

    async def wait() -> list[Any]:
        return await asyncio.gather(*(fire(path, kwargs) for path, kwargs in triggers))

    events = asyncio.run(wait())
    assert all(event["job"]["body"]["properties"]["status"] == "Completed" for event in events)
    assert azure.count("GET", "/backupJobs") < 40


def _deferred(machine: str, since: datetime) -> tuple[str, dict[str, Any]]:
    sensor = AzureBackupFreshnessSensor(
        task_id="gate", protected_item=machine, since=since, deferrable=True, timeout=7200
    )
    with pytest.raises(TaskDeferred) as deferred:
        sensor.execute(TaskInstance().context)
    path, kwargs = deferred.value.trigger.serialize()
    return path, json.loads(json.dumps(kwargs))


@pytest.mark.parametrize("since", ["", "None"])
def test_a_run_without_a_data_interval_is_told_what_to_give(azure: Emulator, since: str) -> None:
    with pytest.raises(AzureBackupConfigError, match="no data interval; give since or max_age"):
        sensor = AzureBackupFreshnessSensor(task_id="gate", protected_item="vm-good", deferrable=False)
        sensor.since = since  # as Airflow renders a data_interval_start that is not there
        sensor.execute(TaskInstance().context)


def test_since_is_the_start_of_the_data_interval() -> None:
    sensor = AzureBackupFreshnessSensor(task_id="gate", protected_item="vm-good")
    assert sensor.since == "{{ data_interval_start }}"
    assert "since" in sensor.template_fields


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"since": "2026-01-01", "max_age": 60}, "both of since and max_age"),
        ({"max_age": 0}, "max_age"),
        ({"max_age": timedelta(seconds=-5)}, "max_age"),
        ({"since": "yesterday"}, "'yesterday' is not a moment"),
        ({"protected_item": " "}, "protected_item"),
        ({"min_tier": "InstantRP"}, "require_recovery_point=True"),
    ],
)
def test_what_is_wrong_is_told_when_the_dag_is_parsed(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(AzureBackupConfigError, match=told):
        AzureBackupFreshnessSensor(**{"task_id": "gate", "protected_item": "vm-good", **arguments})

"""Gates on the scheduled backup: no job id, no matter who took it, in three modes with one meaning."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowSensorTimeout, AirflowSkipException, TaskDeferred

from airflow_provider_azbackup.exceptions import (
    AzureBackupAuthError,
    AzureBackupConfigError,
    AzureBackupNotFoundError,
)
from airflow_provider_azbackup.sensors import AzureBackupFreshnessSensor
from azure_backup_emulator import Emulator
from tests.support.tasks import TaskInstance, fire, run

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
    assert gate(item, ti, newer_than=ago(clock, 3600), **mode) == job_id
    assert ti.xcoms["job_id"] == ti.xcoms["job"]["job_id"] == job_id
    assert {"azure_backup_job_url", "azure_backup_vault_url"} <= set(ti.xcoms)


@BOTH
def test_one_that_began_before_is_not_fresh_and_nobody_tried_another(
    azure: Emulator, clock: Any, mode: dict[str, Any]
) -> None:
    over(azure, clock, "vm-good")
    with pytest.raises(AirflowSensorTimeout, match="no backup was even tried"):
        gate(newer_than=ago(clock, 20), timeout=0.05 if "poke_interval" in mode else 600, **mode)


@pytest.mark.parametrize("item", ITEMS)
def test_a_running_backup_is_waited_for(azure: Emulator, clock: Any, item: str) -> None:
    job_id = azure.start_job(item, seconds=900)
    began = clock()
    assert gate(item, newer_than=ago(clock, 3600), deferrable=True) == job_id
    assert 880 < clock() - began < 1100


def test_a_backup_that_begins_during_the_wait_opens(azure: Emulator, clock: Any) -> None:
    azure.plan("vm-good", visible_after=600.0)  # what no list shows is not there
    job_id = azure.start_job("vm-good", seconds=900)
    assert gate(newer_than=ago(clock, 60), deferrable=True) == job_id


@BOTH
@pytest.mark.parametrize("ending", ["Failed", "Cancelled", "CompletedWithWarnings", "CancelledInTransfer"])
def test_one_that_proves_nothing_keeps_the_gate_shut_and_is_named_at_the_end(
    azure: Emulator, clock: Any, ending: str, mode: dict[str, Any]
) -> None:
    job_id = over(azure, clock, "vm-good", ending)
    with pytest.raises(AirflowSensorTimeout, match=rf"{job_id} \(Backup of vm-good in demo-vms\)"):
        gate(
            newer_than=ago(clock, 3600),
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
    assert gate(newer_than=ago(clock, 3600), **mode) == good


def test_after_a_failure_the_next_backup_is_waited_for(azure: Emulator, clock: Any) -> None:
    azure.start_job("vm-good", ending="Failed", seconds=120)
    azure.plan("vm-good", visible_after=400.0)
    good = azure.start_job("vm-good", seconds=900)
    ti = TaskInstance()
    assert gate(ti=ti, newer_than=ago(clock, 60), deferrable=True) == good
    assert [len(each["known"]) for each in ti.deferred_with] == [0, 1]


@BOTH
def test_warnings_pass_where_they_are_accepted_unless_it_was_cancelled(
    azure: Emulator, clock: Any, mode: dict[str, Any]
) -> None:
    since = ago(clock, 60)
    warned = over(azure, clock, "vm-warned", "CompletedWithWarnings")
    assert gate("vm-warned", newer_than=since, accept_warnings=True, **mode) == warned
    over(azure, clock, "vm-cancelled", "CancelledInTransfer")
    short = {"timeout": 0.05 if "poke_interval" in mode else 600}
    with pytest.raises(AirflowSensorTimeout):
        gate("vm-cancelled", newer_than=since, accept_warnings=True, **short, **mode)


@BOTH
def test_a_wait_in_which_nothing_was_tried_may_be_forgiven(azure: Emulator, mode: dict[str, Any]) -> None:
    with pytest.raises(AirflowSkipException):
        gate(
            newer_than="2026-01-01",
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
        gate(azure.service.world.named("twin")[0].path, newer_than=ago(clock, 3600), timeout=0.05)
    with pytest.raises(AirflowSensorTimeout, match="no backup was even tried"):
        gate(newer_than=ago(clock, 3600), timeout=0.05)


@BOTH
def test_databases_that_jobs_do_not_tell_apart_are_refused(azure: Emulator, mode: dict[str, Any]) -> None:
    with pytest.raises(
        AzureBackupConfigError, match="cannot be distinguished from those of SQLDataBase;reports;msdb in "
    ):
        gate(azure.service.world.named("msdb")[0].path, newer_than="2026-01-01", **mode)


@BOTH
def test_the_point_of_the_backup_may_be_asked_for(azure: Emulator, clock: Any, mode: dict[str, Any]) -> None:
    ti, job_id = TaskInstance(), over(azure, clock, "vm-good")
    wanted = {"require_recovery_point": True, "min_tier": "HardenedRP"}
    assert gate(ti=ti, newer_than=ago(clock, 3600), **wanted, **mode) == job_id
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
    assert clock() - began < 1000  # after the snapshot, as a look at the points finds it
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
    assert gate("documents", newer_than=ago(clock, 3600), **mode) == job_id


@BOTH
def test_who_may_not_look_is_told_which_right_is_missing(
    azure: Emulator, connect: Callable[..., None], mode: dict[str, Any]
) -> None:
    connect(azure.connection(principal="nobody"))
    with pytest.raises(AzureBackupAuthError, match="protectedItems/read"):
        gate(azure.service.world.named("vm-good")[0].path, newer_than="2026-01-01", **mode)


@BOTH
def test_not_being_able_to_look_may_be_forgiven(
    azure: Emulator, connect: Callable[..., None], mode: dict[str, Any]
) -> None:
    connect(azure.connection(principal="nobody"))
    with pytest.raises(AirflowSkipException):
        gate(azure.service.world.named("vm-good")[0].path, newer_than="2026-01-01", never_fail=True, **mode)


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
        task_id="gate", protected_item=machine, newer_than=since, deferrable=True, timeout=7200
    )
    with pytest.raises(TaskDeferred) as deferred:
        sensor.execute(TaskInstance().context)
    path, kwargs = deferred.value.trigger.serialize()
    return path, json.loads(json.dumps(kwargs))


@pytest.mark.parametrize("newer_than", ["", "None"])
def test_a_template_that_comes_to_nothing_is_no_default(azure: Emulator, newer_than: str) -> None:
    with pytest.raises(AzureBackupConfigError, match="newer_than of task 'gate' came to nothing in this run"):
        sensor = AzureBackupFreshnessSensor(
            task_id="gate", protected_item="vm-good", newer_than="{{ x }}", deferrable=False
        )
        sensor.newer_than = newer_than  # as Airflow renders what is not there
        sensor.execute(TaskInstance().context)


NOON = datetime(2026, 9, 20, 12, tzinfo=UTC)


def looked_since(since: Any = None, **of_run: datetime) -> datetime:
    """Return since when a gate looks for a backup, in a run that has such moments."""
    ti = TaskInstance()
    for name, moment in of_run.items():
        setattr(ti.dag_run, name, moment)
    sensor = AzureBackupFreshnessSensor(
        task_id="gate", protected_item="vm-good", newer_than=since, deferrable=True, timeout=7200
    )
    with pytest.raises(TaskDeferred) as deferred:
        sensor.execute(ti.context)
    return datetime.fromtimestamp(deferred.value.trigger.serialize()[1]["after"], UTC)


@pytest.mark.parametrize(
    ("newer_than", "of_run", "expected"),
    [
        # A scheduled run, and one that a person starts at a later moment of the same day.
        (None, {"data_interval_start": -24, "data_interval_end": 0, "run_after": 0}, -24),
        (None, {"data_interval_start": -24, "data_interval_end": 0, "run_after": 3}, -24),
        # airflow dags trigger, the REST API and assets on Airflow 3: no logical date, no data interval.
        (None, {"run_after": 3}, 3),
        (12, {"run_after": 3}, -9),
        (12, {"data_interval_start": -24, "data_interval_end": 0, "run_after": 0}, -12),
        (12, {"data_interval_start": -24, "data_interval_end": 0, "run_after": 3}, -9),
        # Airflow 2: a run that a person starts has the moment as its logical date.
        (12, {"data_interval_start": -24, "data_interval_end": 0, "logical_date": 3}, -9),
        (12, {"data_interval_start": -24, "data_interval_end": 0, "logical_date": -24}, -12),
        (0, {"run_after": 3}, 3),
    ],
)
def test_every_run_has_a_moment_since_which_a_backup_counts(
    azure: Emulator, newer_than: int | None, of_run: dict[str, int], expected: int
) -> None:
    ago = None if newer_than is None else timedelta(hours=newer_than)
    moments = {name: NOON + timedelta(hours=hours) for name, hours in of_run.items()}
    assert looked_since(ago, **moments) == NOON + timedelta(hours=expected)


def test_a_run_of_which_only_its_start_is_known_begins_there(azure: Emulator) -> None:
    assert looked_since() == TaskInstance().dag_run.start_date


@pytest.mark.parametrize(
    ("zone", "hour"), [("utc", 12), ("Europe/Berlin", 10), ("America/New_York", 16), ("Asia/Kolkata", 6.5)]
)
@pytest.mark.parametrize("newer_than", ["2026-09-20T12:00", datetime(2026, 9, 20, 12)])
def test_a_moment_without_a_time_zone_is_in_airflows(
    azure: Emulator, monkeypatch: pytest.MonkeyPatch, newer_than: Any, zone: str, hour: float
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__DEFAULT_TIMEZONE", zone)
    assert looked_since(newer_than) == datetime(2026, 9, 20, tzinfo=UTC) + timedelta(hours=hour)
    assert looked_since("2026-09-20T12:00+00:00") == NOON


def test_a_moment_without_a_time_zone_is_in_that_of_the_computer_when_airflow_says_so(
    azure: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__DEFAULT_TIMEZONE", "system")
    naive = NOON.replace(tzinfo=None)
    assert looked_since(naive.isoformat()) == naive.astimezone(UTC)


@pytest.mark.parametrize("name", ["vm-good", "by VM", "by item"])
@pytest.mark.parametrize(
    "what", [{"newer_than": timedelta(days=30)}, {"max_age": timedelta(days=1)}], ids=str
)
@BOTH
def test_a_gate_on_an_item_whose_data_is_soft_deleted_stays_shut_and_says_when_it_is_purged(
    azure: Emulator, clock: Any, name: str, what: dict[str, Any], mode: dict[str, Any]
) -> None:
    over(azure, clock, "vm-good", "Completed")
    item = azure.service.world.named("vm-good")[0]
    azure.protect("vm-good", state="ProtectionStopped", deleted_ago=1800.0)
    given = {"vm-good": "vm-good", "by VM": item.source_id, "by item": item.path}[name]
    purged = datetime.fromtimestamp(clock() - 1800.0, UTC) + timedelta(days=14)
    with pytest.raises(
        AzureBackupNotFoundError, match=f"soft-deleted and is purged at {purged:%Y-%m-%dT%H:%M}"
    ):
        gate(item=given, soft_fail=True, **what, **mode)


def test_a_gate_stays_shut_when_the_data_is_deleted_while_it_waits(azure: Emulator, clock: Any) -> None:
    azure.start_job("vm-good", seconds=900)
    sensor = AzureBackupFreshnessSensor(
        task_id="gate", protected_item="vm-good", newer_than=ago(clock, 3600), deferrable=True, timeout=7200
    )
    ti = TaskInstance()
    with pytest.raises(TaskDeferred) as deferred:
        sensor.execute(ti.context)
    path, kwargs = deferred.value.trigger.serialize()
    event = asyncio.run(fire(path, json.loads(json.dumps(kwargs))))
    azure.protect("vm-good", deleted_ago=0.0)
    with pytest.raises(
        AzureBackupNotFoundError, match="nothing of vm-good can be restored before an undelete"
    ):
        sensor.execute_complete(ti.context, event=event, **deferred.value.kwargs)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"newer_than": "2026-01-01", "max_age": 60}, "both of newer_than and max_age"),
        ({"max_age": 0}, "max_age"),
        ({"newer_than": timedelta(seconds=-1)}, "a timedelta that is not negative"),
        ({"max_age": timedelta(seconds=-5)}, "max_age"),
        ({"newer_than": "yesterday"}, "'yesterday' is not a date and time"),
        ({"protected_item": " "}, "protected_item"),
        ({"min_tier": "InstantRP"}, "require_recovery_point=True"),
    ],
)
def test_what_is_wrong_is_told_when_the_dag_is_parsed(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(AzureBackupConfigError, match=told):
        AzureBackupFreshnessSensor(**{"task_id": "gate", "protected_item": "vm-good", **arguments})

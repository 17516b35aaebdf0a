"""What a task has proved reaches what is scheduled by its outlets, in every mode."""

from __future__ import annotations

import json
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import Asset

from airflow_provider_azbackup.exceptions import AzureBackupJobFailedError
from airflow_provider_azbackup.operators import AzureBackupOperator, AzureBackupRestoreOperator
from airflow_provider_azbackup.restore_to import disks
from airflow_provider_azbackup.sensors import AzureBackupFreshnessSensor, AzureBackupJobSensor
from azure_backup_emulator import Emulator
from tests.support.tasks import TaskInstance, run

try:
    from airflow.sdk import AssetAlias
    from airflow.sdk.execution_time.context import OutletEventAccessors
except ImportError:
    pytest.skip("the accessors of Airflow 3", allow_module_level=True)

BACKUPS = Asset("backups")
MODES = pytest.mark.parametrize("deferrable", [True, False])


class Task(TaskInstance):
    """With outlets: what they are given lasts no longer than one process of a worker."""

    def __init__(self) -> None:
        super().__init__()
        self.events = OutletEventAccessors()

    @property
    def context(self) -> dict[str, Any]:
        self.events = OutletEventAccessors()
        return {**super().context, "outlet_events": self.events}

    def told(self, outlet: Any = BACKUPS) -> dict[str, Any]:
        extra = dict(self.events[outlet].extra)
        json.dumps(extra)
        return extra


@MODES
def test_an_operator_tells_its_job_and_its_recovery_point(azure: Emulator, deferrable: bool) -> None:
    azure.plan("vm-good", seconds=600)
    ti = Task()
    job_id = run(
        lambda: AzureBackupOperator(
            task_id="backup",
            protected_item="vm-good",
            require_recovery_point=True,
            deferrable=deferrable,
            outlets=[BACKUPS],
        ),
        ti,
    )
    told = ti.told()
    assert (told["job_id"], told["item"], told["outcome"]) == (job_id, "vm-good", "succeeded")
    assert told["start_time"] < told["end_time"]
    assert told["size_bytes"] > 2**20
    assert told["recovery_point"] == ti.xcoms["recovery_point"]
    assert azure.connection()["password"] not in json.dumps(told)


@MODES
def test_a_sensor_tells_its_job(azure: Emulator, clock: Any, deferrable: bool) -> None:
    job_id = azure.start_job("vm-good", seconds=300)
    clock.advance(0 if deferrable else 600)  # what waits in a worker waits by Airflow's clock
    ti = Task()
    run(
        lambda: AzureBackupJobSensor(
            task_id="wait", job_id=job_id, poke_interval=30, deferrable=deferrable, outlets=[BACKUPS]
        ),
        ti,
    )
    assert ti.told()["job_id"] == job_id


@MODES
def test_a_freshness_sensor_tells_the_backup_that_was_fresh(
    azure: Emulator, clock: Any, deferrable: bool
) -> None:
    job_id = azure.start_job("vm-good", seconds=300)
    clock.advance(0 if deferrable else 600)  # as above
    ti = Task()
    run(
        lambda: AzureBackupFreshnessSensor(
            task_id="wait",
            protected_item="vm-good",
            newer_than="2026-09-20T00:00:00Z",
            poke_interval=60,
            deferrable=deferrable,
            outlets=[BACKUPS],
        ),
        ti,
    )
    assert ti.told()["job_id"] == job_id


def test_a_recovery_point_alone_is_told_as_well(azure: Emulator, clock: Any) -> None:
    azure.start_job("vm-good", seconds=60)
    clock.advance(600)
    ti = Task()
    point = run(
        lambda: AzureBackupFreshnessSensor(
            task_id="wait", protected_item="vm-good", max_age=86400.0, outlets=[BACKUPS]
        ),
        ti,
    )
    assert ti.told()["recovery_point"]["arm_id"] == point


def test_a_restore_tells_its_job(azure: Emulator, clock: Any) -> None:
    azure.start_job("vm-good", seconds=60)
    clock.advance(600)
    ti = Task()
    storage = (
        "/subscriptions/00000000-0000-0000-0000-00000000d3a0/resourceGroups/demo-rg"
        "/providers/Microsoft.Storage/storageAccounts/staging"
    )
    run(
        lambda: AzureBackupRestoreOperator(
            task_id="restore",
            protected_item="vm-good",
            restore_to=disks(storage_account_id=storage),
            outlets=[BACKUPS],
        ),
        ti,
    )
    assert ti.told()["operation"] == "Restore"


def test_a_failed_backup_tells_nothing(azure: Emulator) -> None:
    azure.plan("vm-good", seconds=60, ending="Failed")
    ti = Task()
    with pytest.raises(AzureBackupJobFailedError):
        run(lambda: AzureBackupOperator(task_id="b", protected_item="vm-good", outlets=[BACKUPS]), ti)
    assert len(ti.events) == 0


def test_outlets_that_take_nothing_do_not_fail_a_good_backup(azure: Emulator) -> None:
    azure.plan("vm-good", seconds=60)
    outlets = [AssetAlias("later"), BACKUPS]
    ti = TaskInstance()  # whose context knows no outlets at all
    assert run(lambda: AzureBackupOperator(task_id="b", protected_item="vm-good", outlets=outlets), ti)
    with_events = Task()
    azure.plan("vm-good", seconds=60)
    assert run(
        lambda: AzureBackupOperator(task_id="b", protected_item="vm-good", outlets=outlets), with_events
    )
    assert with_events.told()["item"] == "vm-good"

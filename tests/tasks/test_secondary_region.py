"""The secondary region of a vault, whose own region answers 503 to everything in most of these tests."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_azbackup.operators import AzureBackupRestoreOperator
from airflow_provider_azbackup.restore_to import disks, new_database, new_vm, other_database, other_share
from airflow_provider_azbackup.sensors import AzureBackupJobSensor
from azure_backup_emulator import Emulator
from tests.support.tasks import Store, TaskInstance, run

HERE, THERE = "westeurope", "northeurope"
GROUP = "/subscriptions/00000000-0000-0000-0000-00000000d3a0/resourceGroups/demo-rg"
BACKUP_VAULT = {"vault_name": "demo-backup-vault", "vault_type": "DataProtection"}
MODES: dict[str, dict[str, Any]] = {
    "poke": {"deferrable": False, "poke_interval": 0.001},
    "reschedule": {"deferrable": False, "mode": "reschedule"},
    "deferrable": {"deferrable": True},
}
JOBS = {"Recovery Services": ("vm-good", {}), "Backup vault": ("orders", BACKUP_VAULT)}


@pytest.fixture(autouse=True)
def _outage(azure: Emulator) -> None:
    azure.configure(down_regions=[HERE])


def wait(job_id: str, ti: TaskInstance | None = None, **arguments: Any) -> Any:
    arguments = {"secondary_region": True, "timeout": 3600, **arguments}
    return run(lambda: AzureBackupJobSensor(task_id="gate", job_id=job_id, **arguments), ti or TaskInstance())


def asked_here(azure: Emulator) -> list[str]:
    """The paths of requests that the region of the vault has answered, or failed to."""
    return [each["path"] for each in azure.requests if each["status"] == 503]


@pytest.mark.parametrize(("item", "vault"), JOBS.values(), ids=JOBS)
@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
def test_the_sensor_follows_a_restore_in_the_secondary_region(
    azure: Emulator, clock: Any, item: str, vault: dict[str, Any], mode: dict[str, Any]
) -> None:
    job_id = azure.start_job(item, operation="CrossRegionRestore", seconds=10)
    clock.advance(20)
    ti = TaskInstance()
    assert wait(job_id, ti, **vault, **mode) == job_id
    assert ti.xcoms["job"]["outcome"] == "succeeded"
    assert asked_here(azure) == []


STORAGE = f"{GROUP}/providers/Microsoft.Storage/storageAccounts/elsewhere"
MACHINE = f"{GROUP}/providers/Microsoft.Compute/virtualMachines/drill"
NETWORK = f"{GROUP}/providers/Microsoft.Network/virtualNetworks/net"
SERVER = f"{GROUP}/providers/Microsoft.DBforPostgreSQL/servers/elsewhere"
DISKS = disks(storage_account_id=STORAGE, resource_group_id=GROUP)
CELLS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "disks of a VM": ("vm-good", {}, {"restore_to": DISKS}),
    "new VM": (
        "vm-good",
        {},
        {
            "restore_to": new_vm(
                vm_id=MACHINE, subnet_id=f"{NETWORK}/subnets/default", storage_account_id=STORAGE
            )
        },
    ),
    "file share": (
        "documents",
        {},
        {"restore_to": other_share(storage_account_id=STORAGE, share="drill", copy_options="Overwrite")},
    ),
    "SQL": ("payroll", {}, {"restore_to": other_database(database="MSSQLSERVER/drill", vm_id=MACHINE)}),
    "SAP HANA": ("systemdb", {}, {"restore_to": other_database(database="HXE/DRILL", vm_id=MACHINE)}),
    "PostgreSQL": (
        "demo-pg/orders",
        BACKUP_VAULT,
        {"restore_to": new_database(database_id=f"{SERVER}/databases/drill")},
    ),
}


@pytest.mark.parametrize(("item", "vault", "asked"), CELLS.values(), ids=CELLS)
@pytest.mark.parametrize("deferrable", [False, True], ids=["worker", "deferrable"])
def test_a_restore_completes_while_the_region_of_the_vault_is_down(
    azure: Emulator,
    clock: Any,
    item: str,
    vault: dict[str, Any],
    asked: dict[str, Any],
    deferrable: bool,
) -> None:
    azure.start_job(item.rpartition("/")[2])
    clock.advance(6 * 3600)
    ti = TaskInstance(store=Store())
    job_id = restore(ti, item, deferrable=deferrable, **vault, **asked)
    job = azure.service.world.jobs[job_id]
    assert (job.operation, job.region) == ("Restore", THERE)
    assert ti.xcoms["job"]["outcome"] == "succeeded"
    assert asked_here(azure) == []


def restore(ti: TaskInstance, item: str = "vm-good", **arguments: Any) -> Any:
    arguments = {"restore_to": DISKS, "secondary_region": True, "poll_interval": 600, **arguments}
    return run(lambda: AzureBackupRestoreOperator(task_id="restore", protected_item=item, **arguments), ti)

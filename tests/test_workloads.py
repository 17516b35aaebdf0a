"""What can be done for which workload: every cell of the table in docs/workloads.md, done."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from airflow_provider_azbackup.core.rest.requests import utc_datetime
from airflow_provider_azbackup.drill import AzureBackupDrillRestoreOperator
from airflow_provider_azbackup.exceptions import AzureBackupConfigError, AzureBackupNotFoundError
from airflow_provider_azbackup.operators import (
    AzureBackupCancelJobOperator,
    AzureBackupOperator,
    AzureBackupRestoreOperator,
)
from airflow_provider_azbackup.restore_to import (
    cluster,
    database_files,
    disks,
    new_database,
    new_disk,
    new_vm,
    original_database,
    original_share,
    other_blobs,
    other_database,
    other_share,
)
from airflow_provider_azbackup.sensors import AzureBackupFreshnessSensor, AzureBackupJobSensor
from azure_backup_emulator import Emulator
from tests.support.pages import table_under
from tests.support.tasks import TaskInstance, run

HERE = {"vault_name": "demo-backup-vault", "vault_type": "DataProtection"}
GROUP = "/subscriptions/00000000-0000-0000-0000-00000000d3a0/resourceGroups/demo-rg"
STAGING = f"{GROUP}/providers/Microsoft.Storage/storageAccounts/staging"
DRILL = f"{GROUP}/providers/Microsoft.Compute/disks/drill"
DUMPS = "https://staging.blob.core.windows.net/dumps"
MACHINE = f"{GROUP}/providers/Microsoft.Compute/virtualMachines/drill"
SUBNET = f"{GROUP}/providers/Microsoft.Network/virtualNetworks/net/subnets/default"
CLUSTER = f"{GROUP}/providers/Microsoft.ContainerService/managedClusters/drill"
DATABASE = f"{GROUP}/providers/Microsoft.DBforPostgreSQL/servers/drill/databases/drill"
# As the table calls it: an item of the emulator's, its vault, where to restore it to.
WORKLOADS: Mapping[str, tuple[str, Mapping[str, str], Any]] = {
    "Azure VM": ("vm-good", {}, disks(storage_account_id=STAGING)),
    "Azure file share": ("documents", {}, original_share(copy_options="Overwrite")),
    "SQL in an Azure VM": ("payroll", {}, original_database()),
    "SAP HANA in an Azure VM": ("systemdb", {}, original_database()),
    "Disk": ("disk-good", HERE, new_disk(disk_id=DRILL)),
    "Blobs": ("demoblobs", HERE, other_blobs(storage_account_id=STAGING)),
    "PostgreSQL": ("demo-pg/orders", HERE, database_files(container_url=DUMPS, prefix="drill-")),
    "AKS": ("demo-aks", HERE, cluster(namespaces=["shop"])),
    "PostgreSQL flexible server": (
        "demo-pg-flexible",
        HERE,
        database_files(container_url=DUMPS, prefix="drill-"),
    ),
    "MySQL flexible server": ("demo-mysql", HERE, database_files(container_url=DUMPS, prefix="drill-")),
    "Data Lake Storage Gen2": (
        "demoadls\\demoadls",
        HERE,
        other_blobs(storage_account_id=STAGING, containers=["raw"]),
    ),
}

# Where else to restore it to: for a drill, and in the secondary region.
ELSEWHERE: Mapping[str, Any] = {
    "Azure VM": new_vm(vm_id=MACHINE, subnet_id=SUBNET, storage_account_id=STAGING),
    "Azure file share": other_share(storage_account_id=STAGING, share="drill", copy_options="Overwrite"),
    "SQL in an Azure VM": other_database(database="MSSQLSERVER/drill", vm_id=MACHINE),
    "SAP HANA in an Azure VM": other_database(database="HXE/DRILL", vm_id=MACHINE),
    "Blobs": other_blobs(storage_account_id=STAGING, containers=["orders"]),
    "PostgreSQL": new_database(database_id=DATABASE),
    "AKS": cluster(
        cluster_id=CLUSTER,
        namespaces=["shop"],
        staging_resource_group_id=GROUP,
        staging_storage_account_id=STAGING,
    ),
    **{name: WORKLOADS[name][2] for name in ("Disk", *(*WORKLOADS,)[8:])},
}
# Those that are tried on a real Airflow. The others differ from these in their restore request alone.
# `make test` tries half of them, and CI all of them in another job.
ON_AIRFLOW = (*WORKLOADS,)[: 8 : 2 if "AZBACKUP_SAMPLE" in os.environ else 1]


class Bench:
    """One workload of the emulator's, and what can be asked of it."""

    def __init__(self, azure: Emulator, clock: Any, workload: str) -> None:
        self.azure, self.clock, self.workload = azure, clock, workload
        self.item, self.vault, self.target = WORKLOADS[workload]
        self.ti = TaskInstance()

    def somebodys(self, seconds: float, **options: Any) -> str:
        """A backup that nobody here has started."""
        name = self.item.replace("\\", "/").rpartition("/")[2]
        return self.azure.start_job(name, seconds=seconds, **options)

    def copied(self) -> None:
        """Make a backup that is over, and has been copied into the vault and into the other region."""
        # Azure never moves a recovery point of a disk into the vault, which is what it copies from.
        self.somebodys(30, point={} if self.workload == "Disk" else {"vaulted_after": 60})
        self.clock.advance(600)

    def task(self, kind: Callable[..., Any], **arguments: Any) -> Any:
        given = {"task_id": "task", "deferrable": True, **self.vault, **arguments}
        return run(lambda: kind(**given), self.ti)

    def back_up(self) -> None:
        self.task(AzureBackupOperator, protected_item=self.item)
        assert self.ti.xcoms["job"]["outcome"] == "succeeded"

    def wait(self) -> None:
        job_id = self.somebodys(900)
        assert self.task(AzureBackupJobSensor, job_id=job_id, timeout=7200) == job_id

    def cancel(self) -> None:
        assert self.task(AzureBackupCancelJobOperator, job_id=self.somebodys(9000)) in ("cancelled", "warned")

    def check(self) -> None:
        self.somebodys(30)
        self.clock.advance(60)
        self.task(
            AzureBackupRestoreOperator,
            protected_item=self.item,
            restore_to=self.target,
            validate_only=True,
        )
        assert self.ti.xcoms["validation"]["works"] is True
        assert self.azure.count("POST", "/restore") == 0

    def restore(self) -> None:
        self.somebodys(30)
        self.clock.advance(60)
        self.task(AzureBackupRestoreOperator, protected_item=self.item, restore_to=self.target)
        assert self.ti.xcoms["job"]["outcome"] == "succeeded"

    def drill(self) -> None:
        self.copied()
        self.ti.task_id = "task"
        self.task(
            AzureBackupDrillRestoreOperator, protected_item=self.item, restore_to=ELSEWHERE[self.workload]
        )
        restored = self.ti.xcoms["restored"]
        assert restored["made"] and restored["ended"]

    def secondary_region(self) -> None:
        self.copied()
        self.task(
            AzureBackupRestoreOperator,
            protected_item=self.item,
            restore_to=ELSEWHERE[self.workload],
            secondary_region=True,
        )
        assert self.ti.xcoms["job"]["outcome"] == "succeeded"
        job = self.azure.service.world.jobs[self.ti.xcoms["job"]["job_id"]]
        assert job.region == "northeurope"

    def freshness(self) -> None:
        job_id = self.somebodys(900)
        since = utc_datetime(self.clock() - 60)
        found = self.task(
            AzureBackupFreshnessSensor, protected_item=self.item, newer_than=since, timeout=7200
        )
        assert found == job_id

    def recovery_point(self) -> None:
        self.task(AzureBackupOperator, protected_item=self.item, require_recovery_point=True)
        assert self.ti.xcoms["recovery_point"]["tiers"]


DOES = {
    "back up": Bench.back_up,
    "wait": Bench.wait,
    "cancel": Bench.cancel,
    "check a restore": Bench.check,
    "restore": Bench.restore,
    "freshness": Bench.freshness,
    "recovery point": Bench.recovery_point,
    "drill": Bench.drill,
    "secondary region": Bench.secondary_region,
}
# What cannot be done: Azure has no way to cancel a job of a Backup vault, and a disk's recovery points never
# leave their region.
CANNOT = {
    **{(workload, "cancel"): AzureBackupConfigError for workload in (*WORKLOADS,)[4:]},
    ("Disk", "secondary region"): AzureBackupNotFoundError,
}
# Whether Azure restores these there is not known.
UNKNOWN = {(workload, "secondary region") for workload in (*WORKLOADS,)[8:]}
CELLS = [(workload, what) for workload in WORKLOADS for what in DOES if (workload, what) not in UNKNOWN]


@pytest.mark.parametrize(
    ("workload", "what"), [cell for cell in CELLS if cell not in CANNOT], ids=lambda each: each
)
def test_it_can(azure: Emulator, clock: Any, workload: str, what: str) -> None:
    DOES[what](Bench(azure, clock, workload))


@pytest.mark.parametrize(("workload", "what"), sorted(CANNOT), ids=lambda each: each)
def test_it_says_that_it_cannot(azure: Emulator, clock: Any, workload: str, what: str) -> None:
    with pytest.raises(
        CANNOT[workload, what],
        match=r"job of a Backup vault|no recovery point in northeurope .* only recovery points in the vault",
    ):
        DOES[what](Bench(azure, clock, workload))
    posts = [each["path"].partition("?")[0] for each in azure.requests if each["method"] == "POST"]
    assert not [path for path in posts if path.casefold().endswith(("cancel", "restore"))]


def test_the_table_of_workloads_is_right() -> None:
    table = {
        (row[0], what): cell.rstrip(" |")
        for row in table_under("workloads.md", "## What it can do")
        for what, cell in zip(DOES, row[1:], strict=True)
    }
    assert table == {
        **{cell: "no" if cell in CANNOT else "yes" for cell in CELLS},
        **dict.fromkeys(UNKNOWN, "not known"),
    }

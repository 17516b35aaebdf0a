"""Vaults and what they protect: the kinds of protected item, their names and how long their jobs take."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One task of a job, as fractions of the job's whole duration."""

    task: str
    begins: float = 0.0
    ends: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Database:
    """What Azure calls a kind of database, its system and its recovery points, by its SDK."""

    product: str  # of the inquiries of a container
    protected_type: str
    system_type: str
    points: str  # with which the names of its recovery points begin
    tier: str = "HardenedRP"


@dataclass(frozen=True, kw_only=True)
class Workload:
    """One kind of protected item. Durations are medians of recorded jobs, in seconds, by operation."""

    management: str
    item_type: str
    job_type: str
    backup_request: str
    phases: Mapping[str, tuple[Phase, ...]]
    seconds: Mapping[str, float]
    point_after: float  # seconds from the job's start to the time of its recovery point
    named_after: float = 0.0  # seconds in which a job shows no task, workload type or server yet
    operation_failed: Mapping[str, str] | None = None  # the error of an operation that fails, if its own
    policy: str = ""  # the name of the policy of an item that is seeded without one
    backup_type: str = "Full"  # of a backup whose request names no type
    database: Database | None = None


VALIDATION = "Validate Backup"  # the third task of a VM's backup, since 2026
_TO_VAULT = (Phase(task="Transfer data to vault"),)
_FROM_VAULT = (Phase(task="Transfer data from vault"),)
WORKLOADS: Mapping[str, Workload] = {
    "VM": Workload(
        management="AzureIaasVM",
        item_type="VM",
        job_type="AzureIaaSVMJob",
        policy="DefaultPolicy",
        backup_request="IaasVMBackupRequest",
        phases={
            "Backup": (
                Phase(task="Take Snapshot", ends=0.186),
                Phase(task="Transfer data to vault", begins=0.2, ends=0.98),
                Phase(task=VALIDATION, begins=0.98),
            ),
            "Restore": _FROM_VAULT,
        },
        seconds={"Backup": 2480, "Restore": 187},
        point_after=8,
    ),
    "AzureFileShare": Workload(
        management="AzureStorage",
        item_type="AzureFileShare",
        job_type="AzureStorageJob",
        policy="DailyShares",
        backup_request="AzureFileShareBackupRequest",
        phases={"Backup": (Phase(task="Take Snapshot"),)},
        seconds={"Backup": 3, "Restore": 34},
        point_after=1,
    ),
    "SQLDataBase": Workload(
        management="AzureWorkload",
        item_type="SQLDataBase",
        job_type="AzureWorkloadJob",
        policy="HourlyLogBackup",
        backup_request="AzureWorkloadBackupRequest",
        phases={"Backup": _TO_VAULT, "Restore": _FROM_VAULT},
        seconds={"Backup": 182, "Restore": 272},
        point_after=20,
        named_after=10,  # recorded after 8 s: plain "msdb", operation plain "Backup", no task
        database=Database(
            product="SQL",
            protected_type="AzureVmWorkloadSQLDatabase",
            system_type="AzureVmWorkloadSQLInstance",
            points="AzureWorkloadSQL",
        ),
    ),
    "SAPHanaDatabase": Workload(
        management="AzureWorkload",
        item_type="SAPHanaDatabase",
        job_type="AzureWorkloadJob",
        policy="DailyHana",
        backup_request="AzureWorkloadBackupRequest",
        phases={"Backup": _TO_VAULT, "Restore": _FROM_VAULT},
        seconds={"Backup": 182, "Restore": 272},
        point_after=20,
        database=Database(
            product="SAPHana",
            protected_type="AzureVmWorkloadSAPHanaDatabase",
            system_type="AzureVmWorkloadSAPHanaSystem",
            points="AzureWorkloadSAPHana",
        ),
    ),
    # Its snapshots were not recorded, so their duration is a guess.
    "SAPHanaDBInstance": Workload(
        management="AzureWorkload",
        item_type="SAPHanaDBInstance",
        job_type="AzureWorkloadJob",
        policy="DailyHanaInstance",
        backup_request="AzureWorkloadBackupRequest",
        phases={"Backup": (Phase(task="Take Snapshot"),), "Restore": _FROM_VAULT},
        seconds={"Backup": 182, "Restore": 272},
        point_after=20,
        backup_type="SnapshotFull",
        database=Database(
            product="SAPHana",
            protected_type="AzureVmWorkloadSAPHanaDBInstance",
            system_type="AzureVmWorkloadSAPHanaSystem",
            points="AzureWorkloadSAPHana",
            tier="InstantRP",
        ),
    ),
    "SAPAseDatabase": Workload(
        management="AzureWorkload",
        item_type="SAPAseDatabase",
        job_type="AzureWorkloadJob",
        policy="DailyAse",
        backup_request="AzureWorkloadBackupRequest",
        phases={"Backup": _TO_VAULT, "Restore": _FROM_VAULT},
        seconds={"Backup": 182, "Restore": 272},
        point_after=20,
        database=Database(
            product="SAPAse",
            protected_type="AzureVmWorkloadSAPAseDatabase",
            system_type="AzureVmWorkloadSAPAseSystem",
            points="AzureWorkload",  # recorded; the SDK knows a longer name
        ),
    ),
}
# The system in which a database lives, where it has a name of its own.
_SYSTEMS = {"SAPHanaDatabase": "hxe", "SAPHanaDBInstance": "hxe", "SAPAseDatabase": "ase"}


@dataclass(frozen=True, kw_only=True)
class Vault:
    """A Recovery Services vault. ``secondary_region`` is empty without cross-region restore."""

    subscription: str
    group: str
    name: str
    region: str
    secondary_region: str = ""
    tags: Mapping[str, str] = field(default_factory=dict, compare=False)

    @cached_property
    def path(self) -> str:
        return (
            f"/subscriptions/{self.subscription}/resourceGroups/{self.group}"
            f"/providers/Microsoft.RecoveryServices/vaults/{self.name}"
        )


SOFT_DELETED_DAYS = 14  # how long the data of a deleted item is kept


@dataclass(frozen=True, kw_only=True)
class Protection:
    """Whether an item is backed up.

    :param state: a word for ``protectionState``, in a Backup vault for ``currentProtectionState``; an empty
        string is what the item's backups have made of it.
    :param deleted_at: since when its data is soft-deleted; None while it is not.
    :param until: until when it is in the state; None for good.
    """

    state: str = ""
    deleted_at: float | None = None
    until: float | None = None


@dataclass(frozen=True, kw_only=True)
class Item:
    """A protected item. ``parent`` is the storage account or the VM that a share or database lives in.

    An SQL database also lives in an ``instance``, which neither its friendly name nor its jobs show.

    :param policy: the name of its policy.
    :param subscription: of the VM, where it is another one than the vault's.
    """

    vault: Vault
    kind: str
    name: str
    group: str
    policy: str
    parent: str = ""
    instance: str = "mssqlserver"
    subscription: str = ""

    @property
    def workload(self) -> Workload:
        return WORKLOADS[self.kind]

    @property
    def system(self) -> str:
        """The instance or system that a database lives in."""
        return _SYSTEMS.get(self.kind, self.instance)

    @cached_property
    def container(self) -> str:
        return {
            "VM": f"IaasVMContainer;iaasvmcontainerv2;{self.group};{self.name}",
            "AzureFileShare": f"StorageContainer;storage;{self.group};{self.parent}",
        }.get(self.kind, f"VMAppContainer;compute;{self.group};{self.parent}")

    @cached_property
    def native_name(self) -> str:
        share = hashlib.sha256(f"{self.parent}/{self.name}".encode()).hexdigest()
        return {
            "VM": f"VM;iaasvmcontainerv2;{self.group};{self.name}",
            "AzureFileShare": f"AzureFileShare;{share}",
        }.get(self.kind, f"{self.kind};{self.system};{self.name}")

    @cached_property
    def path(self) -> str:
        return (
            f"{self.vault.path}/backupFabrics/Azure/protectionContainers/{self.container}"
            f"/protectedItems/{self.native_name}"
        )

    @cached_property
    def source_id(self) -> str:
        """The ARM id of the VM or storage account; the small s is as recorded for storage accounts."""
        kind = (
            f"Microsoft.storage/storageAccounts/{self.parent}"
            if self.kind == "AzureFileShare"
            else f"Microsoft.Compute/virtualMachines/{self.parent or self.name}"
        )
        subscription = self.subscription or self.vault.subscription
        return f"/subscriptions/{subscription}/resourceGroups/{self.group}/providers/{kind}"

    def number(self, salt: str = "") -> int:
        """A stable decimal number of this item, for the ids Azure counts in."""
        return int.from_bytes(hashlib.sha256((self.path + salt).encode()).digest()[:6], "big")

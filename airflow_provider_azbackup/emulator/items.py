"""Vaults and what they protect: the kinds of protected item, their names and how long their jobs take."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One task of a job, as fractions of the job's whole duration."""

    task: str
    begins: float = 0.0
    ends: float = 1.0


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


_TO_VAULT = (Phase(task="Transfer data to vault"),)
_FROM_VAULT = (Phase(task="Transfer data from vault"),)
WORKLOADS: Mapping[str, Workload] = {
    "VM": Workload(
        management="AzureIaasVM",
        item_type="VM",
        job_type="AzureIaaSVMJob",
        backup_request="IaasVMBackupRequest",
        phases={
            "Backup": (
                Phase(task="Take Snapshot", ends=0.186),
                Phase(task="Transfer data to vault", begins=0.2),
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
        backup_request="AzureFileShareBackupRequest",
        phases={"Backup": (Phase(task="Take Snapshot"),)},
        seconds={"Backup": 3, "Restore": 34},
        point_after=1,
    ),
    "SQLDataBase": Workload(
        management="AzureWorkload",
        item_type="SQLDataBase",
        job_type="AzureWorkloadJob",
        backup_request="AzureWorkloadBackupRequest",
        phases={"Backup": _TO_VAULT, "Restore": _FROM_VAULT},
        seconds={"Backup": 182, "Restore": 272},
        point_after=20,
        named_after=10,  # recorded after 8 s: plain "msdb", operation plain "Backup", no task
    ),
    "SAPHanaDatabase": Workload(
        management="AzureWorkload",
        item_type="SAPHanaDatabase",
        job_type="AzureWorkloadJob",
        backup_request="AzureWorkloadBackupRequest",
        phases={"Backup": _TO_VAULT, "Restore": _FROM_VAULT},
        seconds={"Backup": 182, "Restore": 272},
        point_after=20,
    ),
}


@dataclass(frozen=True, kw_only=True)
class Vault:
    """A Recovery Services vault."""

    subscription: str
    group: str
    name: str
    region: str

    @property
    def path(self) -> str:
        return (
            f"/subscriptions/{self.subscription}/resourceGroups/{self.group}"
            f"/providers/Microsoft.RecoveryServices/vaults/{self.name}"
        )


SOFT_DELETED_DAYS = 14  # for so long the data of a deleted item is kept


@dataclass(frozen=True, kw_only=True)
class Protection:
    """Whether an item is backed up.

    :param state: a word for ``protectionState``, in a Backup vault for ``currentProtectionState``; an empty
        string is what the item's backups have made of it.
    :param deleted_at: since when its data is soft-deleted; None while it is not.
    """

    state: str = ""
    deleted_at: float | None = None


@dataclass(frozen=True, kw_only=True)
class Item:
    """A protected item. ``parent`` is the storage account or the machine a share or database lives in.

    An SQL database also lives in an ``instance``, which neither its friendly name nor its jobs tell.
    """

    vault: Vault
    kind: str
    name: str
    group: str
    parent: str = ""
    instance: str = "mssqlserver"
    policy: str = "DefaultPolicy"

    @property
    def workload(self) -> Workload:
        return WORKLOADS[self.kind]

    @property
    def container(self) -> str:
        return {
            "VM": f"IaasVMContainer;iaasvmcontainerv2;{self.group};{self.name}",
            "AzureFileShare": f"StorageContainer;storage;{self.group};{self.parent}",
        }.get(self.kind, f"VMAppContainer;compute;{self.group};{self.parent}")

    @property
    def native_name(self) -> str:
        share = hashlib.sha256(f"{self.parent}/{self.name}".encode()).hexdigest()
        return {
            "VM": f"VM;iaasvmcontainerv2;{self.group};{self.name}",
            "AzureFileShare": f"AzureFileShare;{share}",
            "SQLDataBase": f"SQLDataBase;{self.instance};{self.name}",
            "SAPHanaDatabase": f"SAPHanaDatabase;hxe;{self.name}",
        }[self.kind]

    @property
    def path(self) -> str:
        return (
            f"{self.vault.path}/backupFabrics/Azure/protectionContainers/{self.container}"
            f"/protectedItems/{self.native_name}"
        )

    @property
    def source_id(self) -> str:
        """The ARM id of the machine or storage account; the small s is as recorded for storage accounts."""
        kind = (
            f"Microsoft.storage/storageAccounts/{self.parent}"
            if self.kind == "AzureFileShare"
            else f"Microsoft.Compute/virtualMachines/{self.parent or self.name}"
        )
        return f"/subscriptions/{self.vault.subscription}/resourceGroups/{self.group}/providers/{kind}"

    def number(self, salt: str = "") -> int:
        """A stable decimal number of this item, for the ids Azure counts in."""
        return int.from_bytes(hashlib.sha256((self.path + salt).encode()).digest()[:6], "big")

"""The workloads that Azure Backup protects: what can be asked for, and what their recovery points can reach.

DAG files load this module when they are parsed, so importing it is kept cheap.

Source: https://learn.microsoft.com/azure/backup/backup-azure-arm-userestapi-backupazurevms
"""

from __future__ import annotations

from types import MappingProxyType

from airflow_provider_azbackup.exceptions import AzureBackupConfigError

VM = "IaasVMBackupRequest"
SHARE = "AzureFileShareBackupRequest"
WORKLOAD = "AzureWorkloadBackupRequest"
# Kind of item (first part of its name): request type, and the backup types an on-demand backup of it knows.
# SAP HANA runs Incremental backups by policy only. For SAP ASE Microsoft's clients refuse no type; these are
# the ones that its policies have.
WORKLOADS = MappingProxyType(
    {
        "vm": (VM, {"Full"}),
        "azurefileshare": (SHARE, {"Full"}),
        "sqldatabase": (WORKLOAD, {"Full", "Differential", "Log", "CopyOnlyFull"}),
        "saphanadatabase": (WORKLOAD, {"Full", "Differential"}),
        "saphanadbinstance": (WORKLOAD, {"SnapshotFull", "SnapshotCopyOnlyFull"}),
        "sapasedatabase": (WORKLOAD, {"Full", "Differential", "Log"}),
    }
)
# Kinds of which a backup can be asked for with or without compression.
COMPRESSED = frozenset({"sqldatabase", "saphanadatabase", "saphanadbinstance"})
# Backup types that jobs may have and that nobody can ask for.
SCHEDULED_TYPES = frozenset({"Incremental"})
# What a Backup vault calls an AKS cluster, in lower case.
AKS = "microsoft.containerservice/managedclusters"
# The lists of a Recovery Services vault's items: one shows every kind of its management type.
MANAGEMENT_TYPES = ("AzureIaasVM", "AzureStorage", "AzureWorkload")
_MANAGEMENT = MappingProxyType(dict(zip((VM, SHARE, WORKLOAD), MANAGEMENT_TYPES, strict=True)))
# From the weakest up: how consistent the copy of a machine or a share is, and how far it is from there.
CONSISTENCIES = ("CrashConsistent", "FileSystemConsistent", "AppConsistent")
TIERS = ("InstantRP", "HardenedRP")
# Kinds of data, in lower case, whose recovery points never come into the vault, or not the on-demand ones.
_NEVER_IN_VAULT = MappingProxyType(
    {"microsoft.compute/disks": "Azure keeps the recovery points of disks in the operational store only"}
)
_NOT_ON_DEMAND = MappingProxyType(
    {
        "azurefileshare": "an on-demand backup of a file share is a snapshot in its storage account; even "
        "a vaulted policy brings only the last scheduled snapshot of a day into the vault"
    }
)


def management_type_of(kind: str) -> str:
    """Return the backup management type of a kind of item.

    :param kind: a key of :data:`WORKLOADS`.
    """
    return _MANAGEMENT[WORKLOADS[kind][0]]


def check_min_tier(kind: str, name: str, min_tier: str | None, *, on_demand: bool) -> None:
    """Refuse a tier that the recovery points of a kind of data never reach.

    :param kind: in lower case: the first part of a protected item's name, or what a Backup vault calls a type
        of data source.
    :param name: what the item is called, for the error.
    :param min_tier: a word of :data:`TIERS`, or None.
    :param on_demand: whether the recovery point is to be that of an on-demand backup.
    :raises AzureBackupConfigError: saying why.
    """
    reason = _NEVER_IN_VAULT.get(kind) or (_NOT_ON_DEMAND.get(kind) if on_demand else None)
    if min_tier == TIERS[-1] and reason:
        raise AzureBackupConfigError(
            f"min_tier={min_tier!r} can never be met by {name}: {reason}. "
            f"Ask for {TIERS[0]!r}, or drop min_tier"
        )

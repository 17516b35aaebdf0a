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
# Workload (first part of an item's name): the type of request, and the backup types that an on-demand backup
# can have. SAP HANA runs Incremental backups by policy only. For SAP ASE, Microsoft's clients accept any
# type; these are the types that its policies have.
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
# Workloads whose backups can be compressed on request.
COMPRESSED = frozenset({"sqldatabase", "saphanadatabase", "saphanadbinstance"})
# Backup types of jobs that cannot be requested.
SCHEDULED_TYPES = frozenset({"Incremental"})
# The type of an AKS cluster in a Backup vault, in lower case.
AKS = "microsoft.containerservice/managedclusters"
# The backup management types of a Recovery Services vault. Each has one list of items with all its workloads.
MANAGEMENT_TYPES = ("AzureIaasVM", "AzureStorage", "AzureWorkload")
_MANAGEMENT = MappingProxyType(dict(zip((VM, SHARE, WORKLOAD), MANAGEMENT_TYPES, strict=True)))
# The on-demand backups of an item in a day, by the backup management type or the type of the data source, in
# lower case. For other workloads Microsoft documents no number.
ON_DEMAND_A_DAY = MappingProxyType(
    {
        "azureiaasvm": 9,
        "azurestorage": 10,
        AKS: 10,
        "microsoft.storage/storageaccounts/blobservices": 4,
    }
)
# From the weakest up: how consistent the copy of a VM or a share is, and how far it is from the source.
CONSISTENCIES = ("CrashConsistent", "FileSystemConsistent", "AppConsistent")
TIERS = ("InstantRP", "HardenedRP")
# Workloads, in lower case, whose recovery points never reach the vault, or whose on-demand ones never do.
_NEVER_IN_VAULT = MappingProxyType(
    {"microsoft.compute/disks": "Azure keeps the recovery points of disks in the operational store only"}
)
_NOT_ON_DEMAND = MappingProxyType(
    {
        "azurefileshare": "an on-demand backup of a file share is a snapshot in its storage account; even "
        "a vaulted policy brings only the last scheduled snapshot of a day into the vault"
    }
)


def management_type_of(workload: str) -> str:
    """Return the backup management type of a workload.

    :param workload: a key of :data:`WORKLOADS`.
    """
    return _MANAGEMENT[WORKLOADS[workload][0]]


def check_min_tier(workload: str, name: str, min_tier: str | None, *, on_demand: bool) -> None:
    """Reject a tier that the recovery points of a workload never reach.

    :param workload: in lower case: the first part of a protected item's name, or the type of a Backup vault's
        data source.
    :param name: the name of the item, for the error.
    :param min_tier: a word of :data:`TIERS`, or None.
    :param on_demand: whether the recovery point comes from an on-demand backup.
    :raises AzureBackupConfigError: with the reason.
    """
    reason = _NEVER_IN_VAULT.get(workload) or (_NOT_ON_DEMAND.get(workload) if on_demand else None)
    if min_tier == TIERS[-1] and reason:
        raise AzureBackupConfigError(
            f"min_tier={min_tier!r} can never be met by {name}: {reason}. "
            f"Ask for {TIERS[0]!r}, or drop min_tier"
        )

"""What a DAG author may write: shapes of ARM ids and job ids, and the backups that can be asked for.

Operators and sensors check their arguments with this module when a DAG file is parsed, so it is kept cheap:
no dataclasses, and no pattern is compiled before it is used.

Source: https://learn.microsoft.com/azure/backup/backup-azure-arm-userestapi-backupazurevms
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Literal, TypeAlias

from airflow_provider_azbackup.exceptions import AzureBackupConfigError

VAULT_ID = "/subscriptions/<id>/resourceGroups/<group>/providers/Microsoft.RecoveryServices/vaults/<name>"
ITEM_ID = f"{VAULT_ID}/backupFabrics/Azure/protectionContainers/<container>/protectedItems/<item>"

# What a wait is for: the end of the job, or the snapshot a machine's backup begins with.
WaitFor: TypeAlias = Literal["completion", "snapshot"]

VM = "IaasVMBackupRequest"
SHARE = "AzureFileShareBackupRequest"
WORKLOAD = "AzureWorkloadBackupRequest"

# Kind of item (first part of its name): request type, and the backup types an on-demand backup of it knows.
REQUESTS = MappingProxyType(
    {
        "vm": (VM, {"Full"}),
        "azurefileshare": (SHARE, {"Full"}),
        "sqldatabase": (WORKLOAD, {"Full", "Differential", "Log", "CopyOnlyFull"}),
        "saphanadatabase": (WORKLOAD, {"Full", "Differential", "Incremental"}),
        "saphanadbinstance": (WORKLOAD, {"SnapshotFull", "SnapshotCopyOnlyFull"}),
    }
)

MANAGEMENT_TYPES = ("AzureIaasVM", "AzureStorage", "AzureWorkload")

# From the weakest up: how consistent the copy of a machine or a share is, and how far it is from there.
CONSISTENCIES = ("CrashConsistent", "FileSystemConsistent", "AppConsistent")
TIERS = ("InstantRP", "HardenedRP")

_SEGMENT = r"([^/?#\s][^/?#]*)"
_GROUP = rf"/subscriptions/{_SEGMENT}/resourceGroups/{_SEGMENT}/providers"
# Azure's internal test rings answer as Microsoft.RecoveryServicesBVTD; casing differs from answer to answer.
_VAULT = rf"{_GROUP}/Microsoft\.RecoveryServices\w*/vaults/{_SEGMENT}"
_ITEM = rf"(.+)/backupFabrics/Azure/protectionContainers/{_SEGMENT}/protectedItems/{_SEGMENT}"
_JOB = rf"(.+)/backupJobs/{_SEGMENT}"
# Not uuid.UUID(): it also takes braces, "urn:" and no dashes, which are not how Azure's answer names the job.
_GUID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_VM = rf"{_GROUP}/Microsoft\.Compute/virtualMachines/{_SEGMENT}"
_SHARE = (
    rf"({_GROUP}/Microsoft\.Storage/storageAccounts/[^/]+)/fileServices/default/(?:file)?shares/{_SEGMENT}"
)


def match_vault(text: str) -> re.Match[str] | None:
    """Match a vault's ARM id: subscription, group, name."""
    return re.fullmatch(_VAULT, text, re.IGNORECASE)


def match_item(text: str) -> re.Match[str] | None:
    """Match a protected item's ARM id: vault, container, item."""
    return re.fullmatch(_ITEM, text, re.IGNORECASE)


def match_vm(text: str) -> re.Match[str] | None:
    """Match a virtual machine's ARM id: subscription, group, name."""
    return re.fullmatch(_VM, text, re.IGNORECASE)


def split_share_id(text: str) -> tuple[str, str] | None:
    """Split a file share's ARM id into its storage account's ARM id and the share's name."""
    found = re.fullmatch(_SHARE, text, re.IGNORECASE)
    return (found.group(1), found.groups()[-1]) if found else None


def split_job_id(text: str) -> tuple[str | None, str]:
    """Split a job's ARM id into the vault's ARM id and the GUID; a GUID comes without a vault.

    :raises AzureBackupConfigError: when it is neither.
    """
    found = re.fullmatch(_JOB, text, re.IGNORECASE)
    vault, job_id = found.groups() if found else (None, text)
    if re.fullmatch(_GUID, job_id, re.IGNORECASE) and (vault is None or match_vault(vault)):
        return vault, job_id
    raise AzureBackupConfigError(f"{text!r} is not a job id; expected a GUID or {VAULT_ID}/backupJobs/<GUID>")


def check_item(text: str) -> None:
    """Refuse what can be no protected item: nothing at all, or the ARM id of something else.

    :raises AzureBackupConfigError: saying what is expected.
    """
    if text.strip() and (
        not text.startswith("/") or match_item(text) or match_vm(text) or split_share_id(text)
    ):
        return
    raise AzureBackupConfigError(
        f"protected_item {text!r} is neither a name nor the ARM id of a protected item, a virtual machine or "
        f"a file share; a protected item's ARM id is {ITEM_ID}"
    )


def read_moment(name: str, value: object) -> datetime | None:
    """Read a moment; None for nothing.

    :param name: the argument, for the error.
    :param value: a datetime or ISO 8601 text, in UTC unless it says otherwise.
    :raises AzureBackupConfigError: when it is no moment.
    """
    if value is None or value == "":
        return None
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        moment = None
    if not isinstance(moment, datetime):
        raise AzureBackupConfigError(
            f"{name} {value!r} is not a moment; expected a datetime or ISO 8601, such as 2026-01-31T00:00:00Z"
        )
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def check_backup_type(text: str) -> None:
    """Refuse a backup type that no workload knows.

    :raises AzureBackupConfigError: listing those that are known.
    """
    known = sorted(set().union(*(types for _, types in REQUESTS.values())))
    if text not in known:
        raise AzureBackupConfigError(f"backup_type {text!r} is not known; expected one of {', '.join(known)}")

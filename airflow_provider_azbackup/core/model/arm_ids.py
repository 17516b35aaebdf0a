"""The shapes of ARM ids and job ids: matching them, splitting them, comparing them.

Operators and sensors check their arguments with this module when a DAG file is parsed, so importing it is
kept cheap: no dataclasses, and no pattern is compiled before it is used.

Source: https://learn.microsoft.com/azure/backup/backup-azure-arm-userestapi-backupazurevms
"""

from __future__ import annotations

import re

from airflow_provider_azbackup.exceptions import AzureBackupConfigError

VAULT_ID = "/subscriptions/<id>/resourceGroups/<group>/providers/Microsoft.RecoveryServices/vaults/<name>"
ITEM_ID = f"{VAULT_ID}/backupFabrics/Azure/protectionContainers/<container>/protectedItems/<item>"
BACKUP_VAULT_ID = (
    "/subscriptions/<id>/resourceGroups/<group>/providers/Microsoft.DataProtection/backupVaults/<name>"
)
INSTANCE_ID = f"{BACKUP_VAULT_ID}/backupInstances/<instance>"
# The two types of vault: Recovery Services vaults, and the newer Backup vaults, which protect disks, blobs,
# PostgreSQL and Kubernetes. They are separate services with different terms.
RECOVERY_SERVICES = "RecoveryServices"
DATA_PROTECTION = "DataProtection"
VAULT_TYPES = (RECOVERY_SERVICES, DATA_PROTECTION)
# A part of a path: no control characters, and neither "." nor "..", which clients and servers remove.
_SEGMENT = r"((?!\.{1,2}(?:/|\Z))[^/?#\s\x00-\x1f\x7f][^/?#\x00-\x1f\x7f]*)"
_GROUP = rf"/subscriptions/{_SEGMENT}/resourceGroups/{_SEGMENT}/providers"
# Azure's internal test rings answer as Microsoft.RecoveryServicesBVTD. Upper and lower case differ between
# responses.
_VAULT = rf"{_GROUP}/Microsoft\.RecoveryServices\w*/vaults/{_SEGMENT}"
_BACKUP_VAULT = rf"{_GROUP}/Microsoft\.DataProtection/backupVaults/{_SEGMENT}"
_INSTANCE = rf"({_BACKUP_VAULT})/backupInstances/{_SEGMENT}"
_ITEM = rf"(.+)/backupFabrics/Azure/protectionContainers/{_SEGMENT}/protectedItems/{_SEGMENT}"
_JOB = rf"(.+)/backupJobs/{_SEGMENT}"
_OPERATION = r"/(backupOperations|backupOperationResults|operationResults|operationsStatus|operationStatus)/"
# How many characters of a wrong id an error shows.
LONGEST_SHOWN = 300
# uuid.UUID() would also accept braces, "urn:" and missing dashes, which Azure does not use in the name of a
# job.
_GUID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_VM = rf"{_GROUP}/Microsoft\.Compute/virtualMachines/{_SEGMENT}"
_SHARE = (
    rf"({_GROUP}/Microsoft\.Storage/storageAccounts/[^/]+)/fileServices/default/(?:file)?shares/{_SEGMENT}"
)


def decoded(arm_id: str) -> str:
    """Return an ARM id without percent-escapes: Microsoft's clients send ``%3B`` for ``;``.

    :raises AzureBackupConfigError: if it is not a string.
    """
    if not isinstance(arm_id, str):
        raise AzureBackupConfigError(f"{arm_id!r:.100} is no text; expected an ARM id, a GUID or a name")
    if "%" not in arm_id:
        return arm_id
    from urllib.parse import unquote  # imported here because most DAG files contain no such id

    return unquote(arm_id)


def same_id(first: str, second: str) -> bool:
    """Return whether two ARM ids name one resource, regardless of case and percent-escapes."""
    return decoded(first).rstrip("/").casefold() == decoded(second).rstrip("/").casefold()


def _match(pattern: str, text: str) -> re.Match[str] | None:
    return re.fullmatch(pattern, decoded(text), re.IGNORECASE)


def match_vault(text: str) -> re.Match[str] | None:
    """Match the ARM id of a vault of either type: subscription, group, name."""
    return _match(_VAULT, text) or _match(_BACKUP_VAULT, text)


def vault_type_of(path: str) -> str:
    """Return the type of the vault that a path belongs to."""
    return DATA_PROTECTION if "/microsoft.dataprotection/" in f"{path}/".casefold() else RECOVERY_SERVICES


def split_instance_id(text: str) -> tuple[str, str] | None:
    """Split a backup instance's ARM id into its Backup vault's ARM id and its name."""
    found = _match(_INSTANCE, text)
    return (found.group(1), found.groups()[-1]) if found else None


def match_vault_above(text: str) -> re.Match[str] | None:
    """Match the vault in the ARM id of something below it: a job, a protected item, a backup instance."""
    if instance := split_instance_id(text):
        return match_vault(instance[0])
    found = match_item(text) or re.fullmatch(_JOB, text, re.IGNORECASE)
    return match_vault(found.group(1)) if found else None


def match_item(text: str) -> re.Match[str] | None:
    """Match a protected item's ARM id: vault, container, item."""
    return _match(_ITEM, text)


def match_vm(text: str) -> re.Match[str] | None:
    """Match a virtual machine's ARM id: subscription, group, name."""
    return _match(_VM, text)


def split_share_id(text: str) -> tuple[str, str] | None:
    """Split a file share's ARM id into its storage account's ARM id and the share's name."""
    found = _match(_SHARE, text)
    return (found.group(1), found.groups()[-1]) if found else None


def split_job_id(text: str) -> tuple[str | None, str]:
    """Split a job's ARM id into the vault's ARM id and the GUID. For a GUID alone, the vault is None.

    :raises AzureBackupConfigError: if the text is neither.
    """
    found = _match(_JOB, text)
    vault, job_id = found.groups() if found else (None, text)
    if re.fullmatch(_GUID, job_id, re.IGNORECASE) and (vault is None or match_vault(vault)):
        return vault, job_id
    # The query of a URL is not shown, because it may contain the signature of an operation's address.
    shown = text.partition("?")[0]
    shown = repr(shown if len(shown) <= LONGEST_SHOWN else f"...{shown[-LONGEST_SHOWN:]}")
    if re.search(_OPERATION, text, re.IGNORECASE):
        given = (
            f"the address of an operation is not a job id; Azure's answer about the operation names the job "
            f"as properties.jobId. Given: {shown}"
        )
    else:
        given = f"{shown} is not a job id"
    raise AzureBackupConfigError(
        f"{given}; expected a GUID or {VAULT_ID}/backupJobs/<GUID>, or the same below {BACKUP_VAULT_ID}"
        f"{'. Remove the blanks around it' if text != text.strip() else ''}"
    )


def is_path_segment(text: str) -> bool:
    """Whether a text can be one part of a path without any change."""
    return bool(re.fullmatch(_SEGMENT, text))


def infer_vault_type(vault_type: object, *texts: object) -> str | None:
    """Infer the type of vault from arguments, without a request; None if they do not determine it.

    :param vault_type: the argument of that name.
    :param texts: arguments that may be ARM ids, which take precedence.
    """
    for text in texts:
        if isinstance(text, str) and "/providers/microsoft." in text.casefold():
            return vault_type_of(text)
    return vault_type if isinstance(vault_type, str) and vault_type in VAULT_TYPES else None

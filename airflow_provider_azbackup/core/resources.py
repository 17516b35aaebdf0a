"""Names and paths: vault, protected item and job, read from what a DAG author wrote and back.

Source: https://learn.microsoft.com/azure/backup/backup-azure-arm-userestapi-backupazurevms
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from uuid import UUID

from airflow_provider_azbackup.exceptions import AzureBackupConfigError

VAULT_ID = "/subscriptions/<id>/resourceGroups/<group>/providers/Microsoft.RecoveryServices/vaults/<name>"
ITEM_ID = f"{VAULT_ID}/backupFabrics/Azure/protectionContainers/<container>/protectedItems/<item>"

_SEGMENT = r"([^/?#\s][^/?#]*)"
# Azure's internal test rings answer as Microsoft.RecoveryServicesBVTD; casing differs from answer to answer.
_VAULT = re.compile(
    rf"/subscriptions/{_SEGMENT}/resourceGroups/{_SEGMENT}/providers/Microsoft\.RecoveryServices\w*/vaults/{_SEGMENT}",
    re.IGNORECASE,
)
_ITEM = re.compile(
    rf"(.+)/backupFabrics/Azure/protectionContainers/{_SEGMENT}/protectedItems/{_SEGMENT}", re.IGNORECASE
)
_JOB = re.compile(rf"(.+)/backupJobs/{_SEGMENT}", re.IGNORECASE)
_VM = re.compile(
    rf"/subscriptions/{_SEGMENT}/resourceGroups/{_SEGMENT}/providers/Microsoft\.Compute/virtualMachines/{_SEGMENT}",
    re.IGNORECASE,
)
_SHARE = re.compile(
    rf"(/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\.Storage/storageAccounts/[^/]+)"
    rf"/fileServices/default/(?:shares|fileshares)/{_SEGMENT}",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True)
class Vault:
    """A Recovery Services vault."""

    subscription_id: str
    resource_group_name: str
    name: str

    @property
    def path(self) -> str:
        """ARM id of the vault, the start of every path below it."""
        return (
            f"/subscriptions/{self.subscription_id}/resourceGroups/{self.resource_group_name}"
            f"/providers/Microsoft.RecoveryServices/vaults/{self.name}"
        )

    @classmethod
    def parse(cls, arm_id: str) -> Vault:
        """Read a vault's ARM id.

        :raises AzureBackupConfigError: when it is not one.
        """
        if not (found := _VAULT.fullmatch(arm_id)):
            raise AzureBackupConfigError(f"{arm_id!r} is not the ARM id of a vault; expected {VAULT_ID}")
        subscription, group, name = found.groups()
        return cls(subscription_id=subscription, resource_group_name=group, name=name)


@dataclass(frozen=True, kw_only=True)
class ProtectedItem:
    """One protected thing in a vault, named by its container and itself."""

    vault: Vault
    container: str
    name: str

    @property
    def path(self) -> str:
        """ARM id of the protected item."""
        return (
            f"{self.vault.path}/backupFabrics/Azure/protectionContainers/{self.container}"
            f"/protectedItems/{self.name}"
        )

    @property
    def kind(self) -> str:
        """First part of the item's name in lower case: ``vm``, ``azurefileshare``, ``sqldatabase``, ..."""
        return self.name.partition(";")[0].casefold()

    @classmethod
    def parse(cls, arm_id: str) -> ProtectedItem:
        """Read a protected item's ARM id.

        :raises AzureBackupConfigError: when it is not one.
        """
        if not (found := _ITEM.fullmatch(arm_id)):
            raise AzureBackupConfigError(
                f"{arm_id!r} is not the ARM id of a protected item; expected {ITEM_ID}"
            )
        vault, container, name = found.groups()
        return cls(vault=Vault.parse(vault), container=container, name=name)

    @classmethod
    def of_vm(cls, vault: Vault, vm_id: str) -> ProtectedItem | None:
        """Name the item that protects a virtual machine, or None when ``vm_id`` is not a VM's ARM id.

        Only the names of Azure VMs can be built from known parts; all others must be looked up.
        """
        if not (found := _VM.fullmatch(vm_id)):
            return None
        _, group, machine = found.groups()
        tail = f"iaasvmcontainerv2;{group};{machine}"
        return cls(vault=vault, container=f"IaasVMContainer;{tail}", name=f"VM;{tail}")


@dataclass(frozen=True, kw_only=True)
class JobRef:
    """One job of a vault."""

    vault: Vault
    job_id: str

    @property
    def path(self) -> str:
        """ARM id of the job."""
        return f"{self.vault.path}/backupJobs/{self.job_id}"

    @classmethod
    def parse(cls, text: str, vault: Vault | None = None) -> JobRef:
        """Read a job's GUID, or its ARM id, which then also names the vault.

        :param text: the GUID or the ARM id.
        :param vault: where a bare GUID belongs.
        :raises AzureBackupConfigError: when it is neither, or a GUID comes without a vault.
        """
        named, job_id = split_job_id(text)
        home = named or vault
        if home is None:
            raise AzureBackupConfigError(f"job {text!r} comes without a vault; give the job's ARM id")
        return cls(vault=home, job_id=job_id)


@dataclass(frozen=True, kw_only=True)
class OperationRef:
    """One asynchronous operation of a vault: what Azure names when it accepts a backup."""

    vault: Vault
    operation_id: str

    @property
    def path(self) -> str:
        """The vault's own URL of the operation, which works without the signature of Azure's answer."""
        return f"{self.vault.path}/backupOperations/{self.operation_id}"


def split_job_id(text: str) -> tuple[Vault | None, str]:
    """Split a job's ARM id into vault and GUID; a GUID comes without a vault.

    :raises AzureBackupConfigError: when it is neither.
    """
    found = _JOB.fullmatch(text)
    job_id = found.group(2) if found else text
    try:
        UUID(job_id)
    except ValueError:
        raise AzureBackupConfigError(
            f"{text!r} is not a job id; expected a GUID or {VAULT_ID}/backupJobs/<GUID>"
        ) from None
    return (Vault.parse(found.group(1)) if found else None), job_id


def check_item(text: str) -> None:
    """Refuse what can be no protected item: nothing at all, or the ARM id of something else.

    :raises AzureBackupConfigError: saying what is expected.
    """
    if text.strip() and (
        not text.startswith("/") or any(kind.fullmatch(text) for kind in (_ITEM, _VM, _SHARE))
    ):
        return
    raise AzureBackupConfigError(
        f"protected_item {text!r} is neither a name nor the ARM id of a protected item, a virtual machine or "
        f"a file share; a protected item's ARM id is {ITEM_ID}"
    )


def share_of(arm_id: str) -> tuple[str, str] | None:
    """Split a file share's ARM id into its storage account's ARM id and the share's name."""
    found = _SHARE.fullmatch(arm_id)
    return (found.group(1), found.group(2)) if found else None


def last_segment(url_or_id: str) -> str:
    """Return what follows the last slash, without any query: all this package keeps of a signed URL."""
    return url_or_id.partition("?")[0].rstrip("/").rpartition("/")[2]

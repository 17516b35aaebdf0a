"""Vaults, protected items, jobs and operations: read from ARM ids, and turned into paths.

Source: https://learn.microsoft.com/azure/backup/backup-azure-arm-userestapi-backupazurevms
"""

from __future__ import annotations

from dataclasses import dataclass, field

from airflow_provider_azbackup.core.model.arm_ids import (
    BACKUP_VAULT_ID,
    DATA_PROTECTION,
    INSTANCE_ID,
    ITEM_ID,
    RECOVERY_SERVICES,
    VAULT_ID,
    match_item,
    match_vault,
    match_vm,
    split_instance_id,
    split_job_id,
    vault_type_of,
)
from airflow_provider_azbackup.exceptions import AzureBackupConfigError


@dataclass(frozen=True, kw_only=True)
class SecondaryRegion:
    """The region where Azure keeps the second copy of a vault's backups, such as ``westus``.

    ``primary`` is the region of the vault itself. It is empty where nobody needs it: only requests about a
    Backup vault name it.
    """

    name: str
    primary: str = ""


@dataclass(frozen=True, kw_only=True)
class Vault:
    """A vault; ``vault_type`` is one of :data:`~airflow_provider_azbackup.core.model.arm_ids.VAULT_TYPES`.

    With ``secondary``, it is the copy of the vault in that region. Whatever is read of it, of its items and
    of its jobs is asked there, and not in the region of the vault.
    """

    subscription_id: str
    resource_group_name: str
    name: str
    vault_type: str = RECOVERY_SERVICES
    secondary: SecondaryRegion | None = field(default=None, compare=False)

    @property
    def is_backup_vault(self) -> bool:
        """Whether it is a Backup vault (Microsoft.DataProtection)."""
        return self.vault_type == DATA_PROTECTION

    @property
    def path(self) -> str:
        """ARM id of the vault, the start of every path below it."""
        collection = "backupVaults" if self.is_backup_vault else "vaults"
        return (
            f"/subscriptions/{self.subscription_id}/resourceGroups/{self.resource_group_name}"
            f"/providers/Microsoft.{self.vault_type}/{collection}/{self.name}"
        )

    @classmethod
    def parse(cls, arm_id: str) -> Vault:
        """Read a vault's ARM id.

        :raises AzureBackupConfigError: if it is not one.
        """
        if not (found := match_vault(arm_id)):
            raise AzureBackupConfigError(
                f"this is not the ARM id of a vault: {arm_id!r}; expected {VAULT_ID} or {BACKUP_VAULT_ID}"
            )
        subscription, group, name = found.groups()
        return cls(
            subscription_id=subscription,
            resource_group_name=group,
            name=name,
            vault_type=vault_type_of(arm_id),
        )


@dataclass(frozen=True, kw_only=True)
class ProtectedItem:
    """One protected item of a vault, identified by its container and its name.

    ``written_as`` is the name that the author of the DAG wrote, if it is known. Comparisons ignore it.
    """

    vault: Vault
    container: str
    name: str
    written_as: str = field(default="", compare=False)

    @property
    def label(self) -> str:
        """Its name in messages: the name that the author wrote, or else its own name."""
        return self.written_as or self.name

    @property
    def path(self) -> str:
        """ARM id of the protected item."""
        return (
            f"{self.vault.path}/backupFabrics/Azure/protectionContainers/{self.container}"
            f"/protectedItems/{self.name}"
        )

    @property
    def workload(self) -> str:
        """First part of the item's name in lower case: ``vm``, ``azurefileshare``, ``sqldatabase``, ..."""
        return self.name.partition(";")[0].casefold()

    @classmethod
    def parse(cls, arm_id: str) -> ProtectedItem:
        """Read a protected item's ARM id. The ARM id of a backup instance gives a :class:`BackupInstance`.

        :raises AzureBackupConfigError: if it is not one.
        """
        if instance := split_instance_id(arm_id):
            return BackupInstance(vault=Vault.parse(instance[0]), name=instance[1])
        found = match_item(arm_id)
        home = Vault.parse(found.group(1)) if found else None
        if not found or not home or home.is_backup_vault:
            raise AzureBackupConfigError(
                f"this is not the ARM id of a protected item: {arm_id!r}; expected {ITEM_ID} or {INSTANCE_ID}"
            )
        return cls(vault=home, container=found.group(2), name=found.group(3))

    @classmethod
    def of_vm(cls, vault: Vault, vm_id: str) -> ProtectedItem | None:
        """Return the item with the names of a virtual machine, or None if ``vm_id`` is not a VM's ARM id.

        Only the names of items that protect VMs can be derived. All others must be looked up.
        """
        if not (found := match_vm(vm_id)):
            return None
        _, group, vm = found.groups()
        tail = f"iaasvmcontainerv2;{group};{vm}"
        return cls(vault=vault, container=f"IaasVMContainer;{tail}", name=f"VM;{tail}")


@dataclass(frozen=True, kw_only=True)
class BackupInstance(ProtectedItem):
    """What a Backup vault protects: a disk, the blobs of an account, a database, a Kubernetes cluster.

    Its name is that of the resource, such as ``disk-disk-<guid>``, not the friendly one.
    """

    container: str = ""

    @property
    def path(self) -> str:
        """ARM id of the backup instance."""
        return f"{self.vault.path}/backupInstances/{self.name}"

    @property
    def workload(self) -> str:
        """``backupinstance``, because the name does not contain the type of the data source."""
        return "backupinstance"


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
        :raises AzureBackupConfigError: if it is neither, or a GUID comes without a vault.
        """
        named, job_id = split_job_id(text)
        home = Vault.parse(named) if named else vault
        if home is None:
            raise AzureBackupConfigError(f"job {text!r} comes without a vault; give the job's ARM id")
        return cls(vault=home, job_id=job_id)


@dataclass(frozen=True, kw_only=True)
class OperationRef:
    """One asynchronous operation of a vault: what Azure names when it accepts a backup.

    ``validates`` is true of the check of a restore, which a Recovery Services vault keeps apart.
    """

    vault: Vault
    operation_id: str
    validates: bool = False

    @property
    def path(self) -> str:
        """The vault's own URL of the operation, which works without the signature of Azure's answer."""
        collection = "backupValidateOperationsStatuses" if self.validates else "backupOperations"
        if self.vault.is_backup_vault:
            collection = "operationStatus"
        return f"{self.vault.path}/{collection}/{self.operation_id}"


def last_segment(url_or_id: str) -> str:
    """Return what follows the last slash, without any query: the only part of a signed URL that is kept."""
    return url_or_id.partition("?")[0].rstrip("/").rpartition("/")[2]

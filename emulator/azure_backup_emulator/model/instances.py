"""Backup vaults and what they protect: the kinds of data source, and how long their jobs take."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from azure_backup_emulator.model.items import Item, Phase, Vault, Workload

# The one error of an operation that was recorded; whatever the data source, it is a failed precheck.
_NO_PERMISSION = {
    "code": "UserErrorDiskAndSnapshotRGOrMSIPermissionsNotPresent",
    "message": "Could not perform the operation as Azure Backup Service requires additional permissions on "
    "the Snapshot Data store Resource Group and Disk to do this operation.",
}


@dataclass(frozen=True, kw_only=True)
class DataSource(Workload):
    """One kind of data source. ``source_type`` is what Azure calls it, ``resource`` the path of its resource.

    ``set_resource`` is the path of the set that it belongs to, where it does to one; both are templates of an
    instance's fields. ``store`` is where its recovery points lie, ``destination`` what a finished backup job
    says of that. ``separator`` stands between the parent and the name of what people see.
    """

    management: str = ""
    item_type: str = ""
    job_type: str = ""
    backup_request: str = ""
    restore_request: str = ""
    phases: Mapping[str, tuple[Phase, ...]]
    source_type: str
    resource: str
    set_resource: str = ""
    separator: str = "/"
    cancellable: bool = False  # whether a backup job says so; there is no request that would do it
    store: str
    destination: str | None = None
    progress: bool = False
    kept: float | None = 7 * 86400.0  # seconds until a point expires; None where no point says so
    completeness: bool = False  # whether points say that they are complete
    point_type: str = "Full"
    operation_failed: Mapping[str, str] | None = None


_PHASES = {"Backup": (Phase(task="Trigger Backup"),), "Restore": (Phase(task="Trigger Restore"),)}
DATA_SOURCES: Mapping[str, DataSource] = {
    "Disk": DataSource(
        source_type="Microsoft.Compute/disks",
        resource="Microsoft.Compute/disks/{name}",
        store="OperationalStore",
        destination="OperationalTierStore",
        point_type="Incremental",
        phases=_PHASES,
        seconds={"Backup": 185, "Restore": 290},
        point_after=20,
        operation_failed=_NO_PERMISSION,
    ),
    "Blob": DataSource(
        source_type="Microsoft.Storage/storageAccounts/blobServices",
        resource="Microsoft.Storage/storageAccounts/{name}",
        store="VaultStore",
        phases=_PHASES,
        seconds={"Backup": 120, "Restore": 120},  # no backup of blobs was recorded
        point_after=10,
        operation_failed=_NO_PERMISSION,
    ),
    "PostgreSQL": DataSource(
        source_type="Microsoft.DBforPostgreSQL/servers/databases",
        resource="Microsoft.DBforPostgreSQL/servers/{parent}/databases/{name}",
        set_resource="Microsoft.DBforPostgreSQL/servers/{parent}",
        store="VaultStore",
        progress=True,
        phases=_PHASES,
        seconds={"Backup": 95, "Restore": 105},
        point_after=35,
        operation_failed=_NO_PERMISSION,
    ),
    # Its whole server, and restored as files only. The one backup that was recorded failed.
    "PostgreSQLFlexible": DataSource(
        source_type="Microsoft.DBforPostgreSQL/flexibleServers",
        resource="Microsoft.DBforPostgreSQL/flexibleServers/{name}",
        store="VaultStore",
        destination="VaultStore",
        cancellable=True,
        progress=True,
        phases=_PHASES,
        seconds={"Backup": 600, "Restore": 600},
        point_after=60,
        operation_failed=_NO_PERMISSION,
    ),
    "AKS": DataSource(
        source_type="Microsoft.ContainerService/managedClusters",
        resource="Microsoft.ContainerService/managedClusters/{name}",
        set_resource="Microsoft.ContainerService/managedClusters/{name}",
        store="OperationalStore",
        destination="OperationalTierStore",
        point_type="Incremental",
        phases=_PHASES,
        seconds={"Backup": 230, "Restore": 300},
        point_after=30,
        kept=None,
        completeness=True,
        operation_failed=_NO_PERMISSION,
    ),
    "MySQLFlexible": DataSource(
        source_type="Microsoft.DBforMySQL/flexibleServers",
        resource="Microsoft.DBforMySQL/flexibleServers/{name}",
        store="VaultStore",
        destination="VaultStore",
        progress=True,
        cancellable=True,
        phases=_PHASES,
        seconds={"Backup": 600, "Restore": 94},
        point_after=60,
        operation_failed=_NO_PERMISSION,
    ),
    # A volume; its group is what Azure calls the data source, so two volumes of a group share its name.
    "ElasticSan": DataSource(
        source_type="Microsoft.ElasticSan/elasticSans/volumeGroups",
        resource="Microsoft.ElasticSan/elasticSans/{parent}/volumeGroups/{instance}",
        set_resource="Microsoft.ElasticSan/elasticSans/{parent}",
        separator="\\",
        store="OperationalStore",
        progress=True,
        cancellable=True,
        phases=_PHASES,
        seconds={"Backup": 340, "Restore": 300},
        point_after=30,
        point_type="Incremental",
        operation_failed=_NO_PERMISSION,
    ),
    # No backup was recorded, a restore was.
    "ADLS": DataSource(
        source_type="Microsoft.Storage/storageAccounts/adlsBlobServices",
        resource="Microsoft.Storage/storageAccounts/{name}",
        set_resource="Microsoft.Storage/storageAccounts/{parent}",
        separator="\\",
        store="VaultStore",
        phases=_PHASES,
        seconds={"Backup": 120, "Restore": 381},
        point_after=10,
        operation_failed=_NO_PERMISSION,
    ),
}


CONFIGURED = "ProtectionConfigured"  # the one state of an instance in which a backup can be made


@dataclass(frozen=True, kw_only=True)
class BackupVault(Vault):
    """A Backup vault."""

    @cached_property
    def path(self) -> str:
        return (
            f"/subscriptions/{self.subscription}/resourceGroups/{self.group}"
            f"/providers/Microsoft.DataProtection/backupVaults/{self.name}"
        )


@dataclass(frozen=True, kw_only=True)
class Instance(Item):
    """A backup instance. A database's ``parent`` is its server; ``kind`` is a word of ``DATA_SOURCES``."""

    @property
    def workload(self) -> DataSource:
        return DATA_SOURCES[self.kind]

    @property
    def source_name(self) -> str:
        """What Azure calls the data source: the last name of its resource."""
        return self.source_id.rpartition("/")[2]

    @cached_property
    def native_name(self) -> str:
        """Source set, source and a GUID, as portal and CLI make it."""
        text = hashlib.sha256(
            f"{self.vault.path}/{self.group}/{self.parent}/{self.name}".encode()
        ).hexdigest()
        guid = f"{text[:8]}-{text[8:12]}-11ee-{text[12:16]}-{text[16:28]}"
        return f"{self.parent or self.name}-{self.source_name}-{guid}"

    @cached_property
    def path(self) -> str:
        return f"{self.vault.path}/backupInstances/{self.native_name}"

    @property
    def friendly_name(self) -> str:
        """What people see: of a database its server, too."""
        return f"{self.parent}{self.workload.separator}{self.name}" if self.parent else self.name

    @property
    def set_id(self) -> str:
        """The ARM id of a database's server or of a cluster; an empty string for what is in no set."""
        return self._resource(self.workload.set_resource) if self.workload.set_resource else ""

    @cached_property
    def source_id(self) -> str:
        return self._resource(self.workload.resource)

    def _resource(self, template: str) -> str:
        named = template.format(parent=self.parent, instance=self.instance, name=self.name)
        group = f"/subscriptions/{self.vault.subscription}/resourceGroups/{self.group}"
        return f"{group}/providers/{named}"

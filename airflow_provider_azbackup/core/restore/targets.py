"""Restore targets: a function for each, and the table of all of them.

A target is a plain dict, so that a DAG author can template it, map over it, or write it by hand. Operators
check it while a DAG file is parsed, so this module imports no more than
:mod:`~airflow_provider_azbackup.core.model.arm_ids` does.

Source: https://learn.microsoft.com/rest/api/backup/restores/trigger
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypeAlias

from airflow_provider_azbackup.core.model.validation import check_region, check_word, is_template, shown_host
from airflow_provider_azbackup.exceptions import AzureBackupConfigError

RestoreTarget: TypeAlias = dict[str, Any]


# What Azure is to do with a file that is there already.
COPY_OPTIONS = ("Overwrite", "Skip", "CreateCopy", "FailOnConflict")
# The same of something in a cluster.
CONFLICT_POLICIES = ("Skip", "Patch")
# How many containers, or stretches of blobs, one restore to a moment takes.
MOST_RANGES = 10

_SUBSCRIPTION = "/subscriptions/<id>/resourceGroups/<group>"
_ACCOUNT = f"{_SUBSCRIPTION}/providers/Microsoft.Storage/storageAccounts/<name>"
_MACHINE = f"{_SUBSCRIPTION}/providers/Microsoft.Compute/virtualMachines/<name>"
_SUBNET = f"{_SUBSCRIPTION}/providers/Microsoft.Network/virtualNetworks/<name>/subnets/<name>"
_DISK = f"{_SUBSCRIPTION}/providers/Microsoft.Compute/disks/<name>"
_CLUSTER = f"{_SUBSCRIPTION}/providers/Microsoft.ContainerService/managedClusters/<name>"
_DATABASE = f"{_SUBSCRIPTION}/providers/Microsoft.DBforPostgreSQL/servers/<name>/databases/<name>"
_BLOB_CONTAINER = f"{_ACCOUNT}/blobServices/default/containers/<name>"
_CONTAINER = (
    f"{_SUBSCRIPTION}/providers/Microsoft.RecoveryServices/vaults/<name>/backupFabrics/Azure"
    "/protectionContainers/<name>"
)


# Virtual machines


def disks(
    *,
    storage_account_id: str,
    resource_group_id: str | None = None,
    luns: Sequence[int] | None = None,
    region: str | None = None,
    more: Mapping[str, Any] | None = None,
) -> RestoreTarget:
    """Restore the disks of a VM, and a template for a VM with these disks. No VM is touched.

    :param storage_account_id: ARM id of the staging storage account, in the vault's region.
    :param resource_group_id: ARM id of the resource group the managed disks go to; without one they stay
        in the staging account as blobs.
    :param luns: only these data disks, and the system disk; an empty list is the system disk alone.
    :param region: where to; default: the vault's own.
    :param more: further fields of ``IaasVMRestoreRequest`` in Azure's own words, such as ``zones``,
        ``encryptionDetails`` or ``resourceGuardOperationRequests``.
    :raises AzureBackupConfigError: for what is no ARM id of that kind.

    Source: https://learn.microsoft.com/azure/backup/backup-azure-arm-userestapi-restoreazurevms
    """
    _check_id("storage_account_id", storage_account_id, _ACCOUNT)
    _check_id("resource_group_id", resource_group_id, _SUBSCRIPTION, optional=True)
    return _target(
        "disks",
        storage_account_id=storage_account_id,
        resource_group_id=resource_group_id,
        luns=_listed("luns", luns),
        region=region,
        more=more,
    )


def new_vm(
    *,
    vm_id: str,
    subnet_id: str,
    storage_account_id: str,
    region: str | None = None,
    more: Mapping[str, Any] | None = None,
) -> RestoreTarget:
    """Restore a VM as a new VM. The old one is not touched.

    :param vm_id: ARM id that the new VM is to have, which contains its name and its resource group.
    :param subnet_id: ARM id of the subnet it is to be in; names the virtual network, too.
    :param storage_account_id: as in :func:`disks`.
    :param region: as in :func:`disks`.
    :param more: as in :func:`disks`.
    :raises AzureBackupConfigError: for what is no ARM id of that kind.
    """
    _check_id("vm_id", vm_id, _MACHINE)
    _check_id("subnet_id", subnet_id, _SUBNET)
    _check_id("storage_account_id", storage_account_id, _ACCOUNT)
    return _target(
        "new_vm",
        vm_id=vm_id,
        subnet_id=subnet_id,
        storage_account_id=storage_account_id,
        region=region,
        more=more,
    )


def original_vm(
    *,
    storage_account_id: str,
    luns: Sequence[int] | None = None,
    region: str | None = None,
    more: Mapping[str, Any] | None = None,
) -> RestoreTarget:
    """Replace the disks of the VM itself. Azure takes a backup of it first.

    :param storage_account_id: as in :func:`disks`.
    :param luns: as in :func:`disks`.
    :param region: as in :func:`disks`.
    :param more: as in :func:`disks`.
    :raises AzureBackupConfigError: for what is no ARM id of that kind.
    """
    _check_id("storage_account_id", storage_account_id, _ACCOUNT)
    return _target(
        "original_vm",
        storage_account_id=storage_account_id,
        luns=_listed("luns", luns),
        region=region,
        more=more,
    )


# File shares


def original_share(
    *,
    copy_options: str,
    files: Sequence[str] = (),
    folders: Sequence[str] = (),
    more: Mapping[str, Any] | None = None,
) -> RestoreTarget:
    """Restore a file share, or some of its files and folders, to where they were.

    Azure does this from snapshots only. From a recovery point in the vault tier it restores a whole share,
    with ``Overwrite``, into an empty folder of another share: see :func:`other_share`.

    :param copy_options: what becomes of a file that is there: ``Overwrite``, ``Skip``, ``CreateCopy`` or
        ``FailOnConflict``.
    :param files: paths of files, instead of all.
    :param folders: paths of folders, instead of all.
    :param more: further fields of ``AzureFileShareRestoreRequest`` in Azure's own words.
    :raises AzureBackupConfigError: for a copy option that Azure does not know.

    Source: https://learn.microsoft.com/azure/backup/restore-azure-file-share-rest-api
    """
    _check_word("copy_options", copy_options, COPY_OPTIONS)
    return _target(
        "original_share",
        copy_options=copy_options,
        files=_listed("files", files),
        folders=_listed("folders", folders),
        more=more,
    )


def other_share(
    *,
    storage_account_id: str,
    share: str,
    copy_options: str,
    folder: str = "",
    files: Sequence[str] = (),
    folders: Sequence[str] = (),
    more: Mapping[str, Any] | None = None,
) -> RestoreTarget:
    """Restore a file share, or some of its files and folders, into another share.

    :param storage_account_id: ARM id of the storage account of that share.
    :param share: its name.
    :param copy_options: as in :func:`original_share`.
    :param folder: folder of that share to restore into; default: its root.
    :param files: as in :func:`original_share`.
    :param folders: as in :func:`original_share`.
    :param more: as in :func:`original_share`.
    :raises AzureBackupConfigError: for a copy option that Azure does not know, or what is no ARM id.
    """
    _check_id("storage_account_id", storage_account_id, _ACCOUNT)
    _check_word("copy_options", copy_options, COPY_OPTIONS)
    return _target(
        "other_share",
        storage_account_id=storage_account_id,
        share=share,
        copy_options=copy_options,
        folder=folder,
        files=_listed("files", files),
        folders=_listed("folders", folders),
        more=more,
    )


# Databases


def original_database(*, more: Mapping[str, Any] | None = None) -> RestoreTarget:
    """Restore an SQL or SAP HANA database over itself.

    :param more: further fields of the workload's restore request in Azure's own words.

    Source: https://learn.microsoft.com/azure/backup/restore-azure-sql-vm-rest-api
    """
    return _target("original_database", more=more)


def other_database(
    *,
    database: str,
    vm_id: str | None = None,
    container_id: str | None = None,
    overwrite: bool = False,
    files: Sequence[Mapping[str, str]] = (),
    more: Mapping[str, Any] | None = None,
) -> RestoreTarget:
    """Restore an SQL or SAP HANA database under another name, or on another server.

    :param database: ``<instance>/<database>`` for SQL, ``<system>/<database>`` for SAP HANA.
    :param vm_id: ARM id of the VM that it is to run on, registered in the same vault; default: its own.
    :param container_id: ARM id of the server's protection container, if the VM does not show it:
        in another vault, or an availability group.
    :param overwrite: whether a database of that name may be replaced.
    :param files: where SQL Server is to put the files, each a dict of ``mappingType`` (``Data`` or ``Log``),
        ``sourceLogicalName``, ``sourcePath`` and ``targetPath``; default: where the server puts them.
    :param more: as in :func:`original_database`.
    :raises AzureBackupConfigError: for a name of another form, or what is no ARM id of that kind.
    """
    _check_id("vm_id", vm_id, _MACHINE, optional=True)
    _check_id("container_id", container_id, _CONTAINER, optional=True)
    _check_flag("overwrite", overwrite)
    if is_known(database) and not re.fullmatch(r"[^/]+/[^/]+", str(database)):
        raise AzureBackupConfigError(
            f"database {database!r} is not of the form <instance>/<database>, such as MSSQLSERVER/shop_drill"
        )
    return _target(
        "other_database",
        database=database,
        vm_id=vm_id,
        container_id=container_id,
        overwrite=overwrite,
        files=_listed("files", files),
        more=more,
    )


# What Backup vaults keep: disks, blobs, PostgreSQL, Kubernetes


def new_disk(
    *, disk_id: str, region: str | None = None, more: Mapping[str, Any] | None = None
) -> RestoreTarget:
    """Restore a disk as a new one; no disk is touched.

    :param disk_id: ARM id the new disk is to have: its name and its resource group.
    :param region: where to; default: where the disk that was backed up is.
    :param more: further fields of the restore request in Azure's own words, such as
        ``resourceGuardOperationRequests`` or ``identityDetails``.
    :raises AzureBackupConfigError: for what is no ARM id of that kind.

    Source: https://learn.microsoft.com/azure/backup/backup-azure-dataprotection-use-rest-api-restore-disk
    """
    _check_id("disk_id", disk_id, _DISK)
    return _target("new_disk", disk_id=disk_id, region=region, more=more)


def original_blobs(
    *,
    containers: Sequence[str] = (),
    ranges: Sequence[Sequence[str]] = (),
    region: str | None = None,
    more: Mapping[str, Any] | None = None,
) -> RestoreTarget:
    """Take the blobs of a storage account back to a moment, where they are; goes with ``point_in_time``.

    For blobs under operational backup, which keeps every moment and no recovery points.

    :param containers: only the blobs in these containers; at most ten.
    :param ranges: only the blobs between two names each, from the first on and before the second, such as
        ``("orders/2026-01", "orders/2026-02")``; at most ten, instead of ``containers``.
    :param region: as in :func:`new_disk`.
    :param more: as in :func:`new_disk`.
    :raises AzureBackupConfigError: for too many of them, or a range that is none.

    Source: https://learn.microsoft.com/azure/backup/backup-azure-dataprotection-use-rest-api-restore-blobs
    """
    names, pairs = _listed("containers", containers), _listed("ranges", ranges)
    if names and pairs:
        raise AzureBackupConfigError("containers and ranges are given; give one of them, or none for all")
    for name, given in (("containers", names), ("ranges", pairs)):
        if isinstance(given, list) and len(given) > MOST_RANGES:
            raise AzureBackupConfigError(f"{len(given)} {name} are given; Azure takes at most {MOST_RANGES}")
    for pair in pairs if isinstance(pairs, list) else ():
        _check_range(pair)
    return _target(
        "original_blobs",
        containers=names,
        ranges=[[*pair] for pair in pairs] if isinstance(pairs, list) else pairs,
        region=region,
        more=more,
    )


def other_blobs(
    *,
    storage_account_id: str,
    containers: Sequence[str] = (),
    prefixes: Mapping[str, Sequence[str]] | None = None,
    region: str | None = None,
    more: Mapping[str, Any] | None = None,
) -> RestoreTarget:
    """Restore the blobs of a storage account into another one, from a recovery point in the vault.

    Also for Azure Data Lake Storage Gen2.

    :param storage_account_id: ARM id of the other storage account.
    :param containers: only these containers.
    :param prefixes: for some of these containers, how the names of the blobs begin that are restored.
    :param region: as in :func:`new_disk`.
    :param more: as in :func:`new_disk`.
    :raises AzureBackupConfigError: for what is no ARM id, or prefixes of a container that is not restored.

    Source: https://learn.microsoft.com/azure/backup/blob-restore
    """
    _check_id("storage_account_id", storage_account_id, _ACCOUNT)
    listed = _listed("containers", containers)
    sure = isinstance(listed, list) and all(map(is_known, listed))
    named = [*prefixes] if isinstance(prefixes, Mapping) and sure else []
    if strange := [name for name in named if is_known(name) and name not in listed]:
        raise AzureBackupConfigError(f"prefixes are given for {', '.join(strange)}, not among containers")
    if isinstance(prefixes, Mapping):
        prefixes = {name: _listed("prefixes", begins) for name, begins in prefixes.items()}
    return _target(
        "other_blobs",
        storage_account_id=storage_account_id,
        containers=listed,
        prefixes=prefixes,
        region=region,
        more=more,
    )


def database_files(
    *,
    container_url: str,
    prefix: str,
    container_id: str | None = None,
    region: str | None = None,
    more: Mapping[str, Any] | None = None,
) -> RestoreTarget:
    """Restore PostgreSQL or MySQL as files: dumps in a blob container, from which you create databases.

    The one way for a flexible server of either.

    :param container_url: the container, such as ``https://<account>.blob.core.windows.net/<container>``. No
        signature: the vault's own identity writes there.
    :param prefix: how the names of the files begin.
    :param container_id: ARM id of that container, where it is in another subscription than the vault.
    :param region: as in :func:`new_disk`.
    :param more: as in :func:`new_disk`.
    :raises AzureBackupConfigError: for what is no such address, or no ARM id.

    Source: https://learn.microsoft.com/azure/backup/restore-postgresql-database-use-rest-api
    """
    if is_known(container_url) and not re.fullmatch(r"https://[^/?#\s]+/[^/?#\s]+/?", str(container_url)):
        raise AzureBackupConfigError(
            f"container_url is not the plain address of a container; expected "
            f"https://<account>.blob.core.windows.net/<container> without a signature. "
            f"Given: an address on {shown_host(str(container_url))!r}"
        )
    _check_id("container_id", container_id, _BLOB_CONTAINER, optional=True)
    return _target(
        "database_files",
        container_url=container_url,
        prefix=prefix,
        container_id=container_id,
        region=region,
        more=more,
    )


def new_database(
    *,
    database_id: str,
    secret_uri: str | None = None,
    region: str | None = None,
    more: Mapping[str, Any] | None = None,
) -> RestoreTarget:
    """Restore a database of a PostgreSQL single server as a new one, on the same or on another server.

    Microsoft has retired single server. For a flexible server use :func:`database_files`.

    :param database_id: ARM id the new database is to have; names its server, too.
    :param secret_uri: address of the secret in a key vault with which the server lets Azure Backup in.
    :param region: as in :func:`new_disk`.
    :param more: as in :func:`new_disk`.
    :raises AzureBackupConfigError: for what is no ARM id of that kind.

    Source: https://learn.microsoft.com/azure/backup/restore-postgresql-database-use-rest-api
    """
    _check_id("database_id", database_id, _DATABASE)
    return _target("new_database", database_id=database_id, secret_uri=secret_uri, region=region, more=more)


def cluster(
    *,
    cluster_id: str | None = None,
    namespaces: Sequence[str] = (),
    excluded_namespaces: Sequence[str] = (),
    namespace_mappings: Mapping[str, str] | None = None,
    conflict_policy: str = "Skip",
    volumes: bool = True,
    cluster_resources: bool = True,
    staging_resource_group_id: str | None = None,
    staging_storage_account_id: str | None = None,
    region: str | None = None,
    criteria: Mapping[str, Any] | None = None,
    more: Mapping[str, Any] | None = None,
) -> RestoreTarget:
    """Restore what was backed up of a Kubernetes cluster into it, or into another one.

    :param cluster_id: ARM id of the other cluster, which needs the Backup extension; default: its own.
    :param namespaces: only these namespaces.
    :param excluded_namespaces: all namespaces but these.
    :param namespace_mappings: new names for namespaces.
    :param conflict_policy: what becomes of a resource that is there: ``Skip`` or ``Patch``.
    :param volumes: whether persistent volumes come with their data.
    :param cluster_resources: whether resources outside of namespaces are restored.
    :param staging_resource_group_id: ARM id of a resource group for what is brought back from the vault;
        together with the next one it means the copy in the vault, without both, the copy next to the cluster.
    :param staging_storage_account_id: ARM id of a storage account, likewise.
    :param region: as in :func:`new_disk`.
    :param criteria: further fields of ``KubernetesClusterRestoreCriteria`` in Azure's own words, such as
        ``labelSelectors``, ``includedResourceTypes`` or ``restoreHookReferences``.
    :param more: as in :func:`new_disk`.
    :raises AzureBackupConfigError: for a policy that Azure does not know, or what is no ARM id.

    Source: https://learn.microsoft.com/azure/backup/azure-kubernetes-service-cluster-restore-using-cli
    """
    _check_id("cluster_id", cluster_id, _CLUSTER, optional=True)
    _check_id("staging_resource_group_id", staging_resource_group_id, _SUBSCRIPTION, optional=True)
    _check_id("staging_storage_account_id", staging_storage_account_id, _ACCOUNT, optional=True)
    _check_word("conflict_policy", conflict_policy, CONFLICT_POLICIES)
    _check_flag("volumes", volumes)
    _check_flag("cluster_resources", cluster_resources)
    if (staging_resource_group_id is None) != (staging_storage_account_id is None):
        raise AzureBackupConfigError(
            "a restore from the vault needs both staging_resource_group_id and staging_storage_account_id"
        )
    return _target(
        "cluster",
        cluster_id=cluster_id,
        namespaces=_listed("namespaces", namespaces),
        excluded_namespaces=_listed("excluded_namespaces", excluded_namespaces),
        namespace_mappings=namespace_mappings,
        conflict_policy=conflict_policy,
        volumes=volumes,
        cluster_resources=cluster_resources,
        staging_resource_group_id=staging_resource_group_id,
        staging_storage_account_id=staging_storage_account_id,
        region=region,
        criteria=criteria,
        more=more,
    )


class TargetType(NamedTuple):
    """A kind of restore target.

    :param make: the function that checks its fields and returns the target.
    :param workloads: what can be restored to it: kinds of protected items, or in a Backup vault the types of
        data sources; in lower case.
    :param point_in_time: whether it goes with that argument: ``never``, ``sometimes`` or ``always``.
    """

    make: Callable[..., RestoreTarget]
    workloads: frozenset[str]
    point_in_time: Literal["never", "sometimes", "always"] = "never"


_VMS, _SHARES = frozenset({"vm"}), frozenset({"azurefileshare"})
_DATABASES = frozenset({"sqldatabase", "saphanadatabase"})
_DISKS = frozenset({"microsoft.compute/disks"})
_BLOBS = frozenset({"microsoft.storage/storageaccounts/blobservices"})
_DATA_LAKES = frozenset({"microsoft.storage/storageaccounts/adlsblobservices"})
_SINGLE_SERVERS = frozenset({"microsoft.dbforpostgresql/servers/databases"})
_FLEXIBLE_SERVERS = frozenset(
    {"microsoft.dbforpostgresql/flexibleservers", "microsoft.dbformysql/flexibleservers"}
)
_CLUSTERS = frozenset({"microsoft.containerservice/managedclusters"})
# Every restore target by its name, which is also the name of its function.
TARGETS: Mapping[str, TargetType] = MappingProxyType(
    {
        "disks": TargetType(disks, _VMS),
        "new_vm": TargetType(new_vm, _VMS),
        "original_vm": TargetType(original_vm, _VMS),
        "original_share": TargetType(original_share, _SHARES),
        "other_share": TargetType(other_share, _SHARES),
        "original_database": TargetType(original_database, _DATABASES, "sometimes"),
        "other_database": TargetType(other_database, _DATABASES, "sometimes"),
        "new_disk": TargetType(new_disk, _DISKS),
        "original_blobs": TargetType(original_blobs, _BLOBS, "always"),
        "other_blobs": TargetType(other_blobs, _BLOBS | _DATA_LAKES),
        "database_files": TargetType(database_files, _SINGLE_SERVERS | _FLEXIBLE_SERVERS),
        "new_database": TargetType(new_database, _SINGLE_SERVERS),
        "cluster": TargetType(cluster, _CLUSTERS),
    }
)


def read_target(target: Mapping[str, Any]) -> RestoreTarget:
    """Return a target as its function makes it.

    :param target: what one of the functions here returned, or the same written by hand.
    :raises AzureBackupConfigError: for an unknown target, missing or unknown fields, and wrong values.
    """
    name = str(target.get("target"))
    if name not in TARGETS:
        raise AzureBackupConfigError(
            f"restore_to names the target {name!r}; expected one of {', '.join(TARGETS)}, "
            f"best made by the functions of airflow_provider_azbackup.restore_to"
        )
    try:
        return TARGETS[name].make(**{key: value for key, value in target.items() if key != "target"})
    except TypeError as error:
        raise AzureBackupConfigError(f"restore_to: {error}") from None


def _target(name: str, **fields: Any) -> RestoreTarget:
    region = fields.get("region")
    if isinstance(region, str) and not is_template(region):
        check_region("region", region)
    return {"target": name, **{key: value for key, value in fields.items() if value is not None}}


def _check_id(name: str, value: object, form: str, *, optional: bool = False) -> None:
    """Refuse what is no ARM id of this form; casing differs from answer to answer."""
    if (optional and value is None) or not is_known(value):
        return
    pattern = re.sub("<[a-z]+>", lambda _: r"[^/?#\s]+", re.escape(form))
    if not re.fullmatch(pattern, str(value), re.IGNORECASE):
        raise AzureBackupConfigError(f"{name} {value!r} is not an ARM id of the form {form}")


def _check_flag(name: str, value: object) -> None:
    """Refuse a text: "False" is as true as any other."""
    if isinstance(value, str) and is_known(value):
        raise AzureBackupConfigError(f"{name} is the text {value!r}; expected True or False")


def _check_range(pair: object) -> None:
    if isinstance(pair, list | tuple) and len(pair) == 2:
        first, last = pair
        if not (is_known(first) and is_known(last)) or str(first) < str(last):
            return
    raise AzureBackupConfigError(
        f"{pair!r} is no range of blobs; expected two names of which the first comes before the second, "
        f"such as ('orders/2026-01', 'orders/2026-02')"
    )


def _check_word(name: str, value: object, words: Sequence[str]) -> None:
    if is_known(value):
        check_word(name, value, words)


def _listed(name: str, value: Sequence[Any] | None) -> Any:
    """Return a list as JSON has it. A text would be taken for a list of its letters."""
    if isinstance(value, str) and is_known(value):
        raise AzureBackupConfigError(f"{name} is the text {value!r}; expected a list")
    return [*value] if isinstance(value, list | tuple) else value


def is_known(value: object) -> bool:
    """Whether a value is what it says: neither a template nor what another task will return."""
    if isinstance(value, str):
        return "{{" not in value and "{%" not in value
    return value is None or isinstance(value, datetime | int | float | Sequence | Mapping)

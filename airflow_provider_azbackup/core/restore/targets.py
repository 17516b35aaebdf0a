"""What a DAG author may write of a restore: where to, from which moment; and Azure's request for it.

A place is a plain dict that one of the functions here returns, so that it can be templated, mapped over, and
written out by hand as well. Operators check it when a DAG file is parsed, so this module is kept as cheap as
:mod:`~airflow_provider_azbackup.core.model.names`.

Source: https://learn.microsoft.com/rest/api/backup/restores/trigger
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict

from airflow_provider_azbackup.core.model.arm_ids import (
    DATA_PROTECTION,
    RECOVERY_SERVICES,
    match_item,
    split_instance_id,
)
from airflow_provider_azbackup.core.model.validation import (
    check_name,
    check_region,
    check_word,
    is_template,
    read_moment,
    shown_host,
)
from airflow_provider_azbackup.exceptions import AzureBackupConfigError

if TYPE_CHECKING:
    from airflow_provider_azbackup.core.model.resources import ProtectedItem
    from airflow_provider_azbackup.core.wire import JsonObject

Place: TypeAlias = dict[str, Any]
Moment: TypeAlias = datetime | str

# The newest recovery point that can be restored from.
LATEST = "latest"

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


class RestoreOptions(TypedDict, total=False):
    """What a DAG author may say about a restore.

    ``restore_to`` is what a function of this module returned; ``request`` is a body in Azure's own words
    instead. ``recovery_point`` is ``latest``, the id of a recovery point, or its ARM id; ``as_of`` takes the
    newest one of that moment or before; ``point_in_time`` is the moment up to which a database's log is
    applied, or to which blobs go back.
    """

    restore_to: Mapping[str, Any] | None
    request: Mapping[str, Any] | None
    recovery_point: str
    as_of: Moment | None
    point_in_time: Moment | None


# Virtual machines


def disks(
    *,
    storage_account_id: str,
    resource_group_id: str | None = None,
    luns: Sequence[int] | None = None,
    region: str | None = None,
    more: Mapping[str, Any] | None = None,
) -> Place:
    """Restore a machine's disks, and a template to make a machine of them; no machine is touched.

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
    return _place(
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
) -> Place:
    """Restore a machine as a new one beside the old.

    :param vm_id: ARM id the new machine is to have: its name and its resource group.
    :param subnet_id: ARM id of the subnet it is to be in; names the virtual network, too.
    :param storage_account_id: as in :func:`disks`.
    :param region: as in :func:`disks`.
    :param more: as in :func:`disks`.
    :raises AzureBackupConfigError: for what is no ARM id of that kind.
    """
    _check_id("vm_id", vm_id, _MACHINE)
    _check_id("subnet_id", subnet_id, _SUBNET)
    _check_id("storage_account_id", storage_account_id, _ACCOUNT)
    return _place(
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
) -> Place:
    """Replace the disks of the machine itself; Azure takes a backup of it first.

    :param storage_account_id: as in :func:`disks`.
    :param luns: as in :func:`disks`.
    :param region: as in :func:`disks`.
    :param more: as in :func:`disks`.
    :raises AzureBackupConfigError: for what is no ARM id of that kind.
    """
    _check_id("storage_account_id", storage_account_id, _ACCOUNT)
    return _place(
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
) -> Place:
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
    return _place(
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
) -> Place:
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
    return _place(
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


def original_database(*, more: Mapping[str, Any] | None = None) -> Place:
    """Restore an SQL or SAP HANA database over itself.

    :param more: further fields of the workload's restore request in Azure's own words.

    Source: https://learn.microsoft.com/azure/backup/restore-azure-sql-vm-rest-api
    """
    return _place("original_database", more=more)


def other_database(
    *,
    database: str,
    vm_id: str | None = None,
    container_id: str | None = None,
    overwrite: bool = False,
    files: Sequence[Mapping[str, str]] = (),
    more: Mapping[str, Any] | None = None,
) -> Place:
    """Restore an SQL or SAP HANA database under another name, or on another server.

    :param database: ``<instance>/<database>`` for SQL, ``<system>/<database>`` for SAP HANA.
    :param vm_id: ARM id of the machine it is to run on, registered in the same vault; default: its own.
    :param container_id: ARM id of the server's protection container, where the machine does not tell it:
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
    if _is_known(database) and not re.fullmatch(r"[^/]+/[^/]+", str(database)):
        raise AzureBackupConfigError(
            f"database {database!r} is not of the form <instance>/<database>, such as MSSQLSERVER/shop_drill"
        )
    return _place(
        "other_database",
        database=database,
        vm_id=vm_id,
        container_id=container_id,
        overwrite=overwrite,
        files=_listed("files", files),
        more=more,
    )


# What Backup vaults keep: disks, blobs, PostgreSQL, Kubernetes


def new_disk(*, disk_id: str, region: str | None = None, more: Mapping[str, Any] | None = None) -> Place:
    """Restore a disk as a new one; no disk is touched.

    :param disk_id: ARM id the new disk is to have: its name and its resource group.
    :param region: where to; default: where the disk that was backed up is.
    :param more: further fields of the restore request in Azure's own words, such as
        ``resourceGuardOperationRequests`` or ``identityDetails``.
    :raises AzureBackupConfigError: for what is no ARM id of that kind.

    Source: https://learn.microsoft.com/azure/backup/backup-azure-dataprotection-use-rest-api-restore-disk
    """
    _check_id("disk_id", disk_id, _DISK)
    return _place("new_disk", disk_id=disk_id, region=region, more=more)


def original_blobs(
    *,
    containers: Sequence[str] = (),
    ranges: Sequence[Sequence[str]] = (),
    region: str | None = None,
    more: Mapping[str, Any] | None = None,
) -> Place:
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
    return _place(
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
) -> Place:
    """Restore the blobs of a storage account into another one, from a recovery point in the vault.

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
    sure = isinstance(listed, list) and all(map(_is_known, listed))
    named = [*prefixes] if isinstance(prefixes, Mapping) and sure else []
    if strange := [name for name in named if _is_known(name) and name not in listed]:
        raise AzureBackupConfigError(f"prefixes are given for {', '.join(strange)}, not among containers")
    if isinstance(prefixes, Mapping):
        prefixes = {name: _listed("prefixes", begins) for name, begins in prefixes.items()}
    return _place(
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
) -> Place:
    """Restore PostgreSQL as files: dumps in a container of blobs, which somebody else makes databases of.

    The one way for a flexible server.

    :param container_url: the container, such as ``https://<account>.blob.core.windows.net/<container>``. No
        signature: the vault's own identity writes there.
    :param prefix: how the names of the files begin.
    :param container_id: ARM id of that container, where it is in another subscription than the vault.
    :param region: as in :func:`new_disk`.
    :param more: as in :func:`new_disk`.
    :raises AzureBackupConfigError: for what is no such address, or no ARM id.

    Source: https://learn.microsoft.com/azure/backup/restore-postgresql-database-use-rest-api
    """
    if _is_known(container_url) and not re.fullmatch(r"https://[^/?#\s]+/[^/?#\s]+/?", str(container_url)):
        raise AzureBackupConfigError(
            f"container_url is not the plain address of a container; expected "
            f"https://<account>.blob.core.windows.net/<container> without a signature. "
            f"Given: an address on {shown_host(str(container_url))!r}"
        )
    _check_id("container_id", container_id, _BLOB_CONTAINER, optional=True)
    return _place(
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
) -> Place:
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
    return _place("new_database", database_id=database_id, secret_uri=secret_uri, region=region, more=more)


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
) -> Place:
    """Restore what was backed up of a Kubernetes cluster into it, or into another one.

    :param cluster_id: ARM id of the other cluster, which needs the Backup extension; default: its own.
    :param namespaces: only these namespaces.
    :param excluded_namespaces: all namespaces but these.
    :param namespace_mappings: new names for namespaces.
    :param conflict_policy: what becomes of a resource that is there: ``Skip`` or ``Patch``.
    :param volumes: whether persistent volumes come with their data.
    :param cluster_resources: whether resources outside of namespaces are restored.
    :param staging_resource_group_id: ARM id of a resource group for what is brought back from the vault;
        together with the next one it means the copy in the vault, without both that beside the cluster.
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
    return _place(
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


_DATABASES = frozenset({"sqldatabase", "saphanadatabase"})
_POSTGRESQL = "microsoft.dbforpostgresql/servers/databases"
_BLOBS = frozenset({"microsoft.storage/storageaccounts/blobservices"})
# By name: how it is made, and what it is for. In a Backup vault that is the type of a data source.
_PLACES: Mapping[str, tuple[Callable[..., Place], frozenset[str]]] = MappingProxyType(
    {
        "disks": (disks, frozenset({"vm"})),
        "new_vm": (new_vm, frozenset({"vm"})),
        "original_vm": (original_vm, frozenset({"vm"})),
        "original_share": (original_share, frozenset({"azurefileshare"})),
        "other_share": (other_share, frozenset({"azurefileshare"})),
        "original_database": (original_database, _DATABASES),
        "other_database": (other_database, _DATABASES),
        "new_disk": (new_disk, frozenset({"microsoft.compute/disks"})),
        "original_blobs": (original_blobs, _BLOBS),
        "other_blobs": (other_blobs, _BLOBS),
        "database_files": (
            database_files,
            frozenset({_POSTGRESQL, "microsoft.dbforpostgresql/flexibleservers"}),
        ),
        "new_database": (new_database, frozenset({_POSTGRESQL})),
        "cluster": (cluster, frozenset({"microsoft.containerservice/managedclusters"})),
    }
)
# Where a moment can be gone back to, and the one place where nothing else can be.
_BY_MOMENT = frozenset({"original_database", "other_database", "original_blobs"})
CONTINUOUS = "original_blobs"


def check_restore(
    *,
    restore_to: object = None,
    request: object = None,
    recovery_point: object = LATEST,
    as_of: object = None,
    point_in_time: object = None,
    vault_type: str | None = None,
) -> None:
    """Refuse what can be no restore: as far as it can be known now, templates excepted.

    :param vault_type: of the vault that is restored from, where that is known.
    :raises AzureBackupConfigError: saying what was given and what is expected.
    """
    if (restore_to is None) == (request is None):
        raise AzureBackupConfigError(
            f"{'neither' if request is None else 'both'} of restore_to and request given; give exactly one: "
            f"a place of airflow_provider_azbackup.restore_to, or a body in Azure's own words"
        )
    for name, value in (("restore_to", restore_to), ("request", request)):
        if value is not None and not isinstance(value, Mapping) and _is_known(value):
            shown = (
                f"the text {value[:80]!r}" if isinstance(value, str) else f"of type {type(value).__name__}"
            )
            raise AzureBackupConfigError(
                f"{name} is {shown}; expected a dict (a template that renders to one needs "
                f"render_template_as_native_obj=True on the DAG)"
            )
    if isinstance(restore_to, Mapping):
        _check_vault(read_place(restore_to)["place"], vault_type)
    if isinstance(request, Mapping):
        read_request(request)
    named = [
        name
        for name, is_given in (
            ("recovery_point", recovery_point not in (LATEST, None, "")),
            ("as_of", not _is_nothing(as_of)),
            ("point_in_time", not _is_nothing(point_in_time)),
        )
        if is_given
    ]
    if len(named) > 1:
        raise AzureBackupConfigError(
            f"{' and '.join(named)} are given; each of them says which recovery point to take, so give one"
        )
    if "point_in_time" in named and request is not None:
        raise AzureBackupConfigError(
            "point_in_time goes with restore_to; a request brings its own pointInTime or recoveryPointTime"
        )
    place = restore_to["place"] if isinstance(restore_to, Mapping) else None
    if "point_in_time" in named and place and place not in _BY_MOMENT:
        raise AzureBackupConfigError(
            f"point_in_time is for databases and for blobs that stay where they are, and {place!r} is for "
            f"neither; as_of takes the newest recovery point of a moment or before"
        )
    if place == CONTINUOUS and named != ["point_in_time"]:
        raise AzureBackupConfigError(
            f"{place!r} takes blobs back to a moment, not to a recovery point; give point_in_time"
        )
    if isinstance(recovery_point, str) and _is_known(recovery_point):
        split_point_id(recovery_point)
    for name, value in (("as_of", as_of), ("point_in_time", point_in_time)):
        if _is_known(value):
            read_moment(name, value)


def _check_vault(place: str, vault_type: str | None) -> None:
    """Refuse a place that is for the other type of vault."""
    its_own = _vault_type_of(place)
    if vault_type not in (None, its_own):
        kept = (
            "Backup vaults (Microsoft.DataProtection)"
            if its_own == DATA_PROTECTION
            else "Recovery Services vaults"
        )
        fitting = [name for name in _PLACES if _vault_type_of(name) == vault_type]
        raise AzureBackupConfigError(
            f"{place!r} is for what {kept} keep, and the vault is of type {vault_type}; expected one of "
            f"{', '.join(fitting)}"
        )


def _vault_type_of(place: str) -> str:
    return DATA_PROTECTION if any("/" in kind for kind in _PLACES[place][1]) else RECOVERY_SERVICES


def check_fit(kind: str, name: str, place: Place) -> None:
    """Refuse a place that is not for a workload.

    :param kind: of a protected item, or the type of a data source; in lower case.
    :param name: of the item, for the error.
    :param place: where to.
    :raises AzureBackupConfigError: saying which places are.
    """
    if kind not in _PLACES[place["place"]][1]:
        fitting = [known for known, (_, kinds) in _PLACES.items() if kind in kinds]
        raise AzureBackupConfigError(
            f"{name!r} cannot be restored to {place['place']!r}; "
            + (f"expected one of {', '.join(fitting)}" if fitting else "give a request in Azure's own words")
        )


def read_place(place: Mapping[str, Any]) -> Place:
    """Return a place as its function makes it.

    :param place: what one of the functions here returned, or the same written by hand.
    :raises AzureBackupConfigError: for an unknown place, missing or unknown fields, and wrong values.
    """
    name = str(place.get("place"))
    if name not in _PLACES:
        raise AzureBackupConfigError(
            f"restore_to names the place {name!r}; expected one of {', '.join(_PLACES)}, "
            f"best made by the functions of airflow_provider_azbackup.restore_to"
        )
    try:
        return _PLACES[name][0](**{key: value for key, value in place.items() if key != "place"})
    except TypeError as error:
        raise AzureBackupConfigError(f"restore_to: {error}") from None


def read_request(request: Mapping[str, Any]) -> JsonObject:
    """Return a body as it will be sent, from a whole one or from its ``properties``.

    :raises AzureBackupConfigError: when it does not say which kind of restore it asks for.
    """
    inside = request.get("properties", request)
    if not isinstance(inside, Mapping) or not inside.get("objectType"):
        raise AzureBackupConfigError(
            "request has no objectType; expected the properties of a restore request, such as "
            "{'objectType': 'IaasVMRestoreRequest', 'recoveryType': 'RestoreDisks', ...}"
        )
    return {**request} if "properties" in request else {"properties": {**request}}


def split_point_id(text: str) -> tuple[str | None, str]:
    """Split a recovery point's ARM id into its item's ARM id and its own; an id alone comes without an item.

    :raises AzureBackupConfigError: when it is neither.
    """
    if "/" not in text:
        check_name("recovery_point", text)
        return None, text
    item, _, point_id = text.partition("/recoveryPoints/")
    if point_id and "/" not in point_id and (match_item(item) or split_instance_id(item)):
        return item, point_id
    raise AzureBackupConfigError(
        f"recovery_point {text!r} is neither {LATEST!r}, nor the id of a recovery point, nor its ARM id, "
        f"which ends in /protectedItems/<item>/recoveryPoints/<id>, or in "
        f"/backupInstances/<instance>/recoveryPoints/<id>"
    )


def needs_source(place: Place) -> bool:
    """Return whether the request names what was backed up, which only Azure can tell."""
    return bool(place["place"] != "original_database")


def needs_region(item: ProtectedItem, place: Place) -> bool:
    """Return whether the request names a region that the author left to the vault."""
    return item.kind == "vm" and "region" not in place


def restore_request(
    item: ProtectedItem,
    place: Place,
    *,
    point_id: str,
    source_id: str = "",
    region: str = "",
    point_in_time: datetime | None = None,
) -> JsonObject:
    """Return the body that asks for a restore.

    :param item: what is restored; its name tells the workload.
    :param place: where to.
    :param point_id: id of the recovery point.
    :param source_id: ARM id of the machine or the storage account that was backed up.
    :param region: the vault's, for a machine whose place names none.
    :param point_in_time: the moment up to which a database's log is applied.
    :raises AzureBackupConfigError: for a place that is not for this workload.
    """
    check_fit(item.kind, item.label, place)
    if item.kind == "vm":
        properties = {
            "objectType": "IaasVMRestoreRequest",
            "recoveryPointId": point_id,
            "sourceResourceId": source_id,
            "region": place.get("region", region),
            "createNewCloudService": False,
            "originalStorageAccountOption": False,
            **_of_machine(place),
        }
    elif item.kind == "azurefileshare":
        properties = {
            "objectType": "AzureFileShareRestoreRequest",
            "sourceResourceId": source_id,
            **_of_share(place),
        }
    else:
        properties = _of_database(item, place, source_id, point_in_time)
    return {"properties": {**properties, **place.get("more", {})}}


def _of_machine(place: Place) -> JsonObject:
    found: JsonObject = {"storageAccountId": place["storage_account_id"]}
    if "luns" in place:
        found["restoreDiskLunList"] = place["luns"]
    if place["place"] == "original_vm":
        return {**found, "recoveryType": "OriginalLocation"}
    if place["place"] == "disks":
        group = place.get("resource_group_id")
        return {
            **found,
            "recoveryType": "RestoreDisks",
            **({"targetResourceGroupId": group} if group else {}),
        }
    return {
        **found,
        "recoveryType": "AlternateLocation",
        "targetVirtualMachineId": place["vm_id"],
        "targetResourceGroupId": _parent(place["vm_id"], "providers"),
        "virtualNetworkId": _parent(place["subnet_id"], "subnets"),
        "subnetId": place["subnet_id"],
    }


def _of_share(place: Place) -> JsonObject:
    some = [
        {"path": path, "fileSpecType": kind}
        for kind, paths in (("File", place["files"]), ("Directory", place["folders"]))
        for path in paths
    ]
    found: JsonObject = {
        "recoveryType": "OriginalLocation",
        "copyOptions": place["copy_options"],
        "restoreRequestType": "ItemLevelRestore" if some else "FullShareRestore",
    }
    if place["place"] == "other_share":
        found["recoveryType"] = "AlternateLocation"
        found["targetDetails"] = {"name": place["share"], "targetResourceId": place["storage_account_id"]}
        if place["folder"]:
            some = [{**each, "targetFolderPath": place["folder"]} for each in some or [{}]]
    return {**found, "restoreFileSpecs": some} if some else found


def _of_database(
    item: ProtectedItem, place: Place, source_id: str, point_in_time: datetime | None
) -> JsonObject:
    is_sql = item.kind == "sqldatabase"
    kind = "SQL" if is_sql else "SAPHana"
    found: JsonObject = {
        "objectType": f"AzureWorkload{kind}{'PointInTime' if point_in_time else ''}RestoreRequest",
        "recoveryType": "OriginalLocation",
    }
    if point_in_time:
        found["pointInTime"] = point_in_time.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if is_sql:
        # "true" means the directories named below or, without any, the server's own.
        found |= {"shouldUseAlternateTargetLocation": True, "isNonRecoverable": False}
    if place["place"] == "original_database":
        return found
    if is_sql and place["files"]:
        found["alternateDirectoryPaths"] = place["files"]
    machine = place.get("vm_id", source_id)
    return {
        **found,
        "recoveryType": "AlternateLocation",
        "sourceResourceId": source_id,
        "targetInfo": {
            "overwriteOption": "Overwrite" if place["overwrite"] else "FailOnConflict",
            "containerId": place.get("container_id") or _container_of(item, place),
            "databaseName": place["database"],
        },
        "targetVirtualMachineId": machine,
    }


def _container_of(item: ProtectedItem, place: Place) -> str:
    name = item.container
    if "vm_id" in place:
        _, _, _, group, *_, machine = place["vm_id"].strip("/").split("/")
        name = f"VMAppContainer;compute;{group};{machine}"
    return f"{item.vault.path}/backupFabrics/Azure/protectionContainers/{name}"


def _place(name: str, **fields: Any) -> Place:
    region = fields.get("region")
    if isinstance(region, str) and not is_template(region):
        check_region("region", region)
    return {"place": name, **{key: value for key, value in fields.items() if value is not None}}


def _check_id(name: str, value: object, form: str, *, optional: bool = False) -> None:
    """Refuse what is no ARM id of this form; casing differs from answer to answer."""
    if (optional and value is None) or not _is_known(value):
        return
    pattern = re.sub("<[a-z]+>", lambda _: r"[^/?#\s]+", re.escape(form))
    if not re.fullmatch(pattern, str(value), re.IGNORECASE):
        raise AzureBackupConfigError(f"{name} {value!r} is not an ARM id of the form {form}")


def _check_flag(name: str, value: object) -> None:
    """Refuse a text: "False" is as true as any other."""
    if isinstance(value, str) and _is_known(value):
        raise AzureBackupConfigError(f"{name} is the text {value!r}; expected True or False")


def _check_range(pair: object) -> None:
    if isinstance(pair, list | tuple) and len(pair) == 2:
        first, last = pair
        if not (_is_known(first) and _is_known(last)) or str(first) < str(last):
            return
    raise AzureBackupConfigError(
        f"{pair!r} is no range of blobs; expected two names of which the first comes before the second, "
        f"such as ('orders/2026-01', 'orders/2026-02')"
    )


def _check_word(name: str, value: object, words: Sequence[str]) -> None:
    if _is_known(value):
        check_word(name, value, words)


def _listed(name: str, value: Sequence[Any] | None) -> Any:
    """Return a list as JSON has it. A text would be taken for a list of its letters."""
    if isinstance(value, str) and _is_known(value):
        raise AzureBackupConfigError(f"{name} is the text {value!r}; expected a list")
    return [*value] if isinstance(value, list | tuple) else value


def _is_known(value: object) -> bool:
    """Whether a value is what it says: neither a template nor what another task will return."""
    if isinstance(value, str):
        return "{{" not in value and "{%" not in value
    return value is None or isinstance(value, datetime | int | float | Sequence | Mapping)


def _is_nothing(value: object) -> bool:
    return value is None or value == ""


def _parent(arm_id: str, segment: str) -> str:
    """Return what stands before a segment of an ARM id, whatever its casing."""
    return re.split(f"/{segment}/", arm_id, maxsplit=1, flags=re.IGNORECASE)[0]

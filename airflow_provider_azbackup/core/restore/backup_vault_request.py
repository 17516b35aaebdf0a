"""Azure's request for a restore of what a Backup vault keeps.

The shapes are Microsoft's: a target is a data source, some items of one, or files; what is restored from is a
recovery point or a moment.

Source: https://learn.microsoft.com/rest/api/dataprotection/backup-instances/trigger-restore
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType

from airflow_provider_azbackup.core.model.recovery_points import RecoveryPoint
from airflow_provider_azbackup.core.model.resources import last_segment
from airflow_provider_azbackup.core.rest.responses import DataSource
from airflow_provider_azbackup.core.restore.targets import CONTINUOUS, Place
from airflow_provider_azbackup.core.wire import JsonObject
from airflow_provider_azbackup.exceptions import AzureBackupConfigError

_OPERATIONAL, _VAULT = "OperationalStore", "VaultStore"
# What a recovery point's copies may lie in, by the names that a request knows.
_STORES = (_OPERATIONAL, "SnapshotStore", _VAULT, "ArchiveStore")


def instance_request(
    source: DataSource,
    place: Place,
    *,
    point: RecoveryPoint,
    region: str,
    point_in_time: datetime | None = None,
) -> JsonObject:
    """Return the body that asks for a restore of a backup instance; its validation asks with the same.

    :param source: what was backed up.
    :param place: where to, and for this type of data source.
    :param point: the recovery point.
    :param region: where to.
    :param point_in_time: the moment that blobs go back to, instead of the recovery point.
    :raises AzureBackupConfigError: when the recovery point lies where such a restore cannot take it from.
    """
    target: JsonObject = {
        "recoveryOption": "FailIfExists",  # the only one that Azure knows
        "restoreLocation": region,
        **_TARGETS[place["place"]](source, place, region),
    }
    if place["place"] == CONTINUOUS and point_in_time:
        asked = {
            "objectType": "AzureBackupRecoveryTimeBasedRestoreRequest",
            "recoveryPointTime": f"{point_in_time.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}0Z",
            "sourceDataStoreType": _OPERATIONAL,
        }
    else:
        asked = {
            "objectType": "AzureBackupRecoveryPointBasedRestoreRequest",
            "recoveryPointId": point.point_id,
            "sourceDataStoreType": _store(place, point),
        }
    return {**asked, "restoreTargetInfo": target, **place.get("more", {})}


def _store(place: Place, point: RecoveryPoint) -> str:
    """Return where the recovery point is to be taken from: from beside the source where it lies there."""
    lies_in = [store for store in _STORES if store in point.usable_tiers]
    if place["place"] != "cluster":
        return lies_in[0] if lies_in else _VAULT
    wanted = _VAULT if "staging_resource_group_id" in place else _OPERATIONAL
    if lies_in and wanted not in lies_in:
        raise AzureBackupConfigError(
            f"{point} does not lie in the {wanted}; "
            + (
                "a copy in the vault needs staging_resource_group_id and staging_storage_account_id"
                if wanted == _OPERATIONAL
                else "drop staging_resource_group_id and staging_storage_account_id"
            )
        )
    return wanted


def _disk(source: DataSource, place: Place, region: str) -> JsonObject:
    return {"objectType": "RestoreTargetInfo", "datasourceInfo": _resource(source, place["disk_id"], region)}


def _blobs(source: DataSource, place: Place, region: str) -> JsonObject:
    criteria = [
        # "-0" comes behind all that begins with the name of the container and a slash.
        *((name, f"{name}-0") for name in place["containers"]),
        *place["ranges"],
    ]
    return _some_blobs(
        _resource(source, source.resource_id, region),
        [
            {
                "objectType": "RangeBasedItemLevelRestoreCriteria",
                "minMatchingValue": first,
                "maxMatchingValue": last,
            }
            for first, last in criteria
        ],
    )


def _blobs_elsewhere(source: DataSource, place: Place, region: str) -> JsonObject:
    prefixes = place.get("prefixes", {})
    return _some_blobs(
        _resource(source, place["storage_account_id"], region),
        [
            {
                "objectType": "ItemPathBasedRestoreCriteria",
                "itemPath": name,
                "isPathRelativeToBackupItem": True,
                **({"subItemPathPrefix": [*prefixes[name]]} if name in prefixes else {}),
            }
            for name in place["containers"]
        ],
    )


def _some_blobs(account: JsonObject, criteria: list[JsonObject]) -> JsonObject:
    if not criteria:
        return {"objectType": "RestoreTargetInfo", "datasourceInfo": account}
    return {
        "objectType": "ItemLevelRestoreTargetInfo",
        "datasourceInfo": account,
        "restoreCriteria": criteria,
    }


def _files(source: DataSource, place: Place, region: str) -> JsonObject:
    named = {"targetResourceArmId": place["container_id"]} if "container_id" in place else {}
    return {
        "objectType": "RestoreFilesTargetInfo",
        "targetDetails": {
            "url": place["container_url"],
            "filePrefix": place["prefix"],
            "restoreTargetLocationType": "AzureBlobs",
            **named,
        },
    }


def _database(source: DataSource, place: Place, region: str) -> JsonObject:
    database = place["database_id"]
    server = re.split("/databases/", database, maxsplit=1, flags=re.IGNORECASE)[0]
    found: JsonObject = {
        "objectType": "RestoreTargetInfo",
        "datasourceInfo": _resource(source, database, region),
        "datasourceSetInfo": _resource(source, server, region, "DatasourceSet"),
    }
    if "secret_uri" in place:
        found["datasourceAuthCredentials"] = {
            "objectType": "SecretStoreBasedAuthCredentials",
            "secretStoreResource": {"uri": place["secret_uri"], "secretStoreType": "AzureKeyVault"},
        }
    return found


# By field of a place: what Azure calls the same of a cluster. Empty ones are left out.
_CRITERIA = MappingProxyType(
    {
        "namespaces": "includedNamespaces",
        "excluded_namespaces": "excludedNamespaces",
        "namespace_mappings": "namespaceMappings",
        "staging_resource_group_id": "stagingResourceGroupId",
        "staging_storage_account_id": "stagingStorageAccountId",
    }
)


def _cluster(source: DataSource, place: Place, region: str) -> JsonObject:
    named = place.get("cluster_id", source.resource_id)
    tier = "VaultTier" if "staging_resource_group_id" in place else ""
    criteria = {
        "objectType": f"KubernetesCluster{tier}RestoreCriteria",
        "includeClusterScopeResources": place["cluster_resources"],
        "conflictPolicy": place["conflict_policy"],
        "persistentVolumeRestoreMode": f"Restore{'With' if place['volumes'] else 'Without'}VolumeData",
        **{word: place[name] for name, word in _CRITERIA.items() if place.get(name)},
        **place.get("criteria", {}),
    }
    return {
        "objectType": "ItemLevelRestoreTargetInfo",
        "restoreCriteria": [criteria],
        # A cluster is the set of itself, and the one resource whose address Azure's own clients repeat.
        "datasourceInfo": {**_resource(source, named, region), "resourceUri": named},
        "datasourceSetInfo": {**_resource(source, named, region, "DatasourceSet"), "resourceUri": named},
    }


def _resource(source: DataSource, arm_id: str, region: str, kind: str = "Datasource") -> JsonObject:
    return {
        "objectType": kind,
        "resourceID": arm_id,
        "resourceName": last_segment(arm_id),
        "resourceType": _type_of(arm_id),
        "resourceUri": "",
        "resourceLocation": region,
        "datasourceType": source.source_type,
    }


def _type_of(arm_id: str) -> str:
    """Return the type of resource that an ARM id is of: the provider, and every other word behind it."""
    provider, *words = re.split("/providers/", arm_id, flags=re.IGNORECASE)[-1].split("/")
    return "/".join((provider, *words[::2]))


_TARGETS: Mapping[str, Callable[[DataSource, Place, str], JsonObject]] = MappingProxyType(
    {
        "new_disk": _disk,
        "original_blobs": _blobs,
        "other_blobs": _blobs_elsewhere,
        "database_files": _files,
        "new_database": _database,
        "cluster": _cluster,
    }
)

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
from airflow_provider_azbackup.core.restore.targets import TARGETS, RestoreTarget
from airflow_provider_azbackup.core.wire import JsonObject
from airflow_provider_azbackup.exceptions import AzureBackupConfigError

_OPERATIONAL, _VAULT = "OperationalStore", "VaultStore"
_DATA_LAKE = "microsoft.storage/storageaccounts/adlsblobservices"
# What a recovery point's copies may lie in, by the names that a request knows.
_STORES = (_OPERATIONAL, "SnapshotStore", _VAULT, "ArchiveStore")


def instance_request(
    source: DataSource,
    target: RestoreTarget,
    *,
    point: RecoveryPoint,
    region: str,
    point_in_time: datetime | None = None,
) -> JsonObject:
    """Return the body that asks for a restore of a backup instance; its validation asks with the same.

    :param source: what was backed up.
    :param target: where to, and for this type of data source.
    :param point: the recovery point.
    :param region: where to.
    :param point_in_time: the moment that blobs go back to, instead of the recovery point.
    :raises AzureBackupConfigError: when the recovery point lies where such a restore cannot take it from.
    """
    target_info: JsonObject = {
        "recoveryOption": "FailIfExists",  # the only one that Azure knows
        "restoreLocation": region,
        **_TARGET_INFO[target["target"]](source, target, region),
    }
    if point_in_time and TARGETS[target["target"]].point_in_time == "always":
        asked = {
            "objectType": "AzureBackupRecoveryTimeBasedRestoreRequest",
            "recoveryPointTime": f"{point_in_time.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}0Z",
            "sourceDataStoreType": _OPERATIONAL,
        }
    else:
        asked = {
            "objectType": "AzureBackupRecoveryPointBasedRestoreRequest",
            "recoveryPointId": point.point_id,
            "sourceDataStoreType": _store(target, point),
        }
    return {**asked, "restoreTargetInfo": target_info, **target.get("more", {})}


def _store(target: RestoreTarget, point: RecoveryPoint) -> str:
    """Return where the recovery point is to be taken from: next to the source if it is there."""
    lies_in = [store for store in _STORES if store in point.usable_tiers]
    if target["target"] != "cluster":
        return lies_in[0] if lies_in else _VAULT
    wanted = _VAULT if "staging_resource_group_id" in target else _OPERATIONAL
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


def _disk(source: DataSource, target: RestoreTarget, region: str) -> JsonObject:
    return {"objectType": "RestoreTargetInfo", "datasourceInfo": _resource(source, target["disk_id"], region)}


def _blobs(source: DataSource, target: RestoreTarget, region: str) -> JsonObject:
    criteria = [
        # "-0" sorts after all that begins with the name of the container and a slash.
        *((name, f"{name}-0") for name in target["containers"]),
        *target["ranges"],
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


def _blobs_elsewhere(source: DataSource, target: RestoreTarget, region: str) -> JsonObject:
    prefixes = target.get("prefixes", {})
    account = target["storage_account_id"]
    found = _some_blobs(
        _resource(source, account, region),
        [
            {
                "objectType": "ItemPathBasedRestoreCriteria",
                "itemPath": name,
                "isPathRelativeToBackupItem": True,
                **({"subItemPathPrefix": [*prefixes[name]]} if name in prefixes else {}),
            }
            for name in target["containers"]
        ],
    )
    if source.workload == _DATA_LAKE:  # the account is the set of itself
        found["datasourceSetInfo"] = _resource(source, account, region, "DatasourceSet")
    return found


def _some_blobs(account: JsonObject, criteria: list[JsonObject]) -> JsonObject:
    if not criteria:
        return {"objectType": "RestoreTargetInfo", "datasourceInfo": account}
    return {
        "objectType": "ItemLevelRestoreTargetInfo",
        "datasourceInfo": account,
        "restoreCriteria": criteria,
    }


def _files(source: DataSource, target: RestoreTarget, region: str) -> JsonObject:
    named = {"targetResourceArmId": target["container_id"]} if "container_id" in target else {}
    return {
        "objectType": "RestoreFilesTargetInfo",
        "targetDetails": {
            "url": target["container_url"],
            "filePrefix": target["prefix"],
            "restoreTargetLocationType": "AzureBlobs",
            **named,
        },
    }


def _database(source: DataSource, target: RestoreTarget, region: str) -> JsonObject:
    database = target["database_id"]
    server = re.split("/databases/", database, maxsplit=1, flags=re.IGNORECASE)[0]
    found: JsonObject = {
        "objectType": "RestoreTargetInfo",
        "datasourceInfo": _resource(source, database, region),
        "datasourceSetInfo": _resource(source, server, region, "DatasourceSet"),
    }
    if "secret_uri" in target:
        found["datasourceAuthCredentials"] = {
            "objectType": "SecretStoreBasedAuthCredentials",
            "secretStoreResource": {"uri": target["secret_uri"], "secretStoreType": "AzureKeyVault"},
        }
    return found


# By field of a target: what Azure calls the same of a cluster. Empty ones are left out.
_CRITERIA = MappingProxyType(
    {
        "namespaces": "includedNamespaces",
        "excluded_namespaces": "excludedNamespaces",
        "namespace_mappings": "namespaceMappings",
        "staging_resource_group_id": "stagingResourceGroupId",
        "staging_storage_account_id": "stagingStorageAccountId",
    }
)


def _cluster(source: DataSource, target: RestoreTarget, region: str) -> JsonObject:
    named = target.get("cluster_id", source.resource_id)
    tier = "VaultTier" if "staging_resource_group_id" in target else ""
    criteria = {
        "objectType": f"KubernetesCluster{tier}RestoreCriteria",
        "includeClusterScopeResources": target["cluster_resources"],
        "conflictPolicy": target["conflict_policy"],
        "persistentVolumeRestoreMode": f"Restore{'With' if target['volumes'] else 'Without'}VolumeData",
        **{word: target[name] for name, word in _CRITERIA.items() if target.get(name)},
        **target.get("criteria", {}),
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
    """Return the type of resource that an ARM id is of: the provider, and every second word after it."""
    provider, *words = re.split("/providers/", arm_id, flags=re.IGNORECASE)[-1].split("/")
    return "/".join((provider, *words[::2]))


_TARGET_INFO: Mapping[str, Callable[[DataSource, RestoreTarget, str], JsonObject]] = MappingProxyType(
    {
        "new_disk": _disk,
        "original_blobs": _blobs,
        "other_blobs": _blobs_elsewhere,
        "database_files": _files,
        "new_database": _database,
        "cluster": _cluster,
    }
)

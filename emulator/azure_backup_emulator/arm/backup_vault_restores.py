"""The checks of a restore request of a Backup vault, before the service accepts it.

Source: https://learn.microsoft.com/rest/api/dataprotection/backup-instances/trigger-restore
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from azure_backup_emulator.model.jobs import Json

STORES = ("VaultStore", "OperationalStore", "ArchiveStore", "SnapshotStore")
# How far back the blobs of an account with operational backup can be restored.
KEPT_SECONDS = 30 * 24 * 3600.0

BY_TIME = "AzureBackupRecoveryTimeBasedRestoreRequest"
_BY_POINT = ("AzureBackupRecoveryPointBasedRestoreRequest", "AzureBackupRestoreWithRehydrationRequest")
_WHOLE, _ITEMS, _FILES = "RestoreTargetInfo", "ItemLevelRestoreTargetInfo", "RestoreFilesTargetInfo"
_TARGETS: Mapping[str, tuple[str, ...]] = {
    "Disk": (_WHOLE,),
    "Blob": (_WHOLE, _ITEMS),
    "PostgreSQL": (_WHOLE, _FILES),
    "PostgreSQLFlexible": (_FILES,),
    "AKS": (_ITEMS,),
    "MySQLFlexible": (_FILES,),
    "ElasticSan": (_WHOLE,),
    "ADLS": (_WHOLE, _ITEMS),
}
# How a request can name the items to restore, and the fields that each form needs.
_RANGES = {"RangeBasedItemLevelRestoreCriteria": ("minMatchingValue", "maxMatchingValue")}
_PATHS = {"ItemPathBasedRestoreCriteria": ("itemPath", "isPathRelativeToBackupItem")}
_CLUSTER = {
    "KubernetesClusterRestoreCriteria": ("includeClusterScopeResources",),
    "KubernetesClusterVaultTierRestoreCriteria": (
        "includeClusterScopeResources",
        "stagingResourceGroupId",
        "stagingStorageAccountId",
    ),
}


def mistake(asked: Json, kind: str) -> str:
    """Return what is wrong with a request, no matter what can be restored; an empty string if nothing is.

    :param kind: of the data source.
    """
    request, store = asked.get("objectType"), asked.get("sourceDataStoreType")
    if store not in STORES:
        return f"sourceDataStoreType must be one of {', '.join(STORES)}."
    if request not in _BY_POINT and not (request == BY_TIME and kind == "Blob"):
        return f"objectType {request!r} is no restore request of this data source."
    if request == BY_TIME and store != "OperationalStore":
        return "a restore to a moment is made from the OperationalStore."
    target = asked.get("restoreTargetInfo")
    if not isinstance(target, dict):
        return "A restore request with restoreTargetInfo is needed."
    if target.get("objectType") not in _TARGETS[kind]:
        return f"restoreTargetInfo of this data source must be one of {', '.join(_TARGETS[kind])}."
    if target.get("recoveryOption") != "FailIfExists":
        return "recoveryOption must be FailIfExists."
    if target["objectType"] == _FILES:
        missing = _missing(target.get("targetDetails"), ("url", "filePrefix", "restoreTargetLocationType"))
        return f"{', '.join(missing)} must be given in targetDetails." if missing else ""
    if not destination(target):
        return "datasourceInfo with a resourceID is needed."
    return _wrong_items(target, request == BY_TIME, kind) if target["objectType"] == _ITEMS else ""


def _wrong_items(target: Json, by_time: bool, kind: str) -> str:
    known = _CLUSTER if kind == "AKS" else _RANGES if by_time else _PATHS
    criteria = target.get("restoreCriteria")
    if not isinstance(criteria, list) or not criteria:
        return "restoreCriteria are needed."
    for each in criteria:
        if not isinstance(each, dict) or str(each.get("objectType")) not in known:
            return f"restoreCriteria must be of {', '.join(known)}."
        if missing := _missing(each, known[each["objectType"]]):
            return f"{', '.join(missing)} must be given in restoreCriteria."
    return ""


def _missing(found: Any, names: tuple[str, ...]) -> list[str]:
    return [name for name in names if _object(found).get(name) in (None, "")]


def destination(target: Json) -> str | None:
    """Return the ARM id of the target resource, whose key clients write in two ways, or an address."""
    resource, details = (_object(target.get(name)) for name in ("datasourceInfo", "targetDetails"))
    found = resource.get("resourceID") or resource.get("resourceId") or details.get("url")
    return found if isinstance(found, str) else None


def _object(found: Any) -> Json:
    return found if isinstance(found, dict) else {}

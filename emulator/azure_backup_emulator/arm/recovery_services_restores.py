"""The checks of a restore request of a Recovery Services vault, before the service accepts it.

Source: https://learn.microsoft.com/rest/api/backup/restores/trigger
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from azure_backup_emulator.bodies.items import RANGE
from azure_backup_emulator.bodies.times import read_moment
from azure_backup_emulator.model.items import Item
from azure_backup_emulator.model.jobs import Job, Json

_MACHINE = ("IaasVMRestoreRequest", "IaasVMRestoreWithRehydrationRequest")
_SHARE = ("AzureFileShareRestoreRequest",)


def _database(kind: str) -> tuple[str, ...]:
    return tuple(
        f"AzureWorkload{kind}{moment}Restore{ending}"
        for moment in ("", "PointInTime")
        for ending in ("Request", "WithRehydrateRequest")
    )


_TYPES: Mapping[str, Sequence[str]] = {
    "VM": _MACHINE,
    "AzureFileShare": _SHARE,
    "SQLDataBase": _database("SQL"),
    "SAPHanaDatabase": _database("SAPHana"),
    "SAPHanaDBInstance": _database("SAPHana"),
    "SAPAseDatabase": _database("SAPAse"),
}
_DATABASES = ("SQLDataBase", "SAPHanaDatabase", "SAPHanaDBInstance", "SAPAseDatabase")
_LOCATIONS = {
    "VM": ("RestoreDisks", "OriginalLocation", "AlternateLocation"),
    "AzureFileShare": ("OriginalLocation", "AlternateLocation"),
    **dict.fromkeys(_DATABASES, ("OriginalLocation", "AlternateLocation")),
}
# What must be there for an alternate location; a dot leads into an object.
_ALTERNATE = {
    "VM": ("targetVirtualMachineId", "targetResourceGroupId", "virtualNetworkId", "subnetId"),
    "AzureFileShare": ("targetDetails.name", "targetDetails.targetResourceId"),
    **dict.fromkeys(
        _DATABASES, ("targetInfo.overwriteOption", "targetInfo.containerId", "targetInfo.databaseName")
    ),
}
_WORDS = {
    "copyOptions": ("Overwrite", "Skip", "CreateCopy", "FailOnConflict"),
    "restoreRequestType": ("FullShareRestore", "ItemLevelRestore"),
}


def mistake(asked: Json, item: Item, point: str, log: tuple[float, float] | None) -> str:
    """Return what is wrong with a request; an empty string if nothing is.

    :param asked: the request's properties.
    :param point: name of the recovery point in its address.
    :param log: the first and the last moment that the item's logs cover; None without logs.
    """
    kind = str(asked.get("objectType"))
    if kind not in _TYPES[item.kind]:
        return f"objectType must be a restore request of this item: {', '.join(_TYPES[item.kind])}."
    location = asked.get("recoveryType")
    if location not in _LOCATIONS[item.kind]:
        return f"recoveryType {location!r} is not one of {', '.join(_LOCATIONS[item.kind])}."
    if asked.get("recoveryPointId", point) != point:
        return f"recoveryPointId {asked['recoveryPointId']!r} is not the recovery point {point!r}."
    return (
        _wrong_files(asked, item)
        or _missing(asked, item, str(location))
        or _wrong_moment(asked, kind, point, log)
    )


# The type of a check, and the first api-version that knows it. File shares have no type of their own.
_CHECKS = {
    "VM": ("ValidateIaasVMRestoreOperationRequest", "2016-12-01"),
    "AzureFileShare": ("ValidateRestoreOperationRequest", "2016-12-01"),
    **dict.fromkeys(_DATABASES, ("ValidateAzureWorkloadRestoreOperationRequest", "2026-10-01")),
}


def wrong_validation(asked: Json, item: Item, version: str) -> str:
    """Return what is wrong with the request for a check of a restore; an empty string if nothing is."""
    kind, first = _CHECKS[item.kind]
    if asked.get("objectType") != kind:
        return f"objectType must be {kind} for a protected item of type {item.kind}."
    return f"{kind} needs the api-version {first} or later." if version[:10] < first else ""


def wrong_tier(asked: Json, item: Item, point: Job | None) -> str:
    """Return what is wrong with a restore of a share from the vault tier; an empty string if nothing is."""
    tiers = point.point.tiers if point else None
    if item.kind != "AzureFileShare" or not tiers or tiers.get("InstantRP") == "Valid":
        return ""
    wanted = {"recoveryType": "AlternateLocation", "restoreRequestType": "FullShareRestore"}
    wanted |= {"copyOptions": "Overwrite"}
    wrong = [name for name, word in wanted.items() if asked.get(name) != word]
    return f"{', '.join(wrong)}: not offered from the vault tier." if wrong else ""


def obstacles(asked: Json, point: Job | None, now: float, *, is_deleted: bool) -> list[str]:
    """Return what is in the way of a restore, as far as the item and its recovery point show it.

    :param point: the backup that made the recovery point; None for a moment of a log.
    """
    found = ["deleted"] if is_deleted else []
    if point is None:
        return found
    facts = point.point
    usable = {name for name, state in (facts.tiers or {}).items() if state in ("Valid", "Rehydrated")}
    rehydrates = "rehydrat" in str(asked.get("objectType")).lower()
    if usable == {"ArchivedRP"} and not rehydrates:
        found.append("archive")
    if facts.threat == "UnHealthy":
        found.append("infected")
    if facts.soft_deleted or (facts.expires is not None and point.point_at + facts.expires <= now):
        found.append("expired")
    return found


def _wrong_files(asked: Json, item: Item) -> str:
    if item.kind == "AzureFileShare":
        for name, words in _WORDS.items():
            if asked.get(name) not in words:
                return f"{name} {asked.get(name)!r} is not one of {', '.join(words)}."
    if asked.get("restoreRequestType") == "ItemLevelRestore":
        specs = asked.get("restoreFileSpecs")
        if not isinstance(specs, list) or not specs or not all(map(_is_file, specs)):
            return "restoreFileSpecs must name paths and say of each whether it is a File or a Directory."
    return ""


def _missing(asked: Json, item: Item, location: str) -> str:
    needed = _ALTERNATE[item.kind] if location == "AlternateLocation" else ()
    if item.kind == "VM" and not asked.get("identityBasedRestoreDetails"):
        needed = (*needed, "storageAccountId")
    missing = [name for name in needed if not _found(asked, name)]
    return f"{', '.join(missing)} must be given for recoveryType {location}." if missing else ""


def _wrong_moment(asked: Json, kind: str, point: str, log: tuple[float, float] | None) -> str:
    if ("PointInTime" in kind) != (point == RANGE):
        return f"a restore to a point in time goes with the recovery point {RANGE}, and no other does."
    if point != RANGE:
        return ""
    try:
        at = read_moment(asked.get("pointInTime"))
    except ValueError:
        return f"pointInTime {asked.get('pointInTime')!r} is not a date and time."
    if log is None or not log[0] <= at <= log[1]:
        return f"pointInTime {asked['pointInTime']} is not within the logs."
    return ""


def _is_file(spec: object) -> bool:
    kinds = ("File", "Directory")
    return isinstance(spec, dict) and bool(spec.get("path")) and spec.get("fileSpecType") in kinds


def _found(asked: Json, name: str) -> bool:
    found: object = asked
    for part in name.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return bool(found)

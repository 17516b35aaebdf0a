"""Azure's request for a restore of what a Recovery Services vault keeps: VMs, file shares and databases.

Source: https://learn.microsoft.com/rest/api/backup/restores/trigger
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

from airflow_provider_azbackup.core.model.recovery_points import RecoveryPoint
from airflow_provider_azbackup.core.model.resources import ProtectedItem
from airflow_provider_azbackup.core.restore.check import check_target_fits
from airflow_provider_azbackup.core.restore.targets import RestoreTarget
from airflow_provider_azbackup.core.wire import JsonObject
from airflow_provider_azbackup.exceptions import AzureBackupConfigError


def needs_source(target: RestoreTarget) -> bool:
    """Return whether the request names what was backed up, which only Azure knows."""
    return bool(target["target"] != "original_database")


def needs_region(item: ProtectedItem, target: RestoreTarget) -> bool:
    """Return whether the request names a region that the author left to the vault."""
    return item.workload == "vm" and "region" not in target


def check_share_tier(item: ProtectedItem, target: RestoreTarget, point: RecoveryPoint) -> None:
    """Refuse a restore of a file share that its recovery point in the vault tier does not allow.

    :raises AzureBackupConfigError: saying what Azure restores from there.

    Source: https://learn.microsoft.com/azure/backup/azure-file-share-support-matrix
    """
    tiers = [tier.casefold() for tier in point.usable_tiers]
    if item.workload != "azurefileshare" or not tiers or "instantrp" in tiers:
        return
    wrong = [name for name in ("files", "folders") if target.get(name)]
    if target["target"] != "other_share":
        wrong = [repr(target["target"])]
    elif target["copy_options"] != "Overwrite":
        wrong.append(f"copy_options {target['copy_options']!r}")
    if wrong:
        raise AzureBackupConfigError(
            f"{point} of {item.label} lies in the vault tier, from which Azure restores a whole file share "
            f"into an empty folder of another one: give other_share(folder=..., copy_options='Overwrite') "
            f"without files and folders. Given: {', '.join(wrong)}"
        )


def restore_request(
    item: ProtectedItem,
    target: RestoreTarget,
    *,
    point_id: str,
    source_id: str = "",
    region: str = "",
    point_in_time: datetime | None = None,
) -> JsonObject:
    """Return the body that asks for a restore.

    :param item: what is restored; its name shows the workload.
    :param target: where to.
    :param point_id: id of the recovery point.
    :param source_id: ARM id of the VM or the storage account that was backed up.
    :param region: the vault's, for a VM whose target names none.
    :param point_in_time: the moment up to which a database's log is applied.
    :raises AzureBackupConfigError: for a target that is not for this workload.
    """
    check_target_fits(item.workload, item.label, target)
    if item.workload == "vm":
        properties = {
            "objectType": "IaasVMRestoreRequest",
            "recoveryPointId": point_id,
            "sourceResourceId": source_id,
            "region": target.get("region", region),
            "createNewCloudService": False,
            "originalStorageAccountOption": False,
            **_of_machine(target),
        }
    elif item.workload == "azurefileshare":
        properties = {
            "objectType": "AzureFileShareRestoreRequest",
            "sourceResourceId": source_id,
            **_of_share(target),
        }
    else:
        properties = _of_database(item, target, source_id, point_in_time)
    return {"properties": {**properties, **target.get("more", {})}}


def _of_machine(target: RestoreTarget) -> JsonObject:
    found: JsonObject = {"storageAccountId": target["storage_account_id"]}
    if "luns" in target:
        found["restoreDiskLunList"] = target["luns"]
    if target["target"] == "original_vm":
        return {**found, "recoveryType": "OriginalLocation"}
    if target["target"] == "disks":
        group = target.get("resource_group_id")
        return {
            **found,
            "recoveryType": "RestoreDisks",
            **({"targetResourceGroupId": group} if group else {}),
        }
    return {
        **found,
        "recoveryType": "AlternateLocation",
        "targetVirtualMachineId": target["vm_id"],
        "targetResourceGroupId": _parent(target["vm_id"], "providers"),
        "virtualNetworkId": _parent(target["subnet_id"], "subnets"),
        "subnetId": target["subnet_id"],
    }


def _of_share(target: RestoreTarget) -> JsonObject:
    some = [
        {"path": path, "fileSpecType": kind}
        for kind, paths in (("File", target["files"]), ("Directory", target["folders"]))
        for path in paths
    ]
    found: JsonObject = {
        "recoveryType": "OriginalLocation",
        "copyOptions": target["copy_options"],
        "restoreRequestType": "ItemLevelRestore" if some else "FullShareRestore",
    }
    if target["target"] == "other_share":
        found["recoveryType"] = "AlternateLocation"
        found["targetDetails"] = {"name": target["share"], "targetResourceId": target["storage_account_id"]}
        if target["folder"]:
            some = [{**each, "targetFolderPath": target["folder"]} for each in some or [{}]]
    return {**found, "restoreFileSpecs": some} if some else found


def _of_database(
    item: ProtectedItem, target: RestoreTarget, source_id: str, point_in_time: datetime | None
) -> JsonObject:
    is_sql = item.workload == "sqldatabase"
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
    if target["target"] == "original_database":
        return found
    if is_sql and target["files"]:
        found["alternateDirectoryPaths"] = target["files"]
    machine = target.get("vm_id", source_id)
    return {
        **found,
        "recoveryType": "AlternateLocation",
        "sourceResourceId": source_id,
        "targetInfo": {
            "overwriteOption": "Overwrite" if target["overwrite"] else "FailOnConflict",
            "containerId": target.get("container_id") or _container_of(item, target),
            "databaseName": target["database"],
        },
        "targetVirtualMachineId": machine,
    }


def _container_of(item: ProtectedItem, target: RestoreTarget) -> str:
    name = item.container
    if "vm_id" in target:
        _, _, _, group, *_, machine = target["vm_id"].strip("/").split("/")
        name = f"VMAppContainer;compute;{group};{machine}"
    return f"{item.vault.path}/backupFabrics/Azure/protectionContainers/{name}"


def _parent(arm_id: str, segment: str) -> str:
    """Return what stands before a segment of an ARM id, whatever its casing."""
    return re.split(f"/{segment}/", arm_id, maxsplit=1, flags=re.IGNORECASE)[0]

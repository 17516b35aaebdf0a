"""The REST operations of the secondary region of vaults with cross-region restore, of both types.

Recovery points and items of a Recovery Services vault are read there by the paths of the vault, in
api-version 2021-11-15; see ``gateway``.

Source: https://learn.microsoft.com/rest/api/backup/cross-region-restore/trigger and
https://learn.microsoft.com/rest/api/dataprotection/backup-instances/trigger-cross-region-restore
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from functools import partial
from operator import attrgetter

from azure_backup_emulator.arm import backup_vaults, gateway, recovery_services
from azure_backup_emulator.arm.gateway import Call, Response, Route, invalid, not_found
from azure_backup_emulator.bodies import instances as instance_bodies
from azure_backup_emulator.bodies import jobs as job_bodies
from azure_backup_emulator.bodies.items import RANGE
from azure_backup_emulator.model.instances import BackupVault, Instance
from azure_backup_emulator.model.items import Item, Vault
from azure_backup_emulator.model.jobs import Job, Json, Operation
from azure_backup_emulator.model.world import RefusalError


def _mine(call: Call, vault: Vault | None, named: object) -> Vault:
    """Return a vault whose backups are copied into the region of the path.

    Azure does not publish its codes for others, so these are the emulator's own.
    """
    if vault is None:
        raise not_found(f"The vault {named!r} was not found.")
    if not vault.secondary_region:
        raise RefusalError(
            status=400,
            code="UserErrorCrossRegionRestoreNotEnabled",
            message=f"Cross region restore is not enabled for the vault {vault.name}.",
        )
    if vault.secondary_region.lower() != call.parts["region"].lower():
        raise RefusalError(
            status=400,
            code="UserErrorWrongSecondaryRegion",
            message=f"The secondary region of the vault {vault.name} is not {call.parts['region']}.",
        )
    return vault


# Recovery Services vaults


def get_aad_properties(call: Call) -> Response:
    call.filters("backupManagementType")
    region, kind = call.parts["region"], f"{gateway.RECOVERY_SERVICES}/backupAadProperties"
    return Response(
        body={
            "id": f"/subscriptions/{call.parts['sub']}/providers/{kind}",
            "name": "backupAadProperties",
            "type": kind,
            "properties": {
                "tenantId": call.world.tenant,
                "audience": f"https://RecoveryServices/IaasCoord/aadmgmt/{region}",
                "servicePrincipalObjectId": "c505e273-0ba0-47e7-a0bd-f48042b4524d",
            },
        }
    )


def get_access_token(call: Call) -> Response:
    """Return the token with which the secondary region reads one recovery point."""
    item, name = call.item(), call.parts["point"]
    if not call.in_secondary_region:
        raise invalid("An access token is given out by the secondary region only.")
    asked = call.request.json().get("properties")
    if not isinstance(asked, dict) or not asked.get("audience"):
        raise invalid("properties with the audience of the secondary region are needed.")
    if name != RANGE:
        call.point()
    kind = "CrrAccessToken" if item.kind == "VM" else "WorkloadCrrAccessToken"
    token = base64.urlsafe_b64encode(f"{item.path}|{name}".encode()).decode()
    properties = {
        "objectType": kind,
        "accessTokenString": f"secret.{token}",
        "subscriptionId": item.vault.subscription,
        "resourceGroupName": item.vault.group,
        "resourceName": item.vault.name,
        "recoveryPointId": name,
        "containerName": item.container,
        "backupManagementType": item.workload.management,
        "bMSActiveRegion": item.vault.region,
    }
    return Response(body={"id": "", "name": "", "type": "", "properties": properties})


def _granted(call: Call, access: object) -> tuple[Item, str]:
    """Return the item and the recovery point that a token is for."""
    text = str(access.get("accessTokenString")) if isinstance(access, dict) else ""
    try:
        path, _, name = base64.urlsafe_b64decode(text.removeprefix("secret.")).decode().rpartition("|")
    except ValueError:
        path = name = ""
    item = call.world.at(path)
    kinds = ("CrrAccessToken", "WorkloadCrrAccessToken")
    if item is None or not isinstance(access, dict) or access.get("objectType") not in kinds:
        raise invalid("crossRegionRestoreAccessDetails must be the access token of a recovery point.")
    return item, name


def restore(call: Call) -> Response:
    asked = call.request.json()
    item, name = _granted(call, asked.get("crossRegionRestoreAccessDetails"))
    region = _mine(call, item.vault, item.vault.name).secondary_region
    wanted = asked.get("restoreRequest")
    wanted = wanted if isinstance(wanted, dict) else {}
    request, obstacles = recovery_services.restore_request(call, item, name, wanted)
    if request.get("recoveryType") == "OriginalLocation":
        raise invalid("recoveryType OriginalLocation is not offered in the secondary region.")
    if item.kind == "VM" and str(request.get("region")).lower() != region.lower():
        raise invalid(f"region must be {region}.")
    if item.kind == "VM" and not request.get("targetResourceGroupId"):
        raise invalid("targetResourceGroupId must be given for a restore in the secondary region.")
    if request.get("restoreRequestType") == "ItemLevelRestore":
        raise invalid("restoreRequestType must be FullShareRestore in the secondary region.")
    operation = call.world.restore(item, call.now, request, obstacles, region)
    home = f"/subscriptions/{call.parts['sub']}/providers/Microsoft.RecoveryServices/locations/{region}"
    answer = call.accepted(operation, home, "backupCrrOperationsStatus")
    answer.headers["Location"] = answer.headers["Location"].replace(
        "/operationResults/", "/backupCrrOperationResults/", 1
    )
    return answer


def _operation(call: Call) -> Operation:
    operation = call.world.operations.get(call.parts["operation"].lower())
    if operation is None:
        raise not_found(f"The operation '{call.parts['operation']}' was not found.")
    return operation


def get_operation(call: Call) -> Response:
    return Response(body=job_bodies.operation(_operation(call), call.now))


def get_operation_result(call: Call) -> Response:
    return Response(status=202 if call.now < _operation(call).ready else 204)


def _vault(call: Call) -> Vault:
    named = str(call.request.json().get("resourceId"))
    return _mine(call, call.world.vault_at.get(named.lower()), named)


def get_job(call: Call) -> Response:
    vault, asked = _vault(call), call.request.json()
    job = _job(call, vault, asked.get("jobName"))
    return Response(body=recovery_services.job_body(call, job, full=True))


def _job(call: Call, vault: Vault, named: object) -> Job:
    job = call.world.jobs.get(str(named).lower())
    if job is None or job.item.vault != vault or not job.region:
        raise not_found(f"The job {named!r} was not found.")
    return job


def list_jobs(call: Call) -> Response:
    vault = _vault(call)
    return recovery_services.list_jobs(call, vault, vault.secondary_region)


# Backup vaults


def _instance(call: Call, details: object) -> Instance:
    asked = details if isinstance(details, dict) else {}
    item = call.world.at(str(asked.get("sourceBackupInstanceId")))
    if not isinstance(item, Instance):
        raise not_found(f"The backup instance {asked.get('sourceBackupInstanceId')!r} was not found.")
    _of_source(call, item.vault, asked)
    return item


def _of_source(call: Call, vault: Vault | None, asked: Json) -> Vault:
    found = _mine(call, vault, asked.get("sourceBackupVaultId"))
    if str(asked.get("sourceRegion")).replace(" ", "").lower() != found.region.lower():
        raise RefusalError(
            status=400,
            code="UserErrorInvalidRequest",
            message=f"sourceRegion must be the region of the vault, not {asked.get('sourceRegion')!r}.",
        )
    return found


def list_points(call: Call) -> Response:
    """List the recovery points whose copy in the vault has been copied on into the secondary region."""
    item = _instance(call, call.request.json())
    copied = [
        job
        for job in backup_vaults.points(call, item)
        if "VaultStore" in instance_bodies.stores(job, item, call.now)
    ]
    return call.page(
        copied, lambda job: instance_bodies.recovery_point(job, item, call.now), attrgetter("id")
    )


def _restored(call: Call) -> tuple[Instance, object]:
    asked = call.request.json()
    return _instance(call, asked.get("crossRegionRestoreDetails")), asked.get("restoreRequestObject")


def validate_restore(call: Call) -> Response:
    item, _ = _restored(call)
    return _accepted(call, backup_vaults.validation(call, item))


def restore_instance(call: Call) -> Response:
    item, asked = _restored(call)
    region = item.vault.secondary_region
    return _accepted(call, backup_vaults.restoration(call, item, asked, region))


def _accepted(call: Call, operation: Operation) -> Response:
    """Return a 202; the address of the operation is one of the secondary region, as recorded."""
    name, version = instance_bodies.operation_name(operation.id), call.request.query["api-version"]
    home = f"{call.request.base}/subscriptions/{call.parts['sub']}/providers/Microsoft.DataProtection"
    where = f"{home}/locations/{call.parts['region']}"
    return Response(
        status=202,
        headers={
            "Azure-AsyncOperation": f"{where}/operationStatus/{name}?api-version={version}",
            "Location": f"{where}/operationResults/{name}?api-version={version}",
            "Retry-After": call.retry_after(),
        },
    )


def _backup_vault(call: Call) -> Vault:
    asked = call.request.json()
    named = str(asked.get("sourceBackupVaultId"))
    return _of_source(call, call.world.vault_at.get(named.lower()), asked)


def _instance_job(call: Call, job: Job, *, full: bool) -> Json:
    assert isinstance(job.item, Instance)
    path = job.item.vault.path.replace("/backupVaults/", "/BackupVaults/")  # as recorded
    return instance_bodies.job(job, call.now, job.item, vault_path=path, full=full)


def get_instance_job(call: Call) -> Response:
    job = _job(call, _backup_vault(call), call.request.json().get("jobId"))
    return Response(body=_instance_job(call, job, full=True))


def list_instance_jobs(call: Call) -> Response:
    vault = _backup_vault(call)
    assert isinstance(vault, BackupVault)
    return call.page(
        call.world.jobs_in(vault),
        partial(_instance_job, call, full=False),
        attrgetter("id"),
        lambda job: bool(job.region) and call.now >= job.starts + job.visible_after,
    )


Handler = Callable[[Call], Response]
_LOCATION = rf"{recovery_services.SUB}/providers/Microsoft\.RecoveryServices/locations/(?P<region>[^/]+)"
_IN_GROUP = rf"{backup_vaults.GROUP}{backup_vaults.PROVIDER}/locations/(?P<region>[^/]+)"
_TOKEN = "vaults/backupFabrics/protectionContainers/protectedItems/recoveryPoints/accessToken/action"


def _route(method: str, path: str, action: str, handler: Handler) -> Route:
    return Route(method, re.compile(path + "/?", re.IGNORECASE), action, handler)


def _regional(name: str, handler: Handler) -> Route:
    action = f"subscriptions/resourceGroups/providers/locations/{name}/action"
    pattern = re.compile(f"{_IN_GROUP}/{name}/?", re.IGNORECASE)
    return Route("POST", pattern, action, handler, gateway.DATA_PROTECTION)


SECONDARY_REGION = (
    _route(
        "GET", f"{_LOCATION}/backupAadProperties", "locations/backupAadProperties/read", get_aad_properties
    ),
    _route(
        "POST",
        rf"{recovery_services.ITEM}/recoveryPoints/(?P<point>[^/]+)/accessToken",
        _TOKEN,
        get_access_token,
    ),
    _route(
        "POST",
        f"{_LOCATION}/backupCrossRegionRestore",
        "locations/backupCrossRegionRestore/action",
        restore,
    ),
    _route(
        "GET",
        rf"{_LOCATION}/backupCrrOperationsStatus/{recovery_services.OPERATION}",
        "locations/backupCrrOperationsStatus/read",
        get_operation,
    ),
    _route(
        "GET",
        rf"{_LOCATION}/backupCrrOperationResults/{recovery_services.OPERATION}",
        "locations/backupCrrOperationResults/read",
        get_operation_result,
    ),
    _route("POST", f"{_LOCATION}/backupCrrJob", "locations/backupCrrJob/action", get_job),
    _route("POST", f"{_LOCATION}/backupCrrJobs", "locations/backupCrrJobs/action", list_jobs),
    _regional("fetchSecondaryRecoveryPoints", list_points),
    _regional("validateCrossRegionRestore", validate_restore),
    _regional("crossRegionRestore", restore_instance),
    _regional("fetchCrossRegionRestoreJob", get_instance_job),
    _regional("fetchCrossRegionRestoreJobs", list_instance_jobs),
)

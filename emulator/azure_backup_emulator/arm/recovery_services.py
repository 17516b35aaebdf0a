"""The REST operations of Recovery Services vaults: a handler for each, and the table of routes and rights."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from operator import attrgetter, itemgetter

from azure_backup_emulator.arm import gateway, guards
from azure_backup_emulator.arm import recovery_services_restores as restores
from azure_backup_emulator.arm.backup_vaults import DATA_PROTECTION
from azure_backup_emulator.arm.gateway import Call, Response, Route, invalid, not_found
from azure_backup_emulator.bodies import items as item_bodies
from azure_backup_emulator.bodies import jobs as job_bodies
from azure_backup_emulator.bodies.times import read_moment
from azure_backup_emulator.model.items import WORKLOADS, Item, Vault
from azure_backup_emulator.model.jobs import Job, Json, Plan
from azure_backup_emulator.model.world import OPERATION_FAILED, RefusalError

BACKUP_TYPES = (
    "Full",
    "Differential",
    "Log",
    "CopyOnlyFull",
    "Incremental",
    "SnapshotFull",
    "SnapshotCopyOnlyFull",
)


def list_subscriptions(call: Call) -> Response:
    """List the subscriptions in which the caller has any right, which is the first request of `az login`."""
    world = call.world
    found = world.subscriptions if call.principal.actions else []
    seen = [item_bodies.subscription(each, world.tenant) for each in found]
    return Response(body={"value": seen, "count": {"type": "Total", "value": len(seen)}})


def list_vaults(call: Call) -> Response:
    here = call.parts["sub"].lower()
    found = [vault for vault in call.world.vaults if vault.subscription.lower() == here]
    return call.page(found, item_bodies.vault, attrgetter("path"))


def get_vault(call: Call) -> Response:
    return Response(body=item_bodies.vault(call.vault()))


def list_guards(call: Call) -> Response:
    """List the Resource Guards of a vault. `az backup restore` asks for them before it starts anything."""
    return Response(body={"value": guards.proxies(call, call.vault())})


def list_permissions(call: Call) -> Response:
    """List the actions of the caller as those of one role. The item need not exist."""
    return Response(body={"value": [{"actions": [*call.principal.actions], "notActions": []}]})


def list_items(call: Call) -> Response:
    keys = (
        "backupManagementType",
        "itemType",
        "friendlyName",
        "policyName",
        "containerName",
        "fabricName",
        "healthState",
    )
    wanted = call.filters(*keys)
    management, kind = (wanted.get(key, "").lower() for key in ("backupManagementType", "itemType"))

    def is_wanted(item: Item) -> bool:
        workload = item.workload
        return management in ("", workload.management.lower()) and kind in ("", workload.item_type.lower())

    return call.page(call.items(), partial(_item_body, call), attrgetter("path"), is_wanted)


def _item_body(call: Call, item: Item, expand: bool = False) -> Json:
    return item_bodies.item(
        item,
        call.history(item),
        call.now,
        protection=call.world.protection_of(item, call.now),
        base=call.request.base,
        expand=expand,
    )


def get_item(call: Call) -> Response:
    return Response(body=_item_body(call, call.item(), "expand" in call.filters("expand")))


def _policies(call: Call) -> dict[str, list[Item]]:
    """Return the items of each policy of a vault, by the policy's name in lower case."""
    found: dict[str, list[Item]] = {}
    for item in call.items():
        found.setdefault(item.policy.lower(), []).append(item)
    return found


def list_policies(call: Call) -> Response:
    """List the policies of the vault's items. The emulator knows no other policies."""
    wanted = call.filters("backupManagementType", "workloadType", "fabricName", "name")
    found = [
        items
        for name, items in _policies(call).items()
        if wanted.get("backupManagementType", "").lower() in ("", items[0].workload.management.lower())
        and wanted.get("workloadType", "").lower() in ("", items[0].workload.item_type.lower())
        and wanted.get("name", "").lower() in ("", name)
    ]
    return call.page(found, item_bodies.policy, lambda items: items[0].policy)


def get_policy(call: Call) -> Response:
    items = _policies(call).get(call.parts["policy"].lower())
    if items is None:
        raise not_found(f"The backup policy '{call.parts['policy']}' was not found in this vault.")
    return Response(body=item_bodies.policy(items))


def list_containers(call: Call) -> Response:
    wanted = call.filters("backupManagementType", "friendlyName", "status")
    found = {
        body["id"]: body
        for body in map(item_bodies.container, {each.container: each for each in call.items()}.values())
        if wanted.get("backupManagementType", "").lower()
        in ("", body["properties"]["backupManagementType"].lower())
        and wanted.get("friendlyName", "").lower() in ("", body["properties"]["friendlyName"].lower())
        and wanted.get("status", "").lower() in ("", "registered")
    }
    return call.page(list(found.items()), itemgetter(1), itemgetter(0))


def back_up(call: Call) -> Response:
    item = call.item()
    asked = call.request.json().get("properties")
    workload = item.workload
    if not isinstance(asked, dict) or asked.get("objectType") != workload.backup_request:
        raise invalid(
            f"objectType must be {workload.backup_request} for a protected item of type {item.kind}."
        )
    _refuse_unprotected(call, item)
    kind = str(asked.get("backupType", workload.backup_type))
    if item.kind == "SAPHanaDBInstance" and "Snapshot" not in kind:
        raise invalid(f"backupType {kind!r} is not for an instance; expected SnapshotFull.")
    if workload.management == "AzureWorkload" and kind not in BACKUP_TYPES:
        raise invalid(f"backupType {kind!r} is not one of {', '.join(BACKUP_TYPES)}.")
    expiry = _expiry(call, asked.get("recoveryPointExpiryTimeInUTC"))
    if expiry is None and item.kind == "VM":
        expiry = call.now + 30 * 86400
    operation = call.world.back_up(item, call.now, backup_type=kind, expiry=expiry)
    return call.accepted(operation, item.path, "operationsStatus")


def _refuse_unprotected(call: Call, item: Item) -> None:
    """Refuse a backup of an unprotected item. Azure does not publish its codes, so these are the emulator's
    own.
    """
    protection = call.world.protection_of(item, call.now)
    if protection.deleted_at is not None:
        raise RefusalError(
            status=400,
            code="UserErrorProtectedItemSoftDeleted",
            message="The backup data of the item is in the soft-deleted state. Undelete it to back it up.",
        )
    if protection.state == item_bodies.STOPPED:
        raise RefusalError(
            status=400,
            code="UserErrorProtectionStopped",
            message="The protection of the item is stopped. Resume it to back it up.",
        )


def _expiry(call: Call, text: str | None) -> float | None:
    if text is None:
        return None
    try:
        at = read_moment(text)
    except ValueError:
        raise invalid(f"recoveryPointExpiryTimeInUTC {text!r} is not a date and time.") from None
    if at <= call.now:
        raise invalid(f"recoveryPointExpiryTimeInUTC {text!r} is in the past.")
    return at


def get_operation(call: Call) -> Response:
    return Response(body=job_bodies.operation(call.operation(), call.now))


def item_operation_result(call: Call) -> Response:
    """Return 202 while the operation runs and then 204, never with a job id, as recorded."""
    operation = call.operation()
    running = call.now < operation.ready or operation.ending == "InProgress"
    answer = call.accepted(operation, call.item().path, "operationsStatus")
    if not running:
        answer.headers.pop("Location")
    return Response(status=202 if running else 204, body={} if running else None, headers=answer.headers)


def vault_operation_result(call: Call) -> Response:
    operation = call.operation()
    return Response(status=202 if call.now < operation.ready else 204)


def _jobs_wanted(call: Call) -> tuple[dict[str, str], float, float]:
    """Return the filter of a list of jobs, and the time window in which the jobs start."""
    wanted = call.filters("status", "operation", "backupManagementType", "jobId", "startTime", "endTime")
    first = _window(wanted.get("startTime"), -math.inf)
    return wanted, first, _window(wanted.get("endTime"), math.inf)


def list_jobs(call: Call, vault: Vault | None = None, region: str = "") -> Response:
    """List the jobs of a vault, or the restores that run in its secondary region."""
    vault = vault or call.vault()
    wanted, first, last = _jobs_wanted(call)

    def is_wanted(job: Job) -> bool:
        return (
            job.region == region
            and call.now >= job.starts + job.visible_after
            and first <= job.starts <= last
            and wanted.get("status", "").lower() in ("", job.status(call.now).lower())
            and wanted.get("operation", "").lower() in ("", job.operation.lower())
            and wanted.get("backupManagementType", "").lower() in ("", job.item.workload.management.lower())
            and wanted.get("jobId", "").lower() in ("", job.id)
        )

    body = partial(job_body, call, full=False)
    return call.page(call.world.jobs_in(vault), body, attrgetter("id"), is_wanted)


def _window(text: str | None, default: float) -> float:
    """Return a bound of a time window such as ``2016-06-21 11:17:42 PM``: 12-hour clock, English, UTC."""
    if text is None:
        return default
    match = re.fullmatch(r"(\d{4}-\d\d-\d\d) (0\d|1[0-2]):(\d\d:\d\d) (AM|PM)", text)
    try:
        if match is None:
            raise ValueError(text)
        hour = int(match[2]) % 12 + (12 if match[4] == "PM" else 0)
        return datetime.fromisoformat(f"{match[1]}T{hour:02}:{match[3]}+00:00").timestamp()
    except ValueError:
        raise invalid(f"The date {text!r} is not of the form yyyy-MM-dd hh:mm:ss tt.") from None


def job_body(call: Call, job: Job, *, full: bool) -> Json:
    home = f"/subscriptions/{job.item.vault.subscription}/providers/Microsoft.RecoveryServices"
    path = f"{home}/locations/{job.region}" if job.region else call.parts["vault_path"]
    return job_bodies.job(job, call.now, vault_path=path, full=full)


def get_job(call: Call) -> Response:
    return Response(body=job_body(call, call.job(), full=True))


def export_jobs(call: Call) -> Response:
    """Accept an export. The file that its result names does not exist, because storage is not emulated."""
    vault = call.vault()
    _jobs_wanted(call)
    operation = call.world.add_operation(call.now, Plan(), ending="NoProperties")
    return _exporting(call, f"{vault.path}/backupJobs/operationResults/{operation.id}")


def _exporting(call: Call, path: str, body: Json | None = None) -> Response:
    address = f"{call.request.base}{path}?api-version={call.request.query['api-version']}"
    return Response(status=202, body=body, headers={"Location": address, "Retry-After": call.retry_after()})


def export_result(call: Call) -> Response:
    operation = call.operation()
    body = job_bodies.export(operation, call.now)
    return Response(body=body) if call.now >= operation.ready else _exporting(call, call.request.path, body)


def cancel_job(call: Call) -> Response:
    job = call.job()
    operation = call.world.cancel(job, call.now)
    path = f"{job.item.vault.path}/backupJobs/{job.id}"
    # The recorded address has this preview version, no matter which one the request has.
    return call.accepted(operation, path, "operationsStatus", "2019-05-13-preview")


def job_operation_result(call: Call) -> Response:
    call.job()
    call.operation()
    return Response(status=204)


def list_points(call: Call) -> Response:
    item = call.item()
    wanted = call.filters("startDate", "endDate", "restorePointQueryType", "extendedInfo")
    first, last = _window(wanted.get("startDate"), -math.inf), _window(wanted.get("endDate"), math.inf)
    query = wanted.get("restorePointQueryType", "")
    if query not in QUERY_TYPES:
        raise invalid(f"restorePointQueryType {query!r} is not one of {', '.join(QUERY_TYPES)}.")
    jobs = [
        job
        for job in reversed(call.history(item))
        if job.snapshot_taken(call.now)
        and (not call.in_secondary_region or job.ended(call.now) in ("Completed", "CompletedWithWarnings"))
        and first <= job.point_at <= last
        and (item.workload.management != "AzureWorkload" or job.backup_type in QUERY_TYPES[query])
    ]
    log = call.log(item) if query in ("Log", "All") else None
    version = call.request.query["api-version"]

    def body(job: Job | None) -> Json:
        if job is None:
            return item_bodies.log_range(item, *(log or ()))
        return item_bodies.recovery_point(job, call.now, version)

    return call.page([*jobs, *([None] if log else [])], body, lambda job: job.id if job else "log")


# The backup types that a list of a database's recovery points contains, by restorePointQueryType.
_SNAPSHOTS = ("SnapshotFull", "SnapshotCopyOnlyFull")
_ALL = ("Full", "Differential", "Incremental", "CopyOnlyFull", *_SNAPSHOTS)
QUERY_TYPES: Mapping[str, Sequence[str]] = {
    "": _ALL,
    "All": _ALL,
    "Full": ("Full", "CopyOnlyFull"),
    "Differential": ("Differential",),
    "Incremental": ("Incremental",),
    "SnapshotFull": _SNAPSHOTS,
    "SnapshotCopyOnlyFull": ("SnapshotCopyOnlyFull",),
    "FullAndDifferential": ("Full", "CopyOnlyFull", "Differential"),
    "Log": (),
}


def get_point(call: Call) -> Response:
    if call.parts["point"] == item_bodies.RANGE and (log := call.log(call.item())):
        return Response(body=item_bodies.log_range(call.item(), *log))
    version = call.request.query["api-version"]
    return Response(body=item_bodies.recovery_point(call.point(), call.now, version))


def restore(call: Call) -> Response:
    item = call.item()
    for action in _RESTORES_VM if item.kind == "VM" else ():
        call.need(action)
    found = call.request.json().get("properties")
    asked: Json = found if isinstance(found, dict) else {}
    request, obstacles = restore_request(call, item, call.parts["point"], asked)
    operation = call.world.restore(item, call.now, request, obstacles)
    return call.accepted(operation, item.path, "operationsStatus")


def restore_request(call: Call, item: Item, name: str, asked: Json) -> tuple[Json, list[str]]:
    """Check a restore request; return what its job keeps of it, and what is in its way."""
    guards.check(call, item.vault, asked)
    log = call.log(item)
    point = None if name == item_bodies.RANGE and log is not None else call.point(item, name)
    if reason := restores.mistake(asked, item, name, log) or restores.wrong_tier(asked, item, point):
        raise invalid(reason)
    at = read_moment(asked["pointInTime"]) if point is None else point.point_at
    deleted = call.world.protection_of(item, call.now).deleted_at is not None
    obstacles = restores.obstacles(asked, point, call.now, is_deleted=deleted)
    return {**asked, "pointTime": at}, [*call.world.plans[item.path].obstacles, *obstacles]


def validate_restore(call: Call) -> Response:
    """Check a restore by an operation, which makes no job."""
    vault, body = call.vault(), call.request.json()
    path, _, name = str(body.get("id", "")).partition("/recoveryPoints/")
    asked = body.get("properties")
    item = call.world.at(path)
    if not isinstance(asked, dict) or not isinstance(asked.get("restoreRequest"), dict):
        raise invalid("properties with a restoreRequest are needed.")
    if item is None or item.vault != vault or not name:
        raise invalid("id must be the ARM id of a recovery point in this vault.")
    if reason := restores.wrong_validation(asked, item, call.request.query["api-version"]):
        raise invalid(reason)
    _, obstacles = restore_request(call, item, name, asked["restoreRequest"])
    world, plan = call.world, call.world.plans[item.path]
    if plan.validation == "Succeeded":
        operation = world.add_operation(call.now, plan, ending="NoProperties", obstacles=obstacles)
    elif plan.validation == "InProgress":
        operation = world.add_operation(call.now, plan, ending="InProgress")
    else:
        error = dict(item.workload.operation_failed or OPERATION_FAILED)
        operation = world.add_operation(call.now, plan, ending="Failed", error=error)
    return call.accepted(
        operation, vault.path, "backupValidateOperationsStatuses", results="backupValidateOperationResults"
    )


def validation_result(call: Call) -> Response:
    operation = call.operation()
    if call.now < operation.ready or operation.ending == "InProgress":
        return Response(status=202)
    return Response(body=job_bodies.validation(operation))


def backup_status(call: Call) -> Response:
    asked = call.request.json()
    source = str(asked.get("resourceId", ""))
    match = re.fullmatch(
        r"/subscriptions/[^/]+/resourceGroups/([^/]+)/providers/.*/([^/]+)", source, re.IGNORECASE
    )
    if asked.get("resourceType") != "VM" or match is None:
        raise invalid("resourceType must be VM and resourceId the ARM id of a virtual machine.")
    found = [i for i in call.world.items if i.kind == "VM" and i.source_id.lower() == source.lower()]
    return Response(body=item_bodies.backup_status(found[0] if found else None, match[2], match[1]))


def usage(call: Call) -> Response:
    kind = call.filters("type").get("type", "BackupProtectedItemCountSummary")
    counted = [item.workload.management for item in call.items()]
    if kind == "BackupProtectionContainerCountSummary":
        counted = [
            management for management, _ in {(i.workload.management, i.container) for i in call.items()}
        ]
    kinds = dict.fromkeys(workload.management for workload in WORKLOADS.values())
    return Response(body={"value": [item_bodies.usage(each, counted.count(each)) for each in kinds]})


SUB = r"/subscriptions/(?P<sub>[^/]+)"
VAULT = (
    rf"(?P<vault_path>{SUB}/resourceGroups/(?P<group>[^/]+)"
    r"/providers/Microsoft\.RecoveryServices/vaults/(?P<vault>[^/]+))"
)
ITEM = (
    rf"(?P<item_path>{VAULT}/backupFabrics/[^/]+/protectionContainers/(?P<container>[^/]+)"
    r"/protectedItems/(?P<item>[^/]+))"
)
OPERATION = r"(?P<operation>[^/]+)"
_ITEMS = "vaults/backupFabrics/protectionContainers/protectedItems"
# The restore of a VM also needs these rights. Without them a 403 was recorded.
_RESTORES_VM = (f"{gateway.RECOVERY_SERVICES}/{_ITEMS}/read", f"{gateway.RECOVERY_SERVICES}/vaults/read")


def _route(method: str, path: str, action: str, handler: Callable[[Call], Response]) -> Route:
    return Route(method, re.compile(path + "/?", re.IGNORECASE), action, handler)


# Each type of vault has its own table, which is added to ROUTES.
RECOVERY_SERVICES = (
    _route("GET", "/subscriptions", "", list_subscriptions),
    _route("GET", rf"{SUB}/providers/Microsoft\.RecoveryServices/vaults", "vaults/read", list_vaults),
    _route("GET", VAULT, "vaults/read", get_vault),
    _route(
        "GET",
        rf"{VAULT}/backupResourceGuardProxies",
        "vaults/backupResourceGuardProxies/read",
        list_guards,
    ),
    _route("GET", rf"{VAULT}/backupProtectedItems", "vaults/backupProtectedItems/read", list_items),
    _route(
        "GET",
        rf"{VAULT}/backupProtectionContainers",
        "vaults/backupProtectionContainers/read",
        list_containers,
    ),
    _route("GET", rf"{VAULT}/backupPolicies", "vaults/backupPolicies/read", list_policies),
    _route("GET", rf"{VAULT}/backupPolicies/(?P<policy>[^/]+)", "vaults/backupPolicies/read", get_policy),
    _route("GET", ITEM, f"{_ITEMS}/read", get_item),
    _route("POST", rf"{ITEM}/backup", f"{_ITEMS}/backup/action", back_up),
    _route("GET", rf"{ITEM}/operationsStatus/{OPERATION}", f"{_ITEMS}/operationsStatus/read", get_operation),
    _route(
        "GET",
        rf"{ITEM}/operationResults/{OPERATION}",
        f"{_ITEMS}/operationResults/read",
        item_operation_result,
    ),
    _route("GET", rf"{ITEM}/recoveryPoints", f"{_ITEMS}/recoveryPoints/read", list_points),
    _route("GET", rf"{ITEM}/recoveryPoints/(?P<point>[^/]+)", f"{_ITEMS}/recoveryPoints/read", get_point),
    _route(
        "POST",
        rf"{ITEM}/recoveryPoints/(?P<point>[^/]+)/restore",
        f"{_ITEMS}/recoveryPoints/restore/action",
        restore,
    ),
    _route(
        "POST",
        rf"{VAULT}/backupTriggerValidateOperation",
        "vaults/backupTriggerValidateOperation/action",
        validate_restore,
    ),
    _route(
        "GET",
        rf"{VAULT}/backupValidateOperationsStatuses/{OPERATION}",
        "vaults/backupValidateOperationsStatuses/read",
        get_operation,
    ),
    _route(
        "GET",
        rf"{VAULT}/backupValidateOperationResults/{OPERATION}",
        "vaults/backupValidateOperationResults/read",
        validation_result,
    ),
    _route("GET", rf"{VAULT}/backupOperations/{OPERATION}", "vaults/backupOperations/read", get_operation),
    _route(
        "GET",
        rf"{VAULT}/backupOperationResults/{OPERATION}",
        "vaults/backupOperations/read",
        vault_operation_result,
    ),
    _route("GET", rf"{VAULT}/backupJobs", "vaults/backupJobs/read", list_jobs),
    _route("GET", rf"{VAULT}/backupJobs/(?P<job>[^/]+)", "vaults/backupJobs/read", get_job),
    _route("POST", rf"{VAULT}/backupJobsExport", "vaults/backupJobsExport/action", export_jobs),
    _route(
        "GET",
        rf"{VAULT}/backupJobs/operationResults/{OPERATION}",
        "vaults/backupJobs/operationResults/read",
        export_result,
    ),
    _route(
        "POST", rf"{VAULT}/backupJobs/(?P<job>[^/]+)/cancel", "vaults/backupJobs/cancel/action", cancel_job
    ),
    _route(
        "GET",
        rf"{VAULT}/backupJobs/(?P<job>[^/]+)/operationResults/{OPERATION}",
        "vaults/backupJobs/operationResults/read",
        job_operation_result,
    ),
    _route(
        "GET",
        rf"{VAULT}/backupJobs/(?P<job>[^/]+)/operationsStatus/{OPERATION}",
        "vaults/backupJobs/operationResults/read",
        get_operation,
    ),
    _route("GET", rf"{VAULT}/backupUsageSummaries", "vaults/backupUsageSummaries/read", usage),
    _route(
        "POST",
        rf"{SUB}/providers/Microsoft\.RecoveryServices/locations/(?P<region>[^/]+)/backupStatus",
        "locations/backupStatus/action",
        backup_status,
    ),
)
# Resource Manager answers by itself, whatever the vault's region does.
AUTHORIZATION = (
    Route(
        "GET",
        re.compile(
            rf"(?P<item_path>{SUB}/resourceGroups/.+)/providers/Microsoft\.Authorization/permissions/?",
            re.IGNORECASE,
        ),
        "permissions/read",
        list_permissions,
        "Microsoft.Authorization",
    ),
)
ROUTES = (*RECOVERY_SERVICES, *DATA_PROTECTION, *AUTHORIZATION)

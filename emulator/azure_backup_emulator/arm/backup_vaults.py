"""The REST operations of Backup vaults: a handler for each, and the table of routes and rights."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import partial
from operator import attrgetter, itemgetter

from azure_backup_emulator.arm import backup_vault_restores as restores
from azure_backup_emulator.arm import gateway, guards
from azure_backup_emulator.arm.gateway import Call, Response, Route, not_found
from azure_backup_emulator.bodies import instances as bodies
from azure_backup_emulator.bodies.times import read_moment
from azure_backup_emulator.model.instances import CONFIGURED, BackupVault, Instance
from azure_backup_emulator.model.jobs import Job, Json, Operation
from azure_backup_emulator.model.obstacles import OBSTACLES
from azure_backup_emulator.model.world import RefusalError, obstructed


def _refused(code: str, message: str) -> RefusalError:
    """A 400 in the form recorded of Backup vaults."""
    more = {**bodies.facing(code, message), "target": None, "details": None}
    return RefusalError(status=400, code=code, message=message, more=more)


def _vault(call: Call) -> BackupVault:
    vault = call.vault()
    assert isinstance(vault, BackupVault)
    return vault


def _instances(call: Call) -> list[Instance]:
    return [item for item in call.items() if isinstance(item, Instance)]


def _instance(call: Call) -> Instance:
    item = call.world.at(f"{_vault(call).path}/backupInstances/{call.parts['instance']}")
    if isinstance(item, Instance):
        return item
    raise not_found(f"The backup instance '{call.parts['instance']}' was not found in this vault.")


def list_vaults(call: Call) -> Response:
    here, group = call.parts["sub"].lower(), call.parts.get("group", "").lower()
    found = [
        vault
        for vault in call.world.backup_vaults
        if vault.subscription.lower() == here and group in ("", vault.group.lower())
    ]
    return call.page(found, bodies.vault, attrgetter("path"))


def get_vault(call: Call) -> Response:
    return Response(body=bodies.vault(_vault(call)))


def list_instances(call: Call) -> Response:
    return call.page(_instances(call), partial(_instance_body, call), attrgetter("path"))


def _instance_body(call: Call, item: Instance) -> Json:
    return bodies.instance(item, call.world.protection_of(item, call.now).state or CONFIGURED)


def get_instance(call: Call) -> Response:
    return Response(body=_instance_body(call, _instance(call)))


def list_policies(call: Call) -> Response:
    vault = _vault(call)
    return call.page(
        list(call.world.policies.items()), lambda each: bodies.policy(vault, *each), itemgetter(0)
    )


def get_policy(call: Call) -> Response:
    vault, wanted = _vault(call), call.parts["policy"].lower()
    for name, described in call.world.policies.items():
        if name.lower() == wanted:
            return Response(body=bodies.policy(vault, name, described))
    raise not_found(f"The backup policy '{call.parts['policy']}' was not found in this vault.")


def back_up(call: Call) -> Response:
    """Start a backup. Azure does not publish its error codes for such requests, so these are the emulator's
    own.
    """
    item = _instance(call)
    options = call.request.json().get("backupRuleOptions")
    if not isinstance(options, dict) or not isinstance(options.get("triggerOption"), dict):
        raise _refused(
            "UserErrorInvalidRequest", "backupRuleOptions with ruleName and triggerOption is needed."
        )
    rules, rule = call.world.policies[item.policy]["rules"], str(options.get("ruleName"))
    if rule not in rules:
        raise _refused("UserErrorBackupRuleNotFound", f"Policy {item.policy} has no backup rule {rule!r}.")
    tags = [*dict.fromkeys(tag for each in rules.values() for tag in each)]
    tag = options["triggerOption"].get("retentionTagOverride", rules[rule][0])
    if tag not in tags:
        raise _refused("UserErrorRetentionTagNotFound", f"Policy {item.policy} has no retention tag {tag!r}.")
    state = call.world.protection_of(item, call.now).state or CONFIGURED
    if state != CONFIGURED:
        raise _refused(
            "UserErrorProtectionNotConfigured",
            f"The backup instance is in state {state}; it can be backed up in {CONFIGURED}.",
        )
    return _accepted(call, call.world.back_up(item, call.now, request={"rule": rule, "tag": tag}))


def _accepted(call: Call, operation: Operation) -> Response:
    """Return a 202 with the two addresses of an operation, unsigned as recorded."""
    name, version = bodies.operation_name(operation.id), call.request.query["api-version"]
    vault, base = _vault(call), call.request.base
    location = (
        f"/subscriptions/{vault.subscription}/providers/Microsoft.DataProtection/locations/{vault.region}"
    )
    return Response(
        status=202,
        headers={
            "Azure-AsyncOperation": f"{base}{vault.path}/operationStatus/{name}?api-version={version}",
            "Location": f"{base}{location}/operationResults/{name}?api-version={version}",
            "Retry-After": call.retry_after(),
        },
    )


def _operation(call: Call) -> Operation:
    name = call.parts["operation"]
    operation = call.world.operations.get(bodies.operation_identity(name))
    if operation is None:
        raise not_found(f"The operation '{name}' was not found.")
    return operation


def get_operation(call: Call) -> Response:
    return Response(body=bodies.operation(_operation(call), call.now, call.request.path))


def get_vault_operation(call: Call) -> Response:
    _vault(call)
    return get_operation(call)


def get_operation_result(call: Call) -> Response:
    """Answer the ``Location`` of a 202: with 202 while the operation runs, then with its job."""
    operation = _operation(call)
    status = call.request.path.replace("/operationResults/", "/operationStatus/")
    version = call.request.query["api-version"]
    headers = {"Azure-AsyncOperation": f"{call.request.base}{status}?api-version={version}"}
    if call.now < operation.ready or operation.ending == "InProgress":
        more = {
            "Location": f"{call.request.base}{call.request.path}?api-version={version}",
            "Retry-After": call.retry_after(),
        }
        return Response(status=202, headers={**headers, **more})
    if operation.error is not None:
        raise _refused(operation.error["code"], operation.error["message"])
    return Response(body=bodies.job_name(operation), headers=headers)


def _job(call: Call) -> Job:
    job = call.world.jobs.get(call.parts["job"].lower())
    if job is None or job.region or job.item.vault != _vault(call):
        raise not_found(f"The job '{call.parts['job']}' was not found.")
    return job


def _job_body(call: Call, job: Job, *, full: bool) -> Json:
    assert isinstance(job.item, Instance)
    return bodies.job(job, call.now, job.item, vault_path=call.parts["vault_path"], full=full)


def list_jobs(call: Call) -> Response:
    """List all jobs, oldest first. The recorded lists had no order and could not be filtered."""
    answer = call.page(
        call.world.jobs_in(_vault(call)),
        partial(_job_body, call, full=False),
        attrgetter("id"),
        lambda job: not job.region and call.now >= job.starts + job.visible_after,
    )
    answer.body.setdefault("nextLink", None)
    return answer


def get_job(call: Call) -> Response:
    return Response(body=_job_body(call, _job(call), full=True))


def points(call: Call, item: Instance) -> list[Job]:
    """Return the backups of an instance that made a recovery point, newest first."""
    good = ("Completed", "CompletedWithWarnings")
    return [job for job in reversed(call.history(item)) if job.ended(call.now) in good]


def list_points(call: Call) -> Response:
    item = _instance(call)
    return call.page(
        points(call, item), lambda job: bodies.recovery_point(job, item, call.now), attrgetter("id")
    )


def get_point(call: Call) -> Response:
    item = _instance(call)
    for job in points(call, item):
        if bodies.point_name(job) == call.parts["point"]:
            return Response(body=bodies.recovery_point(job, item, call.now))
    raise not_found(f"The recovery point '{call.parts['point']}' was not found.")


def _reach(call: Call, item: Instance) -> tuple[float, float] | None:
    """Return the first and the last moment that blobs can be restored to; None without operational backup."""
    goes_on = item.kind == "Blob" and not call.world.policies[item.policy]["rules"]
    return (call.now - restores.KEPT_SECONDS, call.now) if goes_on else None


def find_ranges(call: Call) -> Response:
    """List the time ranges that an instance can be restored to. Instances with recovery points have none."""
    item = _instance(call)
    if call.request.json().get("sourceDataStoreType") not in restores.STORES:
        raise _refused("UserErrorInvalidRequest", "sourceDataStoreType is needed.")
    return Response(body=bodies.ranges(item, _reach(call, item)))


def list_guards(call: Call) -> Response:
    return Response(body={"value": guards.proxies(call, _vault(call))})


def _restore_request(call: Call, item: Instance, asked: object) -> Json:
    """Check a restore request, and return what its job keeps of it."""
    if not isinstance(asked, dict):
        raise _refused("UserErrorInvalidRequest", "A restore request with restoreTargetInfo is needed.")
    guards.check(call, item.vault, asked)
    if wrong := restores.mistake(asked, item.kind):
        raise _refused("UserErrorInvalidRequest", wrong)
    kept: Json = {
        "asked": asked,
        "sourceDataStoreType": asked["sourceDataStoreType"],
        "destination": restores.destination(asked["restoreTargetInfo"]),
    }
    if asked["objectType"] == restores.BY_TIME:
        first, last = _reach(call, item) or (math.inf, -math.inf)
        try:
            at = read_moment(asked.get("recoveryPointTime"))
        except ValueError:
            at = math.nan
        if not first <= at <= last:
            raise _refused(
                "UserErrorInvalidRequest", "recoveryPointTime is not a moment that can be restored."
            )
        return {**kept, "pointTime": at}
    for job in points(call, item):
        if bodies.point_name(job) == asked.get("recoveryPointId"):
            stores = bodies.stores(job, item, call.now)
            if asked["sourceDataStoreType"] not in stores:
                raise _refused("UserErrorInvalidRequest", f"It lies in the {' and the '.join(stores)}.")
            at_point = job.point_at
            return {**kept, "recoveryPointId": asked["recoveryPointId"], "pointTime": at_point}
    raise _refused(
        "UserErrorRecoveryPointNotFound", f"There is no recovery point {asked.get('recoveryPointId')!r}."
    )


def validate_restore(call: Call) -> Response:
    return _accepted(call, validation(call, _instance(call)))


def validation(call: Call, item: Instance) -> Operation:
    """Validate a restore by an operation, which makes no job and reports a failure inside a 200."""
    world = call.world
    plan = world.plans[item.path]
    failed = None
    try:
        _restore_request(call, item, call.request.json().get("restoreRequestObject"))
    except RefusalError as refused:
        if refused.status == 403:
            raise
        failed = {"code": refused.code, "message": refused.message}
    if plan.validation == "InProgress":
        return world.add_operation(call.now, plan, ending="InProgress")
    if plan.validation == "Failed":
        failed = dict(item.workload.operation_failed or {})
    elif obstacles := _obstacles(call, item):
        first = OBSTACLES[obstacles[0]]
        failed = {"code": first.code, "message": first.message, "action": first.recommendation}
    if failed:
        return world.add_operation(call.now, plan, ending="Failed", error=failed)
    return world.add_operation(call.now, plan, ending="NoProperties")


def _obstacles(call: Call, item: Instance) -> list[str]:
    """Return what is in the way of a restore."""
    protection = call.world.protection_of(item, call.now)
    deleted = protection.deleted_at is not None or protection.state == "SoftDeleted"
    return [*call.world.plans[item.path].obstacles, *(["deleted"] if deleted else [])]


def restore(call: Call) -> Response:
    return _accepted(call, restoration(call, _instance(call), call.request.json()))


def restoration(call: Call, item: Instance, asked: object, region: str = "") -> Operation:
    """Start a restore; in the secondary region if that is named."""
    world, request = call.world, _restore_request(call, item, asked)
    plan = world.plans[item.path]
    if plan.operation == "Failed":
        error = dict(item.workload.operation_failed or {})
        return world.add_operation(call.now, plan, ending="Failed", error=error)
    if refused := world.refused(item, call.now, "Restore"):
        return refused
    more = world.refused_job(item, call.now, "Restore") or obstructed(item, _obstacles(call, item))
    job = world.start(item, call.now, "Restore", request=request, region=region, **more)
    return world.add_operation(call.now, plan, ending=plan.operation, job=job)


PROVIDER = r"/providers/Microsoft\.DataProtection"
SUB = r"/subscriptions/(?P<sub>[^/]+)"
GROUP = rf"{SUB}/resourceGroups/(?P<group>[^/]+)"
VAULT = rf"(?P<vault_path>{GROUP}{PROVIDER}/backupVaults/(?P<vault>[^/]+))"
INSTANCE = rf"(?P<item_path>{VAULT}/backupInstances/(?P<instance>[^/]+))"
LOCATION = rf"{SUB}{PROVIDER}/locations/(?P<region>[^/]+)"
OPERATION = r"(?P<operation>[^/]+)"


def _route(
    method: str, path: str, action: str, handler: Callable[[Call], Response], reads: int = 2000
) -> Route:
    pattern = re.compile(path + "/?", re.IGNORECASE)
    return Route(method, pattern, action, handler, gateway.DATA_PROTECTION, reads)


_VAULTS, _INSTANCES = "backupVaults", "backupVaults/backupInstances"
# The quotas are as recorded. Jobs cannot be cancelled.
DATA_PROTECTION = (
    _route("GET", rf"{SUB}{PROVIDER}/backupVaults", f"{_VAULTS}/read", list_vaults),
    _route("GET", rf"{GROUP}{PROVIDER}/backupVaults", f"{_VAULTS}/read", list_vaults),
    _route("GET", VAULT, f"{_VAULTS}/read", get_vault),
    _route(
        "GET",
        rf"{VAULT}/backupResourceGuardProxies",
        f"{_VAULTS}/backupResourceGuardProxies/read",
        list_guards,
    ),
    _route("GET", rf"{VAULT}/backupInstances", f"{_INSTANCES}/read", list_instances),
    _route("GET", INSTANCE, f"{_INSTANCES}/read", get_instance),
    _route("GET", rf"{VAULT}/backupPolicies", f"{_VAULTS}/backupPolicies/read", list_policies),
    _route("GET", rf"{VAULT}/backupPolicies/(?P<policy>[^/]+)", f"{_VAULTS}/backupPolicies/read", get_policy),
    _route("POST", rf"{INSTANCE}/backup", f"{_INSTANCES}/backup/action", back_up),
    _route(
        "GET",
        rf"{VAULT}/operationStatus/{OPERATION}",
        f"{_VAULTS}/operationStatus/read",
        get_vault_operation,
        1000,
    ),
    _route(
        "GET",
        rf"{LOCATION}/operationStatus/{OPERATION}",
        "locations/operationStatus/read",
        get_operation,
        1000,
    ),
    _route(
        "GET",
        rf"{LOCATION}/operationResults/{OPERATION}",
        "locations/operationResults/read",
        get_operation_result,
        200,
    ),
    _route("GET", rf"{VAULT}/backupJobs", f"{_VAULTS}/backupJobs/read", list_jobs, 200),
    _route("GET", rf"{VAULT}/backupJobs/(?P<job>[^/]+)", f"{_VAULTS}/backupJobs/read", get_job, 200),
    _route("GET", rf"{INSTANCE}/recoveryPoints", f"{_INSTANCES}/recoveryPoints/read", list_points, 100),
    _route(
        "GET",
        rf"{INSTANCE}/recoveryPoints/(?P<point>[^/]+)",
        f"{_INSTANCES}/recoveryPoints/read",
        get_point,
        100,
    ),
    _route("POST", rf"{INSTANCE}/validateRestore", f"{_INSTANCES}/validateRestore/action", validate_restore),
    _route(
        "POST",
        rf"{INSTANCE}/findRestorableTimeRanges",
        f"{_INSTANCES}/findRestorableTimeRanges/action",
        find_ranges,
    ),
    _route("POST", rf"{INSTANCE}/restore", f"{_INSTANCES}/restore/action", restore),
)

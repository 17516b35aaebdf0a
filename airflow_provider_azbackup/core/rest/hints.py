"""The text of an error about a request: first the cause and what to do about it, last the path of the
request.

Where Airflow shortens an error, it shows the first 75 characters, and a path has up to 300.
"""

from __future__ import annotations

import re
from types import MappingProxyType

from airflow_provider_azbackup.core.wire import Request

_VAULT = re.compile(
    r"/subscriptions/(?P<subscription>[^/]+)/resourceGroups/(?P<group>[^/]+)/providers/[^/]+"
    r"/(?P<kind>vaults|backupVaults)/(?P<vault>[^/]+)"
)
# What Azure Resource Manager did not find, by its code, before it asked Azure Backup. ResourceNotFound may
# also be about anything below a vault.
_OUTSIDE = MappingProxyType(
    {
        "SubscriptionNotFound": "subscription {subscription!r} is not known; correct subscription_id in the "
        "task or in the connection, or give this identity a role in it.",
        "ResourceGroupNotFound": "resource group {group!r} is not in subscription {subscription!r}; correct "
        "resource_group_name or subscription_id in the task or in the connection.",
        "ResourceNotFound": "{noun} {vault!r} is not in resource group {group!r}; correct vault_name, "
        "resource_group_name, subscription_id or vault_type in the task or in the connection.",
    }
)
# What a path may ask for below its vault, the most specific pattern first, and what it means if that is
# missing.
_INSIDE = (
    (
        r"/backupJobs/(?P<name>[^/]+)",
        "vault {vault!r} has no job {name}. A GUID is looked up in the vault of the task or of the "
        "connection: for a job of another vault, give its ARM id. The GUID in a Location or "
        "Azure-AsyncOperation header is that of an operation, not of a job.",
    ),
    (
        r"/recoveryPoints/(?P<name>[^/]+)",
        "there is no recovery point {name!r}; hook.list_recovery_points() returns those of an item.",
    ),
    (
        r"/protectedItems/VM;[^/]*;(?P<name>[^/;]+)",
        "vault {vault!r} does not protect VM {name!r}; hook.backup_status(vm_id, region) returns the vault "
        "that does.",
    ),
    (
        r"/(?:protectedItems|backupInstances)/(?P<name>[^/]+)",
        "vault {vault!r} does not protect {name!r}; hook.list_protected_items() returns what it protects.",
    ),
)
# "... to perform action 'Microsoft.RecoveryServices/...' over scope ...": the right that is missing.
_ACTION = re.compile(r"perform action '([^']+)'")


# How Azure refuses a request because of a resource that it names, such as a Resource Guard: first what the
# identity may do, then what it may not.
_LINKED = re.compile(r"does not have permission to perform action\(s\) '([^']+)' on the linked scope")
_OTHER_TENANT = re.compile(r"current tenant '[^']*' is not authorized to access linked subscription")
_GUARD = re.compile(r"resource ?guard", re.IGNORECASE)


def refusal_text(request: Request, status: int, code: str | None, message: str) -> str:
    """Return the text of the error to raise for a response.

    :param request: the request.
    :param status: HTTP status of the response.
    :param code: Azure's code; None if the response has none, so that it may come from a proxy.
    :param message: Azure's message.
    """
    hint = _hint(request.path, status, code, message)
    return (
        f"{hint}{' ' if hint else ''}Azure answered {status}{f' {code}' if code else ''}: "
        f"{message or 'no explanation given'} ({request.method} {request.path})"
    )


def _hint(path: str, status: int, code: str | None, message: str) -> str:
    if status in (400, 403) and _GUARD.search(f"{code} {message}"):
        return _guard_hint(message)
    if status == 403 and (right := _ACTION.search(message)):
        return f"Missing right: {right.group(1)}. Give this identity a role that has it."
    if status != 404 or not code or not (found := _VAULT.match(path)):
        return ""
    names = {**found.groupdict(), "noun": "Backup vault" if found["kind"] == "backupVaults" else "vault"}
    is_vault = f"{names['kind']}/{names['vault']}'".casefold() in message.casefold()
    if code in _OUTSIDE and (is_vault or code != "ResourceNotFound"):
        return _OUTSIDE[code].format(**names)
    for pattern, hint in _INSIDE:
        if inside := re.search(pattern, path[found.end() :]):
            return hint.format(**names, name=inside["name"])
    return ""


def _guard_hint(message: str) -> str:
    """Return what to configure so that a Resource Guard lets a restore through."""
    if _OTHER_TENANT.search(message):
        return (
            "The Resource Guard of the vault belongs to another tenant: put the ID of that tenant into "
            "guard_tenant_id in the extra of the connection, and give this identity the role Backup MUA "
            "Operator on the guard."
        )
    if right := _LINKED.search(message):
        return (
            f"Missing right on the Resource Guard of the vault: {right.group(1)}. Give this identity the "
            f"role Backup MUA Operator on the guard."
        )
    return (
        "A Resource Guard protects the vault: give this identity the right backupResourceGuardProxies/read "
        "on the vault, by which it finds the guard, and the role Backup MUA Operator on the guard."
    )

"""Resource Guards: a restore from a guarded vault names a request of the guard, and needs a right on it.

Source: https://learn.microsoft.com/azure/backup/multi-user-authorization
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from azure_backup_emulator.model.instances import BackupVault
from azure_backup_emulator.model.items import Vault
from azure_backup_emulator.model.jobs import Json
from azure_backup_emulator.model.world import RefusalError

if TYPE_CHECKING:
    from azure_backup_emulator.arm.gateway import Call

SUBSCRIPTION = "00000000-0000-0000-0000-00000000d3c0"
# What a guard protects: the name of the operation, and the collection of requests on the guard.
_OF_VAULTS = {
    "Microsoft.RecoveryServices/vaults/backupconfig/write": "disableSoftDeleteRequests",
    "Microsoft.RecoveryServices/vaults/backupFabrics/protectionContainers/protectedItems/recoveryPoints/restore"
    "/action": "triggerRestoreRequests",
}
_OF_BACKUP_VAULTS = {
    "Microsoft.DataProtection/backupVaults/backupInstances/delete": "deleteBackupInstanceRequests",
    "Microsoft.DataProtection/backupVaults/backupInstances/restore/action": "dppTriggerRestoreRequests",
}


def _operations(vault: Vault) -> dict[str, str]:
    return _OF_BACKUP_VAULTS if isinstance(vault, BackupVault) else _OF_VAULTS


def proxies(call: Call, vault: Vault) -> list[Json]:
    """Return the guards of a vault as the vault lists them."""
    if vault.name not in call.world.guards:
        return []
    name, guard = ("DppResourceGuardProxy" if isinstance(vault, BackupVault) else "VaultProxy"), _path(vault)
    details = [
        {"vaultCriticalOperation": operation, "defaultResourceRequest": f"{guard}/{collection}/default"}
        for operation, collection in _operations(vault).items()
    ]
    return [
        {
            "id": f"{vault.path}/backupResourceGuardProxies/{name}",
            "name": name,
            "type": f"{call.provider}/vaults/backupResourceGuardProxies",
            "properties": {
                "resourceGuardResourceId": guard,
                "resourceGuardOperationDetails": details,
                "description": "Please change the vault critical operations in the resource guard",
            },
        }
    ]


def _path(vault: Vault) -> str:
    group = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/guards"
    return f"{group}/providers/Microsoft.DataProtection/resourceGuards/guard-of-{vault.name}"


def check(call: Call, vault: Vault, asked: Json) -> None:
    """Refuse a restore that the guard of its vault does not let through.

    The code of the first refusal is the emulator's own.

    :param asked: the properties of the request.
    :raises RefusalError: if there is a guard, and the request does not name it, or the caller has no token of
        its tenant, or no right on it.
    """
    guard: Any = call.world.guards.get(vault.name)
    if guard is None:
        return
    collection = [*_operations(vault).values()][1]
    if f"{_path(vault)}/{collection}/default" not in (asked.get("resourceGuardOperationRequests") or ()):
        raise RefusalError(
            status=403,
            code="UserErrorResourceGuardRequestMissing",
            message="The operation is protected by a Resource Guard. Provide resourceGuardOperationRequests.",
        )
    action = f"Microsoft.DataProtection/resourceGuards/{collection}/read"
    tenant = guard.get("tenant_id", call.world.tenant)
    has, who = f"has permission to perform action '{action}' on scope '{vault.path}'", call.principal
    if tenant.lower() not in call.tenants:
        raise _linked(
            f"The client {has}, however the current tenant '{call.world.tenant}' is not authorized to access "
            f"linked subscription '{SUBSCRIPTION}'."
        )
    if not who.may(action):
        raise _linked(
            f"The client '{who.client_id}' with object id '{who.object_id}' {has}; however, it does not have "
            f"permission to perform action(s) '{action}' on the linked scope(s) '{_path(vault)}'."
        )


def _linked(message: str) -> RefusalError:
    headers = {"x-ms-failure-cause": "gateway"}
    return RefusalError(status=403, code="LinkedAuthorizationFailed", message=message, headers=headers)

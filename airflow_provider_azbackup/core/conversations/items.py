"""Conversations about protected items: list them, and find the one that a DAG author means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Unpack

from airflow_provider_azbackup.core.conversations.retry import all_pages, ask
from airflow_provider_azbackup.core.conversations.vaults import suggest_vault
from airflow_provider_azbackup.core.model.arm_ids import match_vm, same_id, split_share_id
from airflow_provider_azbackup.core.model.resources import BackupInstance, ProtectedItem, Vault, last_segment
from airflow_provider_azbackup.core.model.validation import check_item, did_you_mean, most_similar_first
from airflow_provider_azbackup.core.model.workloads import MANAGEMENT_TYPES
from airflow_provider_azbackup.core.rest import requests, responses
from airflow_provider_azbackup.core.rest.responses import BackupStatus, DataSource, FoundItem
from airflow_provider_azbackup.core.wire import Flow, Request
from airflow_provider_azbackup.exceptions import AzureBackupConfigError, AzureBackupNotFoundError


def list_protected_items(vault: Vault, **wanted: Unpack[requests.ItemFilter]) -> Flow[list[FoundItem]]:
    """Return the protected items of a vault, all kinds and pages, each once.

    :param wanted: see :class:`~airflow_provider_azbackup.core.rest.requests.ItemFilter`.
    """
    kind = (wanted.get("backup_management_type") or "").casefold()
    policy, state = (wanted.get("policy") or "").casefold(), wanted.get("state") or ()
    states = {word.casefold() for word in ([state] if isinstance(state, str) else state)}
    found: list[FoundItem] = []
    for first in _lists_of(vault, kind):
        pages = yield from suggest_vault(vault, all_pages(first))
        found += [item for page in pages for item in responses.read_items(page)]
    return [
        item
        for item in dict.fromkeys(found)
        if policy in ("", item.policy.casefold())
        and (not states or item.state.casefold() in states)
        and (wanted.get("include_deleted") or not item.is_deleted)
    ]


def protection_of(vm_id: str, region: str) -> Flow[BackupStatus]:
    """Return whether, and in which vault, a virtual machine is protected.

    :raises AzureBackupConfigError: when ``vm_id`` is not a VM's ARM id, or the item that Azure names for it
        protects another resource.
    """
    if not match_vm(vm_id):
        raise AzureBackupConfigError(
            f"this is not the ARM id of a virtual machine: {vm_id!r}; expected "
            f"/subscriptions/<id>/resourceGroups/<group>/providers/Microsoft.Compute/virtualMachines/<name>"
        )
    status = responses.read_backup_status((yield from ask(requests.backup_status(vm_id, region))))
    if item := status.item:
        found = responses.read_item(item, (yield from ask(requests.get_protected_item(item))))
        if not same_id(found.source_id, vm_id):
            raise AzureBackupConfigError(
                f"the protected item that Azure names for VM {last_segment(vm_id)!r} protects another "
                f"resource: {found.source_id or 'Azure does not name it'}. Given: {vm_id}. Protected item: "
                f"{item.path}"
            )
    return status


def get_source_id(item: ProtectedItem) -> Flow[str]:
    """Return the ARM id of the machine or storage account that an item protects."""
    return responses.read_source_id((yield from ask(requests.get_protected_item(item))))


def get_data_source(instance: BackupInstance) -> Flow[DataSource]:
    """Return what a backup instance protects."""
    return responses.read_data_source((yield from ask(requests.get_protected_item(instance))))


def resolve_protected_item(vault: Vault | None, name: str) -> Flow[ProtectedItem]:
    """Find the protected item that a DAG author means. The ARM id of an item is taken as it is.

    :param vault: where to look; an ARM id of a protected item brings its own.
    :param name: ARM id of the protected item, ARM id of the virtual machine or file share, or friendly name;
        in a Backup vault ARM id, name or friendly name of the backup instance.
    :raises AzureBackupNotFoundError: when the vault protects nothing of that name, or its data is deleted.
    :raises AzureBackupConfigError: for an ARM id of something else, or a name that several items share.
    """
    if item := _read_item_id(name):
        return item
    found = yield from _look_up(vault, name)
    return replace(found.item, written_as=found.friendly_name if name.startswith("/") else name)


def find_item(vault: Vault | None, name: str | ProtectedItem) -> Flow[FoundItem]:
    """Return the protected item that a DAG author means as Azure shows it now, also if its data is deleted.

    :param vault: as in :func:`resolve_protected_item`.
    :param name: likewise, or what that returned.
    :raises AzureBackupError: as there.
    """
    item = name if isinstance(name, ProtectedItem) else _read_item_id(name)
    if item is None:
        return (yield from _look_up(vault, str(name)))
    return responses.read_item(item, (yield from ask(requests.get_protected_item(item))))


def _read_item_id(name: str) -> ProtectedItem | None:
    check_item(name)
    is_item = "/protecteditems/" in name.casefold() or "/backupinstances/" in name.casefold()
    return ProtectedItem.parse(name) if is_item else None


def _look_up(vault: Vault | None, name: str) -> Flow[FoundItem]:
    if vault is None:
        raise AzureBackupConfigError(
            f"protected item {name!r} comes without a vault; give vault_name, resource_group_name and "
            f"subscription_id to the task or in the connection, or the item's ARM id"
        )
    share = split_share_id(name)
    if vault.is_backup_vault and (share or match_vm(name)):
        raise AzureBackupConfigError(
            f"vault {vault.name} is a Backup vault (Microsoft.DataProtection), and only Recovery Services "
            f"vaults protect VMs and file shares. Name such a vault, or leave out vault_type. Given: {name}"
        )
    if guess := ProtectedItem.of_vm(vault, name):
        return (yield from _item_of_vm(guess, name))
    wanted = requests.ItemFilter(
        backup_management_type="AzureStorage" if share else None, include_deleted=True
    )
    found = yield from list_protected_items(vault, **wanted)
    meant = [item for item in found if item.answers_to(share[1] if share else name)]
    if share:
        meant = [item for item in meant if same_id(item.source_id, share[0])]
    if meant:
        return _only_one(meant, name)
    called = share[1] if share else name
    names = most_similar_first(called, sorted({item.friendly_name for item in found}))
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    raise AzureBackupNotFoundError(
        f"vault {vault.name} protects nothing called {called!r}{did_you_mean(called, names[:20])}; "
        f"it protects {', '.join(names[:20]) or 'nothing of that kind'}{more}"
        f"{f'. Given: {name}' if share else ''}"
    )


def _item_of_vm(guess: ProtectedItem, vm_id: str) -> Flow[FoundItem]:
    """Return the item whose source is a VM, as the vault says.

    The names of an item hold the VM's resource group and name but not its subscription, and a vault may
    protect VMs of other subscriptions. So the name is only a guess at where to look first.

    :param guess: the item that would have the VM's names.
    :param vm_id: ARM id of the VM.
    :raises AzureBackupNotFoundError: when the vault does not protect the VM, or its data is soft-deleted.
    :raises AzureBackupConfigError: when the item of these names protects another VM.
    """
    vault = guess.vault
    try:
        named = responses.read_item(guess, (yield from ask(requests.get_protected_item(guess))))
    except AzureBackupNotFoundError:
        named = None
    if named and same_id(named.source_id, vm_id):
        return _only_one([named], vm_id)
    wanted = requests.ItemFilter(backup_management_type="AzureIaasVM", include_deleted=True)
    listed = yield from list_protected_items(vault, **wanted)
    if meant := [item for item in listed if same_id(item.source_id, vm_id)]:
        return _only_one(meant, vm_id)
    if named is None:
        raise AzureBackupNotFoundError(
            f"vault {vault.name} does not protect VM {last_segment(vm_id)!r}; "
            f"hook.backup_status(vm_id, region) returns the vault that does. Given: {vm_id}"
        )
    raise AzureBackupConfigError(
        f"vault {vault.name} protects another VM called {last_segment(vm_id)!r} in a resource group of the "
        f"same name; hook.backup_status(vm_id, region) returns the vault of the VM that was given. "
        f"Given: {vm_id}. Protected: {named.source_id or 'a resource that Azure does not name'}"
    )


def _only_one(meant: Sequence[FoundItem], name: str) -> FoundItem:
    """Return the one item that is meant; one whose data is soft-deleted is meant only if no other is.

    :param meant: at least one item.
    :param name: what the author wrote.
    :raises AzureBackupNotFoundError: when the data of all of them is soft-deleted.
    :raises AzureBackupConfigError: when several are meant.
    """
    vault = meant[0].item.vault.name
    live = [item for item in meant if not item.is_deleted]
    if len(live) == 1:
        return live[0]
    told = "; ".join(f"{each.item.path}{f' ({each.trouble})' if each.trouble else ''}" for each in meant)
    if not live:
        raise AzureBackupNotFoundError(
            f"vault {vault} does not protect {name!r} any more; nothing can be backed up or restored before "
            f"an undelete: {told}"
        )
    raise AzureBackupConfigError(
        f"{name!r} means {len(live)} protected items in vault {vault}; give the ARM id of one of them: {told}"
    )


def _lists_of(vault: Vault, kind: str) -> list[Request]:
    """Return the lists that show between them what a vault protects.

    :param kind: a backup management type in lower case, or an empty string for all.
    """
    if vault.is_backup_vault:
        return [requests.list_instances(vault)]
    return [
        requests.list_protected_items(vault, management_type)
        for management_type in MANAGEMENT_TYPES
        if kind in ("", management_type.casefold())
    ]

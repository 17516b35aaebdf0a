"""Conversations about protected items: list them, and find the one that a DAG author means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NoReturn, Unpack

from airflow_provider_azbackup.core.conversations.retry import all_pages, ask
from airflow_provider_azbackup.core.conversations.secondary_region import (
    in_secondary_region,
    item_in_secondary_region,
)
from airflow_provider_azbackup.core.conversations.vaults import with_vault_suggestion
from airflow_provider_azbackup.core.model.arm_ids import match_vm, same_id, split_share_id
from airflow_provider_azbackup.core.model.resources import BackupInstance, ProtectedItem, Vault, last_segment
from airflow_provider_azbackup.core.model.validation import check_item, did_you_mean, most_similar_first
from airflow_provider_azbackup.core.model.workloads import MANAGEMENT_TYPES, management_type_of
from airflow_provider_azbackup.core.rest import requests, responses
from airflow_provider_azbackup.core.rest.responses import BackupStatus, DataSource, FoundItem
from airflow_provider_azbackup.core.wire import Flow, Request
from airflow_provider_azbackup.exceptions import (
    AzureBackupAuthError,
    AzureBackupConfigError,
    AzureBackupNotFoundError,
    AzureBackupTransientError,
)

# The most pages of backup instances that are read: a list without an end is a fault of the server.
_MOST_PAGES = 100
# How many of the vault's items an error about an unknown name lists.
_MOST_LISTED = 20


def list_protected_items(vault: Vault, **wanted: Unpack[requests.ItemFilter]) -> Flow[list[FoundItem]]:
    """Return the protected items of a vault: all workloads, all pages, each item once.

    :param wanted: see :class:`~airflow_provider_azbackup.core.rest.requests.ItemFilter`.
    """
    management_type = (wanted.get("backup_management_type") or "").casefold()
    policy, state = (wanted.get("policy") or "").casefold(), wanted.get("state") or ()
    states = {word.casefold() for word in ([state] if isinstance(state, str) else state)}
    found: list[FoundItem] = []
    if vault.secondary and vault.is_backup_vault:
        found = yield from _instances_in_graph(vault)
    else:
        for first in list_requests(vault, management_type):
            pages = yield from with_vault_suggestion(vault, all_pages(first))
            found += [item for page in pages for item in responses.read_items(page, vault.secondary)]
    return [
        item
        for item in dict.fromkeys(found)
        if policy in ("", item.policy.casefold())
        and (not states or item.state.casefold() in states)
        and (wanted.get("include_deleted") or not item.is_deleted)
    ]


def _instances_in_graph(vault: Vault) -> Flow[list[FoundItem]]:
    """Return what a Backup vault protects, as Resource Graph shows it."""
    found: list[FoundItem] = []
    token, tokens = "", {""}
    for _ in range(_MOST_PAGES):
        page = responses.read_graph_page((yield from ask(requests.query_instances(vault, token))))
        rows = responses.Page(values=page.rows, next_link=None)
        found += [
            each
            for each in responses.read_items(rows, vault.secondary)
            if same_id(each.item.vault.path, vault.path)
        ]
        token = page.skip_token
        if token in tokens:  # the last page, or the pages go round in a circle
            return found
        tokens.add(token)
    raise AzureBackupTransientError(f"Resource Graph shows more than {_MOST_PAGES} pages of backup instances")


def list_requests(vault: Vault, management_type: str = "") -> list[Request]:
    """Return the requests that together list what a vault protects.

    :param management_type: a backup management type in lower case, or an empty string for all.
    """
    if vault.is_backup_vault:
        return [requests.list_instances(vault)]
    return [
        requests.list_protected_items(vault, each)
        for each in MANAGEMENT_TYPES
        if management_type in ("", each.casefold())
    ]


def get_backup_status(vm_id: str, region: str) -> Flow[BackupStatus]:
    """Return whether a virtual machine is protected, and in which vault.

    :raises AzureBackupConfigError: if ``vm_id`` is not a VM's ARM id, or if the item that Azure names for it
        protects another resource.
    """
    if not match_vm(vm_id):
        raise AzureBackupConfigError(
            f"this is not the ARM id of a virtual machine: {vm_id!r}; expected "
            f"/subscriptions/<id>/resourceGroups/<group>/providers/Microsoft.Compute/virtualMachines/<name>"
        )
    status = responses.read_backup_status((yield from ask(requests.backup_status(vm_id, region))))
    if item := status.item:
        found = yield from _get_item(item)
        if not same_id(found.source_id, vm_id):
            raise AzureBackupConfigError(
                f"the protected item that Azure names for VM {last_segment(vm_id)!r} protects another "
                f"resource: {found.source_id or 'Azure does not name it'}. Given: {vm_id}. Protected item: "
                f"{item.path}"
            )
    return status


def get_source_id(item: ProtectedItem) -> Flow[str]:
    """Return the ARM id of the VM or storage account that an item protects."""
    if item.vault.secondary:
        if source_id := (yield from _get_item(item)).source_id:
            return source_id
        raise AzureBackupTransientError(f"Azure does not say what {item.label} protects: {item.path}")
    return responses.read_source_id((yield from ask(requests.get_protected_item(item))))


def get_data_source(instance: BackupInstance) -> Flow[DataSource]:
    """Return what a backup instance protects."""
    if instance.vault.secondary:
        found = yield from _get_item(instance)
        return DataSource(resource_id=found.source_id, source_type=found.source_type)
    return responses.read_data_source((yield from ask(requests.get_protected_item(instance))))


def _get_item(item: ProtectedItem) -> Flow[FoundItem]:
    """Return one item as Azure shows it. The secondary region only lists items.

    :raises AzureBackupNotFoundError: if the vault does not protect it.
    :raises AzureBackupAuthError: if Resource Graph, which lists backup instances, does not show it.
    """
    if region := item.vault.secondary:
        kind = "" if isinstance(item, BackupInstance) else management_type_of(item.workload)
        listed = yield from list_protected_items(
            item.vault, backup_management_type=kind, include_deleted=True
        )
        for found in listed:
            if same_id(found.item.path, item.path):
                return found
        if item.vault.is_backup_vault:
            raise AzureBackupAuthError(
                f"Resource Graph shows no backup instance {item.label} to this identity. Missing right: "
                f"Microsoft.DataProtection/backupVaults/backupInstances/read, or there is no such backup "
                f"instance: {item.path}"
            )
        raise AzureBackupNotFoundError(
            f"{region.name}, the secondary region of vault {item.vault.name}, lists no {item.label}. "
            f"Protected item: {item.path}"
        )
    return responses.read_item(item, (yield from ask(requests.get_protected_item(item))))


def resolve_protected_item(
    vault: Vault | None, name: str, secondary_region: bool | str = False
) -> Flow[ProtectedItem]:
    """Find the protected item that a DAG author means. The ARM id of an item needs no request.

    :param vault: where to search. The ARM id of a protected item contains its own vault.
    :param name: the ARM id of the protected item, of the virtual machine or of the file share, or a friendly
        name; in a Backup vault the ARM id, name or friendly name of the backup instance.
    :param secondary_region: as in
        :func:`~airflow_provider_azbackup.core.conversations.secondary_region.in_secondary_region`. It is
        where the item is searched, and where everything about it is asked.
    :raises AzureBackupNotFoundError: if the vault protects nothing with that name, or the data is
        soft-deleted.
    :raises AzureBackupConfigError: for an ARM id of something else, or a name that several items share.
    """
    if item := _parse_item_id(name):
        return (yield from item_in_secondary_region(item, secondary_region))
    if vault:
        vault = yield from in_secondary_region(vault, secondary_region)
    found = yield from _search(vault, name)
    return replace(found.item, written_as=found.friendly_name if name.startswith("/") else name)


def find_item(vault: Vault | None, name: str | ProtectedItem) -> Flow[FoundItem]:
    """Return the protected item that a DAG author means, as Azure shows it now. Its data may be soft-deleted.

    :param vault: as in :func:`resolve_protected_item`.
    :param name: likewise, or what that function returned.
    :raises AzureBackupError: as there.
    """
    item = name if isinstance(name, ProtectedItem) else _parse_item_id(name)
    return (yield from _search(vault, str(name)) if item is None else _get_item(item))


def _parse_item_id(name: str) -> ProtectedItem | None:
    """Return the item that an ARM id names; None for a name, and for the ARM id of a VM or a file share."""
    check_item(name)
    is_item = "/protecteditems/" in name.casefold() or "/backupinstances/" in name.casefold()
    return ProtectedItem.parse(name) if is_item else None


def _search(vault: Vault | None, name: str) -> Flow[FoundItem]:
    """Return the item of a vault that a friendly name, or the ARM id of a VM or a file share, means."""
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
    if vm_item := ProtectedItem.of_vm(vault, name):
        return (yield from _search_vm(vm_item, name))
    if share:
        return (yield from _search_share(vault, name, *share))
    found = yield from list_protected_items(vault, include_deleted=True)
    meant = [item for item in found if item.answers_to(name)]
    return _only_one(meant, name) if meant else _not_found(vault, name, found)


def _search_share(vault: Vault, share_id: str, account_id: str, share: str) -> Flow[FoundItem]:
    """Return the item that protects a file share.

    :param share_id: ARM id of the share.
    :param account_id: ARM id of its storage account.
    :param share: its name.
    """
    found = yield from list_protected_items(
        vault, backup_management_type="AzureStorage", include_deleted=True
    )
    meant = [item for item in found if item.answers_to(share) and same_id(item.source_id, account_id)]
    return _only_one(meant, share_id) if meant else _not_found(vault, share, found, f". Given: {share_id}")


def _search_vm(vm_item: ProtectedItem, vm_id: str) -> Flow[FoundItem]:
    """Return the item that protects a VM, according to the vault.

    The names of an item contain the VM's resource group and name but not its subscription, and a vault may
    protect VMs of other subscriptions. So the item with the VM's names is read first, and if it protects
    another VM, all items are.

    :param vm_item: the item with the VM's names.
    :param vm_id: ARM id of the VM.
    :raises AzureBackupNotFoundError: if the vault does not protect the VM, or its data is soft-deleted.
    :raises AzureBackupConfigError: if the item with these names protects another VM.
    """
    vault = vm_item.vault
    try:
        named = yield from _get_item(vm_item)
    except AzureBackupNotFoundError:
        named = None
    if named and same_id(named.source_id, vm_id):
        return _only_one([named], vm_id)
    found = yield from list_protected_items(vault, backup_management_type="AzureIaasVM", include_deleted=True)
    if meant := [item for item in found if same_id(item.source_id, vm_id)]:
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
    """Return the item that is meant. One whose data is soft-deleted is meant only if there is no other.

    :param meant: at least one item.
    :param name: what the author wrote.
    :raises AzureBackupNotFoundError: if the data of all of them is soft-deleted.
    :raises AzureBackupConfigError: if several are meant.
    """
    vault = meant[0].item.vault.name
    live = [item for item in meant if not item.is_deleted]
    if len(live) == 1:
        return live[0]
    listed = "; ".join(f"{each.item.path}{f' ({each.trouble})' if each.trouble else ''}" for each in meant)
    if not live:
        raise AzureBackupNotFoundError(
            f"vault {vault} does not protect {name!r} any more; nothing can be backed up or restored before "
            f"an undelete: {listed}"
        )
    raise AzureBackupConfigError(
        f"{name!r} means {len(live)} protected items in vault {vault}; give the ARM id of one of them: "
        f"{listed}"
    )


def _not_found(vault: Vault, name: str, found: Sequence[FoundItem], given: str = "") -> NoReturn:
    """Raise the error about a name that no item has, which lists the items with the most similar names.

    :param found: the items that were searched.
    :param given: the end of the error, if the author did not write the name itself.
    """
    names = most_similar_first(name, sorted({item.friendly_name for item in found}))
    listed, more = names[:_MOST_LISTED], len(names) - _MOST_LISTED
    raise AzureBackupNotFoundError(
        f"vault {vault.name} protects nothing called {name!r}{did_you_mean(name, listed)}; it protects "
        f"{', '.join(listed) or 'nothing of that kind'}{f' and {more} more' if more > 0 else ''}{given}"
    )

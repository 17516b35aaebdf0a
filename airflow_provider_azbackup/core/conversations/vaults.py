"""Conversations about a vault: its region, the connection test, and what a mistyped name may mean."""

from __future__ import annotations

from contextlib import suppress

from airflow_provider_azbackup.core.conversations.retry import all_pages, ask
from airflow_provider_azbackup.core.model.arm_ids import RECOVERY_SERVICES, match_vault
from airflow_provider_azbackup.core.model.resources import Vault
from airflow_provider_azbackup.core.model.validation import did_you_mean
from airflow_provider_azbackup.core.rest import requests, responses
from airflow_provider_azbackup.core.wire import Flow, T
from airflow_provider_azbackup.exceptions import AzureBackupError, AzureBackupNotFoundError


def with_vault_suggestion(vault: Vault, flow: Flow[T]) -> Flow[T]:
    """Run a flow. If Azure does not know the vault, add the vault with the most similar name to the error."""
    try:
        return (yield from flow)
    except AzureBackupNotFoundError as error:
        if error.code not in ("ResourceNotFound", "ResourceGroupNotFound"):
            raise
        vaults: dict[str, str] = {}
        with suppress(AzureBackupError):
            listed = yield from ask(requests.list_vaults(vault.subscription_id, vault.vault_type))
            ids = [str(body.get("id")) for body in responses.read_page(listed).values]
            vaults = {found.group(3): found.group(2) for found in map(match_vault, ids) if found}
        names = [name for name in vaults if name.casefold() == vault.name.casefold()]
        suggestion = f" (the vault is in {vaults[names[0]]!r})" if names else did_you_mean(vault.name, vaults)
        cause, separator, advice = str(error).partition(";")
        error.args = (f"{cause}{suggestion}{separator}{advice}",)
        raise


def list_vaults(subscription_id: str, vault_type: str) -> Flow[list[Vault]]:
    """Return the vaults of one type in a subscription. An entry whose id has another shape is left out."""
    pages = yield from all_pages(requests.list_vaults(subscription_id, vault_type))
    return [found.vault for page in pages for found in responses.read_vaults(page)]


def get_region(vault: Vault) -> Flow[str]:
    """Return a vault's region, or its secondary region where that is asked."""
    if vault.secondary:
        return vault.secondary.name
    return responses.read_region((yield from ask(requests.get_vault(vault))))


def probe(vault: Vault | None, subscription_id: str, vault_type: str = RECOVERY_SERVICES) -> Flow[str]:
    """Send the one cheap request of the connection test, and return a text about what was found.

    With a vault, the request lists its running jobs, because every wait reads jobs. Without a vault, it lists
    the vaults of the subscription.

    :param vault: the vault of the connection, if it names one.
    :param subscription_id: the subscription to list if it does not.
    :param vault_type: the type of vault to list.
    """
    if vault is not None:
        first = ask(requests.list_jobs(vault, status="InProgress"))
        page = responses.read_page((yield from with_vault_suggestion(vault, first)))
        running = len(page.values)
        if vault.is_backup_vault:  # its list includes jobs that are over
            running = sum(job.is_running for job in responses.read_jobs(vault, page))
        return f"vault {vault.name} in {vault.resource_group_name}, {running} jobs running"
    page = responses.read_page((yield from ask(requests.list_vaults(subscription_id, vault_type))))
    names = ", ".join(str(body.get("name")) for body in page.values[:10])
    return f"subscription {subscription_id}, no vault set; visible vaults: {names or 'none'}"

"""Conversations about a vault: its region, the connection test, and what a mistyped name may mean."""

from __future__ import annotations

from contextlib import suppress

from airflow_provider_azbackup.core.conversations.retry import ask
from airflow_provider_azbackup.core.model.arm_ids import RECOVERY_SERVICES, match_vault
from airflow_provider_azbackup.core.model.resources import Vault
from airflow_provider_azbackup.core.model.validation import did_you_mean
from airflow_provider_azbackup.core.rest import requests, responses
from airflow_provider_azbackup.core.wire import Flow, T
from airflow_provider_azbackup.exceptions import AzureBackupError, AzureBackupNotFoundError


def suggest_vault(vault: Vault, flow: Flow[T]) -> Flow[T]:
    """Hold a conversation; where Azure does not know the vault, its error names the one most like it."""
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
        close = f" (the vault is in {vaults[names[0]]!r})" if names else did_you_mean(vault.name, vaults)
        cause, mark, rest = str(error).partition(";")
        error.args = (f"{cause}{close}{mark}{rest}",)
        raise


def get_region(vault: Vault) -> Flow[str]:
    """Return a vault's region."""
    return responses.read_region((yield from ask(requests.get_vault(vault))))


def probe(vault: Vault | None, subscription_id: str, vault_type: str = RECOVERY_SERVICES) -> Flow[str]:
    """Make the one cheap call of a connection test and say what was seen.

    With a vault it reads what every wait reads, the jobs; without one it lists the vaults.
    """
    if vault is not None:
        first = ask(requests.list_jobs(vault, status="InProgress"))
        page = responses.read_page((yield from suggest_vault(vault, first)))
        running = len(page.values)
        if vault.is_backup_vault:  # which lists what is over, too
            running = sum(job.is_running for job in responses.read_jobs(vault, page))
        return f"vault {vault.name} in {vault.resource_group_name}, {running} jobs running"
    page = responses.read_page((yield from ask(requests.list_vaults(subscription_id, vault_type))))
    names = ", ".join(str(body.get("name")) for body in page.values[:10])
    return f"subscription {subscription_id}, no vault set; visible vaults: {names or 'none'}"

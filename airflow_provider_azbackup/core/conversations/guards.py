"""Conversations about Resource Guards, which protect the restores of a vault (multi-user authorization)."""

from __future__ import annotations

from airflow_provider_azbackup.core.conversations.retry import all_pages
from airflow_provider_azbackup.core.model.resources import Vault
from airflow_provider_azbackup.core.rest import requests, responses
from airflow_provider_azbackup.core.wire import Flow
from airflow_provider_azbackup.exceptions import (
    AzureBackupAuthError,
    AzureBackupNotFoundError,
    AzureBackupRefusedError,
)


def find_guard_requests(vault: Vault) -> Flow[list[str]]:
    """Return the requests of Resource Guards that a restore from a vault has to name; none without a guard.

    An identity that may not read them asks as of a vault without a guard. If there is one, Azure refuses.

    Source: https://learn.microsoft.com/azure/backup/multi-user-authorization
    """
    try:
        pages = yield from all_pages(requests.list_guards(vault))
    except (AzureBackupAuthError, AzureBackupNotFoundError, AzureBackupRefusedError):
        return []
    return [found for page in pages for found in responses.read_guard_requests(page)]

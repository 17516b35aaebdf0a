"""The test of a connection: sign in, ask Azure for the vault, and say who asked and what came back."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from airflow_provider_azbackup.core.conversations import vaults
from airflow_provider_azbackup.exceptions import AzureBackupConfigError, AzureBackupError
from airflow_provider_azbackup.runtime.hosts import check_hosts

if TYPE_CHECKING:
    from airflow_provider_azbackup.core.model.resources import Vault
    from airflow_provider_azbackup.core.settings import Settings
    from airflow_provider_azbackup.core.wire import Flow

# The test ends within this many seconds, whatever Entra ID or Azure do.
TEST_LIMIT = 10.0


def ask_azure(
    settings: Settings, vault: Vault | None, vault_type: str, *, limit: float = TEST_LIMIT
) -> tuple[bool, str]:
    """Ask Azure for a vault, or for the vaults of a subscription, and say who asked and what came back.

    The conversation runs in a thread of its own, so that nothing can outlast the limit.

    :param settings: the connection.
    :param vault: the vault; None asks for the vaults of the connection's subscription.
    :param vault_type: which type of vaults to ask for.
    :param limit: seconds after which the test ends without an answer.
    :return: whether Azure answered, and what to show.
    :raises AzureBackupConfigError: when there is nothing to ask for, or when a host is not to be trusted.
    """
    if vault is None and not settings.subscription_id:
        raise AzureBackupConfigError(
            f"nothing to ask Azure for: set subscription_id, resource_group_name and vault_name in the extra "
            f"of connection {settings.conn_id!r}"
        )
    check_hosts(settings)
    flow = vaults.probe(vault, settings.subscription_id, vault_type)
    steps: list[str] = ["Entra ID for a token"]
    answer: list[tuple[bool, str]] = []

    def ask() -> None:
        try:
            answer.append((True, _probe(settings, flow, steps)))
        except AzureBackupConfigError as error:  # nobody was asked
            answer.append((False, str(error)))
        except Exception as error:  # a thread has no other way to report it, and the button must show it
            name = "" if isinstance(error, AzureBackupError) else f"{type(error).__name__}: "
            answer.append((False, f"Asked {steps[-1]}: {name}{error}"))

    thread = threading.Thread(target=ask, name="azure-backup-connection-test", daemon=True)
    thread.start()
    thread.join(limit)
    return answer[0] if answer else (False, f"Asked {steps[-1]}: no answer within {limit:g} s.")


def _probe(settings: Settings, flow: Flow[str], steps: list[str]) -> str:
    """Sign in and hold the conversation, adding to ``steps`` whom is asked as whom."""
    # Here, so that the time for the import is part of the limit.
    from airflow_provider_azbackup.runtime.transport import SyncDriver, identity_of

    driver = SyncDriver(settings, connection_timeout=3, read_timeout=6)
    try:
        who = identity_of(driver.credential, settings)
        steps.append(f"Azure as {who}")
        return f"Azure answered {who}: {driver.play(flow, retry=False)}."
    finally:
        driver.close()

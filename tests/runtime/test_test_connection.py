"""The Test button asks Azure for real, says who asked and what is missing, and answers within ten seconds."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from airflow_provider_azbackup.hooks import AzureBackupHook
from airflow_provider_azbackup.runtime import connection_test
from azure_backup_emulator import Emulator

Press = Callable[..., tuple[bool, str]]
NOBODY = "b0000000-0000-0000-0000-000000000009"


@pytest.fixture
def press(azure: Emulator, connect: Any) -> Press:
    """Fill in the form as the emulator's operator, with these fields changed, and press the button."""

    def press(principal: str = "operator", **changes: Any) -> tuple[bool, str]:
        connection = azure.connection(principal)
        for name, value in changes.items():
            (connection if name in connection else connection["extra"])[name] = value
        connect(connection)
        good, message = AzureBackupHook().test_connection()
        assert azure.connection(principal)["password"] not in message
        assert "eyJ" not in message, "a token, or a part of one"
        return good, message

    return press


def test_it_names_the_identity_and_the_vault_it_saw(azure: Emulator, press: Press) -> None:
    good, message = press()
    who = azure.service.identity.principals["operator"]
    assert good
    assert message == (
        f"Azure answered {who.client_id} (object id {who.object_id}, by ClientSecretCredential): "
        "vault demo-vault in demo-rg, 0 jobs running."
    )


def test_it_costs_one_read_and_starts_nothing(azure: Emulator, press: Press) -> None:
    azure.start_job("vm-good")
    assert "1 jobs running" in press()[1]
    assert azure.count(path_contains="/subscriptions/") == azure.count("GET", "/backupJobs") == 1


def test_it_asks_with_the_right_every_wait_needs_and_no_more(press: Press) -> None:
    assert press("waiter")[0]


def test_it_names_the_right_that_is_missing(azure: Emulator, press: Press) -> None:
    good, message = press("nobody")
    assert not good
    assert f"Asked Azure as {azure.service.identity.principals['nobody'].client_id}" in message
    assert "Missing right: Microsoft.RecoveryServices/vaults/backupJobs/read." in message


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"password": "not-the-secret"}, "AADSTS7000215: Invalid client secret provided"),
        ({"login": NOBODY}, "AADSTS700016"),
        ({"tenant_id": NOBODY}, "double check your tenant name or GUID"),
    ],
    ids=["wrong secret", "unknown client", "unknown tenant"],
)
def test_it_says_that_entra_refused_the_identity(
    azure: Emulator, press: Press, changes: dict[str, str], says: str
) -> None:
    good, message = press(**changes)
    assert not good
    assert message.startswith("Asked Entra ID for a token: ")
    assert says in message
    assert azure.count(path_contains="/subscriptions/") == 0


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"vault_name": "nowhere"}, "404 ResourceNotFound: The Resource 'Microsoft."),
        ({"resource_group_name": "nowhere"}, "404 ResourceGroupNotFound: Resource group 'nowhere'"),
        ({"subscription_id": "nowhere"}, "404 SubscriptionNotFound: The subscription 'nowhere'"),
    ],
)
def test_it_says_that_the_vault_is_not_there(press: Press, changes: dict[str, str], says: str) -> None:
    good, message = press(**changes)
    assert not good
    assert says in message


def test_without_a_vault_it_lists_those_it_may_see(press: Press) -> None:
    good, message = press(vault_name="")
    assert good
    assert "no vault set; visible vaults: demo-vault, demo-vault-2." in message


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"vault_name": "", "subscription_id": ""}, "nothing to ask Azure for: set subscription_id"),
        ({"resource_group_name": ""}, "vault 'demo-vault' is named without resource_group_name"),
        ({"cloud_environment": "AzureMars"}, "cloud_environment 'AzureMars'"),
        ({"endpoint": "http://management.azure.com"}, "would show the token"),
        ({"tenant_id": ""}, "has password (client secret) without tenant_id"),
        ({"ca_bundle": "/nowhere/ca.pem"}, "ca_bundle '/nowhere/ca.pem'"),
        ({"certificate_path": "/nowhere/c.pem"}, "cannot be used for a CertificateCredential"),
        ({"ca_bundle": "/dev/zero"}, "not a regular file of at most 4 MiB"),
        ({"certificate_path": "/dev/zero"}, "not a regular file of at most 4 MiB"),
    ],
)
def test_a_form_that_cannot_work_is_told_without_a_request(
    azure: Emulator, press: Press, changes: dict[str, str], says: str
) -> None:
    good, message = press(**changes)
    assert not good
    assert says in message
    assert "Asked" not in message
    assert azure.requests == []


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 429, "retry_after": 3600},
        {"status": 503, "retry_after": 5},
        {"status": 500},
        {"html": True},
        {"empty": True},
        {"reset": True},
        {"redirect": "https://localhost:9"},
    ],
    ids=str,
)
def test_it_says_no_to_any_answer_that_is_not_the_vaults_and_asks_once(
    azure: Emulator, press: Press, fault: dict[str, Any]
) -> None:
    azure.fault(**fault, times=None)
    good, message = press()
    assert not good
    assert message.startswith("Asked Azure as a0000000-0000-0000-0000-000000000001 ")
    assert azure.count(path_contains="/subscriptions/") == 1


def test_an_endpoint_that_nobody_listens_at_is_told_at_once(
    azure: Emulator, press: Press, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts = f"localhost:9,{urlsplit(azure.url).netloc}"
    monkeypatch.setenv("AIRFLOW__AZURE_BACKUP__ALLOWED_HOSTS", hosts)
    good, message = press(endpoint="https://localhost:9")
    assert not good
    assert "Connection refused" in message


@pytest.fixture
def settled() -> Iterator[None]:
    """Wait for the thread that was given up, which its own time limits end."""
    yield
    for thread in threading.enumerate():
        if thread.name == "azure-backup-connection-test":
            thread.join(10)


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("^/subscriptions/", "Azure as a0000000-0000-0000-0000-000000000001"),
        ("/oauth2/", "Entra ID for a token"),
    ],
)
def test_it_does_not_wait_for_a_server_that_hangs(azure: Emulator, path: str, asked: str) -> None:
    """The button's own limit is ten seconds; half a second shows the same."""
    assert connection_test.TEST_LIMIT == 10
    azure.fault(path=path, latency=1)
    hook = AzureBackupHook()
    good, message = connection_test.ask_azure(hook.settings, hook._vault(), "RecoveryServices", limit=0.5)
    assert not good
    assert message.startswith(f"Asked {asked}")
    assert message.endswith(": no answer within 0.5 s.")


# Airflow 3.3 warns of what its own Connection does.
@pytest.mark.filterwarnings("ignore:ProvidersManager.hooks is deprecated")
def test_airflow_itself_presses_the_button(azure: Emulator) -> None:
    from airflow.models import Connection

    described = {**azure.connection(), "conn_id": "azure_backup_default", "port": 443}
    connection = Connection(**{**described, "extra": json.dumps(described["extra"])})
    good, message = connection.test_connection()
    assert good, message
    assert "vault demo-vault" in message

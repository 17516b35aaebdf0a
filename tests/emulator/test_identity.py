"""Signing in as azure-identity does it, and what a token is good for."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from azure import identity
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import aio

from azure_backup_emulator import Emulator
from tests.emulator.conftest import SUBSCRIPTION, VAULT, Client

SCOPE = "https://management.azure.com/.default"
NOW = {"disable_instance_discovery": True}


def _arguments(azure: Emulator, kind: str) -> dict[str, Any]:
    """The constructor arguments of each kind of azure-identity credential."""
    if kind == "ManagedIdentityCredential":
        return {"connection_verify": azure.ca_bundle}
    tenant = azure.connection()["extra"]["tenant_id"]
    login, secret = azure.connection()["login"], azure.connection()["password"]
    proof = {
        "ClientSecretCredential": lambda: {"client_secret": secret},
        "CertificateCredential": lambda: {"certificate_path": azure.certificate()},
        "WorkloadIdentityCredential": lambda: {"token_file_path": azure.federated_token_file()},
    }[kind]()
    common = {"authority": azure.url, "connection_verify": azure.ca_bundle, **NOW}
    return {"tenant_id": tenant, "client_id": login, **proof, **common}


KINDS = [
    "ClientSecretCredential",
    "CertificateCredential",
    "WorkloadIdentityCredential",
    "ManagedIdentityCredential",
]


@pytest.fixture
def on_app_service(azure: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in azure.managed_identity().items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("on_app_service")
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_credential_gets_a_token_that_opens_the_vault(
    azure: Emulator, client: Client, kind: str
) -> None:
    with getattr(identity, kind)(**_arguments(azure, kind)) as credential:
        token = credential.get_token(SCOPE)
    assert 3500 < token.expires_on - time.time() < 3600
    assert client.get(VAULT, headers={"Authorization": f"Bearer {token.token}"}).status_code == 200
    assert azure.requests[-1]["principal"] == "operator"


@pytest.mark.usefixtures("on_app_service")
@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_of_asynchronous_credential_gets_a_token_that_opens_the_vault(
    azure: Emulator, client: Client, kind: str
) -> None:
    async with getattr(aio, kind)(**_arguments(azure, kind)) as credential:
        token = await credential.get_token(SCOPE)
    assert client.get(VAULT, headers={"Authorization": f"Bearer {token.token}"}).status_code == 200


def test_a_user_assigned_identity_is_chosen_by_its_client_id(
    azure: Emulator, client: Client, on_app_service: None
) -> None:
    reader = azure.connection("reader")["login"]
    with identity.ManagedIdentityCredential(
        client_id=reader, connection_verify=azure.ca_bundle
    ) as credential:
        token = credential.get_token(SCOPE).token
    client.get(VAULT, headers={"Authorization": f"Bearer {token}"})
    assert azure.requests[-1]["principal"] == "reader"


def test_a_certificate_that_is_not_registered_is_refused(azure: Emulator) -> None:
    arguments = _arguments(azure, "CertificateCredential")
    azure.service.identity.public_keys.clear()
    with (
        identity.CertificateCredential(**arguments) as credential,
        pytest.raises(ClientAuthenticationError, match="AADSTS700027"),
    ):
        credential.get_token(SCOPE)


@pytest.mark.parametrize(
    ("change", "code", "from_msal"),
    [
        ({"client_secret": "wrong"}, "AADSTS7000215", "AADSTS7000215"),
        ({"client_id": "b0000000-0000-0000-0000-000000000009"}, "AADSTS700016", "AADSTS700016"),
        # MSAL keeps the number of an unknown tenant to itself.
        ({"tenant_id": "99999999-9999-9999-9999-999999999999"}, "AADSTS90002", "Unable to get authority"),
    ],
)
async def test_a_wrong_secret_client_or_tenant_is_refused_with_entras_number(
    azure: Emulator, change: dict[str, str], code: str, from_msal: str
) -> None:
    arguments = {**_arguments(azure, "ClientSecretCredential"), **change}
    with (
        identity.ClientSecretCredential(**arguments) as credential,
        pytest.raises(ClientAuthenticationError, match=from_msal),
    ):
        credential.get_token(SCOPE)
    async with aio.ClientSecretCredential(**arguments) as asynchronous:
        with pytest.raises(ClientAuthenticationError, match=code):
            await asynchronous.get_token(SCOPE)


def test_a_wrong_secret_is_401_invalid_client(azure: Emulator, client: Client) -> None:
    connection = azure.connection()
    form = {"client_id": connection["login"], "client_secret": "x", "grant_type": "client_credentials"}
    address = f"{azure.url}/{connection['extra']['tenant_id']}/oauth2/v2.0/token"
    reply = client.session.post(address, data=form, timeout=10)
    assert (reply.status_code, reply.json()["error"]) == (401, "invalid_client")
    assert reply.json()["error_codes"] == [7000215]


@pytest.mark.parametrize(
    ("change", "error"),
    [({"grant_type": "password"}, "unsupported_grant_type"), ({"scope": "openid"}, "invalid_scope")],
)
def test_a_token_request_of_another_kind_is_refused(
    azure: Emulator, client: Client, change: dict[str, str], error: str
) -> None:
    connection = azure.connection()
    form = {"client_id": connection["login"], "client_secret": connection["password"], "scope": SCOPE}
    address = f"{azure.url}/{connection['extra']['tenant_id']}/oauth2/v2.0/token"
    reply = client.session.post(
        address, data={**form, "grant_type": "client_credentials", **change}, timeout=10
    )
    assert (reply.status_code, reply.json()["error"]) == (400, error)


def test_a_managed_identity_needs_the_right_header_and_a_known_client_id(
    azure: Emulator, client: Client
) -> None:
    reply = client.session.get(f"{azure.url}/msi/token", params={"resource": "x"}, timeout=10)
    assert reply.status_code == 401
    assert "access_token" not in reply.json()
    header = {"X-IDENTITY-HEADER": azure.managed_identity()["IDENTITY_HEADER"]}
    query = {"resource": "x", "client_id": "unknown"}
    reply = client.session.get(f"{azure.url}/msi/token", params=query, headers=header, timeout=10)
    assert (reply.status_code, "unknown" in reply.json()["message"]) == (400, True)


def _damaged(token: str, **claims: Any) -> str:
    """The token with other claims under the old signature."""
    head, body, signature = token.split(".")
    known = json.loads(base64.urlsafe_b64decode(body + "=="))
    changed = base64.urlsafe_b64encode(json.dumps({**known, **claims}).encode()).decode().rstrip("=")
    return f"{head}.{changed}.{signature}"


def test_a_request_without_a_good_token_is_401_with_a_challenge(azure: Emulator, client: Client) -> None:
    good = client.token()
    azure.configure(token_lifetime=-1)
    old = client.token()
    cases = {
        "": "AuthenticationFailed",
        "Basic dXNlcjpwYXNz": "AuthenticationFailed",
        "Bearer nonsense": "InvalidAuthenticationToken",
        f"Bearer {_damaged(good, exp=9_999_999_999)}": "InvalidAuthenticationToken",
        f"Bearer {client.token('https://vault.azure.net')}": "InvalidAuthenticationTokenAudience",
        f"Bearer {old}": "ExpiredAuthenticationToken",
    }
    for header, code in cases.items():
        reply = client.get(VAULT, headers={"Authorization": header})
        assert (reply.status_code, reply.json()["error"]["code"]) == (401, code)
        assert reply.headers["WWW-Authenticate"].startswith("Bearer ")
        assert reply.headers["x-ms-failure-cause"] == "gateway"


@pytest.mark.parametrize(
    "audience", ["https://management.azure.com/", "https://management.core.usgovcloudapi.net"]
)
def test_the_audience_of_every_cloud_is_accepted_with_and_without_a_slash(
    client: Client, audience: str
) -> None:
    header = {"Authorization": f"Bearer {client.token(audience)}"}
    assert client.get(VAULT, headers=header).status_code == 200


ASKS: dict[str, Callable[[Client], tuple[str, str]]] = {
    "vault": lambda _: ("GET", VAULT),
    "items": lambda _: ("GET", f"{VAULT}/backupProtectedItems"),
    "item": lambda client: ("GET", client.item("vm-good")),
    "points": lambda client: ("GET", f"{client.item('vm-good')}/recoveryPoints"),
    "backup": lambda client: ("POST", f"{client.item('vm-good')}/backup"),
    "operation": lambda _: ("GET", f"{VAULT}/backupOperations/x"),
    "jobs": lambda _: ("GET", f"{VAULT}/backupJobs"),
    "cancel": lambda _: ("POST", f"{VAULT}/backupJobs/x/cancel"),
    "guards": lambda _: ("GET", f"{VAULT}/backupResourceGuardProxies"),
}
READS = {"vault", "items", "item", "points", "operation", "jobs"}


@pytest.mark.parametrize(
    ("principal", "allowed"),
    [("operator", set(ASKS)), ("reader", READS), ("waiter", {"jobs"}), ("nobody", set())],
)
def test_a_principal_may_do_what_its_role_says_and_nothing_else(
    as_: Callable[[str], Client], principal: str, allowed: set[str]
) -> None:
    client = as_(principal)
    replies = {name: client.send(*ask(client)) for name, ask in ASKS.items()}
    assert {name for name, reply in replies.items() if reply.status_code != 403} == allowed


def test_a_refusal_names_the_client_the_action_and_the_scope(as_: Callable[[str], Client]) -> None:
    reader = as_("reader")
    item = reader.item("vm-good")
    reply = reader.post(f"{item}/backup", {})
    who = reader.azure.service.identity.principals["reader"]
    action = (
        "Microsoft.RecoveryServices/vaults/backupFabrics/protectionContainers/protectedItems/backup/action"
    )
    assert (reply.status_code, reply.json()["error"]["code"]) == (403, "AuthorizationFailed")
    assert reply.json()["error"]["message"] == (
        f"The client '{who.client_id}' with object id '{who.object_id}' does not have authorization to "
        f"perform action '{action}' over scope '{item}' or the scope is invalid. If access was recently "
        "granted, please refresh your credentials."
    )


def test_an_unknown_subscription_is_404(client: Client) -> None:
    reply = client.get(VAULT.replace(SUBSCRIPTION, "/subscriptions/5"))
    assert (reply.status_code, reply.json()["error"]["code"]) == (404, "SubscriptionNotFound")


@pytest.mark.parametrize(
    ("principal", "seen"), [("operator", [SUBSCRIPTION]), ("waiter", [SUBSCRIPTION]), ("nobody", [])]
)
def test_a_principal_sees_the_subscription_if_it_may_do_anything_there(
    as_: Callable[[str], Client], principal: str, seen: list[str]
) -> None:
    client = as_(principal)
    reply = client.get("/subscriptions")
    assert [found["id"] for found in reply.json()["value"]] == seen
    assert reply.json()["count"] == {"type": "Total", "value": len(seen)}
    for found in reply.json()["value"]:
        assert found["id"] == f"/subscriptions/{found['subscriptionId']}"
        assert (found["tenantId"], found["state"]) == (client.azure.service.identity.tenant, "Enabled")
    assert "x-ms-ratelimit-remaining-tenant-reads" in reply.headers


def test_subscriptions_are_shown_to_nobody_without_a_token(client: Client) -> None:
    reply = client.get("/subscriptions", headers={"Authorization": ""})
    assert (reply.status_code, reply.json()["error"]["code"]) == (401, "AuthenticationFailed")

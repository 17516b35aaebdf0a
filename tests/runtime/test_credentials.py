"""Which identity and which vault a connection means, and one clear error for each way it can be wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_azbackup.exceptions import (
    AzureBackupAuthError,
    AzureBackupConfigError,
    AzureBackupNotFoundError,
    AzureBackupTransientError,
)
from airflow_provider_azbackup.hooks import AzureBackupAsyncHook, AzureBackupHook
from azure_backup_emulator import Emulator

Call = Callable[..., Any]
MACHINE = (
    "/subscriptions/00000000-0000-0000-0000-00000000d3a0/resourceGroups/demo-vms"
    "/providers/Microsoft.Compute/virtualMachines/vm-good"
)
NOBODY = "b0000000-0000-0000-0000-000000000009"


def without_principal(azure: Emulator, **extra: Any) -> dict[str, Any]:
    """The emulator's connection with nothing in it that says who asks."""
    connection = azure.connection(**extra)
    del connection["extra"]["tenant_id"]
    return {**connection, "login": None, "password": None}


def who_asked(azure: Emulator) -> str:
    (principal,) = {
        each["principal"] for each in azure.requests if each["path"].startswith("/subscriptions/")
    }
    return str(principal)


# Who asks


def test_a_client_secret_signs_in(azure: Emulator, call: Call, connect: Any) -> None:
    connect(azure.connection("reader"))
    call("list_jobs")
    assert who_asked(azure) == "reader"


def test_a_certificate_signs_in(azure: Emulator, call: Call, connect: Any) -> None:
    connect({**azure.connection("reader", certificate_path=azure.certificate("reader")), "password": None})
    call("list_jobs")
    assert who_asked(azure) == "reader"


def test_a_workload_identity_signs_in(
    azure: Emulator, call: Call, connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on AKS: the cluster projects the token file and names it in the environment."""
    monkeypatch.setenv("AZURE_FEDERATED_TOKEN_FILE", azure.federated_token_file("reader"))
    tenant = azure.connection()["extra"]["tenant_id"]
    connection = without_principal(azure, workload_identity_tenant_id=tenant)
    connect({**connection, "login": azure.connection("reader")["login"]})
    call("list_jobs")
    assert who_asked(azure) == "reader"


@pytest.fixture
def app_service(azure: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in azure.managed_identity().items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("app_service")
def test_a_user_assigned_managed_identity_signs_in(azure: Emulator, call: Call, connect: Any) -> None:
    reader = azure.connection("reader")["login"]
    connect(without_principal(azure, managed_identity_client_id=reader))
    call("list_jobs")
    assert who_asked(azure) == "reader"


@pytest.mark.usefixtures("app_service")
def test_a_connection_that_names_nobody_takes_the_identity_of_the_machine(
    azure: Emulator, call: Call, connect: Any
) -> None:
    connect(without_principal(azure))
    call("list_jobs")
    assert who_asked(azure) == "operator"


def test_a_connection_that_names_nobody_takes_the_principal_of_the_environment(
    azure: Emulator, call: Call, connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = azure.connection("reader")
    monkeypatch.setenv("AZURE_TENANT_ID", reader["extra"]["tenant_id"])
    monkeypatch.setenv("AZURE_CLIENT_ID", reader["login"])
    monkeypatch.setenv("AZURE_CLIENT_SECRET", reader["password"])
    connect(without_principal(azure))
    call("list_jobs")
    assert who_asked(azure) == "reader"


# Who is not let in


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"password": "not-the-secret"}, "AADSTS7000215: Invalid client secret"),
        ({"login": NOBODY}, "AADSTS700016: Application .* was not found"),
        # MSAL, which signs in for the blocking hook, keeps the number of an unknown tenant to itself.
        ({"tenant_id": NOBODY}, "AADSTS90002: Tenant|check your tenant name or GUID"),
    ],
    ids=["wrong secret", "unknown client", "unknown tenant"],
)
def test_an_identity_that_entra_refuses_is_one_clear_error_and_azure_is_not_asked(
    azure: Emulator, call: Call, connect: Any, change: dict[str, str], says: str
) -> None:
    connection = azure.connection()
    for name, value in change.items():
        (connection if name in connection else connection["extra"])[name] = value
    connect(connection)
    with pytest.raises(AzureBackupAuthError, match=says) as caught:
        call("trigger_backup", MACHINE)
    assert connection["password"] not in str(caught.value)
    assert azure.count(path_contains="/subscriptions/") == 0


@pytest.mark.parametrize(
    ("expired", "password", "says"),
    [
        (
            ["operator"],
            None,
            "^the client secret has expired; create another.* AADSTS7000222: .* are expired",
        ),
        (
            [],
            "not-the-secret",
            r"^the client secret .* is wrong; give its value.* AADSTS7000215: ",
        ),
    ],
)
def test_a_secret_that_is_refused_comes_with_what_to_do(
    azure: Emulator, call: Call, connect: Any, expired: list[str], password: str | None, says: str
) -> None:
    azure.configure(expired_secrets=expired)
    connection = azure.connection()
    connect({**connection, "password": password or connection["password"]})
    with pytest.raises(AzureBackupAuthError, match=f"(?s){says}"):
        call("list_jobs")


def test_a_certificate_that_is_not_registered_is_refused_by_entra(
    azure: Emulator, call: Call, connect: Any
) -> None:
    connection = azure.connection("reader", certificate_path=azure.certificate("reader"))
    azure.service.identity.public_keys.clear()
    connect({**connection, "password": None})
    with pytest.raises(AzureBackupAuthError, match="AADSTS700027"):
        call("list_jobs")


def test_a_certificate_that_is_not_there_is_told_before_any_request(
    azure: Emulator, call: Call, connect: Any
) -> None:
    connect({**azure.connection(certificate_path="/nowhere/c.pem"), "password": None})
    with pytest.raises(
        AzureBackupConfigError, match=r"cannot be used for a CertificateCredential: .*/nowhere/c\.pem"
    ):
        call("list_jobs")
    assert azure.requests == []


def test_a_workload_identity_outside_its_cluster_is_told_before_any_request(
    azure: Emulator, call: Call, connect: Any
) -> None:
    connect(without_principal(azure, workload_identity_tenant_id="11111111-1111-1111-1111-111111111111"))
    with pytest.raises(AzureBackupConfigError, match="cannot be used for a WorkloadIdentityCredential"):
        call("list_jobs")
    assert azure.requests == []


@pytest.mark.parametrize(
    ("principal", "method", "right"),
    [
        ("reader", "trigger_backup", "protectedItems/backup/action"),
        ("reader", "cancel_job", "backupJobs/cancel/action"),
        ("waiter", "resolve_protected_item", "backupProtectedItems/read"),
        ("nobody", "get_job", "backupJobs/read"),
    ],
)
def test_a_missing_right_is_named_by_the_error(
    azure: Emulator, call: Call, connect: Any, principal: str, method: str, right: str
) -> None:
    connect(azure.connection(principal))
    job_id = azure.start_job("vm-good")
    argument = {"trigger_backup": MACHINE, "resolve_protected_item": "vm-good"}.get(method, job_id)
    with pytest.raises(
        AzureBackupAuthError, match=rf"Missing right: Microsoft\.RecoveryServices/.*{right}\."
    ) as caught:
        call(method, argument)
    assert (caught.value.status, caught.value.code) == (403, "AuthorizationFailed")
    assert azure.connection(principal)["login"] in str(caught.value)


def test_a_principal_that_may_only_look_can_wait_for_a_job(azure: Emulator, call: Call, connect: Any) -> None:
    connect(azure.connection("waiter"))
    assert call("wait_for_job", azure.start_job("vm-good", seconds=60), timeout=600).status == "Completed"


# Which vault


@pytest.mark.parametrize(
    ("field", "code"),
    [
        ("vault_name", "ResourceNotFound"),
        ("resource_group_name", "ResourceGroupNotFound"),
        ("subscription_id", "SubscriptionNotFound"),
    ],
)
def test_a_vault_that_is_not_there_is_told_by_azures_own_code(
    azure: Emulator, call: Call, connect: Any, field: str, code: str
) -> None:
    connect(azure.connection(**{field: "nowhere"}))
    with pytest.raises(AzureBackupNotFoundError, match="nowhere") as caught:
        call("list_jobs")
    assert caught.value.code == code


@pytest.mark.parametrize("field", ["resource_group_name", "subscription_id"])
def test_a_vault_named_in_part_is_told_before_any_request(
    azure: Emulator, call: Call, connect: Any, field: str
) -> None:
    connect(azure.connection(**{field: ""}))
    with pytest.raises(AzureBackupConfigError, match=f"vault 'demo-vault' is named without {field}"):
        call("list_jobs")
    assert azure.requests == []


@pytest.mark.parametrize("method", ["list_jobs", "get_job", "trigger_backup"])
def test_no_vault_at_all_is_told_before_any_request(
    azure: Emulator, call: Call, connect: Any, method: str
) -> None:
    connect(azure.connection(vault_name=""))
    arguments = {"get_job": ["6a7b0b7e-1c3d-4e5f-8a9b-0c1d2e3f4a5b"], "trigger_backup": ["vm-good"]}.get(
        method, []
    )
    with pytest.raises(AzureBackupConfigError, match=r"no vault is named|comes without a vault"):
        call(method, *arguments)
    assert azure.requests == []


def test_the_vault_of_a_hook_goes_before_the_connections(azure: Emulator) -> None:
    azure.start_job("vm-elsewhere")
    with AzureBackupHook(vault_name="demo-vault-2") as hook:
        (job,) = hook.list_jobs()
        assert hook.resolve_protected_item("vm-elsewhere").vault.name == "demo-vault-2"

    async def listed() -> list[Any]:
        async with AzureBackupAsyncHook(vault_name="demo-vault-2") as other:
            return await other.list_jobs()

    assert asyncio.run(listed()) == [job]
    assert job.ref.vault.name == "demo-vault-2"


def test_a_connection_of_type_azure_serves_as_it_is_with_the_vault_of_the_task(
    azure: Emulator, connect: Any
) -> None:
    ours = azure.connection("reader")
    azure_connection = {
        "conn_type": "azure",
        "login": ours["login"],
        "password": ours["password"],
        "extra": {
            "tenantId": ours["extra"]["tenant_id"],
            "subscriptionId": ours["extra"]["subscription_id"],
            **{name: ours["extra"][name] for name in ("endpoint", "authority", "ca_bundle")},
        },
    }
    connect(azure_connection, conn_id="azure_default")
    with AzureBackupHook("azure_default", vault_name="demo-vault", resource_group_name="demo-rg") as hook:
        assert hook.list_jobs() == []
    assert who_asked(azure) == "reader"


def test_an_endpoint_that_nobody_listens_at_is_told_after_a_few_tries(
    azure: Emulator, call: Call, connect: Any, clock: Any
) -> None:
    connect(azure.connection(endpoint="https://localhost:9"))
    with pytest.raises(AzureBackupTransientError, match=r"^ServiceRequestError: .* got no answer"):
        call("list_jobs")
    assert len(clock.waits) == 3

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_azbackup.core.model.validation import shown_host
from airflow_provider_azbackup.core.settings import CLOUDS, Settings
from airflow_provider_azbackup.exceptions import AzureBackupConfigError
from tests.support.play import JOB, VAULT

SECRET = "not-for-anybody's-eyes"


def read(login: str | None = None, password: str | None = None, **extra: Any) -> Settings:
    return Settings.read("nightly", login=login, password=password, extra=extra)


def complaint(*given: str | None, **extra: Any) -> str:
    with pytest.raises(AzureBackupConfigError) as error:
        read(*given, **extra)
    assert "connection 'nightly'" in str(error.value)
    assert SECRET not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("given", "extra", "credential", "arguments"),
    [
        ((), {}, "DefaultAzureCredential", {}),
        (
            ("client", SECRET),
            {"tenant_id": "t"},
            "ClientSecretCredential",
            {"tenant_id": "t", "client_id": "client", "client_secret": SECRET},
        ),
        (
            ("client",),
            {"tenant_id": "t", "certificate_path": "/c.pem"},
            "CertificateCredential",
            {"tenant_id": "t", "client_id": "client", "certificate_path": "/c.pem"},
        ),
        (
            ("client", SECRET),
            {"tenant_id": "t", "certificate_path": "/c.pem"},
            "CertificateCredential",
            {"tenant_id": "t", "client_id": "client", "certificate_path": "/c.pem", "password": SECRET},
        ),
        ((), {"managed_identity_client_id": "m"}, "ManagedIdentityCredential", {"client_id": "m"}),
        ((), {"workload_identity_tenant_id": "t"}, "WorkloadIdentityCredential", {"tenant_id": "t"}),
        (
            ("client",),
            {"workload_identity_tenant_id": "t"},
            "WorkloadIdentityCredential",
            {"tenant_id": "t", "client_id": "client"},
        ),
        (
            (),
            {"workload_identity_tenant_id": "t", "managed_identity_client_id": "m"},
            "WorkloadIdentityCredential",
            {"tenant_id": "t", "client_id": "m"},
        ),
    ],
)
def test_the_credential_is_the_one_that_was_given(
    given: tuple[str, ...], extra: dict[str, str], credential: str, arguments: dict[str, str]
) -> None:
    settings = read(*given, **extra)
    assert (settings.credential, settings.credential_arguments) == (credential, arguments)
    assert SECRET not in repr(settings)


@pytest.mark.parametrize(
    ("given", "extra", "words"),
    [
        (("client", SECRET), {}, "password (client secret) without tenant_id;"),
        ((None, SECRET), {"tenant_id": "t"}, "without login (client id);"),
        ((None, SECRET), {}, "without login (client id) and tenant_id;"),
        ((), {"certificate_path": "/c.pem"}, "certificate_path without login (client id) and tenant_id;"),
        (("client",), {"tenant_id": "t"}, "a login (client id) but no password (client secret)"),
    ],
)
def test_half_an_identity_is_told_with_the_half_that_is_missing(
    given: tuple[str | None, ...], extra: dict[str, str], words: str
) -> None:
    assert words in complaint(*given, **extra)


@pytest.mark.parametrize(
    ("given", "extra", "several"),
    [
        (
            ("client", SECRET),
            {"tenant_id": "t", "workload_identity_tenant_id": "t"},
            ["password (client secret)", "workload_identity_tenant_id"],
        ),
        (
            ("client", SECRET),
            {"tenant_id": "t", "managed_identity_client_id": "m"},
            ["password (client secret)", "managed_identity_client_id"],
        ),
        (
            ("client",),
            {"tenant_id": "t", "certificate_path": "/c.pem", "managed_identity_client_id": "m"},
            ["certificate_path", "managed_identity_client_id"],
        ),
        (
            ("client",),
            {"tenant_id": "t", "certificate_path": "/c.pem", "workload_identity_tenant_id": "w"},
            ["certificate_path", "workload_identity_tenant_id"],
        ),
        (
            ("client",),
            {"managed_identity_client_id": "m"},
            ["managed_identity_client_id", "login (client id)"],
        ),
        (
            ("client",),
            {"workload_identity_tenant_id": "t", "managed_identity_client_id": "m"},
            ["workload_identity_tenant_id", "login (client id)"],
        ),
    ],
)
def test_a_connection_that_names_two_identities_is_refused(
    given: tuple[str, ...], extra: dict[str, str], several: list[str]
) -> None:
    words = complaint(*given, **extra)
    assert "more than one identity" in words
    assert all(name in words for name in several)


def test_a_login_that_repeats_the_client_of_the_identity_is_no_other_one() -> None:
    assert read("m", managed_identity_client_id="m").credential == "ManagedIdentityCredential"


@pytest.mark.parametrize("key", ["key_path", "key_json", "extra__azure__key_json"])
@pytest.mark.parametrize("given", [(), ("client", SECRET)], ids=["alone", "with a secret"])
@pytest.mark.parametrize("value", ["/etc/azure/key.json", {"clientId": "c", "clientSecret": SECRET}], ids=str)
def test_the_key_of_an_azure_connection_is_never_replaced_by_another_identity(
    key: str, given: tuple[str, ...], value: Any
) -> None:
    login, password = given or (None, None)
    with pytest.raises(AzureBackupConfigError) as error:
        Settings.read(
            "nightly", conn_type="azure", login=login, password=password, extra={"tenantId": "t", key: value}
        )
    text = str(error.value)
    assert "which this package does not read" in text
    assert "Create a connection of type azure_backup" in text
    assert SECRET not in text


@pytest.mark.parametrize(
    ("name", "endpoint", "scope", "authority", "portal"),
    [
        (
            "AzurePublicCloud",
            "management.azure.com",
            "management.azure.com",
            "microsoftonline.com",
            "azure.com",
        ),
        (
            "AzureUSGovernment",
            "management.usgovcloudapi.net",
            "management.core.usgovcloudapi.net",
            "microsoftonline.us",
            "azure.us",
        ),
        (
            "AzureChinaCloud",
            "management.chinacloudapi.cn",
            "management.chinacloudapi.cn",
            "chinacloudapi.cn",
            "azure.cn",
        ),
        (
            "AzureBleuCloud",
            "management.sovcloud-api.fr",
            "management.sovcloud-api.fr",
            "sovcloud-identity.fr",
            None,
        ),
    ],
)
def test_each_cloud_has_its_own_hosts(
    name: str, endpoint: str, scope: str, authority: str, portal: str | None
) -> None:
    settings = read(cloud_environment=name, tenant_id="t")
    assert settings.endpoint == f"https://{endpoint}"
    assert settings.scope == f"https://{scope}/.default"
    assert settings.authority == f"https://login.{authority}"
    link = f"https://portal.{portal}/#@t/resource{JOB.path}" if portal else ""
    assert settings.portal_link(JOB.path) == link
    assert not settings.has_own_authority
    assert not settings.is_plain_http


def test_the_public_cloud_is_meant_when_none_is_named_and_an_unknown_one_is_told() -> None:
    assert read().cloud == CLOUDS["AzurePublicCloud"]
    assert "'AzureGermanCloud' in the extra" in complaint(cloud_environment="AzureGermanCloud")
    assert (
        "expected one of AzurePublicCloud, AzureUSGovernment, AzureChinaCloud, AzureBleuCloud"
        in complaint(cloud_environment="azurepubliccloud")
    )


@pytest.mark.parametrize("field", ["endpoint", "authority"])
@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("https://gateway.example", "https://gateway.example"),
        ("https://gateway.example/", "https://gateway.example"),
        ("https://gateway.example:8443", "https://gateway.example:8443"),
        ("gateway.example", "https://gateway.example"),
        (" gateway.example:8443/ ", "https://gateway.example:8443"),
        ("http://localhost:8080", "http://localhost:8080"),
        ("http://127.0.0.1", "http://127.0.0.1"),
        ("http://127.9.9.9:1", "http://127.9.9.9:1"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_a_host_of_ones_own_may_be_named(field: str, given: str, used: str) -> None:
    settings = read(**{field: given})
    assert getattr(settings, field) == used
    assert settings.has_own_authority is (field == "authority")
    assert settings.is_plain_http is (field == "endpoint" and used.startswith("http:"))


@pytest.mark.parametrize("field", ["endpoint", "authority"])
@pytest.mark.parametrize(
    "url",
    [
        "http://management.azure.com",
        "http://localhost.example",
        "http://127.0.0.1.example",
        "http://10.0.0.1",
        "http://0.0.0.0",
        "http://[::2]",
        "ftp://gateway.example",
        "https://",
        "https:///vaults",
        "https://gateway.example/azure",
        "https://gateway.example?x=1",
        "https://gateway.example#x",
        "https://user:word@gateway.example",
        "https://[gateway",
        "https://gateway.example:port",
        "https://gateway.example:99999",
        "https://gateway.example\\@other.example",
        "https://other.example\\.gateway.example",
        "https://gate\tway.example",
        "https://gate\nway.example",
        "https://\uff4danagement.azure.com",
    ],
)
def test_a_url_that_could_lose_the_token_or_means_nothing_is_told(field: str, url: str) -> None:
    words = complaint(**{field: url})
    assert f"{field} {shown_host(url)!r} in the extra" in words
    assert "expected https" in words


@pytest.mark.parametrize("field", ["cloud_environment", "vault_type", "job_read_share", "resource_graph"])
def test_a_secret_pasted_into_a_field_for_a_word_or_a_number_is_not_repeated(field: str) -> None:
    for secret in (SECRET, "Q8~aBcDeFgHiJ.KlMnOpQr_StUv", "c2VjcmV0IG9mIGEgcGVyc29u=="):
        assert secret not in complaint(**{field: secret})


@pytest.mark.parametrize(
    ("given", "meant"), [("true", True), (True, True), ("False", False), (False, False), ("", False)]
)
def test_resource_graph_is_asked_only_where_the_connection_says_so(given: object, meant: bool) -> None:
    assert read(resource_graph=given).resource_graph is meant
    assert read().resource_graph is False


def test_a_switch_is_true_or_false() -> None:
    assert "resource_graph 'maybe' in the extra" in complaint(resource_graph="maybe")
    assert "expected true or false" in complaint(resource_graph="maybe")


def test_resource_graph_is_asked_in_a_version_of_its_own() -> None:
    for settings in (read(), read(api_version="2026-07-01"), read(vault_type="DataProtection")):
        assert settings.version_of("/providers/Microsoft.ResourceGraph/resources") == "2022-10-01"


def test_scope_and_portal_can_be_of_ones_own() -> None:
    scope, portal = "https://management.example/.default", "https://portal.example"
    settings = read(cloud_environment="AzureBleuCloud", scope=scope, portal=f"{portal}/", tenant_id="t")
    assert (settings.scope, settings.portal) == (scope, portal)
    assert settings.portal_link(VAULT.path) == f"{portal}/#@t/resource{VAULT.path}"
    assert settings.endpoint == CLOUDS["AzureBleuCloud"].endpoint


@pytest.mark.parametrize("scope", ["https://management.example", "https://a.example/.default more/.default"])
def test_a_scope_that_is_none_is_refused(scope: str) -> None:
    assert f"scope {shown_host(scope)!r} in the extra" in complaint(scope=scope)


@pytest.mark.parametrize(
    "portal",
    ["http://portal.azure.com", "http://localhost", "https://portal.example/path", "javascript:alert(1)"],
)
def test_a_portal_must_be_https_and_a_host_alone(portal: str) -> None:
    words = complaint(portal=portal)
    assert f"portal {shown_host(portal)!r} in the extra" in words
    assert "expected https://<host> without a path" in words


def test_a_job_of_a_backup_vault_has_a_page_of_its_own_in_the_portal() -> None:
    vault = (
        "/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/rg"
        "/providers/Microsoft.DataProtection/backupVaults/v"
    )
    settings = read(tenant_id="t", portal="portal.example")
    page = "https://portal.example/#view/Microsoft_Azure_DataProtection/JobDetailsBlade/jobId/"
    job = settings.portal_link(f"{vault}/backupJobs/{JOB.job_id}")
    assert job.startswith(f"{page}%2Fsubscriptions%2F11111111-")
    assert job.endswith(f"%2FbackupVaults%2Fv%2FbackupJobs%2F{JOB.job_id}")
    # A page that lists jobs puts their ids after the link of none.
    assert settings.portal_link(f"{vault}/backupJobs/") + JOB.job_id == job
    assert settings.portal_link(vault) == f"https://portal.example/#@t/resource{vault}"


def test_a_connection_of_type_azure_works_as_it_is() -> None:
    settings = read(
        "client",
        SECRET,
        tenantId="t",
        subscriptionId="s",
        resourceGroup="g",
        managed_identity_client_id="",
        workload_identity_tenant_id=None,
    )
    assert settings.credential_arguments["tenant_id"] == settings.tenant_id == "t"
    assert (settings.subscription_id, settings.resource_group_name) == ("s", "g")


@pytest.mark.parametrize("prefix", ["extra__azure__", "extra__azure_backup__"])
def test_fields_that_older_forms_stored_under_a_prefix_are_read(prefix: str) -> None:
    settings = read("client", SECRET, **{f"{prefix}tenantId": "t", f"{prefix}subscriptionId": "s"})
    assert (settings.tenant_id, settings.subscription_id) == ("t", "s")


def test_our_names_come_before_those_of_other_connections() -> None:
    settings = read(tenantId="theirs", tenant_id="ours", subscriptionId="theirs", subscription_id="")
    assert (settings.tenant_id, settings.subscription_id) == ("ours", "theirs")


def test_the_rest_is_read_as_text_and_trimmed() -> None:
    settings = read(ca_bundle=" /ca.pem ", api_version="2026-07-01", subscription_id=7)
    assert (settings.ca_bundle, settings.api_version, settings.subscription_id) == (
        "/ca.pem",
        "2026-07-01",
        "7",
    )
    assert read().api_version == "2024-04-01"


NO_VAULT: dict[str, None] = {"subscription_id": None, "resource_group_name": None, "vault_name": None}
FULL = {
    "subscription_id": VAULT.subscription_id,
    "resource_group_name": VAULT.resource_group_name,
    "vault_name": VAULT.name,
}


def test_a_task_names_its_vault_before_the_connection_does() -> None:
    assert read(**FULL).vault(**NO_VAULT) == VAULT
    assert read().vault(**FULL) == VAULT
    others = {name: f"other-{name}" for name in FULL}
    assert read(**others).vault(**FULL) == VAULT
    for name in FULL:
        mixed = read(**{**FULL, name: others[name]}).vault(**{**NO_VAULT, name: FULL[name]})
        assert mixed == VAULT
    assert read().vault(**NO_VAULT) is None
    assert read(subscription_id="s").vault(**NO_VAULT) is None


def test_a_vault_named_in_part_or_badly_is_told_before_any_request() -> None:
    with pytest.raises(
        AzureBackupConfigError,
        match=r"vault 'v' is named without subscription_id and resource_group_name; .* connection 'nightly'",
    ):
        read(vault_name="v").vault(**NO_VAULT)
    for bad in ("a/b", "a?b", " ", "a#b"):
        with pytest.raises(AzureBackupConfigError, match="is not the ARM id of a vault"):
            read(**FULL).vault(**{**NO_VAULT, "vault_name": bad})

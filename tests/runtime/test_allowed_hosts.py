"""What the API server does with a connection leads only to known clouds and to hosts the deployment lists."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
from airflow.providers.common.compat.sdk import XCom

from airflow_provider_azbackup.core.settings import CLOUDS, Settings
from airflow_provider_azbackup.exceptions import AzureBackupConfigError
from airflow_provider_azbackup.get_provider_info import get_provider_info
from airflow_provider_azbackup.hooks import AzureBackupHook
from airflow_provider_azbackup.links import AzureBackupJobLink
from airflow_provider_azbackup.runtime.hosts import check_hosts
from airflow_provider_azbackup.runtime.portal import job_of, safe_link
from azure_backup_emulator import Emulator

OPTION = "AIRFLOW__AZURE_BACKUP__ALLOWED_HOSTS"
VAULT = (
    "/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/rg"
    "/providers/Microsoft.RecoveryServices/vaults/v"
)
JOB = f"{VAULT}/backupJobs/6a7b0b7e-1c3d-4e5f-8a9b-0c1d2e3f4a5b"


def read(**extra: str) -> Settings:
    return Settings.read("conn", login=None, password=None, extra=extra)


@pytest.fixture(autouse=True)
def _listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(OPTION, "Cloud.Example, login.example:8443,[::1]:8443")


@pytest.mark.parametrize("cloud", CLOUDS)
def test_the_hosts_of_known_clouds_need_no_option(cloud: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(OPTION)
    check_hosts(read(cloud_environment=cloud))
    known = CLOUDS[cloud]
    check_hosts(read(endpoint=known.endpoint, authority=known.authority, portal=known.portal))


@pytest.mark.parametrize(
    ("field", "url"),
    [
        ("endpoint", "https://cloud.example"),
        ("endpoint", "https://CLOUD.example/"),
        ("endpoint", "http://[::1]:8443"),
        ("authority", "https://login.example:8443"),
        ("portal", "cloud.example"),
    ],
)
def test_a_host_that_the_deployment_lists_is_used(field: str, url: str) -> None:
    check_hosts(read(**{field: url}))


@pytest.mark.parametrize("field", ["endpoint", "authority", "portal"])
@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "cloud.example:8443",
        "login.example",
        "sub.cloud.example",
        "management.azure.com.evil.example",
        "management.azure.com:8443",
        "management.azure.com.",
        "127.0.0.1",
        "169.254.169.254",
    ],
)
def test_any_other_host_is_refused_and_the_option_is_named(field: str, host: str) -> None:
    with pytest.raises(AzureBackupConfigError) as refused:
        check_hosts(read(**{field: f"https://{host}"}))
    assert f"the host of the {field} in connection 'conn'" in str(refused.value)
    assert repr(host) in str(refused.value)
    assert OPTION in str(refused.value)


def test_a_host_of_a_known_cloud_serves_only_what_it_is_known_for() -> None:
    with pytest.raises(AzureBackupConfigError, match=r"portal\.azure\.com"):
        check_hosts(read(authority="https://portal.azure.com"))


@pytest.mark.parametrize("entry", ["https://cloud.example", "*.example", "cloud.example/path", "me@host"])
def test_an_entry_that_is_no_host_is_named(entry: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(OPTION, f"cloud.example,{entry}")
    with pytest.raises(AzureBackupConfigError) as refused:
        check_hosts(read())
    assert f"{entry!r} is not a host" in str(refused.value)
    # Links to the portals of the known clouds stay what they are, and no other is shown.
    for portal, shown in (("portal.azure.com", True), ("cloud.example", False)):
        link = f"https://{portal}/#@t/resource{JOB}"
        assert safe_link(link) == (link if shown else "")


def test_the_option_is_declared_to_airflow() -> None:
    option = get_provider_info()["config"]["azure_backup"]["options"]["allowed_hosts"]
    assert (option["type"], option["default"], option["version_added"]) == ("string", "", "0.1.0")
    assert option["description"] and option["example"]


@pytest.mark.parametrize("field", ["endpoint", "authority"])
def test_the_connection_test_sends_nothing_to_a_host_that_is_not_listed(
    azure: Emulator, connect: Callable[..., None], monkeypatch: pytest.MonkeyPatch, field: str
) -> None:
    monkeypatch.delenv(OPTION)
    other = {"endpoint": "authority", "authority": "endpoint"}[field]
    connect(azure.connection(**{other: getattr(CLOUDS["AzurePublicCloud"], other)}))
    good, message = AzureBackupHook().test_connection()
    assert not good
    assert f"nothing is sent to {urlsplit(azure.url).netloc!r}, the host of the {field}" in message
    assert azure.requests == []


# Links


@pytest.mark.parametrize("portal", ["portal.azure.com", "portal.azure.us", "cloud.example"])
def test_a_link_of_ours_stays_what_it_is(portal: str) -> None:
    settings = read(portal=portal, tenant_id="11111111-1111-1111-1111-111111111111")
    for arm_id in (VAULT, JOB):
        assert safe_link(settings.portal_link(arm_id)) == settings.portal_link(arm_id)


def nested(depth: int) -> list[Any]:
    found: list[Any] = []
    for _ in range(depth):
        found = [found]
    return found


@pytest.mark.parametrize(
    "link",
    [
        f"javascript:alert(1)//portal.azure.com/#@t/resource{JOB}",
        f"http://portal.azure.com/#@t/resource{JOB}",
        f"https://portal.azure.com.evil.example/#@t/resource{JOB}",
        f"https://evil.example/#@t/resource{JOB}",
        f"https://portal.azure.com@evil.example/#@t/resource{JOB}",
        f"https://me:secret@portal.azure.com/#@t/resource{JOB}",
        f"https://[portal.azure.com/#@t/resource{JOB}",
        "https://portal.azure.com/#create/Microsoft.Template/uri/https%3A%2F%2Fevil.example",
        "https://portal.azure.com/#@t/resource/subscriptions/1",
        "",
        None,
        7,
        ["https://portal.azure.com"],
        nested(10_000),
    ],
)
def test_an_xcom_that_leads_elsewhere_is_no_link(link: object, monkeypatch: pytest.MonkeyPatch) -> None:
    assert safe_link(link) == ""
    assert isinstance(link, str) or job_of(link) is None
    monkeypatch.setattr(XCom, "get_value", lambda **_: link)
    key: Any = None
    assert AzureBackupJobLink().get_link(key, ti_key=key) == ""


def test_of_a_link_only_the_job_the_tenant_and_the_portal_are_kept() -> None:
    made = f"https://Portal.Azure.com/path?query#create/Microsoft.Template/uri/x#@tenant/resource{JOB}"
    assert safe_link(made) == f"https://portal.azure.com/#@tenant/resource{JOB}"
    evil = f"https://portal.azure.com/#@t/../create/x/resource{JOB}"
    assert safe_link(evil) == f"https://portal.azure.com/#@/resource{JOB}"


def test_a_tenant_of_the_connection_cannot_name_another_page_of_the_portal() -> None:
    tenant = "t/../#create/Microsoft.Template"
    settings = Settings.read("conn", login=None, password=None, extra={"tenant_id": tenant})
    assert settings.portal_link(VAULT).startswith(
        "https://portal.azure.com/#@t%2F..%2F%23create%2FMicrosoft."
    )

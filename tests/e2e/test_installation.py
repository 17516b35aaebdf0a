"""What Airflow's own commands say about the provider once it is installed."""

from __future__ import annotations

import pytest

from airflow_provider_azbackup import __version__
from dev.stack.stack import Stack, StackError
from tests.e2e.azure import Azure

pytestmark = pytest.mark.e2e


def test_airflow_lists_the_provider(airflow: Stack) -> None:
    listed = airflow.cli("providers", "list", "--output", "plain")
    (line,) = [line for line in listed.splitlines() if line.startswith("airflow-provider-azbackup ")]
    assert line.endswith(__version__)


def test_airflow_lists_the_connection_type_and_its_hook(airflow: Stack) -> None:
    listed = airflow.cli("providers", "hooks", "--output", "plain")
    (line,) = [line for line in listed.splitlines() if line.startswith("azure_backup ")]
    assert "airflow_provider_azbackup.hooks.AzureBackupHook" in line


def test_the_connection_test_says_yes_after_asking_azure(airflow: Stack, azure: Azure) -> None:
    before = len(azure.requests)
    assert "Connection success" in airflow.cli("connections", "test", "azure_backup_default")
    asked = [entry for entry in azure.requests[before:] if "/subscriptions/" in entry["path"]]
    assert [(entry["method"], entry["status"]) for entry in asked] == [("GET", 200)]


@pytest.mark.parametrize(
    ("conn_id", "reason"), [("no_rights", "Missing right"), ("wrong_secret", "AADSTS7000215")]
)
def test_the_connection_test_says_what_is_wrong(airflow: Stack, conn_id: str, reason: str) -> None:
    with pytest.raises(StackError, match=reason):
        airflow.cli("connections", "test", conn_id)

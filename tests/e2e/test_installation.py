"""What Airflow's own command says of a connection; tests/releases/test_wheel.py reads its lists."""

from __future__ import annotations

import pytest

from dev.stack.stack import Stack, StackError
from tests.e2e.azure import Azure

# The examples before these need the worker slots; what follows leaves them to runs that take long.
pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("begun")]


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

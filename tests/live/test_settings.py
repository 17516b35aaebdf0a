"""A variable of `make live` that cannot be used is named, with what was expected, before anything is sent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dev.live.settings import Settings, SettingsError

CONNECTION = {"login": "client", "password": "a secret", "extra": {"tenant_id": "tenant", "vault_name": "v"}}


@pytest.fixture
def connection(tmp_path: Path) -> str:
    path = tmp_path / "connection.json"
    path.write_text(json.dumps(CONNECTION))
    return str(path)


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        (
            {"LIVE_POLL_SECONDS": "often"},
            "LIVE_POLL_SECONDS is 'often'; expected a number above 0, such as 60",
        ),
        ({"LIVE_HOURS": "0"}, "LIVE_HOURS is '0'; expected a number above 0, such as 24"),
        ({"LIVE_RESTORE": "documents"}, "LIVE_RESTORE_FILES or LIVE_RESTORE_FOLDER is empty"),
        ({"LIVE_CONNECTION": ""}, "LIVE_CONNECTION is empty; expected a file"),
        ({"LIVE_CONNECTION": "/nowhere"}, "LIVE_CONNECTION '/nowhere' cannot be read"),
    ],
)
def test_what_cannot_be_used_is_named(variables: dict[str, str], said: str, connection: str) -> None:
    with pytest.raises(SettingsError, match=said):
        Settings.read({"LIVE_CONNECTION": connection, **variables})


def test_nothing_is_changed_unless_an_action_names_its_item(connection: str) -> None:
    found = Settings.read({"LIVE_CONNECTION": connection})
    assert (found.back_up, found.cancel, found.restore) == ("", "", "")


def test_the_secrets_of_a_connection_are_known(connection: str) -> None:
    assert {"client", "a secret", "tenant"} <= {*Settings.read({"LIVE_CONNECTION": connection}).secrets}

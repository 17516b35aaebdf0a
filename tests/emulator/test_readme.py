"""The emulator's own README: what it shows runs, and what it lists is there."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

import azure_backup_emulator
from azure_backup_emulator import Emulator
from azure_backup_emulator import __main__ as command
from azure_backup_emulator.seed import DEFAULT, Seed, read

README = (Path(azure_backup_emulator.__file__).parents[1] / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def block(language: str, part: str) -> str:
    (found,) = [code for kind, code in BLOCKS if kind == language and part in code]
    return found


@pytest.fixture
def connected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, azure: Emulator) -> Path:
    """A directory in which the emulator that runs has left its connection, as the command does."""
    (tmp_path / "azure").mkdir()
    (tmp_path / "azure/connection.json").write_text(json.dumps(azure.connection()))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("connected")
def test_the_python_client_lists_items_as_shown(capsys: pytest.CaptureFixture[str]) -> None:
    space: dict[str, Any] = {}
    exec(compile(block("python", "azure.mgmt"), "README.md", "exec"), space)
    space["client"].close()
    space["credential"].close()
    assert "vm-good Healthy" in capsys.readouterr().out.splitlines()


def test_the_emulator_works_in_a_test_as_shown(capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(block("python", "import Emulator"), "README.md", "exec"), {})
    assert capsys.readouterr().out.startswith("https://localhost:")


def test_every_option_is_in_the_table_and_every_option_of_the_table_exists(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["azure-backup-emulator", "--help"])
    with pytest.raises(SystemExit):
        command.main()
    exist = {*re.findall(r"--[a-z-]+", capsys.readouterr().out)} - {"--help"}
    assert {*re.findall(r"^\| `(--[a-z-]+)`", README, re.MULTILINE)} == exist
    assert {word for word in shlex.split(block("shell", "--speed")) if word.startswith("--")} <= exist


def test_every_vault_item_and_principal_is_listed() -> None:
    tables = "\n".join(line for line in README.splitlines() if line.startswith("|"))
    listed = {*re.findall(r"`([\w-]+)`", tables)}
    for names in ("vaults", "items", "backup_vaults", "backup_instances"):
        seeded = {each["name"] for each in DEFAULT[names]}
        assert {name for name in seeded - listed if not name.startswith("fleet-")} == set()
    assert all(f"| `{name}` |" in tables for name in DEFAULT["principals"])
    assert sum(item["name"].startswith("fleet-") for item in DEFAULT["items"]) == 20


def test_the_seed_that_is_shown_is_one_and_every_key_is_named() -> None:
    read(json.loads(block("json", "vaults")))
    assert all(f"`{key}`" in README for key in Seed.__annotations__)

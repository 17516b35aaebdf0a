"""The README is one page, and what it shows works."""

from __future__ import annotations

import re
import shlex
from typing import Any

import pytest

from airflow_provider_azbackup.operators import AzureBackupOperator
from azure_backup_emulator import Emulator
from tests.support.pages import ROOT, blocks_of, links_of
from tests.support.tasks import TaskInstance, run

README = (ROOT / "README.md").read_text()
BLOCKS = blocks_of(README)
SHELL = [code for language, _, code in BLOCKS if language == "shell"]


def test_it_has_at_most_600_words() -> None:
    assert len(README.split()) <= 600


def test_every_block_is_tested_here() -> None:
    assert {language for language, _, _ in BLOCKS} == {"python", "shell"}
    assert len([language for language, _, _ in BLOCKS if language == "python"]) == 1


def test_the_ten_lines_gate_a_task_on_a_backup(azure: Emulator) -> None:
    (code,) = [code for language, _, code in BLOCKS if language == "python"]
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    space: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), space)
    dag = space["backup"].dag
    assert dag.get_task("patch").upstream_task_ids == {"backup"}
    backup = dag.get_task("backup")
    assert isinstance(backup, AzureBackupOperator)
    assert backup.deferrable
    assert run(lambda: backup, TaskInstance())


@pytest.mark.parametrize("code", SHELL)
def test_every_command_exists(code: str) -> None:
    words = shlex.split(code)
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    else:
        project = re.search(r'^name = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
        assert project
        assert words == ["pip", "install", project[1]]


def test_both_commands_that_try_it_out_are_shown() -> None:
    assert {"make demo\n", "make test\n"} <= set(SHELL)


def test_every_link_leads_to_a_file() -> None:
    files = [link for link in links_of(README) if "://" not in link]
    assert len(files) > 10
    assert [link for link in files if not (ROOT / link).is_file()] == []

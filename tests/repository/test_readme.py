"""What the README shows works as it stands there."""

from __future__ import annotations

import inspect
import json
import re
import shlex
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_azbackup.core.settings import EXTRAS
from airflow_provider_azbackup.hooks import AzureBackupHook
from airflow_provider_azbackup.operators import (
    AzureBackupCancelJobOperator,
    AzureBackupOperator,
    AzureBackupRestoreOperator,
)
from airflow_provider_azbackup.sensors import AzureBackupFreshnessSensor, AzureBackupJobSensor
from azure_backup_emulator import Emulator
from tests.support.tasks import TaskInstance, run

try:
    from airflow.providers.standard.operators.empty import EmptyOperator
except ImportError:  # Airflow 2
    from airflow.operators.empty import EmptyOperator

STAGING = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/staging"
ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
PYTHON = [code for language, code in BLOCKS if language == "python"]
SHELL = [code for language, code in BLOCKS if language == "shell"]


def block(part: str) -> str:
    """The one Python block that holds this."""
    (found,) = [code for code in PYTHON if part in code]
    return found


def table_under(heading: str) -> list[list[str]]:
    """The cells of the first table under a heading, without its own heading."""
    section = README.partition(f"\n{heading}\n")[2]
    rows = re.search(r"(?:^\|.*\n)+", section, re.MULTILINE)
    assert rows, heading
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows[0].splitlines()[2:]]


def test_every_block_is_of_a_kind_that_is_tested_here() -> None:
    assert {language for language, _ in BLOCKS} == {"python", "shell"}
    assert len(PYTHON) == 8


def test_the_ten_lines_gate_a_task_on_a_backup(azure: Emulator) -> None:
    code = block("patch_payroll_vm")
    assert len(code.strip().splitlines()) <= 10
    space: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), space)
    dag = space["backup"].dag
    assert dag.get_task("patch").upstream_task_ids == {"backup"}
    backup = dag.get_task("backup")
    assert isinstance(backup, AzureBackupOperator)
    assert backup.deferrable
    backup.protected_item = "vm-good"
    assert run(lambda: backup, TaskInstance())


def test_the_sensor_takes_a_job_id_from_the_parameters() -> None:
    space: dict[str, Any] = {}
    exec(compile(block("import AzureBackupJobSensor"), "README.md", "exec"), space)
    assert isinstance(space["backed_up"], AzureBackupJobSensor)


def test_the_sensors_of_fresh_backups_are_made_as_shown() -> None:
    space: dict[str, Any] = {}
    exec(compile(block("AzureBackupFreshnessSensor"), "README.md", "exec"), space)
    assert space["tonight"].newer_than is None
    assert space["recent"].max_age == 26 * 3600


def test_the_restore_is_made_as_shown() -> None:
    space: dict[str, Any] = {"STAGING": STAGING}
    exec(compile(block("AzureBackupRestoreOperator"), "README.md", "exec"), space)
    assert isinstance(space["drill"], AzureBackupRestoreOperator)


def test_risky_tasks_are_guarded_as_shown() -> None:
    space: dict[str, Any] = {"STAGING": STAGING}
    with DAG("guarded", schedule=None) as dag:
        space |= {name: lambda name=name: EmptyOperator(task_id=name) for name in ("patch", "check")}
        exec(compile(block("import backed_up"), "README.md", "exec"), space)
    assert dag.get_task("backed_up.patch").upstream_task_ids == {"backed_up.backup"}
    restore = dag.get_task("backed_up.restore")
    assert restore.is_teardown
    assert restore.upstream_task_ids == {"backed_up.backup", "backed_up.check"}


def test_the_retry_policy_is_taken_by_a_task_as_shown() -> None:
    reason = "retry policies came with Airflow 3.3"
    pytest.importorskip("airflow_provider_azbackup.retries", reason=reason, exc_type=ImportError)
    space: dict[str, Any] = {}
    exec(compile(block("AZURE_BACKUP_RETRIES"), "README.md", "exec"), space)
    assert space["backup"].retry_policy is space["AZURE_BACKUP_RETRIES"]


def test_the_hook_does_what_is_shown(azure: Emulator) -> None:
    space: dict[str, Any] = {}
    exec(compile(block("AzureBackupHook").replace("payroll-vm", "vm-good"), "README.md", "exec"), space)
    assert space["running"] == []
    assert azure.count("POST", "/backup") == 1


def test_the_emulator_works_in_a_test_as_shown() -> None:
    space: dict[str, Any] = {}
    exec(compile(block("import Emulator"), "README.md", "exec"), space)
    assert space["connection"]["conn_type"] == "azure_backup"


@pytest.mark.parametrize("code", SHELL)
def test_every_command_exists(code: str) -> None:
    words = shlex.split(code)
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    elif words[:2] == ["python", "-m"]:
        assert find_spec(words[2])
    elif words[0] == "pip":
        assert words[1:] == ["install", "."]
    else:
        name, _, value = words[1].partition("=")
        assert (words[0], name) == ("export", "AIRFLOW_CONN_AZURE_BACKUP_DEFAULT")
        assert set(json.loads(value)["extra"]) <= set(EXTRAS)


def test_the_emulator_takes_the_options_that_are_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from azure_backup_emulator import __main__ as command

    (code,) = [code for code in SHELL if "emulator" in code]
    options = [word for word in shlex.split(code) if word.startswith("--")]
    monkeypatch.setattr(sys, "argv", ["emulator", "--help"])
    with pytest.raises(SystemExit):
        command.main()
    shown = capsys.readouterr().out
    assert options
    assert all(option in shown for option in options)


@pytest.mark.parametrize(
    ("heading", "kind"),
    [
        ("## `AzureBackupOperator`", AzureBackupOperator),
        ("## `AzureBackupRestoreOperator`", AzureBackupRestoreOperator),
        ("## `AzureBackupFreshnessSensor`", AzureBackupFreshnessSensor),
        ("## `AzureBackupJobSensor`", AzureBackupJobSensor),
        ("## `AzureBackupCancelJobOperator`", AzureBackupCancelJobOperator),
    ],
)
def test_every_parameter_is_explained(heading: str, kind: Callable[..., Any]) -> None:
    named = {name for row in table_under(heading) for name in re.findall(r"`(\w+)`", row[0])}
    takes = {
        name
        for name, parameter in inspect.signature(kind.__init__).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and not name.startswith("_")
    }
    assert takes - {"kwargs"} <= named


def test_every_field_of_the_connection_is_explained() -> None:
    named = {name for row in table_under("## The connection") for name in re.findall(r"`(\w+)`", row[0])}
    assert named == set(EXTRAS)


def test_every_method_of_the_hook_is_explained() -> None:
    named = {name for row in table_under("## The hook") for name in re.findall(r"`(\w+)\(", row[0])}
    assert all(hasattr(AzureBackupHook, name) for name in named)
    own = {
        name
        for name, value in vars(AzureBackupHook).items()
        if callable(value) and not name.startswith("_") and name != "close"
    }
    assert own <= named

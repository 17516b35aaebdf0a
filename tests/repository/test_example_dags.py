"""Every example is a Dag file that Airflow can read, says what it shows, and has the tasks it is about."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_azbackup.exceptions import AzureBackupJobFailedError
from airflow_provider_azbackup.operators import AzureBackupOperator
from azure_backup_emulator import Emulator
from dev.demo.demo import EXPECTED
from tests.support.tasks import TaskInstance, run

EXAMPLES = Path(__file__).parents[2] / "example_dags"


@pytest.fixture(scope="module")
def bag() -> Any:
    try:
        from airflow.dag_processing.dagbag import DagBag
    except ImportError:  # Airflow below 3.2
        from airflow.models.dagbag import DagBag
    return DagBag(dag_folder=EXAMPLES)


def test_airflow_reads_every_example_without_an_error(bag: Any) -> None:
    assert bag.import_errors == {}
    assert len(bag.dags) == len([*EXAMPLES.glob("*.py")])


def test_no_example_is_left_out_of_the_demo(bag: Any) -> None:
    assert set(bag.dags) == set(EXPECTED)


@pytest.mark.parametrize("dag_id", EXPECTED)
def test_an_example_has_the_tasks_that_are_expected_of_it(bag: Any, dag_id: str) -> None:
    expected = {name.partition("[")[0] for name in EXPECTED[dag_id]}
    assert set(bag.dags[dag_id].task_ids) == expected


@pytest.mark.parametrize("dag_id", EXPECTED)
def test_an_example_explains_itself_on_its_page_in_the_ui(bag: Any, dag_id: str) -> None:
    assert len(bag.dags[dag_id].doc_md.split()) > 20


@pytest.mark.parametrize("dag_id", EXPECTED)
def test_an_example_starts_nothing_by_itself(bag: Any, dag_id: str) -> None:
    timetable = bag.dags[dag_id].timetable
    # What is started by an asset is started by what happens.
    assert timetable.can_be_scheduled is False or hasattr(timetable, "asset_condition")


@pytest.mark.parametrize("way", ["log", "mail"])
def test_the_notifier_of_a_failed_backup_says_what_azure_said(
    way: str, azure: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each way is another provider's class; what it is to say is rendered as Airflow would."""
    if way == "mail":
        pytest.importorskip("airflow.providers.smtp.notifications.smtp")
    monkeypatch.setenv("AZBACKUP_NOTIFY_BY", way)
    module = runpy.run_path(str(EXAMPLES / "backup_fails.py"))
    notifier = module["notifier"]()
    azure.plan("vm-fails", seconds=60, ending="Failed")
    task = AzureBackupOperator(task_id="backup", protected_item="vm-fails")
    with pytest.raises(AzureBackupJobFailedError) as failed:
        run(lambda: task, TaskInstance())
    # Airflow 2.11 and 3.0 look for the Dag, and do without one.
    notifier.render_template_fields({"exception": failed.value, "dag": None})
    told = f"{getattr(notifier, 'subject', '')} {getattr(notifier, 'text', '') or notifier.html_content}"
    assert "No backup of vm-fails" in told
    assert failed.value.code and f"Error: {failed.value.code}" in told

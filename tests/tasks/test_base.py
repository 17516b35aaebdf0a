"""Arguments that operators and sensors inherit can be given in each of Airflow's ways."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_azbackup.operators import (
    AzureBackupCancelJobOperator,
    AzureBackupListProtectedItemsOperator,
    AzureBackupOperator,
    AzureBackupRestoreOperator,
)
from airflow_provider_azbackup.restore_to import original_database
from airflow_provider_azbackup.sensors import AzureBackupFreshnessSensor, AzureBackupJobSensor
from airflow_provider_azbackup.tasks.base import AzureBackupBaseOperator

GUID = "5f0c5b7e-6f0a-4b8e-9c57-0d5a3c1f2e4d"
DEFAULTS = {"vault_name": "spare", "azure_backup_conn_id": "other", "deferrable": True, "timeout": 1234.0}
# For each class a way to make it, and which of the defaults it does not have.
MAKE: dict[str, tuple[Callable[[], Any], set[str]]] = {
    "backup": (lambda: AzureBackupOperator(task_id="t", protected_item="vm-good"), set()),
    "restore": (
        lambda: AzureBackupRestoreOperator(
            task_id="t", protected_item="orders", restore_to=original_database()
        ),
        set(),
    ),
    "cancel": (lambda: AzureBackupCancelJobOperator(task_id="t", job_id=GUID), set()),
    "list": (lambda: AzureBackupListProtectedItemsOperator(task_id="t"), {"deferrable", "timeout"}),
    "job sensor": (lambda: AzureBackupJobSensor(task_id="t", job_id=GUID), set()),
    "freshness sensor": (lambda: AzureBackupFreshnessSensor(task_id="t", protected_item="vm-good"), set()),
}


@pytest.fixture
def dag() -> Iterator[DAG]:
    with DAG(
        "nightly", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC), default_args=DEFAULTS
    ) as dag:
        yield dag


@pytest.mark.parametrize(("make", "without"), MAKE.values(), ids=MAKE)
def test_default_args_of_the_dag_reach_inherited_arguments(
    dag: DAG, make: Callable[[], Any], without: set[str]
) -> None:
    task = make()
    for name in set(DEFAULTS) - without:
        assert getattr(task, name) == DEFAULTS[name]
    assert {"vault_name", "azure_backup_conn_id"} <= set(AzureBackupBaseOperator.template_fields)
    assert set(AzureBackupBaseOperator.template_fields) <= set(task.template_fields)


class Ticketed(AzureBackupOperator):
    """What a user may write: Airflow's usual way to add a template field."""

    template_fields = (*AzureBackupOperator.template_fields, "ticket")

    def __init__(self, *, ticket: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.ticket = ticket


def test_a_subclass_may_add_a_template_field_of_its_own() -> None:
    task = Ticketed(task_id="t", protected_item="vm-good", ticket="{{ params.ticket }}")
    assert "ticket" in task.template_fields


@pytest.mark.usefixtures("dag")
def test_inherited_arguments_can_be_mapped_and_given_to_all_mapped_tasks() -> None:
    over_items = AzureBackupOperator.partial(task_id="items", vault_name="v", min_tier="InstantRP")
    over_vaults = AzureBackupOperator.partial(task_id="vaults", protected_item="vm-good")
    assert over_items.expand(protected_item=["vm-good", "documents"]).partial_kwargs["vault_name"] == "v"
    assert over_vaults.expand(vault_name=["spare", "demo-vault"]).task_id == "vaults"


MISSPELT: dict[str, Callable[[], Any]] = {
    "made": lambda: AzureBackupOperator(task_id="t", protected_item="vm-good", vaultname="v"),
    "of another class": lambda: AzureBackupRestoreOperator(
        task_id="t", protected_item="orders", restore_to=original_database(), min_tier="InstantRP"
    ),
    "of operators": lambda: AzureBackupJobSensor(task_id="t", job_id=GUID, poll_interval=60),
    "partial": lambda: AzureBackupOperator.partial(task_id="t", vaultname="v").expand(protected_item=["x"]),
    "left out": lambda: AzureBackupJobSensor(task_id="t"),  # type: ignore[call-arg]  # what is tested
}


@pytest.mark.usefixtures("dag")
@pytest.mark.parametrize("make", MISSPELT.values(), ids=MISSPELT)
def test_an_argument_that_the_class_does_not_have_is_refused(make: Callable[[], Any]) -> None:
    # Airflow 2 raises an AirflowException.
    with pytest.raises(Exception, match=r"Invalid arguments|unexpected keyword argument|missing keyword"):
        make()

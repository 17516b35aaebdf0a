"""Reading the connection has the patience of the deadline, like every other fault of a wait."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest
from airflow.providers.common.compat.sdk import AirflowNotFoundException
from airflow.secrets import BaseSecretsBackend

from airflow_provider_azbackup.exceptions import AzureBackupConfigError, AzureBackupTimeoutError
from airflow_provider_azbackup.hooks import AzureBackupHook
from airflow_provider_azbackup.operators import AzureBackupOperator
from airflow_provider_azbackup.sensors import AzureBackupFreshnessSensor, AzureBackupJobSensor
from azure_backup_emulator import Emulator
from tests.support.secrets_backends import forget_secrets_backends
from tests.support.tasks import TaskInstance, run

HOUR = 3600.0
CONN_ID = "kept_elsewhere"


class Backend(BaseSecretsBackend):
    """A secrets backend that is out of order until a moment."""

    clock: ClassVar[Callable[[], float]]
    connection: ClassVar[dict[str, Any]]
    back_at: ClassVar[float]

    def get_conn_value(self, conn_id: str, **_: Any) -> str | None:
        if type(self).clock() < self.back_at:
            raise ConnectionError("the vault of secrets does not answer")
        return json.dumps(self.connection) if conn_id == CONN_ID else None


@pytest.fixture
def away(azure: Emulator, clock: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[float], None]]:
    """Keep the connection in a secrets backend only, and let that be away for some seconds from now on."""
    monkeypatch.setenv("AIRFLOW__SECRETS__BACKEND", f"{__name__}.Backend")
    forget_secrets_backends(monkeypatch)
    monkeypatch.setattr(Backend, "clock", staticmethod(clock), raising=False)
    monkeypatch.setattr(Backend, "connection", azure.connection(), raising=False)
    monkeypatch.setattr(Backend, "back_at", 0.0, raising=False)

    def away(seconds: float) -> None:
        monkeypatch.setattr(Backend, "back_at", clock() + seconds)

    yield away


def between(make: Callable[[], Any], happens: Callable[[], Any]) -> Callable[[], Any]:
    """Have something happen when the task leaves the worker for the triggerer."""

    def make_leaving() -> Any:
        task = make()
        defer = task.defer

        def leave(**options: Any) -> Any:
            happens()
            return defer(**options)

        task.defer = leave
        return task

    return make_leaving


def backup(**options: Any) -> AzureBackupOperator:
    return AzureBackupOperator(
        task_id="backup",
        protected_item="vm-good",
        azure_backup_conn_id=CONN_ID,
        timeout=6 * HOUR,
        **{"deferrable": True, **options},
    )


@pytest.mark.parametrize("seconds", [120, 2 * HOUR], ids=["two minutes", "two hours"])
def test_a_wait_outlasts_a_secrets_backend_that_is_away_while_the_triggerer_starts(
    azure: Emulator, away: Callable[[float], None], seconds: float
) -> None:
    ti = TaskInstance()
    assert run(between(backup, lambda: away(seconds)), ti) == ti.xcoms["job_id"]
    assert azure.count("POST", "/backup", 202) == 1


def test_a_wait_whose_connection_cannot_be_read_ends_at_its_deadline(
    azure: Emulator, away: Callable[[float], None], clock: Any
) -> None:
    began = clock()
    with pytest.raises(AzureBackupTimeoutError, match=f"connection '{CONN_ID}' is not visible"):
        run(between(backup, lambda: away(6 * HOUR)), TaskInstance())
    assert 6 * HOUR <= clock() - began <= 6 * HOUR + 400


@pytest.mark.parametrize(
    "make",
    [
        lambda job_id: backup(deferrable=False),
        lambda job_id: AzureBackupJobSensor(
            task_id="wait", job_id=job_id, azure_backup_conn_id=CONN_ID, deferrable=False
        ),
        lambda job_id: AzureBackupFreshnessSensor(
            task_id="wait", protected_item="vm-good", max_age=HOUR, azure_backup_conn_id=CONN_ID
        ),
    ],
    ids=["operator", "job sensor", "freshness sensor"],
)
def test_a_task_in_the_worker_outlasts_two_minutes_without_the_secrets_backend(
    azure: Emulator, away: Callable[[float], None], clock: Any, make: Callable[[str], Any]
) -> None:
    job_id = azure.start_job("vm-good", seconds=60)
    clock.advance(60)
    away(120)
    make(job_id).execute(TaskInstance().context)
    assert clock() >= Backend.back_at


def test_a_connection_that_exists_on_workers_only_is_called_invisible_to_the_triggerer(
    azure: Emulator, connect: Callable[..., None], clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(azure.connection(), CONN_ID)
    left = f"AIRFLOW_CONN_{CONN_ID.upper()}"
    began = clock()
    with pytest.raises(AzureBackupConfigError) as error:
        run(between(backup, lambda: monkeypatch.delenv(left)), TaskInstance())
    text = str(error.value)
    assert "is not visible to the triggerer" in text
    assert f"set {left} for the triggerer" in text
    assert "Airflow's database" in text
    assert clock() - began <= 120


def test_a_connection_that_a_worker_does_not_find_is_missed_at_once(azure: Emulator, clock: Any) -> None:
    with (
        AzureBackupHook("nowhere") as hook,
        pytest.raises(AirflowNotFoundException, match=re.escape("nowhere")),
    ):
        hook.list_jobs()
    assert clock.waits == []


def test_the_test_button_does_not_wait_for_a_secrets_backend(
    azure: Emulator, away: Callable[[float], None], clock: Any
) -> None:
    away(120)
    with pytest.raises(AirflowNotFoundException):
        AzureBackupHook(CONN_ID).test_connection()
    assert clock.waits == []

"""The retry policy decides about every error of ours as documented, also when read back from the database."""

from __future__ import annotations

import builtins
import importlib
import json
import sys
from datetime import timedelta
from typing import Any

import pytest

from airflow_provider_azbackup import exceptions as errors
from airflow_provider_azbackup.drill import _NotProvenError
from airflow_provider_azbackup.operators import _NotApprovedError
from airflow_provider_azbackup.tasks.sensor import _GateShutError

sdk = pytest.importorskip("airflow.sdk")
if not hasattr(sdk, "ExceptionRetryPolicy"):
    pytest.skip("retry policies came with Airflow 3.3", allow_module_level=True)

from airflow.sdk import ExceptionRetryPolicy, RetryAction  # noqa: E402  # after the skip above

from airflow_provider_azbackup.retries import AZURE_BACKUP_RETRIES  # noqa: E402  # likewise

MINUTES = {
    errors.AzureBackupBusyError: 10,
    errors.AzureBackupLimitError: 120,
    errors.AzureBackupDailyLimitError: 24 * 60,
    errors.AzureBackupTransientError: 5,
    errors.AzureBackupUnconfirmedStartError: 5,
    errors.AzureBackupTimeoutError: 15,
}
FAIL_AT_ONCE = {
    errors.AzureBackupConfigError,
    errors.AzureBackupAuthError,
    errors.AzureBackupNotFoundError,
    errors.AzureBackupRefusedError,
}
# A failed backup is the author's to decide about; the base class is what nobody foresaw.
AS_THE_TASK_SAYS = {
    errors.AzureBackupRecoveryPointError,
    errors.AzureBackupError,
    errors.AzureBackupGateShutError,
    errors.AzureBackupJobFailedError,
    errors.AzureBackupNotApprovedError,
    errors.AzureBackupNotProvenError,
    errors.AzureBackupWrongJobError,
}
# Airflow asks no policy about an AirflowFailException.
NEVER_ASKED = {_GateShutError, _NotApprovedError, _NotProvenError}


def all_errors(kind: type[errors.AzureBackupError] = errors.AzureBackupError) -> set[type[Exception]]:
    below = (all_errors(each) for each in kind.__subclasses__())
    return {kind}.union(*below)


@pytest.fixture(params=["as written", "as read from the database"])
def policy(request: pytest.FixtureRequest) -> ExceptionRetryPolicy:
    if request.param == "as written":
        return AZURE_BACKUP_RETRIES
    return ExceptionRetryPolicy.deserialize(json.loads(json.dumps(AZURE_BACKUP_RETRIES.serialize())))


def decide(policy: ExceptionRetryPolicy, error: BaseException) -> tuple[RetryAction, timedelta | None]:
    found = policy.evaluate(error, 1, 3)
    return found.action, found.retry_delay


def test_there_is_a_decision_about_every_error() -> None:
    ours = {kind for kind in all_errors() if kind.__module__.startswith("airflow_provider_azbackup.")}
    assert ours == {*MINUTES, *FAIL_AT_ONCE, *AS_THE_TASK_SAYS, *NEVER_ASKED}


@pytest.mark.parametrize(("kind", "minutes"), MINUTES.items())
def test_what_passes_is_tried_again_after_minutes(
    policy: ExceptionRetryPolicy, kind: type[Exception], minutes: int
) -> None:
    assert decide(policy, kind("later")) == (RetryAction.RETRY, timedelta(minutes=minutes))


@pytest.mark.parametrize("kind", sorted(FAIL_AT_ONCE, key=str))
def test_what_a_retry_cannot_cure_fails_at_once(policy: ExceptionRetryPolicy, kind: type[Exception]) -> None:
    assert decide(policy, kind("no")) == (RetryAction.FAIL, None)


@pytest.mark.parametrize("kind", [*sorted(AS_THE_TASK_SAYS, key=str), RuntimeError, KeyboardInterrupt])
def test_all_else_is_for_the_task_to_say(policy: ExceptionRetryPolicy, kind: type[BaseException]) -> None:
    assert decide(policy, kind("?")) == (RetryAction.DEFAULT, None)


def test_a_busy_item_is_no_refusal_although_it_is_a_kind_of_one(policy: ExceptionRetryPolicy) -> None:
    assert issubclass(errors.AzureBackupBusyError, errors.AzureBackupRefusedError)
    assert decide(policy, errors.AzureBackupBusyError("busy"))[0] is RetryAction.RETRY


@pytest.mark.parametrize("kind", [*MINUTES, *sorted(FAIL_AT_ONCE, key=str)])
def test_every_decision_says_which_error_and_why(policy: ExceptionRetryPolicy, kind: type[Exception]) -> None:
    reason = policy.evaluate(kind("x"), 1, 3).reason
    assert reason and reason.startswith(f"{kind.__name__}: ")


def test_a_shut_gate_is_nothing_a_policy_is_asked_about() -> None:
    from airflow.providers.common.compat.sdk import AirflowFailException

    assert issubclass(_GateShutError, errors.AzureBackupGateShutError)
    assert issubclass(_GateShutError, AirflowFailException)


def test_a_dag_with_the_policy_goes_into_the_database_and_out_again() -> None:
    from airflow.sdk import DAG
    from airflow.serialization.serialized_objects import DagSerialization

    from airflow_provider_azbackup.operators import AzureBackupOperator

    with DAG("nightly", schedule=None) as dag:
        AzureBackupOperator(
            task_id="backup", protected_item="vm", retries=3, retry_policy=AZURE_BACKUP_RETRIES
        )
    row = json.loads(json.dumps(DagSerialization.to_dict(dag)))
    assert DagSerialization.from_dict(row).get_task("backup").has_retry_policy


def test_before_airflow_3_3_the_import_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def before_3_3(
        name: str, globals_: Any = None, locals_: Any = None, names: Any = (), level: int = 0
    ) -> Any:
        if name == "airflow.sdk" and "ExceptionRetryPolicy" in (names or ()):
            raise ImportError("cannot import name 'ExceptionRetryPolicy' from 'airflow.sdk'")
        return real(name, globals_, locals_, names, level)

    monkeypatch.setattr(builtins, "__import__", before_3_3)
    monkeypatch.delitem(sys.modules, "airflow_provider_azbackup.retries")
    with pytest.raises(
        ImportError, match=r"needs Airflow 3\.3 or later.*set retries and retry_delay"
    ) as told:
        importlib.import_module("airflow_provider_azbackup.retries")
    assert told.value.__cause__ is None

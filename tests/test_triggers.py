"""The trigger survives what passes, gives up on what lasts, and opens nothing by itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from airflow_provider_azbackup.triggers import AzureBackupJobTrigger
from azure_backup_emulator import Emulator
from tests.support.tasks import fire

PATH = "airflow_provider_azbackup.triggers.AzureBackupJobTrigger"
JOBS = "/backupJobs/"
FAULTS: dict[str, dict[str, Any]] = {
    "408": {"status": 408},
    "429": {"status": 429},
    "429 with Retry-After": {"status": 429, "retry_after": 20},
    "429 with a long Retry-After": {"status": 429, "retry_after": 324},
    "500": {"status": 500},
    "502": {"status": 502},
    "503": {"status": 503},
    "504": {"status": 504},
    "a reset": {"reset": True},
    "a truncated body": {"truncate": True},
    "an HTML page": {"html": True, "status": 200},
    "an empty body": {"empty": True},
    "a body that is no JSON": {"garbage": "\x00\xff not json"},
    "JSON of another kind": {"garbage": "[1, 2, 3]"},
    "a job without a status": {"garbage": '{"properties": {}}'},
    "another job": {"garbage": '{"name": "another", "properties": {"status": "Completed"}}'},
    "an expired token": {"expire_token": True, "times": 2},
    "a claims challenge": {"claims": True},
}


@pytest.fixture
def arguments(azure: Emulator, clock: Any) -> dict[str, Any]:
    """Of a trigger that waits an hour for a VM backup of ten minutes."""
    job_id = azure.start_job("vm-good", seconds=600)
    vault = azure.service.world.vaults[0].path
    return {
        "job_id": f"{vault}/backupJobs/{job_id}",
        "azure_backup_conn_id": "azure_backup_default",
        "poll_interval": 60.0,
        "first_pause": 60.0,
        "deadline": clock() + 3600.0,
        "since": clock(),
        "cancel_on_kill": False,
        "wait_until": "completion",
        "waiting_for": "",
        "expected_by": None,
        "when_late": "warn",
        "secondary_region": "",
        "primary_region": "",
        "version": 3,
    }


@pytest.fixture
def outcome(arguments: dict[str, Any]) -> Callable[..., Any]:
    """Run the trigger to its event."""
    return lambda **changes: asyncio.run(fire(PATH, {**arguments, **changes}))


def test_serialize_rebuilds_an_equal_trigger_from_plain_json(arguments: dict[str, Any]) -> None:
    path, stored = AzureBackupJobTrigger(**arguments).serialize()
    assert (path, json.loads(json.dumps(stored))) == (PATH, arguments)


def test_the_arguments_hold_no_secret(azure: Emulator, arguments: dict[str, Any]) -> None:
    stored = json.dumps(AzureBackupJobTrigger(**arguments).serialize())
    assert azure.connection()["password"] not in stored
    assert "ey" + "J" not in stored  # how every token begins


def test_the_first_look_comes_after_the_first_pause(
    azure: Emulator, clock: Any, outcome: Callable[..., Any]
) -> None:
    began = clock()
    outcome()
    first = next(entry["at"] for entry in azure.requests if JOBS in entry["path"])
    assert 60 <= first - began <= 1.15 * 60


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_a_wait_survives(azure: Emulator, outcome: Callable[..., Any], fault: dict[str, Any]) -> None:
    azure.fault(**{"path": JOBS, "times": 6, "after": 1, **fault})
    assert outcome()["job"]["body"]["properties"]["status"] == "Completed"


def test_a_wait_survives_an_outage_of_half_an_hour(
    azure: Emulator, clock: Any, outcome: Callable[..., Any]
) -> None:
    azure.fault(path=JOBS, times=30, reset=True)
    began = clock()
    assert outcome()["job"]["body"]["properties"]["status"] == "Completed"
    assert clock() - began > 300


def test_the_next_look_is_not_before_the_time_azure_asked_for(
    azure: Emulator, outcome: Callable[..., Any]
) -> None:
    azure.fault(path=JOBS, status=429, retry_after=324, times=3, after=2)
    outcome()
    at = [(entry["at"], entry["status"]) for entry in azure.requests if JOBS in entry["path"]]
    after_throttle = [later - now for (now, status), (later, _) in pairwise(at) if status == 429]
    assert len(after_throttle) == 3
    assert min(after_throttle) >= 324


@pytest.mark.parametrize(
    ("fault", "kind", "reason"),
    [
        ({"status": 403, "code": "AuthorizationFailed"}, "AzureBackupAuthError", "AuthorizationFailed"),
        ({"status": 401, "code": "InvalidAuthenticationToken"}, "AzureBackupAuthError", "InvalidAuth"),
        ({"status": 404, "code": "ResourceNotFound"}, "AzureBackupNotFoundError", "ResourceNotFound"),
    ],
)
def test_a_refusal_that_lasts_ends_the_wait_within_a_minute(
    azure: Emulator, clock: Any, outcome: Callable[..., Any], fault: dict[str, Any], kind: str, reason: str
) -> None:
    azure.fault(path=JOBS, times=None, after=2, **fault)
    event = outcome()
    assert (event["job"], event["error"]["type"]) == (None, kind)
    assert reason in event["error"]["message"]
    refused = [entry["at"] for entry in azure.requests if entry["status"] == fault["status"]]
    assert clock() - refused[0] <= 60
    assert len(refused) <= 6


def test_a_single_refusal_does_not_end_the_wait(azure: Emulator, outcome: Callable[..., Any]) -> None:
    azure.fault(path=JOBS, status=403, after=2)
    assert outcome()["error"] is None


def test_a_job_may_be_unknown_in_its_first_minute(azure: Emulator, outcome: Callable[..., Any]) -> None:
    azure.fault(path=JOBS, status=404, times=3)
    assert outcome(poll_interval=15.0, first_pause=15.0)["error"] is None


def test_any_other_refusal_ends_the_wait_at_once(azure: Emulator, outcome: Callable[..., Any]) -> None:
    azure.fault(path=JOBS, status=400, code="BMSUserErrorInvalidInput", times=None)
    assert outcome()["error"]["code"] == "BMSUserErrorInvalidInput"
    assert azure.count(path_contains=JOBS) == 1


def test_the_deadline_is_absolute_and_says_what_the_job_was_doing(
    clock: Any, arguments: dict[str, Any], outcome: Callable[..., Any]
) -> None:
    clock.advance(200)  # as if the triggerer had been down
    event = outcome(deadline=arguments["since"] + 400)
    assert event["error"]["type"] == "AzureBackupTimeoutError"
    assert "Transfer data to vault" in event["error"]["message"] or "Snapshot" in event["error"]["message"]
    assert event["error"]["job"]["outcome"] == "running"
    assert arguments["since"] + 400 <= clock() < arguments["since"] + 410


def test_an_unknown_status_word_is_logged_once(
    azure: Emulator, arguments: dict[str, Any], outcome: Callable[..., Any], capsys: Any
) -> None:
    azure.set_status(arguments["job_id"].rpartition("/")[2], "Hibernating")
    assert outcome()["error"]["type"] == "AzureBackupTimeoutError"
    assert capsys.readouterr().out.count("does not know") == 1


def test_an_uneventful_wait_fills_no_log(outcome: Callable[..., Any], capsys: Any) -> None:
    outcome(poll_interval=5.0)
    # The snapshot begins, the transfer begins, the job is over; the 120 looks between say nothing.
    assert capsys.readouterr().out.count("Azure Backup job") == 3


def test_a_missing_connection_is_told_in_the_event_within_a_minute(
    clock: Any, outcome: Callable[..., Any]
) -> None:
    began = clock()
    event = outcome(azure_backup_conn_id="no_such_connection")
    assert event["job"] is None
    assert "no_such_connection" in event["error"]["message"]
    assert clock() - began < 60


def test_a_connection_that_cannot_be_read_for_a_moment_is_asked_for_again(
    azure: Emulator, clock: Any, connect: Callable[..., None], outcome: Callable[..., Any]
) -> None:
    def back_after(seconds: float) -> None:
        advance(seconds)
        connect(azure.connection(), "late_connection")

    advance, clock.advance = clock.advance, back_after
    try:
        event = outcome(azure_backup_conn_id="late_connection")
    finally:
        del clock.advance
    assert event["error"] is None


def test_a_wrong_secret_is_told_without_the_secret(
    azure: Emulator, connect: Callable[..., None], clock: Any, outcome: Callable[..., Any]
) -> None:
    connect({**azure.connection(), "password": "a-very-wrong-secret"})
    began = clock()
    event = outcome()
    assert event["error"]["type"] == "AzureBackupAuthError"
    assert "AADSTS7000215" in event["error"]["message"]
    assert "a-very-wrong-secret" not in json.dumps(event)
    assert clock() - began <= 60 + 1.15 * 60


def test_an_outage_of_the_sign_in_service_is_waited_out(azure: Emulator, outcome: Callable[..., Any]) -> None:
    azure.fault(path="/oauth2/v2.0/token", status=503, times=3)
    assert outcome()["error"] is None


def test_no_request_for_a_backup_ever_comes_from_a_trigger(
    azure: Emulator, outcome: Callable[..., Any]
) -> None:
    outcome()
    assert azure.count("POST", "/subscriptions/") == 0


def test_inside_dag_test_the_first_look_comes_at_once(
    azure: Emulator, clock: Any, arguments: dict[str, Any], outcome: Callable[..., Any]
) -> None:
    supervisor = pytest.importorskip("airflow.sdk.execution_time.supervisor")
    if not hasattr(supervisor, "InProcessSupervisorComms"):
        pytest.skip("this Airflow runs triggers of dag.test() without a supervisor")
    clock.advance(700)  # the backup is over
    before = clock()
    with supervisor.set_supervisor_comms(supervisor.InProcessSupervisorComms(supervisor=None)):
        assert outcome(since=before)["job"] is not None
    assert clock() - before < 3
    again = clock()
    assert outcome(since=again)["job"] is not None
    assert clock() - again >= 60

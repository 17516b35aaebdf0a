"""A backup asked for while another of the item runs, and answers that are lost, late or dated otherwise."""

from __future__ import annotations

import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
import requests

from azure_backup_emulator import Emulator
from tests.emulator.conftest import VAULT, Client
from tests.support.clock import ManualClock

BODY = {"properties": {"objectType": "IaasVMBackupRequest"}}
RUNS = "UserErrorBackupOperationInProgress"


def _post(client: Client, item: str = "vm-good") -> Any:
    return client.post(f"{client.item(item)}/backup", BODY)


def _listed(client: Client, status: str = "InProgress") -> list[str]:
    found = client.get(f"{VAULT}/backupJobs", params={"$filter": f"status eq '{status}'"}).json()["value"]
    return [job["name"] for job in found]


def _refusal(client: Client, clock: ManualClock, busy: str) -> str | None:
    """Ask for a backup and return what it is refused with, wherever that is said."""
    reply = _post(client)
    if busy == "conflict":
        return str(reply.json()["error"]["code"]) if reply.status_code == 409 else None
    clock.advance(1.5)
    operation = reply.headers["Azure-AsyncOperation"].partition("?")[0].rpartition("/")[2]
    body = client.get(f"{VAULT}/backupOperations/{operation}").json()
    if busy == "operation":
        return str(body["error"]["code"]) if body["status"] == "Failed" else None
    job = client.job(body["properties"]["jobId"])
    return str(job["errorDetails"][0]["errorTitle"]) if job["status"] == "Failed" else None


@pytest.mark.parametrize("busy", ["conflict", "operation", "job"])
@pytest.mark.parametrize("stranger", [False, True])
def test_a_backup_is_refused_while_and_only_while_another_of_the_item_runs(
    azure: Emulator, client: Client, clock: ManualClock, busy: str, stranger: bool
) -> None:
    azure.plan("vm-good", busy=busy, seconds=600)
    azure.start_job("vm-elsewhere")
    azure.start_job("vm-good", operation="ConfigureBackup", seconds=9999)
    if stranger:
        first = azure.start_job("vm-good", seconds=600)
    else:
        assert _refusal(client, clock, busy) is None
        (first,) = [each for each in _listed(client) if client.job(each)["operation"] == "Backup"]
    assert [_refusal(client, clock, busy) for _ in range(2)] == [RUNS] * 2
    assert client.job(first)["status"] == "InProgress"
    clock.advance(600)
    assert client.job(first)["status"] == "Completed"
    assert _refusal(client, clock, busy) is None
    assert len(azure.service.world.running(azure.service.world.named("vm-good")[0], clock())) == 1


def test_a_backup_that_is_being_refused_refuses_no_other(
    azure: Emulator, client: Client, clock: ManualClock
) -> None:
    azure.plan("vm-good", busy="job")
    first = azure.start_job("vm-good", seconds=60)
    clock.advance(59.9)
    _post(client)
    clock.advance(0.2)
    assert client.job(first)["status"] == "Completed"
    assert _refusal(client, clock, "job") is None


def test_unless_planned_otherwise_a_second_request_starts_a_second_backup(
    client: Client, clock: ManualClock, started: Callable[..., str]
) -> None:
    both = {started("vm-good"), started("vm-good")}
    assert set(_listed(client)) == both
    clock.advance(5000)
    assert set(_listed(client, "Completed")) == both


@pytest.mark.parametrize("processed", [False, True])
@pytest.mark.parametrize("trouble", [{"status": 500}, {"status": 503}, {"status": 504}, {"reset": True}])
def test_the_answers_of_several_backup_requests_can_be_lost(
    azure: Emulator, client: Client, trouble: dict[str, Any], processed: bool
) -> None:
    azure.fault(method="POST", path=r"/backup\?", times=2, processed=processed, **trouble)
    for _ in range(2):
        if "reset" in trouble:
            with pytest.raises(requests.ConnectionError):
                _post(client)
        else:
            assert _post(client).status_code == trouble["status"]
    assert len(_listed(client)) == 2 * processed
    assert _post(client).status_code == 202
    assert azure.count("POST", "/backup") == 3


@pytest.mark.parametrize("processed", [False, True])
def test_a_client_that_does_not_await_the_answer_was_heard_or_not(
    azure: Emulator, client: Client, processed: bool
) -> None:
    azure.fault(method="POST", path=r"/backup\?", latency=30, processed=processed)
    headers = {"Authorization": f"Bearer {client.token()}"}
    address = f"{azure.url}{client.item('vm-good')}/backup?api-version=2026-07-01"
    with pytest.raises(requests.ReadTimeout):
        client.session.post(address, json=BODY, headers=headers, timeout=0.3)
    assert len(_listed(client)) == processed
    assert [entry["status"] for entry in azure.requests if entry["method"] == "POST"] == [None]


def test_a_job_can_show_in_lists_later_than_it_runs(
    azure: Emulator, client: Client, clock: ManualClock, started: Callable[..., str]
) -> None:
    azure.plan("vm-good", visible_after=30)
    job_id = started("vm-good")
    assert (_listed(client), client.job(job_id)["status"]) == ([], "InProgress")
    clock.advance(28.5)
    assert _listed(client) == [job_id]


@pytest.mark.parametrize("processed", [False, True])
def test_a_cancel_call_can_take_its_time(
    azure: Emulator, client: Client, clock: ManualClock, processed: bool
) -> None:
    job_id = azure.start_job("vm-good")
    azure.fault(method="POST", path="/cancel", latency=0.3, processed=processed)
    before = time.monotonic()
    assert client.post(f"{VAULT}/backupJobs/{job_id}/cancel").status_code == 202
    assert time.monotonic() - before >= 0.3
    assert client.job(job_id)["status"] == "Cancelling"
    clock.advance(10)
    assert client.job(job_id)["status"] == "Cancelled"


def test_a_database_has_a_bare_name_until_its_job_has_begun_in_earnest(
    azure: Emulator, client: Client, clock: ManualClock
) -> None:
    azure.plan("payroll", seconds=5000)
    job_id = azure.start_job("payroll")
    clock.advance(9.9)
    bare = client.job(job_id)
    assert (bare["entityFriendlyName"], bare["operation"], "workloadType" in bare) == (
        "payroll",
        "Backup",
        False,
    )
    clock.advance(0.2)
    named = client.job(job_id)
    assert (named["entityFriendlyName"], named["operation"]) == ("payroll [sqlvm]", "Backup (Full)")
    assert named["workloadType"] == "SQLDataBase"


def test_two_instances_on_one_machine_have_a_database_of_one_name(
    azure: Emulator, client: Client, clock: ManualClock
) -> None:
    first, second = azure.service.world.named("msdb")
    for item in (first, second):
        azure.start_job(item.path)
    clock.advance(60)
    jobs = [job["properties"] for job in client.get(f"{VAULT}/backupJobs").json()["value"]]
    assert [job["entityFriendlyName"] for job in jobs] == ["msdb [sqlvm]"] * 2
    items = [client.get(item.path).json()["properties"] for item in (first, second)]
    assert [item["parentName"] for item in items] == ["MSSQLSERVER", "REPORTS"]
    assert {(item["friendlyName"], item["serverName"]) for item in items} == {("msdb", "sqlvm")}


@pytest.mark.parametrize("skew", [0, 3600, -95.5])
def test_answers_and_jobs_are_dated_by_azures_clock(
    azure: Emulator, client: Client, clock: ManualClock, skew: float
) -> None:
    azure.configure(clock_skew=skew)
    job_id = azure.start_job("vm-good")
    azure.fault(status=503)
    dates = [client.get(f"{VAULT}/backupJobs").headers["Date"] for _ in range(2)]
    dates += [_post(client).headers["Date"], client.get(f"{VAULT}/backupJobs/none").headers["Date"]]
    assert {parsedate_to_datetime(date).timestamp() for date in dates} == {int(clock() + skew)}
    assert all(date.endswith(" GMT") for date in dates)
    assert azure.service.world.jobs[job_id].starts == clock() + skew
    azure.reset()
    azure.start_job("vm-good")
    assert [job.starts for job in azure.service.world.jobs.values()] == [clock()]

"""The faults that other providers' users have met, each with the test that shows what becomes of it here."""

from __future__ import annotations

import ast
import asyncio
import importlib
import json
import re
import socket
import threading
import time
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from airflow.models.trigger import Trigger
from airflow.providers.common.compat.sdk import DAG, TaskDeferred

from airflow_provider_azbackup.hooks import AzureBackupAsyncHook, AzureBackupHook
from airflow_provider_azbackup.links import AzureBackupJobLink
from airflow_provider_azbackup.operators import AzureBackupCancelJobOperator, AzureBackupOperator
from airflow_provider_azbackup.sensors import AzureBackupJobSensor
from airflow_provider_azbackup.triggers import AzureBackupJobTrigger
from azure_backup_emulator import Emulator
from tests.support.tasks import Store, TaskInstance, fire, run

ROOT = Path(__file__).parents[1]
RELIABILITY = ROOT / "docs" / "reliability.md"
BOTH = pytest.mark.parametrize("deferrable", [False, True], ids=["in the worker", "deferred"])
JOBS = "/backupJobs/"
HERE = "tests/test_field_faults.py"

# A fault of the field, and the tests that are about it.
FIELD: dict[str, tuple[str, ...]] = {
    "every status word, and an invented one, through both modes": (
        "tests/tasks/test_outcomes.py::test_the_gate_opens_on_completed",
        "tests/tasks/test_outcomes.py::test_the_gate_stays_shut_on_every_other_end",
        "tests/tasks/test_outcomes.py::test_a_job_that_is_not_over_is_waited_for_until_the_deadline",
    ),
    "serialize round trip through JSON and through the database": (
        "tests/test_triggers.py::test_serialize_rebuilds_an_equal_trigger_from_plain_json",
        f"{HERE}::test_serialize_goes_through_the_database_and_back",
    ),
    "poll faults 408, 429 with and without Retry-After, 500, 503, reset, DNS, then success": (
        f"{HERE}::test_poll_faults_then_success",
        f"{HERE}::test_a_name_server_that_fails_then_success",
        "tests/test_triggers.py::test_a_wait_survives",
    ),
    "401 and 403 fail fast with bounded request counts": (
        "tests/test_triggers.py::test_a_refusal_that_lasts_ends_the_wait_within_a_minute",
        "tests/tasks/test_rotation.py::test_a_revoked_role_ends_the_wait_within_a_minute_and_is_named",
        "tests/tasks/test_rotation.py::test_a_secret_that_only_azure_was_told_of_ends_the_wait_within_a_minute",
    ),
    "deadline survives a rebuilt trigger": (
        "tests/tasks/test_deadlines.py::test_a_trigger_that_is_rebuilt_again_and_again_keeps_its_deadline",
    ),
    "retry takes up": ("tests/tasks/test_adoption.py::test_a_retry_takes_up_the_backup_that_runs",),
    "Clear starts again": ("tests/tasks/test_adoption.py::test_a_clear_after_the_end_takes_a_new_backup",),
    "Clear while running waits and starts again": (
        "tests/tasks/test_adoption.py::test_a_new_attempt_waits_for_the_end_of_the_backup_that_runs_and_takes_its_own",
    ),
    "on_kill in each task state": (
        "tests/tasks/test_kill.py::test_only_a_task_that_a_person_ended_has_its_backup_cancelled",
        "tests/tasks/test_kill.py::test_nothing_is_cancelled_unless_cancel_on_kill_asks_for_it",
    ),
    "killed before submission": (
        "tests/tasks/test_kill.py::test_a_task_killed_before_it_began_has_nothing_to_cancel",
        "tests/tasks/test_kill.py::test_a_worker_killed_before_it_asked_for_a_backup_has_nothing_to_cancel",
    ),
    "closes counted": (
        f"{HERE}::test_closes_are_as_many_as_openings_however_a_trigger_ends",
        "tests/runtime/test_transport_trust.py::test_an_async_hook_keeps_few_connections_and_none_when_it_is_closed",
    ),
    "no sync socket on the loop": (f"{HERE}::test_no_sync_socket_and_no_sleep_on_the_loop",),
    "link after resume": (f"{HERE}::test_the_link_after_a_resume_is_the_link_before_it",),
    "wait_for_completion=False never defers": (
        "tests/test_operators.py::test_wait_for_completion_false_neither_waits_nor_defers",
    ),
    "first poll not before the pause": (
        "tests/test_triggers.py::test_the_first_look_comes_after_the_first_pause",
        "tests/test_sensors.py::test_the_worker_has_time_to_leave_before_the_triggerer_looks",
    ),
    "mapped tasks": (
        f"{HERE}::test_mapped_tasks_make_one_backup_each",
        "tests/tasks/test_adoption.py::test_a_mapped_index_that_means_another_item_now_takes_up_nothing_of_the_old_one",
    ),
    "soft_fail and never_fail grid": (
        "tests/tasks/test_outcomes.py::test_no_flag_of_a_sensor_forgives_a_failed_backup",
        "tests/tasks/test_outcomes.py::test_both_flags_forgive_a_wait_that_took_too_long",
        "tests/tasks/test_outcomes.py::test_without_a_flag_a_wait_that_took_too_long_is_a_sensor_timeout",
    ),
    "provider info against each schema": (
        "tests/test_provider_info.py::test_the_provider_info_is_valid_by_airflows_own_schema",
        "tests/test_provider_info.py::test_the_connection_form_is_valid_by_the_schema_of_airflow_3_2_and_later",
    ),
    "no network in __init__": (f"{HERE}::test_no_network_in_any_init",),
}


@cache
def defined_in(path: str) -> frozenset[str]:
    """Names of the test functions of a file, read without running it."""
    nodes = ast.walk(ast.parse((ROOT / path).read_text()))
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    return frozenset(node.name for node in nodes if isinstance(node, kinds) and node.name.startswith("test_"))


@pytest.mark.parametrize("fault", FIELD)
def test_every_fault_of_the_field_has_its_tests(fault: str) -> None:
    named = [name.split("::") for name in FIELD[fault]]
    assert named
    assert [name for path, name in named if name not in defined_in(path)] == []


def test_every_test_that_the_documentation_names_exists() -> None:
    named = set(re.findall(r"\]\(\.\./(tests/[\w/]+\.py)#(test_\w+)\)", RELIABILITY.read_text()))
    assert len(named) > 30
    assert {name for path, name in named if name not in defined_in(path)} == set()


def test_every_row_of_the_documentation_names_a_test() -> None:
    rows = [line for line in RELIABILITY.read_text().splitlines() if line.startswith("| ")]
    faults = [row for row in rows if not row.startswith(("| Fault", "| ---"))]
    assert len(faults) > 20
    assert [row for row in faults if "](../tests/" not in row.rpartition(" | ")[2]] == []
    assert {row.count(" | ") for row in faults} == {3}


# Those that have no other home


@pytest.fixture
def arguments(azure: Emulator, clock: Any) -> dict[str, Any]:
    """Of a trigger that waits an hour for a VM backup of ten minutes."""
    job_id = azure.start_job("vm-good", seconds=600)
    return {
        "job_id": f"{azure.service.world.vaults[0].path}/backupJobs/{job_id}",
        "azure_backup_conn_id": "azure_backup_default",
        "poll_interval": 60.0,
        "first_pause": 60.0,
        "deadline": clock() + 3600.0,
        "since": clock(),
        "cancel_on_kill": True,
        "wait_until": "completion",
        "waiting_for": "",
        "expected_by": None,
        "when_late": "warn",
        "secondary_region": "",
        "primary_region": "",
        "version": 3,
    }


PATH = "airflow_provider_azbackup.triggers.AzureBackupJobTrigger"


def test_serialize_goes_through_the_database_and_back(azure: Emulator, arguments: dict[str, Any]) -> None:
    row = Trigger.from_object(AzureBackupJobTrigger(**arguments))
    module, _, name = row.classpath.rpartition(".")
    rebuilt = getattr(importlib.import_module(module), name)(**row.kwargs)
    assert rebuilt.serialize() == AzureBackupJobTrigger(**arguments).serialize() == (PATH, arguments)
    assert azure.connection()["password"] not in json.dumps([row.encrypted_kwargs, row.kwargs])


@BOTH
@pytest.mark.parametrize(
    "fault",
    [
        {"status": 408},
        {"status": 429},
        {"status": 429, "retry_after": 20},
        {"status": 429, "retry_after": 324},
        {"status": 500},
        {"status": 503},
        {"status": 503, "retry_after": 5},
        {"reset": True},
    ],
    ids=str,
)
def test_poll_faults_then_success(azure: Emulator, fault: dict[str, Any], deferrable: bool) -> None:
    azure.fault(path=JOBS, times=6, after=1, **fault)
    ti = TaskInstance(store=Store())
    run(lambda: AzureBackupOperator(task_id="backup", protected_item="vm-good", deferrable=deferrable), ti)
    assert ti.xcoms["job"]["outcome"] == "succeeded"
    assert (azure.count("POST", "/protectedItems/"), azure.count("POST", "/cancel")) == (1, 0)
    looked = [(entry["at"], entry["status"]) for entry in azure.requests if JOBS in entry["path"]]
    asked = fault.get("retry_after", 0)
    throttled = [then - at for (at, told), (then, _) in pairwise(looked) if told == fault.get("status")]
    assert all(pause >= asked for pause in throttled)


@BOTH
def test_a_name_server_that_fails_then_success(
    azure: Emulator, monkeypatch: pytest.MonkeyPatch, deferrable: bool
) -> None:
    job_id = azure.start_job("vm-good", seconds=600)
    real, failed = socket.getaddrinfo, []

    def getaddrinfo(host: Any, *arguments: Any, **options: Any) -> Any:
        if len(failed) < 8:
            failed.append(host)
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return real(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    assert (
        run(lambda: AzureBackupOperator(task_id="gate", job_id=job_id, deferrable=deferrable), TaskInstance())
        == job_id
    )
    assert len(failed) == 8


def test_closes_are_as_many_as_openings_however_a_trigger_ends(
    azure: Emulator, clock: Any, arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[aiohttp.ClientSession] = []
    begin = aiohttp.ClientSession.__init__

    def count(session: aiohttp.ClientSession, *values: Any, **options: Any) -> None:
        begin(session, *values, **options)
        opened.append(session)

    async def end_while_it_waits() -> None:
        waiting = asyncio.ensure_future(fire(PATH, arguments))
        monkeypatch.setattr(clock, "advance", lambda _: waiting.cancel())
        await waiting

    monkeypatch.setattr(aiohttp.ClientSession, "__init__", count)
    asyncio.run(fire(PATH, arguments))  # the job is over
    asyncio.run(fire(PATH, {**arguments, "deadline": clock()}))  # the time is up
    azure.fault(path=JOBS, status=400, times=None)
    asyncio.run(fire(PATH, arguments))  # looking again cannot help
    azure.clear_faults()
    azure.fault(path=JOBS, expire_token=True)
    asyncio.run(fire(PATH, arguments))  # signed in twice
    with pytest.raises(asyncio.CancelledError):  # the triggerer ends
        asyncio.run(end_while_it_waits())
    assert len(opened) == 5
    assert all(session.closed for session in opened)


def test_no_sync_socket_and_no_sleep_on_the_loop(
    azure: Emulator, arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, blocked, used = threading.get_ident(), [], []

    def watch(kind: Any, name: str) -> None:
        real = getattr(kind, name)

        def call(sock: socket.socket, *values: Any) -> Any:
            if threading.get_ident() == here:
                (used if sock.gettimeout() == 0 else blocked).append(name)
            return real(sock, *values)

        monkeypatch.setattr(kind, name, call)

    for name in ("connect", "send", "sendall", "recv", "recv_into"):
        watch(socket.socket, name)
    monkeypatch.setattr(time, "sleep", lambda seconds: blocked.append(f"sleep({seconds})"))
    asyncio.run(fire(PATH, arguments))
    assert "connect" in used
    assert blocked == []


def test_the_link_after_a_resume_is_the_link_before_it(azure: Emulator) -> None:
    ti, task = (
        TaskInstance(),
        AzureBackupOperator(task_id="backup", protected_item="vm-good", deferrable=True),
    )
    with pytest.raises(TaskDeferred) as deferred:
        task.execute(ti.context)
    before = ti.xcoms[AzureBackupJobLink.key]
    event = asyncio.run(fire(*deferred.value.trigger.serialize()))
    again = AzureBackupOperator(task_id="backup", protected_item="vm-good", deferrable=True)
    job_id = again.execute_complete(ti.context, event, **(deferred.value.kwargs or {}))
    assert ti.xcoms[AzureBackupJobLink.key] == before
    assert before.endswith(job_id)


def test_mapped_tasks_make_one_backup_each(azure: Emulator) -> None:
    items = [f"fleet-{number:02}" for number in range(1, 6)]
    with DAG("fleet", schedule=None):
        mapped = AzureBackupOperator.partial(task_id="backup", deferrable=True).expand(protected_item=items)
    for index, item in enumerate(items):
        ti = TaskInstance(store=Store())
        ti.map_index = index
        run(lambda item=item: mapped.unmap({"protected_item": item}), ti)  # type: ignore[misc]
        assert ti.xcoms["job"]["item"] == item
    assert azure.count("POST", "/protectedItems/") == len(items) == len(azure.service.world.jobs)


def test_no_network_in_any_init(monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any]) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a constructor opens no connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.delenv("AIRFLOW_CONN_AZURE_BACKUP_DEFAULT")
    job_id = arguments["job_id"]
    AzureBackupOperator(task_id="backup", protected_item="vm-good")
    AzureBackupCancelJobOperator(task_id="cancel", job_id=job_id)
    AzureBackupJobSensor(task_id="gate", job_id=job_id)
    AzureBackupJobTrigger(**arguments)
    AzureBackupHook("no_such_connection")
    AzureBackupAsyncHook("no_such_connection")

"""Whatever Azure or a proxy sends, what this provider hands to Airflow can be written to its database."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import pytest
from sqlalchemy import Column, MetaData, Table, create_engine, insert, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import Engine

from airflow_provider_azbackup.core.model.jobs import is_proven
from airflow_provider_azbackup.core.model.json_safe import LONGEST_MESSAGE, LONGEST_TEXT, MOST_ENTRIES
from airflow_provider_azbackup.core.rest.responses import read_job, read_operation_id
from airflow_provider_azbackup.core.start.intent import StartRecord
from airflow_provider_azbackup.core.wire import Response
from airflow_provider_azbackup.exceptions import AzureBackupError, AzureBackupJobFailedError
from airflow_provider_azbackup.hooks import AzureBackupHook
from airflow_provider_azbackup.runtime.job_event import JobEvent
from airflow_provider_azbackup.tasks.state import TaskState
from azure_backup_emulator import Emulator
from dev.stack.postgres import PACKAGE, Postgres
from tests.support.play import JOB, answered
from tests.support.tasks import fire

TRIGGER = "airflow_provider_azbackup.triggers.AzureBackupJobTrigger"
JOBS = "/backupJobs/"
TABLE = Table("hostile", MetaData(), Column("value", JSONB))
# Escapes as they stand in JSON: NUL, halves of a surrogate pair, a terminal's escape, a C1 control.
HOSTILE = {
    "NUL": r"\u0000",
    "half a surrogate pair": r"\ud83d",
    "the other half": r"\uDE00",
    "the halves in the wrong order": r"\ude00\ud83d",
    "a terminal's escape": r"\u001b[2J",
    "a control character of C1": r"\u009b",
}


@pytest.fixture(scope="module")
def database() -> Iterator[Engine]:
    if find_spec(PACKAGE) is None:
        pytest.skip("PostgreSQL is installed with the newest Airflow alone")
    with Postgres() as postgres:
        engine = create_engine(postgres.url)
        TABLE.metadata.create_all(engine)
        yield engine
        engine.dispose()


def stored(database: Engine, value: Any) -> Any:
    """Write a value as Airflow writes an event, an XCom or a note, and read it back."""
    with database.begin() as connection:
        connection.execute(insert(TABLE).values(value=value))
        found = connection.scalars(select(TABLE.c.value)).all()[-1]
        connection.execute(TABLE.delete())
    return found


def job_text(job_id: str, hostile: str, status: str = "Completed") -> str:
    """A job with something in every place: in fields that are read, in names, and where nobody looks."""
    x = f"a{hostile}b"
    return (
        f'{{"name": "{job_id}", "tags": {{"{x}": "{x}"}}, "properties": {{"status": "{status}", '
        f'"entityFriendlyName": "{x}", "nobody": ["{x}", {{"{x}": "{x}"}}], '
        f'"errorDetails": [{{"errorTitle": "{x}", "errorString": "{x}", "recommendations": ["{x}"]}}], '
        f'"extendedInfo": {{"dynamicErrorMessage": "{x}", "propertyBag": {{"{x}": "{x}"}}, '
        f'"tasksList": [{{"taskId": "{x}", "status": "{x}"}}]}}}}}}'
    )


def event_of(azure: Emulator, clock: Any, **fault: Any) -> Any:
    """Let a trigger wait for a job that Azure shows with a fault; return its event."""
    job_id = azure.start_job("vm-good", seconds=600)
    if "garbage" in fault:
        fault["garbage"] = fault["garbage"].replace("JOB", job_id)
    azure.fault(path=JOBS, **fault)
    arguments: dict[str, Any] = {
        "job_id": f"{azure.service.world.vaults[0].path}/backupJobs/{job_id}",
        "azure_backup_conn_id": "azure_backup_default",
        "poll_interval": 60.0,
        "first_pause": 60.0,
        "deadline": clock() + 3600.0,
        "since": clock(),
        "cancel_on_kill": False,
        "wait_until": "completion",
        "version": 1,
    }
    return asyncio.run(fire(TRIGGER, arguments))


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE)
def test_one_odd_character_does_not_end_the_triggerer(
    azure: Emulator, clock: Any, database: Engine, hostile: str
) -> None:
    event = event_of(azure, clock, garbage=job_text("JOB", hostile), status=200, times=None)
    job = JobEvent.from_dict(stored(database, event)).job
    assert job is not None
    assert (job.status, job.item[0], job.item[-1]) == ("Completed", "a", "b")
    assert stored(database, job.facts()) == job.facts()


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
def test_a_number_that_is_not_finite_does_not_end_the_triggerer(
    azure: Emulator, clock: Any, database: Engine, word: str
) -> None:
    extended = f'{{"progressPercentage": {word}, "propertyBag": {{"size": {word}}}}}'
    hostile = f'{{"status": "Completed", "nobody": {word}, "duration": {word}, "extendedInfo": {extended}}}'
    body = f'{{"name": "JOB", "properties": {hostile}}}'
    event = stored(database, event_of(azure, clock, garbage=body, status=200, times=None))
    job = JobEvent.from_dict(event).job
    assert job is not None
    assert (job.status, job.percent, job.duration_seconds) == ("Completed", None, None)
    assert stored(database, job.facts()) == job.facts()


@pytest.mark.parametrize(
    "garbage",
    ["\x00\x1b[2J", '{"error": {"code": "a\\u0000", "message": "b\\ud83d"}}', "x" * 100_000],
    ids=["no JSON", "JSON", "a long text"],
)
def test_a_hostile_refusal_reaches_the_worker(
    azure: Emulator, clock: Any, database: Engine, garbage: str
) -> None:
    event = stored(database, event_of(azure, clock, garbage=garbage, status=404, times=None))
    error = JobEvent.from_dict(event).error
    assert error is not None
    assert "answered 404" in str(error)
    assert len(str(error)) <= LONGEST_MESSAGE


def test_an_error_of_any_length_and_letters_can_be_stored(database: Engine) -> None:
    error = AzureBackupError("\x00\ud83d" * LONGEST_MESSAGE, code="\x00", retry_after=float("inf"))
    event = stored(database, JobEvent(error=error).to_dict())
    found = JobEvent.from_dict(event).error
    assert found is not None
    assert (len(str(found)), found.code, found.retry_after) == (LONGEST_MESSAGE, "\ufffd", None)


def test_a_number_that_overflows_is_unknown(database: Engine) -> None:
    text = (
        f'{{"name": "{JOB.job_id}", "properties": {{"status": "Completed", "duration": "P{"9" * 400}D", '
        f'"startTime": "9999-12-31T23:59:59.9999999Z", "endTime": "1900-01-01T00:00:00Z", "more": 1e999, '
        f'"extendedInfo": {{"progressPercentage": {"9" * 5000}, '
        f'"propertyBag": {{"Backup Size": "{"9" * 400} MB", "big": 1e999}}}}}}}}'
    )
    job = read_job(JOB, answered(200, text))
    assert (job.duration_seconds, job.start_time, job.end_time) == (None, None, None)
    assert (job.percent, job.size_bytes) == (None, None)
    assert job.summary()
    assert stored(database, job.facts())["outcome"] == "succeeded"


def test_only_what_is_read_of_a_job_reaches_the_event_and_each_text_is_cut() -> None:
    text = "x" * 3_000
    properties = {
        "status": "Completed",
        "entityFriendlyName": text,
        "nobody": text,
        "errorDetails": [{"errorTitle": text, "nobody": text, "recommendations": [text] * 60}] * 60,
        "extendedInfo": {
            "propertyBag": {f"{number}{text}": text for number in range(60)},
            "tasksList": [{"taskId": text, "status": text, "nobody": text}] * 60,
            "nobody": {"x": text},
        },
    }
    body = {"name": JOB.job_id, "properties": properties, "tags": text}
    job = read_job(JOB, answered(200, body))
    event = JobEvent(job=job).to_dict()
    assert "nobody" not in json.dumps(event)
    assert "tags" not in json.dumps(event)
    texts = [job.item, *(error.title for error in job.errors), *(task.name for task in job.tasks)]
    assert {len(each) for each in texts if each} == {LONGEST_TEXT}
    assert (len(job.errors), len(job.tasks), len(job.details)) == (MOST_ENTRIES,) * 3
    assert JobEvent.from_dict(event).job == job


def test_an_error_that_is_cut_off_opens_no_gate() -> None:
    accepted = [{"errorTitle": "SomeWarning"}] * (MOST_ENTRIES + 1)

    def job(*more: dict[str, str]) -> Any:
        properties = {"status": "CompletedWithWarnings", "errorDetails": [*accepted, *more]}
        body = {"name": JOB.job_id, "properties": properties}
        once = JobEvent(job=read_job(JOB, answered(200, body))).to_dict()
        return JobEvent.from_dict(once).job

    with pytest.raises(AzureBackupJobFailedError, match="more, which are not read"):
        is_proven(job(), accept_warnings=["SomeWarning"])
    with pytest.raises(AzureBackupJobFailedError, match="was cancelled"):
        is_proven(job({"errorTitle": "UserErrorJobSuccessfullyCancelled"}), accept_warnings=True)


@pytest.mark.parametrize("name", ["a%00b", "a%1bb", "x" * 600], ids=["NUL", "escape", "long"])
def test_an_operation_id_that_cannot_be_kept_is_none(name: str) -> None:
    reply = Response(status=202, at=0.0, headers={"location": f"https://azure/operations/{name}"})
    assert read_operation_id(reply) is None


def test_a_note_holds_nothing_that_the_database_refuses(database: Engine) -> None:
    class Store:
        """Airflow's task state store, over a real database."""

        value: Any = None

        def get(self, key: str) -> Any:
            return self.value

        def set(self, key: str, value: Any) -> None:
            self.value = stored(database, value)

    item = f"{JOB.vault.path}/backupFabrics/Azure/protectionContainers/c/protectedItems/i"
    note = StartRecord(
        item=item,
        attempt="1",
        since=1.0,
        attempt_began=1.0,
        operation="\x00",
        recovery_point={"time": float("nan")},
    )
    task_state = TaskState.__new__(TaskState)
    task_state._store = Store()
    task_state.save(note)
    kept = StartRecord.from_dict(task_state._store.value)
    assert kept is not None
    assert (kept.operation, kept.recovery_point) == ("\ufffd", {"time": None})


def test_what_a_hook_returns_of_a_hostile_item_can_be_stored(azure: Emulator, database: Engine) -> None:
    vault = azure.service.world.vaults[0].path
    item = f"{vault}/backupFabrics/Azure/protectionContainers/c/protectedItems/VM;iaasvmcontainerv2;g;v"
    page = f'{{"value": [{{"id": "{item}", "properties": {{"friendlyName": "a\\u0000\\ud83d"}}}}]}}'
    azure.fault(path="/backupProtectedItems", garbage=page, status=200, times=None)
    with AzureBackupHook() as hook:
        facts = [each.facts() for each in hook.list_protected_items()]
    assert facts
    assert stored(database, facts) == facts
    assert {each["friendly_name"] for each in facts} == {"a\ufffd\ufffd"}

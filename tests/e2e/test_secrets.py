"""What all other end-to-end tests left, searched for secrets: logs, database, whatever Airflow shows.

Our own code and the Azure libraries log at DEBUG meanwhile.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from psycopg2 import sql

from dev.stack.airflow_api import Run
from dev.stack.stack import Stack
from tests.e2e.azure import Azure

pytestmark = pytest.mark.e2e

TOKEN = re.compile(r"eyJ[\w-]{10,}\.(eyJ[\w-]{10,})\.[\w-]{10,}")
# What gives the holder of an operation's address the right to ask for it.
SIGNED = re.compile(r"(?:[?&]|%3F|%26)[sh](?:=|%3D)[\w-]{20,}", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What Airflow shows of one backup on the connection in the database, and of one with a wrong secret."""

    job_id: str
    trigger: str
    shown: str
    states: list[str]


@pytest.fixture(scope="module")
def kept(airflow: Stack, azure: Azure, begun: Mapping[str, Run]) -> Kept:
    azure.reset()
    azure.plan("vm-good", seconds=1800)
    conf = {"item": "vm-good", "vault": "demo-vault", "conn_id": "stored"}
    good = airflow.run_dag("chaos_deferred_cancels", conf)
    waits = airflow.wait_for_state(good, "backup", "deferred", timeout=90)
    trigger = trigger_arguments(airflow, waits.facts["trigger"]["id"])
    states = [airflow.wait(run, timeout=600)["backup"] for run in (good, begun["test_secrets"])]
    task = airflow.task(good, "backup")
    xcoms = [
        airflow.xcom(task, entry["key"])
        for entry in airflow.call("GET", f"{task.path}/xcomEntries")["xcom_entries"]
    ]
    shown = json.dumps([waits.facts, xcoms, task.facts, airflow.task_store(task), airflow.links(task)])
    return Kept(job_id=airflow.xcom(task, "job_id"), trigger=trigger, shown=shown, states=states)


def trigger_arguments(airflow: Stack, trigger: int) -> str:
    """Return what a trigger was serialized to; Airflow's API keeps it back."""
    with database(airflow) as cursor:
        cursor.execute("select kwargs from trigger where id = %s", [trigger])
        ((arguments,),) = cursor.fetchall()
    return str(arguments)


@contextmanager
def database(airflow: Stack) -> Iterator[Any]:
    url = airflow.env["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"].replace("+psycopg2", "")
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        yield cursor


def found(text: str, azure: Azure) -> list[str]:
    """Return the secrets in a text: of clients, tokens that Azure issued, signatures of addresses."""
    clients = {name: each["secret"] for name, each in azure.principals.items()} | {
        "wrong": azure.wrong_secret
    }
    hits = [name for name, secret in clients.items() if secret in text or _in_base64(secret) in text]
    hits += [f"token {match[0][:20]}" for match in TOKEN.finditer(text) if "appid" in _claims(match[1])]
    return hits + [f"signature {match[0][:20]}" for match in SIGNED.finditer(text)]


def _in_base64(secret: str) -> str:
    return base64.b64encode(secret.encode()).decode().rstrip("=")


def _claims(part: str) -> str:
    with suppress(ValueError):
        return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)).decode(errors="replace")
    return ""


def files(airflow: Stack, azure: Azure) -> Iterator[tuple[Path, str]]:
    for path in sorted(airflow.home.rglob("*")):
        if path.is_file() and not path.is_symlink():
            yield path, path.read_text(errors="replace")
    yield azure.directory / "emulator.log", azure.log()


def cells(airflow: Stack) -> Iterator[tuple[str, str]]:
    """Yield every row of every table of Airflow's database as text, under the name of its table."""
    with database(airflow) as cursor:
        cursor.execute("select table_name from information_schema.tables where table_schema = 'public'")
        for (table,) in cursor.fetchall():
            cursor.execute(sql.SQL("select t::text, to_jsonb(t) from {} t").format(sql.Identifier(table)))
            for text, row in cursor.fetchall():
                yield table, text
                yield from (
                    (table, _unpacked(value)) for value in row.values() if str(value).startswith("\\x")
                )


def _unpacked(value: Any) -> str:
    return bytes.fromhex(str(value)[2:]).decode(errors="replace")


def test_the_search_finds_what_it_is_for(azure: Azure) -> None:
    secret = azure.principals["operator"]["secret"]
    token = ".".join(_in_base64(part) for part in ('{"typ": "JWT"}', '{"appid": "somebody"}', "a signature"))
    signed = f"https://localhost/operations/1?t=1&c=2&s={'A' * 256}&h={'B' * 32}"
    assert found(f"password={secret}", azure) == ["operator"]
    assert len(found(f"Authorization: Bearer {token}", azure)) == 1
    assert len(found(signed, azure)) == 2
    assert not found(f"https://localhost/operations/1 {kept.__name__}", azure)


def test_no_file_of_airflow_and_no_log_of_the_emulator_holds_a_secret(
    kept: Kept, airflow: Stack, azure: Azure
) -> None:
    read = dict(files(airflow, azure))
    assert any(kept.job_id in text for text in read.values())
    assert any("azure.identity" in text and '"level":"debug"' in text for text in read.values())
    assert {str(path): found(text, azure) for path, text in read.items() if found(text, azure)} == {}


def test_the_emulator_remembers_requests_without_their_secrets(kept: Kept, azure: Azure) -> None:
    assert found(json.dumps(azure.requests), azure) == []


def test_nothing_that_airflow_shows_of_a_task_holds_a_secret(kept: Kept, azure: Azure) -> None:
    assert kept.states == ["success", "failed"]
    assert kept.job_id in kept.shown
    assert found(kept.shown, azure) == []


def test_what_a_trigger_is_serialized_to_holds_no_secret(kept: Kept, azure: Azure) -> None:
    assert kept.job_id in kept.trigger
    assert found(kept.trigger, azure) == []


def test_the_database_holds_no_secret_that_can_be_read(kept: Kept, airflow: Stack, azure: Azure) -> None:
    rows = list(cells(airflow))
    assert any(table == "xcom" and kept.job_id in text for table, text in rows)
    assert any(table == "connection" and "stored" in text for table, text in rows)
    assert {(table, *found(text, azure)) for table, text in rows if found(text, azure)} == set()

"""One Airflow and one emulator for all end-to-end tests: starting them takes longer than most tests.

With ``E2E_EXECUTOR=celery`` in the environment it is an Airflow of two workers and two triggerers.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import NoReturn

import pytest

from dev.demo.demo import EXAMPLES, EXPECTED, quick_polling
from dev.stack.airflow_api import Json, Run
from dev.stack.broker import Broker
from dev.stack.pace import slowness
from dev.stack.postgres import Postgres
from dev.stack.stack import Stack, free_port
from tests.e2e.azure import Azure
from tests.e2e.evidence import keep_if_failed
from tests.test_workloads import ON_AIRFLOW, WORKLOADS

DAGS = Path(__file__).parent / "dags"
CHAOS = (
    "chaos_deferred",
    "chaos_deferred_cancels",
    "chaos_freed_cancels",
    "chaos_held_cancels",
    "chaos_working",
    "chaos_working_cancels",
)

# Airflow's own requests would be half of the lines of its logs.
QUIET = """
import logging
logging.getLogger("httpcore").setLevel(logging.INFO)
"""
# What was killed is missed after seconds, not after minutes.
SETTINGS = {
    # A file is read again when it has changed, or when a test asks for it. Airflow's default, to read all of
    # them again every 30 s, takes half a core for a dozen of them.
    "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3600",
    # Backups that are waited for in a worker hold its slot for minutes here.
    "AIRFLOW__CORE__PARALLELISM": "12",
    # An API server that was frozen hears a dozen tasks at once. With the 15 connections it has by itself, it
    # was seen to stand still for another half a minute.
    "AIRFLOW__DATABASE__SQL_ALCHEMY_POOL_SIZE": "40",
    # What our code and the Azure libraries say at their most talkative is searched for secrets in the end.
    "AIRFLOW__LOGGING__LOGGING_LEVEL": "DEBUG",
    "AIRFLOW__LOGGING__NAMESPACE_LEVELS": "airflow=INFO airflow.task=DEBUG",
    # The tasks of a scheduler that died are looked for when another starts, and then every five minutes; one
    # that starts at once finds its predecessor still fresh.
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "5",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_SEC": "3",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "3",
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
    # A triggerer that is silent for 30 s counts as dead by default. On a busy machine imports take longer.
    "AIRFLOW__TRIGGERER__RUNNER_HEALTH_CHECK_THRESHOLD": "300",
}


def misses(*, celery: bool) -> dict[str, str]:
    """Return after how many seconds Airflow misses what does not move: longer on a slow or busy machine.

    Where it misses too early, it runs a healthy task again.

    :param celery: there, a triggerer has a core for itself only now and then.
    """
    seconds = {
        "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": 15,
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": 30,
        "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": 15 if celery else 6,
    }
    slow = slowness()
    return {name: str(round(value * slow)) for name, value in seconds.items()}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put these tests after all others: what is quick speaks first, and no Airflow takes time from it.

    The backup that is watched alone comes first of them, before other runs have begun. The search for secrets
    comes last of all: it is to find what any other has left.
    """

    def place(item: pytest.Item) -> tuple[bool, bool, bool]:
        is_alone, is_last = "test_waiting" in item.nodeid, "test_secrets" in item.nodeid
        return item.get_closest_marker("e2e") is not None, not is_alone, is_last

    items.sort(key=place)


@pytest.fixture(scope="session", autouse=True)
def _orderly_end() -> None:
    """Have a SIGTERM, a time limit's say, run the ends of fixtures: else Airflow would outlive the tests."""

    def stop(*_: object) -> NoReturn:
        raise KeyboardInterrupt("SIGTERM")

    signal.signal(signal.SIGTERM, stop)


@pytest.fixture(scope="session", autouse=True)
def _evidence(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the logs of a run that fails. This fixture ends last, so they are complete."""
    yield
    keep_if_failed(request, tmp_path_factory)


@pytest.fixture(scope="session")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azure]:
    with Azure(directory=tmp_path_factory.mktemp("azure"), speed=120, spare=60) as azure:
        yield azure


@pytest.fixture(scope="session")
def calm_azure(azure: Azure, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azure]:
    """An emulator that is neither killed nor reset, for runs that go on during other tests."""
    directory = tmp_path_factory.mktemp("calm")
    with Azure(directory=directory, speed=120, spare=0, principals=azure.principals) as calm:
        yield calm


@pytest.fixture(scope="session")
def broker() -> Iterator[str]:
    """Where the workers get their tasks from; empty where they are children of the scheduler."""
    executor = os.environ.get("E2E_EXECUTOR", "local")
    assert executor in ("local", "celery"), f"E2E_EXECUTOR is {executor!r}; expected 'local' or 'celery'"
    with Broker() if executor == "celery" else nullcontext() as found:
        yield found.url if found else ""


@pytest.fixture(scope="session")
def other_port() -> int:
    """A port on which a test may start an emulator of its own for the page: Airflow allows its host."""
    return free_port()


@pytest.fixture(scope="session")
def airflow(
    azure: Azure,
    calm_azure: Azure,
    other_port: int,
    broker: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stack]:
    dags = tmp_path_factory.mktemp("dags")
    for file in (*EXAMPLES.glob("*.py"), *DAGS.glob("*.py")):
        shutil.copy(file, dags)
    connections = {
        "AZURE_BACKUP_DEFAULT": azure.connection(),
        "CALM": calm_azure.connection(),
        "NO_RIGHTS": azure.connection("nobody"),
        "WRONG_SECRET": {**azure.connection(), "password": azure.wrong_secret},
    }
    with (
        Postgres() as database,
        Stack(
            dags=dags,
            home=tmp_path_factory.mktemp("airflow"),
            database=database.url,
            broker=broker,
            env={
                **SETTINGS,
                # For the page and the Test button; tasks follow their connection.
                "AIRFLOW__AZURE_BACKUP__ALLOWED_HOSTS": f"localhost:{azure.port},localhost:{other_port}",
                **misses(celery=bool(broker)),
                **{f"AIRFLOW_CONN_{name}": json.dumps(each) for name, each in connections.items()},
            },
            local_settings=quick_polling(3.0) + QUIET,
        ) as stack,
    ):
        stack.call("POST", "/connections", {"connection_id": "stored", **_as_stored(azure.connection())})
        stack.wait_for_dags(*EXPECTED, *CHAOS, "approval", "watched", "workloads")
        yield stack
    assert leftovers(stack.home) == []


@pytest.fixture(scope="session")
def begun(airflow: Stack, calm_azure: Azure) -> dict[str, Run]:
    """Runs that take minutes and need nothing that other tests change; they go on while those are run.

    Each has the name of its tests' module.
    """
    for item, _, _ in map(WORKLOADS.__getitem__, ON_AIRFLOW):
        # Twenty seconds here: what is to be cancelled must still run when a worker comes to it.
        # In the vault, and copied to the other region, a moment later.
        calm_azure.plan(item.rpartition("/")[2], seconds=2400, point={"vaulted_after": 1})
    wrong = {"item": "vm-good", "vault": "demo-vault", "conn_id": "wrong_secret"}
    # There is a recovery point of it, and its restore takes half a second.
    calm_azure.start_job("vm-patched", seconds=1)
    calm_azure.plan("vm-patched", seconds=60)
    return {
        # Its tasks wait for a person without a worker, for as long as an hour.
        "test_restore_approval": airflow.run_dag("approval"),
        "test_workloads": airflow.run_dag("workloads"),
        # Each try with the wrong secret is given a minute, in which a new secret may take effect.
        "test_secrets": airflow.run_dag("chaos_working", wrong),
    }


def _as_stored(connection: Json) -> Json:
    """Return a connection as the REST API takes it, for Airflow's own database."""
    return {**connection, "extra": json.dumps(connection["extra"])}


def leftovers(home: Path) -> list[str]:
    """Return the command lines of processes whose AIRFLOW_HOME is this one; Linux only, empty elsewhere."""
    mark = f"AIRFLOW_HOME={home}\0".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (process / "environ").read_bytes() + b"\0":
                found.append((process / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue  # it ended while we looked, or it is another user's
    return found

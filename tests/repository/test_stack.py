"""What starts processes must be able to end them: nothing runs on after the demo or after a test."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from importlib.util import find_spec

import psutil
import psycopg2
import pytest

from dev.stack import preloaded
from dev.stack.broker import Broker, BrokerError, server
from dev.stack.pace import Limit
from dev.stack.postgres import PACKAGE, Postgres
from dev.stack.stack import end, free_port

NEEDS_POSTGRES = pytest.mark.skipif(
    find_spec(PACKAGE) is None, reason="PostgreSQL is installed with the newest Airflow alone"
)
# As Airflow's executor does: a child in a process group of its own, and here deaf to SIGTERM as well.
STUBBORN = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setpgid(0, 0)
os.write(1, b"%d\\n" % os.getpid())  # in one piece: two processes write into one pipe
time.sleep(600)
"""


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    started = subprocess.Popen(
        [sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE, start_new_session=True
    )
    yield started
    started.kill()
    started.wait()
    assert started.stdout is not None
    started.stdout.close()


def is_running(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not yet waited for does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def ends(pid: int) -> bool:
    """Whether a process that was killed is gone: the system takes some milliseconds to see to it."""
    limit = Limit(30)
    while is_running(pid) and not limit.is_over:
        time.sleep(0.02)
    return not is_running(pid)


def test_a_process_is_ended_with_its_children_even_if_they_refuse(process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None
    family = [int(process.stdout.readline()) for _ in range(2)]
    assert all(is_running(pid) for pid in family)
    end([process], within=0.0)
    assert all(ends(pid) for pid in family)


def test_a_process_that_has_ended_already_is_no_error(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    end([process], within=0.0)


@NEEDS_POSTGRES
def test_a_postgres_can_be_used_at_once_and_leaves_nothing_behind() -> None:
    with Postgres() as database:
        reached = f"postgresql://postgres@/postgres?host={database.directory}"
        with closing(psycopg2.connect(reached)) as connection, connection.cursor() as cursor:
            cursor.execute("select current_setting('listen_addresses')")
            assert cursor.fetchone() == ("",)
        server = int((database.directory / "data" / "postmaster.pid").read_text().splitlines()[0])
        assert is_running(server)
    assert ends(server)
    assert not database.directory.exists()


@NEEDS_POSTGRES
def test_two_postgres_do_not_meet() -> None:
    with Postgres() as one, Postgres() as other:
        assert one.url != other.url


def has_broker() -> bool:
    try:
        return bool(server())
    except BrokerError:
        return False


@pytest.mark.skipif(not has_broker(), reason="no Redis server here; make distributed brings one")
def test_a_broker_answers_who_has_its_password_and_leaves_nothing_behind() -> None:
    with Broker() as broker:
        password = broker.url.removeprefix("redis://:").partition("@")[0]
        assert broker.answers(password)
        assert not broker.answers("guessed")
        for process in psutil.process_iter(["cmdline"]):
            assert password not in " ".join(process.info["cmdline"] or ())
    assert not broker.answers(password)
    assert not broker.directory.exists()


def test_our_modules_that_are_imported_for_forked_processes_exist() -> None:
    ours = [name for name in preloaded.OURS if name.startswith("airflow_provider_azbackup")]
    assert ours
    assert [name for name in ours if find_spec(name) is None] == []


def test_a_free_port_is_none_that_a_connection_may_get_by_chance() -> None:
    ports = {free_port() for _ in range(50)}
    assert len(ports) > 40
    assert all(10_000 <= port < 32_768 for port in ports)

"""An emulator that is killed, or ended, and started again on its directory: nothing is lost but time."""

from __future__ import annotations

import json
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from azure.identity import CertificateCredential, ClientSecretCredential

from azure_backup_emulator import Emulator
from azure_backup_emulator.model import store
from dev.stack.stack import free_port
from tests.emulator.conftest import VAULT, Client
from tests.support.clock import ManualClock

ROOT = Path(store.__file__).parents[1]
BODY = {"properties": {"objectType": "IaasVMBackupRequest"}}
SCOPE = "https://management.azure.com/.default"


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        yield session


def _client(azure: Emulator, session: requests.Session) -> Client:
    session.verify = azure.ca_bundle
    return Client(azure=azure, session=session)


def test_jobs_plans_pins_and_counts_go_on_as_if_nothing_had_happened(
    tmp_path: Path, clock: ManualClock, session: requests.Session
) -> None:
    with Emulator(directory=tmp_path, clock=clock, speed=10) as azure:
        client = _client(azure, session)
        azure.configure(clock_skew=60, page_size=2, job_read_budget=999)
        azure.plan(
            "vm-good",
            ending="CancelledInTransfer",
            seconds=1000,
            busy="conflict",
            quirks=["v2-job-types"],
            obstacles=["quota"],
        )
        operation = client.back_up("vm-good", recoveryPointExpiryTimeInUTC="2027-01-02T13:04:05Z")
        stranger, pinned = azure.start_job("fleet-01", seconds=800), azure.start_job("fleet-02")
        cancelled = azure.start_job("fleet-03")
        client.post(f"{VAULT}/backupJobs/{cancelled}/cancel")
        azure.set_status(pinned, "Hibernating")
        azure.fault(path="/backupProtectedItems", times=2, status=503)
        assert client.get(f"{VAULT}/backupProtectedItems").status_code == 503
        before, seen = azure.service.world, azure.requests
    clock.advance(70)  # 700 emulated seconds
    with Emulator(directory=tmp_path, clock=clock, speed=10) as azure:
        after = azure.service.world
        assert (after.jobs, after.operations, after.plans) == (before.jobs, before.operations, before.plans)
        assert list(after.jobs) == list(before.jobs)
        assert azure.requests == seen
        assert (azure.count("POST"), azure.count("POST", "/cancel", 202)) == (2, 1)
        client = _client(azure, session)
        own = client.job_of(operation)
        assert [client.job(each)["status"] for each in (own, stranger, pinned, cancelled)] == [
            "InProgress",
            "InProgress",
            "Hibernating",
            "Cancelled",
        ]
        assert [client.get(f"{VAULT}/backupProtectedItems").status_code for _ in range(2)] == [503, 200]
        assert len(client.get(f"{VAULT}/backupJobs").json()["value"]) == 2
        clock.advance(11)
        assert [client.job(each)["status"] for each in (own, stranger)] == ["InProgress", "Completed"]
        assert client.post(f"{client.item('vm-good')}/backup", BODY).status_code == 409
        clock.advance(20)
        assert client.job(own)["status"] == "CompletedWithWarnings"
        assert azure.requests[-1]["number"] == len(azure.requests) > len(seen)


def test_credentials_tokens_and_trust_stay_valid(
    tmp_path: Path, clock: ManualClock, session: requests.Session
) -> None:
    port = free_port()
    with Emulator(directory=tmp_path, clock=clock, port=port) as azure:
        trust, connection, header = (
            Path(azure.ca_bundle).read_bytes(),
            azure.connection(),
            azure.service.identity,
        )
        certificate = azure.certificate("reader")
        client = _client(azure, session)
        token, revoked = client.token(), client.token()
        azure.fault(expire_token=True)
        assert client.get(VAULT, headers={"Authorization": f"Bearer {revoked}"}).status_code == 401
    with Emulator(directory=tmp_path, clock=clock, port=port) as azure:
        assert (Path(azure.ca_bundle).read_bytes(), azure.connection()) == (trust, connection)
        assert azure.service.identity.identity_header == header.identity_header
        client = _client(azure, session)
        assert client.get(VAULT, headers={"Authorization": f"Bearer {token}"}).status_code == 200
        assert client.get(VAULT, headers={"Authorization": f"Bearer {revoked}"}).status_code == 401
        tenant = connection["extra"]["tenant_id"]
        options: dict[str, Any] = {
            "authority": azure.url,
            "disable_instance_discovery": True,
            "connection_verify": azure.ca_bundle,
        }
        reader = azure.connection("reader")["login"]
        with (
            ClientSecretCredential(tenant, connection["login"], connection["password"], **options) as secret,
            CertificateCredential(tenant, reader, certificate, **options) as signed,
        ):
            for credential in (secret, signed):
                answer = client.get(
                    VAULT, headers={"Authorization": f"Bearer {credential.get_token(SCOPE).token}"}
                )
                assert answer.status_code == 200


def test_a_reset_clears_what_was_kept_but_not_who_may_sign_in(
    tmp_path: Path, clock: ManualClock, session: requests.Session
) -> None:
    with Emulator(directory=tmp_path, clock=clock) as azure:
        client, fresh = _client(azure, session), dict(azure.service.world.plans)
        token, trust = client.token(), Path(azure.ca_bundle).read_bytes()
        azure.plan("vm-good", ending="Failed")
        azure.configure(page_size=3, clock_skew=9)
        client.back_up("vm-good")
        azure.fault(status=503, times=None)
        azure.reset()
    with Emulator(directory=tmp_path, clock=clock) as azure:
        world = azure.service.world
        assert (world.jobs, world.operations, world.plans, azure.requests) == ({}, {}, fresh, [])
        assert (world.page_size, azure.service.clock(), azure.service.faults.known) == (200, clock(), {})
        reply = _client(azure, session).get(VAULT, headers={"Authorization": f"Bearer {token}"})
        assert (reply.status_code, Path(azure.ca_bundle).read_bytes()) == (200, trust)


def test_two_emulators_at_once_do_not_share_a_directory(tmp_path: Path) -> None:
    with (
        Emulator(directory=tmp_path, port=free_port()) as azure,
        pytest.raises(OSError, match="another emulator"),
        Emulator(directory=tmp_path),
    ):
        pass
    with (
        pytest.raises(OSError, match="in use"),
        Emulator() as other,
        Emulator(directory=tmp_path, port=other.port),
    ):
        pass
    with Emulator(directory=tmp_path, port=azure.port) as again:
        assert again.url == azure.url
    (tmp_path / "state.db").write_text("no database, but long enough to look like the header of one" * 9)
    with pytest.raises(OSError, match=r"state\.db cannot be used"), Emulator(directory=tmp_path):
        pass


@pytest.mark.parametrize(
    ("kind", "value"), [("job", {"colour": "blue"}), ("plan", {"colour": "blue"}), ("setting", 5)]
)
def test_the_state_of_another_release_is_refused_in_one_sentence(
    tmp_path: Path, kind: str, value: Any
) -> None:
    kept = store.FileStore(tmp_path / "state.db")
    with Emulator() as azure:
        path = azure.service.world.items[0].path
    kept.put(
        kind, path if kind == "plan" else "page_size", value if kind != "job" else {"item": path, **value}
    )
    if kind == "setting":
        kept.put(kind, "no_such_setting", value)
    kept.close()
    with (
        pytest.raises(OSError, match=r"state\.db cannot be read .* use another directory"),
        Emulator(directory=tmp_path),
    ):
        pass


def test_an_item_that_is_seeded_no_more_takes_its_jobs_with_it(tmp_path: Path, clock: ManualClock) -> None:
    def machines(*names: str) -> dict[str, Any]:
        items = [{"kind": "VM", "name": name, "group": "g"} for name in names]
        return {"items": items, "backup_instances": []}

    with Emulator(directory=tmp_path, clock=clock, seed=machines("one", "two")) as azure:
        azure.plan("one", ending="Never")
        jobs = {name: azure.start_job(name) for name in ("one", "two")}
    with Emulator(directory=tmp_path, clock=clock, seed=machines("two")) as azure:
        assert list(azure.service.world.jobs) == [jobs["two"]]
        assert list(azure.service.world.plans) == [azure.service.world.items[0].path]


def test_polling_does_not_push_backups_out_of_the_count(tmp_path: Path) -> None:
    kept = store.FileStore(tmp_path / "state.db")
    log, polls = store.Log(kept), store.REMEMBERED + 2
    for method in ("POST", *["GET"] * polls, "POST"):
        log.add({"method": method, "path": "/x", "status": None})
    numbers = [entry["number"] for entry in log.find()]
    assert numbers == [1, *range(4, polls + 3)]
    assert [entry["number"] for entry in store.Log(kept).find()] == numbers
    assert len(log.find("POST")) == 2
    kept.close()


def test_a_write_torn_in_the_middle_is_as_if_it_had_not_been(tmp_path: Path) -> None:
    kept = store.FileStore(tmp_path / "state.db")
    for number in range(50):
        kept.put("job", str(number), {"text": "x" * 900})
    torn = tmp_path / "torn"
    torn.mkdir()
    for name in ("state.db", "state.db-wal"):
        (torn / name).write_bytes((tmp_path / name).read_bytes())
    with (torn / "state.db-wal").open("r+b") as journal:
        journal.truncate((torn / "state.db-wal").stat().st_size - 100)
    kept.close()
    again = store.FileStore(torn / "state.db")
    assert [int(key) for key in again.all("job")] == list(range(49))
    again.put("job", "49", {})
    assert len(again.all("job")) == 50
    again.close()


class Killable:
    """The emulator as a process of its own, on a port that stays."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.port, self.output = directory, free_port(), ""

    def start(self) -> None:
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "azure_backup_emulator"),
                *("--port", str(self.port), "--directory", str(self.directory), "--speed", "60"),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
        )
        assert self.process.stdout
        lines = [self.process.stdout.readline() for _ in range(3)]
        self.output += "".join(lines)

    def end(self, number: signal.Signals) -> None:
        self.process.send_signal(number)
        self.output += self.process.communicate(timeout=120)[0]


@pytest.fixture
def killable(tmp_path: Path) -> Iterator[Killable]:
    emulator = Killable(tmp_path)
    emulator.start()
    yield emulator
    if emulator.process.poll() is None:
        emulator.end(signal.SIGTERM)


def _token(emulator: Killable, session: requests.Session, secret: str) -> requests.Response:
    connection = json.loads((emulator.directory / "connection.json").read_text())
    form = {"client_id": connection["login"], "client_secret": secret, "scope": SCOPE}
    return session.post(
        f"https://localhost:{emulator.port}/{connection['extra']['tenant_id']}/oauth2/v2.0/token",
        data={**form, "grant_type": "client_credentials"},
        timeout=10,
    )


def test_a_kill_amid_backups_loses_none_that_was_accepted(
    killable: Killable, session: requests.Session
) -> None:
    """Killed four times while one client posts and another lists; what was answered is there afterwards."""
    session.verify = str(killable.directory / "ca.pem")
    secret = json.loads((killable.directory / "connection.json").read_text())["password"]
    session.headers["Authorization"] = f"Bearer {_token(killable, session, secret).json()['access_token']}"
    item = (
        f"{VAULT}/backupFabrics/Azure/protectionContainers/IaasVMContainer;iaasvmcontainerv2;demo-vms;fleet-01"
        "/protectedItems/VM;iaasvmcontainerv2;demo-vms;fleet-01"
    )
    base, version = f"https://localhost:{killable.port}", {"api-version": "2026-07-01"}
    session.post(f"{base}/_emulator/configure", json={"job_read_budget": 7}, timeout=120)
    accepted: list[str] = []
    sent = 0
    for round_ in range(4):
        # The kill comes out of another thread, after the first answer, at a moment no request knows of.
        killer = threading.Timer(0.2 + 0.07 * round_, killable.process.kill)
        try:
            while True:
                sent += 1
                reply = session.post(f"{base}{item}/backup", params=version, json=BODY, timeout=120)
                accepted.append(reply.headers["Azure-AsyncOperation"].partition("?")[0].rpartition("/")[2])
                if not killer.ident:
                    killer.start()
        except requests.ConnectionError:
            pass
        killer.join()
        killable.end(signal.SIGKILL)
        killable.start()
    assert len(accepted) >= 4
    jobs = set()
    for operation in accepted:
        body = session.get(f"{base}{VAULT}/backupOperations/{operation}", params=version, timeout=120).json()
        jobs.add(body["properties"]["jobId"])
    assert len(jobs) == len(accepted)
    state = session.get(f"{base}/_emulator/state", timeout=120).json()
    assert jobs <= {job["id"] for job in state["jobs"]}
    assert len(state["jobs"]) <= sent
    assert state["job_read_budget"] == 7
    posts = {"method": "POST", "path_contains": "/backup"}
    counted = session.get(f"{base}/_emulator/requests", params=posts, timeout=120).json()
    # One that was cut off before it was read counts for nothing, as it does for Azure.
    assert sum(entry["status"] == 202 for entry in counted) >= len(accepted)
    assert len(state["jobs"]) <= len(counted) <= sent


def test_what_it_prints_holds_no_secret_and_no_token(killable: Killable, session: requests.Session) -> None:
    session.verify = str(killable.directory / "ca.pem")
    connection = json.loads((killable.directory / "connection.json").read_text())
    token = _token(killable, session, connection["password"]).json()["access_token"]
    assert _token(killable, session, "wrong-secret-1").status_code == 401
    headers = {"Authorization": f"Bearer {token}"}
    for path in (VAULT, f"{VAULT}/backupJobs?api-version=x&$skipToken=%ff", "/nowhere", "/_emulator/state"):
        session.get(f"https://localhost:{killable.port}{path}", headers=headers, timeout=120)
    trust = ssl.create_default_context(cafile=killable.directory / "ca.pem")
    with (
        socket.create_connection(("localhost", killable.port), timeout=5) as plain,
        trust.wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        secure.sendall(f"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\0\r\n\r\n".encode())
        assert secure.recv(99).startswith(b"HTTP/1.0 400")
    killable.end(signal.SIGKILL)
    killable.start()
    killable.end(signal.SIGTERM)
    kept = sqlite3.connect(killable.directory / "state.db")
    ((key,),) = kept.execute("SELECT value FROM facts WHERE key = 'key'").fetchall()
    kept.close()
    for secret in (connection["password"], token, "wrong-secret-1", json.loads(key)):
        assert secret not in killable.output
    assert killable.output.count("AIRFLOW_CONN_AZURE_BACKUP_DEFAULT=") == 2
    assert "Error handling request" in killable.output

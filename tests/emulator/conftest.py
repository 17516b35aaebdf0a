"""The emulator under a clock that tests move by hand, and a plain HTTPS client for it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import requests

from azure_backup_emulator import Emulator
from tests.support.clock import ManualClock

SUBSCRIPTION = "/subscriptions/00000000-0000-0000-0000-00000000d3a0"
VAULT = f"{SUBSCRIPTION}/resourceGroups/demo-rg/providers/Microsoft.RecoveryServices/vaults/demo-vault"


@pytest.fixture(scope="session")
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(scope="session")
def _server(clock: ManualClock) -> Iterator[Emulator]:
    with Emulator(clock=clock) as azure:
        yield azure


@pytest.fixture
def azure(_server: Emulator) -> Emulator:
    """An emulator as if just started. Its clock stands still; ``clock.advance(seconds)`` moves it."""
    _server.reset()
    return _server


@dataclass
class Client:
    """Requests as a principal of the emulator, with nothing added that a test does not see."""

    azure: Emulator
    session: requests.Session
    principal: str = "operator"

    def token(self, audience: str = "https://management.azure.com") -> str:
        identity = self.azure.service.identity
        return identity.token(identity.principals[self.principal], audience)

    def send(
        self, method: str, path: str, body: Any = None, *, version: str | None = "2026-07-01", **more: Any
    ) -> Any:
        headers = {"Authorization": f"Bearer {self.token()}", **more.pop("headers", {})}
        params = {**({"api-version": version} if version else {}), **more.pop("params", {})}
        url = path if path.startswith("https:") else self.azure.url + path
        data = None if body is None else json.dumps(body)
        return self.session.request(
            method, url, data=data, headers=headers, params=params, timeout=10, **more
        )

    def get(self, path: str, **more: Any) -> Any:
        return self.send("GET", path, **more)

    def post(self, path: str, body: Any = None, **more: Any) -> Any:
        return self.send("POST", path, body, **more)

    def item(self, name: str) -> str:
        """The ARM path of a protected item, by its friendly name."""
        return self.azure.service.world.named(name)[0].path

    def back_up(self, name: str, **properties: Any) -> str:
        """Start a backup; the id of its operation."""
        kind = self.azure.service.world.named(name)[0].workload.backup_request
        reply = self.post(f"{self.item(name)}/backup", {"properties": {"objectType": kind, **properties}})
        assert reply.status_code == 202, reply.text
        return str(reply.headers["Azure-AsyncOperation"].partition("?")[0].rpartition("/")[2])

    def job_of(self, operation: str) -> str:
        return str(self.get(f"{VAULT}/backupOperations/{operation}").json()["properties"]["jobId"])

    def job(self, job_id: str) -> dict[str, Any]:
        found = self.get(f"{VAULT}/backupJobs/{job_id}")
        assert found.status_code == 200, found.text
        properties: dict[str, Any] = found.json()["properties"]
        return properties


@pytest.fixture(scope="session")
def _session(_server: Emulator) -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.verify = _server.ca_bundle
        session.trust_env = False
        yield session


@pytest.fixture
def as_(azure: Emulator, _session: requests.Session) -> Callable[[str], Client]:
    """A client of any principal, by name."""
    return lambda principal: Client(azure=azure, session=_session, principal=principal)


@pytest.fixture
def client(as_: Callable[[str], Client]) -> Client:
    """A client of the principal that may do everything."""
    return as_("operator")


@pytest.fixture
def started(client: Client, clock: ManualClock) -> Callable[..., str]:
    """Start a backup and wait until its job is named; the job's id."""

    def start(name: str, **properties: Any) -> str:
        operation = client.back_up(name, **properties)
        clock.advance(2)
        return client.job_of(operation)

    return start

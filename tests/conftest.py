"""What all tests stand on: an Airflow of their own, and the emulator on a clock that waits move forward."""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

# Airflow reads these once, when it is first imported; a developer's own settings must not decide a test. For
# `make live`, they are the identity that it is to use.
_IDENTITY = () if "LIVE_CONNECTION" in os.environ else ("AZURE_", "IDENTITY_", "MSI_")
for _name in [name for name in os.environ if name.startswith(("AIRFLOW_", *_IDENTITY))]:
    del os.environ[_name]
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="azbackup-tests-")
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
# The emulator is on this machine, whatever proxy leads out of it.
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "localhost,127.0.0.1,::1"
atexit.register(shutil.rmtree, os.environ["AIRFLOW_HOME"], ignore_errors=True)

from airflow_provider_azbackup.hooks import AzureBackupAsyncHook, AzureBackupHook  # noqa: E402  # likewise
from airflow_provider_azbackup.runtime import clock as clocks  # noqa: E402  # after the settings above
from azure_backup_emulator import Emulator  # noqa: E402  # likewise
from tests.support.clock import ManualClock  # noqa: E402  # likewise


class WaitingClock(ManualClock):
    """Time that passes when somebody waits, at once; ``waits`` are the seconds of each wait."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.advance(seconds)

    async def pause(self, seconds: float) -> None:
        self.sleep(seconds)
        await asyncio.sleep(0)


class _Hands:
    """A :class:`WaitingClock` in the form the provider asks for time."""

    def __init__(self, clock: WaitingClock) -> None:
        self.now = clock
        self.sleep, self.pause = clock.sleep, clock.pause


@pytest.fixture(scope="session")
def clock() -> WaitingClock:
    """The time of emulator and provider; ``clock.advance(seconds)`` moves it without a wait."""
    return WaitingClock()


@pytest.fixture(scope="session")
def _server(clock: WaitingClock) -> Iterator[Emulator]:
    with Emulator(clock=clock) as azure:
        yield azure


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Give Airflow a connection, ``azure_backup_default`` unless another id is named."""

    def connect(connection: dict[str, Any], conn_id: str = "azure_backup_default") -> None:
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(connection))

    return connect


@pytest.fixture
def azure(
    _server: Emulator, clock: WaitingClock, connect: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Emulator]:
    """An emulator as if just started, which ``azure_backup_default`` leads to, and nobody waits for real.

    The deployment allows its host.
    """
    _server.reset()
    clock.waits.clear()
    connect(_server.connection())
    monkeypatch.setenv("AIRFLOW__AZURE_BACKUP__ALLOWED_HOSTS", urlsplit(_server.url).netloc)
    with clocks.running_on(_Hands(clock)):
        yield _server


def _call(method: str, *arguments: Any, **options: Any) -> Any:
    with AzureBackupHook() as hook:
        return getattr(hook, method)(*arguments, **options)


def _call_async(method: str, *arguments: Any, **options: Any) -> Any:
    async def call() -> Any:
        async with AzureBackupAsyncHook() as hook:
            return await getattr(hook, method)(*arguments, **options)

    return asyncio.run(call())


@pytest.fixture(params=[_call, _call_async], ids=["blocking", "async"])
def call(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Call a method by its name on a new hook, which is closed again: once of each of the two hooks."""
    return request.param  # type: ignore[no-any-return]  # a request's param is untyped

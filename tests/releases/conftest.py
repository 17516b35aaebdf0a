"""Several Airflows run here at once, and none of them may outlive the tests."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import NoReturn

import pytest

from tests.e2e.evidence import keep_if_failed


@pytest.fixture(scope="session", autouse=True)
def _orderly_end() -> None:
    """Have a SIGTERM, a time limit's say, run the ends of fixtures."""

    def stop(*_: object) -> NoReturn:
        raise KeyboardInterrupt("SIGTERM")

    signal.signal(signal.SIGTERM, stop)


@pytest.fixture(scope="session", autouse=True)
def _evidence(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the logs of a run that fails. This fixture ends last, so they are complete."""
    yield
    keep_if_failed(request, tmp_path_factory)

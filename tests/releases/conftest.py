"""Several Airflows run here at once, and none of them may outlive the tests."""

from __future__ import annotations

import signal
from typing import NoReturn

import pytest


@pytest.fixture(scope="session", autouse=True)
def _orderly_end() -> None:
    """Have a SIGTERM, a time limit's say, run the ends of fixtures."""

    def stop(*_: object) -> NoReturn:
        raise KeyboardInterrupt("SIGTERM")

    signal.signal(signal.SIGTERM, stop)

"""The time, and two ways to let it pass: handed in, so that no test waits for real."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol


class Clock(Protocol):
    """The clock of everything in this package that waits."""

    def now(self) -> float:
        """Return the Unix time in seconds."""

    def sleep(self, seconds: float) -> None:
        """Let ``seconds`` pass in a worker."""

    async def pause(self, seconds: float) -> None:
        """Let ``seconds`` pass on an event loop."""


class SystemClock:
    """The clock of the computer."""

    def now(self) -> float:
        """Return the Unix time in seconds."""
        return time.time()

    def sleep(self, seconds: float) -> None:
        """Block for ``seconds``."""
        time.sleep(seconds)

    async def pause(self, seconds: float) -> None:
        """Suspend the task for ``seconds``."""
        await asyncio.sleep(seconds)


_SYSTEM = SystemClock()
_CURRENT: ContextVar[Clock] = ContextVar("azure_backup_clock", default=_SYSTEM)


def current() -> Clock:
    """Return the clock of this context, the computer's unless another was handed in."""
    return _CURRENT.get()


@contextmanager
def running_on(clock: Clock) -> Iterator[None]:
    """Use ``clock`` for everything in this context."""
    token = _CURRENT.set(clock)
    try:
        yield
    finally:
        _CURRENT.reset(token)

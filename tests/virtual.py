"""Virtual time: an event loop on which hours pass at once, and an Azure without sockets on the same clock."""

from __future__ import annotations

import asyncio
import selectors
from typing import Any, TypeVar

from airflow_provider_azbackup import clock as clocks

T = TypeVar("T")
START = 1_790_000_000.0


class _Selector(selectors.DefaultSelector):  # type: ignore[misc,valid-type]  # chosen at run time
    """Instead of waiting for a time, moves the clock there."""

    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready and timeout:
            self.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time moves only when all its tasks wait."""

    def __init__(self) -> None:
        self.selector = _Selector()
        super().__init__(self.selector)

    def time(self) -> float:
        return self.selector.now


class LoopClock:
    """The time of a virtual loop, in the form the provider asks for it."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def now(self) -> float:
        return START + self._loop.time()

    def sleep(self, seconds: float) -> None:
        raise AssertionError("nothing on the loop may block")

    async def pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def run(main: Any) -> Any:
    """Run ``main(clock)`` on a virtual loop."""
    loop = VirtualLoop()
    clock = LoopClock(loop)
    try:
        with clocks.running_on(clock):
            return loop.run_until_complete(main(clock))
    finally:
        loop.close()

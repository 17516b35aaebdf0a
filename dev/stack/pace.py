"""Limits that follow the speed of the machine: on a slow or busy one, a test may take longer.

A limit is written in seconds of a quiet machine as fast as the one it was written on.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import cache

# CPU seconds that :func:`_sample` takes there.
REFERENCE = 0.05


class Limit:
    """A time that is used up faster when the machine has time for us, and slower when it has not.

    :param seconds: of a quiet machine. What is left of them is counted whenever :attr:`is_over` is read, so a
        loop has to read it in every pass.
    :param clock: returns the time in seconds.
    """

    def __init__(self, seconds: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = self._left = seconds
        self._clock = clock
        self._began = self._seen = clock()

    @property
    def is_over(self) -> bool:
        """Whether the time has been used up."""
        now = self._clock()
        self._left -= (now - self._seen) / slowness()
        self._seen = now
        return self._left < 0

    def __str__(self) -> str:
        passed = self._clock() - self._began
        return f"{passed:.0f} s (the limit is {self.seconds:.0f} s on a quiet machine)"


def slowness() -> float:
    """Return how many seconds the machine takes now for what takes one on the machine of :data:`REFERENCE`.

    It is 1 at the least. The load is that of the last minute, with our own share in it.
    """
    load, _, _ = os.getloadavg()
    return max(1.0, _sample() / REFERENCE) * max(1.0, load / _cores())


def stretch(most: float = 3.0) -> float:
    """Return :func:`slowness`, but no more than ``most``: for a time that is waited for in every run."""
    return min(slowness(), most)


@cache
def _sample() -> float:
    """Return the CPU seconds that a fixed piece of work takes on this machine, whatever else runs there."""

    def once() -> float:
        began = time.process_time()
        sum(number * number % 7 for number in range(600_000))
        return time.process_time() - began

    return min(once() for _ in range(5))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

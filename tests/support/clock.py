"""A clock that moves only when a test moves it."""

from __future__ import annotations


class ManualClock:
    """Unix time, in seconds, that stands still until it is advanced.

    :param start: the first reading. It has a fraction, because Azure's timestamps have seven digits of one.
    """

    def __init__(self, start: float = 1_790_000_000.8490716) -> None:
        self.now = start

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass at once."""
        self.now += seconds

"""How fast jobs may be read: Azure grants few reads, to everybody in a subscription together.

Source: https://learn.microsoft.com/azure/azure-resource-manager/management/request-limits-and-throttling
"""

from __future__ import annotations

import re
from collections.abc import Hashable

from airflow_provider_azbackup.core.wire import Response

# No page documents the limit of `Microsoft.RecoveryServices/vaults/backupJobs/read`. Recorded headers count
# down from 149, 299 or 449, by year; in 2026 they stay at 249. The least is assumed until Azure answers.
USUAL_LIMIT = 150.0
HOUR = 3600.0
# Reads that may follow each other at once: a few waits that fall due together need not queue.
_BURST = 4
# However little is left, one read in ten minutes notices when Azure grants more again.
_LONGEST_GAP = 600.0
_REMAINING = "x-ms-ratelimit-remaining-subscription-resource-requests"
_COUNT = re.compile(r"-?\d{1,9}")
_LIMIT = re.compile(r"exceeded the limit of '(\d{1,9})'")


class Budget:
    """The reads that one identity has in one subscription, by Azure's answers: when is the next one due?

    Azure says with each answer how many reads are left, to all together, until its window of time ends. A
    share is left to people and other tools; what remains is spread over the rest of the window. Two
    triggerers that see the same number shrink slow down together. A number that does not shrink shows that
    Azure grants more, or sooner, than was assumed.

    :param share: the part of the reads to use, above 0 and at most 1.
    :param at: Unix time.
    """

    def __init__(self, share: float, at: float) -> None:
        self.share = share
        self.limit = USUAL_LIMIT
        # The most that was left since the window before: what is granted may also become less.
        self._most = 0.0
        self.window = HOUR
        self.blocked_until = 0.0
        # It may have begun long ago, but not later than now: so it ends within the hour.
        self._window_began = at
        self._booked = at
        # Who reported it, because two vaults may have separate counters.
        self._left: dict[Hashable, float] = {}
        self._refilled: dict[Hashable, float] = {}

    @property
    def left(self) -> float:
        """How many reads are left in the window, to all together."""
        return min(self._left.values(), default=self.limit)

    def gap(self, at: float) -> float:
        """Return the seconds between two reads, as things stand."""
        ours = self.limit * self.share
        # Kept back: a burst for the end of the window, and the one that its beginning may have taken.
        usual = self.window / max(1.0, ours / 2, ours - 2 * _BURST)
        rest, spare = self._window_began + self.window - at, self._spare()
        if spare > 0:
            return min(_LONGEST_GAP, max(usual, rest / spare))
        # The end of the window may be near; if it should have come already, nobody knows when it will.
        return min(_LONGEST_GAP, rest + 1.0) if rest > 0 else _LONGEST_GAP

    def ready_at(self, at: float) -> float:
        """Return the Unix time of the next read."""
        burst = min(_BURST - 1, max(0.0, self._spare() - 1))
        return max(self.blocked_until, self._booked - burst * self.gap(at))

    @property
    def calm_at(self) -> float:
        """Unix time of the next read that leaves the burst to what may come."""
        return max(self.blocked_until, self._booked)

    def _spare(self) -> float:
        """Return what is left of our share, unless others have used it."""
        return self.left - self.limit * (1 - self.share)

    def spend(self, at: float) -> None:
        """Note that a read is sent now."""
        self._booked = max(self._booked, at) + self.gap(at)

    def hear(self, response: Response, source: Hashable) -> None:
        """Learn from an answer how many reads are left, or for how long there are none.

        :param response: the answer.
        :param source: which vault it is about. One vault's answers come one after the other.
        """
        if response.status == 429:
            limit = _LIMIT.search(response.text)
            self.limit = max(1.0, float(limit[1])) if limit else self.limit
            self.window = HOUR
            self.blocked_until = response.at + (response.retry_after or self.gap(response.at))
            self._left, self._refilled = {}, {}
            self._window_began = self.blocked_until
            return
        if _COUNT.fullmatch(stated := response.headers.get(_REMAINING, "")):
            left = max(0.0, float(stated))
            # A 0 that stays one is no new window.
            if 0 < left >= self._left.get(source, left + 1):
                self.limit, self._most = max(self._most, left + 1), 0.0
                self._refill(source, response.at)
            self._left[source] = left
            self._most = max(self._most, left + 1)
            self.limit = max(self.limit, self._most)
            # What was booked at a slower pace, before today's was known or while Azure did not answer, is not
            # waited for; nor is there a second burst.
            self._booked = min(self._booked, response.at + _BURST * self.gap(response.at))

    def _refill(self, source: Hashable, at: float) -> None:
        """Note that a read did not lessen what is left: a new window has begun since the one before."""
        before, self._refilled[source] = self._refilled.get(source), at
        if before is not None:
            window = max(1.0, at - before)
            self.window = HOUR if window > 0.75 * HOUR else window
        self._window_began = at
        self._left = dict.fromkeys(self._left, self.limit)

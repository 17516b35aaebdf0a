"""How fast jobs may be read: Azure grants few reads, to everybody in a subscription together.

Source: https://learn.microsoft.com/azure/azure-resource-manager/management/request-limits-and-throttling
"""

from __future__ import annotations

import re
from contextlib import suppress

from airflow_provider_azbackup.core.wire import Reply

# What was seen of `Microsoft.RecoveryServices/vaults/backupJobs/read`: 150 in a fixed hour, later 250.
USUAL_LIMIT = 150.0
WINDOW = 3600.0
# Reads that may follow each other at once: a few waits that fall due together need not queue.
_BURST = 4
# However little is left, one read in ten minutes notices when Azure grants more again.
_LONGEST_GAP = 600.0
_REMAINING = "x-ms-ratelimit-remaining-subscription-resource-requests"
_LIMIT = re.compile(r"exceeded the limit of '(\d{1,9})'")


class Budget:
    """The reads of one subscription, as Azure's answers tell of them: when is the next one due?

    Azure counts in fixed windows of an hour and says with each answer how many reads are left to all. A share
    of them is left to people and other tools; what remains is spread over the rest of the window. Two
    triggerers that see the same number shrink slow down together.

    :param share: the part of the reads to use, above 0 and at most 1.
    :param at: Unix time.
    """

    def __init__(self, share: float, at: float) -> None:
        self.share = share
        self.limit = USUAL_LIMIT
        self.left = USUAL_LIMIT
        self.blocked_until = 0.0
        # The window may have begun long ago, but no later than now: it ends within the hour.
        self._window_began = at
        self._booked = at

    def gap(self, at: float) -> float:
        """Return the seconds between two reads, as things stand."""
        usable = (self.limit * self.share - _BURST) / WINDOW
        rest = max(1.0, WINDOW - (at - self._window_began) % WINDOW)
        ahead = (self.left - self.limit * (1 - self.share)) / rest
        pace = min(usable, ahead)
        return min(_LONGEST_GAP, 1.0 / pace) if pace > 0 else _LONGEST_GAP

    def ready_at(self, at: float) -> float:
        """Return the Unix time of the next read."""
        return max(self.blocked_until, self._booked - (_BURST - 1) * self.gap(at))

    def spend(self, at: float) -> None:
        """Note that a read is sent now."""
        self._booked = max(self._booked, at) + self.gap(at)

    def hear(self, reply: Reply) -> None:
        """Learn from an answer how many reads are left, or for how long there are none."""
        if reply.status == 429:
            if limit := _LIMIT.search(reply.text):
                self.limit = max(1.0, float(limit[1]))
            self.left = 0.0
            self.blocked_until = reply.at + (reply.retry_after or self.gap(reply.at))
            return
        with suppress(KeyError, ValueError):
            left = max(0.0, float(reply.headers[_REMAINING]))
            if left > self.left + 1:
                # More than before: a new window has begun since, or the first answer tells a larger limit.
                self._window_began = reply.at
            self.limit = max(left + 1, self.limit if left <= self.limit else 0.0)
            self.left = left

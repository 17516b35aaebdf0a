"""Which ends of backups are new: each is told once, however lists lag and however often the watch restarts.

A watch keeps a mark. It holds all that the next list is judged by, so whoever has the mark goes on where the
last one stopped.

Source: https://learn.microsoft.com/azure/backup/backup-azure-arm-userestapi-managejobs
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from airflow_provider_azbackup.core.model.jobs import Job
from airflow_provider_azbackup.core.rest.requests import LONGEST_WINDOW
from airflow_provider_azbackup.core.wire import JsonObject

# How long a job may hide from lists, or show once more as running when its end was told.
LAG = 3600.0
# How long before a watch a backup may have begun whose end it tells.
HEAD_START = 24 * 3600.0
_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Mark:
    """How far a watch has come. All times are Unix times by Azure's clock, all ids in lower case.

    :param began: when the watch began; what ended before is never told.
    :param since: what began before and is not in ``running`` is done with.
    :param told: the ends told in the last hour, and when.
    :param running: the backups that were seen running, and when each began.
    :param sent: ends on their way to Airflow when this was written: they may have arrived.
    """

    began: float
    since: float
    told: Mapping[str, float] = field(default_factory=dict)
    running: Mapping[str, float] = field(default_factory=dict)
    sent: frozenset[str] = frozenset()

    @classmethod
    def begin(cls, at: float) -> Mark:
        """Return the mark of a watch that begins now."""
        return cls(began=at, since=at - HEAD_START)

    @property
    def oldest(self) -> float:
        """The Unix time since which a list has to show the jobs that began."""
        return min(self.since, min(self.running.values(), default=math.inf))

    def sending(self, ends: Iterable[Job]) -> Mark:
        """Return this mark with the ends that are on their way."""
        return replace(self, sent=self.sent.union(map(_key, ends)))

    def is_news_to(self, kept: Mark | None) -> bool:
        """Whether this is worth writing down, when the other was written down last."""
        return (
            kept is None
            or bool(kept.sent)
            or not self.told.keys() <= kept.told.keys()
            or self.running.keys() != kept.running.keys()
            or self.since - kept.since >= LAG / 2
        )

    def to_dict(self) -> JsonObject:
        """Return the mark as plain JSON."""
        return {
            "version": _VERSION,
            "began": self.began,
            "since": self.since,
            # Rounded to the side on which nothing is forgotten too early.
            "told": {key: math.ceil(at) for key, at in self.told.items()},
            "running": {key: math.floor(began) for key, began in self.running.items()},
            "sent": sorted(self.sent),
        }

    @classmethod
    def from_dict(cls, kept: object) -> Mark | None:
        """Read a mark back; None for what is no mark of this release."""
        if not isinstance(kept, dict) or kept.get("version") != _VERSION:
            return None
        try:
            return cls(
                began=float(kept["began"]),
                since=float(kept["since"]),
                told={str(key): float(at) for key, at in kept["told"].items()},
                running={str(key): float(began) for key, began in kept["running"].items()},
                sent=frozenset(map(str, kept["sent"])),
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            return None


def fold(mark: Mark, jobs: Iterable[Job], at: float) -> tuple[Mark, list[Job]]:
    """Take what a list shows.

    :param mark: how far the watch had come.
    :param jobs: all that began since ``mark.oldest``, as far as the list shows them, and perhaps others.
    :param at: Unix time of the list by Azure's clock.
    :return: how far it has come now, and the backups whose ends are new.
    """
    told, running, new = dict(mark.told), dict(mark.running), list[Job]()
    for job in jobs:
        key = _key(job)
        if not job.is_backup:
            running.pop(key, None)  # of a log, it turns out: Azure says so once it has looked
        elif key in told:
            continue  # an older copy of the list may show it as running again
        elif job.is_running:
            running |= {key: job.began} if job.began else {}
        else:
            unsettled = running.pop(key, None) is not None or job.began >= mark.since
            if unsettled and not 0.0 < job.ended < mark.began:
                new.append(job)
                told[key] = max(at, job.began)
    since = max(mark.since, at - LAG)
    return Mark(
        began=mark.began,
        since=since,
        told={key: when for key, when in told.items() if when >= since},
        # What Azure lists no more will not be seen to end.
        running={key: began for key, began in running.items() if began >= at - LONGEST_WINDOW},
    ), new


def _key(job: Job) -> str:
    return job.ref.job_id.casefold()

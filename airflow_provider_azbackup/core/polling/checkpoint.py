"""Which ends of backups are new: each is reported once, also when lists are late or a watch restarts.

A watch saves a checkpoint. It holds everything that the next list is compared with, so that a restarted
watch continues where the last one stopped.

Source: https://learn.microsoft.com/azure/backup/backup-azure-arm-userestapi-managejobs
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from airflow_provider_azbackup.core.model.jobs import Job
from airflow_provider_azbackup.core.rest.requests import LONGEST_WINDOW
from airflow_provider_azbackup.core.wire import JsonObject

# How long a job may hide from lists, or show once more as running when its end was reported.
LAG = 3600.0
# How long before a watch a backup may have begun whose end it reports.
HEAD_START = 24 * 3600.0
_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """How far a watch has come. All times are Unix times by Azure's clock, all ids in lower case.

    :param began: when the watch began; what ended before is never reported.
    :param done_before: what began before and is not in ``running`` is done with.
    :param reported: the ends reported in the last hour, and when.
    :param running: the backups that were seen running, and when each began.
    :param sent: ends on their way to Airflow when this was written: they may have arrived.
    """

    began: float
    done_before: float
    reported: Mapping[str, float] = field(default_factory=dict)
    running: Mapping[str, float] = field(default_factory=dict)
    sent: frozenset[str] = frozenset()

    @classmethod
    def begin(cls, at: float) -> Checkpoint:
        """Return the checkpoint of a watch that begins now."""
        return cls(began=at, done_before=at - HEAD_START)

    @property
    def oldest(self) -> float:
        """The Unix time since which a list has to show the jobs that began."""
        return min(self.done_before, min(self.running.values(), default=math.inf))

    def sending(self, ends: Iterable[Job]) -> Checkpoint:
        """Return this checkpoint with the ends that are on their way."""
        return replace(self, sent=self.sent.union(map(_key, ends)))

    def is_news_to(self, kept: Checkpoint | None) -> bool:
        """Whether this is worth writing down, when the other was written down last."""
        return (
            kept is None
            or bool(kept.sent)
            or not self.reported.keys() <= kept.reported.keys()
            or self.running.keys() != kept.running.keys()
            or self.done_before - kept.done_before >= LAG / 2
        )

    def to_dict(self) -> JsonObject:
        """Return the checkpoint as plain JSON."""
        return {
            "version": _VERSION,
            "began": self.began,
            "done_before": self.done_before,
            # Rounded to the side on which nothing is forgotten too early.
            "reported": {key: math.ceil(at) for key, at in self.reported.items()},
            "running": {key: math.floor(began) for key, began in self.running.items()},
            "sent": sorted(self.sent),
        }

    @classmethod
    def from_dict(cls, kept: object) -> Checkpoint | None:
        """Read a checkpoint back; None for what is no checkpoint of this release."""
        if not isinstance(kept, dict) or kept.get("version") != _VERSION:
            return None
        try:
            return cls(
                began=float(kept["began"]),
                done_before=float(kept["done_before"]),
                reported={str(key): float(at) for key, at in kept["reported"].items()},
                running={str(key): float(began) for key, began in kept["running"].items()},
                sent=frozenset(map(str, kept["sent"])),
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            return None


def advance(checkpoint: Checkpoint, jobs: Iterable[Job], at: float) -> tuple[Checkpoint, list[Job]]:
    """Take what a list shows.

    :param checkpoint: how far the watch had come.
    :param jobs: all that began since ``checkpoint.oldest``, as far as the list shows them, and perhaps
        others.
    :param at: Unix time of the list by Azure's clock.
    :return: how far it has come now, and the backups whose ends are new.
    """
    reported, running, new = dict(checkpoint.reported), dict(checkpoint.running), list[Job]()
    for job in jobs:
        key = _key(job)
        if not job.is_backup:
            running.pop(key, None)  # of a log, it turns out: Azure says so once it has looked
        elif key in reported:
            continue  # an older copy of the list may show it as running again
        elif job.is_running:
            running |= {key: job.began} if job.began else {}
        else:
            unsettled = running.pop(key, None) is not None or job.began >= checkpoint.done_before
            if unsettled and not 0.0 < job.ended < checkpoint.began:
                new.append(job)
                reported[key] = max(at, job.began)
    done_before = max(checkpoint.done_before, at - LAG)
    return Checkpoint(
        began=checkpoint.began,
        done_before=done_before,
        reported={key: when for key, when in reported.items() if when >= done_before},
        # What Azure lists no more will not be seen to end.
        running={key: began for key, began in running.items() if began >= at - LONGEST_WINDOW},
    ), new


def _key(job: Job) -> str:
    return job.ref.job_id.casefold()

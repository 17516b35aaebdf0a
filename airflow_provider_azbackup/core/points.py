"""Recovery points: what a backup leaves behind, and how good it is.

Source: https://learn.microsoft.com/rest/api/backup/recovery-points/list
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from operator import attrgetter
from typing import Any

from airflow_provider_azbackup.core.names import CONSISTENCIES, TIERS
from airflow_provider_azbackup.core.resources import ProtectedItem
from airflow_provider_azbackup.core.wire import JsonObject
from airflow_provider_azbackup.exceptions import AzureBackupNotFoundError

# States of a tier from which a restore can be made now.
_USABLE = frozenset({"valid", "rehydrated", "committed"})
# Other names of tiers: for snapshots, and for what is away from the source or has been.
_LIKE = {
    "IASnapshotRP": "InstantRP",
    "OperationalStore": "InstantRP",
    "SnapshotStore": "InstantRP",
    "ArchivedRP": "HardenedRP",
    "VaultStore": "HardenedRP",
    "ArchiveStore": "HardenedRP",
}
# What lies here only has to be brought back first, which takes hours and its own request.
_ARCHIVES = frozenset({"archivedrp", "archivestore"})
# How many recovery points are told of when none of them will do.
_TELL = 10


@dataclass(frozen=True, kw_only=True)
class RecoveryPoint:
    """One recovery point of a protected item. Times are ISO 8601 in UTC.

    ``time`` is the moment it shows the item as of. ``consistency`` is what Azure says of machines and shares,
    such as ``AppConsistent``; ``backup_type`` what it says of databases, such as ``Full``. ``tiers`` are the
    places it lies in with their states, such as ``("HardenedRP", "Valid")``. ``expiry`` is None where Azure
    names none. ``ranges`` are the stretches of time a database can be restored to by its logs, or blobs to by
    their versions; an entry that stands for nothing else has no ``point_id``.
    """

    item: ProtectedItem
    point_id: str
    time: str | None = None
    consistency: str = ""
    backup_type: str = ""
    tiers: tuple[tuple[str, str], ...] = ()
    expiry: str | None = None
    ranges: tuple[tuple[str, str], ...] = ()
    body: JsonObject = field(default_factory=dict, repr=False, compare=False)

    @property
    def made(self) -> float:
        """Unix time of :attr:`time` by Azure's clock; 0 when it is not told."""
        return datetime.fromisoformat(self.time).timestamp() if self.time else 0.0

    @property
    def path(self) -> str:
        """ARM id of the recovery point."""
        return f"{self.item.path}/recoveryPoints/{self.point_id}"

    @property
    def usable_tiers(self) -> tuple[str, ...]:
        """The tiers that a restore can be made from now."""
        return tuple(tier for tier, state in self.tiers if state.casefold() in _USABLE)

    @property
    def is_restorable(self) -> bool:
        """Whether a restore can be made from it without bringing it back from the archive first."""
        if self.ranges or not self.time:
            return False
        usable = [tier.casefold() for tier in self.usable_tiers]
        brought_back = any(state.casefold() == "rehydrated" for _, state in self.tiers)
        return not self.tiers or brought_back or not _ARCHIVES.issuperset(usable)

    def reaches(self, moment: datetime) -> bool:
        """Whether the logs it stands for reach a moment."""
        return any(first and last and _at(first) <= moment <= _at(last) for first, last in self.ranges)

    def shortcoming(self, *, min_consistency: str | None = None, min_tier: str | None = None) -> str:
        """Say in what it falls short of what is asked for; an empty string when in nothing.

        :param min_consistency: a word of :data:`~airflow_provider_azbackup.core.names.CONSISTENCIES`.
        :param min_tier: a word of :data:`~airflow_provider_azbackup.core.names.TIERS`. An archived point has
            been in the vault.
        """
        if self.tiers and not self.usable_tiers:
            return f"it lies in no tier that can be restored from ({_pairs(self.tiers)})"
        if _rank(CONSISTENCIES, self.consistency) < _rank(CONSISTENCIES, min_consistency or ""):
            return f"its consistency is {self.consistency or 'not told'}, not {min_consistency} or better"
        reached = (_rank(TIERS, _LIKE.get(tier, tier)) for tier in self.usable_tiers)
        if max(reached, default=0) < _rank(TIERS, min_tier or ""):
            return f"it lies in {_pairs(self.tiers) or 'no tier'}, not in {min_tier}"
        return ""

    def facts(self) -> dict[str, Any]:
        """Return it as a plain dict: the XCom ``recovery_point``. A mere moment has no id."""
        return {
            "recovery_point_id": self.point_id or None,
            "arm_id": self.path if self.point_id else None,
            "time": self.time,
            "consistency": self.consistency,
            "backup_type": self.backup_type,
            "tiers": dict(self.tiers),
            "expiry": self.expiry,
        }

    def __str__(self) -> str:
        """One line for a log."""
        kind = self.consistency or self.backup_type
        return f"recovery point {self.point_id} of {self.time}{f' ({kind})' if kind else ''}: " + (
            _pairs(self.tiers) or "no tier told"
        )


def freshest(
    points: Sequence[RecoveryPoint], after: float, *, min_consistency: str | None, min_tier: str | None
) -> RecoveryPoint | None:
    """Return the newest recovery point since a moment that falls short in nothing.

    :param after: Unix time by Azure's clock.
    :param min_consistency: as in :meth:`RecoveryPoint.shortcoming`.
    :param min_tier: likewise.
    """
    good = [
        point
        for point in points
        if point.made >= after and not point.shortcoming(min_consistency=min_consistency, min_tier=min_tier)
    ]
    return max(good, key=attrgetter("made"), default=None)


def choose_point(
    item: ProtectedItem,
    points: Sequence[RecoveryPoint],
    *,
    as_of: datetime | None = None,
    from_archive: bool = False,
) -> RecoveryPoint:
    """Return the newest recovery point that a restore can be made from.

    :param as_of: a moment that it must not be younger than.
    :param from_archive: whether it may lie in the archive alone.
    :raises AzureBackupNotFoundError: when there is none; lists those that are there.
    """
    fit = [
        point
        for point in points
        if (point.is_restorable or (from_archive and point.time and point.usable_tiers))
        and (as_of is None or point.made <= as_of.timestamp())
    ]
    if fit:
        return max(fit, key=attrgetter("made"))
    when = f" of {as_of.isoformat()} or before" if as_of else ""
    raise AzureBackupNotFoundError(
        f"{item.name} has no recovery point{when} that can be restored; {tell_points(points)}"
    )


def choose_range(
    item: ProtectedItem, points: Sequence[RecoveryPoint], moment: datetime, *, what: str = "the logs"
) -> RecoveryPoint:
    """Return the entry whose logs reach a moment.

    :param what: what is kept of the item, in the error.
    :raises AzureBackupNotFoundError: when none does; lists how far they reach.
    """
    for point in points:
        if point.reaches(moment):
            return point
    known = [f"{first} to {last}" for point in points for first, last in point.ranges]
    raise AzureBackupNotFoundError(
        f"{what} of {item.name} do not reach {moment.isoformat()}; "
        f"they reach from {', '.join(known) if known else 'nothing to nothing'}"
    )


def tell_points(points: Sequence[RecoveryPoint]) -> str:
    """Say in a clause which recovery points there are, the newest first."""
    known = sorted(points, key=lambda point: point.time or "", reverse=True)
    more = f" and {len(known) - _TELL} more" if len(known) > _TELL else ""
    return f"there are: {'; '.join(map(str, known[:_TELL]))}{more}" if known else "there are none at all"


def _at(moment: str) -> datetime:
    return datetime.fromisoformat(moment)


def _rank(order: tuple[str, ...], word: str) -> int:
    """Return how far up a word stands, from 1; 0 for none and for one that is newer than the order."""
    return next((at for at, known in enumerate(order, 1) if word.casefold() == known.casefold()), 0)


def _pairs(tiers: tuple[tuple[str, str], ...]) -> str:
    return ", ".join(f"{tier} {state}" for tier, state in tiers)

"""Recovery points: what a backup leaves behind, and how good it is.

Source: https://learn.microsoft.com/rest/api/backup/recovery-points/list
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from airflow_provider_azbackup.core.names import CONSISTENCIES, TIERS
from airflow_provider_azbackup.core.resources import ProtectedItem
from airflow_provider_azbackup.core.wire import JsonObject

# States of a tier from which a restore can be made now.
_USABLE = frozenset({"valid", "rehydrated", "committed"})


@dataclass(frozen=True, kw_only=True)
class RecoveryPoint:
    """One recovery point of a protected item. Times are ISO 8601 in UTC.

    ``time`` is the moment it shows the item as of. ``consistency`` is what Azure says of machines and shares,
    such as ``AppConsistent``; ``backup_type`` what it says of databases, such as ``Full``. ``tiers`` are the
    places it lies in with their states, such as ``("HardenedRP", "Valid")``. ``expiry`` is None where Azure
    names none. ``ranges`` are the stretches of time a database can be restored to by its logs.
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
    def path(self) -> str:
        """ARM id of the recovery point."""
        return f"{self.item.path}/recoveryPoints/{self.point_id}"

    @property
    def usable_tiers(self) -> tuple[str, ...]:
        """The tiers that a restore can be made from now."""
        return tuple(tier for tier, state in self.tiers if state.casefold() in _USABLE)

    def shortcoming(self, *, min_consistency: str | None = None, min_tier: str | None = None) -> str:
        """Say in what it falls short of what is asked for; an empty string when in nothing.

        :param min_consistency: a word of :data:`~airflow_provider_azbackup.core.names.CONSISTENCIES`.
        :param min_tier: a word of :data:`~airflow_provider_azbackup.core.names.TIERS`. An archived point has
            been in the vault.
        """
        if not self.usable_tiers and self.tiers:
            return f"it lies in no tier that can be restored from ({_pairs(self.tiers)})"
        if _rank(CONSISTENCIES, self.consistency) < _rank(CONSISTENCIES, min_consistency or ""):
            return f"its consistency is {self.consistency or 'not told'}, not {min_consistency} or better"
        tiers = max(
            (_rank(TIERS, tier) for tier, state in self.tiers if state.casefold() in _USABLE), default=0
        )
        if tiers < _rank(TIERS, min_tier or ""):
            return f"it lies in {_pairs(self.tiers) or 'no tier'}, not in {min_tier}"
        return ""

    def facts(self) -> dict[str, Any]:
        """Return it as a plain dict: the XCom ``recovery_point``."""
        return {
            "recovery_point_id": self.point_id,
            "arm_id": self.path,
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


def _rank(order: tuple[frozenset[str], ...], word: str) -> int:
    """Return how far up a word stands, from 1; 0 for none and for one that is newer than the order."""
    return next((at for at, words in enumerate(order, 1) if word.casefold() in words), 0)


def _pairs(tiers: tuple[tuple[str, str], ...]) -> str:
    return ", ".join(f"{tier} {state}" for tier, state in tiers)

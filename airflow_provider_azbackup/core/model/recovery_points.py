"""Recovery points: what a backup makes, and whether one is good enough.

Only this module decides that. :meth:`RecoveryPoint.shortcoming` is asked by the gates,
:attr:`RecoveryPoint.loss` and :attr:`RecoveryPoint.damage` by restores.

Source: https://learn.microsoft.com/rest/api/backup/recovery-points/list
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from operator import attrgetter
from types import MappingProxyType
from typing import Any

from airflow_provider_azbackup.core.model.jobs import Job, Outcome
from airflow_provider_azbackup.core.model.resources import ProtectedItem
from airflow_provider_azbackup.core.model.workloads import AKS, CONSISTENCIES, TIERS
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
# A recovery point that lies only here has to be brought back first, which takes hours and its own request.
_ARCHIVES = frozenset({"archivedrp", "archivestore"})
# The results of Azure's scan for malware, in lower case, and whether a gate accepts them. Unknown,
# NotAvailable and an empty text mean that nothing was scanned, because the scan is not switched on. A word
# that is missing here is newer than this table and keeps the gate shut.
THREATS = MappingProxyType(
    {"": True, "unknown": True, "notavailable": True, "healthy": True, "warning": False, "unhealthy": False}
)
# How many recovery points an error lists.
MOST_LISTED = 10
# The name, in lower case, under which a VM's job lists the disks that the backup left out.
_EXCLUDED = "excluded disk(s)"


@dataclass(frozen=True, kw_only=True)
class RecoveryPoint:
    """One recovery point of a protected item. Times are ISO 8601 in UTC.

    ``time`` is the moment it shows the item as of. ``consistency`` is what Azure says of VMs and shares, such
    as ``AppConsistent``; ``backup_type`` what it says of databases, such as ``Full``. ``tiers`` are the
    places it lies in with their states, such as ``("HardenedRP", "Valid")``. ``expiry`` is None where Azure
    names none. ``ranges`` are the stretches of time a database can be restored to by its logs, or blobs to by
    their versions; an entry that stands for nothing else has no ``point_id``.

    ``state`` is ``Completed`` or ``Partial`` and empty where Azure does not say; ``threat_status`` likewise
    one of :data:`THREATS`, and ``threats`` are the titles of the threats that are not resolved.
    ``disks_included``, ``disks_attached`` and ``excluded_disks`` are about a VM whose disks were chosen;
    Azure leaves them out of the recovery point of a whole VM. ``seen_at`` is Unix time by Azure's clock, or
    else by this computer's, of the answer that showed the recovery point.
    """

    item: ProtectedItem
    point_id: str
    time: str | None = None
    consistency: str = ""
    backup_type: str = ""
    tiers: tuple[tuple[str, str], ...] = ()
    expiry: str | None = None
    ranges: tuple[tuple[str, str], ...] = ()
    state: str = ""
    is_deleted: bool = False
    threat_status: str = ""
    threats: tuple[str, ...] = ()
    disks_included: int | None = None
    disks_attached: int | None = None
    excluded_disks: tuple[str, ...] = ()
    seen_at: float = field(default=0.0, compare=False)
    body: JsonObject = field(default_factory=dict, repr=False, compare=False)

    @property
    def unix_time(self) -> float:
        """Unix time of :attr:`time` by Azure's clock; 0 where Azure names none."""
        return _at(self.time).timestamp() if self.time else 0.0

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

    @property
    def is_expired(self) -> bool:
        """Whether its expiry had passed when it was read.

        An expiry before the recovery point's own time does not count: Azure has cut it to its day.
        """
        return self.expiry is not None and self.unix_time < _at(self.expiry).timestamp() <= self.seen_at

    @property
    def loss(self) -> str:
        """Why it may be gone or unusable; an empty string if nothing says so."""
        if self.is_deleted:
            return "Azure has marked it as deleted"
        if self.is_expired:
            return f"it expired at {self.expiry}"
        if self.tiers and not self.usable_tiers:
            return f"it lies in no tier that can be restored from ({_pairs(self.tiers)})"
        return ""

    @property
    def damage(self) -> str:
        """Why its content is incomplete or infected, according to Azure; an empty string if it is not."""
        if self.state.casefold() == "partial":
            return "Azure marks it as partial: only some of what was to be backed up is in it"
        if self.state.casefold() not in ("", "completed"):
            return f"Azure gives its state as {self.state}, not Completed"
        found = f" ({'; '.join(self.threats[:3])})" if self.threats else ""
        if not THREATS.get(self.threat_status.casefold(), False):
            return f"Azure gives its threat status as {self.threat_status}{found}"
        return f"Azure reports a threat in it{found}" if found else ""

    def reaches(self, moment: datetime) -> bool:
        """Whether the logs it stands for reach a moment."""
        return any(first and last and _at(first) <= moment <= _at(last) for first, last in self.ranges)

    def has_reached(self, tier: str) -> bool:
        """Whether it can be restored from a tier, or from one that is farther from the source.

        :param tier: a word of :data:`~airflow_provider_azbackup.core.model.workloads.TIERS`. An archived
            recovery point has been in the vault.
        """
        reached = (_rank(TIERS, _LIKE.get(each, each)) for each in self.usable_tiers)
        return max(reached, default=0) >= _rank(TIERS, tier)

    def shortcoming(
        self,
        *,
        min_consistency: str | None = None,
        min_tier: str | None = None,
        require_all_disks: bool = False,
        job: Job | None = None,
    ) -> str:
        """Return why it is no proof, or less than was asked for; an empty string if it is good enough.

        :param min_consistency: a word of
            :data:`~airflow_provider_azbackup.core.model.workloads.CONSISTENCIES`.
        :param min_tier: as in :meth:`has_reached`.
        :param require_all_disks: refuse a backup that left out disks of a VM or volumes of a cluster.
        :param job: the backup that made it, where that is known.
        """
        if flaw := self.loss or self.damage:
            return flaw
        if require_all_disks and (missing := left_out(self, job) or self._unknown_volumes(job)):
            return missing
        if _rank(CONSISTENCIES, self.consistency) < _rank(CONSISTENCIES, min_consistency or ""):
            return f"its consistency is {self.consistency or 'not known'}, not {min_consistency} or better"
        if min_tier and not self.has_reached(min_tier):
            return f"it lies in {_pairs(self.tiers) or 'no tier'}, not in {min_tier}"
        return ""

    def _unknown_volumes(self, job: Job | None) -> str:
        if job is None and self.item.vault.is_backup_vault:
            return "only the job of a backup reports volumes that were left out, and the job is not known"
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
            "state": self.state,
            "threat_status": self.threat_status,
            "disks_included": self.disks_included,
            "disks_attached": self.disks_attached,
            "excluded_disks": [*self.excluded_disks],
        }

    def __str__(self) -> str:
        """One line for a log."""
        kind = self.consistency or self.backup_type
        return f"recovery point {self.point_id} of {self.time}{f' ({kind})' if kind else ''}: " + (
            _pairs(self.tiers) or "no tier named"
        )


def left_out(point: RecoveryPoint | None, job: Job | None = None) -> str:
    """Return what a backup left out: disks of a VM, volumes of a cluster. Empty if nothing is known.

    :param point: the recovery point, where one was read: it counts the disks of a VM.
    :param job: the backup; read by itself, not from a list, which holds neither its details nor its warnings.

    Source: https://learn.microsoft.com/azure/backup/selective-disk-backup-restore
    """
    # A list of recovery points counts the disks and does not name them; the VM's job does, with semicolons.
    bag = next((value for name, value in job.details if name.casefold() == _EXCLUDED), "") if job else ""
    names = ", ".join(point.excluded_disks if point else ()) or bag.strip().replace("; ", ", ")
    named = f"left out: {names}" if names and names.casefold() != "none" else ""
    included, attached = (point.disks_included, point.disks_attached) if point else (None, None)
    if included is not None and attached is not None and included < attached:
        return "; ".join(filter(None, (f"{included} of {attached} attached disks are in it", named)))
    if named or job is None:
        return f"disks were {named}" if named else ""
    if job.backup_management_type.casefold() == AKS and (job.errors or job.outcome is Outcome.WARNED):
        warnings = "; ".join(map(str, job.errors)) or "its warnings are not known"
        return f"the backup of the cluster ended with warnings, so volumes may have been left out: {warnings}"
    return ""


def newest_sufficient(
    points: Sequence[RecoveryPoint],
    after: float,
    *,
    min_consistency: str | None,
    min_tier: str | None,
    require_all_disks: bool = False,
) -> tuple[RecoveryPoint | None, list[str]]:
    """Return the newest recovery point since a moment that falls short in nothing, and why newer ones do.

    :param after: Unix time by Azure's clock.
    :param min_consistency: as in :meth:`RecoveryPoint.shortcoming`.
    :param min_tier: as there.
    :param require_all_disks: as there.
    """
    passed_over: list[str] = []
    for point in sorted(points, key=attrgetter("unix_time"), reverse=True):
        if point.unix_time < after or not point.time:
            break
        flaw = point.shortcoming(
            min_consistency=min_consistency, min_tier=min_tier, require_all_disks=require_all_disks
        )
        if not flaw:
            return point, passed_over
        passed_over.append(f"{point}, but {flaw}")
    return None, passed_over


_ARCHIVED = "it has to be brought back from the archive first"


def choose_recovery_point(
    item: ProtectedItem,
    points: Sequence[RecoveryPoint],
    *,
    as_of: datetime | None = None,
    from_archive: bool = False,
) -> tuple[RecoveryPoint, list[str]]:
    """Return the newest recovery point that a restore should be made from, and why newer ones are not taken.

    One that Azure marks as deleted, expired, partial or infected is never taken.

    :param as_of: a moment that it must not be younger than.
    :param from_archive: whether it may lie in the archive alone.
    :raises AzureBackupNotFoundError: if there is none; lists those that are there.
    """
    passed_over: list[str] = []
    for point in sorted(points, key=attrgetter("unix_time"), reverse=True):
        if not point.time or (as_of is not None and point.unix_time > as_of.timestamp()):
            continue
        flaw = point.loss or point.damage
        if not flaw and not point.is_restorable and not (from_archive and point.usable_tiers):
            flaw = _ARCHIVED
        if not flaw:
            return point, passed_over
        passed_over.append(f"{point}, but {flaw}")
    when = f" of {as_of.isoformat()} or before" if as_of else ""
    where, copied = "", ""
    if region := item.vault.secondary:
        where = f" in {region.name}"
        copied = ". Azure copies only recovery points in the vault to that region, up to 36 hours later"
    raise AzureBackupNotFoundError(
        f"{item.label} has no recovery point{when}{where} that can be restored; "
        f"{describe_recovery_points(points)}{copied}"
    )


def choose_restorable_range(
    item: ProtectedItem, points: Sequence[RecoveryPoint], moment: datetime, *, what: str = "the logs"
) -> RecoveryPoint:
    """Return the entry whose logs reach a moment.

    :param what: what is kept of the item, in the error.
    :raises AzureBackupNotFoundError: if none does; lists how far they reach.
    """
    for point in points:
        if point.reaches(moment) and not (point.loss or point.damage):
            return point
    known = ", ".join(f"{first} to {last}" for point in points for first, last in point.ranges)
    raise AzureBackupNotFoundError(
        f"{what} of {item.label} do not reach {moment.isoformat()}; "
        f"{f'they reach from {known}' if known else 'no range of time is listed'}"
    )


def describe_recovery_points(points: Sequence[RecoveryPoint]) -> str:
    """Return a clause that lists recovery points, the newest first, and what is wrong with each."""
    known = sorted(points, key=lambda point: point.time or "", reverse=True)
    more = f" and {len(known) - MOST_LISTED} more" if len(known) > MOST_LISTED else ""
    each = (f"{p}{f' ({flaw})' if (flaw := _flaw(p)) else ''}" for p in known[:MOST_LISTED])
    return f"there are: {'; '.join(each)}{more}" if known else "there are none at all"


def _flaw(point: RecoveryPoint) -> str:
    is_archived = point.usable_tiers and not point.ranges and not point.is_restorable
    return point.loss or point.damage or (_ARCHIVED if is_archived else "")


def _at(moment: str) -> datetime:
    return datetime.fromisoformat(moment)


def _rank(order: tuple[str, ...], word: str) -> int:
    """Return how far up a word stands, from 1; 0 for none and for one that is newer than the order."""
    return next((at for at, known in enumerate(order, 1) if word.casefold() == known.casefold()), 0)


def _pairs(tiers: tuple[tuple[str, str], ...]) -> str:
    return ", ".join(f"{tier} {state}" for tier, state in tiers)

"""The record of what has opened a gate."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, get_args, get_type_hints

from airflow_provider_azbackup.core.model.jobs import Job, warning_codes
from airflow_provider_azbackup.core.model.recovery_points import RecoveryPoint, left_out
from airflow_provider_azbackup.core.model.resources import ProtectedItem
from airflow_provider_azbackup.core.model.validation import StartedBy

VERSION = 1
# Characters of a text in a proof, and how many codes of warnings it holds: less than 32 KiB in all.
LONGEST_TEXT = 1000
MOST_WARNINGS = 20


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What an open gate rests on: the XCom ``proof``. Times are ISO 8601 in UTC; None where nothing is known.

    A text is cut to :data:`LONGEST_TEXT` characters and holds no control characters, and there are no more
    than :data:`MOST_WARNINGS` codes of warnings, so the whole is smaller than 32 KiB.

    :param item_id: ARM id of the protected item.
    :param item: its name in the job, or the last part of its ARM id.
    :param vault_id: ARM id of the vault.
    :param operation: what the job has done, in Azure's word: ``Backup``, ``Backup (Full)``, ``Restore``, ...
    :param job_id: id of the job; None where a recovery point alone has opened the gate.
    :param started_by: ``this task``, ``adopted`` or ``found``.
    :param began: when the job began, by Azure's clock.
    :param ended: when it ended; None for a snapshot whose transfer goes on.
    :param recovery_point_id: id of the recovery point, where one was read.
    :param recovery_point_time: the moment that it shows the item as of.
    :param tier: the tiers that it can be restored from, separated by commas.
    :param consistency: what Azure says of a VM or a share, such as ``AppConsistent``.
    :param expiry: when the recovery point expires.
    :param disks_included: how many disks of a VM are in it.
    :param disks_attached: how many disks the VM has.
    :param left_out: what the backup is known to have left out: disks of a VM, volumes of a cluster.
    :param threat_status: what Azure's scan says of the recovery point.
    :param warnings: the codes of the warnings that were accepted.
    :param age_at_start_seconds: how much older the backup is than this attempt of the task: the start of the
        attempt minus the time of the recovery point, or minus the start of the job where none was read.
    """

    item_id: str | None = None
    item: str | None = None
    vault_id: str | None = None
    operation: str | None = None
    job_id: str | None = None
    started_by: StartedBy = "found"
    began: str | None = None
    ended: str | None = None
    recovery_point_id: str | None = None
    recovery_point_time: str | None = None
    tier: str | None = None
    consistency: str | None = None
    expiry: str | None = None
    disks_included: int | None = None
    disks_attached: int | None = None
    left_out: str | None = None
    threat_status: str | None = None
    warnings: tuple[str, ...] = ()
    age_at_start_seconds: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain JSON with its ``version``. Keys may be added; it goes up when one changes."""
        facts = {each.name: getattr(self, each.name) for each in fields(self)}
        return {"version": VERSION, **facts, "warnings": [*self.warnings]}

    @classmethod
    def from_dict(cls, stored: object) -> Proof | None:
        """Read it back; None for anything that :meth:`to_dict` of this version has not returned."""
        if not isinstance(stored, dict) or type(stored.get("version")) is not int:
            return None
        if stored["version"] != VERSION or stored.get("started_by") not in get_args(StartedBy):
            return None
        known: dict[str, Any] = {each.name: stored.get(each.name) for each in fields(cls)}
        warnings = known.pop("warnings")
        if not isinstance(warnings, list) or not all(isinstance(code, str) for code in warnings):
            return None
        for name, hint in get_type_hints(cls).items():
            kinds = tuple(kind for kind in get_args(hint) if isinstance(kind, type))
            if name in known and name != "started_by" and not isinstance(known[name], kinds):
                return None
        return cls(**known, warnings=tuple(warnings))

    def __str__(self) -> str:
        """One line for a log."""
        vault = (self.vault_id or "").rpartition("/")[2]
        job = f"job {self.job_id} ({self.started_by}) from {self.began} to {self.ended or 'later'}"
        point = f"recovery point {self.recovery_point_id} of {self.recovery_point_time}"
        words = (self.tier, self.consistency, f"expires {self.expiry}" if self.expiry else None)
        disks = f"{self.disks_included} of {self.disks_attached} disks"
        parts = (
            f"{self.operation or 'Backup'} of {self.item or 'an unnamed item'} in vault {vault}",
            job if self.job_id else "",
            point if self.recovery_point_id else "",
            *(word for word in words if word),
            disks if self.disks_included is not None and self.disks_attached is not None else "",
            f"left out: {self.left_out}" if self.left_out else "",
            f"warnings accepted: {', '.join(self.warnings)}" if self.warnings else "",
            self._age(),
        )
        return ", ".join(part for part in parts if part)

    def _age(self) -> str:
        age = self.age_at_start_seconds
        if age is None:
            return ""
        return f"{abs(age):.0f} s {'older' if age > 0 else 'newer'} than the start of this attempt"


def prove(
    job: Job | None,
    point: RecoveryPoint | None,
    item: ProtectedItem | None,
    *,
    started_by: StartedBy,
    attempt_began: float | None,
) -> Proof:
    """Make the record of what has opened a gate.

    :param job: the job; None where a recovery point alone has opened it.
    :param point: the recovery point, where one was read.
    :param item: what they are of, where that is known.
    :param started_by: who started the job.
    :param attempt_began: Unix time by Azure's clock at which this attempt of the task began; None where that
        is not known.
    """
    item = item or (point.item if point else None)
    facts = {**_facts_of_item(item), **_facts_of_job(job), **_facts_of_point(point)}
    if item and job:
        # The item's ARM id is certain, and the name in the job is the one that people know.
        facts |= {"item_id": item.path, "item": job.item or item.name}
    made = (point.unix_time if point else 0.0) or (job.began if job else 0.0)
    warnings = warning_codes(job)[:MOST_WARNINGS] if job else []
    proved: dict[str, Any] = {
        **{name: _clean(text) for name, text in facts.items()},
        "started_by": started_by,
        "disks_included": point.disks_included if point else None,
        "disks_attached": point.disks_attached if point else None,
        "left_out": _clean(left_out(point, job)),
        "warnings": tuple(_clean(code) or "" for code in warnings),
        "age_at_start_seconds": round(attempt_began - made, 3) if attempt_began and made else None,
    }
    return Proof(**proved)


def _facts_of_item(item: ProtectedItem | None) -> dict[str, str | None]:
    return {"item_id": item.path, "item": item.name, "vault_id": item.vault.path} if item else {}


def _facts_of_job(job: Job | None) -> dict[str, str | None]:
    if job is None:
        return {}
    return {
        "item_id": job.item_id,
        "item": job.item,
        "vault_id": job.ref.vault.path,
        "operation": job.operation,
        "job_id": job.ref.job_id,
        "began": job.start_time,
        "ended": job.end_time,
    }


def _facts_of_point(point: RecoveryPoint | None) -> dict[str, str | None]:
    if point is None:
        return {}
    return {
        "recovery_point_id": point.point_id,
        "recovery_point_time": point.time,
        "tier": ", ".join(point.usable_tiers),
        "consistency": point.consistency,
        "expiry": point.expiry,
        "threat_status": point.threat_status,
    }


def _clean(text: str | None) -> str | None:
    """Return a text without control characters and cut to its limit; None for nothing."""
    if not text:
        return None
    return "".join(each if each.isprintable() else " " for each in text[:LONGEST_TEXT])

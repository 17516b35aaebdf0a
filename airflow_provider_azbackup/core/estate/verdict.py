"""The verdict about an estate: why each item is not fresh, counted and bounded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any

from airflow_provider_azbackup.core.model.json_safe import clean, cut, iso_time
from airflow_provider_azbackup.core.model.validation import check_version
from airflow_provider_azbackup.exceptions import AzureBackupError

VERSION = 1
# How many items a verdict describes, how many ids it lists, and how many vaults that cannot be read. A mapped
# task takes 1,024 ids at most, unless Airflow is configured otherwise.
MOST_ITEMS = 200
MOST_IDS = 1000
MOST_UNREADABLE = 50
_LONGEST_TEXT = 300
_LONGEST_ID = 1000
# How many items an error or a log line names.
_MOST_NAMED = 5


class Reason(Enum):
    """Why an item is fresh or not. Those that a person has to look at come first."""

    UNREADABLE = "unreadable"
    FAILED = "failed"
    CANCELLED = "cancelled"
    WARNED = "warned"
    INSUFFICIENT = "insufficient"
    SOFT_DELETED = "soft_deleted"
    NOT_PROTECTED = "not_protected"
    STOPPED = "stopped"
    NEVER_TRIED = "never_tried"
    RUNNING = "running"
    FRESH = "fresh"

    @property
    def words(self) -> str:
        """The reason in a sentence."""
        return self.value.replace("_", " ")


_ORDER = {reason: place for place, reason in enumerate(Reason)}
# A wait that met nothing else may be forgiven, because no backup went wrong.
FORGIVABLE = frozenset({Reason.FRESH, Reason.RUNNING, Reason.NEVER_TRIED, Reason.STOPPED})


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What was found of one item.

    :param item: its ARM id, or what was written in ``protected_items`` and names nothing.
    :param name: its friendly name.
    :param vault: the name of its vault.
    :param reason: why it is fresh or not.
    :param code: Azure's error code of a backup that failed.
    :param detail: more about the reason, for people.
    :param job_id: the job that the reason is about.
    :param last_good: ISO 8601 time of the last good backup that is known.
    :param expected_end: ISO 8601 time at which the running backup will probably have ended.
    """

    item: str
    name: str
    vault: str
    reason: Reason
    code: str | None = None
    detail: str | None = None
    job_id: str | None = None
    last_good: str | None = None
    expected_end: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain JSON with texts of a limited length."""
        texts = {name: _short(value) for name, value in asdict(self).items() if name != "reason"}
        return {**texts, "item": cut(clean(self.item), _LONGEST_ID), "reason": self.reason.value}

    def __str__(self) -> str:
        why = ": ".join(part for part in (self.code, self.detail) if part)
        return f"{self.name} in {self.vault} ({self.reason.words}{f', {why}' if why else ''})"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How an estate stands.

    :param at: Unix time.
    :param counts: how many items there are of each reason.
    :param codes: how many items failed with each code.
    :param findings: what was found of items that are not fresh, the most telling first; may be cut.
    :param ids: ARM ids of items that are not fresh; may be cut.
    :param unreadable: vaults and subscriptions that could not be read, with the error of each; may be cut.
    :param unreadable_total: how many there are.
    """

    at: float
    counts: Mapping[Reason, int]
    codes: Mapping[str, int] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    ids: tuple[str, ...] = ()
    unreadable: tuple[tuple[str, str], ...] = ()
    unreadable_total: int = 0

    @classmethod
    def of(
        cls,
        findings: Iterable[Finding],
        *,
        at: float,
        counts: Mapping[Reason, int],
        codes: Mapping[str, int],
        unreadable: Mapping[str, str],
    ) -> Verdict:
        """Make a verdict.

        :param findings: of all items that are not fresh.
        :param at: Unix time.
        :param counts: of all items.
        :param codes: of all failed items.
        :param unreadable: the error of each vault and subscription that could not be read.
        """
        ordered = sorted(findings, key=lambda each: (_ORDER[each.reason], each.vault, each.name, each.item))
        return cls(
            at=at,
            counts=dict(counts),
            codes=dict(Counter(codes).most_common(MOST_ITEMS)),
            findings=tuple(ordered[:MOST_ITEMS]),
            ids=tuple(each.item for each in ordered[:MOST_IDS]),
            unreadable=tuple([*unreadable.items()][:MOST_UNREADABLE]),
            unreadable_total=len(unreadable),
        )

    @property
    def total(self) -> int:
        """How many items the scope has."""
        return sum(self.counts.values())

    @property
    def missing(self) -> int:
        """How many of them are not fresh."""
        return self.total - self.counts.get(Reason.FRESH, 0)

    def opens(self, allow: float) -> bool:
        """Whether the gate may open. What could not be read is never allowed.

        :param allow: how many items may be missing, or as a float which share of all.
        """
        unread = self.unreadable_total or self.counts.get(Reason.UNREADABLE, 0)
        return self.total > 0 and not unread and self.missing <= self.allowed(allow)

    def allowed(self, allow: float) -> float:
        """Return how many items may be missing.

        :param allow: as for :meth:`opens`.
        """
        # A hair more, because 0.29 of 100 is less than 29 to a computer.
        return allow * self.total + 1e-6 if isinstance(allow, float) else allow

    @property
    def is_forgivable(self) -> bool:
        """Whether nothing but time was missing."""
        return not self.unreadable_total and FORGIVABLE.issuperset(
            reason for reason, count in self.counts.items() if count
        )

    @property
    def is_blind(self) -> bool:
        """Whether something could not be read, and nothing else is wrong."""
        others = {reason for reason, count in self.counts.items() if count} - {Reason.UNREADABLE}
        return not self.is_forgivable and FORGIVABLE.issuperset(others)

    def digest(self) -> dict[str, Any]:
        """Return the numbers of it, for events of assets."""
        whole = self.to_dict()
        return {name: whole[name] for name in ("version", "at", "total", "missing", "counts", "codes")}

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain JSON with its ``version``. Keys may be added; it goes up when one changes."""
        return {
            "version": VERSION,
            "at": iso_time(self.at),
            "total": self.total,
            "missing": self.missing,
            "counts": {reason.value: self.counts.get(reason, 0) for reason in Reason},
            "codes": {_short(code): count for code, count in self.codes.items()},
            "items": [each.to_dict() for each in self.findings],
            "items_left_out": self.missing - len(self.findings),
            "ids": [cut(clean(each), _LONGEST_ID) for each in self.ids],
            "ids_left_out": self.missing - len(self.ids),
            "unreadable": {cut(clean(name), _LONGEST_ID): _short(text) for name, text in self.unreadable},
            "unreadable_left_out": self.unreadable_total - len(self.unreadable),
        }

    @classmethod
    def from_dict(cls, stored: object, *, at: float) -> Verdict:
        """Read it back.

        :param at: Unix time of the verdict.
        :raises AzureBackupError: for anything that :meth:`to_dict` of this version has not returned: no gate
            may open on what cannot be read.
        """
        stored = check_version(stored, VERSION, what="the verdict", otherwise="this is not a verdict")
        try:
            found = cls(
                at=at,
                counts={Reason(word): _count(number) for word, number in stored["counts"].items()},
                codes={str(code): _count(number) for code, number in stored["codes"].items()},
                findings=tuple(
                    Finding(**{**each, "reason": Reason(each["reason"])}) for each in stored["items"]
                ),
                ids=tuple(map(str, stored["ids"])),
                unreadable=tuple((str(name), str(text)) for name, text in stored["unreadable"].items()),
                unreadable_total=len(stored["unreadable"]) + _count(stored["unreadable_left_out"]),
            )
            totals = _count(stored["total"]), _count(stored["missing"])
            left = _count(stored["items_left_out"]), _count(stored["ids_left_out"])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise AzureBackupError(f"a verdict cannot be read: {type(error).__name__}: {error}") from None
        listed = len(found.findings) + left[0], len(found.ids) + left[1]
        if totals != (found.total, found.missing) or listed != (found.missing, found.missing):
            raise AzureBackupError(f"a verdict contradicts itself: {str(stored['counts'])[:200]}")
        return found

    def __str__(self) -> str:
        """One line for a log: the counts, the codes, what could not be read."""
        others = [reason for reason in Reason if reason is not Reason.FRESH and self.counts.get(reason)]
        counts = ", ".join(f"{self.counts[reason]} {reason.words}" for reason in others)
        codes = ", ".join(f"{code} ({count})" for code, count in [*self.codes.items()][:_MOST_NAMED])
        unread = "; ".join(
            f"{name.rpartition('/')[2]}: {text}" for name, text in self.unreadable[:_MOST_NAMED]
        )
        parts = (
            f"{self.counts.get(Reason.FRESH, 0)} of {self.total} items are fresh",
            counts,
            f"codes: {codes}" if codes else "",
            f"{self.unreadable_total} vaults or subscriptions cannot be read: {unread}" if unread else "",
        )
        return ". ".join(part for part in parts if part)

    @property
    def first_missing(self) -> str:
        """The first items that are not fresh, with why, for an error."""
        named = "; ".join(map(str, self.findings[:_MOST_NAMED]))
        more = self.missing - len(self.findings[:_MOST_NAMED])
        return f"{named}{f'; and {more} more' if more > 0 else ''}"


def lateness(
    verdict: Verdict | None, ends: Sequence[float], *, expected_by: float, now: float
) -> dict[str, Any]:
    """Return in words and times why an estate counts as late.

    :param verdict: how it stands; None if that is not known.
    :param ends: Unix times at which backups that run are likely to end, of those that end too late.
    :param expected_by: Unix time by which it should be fresh.
    :param now: Unix time.
    """
    last = iso_time(max(ends)) if ends else None
    if now >= expected_by:
        missing = f", and {verdict.missing} of {verdict.total} items are not fresh" if verdict else ""
        message = f"the backups were expected by {iso_time(expected_by)}{missing}"
    else:
        message = (
            f"the backups are expected by {iso_time(expected_by)}, but {len(ends)} of them are likely to end "
            f"later, the last one at {last}"
        )
    return {
        "message": message,
        "expected_by": iso_time(expected_by),
        "expected_end": last,
        "expected_late": None,
    }


def _short(text: Any) -> Any:
    return cut(clean(text), _LONGEST_TEXT) if isinstance(text, str) else text


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r} is no count")
    return value

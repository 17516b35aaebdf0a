"""Which protected items a verdict is about, and what each of them must prove."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any

from airflow_provider_azbackup.core.model.arm_ids import decoded, match_vault
from airflow_provider_azbackup.core.model.workloads import MANAGEMENT_TYPES, management_type_of
from airflow_provider_azbackup.core.rest.responses import FoundItem
from airflow_provider_azbackup.exceptions import AzureBackupError


@dataclass(frozen=True, kw_only=True)
class Scope:
    """The items of an estate: those of some vaults, narrowed by what they are.

    Everything that is compared with Azure's words is compared without regard to case, except the values of
    tags.

    :param vaults: ARM ids of vaults of either type.
    :param subscriptions: ids of subscriptions, all vaults of which belong to the scope.
    :param policies: names of backup policies; empty for all.
    :param workloads: kinds of items: ``VM``, ``SQLDataBase``, or the type of a backup instance's data source
        such as ``Microsoft.Compute/disks``; empty for all.
    :param states: protection states; empty for all.
    :param tags: tags that an item must have. A tag that an item does not have itself is that of its vault.
    :param protected_items: the items themselves, by ARM id, ARM id of the VM, or name; empty for all.
    :param exclude: items that do not belong to the scope, named likewise, and ARM ids of vaults.
    """

    vaults: tuple[str, ...] = ()
    subscriptions: tuple[str, ...] = ()
    policies: tuple[str, ...] = ()
    workloads: tuple[str, ...] = ()
    states: tuple[str, ...] = ()
    tags: tuple[tuple[str, str], ...] = ()
    protected_items: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain JSON."""
        return {**{name: [*value] for name, value in asdict(self).items()}, "tags": dict(self.tags)}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Scope:
        """Read it back. A key that is missing selects nothing by it."""
        named = {each.name: tuple(stored.get(each.name) or ()) for each in fields(cls)}
        return cls(**{**named, "tags": tuple((stored.get("tags") or {}).items())})

    @cached_property
    def _excluded(self) -> frozenset[str]:
        return _folded(self.exclude)

    @cached_property
    def named(self) -> dict[str, str]:
        """What was written in :attr:`protected_items`, by its folded form."""
        return {_fold(text): text for text in self.protected_items}

    @cached_property
    def _words(self) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
        return _folded(self.policies), _folded(self.workloads), _folded(self.states)

    def has_vault(self, path: str) -> bool:
        """Whether a vault is not excluded.

        :param path: its ARM id.
        """
        return path.casefold() not in self._excluded

    def has(self, found: FoundItem, vault_tags: Collection[tuple[str, str]]) -> bool:
        """Whether an item belongs to the scope.

        :param vault_tags: the tags of its vault.
        """
        names = names_of(found)
        if not self._excluded.isdisjoint(names):
            return False
        if self.named:
            return not self.named.keys().isdisjoint(names)
        policies, workloads, states = self._words
        return (
            (not policies or found.policy.casefold() in policies)
            and (not workloads or workload_of(found).casefold() in workloads)
            and (not states or found.state.casefold() in states)
            and self._has_tags(found, vault_tags)
        )

    def _has_tags(self, found: FoundItem, vault_tags: Collection[tuple[str, str]]) -> bool:
        if not self.tags:
            return True
        tags = {name.casefold(): value for name, value in (*vault_tags, *found.tags)}
        return all(tags.get(name.casefold()) == value for name, value in self.tags)

    @property
    def management_types(self) -> tuple[str, ...]:
        """The backup management types whose lists hold items of the scope."""
        workloads = self._words[1]
        if self.named or not workloads:
            return MANAGEMENT_TYPES
        known = {_management_type(word) for word in workloads}
        return tuple(each for each in MANAGEMENT_TYPES if each in known)

    def __str__(self) -> str:
        words = {
            "policy": self.policies,
            "workload": self.workloads,
            "state": self.states,
            "tags": [f"{name}={value}" for name, value in self.tags],
            "protected_items": self.protected_items,
        }
        return (
            "; ".join(f"{name} {', '.join(value)}" for name, value in words.items() if value) or "all items"
        )


def _management_type(workload: str) -> str:
    try:
        return management_type_of(workload)
    except KeyError:
        return ""  # the type of a data source in a Backup vault


def names_of(found: FoundItem) -> frozenset[str]:
    """Return all that may name an item, folded: its ARM id, that of what it protects, its names."""
    friendly = found.friendly_name.casefold()
    return frozenset(
        {
            found.item.path.casefold(),
            _fold(found.source_id),
            friendly,
            f"{friendly} [{found.server.casefold()}]",
            found.item.name.casefold(),
        }
    ) - {""}


def workload_of(found: FoundItem) -> str:
    """Return the kind of an item: the first part of its name, or the type of its data source."""
    return found.source_type or found.item.name.partition(";")[0]


def _fold(text: str) -> str:
    return decoded(text).rstrip("/").casefold()


def _folded(texts: Collection[str]) -> frozenset[str]:
    return frozenset(map(_fold, texts))


def names_vault(text: str) -> bool:
    """Whether a text is the ARM id of a vault."""
    return match_vault(text.rstrip("/")) is not None


@dataclass(frozen=True, kw_only=True)
class Condition:
    """What every item must prove, and how many may fall short.

    :param after: Unix time by Azure's clock since which the backup must have begun, or since which there must
        be a recovery point.
    :param by_point: whether a recovery point is the proof, however its backup ended.
    :param accept_warnings: which warnings are accepted: all, none, or those with these codes.
    :param require_recovery_point: whether the recovery point of the backup is read.
    :param min_consistency: the least consistency of the recovery point.
    :param min_tier: the tier that it must have reached.
    :param require_all_disks: whether a backup that left out disks falls short.
    :param allow: how many items may fall short, or as a float below 1 which share of them.
    """

    after: float
    by_point: bool = False
    accept_warnings: bool | tuple[str, ...] = False
    require_recovery_point: bool = False
    min_consistency: str | None = None
    min_tier: str | None = None
    require_all_disks: bool = False
    allow: float = 0

    @property
    def wants_points(self) -> bool:
        """Whether recovery points are read of every item."""
        return self.by_point or self.require_recovery_point

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain JSON."""
        accepted = self.accept_warnings
        return {**asdict(self), "accept_warnings": accepted if isinstance(accepted, bool) else [*accepted]}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Condition:
        """Read it back.

        :raises AzureBackupError: for what :meth:`to_dict` has not returned.
        """
        try:
            accepted = stored["accept_warnings"]
            accepted = accepted if isinstance(accepted, bool) else tuple(accepted)
            return cls(**{**stored, "accept_warnings": accepted})
        except (KeyError, TypeError) as error:
            raise AzureBackupError(f"a condition cannot be read: {error}") from None

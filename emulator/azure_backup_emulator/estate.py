"""A seed for a whole estate: many vaults in several subscriptions, and items that each had a night."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from azure_backup_emulator.model.jobs import Json
from azure_backup_emulator.seed import DEFAULT

# What became of last night's backup, of each 100 items.
NIGHTS: Mapping[str, int] = {
    "Completed": 88,
    "Failed": 3,
    "CompletedWithWarnings": 2,
    "Cancelled": 1,
    "running": 3,
    "never tried": 1,
    "stopped": 2,
}
# Every fourth vault is a Backup vault.
_BACKUP_VAULT_EVERY = 4
# What a vault contains, by share: the kind, the first word of the name, the policy (empty: one of three), and
# the fewest and the most seconds of a backup.
_ITEMS = (
    *[("VM", "vm", "", (600, 5400))] * 14,
    *[("SQLDataBase", "sql", "", (60, 1200))] * 3,
    *[("AzureFileShare", "share", "", (3, 60))] * 2,
    ("SAPHanaDatabase", "hana", "", (60, 1800)),
)
_INSTANCES = (
    *[("Disk", "disk", "disk-policy", (90, 900))] * 7,
    *[("PostgreSQL", "postgres", "pg-policy", (60, 1200))] * 2,
    ("AKS", "aks", "aks-policy", (120, 1200)),
)
_TIERS = ("tier-1", "tier-2", "tier-3")  # the policies of Recovery Services vaults
_HOUR, _DAY = 3600.0, 86400.0


def estate(*, vaults: int, items: int, subscriptions: int = 1) -> Json:
    """Return a seed with this many vaults and items. The same numbers always give the same estate.

    Every fourth vault is a Backup vault. The items are spread evenly over the vaults. Last night's backups
    began 2 to 8 hours before the start and ended as ``NIGHTS`` says; what still runs began in the last half
    hour. The backups of the night before all completed.

    :param vaults: how many vaults, of both types.
    :param items: how many protected items and backup instances.
    :param subscriptions: how many subscriptions the vaults are spread over.
    :raises ValueError: if a number is out of range.
    """
    if not 1 <= subscriptions <= vaults <= 1000 or not 0 <= items <= 100_000:
        raise ValueError(
            f"an estate has 1 to 1,000 vaults, at most as many subscriptions, and at most 100,000 items; not "
            f"{vaults} vaults, {subscriptions} subscriptions and {items} items"
        )
    named = [_vault(number, vaults, subscriptions) for number in range(vaults)]
    kinds = [(number + 1) % _BACKUP_VAULT_EVERY == 0 for number in range(vaults)]
    seed: Json = {"vaults": [], "items": [], "backup_vaults": [], "backup_instances": []}
    for vault, is_backup_vault in zip(named, kinds, strict=True):
        seed["backup_vaults" if is_backup_vault else "vaults"].append(vault)
    endings: list[str] = []
    for number in range(items):
        chance = random.Random(f"estate {number}")
        if not endings:  # a new hundred
            endings = [word for word, share in NIGHTS.items() for _ in range(share)]
            chance.shuffle(endings)
        place = number % vaults
        item = _item(number, named[place]["name"], kinds[place], endings.pop(), chance)
        seed["backup_instances" if kinds[place] else "items"].append(item)
    return seed


def _vault(number: int, vaults: int, subscriptions: int) -> Json:
    place = number * subscriptions // vaults
    subscription = f"00000000-0000-0000-0000-{place + 1:012}" if place else DEFAULT["subscription_id"]
    return {
        "name": f"vault-{number + 1:02}",
        "group": "estate-rg",
        "subscription": subscription,
        "tags": {"environment": "test" if number % 5 == 4 else "production"},
    }


def _item(number: int, vault: str, is_backup_vault: bool, night: str, chance: random.Random) -> Json:
    kind, word, policy, (least, most) = chance.choice(_INSTANCES if is_backup_vault else _ITEMS)
    name = f"{word}-{number + 1:05}"
    item: Json = {
        "kind": kind,
        "name": name,
        "group": "estate-data",
        "vault": vault,
        "policy": policy or chance.choice(_TIERS),
        "jobs": _jobs(night, chance, least, most),
    }
    if kind in ("SQLDataBase", "AzureFileShare", "SAPHanaDatabase", "PostgreSQL"):
        host = "files" if kind == "AzureFileShare" else f"{word}-host-"
        item["parent"] = f"{host}{number + 1:05}"
    if night == "stopped":
        item["state"] = "ProtectionStopped"
    return item


def _jobs(night: str, chance: random.Random, least: float, most: float) -> Sequence[Json]:
    """Return the backups of an item, oldest first."""
    ago, first, second = chance.uniform(2 * _HOUR, 8 * _HOUR), *(chance.uniform(least, most) for _ in "12")
    before: Json = {"ago": ago + _DAY, "seconds": first}
    if night == "never tried":
        return ()
    if night == "stopped":
        return ({**before, "ago": ago + 3 * _DAY},)
    if night == "running":
        ago = chance.uniform(60, _HOUR / 2)
        return before, {"ago": ago, "seconds": ago + chance.uniform(_HOUR / 4, 2 * _HOUR)}
    return before, {"ago": ago, "seconds": second, "ending": night}

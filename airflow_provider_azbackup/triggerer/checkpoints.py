"""Where a watch keeps how far it has come: with the asset on Airflow 3.3, in a Variable on 3.0 to 3.2.

The asset state store is Airflow's own place for that. Below 3.3 a trigger can save nothing but Variables.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from hashlib import sha256
from typing import Any, Protocol

from airflow_provider_azbackup.runtime.compat import (
    IS_AIRFLOW_3,
    keeps_asset_states,
    read_variable,
    write_variable,
)

# Renaming either would restart every watch.
KEY = "azure_backup_events"
_VARIABLE = "azure_backup_events_{}"


class CheckpointStore(Protocol):
    """What keeps the checkpoint of one watch; each method may raise whatever Airflow raises."""

    async def load(self) -> Any:
        """Return what was kept last, None when there is nothing."""

    async def save(self, value: Any) -> None:
        """Keep a value of plain JSON in place of the last one."""


class NoStore:
    """Keeps nothing: Airflow below 3.0, or a trigger that no asset is watched with."""

    async def load(self) -> Any:
        """Return None."""
        return None

    async def save(self, value: Any) -> None:
        """Forget it."""


class AssetStore:
    """Keeps it in the asset state store, Airflow 3.3 and later.

    :param stores: the trigger's own: one, unless several assets are watched with equal triggers, which
        Airflow runs as one (apache/airflow issue 71460).
    """

    def __init__(self, stores: Iterable[Any]) -> None:
        self._stores = [*stores]

    async def load(self) -> Any:
        """Return the first that there is: they are all the same, but for an asset that came later."""
        for store in self._stores:
            if (found := await store.aget(KEY)) is not None:
                return found
        return None

    async def save(self, value: Any) -> None:
        """Keep it with every asset."""
        for store in self._stores:
            await store.aset(KEY, value)


class VariableStore:
    """Keeps it in an Airflow Variable, named by what is watched.

    :param path: class path of the trigger.
    :param arguments: its arguments; Airflow runs equal triggers as one.
    """

    def __init__(self, path: str, arguments: dict[str, Any]) -> None:
        watched = json.dumps([path, arguments], sort_keys=True)
        self.name = _VARIABLE.format(sha256(watched.encode()).hexdigest()[:16])

    async def load(self) -> Any:
        """Return what the Variable holds; None when there is none, or no JSON in it."""
        found = await read_variable(self.name)
        try:
            return None if found is None else json.loads(found)
        except (TypeError, ValueError):
            return None

    async def save(self, value: Any) -> None:
        """Write the Variable."""
        text = "How far a watch of Azure Backup has reported the ends of backups; see the docs on events."
        await write_variable(self.name, json.dumps(value), text)


def store_of(trigger: Any) -> CheckpointStore:
    """Return where a trigger can save its checkpoint, on the Airflow that runs it.

    :param trigger: with ``serialize`` and, on Airflow 3.3, the ``asset_state_store`` that Airflow gave it.
    """
    if not IS_AIRFLOW_3:
        return NoStore()
    if keeps_asset_states():
        accessors = getattr(trigger, "asset_state_store", None)
        return AssetStore(_single(accessors)) if accessors is not None else NoStore()
    return VariableStore(*trigger.serialize())


def _single(accessors: Any) -> list[Any]:
    """Take accessors of several assets apart; Airflow 3.3 has no public way to do that."""
    by_asset = {**getattr(accessors, "_by_name", {}), **getattr(accessors, "_by_uri", {})}
    return [by_asset[name] for name in sorted(by_asset)] or [accessors]

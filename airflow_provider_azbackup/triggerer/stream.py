"""The one stream of lists that all watches on a vault share, on an Airflow that reports what it has stored.

Apart from the watches, as Airflow below 3.3 has nothing to import here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from importlib import import_module
from typing import TYPE_CHECKING, Any

from airflow.triggers.shared_stream import AdvanceItem, SharedStreamProducer

if TYPE_CHECKING:
    from airflow_provider_azbackup.triggerer.watches import SharedList


class Stream(SharedStreamProducer):
    """Lists the jobs of a vault for all watches on it.

    :param where: what a :class:`~airflow_provider_azbackup.triggerer.watches.WatchedVault` is made of.
    """

    def __init__(self, where: dict[str, Any]) -> None:
        self._where = where

    async def open_stream(self) -> AsyncIterator[tuple[SharedList, SharedList]]:
        """Yield each list, twice: for the watches, and to come back when their events are stored."""
        await asyncio.to_thread(import_module, "airflow_provider_azbackup.triggerer.watches")
        from airflow_provider_azbackup.triggerer.watches import WatchedVault, follow

        async with aclosing(follow(WatchedVault(**self._where))) as lists:
            async for shared in lists:
                yield shared, shared

    async def advance(self, batch: Sequence[AdvanceItem]) -> None:
        """Have the watches write down how far they have come with lists whose events are stored.

        Where Airflow has given up on a watch it does not say on which: then nobody writes. The others do so
        with the next list, and that one begins again where it was.
        """
        for item in batch:
            if not item.outcome.failed:
                await item.broker_payload.save()

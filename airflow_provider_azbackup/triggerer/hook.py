"""The hook of the triggerer: what the shared poller and the watches do with Azure beyond the public hook."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Self

from airflow_provider_azbackup.core.conversations import retry
from airflow_provider_azbackup.hooks import AzureBackupAsyncHook
from airflow_provider_azbackup.runtime import clock

if TYPE_CHECKING:
    from airflow_provider_azbackup.core.conversations.matching import JobMatcher
    from airflow_provider_azbackup.core.settings import Settings
    from airflow_provider_azbackup.core.wire import Answer, Request
    from airflow_provider_azbackup.exceptions import AzureBackupError


class TriggererHook(AzureBackupAsyncHook):
    """The public hook for an event loop, and more. Parameters are those of the public hook."""

    async def open(self, *, until: Callable[[], float], notice: Callable[[AzureBackupError], None]) -> Self:
        """Read the connection and make a client, with a patience of the caller's.

        :param until: returns the Unix time to which a connection that cannot be read is asked for again.
        :param notice: is called with the error of each try that has failed.
        :return: this hook; ``__aexit__`` closes it.
        :raises AzureBackupConfigError: when the connection is wrong, or not visible here until then.
        :raises AzureBackupTransientError: when it cannot be read for another reason.
        """
        await self._open(until=until, notice=notice)
        return self

    async def read_settings(
        self, *, until: Callable[[], float], notice: Callable[[AzureBackupError], None]
    ) -> Settings:
        """Read the connection and make no client; parameters and errors are those of :meth:`open`."""
        return await self._read(await self._connection(until, notice))

    async def read(self, request: Request) -> Answer:
        """Send one read, and return what came of it."""
        return await self._open_driver().answer(request)

    async def find_subject(self, protected_item: str, *, deadline: float) -> JobMatcher:
        """Find a protected item, and what its jobs call it.

        :param protected_item: as in ``AzureBackupHook.resolve_protected_item``.
        :param deadline: Unix time to which faults that may pass are waited out.
        :raises AzureBackupConfigError: when jobs do not distinguish it from another item.
        """
        now = clock.current().now()
        return await self._play(
            retry.retry_until(lambda: self._subject(protected_item), since=now, until=deadline)
        )

"""Resource Graph for the shared poller: asked once a minute, it shows which vaults and jobs to read first."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass

from airflow_provider_azbackup.core.polling.scout import Scout, Sighting
from airflow_provider_azbackup.core.polling.vault_poll import VaultPoll
from airflow_provider_azbackup.exceptions import AzureBackupError
from airflow_provider_azbackup.runtime import clock as clocks
from airflow_provider_azbackup.triggerer.hook import TriggererHook

log = logging.getLogger(__name__)


@dataclass
class VaultLoop:
    """The reads of one vault, the task that makes them, and what wakes it."""

    poll: VaultPoll
    task: asyncio.Task[None]
    wake: asyncio.Event


class Scouting:
    """Asks Resource Graph about all vaults of a poller, and has them read sooner where it shows something.

    :param hook: of the poller.
    :param clock: the time of the waits.
    :param vaults: those that are read, by their path in lower case.
    """

    def __init__(self, hook: TriggererHook, clock: clocks.Clock, vaults: Mapping[str, VaultLoop]) -> None:
        self._hook, self._clock, self._vaults = hook, clock, vaults
        self._scout = Scout(clock.now())
        self._reported = False

    def helps(self) -> bool:
        """Return whether Resource Graph has answered lately."""
        return self._scout.helps(self._clock.now())

    async def run(self) -> None:
        """Ask from time to time, until the task is cancelled."""
        with clocks.running_on(self._clock):
            while True:
                interval = min((each.poll.interval for each in self._vaults.values()), default=math.inf)
                await self._clock.pause(self._scout.pause(interval, self._clock.now()))
                try:
                    await self._sweep()
                except Exception as error:  # whatever it is, the usual reads go on
                    log.exception("Asking Resource Graph failed")
                    self._scout.record_failure(AzureBackupError(f"{type(error).__name__}: {error}"))
                self._report()

    async def _sweep(self) -> None:
        flow = self._scout.sweep(self._clock.now(), [each.poll.vault for each in self._vaults.values()])
        shown: dict[str, list[Sighting]] = {}
        try:
            call = next(flow)
            while True:
                if call.delay:
                    await self._clock.pause(call.delay)
                call = flow.send(await self._hook.read(call))
        except StopIteration as end:
            for each in end.value:
                shown.setdefault(each.vault, []).append(each)
        for key, sightings in shown.items():
            vault_loop = self._vaults.get(key)
            if vault_loop and vault_loop.poll.take_hints(sightings, self._clock.now()):
                vault_loop.wake.set()
            await asyncio.sleep(0)

    def _report(self) -> None:
        """Log when Resource Graph stops or resumes helping, and let nobody wait for it."""
        if self.helps():
            if self._reported and not self._scout.fault:
                self._reported = False
                log.info("Resource Graph helps again to find jobs that have ended")
            return
        for vault_loop in self._vaults.values():
            vault_loop.wake.set()
        if not self._reported:
            self._reported = True
            log.warning(
                "Resource Graph does not help to find jobs that have ended, so vaults are listed as usual: "
                "%s. It needs no more rights than Reader on the vaults. Set resource_graph to false in the "
                "extra of connection %r to stop asking it",
                self._scout.fault,
                self._hook.settings.conn_id,
            )

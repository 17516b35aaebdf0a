"""A small Azure Backup on this machine: real HTTPS, real sign-in, emulated vaults.

What Azurite is for storage: tests, demos and DAG authors talk to it instead of Azure. It knows nothing of the
provider it ships with and shares no words with it, so a misspelt word in one is not excused by the other.

Use :class:`Emulator` from Python, or ``python -m airflow_provider_azbackup.emulator`` from a shell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_azbackup.emulator.server import Emulator

__all__ = ["Emulator"]


def __getattr__(name: str) -> object:
    # aiohttp and cryptography cost a fifth of a second; who only imports the package does not pay for them.
    if name == "Emulator":
        from airflow_provider_azbackup.emulator.server import Emulator

        return Emulator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""Azure Backup's REST API on your own computer, with HTTPS, sign-in and emulated vaults.

It is what Azurite is for storage: tests, demos and DAG authors send their requests to it instead of Azure. It
imports nothing of ``airflow-provider-azbackup`` and shares no constants with it, so that a misspelt word in
one of the two fails a test.

Use :class:`Emulator` from Python, or ``azure-backup-emulator`` from a shell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from azure_backup_emulator.server import Emulator

__all__ = ["Emulator", "__version__"]

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    # Importing aiohttp and cryptography takes a fifth of a second, so it waits until the class is used.
    if name == "Emulator":
        from azure_backup_emulator.server import Emulator

        return Emulator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

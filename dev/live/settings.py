"""The environment variables of a run against a vault. Each action names the item that it may touch."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class SettingsError(Exception):
    """A variable is missing or cannot be used; the message says which and what was expected."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The variables, read. Their names are those of the fields in capitals, after ``LIVE_``.

    :param connection: an Airflow connection, read from the file that ``LIVE_CONNECTION`` names.
    :param item: what is looked up; empty takes the first item that the vault lists.
    :param back_up: what is backed up on demand; empty backs up nothing.
    :param cancel: what is backed up on demand and cancelled at once; empty cancels nothing.
    :param restore: a file share of which ``restore_files`` are restored; empty restores nothing.
    :param restore_files: paths of files in that share, separated by commas.
    :param restore_folder: the folder of the same share into which they are restored.
    :param poll_seconds: seconds between two reads of a job.
    :param hours: how long one job may take.
    :param directory: where the report and the recording are written.
    """

    connection: Mapping[str, Any]
    item: str = ""
    back_up: str = ""
    cancel: str = ""
    restore: str = ""
    restore_files: tuple[str, ...] = ()
    restore_folder: str = ""
    poll_seconds: float = 60.0
    hours: float = 24.0
    directory: Path = Path("build/live")

    @classmethod
    def read(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        """Read the variables.

        :raises SettingsError: naming the variable.
        """
        given = {
            name: environment.get(f"LIVE_{name.upper()}", "").strip() for name in cls.__dataclass_fields__
        }
        files = tuple(part.strip() for part in given["restore_files"].split(",") if part.strip())
        if given["restore"] and not (files and given["restore_folder"]):
            raise SettingsError(
                "LIVE_RESTORE names a file share, but LIVE_RESTORE_FILES or LIVE_RESTORE_FOLDER is empty. "
                "Name the files to restore and the folder of the share that they go to"
            )
        return cls(
            connection=_connection(given["connection"]),
            item=given["item"],
            back_up=given["back_up"],
            cancel=given["cancel"],
            restore=given["restore"],
            restore_files=files,
            restore_folder=given["restore_folder"],
            poll_seconds=_positive("POLL_SECONDS", given["poll_seconds"], cls.poll_seconds),
            hours=_positive("HOURS", given["hours"], cls.hours),
            directory=Path(given["directory"]) if given["directory"] else cls.directory,
        )

    @property
    def secrets(self) -> tuple[str, ...]:
        """What of the connection may stand in no file: its secret and its ids."""
        extra = self.connection.get("extra") or {}
        ids = ("tenant_id", "subscription_id", "managed_identity_client_id", "workload_identity_tenant_id")
        return (
            str(self.connection.get("login") or ""),
            str(self.connection.get("password") or ""),
            *(str(extra.get(name) or "") for name in ids),
        )


def _connection(path: str) -> Mapping[str, Any]:
    expected = (
        "expected a file with an Airflow connection as JSON, of type azure_backup, with a vault in its extra"
    )
    if not path:
        raise SettingsError(f"LIVE_CONNECTION is empty; {expected}")
    try:
        found = json.loads(Path(path).read_bytes())
    except (OSError, ValueError) as error:
        # The text of a JSON error shows no part of the file.
        raise SettingsError(f"LIVE_CONNECTION {path!r} cannot be read ({error}); {expected}") from None
    if not isinstance(found, dict) or not isinstance(found.get("extra"), dict):
        raise SettingsError(f"LIVE_CONNECTION {path!r} holds no object with an object 'extra'; {expected}")
    return found


def _positive(name: str, text: str, default: float) -> float:
    try:
        found = float(text or default)
    except ValueError:
        found = 0.0
    if not 0 < found < float("inf"):
        raise SettingsError(f"LIVE_{name} is {text!r}; expected a number above 0, such as {default:g}")
    return found

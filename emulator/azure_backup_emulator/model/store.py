"""The state that survives a kill: every change is written to one file before its response is sent.

A write reaches the operating system but not the disk. A killed process loses nothing, but a power failure
may. SQLite undoes a write that a kill interrupted when the file is opened again.
"""

from __future__ import annotations

import json
import sqlite3
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

LASTING = "lasting"  # keys and certificates, which a reset keeps
REMEMBERED = 20_000


class Store:
    """A store that keeps nothing, for an emulator without a directory."""

    def put(self, kind: str, key: str, value: Any) -> None:
        """Store a JSON value, replacing the old value of the key."""

    def all(self, kind: str) -> dict[str, Any]:
        """Return the stored values of a kind by key, oldest key first."""
        return {}

    def drop(self, kind: str, key: str | None = None) -> None:
        """Delete a key, or all keys of a kind."""

    def clear(self) -> None:
        """Delete everything except keys and certificates."""

    def close(self) -> None:
        """Close the file."""

    def lasting(self, key: str, make: Callable[[], str], good: Callable[[str], bool] = bool) -> str:
        """Return the stored secret if it is good, otherwise a new one, which is stored."""
        kept: str = self.all(LASTING).get(key, "")
        if not good(kept):
            kept = make()
            self.put(LASTING, key, kept)
        return kept


class FileStore(Store):
    """Values in a SQLite file that only its owner can read. Calls must not overlap.

    :raises OSError: if another emulator has the file open, or it is not such a file.
    """

    def __init__(self, path: Path) -> None:
        path.touch(mode=0o600)
        path.chmod(0o600)  # it may be a copy that others can read
        self._base = sqlite3.connect(path, timeout=1, isolation_level=None, check_same_thread=False)
        try:
            for setting in ("locking_mode = EXCLUSIVE", "journal_mode = WAL", "synchronous = OFF"):
                self._base.execute(f"PRAGMA {setting}").close()
            self._base.execute(
                "CREATE TABLE IF NOT EXISTS facts (kind TEXT, key TEXT, value TEXT, PRIMARY KEY (kind, key))"
            )
        except sqlite3.DatabaseError as error:
            self._base.close()
            raise OSError(f"{path} cannot be used; does another emulator have it open? ({error})") from error

    def put(self, kind: str, key: str, value: Any) -> None:
        self._base.execute(
            "INSERT INTO facts VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value",
            (kind, key, json.dumps(value)),
        )

    def all(self, kind: str) -> dict[str, Any]:
        rows = self._base.execute("SELECT key, value FROM facts WHERE kind = ? ORDER BY rowid", (kind,))
        return {key: json.loads(value) for key, value in rows}

    def drop(self, kind: str, key: str | None = None) -> None:
        self._base.execute("DELETE FROM facts WHERE kind = ? AND key = ifnull(?, key)", (kind, key))

    def clear(self) -> None:
        self._base.execute("DELETE FROM facts WHERE kind != ?", (LASTING,))

    def close(self) -> None:
        self._base.close()


class Log:
    """The last 20,000 reads and the last 20,000 other requests.

    They are kept apart, because tests count backups and polling must not push them out.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._books: dict[bool, deque[dict[str, Any]]] = {True: deque(), False: deque()}
        self._number = 0
        for entry in store.all("request").values():
            self._books[entry["method"] == "GET"].append(entry)
            self._number = max(self._number, entry["number"])

    def add(self, entry: dict[str, Any]) -> None:
        """Record a request, and number it."""
        self._number += 1
        entry["number"] = self._number
        book = self._books[entry["method"] == "GET"]
        book.append(entry)
        self.keep(entry)
        if len(book) > REMEMBERED:
            self._store.drop("request", str(book.popleft()["number"]))

    def keep(self, entry: dict[str, Any]) -> None:
        """Store a request as it is now."""
        self._store.put("request", str(entry["number"]), entry)

    def find(
        self, method: str | None = None, path_contains: str | None = None, status: int | str | None = None
    ) -> list[dict[str, Any]]:
        """Return copies of the requests with this method, this text in their path and this status, oldest
        first.
        """
        found = [
            dict(entry)
            for book in self._books.values()
            for entry in book
            if method in (None, entry["method"])
            and (path_contains or "").lower() in entry["path"].lower()
            and (status is None or str(status) == str(entry["status"]))
        ]
        return sorted(found, key=lambda entry: entry["number"])

"""Recorded traffic as tests read it: exchanges by what they are, and the shape of a JSON value."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SHARED = Path(__file__).resolve().parents[3] / "shared"
RECORDINGS = SHARED / "recordings"
EXAMPLES = SHARED / "spec-examples"

needs_recordings = pytest.mark.skipif(not RECORDINGS.is_dir(), reason="../shared/recordings is not here")


def exchanges(name: str) -> list[dict[str, Any]]:
    """The exchanges of one recording."""
    found: list[dict[str, Any]] = json.loads((RECORDINGS / f"{name}.json").read_text())["exchanges"]
    return found


def replies(name: str, method: str, part: str) -> Iterator[dict[str, Any]]:
    """The responses to requests of a method whose address, without query, contains ``part``."""
    for each in exchanges(name):
        if each["request"]["method"] == method and part in each["request"]["uri"].partition("?")[0]:
            yield each["response"]


def jobs(name: str) -> list[dict[str, Any]]:
    """The bodies of the job GETs of a recording that were answered with 200."""
    return [r["body"] for r in replies(name, "GET", "/backupJobs/") if r["status"] == 200]


def example(name: str, status: str = "200") -> Any:
    """The body of an official example."""
    found = json.loads((EXAMPLES / f"{name}.json").read_text())
    return found["responses"][status]["body"]


def shape(value: Any) -> Any:
    """What a JSON value looks like: keys and types, lists by their members' shapes."""
    if isinstance(value, dict):
        return {key: shape(each) for key, each in sorted(value.items())}
    if isinstance(value, list):
        found = [shape(each) for each in value]
        return [each for index, each in enumerate(found) if each not in found[:index]]
    return type(value).__name__


def without(value: Any, *keys: str) -> Any:
    """A copy of a JSON value without these keys, wherever they are."""
    if isinstance(value, dict):
        return {key: without(each, *keys) for key, each in value.items() if key not in keys}
    return [without(each, *keys) for each in value] if isinstance(value, list) else value

"""Make values safe to write to Airflow's database as JSON: clean text of a limited length, and finite
numbers.

Airflow keeps events, XComs and task state as JSON in its database. PostgreSQL rejects a NUL and half of a
surrogate pair in it, and JSON cannot express a number that is not finite. One such value in a trigger's event
stops the triggerer.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from typing import Any

# In characters: the longest text that is read from one field of a response, and the longest message of an
# error.
LONGEST_TEXT = 2_000
LONGEST_MESSAGE = 10_000
# How many entries of a list in a job are read: errors, phases, details.
MOST_ENTRIES = 50
# Control characters other than tab and line breaks, and halves of surrogate pairs.
_UNWRITABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


def clean(text: str) -> str:
    """Return a text with U+FFFD in place of each character that cannot be stored."""
    return _UNWRITABLE.sub("\ufffd", text)


def cut(text: str, longest: int = LONGEST_TEXT) -> str:
    """Return a text of at most ``longest`` characters. One that was longer ends in an ellipsis."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def iso_time(moment: float) -> str:
    """Return a Unix time as ISO 8601 in UTC, to the second."""
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds")


def json_safe(value: Any) -> Any:
    """Return JSON with its texts cleaned and cut, and None in place of each number that is not finite."""
    if isinstance(value, str):
        return cut(clean(value), LONGEST_MESSAGE)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {json_safe(name): json_safe(entry) for name, entry in value.items()}
    return [*map(json_safe, value)] if isinstance(value, list | tuple) else value

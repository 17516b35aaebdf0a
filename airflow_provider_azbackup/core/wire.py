"""The three words every conversation with Azure is said in: a call, an answer, a flow of both."""

from __future__ import annotations

import math
import re
from collections.abc import Generator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from email.utils import mktime_tz, parsedate_tz
from typing import Any, TypeAlias, TypeVar

from airflow_provider_azbackup.exceptions import (
    AzureBackupConfigError,
    AzureBackupError,
    AzureBackupTransientError,
)

JsonObject: TypeAlias = dict[str, Any]
T = TypeVar("T")

# Seconds. What asks for a longer wait is not believed.
_LONGEST_RETRY_AFTER = 1_000_000.0
# Seconds that any answer is waited for, whatever the deadline: the last look at a job is sent when it comes.
RESPONSE_GRACE = 4.0

# "Please try again after '324' seconds.": the only trace of the wait when a proxy strips Retry-After.
_TRY_AGAIN_AFTER = re.compile(r"try again after '(\d{1,6})' seconds", re.IGNORECASE)
# Control characters, and the segments that are taken out of a path.
_ASTRAY = re.compile(r"[\x00-\x1f\x7f]|/\.{1,2}(?:/|\Z)")


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request to the configured ARM endpoint, as a value: built first, compared in tests, sent later.

    ``path`` starts with ``/``, is not percent-encoded and names no host: a token can only go to the
    endpoint of the connection. ``after`` are the seconds to let pass before it is sent. ``api_version`` is
    the one from which on the answer holds all that is wanted; a cloud that does not know it yet is asked in
    the version of the connection. Empty: the version of the connection has everything. ``once`` is set where
    the caller itself waits after a 429, in the triggerer and until its own deadline. ``deadline`` is the
    Unix time after which nobody waits for the answer; a driver gives up then, but not before
    :data:`RESPONSE_GRACE` seconds have passed. A deadline that has passed before the request is sent has no
    effect.
    """

    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    body: JsonObject | None = None
    after: float = 0.0
    api_version: str = ""
    once: bool = field(default=False, compare=False)
    deadline: float = field(default=math.inf, compare=False)

    def __post_init__(self) -> None:
        """Refuse a path that would lead elsewhere once a client or a server has normalized it.

        :raises AzureBackupConfigError: naming the path.
        """
        if _ASTRAY.search(self.path):
            raise AzureBackupConfigError(
                f"nothing is sent to {self.path!r}: a name in it is '.' or '..' or has a control character"
            )

    def delayed(self, seconds: float) -> Request:
        """Return the same call, to be sent once ``seconds`` have passed."""
        return replace(self, after=max(0.0, seconds))


@dataclass(frozen=True, kw_only=True)
class Response:
    """What Azure answered: header names in lower case, the body as text, ``at`` in Unix seconds."""

    status: int
    at: float
    url: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    text: str = ""

    @property
    def date(self) -> float | None:
        """Unix time by Azure's own clock when it answered; None when it did not say."""
        return _moment(self.headers.get("date", ""))

    @property
    def retry_after(self) -> float | None:
        """Seconds Azure asks to wait, from ``Retry-After`` or else from the words of a 429."""
        stated = self.headers.get("retry-after", "")
        if re.fullmatch(r"\d{1,6}(\.\d+)?", stated):
            return float(stated)
        if (moment := _moment(stated)) is not None and moment - self.at < _LONGEST_RETRY_AFTER:
            return max(0.0, moment - self.at)
        spoken = _TRY_AGAIN_AFTER.search(self.text) if self.status == 429 else None
        return float(spoken.group(1)) if spoken else None


def _moment(text: str) -> float | None:
    with suppress(ValueError, OverflowError):  # a date outside the calendar
        if found := parsedate_tz(text):
            return float(mktime_tz(found))
    return None


@dataclass(frozen=True, kw_only=True)
class NoResponse:
    """No answer came.

    ``sent`` is False only when the request certainly never left this machine; ``kind`` is the error it
    stands for: a fault that may pass, or a credential that was refused a token.
    """

    reason: str
    at: float
    sent: bool = True
    kind: type[AzureBackupError] = AzureBackupTransientError


Answer: TypeAlias = Response | NoResponse

# A conversation: yields calls, receives one answer for each, returns what it was held for.
Flow: TypeAlias = Generator[Request, Answer, T]

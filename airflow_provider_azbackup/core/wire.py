"""What every conversation with Azure is made of: a request, a response, and a flow of both."""

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

# Seconds. A longer wait is taken for a mistake and ignored.
_LONGEST_RETRY_AFTER = 1_000_000.0
# Seconds that a driver waits for any response, even after the deadline: the last read of a job is sent when
# the deadline comes.
RESPONSE_GRACE = 4.0

# "Please try again after '324' seconds.": the only trace of the wait when a proxy strips Retry-After.
_TRY_AGAIN_AFTER = re.compile(r"try again after '(\d{1,6})' seconds", re.IGNORECASE)
# Control characters, and the segments "." and "..", which clients and servers remove from a path.
_UNSAFE_PATH = re.compile(r"[\x00-\x1f\x7f]|/\.{1,2}(?:/|\Z)")


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request to the configured ARM endpoint, as a value: built first, compared in tests, sent later.

    ``path`` starts with ``/``, is not percent-encoded and contains no host, so a token can only go to the
    endpoint of the connection. ``delay`` is the number of seconds to wait before sending. ``api_version`` is
    the first version whose response contains everything that is needed; a cloud that does not know this
    version yet is asked in the version of the connection. Empty: the version of the connection is enough.
    ``only_api_version`` is the one version that knows the operation at all, whatever the connection says.
    ``without_retries`` is set where the caller itself waits after a 429, in the triggerer and until its own
    deadline. ``deadline`` is the Unix time after which nobody waits for the response. A driver gives up then,
    but not before :data:`RESPONSE_GRACE` seconds have passed. A deadline that has passed before the request
    is sent has no effect. ``names_guard`` is set where the body names a Resource Guard, which may belong to
    another tenant, so that a token of that tenant has to go along.
    """

    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    body: JsonObject | None = field(default=None, hash=False)
    delay: float = 0.0
    api_version: str = ""
    only_api_version: str = ""
    names_guard: bool = False
    without_retries: bool = field(default=False, compare=False)
    deadline: float = field(default=math.inf, compare=False)

    def __post_init__(self) -> None:
        """Reject a path that would lead elsewhere once a client or a server has normalized it.

        :raises AzureBackupConfigError: if the path does that; the error shows it.
        """
        if _UNSAFE_PATH.search(self.path):
            raise AzureBackupConfigError(
                f"nothing is sent to {self.path!r}, because a name in it is '.' or '..' or contains a "
                f"control character"
            )

    def delayed(self, seconds: float) -> Request:
        """Return the same request, to be sent once ``seconds`` have passed."""
        return replace(self, delay=max(0.0, seconds))


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
        """Unix time of the response by Azure's own clock; None if it has no ``Date`` header."""
        return _unix_time(self.headers.get("date", ""))

    @property
    def retry_after(self) -> float | None:
        """Seconds that Azure asks to wait, from ``Retry-After`` or else from the text of a 429."""
        header = self.headers.get("retry-after", "")
        if re.fullmatch(r"\d{1,6}(\.\d+)?", header):
            return float(header)
        if (date := _unix_time(header)) is not None and date - self.at < _LONGEST_RETRY_AFTER:
            return max(0.0, date - self.at)
        found = _TRY_AGAIN_AFTER.search(self.text) if self.status == 429 else None
        return float(found.group(1)) if found else None


def _unix_time(text: str) -> float | None:
    with suppress(ValueError, OverflowError):  # a date outside the calendar
        if found := parsedate_tz(text):
            return float(mktime_tz(found))
    return None


@dataclass(frozen=True, kw_only=True)
class NoResponse:
    """No response came.

    ``sent`` is False only if the request certainly never left this computer. ``error`` is the class to raise:
    a fault that may pass, or a credential that was refused a token.
    """

    reason: str
    at: float
    sent: bool = True
    error: type[AzureBackupError] = AzureBackupTransientError


# What a flow receives for each request.
Answer: TypeAlias = Response | NoResponse

# A conversation: it yields requests, receives one answer for each, and returns its result.
Flow: TypeAlias = Generator[Request, Answer, T]

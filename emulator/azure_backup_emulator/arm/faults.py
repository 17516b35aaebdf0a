"""Faults on demand: what happens to matching requests instead of, or after, their normal response."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass, field
from functools import lru_cache

from azure_backup_emulator.model.checks import made
from azure_backup_emulator.model.store import Store

# Code, message and x-ms-failure-cause of each status, as recorded.
RECORDED: dict[int, tuple[str, str, str]] = {
    429: ("TooManyRequests", "The request is being throttled. Please try after some time.", "gateway"),
    500: (
        "CloudInternalError",
        "Microsoft Azure Backup encountered an internal error. Wait for a few minutes and then try the "
        "operation again. If the issue persists, please contact Microsoft support.",
        "service",
    ),
    502: (
        "InvalidGatewayHost",
        "Host name resolution failed for 'Microsoft.RecoveryServices'; cannot fulfill the request.",
        "service",
    ),
    503: ("ServerTimeout", "The request timed out.", "gateway"),
    504: (
        "GatewayTimeout",
        "The gateway did not receive a response from 'Microsoft.RecoveryServices' within the specified time "
        "period.",
        "service",
    ),
}
HTML = "<html><head><title>{0}</title></head><body><center><h1>{0} Bad Gateway</h1></center></body></html>"

_TOKEN = re.compile(
    r"(?P<gap>\.\*)|(?P<bar>\|)"
    # One character: an escaped one, a class, a set, or itself.
    r"|\\[^a-zA-Z0-9]|\\[dDsSwW]|\[\^?\]?(?:\\[^a-zA-Z0-9]|[^\]\\\[])*+\]|[^\\\[\](){}*+?|]"
)
_LONGEST_PATTERN = 500


@lru_cache
def searcher(path: str) -> re.Pattern[str]:
    """Compile the ``path`` of a fault. Use ``match`` of the result to search a text.

    A regular expression can take hours on a hostile text. This one looks for its pieces one after the other
    and never backtracks, so its time grows only with the length of the text.

    :raises ValueError: if the pattern is too long, or repeats anything but ``.*``.
    """
    if len(path) > _LONGEST_PATTERN:
        raise ValueError(f"fault: path has {len(path)} characters; at most {_LONGEST_PATTERN} are allowed")
    ways, at = [[""]], 0
    while at < len(path):
        token = _TOKEN.match(path, at)
        if token is None:
            raise ValueError(
                f"fault: path {path!r} cannot be read from character {at + 1} on, {path[at]!r}. It is text "
                "in which .* . [...] ^ $ | mean what they mean in a regular expression. Nothing else can be "
                "repeated or grouped, and a character that means itself needs a backslash"
            )
        if token["bar"]:
            ways.append([""])
        elif token["gap"]:
            ways[-1].append("")
        else:
            ways[-1][-1] += token[0]
        at = token.end()
    whole = "|".join("".join(f"(?>.*?{piece})" for piece in way) for way in ways)
    try:
        return re.compile(whole, re.IGNORECASE | re.DOTALL)
    except re.error as error:  # a set from z to a
        raise ValueError(f"fault: path {path!r} is not a pattern: {error.msg}") from None


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A fault, and the requests that it applies to.

    :param method: only requests of this method.
    :param path: a pattern searched for in the decoded ``path?query``, ignoring case: plain text, in which
        ``.*``, ``.``, ``[...]``, ``^``, ``$``, ``|`` and the backslash mean what they mean in a regular
        expression. Left out, it is any request to the Resource Manager, and none to the sign-in endpoints.
    :param times: how many requests it applies to; None means all until it is cleared.
    :param after: how many matching requests are answered normally first.
    :param latency: real seconds before anything else happens. If nothing else is given, the normal response
        follows.
    :param processed: the request takes effect before the ``latency``, and only its response is late, lost or
        replaced. Otherwise the request of a client that gives up during the ``latency`` has no effect.
    :param status: respond with this status, and with ``code``, ``message`` and ``retry_after`` (seconds).
    :param reset: drop the connection.
    :param truncate: end the response in the middle of its body.
    :param html: respond with a proxy's HTML page and ``status`` or 502.
    :param empty: respond with an empty body and ``status`` or 200.
    :param garbage: respond with this text as ``application/json`` and ``status`` or 200.
    :param expire_token: respond with 401 ExpiredAuthenticationToken, and refuse that token from then on.
    :param claims: respond with a claims challenge until the client has requested a token with claims.
    :param redirect: respond with 307 to the host of this URL.
    :param next_link: let ``nextLink`` of the response point to the host of this URL.
    """

    method: str | None = None
    path: str = "^/subscriptions/"
    times: int | None = 1
    after: int = 0
    latency: float = 0.0
    processed: bool = False
    status: int | None = None
    code: str | None = None
    message: str | None = None
    retry_after: float | None = None
    reset: bool = False
    truncate: bool = False
    html: bool = False
    empty: bool = False
    garbage: str | None = None
    expire_token: bool = False
    claims: bool = False
    redirect: str | None = None
    next_link: str | None = None
    id: str = field(default_factory=lambda: uuid.uuid4().hex[:8])

    def __post_init__(self) -> None:
        searcher(self.path)
        kinds = (
            self.status or self.html or self.empty or self.garbage is not None,
            *(
                self.latency,
                self.reset,
                self.truncate,
                self.expire_token,
                self.claims,
                self.redirect,
                self.next_link,
            ),
        )
        for name, value in (("times", self.times), ("after", self.after), ("latency", self.latency)):
            if value is not None and value < 0:
                raise ValueError(f"fault: {name} must be 0 or more, not {value}")
        if self.status is not None and not 200 <= self.status <= 599:
            raise ValueError(f"fault: status must be from 200 to 599, not {self.status}")
        if self.redirect and not re.match("https?://[!-~]+$", self.redirect):
            raise ValueError(f"fault: redirect must begin with https:// or http://, not {self.redirect!r}")
        if not any(kinds):
            raise ValueError("a fault needs something to happen: a status, latency, reset, ...")

    def matches(self, method: str, target: str) -> bool:
        return (self.method or method).upper() == method and searcher(self.path).match(target) is not None

    @property
    def waits_for_answer(self) -> bool:
        """Whether the request is processed before the fault takes effect."""
        return self.processed or self.truncate or self.next_link is not None or self.only_latency

    @property
    def only_latency(self) -> bool:
        return not (self.replaces or self.reset or self.truncate or self.next_link)

    @property
    def replaces(self) -> bool:
        """Whether another response replaces the real one."""
        return (
            bool(self.status or self.html or self.empty or self.garbage is not None or self.redirect)
            or self.expire_token
            or self.claims
        )


class Faults:
    """The active faults in the order they were added. The first one that matches a request applies."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.seen: dict[str, int] = {}
        self.known: dict[str, Fault] = {}
        for name, kept in store.all("fault").items():
            self.seen[name] = kept.pop("seen")
            self.known[name] = made(Fault, kept, "fault")

    def add(self, fault: Fault) -> str:
        self.known[fault.id] = fault
        self._count(fault, 0)
        return fault.id

    def clear(self) -> None:
        self.known.clear()
        self.seen.clear()
        self._store.drop("fault")

    def _count(self, fault: Fault, seen: int) -> None:
        self.seen[fault.id] = seen
        self._store.put("fault", fault.id, {**vars(fault), "seen": seen})

    def take(self, method: str, target: str) -> Fault | None:
        """Return the fault for a request, if any. Every fault that is checked before it counts the request,
        too.
        """
        for fault in self.known.values():
            if not fault.matches(method, target):
                continue
            self._count(fault, self.seen[fault.id] + 1)
            turn = self.seen[fault.id] - fault.after
            if turn > 0 and (fault.times is None or turn <= fault.times):
                return fault
        return None

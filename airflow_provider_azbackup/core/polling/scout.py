"""Resource Graph as a scout: what it shows makes a wait look sooner, and nothing else.

Resource Graph answers for all vaults of all subscriptions in one query, and its quota is its own. But it is a
copy that may be late, that may leave out rows or show them twice, and that says nothing about vaults which
the identity may not read. So a row is a reason to read a job or a list, never an answer: no wait ends by it.

:class:`Scout` asks for the jobs that began or ended, :class:`EstateScout` for vaults and protected items.

Source: https://learn.microsoft.com/azure/governance/resource-graph/concepts/guidance-for-throttled-requests
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from functools import partial

from airflow_provider_azbackup.core.conversations.matching import match_key
from airflow_provider_azbackup.core.conversations.retry import ResponseClock, accepted
from airflow_provider_azbackup.core.model.jobs import OUTCOMES, Outcome
from airflow_provider_azbackup.core.model.resources import Vault
from airflow_provider_azbackup.core.polling.waits import SOONEST
from airflow_provider_azbackup.core.rest import requests, responses
from airflow_provider_azbackup.core.wire import Answer, Flow, JsonObject, Request, Response
from airflow_provider_azbackup.exceptions import AzureBackupError

# Seconds between two sweeps for jobs, unless a wait wants its reads sooner, and between two for items.
INTERVAL, ESTATE_INTERVAL = 60.0, 300.0
# Seconds that each sweep looks further back than to the one before, for rows that come late.
OVERLAP = 600.0
# Seconds that the first sweep looks back, because jobs may have ended while no triggerer ran, and the most
# that a later one does, however long Resource Graph did not answer.
_FIRST, _FURTHEST = 3600.0, 86400.0
# Seconds without an answer after which the scout does not count, and the longest pause until it tries again.
_GONE, _LONGEST_PAUSE = 300.0, 600.0
# The most pages of one sweep: 20,000 jobs.
_MOST_PAGES = 20
# The most subscriptions of one query, and the seconds after which nobody waits for its answer.
_MOST_SUBSCRIPTIONS, _PATIENCE = 1000, 30.0
_LEFT, _RESETS_AFTER = "x-ms-user-quota-remaining", "x-ms-user-quota-resets-after"
_CLOCK_DURATION = re.compile(r"(\d{1,2}):(\d\d):(\d\d)")


@dataclass(frozen=True, kw_only=True)
class Sighting:
    """A job that Resource Graph has shown.

    ``vault`` is the path of its vault and ``job_id`` its id, both in lower case; ``key`` is what
    :func:`match_key` returns for it. ``is_news`` means that it was not shown before, or as running only.
    """

    vault: str
    job_id: str
    key: str
    is_running: bool
    is_news: bool


class _Graph(ResponseClock):
    """Asks Resource Graph, within the quota that it states.

    ``fault`` is why the last sweep failed; None after one that succeeded.

    :param at: Unix time.
    """

    def __init__(self, at: float) -> None:
        super().__init__(at)
        self.fault: AzureBackupError | None = None
        self._failures = 0
        self._blocked_until = at

    def _pause(self, usual: float, at: float) -> float:
        return max(min(_LONGEST_PAUSE, usual * 2.0**self._failures), self._blocked_until - at)

    def record_failure(self, error: AzureBackupError) -> None:
        """Note why a sweep failed; the next one comes later."""
        self.fault, self._failures = error, min(10, self._failures + 1)

    def _read(
        self,
        query: Callable[[Collection[str], str], Request],
        subscriptions: Collection[str],
        rows: list[JsonObject],
    ) -> Flow[None]:
        """Add the rows that a query has about some subscriptions, page by page.

        :param query: makes the request for a page from the subscriptions and the token of the page before.
        """
        wanted = sorted({each.casefold() for each in subscriptions})
        for start in range(0, len(wanted), _MOST_SUBSCRIPTIONS):
            yield from self._read_pages(partial(query, wanted[start : start + _MOST_SUBSCRIPTIONS]), rows)

    def _read_pages(self, query: Callable[[str], Request], rows: list[JsonObject]) -> Flow[None]:
        token, tokens = "", {""}
        for _ in range(_MOST_PAGES):
            request = replace(
                query(token),
                delay=max(0.0, self._blocked_until - self.at),
                deadline=max(self.at, self._blocked_until) + _PATIENCE,
            )
            answer = yield request
            self.observe(answer)
            self._observe_quota(answer)
            page = responses.read_graph_page(accepted(answer, request, 200))
            rows += page.rows
            token = page.skip_token
            if token in tokens:  # the last page, or the pages go round in a circle
                return
            tokens.add(token)

    def _observe_quota(self, answer: Answer) -> None:
        if not isinstance(answer, Response):
            return
        if answer.status == 429 or answer.headers.get(_LEFT) == "0":
            stated = _CLOCK_DURATION.match(answer.headers.get(_RESETS_AFTER, ""))
            hours, minutes, seconds = map(int, stated.groups()) if stated else (0, 0, 0)
            resets = answer.retry_after or hours * 3600.0 + minutes * 60.0 + seconds
            self._blocked_until = answer.at + min(_LONGEST_PAUSE, resets)


class Scout(_Graph):
    """Asks for jobs from time to time, and remembers what it has shown.

    :param at: Unix time.
    """

    def __init__(self, at: float) -> None:
        super().__init__(at)
        self._since = at - _FIRST
        self._helps_until = at
        # By the path of a job, in lower case: whether it was shown as running, and when last.
        self._shown: dict[str, tuple[bool, float]] = {}

    def helps(self, at: float) -> bool:
        """Return whether Resource Graph has answered lately."""
        return at < self._helps_until

    def pause(self, interval: float, at: float) -> float:
        """Return the seconds until the next sweep.

        :param interval: the fewest seconds between two reads that a wait wants.
        :param at: Unix time.
        """
        return self._pause(min(INTERVAL, max(SOONEST, interval)), at)

    def sweep(self, at: float, vaults: Collection[Vault]) -> Flow[list[Sighting]]:
        """Return the jobs of some vaults that began or ended since the last sweep or shortly before it.

        If it cannot be read to its end, return what was shown until then; ``fault`` says why.

        :param at: Unix time.
        """
        self.at = at
        since = requests.utc_datetime(max(self._since, at - _FURTHEST) + (self.ahead or 0.0))
        rows: list[JsonObject] = []
        try:
            yield from self._read(
                lambda subscriptions, token: requests.query_recent_jobs(subscriptions, since, token),
                [each.subscription_id for each in vaults],
                rows,
            )
        except AzureBackupError as error:
            self.record_failure(error)
        else:
            self.fault, self._failures, self._helps_until = None, 0, self.at + _GONE
            self._since = at - OVERLAP
            forgotten = at - _FIRST - 2 * OVERLAP
            self._shown = {path: known for path, known in self._shown.items() if known[1] > forgotten}
        return [*self._sightings(rows, {each.path.casefold() for each in vaults})]

    def _sightings(self, rows: Collection[JsonObject], paths: set[str]) -> Iterator[Sighting]:
        for row in rows:
            path, status = str(row.get("id")).casefold(), row.get("status")
            vault, _, job_id = path.partition("/backupjobs/")
            if not isinstance(status, str) or not job_id or vault not in paths:
                continue
            is_running = OUTCOMES.get(status.casefold(), Outcome.RUNNING) is Outcome.RUNNING
            was_running, _ = self._shown.get(path, (None, 0.0))
            # A job that was shown as over stays so: a late copy may still show it as running.
            self._shown[path] = (is_running and was_running is not False, self.at)
            yield Sighting(
                vault=vault,
                job_id=job_id,
                key=match_key({"properties": row}),
                is_running=is_running,
                is_news=was_running is None or (was_running and not is_running),
            )


class EstateScout(_Graph):
    """Asks from time to time which vaults and protected items there are, and says what is new.

    :param at: Unix time.
    """

    def __init__(self, at: float) -> None:
        super().__init__(at)
        self._shown: set[str] = set()
        self._has_begun = False

    def pause(self, at: float) -> float:
        """Return the seconds until the next sweep.

        :param at: Unix time.
        """
        return self._pause(ESTATE_INTERVAL, at) if self._has_begun or self.fault else 0.0

    def sweep(self, at: float, subscriptions: Collection[str]) -> Flow[list[str]]:
        """Return the ARM ids, in lower case, of what was not shown before; the first time, of vaults alone.

        The first time, lists have just been read, and show the items. If it cannot be read to its end,
        return what was shown until then; ``fault`` says why.

        :param at: Unix time.
        :param subscriptions: ids of those in which to look.
        """
        self.at = at
        vaults: list[JsonObject] = []
        items: list[JsonObject] = []
        try:
            yield from self._read(requests.query_vaults, subscriptions, vaults)
            yield from self._read(requests.query_items, subscriptions, items)
        except AzureBackupError as error:
            self.record_failure(error)
            is_whole = False
        else:
            self.fault, self._failures = None, 0
            is_whole = True
        found = [*_ids(vaults), *(_ids(items) if self._has_begun else ())]
        new = [path for path in dict.fromkeys(found) if path not in self._shown]
        self._shown.update(new, _ids(items))
        self._has_begun = self._has_begun or is_whole
        return new


def _ids(rows: Collection[JsonObject]) -> Iterator[str]:
    return (row["id"].casefold() for row in rows if isinstance(row.get("id"), str))

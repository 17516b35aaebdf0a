"""Resource Graph as a scout: what it shows makes a poll look sooner, and nothing else.

Resource Graph answers for all vaults of all subscriptions in one query, and its quota is its own. But it is a
copy that may be late, that may leave out rows or show them twice, and that says nothing about vaults which
the identity may not read. So a row is a reason to read a job or a list, never an answer: no wait ends by it.

Source: https://learn.microsoft.com/azure/governance/resource-graph/concepts/guidance-for-throttled-requests
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

from airflow_provider_azbackup.core.conversations.matching import match_key
from airflow_provider_azbackup.core.conversations.retry import ResponseClock, accepted
from airflow_provider_azbackup.core.model.jobs import OUTCOMES, Outcome
from airflow_provider_azbackup.core.model.resources import Vault
from airflow_provider_azbackup.core.polling.waits import SOONEST
from airflow_provider_azbackup.core.rest import requests, responses
from airflow_provider_azbackup.core.wire import Answer, Flow, JsonObject, Response
from airflow_provider_azbackup.exceptions import AzureBackupError

# Seconds between two sweeps, unless a wait wants its reads sooner.
INTERVAL = 60.0
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


class Scout(ResponseClock):
    """Asks Resource Graph from time to time, and remembers what it has shown.

    ``fault`` is why the last sweep failed; None after one that succeeded.

    :param at: Unix time.
    """

    def __init__(self, at: float) -> None:
        super().__init__(at)
        self.fault: AzureBackupError | None = None
        self._since = at - _FIRST
        self._helps_until = at
        self._failures = 0
        self._blocked_until = at
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
        usual = min(INTERVAL, max(SOONEST, interval)) * 2.0**self._failures
        return max(min(_LONGEST_PAUSE, usual), self._blocked_until - at)

    def sweep(self, at: float, vaults: Collection[Vault]) -> Flow[list[Sighting]]:
        """Return the jobs of some vaults that began or ended since the last sweep or shortly before it.

        If it cannot be read to its end, return what was shown until then; ``fault`` says why.

        :param at: Unix time.
        """
        self.at = at
        subscriptions = sorted({each.subscription_id.casefold() for each in vaults})
        paths = {each.path.casefold() for each in vaults}
        found: list[Sighting] = []
        try:
            for start in range(0, len(subscriptions), _MOST_SUBSCRIPTIONS):
                some = subscriptions[start : start + _MOST_SUBSCRIPTIONS]
                yield from self._read(some, paths, found)
        except AzureBackupError as error:
            self.record_failure(error)
            return found
        self.fault, self._failures, self._helps_until = None, 0, self.at + _GONE
        self._since = at - OVERLAP
        forgotten = at - _FIRST - 2 * OVERLAP
        self._shown = {path: known for path, known in self._shown.items() if known[1] > forgotten}
        return found

    def record_failure(self, error: AzureBackupError) -> None:
        """Note why a sweep failed; the next one comes later."""
        self.fault, self._failures = error, min(10, self._failures + 1)

    def _read(self, subscriptions: list[str], paths: set[str], found: list[Sighting]) -> Flow[None]:
        """Read the pages of one query, and add what they show of these vaults."""
        since = requests.utc_datetime(max(self._since, self.at - _FURTHEST) + (self.ahead or 0.0))
        token, tokens = "", {""}
        for _ in range(_MOST_PAGES):
            request = replace(
                requests.query_recent_jobs(subscriptions, since, token),
                delay=max(0.0, self._blocked_until - self.at),
                deadline=max(self.at, self._blocked_until) + _PATIENCE,
            )
            answer = yield request
            self.observe(answer)
            self._observe_quota(answer)
            page = responses.read_graph_page(accepted(answer, request, 200))
            found += self._sightings(page.rows, paths)
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

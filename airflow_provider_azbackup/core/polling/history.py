"""How long the backups of a vault took, for forecasts: from lists that waits read anyway, and one list a day.

Source: https://learn.microsoft.com/azure/backup/backup-azure-arm-userestapi-managejobs
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from airflow_provider_azbackup.core.conversations.retry import accepted
from airflow_provider_azbackup.core.model.forecast import forecast_key, past_duration
from airflow_provider_azbackup.core.model.jobs import Job
from airflow_provider_azbackup.core.model.resources import Vault
from airflow_provider_azbackup.core.rest import requests, responses
from airflow_provider_azbackup.core.wire import Answer, Request
from airflow_provider_azbackup.exceptions import AzureBackupError

_DAY = 24 * 3600.0
# Of an item, the newest durations: those of a month of nights. Of a vault, the most kinds of backups.
_MOST_DURATIONS, _MOST_KINDS = 30, 10_000
# How many pages of the daily list are read at most, newest jobs first.
_MOST_PAGES = 25
# How many jobs are read in one go, before everybody else on the event loop has a turn.
_AT_ONCE = 50


class History:
    """The durations of past backups of a vault.

    :param vault: the vault.
    """

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        # Of backups that take about as long, by the Unix time at which they began.
        self._durations: dict[tuple[str, ...], dict[float, float]] = {}
        self._due = 0.0
        self._next: Request | None = None
        self._pages = 0

    def learn(self, job: Job) -> None:
        """Note how long a backup took, if it is over and says something about the next one."""
        if not (seconds := past_duration(job)) or not job.began:
            return
        key = forecast_key(job)
        if key not in self._durations and len(self._durations) >= _MOST_KINDS:
            return
        known = self._durations.setdefault(key, {})
        known[job.began] = seconds
        if len(known) > _MOST_DURATIONS:
            del known[min(known)]

    def durations(self, job: Job) -> list[float]:
        """Return the seconds that earlier backups took, of the item and type of a backup."""
        return [*self._durations.get(forecast_key(job), {}).values()]

    @property
    def is_being_read(self) -> bool:
        """Whether there are more pages of the daily list."""
        return self._next is not None

    def request(self, now: float) -> Request | None:
        """Return the request for the next page of the daily list; None if none is due.

        A page that could not be read ends the list for that day.

        :param now: Unix time by Azure's clock.
        """
        if self._next is None and now >= self._due:
            self._due, self._pages = now + _DAY, 0
            self._next = requests.list_jobs(
                self._vault,
                status="Completed",
                operation="Backup",
                started_after=requests.utc_datetime(now - requests.LONGEST_WINDOW),
                started_before=requests.utc_datetime(now + requests.SLACK),
            )
        return self._next

    def take(self, answer: Answer) -> Iterator[None]:
        """Learn from a page of the daily list, some jobs at a time."""
        asked, self._next = self._next, None
        if asked is None:
            return
        try:
            response = accepted(answer, asked, 200)
            page = responses.read_page(response)
            following = requests.next_page(response, page.next_link) if page.next_link else None
        except AzureBackupError:
            return
        self._pages += 1
        for start in range(0, len(page.values), _AT_ONCE):
            some = replace(page, values=page.values[start : start + _AT_ONCE])
            for job in responses.read_jobs(self._vault, some):
                self.learn(job)
            yield
        self._next = following if self._pages < _MOST_PAGES else None

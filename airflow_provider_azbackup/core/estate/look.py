"""Look at an estate: read what may have changed, remember the rest, and judge every item.

An :class:`Estate` keeps what lists have shown, and returns the conversations that are due. A worker or a
triggerer holds them, and then asks for the verdict. The verdict is made from all that is known by then, so
that no item stays fresh by a proof that a later list puts in doubt.

A list that breaks off counts as not read. An item that a list shows twice, or shows no longer without being
gone, counts as unreadable.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from itertools import chain
from typing import NamedTuple, TypeAlias

from airflow_provider_azbackup.core.conversations.checks import check_facts
from airflow_provider_azbackup.core.conversations.items import list_requests
from airflow_provider_azbackup.core.conversations.jobs import get_job_despite_refusals, list_jobs
from airflow_provider_azbackup.core.conversations.matching import (
    JobMatcher,
    Namesakes,
    match_key,
    proof_rank,
)
from airflow_provider_azbackup.core.conversations.recovery_point_of_job import (
    OTHER_JOBS_BEFORE,
    find_recovery_point,
)
from airflow_provider_azbackup.core.conversations.recovery_points import list_recovery_points
from airflow_provider_azbackup.core.conversations.retry import REFUSAL_GRACE, accepted, all_pages, ask
from airflow_provider_azbackup.core.conversations.vaults import with_vault_suggestion
from airflow_provider_azbackup.core.estate.scope import Condition, Scope, names_of, workload_of
from airflow_provider_azbackup.core.estate.verdict import Finding, Reason, Verdict
from airflow_provider_azbackup.core.model.arm_ids import VAULT_TYPES, match_vault, match_vault_above
from airflow_provider_azbackup.core.model.forecast import Forecast
from airflow_provider_azbackup.core.model.jobs import Job, Outcome, is_proven
from airflow_provider_azbackup.core.model.json_safe import iso_time
from airflow_provider_azbackup.core.model.recovery_points import newest_sufficient
from airflow_provider_azbackup.core.model.resources import JobRef, ProtectedItem, Vault
from airflow_provider_azbackup.core.model.workloads import check_min_tier
from airflow_provider_azbackup.core.rest import requests, responses
from airflow_provider_azbackup.core.rest.responses import FoundItem, FoundVault, Page
from airflow_provider_azbackup.core.wire import Answer, Flow, Request, T
from airflow_provider_azbackup.exceptions import (
    AzureBackupAuthError,
    AzureBackupError,
    AzureBackupJobFailedError,
    AzureBackupNotFoundError,
    AzureBackupTransientError,
    AzureBackupWrongJobError,
)

# A conversation that sometimes yields None, so that others have a turn.
Turns: TypeAlias = Generator[Request | None, Answer | None, T]

# Seconds after which lists of vaults and items are read again while the gate is shut.
_RELIST_AFTER = 3600.0
# Seconds after which a recovery point that is missing, or not in its tier yet, is read again.
_REREAD_AFTER = 300.0
# How many items are read or judged before others have a turn.
_AT_ONCE = 50
# How long after the end of a backup its recovery point may be missing from the list.
_LATE_LISTING = 900.0
# How many policies, workloads and states an error names.
_MOST_WORDS = 10
_NOT_READ = "it has not been read yet"
_NOT_READ_AGAIN = "it has not been read again yet"
_NOT_CONFIRMED = "it ended with warnings, and has not been read by itself yet"
# The reason for an item whose newest backup is over and proves nothing.
_ENDS = {
    Outcome.RUNNING: Reason.RUNNING,
    Outcome.SUCCEEDED: Reason.INSUFFICIENT,
    Outcome.WARNED: Reason.WARNED,
    Outcome.FAILED: Reason.FAILED,
    Outcome.CANCELLED: Reason.CANCELLED,
}


class _Read:
    """What is known of one list, or one recovery point: when it was last read, or why it was not.

    ``asked_at`` is the Unix time at which it was last asked for, read or not.
    """

    def __init__(self) -> None:
        self.at = self.asked_at = self.again_at = -math.inf
        self.fault = _NOT_READ
        # The error, and since when, while Azure denies it.
        self.refusal: tuple[AzureBackupError, float] | None = None

    def succeed(self, at: float, again_after: float) -> None:
        self.at = self.asked_at = at
        self.again_at, self.fault, self.refusal = at + again_after, "", None

    def fail(self, error: AzureBackupError, at: float, again_after: float) -> None:
        self.fault, self.asked_at = str(error), at
        self.again_at = at + max(again_after, error.retry_after or 0.0)
        is_refusal = isinstance(error, AzureBackupAuthError | AzureBackupNotFoundError)
        self.refusal = (error, self.refusal[1] if self.refusal else at) if is_refusal else None

    def lasting_refusal(self, now: float) -> AzureBackupError | None:
        """Return the error of a refusal that has lasted so long that it will not pass."""
        return self.refusal[0] if self.refusal and now - self.refusal[1] >= REFUSAL_GRACE else None


class _Point(_Read):
    """The recovery point of a backup, or the newest of an item, and what it lacks.

    ``signature`` is what had been known of the item when it was read.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flaw = ""
        self.signature: object = None


class _Vault:
    """What is known of one vault. Items are kept by ARM id, jobs by id, both folded."""

    def __init__(self, vault: Vault) -> None:
        self.vault = vault
        self.listed = _Read()
        self.jobs_read = _Read()
        self.tags: tuple[tuple[str, str], ...] | None = None
        self.items: dict[str, FoundItem] = {}
        # Of those in the scope: how its jobs are recognised, or why they cannot be.
        self.matchers: dict[str, JobMatcher | str] = {}
        self.twice: set[str] = set()
        # Unix time before which a job with the names of an item was another item's: by then it did not exist,
        # or had another name.
        self.named_since: dict[str, float] = {}
        self.vanished: dict[str, _Read] = {}
        self.jobs: dict[str, Job] = {}
        self.by_key: dict[str, set[str]] = {}
        self.confirmed: set[str] = set()
        self.points: dict[tuple[str, str], _Point] = {}
        # The last judgement of the items that are not fresh, None before there is one, and whether something
        # has changed since it began. And what it would like to have read: recovery points, and backups that
        # have ended with warnings.
        self.findings: dict[str, Finding] | None = None
        self.has_changed = True
        self.running: dict[str, Job | None] = {}
        self.wanted: list[tuple[str, Job | None]] = []
        self.unconfirmed: dict[str, Job] = {}


class Estate:
    """What is known of the items of a scope.

    :param scope: which items.
    :param condition: what each must prove.
    :param poll_interval: seconds between two looks at jobs, and the age at which a list is too old to open a
        gate by.
    :param foresee: returns when a running backup is likely to end.
    """

    def __init__(
        self,
        scope: Scope,
        condition: Condition,
        *,
        poll_interval: float,
        foresee: Callable[[Job], Forecast | None] = lambda _: None,
    ) -> None:
        self._foresee = foresee
        self.scope, self.condition, self._poll_interval = scope, condition, poll_interval
        self._vaults: dict[str, _Vault] = {}
        self._subscriptions = {
            (subscription, vault_type): _Read()
            for subscription in scope.subscriptions
            for vault_type in VAULT_TYPES
        }
        # Vaults that the list of their subscription shows no longer.
        self._gone: dict[tuple[str, str], dict[str, _Read]] = {}
        for path in scope.vaults:
            self._add_vault(FoundVault(vault=Vault.parse(path)), tags_known=False)
        # By subscription, the Unix time before which Azure wants to be asked nothing.
        self._blocked: dict[str, float] = {}

    @property
    def jobs_since(self) -> float:
        """Unix time by Azure's clock since which jobs have to be listed."""
        return self.condition.after - (OTHER_JOBS_BEFORE if self.condition.wants_points else 0.0)

    @property
    def vaults(self) -> list[Vault]:
        """The vaults that are known."""
        return [each.vault for each in self._vaults.values()]

    @property
    def subscriptions(self) -> set[str]:
        """The ids of the subscriptions in which vaults of the scope are."""
        return {*self.scope.subscriptions, *(each.vault.subscription_id for each in self._vaults.values())}

    def unconfirmed(self) -> list[Job]:
        """Return the backups that a list shows as ended with warnings, and that might open the gate.

        A list may leave out that one was cancelled, so each has to be read by itself: :meth:`take_job`.
        """
        return [job for vault in self._vaults.values() for job in vault.unconfirmed.values()]

    # --- what is due

    def due(self, now: float) -> Iterator[Turns[None]]:
        """Return the conversations that are due, other than those about jobs.

        Each of them reads something and remembers it; none raises an error of Azure's. Several may be held at
        the same time: one whose object another one has removed meanwhile does nothing.

        :param now: Unix time.
        """
        for (subscription, vault_type), read in self._subscriptions.items():
            gone = self._gone.get((subscription, vault_type), {})
            if self._is_due(read, subscription, now):
                yield self._list_vaults(subscription, vault_type, read, now)
            for path, each in [*gone.items()]:
                if self._is_due(each, subscription, now):
                    yield self._confirm_vault(gone, path, now)
        for vault in [*self._vaults.values()]:
            subscription = vault.vault.subscription_id
            if self._is_due(vault.listed, subscription, now):
                yield self._list_items(vault, now)
            for path, each in [*vault.vanished.items()]:
                if self._is_due(each, subscription, now):
                    yield self._confirm_item(vault, path, now)
            for path, job in [*vault.wanted]:
                if self._is_due(_point_of(vault, path, job), subscription, now):
                    yield self._read_point(vault, path, job, now)

    def _is_due(self, read: _Read, subscription: str, now: float) -> bool:
        return self._ready_at(read, subscription) <= now

    def _ready_at(self, read: _Read, subscription: str) -> float:
        return max(read.again_at, self._blocked.get(subscription, -math.inf))

    def expire(self, before: float) -> None:
        """Have all lists of vaults and items read again that were read before a moment.

        Until that is done, they count as not read.

        :param before: Unix time.
        """
        reads = chain(self._subscriptions.values(), (each.listed for each in self._vaults.values()))
        for read in reads:
            if read.at < before:
                read.again_at, read.fault = -math.inf, read.fault or _NOT_READ_AGAIN

    def take_hints(self, paths: Iterable[str]) -> bool:
        """Have lists read again that lack a vault or an item, and return whether there are any.

        Until that is done, they count as not read. Nothing else follows from a hint.

        :param paths: ARM ids, in lower case, of vaults and items that may exist.
        """
        found = False
        for path in paths:
            match = match_vault(path) or match_vault_above(path)
            read = self._list_without(path, Vault.parse(match[0])) if match else None
            if read:
                read.again_at, read.fault = -math.inf, read.fault or _NOT_READ_AGAIN
                found = True
        return found

    def _list_without(self, path: str, vault: Vault) -> _Read | None:
        """Return the list that lacks a vault or an item; None if none does, or it is not in the scope."""
        above = vault.path.casefold()
        if known := self._vaults.get(above):
            return None if path == above or path in known.items else known.listed
        if not self.scope.has_vault(above):
            return None
        ours = vault.subscription_id.casefold(), vault.vault_type
        for (subscription, vault_type), read in self._subscriptions.items():
            if (subscription.casefold(), vault_type) == ours:
                return read
        return None

    def is_current(self, since: float) -> bool:
        """Whether all lists of vaults and items were read at or after a moment.

        :param since: Unix time.
        """
        reads = chain(self._subscriptions.values(), (each.listed for each in self._vaults.values()))
        return all(read.at >= since for read in reads)

    def due_at(self) -> float:
        """Return the Unix time at which the next conversation will be due."""
        reads: list[tuple[_Read, str]] = []
        for (subscription, vault_type), read in self._subscriptions.items():
            gone = self._gone.get((subscription, vault_type), {})
            reads += [(each, subscription) for each in (read, *gone.values())]
        for vault in self._vaults.values():
            points = (_point_of(vault, path, job) for path, job in vault.wanted)
            each_read = (vault.listed, *vault.vanished.values(), *points)
            reads += [(each, vault.vault.subscription_id) for each in each_read]
        return min((self._ready_at(*each) for each in reads), default=math.inf)

    # --- vaults

    def _add_vault(self, found: FoundVault, *, tags_known: bool = True) -> None:
        path = found.vault.path.casefold()
        if not self.scope.has_vault(path):
            return
        known = self._vaults.setdefault(path, _Vault(found.vault))
        if tags_known and known.tags != found.tags:
            known.tags = found.tags
            known.listed.again_at = -math.inf

    def _list_vaults(self, subscription: str, vault_type: str, read: _Read, now: float) -> Turns[None]:
        try:
            pages = yield from all_pages(requests.list_vaults(subscription, vault_type))
            found = [vault for page in pages for vault in responses.read_vaults(page)]
            _check_complete(pages, len(found), "vaults")
        except AzureBackupError as error:
            self._fail(read, error, subscription, now)
            return
        read.succeed(now, _RELIST_AFTER)
        for vault in found:
            self._add_vault(vault)
        shown = {vault.vault.path.casefold() for vault in found}
        ours = subscription.casefold(), vault_type
        named = {path.casefold() for path in self.scope.vaults}
        gone = self._gone.get((subscription, vault_type), {})
        self._gone[subscription, vault_type] = {
            path: gone.get(path, _Read())
            for path, each in self._vaults.items()
            if (each.vault.subscription_id.casefold(), each.vault.vault_type) == ours
            and path not in shown
            and path not in named
        }

    def _confirm_vault(self, gone: dict[str, _Read], path: str, now: float) -> Turns[None]:
        """Ask for a vault that a list shows no longer: only one that is gone leaves the scope."""
        if path not in gone or path not in self._vaults:
            return
        vault, read = self._vaults[path].vault, gone[path]
        try:
            yield from ask(requests.get_vault(vault))
        except AzureBackupNotFoundError:
            if gone.pop(path, None):
                del self._vaults[path]
        except AzureBackupError as error:
            self._fail(read, error, vault.subscription_id, now)
        else:
            read.succeed(now, _RELIST_AFTER)

    # --- items

    def _list_items(self, vault: _Vault, now: float) -> Turns[None]:
        found: list[FoundItem] = []
        try:
            if self.scope.tags and vault.tags is None:
                answer = yield from ask(requests.get_vault(vault.vault))
                vault.tags = responses.read_vault(vault.vault, answer).tags
            for first in self._item_requests(vault.vault):
                pages = yield from with_vault_suggestion(vault.vault, all_pages(first))
                known = len(found)
                for page in pages:
                    for start in range(0, len(page.values), _AT_ONCE):
                        some = replace(page, values=page.values[start : start + _AT_ONCE])
                        found += responses.read_items(some)
                        yield None
                _check_complete(pages, len(found) - known, "protected items")
        except AzureBackupError as error:
            self._fail(vault.listed, error, vault.vault.subscription_id, now)
            return
        before = vault.listed.at
        vault.listed.succeed(now, _RELIST_AFTER)
        yield from self._take_items(vault, found, before, now)

    def _item_requests(self, vault: Vault) -> list[Request]:
        if vault.is_backup_vault:
            return list_requests(vault)
        return [
            each for kind in self.scope.management_types for each in list_requests(vault, kind.casefold())
        ]

    def _take_items(self, vault: _Vault, found: list[FoundItem], before: float, now: float) -> Turns[None]:
        """Remember what a complete list has shown.

        :param before: Unix time of the list before it.
        :param now: Unix time of this one.
        """
        twice: set[str] = set()
        items: dict[str, FoundItem] = {}
        for each in found:
            path = each.item.path.casefold()
            if path in items:
                twice.add(path)
            items[path] = each
        missing = {path: each for path, each in vault.items.items() if path not in items}
        # What is out of the scope may leave unseen.
        missing = {path: each for path, each in missing.items() if path in vault.matchers}
        vault.vanished = {path: vault.vanished.get(path, _Read()) for path in missing}
        for path, each in [*items.items()] if before > -math.inf else []:
            known = vault.items.get(path)
            if known is None:
                vault.named_since[path] = before
            elif (known.friendly_name, known.server) != (each.friendly_name, each.server):
                vault.named_since[path] = now
        vault.items, vault.twice = {**items, **missing}, twice
        yield from self._select(vault)

    def _select(self, vault: _Vault) -> Turns[None]:
        """Find out which items of a vault belong to the scope, and how their jobs are recognised."""
        namesakes, matchers = Namesakes(vault.items.values()), dict[str, JobMatcher | str]()
        for number, (path, found) in enumerate([*vault.items.items()]):
            if self.scope.has(found, vault.tags or ()):
                try:
                    matchers[path] = namesakes.matcher_of(found)
                except AzureBackupError as error:
                    matchers[path] = str(error)
            if number % _AT_ONCE == 0:
                yield None
        vault.has_changed = True
        vault.matchers = {path: each for path, each in matchers.items() if path in vault.items}

    def _confirm_item(self, vault: _Vault, path: str, now: float) -> Turns[None]:
        """Ask for an item that a list shows no longer: only one that is gone leaves the scope."""
        if path not in vault.vanished:
            return
        item, read = vault.items[path].item, vault.vanished[path]
        try:
            found = responses.read_item(item, (yield from ask(requests.get_protected_item(item))))
        except AzureBackupNotFoundError:
            if path in vault.vanished:  # meanwhile a list may show it again
                del vault.vanished[path], vault.items[path]
        except AzureBackupError as error:
            self._fail(read, error, vault.vault.subscription_id, now)
        else:
            read.succeed(now, _RELIST_AFTER)
            if path in vault.vanished:
                vault.items[path] = found
        yield from self._select(vault)

    # --- jobs

    def read_jobs(self, vault: Vault, now: float) -> Turns[None]:
        """Read the jobs of a vault, where no poller lists them.

        :param now: Unix time.
        """
        window = requests.JobFilter(
            started_after=requests.utc_datetime(
                max(self.jobs_since, now - requests.LONGEST_WINDOW) - requests.SLACK
            ),
            started_before=requests.utc_datetime(now + requests.SLACK),
        )
        try:
            jobs = yield from list_jobs(requests.list_jobs(vault, **window), vault, **window)
        except AzureBackupError as error:
            self.fail_jobs(vault, error, now)
        else:
            yield from self.take_jobs(vault, jobs, now)

    def needs_jobs(self, vault: Vault) -> bool:
        """Whether a list of the vault's jobs could change the verdict: some item of it is not fresh."""
        known = self._vaults.get(vault.path.casefold())
        return known is not None and (known.has_changed or bool(known.findings))

    def has_asked(self, since: float = 0.0) -> bool:
        """Whether the jobs of all vaults have been listed, or could not be, where that is needed.

        :param since: Unix time at or after which they must have been.
        """
        return all(
            each.jobs_read.asked_at >= since for each in self._vaults.values() if self.needs_jobs(each.vault)
        )

    def blocked_until(self) -> float:
        """Return the Unix time to which Azure has asked to wait, in whichever subscription is last."""
        return max(self._blocked.values(), default=-math.inf)

    def may_ask(self, vault: Vault, now: float) -> bool:
        """Whether Azure has not asked to wait in the subscription of a vault."""
        return self._blocked.get(vault.subscription_id, -math.inf) <= now

    def take_jobs(self, vault: Vault, jobs: Iterable[Job], at: float) -> Turns[None]:
        """Remember the jobs that a list has shown to its end.

        :param at: Unix time of the list.
        """
        if (known := self._vaults.get(vault.path.casefold())) is None:
            return
        for number, job in enumerate(jobs):
            self._take(known, job)
            if number % _AT_ONCE == 0:
                yield None
        if known.jobs_read.fault:
            known.has_changed = True
        known.jobs_read.succeed(at, math.inf)

    def take_job(self, job: Job) -> None:
        """Remember a backup that was read by itself, after :meth:`unconfirmed` named it."""
        if (known := self._vaults.get(job.ref.vault.path.casefold())) is not None:
            self._take(known, job, confirmed=not job.is_running)

    def is_confirmed(self, job: Job) -> bool:
        """Whether a backup that has ended with warnings was read by itself since."""
        known = self._vaults.get(job.ref.vault.path.casefold())
        return known is not None and job.ref.job_id.casefold() in known.confirmed

    def read_job(self, ref: JobRef, now: float) -> Turns[None]:
        """Read one backup by itself, where no poller does."""
        try:
            self.take_job((yield from get_job_despite_refusals(ref, 0.0)))
        except AzureBackupError as error:
            self._block(error, ref.vault.subscription_id, now)

    def fail_jobs(self, vault: Vault, error: AzureBackupError, at: float) -> None:
        """Remember why the jobs of a vault cannot be listed."""
        if (known := self._vaults.get(vault.path.casefold())) is not None:
            self._fail(known.jobs_read, error, vault.subscription_id, at)
            known.has_changed = True

    def _take(self, vault: _Vault, job: Job, *, confirmed: bool = False) -> None:
        job_id = job.ref.job_id.casefold()
        known = vault.jobs.get(job_id)
        if not confirmed and (job_id in vault.confirmed or (known and _facts(known) == _facts(job))):
            return
        # In its first moments the backup of a log looks like any other.
        if not job.is_backup or job.began < self.jobs_since:
            if vault.jobs.pop(job_id, None):
                vault.has_changed = True
            return
        if confirmed:
            vault.confirmed.add(job_id)
        vault.by_key.setdefault(match_key(job.body), set()).add(job_id)
        # Of a thousand jobs, the rest of their JSON would take much memory.
        vault.jobs[job_id] = replace(job, body={name: job.body.get(name) for name in ("id", "name")})
        vault.has_changed = True

    # --- recovery points

    def _read_point(self, vault: _Vault, path: str, job: Job | None, now: float) -> Turns[None]:
        if path not in vault.items:
            return
        item, point = vault.items[path].item, _point_of(vault, path, job)
        try:
            if job is None:
                again_after = yield from self._newest_point(vault, path, point, now)
            else:
                again_after = yield from self._point_of_job(vault, job, item, point, now)
        except AzureBackupNotFoundError as error:
            point.flaw = str(error)
            point.succeed(now, _REREAD_AFTER)
        except AzureBackupError as error:
            self._fail(point, error, vault.vault.subscription_id, now)
        else:
            point.succeed(now, again_after if point.flaw else math.inf)
        vault.has_changed = True

    def _newest_point(self, vault: _Vault, path: str, point: _Point, now: float) -> Turns[float]:
        """Look for a recovery point of an item that is good enough.

        :return: seconds until another look may find one.
        """
        wanted, item = self.condition, vault.items[path].item
        jobs = self._jobs_of(vault, path)
        point.signature = _signature(vault.items[path], jobs)
        points = yield from list_recovery_points(
            item,
            after=requests.utc_datetime(wanted.after),
            before=requests.utc_datetime(now + requests.SLACK),
        )
        found, passed_over = newest_sufficient(
            points,
            wanted.after,
            min_consistency=wanted.min_consistency,
            min_tier=wanted.min_tier,
            require_all_disks=wanted.require_all_disks,
        )
        point.flaw = "" if found else (*passed_over, "no recovery point is new enough")[0]
        # One that is there may reach its tier, and that of a backup may be listed some moments late.
        soon = passed_over or any(job.is_running or job.ended > now - _LATE_LISTING for job in jobs)
        return _REREAD_AFTER if soon else math.inf

    def _point_of_job(
        self, vault: _Vault, job: Job, item: ProtectedItem, point: _Point, now: float
    ) -> Turns[float]:
        """Look for the recovery point of a backup, and what it lacks.

        :return: seconds until another look may find something else.
        """
        wanted, jobs = self.condition, [*vault.jobs.values()]
        found = yield from _until_pause(find_recovery_point(job, item, now, known_jobs=jobs))
        if found is None:
            point.flaw = "its recovery point is not listed yet"
            return self._poll_interval
        flaw = found.shortcoming(
            min_consistency=wanted.min_consistency,
            min_tier=wanted.min_tier,
            require_all_disks=wanted.require_all_disks,
            job=job,
        )
        point.flaw = f"{found}, but {flaw}" if flaw else ""
        return _REREAD_AFTER

    # --- the verdict

    def judge(self, now: float) -> Turns[Verdict]:
        """Return how all items stand, by what is known. It sends nothing.

        :param now: Unix time.
        :raises AzureBackupNotFoundError: if everything was read, and the scope selects nothing.
        :raises AzureBackupError: if Azure denies all of it, for longer than a passing fault lasts.
        """
        if refusal := self._refusal_of_all(now):
            raise refusal
        counts: Counter[Reason] = Counter()
        codes: Counter[str] = Counter()
        findings: list[Finding] = []
        unreadable = self._unreadable()
        ambiguous, unknown = self._named(bool(unreadable))
        for vault in [*self._vaults.values()]:
            yield from self._judge_vault(vault)
            found = {**(vault.findings or {}), **ambiguous.get(vault.vault, {})}
            counts[Reason.FRESH] += len(vault.matchers) - len(found)
            findings += found.values()
        findings += unknown
        for each in findings:
            counts[each.reason] += 1
            if each.reason is Reason.FAILED:
                codes[each.code or "without a code"] += 1
        if not counts.total() and not unreadable:
            raise AzureBackupNotFoundError(self._nothing())
        verdict = Verdict.of(findings, at=now, counts=counts, codes=codes, unreadable=unreadable)
        return replace(verdict, findings=tuple(map(self._foreseen, verdict.findings)))

    def _refusal_of_all(self, now: float) -> AzureBackupError | None:
        """Return why nothing can be read; None if anything can, or may be soon."""
        refusals = [
            *(read.lasting_refusal(now) for read in self._subscriptions.values()),
            *(
                each.listed.lasting_refusal(now) or each.jobs_read.lasting_refusal(now)
                for each in self._vaults.values()
            ),
        ]
        return refusals[0] if refusals and all(refusals) else None

    def _unreadable(self) -> dict[str, str]:
        """Return the error of each list of vaults or items that could not be read."""
        subscriptions = {
            f"/subscriptions/{subscription} ({vault_type})": read.fault
            for (subscription, vault_type), read in self._subscriptions.items()
            if read.fault
        }
        vaults = {each.vault.path: each.listed.fault for each in self._vaults.values() if each.listed.fault}
        return {**subscriptions, **vaults}

    def _named(self, is_blind: bool) -> tuple[dict[Vault, dict[str, Finding]], list[Finding]]:
        """Return what is wrong with the names of an explicit scope: several items have one, or none has.

        :param is_blind: whether an item may be in what could not be read.
        """
        if not self.scope.named:
            return {}, []
        meant: dict[str, list[tuple[_Vault, str]]] = {text: [] for text in self.scope.named}
        for vault in self._vaults.values():
            for path in vault.matchers:
                for text in names_of(vault.items[path]).intersection(meant):
                    meant[text].append((vault, path))
        several: dict[Vault, dict[str, Finding]] = {}
        for text, items in meant.items():
            for vault, path in items if len(items) > 1 else ():
                detail = f"{self.scope.named[text]!r} names {len(items)} items; give the ARM ids"
                finding = _finding(vault, vault.items[path], Reason.UNREADABLE, detail=detail)
                several.setdefault(vault.vault, {})[path] = finding
        reason = Reason.UNREADABLE if is_blind else Reason.NOT_PROTECTED
        none = [self.scope.named[text] for text, items in meant.items() if not items]
        detail = "no vault that could be read protects it"
        return several, [
            Finding(item=text, name=text.rpartition("/")[2], vault="", reason=reason, detail=detail)
            for text in none
        ]

    def _nothing(self) -> str:
        """Say what there is instead of what was asked for."""
        items = [each for vault in self._vaults.values() for each in vault.items.values()]
        words = {
            "policies": Counter(each.policy or "none" for each in items),
            "workloads": Counter(workload_of(each) for each in items),
            "states": Counter(each.state or "none" for each in items),
        }
        there = "; ".join(
            f"{name}: {', '.join(f'{word} ({count})' for word, count in found.most_common(_MOST_WORDS))}"
            for name, found in words.items()
            if found
        )
        return (
            f"the scope selects nothing ({self.scope}). Vaults in it: {len(self._vaults)}, with "
            f"{len(items)} protected items{f'. Their {there}' if there else ''}"
        )

    def _judge_vault(self, vault: _Vault) -> Turns[None]:
        if not vault.has_changed:
            return
        # A list may come while others have their turn.
        vault.has_changed, vault.running, vault.wanted, vault.unconfirmed = False, {}, [], {}
        findings = {}
        for number, path in enumerate([*vault.matchers]):
            finding = self._judge(vault, path)
            if finding.reason is not Reason.FRESH:
                findings[path] = finding
            if number % _AT_ONCE == 0:
                yield None
        vault.findings = findings

    def _judge(self, vault: _Vault, path: str) -> Finding:
        found, matcher = vault.items[path], vault.matchers[path]
        if doubt := _doubt_about(vault, path):
            return _finding(vault, found, Reason.UNREADABLE, detail=doubt)
        if found.is_deleted:
            return _finding(vault, found, Reason.SOFT_DELETED, detail=found.trouble)
        if isinstance(matcher, str):
            return _finding(vault, found, Reason.UNREADABLE, detail=matcher)
        try:
            workload = workload_of(found).casefold()
            check_min_tier(workload, found.friendly_name, self.condition.min_tier, on_demand=False)
        except AzureBackupError as error:
            return _finding(vault, found, Reason.INSUFFICIENT, detail=str(error))
        jobs = self._jobs_of(vault, path)
        since = [job for job in jobs if job.began >= self.condition.after]
        if self.condition.by_point:
            steps = self._by_point(vault, path, jobs, since)
        else:
            steps = [self._by_job(vault, path, job) for job in since]
        vault.running[path] = next((step.job for step in steps if step.reason is Reason.RUNNING), None)
        return _conclude(vault, found, steps, jobs)

    def _foreseen(self, finding: Finding) -> Finding:
        """Add to a finding when its running backup is likely to end."""
        if finding.reason is not Reason.RUNNING:
            return finding
        path = finding.item.casefold()
        job = next((each.running[path] for each in self._vaults.values() if path in each.running), None)
        expected = self._foresee(job) if job else None
        return replace(finding, expected_end=iso_time(expected.p50)) if expected else finding

    def likely_late(self, expected_by: float) -> Turns[list[float]]:
        """Return when backups that run are likely to end, of those that are likely to end after a moment.

        :param expected_by: the moment, in Unix time.
        """
        ends = []
        jobs = [job for vault in self._vaults.values() for job in vault.running.values() if job]
        for number, job in enumerate(jobs):
            expected = self._foresee(job)
            if expected and expected.p50 > expected_by:
                ends.append(expected.p50)
            if number % _AT_ONCE == 0:
                yield None
        return ends

    def _by_job(self, vault: _Vault, path: str, job: Job) -> _Step:
        """Return what a backup of an item proves."""
        if job.outcome is Outcome.WARNED and self.condition.accept_warnings:
            if job.ref.job_id.casefold() not in vault.confirmed:
                vault.unconfirmed[job.ref.job_id.casefold()] = job
                return _Step(Reason.UNREADABLE, job, _NOT_CONFIRMED)
        elif job.outcome is not Outcome.SUCCEEDED:
            return _Step(_ENDS[job.outcome], job, "; ".join(map(str, job.errors)) or job.message)
        try:
            is_proven(job, accept_warnings=self.condition.accept_warnings)
        except AzureBackupJobFailedError as error:
            return _Step(_ENDS[job.outcome], job, str(error).replace("\n", " "))
        # What ended with warnings may have left a partial recovery point, or none.
        if not self.condition.require_recovery_point and job.outcome is Outcome.SUCCEEDED:
            return _Step(Reason.FRESH, job)
        vault.wanted.append((path, job))
        return _of_point(_point_of(vault, path, job), job)

    def _by_point(self, vault: _Vault, path: str, jobs: Sequence[Job], since: Sequence[Job]) -> list[_Step]:
        """Return what the newest recovery point of an item proves, and how its backups went."""
        found = vault.items[path]
        ends = [_Step(_ENDS[job.outcome], job, "; ".join(map(str, job.errors))) for job in since]
        newest = _unix(found.last_recovery_point)
        if not jobs and newest < self.condition.after:
            return ends
        point = _point_of(vault, path, None)
        if point.flaw and not point.fault and point.signature != _signature(found, jobs):
            point.again_at = -math.inf
        vault.wanted.append((path, None))
        step = _of_point(point, None)
        if step.reason is Reason.INSUFFICIENT and not since and newest < self.condition.after:
            return ends
        return [*ends, step]

    def _jobs_of(self, vault: _Vault, path: str) -> list[Job]:
        """Return the backups of an item, those that prove most first."""
        matcher = vault.matchers[path]
        if isinstance(matcher, str):
            return []
        found, ours = vault.items[path], []
        named_since = vault.named_since.get(path, -math.inf)
        for job_id in vault.by_key.get(matcher.key, ()):
            job = vault.jobs.get(job_id)
            if job and matcher.matches(job) and not (matcher.names and job.began < named_since):
                with suppress(AzureBackupWrongJobError):
                    check_facts(job, found.item, action="backup", source=found.source_id)
                    ours.append(job)
        return sorted(ours, key=proof_rank, reverse=True)

    # --- faults

    def _fail(self, read: _Read, error: AzureBackupError, subscription: str, now: float) -> None:
        read.fail(error, now, self._poll_interval)
        self._block(error, subscription, now)

    def _block(self, error: AzureBackupError, subscription: str, now: float) -> None:
        """Ask nothing in a subscription for as long as Azure asks to wait."""
        until = now + (error.retry_after or 0.0)
        self._blocked[subscription] = max(until, self._blocked.get(subscription, until))


class _Step(NamedTuple):
    """What one backup, or one recovery point, says about its item."""

    reason: Reason
    job: Job | None
    detail: str = ""


def _facts(job: Job) -> tuple[object, ...]:
    """Return what of a job may change the judgement."""
    return job.status, job.operation, job.item, job.owner, job.workload, job.end_time, job.errors


def _doubt_about(vault: _Vault, path: str) -> str:
    """Return why it is not known how an item stands, by what the lists have shown of it."""
    if path in vault.twice:
        return "the list of the vault shows it twice"
    if path in vault.vanished and (fault := vault.vanished[path].fault):
        return f"the list of the vault shows it no longer, and whether it is gone is not known: {fault}"
    return ""


def _conclude(vault: _Vault, found: FoundItem, steps: Sequence[_Step], jobs: Sequence[Job]) -> Finding:
    """Return the finding about an item.

    :param steps: what its backups prove.
    :param jobs: all its backups that are known.
    """
    of_reason = {step.reason: step for step in reversed(steps)}
    if Reason.FRESH in of_reason:
        return _finding(vault, found, Reason.FRESH)
    last_good = _last_good(found, jobs)
    if vault.jobs_read.fault:
        detail = f"the jobs of the vault cannot be listed: {vault.jobs_read.fault}"
        return _finding(vault, found, Reason.UNREADABLE, detail=detail, last_good=last_good)
    newest = max(steps, key=lambda step: step.job.began if step.job else 0.0, default=None)
    step = of_reason.get(Reason.UNREADABLE) or of_reason.get(Reason.RUNNING) or newest
    if step is None:
        reason = Reason.STOPPED if found.trouble else Reason.NEVER_TRIED
        return _finding(vault, found, reason, detail=found.trouble, last_good=last_good)
    detail = step.detail
    if step.reason is Reason.INSUFFICIENT and not detail:
        detail = next((each.detail for each in steps if each.job is None), "")
    return _finding(vault, found, step.reason, job=step.job, detail=detail, last_good=last_good)


def _finding(
    vault: _Vault,
    found: FoundItem,
    reason: Reason,
    *,
    job: Job | None = None,
    detail: str = "",
    last_good: str | None = None,
) -> Finding:
    codes = (error.title or error.code for error in (job.errors if job else ()))
    return Finding(
        item=found.item.path,
        name=found.friendly_name or found.item.name,
        vault=vault.vault.name,
        reason=reason,
        code=next(filter(None, codes), None),
        detail=detail or None,
        job_id=job.ref.job_id if job else None,
        last_good=last_good,
    )


def _last_good(found: FoundItem, jobs: Sequence[Job]) -> str | None:
    """Return the time of the last good backup: that of the newest job, or what Azure says of the item."""
    good = (job for job in jobs if job.outcome is Outcome.SUCCEEDED)
    if last := max((job.end_time or job.start_time or "" for job in good), default=""):
        return last
    if found.last_recovery_point or found.last_backup_status.casefold() != "completed":
        return found.last_recovery_point
    return found.last_backup_time


def _point_of(vault: _Vault, path: str, job: Job | None) -> _Point:
    return vault.points.setdefault((path, job.ref.job_id if job else ""), _Point())


def _of_point(point: _Point, job: Job | None) -> _Step:
    """Return what a recovery point proves."""
    if point.fault:
        return _Step(Reason.UNREADABLE, job, f"its recovery point cannot be read: {point.fault}")
    return _Step(Reason.INSUFFICIENT if point.flaw else Reason.FRESH, job, point.flaw)


def _signature(found: FoundItem, jobs: Sequence[Job]) -> object:
    """Return what changes when an item may have a new recovery point."""
    newest = max(jobs, key=lambda job: job.began, default=None)
    return found.last_recovery_point, newest and (newest.ref.job_id, newest.status)


def _unix(time: str | None) -> float:
    return datetime.fromisoformat(time).timestamp() if time else -math.inf


def _check_complete(pages: Iterable[Page], read: int, what: str) -> None:
    """Reject a list with entries that could not be read.

    :param read: how many were.
    :raises AzureBackupTransientError: with how many were not.
    """
    if unread := sum(len(page.values) + page.unread for page in pages) - read:
        raise AzureBackupTransientError(f"a list of {what} has {unread} entries that cannot be read")


def _until_pause(flow: Flow[T]) -> Flow[T | None]:
    """Run a flow until it wants to wait, and return None then.

    :raises AzureBackupError: if it wants to wait because its last request failed.
    """
    try:
        request = next(flow)
        while True:
            answer = yield request
            asked, request = request, flow.send(answer)
            if request.delay:
                accepted(answer, asked, 200)
                return None
    except StopIteration as end:
        result: T = end.value
        return result


def without_turns(flow: Turns[T]) -> Flow[T]:
    """Run a conversation where nobody else needs a turn."""
    answer: Answer | None = None
    try:
        while True:
            request = flow.send(answer)
            answer = None if request is None else (yield request)
    except StopIteration as end:
        result: T = end.value
        return result

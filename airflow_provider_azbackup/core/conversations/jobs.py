"""Conversations about jobs: read one, list them, wait for one, cancel one."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import Unpack

from airflow_provider_azbackup.core.conversations.retry import (
    REFUSAL_PAUSE,
    Patience,
    accepted,
    all_pages,
    ask,
    retry_until,
    spread_pause,
)
from airflow_provider_azbackup.core.model.jobs import Job
from airflow_provider_azbackup.core.model.resources import JobRef, Vault
from airflow_provider_azbackup.core.model.validation import WaitUntil, cancel_unsupported
from airflow_provider_azbackup.core.rest import requests, responses
from airflow_provider_azbackup.core.rest.requests import is_between
from airflow_provider_azbackup.core.wire import RESPONSE_GRACE, Answer, Flow, Request
from airflow_provider_azbackup.exceptions import (
    AzureBackupAuthError,
    AzureBackupError,
    AzureBackupNotFoundError,
    AzureBackupRefusedError,
    AzureBackupTimeoutError,
)

# What is called after each read of a job: with the job as last seen, and with the fault if there was one.
OnRead = Callable[[Job | None, AzureBackupError | None], None]


@dataclass(frozen=True, kw_only=True)
class ListedJob:
    """A job as a list of its vault shows it, and the Unix time of that list."""

    job: Job
    at: float


def get_job(ref: JobRef) -> Flow[Job]:
    """Return how one job stands now."""
    return responses.read_job(ref, (yield from ask(requests.get_job(ref))))


def get_job_despite_refusals(ref: JobRef, since: float) -> Flow[Job]:
    """Return how a job stands now. A 401, 403 or 404 is retried for some seconds, because it may be a passing
    fault.

    :param since: Unix time at which the wait began; Azure may not know a job in its first minute.
    :raises AzureBackupError: for a 401, 403 or 404 that lasts, and for any other fault at once.
    """
    request, patience, pause = requests.get_job(ref), Patience(since), 0.0
    while True:
        answer = yield request.delayed(pause)
        try:
            return responses.read_job(ref, accepted(answer, request, 200))
        except (AzureBackupAuthError, AzureBackupNotFoundError) as error:
            patience.record_failure(error, answer.at)
            pause = spread_pause(REFUSAL_PAUSE, error)


def cancel_job(ref: JobRef) -> Flow[None]:
    """Ask Azure to cancel a job. To learn whether it was cancelled, keep reading the job.

    :raises AzureBackupRefusedError: if Azure declines, for example because the job is over.
    """
    yield from ask(requests.cancel_job(ref), 200, 202, 204)


def wait_for_job(
    ref: JobRef,
    *,
    poll_interval: float,
    deadline: float,
    since: float,
    on_read: OnRead,
    first_pause: float = 0.0,
    wait_until: WaitUntil = "completion",
) -> Generator[Request, Answer | ListedJob, Job]:
    """Read a job until it is over, and return it, no matter how it ended.

    Each request may also be answered with the job as a list of the vault shows it.

    Throttling, server errors and missing responses are retried until the deadline. A 401, 403 or 404 that
    lasts ends the wait within a minute.

    :param ref: the job.
    :param poll_interval: seconds between reads, spread by 15 % so that many waits do not read at once.
    :param deadline: Unix time of the last read.
    :param since: Unix time at which the wait began; Azure may not know a job in its first minute.
    :param on_read: called after each read.
    :param first_pause: seconds to wait before the first read.
    :param wait_until: ``snapshot`` ends the wait for a VM's backup once its snapshot has been taken.
    :raises AzureBackupTimeoutError: if the job still runs at the deadline.
    :raises AzureBackupError: if another read cannot help.
    """
    request = replace(requests.get_job(ref), deadline=deadline + RESPONSE_GRACE)
    patience = Patience(since)
    job: Job | None = None
    pause = min(first_pause, deadline - since)
    while True:
        answer = yield request.delayed(pause)
        try:
            if isinstance(answer, ListedJob):
                job = answer.job
            else:
                job = responses.read_job(ref, accepted(answer, request, 200))
            patience.record_success()
        except AzureBackupError as error:
            patience.record_failure(error, answer.at)
        on_read(job, patience.fault)
        if job is not None and job.is_enough(wait_until):
            return job
        if answer.at >= deadline:
            raise AzureBackupTimeoutError(
                f"the job did not end within {answer.at - since:.0f} s: "
                f"{job or f'job {ref.job_id} was never seen'}"
                f"{f' (last read: {patience.fault})' if patience.fault else ''}",
                job=job.facts() if job else None,
            )
        pause = min(spread_pause(poll_interval, patience.fault), deadline - answer.at)


def cancel_unless_over(ref: JobRef, *, since: float, until: float) -> Flow[Job]:
    """Ask Azure to cancel a job, unless it is over or being cancelled already, and return how it stands then.

    :param since: Unix time at which the caller began.
    :param until: Unix time until which faults are retried.
    :raises AzureBackupRefusedError: if Azure declines and the job goes on.
    :raises AzureBackupConfigError: for a job of a Backup vault, before any request is sent.
    """
    if ref.vault.is_backup_vault:
        raise cancel_unsupported(f"to cancel job {ref.job_id} of vault {ref.vault.name}")

    def read() -> Flow[Job]:
        return retry_until(lambda: get_job(ref), since=since, until=until)

    job = yield from read()
    if not job.is_running or job.is_being_cancelled:
        return job
    try:
        yield from retry_until(lambda: cancel_job(ref), since=since, until=until)
    except AzureBackupRefusedError:
        # The job may just have ended, or an earlier request whose response was lost has cancelled it.
        job = yield from read()
        if job.is_running and not job.is_being_cancelled:
            raise
        return job
    return (yield from read())


def list_jobs(first: Request, vault: Vault, **wanted: Unpack[requests.JobFilter]) -> Flow[list[Job]]:
    """Return the jobs of all pages of a list.

    :param wanted: what the list is narrowed by. A Backup vault lists everything, so it is applied here.
    """
    pages = yield from all_pages(first)
    jobs = [job for page in pages for job in responses.read_jobs(vault, page)]
    return [job for job in jobs if _is_wanted(job, wanted)] if vault.is_backup_vault else jobs


def _is_wanted(job: Job, wanted: requests.JobFilter) -> bool:
    words = (
        (wanted.get("status"), job.status),
        (wanted.get("operation"), job.operation),
        (wanted.get("backup_management_type"), job.backup_management_type),
    )
    return all(not word or word.casefold() == is_so.casefold() for word, is_so in words) and is_between(
        job.start_time, wanted.get("started_after"), wanted.get("started_before")
    )

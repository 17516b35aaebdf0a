"""Does this vault behave as the provider assumes? Only reads, except for actions that name their item.

The tests run in this order. A test of an action is skipped unless its variable is set.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_provider_azbackup.core.conversations.operations import OPERATION_LIMIT
from airflow_provider_azbackup.core.conversations.recovery_point_of_job import AFTER, BEFORE, LISTING_LIMIT
from airflow_provider_azbackup.core.model.jobs import OUTCOMES, Job, Outcome
from airflow_provider_azbackup.core.model.resources import JobRef
from airflow_provider_azbackup.core.polling.budget import USUAL_LIMIT
from airflow_provider_azbackup.core.rest import requests, responses
from airflow_provider_azbackup.core.rest.responses import FoundItem
from airflow_provider_azbackup.core.start.find import SETTLED, SKEW
from airflow_provider_azbackup.restore_to import other_share
from airflow_provider_azbackup.runtime.transport import LARGEST_ANSWER
from dev.live.settings import Settings
from tests.conformance.conftest import Live

SETTINGS = Settings.read()
DAYS = 7
ROWS = 1000  # of a page, for which LARGEST_ANSWER was chosen


def days_ago(days: float) -> datetime:
    return datetime.now(UTC) - timedelta(days=days)


def share(number: int, of: int) -> str:
    return f"{number} of {of}"


@pytest.fixture(scope="session")
def item(live: Live) -> FoundItem:
    """The item that is looked up."""
    if SETTINGS.item:
        return live.hook.get_protected_item(SETTINGS.item)
    found = live.hook.list_protected_items()
    assert found, "the vault protects nothing, so there is nothing to look up"
    return found[0]


@pytest.fixture(scope="session")
def jobs(live: Live) -> list[Job]:
    """The jobs of the last days."""
    return live.hook.list_jobs(started_after=days_ago(DAYS), started_before=days_ago(-1))


def test_the_identity_gets_a_token_and_may_read_the_vault(live: Live) -> None:
    began = time.time()
    worked, said = live.hook.test_connection()
    assert worked, said
    live.report.figures["Sign-in and first read"] = f"{time.time() - began:.1f} s"


def test_an_item_is_found_by_its_id_and_by_its_name(live: Live, item: FoundItem) -> None:
    by_id = live.hook.resolve_protected_item(item.item.path)
    assert by_id == item.item
    listed = live.hook.list_protected_items(include_deleted=True)
    same_name = [each for each in listed if each.answers_to(item.friendly_name)]
    assert item.item.path.casefold() in {each.item.path.casefold() for each in same_name}
    if len(same_name) == 1:
        assert live.hook.resolve_protected_item(item.friendly_name) == item.item
    live.report.figures["Protected items"] = str(len(listed))


def test_a_list_of_jobs_is_narrowed_by_what_it_is_asked_for(live: Live, jobs: list[Job]) -> None:
    window = {"started_after": days_ago(DAYS), "started_before": days_ago(-1)}
    for word in ("Completed", "Failed"):
        found = live.hook.list_jobs(status=word, **window)
        right = sum(job.status.casefold() == word.casefold() for job in found)
        live.report.check(
            f"A list narrowed by the status `{word}` shows no other",
            right == len(found) if found else None,
            share(right, len(found)),
            "core/start/find.py",
        )
    found = live.hook.list_jobs(operation="Backup", **window)
    right = sum(job.action == "backup" for job in found)
    live.report.check(
        "A list narrowed by the operation `Backup` shows backups only",
        right == len(found) if found else None,
        share(right, len(found)),
        "core/start/find.py",
    )
    live.report.figures[f"Jobs of {DAYS} days"] = str(len(jobs))


def test_a_list_of_jobs_may_be_narrowed_by_one_date_alone(live: Live, jobs: list[Job]) -> None:
    vault = live.hook.settings.vault(subscription_id=None, resource_group_name=None, vault_name=None)
    assert vault
    if vault.is_backup_vault:
        pytest.skip("Azure filters no list of jobs of a Backup vault")
    moment = days_ago(1)
    answer = live.hook.send(requests.list_jobs(vault, started_after=moment))
    seen = f"HTTP {answer.status}"
    held = answer.status == 200
    if held:
        found = responses.read_jobs(vault, responses.read_page(answer))
        older = sum(job.began < moment.timestamp() - 60 for job in found)
        held, seen = not older, f"HTTP 200, {share(older, len(found))} jobs older than the date"
    live.report.check(
        "A list of jobs with a start date alone shows none that began before it",
        held,
        seen,
        "core/rest/requests.py",
    )


def test_the_status_words_of_all_jobs_are_known(live: Live, jobs: list[Job]) -> None:
    unknown = {job.status for job in jobs if job.status.casefold() not in OUTCOMES}
    live.report.check(
        "All status words of jobs are in the table of outcomes",
        not unknown if jobs else None,
        ", ".join(sorted(unknown)) or f"{len({job.status for job in jobs})} different words, all known",
        "core/model/jobs.py",
    )


def test_pages_of_lists_are_of_the_expected_size(live: Live, jobs: list[Job]) -> None:
    pages = [each for each in live.hook.tape.exchanges if each.method == "GET" and '"value"' in each.text]
    read = [(each, responses.read_page(each.answer)) for each in pages if each.status == 200]
    rows = max(len(page.values) for _, page in read)
    size = max(len(each.text.encode()) for each, _ in read)
    followed = [page for _, page in read if page.next_link]
    live.report.check(
        f"A page has at most {ROWS} rows and {LARGEST_ANSWER // 2**20} MiB",
        rows <= ROWS and size <= LARGEST_ANSWER,
        f"at most {rows} rows and {size} bytes",
        "runtime/transport.py",
    )
    # The hook has followed them all, or it would have raised.
    live.report.check(
        "The link to the next page leads to the host of the page",
        True if followed else None,
        f"{len(followed)} of {len(read)} pages had a link",
        "core/rest/requests.py",
    )


def test_the_recovery_points_of_an_item_are_read(live: Live, item: FoundItem) -> None:
    points = live.hook.list_recovery_points(item.item)
    live.report.figures["Recovery points of the item"] = str(len(points))
    single = [point for point in points if point.point_id]
    times = [point.unix_time for point in single]
    live.report.check(
        "Recovery points are listed with the newest first",
        times == sorted(times, reverse=True) if len(times) > 1 else None,
        f"{len(times)} recovery points",
        "core/rest/requests.py",
    )
    if single:
        assert live.hook.get_recovery_point(item.item, single[0].point_id).time == single[0].time


@pytest.mark.skipif(not SETTINGS.back_up, reason="LIVE_BACK_UP names no item")
def test_a_backup_is_followed_to_its_end_and_its_recovery_point_is_found(live: Live) -> None:
    hook, report = live.hook, live.report
    target = hook.resolve_protected_item(SETTINGS.back_up)
    ref = start(live, SETTINGS.back_up)
    listed_after(live, ref)
    job = hook.wait_for_job(
        ref.path, poll_interval=SETTINGS.poll_seconds, timeout=SETTINGS.hours * 3600, check=False
    )
    assert not job.is_running
    report.figures["The backup ended"] = f"{job.status}, after {job.duration_seconds or 0:.0f} s by Azure"
    assert job.is_backup, job.operation
    if job.outcome is not Outcome.SUCCEEDED:
        return
    began = time.time()
    point = hook.find_recovery_point(job, target)
    lag, after = time.time() - began, point.unix_time - job.began
    report.check(
        f"The recovery point of a completed backup is listed within {LISTING_LIMIT:g} s",
        lag <= LISTING_LIMIT,
        f"{lag:.1f} s after the end of the job was seen",
        "core/conversations/recovery_point_of_job.py",
    )
    report.check(
        f"A recovery point is of {BEFORE:g} s before its job began to {AFTER:g} s after it ended",
        after >= -BEFORE and point.unix_time <= (job.ended or point.unix_time) + AFTER,
        f"{after:.0f} s after the job began, {job.ended - point.unix_time:.0f} s before it ended",
        "core/conversations/recovery_point_of_job.py",
    )
    tiers = ", ".join(f"{tier} {state}" for tier, state in point.tiers)
    report.figures["`Completed` left the recovery point in"] = tiers or "no tier that Azure names"


@pytest.mark.skipif(not SETTINGS.cancel, reason="LIVE_CANCEL names no item")
def test_a_backup_that_is_cancelled_proves_nothing(live: Live) -> None:
    ref = start(live, SETTINGS.cancel)
    began = time.time()
    job = live.hook.cancel_job(
        ref.path, wait=True, poll_interval=SETTINGS.poll_seconds, timeout=SETTINGS.hours * 3600
    )
    assert job
    live.report.check(
        "A backup that was cancelled does not count as a success",
        job.outcome is not Outcome.SUCCEEDED,
        f"{job.status}, {time.time() - began:.0f} s after the request",
        "core/model/jobs.py",
    )


@pytest.mark.skipif(not SETTINGS.restore, reason="LIVE_RESTORE names no file share")
def test_files_of_a_share_are_restored_into_a_folder(live: Live) -> None:
    found = live.hook.get_protected_item(SETTINGS.restore)
    target = other_share(
        storage_account_id=found.source_id,
        share=found.friendly_name,
        folder=SETTINGS.restore_folder,
        files=SETTINGS.restore_files,
        copy_options="Skip",
    )
    operation = live.hook.trigger_restore(found.item, restore_to=target)
    ref = live.hook.wait_for_operation(operation, "restore")
    job = live.hook.wait_for_job(
        ref.path, poll_interval=SETTINGS.poll_seconds, timeout=SETTINGS.hours * 3600, check=False
    )
    assert job.is_restore, job.operation
    assert job.outcome is Outcome.SUCCEEDED, str(job)
    live.report.figures["The restore ended"] = f"{job.status}, after {job.duration_seconds or 0:.0f} s"


def test_what_the_headers_of_all_answers_say(live: Live) -> None:
    """Last, because it looks at everything that was read before."""
    tape, report = live.hook.tape, live.report
    reads = [each for each in tape.job_reads() if each.status == 200]
    if not reads:
        pytest.skip("no read of jobs was answered")
    stated = [(each, each.remaining) for each in reads if each.remaining is not None]
    report.check(
        "Each answer to a read of jobs says how many are left",
        len(stated) == len(reads),
        share(len(stated), len(reads)),
        "core/polling/budget.py",
    )
    most = max((left for _, left in stated), default=0)
    report.check(
        f"At least {USUAL_LIMIT:g} reads of jobs are granted",
        most + len(reads) >= USUAL_LIMIT if stated else None,
        f"at most {most} were left",
        "core/polling/budget.py",
    )
    first = reads[0].at
    report.series["Reads of jobs that were left"] = [
        ("Seconds", "Left"),
        *((f"{each.at - first:.0f}", str(left)) for each, left in _changes(stated)),
    ]
    ahead = [each.answer.date - (each.sent_at + each.at) / 2 for each in tape.exchanges if each.answer.date]
    worst = max(ahead, key=abs)
    report.check(
        f"Azure's clock and this computer's differ by at most {SKEW:g} s",
        abs(worst) <= SKEW,
        f"at most {worst:+.1f} s, of {len(ahead)} answers with a date",
        "core/start/find.py",
    )
    retried = [each for each in tape.exchanges if each.status in (408, 429) or each.status >= 500]
    report.figures["Answers that were faults"] = ", ".join(str(each.status) for each in retried) or "none"


def start(live: Live, name: str) -> JobRef:
    """Start a backup, and note how long Azure took to name its job."""
    asked = time.time()
    operation = live.hook.trigger_backup(name)
    ref = live.hook.wait_for_operation(operation)
    took = time.time() - asked
    live.report.check(
        f"Azure names the job of a backup within {OPERATION_LIMIT:g} s",
        took <= OPERATION_LIMIT,
        f"{took:.1f} s from the request to the job",
        "core/conversations/operations.py",
    )
    return ref


def listed_after(live: Live, ref: JobRef) -> None:
    """Note how long after the job itself a list of running jobs shows it."""
    first = time.time()
    job = live.hook.get_job(ref.path)
    while job.is_running and time.time() - first < 2 * SETTLED:
        if any(each.ref == ref for each in live.hook.list_jobs(status="InProgress")):
            break
        time.sleep(min(10.0, SETTINGS.poll_seconds))
        job = live.hook.get_job(ref.path)
    lag = time.time() - first
    live.report.check(
        f"A list shows a running job at most {SETTLED:g} s after the job itself can be read",
        lag <= SETTLED if job.is_running else None,
        f"{lag:.1f} s" if job.is_running else "it was over before a list showed it",
        "core/start/find.py",
    )


def _changes(stated: list[tuple[Any, int | None]]) -> list[tuple[Any, int | None]]:
    """Leave out what says the same as the one before."""
    return [
        pair for before, pair in zip([(None, None), *stated], stated, strict=False) if before[1] != pair[1]
    ]

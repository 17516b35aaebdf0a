"""What the page shows of a vault's jobs: facts, sizes, and what is overdue."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_azbackup.core.model.jobs import Job, JobError
from airflow_provider_azbackup.core.model.resources import JobRef, ProtectedItem, Vault
from airflow_provider_azbackup.core.rest import requests
from airflow_provider_azbackup.core.rest.responses import FoundItem, parse_job
from airflow_provider_azbackup.core.wire import Response
from airflow_provider_azbackup.page import summary
from tests.support.work import lines_of

SAMPLES = Path(__file__).parent.parent / "samples"
VAULT = Vault(subscription_id="11111111-2222-3333-4444-555555555555", resource_group_name="rg", name="night")
VM = ProtectedItem(
    vault=VAULT, container="IaasVMContainer;iaasvmcontainerv2;apps-rg;shop-vm", name="VM;shop-vm"
)
HOUR = 3600.0


def sample(name: str) -> Job:
    body = json.loads((SAMPLES / f"{name}.json").read_text())
    job = parse_job(JobRef(vault=VAULT, job_id=body["name"]), body)
    assert job
    return job


DONE, RUNNING = sample("job_completed"), sample("job_running")
ITEM = FoundItem(item=VM, friendly_name="shop-vm", state="Protected")


def late(items: list[FoundItem], jobs: list[Job], now: float) -> list[tuple[str, str]]:
    found = summary.overdue(items, jobs, now=now, within=26 * HOUR)
    return [(each["item"], each["why"]) for each in found]


def test_an_item_is_overdue_when_its_last_good_backup_is_too_old() -> None:
    assert late([ITEM], [DONE], DONE.began + 25 * HOUR) == []
    assert late([ITEM], [DONE], DONE.began + 27 * HOUR) == [("shop-vm", "no_backup")]


@pytest.mark.parametrize("status", ["Failed", "CompletedWithWarnings", "Cancelled"])
def test_a_backup_that_ended_otherwise_does_not_count(status: str) -> None:
    assert late([ITEM], [replace(DONE, status=status)], DONE.began + HOUR) == [("shop-vm", "no_backup")]


def test_an_item_without_a_job_this_week_is_judged_by_its_last_recovery_point() -> None:
    pointed = replace(ITEM, last_recovery_point=DONE.start_time)
    assert late([pointed], [], DONE.began + 25 * HOUR) == []
    assert late([pointed], [], DONE.began + 27 * HOUR) == [("shop-vm", "no_backup")]
    assert late([ITEM], [], DONE.began + 25 * HOUR) == [("shop-vm", "no_backup")]


@pytest.mark.parametrize("state", ["ProtectionStopped", "BackupsSuspended", "SoftDeleted"])
def test_no_backup_is_expected_of_an_item_that_is_no_longer_protected(state: str) -> None:
    assert late([replace(ITEM, state=state)], [], DONE.began) == []


def test_an_overdue_item_with_a_running_backup_is_marked_as_such() -> None:
    assert late([ITEM], [RUNNING], RUNNING.began + HOUR) == [("shop-vm", "running")]


def test_a_job_that_runs_twice_as_long_as_any_other_of_its_item_is_late() -> None:
    before = replace(DONE, start_time="2026-02-02T01:00:00+00:00")
    jobs, usual = [RUNNING, before], before.duration_seconds or 0.0
    assert late([ITEM], jobs, RUNNING.began + 2 * usual - 60) == []
    assert late([], jobs, RUNNING.began + 2 * usual + HOUR) == [("shop-vm", "long")]


def virtual_machine(number: int) -> tuple[FoundItem, Job]:
    name = f"vm-{number}"
    container = f"iaasvmcontainerv2;apps-rg;{name}"
    item = ProtectedItem(vault=VAULT, container=f"IaasVMContainer;{container}", name=f"VM;{container}")
    return replace(ITEM, item=item, friendly_name=name), replace(DONE, item=name, owner=container)


def share(number: int) -> tuple[FoundItem, Job]:
    """One of many shares of the same name."""
    account = f"account{number}"
    item = ProtectedItem(
        vault=VAULT, container=f"StorageContainer;Storage;rg;{account}", name="AzureFileShare;data"
    )
    job = replace(DONE, item="data", owner=account, backup_management_type="AzureStorage")
    return replace(ITEM, item=item, friendly_name="data"), job


def database(number: int) -> tuple[FoundItem, Job]:
    """A database that each server has."""
    server = f"sql-{number}"
    item = ProtectedItem(
        vault=VAULT,
        container=f"VMAppContainer;Compute;rg;{server}",
        name="SQLDataBase;mssqlserver;msdb",
    )
    job = replace(
        DONE,
        item=f"msdb [{server}]",
        owner="",
        backup_management_type="AzureWorkload",
        operation="Backup (Full)",
        workload="SQLDataBase",
    )
    return replace(ITEM, item=item, friendly_name="msdb", server=server), job


def instance(number: int) -> tuple[FoundItem, Job]:
    vault = replace(VAULT, vault_type="DataProtection")
    item = ProtectedItem.parse(f"{vault.path}/backupInstances/disk-{number}")
    return replace(ITEM, item=item, friendly_name=f"disk-{number}"), replace(DONE, owner=item.path)


def namesake(number: int) -> tuple[FoundItem, Job]:
    """A database that each server has, whose job does not name the server, as in its first moments."""
    item, job = database(number)
    return item, replace(job, item="msdb", workload="", status="InProgress")


@pytest.mark.parametrize("made", [virtual_machine, share, database, instance])
def test_one_item_without_a_backup_is_found_among_many(made: Callable[[int], tuple[FoundItem, Job]]) -> None:
    items, jobs = zip(*map(made, range(100)), strict=True)
    now = DONE.began + 25 * HOUR
    assert late([*items], [*jobs], now) == []
    assert len(late([*items], [*jobs][1:], now)) == 1


@pytest.mark.parametrize("made", [virtual_machine, share, database, instance, namesake])
def test_ten_times_the_items_and_jobs_take_ten_times_the_work(
    made: Callable[[int], tuple[FoundItem, Job]],
) -> None:
    def work(size: int) -> int:
        items, jobs = zip(*map(made, range(size)), strict=True)
        now = DONE.began + 25 * HOUR
        return lines_of(lambda: summary.overdue(items, jobs, now=now, within=26 * HOUR))

    assert 0 < work(1000) < 11 * work(100)


def test_databases_of_one_name_are_told_apart_by_server_and_instance() -> None:
    def named(server: str, name: str) -> FoundItem:
        item = replace(VM, container=f"VMAppContainer;Compute;rg;{server}", name=f"SQLDataBase;{name};msdb")
        return replace(ITEM, item=item, friendly_name="msdb", server=server)

    items = [named("sqlvm", "mssqlserver"), named("sqlvm", "sales"), named("other", "mssqlserver")]
    assert [each for each, _ in late(items, [], DONE.began)] == [
        "msdb [other / MSSQLSERVER]",
        "msdb [sqlvm / MSSQLSERVER]",
        "msdb [sqlvm / SALES]",
    ]


def test_a_backup_that_may_be_of_either_of_two_items_makes_neither_of_them_current() -> None:
    item, job = database(1)
    other = replace(item, item=replace(item.item, name="SQLDataBase;sales;msdb"))
    assert late([item], [job], DONE.began + HOUR) == []
    assert len(late([item, other], [job], DONE.began + HOUR)) == 2


def test_no_two_rows_of_different_items_have_the_same_title() -> None:
    group = "iaasvmcontainerv2;{};web"
    jobs = [
        *(replace(DONE, item="web", owner=group.format(name)) for name in ("north", "south")),
        *(share(number)[1] for number in (1, 2)),
        replace(DONE, item="alone"),
    ]
    assert [each["title"] for each in summary.rows(jobs)] == [
        "web in north", "web in south", "data in account1", "data in account2", "alone",
    ]  # fmt: skip


# The night


def test_the_last_backup_of_each_item_counts_and_failures_are_grouped_by_their_code() -> None:
    now = DONE.began + 12 * HOUR
    error = JobError(code="400095", title="UserErrorX", message="off")
    failed = replace(DONE, status="Failed", errors=(error,))
    jobs = [
        replace(failed, item="a", owner="a"),
        replace(DONE, item="a", owner="a"),  # an earlier one
        replace(failed, item="b", owner="b"),
        replace(DONE, item="c", owner="c"),
        replace(DONE, item="c", owner="c", operation="Restore", status="Failed"),
        replace(DONE, item="d", owner="d", status="Failed"),
    ]
    found = summary.night(jobs, [{"item": "e", "why": "no_backup"}, {"item": "f", "why": "long"}], now=now)
    assert found["counts"] == {"failed": 3, "succeeded": 1}
    assert [(each["code"], each["count"]) for each in found["errors"]] == [("UserErrorX", 2), ("", 1)]
    assert [each["item"] for each in found["errors"][0]["items"]] == ["a", "b"]
    assert (found["overdue_count"], found["long_count"]) == (1, 1)
    later = summary.night(jobs, [], now=now + 48 * HOUR)
    assert (later["counts"], later["errors"]) == ({}, [])


def test_the_overview_of_a_vault_is_bounded_and_says_how_much_there_is() -> None:
    late_items = [{"item": str(number), "why": "no_backup"} for number in range(500)]
    jobs = [replace(DONE, item=str(number), owner=str(number), status="Failed") for number in range(500)]
    found = summary.night(jobs, late_items, now=DONE.began + HOUR)
    assert (found["overdue_count"], len(found["overdue"])) == (500, summary.MOST_LISTED)
    assert (found["errors"][0]["count"], len(found["errors"][0]["items"])) == (500, summary.MOST_LISTED)


# What a Clear would do


def after_clear(operator: str, job: Job, jobs: list[Job], read_at: float | None = 0.0) -> str:
    return summary.after_clear(operator, job.facts(), jobs, now=DONE.began + 12 * HOUR, read_at=read_at)


FAILED = replace(DONE, status="Failed")


def test_a_clear_waits_for_the_backup_that_is_running() -> None:
    running = replace(DONE, status="InProgress", ref=JobRef(vault=VAULT, job_id="another"))
    assert "wait for the backup that is running, job another," in after_clear(
        "AzureBackupOperator", FAILED, [running, FAILED]
    )
    # The job of the task itself, where no list is known.
    assert f"job {RUNNING.ref.job_id}," in after_clear("AzureBackupOperator", RUNNING, [], None)


def test_a_clear_starts_a_new_backup_when_none_is_running() -> None:
    assert "because none is running" in after_clear("AzureBackupOperator", FAILED, [FAILED])
    other = replace(DONE, status="InProgress", item="other", owner="iaasvmcontainerv2;rg;other")
    assert "because none is running" in after_clear("AzureBackupOperator", FAILED, [other, FAILED])
    assert "one that may be running" in after_clear("AzureBackupOperator", FAILED, [], None)


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (4, "Up to 4 of the 9 on-demand backups of a day are used."),
        (9, "Up to 9 of the 9 on-demand backups of a day are used, so Azure may refuse another."),
        (12, "Up to 9 of the 9 on-demand backups of a day are used, so Azure may refuse another."),
    ],
)
def test_the_daily_limit_is_counted_from_the_list(made: int, text: str) -> None:
    assert after_clear("AzureBackupOperator", FAILED, [FAILED] * made).endswith(text)


def test_a_workload_without_a_documented_limit_has_no_count() -> None:
    job = replace(database(1)[1], status="Failed")
    assert "on-demand" not in after_clear("AzureBackupOperator", job, [job])


def test_a_clear_of_a_restore_looks_at_restores_only() -> None:
    restore = replace(DONE, operation="Restore", status="InProgress", ref=JobRef(vault=VAULT, job_id="mine"))
    running = replace(DONE, status="InProgress")
    assert "the restore that is running, job mine," in after_clear(
        "AzureBackupRestoreOperator", FAILED, [running, restore]
    )


def test_a_clear_of_a_sensor_looks_again_and_of_other_tasks_nothing_is_said() -> None:
    assert "same job again" in after_clear("AzureBackupJobSensor", FAILED, [])
    assert after_clear("BashOperator", FAILED, []) == ""


def page(jobs: list[dict[str, Any]], number: int, last: int) -> Response:
    link = f"https://azure{VAULT.path}/backupJobs?$skipToken={number}" if number < last else None
    url = f"https://azure{VAULT.path}/backupJobs"
    return Response(status=200, at=0.0, url=url, text=json.dumps({"value": jobs, "nextLink": link}))


def listing(last: int, now: float) -> tuple[int, summary.Listed]:
    """Play a list of so many pages, each with one job of its own; return how many reads it took."""
    flow, number = summary.list_week(VAULT, now), 0
    next(flow)
    try:
        while True:
            number += 1
            body = {**DONE.body, "name": f"0f8c2a51-7d3e-4b6a-9c1d-{number:012}"}
            flow.send(page([body], number, last))
    except StopIteration as end:
        return number, end.value


def test_a_list_is_read_to_its_end_or_to_the_limit_of_pages() -> None:
    now = DONE.began + HOUR
    assert listing(3, now) == (3, listing(3, now)[1])
    assert (len(listing(3, now)[1].jobs), listing(3, now)[1].cut) == (3, False)
    reads, found = listing(99, now)
    assert (reads, len(found.jobs), found.cut) == (summary.MOST_PAGES, summary.MOST_PAGES, True)


def test_jobs_older_than_a_week_are_left_out_unless_they_run() -> None:
    flow = summary.list_week(VAULT, RUNNING.began + summary.WEEK + HOUR)
    next(flow)
    with pytest.raises(StopIteration) as end:
        flow.send(page([{**DONE.body, "name": "a" * 8}, RUNNING.body], 1, 1))
    assert [job.status for job in end.value.value.jobs] == ["InProgress"]


def test_the_list_asks_for_a_week_with_slack_for_clocks() -> None:
    now = 1_790_000_000.0
    wanted = requests.list_jobs(
        VAULT,
        started_after=requests.utc_datetime(now - summary.WEEK - requests.SLACK),
        started_before=requests.utc_datetime(now + requests.SLACK),
    )
    assert next(summary.list_week(VAULT, now)) == wanted

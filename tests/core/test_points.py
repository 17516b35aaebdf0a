from __future__ import annotations

import re
from typing import Any

import pytest

from airflow_provider_azbackup.core import calls, replies
from airflow_provider_azbackup.core.jobs import Job
from airflow_provider_azbackup.core.points import RecoveryPoint, freshest
from airflow_provider_azbackup.core.recovery_point_of_job import POINT_LIMIT, find_recovery_point
from airflow_provider_azbackup.core.replies import Page
from airflow_provider_azbackup.core.resources import ProtectedItem
from airflow_provider_azbackup.core.wire import Call
from airflow_provider_azbackup.exceptions import AzureBackupConfigError, AzureBackupNotFoundError
from tests.core.play import ITEM, JOB, START, VAULT, answered, play

DATABASE = ProtectedItem(
    vault=VAULT, container="VMAppContainer;compute;apps-rg;sql01", name="SQLDataBase;mssqlserver;orders"
)


def body(point_id: str, time: str, *tiers: str, consistency: str = "AppConsistent") -> dict[str, Any]:
    """A machine's recovery point; a tier is ``InstantRP`` or ``InstantRP:Deleted``."""
    details = [dict(zip(("type", "status"), (*tier.split(":"), "Valid"), strict=False)) for tier in tiers]
    return {
        "id": f"{ITEM.path}/recoveryPoints/{point_id}",
        "name": point_id,
        "properties": {
            "objectType": "IaasVMRecoveryPoint",
            "recoveryPointType": consistency,
            "recoveryPointTime": time,
            "recoveryPointTierDetails": details,
            "recoveryPointProperties": {"expiryTime": "2026-03-05T00:00:00Z"},
        },
    }


def point(
    *tiers: str, consistency: str = "AppConsistent", time: str = "2026-02-03T01:00:06Z"
) -> RecoveryPoint:
    page = Page(values=(body("4711", time, *tiers, consistency=consistency),), next_link=None)
    (found,) = replies.read_points(ITEM, page)
    return found


def test_a_machines_point_is_read_with_all_that_azure_says() -> None:
    found = point("InstantRP", "HardenedRP")
    assert found.facts() == {
        "recovery_point_id": "4711",
        "arm_id": f"{ITEM.path}/recoveryPoints/4711",
        "time": "2026-02-03T01:00:06+00:00",
        "consistency": "AppConsistent",
        "backup_type": "",
        "tiers": {"InstantRP": "Valid", "HardenedRP": "Valid"},
        "expiry": "2026-03-05T00:00:00+00:00",
    }
    assert str(found) == (
        "recovery point 4711 of 2026-02-03T01:00:06+00:00 (AppConsistent): InstantRP Valid, HardenedRP Valid"
    )


def test_a_databases_point_spells_its_time_in_its_own_way() -> None:
    properties = {
        "objectType": "AzureWorkloadSQLPointInTimeRecoveryPoint",
        "recoveryPointTimeInUTC": "2026-02-03T01:00:20.5Z",
        "type": "Log",
        "timeRanges": [{"startTime": "2026-02-01T00:00:00Z", "endTime": "2026-02-03T00:30:00Z"}],
    }
    page = Page(values=({"name": "DefaultRangeRecoveryPoint", "properties": properties}, {}), next_link=None)
    (found,) = replies.read_points(DATABASE, page)
    assert (found.time, found.backup_type) == ("2026-02-03T01:00:20.500000+00:00", "Log")
    assert found.ranges == (("2026-02-01T00:00:00+00:00", "2026-02-03T00:30:00+00:00"),)


@pytest.mark.parametrize(
    ("tiers", "min_tier", "falls_short"),
    [
        (["InstantRP"], None, False),
        (["InstantRP"], "InstantRP", False),
        (["InstantRP"], "HardenedRP", True),
        (["InstantRP", "HardenedRP"], "HardenedRP", False),
        (["InstantRP:Deleted", "HardenedRP"], "InstantRP", False),
        (["InstantRP", "HardenedRP:Invalid"], "HardenedRP", True),
        (["ArchivedRP:Rehydrated"], "HardenedRP", False),
        (["IASnapshotRP"], "InstantRP", False),
        (["InstantRP:Deleted"], None, True),
        (["FutureRP"], "InstantRP", True),
        ([], None, False),  # Azure tells of none: nothing was asked for, and nothing speaks against it
        ([], "InstantRP", True),
    ],
)
def test_a_tier_counts_while_it_can_be_restored_from(
    tiers: list[str], min_tier: str | None, falls_short: bool
) -> None:
    assert bool(point(*tiers).shortcoming(min_tier=min_tier)) is falls_short


@pytest.mark.parametrize(
    ("consistency", "wanted", "falls_short"),
    [
        ("AppConsistent", "AppConsistent", False),
        ("appconsistent", "AppConsistent", False),
        ("FileSystemConsistent", "AppConsistent", True),
        ("FileSystemConsistent", "CrashConsistent", False),
        ("CrashConsistent", "FileSystemConsistent", True),
        ("", "CrashConsistent", True),
        ("SomethingNew", "CrashConsistent", True),
        ("SomethingNew", None, False),
    ],
)
def test_a_consistency_that_is_less_or_unknown_falls_short(
    consistency: str, wanted: str | None, falls_short: bool
) -> None:
    told = point("HardenedRP", consistency=consistency).shortcoming(min_consistency=wanted)
    assert bool(told) is falls_short
    assert not falls_short or str(wanted) in told


def test_the_freshest_is_the_newest_that_falls_short_in_nothing() -> None:
    old = point("HardenedRP", time="2026-02-01T01:00:00Z")
    good = point("HardenedRP", time="2026-02-02T01:00:00Z")
    new = point("InstantRP", time="2026-02-03T01:00:00Z")
    points, hardened = [new, old, good], {"min_consistency": None, "min_tier": "HardenedRP"}
    assert freshest(points, old.made, **hardened) == good
    assert freshest(points, old.made, min_consistency=None, min_tier=None) == new
    assert freshest(points, good.made + 1, **hardened) is None


# The recovery point of a job

BACKUP = Job(
    ref=JOB,
    status="Completed",
    operation="Backup",
    owner="iaasvmcontainerv2;apps-rg;shop-vm",
    backup_management_type="AzureIaasVM",
    start_time="2026-09-21T14:00:00.6+00:00",
    end_time="2026-09-21T14:40:00+00:00",
)


def page(*points: dict[str, Any]) -> Any:
    return answered(200, {"value": list(points)})


def find(*answers: Any, job: Job = BACKUP, item: ProtectedItem | None = None) -> Any:
    return play(find_recovery_point(job, item, START), *answers)


def test_it_is_the_one_made_between_start_and_end_of_the_job() -> None:
    said = find(
        page(
            body("late", "2026-09-21T15:00:00Z", "InstantRP"),
            body("ours", "2026-09-21T14:00:06Z", "HardenedRP"),
            body("before", "2026-09-21T13:59:59Z", "HardenedRP"),
        )
    )
    assert said.result.point_id == "ours"
    (call,) = said.calls
    assert call.path == f"{ITEM.path}/recoveryPoints"
    assert call.query == (
        ("$filter", "startDate eq '2026-09-21 01:00:00 PM' and endDate eq '2026-09-21 03:40:00 PM'"),
    )


def test_a_share_tells_whole_seconds() -> None:
    assert find(page(body("ours", "2026-09-21T14:00:00Z", "InstantRP"))).result.point_id == "ours"


def test_a_list_may_show_it_late() -> None:
    said = find(page(), answered(503), page(body("ours", "2026-09-21T14:00:06Z", "InstantRP")))
    assert said.result.point_id == "ours"
    assert len(said.calls) == 3


def test_one_that_is_never_shown_is_said_to_be_missing() -> None:
    missing = page(body("before", "2026-09-21T13:00:00Z", "HardenedRP"))
    asked: list[Call] = []
    with pytest.raises(AzureBackupNotFoundError, match="recovery point before of 2026-09-21T13:00:00"):
        play(find_recovery_point(BACKUP, None, START), then=missing, calls=asked)
    assert POINT_LIMIT <= sum(call.after for call in asked) < 2 * POINT_LIMIT


@pytest.mark.parametrize("operation", ["Restore", "Restore (Full)", "Backup (Log)", "ConfigureBackup"])
def test_a_job_that_makes_none_is_refused_before_any_request(operation: str) -> None:
    with pytest.raises(AzureBackupConfigError, match=re.escape(operation)):
        find(job=Job(ref=JOB, status="Completed", operation=operation, start_time=BACKUP.start_time))


@pytest.mark.parametrize(
    ("operation", "kind", "query"),
    [
        ("Backup (Full)", "Full", None),
        ("Backup (CopyOnlyFull)", "Full", None),
        ("Backup (Differential)", "Differential", "Differential"),
    ],
)
def test_of_a_database_it_has_the_type_of_the_backup(operation: str, kind: str, query: str | None) -> None:
    def database_point(point_id: str, backup_type: str) -> dict[str, Any]:
        properties = {"recoveryPointTimeInUTC": "2026-09-21T14:01:00Z", "type": backup_type}
        return {"name": point_id, "properties": properties}

    job = Job(
        ref=JOB,
        status="Completed",
        operation=operation,
        start_time=BACKUP.start_time,
        end_time=BACKUP.end_time,
    )
    said = find(page(database_point("log", "Log"), database_point("ours", kind)), job=job, item=DATABASE)
    assert said.result.point_id == "ours"
    assert (f"restorePointQueryType eq '{query}'" in said.calls[0].query[0][1]) is (query is not None)


def test_a_list_is_narrowed_as_azure_reads_it() -> None:
    call = calls.list_recovery_points(ITEM, after=calls.moment(0.0), query_type="Log")
    assert dict(call.query) == {
        "$filter": "startDate eq '1970-01-01 12:00:00 AM' and restorePointQueryType eq 'Log'"
    }

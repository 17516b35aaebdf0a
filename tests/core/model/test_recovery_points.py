from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_provider_azbackup.core.conversations.recovery_point_of_job import (
    LISTING_LIMIT,
    find_recovery_point,
)
from airflow_provider_azbackup.core.conversations.retry import retry_until
from airflow_provider_azbackup.core.model.jobs import Job, JobError
from airflow_provider_azbackup.core.model.recovery_points import (
    RecoveryPoint,
    choose_recovery_point,
    left_out,
    newest_sufficient,
)
from airflow_provider_azbackup.core.model.resources import BackupInstance, ProtectedItem
from airflow_provider_azbackup.core.rest import requests, responses
from airflow_provider_azbackup.core.rest.responses import Page
from airflow_provider_azbackup.core.wire import Flow, Request
from airflow_provider_azbackup.exceptions import AzureBackupConfigError, AzureBackupNotFoundError
from tests.support.play import ITEM, JOB, START, VAULT, answered, play

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
    (found,) = responses.read_recovery_points(ITEM, page)
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
        "state": "",
        "threat_status": "",
        "disks_included": None,
        "disks_attached": None,
        "excluded_disks": [],
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
    (found,) = responses.read_recovery_points(DATABASE, page)
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
        ([], None, False),  # Azure reports none: nothing was asked for, and nothing speaks against it
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
    reason = point("HardenedRP", consistency=consistency).shortcoming(min_consistency=wanted)
    assert bool(reason) is falls_short
    assert not falls_short or str(wanted) in reason


def read(*, seen_at: float = START, of: ProtectedItem = ITEM, **properties: Any) -> RecoveryPoint:
    """A VM's whole and healthy recovery point, but for these properties."""
    plain = body("4711", "2026-02-03T01:00:06Z", "InstantRP", "HardenedRP")
    plain["properties"] = {**plain["properties"], "recoveryPointProperties": None, **properties}
    (found,) = responses.read_recovery_points(of, Page(values=(plain,), next_link=None, at=seen_at))
    return found


FLAWS: list[tuple[dict[str, Any], str]] = [
    ({"recoveryPointState": "Partial"}, "marks it as partial"),
    ({"recoveryPointState": "partial"}, "marks it as partial"),
    ({"recoveryPointState": 1}, "marks it as partial"),
    ({"recoveryPointState": "Doubtful"}, "state as Doubtful, not Completed"),
    ({"recoveryPointState": 7}, "state as 7, not Completed"),
    ({"isPartialRP": True}, "marks it as partial"),
    ({"isPartialRP": "True"}, "marks it as partial"),
    ({"recoveryPointProperties": {"isSoftDeleted": True}}, "marked it as deleted"),
    ({"recoveryPointProperties": {"isSoftDeleted": "true"}}, "marked it as deleted"),
    ({"recoveryPointProperties": {"expiryTime": "2026-03-05T00:00:00Z"}}, "expired at 2026-03-05"),
    ({"threatStatus": "UnHealthy"}, "threat status as UnHealthy"),
    ({"threatStatus": "Unhealthy"}, "threat status as Unhealthy"),
    ({"threatStatus": "Warning"}, "threat status as Warning"),
    ({"threatStatus": 2}, "threat status as UnHealthy"),
    ({"threatStatus": "Quarantined"}, "threat status as Quarantined"),
    (
        {"threatStatus": "UnHealthy", "threatInfo": [{"threatTitle": "Petya", "threatState": "Active"}]},
        "Petya",
    ),
    ({"threatStatus": "Unknown", "threatInfo": [{"threatTitle": "Petya"}]}, r"a threat in it \(Petya\)"),
    ({"recoveryPointTierDetails": [{"type": 1, "status": 3}]}, r"no tier .*InstantRP Deleted"),
    ({"recoveryPointTierDetails": [{"type": "2", "status": "2"}]}, r"no tier .*HardenedRP Disabled"),
]


@pytest.mark.parametrize(("properties", "reason"), FLAWS)
def test_what_azure_says_against_a_point_is_always_a_shortcoming(
    properties: dict[str, Any], reason: str
) -> None:
    found = read(**properties)
    assert re.search(reason, found.shortcoming())
    assert found.loss or found.damage


@pytest.mark.parametrize("properties", [properties for properties, _ in FLAWS])
def test_a_point_that_azure_speaks_against_is_neither_fresh_nor_restored(properties: dict[str, Any]) -> None:
    bad = read(**properties)
    good = point("HardenedRP", time="2026-02-02T01:00:00Z")
    fresh, passed_over = newest_sufficient([good, bad], good.unix_time, min_consistency=None, min_tier=None)
    assert fresh == good
    assert passed_over == [f"{bad}, but {bad.shortcoming()}"]
    assert choose_recovery_point(ITEM, [bad, good]) == (good, [f"{bad}, but {bad.shortcoming()}"])
    with pytest.raises(AzureBackupNotFoundError, match=re.escape(bad.shortcoming())):
        choose_recovery_point(ITEM, [bad], as_of=datetime(2026, 6, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    "properties",
    [
        {},
        {"recoveryPointState": "Completed"},
        {"recoveryPointState": 0, "isPartialRP": False},
        {"recoveryPointState": None, "isPartialRP": None, "threatStatus": None, "threatInfo": None},
        {"recoveryPointProperties": {"isSoftDeleted": False, "expiryTime": "2027-03-05T00:00:00Z"}},
        {"threatStatus": "Healthy", "threatInfo": []},
        {"threatStatus": "Unknown"},
        {"threatStatus": "NotAvailable"},
        {"threatStatus": 0},
        {"threatStatus": "Healthy", "threatInfo": [{"threatTitle": "Petya", "threatState": "Resolved"}]},
        {"recoveryPointTierDetails": [{"type": 1, "status": 3}, {"type": 2, "status": 1}]},
        # Cut to its day, which began before the recovery point was made.
        {"recoveryPointProperties": {"expiryTime": "2026-02-03T00:00:00Z"}},
    ],
)
def test_what_says_nothing_against_a_point_is_none(properties: dict[str, Any]) -> None:
    assert read(**properties).shortcoming() == ""


def test_tiers_that_are_numbers_are_the_words_they_stand_for() -> None:
    details = [{"type": 1, "status": 1}, {"type": 2, "status": 4}, {"type": 3, "status": 2}, {"type": 9}]
    assert read(recoveryPointTierDetails=details).tiers == (
        ("InstantRP", "Valid"),
        ("HardenedRP", "Rehydrated"),
        ("ArchivedRP", "Disabled"),
        ("9", ""),
    )
    assert read(of=DATABASE, type=1).backup_type == "Full"


def test_an_expiry_counts_by_the_clock_of_the_answer() -> None:
    expiry = {"recoveryPointProperties": {"expiryTime": "2026-03-05T10:00:00Z"}}
    at = datetime(2026, 3, 5, 10, tzinfo=UTC).timestamp()
    assert read(seen_at=at - 1, **expiry).shortcoming() == ""
    assert "expired" in read(seen_at=at, **expiry).shortcoming()
    response = answered(200, {"value": []}, date="Thu, 05 Mar 2026 10:00:00 GMT")
    assert responses.read_page(response).at == at


# What was left out

AKS_JOB = Job(
    ref=JOB,
    status="CompletedWithWarnings",
    backup_management_type="Microsoft.ContainerService/managedClusters",
)


def disks(included: Any, attached: Any, *names: str) -> RecoveryPoint:
    excluded = [{"lun": at, "name": name} for at, name in enumerate(names)]
    return read(
        recoveryPointDiskConfiguration={
            "numberOfDisksIncludedInBackup": included,
            "numberOfDisksAttachedToVm": attached,
            "excludedDiskList": excluded,
        }
    )


@pytest.mark.parametrize(
    ("found", "job", "reason"),
    [
        (disks(2, 4, "logs", "tmp"), None, "2 of 4 attached disks are in it; left out: logs, tmp"),
        (disks(2, 4), None, "2 of 4 attached disks are in it"),
        (disks(None, None, "logs", ""), None, "disks were left out: logs, LUN 1"),
        (read(), Job(ref=JOB, status="Completed", details=(("Excluded disk(s)", "logs"),)), "left out: logs"),
        (None, Job(ref=JOB, status="Completed", details=(("Excluded Disk(s)", "1"),)), "left out: 1"),
        (read(), AKS_JOB, "volumes may have been left out"),
        (
            read(),
            replace(
                AKS_JOB, status="Completed", errors=(JobError(title="UserErrorVolume", message="no CSI"),)
            ),
            "UserErrorVolume no CSI",
        ),
        (
            disks(3, 4),
            Job(ref=JOB, status="Completed", details=(("Excluded disk(s)", "logs; tmp"),)),
            "3 of 4 attached disks are in it; left out: logs, tmp",
        ),
        (disks(4, 4), None, ""),
        (read(), None, ""),
        (read(), Job(ref=JOB, status="Completed", details=(("Excluded disk(s)", "None"),)), ""),
        (read(), Job(ref=JOB, status="CompletedWithWarnings"), ""),
        (read(), replace(AKS_JOB, status="Completed"), ""),
    ],
)
def test_what_a_backup_left_out_is_said_and_refused_only_on_request(
    found: RecoveryPoint | None, job: Job | None, reason: str
) -> None:
    missing = left_out(found, job)
    assert reason in missing
    assert bool(reason) is bool(missing)
    if found is not None:
        assert found.shortcoming(job=job) == ""
        assert found.shortcoming(require_all_disks=True, job=job) == missing
    assert disks(2, 4, "logs").facts()["excluded_disks"] == ["logs"]


def test_volumes_that_may_be_missing_cannot_be_ruled_out_without_the_job() -> None:
    instance = BackupInstance(vault=replace(VAULT, vault_type="DataProtection"), name="cluster")
    found = RecoveryPoint(item=instance, point_id="1", time="2026-02-03T01:00:06+00:00")
    assert "the job is not known" in found.shortcoming(require_all_disks=True)
    assert found.shortcoming() == ""


def test_the_freshest_is_the_newest_that_falls_short_in_nothing() -> None:
    old = point("HardenedRP", time="2026-02-01T01:00:00Z")
    good = point("HardenedRP", time="2026-02-02T01:00:00Z")
    new = point("InstantRP", time="2026-02-03T01:00:00Z")
    points, hardened = [new, old, good], {"min_consistency": None, "min_tier": "HardenedRP"}
    too_near = [f"{new}, but it lies in InstantRP Valid, not in HardenedRP"]
    assert newest_sufficient(points, old.unix_time, **hardened) == (good, too_near)
    assert newest_sufficient(points, old.unix_time, min_consistency=None, min_tier=None) == (new, [])
    assert newest_sufficient(points, good.unix_time + 1, **hardened) == (None, too_near)


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
    (request,) = said.requests
    assert request.path == f"{ITEM.path}/recoveryPoints"
    assert request.query == (
        ("$filter", "startDate eq '2026-09-21 01:00:00 PM' and endDate eq '2026-09-21 03:40:00 PM'"),
    )


def test_a_time_may_be_in_whole_seconds() -> None:
    assert find(page(body("ours", "2026-09-21T14:00:00Z", "InstantRP"))).result.point_id == "ours"


def test_the_expiry_comes_from_a_vms_job_with_its_time_of_day() -> None:
    for reason, expiry in (
        ("8/16/2026 8:03:31 AM", "2026-08-16T08:03:31+00:00"),
        ("12/1/2026 12:00:00 AM", "2026-12-01T00:00:00+00:00"),
        ("12/1/2026 12:30:00 PM", "2026-12-01T12:30:00+00:00"),
        ("13/13/2026 1:00:00 PM", None),
        ("soon", None),
    ):
        job = replace(BACKUP, details=(("Recovery Point Expiry Time in UTC", reason),))
        ours = body("ours", "2026-09-21T14:00:06Z", "InstantRP")
        ours["properties"]["recoveryPointProperties"] = None
        assert find(page(ours), job=job).result.expiry == expiry


def test_a_list_may_show_it_late() -> None:
    said = find(page(), answered(503), page(body("ours", "2026-09-21T14:00:06Z", "InstantRP")))
    assert said.result.point_id == "ours"
    assert len(said.requests) == 3


def test_one_that_is_never_shown_is_said_to_be_missing() -> None:
    missing = page(body("before", "2026-09-21T13:00:00Z", "HardenedRP"))
    asked: list[Request] = []
    with pytest.raises(AzureBackupNotFoundError, match="recovery point before of 2026-09-21T13:00:00"):
        play(find_recovery_point(BACKUP, None, START), then=missing, requests=asked)
    assert LISTING_LIMIT <= sum(request.delay for request in asked) < 2 * LISTING_LIMIT


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
    assert (f"restorePointQueryType eq '{query}'" in said.requests[0].query[0][1]) is (query is not None)


def test_a_list_is_narrowed_as_azure_reads_it_by_both_dates() -> None:
    first, last = requests.utc_datetime(0.0), requests.utc_datetime(86400.0)
    request = requests.list_recovery_points(ITEM, after=first, before=last, query_type="Log")
    assert dict(request.query) == {
        "$filter": "startDate eq '1970-01-01 12:00:00 AM' and endDate eq '1970-01-02 12:00:00 AM' "
        "and restorePointQueryType eq 'Log'"
    }
    for one in ({"after": first}, {"before": last}):
        with pytest.raises(AzureBackupConfigError, match="give both"):
            requests.list_recovery_points(ITEM, **one)


@pytest.mark.parametrize("management", ["MAB", "DPM", "AzureBackupServer", ""])
def test_a_job_whose_points_azure_does_not_list_is_refused_at_once(management: str) -> None:
    job = Job(
        ref=JOB,
        status="Completed",
        operation="Backup",
        backup_management_type=management,
        start_time=BACKUP.start_time,
    )
    with pytest.raises(AzureBackupConfigError, match="Drop require_recovery_point"):
        find(job=job)


def test_a_conversation_that_fails_without_a_question_is_not_held_again() -> None:
    def silent() -> Flow[None]:
        raise AzureBackupNotFoundError("there is nothing to ask")
        yield  # a flow, though it never asks

    with pytest.raises(AzureBackupNotFoundError, match="nothing to ask"):
        play(retry_until(silent, since=START, until=START + 3600))


# Whose it is, where clocks differ

HANA = ProtectedItem(
    vault=VAULT, container="VMAppContainer;compute;apps-rg;hana01", name="SAPHanaDatabase;hxe;systemdb"
)
SHARE = ProtectedItem(
    vault=VAULT, container="StorageContainer;storage;apps-rg;files", name="AzureFileShare;0a1b"
)


def hana_job(number: int, start: str, end: str | None, **more: Any) -> Job:
    return Job(
        **{
            "ref": replace(JOB, job_id=f"0f8c2a51-0000-0000-0000-00000000000{number}"),
            "status": "Completed" if end else "InProgress",
            "operation": "Backup (Full)",
            "item": "SYSTEMDB [hana01]",
            "backup_management_type": "AzureWorkload",
            "start_time": f"2026-09-21T{start}+00:00",
            "end_time": end and f"2026-09-21T{end}+00:00",
            **more,
        }
    )


def jobs(*listed: Job) -> Any:
    return answered(
        200,
        {
            "value": [
                {
                    "name": job.ref.job_id,
                    "properties": {
                        "status": job.status,
                        "operation": job.operation,
                        "entityFriendlyName": job.item,
                        "backupManagementType": job.backup_management_type,
                        "startTime": job.start_time,
                        "endTime": job.end_time,
                    },
                }
                for job in listed
            ]
        },
    )


def hana_points(**times: str) -> Any:
    return page(
        *(
            {
                "name": name,
                "properties": {"recoveryPointTimeInUTC": f"2026-09-21T{time}Z", "type": "Full"},
            }
            for name, time in times.items()
        )
    )


OURS = hana_job(1, "14:00:00", "14:04:00")


def test_a_point_before_its_job_is_its_own_when_no_other_backup_is_near() -> None:
    said = find(hana_points(ours="13:56:38", old="13:00:00"), jobs(OURS), job=OURS, item=HANA)
    assert said.result.point_id == "ours"
    listed = dict(said.requests[1].query)["$filter"]
    assert "backupManagementType eq 'AzureWorkload' and startTime eq '2026-09-20 02:00:00 PM'" in listed


def test_a_point_after_its_job_is_its_own_when_no_other_backup_is_near() -> None:
    job = hana_job(1, "14:00:00", "14:00:05", operation="Backup", backup_management_type="AzureStorage")
    points = page(body("ours", "2026-09-21T14:00:17Z", "InstantRP", consistency="FileSystemConsistent"))
    assert find(points, jobs(job), job=job, item=SHARE).result.point_id == "ours"


@pytest.mark.parametrize(
    ("other", "points", "ours"),
    [
        # The next backup's point is earlier than our end, and ours earlier than our start.
        (("14:05:00", "14:09:00"), {"a": "13:56:40", "b": "14:01:40"}, "a"),
        # The earlier backup's point alone could be ours as well, so ours is the later one.
        (("13:54:00", "13:58:00"), {"a": "13:53:30", "b": "13:59:30"}, "b"),
        # A long way off: no doubt at all.
        (("10:00:00", "10:04:00"), {"a": "10:00:00", "b": "14:00:01"}, "b"),
    ],
)
def test_points_and_backups_that_overlap_are_matched_in_their_order(
    other: tuple[str, str], points: dict[str, str], ours: str
) -> None:
    said = find(hana_points(**points), jobs(hana_job(2, *other), OURS), job=OURS, item=HANA)
    assert said.result.point_id == ours


@pytest.mark.parametrize(
    ("other", "points"),
    [
        (hana_job(2, "13:57:00", "13:59:00"), {"only": "13:58:00"}),  # the other's, or ours?
        (hana_job(2, "14:04:10", None), {"only": "14:01:00"}),
        (hana_job(2, "14:04:10", "14:05:00", status="Failed"), {"a": "14:01:00", "b": "14:02:00"}),
        (hana_job(2, "13:57:00", "13:59:00", item="SYSTEMDB"), {"only": "13:58:00"}),
        (hana_job(2, "13:57:00", "13:59:00", operation="Backup"), {"only": "13:58:00"}),
    ],
)
def test_a_point_that_may_be_another_jobs_is_never_taken(other: Job, points: dict[str, str]) -> None:
    shown, asked = hana_points(**points), list[Request]()
    script = [shown, jobs(other)]
    with pytest.raises(AzureBackupNotFoundError, match="not clear which recovery point") as error:
        play(find_recovery_point(OURS, HANA, START), *script, then=shown, requests=asked)
    assert other.ref.job_id in str(error.value)
    assert all(name in str(error.value) for name in points)
    assert sum("/backupJobs" in request.path for request in asked) == 1


@pytest.mark.parametrize(
    "other",
    [
        hana_job(2, "13:57:00", "13:59:00", item="SYSTEMDB [hana02]"),
        hana_job(2, "13:57:00", "13:59:00", item="ORDERS [hana01]"),
        hana_job(2, "13:57:00", "13:59:00", operation="Backup (Log)"),
        hana_job(2, "13:57:00", "13:59:00", operation="Backup (Differential)"),
        hana_job(2, "13:57:00", "13:59:00", operation="Restore"),
    ],
)
def test_jobs_that_cannot_have_made_it_are_not_in_the_way(other: Job) -> None:
    assert find(hana_points(ours="13:58:00"), jobs(other), job=OURS, item=HANA).result.point_id == "ours"


def test_a_point_that_is_listed_late_is_not_taken_for_that_of_the_backup_before() -> None:
    before = hana_job(2, "13:54:00", "13:58:00")
    said = find(
        hana_points(a="13:55:10"),
        jobs(before),
        hana_points(a="13:55:10", b="13:59:30"),
        job=OURS,
        item=HANA,
    )
    assert said.result.point_id == "b"


# The one that a job names

INSTANCE = BackupInstance(vault=replace(VAULT, vault_type="DataProtection"), name="cluster")
INSTANCE_JOB = Job(
    ref=replace(JOB, vault=INSTANCE.vault),
    status="Completed",
    operation="Backup",
    owner=INSTANCE.path,
    backup_management_type="Microsoft.ContainerService/managedClusters",
    start_time="2026-09-21T14:00:00+00:00",
    end_time="2026-09-21T14:04:00+00:00",
    details=(("recoveryPointID", "745c"),),
)


def instance_point(time: str = "2026-09-21T14:01:00Z") -> Any:
    return answered(200, {"name": "745c", "properties": {"recoveryPointTime": time}})


def test_the_point_that_a_job_names_is_asked_for_by_its_id() -> None:
    said = find(instance_point(), job=INSTANCE_JOB)
    assert said.result.point_id == "745c"
    assert [request.path for request in said.requests] == [f"{INSTANCE.path}/recoveryPoints/745c"]


def test_a_job_from_a_list_is_read_once_for_the_point_that_it_names() -> None:
    whole = answered(
        200,
        {
            "name": JOB.job_id,
            "properties": {
                "status": "Completed",
                "extendedInfo": {"targetRecoverPoint": {"recoveryPointID": "745c"}},
            },
        },
    )
    said = find(whole, instance_point(), job=replace(INSTANCE_JOB, details=()))
    assert [request.path for request in said.requests] == [
        INSTANCE_JOB.ref.path,
        f"{INSTANCE.path}/recoveryPoints/745c",
    ]


def test_a_named_point_may_be_shown_late_and_may_never_be() -> None:
    none = answered(404, {"error": {"code": "NotFound", "message": "no"}})
    assert find(none, none, instance_point(), job=INSTANCE_JOB).result.point_id == "745c"
    with pytest.raises(AzureBackupNotFoundError, match=r"no recovery point 745c, which .* names"):
        play(find_recovery_point(INSTANCE_JOB, None, START), then=none)


@pytest.mark.parametrize("time", ["2026-09-21T13:00:00Z", "2026-09-21T15:00:00Z"])
def test_a_named_point_of_another_time_is_refused(time: str) -> None:
    with pytest.raises(AzureBackupNotFoundError, match="not of its time"):
        find(instance_point(time), job=INSTANCE_JOB)

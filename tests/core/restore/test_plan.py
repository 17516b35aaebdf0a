"""Which recovery point a restore takes, and what it asks of Azure before it is sent."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import formatdate
from typing import Any

import pytest

from airflow_provider_azbackup.core.model.jobs import Job
from airflow_provider_azbackup.core.model.resources import JobRef
from airflow_provider_azbackup.core.rest import requests
from airflow_provider_azbackup.core.restore import plan
from airflow_provider_azbackup.core.restore.plan import RestoreIntent, RestorePlan
from airflow_provider_azbackup.core.restore.targets import (
    disks,
    original_database,
    original_share,
    other_share,
)
from airflow_provider_azbackup.core.start.intent import StartRecord
from airflow_provider_azbackup.core.start.search import StartedJob, start_or_adopt
from airflow_provider_azbackup.core.wire import Response
from airflow_provider_azbackup.exceptions import (
    AzureBackupBusyError,
    AzureBackupConfigError,
    AzureBackupNotFoundError,
    AzureBackupTransientError,
)
from tests.core.restore.test_targets import ACCOUNT, RAW, SHARE, SQL
from tests.support.play import ITEM, JOB, LOST, OPERATION, START, VAULT, answered, play

TARGET = disks(storage_account_id=ACCOUNT, region="westeurope")
SOURCE = answered(200, {"properties": {"sourceResourceId": "/x/shop-vm"}})
REGION = answered(200, {"location": "northeurope"})
ACCEPTED = answered(202, location=f"{VAULT.path}/backupOperations/{OPERATION.operation_id}?t=1")
NONE = answered(200, {"value": []})


def point(name: str, day: int, *tiers: tuple[str, str], **properties: Any) -> dict[str, Any]:
    """A recovery point of a day, in the vault if nothing else is said."""
    details = [{"type": tier, "status": status} for tier, status in tiers or (("HardenedRP", "Valid"),)]
    return {
        "name": name,
        "properties": {
            "recoveryPointTime": f"2026-09-{day:02}T22:00:00.1234567Z",
            "recoveryPointTierDetails": details,
            **properties,
        },
    }


def listed(*points: dict[str, Any]) -> Response:
    return answered(200, {"value": list(points)})


def prepared(*answers: Any, item: Any = ITEM, **options: Any) -> Any:
    return play(plan.prepare(item, RestorePlan.read(item, **{"restore_to": TARGET, **options})), *answers)


def chosen(points: Response, **options: Any) -> str:
    return str(prepared(points, SOURCE, **options).result.recovery_point["recovery_point_id"])


def test_the_newest_is_taken_however_the_list_is_ordered() -> None:
    assert chosen(listed(point("1", 1), point("3", 3), point("2", 2))) == "3"


@pytest.mark.parametrize(
    "tiers",
    [
        [("InstantRP", "Invalid")],
        [("HardenedRP", "Deleted"), ("InstantRP", "Disabled")],
        [("ArchivedRP", "Valid")],
        [("HardenedRP", "SomethingNew")],
    ],
    ids=["invalid", "gone", "archived", "a word of the future"],
)
def test_one_that_cannot_be_restored_from_is_passed_over(tiers: list[tuple[str, str]]) -> None:
    assert chosen(listed(point("9", 9, *tiers), point("1", 1))) == "1"


@pytest.mark.parametrize(
    "tiers",
    [
        [("InstantRP", "Valid")],
        [("InstantRP", "Deleted"), ("HardenedRP", "Valid")],
        [("ArchivedRP", "Valid"), ("HardenedRP", "Rehydrated")],
        [("ArchivedRP", "Rehydrated")],
    ],
    ids=["a snapshot", "in the vault", "brought back", "brought back in target"],
)
def test_one_that_lies_in_a_tier_to_restore_from_will_do(tiers: list[tuple[str, str]]) -> None:
    assert chosen(listed(point("9", 9, *tiers), point("1", 1))) == "9"


def test_one_of_which_no_tier_is_told_will_do() -> None:
    assert chosen(listed(point("9", 9, recoveryPointTierDetails=None))) == "9"


@pytest.mark.parametrize(
    ("as_of", "name"),
    [
        ("2026-09-03T22:00:01Z", "3"),
        ("2026-09-03T22:00:00Z", "2"),
        (datetime(2026, 9, 4, tzinfo=UTC), "3"),
        ("2027-01-01", "4"),
    ],
)
def test_as_of_a_moment_is_the_newest_one_until_then(as_of: Any, name: str) -> None:
    assert chosen(listed(*(point(str(day), day) for day in (1, 2, 3, 4))), as_of=as_of) == name


def test_none_before_a_moment_is_told_with_those_that_are_there() -> None:
    with pytest.raises(AzureBackupNotFoundError, match=r"of 2026-08-01.* or before.*there are: .*point 1 of"):
        prepared(listed(point("1", 1)), as_of="2026-08-01")


def test_none_at_all_is_told_so() -> None:
    with pytest.raises(
        AzureBackupNotFoundError, match=r"no recovery point that can be.*there are none at all"
    ):
        prepared(NONE)


def test_of_many_that_will_not_do_ten_are_told() -> None:
    points = listed(*(point(str(day), day, ("InstantRP", "Deleted")) for day in range(1, 15)))
    with pytest.raises(AzureBackupNotFoundError, match=r"InstantRP Deleted.* and 4 more") as told:
        prepared(points)
    assert "point 14 of" in str(told.value) and "point 4 of" not in str(told.value)


def test_one_in_the_archive_will_do_for_a_request_that_brings_it_back() -> None:
    raw = {"objectType": "IaasVMRestoreWithRehydrationRequest"}
    played = prepared(listed(point("9", 9, ("ArchivedRP", "Valid"))), restore_to=None, request=raw)
    assert played.result.request == requests.trigger_restore(ITEM, "9", {"properties": raw})


@pytest.mark.parametrize("name", ["7", f"{ITEM.path}/recoveryPoints/7"], ids=["id", "ARM id"])
def test_one_that_is_named_is_asked_for_and_taken_as_it_is(name: str) -> None:
    found = answered(200, point("7", 7, ("ArchivedRP", "Valid")))
    played = prepared(found, SOURCE, recovery_point=name)
    assert played.requests[0] == requests.get_recovery_point(ITEM, "7")
    assert played.result.request.path == f"{ITEM.path}/recoveryPoints/7/restore"


def test_one_that_is_named_and_not_there_is_told_with_those_that_are() -> None:
    gone = answered(404, {"error": {"code": "ResourceNotFound", "message": "no"}})
    with pytest.raises(
        AzureBackupNotFoundError, match=r"no recovery point '7'; there are: .*point 1 of"
    ) as told:
        prepared(gone, listed(point("1", 1)), recovery_point="7")
    assert told.value.status == 404


def test_one_of_another_item_is_refused_before_anything_is_asked() -> None:
    with pytest.raises(AzureBackupConfigError, match=r"recovery_point is one of .*shop, not of .*shop-vm"):
        prepared(recovery_point=f"{SQL.path}/recoveryPoints/7")


def test_a_target_of_another_workload_is_refused_before_anything_is_asked() -> None:
    with pytest.raises(AzureBackupConfigError, match="cannot be restored to 'original_share'"):
        prepared(restore_to=original_share(copy_options="Skip"))


def test_a_machine_needs_what_was_backed_up_and_the_region_of_the_vault() -> None:
    played = prepared(listed(point("1", 1)), SOURCE, REGION, restore_to=disks(storage_account_id=ACCOUNT))
    assert played.requests == [
        requests.list_recovery_points(ITEM),
        requests.get_protected_item(ITEM),
        requests.get_vault(VAULT),
    ]
    asked = played.result.request.body["properties"]
    assert (asked["sourceResourceId"], asked["region"]) == ("/x/shop-vm", "northeurope")


@pytest.mark.parametrize("body", ["", {}, {"properties": {}}, {"properties": []}])
def test_an_item_that_does_not_tell_what_it_protects_restores_nothing(body: Any) -> None:
    with pytest.raises(AzureBackupTransientError, match=r"with what it protects|not a JSON object"):
        prepared(listed(point("1", 1)), answered(200, body))


def test_a_database_over_itself_needs_no_more_than_the_recovery_point() -> None:
    one = point("1", 1)
    one["properties"] = {"recoveryPointTimeInUTC": "2026-09-01T22:00:00Z", "type": "Full"}
    played = prepared(listed(one), item=SQL, restore_to=original_database())
    assert len(played.requests) == 1
    assert played.result.recovery_point["backup_type"] == "Full"


LOGS = {
    "name": "DefaultRangeRecoveryPoint",
    "properties": {
        "objectType": "AzureWorkloadSQLPointInTimeRecoveryPoint",
        "type": "Log",
        "timeRanges": [
            {"startTime": "2026-09-01T00:00:00Z", "endTime": "2026-09-02T00:00:00Z"},
            {"startTime": "2026-09-03T00:00:00Z", "endTime": "2026-09-04T00:00:00Z"},
        ],
    },
}


@pytest.mark.parametrize(
    "moment", ["2026-09-01T00:00:00Z", "2026-09-03T12:00:00Z", "2026-09-04T02:00:00+02:00"]
)
def test_a_point_in_time_is_one_that_the_logs_reach(moment: str) -> None:
    played = prepared(listed(LOGS), item=SQL, restore_to=original_database(), point_in_time=moment)
    assert played.requests == [requests.list_recovery_points(SQL, query_type="Log")]
    assert played.result.request.path.endswith("/recoveryPoints/DefaultRangeRecoveryPoint/restore")
    assert datetime.fromisoformat(played.result.recovery_point["time"]) == datetime.fromisoformat(moment)


@pytest.mark.parametrize(
    ("logs", "told"), [([LOGS], "2026-09-03T00.* to 2026-09-04"), ([], "no range of time is listed")]
)
def test_a_point_in_time_that_no_log_reaches_is_told_with_how_far_they_do(logs: list[Any], told: str) -> None:
    with pytest.raises(AzureBackupNotFoundError, match=f"do not reach 2026-09-02T12.*{told}"):
        prepared(
            listed(*logs), item=SQL, restore_to=original_database(), point_in_time="2026-09-02T12:00:00Z"
        )


def test_logs_are_no_recovery_point_for_who_asks_for_the_latest() -> None:
    with pytest.raises(AzureBackupNotFoundError):
        prepared(listed(LOGS), item=SQL, restore_to=original_database())


# --- one restore for one intent


def an_intent(**changes: Any) -> RestoreIntent:
    item = changes.pop("item", ITEM)
    options = {"restore_to": TARGET, **changes.pop("options", {})}
    return RestoreIntent(
        **{
            "item": item,
            "plan": RestorePlan.read(item, **options),
            "attempt": "max_tries=0 retries=0 clears=0",
            "now": START,
            "timeout": 6 * 3600.0,
            "if_running": "fail",
            **changes,
        }
    )


def a_record(intent: RestoreIntent, **changes: Any) -> StartRecord:
    """What a try leaves that has started a restore."""
    return StartRecord(
        item=intent.item.path,
        attempt=intent.attempt,
        since=START,
        attempt_began=START - 60,
        job=JOB.path,
        fingerprint=intent.fingerprint,
        **changes,
    )


def a_job(operation: str = "Restore", status: str = "InProgress", **properties: Any) -> dict[str, Any]:
    return {
        "name": JOB.job_id,
        "properties": {
            "status": status,
            "operation": operation,
            "entityFriendlyName": "shop-vm",
            "containerName": "iaasvmcontainerv2;apps-rg;shop-vm",
            "startTime": datetime.fromtimestamp(START + 1, UTC).isoformat(),
            **properties,
        },
    }


def secure(intent: RestoreIntent, *answers: Any, note: StartRecord | None = None, **options: Any) -> Any:
    notes: list[StartRecord | None] = []
    played = play(start_or_adopt(intent, note, save=notes.append, log=lambda _: None), *answers, **options)
    return played, notes


NAMED = answered(200, {"status": "Succeeded", "properties": {"jobId": JOB.job_id}})


def test_a_restore_is_looked_for_then_prepared_then_sent() -> None:
    played, notes = secure(an_intent(), NONE, listed(point("1", 1)), SOURCE, ACCEPTED, NAMED)
    assert [call.method for call in played.requests] == ["GET", "GET", "GET", "POST", "GET"]
    started: StartedJob = played.result
    assert (started.ref, started.started_by) == (JOB, "this task")
    assert started.recovery_point["recovery_point_id"] == "1"
    assert notes[-1] is not None
    assert (notes[-1].job, notes[-1].recovery_point, notes[-1].fingerprint) == (
        JOB.path,
        started.recovery_point,
        an_intent().fingerprint,
    )


@pytest.mark.parametrize("word", ["Restore", "Restore (Full)", "Restore (Invalid)", "RestoreWithRehydrate"])
def test_a_running_restore_of_somebody_else_is_in_the_way(word: str) -> None:
    with pytest.raises(AzureBackupBusyError, match=r"a restore of .* that began at .*if_running") as told:
        secure(an_intent(), listed(a_job(word)))
    assert told.value.job is not None


def test_a_running_restore_of_somebody_else_is_adopted_where_the_author_says_so() -> None:
    played, _ = secure(an_intent(if_running="adopt"), listed(a_job()))
    assert (played.result.ref, played.result.started_by, played.result.recovery_point) == (JOB, "adopted", {})


def test_a_running_restore_of_somebody_else_has_to_end_first_where_the_author_says_so() -> None:
    played, notes = secure(an_intent(if_running="wait"), listed(a_job()))
    assert (played.result.ref, played.result.other.ref, notes) == (None, JOB, [])


@pytest.mark.parametrize("word", ["Backup", "Backup (Full)", "CrossRegionRestore", "ConfigureBackup"])
def test_other_jobs_of_the_item_are_in_nobodys_way(word: str) -> None:
    answers = listed(a_job(word)), listed(point("1", 1)), SOURCE, ACCEPTED, NAMED
    assert secure(an_intent(), *answers)[0].result.started_by == "this task"


def test_a_restore_is_not_started_unseen() -> None:
    """Azure was never seen to refuse a second restore, so the list must be had first."""
    played, _ = secure(an_intent(), LOST, LOST, NONE, listed(point("1", 1)), SOURCE, ACCEPTED, NAMED)
    assert [call.method for call in played.requests].index("POST") == 5


@pytest.mark.parametrize(
    "other",
    [
        {"restore_to": disks(storage_account_id=f"{ACCOUNT}2", region="westeurope")},
        {"recovery_point": "7"},
        {"as_of": "2026-09-01"},
        {"restore_to": None, "request": RAW},
    ],
    ids=["another target", "another point", "another moment", "a body"],
)
def test_a_note_of_another_restore_is_not_followed(other: dict[str, Any]) -> None:
    note = a_record(an_intent())
    changed = an_intent(options=other)
    with pytest.raises(AzureBackupBusyError):
        secure(changed, listed(a_job()), note=note)
    played, _ = secure(an_intent(), answered(200, a_job()), note=note)
    assert played.result.ref == JOB


def test_a_note_outlives_its_way_through_the_store() -> None:
    note = a_record(an_intent(), recovery_point={"recovery_point_id": "1"})
    assert StartRecord.from_dict(note.to_dict()) == note


def test_the_note_of_a_backup_holds_nothing_of_restores() -> None:
    note = StartRecord(
        item=ITEM.path,
        attempt="a",
        since=1.0,
        attempt_began=1.5,
        requested_at=2.0,
        operation="o",
        job=JOB.path,
    )
    assert note.to_dict() == {
        "version": 2,
        "item": ITEM.path,
        "attempt": "a",
        "since": 1.0,
        "attempt_began": 1.5,
        "requested_at": 2.0,
        "operation": "o",
        "job": JOB.path,
        "started_by": "this task",
    }


@pytest.mark.parametrize("point_", ["x", 5, [1]])
def test_a_note_with_a_recovery_point_of_another_form_is_not_understood(point_: Any) -> None:
    assert StartRecord.from_dict({**a_record(an_intent()).to_dict(), "recovery_point": point_}) is None


@pytest.mark.parametrize("account", ["shop", "staging", "stranger"])
def test_the_restore_of_a_share_may_carry_either_storage_account(account: str) -> None:
    target = other_share(storage_account_id=ACCOUNT, share="drill", copy_options="Overwrite")
    job = a_job(entityFriendlyName="docs", storageAccountName=account, containerName=None)
    items = answered(200, {"value": [{"id": SHARE.path, "properties": {"friendlyName": "docs"}}]})
    intent = an_intent(item=SHARE, options={"restore_to": target}, if_running="adopt")
    sent = (listed(point("1", 1)), SOURCE, ACCEPTED, NAMED) if account == "stranger" else ()
    started = secure(intent, listed(job), items, *sent)[0].result
    assert started.started_by == ("this task" if account == "stranger" else "adopted")


def test_the_job_id_may_differ_from_the_operation() -> None:
    other = answered(200, {"status": "Succeeded", "properties": {"jobId": OPERATION.operation_id}})
    played, _ = secure(an_intent(), NONE, listed(point("1", 1)), SOURCE, ACCEPTED, other)
    assert played.result.ref == JobRef(vault=VAULT, job_id=OPERATION.operation_id)


# --- what Azure says against a recovery point

BAD: list[tuple[dict[str, Any], str]] = [
    ({"isPartialRP": True}, "marks it as partial"),
    ({"threatStatus": "UnHealthy"}, "threat status as UnHealthy"),
]
GONE: list[tuple[dict[str, Any], str]] = [
    ({"recoveryPointProperties": {"isSoftDeleted": True}}, "marked it as deleted"),
    ({"recoveryPointProperties": {"expiryTime": "2026-09-19T00:00:00Z"}}, "expired at 2026-09-19"),
]


@pytest.mark.parametrize(("flaw", "told"), [*BAD, *GONE])
@pytest.mark.parametrize("as_of", [None, "2026-09-20"])
def test_one_that_azure_speaks_against_is_passed_over_and_the_facts_say_why(
    flaw: dict[str, Any], told: str, as_of: str | None
) -> None:
    points = listed(point("9", 9, **flaw), point("1", 1))
    taken = prepared(points, SOURCE, as_of=as_of).result.recovery_point
    assert taken["recovery_point_id"] == "1"
    (why,) = taken["passed_over"]
    assert "point 9 of" in why and told in why
    assert "passed_over" not in prepared(listed(point("1", 1)), SOURCE).result.recovery_point
    with pytest.raises(AzureBackupNotFoundError, match=told):
        prepared(listed(point("9", 9, **flaw)), as_of=as_of)


@pytest.mark.parametrize(("flaw", "told"), [*BAD, *GONE])
def test_one_that_azure_speaks_against_is_refused_when_it_is_named(flaw: dict[str, Any], told: str) -> None:
    with pytest.raises(AzureBackupConfigError, match=f"is not restored: .*{told}"):
        prepared(answered(200, point("7", 7, **flaw)), recovery_point="7")


@pytest.mark.parametrize("flaw", [flaw for flaw, _ in BAD])
def test_a_request_of_ones_own_restores_even_one_that_is_partial_or_infected(flaw: dict[str, Any]) -> None:
    played = prepared(answered(200, point("7", 7, **flaw)), recovery_point="7", restore_to=None, request=RAW)
    assert played.result.request.path.endswith("/recoveryPoints/7/restore")


@pytest.mark.parametrize("flaw", [flaw for flaw, _ in GONE])
def test_no_request_restores_what_is_gone(flaw: dict[str, Any]) -> None:
    with pytest.raises(AzureBackupConfigError, match="is not restored"):
        prepared(answered(200, point("7", 7, **flaw)), recovery_point="7", restore_to=None, request=RAW)


# --- whose a job is, by where it restores to


SHARE_TARGET = other_share(storage_account_id=ACCOUNT, share="drill", copy_options="Skip")


@pytest.mark.parametrize(
    ("target", "details", "elsewhere"),
    [
        (disks(storage_account_id=ACCOUNT), {"Target Storage Account Name": "staging"}, False),
        (disks(storage_account_id=ACCOUNT), {"Target Storage Account Name": "STAGING"}, False),
        (disks(storage_account_id=ACCOUNT), {"Target Storage Account Name": "others"}, True),
        (disks(storage_account_id=ACCOUNT), {}, False),
        (SHARE_TARGET, {"Target Storage Account Name": "staging", "Target File Share Name": "other"}, True),
        (SHARE_TARGET, {"Target Storage Account Name": "staging", "Target File Share Name": "drill"}, False),
    ],
)
def test_a_job_that_shows_another_place_is_not_the_tasks_own(
    target: dict[str, Any], details: dict[str, str], elsewhere: bool
) -> None:
    item = SHARE if target["target"] == "other_share" else ITEM
    job = Job(ref=JOB, status="InProgress", operation="Restore", details=tuple(details.items()))
    assert an_intent(item=item, options={"restore_to": target}).leads_elsewhere(job) is elsewhere


def test_after_a_lost_answer_a_restore_to_another_place_is_not_taken() -> None:
    target = {"restore_to": disks(storage_account_id=ACCOUNT)}
    other = a_job(extendedInfo={"propertyBag": {"Target Storage Account Name": "others"}})
    own = a_job(extendedInfo={"propertyBag": {"Target Storage Account Name": "staging"}})
    first = answered(200, {"value": []}, date=formatdate(START - 60))
    seen = answered(200, {"value": [a_job()]}, date=formatdate(START))
    ready = (listed(point("1", 1)), SOURCE, REGION)
    played, _ = secure(
        an_intent(options=target), first, *ready, LOST, seen, answered(200, other), seen, answered(200, own)
    )
    assert (played.result.ref, played.result.started_by) == (JOB, "found")
    assert sum(call.method == "POST" for call in played.requests) == 1

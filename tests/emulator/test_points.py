"""Recovery points that are not as they should be, and the clocks that they are written by."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from azure_backup_emulator import Emulator
from tests.emulator.conftest import VAULT, Client
from tests.support.clock import ManualClock

OLDER = "2025-02-01"


def points(client: Client, name: str, version: str = "2026-07-01") -> list[dict[str, Any]]:
    """The properties of an item's recovery points, from the list and one by one."""
    found = client.get(f"{client.item(name)}/recoveryPoints", version=version).json()["value"]
    assert [client.get(each["id"], version=version).json() for each in found] == found
    return [each["properties"] for each in found]


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def job_times(client: Client, job_id: str) -> tuple[float, float]:
    job = client.job(job_id)
    return at(job["startTime"]), at(job["endTime"])


def test_a_point_can_be_earlier_than_its_job(azure: Emulator, client: Client, clock: ManualClock) -> None:
    azure.plan("systemdb", point={"before_start": 202})
    job_id = azure.start_job("systemdb")
    clock.advance(1000)
    begins, _ = job_times(client, job_id)
    assert at(points(client, "systemdb")[0]["recoveryPointTimeInUTC"]) == pytest.approx(begins - 202)


def test_a_point_can_be_later_than_its_job(azure: Emulator, client: Client, clock: ManualClock) -> None:
    job_id = azure.start_job("documents", point={"after_end": 12.5})
    clock.advance(1000)
    _, ends = job_times(client, job_id)
    assert at(points(client, "documents")[0]["recoveryPointTime"]) == pytest.approx(ends + 12.5, abs=1)


@pytest.mark.parametrize(
    ("item", "point", "key", "value"),
    [
        ("vm-good", {"partial": True}, "isPartialRP", True),
        ("documents", {"partial": True}, "isPartialRP", True),
        ("demo-aks", {"partial": True}, "recoveryPointState", "Partial"),
        ("demo-aks", {}, "recoveryPointState", "Completed"),
        ("vm-good", {"soft_deleted": True}, "recoveryPointProperties", {"isSoftDeleted": True}),
        (
            "vm-good",
            {"tiers": {"InstantRP": "Deleted"}},
            "recoveryPointTierDetails",
            [{"type": "InstantRP", "status": "Deleted"}],
        ),
        ("payroll", {"threat": "UnHealthy"}, "threatStatus", "UnHealthy"),
    ],
)
def test_a_point_is_marked_as_planned(
    azure: Emulator,
    client: Client,
    clock: ManualClock,
    item: str,
    point: dict[str, Any],
    key: str,
    value: Any,
) -> None:
    azure.start_job(item)
    azure.start_job(item, ago=1, point=point)
    clock.advance(9000)
    marked, plain = sorted(points(client, item), key=lambda each: each.get(key) != value)
    assert marked[key] == value
    assert plain.get(key) != value or not point


def test_a_point_can_expire(azure: Emulator, client: Client, clock: ManualClock) -> None:
    azure.start_job("vm-good", point={"expires": 3600})
    clock.advance(9000)
    (point,) = points(client, "vm-good")
    marks = point["recoveryPointProperties"]
    assert at(marks["expiryTime"]) == pytest.approx(at(point["recoveryPointTime"]) + 3600)
    assert marks["isSoftDeleted"] is False


def test_a_point_of_a_backup_vault_expires_with_its_policy(
    azure: Emulator, client: Client, clock: ManualClock
) -> None:
    azure.start_job("orders")
    azure.start_job("disk-good", point={"expires": -60})
    clock.advance(9000)
    for name, lasts in (("orders", 7 * 86400), ("disk-good", -60)):
        (point,) = points(client, name)
        assert at(point["expiryTime"]) == pytest.approx(at(point["recoveryPointTime"]) + lasts)


@pytest.mark.parametrize("status", ["Unknown", "Healthy", "UnHealthy", "Warning", "NotAvailable"])
def test_a_threat_is_shown_in_words_by_newer_versions_alone(
    azure: Emulator, client: Client, clock: ManualClock, status: str
) -> None:
    job_id = azure.start_job("vm-good")
    clock.advance(9000)
    assert "threatStatus" not in points(client, "vm-good")[0]
    azure.change_point(job_id, threat=status)
    (point,) = points(client, "vm-good")
    assert point["threatStatus"] == status
    assert [each["threatState"] for each in point.get("threatInfo", [])] == (
        ["Active"] if status in ("UnHealthy", "Warning") else []
    )
    (older,) = points(client, "vm-good", OLDER)
    assert older["threatStatus"] == 0
    assert "threatInfo" not in older


def test_disks_that_a_backup_leaves_out_are_in_its_point_and_its_job(
    azure: Emulator, client: Client, clock: ManualClock
) -> None:
    azure.plan("vm-good", point={"disks": 3, "excluded": ["data-disk-1"]})
    job_id = azure.start_job("vm-good")
    clock.advance(9000)
    disks = points(client, "vm-good")[0]["recoveryPointDiskConfiguration"]
    assert disks == {
        "numberOfDisksIncludedInBackup": 2,
        "numberOfDisksAttachedToVm": 3,
        "includedDiskList": [{"lun": -1, "name": "os-disk"}, {"lun": 0, "name": "data-disk-0"}],
        "excludedDiskList": [{"lun": 1, "name": "data-disk-1"}],
    }
    bag = client.job(job_id)["extendedInfo"]["propertyBag"]
    assert (bag["Backed-up disk(s)"], bag["Excluded disk(s)"]) == ("os-disk, data-disk-0", "data-disk-1")


def test_tiers_can_be_numbers(azure: Emulator, client: Client, clock: ManualClock) -> None:
    azure.plan("vm-good", quirks=["numeric-tiers"])
    azure.start_job("vm-good")
    clock.advance(9000)
    assert points(client, "vm-good")[0]["recoveryPointTierDetails"] == [
        {"type": 1, "status": 1},
        {"type": 2, "status": 1},
    ]


def test_the_same_point_reaches_the_vault_store_later(
    azure: Emulator, client: Client, clock: ManualClock
) -> None:
    azure.plan("demo-aks", seconds=230, point={"vaulted_after": 4 * 3600})
    azure.start_job("demo-aks")
    seen = []
    for wait in (231, 4 * 3600 - 10, 10):
        clock.advance(wait)
        (point,) = points(client, "demo-aks")
        seen.append((point["recoveryPointId"], [s["type"] for s in point["recoveryPointDataStoresDetails"]]))
    same = seen[0][0]
    assert seen == [
        (same, ["OperationalStore"]),
        (same, ["OperationalStore"]),
        (same, ["OperationalStore", "VaultStore"]),
    ]


@pytest.mark.parametrize(
    "point",
    [
        {"threat": "Sick"},
        {"before_start": 1, "after_end": 1},
        {"excluded": ["data-disk-0"]},
        {"partly": True},
    ],
)
def test_a_point_that_cannot_be_is_refused(azure: Emulator, point: dict[str, Any]) -> None:
    job_id = azure.start_job("vm-good")
    with pytest.raises((ValueError, TypeError)):
        azure.plan("vm-good", point=point)
    with pytest.raises((ValueError, TypeError)):
        azure.change_point(job_id, **point)


def test_a_job_can_have_begun_earlier(azure: Emulator, client: Client, clock: ManualClock) -> None:
    job_id = azure.start_job("vm-good", ago=5 * 3600, seconds=60)
    job = client.job(job_id)
    assert (clock() - at(job["startTime"]), job["status"]) == (pytest.approx(5 * 3600, abs=1), "Completed")
    assert len(points(client, "vm-good")) == 1
    assert [each["name"] for each in client.get(f"{VAULT}/backupJobs").json()["value"]] == [job_id]

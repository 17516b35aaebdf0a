"""Which tier a kind of data can reach, and the wait for one recovery point to reach it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_azbackup.core.conversations.recovery_points import check_tier, wait_for_tier
from airflow_provider_azbackup.core.model.recovery_points import RecoveryPoint
from airflow_provider_azbackup.core.model.resources import BackupInstance, ProtectedItem
from airflow_provider_azbackup.core.rest import requests
from airflow_provider_azbackup.core.wire import Request
from airflow_provider_azbackup.exceptions import (
    AzureBackupConfigError,
    AzureBackupNotFoundError,
    AzureBackupTimeoutError,
)
from tests.support.play import ITEM, START, VAULT, answered, play

CLUSTER = BackupInstance(vault=replace(VAULT, vault_type="DataProtection"), name="cluster")
SHARE = ProtectedItem(
    vault=VAULT, container="StorageContainer;storage;apps-rg;files", name="AzureFileShare;0a1b"
)
POINT = RecoveryPoint(
    item=CLUSTER,
    point_id="745c",
    time="2026-09-21T14:00:00+00:00",
    tiers=(("OperationalStore", "COMMITTED"),),
)
HOUR = 3600.0


def lies_in(*stores: str, name: str = "745c", **more: Any) -> Any:
    details = [{"type": store, "state": "COMMITTED"} for store in stores]
    properties = {
        "recoveryPointTime": "2026-09-21T14:00:00Z",
        "recoveryPointDataStoresDetails": details,
        **more,
    }
    return answered(200, {"name": name, "properties": properties})


def wait(
    *answers: Any, then: Any = None, asked: list[Request] | None = None, point: RecoveryPoint = POINT
) -> Any:
    flow = wait_for_tier(point, "HardenedRP", since=START, deadline=START + 4 * HOUR)
    return play(flow, *answers, then=then, requests=asked)


def test_a_point_that_is_there_already_is_not_asked_for() -> None:
    there = replace(POINT, tiers=(("VaultStore", "COMMITTED"),))
    said = wait(point=there)
    assert (said.result, said.requests) == (there, [])


def test_the_same_point_is_read_until_it_is_in_the_vault() -> None:
    snapshot = lies_in("OperationalStore")
    said = wait(*[snapshot] * 20, lies_in("OperationalStore", "VaultStore"))
    assert said.result.usable_tiers == ("OperationalStore", "VaultStore")
    assert {(request.method, request.path) for request in said.requests} == {
        ("GET", f"{CLUSTER.path}/recoveryPoints/745c")
    }
    assert 30 * 0.8 < said.pauses[0] < 60
    assert said.pauses[-1] > 240


def test_an_expiry_that_only_the_job_named_is_kept() -> None:
    point = replace(POINT, expiry="2026-12-01T00:00:00+00:00")
    assert wait(lies_in("VaultStore"), point=point).result.expiry == point.expiry


def test_faults_that_may_pass_are_waited_out() -> None:
    said = wait(answered(503), answered(404), answered(200, {}), lies_in("VaultStore"))
    assert said.result.has_reached("HardenedRP")


def test_a_point_that_is_gone_ends_the_wait() -> None:
    with pytest.raises(AzureBackupNotFoundError):
        wait(then=answered(404))


def test_another_points_answer_is_no_answer() -> None:
    said = wait(lies_in("VaultStore", name="other"), lies_in("VaultStore"))
    assert len(said.requests) == 2


@pytest.mark.parametrize("bad", [{"recoveryPointState": "Partial"}, {"isSoftDeleted": True}])
def test_a_point_that_goes_bad_is_returned_to_be_judged(bad: dict[str, Any]) -> None:
    said = wait(lies_in("OperationalStore"), lies_in("OperationalStore", **bad))
    assert said.result.shortcoming(min_tier="HardenedRP")
    assert len(said.requests) == 2


def test_the_deadline_ends_the_wait_with_a_last_look() -> None:
    asked: list[Request] = []
    with pytest.raises(AzureBackupTimeoutError, match=r"745c .* is not in HardenedRP after 14400 s"):
        wait(then=lies_in("OperationalStore"), asked=asked)
    assert sum(request.delay for request in asked) == pytest.approx(4 * HOUR)
    assert len(asked) < 70


def test_a_last_look_that_finds_it_in_the_vault_counts() -> None:
    flow = wait_for_tier(POINT, "HardenedRP", since=START, deadline=START - 1)
    assert play(flow, lies_in("VaultStore")).result.has_reached("HardenedRP")


DISK = answered(
    200,
    {
        "properties": {
            "dataSourceInfo": {"resourceID": "/x/disk", "datasourceType": "Microsoft.Compute/disks"}
        }
    },
)
AKS = answered(
    200,
    {
        "properties": {
            "dataSourceInfo": {
                "resourceID": "/x/aks",
                "datasourceType": "Microsoft.ContainerService/managedClusters",
            }
        }
    },
)


def test_a_disk_never_comes_into_the_vault() -> None:
    with pytest.raises(AzureBackupConfigError, match="operational store only"):
        play(check_tier(CLUSTER, "HardenedRP", on_demand=False), DISK)
    assert play(check_tier(CLUSTER, "HardenedRP", on_demand=True), AKS).requests == [
        requests.get_protected_item(CLUSTER)
    ]


def test_an_on_demand_backup_of_a_share_never_comes_into_the_vault() -> None:
    with pytest.raises(AzureBackupConfigError, match="last scheduled snapshot of a day"):
        play(check_tier(SHARE, "HardenedRP", on_demand=True))
    assert play(check_tier(SHARE, "HardenedRP", on_demand=False)).requests == []


@pytest.mark.parametrize("min_tier", [None, "InstantRP"])
@pytest.mark.parametrize("item", [ITEM, SHARE, CLUSTER])
def test_what_any_point_can_reach_is_not_asked_about(item: ProtectedItem, min_tier: str | None) -> None:
    assert play(check_tier(item, min_tier, on_demand=True)).requests == []

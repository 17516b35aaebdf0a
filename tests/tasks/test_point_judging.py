"""What Azure says against a recovery point keeps every gate shut, and no restore takes such a point."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowSensorTimeout

from airflow_provider_azbackup.exceptions import (
    AzureBackupConfigError,
    AzureBackupGateShutError,
    AzureBackupNotFoundError,
    AzureBackupRecoveryPointError,
    AzureBackupTimeoutError,
)
from airflow_provider_azbackup.hooks import AzureBackupHook
from airflow_provider_azbackup.operators import AzureBackupOperator
from airflow_provider_azbackup.sensors import AzureBackupFreshnessSensor
from azure_backup_emulator import Emulator
from tests.support.tasks import TaskInstance, run
from tests.tasks.test_recovery_points import BOTH, MODES, back_up, gate, over

FLAWS: list[tuple[str, dict[str, Any], str]] = [
    ("vm-good", {"partial": True}, "marks it as partial"),
    ("documents", {"partial": True}, "marks it as partial"),
    ("vm-good", {"soft_deleted": True}, "marked it as deleted"),
    ("vm-good", {"expires": 10.0}, "it expired at"),
    ("vm-good", {"threat": "UnHealthy"}, "threat status as UnHealthy"),
    ("payroll", {"threat": "Warning"}, "threat status as Warning"),
    ("vm-good", {"tiers": {"InstantRP": "Deleted"}}, "no tier that can be restored from"),
]


@BOTH
@pytest.mark.parametrize(("item", "point", "reason"), FLAWS)
def test_a_backup_whose_point_azure_speaks_against_proves_nothing(
    azure: Emulator, item: str, point: dict[str, Any], reason: str, deferrable: bool
) -> None:
    azure.plan(item, point=point)
    with pytest.raises(AzureBackupRecoveryPointError, match=reason):
        back_up(item, deferrable=deferrable)


@MODES
@pytest.mark.parametrize(("item", "point", "reason"), FLAWS)
def test_nor_does_somebody_elses(
    azure: Emulator, clock: Any, item: str, point: dict[str, Any], reason: str, mode: dict[str, Any]
) -> None:
    with pytest.raises(AzureBackupGateShutError, match=reason):
        gate(over(azure, clock, item, point=point), require_recovery_point=True, **mode)


@pytest.mark.parametrize("word", ["Healthy", "Unknown", "NotAvailable"])
def test_a_scan_that_found_nothing_or_was_never_made_is_accepted(azure: Emulator, word: str) -> None:
    azure.plan("vm-good", point={"threat": word})
    ti = TaskInstance()
    back_up(ti=ti)
    assert ti.xcoms["recovery_point"]["threat_status"] == word


@MODES
@pytest.mark.parametrize(("item", "point", "reason"), FLAWS)
def test_freshness_passes_over_a_newer_point_and_says_why(
    azure: Emulator,
    clock: Any,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    item: str,
    point: dict[str, Any],
    reason: str,
    mode: dict[str, Any],
) -> None:
    over(azure, clock, item)
    good = datetime.fromtimestamp(clock(), UTC)
    over(azure, clock, item, point=point)
    ti = TaskInstance()

    def fresh(max_age: float, **more: Any) -> Any:
        return run(
            lambda: AzureBackupFreshnessSensor(
                task_id="gate", protected_item=item, max_age=max_age, **{"deferrable": False, **mode, **more}
            ),
            ti,
        )

    fresh(timedelta(hours=1).total_seconds())
    assert datetime.fromisoformat(ti.xcoms["recovery_point"]["time"]) < good
    logged = caplog.text + capsys.readouterr().out
    assert "Not fresh enough" in logged and reason in logged
    with pytest.raises(AirflowSensorTimeout):
        fresh(500.0, timeout=0.05 if "poke_interval" in mode else 600)


def test_the_latest_to_restore_from_is_the_newest_good_one(azure: Emulator, clock: Any) -> None:
    over(azure, clock, "vm-good")
    bad = over(azure, clock, "vm-good", point={"threat": "UnHealthy"})
    with AzureBackupHook() as hook:
        newest, older = hook.list_recovery_points("vm-good")
        assert newest.damage and not older.damage
        assert hook.find_recovery_point(hook.get_job(bad), "vm-good").point_id == newest.point_id


# Whose it is


@BOTH
@pytest.mark.parametrize(
    ("item", "point"),
    [
        ("systemdb", {"before_start": 202.0}),
        ("documents", {"after_end": 12.5}),
        ("vm-good", {"after_end": 12.5}),
    ],
)
def test_clocks_may_differ_between_a_job_and_its_point(
    azure: Emulator, clock: Any, item: str, point: dict[str, Any], deferrable: bool
) -> None:
    over(azure, clock, item)
    clock.advance(3600)
    azure.plan(item, point=point)
    ti = TaskInstance()
    back_up(item, ti, deferrable=deferrable)
    job, made = ti.xcoms["job"], datetime.fromisoformat(ti.xcoms["recovery_point"]["time"])
    if "before_start" in point:
        assert (datetime.fromisoformat(job["start_time"]) - made).total_seconds() == pytest.approx(202, abs=1)
    else:
        assert (made - datetime.fromisoformat(job["end_time"])).total_seconds() == pytest.approx(12.5, abs=1)


def test_of_two_backups_that_follow_each_other_closely_each_has_its_own_point(
    azure: Emulator, clock: Any
) -> None:
    first = azure.start_job("systemdb", seconds=60)
    clock.advance(70)
    ours = azure.start_job("systemdb", seconds=60)
    clock.advance(70)
    azure.fault(path=r"/recoveryPoints\?", times=None, garbage='{"value": []}')
    with AzureBackupHook() as hook:
        job, earlier = hook.get_job(ours), hook.get_job(first)
        with pytest.raises(AzureBackupNotFoundError, match="none of that time"):
            hook.find_recovery_point(job, "systemdb")
        azure.clear_faults()
        found = hook.find_recovery_point(job, "systemdb")
        assert hook.find_recovery_point(earlier, "systemdb").unix_time < found.unix_time
    assert found.unix_time > job.began


@pytest.mark.parametrize("item", ["demo-aks", "disk-good"])
def test_a_backup_vaults_job_is_taken_at_its_word(
    azure: Emulator, clock: Any, call: Callable[..., Any], item: str
) -> None:
    first, second = (azure.start_job(item, seconds=60) for _ in range(2))
    clock.advance(400)
    where = azure.service.world.named(item)[0].vault.path
    found = [
        call("find_recovery_point", call("get_job", f"{where}/backupJobs/{job_id}"))
        for job_id in (first, second)
    ]
    assert len({point.point_id for point in found}) == 2


# Disks


def test_disks_that_were_left_out_are_in_the_facts(azure: Emulator) -> None:
    azure.plan("vm-good", point={"disks": 3, "excluded": ["logs"]})
    ti = TaskInstance()
    back_up(ti=ti)
    point = ti.xcoms["recovery_point"]
    assert (point["disks_included"], point["disks_attached"], point["excluded_disks"]) == (2, 3, ["logs"])


@BOTH
def test_disks_or_volumes_that_were_left_out_keep_the_gate_shut_on_request(
    azure: Emulator, deferrable: bool
) -> None:
    azure.plan("vm-good", point={"disks": 3, "excluded": ["logs"]})
    with pytest.raises(
        AzureBackupRecoveryPointError, match="2 of 3 attached disks are in it; left out: logs"
    ):
        back_up(require_all_disks=True, deferrable=deferrable)
    azure.plan("vm-good")
    back_up(require_all_disks=True, deferrable=deferrable)
    cluster = azure.service.world.named("demo-aks")[0].path
    azure.plan(cluster, ending="CompletedWithWarnings")
    back_up(cluster, accept_warnings=True, deferrable=deferrable)
    with pytest.raises(AzureBackupRecoveryPointError, match="volumes may have been left out"):
        back_up(cluster, accept_warnings=True, require_all_disks=True, deferrable=deferrable)


# Tiers


def test_the_same_point_is_waited_for_until_it_is_in_the_vault(
    azure: Emulator, clock: Any, call: Callable[..., Any]
) -> None:
    job_id = azure.start_job("demo-aks", seconds=60, point={"vaulted_after": 7200.0})
    clock.advance(100)
    where = azure.service.world.named("demo-aks")[0].vault.path
    point = call("find_recovery_point", call("get_job", f"{where}/backupJobs/{job_id}"))
    assert not point.has_reached("HardenedRP")
    with pytest.raises(AzureBackupTimeoutError, match="is not in HardenedRP"):
        call("wait_for_tier", point, "HardenedRP", deadline=clock() + 600)
    began = clock()
    found = call("wait_for_tier", point.path, "HardenedRP", deadline=began + 4 * 3600)
    assert found.point_id == point.point_id and found.has_reached("HardenedRP")
    assert 6000 < clock() - began < 7200
    assert azure.count("GET", "/recoveryPoints/") < 40
    with pytest.raises(AzureBackupConfigError):
        call("wait_for_tier", "vm-good", "HardenedRP", deadline=began)


@pytest.mark.parametrize("item", ["documents", "disk-good"])
def test_a_tier_that_can_never_be_reached_is_refused_before_anything_is_started(
    azure: Emulator, connect: Callable[..., None], item: str
) -> None:
    path = azure.service.world.named(item)[0].path
    with pytest.raises(AzureBackupConfigError, match="can never be met"):
        back_up(path, min_tier="HardenedRP")
    assert not azure.count("POST", "/subscriptions/")


@MODES
@pytest.mark.parametrize(
    "since", [{"max_age": 3600.0}, {"newer_than": "2026-01-01T00:00:00Z", "require_recovery_point": True}]
)
def test_a_sensor_refuses_it_at_once_and_lets_a_policy_bring_a_share_into_the_vault(
    azure: Emulator, clock: Any, since: dict[str, Any], mode: dict[str, Any]
) -> None:
    def fresh(item: str) -> Any:
        over(azure, clock, item)
        return run(
            lambda: AzureBackupFreshnessSensor(
                task_id="gate",
                protected_item=azure.service.world.named(item)[0].path,
                min_tier="HardenedRP",
                **{"deferrable": False, "timeout": 0.05 if "poke_interval" in mode else 60, **since, **mode},
            ),
            TaskInstance(),
        )

    with pytest.raises(AzureBackupConfigError, match="operational store only"):
        fresh("disk-good")
    with pytest.raises(AirflowSensorTimeout):
        fresh("documents")


# The api-version


def versions(azure: Emulator) -> list[str]:
    return [each["query"]["api-version"] for each in azure.requests if "/recoveryPoints" in each["path"]]


def test_recovery_points_are_asked_for_in_a_version_that_shows_threats(
    azure: Emulator, clock: Any, call: Callable[..., Any]
) -> None:
    over(azure, clock, "vm-good", point={"threat": "UnHealthy"})
    (point,) = call("list_recovery_points", "vm-good")
    assert point.threat_status == "UnHealthy"
    assert set(versions(azure)) == {"2026-07-01"}
    assert {e["query"]["api-version"] for e in azure.requests if "backupProtectedItems" in e["path"]} == {
        "2024-04-01"
    }


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (400, "InvalidApiVersionParameter", "The api-version '2026-07-01' is invalid."),
        (
            400,
            "NoRegisteredProviderFound",
            "No registered resource provider found for location 'chinaeast2'.",
        ),
        (404, "InvalidResourceType", "The resource type could not be found for api version '2026-07-01'."),
    ],
)
def test_a_cloud_that_does_not_know_it_is_asked_once_and_then_as_usual(
    azure: Emulator, clock: Any, status: int, code: str, message: str
) -> None:
    over(azure, clock, "vm-good", point={"threat": "UnHealthy"})
    azure.fault(
        path=r"/recoveryPoints.*api-version=2026", times=None, status=status, code=code, message=message
    )
    with AzureBackupHook() as hook:
        (point,) = hook.list_recovery_points("vm-good")
        hook.list_recovery_points("vm-good")
        assert hook.get_recovery_point("vm-good", point.point_id).threat_status == "Unknown"
    assert versions(azure) == ["2026-07-01", "2024-04-01", "2024-04-01", "2024-04-01"]


def test_a_point_that_is_not_there_is_no_reason_to_ask_again(
    azure: Emulator, call: Callable[..., Any]
) -> None:
    with pytest.raises(AzureBackupNotFoundError):
        call("get_recovery_point", "vm-good", "7")
    assert versions(azure) == ["2026-07-01"]


def test_a_connection_may_name_a_newer_version(
    azure: Emulator, connect: Callable[..., None], call: Callable[..., Any]
) -> None:
    connect(azure.connection(api_version="2026-10-01"))
    call("list_recovery_points", "vm-good")
    assert versions(azure) == ["2026-10-01"]


@BOTH
def test_a_job_whose_points_azure_does_not_list_is_refused_at_once(
    azure: Emulator, clock: Any, deferrable: bool
) -> None:
    job_id = over(azure, clock, "vm-good")
    body = {
        "name": job_id,
        "properties": {
            "jobType": "MabJob",
            "backupManagementType": "MAB",
            "operation": "Backup",
            "status": "Completed",
            "startTime": "2026-09-21T01:00:00Z",
            "endTime": "2026-09-21T02:00:00Z",
        },
    }
    azure.fault(path=f"/backupJobs/{job_id}", times=None, garbage=json.dumps(body))
    with pytest.raises(AzureBackupConfigError, match="Drop require_recovery_point"):
        run(
            lambda: AzureBackupOperator(
                task_id="gate", job_id=job_id, require_recovery_point=True, deferrable=deferrable
            ),
            TaskInstance(),
        )

"""One gate for an estate: in three modes with one meaning, and shut by whatever could not be read."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowSensorTimeout,
    AirflowSkipException,
    TaskDeferred,
)

try:
    from airflow.sdk.exceptions import AirflowRescheduleException
except ImportError:  # Airflow 2
    from airflow.exceptions import AirflowRescheduleException

from airflow_provider_azbackup.exceptions import (
    AzureBackupConfigError,
    AzureBackupError,
    AzureBackupNotFoundError,
)
from airflow_provider_azbackup.sensors import AzureBackupFleetSensor
from azure_backup_emulator import Emulator
from tests.support.tasks import TaskInstance, fire, run

MODES: dict[str, dict[str, Any]] = {
    "poke": {"poke_interval": 0.001},
    "deferred": {"deferrable": True},
}
BOTH = pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
FLEET = [f"fleet-{number:02}" for number in range(1, 21)]
NIGHTLY = ["vm-elsewhere", "nightly-1", "nightly-2"]


def short(mode: dict[str, Any]) -> float:
    """A timeout that passes soon in this mode: a sensor that pokes waits for real."""
    return 0.2 if "poke_interval" in mode else 600.0


def ago(clock: Any, seconds: float) -> datetime:
    return datetime.fromtimestamp(clock() - seconds, UTC)


def make(**arguments: Any) -> Any:
    return AzureBackupFleetSensor(**{"task_id": "gate", "deferrable": False, "timeout": 7200, **arguments})


def gate(ti: TaskInstance | None = None, **arguments: Any) -> Any:
    return run(lambda: make(**arguments), ti or TaskInstance())


def path(azure: Emulator, name: str) -> str:
    return str(azure.service.world.named(name)[0].path)


def vault(azure: Emulator, name: str) -> str:
    found = [*azure.service.world.vaults, *azure.service.world.backup_vaults]
    return next(str(each.path) for each in found if each.name == name)


@pytest.fixture
def nightly(azure: Emulator, clock: Any) -> Callable[..., None]:
    """Last night's backups, which are over."""

    def back_up(*names: str, ending: str = "Completed", **job: Any) -> None:
        for name in names:
            azure.start_job(name, **{"seconds": 30, "ending": ending, **job})
        clock.advance(60)

    return back_up


# The scope


@BOTH
def test_all_items_with_a_policy(
    azure: Emulator, clock: Any, nightly: Callable[..., None], mode: dict[str, Any]
) -> None:
    nightly(*FLEET)
    ti = TaskInstance()
    assert gate(ti, policy="Fleet", newer_than=ago(clock, 3600), **mode) == []
    assert ti.xcoms["verdict"]["counts"]["fresh"] == ti.xcoms["verdict"]["total"] == 20
    assert ti.xcoms["verdict"]["items"] == ti.xcoms["verdict"]["ids"] == []


@BOTH
def test_vaults_of_both_types_by_name_and_by_id(
    azure: Emulator, clock: Any, nightly: Callable[..., None], mode: dict[str, Any]
) -> None:
    nightly(*NIGHTLY, "disk-good")
    ti = TaskInstance()
    vaults = ["demo-vault-2", vault(azure, "demo-backup-vault")]
    workload = ["vm", "Microsoft.Compute/disks"]
    with pytest.raises(AirflowSensorTimeout, match="4 of 9 items are fresh"):
        gate(
            ti,
            vaults=vaults,
            workload=workload,
            newer_than=ago(clock, 3600),
            **{**mode, "timeout": short(mode)},
        )
    assert {each["name"] for each in ti.xcoms["verdict"]["items"]} >= {"disk-fails", "disk-warned"}


@BOTH
def test_all_vaults_of_a_subscription_but_what_is_excluded(
    azure: Emulator, clock: Any, nightly: Callable[..., None], mode: dict[str, Any]
) -> None:
    nightly(*NIGHTLY)
    subscription = azure.service.world.vaults[0].path.split("/")[2]
    others = [vault(azure, "demo-vault"), vault(azure, "demo-backup-vault")]
    since = ago(clock, 3600)
    assert gate(subscriptions=subscription, exclude=others, newer_than=since, **mode) == []


@BOTH
def test_items_by_name_and_by_id_and_what_is_not_protected(
    azure: Emulator, clock: Any, nightly: Callable[..., None], mode: dict[str, Any]
) -> None:
    nightly("vm-good", "payroll", "documents")
    named = [path(azure, "vm-good"), "payroll", azure.service.world.named("documents")[0].path.upper()]
    named[2] = path(azure, "documents")
    assert gate(protected_items=named, vaults="demo-vault", newer_than=ago(clock, 3600), **mode) == []
    ti = TaskInstance()
    with pytest.raises(AirflowSensorTimeout, match=r"gone-vm.*not protected"):
        gate(
            ti,
            protected_items=[*named, "gone-vm"],
            vaults="demo-vault",
            newer_than=ago(clock, 3600),
            soft_fail=True,
            **{**mode, "timeout": short(mode)},
        )
    assert ti.xcoms["verdict"]["counts"]["not_protected"] == 1
    assert ti.xcoms["verdict"]["ids"] == ["gone-vm"]


def test_the_ids_of_items_name_their_vaults(
    azure: Emulator, clock: Any, nightly: Callable[..., None]
) -> None:
    nightly("nightly-1", "disk-good")
    items = [path(azure, "nightly-1"), path(azure, "disk-good")]
    assert gate(protected_items=items, newer_than=ago(clock, 3600), poke_interval=0.001) == []


def test_a_name_that_several_items_have_is_never_guessed(
    azure: Emulator, clock: Any, nightly: Callable[..., None]
) -> None:
    for twin in azure.service.world.named("twin"):
        nightly(twin.path)
    with pytest.raises(AirflowSensorTimeout, match=r"'twin' names 2 items; give the ARM ids"):
        gate(protected_items="twin", newer_than=ago(clock, 3600), poke_interval=0.001, timeout=0.2)


@BOTH
def test_a_scope_that_selects_nothing_is_an_error_that_says_what_there_is(
    azure: Emulator, mode: dict[str, Any]
) -> None:
    with pytest.raises(AzureBackupNotFoundError, match=r"selects nothing \(policy fleets\).*fleet \(20\)"):
        gate(policy="fleets", newer_than="2026-01-01", **mode)


# The condition


@BOTH
def test_the_verdict_counts_by_reason_and_says_why(
    azure: Emulator, clock: Any, nightly: Callable[..., None], mode: dict[str, Any]
) -> None:
    nightly("vm-good", "payroll", "documents")
    nightly("vm-fails", ending="Failed")
    nightly("vm-warned", ending="CompletedWithWarnings")
    nightly("fleet-01", ending="Cancelled")
    azure.start_job("fleet-02", seconds=90_000)
    azure.protect("fleet-03", state="ProtectionStopped")
    azure.protect("fleet-04", state="ProtectionStopped", deleted_ago=86400)
    names = ["vm-good", "payroll", "documents", "vm-fails", "vm-warned", *FLEET[:5]]
    ti = TaskInstance()
    with pytest.raises(AirflowSensorTimeout, match=r"3 of 10 items are fresh") as caught:
        gate(
            ti,
            protected_items=[path(azure, name) for name in names],
            newer_than=ago(clock, 3600),
            soft_fail=True,  # forgives waits, not failures
            **{**mode, "timeout": short(mode)},
        )
    verdict = ti.xcoms["verdict"]
    assert {word: count for word, count in verdict["counts"].items() if count} == {
        **{"fresh": 3, "failed": 1, "warned": 1, "cancelled": 1, "running": 1},
        **{"stopped": 1, "soft_deleted": 1, "never_tried": 1},
    }
    assert verdict["codes"] == {"UserErrorVmNotInDesirableState": 1}
    first = verdict["items"][0]
    assert (first["name"], first["reason"], first["code"]) == (
        "vm-fails",
        "failed",
        "UserErrorVmNotInDesirableState",
    )
    # The cause comes first.
    assert str(caught.value).index("vm-fails") < str(caught.value).index("fleet-01")
    assert set(verdict["ids"]) == {path(azure, name) for name in names[3:]}


@BOTH
@pytest.mark.parametrize(("allow", "opens"), [(0, False), (1, False), (2, True), (0.1, True), (0.09, False)])
def test_so_many_may_fall_short_and_are_returned(
    azure: Emulator,
    clock: Any,
    nightly: Callable[..., None],
    mode: dict[str, Any],
    allow: float,
    opens: bool,
) -> None:
    nightly(*FLEET[:18])
    nightly(*FLEET[18:], ending="Failed")
    arguments = {"policy": "fleet", "newer_than": ago(clock, 3600), "allow": allow, **mode}
    if opens:
        assert gate(**arguments) == [path(azure, name) for name in FLEET[18:]]
    else:
        with pytest.raises(AirflowSensorTimeout):
            gate(**{**arguments, "timeout": short(mode)})


@pytest.mark.parametrize("allow", [-1, True, 1.0, 2.5, "3", None, float("nan")])
def test_what_is_neither_a_number_nor_a_share_is_refused(allow: Any) -> None:
    with pytest.raises(AzureBackupConfigError, match=r"allow of task 'gate' is .* a share of them below 1"):
        make(allow=allow)


def test_running_backups_are_waited_for(azure: Emulator, clock: Any) -> None:
    for number, name in enumerate(FLEET):
        azure.start_job(name, seconds=600 + 60 * number)
    began = clock()
    assert gate(policy="fleet", newer_than=ago(clock, 60), deferrable=True) == []
    assert 600 + 60 * 19 < clock() - began < 600 + 60 * 19 + 400


def test_a_running_backup_is_shown_with_when_it_is_likely_to_end(azure: Emulator, clock: Any) -> None:
    for night in range(12):
        azure.start_job("nightly-1", seconds=5000 + night, ago=86400.0 * (night + 1))
    azure.start_job("nightly-1", seconds=9000)
    ti = TaskInstance()
    with pytest.raises(AirflowSensorTimeout):
        gate(ti, vaults="demo-vault-2", newer_than=ago(clock, 60), deferrable=True, timeout=3000)
    shown = {each["name"]: each["expected_end"] for each in ti.xcoms["verdict"]["items"]}
    assert shown["nightly-1"] is not None
    assert shown["nightly-2"] is None


@BOTH
def test_warnings_count_where_they_are_accepted_unless_it_was_cancelled(
    azure: Emulator, clock: Any, nightly: Callable[..., None], mode: dict[str, Any]
) -> None:
    nightly("nightly-1", "nightly-2")
    nightly("vm-elsewhere", ending="CompletedWithWarnings")
    since = ago(clock, 3600)
    assert gate(vaults="demo-vault-2", newer_than=since, accept_warnings=True, **mode) == []
    nightly("vm-cancelled", ending="CancelledInTransfer")
    ti = TaskInstance()
    with pytest.raises(AirflowSensorTimeout):
        gate(
            ti,
            protected_items="vm-cancelled",
            newer_than=since,
            accept_warnings=True,
            **{**mode, "timeout": short(mode)},
        )
    assert ti.xcoms["verdict"]["counts"]["cancelled"] == 1


@BOTH
def test_recovery_points_of_backups_are_checked_where_that_is_asked_for(
    azure: Emulator, clock: Any, nightly: Callable[..., None], mode: dict[str, Any]
) -> None:
    nightly("nightly-1", "nightly-2")
    nightly("vm-elsewhere", point={"partial": True})
    ti = TaskInstance()
    wanted = {"require_recovery_point": True, "min_tier": "HardenedRP", "allow": 1}
    assert gate(ti, vaults="demo-vault-2", newer_than=ago(clock, 3600), **wanted, **mode) == [
        path(azure, "vm-elsewhere")
    ]
    assert "partial" in ti.xcoms["verdict"]["items"][0]["detail"]


@BOTH
def test_the_age_of_recovery_points(
    azure: Emulator, clock: Any, nightly: Callable[..., None], mode: dict[str, Any]
) -> None:
    nightly(*NIGHTLY)
    assert gate(vaults="demo-vault-2", max_age=timedelta(hours=1), **mode) == []
    clock.advance(7200)
    nightly("nightly-1")
    ti = TaskInstance()
    with pytest.raises(AirflowSensorTimeout, match="1 of 3 items are fresh"):
        gate(ti, vaults="demo-vault-2", max_age=3600, **{**mode, "timeout": short(mode)})


# What cannot be read


@BOTH
@pytest.mark.parametrize(
    "fault",
    [
        {"status": 403, "code": "AuthorizationFailed"},
        {"status": 500},
        {"reset": True},
        {"garbage": '{"value": 1}'},
        {"garbage": '{"value": [{"id": "/somewhere/else"}]}'},
    ],
    ids=str,
)
def test_a_vault_that_cannot_be_read_keeps_the_gate_shut_and_hides_no_other(
    azure: Emulator, clock: Any, nightly: Callable[..., None], mode: dict[str, Any], fault: dict[str, Any]
) -> None:
    nightly(*FLEET)
    azure.fault(path="demo-vault-2/backupProtectedItems", times=None, **fault)
    ti = TaskInstance()
    with pytest.raises(AirflowSensorTimeout, match=r"1 vaults or subscriptions cannot be read: demo-vault-2"):
        gate(
            ti,
            vaults=["demo-vault", "demo-vault-2"],
            policy="fleet",
            newer_than=ago(clock, 3600),
            allow=0.9,
            **{**mode, "timeout": short(mode)},
        )
    assert ti.xcoms["verdict"]["counts"]["fresh"] == 20
    assert [*ti.xcoms["verdict"]["unreadable"]] == [vault(azure, "demo-vault-2")]


@BOTH
def test_a_list_that_breaks_off_is_not_taken_for_a_short_one(
    azure: Emulator, clock: Any, nightly: Callable[..., None], mode: dict[str, Any]
) -> None:
    nightly(*FLEET[:3])
    azure.configure(page_size=10)
    azure.fault(path=r"demo-vault/backupProtectedItems.*skip", times=None, reset=True)
    with pytest.raises(AirflowSensorTimeout, match="cannot be read"):
        gate(policy="fleet", newer_than=ago(clock, 3600), allow=0.9, **{**mode, "timeout": short(mode)})


@BOTH
def test_jobs_that_cannot_be_listed_make_their_items_unreadable(
    azure: Emulator, clock: Any, nightly: Callable[..., None], mode: dict[str, Any]
) -> None:
    nightly(*FLEET, *NIGHTLY)
    azure.fault(path="demo-vault-2/backupJobs", times=None, status=403, code="AuthorizationFailed")
    ti = TaskInstance()
    with pytest.raises(AirflowSensorTimeout, match="23 items are fresh"):
        gate(
            ti,
            vaults=["demo-vault", "demo-vault-2"],
            protected_items=[path(azure, name) for name in (*FLEET, *NIGHTLY)],
            newer_than=ago(clock, 3600),
            allow=22,
            **{**mode, "timeout": short(mode)},
        )
    assert ti.xcoms["verdict"]["counts"]["unreadable"] == 3


def test_a_refusal_of_everything_ends_the_wait_within_minutes(azure: Emulator, clock: Any) -> None:
    azure.fault(path="/backupProtectedItems", times=None, status=403, code="AuthorizationFailed")
    began = clock()
    with pytest.raises(AzureBackupError, match="AuthorizationFailed"):
        gate(newer_than="2026-01-01", deferrable=True)
    assert clock() - began < 300


# Modes


@BOTH
def test_a_wait_in_which_nothing_went_wrong_may_be_forgiven(
    azure: Emulator, clock: Any, mode: dict[str, Any]
) -> None:
    azure.start_job("nightly-1", seconds=9000)
    with pytest.raises(AirflowSkipException):
        gate(
            vaults="demo-vault-2",
            newer_than=ago(clock, 60),
            soft_fail=True,
            **{**mode, "timeout": short(mode)},
        )


def test_a_rescheduled_sensor_looks_once_and_comes_again(
    azure: Emulator, clock: Any, nightly: Callable[..., None]
) -> None:
    nightly("nightly-1", "nightly-2")
    arguments = {"vaults": "demo-vault-2", "newer_than": ago(clock, 3600), "mode": "reschedule"}
    ti = TaskInstance()
    with pytest.raises(AirflowRescheduleException):
        gate(ti, **arguments)
    assert ti.xcoms["verdict"]["missing"] == 1
    nightly("vm-elsewhere")
    assert gate(ti, **arguments) == []


def test_the_event_of_an_outlet_holds_the_counts(
    azure: Emulator, clock: Any, nightly: Callable[..., None]
) -> None:
    nightly(*NIGHTLY)
    ti, event = TaskInstance(), SimpleNamespace(extra={})
    task = make(vaults="demo-vault-2", newer_than=ago(clock, 3600), poke_interval=0.001)
    task.outlets = ["estate"]
    task.execute({**ti.context, "outlet_events": {"estate": event}})
    assert event.extra["verdict"]["counts"]["fresh"] == 3
    assert "items" not in event.extra["verdict"]


# Late


def late_estate(azure: Emulator) -> None:
    """An estate whose last backup ends after 150 minutes, as on the nights before."""
    for night in range(12):
        azure.start_job("nightly-1", seconds=9000 + night, ago=86400.0 * (night + 1))
    for name, minutes in zip(NIGHTLY, (30, 150, 10), strict=True):
        azure.start_job(name, seconds=60 * minutes)


@pytest.mark.parametrize(("allow", "when"), [(0, "foreseen"), (1, "in time")])
def test_a_fleet_warns_once_before_it_is_late(azure: Emulator, clock: Any, allow: int, when: str) -> None:
    late_estate(azure)
    calls, ti, began = [], TaskInstance(), clock()
    arguments = {
        "vaults": "demo-vault-2",
        "newer_than": ago(clock, 60),
        "expected_by": datetime.fromtimestamp(began + 7200, UTC),
        "on_late": lambda context: calls.append((clock() - began, context["late"])),
        "timeout": 6 * 3600,
        "deferrable": True,
        "allow": allow,
    }
    gate(ti, **arguments)
    if when == "in time":
        assert not calls
        assert ti.xcoms["verdict"]["late"] is False
        return
    ((seconds, late),) = calls
    assert seconds < 3600
    assert "but 1 of them are likely to end later" in late["message"]
    assert late["expected_end"] is not None
    assert [each["when_late"] for each in ti.deferred_with] == ["resume", "warned"]
    assert ti.xcoms["verdict"]["late"] is True


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_fleet_that_is_late_by_the_clock_warns_and_opens_all_the_same(
    azure: Emulator,
    clock: Any,
    nightly: Callable[..., None],
    deferrable: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    nightly("nightly-1", "nightly-2")
    azure.start_job("vm-elsewhere", seconds=3600)
    by = datetime.fromtimestamp(clock() + 600, UTC)
    arguments = {"vaults": "demo-vault-2", "newer_than": ago(clock, 3600), "expected_by": by}
    if deferrable:
        assert gate(**arguments, deferrable=True) == []
    else:
        task, ti = make(**arguments), TaskInstance()
        for passed in (0, 700, 700):
            clock.advance(passed)
            assert not task.poke(ti.context)
    said = capsys.readouterr().out
    assert said.count("Late: the backups were expected by") == 1
    assert "and 1 of 3 items are not fresh" in said


# What a trigger hands over


@pytest.fixture
def deferred(azure: Emulator, clock: Any, nightly: Callable[..., None]) -> Any:
    """A fleet that is fresh but for one, its deferral and its event."""
    nightly(*FLEET[:19])
    arguments = {"policy": "fleet", "newer_than": ago(clock, 3600), "deferrable": True}
    ti = TaskInstance()
    with pytest.raises(TaskDeferred) as caught:
        make(**arguments, allow=1).execute(ti.context)
    left = caught.value
    event = asyncio.run(fire(*left.trigger.serialize()))

    def resume(event: Any, **changes: Any) -> Any:
        task = make(**{**arguments, "allow": 1, **changes})
        handed = json.loads(json.dumps({**(left.kwargs or {}), "event": event}))
        return task.resume_execution(left.method_name, handed, ti.context)

    return SimpleNamespace(event=event, resume=resume, trigger=left.trigger)


def test_the_true_event_opens(azure: Emulator, deferred: Any) -> None:
    assert deferred.resume(deferred.event) == [path(azure, FLEET[19])]


def test_arguments_are_plain_json_and_hold_no_secret(azure: Emulator, deferred: Any) -> None:
    stored = json.dumps(deferred.trigger.serialize())
    assert azure.connection()["password"] not in stored


def test_a_trigger_that_is_run_again_comes_to_the_same_verdict(deferred: Any) -> None:
    again = asyncio.run(fire(*deferred.trigger.serialize()))
    again["at"], again["verdict"]["at"] = deferred.event["at"], deferred.event["verdict"]["at"]
    assert again == deferred.event


FORGERIES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "another policy": (lambda e: e["scope"].update(policies=["nothing"]), "about another scope"),
    "another vault": (lambda e: e["scope"].update(vaults=[]), "about another scope"),
    "an earlier moment": (lambda e: e["condition"].update(after=0.0), "about another condition"),
    "more allowed": (lambda e: e["condition"].update(allow=20), "about another condition"),
    "an unknown condition": (lambda e: e["condition"].update(invented=1), "condition cannot be read"),
    "no scope": (lambda e: e.pop("scope"), "no scope or condition"),
    "a newer event": (lambda e: e.update(version=99), "newer release.*version 99.*upgrade the worker"),
    "a newer verdict": (
        lambda e: e["verdict"].update(version=99),
        "newer release.*version 99.*upgrade the worker",
    ),
    "no verdict": (lambda e: e.update(verdict=None), "not a verdict"),
    "an error with it": (lambda e: e.update(error={"message": "x"}), "holds no verdict"),
    "no moment": (lambda e: e.update(at=None), "holds no verdict"),
    "no counts": (lambda e: e["verdict"].pop("counts"), "verdict cannot be read"),
    "a reason that is not known": (
        lambda e: e["verdict"]["counts"].update(splendid=3),
        "verdict cannot be read",
    ),
    "a negative count": (lambda e: e["verdict"]["counts"].update(failed=-1), "verdict cannot be read"),
    "a boolean count": (lambda e: e["verdict"]["counts"].update(fresh=True), "verdict cannot be read"),
    "more fresh than there are": (lambda e: e["verdict"]["counts"].update(fresh=30), "contradicts itself"),
    "fewer missing than listed": (lambda e: e["verdict"].update(missing=0), "contradicts itself"),
    "late, and an error": (
        lambda e: e.update(verdict=None, late={"message": "x"}, error={"message": "y"}),
        "y",
    ),
    "late, without words": (lambda e: e.update(verdict=None, late={"by": "x"}), "not a verdict"),
    "ids that are not there": (lambda e: e["verdict"].update(ids=[]), "contradicts itself"),
}


@pytest.mark.parametrize(("forge", "reason"), FORGERIES.values(), ids=FORGERIES)
def test_a_forged_event_never_opens(
    deferred: Any, forge: Callable[[dict[str, Any]], Any], reason: str
) -> None:
    event = copy.deepcopy(deferred.event)
    forge(event)
    with pytest.raises(AzureBackupError, match=reason):
        deferred.resume(event)


@pytest.mark.parametrize("event", [None, [], "open", {"version": 1}, {"version": True}], ids=str)
def test_what_is_no_event_never_opens(deferred: Any, event: Any) -> None:
    with pytest.raises(AzureBackupError):
        deferred.resume(event)


def test_counts_that_allow_too_little_are_counted_again_in_the_worker(deferred: Any) -> None:
    event = copy.deepcopy(deferred.event)
    event["condition"]["allow"] = 0
    with pytest.raises(AirflowSensorTimeout, match="19 of 20 items are fresh"):
        deferred.resume(event, allow=0)


# Arguments


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"vaults": ["a/b"]}, "vaults of task 'gate'"),
        ({"vaults": []}, "vaults of task 'gate'"),
        ({"vaults": "v", "subscriptions": "s"}, "was given vaults and subscriptions"),
        ({"protected_items": "x", "policy": "p"}, "was given protected_items and policy"),
        ({"workload": "VMs"}, "workload of task 'gate'"),
        ({"protected_items": [1]}, "protected_items of task 'gate'"),
        ({"exclude": "https://portal.azure.com/x"}, "a URL"),
        ({"newer_than": "soon"}, "newer_than"),
        ({"max_age": 3}, "max_age"),
        ({"min_tier": "HardenedRP"}, "need the recovery point"),
    ],
    ids=str,
)
def test_what_cannot_be_right_is_refused_when_the_dag_is_parsed(
    arguments: dict[str, Any], reason: str
) -> None:
    with pytest.raises(AzureBackupConfigError, match=reason):
        make(**arguments)


@pytest.mark.parametrize("value", [None, "None", "", [], {"a": 1}, 3])
def test_a_template_that_came_to_nothing_does_not_widen_the_scope(azure: Emulator, value: Any) -> None:
    task = make(policy="{{ params.policy }}", newer_than="2026-01-01", poke_interval=0.001)
    task.policy = value
    with pytest.raises(AzureBackupConfigError, match="policy of task 'gate'"):
        task.execute(TaskInstance().context)


@pytest.mark.parametrize("tags", ["{{ params.tags }}", {"tier": 1}, {}, ["tier"]], ids=str)
def test_tags_are_a_dict_of_texts(azure: Emulator, tags: Any) -> None:
    with pytest.raises(AzureBackupConfigError, match="tags of task 'gate'"):
        make(tags=tags, newer_than="2026-01-01", poke_interval=0.001).execute(TaskInstance().context)

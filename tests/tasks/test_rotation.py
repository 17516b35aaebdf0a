"""What changes or fails during a wait of hours: secrets, roles, tokens, Entra ID, Azure itself."""

from __future__ import annotations

import importlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import BaseSensorOperator

from airflow_provider_azbackup.exceptions import AzureBackupAuthError
from airflow_provider_azbackup.operators import AzureBackupOperator
from airflow_provider_azbackup.sensors import AzureBackupJobSensor
from azure_backup_emulator import Emulator
from tests.support.tasks import Store, TaskInstance, run

try:
    from airflow.sdk.exceptions import AirflowRescheduleException
except ImportError:  # Airflow below 3.2
    from airflow.exceptions import AirflowRescheduleException

AIRFLOWS_SENSOR = importlib.import_module(BaseSensorOperator.__module__)

HOUR = 3600.0
JOBS, SIGN_IN = "/backupJobs/", "/oauth2/v2.0/token"
NEW_SECRET = "a-secret-of-this-quarter"
WAYS: dict[str, dict[str, Any]] = {
    "operator in the worker": {"deferrable": False},
    "operator deferred": {"deferrable": True},
    "sensor poking": {"mode": "poke"},
    "sensor rescheduled": {"mode": "reschedule", "poke_interval": 1200},  # each look is a new process
    "sensor deferred": {"deferrable": True},
}
IN_EVERY_WAY = pytest.mark.parametrize("way", WAYS)


@pytest.fixture(autouse=True)
def airflow_on_the_clock(azure: Emulator, clock: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow's own sensor sleeps and reads the time by itself; here by the clock of the test."""

    def sleep(seconds: float) -> None:
        clock.sleep(seconds + 0.001)  # no sleep of a machine is exact

    def utcnow() -> datetime:
        return datetime.fromtimestamp(clock(), UTC)

    times = {**vars(time), "sleep": sleep, "monotonic": clock}
    zone = {**vars(AIRFLOWS_SENSOR.timezone), "utcnow": utcnow}
    monkeypatch.setattr(AIRFLOWS_SENSOR, "time", SimpleNamespace(**times))
    monkeypatch.setattr(AIRFLOWS_SENSOR, "timezone", SimpleNamespace(**zone))


@pytest.fixture
def after(clock: Any) -> Iterator[Callable[..., None]]:
    """Do things once, each at a number of seconds from now."""
    advance, plan = clock.advance, []

    def pass_by(pause: float) -> None:
        advance(pause)
        while plan and clock() >= plan[0][0]:
            plan.pop(0)[1]()

    def after(seconds: float, act: Callable[[], Any]) -> None:
        plan.append((clock() + seconds, act))
        plan.sort(key=lambda each: each[0])
        clock.advance = pass_by

    yield after
    clock.__dict__.pop("advance", None)


@pytest.fixture
def wait(azure: Emulator, clock: Any) -> Callable[..., str]:
    """Wait six hours at most for a backup of five, looking every ten minutes; how it ended."""

    def wait(way: str, **arguments: Any) -> str:
        ti = TaskInstance(store=Store())
        settings = {"deferrable": False, "timeout": 6 * HOUR, **WAYS[way], **arguments}
        if way.startswith("operator"):
            azure.plan("vm-good", seconds=5 * HOUR)
            settings = {"protected_item": "vm-good", "poll_interval": 600, **settings}
            run(lambda: AzureBackupOperator(task_id="backup", **settings), ti)
        else:
            job_id = azure.start_job("vm-good", seconds=5 * HOUR)
            settings = {"job_id": job_id, "poke_interval": 600, **settings}
            _until_not_rescheduled(lambda: AzureBackupJobSensor(task_id="gate", **settings), ti, clock)
        return str(ti.xcoms["job"]["outcome"])

    return wait


def _until_not_rescheduled(make: Callable[[], Any], ti: TaskInstance, clock: Any) -> None:
    while True:
        try:
            run(make, ti)
            return
        except AirflowRescheduleException as later:
            ti.first_reschedule = ti.first_reschedule or ti.start_date
            # The scheduler comes round every few seconds.
            clock.advance(max(0.0, later.reschedule_date.timestamp() - clock()) + 2)


@pytest.fixture
def identity(azure: Emulator) -> Iterator[Any]:
    """The emulator's tenant; whatever is done to its principals is undone."""
    tenant = azure.service.identity
    before = dict(tenant.principals)
    # Too short to be used twice: most looks sign in again. Tokens live in real time.
    azure.configure(token_lifetime=200)
    yield tenant
    tenant.principals.update(before)


@pytest.fixture
def rotate(azure: Emulator, identity: Any) -> Callable[[], None]:
    """Take the secret of the connection out of use, and the tokens got with it; put another in its place."""

    def rotate() -> None:
        identity.principals["operator"] = replace(identity.principals["operator"], secret=NEW_SECRET)
        azure.fault(path=JOBS, expire_token=True)

    return rotate


def busiest_minute(azure: Emulator) -> int:
    """The most requests within a minute of the clock."""
    return max(Counter(int(entry["at"] // 60) for entry in azure.requests).values())


# Secrets


@pytest.mark.parametrize("way", WAYS)
def test_a_secret_rotated_in_the_connection_is_picked_up_by_a_running_wait(
    azure: Emulator,
    connect: Callable[..., None],
    after: Callable[..., None],
    rotate: Callable[[], None],
    wait: Callable[..., str],
    way: str,
) -> None:
    after(HOUR, lambda: (rotate(), connect(azure.connection())))
    assert wait(way) == "succeeded"
    assert azure.count("POST", SIGN_IN, 401) <= 4


@pytest.mark.parametrize("way", ["operator in the worker", "operator deferred", "sensor deferred"])
def test_a_connection_that_follows_the_rotation_by_half_a_minute_is_soon_enough(
    azure: Emulator,
    connect: Callable[..., None],
    after: Callable[..., None],
    rotate: Callable[[], None],
    wait: Callable[..., str],
    clock: Any,
    way: str,
) -> None:
    def rotate_before_a_look() -> None:
        rotate()
        seen = azure.count("POST", SIGN_IN, 401)

        def follow() -> None:
            if azure.count("POST", SIGN_IN, 401) > seen:
                connect(azure.connection())
            else:
                after(1, follow)

        after(1, follow)

    after(HOUR, rotate_before_a_look)
    assert wait(way) == "succeeded"


@IN_EVERY_WAY
def test_a_secret_that_only_azure_was_told_of_ends_the_wait_within_a_minute(
    azure: Emulator,
    after: Callable[..., None],
    rotate: Callable[[], None],
    wait: Callable[..., str],
    clock: Any,
    way: str,
) -> None:
    after(HOUR, rotate)
    old = azure.connection()["password"]
    with pytest.raises(AzureBackupAuthError, match="AADSTS7000215") as refused:
        wait(way)
    denied = [entry["at"] for entry in azure.requests if entry["status"] == 401]
    assert clock() - denied[0] <= 60
    assert 1 <= len(denied) <= 20
    assert old not in str(refused.value) and NEW_SECRET not in str(refused.value)


@pytest.mark.parametrize("way", WAYS)
def test_a_connection_that_cannot_be_read_again_leaves_the_wait_with_the_one_it_has(
    azure: Emulator,
    connect: Callable[..., None],
    after: Callable[..., None],
    wait: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    way: str,
) -> None:
    if way == "sensor rescheduled":
        pytest.skip("a rescheduled look is a new process, which has nothing but what it reads")
    after(HOUR, lambda: monkeypatch.delenv("AIRFLOW_CONN_AZURE_BACKUP_DEFAULT"))
    after(HOUR + 10, lambda: azure.fault(path=JOBS, expire_token=True))
    after(2 * HOUR, lambda: connect(azure.connection()))
    assert wait(way) == "succeeded"
    assert azure.count("GET", JOBS, 401) == 1


# Roles


@IN_EVERY_WAY
def test_a_revoked_role_ends_the_wait_within_a_minute_and_is_named(
    azure: Emulator,
    after: Callable[..., None],
    identity: Any,
    wait: Callable[..., str],
    clock: Any,
    way: str,
) -> None:
    operator = identity.principals["operator"]
    after(2 * HOUR, lambda: identity.principals.update(operator=replace(operator, actions=())))
    with pytest.raises(AzureBackupAuthError, match=r"^Missing right: .*backupJobs/read.*403"):
        wait(way)
    denied = [entry["at"] for entry in azure.requests if entry["status"] == 403]
    assert clock() - denied[0] <= 60
    assert len(denied) <= 6


@pytest.mark.parametrize("way", WAYS)
def test_a_refusal_that_comes_once_does_not_end_a_wait_of_hours(
    azure: Emulator, after: Callable[..., None], wait: Callable[..., str], way: str
) -> None:
    after(2 * HOUR, lambda: azure.fault(path=JOBS, status=403, code="AuthorizationFailed"))
    assert wait(way) == "succeeded"
    assert azure.count("GET", JOBS, 403) == 1


# Tokens


@pytest.mark.parametrize("way", ["operator in the worker", "sensor poking"])
def test_a_token_that_expires_in_mid_wait_is_renewed_before_azure_refuses_it(
    azure: Emulator, identity: Any, wait: Callable[..., str], way: str
) -> None:
    assert wait(way) == "succeeded"
    assert azure.count("GET", JOBS, 401) == 0
    assert azure.count("POST", SIGN_IN, 200) >= azure.count("GET", JOBS, 200) >= 25


@pytest.mark.parametrize("way", WAYS)
def test_a_token_that_azure_takes_for_expired_is_replaced(
    azure: Emulator, after: Callable[..., None], wait: Callable[..., str], way: str
) -> None:
    after(HOUR, lambda: azure.fault(path=JOBS, expire_token=True))
    assert wait(way) == "succeeded"
    assert azure.count("GET", JOBS, 401) == 1


# Outages


OUTAGES: dict[str, dict[str, Any]] = {
    "503": {"status": 503},
    "no connection": {"reset": True},
    "an HTML page": {"html": True, "status": 502},
    "429": {"status": 429, "retry_after": 60},
}


@IN_EVERY_WAY
@pytest.mark.parametrize("outage", OUTAGES.values(), ids=OUTAGES)
def test_half_an_hour_without_azure_does_not_fail_a_wait_of_six(
    azure: Emulator,
    after: Callable[..., None],
    wait: Callable[..., str],
    way: str,
    outage: dict[str, Any],
) -> None:
    after(HOUR, lambda: azure.fault(times=None, **outage))
    after(1.5 * HOUR, azure.clear_faults)
    assert wait(way) == "succeeded"
    assert sum(entry["status"] not in (200, 202) for entry in azure.requests) >= 1
    assert busiest_minute(azure) <= 12


SIGN_IN_OUTAGES = {**OUTAGES, "nonsense": {"garbage": '{"access_token": 5, "expires_in": "soon"}'}}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("outage", SIGN_IN_OUTAGES)
def test_half_an_hour_without_sign_in_does_not_fail_a_wait_of_six(
    azure: Emulator,
    identity: Any,
    after: Callable[..., None],
    wait: Callable[..., str],
    outage: str,
    way: str,
) -> None:
    def begin() -> None:
        azure.fault(path=SIGN_IN, times=None, **SIGN_IN_OUTAGES[outage])
        azure.fault(path=JOBS, expire_token=True)  # now they need a new one

    after(HOUR, begin)
    after(1.5 * HOUR, azure.clear_faults)
    assert wait(way) == "succeeded"
    assert azure.count("POST", SIGN_IN) > azure.count("GET", JOBS, 401) + 2
    assert busiest_minute(azure) <= 40


def test_an_outage_over_the_end_of_the_backup_only_delays_the_gate(
    azure: Emulator, clock: Any, after: Callable[..., None], wait: Callable[..., str]
) -> None:
    began = clock()
    after(4.75 * HOUR, lambda: azure.fault(path="", times=None, reset=True))
    after(5.5 * HOUR, azure.clear_faults)
    assert wait("operator deferred") == "succeeded"
    assert 5.5 * HOUR <= clock() - began <= 5.7 * HOUR

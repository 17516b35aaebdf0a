"""How often one call reaches Azure, and when: a request that starts something is never sent twice unasked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_azbackup.core.conversations.operations import trigger_backup
from airflow_provider_azbackup.exceptions import (
    AzureBackupError,
    AzureBackupLimitError,
    AzureBackupTransientError,
    AzureBackupUnconfirmedStartError,
)
from airflow_provider_azbackup.hooks import AzureBackupHook
from airflow_provider_azbackup.runtime.transport import SyncDriver
from azure_backup_emulator import Emulator

Call = Callable[..., Any]
# An ARM id of a machine needs no look-up: whatever is counted belongs to the one call that is meant.
MACHINE = (
    "/subscriptions/00000000-0000-0000-0000-00000000d3a0/resourceGroups/demo-vms"
    "/providers/Microsoft.Compute/virtualMachines/vm-good"
)
# Faults that befall every request, until they are cleared.
ALWAYS: dict[str, Any] = {"times": None}


def starts(azure: Emulator) -> int:
    return azure.count("POST", "/protectedItems/")


def looks(azure: Emulator) -> int:
    return azure.count("GET", "/backupJobs/")


@pytest.mark.parametrize("processed", [False, True], ids=["refused", "executed"])
@pytest.mark.parametrize(
    "fault",
    [
        {"status": 500},
        {"status": 502},
        {"status": 502, "html": True},
        {"status": 503},
        {"status": 503, "retry_after": 1},
        {"status": 504},
        {"status": 504, "retry_after": 1},
        {"status": 408},
        {"reset": True},
    ],
    ids=str,
)
def test_a_start_of_unknown_fate_is_sent_once_and_says_so(
    azure: Emulator, call: Call, fault: dict[str, Any], processed: bool
) -> None:
    azure.fault(method="POST", processed=processed, **fault, **ALWAYS)
    with pytest.raises(AzureBackupUnconfirmedStartError) as caught:
        call("trigger_backup", MACHINE)
    assert starts(azure) == 1
    assert "was sent, but it is not known whether Azure has accepted it" in str(caught.value)
    assert "a backup may be running in vault demo-vault" in str(caught.value)
    assert caught.value.status == fault.get("status")


@pytest.mark.parametrize("status", [400, 403, 404, 409, 412])
def test_a_refused_start_is_sent_once_even_with_retry_after(azure: Emulator, call: Call, status: int) -> None:
    azure.fault(method="POST", status=status, retry_after=1, **ALWAYS)
    with pytest.raises(Exception, match=f"answered {status}") as caught:
        call("trigger_backup", MACHINE)
    assert not isinstance(caught.value, AzureBackupUnconfirmedStartError | AzureBackupTransientError)
    assert starts(azure) == 1


@pytest.mark.parametrize("answer", [{"empty": True}, {"garbage": "<html>"}], ids=str)
def test_an_accepted_start_that_names_no_operation_is_sent_once_and_says_so(
    azure: Emulator, call: Call, answer: dict[str, Any]
) -> None:
    azure.fault(method="POST", processed=True, status=202, **answer, **ALWAYS)
    with pytest.raises(
        AzureBackupUnconfirmedStartError, match="names no operation; a backup is probably running"
    ):
        call("trigger_backup", MACHINE)
    assert starts(azure) == 1


def test_a_start_that_is_not_answered_in_time_is_sent_once(azure: Emulator) -> None:
    azure.fault(method="POST", latency=3, **ALWAYS)
    hook = AzureBackupHook()
    item = hook.resolve_protected_item(MACHINE)
    hook.close()
    driver = SyncDriver(hook.settings, read_timeout=0.2)
    with pytest.raises(AzureBackupUnconfirmedStartError, match=r"ServiceResponse.*read timeout"):
        driver.play(trigger_backup(item, {"properties": {"objectType": "IaasVMBackupRequest"}}))
    driver.close()
    assert starts(azure) == 1


def test_a_throttled_start_is_sent_again_until_it_is_accepted_never_earlier_than_azure_asked(
    azure: Emulator, call: Call, clock: Any
) -> None:
    azure.fault(method="POST", path="/protectedItems/", status=429, retry_after=40, times=5)
    operation = call("trigger_backup", MACHINE)
    assert operation.operation_id
    assert starts(azure) == 6
    assert len(azure.service.world.jobs) == 1
    assert len(clock.waits) == 5
    assert all(40 <= wait <= 44 for wait in clock.waits), clock.waits
    assert len(set(clock.waits)) == 5, "tasks that were throttled together must not come back together"


def test_a_throttled_start_without_a_time_is_sent_again_ever_more_slowly(
    azure: Emulator, call: Call, clock: Any
) -> None:
    azure.fault(method="POST", path="/protectedItems/", status=429, times=6)
    call("trigger_backup", MACHINE)
    assert starts(azure) == 7
    assert all(0.8 * 2**turn <= wait <= 1.6 * 2**turn for turn, wait in enumerate(clock.waits)), clock.waits


def test_a_start_that_stays_throttled_ends_as_not_started(azure: Emulator, call: Call, clock: Any) -> None:
    azure.fault(method="POST", path="/protectedItems/", status=429, retry_after=10, **ALWAYS)
    with pytest.raises(AzureBackupLimitError, match="answered 429 TooManyRequests") as caught:
        call("trigger_backup", MACHINE)
    assert caught.value.retry_after == 10
    assert starts(azure) == 1 + len(clock.waits) == 9
    assert azure.service.world.jobs == {}


def test_a_start_throttled_for_an_hour_goes_back_to_the_caller_at_once(
    azure: Emulator, call: Call, clock: Any
) -> None:
    azure.fault(method="POST", path="/protectedItems/", status=429, retry_after=3600, **ALWAYS)
    with pytest.raises(AzureBackupLimitError) as caught:
        call("trigger_backup", MACHINE)
    assert caught.value.retry_after == 3600
    assert (starts(azure), clock.waits) == (1, [])


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_look_is_repeated_when_azure_says_when_never_earlier(
    azure: Emulator, call: Call, clock: Any, status: int
) -> None:
    job_id = azure.start_job("vm-good")
    azure.fault(method="GET", status=status, retry_after=20, times=3)
    assert call("get_job", job_id).status == "InProgress"
    assert looks(azure) == 4
    assert all(20 <= wait <= 22 for wait in clock.waits), clock.waits


@pytest.mark.parametrize(
    "fault", [{"status": 500}, {"status": 502, "html": True}, {"status": 503}, {"status": 504}], ids=str
)
def test_a_look_at_a_broken_server_is_repeated_a_few_times_ever_more_slowly(
    azure: Emulator, call: Call, clock: Any, fault: dict[str, Any]
) -> None:
    job_id = azure.start_job("vm-good")
    azure.fault(method="GET", **fault, **ALWAYS)
    with pytest.raises(AzureBackupTransientError, match=f"answered {fault['status']}"):
        call("get_job", job_id)
    assert looks(azure) == 4
    assert all(0.8 * 2**turn <= wait <= 1.6 * 2**turn for turn, wait in enumerate(clock.waits)), clock.waits


def test_a_look_that_is_cut_off_is_repeated_a_few_times(azure: Emulator, call: Call) -> None:
    """aiohttp by itself sends a GET again, once, on a kept connection that broke: up to twice as many."""
    job_id = azure.start_job("vm-good")
    azure.fault(method="GET", reset=True, **ALWAYS)
    with pytest.raises(AzureBackupTransientError, match="got no answer"):
        call("get_job", job_id)
    assert 4 <= looks(azure) <= 8


def test_a_look_that_is_cut_off_once_is_no_news(azure: Emulator, call: Call) -> None:
    job_id = azure.start_job("vm-good")
    azure.fault(method="GET", reset=True)
    assert call("get_job", job_id).status == "InProgress"


@pytest.mark.parametrize("seconds", [31, 324, 3600])
def test_a_long_retry_after_of_a_look_goes_back_to_the_caller_at_once(
    azure: Emulator, call: Call, clock: Any, seconds: int
) -> None:
    """A wait obeys it between two looks, where no worker and no connection is held up by it."""
    job_id = azure.start_job("vm-good")
    azure.fault(method="GET", status=429, retry_after=seconds, **ALWAYS)
    with pytest.raises(AzureBackupTransientError) as caught:
        call("get_job", job_id)
    assert caught.value.retry_after == seconds
    assert (looks(azure), clock.waits) == (1, [])


def test_a_throttled_look_without_a_time_goes_back_to_the_caller_at_once(azure: Emulator, call: Call) -> None:
    job_id = azure.start_job("vm-good")
    azure.fault(method="GET", status=429, **ALWAYS)
    with pytest.raises(AzureBackupTransientError):
        call("get_job", job_id)
    assert looks(azure) == 1


@pytest.mark.parametrize("status", [400, 403, 404, 409, 412])
def test_a_look_that_was_refused_is_not_repeated(azure: Emulator, call: Call, status: int) -> None:
    job_id = azure.start_job("vm-good")
    azure.fault(method="GET", status=status, retry_after=1, **ALWAYS)
    with pytest.raises(Exception, match=f"answered {status}"):
        call("get_job", job_id)
    assert looks(azure) == 1


def test_a_cancel_is_sent_once(azure: Emulator, call: Call) -> None:
    job_id = azure.start_job("vm-good")
    azure.fault(method="POST", path="/cancel", status=503, retry_after=1, **ALWAYS)
    with pytest.raises(AzureBackupTransientError):
        call("cancel_job", job_id)
    assert azure.count("POST", "/cancel") == 1


@pytest.mark.parametrize("field", ["endpoint", "authority"])
def test_a_start_that_never_left_this_machine_started_nothing_and_says_so(
    azure: Emulator, call: Call, connect: Any, field: str
) -> None:
    connect(azure.connection(**{field: "https://localhost:9"}))
    with pytest.raises(AzureBackupError, match=r"no backup of .* was started"):
        call("trigger_backup", azure.service.world.named("vm-good")[0].path)
    assert starts(azure) == 0

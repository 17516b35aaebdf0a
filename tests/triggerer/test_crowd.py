"""Where many backups begin at once, one list shows the jobs of all: nobody asks for each operation."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_azbackup.core.model.resources import ProtectedItem
from airflow_provider_azbackup.core.rest import requests
from airflow_provider_azbackup.core.start.intent import BackupIntent, StartRecord
from airflow_provider_azbackup.core.start.search import BATCH_FROM, StartedJob, start_or_adopt
from airflow_provider_azbackup.core.wire import Flow, T
from airflow_provider_azbackup.exceptions import AzureBackupBusyError, AzureBackupRefusedError
from airflow_provider_azbackup.operators import AzureBackupOperator
from airflow_provider_azbackup.triggers import AzureBackupStartTrigger
from azure_backup_emulator import Emulator
from tests.support.tasks import Store, TaskInstance, run
from tests.support.virtual import HOUR, START, Azure, LoopClock, poller
from tests.support.virtual import run as run_virtually

task_runner = pytest.importorskip(
    "airflow.sdk.execution_time.task_runner", reason="Airflow 2 asks its database, not a supervisor"
)

OPERATIONS, BACKUP, CANCEL = "/backupOperations/", "/protectedItems/", "/cancel"


async def play(azure: Azure, flow: Flow[T]) -> T:
    """Hold a conversation with the virtual Azure, as a worker does."""
    try:
        call = next(flow)
        while True:
            await asyncio.sleep(call.delay)
            call = flow.send(await azure.answer(call))
    except StopIteration as end:
        result: T = end.value
        return result


def secure(item: ProtectedItem, now: float) -> Flow[StartedJob]:
    intent = BackupIntent(
        item=item, body=requests.backup_body(item), attempt="first", now=now, timeout=24 * HOUR
    )
    return start_or_adopt(intent, None, save=lambda _: None, log=lambda _: None, batch_lookup=True)


def test_five_hundred_backups_that_begin_at_once_need_few_polls_of_operations() -> None:
    async def main(clock: LoopClock) -> None:
        azure = Azure(clock, machines=500, page_size=5000, job_read_budget=5000)
        slots, shared = asyncio.Semaphore(32), poller(azure)
        left: list[StartRecord] = []

        async def start(number: int) -> None:
            async with slots:
                started = await play(azure, secure(azure.machine(number), clock.now()))
                if started.record:
                    left.append(started.record)
                await asyncio.sleep(2)  # a process ends, and the next one starts

        await asyncio.gather(*(start(number) for number in range(1, 501)))
        polls, begun = azure.polls, clock.now()
        assert begun - START < 120
        assert polls < 100
        listed = len(azure.lists)
        found = await asyncio.gather(
            *(
                shared.find_job(
                    ProtectedItem.parse(note.item),
                    requested_at=note.requested_at,
                    first_pause=15.0,
                    until=begun + HOUR,
                )
                for note in left
            )
        )
        await shared.close()
        assert (azure.polls, len(azure.lists) - listed) == (polls, 1)
        owners = {job.id: job.item.path.casefold() for job in azure.service.world.jobs.values()}
        assert [owners[ref.job_id] for ref in found if ref] == [note.item.casefold() for note in left]

    run_virtually(main)


@pytest.mark.parametrize("alone", [True, False])
def test_only_a_backup_of_the_machine_that_began_since_is_taken_for_it(alone: bool) -> None:
    async def main(clock: LoopClock) -> None:
        azure = Azure(clock, machines=3)
        shared, now = poller(azure), clock.now()
        azure.start(1, ago=100, seconds=50)  # an earlier one of it
        azure.start(2, seconds=3000)  # another machine's
        ours = azure.start(1, seconds=5, ending="Failed")
        later = azure.start(1, ago=-10, seconds=3000)
        lost = azure.start(3, seconds=3000, visible_after=HOUR)
        watching = None if alone else asyncio.ensure_future(_watch(shared, clock, later))
        asked = {"requested_at": now, "first_pause": 15.0, "until": now + HOUR}
        found = await asyncio.gather(
            shared.find_job(azure.machine(1), **asked),
            shared.find_job(azure.machine(3), **asked),
        )
        assert found == [ours, None]
        assert lost not in found
        assert clock.now() - START < 120  # after some lists it is asked for otherwise
        if watching:
            assert (await watching).status == "Completed"
        await shared.close()

    run_virtually(main)


async def _watch(shared: Any, clock: LoopClock, ref: Any) -> Any:
    now = clock.now()
    return await shared.watch_job(
        ref,
        poll_interval=60.0,
        deadline=now + 2 * HOUR,
        since=now,
        on_read=lambda *_: None,
        first_pause=15.0,
    )


def test_who_looks_for_a_job_while_all_reads_are_used_up_hears_so_in_the_end() -> None:
    async def main(clock: LoopClock) -> None:
        azure = Azure(clock)
        azure.service.add_fault(path="/backupJobs", status=429, retry_after=7000, times=None)
        shared, now = poller(azure), clock.now()
        found = await shared.find_job(azure.machine(0), requested_at=now, first_pause=15.0, until=now + 4000)
        assert found is None
        assert clock.now() - now == pytest.approx(4060, abs=1)
        assert len(azure.reads) <= 2
        await shared.close()

    run_virtually(main)


# --- the operator


@pytest.fixture
def crowd(azure: Emulator) -> Callable[[], None]:
    """Let as many backups begin as make a crowd."""

    def crowd() -> None:
        for _ in range(BATCH_FROM):
            azure.start_job("fleet-02", seconds=3000)

    return crowd


def backup(**options: Any) -> AzureBackupOperator:
    return AzureBackupOperator(
        **{"task_id": "backup", "protected_item": "vm-good", "deferrable": True, **options}
    )


def deferral(ti: TaskInstance) -> TaskDeferred:
    """Begin a backup and return how its task left the worker."""
    with pytest.raises(TaskDeferred) as left:
        backup().execute(ti.context)
    return left.value


@pytest.mark.parametrize("store", [True, False], ids=["3.3", "before 3.3"])
def test_in_a_crowd_the_triggerer_finds_the_job(
    azure: Emulator, crowd: Callable[[], None], store: bool
) -> None:
    crowd()
    ti = TaskInstance(store=Store() if store else None)
    job_id = run(backup, ti)
    assert (azure.count("GET", OPERATIONS), azure.count("POST", BACKUP)) == (0, 1)
    job = azure.service.world.jobs[job_id]
    assert (job.item.name, job.ended(azure.service.clock())) == ("vm-good", "Completed")
    assert (ti.xcoms["job_id"], ti.xcoms["job"]["outcome"]) == (job_id, "succeeded")
    assert ti.xcoms["azure_backup_job_url"].endswith(job_id)
    found, waited = ti.deferred_with
    assert found["record"]["operation"]
    assert waited["job_id"].endswith(job_id)
    assert not store or ti.store["azure_backup"]["job"].endswith(job_id)  # type: ignore[index]  # it has one


@pytest.mark.parametrize(
    ("others", "options"),
    [
        (BATCH_FROM - 1, {}),
        (BATCH_FROM, {"deferrable": False}),
        (BATCH_FROM, {"wait_for_completion": False}),
        (BATCH_FROM, {"if_running": "fail"}),
        (BATCH_FROM, {"cancel_on_kill": True}),
        (BATCH_FROM, {"cancel_on_timeout": True}),
        (BATCH_FROM, {"protected_item": "payroll"}),
    ],
    ids=[
        "no crowd",
        "in the worker",
        "not waiting",
        "nobody else's",
        "cancelled with its task",
        "cancelled at its timeout",
        "a database",
    ],
)
def test_elsewhere_the_worker_asks_for_the_operation(
    azure: Emulator, others: int, options: dict[str, Any]
) -> None:
    for _ in range(others):
        azure.start_job("fleet-02", seconds=3000)
    ti = TaskInstance()
    run(lambda: backup(**options), ti)
    assert azure.count("GET", OPERATIONS) >= 1
    assert not any("record" in arguments for arguments in ti.deferred_with)


def test_a_job_that_no_list_shows_is_asked_for_by_its_operation(
    azure: Emulator, crowd: Callable[[], None]
) -> None:
    azure.plan("vm-good", visible_after=2 * HOUR, seconds=3 * HOUR)
    crowd()
    ti = TaskInstance()
    job_id = run(backup, ti)
    assert (azure.count("GET", OPERATIONS), azure.count("POST", BACKUP)) == (1, 1)
    assert ti.xcoms["job"]["outcome"] == "succeeded"
    assert [job.id for job in azure.service.world.jobs.values() if job.item.name == "vm-good"] == [job_id]


def test_a_backup_that_azure_refuses_behind_its_operation_fails_the_task(
    azure: Emulator, crowd: Callable[[], None]
) -> None:
    azure.plan("vm-good", operation="Failed")
    crowd()
    with pytest.raises(AzureBackupRefusedError):
        run(backup, TaskInstance(store=Store()))
    assert azure.count("POST", BACKUP) == 1


@pytest.mark.parametrize("if_running", ["wait", "adopt", "fail"])
@pytest.mark.parametrize("busy", ["conflict", "operation", "job"])
def test_a_backup_in_the_way_that_no_list_showed_is_met_as_ever(
    azure: Emulator, crowd: Callable[[], None], busy: str, if_running: str
) -> None:
    azure.plan("vm-good", busy=busy, visible_after=30)
    other = azure.start_job("vm-good", seconds=3000)
    crowd()
    if if_running == "fail":
        with pytest.raises(AzureBackupBusyError):
            run(lambda: backup(if_running="fail"), TaskInstance(store=Store()))
        return
    taken = run(lambda: backup(if_running=if_running), TaskInstance(store=Store()))
    jobs = azure.service.world.jobs
    assert (taken == other) is (if_running == "adopt")
    assert if_running == "adopt" or jobs[taken].starts >= jobs[other].finish()[0]


def test_a_retry_of_a_task_that_left_its_backup_takes_it_up(
    azure: Emulator, crowd: Callable[[], None]
) -> None:
    crowd()
    ti = TaskInstance(retries=1, store=Store())
    assert isinstance(deferral(ti).trigger, AzureBackupStartTrigger)
    run(backup, ti.retry())
    assert azure.count("POST", BACKUP) == 1


def test_the_event_of_an_earlier_try_is_not_taken_for_this_ones(
    azure: Emulator, crowd: Callable[[], None]
) -> None:
    crowd()
    ti = TaskInstance(retries=1, store=Store())
    left = deferral(ti)
    stale = {**(left.kwargs or {}), "event": {"version": 1, "job_id": "/nobody's"}}
    ti.retry()
    with pytest.raises(TaskDeferred):
        backup().resume_execution(left.method_name, stale, ti.context)
    assert azure.count("POST", BACKUP) == 1


@pytest.mark.parametrize("event", [None, {}, {"version": 2, "job_id": "x"}, {"version": 1}, "x", []])
def test_an_event_that_tells_no_job_starts_no_second_backup(
    azure: Emulator, crowd: Callable[[], None], event: Any
) -> None:
    crowd()
    ti = TaskInstance()
    left = deferral(ti)
    with pytest.raises(TaskDeferred) as waits:
        backup().resume_execution(left.method_name, {**(left.kwargs or {}), "event": event}, ti.context)
    assert "job_id" in waits.value.trigger.serialize()[1]
    assert azure.count("POST", BACKUP) == 1
    assert 1 <= azure.count("GET", OPERATIONS) <= 2

"""What is shown of a backup while its task is deferred: on change, one write at a time, at no price."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_azbackup.core.estate.verdict import Reason, Verdict
from airflow_provider_azbackup.core.model.jobs import Job, JobTask
from airflow_provider_azbackup.core.model.progress import has_news, progress_report
from airflow_provider_azbackup.core.model.resources import JobRef, Vault
from airflow_provider_azbackup.exceptions import AzureBackupTransientError
from airflow_provider_azbackup.operators import AzureBackupOperator
from airflow_provider_azbackup.runtime import clock as clocks
from airflow_provider_azbackup.triggerer.progress import Progress, VerdictReport
from airflow_provider_azbackup.triggers import AzureBackupJobTrigger
from azure_backup_emulator import Emulator
from tests.support.tasks import TaskInstance
from tests.support.tasks import run as run_task
from tests.support.virtual import HOUR, START, Azure, LoopClock, poller, run

task_runner = pytest.importorskip(
    "airflow.sdk.execution_time.task_runner", reason="Airflow 2 has no way to write an XCom from a trigger"
)
# Loaded beforehand: on a virtual loop hours pass while a thread works.
import airflow.sdk.execution_time.xcom  # noqa: E402, F401  # as above

VAULT = Vault(subscription_id="11111111-2222-3333-4444-555555555555", resource_group_name="rg", name="v")
REF = JobRef(vault=VAULT, job_id="6a7b0b7e-1c3d-4e5f-8a9b-0c1d2e3f4a5b")


class Supervisor:
    """Airflow's, as far as a trigger writes XComs."""

    def __init__(self) -> None:
        self.written: list[tuple[float, Any]] = []
        self.at_once = self.most_at_once = 0
        self.trouble: Exception | None = None

    def send(self, message: Any) -> None:
        """Take what is reported in passing, such as secrets to mask."""

    async def asend(self, message: Any) -> None:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0.02)
        self.at_once -= 1
        if self.trouble:
            raise self.trouble
        json.dumps(message.value)
        self.written.append((asyncio.get_running_loop().time(), message))


@pytest.fixture
def supervisor(monkeypatch: pytest.MonkeyPatch) -> Supervisor:
    found = Supervisor()
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", found, raising=False)
    return found


def task(map_index: int = -1) -> Any:
    return SimpleNamespace(dag_id="nightly", task_id="backup", run_id="monday", map_index=map_index)


def job(status: str = "InProgress", *tasks: JobTask, **facts: Any) -> Job:
    return Job(ref=REF, status=status, tasks=tasks, **facts)


async def written(supervisor: Supervisor, count: int) -> None:
    while len(supervisor.written) < count:
        await asyncio.sleep(1)


TRANSFER = JobTask(
    name="Transfer data to vault", status="InProgress", progress="63.5 GBs / 127 GBs Transferred"
)


def test_a_report_tells_phase_percentage_and_bytes() -> None:
    told = progress_report(job("InProgress", TRANSFER, duration_seconds=900.0), None, START)
    assert told == {
        "job_id": REF.job_id,
        "status": "InProgress",
        "phase": "Transfer data to vault",
        "percent": 50.0,
        "bytes_done": 63.5 * 2**30,
        "bytes_total": 127 * 2**30,
        "elapsed_seconds": 900.0,
        "last_look": "2026-09-21T14:13:20+00:00",
        "fault": None,
        "waiting_for": None,
        "waiting_until": None,
        "expected_end": None,
        "expected_late": None,
        "late": None,
    }


@pytest.mark.parametrize(
    ("shown", "percent"), [("37 %", 37.0), ("", None), ("0 GBs / 0 GBs Transferred", None), ("soon", None)]
)
def test_a_percentage_is_told_only_where_azure_tells_one(shown: str, percent: float | None) -> None:
    phase = JobTask(name="Restore", status="InProgress", progress=shown)
    assert progress_report(job("InProgress", phase), None, START)["percent"] == percent


def test_bytes_of_a_backup_vaults_phases_are_told_while_it_runs_and_at_its_end() -> None:
    phase = JobTask(name="Trigger Restore", status="InProgress", progress="37", bytes_done=2**20)
    running = progress_report(job("InProgress", phase), None, START)
    assert (running["percent"], running["bytes_done"], running["bytes_total"]) == (37.0, 2**20, None)
    over = progress_report(job("Completed", replace(phase, status="Completed")), None, START)
    assert over["bytes_done"] == 2**20


def test_azures_own_percentage_comes_first() -> None:
    assert progress_report(job("InProgress", TRANSFER, percent=12.0), None, START)["percent"] == 12.0


def test_time_that_passes_is_no_news_and_a_fault_is() -> None:
    before = progress_report(job(duration_seconds=60.0), None, START)
    assert not has_news(progress_report(job(duration_seconds=120.0), None, START + 60), before)
    assert has_news(progress_report(job(), AzureBackupTransientError("throttled"), START + 60), before)
    assert has_news(progress_report(job("InProgress", TRANSFER), None, START + 60), before)


def test_a_wait_alone_shows_its_phases_and_how_much_is_done(supervisor: Supervisor) -> None:
    async def main(clock: LoopClock) -> None:
        azure = Azure(clock)
        shared, progress = poller(azure), Progress(task())
        await shared.watch_job(
            azure.start(seconds=3600),
            poll_interval=60.0,
            deadline=clock.now() + 4 * HOUR,
            since=clock.now(),
            on_read=progress.tell,
            first_pause=15.0,
        )
        progress.close()
        await shared.close()
        await asyncio.sleep(1)

    run(main)
    values = [message.value for _, message in supervisor.written]
    assert {message.key for _, message in supervisor.written} == {"backup_progress"}
    phases = [value["phase"] for value in values]
    assert list(dict.fromkeys(phase for phase in phases if phase)) == [
        "Take Snapshot",
        "Transfer data to vault",
        "Validate Backup",
    ]
    # The backup of a VM shows a percentage and no bytes.
    shares = [value["percent"] for value in values if value["percent"]]
    assert shares == sorted(shares) and len(set(shares)) > 5
    assert {value["bytes_done"] for value in values} == {None}
    assert len(supervisor.written) <= 3600 / (0.85 * 60) + 1


def test_waits_that_share_lists_write_little_as_lists_tell_little(supervisor: Supervisor) -> None:
    async def main(clock: LoopClock) -> None:
        azure = Azure(clock)
        shared = poller(azure)

        async def wait(number: int) -> None:
            progress = Progress(task(number))
            await shared.watch_job(
                azure.start(seconds=9000),
                poll_interval=60.0,
                deadline=clock.now() + 4 * HOUR,
                since=clock.now(),
                on_read=progress.tell,
                first_pause=15.0,
            )
            progress.close()

        await asyncio.gather(*(wait(number) for number in range(30)))
        await shared.close()
        await asyncio.sleep(1)
        # No read was spent on it.
        assert azure.looks == []

    run(main)
    per_task = Counter(message.map_index for _, message in supervisor.written)
    assert set(per_task) == set(range(30))
    assert max(per_task.values()) <= 1 + 9000 / 1800


def test_a_thousand_waits_with_news_write_one_after_the_other(supervisor: Supervisor) -> None:
    async def main(clock: LoopClock) -> float:
        waits = [Progress(task(number)) for number in range(1000)]
        for _ in range(3):  # nobody is written thrice who has not been written once
            for number, wait in enumerate(waits):
                wait.tell(job("InProgress", duration_seconds=float(number)), None)
                wait.tell(job("InProgress", TRANSFER), None)
        await written(supervisor, 1000)
        await asyncio.sleep(60)
        return clock.now()

    run(main)
    assert len(supervisor.written) == 1000
    assert supervisor.most_at_once == 1
    assert all(message.value["phase"] for _, message in supervisor.written)
    at = [when for when, _ in supervisor.written]
    assert min(later - now for now, later in pairwise(at)) >= 0.1


def test_a_task_that_has_gone_on_is_written_no_more(supervisor: Supervisor) -> None:
    async def main(clock: LoopClock) -> None:
        waits = [Progress(task(number)) for number in range(5)]
        for wait in waits:
            wait.tell(job(), None)
        for wait in waits[2:]:
            wait.close()
        await asyncio.sleep(10)

    run(main)
    assert sorted(message.map_index for _, message in supervisor.written) == [0, 1]


def test_a_failure_to_write_is_told_once_and_forgotten(
    supervisor: Supervisor, caplog: pytest.LogCaptureFixture
) -> None:
    supervisor.trouble = ConnectionError("the pipe broke")

    async def main(clock: LoopClock) -> None:
        wait = Progress(task())
        for _ in range(5):
            wait.tell(job(), None)
            await asyncio.sleep(10)
            wait.tell(job("InProgress", TRANSFER), None)
            await asyncio.sleep(10)
        supervisor.trouble = None
        wait.tell(job(), None)
        await asyncio.sleep(10)

    with caplog.at_level(logging.DEBUG, logger="airflow_provider_azbackup.triggerer.progress"):
        run(main)
    assert caplog.text.count("Airflow took no report") == 1
    assert len(supervisor.written) == 1


def test_a_verdict_is_shown_when_its_counts_change_and_not_at_every_look(supervisor: Supervisor) -> None:
    async def main(clock: LoopClock) -> None:
        report = VerdictReport(task(), late=False)
        with clocks.running_on(clock):
            for look in range(60):
                fresh = 1 + look // 20  # one more has ended every 20 minutes
                verdict = Verdict(at=clock.now(), counts={Reason.FRESH: fresh, Reason.RUNNING: 9 - fresh})
                report.tell(verdict)
                await asyncio.sleep(60)
            report.late = True
            report.tell(verdict)
            await asyncio.sleep(1)
            report.tell(Verdict(at=clock.now(), counts={Reason.FRESH: 9}))
            report.close()
            await asyncio.sleep(600)

    run(main)
    shown = [message.value for _, message in supervisor.written]
    assert [each["counts"]["fresh"] for each in shown] == [1, 2, 3, 3]
    assert [each["late"] for each in shown] == [False, False, False, True]
    assert {message.key for _, message in supervisor.written} == {"verdict"}


def test_without_airflows_channel_a_wait_goes_as_ever(azure: Emulator, clock: Any) -> None:
    job_id = azure.start_job("vm-good", seconds=600)
    trigger = AzureBackupJobTrigger(
        job_id=f"{azure.service.world.vaults[0].path}/backupJobs/{job_id}",
        azure_backup_conn_id="azure_backup_default",
        poll_interval=60.0,
        first_pause=15.0,
        deadline=clock() + 3600.0,
        since=clock(),
    )
    trigger.task_instance = task()

    async def fire() -> list[Any]:
        return [event async for event in trigger.run()]

    (event,) = asyncio.run(fire())
    assert event.payload["job"]["body"]["properties"]["status"] == "Completed"


def test_the_worker_leaves_no_report_behind_that_the_end_has_overtaken(azure: Emulator) -> None:
    azure.plan("vm-good", seconds=600)
    ti = TaskInstance()
    run_task(lambda: AzureBackupOperator(task_id="backup", protected_item="vm-good", deferrable=True), ti)
    shown = ti.xcoms["backup_progress"]
    assert (shown["status"], shown["phase"], shown["fault"]) == ("Completed", "", None)
    assert shown["job_id"] == ti.xcoms["job_id"]


@pytest.mark.parametrize("deferrable", [True, False])
def test_the_log_tells_the_end_with_size_and_duration(
    azure: Emulator, deferrable: bool, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    azure.plan("vm-good", seconds=600)
    with caplog.at_level(logging.INFO):
        run_task(
            lambda: AzureBackupOperator(task_id="backup", protected_item="vm-good", deferrable=deferrable),
            TaskInstance(),
        )
    told = capsys.readouterr().out + caplog.text
    assert re.search(r"Completed, after 0:10:\d\d, \d+ MB, phases: Take Snapshot Completed, Transfer", told)

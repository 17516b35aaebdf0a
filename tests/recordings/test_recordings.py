"""Both hooks hold the conversations that were recorded, and come to what the recordings show."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_provider_azbackup.core.model.jobs import Job, Outcome
from airflow_provider_azbackup.exceptions import AzureBackupJobFailedError
from tests.support.replay import (
    RECORDINGS,
    Conversation,
    Hook,
    Replay,
    accepted,
    by_triggerer,
    by_worker,
    exchanges,
    needs_recordings,
    operation_of,
    options_of,
    said,
    serve,
    watch,
)

pytestmark = needs_recordings

GROUP = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups"
SHARE = (
    f"{GROUP}/clitest.rg000001/providers/Microsoft.Storage/storageAccounts/clitest000003"
    "/fileServices/default/shares/clitest-item000004"
)
VM_ITEM = "VM;iaasvmcontainerv2;clitest.rg000001;clitest-vm000003"
# The recorded clients never read the item of a VM, which a VM's own ARM id takes; its item's ARM id does not.
VM = (
    f"{GROUP}/clitest.rg000001/providers/Microsoft.RecoveryServices/vaults/clitest-vault000002"
    f"/backupFabrics/Azure/protectionContainers/IaasVMContainer;{VM_ITEM.partition(';')[2]}"
    f"/protectedItems/{VM_ITEM}"
)
SHARE_ITEM = "AzureFileShare;9be41d011153ba6eecf0b01d71d68e3b98444c3bc7a800916b63f29f311553fa"
HANA = (
    f"{GROUP}/saphana-clitest-rg/providers/Microsoft.RecoveryServices/vaults/saphana-clitestvault-donotuse"
    "/backupFabrics/Azure/protectionContainers/VMAppContainer;compute;saphana-clitest-rg;"
    "saphana-clitestvm-donotuse2/protectedItems/SAPHanaDatabase;hxe;systemdb"
)
SQL = (
    f"{GROUP}/sql-clitest-rg/providers/Microsoft.RecoveryServices/vaults/sql-clitestvault-donotuse"
    "/backupFabrics/Azure/protectionContainers/VMAppContainer;compute;sql-clitest-rg;"
    "sql-clitestvm-donotuse2/protectedItems/SQLDataBase;mssqlserver;msdb"
)
# Lists of items that a recorded client, which knew the type, did not ask for; see replay.py.
OTHER_LISTS = ("AzureStorage", "AzureWorkload")


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a recording says of one job, in the words of its file."""

    file: str
    job_id: str
    item: str = ""  # what to back up; empty where the recorded client started something else
    entity: str
    operation: str
    status: str
    outcome: Outcome
    seconds: int
    looks: int  # job GETs up to the first that shows its end
    asked: int = 1  # GETs of the operation
    tasks: tuple[tuple[str, str], ...] = ()
    errors: tuple[tuple[str, str], ...] = ()
    details: dict[str, str] = field(default_factory=dict)
    message: str = ""

    def __str__(self) -> str:
        return self.file


DONE, WARNED = "Completed", "CompletedWithWarnings"
SNAPSHOT, UP, DOWN = "Take Snapshot", "Transfer data to vault", "Transfer data from vault"
# fmt: off
JOBS = [
    Told(file="afs_backup_completed", item=SHARE, job_id="5891803e-f2e6-4efb-940c-7465935dec3d",
         entity="clitest-item000004", operation="Backup", status=DONE, outcome=Outcome.SUCCEEDED, seconds=4,
         looks=4, tasks=((SNAPSHOT, DONE),), details={"File Share Name": "clitest-item000004"}),
    Told(file="hana_backup_completed", item=HANA, job_id="bdcbda2f-2823-44ba-b8e7-723442978745",
         entity="SYSTEMDB [saphana-clitestvm-donotuse2]", operation="Backup (Full)", status=DONE,
         outcome=Outcome.SUCCEEDED, seconds=183, looks=9, tasks=((UP, DONE),),
         details={"Data Transferred (in MB)": "1504.1719"}),
    Told(file="sql_backup_completed", item=SQL, job_id="2d8b16df-4ed6-43bd-8588-43d2918cfd1c",
         entity="msdb [sql-clitestvm-d]", operation="Backup (Full)", status=DONE, outcome=Outcome.SUCCEEDED,
         seconds=121, looks=7, asked=2, tasks=((UP, DONE),), details={"Data Transferred (in MB)": "20.1147"}),
    Told(file="vm_backup_completed", item="clitest-vm000003", job_id="9860b033-dca6-4873-9b66-87c4679544ec",
         entity="clitest-vm000003", operation="Backup", status=DONE, outcome=Outcome.SUCCEEDED, seconds=2478,
         looks=84, tasks=((SNAPSHOT, DONE), (UP, DONE)), details={"Backup Size": "11374 MB"}),
    Told(file="job_poll_throttled_429", item=VM, job_id="df613c62-b8e9-4785-8c1a-ecc082a34d5f",
         entity="clitest-vm000003", operation="Backup", status=DONE, outcome=Outcome.SUCCEEDED, seconds=3072,
         looks=85, asked=2, tasks=((SNAPSHOT, DONE), (UP, DONE)), details={"Backup Size": "11562 MB"}),
    Told(file="vm_backup_completed_with_warnings", item=VM, job_id="a778405e-6720-4503-a918-682aef55fafc",
         entity="clitest-vm000003", operation="Backup", status=WARNED, outcome=Outcome.WARNED, seconds=5443,
         looks=179, tasks=((SNAPSHOT, DONE), (UP, "Failed")), errors=(("320001", "ResourceNotFound"),),
         details={"Backup Size": "0 MB"}),
    Told(file="vm_backup_cancelled_ends_completed_with_warnings",
         item=VM.replace("vault000002", "vault000004").replace("vm000003", "vm000005"),
         job_id="1d2e360b-e4c3-4787-9200-c4bad81f70c8", entity="clitest-vm000005", operation="Backup",
         status=WARNED, outcome=Outcome.CANCELLED, seconds=580, looks=22,
         tasks=((SNAPSHOT, DONE), (UP, "Cancelled")), details={"Backup Size": "0 MB"},
         errors=(("400158", "UserErrorJobSuccessfullyCancelled"),)),
    Told(file="afs_restore_completed", job_id="9c3f8031-7d1b-4a00-ba8d-2ca624145795",
         entity="clitest-item000004", operation="Restore", status=DONE, outcome=Outcome.SUCCEEDED, seconds=33,
         looks=5, details={"Number Of Failed Files": "0"}),
    Told(file="afs_restore_failed", job_id="a32ed2ba-21da-44fc-ac3e-c67503131367",
         entity="clitest-item000007", operation="Restore", status="Failed", outcome=Outcome.FAILED,
         seconds=484, looks=19, errors=(("1073871825", ""),), details={"Data Transferred (in MB)": "0"}),
    Told(file="hana_restore_failed", job_id="8dff9017-b1ab-4688-8ea4-0b8907a32fd6",
         entity="SYSTEMDB [saphana-clitestvm-donotuse2]", operation="Restore (Invalid)", status="Failed",
         outcome=Outcome.FAILED, seconds=182, looks=9, tasks=((DOWN, "Failed"),),
         errors=(("520512", "UserErrorIncompatibleSrcTargetSystemsForRestore"),),
         message="[HanaHelper]: Src and Target are incompatible containers SDC/SystemDB"),
    Told(file="hana_restore_transient_500", job_id="96f97381-1437-4f3e-b083-9d81ccaf2306",
         entity="SYSTEMDB [saphana-clitestvm-donotuse2]", operation="Restore (Full)", status=DONE,
         outcome=Outcome.SUCCEEDED, seconds=453, looks=20, tasks=((DOWN, DONE),),
         details={"Data Transferred (in MB)": "1504.1758"}),
    Told(file="vm_restore_disks_completed", job_id="35a49126-8d08-4b32-beb7-565d9d87ebeb",
         entity="clitest-vm000003", operation="Restore", status=DONE, outcome=Outcome.SUCCEEDED, seconds=2139,
         looks=73, tasks=((DOWN, DONE),), details={"Recovery point time": "5/20/2023 1:03:06 PM"}),
    Told(file="vm_restore_failed", job_id="6e77f775-8d0c-4e3a-b64c-26d361a84e58", entity="clitest-vm000003",
         operation="Restore", status="Failed", outcome=Outcome.FAILED, seconds=6087, looks=197,
         tasks=((DOWN, "Failed"),), errors=(("400048", "UserErrorBCMRestoreStorageAccountNotFound"),)),
]
# fmt: on
# Read by the tests below one by one.
OTHERS = {
    "error_bodies",
    "job_list_filters_and_cancel",
    "job_list_time_filter_2016",
    "operation_status_transient_500",
    "vm_backup_then_cancel_2016",
    "vm_disable_and_reconfigure",
    "vm_enable_protection_2026",
    "vm_enable_protection_conflict_409_2026",
    "vm_restore_trigger_2016",
}
# Backup vaults (Microsoft.DataProtection), another service: read by test_backup_vaults_recordings.py.
BACKUP_VAULTS = {
    "dpp_disk_backup_completed",
    "dpp_job_list_and_get",
    "dpp_operation_status_failed",
    "dpp_postgres_backup_and_restore_completed",
    "dpp_postgres_backup_retention_tag_override",
}


@pytest.fixture
def replay(azure: Any, clock: Any, connect: Callable[..., None]) -> Iterator[Callable[..., Replay]]:
    """Serve a recording as the endpoint of the connection; who signs in does so at the emulator."""
    with ExitStack() as stack:

        def start(name: str, *empty_lists: str) -> Replay:
            found = Replay(exchanges(name), clock, frozenset(empty_lists))
            stack.enter_context(contextmanager(serve)(found))
            connect(azure.connection(endpoint=found.url, api_version=found.version, **found.vault))
            return found

        yield start


@pytest.fixture(params=[by_worker, by_triggerer])
def hold(request: pytest.FixtureRequest) -> Callable[[Replay, Conversation], Any]:
    """Hold a conversation through one of the hooks; every request of it must be a recorded one."""

    def hold(replay: Replay, conversation: Conversation) -> Any:
        result = request.param(conversation)
        replay.check()
        return result

    return hold


def test_no_recording_is_forgotten() -> None:
    told = {job.file for job in JOBS}
    assert {path.stem for path in RECORDINGS.glob("*.json")} == told | OTHERS | BACKUP_VAULTS


@pytest.mark.parametrize("told", JOBS, ids=str)
def test_a_recorded_job_is_followed_to_the_end_it_had(
    told: Told, replay: Callable[..., Replay], hold: Any, clock: Any
) -> None:
    azure = replay(told.file, *OTHER_LISTS)

    async def conversation(hook: Hook) -> Job:
        start = accepted(azure)[0]
        if told.item:
            operation = await said(hook.trigger_backup(told.item, **options_of(start)))
        else:
            operation = operation_of(start)
        ref = await said(hook.wait_for_operation(operation))
        return await watch(hook, ref.path, clock)

    job = hold(azure, conversation)
    assert job.ref.job_id == told.job_id
    assert (job.status, job.outcome) == (told.status, told.outcome)
    assert (job.item, job.operation) == (told.entity, told.operation)
    assert round(job.duration_seconds) == told.seconds
    assert tuple((task.name, task.status) for task in job.tasks) == told.tasks
    assert tuple((error.code, error.title) for error in job.errors) == told.errors
    assert job.message == told.message
    assert told.details.items() <= dict(job.details).items()
    assert len(azure.sent("POST", "/backup")) == (1 if told.item else 0)
    assert len(azure.sent("GET", "/backupOperations/")) == told.asked
    assert len(azure.sent("GET", "/backupJobs/")) == told.looks


@pytest.mark.parametrize("told", [job for job in JOBS if job.looks < 25], ids=str)
def test_a_gate_opens_behind_recorded_jobs_that_completed_and_behind_no_others(
    told: Told, replay: Callable[..., Replay], hold: Any
) -> None:
    azure = replay(told.file)

    async def conversation(hook: Hook) -> Job:
        return await said(hook.wait_for_job(told.job_id, poll_interval=30.0, timeout=86400.0))

    if told.outcome is Outcome.SUCCEEDED:
        assert hold(azure, conversation).ref.job_id == told.job_id
        return
    code, title = told.errors[0]
    with pytest.raises(AzureBackupJobFailedError, match=f"{title}.*{code}") as failure:
        hold(azure, conversation)
    assert failure.value.job
    assert failure.value.job["outcome"] == told.outcome.value


def test_a_throttled_wait_asks_again_when_azure_said_and_goes_on(
    replay: Callable[..., Replay], hold: Any, clock: Any
) -> None:
    azure = replay("job_poll_throttled_429")
    hold(azure, lambda hook: watch(hook, JOBS[4].job_id, clock))
    looks = azure.sent("GET", "/backupJobs/")
    throttled = [number for number, look in enumerate(looks) if look.status == 429]
    assert throttled == [74, 75]
    for number in throttled:
        assert 324 <= looks[number + 1].at - looks[number].at <= 324 * 1.15


@pytest.mark.parametrize(
    ("file", "name", "other_lists", "item"),
    [
        ("vm_backup_completed", "CLITEST-vm000003", OTHER_LISTS, VM_ITEM),
        ("vm_backup_cancelled_ends_completed_with_warnings", "clitest-vm000005", OTHER_LISTS,
         VM_ITEM.replace("003", "005")),
        ("vm_disable_and_reconfigure", "clitest-vm000003", OTHER_LISTS, VM_ITEM),
        ("vm_enable_protection_2026", "singhprab-ps-vm7", OTHER_LISTS,
         "VM;iaasvmcontainerv2;singhprab-rg-1c;singhprab-ps-vm7"),
        ("afs_backup_completed", SHARE, (), SHARE_ITEM),
        ("afs_restore_completed", "clitest-item000004", ("AzureIaasVM", "AzureWorkload"), SHARE_ITEM),
    ],
)  # fmt: skip
def test_a_recorded_list_of_items_tells_which_one_a_name_means(
    file: str, name: str, other_lists: tuple[str, ...], item: str, replay: Callable[..., Replay], hold: Any
) -> None:
    azure = replay(file, *other_lists)

    async def conversation(hook: Hook) -> Any:
        return await said(hook.resolve_protected_item(name))

    assert hold(azure, conversation).name == item
    assert len(azure.requests) == 1 + len(other_lists)


def test_recorded_lists_of_jobs_and_the_cancelling_of_one(replay: Callable[..., Replay], hold: Any) -> None:
    azure = replay("job_list_filters_and_cancel")
    running = "0004a6aa-f171-48b5-a361-0f518ac74e8e"

    async def conversation(hook: Hook) -> list[list[Job]]:
        lists = [
            await said(hook.list_jobs(**wanted))
            for wanted in (
                {},
                {"status": "InProgress"},
                {"operation": "Restore"},
                {"status": "InProgress", "operation": "Restore"},
            )
        ]
        await said(hook.cancel_job(running))
        return lists

    everything, *narrowed = hold(azure, conversation)
    assert [(job.ref.job_id[:8], job.outcome) for job in everything] == [
        ("0004a6aa", Outcome.RUNNING),
        ("559f967c", Outcome.SUCCEEDED),
        ("b9c95dc7", Outcome.SUCCEEDED),
    ]
    assert [[job.ref.job_id for job in jobs] for jobs in narrowed] == [[running]] * 3
    assert [request.status for request in azure.requests] == [200] * 4 + [202]


def test_a_window_of_time_is_asked_for_in_the_recorded_words(
    replay: Callable[..., Replay], hold: Any
) -> None:
    azure = replay("job_list_time_filter_2016")
    moment = datetime(2016, 6, 21, 23, 17, 42, tzinfo=UTC)

    async def conversation(hook: Hook) -> tuple[list[Job], Job]:
        jobs = await said(
            hook.list_jobs(backup_management_type="AzureIaasVM", started_after=moment, started_before=moment)
        )
        return jobs, await said(hook.get_job(jobs[0].ref.path))

    (listed,), job = hold(azure, conversation)
    assert listed.outcome is job.outcome is Outcome.SUCCEEDED
    assert listed.duration_seconds == job.duration_seconds == pytest.approx(22.27, abs=0.01)
    assert dict(job.details) == {"VM Name": "vkencryrestore", "Policy Name": "DefaultPolicy"}
    assert not listed.details  # a list leaves them out


def test_a_backup_of_2016_is_started_seen_and_cancelled_without_sitting_out_the_retry_after_of_its_202(
    replay: Callable[..., Replay], hold: Any, clock: Any
) -> None:
    azure = replay("vm_backup_then_cancel_2016")
    name = "iaasvmcontainerv2;arpittestresourcegroup;vkencryrestore"
    vm = (
        "/subscriptions/fc74b460-0edc-41b5-81b3-baddc1fc4257/resourceGroups/labRG1/providers"
        "/Microsoft.RecoveryServices/vaults/idcdlslbRSVault3/backupFabrics/Azure"
        f"/protectionContainers/IaasVMContainer;{name}/protectedItems/vm;{name}"
    )
    began = clock()

    async def conversation(hook: Hook) -> Job:
        operation = await said(hook.trigger_backup(vm, **options_of(accepted(azure)[0])))
        ref = await said(hook.wait_for_operation(operation))
        job = await said(hook.get_job(ref.path))
        await said(hook.cancel_job(ref.path))
        return job

    job = hold(azure, conversation)
    assert job.ref.job_id == "b9e3e04d-d9f5-4808-879a-336d9bd22d1c"
    assert job.outcome is Outcome.RUNNING
    assert job.phase == "Take Snapshot"
    assert clock() - began < 5
    assert [request.line.method for request in azure.requests] == ["POST", "GET", "GET", "POST"]


@pytest.mark.parametrize(
    ("file", "asked", "jobs"),
    [
        ("vm_disable_and_reconfigure", 6, [("7484f445", "DisableBackup"), ("b44e11d5", "ConfigureBackup")]),
        ("vm_enable_protection_2026", 2, [("2cef3233", "ConfigureBackup")]),
        ("operation_status_transient_500", 2, [("32598fc4", "Restore")]),
    ],
)
def test_operations_the_hook_cannot_start_are_followed_to_their_jobs(
    file: str, asked: int, jobs: list[tuple[str, str]], replay: Callable[..., Replay], hold: Any
) -> None:
    azure = replay(file)

    async def conversation(hook: Hook) -> list[Job]:
        found = []
        for each in accepted(azure):
            ref = await said(hook.wait_for_operation(operation_of(each)))
            found.append(await said(hook.get_job(ref.path)))
        return found

    assert [(job.ref.job_id[:8], job.operation) for job in hold(azure, conversation)] == jobs
    assert len(azure.sent("GET", "/backupOperations/")) == asked


def test_the_operation_of_a_restore_of_2016_is_known_by_its_id_alone() -> None:
    (restore,) = accepted(Replay(exchanges("vm_restore_trigger_2016"), float))
    operation = operation_of(restore)
    assert operation.operation_id == "60e6af27-ab28-4dd5-96ea-84458f2b23bd"
    assert operation.path.endswith("/vaults/idcdlslbRSVault/backupOperations/" + operation.operation_id)

"""The secondary region of a vault, whose own region answers 503 to everything in most of these tests."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_azbackup.core.model.jobs import Job
from airflow_provider_azbackup.core.model.resources import JobRef, SecondaryRegion, Vault
from airflow_provider_azbackup.drill import AzureBackupDrillRestoreOperator
from airflow_provider_azbackup.exceptions import (
    AzureBackupAuthError,
    AzureBackupBusyError,
    AzureBackupConfigError,
    AzureBackupGateShutError,
    AzureBackupNotFoundError,
    AzureBackupRefusedError,
)
from airflow_provider_azbackup.operators import AzureBackupRestoreOperator
from airflow_provider_azbackup.restore_to import (
    cluster,
    disks,
    new_database,
    new_disk,
    new_vm,
    original_vm,
    other_blobs,
    other_database,
    other_share,
)
from airflow_provider_azbackup.sensors import AzureBackupJobSensor
from azure_backup_emulator import Emulator
from tests.support.tasks import Store, TaskInstance, run

HERE, THERE = "westeurope", "northeurope"
GROUP = "/subscriptions/00000000-0000-0000-0000-00000000d3a0/resourceGroups/demo-rg"
STORAGE = f"{GROUP}/providers/Microsoft.Storage/storageAccounts/elsewhere"
MACHINE = f"{GROUP}/providers/Microsoft.Compute/virtualMachines/drill"
SUBNET = f"{GROUP}/providers/Microsoft.Network/virtualNetworks/net/subnets/default"
CLUSTER = f"{GROUP}/providers/Microsoft.ContainerService/managedClusters/elsewhere"
DATABASE = f"{GROUP}/providers/Microsoft.DBforPostgreSQL/servers/elsewhere/databases/drill"
BACKUP_VAULT = {"vault_name": "demo-backup-vault", "vault_type": "DataProtection"}
DISKS = disks(storage_account_id=STORAGE, resource_group_id=GROUP)
NEW_DATABASE = new_database(database_id=DATABASE)

MODES: dict[str, dict[str, Any]] = {
    "poke": {"deferrable": False, "poke_interval": 0.001},
    "reschedule": {"deferrable": False, "mode": "reschedule"},
    "deferrable": {"deferrable": True},
}
# Of each type of vault: an item, and how a DAG author names its vault.
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "Recovery Services": ("vm-good", {}),
    "Backup vault": ("orders", BACKUP_VAULT),
}
# What starts a restore there, of either kind.
LOST = r"/backupCrossRegionRestore\?|/crossRegionRestore\?"
EACH_KIND = pytest.mark.parametrize(("item", "vault"), KINDS.values(), ids=KINDS)
CELLS: dict[str, tuple[str, dict[str, Any]]] = {
    "disks of a VM": ("vm-good", {"restore_to": DISKS, "deferrable": True}),
    "new VM": (
        "vm-good",
        {"restore_to": new_vm(vm_id=MACHINE, subnet_id=SUBNET, storage_account_id=STORAGE)},
    ),
    "file share": (
        "documents",
        {"restore_to": other_share(storage_account_id=STORAGE, share="drill", copy_options="Overwrite")},
    ),
    "SQL": ("payroll", {"restore_to": other_database(database="MSSQLSERVER/drill", vm_id=MACHINE)}),
    "SAP HANA": ("systemdb", {"restore_to": other_database(database="HXE/DRILL", vm_id=MACHINE)}),
    "PostgreSQL": ("orders", {**BACKUP_VAULT, "restore_to": NEW_DATABASE}),
    "AKS": (
        "demo-aks",
        {
            **BACKUP_VAULT,
            "restore_to": cluster(
                cluster_id=CLUSTER,
                namespaces=["shop"],
                staging_resource_group_id=GROUP,
                staging_storage_account_id=STORAGE,
            ),
        },
    ),
    "vaulted blobs": (
        "demoblobs",
        {**BACKUP_VAULT, "restore_to": other_blobs(storage_account_id=STORAGE, containers=["orders"])},
    ),
    "PostgreSQL, deferred": ("orders", {**BACKUP_VAULT, "restore_to": NEW_DATABASE, "deferrable": True}),
}


@pytest.fixture(autouse=True)
def _outage(azure: Emulator) -> None:
    azure.configure(down_regions=[HERE])


def path(azure: Emulator, item: str) -> str:
    """The ARM id of an item."""
    return str(azure.service.world.named(item)[0].path)


def backed_up(azure: Emulator, clock: Any, item: str = "vm-good") -> None:
    """A backup of an item, which has been copied into the vault and into the other region since."""
    azure.start_job(item, point={"vaulted_after": 60})
    clock.advance(6 * 3600)


def restore(ti: TaskInstance, item: str = "vm-good", **arguments: Any) -> Any:
    arguments = {"restore_to": DISKS, "secondary_region": True, "poll_interval": 600, **arguments}
    return run(lambda: AzureBackupRestoreOperator(task_id="restore", protected_item=item, **arguments), ti)


def wait(job_id: str, ti: TaskInstance | None = None, **arguments: Any) -> Any:
    arguments = {"secondary_region": True, "timeout": 3600, **arguments}
    return run(lambda: AzureBackupJobSensor(task_id="gate", job_id=job_id, **arguments), ti or TaskInstance())


def asked_here(azure: Emulator) -> list[str]:
    """The paths of requests that the region of the vault has failed to answer."""
    return [each["path"] for each in azure.requests if each["status"] == 503]


def restores(azure: Emulator) -> list[Any]:
    return [job for job in azure.service.world.jobs.values() if job.region]


@EACH_KIND
@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
def test_the_sensor_follows_a_restore_in_the_secondary_region(
    azure: Emulator, clock: Any, item: str, vault: dict[str, Any], mode: dict[str, Any]
) -> None:
    job_id = azure.start_job(item, operation="CrossRegionRestore", seconds=10)
    clock.advance(20)
    ti = TaskInstance()
    assert wait(job_id, ti, **vault, **mode) == job_id
    assert ti.xcoms["job"]["outcome"] == "succeeded"
    assert asked_here(azure) == []


def test_a_restore_that_failed_there_shuts_the_gate(azure: Emulator) -> None:
    job_id = azure.start_job("vm-good", operation="CrossRegionRestore", ending="Failed", seconds=100)
    with pytest.raises(AzureBackupGateShutError, match="Failed"):
        wait(job_id, deferrable=True)


def test_a_job_of_the_vault_is_none_of_its_secondary_region(azure: Emulator, clock: Any) -> None:
    job_id = azure.start_job("vm-good", seconds=10)
    clock.advance(20)
    with pytest.raises(AzureBackupNotFoundError):
        wait(job_id, deferrable=False)


@pytest.mark.parametrize(("item", "asked"), CELLS.values(), ids=CELLS)
def test_a_restore_completes_while_the_region_of_the_vault_is_down(
    azure: Emulator, clock: Any, item: str, asked: dict[str, Any]
) -> None:
    backed_up(azure, clock, item)
    ti = TaskInstance(store=Store())
    job_id = restore(ti, path(azure, item), **{"deferrable": False, **asked})
    assert [(job.id, job.item.name, job.region) for job in restores(azure)] == [(job_id, item, THERE)]
    assert ti.xcoms["job"]["outcome"] == "succeeded"
    assert asked_here(azure) == []


@EACH_KIND
@pytest.mark.parametrize("processed", [True, False], ids=["heard", "not heard"])
def test_a_request_whose_answer_is_lost_becomes_one_restore(
    azure: Emulator, clock: Any, item: str, vault: dict[str, Any], processed: bool
) -> None:
    backed_up(azure, clock, item)
    azure.fault(method="POST", path=LOST, processed=processed, reset=True)
    target = {"restore_to": NEW_DATABASE} if vault else {}
    ti = TaskInstance(store=Store())
    job_id = restore(ti, path(azure, item), deferrable=False, **vault, **target)
    assert [job.id for job in restores(azure)] == [job_id]
    assert asked_here(azure) == []


def test_a_retry_adopts_the_restore_of_the_try_before(azure: Emulator, clock: Any) -> None:
    backed_up(azure, clock)
    ti = TaskInstance(retries=1, store=Store())
    job_id = restore(ti, deferrable=False, wait_for_completion=False)
    # A restore in the region of the vault would be another one.
    assert restore(ti.retry(), deferrable=True) == job_id
    assert len(restores(azure)) == 1
    assert asked_here(azure) == []


def test_only_a_restore_there_is_in_the_way_of_one_there(azure: Emulator, clock: Any) -> None:
    backed_up(azure, clock)
    azure.start_job("vm-good", operation="Restore", seconds=90000)
    restore(TaskInstance(store=Store()), deferrable=False)
    azure.start_job("vm-good", operation="CrossRegionRestore", seconds=90000)
    with pytest.raises(AzureBackupBusyError, match="if_running is 'fail'"):
        restore(TaskInstance(store=Store()), deferrable=False)


def test_the_token_to_a_recovery_point_stays_with_the_request(
    azure: Emulator, clock: Any, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    backed_up(azure, clock, "payroll")
    ti = TaskInstance(store=Store())
    restore(ti, path(azure, "payroll"), **CELLS["SQL"][1], deferrable=True)
    kept = json.dumps([ti.xcoms, ti.store, ti.deferred_with])
    assert "secret." not in kept + caplog.text + "".join(capsys.readouterr())
    assert azure.count("POST", "/accessToken") == 1


@EACH_KIND
def test_the_hooks_ask_there(
    azure: Emulator, clock: Any, call: Callable[..., Any], item: str, vault: dict[str, Any]
) -> None:
    backed_up(azure, clock, item)
    job_id = azure.start_job(item, operation="CrossRegionRestore", seconds=100)
    newer = azure.start_job(item)  # which is not copied yet
    arm_id = path(azure, item)
    (point,) = call("list_recovery_points", arm_id, secondary_region=True)
    assert call("get_recovery_point", arm_id, point.point_id, secondary_region=True) == point
    with pytest.raises(AzureBackupNotFoundError, match=f"{THERE} lists no recovery point 'other'"):
        call("get_recovery_point", arm_id, "other", secondary_region=True)
    job: Job = call(
        "get_job", f"{arm_id.rpartition('/backup')[0]}/backupJobs/{job_id}", secondary_region=True
    )
    assert job.is_running and job.is_restore and newer != job_id
    assert asked_here(azure) == []


def test_the_hook_lists_what_is_there(azure: Emulator, call: Callable[..., Any]) -> None:
    job_id = azure.start_job("vm-good", operation="CrossRegionRestore", seconds=100)
    azure.start_job("vm-good")
    assert [job.ref.job_id for job in call("list_jobs", secondary_region=True)] == [job_id]
    assert "vm-good" in {each.friendly_name for each in call("list_protected_items", secondary_region=True)}
    item = call("resolve_protected_item", "vm-good", secondary_region=True)
    assert item.vault.secondary == SecondaryRegion(name=THERE, primary=HERE)
    clock_of_job = call("wait_for_job", job_id, timeout=3600, secondary_region=True)
    assert clock_of_job.ref.job_id == job_id
    assert asked_here(azure) == []


def test_the_instances_of_a_backup_vault_are_read_from_all_pages(azure: Emulator, clock: Any) -> None:
    backed_up(azure, clock, "orders")
    azure.configure(page_size=1)
    restore(TaskInstance(store=Store()), "demo-pg/orders", **CELLS["PostgreSQL"][1])
    assert len(restores(azure)) == 1


def test_waits_there_share_their_lists(azure: Emulator, clock: Any) -> None:
    ids = [
        azure.start_job(item, operation="CrossRegionRestore", seconds=600)
        for item in ("vm-good", "vm-patched", "payroll-vm")
    ]
    asyncio.run(_all_of(ids))
    # Ten minutes, and a list a minute for all three.
    assert azure.count("POST", "/backupCrrJob") == azure.count("POST", "/backupCrrJobs") <= 12
    assert asked_here(azure) == []


async def _all_of(job_ids: list[str]) -> None:
    """Wait for several jobs with the poller that deferred waits of one connection share."""
    from airflow_provider_azbackup.runtime import clock as clocks
    from airflow_provider_azbackup.triggerer.poller import joined
    from tests.support.virtual import hang_up

    vault = Vault.parse(f"{GROUP}/providers/Microsoft.RecoveryServices/vaults/demo-vault")
    now = clocks.current().now()

    async def one(job_id: str) -> None:
        region = SecondaryRegion(name=THERE)
        ref = JobRef(vault=Vault(**{**vars(vault), "secondary": region}), job_id=job_id)
        async with joined("azure_backup_default", deadline=now + 3600) as poller:
            job = await poller.watch_job(
                ref,
                poll_interval=60,
                deadline=now + 3600,
                since=now,
                on_read=lambda *_: None,
                first_pause=60,
            )
        assert job.outcome.value == "succeeded"

    await asyncio.gather(*map(one, job_ids))
    await hang_up()


def test_a_drill_is_made_there(azure: Emulator, clock: Any) -> None:
    backed_up(azure, clock, "payroll")
    ti = TaskInstance(store=Store())
    ti.task_id = "restore"
    run(
        lambda: AzureBackupDrillRestoreOperator(
            task_id="restore",
            protected_item=path(azure, "payroll"),
            secondary_region=True,
            deferrable=False,
            **CELLS["SQL"][1],
        ),
        ti,
    )
    (job,) = restores(azure)
    name = job.request["targetInfo"]["databaseName"]
    assert name.startswith("MSSQLSERVER/drill_") and name.endswith(ti.xcoms["restored"]["name"])
    assert asked_here(azure) == []


def test_a_backup_vault_says_whether_it_would_work_there(azure: Emulator, clock: Any) -> None:
    backed_up(azure, clock, "orders")
    asked = {**BACKUP_VAULT, "restore_to": NEW_DATABASE, "validate_only": True}
    assert restore(TaskInstance(), path(azure, "orders"), **asked)["works"] is True
    azure.plan("orders", validation="Failed")
    with pytest.raises(AzureBackupRefusedError, match="would not work"):
        restore(TaskInstance(), path(azure, "orders"), **asked)
    with pytest.raises(AzureBackupConfigError, match="only of a Backup vault"):
        restore(TaskInstance(), path(azure, "vm-good"), validate_only=True)
    assert restores(azure) == [] and asked_here(azure) == []


def test_what_never_leaves_its_region_has_no_recovery_point_there(azure: Emulator, clock: Any) -> None:
    azure.start_job("disk-good")
    clock.advance(3600)
    disk = f"{GROUP}/providers/Microsoft.Compute/disks/drill"
    with pytest.raises(AzureBackupNotFoundError, match="no recovery point"):
        restore(TaskInstance(), path(azure, "disk-good"), restore_to=new_disk(disk_id=disk))


def test_a_vault_without_cross_region_restore_is_refused_before_it_is_asked(azure: Emulator) -> None:
    with pytest.raises(AzureBackupConfigError, match="demo-vault-2 has no cross-region restore"):
        restore(TaskInstance(), path(azure, "vm-elsewhere"))
    assert [each["path"] for each in azure.requests if each["path"].startswith("/subscriptions")] == []


def test_a_region_that_is_named_needs_no_resource_graph(azure: Emulator, clock: Any) -> None:
    backed_up(azure, clock)
    azure.configure(resource_graph={"hidden": ["demo-vault"]})
    with pytest.raises(AzureBackupAuthError, match="shows no vault demo-vault"):
        restore(TaskInstance(), path(azure, "vm-good"))
    restore(TaskInstance(store=Store()), path(azure, "vm-good"), secondary_region=THERE, deferrable=False)
    with pytest.raises(AzureBackupRefusedError, match="UserErrorWrongSecondaryRegion"):
        restore(TaskInstance(), path(azure, "vm-good"), secondary_region="uksouth", deferrable=False)


OTHER_SHARE: dict[str, Any] = {"storage_account_id": STORAGE, "share": "drill", "copy_options": "Overwrite"}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no region": ({"secondary_region": "north europe"}, "secondary_region of task 'restore' is"),
    "no switch": ({"secondary_region": 1}, "expected True, False, or the name"),
    "cancel_on_kill": ({"cancel_on_kill": True}, "cannot cancel a restore in the secondary region"),
    "cancel_on_timeout": ({"cancel_on_timeout": True}, "cannot cancel a restore"),
    "original": ({"restore_to": original_vm(storage_account_id=STORAGE)}, "'original_vm' overwrites"),
    "no group": ({"restore_to": disks(storage_account_id=STORAGE)}, "resource_group_id"),
    "some files": ({"restore_to": other_share(**OTHER_SHARE, files=["a"])}, "only whole file shares"),
    "archive": (
        {"restore_to": None, "request": {"objectType": "IaasVMRestoreWithRehydrationRequest"}},
        "nothing is brought back from the archive",
    ),
}


@pytest.mark.parametrize(("arguments", "words"), REFUSED.values(), ids=REFUSED)
def test_what_azure_does_not_make_there_is_refused_when_the_dag_is_parsed(
    arguments: dict[str, Any], words: str
) -> None:
    with pytest.raises(AzureBackupConfigError, match=words):
        restore(TaskInstance(), **arguments)


def test_a_target_in_another_region_is_refused_before_the_restore(azure: Emulator, clock: Any) -> None:
    backed_up(azure, clock)
    target = disks(storage_account_id=STORAGE, resource_group_id=GROUP, region=HERE)
    with pytest.raises(AzureBackupConfigError, match=f"made in {THERE}"):
        restore(TaskInstance(), path(azure, "vm-good"), restore_to=target)


@pytest.mark.parametrize("arguments", [{"require_recovery_point": True}, {"wait_until": "snapshot"}])
def test_the_sensor_asks_no_restore_for_a_recovery_point(arguments: dict[str, Any]) -> None:
    with pytest.raises(AzureBackupConfigError, match="where only restores run"):
        wait("5f0c5b7e-6f0a-4b8e-9c57-0d5a3c1f2e4d", **arguments)

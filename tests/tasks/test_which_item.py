"""What is backed up, waited for and restored is the item that the author named, and no other of its name."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowSensorTimeout

from airflow_provider_azbackup.exceptions import AzureBackupConfigError, AzureBackupNotFoundError
from airflow_provider_azbackup.operators import (
    AzureBackupListProtectedItemsOperator,
    AzureBackupOperator,
    AzureBackupRestoreOperator,
)
from airflow_provider_azbackup.restore_to import original_vm
from airflow_provider_azbackup.sensors import AzureBackupFreshnessSensor
from azure_backup_emulator import Emulator
from tests.support.tasks import TaskInstance, run

BOTH = pytest.mark.parametrize("deferrable", [False, True], ids=["worker", "deferred"])
NOBODYS = "99999999-9999-9999-9999-999999999999"


def back_up(item: str, ti: TaskInstance | None = None, **arguments: Any) -> Any:
    return run(
        lambda: AzureBackupOperator(task_id="backup", protected_item=item, **arguments), ti or TaskInstance()
    )


def fresh(item: str, clock: Any, **arguments: Any) -> Any:
    since = datetime.fromtimestamp(clock(), UTC) - timedelta(hours=12)
    given = {"timeout": 600.0, "newer_than": since, "deferrable": True, **arguments}
    return run(
        lambda: AzureBackupFreshnessSensor(task_id="fresh", protected_item=item, **given), TaskInstance()
    )


def starts(azure: Emulator) -> int:
    return azure.count("POST", "/protectedItems/")


@pytest.mark.parametrize(
    ("name", "backup_type"), [("hdb-instance", "SnapshotFull"), ("asedb", "Full"), ("asedb", "Differential")]
)
@BOTH
def test_younger_kinds_are_found_backed_up_and_waited_for_by_name(
    azure: Emulator, clock: Any, name: str, backup_type: str, deferrable: bool
) -> None:
    ti = TaskInstance()
    job_id = back_up(name, ti, backup_type=backup_type, deferrable=deferrable)
    item = azure.service.world.named(name)[0]
    assert azure.service.world.jobs[job_id].item.path == item.path
    assert ti.xcoms["job"]["container"] == item.parent
    assert fresh(name, clock, deferrable=deferrable) == fresh(item.path, clock) == job_id
    listed = run(
        lambda: AzureBackupListProtectedItemsOperator(
            task_id="fleet", backup_management_type="AzureWorkload"
        ),
        TaskInstance(),
    )
    assert item.path in listed


def test_a_name_is_looked_up_in_one_list_of_each_management_type(azure: Emulator) -> None:
    back_up("hdb-instance", backup_type="SnapshotFull", wait_for_completion=False)
    assert azure.count("GET", "/backupProtectedItems") == 3


def test_hana_takes_no_incremental_backup_on_demand() -> None:
    with pytest.raises(AzureBackupConfigError, match="backup_type is 'Incremental'"):
        AzureBackupOperator(task_id="backup", protected_item="systemdb", backup_type="Incremental")


@BOTH
def test_a_vm_of_another_subscription_is_found_by_its_own_id(
    azure: Emulator, clock: Any, deferrable: bool
) -> None:
    item = azure.service.world.named("vm-abroad")[0]
    assert f"/subscriptions/{item.vault.subscription}/" not in item.source_id
    job_id = back_up(item.source_id, deferrable=deferrable)
    assert azure.service.world.jobs[job_id].item.path == item.path
    assert fresh(item.source_id, clock, deferrable=deferrable) == job_id


def restore(item: str, **arguments: Any) -> Any:
    account = item.partition("/providers/")[0] + "/providers/Microsoft.Storage/storageAccounts/staging"
    return run(
        lambda: AzureBackupRestoreOperator(
            task_id="restore",
            protected_item=item,
            restore_to=original_vm(storage_account_id=account),
            **arguments,
        ),
        TaskInstance(),
    )


@pytest.mark.parametrize(
    "task",
    [
        lambda item, clock, mode: back_up(item, deferrable=mode),
        lambda item, clock, mode: fresh(item, clock, deferrable=mode),
        lambda item, clock, mode: fresh(item, clock, newer_than=None, max_age=86400.0, deferrable=mode),
        lambda item, clock, mode: restore(item, deferrable=mode),
    ],
    ids=["backup", "fresh job", "fresh point", "restore"],
)
@pytest.mark.parametrize("name", ["vm-good", "vm-abroad"])
@BOTH
def test_a_vm_of_the_same_group_and_name_in_another_subscription_is_never_taken_for_it(
    azure: Emulator, clock: Any, task: Callable[..., Any], name: str, deferrable: bool
) -> None:
    azure.start_job(name, seconds=10)
    clock.advance(60)
    source = azure.service.world.named(name)[0].source_id
    other = source.replace(source.split("/")[2], NOBODYS)
    with pytest.raises(AzureBackupConfigError, match=f"another VM .*{other}.*Protected: {source}"):
        task(other, clock, deferrable)
    assert starts(azure) == 0


def test_volumes_of_one_group_are_told_apart(azure: Emulator, clock: Any) -> None:
    here = {"vault_name": azure.service.world.backup_vaults[0].name, "vault_type": "DataProtection"}
    one, two = (azure.service.world.named(f"volume-{number}")[0] for number in (1, 2))
    ti = TaskInstance()
    job_id = back_up(one.path, ti)
    assert ti.xcoms["job"]["item_id"] == one.path
    assert ti.xcoms["job"]["item"] == one.friendly_name != two.friendly_name
    assert fresh(one.path, clock, **here) == job_id
    with pytest.raises(AirflowSensorTimeout, match="no backup was even tried"):
        fresh(two.path, clock, **here)


def test_a_deleted_item_is_not_backed_up_by_its_name(azure: Emulator) -> None:
    azure.protect("vm-good", state="ProtectionStopped", deleted_ago=3600.0)
    for name in ("vm-good", azure.service.world.named("vm-good")[0].source_id):
        with pytest.raises(AzureBackupNotFoundError, match=r"soft-deleted and is purged at 20\d\d-"):
            back_up(name)
    assert starts(azure) == 0

"""Kinds of item beyond the usual ones, a VM of another subscription, and an older cloud."""

from __future__ import annotations

import json
from typing import Any

import pytest

from azure_backup_emulator import Emulator
from tests.emulator.conftest import SUBSCRIPTION, VAULT, Client
from tests.support.clock import ManualClock
from tests.support.recordings import SHARED, needs_recordings, shape, without

BACKUP_VAULT = (
    f"{SUBSCRIPTION}/resourceGroups/demo-rg/providers/Microsoft.DataProtection/backupVaults/demo-backup-vault"
)
OTHER = "00000000-0000-0000-0000-00000000d3b0"


def bodies(name: str, part: str) -> list[Any]:
    """The bodies of one of the later recordings whose address contains a part."""
    found = json.loads((SHARED / "recordings-2" / f"{name}.json").read_text())["exchanges"]
    return [each["body"] for each in found if part in each["uri"]]


def instance_job(client: Client, job_id: str) -> Any:
    return client.get(f"{BACKUP_VAULT}/backupJobs/{job_id}").json()


@needs_recordings
def test_the_backup_of_a_vm_of_another_subscription_looks_as_recorded(
    azure: Emulator, client: Client, clock: ManualClock
) -> None:
    operation = client.back_up("vm-abroad")
    clock.advance(1000)
    job_id = client.job_of(operation)
    running, done = bodies("vm_backup_2026", "/backupJobs/")
    assert shape(client.get(f"{VAULT}/backupJobs/{job_id}").json()) == shape(running)
    clock.advance(9000)
    ours = client.get(f"{VAULT}/backupJobs/{job_id}").json()
    assert shape(ours) == shape(done)
    for body in (ours, done):
        assert [task["taskId"] for task in body["properties"]["extendedInfo"]["tasksList"]] == [
            "Take Snapshot",
            "Transfer data to vault",
            "Validate Backup",
        ]


def test_an_item_shows_the_subscription_of_its_vm(
    azure: Emulator, client: Client, clock: ManualClock
) -> None:
    item = client.get(client.item("vm-abroad")).json()["properties"]
    assert item["sourceResourceId"] == item["virtualMachineId"]
    assert item["sourceResourceId"].startswith(f"/subscriptions/{OTHER}/resourceGroups/abroad-vms/")
    abroad, home = azure.start_job("vm-abroad"), azure.start_job("vm-good")
    assert client.job(abroad)["extendedInfo"]["propertyBag"]["VM Subscription ID"] == OTHER
    assert "VM Subscription ID" not in client.job(home)["extendedInfo"]["propertyBag"]


@needs_recordings
def test_a_sap_ase_database_looks_as_recorded(azure: Emulator, client: Client, clock: ManualClock) -> None:
    recorded_job, recorded_point = (
        bodies("sap_ase_2025", part)[0] for part in ("/backupJobs/", "/recoveryPoints/")
    )
    job_id = azure.start_job("asedb", operation="Restore")
    clock.advance(5)
    ours = client.get(f"{VAULT}/backupJobs/{job_id}").json()
    assert shape(without(ours, "taskType")) == shape(without(recorded_job, "taskType"))
    assert ours["properties"]["entityFriendlyName"] == "ase;asedb [asevm]"
    azure.start_job("asedb", ago=5000)
    (point,) = client.get(f"{client.item('asedb')}/recoveryPoints").json()["value"]
    assert shape(point) == shape(recorded_point)
    assert point["properties"]["objectType"] == recorded_point["properties"]["objectType"]


def test_a_hana_instance_is_backed_up_by_snapshots(client: Client, clock: ManualClock) -> None:
    path = client.item("hdb-instance")
    item = client.get(path).json()["properties"]
    assert (item["workloadType"], item["protectedItemType"], path.rpartition("/")[2]) == (
        "SAPHanaDBInstance",
        "AzureVmWorkloadSAPHanaDBInstance",
        "SAPHanaDBInstance;hxe;hdb-instance",
    )
    request = {"objectType": "AzureWorkloadBackupRequest"}
    refused = client.post(f"{path}/backup", {"properties": {**request, "backupType": "Full"}})
    assert (refused.status_code, "expected SnapshotFull" in refused.text) == (400, True)
    job = client.back_up("hdb-instance", backupType="SnapshotFull")
    clock.advance(1000)
    assert client.job(client.job_of(job))["operation"] == "Backup (SnapshotFull)"
    (point,) = client.get(f"{path}/recoveryPoints").json()["value"]
    assert point["properties"]["type"] == "SnapshotFull"
    assert point["properties"]["recoveryPointTierDetails"] == [{"type": "InstantRP", "status": "Valid"}]


@pytest.mark.parametrize("kind", ["SAPHanaDBInstance", "SAPAseDatabase"])
def test_each_kind_has_a_list_of_its_own(client: Client, kind: str) -> None:
    text = f"backupManagementType eq 'AzureWorkload' and itemType eq '{kind}'"
    found = client.get(f"{VAULT}/backupProtectedItems", params={"$filter": text}).json()["value"]
    assert [each["properties"]["workloadType"] for each in found] == [kind]


@needs_recordings
def test_an_elastic_san_volume_looks_as_recorded(azure: Emulator, client: Client) -> None:
    (listed,) = bodies("elastic_san_2026", "/backupInstances?")
    (recorded,) = listed["value"]
    assert shape(client.get(client.item("volume-1")).json()) == shape(recorded)
    recorded_job = bodies("elastic_san_2026", "/backupJobs/")[0]
    world = azure.service.world
    (item,) = world.named("volume-1")
    job = world.start(item, azure.service.clock(), "Backup", request={"tag": "Default"})
    newer = ("backupType", "isAutohealJob", "autohealParentFailedJobId", "warningDetails")
    ours = instance_job(client, job.id)
    assert shape(without(ours, *newer)) == shape(without(recorded_job, *newer))
    assert ours["properties"]["supportedActions"] == ["Cancellable"]


def test_two_volumes_of_one_group_share_the_name_of_their_data_source(
    azure: Emulator, client: Client
) -> None:
    jobs = [instance_job(client, azure.start_job(f"volume-{number}"))["properties"] for number in (1, 2)]
    assert {job["dataSourceName"] for job in jobs} == {"demo-group"}
    assert [job["backupInstanceFriendlyName"] for job in jobs] == [
        "demo-san\\volume-1",
        "demo-san\\volume-2",
    ]
    assert len({job["backupInstanceId"] for job in jobs}) == 2


@needs_recordings
@pytest.mark.parametrize(
    ("recording", "item"), [("adls_2025", "demoadls"), ("mysql_flex_restore", "demo-mysql")]
)
def test_a_restore_of_more_kinds_looks_as_recorded(
    azure: Emulator, client: Client, clock: ManualClock, recording: str, item: str
) -> None:
    recorded = bodies(recording, "/backupJobs/")[-1]["properties"]
    world = azure.service.world
    (source,) = world.named(item)
    request = {"sourceDataStoreType": "VaultStore", "destination": "/x", "recoveryPointId": "p"}
    job = world.start(source, azure.service.clock(), "Restore", request=request)
    clock.advance(1000)
    ours = instance_job(client, job.id)["properties"]
    loose = ("additionalDetails", "warningDetails")
    assert shape(without(ours, *loose)) == shape(without(recorded, *loose))
    for key in ("dataSourceType", "operationCategory", "status"):
        assert ours[key] == recorded[key]


@needs_recordings
def test_the_backup_of_a_flexible_server_looks_as_recorded(
    azure: Emulator, client: Client, clock: ManualClock
) -> None:
    running, failed = bodies("pgflex_2025", "/backupJobs/")[:2]
    world = azure.service.world
    (item,) = world.named("demo-pg-flexible")
    azure.plan("demo-pg-flexible", ending="Failed", quirks=["nested-errors"])
    job = world.start(item, azure.service.clock(), "Backup", request={"tag": "Default"})
    for recorded in (running, failed):
        ours = instance_job(client, job.id)
        loose = ("errorDetails", "additionalDetails", "dataTransferredInBytes", "warningDetails")
        assert shape(without(ours, *loose)) == shape(without(recorded, *loose))
        clock.advance(1000)
    (error,), (theirs,) = (body["properties"]["errorDetails"] for body in (ours, failed))
    assert shape(without(error, "details", "isRetryable")) == shape(without(theirs, "details", "isRetryable"))


def test_an_older_cloud_refuses_newer_versions(azure: Emulator, client: Client) -> None:
    azure.configure(newest_api_version="2025-02-01")
    refused = client.get(VAULT, version="2026-07-01")
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "NoRegisteredProviderFound")
    assert "2025-02-01" in refused.json()["error"]["message"]
    assert client.get(VAULT, version="2025-02-01").status_code == 200
    assert client.get(VAULT, version="2019-05-13-preview").status_code == 200
    azure.configure(newest_api_version=None)
    assert client.get(VAULT, version="2026-07-01").status_code == 200

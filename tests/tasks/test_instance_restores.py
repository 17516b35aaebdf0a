"""Restores from Backup vaults, from task to job: validated first, then by the rules of every restore."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from airflow.providers.common.compat.sdk import DAG, BaseOperator
from azure.identity import ClientSecretCredential
from azure.mgmt.dataprotection import DataProtectionMgmtClient
from azure.mgmt.dataprotection import models as sdk

from airflow_provider_azbackup.core.model.resources import BackupInstance, ProtectedItem
from airflow_provider_azbackup.core.rest import requests
from airflow_provider_azbackup.exceptions import (
    AzureBackupAuthError,
    AzureBackupBusyError,
    AzureBackupConfigError,
    AzureBackupJobFailedError,
    AzureBackupNotFoundError,
    AzureBackupRefusedError,
    AzureBackupTimeoutError,
    AzureBackupTransientError,
)
from airflow_provider_azbackup.guard import backed_up
from airflow_provider_azbackup.hooks import AzureBackupHook
from airflow_provider_azbackup.operators import AzureBackupRestoreOperator
from airflow_provider_azbackup.restore_to import (
    cluster,
    database_files,
    disks,
    new_database,
    new_disk,
    original_blobs,
    other_blobs,
)
from airflow_provider_azbackup.runtime import clock as clocks
from azure_backup_emulator import Emulator
from tests.support.tasks import Store, TaskInstance, run
from tests.tasks.test_adoption import BOTH, LOSSES, STORES, Mortal, WorkerDiedError, an_instance
from tests.tasks.test_restores import begin, restores

HERE: dict[str, str] = {"vault_name": "demo-backup-vault", "vault_type": "DataProtection"}
GROUP = "/subscriptions/00000000-0000-0000-0000-00000000d3a0/resourceGroups/demo-rg"
DISK_ID = f"{GROUP}/providers/Microsoft.Compute/disks/drill"
ACCOUNT = f"{GROUP}/providers/Microsoft.Storage/storageAccounts/drill"
SERVER = f"{GROUP}/providers/Microsoft.DBforPostgreSQL/servers/drill-pg"
CLUSTER = f"{GROUP}/providers/Microsoft.ContainerService/managedClusters/drill"
URL = "https://drill.blob.core.windows.net/dumps"
SECRET = "https://demo-keys.vault.azure.net/secrets/pg"  # an address, not what is there
BACK = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)

TARGETS: dict[str, tuple[str, dict[str, Any]]] = {
    "disk": ("disk-good", new_disk(disk_id=DISK_ID)),
    "blobs elsewhere": ("demoblobs", other_blobs(storage_account_id=ACCOUNT)),
    "containers elsewhere": (
        "demoblobs",
        other_blobs(storage_account_id=ACCOUNT, containers=["a", "b"], prefixes={"a": ["x", "y"]}),
    ),
    "blobs back in time": ("democontinuous", original_blobs()),
    "containers back in time": ("democontinuous", original_blobs(containers=["orders"])),
    "ranges back in time": ("democontinuous", original_blobs(ranges=[("orders/a", "orders/b")])),
    "PostgreSQL files": ("demo-pg/orders", database_files(container_url=URL, prefix="orders-")),
    "PostgreSQL database": (
        "demo-pg/orders",
        new_database(database_id=f"{SERVER}/databases/drill", secret_uri=SECRET),
    ),
    "flexible server": ("demo-pg-flexible", database_files(container_url=URL, prefix="pg-")),
    "MySQL flexible server": ("demo-mysql", database_files(container_url=URL, prefix="my-")),
    "data lake elsewhere": (
        "demoadls\\demoadls",
        other_blobs(storage_account_id=ACCOUNT, containers=["raw"]),
    ),
    "cluster": ("demo-aks", cluster(namespaces=["shop"])),
    "other cluster": (
        "demo-aks",
        cluster(
            cluster_id=CLUSTER,
            excluded_namespaces=["test"],
            namespace_mappings={"shop": "drill"},
            conflict_policy="Patch",
            volumes=False,
            cluster_resources=False,
        ),
    ),
}
# One of each workload.
WORKLOADS = ["disk", "blobs elsewhere", "flexible server", "cluster"]


@pytest.fixture(autouse=True)
def _nights(azure: Emulator, clock: Any) -> None:
    """What has recovery points has one, and nothing runs."""
    for item in (
        "disk-good",
        "demoblobs",
        "orders",
        "demo-pg-flexible",
        "demo-mysql",
        "demoadls",
        "demo-aks",
    ):
        azure.start_job(item, seconds=100)
    clock.advance(3000)


def moment_of(clock: Any, name: str) -> dict[str, Any]:
    """What says from when, where only a moment can."""
    day_before = datetime.fromtimestamp(int(clock()) - 86400, UTC)
    return {"point_in_time": day_before} if TARGETS[name][1]["target"] == "original_blobs" else {}


def restore(name: str = "disk", **arguments: Any) -> Callable[[], AzureBackupRestoreOperator]:
    item, target = TARGETS[name]
    place_of = None if "request" in arguments else target
    given = {"protected_item": item, "restore_to": place_of, **HERE, **arguments}
    return lambda: AzureBackupRestoreOperator(task_id="restore", **given)


def asked(azure: Emulator) -> list[str]:
    """The last words of what was asked of Azure to do, in order."""
    words = [entry["path"].rpartition("/")[2] for entry in azure.requests if entry["method"] == "POST"]
    return [word for word in words if word in ("validateRestore", "restore")]


def instance_of(found: Any) -> BackupInstance:
    item = ProtectedItem.parse(found.path)
    assert isinstance(item, BackupInstance)
    return item


def point_of(azure: Emulator, item: str) -> str:
    with AzureBackupHook(**HERE) as hook:
        (found,) = hook.list_recovery_points(item)
    return found.point_id


# --- from the task to the job


@pytest.mark.parametrize(
    ("name", "deferrable"), [*((name, True) for name in TARGETS), *((name, False) for name in WORKLOADS)]
)
def test_a_restore_of_every_data_source_to_every_target(
    azure: Emulator, clock: Any, deferrable: bool, name: str
) -> None:
    item, _ = TARGETS[name]
    ti, when = an_instance(), moment_of(clock, name)
    job_id = run(restore(name, deferrable=deferrable, **when), ti)
    (job,) = restores(azure)
    assert (job.id, ti.xcoms["job_id"]) == (job_id, job_id)
    assert asked(azure) == ["validateRestore", "restore"]
    facts, point = ti.xcoms["job"], ti.xcoms["recovery_point"]
    assert (facts["outcome"], facts["operation"]) == ("succeeded", "Restore")
    assert facts["arm_id"] == f"{job.item.vault.path}/backupJobs/{job_id}"
    if when:
        assert (point["recovery_point_id"], point["arm_id"]) == (None, None)
        assert datetime.fromisoformat(point["time"]) == when["point_in_time"]
        assert job.request["pointTime"] == when["point_in_time"].timestamp()
    else:
        assert point["arm_id"] == f"{job.item.path}/recoveryPoints/{point_of(azure, item)}"
        assert job.request["recoveryPointId"] == point["recovery_point_id"]
    assert [each["first_pause"] for each in ti.deferred_with] == ([90.0] if deferrable else [])
    assert azure.count("POST", "/cancel") == 0


def test_the_drill_can_tell_what_was_restored_from_the_job(azure: Emulator) -> None:
    ti = an_instance()
    run(restore(), ti)
    assert ti.xcoms["job"]["details"]["recoveryDestination"] == DISK_ID
    assert ti.xcoms["recovery_point"]["tiers"] == {"OperationalStore": "COMMITTED"}


@pytest.mark.parametrize("told", ["the argument", "an ARM id", "the connection"])
def test_the_type_of_vault_is_told_in_three_ways(
    azure: Emulator, connect: Callable[..., None], told: str
) -> None:
    path = azure.service.world.named("disk-good")[0].path
    arguments: dict[str, Any] = {
        "the argument": HERE,
        "an ARM id": {"vault_name": None, "vault_type": None, "protected_item": path},
        "the connection": {"vault_name": None, "vault_type": None},
    }[told]
    if told == "the connection":
        connect(azure.connection(**HERE))
    assert run(restore(**arguments), an_instance()) == restores(azure)[0].id


@BOTH
@pytest.mark.parametrize("name", WORKLOADS)
def test_a_restore_that_fails_keeps_the_gate_shut_and_says_why(
    azure: Emulator, deferrable: bool, name: str
) -> None:
    azure.plan(TARGETS[name][0].rpartition("/")[2], ending="Failed")
    ti = an_instance()
    with pytest.raises(AzureBackupJobFailedError, match=r"Restore of .* failed") as failed:
        run(restore(name, deferrable=deferrable), ti)
    assert failed.value.code == "InternalServerError"
    assert ti.xcoms["job"]["outcome"] == "failed"
    assert ti.xcoms["recovery_point"]["recovery_point_id"]


def test_a_restore_that_azure_takes_and_then_declines_starts_nothing(azure: Emulator) -> None:
    azure.plan("disk-good", operation="Failed")
    store = Store()
    with pytest.raises(AzureBackupRefusedError, match="no restore was started: UserErrorDiskAndSnapshot"):
        run(restore(), TaskInstance(store=store))
    assert (restores(azure), store, asked(azure)) == ([], {}, ["validateRestore", "restore"])


@BOTH
def test_a_restore_that_takes_too_long_goes_on_and_is_told(azure: Emulator, deferrable: bool) -> None:
    azure.plan("disk-good", ending="Never")
    with pytest.raises(AzureBackupTimeoutError, match=r"Trigger Restore\. It goes on in Azure"):
        run(restore(deferrable=deferrable, timeout=600), an_instance())


# --- validation


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_restore_that_would_not_work_is_told_and_not_started(azure: Emulator, name: str) -> None:
    azure.plan(TARGETS[name][0].rpartition("/")[2], validation="Failed")
    store = Store()
    with pytest.raises(
        AzureBackupRefusedError, match=r"nothing was restored, .*UserErrorDiskAnd.* Recommended: Check"
    ) as told:
        run(restore(name), TaskInstance(store=store))
    assert told.value.code == "UserErrorDiskAndSnapshotRGOrMSIPermissionsNotPresent"
    assert (restores(azure), store, asked(azure)) == ([], {}, ["validateRestore"])


def test_a_request_in_azures_own_words_is_validated_too(azure: Emulator) -> None:
    with pytest.raises(AzureBackupRefusedError, match=r"nothing was restored, .*sourceDataStoreType must be"):
        run(restore(request={"objectType": "AzureBackupRecoveryPointBasedRestoreRequest"}), an_instance())
    assert asked(azure) == ["validateRestore"]
    raw = {
        "objectType": "AzureBackupRecoveryPointBasedRestoreRequest",
        "sourceDataStoreType": "OperationalStore",
        "restoreTargetInfo": {
            "objectType": "RestoreTargetInfo",
            "recoveryOption": "FailIfExists",
            "datasourceInfo": {"objectType": "Datasource", "resourceID": DISK_ID},
        },
    }
    run(restore(request=raw), an_instance())
    (job,) = restores(azure)
    assert job.request["asked"] == {**raw, "recoveryPointId": point_of(azure, "disk-good")}


def test_a_validation_without_an_end_holds_the_task_until_its_deadline_and_starts_nothing(
    azure: Emulator, clock: Any
) -> None:
    azure.plan("disk-good", validation="InProgress")
    began, store = clock(), Store()
    with pytest.raises(AzureBackupTransientError, match="nothing was restored, Azure does not say"):
        run(restore(timeout=600), TaskInstance(store=store))
    assert 600 <= clock() - began < 600 + 400
    assert (set(asked(azure)), store) == ({"validateRestore"}, {})


@pytest.mark.parametrize(
    "fault", [{"status": 503}, {"status": 429, "retry_after": 20}, {"reset": True}], ids=str
)
@pytest.mark.parametrize("path", [r"/validateRestore\?", "/operationStatus/"])
def test_faults_around_a_validation_are_waited_out(azure: Emulator, fault: dict[str, Any], path: str) -> None:
    azure.fault(path=path, times=2, **fault)
    assert run(restore(), an_instance()) == restores(azure)[0].id
    assert asked(azure).count("restore") == 1


# --- which recovery point


@pytest.fixture
def three(azure: Emulator, clock: Any) -> list[tuple[str, float]]:
    """Names and times of the three recovery points of a disk, oldest first."""
    for _ in range(2):
        clock.advance(86400)
        azure.start_job("disk-good", seconds=100)
        clock.advance(3000)
    with AzureBackupHook(**HERE) as hook:
        found = sorted(hook.list_recovery_points("disk-good"), key=lambda point: point.unix_time)
    return [(point.point_id, point.unix_time) for point in found]


@pytest.mark.parametrize("how", ["latest", "as of", "id", "ARM id"])
def test_a_recovery_point_is_chosen_as_everywhere(
    azure: Emulator, three: list[tuple[str, float]], how: str
) -> None:
    path = azure.service.world.named("disk-good")[0].path
    arguments, which = {
        "latest": ({}, 2),
        "as of": ({"as_of": datetime.fromtimestamp(three[1][1] + 60, UTC)}, 1),
        "id": ({"recovery_point": three[0][0]}, 0),
        "ARM id": ({"recovery_point": f"{path}/recoveryPoints/{three[0][0]}"}, 0),
    }[how]
    ti = an_instance()
    run(restore(**arguments), ti)
    assert ti.xcoms["recovery_point"]["recovery_point_id"] == three[which][0]
    assert restores(azure)[0].request["recoveryPointId"] == three[which][0]


@pytest.mark.parametrize(
    ("name", "arguments", "kind", "told"),
    [
        ("disk", {"recovery_point": "7"}, AzureBackupNotFoundError, "no recovery point '7'; there are: "),
        ("disk", {"as_of": "2020-01-01"}, AzureBackupNotFoundError, "of 2020-01-01.* or before that can be"),
        (
            "blobs elsewhere",
            {"protected_item": "democontinuous"},
            AzureBackupNotFoundError,
            "there are none at all",
        ),
        (
            "blobs back in time",
            {"point_in_time": "2020-01-01"},
            AzureBackupNotFoundError,
            "the versions that are kept of democontinuous.* do not reach 2020-01-01",
        ),
        (
            "blobs back in time",
            {"protected_item": "demoblobs", "point_in_time": BACK},
            AzureBackupNotFoundError,
            "no range of time is listed",
        ),
        (
            "disk",
            {"protected_item": "demo-aks"},
            AzureBackupConfigError,
            "cannot be restored to 'new_disk'; expected one of cluster",
        ),
    ],
)
def test_what_cannot_be_restored_is_told_and_starts_nothing(
    azure: Emulator, name: str, arguments: dict[str, Any], kind: type[Exception], told: str
) -> None:
    store = Store()
    with pytest.raises(kind, match=told):
        run(restore(name, **arguments), TaskInstance(store=store))
    assert (asked(azure), store) == ([], {})


# --- one intent, one restore


@BOTH
@STORES
def test_a_retry_takes_up_the_restore_that_runs_if_it_can_know_it(
    azure: Emulator, clock: Any, deferrable: bool, store: bool
) -> None:
    ti, task = an_instance(store), restore(deferrable=deferrable)
    job_id = begin(azure, clock, task, ti)
    clock.advance(30)
    if store:
        assert run(task, ti.retry()) == job_id
        assert ti.xcoms["job"]["outcome"] == "succeeded"
    else:  # nobody can say whose restore it is
        with pytest.raises(AzureBackupBusyError):
            run(task, ti.retry())
    assert asked(azure) == ["validateRestore", "restore"]


@BOTH
def test_a_retry_passes_at_once_if_its_restore_has_succeeded_meanwhile(
    azure: Emulator, clock: Any, deferrable: bool
) -> None:
    ti, task = an_instance(), restore("cluster", deferrable=deferrable)
    job_id = begin(azure, clock, task, ti)
    clock.advance(900)
    assert run(task, ti.retry()) == job_id
    assert asked(azure).count("restore") == 1


@pytest.mark.parametrize("moment", ["Azure validates", "Azure has the request", "Azure named the operation"])
def test_a_crash_around_the_request_is_no_second_restore(azure: Emulator, clock: Any, moment: str) -> None:
    dies = {
        "Azure validates": lambda: "validateRestore" in asked(azure),
        "Azure has the request": lambda: "restore" in asked(azure),
        "Azure named the operation": lambda: (
            "restore" in asked(azure) and azure.requests[-1]["path"].count("/operationStatus/") > 0
        ),
    }[moment]
    ti, task = an_instance(), restore()
    with clocks.running_on(Mortal(clock, dies)), pytest.raises(WorkerDiedError):
        task().execute(ti.context)
    clock.advance(30)
    assert run(task, ti.retry()) == restores(azure)[0].id
    assert (asked(azure).count("restore"), len(restores(azure))) == (1, 1)


@LOSSES
@pytest.mark.parametrize("processed", [True, False], ids=["heard", "not heard"])
def test_a_request_whose_answer_is_lost_becomes_one_restore(
    azure: Emulator, loss: dict[str, Any], processed: bool
) -> None:
    azure.fault(method="POST", path=r"/restore\?", processed=processed, **loss)
    azure.plan("disk-good", visible_after=50)
    ti = an_instance()
    assert run(restore(deferrable=True), ti) == restores(azure)[0].id
    assert (len(restores(azure)), asked(azure).count("restore")) == (1, 1 if processed else 2)
    assert asked(azure).count("validateRestore") == 1
    assert ti.xcoms["job"]["outcome"] == "succeeded"


@pytest.mark.parametrize("name", [*WORKLOADS, "blobs back in time"])
def test_a_lost_request_for_every_data_source_becomes_one_restore(
    azure: Emulator, clock: Any, name: str
) -> None:
    azure.fault(method="POST", path=r"/restore\?", processed=True, status=504)
    run(restore(name, **moment_of(clock, name)), an_instance())
    assert (len(restores(azure)), asked(azure)) == (1, ["validateRestore", "restore"])


def test_a_restore_of_somebody_else_is_refused_or_waited_for(azure: Emulator) -> None:
    stranger = azure.start_job("disk-good", operation="Restore")
    with pytest.raises(AzureBackupBusyError, match=r"a restore of .* that began at"):
        run(restore(), an_instance())
    assert run(restore(if_running="adopt"), an_instance()) == stranger
    assert asked(azure) == []


def test_a_backup_and_other_instances_are_in_no_restores_way(azure: Emulator) -> None:
    others = {azure.start_job("disk-good"), azure.start_job("demo-aks", operation="Restore")}
    assert run(restore(), an_instance()) not in others


# --- no way to cancel, and what the other type of vault knows


@pytest.mark.parametrize("argument", ["cancel_on_kill", "cancel_on_timeout"])
@pytest.mark.parametrize("told", ["the argument", "an ARM id", "the connection"])
def test_a_wish_to_cancel_is_refused_before_any_request(
    azure: Emulator, connect: Callable[..., None], argument: str, told: str
) -> None:
    azure.reset()
    path = azure.service.world.named("disk-good")[0].path
    here: dict[str, Any] = {
        "the argument": {},
        "an ARM id": {"vault_name": None, "vault_type": None, "protected_item": path},
        "the connection": {"vault_name": None, "vault_type": None},
    }[told]
    connect(azure.connection(**HERE))
    words = f"{argument} of task 'restore' cannot work: Azure has no way to cancel a job of a Backup vault"
    with pytest.raises(AzureBackupConfigError, match=words):
        task = restore(**{argument: True}, **here)()
        assert told == "the connection", "a type given as an argument is checked at construction"
        task.execute(an_instance().context)
    assert azure.requests == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"restore_to": disks(storage_account_id=ACCOUNT)}, "'disks' is for what Recovery Services vaults"),
        ({"vault_type": "RecoveryServices"}, "'new_disk' is for what Backup vaults"),
        ({"vault_type": "Backup"}, "vault_type is 'Backup'"),
        ({"restore_to": original_blobs()}, "give point_in_time"),
    ],
)
def test_what_can_be_no_restore_is_refused_when_the_dag_is_read(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(AzureBackupConfigError, match=told):
        restore(**arguments)()


def test_risky_tasks_are_guarded_by_a_backup_vault_as_by_any() -> None:
    with (
        DAG("guarded", schedule=None) as dag,
        backed_up("disk-good", restore_to=TARGETS["disk"][1], **HERE),
    ):
        BaseOperator(task_id="patch")
    for name in ("backup", "restore"):
        assert dag.get_task(f"backed_up.{name}").vault_type == "DataProtection"


def test_the_type_of_vault_is_a_template_field() -> None:
    assert "vault_type" in restore()().template_fields


# --- as Microsoft's client asks for the same


@pytest.fixture
def client(azure: Emulator) -> Iterator[DataProtectionMgmtClient]:
    connection = azure.connection()
    with (
        ClientSecretCredential(
            tenant_id=connection["extra"]["tenant_id"],
            client_id=connection["login"],
            client_secret=connection["password"],
            authority=azure.url,
            disable_instance_discovery=True,
            connection_verify=azure.ca_bundle,
        ) as credential,
        DataProtectionMgmtClient(
            credential,
            subscription_id=connection["extra"]["subscription_id"],
            base_url=azure.url,
            credential_scopes=["https://management.azure.com/.default"],
            connection_verify=azure.ca_bundle,
            retry_total=0,
        ) as found,
    ):
        yield found


def _resource(kind: Any, arm_id: str, resource_type: str, source_type: str, uri: str = "") -> Any:
    return kind(
        object_type=kind.__name__,
        resource_id=arm_id,
        resource_name=arm_id.rpartition("/")[2],
        resource_type=resource_type,
        resource_uri=uri,
        resource_location="westeurope",
        datasource_type=source_type,
    )


def _whole(info: Any, **more: Any) -> sdk.RestoreTargetInfo:
    return sdk.RestoreTargetInfo(
        recovery_option="FailIfExists", restore_location="westeurope", datasource_info=info, **more
    )


def _items(info: Any, *criteria: Any, **more: Any) -> sdk.ItemLevelRestoreTargetInfo:
    return sdk.ItemLevelRestoreTargetInfo(
        recovery_option="FailIfExists",
        restore_location="westeurope",
        datasource_info=info,
        restore_criteria=[*criteria],
        **more,
    )


def _files(prefix: str) -> sdk.RestoreFilesTargetInfo:
    details = sdk.TargetDetails(file_prefix=prefix, restore_target_location_type="AzureBlobs", url=URL)
    return sdk.RestoreFilesTargetInfo(
        recovery_option="FailIfExists", restore_location="westeurope", target_details=details
    )


def _blobs(arm_id: str) -> Any:
    service = "Microsoft.Storage/storageAccounts/blobServices"
    return _resource(sdk.Datasource, arm_id, "Microsoft.Storage/storageAccounts", service)


def _cluster(arm_id: str) -> dict[str, Any]:
    kind = "Microsoft.ContainerService/managedClusters"
    return {
        "info": _resource(sdk.Datasource, arm_id, kind, kind, arm_id),
        "datasource_set_info": _resource(sdk.DatasourceSet, arm_id, kind, kind, arm_id),
    }


_PG = "Microsoft.DBforPostgreSQL/servers/databases"
_LAKE = "Microsoft.Storage/storageAccounts/adlsBlobServices"
# The same intents in the words of Microsoft's client, by what was backed up: store and target.
INTENTS: dict[str, Callable[[str], tuple[str, Any]]] = {
    "disk": lambda _: (
        "OperationalStore",
        _whole(_resource(sdk.Datasource, DISK_ID, "Microsoft.Compute/disks", "Microsoft.Compute/disks")),
    ),
    "blobs elsewhere": lambda _: ("VaultStore", _whole(_blobs(ACCOUNT))),
    "containers elsewhere": lambda _: (
        "VaultStore",
        _items(
            _blobs(ACCOUNT),
            sdk.ItemPathBasedRestoreCriteria(
                item_path="a", is_path_relative_to_backup_item=True, sub_item_path_prefix=["x", "y"]
            ),
            sdk.ItemPathBasedRestoreCriteria(item_path="b", is_path_relative_to_backup_item=True),
        ),
    ),
    "blobs back in time": lambda source: ("OperationalStore", _whole(_blobs(source))),
    "containers back in time": lambda source: (
        "OperationalStore",
        _items(
            _blobs(source),
            sdk.RangeBasedItemLevelRestoreCriteria(
                min_matching_value="orders", max_matching_value="orders-0"
            ),
        ),
    ),
    "ranges back in time": lambda source: (
        "OperationalStore",
        _items(
            _blobs(source),
            sdk.RangeBasedItemLevelRestoreCriteria(
                min_matching_value="orders/a", max_matching_value="orders/b"
            ),
        ),
    ),
    "PostgreSQL files": lambda _: ("VaultStore", _files("orders-")),
    "flexible server": lambda _: ("VaultStore", _files("pg-")),
    "MySQL flexible server": lambda _: ("VaultStore", _files("my-")),
    "data lake elsewhere": lambda _: (
        "VaultStore",
        _items(
            _resource(sdk.Datasource, ACCOUNT, "Microsoft.Storage/storageAccounts", _LAKE),
            sdk.ItemPathBasedRestoreCriteria(item_path="raw", is_path_relative_to_backup_item=True),
            datasource_set_info=_resource(
                sdk.DatasourceSet, ACCOUNT, "Microsoft.Storage/storageAccounts", _LAKE
            ),
        ),
    ),
    "PostgreSQL database": lambda _: (
        "VaultStore",
        _whole(
            _resource(sdk.Datasource, f"{SERVER}/databases/drill", _PG, _PG),
            datasource_set_info=_resource(
                sdk.DatasourceSet, SERVER, "Microsoft.DBforPostgreSQL/servers", _PG
            ),
            datasource_auth_credentials=sdk.SecretStoreBasedAuthCredentials(
                secret_store_resource=sdk.SecretStoreResource(uri=SECRET, secret_store_type="AzureKeyVault")
            ),
        ),
    ),
    "cluster": lambda source: (
        "OperationalStore",
        _items(
            _cluster(source)["info"],
            sdk.KubernetesClusterRestoreCriteria(
                include_cluster_scope_resources=True,
                conflict_policy="Skip",
                persistent_volume_restore_mode="RestoreWithVolumeData",
                included_namespaces=["shop"],
            ),
            datasource_set_info=_cluster(source)["datasource_set_info"],
        ),
    ),
    "other cluster": lambda _: (
        "OperationalStore",
        _items(
            _cluster(CLUSTER)["info"],
            sdk.KubernetesClusterRestoreCriteria(
                include_cluster_scope_resources=False,
                conflict_policy="Patch",
                persistent_volume_restore_mode="RestoreWithoutVolumeData",
                excluded_namespaces=["test"],
                namespace_mappings={"shop": "drill"},
            ),
            datasource_set_info=_cluster(CLUSTER)["datasource_set_info"],
        ),
    ),
}


def _theirs(name: str, source: str, from_: dict[str, Any]) -> Any:
    store, target = INTENTS[name](source)
    if "recoveryPointTime" in from_:
        return sdk.AzureBackupRecoveryTimeBasedRestoreRequest(
            restore_target_info=target,
            source_data_store_type=store,
            recovery_point_time=from_["recoveryPointTime"],
        )
    return sdk.AzureBackupRecoveryPointBasedRestoreRequest(
        restore_target_info=target,
        source_data_store_type=store,
        recovery_point_id=from_["recoveryPointId"],
    )


@pytest.mark.parametrize("name", TARGETS)
def test_requests_are_those_that_microsofts_client_sends_for_the_same_intent(
    azure: Emulator, clock: Any, client: DataProtectionMgmtClient, name: str
) -> None:
    run(restore(name, wait_for_completion=False, **moment_of(clock, name)), an_instance())
    (job,) = restores(azure)
    ours, item = job.request["asked"], instance_of(job.item)
    request = _theirs(name, job.item.source_id, ours)
    sent: list[Any] = []
    where = ("demo-rg", "demo-backup-vault", job.item.native_name)
    options = {"polling": False, "raw_request_hook": lambda call: sent.append(call.http_request)}
    client.backup_instances.begin_validate_for_restore(
        *where, sdk.ValidateRestoreRequestObject(restore_request_object=request), **options
    )
    client.backup_instances.begin_trigger_restore(*where, request, **options)
    for call, theirs in zip(
        (requests.validate_instance_restore(item, ours), requests.restore_instance(item, ours)),
        sent,
        strict=True,
    ):
        assert (theirs.method, unquote(urlsplit(theirs.url).path)) == (call.method, call.path)
        assert json.loads(theirs.body) == call.body
    assert len(restores(azure)) == 2  # the emulator took theirs, too


def test_moments_are_asked_for_as_microsofts_client_does(
    azure: Emulator, client: DataProtectionMgmtClient
) -> None:
    (found,) = azure.service.world.named("democontinuous")
    sent: list[Any] = []
    answer = client.restorable_time_ranges.find(
        "demo-rg",
        "demo-backup-vault",
        found.native_name,
        sdk.AzureBackupFindRestorableTimeRangesRequest(source_data_store_type="OperationalStore"),
        raw_request_hook=lambda call: sent.append(call.http_request),
    )
    assert len(answer.properties.restorable_time_ranges) == 1
    ours = requests.find_restorable_ranges(instance_of(found))
    assert unquote(urlsplit(sent[0].url).path) == ours.path
    assert (sent[0].method, json.loads(sent[0].body)) == (ours.method, ours.body)


# --- the hooks


def test_both_hooks_validate_restore_and_name_the_operation(
    azure: Emulator, call: Callable[..., Any]
) -> None:
    path = azure.service.world.named("disk-good")[0].path
    operation = call("trigger_restore", path, restore_to=TARGETS["disk"][1])
    ref = call("wait_for_operation", operation, "restore")
    assert ref.path == f"{azure.service.world.backup_vaults[0].path}/backupJobs/{restores(azure)[0].id}"
    assert asked(azure) == ["validateRestore", "restore"]


def test_both_hooks_say_that_nothing_was_restored(azure: Emulator, call: Callable[..., Any]) -> None:
    azure.plan("disk-good", validation="Failed")
    path = azure.service.world.named("disk-good")[0].path
    with pytest.raises(AzureBackupRefusedError, match="nothing was restored"):
        call("trigger_restore", path, restore_to=TARGETS["disk"][1])
    assert asked(azure) == ["validateRestore"]


@pytest.mark.parametrize("form", ["id", "ARM id"])
def test_both_hooks_read_one_recovery_point(azure: Emulator, call: Callable[..., Any], form: str) -> None:
    name, path = point_of(azure, "disk-good"), azure.service.world.named("disk-good")[0].path
    point = call("get_recovery_point", path, name if form == "id" else f"{path}/recoveryPoints/{name}")
    assert (point.point_id, point.usable_tiers) == (name, ("OperationalStore",))
    with pytest.raises(AzureBackupNotFoundError):
        call("get_recovery_point", path, "7")


def test_a_missing_right_to_validate_is_named(azure: Emulator, connect: Callable[..., None]) -> None:
    connect(azure.connection("reader"))
    path = azure.service.world.named("disk-good")[0].path
    with (
        AzureBackupHook() as hook,
        pytest.raises(AzureBackupAuthError, match=r"Missing right: .*backupInstances/validateRestore/action"),
    ):
        hook.trigger_restore(path, restore_to=TARGETS["disk"][1])

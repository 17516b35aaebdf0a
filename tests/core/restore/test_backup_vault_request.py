"""Restores of Backup vaults: targets, requests, validation, and what is asked before one is sent."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from email.utils import formatdate
from typing import Any
from urllib.parse import urlsplit

import pytest

from airflow_provider_azbackup import restore_to
from airflow_provider_azbackup.core.conversations.operations import validate_restore
from airflow_provider_azbackup.core.model.recovery_points import RecoveryPoint
from airflow_provider_azbackup.core.model.resources import BackupInstance, ProtectedItem
from airflow_provider_azbackup.core.rest import requests
from airflow_provider_azbackup.core.rest.responses import DataSource
from airflow_provider_azbackup.core.restore import plan
from airflow_provider_azbackup.core.restore.backup_vault_request import instance_request
from airflow_provider_azbackup.core.restore.check import check_restore, check_target_fits, split_point_id
from airflow_provider_azbackup.core.restore.plan import RestoreIntent, RestorePlan
from airflow_provider_azbackup.core.restore.targets import read_target
from airflow_provider_azbackup.core.wire import Request, Response
from airflow_provider_azbackup.exceptions import (
    AzureBackupAuthError,
    AzureBackupBusyError,
    AzureBackupConfigError,
    AzureBackupNotFoundError,
    AzureBackupRefusedError,
    AzureBackupTransientError,
    AzureBackupUnconfirmedStartError,
)
from airflow_provider_azbackup.restore_to import (
    cluster,
    database_files,
    disks,
    new_database,
    new_disk,
    original_blobs,
    other_blobs,
    other_database,
)
from tests.core.conversations.test_backup_vaults import ACCEPTED, DISK, JOB, OPERATION, VAULT
from tests.core.restore.test_plan import secure
from tests.core.restore.test_targets import BODIES as OLDER
from tests.support.play import ITEM, LOST, START, answered, ok, play
from tests.support.recordings import EXAMPLES, exchanges, needs_recordings

GROUP = f"/subscriptions/{VAULT.subscription_id}/resourceGroups/drill-rg"
NEW_DISK = f"{GROUP}/providers/Microsoft.Compute/disks/shop-drill"
ACCOUNT = f"{GROUP}/providers/Microsoft.Storage/storageAccounts/drill"
SERVER = f"{GROUP}/providers/Microsoft.DBforPostgreSQL/servers/pg"
CLUSTER = f"{GROUP}/providers/Microsoft.ContainerService/managedClusters/drill"
URL = "https://drill.blob.core.windows.net/dumps"
SECRET = "https://keys.vault.azure.net/secrets/pg"  # an address, not what is there
MOMENT = datetime(2026, 9, 21, 13, 30, 0, 250000, tzinfo=UTC)

DISKS = DataSource(
    resource_id=f"{GROUP}/providers/Microsoft.Compute/disks/shop",
    source_type="Microsoft.Compute/disks",
    region="westeurope",
)
BLOBS = DataSource(
    resource_id=f"{GROUP}/providers/Microsoft.Storage/storageAccounts/shop",
    source_type="Microsoft.Storage/storageAccounts/blobServices",
)
POSTGRES = DataSource(
    resource_id=f"{SERVER}/databases/shop", source_type="Microsoft.DBforPostgreSQL/servers/databases"
)
FLEXIBLE = DataSource(
    resource_id=f"{GROUP}/providers/Microsoft.DBforPostgreSQL/flexibleServers/pg",
    source_type="Microsoft.DBforPostgreSQL/flexibleServers",
)
AKS = DataSource(
    resource_id=f"{GROUP}/providers/Microsoft.ContainerService/managedClusters/shop",
    source_type="Microsoft.ContainerService/managedClusters",
)


def of(source: DataSource, arm_id: str, kind: str, **more: Any) -> dict[str, Any]:
    return {
        "objectType": "Datasource",
        "resourceID": arm_id,
        "resourceName": arm_id.rpartition("/")[2],
        "resourceType": kind,
        "resourceUri": "",
        "resourceLocation": "westeurope",
        "datasourceType": source.source_type,
        **more,
    }


FILES = {
    "objectType": "RestoreFilesTargetInfo",
    "targetDetails": {"url": URL, "filePrefix": "shop-", "restoreTargetLocationType": "AzureBlobs"},
}
PLAIN_CRITERIA = {
    "objectType": "KubernetesClusterRestoreCriteria",
    "includeClusterScopeResources": True,
    "conflictPolicy": "Skip",
    "persistentVolumeRestoreMode": "RestoreWithVolumeData",
}


def in_cluster(arm_id: str, **criteria: Any) -> dict[str, Any]:
    kind = "Microsoft.ContainerService/managedClusters"
    return {
        "objectType": "ItemLevelRestoreTargetInfo",
        "restoreCriteria": [{**PLAIN_CRITERIA, **criteria}],
        "datasourceInfo": of(AKS, arm_id, kind, resourceUri=arm_id),
        "datasourceSetInfo": of(AKS, arm_id, kind, resourceUri=arm_id, objectType="DatasourceSet"),
    }


# target, data source, store, what the target says beyond where and how
BODIES: dict[str, tuple[dict[str, Any], DataSource, str, dict[str, Any]]] = {
    "a disk": (
        new_disk(disk_id=NEW_DISK),
        DISKS,
        "OperationalStore",
        {
            "objectType": "RestoreTargetInfo",
            "datasourceInfo": of(DISKS, NEW_DISK, "Microsoft.Compute/disks"),
        },
    ),
    "all blobs, back in time": (
        original_blobs(),
        BLOBS,
        "OperationalStore",
        {
            "objectType": "RestoreTargetInfo",
            "datasourceInfo": of(BLOBS, BLOBS.resource_id, "Microsoft.Storage/storageAccounts"),
        },
    ),
    "some containers, back in time": (
        original_blobs(containers=("orders", "bills")),
        BLOBS,
        "OperationalStore",
        {
            "objectType": "ItemLevelRestoreTargetInfo",
            "datasourceInfo": of(BLOBS, BLOBS.resource_id, "Microsoft.Storage/storageAccounts"),
            "restoreCriteria": [
                {
                    "objectType": "RangeBasedItemLevelRestoreCriteria",
                    "minMatchingValue": name,
                    "maxMatchingValue": f"{name}-0",
                }
                for name in ("orders", "bills")
            ],
        },
    ),
    "some blobs, back in time": (
        original_blobs(ranges=[("orders/2026-01", "orders/2026-02")]),
        BLOBS,
        "OperationalStore",
        {
            "objectType": "ItemLevelRestoreTargetInfo",
            "datasourceInfo": of(BLOBS, BLOBS.resource_id, "Microsoft.Storage/storageAccounts"),
            "restoreCriteria": [
                {
                    "objectType": "RangeBasedItemLevelRestoreCriteria",
                    "minMatchingValue": "orders/2026-01",
                    "maxMatchingValue": "orders/2026-02",
                }
            ],
        },
    ),
    "all blobs, elsewhere": (
        other_blobs(storage_account_id=ACCOUNT),
        BLOBS,
        "VaultStore",
        {
            "objectType": "RestoreTargetInfo",
            "datasourceInfo": of(BLOBS, ACCOUNT, "Microsoft.Storage/storageAccounts"),
        },
    ),
    "some blobs, elsewhere": (
        other_blobs(
            storage_account_id=ACCOUNT, containers=["orders", "bills"], prefixes={"orders": ("a", "b")}
        ),
        BLOBS,
        "VaultStore",
        {
            "objectType": "ItemLevelRestoreTargetInfo",
            "datasourceInfo": of(BLOBS, ACCOUNT, "Microsoft.Storage/storageAccounts"),
            "restoreCriteria": [
                {
                    "objectType": "ItemPathBasedRestoreCriteria",
                    "itemPath": "orders",
                    "isPathRelativeToBackupItem": True,
                    "subItemPathPrefix": ["a", "b"],
                },
                {
                    "objectType": "ItemPathBasedRestoreCriteria",
                    "itemPath": "bills",
                    "isPathRelativeToBackupItem": True,
                },
            ],
        },
    ),
    "PostgreSQL as files": (
        database_files(container_url=URL, prefix="shop-"),
        FLEXIBLE,
        "VaultStore",
        FILES,
    ),
    "PostgreSQL as files in another subscription": (
        database_files(
            container_url=URL,
            prefix="shop-",
            container_id=f"{ACCOUNT}/blobServices/default/containers/dumps",
        ),
        POSTGRES,
        "VaultStore",
        {
            **FILES,
            "targetDetails": {
                **FILES["targetDetails"],  # type: ignore[dict-item]  # one of its values is a dict
                "targetResourceArmId": f"{ACCOUNT}/blobServices/default/containers/dumps",
            },
        },
    ),
    "PostgreSQL as a database": (
        new_database(database_id=f"{SERVER}/databases/drill", secret_uri=SECRET),
        POSTGRES,
        "VaultStore",
        {
            "objectType": "RestoreTargetInfo",
            "datasourceInfo": of(
                POSTGRES, f"{SERVER}/databases/drill", "Microsoft.DBforPostgreSQL/servers/databases"
            ),
            "datasourceSetInfo": of(
                POSTGRES, SERVER, "Microsoft.DBforPostgreSQL/servers", objectType="DatasourceSet"
            ),
            "datasourceAuthCredentials": {
                "objectType": "SecretStoreBasedAuthCredentials",
                "secretStoreResource": {"uri": SECRET, "secretStoreType": "AzureKeyVault"},
            },
        },
    ),
    "a cluster": (cluster(), AKS, "OperationalStore", in_cluster(AKS.resource_id)),
    "some of a cluster into another": (
        cluster(
            cluster_id=CLUSTER,
            namespaces=["shop"],
            excluded_namespaces=("test",),
            namespace_mappings={"shop": "drill"},
            conflict_policy="Patch",
            volumes=False,
            cluster_resources=False,
            criteria={"labelSelectors": ["tier=web"]},
        ),
        AKS,
        "OperationalStore",
        in_cluster(
            CLUSTER,
            includeClusterScopeResources=False,
            conflictPolicy="Patch",
            persistentVolumeRestoreMode="RestoreWithoutVolumeData",
            includedNamespaces=["shop"],
            excludedNamespaces=["test"],
            namespaceMappings={"shop": "drill"},
            labelSelectors=["tier=web"],
        ),
    ),
    "a cluster from the vault": (
        cluster(staging_resource_group_id=GROUP, staging_storage_account_id=ACCOUNT),
        AKS,
        "VaultStore",
        in_cluster(
            AKS.resource_id,
            objectType="KubernetesClusterVaultTierRestoreCriteria",
            stagingResourceGroupId=GROUP,
            stagingStorageAccountId=ACCOUNT,
        ),
    ),
}


def lies_in(*stores: str) -> RecoveryPoint:
    return RecoveryPoint(item=DISK, point_id="42", tiers=tuple((store, "COMMITTED") for store in stores))


def request_of(target: dict[str, Any], source: DataSource, *stores: str) -> Any:
    moment = MOMENT if target["target"] == "original_blobs" else None
    return instance_request(source, target, point=lies_in(*stores), region="westeurope", point_in_time=moment)


@pytest.mark.parametrize("name", BODIES)
def test_a_target_becomes_the_request_of_its_data_source(name: str) -> None:
    target, source, store, info = BODIES[name]
    check_target_fits(source.workload, "it", target)
    asked = request_of(target, source, store)
    assert asked.pop("restoreTargetInfo") == {
        "recoveryOption": "FailIfExists",
        "restoreLocation": "westeurope",
        **info,
    }
    back = {
        "objectType": "AzureBackupRecoveryTimeBasedRestoreRequest",
        "recoveryPointTime": "2026-09-21T13:30:00.2500000Z",
    }
    point = {"objectType": "AzureBackupRecoveryPointBasedRestoreRequest", "recoveryPointId": "42"}
    expected = back if target["target"] == "original_blobs" else point
    assert asked == {**expected, "sourceDataStoreType": store}


@pytest.mark.parametrize("name", BODIES)
def test_a_target_is_plain_json_that_reads_back_as_itself(name: str) -> None:
    target = BODIES[name][0]
    assert read_target(json.loads(json.dumps(target))) == target


def test_the_module_for_dag_files_offers_every_target() -> None:
    targets = {body[0]["target"] for body in (*BODIES.values(), *OLDER.values())}
    assert targets == set(restore_to.__all__)


def test_further_fields_stand_beside_the_target() -> None:
    guard = {"resourceGuardOperationRequests": ["/x"]}
    asked = request_of(new_disk(disk_id=NEW_DISK, more=guard), DISKS, "OperationalStore")
    assert asked["resourceGuardOperationRequests"] == ["/x"]


@pytest.mark.parametrize(
    ("stores", "taken"),
    [
        (("VaultStore", "OperationalStore"), "OperationalStore"),
        (("VaultStore",), "VaultStore"),
        (("Attic",), "VaultStore"),
        ((), "VaultStore"),
    ],
)
def test_a_recovery_point_is_taken_from_where_it_lies(stores: tuple[str, ...], taken: str) -> None:
    assert request_of(new_disk(disk_id=NEW_DISK), DISKS, *stores)["sourceDataStoreType"] == taken


@pytest.mark.parametrize(
    ("target", "store", "told"),
    [
        (cluster(), "VaultStore", "does not lie in the OperationalStore; a copy in the vault needs staging_"),
        (
            cluster(staging_resource_group_id=GROUP, staging_storage_account_id=ACCOUNT),
            "OperationalStore",
            "does not lie in the VaultStore; drop staging_resource_group_id",
        ),
    ],
)
def test_a_cluster_is_restored_from_where_the_author_says(
    target: dict[str, Any], store: str, told: str
) -> None:
    with pytest.raises(AzureBackupConfigError, match=told):
        request_of(target, AKS, store)


# --- what is refused, and what is left to be rendered


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: new_disk(disk_id="shop-drill"), "disk_id 'shop-drill' is not an ARM id.*disks/<name>"),
        (lambda: original_blobs(containers=["a"], ranges=[("a", "b")]), "give one of them, or none for all"),
        (lambda: original_blobs(containers="orders"), "containers is the text 'orders'; expected a list"),
        (lambda: original_blobs(containers=[f"c{n}" for n in range(11)]), "11 containers .* at most 10"),
        (lambda: original_blobs(ranges=["orders"]), "'orders' is no range of blobs"),
        (lambda: original_blobs(ranges=[("b", "a")]), r"\('b', 'a'\) is no range of blobs"),
        (lambda: original_blobs(ranges=[("a", "b", "c")]), "is no range of blobs"),
        (lambda: other_blobs(storage_account_id="x"), "storage_account_id 'x' is not an ARM id"),
        (
            lambda: other_blobs(storage_account_id=ACCOUNT, containers=["a"], prefixes={"b": ["c"]}),
            "prefixes are given for b, not among containers",
        ),
        (lambda: database_files(container_url="dumps", prefix="a"), "container_url is not the plain"),
        (lambda: database_files(container_url=URL, prefix="a", container_id="x"), "container_id 'x'"),
        (lambda: new_database(database_id=SERVER), "database_id .* is not an ARM id of the form .*databases"),
        (lambda: cluster(cluster_id="aks"), "cluster_id 'aks' is not an ARM id"),
        (
            lambda: cluster(conflict_policy="Update"),
            "conflict_policy is 'Update'; expected one of S",
        ),
        (lambda: cluster(staging_resource_group_id=GROUP), "needs both staging_resource_group_id and stag"),
        (lambda: cluster(namespaces="shop"), "namespaces is the text 'shop'; expected a list"),
        (lambda: cluster(volumes="False"), "volumes is the text 'False'; expected True or False"),
        (lambda: cluster(cluster_resources="no"), "cluster_resources is the text 'no'"),
        (lambda: other_database(database="A/B", overwrite="False"), "overwrite is the text 'False'"),
        (
            lambda: other_blobs(storage_account_id=ACCOUNT, containers=["a"], prefixes={"a": "x"}),
            "prefixes is the text 'x'; expected a list",
        ),
    ],
)
def test_what_can_be_no_target_is_refused_where_it_is_written(make: Any, told: str) -> None:
    with pytest.raises(AzureBackupConfigError, match=told):
        make()


def test_a_signature_is_refused_without_being_told() -> None:
    with pytest.raises(AzureBackupConfigError, match="without a signature") as told:
        database_files(container_url=f"{URL}?sv=1&sig=c2VjcmV0", prefix="a")
    assert "c2VjcmV0" not in str(told.value)


@pytest.mark.parametrize(
    "target",
    [
        new_disk(disk_id="{{ params.disk }}"),
        original_blobs(containers="{{ params.containers }}"),
        original_blobs(ranges=[("{{ ds }}", "a")]),
        original_blobs(ranges="{{ params.ranges }}"),
        other_blobs(storage_account_id="{{ a }}", containers=["{{ b }}"], prefixes={"c": ["d"]}),
        database_files(container_url="{{ var.value.url }}", prefix="{{ ds }}-"),
        cluster(conflict_policy="{{ params.policy }}", namespaces="{{ params.names }}"),
    ],
    ids=lambda target: target["target"],
)
def test_templates_are_left_to_be_rendered(target: dict[str, Any]) -> None:
    check_restore(
        restore_to=target, point_in_time="{{ ts }}" if target["target"] == "original_blobs" else None
    )


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"restore_to": original_blobs()}, "not to a recovery point; give point_in_time"),
        ({"restore_to": original_blobs(), "as_of": MOMENT}, "not to a recovery point; give point_in_time"),
        ({"restore_to": original_blobs(), "recovery_point": "7"}, "not to a recovery point; give point_in"),
        (
            {"restore_to": new_disk(disk_id=NEW_DISK), "point_in_time": MOMENT},
            "'new_disk' is for neither",
        ),
        (
            {"restore_to": new_disk(disk_id=NEW_DISK), "vault_type": "RecoveryServices"},
            "'new_disk' is for what Backup vaults .*keep.* expected one of disks, new_vm",
        ),
        (
            {"restore_to": disks(storage_account_id=ACCOUNT), "vault_type": "DataProtection"},
            "'disks' is for what Recovery Services vaults keep.* expected one of new_disk, original_blobs, o",
        ),
    ],
)
def test_what_can_be_no_restore_is_refused_before_it_is_tried(options: dict[str, Any], told: str) -> None:
    with pytest.raises(AzureBackupConfigError, match=told):
        check_restore(**options)


def test_a_target_of_another_data_source_is_refused_with_those_that_fit() -> None:
    with pytest.raises(
        AzureBackupConfigError, match="to 'cluster'; expected one of original_blobs, other_bl"
    ):
        check_target_fits(BLOBS.workload, "shop", cluster())
    with pytest.raises(AzureBackupConfigError, match="give a request in Azure's own words"):
        check_target_fits("microsoft.elasticsan/elasticsans/volumegroups", "shop", cluster())


def test_the_arm_id_of_an_instances_recovery_point_is_split() -> None:
    assert split_point_id(f"{DISK.path}/recoveryPoints/7") == (DISK.path, "7")
    with pytest.raises(AzureBackupConfigError, match="/backupInstances/<instance>/recoveryPoints/<id>"):
        split_point_id(f"{VAULT.path}/recoveryPoints/7")


# --- as recorded, and as Microsoft's example shows it


def plain(body: Any) -> Any:
    """A body without what is null, and with Azure's two casings of one field made one."""
    if isinstance(body, dict):
        kept = {name: plain(value) for name, value in body.items() if value is not None}
        return {"resourceID" if name == "resourceId" else name: value for name, value in kept.items()}
    return [plain(each) for each in body] if isinstance(body, list) else body


@needs_recordings
def test_a_validation_and_a_restore_are_asked_for_as_recorded() -> None:
    sent = [
        each["request"]
        for each in exchanges("dpp_postgres_backup_and_restore_completed")
        if urlsplit(each["request"]["uri"]).path.endswith(("/validateRestore", "/restore"))
    ]
    assert len(sent) == 2
    asked = sent[1]["body"]
    info = asked["restoreTargetInfo"]
    target = new_database(
        database_id=info["datasourceInfo"]["resourceId"],
        secret_uri=info["datasourceAuthCredentials"]["secretStoreResource"]["uri"],
    )
    item = ProtectedItem.parse(urlsplit(sent[0]["uri"]).path.removesuffix("/validateRestore"))
    assert isinstance(item, BackupInstance)
    request = instance_request(
        POSTGRES,
        target,
        point=RecoveryPoint(
            item=item, point_id=asked["recoveryPointId"], tiers=(("VaultStore", "COMMITTED"),)
        ),
        region=info["restoreLocation"],
    )
    for call, recorded in zip(
        (requests.validate_instance_restore(item, request), requests.restore_instance(item, request)),
        sent,
        strict=True,
    ):
        assert (call.method, call.path) == (recorded["method"], urlsplit(recorded["uri"]).path)
        assert plain(call.body) == plain(recorded["body"])


@needs_recordings
@pytest.mark.parametrize("name", ["TriggerRestoreAsFiles", "TriggerRestore"])
def test_requests_are_those_of_microsofts_examples(name: str) -> None:
    shown = json.loads((EXAMPLES / f"dpp__BackupInstanceOperations__{name}.json").read_text())
    asked = shown["parameters"]["parameters"]
    info = asked["restoreTargetInfo"]
    if name == "TriggerRestoreAsFiles":
        details = info["targetDetails"]
        target = database_files(container_url=details["url"], prefix=details["filePrefix"])
    else:
        target = new_database(
            database_id=info["datasourceInfo"]["resourceID"],
            secret_uri=info["datasourceAuthCredentials"]["secretStoreResource"]["uri"],
        )
    ours = instance_request(
        POSTGRES,
        target,
        point=RecoveryPoint(item=DISK, point_id="hardcodedRP"),
        region=info["restoreLocation"],
    )
    asked.pop("sourceResourceId")  # nothing that was recorded says it
    for each in ("datasourceInfo", "datasourceSetInfo"):
        if each in info:
            info[each]["resourceLocation"] = info["restoreLocation"]  # empty in the example
    assert ours == asked


# --- which recovery point, and what is asked before a restore is sent

INSTANCE = ok("backup_instance")
PASSED = answered(200, {"status": "Succeeded", "properties": {"objectType": "OperationJobExtendedInfo"}})
TARGET = new_disk(disk_id=NEW_DISK)


def point(name: str, day: int, **changes: Any) -> dict[str, Any]:
    store = {"type": "OperationalStore", "state": "COMMITTED", **changes}
    return {
        "name": name,
        "properties": {
            "recoveryPointTime": f"2026-09-{day:02}T22:00:00.1234567Z",
            "recoveryPointDataStoresDetails": [store],
        },
    }


def listed(*points: dict[str, Any]) -> Response:
    return answered(200, {"value": list(points)})


def prepared(*answers: Any, asked: list[Request] | None = None, **options: Any) -> Any:
    order = RestorePlan.read(DISK, **{"restore_to": TARGET, **options})
    return play(plan.prepare(DISK, order), *answers, requests=asked)


def test_a_restore_is_validated_with_the_request_that_is_then_ready() -> None:
    played = prepared(INSTANCE, listed(point("1", 1), point("2", 2)), ACCEPTED, PASSED)
    request = played.result.request.body
    assert played.result.request == requests.restore_instance(DISK, request)
    assert [call.delayed(0) for call in played.requests] == [
        requests.get_protected_item(DISK),
        requests.list_recovery_points(DISK),
        requests.validate_instance_restore(DISK, request),
        requests.get_operation(OPERATION),
    ]
    assert request["recoveryPointId"] == played.result.recovery_point["recovery_point_id"] == "2"
    assert request["restoreTargetInfo"]["restoreLocation"] == "westeurope"


def test_a_validation_that_is_answered_at_once_is_followed_no_further() -> None:
    assert prepared(INSTANCE, listed(point("1", 1)), answered(200, {})).result.recovery_point


def test_the_region_may_be_the_authors_or_else_the_vaults() -> None:
    there = new_disk(disk_id=NEW_DISK, region="northeurope")
    played = prepared(INSTANCE, listed(point("1", 1)), answered(200), restore_to=there)
    assert played.result.request.body["restoreTargetInfo"]["restoreLocation"] == "northeurope"
    source = {"resourceId": "/x/y", "datasourceType": "Microsoft.Compute/disks", "resourceLocation": ""}
    untold = answered(200, {"properties": {"dataSourceInfo": source}})
    played = prepared(
        untold, listed(point("1", 1)), answered(200, {"location": "francecentral"}), answered(200)
    )
    assert played.result.request.body["restoreTargetInfo"]["restoreLocation"] == "francecentral"


@pytest.mark.parametrize(
    ("options", "name"),
    [({"as_of": "2026-09-02T23:00:00Z"}, "2"), ({}, "3"), ({"recovery_point": "latest"}, "3")],
)
def test_the_recovery_point_is_chosen_as_everywhere(options: dict[str, Any], name: str) -> None:
    gone, archived = point("4", 4, state="DELETED"), point("5", 5, type="ArchiveStore")
    points = listed(point("1", 1), point("3", 3), point("2", 2), gone, archived)
    played = prepared(INSTANCE, points, answered(200), **options)
    assert played.result.request.body["recoveryPointId"] == name


@pytest.mark.parametrize("name", ["7", f"{DISK.path}/recoveryPoints/7"], ids=["id", "ARM id"])
def test_one_that_is_named_is_asked_for(name: str) -> None:
    played = prepared(INSTANCE, answered(200, point("7", 7)), answered(200), recovery_point=name)
    assert played.requests[1] == requests.get_recovery_point(DISK, "7")
    assert played.result.recovery_point["arm_id"] == f"{DISK.path}/recoveryPoints/7"


def test_one_of_another_instance_is_refused_before_anything_is_asked() -> None:
    with pytest.raises(AzureBackupConfigError, match=r"recovery_point is one of .*, not of"):
        prepared(recovery_point=f"{DISK.path}-2/recoveryPoints/7")


def test_a_target_of_another_data_source_asks_for_no_recovery_point() -> None:
    with pytest.raises(
        AzureBackupConfigError, match="cannot be restored to 'cluster'; expected one of new_d"
    ):
        prepared(INSTANCE, restore_to=cluster())


@pytest.mark.parametrize("body", ["", {}, {"properties": {"dataSourceInfo": {"resourceID": "/x"}}}])
def test_an_instance_that_does_not_tell_what_it_protects_restores_nothing(body: Any) -> None:
    with pytest.raises(AzureBackupTransientError, match=r"with what it protects|not a JSON object"):
        prepared(answered(200, body))


SHOP_BLOBS = answered(
    200,
    {
        "properties": {
            "dataSourceInfo": {
                "resourceID": BLOBS.resource_id,
                "datasourceType": BLOBS.source_type,
                "resourceLocation": "westeurope",
            }
        }
    },
)
REACH = answered(
    200,
    {
        "properties": {
            "restorableTimeRanges": [
                {"startTime": "2026-09-01T00:00:00.1234567Z", "endTime": "2026-09-30T00:00:00Z"}
            ]
        }
    },
)


def test_blobs_go_back_to_a_moment_that_is_kept() -> None:
    played = prepared(
        SHOP_BLOBS,
        REACH,
        answered(200),
        restore_to=original_blobs(),
        point_in_time="2026-09-21T15:30:00+02:00",
    )
    assert played.requests[1] == requests.find_restorable_ranges(DISK)
    assert played.requests[1].body == {"sourceDataStoreType": "OperationalStore"}
    assert played.requests[1].path == f"{DISK.path}/findRestorableTimeRanges"
    assert played.result.request.body["recoveryPointTime"] == "2026-09-21T13:30:00.0000000Z"
    found = played.result.recovery_point
    assert (found["recovery_point_id"], found["arm_id"]) == (None, None)
    assert found["time"] == "2026-09-21T13:30:00+00:00"


@pytest.mark.parametrize(
    ("reach", "told"),
    [(REACH, "2026-09-01T00.* to 2026-09-30"), (answered(200, {}), "no range of time is listed")],
)
def test_a_moment_that_is_not_kept_is_told_with_those_that_are(reach: Response, told: str) -> None:
    with pytest.raises(
        AzureBackupNotFoundError, match=f"the versions that are kept of .* do not reach 2026-10-01.*{told}"
    ):
        prepared(SHOP_BLOBS, reach, restore_to=original_blobs(), point_in_time="2026-10-01")


RAW = {
    "objectType": "AzureBackupRestoreWithRehydrationRequest",
    "sourceDataStoreType": "ArchiveStore",
    "rehydrationRetentionDuration": "P15D",
}


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_body_of_the_author_is_sent_as_it_is_with_the_recovery_point(wrapped: bool) -> None:
    archived = listed(point("9", 9, type="ArchiveStore"))
    request = {"properties": RAW} if wrapped else RAW
    played = prepared(archived, answered(200), restore_to=None, request=request)
    assert played.result.request.body == {**RAW, "recoveryPointId": "9"}
    assert played.requests[1] == requests.validate_instance_restore(DISK, {**RAW, "recoveryPointId": "9"})


def test_a_body_that_names_its_recovery_point_keeps_it() -> None:
    raw = {**RAW, "recoveryPointId": "7"}
    played = prepared(answered(200, point("7", 7)), answered(200), restore_to=None, request=raw)
    assert played.requests[0] == requests.get_recovery_point(DISK, "7")
    assert played.result.request.body == raw


def test_a_body_that_names_a_moment_keeps_it() -> None:
    raw = {"objectType": "X", "recoveryPointTime": "2026-09-21T13:30:00.0000000Z"}
    played = prepared(answered(200), restore_to=None, request=raw)
    assert played.result.request.body == raw
    assert played.result.recovery_point["time"] == "2026-09-21T13:30:00+00:00"


@pytest.mark.parametrize("own", [{"recoveryPointId": "7"}, {"recoveryPointTime": "2026-09-21T13:30:00Z"}])
@pytest.mark.parametrize(
    ("option", "told"), [({"recovery_point": "8"}, "recovery_point"), ({"as_of": "2026-09-01"}, "as_of")]
)
def test_a_body_and_an_argument_cannot_both_say_from_what(
    own: dict[str, str], option: dict[str, str], told: str
) -> None:
    with pytest.raises(AzureBackupConfigError, match=f"request restores from .* itself; drop {told}"):
        prepared(restore_to=None, request={**RAW, **own}, **option)


# --- validation


def validated(*answers: Any, **options: Any) -> Any:
    return play(
        validate_restore(DISK, requests.validate_instance_restore(DISK, {"objectType": "X"})),
        *answers,
        **options,
    )


def test_a_validation_that_fails_says_that_nothing_was_restored() -> None:
    with pytest.raises(
        AzureBackupRefusedError, match=r"nothing was restored, Azure says .* would not work.*Recommended: "
    ) as told:
        validated(ACCEPTED, ok("vault_operation_in_progress"), ok("vault_operation_failed"))
    assert told.value.code
    assert not isinstance(told.value, AzureBackupBusyError)


def test_a_validation_that_is_refused_at_once_says_so_too() -> None:
    no = answered(400, {"error": {"code": "UserErrorInvalid", "message": "No such store."}})
    with pytest.raises(AzureBackupRefusedError, match=r"nothing was restored, .*No such store") as told:
        validated(no)
    assert (told.value.status, told.value.code) == (400, "UserErrorInvalid")


def test_a_validation_that_names_no_operation_has_not_passed() -> None:
    with pytest.raises(AzureBackupTransientError, match=r"nothing was restored, .* names no operation"):
        validated(answered(202))


def test_a_validation_without_an_end_is_a_fault_that_may_pass_and_no_start() -> None:
    with pytest.raises(AzureBackupTransientError, match=r"nothing was restored, .* did not end within 300 s"):
        validated(ACCEPTED, then=ok("vault_operation_in_progress"))


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (LOST, AzureBackupTransientError),
        (answered(503), AzureBackupTransientError),
        (answered(403, {"error": {"code": "AuthorizationFailed", "message": "no"}}), AzureBackupAuthError),
    ],
    ids=["lost", "broken", "forbidden"],
)
def test_a_validation_that_cannot_be_asked_for_is_never_a_restore_of_unknown_fate(
    answer: Any, kind: type[Exception]
) -> None:
    with pytest.raises(kind) as told:
        validated(answer)
    assert not isinstance(told.value, AzureBackupUnconfirmedStartError)


# --- one restore for one intent


def an_intent(**changes: Any) -> RestoreIntent:
    order = RestorePlan.read(DISK, restore_to=TARGET)
    return RestoreIntent(
        **{
            "item": DISK,
            "plan": order,
            "attempt": "max_tries=0 retries=0 clears=0",
            "now": START,
            "timeout": 3600.0,
            "if_running": "fail",
            **changes,
        }
    )


def a_job(operation: str = "Restore", **properties: Any) -> dict[str, Any]:
    return {
        "name": JOB.job_id,
        "properties": {
            "status": "InProgress",
            "operation": operation,
            "backupInstanceId": DISK.path,
            "startTime": datetime.fromtimestamp(START + 1, UTC).isoformat(),
            **properties,
        },
    }


NAMED = answered(200, {"status": "Succeeded", "properties": {"jobId": JOB.path}})
NONE = listed()
READY = (INSTANCE, listed(point("1", 1)), answered(200))


def test_a_restore_is_looked_for_then_validated_then_sent() -> None:
    played, notes = secure(an_intent(), NONE, *READY, ACCEPTED, NAMED)
    assert [call.path.rpartition("/")[2] for call in played.requests if call.method == "POST"] == [
        "validateRestore",
        "restore",
    ]
    assert (played.result.ref, played.result.workload) == (JOB, "backupinstance")
    assert notes[-1] is not None
    assert notes[-1].recovery_point["recovery_point_id"] == "1"


def test_faults_of_a_validation_are_waited_out_and_it_is_asked_for_again() -> None:
    answers = (NONE, INSTANCE, listed(point("1", 1)), LOST, answered(503), answered(200), ACCEPTED, NAMED)
    played, _ = secure(an_intent(), *answers)
    assert sum(call.path.endswith("/validateRestore") for call in played.requests) == 3
    assert sum(call.path.endswith("/restore") for call in played.requests) == 1


def test_a_restore_whose_answer_is_lost_is_looked_for_and_not_validated_again() -> None:
    ours = answered(200, {"value": [a_job()]}, date=formatdate(START))
    first = answered(200, {"value": []}, date=formatdate(START - 60))
    played, _ = secure(an_intent(), first, *READY, LOST, ours, answered(200, a_job()))
    assert (played.result.ref, played.result.started_by) == (JOB, "found")
    assert sum(call.method == "POST" for call in played.requests) == 2


def test_a_running_restore_of_somebody_else_is_in_the_way_before_anything_is_validated() -> None:
    asked: list[Request] = []
    with pytest.raises(AzureBackupBusyError, match=r"a restore of .* that began at .*if_running"):
        secure(an_intent(), listed(a_job()), requests=asked)
    assert [call.method for call in asked] == ["GET"]
    assert secure(an_intent(if_running="adopt"), listed(a_job()))[0].result.ref == JOB
    assert secure(an_intent(if_running="wait"), listed(a_job()))[0].result.other.ref == JOB


def test_a_restore_that_began_during_a_long_validation_is_in_the_way() -> None:
    asked: list[Request] = []
    slow = [ok("vault_operation_in_progress")] * 15
    answers = (NONE, INSTANCE, listed(point("1", 1)), ACCEPTED, *slow, PASSED, listed(a_job()))
    with pytest.raises(AzureBackupBusyError, match=r"a restore of .* that began at .*if_running"):
        secure(an_intent(), *answers, requests=asked)
    assert [call.path.rpartition("/")[2] for call in asked if call.method == "POST"] == ["validateRestore"]
    played, _ = secure(an_intent(), *answers[:-1], NONE, ACCEPTED, NAMED)
    assert (played.result.ref, played.result.started_by) == (JOB, "this task")


@pytest.mark.parametrize(
    "other", [a_job("Backup"), a_job(status="Completed"), a_job(backupInstanceId=f"{DISK.path}-2")]
)
def test_other_jobs_of_the_vault_are_in_nobodys_way(other: dict[str, Any]) -> None:
    started = secure(an_intent(), listed(other), *READY, ACCEPTED, NAMED)[0].result
    assert (started.ref, started.started_by) == (JOB, "this task")


def test_a_target_of_the_other_type_of_vault_is_refused_for_an_item_of_either() -> None:
    with pytest.raises(AzureBackupConfigError, match="'disks' is for what Recovery Services vaults keep"):
        RestorePlan.read(DISK, restore_to=disks(storage_account_id=ACCOUNT))
    with pytest.raises(AzureBackupConfigError, match="'new_disk' is for what Backup vaults"):
        RestorePlan.read(ITEM, restore_to=TARGET)

"""What may be written of a restore, and the request it becomes: as recorded, and as Microsoft shows it."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from urllib.parse import unquote

import pytest

from airflow_provider_azbackup.core.model.resources import ProtectedItem
from airflow_provider_azbackup.core.model.validation import read_datetime
from airflow_provider_azbackup.core.rest import requests
from airflow_provider_azbackup.core.restore.check import check_restore, read_request, split_point_id
from airflow_provider_azbackup.core.restore.recovery_services_request import restore_request
from airflow_provider_azbackup.core.restore.targets import read_target
from airflow_provider_azbackup.exceptions import AzureBackupConfigError
from airflow_provider_azbackup.restore_to import (
    disks,
    new_vm,
    original_database,
    original_share,
    original_vm,
    other_database,
    other_share,
)
from tests.support.play import ITEM, VAULT
from tests.support.recordings import EXAMPLES, exchanges, needs_recordings

GROUP = f"/subscriptions/{VAULT.subscription_id}/resourceGroups/drill-rg"
ACCOUNT = f"{GROUP}/providers/Microsoft.Storage/storageAccounts/staging"
MACHINE = f"{GROUP}/providers/Microsoft.Compute/virtualMachines/shop-drill"
NETWORK = f"{GROUP}/providers/Microsoft.Network/virtualNetworks/drill-net"
SUBNET = f"{NETWORK}/subnets/default"
SOURCE = f"/subscriptions/{VAULT.subscription_id}/resourceGroups/apps-rg/providers/Microsoft.X/y/z"
MOMENT = datetime(2026, 9, 21, 13, 30, tzinfo=UTC)

SHARE = ProtectedItem(
    vault=VAULT, container="StorageContainer;storage;apps-rg;shop", name="AzureFileShare;1f"
)
SQL = ProtectedItem(
    vault=VAULT, container="VMAppContainer;compute;apps-rg;sqlvm", name="SQLDataBase;mssqlserver;shop"
)
HANA = ProtectedItem(
    vault=VAULT, container="VMAppContainer;compute;apps-rg;hanavm", name="SAPHanaDatabase;hxe;shop"
)
INSTANCE = ProtectedItem(vault=VAULT, container="VMAppContainer;compute;a;b", name="SAPHanaDBInstance;hxe")

MACHINES = {
    "objectType": "IaasVMRestoreRequest",
    "recoveryPointId": "42",
    "sourceResourceId": SOURCE,
    "storageAccountId": ACCOUNT,
    "region": "westeurope",
    "createNewCloudService": False,
    "originalStorageAccountOption": False,
}
SHARES = {
    "objectType": "AzureFileShareRestoreRequest",
    "sourceResourceId": SOURCE,
    "copyOptions": "Overwrite",
    "restoreRequestType": "FullShareRestore",
}
ASIDE = {"name": "drill", "targetResourceId": ACCOUNT}
TARGET = {
    "overwriteOption": "FailOnConflict",
    "containerId": f"{VAULT.path}/backupFabrics/Azure/protectionContainers/{SQL.container}",
    "databaseName": "MSSQLSERVER/shop_drill",
}
SQLS = {"shouldUseAlternateTargetLocation": True, "isNonRecoverable": False}
ELSEWHERE = (
    f"{VAULT.path}/backupFabrics/Azure/protectionContainers/VMAppContainer;compute;drill-rg;shop-drill"
)
DIRECTORIES = [
    {
        "mappingType": "Data",
        "sourceLogicalName": "shop",
        "sourcePath": r"F:\shop.mdf",
        "targetPath": r"G:\a.mdf",
    }
]

# target, item, request
BODIES: dict[str, tuple[dict[str, Any], ProtectedItem, dict[str, Any]]] = {
    "disks": (
        disks(storage_account_id=ACCOUNT),
        ITEM,
        {**MACHINES, "recoveryType": "RestoreDisks"},
    ),
    "disks into a group": (
        disks(storage_account_id=ACCOUNT, resource_group_id=GROUP, luns=(0, 2), region="northeurope"),
        ITEM,
        {
            **MACHINES,
            "recoveryType": "RestoreDisks",
            "targetResourceGroupId": GROUP,
            "restoreDiskLunList": [0, 2],
            "region": "northeurope",
        },
    ),
    "the system disk alone": (
        disks(storage_account_id=ACCOUNT, luns=[]),
        ITEM,
        {**MACHINES, "recoveryType": "RestoreDisks", "restoreDiskLunList": []},
    ),
    "a new machine": (
        new_vm(vm_id=MACHINE, subnet_id=SUBNET, storage_account_id=ACCOUNT, more={"zones": ["1"]}),
        ITEM,
        {
            **MACHINES,
            "recoveryType": "AlternateLocation",
            "targetVirtualMachineId": MACHINE,
            "targetResourceGroupId": GROUP,
            "virtualNetworkId": NETWORK,
            "subnetId": SUBNET,
            "zones": ["1"],
        },
    ),
    "the machine itself": (
        original_vm(storage_account_id=ACCOUNT),
        ITEM,
        {**MACHINES, "recoveryType": "OriginalLocation"},
    ),
    "the share itself": (
        original_share(copy_options="Overwrite"),
        SHARE,
        {**SHARES, "recoveryType": "OriginalLocation"},
    ),
    "some of the share": (
        original_share(copy_options="Skip", files=["a/b.txt"], folders=["c"]),
        SHARE,
        {
            **SHARES,
            "recoveryType": "OriginalLocation",
            "copyOptions": "Skip",
            "restoreRequestType": "ItemLevelRestore",
            "restoreFileSpecs": [
                {"path": "a/b.txt", "fileSpecType": "File"},
                {"path": "c", "fileSpecType": "Directory"},
            ],
        },
    ),
    "another share": (
        other_share(storage_account_id=ACCOUNT, share="drill", copy_options="Overwrite"),
        SHARE,
        {**SHARES, "recoveryType": "AlternateLocation", "targetDetails": ASIDE},
    ),
    "a folder of another share": (
        other_share(storage_account_id=ACCOUNT, share="drill", copy_options="Overwrite", folder="monday"),
        SHARE,
        {
            **SHARES,
            "recoveryType": "AlternateLocation",
            "targetDetails": ASIDE,
            "restoreFileSpecs": [{"targetFolderPath": "monday"}],
        },
    ),
    "a file into a folder of another share": (
        other_share(
            storage_account_id=ACCOUNT, share="drill", copy_options="Overwrite", folder="monday", files=["a"]
        ),
        SHARE,
        {
            **SHARES,
            "recoveryType": "AlternateLocation",
            "targetDetails": ASIDE,
            "restoreRequestType": "ItemLevelRestore",
            "restoreFileSpecs": [{"path": "a", "fileSpecType": "File", "targetFolderPath": "monday"}],
        },
    ),
    "SQL over itself": (
        original_database(),
        SQL,
        {"objectType": "AzureWorkloadSQLRestoreRequest", "recoveryType": "OriginalLocation", **SQLS},
    ),
    "SQL next to itself": (
        other_database(database="MSSQLSERVER/shop_drill", files=DIRECTORIES),
        SQL,
        {
            "objectType": "AzureWorkloadSQLRestoreRequest",
            "recoveryType": "AlternateLocation",
            "sourceResourceId": SOURCE,
            "targetInfo": TARGET,
            "targetVirtualMachineId": SOURCE,
            "alternateDirectoryPaths": DIRECTORIES,
            **SQLS,
        },
    ),
    "SAP HANA over itself": (
        original_database(),
        HANA,
        {"objectType": "AzureWorkloadSAPHanaRestoreRequest", "recoveryType": "OriginalLocation"},
    ),
    "SAP HANA on another server": (
        other_database(database="HXE/DRILL", vm_id=MACHINE, overwrite=True),
        HANA,
        {
            "objectType": "AzureWorkloadSAPHanaRestoreRequest",
            "recoveryType": "AlternateLocation",
            "sourceResourceId": SOURCE,
            "targetInfo": {
                "overwriteOption": "Overwrite",
                "containerId": ELSEWHERE,
                "databaseName": "HXE/DRILL",
            },
            "targetVirtualMachineId": MACHINE,
        },
    ),
}


def properties_of(target: dict[str, Any], item: ProtectedItem, **options: Any) -> Any:
    body = restore_request(item, target, point_id="42", source_id=SOURCE, region="westeurope", **options)
    assert set(body) == {"properties"}
    return body["properties"]


@pytest.mark.parametrize("name", BODIES)
def test_a_target_becomes_the_request_of_its_workload(name: str) -> None:
    target, item, expected = BODIES[name]
    assert properties_of(target, item) == expected


@pytest.mark.parametrize("name", BODIES)
def test_a_target_is_plain_json_that_reads_back_as_itself(name: str) -> None:
    target = BODIES[name][0]
    assert read_target(json.loads(json.dumps(target))) == target


@pytest.mark.parametrize(
    ("item", "kind"), [(SQL, "AzureWorkloadSQL"), (HANA, "AzureWorkloadSAPHana")], ids=["SQL", "SAP HANA"]
)
@pytest.mark.parametrize(
    "target", [original_database(), other_database(database="A/B")], ids=["same", "other"]
)
def test_a_point_in_time_is_a_request_of_its_own(
    item: ProtectedItem, kind: str, target: dict[str, Any]
) -> None:
    there = MOMENT.astimezone(timezone(timedelta(hours=2)))
    asked = properties_of(target, item, point_in_time=there)
    assert asked.pop("pointInTime") == "2026-09-21T13:30:00Z"
    assert asked.pop("objectType") == f"{kind}PointInTimeRestoreRequest"
    plain = properties_of(target, item)
    del plain["objectType"]
    assert asked == plain


def test_a_container_that_is_named_is_taken_as_it_is() -> None:
    aside = f"{VAULT.path}-2/backupFabrics/Azure/protectionContainers/SQLAGWorkLoadContainer;1;ag"
    target = other_database(database="AG/shop", container_id=aside, vm_id=MACHINE)
    assert properties_of(target, SQL)["targetInfo"]["containerId"] == aside


@pytest.mark.parametrize(
    ("item", "target", "fitting"),
    [
        (ITEM, original_database(), "disks, new_vm, original_vm"),
        (SHARE, disks(storage_account_id=ACCOUNT), "original_share, other_share"),
        (SQL, original_share(copy_options="Skip"), "original_database, other_database"),
        (INSTANCE, original_database(), "in Azure's own words"),
    ],
    ids=["vm", "share", "database", "instance"],
)
def test_a_target_of_another_workload_is_refused_with_those_that_fit(
    item: ProtectedItem, target: dict[str, Any], fitting: str
) -> None:
    with pytest.raises(AzureBackupConfigError, match=fitting):
        properties_of(target, item)


def test_the_call_names_item_and_recovery_point() -> None:
    call = requests.trigger_restore(ITEM, "42", {"properties": {}})
    assert (call.method, call.path) == ("POST", f"{ITEM.path}/recoveryPoints/42/restore")


# --- as recorded, and as Microsoft's examples show it


def recorded(name: str) -> tuple[str, dict[str, Any]]:
    """The path and the properties of a recording's restore request."""
    (found,) = [
        each["request"]
        for each in exchanges(name)
        if each["request"]["uri"].partition("?")[0].endswith("/restore")
    ]
    path = unquote(re.sub("^https://[^/]+", "", found["uri"].partition("?")[0]))
    return path, found["body"]["properties"]


def place_of(body: dict[str, Any]) -> dict[str, Any]:
    """The target a DAG author would have written to get this request."""
    to, account = body["recoveryType"], body.get("storageAccountId", "")
    if body["objectType"].startswith("AzureFileShare"):
        if to == "OriginalLocation":
            return original_share(copy_options=body["copyOptions"])
        target = body["targetDetails"]
        return other_share(
            storage_account_id=target["targetResourceId"],
            share=target["name"],
            copy_options=body["copyOptions"],
        )
    if body["objectType"].startswith("AzureWorkload"):
        if to == "OriginalLocation":
            return original_database()
        target = body["targetInfo"]
        return other_database(
            database=target["databaseName"],
            vm_id=body["targetVirtualMachineId"],
            overwrite=target["overwriteOption"] == "Overwrite",
        )
    if to == "RestoreDisks":
        return disks(storage_account_id=account)
    return new_vm(
        vm_id=body["targetVirtualMachineId"], subnet_id=body["subnetId"], storage_account_id=account
    )


def is_the_same(path: str, body: dict[str, Any], drop: tuple[str, ...] = ()) -> None:
    where, _, point_id = path.removesuffix("/restore").partition("/recoveryPoints/")
    item = ProtectedItem.parse(where)
    ours = restore_request(
        item,
        place_of(body),
        point_id=point_id,
        source_id=body.get("sourceResourceId", ""),
        region=body.get("region", ""),
    )
    assert requests.trigger_restore(item, point_id, ours).path == path

    def plain(properties: dict[str, Any]) -> Any:
        kept = {name: value for name, value in properties.items() if name not in drop}
        return json.loads(
            json.dumps(kept).casefold()
        )  # Azure's own clients spell container ids in lower case

    assert plain(ours["properties"]) == plain(body)


@needs_recordings
@pytest.mark.parametrize(
    ("name", "drop"),
    [
        ("vm_restore_disks_completed", ()),
        ("vm_restore_failed", ("createNewCloudService",)),  # true in 2021, false in 2023
        ("afs_restore_completed", ()),
        ("afs_restore_failed", ()),
        ("hana_restore_failed", ()),
        ("hana_restore_transient_500", ()),
    ],
)
def test_requests_are_those_that_were_recorded(name: str, drop: tuple[str, ...]) -> None:
    path, body = recorded(name)
    is_the_same(path, body, drop)


@needs_recordings
@pytest.mark.parametrize("name", ["ALR_IaasVMRestoreRequest", "RestoreDisks_IaasVMRestoreRequest"])
def test_requests_are_those_of_microsofts_examples(name: str) -> None:
    shown = json.loads((EXAMPLES / f"rsv__AzureIaasVm__TriggerRestore_{name}.json").read_text())["parameters"]
    body = shown["parameters"]["properties"]
    # What the examples say beyond that is for `more`; the cloud service is of a time before Resource Manager.
    extra = {"encryptionDetails", "identityInfo", "targetDiskNetworkAccessSettings"}
    path = (
        f"/subscriptions/{shown['subscriptionId']}/resourceGroups/{shown['resourceGroupName']}"
        f"/providers/Microsoft.RecoveryServices/vaults/{shown['vaultName']}/backupFabrics/Azure"
        f"/protectionContainers/{shown['containerName']}/protectedItems/{shown['protectedItemName']}"
        f"/recoveryPoints/{shown['recoveryPointId']}/restore"
    )
    is_the_same(path, body, (*extra, "createNewCloudService"))
    assert extra & set(body) <= set(
        properties_of(
            disks(storage_account_id=ACCOUNT, more={name: body[name] for name in extra & set(body)}), ITEM
        )
    )


# --- what is refused, and what is left to be rendered


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (
            lambda: disks(storage_account_id="staging"),
            r"storage_account_id 'staging' is not an ARM id.*Storage",
        ),
        (lambda: disks(storage_account_id=None), "storage_account_id None is not an ARM id"),
        (
            lambda: disks(storage_account_id=ACCOUNT, resource_group_id="drill-rg"),
            "resource_group_id 'drill-rg'",
        ),
        (lambda: disks(storage_account_id=ACCOUNT, luns="0"), "luns is the text '0'; expected a list"),
        (lambda: original_vm(storage_account_id=MACHINE), "storage_account_id .* is not an ARM id"),
        (
            lambda: new_vm(vm_id="shop-drill", subnet_id=SUBNET, storage_account_id=ACCOUNT),
            "vm_id 'shop-drill' is not an ARM id",
        ),
        (
            lambda: new_vm(vm_id=MACHINE, subnet_id=NETWORK, storage_account_id=ACCOUNT),
            "subnet_id .* is not an ARM id",
        ),
        (
            lambda: original_share(copy_options="overwrite"),
            r"copy_options is 'overwrite' .*'Overwrite'.*; expected one of Overwrite",
        ),
        (
            lambda: original_share(copy_options="Skip", files="a.txt"),
            "files is the text 'a.txt'; expected a list",
        ),
        (lambda: other_database(database="shop"), "'shop' is not of the form <instance>/<database>"),
        (lambda: other_database(database="A/B", vm_id="sqlvm"), "vm_id 'sqlvm' is not an ARM id"),
        (lambda: other_database(database="A/B", container_id=VAULT.path), "container_id .* is not an ARM id"),
        (
            lambda: read_target({"storage_account_id": ACCOUNT}),
            "names the target 'None'; expected one of disks, new",
        ),
        (lambda: read_target({"target": "moon"}), "names the target 'moon'"),
        (
            lambda: read_target({"target": "disks", "storage_account": ACCOUNT}),
            "unexpected keyword.*storage_account'",
        ),
        (lambda: read_target({"target": "disks"}), "missing.*storage_account_id"),
        (lambda: read_request({"recoveryType": "RestoreDisks"}), "request has no objectType"),
        (lambda: read_request({"properties": None}), "request has no objectType"),
        (lambda: split_point_id("/subscriptions/1"), "'/subscriptions/1' is neither 'latest', nor the id"),
        (lambda: split_point_id(f"{ITEM.path}/recoveryPoints/"), "is neither 'latest'"),
        (lambda: split_point_id("x/recoveryPoints/7"), "is neither 'latest'"),
        (lambda: read_datetime("as_of", "yesterday"), "as_of 'yesterday' is not a date and time"),
        (lambda: read_datetime("as_of", 5), "as_of 5 is not a date and time"),
    ],
)
def test_what_can_be_no_target_no_request_and_no_moment_is_refused(make: Any, told: str) -> None:
    with pytest.raises(AzureBackupConfigError, match=told):
        make()


TARGET = disks(storage_account_id=ACCOUNT)
RAW = {"objectType": "IaasVMRestoreRequest"}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "neither of restore_to and request"),
        ({"restore_to": TARGET, "request": RAW}, "both of restore_to and request"),
        (
            {"restore_to": "disks"},
            "restore_to is the text 'disks'; expected a dict.*render_template_as_native",
        ),
        ({"restore_to": {"target": "moon"}}, "names the target 'moon'"),
        ({"request": {}}, "request has no objectType"),
        ({"restore_to": TARGET, "recovery_point": "/x"}, "recovery_point '/x' is neither"),
        (
            {"restore_to": TARGET, "recovery_point": "7", "as_of": MOMENT},
            "recovery_point and as_of are given",
        ),
        (
            {"restore_to": original_database(), "as_of": "{{ ts }}", "point_in_time": MOMENT},
            "as_of and point_in_time are given",
        ),
        ({"restore_to": TARGET, "as_of": "soon"}, "as_of 'soon' is not a date and time"),
        ({"restore_to": original_database(), "point_in_time": 12}, "point_in_time 12 is not a date and time"),
        ({"restore_to": TARGET, "point_in_time": MOMENT}, "point_in_time is for databases.*'disks'"),
        ({"request": RAW, "point_in_time": MOMENT}, "a request brings its own pointInTime"),
    ],
)
def test_what_can_be_no_restore_is_refused_before_it_is_tried(options: dict[str, Any], told: str) -> None:
    with pytest.raises(AzureBackupConfigError, match=told):
        check_restore(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"restore_to": "{{ var.json.target }}"},
        {"request": "{{ var.json.request }}", "recovery_point": "{{ params.point }}"},
        {"restore_to": disks(storage_account_id="{{ var.value.staging }}", luns="{{ params.luns }}")},
        {"restore_to": other_database(database="{{ params.to }}", vm_id="{{ params.vm }}")},
        {"restore_to": original_share(copy_options="{{ params.how }}", files="{{ params.files }}")},
        {"restore_to": original_database(), "point_in_time": "{{ ts }}"},
        {"restore_to": TARGET, "as_of": "{{ ts }}"},
        {"restore_to": TARGET, "recovery_point": f"{ITEM.path}/recoveryPoints/7"},
        {"restore_to": TARGET, "as_of": "", "point_in_time": None, "recovery_point": "latest"},
        {"restore_to": object(), "as_of": object()},  # what another task will return
    ],
)
def test_templates_and_what_other_tasks_return_are_left_to_be_rendered(options: dict[str, Any]) -> None:
    check_restore(**options)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("", None),
        ("2026-09-21T13:30:00Z", MOMENT),
        ("2026-09-21T15:30:00+02:00", MOMENT),
        ("2026-09-21 13:30", MOMENT),
        (MOMENT.replace(tzinfo=None), MOMENT),
        (MOMENT.astimezone(timezone(timedelta(hours=-7))), MOMENT),
    ],
)
def test_a_moment_is_read_in_utc(value: Any, expected: datetime | None) -> None:
    assert read_datetime("as_of", value) == expected


def test_a_request_in_azures_own_words_stays_as_it_is() -> None:
    assert read_request(RAW) == {"properties": RAW}
    assert read_request({"properties": RAW, "tags": {}}) == {"properties": RAW, "tags": {}}

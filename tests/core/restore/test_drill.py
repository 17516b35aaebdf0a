"""What a restore drill may restore to, how it names that, and what it says that it has made."""

from __future__ import annotations

import re
from typing import Any

import pytest

from airflow_provider_azbackup.core.restore import targets
from airflow_provider_azbackup.core.restore.drill import (
    _DRILLS,
    check_drill,
    made_by,
    suffix_of,
    unique_target,
)
from airflow_provider_azbackup.core.restore.targets import TARGETS
from airflow_provider_azbackup.exceptions import AzureBackupConfigError

GROUP = "/subscriptions/s/resourceGroups/g"
ACCOUNT = f"{GROUP}/providers/Microsoft.Storage/storageAccounts/staging"
SUBNET = f"{GROUP}/providers/Microsoft.Network/virtualNetworks/n/subnets/d"
SERVER = f"{GROUP}/providers/Microsoft.DBforPostgreSQL/servers/pg"
CLUSTER = f"{GROUP}/providers/Microsoft.ContainerService/managedClusters/aks"
LONG = "x" * 300
SUFFIX = suffix_of("dag", "run", "task", -1, 1)

# A target of each kind, and kind, name and the beginning of the command of each thing that it makes. "~" is
# the suffix.
MADE: dict[str, tuple[dict[str, Any], list[tuple[str, str, str]]]] = {
    "disks": (
        targets.disks(storage_account_id=ACCOUNT),
        [("blobs, named by Azure, in a storage account", "staging", "")],
    ),
    "new_vm": (
        targets.new_vm(
            vm_id=f"{GROUP}/providers/Microsoft.Compute/virtualMachines/shop",
            subnet_id=SUBNET,
            storage_account_id=ACCOUNT,
        ),
        [("virtual machine", "shop-~", "az resource delete --ids /subscriptions/s/")],
    ),
    "other_share": (
        targets.other_share(storage_account_id=ACCOUNT, share="drills", copy_options="Skip", folder="a/b"),
        [
            (
                "folder of a file share",
                "a/b/drill-~",
                "az storage remove --account-name staging --share-name drills",
            )
        ],
    ),
    "other_database": (
        targets.other_database(database="MSSQLSERVER/payroll"),
        [("database in a VM", "MSSQLSERVER/payroll_~~", 'DROP DATABASE "payroll_~~"')],
    ),
    "new_disk": (
        targets.new_disk(disk_id=f"{GROUP}/providers/Microsoft.Compute/disks/data"),
        [("disk", "data-~", "az resource delete --ids /subscriptions/s/")],
    ),
    "other_blobs": (
        targets.other_blobs(storage_account_id=ACCOUNT, containers=["a", "b"]),
        [
            ("blob container", "a", "az storage container delete --account-name staging --name a"),
            ("blob container", "b", "az storage container delete --account-name staging --name b"),
        ],
    ),
    "database_files": (
        targets.database_files(container_url="https://acc.blob.core.windows.net/dumps", prefix="pg-"),
        [("blobs with a prefix", "pg-~", "az storage blob delete-batch --account-name acc --source dumps")],
    ),
    "new_database": (
        targets.new_database(database_id=f"{SERVER}/databases/orders"),
        [("database", "orders-~", "az resource delete --ids /subscriptions/s/")],
    ),
    "cluster": (
        targets.cluster(cluster_id=CLUSTER, namespaces=["shop"], namespace_mappings={"shop": "shop2"}),
        [
            (
                "namespace of a cluster",
                "shop2-~",
                "az aks command invoke --subscription s --resource-group g --name aks",
            )
        ],
    ),
}


def test_every_target_is_either_for_drills_or_restores_in_place() -> None:
    assert set(TARGETS) - set(_DRILLS) == {name for name in TARGETS if name.startswith("original_")}
    assert set(MADE) == set(_DRILLS)


@pytest.mark.parametrize("name", MADE)
def test_a_drill_names_what_it_makes(name: str) -> None:
    target, expected = MADE[name]
    renamed = unique_target(target, SUFFIX)
    made = made_by(renamed, {})
    assert [(each["kind"], each["name"]) for each in made] == [
        (kind, shown.replace("~~", SUFFIX.upper()).replace("~", SUFFIX)) for kind, shown, _ in expected
    ]
    for each, (_, _, command) in zip(made, expected, strict=True):
        assert each["remove"].startswith(command.replace("~~", SUFFIX.upper()))
    targets.read_target(renamed)  # still one that its function makes
    assert target == MADE[name][0]


@pytest.mark.parametrize(
    ("name", "field", "value", "longest"),
    [
        ("new_vm", "vm_id", f"{GROUP}/providers/Microsoft.Compute/virtualMachines/{LONG}", 64),
        ("new_disk", "disk_id", f"{GROUP}/providers/Microsoft.Compute/disks/{LONG}", 80),
        ("new_database", "database_id", f"{SERVER}/databases/{LONG}", 63),
        ("other_database", "database", f"I/{LONG}", 122),
    ],
)
def test_a_name_keeps_within_azures_limits(name: str, field: str, value: str, longest: int) -> None:
    renamed = unique_target({**MADE[name][0], field: value}, SUFFIX)
    assert len(made_by(renamed, {})[0]["name"]) == longest
    assert renamed[field].casefold().endswith(SUFFIX)


def test_a_suffix_is_another_one_for_everything_that_differs() -> None:
    parts = [
        ("d", "r", "t", index, clears, number) for index in (-1, 0) for clears in "01" for number in (1, 2)
    ]
    assert len({suffix_of(*each) for each in parts}) == len(parts)
    assert suffix_of(*parts[0]) == suffix_of(*parts[0])
    assert all(re.fullmatch("[a-z2-7]{8}", suffix_of(*each)) for each in parts)


def test_the_disks_of_a_vm_are_found_by_what_azure_named_them() -> None:
    target = targets.disks(storage_account_id=ACCOUNT, resource_group_id=GROUP)
    blobs, group = made_by(target, {"Config Blob Container Name": "shop-1f0e"})
    assert blobs["arm_id"] == f"{ACCOUNT}/blobServices/default/containers/shop-1f0e"
    assert (group["arm_id"], group["name"]) == (GROUP, "g")


def test_a_command_cannot_be_broken_by_a_name() -> None:
    target = {**MADE["other_share"][0], "folder": "a; rm -rf $HOME"}
    (made,) = made_by(unique_target(target, SUFFIX), {})
    assert f"--path 'a; rm -rf $HOME/drill-{SUFFIX}'" in made["remove"]


@pytest.mark.parametrize(
    ("target", "complaint"),
    [
        (targets.original_vm(storage_account_id=ACCOUNT), "never restores in place"),
        (targets.original_share(copy_options="Skip"), "never restores in place"),
        (targets.original_database(), "never restores in place"),
        (targets.original_blobs(), "never restores in place"),
        (targets.other_database(database="I/d", overwrite=True), "overwrite=True replaces"),
        (targets.cluster(namespaces=["a"], conflict_policy="Patch"), "conflict_policy='Patch' changes"),
        (targets.cluster(), "needs namespaces"),
        (
            targets.cluster(namespaces=["a"], criteria={"namespaceMappings": {}}),
            "criteria .*namespaceMappings",
        ),
        (targets.other_blobs(storage_account_id=ACCOUNT), "needs containers"),
        ({**MADE["new_vm"][0], "more": {"targetVirtualMachineId": "x"}}, "more .*targetVirtualMachineId"),
        (None, "no restore_to"),
    ],
)
def test_what_could_change_something_that_is_there_is_refused(target: Any, complaint: str) -> None:
    with pytest.raises(AzureBackupConfigError, match=complaint):
        check_drill(target)


def test_templates_are_left_until_they_are_rendered() -> None:
    check_drill(targets.new_disk(disk_id="{{ var.value.disk }}"))
    check_drill({**MADE["new_vm"][0], "more": {"zones": ["1"]}})

"""What exists at the start: one tenant, its subscriptions, vaults of both types, four principals."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from azure_backup_emulator.model.checks import fitting, known
from azure_backup_emulator.model.instances import DATA_SOURCES
from azure_backup_emulator.model.items import WORKLOADS
from azure_backup_emulator.model.jobs import one_of

# Role definitions: https://learn.microsoft.com/azure/role-based-access-control/built-in-roles/storage
READER_ACTIONS = (
    "Microsoft.RecoveryServices/Vaults/read",
    "Microsoft.RecoveryServices/Vaults/backupProtectedItems/read",
    "Microsoft.RecoveryServices/Vaults/backupProtectionContainers/read",
    "Microsoft.RecoveryServices/Vaults/backupFabrics/protectionContainers/protectedItems/read",
    "Microsoft.RecoveryServices/Vaults/backupFabrics/protectionContainers/protectedItems/operationsStatus/read",
    "Microsoft.RecoveryServices/Vaults/backupFabrics/protectionContainers/protectedItems/operationResults/read",
    "Microsoft.RecoveryServices/Vaults/backupFabrics/protectionContainers/protectedItems/recoveryPoints/read",
    "Microsoft.RecoveryServices/Vaults/backupOperations/read",
    "Microsoft.RecoveryServices/Vaults/backupJobs/read",
    "Microsoft.RecoveryServices/Vaults/backupJobs/operationResults/read",
    "Microsoft.RecoveryServices/Vaults/backupJobsExport/action",
    "Microsoft.RecoveryServices/Vaults/backupPolicies/read",
    "Microsoft.RecoveryServices/Vaults/backupUsageSummaries/read",
    "Microsoft.RecoveryServices/locations/backupStatus/action",
    "Microsoft.RecoveryServices/locations/backupCrrJob/action",
    "Microsoft.RecoveryServices/locations/backupCrrJobs/action",
    "Microsoft.RecoveryServices/locations/backupCrrOperationResults/read",
    "Microsoft.RecoveryServices/locations/backupCrrOperationsStatus/read",
    "Microsoft.DataProtection/backupVaults/read",
    "Microsoft.DataProtection/backupVaults/backupInstances/read",
    "Microsoft.DataProtection/backupVaults/backupInstances/recoveryPoints/read",
    "Microsoft.DataProtection/backupVaults/backupPolicies/read",
    "Microsoft.DataProtection/backupVaults/operationStatus/read",
    "Microsoft.DataProtection/locations/operationResults/read",
    "Microsoft.DataProtection/locations/operationStatus/read",
    *(
        f"Microsoft.DataProtection/subscriptions/resourceGroups/providers/locations/{each}/action"
        for each in (
            "fetchCrossRegionRestoreJob",
            "fetchCrossRegionRestoreJobs",
            "fetchSecondaryRecoveryPoints",
        )
    ),
)
OPERATOR_ACTIONS = (
    *READER_ACTIONS,
    "Microsoft.RecoveryServices/Vaults/backupFabrics/protectionContainers/protectedItems/backup/action",
    "Microsoft.RecoveryServices/Vaults/backupFabrics/protectionContainers/protectedItems/recoveryPoints/restore/action",
    "Microsoft.Authorization/*/read",
    "Microsoft.RecoveryServices/Vaults/backupTriggerValidateOperation/action",
    "Microsoft.RecoveryServices/Vaults/backupValidateOperationResults/read",
    "Microsoft.RecoveryServices/Vaults/backupValidateOperationsStatuses/read",
    "Microsoft.RecoveryServices/Vaults/backupFabrics/protectionContainers/protectedItems/recoveryPoints/accessToken/action",
    "Microsoft.RecoveryServices/locations/backupAadProperties/read",
    "Microsoft.RecoveryServices/locations/backupCrossRegionRestore/action",
    "Microsoft.RecoveryServices/Vaults/backupJobs/*",
    "Microsoft.RecoveryServices/Vaults/backupResourceGuardProxies/read",
    "Microsoft.DataProtection/backupVaults/backupInstances/backup/action",
    "Microsoft.DataProtection/backupVaults/backupInstances/restore/action",
    "Microsoft.DataProtection/backupVaults/backupInstances/validateRestore/action",
    "Microsoft.DataProtection/backupVaults/backupInstances/findRestorableTimeRanges/action",
    *(
        f"Microsoft.DataProtection/subscriptions/resourceGroups/providers/locations/{each}/action"
        for each in ("crossRegionRestore", "validateCrossRegionRestore")
    ),
)
# Neither role contains it. A principal that waits for jobs of a Backup vault needs a custom role as well.
BACKUP_VAULT_JOBS = "Microsoft.DataProtection/backupVaults/backupJobs/read"

_VM_IS_OFF = {
    "errorCode": 400094,  # Azure's page names the title only; the number is this emulator's own.
    "errorTitle": "UserErrorVmNotInDesirableState",
    "errorString": "VM is not in a state that allows backups.",
    "recommendations": [
        "Check that the virtual machine is running and that its provisioning state is Succeeded.",
        "If the virtual machine is being changed or restarted, wait for that to end and retry the backup.",
    ],
}


# The subscription of a VM whose vault is in the emulated subscription.
OTHER_SUBSCRIPTION = "00000000-0000-0000-0000-00000000d3b0"


def _machine(name: str, *, group: str = "demo-vms", vault: str = "demo-vault", **plan: Any) -> dict[str, Any]:
    return {"kind": "VM", "name": name, "group": group, "vault": vault, "plan": plan}


def fleet(vms: int) -> list[dict[str, Any]]:
    """Return VMs that share the policy ``fleet``."""
    return [{**_machine(f"fleet-{number:02}"), "policy": "fleet"} for number in range(1, vms + 1)]


# The error of a Backup vault's job that ran for more than a day, as recorded.
_TIMED_OUT = {
    "code": "MOSJobTimedOutError",
    "message": "Job took very long time and got timed out",
    "recommendedAction": [
        "Please retry the operation after some time. If problem persists, please contact Microsoft support."
    ],
}


def _instance(kind: str, name: str, policy: str, **more: Any) -> dict[str, Any]:
    home = {"group": "demo-data", "vault": "demo-backup-vault"}
    return {"kind": kind, "name": name, "policy": policy, **home, **more}


DEFAULT: Mapping[str, Any] = {
    "tenant_id": "11111111-1111-1111-1111-111111111111",
    "subscription_id": "00000000-0000-0000-0000-00000000d3a0",
    "region": "westeurope",
    "vaults": [
        {"name": "demo-vault", "group": "demo-rg", "secondary_region": "northeurope"},
        {"name": "demo-vault-2", "group": "demo-rg"},
    ],
    "items": [
        _machine("payroll-vm"),
        _machine("vm-good"),
        _machine("vm-fails", ending="Failed", error=_VM_IS_OFF),
        _machine("vm-cancelled", ending="CancelledInTransfer"),
        _machine("vm-warned", ending="CompletedWithWarnings"),
        _machine("vm-handed-over"),
        _machine("vm-patched"),
        *fleet(20),
        _machine("twin"),
        _machine("twin", group="demo-vms-b"),
        _machine("vm-elsewhere", vault="demo-vault-2"),
        *(_machine(f"nightly-{number}", vault="demo-vault-2") for number in (1, 2)),
        {"kind": "AzureFileShare", "name": "documents", "group": "demo-files", "parent": "demofiles"},
        {"kind": "SQLDataBase", "name": "msdb", "group": "demo-vms", "parent": "sqlvm"},
        {
            "kind": "SQLDataBase",
            "name": "msdb",
            "group": "demo-vms",
            "parent": "sqlvm",
            "instance": "reports",
        },
        {"kind": "SQLDataBase", "name": "payroll", "group": "demo-vms", "parent": "sqlvm"},
        {"kind": "SAPHanaDatabase", "name": "systemdb", "group": "demo-vms", "parent": "hanavm"},
        {"kind": "SAPHanaDBInstance", "name": "hdb-instance", "group": "demo-vms", "parent": "hanavm"},
        {"kind": "SAPAseDatabase", "name": "asedb", "group": "demo-vms", "parent": "asevm"},
        {**_machine("vm-abroad", group="abroad-vms"), "subscription": OTHER_SUBSCRIPTION},
    ],
    "backup_vaults": [
        {"name": "demo-backup-vault", "group": "demo-rg", "secondary_region": "northeurope"},
    ],
    # By name: the kind of data source, and each backup rule with its retention tags, the default tag first.
    "backup_policies": {
        "disk-policy": {"kind": "Disk", "rules": {"BackupHourly": ["Default"]}},
        "pg-policy": {"kind": "PostgreSQL", "rules": {"BackupWeekly": ["Default", "Weekly"]}},
        "pg-two-rules": {
            "kind": "PostgreSQL",
            "rules": {"BackupDaily": ["Default"], "BackupWeekly": ["Weekly"]},
        },
        "pg-flexible-policy": {"kind": "PostgreSQLFlexible", "rules": {"BackupWeekly": ["Default"]}},
        "aks-policy": {"kind": "AKS", "rules": {"BackupHourly": ["Default", "Daily"]}},
        "blob-policy": {"kind": "Blob", "rules": {"BackupDaily": ["Default"]}},
        "mysql-policy": {"kind": "MySQLFlexible", "rules": {"BackupWeekly": ["Default"]}},
        "san-policy": {"kind": "ElasticSan", "rules": {"BackupDaily": ["Default"]}},
        "adls-policy": {"kind": "ADLS", "rules": {"BackupDaily": ["Default"]}},
        # Operational backup of blobs is continuous, so there is no rule to run.
        "continuous-policy": {"kind": "Blob", "rules": {}},
    },
    "backup_instances": [
        _instance("Disk", "disk-good", "disk-policy"),
        _instance("Disk", "disk-fails", "disk-policy", plan={"ending": "Failed", "error": _TIMED_OUT}),
        _instance("Disk", "disk-warned", "disk-policy", plan={"ending": "CompletedWithWarnings"}),
        _instance("Disk", "disk-unready", "disk-policy", state="ConfiguringProtection"),
        _instance("Disk", "disk-twin", "disk-policy"),
        _instance("Disk", "disk-twin", "disk-policy", group="demo-data-b"),
        _instance("Blob", "demoblobs", "blob-policy"),
        _instance("Blob", "democontinuous", "continuous-policy"),
        _instance("PostgreSQL", "orders", "pg-policy", parent="demo-pg"),
        _instance("PostgreSQL", "ledger", "pg-two-rules", parent="demo-pg"),
        _instance("PostgreSQLFlexible", "demo-pg-flexible", "pg-flexible-policy"),
        _instance("AKS", "demo-aks", "aks-policy"),
        _instance("MySQLFlexible", "demo-mysql", "mysql-policy"),
        *(
            _instance(
                "ElasticSan", f"volume-{number}", "san-policy", parent="demo-san", instance="demo-group"
            )
            for number in (1, 2)
        ),
        _instance("ADLS", "demoadls", "adls-policy", parent="demoadls"),
    ],
    # A principal without a secret gets a generated one.
    "principals": {
        "operator": {
            "client_id": "a0000000-0000-0000-0000-000000000001",
            "actions": (*OPERATOR_ACTIONS, BACKUP_VAULT_JOBS),
        },
        "reader": {"client_id": "a0000000-0000-0000-0000-000000000002", "actions": READER_ACTIONS},
        "waiter": {
            "client_id": "a0000000-0000-0000-0000-000000000003",
            "actions": ["Microsoft.RecoveryServices/Vaults/backupJobs/read", BACKUP_VAULT_JOBS],
        },
        "nobody": {"client_id": "a0000000-0000-0000-0000-000000000004", "actions": []},
    },
    # The principal of a request to the managed identity endpoint that names no client id.
    "managed_identity": "operator",
}


class _Vault(TypedDict):
    name: str
    group: str


class SeededVault(_Vault, total=False):
    """A vault of either type, in the seed's subscription and region unless it names others.

    ``secondary_region`` is where its backups are copied to; without it, it has no cross-region restore.
    """

    subscription: str
    region: str
    secondary_region: str
    tags: Mapping[str, str]


class SeededJob(TypedDict, total=False):
    """A job that began before the emulator did: arguments of ``Emulator.start_job``."""

    operation: str
    ending: str
    seconds: float | None
    backup_type: str
    ago: float
    point: Mapping[str, Any]
    error: Mapping[str, Any]


class _Named(TypedDict):
    kind: str
    name: str
    group: str


class SeededItem(_Named, total=False):
    """A protected item, or a backup instance, which needs a vault and a policy.

    ``plan`` holds fields of ``jobs.Plan``; ``jobs`` are those that began before the start. ``parent`` is the
    VM, the server or the storage account that the item is in. ``vault`` is the first one, if left out.
    ``state`` is a protection state.
    """

    vault: str
    policy: str
    parent: str
    instance: str
    subscription: str
    state: str
    plan: Mapping[str, Any]
    jobs: Sequence[SeededJob]


class SeededPolicy(TypedDict):
    """A policy of a Backup vault: the kind of its data source, and its rules with the tags of each."""

    kind: str
    rules: Mapping[str, Sequence[str]]


class _Someone(TypedDict):
    client_id: str
    actions: Sequence[str]


class SeededPrincipal(_Someone, total=False):
    """Someone who can sign in, and the granted actions, in which ``*`` stands for any text."""

    secret: str


class Seed(TypedDict):
    """Everything that a seed can change."""

    tenant_id: str
    subscription_id: str
    region: str
    vaults: Sequence[SeededVault]
    items: Sequence[SeededItem]
    backup_vaults: Sequence[SeededVault]
    backup_policies: Mapping[str, SeededPolicy]
    backup_instances: Sequence[SeededItem]
    principals: Mapping[str, SeededPrincipal]
    managed_identity: str


def read(changes: Mapping[str, Any]) -> Mapping[str, Any]:
    """Replace the keys of the default seed that are given.

    :raises ValueError: if a key is unknown, a value has the wrong type, or a name refers to nothing.
    """
    known(changes, Seed.__annotations__, "seed")
    fitting(Seed, changes, "seed")
    seed = {**DEFAULT, **changes}
    vaults = [each["name"] for each in seed["vaults"]]
    if not vaults:
        raise ValueError("seed: vaults must name at least one vault")
    for number, each in enumerate(seed["items"]):
        where = f"seed: items[{number}]"
        one_of(f"{where}: kind", each["kind"], WORKLOADS)
        one_of(f"{where}: vault", each.get("vault", vaults[0]), vaults)
    backup_vaults = [each["name"] for each in seed["backup_vaults"]]
    for number, each in enumerate(seed["backup_instances"]):
        where = f"seed: backup_instances[{number}]"
        one_of(f"{where}: kind", each["kind"], DATA_SOURCES)
        one_of(f"{where}: policy", each.get("policy"), seed["backup_policies"])
        one_of(f"{where}: vault", each.get("vault"), backup_vaults)
    for name, policy in seed["backup_policies"].items():
        one_of(f"seed: backup_policies.{name}: kind", policy["kind"], DATA_SOURCES)
        if not all(policy["rules"].values()):
            raise ValueError(f"seed: backup_policies.{name}: each rule needs a tag, such as Default")
    one_of("seed: managed_identity", seed["managed_identity"], seed["principals"])
    _check_names(seed)
    return seed


def _check_names(seed: Mapping[str, Any]) -> None:
    named = (each for key in ("vaults", "items", "backup_vaults", "backup_instances") for each in seed[key])
    for text in (text for each in named for text in each.values() if isinstance(text, str)):
        if not re.fullmatch(r"[^/?#%\x00-\x1f\x7f]*", text):
            raise ValueError(f"seed: {text!r} cannot be part of an ARM id")

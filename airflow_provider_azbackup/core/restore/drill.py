"""A restore that is made to be checked: never in place, under a name that nothing else has.

:data:`_DRILLS` says for each restore target what is renamed, and what the restore then has made. A target
without a row is refused, because it overwrites what was backed up.
"""

from __future__ import annotations

import json
import re
from base64 import b32encode
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from hashlib import sha256
from shlex import quote
from types import MappingProxyType
from typing import NamedTuple
from urllib.parse import urlsplit

from airflow_provider_azbackup.core.model.json_safe import clean, cut
from airflow_provider_azbackup.core.restore.targets import RestoreTarget, read_target
from airflow_provider_azbackup.exceptions import AzureBackupConfigError

# Letters and digits of a suffix. They are lower case, as a Kubernetes namespace needs it.
_LENGTH = 8
# What `more` may hold. Any other field could lead the restore to another place than the record names.
_MORE = frozenset(
    {"encryptionDetails", "identityDetails", "identityInfo", "resourceGuardOperationRequests", "zones"}
)
# The same of a cluster's `criteria`.
_CRITERIA = frozenset(
    {
        *("excludedResourceTypes", "includedResourceTypes", "labelSelectors"),
        *("resourceModifierReference", "restoreHookReferences"),
    }
)
# The characters of a value in a record.
_LONGEST = 1000

Details = Mapping[str, str]
Made = dict[str, str]


class Drill(NamedTuple):
    """How a restore to one kind of target becomes one of its own.

    :param rename: returns the target with a suffix in each name that Azure is to give.
    :param made: returns what a restore to such a target has made, from the target and the details of the job.
    :param needs: the field without which it is not known what the restore makes.
    :param mark: the detail of a running job that contains the name, where Azure shows one.
    """

    rename: Callable[[RestoreTarget, str], RestoreTarget]
    made: Callable[[RestoreTarget, Details], list[Made]]
    needs: str = ""
    mark: str = ""


def suffix_of(*parts: object) -> str:
    """Return a suffix that is the same for the same parts, and another one for all others.

    :param parts: what distinguishes one try of a task from all others.
    """
    digest = sha256(json.dumps(parts, default=str).encode()).digest()
    return b32encode(digest).decode().casefold()[:_LENGTH]


def check_drill(restore_to: object) -> None:
    """Refuse a target that a drill must not restore to, as far as it is known when the DAG is parsed.

    :raises AzureBackupConfigError: saying why, and which targets there are.
    """
    if not isinstance(restore_to, Mapping):
        raise AzureBackupConfigError(
            "a restore drill has no restore_to; expected a target of airflow_provider_azbackup.restore_to, "
            "because only a target shows what the restore makes"
        )
    target = read_target(restore_to)
    name = target["target"]
    if name not in _DRILLS:
        raise AzureBackupConfigError(
            f"a restore drill never restores in place, and {name!r} does; expected one of "
            f"{', '.join(_DRILLS)}"
        )
    _check_fields("more", target.get("more"), _MORE)
    _check_fields("criteria", target.get("criteria"), _CRITERIA)
    for field, wrong, why in (
        ("overwrite", True, "replaces a database that is there"),
        ("conflict_policy", "Patch", "changes resources that are there"),
    ):
        if target.get(field) == wrong:
            raise AzureBackupConfigError(f"{field}={wrong!r} {why}, which a restore drill must not do")
    needed = _DRILLS[name].needs
    if needed and not target.get(needed):
        raise AzureBackupConfigError(
            f"a restore drill to {name!r} needs {needed}: they show what the restore makes"
        )


def unique_target(target: RestoreTarget, suffix: str) -> RestoreTarget:
    """Return a target with a suffix in each name that Azure is to give; it keeps within Azure's limits.

    :param target: as :func:`check_drill` accepts it, without templates.
    :param suffix: from :func:`suffix_of`.
    """
    check_drill(target)
    return _DRILLS[target["target"]].rename({**target}, suffix)


def made_by(target: RestoreTarget, details: Details) -> list[Made]:
    """Return what a restore makes: kind, name, ARM id and the command that removes it, each a text.

    :param target: as :func:`unique_target` has returned it.
    :param details: of the job, as far as they are known.
    """
    found = _DRILLS[target["target"]].made(target, details)
    return [
        {
            **{name: cut(clean(text), _LONGEST) for name, text in each.items()},
            # Half a command could remove something else.
            "remove": each["remove"] if len(clean(each["remove"])) <= _LONGEST else "",
        }
        for each in found
    ]


def find_suffix(target: RestoreTarget, suffixes: Sequence[str], details: Details) -> str:
    """Return the first of some suffixes in which the name ends that a job shows; nothing for none.

    :param target: as the author wrote it.
    """
    shown = details.get(_DRILLS[target["target"]].mark, "").casefold()
    return next((suffix for suffix in suffixes if shown.endswith(suffix)), "")


# By restore target: the details of a job that say where it restores to, and the field that says the same.
# Only what recordings show is here, because a job that shows another place is taken for somebody else's.
_PLACES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "disks": {"Target Storage Account Name": "storage_account_id"},
        "other_share": {
            "Target Storage Account Name": "storage_account_id",
            "Target File Share Name": "share",
        },
        "new_disk": {"recoveryDestination": "disk_id"},
        "new_database": {"recoveryDestination": "database_id"},
        "other_blobs": {"recoveryDestination": "storage_account_id"},
        "cluster": {"recoveryDestination": "cluster_id"},
    }
)


def places_of(target: RestoreTarget) -> list[tuple[str, str]]:
    """Return with which texts the details of a job begin that restores to a target, by name of the detail.

    Azure names a storage account by its name, and everything else by its ARM id. A drill's names are longer.

    :param target: as the author wrote it; empty for a request in Azure's own words.
    """
    fields = _PLACES.get(target.get("target", ""), {})
    found = [(name, str(target.get(field) or "")) for name, field in fields.items()]
    return [(name, text if name == "recoveryDestination" else _last(text)) for name, text in found if text]


def point_shown(details: Details) -> dict[str, str]:
    """Return id and time of the recovery point that a job restores, as far as its details show them."""
    found = {"recovery_point_id": details.get("sourceRecoveryPointID", "")}
    with suppress(ValueError):  # a VM's job has it the American way, in UTC
        text = details.get("Recovery point time", "")
        found["time"] = datetime.strptime(text, "%m/%d/%Y %I:%M:%S %p").replace(tzinfo=UTC).isoformat()
    with suppress(ValueError):
        found["time"] = datetime.fromisoformat(details.get("sourceRecoveryPointTime", "")).isoformat()
    return {name: text for name, text in found.items() if text}


def _check_fields(name: str, given: object, known: frozenset[str]) -> None:
    if isinstance(given, Mapping) and (others := sorted(given.keys() - known)):
        raise AzureBackupConfigError(
            f"{name} of a restore drill has {', '.join(others)}, which could lead the restore to another "
            f"place; expected only {', '.join(sorted(known))}"
        )


def _with_suffix(name: str, suffix: str, longest: int, mark: str = "-") -> str:
    return f"{name[: longest - len(mark) - len(suffix)].rstrip('-_.')}{mark}{suffix}"


def _last_renamed(field: str, longest: int) -> Callable[[RestoreTarget, str], RestoreTarget]:
    """Return how the last part of an ARM id is renamed."""

    def rename(target: RestoreTarget, suffix: str) -> RestoreTarget:
        parent, _, name = target[field].rstrip("/").rpartition("/")
        return {**target, field: f"{parent}/{_with_suffix(name, suffix, longest)}"}

    return rename


def _resource(kind: str, field: str) -> Callable[[RestoreTarget, Details], list[Made]]:
    """Return how a target describes one ARM resource."""

    def made(target: RestoreTarget, details: Details) -> list[Made]:
        arm_id = target[field]
        return [_made(kind, _last(arm_id), arm_id, f"az resource delete --ids {quote(arm_id)}")]

    return made


def _made(kind: str, name: str, arm_id: str, remove: str) -> Made:
    return {"kind": kind, "name": name, "arm_id": arm_id, "remove": remove}


def _last(arm_id: str) -> str:
    return arm_id.rstrip("/").rpartition("/")[2]


def _unchanged(target: RestoreTarget, suffix: str) -> RestoreTarget:
    """Azure itself gives the names, or keeps those of the source and refuses one that is there."""
    return target


def _disks_made(target: RestoreTarget, details: Details) -> list[Made]:
    account = target["storage_account_id"]
    found = []
    if container := details.get("Config Blob Container Name"):
        found.append(_container(account, container))
    if group := target.get("resource_group_id"):
        look = f"az disk list --resource-group {quote(_last(group))} --output table"
        found.append(_made("managed disks, named by Azure, in a resource group", _last(group), group, look))
    return found or [_made("blobs, named by Azure, in a storage account", _last(account), account, "")]


def _container(account: str, name: str) -> Made:
    remove = f"az storage container delete --account-name {quote(_last(account))} --name {quote(name)}"
    arm_id = f"{account}/blobServices/default/containers/{name}"
    return _made("blob container", name, arm_id, f"{remove} --auth-mode login")


def _folder_renamed(target: RestoreTarget, suffix: str) -> RestoreTarget:
    return {**target, "folder": "/".join(filter(None, (target["folder"].strip("/"), f"drill-{suffix}")))}


def _folder_made(target: RestoreTarget, details: Details) -> list[Made]:
    account, share, folder = target["storage_account_id"], target["share"], target["folder"]
    remove = (
        f"az storage remove --account-name {quote(_last(account))} --share-name {quote(share)} "
        f"--path {quote(folder)} --recursive"
    )
    arm_id = f"{account}/fileServices/default/shares/{share}"
    return [_made("folder of a file share", folder, arm_id, remove)]


def _database_renamed(target: RestoreTarget, suffix: str) -> RestoreTarget:
    server, _, name = target["database"].partition("/")
    # SAP HANA has capital letters, digits and underscores in the name of a database.
    return {**target, "database": f"{server}/{_with_suffix(name, suffix.upper(), 120, '_')}"}


def _database_made(target: RestoreTarget, details: Details) -> list[Made]:
    name = target["database"].partition("/")[2]
    on = target.get("vm_id") or target.get("container_id") or ""
    return [_made("database in a VM", target["database"], on, f"DROP DATABASE {json.dumps(name)}")]


def _blobs_made(target: RestoreTarget, details: Details) -> list[Made]:
    return [_container(target["storage_account_id"], name) for name in target["containers"]]


def _files_renamed(target: RestoreTarget, suffix: str) -> RestoreTarget:
    return {**target, "prefix": f"{target['prefix'].rstrip('-')}-{suffix}"}


def _files_made(target: RestoreTarget, details: Details) -> list[Made]:
    address = urlsplit(target["container_url"])
    account, container = address.netloc.partition(".")[0], address.path.strip("/")
    remove = (
        f"az storage blob delete-batch --account-name {quote(account)} --source {quote(container)} "
        f"--pattern {quote(target['prefix'] + '*')} --auth-mode login"
    )
    return [_made("blobs with a prefix", target["prefix"], target.get("container_id", ""), remove)]


def _namespaces_renamed(target: RestoreTarget, suffix: str) -> RestoreTarget:
    wanted: Mapping[str, str] = target.get("namespace_mappings") or {}
    renamed = {name: _with_suffix(wanted.get(name, name), suffix, 63) for name in target["namespaces"]}
    return {**target, "namespace_mappings": renamed}


def _namespaces_made(target: RestoreTarget, details: Details) -> list[Made]:
    cluster = target.get("cluster_id") or details.get("recoveryDestination", "")
    found = re.search(r"/subscriptions/([^/]+)/resourceGroups/([^/]+)/", cluster, re.IGNORECASE)
    where = f"--subscription {quote(found[1])} --resource-group {quote(found[2])} " if found else ""
    return [
        _made(
            "namespace of a cluster",
            name,
            cluster,
            f"az aks command invoke {where}--name {quote(_last(cluster) or '<cluster>')} "
            f"--command {quote(f'kubectl delete namespace {name}')}",
        )
        for name in target["namespace_mappings"].values()
    ]


# A target that is not here restores in place. A test compares the two tables.
_DRILLS: Mapping[str, Drill] = MappingProxyType(
    {
        "disks": Drill(_unchanged, _disks_made),
        "new_vm": Drill(
            _last_renamed("vm_id", 64), _resource("virtual machine", "vm_id"), mark="Target VM Name"
        ),
        "other_share": Drill(_folder_renamed, _folder_made),
        "other_database": Drill(_database_renamed, _database_made),
        "new_disk": Drill(
            _last_renamed("disk_id", 80), _resource("disk", "disk_id"), mark="recoveryDestination"
        ),
        "other_blobs": Drill(_unchanged, _blobs_made, needs="containers"),
        "database_files": Drill(_files_renamed, _files_made),
        "new_database": Drill(
            _last_renamed("database_id", 63), _resource("database", "database_id"), mark="recoveryDestination"
        ),
        "cluster": Drill(_namespaces_renamed, _namespaces_made, needs="namespaces"),
    }
)

"""What a DAG author may write of a restore, and what of it can be refused before anything is asked of Azure.

Operators run these checks while a DAG file is parsed, so this module imports as little as
:mod:`~airflow_provider_azbackup.core.restore.targets` does. A template is checked once it is rendered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict, TypeGuard

from airflow_provider_azbackup.core.model.arm_ids import (
    DATA_PROTECTION,
    RECOVERY_SERVICES,
    match_item,
    split_instance_id,
)
from airflow_provider_azbackup.core.model.validation import check_name, read_datetime
from airflow_provider_azbackup.core.restore.targets import (
    TARGETS,
    RestoreTarget,
    is_known,
    read_target,
)
from airflow_provider_azbackup.exceptions import AzureBackupConfigError

if TYPE_CHECKING:
    from airflow_provider_azbackup.core.wire import JsonObject

Moment: TypeAlias = datetime | str
# The newest recovery point that can be restored from.
LATEST = "latest"


class RestoreOptions(TypedDict, total=False):
    """What a DAG author can ask of a restore.

    ``restore_to`` is a restore target, made by a function of :mod:`airflow_provider_azbackup.restore_to`.
    ``request`` replaces it with a body in Azure's own words. ``recovery_point`` is ``latest``, the id of a
    recovery point, or its ARM id. ``as_of`` takes the newest recovery point of that moment or before.
    ``point_in_time`` is the moment up to which a database's log is applied, or to which blobs go back.
    """

    restore_to: Mapping[str, Any] | None
    request: Mapping[str, Any] | None
    recovery_point: str
    as_of: Moment | None
    point_in_time: Moment | None


@dataclass(frozen=True, kw_only=True)
class _Given:
    """The arguments of a restore as they are known now: some may be templates."""

    restore_to: object
    request: object
    recovery_point: object
    as_of: object
    point_in_time: object

    @property
    def chosen_by(self) -> list[str]:
        """The names of the arguments that say which recovery point to take."""
        said = {
            "recovery_point": self.recovery_point not in (LATEST, None, ""),
            "as_of": self.as_of not in (None, ""),
            "point_in_time": self.point_in_time not in (None, ""),
        }
        return [name for name, is_given in said.items() if is_given]

    @property
    def target(self) -> str:
        """The name of the restore target; an empty string for none, or for one that does not exist."""
        name = self.restore_to.get("target") if isinstance(self.restore_to, Mapping) else None
        return name if isinstance(name, str) and name in TARGETS else ""


_GIVE_ONE = (
    "give exactly one: a target of airflow_provider_azbackup.restore_to, or a body in Azure's own words"
)
# The combinations of arguments that no restore can have, and the error for each. The first one that applies
# is raised. A message may name "{chosen_by}" and "{target}".
_RULES: tuple[tuple[Callable[[_Given], bool], str], ...] = (
    (
        lambda given: given.restore_to is None and given.request is None,
        f"neither of restore_to and request given; {_GIVE_ONE}",
    ),
    (
        lambda given: given.restore_to is not None and given.request is not None,
        f"both of restore_to and request given; {_GIVE_ONE}",
    ),
    (
        lambda given: len(given.chosen_by) > 1,
        "{chosen_by} are given; each of them says which recovery point to take, so give one",
    ),
    (
        lambda given: "point_in_time" in given.chosen_by and given.request is not None,
        "point_in_time goes with restore_to; a request brings its own pointInTime or recoveryPointTime",
    ),
    (
        lambda given: (
            "point_in_time" in given.chosen_by
            and given.target != ""
            and TARGETS[given.target].point_in_time == "never"
        ),
        "point_in_time is for databases and for blobs that stay where they are, and '{target}' is for "
        "neither; as_of takes the newest recovery point of a moment or before",
    ),
    (
        lambda given: (
            given.target != ""
            and TARGETS[given.target].point_in_time == "always"
            and given.chosen_by != ["point_in_time"]
        ),
        "'{target}' takes blobs back to a moment, not to a recovery point; give point_in_time",
    ),
)


def check_restore(
    *,
    restore_to: object = None,
    request: object = None,
    recovery_point: object = LATEST,
    as_of: object = None,
    point_in_time: object = None,
    vault_type: str | None = None,
) -> None:
    """Refuse arguments that no restore can have, as far as they are known now; templates are left alone.

    :param vault_type: the type of the vault that is restored from, where that is known.
    :raises AzureBackupConfigError: saying what was given and what is expected.
    """
    given = _Given(
        restore_to=restore_to,
        request=request,
        recovery_point=recovery_point,
        as_of=as_of,
        point_in_time=point_in_time,
    )
    for applies, message in _RULES:
        if applies(given):
            chosen_by = " and ".join(given.chosen_by)
            raise AzureBackupConfigError(message.format(chosen_by=chosen_by, target=given.target))
    if _is_dict(restore_to, "restore_to"):
        _check_vault(read_target(restore_to)["target"], vault_type)
    if _is_dict(request, "request"):
        read_request(request)
    if isinstance(recovery_point, str) and is_known(recovery_point):
        split_point_id(recovery_point)
    for name, value in (("as_of", as_of), ("point_in_time", point_in_time)):
        if is_known(value):
            read_datetime(name, value)


def check_secondary_restore(*, restore_to: object, request: object, region: str = "") -> None:
    """Refuse a restore that Azure does not make in the secondary region, as far as it is known now.

    :param region: the secondary region, once it is known.

    Source: https://learn.microsoft.com/azure/backup/backup-support-matrix#cross-region-restore

    :raises AzureBackupConfigError: saying what can be restored there.
    """
    target = restore_to if isinstance(restore_to, Mapping) else {}
    name, inner = str(target.get("target") or ""), request if isinstance(request, Mapping) else {}
    inner, named = inner.get("properties", inner), target.get("region")
    where = "in the secondary region"
    if name.startswith("original_"):
        raise AzureBackupConfigError(
            f"'{name}' overwrites what was backed up, which is not {where}; give another target"
        )
    if name == "disks" and not target.get("resource_group_id"):
        raise AzureBackupConfigError(
            f"'disks' makes managed disks {where}; give the resource group that they go to, as "
            f"disks(resource_group_id=...)"
        )
    if name == "other_share" and (target.get("files") or target.get("folders")):
        raise AzureBackupConfigError(f"only whole file shares are restored {where}; drop files and folders")
    if region and named and str(named).replace(" ", "").casefold() != region.casefold():
        raise AzureBackupConfigError(
            f"region is {named!r}, and a restore {where} is made in {region}; drop it"
        )
    if isinstance(inner, Mapping) and "rehydrat" in str(inner.get("objectType")).casefold():
        raise AzureBackupConfigError(f"nothing is brought back from the archive {where}; name another point")


def _is_dict(value: object, name: str) -> TypeGuard[Mapping[str, Any]]:
    """Return whether a value is a dict; refuse one that is neither a dict nor a template."""
    if value is None or isinstance(value, Mapping):
        return value is not None
    if is_known(value):
        shown = f"the text {value[:80]!r}" if isinstance(value, str) else f"of type {type(value).__name__}"
        raise AzureBackupConfigError(
            f"{name} is {shown}; expected a dict (a template that renders to one needs "
            f"render_template_as_native_obj=True on the DAG)"
        )
    return False


def _check_vault(target: str, vault_type: str | None) -> None:
    """Refuse a target that is for the other type of vault."""
    its_own = _vault_type_of(target)
    if vault_type not in (None, its_own):
        kept = (
            "Backup vaults (Microsoft.DataProtection)"
            if its_own == DATA_PROTECTION
            else "Recovery Services vaults"
        )
        fitting = [name for name in TARGETS if _vault_type_of(name) == vault_type]
        raise AzureBackupConfigError(
            f"{target!r} is for what {kept} keep, and the vault is of type {vault_type}; expected one of "
            f"{', '.join(fitting)}"
        )


def _vault_type_of(target: str) -> str:
    return DATA_PROTECTION if any("/" in kind for kind in TARGETS[target].workloads) else RECOVERY_SERVICES


def check_target_fits(kind: str, name: str, target: RestoreTarget) -> None:
    """Refuse a target that is not for a workload.

    :param kind: of a protected item, or the type of a data source; in lower case.
    :param name: of the item, for the error.
    :param target: where to.
    :raises AzureBackupConfigError: saying which targets are.
    """
    if kind not in TARGETS[target["target"]].workloads:
        fitting = [known for known, each in TARGETS.items() if kind in each.workloads]
        raise AzureBackupConfigError(
            f"{name!r} cannot be restored to {target['target']!r}; "
            + (f"expected one of {', '.join(fitting)}" if fitting else "give a request in Azure's own words")
        )


def read_request(request: Mapping[str, Any]) -> JsonObject:
    """Return a body as it will be sent, from a whole one or from its ``properties``.

    :raises AzureBackupConfigError: when it does not say which kind of restore it asks for.
    """
    inside = request.get("properties", request)
    if not isinstance(inside, Mapping) or not inside.get("objectType"):
        raise AzureBackupConfigError(
            "request has no objectType; expected the properties of a restore request, such as "
            "{'objectType': 'IaasVMRestoreRequest', 'recoveryType': 'RestoreDisks', ...}"
        )
    return {**request} if "properties" in request else {"properties": {**request}}


def split_point_id(text: str) -> tuple[str | None, str]:
    """Split a recovery point's ARM id into its item's ARM id and its own; an id alone comes without an item.

    :raises AzureBackupConfigError: when it is neither.
    """
    if "/" not in text:
        check_name("recovery_point", text)
        return None, text
    item, _, point_id = text.partition("/recoveryPoints/")
    if point_id and "/" not in point_id and (match_item(item) or split_instance_id(item)):
        return item, point_id
    raise AzureBackupConfigError(
        f"recovery_point {text!r} is neither {LATEST!r}, nor the id of a recovery point, nor its ARM id, "
        f"which ends in /protectedItems/<item>/recoveryPoints/<id>, or in "
        f"/backupInstances/<instance>/recoveryPoints/<id>"
    )

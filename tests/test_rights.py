"""The least rights for everything that is done: they suffice, and none of them can be left out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowSensorTimeout

from airflow_provider_azbackup.exceptions import AzureBackupAuthError
from airflow_provider_azbackup.operators import (
    AzureBackupCancelJobOperator,
    AzureBackupListProtectedItemsOperator,
    AzureBackupOperator,
    AzureBackupRestoreOperator,
)
from airflow_provider_azbackup.restore_to import (
    disks,
    new_database,
    new_disk,
    original_blobs,
    original_database,
    original_share,
)
from airflow_provider_azbackup.sensors import (
    AzureBackupFleetSensor,
    AzureBackupFreshnessSensor,
    AzureBackupJobSensor,
)
from azure_backup_emulator import Emulator
from azure_backup_emulator.seed import BACKUP_VAULT_JOBS, OPERATOR_ACTIONS, READER_ACTIONS
from tests.support.tasks import Store, TaskInstance, run

PAGE = Path(__file__).resolve().parents[1] / "docs" / "rights.md"
GROUP = "/subscriptions/00000000-0000-0000-0000-00000000d3a0/resourceGroups/demo-rg"
ACCOUNT = f"{GROUP}/providers/Microsoft.Storage/storageAccounts/staging"
DATABASE_ID = f"{GROUP}/providers/Microsoft.DBforPostgreSQL/servers/elsewhere/databases/drill"
DISK_ID = f"{GROUP}/providers/Microsoft.Compute/disks/drill"
BACKUP_VAULT = {"vault_name": "demo-backup-vault", "vault_type": "DataProtection"}


class Desk:
    """What a DAG author does, as one principal."""

    def __init__(self, azure: Emulator, clock: Any) -> None:
        self.azure, self.clock = azure, clock

    def path(self, name: str) -> str:
        """The ARM id of a protected item or backup instance."""
        return str(self.azure.service.world.named(name)[0].path)

    def task(self, kind: Callable[..., Any], **arguments: Any) -> Any:
        return run(lambda: kind(**{"task_id": "task", **arguments}), TaskInstance(store=Store()))

    def list_items(self, **vault: str) -> None:
        self.task(AzureBackupListProtectedItemsOperator, **vault)

    def back_up(self, item: str, **more: Any) -> None:
        self.task(AzureBackupOperator, protected_item=item, deferrable=False, **more)

    def wait(self, item: str, **vault: str) -> None:
        job_id = self._over(item)
        self.task(AzureBackupJobSensor, job_id=job_id, deferrable=False, poke_interval=0.001, **vault)

    def wait_abroad(self, item: str, **vault: str) -> None:
        job_id = self.azure.start_job(item, operation="CrossRegionRestore", seconds=30)
        self.clock.advance(60)
        self.task(AzureBackupJobSensor, job_id=job_id, secondary_region=True, deferrable=False, **vault)

    def cancel(self, item: str) -> None:
        job_id = self.azure.start_job(item)
        self.task(AzureBackupCancelJobOperator, job_id=job_id, deferrable=False)

    def check_freshness(self, item: str, *, name: str | None = None, points: bool = False) -> None:
        self._over(name or item)
        when: dict[str, Any] = {"newer_than": datetime.fromtimestamp(self.clock() - 3600, UTC)}
        self.task(
            AzureBackupFreshnessSensor,
            protected_item=item if name is None else self.path(name),
            deferrable=False,
            poke_interval=0.001,
            timeout=10,
            **({"max_age": timedelta(hours=1)} if points else when),
        )

    def gate_fleet(self, name: str, *, tags: bool = False, **more: Any) -> None:
        self._over(name)
        item = self.azure.service.world.named(name)[0]
        # Nothing in the emulator has a tag unless it is given one.
        others = [each.path for each in self.azure.service.world.items if each.vault == item.vault]
        scope: dict[str, Any] = {"protected_items": item.path}
        if tags:
            object.__setattr__(item.vault, "tags", {"tier": "1"})  # it is frozen, and the same after a reset
            scope = {"tags": {"tier": "1"}, "exclude": [each for each in others if each != item.path]}
        try:
            self.task(
                AzureBackupFleetSensor,
                vaults=item.vault.path,
                newer_than=datetime.fromtimestamp(self.clock() - 3600, UTC),
                deferrable=False,
                poke_interval=0.001,
                timeout=0.2,
                **scope,
                **more,
            )
        except AirflowSensorTimeout as error:
            # It waits until the right is granted, because of another vault or none.
            raise AzureBackupAuthError(str(error)) from None

    def restore(self, name: str, place: Any, **more: Any) -> None:
        self._over(name)
        if more.get("secondary_region"):
            self.clock.advance(24 * 3600)  # until the data is in the vault
        self.task(
            AzureBackupRestoreOperator,
            protected_item=self.path(name),
            restore_to=place,
            deferrable=False,
            **more,
        )

    def watch(self, **arguments: Any) -> None:
        """Let a trigger of events read its first list; fail as it does."""
        from tests.triggerer import test_events as events

        airflow = events.task_runner.SUPERVISOR_COMMS
        triggerer = events.Triggerer(airflow, {"backups": events.arguments(**arguments)})

        def refused() -> bool:
            return any(entry["status"] == 403 for entry in self.azure.requests)

        asyncio.run(triggerer.live(lambda _: bool(refused() or airflow.states)))
        if refused():
            raise AzureBackupAuthError(self._last_refusal())

    def _last_refusal(self) -> str:
        # A watch that is refused goes on asking, and logs why; what was asked for shows the right.
        paths = [entry["path"] for entry in self.azure.requests if entry["status"] == 403]
        kind = "Microsoft.DataProtection/backupVaults" if "backupVaults" in paths[-1] else f"{RSV}/vaults"
        return f"Missing right: {kind}/{paths[-1].rpartition('/')[2]}/read."

    def _over(self, name: str) -> str:
        """Somebody else's backup, which has just ended."""
        job_id = self.azure.start_job(name, seconds=30)
        self.clock.advance(60)
        return job_id


@dataclass(frozen=True, kw_only=True)
class Row:
    """One thing to do, and the actions that it needs, under the provider of its type of vault.

    ``helpful`` are those without which it still works, by a search of the list of jobs.
    """

    do: str
    actions: Sequence[str]
    by: Callable[[Desk], None]
    helpful: Sequence[str] = ()


RSV, DPP = "Microsoft.RecoveryServices", "Microsoft.DataProtection"
_ITEMS = "Vaults/backupFabrics/protectionContainers/protectedItems"
_INSTANCES = "backupVaults/backupInstances"
_WAIT = "Vaults/backupJobs/read"
_LIST = "Vaults/backupProtectedItems/read"
_POINTS = f"{_ITEMS}/recoveryPoints/read"
_START = (_WAIT, f"{_ITEMS}/backup/action")
_RESTORE = (_WAIT, _POINTS, f"{_ITEMS}/recoveryPoints/restore/action")
_PERMISSIONS = "Microsoft.Authorization/permissions/read"
_CHECK = (
    _POINTS,
    f"{_ITEMS}/recoveryPoints/restore/action",
    f"{_ITEMS}/read",
    "Vaults/backupTriggerValidateOperation/action",
    "Vaults/backupValidateOperationsStatuses/read",
)
_OPERATION = ("Vaults/backupOperations/read",)
_GUARD = ("Vaults/backupResourceGuardProxies/read",)
_INSTANCE_GUARD = ("backupVaults/backupResourceGuardProxies/read",)
_INSTANCE_WAIT = "backupVaults/backupJobs/read"
_INSTANCE_POINTS = f"{_INSTANCES}/recoveryPoints/read"
_INSTANCE_START = (
    _INSTANCE_WAIT,
    f"{_INSTANCES}/read",
    f"{_INSTANCES}/backup/action",
    "backupVaults/backupPolicies/read",
)
_REGIONAL = "subscriptions/resourceGroups/providers/locations"
_INSTANCE_OPERATION = ("backupVaults/operationStatus/read",)
_INSTANCE_RESTORE = (
    _INSTANCE_WAIT,
    f"{_INSTANCES}/read",
    f"{_INSTANCES}/validateRestore/action",
    f"{_INSTANCES}/restore/action",
    *_INSTANCE_OPERATION,
)
RIGHTS: dict[str, Sequence[Row]] = {
    RSV: (
        Row(do="List the protected items", actions=(_LIST,), by=Desk.list_items),
        Row(do="Wait for a job", actions=(_WAIT,), by=lambda desk: desk.wait("vm-good")),
        Row(
            do="Back up a VM, given the ARM id of its protected item, and wait",
            actions=_START,
            helpful=_OPERATION,
            by=lambda desk: desk.back_up(desk.path("vm-good")),
        ),
        Row(
            do="Back up a VM, given its own ARM id, and wait",
            actions=(*_START, f"{_ITEMS}/read"),
            helpful=_OPERATION,
            by=lambda desk: desk.back_up(desk.azure.service.world.named("vm-good")[0].source_id),
        ),
        Row(
            do="Back up an item, given its name, and wait",
            actions=(*_START, _LIST),
            helpful=_OPERATION,
            by=lambda desk: desk.back_up("vm-good"),
        ),
        Row(
            do="Back up a file share or a database, given the ARM id of its protected item, and wait",
            actions=(*_START, _LIST),
            helpful=_OPERATION,
            by=lambda desk: [desk.back_up(desk.path(name)) for name in ("documents", "payroll")] and None,
        ),
        Row(
            do="Back up a VM and check its recovery point",
            actions=(*_START, _POINTS),
            helpful=_OPERATION,
            by=lambda desk: desk.back_up(desk.path("vm-good"), require_recovery_point=True),
        ),
        Row(
            do="Check the freshness by jobs, given an ARM id",
            actions=(_WAIT, f"{_ITEMS}/read"),
            by=lambda desk: desk.check_freshness("", name="vm-good"),
        ),
        Row(
            do="Check the freshness by jobs, given a name",
            actions=(_WAIT, _LIST, f"{_ITEMS}/read"),
            by=lambda desk: desk.check_freshness("vm-good"),
        ),
        Row(
            do="Check the freshness by recovery points (`max_age`), given an ARM id",
            actions=(_POINTS, f"{_ITEMS}/read"),
            by=lambda desk: desk.check_freshness("", name="vm-good", points=True),
        ),
        Row(do="Gate on a fleet", actions=(_WAIT, _LIST), by=lambda desk: desk.gate_fleet("vm-good")),
        Row(
            do="Gate on a fleet, and check recovery points",
            actions=(_WAIT, _LIST, _POINTS),
            by=lambda desk: desk.gate_fleet("vm-good", require_recovery_point=True),
        ),
        Row(
            do="Gate on a fleet, narrowed by tags",
            actions=(_WAIT, _LIST, "Vaults/read"),
            by=lambda desk: desk.gate_fleet("vm-good", tags=True),
        ),
        Row(
            do="Cancel a job",
            actions=(_WAIT, "Vaults/backupJobs/cancel/action"),
            by=lambda desk: desk.cancel("vm-good"),
        ),
        Row(
            do="Restore a VM",
            actions=(*_RESTORE, f"{_ITEMS}/read", "Vaults/read"),
            helpful=(*_OPERATION, *_GUARD),
            by=lambda desk: desk.restore("vm-good", disks(storage_account_id=ACCOUNT)),
        ),
        Row(
            do="Restore a file share",
            actions=(*_RESTORE, f"{_ITEMS}/read", _LIST),
            helpful=(*_OPERATION, *_GUARD),
            by=lambda desk: desk.restore("documents", original_share(copy_options="Overwrite")),
        ),
        Row(
            do="Restore a database",
            actions=(*_RESTORE, _LIST),
            helpful=(*_OPERATION, *_GUARD),
            by=lambda desk: desk.restore("payroll", original_database()),
        ),
        Row(
            do="Check whether a VM could be restored (`validate_only`)",
            actions=(*_CHECK, "Vaults/read"),
            helpful=(*_GUARD, _PERMISSIONS),
            by=lambda desk: desk.restore("vm-good", disks(storage_account_id=ACCOUNT), validate_only=True),
        ),
        Row(
            do="Check whether a file share or a database could be restored (`validate_only`)",
            actions=_CHECK,
            helpful=(*_GUARD, _PERMISSIONS),
            by=lambda desk: (
                [
                    desk.restore(name, place, validate_only=True)
                    for name, place in (
                        ("documents", original_share(copy_options="Overwrite")),
                        ("payroll", original_database()),
                    )
                ]
                and None
            ),
        ),
        Row(
            do="Wait for a restore in the secondary region",
            actions=("Vaults/read", "locations/backupCrrJob/action"),
            by=lambda desk: desk.wait_abroad("vm-good"),
        ),
        Row(
            do="Restore in the secondary region",
            actions=(
                "Vaults/read",
                _LIST,
                _POINTS,
                f"{_ITEMS}/recoveryPoints/accessToken/action",
                *(
                    f"locations/{each}"
                    for each in (
                        "backupAadProperties/read",
                        "backupCrossRegionRestore/action",
                        "backupCrrJob/action",
                        "backupCrrJobs/action",
                    )
                ),
            ),
            helpful=("locations/backupCrrOperationsStatus/read",),
            by=lambda desk: desk.restore(
                "vm-good",
                disks(storage_account_id=ACCOUNT, resource_group_id=GROUP),
                secondary_region=True,
            ),
        ),
        Row(
            do="Start a DAG when a backup ends (`AzureBackupEventTrigger`)",
            actions=(_WAIT,),
            by=lambda desk: desk.watch(),
        ),
    ),
    DPP: (
        Row(
            do="List the backup instances",
            actions=(f"{_INSTANCES}/read",),
            by=lambda desk: desk.list_items(**BACKUP_VAULT),
        ),
        Row(
            do="Wait for a job",
            actions=(_INSTANCE_WAIT,),
            by=lambda desk: desk.wait("disk-good", **BACKUP_VAULT),
        ),
        Row(
            do="Back up an instance, given its name or ARM id, and wait",
            actions=_INSTANCE_START,
            helpful=_INSTANCE_OPERATION,
            by=lambda desk: desk.back_up(desk.path("disk-good")),
        ),
        Row(
            do="Back up an instance and check its recovery point",
            actions=(*_INSTANCE_START, _INSTANCE_POINTS),
            helpful=_INSTANCE_OPERATION,
            by=lambda desk: desk.back_up(desk.path("disk-good"), require_recovery_point=True),
        ),
        Row(
            do="Check the freshness by jobs, given an ARM id",
            actions=(_INSTANCE_WAIT, f"{_INSTANCES}/read"),
            by=lambda desk: desk.check_freshness("", name="disk-good"),
        ),
        Row(
            do="Check the freshness by recovery points (`max_age`), given an ARM id",
            actions=(_INSTANCE_POINTS, f"{_INSTANCES}/read"),
            by=lambda desk: desk.check_freshness("", name="disk-good", points=True),
        ),
        Row(
            do="Gate on a fleet",
            actions=(_INSTANCE_WAIT, f"{_INSTANCES}/read"),
            by=lambda desk: desk.gate_fleet("disk-good"),
        ),
        Row(
            do="Gate on a fleet, and check recovery points",
            actions=(_INSTANCE_WAIT, f"{_INSTANCES}/read", _INSTANCE_POINTS),
            by=lambda desk: desk.gate_fleet("disk-good", require_recovery_point=True),
        ),
        Row(
            do="Gate on a fleet, narrowed by tags",
            actions=(_INSTANCE_WAIT, f"{_INSTANCES}/read", "backupVaults/read"),
            by=lambda desk: desk.gate_fleet("disk-good", tags=True),
        ),
        Row(
            do="Restore an instance",
            actions=(*_INSTANCE_RESTORE, _INSTANCE_POINTS),
            helpful=_INSTANCE_GUARD,
            by=lambda desk: desk.restore("disk-good", new_disk(disk_id=DISK_ID)),
        ),
        Row(
            do="Restore blobs to a moment",
            actions=(*_INSTANCE_RESTORE, f"{_INSTANCES}/findRestorableTimeRanges/action"),
            helpful=_INSTANCE_GUARD,
            by=lambda desk: desk.restore(
                "democontinuous",
                original_blobs(),
                point_in_time=datetime.fromtimestamp(int(desk.clock()) - 86400, UTC),
            ),
        ),
        Row(
            do="Check whether an instance could be restored (`validate_only`)",
            actions=(
                f"{_INSTANCES}/read",
                f"{_INSTANCES}/validateRestore/action",
                f"{_INSTANCES}/restore/action",
                *_INSTANCE_OPERATION,
                _INSTANCE_POINTS,
            ),
            helpful=(*_INSTANCE_GUARD, _PERMISSIONS),
            by=lambda desk: desk.restore("disk-good", new_disk(disk_id=DISK_ID), validate_only=True),
        ),
        Row(
            do="Wait for a restore in the secondary region",
            actions=("backupVaults/read", f"{_REGIONAL}/fetchCrossRegionRestoreJob/action"),
            by=lambda desk: desk.wait_abroad("orders", **BACKUP_VAULT),
        ),
        Row(
            do="Restore in the secondary region",
            actions=(
                "backupVaults/read",
                f"{_INSTANCES}/read",
                "locations/operationStatus/read",
                *(
                    f"{_REGIONAL}/{each}/action"
                    for each in (
                        "crossRegionRestore",
                        "fetchCrossRegionRestoreJob",
                        "fetchCrossRegionRestoreJobs",
                        "fetchSecondaryRecoveryPoints",
                        "validateCrossRegionRestore",
                    )
                ),
            ),
            by=lambda desk: desk.restore(
                "orders", new_database(database_id=DATABASE_ID), secondary_region=True
            ),
        ),
        Row(
            do="Start a DAG when a backup ends (`AzureBackupEventTrigger`)",
            actions=(_INSTANCE_WAIT,),
            by=lambda desk: desk.watch(**BACKUP_VAULT),
        ),
    ),
}
ROWS = [
    pytest.param(provider, row, id=f"{provider}: {row.do}") for provider in RIGHTS for row in RIGHTS[provider]
]
MISSING = [
    pytest.param(provider, row, action, id=f"{provider}: {row.do} without {action}")
    for provider in RIGHTS
    for row in RIGHTS[provider]
    for action in row.actions
]


def whole(provider: str, actions: Sequence[str]) -> list[str]:
    return [each if each.startswith("Microsoft.") else f"{provider}/{each}" for each in actions]


@pytest.fixture
def desk_of(
    azure: Emulator, clock: Any, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Callable[[Sequence[str]], Desk]]:
    """A desk of somebody who may do exactly this."""
    principals = azure.service.identity.principals
    usual = principals["operator"]

    def desk_of(actions: Sequence[str]) -> Desk:
        principals["operator"] = replace(usual, actions=actions)
        return Desk(azure, clock)

    if "Start a DAG" in request.node.name:
        pytest.importorskip(
            "airflow.triggers.shared_stream", reason="Airflow below 3.3 has no shared streams"
        )
        from tests.triggerer import test_events as events

        monkeypatch.setattr(events.task_runner, "SUPERVISOR_COMMS", events.Airflow(), raising=False)
    yield desk_of
    principals["operator"] = usual


@pytest.mark.parametrize(("provider", "row"), ROWS)
@pytest.mark.parametrize("helped", [False, True], ids=["alone", "with what helps"])
def test_these_rights_suffice(
    desk_of: Callable[[Sequence[str]], Desk], provider: str, row: Row, helped: bool
) -> None:
    if helped and not row.helpful:
        return
    desk = desk_of(whole(provider, [*row.actions, *(row.helpful if helped else ())]))
    row.by(desk)
    assert (desk.azure.count("GET", status=403) == 0) == (helped or not row.helpful)


@pytest.mark.parametrize(("provider", "row", "action"), MISSING)
def test_none_of_these_rights_can_be_left_out(
    desk_of: Callable[[Sequence[str]], Desk], provider: str, row: Row, action: str
) -> None:
    rest = [each for each in (*row.actions, *row.helpful) if each != action]
    desk = desk_of(whole(provider, rest))
    with pytest.raises(AzureBackupAuthError, match=f"(?i)Missing right: {provider}/{action}"):
        row.by(desk)


def table(provider: str) -> str:
    """The rows of a provider as the page shows them."""
    lines = [f"| To | Actions of `{provider}/` | Helps |", "| --- | --- | --- |"]
    for row in RIGHTS[provider]:
        columns = (", ".join(f"`{each}`" for each in kind) for kind in (row.actions, row.helpful))
        lines.append(f"| {' | '.join((row.do, *columns))} |".replace("|  |", "| |"))
    return "\n".join(lines)


@pytest.mark.parametrize("provider", RIGHTS)
def test_the_page_shows_these_rights(provider: str) -> None:
    assert table(provider) in PAGE.read_text(encoding="utf-8"), table(provider)


@pytest.mark.parametrize(("provider", "row"), ROWS)
def test_backup_operator_may_do_it_all_with_one_right_more(
    desk_of: Callable[[Sequence[str]], Desk], provider: str, row: Row
) -> None:
    desk = desk_of(OPERATOR_ACTIONS)
    if _INSTANCE_WAIT not in row.actions:
        row.by(desk)
        return
    with pytest.raises(AzureBackupAuthError, match=BACKUP_VAULT_JOBS):
        row.by(desk)
    desk = desk_of((*OPERATOR_ACTIONS, BACKUP_VAULT_JOBS))
    desk.azure.reset()
    row.by(desk)


def test_backup_reader_waits_and_starts_nothing(desk_of: Callable[[Sequence[str]], Desk]) -> None:
    desk = desk_of(READER_ACTIONS)
    desk.wait("vm-good")
    with pytest.raises(AzureBackupAuthError, match="backup/action"):
        desk.back_up(desk.path("vm-good"))

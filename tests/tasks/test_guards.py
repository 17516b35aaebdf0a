"""Restores from vaults with a Resource Guard: what is sent, what is missing, and that no token shows."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_azbackup.core.settings import Settings
from airflow_provider_azbackup.exceptions import AzureBackupAuthError, AzureBackupConfigError
from airflow_provider_azbackup.operators import AzureBackupOperator
from azure_backup_emulator import Emulator
from azure_backup_emulator.seed import BACKUP_VAULT_JOBS, OPERATOR_ACTIONS
from tests.support.tasks import run
from tests.tasks.test_adoption import an_instance
from tests.tasks.test_restore_checks import WORKLOADS, check, path_of

ELSEWHERE = "22222222-2222-2222-2222-222222222222"
ON_GUARD = "Microsoft.DataProtection/resourceGuards/*"
FINDS = ("Microsoft.*aults/backupResourceGuardProxies/read", "Microsoft.*/backupResourceGuardProxies/read")
VAULTS = {"VM": "demo-vault", "disk": "demo-backup-vault"}
BOTH_VAULTS = pytest.mark.parametrize("workload", VAULTS)
# A token as azure-identity gets it from the emulator.
TOKEN = re.compile(r"eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}")


@pytest.fixture(autouse=True)
def _nights(azure: Emulator, clock: Any) -> None:
    for item in ("vm-good", "disk-good"):
        azure.start_job(item, seconds=100)
    clock.advance(3000)


@pytest.fixture
def may(azure: Emulator, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let the operator do more than its role allows, or less."""
    from dataclasses import replace

    def may(*more: str, without: str = "nothing") -> None:
        actions = [each for each in (*OPERATOR_ACTIONS, BACKUP_VAULT_JOBS, *more) if without not in each]
        principals = azure.service.identity.principals
        monkeypatch.setitem(principals, "operator", replace(principals["operator"], actions=actions))

    return may


def guarded(azure: Emulator, workload: str, **guard: str) -> None:
    azure.configure(guards={VAULTS[workload]: guard})


def restored(azure: Emulator) -> list[dict[str, Any]]:
    """The restore requests that were carried out."""
    jobs = (job for job in azure.service.world.jobs.values() if job.operation == "Restore")
    return [job.request.get("asked", job.request) for job in jobs]


def carried(azure: Emulator) -> list[str]:
    """The ends of the paths to which a token of another tenant was sent."""
    return [each["path"].rpartition("/")[2] for each in azure.requests if each["auxiliary"]]


@BOTH_VAULTS
@pytest.mark.parametrize("validate_only", [True, False])
def test_the_guard_is_found_and_named(
    azure: Emulator, may: Callable[..., None], workload: str, validate_only: bool
) -> None:
    guarded(azure, workload)
    may(ON_GUARD, FINDS[1])
    run(check(workload, validate_only=validate_only), an_instance())
    if not validate_only:
        (asked,) = restored(azure)
        (named,) = asked["resourceGuardOperationRequests"]
        kind = "triggerRestoreRequests" if workload == "VM" else "dppTriggerRestoreRequests"
        assert named.endswith(f"/resourceGuards/guard-of-{VAULTS[workload]}/{kind}/default")
    assert carried(azure) == []


@BOTH_VAULTS
def test_a_guard_of_another_tenant_gets_a_token_of_that_tenant_and_no_other_request_does(
    azure: Emulator, connect: Callable[..., None], may: Callable[..., None], workload: str
) -> None:
    guarded(azure, workload, tenant_id=ELSEWHERE)
    may(ON_GUARD, FINDS[1])
    connect(azure.connection(guard_tenant_id=ELSEWHERE))
    run(check(workload, validate_only=False), an_instance())
    assert len(restored(azure)) == 1
    assert carried(azure) == (["restore"] if workload == "VM" else ["validateRestore", "restore"])


@BOTH_VAULTS
def test_both_hooks_send_the_second_token(
    azure: Emulator,
    connect: Callable[..., None],
    may: Callable[..., None],
    call: Callable[..., Any],
    workload: str,
) -> None:
    guarded(azure, workload, tenant_id=ELSEWHERE)
    may(ON_GUARD, FINDS[1])
    connect(azure.connection(guard_tenant_id=ELSEWHERE))
    item, arguments = WORKLOADS[workload]
    path = path_of(azure, item)
    assert call("validate_restore", path, restore_to=arguments["restore_to"])["works"] is True
    assert carried(azure) == ["backupTriggerValidateOperation" if workload == "VM" else "validateRestore"]


def test_a_guard_that_the_author_names_is_not_looked_for(azure: Emulator, may: Callable[..., None]) -> None:
    guarded(azure, "VM")
    may(ON_GUARD)
    named = (
        "/subscriptions/00000000-0000-0000-0000-00000000d3c0/resourceGroups/guards/providers"
        "/Microsoft.DataProtection/resourceGuards/guard-of-demo-vault/triggerRestoreRequests/default"
    )
    target = WORKLOADS["VM"][1]["restore_to"]
    more = {**target, "more": {"resourceGuardOperationRequests": [named]}}
    run(check(restore_to=more, validate_only=False), an_instance())
    assert azure.count("GET", "/backupResourceGuardProxies") == 0


@BOTH_VAULTS
@pytest.mark.parametrize(
    ("tenant", "rights", "words"),
    [
        ({"tenant_id": ELSEWHERE}, (ON_GUARD, FINDS[1]), "another tenant: put .* into guard_tenant_id"),
        (
            {},
            (FINDS[1],),
            r"Missing right on the Resource Guard .*Requests/read\. Give .* Backup MUA Operator",
        ),
        ({}, (ON_GUARD,), "give this identity the right backupResourceGuardProxies/read"),
    ],
    ids=["tenant", "right on the guard", "right to find it"],
)
@pytest.mark.parametrize("validate_only", [True, False])
def test_what_is_missing_is_named_and_nothing_is_restored(
    azure: Emulator,
    may: Callable[..., None],
    workload: str,
    tenant: dict[str, str],
    rights: tuple[str, ...],
    words: str,
    validate_only: bool,
) -> None:
    guarded(azure, workload, **tenant)
    may(*rights, without="nothing" if FINDS[1] in rights else "backupResourceGuardProxies")
    with pytest.raises(AzureBackupAuthError, match=words):
        run(check(workload, validate_only=validate_only), an_instance())
    assert restored(azure) == []


def test_on_demand_backups_are_not_guarded(azure: Emulator) -> None:
    guarded(azure, "VM")
    run(lambda: AzureBackupOperator(task_id="backup", protected_item="vm-good"), an_instance())
    assert azure.count("GET", "/backupResourceGuardProxies") == 0


@pytest.mark.parametrize("status", [400, 403, 404])
def test_a_vault_whose_guards_cannot_be_read_is_restored_from_if_there_is_none(
    azure: Emulator, status: int
) -> None:
    azure.fault(path="/backupResourceGuardProxies", times=None, status=status)
    run(check(validate_only=False), an_instance())
    assert len(restored(azure)) == 1


# --- the second token


def test_a_tenant_that_gives_no_token_is_named_and_nothing_is_sent(
    azure: Emulator, connect: Callable[..., None], call: Callable[..., Any], may: Callable[..., None]
) -> None:
    guarded(azure, "VM")  # the emulator does not know the other tenant
    may(ON_GUARD)
    connect(azure.connection(guard_tenant_id=ELSEWHERE))
    with pytest.raises(
        AzureBackupAuthError,
        match=f"no token of tenant '{ELSEWHERE}', which guard_tenant_id .*(AADSTS90002|authority)",
    ):
        call("validate_restore", "vm-good", restore_to=WORKLOADS["VM"][1]["restore_to"])
    assert carried(azure) == []


@BOTH_VAULTS
@pytest.mark.parametrize("fails", [False, True])
def test_no_token_shows_in_logs_errors_or_xcoms(
    azure: Emulator,
    connect: Callable[..., None],
    may: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    workload: str,
    fails: bool,
) -> None:
    caplog.set_level(logging.DEBUG)
    guarded(azure, workload, tenant_id=ELSEWHERE)
    may(*(() if fails else (ON_GUARD,)), FINDS[1])
    connect(azure.connection(guard_tenant_id=ELSEWHERE))
    ti = an_instance()
    error = ""
    try:
        run(check(workload), ti)
    except AzureBackupAuthError as refused:
        error = f"{refused} {refused.facts()}"
    assert bool(error) is fails
    assert carried(azure) != []
    shown = f"{caplog.text} {capsys.readouterr()} {error} {json.dumps(ti.xcoms)} {azure.requests}"
    assert TOKEN.search(shown) is None
    # azure-core logs the names of all headers at this level, so the test has looked where a token could be.
    assert "x-ms-authorization-auxiliary" in caplog.text.casefold()


def test_the_second_token_follows_no_redirect(
    azure: Emulator, connect: Callable[..., None], may: Callable[..., None]
) -> None:
    guarded(azure, "VM", tenant_id=ELSEWHERE)
    may(ON_GUARD)
    connect(azure.connection(guard_tenant_id=ELSEWHERE))
    azure.fault(method="POST", path="/backupTriggerValidateOperation", redirect=azure.url)
    with pytest.raises(Exception, match="307"):
        run(check(), an_instance())
    assert carried(azure) == ["backupTriggerValidateOperation"]


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"guard_tenant_id": "not/a tenant"}, "guard_tenant_id .* in the extra of connection"),
        (
            {"guard_tenant_id": ELSEWHERE, "managed_identity_client_id": "a"},
            "has guard_tenant_id and a managed identity",
        ),
    ],
)
def test_a_connection_that_cannot_be_right_is_refused(extra: dict[str, str], words: str) -> None:
    with pytest.raises(AzureBackupConfigError, match=words):
        Settings.read("azure", login=None, password=None, extra=extra)

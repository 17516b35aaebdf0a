"""What changes between two looks at an estate: vaults and items that go, tags, names."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_provider_azbackup.core.estate.look import Estate, Turns
from airflow_provider_azbackup.core.estate.scope import Condition, Scope
from airflow_provider_azbackup.core.estate.verdict import Reason, Verdict
from airflow_provider_azbackup.core.wire import Answer, Request, Response, T
from airflow_provider_azbackup.exceptions import AzureBackupNotFoundError, AzureBackupTransientError

SUBSCRIPTION = "00000000-0000-0000-0000-00000000d3a0"
START = 1_790_000_000.0
HOUR = 3600.0
ONE, TWO = (
    f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg/providers/Microsoft.RecoveryServices/vaults/{name}"
    for name in ("one", "two")
)


class Azure:
    """Two vaults with a VM each, whose backup of the night is good. Tests change what is shown."""

    def __init__(self) -> None:
        self.now = START
        self.vaults: dict[str, dict[str, str]] = {ONE: {"tier": "1"}, TWO: {"tier": "2"}}
        self.items = {ONE: {"vm-1": "vm-1"}, TWO: {"vm-2": "vm-2"}}
        # What lists leave out although it is there, and what is denied.
        self.hidden: set[str] = set()
        self.denied: set[str] = set()
        # The names in the job of each vault.
        self.jobs = {ONE: ["vm-1"], TWO: ["vm-2"]}
        self.asked: list[str] = []

    def answer(self, call: Request) -> Response:
        self.asked.append(call.path)
        status, body = self._answer(call)
        headers = {"x-ms-ratelimit-remaining-subscription-resource-requests": "249"}
        return Response(status=status, at=self.now, url=call.path, headers=headers, text=json.dumps(body))

    def _answer(self, call: Request) -> tuple[int, dict[str, Any]]:
        if call.path in self.denied:
            return 403, {"error": {"code": "AuthorizationFailed", "message": "no"}}
        if call.path.endswith("RecoveryServices/vaults"):
            return 200, {"value": [self._vault(each) for each in self.vaults if each not in self.hidden]}
        if call.path.endswith("/backupVaults"):
            return 200, {"value": []}
        vault = next((each for each in self.vaults if call.path.startswith(each)), None)
        if vault is None:
            return 404, {"error": {"code": "ResourceNotFound", "message": "gone"}}
        if call.path == vault:
            return 200, self._vault(vault)
        if call.path.endswith("/backupProtectedItems"):
            wanted = "AzureIaasVM" in dict(call.query)["$filter"]
            names = [name for name in self.items[vault] if item(vault, name) not in self.hidden]
            return 200, {"value": [self._item(vault, name) for name in names] if wanted else []}
        if call.path.endswith("/backupJobs"):
            return 200, {"value": [self._job(vault, name) for name in self.jobs[vault]]}
        name = next((each for each in self.items[vault] if item(vault, each) == call.path), None)
        if name is None:
            return 404, {"error": {"code": "BMSUserErrorNotFound", "message": "gone"}}
        return 200, self._item(vault, name)

    def _vault(self, path: str) -> dict[str, Any]:
        return {"id": path, "tags": self.vaults[path]}

    def _item(self, vault: str, name: str) -> dict[str, Any]:
        properties = {"friendlyName": self.items[vault][name], "protectionState": "Protected"}
        return {"id": item(vault, name), "properties": properties}

    def _job(self, vault: str, name: str) -> dict[str, Any]:
        times = {
            word: datetime.fromtimestamp(START - ago, UTC).isoformat()
            for word, ago in (("startTime", 600.0), ("endTime", 60.0))
        }
        properties = {
            "status": "Completed",
            "operation": "Backup",
            "entityFriendlyName": name,
            "backupManagementType": "AzureWorkload" if name.startswith("db") else "AzureIaasVM",
            **times,
        }
        if name.startswith("vm"):
            properties["containerName"] = f"iaasvmcontainerv2;rg;{name}"
        return {"id": f"{vault}/backupJobs/{name}", "name": f"job-of-{name}", "properties": properties}


def item(vault: str, name: str) -> str:
    container = (
        f"{vault}/backupFabrics/Azure/protectionContainers/IaasVMContainer;iaasvmcontainerv2;rg;{name}"
    )
    return f"{container}/protectedItems/VM;iaasvmcontainerv2;rg;{name}"


class Looks:
    """Looks at what Azure shows, one after the other."""

    def __init__(self, azure: Azure, **scope: Any) -> None:
        self.azure = azure
        named = scope or {"subscriptions": (SUBSCRIPTION,)}
        self.estate = Estate(Scope(**named), Condition(after=START - HOUR), poll_interval=60.0)

    def look(self, later: float = 0.0) -> Verdict:
        """Let time pass, read every list again, and return the verdict."""
        self.azure.now = now = self.azure.now + later
        self.estate.expire(now)
        self._settle(now)
        for vault in self.estate.vaults:
            if self.estate.needs_jobs(vault):
                self._hold(self.estate.read_jobs(vault, now))
        return self._settle(now)

    def _settle(self, now: float) -> Verdict:
        while True:
            verdict = self._hold(self.estate.judge(now))
            due = [*self.estate.due(now)]
            for flow in due:
                self._hold(flow)
            if not due:
                return verdict

    def _hold(self, flow: Turns[T]) -> T:
        answer: Answer | None = None
        try:
            while True:
                request = flow.send(answer)
                answer = self.azure.answer(request) if request else None
        except StopIteration as end:
            result: T = end.value
            return result


@pytest.fixture
def azure() -> Azure:
    return Azure()


def counts(verdict: Verdict) -> dict[Reason, int]:
    return {reason: count for reason, count in verdict.counts.items() if count}


# What a list shows no longer


def test_a_vault_that_is_gone_leaves_the_scope_once_that_is_confirmed(azure: Azure) -> None:
    looks = Looks(azure)
    assert counts(looks.look()) == {Reason.FRESH: 2}
    del azure.vaults[TWO]
    azure.asked.clear()
    assert counts(looks.look(HOUR)) == {Reason.FRESH: 1}
    assert TWO in azure.asked
    assert [vault.path for vault in looks.estate.vaults] == [ONE]


def test_a_vault_that_a_list_leaves_out_stays_in_the_scope(azure: Azure) -> None:
    looks = Looks(azure)
    looks.look()
    azure.hidden.add(TWO)
    azure.jobs[TWO] = []
    assert counts(looks.look(HOUR)) == {Reason.FRESH: 2}
    # Its items are looked at as before.
    azure.items[TWO]["vm-3"] = "vm-3"
    assert counts(looks.look(HOUR)) == {Reason.FRESH: 2, Reason.NEVER_TRIED: 1}


def test_a_vault_whose_end_cannot_be_confirmed_stays_in_the_scope(azure: Azure) -> None:
    looks = Looks(azure)
    looks.look()
    azure.hidden.add(TWO)
    azure.denied.update({TWO, f"{TWO}/backupProtectedItems"})
    verdict = looks.look(HOUR)
    assert [name for name, _ in verdict.unreadable] == [TWO]
    assert not verdict.opens(1)
    assert TWO in {vault.path for vault in looks.estate.vaults}


def test_a_vault_that_is_named_stays_in_the_scope_when_it_is_gone(azure: Azure) -> None:
    looks = Looks(azure, vaults=(ONE, TWO))
    looks.look()
    del azure.vaults[TWO]
    verdict = looks.look(HOUR)
    assert [name for name, _ in verdict.unreadable] == [TWO]
    assert not verdict.opens(1)


def test_a_list_of_vaults_that_is_denied_keeps_the_gate_shut_and_hides_no_vault(azure: Azure) -> None:
    looks = Looks(azure)
    looks.look()
    azure.denied.add(f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.RecoveryServices/vaults")
    azure.items[TWO]["vm-3"] = "vm-3"
    verdict = looks.look(HOUR)
    assert [name for name, _ in verdict.unreadable] == [f"/subscriptions/{SUBSCRIPTION} (RecoveryServices)"]
    assert counts(verdict) == {Reason.FRESH: 2, Reason.NEVER_TRIED: 1}
    assert not verdict.opens(2)


def test_an_item_that_is_gone_leaves_the_scope_once_that_is_confirmed(azure: Azure) -> None:
    azure.items[TWO]["vm-3"] = "vm-3"
    looks = Looks(azure)
    assert counts(looks.look()) == {Reason.FRESH: 2, Reason.NEVER_TRIED: 1}
    del azure.items[TWO]["vm-3"]
    azure.asked.clear()
    assert counts(looks.look(HOUR)) == {Reason.FRESH: 2}
    assert item(TWO, "vm-3") in azure.asked


def test_an_item_that_a_list_leaves_out_counts_as_before(azure: Azure) -> None:
    azure.items[TWO]["vm-3"] = "vm-3"
    looks = Looks(azure)
    looks.look()
    azure.hidden.add(item(TWO, "vm-3"))
    assert counts(looks.look(HOUR)) == {Reason.FRESH: 2, Reason.NEVER_TRIED: 1}


def test_an_item_whose_end_cannot_be_confirmed_is_unreadable_until_it_can(azure: Azure) -> None:
    looks = Looks(azure)
    looks.look()
    azure.hidden.add(item(TWO, "vm-2"))
    azure.denied.add(item(TWO, "vm-2"))
    verdict = looks.look(HOUR)
    assert counts(verdict) == {Reason.FRESH: 1, Reason.UNREADABLE: 1}
    assert "shows it no longer" in str(verdict.findings[0].detail)
    assert not verdict.opens(1)
    azure.hidden.clear()
    assert counts(looks.look(60)) == {Reason.FRESH: 2}


def test_an_estate_whose_last_item_goes_is_an_error(azure: Azure) -> None:
    looks = Looks(azure, vaults=(ONE,))
    looks.look()
    azure.items[ONE].clear()
    with pytest.raises(AzureBackupNotFoundError, match="selects nothing"):
        looks.look(HOUR)


def test_a_vault_that_comes_joins_the_scope(azure: Azure) -> None:
    there = azure.vaults.pop(TWO)
    looks = Looks(azure)
    assert counts(looks.look()) == {Reason.FRESH: 1}
    azure.vaults[TWO] = there
    assert counts(looks.look(HOUR)) == {Reason.FRESH: 2}


def test_a_list_that_cannot_be_read_again_yet_keeps_the_gate_shut(azure: Azure) -> None:
    looks = Looks(azure, vaults=(ONE, TWO))
    assert looks.look().opens(0)
    busy = AzureBackupTransientError("too many requests", retry_after=900.0)
    looks.estate.fail_jobs(looks.estate.vaults[0], busy, azure.now)
    verdict = looks.look(60)
    assert dict(verdict.unreadable) == dict.fromkeys((ONE, TWO), "it has not been read again yet")
    assert not verdict.opens(0)
    assert looks.look(900).opens(0)


# Tags


@pytest.mark.parametrize(
    "scope",
    [{"subscriptions": (SUBSCRIPTION,)}, {"vaults": (ONE, TWO)}],
    ids=["subscription", "vaults"],
)
def test_items_have_the_tags_of_their_vault(azure: Azure, scope: dict[str, Any]) -> None:
    verdict = Looks(azure, tags=(("TIER", "1"),), **scope).look()
    assert counts(verdict) == {Reason.FRESH: 1}


def test_a_tag_that_changes_moves_items_into_the_scope_and_out_of_it(azure: Azure) -> None:
    looks = Looks(azure, subscriptions=(SUBSCRIPTION,), tags=(("tier", "1"),))
    assert looks.look().total == 1
    azure.vaults[TWO] = {"tier": "1"}
    assert looks.look(HOUR).total == 2
    azure.vaults[ONE] = {}
    assert looks.look(HOUR).total == 1


def test_tags_that_cannot_be_read_keep_the_gate_shut(azure: Azure) -> None:
    azure.denied.add(ONE)
    verdict = Looks(azure, vaults=(ONE, TWO), tags=(("tier", "2"),)).look()
    assert [name for name, _ in verdict.unreadable] == [ONE]
    assert not verdict.opens(0.9)


def test_no_item_with_a_tag_is_an_error_that_names_the_tag(azure: Azure) -> None:
    with pytest.raises(AzureBackupNotFoundError, match=r"tags tier=3.*Vaults in it: 2"):
        Looks(azure, subscriptions=(SUBSCRIPTION,), tags=(("tier", "3"),)).look()


# Names


def _database(azure: Azure, name: str) -> None:
    """Show a database in the first vault whose jobs are recognised by its name."""
    azure.items[ONE] = {}
    path = f"{ONE}/backupFabrics/Azure/protectionContainers/VMAppContainer;compute;rg;sql/protectedItems"
    body = {
        "id": f"{path}/SQLDataBase;mssqlserver;1",
        "properties": {"friendlyName": name, "serverName": "sql", "protectionState": "Protected"},
    }
    shown: Callable[[Request], tuple[int, dict[str, Any]]] = type(azure)._answer.__get__(azure)

    def answer(call: Request) -> tuple[int, dict[str, Any]]:
        if call.path == f"{ONE}/backupProtectedItems" and "AzureWorkload" in dict(call.query)["$filter"]:
            return 200, {"value": [body]}
        return shown(call)

    azure._answer = answer  # type: ignore[method-assign]  # what this test shows


def test_jobs_before_a_renaming_prove_nothing_for_the_new_name(azure: Azure) -> None:
    # The job of another database, which had the name before.
    azure.jobs[ONE] = ["db-new [sql]"]
    _database(azure, "db-old")
    looks = Looks(azure, vaults=(ONE,))
    assert counts(looks.look()) == {Reason.NEVER_TRIED: 1}
    _database(azure, "db-new")
    assert counts(looks.look(HOUR)) == {Reason.NEVER_TRIED: 1}


def test_a_name_that_does_not_change_keeps_its_jobs(azure: Azure) -> None:
    azure.jobs[ONE] = ["db-new [sql]"]
    _database(azure, "db-new")
    looks = Looks(azure, vaults=(ONE,))
    assert counts(looks.look()) == {Reason.FRESH: 1}
    assert counts(looks.look(HOUR)) == {Reason.FRESH: 1}

"""Lists, filters, windows, pages; names in any case; and the hourly budget of job reads."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from azure_backup_emulator import Emulator
from azure_backup_emulator.arm.gateway import Request
from azure_backup_emulator.service import Service
from tests.emulator.conftest import SUBSCRIPTION, VAULT, Client
from tests.support.clock import ManualClock

JOBS = f"{VAULT}/backupJobs"
INSTANCES = VAULT.replace(
    "RecoveryServices/vaults/demo-vault", "DataProtection/backupVaults/demo-backup-vault"
)


def _names(reply: Any) -> list[str]:
    assert reply.status_code == 200, reply.text
    return [value["name"] for value in reply.json()["value"]]


def _jobs(client: Client, text: str | None = None) -> list[str]:
    return _names(client.get(JOBS, params={"$filter": text} if text else {}))


def test_jobs_are_listed_newest_first_without_their_details(
    azure: Emulator, client: Client, clock: ManualClock
) -> None:
    older = azure.start_job("vm-good")
    clock.advance(5)
    newer = azure.start_job("documents")
    assert _jobs(client) == [newer, older]
    assert all("extendedInfo" not in job["properties"] for job in client.get(JOBS).json()["value"])


def test_jobs_are_filtered_by_status_operation_management_type_and_id(
    azure: Emulator, client: Client, clock: ManualClock
) -> None:
    done, other = azure.start_job("documents"), azure.start_job("vm-good", operation="ConfigureBackup")
    clock.advance(100)
    running, database = azure.start_job("vm-good"), azure.start_job("payroll")
    clock.advance(100)
    expected = {
        "status eq 'InProgress'": {running, database},
        "status eq 'completed'": {done, other},
        # "Backup (Full)" is a Backup too.
        "operation eq 'Backup'": {done, running, database},
        "operation eq 'Backup' and status eq 'InProgress'": {running, database},
        "backupManagementType eq 'AzureWorkload'": {database},
        f"jobId eq '{other}'": {other},
        "status eq 'Failed'": set(),
    }
    for text, names in expected.items():
        assert set(_jobs(client, text)) == names, text


def test_a_window_is_on_a_twelve_hour_clock_in_utc(
    azure: Emulator, client: Client, clock: ManualClock
) -> None:
    # Noon and midnight are where a 12-hour clock goes wrong.
    clock.advance(1_790_035_200 - clock() + 86400 * 10)  # 2026-10-02 00:00:00 UTC
    midnight = azure.start_job("vm-good")
    clock.advance(12 * 3600)
    noon = azure.start_job("documents")
    window = "startTime eq '{}' and endTime eq '{}'"
    assert _jobs(client, window.format("2026-10-02 12:00:00 AM", "2026-10-02 11:59:59 AM")) == [midnight]
    assert _jobs(client, window.format("2026-10-02 12:00:00 PM", "2026-10-02 11:59:59 PM")) == [noon]
    assert _jobs(client, "startTime eq '2026-10-02 01:00:00 AM'") == [noon]
    assert _jobs(client, "endTime eq '2026-10-02 01:00:00 AM' and status eq 'Completed'") == [midnight]


@pytest.mark.parametrize(
    "text",
    [
        "startTime eq '2026-10-02 13:00:00'",
        "startTime eq '2026-10-02 13:00:00 PM'",
        "startTime eq '2026-10-02T01:00:00Z'",
        "colour eq 'blue'",
        "status ne 'Failed'",
        "status eq 'Failed' or status eq 'Completed'",
        "nonsense",
    ],
)
def test_a_filter_azure_would_not_understand_is_refused(client: Client, text: str) -> None:
    reply = client.get(JOBS, params={"$filter": text})
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "BMSUserErrorInvalidInput")


@pytest.mark.parametrize("path", ["/backupJobs", "/backupProtectedItems", "/backupProtectionContainers"])
def test_pages_follow_each_other_until_everything_was_seen_once(
    azure: Emulator, client: Client, clock: ManualClock, path: str
) -> None:
    for number in range(1, 8):
        azure.start_job(f"fleet-{number:02}")
        clock.advance(1)
    whole = client.get(VAULT + path).json()["value"]
    azure.configure(page_size=3)
    seen, following = [], VAULT + path
    while following:
        page = client.get(following, version=None if seen else "2026-07-01").json()
        seen += page["value"]
        following = page.get("nextLink")
        if path == "/backupJobs":
            azure.start_job("documents")  # what begins meanwhile does not shift the pages
    assert seen == whole


def test_a_next_link_keeps_the_filter(azure: Emulator, client: Client) -> None:
    azure.configure(page_size=1)
    azure.start_job("documents")
    wanted = [azure.start_job("vm-good"), azure.start_job("vm-warned")]
    first = client.get(JOBS, params={"$filter": "backupManagementType eq 'AzureIaasVM'"}).json()
    second = client.get(first["nextLink"], version=None).json()
    assert {job["name"] for job in first["value"] + second["value"]} == set(wanted)
    assert "nextLink" not in second


def test_items_are_filtered_by_management_and_item_type(client: Client) -> None:
    def kinds(text: str) -> set[str]:
        reply = client.get(f"{VAULT}/backupProtectedItems", params={"$filter": text})
        return {item["properties"]["workloadType"] for item in reply.json()["value"]}

    assert kinds("backupManagementType eq 'AzureIaasVM' and itemType eq 'VM'") == {"VM"}
    assert kinds("backupManagementType eq 'AzureWorkload'") == {
        "SQLDataBase",
        "SAPHanaDatabase",
        "SAPHanaDBInstance",
        "SAPAseDatabase",
    }
    assert kinds("itemType eq 'AzureFileShare'") == {"AzureFileShare"}


def test_a_vault_lists_only_what_is_its_own(azure: Emulator, client: Client) -> None:
    job_id = azure.start_job("vm-elsewhere")
    other = f"{VAULT}-2"
    assert _names(client.get(f"{other}/backupJobs")) == [job_id]
    assert _jobs(client) == []
    assert client.get(f"{JOBS}/{job_id}").status_code == 404
    assert len(_names(client.get(f"{other}/backupProtectedItems"))) == 3
    listed = _names(client.get(f"{SUBSCRIPTION}/providers/Microsoft.RecoveryServices/vaults"))
    assert listed == ["demo-vault", "demo-vault-2"]


def test_names_are_found_in_any_case_and_with_escaped_semicolons(azure: Emulator, client: Client) -> None:
    job_id = azure.start_job("vm-good")
    item = client.item("vm-good")
    assert client.get(item.replace(";", "%3B")).json()["id"] == item
    assert client.get(item.replace(";", "%3b").lower()).json()["id"] == item
    assert client.get(item.upper().replace("/SUBSCRIPTIONS", "/subscriptions")).json()["id"] == item
    spelt = JOBS.replace("resourceGroups", "RESOURCEGROUPS").replace("demo-vault", "Demo-Vault")
    # Azure echoes the caller's spelling in a job's id.
    assert client.get(f"{spelt}/{job_id.upper()}").json()["id"] == f"{spelt}/{job_id}"


@pytest.mark.parametrize("version", [None, ""])
def test_a_request_without_api_version_is_refused(client: Client, version: str | None) -> None:
    reply = client.get(VAULT, version=None, params={} if version is None else {"api-version": version})
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "MissingApiVersionParameter")


@pytest.mark.parametrize(
    "path",
    [
        f"{JOBS}/00000000-0000-0000-0000-000000000000",
        f"{VAULT}/backupOperations/x",
        f"{VAULT}/nothing",
        f"{VAULT}/backupFabrics/Azure/protectionContainers/c/protectedItems/i",
    ],
)
def test_what_does_not_exist_is_404_in_arms_envelope(client: Client, path: str) -> None:
    reply = client.get(path)
    assert reply.status_code == 404
    assert set(reply.json()["error"]) == {"code", "message"}


def test_a_point_exists_from_the_snapshot_on_and_is_restored_by_its_own_kind_of_request(
    azure: Emulator, client: Client, clock: ManualClock
) -> None:
    azure.start_job("vm-good")
    points = f"{client.item('vm-good')}/recoveryPoints"
    clock.advance(460)
    assert client.get(points).json() == {"value": []}
    clock.advance(5)
    (point,) = client.get(points).json()["value"]
    assert client.get(f"{points}/1").status_code == client.post(f"{points}/1/restore", {}).status_code == 404
    wrong = {"properties": {"objectType": "AzureFileShareRestoreRequest"}}
    assert client.post(f"{point['id']}/restore", wrong).status_code == 400
    assert len(_jobs(client)) == 1


def test_a_body_that_is_not_json_is_refused(client: Client) -> None:
    address = f"{client.azure.url}{client.item('vm-good')}/backup?api-version=2026-07-01"
    headers = {"Authorization": f"Bearer {client.token()}"}
    for data in ("{", "[]"):
        reply = client.session.post(address, data=data, headers=headers, timeout=10)
        assert (reply.status_code, reply.json()["error"]["code"]) == (400, "BMSUserErrorInvalidInput")


def test_looking_changes_nothing(azure: Emulator, client: Client, clock: ManualClock) -> None:
    job_id = azure.start_job("vm-good")
    for seconds in (0, 470, 1000, 5000):
        clock.advance(seconds)
        once, again = (client.get(f"{JOBS}/{job_id}").json() for _ in range(2))
        assert once == again
    clock.advance(-5000)
    assert client.job(job_id)["status"] == "InProgress"
    clock.advance(5000)


def test_ids_of_a_request_come_back_in_its_answer(client: Client) -> None:
    reply = client.get(VAULT, headers={"x-ms-client-request-id": "mine"})
    assert reply.headers["x-ms-client-request-id"] == "mine"
    assert reply.headers["x-ms-request-id"] == reply.headers["x-ms-correlation-request-id"]
    assert reply.headers["Server"] == "Kestrel"
    assert client.azure.requests[-1]["client_request_id"] == "mine"


def test_job_reads_have_a_budget_of_150_an_hour_shared_by_get_and_list(
    azure: Emulator, client: Client, clock: ManualClock
) -> None:
    job_id = azure.start_job("vm-good")
    header = "x-ms-ratelimit-remaining-subscription-resource-requests"
    left = [client.get(path).headers[header] for _ in range(75) for path in (JOBS, f"{JOBS}/{job_id}")]
    assert left == [str(number) for number in range(149, -1, -1)]
    refused = client.get(f"{VAULT.replace('demo-vault', 'demo-vault-2')}/backupJobs")
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "3600")
    assert header not in refused.headers
    # Other reads have counters of their own.
    assert client.get(f"{VAULT}/backupProtectedItems").headers[header] == "1099"
    clock.advance(3599)
    assert client.get(JOBS).headers["Retry-After"] == "1"
    clock.advance(1.1)
    assert client.get(JOBS).headers[header] == "149"


def test_speed_shortens_jobs_operations_and_the_budgets_hour() -> None:
    clock = ManualClock()
    service = Service(clock=clock, speed=60, seed=None)
    job = service.world.jobs[service.start_job("vm-good", seconds=600)]
    clock.advance(9.9)
    assert job.status(clock()) == "InProgress"
    clock.advance(0.2)
    assert job.status(clock()) == "Completed"
    action = "Microsoft.RecoveryServices/vaults/backupJobs/read"
    first = service.arm.spend(action, "GET")
    clock.advance(60)
    assert service.arm.spend(action, "GET") == first


def calls_of(work: Callable[[], object]) -> int:
    """How many functions are called: a measure of work that no load on the computer changes."""
    counted = 0

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal counted
        counted += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(before)
    return counted


LARGE: dict[str, Callable[[Service, int], object]] = {
    "items": lambda service, _: _walk(service, f"{VAULT}/backupProtectedItems"),
    "containers": lambda service, _: _walk(service, f"{VAULT}/backupProtectionContainers"),
    "jobs": lambda service, _: _walk(service, JOBS),
    "instances": lambda service, _: _walk(service, f"{INSTANCES}/backupInstances"),
    "jobs of instances": lambda service, _: _walk(service, f"{INSTANCES}/backupJobs"),
    "one item after the other": lambda service, _: [_ask(service, each.path) for each in service.world.items],
    "recovery points of each": lambda service, _: [
        _ask(service, f"{each.path}/recoveryPoints") for each in service.world.items
    ],
    "a job of each": lambda service, _: [service.start_job(each.path) for each in service.world.items],
    "a plan of each": lambda service, _: [service.plan(each.path) for each in service.world.items],
    "a seed": lambda _, size: _large(size),
}


def _large(size: int) -> Service:
    items = [{"kind": "VM", "name": f"vm-{number}", "group": "g"} for number in range(size)]
    home = {"kind": "Disk", "policy": "disk-policy", "group": "g", "vault": "demo-backup-vault"}
    instances = [{**home, "name": f"disk-{number}"} for number in range(size)]
    seed = {"items": items, "backup_instances": instances}
    service = Service(clock=ManualClock(), speed=1, seed=seed)
    service.configure(page_size=size // 4, job_read_budget=100_000)
    for item in service.world.items:
        service.start_job(item.path, seconds=0, ago=60)
    return service


def _ask(service: Service, path: str, **query: str) -> Any:
    identity = service.identity
    token = identity.token(identity.principals["operator"], "https://management.azure.com")
    request = Request(
        method="GET",
        path=path,
        query={"api-version": "2026-07-01", **query},
        headers={"authorization": f"Bearer {token}"},
        body=b"",
        base="https://localhost",
    )
    answer = service.answer(request)
    assert answer.status == 200
    return answer.body


def _walk(service: Service, path: str) -> None:
    body = _ask(service, path)
    while following := body.get("nextLink"):
        query = dict(parse_qsl(urlsplit(following).query))
        body = _ask(service, path, **{"$skipToken": query["$skipToken"]})


@pytest.mark.parametrize("what", LARGE)
def test_twice_as_many_items_are_twice_as_much_work(what: str) -> None:
    small, large = (calls_of(partial(LARGE[what], _large(size), size)) for size in (100, 200))
    assert large / small < 2.5


def test_a_seed_file_can_change_any_part_of_the_world() -> None:
    seed = {
        "vaults": [{"name": "mine", "group": "my-group"}],
        "items": [
            {"kind": "VM", "name": "web", "group": "my-vms", "vault": "mine", "plan": {"ending": "Failed"}}
        ],
        "backup_instances": [],
    }
    service = Service(clock=ManualClock(), speed=1, seed=seed)
    assert [item.path for item in service.world.items] == [
        f"{SUBSCRIPTION}/resourceGroups/my-group/providers/Microsoft.RecoveryServices/vaults/mine/backupFabrics/Azure"
        "/protectionContainers/IaasVMContainer;iaasvmcontainerv2;my-vms;web"
        "/protectedItems/VM;iaasvmcontainerv2;my-vms;web"
    ]
    assert "operator" in service.identity.principals

"""The page in Airflow's UI: who may see what, what it costs, and that no text of Azure's does harm in it."""

from __future__ import annotations

import hashlib
import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

import pytest

airflow_fastapi = pytest.importorskip("airflow.api_fastapi.app", reason="the page is for Airflow 3.1+")
if not hasattr(pytest.importorskip("airflow.plugins_manager").AirflowPlugin, "external_views"):
    pytest.skip("the page is for Airflow 3.1+", allow_module_level=True)

from airflow import settings as airflow_settings  # noqa: E402  # after the check above, as all below
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity  # noqa: E402
from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager  # noqa: E402
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser  # noqa: E402
from airflow.jobs.job import Job  # noqa: E402
from airflow.models import import_all_models  # noqa: E402
from airflow.models.base import Base  # noqa: E402
from airflow.models.dag import DagModel  # noqa: E402
from airflow.models.dagbundle import DagBundleModel  # noqa: E402
from airflow.models.dagrun import DagRun  # noqa: E402
from airflow.models.taskinstance import TaskInstance  # noqa: E402
from airflow.models.trigger import Trigger  # noqa: E402
from sqlalchemy import event, insert, update  # noqa: E402
from starlette.routing import Mount  # noqa: E402
from starlette.testclient import TestClient  # noqa: E402

from airflow_provider_azbackup import __version__, plugin  # noqa: E402
from airflow_provider_azbackup.core.model.jobs import Outcome  # noqa: E402
from airflow_provider_azbackup.core.settings import CLOUDS  # noqa: E402
from airflow_provider_azbackup.hooks import AzureBackupHook  # noqa: E402
from airflow_provider_azbackup.page import gates  # noqa: E402
from airflow_provider_azbackup.page import reads as page_reads  # noqa: E402
from airflow_provider_azbackup.page.app import HEADERS, make_app  # noqa: E402
from azure_backup_emulator import Emulator  # noqa: E402
from dev.stack.pace import Limit, slowness  # noqa: E402
from tests.conftest import WaitingClock  # noqa: E402
from tests.support.airflow_rows import XCOM_TABLES, add_tasks, add_xcoms, delete_all  # noqa: E402

STATIC = Path(page_reads.__file__).parent / "static"
CONN = "azure_backup_default"
JOBS = f"/api/connections/{CONN}/vault"
EVIL = '<script>alert("x")</script><img src=x onerror=alert(1)>'


class Choosy(SimpleAuthManager):
    """Airflow's own auth manager, but that viewers may not read all Dags.

    They may read neither ``payroll`` nor the XComs of ``discreet``. A viewer called ``guest`` may read the
    XComs of ``nightly``, and of no other Dag.
    """

    def is_authorized_dag(self, *, user: SimpleAuthManagerUser, details: Any = None, **asked: Any) -> bool:
        dag_id, entity = details and details.id, asked.get("access_entity")
        hidden = dag_id == "payroll" or (dag_id == "discreet" and entity is DagAccessEntity.XCOM)
        if user.username == "guest" and entity is DagAccessEntity.XCOM and dag_id != "nightly":
            return False
        return not (hidden and user.role == "viewer") and super().is_authorized_dag(
            user=user, details=details, **asked
        )


@pytest.fixture(scope="module", autouse=True)
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Airflow's tables and its auth manager, with users that have passwords."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS", "admin:admin,op:op,viewer:viewer")
        file = tmp_path_factory.mktemp("auth") / "passwords.json"
        file.write_text(json.dumps(dict.fromkeys(("admin", "op", "viewer"), "a password")))
        patch.setenv("AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE", str(file))
        patch.setenv("AIRFLOW__API_AUTH__JWT_SECRET", "s" * 64)
        import_all_models()
        Base.metadata.create_all(airflow_settings.engine)
        airflow_fastapi.purge_cached_app()
        patch.setattr(airflow_fastapi, "get_auth_manager_cls", lambda: Choosy)
        airflow_fastapi.init_auth_manager()
        yield
        airflow_fastapi.purge_cached_app()


@dataclass
class Page:
    """The sub-application as one of Airflow's users sees it."""

    app: Any

    def get(self, path: str, role: str | None = "admin") -> Any:
        headers = {}
        if role is not None:
            user = SimpleAuthManagerUser(username=role, role="viewer" if role == "guest" else role)
            token = airflow_fastapi.get_auth_manager().generate_jwt(user)
            headers["cookie"] = f"_token={token}"
        return TestClient(self.app).get(path, headers=headers)

    def json(self, path: str, role: str = "admin") -> Any:
        answer = self.get(path, role)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def vault(self, role: str = "admin", path: str = JOBS) -> Any:
        """Return the answer about a vault once nothing is being read any more."""
        limit = Limit(30)
        while (found := self.json(path, role))["reading"]:
            assert not limit.is_over
            time.sleep(0.02)
        return found

    def vaults(self) -> Any:
        """Return the vaults of the subscription once they have been listed."""
        limit = Limit(30)
        while (found := self.json(VAULTS))["reading"]:
            assert not limit.is_over
            time.sleep(0.02)
        return found

    def task(self, path: str) -> Any:
        """Return the answer about a task once Azure has been asked about its job."""
        limit = Limit(30)
        while "status" not in (found := self.json(path))["job"]:
            assert not limit.is_over
            time.sleep(0.02)
        return found


@pytest.fixture
def page(azure: Emulator) -> Page:
    return Page(make_app())


def lists(azure: Emulator) -> int:
    return len([each for each in azure.requests if each["path"].lower().endswith("/backupjobs")])


def routes(page: Page) -> list[str]:
    named = {"{name}": "page.js", "{connection_id}": CONN, "{dag_id}": "nightly"}
    # A list of its routes is flat in some releases of FastAPI, and nested in others.
    paths = page.app.openapi()["paths"]
    return [re.sub(r"\{\w+\}", lambda found: named[found[0]], path) for path in paths]


# Who may see what


def test_every_route_needs_a_user_of_airflow(page: Page, azure: Emulator) -> None:
    assert len(routes(page)) == 8
    mounted = [route for route in page.app.routes if isinstance(route, Mount)]
    assert mounted == [], "what is mounted has no permission of its own"
    for path in routes(page):
        assert page.get(path, role=None).status_code == 401, path
        refused = TestClient(page.app).get(path, headers={"authorization": "Bearer nonsense"})
        assert refused.status_code == 403, path
        assert page.get(path, role="").status_code == 403, path
    assert azure.requests == []


def test_a_token_in_the_header_is_accepted_too(page: Page) -> None:
    user = SimpleAuthManagerUser(username="admin", role="admin")
    token = airflow_fastapi.get_auth_manager().generate_jwt(user)
    answer = TestClient(page.app).get("/api/connections", headers={"authorization": f"Bearer {token}"})
    assert [each["id"] for each in answer.json()["connections"]] == [CONN]


def test_a_viewer_sees_no_connection_and_causes_no_request_to_azure(page: Page, azure: Emulator) -> None:
    assert page.json("/api/connections", "viewer") == {"connections": []}
    assert page.get(JOBS, "viewer").status_code == 403
    assert azure.requests == []
    assert page.get("/", "viewer").status_code == 200


@pytest.mark.parametrize("role", ["op", "admin"])
def test_a_user_who_may_read_the_connection_sees_its_vault(page: Page, azure: Emulator, role: str) -> None:
    job_id = azure.start_job("vm-good", seconds=60)
    (listed,) = page.json("/api/connections", role)["connections"]
    assert (listed["id"], listed["vault"]["vault"], listed["fault"]) == (CONN, "demo-vault", "")
    found = page.vault(role)
    assert [(job["id"], job["item"], job["outcome"]) for job in found["jobs"]] == [
        (job_id, "vm-good", "running")
    ]
    assert found["jobs_portal"].startswith("https://portal.azure.com/#@")


def test_a_connection_of_another_type_is_never_used_with_azure(
    page: Page, azure: Emulator, connect: Callable[..., None]
) -> None:
    connect({**azure.connection(), "conn_type": "http"}, "other")
    assert page.get("/api/connections/other/vault").status_code == 404
    assert page.get("/api/connections/nowhere/vault").status_code == 404
    assert azure.requests == []


def test_connections_given_as_a_uri_or_by_name_are_found_too(
    page: Page, azure: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_BY_URI", "azure-backup://id:secret@/?vault_name=v")
    monkeypatch.setenv("AIRFLOW__AZURE_BACKUP__PAGE_CONNECTIONS", "kept_secret")
    found = {each["id"]: each["fault"] for each in page.json("/api/connections")["connections"]}
    assert set(found) == {CONN, "by_uri", "kept_secret"}
    assert "tenant_id" in found["by_uri"]
    assert found["kept_secret"] == "The connection cannot be read (AirflowNotFoundException)."
    assert "tenant_id" in page.json("/api/connections/by_uri/vault")["fault"]


def test_the_default_connection_comes_first_and_those_of_type_azure_are_shown_too(
    page: Page, azure: Emulator, connect: Callable[..., None]
) -> None:
    connect({**azure.connection(), "conn_type": "azure"}, "a_first_in_the_alphabet")
    found = page.json("/api/connections")["connections"]
    assert [each["id"] for each in found] == [CONN, "a_first_in_the_alphabet"]
    assert [each["vault"]["vault"] for each in found] == ["demo-vault", "demo-vault"]
    assert page.vault(path="/api/connections/a_first_in_the_alphabet/vault")["read_at"]


# All vaults


VAULTS = f"/api/connections/{CONN}/vaults"


def listings(azure: Emulator) -> int:
    return len(
        [each for each in azure.requests if each["path"].lower().endswith(("/vaults", "/backupvaults"))]
    )


def test_the_vaults_of_both_kinds_in_the_subscription_are_listed_once_an_hour(
    page: Page, azure: Emulator, clock: WaitingClock
) -> None:
    for _ in range(3):
        found = page.vaults()
    assert {each["vault"] for each in found["vaults"]} == {"demo-vault", "demo-vault-2", "demo-backup-vault"}
    assert found["fault"] == ""
    assert (listings(azure), lists(azure)) == (2, 0)
    clock.advance(3601)
    page.vaults()
    assert listings(azure) == 4


def test_a_viewer_lists_no_vaults(page: Page, azure: Emulator) -> None:
    assert page.get(VAULTS, "viewer").status_code == 403
    assert azure.requests == []


def test_vaults_that_cannot_be_listed_do_not_hide_the_one_of_the_connection(
    page: Page, azure: Emulator, connect: Callable[..., None]
) -> None:
    connect(azure.connection("nobody"))
    found = page.vaults()
    assert [each["vault"] for each in found["vaults"]] == ["demo-vault"]
    assert "Microsoft.RecoveryServices/vaults" in found["fault"]


def test_the_overview_shows_what_has_been_read_and_asks_azure_nothing(
    page: Page, azure: Emulator, clock: WaitingClock
) -> None:
    azure.start_job("vm-good", seconds=60)
    azure.start_job("vm-fails", ending="Failed", seconds=60)
    clock.advance(3600)
    (before,) = page.json("/api/connections")["connections"]
    assert (before["vault"]["night"], before["vault"]["night_at"]) == (None, None)
    page.vault()
    asked = len(azure.requests)
    # The jobs are forgotten after an hour without a visitor, but not how the night went.
    clock.advance(7200)
    page.vault(path=f"{JOBS}?vault={vault_id('demo-vault-2')}")
    (after,) = page.json("/api/connections")["connections"]
    night = after["vault"]["night"]
    assert after["vault"]["night_at"] == clock.now - 7200
    assert night["counts"] == {"succeeded": 1, "failed": 1}
    assert [(each["code"], each["count"]) for each in night["errors"]] == [
        ("UserErrorVmNotInDesirableState", 1)
    ]
    assert night["overdue_count"] >= len(night["overdue"]) > 0
    assert len([each for each in azure.requests[asked:] if "/demo-vault/" in each["path"]]) == 0


def vault_id(name: str) -> str:
    with AzureBackupHook(vault_name=name) as hook:
        return hook.job_ref("6a7b0b7e-1c3d-4e5f-8a9b-0c1d2e3f4a5b").vault.path


def test_another_vault_of_the_subscription_is_read_with_the_same_connection(
    page: Page, azure: Emulator
) -> None:
    azure.start_job("vm-elsewhere", seconds=60)
    whole = page.vault(path=f"{JOBS}?vault={vault_id('demo-vault-2')}")
    assert (whole["vault"], [job["item"] for job in whole["jobs"]]) == ("demo-vault-2", ["vm-elsewhere"])
    brief = page.vault(path=f"{JOBS}?vault={vault_id('demo-vault-2')}&brief=true")
    assert brief["night"]["counts"] == {"running": 1}
    assert not {"jobs", "overdue"} & brief.keys()
    assert "not the ARM id of a vault" in page.json(f"{JOBS}?vault=demo-vault-2")["fault"]
    assert page.get(f"{JOBS}?vault={'x' * 401}").status_code == 422


# Where it goes


@pytest.mark.parametrize("field", ["endpoint", "authority"])
def test_the_page_sends_nothing_to_a_host_that_the_deployment_does_not_list(
    page: Page,
    azure: Emulator,
    records: Records,
    connect: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    field: str,
) -> None:
    records.task("nightly", azure_backup_job_url=link_of(azure.start_job("vm-good", seconds=3600)))
    monkeypatch.setenv("AIRFLOW__CORE__TEST_CONNECTION", "Disabled")
    monkeypatch.delenv("AIRFLOW__AZURE_BACKUP__ALLOWED_HOSTS")
    other = {"endpoint": "authority", "authority": "endpoint"}[field]
    connect(azure.connection(**{other: getattr(CLOUDS["AzurePublicCloud"], other)}))
    (listed,) = page.json("/api/connections")["connections"]
    answers = [listed["fault"], page.json(JOBS)["fault"]]
    assert page.json(f"/api/dags/nightly/task?{RUN_1}")["job"].keys() == {"job_id", "vault"}
    host = urlsplit(azure.url).netloc
    for fault in answers:
        assert f"nothing is sent to {host!r}, the host of the {field}" in fault
        assert "allowed_hosts" in fault
    assert azure.requests == []


# What it costs


def test_ten_visitors_cost_one_list(page: Page, azure: Emulator) -> None:
    azure.start_job("vm-good", seconds=60)
    # Each with the clock of this test.
    looks = [copy_context() for _ in range(10)]
    with ThreadPoolExecutor(len(looks)) as people:
        answers = list(people.map(lambda look: look.run(page.vault), looks))
    assert all(len(each["jobs"]) == 1 for each in answers)
    assert lists(azure) == 1


def test_the_next_list_comes_when_it_is_due_and_shows_what_is_new(
    page: Page, azure: Emulator, clock: WaitingClock
) -> None:
    azure.start_job("vm-good", seconds=60)
    due = page.vault()["next_at"]
    clock.advance(due - clock.now - 1)
    assert [job["outcome"] for job in page.vault()["jobs"]] == ["running"]
    assert lists(azure) == 1
    clock.advance(1)
    page.vault()
    assert lists(azure) == 2
    assert [job["outcome"] for job in page.vault()["jobs"]] == ["succeeded"]


def test_an_hour_on_the_page_costs_no_more_reads_than_tasks_leave(
    page: Page, azure: Emulator, clock: WaitingClock
) -> None:
    azure.configure(page_size=2)
    for number in range(1, 9):
        azure.start_job(f"fleet-{number:02}", seconds=60)
    for _ in range(30):
        page.vault()
        clock.advance(120)
    # Four pages each; a fifth of 150 reads an hour, and the list that began it.
    assert 20 <= lists(azure) <= 0.2 * 150 + 4


def test_two_connections_with_one_credential_share_what_was_read(
    page: Page, azure: Emulator, connect: Callable[..., None]
) -> None:
    connect(azure.connection(), "twin")
    page.vault()
    assert page.json("/api/connections/twin/vault")["read_at"]
    assert lists(azure) == 1


def test_a_client_id_without_its_secret_does_not_show_what_others_have_read(
    page: Page, azure: Emulator, connect: Callable[..., None]
) -> None:
    azure.start_job("vm-good", seconds=60)
    connect({**azure.connection(), "password": "guessed"}, "intruder")
    assert len(page.vault()["jobs"]) == 1
    shown = page.vault(path="/api/connections/intruder/vault")
    assert (shown["jobs"], shown["overdue"], shown["items"], shown["read_at"]) == ([], [], 0, None)
    assert "AADSTS7000215" in shown["fault"]


def test_a_vault_without_visitors_does_not_slow_down_the_others(
    page: Page, azure: Emulator, clock: WaitingClock, connect: Callable[..., None]
) -> None:
    azure.configure(page_size=1)
    for number in range(1, 9):
        azure.start_job(f"fleet-{number:02}", seconds=60)
    connect(azure.connection(), "once")
    connect({**azure.connection(), "extra": {**azure.connection()["extra"], "vault_name": "demo-vault-2"}})
    page.vault(path="/api/connections/once/vault")
    assert page.vault()["read_at"] is None
    clock.advance(page.vault()["next_at"] - clock.now)
    # Eight pages of the one and one of the other, thirty reads an hour.
    assert page.vault()["next_at"] == clock.now + 9 * 120
    clock.advance(3601)
    assert page.vault()["next_at"] == clock.now + 180


def test_when_the_quota_is_used_up_the_page_shows_what_it_has_and_sends_no_request(
    page: Page, azure: Emulator, clock: WaitingClock
) -> None:
    azure.start_job("vm-good", seconds=60)
    before = page.vault()
    clock.advance(before["next_at"] - clock.now)
    azure.fault(path="/backupJobs", status=429, retry_after=1200, times=None)
    assert page.vault()["jobs"] == before["jobs"]
    shown = page.vault()
    assert "429" in shown["fault"]
    assert shown["read_at"] == before["read_at"] < shown["now"]
    assert shown["next_at"] >= clock.now + 1200
    for _ in range(9):
        clock.advance(120)
        page.vault()
    assert lists(azure) == 2
    azure.clear_faults()
    clock.advance(121)
    page.vault()
    assert page.vault()["fault"] == ""
    assert lists(azure) == 3


def test_a_missing_right_is_named(page: Page, azure: Emulator, connect: Callable[..., None]) -> None:
    connect(azure.connection("nobody"))
    assert "Microsoft.RecoveryServices" in page.vault()["fault"]


def test_a_thousand_jobs_come_in_one_response(page: Page, azure: Emulator) -> None:
    azure.configure(page_size=200)
    for number in range(1000):
        azure.start_job(f"fleet-{number % 20 + 1:02}", seconds=60)
    assert len(page.vault()["jobs"]) == 1000
    began = time.process_time()  # not the clock on the wall: other work may take the processor
    assert len(page.json(JOBS)["jobs"]) == 1000
    assert time.process_time() - began < 0.5 * slowness()


def test_the_overdue_items_are_protected_items_of_the_vault(
    page: Page, azure: Emulator, clock: WaitingClock
) -> None:
    azure.start_job("vm-good", seconds=60)
    clock.advance(3600)
    page.vault()
    late = {each["item"]: each["why"] for each in page.vault()["overdue"]}
    assert "vm-good" not in late
    assert late["vm-fails"] == "no_backup"
    assert "documents" in late


# What Airflow knows


@dataclass
class Records:
    """Rows in Airflow's database, as a task leaves them."""

    at: datetime
    count: int = 0

    def task(self, dag_id: str, **xcoms: Any) -> None:
        self.count += 1
        run, number = f"manual__2026-01-01T00:00:0{self.count}+00:00", self.count
        with airflow_settings.Session() as session:
            if self.count == 1:
                session.execute(insert(DagBundleModel).values(name="dags"))
            session.add(DagModel(dag_id=dag_id, bundle_name="dags", fileloc="/dags/x.py"))
            session.flush()
            session.execute(
                insert(DagRun.__table__).values(
                    id=number, dag_id=dag_id, run_id=run, run_type="manual", run_after=self.at
                )
            )
            of = {"dag_id": dag_id, "run_id": run, "task_id": "backup", "map_index": -1}
            pool = {"pool": "default_pool", "pool_slots": 1}
            add_tasks(session, {**of, **pool, "state": "deferred", "start_date": self.at})
            for key, value in xcoms.items():
                row = {"dag_run_id": number, "key": key, "value": value, "timestamp": self.at}
                add_xcoms(session, {**of, **row})
            session.commit()


@pytest.fixture
def records(clock: WaitingClock) -> Iterator[Records]:
    yield Records(datetime.fromtimestamp(clock.now, UTC) - timedelta(minutes=5))
    with airflow_settings.Session() as session:
        delete_all(session, Trigger, Job, DagRun, DagModel, DagBundleModel)
        session.commit()


def link_of(job_id: str, vault: str | None = None) -> str:
    with AzureBackupHook(vault_name=vault) as hook:
        return hook.settings.portal_link(hook.job_ref(job_id).path)


RUN_1 = "run_id=manual__2026-01-01T00:00:01%2B00:00&task_id=backup"


def test_only_gates_of_dags_that_the_user_may_read_are_shown(
    page: Page, azure: Emulator, records: Records
) -> None:
    job_id = azure.start_job("vm-good", seconds=60)
    for dag_id in ("nightly", "payroll"):
        facts = {"item": "vm-good", "outcome": "succeeded", "size_bytes": 2 * 1024**3}
        records.task(dag_id, azure_backup_job_url=link_of(job_id), job=facts)
    records.task("somebody_elses", job_id="42", job={"item": "none of ours"})
    everything = page.json("/api/gates")["gates"]
    assert {gate["dag_id"] for gate in everything} == {"nightly", "payroll"}
    assert everything[0]["job"] == job_id.lower()
    assert (everything[0]["size"], everything[0]["state"]) == (2 * 1024**3, "deferred")
    assert {gate["dag_id"] for gate in page.json("/api/gates", "viewer")["gates"]} == {"nightly"}


def test_gates_of_one_dag_are_those_of_no_other(page: Page, azure: Emulator, records: Records) -> None:
    job_id = azure.start_job("vm-good", seconds=60)
    for dag_id in ("nightly", "other", "payroll"):
        records.task(dag_id, azure_backup_job_url=link_of(job_id))
    for role in ("admin", "viewer", "guest"):
        assert [each["dag_id"] for each in page.json("/api/gates?dag_id=nightly", role)["gates"]] == [
            "nightly"
        ]
    assert page.get("/api/gates?dag_id=payroll", "viewer").status_code == 403
    assert page.get("/api/gates", "guest").status_code == 403


def test_gates_of_a_dag_whose_xcoms_the_user_may_not_read_are_not_shown(
    page: Page, azure: Emulator, records: Records
) -> None:
    job_id = azure.start_job("vm-good", seconds=60)
    for dag_id in ("nightly", "discreet"):
        records.task(dag_id, azure_backup_job_url=link_of(job_id))
    assert [each["dag_id"] for each in page.json("/api/gates", "viewer")["gates"]] == ["nightly"]
    assert len(page.json("/api/gates")["gates"]) == 2


# What a task can push as its XCom ``job``, as it stands in Airflow's database.
HOSTILE = {
    "names of what every object of JavaScript has": {
        "outcome": "constructor", "status": "__proto__", "tasks": [{"name": "toString", "status": "valueOf"}],
    },
    "other types": {
        "outcome": ["running"], "status": {}, "item": 7, "errors": "no list", "tasks": {"name": "x"},
        "size_bytes": True, "percent": "much", "start": [], "message": None,
    },
    "entries of other types": {"errors": [None, 7, "x", {"recommendations": "x"}], "tasks": [None, []]},
    "numbers that are none": json.dumps({"size_bytes": float("nan"), "percent": float("inf")}),
    "numbers that are too large": json.dumps({"size_bytes": 10**400, "duration_seconds": -(10**40)}),
    "half of a surrogate pair": json.dumps({"item": "\ud83d", "errors": [{"message": "\x00"}]}),
    "a text without end": {"item": "x" * 40_000},
    "lists without end": {"errors": [{}] * 9_000},
    "a depth without end": "[" * 40_000,
    "more than is read": {"item": "x" * 60_000},
    "no object": json.dumps(["item"]),
}  # fmt: skip


@pytest.mark.parametrize("job", HOSTILE.values(), ids=[*HOSTILE])
def test_the_types_and_lengths_of_a_pushed_job_are_checked(
    page: Page, azure: Emulator, records: Records, job: Any
) -> None:
    known, job_id = {outcome.value for outcome in Outcome}, azure.start_job("vm-good")
    link = link_of(job_id)
    records.task("nightly", azure_backup_job_url=link, job=job, backup_progress=job, proof=job)
    (gate,) = page.json("/api/gates")["gates"]
    assert gate["outcome"] in {"", *known}
    assert isinstance(gate["item"], str) and len(gate["item"]) <= 2_000
    assert gate["size"] is None or 0 <= gate["size"] < 2**53
    answer = page.json(f"/api/dags/nightly/task?{RUN_1}", "viewer")
    shown = answer["job"]
    assert answer["portal"] == link
    assert shown.get("outcome", "running") in known
    for name in ("errors", "tasks"):
        entries = shown.get(name, [])
        assert len(entries) <= 50 and all(isinstance(entry, dict) for entry in entries)
    assert all(isinstance(error.get("recommendations", []), list) for error in shown.get("errors", []))
    for part in (shown, answer["progress"], answer["proof"]):
        texts = [value for name, value in part.items() if name not in ("errors", "tasks")]
        assert all(isinstance(value, str | int | float) and len(str(value)) <= 2_000 for value in texts)
    assert not re.search(r"\\ud83d|\\u0000|NaN|Infinity", page.get("/api/gates").text)


@pytest.mark.parametrize(
    "link",
    [
        ["x"],
        {"x": 1},
        7,
        "[" * 1_500,
        "https://portal.azure.com/#@t/resource" + "/x" * 900,
        "x" * 9_000,
    ],
)
def test_a_pushed_link_is_a_gate_only_if_it_names_a_job(
    page: Page, azure: Emulator, records: Records, link: Any
) -> None:
    records.task("nightly", azure_backup_job_url=link)
    assert page.json("/api/gates")["gates"] == []
    assert page.json(f"/api/dags/nightly/task?{RUN_1}")["job"] is None


@pytest.mark.parametrize(
    "path",
    [
        *(f"/api/dags/nightly/task?{RUN_1}&map_index={index}" for index in (2**31, 2**63, 10**30, -2, "x")),
        "/api/dags/nightly/task?run_id=%00&task_id=backup",
        "/api/dags/nightly/task?run_id=x&task_id=%1B",
        "/api/dags/%00/task?run_id=x&task_id=x",
        f"/api/dags/nightly/task?run_id={'x' * 251}&task_id=x",
        "/api/gates?dag_id=%00",
        "/api/connections/%00/vault",
        *(f"{JOBS}?within={hours}" for hours in ("nan", "inf", "1e999", 10**30, 0, -1, "")),
    ],
)
def test_an_invalid_query_is_rejected_without_a_server_error(page: Page, azure: Emulator, path: str) -> None:
    assert page.get(path).status_code == 422
    assert azure.requests == []


def test_the_newest_gates_are_shown_with_a_note_that_there_are_more(
    page: Page, azure: Emulator, records: Records
) -> None:
    link = link_of(azure.start_job("vm-good", seconds=60))
    records.task("nightly", azure_backup_job_url=link, job={"item": "the newest"})
    same = {"dag_id": "nightly", "run_id": "manual__2026-01-01T00:00:01+00:00", "task_id": "backup"}
    task = {**same, "state": "success", "pool": "default_pool", "pool_slots": 1, "start_date": records.at}
    xcom = {**same, "dag_run_id": 1, "key": "azure_backup_job_url"}

    def add(first: int, last: int) -> None:
        with airflow_settings.Session() as session:
            numbers = range(first, last + 1)
            add_tasks(session, *({**task, "map_index": each} for each in numbers))
            older = [
                # One of them is no link, so it is not shown, but it counts.
                {
                    **xcom,
                    "map_index": each,
                    "value": link if each else "no link",
                    "timestamp": records.at - timedelta(seconds=each + 1),
                }
                for each in numbers
            ]
            add_xcoms(session, *older)
            session.commit()

    add(0, gates.MOST - 2)
    found = page.json("/api/gates")
    assert (len(found["gates"]), found["cut"]) == (gates.MOST - 1, False)
    add(gates.MOST - 1, gates.MOST - 1)
    found = page.json("/api/gates")
    assert (len(found["gates"]), found["cut"]) == (gates.MOST - 1, True)
    assert (found["gates"][0]["item"], found["gates"][1]["map_index"]) == ("the newest", 1)


def test_every_query_of_xcoms_uses_an_index(page: Page, azure: Emulator, records: Records) -> None:
    link = link_of(azure.start_job("vm-good"))
    records.task("nightly", azure_backup_job_url=link, verdict=VERDICT, restore_record=a_record("vm-good"))
    plans: list[str] = []

    def explain(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if " xcom" in statement and statement.startswith("SELECT"):
            other = connection.connection.cursor()
            other.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
            plans.extend(step[3] for step in other.fetchall())

    event.listen(airflow_settings.engine, "before_cursor_execute", explain)
    try:
        page.json("/api/gates")
        page.json(f"/api/dags/nightly/task?{RUN_1}")
    finally:
        event.remove(airflow_settings.engine, "before_cursor_execute", explain)
    reads = [step for step in plans if re.match(rf"(SCAN|SEARCH) {XCOM_TABLES} ", step)]
    assert len(reads) >= 5
    assert [step for step in reads if not re.search("USING (COVERING )?INDEX", step)] == []
    # Of what is put into a temporary table or index, everything is read.
    assert [step for step in plans if re.match(r"MATERIALIZE xcom|.* AUTOMATIC ", step)] == []


# As core.estate writes it.
VERDICT = {
    "version": 1,
    "total": 5,
    "missing": 2,
    "counts": {"fresh": 3, "failed": 1, "never_tried": 1},
    "codes": {"UserErrorVmNotInDesirableState": 1},
    "items": [
        {
            "item": "/subscriptions/x",
            "name": "vm-fails",
            "vault": "v",
            "reason": "failed",
            "code": "UserErrorX",
        }
    ],
    "items_left_out": 1,
    "ids": ["/subscriptions/x"],
    "unreadable": {"/subscriptions/y": "403"},
}


def a_record(item: str, **facts: Any) -> dict[str, Any]:
    vault = "/subscriptions/s/resourceGroups/g/providers/Microsoft.RecoveryServices/vaults/demo-vault"
    known = {"item": item, "item_id": f"{vault}/protectedItems/{item}", "vault_id": vault}
    return {
        "version": 1,
        "proven": True,
        "reasons": [],
        "rto_seconds": 187,
        "rpo_seconds": 3600,
        **known,
        **facts,
    }


def test_the_last_proven_restore_of_each_item_is_shown_with_the_last_drill(
    page: Page, azure: Emulator, records: Records
) -> None:
    records.task("nightly", restore_record=a_record("vm-good"))
    records.task("payroll", restore_record=a_record("payroll"))
    # Half a year ago, by another run: a drill is rare.
    records.at -= timedelta(days=180)
    records.task("last-summer", restore_record=a_record("vm-good", rto_seconds=99))
    records.at += timedelta(days=181)
    failed = a_record("payroll", proven=False, reasons=["check boots is failed"])
    records.task("today", restore_record=failed)
    shown = {each["last"]["item"]: each for each in page.json("/api/gates")["drills"]}
    assert set(shown) == {"vm-good", "payroll"}
    good, payroll = shown["vm-good"], shown["payroll"]
    assert good["last"] == good["proven"]
    assert (good["proven"]["rto_seconds"], good["proven"]["dag_id"]) == (187, "nightly")
    assert (payroll["last"]["proven"], payroll["last"]["reasons"]) == (False, ["check boots is failed"])
    assert (payroll["proven"]["proven"], payroll["proven"]["dag_id"]) == (True, "payroll")
    # The viewer may not read the XComs of the DAG that has proven it.
    seen = {each["last"]["item"]: each for each in page.json("/api/gates", "viewer")["drills"]}
    assert seen["payroll"]["proven"] is None


@pytest.mark.parametrize(
    "record", [None, "x", [], {"proven": "yes"}, {"proven": True, "item": "\x00" * 5000}]
)
def test_the_types_and_lengths_of_a_pushed_record_are_checked(
    page: Page, azure: Emulator, records: Records, record: Any
) -> None:
    records.task("nightly", restore_record=record)
    shown = page.json("/api/gates")["drills"]
    assert [
        len(each["last"].get("item", "")) <= 2000 and each["last"]["proven"] is True for each in shown
    ] in ([], [True])


def test_the_verdict_of_a_fleet_sensor_is_shown_to_who_may_read_its_xcoms(
    page: Page, azure: Emulator, records: Records
) -> None:
    for dag_id in ("nightly", "payroll"):
        records.task(dag_id, verdict=VERDICT)
    shown = page.json("/api/gates")["verdicts"]
    assert {each["dag_id"] for each in shown} == {"nightly", "payroll"}
    assert shown[0]["verdict"]["counts"] == VERDICT["counts"]
    assert shown[0]["verdict"]["items"] == VERDICT["items"]
    assert shown[0]["verdict"]["unreadable"] == VERDICT["unreadable"]
    assert [each["dag_id"] for each in page.json("/api/gates", "viewer")["verdicts"]] == ["nightly"]
    tab = page.json(f"/api/dags/nightly/task?{RUN_1}", "viewer")
    assert (tab["job"], tab["verdict"]["missing"]) == (None, 2)


@pytest.mark.parametrize(
    "verdict",
    [
        "x",
        7,
        [],
        {"counts": 1},
        {"counts": {"x": "y" * 9_000, "z": [1]}, "items": [7, None, {"name": {}}] * 900},
    ],
)
def test_the_types_and_lengths_of_a_pushed_verdict_are_checked(
    page: Page, azure: Emulator, records: Records, verdict: Any
) -> None:
    records.task("nightly", verdict=verdict)
    shown = page.json(f"/api/dags/nightly/task?{RUN_1}")["verdict"]
    assert shown.get("counts", {}) == {}
    assert len(shown.get("items", [])) <= 200
    assert all(each == {} for each in shown.get("items", []))


def test_a_deferred_task_without_a_triggerer_is_shown_as_such(
    page: Page, azure: Emulator, records: Records, clock: WaitingClock
) -> None:
    records.task("nightly", azure_backup_job_url=link_of(azure.start_job("vm-good", seconds=3600)))
    # The database keeps microseconds, and the clock has more.
    deferred_at, seen_at = (round(clock.now - ago, 6) for ago in (720, 300))

    def shown(**job: Any) -> Any:
        with airflow_settings.Session() as session:
            triggerer = Job()
            for name, value in {"job_type": "TriggererJob", **job}.items():
                setattr(triggerer, name, value)
            trigger = Trigger(
                classpath="x.Y", kwargs={}, created_date=datetime.fromtimestamp(deferred_at, UTC)
            )
            session.add_all([triggerer, trigger])
            session.flush()
            trigger.triggerer_id = triggerer.id if job else None
            session.execute(update(TaskInstance.__table__).values(trigger_id=trigger.id))
            session.commit()
        return page.json(f"/api/dags/nightly/task?{RUN_1}")["task"]["unwatched_since"]

    assert shown() == deferred_at
    assert shown(latest_heartbeat=datetime.fromtimestamp(clock.now - 5, UTC)) is None
    assert shown(latest_heartbeat=datetime.fromtimestamp(seen_at, UTC)) == seen_at


def test_the_tab_says_what_a_clear_would_do_from_what_has_been_read(
    page: Page, azure: Emulator, records: Records, clock: WaitingClock
) -> None:
    first = azure.start_job("vm-good", seconds=60, ending="Failed")
    clock.advance(300)
    with AzureBackupHook() as hook:
        facts = hook.get_job(first).facts()
    records.task("nightly", azure_backup_job_url=link_of(first), job=facts)
    with airflow_settings.Session() as session:
        session.execute(update(TaskInstance.__table__).values(operator="AzureBackupOperator", state="failed"))
        session.commit()
    asked = len(azure.requests)
    assert page.json(f"/api/dags/nightly/task?{RUN_1}")["clear"].startswith(
        "It would start a new backup, after"
    )
    assert len(azure.requests) == asked
    page.vault()
    shown = page.json(f"/api/dags/nightly/task?{RUN_1}")
    assert shown["clear"] == (
        "It would start a new backup, because none is running. "
        "Up to 1 of the 9 on-demand backups of a day are used."
    )
    assert shown["listed_at"] == clock.now
    # A viewer who may not read the connection does not learn what the vault holds.
    assert "because none" not in page.json(f"/api/dags/nightly/task?{RUN_1}", "viewer")["clear"]


def test_an_old_gate_is_not_shown(page: Page, azure: Emulator, records: Records) -> None:
    records.at -= timedelta(days=8)
    records.task("nightly", azure_backup_job_url=link_of(azure.start_job("vm-good", seconds=60)))
    assert page.json("/api/gates")["gates"] == []


def test_the_tab_shows_a_finished_job_without_a_request_to_azure(
    page: Page, azure: Emulator, records: Records
) -> None:
    job_id = azure.start_job("vm-good", seconds=60)
    error = {"title": "UserErrorX", "code": "1", "message": "off", "recommendations": ["Switch it on."]}
    facts = {"status": "Failed", "outcome": "failed", "errors": [error], "details": {"secret": "bag"}}
    records.task("nightly", azure_backup_job_url=link_of(job_id), job=facts)
    for role in ("viewer", "admin"):
        shown = page.json(f"/api/dags/nightly/task?{RUN_1}", role)
        assert shown["job"]["errors"] == [error]
        assert shown["portal"] == link_of(job_id)
        assert "bag" not in json.dumps(shown)
    assert lists(azure) == 0


def test_the_tab_of_a_dag_that_the_user_may_not_read_is_forbidden(page: Page, records: Records) -> None:
    records.task("payroll", azure_backup_job_url="https://portal.azure.com/")
    assert page.get(f"/api/dags/payroll/task?{RUN_1}", "viewer").status_code == 403
    # Nor does another Dag's name in the query help.
    assert page.get(f"/api/dags/payroll/task?{RUN_1}&dag_id=nightly", "viewer").status_code == 403


def test_the_tab_reads_a_running_job_once_a_minute_if_the_user_may_read_the_connection(
    page: Page, azure: Emulator, records: Records, clock: WaitingClock
) -> None:
    job_id = azure.start_job("vm-good", seconds=3600)
    records.task("nightly", azure_backup_job_url=link_of(job_id), backup_progress={"percent": 7, "x": {}})

    def looks() -> int:
        return len([each for each in azure.requests if each["path"].endswith(job_id)])

    shown = page.json(f"/api/dags/nightly/task?{RUN_1}", "viewer")
    assert (shown["job"], shown["progress"]) == (
        {"job_id": job_id, "vault": "demo-vault"},
        {"percent": 7},
    )
    assert looks() == 0
    for _ in range(5):
        shown = page.task(f"/api/dags/nightly/task?{RUN_1}")
        assert [task["name"] for task in shown["job"]["tasks"]] == [
            "Take Snapshot",
            "Transfer data to vault",
            "Validate Backup",
        ]
    assert looks() == 1
    clock.advance(61)
    page.json(f"/api/dags/nightly/task?{RUN_1}")
    limit = Limit(30)
    while looks() < 2:
        assert not limit.is_over
        time.sleep(0.02)
    assert looks() == 2


def test_the_tab_may_use_a_connection_to_another_vault_of_the_subscription(
    page: Page, azure: Emulator, records: Records
) -> None:
    job_id = azure.start_job("vm-elsewhere", seconds=3600)
    records.task("nightly", azure_backup_job_url=link_of(job_id, "demo-vault-2"))
    shown = page.task(f"/api/dags/nightly/task?{RUN_1}")["job"]
    assert (shown["item"], shown["vault"], shown["status"]) == ("vm-elsewhere", "demo-vault-2", "InProgress")


def test_a_job_that_cannot_be_read_is_tried_once_a_minute(
    page: Page, azure: Emulator, records: Records, clock: WaitingClock
) -> None:
    job_id = azure.start_job("vm-good", seconds=3600)
    records.task("nightly", azure_backup_job_url=link_of(job_id))
    azure.fault(path=job_id, status=503, times=None)
    for _ in range(4):
        shown = page.json(f"/api/dags/nightly/task?{RUN_1}")["job"]
        assert shown == {"job_id": job_id, "vault": "demo-vault"}
        clock.advance(20)
    assert len([each for each in azure.requests if each["path"].endswith(job_id)]) == 2


def test_a_task_of_another_provider_has_no_job(page: Page, azure: Emulator, records: Records) -> None:
    records.task("nightly", job={"item": "somebody else's"}, job_id="42")
    assert page.json(f"/api/dags/nightly/task?{RUN_1}")["job"] is None
    nobody = page.json("/api/dags/nightly/task?run_id=no&task_id=no")
    assert nobody == {"job": None, "task": {}, "clear": "", "verdict": {}}


@pytest.mark.parametrize(
    "link", ["javascript:alert(1)//", "https://portal.azure.com.evil.example/#", "http:"]
)
def test_a_link_that_leads_elsewhere_is_not_shown(
    page: Page, azure: Emulator, records: Records, link: str
) -> None:
    job_id = azure.start_job("vm-good", seconds=60)
    arm_id = link_of(job_id).partition("/resource")[2]
    records.task("nightly", azure_backup_job_url=f"{link}/resource{arm_id}", job={"status": "Completed"})
    shown = page.json(f"/api/dags/nightly/task?{RUN_1}")
    assert (shown["job"]["job_id"], shown["portal"]) == (job_id, None)


def test_a_job_of_a_backup_vault_has_its_own_page_in_the_portal(
    page: Page, azure: Emulator, records: Records
) -> None:
    job_id = azure.start_job("disk-good")
    with AzureBackupHook(vault_name="demo-backup-vault", vault_type="DataProtection") as hook:
        link = hook.settings.portal_link(hook.job_ref(job_id).path)
    assert "JobDetailsBlade" in link
    records.task("nightly", azure_backup_job_url=link, job={"status": "Completed"})
    shown = page.json(f"/api/dags/nightly/task?{RUN_1}")
    assert (shown["job"]["job_id"], shown["job"]["vault"]) == (job_id, "demo-backup-vault")
    assert shown["portal"] == link


@pytest.mark.parametrize("listed", [False, True])
def test_links_lead_to_a_custom_portal_only_if_the_deployment_lists_it(
    page: Page,
    azure: Emulator,
    records: Records,
    connect: Any,
    monkeypatch: pytest.MonkeyPatch,
    listed: bool,
) -> None:
    job_id = azure.start_job("vm-good")
    connect(azure.connection(portal="https://portal.example"))
    link = link_of(job_id)
    if listed:
        hosts = f"{urlsplit(azure.url).netloc},portal.example"
        monkeypatch.setenv("AIRFLOW__AZURE_BACKUP__ALLOWED_HOSTS", hosts)
    records.task("nightly", azure_backup_job_url=link, job={"status": "Completed"})
    assert page.json(f"/api/dags/nightly/task?{RUN_1}")["portal"] == (link if listed else None)
    vault = page.vault() if listed else page.json(JOBS)
    assert vault.get("portal", "").startswith("https://portal.example/") == listed


# That it does no harm


def test_text_from_azure_stays_text(page: Page, azure: Emulator) -> None:
    job = {
        "name": "6a7b0b7e-1c3d-4e5f-8a9b-0c1d2e3f4a5b",
        "properties": {"status": "Failed", "entityFriendlyName": EVIL, "operation": "Backup"},
    }
    azure.fault(path=r"/backupJobs", garbage=json.dumps({"value": [job]}), status=200)
    answer = page.get(JOBS)
    assert answer.json()["jobs"][0]["item"] == EVIL
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_headers_of_every_response_forbid_what_the_page_does_not_need(page: Page) -> None:
    answers = [page.get(path, role) for path in (*routes(page), "/nowhere") for role in ("admin", None)]
    for answer in answers:
        assert HEADERS.items() <= dict(answer.headers).items(), answer.url
    policy = HEADERS["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self';")
    assert "unsafe" not in policy and "http" not in policy and "*" not in policy


def test_data_from_azure_is_never_cached(page: Page) -> None:
    assert page.get(JOBS).headers["cache-control"] == "no-store"
    assert page.get("/").headers["cache-control"] == "no-store"
    assert page.get("/assets/page.js").headers["cache-control"].startswith("private")


def test_the_scripts_never_parse_text_as_markup_and_load_nothing_from_other_hosts(page: Page) -> None:
    scripts = "".join(path.read_text() for path in STATIC.glob("*.js"))
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|Function\(", scripts)
    for name in ("index.html", "task.html"):
        markup = (STATIC / name).read_text()
        assert not re.search(r"\son\w+=|\sstyle=|<style|//", markup.removeprefix("<!doctype html>")), name
        assert not re.search(r"<script(?![^>]*\ssrc=\"assets/)", markup), name
        for file in re.findall(r"assets/([\w.]+)", markup):
            assert page.get(f"/assets/{file}").status_code == 200, file
    for path in STATIC.glob("*.js"):
        served = page.get(f"/assets/{path.name}").text
        imported = re.findall(r"from \"\./(\w+\.js)\?v=(.+)\"", served)
        # With the version, no browser runs the scripts of two releases together.
        assert len(imported) == len(re.findall(r"^import ", served, re.MULTILINE))
        assert all(version == __version__ and (STATIC / name).exists() for name, version in imported)


def test_tables_of_the_scripts_do_not_inherit_names_from_javascript() -> None:
    scripts = "".join(path.read_text() for path in STATIC.glob("*.js"))
    tables = dict(re.findall(r"const (\w+) = \{\s*(__proto__: null)?", scripts))
    looked_up = {name for name in re.findall(r"\b(\w+)\[[a-zA-Z]", scripts) if name in tables}
    assert {"SHAPES", "URGENCY", "OUTCOME_OF", "TEXTS", "REASONS", "MOVES", "found"} <= looked_up
    assert [name for name in looked_up if not tables[name]] == []


@pytest.mark.parametrize("name", ["..%2fapp.py", "uplot%2fLICENSE", "PROVENANCE.md", "index.html"])
def test_no_other_file_is_served(page: Page, name: str) -> None:
    assert page.get(f"/assets/{name}").status_code == 404


def test_no_response_contains_a_secret(
    page: Page, azure: Emulator, connect: Callable[..., None], records: Records
) -> None:
    records.task("nightly", azure_backup_job_url=link_of(azure.start_job("vm-good", seconds=60)))
    secret = "a-secret-that-entra-refuses"
    connect({**azure.connection(), "password": secret}, "refused")
    page.vault()
    shown = [page.get(f"{path}?{RUN_1}").text for path in routes(page)]
    shown.append(json.dumps(page.vault(path="/api/connections/refused/vault")))
    assert "AADSTS7000215" in shown[-1]
    whole = "".join(shown)
    assert secret not in whole
    assert azure.connection()["password"] not in whole
    assert "eyJ" not in whole


def test_the_token_is_not_sent_to_a_host_named_in_a_next_link(page: Page, azure: Emulator) -> None:
    azure.start_job("vm-good", seconds=60)
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        azure.fault(path="/backupJobs", next_link=f"https://127.0.0.1:{elsewhere.getsockname()[1]}/")
        shown = page.vault()
        elsewhere.setblocking(False)
        with pytest.raises(BlockingIOError):
            elsewhere.accept()
    assert "not followed" in shown["fault"]
    assert shown["read_at"] is None


def test_the_vendored_files_have_the_checksums_of_their_provenance() -> None:
    provenance = (STATIC / "uplot" / "PROVENANCE.md").read_text()
    sums = dict(re.findall(r"^    ([0-9a-f]{64})  (\S+)$", provenance, re.MULTILINE))
    assert len(sums) == 3
    for digest, name in sums.items():
        assert hashlib.sha256((STATIC / "uplot" / name).read_bytes()).hexdigest() == digest, name


# The plugin


class Below31:
    """What plugins are derived from where Airflow has no place for views."""


class From31:
    """The same, where it has."""

    external_views: ClassVar[list[Any]] = []


@pytest.mark.parametrize(
    ("plugins", "off", "shown"),
    [
        (Below31, set(), []),
        (From31, set(), ["nav", "task_instance"]),
        (From31, {"show_tab"}, ["nav"]),
        (From31, {"show_page", "show_tab"}, []),
    ],
)
def test_views_are_shown_where_airflow_supports_them(plugins: type, off: set[str], shown: list[str]) -> None:
    found = plugin.views(plugins, lambda option: option not in off)
    assert [view["destination"] for view in found] == shown


def test_the_links_of_the_plugin_lead_to_routes_of_the_page(page: Page) -> None:
    (served,) = plugin.AzureBackupPlugin.fastapi_apps
    assert served["url_prefix"] == "/azure-backup"
    assert TestClient(served["app"]).get("/api/connections").status_code == 401
    views = plugin.AzureBackupPlugin.external_views
    hrefs = {view["href"].partition("?")[0] for view in views}
    assert {f"/{href.removeprefix('azure-backup/')}" for href in hrefs} <= set(routes(page))
    for icon in {view[name] for view in views for name in ("icon", "icon_dark_mode")}:
        answer = page.get(f"/{icon.removeprefix('azure-backup/')}")
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/svg+xml")

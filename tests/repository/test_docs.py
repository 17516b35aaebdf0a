"""The site: what it shows works as it stands there, its links lead somewhere, its reference is complete.

`make docs` builds it; nothing here needs what that needs.
"""

from __future__ import annotations

import inspect
import json
import re
import shlex
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import unquote

import pytest
import yaml
from airflow.models import Connection
from airflow.providers.common.compat.sdk import DAG, BaseSensorOperator

from airflow_provider_azbackup import drill, guard, operators, restore_to, sensors, triggers
from airflow_provider_azbackup.core.model.jobs import Job
from airflow_provider_azbackup.core.settings import EXTRAS, Settings
from airflow_provider_azbackup.exceptions import AzureBackupJobFailedError
from airflow_provider_azbackup.get_provider_info import get_provider_info
from airflow_provider_azbackup.hooks import AzureBackupAsyncHook, AzureBackupHook
from airflow_provider_azbackup.operators import AzureBackupOperator
from airflow_provider_azbackup.runtime.compat import asks_people
from airflow_provider_azbackup.sensors import AirflowSensorTimeout, AzureBackupFreshnessSensor
from azure_backup_emulator import Emulator
from azure_backup_emulator.model.instances import DATA_SOURCES
from azure_backup_emulator.model.items import WORKLOADS
from azure_backup_emulator.seed import DEFAULT, SeededItem
from tests.support.pages import (
    CONFIG,
    DOCS,
    GUIDES,
    PAGES,
    ROOT,
    SNIPPET,
    anchors_of,
    block_titled,
    blocks_of,
    links_of,
    python_of,
    table_under,
)
from tests.support.tasks import Store, TaskInstance, run

DIRECTIVE = re.compile(r"^::: ([\w.]+)\n((?:    .*\n?)*)", re.MULTILINE)
MODULES = ("operators", "sensors", "triggers", "hooks", "drill", "guard", "exceptions", "links")
# Longer lines of code are cut off in a window that is 1280 pixels wide.
WIDEST = 85


def shown(space: dict[str, Any], code: str) -> dict[str, Any]:
    exec(compile(code, "docs", "exec"), space)
    return space


def named(nav: Any) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    else:
        for part in nav.values() if isinstance(nav, dict) else nav:
            yield from named(part)


# Pages and links


def test_the_navigation_names_pages_that_are_there() -> None:
    assert set(named(CONFIG["nav"])) <= set(PAGES)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_a_page_and_to_a_heading_of_it(page: str) -> None:
    for link in links_of(PAGES[page]):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = page if not path else (DOCS / page).parent.joinpath(path).resolve()
        if isinstance(target, Path) and target.is_relative_to(ROOT / "tests"):
            # The site has a copy. After the # is the name of a test.
            assert f"def {anchor}" in target.read_text(), f"{page}: {link}"
            continue
        if isinstance(target, Path):
            target = target.relative_to(DOCS).as_posix()
        assert target in PAGES or (DOCS / target).is_file(), f"{page}: {link}"
        assert not anchor or anchor in anchors_of(PAGES[target]), f"{page}: {link}"


@pytest.mark.parametrize("page", PAGES)
def test_snippets_are_files_that_are_there(page: str) -> None:
    assert all((ROOT / path).is_file() for path in SNIPPET.findall(PAGES[page]))


def test_each_page_how_to_is_linked_from_the_first_page() -> None:
    assert {page for page in PAGES if page.startswith("how-to/")} <= set(links_of(PAGES["index.md"]))


@pytest.mark.parametrize("page", GUIDES)
def test_no_line_of_code_is_cut_off(page: str) -> None:
    # Lines of text and JSON are wrapped.
    code = [code for language, _, code in blocks_of(PAGES[page]) if language not in ("text", "json")]
    code += [(ROOT / path).read_text() for each in code for path in SNIPPET.findall(each)]
    assert [line for each in code for line in each.splitlines() if len(line) > WIDEST] == []


def test_nothing_is_fetched_from_elsewhere() -> None:
    assert CONFIG["theme"]["font"] is False
    assert not {"extra_javascript", "repo_url"} & set(CONFIG)
    assert all((DOCS / path).is_file() for path in CONFIG["extra_css"])
    images = re.compile(r"!\[[^\]]*\]\(\w+://|<(?:img|script|iframe|link)\b")
    assert [page for page, text in PAGES.items() if images.search(re.sub(r"`[^`\n]*`", "", text))] == []


# The reference


def reference(module: str) -> list[str]:
    """The filters that a page of the reference puts a module through."""
    default = CONFIG["plugins"][1]["mkdocstrings"]["handlers"]["python"]["options"]["filters"]
    (options,) = [
        (yaml.safe_load(options) or {}).get("options", {})
        for page, text in PAGES.items()
        if page.startswith("reference/")
        for path, options in DIRECTIVE.findall(text)
        if path == f"airflow_provider_azbackup.{module}"
    ]
    assert "members" not in options
    found: list[str] = options.get("filters", default)
    return found


def passes(name: str, filters: list[str]) -> bool:
    """Whether filters let a name pass: the last that matches it says; else it must not be an allow-list."""
    says = [not rule.startswith("!") for rule in filters if re.search(rule.removeprefix("!"), name)]
    return says[-1] if says else all(rule.startswith("!") for rule in filters)


@pytest.mark.parametrize("module", MODULES)
def test_every_public_class_is_in_the_reference(module: str) -> None:
    loaded, filters = import_module(f"airflow_provider_azbackup.{module}"), reference(module)
    public = {
        name: kind
        for name, kind in inspect.getmembers(loaded, inspect.isclass)
        if not name.startswith("_") and kind.__module__ == loaded.__name__
    }
    assert [name for name in public if not passes(name, filters)] == []
    assert [name for name, kind in public.items() if not vars(kind).get("__doc__")] == []


def test_what_else_a_dag_imports_is_in_the_reference() -> None:
    assert passes("AZURE_BACKUP_RETRIES", reference("retries"))
    assert all(passes(name, reference("restore_to")) for name in restore_to.__all__)


def test_every_module_that_airflow_knows_is_in_the_reference() -> None:
    info = get_provider_info()
    modules = [
        module
        for kind in ("hooks", "operators", "sensors", "triggers")
        for entry in info[kind]
        for module in entry["python-modules"]
    ]
    assert modules
    assert all(reference(module.rpartition(".")[2]) for module in modules)


def public_classes() -> Iterator[Any]:
    for module in (operators, sensors, triggers, drill, guard):
        for name, kind in vars(module).items():
            if name.startswith("AzureBackup") and kind.__module__ == module.__name__:
                yield kind
    yield AzureBackupHook  # the other one has the same parameters


@pytest.mark.parametrize("kind", [*public_classes()], ids=lambda kind: kind.__name__)
def test_every_parameter_is_documented_where_it_is_declared_or_below(kind: Any) -> None:
    ours = [each for each in kind.__mro__ if each.__module__.startswith("airflow_provider_azbackup")]
    text = "\n".join(vars(each).get("__doc__") or "" for each in ours)
    documented = set(re.findall(r":param (\w+):", text))
    taken = {
        name
        for each in ours
        if "__init__" in vars(each)
        for name, parameter in inspect.signature(inspect.unwrap(each.__init__)).parameters.items()
        if parameter.kind in (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        and not name.startswith("_")
    }
    taken -= set(inspect.signature(inspect.unwrap(vars(BaseSensorOperator)["__init__"])).parameters)
    assert taken - {"self"} - documented == set()


@pytest.mark.parametrize("kind", [AzureBackupHook, AzureBackupAsyncHook])
def test_every_method_of_the_hooks_is_documented(kind: Any) -> None:
    methods = [name for name, value in inspect.getmembers(kind, callable) if not name.startswith("_")]
    ours = [name for name in methods if getattr(kind, name).__module__ == kind.__module__]
    assert len(ours) > 5
    assert [name for name in ours if not inspect.getdoc(getattr(kind, name))] == []


# Tables that are about the code


def names_in(cells: list[str]) -> set[str]:
    return {name for cell in cells for name in re.findall(r"`([\w.-]+)`", cell)}


def test_every_field_of_the_connection_is_explained() -> None:
    explained = names_in([row[0] for row in table_under("connections.md", "## All fields")])
    assert explained == set(EXTRAS)


def test_every_key_of_the_xcom_job_is_explained(azure: Emulator) -> None:
    with AzureBackupHook() as hook:
        job = hook.get_job(azure.start_job("vm-good"))
    assert isinstance(job, Job)
    explained = names_in([row[0] for row in table_under("xcoms.md", "### The keys of `job`")])
    assert explained == set(job.facts())


def test_every_metric_is_explained() -> None:
    package = ROOT / "airflow_provider_azbackup"
    emitted = {
        name
        for path in package.rglob("*.py")
        for name in re.findall(r"Stats\.\w+\(\s*\"([\w.]+)\"", path.read_text())
    }
    assert emitted
    assert {row[0].strip("`") for row in table_under("budget.md", "## Metrics")} == emitted


def test_every_option_of_the_emulator_is_explained(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from azure_backup_emulator import __main__ as command

    monkeypatch.setattr("sys.argv", ["azure-backup-emulator", "--help"])
    with pytest.raises(SystemExit):
        command.main()
    options = set(re.findall(r"^  (?:-h, )?(--[\w-]+)", capsys.readouterr().out, re.MULTILINE)) - {"--help"}
    assert names_in([row[0] for row in table_under("emulator.md", "## Start it")]) == options


def test_every_principal_item_and_key_of_the_seed_is_explained() -> None:
    principals = names_in([row[0] for row in table_under("emulator.md", "## Who can sign in")])
    assert principals == set(DEFAULT["principals"])
    keys = names_in([row[0] for row in table_under("emulator.md", "## Vaults and items of your own")])
    assert keys == set(DEFAULT)
    page = names_in([PAGES["emulator.md"]])
    assert {*WORKLOADS, *DATA_SOURCES, *SeededItem.__annotations__} - {"kind", "name", "group"} <= page
    items = [each["name"] for each in (*DEFAULT["items"], *DEFAULT["backup_instances"])]
    fleet = [name for name in items if name.startswith("fleet-")]
    assert {name for name in items if name not in fleet[1:-1]} <= page
    vaults = [each["name"] for each in (*DEFAULT["vaults"], *DEFAULT["backup_vaults"])]
    assert set(vaults) <= page


# What is shown works


def test_the_first_page_shows_the_ten_lines_of_the_readme() -> None:
    (code,) = python_of("index.md")
    assert f"```python\n{code}```" in (ROOT / "README.md").read_text()


@pytest.fixture
def dags(monkeypatch: pytest.MonkeyPatch) -> None:
    """The DAG that the page about tests shows, as the module that its tests import."""
    module = ModuleType("dags.patch_payroll")
    shown(vars(module), python_of("how-to/test-a-dag.md")[0])
    monkeypatch.setitem(sys.modules, "dags", ModuleType("dags"))
    monkeypatch.setitem(sys.modules, "dags.patch_payroll", module)


@pytest.mark.usefixtures("dags")
@pytest.mark.parametrize(
    ("page", "index"), [(page, index) for page in GUIDES for index in range(len(python_of(page)))]
)
def test_what_is_shown_can_be_parsed_by_airflow(page: str, index: int) -> None:
    code = python_of(page)[index]
    if "airflow.sdk" in code:
        sdk = pytest.importorskip("airflow.sdk", reason="assets came with Airflow 3.0")
        if not hasattr(sdk, "AssetWatcher"):
            pytest.skip("watchers of assets came with Airflow 3.0")
    if "AZURE_BACKUP_RETRIES" in code:
        reason = "retry policies came with Airflow 3.3"
        pytest.importorskip("airflow_provider_azbackup.retries", reason=reason, exc_type=ImportError)
    if "approve=True" in code and not asks_people():
        pytest.skip("this Airflow cannot ask a person")
    with DAG("shown", schedule=None):
        shown({}, code)


@pytest.mark.parametrize("page", GUIDES)
def test_every_item_in_an_example_exists_in_the_emulator(page: str) -> None:
    known = {each["name"] for each in (*DEFAULT["items"], *DEFAULT["backup_instances"])}
    vaults = {each["name"] for each in (*DEFAULT["vaults"], *DEFAULT["backup_vaults"])}
    groups = {each["group"] for each in (*DEFAULT["vaults"], *DEFAULT["backup_vaults"])}
    code = "".join(python_of(page))
    calls = "protected_item=|trigger_backup\\(|backed_up\\(|plan\\(|start_job\\(|protect\\("
    assert set(re.findall(rf'(?:{calls})"([^"{{]+)"', code)) <= known
    assert set(re.findall(r'vault_name[=":]+ ?"([^"<]+)"', PAGES[page])) <= vaults
    assert set(re.findall(r'resource_group_name[=":]+ ?"([^"<]+)"', PAGES[page])) <= groups


def test_a_job_is_cancelled_as_shown(azure: Emulator) -> None:
    task = shown({}, python_of("how-to/cancel.md")[0])["cancel"]
    task.job_id = azure.start_job("vm-good")
    assert run(lambda: task, TaskInstance()) == "cancelled"


def test_a_run_finds_the_backup_of_the_night_before_it(azure: Emulator, clock: Any) -> None:
    sensor = shown({}, python_of("how-to/fresh-backup.md")[0])["backed_up"]
    job_id = azure.start_job("payroll-vm")
    clock.advance(6 * 3600)
    scheduled, triggered = TaskInstance(), TaskInstance()
    scheduled.dag_run.data_interval_end = triggered.dag_run.run_after = datetime.fromtimestamp(clock(), UTC)
    assert run(lambda: sensor, scheduled) == run(lambda: sensor, triggered) == job_id


def test_the_report_of_the_hook_contains_what_it_promises(azure: Emulator) -> None:
    space = shown({}, python_of("how-to/hook.md")[0])
    failed, unprotected = (space[name].function for name in ("failed", "unprotected"))
    assert failed() == []
    assert "vm-good" in unprotected()
    backup("vm-good")
    assert "vm-good" not in unprotected()
    job_id = azure.start_job("vm-fails", ending="Failed", seconds=0)
    assert [job_id in line for line in failed()] == [True]


def test_the_hook_backs_up_as_shown(azure: Emulator) -> None:
    back_up = shown({}, python_of("how-to/hook.md")[1])["back_up"]
    assert back_up()
    assert azure.count("POST", "/backup") == 1


def test_a_callback_learns_which_job_failed(azure: Emulator, capsys: Any) -> None:
    space = shown({}, python_of("how-to/when-it-fails.md")[0])
    with pytest.raises(AzureBackupJobFailedError) as raised:
        backup("vm-fails")
    space["report"]({"exception": raised.value})
    space["report"]({"exception": ValueError("no job")})
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "AzureBackupJobFailedError: vm-fails failed",
        "ValueError: None None",
    ]


def test_the_test_without_a_dag_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "test_a_shut_gate_says_why"
    (code,) = [code for code in python_of("how-to/test-a-dag.md") if name in code]
    shown({}, code)[name](monkeypatch)


def test_the_seed_that_is_shown_works() -> None:
    with Emulator(seed=json.loads(block_titled("seed.json"))) as azure:
        assert [item.name for item in azure.service.world.items] == ["web", "payroll"]


def test_a_principal_of_ones_own_signs_in_as_shown() -> None:
    (code,) = [code for code in python_of("emulator.md") if "a_role_of_your_own" in code]
    space = shown({}, code)
    assert space["a_role_of_your_own"]()["login"] == space["MINE"]["client_id"]


@pytest.mark.parametrize(
    "name",
    ["what_other_people_do", "not_now", "points_that_prove_less", "a_copy_that_is_late"],
    ids=lambda name: name,
)
def test_the_emulator_does_what_is_shown(azure: Emulator, name: str) -> None:
    (code,) = [code for code in python_of("emulator.md") if f"def {name}(" in code]
    shown({}, code)[name](azure)


def settings(connection: dict[str, Any]) -> Settings:
    return Settings.read(
        "shown",
        conn_type=connection["conn_type"],
        login=connection.get("login"),
        password=connection.get("password"),
        extra=connection["extra"],
    )


@pytest.mark.parametrize(
    ("title", "credential"),
    [
        ("Service principal with a certificate", "CertificateCredential"),
        ("User-assigned managed identity", "ManagedIdentityCredential"),
        ("Workload identity", "WorkloadIdentityCredential"),
        ("Whatever azure-identity finds", "DefaultAzureCredential"),
    ],
)
def test_a_connection_signs_in_as_shown(title: str, credential: str) -> None:
    assert settings(json.loads(block_titled(title))).credential == credential


def test_the_uri_is_the_same_connection_as_the_json() -> None:
    code = [text for language, _, text in blocks_of(PAGES["connections.md"]) if language == "shell"]
    as_json, as_uri = (re.sub(r"\\\n", "", shlex.split(text)[1]).partition("=")[2] for text in code[:2])
    shown_as_json = settings(json.loads(as_json))
    connection = Connection(uri=as_uri.replace(" ", "%20"))
    assert shown_as_json.credential == "ClientSecretCredential"
    assert shown_as_json == settings(
        {
            "conn_type": connection.conn_type,
            "login": unquote(connection.login or ""),
            "password": unquote(connection.password or ""),
            "extra": connection.extra_dejson,
        }
    )


@pytest.mark.parametrize("page", GUIDES)
def test_commands_exist(page: str) -> None:
    makefile = (ROOT / "Makefile").read_text()
    for language, _, text in blocks_of(PAGES[page]):
        if language != "shell":
            continue
        words = [word for word in shlex.split(text) if not word.startswith("AIRFLOW__")]
        if words[0] == "make":
            assert re.search(rf"^{words[1]}:", makefile, re.MULTILINE), text
        elif words[:2] == ["pip", "install"]:
            named = "airflow-provider-azbackup"
            assert set(words[2:]) <= {named, f"{named}[emulator]", "pytest"}, text
        elif words[0] == "export":
            name = words[1].partition("=")[0]
            assert name in ("NO_PROXY", "AIRFLOW_CONN_AZURE_BACKUP_DEFAULT"), text
        elif words[0] == "azure-backup-emulator":
            options = {word for word in words if word.startswith("--")}
            assert options <= names_in([row[0] for row in table_under("emulator.md", "## Start it")])
        else:
            assert words[0] in ("airflow", "az"), text
        if "--conn-extra" in words:
            assert set(json.loads(words[words.index("--conn-extra") + 1])) <= set(EXTRAS)


# What is said to be seen is seen


def backup(name: str, **arguments: Any) -> Any:
    make = {"task_id": "backup", "protected_item": name, "deferrable": True, **arguments}
    return run(lambda: AzureBackupOperator(**make), TaskInstance(store=Store()))


def without_ids(text: str) -> str:
    """Replace what differs from run to run, as the pages do."""
    text = re.sub(r"Job: \S+", "Job: <job>", text)
    text = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "<id>", text)
    text = re.sub(r"VM;\S+", "<item>", text)
    text = re.sub(r"\b[\d.]+ %", "<percent>", text)
    text = re.sub(r"after \d+:\d\d:\d\d, \d+ MB", "after <time>, <size>", text)
    return re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+\+00:00", "<moment>", text)


@pytest.mark.parametrize(
    ("title", "name"),
    [("A backup that fails", "vm-fails"), ("A backup that was cancelled in its transfer", "vm-cancelled")],
)
def test_a_shut_gate_says_what_the_tutorial_shows(azure: Emulator, title: str, name: str) -> None:
    with pytest.raises(AzureBackupJobFailedError) as raised:
        backup(name, accept_warnings=True)
    assert without_ids(str(raised.value)) == block_titled(title)


def test_the_log_says_what_the_tutorial_shows(azure: Emulator, capsys: Any) -> None:
    backup("vm-good")
    log = without_ids(capsys.readouterr().out)
    lines = block_titled("The log of a backup that completes").splitlines()
    places = [log.find(line.removesuffix(".")) for line in lines]
    assert -1 not in places
    assert places == sorted(places)


def test_the_connection_test_answers_what_is_shown(azure: Emulator, connect: Any) -> None:
    with AzureBackupHook() as hook:
        works, answer = hook.test_connection()
    answer = re.sub("vault demo-vault in demo-rg", "vault <vault> in <group>", without_ids(answer))
    assert works
    assert answer == block_titled("It works").replace("<client id>", "<id>")
    connect(azure.connection("nobody"))
    with AzureBackupHook() as hook:
        works, answer = hook.test_connection()
    assert not works
    assert block_titled("A right is missing") in answer


def test_a_wait_in_which_nothing_was_tried_says_what_is_shown(azure: Emulator) -> None:
    sensor: dict[str, Any] = {"task_id": "fresh", "protected_item": "vm-good", "deferrable": True}
    with pytest.raises(AirflowSensorTimeout) as raised:
        run(lambda: AzureBackupFreshnessSensor(**sensor, max_age=60.0, timeout=60.0), TaskInstance())
    assert without_ids(str(raised.value)).endswith(block_titled("Nobody tried"))

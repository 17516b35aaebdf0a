"""The site: what it shows works as it stands there, its links lead somewhere, its reference is complete.

`make docs` builds it; nothing here needs what that needs.
"""

from __future__ import annotations

import inspect
import json
import re
import shlex
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_azbackup import restore_to
from airflow_provider_azbackup.core.settings import EXTRAS
from airflow_provider_azbackup.exceptions import AzureBackupJobFailedError
from airflow_provider_azbackup.get_provider_info import get_provider_info
from airflow_provider_azbackup.hooks import AzureBackupHook
from airflow_provider_azbackup.operators import AzureBackupOperator
from airflow_provider_azbackup.sensors import AirflowSensorTimeout, AzureBackupFreshnessSensor
from azure_backup_emulator import Emulator
from azure_backup_emulator.model.instances import DATA_SOURCES
from azure_backup_emulator.model.items import WORKLOADS
from azure_backup_emulator.seed import DEFAULT, SeededItem
from tests.support.tasks import Store, TaskInstance, run

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
CONFIG = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
# Pages that the site takes from elsewhere: dev/release/docs_site.py.
ELSEWHERE = {"manual.md": "README.md", "changelog.md": "CHANGELOG.md", "contributing.md": "CONTRIBUTING.md"}
PAGES = {
    **{path.relative_to(DOCS).as_posix(): path.read_text() for path in DOCS.rglob("*.md")},
    **{page: (ROOT / path).read_text().replace("](docs/", "](") for page, path in ELSEWHERE.items()},
}
# Those that show how something is done.
GUIDES = [page for page in PAGES if page.startswith("how-to/") or page == "tutorial.md"]
SNIPPET = re.compile(r"^--8<--\n(.+)\n--8<--$", re.MULTILINE)
BLOCK = re.compile(r"^```(\w*)(?: title=\"([^\"]*)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
DIRECTIVE = re.compile(r"^::: ([\w.]+)\n((?:    .*\n?)*)", re.MULTILINE)
MODULES = ("operators", "sensors", "triggers", "hooks", "guard", "exceptions", "links")


def blocks(page: str) -> list[tuple[str, str, str]]:
    """Language, title and text of each block of code of a page."""
    return [(language, title, text) for language, title, text in BLOCK.findall(PAGES[page])]


def python_of(page: str) -> list[str]:
    return [text for language, _, text in blocks(page) if language == "python" and not SNIPPET.search(text)]


def text_of(title: str) -> str:
    """The one block of text with this title, on any page."""
    (found,) = [text for page in GUIDES for language, name, text in blocks(page) if name == title]
    return found.strip()


def shown(space: dict[str, Any], code: str) -> dict[str, Any]:
    exec(compile(code, "docs", "exec"), space)
    return space


def named(nav: Any) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    else:
        for part in nav.values() if isinstance(nav, dict) else nav:
            yield from named(part)


def anchors(page: str) -> set[str]:
    """The addresses of a page's headings, as Python-Markdown makes them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(BLOCK, "", PAGES[page]), re.MULTILINE)
    words = (re.sub(r"[^\w\s-]", "", heading).strip().lower() for heading in headings)
    return {re.sub(r"[-\s]+", "-", each) for each in words}


def links(page: str) -> list[str]:
    text = re.sub(r"`[^`\n]*`", "", re.sub(BLOCK, "", PAGES[page]))
    return re.findall(r"\]\(([^)\s]+)\)", text)


# Pages and links


def test_the_navigation_names_pages_that_are_there() -> None:
    assert set(named(CONFIG["nav"])) <= set(PAGES)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_a_page_and_to_a_heading_of_it(page: str) -> None:
    for link in links(page):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = page if not path else (DOCS / page).parent.joinpath(path).resolve()
        if isinstance(target, Path):
            target = target.relative_to(DOCS).as_posix()
        assert target in PAGES or (DOCS / target).is_file(), f"{page}: {link}"
        assert not anchor or anchor in anchors(target), f"{page}: {link}"


@pytest.mark.parametrize("page", PAGES)
def test_snippets_are_files_that_are_there(page: str) -> None:
    assert all((ROOT / path).is_file() for path in SNIPPET.findall(PAGES[page]))


def test_each_page_how_to_is_linked_from_the_first_page() -> None:
    assert {page for page in PAGES if page.startswith("how-to/")} <= set(links("index.md"))


def test_nothing_is_fetched_from_elsewhere() -> None:
    assert CONFIG["theme"]["font"] is False
    assert not {"extra_javascript", "extra_css", "repo_url"} & set(CONFIG)
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
    assert all(passes(place, reference("restore_to")) for place in restore_to.__all__)


def test_every_module_that_airflow_is_told_of_is_in_the_reference() -> None:
    info = get_provider_info()
    told = [
        module
        for kind in ("hooks", "operators", "sensors", "triggers")
        for entry in info[kind]
        for module in entry["python-modules"]
    ]
    assert told
    assert all(reference(module.rpartition(".")[2]) for module in told)


# What is shown works


def test_the_first_page_shows_the_ten_lines_of_the_readme() -> None:
    (code,) = python_of("index.md")
    assert f"```python\n{code}```" in PAGES["manual.md"]


@pytest.mark.parametrize(
    ("page", "index"), [(page, index) for page in GUIDES for index in range(len(python_of(page)))]
)
def test_what_is_shown_can_be_parsed_by_airflow(page: str, index: int) -> None:
    with DAG("shown", schedule=None):
        shown({}, python_of(page)[index])


def test_a_job_is_cancelled_as_shown(azure: Emulator) -> None:
    task = shown({}, python_of("how-to/cancel.md")[0])["cancel"]
    task.job_id = azure.start_job("vm-good")
    assert run(lambda: task, TaskInstance()) == "cancelled"


def test_a_run_finds_the_backup_of_the_night_before_it(azure: Emulator, clock: Any) -> None:
    sensor = shown({}, python_of("how-to/fresh-backup.md")[0])["backed_up"]
    sensor.protected_item = "vm-good"
    job_id = azure.start_job("vm-good")
    clock.advance(6 * 3600)
    scheduled, triggered = TaskInstance(), TaskInstance()
    scheduled.dag_run.data_interval_end = triggered.dag_run.run_after = datetime.fromtimestamp(clock(), UTC)
    assert run(lambda: sensor, scheduled) == run(lambda: sensor, triggered) == job_id


def test_the_report_of_the_hook_says_what_it_promises(azure: Emulator) -> None:
    space = shown({}, python_of("how-to/hook.md")[0])
    failed, unprotected = (space[name].function for name in ("failed", "unprotected"))
    assert failed() == []
    assert "vm-good" in unprotected()
    backup("vm-good")
    assert "vm-good" not in unprotected()
    job_id = azure.start_job("vm-fails", ending="Failed", seconds=0)
    assert [job_id in line for line in failed()] == [True]


def test_a_callback_is_told_which_job_failed(azure: Emulator, capsys: Any) -> None:
    space = shown({}, python_of("how-to/when-it-fails.md")[0])
    with pytest.raises(AzureBackupJobFailedError) as raised:
        backup("vm-fails")
    space["tell"]({"exception": raised.value})
    space["tell"]({"exception": ValueError("no job")})
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "AzureBackupJobFailedError: vm-fails failed",
        "ValueError: None None",
    ]


def test_the_test_without_azure_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    shown({}, python_of("how-to/emulator.md")[0])["test_a_shut_gate_says_why"](monkeypatch)


def test_the_guide_of_the_emulator_names_every_principal_and_every_key_of_a_seed() -> None:
    told = set(
        re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (.+?) \|", PAGES["how-to/emulator.md"], re.M)))
    )
    assert {*DEFAULT["principals"], *DEFAULT} <= told
    kinds = set(re.findall(r"`(\w+)`", PAGES["how-to/emulator.md"]))
    assert {*WORKLOADS, *DATA_SOURCES, *SeededItem.__annotations__} - {"kind", "name", "group"} <= kinds


def test_the_seed_that_is_shown_works() -> None:
    with Emulator(seed=json.loads(text_of("seed.json"))) as azure:
        assert [item.name for item in azure.service.world.items] == ["web", "payroll"]


def test_a_principal_of_ones_own_signs_in_as_shown() -> None:
    (code,) = [code for code in python_of("how-to/emulator.md") if "a_role_of_your_own" in code]
    space = shown({}, code)
    assert space["a_role_of_your_own"]()["login"] == space["MINE"]["client_id"]


@pytest.mark.parametrize("page", GUIDES)
def test_commands_are_those_of_the_readme_or_of_airflow(page: str) -> None:
    readme = [text for language, _, text in BLOCK.findall(PAGES["manual.md"]) if language == "shell"]
    for language, _, text in blocks(page):
        if language == "shell" and text not in readme:
            words = [word for word in shlex.split(text) if not word.startswith("AIRFLOW__")]
            assert words[0] in ("airflow", "az"), text
            if "--conn-extra" in words:
                assert set(json.loads(words[words.index("--conn-extra") + 1])) <= set(EXTRAS)


# What is said to be seen is seen


def backup(name: str, **arguments: Any) -> Any:
    make = {"task_id": "backup", "protected_item": name, "deferrable": True, **arguments}
    return run(lambda: AzureBackupOperator(**make), TaskInstance(store=Store()))


def without_ids(text: str) -> str:
    """Put what differs from run to run as the pages put it."""
    text = re.sub(r"Job: \S+", "Job: <job>", text)
    text = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "<id>", text)
    text = re.sub(r"VM;\S+", "<item>", text)
    text = re.sub(r"\b[\d.]+ %", "<percent>", text)
    return re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+\+00:00", "<moment>", text)


@pytest.mark.parametrize(
    ("title", "name"),
    [("A backup that fails", "vm-fails"), ("A backup that was cancelled in its transfer", "vm-cancelled")],
)
def test_a_shut_gate_says_what_the_tutorial_shows(azure: Emulator, title: str, name: str) -> None:
    with pytest.raises(AzureBackupJobFailedError) as raised:
        backup(name, accept_warnings=True)
    assert without_ids(str(raised.value)) == text_of(title)


def test_the_log_says_what_the_tutorial_shows(azure: Emulator, capsys: Any) -> None:
    backup("vm-good")
    log = without_ids(capsys.readouterr().out)
    told = [log.find(line) for line in text_of("The log of a backup that completes").splitlines()]
    assert -1 not in told
    assert told == sorted(told)


def test_the_connection_test_says_what_the_tutorial_shows(azure: Emulator, connect: Any) -> None:
    with AzureBackupHook() as hook:
        works, said = hook.test_connection()
    said = re.sub("vault demo-vault in demo-rg", "vault <vault> in <group>", without_ids(said))
    assert works
    assert said == text_of("It works").replace("<client id>", "<id>")
    connect(azure.connection("nobody"))
    with AzureBackupHook() as hook:
        works, said = hook.test_connection()
    assert not works
    assert text_of("A right is missing") in said


def test_a_wait_in_which_nothing_was_tried_says_what_is_shown(azure: Emulator) -> None:
    sensor: dict[str, Any] = {"task_id": "fresh", "protected_item": "vm-good", "deferrable": True}
    with pytest.raises(AirflowSensorTimeout) as raised:
        run(lambda: AzureBackupFreshnessSensor(**sensor, max_age=60.0, timeout=60.0), TaskInstance())
    assert without_ids(str(raised.value)).endswith(text_of("Nobody tried"))

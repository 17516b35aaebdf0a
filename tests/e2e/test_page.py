"""Airflow's UI as a person meets it in Chromium: the connection's form, a deferred task, page and tab."""

from __future__ import annotations

import json
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from airflow_provider_azbackup.get_provider_info import CONNECTION_FIELDS
from azure_backup_emulator import Emulator
from azure_backup_emulator import estate as seeds
from dev.stack.airflow_api import Run
from dev.stack.pace import slowness
from dev.stack.stack import PASSWORD, USER, Stack
from tests.e2e.azure import Azure
from tests.e2e.test_restore_approval import once_its_worker_has_left

pytestmark = pytest.mark.e2e

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
MISSING = "no Chromium on this machine; on Debian: apt-get install chromium fonts-dejavu-core"
MANY = 1000
# First paint with so many jobs, and all of them drawn: bounds for a machine that is busy with other tests.
PAINTED, DRAWN = 1.0, 2.5
FORM = "typed_into_the_form"
EVIL = '<img src=x onerror=alert(1)><script>alert("x")</script>'
ITEM = "spare-60"
DRILL_COLUMNS = (
    *("Last proven restore", "Time to restore", "Age of the recovery point"),
    *("Task", "Run", "Since then"),
)


@dataclass
class Browser:
    """A page that is logged in, and what it said and asked for since."""

    page: Any
    url: str
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def open(self, path: str, frame: str = "Azure Backup") -> Any:
        """Open an address of Airflow's and return the document in its frame."""
        self.page.goto(f"{self.url}{path}")
        found = self.page.wait_for_selector(f"iframe[title='{frame}']").content_frame()
        found.wait_for_load_state()
        return found

    def open_vault(self, name: str = "demo-vault") -> Any:
        """Open the page of a vault from the overview and return its document."""
        frame = self.open("/plugin/azure-backup")
        frame.click(f"#vaults a:text-is('{name}')")
        frame.wait_for_selector("#timeline canvas")
        return frame

    def set_theme(self, theme: str) -> None:
        self.page.evaluate("theme => localStorage.setItem('theme', theme)", theme)


@pytest.fixture(scope="module")
def browser(airflow: Stack) -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip(MISSING)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        page = chromium.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(45_000 * slowness())
        page.goto(f"{airflow.url}/auth/login")
        page.fill("input[name=username]", USER)
        page.fill("input[name=password]", PASSWORD)
        page.click("button[type=submit]")
        page.wait_for_url(lambda url: "/auth/" not in url)
        found = Browser(page, airflow.url)
        # No test leaves this machine, and a link to the portal leads somewhere.
        page.context.route("https://portal.azure.com/**", lambda route: route.fulfill(body="the portal"))
        page.on("console", lambda told: found.said.append(told.text) if told.type == "error" else None)
        page.on("pageerror", lambda error: found.said.append(str(error)))
        page.on("request", lambda request: found.asked.append(request.url))
        yield found
        chromium.close()


@pytest.fixture(scope="module")
def typed(browser: Browser, airflow: Stack, azure: Azure) -> Any:
    """A connection typed into Airflow's form; the form's text, its extra, what the Test button shows."""
    page, connection = browser.page, azure.connection()
    page.goto(f"{browser.url}/connections")
    page.get_by_role("button", name="Add Connection").click()
    form = page.get_by_role("dialog")
    form.locator("input[name=connection_id]").fill(FORM)
    form.get_by_role("combobox").first.fill("Azure Backup")
    page.get_by_role("option", name="Azure Backup", exact=True).click()
    form.locator("input[name=login]").fill(connection["login"])
    form.locator("input[name=password]").fill(connection["password"])
    form.locator("input[name=port]").fill("443")
    form.get_by_role("button", name="Extra Fields", exact=True).click()
    typed = {name: value for name, value in connection["extra"].items() if name in CONNECTION_FIELDS}
    for name, value in typed.items():
        form.locator(f"input[name=element_{name}]").fill(str(value))
    shown = [name for name in CONNECTION_FIELDS if form.locator(f"[id=element_{name}]").count()]
    text = form.inner_text()
    form.get_by_role("button", name="Save").click()
    row = page.get_by_role("row").filter(has_text=FORM)
    row.wait_for()
    saved = json.loads(airflow.call("GET", f"/connections/{FORM}")["extra"])
    # What the form has no field for goes into the extra's JSON.
    body = {"connection_id": FORM, "conn_type": "azure_backup", "extra": json.dumps(connection["extra"])}
    airflow.call("PATCH", f"/connections/{FORM}", body, update_mask="extra")
    page.reload()
    with page.expect_response(lambda answer: answer.url.endswith("/connections/test")) as told:
        row.get_by_role("button", name="Test Connection").click()
    assert saved.items() >= typed.items()
    assert "null" not in text and None not in saved.values()
    return shown, text, saved, told.value.json()


@pytest.fixture(scope="module")
def backup(airflow: Stack, azure: Azure, typed: Any) -> Run:
    """A run with the typed connection, whose backup goes on in a vault of its own."""
    azure.reset()
    azure.plan(ITEM, seconds=24 * 3600)
    run = airflow.run_dag("chaos_deferred", {"item": ITEM, "vault": ITEM, "conn_id": FORM})
    airflow.wait_for_state(run, "backup", "deferred", timeout=90)
    return run


@pytest.fixture(scope="module")
def many(azure: Azure, backup: Run) -> None:
    azure.configure(page_size=200)
    azure.start_jobs([f"fleet-{number % 20 + 1:02}" for number in range(MANY)], seconds=24 * 3600)


def colours(frame: Any) -> list[int]:
    """The brightness of background and text, from 0 to 255; a canvas reads colours in any notation."""
    found: list[int] = frame.evaluate(
        """() => ['background-color', 'color'].map(name => {
            const canvas = document.createElement('canvas').getContext('2d');
            canvas.fillStyle = getComputedStyle(document.documentElement)[name];
            canvas.fillRect(0, 0, 1, 1);
            const [red, green, blue] = canvas.getImageData(0, 0, 1, 1).data;
            return Math.round((red + green + blue) / 3);
        })"""
    )
    return found


def is_of(theme: str, frame: Any) -> bool:
    """Whether the document in a frame is in a theme, and can be read."""
    back, text = colours(frame)
    return abs(back - text) > 150 and (back > 200) == (theme == "light")


def path_of(run: Run) -> str:
    return f"/dags/{run.dag_id}/runs/{quote(run.run_id)}/tasks/backup"


def test_a_connection_is_typed_into_the_form_and_its_button_tests_it(typed: Any) -> None:
    shown, text, saved, told = typed
    assert shown == [*CONNECTION_FIELDS]
    for name, field_ in CONNECTION_FIELDS.items():
        assert field_["label"] in text and field_["description"] in text, name
    assert (saved["vault_type"], saved["cloud_environment"]) == ("RecoveryServices", "AzurePublicCloud")
    assert told["status"] is True, told
    assert "demo-vault" in told["message"]


def test_the_tab_and_the_link_tell_of_the_job_while_its_task_is_deferred(
    browser: Browser, airflow: Stack, backup: Run
) -> None:
    browser.page.set_viewport_size({"width": 1280, "height": 900})
    task = airflow.task(backup, "backup")
    job_id = airflow.xcom(task, "job_id")
    frame = browser.open(f"{path_of(backup)}/plugin/azure-backup-job")
    frame.wait_for_selector(f"#facts:has-text('{job_id}')")
    frame.wait_for_selector("#state:has-text('running · the task is deferred')")
    assert frame.text_content("#title") == f"Backup of {ITEM}"
    assert frame.text_content("#phases li:first-child strong") == "Take Snapshot"
    # The first look comes 15 seconds after the deferral, and the tab asks again every 15 seconds.
    frame.wait_for_selector("#progress:has-text('Last look')", timeout=90_000 * slowness())
    assert airflow.xcom(task, "backup_progress")["job_id"] == job_id
    browser.page.goto(f"{browser.url}{path_of(backup)}/details")
    with browser.page.expect_popup() as opened:
        browser.page.get_by_role("link", name="Azure Backup job").click()
    opened.value.wait_for_load_state()
    assert opened.value.url.startswith("https://portal.azure.com/#@")
    assert opened.value.url.endswith(f"/backupJobs/{job_id}")
    opened.value.close()
    assert airflow.task(backup, "backup").state == "deferred"


def test_a_thousand_jobs_are_painted_within_a_second(browser: Browser, azure: Azure, many: None) -> None:
    before = azure.count(method="GET", path_contains="/vaults/demo-vault/backupJobs")
    browser.page.goto(browser.url)
    browser.page.get_by_role("button", name="Browse").click()
    browser.page.get_by_role("menuitem", name="Azure Backup").click()
    frame = browser.page.wait_for_selector("iframe[title='Azure Backup']").content_frame()
    frame.click("#vaults a:text-is('demo-vault')")
    frame.wait_for_selector(f"#status:has-text('{MANY} jobs')")
    # Now that one list has been read, everybody else sees it at once.
    frame = browser.open("/plugin/azure-backup")
    frame.wait_for_selector("#vaults a")
    began = frame.evaluate("() => performance.now()")
    frame.click("#vaults a:text-is('demo-vault')")
    frame.wait_for_selector("#timeline canvas")
    drawn = frame.evaluate("() => performance.now()") - began
    painted = frame.evaluate("() => performance.getEntriesByName('first-contentful-paint')[0].startTime")
    slow = slowness()
    assert painted < PAINTED * 1000 * slow, f"first paint after {painted:.0f} ms"
    assert drawn < DRAWN * 1000 * slow, f"all jobs drawn after {drawn:.0f} ms"
    assert frame.text_content("#legend [data-outcome=running]") == f"running {MANY}"
    # A thousand jobs are five pages of one list.
    assert azure.count(method="GET", path_contains="/vaults/demo-vault/backupJobs") - before == MANY // 200


@pytest.mark.parametrize(("theme", "width"), [("light", 1280), ("dark", 390)])
def test_the_page_follows_the_theme_and_fits_the_width(
    browser: Browser, many: None, theme: str, width: int
) -> None:
    browser.page.set_viewport_size({"width": width, "height": 844})
    browser.set_theme(theme)
    frame = browser.open("/plugin/azure-backup")
    frame.wait_for_selector("#vaults a")
    assert is_of(theme, frame)
    assert frame.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    frame = browser.open_vault()
    assert is_of(theme, frame)
    assert frame.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    frame.locator("input[name=form][value=table]").check(force=True)
    assert frame.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    other = {"light": "dark", "dark": "light"}[theme]
    browser.page.evaluate(
        "([was, is]) => document.documentElement.classList.replace(was, is)", [theme, other]
    )
    frame.wait_for_selector(f"html[data-theme={other}]", state="attached")
    assert is_of(other, frame)


def test_everything_is_reached_without_a_mouse(browser: Browser, many: None) -> None:
    browser.page.set_viewport_size({"width": 1280, "height": 900})
    frame = browser.open_vault()
    frame.focus(".skip")
    order = []
    for _ in range(16):
        browser.page.keyboard.press("Tab")
        order.append(
            frame.evaluate(
                "() => document.activeElement.id || document.activeElement.name"
                " || document.activeElement.dataset.outcome"
            )
        )
        seen = frame.evaluate(
            "() => { const here = document.activeElement;"
            " return getComputedStyle(here.type === 'radio' ? here.nextElementSibling : here).outlineStyle }"
        )
        assert seen != "none", f"{order[-1]} does not show that it has the focus"
        if order[-1] == "timeline":
            break
    expected = [
        "find",
        "span",
        "form",
        "portal",
        "within",
        "running",
        "succeeded",
        "warned",
        "failed",
        "cancelled",
    ]
    assert [name for name in order if name in expected] == expected
    assert order[-1] == "timeline"
    browser.page.keyboard.press("ArrowRight")
    first = frame.text_content("#detail")
    assert "fleet-" in first and "Open the job in Azure" in first
    browser.page.keyboard.press("ArrowDown")
    assert frame.text_content("#detail") != first
    frame.focus("input[name=form][value=plot]")
    browser.page.keyboard.press("ArrowRight")
    assert frame.locator("#rows tr").count() == 50
    frame.focus("#more")
    browser.page.keyboard.press("Enter")
    assert frame.locator("#rows tr").count() == 100


@pytest.fixture(scope="module")
def estate(
    airflow: Stack, other_port: int, many: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The id of a connection to 60 vaults with 5,000 items."""
    seed = seeds.estate(vaults=60, items=5000)
    directory = tmp_path_factory.mktemp("estate")
    with Emulator(seed=seed, port=other_port, directory=directory) as azure:
        azure.configure(job_read_budget=100_000)
        found = azure.connection()
        stored = {**found, "connection_id": "estate", "extra": json.dumps(found["extra"])}
        airflow.call("POST", "/connections", stored)
        yield "estate"
        airflow.call("DELETE", "/connections/estate")


def list_estate(browser: Browser, estate: str) -> Any:
    """Open the overview and list the vaults of the estate; return the document."""
    frame = browser.open("/plugin/azure-backup")
    frame.wait_for_selector("#vaults a")
    button = frame.locator(f"#connections button:text-is('List the vaults of {estate}')")
    button.click()
    button.wait_for(state="detached")
    return frame


def test_an_estate_of_5000_items_is_painted_within_a_second(browser: Browser, estate: str) -> None:
    browser.page.set_viewport_size({"width": 1280, "height": 900})
    frame = list_estate(browser, estate)
    vaults = int(frame.text_content("#vaults-count"))
    assert vaults >= 60
    assert frame.locator("#vaults tr").count() == 50
    painted = frame.evaluate("() => performance.getEntriesByName('first-contentful-paint')[0].startTime")
    assert painted < PAINTED * 1000 * slowness(), f"first paint after {painted:.0f} ms"
    frame.fill("#find-vault", "vault-01")
    frame.click("#vaults a:text-is('vault-01')")
    frame.wait_for_selector("#timeline canvas")
    assert "vault-01" in frame.text_content("#place")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_an_estate_fits_a_phone_and_needs_no_mouse(browser: Browser, estate: str, theme: str) -> None:
    browser.page.set_viewport_size({"width": 360, "height": 800})
    browser.set_theme(theme)
    frame = list_estate(browser, estate)
    fits = "() => document.documentElement.scrollWidth <= innerWidth"
    assert is_of(theme, frame)
    assert frame.evaluate(fits)
    frame.focus("#skip")
    browser.page.keyboard.press("Enter")
    browser.page.keyboard.type("vault-02")
    assert frame.locator("#vaults tr").count() == 1
    for _ in range(4):
        browser.page.keyboard.press("Tab")
        if frame.evaluate("() => document.activeElement.textContent") == "vault-02":
            break
    browser.page.keyboard.press("Enter")
    frame.wait_for_selector("#timeline canvas")
    assert frame.evaluate(fits)
    assert frame.evaluate("() => document.activeElement.id") == "place"
    frame.focus("#timeline")
    browser.page.keyboard.press("ArrowRight")
    browser.page.keyboard.press("Enter")
    assert frame.evaluate("() => document.activeElement.id") == "detail"
    assert frame.evaluate(fits)
    frame.focus("#detail a:text-is('Show only this item')")
    browser.page.keyboard.press("Enter")
    frame.wait_for_selector("#history-part:visible")
    assert frame.evaluate(fits)


def test_5000_jobs_of_as_many_items_are_drawn_a_page_at_a_time(browser: Browser, many: None) -> None:
    now = time.time()
    jobs = [
        {
            **{
                "id": f"job-{number}",
                "item": f"vm-{number:04}",
                "title": f"vm-{number:04}",
                "key": f"{number}",
            },
            **{"operation": "Backup", "status": "Completed", "outcome": "succeeded", "is_backup": True},
            **{"start": now - 3600 - number, "end": now - number, "duration": 3600, "errors": []},
        }
        for number in range(5000)
    ]
    late = [{"item": job["item"], "why": "no_backup", "since": now - 200_000} for job in jobs]
    answer = {
        **dict.fromkeys(("vault", "vault_id", "arm_id", "group"), "demo-vault"),
        **dict.fromkeys(("fault", "items_fault", "portal", "jobs_portal"), ""),
        **{"night": None, "night_at": None, "reading": False, "cut": False, "items": 5000},
        **{"now": now, "read_at": now, "next_at": now + 180, "jobs": jobs, "overdue": late},
    }
    browser.page.set_viewport_size({"width": 1280, "height": 900})
    browser.page.route("**/vault?*", lambda route: route.fulfill(json=answer))
    frame = browser.open("/plugin/azure-backup")
    frame.wait_for_selector("#vaults a")
    began = frame.evaluate("() => performance.now()")
    frame.click("#vaults a:text-is('demo-vault')")
    frame.wait_for_selector("#timeline canvas")
    drawn = frame.evaluate("() => performance.now()") - began
    assert drawn < DRAWN * 1000 * slowness(), f"all drawn after {drawn:.0f} ms"
    assert frame.text_content("#legend [data-outcome=succeeded]") == "succeeded 5000"
    assert (frame.locator("#rows tr").count(), frame.locator("#late li").count()) == (50, 8)
    frame.fill("#find", "vm-4999")
    assert frame.locator("#rows tr").count() == 1
    browser.page.unroute("**/vault?*")


def test_the_last_proven_restore_of_an_item_is_shown(
    browser: Browser, airflow: Stack, begun: Mapping[str, Run]
) -> None:
    run = begun["test_workloads"]
    airflow.wait(run, timeout=420)
    record = airflow.xcom(airflow.task(run, "Disk.proven_restore.record"), "restore_record")
    frame = browser.open("/plugin/azure-backup")
    frame.wait_for_selector(f"#drills tr:has-text('{record['item']}')")
    row = frame.locator("#drills tr").filter(has_text=record["item"])
    shown = {name: row.locator(f"[data-name='{name}']").inner_text() for name in DRILL_COLUMNS}
    assert shown["Last proven restore"] not in ("", "never")
    assert all(shown[name] for name in DRILL_COLUMNS[1:3])
    assert "Disk.proven_restore.record" in shown["Task"]
    assert (shown["Run"], shown["Since then"]) == (run.run_id, "")


def test_times_are_in_the_time_zone_that_is_chosen_in_airflow(browser: Browser, many: None) -> None:
    choose = "zone => localStorage.setItem('timezone', JSON.stringify(zone))"
    shown = {}
    for zone in ("America/New_York", "Asia/Tokyo"):
        browser.page.evaluate(choose, zone)
        frame = browser.open_vault()
        assert frame.text_content("#zone") == f"Times are in {zone}."
        shown[zone] = datetime.fromisoformat(frame.text_content("#rows td[data-name=Started]"))
    hours = (shown["Asia/Tokyo"] - shown["America/New_York"]).total_seconds() / 3600
    assert 12.9 < hours < 14.1, "the one is 14 or 13 hours ahead of the other"
    browser.page.evaluate("() => localStorage.removeItem('timezone')")


def test_the_tab_of_a_task_that_failed_before_it_had_a_job_shows_its_error(
    browser: Browser, airflow: Stack, backup: Run
) -> None:
    run = airflow.run_dag("chaos_deferred", {"item": "vm-nobody", "vault": ITEM, "conn_id": FORM})
    airflow.wait_for_state(run, "backup", "failed", timeout=120)
    browser.page.set_viewport_size({"width": 1280, "height": 900})
    frame = browser.open(f"{path_of(run)}/plugin/azure-backup-job")
    frame.wait_for_selector("#cause li")
    assert "vm-nobody" in frame.text_content("#cause strong")
    assert "AzureBackupNotFoundError" in frame.text_content("#cause")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_tab_tells_of_a_job_that_is_over_and_leads_out_of_its_frame(
    browser: Browser, airflow: Stack, azure: Azure, backup: Run, theme: str
) -> None:
    azure.set_status(airflow.xcom(airflow.task(backup, "backup"), "job_id"), "Completed")
    airflow.wait(backup)
    browser.page.set_viewport_size({"width": 390, "height": 844})
    browser.set_theme(theme)
    frame = browser.open(f"{path_of(backup)}/plugin/azure-backup-job")
    frame.wait_for_selector("#state:has-text('succeeded · the task is success')")
    assert frame.locator("#phases li").count() == 3
    assert {"Job ID", "Started", "Duration"} <= {*frame.locator("#facts dt").all_inner_texts()}
    assert is_of(theme, frame)
    assert frame.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    with browser.page.expect_popup() as opened:
        frame.click("#portal")
    opened.value.wait_for_load_state()
    assert opened.value.url.startswith("https://portal.azure.com/#@")
    opened.value.close()


def test_a_person_rejects_a_restore_under_required_actions(
    browser: Browser, airflow: Stack, begun: Mapping[str, Run]
) -> None:
    run = begun["test_restore_approval"]
    task = airflow.wait_for_state(run, "rejected", "awaiting_input", timeout=240)
    once_its_worker_has_left(airflow, task)
    browser.page.set_viewport_size({"width": 1280, "height": 900})
    browser.page.goto(
        f"{browser.url}/dags/{run.dag_id}/runs/{quote(run.run_id)}/tasks/rejected/required_actions"
    )
    browser.page.get_by_text("Restore payroll-vm?").wait_for()
    browser.page.locator("input[name=element_reason]").fill("payday is tomorrow")
    with browser.page.expect_response(lambda answer: answer.request.method == "PATCH") as sent:
        browser.page.get_by_test_id("hitl-option-Reject").click()
    answer = sent.value.json()
    assert (answer["chosen_options"], answer["params_input"]) == (
        ["Reject"],
        {"reason": "payday is tomorrow"},
    )
    # What follows from it is seen by test_restore_approval.


def test_a_gate_leads_to_its_task_instance(browser: Browser, backup: Run, many: None) -> None:
    frame = browser.open("/plugin/azure-backup")
    frame.click(f"#gates tr:has-text('{backup.run_id}') a")
    browser.page.wait_for_url(f"**/dags/{backup.dag_id}/runs/*/tasks/backup*")


def test_markup_in_a_name_is_shown_and_not_obeyed(browser: Browser, many: None) -> None:
    alerts: list[str] = []
    browser.page.on("dialog", lambda dialog: (alerts.append(dialog.message), dialog.dismiss()))
    now = time.time()
    job = {
        **dict.fromkeys(("id", "item", "title", "key", "operation", "status"), EVIL),
        "is_backup": True,
        "outcome": "failed",
        "start": now - 600,
        "end": now - 60,
        "errors": [{"title": EVIL, "code": "1", "message": EVIL, "recommendations": [EVIL]}],
    }
    answer = {
        **dict.fromkeys(("vault", "vault_id", "arm_id", "group", "fault"), EVIL),
        **{"night": None, "night_at": None, "reading": False, "cut": True, "items": 1, "jobs": [job]},
        **dict.fromkeys(("portal", "jobs_portal"), "https://portal.azure.com/"),
        **{"now": now, "read_at": now, "next_at": now + 180},
        "overdue": [{"item": EVIL, "why": "long", "since": now - 600, "usual": 60}],
    }
    browser.page.route("**/vault?*", lambda route: route.fulfill(json=answer))
    frame = browser.open_vault()
    frame.wait_for_selector("#late strong")
    frame.focus("#timeline")
    browser.page.keyboard.press("ArrowRight")
    assert EVIL in frame.text_content("#detail")
    assert EVIL in frame.text_content("#late")
    assert EVIL in frame.text_content("#place")
    assert frame.locator("main img").count() == 0
    browser.page.unroute("**/vault?*")
    assert alerts == []


def test_a_word_that_every_object_has_is_shown_as_any_other(browser: Browser, many: None) -> None:
    # The server lets none of these through; the page must not depend on it.
    words = ("constructor", "__proto__", "__defineGetter__", "toString")
    gates = [
        {
            **{"dag_id": "any", "run_id": "any", "task_id": word, "map_index": -1, "state": "success"},
            **{
                "started": None,
                "job": word,
                "vault": "v",
                "vault_id": word,
                "item": word,
                "outcome": word,
                "size": None,
            },
        }
        for word in words
    ]
    browser.page.route(
        "**/api/gates", lambda route: route.fulfill(json={"gates": gates, "cut": False, "verdicts": []})
    )
    frame = browser.open("/plugin/azure-backup")
    frame.wait_for_selector("#gates tr")
    assert [word for word in words if word not in frame.text_content("#gates")] == []
    browser.page.unroute("**/api/gates")
    job = {"job_id": "any", "vault": "v", "status": "x", "outcome": "constructor", "errors": []}
    answer = {
        "job": {**job, "tasks": [{"name": word, "status": word} for word in words]},
        **{"portal": None, "recovery_point": {}, "progress": {}, "proof": dict.fromkeys(words, "any")},
    }
    browser.page.route("**/api/dags/any/task?*", lambda route: route.fulfill(json=answer))
    browser.page.goto(f"{browser.url}/azure-backup/task?dag_id=any&run_id=any&task_id=any&map_index=-1")
    browser.page.wait_for_selector("#proof dd")
    assert browser.page.locator("#proof dd").all_inner_texts() == ["any"] * len(words)
    assert browser.page.locator("#phases strong").all_inner_texts() == [*words]
    assert browser.page.locator("#fault").is_hidden()
    browser.page.unroute("**/api/dags/any/task?*")


@pytest.mark.parametrize(("token", "status"), [(None, 401), ("nonsense", 403)])
def test_airflow_serves_nothing_of_it_to_who_is_not_logged_in(
    airflow: Stack, token: str | None, status: int
) -> None:
    for path in ("", "task", "assets/page.js", "api/connections", "api/gates"):
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        request = urllib.request.Request(f"{airflow.url}/azure-backup/{path}", headers=headers)
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30)
        with refused.value:
            assert refused.value.code == status, path


def test_nothing_was_asked_of_another_host_and_nothing_was_refused(browser: Browser, airflow: Stack) -> None:
    ours = [url for url in browser.asked if "/azure-backup/" in url]
    assert len(ours) > 20
    assert {urlsplit(url).netloc for url in browser.asked if url.startswith("http")} <= {
        urlsplit(airflow.url).netloc
    }
    files = ("Content Security Policy", "azure-backup/assets", "page.js", "task.js", "common.js", "uPlot")
    assert [text for text in browser.said if any(name in text for name in files)] == []

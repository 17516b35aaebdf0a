"""``make screenshots``: the pictures of docs/ui.md and the README, of a real Airflow and the emulator.

The emulator lives through a week first, in no time; then two example Dags run, and Chromium looks at them.
pngquant makes the pictures small.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from azure_backup_emulator import Emulator
from azure_backup_emulator.seed import DEFAULT
from dev.demo.demo import EXAMPLES, quick_polling
from dev.stack.airflow_api import Run
from dev.stack.stack import PASSWORD, USER, Stack

IMAGES = Path(__file__).parents[2] / "docs" / "images"
NEEDED = {"chromium": "chromium fonts-dejavu-core", "pngquant": "pngquant"}
# Bytes of a picture at most: they are all in the repository.
MOST = 200_000
HOUR = 3600.0
ITEMS = ("vm-good", "vm-warned", "vm-handed-over", "vm-patched", "documents", "payroll", "systemdb")
FLEET = tuple(f"fleet-{number:02}" for number in range(1, 6))
NEGLECTED = "fleet-05"


class Past:
    """The emulator's clock, which can be set back and let on."""

    def __init__(self) -> None:
        self.behind = 0.0

    def __call__(self) -> float:
        return time.time() - self.behind


def live_through_a_week(azure: Emulator, past: Past) -> None:
    """Back everything up every night, with the trouble that a week brings."""
    chance = random.Random(5)
    for night in range(7, 0, -1):
        for item in (*ITEMS, *FLEET):
            past.behind = night * 24 * HOUR - HOUR * chance.uniform(0.2, 3)
            ending = chance.choices(("Completed", "CompletedWithWarnings", "Failed"), (30, 1, 2))[0]
            if item == NEGLECTED and night < 4:
                continue  # nobody noticed
            azure.start_job(item, ending=ending, seconds=HOUR * chance.uniform(0.4, 2.2))
    past.behind = 2.5 * HOUR
    azure.start_job("vm-patched", ending="Cancelled", seconds=HOUR)
    past.behind = 1.1 * HOUR
    azure.start_job("systemdb", seconds=3 * HOUR)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What there is to see: an Airflow with the run of a backup that goes on, and of one that failed."""

    stack: Stack
    running: Run
    failed: Run


@contextmanager
def scene(home: Path) -> Iterator[Scene]:
    """Let a week pass and two Dags run; all of it ends with the ``with`` block."""
    past, known = Past(), {*ITEMS, *FLEET, "vm-fails"}
    seed = {**DEFAULT, "items": [item for item in DEFAULT["items"] if item["name"] in known]}
    with Emulator(clock=past, directory=home / "azure", seed=seed) as azure:
        azure.configure(job_read_budget=100_000)
        live_through_a_week(azure, past)
        connection = json.dumps(azure.connection())
        with Stack(
            dags=EXAMPLES,
            home=home / "airflow",
            env={
                "AIRFLOW_CONN_AZURE_BACKUP_DEFAULT": connection,
                "AIRFLOW__AZURE_BACKUP__ALLOWED_HOSTS": urlsplit(azure.url).netloc,
            },
            local_settings=quick_polling(2.0),
        ) as stack:
            dags = ("azbackup_gate_one_vm", "azbackup_backup_fails")
            stack.wait_for_dags(*dags)
            # Both began some time ago: the one that runs has come half-way.
            past.behind = 0.4 * HOUR
            azure.plan("vm-good", seconds=HOUR)
            # It fails once the clock is set forward, so both tasks have the time to be deferred.
            azure.plan("vm-fails", seconds=0.3 * HOUR, ending="Failed")
            running, failed = (stack.run_dag(dag) for dag in dags)
            for run in (running, failed):
                stack.wait_for_state(run, "backup", "deferred", timeout=300)
            past.behind = 0.0
            stack.wait_for_state(failed, "backup", "failed", timeout=300)
            yield Scene(stack=stack, running=running, failed=failed)


@contextmanager
def chromium(stack: Stack) -> Iterator[Any]:
    """Open a browser that is logged in to Airflow."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = found.new_page(viewport={"width": 1360, "height": 900})
        page.goto(f"{stack.url}/auth/login")
        page.fill("input[name=username]", USER)
        page.fill("input[name=password]", PASSWORD)
        page.click("button[type=submit]")
        page.wait_for_url(lambda url: "/auth/" not in url)
        yield page
        found.close()


def take(
    page: Any, name: str, address: str, ready: str, *, theme: str, size: tuple[int, int], click: str = ""
) -> None:
    """Take one picture of what Airflow shows at an address, once its frame shows what is waited for.

    :param click: what to click on in the frame first.
    """
    page.set_viewport_size({"width": size[0], "height": size[1]})
    page.evaluate("theme => localStorage.setItem('theme', theme)", theme)
    page.goto(address)
    frame = page.wait_for_selector("iframe[title='Azure Backup']").content_frame()
    if click:
        frame.click(click)
    frame.wait_for_selector(ready, timeout=30_000)
    page.wait_for_timeout(1500)
    IMAGES.mkdir(parents=True, exist_ok=True)
    file = IMAGES / f"{name}.png"
    page.screenshot(path=file)
    subprocess.run(["pngquant", "--force", "--strip", "--output", file, file], check=True)
    print(f"docs/images/{file.name}: {file.stat().st_size / 1000:.0f} KB", flush=True)
    if file.stat().st_size > MOST:
        raise SystemExit(f"{file} is larger than {MOST / 1000:.0f} KB")


def tab(scene: Scene, run: Run) -> str:
    """Return the address of the tab of a run's backup."""
    task = f"/dags/{run.dag_id}/runs/{quote(run.run_id)}/tasks/backup"
    return f"{scene.stack.url}{task}/plugin/azure-backup-job"


def take_all(page: Any, scene: Scene) -> None:
    """Take every picture of the documentation."""
    page_at = f"{scene.stack.url}/plugin/azure-backup"
    overview: Any = {"address": page_at, "ready": "#codes li"}
    vault: Any = {"address": page_at, "ready": "#timeline canvas", "click": "#vaults a:text-is('demo-vault')"}
    take(page, "overview", **overview, theme="light", size=(1360, 1000))
    take(page, "page", **vault, theme="light", size=(1360, 1000))
    take(page, "page-dark", **vault, theme="dark", size=(1360, 1000))
    take(page, "page-phone", **overview, theme="dark", size=(360, 844))
    take(page, "tab", tab(scene, scene.failed), "#errors li", theme="light", size=(1360, 800))
    take(page, "tab-running", tab(scene, scene.running), "#phases li", theme="dark", size=(1360, 800))


def main() -> int:
    """Take all pictures; return the exit status."""
    if missing := [packages for command, packages in NEEDED.items() if not shutil.which(command)]:
        print(f"Missing; on Debian: apt-get install {' '.join(missing)}", file=sys.stderr)
        return 1
    home = Path(tempfile.mkdtemp(prefix="azbackup-screenshots-"))
    try:
        with scene(home) as found, chromium(found.stack) as page:
            take_all(page, found)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""One run against one vault: the hook with its tape, and the report that is written at the end.

The vault is that of ``LIVE_CONNECTION``. ``make live`` sets out with one of Azure, and
``tests/live/test_live.py`` with one of the emulator. Without one, nothing here is collected.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest

from dev.live.recorder import RecordingHook, recording
from dev.live.redaction import Redaction
from dev.live.report import Report
from dev.live.settings import Settings

if "LIVE_CONNECTION" not in os.environ:
    collect_ignore_glob = ["test_*.py"]


@dataclass(frozen=True, kw_only=True)
class Live:
    """What the tests share, in the order in which they stand."""

    settings: Settings
    hook: RecordingHook
    report: Report = field(default_factory=Report)


@pytest.fixture(scope="session")
def live() -> Iterator[Live]:
    """A vault, reached by the connection of the run; writes report and recording once all tests are over."""
    settings = Settings.read()
    os.environ["AIRFLOW_CONN_AZURE_BACKUP_DEFAULT"] = json.dumps(settings.connection)
    endpoint = settings.connection["extra"].get("endpoint")
    if endpoint:
        os.environ["AIRFLOW__AZURE_BACKUP__ALLOWED_HOSTS"] = urlsplit(endpoint).netloc
    with RecordingHook() as hook:
        found = Live(settings=settings, hook=hook)
        yield found
        _write(found)


def _write(live: Live) -> None:
    settings, tape, report = live.settings, live.hook.tape, live.report
    redaction = Redaction((*settings.secrets, *tape.tokens))
    recorded = recording(tape, redaction, "One run of the conformance suite.")
    report.figures["Requests"] = str(len(tape.exchanges))
    report.figures["Reads of jobs"] = str(sum(1 for _ in tape.job_reads()))
    for name in ("back_up", "cancel", "restore"):
        if not getattr(settings, name):
            report.left_out.append(f"LIVE_{name.upper()} names no item")
    texts = {
        "recording.json": redaction.check(json.dumps(recorded, indent=1)),
        "report.md": redaction.check(report.markdown("A run against a vault")),
    }
    settings.directory.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (settings.directory / name).write_text(text)


@pytest.fixture(autouse=True)
def assumptions(live: Live) -> Iterator[None]:
    """Fail a test whose assumptions did not hold, once all of them are in the report."""
    before = len(live.report.failed)
    yield
    failed = [f"{each.assumption}: {each.seen}" for each in live.report.failed[before:]]
    assert not failed, "\n".join(failed)

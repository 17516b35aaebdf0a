"""What is kept of a run that failed: the logs, and the requests that the emulator has answered."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Configuration and databases hold secrets and are not kept.
FAILED = ROOT / "build" / "failed"
REQUESTS = "requests.jsonl"
# The emulator prints a line with this in it for its user to copy, and the secret is in it as well.
ANNOUNCED = "AIRFLOW_CONN_"


def keep_if_failed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Copy the logs of a session in which a test has failed to a directory of its own, and say where."""
    if not request.session.testsfailed:
        return
    base = tmp_path_factory.getbasetemp()
    # Two sessions run at the same time in `make test`.
    directory = FAILED / base.name
    shutil.rmtree(directory, ignore_errors=True)
    for file in sorted([*base.rglob("*.log"), *base.rglob(REQUESTS)]):
        if file.is_file():
            kept = directory / file.relative_to(base)
            kept.parent.mkdir(parents=True, exist_ok=True)
            lines = file.read_text(errors="replace").splitlines(keepends=True)
            kept.write_text("".join(line for line in lines if ANNOUNCED not in line))
    terminal = request.config.pluginmanager.get_plugin("terminalreporter")
    if terminal:
        terminal.write_line(f"\nLogs of Airflow and the emulator's requests: {directory.relative_to(ROOT)}")

"""`make live` against the emulator over TLS: the suite passes, and its report and recording can be used."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from azure_backup_emulator import Emulator
from tests.support.live_recordings import replay_jobs
from tests.support.replay import by_triggerer, by_worker

ROOT = Path(__file__).resolve().parents[2]
SPEED = 600  # a job of 20 minutes lasts 2 s


def run(directory: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run what `make live` runs."""
    return subprocess.run(
        [sys.executable, "-m", "dev.live"],
        cwd=ROOT,
        env={**os.environ, **variables, "LIVE_DIRECTORY": str(directory)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_run_with_all_actions_is_reported_and_recorded_and_its_recording_is_held_again(
    tmp_path: Path, azure: Emulator, clock: Any, connect: Callable[..., None]
) -> None:
    with Emulator(speed=SPEED) as vault:
        vault.plan("vm-good", seconds=1200, visible_after=60)
        vault.plan("vm-patched", ending="Never")
        vault.plan("documents", seconds=60)
        for name, ending in (("vm-good", "Completed"), ("vm-fails", "Failed"), ("documents", "Completed")):
            vault.start_job(name, ago=86400, seconds=60, ending=ending)
        connection = tmp_path / "connection.json"
        connection.write_text(json.dumps(vault.connection()))
        done = run(
            tmp_path / "live",
            LIVE_CONNECTION=str(connection),
            LIVE_ITEM="vm-good",
            LIVE_BACK_UP="vm-good",
            LIVE_CANCEL="vm-patched",
            LIVE_RESTORE="documents",
            LIVE_RESTORE_FILES="contracts/2026.pdf",
            LIVE_RESTORE_FOLDER="restored",
            LIVE_POLL_SECONDS="0.2",
        )
        secret = vault.connection()["password"]
        subscription = vault.connection()["extra"]["subscription_id"]
    assert done.returncode == 0, done.stdout + done.stderr
    report = (tmp_path / "live" / "report.md").read_text()
    assert "did not hold" not in report
    for seen in (
        "reads of jobs are granted",
        "clock and this computer's",
        "was cancelled",
        "InstantRP Valid",
    ):
        assert seen in report
    recorded = (tmp_path / "live" / "recording.json").read_text()
    for text in (secret, subscription, "vm-good", "demo-rg", "documents", "contracts", "Bearer", "localhost"):
        assert text not in recorded + report

    def use(**where: str) -> None:
        connect(azure.connection(**where))

    for hook in (by_worker, by_triggerer):
        jobs = replay_jobs(tmp_path / "live" / "recording.json", hook, use, clock)
        assert [(job.action, job.outcome.value) for job in jobs] == [
            ("backup", "succeeded"),
            ("backup", "cancelled"),
            ("restore", "succeeded"),
        ]


@pytest.mark.skipif("AZBACKUP_SAMPLE" in os.environ, reason="it costs 10 s; CI's other jobs run it")
def test_a_run_against_a_backup_vault_is_recorded_and_held_again(
    tmp_path: Path, azure: Emulator, connect: Callable[..., None], clock: Any
) -> None:
    with Emulator(speed=SPEED) as vault:
        vault.plan("disk-good", seconds=600)
        connection = tmp_path / "connection.json"
        where = {"vault_name": "demo-backup-vault", "vault_type": "DataProtection"}
        connection.write_text(json.dumps(vault.connection(**where)))
        done = run(
            tmp_path, LIVE_CONNECTION=str(connection), LIVE_BACK_UP="disk-good", LIVE_POLL_SECONDS="0.2"
        )
    assert done.returncode == 0, done.stdout + done.stderr
    report = (tmp_path / "report.md").read_text()
    assert "OperationalStore COMMITTED" in report
    assert "* LIVE_CANCEL names no item" in report
    for hook in (by_worker, by_triggerer):
        jobs = replay_jobs(
            tmp_path / "recording.json", hook, lambda **where: connect(azure.connection(**where)), clock
        )
        assert [(job.action, job.outcome.value) for job in jobs] == [("backup", "succeeded")]


def test_a_run_without_a_connection_says_what_it_needs(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert done.returncode == 2
    assert "LIVE_CONNECTION is empty; expected a file with an Airflow connection" in done.stderr

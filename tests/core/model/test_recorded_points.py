"""Recovery points as Azure was recorded to show them, read and judged; see the README of the recordings."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from airflow_provider_azbackup.core.conversations.recovery_point_of_job import find_recovery_point
from airflow_provider_azbackup.core.model.jobs import Job
from airflow_provider_azbackup.core.model.recovery_points import RecoveryPoint
from airflow_provider_azbackup.core.model.resources import JobRef, ProtectedItem
from airflow_provider_azbackup.core.rest import responses
from airflow_provider_azbackup.core.wire import Response
from tests.support.play import play

RECORDINGS = Path(__file__).parents[4] / "shared" / "recordings-2"
pytestmark = pytest.mark.skipif(not RECORDINGS.is_dir(), reason="the recordings are not part of the project")


class Recording:
    """One file: its last answer about a job, and its last one about recovery points."""

    def __init__(self, name: str) -> None:
        found = json.loads((RECORDINGS / f"{name}.json").read_text())["exchanges"]
        self.reads = [each for each in found if each["method"] == "GET" and each["status"] == 200]

    def last(self, part: str) -> tuple[str, Response]:
        """The path and the answer of the last read below a part of the path."""
        each = next(each for each in reversed(self.reads) if part in urlsplit(each["uri"]).path)
        path = unquote(urlsplit(each["uri"]).path)
        return path, Response(status=200, at=0.0, headers=each["headers"], text=json.dumps(each["body"]))

    @property
    def backup(self) -> Job:
        """The backup as it was seen last."""
        read = [
            (JobRef.parse(unquote(urlsplit(each["uri"]).path)), each["body"])
            for each in self.reads
            if "/backupJobs/" in each["uri"] and each["body"]["properties"]["operation"].startswith("Backup")
        ]
        job = responses.parse_job(*read[-1])
        assert job
        return job

    def points(self) -> list[RecoveryPoint]:
        path, response = self.last("/recoveryPoints")
        owner, _, name = path.partition("/recoveryPoints")
        item = ProtectedItem.parse(owner)
        if name:
            return [responses.read_recovery_point(item, response, name.removeprefix("/"))]
        return responses.read_recovery_points(item, responses.read_page(response))


@pytest.mark.parametrize(
    ("name", "tiers"),
    [
        ("points_numeric_tiers", {"HardenedRP": "Valid"}),
        ("hana_point_before_its_job", {"HardenedRP": "Valid"}),
        ("afs_point_after_its_job", {"InstantRP": "Valid"}),
        ("vm_backup_2026", {"InstantRP": "Valid", "HardenedRP": "Valid"}),
        ("sap_ase_2025", {"HardenedRP": "Valid"}),
        ("aks_2025", {"OperationalStore": "COMMITTED"}),
    ],
)
def test_a_recorded_point_is_good(name: str, tiers: dict[str, str]) -> None:
    point = Recording(name).points()[0]
    assert dict(point.tiers) == tiers
    assert (
        point.shortcoming(min_tier="InstantRP", require_all_disks=not point.item.vault.is_backup_vault) == ""
    )


def test_a_recorded_point_that_the_scan_has_marked_is_bad() -> None:
    (point,) = Recording("point_marked_unhealthy_2026").points()
    assert (point.threat_status, point.is_deleted) == ("UnHealthy", False)
    assert "Detected Petya ransomware" in point.shortcoming()


@pytest.mark.parametrize(
    ("name", "after_start", "expiry"),
    [
        ("vm_backup_2026", 9.68, "2026-08-16T08:03:31+00:00"),
        ("hana_point_before_its_job", -15.59, None),
        ("afs_point_after_its_job", 10.31, None),
        ("aks_2025", None, None),
    ],
)
def test_the_recorded_point_of_a_recorded_job_is_found(
    name: str, after_start: float | None, expiry: str | None
) -> None:
    recording = Recording(name)
    job = recording.backup
    made = recording.points()[0]
    single = Response(status=200, at=0.0, text=json.dumps(made.body))
    page = Response(status=200, at=0.0, text=json.dumps({"value": [made.body]}))
    jobs = Response(status=200, at=0.0, text=json.dumps({"value": [job.body]}))
    needs_jobs = made.item.workload not in ("vm", "backupinstance")
    answers = [single] if made.item.vault.is_backup_vault else [page, *([jobs] if needs_jobs else [])]
    found = play(find_recovery_point(job, made.item, 0.0), *answers).result
    assert found.point_id == made.point_id
    if after_start is not None:
        assert found.unix_time - job.began == pytest.approx(after_start, abs=0.01)
    assert found.expiry == expiry

from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_provider_azbackup.core.model.forecast import (
    Forecast,
    forecast,
    late_from,
    lateness,
    past_durations,
)
from airflow_provider_azbackup.core.model.jobs import Job, JobError
from dev.bench.forecast import coverage, warnings
from tests.support.play import JOB

BEGAN = 1_800_000_000.0
MINUTES = [60.0 * minutes for minutes in (34, 31, 35, 32, 38, 33, 36, 37, 39)]
BACKUP = Job(
    ref=JOB,
    status="Completed",
    operation="Backup (Full)",
    item="payroll [sqlvm]",
    duration_seconds=1900.0,
)


def test_half_of_the_backups_end_before_p50_and_nine_in_ten_before_p90() -> None:
    assert forecast(MINUTES, began=BEGAN, now=BEGAN) == Forecast(p50=BEGAN + 35 * 60, p90=BEGAN + 39 * 60)
    eleven = [*MINUTES, 30 * 60.0, 40 * 60.0]
    found = forecast(eleven, began=BEGAN, now=BEGAN)
    assert found == Forecast(p50=BEGAN + 35 * 60, p90=pytest.approx(BEGAN + 39.8 * 60))


def test_only_backups_that_took_longer_than_this_one_has_run_say_something_about_its_end() -> None:
    found = forecast([60.0, *MINUTES, 600.0], began=BEGAN, now=BEGAN + 601)
    assert found == Forecast(p50=BEGAN + 35 * 60, p90=BEGAN + 39 * 60)


def test_there_is_no_p90_once_fewer_than_nine_took_longer() -> None:
    found = forecast(MINUTES, began=BEGAN, now=BEGAN + 37 * 60)
    assert found == Forecast(p50=BEGAN + 38.5 * 60, p90=None)


@pytest.mark.parametrize(
    ("durations", "elapsed"), [([], 0), (MINUTES[1:], 0), (MINUTES, 39 * 60), (MINUTES, 86400)]
)
def test_there_is_no_forecast_without_nine_nights_or_beyond_the_longest(
    durations: list[float], elapsed: float
) -> None:
    assert forecast(durations, began=BEGAN, now=BEGAN + elapsed) is None


def test_durations_are_those_of_successful_backups_of_the_same_item_and_type() -> None:
    running = replace(BACKUP, status="InProgress", duration_seconds=700.0)
    others = [
        replace(BACKUP, item="payroll [othervm]"),
        replace(BACKUP, operation="Backup (Differential)"),
        replace(BACKUP, operation="Backup (Log)"),
        replace(BACKUP, operation="Restore"),
        replace(BACKUP, status="Failed"),
        replace(BACKUP, status="CompletedWithWarnings", errors=(JobError(code="400158"),)),  # cancelled
        replace(BACKUP, duration_seconds=None),
        replace(BACKUP, duration_seconds=0.0),
        running,
    ]
    alike = [BACKUP, replace(BACKUP, item="PAYROLL [sqlvm]", status="CompletedWithWarnings")]
    assert past_durations([*others, *alike], running) == [1900.0, 1900.0]


def test_of_ten_thousand_backups_with_heavy_tails_nine_in_ten_end_before_p90() -> None:
    found = coverage(10_000, seed=18)
    for p50, p90 in (found.at_start, found.underway):
        assert 0.47 <= p50 <= 0.53
        assert 0.88 <= p90 <= 0.92


def test_fewer_than_one_warning_in_twenty_backups_is_a_false_alarm() -> None:
    found = warnings(10_000, seed=18, slack=1.5)
    assert found.false < 0.05
    assert found.foreseen > 0.4


def test_a_backup_that_began_late_is_foreseen_to_be_late_at_once() -> None:
    assert late_from(MINUTES, began=BEGAN, expected_by=BEGAN + 30 * 60) == BEGAN
    # One that began in time is late once the longer nights are the only ones left.
    assert late_from(MINUTES, began=BEGAN, expected_by=BEGAN + 37 * 60) == BEGAN + 35 * 60
    assert late_from(MINUTES, began=BEGAN, expected_by=BEGAN + 40 * 60) == BEGAN + 40 * 60
    assert late_from([], began=BEGAN, expected_by=BEGAN + 60) == BEGAN + 60


def test_a_lateness_says_what_is_expected() -> None:
    found = Forecast(p50=BEGAN + 3600, p90=None)
    assert lateness(found, expected_by=BEGAN + 1800, now=BEGAN) == {
        "message": "the backup is expected by 2027-01-15T08:30:00+00:00, but is likely to end at "
        "2027-01-15T09:00:00+00:00",
        "expected_by": "2027-01-15T08:30:00+00:00",
        "expected_end": "2027-01-15T09:00:00+00:00",
        "expected_late": None,
    }
    passed = lateness(None, expected_by=BEGAN, now=BEGAN)["message"]
    assert passed == "the backup was expected by 2027-01-15T08:00:00+00:00 and is not over"

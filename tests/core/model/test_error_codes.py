"""One table of Azure's error codes, the same in the documentation."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from airflow_provider_azbackup.core.model.error_codes import ERROR_CODES, find_error_code
from airflow_provider_azbackup.exceptions import (
    AzureBackupBusyError,
    AzureBackupDailyLimitError,
    AzureBackupLimitError,
    AzureBackupRefusedError,
    AzureBackupTransientError,
)

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "error-codes.md"
UNITS = {"h": 3600.0, "min": 60.0}
# What the page calls the error that each code raises.
MEANINGS = {
    "busy": AzureBackupBusyError,
    "limit": AzureBackupLimitError,
    "daily limit": AzureBackupDailyLimitError,
    "transient": AzureBackupTransientError,
}


def test_the_page_lists_the_table() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([a-z ]+) \| (?:(\d+) (h|min))? ?\| (.+) \|$", PAGE.read_text(), re.M)
    shown = [
        (code, MEANINGS[meaning], float(number) * UNITS[unit] if unit else None, workloads)
        for code, meaning, number, unit, workloads in rows
    ]
    assert shown == [(row.code, row.error, row.retry_after, row.workloads) for row in ERROR_CODES]


def test_a_code_means_one_thing_however_it_is_cased() -> None:
    assert len({row.code.casefold() for row in ERROR_CODES}) == len(ERROR_CODES)
    for row in ERROR_CODES:
        assert find_error_code(row.code.upper()) is row


def test_an_unknown_code_is_a_refusal() -> None:
    for code in ("UserErrorInvented", "", None):
        assert find_error_code(code).error is AzureBackupRefusedError


@pytest.mark.parametrize("row", [row for row in ERROR_CODES if row.message], ids=lambda row: row.code)
def test_a_message_counts_only_where_there_is_no_symbolic_code(row: object) -> None:
    assert isinstance(row, type(ERROR_CODES[0]))
    texts = ("Command execution failed.", f"{row.message.capitalize()}. Please wait.")
    assert find_error_code("", texts=texts).error is row.error
    assert find_error_code("UserErrorInvented", texts=texts).error is AzureBackupRefusedError

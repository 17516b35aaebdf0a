"""What Azure's error codes mean for a request that is to start a job: one table for all workloads.

A code means the same wherever it stands: in the answer to a request, in a failed operation, or in a failed
job. ``docs/reference/error-codes.md`` lists the table.

Source: https://learn.microsoft.com/azure/backup/backup-azure-vms-troubleshoot and the same pages of the other
workloads, which the table names; "recorded" are codes that were seen in real answers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

from airflow_provider_azbackup.exceptions import (
    AzureBackupBusyError,
    AzureBackupDailyLimitError,
    AzureBackupError,
    AzureBackupLimitError,
    AzureBackupRefusedError,
    AzureBackupTransientError,
)

_MINUTE = 60.0
_HOUR = 3600.0


class Meaning(Enum):
    """What Azure says with an error code."""

    BUSY = "busy"
    LIMIT = "limit"
    DAILY_LIMIT = "daily limit"
    TRANSIENT = "transient"
    REFUSED = "refused"

    @property
    def error(self) -> type[AzureBackupError]:
        """The error that is raised for it."""
        return _RAISED[self]


_RAISED = MappingProxyType(
    {
        Meaning.BUSY: AzureBackupBusyError,
        Meaning.LIMIT: AzureBackupLimitError,
        Meaning.DAILY_LIMIT: AzureBackupDailyLimitError,
        Meaning.TRANSIENT: AzureBackupTransientError,
        Meaning.REFUSED: AzureBackupRefusedError,
    }
)


@dataclass(frozen=True, kw_only=True)
class ErrorCode:
    """One row of the table.

    :param code: as Azure spells it.
    :param meaning: what it means.
    :param said_of: the workloads it is documented for, or where it was recorded.
    :param message: part of Azure's message, in lower case. It decides where a job's error has no symbolic
        code, which is so for all errors of file shares.
    :param pause: seconds to wait before the next request, where Azure recommends a time; 0 where it does not.
    """

    code: str
    meaning: Meaning
    said_of: str
    message: str = ""
    pause: float = 0.0


def _busy(code: str, said_of: str, message: str = "") -> ErrorCode:
    return ErrorCode(code=code, meaning=Meaning.BUSY, said_of=said_of, message=message)


def _limit(code: str, said_of: str, pause: float, message: str) -> ErrorCode:
    meaning = Meaning.DAILY_LIMIT if pause >= 24 * _HOUR else Meaning.LIMIT
    return ErrorCode(code=code, meaning=meaning, said_of=said_of, message=message, pause=pause)


def _transient(code: str) -> ErrorCode:
    return ErrorCode(code=code, meaning=Meaning.TRANSIENT, said_of="all workloads; recorded")


_SHARES, _SHARE_RESTORES = "Azure Files", "restores of Azure Files"
_DATABASES = "SQL Server, SAP HANA"

ERROR_CODES = (
    _busy("UserErrorBackupOperationInProgress", "VMs", "another backup operation is currently in progress"),
    _busy("SystemBackupOperationInProgress", "VMs"),
    # A number: Azure leaves the symbolic code empty.
    _busy("400001", "VMs; recorded", "another operation is currently in progress on this item"),
    _busy("BMSUserErrorObjectLocked", _SHARES, "another operation is in progress on the selected item"),
    _busy(
        "BMSUserErrorConflictingProtectionOperation",
        _SHARES,
        "another configure protection operation is in progress",
    ),
    _busy("ParallelSnapshotRequest", _SHARES, "a backup job is already in progress for this file share"),
    _busy("UserErrorDTSDestLocked", _SHARE_RESTORES, "a recovery job is in process to the same destination"),
    _busy(
        "UserErrorAnotherRestoreInProgressOnSameTarget",
        _SHARE_RESTORES,
        "another restore job is in progress on the same target",
    ),
    _busy(
        "AzureFileSyncChangeDetectionInProgress",
        _SHARE_RESTORES,
        "change detection is in progress for the target file share",
    ),
    _busy("OperationCancelledBecauseConflictingOperationRunningUserError", f"{_DATABASES}; recorded"),
    _busy("OperationCancelledBecauseConflictingAutohealOperationRunningUserError", "SAP HANA"),
    _busy("UserErrorBackupFailedAsRemedialBackupInProgress", "SAP HANA"),
    _busy("UserErrorMaxConcurrentOperationLimitReached", "disks, PostgreSQL flexible servers"),
    _limit(
        "FileshareBackupFailedWithAzureRpRequestThrottling",
        _SHARES,
        15 * _MINUTE,
        "failed due to storage service throttling",
    ),
    _limit(
        "FileshareRestoreFailedWithAzureRpRequestThrottling",
        _SHARE_RESTORES,
        15 * _MINUTE,
        "failed due to storage service throttling",
    ),
    # Azure spells it like this, and recommends to "retry after few hours".
    _limit(
        "CloudDosTimeboudLimitReached",
        "Backup vaults; recorded",
        2 * _HOUR,
        "multiple attempts were made beyond an internal limit",
    ),
    _limit(
        "CloudDosAbsoluteLimitReached",
        f"{_DATABASES}; recorded",
        24 * _HOUR,
        "number of operations permitted in 24 hours",
    ),
    _limit(
        "CloudDosAbsoluteLimitReachedWithRetry",
        _DATABASES,
        24 * _HOUR,
        "such operations permitted in a span of 24 hours",
    ),
    _transient("CloudInternalError"),
    _transient("RestApiInternalError"),
    _transient("InternalServerError"),
    _transient("ServerTimeout"),
    _transient("GatewayTimeout"),
    _transient("InvalidGatewayHost"),
)
_BY_CODE = MappingProxyType({row.code.casefold(): row for row in ERROR_CODES})
_UNKNOWN = ErrorCode(code="", meaning=Meaning.REFUSED, said_of="")


def find_error_code(code: str | None, *, number: str = "", texts: Iterable[str] = ()) -> ErrorCode:
    """Return what an error of Azure's means; one that the table does not contain is a refusal.

    :param code: the symbolic code, in any case.
    :param number: the number of a job's error, which counts only where there is no symbolic code.
    :param texts: its message and recommendations, likewise.
    """
    if found := _BY_CODE.get((code or number).casefold()):
        return found
    said = " ".join(texts).casefold()
    shown = (row for row in ERROR_CODES if not code and row.message and row.message in said)
    return next(shown, _UNKNOWN)

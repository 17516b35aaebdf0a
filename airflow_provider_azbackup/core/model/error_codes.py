"""What Azure's error codes mean for a request that is to start a job: one table for all workloads.

A code means the same wherever it appears: in the response to a request, in a failed operation, or in a failed
job. ``docs/reference/error-codes.md`` lists the table.

Source: https://learn.microsoft.com/azure/backup/backup-azure-vms-troubleshoot and the same pages of the other
workloads, which the table names. Codes marked "recorded" were seen in real responses.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
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


@dataclass(frozen=True, kw_only=True)
class ErrorCode:
    """One row of the table.

    :param code: as Azure spells it.
    :param error: the class that is raised for it.
    :param workloads: the workloads that it is documented for, or where it was recorded.
    :param message: part of Azure's message, in lower case. It is compared if the error of a job has no
        symbolic code, as is the case for all errors of file shares.
    :param retry_after: seconds to wait before the next request, if Azure recommends a time.
    """

    code: str
    error: type[AzureBackupError]
    workloads: str
    message: str = ""
    retry_after: float | None = None


def _busy(code: str, workloads: str, message: str = "") -> ErrorCode:
    return ErrorCode(code=code, error=AzureBackupBusyError, workloads=workloads, message=message)


def _limit(code: str, workloads: str, retry_after: float, message: str) -> ErrorCode:
    error = AzureBackupDailyLimitError if retry_after >= 24 * _HOUR else AzureBackupLimitError
    return ErrorCode(code=code, error=error, workloads=workloads, message=message, retry_after=retry_after)


def _transient(code: str) -> ErrorCode:
    return ErrorCode(code=code, error=AzureBackupTransientError, workloads="all workloads; recorded")


_SHARES, _SHARE_RESTORES = "Azure Files", "restores of Azure Files"
_DATABASES = "SQL Server, SAP HANA"

ERROR_CODES = (
    _busy("UserErrorBackupOperationInProgress", "VMs", "another backup operation is currently in progress"),
    _busy("SystemBackupOperationInProgress", "VMs"),
    # This is a number, because Azure leaves the symbolic code empty.
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
    # This is Azure's own spelling. Its recommendation is to "retry after few hours".
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
_UNKNOWN = ErrorCode(code="", error=AzureBackupRefusedError, workloads="")


def find_error_code(code: str | None, *, number: str = "", texts: Iterable[str] = ()) -> ErrorCode:
    """Return what an error of Azure's means. An error that the table does not contain is a refusal.

    :param code: the symbolic code, in upper or lower case.
    :param number: the number of a job's error, which is used only if there is no symbolic code.
    :param texts: its message and recommendations, which are used only if there is no symbolic code either.
    """
    if found := _BY_CODE.get((code or number).casefold()):
        return found
    text = " ".join(texts).casefold()
    matches = (row for row in ERROR_CODES if not code and row.message and row.message in text)
    return next(matches, _UNKNOWN)

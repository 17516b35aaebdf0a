"""Every error this provider raises on purpose, one class for each decision a caller can take.

The module imports nothing, so a retry policy or a callback can name these classes at no cost when a DAG
file is parsed. Each error carries plain facts as attributes and survives pickling.
"""

from __future__ import annotations

from typing import Any


class AzureBackupError(Exception):
    """Something this provider could not do; the base of all its errors.

    :param message: what was tried, on what, and what came back.
    :param status: HTTP status of the answer, when there was one.
    :param code: Azure's symbolic error code, for example ``AuthorizationFailed``.
    :param request_id: ``x-ms-request-id`` of the answer, for a support case.
    :param retry_after: seconds Azure asked to wait before the next request.
    :param job: facts of the job this is about, as pushed to the XCom ``job``.
    """

    def __init__(
        self,
        message: str = "",
        *,
        status: int | None = None,
        code: str | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
        job: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.request_id = request_id
        self.retry_after = retry_after
        self.job = job

    def facts(self) -> dict[str, Any]:
        """Return the error as plain JSON, to cross from the triggerer to the worker."""
        return {"type": type(self).__name__, "message": str(self), **self.__dict__}

    @staticmethod
    def from_facts(facts: dict[str, Any]) -> AzureBackupError:
        """Rebuild the error that :meth:`facts` described; an unknown type becomes the base class.

        :param facts: what :meth:`facts` returned, perhaps written by another release of this package.
        """
        kinds = {kind.__name__: kind for kind in _descendants(AzureBackupError)}
        error = kinds.get(str(facts.get("type")), AzureBackupError)(str(facts.get("message", "")))
        error.__dict__.update({name: facts[name] for name in error.__dict__ if name in facts})
        return error


class AzureBackupConfigError(AzureBackupError, ValueError):
    """An argument or a field of the connection is missing or wrong; no request can cure that."""


class AzureBackupAuthError(AzureBackupError):
    """Azure does not know the identity (401, no token) or it lacks a right (403)."""


class AzureBackupNotFoundError(AzureBackupError):
    """The vault, protected item, operation or job does not exist, or not for this identity."""


class AzureBackupRefusedError(AzureBackupError):
    """Azure understood the request and said no (400, 409, ...); sending it again cannot help."""


class AzureBackupBusyError(AzureBackupRefusedError):
    """Another operation on the item is in the way; later Azure will start this one."""


class AzureBackupLimitError(AzureBackupRefusedError):
    """A limit of Azure's is reached and nothing was started; :attr:`retry_after` is how long to wait."""


class AzureBackupDailyLimitError(AzureBackupLimitError):
    """A limit for 24 hours is reached and nothing was started: try again tomorrow."""


class AzureBackupTransientError(AzureBackupError):
    """No usable answer this time (408, 429, 5xx, a reset, a broken body); a later one may do."""


class AzureBackupUnconfirmedStartError(AzureBackupError):
    """A request for a backup or restore was sent, but it is not known whether one is running now."""


class AzureBackupJobFailedError(AzureBackupError):
    """The job is over and proves no backup or restore: it failed, was cancelled, or ended with warnings.

    :attr:`job` says which under ``outcome``, with the errors and the recommendations of Azure.
    """


class AzureBackupRecoveryPointError(AzureBackupJobFailedError):
    """The backup has made a recovery point that is not as good as the gate asks for."""


class AzureBackupWrongJobError(AzureBackupJobFailedError):
    """The job is not the one that the task asks for: another vault, item, job or kind of operation.

    The message shows both sides. Such a job never opens a gate, however it ended.
    """


class AzureBackupGateShutError(AzureBackupJobFailedError):
    """The job that a sensor waits for is over and proves no backup, or is not the job that was asked for.

    Airflow does not retry the sensor, because looking again gives the same answer.
    """


class AzureBackupNotProvenError(AzureBackupError):
    """A restore drill has not shown that the restore works. The XCom ``restore_record`` has the evidence.

    Airflow does not retry the task, because looking again gives the same answer.
    """


class AzureBackupNotApprovedError(AzureBackupError):
    """No person has approved the restore, so nothing was restored. The XCom ``approval`` has the decision.

    Airflow does not retry the task, so that nobody is asked again after a no.
    """


class AzureBackupTimeoutError(AzureBackupError):
    """The deadline passed before the job was over; the job itself goes on in Azure."""


def _descendants(kind: type[AzureBackupError]) -> list[type[AzureBackupError]]:
    return [kind, *(below for child in kind.__subclasses__() for below in _descendants(child))]

"""Every distinct error of the recorded years, and the decision a caller can take on it."""

from __future__ import annotations

import pytest

from airflow_provider_azbackup.core.rest import requests, responses
from airflow_provider_azbackup.exceptions import (
    AzureBackupAuthError,
    AzureBackupDailyLimitError,
    AzureBackupError,
    AzureBackupNotFoundError,
    AzureBackupRefusedError,
    AzureBackupTransientError,
)
from tests.support.play import JOB
from tests.support.replay import exchanges, needs_recordings, reply_of

pytestmark = needs_recordings

REFUSED, TRANSIENT = AzureBackupRefusedError, AzureBackupTransientError
# Status, code, decision, and words of the message. Errors of Backup vaults come in the same envelope.
ERRORS = [
    (400, "UserErrorDppDatasourceAlreadyHasBackupInstance", REFUSED, "Datasource is already associated"),
    (400, "UserErrorDisableSoftDeleteNotAllowed", REFUSED, "Cannot disable soft delete"),
    (400, "UserErrorUnsupportedVaultImmutabilityStateChange", REFUSED, "The immutable vault property"),
    (400, "DppPluginInvalidInputParameters", REFUSED, "Invalid inputs from caller."),
    (400, "UserErrorInvalidRestorableTimeRange", REFUSED, "The given time range is invalid"),
    (400, "CloudDosAbsoluteLimitReached", AzureBackupDailyLimitError, "Operation is blocked"),
    (400, "ServiceResourceNotEmptyWithBackendMessage", REFUSED, "vault cannot be deleted"),
    (403, "LinkedAuthorizationFailed", AzureBackupAuthError, "Microsoft.DataProtection/resourceGuards/read"),
    (404, "ResourceGroupNotFound", AzureBackupNotFoundError, "Resource group 'dpp-rg' could not be found."),
    (404, "ResourceNotFound", AzureBackupNotFoundError, "vaults/clitest-vault000002' under resource"),
    (409, "MissingSubscriptionRegistration", REFUSED, "not registered to use namespace"),
    (429, "ResourceRequestsThrottled", TRANSIENT, "Please try again after '324' seconds."),
    (500, "CloudInternalError", TRANSIENT, "Wait for a few minutes"),
    (500, "InternalResourceIdentityError", TRANSIENT, "communicating with the identity service"),
    (500, "InternalServerError", TRANSIENT, "Encountered internal server error."),
    (500, "RestApiInternalError", TRANSIENT, "The REST API call encountered"),
    (502, "InvalidGatewayHost", TRANSIENT, "Host name resolution failed"),
    (503, "ServerTimeout", TRANSIENT, "The request timed out."),
    (504, "GatewayTimeout", TRANSIENT, "did not receive a response from 'Microsoft.RecoveryServices'"),
]
# Seconds that Azure's answer names, or that its documentation recommends.
PAUSES = {"ResourceRequestsThrottled": 324.0, "CloudDosAbsoluteLimitReached": 86_400.0}
CONFLICT = "BMSUserErrorContainerIsAlreadyRegisteredWithAnotherVault"


def errors(name: str) -> list[AzureBackupError]:
    found = []
    for each in exchanges(name):
        with pytest.raises(AzureBackupError) as error:
            responses.raise_for_status(reply_of(each), requests.get_job(JOB), 200)
        found.append(error.value)
    return found


def test_the_table_knows_every_recorded_error_and_no_other() -> None:
    recorded = {(error.status, error.code) for error in errors("error_bodies")}
    assert recorded == {(status, code) for status, code, *_ in ERRORS}
    assert len(errors("error_bodies")) == len(ERRORS) + 1  # one of them in two envelopes


@pytest.mark.parametrize(("status", "code", "kind", "words"), ERRORS)
def test_a_recorded_error_is_read_with_code_message_and_decision(
    status: int, code: str, kind: type[AzureBackupError], words: str
) -> None:
    meant = [e for e in errors("error_bodies") if (e.status, e.code) == (status, code)]
    assert meant
    for error in meant:
        assert type(error) is kind
        assert words in str(error)
        assert error.retry_after == PAUSES.get(code)


def test_a_conflict_of_2026_is_a_refusal_with_its_code() -> None:
    (conflict,) = errors("vm_enable_protection_conflict_409_2026")
    assert type(conflict) is AzureBackupRefusedError
    assert (conflict.status, conflict.code) == (409, CONFLICT)
    assert "Virtual machine is already registered" in str(conflict)

"""A retry policy for Airflow 3.3 and later: which failures a retry can cure, and how long to wait for it.

A DAG file that imports this module on an earlier Airflow fails with a message that says so.
"""

from __future__ import annotations

from datetime import timedelta

from airflow_provider_azbackup import exceptions as errors
from airflow_provider_azbackup.runtime.compat import retry_policies

ExceptionRetryPolicy, RetryAction, RetryRule = retry_policies()

# A backup in the way is over in minutes (a database) or hours (a VM). A limit that a task could not wait out
# lasts for hours, or until tomorrow. The first class that fits decides. What is not here follows the task's
# own retry_delay.
_DELAYS = {
    errors.AzureBackupBusyError: timedelta(minutes=10),
    errors.AzureBackupDailyLimitError: timedelta(hours=24),
    errors.AzureBackupLimitError: timedelta(hours=2),
    errors.AzureBackupTransientError: timedelta(minutes=5),
    errors.AzureBackupUnconfirmedStartError: timedelta(minutes=5),
    errors.AzureBackupTimeoutError: timedelta(minutes=15),
}
# Asking again gets the same answer, until a person has changed something.
_HOPELESS = (errors.AzureBackupConfigError, errors.AzureBackupAuthError, errors.AzureBackupNotFoundError)


AZURE_BACKUP_RETRIES = ExceptionRetryPolicy(
    rules=[
        *(
            RetryRule(
                exception=kind,
                action=RetryAction.RETRY,
                retry_delay=delay,
                reason=f"{kind.__name__}: later it may work",
            )
            for kind, delay in _DELAYS.items()
        ),
        *(
            RetryRule(
                exception=kind, action=RetryAction.FAIL, reason=f"{kind.__name__}: a retry cannot cure it"
            )
            for kind in (*_HOPELESS, errors.AzureBackupRefusedError)
        ),
    ]
)
"""``retry_policy=AZURE_BACKUP_RETRIES`` of a task: waits for what passes, fails at once for what does not.

Busy items, throttling and lost answers are tried again after minutes, limits after two hours, and limits for
a day after 24 hours. Wrong arguments, missing rights, unknown vaults and plain refusals fail at once. A
backup that failed follows the task's own ``retries`` and ``retry_delay``, as does everything else.

Source: https://airflow.apache.org/docs/apache-airflow/stable/core-concepts/tasks.html
"""

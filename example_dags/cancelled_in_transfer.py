"""A backup that was cancelled during its transfer to the vault is no backup.

Azure ends such a job as `CompletedWithWarnings`, with
`UserErrorJobSuccessfullyCancelled` among its errors: there is a snapshot, and
nothing in the vault. Code that checks only the status lets it pass if it accepts
warnings. Here `backup` fails and reports that it was cancelled, although warnings
are accepted.
"""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_azbackup.operators import AzureBackupOperator

with DAG(
    dag_id="azbackup_cancelled_in_transfer",
    schedule=None,
    tags=["azure-backup"],
    doc_md=__doc__,
):
    backup = AzureBackupOperator(
        task_id="backup",
        protected_item="vm-cancelled",
        accept_warnings=True,
        deferrable=True,
    )

    @task
    def patch() -> None:
        """Never runs, because the data did not reach the vault."""
        raise AssertionError("this must not run after a backup that was cancelled")

    backup >> patch()

"""Wait for the backups that a policy made last night, without job ids or a list of
VMs.

`protected` lists what the vault protects. A gate for each VM opens when there is
a recovery point in the vault that is at most 26 hours old. If the backup is still
running, the gate waits for it, and all gates of the vault share their reads.
`migrate` runs when every VM has its recovery point. If the wait takes too long,
the error says whether a backup was even tried.

On Airflow 3.1 and later, a `DeadlineAlert` notifies somebody while the gates
still wait: here by mail, four hours after the run was queued. The triggerer sends
it, so the callback must be importable there.

In a DAG with a schedule, `newer_than=timedelta(hours=12)` asks for a backup that
began at most twelve hours before the run instead. It also works in a run that
`airflow dags trigger`, the REST API or an asset event has started.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_azbackup.operators import AzureBackupListProtectedItemsOperator
from airflow_provider_azbackup.sensors import AzureBackupFreshnessSensor

try:
    from airflow.sdk.definitions.deadline import (
        AsyncCallback,
        DeadlineAlert,
        DeadlineReference,
    )
except ImportError:  # below Airflow 3.1
    IN_TIME: dict[str, Any] = {}
else:
    IN_TIME = {
        "deadline": DeadlineAlert(
            reference=DeadlineReference.DAGRUN_QUEUED_AT,
            interval=timedelta(hours=4),
            # By name, so that this file can be parsed without the mail provider.
            callback=AsyncCallback(
                "airflow.providers.smtp.notifications.smtp.SmtpNotifier",
                kwargs={
                    "from_email": "airflow@example.com",
                    "to": "backups@example.com",
                    "subject": "The backups of last night will not make the window",
                    "html_content": "{{ dag_run.dag_id }} still waits for a backup.",
                },
            ),
        )
    }

with DAG(
    dag_id="azbackup_last_night",
    schedule=None,
    tags=["azure-backup"],
    doc_md=__doc__,
    **IN_TIME,
):
    protected = AzureBackupListProtectedItemsOperator(
        task_id="protected",
        vault_name="demo-vault-2",
        backup_management_type="AzureIaasVM",
    )

    backed_up = AzureBackupFreshnessSensor.partial(
        task_id="backed_up",
        max_age=timedelta(hours=26),
        min_tier="HardenedRP",
        timeout=6 * 3600,
        deferrable=True,
        map_index_template="{{ task.protected_item.rpartition(';')[2] }}",
    ).expand(protected_item=protected.output)

    @task
    def migrate(points: Iterable[str]) -> None:
        """Do what must not be done while one VM is without a fresh backup."""
        print(f"Migrating after {len(list(points))} recovery points.")

    migrate(backed_up.output)

"""Wait for the backups of last night, which a policy has made: no job id, no list of machines to keep.

`protected` asks the vault what it protects. A gate for each machine opens when a recovery point in the vault
is there that is no older than 26 hours; where the backup still runs, it is waited for, and all gates on the
vault share the reads of that. `migrate` runs when every machine has its recovery point. If it takes too long,
the error says whether a backup was even tried.

On Airflow 3.1 and later a `DeadlineAlert` tells somebody while the gates still wait, when the run will not
make the window: here by mail, four hours after it was queued. The triggerer sends it, so the callback must be
importable there.

In a DAG with a schedule, `newer_than` can ask for a backup that began since a moment of the run instead. Its
default, the start of the data interval, is the run's own moment where cron schedules have intervals of no
length, as Airflow 3 has them. "Since the evening before" is `newer_than=timedelta(hours=12)`, which also
works in a run that `airflow dags trigger`, the REST API or an asset event has started.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_azbackup.operators import AzureBackupListProtectedItemsOperator
from airflow_provider_azbackup.sensors import AzureBackupFreshnessSensor

try:
    from airflow.sdk.definitions.deadline import AsyncCallback, DeadlineAlert, DeadlineReference
except ImportError:  # below Airflow 3.1
    IN_TIME: dict[str, Any] = {}
else:
    IN_TIME = {
        "deadline": DeadlineAlert(
            reference=DeadlineReference.DAGRUN_QUEUED_AT,
            interval=timedelta(hours=4),
            # By its name, so that this file can be read where the provider of mail is missing.
            callback=AsyncCallback(
                "airflow.providers.smtp.notifications.smtp.SmtpNotifier",
                kwargs={
                    "from_email": "airflow@example.com",
                    "to": "backups@example.com",
                    "subject": "The backups of last night will not make the window",
                    "html_content": "Run {{ dag_run.dag_run_id }} of {{ dag_run.dag_id }} still waits.",
                },
            ),
        )
    }

with DAG(dag_id="azbackup_last_night", schedule=None, tags=["azure-backup"], doc_md=__doc__, **IN_TIME):
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
        """Do what must not be done while one machine is without a fresh backup."""
        print(f"Migrating behind {len(list(points))} recovery points.")

    migrate(backed_up.output)

"""Back up a fleet, one mapped task a machine, and patch it when every machine has its backup.

While Azure works, all twenty tasks wait in the triggerer and none holds a worker slot. If one of the backups
fails, `patch_fleet` does not run; clear that one task and the fleet goes on.
"""

from __future__ import annotations

from collections.abc import Iterable

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_azbackup.operators import AzureBackupOperator

# A list from another task does as well: .expand(protected_item=list_machines())
MACHINES = [f"fleet-{number:02}" for number in range(1, 21)]

with DAG(dag_id="azbackup_fleet", schedule=None, tags=["azure-backup"], doc_md=__doc__):
    backup = AzureBackupOperator.partial(
        task_id="backup",
        deferrable=True,
        map_index_template="{{ task.protected_item }}",
    ).expand(protected_item=MACHINES)

    @task
    def patch_fleet(job_ids: Iterable[str]) -> None:
        """Do what must not be done while one machine is without a backup."""
        print(f"Patching {len(list(job_ids))} machines, each behind a backup of its own.")

    patch_fleet(backup.output)

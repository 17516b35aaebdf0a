"""Back up a fleet, one mapped task a machine, and patch it when every machine has its backup.

`machines` asks the vault what a policy protects, so nobody keeps a list: twenty machines, two hundred, a
thousand. While Azure works, all of them wait in the triggerer, none holds a worker slot, and a look at the
vault answers for all. If one of the backups fails, `patch_fleet` does not run; clear that one task and the
fleet goes on.
"""

from __future__ import annotations

from collections.abc import Iterable

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_azbackup.operators import AzureBackupListProtectedItemsOperator, AzureBackupOperator

with DAG(dag_id="azbackup_fleet", schedule=None, tags=["azure-backup"], doc_md=__doc__):
    machines = AzureBackupListProtectedItemsOperator(
        task_id="machines",
        backup_management_type="AzureIaasVM",
        policy="fleet",
    )

    backup = AzureBackupOperator.partial(
        task_id="backup",
        deferrable=True,
        map_index_template="{{ task.protected_item.rpartition(';')[2] }}",
    ).expand(protected_item=machines.output)

    @task
    def patch_fleet(job_ids: Iterable[str]) -> None:
        """Do what must not be done while one machine is without a backup."""
        print(f"Patching {len(list(job_ids))} machines, each behind a backup of its own.")

    patch_fleet(backup.output)

"""Back up a fleet with one mapped task for each VM, then patch all of them.

`machines` lists what a policy protects, so nobody has to keep a list of VMs.
While Azure works, all tasks wait in the triggerer, none of them holds a worker
slot, and one list of the vault serves all of them. If one backup fails,
`patch_fleet` does not run. Clear that one mapped task and the fleet goes on.
"""

from __future__ import annotations

from collections.abc import Iterable

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_azbackup.operators import (
    AzureBackupListProtectedItemsOperator,
    AzureBackupOperator,
)

with DAG(
    dag_id="azbackup_fleet", schedule=None, tags=["azure-backup"], doc_md=__doc__
):
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
        """Do what must not be done while one VM is without a backup."""
        print(f"Patching {len(list(job_ids))} VMs, each after its own backup.")

    patch_fleet(backup.output)

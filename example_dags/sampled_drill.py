"""Prove by a sample of the fleet that its backups can be restored.

`machines` lists what a policy protects, and `sample` draws some of them, others in
each run. Each of these is restored as a new VM next to the original and checked,
and has a record of its own: whether the restore is proven, how long it took, and
how old the recovery point was. One failed drill does not stop the others.

To run it on your own Azure, name your policy, a resource group and a subnet for
the new VMs, and a staging storage account in the region of the vault. The drill
deletes nothing: the log of each `record` has the commands that remove what it made.
"""

from __future__ import annotations

import random
from typing import Any

from airflow.providers.common.compat.sdk import DAG, task, task_group

from airflow_provider_azbackup.drill import proven_restore
from airflow_provider_azbackup.operators import AzureBackupListProtectedItemsOperator
from airflow_provider_azbackup.restore_to import new_vm

GROUP = "/subscriptions/00000000-0000-0000-0000-00000000d3a0/resourceGroups/demo-rg"
TARGET = new_vm(
    vm_id=f"{GROUP}/providers/Microsoft.Compute/virtualMachines/drill",
    subnet_id=f"{GROUP}/providers/Microsoft.Network/virtualNetworks/drills/subnets/a",
    storage_account_id=f"{GROUP}/providers/Microsoft.Storage/storageAccounts/drillstaging",
)

with DAG(
    dag_id="azbackup_sampled_drill",
    schedule=None,
    params={"sample": 5},
    tags=["azure-backup"],
    doc_md=__doc__,
):
    machines = AzureBackupListProtectedItemsOperator(
        task_id="machines", backup_management_type="AzureIaasVM", policy="fleet"
    )

    @task
    def sample(
        items: list[str], params: Any = None, run_id: Any = None
    ) -> list[str]:
        """Draw some items, the same again when this task is cleared."""
        return random.Random(run_id).sample(items, min(params["sample"], len(items)))

    @task_group
    def one(item: str) -> None:
        """Drill one VM."""
        with proven_restore(item, restore_to=TARGET, deferrable=True) as restored:

            @task
            def boots(restored: dict[str, Any]) -> None:
                """Ask the new VM for what only a VM that works can answer."""
                print(f"{restored['name']} is there: {restored['arm_id']}")

            boots(restored)

    one.expand(item=sample(machines.output))

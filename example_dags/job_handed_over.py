"""Wait for a backup that something else has started, knowing only its job id.

Here a Python task starts it through the hook. It could as well be a script, a
runbook or a pipeline. `AzureBackupJobSensor` takes the GUID or the ARM id of a
job: a backup, a restore or any other operation.
"""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_azbackup.sensors import AzureBackupJobSensor

with DAG(
    dag_id="azbackup_job_handed_over",
    schedule=None,
    tags=["azure-backup"],
    doc_md=__doc__,
):

    @task
    def start() -> str:
        """Start the backup and return its job id at once."""
        # Imported here, so that parsing this file does not load the Azure libraries.
        from airflow_provider_azbackup.hooks import AzureBackupHook

        with AzureBackupHook() as hook:
            operation = hook.trigger_backup("vm-handed-over")
            return hook.wait_for_operation(operation).job_id

    backed_up = AzureBackupJobSensor(
        task_id="backed_up", job_id=start(), deferrable=True
    )

    @task
    def patch() -> None:
        """Do what must not be done without a backup."""
        print("Patching vm-handed-over.")

    backed_up >> patch()

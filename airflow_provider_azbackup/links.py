"""Links from a task instance to the Azure portal, read from XCom alone so that they work while deferred."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import BaseOperatorLink, XCom

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator, TaskInstanceKey


class _PortalLink(BaseOperatorLink):
    key: str

    @property
    def xcom_key(self) -> str:
        """Airflow 3 reads this XCom itself, without loading the operator."""
        return self.key

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the portal's address of what the task instance waits for, or "" before it is known.

        An XCom that leads anywhere else than to a known portal is no link.
        """
        from airflow_provider_azbackup.runtime.portal import safe_link  # not needed when a Dag file is parsed

        return safe_link(XCom.get_value(ti_key=ti_key, key=self.key))


class AzureBackupJobLink(_PortalLink):
    """The portal's page of the job.

    No page of Microsoft documents a deep link to one backup job; this is the form that serves any resource.
    """

    name = "Azure Backup job"
    key = "azure_backup_job_url"


class AzureBackupVaultLink(_PortalLink):
    """The portal's page of the vault the job runs in."""

    name = "Azure Backup vault"
    key = "azure_backup_vault_url"

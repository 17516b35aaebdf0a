"""Find the secondary region of a vault, without a request to the region of the vault, which may be down.

Source: https://learn.microsoft.com/azure/backup/backup-create-recovery-services-vault#set-cross-region-restore
"""

from __future__ import annotations

from dataclasses import replace

from airflow_provider_azbackup.core.conversations.retry import ask
from airflow_provider_azbackup.core.model.regions import paired_region
from airflow_provider_azbackup.core.model.resources import JobRef, ProtectedItem, SecondaryRegion, Vault
from airflow_provider_azbackup.core.model.validation import check_secondary_region
from airflow_provider_azbackup.core.rest import requests, responses
from airflow_provider_azbackup.core.wire import Flow
from airflow_provider_azbackup.exceptions import AzureBackupAuthError, AzureBackupConfigError


def in_secondary_region(vault: Vault, wanted: bool | str) -> Flow[Vault]:
    """Return a vault as its secondary region has it; False returns it unchanged.

    Resource Graph says where the vault is, whether it has cross-region restore, and of a Backup vault where
    its second copy is. A Recovery Services vault keeps it in the region that is paired with its own.

    :param wanted: True finds the region. Its name takes that one, without a request for a Recovery Services
        vault, and even if Resource Graph shows that cross-region restore is off.
    :raises AzureBackupConfigError: if the vault has no cross-region restore, or its region is not known.
    :raises AzureBackupAuthError: if Resource Graph does not show the vault to this identity.
    """
    check_secondary_region("secondary_region", wanted)
    if not wanted or vault.secondary:
        return vault
    named = wanted if isinstance(wanted, str) else ""
    if named and not vault.is_backup_vault:
        return replace(vault, secondary=SecondaryRegion(name=named))
    home = responses.read_home((yield from ask(requests.query_vault(vault))))
    if home is None:
        kind = vault.path.split("/providers/")[1].rpartition("/")[0]
        raise AzureBackupAuthError(
            f"Resource Graph shows no vault {vault.name} to this identity, so it is not known in which "
            f"regions its backups are. Missing right: {kind}/read, or there is no such vault: {vault.path}"
        )
    if not named and home.cross_region_restore.casefold() == "disabled":
        raise AzureBackupConfigError(
            f"vault {vault.name} has no cross-region restore, so nothing of it can be restored outside "
            f"{home.region}. It is a setting of the vault, which must be on before the region fails. If it "
            f"was turned on just now, name the region: secondary_region=<region>. Vault: {vault.path}"
        )
    region = named or home.secondary or ("" if vault.is_backup_vault else paired_region(home.region))
    if not region:
        raise AzureBackupConfigError(
            f"the secondary region of vault {vault.name} in {home.region} is not known; name it: "
            f"secondary_region=<region>. Vault: {vault.path}"
        )
    return replace(vault, secondary=SecondaryRegion(name=region, primary=home.region))


def item_in_secondary_region(item: ProtectedItem, wanted: bool | str) -> Flow[ProtectedItem]:
    """Return an item of the vault that :func:`in_secondary_region` returns."""
    return replace(item, vault=(yield from in_secondary_region(item.vault, wanted)))


def job_in_secondary_region(ref: JobRef, wanted: bool | str) -> Flow[JobRef]:
    """Return a job of the vault that :func:`in_secondary_region` returns."""
    return replace(ref, vault=(yield from in_secondary_region(ref.vault, wanted)))

"""What today's ways do, so that the README claims nothing that cannot be seen."""

from __future__ import annotations

import pytest
from azure.core.exceptions import HttpResponseError
from azure.identity import ClientSecretCredential
from azure.mgmt.recoveryservicesbackup import RecoveryServicesBackupClient

from azure_backup_emulator import Emulator


@pytest.mark.parametrize("status", [500, 503])
def test_microsofts_client_sends_one_request_for_a_backup_four_times(azure: Emulator, status: int) -> None:
    azure.fault(method="POST", path="/backup", status=status, processed=True, times=None)
    who = azure.connection()
    vault = who["extra"]
    credential = ClientSecretCredential(
        vault["tenant_id"],
        who["login"],
        who["password"],
        authority=azure.url,
        disable_instance_discovery=True,
        connection_verify=azure.ca_bundle,
    )
    container, item = azure.service.world.named("vm-good")[0].path.rpartition("/protectedItems/")[::2]
    with (
        RecoveryServicesBackupClient(
            credential,
            vault["subscription_id"],
            base_url=azure.url,
            credential_scopes=["https://management.azure.com/.default"],
            connection_verify=azure.ca_bundle,
            retry_backoff_factor=0,  # the pauses between the tries are no part of the question
        ) as client,
        pytest.raises(HttpResponseError),
    ):
        client.backups.trigger(
            vault["vault_name"],
            vault["resource_group_name"],
            "Azure",
            container.rpartition("/")[2],
            item,
            {"properties": {"objectType": "IaasVMBackupRequest"}},
        )
    credential.close()
    assert azure.count("POST", "/backup") == 4

"""The mistakes that newcomers make: each error begins with its cause and says where to correct it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_azbackup.hooks import AzureBackupHook
from airflow_provider_azbackup.operators import (
    AzureBackupCancelJobOperator,
    AzureBackupListProtectedItemsOperator,
    AzureBackupOperator,
    AzureBackupRestoreOperator,
)
from airflow_provider_azbackup.restore_to import disks, original_share
from airflow_provider_azbackup.sensors import AzureBackupFreshnessSensor, AzureBackupJobSensor
from azure_backup_emulator import Emulator
from tests.support.tasks import TaskInstance, run

Connect = Callable[..., None]
Mistake = Callable[[Emulator, Connect], object]

# So many characters of an error are shown where Airflow shows it in short.
SHORT = 75
GUID = "5f0c5b7e-6f0a-4b8e-9c57-0d5a3c1f2e4d"
SUBSCRIPTION = "/subscriptions/00000000-0000-0000-0000-00000000d3a0"
VAULT = f"{SUBSCRIPTION}/resourceGroups/demo-rg/providers/Microsoft.RecoveryServices/vaults/demo-vault"
VMS = f"{SUBSCRIPTION}/resourceGroups/demo-vms/providers/Microsoft.Compute/virtualMachines"
ITEM = (
    f"{VAULT}/backupFabrics/Azure/protectionContainers/IaasVMContainer;iaasvmcontainerv2;demo-vms;vm-nobody"
    "/protectedItems/VM;iaasvmcontainerv2;demo-vms;vm-nobody"
)
SIGNATURE = "c2lnbmF0dXJl" * 300
LOCATION = f"https://management.azure.com{ITEM}/operationResults/{GUID}?api-version=2024-04-01&s={SIGNATURE}"
SHARES = f"{SUBSCRIPTION}/resourceGroups/demo-files/providers/Microsoft.Storage/storageAccounts/demofiles"
TEMPLATE = "{{ params.x }}"


def backup(**given: Any) -> Mistake:
    item = {} if {"protected_item", "job_id"} & given.keys() else {"protected_item": "vm-good"}
    task: dict[str, Any] = {"task_id": "backup", **item, **given}
    return lambda azure, connect: run(lambda: AzureBackupOperator(**task), TaskInstance())


def restore(**given: Any) -> Mistake:
    share = original_share(copy_options="Overwrite")
    task: dict[str, Any] = {"task_id": "r", "protected_item": "documents", "restore_to": share, **given}
    return lambda azure, connect: run(lambda: AzureBackupRestoreOperator(**task), TaskInstance())


def fleet(**given: Any) -> Mistake:
    return lambda azure, connect: run(
        lambda: AzureBackupListProtectedItemsOperator(task_id="fleet", **given), TaskInstance()
    )


def wait(**given: Any) -> Mistake:
    return lambda azure, connect: run(lambda: AzureBackupJobSensor(task_id="wait", **given), TaskInstance())


def fresh(**given: Any) -> Mistake:
    task = {"task_id": "fresh", "protected_item": "vm-good", "timeout": 120, **given}
    return lambda azure, connect: run(lambda: AzureBackupFreshnessSensor(**task), TaskInstance())


def call(method: str, *arguments: Any, **options: Any) -> Mistake:
    def mistake(azure: Emulator, connect: Connect) -> object:
        with AzureBackupHook() as hook:
            return getattr(hook, method)(*arguments, **options)

    return mistake


def connected(_extra: dict[str, Any] | None = None, **fields: Any) -> Mistake:
    """A backup over a connection that is not as the emulator made it; None takes a key out of its extra."""

    def mistake(azure: Emulator, connect: Connect) -> object:
        connection = azure.connection()
        extra = {**connection["extra"], **(_extra or {})}
        kept = {name: value for name, value in extra.items() if value is not None}
        connect({**connection, **fields, "extra": kept})
        return backup()(azure, connect)

    return mistake


def by(principal: str, mistake: Mistake) -> Mistake:
    def made(azure: Emulator, connect: Connect) -> object:
        connect(azure.connection(principal))
        return mistake(azure, connect)

    return made


def of_another_vault(mistake: Callable[[str], Mistake]) -> Mistake:
    """A mistake with the GUID of a job of another vault than the connection names."""
    return lambda azure, connect: mistake(azure.start_job("vm-elsewhere"))(azure, connect)


def of_an_operation(mistake: Callable[[str], Mistake]) -> Mistake:
    """A mistake with the GUID of the operation that Azure has named for a backup."""

    def made(azure: Emulator, connect: Connect) -> object:
        with AzureBackupHook() as hook:
            operation = hook.trigger_backup("vm-good")
        return mistake(operation.operation_id)(azure, connect)

    return made


def cancel(job_id: str) -> Mistake:
    return lambda azure, connect: run(
        lambda: AzureBackupCancelJobOperator(task_id="cancel", job_id=job_id), TaskInstance()
    )


def inside_a_task(azure: Emulator, connect: Connect) -> object:
    ti = TaskInstance()
    ti.task = BaseOperator(task_id="python")  # type: ignore[attr-defined]  # as Airflow's has it
    operator = AzureBackupOperator(task_id="backup", protected_item="vm-good", deferrable=True)
    return operator.execute(ti.context)


def rendered(azure: Emulator, connect: Connect) -> object:
    task = AzureBackupOperator(task_id="backup", protected_item="{{ params.item }}")
    task.protected_item = {"name": "vm-good"}  # type: ignore[assignment]  # as Airflow renders it
    return task.execute(TaskInstance().context)


def dag_bag(folder: Path) -> Any:
    try:
        from airflow.dag_processing.dagbag import DagBag
    except ImportError:  # Airflow below 3.2
        from airflow.models.dagbag import DagBag
    return DagBag(dag_folder=folder)


NOT_IN_GROUP = "vault 'demo-valt' is not in resource group 'demo-rg'"
NO_SUCH_VAULT = ["(did you mean 'demo-vault'?)", "correct vault_name", "connection", "404 ResourceNotFound"]
NO_SUCH_JOB = ["looked up in the vault of the task or of the connection", "ARM id", "an operation", "404"]
WORDS_OF = "; expected one of "
# What is done; what the first characters of the error contain; what the whole error contains.
MISTAKES: dict[str, tuple[Mistake, str, list[str]]] = {
    "vault typo in the task": (backup(vault_name="demo-valt"), NOT_IN_GROUP, NO_SUCH_VAULT),
    "vault typo in the connection": (connected({"vault_name": "demo-valt"}), NOT_IN_GROUP, NO_SUCH_VAULT),
    "vault typo in a list": (fleet(vault_name="demo-valt"), NOT_IN_GROUP, NO_SUCH_VAULT),
    "vault typo with the id of a VM": (
        backup(vault_name="demo-valt", protected_item=f"{VMS}/vm-good"),
        NOT_IN_GROUP,
        NO_SUCH_VAULT,
    ),
    "vault typo in a sensor": (
        fresh(vault_name="demo-valt", max_age=timedelta(hours=1)),
        NOT_IN_GROUP,
        NO_SUCH_VAULT,
    ),
    "resource group typo": (
        backup(resource_group_name="demo-gr"),
        "resource group 'demo-gr' is not in subscription '0000",
        ["(the vault is in 'demo-rg')", "correct resource_group_name", "404 ResourceGroupNotFound"],
    ),
    "subscription typo": (
        backup(subscription_id=GUID),
        f"subscription '{GUID}' is not known",
        ["correct subscription_id in the task or in the connection", "404 SubscriptionNotFound"],
    ),
    "wrong type of vault": (
        backup(vault_type="DataProtection"),
        "Backup vault 'demo-vault' is not in resource group 'demo-rg'",
        ["vault_type"],
    ),
    "item typo": (
        backup(protected_item="vm-god"),
        "vault demo-vault protects nothing called 'vm-god' (did you mean 'vm-good'?)",
        ["it protects vm-good, "],
    ),
    "item typo in a sensor": (
        fresh(protected_item="vm-god", max_age=timedelta(hours=1)),
        "protects nothing called 'vm-god' (did you mean 'vm-good'?)",
        ["it protects vm-good, "],
    ),
    "item of another vault": (
        backup(protected_item="vm-elsewhere"),
        "vault demo-vault protects nothing called 'vm-elsewhere'",
        ["it protects "],
    ),
    "parameter typo of a hook method": (
        call("trigger_backup", "payroll", backup_typ="CopyOnlyFull"),
        "trigger_backup() takes no backup_typ (did you mean 'backup_type'?)",
        ["it takes backup_type, "],
    ),
    "filter typo of a hook method": (
        call("list_jobs", statuss="Failed"),
        "list_jobs() takes no statuss (did you mean 'status'?)",
        ["it takes status, "],
    ),
    "vault for a hook method": (
        call("list_protected_items", vault_name="demo-vault-2"),
        "list_protected_items() takes no vault_name",
        ["it takes backup_management_type, "],
    ),
    "wrong secret": (
        connected(password="wrong"),
        "the client secret (the connection's password) is wrong",
        ["give its value, not its id", "AADSTS7000215"],
    ),
    "wrong client": (
        connected(login=GUID),
        "the client id (the connection's login) is not known in the tenant",
        ["AADSTS700016"],
    ),
    "wrong tenant": (
        connected({"tenant_id": GUID}),
        "the tenant is not known; correct tenant_id in the connection's extra",
        [GUID],
    ),
    "missing role": (
        by("reader", backup()),
        "Missing right: Microsoft.RecoveryServices/",
        ["/backup/action. Give this identity a role that has it", "403 AuthorizationFailed"],
    ),
    "no role": (
        by("nobody", backup()),
        "Missing right: Microsoft.RecoveryServices/vaults/backupProtectedItems/read",
        ["Give this identity a role that has it"],
    ),
    "job of another vault": (
        of_another_vault(lambda job_id: wait(job_id=job_id)),
        "vault 'demo-vault' has no job ",
        NO_SUCH_JOB,
    ),
    "job of another vault, deferred": (
        of_another_vault(lambda job_id: backup(job_id=job_id, deferrable=True)),
        "vault 'demo-vault' has no job ",
        NO_SUCH_JOB,
    ),
    "job of another vault, to be cancelled": (
        of_another_vault(cancel),
        "vault 'demo-vault' has no job ",
        NO_SUCH_JOB,
    ),
    "Location header as job id": (
        backup(job_id=LOCATION),
        "the address of an operation is not a job id",
        ["properties.jobId", f"/operationResults/{GUID}'", "expected a GUID or "],
    ),
    "operation id as job id": (
        of_an_operation(lambda name: backup(job_id=name)),
        "vault 'demo-vault' has no job ",
        ["The GUID in a Location or Azure-AsyncOperation header is that of an operation, not of a job"],
    ),
    "id of a VM that is not protected": (
        backup(protected_item=f"{VMS}/vm-nobody"),
        "vault demo-vault does not protect VM 'vm-nobody'",
        ["hook.backup_status(vm_id, region) returns the vault that does", f"{VMS}/vm-nobody"],
    ),
    "id of an item that is not there": (
        backup(protected_item=ITEM),
        "vault 'demo-vault' does not protect VM 'vm-nobody'",
        ["hook.backup_status(vm_id, region) returns the vault that does", ITEM],
    ),
    "id of a share that is not protected": (
        backup(protected_item=f"{SHARES}/fileServices/default/shares/document"),
        "vault demo-vault protects nothing called 'document'",
        ["(did you mean 'documents'?)", f"{SHARES}/fileServices/default/shares/document"],
    ),
    "id of something else": (
        backup(protected_item=VAULT),
        "protected_item is neither a name nor the ARM id of a protected item",
        [VAULT, "/protectedItems/<item>"],
    ),
    "address of the portal": (
        backup(protected_item=f"https://portal.azure.com/#@demo/resource{VMS}/vm-good/overview"),
        "protected_item is a URL",
        ["the ARM id begins with /subscriptions/", f"{VMS}/vm-good"],
    ),
    "interval of nothing": (
        backup(poll_interval=0),
        "poll_interval of task 'backup' is 0; expected a positive number of seconds",
        ["or a timedelta"],
    ),
    "interval as text": (
        backup(poll_interval="60"),
        "poll_interval of task 'backup' is '60'; expected a positive number of",
        ["or a timedelta"],
    ),
    "word for a moment": (
        fresh(newer_than="yesterday"),
        "newer_than 'yesterday' is not a date and time",
        ["expected a datetime or ISO 8601"],
    ),
    "template for an interval": (
        backup(timeout=TEMPLATE),
        f"timeout of task 'backup' is '{TEMPLATE}'",
        ["or a timedelta, not a template"],
    ),
    "template for an age": (
        fresh(max_age=TEMPLATE),
        f"max_age of task 'fresh' is '{TEMPLATE}'",
        ["or a timedelta, not a template"],
    ),
    "template for if_running": (
        backup(if_running=TEMPLATE),
        f"if_running of task 'backup' is '{TEMPLATE}'",
        [f"{WORDS_OF}wait, adopt, fail, not a template"],
    ),
    "template for a tier": (
        backup(require_recovery_point=True, min_tier=TEMPLATE),
        f"min_tier of task 'backup' is '{TEMPLATE}'",
        [f"{WORDS_OF}InstantRP, HardenedRP, not a template"],
    ),
    "template for warnings": (
        backup(accept_warnings=TEMPLATE),
        f"accept_warnings of task 'backup' is '{TEMPLATE}'",
        ["expected True, False, or a set", "not a template"],
    ),
    "text for a boolean": (
        backup(deferrable="False"),
        "deferrable of task 'backup' is 'False'; expected True or False",
        ["not text or a template"],
    ),
    "backup type in lower case": (
        backup(backup_type="full"),
        "backup_type is 'full' (did you mean 'Full'?)",
        [f"{WORDS_OF}CopyOnlyFull, "],
    ),
    "backup type of another workload": (
        backup(backup_type="Differential"),
        "backup_type 'Differential' is not offered for 'vm-good'; expected Full",
        [],
    ),
    "unknown cloud": (
        connected({"cloud_environment": "AzureCloud"}),
        "cloud_environment 'AzureCloud' in the extra of connection 'azure_ba",
        ["expected one of AzurePublicCloud, "],
    ),
    "endpoint without encryption": (
        connected({"endpoint": "http://management.azure.com"}),
        "endpoint 'http://management.azure.com' in the extra of connection",
        ["expected https", "would show the token"],
    ),
    "no subscription": (
        connected({"subscription_id": None}),
        "vault 'demo-vault' is named without subscription_id",
        ["give it to the task or in the extra of connection 'azure_backup_default'"],
    ),
    "no tenant": (
        connected({"tenant_id": None}),
        "connection 'azure_backup_default' has password (client secret) without tena",
        ["a service principal needs all"],
    ),
    "no vault": (
        connected({"vault_name": None}),
        "protected item 'vm-good' comes without a vault; give vault_name, ",
        ["to the task or in the connection"],
    ),
    "two items of one name": (
        backup(protected_item="twin"),
        "'twin' means 2 protected items in vault demo-vault; give the ARM id of one",
        [";demo-vms;twin", ";demo-vms-b;twin"],
    ),
    "no connection": (backup(azure_backup_conn_id="nowhere"), "`nowhere` isn't defined", []),
    "connection of another type": (
        connected(conn_type="postgres"),
        "connection 'azure_backup_default' is of type 'postgres'; expected azure_bac",
        ["or name another connection in azure_backup_conn_id"],
    ),
    "list for one item": (
        backup(protected_item=["vm-good", "vm-warned"]),
        "protected_item of task 'backup' is ['vm-good', 'vm-warned'], of type list",
        ["expected text", ".expand(protected_item=[...])"],
    ),
    "template that comes to a dict": (
        rendered,
        "protected_item of task 'backup' is {'name': 'vm-good'}, of type dict",
        ["expected text", ".expand(protected_item=[...])"],
    ),
    "operator inside a task": (
        inside_a_task,
        "AzureBackupOperator 'backup' runs inside task 'python'",
        ["Make it a task of its own"],
    ),
    "policy typo": (
        fleet(policy="fleeet"),
        "task 'fleet': the vault protects nothing with policy 'fleeet'. Policies of",
        ["its items: fleet (20), ", "allow_empty=True"],
    ),
    "hours as a number": (
        fresh(max_age=26),
        "max_age of task 'fresh' is 26 seconds, less than any backup takes; for 26",
        ["timedelta(hours=26)"],
    ),
    "unknown key of the connection": (
        connected({"vault": "demo-vault"}),
        "connection 'azure_backup_default' has unknown keys in its extra: 'vault'",
        ["(did you mean 'vault_name'?)", "known are tenant_id, "],
    ),
    "unknown tier": (
        backup(require_recovery_point=True, min_tier="hardened"),
        "min_tier of task 'backup' is 'hardened' (did you mean 'HardenedRP'?)",
        [f"{WORDS_OF}InstantRP, HardenedRP"],
    ),
    "capital letter": (
        backup(wait_until="Snapshot"),
        "wait_until of task 'backup' is 'Snapshot' (did you mean 'snapshot'?)",
        [f"{WORDS_OF}completion, snapshot"],
    ),
    "unknown if_running": (
        backup(if_running="skip"),
        f"if_running of task 'backup' is 'skip'{WORDS_OF}wait, adopt, fail",
        [],
    ),
    "storage account by its name": (
        lambda azure, connect: disks(storage_account_id="staging"),
        "storage_account_id 'staging' is not an ARM id of the form /subscriptions/",
        ["/storageAccounts/<name>"],
    ),
    "item and job": (
        backup(protected_item="vm-good", job_id=GUID),
        "task 'backup' was given both of protected_item and job_id; give exactly one",
        [],
    ),
    "empty job id": (wait(job_id=""), "'' is not a job id; expected a GUID or /subscriptions/", []),
    "blank after a name": (
        backup(protected_item="vm-good "),
        "vault demo-vault protects nothing called 'vm-good ' (did you mean 'vm-good'",
        [],
    ),
    "blank after a job id": (
        wait(job_id=f"{GUID} "),
        f"'{GUID} ' is not a job id",
        ["Remove the blanks around it"],
    ),
    "recovery point that is not there": (
        restore(recovery_point="12345"),
        "documents has no recovery point '12345'; there are none at all",
        [],
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_an_error_begins_with_its_cause_and_says_where_to_correct_it(
    azure: Emulator, connect: Connect, mistake: str
) -> None:
    make, first, whole = MISTAKES[mistake]
    with pytest.raises(Exception) as raised:  # some of them are Airflow's
        make(azure, connect)
    text = str(raised.value)
    assert first in text[:SHORT]
    assert [words for words in whole if words not in text] == []
    assert SIGNATURE[:20] not in text
    assert len(text) < 2_000


@pytest.mark.parametrize("name", ["payroll [sqlvm]", "Payroll [SQLVM]", "payroll"])
def test_the_name_that_log_and_page_show_of_a_database_is_accepted(azure: Emulator, name: str) -> None:
    ti = TaskInstance()
    assert run(lambda: AzureBackupOperator(task_id="backup", protected_item=name), ti)
    assert ti.xcoms["job"]["item"] == "payroll [sqlvm]"


def test_an_error_names_an_item_as_the_author_has_written_it(azure: Emulator, connect: Connect) -> None:
    for name in ("documents", "Documents"):
        with pytest.raises(Exception, match=f"^{name} has no recovery point"):
            restore(protected_item=name)(azure, connect)
    with pytest.raises(Exception, match=r"^documents has no recovery point"):
        share = f"{SHARES}/fileServices/default/shares/documents"
        restore(protected_item=share)(azure, connect)


@pytest.mark.parametrize(
    "make",
    [
        backup(deferrable=True),
        fresh(max_age=timedelta(hours=1), deferrable=True),
    ],
    ids=["operator", "sensor"],
)
def test_the_log_of_a_deferred_wait_says_that_it_needs_a_triggerer(
    azure: Emulator, connect: Connect, make: Mistake, capsys: pytest.CaptureFixture[str]
) -> None:
    with contextlib.suppress(Exception):
        make(azure, connect)
    assert "check that a triggerer is running" in capsys.readouterr().out


HOOK_IN_A_DAG_FILE = """
from airflow.providers.common.compat.sdk import DAG
from airflow_provider_azbackup.hooks import AzureBackupHook

with AzureBackupHook() as hook:
    names = [each.friendly_name for each in hook.list_protected_items()]
with DAG("d", schedule=None):
    pass
"""


def test_a_hook_that_is_used_while_a_dag_file_is_read_says_so(
    azure: Emulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "dag.py").write_text(HOOK_IN_A_DAG_FILE)
    bag = dag_bag(tmp_path)
    assert (bag.import_errors, [*bag.dags]) == ({}, ["d"])
    assert "Call the hook in a task" in capsys.readouterr().out
    call("list_jobs")(azure, lambda: None)
    assert "Call the hook in a task" not in capsys.readouterr().out


def test_a_parameter_typo_of_an_operator_is_an_import_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "dag.py").write_text(
        "from airflow.providers.common.compat.sdk import DAG\n"
        "from airflow_provider_azbackup.operators import AzureBackupOperator\n"
        "with DAG('d', schedule=None):\n"
        "    AzureBackupOperator(task_id='backup', protected_item='vm-good', pol_interval=60)\n"
    )
    (error,) = dag_bag(tmp_path).import_errors.values()
    assert "pol_interval" in error

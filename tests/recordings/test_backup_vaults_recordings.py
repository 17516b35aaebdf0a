"""Both hooks hold the recorded conversations with Backup vaults, and come to what the recordings show."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest

from airflow_provider_azbackup.core.conversations.operations import wait_for_operation
from airflow_provider_azbackup.core.conversations.recovery_points import list_recovery_points
from airflow_provider_azbackup.core.model.jobs import Outcome
from airflow_provider_azbackup.core.model.resources import OperationRef, ProtectedItem, Vault
from airflow_provider_azbackup.core.rest import requests, responses
from airflow_provider_azbackup.core.restore import plan
from airflow_provider_azbackup.exceptions import AzureBackupBusyError, AzureBackupRefusedError
from airflow_provider_azbackup.restore_to import new_database
from tests.support.play import play
from tests.support.replay import (
    Conversation,
    Hook,
    Replay,
    by_triggerer,
    by_worker,
    exchanges,
    needs_recordings,
    reply_of,
    said,
    serve,
    watch,
)

pytestmark = needs_recordings

# Recording, friendly name, rule, seconds the job took, what it says of itself.
BACKUPS = [
    (
        "dpp_disk_backup_completed",
        "clitest-disk-donotdelete",
        "BackupHourly",
        185,
        {"RetentionTag": "default", "recoveryPointID": "9933154d8fe9464e81fa6a5a4db3ea4c"},
    ),
    (
        "dpp_postgres_backup_and_restore_completed",
        "oss-clitest-server/postgres",
        "BackupWeekly",
        97,
        {
            "RetentionTag": "default",
            "recoveryPointID": "e8b33251b9a2407bacb21291073ddab9",
            "dataTransferredInBytes": "2063.0",
        },
    ),
]


@pytest.fixture
def replay(azure: Any, clock: Any, connect: Callable[..., None]) -> Iterator[Callable[[str], Replay]]:
    """Serve a recording as the endpoint of the connection; who signs in does so at the emulator."""
    with ExitStack() as stack:

        def start(name: str) -> Replay:
            found = Replay(exchanges(name), clock)
            stack.enter_context(contextmanager(serve)(found))
            where = {**found.vault, "vault_type": "DataProtection"}
            connect(azure.connection(endpoint=found.url, api_version=found.version, **where))
            return found

        yield start


@pytest.fixture(params=[by_worker, by_triggerer])
def hold(request: pytest.FixtureRequest) -> Callable[[Conversation], Any]:
    """Hold a conversation through one of the hooks."""
    return request.param  # type: ignore[no-any-return]  # a request's param is untyped


@pytest.mark.parametrize(("file", "name", "rule", "seconds", "details"), BACKUPS, ids=[b[0] for b in BACKUPS])
def test_a_recorded_backup_is_asked_for_and_followed_to_the_end_it_had(
    replay: Callable[[str], Replay],
    hold: Any,
    clock: Any,
    file: str,
    name: str,
    rule: str,
    seconds: int,
    details: dict[str, str],
) -> None:
    azure = replay(file)

    async def conversation(hook: Hook) -> Any:
        item = await said(hook.resolve_protected_item(name))
        for _ in range(2):  # recorded while its protection was still being configured
            with pytest.raises(AzureBackupBusyError, match="is ConfiguringProtection, which passes"):
                await said(hook.trigger_backup(item, rule_name=rule))
        operation = await said(hook.trigger_backup(item, rule_name=rule))
        ref = await said(hook.wait_for_operation(operation))
        return await watch(hook, ref.path, clock)

    job = hold(conversation)
    azure.check()
    assert (job.status, job.outcome, job.operation) == ("Completed", Outcome.SUCCEEDED, "Backup")
    assert round(job.duration_seconds) == seconds
    assert dict(job.details) == details
    assert [(task.name, task.status) for task in job.tasks] == [("Trigger Backup", "Completed")]
    assert len(azure.sent("POST", "/backup")) == 1
    recorded = sum(
        each.get("repeated", 1)
        for each, line in zip(azure.exchanges, azure.lines, strict=True)
        if f"/backupjobs/{job.ref.job_id}" in line.path
    )
    # The look that shows the end is the last one.
    assert len(azure.sent("GET", "/backupJobs/")) == recorded


def test_a_backup_with_a_tag_is_asked_for_as_recorded_and_its_job_is_read() -> None:
    """Here the job's id comes in another casing; nothing of the instance was recorded."""
    found = exchanges("dpp_postgres_backup_retention_tag_override")
    sent = found[0]["request"]
    path, _, verb = urlsplit(sent["uri"]).path.rpartition("/")
    item = ProtectedItem.parse(path)
    body = requests.backup_body(item, rule_name="BackupWeekly", retention_tag="Weekly")
    call = requests.trigger_backup(item, body)
    assert (call.method, call.path, call.body) == (sent["method"], f"{path}/{verb}", sent["body"])
    operation_id = responses.read_operation_id(reply_of(found[0]))
    operation = OperationRef(vault=item.vault, operation_id=operation_id or "")
    assert operation.path == urlsplit(found[1]["request"]["uri"]).path
    ref = play(wait_for_operation(operation), *map(reply_of, found[1:3])).result
    assert ref.path == urlsplit(found[4]["request"]["uri"]).path
    job = responses.read_job(ref, reply_of(found[5]))
    assert (job.outcome, job.owner, dict(job.details)["RetentionTag"]) == (
        Outcome.SUCCEEDED,
        item.path,
        "Weekly",
    )
    (point,) = play(list_recovery_points(item), reply_of(found[6])).result
    assert point.point_id == dict(job.details)["recoveryPointID"]
    assert (job.start_time or "") < (point.time or "") < (job.end_time or "")
    assert point.usable_tiers == ("VaultStore",)


def test_a_recorded_list_of_jobs_is_read_and_narrowed_down(
    replay: Callable[[str], Replay], hold: Any
) -> None:
    azure = replay("dpp_job_list_and_get")

    async def conversation(hook: Hook) -> Any:
        return await said(hook.list_jobs(operation="Restore", status="Failed"))

    (job,) = hold(conversation)
    azure.check()
    assert (job.item, job.backup_management_type) == (
        "clitestsabidonotdelete",
        "Microsoft.Storage/storageAccounts/blobServices",
    )
    assert job.errors[0].title == "MOSJobTimedOutError"
    assert job.errors[0].recommendations[0].startswith("Please retry the operation after some time.")
    assert round(job.duration_seconds) == 120146


def test_recorded_operations_that_failed_inside_a_200_are_refusals() -> None:
    ends = 0
    for each in exchanges("dpp_operation_status_failed"):
        if each["request"]["method"] != "GET" or each["response"]["body"]["status"] != "Failed":
            continue
        vault, _, operation_id = urlsplit(each["request"]["uri"]).path.partition("/operationStatus/")
        ref = OperationRef(vault=Vault.parse(vault), operation_id=operation_id)
        with pytest.raises(
            AzureBackupRefusedError, match=r"no backup was started: .* Recommended: "
        ) as error:
            play(wait_for_operation(ref), reply_of(each))
        assert error.value.code == each["response"]["body"]["error"]["code"]
        ends += 1
    assert ends == 3


def test_a_recorded_restore_is_validated_asked_for_and_followed_to_the_end_it_had() -> None:
    found = exchanges("dpp_postgres_backup_and_restore_completed")
    at = next(n for n, each in enumerate(found) if "/validateRestore" in each["request"]["uri"])
    instance = next(each for each in found[1:at] if each["request"]["method"] == "GET")
    item = ProtectedItem.parse(urlsplit(instance["request"]["uri"]).path)
    target = found[at]["request"]["body"]["restoreRequestObject"]["restoreTargetInfo"]
    restore_to = new_database(
        database_id=target["datasourceInfo"]["resourceId"],
        secret_uri=target["datasourceAuthCredentials"]["secretStoreResource"]["uri"],
    )
    answers = [instance, *found[at - 1 : at + 3], found[at + 4]]  # between them is another way to the same
    played = play(plan.restore(item, restore_to=restore_to), *map(reply_of, answers))
    posts = [each for each in played.requests if each.method == "POST"]
    assert [each.path.rpartition("/")[2] for each in posts] == ["validateRestore", "restore"]
    followed = play(wait_for_operation(played.result, "restore"), *map(reply_of, found[at + 5 : at + 7]))
    job = responses.read_job(followed.result, reply_of(found[-1]))
    assert (job.status, job.outcome, job.operation) == ("Completed", Outcome.SUCCEEDED, "Restore")
    assert job.owner == item.path
    assert dict(job.details)["recoveryDestination"] == target["datasourceInfo"]["resourceId"]
    assert round(job.duration_seconds or 0.0) == 105

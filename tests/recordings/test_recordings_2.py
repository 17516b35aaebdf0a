"""Both hooks hold the later recorded conversations, and come to the facts and the points that they show."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from airflow_provider_azbackup.core.conversations.checks import check_facts
from airflow_provider_azbackup.core.model.jobs import Job, Outcome
from airflow_provider_azbackup.core.model.recovery_points import RecoveryPoint
from airflow_provider_azbackup.core.model.resources import (
    JobRef,
    OperationRef,
    ProtectedItem,
    SecondaryRegion,
    Vault,
)
from airflow_provider_azbackup.core.rest import responses
from airflow_provider_azbackup.core.wire import Request
from airflow_provider_azbackup.exceptions import (
    AzureBackupConfigError,
    AzureBackupError,
    AzureBackupNotFoundError,
    AzureBackupRefusedError,
    AzureBackupTransientError,
)
from airflow_provider_azbackup.tasks.hook import TaskHook
from tests.support.replay import (
    RECORDINGS_2,
    Conversation,
    Hook,
    Replay,
    accepted,
    by_triggerer,
    by_worker,
    newer_exchanges,
    reply_of,
    said,
    serve,
    watch,
)

pytestmark = pytest.mark.skipif(not RECORDINGS_2.is_dir(), reason="recordings are kept outside the project")

GROUPS = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups"
BACKUP, RESTORE = "backup", "restore"


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a recording shows of one job; times are of Azure's clock."""

    file: str
    job_id: str
    item: str
    container: str = ""
    instance: str = ""  # how the ARM id of the backup instance ends
    action: str
    category: str = ""
    outcome: Outcome
    seconds: int | None = None
    tasks: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()
    size: int | None = None
    point: str = ""
    point_time: str = ""
    tiers: tuple[str, ...] = ()
    expiry: str | None = None
    # Of the backup, beyond those of its request.
    options: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.file}-{self.action}"


DONE, RUNNING, FAILED = Outcome.SUCCEEDED, Outcome.RUNNING, Outcome.FAILED
JOBS = [
    Told(
        file="vm_backup_2026",
        job_id="565fe901-9c66-4fe5-accc-58b604ae41a2",
        item="testCsbPS",
        container="iaasvmcontainerv2;csb-rg-1c;testCsbPS",
        action=BACKUP,
        outcome=DONE,
        seconds=1672,
        tasks=("Take Snapshot", "Transfer data to vault", "Validate Backup"),
        size=5861 * 2**20,
        point="1357654645693975",
        point_time="2026-07-17T08:03:42",
        tiers=("InstantRP", "HardenedRP"),
        expiry="2026-08-16T08:03:31+00:00",
    ),
    Told(
        file="afs_point_after_its_job",
        job_id="eeda2c9e-9bc2-4c51-a021-6cb73a172460",
        item="clitest-item000004",
        container="clitest000003",
        action=BACKUP,
        outcome=DONE,
        seconds=5,
        tasks=("Take Snapshot",),
        size=0,
        point="256917714012406",
        point_time="2024-06-11T10:34:33",
        tiers=("InstantRP",),
    ),
    Told(
        file="hana_point_before_its_job",
        job_id="aa1ba88a-e06c-4e4f-8945-721ffa81aec9",
        item="SYSTEMDB [hxehost]",
        container="hxehost",
        action=BACKUP,
        outcome=DONE,
        seconds=245,
        tasks=("Transfer data to vault",),
        size=round(1186.5234 * 2**20),
        point="38261866252733",
        point_time="2021-06-28T09:39:38",
        tiers=("HardenedRP",),
    ),
    Told(
        file="aks_2025",
        job_id="2155d715-e904-4023-b24c-076dbaaa6b49",
        item="clitest-cluster1-donotdelete/clitest-friendly-aks",
        instance="clitest-cluster1-donotdelete-faec6818-0720-11ec-bd1b-c8f750f92764",
        action=BACKUP,
        category="Backup",
        outcome=DONE,
        seconds=217,
        tasks=("Trigger Backup",),
        point="745c287056794409bf2441b17b02aeaa",
        point_time="2025-03-11T08:34:46",
        tiers=("OperationalStore",),
        options={"rule_name": "BackupHourly"},
    ),
    Told(
        file="aks_2025",
        job_id="22f69558-4f19-43f7-85a4-537784802691",
        item="clitest-cluster1-donotdelete/clitest-friendly-aks",
        instance="clitest-cluster1-donotdelete-faec6818-0720-11ec-bd1b-c8f750f92764",
        action=RESTORE,
        category="Restore",
        outcome=DONE,
        seconds=214,
        tasks=("Trigger Restore",),
        size=0,
    ),
    Told(
        file="pgflex_2025",
        job_id="017eace9-69c9-487e-9fa8-94498953241a",
        item="clitest-pgflex-server-2",
        instance="clitest-pgflex-server-faec6818-0720-11ec-bd1b-c8f750f92764",
        action=BACKUP,
        category="Backup",
        outcome=FAILED,
        seconds=94,
        tasks=("Trigger Backup",),
        errors=("PostgreSQLFlexServerError",),
        options={"rule_name": "BackupWeekly"},
    ),
    Told(
        file="mysql_flex_restore",
        job_id="2c04d488-95e5-42ff-968d-adb4d43e6980",
        item="clitest-mysql-server",
        instance="clitest-mysql-server-faec6818-0720-11ec-bd1b-c8f750f92764",
        action=RESTORE,
        category="Restore",
        outcome=DONE,
        seconds=94,
        tasks=("Trigger Restore",),
        size=616424909,
    ),
    Told(
        file="adls_2025",
        job_id="f83b78fb-6443-45e2-9e03-5507c32ac0fc",
        item="adlsblobsourcesa\\adlsblobsourcesa",
        instance="adlsblobsourcesa-adlsblobsourcesa-14964441-c754-42b8-81f7-f4c552d836d6",
        action=RESTORE,
        category="Restore",
        outcome=DONE,
        seconds=381,
        tasks=("Trigger Restore",),
        size=0,
    ),
    Told(
        file="elastic_san_2026",
        job_id="4f307f28-9195-49b3-a5fe-70337e1b116e",
        item="dppesantestps01\\srcvol1",
        instance="dppesantestps01-vg-ae1e5f4c-560c-42e9-b5fa-50f75b3ea4f1",
        action=BACKUP,
        category="Backup",
        outcome=RUNNING,
        seconds=0,
        tasks=("Trigger Backup",),
    ),
    Told(
        file="elastic_san_2026",
        job_id="1aca14e0-2f6d-457f-b7fc-d9904c58eb18",
        item="dppesantestps01\\srcvol1",
        instance="dppesantestps01-vg-ae1e5f4c-560c-42e9-b5fa-50f75b3ea4f1",
        action=RESTORE,
        category="Restore",
        outcome=RUNNING,
        seconds=0,
        tasks=("Trigger Restore",),
    ),
    Told(
        file="sap_ase_2025",
        job_id="e34ce086-8913-43a0-a24c-bd7f7ad389ad",
        item="ab4;asetestdb1 [ase-ccy-vm5]",
        container="ase-ccy-vm5",
        action=RESTORE,
        outcome=RUNNING,
        seconds=4,
        tasks=("Transfer data from vault",),
    ),
]
# Read by the tests below one by one.
OTHERS = {
    "cross_region_jobs",
    "errors_more",
    "point_marked_unhealthy_2026",
    "points_numeric_tiers",
    "soft_deleted_items",
    "two_vms_one_name_2026",
}


@pytest.fixture
def replay(azure: Any, clock: Any, connect: Callable[..., None]) -> Iterator[Callable[..., Replay]]:
    """Serve a recording as the endpoint of the connection; who signs in does so at the emulator."""
    with ExitStack() as stack:

        def start(name: str, *empty_lists: str) -> Replay:
            found = Replay(newer_exchanges(name), clock, frozenset(empty_lists))
            stack.enter_context(contextmanager(serve)(found))
            vault = vault_of(found.exchanges[0])
            where = {**found.vault, "vault_type": vault.vault_type}
            connect(azure.connection(endpoint=found.url, api_version=found.version, **where))
            return found

        yield start


@pytest.fixture(params=[by_worker, by_triggerer])
def hold(request: pytest.FixtureRequest) -> Callable[[Replay, Conversation], Any]:
    """Hold a conversation through one of the hooks; every request of it must be a recorded one."""

    def hold(replay: Replay, conversation: Conversation) -> Any:
        result = request.param(conversation)
        replay.check()
        return result

    return hold


def vault_of(exchange: dict[str, Any]) -> Vault:
    """The vault that a recorded request is about."""
    return Vault.parse("/".join(urlsplit(exchange["request"]["uri"]).path.split("/")[:9]))


def item_of(exchange: dict[str, Any]) -> str:
    """The ARM id of the item that a recorded request is about."""
    path = unquote(urlsplit(exchange["request"]["uri"]).path)
    for end in ("/recoveryPoints", "/backup", "/restore"):
        path = path.partition(end)[0] if end != "/backup" else path.removesuffix(end)
    return path


def options_of(told: Told, exchange: dict[str, Any]) -> dict[str, Any]:
    """What a recorded request for a backup asks for, as an author would say it."""
    wanted = (exchange["request"].get("body") or {}).get("properties", {})
    names = {
        "backupType": "backup_type",
        "enableCompression": "enable_compression",
        "recoveryPointExpiryTimeInUTC": "recovery_point_expiry",
    }
    return {**told.options, **{ours: wanted[name] for name, ours in names.items() if name in wanted}}


def test_no_recording_is_forgotten() -> None:
    assert {path.stem for path in RECORDINGS_2.glob("*.json")} == {told.file for told in JOBS} | OTHERS


@pytest.mark.parametrize("told", JOBS, ids=str)
def test_a_recorded_job_is_followed_to_the_end_it_had(
    told: Told, replay: Callable[..., Replay], hold: Any, clock: Any
) -> None:
    azure = replay(told.file)
    starts = [
        each for each in accepted(azure) if urlsplit(each["request"]["uri"]).path.endswith(f"/{told.action}")
    ]

    async def conversation(hook: Hook) -> Job:
        if starts and told.action == BACKUP:
            (start,) = starts
            operation = await said(hook.trigger_backup(item_of(start), **options_of(told, start)))
        elif starts:
            operation_id = responses.read_operation_id(reply_of(starts[0]))
            assert operation_id
            operation = OperationRef(vault=vault_of(starts[0]), operation_id=operation_id)
        else:
            path = f"{vault_of(azure.exchanges[0]).path}/backupJobs/{told.job_id}"
            return await (said(hook.get_job(path)) if told.outcome is RUNNING else watch(hook, path, clock))
        return await watch(hook, (await said(hook.wait_for_operation(operation))).path, clock)

    job = hold(azure, conversation)
    facts = job.facts()
    assert job.ref.job_id == told.job_id
    assert (job.outcome, job.action, job.category) == (told.outcome, told.action, told.category)
    assert (job.is_backup, job.is_restore) == (told.action == BACKUP, told.action == RESTORE)
    assert (facts["item"], facts["container"]) == (told.item, told.container)
    assert (facts["item_id"] or "").endswith(told.instance)
    assert bool(facts["item_id"]) is bool(told.instance)
    assert round(job.duration_seconds or 0) == told.seconds
    assert tuple(task.name for task in job.tasks) == told.tasks
    assert tuple(error.title for error in job.errors) == told.errors
    assert job.size_bytes == told.size
    assert told.item in str(job)


@pytest.mark.parametrize("told", [told for told in JOBS if told.point], ids=str)
def test_the_recovery_point_of_a_recorded_backup_is_found(
    told: Told, replay: Callable[..., Replay], hold: Any, clock: Any
) -> None:
    azure = replay(told.file, "backupJobs")  # the recorded clients list no jobs
    listed = next(each for each in azure.exchanges if "/recoveryPoints" in each["request"]["uri"])
    ended = next(
        each
        for each in reversed(azure.exchanges)
        if each["request"]["uri"].partition("?")[0].endswith(f"/backupJobs/{told.job_id}")
    )
    job = responses.read_job(JobRef(vault=vault_of(ended), job_id=told.job_id), reply_of(ended))

    async def conversation(hook: Hook) -> RecoveryPoint:
        return await said(hook.find_recovery_point(job, item_of(listed)))

    point = hold(azure, conversation)
    assert (point.point_id, point.time[:19]) == (told.point, told.point_time)
    assert point.usable_tiers == told.tiers
    assert point.expiry == told.expiry
    # The recorded expiry has passed by now, and an expired point is no proof.
    assert point.shortcoming() == (f"it expired at {told.expiry}" if told.expiry else "")


def test_of_two_vms_of_one_name_each_is_found_by_its_own_id_and_neither_by_the_name(
    replay: Callable[..., Replay], hold: Any
) -> None:
    azure = replay("two_vms_one_name_2026", "AzureStorage", "AzureWorkload")
    items = responses.read_items(responses.read_page(reply_of(azure.exchanges[0])))
    twins = [each for each in items if each.friendly_name == "testcvm123"]
    assert len(twins) == 2

    async def conversation(hook: Hook) -> str:
        with pytest.raises(AzureBackupConfigError, match="'testcvm123' means 2 protected items") as caught:
            await said(hook.resolve_protected_item("testcvm123"))
        return str(caught.value)

    message = hold(azure, conversation)
    assert all(each.item.path in message for each in twins)
    assert {each.source_id.split("/")[4] for each in twins} == {"ccy-rg-1c", "rg-1c"}
    assert [each.trouble for each in items if each.friendly_name == "csb-vm"] == [
        "its state is ProtectionStopped"
    ]


def test_an_item_whose_data_is_soft_deleted_is_not_meant_by_its_name_and_listed_only_if_asked_for(
    replay: Callable[..., Replay], hold: Any
) -> None:
    azure = replay("soft_deleted_items", "AzureStorage", "AzureWorkload")
    azure.exchanges[0]["repeated"] = 3

    async def conversation(hook: Hook) -> tuple[list[Any], list[Any]]:
        # 14 days after the deletion; the recording says that 13 days and 23:59:42 are left after 17 s.
        with pytest.raises(
            AzureBackupNotFoundError, match=r"soft-deleted and is purged at 2024-05-12T07:36:32"
        ):
            await said(hook.resolve_protected_item("clitest-vm000003"))
        kept = await said(hook.list_protected_items())
        return kept, await said(hook.list_protected_items(include_deleted=True))

    kept, everything = hold(azure, conversation)
    assert kept == []
    assert [(each.friendly_name, each.is_deleted, each.state) for each in everything] == [
        ("clitest-vm000003", True, "ProtectionStopped")
    ]


def test_a_point_that_azure_marks_unhealthy_is_no_proof(replay: Callable[..., Replay], hold: Any) -> None:
    azure = replay("point_marked_unhealthy_2026")

    async def conversation(hook: Hook) -> RecoveryPoint:
        item = item_of(azure.exchanges[0])
        return await said(hook.get_recovery_point(item, "1141447822743501"))

    point = hold(azure, conversation)
    assert point.consistency == "AppConsistent"
    assert "UnHealthy" in point.shortcoming()


def test_tiers_that_are_numbers_are_read_as_the_words(replay: Callable[..., Replay], hold: Any) -> None:
    azure = replay("points_numeric_tiers")

    async def conversation(hook: Hook) -> list[RecoveryPoint]:
        return await said(hook.list_recovery_points(item_of(azure.exchanges[0])))

    full, logs = hold(azure, conversation)
    assert (full.point_id, full.backup_type, full.tiers) == (
        "86536735506490",
        "Full",
        (("HardenedRP", "Valid"),),
    )
    assert full.shortcoming(min_tier="HardenedRP") == ""
    assert logs.point_id == "DefaultRangeRecoveryPoint"
    assert not logs.is_restorable


def test_the_point_of_an_ase_database_is_read(replay: Callable[..., Replay], hold: Any) -> None:
    azure = replay("sap_ase_2025")
    item = item_of(azure.exchanges[1])

    async def conversation(hook: Hook) -> RecoveryPoint:
        return await said(hook.get_recovery_point(item, "519635394458366"))

    point = hold(azure, conversation)
    assert ProtectedItem.parse(item).workload == "sapasedatabase"
    assert (point.backup_type, point.usable_tiers) == ("Full", ("HardenedRP",))


def test_a_restore_into_another_region_is_a_restore_and_no_backup() -> None:
    vault = Vault(subscription_id="s", resource_group_name="g", name="v")
    bodies = [each["response"]["body"] for each in newer_exchanges("cross_region_jobs")]
    jobs = [responses.parse_job(JobRef(vault=vault, job_id=str(body["name"])), body) for body in bodies]
    assert [(job.is_backup, job.is_restore, job.outcome) for job in jobs if job] == [
        (False, True, RUNNING)
    ] * 2
    assert {job.item for job in jobs if job} == {"clitestcrr-ecy\\postgres", "clitest-vm000004"}


def test_a_recorded_job_of_another_region_is_read_there(
    azure: Any, clock: Any, connect: Callable[..., None]
) -> None:
    """Both recorded requests, served as they were answered; the one of a Backup vault names two regions."""
    with ExitStack() as stack:
        recorded = json.dumps(newer_exchanges("cross_region_jobs"))
        # The recorded client wrote the vault as an answer of Azure's had it.
        replay = Replay(json.loads(recorded.replace("/BackupVaults/", "/backupVaults/")), clock)
        stack.enter_context(contextmanager(serve)(replay))
        connect(azure.connection(endpoint=replay.url))
        hook = stack.enter_context(TaskHook())
        found = [hook.look_at_job(asked_elsewhere(each), since=clock()) for each in replay.exchanges]
        replay.check()
    assert [(job.outcome, job.is_restore) for job in found] == [(RUNNING, True)] * 2
    # Azure spells the id of a job there without the vault of a Recovery Services vault.
    for job in found:
        check_facts(job, None, action="restore")


def asked_elsewhere(exchange: dict[str, Any]) -> JobRef:
    """The job that a recorded request to a secondary region is about."""
    asked = exchange["request"]["body"]
    region = urlsplit(exchange["request"]["uri"]).path.split("/locations/")[1].split("/")[0]
    vault = Vault.parse(asked.get("sourceBackupVaultId") or asked["resourceId"])
    home = SecondaryRegion(name=region, primary=asked.get("sourceRegion", ""))
    return JobRef(vault=replace(vault, secondary=home), job_id=asked.get("jobId") or asked["jobName"])


@pytest.mark.parametrize(
    ("index", "kind", "words"),
    [
        (0, AzureBackupRefusedError, "with the protection status as SoftDeleted"),
        (1, AzureBackupError, "CloudDosTimeboudLimitReached"),
        (2, AzureBackupTransientError, "FailedIdentityOperation"),
    ],
)
def test_recorded_errors_are_what_they_say(index: int, kind: type[Exception], words: str) -> None:
    exchange = newer_exchanges("errors_more")[index]
    call = Request(method="POST", path=urlsplit(exchange["request"]["uri"]).path)
    with pytest.raises(kind, match=words):
        responses.raise_for_status(reply_of(exchange), call, 200)


def test_every_recorded_job_and_point_is_plain_json() -> None:
    for told in JOBS:
        for exchange in newer_exchanges(told.file):
            body = exchange["response"]["body"]
            ref = JobRef(vault=vault_of(exchange), job_id=told.job_id)
            job = responses.parse_job(ref, body) if isinstance(body, dict) else None
            if job:
                assert json.loads(json.dumps(job.facts())) == job.facts()

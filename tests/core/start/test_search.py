"""One backup for one intent, played against scripted answers: what is found, believed and sent."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import formatdate
from typing import Any

import pytest

from airflow_provider_azbackup.core.model.resources import JobRef, ProtectedItem
from airflow_provider_azbackup.core.model.validation import IfRunning
from airflow_provider_azbackup.core.rest import requests
from airflow_provider_azbackup.core.rest.responses import parse_job
from airflow_provider_azbackup.core.start.intent import BUSY_LIMIT, BackupIntent, StartRecord
from airflow_provider_azbackup.core.start.search import (
    SENDS,
    StartedJob,
    resume_after_obstacle,
    start_or_adopt,
)
from airflow_provider_azbackup.core.wire import Answer, Flow, NoResponse, Request, Response
from airflow_provider_azbackup.exceptions import (
    AzureBackupAuthError,
    AzureBackupBusyError,
    AzureBackupError,
    AzureBackupRefusedError,
    AzureBackupTransientError,
    AzureBackupUnconfirmedStartError,
)
from tests.support.play import ITEM, JOB, LOST, OPERATION, START, UNSENT, VAULT, answered

OWNER = "iaasvmcontainerv2;apps-rg;shop-vm"
# The backup that an earlier try has started, the one that this try starts, and one of somebody else.
OLD, NEW, OTHER = JOB.job_id, "11111111-aaaa-4bbb-8ccc-000000000001", "11111111-aaaa-4bbb-8ccc-000000000002"
TIMEOUT = 6 * 3600.0
BUSY = "UserErrorBackupOperationInProgress"
ASKED = START - 1000.0
ATTEMPT, CLEAR = "max_tries=1 retries=1 clears=0", "max_tries=3 retries=1 clears=1"

NEW_JOB = JobRef(vault=VAULT, job_id=NEW)
ACCEPTED = answered(
    202, azure_asyncoperation=f"https://a{VAULT.path}/x/operationsStatus/{OPERATION.operation_id}?t=1"
)
NAMED = answered(200, {"status": "Succeeded", "properties": {"jobId": NEW}})
NONE = answered(200, {"value": []})
CONFLICT = answered(409, {"error": {"code": BUSY, "message": "another backup is in progress"}})
OPERATION_BUSY = answered(200, {"status": "Failed", "error": {"code": BUSY, "message": "in progress"}})
GONE = answered(404, {"error": {"code": "ResourceNotFound", "message": "no such job"}})


def a_job(
    status: str = "InProgress",
    job_id: str = OLD,
    *,
    began: float = ASKED + 5,
    operation: str = "Backup",
    item: str = "shop-vm",
    error: str = "",
    **properties: Any,
) -> dict[str, Any]:
    """A job as a list or a look shows it."""
    return {
        "name": job_id,
        "properties": {
            "status": status,
            "operation": operation,
            "entityFriendlyName": item,
            "containerName": OWNER,
            "startTime": datetime.fromtimestamp(began, UTC).isoformat(),
            **({"errorDetails": [{"errorTitle": error}]} if error else {}),
            **properties,
        },
    }


def look(*arguments: Any, **options: Any) -> Response:
    return answered(200, a_job(*arguments, **options))


def listed(*jobs: dict[str, Any]) -> Response:
    return answered(200, {"value": list(jobs)})


def _kind(call: Request) -> str:
    if call.method == "POST":
        return "posts"
    places = ("/backupOperations/", "operations"), ("/backupJobs/", "looks"), ("/backupJobs", "lists")
    return next((kind for place, kind in places if place in call.path), "items")


def _narrowed(answer: Answer, call: Request) -> Answer:
    """Leave of a list what its filter asks for by status."""
    wanted = "status eq 'InProgress'" in dict(call.query).get("$filter", "")
    if not wanted or isinstance(answer, NoResponse) or answer.status != 200:
        return answer
    body = json.loads(answer.text)
    body["value"] = [job for job in body["value"] if job["properties"]["status"] == "InProgress"]
    return replace(answer, text=json.dumps(body))


@dataclass
class Azure:
    """Answers each kind of call with the next answer of its list, and with the last one ever after.

    :param ahead: seconds its clock is ahead of the worker's; None leaves ``Date`` out of its answers.
    """

    lists: Iterable[Answer] = (NONE,)
    posts: Iterable[Answer] = (ACCEPTED,)
    operations: Iterable[Answer] = (NAMED,)
    looks: Iterable[Answer] = ()
    items: Iterable[Answer] = ()
    ahead: float | None = 0.0
    at: float = START
    calls: list[Request] = field(default_factory=list)

    def hold(self, flow: Flow[Any]) -> Any:
        scripts = {
            kind: list(getattr(self, kind)) for kind in ("lists", "posts", "operations", "looks", "items")
        }
        try:
            call = next(flow)
            while True:
                self.calls.append(call)
                self.at += call.delay
                script = scripts[_kind(call)]
                assert script, f"nobody is expected to ask {call}"
                answer = script.pop(0) if len(script) > 1 else script[0]
                call = flow.send(self._dated(_narrowed(answer, call)))
                assert len(self.calls) < 2000, "it asks for ever"
        except StopIteration as end:
            left = {kind: len(script) for kind, script in scripts.items() if len(script) > 1}
            assert not left, f"answers not asked for: {left}"
            return end.value

    def _dated(self, answer: Answer) -> Answer:
        answer = replace(answer, at=self.at)
        if isinstance(answer, Response) and self.ahead is not None:
            answer = replace(answer, headers={"date": formatdate(self.at + self.ahead), **answer.headers})
        return answer

    def asked(self, kind: str) -> list[Request]:
        return [call for call in self.calls if _kind(call) == kind]


@dataclass
class Try:
    """One worker's try: its intent, and the records it leaves. ``breaks`` kills it at its n-th record."""

    intent: BackupIntent
    records: list[StartRecord | None] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    breaks: int = 0
    kept: bool = True

    def secure(self, azure: Azure, record: StartRecord | None = None) -> StartedJob:
        found: StartedJob = azure.hold(
            start_or_adopt(self.intent, record, save=self.remember, log=self.told.append)
        )
        return found

    def remember(self, record: StartRecord | None) -> None:
        dies = len(self.records) + 1 == self.breaks
        if self.kept or not dies:
            self.records.append(record)
        if dies:
            raise WorkerDiedError

    @property
    def record(self) -> StartRecord | None:
        return self.records[-1] if self.records else None


class WorkerDiedError(BaseException):
    """A worker that is gone: nothing it has in hand may be counted on."""


def a_try(item: ProtectedItem = ITEM, *, backup_type: str = "Full", **changes: Any) -> Try:
    body = requests.backup_body(item, backup_type=backup_type)
    return Try(
        BackupIntent(
            **{"item": item, "body": body, "attempt": ATTEMPT, "now": START, "timeout": TIMEOUT, **changes}
        )
    )


def a_record(**changes: Any) -> StartRecord:
    return StartRecord(
        **{
            "item": ITEM.path,
            "attempt": ATTEMPT,
            "since": ASKED,
            "attempt_began": ASKED - 2,
            "requested_at": ASKED,
            **changes,
        }
    )


JOB_RECORD = a_record(operation=OPERATION.operation_id, job=JOB.path)
OPERATION_RECORD = a_record(operation=OPERATION.operation_id)
ASKED_RECORD = a_record()
OLD_NAMED = answered(200, {"status": "Succeeded", "properties": {"jobId": OLD}})


OTHERWISE = pytest.mark.parametrize("if_running", ["adopt", "fail"])

# --- what a record is worth: record x job x attempt


def a_past(record: StartRecord, state: dict[str, Any]) -> dict[str, Any]:
    """What Azure shows of a record's backup."""
    if record.job:
        return {}
    return {"operations": [OLD_NAMED, NAMED]} if record.operation else {"lists": [listed(state), NONE]}


ENDS: dict[str, tuple[dict[str, Any], bool, bool]] = {
    # how the job stands: whether a retry takes it up, and whether a Clear waits for its end
    "running": (a_job(), True, True),
    "in a word of the future": (a_job("Hibernating"), True, True),
    "completed": (a_job("Completed"), True, False),
    "failed": (a_job("Failed", error="UserErrorVmNotInDesirableState"), False, False),
    "failed because busy": (a_job("Failed", error=BUSY), False, False),
    "cancelled": (a_job("Cancelled"), False, False),
    "cancelled in transfer": (
        a_job("CompletedWithWarnings", error="UserErrorJobSuccessfullyCancelled"),
        False,
        False,
    ),
    "ended with warnings": (a_job("CompletedWithWarnings"), False, False),
    "invalid": (a_job("Invalid"), False, False),
}


@pytest.mark.parametrize(
    "record", [JOB_RECORD, OPERATION_RECORD, ASKED_RECORD], ids=["job", "operation", "asked"]
)
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("same", [True, False], ids=["retry", "Clear"])
def test_a_note_is_followed_to_its_job_and_that_decides(record: StartRecord, end: str, same: bool) -> None:
    state, in_retry, in_clear = ENDS[end]
    asks = not (in_retry if same else in_clear)
    past = a_past(record, state)
    if not asks:  # then nothing is asked but what became of the record
        past = {kind: script[:1] for kind, script in past.items()}
    azure = Azure(looks=[answered(200, state)], **past)
    this = a_try(attempt=ATTEMPT if same else CLEAR)
    started = this.secure(azure, record)
    assert len(azure.asked("posts")) == asks
    if not same and in_clear:
        assert started.other is not None
        assert (started.ref, started.other.ref, this.records) == (None, JOB, [])
        return
    assert (started.other, started.started_by) == (None, "this task")
    assert started.ref == (NEW_JOB if asks else JOB)
    assert (started.ended is not None) is (end == "completed" and same)
    assert started.since == (START if asks else ASKED)
    assert this.record is not None
    assert (this.record.job, this.record.attempt, this.record.since) == (
        started.ref.path,
        this.intent.attempt,
        started.since,
    )


@pytest.mark.parametrize("accept", [True, False])
def test_a_retry_passes_a_backup_with_warnings_only_where_these_are_accepted(accept: bool) -> None:
    azure = Azure(looks=[look("CompletedWithWarnings")])
    assert a_try(accept_warnings=accept).secure(azure, JOB_RECORD).ref == (JOB if accept else NEW_JOB)


def test_a_clear_that_adopts_a_running_backup_passes_it_on_as_adopted() -> None:
    clear = a_try(attempt=CLEAR, if_running="adopt")
    started = clear.secure(Azure(looks=[look()]), JOB_RECORD)
    assert (started.ref, started.started_by, started.since) == (JOB, "adopted", START)
    assert "996 s before this attempt" in " ".join(clear.told)
    retry = a_try(attempt=CLEAR, if_running="adopt")
    again = retry.secure(Azure(looks=[look("Completed")]), clear.record)
    assert again.ended is not None
    assert (again.started_by, again.attempt_began) == ("adopted", started.attempt_began)


def test_a_clear_is_refused_a_running_backup_of_an_earlier_attempt_where_the_author_says_so() -> None:
    clear = a_try(attempt=CLEAR, if_running="fail")
    azure = Azure(looks=[look()])
    with pytest.raises(AzureBackupBusyError, match="An earlier attempt of this task started it"):
        clear.secure(azure, JOB_RECORD)
    assert (azure.asked("posts"), clear.records) == ([], [])


def test_a_job_that_azure_has_forgotten_is_followed_by_a_new_backup() -> None:
    azure = Azure(looks=[GONE])
    started = a_try().secure(azure, JOB_RECORD)
    assert (started.ref, len(azure.asked("posts"))) == (NEW_JOB, 1)
    assert 40 <= azure.at - START < 120


def test_a_404_that_passes_is_no_reason_for_a_new_backup() -> None:
    azure = Azure(looks=[GONE, GONE, look()])
    assert a_try().secure(azure, JOB_RECORD).ref == JOB
    assert azure.asked("posts") == []


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("same", [True, False], ids=["retry", "Clear"])
def test_a_job_that_azure_denies_and_lists_counts_as_the_list_shows_it(end: str, same: bool) -> None:
    state, in_retry, in_clear = ENDS[end]
    azure = Azure(looks=[GONE], lists=[listed(state)])
    started = a_try(attempt=ATTEMPT if same else CLEAR).secure(azure, JOB_RECORD)
    if not same and in_clear:
        assert started.other is not None
        assert (started.other.ref, azure.asked("posts")) == (JOB, [])
    else:
        takes_up = same and in_retry
        assert (started.ref, len(azure.asked("posts"))) == ((JOB, 0) if takes_up else (NEW_JOB, 1))


def test_an_adopted_job_that_azure_denies_is_not_looked_for_among_those_that_began_later() -> None:
    azure = Azure(looks=[GONE], lists=[listed(a_job("Completed", OTHER))])
    assert a_try().secure(azure, a_record(requested_at=0.0, job=JOB.path)).ref.job_id == NEW


@OTHERWISE
def test_a_job_that_is_being_cancelled_is_waited_for_and_then_replaced(if_running: IfRunning) -> None:
    azure = Azure(looks=[look("Cancelling"), look("Cancelling"), look("Cancelled")])
    assert a_try(if_running=if_running).secure(azure, JOB_RECORD).ref == NEW_JOB
    assert azure.at - START >= 50


@OTHERWISE
def test_a_job_that_completes_in_spite_of_its_cancellation_is_good_enough(if_running: IfRunning) -> None:
    azure = Azure(looks=[look("Cancelling"), look("Completed")])
    assert a_try(if_running=if_running).secure(azure, JOB_RECORD).ended is not None


def test_the_end_of_a_job_that_is_being_cancelled_is_left_to_the_caller_to_wait_for() -> None:
    azure, this = Azure(looks=[look("Cancelling")]), a_try()
    started = this.secure(azure, JOB_RECORD)
    assert started.other is not None
    assert (started.ref, started.other.ref, azure.asked("posts")) == (None, JOB, [])
    assert "Somebody cancels it" in this.told[-1]


def test_a_job_that_is_being_cancelled_for_ever_is_in_the_way_until_the_deadline() -> None:
    azure = Azure(looks=[look("Cancelling")])
    with pytest.raises(AzureBackupBusyError, match="still being cancelled") as busy:
        a_try(timeout=600.0, if_running="adopt").secure(azure, JOB_RECORD)
    assert busy.value.job is not None
    assert 600 <= azure.at - START < 640


def test_a_note_outlives_an_outage_of_half_an_hour() -> None:
    azure = Azure(looks=[*[LOST] * 30, look()])
    assert a_try().secure(azure, JOB_RECORD).ref == JOB


def test_a_note_that_this_identity_may_not_follow_starts_no_second_backup() -> None:
    azure = Azure(looks=[answered(403, {"error": {"code": "AuthorizationFailed", "message": "no"}})])
    this = a_try()
    with pytest.raises(AzureBackupAuthError):
        this.secure(azure, JOB_RECORD)
    assert (azure.asked("posts"), this.records) == ([], [])


# --- records that are of no use


@pytest.mark.parametrize(
    "record", [JOB_RECORD, OPERATION_RECORD, ASKED_RECORD], ids=["job", "operation", "asked"]
)
def test_the_note_of_another_item_is_not_followed(record: StartRecord) -> None:
    azure = Azure()
    other = replace(record, item=ITEM.path.replace("shop-vm", "web-vm"))
    this = a_try()
    assert this.secure(azure, other).ref.job_id == NEW
    assert azure.asked("looks") == []
    assert [kept.item for kept in this.records if kept] == [ITEM.path] * 3


def test_the_case_of_an_arm_id_makes_no_other_item() -> None:
    azure = Azure(looks=[look()])
    assert a_try().secure(azure, replace(JOB_RECORD, item=ITEM.path.upper())).ref == JOB


@pytest.mark.parametrize(
    "stored",
    [
        None,
        "yes",
        [],
        {},
        {**JOB_RECORD.to_dict(), "version": 1},
        {**JOB_RECORD.to_dict(), "version": 3},
        {name: value for name, value in JOB_RECORD.to_dict().items() if name != "attempt"},
        {**JOB_RECORD.to_dict(), "attempt_began": "at night"},
        {**JOB_RECORD.to_dict(), "since": None},
        {**JOB_RECORD.to_dict(), "requested_at": []},
    ],
)
def test_what_is_no_note_of_this_release_is_none(stored: object) -> None:
    assert StartRecord.from_dict(stored) is None


@pytest.mark.parametrize("record", [JOB_RECORD, OPERATION_RECORD, ASKED_RECORD])
def test_a_note_is_plain_json_and_comes_back_as_it_was(record: StartRecord) -> None:
    assert StartRecord.from_dict(json.loads(json.dumps(record.to_dict()))) == record


def test_a_note_with_words_of_a_later_release_can_still_be_read() -> None:
    assert StartRecord.from_dict({**JOB_RECORD.to_dict(), "mood": "good"}) == JOB_RECORD


# --- where a try can break off


# When a first try sends its request: some seconds after it began, so that no older job can be taken for its.
SENT = START + 3
NEW_RUNS = look(job_id=NEW, began=SENT + 1)
BREAKS: dict[str, tuple[int, bool, dict[str, Any], int]] = {
    # where: the n-th record, whether it was kept, what Azure has by the next try, requests of that
    "before anything": (1, False, {}, 1),
    "with the intent noted, before the request": (1, True, {}, 1),
    "with the request sent, before its answer": (
        1,
        True,
        {"lists": [listed(a_job(job_id=NEW, began=SENT + 1))], "looks": [NEW_RUNS]},
        0,
    ),
    "with the operation reported, before that is noted": (
        2,
        False,
        {"lists": [listed(a_job(job_id=NEW, began=SENT + 1))], "looks": [NEW_RUNS]},
        0,
    ),
    "with the operation noted": (2, True, {"looks": [NEW_RUNS]}, 0),
    "with the job reported, before that is noted": (3, False, {"looks": [NEW_RUNS]}, 0),
    "with the job noted": (3, True, {"looks": [NEW_RUNS]}, 0),
}


@pytest.mark.parametrize("where", BREAKS)
@pytest.mark.parametrize("same", [True, False], ids=["retry", "Clear"])
def test_wherever_a_try_breaks_off_the_next_one_makes_no_second_backup(where: str, same: bool) -> None:
    breaks, kept, then, requests = BREAKS[where]
    first = replace(a_try(), breaks=breaks, kept=kept)
    with pytest.raises(WorkerDiedError):
        first.secure(Azure())
    azure = Azure(at=START + 60, **then)
    started = a_try(now=START + 60, attempt=ATTEMPT if same else CLEAR).secure(azure, first.record)
    assert len(azure.asked("posts")) == requests
    if same or requests:
        assert (started.ref, started.other) == (NEW_JOB, None)
    else:  # a Clear waits for its end
        assert started.other is not None
        assert started.other.ref == NEW_JOB


def test_a_note_is_written_before_the_request_and_after_each_answer() -> None:
    this = a_try()
    this.secure(Azure())
    assert [(bool(record.operation), bool(record.job)) for record in this.records if record] == [
        (False, False),
        (True, False),
        (True, True),
    ]


def test_no_request_is_sent_whose_note_cannot_be_kept() -> None:
    azure = Azure()
    with pytest.raises(WorkerDiedError):
        replace(a_try(), breaks=1, kept=False).secure(azure)
    assert azure.asked("posts") == []


def test_a_note_without_an_answer_is_searched_for_three_minutes_when_it_is_fresh() -> None:
    azure = Azure()
    record = a_record(requested_at=START - 2)
    assert a_try().secure(azure, record).ref == NEW_JOB
    assert 180 <= azure.at - START < 200


def test_a_note_without_an_answer_is_looked_up_once_when_it_is_old() -> None:
    azure = Azure()
    a_try().secure(azure, ASKED_RECORD)
    assert azure.at - START < 10


def test_an_operation_that_failed_was_no_backup() -> None:
    failed = answered(200, {"status": "Failed", "error": {"code": "X", "message": "no agent"}})
    azure = Azure(operations=[failed, NAMED])
    assert a_try().secure(azure, OPERATION_RECORD).ref.job_id == NEW


def test_an_operation_that_azure_has_forgotten_is_looked_for_in_the_list() -> None:
    azure = Azure(operations=[GONE], lists=[listed(a_job())], looks=[look()])
    assert a_try().secure(azure, OPERATION_RECORD).ref == JOB


# --- which running backup is one of the item: machines and shares


@pytest.mark.parametrize(
    ("job", "ours"),
    [
        (a_job(), True),
        (a_job(containerName=OWNER.upper()), True),
        (a_job(containerName="iaasvmcontainerv2;other-rg;shop-vm"), False),
        (a_job(containerName=""), False),
        (a_job(operation="Restore"), False),
        (a_job(operation="ConfigureBackup"), False),
        (a_job(operation="BACKUP"), True),
    ],
)
def test_a_running_job_is_a_backup_of_the_machine_by_operation_and_container(
    job: dict[str, Any], ours: bool
) -> None:
    azure = Azure(lists=[listed(job)])
    assert (a_try().secure(azure).other is not None) is ours
    assert len(azure.asked("posts")) == (not ours)


def test_the_youngest_of_two_running_backups_is_waited_for() -> None:
    lists = [listed(a_job(job_id=OTHER, began=START - 500), a_job(began=START - 50))]
    other = a_try().secure(Azure(lists=lists)).other
    assert other is not None
    assert other.ref == JOB


def test_a_running_backup_is_found_on_the_second_page() -> None:
    first = answered(
        200, {"value": [], "nextLink": f"https://management.azure.com{VAULT.path}/backupJobs?$skipToken=x"}
    )
    assert a_try(if_running="adopt").secure(Azure(lists=[first, listed(a_job())])).ref == JOB


SHARE = ProtectedItem(
    vault=VAULT, container="StorageContainer;storage;files-rg;shopfiles", name="AzureFileShare;0a1b"
)


def _share(account: str, name: str, native: str) -> dict[str, Any]:
    container = f"StorageContainer;storage;files-rg;{account}"
    return {
        "id": replace(SHARE, container=container, name=f"AzureFileShare;{native}").path,
        "properties": {"friendlyName": name},
    }


@pytest.mark.parametrize(
    ("account", "name", "ours"),
    [("shopfiles", "documents", True), ("otherfiles", "documents", False), ("shopfiles", "archive", False)],
)
def test_the_backup_of_a_share_is_known_by_share_and_account(account: str, name: str, ours: bool) -> None:
    items = answered(
        200,
        {
            "value": [
                _share("shopfiles", "documents", "0a1b"),
                _share("otherfiles", "documents", "0a1c"),
                _share("shopfiles", "archive", "0a1d"),
            ]
        },
    )
    job = a_job(item=name, storageAccountName=account, containerName=None)
    azure = Azure(lists=[listed(job)], items=[items])
    assert (a_try(SHARE).secure(azure).other is not None) is ours


# --- which running backup is one of the item: databases


def a_database(name: str = "msdb", *, server: str = "sqlvm", instance: str = "mssqlserver") -> ProtectedItem:
    container = f"VMAppContainer;compute;apps-rg;{server}"
    return ProtectedItem(vault=VAULT, container=container, name=f"SQLDataBase;{instance};{name}")


def protected(*items: ProtectedItem) -> Response:
    values = [
        {
            "id": item.path,
            "properties": {
                "friendlyName": item.name.rpartition(";")[2],
                "serverName": item.container.rpartition(";")[2],
            },
        }
        for item in items
    ]
    return answered(200, {"value": values})


HERE = a_database()
ELSEWHERE = a_database(server="sqlvm2")
REPORTS = a_database(instance="reports")
PAYROLL = a_database("payroll")
LABELS: dict[str, tuple[str, str, list[ProtectedItem], str, bool | None]] = {
    # entity, operation, databases of the vault, wanted type: ours, not ours, or None for "may be"
    "with server": ("msdb [sqlvm]", "Backup (Full)", [HERE, PAYROLL], "Full", True),
    "in capitals": ("MSDB [SQLVM]", "BACKUP (FULL)", [HERE], "Full", True),
    "of another server": ("msdb [sqlvm2]", "Backup (Full)", [HERE, ELSEWHERE], "Full", False),
    "of a server not protected here": ("msdb [sqlvm3]", "Backup (Full)", [HERE], "Full", False),
    "of another database": ("payroll [sqlvm]", "Backup (Full)", [HERE, PAYROLL], "Full", False),
    "of two instances": ("msdb [sqlvm]", "Backup (Full)", [HERE, REPORTS], "Full", None),
    "bare, one database": ("msdb", "Backup (Full)", [HERE], "Full", True),
    "bare, two servers": ("msdb", "Backup (Full)", [HERE, ELSEWHERE], "Full", None),
    "bare, no type yet": ("msdb", "Backup", [HERE], "Full", None),
    "a log backup": ("msdb [sqlvm]", "Backup (Log)", [HERE], "Full", False),
    "a full one where a log backup is wanted": ("msdb [sqlvm]", "Backup (Full)", [HERE], "Log", False),
    "copy-only where full is wanted": ("msdb [sqlvm]", "Backup (Copy-only Full)", [HERE], "Full", False),
    "copy-only": ("msdb [sqlvm]", "Backup (Copy-only Full)", [HERE], "CopyOnlyFull", True),
    "a type of the future": ("msdb [sqlvm]", "Backup (Quantum)", [HERE], "Full", None),
    "a restore": ("msdb [sqlvm]", "Restore (Full)", [HERE], "Full", False),
    "of a database protected no more": ("msdb [sqlvm]", "Backup (Full)", [PAYROLL], "Full", False),
}
_LABELS = pytest.mark.parametrize("label", LABELS)


def a_database_job(entity: str, operation: str, **changes: Any) -> dict[str, Any]:
    return a_job(item=entity, operation=operation, containerName=None, **changes)


@_LABELS
def test_only_the_running_backup_that_is_surely_the_databases_own_is_adopted(label: str) -> None:
    entity, operation, items, wanted, ours = LABELS[label]
    azure = Azure(lists=[listed(a_database_job(entity, operation))], items=[protected(*items)])
    started = a_try(HERE, backup_type=wanted, if_running="adopt").secure(azure)
    assert started.started_by == ("adopted" if ours is True else "this task")
    assert len(azure.asked("posts")) == (ours is not True)


@_LABELS
def test_a_lost_start_of_a_database_is_settled_or_left_open_but_never_guessed(label: str) -> None:
    entity, operation, items, wanted, ours = LABELS[label]
    seen = listed(a_database_job(entity, operation, began=SENT + 1))
    azure = Azure(lists=[NONE, seen], posts=[LOST], items=[protected(*items)])
    this = a_try(HERE, backup_type=wanted)
    if ours:
        assert this.secure(azure).ref == JOB
        assert len(azure.asked("posts")) == 1
        return
    with pytest.raises(
        AzureBackupUnconfirmedStartError, match="may be one of" if ours is None else "not known"
    ):
        this.secure(azure)
    assert len(azure.asked("posts")) == (1 if ours is None else SENDS)
    assert this.record is not None
    assert this.record.requested_at


def test_a_bare_label_is_looked_at_again_until_azure_completes_it() -> None:
    bare, whole = a_database_job("msdb", "Backup"), a_database_job("msdb [sqlvm]", "Backup (Full)")
    azure = Azure(lists=[listed(bare), listed(bare), listed(whole)], items=[protected(HERE)])
    assert a_try(HERE, if_running="adopt").secure(azure).ref == JOB
    assert 12 < azure.at - START < 18


def test_a_bare_label_holds_a_start_up_for_less_than_a_minute() -> None:
    azure = Azure(lists=[listed(a_database_job("msdb", "Backup"))], items=[protected(HERE)])
    a_try(HERE).secure(azure)
    assert azure.at - START < 60


def test_the_backup_of_a_hana_database_is_known_by_its_name_in_capitals() -> None:
    item = ProtectedItem(
        vault=VAULT, container="VMAppContainer;compute;apps-rg;hanavm", name="SAPHanaDatabase;hxe;systemdb"
    )
    azure = Azure(
        lists=[listed(a_database_job("SYSTEMDB [hanavm]", "Backup (Full)"))], items=[protected(item)]
    )
    assert a_try(item, if_running="adopt").secure(azure).started_by == "adopted"
    assert dict(azure.asked("items")[0].query)["$filter"] == "backupManagementType eq 'AzureWorkload'"


# --- the first look


def test_a_first_start_does_not_wait_for_a_list_that_cannot_be_had() -> None:
    azure = Azure(lists=[LOST])
    assert a_try().secure(azure).ref.job_id == NEW
    assert (len(azure.asked("lists")), len(azure.asked("posts"))) == (1, 1)


@pytest.mark.parametrize("changes", [{"is_blind": True}, {}], ids=["no store", "a failed job before"])
def test_a_later_start_waits_for_the_list_because_a_backup_of_its_own_may_run(
    changes: dict[str, Any],
) -> None:
    azure = Azure(
        lists=[LOST, answered(503), answered(429, retry_after="324"), listed(a_job(began=START - 60))],
        looks=[look("Failed")],
    )
    started = a_try(**changes).secure(azure, None if changes else JOB_RECORD)
    if changes:
        assert started.other is not None
    else:  # it began after the first try of this attempt
        assert (started.ref, started.started_by) == (JOB, "found")
    assert azure.asked("posts") == []
    assert azure.at - START > 324


def test_a_list_that_stays_away_until_the_deadline_lets_a_later_start_fail_without_a_request() -> None:
    azure = Azure(lists=[LOST])
    with pytest.raises(AzureBackupTransientError):
        a_try(is_blind=True, timeout=1800.0).secure(azure)
    assert azure.asked("posts") == []
    assert len(azure.calls) < 60


def test_without_the_right_to_read_jobs_nothing_is_started() -> None:
    azure = Azure(lists=[answered(403, {"error": {"code": "AuthorizationFailed", "message": "no"}})])
    with pytest.raises(AzureBackupAuthError):
        a_try().secure(azure)
    assert azure.asked("posts") == []


# --- somebody else's backup


@pytest.mark.parametrize("is_blind", [False, True], ids=["first try", "no store"])
@pytest.mark.parametrize("began", [START - 700, START + 30], ids=["before", "after"])
def test_a_running_backup_is_refused_where_the_author_says_so(is_blind: bool, began: float) -> None:
    azure = Azure(lists=[listed(a_job(job_id=OTHER, began=began))])
    this = a_try(if_running="fail", is_blind=is_blind)
    with pytest.raises(AzureBackupBusyError, match="if_running is 'fail'") as busy:
        this.secure(azure)
    assert busy.value.job is not None
    assert (azure.asked("posts"), this.records) == ([], [])


@pytest.mark.parametrize("is_blind", [False, True], ids=["first try", "no store"])
@pytest.mark.parametrize("hours", [0.001, 0.5, 80], ids=["seconds", "half an hour", "80 hours"])
def test_a_backup_that_began_before_the_attempt_has_to_end_first(is_blind: bool, hours: float) -> None:
    azure, this = Azure(lists=[listed(a_job(began=START - 3600 * hours))]), a_try(is_blind=is_blind)
    started = this.secure(azure)
    assert started.other is not None
    assert (started.ref, started.other.ref, started.ended, azure.asked("posts")) == (None, JOB, None, [])
    assert (this.records, len(this.told)) == ([], 1)
    assert JOB.job_id in this.told[0]
    assert "Waiting for its end" in this.told[0]


def test_a_backup_that_began_before_the_attempt_is_adopted_where_the_author_says_so() -> None:
    this = a_try(if_running="adopt")
    started = this.secure(Azure(lists=[listed(a_job(began=START - 9000))]))
    assert (started.ref, started.started_by, started.since) == (JOB, "adopted", START)
    assert "9001 s before this attempt" in this.told[0]
    assert this.record is not None
    assert (this.record.job, this.record.started_by) == (JOB.path, "adopted")


@pytest.mark.parametrize("if_running", ["wait", "adopt"])
@pytest.mark.parametrize("ahead", [-600.0, 0.0, 600.0])
def test_a_backup_that_began_after_the_attempt_by_azures_clock_is_as_good_as_its_own(
    if_running: IfRunning, ahead: float
) -> None:
    running = a_job(began=START + ahead + 2)
    azure = Azure(lists=[LOST, listed(running)], ahead=ahead)
    this = a_try(if_running=if_running, is_blind=True)
    started = this.secure(azure)
    assert (started.ref, started.started_by, azure.asked("posts")) == (JOB, "found", [])
    assert this.record is not None
    assert this.record.started_by == "found"


@pytest.mark.parametrize("ahead", [-600.0, 600.0])
def test_a_backup_from_before_is_no_younger_where_the_clocks_differ(ahead: float) -> None:
    azure = Azure(lists=[listed(a_job(began=START + ahead - 1))], ahead=ahead)
    assert a_try().secure(azure).other is not None


@pytest.mark.parametrize("ahead", [-250.0, 0.0, 250.0])
def test_where_azure_names_no_time_a_running_backup_counts_as_an_older_one(ahead: float) -> None:
    azure = Azure(lists=[listed(a_job(began=START + ahead + 2))], ahead=None)
    assert a_try().secure(azure).other is not None


def test_the_start_of_an_attempt_is_kept_over_a_wait_for_another_backup() -> None:
    """The beginning that the caller hands back counts, not that of the look after the wait."""
    began = START - 4000.0
    young = Azure(lists=[listed(a_job(began=began + 5))])
    assert a_try(attempt_began=began).secure(young).started_by == "found"
    old = Azure(lists=[listed(a_job(began=began - 5))])
    assert a_try(attempt_began=began).secure(old).other is not None


def test_a_request_is_sent_when_no_older_backup_can_be_in_its_window() -> None:
    azure, this = Azure(), a_try()
    this.secure(azure)
    assert azure.asked("posts")[0].delay >= 2
    record = this.records[0]
    assert record is not None
    assert record.requested_at >= record.attempt_began + 2


FLAWS: dict[str, tuple[StartRecord, dict[str, Any], str]] = {
    "of another vault": (
        replace(JOB_RECORD, job=JOB.path.replace(VAULT.name, "day-vault")),
        a_job(),
        "is of vault",
    ),
    "of another VM": (
        JOB_RECORD,
        a_job(item="web-vm", containerName="iaasvmcontainerv2;apps-rg;web-vm"),
        "no backup of",
    ),
    "of a VM of the name in another group": (
        JOB_RECORD,
        a_job(containerName="iaasvmcontainerv2;other-rg;shop-vm"),
        "no backup of",
    ),
    "a restore": (JOB_RECORD, a_job("Completed", operation="Restore"), "is no backup"),
    "a deletion": (JOB_RECORD, a_job("Completed", operation="DeleteBackupData"), "is no backup"),
    "from before the request": (
        JOB_RECORD,
        a_job("Completed", began=ASKED - 60),
        "before this attempt asked",
    ),
    "adopted where nothing is to be": (
        replace(JOB_RECORD, requested_at=0.0, started_by="adopted"),
        a_job("Completed", began=ASKED - 60),
        "before this attempt asked",
    ),
    "from before the attempt": (
        replace(JOB_RECORD, requested_at=0.0, started_by="found"),
        a_job(began=ASKED - 60),
        "before this attempt asked",
    ),
}


@pytest.mark.parametrize("flaw", FLAWS)
def test_a_note_that_cannot_be_of_this_attempts_backup_is_not_believed(flaw: str) -> None:
    record, job, why = FLAWS[flaw]
    azure, this = Azure(looks=[answered(200, job)]), a_try()
    assert this.secure(azure, record).ref == NEW_JOB
    assert len(azure.asked("posts")) == 1
    assert "Ignoring the record" in this.told[0]
    assert why in this.told[0]


@pytest.mark.parametrize("flaw", FLAWS)
def test_a_search_goes_on_after_a_note_that_is_not_believed(flaw: str) -> None:
    record, job, _ = FLAWS[flaw]
    azure = Azure(looks=[answered(200, job)], lists=[listed(a_job(job_id=OTHER, began=START - 60))])
    other = a_try().secure(azure, record).other
    assert other is not None
    assert (other.ref.job_id, azure.asked("posts")) == (OTHER, [])


FAILED = parse_job(JobRef(vault=VAULT, job_id=NEW), a_job("Failed", NEW, began=START - 60, error=BUSY))


def the_other(*lists: Response, if_running: IfRunning = "wait") -> str | None:
    assert FAILED is not None
    this = a_try(if_running=if_running)
    flow = resume_after_obstacle(this.intent, FAILED, save=this.remember, log=this.told.append)
    try:
        found: StartedJob = Azure(lists=lists).hold(flow)
    except AzureBackupBusyError as error:
        assert error.job is not None
        return None
    assert (found.ref is None) is (if_running == "wait")
    ref = found.other.ref if found.other else found.ref
    return ref.job_id if ref else None


@pytest.mark.parametrize(("if_running", "found"), [("wait", OTHER), ("adopt", OTHER), ("fail", None)])
def test_the_backup_that_was_in_the_way_is_the_one_that_runs(
    if_running: IfRunning, found: str | None
) -> None:
    assert the_other(listed(a_job(job_id=OTHER, began=START - 30)), if_running=if_running) == found


def an_end(began: float, ended: float, **changes: Any) -> dict[str, Any]:
    return a_job(
        "Completed", OTHER, began=began, endTime=datetime.fromtimestamp(ended, UTC).isoformat(), **changes
    )


def test_the_backup_that_was_in_the_way_is_looked_for_until_lists_show_it() -> None:
    assert the_other(NONE, NONE, NONE, NONE, listed(a_job(job_id=OTHER, began=START - 90))) == OTHER


@pytest.mark.parametrize(
    ("other", "was_in_the_way"),
    [
        (an_end(START - 900, START - 20), True),
        (an_end(START - 900, START - 61), False),
        (an_end(START - 50, START - 20), False),
        (an_end(START - 900, START - 20, containerName="iaasvmcontainerv2;apps-rg;web-vm"), False),
        (an_end(START - 900, START - 20, operation="Restore"), False),
        (
            a_job("Failed", NEW, began=START - 60, endTime=datetime.fromtimestamp(START, UTC).isoformat()),
            False,
        ),
    ],
    ids=["over it", "before", "after", "another machine", "a restore", "the failed one itself"],
)
def test_the_backup_that_was_in_the_way_may_be_over_by_now(
    other: dict[str, Any], was_in_the_way: bool
) -> None:
    assert the_other(NONE, listed(other)) == (OTHER if was_in_the_way else None)


# --- busy, in the forms a start can meet


BUSY_FORMS = pytest.mark.parametrize(
    "form",
    [
        {"posts": [CONFLICT]},
        {"operations": [OPERATION_BUSY]},
        {"posts": [answered(400, {"error": {"code": "SystemBackupOperationInProgress"}})]},
    ],
    ids=["conflict", "operation", "system"],
)


@BUSY_FORMS
def test_what_a_busy_item_is_busy_with_has_to_end_first(form: dict[str, Any]) -> None:
    azure = Azure(lists=[NONE, listed(a_job(job_id=OTHER))], **form)
    this = a_try()
    other = this.secure(azure).other
    assert other is not None
    assert (other.ref.job_id, this.record, len(azure.asked("posts"))) == (OTHER, None, 1)


@BUSY_FORMS
def test_what_a_busy_item_is_busy_with_is_adopted_where_the_author_says_so(form: dict[str, Any]) -> None:
    azure = Azure(lists=[NONE, listed(a_job(job_id=OTHER))], **form)
    this = a_try(if_running="adopt")
    started = this.secure(azure)
    assert started.ref is not None
    assert (started.ref.job_id, started.started_by) == (OTHER, "adopted")
    assert this.record is not None
    assert this.record.job.endswith(OTHER)
    assert len(azure.asked("posts")) == 1


@pytest.mark.parametrize("if_running", ["wait", "adopt"])
def test_a_backup_of_another_type_in_the_way_of_a_database_is_never_taken_for_the_wanted_one(
    if_running: IfRunning,
) -> None:
    log = a_database_job("msdb [sqlvm]", "Backup (Log)")
    azure = Azure(lists=[listed(log)], posts=[CONFLICT], items=[protected(HERE)])
    started = a_try(HERE, if_running=if_running).secure(azure)
    assert started.other is not None
    assert (started.ref, started.other.ref) == (None, JOB)


@BUSY_FORMS
def test_a_busy_item_is_refused_where_the_author_says_so_and_nothing_is_remembered(
    form: dict[str, Any],
) -> None:
    azure, this = Azure(**form), a_try(if_running="fail")
    with pytest.raises(AzureBackupBusyError):
        this.secure(azure)
    assert (len(azure.asked("posts")), this.record) == (1, None)


@BUSY_FORMS
def test_an_item_that_was_busy_and_is_no_more_gets_its_backup(form: dict[str, Any]) -> None:
    then = {kind: [*script, good] for kind, script in form.items() for good in _GOOD[kind]}
    azure = Azure(**then)
    assert a_try().secure(azure).ref.job_id == NEW
    assert len(azure.asked("posts")) == 2


_GOOD = {"posts": [ACCEPTED], "operations": [NAMED]}


@BUSY_FORMS
def test_an_item_that_is_busy_with_what_nobody_sees_is_left_for_later_within_minutes(
    form: dict[str, Any],
) -> None:
    azure, this = Azure(**form), a_try()
    started = this.secure(azure)
    assert isinstance(started.obstacle, AzureBackupBusyError)
    assert (started.ref, started.other) == (None, None)
    assert BUSY_LIMIT <= azure.at - START < 2 * BUSY_LIMIT
    assert len(azure.asked("posts")) < 30
    assert this.record is None


# --- a request whose answer was lost


LOSSES = pytest.mark.parametrize(
    "loss",
    [LOST, *map(answered, (408, 500, 502, 503, 504)), answered(503, retry_after="1"), answered(202)],
    ids=["reset", "408", "500", "502", "503", "504", "503 with Retry-After", "202 without an operation"],
)


@LOSSES
@pytest.mark.parametrize("if_running", ["wait", "adopt", "fail"])
def test_a_lost_request_is_looked_for_and_its_backup_taken(loss: Answer, if_running: IfRunning) -> None:
    azure = Azure(posts=[loss], lists=[NONE, NONE, NONE, listed(a_job(began=START + 30))])
    this = a_try(if_running=if_running)
    started = this.secure(azure)
    assert (started.ref, started.since, len(azure.asked("posts"))) == (JOB, START, 1)
    assert started.started_by == "found"
    assert this.record is not None
    assert this.record.job == JOB.path


@LOSSES
def test_a_lost_request_that_started_nothing_is_sent_again_after_three_minutes(loss: Answer) -> None:
    azure = Azure(posts=[loss, ACCEPTED])
    assert a_try().secure(azure).ref.job_id == NEW
    assert len(azure.asked("posts")) == 2
    assert 180 <= azure.at - START < 220


@LOSSES
def test_a_request_is_sent_three_times_at_most_and_the_next_try_knows(loss: Answer) -> None:
    azure, this = Azure(posts=[loss]), a_try()
    with pytest.raises(AzureBackupUnconfirmedStartError):
        this.secure(azure)
    assert len(azure.asked("posts")) == SENDS == 3
    assert azure.at - START < 700
    assert this.record is not None
    assert this.record.target is None


def test_a_lost_request_is_looked_for_through_an_outage_before_it_is_sent_again() -> None:
    azure = Azure(posts=[LOST], lists=[NONE, *[LOST] * 20, listed(a_job("Completed", began=START + 3))])
    assert a_try().secure(azure).ref == JOB
    assert len(azure.asked("posts")) == 1


def test_a_lost_request_that_azure_will_not_show_is_reported_and_not_sent_again() -> None:
    hidden = answered(403, {"error": {"code": "AuthorizationFailed", "message": "gone"}})
    azure, this = Azure(posts=[LOST], lists=[NONE, hidden]), a_try()
    with pytest.raises(AzureBackupUnconfirmedStartError, match=r"may be running.*Looking for it failed"):
        this.secure(azure)
    assert len(azure.asked("posts")) == 1
    assert this.record is not None


@BUSY_FORMS
def test_an_item_that_is_busy_behind_a_lost_request_may_be_so_with_our_own_backup(
    form: dict[str, Any],
) -> None:
    script = {"posts": [LOST, *form.get("posts", [ACCEPTED])], "operations": form.get("operations", [NAMED])}
    first = a_try(if_running="fail")
    with pytest.raises(AzureBackupBusyError):
        first.secure(Azure(**script))
    assert first.record is not None
    late = Azure(at=START + 600, lists=[listed(a_job(began=START + 5))], looks=[look(began=START + 5)])
    assert a_try(if_running="fail", now=START + 600).secure(late, first.record).ref == JOB
    assert late.asked("posts") == []


def test_an_accepted_backup_whose_job_nobody_sees_is_reported_and_not_sent_again() -> None:
    azure = Azure(operations=[answered(200, {"status": "Succeeded"})])
    this = a_try()
    with pytest.raises(AzureBackupUnconfirmedStartError, match="without naming a job"):
        this.secure(azure)
    assert len(azure.asked("posts")) == 1
    assert this.record is not None
    assert this.record.operation == OPERATION.operation_id


def test_a_request_that_never_left_is_not_looked_for() -> None:
    azure, this = Azure(posts=[UNSENT]), a_try()
    with pytest.raises(AzureBackupTransientError, match=r"no backup of .* was started"):
        this.secure(azure)
    assert (len(azure.asked("lists")), this.record) == (1, None)


@pytest.mark.parametrize("refusal", [answered(400), answered(403), answered(404)])
def test_a_refusal_leaves_nothing_to_look_for(refusal: Response) -> None:
    azure, this = Azure(posts=[refusal]), a_try()
    with pytest.raises(AzureBackupError):
        this.secure(azure)
    assert (len(azure.asked("posts")), this.record) == (1, None)


def test_an_operation_that_failed_is_told_and_leaves_nothing_to_look_for() -> None:
    failed = answered(200, {"status": "Failed", "error": {"code": "X", "message": "no agent"}})
    this = a_try()
    with pytest.raises(AzureBackupRefusedError, match="no agent"):
        this.secure(Azure(operations=[failed]))
    assert this.record is None


# --- whose clock


AHEAD = pytest.mark.parametrize("ahead", [-600.0, -90.0, 0.0, 90.0, 600.0])


def lose_and_settle(azure: Azure) -> Try:
    this = a_try()
    this.secure(azure)
    return this


@AHEAD
def test_a_lost_backup_is_found_whatever_the_clock_of_the_worker_says(ahead: float) -> None:
    azure = Azure(posts=[LOST], ahead=ahead, lists=[NONE, listed(a_job(began=START + ahead + 3))])
    this = lose_and_settle(azure)
    assert len(azure.asked("posts")) == 1
    assert this.records[0] is not None
    assert 2 <= this.records[0].requested_at - (START + ahead) <= 4


@AHEAD
def test_a_backup_that_ended_before_is_not_taken_for_the_lost_one(ahead: float) -> None:
    before = a_job("Completed", job_id=OTHER, began=START + ahead - 10)
    azure = Azure(posts=[LOST, ACCEPTED], ahead=ahead, lists=[NONE, listed(before)])
    lose_and_settle(azure)
    assert len(azure.asked("posts")) == 2


@AHEAD
def test_the_window_that_azure_is_asked_for_holds_the_moment_of_the_request(ahead: float) -> None:
    azure = Azure(posts=[LOST, ACCEPTED], ahead=ahead)
    lose_and_settle(azure)
    asked = [dict(call.query)["$filter"] for call in azure.asked("lists")]
    windows = [wanted for wanted in asked if "startTime" in wanted]
    assert len(windows) > 3
    for wanted in windows:
        first, last = (_bound(wanted, bound) for bound in ("startTime", "endTime"))
        assert first < START + ahead < last
        assert last - first < 1200


def _bound(wanted: str, bound: str) -> float:
    text = wanted.partition(f"{bound} eq '")[2].partition("'")[0]
    return datetime.strptime(text, "%Y-%m-%d %I:%M:%S %p").replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize("ahead", [-240.0, 0.0, 240.0])
def test_where_azure_names_no_time_a_backup_within_five_minutes_is_neither_taken_nor_asked_for_again(
    ahead: float,
) -> None:
    azure = Azure(posts=[LOST], ahead=None, lists=[NONE, listed(a_job(began=START + ahead + 3))])
    this = a_try()
    with pytest.raises(AzureBackupUnconfirmedStartError, match="a time before this attempt"):
        this.secure(azure)
    assert len(azure.asked("posts")) == 1
    wanted = dict(azure.asked("lists")[1].query)["$filter"]
    assert _bound(wanted, "startTime") < START + ahead < _bound(wanted, "endTime")


def test_where_azure_names_no_time_a_backup_is_taken_that_surely_began_after_the_attempt() -> None:
    azure = Azure(posts=[LOST], ahead=None, lists=[NONE, listed(a_job(began=START + 301))])
    lose_and_settle(azure)
    assert len(azure.asked("posts")) == 1


@pytest.mark.parametrize("off", [-600.0, 600.0])
def test_the_clock_of_the_next_worker_may_be_off_by_minutes_too(off: float) -> None:
    record = a_record(requested_at=START - 30)  # by Azure's clock
    azure = Azure(
        ahead=-off, at=START + off, lists=[listed(a_job(began=START - 27))], looks=[look(began=START - 27)]
    )
    assert a_try(now=START + off).secure(azure, record).ref == JOB


def test_seconds_of_azures_own_rounding_hide_no_backup() -> None:
    azure = Azure(posts=[LOST], lists=[NONE, listed(a_job(began=START - 1.5))])
    lose_and_settle(azure)
    assert len(azure.asked("posts")) == 1


def test_of_several_backups_since_the_first_is_the_lost_one() -> None:
    later = a_job(job_id=OTHER, began=START + 100)
    azure = Azure(posts=[LOST], lists=[NONE, listed(later, a_job("Failed", began=START + 2))])
    this = a_try()
    assert this.secure(azure).ref == JOB


# --- what is reported


def test_what_was_found_and_done_is_told_in_sentences() -> None:
    this = a_try()
    this.secure(Azure(posts=[LOST, ACCEPTED]))
    assert len(this.told) == 4
    assert "not known whether Azure has accepted it" in this.told[0]
    assert "asking again" in this.told[1]
    assert OPERATION.operation_id in this.told[2]
    assert NEW in this.told[3]

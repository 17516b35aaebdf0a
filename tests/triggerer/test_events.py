"""A watched asset hears of each end of a backup once, though triggerers die without a goodbye."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections import Counter, deque
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.triggers.base import BaseTrigger

from airflow_provider_azbackup.core.model.jobs import Job, Outcome
from airflow_provider_azbackup.core.model.resources import JobRef, Vault
from airflow_provider_azbackup.core.model.validation import END_OUTCOMES
from airflow_provider_azbackup.core.polling.checkpoint import Checkpoint
from airflow_provider_azbackup.core.polling.waits import Listing
from airflow_provider_azbackup.exceptions import AzureBackupConfigError
from airflow_provider_azbackup.runtime.compat import takes_queue
from airflow_provider_azbackup.triggers import AzureBackupEventTrigger
from azure_backup_emulator import Emulator

shared_stream = pytest.importorskip(
    "airflow.triggers.shared_stream", reason="Airflow below 3.3 has no shared streams"
)

from airflow.sdk import Asset, AssetWatcher  # noqa: E402  # after the skip above
from airflow.sdk.exceptions import ErrorType  # noqa: E402  # likewise
from airflow.sdk.execution_time import comms, task_runner  # noqa: E402  # likewise
from airflow.sdk.execution_time.context import AssetStateStoreAccessors  # noqa: E402  # likewise

from airflow_provider_azbackup.triggerer.checkpoints import VariableStore  # noqa: E402  # likewise
from airflow_provider_azbackup.triggerer.watches import (  # noqa: E402  # likewise
    SharedList,
    Watch,
    WatchedVault,
    ends_without_sharing,
    watching,
)
from tests.support.virtual import hang_up, settle  # noqa: E402  # likewise

PATH = "airflow_provider_azbackup.triggers.AzureBackupEventTrigger"
JOBS = "/backupJobs"


class KilledError(Exception):
    """The triggerer is gone: nothing that it still does reaches anybody."""


class Airflow:
    """What outlives a triggerer: asset states, Variables, and the events of assets."""

    def __init__(self) -> None:
        self.states: dict[tuple[str, str], Any] = {}
        self.variables: dict[str, str] = {}
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.alive = True
        self.trouble = 0  # so many questions go unanswered

    async def asend(self, message: Any) -> Any:
        await asyncio.sleep(0)
        if not self.alive:
            raise KilledError
        if self.trouble:
            self.trouble -= 1
            raise ConnectionError("the API server is away")
        match message:
            case comms.GetAssetStateStoreByName(name=name, key=key):
                if (name, key) not in self.states:
                    return comms.ErrorResponse(error=ErrorType.ASSET_STORE_NOT_FOUND)
                return comms.AssetStateStoreResult(value=self.states[name, key])
            case comms.SetAssetStateStoreByName(name=name, key=key, value=value):
                self.states[name, key] = json.loads(json.dumps(value))
                return comms.OKResponse(ok=True)
            case comms.GetVariable(key=key):
                if key not in self.variables:
                    return comms.ErrorResponse(error=ErrorType.VARIABLE_NOT_FOUND)
                return comms.VariableResult(key=key, value=self.variables[key])
            case comms.PutVariable(key=key, value=value):
                self.variables[key] = value
                return None
        return None

    def send(self, message: Any) -> None:
        """Take what workers and hooks report in passing, such as secrets to mask."""

    def told(self, asset: str = "backups") -> Counter[str]:
        """How often each job's end has come."""
        return Counter(end["job_id"] for end in self.ends(asset))

    def again(self) -> Counter[str]:
        """How often it came and said that it may have come before."""
        return Counter(end["job_id"] for end in self.ends() if end["redelivered"])

    def ends(self, *assets: str) -> list[dict[str, Any]]:
        """All that the events have reported, of some assets or of all."""
        payloads = [payload for name, payload in self.events if not assets or name in assets]
        return [end for payload in payloads for end in payload["backups"]]


class Triggerer:
    """One life of a triggerer of Airflow 3.3: its own manager of shared streams, and what runs triggers.

    :param watches: the arguments of the trigger of each asset, as the database holds them.
    """

    def __init__(self, airflow: Airflow, watches: dict[str, dict[str, Any]]) -> None:
        self.airflow, self.watches = airflow, watches
        self.outbound: deque[tuple[str, dict[str, Any], int | None]] = deque()
        self.stored: list[int] = []
        self.failed: list[BaseException] = []

    async def live(
        self, over: Callable[[Triggerer], bool], *, stores: bool = True, confirms: bool = True
    ) -> None:
        """Run until it is over, and then die.

        :param over: asked at each round.
        :param stores: False is a triggerer that dies before it stores what triggers hand to it.
        :param confirms: False is one that dies before it says what it has stored.
        """
        manager = shared_stream.SharedStreamManager()
        tasks = [
            asyncio.create_task(self._run(manager, number, asset, arguments))
            for number, (asset, arguments) in enumerate(self.watches.items())
        ]
        try:
            while not over(self):
                # As Airflow's own loop: first what was stored since the last round, then what is new.
                if confirms:
                    manager.confirm_persisted(self.stored)
                self.stored = []
                while stores and self.outbound:
                    asset, payload, seq = self.outbound.popleft()
                    self.airflow.events.append((asset, payload))
                    self.stored += [] if seq is None else [seq]
                await asyncio.sleep(0.002)
        finally:
            self.airflow.alive = False
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await manager.stop_all()
            await settle()
            await hang_up()
            self.airflow.alive = True

    async def _run(self, manager: Any, number: int, asset: str, arguments: dict[str, Any]) -> None:
        """As ``TriggerRunner.run_trigger`` does."""
        trigger = AzureBackupEventTrigger(**json.loads(json.dumps(arguments)))
        trigger.asset_state_store = AssetStateStoreAccessors(
            inlets=[Asset(name) for name in asset.split("+")]
        )
        key = trigger.shared_stream_key()
        stream = manager.subscribe(trigger_id=number, trigger=trigger, key=key)
        try:
            async for event in trigger.filter_shared_stream(stream):
                seq = manager.bind_pending_event(trigger_id=number, key=key)
                self.outbound.append((asset, json.loads(json.dumps(event.payload)), seq))
        except Exception as error:
            self.failed.append(error)
        finally:
            await manager.unsubscribe(number, key)


@pytest.fixture
def airflow(monkeypatch: pytest.MonkeyPatch) -> Airflow:
    found = Airflow()
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", found, raising=False)
    return found


def arguments(**changes: Any) -> dict[str, Any]:
    path, stored = AzureBackupEventTrigger(**changes).serialize()
    assert path == PATH
    return stored


def live(airflow: Airflow, over: Callable[[Triggerer], bool], watches: Any = None, **how: Any) -> Triggerer:
    triggerer = Triggerer(airflow, watches or {"backups": arguments()})
    asyncio.run(triggerer.live(over, **how))
    assert triggerer.failed == []
    return triggerer


def lists(azure: Emulator) -> int:
    return len([entry for entry in azure.requests if entry["path"].endswith(JOBS)])


def after_lists(azure: Emulator, count: int) -> Callable[[Triggerer], bool]:
    """Until so many more pages of lists were read, and no event is on its way."""
    goal = lists(azure) + count

    def over(triggerer: Triggerer) -> bool:
        kept = triggerer.airflow.states.values()
        return lists(azure) >= goal and bool(kept) and not any(mark.get("sent") for mark in kept)

    return over


def start_jobs(azure: Emulator, ends: Iterable[float], item: str = "vm-good", **plan: Any) -> list[str]:
    """Start jobs of an item that end so many seconds from now."""
    return [azure.start_job(item, seconds=seconds, **plan) for seconds in ends]


# What was asked for: five hundred ends, two kills


@pytest.mark.parametrize(
    ("deaths", "count"),
    [
        pytest.param([{}, {}], 100, id="between two lists"),
        pytest.param([{"stores": False}, {"stores": False}], 100, id="while events are on their way"),
        pytest.param([{"stores": False}, {}], 500, id="one of each"),
    ],
)
def test_each_end_is_told_once_though_the_triggerer_is_killed_twice(
    azure: Emulator, clock: Any, airflow: Airflow, deaths: list[dict[str, bool]], count: int
) -> None:
    live(airflow, after_lists(azure, 1))
    ids = start_jobs(azure, [60 + 3500 * number / count for number in range(count)])
    for death in deaths:
        live(airflow, after_lists(azure, 4))
        live(airflow, lambda triggerer: bool(triggerer.outbound), **death) if death else None
        clock.advance(400)  # nobody watches, and backups go on ending
    live(airflow, lambda triggerer: len(airflow.told()) >= count)
    assert airflow.told() == Counter(ids)
    assert all(end["outcome"] == "succeeded" for end in airflow.ends())


def test_a_kill_behind_the_storing_repeats_what_nobody_could_note_and_says_so(
    azure: Emulator, clock: Any, airflow: Airflow
) -> None:
    live(airflow, after_lists(azure, 1))
    ids = start_jobs(azure, [60 + 14 * number for number in range(60)])
    live(airflow, lambda triggerer: len(airflow.events) > 0, confirms=False)
    first = set(airflow.told())
    live(airflow, lambda triggerer: len(airflow.told()) >= 60)
    told, again = airflow.told(), airflow.again()
    assert set(told) == set(ids)
    assert {job_id for job_id, times in told.items() if times > 1} == first
    assert all(times <= 1 + again[job_id] for job_id, times in told.items())


class SlowStore:
    """Keeps the last value that it is done with; each takes its own time."""

    def __init__(self) -> None:
        self.value: Any = None
        self.slow = False

    async def load(self) -> Any:
        return self.value

    async def save(self, value: Any) -> None:
        slow, self.slow = self.slow, False
        await asyncio.sleep(0.05 if slow else 0)
        self.value = value


def test_what_is_noted_of_one_list_is_not_lost_to_what_is_noted_of_another() -> None:
    vault = Vault(subscription_id="s", resource_group_name="rg", name="v")
    at = 1_790_000_000.0

    def ended(name: str, when: float) -> Job:
        moments = [datetime.fromtimestamp(moment, UTC).isoformat() for moment in (at - 60, when)]
        return Job(
            ref=JobRef(vault=vault, job_id=name),
            status="Completed",
            operation="Backup",
            start_time=moments[0],
            end_time=moments[1],
        )

    def shared(when: float, *jobs: Job) -> SharedList:
        return SharedList(listing=Listing(jobs=jobs, after=0.0, at=when))

    async def main() -> Any:
        store = SlowStore()
        store.value = Checkpoint.begin(at).to_dict()
        watch = Watch(store, outcomes=[Outcome.SUCCEEDED], subject=None, log=logging.getLogger())
        await watch.load()
        first, second = shared(at + 10, ended("a", at + 5)), shared(at + 20, ended("b", at + 15))
        assert len(await watch.new_ends(first)) == 1
        store.slow = True
        # Airflow says that it has stored the first when the second is just sent off.
        await asyncio.gather(first.save(), watch.new_ends(second))
        return store.value

    kept = asyncio.run(main())
    assert (list(kept["reported"]), kept["sent"]) == (["a"], ["b"])


# What an event says, and of what


def test_an_event_carries_what_a_dag_needs(azure: Emulator, airflow: Airflow) -> None:
    live(airflow, after_lists(azure, 1))
    (job_id,) = start_jobs(azure, [600])
    live(airflow, lambda triggerer: len(airflow.events) > 0)
    ((asset, payload),) = airflow.events
    assert asset == "backups"
    (end,) = payload["backups"]
    assert end["arm_id"].endswith(f"/backupJobs/{job_id}")
    assert (end["item"], end["status"], end["outcome"]) == ("vm-good", "Completed", "succeeded")
    assert end["start_time"] < end["end_time"]
    assert end["duration_seconds"] == pytest.approx(600, abs=2)
    assert end["redelivered"] is False
    assert azure.connection()["password"] not in json.dumps(payload)


ENDINGS = {
    "Completed": "succeeded",
    "CompletedWithWarnings": "warned",
    "Failed": "failed",
    "Cancelled": "cancelled",
    "CancelledInTransfer": "cancelled",
}


@pytest.mark.parametrize("outcomes", [[end] for end in END_OUTCOMES])
def test_a_watch_tells_the_ends_it_is_asked_for(
    azure: Emulator, airflow: Airflow, outcomes: list[str]
) -> None:
    watches = {"backups": arguments(outcomes=outcomes)}
    live(airflow, after_lists(azure, 1), watches)
    ids = {ending: start_jobs(azure, [60], ending=ending)[0] for ending in ENDINGS}
    live(airflow, after_lists(azure, 8), watches)
    assert airflow.told() == Counter(ids[ending] for ending, end in ENDINGS.items() if [end] == outcomes)


def test_a_failure_is_told_with_its_reasons(azure: Emulator, airflow: Airflow) -> None:
    watches = {"backups": arguments(outcomes=["failed"])}
    live(airflow, after_lists(azure, 1), watches)
    start_jobs(azure, [60], item="vm-fails", ending="Failed")
    live(airflow, lambda triggerer: len(airflow.events) > 0, watches)
    assert airflow.ends()[0]["errors"][0]["title"]


@pytest.mark.parametrize("how", ["name", "machine", "item"])
def test_a_watch_on_one_item_hears_of_no_other(azure: Emulator, airflow: Airflow, how: str) -> None:
    vm = next(item for item in azure.service.world.items if item.name == "vm-good")
    named = {"name": "vm-good", "machine": vm.source_id, "item": vm.path}[how]
    watches = {"backups": arguments(protected_item=named)}
    live(airflow, after_lists(azure, 1), watches)
    (ours,) = start_jobs(azure, [60])
    start_jobs(azure, [60], item="vm-fails")
    live(airflow, after_lists(azure, 4), watches)
    assert set(airflow.told()) == {ours}


def test_what_ended_before_the_watch_began_is_history(azure: Emulator, clock: Any, airflow: Airflow) -> None:
    start_jobs(azure, [60, 600])
    clock.advance(1200)
    (runs,) = start_jobs(azure, [300])
    live(airflow, after_lists(azure, 4))
    assert airflow.told() == Counter([runs])


# Sharing


def test_watches_on_a_vault_share_its_lists_and_each_has_its_own_place(
    azure: Emulator, airflow: Airflow
) -> None:
    watches = {f"asset-{number}": arguments(outcomes=END_OUTCOMES[: 1 + number % 4]) for number in range(4)}
    live(airflow, after_lists(azure, 1), watches)
    ids = start_jobs(azure, [60 + 30 * number for number in range(40)])
    before = lists(azure)
    live(airflow, lambda triggerer: len(airflow.ends()) >= 160, watches)
    assert all(airflow.told(asset) == Counter(ids) for asset in watches)
    assert lists(azure) - before <= 1300 / (0.85 * 300) + 3
    assert {name for name, _ in airflow.states} == set(watches)


def test_two_assets_with_equal_triggers_share_one_and_both_keep_its_place(
    azure: Emulator, airflow: Airflow
) -> None:
    watches = {"one+two": arguments()}
    live(airflow, after_lists(azure, 1), watches)
    assert {name for name, _ in airflow.states} == {"one", "two"}
    ids = start_jobs(azure, [60])
    del airflow.states["one", "azure_backup_events"]  # as if that one had come later
    live(airflow, lambda triggerer: len(airflow.events) > 0, watches)
    assert airflow.told("one+two") == Counter(ids)


# Trouble


def test_faults_of_azure_miss_and_repeat_nothing(azure: Emulator, airflow: Airflow) -> None:
    live(airflow, after_lists(azure, 1))
    ids = start_jobs(azure, [60 + 30 * number for number in range(60)])
    azure.fault(path=JOBS, status=429, retry_after=60, times=2, after=1)
    azure.fault(path=JOBS, reset=True, times=2, after=4)
    azure.fault(path=JOBS, status=403, times=8, after=6)
    live(airflow, lambda triggerer: len(airflow.told()) >= 60)
    assert airflow.told() == Counter(ids)


def test_an_api_server_that_is_away_for_a_moment_misses_and_repeats_nothing(
    azure: Emulator, airflow: Airflow
) -> None:
    live(airflow, after_lists(azure, 1))
    ids = start_jobs(azure, [60 + 60 * number for number in range(20)])
    airflow.trouble = 3  # where the mark should be read
    live(airflow, after_lists(azure, 2))
    due = deque([1, 3])

    def over(triggerer: Triggerer) -> bool:
        if due and len(airflow.events) >= due[0]:
            due.popleft()
            airflow.trouble = 2  # and where it should be written
        return len(airflow.told()) >= 20

    live(airflow, over)
    assert airflow.told() == Counter(ids)


def test_a_mark_that_nobody_can_read_lets_the_watch_begin_anew(azure: Emulator, airflow: Airflow) -> None:
    airflow.states["backups", "azure_backup_events"] = {"version": 99}
    live(airflow, after_lists(azure, 1))
    ids = start_jobs(azure, [60])
    live(airflow, lambda triggerer: len(airflow.events) > 0)
    assert airflow.told() == Counter(ids)


# Airflow 3.0 to 3.2: a Variable, and no word of what is stored


def test_below_airflow_3_3_a_variable_keeps_the_place(azure: Emulator, clock: Any, airflow: Airflow) -> None:
    trigger = AzureBackupEventTrigger()
    store = VariableStore(*trigger.serialize())
    told: Counter[str] = Counter()

    async def life(count: int) -> None:
        place = WatchedVault(**trigger._where())
        async with watching(
            place, store, outcomes=trigger.outcomes, protected_item=None, log=trigger.log
        ) as watch:
            lists = ends_without_sharing(place, watch)
            while len(told) < count:
                told.update(end["job_id"] for end in await anext(lists))
            await lists.aclose()
        await settle()
        await hang_up()

    ids = start_jobs(azure, [600 + 400 * number for number in range(10)])
    asyncio.run(life(3))
    clock.advance(2000)
    asyncio.run(life(10))
    assert set(told) == set(ids)
    # Those of the last list were on their way, and may come twice.
    assert sum(told.values()) <= 12
    assert len(airflow.variables) == 1
    assert (
        VariableStore(*AzureBackupEventTrigger(outcomes=["failed"]).serialize()).name not in airflow.variables
    )


# The trigger as Airflow stores it


def test_serialize_rebuilds_an_equal_trigger_from_plain_json() -> None:
    stored = arguments(
        protected_item="vm-good", outcomes=("failed", "succeeded", "failed"), vault_name="v", poll_interval=60
    )
    again = AzureBackupEventTrigger(**json.loads(json.dumps(stored)))
    assert again.serialize() == (PATH, stored)
    assert stored["outcomes"] == ["succeeded", "failed"]


def test_airflow_takes_it_for_the_trigger_of_a_watcher() -> None:
    trigger = AzureBackupEventTrigger()
    assert AssetWatcher(name="azure-backup", trigger=trigger).trigger is trigger
    assert isinstance(trigger, BaseTrigger)


def test_a_queue_is_for_airflow_where_it_takes_one_and_is_refused_elsewhere() -> None:
    if not takes_queue():
        with pytest.raises(AzureBackupConfigError, match=r"^queue='eu' needs Airflow 3\.4"):
            AzureBackupEventTrigger(queue="eu")
        return
    trigger: Any = AzureBackupEventTrigger(queue="eu")
    assert trigger.queue == "eu"
    # Airflow keeps it next to the arguments.
    assert trigger.serialize() == AzureBackupEventTrigger().serialize()


def test_watches_share_a_stream_only_where_all_that_it_reads_by_is_equal() -> None:
    key = AzureBackupEventTrigger().shared_stream_key()
    assert key == AzureBackupEventTrigger(outcomes=["failed"], protected_item="vm-good").shared_stream_key()
    assert hash(key) is not None
    for other in ({"vault_name": "v"}, {"azure_backup_conn_id": "other"}, {"poll_interval": 60.0}):
        assert key != AzureBackupEventTrigger(**other).shared_stream_key()


@pytest.mark.parametrize(
    "wrong",
    [
        {"outcomes": []},
        {"outcomes": ["good"]},
        {"outcomes": "good"},
        {"poll_interval": 0},
        {"poll_interval": True},
        {"poll_interval": float("nan")},
        {"protected_item": " "},
        {"protected_item": "/subscriptions/s/nonsense"},
        {"vault_type": "Vault"},
    ],
)
def test_what_can_be_no_watch_is_refused_when_it_is_made(wrong: dict[str, Any]) -> None:
    with pytest.raises(AzureBackupConfigError):
        AzureBackupEventTrigger(**wrong)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_the_examples_of_the_docs_are_dags(number: int) -> None:
    text = (Path(__file__).parents[2] / "docs" / "events.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 3
    exec(compile(blocks[number], "events.md", "exec"), {})


@pytest.mark.parametrize(
    "name", ["protected_item", "vault_name", "resource_group_name", "subscription_id", "azure_backup_conn_id"]
)
def test_a_template_that_would_not_be_rendered_is_refused(name: str) -> None:
    with pytest.raises(
        AzureBackupConfigError, match=f"^{name} is .*renders no templates of an event trigger"
    ):
        AzureBackupEventTrigger(**{name: "{{ params.x }}"})


def test_the_poll_interval_is_seconds_or_a_timedelta() -> None:
    _, stored = AzureBackupEventTrigger(poll_interval=timedelta(minutes=10)).serialize()
    assert stored["poll_interval"] == 600
    with pytest.raises(AzureBackupConfigError, match=r"^poll_interval is .*not a template"):
        AzureBackupEventTrigger(poll_interval="{{ params.x }}")

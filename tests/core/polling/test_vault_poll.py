"""A list is a hint: whatever lists leave out, delay or lose, no wait ends but by its job or its deadline."""

from __future__ import annotations

import asyncio
import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_azbackup.core.conversations.jobs import ListedJob
from airflow_provider_azbackup.core.model.resources import JobRef, Vault
from airflow_provider_azbackup.core.polling.vault_poll import JobWaiter, VaultPoll
from airflow_provider_azbackup.core.wire import Answer, NoResponse, Request, Response
from airflow_provider_azbackup.exceptions import AzureBackupTimeoutError
from tests.support.virtual import HOUR, START, Azure, LoopClock, poller, run, wait_for

VAULT = Vault(subscription_id="11111111-2222-3333-4444-555555555555", resource_group_name="rg", name="v")
URL = f"https://management.azure.com{VAULT.path}/backupJobs"


def job(job_id: str, status: str = "InProgress", **properties: Any) -> dict[str, Any]:
    """A job as a list shows it, about as long as Azure's."""
    return {
        "id": f"{VAULT.path}/backupJobs/{job_id}",
        "name": job_id,
        "type": "Microsoft.RecoveryServices/vaults/backupJobs",
        "properties": {
            "jobType": "AzureIaaSVMJob",
            "duration": "PT41M15.9456185S",
            "actionsInfo": ["Cancellable"],
            "virtualMachineVersion": "Compute",
            "isUserTriggered": True,
            "entityFriendlyName": "vm-good",
            "backupManagementType": "AzureIaasVM",
            "operation": "Backup",
            "status": status,
            "startTime": "2026-09-21T13:33:20.8490716Z",
            "activityId": "0f0a2b5e-0000-11ed-8f0e-c8f750f92764",
            **properties,
        },
    }


def page(*jobs: dict[str, Any], at: float, link: str | None = None) -> Response:
    return Response(status=200, at=at, url=URL, text=json.dumps({"value": jobs, "nextLink": link}))


class Waits:
    """Waits on one vault, and what was reported to them."""

    def __init__(self, *job_ids: str) -> None:
        self.poll = VaultPoll(VAULT, START)
        self.told: dict[str, Answer] = {}
        self.waiters = {
            name: JobWaiter(JobRef(vault=VAULT, job_id=name), interval=60.0, since=START) for name in job_ids
        }
        for waiter in self.waiters.values():
            self.poll.add(waiter)

    def ask(self, at: float, due: float | None = None) -> None:
        for name, waiter in self.waiters.items():
            waiter.ask(self._teller(name), not_before=at, due=at if due is None else due)

    def _teller(self, name: str) -> Any:
        return lambda answer: self.told.__setitem__(name, answer)

    def play(self, at: float, *answers: Answer) -> list[Request]:
        """Make one turn; the calls that were made."""
        flow, calls, left = self.poll.turn(at), [], [*answers]
        try:
            step = next(flow)
            while True:
                if step is not None:
                    calls.append(step)
                step = flow.send(None if step is None else left.pop(0))
        except StopIteration:
            assert not left
            return calls


def test_news_is_told_at_once_and_no_news_when_it_is_due() -> None:
    waits = Waits("a", "b")
    waits.ask(START)
    waits.play(START, page(job("a"), job("b"), at=START))
    assert waits.told.keys() == {"a", "b"}
    waits.told.clear()
    waits.ask(START, due=START + 100)
    waits.poll._listed_at = START - 100  # as if another wait had been due
    waits.waiters["a"].due = START + 50
    waits.play(START + 50, page(job("a"), job("b", "Completed"), at=START + 50))
    assert waits.told.keys() == {"a", "b"}
    listed = waits.told["b"]
    assert isinstance(listed, ListedJob)
    assert (listed.job.status, listed.at) == ("Completed", START + 50)


def test_no_answer_comes_before_it_is_wanted() -> None:
    waits = Waits("a", "b")
    waits.ask(START)
    waits.waiters["a"].not_before = START + 30
    waits.play(START, page(job("a", "Completed"), job("b"), at=START))
    assert waits.told.keys() == {"b"}


def test_who_no_longer_asks_hears_nothing() -> None:
    waits = Waits("a", "b")
    waits.ask(START)
    waits.poll.remove(waits.waiters["a"])
    waits.poll.add(JobWaiter(JobRef(vault=VAULT, job_id="c"), interval=60.0, since=START))
    waits.play(START, page(job("a", "Completed"), job("b"), at=START))
    assert waits.told.keys() == {"b"}


def test_a_sweep_without_questions_is_never_due_and_asks_nothing() -> None:
    waits = Waits("a", "b")
    assert waits.poll.due() == float("inf")
    assert waits.play(START) == []


def test_a_page_of_thousands_of_jobs_is_read_in_short_steps() -> None:
    """The event loop serves others: few waits are answered in one step, however much there is to answer."""
    names = [f"00000000-0000-4000-8000-{number:012}" for number in range(1000)]
    waits = Waits(*names)
    waits.ask(START)
    flow = waits.poll.turn(START)
    step, told = next(flow), [0]
    sent: Answer | None = page(*(job(name) for name in names), at=START)
    while True:
        try:
            step = flow.send(sent)
        except StopIteration:
            break
        finally:
            told.append(len(waits.told))
        assert step is None
        sent = None
    assert told[-1] == 1000
    assert max(after - before for before, after in pairwise(told)) <= 100


FAULTS = st.sampled_from(
    [
        {"status": 429, "retry_after": 400},
        {"status": 429},
        {"status": 500},
        {"status": 503, "retry_after": 5},
        {"reset": True},
        {"truncate": True},
        {"html": True},
        {"empty": True},
        {"garbage": '{"value": [{"name": null, "properties": []}]}'},
        {"garbage": '{"value": [], "nextLink": null}'},
        {"next_link": "https://elsewhere.example"},
    ]
)
LIVES = st.fixed_dictionaries(
    {
        "seconds": st.integers(1, 9000),
        "ago": st.sampled_from([0, 0, 0, 3000, 100_000, 2_700_000]),
        "ending": st.sampled_from(
            [
                "Completed",
                "Completed",
                "Failed",
                "Cancelled",
                "CompletedWithWarnings",
                "CancelledInTransfer",
                "Never",
            ]
        ),
        "visible_after": st.sampled_from([0, 0, 0, 200, 5000, 1_000_000]),
    }
)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    lives=st.lists(LIVES, min_size=1, max_size=12),
    faults=st.lists(st.tuples(st.integers(0, 40), st.integers(1, 5), FAULTS), max_size=5),
    page_size=st.integers(1, 7),
    budget=st.sampled_from([60, 150, 5000]),
    skew=st.sampled_from([0.0, 0.0, -400.0, 400.0]),
    words=st.lists(st.tuples(st.integers(0, 11), st.sampled_from(["Hibernating", "Cancelling"])), max_size=2),
)
def test_a_wait_ends_by_its_jobs_real_end_or_its_deadline_and_always_ends(
    lives: list[dict[str, Any]],
    faults: list[tuple[int, int, dict[str, Any]]],
    page_size: int,
    budget: int,
    skew: float,
    words: list[tuple[int, str]],
) -> None:
    async def main(clock: LoopClock) -> None:
        azure = Azure(clock, page_size=page_size, job_read_budget=budget, clock_skew=skew)
        refs = []
        for life in lives:
            life = {**life, "seconds": life["ago"] + life["seconds"]}
            refs.append(azure.start(**life))
        for number, word in words:
            azure.service.set_status(refs[number % len(refs)].job_id, word)
        for after, times, fault in faults:
            azure.service.add_fault(path="/backupJobs", after=after, times=times, **fault)
        shared, deadline = poller(azure), START + 3 * HOUR
        waits = await asyncio.gather(*(wait_for(shared, clock, ref, deadline=deadline) for ref in refs))
        await shared.close()
        for wait in waits:
            real = azure.service.world.jobs[wait.ref.job_id]
            if wait.job:
                assert azure.end_of(wait.ref) <= wait.ended <= deadline + 61
                assert wait.job.status == real.status(azure.service.clock())
                assert (
                    wait.job.outcome.value
                    == {
                        "Completed": "succeeded",
                        "CompletedWithWarnings": "warned",
                        "CancelledInTransfer": "cancelled",
                        "Cancelled": "cancelled",
                        "Failed": "failed",
                    }[real.ending]
                )
            else:
                assert isinstance(wait.error, AzureBackupTimeoutError), wait.error
                assert deadline <= wait.ended <= deadline + 61
                # It had not ended long before.
                assert azure.end_of(wait.ref) > deadline - 1800 or budget == 60

    run(main)


@pytest.mark.parametrize("lost", [True, False])
def test_a_fault_of_the_vault_is_told_to_all_who_ask(lost: bool) -> None:
    waits = Waits("a", "b")
    waits.ask(START)
    fault = NoResponse(reason="no answer", at=START) if lost else Response(status=403, at=START, url=URL)
    waits.play(START, fault)
    assert [*waits.told.values()] == [fault, fault]

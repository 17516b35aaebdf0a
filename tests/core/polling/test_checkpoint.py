"""Each end of a backup is reported once, whatever lists show late, and however often a watch restarts."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_azbackup.core.model.jobs import Job
from airflow_provider_azbackup.core.model.resources import JobRef, Vault
from airflow_provider_azbackup.core.polling.checkpoint import HEAD_START, LAG, Checkpoint, advance

START = 1_790_000_000.0
VAULT = Vault(subscription_id="11111111-2222-3333-4444-555555555555", resource_group_name="rg", name="v")


def iso(at: float | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat()


def job(
    name: str,
    began: float,
    ended: float | None = None,
    *,
    status: str = "Completed",
    operation: str = "Backup",
) -> Job:
    return Job(
        ref=JobRef(vault=VAULT, job_id=name),
        status="InProgress" if ended is None else status,
        operation=operation,
        start_time=iso(began),
        end_time=iso(ended),
    )


def names(ends: list[Job]) -> list[str]:
    return [each.ref.job_id for each in ends]


def stored(checkpoint: Checkpoint) -> Checkpoint:
    """What comes back after a restart."""
    found = Checkpoint.from_dict(json.loads(json.dumps(checkpoint.to_dict())))
    assert found is not None
    return found


def test_what_ended_before_the_watch_began_is_not_told() -> None:
    checkpoint = Checkpoint.begin(START)
    checkpoint, ends = advance(
        checkpoint, [job("a", START - 900, START - 1), job("b", START - 900)], START + 1
    )
    assert names(ends) == []
    checkpoint, ends = advance(
        checkpoint, [job("a", START - 900, START - 1), job("b", START - 900, START + 5)], START + 60
    )
    assert names(ends) == ["b"]


def test_two_that_end_in_one_moment_are_two() -> None:
    checkpoint = Checkpoint.begin(START)
    _, ends = advance(checkpoint, [job("a", START, START + 5), job("b", START, START + 5)], START + 9)
    assert names(ends) == ["a", "b"]


def test_an_end_is_told_once_even_if_an_older_copy_of_the_list_shows_it_running_again() -> None:
    checkpoint = Checkpoint.begin(START)
    checkpoint, ends = advance(checkpoint, [job("a", START, START + 5)], START + 10)
    assert names(ends) == ["a"]
    checkpoint, ends = advance(checkpoint, [job("a", START)], START + 20)
    assert names(ends) == []
    checkpoint, ends = advance(checkpoint, [job("a", START, START + 5)], START + 30)
    assert names(ends) == []


def test_backups_of_logs_and_other_jobs_are_no_backups() -> None:
    checkpoint = Checkpoint.begin(START)
    checkpoint, _ = advance(checkpoint, [job("a", START)], START + 1)  # Azure has not looked yet what it is
    done = [
        job("a", START, START + 5, operation="Backup (Log)"),
        job("b", START, START + 5, operation="Restore"),
        job("c", START, START + 5, operation="Backup (Full)"),
    ]
    checkpoint, ends = advance(checkpoint, done, START + 10)
    assert names(ends) == ["c"]
    assert checkpoint.running == {}


def test_a_long_backup_is_told_long_after_its_beginning_is_done_with() -> None:
    checkpoint = Checkpoint.begin(START)
    checkpoint, _ = advance(checkpoint, [job("a", START - HEAD_START + 60)], START)
    for hour in range(1, 40):
        checkpoint, _ = advance(stored(checkpoint), [job("a", START - HEAD_START + 60)], START + hour * 3600)
    assert checkpoint.oldest <= START - HEAD_START + 60
    end = START + 40 * 3600
    _, ends = advance(checkpoint, [job("a", START - HEAD_START + 60, end)], end)
    assert names(ends) == ["a"]


def test_a_status_that_nobody_knows_is_no_end() -> None:
    _, ends = advance(Checkpoint.begin(START), [job("a", START, START + 5, status="Hibernating")], START + 10)
    assert names(ends) == []


def test_only_news_is_written_down() -> None:
    began = Checkpoint.begin(START)
    assert began.is_news_to(None)
    settled, _ = advance(began, [], START)
    quiet, _ = advance(settled, [], START + 60)
    assert not quiet.is_news_to(settled)
    started, _ = advance(quiet, [job("a", START + 70)], START + 80)
    assert started.is_news_to(quiet)
    over, ends = advance(started, [job("a", START + 70, START + 90)], START + 100)
    assert over.is_news_to(started)
    assert over.is_news_to(over.sending(ends))
    assert advance(over, [], START + 2 * LAG)[0].is_news_to(over)


def test_what_is_kept_does_not_grow_with_time() -> None:
    checkpoint = Checkpoint.begin(START)
    for minute in range(600):
        at = START + minute * 60
        checkpoint, ends = advance(checkpoint, [job(f"{minute}", at - 50, at - 1)], at)
        assert len(ends) == (minute > 0)
    assert len(checkpoint.reported) <= LAG / 60 + 1


@pytest.mark.parametrize("strange", [None, 7, "x", {}, {"version": 2}, {"version": 1, "began": "soon"}])
def test_what_is_no_mark_is_not_read_as_one(strange: Any) -> None:
    assert Checkpoint.from_dict(strange) is None


@dataclass(frozen=True)
class Backup:
    """How one backup goes; seconds from the beginning of the watch."""

    begins: int
    lasts: int
    hidden: int  # for so long no list shows it
    stale: int  # for so long lists show it running when it is over

    def seen(self, name: str, at: float) -> Job | None:
        begins, ends = START + self.begins, START + self.begins + self.lasts
        if at < begins + self.hidden:
            return None
        return job(name, begins, ends if at >= ends + self.stale else None)


BACKUPS = st.builds(
    Backup,
    begins=st.integers(-7200, 20_000),
    lasts=st.sampled_from([0, 1, 60, 600, 4000, 9000]),
    hidden=st.integers(0, 1500),
    stale=st.integers(0, 1500),
)
STEPS = st.sampled_from(
    ["look", "look", "look", "restart", "kill on the way", "kill afterwards", "old list", "away"]
)


@settings(max_examples=150, deadline=None)
@given(backups=st.lists(BACKUPS, max_size=12), steps=st.lists(STEPS, max_size=40))
def test_each_end_is_told_once_whatever_happens(backups: list[Backup], steps: list[str]) -> None:
    """A kill while events are on their way may report them again, and then they say so; nothing else does."""
    at = START
    checkpoint = kept = Checkpoint.begin(at)
    reported: Counter[str] = Counter()
    lost: set[str] = set()
    sent = frozenset[str]()

    def shown(when: float) -> list[Job]:
        seen = (backup.seen(str(name), when) for name, backup in enumerate(backups))
        return [each for each in seen if each is not None and each.began >= checkpoint.oldest]

    for step in (*steps, *["look"] * 30):
        at += {"away": 9000.0, "restart": 0.0}.get(step, 900.0)
        if step == "restart":
            checkpoint, sent = stored(kept), kept.sent
            continue
        listed = at - 600 if step == "old list" else at
        new, ends = advance(checkpoint, shown(listed), at)
        if ends:
            kept = stored(kept.sending(ends))
        if step == "kill on the way":  # Airflow has stored none of them
            checkpoint, sent = stored(kept), kept.sent
            lost |= {*names(ends)}
            continue
        for name in names(ends):
            # Reported before, and not lost: only if it says that it may have been.
            assert reported[name] == 0 or name in sent
            reported[name] += 1
        if step == "kill afterwards":  # Airflow has stored all of them, and nobody could write that down
            checkpoint, sent = stored(kept), kept.sent
            continue
        checkpoint = new
        if checkpoint.is_news_to(kept):
            kept = stored(checkpoint)
    due = {
        str(name)
        for name, backup in enumerate(backups)
        if backup.begins + backup.lasts >= 0 and START + backup.begins + backup.lasts + 5000 < at
    }
    assert due <= set(reported)
    assert all(START + backups[int(name)].begins + backups[int(name)].lasts >= START for name in reported)

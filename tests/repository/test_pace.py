"""Limits of the end-to-end tests: a busy machine has longer, an idle one has not."""

from __future__ import annotations

import os

import pytest

from dev.stack.pace import Limit, slowness, stretch


def _load(monkeypatch: pytest.MonkeyPatch, of_each_core: float) -> None:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    monkeypatch.setattr(os, "getloadavg", lambda: (of_each_core * cores, 0.0, 0.0))


def test_a_limit_lasts_longer_while_the_machine_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    _load(monkeypatch, of_each_core=0)
    slow = slowness()  # of the machine these tests run on, without any load
    limit = Limit(60, clock=lambda: now[0])
    _load(monkeypatch, of_each_core=4)
    now[0] += 4 * 50 * slow
    assert not limit.is_over
    _load(monkeypatch, of_each_core=0.5)
    now[0] += 9 * slow
    assert not limit.is_over
    now[0] += 2 * slow
    assert limit.is_over
    assert str(limit) == f"{now[0]:.0f} s (the limit is 60 s on a quiet machine)"


def test_an_idle_machine_never_makes_a_limit_shorter(monkeypatch: pytest.MonkeyPatch) -> None:
    _load(monkeypatch, of_each_core=0)
    assert slowness() >= 1


def test_what_every_run_waits_for_lasts_a_few_times_as_long_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    _load(monkeypatch, of_each_core=50)
    assert stretch(2) == 2 < slowness()

"""Both hooks hold what `make live` has recorded of real vaults; see tests/live-recordings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.live_recordings import replay_jobs
from tests.support.replay import LIVE_RECORDINGS, by_triggerer, by_worker


@pytest.mark.parametrize("run", [by_worker, by_triggerer])
def test_recordings_of_real_vaults_are_held_again(
    run: Any, azure: Any, clock: Any, connect: Callable[..., None]
) -> None:
    def use(**where: str) -> None:
        connect(azure.connection(**where))

    for path in sorted(LIVE_RECORDINGS.glob("*.json")):
        replay_jobs(path, run, use, clock)

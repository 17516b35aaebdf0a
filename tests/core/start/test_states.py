"""The states of the search for a job: what its head draws is what its table holds."""

from __future__ import annotations

from airflow_provider_azbackup.core.start import search
from tests.support.diagrams import mermaid


def test_the_picture_in_the_head_is_made_from_the_table() -> None:
    assert mermaid(search.TRANSITIONS, indent=4) in (search.__doc__ or "")


def test_every_state_is_reached_and_explained() -> None:
    reached = {state for reasons in search.TRANSITIONS.values() for state in reasons}
    assert reached == {*search.State}
    assert all(f"\n``{state.value}``\n" in (search.__doc__ or "") for state in search.State)

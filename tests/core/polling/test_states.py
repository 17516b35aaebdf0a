"""The states of a vault poll: what its head draws is what its table holds."""

from __future__ import annotations

from airflow_provider_azbackup.core.polling import vault_poll
from tests.support.diagrams import mermaid


def test_the_picture_in_the_head_is_made_from_the_table() -> None:
    assert mermaid(vault_poll.TRANSITIONS, indent=4) in (vault_poll.__doc__ or "")


def test_every_state_is_reached_and_explained() -> None:
    reached = {state for reasons in vault_poll.TRANSITIONS.values() for state in reasons}
    assert reached == {*vault_poll.State}
    assert all(f"\n``{state.value}``\n" in (vault_poll.__doc__ or "") for state in vault_poll.State)

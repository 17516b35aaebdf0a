"""The pictures that are drawn from the source show it as it is."""

from __future__ import annotations

import pytest

from dev.release.diagrams import IMAGES, PICTURES


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_drawn_anew_when_its_source_changes(name: str) -> None:
    assert (IMAGES / name).read_text() == PICTURES[name], "python -m dev.release.diagrams"

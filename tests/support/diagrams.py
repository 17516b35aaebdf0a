"""Pictures of states and of what leads from one to another, made from the tables that the code goes by."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from textwrap import indent as indented


def mermaid(transitions: Mapping[Enum, Mapping[Enum, str]], *, indent: int) -> str:
    """Return the picture as Mermaid text, with so many spaces before each line."""
    first = next(iter(transitions))
    arrows = [
        f"{state.value} --> {following.value}: {why}"
        for state, reasons in transitions.items()
        for following, why in reasons.items()
    ]
    ends = {each for reasons in transitions.values() for each in reasons} - {*transitions}
    lines = [f"[*] --> {first.value}", *arrows, *(f"{end.value} --> [*]" for end in ends)]
    return indented("\n".join(["stateDiagram-v2", *(f"    {line}" for line in lines)]), " " * indent)

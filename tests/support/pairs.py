"""Fewer test cases than all combinations: each value still meets each value of every other parameter."""

from __future__ import annotations

from itertools import combinations, product
from typing import Any

import pytest


def pairwise(*marks: pytest.MarkDecorator) -> pytest.MarkDecorator:
    """Combine ``parametrize`` marks so that every pair of their values occurs in at least one case.

    Stacked marks would make a case for every combination. Use this where a case is slow and where what can go
    wrong depends on two of the parameters at most.
    """
    names = [name for mark in marks for name in _names(mark)]
    choices = [_choices(mark) for mark in marks]
    missing = {pair for chosen in product(*map(range, map(len, choices))) for pair in _pairs(chosen)}
    cases = []
    while missing:
        best = max(
            product(*map(range, map(len, choices))),
            key=lambda chosen: len(missing.intersection(_pairs(chosen))),
        )
        missing -= _pairs(best)
        cases.append([values[number] for values, number in zip(choices, best, strict=True)])
    return pytest.mark.parametrize(
        names,
        [[value for values, _ in case for value in values] for case in cases],
        ids=["-".join(name for _, name in case) for case in cases],
    )


def _pairs(chosen: tuple[int, ...]) -> set[tuple[tuple[int, int], ...]]:
    """Return each two of the numbered values, with the numbers of their parameters."""
    return set(combinations(enumerate(chosen), 2))


def _names(mark: pytest.MarkDecorator) -> list[str]:
    names = mark.args[0]
    return [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)


def _choices(mark: pytest.MarkDecorator) -> list[tuple[tuple[Any, ...], str]]:
    """Return the values of a mark, a tuple for its names each, with the ids of the cases."""
    rows = list(mark.args[1])
    values = [tuple(row) if len(_names(mark)) > 1 else (row,) for row in rows]
    ids = mark.kwargs.get("ids") or ["-".join(map(str, row)) for row in values]
    return list(zip(values, ids, strict=True))

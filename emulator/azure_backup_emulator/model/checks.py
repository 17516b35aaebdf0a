"""Checks of seeds and control requests: each value is compared with the type of its field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints, is_typeddict

T = TypeVar("T")
# About thirty years in seconds. A larger number could lead to a date that cannot be represented.
LARGEST = 1e9
_WORDS = {str: "text", bool: "true or false", int: "a whole number", float: "a number", NoneType: "null"}


@cache
def _hints(shape: Any) -> Mapping[str, Any]:
    return get_type_hints(shape)


def made(shape: type[T], given: Mapping[str, Any], what: str) -> T:
    """Return a dataclass made of values from outside.

    :param what: what the values describe, for the error.
    :raises ValueError: if a key is unknown, or a value has the wrong type.
    """
    known(given, shape.__annotations__, what)
    fitting(shape, given, what)
    return shape(**given)


def known(given: object, names: Mapping[str, Any] | Sequence[str], what: str) -> None:
    """Refuse unknown keys.

    :raises ValueError: for the first unknown key, with the closest known key and all known keys.
    """
    if not isinstance(given, Mapping):
        raise ValueError(f"{what} must be an object with keys, not {_short(given)}")
    for key in given:
        if key not in names:
            close = get_close_matches(str(key), names, n=1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            raise ValueError(f"{what}: unknown key {_short(key)}{hint}; expected {', '.join(names)}")


def fitting(shape: Any, given: Mapping[str, Any], what: str) -> None:
    """Compare values with the types of a class's fields, or of a function's parameters.

    :raises ValueError: if one has the wrong type. Numbers must be finite and at most a thousand million.
    """
    for name, hint in _hints(shape).items():
        if name in given:
            fit(given[name], hint, f"{what}: {name}")


def fit(value: Any, hint: Any, what: str) -> None:
    """Compare a value with a type, and its content with the types inside.

    :param hint: a type as annotations write it, or a ``TypedDict``.
    :raises ValueError: if it has the wrong type.
    """
    either = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    found = next((each for each in either if _fits(value, each)), None)
    if found is None:
        raise ValueError(f"{what} must be {' or '.join(map(_worded, either))}, not {_short(value)}")
    if is_typeddict(found):
        known(value, _hints(found), what)
        if missing := sorted(found.__required_keys__ - value.keys()):
            raise ValueError(f"{what}: {', '.join(missing)} must be given")
        fitting(found, value, what)
    elif get_origin(found) is Sequence:
        for number, each in enumerate(value):
            fit(each, get_args(found)[0], f"{what}[{number}]")
    elif get_origin(found) is Mapping:
        for key, each in value.items():
            fit(each, get_args(found)[1], f"{what}.{key}")


def _fits(value: Any, kind: Any) -> bool:
    if kind is Any:
        return True
    if kind is str:
        # A lone surrogate cannot be encoded.
        return isinstance(value, str) and not any("\ud800" <= each <= "\udfff" for each in value)
    if kind in (int, float):
        number = isinstance(value, int if kind is int else int | float) and not isinstance(value, bool)
        return number and abs(value) <= LARGEST  # neither is NaN
    if get_origin(kind) is Sequence:
        return isinstance(value, list | tuple)
    return isinstance(value, Mapping if _is_object(kind) else kind)


def _is_object(kind: Any) -> bool:
    return is_typeddict(kind) or get_origin(kind) is Mapping


def _worded(kind: Any) -> str:
    if get_origin(kind) is Sequence:
        return "a list"
    return "an object" if _is_object(kind) else _WORDS[kind]


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."

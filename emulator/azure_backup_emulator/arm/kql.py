"""The small part of Kusto that clients use to find backups: a table, and pipes of a few operators.

``where`` knows ``==``, ``=~``, ``in``, ``in~``, ``<``, ``<=``, ``>``, ``>=``, ``and``, ``or`` and
parentheses. The other operators are ``project``, ``order by``, ``limit`` and ``take``. A value is a column, a
property such as ``properties.status``, a text, a number, ``datetime(...)``, or ``tostring``, ``tolower`` or
``todatetime`` of a value. Anything else is refused with the reason, never ignored.

Source: https://learn.microsoft.com/azure/governance/resource-graph/concepts/query-language
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from azure_backup_emulator.bodies.times import read_moment

Row: TypeAlias = Mapping[str, Any]
_Value: TypeAlias = Callable[[Row], Any]
_TOKEN = re.compile(
    r"\s*+(?:(?P<text>'[^'\\]*+'|\"[^\"\\]*+\")|(?P<moment>datetime\s*+\([^()]*+\))"
    r"|(?P<number>\d++(?:\.\d++)?)|(?P<word>[A-Za-z_]\w*+~?)|(?P<sign>=~|==|>=|<=|[()|,.<>=]))"
)
_DEEPEST = 20
COLUMNS = ("id", "name", "type", "location", "resourceGroup", "subscriptionId", "tags", "properties")


@dataclass(frozen=True, kw_only=True)
class Query:
    """A query that was read: call :meth:`run` with the rows of its table.

    :param table: its first word, in lower case.
    :param columns: what its rows have.
    """

    table: str
    steps: tuple[Callable[[Iterable[Row]], Iterable[Row]], ...]
    columns: tuple[str, ...]

    def run(self, rows: Iterable[Row]) -> list[Row]:
        """Return what the query makes of the rows."""
        for step in self.steps:
            rows = step(rows)
        return [*rows]


def read(text: str) -> Query:
    """Read a query.

    :raises ValueError: with the reason, if it contains anything but what this module knows.
    """
    return _Reader(text).query()


class _Reader:
    def __init__(self, text: str) -> None:
        self._tokens: list[tuple[str, str]] = []
        at, end = 0, len(text.rstrip())
        while at < end:
            match = _TOKEN.match(text, at)
            if match is None:
                raise ValueError(f"the emulator cannot read {text[at : at + 30].strip()!r}")
            self._tokens.append((match.lastgroup or "", match[match.lastgroup or 0]))
            at = match.end()
        self._tokens.append(("end", ""))
        self._at = self._depth = 0
        self._columns: tuple[str, ...] = COLUMNS

    def query(self) -> Query:
        table, steps = self._take("word"), []
        operators: Mapping[str, Callable[[], Callable[[Iterable[Row]], Iterable[Row]]]] = {
            "where": self._where,
            "project": self._project,
            "order": self._order,
            "limit": self._limit,
            "take": self._limit,
        }
        while self._is("sign", "|"):
            name = self._take("word")
            if name in operators:
                steps.append(operators[name]())
            else:
                known = ", ".join(operators)
                raise ValueError(f"the emulator does not know the operator {name!r}, only {known}")
        if self._peek()[0] != "end":
            raise ValueError(f"the emulator expected a pipe, not {self._peek()[1]!r}")
        return Query(table=table.lower(), steps=tuple(steps), columns=self._columns)

    def _peek(self) -> tuple[str, str]:
        return self._tokens[self._at]

    def _is(self, kind: str, *texts: str) -> str:
        """Take the next token if it is one of these, and return it; otherwise return an empty text."""
        found, text = self._peek()
        if found != kind or (texts and text not in texts):
            return ""
        self._at += 1
        return text

    def _take(self, kind: str, *texts: str) -> str:
        if found := self._is(kind, *texts):
            return found
        wanted = " or ".join(map(repr, texts)) or f"a {kind}"
        raise ValueError(f"the emulator expected {wanted}, not {self._peek()[1] or 'the end'!r}")

    def _where(self) -> Callable[[Iterable[Row]], Iterable[Row]]:
        wanted = self._either()
        return lambda rows: (row for row in rows if wanted(row))

    def _either(self) -> _Value:
        ways = [self._both()]
        while self._is("word", "or"):
            ways.append(self._both())
        return ways[0] if len(ways) == 1 else lambda row: any(way(row) for way in ways)

    def _both(self) -> _Value:
        terms = [self._term()]
        while self._is("word", "and"):
            terms.append(self._term())
        return terms[0] if len(terms) == 1 else lambda row: all(term(row) for term in terms)

    def _term(self) -> _Value:
        if self._is("sign", "("):
            return self._inside(self._either)
        left = self._value()
        if word := self._is("word", "in", "in~"):
            return self._among(left, folded=word == "in~")
        sign = self._take("sign", *_COMPARISONS)
        right, compare = self._value(), _COMPARISONS[sign]
        return lambda row: _holds(compare, left(row), right(row))

    def _inside(self, read: Callable[[], _Value]) -> _Value:
        """Read what is between a parenthesis that was taken and its end."""
        self._depth += 1
        if self._depth > _DEEPEST:
            raise ValueError("the emulator reads no query with so many parentheses")
        found = read()
        self._take("sign", ")")
        self._depth -= 1
        return found

    def _among(self, left: _Value, *, folded: bool) -> _Value:
        self._take("sign", "(")
        among = [self._take("text")[1:-1]]
        while self._is("sign", ","):
            among.append(self._take("text")[1:-1])
        self._take("sign", ")")
        if folded:
            among = [each.casefold() for each in among]
            return lambda row: _folded(left(row)) in among
        return lambda row: left(row) in among

    def _value(self) -> _Value:
        kind, text = self._peek()
        self._at += 1
        if kind == "text":
            return lambda _: text[1:-1]
        if kind == "number":
            return lambda _: float(text)
        if kind == "moment":
            inside = text.partition("(")[2][:-1].strip(" '\"")
            at = read_moment(inside)
            return lambda _: at
        if kind != "word":
            raise ValueError(f"the emulator expected a value, not {text or 'the end'!r}")
        if text in _FUNCTIONS:
            self._take("sign", "(")
            inner, change = self._inside(self._value), _FUNCTIONS[text]
            return lambda row: change(inner(row))
        path = [self._column(text)]
        while self._is("sign", "."):
            path.append(self._take("word"))
        return lambda row: _found(row, path)

    def _column(self, name: str) -> str:
        if name not in self._columns:
            raise ValueError(f"the emulator has no column {name!r} here, only {', '.join(self._columns)}")
        return name

    def _project(self) -> Callable[[Iterable[Row]], Iterable[Row]]:
        """Read columns, and values that are given names: ``id, status = properties.status``."""
        named: dict[str, _Value] = {}
        while not named or self._is("sign", ","):
            name = self._take("word")
            if self._is("sign", "="):
                named[name] = self._value()
            else:
                named[name] = partial(_found, path=[self._column(name)])
        self._columns = tuple(named)
        return lambda rows: ({name: value(row) for name, value in named.items()} for row in rows)

    def _order(self) -> Callable[[Iterable[Row]], Iterable[Row]]:
        self._take("word", "by")
        value = self._value()
        descends = self._is("word", "asc", "desc") != "asc"  # Kusto's default is desc
        return lambda rows: sorted(rows, key=lambda row: _sortable(value(row)), reverse=descends)

    def _limit(self) -> Callable[[Iterable[Row]], Iterable[Row]]:
        most = int(min(1e9, float(self._take("number"))))
        return lambda rows: [*rows][:most]


def _folded(value: Any) -> Any:
    return value.casefold() if isinstance(value, str) else value


def _holds(compare: Callable[[Any, Any], bool], left: Any, right: Any) -> bool:
    """Compare two values; what is missing, or of another type, fits nothing."""
    for kind in (str, int | float):
        if isinstance(left, kind) and isinstance(right, kind):
            return compare(left, right)
    return False


def _sortable(value: Any) -> tuple[str, Any]:
    return type(value).__name__, value if isinstance(value, str | int | float) else ""


def _found(row: Any, path: Iterable[str]) -> Any:
    for name in path:
        row = row.get(name) if isinstance(row, Mapping) else None
    return row


def _moment(value: Any) -> float | None:
    try:
        return value if isinstance(value, float) else read_moment(value)
    except ValueError:
        return None


_COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "=~": lambda left, right: bool(_folded(left) == _folded(right)),
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_FUNCTIONS: Mapping[str, Callable[[Any], Any]] = {
    "tostring": lambda value: "" if value is None else str(value),
    "tolower": lambda value: "" if value is None else str(value).lower(),
    "todatetime": _moment,
}

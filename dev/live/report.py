"""What a run against a vault found: which of our assumptions held, and what was measured."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum


class Verdict(Enum):
    """What came of an assumption."""

    HELD = "held"
    FAILED = "**did not hold**"
    UNSEEN = "not seen"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One assumption, what was seen, and where the provider relies on it."""

    assumption: str
    verdict: Verdict
    seen: str
    used_by: str


@dataclass
class Report:
    """Collects findings and figures, and writes them as Markdown.

    It contains no names and no ids, so it can be shared as it is.
    """

    findings: list[Finding] = field(default_factory=list)
    figures: dict[str, str] = field(default_factory=dict)
    series: dict[str, list[tuple[str, ...]]] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    def check(self, assumption: str, held: bool | None, seen: str, used_by: str) -> None:
        """Note whether an assumption held; None if this run could not show it."""
        verdict = Verdict.UNSEEN if held is None else Verdict.HELD if held else Verdict.FAILED
        self.findings.append(Finding(assumption=assumption, verdict=verdict, seen=seen, used_by=used_by))

    @property
    def failed(self) -> list[Finding]:
        """The assumptions that did not hold."""
        return [each for each in self.findings if each.verdict is Verdict.FAILED]

    def markdown(self, title: str) -> str:
        """Return the report."""
        lines = [f"# {title}", ""]
        lines += ["| Assumption | | Seen | Used by |", "| --- | --- | --- | --- |"]
        lines += [
            f"| {each.assumption} | {each.verdict.value} | {each.seen} | `{each.used_by}` |"
            for each in self.findings
        ]
        lines += ["", "## Figures", "", "| Figure | Value |", "| --- | --- |"]
        lines += [f"| {name} | {value} |" for name, value in self.figures.items()]
        for name, rows in self.series.items():
            head, *rest = rows
            lines += ["", f"## {name}", "", _row(head), _row(tuple("---" for _ in head))]
            lines += [_row(row) for row in rest]
        if self.left_out:
            lines += ["", "## Not tried", ""]
            lines += [f"* {each}" for each in self.left_out]
        return "\n".join(lines) + "\n"


def _row(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cells) + " |"

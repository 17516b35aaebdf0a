"""Draw the pictures of CONTRIBUTING and the docs that can be drawn from the source.

``python -m dev.release.diagrams`` writes ``docs/images/layers.svg``, from the contracts of import-linter in
``pyproject.toml``, and ``docs/images/deferred-wait.svg``, from the table below. A test compares them.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from types import MappingProxyType

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "docs" / "images"
WIDTH, ROW, GAP = 860, 34, 8
INK, LINE, PAPER, BOX, INNER = "#1f2937", "#94a3b8", "#ffffff", "#e0e7ff", "#fef3c7"

# Who sends what to whom while one deferred backup runs.
WHO = ("The task, in a worker", "Airflow's database", "Triggerer", "Azure Backup")
STEPS = (
    (0, 3, "look up the protected item; is a backup already running?"),
    (0, 1, "write the start record: this attempt is about to ask"),
    (0, 3, "POST .../backup"),
    (3, 0, "202, an operation; then the id of its job"),
    (0, 1, "add the job id to the start record, push XCom job_id"),
    (0, 1, "defer: the worker is free"),
    (1, 2, "run AzureBackupJobTrigger(job_id, deadline)"),
    (2, 3, "read the job, shared with all waits for this vault"),
    (3, 2, "InProgress ... Completed"),
    (2, 1, "event: how the job ended"),
    (1, 0, "execute_complete(event)"),
    (0, 3, "read the job and its recovery point: is this the proof?"),
    (0, 1, "success: the gate opens, XCom proof"),
)


def _svg(height: int, parts: Iterable[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif"'
    arrow = (
        '<defs><marker id="a" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" '
        f'orient="auto-start-reverse"><path d="M0 0 8 4 0 8z" fill="{INK}"/></marker></defs>'
    )
    paper = f'<rect width="{WIDTH}" height="{height}" fill="{PAPER}"/>'
    return "\n".join([f'{head} font-size="13" fill="{INK}">', arrow, paper, *parts, "</svg>", ""])


def _box(x: float, y: float, width: float, text: str, fill: str) -> str:
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{ROW}" rx="4" fill="{fill}" stroke="{LINE}"/>'
        f'<text x="{x + width / 2:g}" y="{y + 22:g}" text-anchor="middle">{escape(text)}</text>'
    )


def _stack(layers: Iterable[str], x: float, y: float, width: float, fill: str) -> Iterable[str]:
    for layer in layers:
        names = layer.split(" | ")
        each = (width - GAP * (len(names) - 1)) / len(names)
        for place, name in enumerate(names):
            yield _box(x + place * (each + GAP), y, each, name, fill)
        y += ROW + GAP


def layers() -> str:
    """Return the picture of the layers: what stands higher may import what stands lower."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    ours, core, *_ = [
        each for each in project["tool"]["importlinter"]["contracts"] if each["type"] == "layers"
    ]
    high = max(len(ours["layers"]), len(core["layers"])) * (ROW + GAP) + 60
    left, right = 400, 340
    at = 50 + ours["layers"].index("core") * (ROW + GAP)
    top = max(50, at - (len(core["layers"]) - 1) * (ROW + GAP))
    return _svg(
        high,
        [
            '<text x="20" y="32" font-weight="bold">airflow_provider_azbackup</text>',
            *_stack(ours["layers"], 20, 50, left, BOX),
            f'<text x="500" y="{top - 18}" font-weight="bold">core</text>',
            *_stack(core["layers"], 500, top, right, INNER),
            f'<path d="M420 {at + ROW / 2:g}H496" stroke="{INK}" stroke-dasharray="4 3"/>',
        ],
    )


def deferred_wait() -> str:
    """Return the picture of one deferred backup: who sends what to whom, from top to bottom."""
    x = [110 + place * 213 for place in range(len(WHO))]
    height = 90 + len(STEPS) * 40
    parts = []
    for place, name in zip(x, WHO, strict=True):
        parts.append(f'<path d="M{place} 54V{height - 14}" stroke="{LINE}"/>')
        parts.append(_box(place - 100, 20, 200, name, BOX))
    for number, (sender, receiver, text) in enumerate(STEPS):
        y, one, other = 96 + number * 40, x[sender], x[receiver]
        middle = min(max((one + other) / 2, 190), WIDTH - 190)
        parts.append(f'<path d="M{one} {y}H{other}" stroke="{INK}" marker-end="url(#a)"/>')
        parts.append(
            f'<text x="{middle:g}" y="{y - 7}" text-anchor="middle" font-size="12" stroke="{PAPER}" '
            f'stroke-width="4" paint-order="stroke">{escape(text)}</text>'
        )
    return _svg(height, parts)


PICTURES: Mapping[str, str] = MappingProxyType({"layers.svg": layers(), "deferred-wait.svg": deferred_wait()})


if __name__ == "__main__":
    for file, picture in PICTURES.items():
        (IMAGES / file).write_text(picture)

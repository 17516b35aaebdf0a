"""The pages of the site, their blocks of code, tables and links."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
CONFIG = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
# Pages that the site takes from other directories: dev/release/docs_site.py.
ELSEWHERE = {
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
    "security.md": "SECURITY.md",
}
PAGES = {
    **{path.relative_to(DOCS).as_posix(): path.read_text() for path in DOCS.rglob("*.md")},
    **{page: (ROOT / path).read_text().replace("](docs/", "](") for page, path in ELSEWHERE.items()},
}
# Code on these pages is parsed, and their commands are checked.
GUIDES = [page for page in PAGES if not page.startswith("reference/") and page not in ELSEWHERE]
SNIPPET = re.compile(r"^--8<--\n(.+)\n--8<--$", re.MULTILINE)
BLOCK = re.compile(r"^```(\w*)(?: title=\"([^\"]*)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks_of(text: str) -> list[tuple[str, str, str]]:
    """Return language, title and text of each block of code."""
    return [(language, title, code) for language, title, code in BLOCK.findall(text)]


def python_of(page: str) -> list[str]:
    """Return the blocks of Python on a page that are not example DAGs."""
    return [code for kind, _, code in blocks_of(PAGES[page]) if kind == "python" and not SNIPPET.search(code)]


def block_titled(title: str) -> str:
    """Return the one block with this title, on any page."""
    (found,) = [code for page in GUIDES for _, name, code in blocks_of(PAGES[page]) if name == title]
    return found.strip()


def table_under(page: str, heading: str) -> list[list[str]]:
    """Return the cells of the first table under a heading, without its header."""
    section = PAGES[page].partition(f"\n{heading}\n")[2]
    rows = re.search(r"(?:^\|.*\n)+", section, re.MULTILINE)
    assert rows, f"{page}: {heading}"
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows[0].splitlines()[2:]]


def links_of(text: str) -> list[str]:
    """Return the targets of all links and pictures."""
    prose = re.sub(r"`[^`\n]*`", "", re.sub(BLOCK, "", text))
    return re.findall(r"\]\(([^)\s]+)\)", prose)


def anchors_of(text: str) -> set[str]:
    """Return the addresses of the headings, as Python-Markdown makes them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(BLOCK, "", text), re.MULTILINE)
    words = (re.sub(r"[^\w\s-]", "", heading).strip().lower() for heading in headings)
    return {re.sub(r"[-\s]+", "-", each) for each in words}

"""Docs, docstrings and messages use plain words: the words that read as if translated are kept out."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.pages import BLOCK, PAGES, ROOT

# What to write instead.
WORDS = {
    r"behind": "after",
    r"told": "reported, logged, said",
    r"tells?": "reports, says, logs",
    r"whoever": "no matter who",
    r"beside": "next to, with",
    r"machines?": "VM, or computer, worker",
    r"mind that": "note that",
    r"anew": "again",
    r"outruns?": "exceeds, ends after",
    r"at the most": "at most",
}
FOUND = re.compile(rf"\b({'|'.join(WORDS)})\b", re.IGNORECASE)
# Where such a word is right: the words around it, and why.
ALLOWED = {
    "virtual machine": "Azure's word",
    "leaves no disk, share or database behind": "not in the sense of after",
}
# They list the words.
LISTS_THEM = {Path(__file__), ROOT / "dev" / "release" / "house.py"}
# Averages of the docs of httpx, svcs and cosmos are 0.35 to 0.45.
MOST_COLONS_PER_SENTENCE = 0.45


def prose(page: str) -> str:
    """The text of a page as a reader sees it, without code and link targets."""
    text = re.sub(BLOCK, "", PAGES[page])
    text = re.sub(r"^:::.*\n(?:    .*\n)*", "", text, flags=re.MULTILINE)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    return re.sub(r"\]\([^)]*\)", "]", re.sub(r"`[^`\n]*`", "X", text))


def wrong(text: str) -> list[str]:
    """The words to replace, each with what is around it."""
    plain = " ".join(text.split())
    for allowed in ALLOWED:
        plain = re.sub(allowed + "s?", "", plain, flags=re.IGNORECASE)
    return [plain[max(0, found.start() - 40) : found.end() + 40] for found in FOUND.finditer(plain)]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_uses_plain_words(page: str) -> None:
    assert wrong(prose(page)) == [], WORDS


@pytest.mark.parametrize("path", ["README.md", "emulator/README.md", "emulator/CHANGELOG.md"])
def test_a_readme_uses_plain_words(path: str) -> None:
    assert wrong(re.sub(BLOCK, "", (ROOT / path).read_text())) == [], WORDS


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """The comments, docstrings and messages of a file of Python, each with its line."""
    source = path.read_text()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.lineno, node.value


@pytest.mark.parametrize("folder", ["airflow_provider_azbackup", "emulator", "example_dags", "dev", "tests"])
def test_the_code_uses_plain_words(folder: str) -> None:
    # Tests and tools run on a machine, quiet or busy.
    usual = r"machines?" if folder in ("dev", "tests") else r"(?!)"
    found = [
        f"{path.relative_to(ROOT)}:{line}: {each}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        if path not in LISTS_THEM
        for line, text in texts(path)
        for each in wrong(re.sub(rf"``.*?``|`[^`]*`|:param \w+:|\b{usual}\b", "X", text, flags=re.IGNORECASE))
    ]
    assert found == [], WORDS


def test_sentences_are_not_chained_with_colons_and_semicolons() -> None:
    running = "\n".join(
        line
        for page in PAGES
        for line in prose(page).splitlines()
        if not line.startswith(("|", "#", "!["))  # tables, headings and pictures have no sentences
    )
    sentences = len(re.findall(r"[.!?](?=\s|$)", running))
    chained = len(re.findall(r"[:;](?=\s|$)", running))
    words = len(running.split())
    print(f"{words} words, {sentences} sentences, {chained / sentences:.2f} colons and semicolons in each")
    assert chained / sentences <= MOST_COLONS_PER_SENTENCE

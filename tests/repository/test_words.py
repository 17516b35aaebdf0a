"""Docs, docstrings and messages use plain words: the words that read as if translated are kept out."""

from __future__ import annotations

import re

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
    r"likewise": "name the argument that it is like",
    r"outruns?": "exceeds, ends after",
    r"at the most": "at most",
}
FOUND = re.compile(rf"\b({'|'.join(WORDS)})\b", re.IGNORECASE)
# Where such a word is right: the words around it, and why.
ALLOWED = {
    "virtual machine": "Azure's word",
    "leaves no disk, share or database behind": "not in the sense of after",
}
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
    for allowed in ALLOWED:
        text = re.sub(allowed + "s?", "", text, flags=re.IGNORECASE)
    plain = " ".join(text.split())
    return [plain[max(0, found.start() - 40) : found.end() + 40] for found in FOUND.finditer(plain)]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_uses_plain_words(page: str) -> None:
    assert wrong(prose(page)) == [], WORDS


def test_the_readme_uses_plain_words() -> None:
    assert wrong(re.sub(BLOCK, "", (ROOT / "README.md").read_text())) == [], WORDS


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

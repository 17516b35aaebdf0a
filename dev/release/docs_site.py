"""What ``make docs`` needs beyond mkdocs.yml: pages that lie elsewhere, and docstrings in Sphinx's words.

mkdocs loads this file twice: as its hook, and for the class that mkdocstrings hands every docstring to.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any

from griffe import Extension, NameResolutionError
from mkdocs.structure.files import File

ROOT = Path(__file__).parents[2]
# These are also read without the site, so they stay where readers expect them.
ELSEWHERE = MappingProxyType(
    {"changelog.md": "CHANGELOG.md", "contributing.md": "CONTRIBUTING.md", "security.md": "SECURITY.md"}
)
# Below this name mkdocs counts warnings, and a strict build ends with one.
LOG = logging.getLogger("mkdocs.plugins.docs_site")
# A link to a test. The site serves the file as text; a browser shows it without a download.
_TEST = re.compile(r"\]\(\.\./(tests/[\w/]+\.py)(#\w+)?\)")
_ROLE = re.compile(r":(?:class|exc|func|meth|mod):`~?([\w.]+)`")
_PLAIN_ROLE = re.compile(r":(?:attr|data):`(?:~[\w.]*\.)?(?=\w+`)")
_SOURCE = re.compile(r"\n+(Source: \S+)\s*$")
_FIELDS = re.compile(r"^:(?:param|return|raises)\b", re.MULTILINE)
_PARAM = re.compile(r"^:param (\w+):.*\n?(?:[ \t]+.*\n?)*", re.MULTILINE)


def on_files(files: Any, *, config: Any) -> Any:
    """Add pages from other directories, linked tests, and the pages that the navigation does not name."""
    for page, path in ELSEWHERE.items():
        files.append(File.generated(config, page, content=from_docs((ROOT / path).read_text())))
    tests = {path for file in files.documentation_pages() for path, _ in _TEST.findall(file.content_string)}
    for path in sorted(tests):
        files.append(File.generated(config, f"{path}.txt", content=(ROOT / path).read_text()))
    (operate,) = (part["Operate"] for part in config.nav if "Operate" in part)
    named = set(_named(config.nav))
    operate.extend(file.src_uri for file in files.documentation_pages() if file.src_uri not in named)
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Let links to tests lead to their copies in the site."""
    return _TEST.sub(r"](\1.txt)", markdown)


def from_docs(text: str) -> str:
    """Return a page of the root directory with links that are right in docs/."""
    return re.sub(r"(\]\()docs/", r"\1", text)


def _named(nav: Any) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    return [path for part in (nav.values() if isinstance(nav, dict) else nav) for path in _named(part)]


class InheritedParameters(Extension):  # type: ignore[misc]  # griffe is only in the environment of the site
    """Shows the parameters that a class takes for its base classes, as if they were its own."""

    def on_package(self, *, pkg: Any, **_: Any) -> None:
        """Complete the classes of each module, once all are known and before docstrings are rewritten."""
        for module in pkg.modules.values():
            self.on_package(pkg=module)
        # Base classes of the same module come first, and hand on what they have got.
        for cls in pkg.classes.values():
            if not cls.is_alias and "__init__" in cls.members:
                self._complete(cls)

    def _complete(self, cls: Any) -> None:
        taken = cls.members["__init__"].parameters
        for base in cls.mro():
            documented = {found[1]: found[0] for found in _PARAM.finditer(_docstring(base))}
            for parameter in base.parameters:
                if parameter.name not in taken and parameter.kind.value == "keyword-only":
                    last = taken._params.pop()  # **kwargs, which takes it
                    taken.add(parameter)
                    taken.add(last)
            missing = [text for name, text in documented.items() if f":param {name}:" not in _docstring(cls)]
            cls.docstring.value = with_parameters(cls.docstring.value, missing)


def _docstring(obj: Any) -> str:
    return obj.docstring.value if obj.docstring else ""


def with_parameters(docstring: str, more: list[str]) -> str:
    """Return a docstring with more fields of parameters after those that it has."""
    own = [*_PARAM.finditer(docstring)]
    end = own[-1].end() if own else len(docstring)
    return docstring[:end].rstrip() + "\n" + "".join(f"{text.rstrip()}\n" for text in more) + docstring[end:]


class SphinxWords(Extension):  # type: ignore[misc]  # likewise
    """Says in Markdown what our docstrings say in Sphinx's words."""

    def on_object(self, *, obj: Any, loader: Any, **_: Any) -> None:
        """Rewrite the docstring of a module, class, function or attribute, once all are known."""
        if not obj.docstring:
            return

        def linked(role: re.Match[str]) -> str:
            name = role[1]
            path = name
            try:
                first, dot, rest = name.partition(".")
                if not name.startswith(f"{obj.package.path}."):
                    path = f"{obj.resolve(first)}{dot}{rest}"
                loader.modules_collection[path]
            except (KeyError, NameResolutionError):
                LOG.warning("%s refers to %s, which is nowhere", obj.path, name)
            code = f"<code>{name.rpartition('.')[2]}</code>"
            # Optional: what has no place in the reference is shown without a link.
            return f'<autoref optional identifier="{path}">{code}</autoref>'

        obj.docstring.value = in_markdown(obj.docstring.value, linked)


def in_markdown(docstring: str, linked: Callable[[re.Match[str]], str]) -> str:
    """Return a docstring with links for roles, and its source before its fields.

    griffe takes what follows the last field for a part of it.

    :param linked: returns the link for a role.
    """
    text = re.sub(r"::\n\n(?=    )", ":\n\n", _ROLE.sub(linked, _PLAIN_ROLE.sub("`", docstring)))
    source, fields = _SOURCE.search(text), _FIELDS.search(text)
    if source and fields:
        before, after = text[: fields.start()], text[fields.start() : source.start()]
        text = f"{before}{source[1]}\n\n{after}"
    return text

"""What the contracts of import-linter in pyproject.toml cannot say of a module: read from its source."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator, Set
from dataclasses import is_dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

import airflow_provider_azbackup

PACKAGE = "airflow_provider_azbackup"
ROOT = Path(airflow_provider_azbackup.__file__).parent

HTTP_LIBRARIES = {"azure", "requests", "aiohttp", "httpx", "urllib3", "msal", "cryptography"}


@cache
def source(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


@cache
def modules() -> dict[str, Path]:
    """Every module of the package: its dotted name without the package's, and its file."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in sorted(ROOT.rglob("*.py"))
    }


def imports(nodes: Iterator[ast.AST]) -> set[str]:
    """Full names of all modules imported; ``from a import b`` names ``a`` and ``a.b``, which may be one."""
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, "relative imports hide where they lead"
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Call) and "import_module" in ast.unparse(node.func):
            found |= {ast.literal_eval(argument) for argument in node.args}
    return found


def at_run_time(tree: ast.Module) -> Iterator[ast.AST]:
    """Nodes that run when the module is imported: none in functions, none for type checkers."""
    waiting: list[ast.AST] = [*tree.body]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            waiting += node.orelse
            continue
        yield node
        waiting += ast.iter_child_nodes(node)


@cache
def imported_by(module: str) -> frozenset[str]:
    """Full names of what one of our modules imports when it is imported."""
    return frozenset(imports(at_run_time(source(modules()[module]))))


def of_package(names: Set[str]) -> set[str]:
    """The modules of this package among imported names, without the package's own name."""
    inside = {name.removeprefix(f"{PACKAGE}.") for name in names if name.startswith(f"{PACKAGE}.")}
    return {name for name in inside if name in modules() or f"{name}.__init__" in modules()}


def others(names: Set[str]) -> set[str]:
    return {name.partition(".")[0] for name in names} - {PACKAGE}


PROVIDER = [*modules()]
CORE = [name for name in PROVIDER if name.startswith("core.")]


def test_exceptions_import_nothing() -> None:
    assert others(imports(ast.walk(source(modules()["exceptions"])))) <= {"__future__", "typing"}


@pytest.mark.parametrize("module", CORE)
def test_the_core_asks_nobody_for_the_present_moment(module: str) -> None:
    called = {
        ast.unparse(node.func) for node in ast.walk(source(modules()[module])) if isinstance(node, ast.Call)
    }
    assert {name for name in called if name.endswith((".now", ".utcnow", ".today"))} == set()


@pytest.mark.parametrize("module", [name for name in PROVIDER if name != "runtime.transport"])
def test_only_the_transport_imports_an_http_library_at_module_level(module: str) -> None:
    assert others(imported_by(module)) & HTTP_LIBRARIES == set()


@pytest.mark.parametrize("module", [name for name in PROVIDER if name != "runtime.transport"])
def test_nobody_imports_the_transport_at_module_level(module: str) -> None:
    assert "runtime.transport" not in of_package(imported_by(module))


def of_a_release(tree: ast.Module) -> set[str]:
    """What looks for one release of Airflow rather than another: by import, by trial, or by number."""
    nodes = [*ast.walk(tree)]
    names = {name for name in imports(iter(nodes)) if name.partition(".")[0] == "airflow"}
    # The last is loaded by Airflow 3.3 alone, in the one module that it calls for: `stream`.
    shared = ("airflow.providers.common.compat", "airflow.triggers.base", "airflow.triggers.shared_stream")
    called = {ast.unparse(node.func) for node in nodes if isinstance(node, ast.Call)}
    caught = {ast.unparse(node.type) for node in nodes if isinstance(node, ast.ExceptHandler) and node.type}
    return (
        {name for name in names if not f"{name}.".startswith(tuple(f"{each}." for each in shared))}
        | {name for name in called if name.rpartition(".")[2] in ("find_spec", "hasattr")}
        | {name for name in caught if "ImportError" in name or "ModuleNotFoundError" in name}
    )


# The page runs in API servers that have a place for it, from 3.1 on, and reads what only those have.
@pytest.mark.parametrize(
    "module", [name for name in PROVIDER if name != "runtime.compat" and not name.startswith("page.")]
)
def test_only_one_module_knows_releases_of_airflow(module: str) -> None:
    assert of_a_release(source(modules()[module])) == set()


def test_the_module_that_knows_them_is_seen_to() -> None:
    assert {"find_spec", "hasattr", "ImportError", "airflow.sdk"} <= of_a_release(
        source(modules()["runtime.compat"])
    )


def dataclasses_of(module: ModuleType) -> list[type]:
    return [
        kind
        for kind in vars(module).values()
        if isinstance(kind, type) and is_dataclass(kind) and kind.__module__ == module.__name__
    ]


@pytest.mark.parametrize("name", [*CORE, "runtime.job_event"])
def test_every_dataclass_that_is_handed_around_is_frozen_and_keyword_only(name: str) -> None:
    for kind in dataclasses_of(importlib.import_module(f"{PACKAGE}.{name}")):
        settings = kind.__dataclass_params__  # type: ignore[attr-defined]
        assert settings.frozen, f"{kind.__name__} can be changed"
        assert all(field.kw_only for field in kind.__dataclass_fields__.values()), (
            f"{kind.__name__} takes positions"
        )  # type: ignore[attr-defined]


def test_the_reader_of_import_lines_sees_what_it_must() -> None:
    """The rules above are worth as much as this reader: it must find an import wherever it hides."""
    tree = ast.parse(
        "import a.b\nfrom c import d\nif TYPE_CHECKING:\n    import e\n"
        "def f():\n    import g\n    import_module('h')\n"
        "class C:\n    import i\ntry:\n    import j\nexcept E: pass"
    )
    assert imports(ast.walk(tree)) == {"a.b", "c", "c.d", "e", "g", "h", "i", "j"}
    assert imports(at_run_time(tree)) == {"a.b", "c", "c.d", "i", "j"}

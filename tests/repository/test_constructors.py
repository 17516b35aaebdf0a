"""Airflow's rule for constructors of operators: they store template fields, and do nothing else with them.

Airflow renders template fields after the constructor, so whatever a constructor makes of one it makes of the
template. The rule of ``scripts/ci/prek/validate_operators_init.py`` in apache/airflow allows four things, and
here they are written again: ``self.field = field`` (``field or default`` counts, too), handing it on as
``super().__init__(field=field)``, and asking whether it ``is None``. Airflow looks only at classes whose base
has a name that ends with ``BaseOperator`` or ``BaseSensorOperator``; here every class with template fields is
looked at.
"""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

import airflow_provider_azbackup

MODULES = sorted(Path(airflow_provider_azbackup.__file__).parent.rglob("*.py"))
SUFFIXES = ("BaseOperator", "BaseSensorOperator")


def fields_of(kind: ast.ClassDef) -> set[str]:
    """The template fields that a class adds to those of its base."""
    for statement in kind.body:
        targets = (
            statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
        )
        if any(isinstance(each, ast.Name) and each.id == "template_fields" for each in targets):
            value = getattr(statement, "value", None)
            words = value.elts if isinstance(value, ast.Tuple) else []
            return {word.value for word in words if isinstance(word, ast.Constant)}
    return set()


def field_read(node: ast.AST, fields: set[str]) -> str | None:
    """The field that an expression reads, as ``field`` or as ``self.field``."""
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in fields:
        return node.id
    of_self = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"
    if of_self and isinstance(node.ctx, ast.Load) and node.attr in fields:
        return f"self.{node.attr}"
    return None


def plain(value: ast.expr | None) -> ast.expr | None:
    """What ``field or default`` comes to; any other value is itself."""
    return value.values[0] if isinstance(value, ast.BoolOp) and isinstance(value.op, ast.Or) else value


def findings(source: str) -> Iterator[str]:
    """What the rule finds in a module."""
    for kind in (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ClassDef)):
        fields = fields_of(kind)
        made = [each for each in kind.body if isinstance(each, ast.FunctionDef) and each.name == "__init__"]
        if not fields or not made:
            continue
        stored: set[str] = set()
        allowed: list[ast.AST | None] = []
        for node in ast.walk(made[0]):
            if isinstance(node, ast.Assign | ast.AnnAssign):
                for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                    value = plain(node.value)
                    if not (isinstance(target, ast.Attribute) and target.attr in fields):
                        continue
                    if isinstance(value, ast.Name) and value.id == target.attr:
                        stored.add(target.attr)
                        allowed.append(value)
                    else:
                        yield f"{kind.name}: self.{target.attr} is not what was given"
            elif isinstance(node, ast.Call) and ast.unparse(node.func) == "super().__init__":
                for word in node.keywords:
                    if word.arg in fields and isinstance(word.value, ast.Name) and word.value.id == word.arg:
                        stored.add(str(word.arg))
                        allowed.append(word.value)
            elif isinstance(node, ast.Compare) and ast.unparse(node).endswith((" is None", " is not None")):
                allowed.append(node.left)
        yield from (f"{kind.name}: {field} is not stored" for field in sorted(fields - stored))
        for node in ast.walk(made[0]):
            if (name := field_read(node, fields)) and node not in allowed:
                yield f"{kind.name}, line {getattr(node, 'lineno', 0)}: {name} is used before it is rendered"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_constructors_only_store_template_fields(path: Path) -> None:
    assert list(findings(path.read_text())) == []


def test_airflow_itself_would_look_at_every_class_with_template_fields() -> None:
    seen = 0
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and fields_of(node):
                seen += 1
                assert any(ast.unparse(base).endswith(SUFFIXES) for base in node.bases), node.name
    assert seen == 10


@pytest.mark.parametrize(
    ("body", "found"),
    {
        "self.field = field": "",
        "self.field = field or 'none'": "",
        "super().__init__(field=field)": "",
        "if field is not None: pass\nself.field = field": "",
        "pass": "is not stored",
        "self.field = str(field)": "is not what was given",
        "self.field = other": "is not what was given",
        "self.field = field\nif field: pass": "is used before it is rendered",
        "self.field = field\ncheck(field)": "is used before it is rendered",
        "self.field = field\ncheck(self.field)": "is used before it is rendered",
    }.items(),
)
def test_the_rule_finds_what_it_is_for(body: str, found: str) -> None:
    source = "class Task(BaseOperator):\n    template_fields = ('field', *BaseOperator.template_fields)\n"
    source += "    def __init__(self, field, other):\n" + textwrap.indent(body, " " * 8)
    said = " ".join(findings(source))
    assert found in said
    assert bool(said) is bool(found)

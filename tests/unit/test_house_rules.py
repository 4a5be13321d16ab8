"""Rules of the house that a parser can check."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest

import holdfast

PACKAGE = Path(holdfast.__file__).parent
ROOT = Path(__file__).parents[2]
MODULE_LINES_MAX = 600
FUNCTION_LINES_MAX = 60
FUNCTION_LINES_P90 = 25
DRIVERS = {"apsw", "asyncmy", "asyncpg"}

MODULES = sorted(PACKAGE.rglob("*.py"))
Function = ast.FunctionDef | ast.AsyncFunctionDef


def place(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def functions(path: Path) -> Iterator[tuple[Function, int]]:
    """Functions with their lines, the docstring and decorators left out."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, Function):
            first = node.body[0]
            documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
            docstring = (first.end_lineno or 0) - first.lineno + 1 if documented else 0
            yield node, (node.end_lineno or 0) - node.lineno + 1 - docstring


@pytest.mark.parametrize("path", MODULES, ids=place)
def test_a_module_is_short_and_says_what_it_is(path: Path) -> None:
    source = path.read_text("utf-8")
    assert len(source.splitlines()) <= MODULE_LINES_MAX
    assert ast.get_docstring(ast.parse(source)) or not source.strip()


def test_functions_are_short() -> None:
    lengths = sorted(
        (lines, f"{place(path)}:{node.name}") for path in MODULES for node, lines in functions(path)
    )
    too_long = [each for each in lengths if each[0] > FUNCTION_LINES_MAX]
    assert not too_long
    assert lengths[len(lengths) * 9 // 10][0] <= FUNCTION_LINES_P90


def test_only_drivers_import_a_database_library() -> None:
    breaches = []
    for path in MODULES:
        if path.is_relative_to(PACKAGE / "store" / "drivers"):
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            if DRIVERS.intersection(name.partition(".")[0] for name in names):
                breaches.append(f"{place(path)}:{node.lineno}")
    assert not breaches


def test_nothing_evaluates_text_or_unpickles() -> None:
    forbidden = {"eval", "exec"}
    breaches = []
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in forbidden:
                breaches.append(f"{place(path)}:{node.lineno} {node.func.id}")
            if isinstance(node, ast.Import) and any(
                alias.name in ("pickle", "marshal") for alias in node.names
            ):
                breaches.append(f"{place(path)}:{node.lineno} import")
    assert not breaches


def test_a_lint_or_type_exception_says_why() -> None:
    """`noqa` names its rule and gives a reason; `type: ignore` names its rule."""
    breaches = []
    for path in MODULES:
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            noqa = re.search(r"#\s*noqa\b(.*)", line)
            if noqa and not re.match(r": [A-Z]+\d+(, ?[A-Z]+\d+)* - \S", noqa[1]):
                breaches.append(f"{place(path)}:{number}")
            if re.search(r"#\s*type:\s*ignore(?!\[)", line):
                breaches.append(f"{place(path)}:{number}")
    assert not breaches


def test_every_dependency_is_justified() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    declared = [*project["dependencies"], *chain.from_iterable(project["optional-dependencies"].values())]
    names = {re.split(r"[<>=~!\[ ;]", entry, maxsplit=1)[0] for entry in declared} - {project["name"]}
    page = (ROOT / "docs" / "explanation" / "dependencies.md").read_text("utf-8")
    before, _, _ = page.partition("## Considered and left out")
    justified = set[str]()
    for row in re.findall(r"^\|(.+)\|$", before, re.MULTILINE):
        for cell in row.split("|")[:2]:
            justified.update(re.findall(r"[a-z][a-z0-9-]*", re.sub(r"\(.*?\)", "", cell)))
    assert names <= justified, f"not on the page: {sorted(names - justified)}"


def test_errors_have_codes_of_their_own_and_say_what_to_do() -> None:
    from holdfast import errors

    classes = [
        each
        for each in vars(errors).values()
        if isinstance(each, type) and issubclass(each, errors.HoldfastError)
    ]
    codes = [each.code for each in classes]
    assert len(set(codes)) == len(codes)
    for each in classes:
        assert re.fullmatch(r"HF\d{4}", each.code)
        assert (each.__doc__ or "").strip()
        assert each("why").fix

"""The reference is complete and says what the program says; what the pages promise names tests that exist."""

from __future__ import annotations

import ast
import re
import tomllib
from itertools import chain
from pathlib import Path

import click
import pytest

from scripts import reference
from tests.docs.pages import ROOT, anchors

DOCS = ROOT / "docs"
_TEST = re.compile(r"`?(tests/[\w/]+\.py)(?:::(\w+))?`?")


def test_generated_pages_are_fresh() -> None:
    assert reference.stale() == [], "run: python -m scripts.reference"


def test_a_changed_page_is_noticed(tmp_path: Path) -> None:
    for page, text in reference.pages().items():
        (tmp_path / page).write_text(text, encoding="utf-8")
    assert reference.stale(tmp_path) == []
    (tmp_path / "cli.md").write_text("changed by hand\n", encoding="utf-8")
    (tmp_path / "errors.md").unlink()
    assert reference.stale(tmp_path) == ["cli.md", "errors.md"]


def test_every_command_and_flag_is_documented() -> None:
    text = (DOCS / "reference" / "cli.md").read_text(encoding="utf-8")
    found = 0
    for words, command, _ in reference.command_tree():
        title = f"holdfast {' '.join(words)}"
        assert re.search(rf"^##+ {re.escape(title)}$", text, re.MULTILINE), title
        section = re.split(rf"^##+ {re.escape(title)}$", text, maxsplit=1, flags=re.MULTILINE)[1]
        section = re.split(r"^##+ ", section, maxsplit=1, flags=re.MULTILINE)[0]
        assert command.help and command.help.strip(), f"{title} does not say what it does"
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not parameter.hidden:
                found += 1
                assert parameter.help, f"{title} {parameter.opts} does not say what it does"
                assert all(name in section for name in parameter.opts), f"{title} {parameter.opts}"
    assert found > 20


def test_every_code_has_a_cause_a_fix_and_an_entry() -> None:
    known = anchors(DOCS / "reference" / "errors.md")
    codes: set[str] = set()
    for kind in reference.error_classes():
        assert re.fullmatch(r"HF\d{4}", kind.code), kind
        assert kind.code not in codes, f"two errors have the code {kind.code}"
        codes.add(kind.code)
        assert kind.__doc__ and kind.default_fix, kind
        assert f"{kind.code} {kind.__name__}".lower().replace(" ", "-") in known
    assert len(codes) > 40


def test_every_exit_code_is_explained() -> None:
    text = (DOCS / "reference" / "exit-codes.md").read_text(encoding="utf-8")
    explained = {int(code) for code in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)}
    assert {kind.exit_code for kind in reference.error_classes()} <= explained
    assert {0, 9, 10, 130, 143} <= explained


def test_every_event_type_and_table_is_explained() -> None:
    from holdfast.records.events import EventType

    events = (DOCS / "reference" / "events.md").read_text(encoding="utf-8")
    assert [kind for kind in EventType if f"`{kind}`" not in events] == []
    tables = (DOCS / "reference" / "tables.md").read_text(encoding="utf-8")
    for dialect in ("sqlite", "postgresql"):
        folder = ROOT / "src" / "holdfast" / "store" / "migrations" / dialect
        sql = "\n".join(path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.sql")))
        for made in re.findall(r"^CREATE (?:TABLE|VIEW) (?:\{schema\}\.)?(\w+)", sql, re.MULTILINE):
            if f"ALTER TABLE {made} RENAME TO" in sql:
                continue  # a table on the way to be another
            assert f"`{made.removesuffix('_default')}`" in tables, made


def test_every_key_of_a_workflow_file_is_explained() -> None:
    from holdfast.workflows import reader, step_reader
    from holdfast.workflows.steps import registry

    text = (DOCS / "reference" / "yaml.md").read_text(encoding="utf-8")
    keys = {*reader._KEYS, *step_reader._KEYS, *step_reader._RETRY_KEYS, *registry.BUILT_IN}
    assert sorted(key for key in keys if f"`{key}`" not in text) == []


@pytest.mark.parametrize("page", ["explanation/guarantees.md", "coverage.md"])
def test_every_test_that_is_named_exists(page: str) -> None:
    named = set(_TEST.findall((DOCS / page).read_text(encoding="utf-8")))
    assert len(named) > 10
    for file, test in sorted(named):
        path = ROOT / file
        assert path.is_file(), f"{file} does not exist"
        if test:
            tree = ast.parse(path.read_text(encoding="utf-8"))
            functions = {
                node.name
                for node in ast.walk(tree)
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            }
            assert test in functions, f"{file} has no {test}"


def test_every_dependency_has_its_reason() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    wanted = list(chain(project["dependencies"], *project["optional-dependencies"].values()))
    text = (DOCS / "explanation" / "dependencies.md").read_text(encoding="utf-8")
    reasons = text.partition("## Considered and left out")[0]
    for requirement in wanted:
        package = re.split(r"[\[<>=~ ]", requirement)[0]
        assert package == "holdfast" or package in reasons, f"{package} has no reason in dependencies.md"


def test_the_pages_speak_of_the_project_only() -> None:
    private = re.compile(r"/work/|/root/|/home/\w|\.internal\b|(?i:\bjenkins\b)")
    pages = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *DOCS.rglob("*.md")]
    found = [
        f"{page.name}: {hit[0]}"
        for page in pages
        if (hit := private.search(page.read_text(encoding="utf-8")))
    ]
    assert found == []

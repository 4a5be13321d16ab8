"""Everything the program offers has a test and a page: lists are made from the program and walked here."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from holdfast.cli.catalogue import NOUNS
from holdfast.errors import Conflict, DamagedData, Failed, Misuse, NotFound, Refused, RetryLater
from holdfast.events.streams import Streams
from holdfast.fleet.queues import Queues
from holdfast.store.repository import Repository
from scripts import reference
from tests.docs.pages import PAGES, ROOT

BRANCHES = (Misuse, RetryLater, NotFound, Conflict, Refused, DamagedData, Failed)
"""What a caller can do; they are raised only as what stands below them."""
SERVICES = {**reference.services(), "repo": Repository, "streams": Streams}
WALKED = "tests/integration/test_cli_every_noun.py"
"""Tries every verb that the catalogue gives a noun."""


def text_of(paths: list[Path]) -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in paths)


@pytest.fixture(scope="module")
def tests() -> str:
    """All tests but this one."""
    return text_of([path for path in sorted((ROOT / "tests").rglob("*.py")) if path != Path(__file__)])


@pytest.fixture(scope="module")
def conformance() -> str:
    """The tests that run on every kind of store."""
    folders = (ROOT / "tests" / "conformance", ROOT / "tests" / "lockstep")
    return text_of([path for folder in folders for path in sorted(folder.glob("*.py"))])


def methods(kind: type[Any]) -> Iterator[tuple[str, Any]]:
    """The public methods of a class."""
    for name, member in vars(kind).items():
        if not name.startswith("_") and inspect.isfunction(member):
            yield name, member


def words(text: str) -> str:
    """A text without what stands between the words of a command, in a shell or in a list."""
    return re.sub(r"[\"',()\[\]\s]+", " ", text)


def test_every_error_is_expected_by_some_test(tests: str) -> None:
    unnamed = [
        f"{kind.code} {kind.__name__}"
        for kind in reference.error_classes()
        if kind not in BRANCHES and not re.search(rf"\b(?:{kind.__name__}|{kind.code})\b", tests)
    ]
    assert unnamed == []


def test_every_error_says_what_its_caller_can_do() -> None:
    for kind in reference.error_classes():
        assert kind.__name__ == "HoldfastError" or issubclass(kind, BRANCHES), kind


def test_every_command_is_tried_by_some_test(tests: str) -> None:
    walked = {(noun.name, verb) for noun in NOUNS for verb in noun.verbs}
    assert (ROOT / WALKED).is_file()
    tried = words(tests)
    untried = [
        " ".join(spelled)
        for spelled, command, _ in reference.command_tree()
        if spelled not in walked
        and not (isinstance(command, click.Group) and not command.invoke_without_command)
        and not re.search(rf"\b{re.escape(' '.join(spelled))}\b", tried)
    ]
    assert untried == []


def test_every_noun_is_shown_on_a_page() -> None:
    pages = [path for path in PAGES if path.name not in ("cli.md", "CHANGELOG.md")]
    shown = words(text_of(pages))
    assert [noun.name for noun in NOUNS if f"holdfast {noun.name} " not in shown] == []


@pytest.mark.parametrize("name", SERVICES)
def test_every_method_has_a_test_on_every_store_and_an_entry(name: str, conformance: str) -> None:
    page = (ROOT / "docs" / "reference" / "python.md").read_text(encoding="utf-8")
    found = 0
    for method, member in methods(SERVICES[name]):
        found += 1
        place = f"{SERVICES[name].__name__}.{method}"
        assert inspect.getdoc(member), f"{place} does not say what it does"
        assert re.search(rf"\.{method}\b", conformance), f"{place} is in no test of all stores"
        assert re.search(rf"^(?:await )?{method}\(", page, re.MULTILINE), f"{place} is not in python.md"
    assert found


def test_queues_are_tested_on_every_store(conformance: str) -> None:
    assert [name for name, _ in methods(Queues) if not re.search(rf"\.{name}\b", conformance)] == []


def test_a_gap_is_found() -> None:
    class Gappy:
        def of_no_test_at_all(self) -> None: ...

    assert [name for name, member in methods(Gappy) if not inspect.getdoc(member)] == ["of_no_test_at_all"]
    assert words('run("users", "create", "--yes")') == "run users create --yes "

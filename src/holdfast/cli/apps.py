"""From the words behind `holdfast worker` to apps, modules and workflows that are loaded.

Everything is loaded before a store is opened, so that a wrong word creates no file.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from holdfast.errors import AppNotFound, InvalidUsage, NothingToServe

if TYPE_CHECKING:
    from holdfast.fleet.offers import Source

YAML_SUFFIXES = (".yaml", ".yml")


def read_apps(words: Sequence[str], folder: Path) -> list[Source]:
    """What `FILE.py`, `MODULE`, and either of them with `:NAME` offer to a worker.

    Raises `WorkflowNotFound`, `AppNotFound`, `NothingToServe`, `InvalidDefinition`.
    """
    return [_read(word, folder.absolute()) for word in words]


def _read(word: str, folder: Path) -> Source:
    from holdfast.cli.targets import loading
    from holdfast.fleet.offers import Offers
    from holdfast.programs import python_module

    if word.endswith(YAML_SUFFIXES):
        raise InvalidUsage(
            f"{word} is no app",
            where="worker",
            fix="leave it out: a definition in YAML is stored with its executions and runs on every worker",
        )
    place, colon, name = word.partition(":")
    with loading(place):
        module = python_module(place, folder)
    found: Source = _named(module, name, place) if colon else module
    if not Offers([found]).describe():
        raise NothingToServe(f"{word} has no workflow", where=word)
    return found


def _named(module: ModuleType, name: str, place: str) -> Any:
    from holdfast.fleet.offers import Offering
    from holdfast.workflows.functions import Workflow

    found = getattr(module, name, None)
    if isinstance(found, Workflow | Offering):
        return found
    known = sorted(key for key, value in vars(module).items() if isinstance(value, Workflow | Offering))
    near = difflib.get_close_matches(name, known, 1) or known
    raise AppNotFound(
        f"{place} has no app and no workflow {name!r}",
        where=place,
        fix=f"name one of: {', '.join(near)}" if near else None,
    )

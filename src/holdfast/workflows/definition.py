"""A workflow definition: a frozen value with an identity that comments and formatting do not change.

Life: YAML text → document (plain JSON values) → `Definition`. The normalised document is what the store
keeps and what `resume` runs; its digest is the definition's identity, and an undeclared version is made
of it. The folder of the file rides along for relative paths and is not part of the identity: the same
file is the same workflow wherever it lies.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from holdfast.errors import InvalidDefinition, WorkflowNotFound
from holdfast.workflows import yaml_source
from holdfast.workflows.expressions import Expression
from holdfast.workflows.graph import Graph
from holdfast.workflows.inputs import fill_and_check
from holdfast.workflows.problems import Report
from holdfast.workflows.retry import RetryPolicy
from holdfast.workflows.steps.base import StepKind

FOLDER_KEY = "x-folder"
"""Where a stored document keeps the folder of its file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepDefinition:
    """One step. `spec`, `arguments` (`with`), `env` and `for_each` are compiled and may hold templates."""

    id: str
    kind: StepKind
    spec: Any
    arguments: Mapping[str, Any]
    env: Mapping[str, Any]
    needs: tuple[str, ...]
    when: Expression | bool
    for_each: Any  # None: not a fan-out; else a list, or a template that gives one
    max_parallel: int
    retry: RetryPolicy
    timeout: timedelta | None
    continue_on_error: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """One workflow. Everything in it was checked; `steps` are in the order of the file."""

    name: str
    description: str | None
    inputs: Mapping[str, Any] | None
    env: Mapping[str, Any]
    steps: tuple[StepDefinition, ...]
    outputs: Any
    folder: Path
    graph: Graph = field(repr=False, compare=False)
    declared_version: str | None
    normalised: Mapping[str, Any] = field(repr=False)
    hash: bytes  # 16 bytes: `identity` of the normalised document

    @property
    def version(self) -> str:
        """The declared version, else `sha-` and the first ten hex digits of the hash."""
        return self.declared_version or f"sha-{self.hash.hex()[:10]}"

    def document(self) -> dict[str, Any]:
        """The stored form: JSON values that `from_document` reads back to an equal definition."""
        copied: dict[str, Any] = json.loads(_canonical(self.normalised))
        copied[FOLDER_KEY] = str(self.folder)
        return copied

    def check_input(self, value: Any) -> dict[str, Any]:
        """`value` with declared defaults filled in; `InvalidInput` lists every violation."""
        return fill_and_check(dict(self.inputs) if self.inputs is not None else None, value, self.name)

    def prepare(self) -> None:
        """Check what only this machine can tell (functions, files), before any step runs."""
        for step in self.steps:
            step.kind.prepare(step.spec, self.folder)


def load(path: Path | str) -> Definition:
    """The definition in the file `path`. `WorkflowNotFound` without the file, else as `parse`."""
    file = Path(path)
    try:
        with file.open("rb") as opened:
            data = opened.read(yaml_source.BYTES_MAX + 1)
    except OSError as error:
        raise WorkflowNotFound(
            f"{str(path)!r} can not be read: {error.strerror}", where=str(path), fix="correct the path"
        ) from error
    return parse(data, source=str(path), folder=file.resolve().parent)


def parse(text: str | bytes, *, source: str, folder: Path | None = None) -> Definition:
    """The definition in YAML `text`; `source` names it in messages, `folder` defaults to the current one.

    `InvalidDefinition` reports every mistake: `details['problems']` is a list of `{file, line, column,
    message, hint}`.
    """
    from holdfast.workflows.reader import read

    report = Report(source)
    loaded = yaml_source.load(text, report)
    report.marks = loaded.marks
    if report.problems and loaded.value is None:
        report.raise_if_any()
    return read(loaded.value, report, folder or Path.cwd())


def from_document(document: Mapping[str, Any]) -> Definition:
    """The definition of a stored document, as `Definition.document` gave it."""
    from holdfast.workflows.reader import read

    plain = {key: value for key, value in document.items() if key != FOLDER_KEY}
    source = f"stored definition of {plain.get('name', 'a workflow')}"
    return read(plain, Report(source), Path(str(document.get(FOLDER_KEY, "."))))


def identity(normalised: Mapping[str, Any]) -> bytes:
    """16 bytes that two definitions share when they say the same; `InvalidDefinition` for lone surrogates."""
    return hashlib.blake2b(_canonical(normalised), digest_size=16).digest()


def diff(old: Definition, new: Definition) -> str:
    """What changed, as a unified diff of both in readable form; empty when they are the same."""
    lines = difflib.unified_diff(
        _readable(old), _readable(new), f"{old.name} {old.version}", f"{new.name} {new.version}", lineterm=""
    )
    return "\n".join(lines)


def _readable(definition: Definition) -> list[str]:
    import yaml

    # Through JSON, so that values shared by aliases are written out and not as anchors.
    plain = json.loads(_canonical(definition.normalised))
    text = yaml.safe_dump(plain, allow_unicode=True, sort_keys=False, width=100)
    return text.splitlines()


def _canonical(document: Mapping[str, Any]) -> bytes:
    try:
        text = json.dumps(
            document, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":")
        )
        return text.encode()
    except ValueError as error:  # a lone surrogate: YAML can escape what UTF-8 can not hold
        raise InvalidDefinition(
            f"the definition holds a value that can not be stored: {error}", fix="correct the text"
        ) from error

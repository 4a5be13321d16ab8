"""What a worker can run: the workflow versions that the code it was started with offers.

An execution stays with the version it began with. A worker that has not got that version leaves the execution
alone; one that has goes on with it. A definition in YAML is data and runs as it is stored, on any worker. A
Python workflow is code: a worker that was given apps runs what they offer and nothing else, and one that was
given none looks where the definition says the code was.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any, Protocol, runtime_checkable

from holdfast.errors import DefinitionChanged, HoldfastError, WorkflowNotFound
from holdfast.programs import StepExecutor, load_program
from holdfast.records.workflows import StoredDefinition
from holdfast.workflows.functions import Workflow
from holdfast.workflows.program import Program
from holdfast.workflows.python_program import program_of


@runtime_checkable
class Offering(Protocol):
    """Something that has workflows, such as an app."""

    @property
    def workflows(self) -> Mapping[str, Workflow[Any, Any]]:
        """By name; of several versions the one declared last."""
        ...

    @property
    def versions(self) -> Mapping[tuple[str, str], Workflow[Any, Any]]:
        """By name and version."""
        ...


Source = Offering | ModuleType | Workflow[Any, Any]


class Offers:
    """The definitions that one worker can run.

    `apps` are apps, modules that hold apps or workflows, or single workflows; of two that offer the same name
    and version the first one counts. `executor` runs the bodies of YAML steps.
    """

    def __init__(self, apps: Iterable[Source] = (), executor: StepExecutor | None = None) -> None:
        self._executor = executor
        self._newest: dict[str, Workflow[Any, Any]] = {}
        self._versions: dict[tuple[str, str], Workflow[Any, Any]] = {}
        self._is_open = True
        for app in apps:
            self._is_open = False
            self._add(app)

    def _add(self, source: Source) -> None:
        if isinstance(source, Workflow):
            self._newest.setdefault(source.name, source)
            self._versions.setdefault((source.name, source.version), source)
        elif isinstance(source, ModuleType):
            parts = [value for value in vars(source).values() if isinstance(value, Workflow | Offering)]
            # Apps first: they know which of several versions was declared last.
            for part in sorted(parts, key=lambda part: isinstance(part, Workflow)):
                self._add(part)
        else:
            for key, workflow in source.versions.items():
                self._versions.setdefault(key, workflow)
            for name, workflow in source.workflows.items():
                self._newest.setdefault(name, workflow)

    def load(self, definition: StoredDefinition) -> Program:
        """The program of a stored definition.

        Raises `WorkflowNotFound` when no code of that name is offered here, `DefinitionChanged` when only
        other versions of it are.
        """
        if definition.kind == "yaml" or self._is_open:
            return self._load_as_stored(definition)
        workflow = self._versions.get((definition.name, definition.version))
        if workflow is not None and (program := program_of(workflow)).definition.hash == definition.hash:
            return program
        offered = sorted(version for name, version in self._versions if name == definition.name)
        if not offered:
            raise WorkflowNotFound(
                f"workflow {definition.name} is not offered here",
                where=str(definition.document.get("module")),
                fix="start a worker with the app that has it",
            )
        raise DefinitionChanged(
            f"version {definition.version} of workflow {definition.name} is not offered here; "
            f"offered: {', '.join(offered)}",
            where=str(definition.document.get("module")),
            fix=f"start a worker with code that has version {definition.version}",
            recorded=definition.version,
            offered=offered,
        )

    def _load_as_stored(self, definition: StoredDefinition) -> Program:
        try:
            return load_program(definition, self._executor)
        except (WorkflowNotFound, DefinitionChanged):
            raise
        except Exception as error:  # what a module raises when it is imported; a kind of step not known here
            raise WorkflowNotFound(
                f"workflow {definition.name} does not load here: {type(error).__name__}: {error}",
                where=str(definition.document.get("path") or definition.document.get("module") or "YAML"),
                fix="correct or install what it needs, or start the worker with the app that has it",
            ) from error

    def has(self, definition: StoredDefinition) -> bool:
        """Whether `load` would give a program."""
        try:
            self.load(definition)
        except HoldfastError:
            return False
        return True

    def find(self, name: str, version: str | None = None) -> Program | None:
        """The program that starts as a child by `name`: that version, or the one declared last."""
        workflow = self._newest.get(name) if version is None else self._versions.get((name, version))
        return None if workflow is None else program_of(workflow)

    def hashes(self) -> list[bytes]:
        """The definitions of the Python workflows offered here; YAML needs no offer."""
        return [program_of(workflow).definition.hash for workflow in self._versions.values()]

    def describe(self) -> list[tuple[str, str]]:
        """Name and version of what `hashes` lists, sorted, for people."""
        return sorted(self._versions)

"""From a name, a file or a stored definition to something that runs.

`holdfast run` names a YAML file or `module:workflow`; `resume` and children start from what the store keeps.
A YAML definition is stored whole and runs as stored; of a Python workflow the store keeps where its code is.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

from holdfast.errors import DefinitionChanged, WorkflowNotFound
from holdfast.records.workflows import StoredDefinition
from holdfast.store import codec
from holdfast.store.store import Store
from holdfast.workflows.program import Program

if TYPE_CHECKING:
    from holdfast.workflows.definition import Definition
    from holdfast.workflows.engine import ExecutionRuntime
    from holdfast.workflows.functions import Workflow
    from holdfast.workflows.steps.base import BodyKind, StepContext

YAML_SUFFIXES = (".yaml", ".yml")


class StepExecutor(Protocol):
    """Runs the body of one attempt of a YAML step; give your own to run bodies elsewhere."""

    async def execute(self, kind: BodyKind, context: StepContext) -> object:
        """The output of one attempt. Cancelling it has to end what it started."""
        ...


class LocalExecutor:
    """Runs bodies in this process, as their kind says."""

    async def execute(self, kind: BodyKind, context: StepContext) -> object:
        """See `StepExecutor.execute`."""
        return await kind.run(context)


def yaml_program(definition: Definition, executor: StepExecutor | None = None) -> Program:
    """The runnable form of a YAML definition."""
    runs = executor or LocalExecutor()

    async def execute(runtime: ExecutionRuntime, input: bytes) -> object:
        from holdfast.workflows.interpreter import interpret

        given = codec.decode(input, what="input") if input else {}
        return await interpret(definition, given, runtime, execute=runs.execute, http=runtime.engine.http)

    return Program(
        definition=StoredDefinition(
            hash=definition.hash,
            name=definition.name,
            version=definition.version,
            kind="yaml",
            document=definition.document(),
            created_at=datetime.now(UTC),
        ),
        execute=execute,
        annotation=Any,
        difference=lambda recorded: _difference(recorded, definition),
    )


def _difference(recorded: StoredDefinition, definition: Definition) -> str:
    from holdfast.workflows.definition import diff, from_document

    if recorded.kind != "yaml":
        return "the recorded one is Python code"
    return diff(from_document(recorded.document), definition)


def load_program(stored: StoredDefinition, executor: StepExecutor | None = None) -> Program:
    """The program of a stored definition.

    Raises `WorkflowNotFound` when Python code is no longer where it was, `DefinitionChanged` when it has
    another version now.
    """
    if stored.kind == "yaml":
        from holdfast.workflows.definition import from_document

        return yaml_program(from_document(stored.document), executor)
    from holdfast.workflows.python_program import program_of

    workflow = _stored_workflow(stored)
    program = program_of(workflow)
    if program.definition.hash != stored.hash:
        raise DefinitionChanged(
            f"workflow {stored.name} is version {workflow.version} now; this execution started with "
            f"version {stored.version}",
            where=str(stored.document.get("path") or stored.document.get("module")),
            recorded=stored.version,
            offered=workflow.version,
        )
    return program


def _stored_workflow(stored: StoredDefinition) -> Workflow[Any, Any]:
    path, module = stored.document.get("path"), str(stored.document.get("module"))
    loaded = sys.modules.get(module)
    if loaded is None or getattr(loaded, "__file__", None) != path:
        loaded = _load_file(Path(str(path))) if path else _import(module)
    found = workflow_in(loaded, stored.name, str(path or module))
    return found.beside(stored.version) or found


def python_workflow(target: str, folder: Path) -> Workflow[Any, Any]:
    """The workflow that `hello.py:report` or `package.module:report` names.

    Raises `WorkflowNotFound` for a missing file, module or workflow.
    """
    place, _, name = target.rpartition(":")
    if not place or not name:
        raise WorkflowNotFound(
            f"{target!r} names no workflow", where=target, fix="write FILE.yaml, FILE.py:NAME or MODULE:NAME"
        )
    return workflow_in(python_module(place, folder), name, place)


def python_module(place: str, folder: Path) -> ModuleType:
    """The module that `hello.py` or `package.module` names, loaded; a file may import its neighbours.

    Raises `WorkflowNotFound` for a missing file or module.
    """
    if place.endswith(".py"):
        return _load_file(folder / place)
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    return _import(place)


def workflow_in(module: ModuleType, name: str, place: str) -> Workflow[Any, Any]:
    """The workflow called `name` in a loaded module, by variable or by workflow name.

    Of several versions that share the name it is the one declared last; a variable with a name of its own
    means the very version it holds.
    """
    from holdfast.workflows.functions import Workflow

    found = getattr(module, name, None)
    if isinstance(found, Workflow):
        return (found.beside(None) or found) if found.name == name else found
    known = {value.name: value for value in vars(module).values() if isinstance(value, Workflow)}
    if name in known:
        return known[name].beside(None) or known[name]
    near = difflib.get_close_matches(name, known, 1) or sorted(known)
    raise WorkflowNotFound(
        f"{place} has no workflow {name!r}",
        where=place,
        fix=f"name one of: {', '.join(near)}" if near else "decorate an async function with @app.workflow",
    )


def _load_file(path: Path) -> ModuleType:
    resolved = path.resolve()
    if not resolved.is_file():
        raise WorkflowNotFound(f"there is no file {path}", where=str(path), fix="correct the path")
    name = resolved.stem
    loaded = sys.modules.get(name)
    if loaded is not None and getattr(loaded, "__file__", None) == str(resolved):
        return loaded
    spec = importlib.util.spec_from_file_location(name, resolved)
    if spec is None or spec.loader is None:
        raise WorkflowNotFound(f"{path} is not a Python file", where=str(path))
    module = importlib.util.module_from_spec(spec)
    # What the file imports lies beside it, as for a script.
    if str(resolved.parent) not in sys.path:
        sys.path.insert(0, str(resolved.parent))
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _import(module: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and not f"{module}.".startswith(f"{error.name}."):
            raise  # the module is there; something it imports is not
        raise WorkflowNotFound(
            f"there is no module {module!r}",
            where=module,
            fix="correct the name, or run where it can be found",
        ) from error


def file_program(path: Path, executor: StepExecutor | None = None) -> Program:
    """The program in a YAML file."""
    from holdfast.workflows.definition import load

    return yaml_program(load(path), executor)


async def wanted_version(
    store: Store, name: str, version: str | None, asking: StoredDefinition | None
) -> str | None:
    """The version that `asking` means by a name alone: the deployed one; None for the newest at hand.

    Python code that calls a workflow means the one beside it, whatever is deployed.
    """
    if version is not None or (asking is not None and asking.kind == "python"):
        return version
    from holdfast.fleet.versions import deployed_version

    return await deployed_version(store, name)


async def find_program(
    store: Store,
    name: str,
    version: str | None,
    asking: StoredDefinition | None = None,
    executor: StepExecutor | None = None,
) -> Program:
    """The program that a `workflow` step means: a file, or a registered name and version.

    Without a version it is what a bare name means: see `fleet.versions.resolve`.
    """
    if name.endswith(YAML_SUFFIXES):
        return file_program(Path(name), executor)
    if asking is not None and asking.name == name and asking.version == (version or asking.version):
        return load_program(asking, executor)
    from holdfast.fleet.versions import resolve

    return load_program(await resolve(store, name, version), executor)

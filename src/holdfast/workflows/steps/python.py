"""`python: module:function` or `file.py:function`: calls a function with `with` as keyword arguments.

A file is relative to the definition's folder and is imported once per process, under a name of its own;
a module has to be importable. Nothing of the user's is imported to validate a definition; `prepare`
imports it before the first step runs, so a wrong name costs no work. A synchronous function runs in a
thread: it can not be stopped, so after a timeout or a cancellation its result is thrown away.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import importlib.util
import inspect
import re
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from holdfast.errors import HoldfastError, InvalidDefinition
from holdfast.workflows.problems import DocumentPath, Report, nearest
from holdfast.workflows.steps.base import BodyKind, StepContext

_TARGET = re.compile(r"(?P<file>[^:\x00]+\.py)|(?P<module>[A-Za-z_][\w.]*)")
_loading = threading.RLock()


class PythonKind(BodyKind):
    """The output is what the function returns, as the store's codec keeps it."""

    name = "python"
    parameters = None

    def validate(self, spec: Any, arguments: Mapping[str, Any], path: DocumentPath, report: Report) -> None:
        """The form of the target."""
        target, _, function = spec.rpartition(":") if isinstance(spec, str) else ("", "", "")
        if not _TARGET.fullmatch(target) or not function.isidentifier():
            report.add(
                path,
                f"{str(spec)[:80]!r} is not a function",
                "write python: module:function or file.py:function",
            )
        for key in arguments:
            if not key.isidentifier():
                report.add((*path[:-1], "with", key), f"{key!r} can not be a parameter", "rename it")

    def prepare(self, spec: Any, folder: Path) -> None:
        """Import the target and find the function."""
        find(spec, folder)

    async def run(self, context: StepContext) -> Any:
        """Call the function: awaited when it is asynchronous, in a thread when it is not."""
        function = find(context.spec, context.folder)
        if inspect.iscoroutinefunction(function):
            return await function(**context.arguments)
        result = await asyncio.to_thread(function, **context.arguments)
        return await result if inspect.isawaitable(result) else result


def find(spec: str, folder: Path) -> Callable[..., Any]:
    """The function that `spec` names; `InvalidDefinition` says what is missing and what is near."""
    target, _, name = spec.rpartition(":")
    try:
        with _loading:
            module = _file(folder / target) if target.endswith(".py") else importlib.import_module(target)
    except HoldfastError:
        raise
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        raise InvalidDefinition(
            f"{target!r} can not be imported: {type(error).__name__}: {error}",
            where=f"python: {spec}",
            fix="correct the module, or install what it needs",
        ) from error
    function = getattr(module, name, None)
    if not callable(function):
        known = [each for each, value in vars(module).items() if callable(value) and not each.startswith("_")]
        raise InvalidDefinition(
            f"{target!r} has no function {name!r}", where=f"python: {spec}", fix=nearest(name, known)
        )
    found: Callable[..., Any] = function
    return found


def _file(path: Path) -> ModuleType:
    resolved = path.resolve()
    name = "holdfast_step_" + hashlib.blake2b(str(resolved).encode(), digest_size=8).hexdigest()
    if name in sys.modules:
        return sys.modules[name]
    if not resolved.is_file():
        raise InvalidDefinition(f"there is no file {str(resolved)!r}", where="python", fix="correct the path")
    spec = importlib.util.spec_from_file_location(name, resolved)
    assert spec is not None and spec.loader is not None  # a .py file always has a loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses of the module look themselves up there
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module

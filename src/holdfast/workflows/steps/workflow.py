"""`workflow: name`, `name@version` or `./other.yaml`: a child execution; its output is the step's output.

`with` is the child's input. A file is read when the child starts, relative to the parent's own folder,
and is handed on as an absolute path.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from holdfast.errors import WorkflowNotFound
from holdfast.workflows.expressions import OPENING
from holdfast.workflows.problems import DocumentPath, Report
from holdfast.workflows.runtime import Runtime
from holdfast.workflows.steps.base import RuntimeKind, StepContext

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,199}(@[A-Za-z0-9_.+\-]{1,100})?", re.ASCII)
_SUFFIXES = (".yaml", ".yml")


class WorkflowKind(RuntimeKind):
    """A literal name or file: which workflow a step starts never depends on data."""

    name = "workflow"
    parameters = None

    def validate(self, spec: Any, arguments: Mapping[str, Any], path: DocumentPath, report: Report) -> None:
        """The form of the name; whether it exists is known when the execution starts."""
        if not isinstance(spec, str) or not spec:
            report.add(path, "`workflow` is a name or a YAML file", "write workflow: other, or ./other.yaml")
        elif OPENING in spec:
            report.add(path, "`workflow` takes no template", "choose between steps with `when`")
        elif not spec.endswith(_SUFFIXES) and not _NAME.fullmatch(spec):
            report.add(
                path,
                f"{spec[:80]!r} is neither a name nor a YAML file",
                "write other, other@2 or ./other.yaml",
            )

    def prepare(self, spec: Any, folder: Path) -> None:
        """Check that a file that is named is there."""
        if isinstance(spec, str) and spec.endswith(_SUFFIXES) and not (folder / spec).is_file():
            raise WorkflowNotFound(
                f"there is no file {str(folder / spec)!r}", where=f"workflow: {spec}", fix="correct the path"
            )

    async def perform(self, runtime: Runtime, context: StepContext) -> Any:
        """Start the child, or find it again, and wait for its output."""
        spec: str = context.spec
        if spec.endswith(_SUFFIXES):
            name, version = str((context.folder / spec).resolve()), None
        else:
            name, _, declared = spec.partition("@")
            version = declared or None
        return await runtime.child(context.path, context.step, name, version, dict(context.arguments))

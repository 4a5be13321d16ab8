"""A decorated workflow as a program that can be stored, and found again by another process."""

from __future__ import annotations

import functools
import inspect
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from holdfast.records.workflows import StoredDefinition
from holdfast.store import codec
from holdfast.workflows.functions import Workflow
from holdfast.workflows.program import Program


def stored_definition(workflow: Workflow[Any, Any]) -> StoredDefinition:
    """What is stored of a Python workflow: its name and version, and where its code is.

    The hash covers name and version only: code is checked by replay, and a file may move.
    """
    source = inspect.getsourcefile(workflow.fn)
    document = {
        "module": workflow.fn.__module__,
        "name": workflow.name,
        "path": str(Path(source).resolve()) if source and Path(source).is_file() else None,
    }
    digest = codec.digest(f"python\0{workflow.name}\0{workflow.version}".encode())
    return StoredDefinition(
        hash=digest,
        name=workflow.name,
        version=workflow.version,
        kind="python",
        document=document,
        created_at=datetime.now(UTC),
    )


@functools.lru_cache(maxsize=1024)  # asked for at every start
def program_of(workflow: Workflow[Any, Any]) -> Program:
    """The runnable form of a decorated workflow."""
    return Program(
        definition=stored_definition(workflow),
        execute=workflow.execute,
        annotation=workflow.signature.result,
        difference=lambda recorded: f"version {recorded.version} became {workflow.version}",
    )

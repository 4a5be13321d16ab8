"""What the fleet runs: a stored definition together with the code that carries it out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from holdfast.records.workflows import StoredDefinition
from holdfast.workflows.engine import ExecutionRuntime


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A runnable definition.

    `execute` takes the runtime and the encoded input; `check_input` raises `InvalidInput` before anything is
    started; `difference` shows people how another definition of the same name differs.
    """

    definition: StoredDefinition
    execute: Callable[[ExecutionRuntime, bytes], Awaitable[object]]
    annotation: Any
    difference: Callable[[StoredDefinition], str]

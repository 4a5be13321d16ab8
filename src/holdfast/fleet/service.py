"""What a worker serves, what it tells of itself, and how its process is set up for that."""

from __future__ import annotations

import gc
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

from holdfast.fleet.starts import CLASSES
from holdfast.records.workflows import StoredDefinition
from holdfast.workflows.program import Program


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """What a worker serves. `poll` is the mean time between two looks of an idle worker."""

    queues: tuple[str, ...] = ("default",)
    classes: tuple[str, ...] = CLASSES
    concurrency: int = 10
    drain_timeout: timedelta = timedelta(seconds=30)
    poll: timedelta = timedelta(seconds=2)


@dataclass(slots=True)
class WorkerReport:
    """What a worker did until it left, and why it left: `drained`, or `schema`."""

    claimed: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    suspended: int = 0
    handed_back: int = 0
    refused: list[str] = field(default_factory=list)
    reason: str = "drained"


class Code(Protocol):
    """What code a worker has; see `fleet.offers.Offers`."""

    def load(self, definition: StoredDefinition) -> Program:
        """The program of a definition; `WorkflowNotFound` or `DefinitionChanged` when it is not here."""
        ...

    def has(self, definition: StoredDefinition) -> bool:
        """Whether `load` would give a program."""
        ...

    def hashes(self) -> list[bytes]:
        """The definitions that are certainly here."""
        ...


def spare_the_collector() -> None:
    """Let the garbage collector pass over what stays for good, and come less often. For a process of its own.

    A worker holds many executions at once, none of them garbage: looking through them every few hundred
    allocations costs a fifth of what running them costs.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)

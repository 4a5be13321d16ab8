"""The words the catalogue is written in: a mode, a system, a scenario."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

SQLITE, POSTGRESQL = "sqlite", "postgresql"
BACKENDS = (SQLITE, POSTGRESQL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mode:
    """How a system is set up for one backend. `{callers}` in an option is the number of callers.

    `rate` is how many jobs a second a worker will certainly not exceed: so many wait for it in `queue`.
    """

    text: str
    options: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    rate: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """A module of `benchmarks.systems` with one way of setting it up per backend."""

    name: str
    module: str
    environment: str | None  # the table in peers.toml; None: the environment this runs in
    modes: Mapping[str, Mode]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What is run. `systems` None means all of its contest; `request` goes to its process."""

    name: str
    title: str
    unit: str
    contest: str = "workflows"  # who competes: the systems of workflows, or those of queues
    value: str = "value"  # the figure of a measurement that is the row's value
    backends: tuple[str, ...] = BACKENDS
    concurrency: tuple[int, ...] = (1,)
    systems: tuple[str, ...] | None = None
    module: str | None = None  # instead of the systems' own
    slow_disk: bool = False
    more_is_better: bool = True
    rounds: int = 3  # in `all`; fewer where making the rows takes longer than measuring
    setup_s: float = 120
    """What a process may take beside its measured seconds: imports, making tables, filling them."""
    request: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

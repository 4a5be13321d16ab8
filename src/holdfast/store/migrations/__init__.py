"""Numbered SQL files that build and change the schema, and the ledger of those that are applied.

`load` reads the files, `up`, `down` and `to` run them through a driver's `MigrationSession`, `status`,
`pending`, `forecast` and `require_current` only look, `resolve` puts the ledger right by hand, `sql` prints
and `create` begins a new file. The grammar of a file is told in `parser`, the numbering in `files`, what
is atomic in `runner` and `stepwise`, what `down` refuses in `data_loss`.

The names are looked up when they are first used: drivers import this package for the port alone, and a
command that opens no store should not pay for the parser.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from holdfast.store.migrations.files import OWN_VERSION_MAX, Migration, MigrationSet, create, load
    from holdfast.store.migrations.outlook import Forecast, forecast, forecast_empty
    from holdfast.store.migrations.plan import Direction, MigrationState, Standing
    from holdfast.store.migrations.printing import sql
    from holdfast.store.migrations.repair import Repair, Verdict, resolve
    from holdfast.store.migrations.runner import (
        LOCK_TIMEOUT,
        Applied,
        Progress,
        down,
        pending,
        require_current,
        status,
        to,
        up,
    )
    from holdfast.store.migrations.session import MigrationSession

__all__ = [
    "load", "create", "status", "pending", "require_current", "up", "down", "to", "sql", "forecast",
    "forecast_empty", "resolve", "Migration", "MigrationSet", "MigrationState", "Standing", "Direction",
    "Applied", "Progress", "Forecast", "Repair", "Verdict", "MigrationSession", "LOCK_TIMEOUT",
    "OWN_VERSION_MAX",
]  # fmt: skip

_HOMES = {
    "files": ("OWN_VERSION_MAX", "Migration", "MigrationSet", "create", "load"),
    "outlook": ("Forecast", "forecast", "forecast_empty"),
    "plan": ("Direction", "MigrationState", "Standing"),
    "printing": ("sql",),
    "repair": ("Repair", "Verdict", "resolve"),
    "runner": (
        "LOCK_TIMEOUT", "Applied", "Progress", "down", "pending", "require_current", "status", "to", "up",
    ),
    "session": ("MigrationSession",),
}  # fmt: skip
_HOME = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = found
    return found

"""Questions to a database's own catalogue, as named statements for each dialect."""

from __future__ import annotations

from functools import lru_cache

from holdfast.store.migrations.splitter import Dialect
from holdfast.store.sql import split


@lru_cache(maxsize=3)
def catalogue(dialect: Dialect) -> dict[str, str]:
    """The statements of a dialect by name."""
    from importlib.resources import files

    text = (files(__name__) / f"{dialect}.sql").read_text(encoding="utf-8")
    return {name.removeprefix("catalogue."): body for name, body in split(text).items()}

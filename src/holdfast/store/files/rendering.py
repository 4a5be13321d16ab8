"""From the rows of an aggregate to its document, and back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from holdfast.errors import DamagedData
from holdfast.records.tables import Kind, Table
from holdfast.store.dialects import Dialect
from holdfast.store.drivers.base import Row
from holdfast.store.files.aggregates import Aggregate, aggregates, root_columns
from holdfast.store.files.documents import to_mapping, to_row
from holdfast.store.files.names import file_name, joined_name
from holdfast.store.files.place import Form
from holdfast.store.mapping import listed
from holdfast.store.table_rows import Plain, table_rows

DIALECT = Dialect("sqlite", "?")
VERSION = 1
_HEAD = "holdfast"
_PARTS = "with"


class Reader(Protocol):
    """What reads rows: a driver or a transaction."""

    async def fetch_text(self, text: str, *args: Any) -> list[Row]:
        """See `Executor.fetch_text`."""
        ...


def key_of(aggregate: Aggregate, spelled: str) -> Plain:
    """The key of a document, from a note."""
    parts = json.loads(spelled)
    return tuple(
        bytes.fromhex(part) if aggregate.root.column(name).kind is Kind.BYTES else part
        for name, part in zip(aggregate.root.key, parts, strict=True)
    )


async def read_rows(reader: Reader, aggregate: Aggregate, key: Plain) -> dict[str, list[Plain]]:
    """The rows of a document by table; no root row means that there is none."""
    found: dict[str, list[Plain]] = {}
    for table in aggregate.tables:
        rows = table_rows(table, DIALECT)
        columns = root_columns(table) if table is not aggregate.root else table.key
        conditions = " AND ".join(f"{name} = ?{number}" for number, name in enumerate(columns, 1))
        text = (
            f"SELECT {listed(DIALECT, table.names)} FROM {table.name} WHERE {conditions} "
            f"ORDER BY {listed(DIALECT, table.key)}"
        )
        found[table.name] = [rows.plain(row) for row in await reader.fetch_text(text, *key)]
        if table is aggregate.root and not found[table.name]:
            return found
    return found


def path_of(aggregate: Aggregate, root: Plain, form: Form) -> Path:
    """Where the document of a root row lies, below the base folder.

    The id is the column `id` where there is one, else what of the key is not the tenant.
    """
    values = dict(zip(aggregate.root.names, root, strict=True))
    folder = Path(aggregate.name)
    if "tenant_id" in values:
        folder /= file_name(values["tenant_id"])
    names = ["id"] if "id" in values else [name for name in aggregate.root.key if name != "tenant_id"]
    spelled = joined_name(
        values[name].hex() if isinstance(values[name], bytes) else file_name(str(values[name]))
        for name in names
    )
    return folder / f"{spelled}{form.extension}"


def document_of(aggregate: Aggregate, rows: dict[str, list[Plain]]) -> dict[str, Any]:
    """The document of an aggregate. Columns of a part that repeat the root's key are left out."""
    (root,) = rows[aggregate.root.name]
    head = f"{aggregate.name} {VERSION}"
    document: dict[str, Any] = {_HEAD: head, **to_mapping(aggregate.root, root)}
    parts = {
        part.name: [to_mapping(part, row, without=_repeated(part)) for row in rows[part.name]]
        for part in aggregate.parts
        if rows[part.name]
    }
    return {**document, **({_PARTS: parts} if parts else {})}


def rows_of(document: dict[str, Any], *, place: str) -> tuple[Aggregate, dict[str, list[Plain]]]:
    """The aggregate and the rows of a document. Raises `DamagedData` that names the place."""
    rest = dict(document)
    kind, _, version = str(rest.pop(_HEAD, "")).partition(" ")
    aggregate = aggregates().get(kind)
    if aggregate is None:
        raise DamagedData(f"{place} is of no known kind", where=f"{place}: {_HEAD}")
    if version != str(VERSION):
        raise DamagedData(f"{place} is not a document of this version", where=f"{place}: {_HEAD}")
    parts = rest.pop(_PARTS, {})
    if not isinstance(parts, dict) or any(name not in _names(aggregate.parts) for name in parts):
        raise DamagedData(f"{place} holds what does not belong to it", where=f"{place}: with")
    root = to_row(aggregate.root, rest, {}, place=place)
    rows = {aggregate.root.name: [root]}
    for part in aggregate.parts:
        rows[part.name] = _part_rows(aggregate, part, root, parts.get(part.name, []), place)
    return aggregate, rows


def _part_rows(aggregate: Aggregate, part: Table, root: Plain, listed: Any, place: str) -> list[Plain]:
    if not isinstance(listed, list):
        raise DamagedData(f"{place} has no list of {part.name}", where=f"{place}: with.{part.name}")
    return [
        to_row(part, each, _given(aggregate, part, root), place=f"{place}: with.{part.name}[{number}]")
        for number, each in enumerate(listed)
    ]


def _given(aggregate: Aggregate, part: Table, root: Plain) -> dict[str, Any]:
    """What a part's row has from its root, spelled as a document spells it."""
    table = aggregate.root
    names = dict(zip(root_columns(part), table.key, strict=True))
    values = {own: root[table.names.index(theirs)] for own, theirs in names.items()}
    if "tenant_id" in part.names and "tenant_id" in table.names:
        values["tenant_id"] = root[table.names.index("tenant_id")]
    row = tuple(values.get(name) for name in part.names)
    return to_mapping(part, row)


def _repeated(part: Table) -> Sequence[str]:
    return (*root_columns(part), "tenant_id")


def _names(tables: Sequence[Table]) -> set[str]:
    return {table.name for table in tables}

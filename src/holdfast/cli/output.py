"""Data on stdout, in the form that was asked for.

A table is for a terminal; in a pipe it is plain aligned text, whole and without colour. JSON is the shape
of the REST body: a record is an object, a list is `{"items": [...]}`. Times are relative on a terminal and
ISO 8601 in UTC everywhere else; durations have units in a table and are seconds as a number everywhere else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal, TextIO

from holdfast.errors import InvalidUsage

if TYPE_CHECKING:
    from holdfast.cli.flags import GlobalFlags

Record = Mapping[str, Any]
# What would move the cursor or end the line: data must not steer the reader's terminal.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
LINE_MAX = 200
_STEPS = ((60, 1, "s"), (3600, 60, "min"), (172_800, 3600, "h"), (float("inf"), 86_400, "d"))


def plain(value: Any) -> Any:
    """`value` as JSON knows it; secrets stay hidden, sets are sorted, times are UTC, durations seconds."""
    if isinstance(value, Enum):
        return plain(value.value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted((plain(item) for item in value), key=str)
    if isinstance(value, Iterable) and not isinstance(value, bytes):
        return [plain(item) for item in value]
    return _spell(value)


def _spell(value: object) -> str | float:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, timedelta):
        return value.total_seconds()
    return value.hex() if isinstance(value, bytes) else str(value)


def relative(moment: datetime, now: datetime) -> str:
    """`moment` seen from `now`: `3 min ago`, `in 2 h`; a date when it is over 30 days away."""
    seconds = (now - moment).total_seconds()
    if abs(seconds) > 30 * 86_400:
        return moment.astimezone().strftime("%Y-%m-%d")
    for limit, unit, name in _STEPS:
        if abs(seconds) < limit:
            count = int(abs(seconds) // unit)
            return f"{count} {name} ago" if seconds >= 0 else f"in {count} {name}"
    raise AssertionError("the last step has no limit")


def seconds_text(seconds: float) -> str:
    """A length of time for people: `3 ms`, `0.2 s`, `1 min 5 s`, `2 h 3 min`."""
    if seconds < 0.1:
        return f"{max(seconds, 0) * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def counted(count: int, one: str, many: str) -> str:
    """A count with its noun: `1 step`, `1,200 steps`."""
    return f"{count:,} {one if count == 1 else many}"


def one_line(text: str, most: int = LINE_MAX) -> str:
    """`text` on one line without control characters, cut to `most` characters."""
    flat = "".join(each if each.isprintable() else " " for each in text)
    flat = " ".join(flat.split())
    return flat if len(flat) <= most else flat[: most - 1] + "…"


class Output:
    """Writes records the way the global flags say."""

    def __init__(self, stream: TextIO, flags: GlobalFlags, *, color: bool) -> None:
        self._stream = stream
        self._flags = flags
        self._color = color
        self._terminal = stream.isatty()

    @property
    def is_table(self) -> bool:
        """Whether a person reads this: a command may then print prose instead of records."""
        return self._flags.output == "table" and not self._flags.quiet and self._flags.fields is None

    def text(self, text: str) -> None:
        """Print prose; only where `is_table`."""
        self._stream.write(text if text.endswith("\n") else text + "\n")

    def records(
        self, rows: Iterable[Record], columns: Sequence[str], *, key: str = "id", **page: object
    ) -> None:
        """Print a list. `columns` are those of a table; `key` is the id that --quiet prints.

        JSON has every field of the rows; `page` (`next_cursor=…`) stands beside its `items`.
        """
        items = [dict(row) for row in rows]
        chosen = self._chosen(items, columns)
        if self._flags.quiet:
            self._lines(str(plain(item.get(key))) for item in items)
            return
        if self._flags.fields is not None:
            items = [{name: item.get(name) for name in chosen} for item in items]
        match self._flags.output:
            case "json":
                self._json({"items": plain(items), **page})
            case "ndjson":
                self._lines(json.dumps(plain(item), ensure_ascii=False) for item in items)
            case "yaml":
                self._yaml({"items": plain(items), **page})
            case "csv":
                self._csv(items, chosen)
            case _:
                self._table(items, chosen)

    def record(self, row: Record, *, key: str = "id") -> None:
        """Print one thing: an object, or a line per field."""
        item = dict(row)
        chosen = self._chosen([item], list(item))
        if self._flags.quiet:
            self._lines([str(plain(item.get(key, next(iter(item.values()), ""))))])
            return
        item = {name: item.get(name) for name in chosen}
        match self._flags.output:
            case "json":
                self._json(plain(item))
            case "ndjson":
                self._lines([json.dumps(plain(item), ensure_ascii=False)])
            case "yaml":
                self._yaml(plain(item))
            case "csv":
                self._csv([item], chosen)
            case _:
                width = max((len(name) for name in item), default=0)
                self._lines(f"{name:<{width}}  {self._cell(value)}".rstrip() for name, value in item.items())

    def _chosen(self, items: Sequence[Record], columns: Sequence[str]) -> list[str]:
        if self._flags.fields is None:
            return list(columns)
        wanted = [name.strip() for name in self._flags.fields.split(",") if name.strip()]
        known = list(dict.fromkeys([*columns, *(name for item in items for name in item)]))
        for name in wanted:
            if name not in known:
                raise InvalidUsage(
                    f"there is no field {name!r}", where="--fields", fix=f"choose from {', '.join(known)}"
                )
        return wanted

    def _cell(self, value: Any) -> str:
        if value is None:
            return ""
        if isinstance(value, datetime) and self._terminal and not self._flags.utc:
            return relative(value, datetime.now(UTC))
        if isinstance(value, timedelta):
            return seconds_text(value.total_seconds())
        found = plain(value)
        if isinstance(found, bool):
            found = str(found).lower()
        text = found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)
        return _CONTROL.sub(lambda match: repr(match[0])[1:-1], text)

    def _lines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self._stream.write(line + "\n")

    def _json(self, value: object) -> None:
        indent = 2 if self._terminal else None
        self._stream.write(json.dumps(value, ensure_ascii=False, indent=indent) + "\n")

    def _yaml(self, value: object) -> None:
        import yaml

        yaml.safe_dump(value, self._stream, sort_keys=False, allow_unicode=True)

    def _csv(self, items: Sequence[Record], columns: Sequence[str]) -> None:
        import csv

        writer = csv.writer(self._stream, lineterminator="\n")
        if not self._flags.no_headers:
            writer.writerow(columns)
        for item in items:
            writer.writerow([self._csv_cell(item.get(name)) for name in columns])

    @staticmethod
    def _csv_cell(value: Any) -> Any:
        found = plain(value)
        if isinstance(found, bool):
            return str(found).lower()
        return json.dumps(found, ensure_ascii=False) if isinstance(found, dict | list) else found

    def _table(self, items: Sequence[Record], columns: Sequence[str]) -> None:
        cells = [[self._cell(item.get(name)) for name in columns] for item in items]
        titles = [name.replace("_", " ").upper() for name in columns]
        if self._terminal:
            self._rich_table(titles, cells)
            return
        head = [] if self._flags.no_headers else [titles]
        widths = [max(map(len, column)) for column in zip(*head, *cells, strict=True)]
        for row in (*head, *cells):
            line = "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
            self._stream.write(line.rstrip() + "\n")

    def _rich_table(self, titles: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, show_header=not self._flags.no_headers, header_style="bold")
        for title in titles:
            table.add_column(title, overflow="fold")
        for row in cells:
            table.add_row(*(Text(cell) for cell in row))  # as Text: brackets in data are no markup
        colors: Literal["standard"] | None = "standard" if self._color else None
        Console(file=self._stream, color_system=colors, highlight=False).print(table)

"""The log as the record of a store in memory: every transaction is in it before anybody is answered.

A transaction's events are lines of their executions' logs; what else it changed is one line of
`.store/state.log`, which also names those events. That line is written and synced last: a transaction is
there when its line is, and events that no line names belong to one that nobody was told of.

When most of `state.log` tells of what has changed since, it is written anew with what there is and put in the
place of the old one.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, cast

import msgspec

from holdfast.errors import DamagedData, NoStore, StoreUnavailable, UnknownOutcome, UnsupportedStorage
from holdfast.events.files.examining import examine
from holdfast.events.files.layout import POSITION, STORE, LogLock, LogOptions, execution_folders, told
from holdfast.events.files.lines import (
    About,
    LoggedEvent,
    about_queries,
    definition_key,
    definition_query,
    event_of,
    plain_rows,
    sealed,
    spell,
)
from holdfast.events.files.reading import lines_below
from holdfast.events.files.writing import AppendFile, LogFile, LogFiles, damage
from holdfast.records.engine_tables import DEFINITIONS, EVENTS, EXECUTION_DETAILS, EXECUTIONS
from holdfast.store.dialects import Dialect
from holdfast.store.drivers.recorded import Change, Look
from holdfast.store.files.place import TEMPORARY, sync_folder, write_synced
from holdfast.store.table_rows import table_rows

STATE = "state.log"
SHRINK_BYTES_MIN = 4 * 2**20
"""A `state.log` is left alone until it is this long, and twice as long as when it was written anew."""
_FORMAT = 1
_ROWS_PER_LINE = 500
_SQLITE = Dialect("sqlite", "?")
_POSITION = "position"


class _Transaction(msgspec.Struct):
    n: int
    events: list[tuple[str, int, int]] = []
    rows: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = []
    format: int = _FORMAT
    anew: int = 0  # in the first line of a file that was written anew: its length


class RecordedFiles:
    """The record of one store below a folder; see `Record`. `create` lets it begin where nothing is."""

    def __init__(self, base: Path, options: LogOptions, *, create: bool = False) -> None:
        if options.fsync != "always":
            raise UnsupportedStorage(
                "the event log of a store in memory is its record: what is acknowledged has to be on disk",
                where="event_log.fsync",
                fix="set event_log.fsync to always, or choose a store on disk",
            )
        self._base = base
        self._create = create
        self._lock = LogLock(base)
        self._files = LogFiles(base, options)
        self._state = AppendFile(base / STORE / STATE)
        self._is_writing = False
        self._last = 0  # the number of the last transaction
        self._counted: dict[bytes, int] = {}  # the last event of each execution that is part of one
        self._shrink_at = SHRINK_BYTES_MIN

    def open(self) -> None:
        """See `Record.open`."""
        has_record = (self._base / STORE).exists()
        if not has_record and not self._create:
            raise NoStore(
                f"No event log of a store in memory at {self._base}",
                fix="run a workflow first, or name its folder with event_log.dir",
            )
        with told(self._base):
            self._lock.take()
        if (self._base / POSITION).exists() or (not has_record and execution_folders(self._base)):
            self._lock.leave()
            raise UnsupportedStorage(
                f"{self._base} holds the event log of another store",
                where=str(self._base),
                fix="name another folder with event_log.dir; `holdfast events rebuild` makes a store of it",
            )

    def close(self) -> None:
        """See `Record.close`."""
        self._files.close()
        self._state.close()
        self._is_writing = False
        self._lock.leave()

    # Reading.

    def read(self) -> Iterator[list[Change]]:
        """See `Record.read`."""
        events = self._events()
        for offset, transaction in self._transactions():
            changes = [
                Change(table, op, _opened(key), _opened(values))
                for table, op, key, values in transaction.rows
            ]
            for key_text, seq, position in transaction.events:
                key = bytes.fromhex(key_text)
                event = events.get((key, seq))
                if event is None:
                    raise damage(
                        self._state.path,
                        offset,
                        f"transaction {transaction.n} has event {seq} of execution {key_text}, "
                        "which is in no file below the folder",
                    )
                self._counted[key] = max(seq, self._counted.get(key, 0))
                changes.append(_event_change(event, position))
            yield changes

    def _transactions(self) -> Iterator[tuple[int, _Transaction]]:
        path = self._state.path
        data = path.read_bytes() if path.exists() else b""
        found = examine(data)
        if found.fault is not None:
            raise damage(path, found.end, found.fault)
        for number, (offset, line) in enumerate(found.lines):
            try:
                transaction = msgspec.json.decode(line, type=_Transaction)
            except msgspec.MsgspecError as error:
                raise damage(path, offset, f"a whole line is no transaction: {error}") from error
            if transaction.n != number or transaction.format > _FORMAT:
                raise damage(path, offset, f"transaction {number} was expected, {transaction.n} stands there")
            self._last = number
            if not number:
                self._shrink_at = max(SHRINK_BYTES_MIN, 2 * transaction.anew)
            else:
                yield offset, transaction

    def _events(self) -> dict[tuple[bytes, int], LoggedEvent]:
        found: dict[tuple[bytes, int], LoggedEvent] = {}
        for folder in execution_folders(self._base):
            for logged in lines_below(folder):
                found[logged.event.execution, logged.event.seq] = logged.event
        return found

    # Writing.

    def write(self, changes: Sequence[Change], look: Look) -> None:
        """See `Record.write`."""
        made = [each for each in changes if each.table == EVENTS.name and each.op == "insert"]
        rest = [each for each in changes if each.table != EVENTS.name or each.op != "insert"]
        with told(self._base):
            self._begin()
            logs, named = self._lines(made, look)
            written: list[LogFile] = []
            before = self._state.size
            try:
                for file, lines in logs:
                    file.append(lines)
                    written.append(file)
                self._files.sync_all(written)
                self._state.write(_spelled(self._last + 1, named, rest))
                self._state.sync()
            except OSError:
                self._undo(written, before)
                raise
            self._last += 1
            for key_text, seq, _ in named:
                self._counted[bytes.fromhex(key_text)] = seq
            self._files.tidy()

    def _begin(self) -> None:
        """Before the first write: cut off what a crash left, or make the file."""
        if self._is_writing:
            return
        data = self._state.open()
        found = examine(data)
        if found.end < len(data):
            self._state.cut(found.end, keep=data[found.end :])
        if not found.lines:
            self._state.write(sealed(msgspec.json.encode({"n": 0, "format": _FORMAT})))
            self._state.force()
        self._is_writing = True

    def _lines(
        self, made: Sequence[Change], look: Look
    ) -> tuple[list[tuple[LogFile, list[tuple[int, bytes]]]], list[tuple[str, int, int]]]:
        """The lines of a transaction's events, by log, and how its own line names them."""
        if not made:
            return [], []
        first = min(each.key[_POSITION] for each in made)
        rows = look("events.whole", first - 1, len(made))
        if len(rows) != len(made):
            raise RuntimeError(f"{len(made)} events were made, {len(rows)} are found")
        grouped: dict[bytes, list[LoggedEvent]] = {}
        for row in rows:
            grouped.setdefault(bytes(row[0]), []).append(event_of(row, _SQLITE))
        abouts = self._abouts([key for key, events in grouped.items() if events[0].seq == 1], look)
        logs = []
        for key, events in grouped.items():
            events.sort(key=lambda event: event.seq)
            file = self._files.file(events[0].id, events[0].tenant, key, counted=self._counted)
            lines = [
                (event.seq, spell(event, abouts.get(key) if event.seq == 1 else None)) for event in events
            ]
            logs.append((file, lines))
        return logs, [(bytes(row[0]).hex(), row[1], row[-1]) for row in rows]

    def _abouts(self, keys: Sequence[bytes], look: Look) -> dict[bytes, About]:
        if not keys:
            return {}
        executions_text, details_text = about_queries(_SQLITE, len(keys))
        details = plain_rows(EXECUTION_DETAILS, _SQLITE, look(details_text, *keys))
        found: dict[bytes, About] = {}
        for key, execution in plain_rows(EXECUTIONS, _SQLITE, look(executions_text, *keys)).items():
            rows = look(definition_query(_SQLITE), *definition_key(execution))
            definition = table_rows(DEFINITIONS, _SQLITE).plain(rows[0]) if rows else None
            found[key] = About(execution, details.get(key), definition)
        return found

    def shrink(self, rows: Callable[[], Iterable[Change]]) -> None:
        """See `Record.shrink`. At any time the old file or the new one is there, and both say the same."""
        if self._state.size < self._shrink_at:
            return
        path = self._state.path
        temporary = path.with_name(f"{TEMPORARY}{path.name}")
        try:
            last, text = self._anew(rows())
            write_synced(temporary, text, over=True)
        except (OSError, DamagedData):
            self._shrink_at *= 2  # the old one is whole, and goes on
            return
        try:
            temporary.rename(path)
            sync_folder(path.parent)
            self._state.close()
            self._state.open()
        except OSError as error:
            raise StoreUnavailable(
                f"the record was written anew and could not be put in its place: {error.strerror}",
                where=str(path),
                fix="open the store again",
            ) from error
        self._last = last
        self._shrink_at = max(SHRINK_BYTES_MIN, 2 * len(text))

    def _anew(self, rows: Iterable[Change]) -> tuple[int, bytes]:
        """The lines that tell of these rows alone, and the number of the last of them.

        Raises `DamagedData` for an event that is in no file, such as one that was moved away.
        """
        logged, rest = self._events(), iter(rows)
        lines: list[bytes] = []
        while several := [*islice(rest, _ROWS_PER_LINE)]:
            others = [each for each in several if each.table != EVENTS.name]
            named, changed = [], []
            for each in several:
                if each.table == EVENTS.name:
                    key, seq, position = each.values["execution"], each.values["seq"], each.key[_POSITION]
                    if (key, seq) not in logged:
                        raise damage(self._state.path, 0, f"event {seq} of {key.hex()} is in no file")
                    named.append((key.hex(), seq, position))
                    told = _event_change(logged[key, seq], position).values
                    since = {name: value for name, value in each.values.items() if value != told[name]}
                    if since:
                        changed.append(each._replace(op="update", values=since))
            lines.append(_spelled(len(lines) + 1, named, others))
            if changed:  # behind the line that makes them: in one line inserts come last
                lines.append(_spelled(len(lines) + 1, [], changed))
        text = b"".join(lines)
        first = sealed(msgspec.json.encode({"n": 0, "format": _FORMAT, "anew": len(text)}))
        return len(lines), first + text

    def _undo(self, written: Sequence[LogFile], state_size: int) -> None:
        """Take a transaction back that is not wholly on disk, so that it may be tried again."""
        try:
            for file in written:
                file.undo()
            # Its line must not come back after a crash: those who waited for it are told that it failed.
            if self._state.size != state_size:
                self._state.cut(state_size)
            self._state.force()
        except OSError as error:
            self._is_writing = False
            raise UnknownOutcome(
                "the disk failed while a transaction was recorded, and again while it was taken back",
                where=str(self._base),
                fix="open the store again: it has the transaction whole or not at all",
            ) from error


def _event_change(event: LoggedEvent, position: int) -> Change:
    inline = event.value if event.ref is None else None
    values = dict(zip(EVENTS.names, (*event[:14], inline, event.ref), strict=True))
    values["result"] = int(event.result)
    return Change(EVENTS.name, "insert", {_POSITION: position}, values)


def _spelled(n: int, events: Sequence[tuple[str, int, int]], rows: Sequence[Change]) -> bytes:
    line: dict[str, Any] = {"n": n}
    if events:
        line["events"] = events
    if rows:
        line["rows"] = [(each.table, each.op, _closed(each.key), _closed(each.values)) for each in rows]
    return sealed(msgspec.json.encode(line))


def _closed(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: {"bytes": base64.b64encode(value).decode()} if isinstance(value, bytes) else value
        for name, value in values.items()
    }


def _opened(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: base64.b64decode(cast("str", value["bytes"])) if isinstance(value, dict) else value
        for name, value in values.items()
    }

"""Reading a log, also beside the process that writes it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from holdfast.errors import DamagedData
from holdfast.events.files.examining import examine
from holdfast.events.files.layout import CURRENT, full_files, read_full
from holdfast.events.files.lines import Logged, read
from holdfast.events.files.writing import damage

_LOOKS_MAX = 100


def lines_below(folder: Path) -> Iterator[Logged]:
    """What the lines of one execution say, in order; a half line at the end does not count.

    A file that is set aside or compressed meanwhile is read where it is then. Raises `DamagedData` with the
    file and the offset.
    """
    last = 0
    done: set[int] = set()
    for _ in range(_LOOKS_MAX):
        waiting = [(number, path) for number, path in full_files(folder) if number not in done]
        current = _current(folder) if not waiting else None
        if current is not None and all(number in done for number, _ in full_files(folder)):
            # Nothing was set aside since: this is what follows the files that were read.
            yield from _said(folder / CURRENT, current, last, is_full=False)
            return
        for number, path in waiting:
            try:
                data = read_full(path)
            except FileNotFoundError:
                break  # it is compressed by now, and has another name
            for logged in _said(path, data, last, is_full=True):
                last = logged.event.seq
                yield logged
            done.add(number)
    raise DamagedData(f"the files below {folder} change faster than they can be read", where=str(folder))


def _current(folder: Path) -> bytes:
    try:
        return (folder / CURRENT).read_bytes()
    except FileNotFoundError:
        return b""


def _said(path: Path, data: bytes, last: int, *, is_full: bool) -> Iterator[Logged]:
    found = examine(data)
    if found.fault is not None or (is_full and found.end < len(data)):
        raise damage(path, found.end, found.fault or "a file that was full ends in half a line")
    for offset, line in found.lines:
        try:
            logged = read(line)
        except (ValueError, KeyError) as error:
            raise damage(path, offset, f"a whole line is none of the log: {error}") from error
        seq = logged.event.seq
        if seq != last + 1:
            raise damage(path, offset, f"event {last + 1} is missing before event {seq}")
        last = seq
        yield logged

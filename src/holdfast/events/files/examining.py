"""Whether the bytes of a log are whole, and if not, whether a write was cut off or something was damaged.

A line is appended, synced, and then stands. A crash in between leaves the beginning of lines, or a stretch of
zero bytes where a block never reached the disk: that is torn, was never acknowledged, and is cut off.
Anything else that is not a whole line was changed after it had been written: that is damage, and is said.
"""

from __future__ import annotations

from dataclasses import dataclass

from holdfast.events.files.lines import is_whole

_BLOCK_BYTES = 512


@dataclass(frozen=True, slots=True)
class Examined:
    """The whole lines at the beginning of a file, each with where it begins, and what follows them.

    `end` is where they end. `fault` says what is wrong with the rest; it is None for nothing and for what is
    torn.
    """

    lines: list[tuple[int, bytes]]
    end: int
    fault: str | None


def examine(data: bytes) -> Examined:
    """Look at the contents of a file."""
    lines: list[tuple[int, bytes]] = []
    begin = 0
    while (end := data.find(b"\n", begin)) >= 0:
        line = data[begin:end]
        if not is_whole(line):
            break
        lines.append((begin, line))
        begin = end + 1
    return Examined(lines, begin, _fault(data, begin))


def _fault(data: bytes, begin: int) -> str | None:
    """What is wrong with the bytes from `begin` on, which are no whole line; None if they are torn."""
    rest = data[begin:]
    if not rest or _lost_block(data, begin):
        return None
    parts = rest.split(b"\n")
    if any(is_whole(part) for part in parts[1:]):
        return "a line is damaged, and whole ones follow it"
    if parts[-1] == b"":
        return "the last line is damaged"
    if is_whole(rest[:-1]):
        return "the end of the last line is damaged"
    return None


def _lost_block(data: bytes, begin: int) -> bool:
    """Whether a stretch of zero bytes lies as a block lies that was to be written from `begin` on.

    A single flipped bit can make a zero byte as well, but not one that fills its block.
    """
    first = data.find(b"\0", begin)
    if first < 0 or (first != begin and first % _BLOCK_BYTES):
        return False
    after = first
    while after < len(data) and data[after] == 0:
        after += 1
    return after == len(data) or after % _BLOCK_BYTES == 0

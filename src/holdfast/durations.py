"""Durations and sizes as people write them: `30s`, `1h30m`, `250ms`, `P1DT2H`, `64MiB`.

A duration needs a unit; a bare number is refused in text, because "30" has meant both seconds and
milliseconds in other systems. In Python code a number is seconds, and a `timedelta` is itself.
"""

from __future__ import annotations

import re
from datetime import timedelta

from holdfast.errors import InvalidArgument

_UNIT_US = {
    "us": 1,
    "ms": 1_000,
    "s": 1_000_000,
    "m": 60_000_000,
    "min": 60_000_000,
    "h": 3_600_000_000,
    "d": 86_400_000_000,
    "w": 604_800_000_000,
    "y": 31_536_000_000_000,
}
_PART = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)\s*(us|ms|min|s|m|h|d|w|y)", re.ASCII)
_ISO = re.compile(
    r"P(?:(\d{1,9})W)?(?:(\d{1,9})D)?(?:T(?:(\d{1,9})H)?(?:(\d{1,9})M)?(?:(\d{1,9}(?:\.\d{1,6})?)S)?)?",
    re.ASCII,
)
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,3})?)\s*(B|kB|KB|KiB|MB|MiB|GB|GiB|TB|TiB)", re.ASCII)
_SIZE_FACTOR = {
    "B": 1, "kB": 10**3, "KB": 10**3, "KiB": 2**10, "MB": 10**6, "MiB": 2**20,
    "GB": 10**9, "GiB": 2**30, "TB": 10**12, "TiB": 2**40,
}  # fmt: skip
_LONGEST = timedelta(days=365 * 100)

Duration = str | int | float | timedelta
"""What Python callers may pass: `"30s"`, seconds, or a `timedelta`."""


def parse_duration(value: Duration) -> timedelta:
    """`value` as a `timedelta`, never negative and at most 100 years; `InvalidArgument` otherwise."""
    if isinstance(value, timedelta):
        found = value
    elif isinstance(value, bool):
        raise InvalidArgument(f"{value!r} is not a duration", fix="write it as 30s, 5m or 12h")
    elif isinstance(value, int | float):
        if not 0 <= value <= _LONGEST.total_seconds():  # also refuses NaN
            raise InvalidArgument(f"{value!r} seconds is outside 0 to 100 years")
        found = timedelta(seconds=value)
    else:
        found = _parse_text(value)
    if not timedelta(0) <= found <= _LONGEST:
        raise InvalidArgument(f"the duration {value!r} is outside 0 to 100 years")
    return found


def _parse_text(text: str) -> timedelta:
    stripped = text.strip()
    if stripped.startswith("P") and len(stripped) > 2 and (iso := _ISO.fullmatch(stripped)):
        weeks, days, hours, minutes, seconds = (float(part or 0) for part in iso.groups())
        return timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds)
    position, total_us, parts = 0, 0.0, 0
    while part := _PART.match(stripped, position):
        total_us += float(part[1]) * _UNIT_US[part[2]]
        parts += 1
        position = part.end()
        while position < len(stripped) and stripped[position] == " ":
            position += 1
    if not parts or position != len(stripped):
        raise InvalidArgument(
            f"{text[:80]!r} is not a duration", fix="write a number with a unit: 250ms, 30s, 5m, 12h, 30d"
        )
    if total_us > _LONGEST / timedelta(microseconds=1):
        raise InvalidArgument(f"the duration {text[:80]!r} is outside 0 to 100 years")
    return timedelta(microseconds=round(total_us))


def format_duration(value: timedelta) -> str:
    """The shortest exact spelling that `parse_duration` reads back: `1h30m`, `250ms`, `0s`."""
    rest = round(value / timedelta(microseconds=1))
    spelled = ""
    for unit in ("d", "h", "m", "s", "ms", "us"):
        count, rest = divmod(rest, _UNIT_US[unit])
        spelled += f"{count}{unit}" if count else ""
    return spelled or "0s"


def parse_size(value: str | int) -> int:
    """A size in bytes: an integer is bytes already, text needs a unit (`64MiB`, `10kB`)."""
    if isinstance(value, int) and not isinstance(value, bool):
        if value < 0:
            raise InvalidArgument(f"{value} is not a size")
        return value
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise InvalidArgument(f"{str(value)[:80]!r} is not a size", fix="write it as 64MiB or 10kB")
    return round(float(match[1]) * _SIZE_FACTOR[match[2]])

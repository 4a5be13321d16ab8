"""When the times of a schedule are: cron text, words such as `@daily`, and intervals, in a time zone.

Times are UTC; `after` gives the first one behind a moment. Where clocks are put forward or back, three kinds
of text go by different rules:

    0 2 * * *       a fixed time of day: once on every day. A time that is skipped comes at the jump, one that
                    is repeated at its first occurrence
    */15 * * * *    a `*` in the second, minute or hour: whenever the clock on the wall shows such a time, so
                    in an hour that comes twice it comes twice, and in one that is skipped not at all
    every 6h        an interval: by the time that has passed, whatever the clocks show

The library reads the text and walks a clock that is never put forward or back; what clocks on walls do is
decided here.
"""

from __future__ import annotations

import functools
import re
import zoneinfo
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Protocol

from cronsim import CronSim, CronSimError
from cronsim.explain import Expression

from holdfast.durations import parse_duration
from holdfast.errors import InvalidArgument, InvalidSchedule

TEXT_BYTES_MAX = 255
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)
_DAY = timedelta(days=1)
_EVERY = "every "
_WORDS = {
    "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *", "@monthly": "0 0 1 * *", "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@hourly": "0 * * * *",
}  # fmt: skip
_FIELDS = (5, 6)
_FIELD_PART = r"(?:\*|[0-9A-Za-z]+(?:[-#][0-9A-Za-z]+)?|\?)(?:/[0-9]+)?"
_FIELD = re.compile(rf"{_FIELD_PART}(?:,{_FIELD_PART})*", re.ASCII)
_JUMPS_MAX = 500
"""So many changes of the clocks are looked past for one time: more than two centuries of them."""


class Timetable(Protocol):
    """The times that one text means."""

    def after(self, moment: datetime) -> datetime | None:
        """The first time behind `moment`; None when there is none within some fifty years."""
        ...


def read(text: str, zone: str, anchor: datetime | None = None) -> Timetable:
    """The timetable of a text in a zone; an interval is counted from `anchor`, by default from 1970.

    Raises `InvalidSchedule` that names what can not be read.
    """
    return _read(text, zone, anchor)


@functools.lru_cache(maxsize=1_024)
def _read(text: str, zone: str, anchor: datetime | None) -> Timetable:
    rules = _zone(zone)
    if not text.isprintable() or len(text.encode(errors="replace")) > TEXT_BYTES_MAX:
        raise InvalidSchedule(
            f"{text[:60]!r} is longer than {TEXT_BYTES_MAX} bytes or not printable", where="cron"
        )
    if text.startswith(_EVERY):
        return Interval(_length(text), anchor or _EPOCH)
    fields = _fields(text)
    spelled = " ".join(fields)
    try:
        walker = CronSim(spelled, datetime(2000, 1, 1))
    except CronSimError as error:
        raise InvalidSchedule(f"{text[:60]!r}: {str(error).lower()}", where="cron") from None
    clock = fields[:-3]  # the second if there is one, the minute, the hour
    if rules is UTC or any(field.startswith("*") for field in clock):
        return WallClock(walker, rules)
    return FixedTimes(walker, rules)


def explain(text: str) -> str:
    """What a text means in English; it is the text of a timetable that was read."""
    if text.startswith(_EVERY):
        return text.strip()
    fields = _fields(text)
    return Expression(["0", *fields] if len(fields) == 5 else fields).explain()


def _zone(name: str) -> tzinfo:
    if name in ("UTC", "Etc/UTC"):
        return UTC
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise InvalidSchedule(f"there is no time zone {name[:60]!r}", where="zone") from None


def _length(text: str) -> timedelta:
    try:
        length = parse_duration(text.removeprefix(_EVERY).strip())
    except InvalidArgument as error:
        raise InvalidSchedule(error.cause, where="cron", fix="write it like 'every 6h'") from None
    if length < _SECOND or length % _SECOND:
        raise InvalidSchedule(
            f"{text[:60]!r} is not in whole seconds, from one on",
            where="cron",
            fix="write it like 'every 6h'",
        )
    return length


def _fields(text: str) -> list[str]:
    """The fields as the library reads them, each of a known form."""
    fields = _WORDS.get(text.strip(), text).upper().split()
    if len(fields) not in _FIELDS:
        raise InvalidSchedule(f"{text[:60]!r} has {len(fields)} fields", where="cron")
    for number, field in enumerate(fields, 1):
        if not _FIELD.fullmatch(field):
            raise InvalidSchedule(f"field {number} of {text[:60]!r} is {field[:20]!r}", where="cron")
    for number in (-3, -1):  # of the days one is often left open
        if fields[number] == "?":
            fields[number] = "*"
    return fields


@dataclass(frozen=True, slots=True)
class Interval:
    """Always the same time apart, counted from `anchor`."""

    length: timedelta
    anchor: datetime

    def after(self, moment: datetime) -> datetime | None:
        """See `Timetable.after`."""
        if moment < self.anchor:
            return self.anchor
        return self.anchor + ((moment - self.anchor) // self.length + 1) * self.length


@dataclass(frozen=True, slots=True)
class FixedTimes:
    """Times of the day, each of which comes once whatever the clocks do."""

    walker: CronSim
    zone: tzinfo

    def after(self, moment: datetime) -> datetime | None:
        """See `Timetable.after`."""
        for shown in _walk(self.walker, moment.astimezone(self.zone).replace(tzinfo=None)):
            at = self._first(shown)
            if at > moment:
                return at
        return None

    def _first(self, shown: datetime) -> datetime:
        """When clocks first show this or, if they skip it, jump over it."""
        at = shown.replace(tzinfo=self.zone, fold=0).astimezone(UTC)
        if at.astimezone(self.zone).replace(tzinfo=None) == shown:
            return at
        before = shown.replace(tzinfo=self.zone, fold=1).astimezone(UTC)
        return _jump(self.zone, before, at) or at


@dataclass(frozen=True, slots=True)
class WallClock:
    """Whenever the clock on the wall shows such a time."""

    walker: CronSim
    zone: tzinfo

    def after(self, moment: datetime) -> datetime | None:
        """See `Timetable.after`."""
        start, at_once = moment, False
        for _ in range(_JUMPS_MAX):
            offset = _offset(self.zone, start)
            shown = (start + offset).replace(tzinfo=None)
            match = next(_walk(self.walker, shown - _SECOND if at_once else shown), None)
            if match is None:
                return None
            at = match.replace(tzinfo=UTC) - offset
            jump = _jump(self.zone, start, at)
            if jump is None:
                return at
            start, at_once = jump, True  # clocks go on from another time here
        return None


def _walk(walker: CronSim, after: datetime) -> Iterator[datetime]:
    """What an unchanging clock shows behind `after`, in order."""
    ours = copy(walker)  # reading the text again would take most of the time
    ours.dt = after.replace(microsecond=0)
    return ours


def _offset(zone: tzinfo, moment: datetime) -> timedelta:
    return moment.astimezone(zone).utcoffset() or timedelta(0)


def _jump(zone: tzinfo, start: datetime, end: datetime) -> datetime | None:
    """The first moment behind `start`, up to `end`, at which the zone's offset changes; None without one."""
    if zone is UTC:
        return None
    low = start.astimezone(UTC).replace(microsecond=0)
    offset = _offset(zone, low)
    while low < end:
        high = min(low + _DAY, end)
        if _offset(zone, high) != offset:
            while high - low > _SECOND:
                middle = low + (high - low) // _SECOND // 2 * _SECOND
                low, high = (middle, high) if _offset(zone, middle) == offset else (low, middle)
            return high
        low = high
    return None

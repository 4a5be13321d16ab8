"""What a schedule is to do next, and what is to be done about times that have come.

Nothing here asks anybody: `next_nominal_at` is the only memory. Every time before it has been dealt with, and
it moves forward alone.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile

from holdfast.domain.timetables import Timetable, read
from holdfast.errors import InvalidSchedule
from holdfast.fleet.starts import LOCAL_QUEUE
from holdfast.records.schedules import CatchUp, FiringCause, Schedule

ON_TIME = timedelta(minutes=1)
"""A time counts as missed after so long, or when the next one has come too."""
AT_ONCE = 20
"""So many times are started in one transaction; those behind follow in the next."""
CATCH_UP_MAX = 1_000
JITTER_MAX = timedelta(days=1)
MAINTENANCE = "maintenance:"
"""What the workflow of a schedule begins with that stands for a duty of Holdfast's own."""
_ID_BYTES_MAX = 230
_SECOND = timedelta(seconds=1)
_MICROSECOND = timedelta(microseconds=1)
_FIXED_ID = re.compile(r"\s|^@")


@dataclass(frozen=True, slots=True)
class Due:
    """What is to be done about the times that have come, and which one comes after them.

    `skipped` is the first of the times that are left out, and the reason.
    """

    start: tuple[tuple[datetime, FiringCause], ...]
    skipped: tuple[datetime, str] | None
    next: datetime | None


def check(schedule: Schedule) -> None:
    """Refuse what can not be a schedule at any time. Raises `InvalidSchedule` that names the field."""
    read(schedule.cron, schedule.zone, schedule.starts_at)
    _check_id(schedule.id)
    _check_queue(schedule.queue)
    if not 1 <= schedule.catch_up_max <= CATCH_UP_MAX:
        raise InvalidSchedule(f"{schedule.catch_up_max} is not 1 to {CATCH_UP_MAX}", where="catch_up_max")
    if not timedelta(0) <= schedule.jitter <= JITTER_MAX:
        raise InvalidSchedule(f"a jitter of {schedule.jitter} is not 0 to 24h", where="jitter")
    starts, ends = schedule.starts_at, schedule.ends_at
    if any(each is not None and each.tzinfo is None for each in (starts, ends)):
        raise InvalidSchedule("a time without a zone", where="starts_at, ends_at", fix="add Z, or +02:00")
    if starts is not None and ends is not None and ends < starts:
        raise InvalidSchedule(f"it ends at {ends} before it starts at {starts}", where="ends_at")


def _check_id(id: str) -> None:
    size = len(id.encode(errors="replace"))
    if not id.isprintable() or not 1 <= size <= _ID_BYTES_MAX or _FIXED_ID.search(id):
        raise InvalidSchedule(
            f"{id[:60]!r} can not be the id of a schedule",
            where="id",
            fix=f"use up to {_ID_BYTES_MAX} bytes of printable text without spaces, and no @ first",
        )


def _check_queue(queue: str) -> None:
    if queue == LOCAL_QUEUE or not queue.isprintable() or not 1 <= len(queue.encode()) <= 255:
        raise InvalidSchedule(
            f"no worker serves the queue {queue[:60]!r}", where="queue", fix="use another one, like 'default'"
        )


def planned(schedule: Schedule, now: datetime) -> Schedule:
    """`schedule` with what comes next by its text as it is now.

    Times up to now are over; only one that was planned and has come, and that the text still means, is kept.
    Raises `InvalidSchedule`.
    """
    if not schedule.enabled:
        return replace(schedule, next_run_at=None, next_nominal_at=None)
    timetable = timetable_of(schedule)
    kept = schedule.next_nominal_at
    if kept is not None and kept <= now and timetable.after(kept - _SECOND) == kept:
        return with_next(schedule, kept)
    return with_next(schedule, _following(schedule, timetable, now))


def timetable_of(schedule: Schedule) -> Timetable:
    """The timetable of a schedule. Raises `InvalidSchedule`."""
    return read(schedule.cron, schedule.zone, schedule.starts_at)


def upcoming(schedule: Schedule, now: datetime) -> Iterator[datetime]:
    """The times at which it will start something, with their jitter, one after the other."""
    timetable = timetable_of(schedule)
    moment = schedule.next_nominal_at or _following(schedule, timetable, now)
    while moment is not None:
        yield moment + offset(schedule, moment)
        moment = _following(schedule, timetable, moment)


def offset(schedule: Schedule, nominal: datetime) -> timedelta:
    """How long after `nominal` it starts: the same wherever it is computed."""
    whole = schedule.jitter // _MICROSECOND
    if whole <= 0:
        return timedelta(0)
    name = f"{schedule.id}\0{nominal.astimezone(UTC).isoformat()}".encode()
    chance = int.from_bytes(hashlib.blake2b(name, digest_size=8).digest())
    return chance % whole * _MICROSECOND


def decide(schedule: Schedule, now: datetime) -> Due:
    """What is to be done about a schedule whose planned time has come. Raises `InvalidSchedule`."""
    timetable, first = timetable_of(schedule), schedule.next_nominal_at
    assert first is not None, "asked about a schedule of which nothing is planned"
    most = schedule.catch_up_max if schedule.catch_up is CatchUp.ALL else 1
    ready = _ready(schedule, timetable, first, now, most)
    newest = ready[-1]
    is_late = now - newest - offset(schedule, newest) > ON_TIME
    if is_late and schedule.catch_up is CatchUp.SKIP:
        why = "it was missed" if newest == first else f"it was missed, with all up to {_spelled(newest)}"
        return Due((), (first, why), _following(schedule, timetable, newest))
    start = tuple(
        (each, FiringCause.CATCH_UP if is_late or each != newest else FiringCause.TIME)
        for each in ready[:AT_ONCE]
    )
    skipped = None
    if ready[0] > first:
        skipped = (first, f"it was missed, with all before {_spelled(ready[0])}")
    return Due(start, skipped, _following(schedule, timetable, start[-1][0]))


def _spelled(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def with_next(schedule: Schedule, nominal: datetime | None) -> Schedule:
    """`schedule` with this as the next time; None for no more."""
    due = None if nominal is None else nominal + offset(schedule, nominal)
    return replace(schedule, next_nominal_at=nominal, next_run_at=due)


def _following(schedule: Schedule, timetable: Timetable, moment: datetime) -> datetime | None:
    """The first time behind `moment` that lies between the beginning and the end of the schedule."""
    if schedule.starts_at is not None:
        moment = max(moment, schedule.starts_at - _MICROSECOND)
    found = timetable.after(moment)
    if found is None or (schedule.ends_at is not None and found > schedule.ends_at):
        return None
    return found


def _ready(
    schedule: Schedule, timetable: Timetable, first: datetime, now: datetime, most: int
) -> list[datetime]:
    """The newest of the times that have come, at most so many, in order; at least one."""
    until = now if schedule.ends_at is None else min(now, schedule.ends_at)
    while True:
        times, is_all = _newest(timetable, first, until, most)
        ready = list(takewhile(lambda each: each + offset(schedule, each) <= now, times))
        if ready:
            return ready
        if is_all or not times:
            return [first]
        until = times[0] - _SECOND


def _newest(timetable: Timetable, first: datetime, until: datetime, most: int) -> tuple[list[datetime], bool]:
    """The last `most` times from `first` to `until`, and whether these are all; found without walking."""
    times = _some(timetable, first - _SECOND, until, most + 1)
    if len(times) <= most:
        return times, True
    low, high = first - _SECOND, until  # more than `most` behind low, none behind high
    while high - low > _SECOND:
        middle = low + (high - low) / 2
        found = _some(timetable, middle, until, most + 1)
        low, high = (middle, high) if len(found) > most else (low, middle)
    return _some(timetable, high, until, most + 1), False


def _some(timetable: Timetable, after: datetime, until: datetime, most: int) -> list[datetime]:
    return list(islice(takewhile(lambda each: each <= until, _behind(timetable, after)), most))


def _behind(timetable: Timetable, moment: datetime) -> Iterator[datetime]:
    found = timetable.after(moment)
    while found is not None:
        yield found
        found = timetable.after(found)

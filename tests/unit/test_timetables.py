"""When schedules are due, compared with a clock that is walked minute by minute around every change of it."""

from __future__ import annotations

import zoneinfo
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice

import pytest

from holdfast.domain.timetables import FixedTimes, Timetable, WallClock, explain, read
from holdfast.errors import InvalidSchedule

MINUTE, SECOND = timedelta(minutes=1), timedelta(seconds=1)
ZONES = (
    "Africa/Cairo", "Africa/Casablanca", "Africa/El_Aaiun", "Africa/Juba", "Africa/Lagos",
    "America/Asuncion", "America/Bogota", "America/Chicago", "America/Godthab", "America/Havana",
    "America/Los_Angeles", "America/Mexico_City", "America/New_York", "America/Port-au-Prince",
    "America/Santiago", "America/Sao_Paulo", "America/Scoresbysund", "America/St_Johns",
    "America/Whitehorse", "Antarctica/Casey", "Antarctica/Troll", "Asia/Amman", "Asia/Beirut",
    "Asia/Damascus", "Asia/Gaza", "Asia/Jerusalem", "Asia/Kathmandu", "Asia/Kolkata", "Asia/Tehran",
    "Asia/Tokyo", "Atlantic/Azores", "Australia/Adelaide", "Australia/Lord_Howe", "Australia/Sydney",
    "Europe/Berlin", "Europe/Dublin", "Europe/Lisbon", "Europe/London", "Europe/Volgograd",
    "Pacific/Apia", "Pacific/Chatham", "Pacific/Easter", "Pacific/Fiji", "Pacific/Norfolk",
)  # fmt: skip
FIXED = ("30 1 * * *", "30 2 * * *", "0 0 * * *", "0,15,45 0-3 * * *", "10 1,2,3 * * 0,1,6", "59 23 * * *")
SHOWN = ("* * * * *", "*/15 * * * *", "30 * * * *", "*/20 1,2 * * *", "0 */2 * * *", "*/10 0-2 * * SUN,SAT")
FIRST, LAST = datetime(2020, 1, 1, tzinfo=UTC), datetime(2030, 12, 31, tzinfo=UTC)


def offset(zone: zoneinfo.ZoneInfo, at: datetime) -> timedelta:
    return at.astimezone(zone).utcoffset() or timedelta(0)


def changes(zone: zoneinfo.ZoneInfo) -> Iterator[datetime]:
    """Every moment from 2020 to 2030 at which the clocks of a zone are changed, to the minute."""
    day = FIRST
    while day < LAST:
        after = day + timedelta(days=1)
        if offset(zone, day) != offset(zone, after):
            minutes = (day + number * MINUTE for number in range(1, 24 * 60 + 1))
            yield next(each for each in minutes if offset(zone, each) != offset(zone, day))
        day = after


def matcher(text: str) -> Iterator[set[int]]:
    """What each field of a simple text allows, read without the library."""
    names = {"SUN": 0, "SAT": 6}
    for field, top in zip(text.split(), (60, 24, 32, 13, 7), strict=True):
        allowed: set[int] = set()
        for part in field.split(","):
            span, _, step = part.partition("/")
            low, _, high = span.partition("-")
            if span == "*":
                numbers = range(top)
            else:
                start = names.get(low) if low in names else int(low)
                assert start is not None
                numbers = range(start, (int(high) if high else start) + 1)
            allowed |= set(numbers[:: int(step or 1)])
        yield allowed


def fits(fields: list[set[int]], shown: datetime) -> bool:
    minute, hour, day, month, weekday = fields
    return (
        shown.minute in minute and shown.hour in hour and shown.day in day and shown.month in month
        and (shown.weekday() + 1) % 7 in weekday
    )  # fmt: skip


def walked(text: str, walk: list[tuple[datetime, datetime]], *, fixed: bool) -> list[datetime]:
    """The times of a text on a walk of (moment, what the clock shows), by looking at every minute.

    A fixed time is due when the clock first shows it or something later; another one whenever it is shown.
    """
    fields = list(matcher(text))
    if not fixed:
        return [at for at, shown in walk if fits(fields, shown)]
    found = []
    latest = walk[0][1] - MINUTE
    for at, shown in walk:
        is_due = False
        while latest < shown:
            latest += MINUTE
            is_due = is_due or fits(fields, latest)
        if is_due:
            found.append(at)
    return found


def computed(timetable: Timetable, start: datetime, end: datetime) -> list[datetime]:
    found, at = [], timetable.after(start)
    while at is not None and at < end:
        found.append(at)
        at = timetable.after(at)
    return found


@pytest.mark.parametrize("name", ZONES)
def test_every_change_of_the_clocks_from_2020_to_2030(name: str) -> None:
    zone = zoneinfo.ZoneInfo(name)
    for number, change in enumerate(changes(zone)):
        start = change - timedelta(hours=18)
        moments = [start + minutes * MINUTE for minutes in range(36 * 60)]
        walk = [(at, at.astimezone(zone).replace(tzinfo=None)) for at in moments]
        # One text of each kind at every change: all of them come up at many, and in many zones.
        text = FIXED[number % len(FIXED)]
        timetable = read(text, name)
        assert isinstance(timetable, FixedTimes)
        expected = walked(text, walk, fixed=True)
        assert computed(timetable, start - SECOND, moments[-1] + MINUTE) == expected, (change, text)
        text = SHOWN[(number + len(name)) % len(SHOWN)]
        timetable = read(text, name)
        assert isinstance(timetable, WallClock)
        if text.startswith("* * "):
            walk = walk[12 * 60 : 24 * 60]
        expected = walked(text, walk, fixed=False)
        assert computed(timetable, walk[0][0] - SECOND, walk[-1][0] + MINUTE) == expected, (change, text)


def test_the_zones_are_at_least_forty_and_change() -> None:
    assert len(ZONES) >= 40
    assert sum(bool(next(changes(zoneinfo.ZoneInfo(name)), None)) for name in ZONES) >= 35


def times(text: str, zone: str, start: str, count: int) -> list[str]:
    at = datetime.fromisoformat(start)
    timetable, found = read(text, zone), []
    for _ in range(count):
        at = timetable.after(at) or at
        found.append(at.astimezone(UTC).strftime("%d %H:%M:%S"))
    return found


@pytest.mark.parametrize(
    ("text", "start", "expected"),
    [
        # Berlin, 2026-03-29: 02:00 is followed by 03:00, which is 01:00 in UTC.
        ("30 2 * * *", "2026-03-28T12:00Z", ["29 01:00:00", "30 00:30:00"]),
        ("15,30,45 2 * * *", "2026-03-29T00:00Z", ["29 01:00:00", "30 00:15:00"]),
        ("0 2,3 * * *", "2026-03-29T00:00Z", ["29 01:00:00", "30 00:00:00"]),
        ("30 30 2 * * *", "2026-03-28T12:00Z", ["29 01:00:00", "30 00:30:30"]),
        ("*/30 2 * * *", "2026-03-28T12:00Z", ["30 00:00:00", "30 00:30:00"]),
        # 2026-10-25: 03:00 is followed by 02:00; 02:30 comes at 00:30 and at 01:30 in UTC.
        ("30 2 * * *", "2026-10-24T12:00Z", ["25 00:30:00", "26 01:30:00"]),
        ("30 30 2 * * *", "2026-10-24T12:00Z", ["25 00:30:30", "26 01:30:30"]),
        ("30 2 * * *", "2026-10-25T00:45Z", ["26 01:30:00"]),
        ("30 2 * * *", "2026-10-25T01:15Z", ["26 01:30:00"]),
        ("*/30 2 * * *", "2026-10-24T12:00Z", ["25 00:00:00", "25 00:30:00", "25 01:00:00", "25 01:30:00"]),
        ("*/30 30 2 25 10 *", "2026-10-24T12:00Z", ["25 00:30:00", "25 00:30:30", "25 01:30:00"]),
        ("every 6h", "2026-10-24T23:00Z", ["25 00:00:00", "25 06:00:00", "25 12:00:00"]),
    ],
)
def test_what_comes_when_clocks_are_changed(text: str, start: str, expected: list[str]) -> None:
    assert times(text, "Europe/Berlin", start, len(expected)) == expected


@pytest.mark.parametrize(
    ("text", "start", "expected"),
    [
        ("@daily", "2026-01-01T00:00Z", ["02 00:00:00", "03 00:00:00"]),
        ("@hourly", "2026-01-01T00:00:00.5Z", ["01 01:00:00"]),
        ("0 0 L * ?", "2026-01-01T00:00Z", ["31 00:00:00", "28 00:00:00"]),
        ("*/20 * * * * *", "2026-01-01T00:00:01Z", ["01 00:00:20", "01 00:00:40", "01 00:01:00"]),
        ("0 9 * JAN mon#2", "2026-01-01T00:00Z", ["12 09:00:00", "11 09:00:00"]),
        ("every 90s", "2026-01-01T00:00Z", ["01 00:01:30", "01 00:03:00"]),
    ],
)
def test_what_texts_mean(text: str, start: str, expected: list[str]) -> None:
    assert times(text, "UTC", start, len(expected)) == expected


def test_an_interval_is_counted_from_its_anchor() -> None:
    anchor = datetime(2026, 1, 1, 0, 10, 0, 5, tzinfo=UTC)
    timetable = read("every 1h", "UTC", anchor)
    assert timetable.after(anchor - timedelta(days=9)) == anchor
    assert timetable.after(anchor) == anchor + timedelta(hours=1)
    assert timetable.after(anchor + timedelta(minutes=90)) == anchor + timedelta(hours=2)


def test_a_time_that_is_rare_is_found_and_one_that_never_comes_is_none() -> None:
    berlin = read("*/5 1 29 2 *", "Europe/Berlin")
    found = list(islice(computed(berlin, FIRST, LAST), 13))
    assert found[0] == datetime(2020, 2, 29, 0, 0, tzinfo=UTC)
    assert found[12] == datetime(2024, 2, 29, 0, 0, tzinfo=UTC)
    assert read("0 0 31 2 MON#5", "Europe/Berlin").after(FIRST) is not None  # one of the two is enough


@pytest.mark.parametrize(
    "text",
    ["60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "5-1 * * * *", "0 0 30 2 *", "*/0 * * * *",
     "every", "every 0s", "every 1500ms", "every day", "@reboot", "@often", "", "* * * *", "0 0 * * 8",
     "x" * 300, "* * * * *\n", "1\0 * * * *", "* * * * ٣"],
)  # fmt: skip
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(InvalidSchedule) as refused:
        read(text, "UTC")
    assert refused.value.where == "cron"


def test_what_a_text_means_in_words() -> None:
    assert explain("0 2 * * 1-5") == "At 02:00 on Monday through Friday"
    assert explain("*/5 * * * *") == "Every fifth minute of every hour"
    assert explain("every 6h") == "every 6h"

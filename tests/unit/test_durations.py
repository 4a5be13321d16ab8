"""Durations and sizes: every spelling reads as it should, and what is written reads back exactly."""

from __future__ import annotations

import math
from datetime import timedelta

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from holdfast.durations import format_duration, parse_duration, parse_size
from holdfast.errors import InvalidArgument

LONGEST = timedelta(days=365 * 100)
durations = st.timedeltas(timedelta(0), LONGEST)
UNITS = {
    "us": timedelta(microseconds=1),
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "min": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
    "y": timedelta(days=365),
}
FACTORS = {
    "B": 1, "kB": 10**3, "KB": 10**3, "KiB": 2**10, "MB": 10**6, "MiB": 2**20,
    "GB": 10**9, "GiB": 2**30, "TB": 10**12, "TiB": 2**40,
}  # fmt: skip


@settings(deadline=None)
@given(durations)
@example(LONGEST)
@example(LONGEST - timedelta(microseconds=1))
@example(timedelta(days=36_499, microseconds=86_399_999_999))
@example(timedelta(microseconds=1))
def test_what_is_formatted_reads_back_exactly(value: timedelta) -> None:
    assert parse_duration(format_duration(value)) == value


@settings(deadline=None)
@given(durations, durations)
def test_two_durations_never_share_a_spelling(one: timedelta, other: timedelta) -> None:
    assert (format_duration(one) == format_duration(other)) == (one == other)


@settings(deadline=None)
@given(durations)
def test_a_timedelta_is_itself(value: timedelta) -> None:
    assert parse_duration(value) is value


@settings(deadline=None)
@given(st.floats(0, LONGEST.total_seconds()) | st.integers(0, int(LONGEST.total_seconds())))
def test_a_number_is_seconds(seconds: float) -> None:
    assert parse_duration(seconds) == timedelta(seconds=seconds)


@settings(deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(sorted(UNITS)), st.sampled_from(["", " "]))
def test_a_count_and_a_unit_multiply(count: int, unit: str, space: str) -> None:
    wanted = count * UNITS[unit]
    if wanted <= LONGEST:
        assert parse_duration(f" {count}{space}{unit} ") == wanted
    else:
        with pytest.raises(InvalidArgument):
            parse_duration(f"{count}{unit}")


@settings(deadline=None)
@given(
    st.integers(0, 99), st.integers(0, 99), st.integers(0, 99), st.integers(0, 99), st.integers(0, 10**6 - 1)
)
def test_iso_durations_read_the_same(days: int, hours: int, minutes: int, seconds: int, micros: int) -> None:
    wanted = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds, microseconds=micros)
    assert parse_duration(f"P{days}DT{hours}H{minutes}M{seconds}.{micros:06}S") == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("1h30m", timedelta(minutes=90)),
        ("1h 30m", timedelta(minutes=90)),
        ("250ms", timedelta(milliseconds=250)),
        ("1.5h", timedelta(minutes=90)),
        ("0.5us", timedelta(0)),
        ("P1DT2H", timedelta(hours=26)),
        ("P2W", timedelta(weeks=2)),
        ("PT0.25S", timedelta(milliseconds=250)),
        ("100y", LONGEST),
    ],
)
def test_examples_from_the_manual(text: str, wanted: timedelta) -> None:
    assert parse_duration(text) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "30",
        "s",
        "-1s",
        "1 s s",
        "1h,30m",
        "P",
        "PT",
        "P1",
        "1e3s",
        "٣s",
        "1hour",
        "101y",
        "nan",
        "1s\x00",
    ],
)
def test_what_is_not_a_duration_is_refused_with_a_fix(text: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse_duration(text)
    assert caught.value.fix


@pytest.mark.parametrize(
    "value", [True, -1, -0.5, math.nan, math.inf, 10**40, timedelta(-1), LONGEST + timedelta(1)]
)
def test_what_is_out_of_range_is_refused(value: float | timedelta) -> None:
    with pytest.raises(InvalidArgument):
        parse_duration(value)


@settings(deadline=None)
@given(
    st.text(max_size=30)
    | st.from_regex(r"P?[0-9.]{0,14}[WDTHMSusmindy ]{0,3}[0-9]{0,9}[HMS]?", fullmatch=True)
)
def test_any_text_reads_as_a_duration_in_range_or_is_refused(text: str) -> None:
    try:
        found = parse_duration(text)
    except InvalidArgument:
        return
    assert timedelta(0) <= found <= LONGEST


@settings(deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(sorted(FACTORS)))
def test_a_size_is_bytes(count: int, unit: str) -> None:
    assert parse_size(f"{count}{unit}") == parse_size(f" {count} {unit}") == count * FACTORS[unit]
    assert parse_size(count) == count


@pytest.mark.parametrize("value", ["", "10", "MiB", "-1MiB", "1mib", "1.5.5kB", -1, True])
def test_what_is_not_a_size_is_refused(value: str | int) -> None:
    with pytest.raises(InvalidArgument):
        parse_size(value)


def test_a_size_may_have_a_fraction() -> None:
    assert parse_size("1.5KiB") == 1536

"""Lines of the event log: what they say comes back, and what is no whole line is told apart."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from holdfast.events.files.examining import examine
from holdfast.events.files.lines import (
    About,
    LoggedEvent,
    is_whole,
    read,
    sealed,
    spell,
    type_text,
)
from holdfast.records.events import EventType
from holdfast.store import codec

KEY = bytes(range(16))
EVENT = LoggedEvent(
    execution=KEY, seq=7, tenant="default", epoch=2, type="step.completed", path="build", generation=1,
    ordinal=3, attempt=2, result=True, at=1_768_262_402_000_001, duration_us=1_000_500,
    input_digest=b"\x01" * 16, input=codec.encode({"a": [1, 2.5, None]}),
    value=codec.encode({"text": "ü\n\u2028", "n": 2**62}),
    ref=None, id="workflow-1",
)  # fmt: skip
EXECUTION = (
    KEY, "default", "workflow-1", "build", "1", b"\x02" * 16, b"\x03" * 16, None, "local", "io", 0,
    None, None, None, None, None, None, None, None, 1_768_262_400_000_000, None, None, None, None, False,
)  # fmt: skip
DETAILS = (KEY, "default", ["a", "b"], "api", "me", "{}", '{"x":1}')
DEFINITION = (
    "default", b"\x02" * 16, "build", "1", "yaml", codec.encode({"name": "build", "steps": []}),
    1_768_262_400_000_000,
)  # fmt: skip
ABOUT = About(EXECUTION, DETAILS, DEFINITION)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
TAGGED = st.binary() | st.decimals(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT | TAGGED,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


def spelled(event: LoggedEvent, about: About | None = None) -> bytes:
    line = spell(event, about)
    assert line.endswith(b"\n") and line.count(b"\n") == 1
    return line[:-1]


def test_an_event_is_spelled_as_the_documents_do() -> None:
    line = json.loads(spelled(EVENT))
    assert list(line) == [
        "timestamp", "type", "workflowId", "taskId", "data", "metadata", "seq", "crc",
    ]  # fmt: skip
    assert line["timestamp"] == "2026-01-13T00:00:02.000001Z"
    assert (line["type"], line["workflowId"], line["taskId"]) == ("TASK_COMPLETED", "workflow-1", "build")
    assert line["data"] == {"text": "ü\n\u2028", "n": 2**62}
    assert (line["metadata"]["attempt"], line["metadata"]["duration"]) == (2, 1000.5)


def test_a_start_names_the_workflow_and_its_definition() -> None:
    start = EVENT._replace(type="execution.started", path=None, seq=1)
    line = json.loads(spelled(start, ABOUT))
    assert line["type"] == "WORKFLOW_STARTED" and "taskId" not in line
    assert line["data"] == {"name": "build", "input": {"text": "ü\n\u2028", "n": 2**62}}
    assert line["metadata"]["definition"]["document"] == {"name": "build", "steps": []}
    assert read(spelled(start, ABOUT)) == (start, ABOUT)


def test_every_type_comes_back() -> None:
    for type in EventType:
        assert read(spelled(EVENT._replace(type=type))).event.type == type
    assert (
        type_text("execution.started") == "WORKFLOW_STARTED" and type_text("step.started") == "TASK_STARTED"
    )


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    value=VALUES,
    given=VALUES,
    duration=st.none() | st.integers(0, 10**13),
    path=st.none() | st.text("ab/[]0.#"),
)
def test_a_line_says_all_that_the_row_does(
    value: object, given: object, duration: int | None, path: str | None
) -> None:
    event = EVENT._replace(
        value=codec.encode(value), input=codec.encode(given), duration_us=duration, path=path
    )
    assert read(spelled(event)) == (event, None)


def test_bytes_that_are_no_payload_are_kept_as_they_are() -> None:
    for data in (b"", b"\x00", b"\x10\x00\x00not json", b"\x20\x00\x00{}", b"\x10\x00\x00[1,\n2]"):
        event = EVENT._replace(value=data, input=data)
        assert read(spelled(event)).event == event


# Whole, torn, damaged.


@dataclass(frozen=True)
class Log:
    data: bytes
    starts: list[int]


@pytest.fixture(scope="module")
def log() -> Log:
    lines = [spell(EVENT._replace(seq=seq), None) for seq in range(1, 5)]
    starts = [sum(map(len, lines[:n])) for n in range(len(lines) + 1)]
    return Log(b"".join(lines), starts)


def test_a_log_that_ends_anywhere_is_torn_and_not_damaged(log: Log) -> None:
    for length in range(len(log.data) + 1):
        found = examine(log.data[:length])
        assert found.fault is None, length
        assert found.end == max(start for start in log.starts if start <= length)
        assert [offset for offset, _ in found.lines] == [s for s in log.starts[:-1] if s < found.end]


def test_any_flipped_bit_is_damage_with_its_line(log: Log) -> None:
    for place in range(len(log.data)):
        for bit in range(8):
            flipped = bytearray(log.data)
            flipped[place] ^= 1 << bit
            found = examine(bytes(flipped))
            line = max(start for start in log.starts if start <= place)
            assert found.fault is not None and found.end == line, (place, bit)


def test_a_block_that_never_reached_the_disk_is_torn(log: Log) -> None:
    data = log.data + bytes(512 - len(log.data) % 512)
    assert examine(data).fault is None and examine(data).end == len(log.data)
    assert examine(log.data[:1024] + bytes(len(log.data) - 1024)).fault is None
    whole = log.data * 3  # the block between two others
    found = examine(whole[:1024] + bytes(512) + whole[1536:])
    assert found.fault is None and found.end == max(start for start in log.starts if start <= 1024)


def test_zero_bytes_that_are_no_block_are_damage(log: Log) -> None:
    data = bytearray(log.data)
    data[10:20] = bytes(10)
    assert examine(bytes(data)).fault is not None


def test_a_line_is_whole_only_with_its_checksum() -> None:
    line = sealed(b'{"n":1}')[:-1]
    assert is_whole(line) and json.loads(line)["n"] == 1
    assert not is_whole(line[:-1]) and not is_whole(b"") and not is_whole(line.replace(b"1", b"2", 1))

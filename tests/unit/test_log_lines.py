"""The log of the command line: text for people, JSON for machines, no password in either."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from holdfast.cli.log_lines import LOGGER, LogHandler, is_json, line, set_up
from holdfast.config.schema import Logging

MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
SLOW = '{"level": "warn", "message": "Slow query detected", "duration": 1500}'


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _logger() -> Iterator[None]:
    logger = logging.getLogger(LOGGER)
    handlers, level = list(logger.handlers), logger.level
    yield
    logger.handlers[:], logger.level = handlers, level
    logger.setLevel(level)


@pytest.mark.parametrize(
    ("form", "terminal", "expected"),
    [("json", True, True), ("text", False, False), ("auto", True, False), ("auto", False, True)],
)
def test_the_form(form: str, terminal: bool, expected: bool) -> None:
    stream = Terminal() if terminal else io.StringIO()
    assert is_json(Logging(format=form), stream) is expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("level", "message", "text", "told"),
    [
        ("info", "hello", "hello", {"level": "info", "message": "hello"}),
        ("warning", "look", "warning: look", {"level": "warning", "message": "look"}),
        ("warning", SLOW, SLOW, {"level": "warn", "message": "Slow query detected", "duration": 1500}),
        ("error", "{no json", "error: {no json", {"level": "error", "message": "{no json"}),
        (
            "info",
            "at postgresql://u:geheim@h/d",
            "at postgresql://u:***@h/d",
            {"level": "info", "message": "at postgresql://u:***@h/d"},
        ),
    ],
)
def test_a_line(level: str, message: str, text: str, told: dict[str, object]) -> None:
    assert line(level, message, as_json=False, moment=MOMENT) == text
    found = json.loads(line(level, message, as_json=True, moment=MOMENT))
    assert found == {"timestamp": "2026-01-02T03:04:05.678Z", **told}


def test_records_of_the_package_are_lines() -> None:
    stream = io.StringIO()
    set_up(stream, "info", as_json=True)
    set_up(stream, "info", as_json=True)  # the second takes the place of the first
    logger = logging.getLogger("holdfast.files")
    logger.info("%s of %d", "one", 2)
    logger.debug("unseen")
    logger.warning("store at redis://:geheim@r")
    told = [json.loads(text) for text in stream.getvalue().splitlines()]
    assert [each["message"] for each in told] == ["one of 2", "store at redis://:***@r"]
    assert [each["logger"] for each in told] == ["holdfast.files"] * 2
    handlers = [each for each in logging.getLogger(LOGGER).handlers if isinstance(each, LogHandler)]
    assert len(handlers) == 1


def test_warnings_alone_leave_the_loggers_as_they_were() -> None:
    stream = io.StringIO()
    set_up(stream, "warning", as_json=False)
    logging.getLogger("holdfast.migrations").info("unseen")
    logging.getLogger("holdfast.migrations").warning("seen")
    assert stream.getvalue() == "warning: seen\n"

"""The program's own log: lines on stderr, as `logging.level` and `logging.format` say.

What the package logs (slow statements, migrations, documents that were changed by hand) goes through the
standard library's `logging`, below the logger `holdfast`; a program that embeds Holdfast sets that up for
itself. The command line does it here. A line is text for a person or one JSON object for a machine, without
passwords in either form.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TextIO

from holdfast.config.secrets import redact_url

if TYPE_CHECKING:
    from holdfast.config.schema import Logging

LOGGER = "holdfast"


def is_json(settings: Logging, stream: TextIO) -> bool:
    """Whether lines on `stream` are for machines."""
    return settings.format == "json" or (settings.format == "auto" and not stream.isatty())


def line(level: str, message: str, *, as_json: bool, moment: datetime, **more: Any) -> str:
    """One line of the log. A message that is a JSON object already becomes its fields."""
    fields = _object(message)
    if not as_json:
        mark = f"{level}: " if level in {"warning", "error"} and fields is None else ""
        return redact_url(f"{mark}{message}")
    stamp = moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    told = {
        "timestamp": stamp,
        "level": level,
        **more,
        **({"message": message} if fields is None else fields),
    }
    return redact_url(json.dumps(told, ensure_ascii=False, default=str))


def _object(message: str) -> dict[str, Any] | None:
    if not message.startswith("{"):
        return None
    try:
        found = json.loads(message)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


class LogHandler(logging.Handler):
    """Writes records of the package as lines of the log."""

    def __init__(self, stream: TextIO, *, as_json: bool) -> None:
        super().__init__()
        self._stream = stream
        self._json = as_json

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record; a reader who is gone is no reason to fail."""
        level = record.levelname.lower().replace("critical", "error")
        moment = datetime.fromtimestamp(record.created, UTC)
        try:
            text = line(level, record.getMessage(), as_json=self._json, moment=moment, logger=record.name)
            print(text, file=self._stream, flush=True)
        except Exception:
            self.handleError(record)


def set_up(stream: TextIO, least: str, *, as_json: bool) -> None:
    """Send what the package logs, from the level `least` on, to `stream`; the handler of before ends."""
    logger = logging.getLogger(LOGGER)
    for before in [each for each in logger.handlers if isinstance(each, LogHandler)]:
        logger.removeHandler(before)
    handler = LogHandler(stream, as_json=as_json)
    number = logging.getLevelNamesMapping()[least.upper()]
    handler.setLevel(number)
    logger.setLevel(number if number < logging.WARNING else logging.NOTSET)
    logger.addHandler(handler)

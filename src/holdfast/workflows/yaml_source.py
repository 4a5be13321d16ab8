"""Reads YAML into plain values, with the place of every value, from text that nobody has vetted.

Only the parser's events are used: no tag is ever turned into an object. An alias is expanded here, while
counting what it stands for, because a file of a few hundred bytes can describe billions of values that
cost nothing until somebody walks them. Every limit has a name below and a message with its number.

Scalars follow YAML 1.2: `yes`, `no`, `on`, `off` and dates are strings; `0o17` and `0x1f` are numbers,
and a number with a leading zero is refused, since 1.1 and 1.2 disagree on it. `.nan` and `.inf` are
refused: no store keeps them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

import yaml

from holdfast.workflows.problems import DocumentPath, Mark, Report

BYTES_MAX = 1024 * 1024
DEPTH_MAX = 50
VALUES_MAX = 100_000
"""Values in the document after aliases are expanded."""
ALIASES_MAX = 1_000
TEXT_MAX = 4 * 1024 * 1024
"""Characters of all scalars together after aliases are expanded."""

_INTEGER = re.compile(r"[-+]?[0-9]+")
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_UNSTORABLE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_WORDS = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip
_NUMBER_MAX = 100  # characters: converting longer digit strings costs quadratic time

_Loader = getattr(
    yaml, "CSafeLoader", yaml.SafeLoader
)  # the C parser where the wheel has it, else ten times slower


@dataclass(frozen=True, slots=True)
class Loaded:
    """A document as plain values, and where its keys and items stand. Aliased values share identity."""

    value: Any
    marks: dict[DocumentPath, Mark]


@dataclass(slots=True)
class _Size:
    """What a value costs when it is written out in full."""

    values: int = 0
    text: int = 0
    depth: int = 0


class _Stop(Exception):
    """The rest of the document can not be read; the reason is in the report."""


def load(data: bytes | str, report: Report) -> Loaded:
    """The only document in `data`, in UTF-8. Mistakes go to `report`; then the value may be partial or None.

    Never raises for any input, and its time and memory are bounded by the limits of this module.
    """
    reader = _Reader(report)
    try:
        value = reader.read(_text(data, report))
    except _Stop:
        value = None
    except yaml.MarkedYAMLError as error:
        place = error.problem_mark or error.context_mark
        what = " ".join(part for part in (error.context, error.problem) if part)
        report.add_mark(
            _mark(place) if place else None, f"not YAML: {what}", "check indentation, quotes and colons"
        )
        value = None
    except yaml.YAMLError as error:  # of the character reader: it has a position but no mark
        report.add_mark(None, f"not YAML: {str(error).splitlines()[0][:200]}", "remove control characters")
        value = None
    return Loaded(value, reader.marks)


def _text(data: bytes | str, report: Report) -> str:
    try:
        raw = data.encode() if isinstance(data, str) else data
        if len(raw) > BYTES_MAX:
            report.add_mark(None, f"the file has {len(raw)} bytes; the limit is {BYTES_MAX}", "split it")
            raise _Stop
        return raw.decode("utf-8-sig")
    except UnicodeError as error:
        report.add_mark(None, f"not UTF-8: {getattr(error, 'reason', error)}", "save the file as UTF-8")
        raise _Stop from error


def _mark(mark: Any) -> Mark:
    return Mark(mark.line + 1, mark.column + 1)


@dataclass(slots=True)
class _Reader:
    report: Report
    marks: dict[DocumentPath, Mark] = field(default_factory=dict)
    events: Iterator[Any] = field(default_factory=lambda: iter(()))
    size: _Size = field(default_factory=_Size)
    aliases: int = 0
    anchors: dict[str, tuple[Any, _Size] | None] = field(default_factory=dict)  # None: still open

    def read(self, text: str) -> Any:
        self.events = yaml.parse(text, Loader=_Loader)
        next(self.events)  # the stream starts
        event = next(self.events)
        if isinstance(event, yaml.StreamEndEvent):
            self._stop(event, "the file is empty", "write at least `name` and `steps`")
        value = self._value(next(self.events), (), 1)
        next(self.events)  # the document ends
        after = next(self.events)
        if not isinstance(after, yaml.StreamEndEvent):
            self._stop(after, "a second document begins here", "keep one workflow per file")
        return value

    def _value(self, event: Any, path: DocumentPath, depth: int) -> Any:
        self._count(event, _Size(1, len(getattr(event, "value", "")), 0), depth)
        self.marks.setdefault(path, _mark(event.start_mark))
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, depth)
        self._refuse_tag(event)
        before = _Size(self.size.values - 1, self.size.text - len(getattr(event, "value", "")))
        if event.anchor:
            self.anchors[event.anchor] = None
        deepest = self.size.depth
        self.size.depth = depth
        value: Any
        if isinstance(event, yaml.ScalarEvent):
            value = self._scalar(event)
        elif isinstance(event, yaml.SequenceStartEvent):
            value = self._sequence(path, depth)
        else:
            value = self._mapping(path, depth)
        if event.anchor:
            values, text = self.size.values - before.values, self.size.text - before.text
            self.anchors[event.anchor] = (value, _Size(values, text, self.size.depth - depth))
        self.size.depth = max(deepest, self.size.depth)
        return value

    def _sequence(self, path: DocumentPath, depth: int) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            items.append(self._value(event, (*path, len(items)), depth + 1))
        return items

    def _mapping(self, path: DocumentPath, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            key = self._key(event, depth)
            inner = (*path, key)
            if key in found:
                first = self.marks[inner]
                self._problem(event, f"{key!r} is here twice", f"the first is on line {first.line}")
                inner = (*path, key, "(again)")
            self.marks[inner] = _mark(event.start_mark)
            value = self._value(next(self.events), inner, depth + 1)
            found.setdefault(key, value)
        return found

    def _key(self, event: Any, depth: int) -> str:
        key = self._value(event, ("(key)",), depth + 1)
        if isinstance(event, yaml.ScalarEvent) and key == "<<":
            self._problem(
                event, "merge keys are not part of YAML 1.2", "write the keys out, or use `defaults`"
            )
        if isinstance(key, str):
            return key
        if isinstance(event, yaml.ScalarEvent):
            self._problem(
                event, f"the key {event.value[:40]!r} is not a string", f'quote it: "{event.value[:40]}"'
            )
            return str(event.value)
        self._stop(event, "a key has to be a string", "quote it, if it is meant as text")

    def _alias(self, event: Any, depth: int) -> Any:
        self.aliases += 1
        if self.aliases > ALIASES_MAX:
            self._stop(event, f"more than {ALIASES_MAX} aliases", "write the values out")
        if event.anchor not in self.anchors:
            self._stop(event, f"the anchor {event.anchor!r} does not exist above this line", "check the name")
        anchored = self.anchors[event.anchor]
        if anchored is None:
            self._stop(event, f"the alias {event.anchor!r} contains itself", "write the value out")
        value, size = anchored
        self._count(event, _Size(size.values - 1, size.text, size.depth), depth)
        return value

    def _count(self, event: Any, more: _Size, depth: int) -> None:
        """Add what the next value costs; `more.depth` is how far it reaches below `depth`."""
        self.size.values += more.values
        self.size.text += more.text
        self.size.depth = max(self.size.depth, depth + more.depth)
        if self.size.values > VALUES_MAX:
            self._stop(event, f"more than {VALUES_MAX} values (aliases expanded)", "split the workflow")
        if self.size.text > TEXT_MAX:
            self._stop(event, f"more than {TEXT_MAX} characters (aliases expanded)", "split the workflow")
        if depth + more.depth > DEPTH_MAX:
            self._stop(event, f"nested deeper than {DEPTH_MAX} levels", "flatten the value")

    def _scalar(self, event: Any) -> Any:
        text: str = event.value
        if not event.implicit[0]:  # quoted, block or tagged as a string
            return text
        if text in _WORDS:
            return _WORDS[text]
        if _UNSTORABLE.fullmatch(text):
            self._problem(event, f"{text} can not be stored", "quote it, if it is meant as text")
            return None
        if text[:1] not in "+-.0123456789":
            return text
        return self._number(event, text)

    def _number(self, event: Any, text: str) -> Any:
        if len(text) > _NUMBER_MAX and (_INTEGER.fullmatch(text) or _FLOAT.fullmatch(text)):
            self._problem(event, f"a number of {len(text)} characters", "quote it, if it is meant as text")
            return None
        if _INTEGER.fullmatch(text):
            digits = text.lstrip("+-")
            if len(digits) > 1 and digits[0] == "0":
                self._problem(
                    event, f"{text} has a leading zero", f'quote it ("{text}"), or write 0o… for octal'
                )
            return int(text)
        if _BASED.fullmatch(text) and len(text) <= _NUMBER_MAX:
            return int(text, 0)
        if not _FLOAT.fullmatch(text):
            return text
        number = float(text)
        if number in (float("inf"), float("-inf")):
            self._problem(event, f"{text} is too large for a number", "quote it, if it is meant as text")
        return number

    def _refuse_tag(self, event: Any) -> None:
        plain = event.tag is None or (
            event.tag == "tag:yaml.org,2002:str" and isinstance(event, yaml.ScalarEvent)
        )
        if not plain and event.tag != "!":
            self._problem(
                event, f"the tag {event.tag[:60]!r} is not allowed", "write plain values; quote strings"
            )

    def _problem(self, event: Any, message: str, hint: str | None) -> None:
        self.report.add_mark(_mark(event.start_mark), message, hint)

    def _stop(self, event: Any, message: str, hint: str | None) -> NoReturn:
        self._problem(event, message, hint)
        raise _Stop

"""TOML as the same tree of texts with lines that YAML gives.

The standard library reads the values; a second look at the text finds the line of each key. A key inside
an inline table has the line of the key before it.
"""

from __future__ import annotations

import re
from typing import Any

from holdfast.config.yaml_lines import Mapping, Node, Scalar, Sequence
from holdfast.errors import InvalidConfiguration

_LARGEST = 1 << 20
_DEEPEST = 20
_BARE = r"[A-Za-z0-9_-]+"
_PART = re.compile(rf"""\s*({_BARE}|"(?:[^"\\\n]|\\.)*"|'[^'\n]*')\s*""", re.ASCII)
_MULTILINE = re.compile(r'"{3}(?:[^\\]|\\.)*?"{3}|\'{3}.*?\'{3}', re.DOTALL)
_PLACE = re.compile(r" \(at line (\d+), column \d+\)$")

Path = tuple[str, ...]


def read_toml(text: str, name: str, *, table: Path = ()) -> Node | None:
    """The tree of `text`, or of the `table` in it; None when that is not there.

    `name` is what errors call the file. `InvalidConfiguration` with a line when it is not TOML.
    """
    import tomllib

    if len(text) > _LARGEST:
        raise InvalidConfiguration("the file is larger than 1 MiB", where=name, fix="shorten it")
    try:
        root: Any = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = _PLACE.search(str(error))
        raise InvalidConfiguration(
            f"this is not TOML: {_PLACE.sub('', str(error)).lower()}",
            where=f"{name}:{place[1]}" if place else name,
            fix="correct the line, or the one before it",
        ) from error
    except RecursionError as error:
        raise InvalidConfiguration("this is not TOML that can be read", where=name) from error
    for part in table:
        root = root.get(part) if isinstance(root, dict) else None
    if root is None:
        return None
    lines = _lines(text)
    return _node(root, table, lines, lines.get(table, 1), name)


def _node(value: Any, path: Path, lines: dict[Path, int], line: int, name: str) -> Node:
    if len(path) > _DEEPEST:
        raise InvalidConfiguration("the file is nested too deeply", where=f"{name}:{line}")
    if isinstance(value, dict):
        items: dict[str, tuple[int, Node]] = {}
        for key, inner in value.items():
            at = lines.get((*path, key), line)
            items[key] = (at, _node(inner, (*path, key), lines, at, name))
        return Mapping(items, line)
    if isinstance(value, list):
        return Sequence(
            [
                _node(each, (*path, str(at)), lines, lines.get((*path, str(at)), line), name)
                for at, each in enumerate(value)
            ],
            line,
        )
    return Scalar(str(value).lower() if isinstance(value, bool) else str(value), line)


def _lines(text: str) -> dict[Path, int]:
    """The line of every key and table, as far as each stands at the beginning of a line."""
    # A long text may hold what looks like a key: only its line ends are kept.
    flat = _MULTILINE.sub(lambda match: '""' + "\n" * match[0].count("\n"), text)
    found: dict[Path, int] = {}
    table: Path = ()
    counts: dict[Path, int] = {}
    for number, line in enumerate(flat.splitlines(), 1):
        if line.lstrip().startswith("[["):
            array = _key(line.lstrip()[2:], "]", counts)
            counts[array] = counts.get(array, -1) + 1
            table = (*array, str(counts[array]))
        elif line.lstrip().startswith("["):
            table = _key(line.lstrip()[1:], "]", counts)
        elif key := _key(line, "=", counts):
            _note(found, table + key, number)
            continue
        else:
            continue
        _note(found, table, number)
    return found


def _note(found: dict[Path, int], path: Path, number: int) -> None:
    for end in range(1, len(path) + 1):
        found.setdefault(path[:end], number)


def _key(text: str, end: str, counts: dict[Path, int]) -> Path:
    """The dotted key that `text` begins with, if `end` follows it, with the newest element of each array."""
    parts: list[str] = []
    position = 0
    while match := _PART.match(text, position):
        parts.append(match[1].strip("\"'"))
        if (newest := counts.get(tuple(parts))) is not None and text[match.end() : match.end() + 1] == ".":
            parts.append(str(newest))
        position = match.end() + 1
        if text[match.end() : position] != ".":
            return tuple(parts) if text[match.end() : position] == end else ()
    return ()

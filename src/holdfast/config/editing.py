"""Sets one value in a YAML configuration file and leaves every other character of it alone.

The place is found in the parsed file, the change is made in its text, and the result is parsed again: if it
says anything else than before plus the new value, nothing is written. A line that `init` commented out is
put in use instead of adding a second one.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from holdfast.config.known import look_up
from holdfast.config.later import LISTS
from holdfast.config.yaml_lines import Mapping, Node, Scalar, Sequence, read_yaml
from holdfast.errors import InvalidArgument, InvalidConfiguration

_PLAIN = re.compile(r"[A-Za-z0-9_./~][A-Za-z0-9_./:@%+*-]*(?: [A-Za-z0-9_./*-]+)*", re.ASCII)
_INDENT = "  "


class _Place(NamedTuple):
    """A key in the file: its spelled path, and the parsed key and value with their positions."""

    path: str
    key: Any
    value: Any


def with_value(text: str, name: str, path: str, value: str, *, scope: tuple[str, ...] = ()) -> str:
    """`text` of the file `name` with the setting `path` set to `value`.

    `scope` is the block that the settings stand in: `("profiles", "prod")`. Raises `InvalidConfiguration`
    when the file is not plain YAML, and when it is written in a way that can not be changed safely.
    """
    if "\r\n" in text:
        unix = with_value(text.replace("\r\n", "\n"), name, path, value, scope=scope)
        return unix.replace("\n", "\r\n")
    by_hand = InvalidConfiguration(
        f"{path} can not be set in {name} without changing more than that",
        where=name,
        fix="change the file by hand",
    )
    if any(path.startswith(f"{family}.") for family in LISTS):
        raise by_hand
    before = read_yaml(text, name)
    changed = _Editor(text, scope).set(path, value)
    try:
        after = read_yaml(changed, name)
    except InvalidConfiguration as error:
        raise by_hand from error
    expected = {
        place: found for place, found in _said(before).items() if place[1] != path or place[0] != scope
    }
    expected[scope, path] = [value]
    if _said(after) != expected:
        raise by_hand
    return changed


def write(path: Path, text: str) -> None:
    """Replace the file at `path` by `text`, whole or not at all; its permissions stay.

    Raises `InvalidArgument` where it can not be written.
    """
    try:
        _replace(path.resolve(), text)
    except OSError as error:
        raise InvalidArgument(
            f"{path.name} cannot be written: {error.strerror}", fix="check the permissions of the folder"
        ) from error


def _replace(target: Path, text: str) -> None:
    mode = target.stat().st_mode & 0o777 if target.exists() else 0o644
    descriptor, made = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        os.replace(made, target)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(made)
        raise


class _Editor:
    def __init__(self, text: str, scope: tuple[str, ...]) -> None:
        import yaml

        self._text = text
        self._scope = scope
        self._root: Any = yaml.compose(text, Loader=yaml.SafeLoader)

    def set(self, path: str, value: str) -> str:
        scope, missing = self._scoped()
        if missing:
            return self._add(scope, [*missing, *path.split(".")], value)
        places = list(_places(scope.value if scope else self._root, ""))
        found = [place for place in places if _means(place) == path]
        if len(found) > 1:
            raise InvalidArgument(
                f"{path} is set more than once", where=f"line {_line(found[1].key)}", fix="keep one of them"
            )
        if found:
            return self._replace(found[0], value)
        groups = [(place, _group_path(place)) for place in places]
        fitting = [(len(known), place) for place, known in groups if known and path.startswith(f"{known}.")]
        length, deepest = max(fitting, key=lambda each: each[0], default=(-1, None))
        return self._add(deepest or scope, path[length + 1 :].split("."), value)

    def _scoped(self) -> tuple[_Place | None, list[str]]:
        """The block of the scope, and which of its keys are not there yet."""
        found: _Place | None = None
        for at, name in enumerate(self._scope):
            node = found.value if found else self._root
            inner = next((each for each in _children(node, "") if each.key.value == name), None)
            if inner is None:
                return found, list(self._scope[at:])
            found = inner
        return found, []

    def _replace(self, place: _Place, value: str) -> str:
        start, end = place.value.start_mark.index, place.value.end_mark.index
        end = start + len(self._text[start:end].rstrip())  # a block ends where the next key begins
        if start == end:  # nothing behind the colon
            return f"{self._text[:start]} {_spell(place.path, value)}{self._text[end:]}"
        if place.value.id == "scalar" and place.value.style in {"|", ">"}:
            raise InvalidArgument(
                f"{place.path} is a block of lines",
                where=f"line {_line(place.key)}",
                fix="change it by hand",
            )
        return f"{self._text[:start]}{_spell(place.path, value)}{self._text[end:]}"

    def _add(self, group: _Place | None, names: list[str], value: str) -> str:
        node = group.value if group else self._root
        if node is not None and node.id == "mapping" and node.flow_style:
            return self._add_in_braces(node, names, value)
        if group is None and (node is None or node.id != "mapping"):
            lines = self._text.splitlines()
            return _joined([*lines, *_block(names, value, 0)])
        return self._add_lines(group, node, names, value)

    def _add_in_braces(self, node: Any, names: list[str], value: str) -> str:
        inner = _spell(".".join(names), value)
        for name in reversed(names[1:]):
            inner = f"{{{name}: {inner}}}"
        at = node.end_mark.index - 1
        head = self._text[:at].rstrip()
        comma = ", " if node.value and not head.endswith(",") else ""
        return f"{head}{comma}{names[0]}: {inner}{self._text[at:]}"

    def _add_lines(self, group: _Place | None, node: Any, names: list[str], value: str) -> str:
        lines = self._text.splitlines()
        if group is None:
            first, column = 0, node.start_mark.column
        else:
            first = group.key.start_mark.line + 1
            column = group.key.start_mark.column + len(_INDENT)
            if node.id == "mapping" and node.value:
                column = node.value[0][0].start_mark.column
        last = _end(lines, first, column)
        for at in range(first, last):
            if len(names) == 1 and (match := _commented(names[0], column).fullmatch(lines[at])):
                lines[at] = _in_use(lines[at], match, names[0], value)
                return _joined(lines)
        return _joined([*lines[:last], *_block(names, value, column), *lines[last:]])


def _commented(name: str, column: int) -> re.Pattern[str]:
    """A setting that was commented out, at this indentation."""
    return re.compile(rf"(?P<before> {{{column}}})# ?{re.escape(name)}:(?P<value> [^#]*)?(?P<remark>#.*)?")


def _in_use(line: str, match: re.Match[str], name: str, value: str) -> str:
    made = f"{match['before']}{name}: {_spell(name, value)}"
    if not match["remark"]:
        return made
    at = match.start("remark")
    return f"{made:<{at}}{match['remark']}" if len(made) < at else f"{made}  {match['remark']}"


def _end(lines: list[str], first: int, column: int) -> int:
    """The line behind the block that begins at `first`, without the blank lines at its end."""
    last = first
    for at in range(first, len(lines)):
        stripped = lines[at].lstrip()
        indent = len(lines[at]) - len(stripped)
        if stripped and indent < column:
            break
        if stripped:
            last = at + 1
    return last


def _block(names: list[str], value: str, column: int) -> list[str]:
    *groups, name = names
    lines = [f"{' ' * column}{_INDENT * at}{group}:" for at, group in enumerate(groups)]
    return [*lines, f"{' ' * column}{_INDENT * len(groups)}{name}: {_spell(name, value)}"]


def _spell(path: str, value: str) -> str:
    """`value` so that YAML reads this text back: plain where that is certain, else in quotes."""
    if _PLAIN.fullmatch(value) and ": " not in value and " #" not in value:
        with suppress(InvalidConfiguration):
            read = read_yaml(f"x: {value}", path)
            if isinstance(read, Mapping) and read.items["x"][1] == Scalar(value, 1):
                return value
    return json.dumps(value, ensure_ascii=False)


def _joined(lines: list[str]) -> str:
    return "\n".join(lines) + "\n"


def _line(node: Any) -> int:
    return int(node.start_mark.line) + 1


def _means(place: _Place) -> str | None:
    key = look_up(place.path)
    return key.path if key.meaning in {"setting", "later"} and place.value.id != "mapping" else None


def _group_path(place: _Place) -> str | None:
    key = look_up(place.path)
    empty = place.value.id == "scalar" and place.value.start_mark.index == place.value.end_mark.index
    return key.path if key.meaning == "group" and (place.value.id == "mapping" or empty) else None


def _children(node: Any, prefix: str) -> Iterator[_Place]:
    for key, value in node.value if node is not None and node.id == "mapping" else ():
        if key.id == "scalar":
            yield _Place(prefix + key.value, key, value)


def _places(node: Any, prefix: str) -> Iterator[_Place]:
    """Every key below `node`, those of groups before what they hold."""
    for place in _children(node, prefix):
        if not prefix and place.key.value in {"profile", "profiles"}:
            continue
        yield place
        yield from _places(place.value, f"{place.path}.")


_Said = dict[tuple[tuple[str, ...], str], list[str | None]]


def _said(node: Node) -> _Said:
    """What a file says: texts by scope and setting, whatever way each is spelled."""
    found: _Said = {}
    for path, value in _leaves(node, ""):
        parts = tuple(path.split("."))
        scope = parts[:2] if parts[0] == "profiles" else ()
        found[scope, look_up(".".join(parts[len(scope) :])).path] = value
    return found


def _leaves(node: Node, path: str) -> Iterator[tuple[str, list[str | None]]]:
    match node:
        case Mapping(items):
            for key, (_, inner) in items.items():
                yield from _leaves(inner, f"{path}.{key}".lstrip("."))
        case Sequence(items):
            if items and all(isinstance(item, Scalar) for item in items):
                yield path, [item.text for item in items if isinstance(item, Scalar)]
            else:
                for at, item in enumerate(items):
                    yield from _leaves(item, f"{path}.{at}")
        case Scalar(text):
            if text is not None and path:
                yield path, [text]

"""YAML as texts with their lines: no types are guessed and no tag makes anything.

Only the plain part of YAML is read: mappings, lists, scalars. A repeated key, a tag, a merge key, an alias
beside an endless document, nesting past 20 levels or a file over 1 MiB is refused, with its line.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from holdfast.errors import InvalidConfiguration

_LARGEST = 1 << 20
_DEEPEST = 20
_MOST_VALUES = 20_000


@dataclass(frozen=True, slots=True)
class Scalar:
    """One value as it was written; `text` is None for `null`, `~` and nothing."""

    text: str | None
    line: int


@dataclass(frozen=True, slots=True)
class Mapping:
    """Keys in their order, each with the line of the key and its value."""

    items: dict[str, tuple[int, Node]]
    line: int


@dataclass(frozen=True, slots=True)
class Sequence:
    """A list."""

    items: list[Node]
    line: int


Node = Scalar | Mapping | Sequence


def read_yaml(text: str, name: str) -> Node:
    """The tree of `text`; `name` is what errors call the file. `InvalidConfiguration` with a line."""
    import yaml

    if len(text) > _LARGEST:
        raise InvalidConfiguration("the file is larger than 1 MiB", where=name, fix="shorten it")
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise InvalidConfiguration(
            f"this is not YAML: {error.problem or error.context}",
            where=f"{name}:{mark.line + 1}" if mark else name,
            fix="correct the line, or the one before it",
        ) from error
    except (yaml.YAMLError, RecursionError) as error:
        raise InvalidConfiguration("this is not YAML that can be read", where=name) from error
    return Scalar(None, 1) if root is None else _Reader(name).node(root, 0)


class _Reader:
    """Turns composed nodes into ours and counts them: an alias may stand for a huge tree."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._values = 0

    def node(self, node: Any, depth: int) -> Node:
        line = node.start_mark.line + 1
        self._values += 1
        if depth > _DEEPEST or self._values > _MOST_VALUES:
            raise self._refuse("the file is nested too deeply or holds too much", line)
        if not node.tag.startswith("tag:yaml.org,2002:") or "python" in node.tag:
            raise self._refuse(f"the tag {node.tag!r} is not read", line)
        if node.id == "scalar":
            return Scalar(None if node.tag.endswith(":null") else node.value, line)
        if node.id == "sequence":
            return Sequence([self.node(item, depth + 1) for item in node.value], line)
        return self._mapping(node, depth, line)

    def _mapping(self, node: Any, depth: int, line: int) -> Mapping:
        items: dict[str, tuple[int, Node]] = {}
        for key, value in node.value:
            key_line = key.start_mark.line + 1
            if key.id != "scalar" or key.tag.endswith(":merge"):
                raise self._refuse("a key has to be a plain word", key_line)
            if key.value in items:
                raise self._refuse(
                    f"the key {key.value!r} stands here and on line {items[key.value][0]}", key_line
                )
            items[key.value] = (key_line, self.node(value, depth + 1))
        return Mapping(items, line)

    def _refuse(self, cause: str, line: int) -> InvalidConfiguration:
        return InvalidConfiguration(cause, where=f"{self._name}:{line}", fix="write it as plain YAML")

"""Nodes: the JSON side of a stored value, with its tags, its limits and the way it is refused.

A node is what strict JSON knows: None, bool, an int of 64 bits, a finite float, str, list, dict with str
keys. Everything else is an object with the single key `$hf` and the value `[kind, payload]`. An object of
the user's own that has this key is wrapped in the tag `object`, whose payload is taken as it stands.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable
from typing import Any

DEPTH_MAX = 100
"""How many containers may lie inside one another."""
SIZE_MAX = 32 * 1024 * 1024
"""The longest encoded body, in bytes before compression."""
TAG = "$hf"

_WHERE_CHARS_MAX = 300

_SHAPES = {
    type(None): "null", bool: "bool", int: "int", float: "float", str: "str", list: "list", dict: "object",
}  # fmt: skip
_TAG_KINDS = (
    "int", "decimal", "bytes", "datetime", "date", "time", "timedelta", "uuid", "tuple", "set", "frozenset",
)  # fmt: skip
SHAPES_ALL = frozenset(_SHAPES.values()) | frozenset(_TAG_KINDS)
SEQUENCES: dict[str, Callable[[list[Any]], Any]] = {
    "list": lambda items: items, "tuple": tuple, "set": set, "frozenset": frozenset,
}  # fmt: skip


class Refusal(Exception):
    """Why a value, a node or an annotation is not accepted; on its way out it collects the path."""

    def __init__(
        self, cause: str, fix: str | None = None, *, damaged: bool = False, mismatch: bool = False
    ) -> None:
        super().__init__(cause)
        self.cause = cause
        self.fix = fix
        self.damaged = damaged
        self.mismatch = mismatch
        self.path: list[str] = []

    def inside(self, segment: str) -> Refusal:
        """This refusal, seen from one level further out."""
        self.path.append(segment)
        return self

    def where(self, what: str) -> str:
        """The path from `what` to the culprit, shortened in the middle when it is very long."""
        full = what + "".join(reversed(self.path))
        half = _WHERE_CHARS_MAX // 2
        return full if len(full) <= _WHERE_CHARS_MAX else f"{full[:half]}…{full[-half:]}"


class Trip:
    """One walk over a value: how deep it stands, and how many bytes the result may still take."""

    __slots__ = ("depth", "left")

    def __init__(self) -> None:
        self.depth = 0
        self.left = SIZE_MAX

    def enter(self, count: int) -> None:
        """Step into a container of `count` elements; each takes two bytes at least."""
        self.depth += 1
        if self.depth > DEPTH_MAX:
            raise too_deep()
        self.spend(2 * count)

    def spend(self, count: int) -> None:
        """Account for `count` bytes of output, so that shared references cannot multiply for ever."""
        self.left -= count
        if self.left < 0:
            raise too_large()


def too_deep() -> Refusal:
    """The refusal of a value with more than `DEPTH_MAX` levels."""
    return Refusal(
        f"the value is nested deeper than {DEPTH_MAX} levels, or contains itself",
        f"flatten it to at most {DEPTH_MAX} levels (DEPTH_MAX), or refer to parts by their ids",
    )


def too_large() -> Refusal:
    """The refusal of a value that takes more than `SIZE_MAX` bytes."""
    return Refusal(
        f"the value takes more than {SIZE_MAX // 2**20} MiB when encoded",
        f"keep large data in a file and return its address; the limit is {SIZE_MAX} bytes (SIZE_MAX)",
    )


def damage(cause: str) -> Refusal:
    """The refusal of a body that no encoder wrote."""
    return Refusal(cause, damaged=True)


def key_segment(key: str) -> str:
    """`key` as a step of a path: `.price`, or `['unit price']` when it is not a plain name."""
    return f".{key}" if key.isidentifier() else f"[{key[:40]!r}]"


def type_name(kind: type) -> str:
    """The name of a type as a reader knows it: `int`, `shop.models.Order`."""
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def brief(value: object) -> str:
    """`value` in a message: short, and whatever its own repr does (a huge int's raises)."""
    try:
        return reprlib.repr(value)[:60]
    except Exception:
        return f"a {type_name(type(value))}"


def tagged(kind: str, payload: object) -> dict[str, Any]:
    """The node of a value that plain JSON does not know."""
    return {TAG: [kind, payload]}


def guarded(node: dict[str, Any]) -> dict[str, Any]:
    """`node`, wrapped when it has a key of its own that reads like a tag."""
    return tagged("object", node) if TAG in node else node


def shape(node: Any) -> str:
    """What a node is: a JSON type, or the kind of its tag."""
    if type(node) is dict and TAG in node:
        return open_tag(node)[0]
    return _SHAPES[type(node)]


def open_tag(node: dict[str, Any]) -> tuple[str, Any]:
    """Kind and payload of a tag node."""
    match node:
        case {"$hf": [str() as kind, payload]} if len(node) == 1:
            return kind, payload
    raise damage(f"malformed tag {brief(node)}")


def fields_of(node: Any) -> dict[str, Any] | None:
    """The members of an object node, guarded or not; None when the node is something else."""
    if type(node) is not dict:
        return None
    if TAG not in node:
        return node
    kind, payload = open_tag(node)
    return payload if kind == "object" and type(payload) is dict else None


def elements_of(node: Any) -> tuple[str, list[Any]] | None:
    """Kind ("list", "tuple", "set", "frozenset") and element nodes; None when the node is something else."""
    if type(node) is list:
        return "list", node
    if type(node) is dict and TAG in node:
        kind, payload = open_tag(node)
        if kind in SEQUENCES and kind != "list" and type(payload) is list:
            return kind, payload
    return None


def collect(kind: str, items: list[Any]) -> Any:
    """`items` as a list, tuple, set or frozenset."""
    try:
        return SEQUENCES[kind](items)
    except TypeError as error:
        raise damage(f"a {kind} holds what cannot be its element: {error}") from None

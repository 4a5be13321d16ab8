"""Plans: how a value at an annotated place is written and read.

A plan is compiled once per annotation and has two directions that agree: what `write` accepts, `read`
gives back. A plan is *plain* when its nodes describe themselves; then the annotation only checks. Models
and enums are not plain: their nodes are bare objects and bare values, and the annotation alone says what
they become. That is why a union may hold any number of plain members, but no two members of the same JSON
shape as soon as one of them is not plain.

Checks follow the rules of type checkers (an int may stand where float is written, a datetime where date
is), and the value keeps its own type: an int stays an int.
"""

# ruff: noqa: D102 - what write, read, takes and claims promise is said once, on Plan.
from __future__ import annotations

from abc import ABC, abstractmethod
from enum import Enum
from typing import Any

from holdfast.store.codec_nodes import (
    DEPTH_MAX,
    SHAPES_ALL,
    Refusal,
    Trip,
    brief,
    collect,
    damage,
    elements_of,
    fields_of,
    guarded,
    key_segment,
    shape,
    tagged,
    type_name,
)
from holdfast.store.codec_values import (
    read_any,
    write_any,
    write_items,
    write_key,
    write_mapping,
    write_sequence,
)


class Plan(ABC):
    """How to write and read the values of one annotation.

    `name` is the annotation as messages spell it, `shapes` are the node shapes it may write.
    """

    name: str
    shapes: frozenset[str]
    plain: bool = True

    @abstractmethod
    def write(self, value: Any, trip: Trip) -> Any:
        """The node of `value`; `Refusal` when it does not fit."""

    @abstractmethod
    def read(self, node: Any, depth: int) -> Any:
        """The value of `node`; `Refusal` when it does not fit."""

    def takes(self, value: Any) -> bool:
        """Whether a look at the types shows that `value` fits and needs no rewriting for this plan's sake.

        False when it does not, and when only `write` can tell. Never true unless the plan is plain.
        """
        return False

    def claims(self, node: Any) -> bool:
        """Whether a union should let this plan read `node`."""
        return shape(node) in self.shapes

    def mismatch(self, found: str) -> Refusal:
        """The refusal of something else than this plan stands for."""
        return Refusal(
            f"{found} stands where the annotation says {self.name}",
            "correct the annotation, or make the value agree with it",
            mismatch=True,
        )


class AnyPlan(Plan):
    """Whatever describes itself."""

    name = "Any"
    shapes = SHAPES_ALL

    def write(self, value: Any, trip: Trip) -> Any:
        return write_any(value, trip)

    def read(self, node: Any, depth: int) -> Any:
        return read_any(node, depth)

    def takes(self, value: Any) -> bool:
        return True


class ExactPlan(Plan):
    """A value of one of a few built-in types; containers here hold anything."""

    def __init__(self, name: str, types: frozenset[type], shapes: frozenset[str]) -> None:
        self.name = name
        self.types = types
        self.shapes = shapes

    def write(self, value: Any, trip: Trip) -> Any:
        if type(value) not in self.types:
            raise self.mismatch(type_name(type(value)))
        return write_any(value, trip)

    def read(self, node: Any, depth: int) -> Any:
        value = read_any(node, depth)
        if type(value) not in self.types:
            raise self.mismatch(type_name(type(value)))
        return value

    def takes(self, value: Any) -> bool:
        return type(value) in self.types


class SequencePlan(Plan):
    """A list, tuple, set or frozenset whose elements share one annotation."""

    def __init__(self, name: str, types: tuple[type, ...], element: Plan) -> None:
        self.name = name
        self.types = types
        self.element = element
        self.shapes = frozenset(kind.__name__ for kind in types)
        self.plain = element.plain

    def write(self, value: Any, trip: Trip) -> Any:
        if type(value) not in self.types:
            raise self.mismatch(type_name(type(value)))
        return write_sequence(value, trip, self.element.write)

    def read(self, node: Any, depth: int) -> Any:
        kind, items = _opened(self, node)
        return collect(kind, _read_items(items, [self.element] * len(items), depth))

    def takes(self, value: Any) -> bool:
        return self.plain and type(value) in self.types and all(map(self.element.takes, value))


class FixedTuplePlan(Plan):
    """A tuple of known length, one annotation per position."""

    shapes = frozenset({"tuple"})

    def __init__(self, name: str, elements: list[Plan]) -> None:
        self.name = name
        self.elements = elements
        self.plain = all(element.plain for element in elements)

    def write(self, value: Any, trip: Trip) -> Any:
        if type(value) is not tuple:
            raise self.mismatch(type_name(type(value)))
        if len(value) != len(self.elements):
            raise self.mismatch(f"a tuple of {len(value)}")
        plans = iter(self.elements)
        return tagged("tuple", write_items(value, trip, lambda item, trip: next(plans).write(item, trip)))

    def read(self, node: Any, depth: int) -> Any:
        kind, items = _opened(self, node)
        if len(items) != len(self.elements):
            raise self.mismatch(f"a tuple of {len(items)}")
        return collect(kind, _read_items(items, self.elements, depth))


def _opened(plan: Plan, node: Any) -> tuple[str, list[Any]]:
    found = elements_of(node)
    if found is None or found[0] not in plan.shapes:
        raise plan.mismatch(f"a stored {shape(node)}")
    return found


def _read_items(items: list[Any], plans: list[Plan], depth: int) -> list[Any]:
    descend(depth)
    out: list[Any] = []
    for item, plan in zip(items, plans, strict=True):
        try:
            out.append(plan.read(item, depth + 1))
        except Refusal as refusal:
            raise refusal.inside(f"[{len(out)}]") from None
    return out


def descend(depth: int) -> None:
    """Refuse to read one more level when `DEPTH_MAX` levels lie around already."""
    if depth >= DEPTH_MAX:
        raise damage(f"nested deeper than {DEPTH_MAX} levels")


class MappingPlan(Plan):
    """A dict with str keys whose values share one annotation."""

    shapes = frozenset({"object"})

    def __init__(self, name: str, element: Plan) -> None:
        self.name = name
        self.element = element
        self.plain = element.plain

    def write(self, value: Any, trip: Trip) -> Any:
        if type(value) is not dict:
            raise self.mismatch(type_name(type(value)))
        return write_mapping(value, trip, self.element.write)

    def read(self, node: Any, depth: int) -> Any:
        members = fields_of(node)
        if members is None:
            raise self.mismatch(f"a stored {shape(node)}")
        descend(depth)
        out: dict[str, Any] = {}
        for key, item in members.items():
            try:
                out[key] = self.element.read(item, depth + 1)
            except Refusal as refusal:
                raise refusal.inside(key_segment(key)) from None
        return out

    def takes(self, value: Any) -> bool:
        return self.plain and type(value) is dict and all(map(self.element.takes, value.values()))


class TypedDictPlan(Plan):
    """A dict whose keys are declared; a key that is not declared could not be read back, so it is refused."""

    shapes = frozenset({"object"})

    def __init__(self, name: str, required: frozenset[str]) -> None:
        self.name = name
        self.members: dict[str, Plan] = {}
        self.required = required
        # Undeclared keys are dropped on reading, so even a TypedDict of plain members is not self-describing.
        self.plain = False

    def write(self, value: Any, trip: Trip) -> Any:
        if type(value) is not dict:
            raise self.mismatch(type_name(type(value)))
        self._complete(value)
        trip.enter(len(value))
        out: dict[str, Any] = {}
        for key, item in value.items():
            member = self.members.get(write_key(key, trip))
            if member is None:
                raise Refusal(
                    f"{self.name} declares no key {key!r}", "declare it, or annotate dict[str, Any]"
                ).inside(key_segment(key))
            try:
                out[key] = member.write(item, trip)
            except Refusal as refusal:
                raise refusal.inside(key_segment(key)) from None
        trip.depth -= 1
        return guarded(out)

    def read(self, node: Any, depth: int) -> Any:
        members = fields_of(node)
        if members is None:
            raise self.mismatch(f"a stored {shape(node)}")
        descend(depth)
        self._complete(members)
        out: dict[str, Any] = {}
        for key, item in members.items():
            if key in self.members:
                try:
                    out[key] = self.members[key].read(item, depth + 1)
                except Refusal as refusal:
                    raise refusal.inside(key_segment(key)) from None
        return out

    def _complete(self, members: dict[str, Any]) -> None:
        for key in sorted(self.required - members.keys()):
            raise missing(self.name, key)


def missing(owner: str, field: str) -> Refusal:
    """The refusal of a model that lacks `field`."""
    return Refusal(
        f"{owner} needs the field {field!r}; it is missing and has no default",
        "give the field a default, or restore the code that wrote the value",
    ).inside(key_segment(field))


class LiteralPlan(Plan):
    """One of a few constants, type included: `Literal[1]` is not True."""

    def __init__(self, name: str, constants: tuple[Any, ...]) -> None:
        self.name = name
        self.allowed = frozenset((type(constant), constant) for constant in constants)
        self.shapes = frozenset(shape(write_any(constant, Trip())) for constant in constants)

    def write(self, value: Any, trip: Trip) -> Any:
        self._check(value)
        return write_any(value, trip)

    def read(self, node: Any, depth: int) -> Any:
        value = read_any(node, depth)
        self._check(value)
        return value

    def _check(self, value: Any) -> None:
        try:
            if (type(value), value) in self.allowed:
                return
        except TypeError:
            pass
        raise self.mismatch(brief(value))


class EnumPlan(Plan):
    """A member of an Enum, stored as its value."""

    plain = False

    def __init__(self, kind: type[Enum]) -> None:
        self.kind = kind
        self.name = type_name(kind)
        try:
            self.shapes = frozenset(shape(write_any(member.value, Trip())) for member in kind)
        except Refusal as refusal:
            raise refusal.inside(".value") from None

    def write(self, value: Any, trip: Trip) -> Any:
        if type(value) is not self.kind:
            raise self.mismatch(type_name(type(value)))
        node = write_any(value.value, trip)
        if self._member(value.value) is not value:
            raise Refusal(
                f"{self.name}({brief(value.value)}) does not give this member back",
                "give each member its own value",
            )
        return node

    def read(self, node: Any, depth: int) -> Any:
        return self._member(read_any(node, depth))

    def _member(self, value: Any) -> Enum:
        try:
            return self.kind(value)
        except (ValueError, TypeError, KeyError):
            raise Refusal(
                f"{brief(value)} is not a value of {self.name}",
                "keep the members that stored values name",
            ) from None


class UnionPlan(Plan):
    """One of several annotations; the compiler has made sure that a node belongs to one of them only."""

    def __init__(self, name: str, members: list[Plan]) -> None:
        self.name = name
        self.members = members
        self.shapes = frozenset().union(*(member.shapes for member in members))
        self.plain = all(member.plain for member in members)

    def write(self, value: Any, trip: Trip) -> Any:
        depth, best = trip.depth, None
        for member in self.members:
            try:
                return member.write(value, trip)
            except Refusal as refusal:
                trip.depth = depth
                best = _deeper(best, refusal)
        raise self.mismatch(type_name(type(value))) if best is None or _shallow(best) else best

    def read(self, node: Any, depth: int) -> Any:
        best = None
        for member in self.members:
            if member.claims(node):
                try:
                    return member.read(node, depth)
                except Refusal as refusal:
                    best = _deeper(best, refusal)
        raise self.mismatch(f"a stored {shape(node)}") if best is None or _shallow(best) else best

    def takes(self, value: Any) -> bool:
        if self.plain:
            for member in self.members:
                if member.takes(value):
                    return True
        return False

    def claims(self, node: Any) -> bool:
        return any(member.claims(node) for member in self.members)


def _shallow(refusal: Refusal) -> bool:
    return refusal.mismatch and not refusal.path


def _deeper(best: Refusal | None, other: Refusal) -> Refusal:
    # The member that got furthest is the one the author meant; its complaint helps most.
    if best is None or _shallow(best):
        return other
    return best if _shallow(other) or len(best.path) >= len(other.path) else other

"""The codec's law over generated values: what is accepted comes back equal, with equal types at every level.

And its counterpart: whatever bytes are read, nothing but the project's own errors comes out.
"""

from __future__ import annotations

import dataclasses
import json
import random
import zlib
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import Enum, IntEnum
from pathlib import Path
from typing import Any, Generic, Literal, NamedTuple, TypedDict, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
import pydantic
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from holdfast.errors import HoldfastError
from holdfast.store.codec import check_annotation, decode, digest, encode

T = TypeVar("T")
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe")


class Colour(Enum):
    RED = "red"
    NOTHING = None
    PAIR = (1, "x")


class Level(IntEnum):
    LOW = 1
    HIGH = 2


@dataclasses.dataclass
class Leaf:
    name: str
    price: float = 0.0
    colour: Colour = Colour.RED


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    label: str
    value: Any = None
    leaf: Leaf | None = None
    children: tuple[Tree, ...] = ()
    rest: dict[str, Tree] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Box(Generic[T]):
    content: T
    more: list[T]


class Cat(msgspec.Struct, tag=True):
    lives: int


class Dog(msgspec.Struct, tag=True, rename="camel"):
    tail_cm: float
    friends: list[Cat | Dog] = []


class Point(NamedTuple):
    x: int
    y: float = 0.0


class Movie(TypedDict, total=False):
    title: str
    leaf: Leaf


class Order(pydantic.BaseModel):
    number: int = pydantic.Field(alias="orderNumber")
    price: Decimal
    at: datetime | None = None
    lines: list[Leaf] = []
    parent: Order | None = None


def same(one: Any, other: Any) -> bool:
    """Equality that also compares types, signs of zero, zones and folds, at every level."""
    return type(one) is type(other) and faithful(one) == faithful(other)


def faithful(value: Any) -> Any:
    """`value` taken apart into lists whose equality misses nothing."""
    parts: Any
    if isinstance(value, int) and not isinstance(value, Enum):
        parts = hex(value)  # repr refuses an int of thousands of digits
    elif isinstance(value, list | tuple):
        parts = [faithful(item) for item in value]
    elif isinstance(value, dict):
        parts = [(key, faithful(item)) for key, item in value.items()]
    elif isinstance(value, set | frozenset):
        parts = sorted((faithful(item) for item in value), key=repr)
    elif isinstance(value, datetime | time):
        parts = [value.isoformat(), value.fold, value.tzname(), type(value.tzinfo)]
    elif isinstance(value, pydantic.BaseModel):
        parts = faithful(value.__dict__)
    elif dataclasses.is_dataclass(value):
        parts = [faithful(getattr(value, field.name)) for field in dataclasses.fields(value)]
    elif isinstance(value, msgspec.Struct):
        parts = [faithful(getattr(value, name)) for name in value.__struct_fields__]
    else:
        parts = repr(value)
    return type(value), parts


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
keys = text | st.just("$hf")
zones: st.SearchStrategy[tzinfo] = (
    st.sampled_from(ZONES).map(ZoneInfo)
    | st.sampled_from([UTC, timezone(timedelta(hours=1)), timezone(timedelta(hours=-3), "BRT")])
    # An offset under one second, other than none, is refused: Python does not read it back.
    | st.timedeltas(timedelta(hours=-23), timedelta(hours=23))
    .filter(lambda offset: not offset or abs(offset) >= timedelta(seconds=1))
    .map(timezone)
)
maybe_zones: st.SearchStrategy[Any] = st.none() | zones
datetimes = st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1), timezones=maybe_zones) | st.builds(
    lambda value, fold: value.replace(fold=fold), st.datetimes(), st.sampled_from([0, 1])
)
plain_scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text
)
hashable = (
    plain_scalars
    | st.integers(-(2**200), 2**200)
    | st.binary(max_size=20)
    | st.decimals(allow_nan=False, allow_infinity=False)
    | datetimes
    | st.dates()
    | st.times(timezones=maybe_zones)
    | st.timedeltas()
    | st.uuids()
)
frozen = st.recursive(
    hashable, lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3), max_leaves=6
)
values = st.recursive(
    frozen,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(keys, inner, max_size=4)
        | st.lists(inner, max_size=3).map(tuple)
        | st.sets(frozen, max_size=4)
    ),
    max_leaves=20,
)
leaves = st.builds(
    Leaf, text, st.floats(allow_nan=False, allow_infinity=False) | st.integers(), st.sampled_from(Colour)
)
trees = st.recursive(
    st.builds(Tree, label=text, value=values, leaf=st.none() | leaves),
    lambda inner: st.builds(
        Tree,
        label=text,
        children=st.lists(inner, max_size=3).map(tuple),
        rest=st.dictionaries(keys, inner, max_size=3),
    ),
    max_leaves=5,
)
cats = st.builds(Cat, st.integers())
pets = st.recursive(
    cats,
    lambda inner: st.builds(
        Dog, st.floats(allow_nan=False, allow_infinity=False), st.lists(inner, max_size=3)
    ),
    max_leaves=5,
)
orders = st.builds(
    lambda **given: Order.model_validate(given),
    orderNumber=st.integers(-(2**70), 2**70),
    price=st.decimals(allow_nan=False, allow_infinity=False),
    at=st.none() | datetimes,
    lines=st.lists(leaves, max_size=2),
)
ANNOTATED: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "None": (None, st.none()),
    "object": (object, values),
    "bool": (bool, st.booleans()),
    "int": (int, st.integers() | st.booleans()),
    "float keeps ints": (float, st.floats(allow_nan=False, allow_infinity=False) | st.integers()),
    "str": (str, text),
    "bytes": (bytes, st.binary()),
    "Decimal": (Decimal, st.decimals(allow_nan=False, allow_infinity=False)),
    "date keeps datetimes": (date, st.dates() | datetimes),
    "datetime": (datetime, datetimes),
    "time": (time, st.times()),
    "timedelta": (timedelta, st.timedeltas()),
    "UUID": (UUID, st.uuids()),
    "dict": (dict, st.dictionaries(keys, values, max_size=3)),
    "list[int]": (list[int], st.lists(st.integers())),
    "list[str]": (list[str], st.lists(text)),
    "dict[str, Any]": (dict[str, Any], st.dictionaries(keys, values, max_size=3)),
    "Mapping": (Mapping[str, float], st.dictionaries(keys, st.integers() | st.floats(0, 1))),
    "Sequence": (Sequence[str], st.lists(text) | st.lists(text).map(tuple)),
    "set": (set[UUID], st.sets(st.uuids(), max_size=4)),
    "frozenset of tuples": (frozenset[tuple[int, ...]], st.frozensets(st.tuples(st.integers()), max_size=4)),
    "fixed tuple": (tuple[int, str, Leaf], st.tuples(st.integers(), text, leaves)),
    "union": (int | str | None | list[int] | list[str], st.integers() | text | st.lists(text) | st.none()),
    "Literal": (Literal[1, "a", True, None], st.sampled_from([1, "a", True, None])),
    "enum": (Colour, st.sampled_from(Colour)),
    "set of enums": (set[Level], st.sets(st.sampled_from(Level))),
    "dataclass": (Leaf, leaves),
    "recursive dataclass": (Tree | None, trees | st.none()),
    "dict of models": (dict[str, list[Leaf | None]], st.dictionaries(keys, st.lists(st.none() | leaves))),
    "generic dataclass": (Box[Leaf], st.builds(Box, leaves, st.lists(leaves, max_size=2))),
    "tagged structs": (Cat | Dog, pets),
    "named tuple": (Point, st.builds(Point, st.integers(), st.floats(0, 1))),
    "TypedDict": (Movie, st.fixed_dictionaries({}, optional={"title": text, "leaf": leaves})),
    "pydantic": (Order, orders),
    "pydantic in list": (list[Order | None], st.lists(orders | st.none(), max_size=2)),
}


@settings(deadline=None, max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(values)
@example({"$hf": ["decimal", "1"]})
@example({"a": {"$hf": {"$hf": []}}})
@example([-0.0, 0.0, 5e-324, 1.7976931348623157e308, 1e22, 2**53 + 1])
@example([2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 10**5000])
@example([True, 1, 1.0, Decimal("1.00"), Decimal("-0E+5")])
@example("nul \x00 and \U0001f4a9 and \uffff")
@example({"\x00": "\x00", "": ""})
@example(datetime(2024, 10, 27, 2, 30, 0, 1, tzinfo=ZoneInfo("Europe/Berlin"), fold=1))
@example(datetime(2024, 3, 31, 2, 30, tzinfo=ZoneInfo("Europe/Berlin")))  # never shown by a clock
@example([timedelta.min, timedelta.max, datetime.min, datetime.max, date.min, date.max])
def test_a_value_comes_back_the_same_without_an_annotation(value: Any) -> None:
    data = encode(value)
    assert same(decode(data), value)
    assert encode(decode(data)) == data


@pytest.mark.parametrize("name", ANNOTATED)
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_value_comes_back_the_same_by_its_annotation(name: str, data: st.DataObject) -> None:
    annotation, strategy = ANNOTATED[name]
    check_annotation(annotation, what="result")
    value = data.draw(strategy)
    payload = encode(value, annotation)
    assert same(decode(payload, annotation), value)
    assert encode(decode(payload, annotation), annotation) == payload


@settings(deadline=None, max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(values | trees | leaves | pets | orders, st.sampled_from([pair[0] for pair in ANNOTATED.values()]))
def test_any_value_under_any_annotation_is_refused_or_comes_back_the_same(
    value: Any, annotation: Any
) -> None:
    try:
        payload = encode(value, annotation)
    except HoldfastError:
        return
    assert same(decode(payload, annotation), value)


@settings(deadline=None)
@given(st.sets(text, max_size=8))
def test_equal_sets_make_equal_bytes(items: set[str]) -> None:
    shuffled = sorted(items, key=lambda item: digest(item.encode()))
    assert encode(set(shuffled)) == encode(items) == encode(set(sorted(items, reverse=True)))  # noqa: C414 - the order of insertion is the point


@settings(deadline=None, max_examples=500)
@given(st.binary(max_size=60) | st.binary(max_size=60).map(lambda body: b"\x10\x00\x00" + body))
@example(b"")
@example(b"\x10\x00\x00")
@example(b"\x10\x00\x00" + b"[" * 100_000)
@example(b"\x10\x00\x00" + b'{"$hf":["tuple",[' * 400 + b"1" + b"]]}" * 400)
@example(b"\x10\x00\x00" + b"9" * 5_000)
@example(b'\x10\x00\x00{"$hf":["int","0x' + b"f" * 100 + b'"]}')
def test_random_bytes_raise_only_errors_of_the_project(data: bytes) -> None:
    for annotation in (Any, Tree, Order, Cat | Dog, set[Level]):
        try:
            decode(data, annotation)
        except HoldfastError as error:
            assert error.where
            assert error.fix


TAG_KINDS = [
    "decimal", "bytes", "datetime", "date", "time", "timedelta", "uuid", "int",
    "tuple", "set", "frozenset", "object", "unknown",
]  # fmt: skip
json_values = st.recursive(
    plain_scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            keys | st.sampled_from(["label", "leaf", "type", "name", "price"]), inner, max_size=4
        )
        | st.fixed_dictionaries(
            {
                "$hf": st.tuples(
                    st.sampled_from(TAG_KINDS),
                    inner,
                )
            }
        )
    ),
    max_leaves=12,
)


@settings(deadline=None, max_examples=600, suppress_health_check=[HealthCheck.too_slow])
@given(json_values)
@example({"$hf": ["decimal", "NaN"]})
@example({"$hf": ["decimal", "1e999999999999999999999"]})
@example({"$hf": ["decimal", [0, [1], "F"]]})
@example({"$hf": ["datetime", ["2024-01-01T00:00:00", 2, None, None]]})
@example({"$hf": ["datetime", ["2024-01-01T00:00:00", 0, "../../etc/passwd", None]]})
@example({"$hf": ["datetime", ["2024-01-01T00:00:00", 0, 7, None]]})
@example({"$hf": ["datetime", ["2024-01-01T00:00:00", 0, None, "CET"]]})
@example({"$hf": ["datetime", ["0001-01-01T00:00:00+14:00", 0, "America/New_York", None]]})
@example({"$hf": ["timedelta", "9" * 4000]})
@example({"$hf": ["timedelta", "9" * 5000]})
@example({"$hf": ["timedelta", 1e308]})
@example({"$hf": ["set", [[]]]})
@example({"$hf": ["object", []]})
@example({"$hf": "text"})
@example({"$hf": ["int", "1"], "more": 1})
def test_hostile_tags_raise_only_errors_of_the_project(node: Any) -> None:
    body = json.dumps(node).encode()
    for annotation in (Any, Tree, Order, Cat | Dog, frozenset[Level], datetime, dict[str, Leaf], int | Point):
        try:
            decode(b"\x10\x00\x00" + body, annotation)
            decode(b"\x11\x00\x00" + zlib.compress(body), annotation)
        except HoldfastError as error:
            assert error.where


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(trees, st.randoms(use_true_random=False))
def test_a_damaged_payload_raises_only_errors_of_the_project(tree: Tree, chance: random.Random) -> None:
    data = bytearray(encode(tree, Tree))
    for _ in range(chance.randint(1, 3)):
        data[chance.randrange(len(data))] = chance.randrange(256)
    cut = bytes(data[: chance.randint(0, len(data))])
    for payload in (bytes(data), cut):
        try:
            decode(payload, Tree)
        except HoldfastError as error:
            assert error.where


def naughty_strings() -> list[str]:
    path = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "blns.json"
    if not path.exists():
        pytest.skip("../shared/data/blns.json, the list of naughty strings, is not on this machine")
    return list(json.loads(path.read_text(encoding="utf-8")))


def test_naughty_strings_survive_as_values_keys_and_fields() -> None:
    strings = naughty_strings()
    assert len(strings) > 500
    for string in strings:
        assert decode(encode(string)) == string
        assert decode(encode(string, str), str) == string
        assert decode(encode({string: [string]})) == {string: [string]}
        assert decode(encode(Leaf(string), Leaf), Leaf) == Leaf(string)
    assert decode(encode(strings, list[str]), list[str]) == strings

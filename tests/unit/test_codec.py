"""The payload format byte by byte, what is refused and where, and how models change between versions."""

from __future__ import annotations

import collections
import dataclasses
import random
import subprocess
import sys
import zlib
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import Enum, Flag, IntEnum, StrEnum
from functools import cached_property
from pathlib import Path, PurePath
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, TypedDict, TypeVar

import msgspec
import pydantic
import pytest

from holdfast.errors import DamagedData, UnsupportedValue
from holdfast.store.codec import DEPTH_MAX, SIZE_MAX, check_annotation, decode, digest, encode

PLAIN = b"\x10\x00\x00"
DEFLATED = b"\x11\x00\x00"
T = TypeVar("T")
UserId = NewType("UserId", int)


class Suit(Enum):
    HEARTS = "h"
    SPADES = "s"


class Rank(IntEnum):
    ACE = 1


class Mode(StrEnum):
    ON = "on"


class Right(Flag):
    READ = 1
    WRITE = 2


class Odd(Enum):
    THING = object()


@dataclasses.dataclass
class Item:
    price: float
    tags: list[str] = dataclasses.field(default_factory=list)


class SubItem(Item):
    pass


@dataclasses.dataclass
class Basket:
    items: list[Item]
    note: str = "none"

    @cached_property
    def total(self) -> float:
        return sum(item.price for item in self.items)


@dataclasses.dataclass
class Temperature:
    """Restores the field its constructor does not take."""

    celsius: float
    readings: int = dataclasses.field(default=0, init=False)


@dataclasses.dataclass
class Doubling:
    amount: int

    def __post_init__(self) -> None:
        self.amount *= 2


@dataclasses.dataclass
class Tidy:
    name: str

    def __post_init__(self) -> None:
        self.name = self.name.strip()


@dataclasses.dataclass
class Written:
    amount: int

    def __init__(self, amount: int) -> None:
        self.amount = amount + 1


@dataclasses.dataclass
class WithInitVar:
    path: dataclasses.InitVar[str]
    size: int


@dataclasses.dataclass
class Page(Generic[T]):
    entries: list[T]
    next: Page[T] | None = None


class Circle(msgspec.Struct, tag=True):
    radius: float


class Square(msgspec.Struct, tag=True):
    side: float


class Untagged(msgspec.Struct):
    side: float


class Pair(NamedTuple):
    left: int
    right: int = 7


class Options(TypedDict, total=False):
    retries: int


class Account(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    name: str
    limit: int = 3


class Shouting(pydantic.BaseModel):
    word: str

    @pydantic.field_validator("word")
    @classmethod
    def louder(cls, word: str) -> str:
        return word + "!"


class Aliased(pydantic.BaseModel):
    first: int = pydantic.Field(validation_alias=pydantic.AliasChoices("one", "uno"))
    second: int = pydantic.Field(alias="$hf", default=0)


class Tags(pydantic.RootModel[list[str]]):
    pass


class TextLike(str):
    __slots__ = ()


class OwnZone(tzinfo):
    def utcoffset(self, when: datetime | None) -> timedelta:
        return timedelta(hours=1)

    def dst(self, when: datetime | None) -> timedelta:
        return timedelta(0)

    def tzname(self, when: datetime | None) -> str:
        return "own"


def refused(value: object, annotation: Any = Any) -> UnsupportedValue:
    with pytest.raises(UnsupportedValue) as caught:
        encode(value, annotation, what="result")
    return caught.value


def damaged(data: bytes, annotation: Any = Any) -> DamagedData:
    with pytest.raises(DamagedData) as caught:
        decode(data, annotation, what="result")
    assert "result" in caught.value.cause
    return caught.value


def nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value


# The bytes.


@pytest.mark.parametrize(
    ("value", "body"),
    [
        ({"b": 1, "a": [True, None, -0.0]}, b'{"b":1,"a":[true,null,-0.0]}'),
        ("é\x00", '"é\\u0000"'.encode()),
        (2**63, b'{"$hf":["int","0x8000000000000000"]}'),
        (Decimal("1.50"), b'{"$hf":["decimal","1.50"]}'),
        (b"\x00\xff", b'{"$hf":["bytes","AP8="]}'),
        (datetime(2024, 2, 3, 4, 5, 6, 7, UTC), b'{"$hf":["datetime","2024-02-03T04:05:06.000007+00:00"]}'),
        (timedelta(seconds=-1), b'{"$hf":["timedelta","-1000000"]}'),
        ((1, (2,)), b'{"$hf":["tuple",[1,{"$hf":["tuple",[2]]}]]}'),
        ({"b", "a"}, b'{"$hf":["set",["a","b"]]}'),
        ({"$hf": 1}, b'{"$hf":["object",{"$hf":1}]}'),
    ],
)
def test_the_stored_form_is_fixed(value: object, body: bytes) -> None:
    assert encode(value) == PLAIN + body
    assert decode(PLAIN + body) == value


def test_models_are_stored_as_their_fields_without_a_class_name() -> None:
    body = PLAIN + b'{"items":[{"price":1.5,"tags":["x"]}],"note":"none"}'
    assert encode(Basket([Item(1.5, ["x"])]), Basket) == body


def test_a_long_body_is_compressed_where_it_pays() -> None:
    repetitive, noise = ["abc"] * 5_000, [digest(str(n).encode()) for n in range(2_000)]
    assert encode(repetitive).startswith(DEFLATED)
    assert len(encode(repetitive)) < 2_000
    assert decode(encode(repetitive)) == repetitive
    assert encode("x" * 8_190).startswith(PLAIN), "8 KiB with the quotes: not over the threshold"
    assert encode("x" * 8_191).startswith(DEFLATED)
    assert decode(encode(noise)) == noise


def test_a_long_body_that_does_not_shrink_by_a_tenth_stays_plain() -> None:
    # ASCII alone would shrink by 17 %; two-byte characters mixed in leave zlib too little to save.
    chance = random.Random(7)
    ascii_part = [chr(code) for code in range(0x20, 0x7F) if code not in b'"\\']
    alphabet = ascii_part * 21 + [chr(code) for code in range(0x80, 0x800)]
    noise = "".join(chance.choice(alphabet) for _ in range(20_000))
    body = msgspec.json.encode(noise)
    assert len(zlib.compress(body, 1)) > 0.9 * len(body)
    assert encode(noise) == PLAIN + body


def test_the_digest_ignores_how_well_zlib_compressed() -> None:
    value = ["abc"] * 5_000
    body = msgspec.json.encode(value)
    packed = encode(value)
    assert len(digest(packed)) == 16
    assert digest(packed) == digest(DEFLATED + zlib.compress(body, 9)) == digest(PLAIN + body)
    assert digest(packed) != digest(encode([*value, "d"]))
    assert digest(b"\x11\x00\x00 no payload at all") == digest(b"\x11\x00\x00 no payload at all")


# What is refused when it is written, and where.


@pytest.mark.parametrize(
    ("value", "where", "cause"),
    [
        ({"items": [0, {"price": float("nan")}]}, "result.items[1].price", "nan"),
        ([float("inf")], "result[0]", "inf"),
        (float("-inf"), "result", "-inf"),
        (Decimal("NaN"), "result", "NaN"),
        ({"unit price": "\ud800"}, "result['unit price']", "U+D800"),
        ("ab\udfff", "result", "character 2"),
        ({"a\ud800": 1}, "result", "lone surrogate"),
        ([datetime(2026, 1, 1, tzinfo=timezone(timedelta(microseconds=1)))], "result[0]", "under a second"),
        ({"a": {1: 2}}, "result.a", "int, not str"),
        ({"a": ({"b": {TextLike("k"): 1}},)}, "result.a[0].b", "not str"),
        ({10**5_000: 1}, "result", "int, not str"),
        ({"k": {frozenset({object})}}, "result.k[*][*]", "type is not a storable type"),
        ([TextLike("x")], "result[0]", "subclass of str"),
        (collections.OrderedDict(a=1), "result", "subclass of dict"),
        (bytearray(b"x"), "result", "bytearray"),
        ({"f": len}, "result.f", "builtin_function_or_method"),
        (1j, "result", "complex"),
        (PurePath("x"), "result", "is not a storable type"),
        (datetime(2024, 1, 1, tzinfo=OwnZone()), "result", "OwnZone"),
        (Suit.HEARTS, "result", "Suit.HEARTS"),
        ([Rank.ACE], "result[0]", "Rank.ACE"),
        ({"m": Mode.ON}, "result.m", "Mode.ON"),
        (Pair(1), "result", "named tuple"),
    ],
)
def test_what_would_not_come_back_is_refused_with_its_path(value: object, where: str, cause: str) -> None:
    error = refused(value)
    assert error.where == where
    assert cause in error.cause
    assert error.fix


@pytest.mark.parametrize("model", [Item(1.0), Circle(1.0), Account(name="x"), Pair(1), Suit.SPADES])
def test_a_model_needs_an_annotation(model: object) -> None:
    for value, annotation, where in [
        (model, Any, "result"),
        ({"a": [model]}, dict[str, Any], "result.a[0]"),
        ([model], list, "result[0]"),
    ]:
        error = refused(value, annotation)
        assert error.where == where
        assert "annotate the step's return type" in error.fix


@pytest.mark.parametrize(
    ("value", "annotation", "where"),
    [
        (None, str, "result"),
        ("1", int, "result"),
        (1.0, int, "result"),
        (1, bool, "result"),
        ([1], tuple[int, ...], "result"),
        ((1, 2, 3), tuple[int, int], "result"),
        ({"price": 1.0}, Item, "result"),
        (SubItem(1.0), Item, "result"),
        (Basket([Item(1.0), Item("2")]), Basket, "result.items[1].price"),  # type: ignore[arg-type]
        (Basket([Item(1.0), None]), Basket | None, "result.items[1]"),  # type: ignore[list-item]
        ({"a": [Item(float("nan"))]}, dict[str, list[Item]], "result.a[0].price"),
        ({"retries": 1, "other": 2}, Options, "result.other"),
        (True, Literal[1], "result"),
        ([], Literal[1], "result"),
        pytest.param(10**5_000, Literal[1], "result", id="huge int"),
        (Rank.ACE, int, "result"),
        (Decimal("NaN"), Decimal | None, "result"),
    ],
)
def test_a_value_that_contradicts_its_annotation_is_refused(
    value: object, annotation: Any, where: str
) -> None:
    error = refused(value, annotation)
    assert error.where == where
    assert error.fix


def test_a_union_reports_the_member_that_was_meant() -> None:
    assert "nan" in refused(float("nan"), float | None).cause
    assert "says None | int" in refused("x", int | None).cause.replace("int | None", "None | int")


def test_depth_is_limited_on_both_sides() -> None:
    assert decode(encode(nested(DEPTH_MAX))) == nested(DEPTH_MAX)
    assert "100 levels" in refused(nested(DEPTH_MAX + 1)).cause
    assert decode(encode((nested(DEPTH_MAX - 1),))) == (nested(DEPTH_MAX - 1),)
    assert "100 levels" in refused((nested(DEPTH_MAX),)).cause
    for hostile in (b"[" * 1_000_000, b'{"$hf":["tuple",[' * 101 + b"]]}" * 101):
        damaged(PLAIN + hostile)


def test_cycles_are_refused() -> None:
    ring: list[Any] = [1]
    ring.append(ring)
    loop: dict[str, Any] = {}
    loop["self"] = (loop, loop)
    page = Page[int]([1])
    page.next = page
    for value, annotation in ((ring, Any), (loop, Any), (page, Page[int]), ([ring, ring], list[list[Any]])):
        assert "contains itself" in refused(value, annotation).cause


def test_size_is_limited_and_named() -> None:
    assert len(encode("x" * (SIZE_MAX - 2))) < SIZE_MAX
    for value, annotation in (
        ("x" * (SIZE_MAX - 1), Any),
        (["x" * (SIZE_MAX // 2)] * 2, list[str]),
        (b"x" * (SIZE_MAX * 3 // 4), bytes),
        ({"a": ("x" * SIZE_MAX,)}, Any),
    ):
        error = refused(value, annotation)
        assert "32 MiB" in error.cause
        assert str(SIZE_MAX) in error.fix


@pytest.mark.parametrize("leaf", [1, Decimal(1)], ids=["plain", "tagged"])
def test_shared_parts_can_not_multiply_beyond_the_limit(leaf: object) -> None:
    value: object = leaf
    for _ in range(20):
        value = [value] * 10
    assert "32 MiB" in refused(value).cause


# What is refused when it is read.


def test_an_unknown_key_or_format_is_damage_with_its_number() -> None:
    error = damaged(b"\x10\x01\x02{}")
    assert "258" in error.cause
    assert error.details["key_id"] == 258
    assert "0x20" in damaged(b"\x20\x00\x00{}").cause
    assert "0x12" in damaged(b"\x12\x00\x00{}").cause
    assert "cut short" in damaged(b"\x10\x00").cause


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"NaN", b"1e400", b'"\xff"', b"[1,]", b"1 2", b"'a'", b'{"$hf":["x",1]}', b'{"$hf":1}'],
)
def test_a_body_nobody_wrote_is_damage(body: bytes) -> None:
    damaged(PLAIN + body)
    damaged(DEFLATED + zlib.compress(body))


def test_a_compressed_body_is_bounded_whole_and_alone() -> None:
    packed = encode(["abc"] * 5_000)
    damaged(packed[:-1])
    damaged(packed + b"x")
    damaged(DEFLATED + b"not zlib")
    bomb = zlib.compressobj()
    pieces = [bomb.compress(b" " * 2**20) for _ in range(SIZE_MAX // 2**20 + 1)]
    assert str(SIZE_MAX) in damaged(DEFLATED + b"".join(pieces) + bomb.flush()).cause


def test_a_stored_value_of_another_type_names_its_place() -> None:
    with pytest.raises(UnsupportedValue) as caught:
        decode(encode({"items": [{"price": "dear"}]}), Basket, what="step fetch")
    assert caught.value.where == "step fetch.items[0].price"
    assert "float" in caught.value.cause


# Models between versions.


def test_unknown_fields_are_ignored_and_missing_ones_take_their_default() -> None:
    assert decode(encode({"price": 1.0, "gone": [1]}), Item) == Item(1.0, [])
    assert decode(encode({"left": 1}), Pair) == Pair(1, 7)
    assert decode(encode({"name": "a"}), Account) == Account(name="a")
    assert decode(encode({"radius": 2.0, "x": 1}), Circle) == Circle(2.0)
    assert decode(encode({"celsius": 1.0}), Temperature) == Temperature(1.0)
    assert decode(encode({"retries": 1, "gone": 2}), Options) == {"retries": 1}


@pytest.mark.parametrize(
    ("annotation", "field"),
    [(Item, "price"), (Circle, "radius"), (Pair, "left"), (Account, "name"), (list[Item | None], "price")],
)
def test_a_missing_field_without_default_is_named(annotation: Any, field: str) -> None:
    stored = [{"other": 1}] if annotation == list[Item | None] else {"other": 1}
    with pytest.raises(UnsupportedValue) as caught:
        decode(encode(stored), annotation, what="result")
    assert repr(field) in caught.value.cause
    assert (caught.value.where or "").endswith(f".{field}")


def test_a_removed_enum_member_is_named() -> None:
    with pytest.raises(UnsupportedValue, match=r"'x' is not a value of .*Suit"):
        decode(encode("x"), Suit)


def test_only_fields_are_stored() -> None:
    basket = Basket([Item(1.0)])
    assert basket.total == 1.0
    back = decode(encode(basket, Basket), Basket)
    assert back == basket
    assert "total" not in vars(back)


def test_a_field_outside_the_constructor_is_restored() -> None:
    value = Temperature(20.5)
    value.readings = 3
    assert decode(encode(value, Temperature), Temperature).readings == 3


@pytest.mark.parametrize(
    ("value", "where"),
    [
        (Doubling(1), "result.amount"),
        (Written(1), "result.amount"),
        (Shouting(word="hey"), "result.word"),
    ],
)
def test_a_constructor_that_changes_its_own_fields_is_found_out(value: object, where: str) -> None:
    error = refused(value, type(value))
    assert error.where == where
    assert "come back changed" in error.cause


def test_a_constructor_that_refuses_its_fields_is_quoted() -> None:
    with pytest.raises(UnsupportedValue, match="Account refused its stored fields"):
        decode(encode({"name": "x", "limit": 3}), type("Account", (Account,), {"__init__": None}))


def test_an_idempotent_constructor_is_fine() -> None:
    assert decode(encode(Tidy(" a "), Tidy), Tidy) == Tidy("a")


def test_pydantic_extras_aliases_and_root_models() -> None:
    account = Account.model_validate({"name": "a", "$hf": [1], "more": {"x": (1,)}})
    back = decode(encode(account, Account), Account)
    assert back == account
    assert back.model_extra == {"$hf": [1], "more": {"x": (1,)}}
    aliased = Aliased.model_validate({"uno": 1, "$hf": 2})
    assert decode(encode(aliased, Aliased), Aliased) == aliased
    assert decode(encode(Tags(["a"]), Tags), Tags) == Tags(["a"])


def test_times_parsed_by_pydantic_come_back_equal() -> None:
    class Event(pydantic.BaseModel):
        at: datetime

    event = Event.model_validate_json('{"at": "2024-01-01T00:00:00+02:00"}')
    assert decode(encode(event, Event), Event) == event


def test_unions_tell_their_members_apart() -> None:
    shapes: Any = list[Circle | Square | None]
    value = [Square(1.0), None, Circle(2.0)]
    assert decode(encode(value, shapes), shapes) == value
    either: Any = Item | list[Item] | str
    for one in (Item(1.0), [Item(2.0)], "none"):
        assert decode(encode(one, either), either) == one


def test_flags_keep_their_combinations() -> None:
    assert decode(encode(Right.READ | Right.WRITE, Right), Right) is Right.READ | Right.WRITE


def test_generic_models_use_their_argument() -> None:
    value = Page([Item(1.0)], Page([Item(2.0)]))
    assert decode(encode(value, Page[Item]), Page[Item]) == value
    assert refused(value, Page[int]).where == "result.entries[0]"


def test_wrapped_annotations_are_seen_through() -> None:
    assert decode(encode(5, UserId), UserId) == 5
    assert decode(encode([Item(1.0)], Annotated[list[Item], [1]]), Annotated[list[Item], [1]]) == [Item(1.0)]


# Annotations.


@pytest.mark.parametrize(
    ("annotation", "where", "cause"),
    [
        (PurePath, "step result", "PurePath"),
        (dict[str, list[complex]], "step result[*][*]", "complex"),
        (dict[int, str], "step result", "not str"),
        (Item | Basket, "step result", "told apart"),
        (Item | dict[str, Any], "step result", "told apart"),
        (Suit | str, "step result", "told apart"),
        (list[Item] | list[str], "step result", "told apart"),
        (Untagged | Circle, "step result", "told apart"),
        (Item | Any, "step result", "told apart"),
        (Odd, "step result.value", "object"),
        ("Item", "step result", "not resolved"),
        (Literal[Suit.HEARTS], "step result", "Suit.HEARTS"),
        (WithInitVar, "step result.path", "InitVar"),
        (type[int], "step result", "type[int]"),
        (collections.abc.Callable[[], None], "step result", "Callable"),
        (TextLike, "step result", "TextLike"),
    ],
)
def test_an_unstorable_annotation_is_refused_early(annotation: Any, where: str, cause: str) -> None:
    with pytest.raises(UnsupportedValue) as caught:
        check_annotation(annotation, what="step result")
    assert caught.value.where == where
    assert cause in caught.value.cause
    assert caught.value.fix


def test_a_field_that_can_not_be_stored_is_named() -> None:
    @dataclasses.dataclass
    class Report:
        place: Path

    Report.__annotations__["place"] = Path
    with pytest.raises(UnsupportedValue) as caught:
        check_annotation(list[Report], what="step result")
    assert caught.value.where == "step result[*].place"


def test_pydantic_is_not_imported_for_those_who_do_not_use_it() -> None:
    script = (
        "import sys, dataclasses; from holdfast.store.codec import *\n"
        "A = dataclasses.make_dataclass('A', [('x', int)]); assert decode(encode(A(1), A), A) == A(1)\n"
        "assert 'pydantic' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)

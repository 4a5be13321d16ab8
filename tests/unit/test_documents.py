"""Documents: every row comes back from its text, whatever it holds."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.errors import DamagedData
from holdfast.records.tables import Column, Kind, Table
from holdfast.store import codec
from holdfast.store.files.documents import dump, parse, to_mapping, to_row

TABLE = Table(
    name="things",
    columns=tuple(Column(name=kind.value, kind=kind, nullable=True) for kind in Kind),
    key=("text",),
)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=10,
)
BY_KIND: dict[Kind, st.SearchStrategy[Any]] = {
    Kind.TEXT: TEXT,
    Kind.INTEGER: st.integers(-(2**63), 2**63 - 1),
    Kind.REAL: st.floats(allow_nan=False, allow_infinity=False),
    Kind.BOOLEAN: st.booleans(),
    Kind.MOMENT: st.integers(-(10**15), 10**16),
    Kind.DURATION: st.integers(0, 2**62),
    Kind.BYTES: st.binary(max_size=40) | st.binary(min_size=16, max_size=16),
    Kind.TEXTS: st.lists(TEXT, max_size=3),
    Kind.JSON: VALUES.map(codec.to_json) | st.sampled_from(['{"a": 1}', '"{\\"a\\": 1}"', "1e2", '"x"']),
    Kind.PAYLOAD: VALUES.map(codec.encode) | st.binary(max_size=20),
}
ROWS = st.tuples(*(st.none() | BY_KIND[column.kind] for column in TABLE.columns))


@pytest.mark.parametrize("form", ["yaml", "json"])
@settings(max_examples=300, deadline=None)
@given(row=ROWS)
def test_a_row_comes_back_the_same(form: str, row: tuple[Any, ...]) -> None:
    text = dump({"row": to_mapping(TABLE, row)}, form)
    back = to_row(TABLE, parse(text, form, place="x")["row"], {}, place="x")
    assert back == row
    assert [type(each) for each in back] == [type(each) for each in row]
    assert math.copysign(1, back[2] or 0.0) == math.copysign(1, row[2] or 0.0)


def test_a_document_reads_well() -> None:
    row = (
        "line one\nline two", 7, 0.5, True, 1_700_000_000_000_001, 5, b"k" * 16, ["a", "b"],
        codec.to_json({"n": 1}), codec.encode({"says": "hello", "at": [1, None]}),
    )  # fmt: skip
    assert dump(to_mapping(TABLE, row), "yaml").decode() == (
        "text: |-\n  line one\n  line two\ninteger: 7\nreal: 0.5\nboolean: true\n"
        "moment: '2023-11-14T22:13:20.000001+00:00'\nduration: 5\n"
        "bytes:\n  $key: 6b6b6b6b-6b6b-6b6b-6b6b-6b6b6b6b6b6b\ntexts:\n- a\n- b\n"
        "json:\n  $json:\n    n: 1\n"
        "payload:\n  $payload:\n    says: hello\n    at:\n    - 1\n    - null\n"
    )


@pytest.mark.parametrize(
    ("mapping", "place"),
    [
        ({"colour": 1}, "x"),
        ({"integer": "7"}, "x.integer"),
        ({"integer": True}, "x.integer"),
        ({"boolean": 1}, "x.boolean"),
        ({"moment": "soon"}, "x.moment"),
        ({"bytes": "AAAA"}, "x.bytes"),
        ({"bytes": {"$base64": "!"}}, "x.bytes"),
        ({"bytes": {"$key": "nothing"}}, "x.bytes"),
        ({"texts": "a"}, "x.texts"),
        ({"texts": [1]}, "x.texts"),
        ({"json": {"$payload": 1}}, "x.json"),
        ([], "x"),
    ],
)
def test_what_does_not_fit_is_named(mapping: Any, place: str) -> None:
    with pytest.raises(DamagedData) as damaged:
        to_row(TABLE, mapping, {}, place="x")
    assert damaged.value.where == place


@pytest.mark.parametrize(
    ("text", "where"),
    [(b"a: [1, 2\nb: 3\n", "f:2"), (b"\xff", "f"), (b"- 1\n", "f"), (b"a: \0\n", "f"), (b"", "f")],
)
def test_a_damaged_text_is_told_with_its_line(text: bytes, where: str) -> None:
    with pytest.raises(DamagedData) as damaged:
        parse(text, "yaml", place="f")
    assert (damaged.value.where or "").startswith(where)
    with pytest.raises(DamagedData):
        parse(b"{", "json", place="f")

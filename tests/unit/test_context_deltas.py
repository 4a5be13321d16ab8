"""What is written down about a change makes the new document of the old one, exactly, and is short."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.domain.context_deltas import applied, changes

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from([0.0, -0.0, 1.0, 1.5, "", "a", "ab" * 20, "ab" * 19 + "x", "é\U0001f600"])
    | st.text(max_size=30)
)
DOCUMENTS = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.sampled_from("abcd$"), inner, max_size=4),
    max_leaves=25,
)


def text(document: Any) -> str:
    return json.dumps(document, ensure_ascii=False)


@settings(max_examples=200, deadline=None)
@given(DOCUMENTS, DOCUMENTS)
def test_any_document_becomes_any_other(old: Any, new: Any) -> None:
    before = text(old)
    assert text(applied(old, json.loads(text(changes(old, new))))) == text(new)
    assert text(old) == before


@st.composite
def edits(draw: st.DrawFn) -> tuple[list[Any], list[Any]]:
    """A list, and what a few of the usual changes make of it."""
    old: list[Any] = draw(st.lists(DOCUMENTS, max_size=12))
    new = list(old)
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, len(new)))
        match draw(st.sampled_from(["in", "out", "change", "tail", "turn"])):
            case "in":
                new[place:place] = draw(st.lists(DOCUMENTS, max_size=3))
            case "out":
                del new[place : place + 2]
            case "change" if new:
                new[place % len(new)] = draw(DOCUMENTS)
            case "tail":
                new += draw(st.lists(DOCUMENTS, max_size=3))
            case "turn":
                new.reverse()
    return old, new


@settings(max_examples=200, deadline=None)
@given(edits())
def test_an_edited_list_reads_back(pair: tuple[list[Any], list[Any]]) -> None:
    old, new = pair
    assert text(applied(old, changes(old, new))) == text(new)


def turns(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [
        {"role": "user" if n % 2 else "assistant", "content": f"turn {n}: {'word ' * 40}"}
        for n in range(start, start + count)
    ]


SYSTEM = {"role": "system", "content": "policy " * 500}


@pytest.mark.parametrize(
    ("old", "new", "most"),
    [
        pytest.param(turns(200), turns(201), 300, id="one more at the end"),
        pytest.param([SYSTEM, *turns(50)], [SYSTEM, *turns(50, 1)], 300, id="a window that moves"),
        pytest.param(
            {"messages": turns(80), "tools": turns(40), "n": 1},
            {"messages": turns(81), "tools": turns(40), "n": 2},
            350,
            id="inside an object",
        ),
        pytest.param([*turns(50), "long " * 2000], [*turns(50), "long " * 2000 + "tail"], 80, id="a text"),
        pytest.param([SYSTEM, {"notes": {"a": "x" * 5000, "b": 1}}, *turns(50)],
                     [SYSTEM, {"notes": {"a": "x" * 5000, "b": 2}}, *turns(50)], 90, id="deep inside"),
        pytest.param(turns(90), [*turns(40), *turns(45, 45)], 80, id="some left out"),
        pytest.param(turns(30), turns(30), 30, id="nothing"),
    ],
)  # fmt: skip
def test_a_small_change_is_written_shortly(old: Any, new: Any, most: int) -> None:
    delta = changes(old, new)
    assert len(text(delta)) <= most, delta
    assert text(applied(old, delta)) == text(new)


def test_what_only_looks_equal_is_told_apart() -> None:
    for old, new in (([1], [True]), ([1], [1.0]), ([0.0], [-0.0]), ({"a": 1, "b": 2}, {"b": 2, "a": 1})):
        assert text(applied(old, changes(old, new))) == text(new)


def test_lists_too_long_to_compare_are_replaced_and_read_back() -> None:
    old, new = [str(n) for n in range(1500)], [str(n) for n in range(1500, 0, -1)]
    assert applied(old, changes(old, new)) == new


def test_documents_too_deep_to_compare_are_replaced_in_part() -> None:
    def deep(leaf: int) -> Any:
        document: Any = leaf
        for _ in range(60):
            document = [document]
        return document

    assert applied(deep(1), changes(deep(1), deep(2))) == deep(2)


def test_what_is_no_delta_is_refused() -> None:
    with pytest.raises(ValueError, match="no delta"):
        applied({}, ["?"])

"""File names for ids: reversible, and never two for one file."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.store.files.names import file_name, id_of, joined_name

IDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=90)


@pytest.mark.parametrize(
    ("id", "name"),
    [
        ("order-17", "order-17"),
        ("a.b_c", "a.b_c"),
        ("A", "%41"),
        ("../etc/passwd", "%2e.%2fetc%2fpasswd"),
        (".hidden", "%2ehidden"),
        ("end.", "end%2e"),
        ("ä", "%c3%a4"),
        ("con", "%63on"),
        ("com1.txt", "%63om1.txt"),
        ("a~b", "a%7eb"),
        ("", "%"),
        ("%", "%25"),
    ],
)
def test_a_name_is_readable(id: str, name: str) -> None:
    assert file_name(id) == name
    assert id_of(name) == id


@given(IDS)
def test_a_name_leads_back_to_its_id(id: str) -> None:
    name = file_name(id)
    assert id_of(name) in (id, None)
    assert len(name.encode()) <= 180
    assert name == name.lower()
    assert not set(name) & set('/\\:*?"<>| \n\t')
    assert not name.startswith(".")


@given(IDS, IDS)
def test_two_ids_never_share_a_file(one: str, other: str) -> None:
    assert (file_name(one) == file_name(other)) == (one == other)


def test_a_long_id_is_cut_and_told_apart() -> None:
    long = [file_name("x" * 200 + end) for end in "ab"]
    assert long[0] != long[1]
    assert id_of(long[0]) is None


def test_a_name_of_several_parts_is_cut_like_a_long_id() -> None:
    assert joined_name(["a", "b%3d"]) == "a=b%3d"
    parts = [file_name("x" * 200), "78" * 255]
    assert len(joined_name(parts)) <= 180
    assert joined_name(parts) != joined_name([*parts[:1], "78" * 254 + "79"])


@pytest.mark.parametrize("name", ["A", "%zz", "%4", "%61", "a/b", "%ff", ".a", "con"])
def test_other_names_are_nobodys(name: str) -> None:
    assert id_of(name) is None

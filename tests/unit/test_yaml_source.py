"""The YAML loader: what scalars mean, where things stand, which limits hold, and that nothing breaks it."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.workflows import yaml_source
from holdfast.workflows.problems import Mark, Problem, Report

LINE_BREAKS = ("\u0085", "\u2028", "\u2029")


def load(text: bytes | str) -> tuple[Any, list[Problem]]:
    report = Report("flow.yaml")
    return yaml_source.load(text, report).value, report.problems


def only_problem(text: bytes | str) -> Problem:
    _, problems = load(text)
    assert len(problems) == 1, problems
    return problems[0]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", "yes"), ("NO", "NO"), ("on", "on"), ("off", "off"), ("y", "y"),
        ("2020-01-01", "2020-01-01"), ("12:30:45", "12:30:45"),
        ("1_000", "1_000"), ("0b11", "0b11"), ("true", True), ("False", False), ("null", None), ("~", None),
        ("12", 12), ("-7", -7), ("+3", 3), ("0", 0), ("0o17", 15), ("0x1F", 31), ("1.5", 1.5),
        ("-.5e3", -500.0),
        ("1e3", 1000.0), ("'12'", "12"), ('"true"', "true"), ("!!str 12", "12"), ("=", "="),
        ("1.2.3", "1.2.3"),
        ("0755x", "0755x"), (".", "."), ("-", [None]), ("'\\n'", "\\n"), ("é", "é"),
    ],
)  # fmt: skip
def test_scalars_follow_yaml_1_2(text: str, value: object) -> None:
    found, problems = load(text)
    assert problems == []
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "message", "line", "column"),
    [
        ("a: 1\nb: 2\na: 3", "'a' is here twice", 3, 1),
        ("mode: 0755", "0755 has a leading zero", 1, 7),
        ("x: .nan", ".nan can not be stored", 1, 4),
        ("x: 1e999", "1e999 is too large", 1, 4),
        ("x: " + "9" * 200, "a number of 200 characters", 1, 4),
        ("x: !!python/object:os.system {}", "the tag 'tag:yaml.org,2002:python/object:os.system'", 1, 4),
        ("x: !!timestamp 2020-01-01", "is not allowed", 1, 4),
        ("x: !!binary aGk=", "is not allowed", 1, 4),
        ("a: &a {x: 1}\nb:\n  <<: *a", "merge keys are not part of YAML 1.2", 3, 3),
        ("1: x", "the key '1' is not a string", 1, 1),
        ("[1]: x", "a key has to be a string", 1, 1),
        ("a: *nowhere", "anchor", 1, 4),
        ("a: &a [*a]", "the alias 'a' contains itself", 1, 8),
        ("a: 1\n---\nb: 2", "a second document begins here", 2, 1),
        ("a: [1, 2\n", "not YAML", 2, 1),
        ("a: b: c", "not YAML: mapping values are not allowed", 1, 5),
        ("\tx: 1", "not YAML", 1, 1),
    ],
)
def test_mistakes_name_their_line_and_column(text: str, message: str, line: int, column: int) -> None:
    problem = only_problem(text)
    assert message in problem.message
    assert (problem.file, problem.line, problem.column) == ("flow.yaml", line, column)


@pytest.mark.parametrize("text", ["", "# only a comment\n", "\ufeff"])
def test_an_empty_file_is_a_mistake(text: str) -> None:
    assert only_problem(text).message == "the file is empty"


def test_bytes_that_are_not_utf_8_are_a_mistake() -> None:
    assert "not UTF-8" in only_problem(b"a: \xff").message
    assert "not UTF-8" in only_problem("a: 1".encode("utf-16")).message
    assert "not UTF-8" in only_problem("a: \ud800").message
    assert load(b"\xef\xbb\xbfa: 1") == ({"a": 1}, [])


def test_several_mistakes_are_found_in_one_reading() -> None:
    value, problems = load("a: 1\na: 2\nb: 010\nc: !x 1\n")
    assert [problem.line for problem in problems] == [2, 3, 4]
    assert value["a"] == 1


def test_marks_tell_keys_items_and_the_duplicate() -> None:
    report = Report("flow.yaml")
    loaded = yaml_source.load("name: x\nsteps:\n  - id: a\n  - id: b\n    needs: [a]\n", report)
    assert loaded.marks["name",] == Mark(1, 1)
    assert loaded.marks["steps", 1, "needs"] == Mark(5, 5)
    assert loaded.marks["steps", 1, "needs", 0] == Mark(5, 13)


def test_aliases_give_the_value_and_count_in_full() -> None:
    assert load("a: &x [1, 2]\nb: *x\nc: [*x, *x]") == (
        {"a": [1, 2], "b": [1, 2], "c": [[1, 2], [1, 2]]},
        [],
    )


def bomb(levels: int, text: str = "x") -> str:
    lines = [f"a0: &a0 {text}"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: '" + "x" * yaml_source.BYTES_MAX + "'", "the limit is 1048576"),
        ("[" * 100_000, "nested deeper than 50 levels"),
        ("{a: " * 100_000, "nested deeper than 50 levels"),
        ("- " * 100_000, "nested deeper than 50 levels"),
        ("? " * 100_000, "nested deeper than 50 levels"),
        ("a: &a0 [x]\n" + "".join(f"b{n}: &a{n + 1} [*a{n}]\n" for n in range(60)), "nested deeper than 50"),
        (bomb(12), "more than 100000 values"),
        (bomb(5, "x" * 1000), "characters (aliases expanded)"),
        ("a: &a x\nb: [" + "*a, " * 1_001 + "]", "more than 1000 aliases"),
    ],
    ids=[
        "bytes",
        "sequences",
        "mappings",
        "dashes",
        "questions",
        "alias-depth",
        "bomb",
        "text",
        "aliases",
    ],
)
def test_limits_stop_the_reading_with_bounded_memory(text: str, message: str) -> None:
    tracemalloc.start()
    try:
        problem = only_problem(text)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert message in problem.message
    assert peak < 150 * 1024 * 1024


def test_the_value_limit_is_exact() -> None:
    lines = "- x\n" * (yaml_source.VALUES_MAX - 1)
    assert load(lines)[1] == []
    assert "more than 100000 values" in only_problem(lines + "- x\n").message


def test_the_depth_limit_is_exact() -> None:
    inside = "[" * yaml_source.DEPTH_MAX + "]" * yaml_source.DEPTH_MAX
    assert load(inside)[1] == []
    assert "deeper" in only_problem(f"[{inside}]").message


yamlish = st.text(
    alphabet=st.sampled_from("ab01 \n\t:-?[]{},&*!|>'\"%#@`~.<=\\xe\u00e9\u2028\x00\ud800\U0001f600"),
    max_size=80,
)


@given(st.one_of(yamlish, st.text(max_size=60), st.binary(max_size=80)))
@settings(max_examples=400, deadline=2_000)
def test_any_input_gives_a_value_or_a_mistake(text: str | bytes) -> None:
    value, problems = load(text)
    assert value is not None or problems or isinstance(text, bytes) or text.strip()


letters = st.characters(exclude_categories=["Cs", "Cc", "Cn", "Co"])
plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(letters, max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(letters, max_size=8), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(plain)
@settings(max_examples=100, deadline=2_000)
def test_json_reads_as_the_same_value(value: object) -> None:
    text = json.dumps(value, ensure_ascii=False)
    for mark in LINE_BREAKS:  # breaks a line in YAML, also between quotes; JSON may escape it
        text = text.replace(mark, f"\\u{ord(mark):04x}")
    found, problems = load(text)
    assert "<<" in str(value) or (found == value and not problems)


@pytest.mark.parametrize("mark", LINE_BREAKS)
def test_a_key_over_two_lines_is_refused(mark: str) -> None:
    found, problems = load(json.dumps({f"a{mark}b": 1}, ensure_ascii=False))
    assert found is None
    assert problems

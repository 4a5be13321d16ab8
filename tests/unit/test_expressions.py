"""Templates and expressions: values and types, what they read, what is refused, and bounded work."""

from __future__ import annotations

import time
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.errors import BodyFailed, InvalidDefinition
from holdfast.workflows import budget
from holdfast.workflows.expressions import Expression, Template

SCOPE: dict[str, Any] = {
    "inputs": {"n": 3, "name": "ana", "flag": False, "list": [1, 2, 3], "map": {"b": 1, "a": [None, "é"]}},
    "env": {"REGION": "eu"},
    "execution": {"id": "ex-1"},
    "steps": {"build-it": {"output": {"files": ["x", "y"]}, "status": "completed", "error": None}},
}


def render(text: str, scope: dict[str, Any] | None = None) -> Any:
    return Template.parse(text, "here").render(SCOPE if scope is None else scope)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("plain", "plain"),
        ("", ""),
        ("${{ inputs.n }}", 3),
        ("  ${{inputs.flag}}\n", False),
        ("${{ inputs.list }}", [1, 2, 3]),
        ("${{ inputs.missing }}", None),
        ("n=${{ inputs.n }}!", "n=3!"),
        ("${{ inputs.name }}-${{ inputs.n }}", "ana-3"),
        ("x ${{ inputs.map }}", 'x {"a":[null,"é"],"b":1}'),
        ("x ${{ inputs.flag }}", "x false"),
        ("x ${{ inputs.missing || 'none' }}", "x none"),
        ("$${{ inputs.n }}", "${{ inputs.n }}"),
        ("$${{ a }} ${{ inputs.n }}", "${{ a }} 3"),
        ("${{ '}}' }}", "}}"),
        ("${{ {a: inputs.n} }}", {"a": 3}),
        ("${{ {a: {b: inputs.n}}}}", {"a": {"b": 3}}),
        ("a ${{ {a: inputs.n}}} b", 'a {"a":3} b'),
        ('${{ steps."build-it".output.files | length(@) }}', 2),
        ("${{ inputs.n > `2` && inputs.name == 'ana' }}", True),
        ("${{ inputs.list[?@ > `1`] }}", [2, 3]),
        ("${{ execution.id }}", "ex-1"),
    ],
)
def test_templates_give_values_with_their_types(text: str, value: object) -> None:
    found = render(text)
    assert found == value
    assert type(found) is type(value)


def test_a_rendered_value_is_data_and_never_a_template_again() -> None:
    assert render("${{ inputs.x }}", {"inputs": {"x": "${{ inputs.x }}"}}) == "${{ inputs.x }}"
    assert render("a ${{ inputs.x }}", {"inputs": {"x": "${{ 1"}}) == "a ${{ 1"


@pytest.mark.parametrize(
    ("source", "reads"),
    [
        ("inputs.n", [("inputs", "n")]),
        ("steps.a.output.b[0].c", [("steps", "a", "output", "b")]),
        ("inputs.list[?@.x == env.R].y", [("inputs", "list")]),
        ("steps.a.output | keys(@)", [("steps", "a", "output")]),
        ("[inputs.a, {k: steps.b}]", [("inputs", "a"), ("steps", "b")]),
        ("steps.*.output", [("steps",)]),
        ("@", [()]),
        ("map(&steps, inputs.list)", [("inputs", "list")]),
        ("!(inputs.a) || inputs.b && `1`", [("inputs", "a"), ("inputs", "b")]),
        ("(steps.a).output", [("steps", "a", "output")]),
        ("steps.a | output", [("steps", "a", "output")]),
        ("'text'", []),
    ],
)
def test_references_name_what_an_expression_reads(source: str, reads: list[tuple[str, ...]]) -> None:
    assert sorted(Expression.parse(source, "here").references) == reads


@pytest.mark.parametrize(
    ("text", "cause", "fix"),
    [
        ("${{ }}", "the expression is empty", "write a value"),
        ("a ${{ inputs.n", "has no closing `}}`", "$${{"),
        ("${{ inputs.n > 3 }}", "unexpected 3 at character 12", "numbers stand in backticks"),
        ("${{ steps.my-step.output }}", "unexpected '-'", "double quotes"),
        ("${{ inputs. }}", "it is incomplete", "jmespath"),
        ("${{ lenght(@) }}", "there is no function lenght()", "did you mean length?"),
        ("${{ !inputs.flag }}", "`!` is applied before `.`", "!(inputs.flag)"),
        ("${{ inputs.n == `abc` }}", "`abc` is not JSON", "single quotes"),
        ("${{ &inputs }}", "`&` is only for", "remove"),
        ("${{ to_string(&inputs) }}", "`&` is only for", "remove"),
        ("${{ `1e999` }}", "too large", "finite"),
        ("${{ " + "a." * 600 + "a }}", "the limit is 1000", "step"),
        ("${{ " + "!" * 60 + "a }}", "nested deeper than 40", "step"),
    ],
)
def test_what_can_not_be_compiled_is_refused_with_a_fix(text: str, cause: str, fix: str) -> None:
    with pytest.raises(InvalidDefinition) as caught:
        Template.parse(text, "steps[0].env.X")
    assert cause in caught.value.cause
    assert fix in caught.value.fix
    assert caught.value.where == "steps[0].env.X"


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("a ${{ inputs.missing }}", "is null inside text"),
        ("${{ length(inputs.n) }}", "length"),
        ("${{ sort(inputs.map.a) }}", "sort"),
        ("${{ to_number('1e999') }}", "can not be stored"),
        ("${{ length() }}", "argument"),
    ],
)
def test_what_can_not_be_evaluated_fails_as_an_expression(text: str, cause: str) -> None:
    with pytest.raises(BodyFailed, match=cause) as caught:
        render(text)
    assert caught.value.retry_type == "expression"


@pytest.mark.parametrize("name", ["__class__", "__globals__", "format", "keys", "real", "__dict__", "append"])
def test_attributes_of_python_objects_are_out_of_reach(name: str) -> None:
    for root in ("inputs", "inputs.n", "inputs.name", "inputs.list", "@"):
        assert render(f"${{{{ {root}.{name} }}}}") is None


def test_is_true_follows_emptiness() -> None:
    scope = {"inputs": {"values": [None, False, "", [], {}, 0, "x", [0], True]}}
    truth = [Expression.parse(f"inputs.values[{index}]", "here").is_true(scope) for index in range(9)]
    assert truth == [False, False, False, False, False, True, True, True, True]


BIG: dict[str, Any] = {
    "inputs": {
        "list": list(range(10_000)),
        "text": "x" * 1_000_000,
        "rows": [{"a": n, "b": str(n)} for n in range(10_000)],
    }
}
GROWING = [
    "inputs.list" + "|[@,@][]" * 12,
    "inputs.list" + "|[@,@]" * 30,
    "inputs.list" + "|{a: @, b: @}" * 30,
    "to_string(inputs.list" + "|[@,@]" * 30 + ")",
    "inputs.text" + "|join('',[@,@])" * 12,
    "join('',[" + ",".join(["inputs.text"] * 80) + "])",
    "join('', map(&to_string(@), inputs.rows[*].{a: @, b: @, c: @, d: @, e: @, f: @, g: @, h: @, i: @}))",
    "inputs.rows[*].[@,@,@,@]" + "[*].[@,@,@,@]" * 6,
    "inputs.rows[?@ == `{}` || contains(`[[1]]`, @)]" + "|[?@ == @]|[@,@][]" * 8,
    "map(&[@,@,@,@,@,@,@,@], inputs.rows)" + "|map(&[@,@,@,@],@)" * 4,
]


@pytest.mark.parametrize("source", GROWING)
def test_growing_expressions_are_stopped_within_bounded_time_and_memory(
    source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "WORK_MAX", 200_000)
    expression = Expression.parse(source, "here")
    tracemalloc.start()
    began = time.process_time()
    try:
        with pytest.raises(BodyFailed, match="units of work"):
            expression.evaluate(BIG)
    finally:
        spent_s = time.process_time() - began
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 40 * 1024 * 1024
    assert spent_s < 10  # a tenth of that without tracemalloc; without the budget they would never end


def test_ordinary_work_on_ten_thousand_rows_is_within_the_budget() -> None:
    assert Expression.parse("inputs.rows[?a > `5`].{id: b} | length(@)", "here").evaluate(BIG) == 9_994


PIECES = """a inputs . [ ] { } ( ) * @ & | || && ! == < `1` ` 'x' ' "b" " , : [] [? [0] [::2] [-1] \\
    length( map(& sort_by( 3 to_string( join('', \x00 é ${{ }} $"""
pieces = st.sampled_from([*PIECES.split(), " "])


@given(st.one_of(st.lists(pieces, max_size=25).map("".join), st.text(max_size=40)))
@settings(max_examples=500, deadline=5_000)
def test_any_text_is_refused_or_gives_a_value_the_same_twice(source: str) -> None:
    try:
        expression = Expression.parse(source, "here")
    except InvalidDefinition as refused:
        assert refused.where == "here"
        return
    answers = []
    for _ in range(2):
        try:
            answers.append(repr(expression.evaluate(SCOPE)))
        except BodyFailed as failed:
            answers.append(failed.cause)
    assert answers[0] == answers[1]
    assert " at 0x" not in answers[0]


@given(st.text(max_size=60), st.lists(pieces, max_size=12).map("".join))
@settings(max_examples=300, deadline=5_000)
def test_any_template_is_refused_or_renders(before: str, inside: str) -> None:
    try:
        Template.parse(f"{before}${{{{{inside}}}}}", "here").render(SCOPE)
    except InvalidDefinition as refused:
        assert refused.where == "here"
    except BodyFailed as failed:
        assert failed.retry_type == "expression"

"""Definitions: what is read, every mistake with its place and hint, identity, stored form, inputs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.errors import InvalidDefinition, InvalidInput, WorkflowNotFound
from holdfast.workflows.definition import Definition, diff, from_document, load, parse

FULL = """\
name: report
version: "1.2"
description: Everything that a definition can say.
inputs:
  type: object
  properties:
    topic: {type: string}
    depth: {type: integer, default: 2, minimum: 1}
  required: [topic]
env: {TOPIC: "${{ inputs.topic }}"}
defaults:
  retry: {max_attempts: 3, backoff: 2s}
  timeout: 60s
  env: {LANG_CODE: en}
steps:
  - id: list
    shell: [printf, '["a", "b"]']
    with: {output: json}
  - id: fetch
    needs: list
    for_each: ${{ steps.list.output }}
    max_parallel: 4
    shell: [echo, "${{ item }}", "${{ index }}"]
    retry: {max_attempts: 5, on: [timeout, exit]}
    continue_on_error: true
  - id: pause
    sleep: 1500ms
  - id: join
    needs: [fetch, pause]
    when: steps.fetch.status == 'completed'
    shell: |
      echo "$TOPIC"
    env: {ROWS: "${{ steps.fetch.output }}"}
  - id: sub
    needs: [join]
    workflow: other@2
    with: {depth: "${{ inputs.depth }}"}
outputs:
  text: ${{ steps.join.output }}
"""


def problems(text: str) -> list[dict[str, Any]]:
    with pytest.raises(InvalidDefinition) as caught:
        parse(text, source="flow.yaml")
    found: list[dict[str, Any]] = caught.value.details["problems"]
    for each in found:
        assert set(each) == {"file", "line", "column", "message", "hint"}
    return found


def step(body: str, before: str = "") -> str:
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    return f"name: x\n{before}steps:\n  - id: a\n{lines}"


TWICE = "name: x\nsteps:\n  - {id: a, shell: [ls]}\n  - {id: a, shell: [ls]}"


def test_everything_that_a_definition_can_say_is_read() -> None:
    definition = parse(FULL, source="flow.yaml")
    by_id = {each.id: each for each in definition.steps}
    assert (definition.name, definition.version) == ("report", "1.2")
    assert list(by_id) == ["list", "fetch", "pause", "join", "sub"]
    fetch = by_id["fetch"]
    assert fetch.needs == ("list",)
    assert fetch.max_parallel == 4
    assert fetch.continue_on_error
    assert fetch.retry.max_attempts == 5
    assert fetch.retry.backoff == timedelta(seconds=2)  # from the defaults, key by key
    assert fetch.retry.on == ("timeout", "exit")
    assert fetch.timeout == timedelta(seconds=60)
    assert by_id["join"].env.keys() == {"LANG_CODE", "ROWS"}
    assert by_id["pause"].retry.max_attempts == 3
    assert definition.graph.ancestors("sub") == {"join", "fetch", "pause", "list"}


@pytest.mark.parametrize(
    ("text", "line", "message", "hint"),
    [
        ("[]", 1, "a workflow is a mapping", "name"),
        (step("shell: [ls]", "stpes: 1\n"), 2, "unknown key 'stpes'", "did you mean steps?"),
        (step("shel: [ls]"), 4, "unknown key 'shel'", "did you mean shell?"),
        (step("shell: [ls]\nneed: [a]"), 5, "unknown key 'need'", "did you mean needs?"),
        (step("needs: []"), 3, "the step does nothing", "shell, python, http, sleep, wait, approval"),
        (step("shell: [ls]\nsleep: 1s"), 3, "is of 2 kinds: shell, sleep", "one of"),
        ("name: x\nsteps: []", 2, "`steps` is a list of at least one step", "write steps"),
        ("name: x\nsteps: {a: {shell: [ls]}}", 2, "`steps` is a list", "put a dash"),
        ("name: x", 1, "`steps` is a list", "write steps"),
        ("steps: [{id: a, shell: [ls]}]", 1, "the workflow has no name", "name"),
        (step("shell: [ls]", "version: 1.0\n"), 2, "the version 1.0 is not a string", 'quote it: "1.0"'),
        (step("shell: [ls]\nneeds: [b]"), 5, "there is no step 'b'", "known: a"),
        (step("shell: [ls]\nneeds: 3"), 5, "`needs` is a list", "needs: [a, b]"),
        (TWICE, 4, "the id 'a' is there twice", "line 3"),
        ("name: x\nsteps:\n  - {id: 'a b', shell: [ls]}", 3, "'a b' is not an id", "letters"),
        ("name: x\nsteps:\n  - {shell: [ls]}", 3, "the step has no id", "id"),
        ("name: x\nsteps:\n  - ls", 3, "a step is a mapping", "id"),
        (step("shell: [ls]\ntimeout: 30"), 5, "30 is not a duration", "unit: 30s"),
        (step("shell: [ls]\ntimeout: 30x"), 5, "'30x' is not a duration", "unit"),
        (step("shell: [ls]\ntimeout: 0s"), 5, "a timeout of 0s", "leave it out"),
        (step("shell: [ls]\nretry: {max_attempt: 2}"), 5, "unknown key 'max_attempt'", "max_attempts?"),
        (step("shell: [ls]\nretry: {max_attempts: 0}"), 5, "max_attempts is 0", "whole number"),
        (step("shell: [ls]\nretry: {backoff: 5}"), 5, "5 is not a duration", "5s"),
        (step("shell: [ls]\nretry: {jitter: 1}"), 5, "jitter is 1", "true or false"),
        (step("shell: [ls]\nretry: 3"), 5, "`retry` is a mapping", "max_attempts: 3"),
        (step("shell: [ls]\nmax_parallel: 3"), 5, "max_parallel without for_each", "remove"),
        (step("shell: [ls]\nfor_each: [1]\nmax_parallel: 0"), 6, "max_parallel is 0", "1 to 1000"),
        (step("shell: [ls]\nfor_each: abc"), 5, "`for_each` is a list", "gives one"),
        (step("shell: [ls]\ncontinue_on_error: yes"), 5, "continue_on_error is 'yes'", "true or false"),
        (step("shell: [ls]\nwhen: 3"), 5, "`when` is an expression", "when:"),
        (step("shell: [ls]\nwhen: inputs.x >"), 5, "it is incomplete", "jmespath"),
        (step("shell: [ls]\nwhen: \"${{ env }} x\""), 5, "`when` is one expression", "&&"),
        (step("shell: [ls]\nwith: {ouput: json}"), 5, "has no parameter 'ouput'", "output"),
        (step("shell: [ls]\nwith: {output: jsn}"), 5, "output is 'jsn'", "did you mean json?"),
        (step("shell: [ls]\nwith: {output: \"${{ env }}\"}"), 5, "output is '${{ env }}'", "known"),
        (step("shell: echo ${{ inputs.x }}"), 4, "a script takes no ${{ }}", "pass it through env"),
        (step("shell: []"), 4, "`shell` is a list of arguments or a script", "shell: [echo"),
        (step("shell: [[ls]]"), 4, "an argument is a string", "quote"),
        (step("shell: ''"), 4, "the script is empty", "command"),
        (step("shell: [ls]\nenv: {A-B: x}"), 5, "'A-B' is not a variable's name", "letters"),
        (step("shell: [ls]\nenv: {HOLDFAST_X: x}"), 5, "is set by the engine", "another"),
        (step("shell: [ls]\nenv: {A: null}"), 5, "'A' has no value", "''"),
        (step("sleep: 10"), 4, "10 is not a duration", "unit"),
        (step("sleep: 10s\nretry: {max_attempts: 2}"), 5, "`sleep` takes no retry", "remove"),
        (step("sleep: 10s\nwith: {x: 1}"), 5, "`sleep` has no parameter 'x'", "none"),
        (step("python: nothing"), 4, "'nothing' is not a function", "module:function"),
        (step("python: m:f\nenv: {A: b}"), 5, "`python` takes no env", "with"),
        (step("python: m:f\nwith: {a-b: 1}"), 5, "'a-b' can not be a parameter", "rename"),
        (step("workflow: \"${{ env }}\""), 4, "`workflow` takes no template", "when"),
        (step("workflow: a/b"), 4, "neither a name nor a YAML file", "./other.yaml"),
        (step("shell: [ls]", "inputs: {topic: {}}\n"), 2, "'topic' is not a keyword", "properties"),
        (step("shell: [ls]", "inputs: {propertis: {}}\n"), 2, "'propertis' is not a keyword", "properties?"),
        (step("shell: [ls]", "inputs: {type: array}\n"), 2, "are an object", "object"),
        (step("shell: [ls]", "inputs: {properties: {a: {type: strin}}}\n"), 2, "not a JSON Schema", ""),
        (step("shell: [ls]", "inputs: {properties: {a: {$ref: 'http://x/y'}}}\n"), 2, "refers to", "$defs"),
        (step("shell: [ls]", "defaults: {retries: 1}\n"), 2, "unknown key 'retries'", "retry"),
        (step("shell: [ls]", "defaults: {retry: {max_attempts: x}}\n"), 2, "max_attempts is 'x'", "number"),
        (step("shell: [\"${{ input.x }}\"]"), 4, "there is no 'input'", "did you mean inputs?"),
        (step("shell: [\"${{ inputs.x }}\"]"), 4, "there is no inputs.x", "declare it"),
        (
            step("shell: [\"${{ inputs.topik }}\"]", "inputs: {properties: {topic: {}}}\n"),
            5,
            "there is no inputs.topik",
            "did you mean topic?",
        ),
        (step("shell: [\"${{ env.X }}\"]"), 4, "there is no env.X", "declare it under the workflow's env"),
        (step("shell: [\"${{ steps.b.output }}\"]"), 4, "there is no step 'b'", "known: a"),
        (step("shell: [\"${{ steps.a.output }}\"]"), 4, "reads its own result", "another"),
        (step("shell: [\"${{ item }}\"]"), 4, "'item' exists only in a step with for_each", "for_each"),
        (step("shell: [\"${{ execution.name }}\"]"), 4, "there is no execution.name", "id"),
        (step("shell: [\"${{ length(steps) }}\"]"), 4, "`steps` alone has no value", "steps.ID.output"),
        (step("shell: [ls]", "env: {A: \"${{ steps.a }}\"}\n"), 2, "no step has ended here", "env of"),
        (step("shell: [ls]", "defaults: {env: {A: \"${{ item }}\"}}\n"), 2, "'item' exists only", "for_each"),
        (step("shell: [ls]") + "outputs: {x: \"${{ steps.a.outputs }}\"}\n", 5, "steps.a.outputs", "output?"),
        (step("shell: [ls]\nwhen: steps.a.status"), 5, "reads its own result", "another"),
    ],
)  # fmt: skip
def test_a_mistake_has_its_line_and_a_hint(text: str, line: int, message: str, hint: str) -> None:
    found = problems(text)
    assert len(found) == 1, found
    assert message in found[0]["message"]
    assert found[0]["line"] == line
    assert hint in (found[0]["hint"] or "")


def test_all_mistakes_are_reported_together_in_the_order_of_the_file() -> None:
    text = (
        "nmae: x\nsteps:\n  - id: a\n    shell: echo ${{ inputs.x }}\n    timeout: 5\n"
        "  - id: b\n    needs: [aa]\n    shell: ['${{ steps.a.output }}']\n    a: 1\n    a: 2\n"
    )
    found = problems(text)
    assert [each["line"] for each in found] == [1, 1, 4, 5, 7, 8, 9, 10]
    with pytest.raises(InvalidDefinition) as caught:
        parse(text, source="flow.yaml")
    assert caught.value.where == "flow.yaml:1:1"
    assert "8 mistakes in flow.yaml" in caught.value.cause
    assert "flow.yaml:5:5  5 is not a duration  (write a number with a unit: 5s)" in caught.value.cause


def test_a_reference_needs_the_step_directly_or_through_others() -> None:
    chain = "name: x\nsteps:\n  - {id: a, shell: [ls]}\n  - {id: b, needs: [a], shell: [ls]}\n"
    parse(chain + "  - {id: c, needs: [b], shell: ['${{ steps.a.output }}']}", source="f")
    found = problems(chain + "  - {id: c, shell: ['${{ steps.a.output }}']}")
    assert found[0]["message"] == "'c' reads 'a' and does not need it"
    assert found[0]["hint"] == "add a to its needs"


def test_a_circle_is_shown_as_the_path_of_ids() -> None:
    text = "name: x\nsteps:\n" + "".join(
        f"  - {{id: {each}, needs: [{need}], shell: [ls]}}\n" for each, need in ("ab", "bc", "ca", "da")
    )
    found = problems(text)
    assert [each["message"] for each in found] == ["steps need each other: a -> b -> c -> a"]
    assert found[0]["line"] == 3


def test_the_identity_ignores_comments_formatting_order_of_keys_and_spelling_of_durations() -> None:
    one = parse(
        "name: x\nsteps:\n  - id: a  # first\n    timeout: 60s\n    needs: []\n    shell: [ls, '1']\n",
        source="1",
    )
    other = parse(
        '{"steps": [{"shell": ["ls", "1"], "needs": [], "timeout": "1m", "id": "a"}], "name": "x"}',
        source="2",
    )
    changed = parse("name: x\nsteps: [{id: a, timeout: 60s, needs: [], shell: [ls, '2']}]", source="3")
    assert one.hash == other.hash
    assert len(one.hash) == 16
    assert one.version == f"sha-{one.hash.hex()[:10]}"
    assert changed.hash != one.hash
    assert diff(one, other) == ""
    difference = diff(one, changed)
    assert f"--- x {one.version}" in difference
    assert "\n-  - '1'" in difference
    assert "\n+  - '2'" in difference


def same(one: Definition, other: Definition) -> bool:
    return (one.hash, one.version, one.document(), one.steps, one.outputs, one.inputs, one.env) == (
        (other.hash, other.version, other.document(), other.steps, other.outputs, other.inputs, other.env)
    )


def test_the_stored_form_reads_back_as_the_same_definition(tmp_path: Path) -> None:
    file = tmp_path / "flow.yaml"
    file.write_text(FULL)
    definition = load(file)
    stored = json.loads(json.dumps(definition.document()))
    assert definition.folder == tmp_path
    assert same(from_document(stored), definition)
    elsewhere = parse(FULL, source="x", folder=Path("/elsewhere"))
    assert elsewhere.hash == definition.hash


def test_the_hash_is_the_same_in_another_process() -> None:
    program = (
        "import sys; from holdfast.workflows.definition import parse; "
        "print(parse(sys.stdin.read(), source='x').hash.hex())"
    )
    other = subprocess.run(
        [sys.executable, "-c", program], input=FULL, text=True, capture_output=True, check=True,
        env={**os.environ, "PYTHONHASHSEED": "7"},
    )  # fmt: skip
    assert other.stdout.strip() == parse(FULL, source="x").hash.hex()


def test_a_stored_definition_that_is_wrong_names_the_path() -> None:
    with pytest.raises(InvalidDefinition, match=r"steps\[0\].timeout: 5 is not a duration") as caught:
        from_document({"name": "x", "steps": [{"id": "a", "shell": ["ls"], "timeout": 5}]})
    assert caught.value.where == "stored definition of x"


def test_a_missing_file_and_a_folder_are_not_found(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.yaml", tmp_path):
        with pytest.raises(WorkflowNotFound, match="can not be read"):
            load(path)


def test_a_lone_surrogate_can_not_be_stored() -> None:
    with pytest.raises(InvalidDefinition):
        parse('name: x\nsteps: [{id: a, shell: [echo, "\\ud800"]}]', source="x")
    with pytest.raises(InvalidDefinition, match="can not be stored"):
        from_document({"name": "x", "steps": [{"id": "a", "shell": ["echo", "\ud800"]}]})


def test_inputs_get_defaults_and_every_violation_is_listed() -> None:
    definition = parse(FULL, source="x")
    given_input = {"topic": "otters"}
    assert definition.check_input(given_input) == {"topic": "otters", "depth": 2}
    assert given_input == {"topic": "otters"}
    with pytest.raises(InvalidInput) as caught:
        definition.check_input({"topic": 3, "depth": 0, "dept": 1})
    violations = caught.value.details["violations"]
    assert [each["path"] for each in violations] == ["dept", "depth", "topic"]
    assert "did you mean depth?" in violations[0]["message"]
    with pytest.raises(InvalidInput, match="required"):
        definition.check_input(None)
    with pytest.raises(InvalidInput, match="is a list, not an object"):
        definition.check_input([])


def test_defaults_of_nested_objects_are_filled_and_not_shared() -> None:
    text = step(
        "shell: [ls]",
        "inputs: {properties: {a: {default: {}, properties: {b: {default: [1]}}}, "
        "c: {properties: {d: {default: 1}}}}}\n",
    )
    definition = parse(text, source="x")
    first = definition.check_input({})
    assert first == {"a": {"b": [1]}}
    first["a"]["b"].append(2)
    assert definition.check_input({"c": {}}) == {"a": {"b": [1]}, "c": {"d": 1}}


def test_a_workflow_without_inputs_takes_none() -> None:
    definition = parse(step("shell: [ls]"), source="x")
    assert definition.check_input(None) == {}
    with pytest.raises(InvalidInput, match="declares no inputs and got 'a'"):
        definition.check_input({"a": 1})


@pytest.mark.parametrize(
    ("spec", "cause"),
    [
        ("python: tools.py:missing", "has no function 'missing'"),
        ("python: gone.py:run", "there is no file"),
        ("python: broken.py:run", "ZeroDivisionError"),
        ("python: leaving.py:run", "SystemExit"),
        ("python: no_such_module_here:run", "ModuleNotFoundError"),
        ("workflow: ./gone.yaml", "there is no file"),
    ],
)
def test_prepare_finds_what_only_this_machine_can_tell(tmp_path: Path, spec: str, cause: str) -> None:
    (tmp_path / "tools.py").write_text("def run(): ...\n")
    (tmp_path / "broken.py").write_text("1 / 0\n")
    (tmp_path / "leaving.py").write_text("raise SystemExit(3)\n")
    file = tmp_path / "flow.yaml"
    file.write_text(step(spec))
    definition = load(file)  # reading imports nothing
    with pytest.raises((InvalidDefinition, WorkflowNotFound), match=cause):
        definition.prepare()


NAMES = """id needs when for_each shell sleep python workflow retry timeout env with name steps inputs
    properties type outputs defaults a b backoff on $ref max_parallel"""
TEXTS = ["a", "b", "${{ steps.a.output }}", "${{ item", "10s", "m:f", "object", "echo ${{ env.X }}"]
names = st.sampled_from(NAMES.split())
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(TEXTS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=5),
    max_leaves=12,
)


@given(
    values,
    st.lists(st.dictionaries(names, values, max_size=6), max_size=3),
    st.dictionaries(names, values, max_size=4),
)
@settings(max_examples=120, deadline=5_000)
def test_any_document_is_refused_or_read(whole: Any, steps: list[Any], extra: dict[str, Any]) -> None:
    for document in (whole, {"name": "x", "steps": steps, **extra}, {**extra, "name": "x", "steps": steps}):
        try:
            stored = isinstance(document, dict)
            definition = from_document(document) if stored else parse(json.dumps(document), source="x")
            assert same(from_document(definition.document()), definition)
        except InvalidDefinition as refused:
            assert refused.cause

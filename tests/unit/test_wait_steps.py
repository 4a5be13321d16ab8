"""`wait` and `approval` in a workflow file: what is refused before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from holdfast.errors import InvalidAnswer, InvalidArgument, InvalidDefinition
from holdfast.workflows.definition import load
from holdfast.workflows.forms import check_answer, check_form
from holdfast.workflows.requests import ApprovalRequest, check_signal_name


def refused(tmp_path: Path, step: dict[str, Any]) -> str:
    """What is said about a workflow of this one step; empty when nothing is wrong."""
    path = tmp_path / "flow.yaml"
    path.write_text(yaml.safe_dump({"name": "flow", "steps": [{"id": "s", **step}]}))
    try:
        load(path)
    except InvalidDefinition as error:
        return str(error.cause) + str(error.details)
    return ""


@pytest.mark.parametrize(
    "step",
    [
        {"wait": {"signal": "go"}},
        {"wait": {"signal": "go-${{ inputs.x }}", "timeout": "${{ inputs.t }}"}},
        {"wait": {"signal": "go", "timeout": "3d", "on_timeout": "continue"}},
        {"approval": {"title": "Ship?"}},
        {"approval": {"title": "Ship?", "form": {"required": ["a"]}, "timeout": "1h", "on_timeout": "fail"}},
        {"approval": {"title": "Ship?", "on_reject": "continue", "id": "ship-${{ execution.id }}"}},
    ],
)
def test_what_may_be_waited_for(tmp_path: Path, step: dict[str, Any]) -> None:
    said = refused(tmp_path, step)
    assert "inputs" in said or said == ""  # the templates above name inputs that are not declared


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ({"wait": "go"}, "`wait` is a mapping"),
        ({"wait": {}}, "has no signal"),
        ({"wait": {"signal": ""}}, "can not name a signal"),
        ({"wait": {"signal": 5}}, "can not name a signal"),
        ({"wait": {"signal": "go", "timeout": 5}}, "is not a duration"),
        ({"wait": {"signal": "go", "timeout": "soon"}}, "soon"),
        ({"wait": {"signal": "go", "on_timeout": "continue"}}, "on_timeout without timeout"),
        ({"wait": {"signal": "go", "timeout": "1s", "on_timeout": "x"}}, "on_timeout is 'x'"),
        ({"wait": {"signal": "go", "signals": 1}}, "unknown key 'signals'"),
        ({"wait": {"signal": "go"}, "retry": {"max_attempts": 2}}, "takes no retry"),
        ({"approval": {}}, "has no title"),
        ({"approval": {"title": ["a"]}}, "title is"),
        ({"approval": {"title": "a", "form": {"type": "nothing"}}}, "not a JSON Schema"),
        ({"approval": {"title": "a", "form": {"$ref": "http://x"}}}, "refers to"),
        ({"approval": {"title": "a", "on_reject": "maybe"}}, "on_reject is 'maybe'"),
    ],
)
def test_mistakes_are_told_before_anything_runs(tmp_path: Path, step: dict[str, Any], said: str) -> None:
    assert said in refused(tmp_path, step)


def test_a_form_without_a_type_wants_an_object() -> None:
    form = {"properties": {"n": {"type": "integer"}}}
    check_form(form)
    check_answer(form, {"n": 1}, "t")
    check_answer(None, "anything", "t")
    with pytest.raises(InvalidAnswer, match="not of type 'object'"):
        check_answer(form, [1], "t")
    with pytest.raises(InvalidAnswer, match="n: 'x' is not of type 'integer'") as found:
        check_answer(form, {"n": "x"}, "t")
    assert found.value.details["violations"] == [{"path": "n", "message": "'x' is not of type 'integer'"}]


@pytest.mark.parametrize("title", ["", "x" * 1001, "a\0b"])
def test_titles_that_can_not_be_kept(title: str) -> None:
    with pytest.raises(InvalidArgument):
        ApprovalRequest(title=title)


@pytest.mark.parametrize("name", ["", " a", "a\tb", 5, "é" * 128])
def test_names_of_signals(name: object) -> None:
    with pytest.raises(InvalidArgument):
        check_signal_name(name)
    assert check_signal_name("approve:otters") == "approve:otters"

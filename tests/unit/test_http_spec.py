"""`http` in a workflow file: what is refused before anything runs, with its line; what data may not do."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from holdfast.errors import InvalidDefinition, MissingExtra, RequestFailed
from holdfast.workflows.definition import load
from holdfast.workflows.retry import RetryPolicy
from holdfast.workflows.steps import http
from holdfast.workflows.steps.base import StepContext
from holdfast.workflows.steps.http import HttpKind

URL = "https://api.test/a"


def refused(tmp_path: Path, spec: Any, **step: Any) -> str:
    """What is said about a workflow of this one step; empty when nothing is wrong."""
    path = tmp_path / "flow.yaml"
    inputs = {"properties": {"x": {}}}
    path.write_text(
        yaml.safe_dump({"name": "flow", "inputs": inputs, "steps": [{"id": "s", "http": spec, **step}]})
    )
    try:
        load(path)
    except InvalidDefinition as error:
        return str(error.cause) + str(error.details)
    return ""


@pytest.mark.parametrize(
    "spec",
    [
        URL,
        {"url": URL},
        {"url": "${{ inputs.x }}", "method": "${{ inputs.x }}", "headers": "${{ inputs.x }}"},
        {"url": "https://api.test/${{ inputs.x }}", "secrets": {"authorization": "Bearer $TOKEN"}},
        {
            "url": URL,
            "json": {"a": "${{ inputs.x }}"},
            "expect": [201, "3xx"],
            "keep": ["x-a"],
            "redirects": 0,
        },
        {"url": URL, "method": "PUT", "form": {"a": ["b", 1, None]}, "query": {"n": "${{ inputs.x }}"}},
        {"url": URL, "method": "DELETE", "body": "text", "headers": {"X-A": "${{ inputs.x }}", "n": 1}},
        {"url": URL, "secrets": {"x-key": "$$ ${A_1}x"}, "expect": "${{ inputs.x }}"},
    ],
)
def test_what_may_be_asked(tmp_path: Path, spec: Any) -> None:
    assert refused(tmp_path, spec, retry={"max_attempts": 3}, timeout="5s") == ""


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (5, "a URL or a mapping"),
        ({}, "has no url"),
        ("ftp://api.test/", "not an http or https URL"),
        ("api.test", "not an http or https URL"),
        ("https://user:canary@api.test/", "user name or password"),
        ("https://${{ inputs.x }}/", "stands under `url`"),
        ({"url": ["https://api.test"]}, "not text"),
        ({"url": URL, "methud": "GET"}, "did you mean method?"),
        ({"url": URL, "method": "get"}, "did you mean GET?"),
        ({"url": URL, "method": "CONNECT"}, "'CONNECT' is no method"),
        ({"url": URL, "method": 5}, "'5' is no method"),
        ({"url": URL, "method": "GET", "json": 1}, "a GET request has no body"),
        ({"url": URL, "json": 1, "body": "x"}, "json and body at once"),
        ({"url": URL, "body": {"a": 1}}, "`body` is text"),
        ({"url": URL, "headers": ["a"]}, "`headers` is a mapping"),
        ({"url": URL, "headers": {"a b": "c"}}, "not the name of a header"),
        ({"url": URL, "headers": {"a": "b\nc: d"}}, "line break"),
        ({"url": URL, "headers": {"a": {"b": 1}}}, "not text"),
        ({"url": URL, "headers": {"a": None}}, "null, not text"),
        ({"url": URL, "headers": {"Host": "x"}}, "Host is set by Holdfast itself"),
        ({"url": URL, "headers": {"Content-Length": 5}}, "set by Holdfast itself"),
        ({"url": URL, "headers": {"Transfer-Encoding": "chunked"}}, "set by Holdfast itself"),
        ({"url": URL, "headers": {"Authorization": "Bearer canary"}}, "would be stored with the step"),
        ({"url": URL, "headers": {"X-API-Key": "${{ inputs.x }}"}}, "would be stored with the step"),
        ({"url": URL, "secrets": "$TOKEN"}, "`secrets` is a mapping of headers"),
        ({"url": URL, "secrets": {"authorization": "Bearer canary"}}, "names no secret"),
        ({"url": URL, "secrets": {"authorization": "$token"}}, "names no secret"),
        ({"url": URL, "secrets": {"authorization": "$A ${{ inputs.x }}"}}, "takes no ${{ }}"),
        ({"url": URL, "secrets": "${{ inputs.x }}"}, "`secrets` is a mapping of headers"),
        ({"url": URL, "secrets": {"A": "$A"}, "headers": {"a": "b"}}, "stands in `headers` too"),
        ({"url": URL, "secrets": {"host": "$A"}}, "set by Holdfast itself"),
        ({"url": "${{ inputs.x }}", "secrets": {"a": "$A"}}, "the host of the URL takes no"),
        ({"url": "https://api.test${{ inputs.x }}", "secrets": {"a": "$A"}}, "the host of the URL takes no"),
        ({"url": "https://${{ inputs.x }}.test/", "secrets": {"a": "$A"}}, "the host of the URL takes no"),
        ({"url": URL, "query": "a=b"}, "`query` is a mapping"),
        ({"url": URL, "query": {"a": {"b": 1}}}, "neither text nor a number"),
        ({"url": URL, "form": {"a": [[1]]}}, "neither text nor a number"),
        ({"url": URL, "expect": 99}, "'99' is no status"),
        ({"url": URL, "expect": ["ok"]}, "'ok' is no status"),
        ({"url": URL, "expect": []}, "no status is expected"),
        ({"url": URL, "expect": True}, "'True' is no status"),
        ({"url": URL, "keep": "etag"}, "`keep` is a list of headers"),
        ({"url": URL, "redirects": 21}, "redirects is 21"),
        ({"url": URL, "redirects": True}, "redirects is True"),
    ],
)  # fmt: skip
def test_what_may_not(tmp_path: Path, spec: Any, said: str) -> None:
    told = refused(tmp_path, spec)
    assert said in told
    assert "canary" not in told


def test_what_may_stand_beside_it(tmp_path: Path) -> None:
    assert "takes no env" in refused(tmp_path, URL, env={"A": "b"})
    assert "has no parameter 'a'" in refused(tmp_path, URL, **{"with": {"a": 1}})


def test_mistakes_have_their_file_line_and_column(tmp_path: Path) -> None:
    path = tmp_path / "flow.yaml"
    path.write_text(
        "name: flow\nsteps:\n  - id: a\n    http:\n      url: nowhere\n      method: FETCH\n"
        "      headers:\n        Authorization: Bearer x\n      colour: red\n"
    )
    with pytest.raises(InvalidDefinition) as caught:
        load(path)
    places = [(each["line"], each["column"]) for each in caught.value.details["problems"]]
    assert [line for line, _ in places] == [5, 6, 8, 9]
    assert f"{path.name}:6:" in caught.value.cause


@pytest.mark.anyio
@pytest.mark.parametrize(
    "spec",
    [
        None,
        7,
        {"url": "https://api.test/\r\nx: y"},
        {"url": URL, "headers": {"a": "b\r\nc: d"}},
        {"url": URL, "headers": {"a\r\nb": "c"}},
        {"url": URL, "headers": {"Authorization": "canary"}},
        {"url": URL, "headers": {"host": "inside"}},
        {"url": URL, "headers": {"a": None}},
        {"url": URL, "method": "TRACE"},
        {"url": URL, "query": {"a": "\ud800"}},
        {"url": URL, "body": "\ud800"},
        {"url": URL, "json": float("nan")},
        {"url": URL, "form": [1]},
        {"url": URL, "expect": "all"},
    ],
)  # fmt: skip
async def test_data_can_not_bring_in_what_a_file_may_not_say(spec: Any) -> None:
    async def never(host: str, port: int) -> list[str]:
        raise AssertionError("a request was made")

    context = StepContext(
        execution_id="ex-1", path="s", step="s", attempt=1, spec=spec, arguments={}, env={}, folder=Path()
    )
    with pytest.raises(RequestFailed) as caught:
        await HttpKind(never).run(context)
    assert caught.value.retry_type == "request" and caught.value.is_final
    assert "canary" not in caught.value.cause


def test_without_the_client_nothing_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    HttpKind().prepare(URL, Path())
    monkeypatch.setattr(http, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="httpcore2") as caught:
        HttpKind().prepare(URL, Path())
    assert caught.value.fix == 'pip install "holdfast[http]"'


def test_what_is_final_is_tried_again_only_when_it_is_named() -> None:
    policy = RetryPolicy(max_attempts=3)
    assert policy.retries("unavailable", 1) and not policy.retries("status", 1, final=True)
    named = RetryPolicy(max_attempts=3, on=("status",))
    assert named.retries("status", 1, final=True) and not named.retries("unavailable", 1)
    assert not named.retries("status", 3, final=True)


def test_the_rest_is_what_the_server_asks_for_up_to_the_bound() -> None:
    policy = RetryPolicy(max_attempts=3, backoff=timedelta(seconds=8), max_backoff=timedelta(seconds=60))
    assert policy.delay(1, lambda: 0.5, at_least=timedelta(seconds=20)) == timedelta(seconds=20)
    assert policy.delay(1, lambda: 0.5, at_least=timedelta(seconds=3)) == timedelta(seconds=4)
    assert policy.delay(1, lambda: 0.5, at_least=timedelta(days=3)) == timedelta(seconds=60)
    none = RetryPolicy(backoff=timedelta(0))
    assert none.delay(1, lambda: 0.5, at_least=timedelta(seconds=20)) == timedelta(seconds=20)

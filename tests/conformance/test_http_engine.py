"""`http` steps under the engine, on every store: retries, what is recorded, and a kill before the record."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from holdfast import Orchestrator
from holdfast.events.log import EventLog
from holdfast.records.executions import ExecutionStatus
from holdfast.store import codec
from holdfast.workflows.driving import Outcome
from holdfast.workflows.progress import Happening, Progress
from tests.http_server import Seen, answer, serving

pytestmark = pytest.mark.anyio
PATIENCE_S = 120.0


@pytest.fixture(autouse=True)
def allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator of these tests lets steps call this machine."""
    monkeypatch.setenv("HOLDFAST_HTTP__ALLOW", "127.0.0.0/8")


def define(folder: Path, http: Any, **step: Any) -> Path:
    """A workflow of one step, whose input is the URL."""
    document = {
        "name": "caller",
        "inputs": {"properties": {"url": {}}},
        "steps": [{"id": "call", "http": http, **step}],
        "outputs": "${{ steps.call.output.body }}",
    }
    path = folder / "caller.yaml"
    path.write_text(json.dumps(document), "utf-8")
    return path


async def run(url: str, path: Path, target: str, **options: Any) -> Outcome:
    async with asyncio.timeout(PATIENCE_S), Orchestrator(url, **options) as orchestrator:
        return await orchestrator.run(path, {"url": target})


async def test_it_is_tried_again_after_what_the_server_asks_for(store_url: str, tmp_path: Path) -> None:
    turns = [
        answer(429, retry_after="1"),
        answer(503),
        answer(200, '{"n": 1}', content_type="application/json"),
    ]

    async def in_turn(request: Seen, writer: asyncio.StreamWriter) -> bytes:
        return turns.pop(0)

    retry = {"max_attempts": 5, "backoff": "1ms", "max_backoff": "1m"}
    path = define(tmp_path, {"url": "${{ inputs.url }}", "json": {"a": 1}}, retry=retry)
    happened: list[Progress] = []
    async with serving({"/": in_turn}) as server:
        outcome = await run(store_url, path, server.url(), events=happened.append)
    assert outcome.status is ExecutionStatus.COMPLETED, outcome.error
    assert codec.decode(outcome.output or b"") == {"n": 1}
    rests = [each.until for each in happened if each.kind is Happening.ATTEMPT_FAILED]
    assert rests[0] == 1.0 and rests[1] is not None and rests[1] < 1.0
    assert len({each.headers["idempotency-key"] for each in server.seen}) == 1
    assert [each.body for each in server.seen] == [b'{"a":1}'] * 3


async def test_what_would_fail_again_is_not_tried_again(store_url: str, tmp_path: Path) -> None:
    path = define(tmp_path, {"url": "${{ inputs.url }}"}, retry={"max_attempts": 3, "backoff": "1ms"})
    async with serving({"/": answer(404, "gone")}) as server:
        outcome = await run(store_url, path, server.url())
    assert outcome.status is ExecutionStatus.FAILED
    assert len(server.seen) == 1
    assert outcome.error is not None
    assert (outcome.error["type"], outcome.error["code"]) == ("status", "HF7007")
    assert outcome.error["details"] == {"kind": "status", "status": 404}


async def test_only_the_operator_opens_a_network(
    store_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HOLDFAST_HTTP__ALLOW")
    path = define(tmp_path, {"url": "${{ inputs.url }}"}, retry={"max_attempts": 3, "backoff": "1ms"})
    async with serving({"/": answer(200, "inside")}) as server:
        outcome = await run(store_url, path, server.url())
    assert server.seen == []
    assert outcome.error is not None
    assert (outcome.error["type"], outcome.error["code"]) == ("address", "HF7008")


async def test_the_store_never_has_a_secret(
    store_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKFLOW_SECRET_TOKEN", "canary-9d1f")

    async def echo(request: Seen, writer: asyncio.StreamWriter) -> bytes:
        status = 503 if len(server.seen) == 1 else 200
        return answer(status, json.dumps(request.headers), content_type="application/json")

    async with serving({"/": echo}) as server, Orchestrator(store_url) as orchestrator:
        spec = {"url": server.url(), "secrets": {"authorization": "Bearer $TOKEN"}}
        path = define(tmp_path, spec, retry={"max_attempts": 2, "backoff": "1ms"})
        outcome = await orchestrator.run(path, {"url": server.url()})
        execution = (await orchestrator.store.list_executions())[0]
        events = await EventLog(orchestrator.store).page(execution)
    assert outcome.status is ExecutionStatus.COMPLETED, outcome.error
    assert [each.headers["authorization"] for each in server.seen] == ["Bearer canary-9d1f"] * 2
    assert "Bearer ***" in str(events)
    assert "canary" not in str(events) + str(outcome)


async def test_a_kill_before_the_record_asks_twice_with_one_key(shared_url: str, tmp_path: Path) -> None:
    asked = asyncio.Event()

    async def first_hangs(request: Seen, writer: asyncio.StreamWriter) -> bytes:
        if len(server.seen) == 1:
            asked.set()
            await asyncio.Event().wait()
        return answer(200, "done", content_type="text/plain")

    path = define(tmp_path, {"url": "${{ inputs.url }}", "json": {"order": 7}})
    async with serving({"/": first_hangs}) as server, asyncio.timeout(PATIENCE_S):
        arguments = ("run", str(path), f"url={server.url()}", "--storage", shared_url)
        killed = await _start(*arguments, folder=tmp_path)
        ended = asyncio.ensure_future(_end(killed))
        await asyncio.wait({ended, asyncio.ensure_future(asked.wait())}, return_when=asyncio.FIRST_COMPLETED)
        assert asked.is_set(), await ended
        killed.kill()
        await ended
        again = await _start(*arguments, folder=tmp_path)
        out, errors = await _end(again)
    assert again.returncode == 0, errors
    assert json.loads(out) == "done"
    first, second = server.seen
    assert (first.method, first.body) == (second.method, second.body) == ("POST", b'{"order":7}')
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]


async def _end(process: asyncio.subprocess.Process) -> tuple[bytes, bytes]:
    try:
        return await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _start(*arguments: str, folder: Path) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "holdfast", *arguments, cwd=folder,
        env={**os.environ, "HOLDFAST_WORKER__LEASE": "5s"},
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip

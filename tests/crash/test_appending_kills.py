"""Processes that append to one conversation are killed at random; numbers and totals stay true."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from holdfast.domain.conversations import Conversations
from holdfast.records.conversations import ContextSnapshot, Conversation, Message
from holdfast.stores import config_for, open_store
from tests.crash.appending import CONVERSATION
from tests.crash.harness import ROOT, Tally, environment, ledger_folder, rerun, seed_of_today
from tests.databases import empty_store

pytestmark = pytest.mark.crash

KILLS = {"sample": 6, "all": 60}
WRITERS = 2
PATIENCE_S = 30.0


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    found = empty_store(request, tmp_path)

    async def make() -> None:
        async with open_store(config_for(found), migrate=True) as store:
            await Conversations(store).start(Conversation(id=CONVERSATION))

    asyncio.run(make())
    return found


def writer(url: str, ledger: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.crash.appending", url, str(ledger)],
        cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip


def lines(ledger: Path) -> int:
    return ledger.read_bytes().count(b"\n") if ledger.exists() else 0


def await_lines(team: list[subprocess.Popen[bytes]], ledger: Path, count: int) -> None:
    """Wait until so many batches are acknowledged; a writer that ended by itself is a failure."""
    deadline = time.monotonic() + PATIENCE_S
    while lines(ledger) < count:
        for process in team:
            if process.poll() is not None:
                pytest.fail(f"a writer ended by itself:\n{process.communicate()[1].decode()[-2000:]}")
        assert time.monotonic() < deadline, f"{lines(ledger)} batches in {PATIENCE_S} s, not {count}"
        time.sleep(0.005)


async def judge(url: str, ledger: Path) -> int:
    """Compare what stands with itself and with what was acknowledged; how many messages there are."""
    async with open_store(config_for(url)) as store:
        conversation = await store.repo(Conversation).get(CONVERSATION)
        messages = [each async for each in store.repo(Message).stream(sort="seq")]
        assert [each.seq for each in messages] == list(range(1, conversation.message_count + 1))
        assert conversation.prompt_tokens == sum(each.prompt_tokens for each in messages)
        assert conversation.cost_micros == sum(each.cost_micros for each in messages)
        numbers = {each.id: each.seq for each in messages}
        for line in ledger.read_text().splitlines():
            for id, seq in json.loads(line):
                assert numbers.get(id) == seq, f"{id} was acknowledged as number {seq}"
        for each in messages:
            if not each.seq % 25:
                words = (each.content or "").replace(".", " ")
                found = await store.repo(Message).search(words)
                assert each.id in {one.id for one in found.items}
        snapshots = [each async for each in store.repo(ContextSnapshot).stream(sort="number")]
        assert [each.number for each in snapshots] == list(range(1, len(snapshots) + 1))
        if snapshots:
            await Conversations(store).context_at(CONVERSATION)
        return len(messages)


def test_killed_writers_leave_no_gap(url: str, crash_scope: str) -> None:
    seed = seed_of_today()
    chance, tally = random.Random(seed), Tally()
    with ledger_folder() as folder:
        ledger = folder / "acknowledged"
        team = [writer(url, ledger) for _ in range(WRITERS)]
        try:
            for _ in range(KILLS[crash_scope]):
                await_lines(team, ledger, lines(ledger) + chance.randrange(5, 40))
                time.sleep(chance.uniform(0, 0.02))  # into the middle of whatever it does now
                victim = team.pop(chance.randrange(WRITERS))
                victim.kill()
                victim.communicate()
                tally.add(kills=1)
                team.append(writer(url, ledger))
        finally:
            for process in team:
                process.kill()
                process.communicate()
        try:
            tally.add(messages=asyncio.run(judge(url, ledger)))
        except AssertionError:
            print("again:", rerun("test_killed_writers_leave_no_gap", seed=seed, scope=crash_scope))
            raise
    tally.require("kills", "messages")

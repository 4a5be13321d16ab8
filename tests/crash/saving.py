"""The program whose writes fail: a few executions and messages, and a ledger of what it was told.

    python -m tests.crash.saving URL LEDGER [PLANT]

Lines of the ledger: `ack` what was acknowledged with its value, `refused` the code of the error that came
instead. It is written with `writev`, which no test lets fail. Everything else ends the program with its
traceback.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import holdfast as hf
from holdfast.domain.conversations import Conversations
from holdfast.errors import HoldfastError
from holdfast.records.conversations import Conversation, Message, MessageRole
from tests.crash import plants

CONVERSATION = "c"
ROUNDS = 2
PATIENCE_S = 20.0
REPEATED_S = 0.5
"""How long the log is written again and again before its callers are told; two minutes outside of tests."""
MESSAGE_BYTES = 2_000


class Ledger:
    """Appended to without a buffer; the same lines as the ledger of the kill tests has."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def note(self, kind: str, id: str, value: str) -> None:
        os.writev(self._descriptor, [(json.dumps([kind, id, value]) + "\n").encode()])


def content_of(id: str) -> str:
    """The same for the same id, so that appending again is harmless."""
    return f"{id} " * (MESSAGE_BYTES // (len(id) + 1))


async def told(ledger: Ledger, id: str, ask: Callable[[], Awaitable[str]]) -> bool:
    """Note what came of a call; whether it was acknowledged. What hangs is an error of no expected type."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            value = await ask()
    except HoldfastError as error:
        ledger.note("refused", id, error.code)
        return False
    ledger.note("ack", id, value)
    return True


def build(url: str) -> tuple[hf.App, Any]:
    """The app and its workflow."""
    app = hf.App(url)

    @app.step
    async def make(name: str) -> str:
        return f"{name}:{secrets.token_hex(8)}"

    @app.workflow
    async def two(name: str) -> str:
        return f"{await make(name)} {await make('second')}"

    return app, two


async def save(app: hf.App, workflow: Any, ledger: Ledger, rounds: range) -> int:
    """Run executions and append messages; how many of these calls were refused."""
    app.store.journal._patience_s = REPEATED_S
    conversations = Conversations(app.store)
    refused = 0
    for number in rounds:

        async def append(id: str = f"m{number}") -> str:
            message = Message(id=id, role=MessageRole.USER, content=content_of(id))
            return str((await conversations.append(CONVERSATION, message))[0].seq)

        async def execute(id: str = f"x{number}") -> str:
            return str(await workflow.options(id=id)(id))

        refused += not await told(ledger, f"m{number}", append)
        refused += not await told(ledger, f"x{number}", execute)
    return refused


async def open_and_save(url: str, ledger: Ledger, rounds: range) -> None:
    """Open the store, work, and close it."""
    app, workflow = build(url)
    try:
        async with app:
            await save(app, workflow, ledger, rounds)
    except HoldfastError as error:
        ledger.note("refused", "store", error.code)


async def make(url: str) -> None:
    """Make the store and the conversation."""
    async with hf.App(url) as app:
        await Conversations(app.store).start(Conversation(id=CONVERSATION))


class Errors:
    """Takes the place of `sys.stderr`: what is printed is not what is to fail either."""

    def write(self, text: str) -> int:
        os.writev(2, [text.encode()])
        return len(text)

    def flush(self) -> None:
        """Nothing is kept back."""


def main() -> None:
    sys.stderr = Errors()  # type: ignore[assignment]
    url, ledger, *planted = sys.argv[1:]
    plants.PLANTS[planted[0] if planted else "none"]()
    asyncio.run(open_and_save(url, Ledger(Path(ledger)), range(ROUNDS)))


if __name__ == "__main__":
    main()

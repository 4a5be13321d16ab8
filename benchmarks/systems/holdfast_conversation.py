"""Holdfast's conversations: two appends per turn, each a transaction of its own; default settings."""

from __future__ import annotations

import asyncio

import holdfast as hf
from benchmarks.systems import turns
from benchmarks.systems.meter import Request, report
from benchmarks.systems.places import store_url
from holdfast.records.conversations import Conversation, Message, MessageRole

request = Request.from_arguments()


async def main() -> None:
    async with hf.open(store_url(request)) as platform:
        conversations = platform.conversations
        made = await conversations.start(Conversation(title="bench"))

        async def turn(user: str, assistant: str) -> None:
            await conversations.append(made.id, Message(role=MessageRole.USER, content=user))
            await conversations.append(made.id, Message(role=MessageRole.ASSISTANT, content=assistant))

        async def size() -> int:
            if request.backend == "sqlite":
                await platform.store.driver.fetch_text("PRAGMA wal_checkpoint(TRUNCATE)")
                return turns.file_size(request.database)
            return int((await platform.store.driver.fetch_text(turns.SERVER_SIZE))[0][0])

        report(**await turns.converse(request, turn, size))


asyncio.run(main())

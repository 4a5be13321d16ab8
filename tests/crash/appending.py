"""A process that appends to one conversation for ever, and says in a ledger what was acknowledged."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from pathlib import Path

from holdfast.domain.conversations import Conversations
from holdfast.records.conversations import Message, MessageRole
from holdfast.stores import config_for, open_store

CONVERSATION = "c"


async def append_for_ever(url: str, ledger: Path) -> None:
    """Batches of one to four messages, and a snapshot now and then; one line per acknowledged batch."""
    chance = random.Random()
    descriptor = os.open(ledger, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    async with open_store(config_for(url)) as store:
        conversations = Conversations(store)
        while True:
            batch = [
                Message(
                    role=MessageRole.USER,
                    content=f"{chance.random()}",
                    prompt_tokens=chance.randrange(9),
                    cost_micros=chance.randrange(99),
                )
                for _ in range(chance.randrange(1, 5))
            ]
            made = await conversations.append(CONVERSATION, *batch)
            line = json.dumps([[each.id, each.seq] for each in made])
            os.write(descriptor, f"{line}\n".encode())
            if chance.random() < 0.2:
                await conversations.snapshot(CONVERSATION, [each.content for each in made])


if __name__ == "__main__":
    asyncio.run(append_for_ever(sys.argv[1], Path(sys.argv[2])))

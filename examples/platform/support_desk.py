"""A support desk in one file: people with sessions, conversations, and agents that carry out tasks.

    python examples/platform/support_desk.py [URL]

The URL alone decides where all of it is kept: sqlite:///desk.db, postgresql://…, mysql://…, or memory://.
"""

from __future__ import annotations

import asyncio
import sys

import holdfast as hf
from holdfast.errors import SessionRefused
from holdfast.records.conversations import Conversation, Message, MessageRole
from holdfast.records.tasks import TaskRecord

ANSWERS = {"research": "flight 7 left without it", "write": "Your case comes tomorrow: {found}."}


async def log_in(desk: hf.Platform, email: str, password: str) -> str:
    """A token for whoever knows the password."""
    user = await desk.users.verify(email, password)
    return (await desk.sessions.open(user.id, device="browser")).token.reveal()


async def ask(desk: hf.Platform, token: str, text: str) -> str:
    """Record a question, and what is to be done about it: one task waits for the other."""
    session = await desk.sessions.check(token)
    conversation = await desk.conversations.start(Conversation(title=text, user_id=session.user_id))
    await desk.conversations.append(conversation.id, Message(role=MessageRole.USER, content=text))
    found = await desk.tasks.create("research", {"question": text}, priority=5)
    await desk.tasks.create("write", {"conversation": conversation.id}, depends_on=[found.id])
    return conversation.id


async def work(desk: hf.Platform, name: str, capability: str) -> None:
    """One agent: it takes the next task that it is able to do, until there is nothing left."""
    await desk.agents.register(name, capabilities=[capability], role="assistant")
    while (await desk.repo(TaskRecord).count(f"capability:{capability} -status:completed")).rows:
        task = await desk.tasks.claim(name, [capability])
        if task is None:
            await asyncio.sleep(0.02)
            continue
        answer = ANSWERS[capability]
        if capability == "write":
            (before,) = (await desk.repo(TaskRecord).find("capability:research status:completed")).items
            answer = answer.format(found=before.result)
            said = Message(role=MessageRole.ASSISTANT, content=answer, prompt_tokens=120, completion_tokens=9)
            await desk.conversations.append(task.payload["conversation"], said)
        await desk.tasks.complete(task, answer)


async def main(url: str) -> None:
    """One question from its asking to its answer."""
    async with hf.open(url) as desk:
        await desk.users.create("ana@example.com", password="correct horse battery", name="Ana")
        token = await log_in(desk, "ana@example.com", "correct horse battery")
        conversation = await ask(desk, token, "Where is my luggage?")
        await asyncio.gather(work(desk, "finder", "research"), work(desk, "writer", "write"))
        for message in await desk.conversations.newest_messages(conversation):
            print(f"{message.seq} {message.role}: {message.content}")
        stored = await desk.repo(Conversation).get(conversation)
        print(f"{stored.message_count} messages, {stored.prompt_tokens + stored.completion_tokens} tokens")
        print("found again:", (await desk.repo(Message).search("luggage")).items[0].content)
        await desk.sessions.terminate((await desk.sessions.check(token)).id)
        try:
            await desk.sessions.check(token)
        except SessionRefused as refused:
            print("logged out:", refused.details["reason"])


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "memory://"))

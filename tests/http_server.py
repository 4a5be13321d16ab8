"""A small HTTP server for tests: it notes what it is asked and answers byte by byte what a test says."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Seen:
    """One request as it came; names of headers in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


Answer = bytes | Callable[[Seen, asyncio.StreamWriter], Awaitable[bytes | None]]


def answer(status: int = 200, body: bytes | str = b"", **headers: str) -> bytes:
    """A whole answer; `content_type="text/plain"` names a header."""
    data = body.encode() if isinstance(body, str) else body
    lines = [
        f"HTTP/1.1 {status} Said",
        *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items()),
    ]
    if "content_length" not in headers and "transfer_encoding" not in headers:
        lines.append(f"content-length: {len(data)}")
    return "\r\n".join([*lines, "", ""]).encode() + data


@dataclass(slots=True)
class Server:
    """`answers` by path; what is missing is a 404."""

    port: int = 0
    answers: dict[str, Answer] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    names: list[str | None] = field(default_factory=list)
    """What TLS clients asked for by name."""

    def url(self, path: str = "/", host: str = "127.0.0.1", scheme: str = "http") -> str:
        return f"{scheme}://{host}:{self.port}{path}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            request = await _read(reader)
            self.seen.append(request)
            said = self.answers.get(request.target.partition("?")[0], answer(404, "nothing here"))
            data = said if isinstance(said, bytes) else await said(request, writer)
            if data is not None:
                writer.write(data)
            await writer.drain()
        with contextlib.suppress(ConnectionError):
            writer.close()
            await writer.wait_closed()


async def _read(reader: asyncio.StreamReader) -> Seen:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.rstrip("\r\n").split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Seen(method, target, headers, body)


@asynccontextmanager
async def serving(
    answers: dict[str, Answer] | None = None, *, context: ssl.SSLContext | None = None
) -> AsyncIterator[Server]:
    """A server on a free loopback port. What it still does at the end is cut off."""
    server = Server(answers=answers or {})
    tasks: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        try:
            with contextlib.suppress(asyncio.CancelledError):
                await server.serve(reader, writer)
        finally:
            writer.transport.abort()

    if context is not None:
        context.sni_callback = lambda _socket, name, _context: server.names.append(name)
    listening = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # what was aborted is closed in the loop's next turn
        await listening.wait_closed()

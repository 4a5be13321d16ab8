"""A TCP proxy in front of PostgreSQL that reads the frames of the protocol, so that it can cut at a boundary.

A boundary is where a client asks for something to become durable: the Sync behind a statement that writes, or
a simple `COMMIT`. A connection can be cut before the request reaches
the server, right after it was sent on, or when the server has answered and the client has not heard of it.
The proxy can also stop carrying bytes in one direction (a black hole), hold everything still (a pause), and
refuse new connections. It counts what it did.

The proxy never stands in the way of encryption: it says that there is none, as a server without TLS does.
"""

from __future__ import annotations

import asyncio
import re
import struct
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from enum import StrEnum
from urllib.parse import urlsplit, urlunsplit

_STARTUP = {80877103, 80877104}  # asks for TLS, asks for GSSAPI encryption
_CHUNK = 65_536
_WRITES = re.compile(r"\b(INSERT\s+INTO|DELETE\s+FROM|UPDATE)\s+\"")  # what it writes to has a quoted schema


class Place(StrEnum):
    """Where a connection is cut."""

    BEFORE = "before"  # the server never hears of it
    SENT = "sent"  # sent on, and cut at once: nobody knows
    REPLIED = "replied"  # the server has committed, and its answer is dropped


class Link:
    """One client's connection and the one to the server behind it."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.client = client
        self.server = server
        self.texts: dict[bytes, str] = {}  # prepared statements by name
        self.armed = ""  # what kind of write was bound and waits for its Sync
        self.dropping = False  # answers are awaited and not passed on
        self.born = time.monotonic()
        self.dead = False  # nothing gets through any more, and nobody is told

    def cut(self) -> None:
        """Reset both sides, as a broken network does."""
        for writer in (self.client, self.server):
            writer.transport.abort()

    def sees(self, kind: bytes, body: bytes) -> str:
        """Note a client's message; what it makes durable, or nothing."""
        if kind == b"P":
            name, _, rest = body.partition(b"\0")
            self.texts[name] = rest.partition(b"\0")[0].decode(errors="replace")
        elif kind == b"B":
            portal_end = body.index(b"\0") + 1
            name = body[portal_end : body.index(b"\0", portal_end)]
            self.armed = kind_of_write(self.texts.get(name, ""))
        elif kind == b"C" and body[:1] == b"S":
            self.texts.pop(body[1:].rstrip(b"\0"), None)
        elif kind == b"Q":
            return "commit" if body.rstrip(b"\0;").strip().upper() == b"COMMIT" else ""
        elif kind == b"S":
            armed, self.armed = self.armed, ""
            return armed
        return ""


def kind_of_write(text: str) -> str:
    """What a statement writes: the log (`flush`), a lease, something else (`write`), or nothing."""
    if not _WRITES.search(text):
        return ""
    if "fence AS" in text:
        return "flush"
    return "lease" if "lease_until" in text else "write"


class Proxy:
    """Listens on a port of this host's loopback for one server; `running` opens and closes it."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._server: asyncio.Server | None = None
        self._links: set[Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._plans: list[Place] = []
        self._moving = {"up": asyncio.Event(), "down": asyncio.Event()}
        for event in self._moving.values():
            event.set()
        self._refusing = False
        self.port = 0
        self.counts: Counter[str] = Counter()
        self.accepted: list[float] = []

    # What tests ask for.

    def cut_next(self, place: Place, times: int = 1) -> None:
        """Cut the connections that reach the next `times` boundaries."""
        self._plans.extend([place] * times)

    @property
    def pending(self) -> int:
        """How many cuts still wait for a boundary."""
        return len(self._plans)

    def forget_plans(self) -> None:
        """Cut nothing more."""
        self._plans.clear()

    def cut_all(self) -> int:
        """Break every connection there is."""
        links = list(self._links)
        for link in links:
            link.cut()
        self.counts["cut"] += len(links)
        return len(links)

    @contextmanager
    def black_hole(self, direction: str) -> Iterator[None]:
        """Swallow what flows `up` to the server or `down` to the clients; nobody is told."""
        self._moving[direction].clear()
        self.counts[f"black_holes_{direction}"] += 1
        try:
            yield
        finally:
            # What was held up is gone for good on a real network, and so are its connections.
            self.cut_all()
            self._moving[direction].set()

    def go_silent(self) -> int:
        """Let every connection die without a word (half-open); new ones work. How many there were."""
        links = [link for link in self._links if not link.dead]
        for link in links:
            link.dead = True
        self.counts["half_open"] += len(links)
        return len(links)

    @property
    def silent(self) -> int:
        """How many of those are still held on to by their clients."""
        return sum(link.dead for link in self._links)

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Hold everything in both directions and let it go on later, as a slow network does."""
        for event in self._moving.values():
            event.clear()
        self.counts["pauses"] += 1
        try:
            yield
        finally:
            for event in self._moving.values():
                event.set()

    @contextmanager
    def refuse(self) -> Iterator[None]:
        """Turn new connections away."""
        self._refusing = True
        try:
            yield
        finally:
            self._refusing = False

    def busiest_second(self, since: float = 0.0) -> int:
        """The most connections that were asked for within one second."""
        times = [at for at in self.accepted if at >= since]
        best = start = 0
        for end, at in enumerate(times):
            while at - times[start] > 1.0:
                start += 1
            best = max(best, end - start + 1)
        return best

    def url_for(self, url: str) -> str:
        """The same database, by way of the proxy."""
        parts = urlsplit(url)
        account = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
        return urlunsplit(parts._replace(netloc=f"{account}127.0.0.1:{self.port}", query=""))

    # Life.

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Proxy]:
        """Listen for the block."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            self._server.close()
            for link in list(self._links):
                link.cut()
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.accepted.append(time.monotonic())
        if self._refusing:
            self.counts["refused"] += 1
            writer.transport.abort()
            return
        self.counts["connections"] += 1
        try:
            upstream, server = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        link = Link(writer, server)
        self._links.add(link)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._up(reader, link))
                both.create_task(self._down(upstream, link))
        except* (OSError, asyncio.IncompleteReadError, _Over):
            pass
        finally:
            self._links.discard(link)
            link.cut()
            for end in (writer, server):
                with suppress(OSError):
                    await end.wait_closed()

    # Carrying bytes.

    async def _up(self, reader: asyncio.StreamReader, link: Link) -> None:
        await self._greet(reader, link)
        while True:
            head = await reader.readexactly(5)
            body = await reader.readexactly(struct.unpack("!I", head[1:])[0] - 4)
            await self._moving["up"].wait()
            if link.dead:
                continue
            if (boundary := link.sees(head[:1], body)) and self._plans:
                self.counts[f"cuts_at_{boundary}"] += 1
                await self._cut_at(self._plans.pop(0), head + body, link)
            link.server.write(head + body)
            await link.server.drain()

    async def _greet(self, reader: asyncio.StreamReader, link: Link) -> None:
        """The first message has no type, and may ask for encryption before."""
        while True:
            length = await reader.readexactly(4)
            body = await reader.readexactly(struct.unpack("!I", length)[0] - 4)
            await self._moving["up"].wait()
            if struct.unpack("!I", body[:4])[0] in _STARTUP:
                link.client.write(b"N")
                continue
            link.server.write(length + body)
            return

    async def _cut_at(self, place: Place, message: bytes, link: Link) -> None:
        self.counts[f"cuts_{place}"] += 1
        if place is Place.BEFORE:
            raise _Over
        link.dropping = place is Place.REPLIED
        link.server.write(message)
        await link.server.drain()
        if place is Place.REPLIED:
            await asyncio.Event().wait()  # until the answer comes, which ends the link
        await asyncio.sleep(0)  # the bytes are on their way; whether they arrive in time is chance
        raise _Over

    async def _down(self, reader: asyncio.StreamReader, link: Link) -> None:
        while data := await reader.read(_CHUNK):
            if link.dropping:
                raise _Over
            await self._moving["down"].wait()
            if link.dropping:
                raise _Over
            if link.dead:
                continue
            link.client.write(data)
            await link.client.drain()
        raise _Over


class _Over(Exception):
    """The link has ended."""

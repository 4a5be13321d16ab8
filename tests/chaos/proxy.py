"""A TCP proxy in front of a database that reads the frames of the protocol, so that it can cut at a boundary.

A boundary is where a client asks for something to become durable. On PostgreSQL: the Sync behind a statement
that writes, or a simple `COMMIT`; on MariaDB and MySQL: a packet of statements that ends in `COMMIT`, or a
single statement that writes outside a transaction. A connection can be cut before the request reaches
the server, right after it was sent on, or when the server has answered and the client has not heard of it.
The proxy can also stop carrying bytes in one direction (a black hole), hold everything still (a pause), and
refuse new connections. It counts what it did.

The proxy never stands in the way of encryption: it tells clients of PostgreSQL that there is none, as a
server without TLS does. Clients of MariaDB have to be told by their settings.
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
_WRITES_ALONE = re.compile(r"(?:INSERT|UPDATE|DELETE|REPLACE)\b")
# MariaDB: the first byte of an answer's packet, a flag of its status, and the bytes of a number by its first.
_OK, _ERROR, _END = 0x00, 0xFF, 0xFE
_MORE = 0x08
_ENDS_ONCE = 1 << 24  # of the client's capabilities: nothing stands between a result's columns and its rows
_LENGTHS = {0xFC: 3, 0xFD: 4, 0xFE: 9}


class Place(StrEnum):
    """Where a connection is cut."""

    BEFORE = "before"  # the server never hears of it
    SENT = "sent"  # sent on, and cut at once: nobody knows
    REPLIED = "replied"  # the server has committed, and its answer is dropped


class Link:
    """One client's connection and the one to the server behind it, in one of the protocols."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.client = client
        self.server = server
        self.dropping = False  # answers are awaited and not passed on
        self.born = time.monotonic()
        self.dead = False  # nothing gets through any more, and nobody is told

    def cut(self) -> None:
        """Reset both sides, as a broken network does."""
        for writer in (self.client, self.server):
            writer.transport.abort()

    async def greet(self, reader: asyncio.StreamReader, moving: asyncio.Event) -> None:
        """Carry what a client says before its messages have their usual form."""

    async def message(self, reader: asyncio.StreamReader) -> tuple[bytes, str]:
        """The client's next message, and what it makes durable, or nothing."""
        raise NotImplementedError

    def is_answered(self, data: bytes) -> bool:
        """Whether the server has said, with this at the latest, what came of the message that was cut."""
        return True


class PostgresLink(Link):
    """PostgreSQL's protocol, version 3."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        super().__init__(client, server)
        self.texts: dict[bytes, str] = {}  # prepared statements by name
        self.armed = ""  # what kind of write was bound and waits for its Sync

    async def greet(self, reader: asyncio.StreamReader, moving: asyncio.Event) -> None:
        """The first message has no type, and may ask for encryption before."""
        while True:
            length = await reader.readexactly(4)
            body = await reader.readexactly(struct.unpack("!I", length)[0] - 4)
            await moving.wait()
            if struct.unpack("!I", body[:4])[0] in _STARTUP:
                self.client.write(b"N")
                continue
            self.server.write(length + body)
            return

    async def message(self, reader: asyncio.StreamReader) -> tuple[bytes, str]:
        """See `Link.message`."""
        head = await reader.readexactly(5)
        body = await reader.readexactly(struct.unpack("!I", head[1:])[0] - 4)
        return head + body, self._sees(head[:1], body)

    def _sees(self, kind: bytes, body: bytes) -> str:
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


class MysqlLink(Link):
    """The protocol of MariaDB and MySQL, statements as text and without TLS."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        super().__init__(client, server)
        self.in_transaction = False
        self._answer = b""
        self._rows = 0  # 0: the head of a result comes next; 1: its columns; 2: its rows
        self._first = 1  # where the way through a result begins
        self._is_greeted = False

    async def message(self, reader: asyncio.StreamReader) -> tuple[bytes, str]:
        """See `Link.message`."""
        head = await reader.readexactly(4)
        body = await reader.readexactly(int.from_bytes(head[:3], "little"))
        if not self._is_greeted:
            self._is_greeted = True
            self._first = 2 if int.from_bytes(body[:4], "little") & _ENDS_ONCE else 1
        is_query = head[3] == 0 and body[:1] == b"\x03"
        return head + body, self._sees(body[1:].decode(errors="replace")) if is_query else ""

    def _sees(self, text: str) -> str:
        if re.search(r"(?:\A|;\n)START TRANSACTION\b", text):
            self.in_transaction = True
        is_commit = re.search(r"(?:\A|;\n)COMMIT\Z", text) is not None
        if is_commit or text == "ROLLBACK":
            self.in_transaction = False
        is_alone = not self.in_transaction and _WRITES_ALONE.match(text) is not None
        if not is_commit and not is_alone:
            return ""
        if "INSERT INTO events" in text:
            return "flush"
        return "lease" if "lease_until" in text else "commit" if text == "COMMIT" else "write"

    def is_answered(self, data: bytes) -> bool:
        """See `Link.is_answered`. The server answers each statement of a packet; only the last one counts."""
        self._answer += data
        while len(self._answer) >= 4:
            end = 4 + int.from_bytes(self._answer[:3], "little")
            if len(self._answer) < end:
                break
            body, self._answer = self._answer[4:end], self._answer[end:]
            if self._is_last(body):
                return True
        return False

    def _is_last(self, body: bytes) -> bool:
        """Whether nothing follows this packet of an answer."""
        if body[0] == _ERROR:
            return True
        if self._rows == 0:
            if body[0] != _OK:
                self._rows = self._first
                return False
            return not _status_in(body) & _MORE
        if body[0] == _END and len(body) < 9:
            self._rows = (self._rows + 1) % 3
            status = body[3] if self._first == 1 else _status_in(body)
            return self._rows == 0 and not status & _MORE
        return False


def _status_in(body: bytes) -> int:
    """The status at the end of an answer, behind the rows that were changed and the last number given out."""
    rest = body[1:]
    for _ in range(2):
        rest = rest[_LENGTHS.get(rest[0], 1) :]
    return rest[0]


class Proxy:
    """Listens on a port of this host's loopback for one server; `running` opens and closes it."""

    def __init__(self, url: str) -> None:
        server = urlsplit(url)
        self._link, port = (MysqlLink, 3306) if server.scheme == "mysql" else (PostgresLink, 5432)
        self._target = (str(server.hostname), server.port or port)
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
        link = self._link(writer, server)
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
        await link.greet(reader, self._moving["up"])
        while True:
            message, boundary = await link.message(reader)
            await self._moving["up"].wait()
            if link.dead:
                continue
            if boundary and self._plans:
                self.counts[f"cuts_at_{boundary}"] += 1
                await self._cut_at(self._plans.pop(0), message, link)
            link.server.write(message)
            await link.server.drain()

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
            if not link.dropping:
                await self._moving["down"].wait()
            if link.dropping:
                if link.is_answered(data):
                    raise _Over
                continue
            if link.dead:
                continue
            link.client.write(data)
            await link.client.drain()
        raise _Over


class _Over(Exception):
    """The link has ended."""

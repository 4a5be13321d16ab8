"""Private servers with TLS that show whatever certificate a test wants to see refused."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode, urlsplit, urlunsplit

import asyncpg
import pytest

from scripts import mariadb, postgres, private_servers
from tests.certificates import HERE, Authority, Certificate

CLIENT = "certified"
"""A user who is let in with a certificate alone."""
_PG_SETTINGS = "ssl = on\nssl_cert_file = 'server.pem'\nssl_key_file = 'server.key'\nssl_ca_file = 'ca.pem'"
_PG_RULES = f"hostssl all {CLIENT} 127.0.0.1/32 cert\nhost all {CLIENT} all reject\n"
_MARIADB_SETTINGS = (
    "ssl-cert = {directory}/server.pem\nssl-key = {directory}/server.key\nssl-ca = {directory}/ca.pem"
)
_ASKS_FOR_TLS = struct.pack("!II", 8, 80877103)
_HAS_TLS = 0x0800
_BAD_HANDSHAKE = b"\x16\0\0\x02\xff\x13\x04#08S01Bad handshake"  # what a server without TLS says
_WAIT_S = 60.0
T = TypeVar("T")


class Secured:
    """A server with the authority that it trusts, whose certificate can be changed while it runs."""

    kind: str

    def __init__(self, authority: Authority, server: postgres.Cluster | mariadb.Instance) -> None:
        self.authority = authority
        self.good = authority.issue("server", HERE)
        self._server = server
        self.folder = Path(server.directory)
        self.plain_url = server.url

    def url(self, *, user: str | None = None, **parameters: str) -> str:
        """The server with these URL parameters, as another user without a password if one is named."""
        parts = urlsplit(self.plain_url)
        netloc = parts.netloc if user is None else f"{user}@{parts.netloc.rpartition('@')[2]}"
        return urlunsplit(parts._replace(netloc=netloc, query=urlencode(parameters)))

    def show(self, certificate: Certificate) -> None:
        """Have new connections see this certificate."""
        for name, text in (("server.pem", certificate.cert), ("server.key", certificate.key)):
            private_servers.write_private(self.folder / name, text, self._server.account)
        self._reload()
        wait_for(lambda: self.presented() == certificate.der, "the new certificate is not shown")

    def presented(self) -> bytes | None:
        """The certificate that a new connection is shown."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        parts = urlsplit(self.plain_url)
        with socket.create_connection((parts.hostname, parts.port), timeout=10) as raw:
            if not self._begin_tls(raw):
                return None
            with context.wrap_socket(raw) as wrapped:
                return wrapped.getpeercert(binary_form=True)

    def _begin_tls(self, raw: socket.socket) -> bool:
        raise NotImplementedError

    def _reload(self) -> None:
        raise NotImplementedError


class SecuredPostgresql(Secured):
    """PostgreSQL."""

    kind = "postgresql"

    def __init__(self, authority: Authority, server: postgres.Cluster) -> None:
        super().__init__(authority, server)
        self._cluster = server
        self.folder = self.folder / "data"

    def _begin_tls(self, raw: socket.socket) -> bool:
        raw.sendall(_ASKS_FOR_TLS)
        return raw.recv(1) == b"S"

    def _reload(self) -> None:
        self._cluster.control("reload")

    def run(self, *statements: str) -> None:
        """Run statements as the owner of the server."""

        async def run() -> None:
            connection = await asyncpg.connect(self.plain_url, ssl=False)
            for statement in statements:
                await connection.execute(statement)
            await connection.close()

        beside(run)

    @contextmanager
    def plain(self) -> Iterator[str]:
        """A server without TLS: its URL."""
        self.run("ALTER SYSTEM SET ssl = off")
        self._reload()
        wait_for(lambda: self.presented() is None, "TLS does not go")
        yield self.plain_url
        self.run("ALTER SYSTEM RESET ssl")
        self._reload()
        wait_for(lambda: self.presented() is not None, "TLS does not come back")


class SecuredMariadb(Secured):
    """MariaDB."""

    kind = "mysql"

    def _begin_tls(self, raw: socket.socket) -> bool:
        greeting = raw.recv(4096)
        at = _capabilities(greeting)
        if not struct.unpack("<H", greeting[at : at + 2])[0] & _HAS_TLS:
            return False
        raw.sendall(b"\x20\0\0\x01" + struct.pack("<IIB", 0x0000_8A00, 1 << 24, 45) + bytes(23))
        return True

    def _reload(self) -> None:
        self.run("FLUSH SSL")

    def run(self, *statements: str) -> None:
        """Run statements as the owner of the server."""

        async def run(cursor: Any) -> None:
            for statement in statements:
                await cursor.execute(statement)

        beside(lambda: mariadb.asking(self.plain_url, run))


class Stripper:
    """Somebody on the way who tells every client that the server has no TLS, and keeps what they say."""

    def __init__(self, server: Secured) -> None:
        self._server = server
        self.heard = bytearray()
        self.port = 0
        self._met: list[asyncio.StreamWriter] = []
        self._tasks: list[asyncio.Task[None]] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Stripper]:
        """Listen for the block."""
        listening = await asyncio.start_server(self._meet, "127.0.0.1", 0)
        self.port = listening.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            listening.close()
            for writer in self._met:
                writer.transport.abort()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.append(task)
        self._met.append(writer)
        if self._server.kind == "mysql":
            writer.write(await self._greeting())
        while data := await reader.read(65_536):
            self.heard += data
            writer.write(b"N" if data == _ASKS_FOR_TLS else _BAD_HANDSHAKE)
            if data != _ASKS_FOR_TLS:
                break
        writer.close()

    async def _greeting(self) -> bytes:
        """The server's own, but for one bit."""
        parts = urlsplit(self._server.plain_url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        greeting = bytearray(await reader.read(4096))
        writer.transport.abort()
        greeting[_capabilities(greeting) + 1] &= ~(_HAS_TLS >> 8)
        return bytes(greeting)


def _capabilities(greeting: bytes) -> int:
    """Where they stand: behind the version, the session's number and half of the salt."""
    return greeting.index(b"\0", 5) + 1 + 4 + 8 + 1


def beside(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run something to its end on a loop of its own, also for a caller who is on one."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(work())).result()


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Until a condition holds."""
    deadline = time.monotonic() + _WAIT_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


@contextmanager
def secured_postgresql() -> Iterator[SecuredPostgresql]:
    """A private PostgreSQL with TLS."""
    programs = postgres.programs()
    if programs is None:
        pytest.skip("initdb and pg_ctl are not installed here")
    authority = Authority("the tests' authority")
    files = _files(authority)
    server, record = postgres.start_private(
        programs, keep=False, more=_PG_SETTINGS, rules=_PG_RULES, files=files
    )
    try:
        made = SecuredPostgresql(authority, server)
        made.run(f"CREATE ROLE {CLIENT} LOGIN")
        yield made
    finally:
        postgres.release(server, record)


@contextmanager
def secured_mariadb() -> Iterator[SecuredMariadb]:
    """A private MariaDB with TLS."""
    program = mariadb.programs()
    if program is None:
        pytest.skip("mariadbd is not installed here")
    authority = Authority("the tests' authority")
    server, record = mariadb.start_private(
        program, keep=False, more=_MARIADB_SETTINGS, files=_files(authority)
    )
    try:
        made = SecuredMariadb(authority, server)
        made.run(
            f"CREATE USER {CLIENT}@'127.0.0.1' REQUIRE X509", f"GRANT ALL ON *.* TO {CLIENT}@'127.0.0.1'"
        )
        yield made
    finally:
        mariadb.release(server, record)


def _files(authority: Authority) -> dict[str, str]:
    first = authority.issue("server", HERE)
    return {"ca.pem": authority.pem, "server.pem": first.cert, "server.key": first.key}

"""One request of an `http` step with its redirects: where it may connect, how much it reads, how it fails.

The library does the protocol; every connection is made here, to an address that was checked, while the TLS
handshake and the Host header have the name. Proxies of the environment play no part, there are no cookies,
and a connection serves one request: what was checked for one is never reused for another.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
from collections.abc import Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import httpcore2

from holdfast.config.schema import Http
from holdfast.errors import InvalidArgument, RequestFailed
from holdfast.workflows.steps.http_addresses import Allowed, Resolve, checked_addresses
from holdfast.workflows.steps.http_body import BodyReader
from holdfast.workflows.steps.http_spec import CREDENTIALS
from holdfast.workflows.steps.http_url import Url

# Its debug lines hold whole headers of answers, cookies included.
for _name in ("connection", "http11"):
    logging.getLogger(f"httpcore2.{_name}").setLevel(logging.INFO)

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_OF_THE_BODY = frozenset({"content-type", "content-encoding", "content-language", "idempotency-key"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is sent. `private` are the names, in lower case, of headers that no other origin may see."""

    method: str
    url: Url
    headers: tuple[tuple[str, str], ...]
    body: bytes | None = None
    private: frozenset[str] = frozenset()

    def redirected(self, status: int, location: str) -> Request:
        """The request that follows a redirect (RFC 9110, 15.4). Raises `RequestFailed`."""
        try:
            url = self.url.follow(location)
        except InvalidArgument as error:
            raise _refused(
                f"{self.url.origin} redirects to what can not be followed: {error.cause}"
            ) from error
        if self.url.scheme == "https" and url.scheme == "http":
            raise _refused(f"{self.url.origin} redirects to {url.origin}, which is not encrypted")
        dropped: frozenset[str] = frozenset()
        if url.origin != self.url.origin:
            dropped |= self.private | CREDENTIALS
        method, body = self.method, self.body
        if (status == 303 and method != "HEAD") or (status in (301, 302) and method == "POST"):
            method, body = "GET", None
            dropped |= _OF_THE_BODY
        headers = tuple(pair for pair in self.headers if pair[0].lower() not in dropped)
        return replace(self, url=url, method=method, body=body, headers=headers)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; `headers` have their names in lower case."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    origin: str

    def header(self, name: str) -> str | None:
        """The values of one header in one text; None if it was not sent."""
        found = [value for key, value in self.headers if key == name]
        return ", ".join(found) if found else None


def _refused(cause: str) -> RequestFailed:
    return RequestFailed(cause, fix="call the final URL, or look at what the server answers", kind="redirect")


async def exchange(
    request: Request, rules: Http, resolve: Resolve, *, redirects: int, is_wanted: Callable[[int], bool]
) -> Answer:
    """Send `request` and follow at most `redirects` redirects, unless their status `is_wanted` itself.

    The caller bounds the time. Raises `RequestFailed`, for an address `AddressRefused`.
    """
    network = _CheckedNetwork(Allowed(rules.allow), resolve)
    for left in range(redirects, -1, -1):
        answer = await _send(request, rules, network)
        location = answer.header("location")
        if answer.status not in _REDIRECTS or location is None or is_wanted(answer.status):
            return answer
        if not redirects:
            return answer
        if left:
            request = request.redirected(answer.status, location)
    raise _refused(f"more than {redirects} redirects; the last one came from {answer.origin}")


class _CheckedNetwork(httpcore2.AsyncNetworkBackend):
    """Connects to checked addresses only."""

    def __init__(self, allowed: Allowed, resolve: Resolve) -> None:
        self._allowed = allowed
        self._resolve = resolve
        self._inner = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Resolve once, check all, then try them in their order; each gets its share of the time."""
        limit = timeout or 0.0
        clock = asyncio.get_running_loop().time
        end = clock() + limit
        async with asyncio.timeout(limit):
            addresses = await checked_addresses(host, port, self._allowed, self._resolve)
        for left in range(len(addresses), 0, -1):
            share = max(0.001, (end - clock()) / left)
            try:
                return await self._inner.connect_tcp(addresses[-left], port, timeout=share)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                if left == 1:
                    raise
        raise AssertionError("a host without an address was refused")


async def _send(request: Request, rules: Http, network: _CheckedNetwork) -> Answer:
    url = request.url
    connection = httpcore2.AsyncHTTPConnection(
        origin=httpcore2.Origin(url.scheme.encode(), url.host.encode(), url.port),
        ssl_context=_trust() if url.scheme == "https" else None,
        network_backend=network,
    )
    try:
        async with connection:
            return await _receive(connection, request, rules)
    except (RequestFailed, InvalidArgument):
        raise
    except Exception as error:
        failure = _failure(error, url)
        if failure is None:
            raise
        raise failure from error


async def _receive(connection: httpcore2.AsyncHTTPConnection, request: Request, rules: Http) -> Answer:
    url = request.url
    connect_s = rules.connect_timeout.total_seconds()
    async with connection.stream(
        request.method,
        httpcore2.URL(
            scheme=url.scheme.encode(), host=url.host.encode(), port=url.port, target=url.target.encode()
        ),
        headers=[(b"Host", url.authority.encode())]
        + [(name.encode(), value.encode()) for name, value in request.headers],
        content=request.body,
        extensions={"timeout": {"connect": connect_s}},
    ) as response:
        headers = tuple((name.decode("ascii").lower(), _text(value)) for name, value in response.headers)
        answer = Answer(response.status, headers, b"", url.origin)
        if request.method == "HEAD" or response.status in (204, 304):
            return answer
        reader = BodyReader(
            rules.max_body,
            coding=answer.header("content-encoding"),
            length=answer.header("content-length"),
        )
        async with aclosing(response.aiter_stream()) as chunks:
            async for chunk in chunks:
                reader.feed(chunk)
        return replace(answer, body=reader.end())


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _failure(error: Exception, url: Url) -> RequestFailed | None:
    """What an error of the network means; None for one that is none."""
    said = str(error) or type(error).__name__
    match error:
        case httpcore2.ConnectTimeout() | TimeoutError():
            return RequestFailed(f"no connection to {url.origin} in time", kind="connect")
        case httpcore2.ConnectError() | socket.gaierror():
            return RequestFailed(f"no connection to {url.origin}: {said}", kind="connect")
        case httpcore2.NetworkError() | httpcore2.TimeoutException() | httpcore2.RemoteProtocolError():
            return RequestFailed(f"the connection to {url.origin} broke: {said}", kind="network")
        case httpcore2.LocalProtocolError():
            # What the library says of it quotes the header, which may be a secret.
            return RequestFailed(f"the request to {url.origin} has a malformed header", kind="request")
        case OSError() | ssl.SSLError():
            return RequestFailed(f"the connection to {url.origin} broke: {said}", kind="network")
        case _:
            return None


def _trust() -> ssl.SSLContext:
    return _context(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))


@cache
def _context(file: str | None, folder: str | None) -> ssl.SSLContext:
    """The system's certificates, or those that the two usual variables name; reading them takes a while."""
    return httpcore2.default_ssl_context()

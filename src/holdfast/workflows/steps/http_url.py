"""URLs of `http` steps, read strictly: what two parsers could read differently is refused."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv6Address
from urllib.parse import quote, urljoin, urlsplit

from holdfast.errors import InvalidArgument

URL_CHARACTERS_MAX = 8_000
_PORTS = {"http": 80, "https": 443}
_LABEL = "[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(\.{_LABEL})*\.?", re.ASCII)
_NETLOC = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(:[0-9]*)?", re.ASCII)
_UNSAFE = re.compile(r"[\x00-\x20\x7f\\]")
_PATH = "/%:@!$&'()*+,;=~-._"


@dataclass(frozen=True, slots=True)
class Url:
    """A URL in parts. `host` is in lower case, an IPv6 address without brackets; `target` starts with `/`."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def authority(self) -> str:
        """Host and port as the Host header has them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """All that an error may show of a URL: paths and queries carry secrets."""
        return f"{self.scheme}://{self.authority}"

    def follow(self, location: str) -> Url:
        """Where a redirect leads, which may be relative. Raises `InvalidArgument`."""
        if _UNSAFE.search(location):  # before joining, which would drop some of it
            raise InvalidArgument("it has a space, a backslash or a control character")
        try:
            joined = urljoin(self.origin + self.target, location)
        except ValueError as error:
            raise InvalidArgument("it is not a URL") from error
        return parse_url(joined)


def parse_url(text: str) -> Url:
    """Raises `InvalidArgument`, whose text holds nothing of what may be secret."""
    if not text or len(text) > URL_CHARACTERS_MAX:
        raise InvalidArgument(
            f"a URL has 1 to {URL_CHARACTERS_MAX} characters", fix="write https://host/path"
        )
    if _UNSAFE.search(text):
        raise InvalidArgument(
            "the URL has a space, a backslash or a control character",
            fix="write %20 for a space; put values into `query`, which encodes them",
        )
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise InvalidArgument("it is not a URL: its host or port is malformed") from error
    if parts.scheme not in _PORTS or not parts.netloc:
        raise InvalidArgument("it is not an http or https URL", fix="write https://host/path")
    if "@" in parts.netloc:
        raise InvalidArgument(
            "the URL has a user name or password in it", fix="send it as a header, from `secrets`"
        )
    if not _NETLOC.fullmatch(parts.netloc):
        raise InvalidArgument("it is not a URL: its host or port is malformed")
    if port == 0:
        raise InvalidArgument("0 is no port", fix="leave it out, or write 1 to 65535")
    host = _host(parts.hostname or "", bracketed="[" in parts.netloc)
    try:
        query = f"?{quote(parts.query, safe=_PATH + '?')}" if parts.query else ""
        target = (quote(parts.path, safe=_PATH) or "/") + query
    except UnicodeEncodeError as error:
        raise InvalidArgument("the URL is not Unicode text") from error
    return Url(parts.scheme, host, port or _PORTS[parts.scheme], target)


def _host(host: str, *, bracketed: bool) -> str:
    if bracketed:
        try:
            return str(IPv6Address(host))
        except ValueError as error:
            raise InvalidArgument("what stands in brackets is not an IPv6 address") from error
    if not host.isascii():
        raise InvalidArgument(
            "the host is not ASCII",
            fix="write its ASCII form, which begins with xn--: it means one host only",
        )
    if not _HOST.fullmatch(host):
        raise InvalidArgument("the URL has no usable host", fix="write https://host/path")
    return host.lower().removesuffix(".")

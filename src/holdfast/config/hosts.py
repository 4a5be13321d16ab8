"""One host or several in one text: `db1`, `db1:5432,db2:5433`, `[::1]:5432`, `/run/postgresql`."""

from __future__ import annotations

from typing import NamedTuple

from holdfast.errors import InvalidArgument

_PORT_MAX = 65_535


class Host(NamedTuple):
    """A name, an address without brackets or the path of a Unix socket, and a port."""

    name: str
    port: int

    def __str__(self) -> str:
        return f"[{self.name}]:{self.port}" if ":" in self.name else f"{self.name}:{self.port}"


def hosts_of(text: str, port: int) -> tuple[Host, ...]:
    """The hosts that `text` names, in its order; `port` is for those that name none.

    Raises `InvalidArgument`.
    """
    return tuple(_host(part.strip(), port) for part in text.split(","))


def _host(text: str, port: int) -> Host:
    if text.startswith("/"):
        return Host(text, port)
    if text.startswith("["):
        name, closing, rest = text[1:].partition("]")
        separator, number = rest[:1], rest[1:]
        if not closing or separator not in ("", ":"):
            raise _malformed(text)
    elif text.count(":") > 1:  # an IPv6 address, which has no port without brackets
        return Host(text, port)
    else:
        name, separator, number = text.partition(":")
    if not name:
        raise _malformed(text)
    if not separator:
        return Host(name, port)
    if not (number.isascii() and number.isdigit() and 1 <= int(number[:6]) <= _PORT_MAX):
        raise _malformed(text)
    return Host(name, int(number))


def _malformed(text: str) -> InvalidArgument:
    what = f"{text!r} is not a host" if text else "a host of the list is empty"
    return InvalidArgument(what, fix="write HOST, HOST:PORT, or several of them with commas")

"""The body of an answer, read to a bound, and what it means.

The bound counts twice: bytes on the wire, and bytes after decompression, which is done in pieces so that a
bomb is noticed while it is small.
"""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any, Protocol

from holdfast.errors import RequestFailed

CODINGS = "gzip, deflate"
"""What is offered to servers."""
_TEXT_CODECS = {
    "utf-8", "utf8", "us-ascii", "ascii", "iso-8859-1", "latin1", "iso-8859-15", "windows-1252", "cp1252",
    "windows-1251", "koi8-r", "utf-16", "utf-16le", "utf-16be", "shift_jis", "euc-jp", "euc-kr", "gbk",
    "gb2312", "gb18030", "big5",
}  # fmt: skip


class _Inflating(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    @property
    def unconsumed_tail(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class BodyReader:
    """Takes a body chunk by chunk; `feed` and `end` raise `RequestFailed` of kind `body`."""

    def __init__(self, limit: int, *, coding: str | None, length: str | None) -> None:
        self._limit = limit
        self._read = 0
        self._body = bytearray()
        self._coding = (coding or "identity").strip().lower()
        self._inflate: _Inflating | None = None
        if self._coding not in ("identity", "gzip", "x-gzip", "deflate"):
            raise _broken(f"the answer is encoded as {self._coding[:60]!r}, which was not asked for")
        if length is not None and length.isdecimal() and int(length[:20]) > limit:
            raise self._too_long()

    def feed(self, chunk: bytes) -> None:
        """The next bytes from the wire."""
        self._read += len(chunk)
        if self._read > self._limit:
            raise self._too_long()
        if self._coding == "identity":
            self._body += chunk
            return
        try:
            self._decompress(chunk)
        except zlib.error as error:
            raise _broken(f"the answer is not the {self._coding} it says: {error}") from error

    def _decompress(self, chunk: bytes) -> None:
        while chunk:
            if self._inflate is None or self._inflate.eof:
                self._inflate = self._decompressor(chunk)
            room = self._limit - len(self._body) + 1
            self._body += self._inflate.decompress(chunk, room)
            if len(self._body) > self._limit:
                raise self._too_long()
            chunk = self._inflate.unused_data if self._inflate.eof else self._inflate.unconsumed_tail
            if self._inflate.eof and self._coding == "deflate":
                return  # what follows is no second stream, as it may be in gzip

    def _decompressor(self, chunk: bytes) -> _Inflating:
        if self._coding != "deflate":
            return zlib.decompressobj(16 + zlib.MAX_WBITS)
        # Some servers mean the bare stream by `deflate`. A zlib header's first byte has 8 in its lower half.
        return zlib.decompressobj(zlib.MAX_WBITS if chunk[0] & 0x0F == 8 else -zlib.MAX_WBITS)

    def end(self) -> bytes:
        """The whole body."""
        if self._inflate is not None and not self._inflate.eof:
            raise _broken("the compressed answer is cut off", kind="network")
        return bytes(self._body)

    def _too_long(self) -> RequestFailed:
        return RequestFailed(
            f"the answer is longer than {self._limit} bytes",
            fix="ask for less, or raise `http.max_body`",
            kind="body",
        )


def _broken(cause: str, kind: str = "body") -> RequestFailed:
    return RequestFailed(cause, fix="look at what the server answers", kind=kind)


def read_body(body: bytes, content_type: str | None) -> tuple[str | None, Any]:
    """How a body is given, and the body: `json` a value, `text`, `base64`; None when there is none.

    Raises `RequestFailed` of kind `output` for what says it is JSON and is not.
    """
    if not body:
        return None, None
    type_, _, parameters = (content_type or "").partition(";")
    type_ = type_.strip().lower()
    if type_ == "application/json" or type_.endswith("+json"):
        return "json", _json(body)
    text = _decoded(body, parameters)
    if text is None or "\x00" in text:
        return "base64", base64.b64encode(body).decode("ascii")
    return "text", text


def _json(body: bytes) -> Any:
    try:
        return json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise RequestFailed(
            f"the answer says it is JSON and is not: {str(error) or 'nested too deep'}",
            fix="look at what the server answers",
            kind="output",
        ) from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _decoded(body: bytes, parameters: str) -> str | None:
    """The text of a body, by the charset that is named: a well-known one, since some cost far too much."""
    charset = "utf-8"
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset":
            charset = value.strip().strip("\"'").lower()
    try:
        return body.decode(charset) if charset in _TEXT_CODECS else None
    except (UnicodeDecodeError, LookupError):
        return None

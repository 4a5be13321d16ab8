"""What `http:` says: checked when a file is read, as far as it holds no template, and again when rendered.

The same rules serve both, so that data can not bring in what a file may not say. Secrets stand apart, under
`secrets`, and take no template: neither data nor what is recorded of a step ever holds or chooses one. With
them the URL's host has to be literal too, or data would choose who is told.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlencode

from holdfast.errors import InvalidArgument, RequestFailed
from holdfast.workflows.expressions import OPENING, json_text
from holdfast.workflows.problems import DocumentPath, nearest
from holdfast.workflows.steps.http_secrets import PREFIX, names_a_secret
from holdfast.workflows.steps.http_url import parse_url

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
REDIRECTS_MAX = 20

_KEYS = (
    "url", "method", "query", "headers", "secrets", "json", "form", "body", "expect", "keep", "redirects",
)  # fmt: skip
_BODIES = ("json", "form", "body")
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,200}", re.ASCII)
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\U0010ffff]*")
_LITERAL_HOST = re.compile(r"https?://[^/?#$]+[/?#]", re.ASCII)
_CLASS = re.compile(r"[1-5]xx", re.ASCII)

# What the client sets itself: whoever could would make two parties see two different requests.
_FRAMING = frozenset(
    {
        "accept-encoding", "connection", "content-length", "expect", "host", "http2-settings", "keep-alive",
        "te", "trailer", "transfer-encoding", "upgrade",
    }
)  # fmt: skip
CREDENTIALS = frozenset(
    {
        "api-key", "authorization", "cookie", "private-token", "proxy-authorization", "x-api-key",
        "x-api-token", "x-auth-token", "x-csrf-token", "x-vault-token",
    }
)  # fmt: skip
"""Headers that are nothing but secret: never written into a file, and dropped when a redirect leaves."""


class Mistake(NamedTuple):
    """One thing that is wrong, below `http`."""

    path: DocumentPath
    message: str
    hint: str | None


def mistakes(spec: Any, *, raw: bool) -> Iterator[Mistake]:
    """What is wrong with a spec; in a `raw` one texts with templates are left for later."""
    if isinstance(spec, str):
        if raw and OPENING in spec:
            yield Mistake((), "a URL with a template stands under `url`", "write http: {url: …}")
        else:
            yield from _url(spec, raw=raw)
        return
    if not isinstance(spec, dict):
        yield Mistake((), "`http` is a URL or a mapping", "write http: {url: https://host/path}")
        return
    for key in spec:
        if key not in _KEYS:
            yield Mistake((key,), f"unknown key {str(key)[:60]!r}", nearest(str(key), _KEYS))
    if spec.get("url") is None:
        yield Mistake((), "`http` has no url", "write http: {url: https://host/path}")
    else:
        yield from _url(spec["url"], raw=raw)
    yield from _method(spec, raw=raw)
    yield from _headers(spec, raw=raw)
    yield from _secrets(spec, raw=raw)
    yield from _fields(spec, raw=raw)
    yield from _answers(spec, raw=raw)


def _later(value: Any, *, raw: bool) -> bool:
    return raw and isinstance(value, str) and OPENING in value


def _url(url: Any, *, raw: bool) -> Iterator[Mistake]:
    if _later(url, raw=raw):
        return
    if not isinstance(url, str):
        yield Mistake(("url",), f"the url is {json_text(url)[:60]}, not text", "write https://host/path")
        return
    try:
        parse_url(url)
    except InvalidArgument as error:
        yield Mistake(("url",), error.cause, error.fix)


def _method(spec: Mapping[str, Any], *, raw: bool) -> Iterator[Mistake]:
    method = spec.get("method")
    bodies = [key for key in _BODIES if spec.get(key) is not None]
    if len(bodies) > 1:
        yield Mistake((bodies[1],), f"{' and '.join(bodies)} at once", "keep one of them")
    if method is None or _later(method, raw=raw):
        return
    if method not in METHODS:
        known = nearest(str(method).upper(), METHODS) if isinstance(method, str) else None
        yield Mistake(("method",), f"{str(method)[:60]!r} is no method", known or f"use {', '.join(METHODS)}")
    elif bodies and method in ("GET", "HEAD"):
        yield Mistake((bodies[0],), f"a {method} request has no body", "use POST, or put it into `query`")


def _headers(spec: Mapping[str, Any], *, raw: bool) -> Iterator[Mistake]:
    headers = spec.get("headers")
    if headers is None or _later(headers, raw=raw):
        return
    if not isinstance(headers, dict):
        yield Mistake(("headers",), "`headers` is a mapping", "write headers: {accept: text/plain}")
        return
    for name, value in headers.items():
        path = ("headers", name)
        yield from _header_name(name, path)
        if name.lower() in CREDENTIALS:
            yield Mistake(
                path,
                f"{name} would be stored with the step",
                f"write secrets: {{{name}: $NAME}} and set {PREFIX}NAME where the workflow runs",
            )
        elif not isinstance(value, str | int | float | bool):
            yield Mistake(path, f"the header is {json_text(value)[:60]}, not text", "quote it")
        elif not _later(value, raw=raw) and not _VALUE.fullmatch(header_text(value)):
            yield Mistake(path, "the header has a line break or a control character", "encode the value")


def header_text(value: str | float) -> str:
    """A header's value as it is sent."""
    return value if isinstance(value, str) else json_text(value)


def _header_name(name: str, path: DocumentPath) -> Iterator[Mistake]:
    if not _NAME.fullmatch(name):
        yield Mistake(path, f"{name[:60]!r} is not the name of a header", "use letters, digits and -")
    elif name.lower() in _FRAMING:
        yield Mistake(path, f"{name} is set by Holdfast itself", "remove it")


def _secrets(spec: Mapping[str, Any], *, raw: bool) -> Iterator[Mistake]:
    secrets = spec.get("secrets")
    if secrets is None:
        return
    example = f'write secrets: {{authorization: "Bearer $NAME"}} and set {PREFIX}NAME'
    if not isinstance(secrets, dict):
        yield Mistake(("secrets",), "`secrets` is a mapping of headers", example)
        return
    headers = spec.get("headers")
    plain = {name.lower() for name in headers} if isinstance(headers, dict) else set()
    for name, text in secrets.items():
        path = ("secrets", name)
        yield from _header_name(name, path)
        if not isinstance(text, str) or not names_a_secret(text):
            yield Mistake(path, "it names no secret", example)
        elif OPENING in text or not _VALUE.fullmatch(text):
            yield Mistake(path, "a secret takes no ${{ }}: data must not choose what is sent", example)
        if name.lower() in plain:
            yield Mistake(path, f"{name} stands in `headers` too", "keep one of them")
    if raw and _later(spec.get("url"), raw=True) and not _LITERAL_HOST.match(spec["url"]):
        yield Mistake(
            ("url",),
            "with `secrets` the host of the URL takes no ${{ }}: data must not choose who gets them",
            "write the host and a / in front of the first template",
        )


def _fields(spec: Mapping[str, Any], *, raw: bool) -> Iterator[Mistake]:
    """`query` and `form`: names with one value or a list of them; `body`: text."""
    for key in ("query", "form"):
        values = spec.get(key)
        if values is None or _later(values, raw=raw):
            continue
        if not isinstance(values, dict):
            yield Mistake((key,), f"`{key}` is a mapping", f"write {key}: {{name: value}}")
            continue
        for name, value in values.items():
            for each in value if isinstance(value, list) else [value]:
                if each is not None and not isinstance(each, str | int | float | bool):
                    what = f"{json_text(each)[:60]} is neither text nor a number"
                    yield Mistake((key, name), what, "name one of its fields, or pass it as JSON")
    body = spec.get("body")
    if body is not None and not isinstance(body, str):
        yield Mistake(("body",), "`body` is text", "write json: … for a value")


def _answers(spec: Mapping[str, Any], *, raw: bool) -> Iterator[Mistake]:
    """`expect`, `keep` and `redirects`."""
    expected = spec.get("expect")
    if expected is not None and not _later(expected, raw=raw):
        for each in expected if isinstance(expected, list) else [expected]:
            if not _is_status(each) and not _later(each, raw=raw):
                hint = "write 200, [200, 404] or 2xx"
                yield Mistake(("expect",), f"{str(each)[:60]!r} is no status", hint)
        if expected == []:
            yield Mistake(("expect",), "no status is expected", "leave it out for any 2xx")
    keep = spec.get("keep")
    if keep is not None and not (isinstance(keep, list) and all(isinstance(name, str) for name in keep)):
        yield Mistake(("keep",), "`keep` is a list of headers", "write keep: [x-total-count]")
    follow = spec.get("redirects")
    if follow is not None and (type(follow) is not int or not 0 <= follow <= REDIRECTS_MAX):
        yield Mistake(("redirects",), f"redirects is {follow!r}", f"use 0 (none) to {REDIRECTS_MAX}")


def _is_status(value: Any) -> bool:
    if isinstance(value, str):
        return bool(_CLASS.fullmatch(value))
    return type(value) is int and 100 <= value <= 599


def expects(spec: Mapping[str, Any], status: int) -> bool:
    """Whether the step counts an answer with this status as good."""
    expected = spec.get("expect") or "2xx"
    wanted = expected if isinstance(expected, list) else [expected]
    return status in wanted or f"{status // 100}xx" in wanted


def query_text(values: Mapping[str, Any]) -> str:
    """`query` or `form` as it is sent; what is null is left out."""
    pairs = [
        (name, each if isinstance(each, str) else json_text(each))
        for name, value in values.items()
        for each in (value if isinstance(value, list) else [value])
        if each is not None
    ]
    try:
        return urlencode(pairs)
    except UnicodeEncodeError as error:
        raise RequestFailed("a value is not Unicode text", fix="clean it", kind="request") from error

"""`http: {url: …, method: …, …}`: one request; the output is `{status, headers, body, encoding}`.

A URL alone is a GET. The body of the request is `json`, `form` or `body` (text); that of the answer is a
value when it says it is JSON, else text, else base64, as `encoding` tells. Of the headers only those in
`keep` are given. Any status that is not in `expect` fails the step.

An attempt may be made twice, since a process can die between the answer and its record: a request that
changes something carries an `Idempotency-Key`, the same for every attempt, unless the step sets its own.
Secrets come from the environment when the request is made; what comes back is recorded without them.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from holdfast.errors import InvalidArgument, MissingExtra, RequestFailed
from holdfast.workflows.problems import DocumentPath, Report
from holdfast.workflows.steps import http_body, http_spec
from holdfast.workflows.steps.base import BodyKind, StepContext
from holdfast.workflows.steps.http_addresses import Resolve, look_up
from holdfast.workflows.steps.http_secrets import Secrets
from holdfast.workflows.steps.http_url import Url, parse_url

if TYPE_CHECKING:
    from holdfast.workflows.steps.http_client import Answer, Request

KEPT = ("content-type", "etag", "last-modified", "link", "location", "x-request-id")
"""The headers of an answer that are given when `keep` says nothing."""
REDIRECTS = 5
TAIL_CHARACTERS = 500
"""How much of an answer an error carries."""
RETRY_AFTER_MAX_S = 7 * 24 * 3600
_LATER = frozenset({408, 425, 429})
_NEVER = frozenset({501, 505})
_PLAIN_KEY = re.compile(r"[!-~]{1,200}", re.ASCII)


class HttpKind(BodyKind):
    """A request to an address that is public or that the operator allows; see `http_addresses`."""

    name = "http"

    def __init__(self, resolve: Resolve = look_up) -> None:
        self._resolve = resolve

    def validate(self, spec: Any, arguments: Mapping[str, Any], path: DocumentPath, report: Report) -> None:
        """Everything that is no template."""
        for mistake in http_spec.mistakes(spec, raw=True):
            report.add((*path, *mistake.path), mistake.message, mistake.hint)

    def prepare(self, spec: Any, folder: Path) -> None:
        """Check that the client is installed."""
        for package in ("httpcore2", "anyio"):
            if find_spec(package) is None:
                raise MissingExtra(
                    f"http steps need the package {package}", fix='pip install "holdfast[http]"'
                )

    async def run(self, context: StepContext) -> Any:
        """Make the request once and read the answer as the step says."""
        from holdfast.workflows.steps.http_client import exchange

        for mistake in http_spec.mistakes(context.spec, raw=False):
            raise RequestFailed(mistake.message, fix=mistake.hint, kind="request")
        given: dict[str, Any] = context.spec if isinstance(context.spec, dict) else {"url": context.spec}
        spec = {key: value for key, value in given.items() if value is not None}
        request, secrets = _request(spec, context)
        # A timeout of the step itself is the engine's matter and counts instead.
        limit_s = None if context.timeout else context.http.timeout.total_seconds()
        try:
            async with asyncio.timeout(limit_s):
                answer = await exchange(
                    request,
                    context.http,
                    self._resolve,
                    redirects=spec.get("redirects", REDIRECTS),
                    is_wanted=lambda status: http_spec.expects(spec, status),
                )
            return secrets.hide(_output(spec, request, answer, secrets))
        except RequestFailed as error:
            details = {key: value for key, value in error.details.items() if value is not None}
            raise type(error)(secrets.hide(error.cause), fix=error.fix, **details) from None
        except TimeoutError:
            raise RequestFailed(
                f"{request.method} {request.url.origin} took longer than {limit_s:g} s",
                fix="give the step a `timeout` of its own, or raise `http.timeout`",
                kind="timeout",
            ) from None


def _request(spec: Mapping[str, Any], context: StepContext) -> tuple[Request, Secrets]:
    """The request, and the secrets in it."""
    from holdfast.workflows.steps.http_client import Request

    content_type, body = _body(spec)
    method = spec.get("method") or ("GET" if body is None else "POST")
    if body is not None and method in ("GET", "HEAD"):
        raise RequestFailed(f"a {method} request has no body", fix="use POST", kind="request")
    headers = {"user-agent": "holdfast", "accept": "*/*"}
    if content_type is not None:
        headers["content-type"] = content_type
    if method not in http_spec.SAFE:
        headers["idempotency-key"] = _key(context)
    headers |= {
        name.lower(): http_spec.header_text(value) for name, value in (spec.get("headers") or {}).items()
    }
    secrets = Secrets()
    private = {name.lower() for name in spec.get("secrets") or {}}
    for name, text in (spec.get("secrets") or {}).items():
        headers[name.lower()] = secrets.reveal(text)
    headers["accept-encoding"] = http_body.CODINGS
    request = Request(
        method=method,
        url=_url(spec),
        headers=tuple((name, value.strip()) for name, value in headers.items()),
        body=body,
        private=frozenset(private),
    )
    return request, secrets


def _url(spec: Mapping[str, Any]) -> Url:
    text: str = spec["url"]
    if spec.get("query"):
        text = text.partition("#")[0]
        text += ("&" if "?" in text else "?") + http_spec.query_text(spec["query"])
    try:
        return parse_url(text)
    except InvalidArgument as error:
        raise RequestFailed(error.cause, fix=error.fix, kind="request") from error


def _body(spec: Mapping[str, Any]) -> tuple[str | None, bytes | None]:
    """The content type that goes with a body, and the body."""
    try:
        if spec.get("json") is not None:
            text = json.dumps(spec["json"], ensure_ascii=False, allow_nan=False, separators=(",", ":"))
            return "application/json", text.encode()
        if spec.get("form") is not None:
            return "application/x-www-form-urlencoded", http_spec.query_text(spec["form"]).encode()
        if spec.get("body") is not None:
            return "text/plain; charset=utf-8", spec["body"].encode()
    except (ValueError, RecursionError) as error:
        raise RequestFailed("the body has no form as text", fix="clean it", kind="request") from error
    return None, None


def _key(context: StepContext) -> str:
    """What tells the attempts of one step from other requests; a digest of what no header could hold."""
    key = context.idempotency_key
    return key if _PLAIN_KEY.fullmatch(key) else sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def _output(spec: Mapping[str, Any], request: Request, answer: Answer, secrets: Secrets) -> dict[str, Any]:
    if not http_spec.expects(spec, answer.status):
        raise _unexpected(request, answer, secrets)
    encoding, body = http_body.read_body(answer.body, answer.header("content-type"))
    if encoding == "base64":
        body = base64.b64encode(secrets.hide_bytes(answer.body)).decode("ascii")
    names = [name.lower() for name in spec.get("keep", KEPT)]
    found = {name: answer.header(name) for name in names}
    return {
        "status": answer.status,
        "headers": {name: value for name, value in found.items() if value is not None},
        "body": body,
        "encoding": encoding,
    }


def _unexpected(request: Request, answer: Answer, secrets: Secrets) -> RequestFailed:
    status = answer.status
    passing = status in _LATER or (status >= 500 and status not in _NEVER)
    # Hidden before it is cut: half a secret is not found any more.
    said = secrets.hide(answer.body.decode("utf-8", "replace")).strip()[:TAIL_CHARACTERS]
    return RequestFailed(
        f"{request.method} {answer.origin} answered {status}" + (f": {said}" if said else ""),
        fix="add `retry` if it may pass later" if passing else "correct the request, or add it to `expect`",
        kind="unavailable" if passing else "status",
        status=status,
        retry_after_s=_retry_after_s(answer.header("retry-after")) if passing else None,
    )


def _retry_after_s(value: str | None) -> int | None:
    """Seconds from a number or an HTTP date; None for neither."""
    if value is None:
        return None
    text = value.strip()
    if re.fullmatch(r"\d{1,12}", text, re.ASCII):
        return min(int(text), RETRY_AFTER_MAX_S)
    try:
        until = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    return max(0, min(round((until - datetime.now(UTC)).total_seconds()), RETRY_AFTER_MAX_S))

"""The `http` step against a real server on loopback, which the operator of these tests allows."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import ssl
import zlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from holdfast.config.schema import Http
from holdfast.errors import AddressRefused, RequestFailed
from holdfast.workflows.failures import describe
from holdfast.workflows.steps.base import StepContext
from holdfast.workflows.steps.http import TAIL_CHARACTERS, HttpKind
from holdfast.workflows.steps.http_addresses import Resolve, look_up
from tests.certificates import Authority
from tests.http_server import Seen, answer, serving

pytestmark = pytest.mark.anyio
HERE = ("127.0.0.0/8", "::1")
PATIENCE_S = 60.0
FORM = "application/x-www-form-urlencoded"
OK = b"HTTP/1.1 200 OK\r\n"


async def call(
    spec: Any,
    *,
    resolve: Resolve = look_up,
    step_timeout: timedelta | None = None,
    attempt: int = 1,
    **rules: Any,
) -> Any:
    rules.setdefault("allow", HERE)
    context = StepContext(
        execution_id="ex-1", path="send[3]", step="send", attempt=attempt, spec=spec, arguments={}, env={},
        folder=Path(), timeout=step_timeout, http=Http(**rules),
    )  # fmt: skip
    async with asyncio.timeout(PATIENCE_S):
        return await HttpKind(resolve).run(context)


async def fails(kind: str, spec: Any, **options: Any) -> RequestFailed:
    with pytest.raises(RequestFailed) as caught:
        await call(spec, **options)
    assert caught.value.retry_type == kind, caught.value.cause
    return caught.value


async def no_dns(host: str, port: int) -> list[str]:
    raise AssertionError(f"{host} was resolved")


def names(**known: list[str]) -> Resolve:
    """A name server that knows `a_test=[…]` as a.test."""

    async def resolve(host: str, port: int) -> list[str]:
        return known[host.replace(".", "_")]

    return resolve


# What is sent.


async def test_a_url_alone_is_a_get() -> None:
    async with serving(
        {"/a": answer(200, '{"n": 1}', content_type="application/json", set_cookie="s=1")}
    ) as server:
        output = await call(server.url("/a"))
    assert output == {
        "status": 200,
        "headers": {"content-type": "application/json"},
        "body": {"n": 1},
        "encoding": "json",
    }
    assert (server.seen[0].method, server.seen[0].target, server.seen[0].body) == ("GET", "/a", b"")
    assert server.seen[0].headers["host"] == f"127.0.0.1:{server.port}"
    assert "idempotency-key" not in server.seen[0].headers


@pytest.mark.parametrize(
    ("body", "content_type", "sent"),
    [
        ({"json": {"a": ["ä", 1, None]}}, "application/json", '{"a":["ä",1,null]}'.encode()),
        ({"json": 0}, "application/json", b"0"),
        ({"form": {"a": "b c&d", "n": [1, 2], "none": None, "t": True}}, FORM, b"a=b+c%26d&n=1&n=2&t=true"),
        ({"body": "plain ä"}, "text/plain; charset=utf-8", "plain ä".encode()),
        ({"body": "<a/>", "headers": {"Content-Type": "text/xml"}}, "text/xml", b"<a/>"),
        ({"body": ""}, "text/plain; charset=utf-8", b""),
    ],
)  # fmt: skip
async def test_bodies(body: dict[str, Any], content_type: str, sent: bytes) -> None:
    async with serving({"/": answer(201)}) as server:
        output = await call({"url": server.url(), **body})
    assert output == {"status": 201, "headers": {}, "body": None, "encoding": None}
    request = server.seen[0]
    assert (request.method, request.headers["content-type"], request.body) == ("POST", content_type, sent)
    assert request.headers["content-length"] == str(len(sent))


async def test_method_query_and_headers() -> None:
    async with serving({"/a": answer(204)}) as server:
        await call(
            {
                "url": server.url("/a?x=1#part"),
                "method": "DELETE",
                "query": {"q": "a&b=c", "ids": [1, 2], "gone": None},
                "headers": {"X-Trace": "  t ", "n": 5, "flag": True, "name": "ä"},
            }
        )
    request = server.seen[0]
    assert (request.method, request.target) == ("DELETE", "/a?x=1&q=a%26b%3Dc&ids=1&ids=2")
    assert request.headers["x-trace"] == "t"
    assert (request.headers["n"], request.headers["flag"]) == ("5", "true")
    assert request.headers["name"].encode("latin-1").decode() == "ä"


async def test_the_idempotency_key_is_the_same_for_all_attempts_unless_it_is_given() -> None:
    async with serving({"/": answer()}) as server:
        for attempt in (1, 2):
            await call({"url": server.url(), "json": {}}, attempt=attempt)
        await call({"url": server.url(), "method": "PUT", "headers": {"Idempotency-Key": "mine"}})
    assert [each.headers["idempotency-key"] for each in server.seen] == [
        "ex-1:send[3]",
        "ex-1:send[3]",
        "mine",
    ]


# Secrets.


async def test_a_secret_is_sent_and_never_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKFLOW_SECRET_TOKEN", "canary-5f2c")
    monkeypatch.setenv("WORKFLOW_SECRET_ID", "user-77")

    async def echo(request: Seen, _: Any) -> bytes:
        said = json.dumps({"got": [request.headers["authorization"]], request.headers["x-both"]: 1})
        status = int(request.target.rpartition("/")[2])
        return answer(status, said, content_type="application/json", etag=request.headers["authorization"])

    spec = {"secrets": {"Authorization": "Bearer $TOKEN", "x-both": "$$${ID}:$TOKEN"}}
    async with serving({"/200": echo, "/400": echo, "/503": echo}) as server:
        output = await call({"url": server.url("/200"), **spec})
        assert server.seen[0].headers["authorization"] == "Bearer canary-5f2c"
        assert server.seen[0].headers["x-both"] == "$user-77:canary-5f2c"
        assert output["body"] == {"got": ["Bearer ***"], "$***:***": 1}
        for status, kind in ((400, "status"), (503, "unavailable")):
            error = await fails(kind, {"url": server.url(f"/{status}"), **spec})
            said = json.dumps(describe(error)) + repr(error) + str(error.as_problem())
            assert "canary" not in said and "user-77" not in said
            assert error.__cause__ is None
    assert "canary" not in json.dumps(output)


async def test_a_secret_is_found_in_other_clothes(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = 'can/ary"5f=2c'
    monkeypatch.setenv("WORKFLOW_SECRET_TOKEN", secret)
    escaped = json.dumps(secret)[1:-1].replace("/", "\\/")
    cut = "x" * (TAIL_CHARACTERS - 5) + secret
    answers = {
        "/text": answer(200, f"{escaped} {quote(secret, safe='')} {secret}"),
        "/bytes": answer(200, b"\xff" + secret.encode()),
        "/cut": answer(400, cut),
    }
    async with serving(answers) as server:  # type: ignore[arg-type]
        spec = {"secrets": {"authorization": "$TOKEN"}}
        assert (await call({"url": server.url("/text"), **spec}))["body"] == "*** *** ***"
        body = (await call({"url": server.url("/bytes"), **spec}))["body"]
        assert base64.b64decode(body) == b"\xff***"
        assert "can" not in (await fails("status", {"url": server.url("/cut"), **spec})).cause


async def test_a_secret_that_is_missing_or_broken_is_named_and_nothing_is_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TOKEN", "not for workflows")
    monkeypatch.setenv("WORKFLOW_SECRET_BROKEN", "canary\r\nx: y")
    async with serving({"/": answer()}) as server:
        for name in ("TOKEN", "BROKEN"):
            error = await fails("request", {"url": server.url(), "secrets": {"authorization": f"${name}"}})
            assert name in error.cause and "canary" not in error.cause
    assert server.seen == []


# What comes back.


@pytest.mark.parametrize(
    ("body", "content_type", "encoding", "value"),
    [
        (b'{"a": 1}', "application/problem+json; charset=utf-8", "json", {"a": 1}),
        (b'{"a": 1}', "text/plain", "text", '{"a": 1}'),
        ("grüß".encode("latin-1"), "text/plain; charset=ISO-8859-1", "text", "grüß"),
        ("grüß".encode(), "text/html", "text", "grüß"),
        (b"\x89PNG\xff", "image/png", "base64", base64.b64encode(b"\x89PNG\xff").decode()),
        (b"a\x00b", "text/plain", "base64", base64.b64encode(b"a\x00b").decode()),
        (b"abc", "text/plain; charset=punycode", "base64", base64.b64encode(b"abc").decode()),
        (b"", "application/json", None, None),
    ],
)  # fmt: skip
async def test_how_an_answer_is_read(
    body: bytes, content_type: str, encoding: str | None, value: Any
) -> None:
    async with serving({"/": answer(200, body, content_type=content_type)}) as server:
        output = await call(server.url())
    assert (output["encoding"], output["body"]) == (encoding, value)


@pytest.mark.parametrize("body", [b"{", b"NaN", b"[" * 200_000, b"\xff\xfe\xfd", b"1" * 5_000])
async def test_what_says_it_is_json_has_to_be(body: bytes) -> None:
    async with serving({"/": answer(200, body, content_type="application/json")}) as server:
        assert (await fails("output", server.url())).is_final


async def test_the_headers_that_are_kept() -> None:
    said = answer(200, "x", etag='"1"', set_cookie="s=1", x_total="5", date="today")
    async with serving({"/": said}) as server:
        assert (await call(server.url()))["headers"] == {"etag": '"1"'}
        kept = await call({"url": server.url(), "keep": ["X-Total", "set-cookie", "missing"]})
        assert kept["headers"] == {"x-total": "5", "set-cookie": "s=1"}


async def test_the_status_that_is_expected() -> None:
    async with serving({f"/{n}": answer(n, "why") for n in (200, 202, 404, 304)}) as server:
        assert (await call(server.url("/202")))["status"] == 202
        assert (await call({"url": server.url("/404"), "expect": [200, 404]}))["status"] == 404
        assert (await call({"url": server.url("/404"), "expect": ["2xx", "4xx"]}))["status"] == 404
        assert (await call({"url": server.url("/304"), "expect": 304}))["status"] == 304
        error = await fails("status", server.url("/404"))
        assert error.is_final and error.details["status"] == 404
        assert error.cause == f"GET http://127.0.0.1:{server.port} answered 404: why"
        assert (await fails("status", {"url": server.url("/202"), "expect": 200})).is_final


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 599])
async def test_a_status_that_may_pass_is_tried_again(status: int) -> None:
    async with serving({"/": answer(status)}) as server:
        assert not (await fails("unavailable", server.url())).is_final


@pytest.mark.parametrize(
    ("header", "low", "high"),
    [
        ("7", 7, 7),
        ("0", 0, 0),
        ("99999999999", 604_800, 604_800),
        ("-1", 0, 0),
        ("soon", 0, 0),
        ("٣", 0, 0),
        (format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True), 1_800, 3_600),
        (format_datetime(datetime.now(UTC) - timedelta(hours=1), usegmt=True), 0, 0),
        ("Wed, 99 Nov 9999999 99:99:99 GMT", 0, 0),
    ],
    ids=["7", "0", "too-long", "-1", "soon", "arabic", "in-an-hour", "an-hour-ago", "no-date"],
)
async def test_what_retry_after_asks_for(header: str, low: int, high: int) -> None:
    async with serving({"/": answer(503, retry_after=header), "/no": answer(404, retry_after="7")}) as server:
        asked = (await fails("unavailable", server.url())).retry_after
        assert timedelta(seconds=low) <= asked <= timedelta(seconds=high)
        assert (await fails("status", server.url("/no"))).retry_after == timedelta(0)


# Bounds.


async def endless(request: Seen, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n")
    while True:
        writer.write(b"x" * 65_536)
        await writer.drain()


async def test_a_body_beyond_the_limit_is_an_error_and_not_read() -> None:
    announced = b"HTTP/1.1 200 OK\r\ncontent-length: 999999999999999\r\n\r\n"
    answers = {
        "/endless": endless,
        "/announced": announced,
        "/100": answer(200, "x" * 100),
        "/101": answer(200, "x" * 101),
    }
    async with serving(answers) as server:  # type: ignore[arg-type]
        assert len((await call(server.url("/100"), max_body=100))["body"]) == 100
        for path in ("/endless", "/announced", "/101"):
            error = await fails("body", server.url(path), max_body=100)
            assert error.is_final and "http.max_body" in error.fix


@pytest.mark.parametrize("coding", ["gzip", "deflate", "raw"])
async def test_compressed_answers(coding: str) -> None:
    text = "many words " * 1_000
    raw = zlib.compressobj(wbits=-15)
    packed = {
        "gzip": gzip.compress(text[:5_000].encode()) + gzip.compress(text[5_000:].encode()),
        "deflate": zlib.compress(text.encode()),
        "raw": raw.compress(text.encode()) + raw.flush(),
    }[coding]
    said = answer(200, packed, content_encoding="deflate" if coding == "raw" else coding)
    async with serving({"/": said}) as server:
        assert (await call(server.url()))["body"] == text
    assert server.seen[0].headers["accept-encoding"] == "gzip, deflate"


async def test_a_bomb_is_noticed_while_it_is_small() -> None:
    bomb = gzip.compress(bytes(200 << 20))
    assert len(bomb) < 1 << 20
    empty = gzip.compress(b"") * 1_000  # nothing at all, at great length
    answers = {
        "/bomb": answer(200, bomb, content_encoding="gzip"),
        "/empty": answer(200, empty, content_encoding="gzip"),
        "/cut": answer(200, gzip.compress(b"hello" * 100)[:-9], content_encoding="gzip"),
        "/lie": answer(200, b"hello", content_encoding="gzip"),
        "/br": answer(200, b"hello", content_encoding="br"),
        "/twice": answer(200, b"hello", content_encoding="gzip, gzip"),
    }
    import tracemalloc

    async with serving(answers) as server:  # type: ignore[arg-type]
        tracemalloc.start()
        try:
            await fails("body", server.url("/bomb"), max_body=1 << 20)
            assert tracemalloc.get_traced_memory()[1] < 16 << 20
        finally:
            tracemalloc.stop()
        await fails("body", server.url("/empty"), max_body=10_000)
        await fails("network", server.url("/cut"))
        for path in ("/lie", "/br", "/twice"):
            await fails("body", server.url(path))


async def drip(request: Seen, writer: asyncio.StreamWriter) -> None:
    """A server that never is silent and never ends."""
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        writer.write(b".")
        await writer.drain()
        await asyncio.sleep(0.01)


async def silent(request: Seen, writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize("slow", [drip, silent])
async def test_the_time_of_a_request_is_bounded(slow: Callable[..., Any]) -> None:
    async with serving({"/": slow}) as server:
        error = await fails("timeout", server.url(), timeout=timedelta(seconds=0.2))
    assert "took longer than 0.2 s" in error.cause and not error.is_final


async def test_a_timeout_of_the_step_counts_instead() -> None:
    async def late(request: Seen, writer: asyncio.StreamWriter) -> bytes:
        await asyncio.sleep(0.1)
        return answer(200, "late")

    async with serving({"/": late}) as server:
        output = await call(
            server.url(), step_timeout=timedelta(minutes=1), timeout=timedelta(milliseconds=1)
        )
    assert output["body"] == "late"


async def test_headers_are_bounded() -> None:
    async def endless_headers(request: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            writer.write(b"x: " + b"y" * 1_000 + b"\r\n")
            await writer.drain()

    async with serving({"/": endless_headers}) as server:
        await fails("network", server.url())


@pytest.mark.parametrize(
    "said",
    [b"", OK + b"content-length: 10\r\n\r\nabc", b"nonsense\r\n\r\n", OK + b"bad header\r\n\r\n"],
)
async def test_a_broken_answer_may_be_tried_again(said: bytes) -> None:
    async with serving({"/": said}) as server:
        assert not (await fails("network", server.url())).is_final


async def test_nobody_listens() -> None:
    async with serving() as server:
        url = server.url("/secret-path?key=canary")
    error = await fails("connect", url)
    assert not error.is_final
    assert "canary" not in str(describe(error)) and "secret-path" not in str(describe(error))
    assert not (await fails("connect", "http://nobody.invalid/")).is_final


# Where it leads.


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f.0.0.1", "017700000001", "[::ffff:127.0.0.1]"],
)
async def test_loopback_is_refused_in_every_spelling(host: str) -> None:
    async with serving({"/": answer(200, "inside")}) as server:
        with pytest.raises(AddressRefused) as caught:
            await call(server.url(host=host), allow=())
        assert "http.allow" in caught.value.fix
    assert server.seen == []


async def test_a_name_is_resolved_once_and_the_checked_address_is_used() -> None:
    asked: list[str] = []

    async def rebinding(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["169.254.169.254"]

    async with serving({"/": answer(200, "hello")}) as server:
        output = await call(server.url(host="api.test"), resolve=rebinding)
        assert output["body"] == "hello"
        assert asked == ["api.test"]
        assert server.seen[0].headers["host"] == f"api.test:{server.port}"
        with pytest.raises(AddressRefused, match=r"api\.test leads to 169\.254\.169\.254"):
            await call(server.url(host="api.test"), resolve=rebinding)


async def test_one_private_address_among_public_ones_refuses_the_name() -> None:
    async with serving({"/": answer(200, "inside")}) as server:
        with pytest.raises(AddressRefused):
            await call(server.url(host="a.test"), resolve=names(a_test=["8.8.8.8", "127.0.0.1"]), allow=())
    assert server.seen == []


async def test_the_next_checked_address_is_tried() -> None:
    async with serving({"/": answer(200, "hello")}) as server:
        resolve = names(a_test=["127.0.0.99", "::1", "127.0.0.1"])
        assert (await call(server.url(host="a.test"), resolve=resolve))["body"] == "hello"


async def test_a_host_that_the_operator_names_may_be_private() -> None:
    async with serving({"/": answer(200, "hello")}) as server:
        resolve = names(a_internal=["127.0.0.1"])
        url = server.url(host="a.internal")
        assert (await call(url, resolve=resolve, allow=("*.internal",)))["body"] == "hello"
        with pytest.raises(AddressRefused):
            await call(url, resolve=resolve, allow=("b.internal",))


async def test_no_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving({"/": answer(200, "proxy")}) as proxy, serving({"/": answer(200, "server")}) as server:
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url())
        assert (await call(server.url()))["body"] == "server"
    assert proxy.seen == []


# Redirects.


def to(location: str, status: int = 302) -> bytes:
    return answer(status, "elsewhere", location=location)


@pytest.mark.parametrize(
    "location",
    [
        "http://169.254.169.254/latest/meta-data",
        "http://10.0.0.1/",
        "http://[::ffff:10.0.0.1]/",
        "//192.168.0.1/",
        "http://0.0.0.0/",
    ],
)
async def test_a_redirect_to_an_address_inside_is_refused(location: str) -> None:
    async with serving({"/": to(location)}) as server:
        with pytest.raises(AddressRefused) as caught:
            await call(server.url())
    assert caught.value.retry_type == "address"


async def test_the_name_of_a_redirect_is_checked_as_well() -> None:
    async with serving() as server:
        server.answers["/"] = to(server.url("/x", host="b.test"))
        resolve = names(a_test=["127.0.0.1"], b_test=["10.0.0.1"])
        with pytest.raises(AddressRefused, match=r"b\.test leads to 10\.0\.0\.1"):
            await call(server.url(host="a.test"), resolve=resolve)


async def test_redirects_are_followed_to_a_limit() -> None:
    async with serving({"/loop": to("/loop"), "/ok": answer(200, "ok")}) as server:
        server.answers |= {"/1": to("/2"), "/2": to(server.url("/3")), "/3": to("ok?q=1")}
        assert (await call(server.url("/1")))["body"] == "ok"
        assert server.seen[-1].target == "/ok?q=1"
        server.seen.clear()
        error = await fails("redirect", server.url("/loop"))
        assert error.is_final and len(server.seen) == 6
        await fails("redirect", {"url": server.url("/1"), "redirects": 2})
        await fails("status", {"url": server.url("/1"), "redirects": 0})
        assert (await call({"url": server.url("/1"), "expect": 302}))["headers"]["location"] == "/2"


@pytest.mark.parametrize("location", ["ftp://a.test/", "http://u:canary@a.test/", "http://", "//[", "/a b"])
async def test_a_redirect_to_no_url_is_refused(location: str) -> None:
    async with serving({"/": to(location)}) as server:
        error = await fails("redirect", server.url())
    assert "canary" not in str(describe(error))


@pytest.mark.parametrize(
    ("status", "method", "then"),
    [
        (301, "POST", "GET"), (302, "POST", "GET"), (303, "POST", "GET"), (307, "POST", "POST"),
        (308, "POST", "POST"), (301, "PUT", "PUT"), (302, "PATCH", "PATCH"), (303, "PUT", "GET"),
        (307, "DELETE", "DELETE"), (303, "DELETE", "GET"), (301, "GET", "GET"), (303, "HEAD", "HEAD"),
        (302, "HEAD", "HEAD"),
    ],
)  # fmt: skip
async def test_the_method_after_a_redirect(status: int, method: str, then: str) -> None:
    async with serving({"/": to("/then", status), "/then": answer(200)}) as server:
        body = {} if method in ("GET", "HEAD", "DELETE") else {"json": {"a": 1}}
        await call({"url": server.url(), "method": method, **body})
    second = server.seen[1]
    assert second.method == then
    assert second.body == (b'{"a":1}' if body and then == method else b"")
    assert ("content-type" in second.headers) == bool(body and then == method)
    assert ("idempotency-key" in second.headers) == (then not in ("GET", "HEAD"))


async def test_secrets_stay_with_the_origin_they_were_meant_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKFLOW_SECRET_TOKEN", "canary")
    spec = {"secrets": {"authorization": "$TOKEN", "x-mine": "$TOKEN"}, "headers": {"x-open": "yes"}}
    async with serving({"/": answer(200)}) as other, serving({"/here": answer(200)}) as server:
        server.answers |= {"/same": to("/here"), "/away": to(other.url()), "/back": to(other.url("/back"))}
        other.answers["/back"] = to(server.url("/here"))
        for path in ("/same", "/away", "/back"):
            await call({"url": server.url(path), **spec})
    assert server.seen[1].headers["x-mine"] == "canary"  # /here, behind /same
    assert all("canary" not in str(each.headers) and each.headers["x-open"] == "yes" for each in other.seen)
    assert "authorization" not in server.seen[-1].headers  # /here, behind the way around


# TLS.


@pytest.fixture
def trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., ssl.SSLContext]:
    """What a server needs to be one that this process trusts."""
    authority = Authority("tests")
    (tmp_path / "ca.pem").write_text(authority.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))

    def context(*hosts: str) -> ssl.SSLContext:
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.load_cert_chain(*authority.issue(hosts[0], hosts).written(tmp_path, hosts[0]))
        return made

    return context


async def test_tls_is_for_the_name_and_the_connection_for_the_address(
    trusted: Callable[..., ssl.SSLContext],
) -> None:
    async with serving({"/": answer(200, "safe")}, context=trusted("api.test")) as server:
        resolve = names(api_test=["127.0.0.1"], other_test=["127.0.0.1"])
        output = await call(server.url(host="api.test", scheme="https"), resolve=resolve)
        assert output["body"] == "safe"
        assert server.names == ["api.test"]
        error = await fails("connect", server.url(host="other.test", scheme="https"), resolve=resolve)
        assert "CERTIFICATE_VERIFY_FAILED" in error.cause
        assert len(server.seen) == 1


async def test_a_stranger_is_not_trusted(
    trusted: Callable[..., ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving({"/": answer(200)}, context=trusted("api.test")) as server:
        monkeypatch.delenv("SSL_CERT_FILE")
        url = server.url(host="api.test", scheme="https")
        error = await fails("connect", url, resolve=names(api_test=["127.0.0.1"]))
    assert "CERTIFICATE_VERIFY_FAILED" in error.cause and server.seen == []


async def test_a_redirect_never_leaves_encryption(trusted: Callable[..., ssl.SSLContext]) -> None:
    async with serving({"/": answer(200)}) as plain, serving(context=trusted("api.test")) as server:
        server.answers["/"] = to(plain.url())
        url = server.url(host="api.test", scheme="https")
        error = await fails("redirect", url, resolve=names(api_test=["127.0.0.1"]))
    assert "not encrypted" in error.cause and plain.seen == []


async def test_cancelling_closes_the_connection() -> None:
    closed = asyncio.Event()
    begun = asyncio.Event()

    async def waiting(request: Seen, writer: asyncio.StreamWriter) -> None:
        begun.set()
        try:
            await drip(request, writer)
        finally:
            closed.set()

    async with serving({"/": waiting}) as server:
        task = asyncio.create_task(call(server.url()))
        async with asyncio.timeout(PATIENCE_S):
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await closed.wait()

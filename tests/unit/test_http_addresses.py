"""Where `http` steps may connect: every range, every disguise, every answer of a name server."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address

import pytest

from holdfast.errors import AddressRefused, InvalidArgument
from holdfast.workflows.steps.http_addresses import Allowed, checked_addresses, why_not_public
from holdfast.workflows.steps.http_url import parse_url

pytestmark = pytest.mark.anyio

REFUSED = [
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.100.100.200",
    "100.127.255.255", "127.0.0.1", "127.255.255.254", "168.63.129.16", "169.254.0.1",
    "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.192", "192.0.2.1", "192.88.99.1",
    "192.168.1.1", "198.18.0.1", "198.19.255.255", "198.51.100.7", "203.0.113.7", "224.0.0.1",
    "239.255.255.250", "240.0.0.1", "255.255.255.255", "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1",
    "::ffff:10.0.0.1", "::ffff:a9fe:a9fe", "::ffff:0:127.0.0.1", "64:ff9b::127.0.0.1",
    "64:ff9b::169.254.169.254", "64:ff9b:1::8.8.8.8", "100::1", "2001::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:2::1", "2001:20::1", "2001:db8::1", "2002:7f00:1::",
    "2002:808:808::1", "2606:4700::5efe:127.0.0.1", "2606:4700::200:5efe:10.0.0.1", "3fff::1",
    "4000::1", "fc00::1", "fd00::1", "fd00:ec2::254", "fe80::1", "fe80::1%1", "fec0::1", "ff02::1",
]  # fmt: skip
PUBLIC = [
    "1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0",
    "126.255.255.255", "128.0.0.1", "169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0",
    "192.167.255.255", "192.169.0.0", "198.17.255.255", "198.20.0.0", "223.255.255.255",
    "2606:4700::1111", "2a00:1450::1", "64:ff9b::8.8.8.8",
]  # fmt: skip


def resolver(*addresses: str) -> tuple[list[str], object]:
    asked: list[str] = []

    async def resolve(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return addresses

    return asked, resolve


async def check(host: str, addresses: Sequence[str], *allow: str) -> list[str]:
    asked, resolve = resolver(*addresses)
    found = await checked_addresses(host, 80, Allowed(allow), resolve)  # type: ignore[arg-type]
    assert asked == [host]
    return found


@pytest.mark.parametrize("address", REFUSED)
async def test_what_is_not_public_is_refused(address: str) -> None:
    with pytest.raises(AddressRefused) as caught:
        await check("api.test", [address])
    assert caught.value.retry_type == "address"
    assert caught.value.is_final
    assert "api.test leads to" in caught.value.cause


@pytest.mark.parametrize("address", PUBLIC)
async def test_what_is_public_is_not(address: str) -> None:
    assert why_not_public(ip_address(address)) is None
    assert await check("api.test", [address]) == [str(ip_address(address))]


async def test_one_refused_answer_refuses_the_name() -> None:
    with pytest.raises(AddressRefused, match=r"10\.0\.0\.7, which is private"):
        await check("api.test", ["8.8.8.8", "1.1.1.1", "10.0.0.7"])


async def test_the_operator_allows_networks_addresses_and_hosts() -> None:
    assert await check("a.test", ["10.1.2.3"], "10.1.0.0/16") == ["10.1.2.3"]
    assert await check("a.test", ["::ffff:10.1.2.3"], "10.1.0.0/16") == ["10.1.2.3"]
    assert await check("a.test", ["::1"], "::1") == ["::1"]
    assert await check("a.test", ["192.168.0.1"], "a.test") == ["192.168.0.1"]
    assert await check("x.internal", ["192.168.0.1"], "*.internal") == ["192.168.0.1"]
    for host, addresses, allow in (
        ("a.test", ["10.2.2.3"], "10.1.0.0/16"),
        ("b.test", ["10.1.2.3"], "a.test"),
        ("internal", ["10.1.2.3"], "*.internal"),
        ("xinternal", ["10.1.2.3"], "*.internal"),
        ("a.test", ["10.1.2.3", "127.0.0.1"], "10.1.0.0/16"),
        ("a.test", ["169.254.169.254"], "10.0.0.0/8"),
    ):
        with pytest.raises(AddressRefused):
            await check(host, addresses, allow)


async def test_a_name_without_addresses_is_no_address() -> None:
    with pytest.raises(OSError, match="has no address"):
        await check("api.test", [])


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("http://api.test", ("http", "api.test", 80, "/")),
        ("HTTPS://API.Test./a?b=c#d", ("https", "api.test", 443, "/a?b=c")),
        ("https://api.test:8443?x", ("https", "api.test", 8443, "/?x")),
        ("http://[2606:4700::1111]:81/", ("http", "2606:4700::1111", 81, "/")),
        ("http://api.test/ä/%2F?q=ö&r=%C3%B6", ("http", "api.test", 80, "/%C3%A4/%2F?q=%C3%B6&r=%C3%B6")),
        ("http://2130706433/", ("http", "2130706433", 80, "/")),  # the system resolves it, and it is checked
        ("http://0x7f.1/", ("http", "0x7f.1", 80, "/")),
    ],
)
def test_urls(text: str, parts: tuple[str, str, int, str]) -> None:
    url = parse_url(text)
    assert (url.scheme, url.host, url.port, url.target) == parts


@pytest.mark.parametrize(
    "text",
    [
        "", "api.test", "/path", "//api.test/", "ftp://api.test/", "file:///etc/passwd", "gopher://api.test/",
        "http:///x", "http://:80/", "http://user@api.test/", "http://user:pass@api.test/", "http://@api.test/",
        "http://api.test\\@evil.test/", "http://api.test /", "http://api.test/a b", "http://api.test/\n",
        "http://api.test\t/", "http://api.test:0/", "http://api.test:65536/", "http://api.test:x/",
        "http://[::1", "http://[::1%25lo]/", "http://[api.test]/", "http://[::1]x/", "http://äpi.test/",
        "http://①②⑦.⓪.⓪.①/", "http://api。test/", "http://a..b/", "http://-x-/", "http://api.test/\ud800",
        "http://" + "a" * 64 + ".test/", "http://a%2eb/", "http://a,b/", " http://api.test/",
        "http://" + "a" * 300, "http://x/" + "a" * 9_000,
    ],
)  # fmt: skip
def test_what_is_no_url_for_a_request(text: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse_url(text)
    assert "pass" not in caught.value.cause.replace("password", "")


def test_a_redirect_is_relative_to_what_was_asked() -> None:
    url = parse_url("https://api.test:8443/a/b?c=d")
    assert url.follow("../e").target == "/e"
    assert url.follow("?f").target == "/a/b?f"
    assert url.follow("//other.test/x").origin == "https://other.test"
    for location in (
        "http://u@other.test/",
        "javascript:alert(1)",
        "https:\\\\other.test",
        "//[",
        "/a\r\nb: c",
    ):
        with pytest.raises(InvalidArgument):
            url.follow(location)

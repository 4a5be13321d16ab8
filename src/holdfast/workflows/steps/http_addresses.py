"""Which addresses an `http` step may connect to: public ones, and those that the operator allows.

A name is resolved once. Every address it has is checked, and the connection goes to one of those that were
checked, so that no second answer of a name server can change where it leads. One address that is refused
refuses the name: a name that is public and private at once is more likely an attack than a service.

The tables are those of RFC 6890 and its successors, written out: what `ipaddress` calls private differs
between versions of Python. For IPv6 they name what is public instead, since most of it is not in use.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from holdfast.errors import AddressRefused

Address = IPv4Address | IPv6Address
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""The addresses of a host, as text. Raises `OSError` when it has none."""

_REFUSED_V4 = [
    (IPv4Network(network), what)
    for network, what in (
        ("169.254.169.254/32", "a metadata service"),
        ("168.63.129.16/32", "a metadata service"),  # Azure's, in public space
        ("100.100.100.200/32", "a metadata service"),
        ("192.0.0.192/32", "a metadata service"),
        ("0.0.0.0/8", "this host"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "shared by a carrier"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "reserved"),
        ("192.0.2.0/24", "for documentation"),
        ("192.88.99.0/24", "a relay"),
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "for measurements"),
        ("198.51.100.0/24", "for documentation"),
        ("203.0.113.0/24", "for documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
    )
]
_REFUSED_V6 = [
    (IPv6Network(network), what)
    for network, what in (
        ("fd00:ec2::254/128", "a metadata service"),
        ("::/128", "this host"),
        ("::1/128", "loopback"),
        ("::/96", "an IPv4 address in an outdated form"),
        ("64:ff9b:1::/48", "a private translator"),
        ("100::/64", "discarded"),
        ("2001::/32", "a Teredo tunnel"),
        ("2001::/23", "reserved"),
        ("2001:db8::/32", "for documentation"),
        ("2002::/16", "a 6to4 tunnel"),
        ("3fff::/20", "for documentation"),
        ("fc00::/7", "private"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "private"),
        ("ff00::/8", "multicast"),
    )
]
_PUBLIC_V6 = IPv6Network("2000::/3")
_TRANSLATED = IPv6Network("64:ff9b::/96")  # NAT64: the last 32 bits are an IPv4 address
_ISATAP = (0x0000_5EFE, 0x0200_5EFE)


def why_not_public(address: Address) -> str | None:
    """What an address is that no step may reach by itself; None for a public one."""
    if isinstance(address, IPv4Address):
        return next((what for network, what in _REFUSED_V4 if address in network), None)
    if address in _TRANSLATED:
        return why_not_public(IPv4Address(int(address) & 0xFFFF_FFFF))
    for network, what in _REFUSED_V6:
        if address in network:
            return what
    if address not in _PUBLIC_V6:
        return "not public"
    if (int(address) >> 32) & 0xFFFF_FFFF in _ISATAP:
        return "an ISATAP tunnel"
    return None


class Allowed:
    """The operator's `http.allow`: networks, and hosts whose addresses are not looked at."""

    def __init__(self, entries: Sequence[str]) -> None:
        self._networks: list[IPv4Network | IPv6Network] = []
        self._hosts: set[str] = set()
        self._below: list[str] = []
        for entry in entries:
            try:
                self._networks.append(ip_network(entry))
            except ValueError:
                if entry.startswith("*."):
                    self._below.append(entry[1:].lower())
                else:
                    self._hosts.add(entry.lower())

    def names(self, host: str) -> bool:
        """Whether the host itself is allowed, wherever its name leads."""
        return host in self._hosts or host.endswith(tuple(self._below))

    def holds(self, address: Address) -> bool:
        """Whether the address is in an allowed network."""
        return any(address in network for network in self._networks)


async def checked_addresses(host: str, port: int, allowed: Allowed, resolve: Resolve) -> list[str]:
    """The addresses of `host`, each of them checked; `AddressRefused` if one may not be reached."""
    found = [_effective(text) for text in await resolve(host, port)]
    if not found:
        raise OSError(f"{host} has no address")
    if not allowed.names(host):
        for address in found:
            reason = None if allowed.holds(address) else why_not_public(address)
            if reason is not None:
                where = "" if host == str(address) else f"{host} leads to "
                raise AddressRefused(
                    f"{where}{address}, which is {reason} and not in `http.allow`", kind="address"
                )
    return [str(address) for address in dict.fromkeys(found)]


def _effective(text: str) -> Address:
    """The address that a connection really goes to: an IPv4 one in the clothes of IPv6 is unwrapped."""
    address = ip_address(text)
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


async def look_up(host: str, port: int) -> list[str]:
    """Ask the system, in a thread."""
    answers = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(answer[4][0]) for answer in answers]

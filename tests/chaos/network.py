"""Three hosts on one machine: network namespaces on a bridge, and partitions by dropped packets.

Needs root and iproute2 and iptables. Everything made here has a name of its own and is removed at the end.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from scripts import apt

PACKAGES = {"ip": "iproute2", "iptables": "iptables"}


class NoNetwork(Exception):
    """Hosts can not be made here; the text says why."""


class Hosts:
    """Namespaces, each with one address in a network that only this machine has."""

    def __init__(self, count: int) -> None:
        mark = secrets.token_hex(3)
        self._bridge = f"hfb{mark}"
        self._names = [f"hf{mark}{n}" for n in range(count)]
        third = 2 + secrets.randbelow(250)
        self._network = f"10.213.{third}"
        self.address = f"{self._network}.1"  # of the machine itself, where the database listens
        self.subnet = f"{self._network}.0/24"
        self._cut: set[int] = set()

    @property
    def prefixes(self) -> tuple[tuple[str, ...], ...]:
        """What to put before a command so that it runs on each host."""
        return tuple(("ip", "netns", "exec", name) for name in self._names)

    def make(self) -> None:
        """Make the bridge and the hosts."""
        _run("ip", "link", "add", self._bridge, "type", "bridge")
        _run("ip", "address", "add", f"{self.address}/24", "dev", self._bridge)
        _run("ip", "link", "set", self._bridge, "up")
        for number, name in enumerate(self._names):
            outside, inside = f"{name}o", f"{name}i"
            _run("ip", "netns", "add", name)
            _run("ip", "link", "add", outside, "type", "veth", "peer", "name", inside)
            _run("ip", "link", "set", inside, "netns", name)
            _run("ip", "link", "set", outside, "master", self._bridge, "up")
            within = ("ip", "-n", name)
            _run(*within, "address", "add", f"{self._network}.{number + 10}/24", "dev", inside)
            _run(*within, "link", "set", inside, "up")
            _run(*within, "link", "set", "lo", "up")

    def remove(self) -> None:
        """Remove everything that `make` made, whatever of it is there."""
        for number in list(self._cut):
            self.join(number)
        for name in self._names:
            # The cable too: a namespace lives on while a socket in it does.
            for command in (("ip", "link", "delete", f"{name}o"), ("ip", "netns", "delete", name)):
                with suppress(NoNetwork):
                    _run(*command)
        with suppress(NoNetwork):
            _run("ip", "link", "delete", self._bridge)

    def cut(self, number: int, *, inward: bool = True, outward: bool = True) -> None:
        """Drop every packet to (`inward`) and from (`outward`) a host, without a word to anybody.

        Always where it arrives: a packet that is dropped where it leaves is known to its sender.
        """
        self._cut.add(number)
        if inward:
            self._inward("-I", number)
        if outward:
            self._outward("-I", number)

    def join(self, number: int) -> None:
        """Let packets through again."""
        self._cut.discard(number)
        for drop in (self._inward, self._outward):
            with suppress(NoNetwork):  # one of them may never have been made
                drop("-D", number)

    def _inward(self, what: str, number: int) -> None:
        name = self._names[number]
        _run("ip", "netns", "exec", name, "iptables", what, "INPUT", "-i", f"{name}i", "-j", "DROP")

    def _outward(self, what: str, number: int) -> None:
        source = f"{self._network}.{number + 10}"
        _run("iptables", what, "INPUT", "-i", self._bridge, "-s", source, "-j", "DROP")

    def connections(self, number: int) -> list[str]:
        """The connections to the database that a host believes to have, with their timers."""
        name = self._names[number]
        told = _run("ip", "netns", "exec", name, "ss", "-Htno", "state", "established", "dst", self.address)
        return told.splitlines()


def _run(*command: str) -> str:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise NoNetwork(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
    return done.stdout


def problem() -> str | None:
    """Why hosts can not be made here, in one line with the remedy; None when they can."""
    if os.geteuid() != 0:
        return "the network partitions of the long form need root: run `sudo make chaos`"
    missing = [package for program, package in PACKAGES.items() if shutil.which(program) is None]
    if missing and apt.may_install() and (told := apt.install(*missing)):
        return told
    still = [program for program in PACKAGES if shutil.which(program) is None]
    return f"{', '.join(still)}: not installed; apt-get install {' '.join(missing)}" if still else None


@contextmanager
def hosts(count: int) -> Iterator[Hosts]:
    """Make `count` hosts for the block. Raises `NoNetwork`."""
    if why := problem():
        raise NoNetwork(why)
    made = Hosts(count)
    try:
        made.make()
        yield made
    finally:
        made.remove()

"""TCP connections to a database server that are not to be half-open for long."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Any


def watch_over(sock: Any) -> None:
    """Have the system watch over a TCP socket, as far as this platform can; anything else is left alone.

    A silent one is given up seven seconds after the last word from the other end; something that is sent
    in that time gets six seconds of its own to be acknowledged. Together they stay below fifteen.
    """
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    settings = [
        (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
        (socket.IPPROTO_TCP, "TCP_KEEPIDLE", 3),
        (socket.IPPROTO_TCP, "TCP_KEEPINTVL", 1),
        (socket.IPPROTO_TCP, "TCP_KEEPCNT", 3),
        (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", 6_000),
    ]
    with suppress(OSError):
        for level, name, value in settings:
            if hasattr(socket, name):
                sock.setsockopt(level, getattr(socket, name), value)

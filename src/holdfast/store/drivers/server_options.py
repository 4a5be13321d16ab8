"""What the stores on servers have in common to say about where they are."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import ClassVar, Self

from holdfast.store.drivers.hosts import Address
from holdfast.store.drivers.tls import TlsOptions, is_socket


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """Where a server is and how its connections are used. `password` never shows in a repr.

    `host` may be the path of a Unix socket, or its folder where the client library takes that.
    """

    scheme: ClassVar[str]

    host: str = "localhost"
    port: int
    database: str = "holdfast"
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    pool_min: int = 2
    pool_max: int = 20
    acquire_timeout: timedelta = timedelta(seconds=30)
    idle_timeout: timedelta = timedelta(minutes=10)
    max_lifetime: timedelta = timedelta(minutes=30)
    connect_timeout: timedelta = timedelta(seconds=10)
    statement_timeout: timedelta = timedelta(seconds=30)
    tls: TlsOptions = field(default_factory=TlsOptions)
    others: tuple[Address, ...] = ()
    """Further servers, one of which takes over when the first fails."""
    writable: bool = False
    """Whether a server that takes no writes is passed over."""

    @property
    def server(self) -> str:
        """The first server alone, for people."""
        return self.host if is_socket(self.host) else f"{self.host}:{self.port}"

    @property
    def place(self) -> str:
        """The servers and the database for people; no password."""
        more = "".join(f",{other.host}:{other.port}" for other in self.others)
        return f"{self.scheme}://{self.host}:{self.port}{more}/{self.database}"

    def each(self) -> tuple[Self, ...]:
        """These options for each server alone."""
        first = replace(self, others=())
        return first, *(replace(first, **other._asdict()) for other in self.others)

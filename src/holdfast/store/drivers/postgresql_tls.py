"""TLS for PostgreSQL: which certificate checks a connection makes.

`auto` verifies the server's certificate and host name for every host off loopback and asks for no TLS on
loopback and Unix sockets. There is no "prefer": a mode either holds or the connection is refused.
"""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from holdfast.errors import InvalidConfiguration


class TlsMode(StrEnum):
    """How much of the server's identity is checked."""

    AUTO = "auto"
    DISABLE = "disable"
    REQUIRE = "require"  # encrypted, but anybody could be at the other end
    VERIFY_CA = "verify-ca"
    VERIFY_FULL = "verify-full"


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsOptions:
    """The mode and the files it needs; `ca` None means the system's certificates."""

    mode: TlsMode = TlsMode.AUTO
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None


def is_loopback(host: str) -> bool:
    """Whether `host` never leaves this machine: a Unix socket folder, localhost, or a loopback address."""
    if host.startswith("/") or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def tls_context(options: TlsOptions, host: str) -> ssl.SSLContext | bool:
    """What asyncpg takes as `ssl`: False for none. Raises `InvalidConfiguration` for unreadable files."""
    mode = options.mode
    if mode is TlsMode.AUTO:
        mode = TlsMode.DISABLE if is_loopback(host) else TlsMode.VERIFY_FULL
    if mode is TlsMode.DISABLE:
        return False
    try:
        context = ssl.create_default_context(cafile=str(options.ca) if options.ca else None)
        if options.cert:
            context.load_cert_chain(str(options.cert), str(options.key) if options.key else None)
    except (OSError, ssl.SSLError) as error:
        raise InvalidConfiguration(
            f"the TLS files can not be read ({type(error).__name__})",
            where="storage.postgresql.ssl",
            fix="check the paths of ca, cert and key and that they hold PEM text",
        ) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = mode is TlsMode.VERIFY_FULL
    context.verify_mode = ssl.CERT_NONE if mode is TlsMode.REQUIRE else ssl.CERT_REQUIRED
    return context

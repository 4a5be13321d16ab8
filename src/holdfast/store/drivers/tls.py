"""TLS for database servers: which checks a connection makes, what it came to, and why it was refused.

`auto` verifies the server's certificate and host name for every host off loopback and asks for no TLS on
loopback and Unix sockets. There is no "prefer": a mode either holds or the connection is refused. TLS 1.3
comes first, and nothing below 1.2 is spoken.
"""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from holdfast.errors import InvalidConfiguration, TlsFailed


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

    def mode_for(self, host: str) -> TlsMode:
        """What `auto` means for a host; every other mode is what it is."""
        if self.mode is not TlsMode.AUTO:
            return self.mode
        return TlsMode.DISABLE if is_loopback(host) else TlsMode.VERIFY_FULL


class Encryption(NamedTuple):
    """How one connection is protected. Without TLS there is neither protocol nor cipher."""

    server: str
    mode: TlsMode
    protocol: str | None = None
    cipher: str | None = None

    @property
    def verified(self) -> str:
        """What was checked of the server: `name` (and certificate), `certificate`, or `nothing`."""
        if self.protocol is None:
            return "nothing"
        return {TlsMode.VERIFY_FULL: "name", TlsMode.VERIFY_CA: "certificate"}.get(self.mode, "nothing")


def is_socket(host: str) -> bool:
    """Whether `host` is the path of a Unix socket."""
    return host.startswith("/")


def is_loopback(host: str) -> bool:
    """Whether `host` never leaves this machine: a Unix socket, localhost, or a loopback address."""
    if is_socket(host) or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def tls_context(options: TlsOptions, host: str, where: str) -> ssl.SSLContext | None:
    """The context of a connection to `host`; None for none. `where` names the settings in an error.

    Raises `InvalidConfiguration` for unreadable files.
    """
    mode = options.mode_for(host)
    if mode is TlsMode.DISABLE:
        return None
    context = _trusting(options.ca, where)
    if options.cert is not None:
        _introduce(context, options.cert, options.key, where)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = mode is TlsMode.VERIFY_FULL
    context.verify_mode = ssl.CERT_NONE if mode is TlsMode.REQUIRE else ssl.CERT_REQUIRED
    return context


def _trusting(ca: Path | None, where: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=None if ca is None else str(ca))
    except OSError as error:  # of which SSLError is one
        raise _unreadable(f"{where}.ca", str(ca), error) from error


def _introduce(context: ssl.SSLContext, cert: Path, key: Path | None, where: str) -> None:
    for name, path in (("cert", cert), ("key", key)):
        try:
            if path is not None:
                path.read_bytes()
        except OSError as error:
            raise _unreadable(f"{where}.{name}", str(path), error) from error
    try:
        # Asked for only where the key has one; without an answer it would be asked of the terminal.
        context.load_cert_chain(str(cert), None if key is None else str(key), password=lambda: "")
    except (OSError, ValueError) as error:
        raise InvalidConfiguration(
            f"the certificate and key of this client can not be used ({_reason(error)})",
            where=f"{where}.cert",
            fix=f"{where}.key has to be the PEM key of exactly this certificate, and have no passphrase",
        ) from error


def _unreadable(setting: str, path: str, error: OSError) -> InvalidConfiguration:
    return InvalidConfiguration(
        f"{setting}: {path} can not be read ({_reason(error)})",
        where=setting,
        fix=f"check that {setting} is the path of a PEM file that this user may read",
    )


def _reason(error: BaseException) -> str:
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None)
    return str(reason) if reason else type(error).__name__


# What a connection came to.


def encryption_of(transport: Any, server: str, options: TlsOptions, host: str) -> Encryption:
    """How the connection on `transport` is protected."""
    session = None if transport is None else transport.get_extra_info("ssl_object")
    if session is None:
        return Encryption(server, TlsMode.DISABLE)
    cipher = session.cipher()
    return Encryption(server, options.mode_for(host), session.version(), cipher and cipher[0])


# Why it was refused. Told apart by OpenSSL's codes and reasons, never by texts.

HANDSHAKE = "handshake"
"""The reason of a failure that OpenSSL has no better word for."""

_CA_FIX = "name the certificate that signs the server's in {where}.ca"
_SERVER_FIX = "renew the certificate of the server"
_VERIFICATION = {
    9: ("not-yet-valid", "its certificate is not valid yet", "look at both clocks, or " + _SERVER_FIX),
    10: ("expired", "its certificate has expired", _SERVER_FIX),
    18: ("self-signed", "its certificate is signed by itself alone", _CA_FIX),
    23: ("revoked", "its certificate was revoked", _SERVER_FIX),
    62: (
        "wrong-host",
        "its certificate is for another name",
        "connect by a name that stands in the certificate, or give the server a certificate for this one",
    ),
}
_UNTRUSTED = ("unknown-ca", "nobody that is trusted here has signed its certificate", _CA_FIX)
_UNTRUSTED_CODES = {2, 7, 19, 20, 21, 24}
_NO_TLS = (
    "no-tls",
    "the server speaks no TLS",
    "turn TLS on at the server; only over a network that nobody else can reach: {where}.mode disable",
)
_PROTOCOL = (
    "protocol",
    "it speaks no TLS that is safe: 1.2 or newer is needed",
    "allow TLS 1.3 at the server, at least 1.2",
)
_CLIENT = (
    "client-certificate",
    "it does not take this client's certificate, or wants one",
    "set {where}.cert and {where}.key to a certificate that the server's authority has signed",
)
_CUT_OFF = (
    "client-certificate",
    "the server ended the connection at once, as it does with a client whose certificate it does not take",
    _CLIENT[2],
)
_REASONS = {
    "WRONG_VERSION_NUMBER": _NO_TLS,
    "UNSUPPORTED_PROTOCOL": _PROTOCOL,
    "NO_PROTOCOLS_AVAILABLE": _PROTOCOL,
    "TLSV1_ALERT_PROTOCOL_VERSION": _PROTOCOL,
    "TLSV1_ALERT_UNKNOWN_CA": _CLIENT,
    "TLSV1_ALERT_ACCESS_DENIED": _CLIENT,
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": _CLIENT,
    "SSLV3_ALERT_BAD_CERTIFICATE": _CLIENT,
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": _CLIENT,
    "SSLV3_ALERT_CERTIFICATE_REVOKED": _CLIENT,
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": _CLIENT,
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": _CLIENT,
}


def tls_failure(
    error: BaseException, options: TlsOptions, host: str, place: str, where: str
) -> TlsFailed | None:
    """Our error where it was TLS that failed, anywhere in the causes of `error`; None otherwise.

    `where` names the settings of the connection: the fix has them.
    """
    seen = error
    for _ in range(10):
        if isinstance(seen, ssl.SSLError):
            return _failed(_explain(seen), options, host, place, where)
        following = seen.__cause__ or seen.__context__
        if following is None:
            return None
        seen = following
    return None


def no_tls(options: TlsOptions, host: str, place: str, where: str) -> TlsFailed:
    """Our error for a server that was asked for TLS and has none."""
    return _failed(_NO_TLS, options, host, place, where)


def cut_off(options: TlsOptions, host: str, place: str, where: str) -> TlsFailed | None:
    """Our error for a connection that was lost before the login; None where no certificate can be why."""
    if options.cert is None or options.mode_for(host) is TlsMode.DISABLE:
        return None
    return _failed(_CUT_OFF, options, host, place, where)


def _explain(error: ssl.SSLError) -> tuple[str, str, str]:
    if isinstance(error, ssl.SSLCertVerificationError):
        code = 62 if error.verify_code == 64 else error.verify_code  # 64: the same for an address
        if code in _UNTRUSTED_CODES:
            return _UNTRUSTED
        unnamed = ("certificate", f"its certificate does not hold (code {code})", _SERVER_FIX)
        return _VERIFICATION.get(code, unnamed)
    unnamed = (HANDSHAKE, f"the handshake failed ({error.reason or 'no reason given'})", _PROTOCOL[2])
    return _REASONS.get(error.reason or "", unnamed)


def _failed(told: tuple[str, str, str], options: TlsOptions, host: str, place: str, where: str) -> TlsFailed:
    reason, cause, fix = told
    mode = options.mode_for(host)
    return TlsFailed(
        f"no TLS connection to {host} (mode {mode}): {cause}",
        where=place,
        fix=fix.format(where=where),
        reason=reason,
        mode=str(mode),
        host=host,
    )

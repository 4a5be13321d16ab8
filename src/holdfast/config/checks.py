"""What no single setting can tell: values that contradict each other, or that are unwise together."""

from __future__ import annotations

from collections.abc import Sequence

from holdfast.config.hosts import hosts_of
from holdfast.config.schema import Config, Mysql, Pool, Postgresql, Tls, TlsMode, is_local
from holdfast.config.sources import Entry, Findings, Layer, Notice, Origin
from holdfast.config.urls import DIRECT_URL, SERVERS, convert_store_url, direct_tls
from holdfast.errors import InvalidArgument

_PG = "storage.postgresql"
_ALWAYS_WARN: tuple[TlsMode, ...] = ("disable", "require", "verify-ca")


def check(config: Config, chosen: Layer, findings: Findings) -> None:
    """Add the problems and notices of the whole `config`, which was read from the entries in `chosen`."""
    servers: dict[str, Postgresql | Mysql] = {
        "postgresql": config.storage.postgresql,
        "mysql": config.storage.mysql,
    }
    _check_direct_url(config, chosen, findings)
    for kind, server in servers.items():
        block = SERVERS[kind]
        if not _has_hosts(server, block, chosen, findings):
            continue
        _check_pool(server.pool, block, chosen, findings)
        _check_certificates(server.ssl, block, chosen, findings)
        if config.storage.type == kind:
            _check_tls(config, server, block, chosen, findings)
        else:
            _check_unused(config, block, chosen, findings)
    if config.is_production and config.storage.migrations.auto_run:
        findings.notices.append(
            Notice(
                "note",
                "storage.migrations.auto_run is better off in production: migrate as a step of the release",
                _place(chosen, "storage.migrations.auto_run"),
            )
        )


def _place(chosen: Layer, path: str) -> str:
    return str(chosen[path].origin if path in chosen else Origin("default"))


def _check_pool(pool: Pool, block: str, chosen: Layer, findings: Findings) -> None:
    if pool.min > pool.max:
        entry = chosen.get(f"{block}.pool.min") or chosen[f"{block}.pool.max"]
        findings.problem(
            f"pool.min ({pool.min}) is more than pool.max ({pool.max})", entry, "lower min or raise max"
        )


def _check_certificates(tls: Tls, block: str, chosen: Layer, findings: Findings) -> None:
    if (tls.cert is None) != (tls.key is None):
        present = "cert" if tls.cert else "key"
        findings.problem(
            f"ssl.{present} is set alone",
            chosen[f"{block}.ssl.{present}"],
            "set ssl.cert and ssl.key together",
        )


def _has_hosts(server: Postgresql | Mysql, block: str, chosen: Layer, findings: Findings) -> bool:
    try:
        return bool(hosts_of(server.host, server.port))
    except InvalidArgument as error:
        findings.problem(f"{block}.host: {error.cause}", chosen[f"{block}.host"], error.fix)
        return False


def _check_direct_url(config: Config, chosen: Layer, findings: Findings) -> None:
    direct = config.storage.postgresql.direct_url
    if direct is None:
        return
    entry, fix = chosen[DIRECT_URL], "write postgresql://USER@HOST:PORT/DATABASE of the server itself"
    try:
        parts = convert_store_url(direct.reveal())
    except InvalidArgument as error:
        findings.problem(f"{DIRECT_URL}: {error.cause}", entry, error.fix)
        return
    if parts["storage.type"] != "postgresql":
        findings.problem(f"{DIRECT_URL} is not a PostgreSQL URL", entry, fix)
    elif f"{_PG}.schema" in parts:
        findings.problem(f"{DIRECT_URL} names a schema", entry, f"set {_PG}.schema, which holds for both")
    elif config.storage.type == "postgresql":
        tls = direct_tls(config.storage.postgresql, parts)
        hosts = hosts_of(parts.get(f"{_PG}.host", "localhost"), 1)
        _check_exposure(config, [(host.name, tls.mode_for(host.name)) for host in hosts], entry, findings)


def _check_tls(
    config: Config, server: Postgresql | Mysql, block: str, chosen: Layer, findings: Findings
) -> None:
    """Off this machine, anything less than full verification has been asked for: obey, and say so."""
    path = f"{block}.ssl.enabled" if server.ssl.enabled == "false" else f"{block}.ssl.mode"
    if path not in chosen:
        return
    hosts = hosts_of(server.host, server.port)
    modes = [(host.name, server.ssl.mode_for(host.name)) for host in hosts]
    _check_exposure(config, modes, chosen[path], findings)


def _check_exposure(
    config: Config, modes: Sequence[tuple[str, TlsMode]], entry: Entry, findings: Findings
) -> None:
    """Of hosts and modes: those that leave this machine unprotected, one line for each mode."""
    for mode in _ALWAYS_WARN:
        hosts = ", ".join(host for host, held in modes if held == mode and not is_local(host))
        if hosts and mode == "disable" and config.is_production:
            findings.problem(
                f"the connection to {hosts} would not be encrypted, in profile {config.profile}",
                entry,
                "use ssl.mode verify-full, or another profile",
            )
        elif hosts:
            effect = (
                "is not encrypted" if mode == "disable" else f"is encrypted, but checked only as {mode!r}"
            )
            findings.notices.append(
                Notice("warning", f"the connection to {hosts} {effect}", str(entry.origin))
            )


def _check_unused(config: Config, block: str, chosen: Layer, findings: Findings) -> None:
    """A server named by variables, beside a store of another kind, is a mistake waiting to be noticed."""
    for part in ("host", "database"):
        entry = chosen.get(f"{block}.{part}")
        if entry and entry.origin.source in {"environment", ".env", "bare"}:
            findings.notices.append(
                Notice(
                    "warning",
                    f"{entry.origin.name} has no effect: the store is of type {config.storage.type}",
                    str(entry.origin),
                )
            )

"""What no single setting can tell: values that contradict each other, or that are unwise together."""

from __future__ import annotations

from holdfast.config.schema import Config, TlsMode, is_local
from holdfast.config.sources import Findings, Layer, Notice, Origin
from holdfast.config.urls import DIRECT_URL, parse_store_url
from holdfast.errors import InvalidArgument

_PG = "storage.postgresql"
_ALWAYS_WARN: tuple[TlsMode, ...] = ("disable", "require", "verify-ca")


def check(config: Config, chosen: Layer, findings: Findings) -> None:
    """Add the problems and notices of the whole `config`, which was read from the entries in `chosen`."""
    _check_pool(config, chosen, findings)
    _check_certificates(config, chosen, findings)
    _check_direct_url(config, chosen, findings)
    if config.storage.type == "postgresql":
        _check_tls(config, chosen, findings)
    else:
        _check_unused(config, chosen, findings)
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


def _check_pool(config: Config, chosen: Layer, findings: Findings) -> None:
    pool = config.storage.postgresql.pool
    if pool.min > pool.max:
        entry = chosen.get(f"{_PG}.pool.min") or chosen[f"{_PG}.pool.max"]
        findings.problem(
            f"pool.min ({pool.min}) is more than pool.max ({pool.max})", entry, "lower min or raise max"
        )


def _check_certificates(config: Config, chosen: Layer, findings: Findings) -> None:
    tls = config.storage.postgresql.ssl
    if (tls.cert is None) != (tls.key is None):
        present = "cert" if tls.cert else "key"
        findings.problem(
            f"ssl.{present} is set alone", chosen[f"{_PG}.ssl.{present}"], "set ssl.cert and ssl.key together"
        )


def _check_direct_url(config: Config, chosen: Layer, findings: Findings) -> None:
    direct = config.storage.postgresql.direct_url
    if direct is None:
        return
    entry, fix = chosen[DIRECT_URL], "write postgresql://USER@HOST:PORT/DATABASE of the server itself"
    try:
        parts = parse_store_url(direct.reveal())
    except InvalidArgument as error:
        findings.problem(f"{DIRECT_URL}: {error.cause}", entry, error.fix)
        return
    if parts["storage.type"] != "postgresql":
        findings.problem(f"{DIRECT_URL} is not a PostgreSQL URL", entry, fix)
    elif f"{_PG}.schema" in parts:
        findings.problem(f"{DIRECT_URL} names a schema", entry, f"set {_PG}.schema, which holds for both")


def _check_tls(config: Config, chosen: Layer, findings: Findings) -> None:
    """Off this machine, anything less than full verification has been asked for: obey, and say so."""
    server = config.storage.postgresql
    mode = server.ssl.mode_for(server.host)
    path = f"{_PG}.ssl.enabled" if server.ssl.enabled == "false" else f"{_PG}.ssl.mode"
    if is_local(server.host) or mode not in _ALWAYS_WARN or path not in chosen:
        return
    if mode == "disable" and config.is_production:
        findings.problem(
            f"the connection to {server.host} would not be encrypted, in profile {config.profile}",
            chosen[path],
            "use ssl.mode verify-full, or another profile",
        )
        return
    effect = "is not encrypted" if mode == "disable" else f"is encrypted, but checked only as {mode!r}"
    findings.notices.append(
        Notice("warning", f"the connection to {server.host} {effect}", _place(chosen, path))
    )


def _check_unused(config: Config, chosen: Layer, findings: Findings) -> None:
    """A server named by variables, beside a store of another kind, is a mistake waiting to be noticed."""
    for part in ("host", "database"):
        entry = chosen.get(f"{_PG}.{part}")
        if entry and entry.origin.source in {"environment", ".env", "bare"}:
            findings.notices.append(
                Notice(
                    "warning",
                    f"{entry.origin.name} has no effect: the store is of type {config.storage.type}",
                    str(entry.origin),
                )
            )

"""Store URLs: taken apart into settings, and put together from them.

A URL is a whole address: what it leaves out is the default, never the value of a weaker source, so that
the password of one server is not sent to another. Forms: `sqlite:///relative.db`, `sqlite:////absolute.db`,
`postgresql://user:password@host:port/database?sslmode=…&schema=…`, `memory://`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from holdfast.config.known import nearest_name
from holdfast.config.secrets import Secret, SecretUrl, redact_url
from holdfast.errors import InvalidArgument

_PG = "storage.postgresql"
IDENTITY = (
    "storage.type",
    "storage.sqlite.path",
    *(f"{_PG}.{part}" for part in ("host", "port", "database", "username", "password")),
)
"""The settings that together say which store is meant; a URL sets or clears all of them."""

DIRECT_URL = f"{_PG}.direct_url"
"""A second way to the same server; a URL of a stronger source clears it too."""

_SCHEMES = {
    "sqlite": "sqlite",
    "postgresql": "postgresql",
    "postgres": "postgresql",
    "memory": "memory",
    "mysql": "mysql",
    "file": "file",
}
_PARAMETERS = {
    "host": f"{_PG}.host",
    "sslmode": f"{_PG}.ssl.mode",
    "sslrootcert": f"{_PG}.ssl.ca",
    "sslcert": f"{_PG}.ssl.cert",
    "sslkey": f"{_PG}.ssl.key",
    "connect_timeout": f"{_PG}.connect_timeout",
    "schema": f"{_PG}.schema",
    "direct_url": DIRECT_URL,
}
_FORMS = "write sqlite:///PATH, postgresql://USER@HOST/DATABASE or memory://"


def parse_store_url(text: str) -> dict[str, str]:
    """The settings that the URL `text` makes, as texts by path; `InvalidArgument` when it is malformed.

    The kinds to come (`mysql`, `file`) give their type alone.
    """
    scheme, separator, rest = text.strip().partition("://")
    if not separator:
        raise InvalidArgument(f"{redact_url(text)!r} is not a store URL", fix=_FORMS)
    kind = _SCHEMES.get(scheme.lower())
    if kind is None:
        meant = nearest_name(scheme.lower(), _SCHEMES)
        fix = f"did you mean {meant}://? " if meant else ""
        raise InvalidArgument(f"{scheme!r} is not a kind of store", fix=fix + _FORMS)
    if kind == "sqlite":
        return _sqlite(rest)
    if kind == "postgresql":
        return _postgresql(text.strip())
    return {"storage.type": kind}


def _sqlite(rest: str) -> dict[str, str]:
    path, _, query = rest.partition("?")
    if query:
        raise InvalidArgument("a SQLite URL takes no parameters", fix="set them below storage.sqlite")
    if path in {"", "/", "/:memory:", ":memory:"}:
        if path.endswith(":memory:"):
            return {"storage.type": "memory"}
        raise InvalidArgument("the SQLite URL names no file", fix="write sqlite:///PATH")
    if not path.startswith("/"):
        raise InvalidArgument(
            f"'sqlite://{path}' has two slashes",
            fix=f"write sqlite:///{path}, or four slashes and a full path",
        )
    from urllib.parse import unquote

    return {"storage.type": "sqlite", "storage.sqlite.path": unquote(path[1:])}


def _postgresql(text: str) -> dict[str, str]:
    from urllib.parse import parse_qsl, unquote, urlsplit

    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise InvalidArgument(
            f"{redact_url(text)!r} is not a URL",
            fix="percent-encode special characters of the password: / as %2F",
        ) from error
    if "," in parts.netloc:
        raise InvalidArgument("the URL names several hosts", fix="name the primary alone")
    found = {"storage.type": "postgresql"}
    given = {
        "host": parts.hostname,
        "port": None if port is None else str(port),
        "database": parts.path.removeprefix("/"),
        "username": parts.username,
        "password": parts.password,
    }
    found |= {f"{_PG}.{name}": unquote(value) for name, value in given.items() if value}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        found |= _parameter(name, value)
    return found


def _parameter(name: str, value: str) -> dict[str, str]:
    path = _PARAMETERS.get(name)
    if path is None:
        meant = nearest_name(name, _PARAMETERS)
        known = f"did you mean {meant}?" if meant else f"known are {', '.join(_PARAMETERS)}"
        raise InvalidArgument(f"the URL parameter {name!r} is unknown", fix=known)
    if path.endswith("ssl.mode"):
        # An explicit mode is meant for this machine's own server too.
        return {path: value, f"{_PG}.ssl.enabled": "false" if value == "disable" else "true"}
    return {path: f"{value}s" if path.endswith("timeout") and value.isdigit() else value}


def format_store_url(values: Mapping[str, Any]) -> SecretUrl:
    """The URL of the store that the converted `values` (every setting by path) describe."""
    kind = values["storage.type"]
    if kind == "sqlite":
        return SecretUrl(f"sqlite:///{values['storage.sqlite.path']}")
    if kind != "postgresql":
        return SecretUrl(f"{kind}://")
    from urllib.parse import quote, urlencode

    host, password = str(values[f"{_PG}.host"]), values[f"{_PG}.password"]
    user = quote(str(values[f"{_PG}.username"]), safe="")
    if isinstance(password, Secret):
        user += f":{quote(password.reveal(), safe='')}"
    database, port = quote(str(values[f"{_PG}.database"]), safe=""), values[f"{_PG}.port"]
    if host.startswith("/"):
        return SecretUrl(f"postgresql://{user}@:{port}/{database}?{urlencode({'host': host})}")
    bracketed = f"[{host}]" if ":" in host else host
    return SecretUrl(f"postgresql://{user}@{bracketed}:{port}/{database}")

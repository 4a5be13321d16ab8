"""Store URLs: taken apart into settings, and put together from them.

A URL is a whole address: what it leaves out is the default, never the value of a weaker source, so that
the password of one server is not sent to another. Forms: `sqlite:///relative.db`, `sqlite:////absolute.db`,
`postgresql://user:password@host:port/database?sslmode=…&schema=…`, the same with `mysql://` (or `mariadb://`)
and without a schema, `file:///relative/folder`, `file:////absolute/folder`, `memory://`. Of a server's hosts
there may be several, with commas.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from holdfast.config.hosts import hosts_of
from holdfast.config.known import nearest_name
from holdfast.config.schema import SETTINGS, Postgresql, Tls
from holdfast.config.secrets import Secret, SecretUrl, redact_whole
from holdfast.errors import InvalidArgument

if TYPE_CHECKING:
    from urllib.parse import SplitResult

_PG = "storage.postgresql"
SERVERS = {"postgresql": _PG, "mysql": "storage.mysql"}
"""The kinds of store that are servers, and where their settings stand."""

IDENTITY = (
    "storage.type",
    "storage.sqlite.path",
    "storage.file.base_path",
    *(
        f"{block}.{part}"
        for block in SERVERS.values()
        for part in ("host", "port", "database", "username", "password")
    ),
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
    "mariadb": "mysql",
    "file": "file",
}
_PATHS = {"sqlite": "storage.sqlite.path", "file": "storage.file.base_path"}
_COMMON = {
    "host": "host",
    "sslmode": "ssl.mode",
    "sslrootcert": "ssl.ca",
    "sslcert": "ssl.cert",
    "sslkey": "ssl.key",
    "connect_timeout": "connect_timeout",
    "target_session_attrs": "target_session_attrs",
}
_TLS_NAMES = ("mode", "ca", "cert", "key")
_PARAMETERS = {
    "postgresql": {**_COMMON, "schema": "schema", "direct_url": "direct_url"},
    "mysql": {**_COMMON, **{f"ssl{dash}{name}": f"ssl.{name}" for dash in "-_" for name in _TLS_NAMES}},
}
_FORMS = (
    "write sqlite:///PATH, postgresql://USER@HOST/DATABASE, mysql://USER@HOST/DATABASE, file:///FOLDER "
    "or memory://"
)


def parse_store_url(text: str) -> dict[str, str]:
    """The settings that the URL `text` makes, as texts by path; `InvalidArgument` when it is malformed."""
    scheme, separator, rest = text.strip().partition("://")
    if not separator:
        raise InvalidArgument(f"{redact_whole(text)!r} is not a store URL", fix=_FORMS)
    kind = _SCHEMES.get(scheme.lower())
    if kind is None:
        meant = nearest_name(scheme.lower(), _SCHEMES)
        fix = f"did you mean {meant}://? " if meant else ""
        raise InvalidArgument(f"{scheme!r} is not a kind of store", fix=fix + _FORMS)
    if kind in _PATHS:
        return _embedded(kind, rest)
    if kind in SERVERS:
        return _server(kind, text.strip())
    return {"storage.type": kind}


def _embedded(kind: str, rest: str) -> dict[str, str]:
    """A path on this machine."""
    called, what = ("SQLite", "file") if kind == "sqlite" else ("file", "folder")
    path, _, query = rest.partition("?")
    if query:
        raise InvalidArgument(f"a {called} URL takes no parameters", fix=f"set them below storage.{kind}")
    if kind == "sqlite" and path.removeprefix("/") == ":memory:":
        return {"storage.type": "memory"}
    if path in {"", "/"}:
        raise InvalidArgument(f"the {called} URL names no {what}", fix=f"write {kind}:///PATH")
    if not path.startswith("/"):
        raise InvalidArgument(
            f"'{kind}://{path}' has two slashes",
            fix=f"write {kind}:///{path}, or four slashes and a full path",
        )
    from urllib.parse import unquote

    return {"storage.type": kind, _PATHS[kind]: unquote(path[1:])}


def _server(kind: str, text: str) -> dict[str, str]:
    from urllib.parse import parse_qsl, unquote, urlsplit

    try:
        parts = urlsplit(text)
        several, parts = _apart(parts)
        port = parts.port
    except ValueError as error:
        raise InvalidArgument(
            f"{redact_whole(text)!r} is not a URL",
            fix="percent-encode special characters of the password: / as %2F",
        ) from error
    found = {"storage.type": kind}
    given = {
        "host": several or parts.hostname,
        "port": None if several or port is None else str(port),
        "database": parts.path.removeprefix("/"),
        "username": parts.username,
        "password": parts.password,
    }
    found |= {f"{SERVERS[kind]}.{name}": unquote(value) for name, value in given.items() if value}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        found |= _parameter(kind, name, value)
    return found


def _apart(parts: SplitResult) -> tuple[str, SplitResult]:
    """Several hosts in one text, or nothing, and the URL with the first of them alone."""
    from urllib.parse import unquote

    account, at, hosts = parts.netloc.rpartition("@")
    if "," not in hosts:
        return "", parts
    several = unquote(hosts)
    hosts_of(several, 1)
    return several, parts._replace(netloc=f"{account}{at}{hosts.partition(',')[0]}")


def _parameter(kind: str, name: str, value: str) -> dict[str, str]:
    block, known = SERVERS[kind], _PARAMETERS[kind]
    if name not in known:
        meant = nearest_name(name, known)
        hint = f"did you mean {meant}?" if meant else f"known are {', '.join(known)}"
        raise InvalidArgument(f"the URL parameter {name!r} is unknown", fix=hint)
    path = f"{block}.{known[name]}"
    if path.endswith("ssl.mode"):
        if value.lower() == "auto":
            return {f"{block}.ssl.enabled": "auto"}
        # An explicit mode is meant for this machine's own server too.
        off = value.lower() in {"disable", "disabled"}
        return {path: value, f"{block}.ssl.enabled": "false" if off else "true"}
    return {path: f"{value}s" if path.endswith("timeout") and value.isdigit() else value}


def convert_store_url(text: str) -> dict[str, Any]:
    """What the URL `text` sets, each value by the rule of its setting; raises `InvalidArgument`."""
    from holdfast.config.convert import convert

    return {
        path: convert(SETTINGS[path].rule, value, unit=None, base=Path())
        for path, value in parse_store_url(text).items()
    }


def direct_tls(server: Postgresql, given: Mapping[str, Any]) -> Tls:
    """The encryption of the direct way: the server's own, changed by what `convert_store_url` found."""
    names = ("enabled", *_TLS_NAMES)
    said = {name: given[f"{_PG}.ssl.{name}"] for name in names if f"{_PG}.ssl.{name}" in given}
    return replace(server.ssl, **said)


def format_store_url(values: Mapping[str, Any]) -> SecretUrl:
    """The URL of the store that the converted `values` (every setting by path) describe."""
    kind = values["storage.type"]
    if kind in _PATHS:
        return SecretUrl(f"{kind}:///{values[_PATHS[kind]]}")
    if kind not in SERVERS:
        return SecretUrl(f"{kind}://")
    from urllib.parse import quote, urlencode

    block = SERVERS[kind]
    host, password = str(values[f"{block}.host"]), values[f"{block}.password"]
    user = quote(str(values[f"{block}.username"]), safe="")
    if isinstance(password, Secret):
        user += f":{quote(password.reveal(), safe='')}"
    database, port = quote(str(values[f"{block}.database"]), safe=""), values[f"{block}.port"]
    if host.startswith("/"):
        return SecretUrl(f"{kind}://{user}@:{port}/{database}?{urlencode({'host': host})}")
    return SecretUrl(f"{kind}://{user}@{_places(host, int(port))}/{database}")


def _places(host: str, port: int) -> str:
    try:
        return ",".join(map(str, hosts_of(host, port)))
    except InvalidArgument:  # a problem of the host's setting, and told as such
        return f"{host}:{port}"

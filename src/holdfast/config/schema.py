"""What can be configured today: frozen values, and beside each the rule that reads it.

`Config` is what the program uses; it is built once by `holdfast.config.loader`. `SETTINGS` is the same
tree as a flat table from dotted path to rule: the loader, `config show`, the commented file of `init` and
the reference page all read it, so a setting is declared in exactly one place. Settings whose feature
comes later are listed in `holdfast.config.known`.
"""

# ruff: noqa: RUF009 - `_setting` and `_duration` are `dataclasses.field` with a rule in its metadata.
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from holdfast.config.secrets import Secret, SecretUrl

StorageType = Literal["sqlite", "postgresql", "memory"]
TlsMode = Literal["disable", "require", "verify-ca", "verify-full"]
Kind = Literal["text", "integer", "boolean", "duration", "path", "choice", "secret", "url", "mode", "names"]

_MOMENT = timedelta(milliseconds=1)
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1", ""})


class Rule(NamedTuple):
    """How one setting is read. `low` and `high` are inclusive; `later` are choices not available yet."""

    kind: Kind
    doc: str
    choices: tuple[str, ...] = ()
    spellings: Mapping[str, str] = MappingProxyType({})
    later: tuple[str, ...] = ()
    low: Any = None
    high: Any = None


class Setting(NamedTuple):
    """One line of `SETTINGS`."""

    path: str
    rule: Rule
    default: Any


def _setting(default: Any, kind: Kind, doc: str, **limits: Any) -> Any:
    return field(default=default, metadata={"rule": Rule(kind=kind, doc=doc, **limits)})


def _duration(default: timedelta, doc: str, low: timedelta = _MOMENT) -> Any:
    return _setting(default, "duration", doc, low=low)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """The connection pool of PostgreSQL."""

    min: int = _setting(2, "integer", "connections kept open", low=0, high=1000)
    max: int = _setting(20, "integer", "most connections open at once", low=1, high=1000)
    acquire_timeout: timedelta = _duration(timedelta(seconds=30), "wait for a free connection at most")
    idle_timeout: timedelta = _duration(timedelta(minutes=10), "close a connection unused for this long")
    max_lifetime: timedelta = _duration(timedelta(minutes=30), "replace a connection of this age")


def is_local(host: str) -> bool:
    """Whether `host` is this machine: a loopback address, or the folder of a Unix socket."""
    return host in _LOOPBACK or host.startswith("/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """Encryption of the connection to PostgreSQL."""

    enabled: Literal["auto", "true", "false"] = _setting(
        "auto",
        "choice",
        "auto: on for hosts other than this machine",
        choices=("auto", "true", "false"),
        spellings={"on": "true", "yes": "true", "1": "true", "off": "false", "no": "false", "0": "false"},
    )
    mode: TlsMode = _setting(
        "verify-full",
        "choice",
        "how far the server's certificate is checked",
        choices=("disable", "require", "verify-ca", "verify-full"),
        spellings={"verify_ca": "verify-ca", "verify_full": "verify-full"},
    )
    ca: Path | None = _setting(
        None, "path", "certificates that may sign the server's (default: the system's)"
    )
    cert: Path | None = _setting(None, "path", "this client's certificate")
    key: Path | None = _setting(None, "path", "the key of this client's certificate")

    def mode_for(self, host: str) -> TlsMode:
        """What to do for a connection to `host`; a path (a Unix socket) counts as this machine."""
        if self.enabled == "false" or (self.enabled == "auto" and is_local(host)):
            return "disable"
        return self.mode


@dataclass(frozen=True, slots=True, kw_only=True)
class Postgresql:
    """Where the PostgreSQL server is and how to talk to it."""

    host: str = _setting("localhost", "text", "name, address, or the folder of a Unix socket")
    port: int = _setting(5432, "integer", "TCP port", low=1, high=65535)
    database: str = _setting("holdfast", "text", "name of the database")
    username: str = _setting("holdfast", "text", "role to log in as")
    password: Secret | None = _setting(None, "secret", "password of that role")
    schema: str = _setting("holdfast", "text", "schema that holds the tables")
    pool: Pool = field(default_factory=Pool)
    ssl: Tls = field(default_factory=Tls)
    connect_timeout: timedelta = _duration(timedelta(seconds=30), "give up connecting after this long")
    direct_url: SecretUrl | None = _setting(
        None,
        "url",
        "the server itself, when the address above is a pooler in transaction mode",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sqlite:
    """The SQLite file. It is always in write-ahead mode: several processes share it."""

    path: Path = _setting(Path(".holdfast/holdfast.db"), "path", "the database file")
    busy_timeout: timedelta = _duration(timedelta(seconds=5), "wait for another process's write at most")
    synchronous: Literal["full", "extra"] = _setting(
        "full",
        "choice",
        "when a commit is on disk; less than full would lose results",
        choices=("full", "extra"),
    )
    file_mode: int = _setting(0o600, "mode", "permissions of a new database file, octal")


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """What happens after a deadlock or a serialization failure."""

    on_conflict: int = _setting(
        5, "integer", "tries of one transaction", low=0, high=100, spellings={"true": "5", "false": "0"}
    )
    backoff: timedelta = _duration(
        timedelta(milliseconds=50), "wait before the first retry", low=timedelta(0)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Migrations:
    """How the schema of the database is kept up to date."""

    enabled: bool = _setting(True, "boolean", "whether the schema is checked and migrated at all")
    auto_run: bool = _setting(True, "boolean", "whether `run` and `init` migrate by themselves")
    lock_timeout: timedelta = _duration(timedelta(seconds=60), "wait for another process's migration at most")
    dir: Path | None = _setting(None, "path", "folder of your own migrations, applied with Holdfast's")


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """The store. `url` always names the place in use: given, or put together from the parts."""

    url: SecretUrl = _setting(
        SecretUrl("sqlite:///.holdfast/holdfast.db"), "url", "sqlite:///PATH, postgresql://… or memory://"
    )
    type: StorageType = _setting(
        "sqlite",
        "choice",
        "kind of store, when no url is given",
        choices=("sqlite", "postgresql", "memory"),
        spellings={"postgres": "postgresql", "in-memory": "memory", "in_memory": "memory"},
        later=("mysql", "file"),
    )
    postgresql: Postgresql = field(default_factory=Postgresql)
    sqlite: Sqlite = field(default_factory=Sqlite)
    statement_timeout: timedelta = _duration(timedelta(seconds=30), "cancel a statement after this long")
    hints: bool = _setting(
        True, "boolean", "hear of other processes' changes at once; false: by polling alone"
    )
    retry: Retry = field(default_factory=Retry)
    migrations: Migrations = field(default_factory=Migrations)


@dataclass(frozen=True, slots=True, kw_only=True)
class EventLog:
    """Where events are written."""

    type: Literal["database"] = _setting(
        "database",
        "choice",
        "database: in the transaction of the state",
        choices=("database",),
        later=("filesystem", "memory"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Logging:
    """The program's own log."""

    level: Literal["debug", "info", "warning", "error"] = _setting(
        "info",
        "choice",
        "least severe line that is written",
        choices=("debug", "info", "warning", "error"),
        spellings={"warn": "warning"},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """How a process holds the executions it runs, and what `holdfast worker` serves."""

    lease: timedelta = _duration(
        timedelta(seconds=30), "others may take over after this long without a sign", low=timedelta(seconds=1)
    )
    queues: tuple[str, ...] = _setting(("default",), "names", "queues that a worker serves")
    classes: tuple[str, ...] = _setting(
        ("cpu", "io", "gpu"),
        "names",
        "classes of executions that a worker serves",
        choices=("cpu", "io", "gpu"),
    )
    concurrency: int = _setting(10, "integer", "executions that a worker runs at once", low=1, high=10_000)
    drain_timeout: timedelta = _duration(
        timedelta(seconds=30), "time to finish after SIGTERM; the rest is handed back", low=timedelta(0)
    )
    poll: timedelta = _duration(
        timedelta(seconds=2), "how often an idle worker looks for work, about", low=timedelta(milliseconds=50)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The whole configuration. `Config()` is the defaults: a SQLite file below the current folder."""

    profile: str | None = _setting(None, "text", "which block of `profiles` overlays this file")
    storage: Storage = field(default_factory=Storage)
    event_log: EventLog = field(default_factory=EventLog)
    logging: Logging = field(default_factory=Logging)
    worker: Worker = field(default_factory=Worker)

    @property
    def is_production(self) -> bool:
        """Whether the stricter rules of a production profile apply."""
        return self.profile in {"prod", "production"}


def _walk(section: Any, prefix: str) -> dict[str, Setting]:
    found: dict[str, Setting] = {}
    for member in fields(section):
        path = f"{prefix}{member.name}"
        if rule := member.metadata.get("rule"):
            found[path] = Setting(path=path, rule=rule, default=member.default)
        else:
            found |= _walk(member.default_factory, f"{path}.")
    return found


SETTINGS: Mapping[str, Setting] = _walk(Config, "")
"""Every setting that has an effect, by dotted path, in the order of declaration."""


def build(values: Mapping[str, Any], section: Any = Config, prefix: str = "") -> Any:
    """A `section` (by default the whole `Config`) from converted `values` by path; the rest are defaults."""
    arguments: dict[str, Any] = {}
    for member in fields(section):
        path = f"{prefix}{member.name}"
        if not member.metadata:
            arguments[member.name] = build(values, member.default_factory, f"{path}.")
        elif path in values:
            arguments[member.name] = values[path]
    return section(**arguments)

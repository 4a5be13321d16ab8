"""The settings of the store: where it is, and how the program talks to it."""

# ruff: noqa: RUF009 - `setting` and `duration` are `dataclasses.field` with a rule in its metadata.
from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from holdfast.config.rules import duration, setting
from holdfast.config.secrets import Secret, SecretUrl

SessionTarget = Literal["auto", "any", "read-write"]
StorageType = Literal["sqlite", "postgresql", "mysql", "file", "memory"]
TlsMode = Literal["disable", "require", "verify-ca", "verify-full"]

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1", ""})


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """The connection pool of a database server."""

    min: int = setting(2, "integer", "connections kept open", low=0, high=1000)
    max: int = setting(20, "integer", "most connections open at once", low=1, high=1000)
    acquire_timeout: timedelta = duration(timedelta(seconds=30), "wait for a free connection at most")
    idle_timeout: timedelta = duration(timedelta(minutes=10), "close a connection unused for this long")
    max_lifetime: timedelta = duration(timedelta(minutes=30), "replace a connection of this age")


def is_local(host: str) -> bool:
    """Whether `host` is this machine: a loopback address, or the folder of a Unix socket."""
    return host in _LOOPBACK or host.startswith("/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """Encryption of the connection to a database server."""

    enabled: Literal["auto", "true", "false"] = setting(
        "auto",
        "choice",
        "auto: on for hosts other than this machine",
        choices=("auto", "true", "false"),
        spellings={"on": "true", "yes": "true", "1": "true", "off": "false", "no": "false", "0": "false"},
    )
    mode: TlsMode = setting(
        "verify-full",
        "choice",
        "how far the server's certificate is checked",
        choices=("disable", "require", "verify-ca", "verify-full"),
        spellings={
            "verify_ca": "verify-ca",
            "verify_full": "verify-full",
            "verify_identity": "verify-full",
            "required": "require",
            "disabled": "disable",
        },
    )
    ca: Path | None = setting(None, "path", "certificates that may sign the server's (default: the system's)")
    cert: Path | None = setting(None, "path", "this client's certificate")
    key: Path | None = setting(None, "path", "the key of this client's certificate")

    def mode_for(self, host: str) -> TlsMode:
        """What to do for a connection to `host`; a path (a Unix socket) counts as this machine."""
        if self.enabled == "false" or (self.enabled == "auto" and is_local(host)):
            return "disable"
        return self.mode


_SEVERAL = "or several HOST:PORT with commas, of which the first that takes writes is used"


def _target() -> Any:
    return setting(
        "auto",
        "choice",
        "read-write: pass over a server that takes no writes; auto: where several hosts are named",
        choices=("auto", "any", "read-write"),
        spellings={"primary": "read-write", "read_write": "read-write"},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Postgresql:
    """Where the PostgreSQL server is and how to talk to it."""

    host: str = setting("localhost", "text", f"name, address, or the folder of a Unix socket; {_SEVERAL}")
    port: int = setting(5432, "integer", "TCP port", low=1, high=65535)
    database: str = setting("holdfast", "text", "name of the database")
    username: str = setting("holdfast", "text", "role to log in as")
    password: Secret | None = setting(None, "secret", "password of that role")
    schema: str = setting("holdfast", "text", "schema that holds the tables")
    pool: Pool = field(default_factory=Pool)
    ssl: Tls = field(default_factory=Tls)
    connect_timeout: timedelta = duration(timedelta(seconds=30), "give up connecting after this long")
    target_session_attrs: SessionTarget = _target()
    direct_url: SecretUrl | None = setting(
        None,
        "url",
        "the server itself, when the address above is a pooler in transaction mode",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Mysql:
    """Where the MySQL or MariaDB server is and how to talk to it."""

    host: str = setting("localhost", "text", f"name, address, or the path of a Unix socket; {_SEVERAL}")
    port: int = setting(3306, "integer", "TCP port", low=1, high=65535)
    database: str = setting("holdfast", "text", "name of the database, which holds nothing else")
    username: str = setting("holdfast", "text", "user to log in as")
    password: Secret | None = setting(None, "secret", "password of that user")
    pool: Pool = field(default_factory=Pool)
    ssl: Tls = field(default_factory=Tls)
    connect_timeout: timedelta = duration(timedelta(seconds=30), "give up connecting after this long")
    target_session_attrs: SessionTarget = _target()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sqlite:
    """The SQLite file. It is always in write-ahead mode: several processes share it."""

    path: Path = setting(Path(".holdfast/holdfast.db"), "path", "the database file")
    busy_timeout: timedelta = duration(timedelta(seconds=5), "wait for another process's write at most")
    synchronous: Literal["full", "extra"] = setting(
        "full",
        "choice",
        "when a commit is on disk; less than full would lose results",
        choices=("full", "extra"),
    )
    file_mode: int = setting(0o600, "mode", "permissions of a new database file, octal")


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """Documents in a folder, for one process at a time."""

    base_path: Path = setting(Path(".holdfast/files"), "path", "the folder of the documents")
    format: Literal["yaml", "json"] = setting(
        "yaml", "choice", "how documents are written", choices=("yaml", "json"), spellings={"yml": "yaml"}
    )
    compress: bool = setting(False, "boolean", "whether documents are compressed (gzip)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """What happens after a deadlock or a serialization failure."""

    on_conflict: int = setting(
        5, "integer", "tries of one transaction", low=0, high=100, spellings={"true": "5", "false": "0"}
    )
    backoff: timedelta = duration(timedelta(milliseconds=50), "wait before the first retry", low=timedelta(0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Migrations:
    """How the schema of the database is kept up to date."""

    enabled: bool = setting(True, "boolean", "whether the schema is checked and migrated at all")
    auto_run: bool = setting(True, "boolean", "whether `run` and `init` migrate by themselves")
    lock_timeout: timedelta = duration(timedelta(seconds=60), "wait for another process's migration at most")
    dir: Path | None = setting(None, "path", "folder of your own migrations, applied with Holdfast's")


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """The store. `url` always names the place in use: given, or put together from the parts."""

    url: SecretUrl = setting(
        SecretUrl("sqlite:///.holdfast/holdfast.db"),
        "url",
        "sqlite:///PATH, postgresql://…, mysql://…, file:///FOLDER or memory://",
    )
    type: StorageType = setting(
        "sqlite",
        "choice",
        "kind of store, when no url is given",
        choices=("sqlite", "postgresql", "mysql", "file", "memory"),
        spellings={
            "postgres": "postgresql",
            "mariadb": "mysql",
            "in-memory": "memory",
            "in_memory": "memory",
        },
    )
    postgresql: Postgresql = field(default_factory=Postgresql)
    mysql: Mysql = field(default_factory=Mysql)
    sqlite: Sqlite = field(default_factory=Sqlite)
    file: File = field(default_factory=File)
    statement_timeout: timedelta = duration(timedelta(seconds=30), "cancel a statement after this long")
    slow_query: timedelta = duration(
        timedelta(seconds=1), "log a statement that took this long, as one line of JSON without its values"
    )
    hints: bool = setting(
        True, "boolean", "hear of other processes' changes at once; false: by polling alone"
    )
    retry: Retry = field(default_factory=Retry)
    migrations: Migrations = field(default_factory=Migrations)

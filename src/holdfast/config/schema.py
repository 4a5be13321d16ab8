"""What can be configured today: frozen values, and beside each the rule that reads it.

`Config` is what the program uses; it is built once by `holdfast.config.loader`. `SETTINGS` is the same
tree as a flat table from dotted path to rule: the loader, `config show`, the commented file of `init` and
the reference page all read it, so a setting is declared in exactly one place. Settings whose feature
comes later are declared in `holdfast.config.later`.
"""

# ruff: noqa: RUF009 - `setting` and `duration` are `dataclasses.field` with a rule in its metadata.
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from holdfast.config.rules import Rule, Setting, duration, setting
from holdfast.config.secrets import Secret
from holdfast.config.storage import (
    File,
    Migrations,
    Mysql,
    Pool,
    Postgresql,
    Retry,
    Sqlite,
    Storage,
    StorageType,
    Tls,
    TlsMode,
    is_local,
)

__all__ = [
    "SETTINGS",
    "Config",
    "EventLog",
    "File",
    "Http",
    "Logging",
    "Migrations",
    "Mysql",
    "Pool",
    "Postgresql",
    "Retry",
    "Rule",
    "Scheduler",
    "Security",
    "Setting",
    "Sqlite",
    "Storage",
    "StorageType",
    "Tls",
    "TlsMode",
    "Worker",
    "build",
    "is_local",
]

_MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class EventLog:
    """Where events are written, besides or instead of the store.

    `database`: in the transaction of the state, and nowhere else. `filesystem`: a follower writes the
    committed events to `<dir>/<execution>/events.log` too; beside a memory store the files are the record.
    `memory`: with a memory store alone, and gone with the process. All but `type` concern `filesystem`.
    """

    type: Literal["database", "filesystem", "memory"] = setting(
        "database",
        "choice",
        "database: in the transaction of the state; filesystem: files below dir as well",
        choices=("database", "filesystem", "memory"),
        spellings={"file": "filesystem", "files": "filesystem", "in-memory": "memory", "in_memory": "memory"},
    )
    dir: Path = setting(Path(".holdfast/events"), "path", "the folder of the files, one folder an execution")
    fsync: Literal["always", "interval"] = setting(
        "always",
        "choice",
        "always: before a write is acknowledged; interval: about once a second",
        choices=("always", "interval"),
    )
    rotate: int = setting(64 * _MIB, "size", "begin a new file at this size", low=4096, high=1 << 40)
    compress: Literal["zstd", "gzip", "none"] = setting(
        "gzip",
        "choice",
        "how files that are full are compressed",
        choices=("zstd", "gzip", "none"),
        spellings={"gz": "gzip", "false": "none", "off": "none", "no": "none"},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheduler:
    """How schedules start workflows."""

    enabled: bool = setting(True, "boolean", "whether this process starts what schedules say")
    timezone: str = setting("UTC", "zone", "time zone of schedules that name none")
    tick: timedelta = duration(
        timedelta(seconds=1), "how often due schedules are looked for", low=timedelta(milliseconds=100)
    )
    catch_up: Literal["skip", "latest", "all"] = setting(
        "latest",
        "choice",
        "runs missed while nothing was running: none, the newest, or each",
        choices=("skip", "latest", "all"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Http:
    """What steps that call others over HTTP may do, whatever the workflow asks for.

    Private, loopback and link-local addresses are refused unless `allow` names them: by host (`api.example`,
    `*.example`), address or network (`10.1.0.0/16`).
    """

    allow: tuple[str, ...] = setting(
        (), "hosts", "private hosts and networks that http steps may call", low=0
    )
    max_body: int = setting(10 * _MIB, "size", "largest answer that is read", low=1, high=1 << 40)
    timeout: timedelta = duration(timedelta(seconds=30), "one request, unless the step says otherwise")
    connect_timeout: timedelta = duration(timedelta(seconds=10), "give up connecting after this long")


@dataclass(frozen=True, slots=True, kw_only=True)
class Logging:
    """The program's own log."""

    level: Literal["debug", "info", "warning", "error"] = setting(
        "info",
        "choice",
        "least severe line that is written",
        choices=("debug", "info", "warning", "error"),
        spellings={"warn": "warning"},
    )
    format: Literal["auto", "text", "json"] = setting(
        "auto",
        "choice",
        "auto: JSON for a worker whose log is no terminal, else text",
        choices=("auto", "text", "json"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """How a process holds the executions it runs, and what `holdfast worker` serves."""

    lease: timedelta = duration(
        timedelta(seconds=30), "others may take over after this long without a sign", low=timedelta(seconds=1)
    )
    queues: tuple[str, ...] = setting(("default",), "names", "queues that a worker serves")
    classes: tuple[str, ...] = setting(
        ("cpu", "io", "gpu"),
        "names",
        "classes of executions that a worker serves",
        choices=("cpu", "io", "gpu"),
    )
    concurrency: int = setting(10, "integer", "executions that a worker runs at once", low=1, high=10_000)
    drain_timeout: timedelta = duration(
        timedelta(seconds=30), "time to finish after SIGTERM; the rest is handed back", low=timedelta(0)
    )
    poll: timedelta = duration(
        timedelta(seconds=2), "how often an idle worker looks for work, about", low=timedelta(milliseconds=50)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Security:
    """Keys that protect secrets at rest. Each is `ID:BASE64` of 32 bytes; of several, the last one writes."""

    encryption_key: Secret | None = setting(
        None, "secret", "encrypts second factors: ID:BASE64, several separated by commas, the newest last"
    )
    api_key_pepper: Secret | None = setting(
        None, "secret", "keys the hashes of API keys; written like encryption_key"
    )
    audit_key: Secret | None = setting(
        None, "secret", "keys the chain of audit entries; written like encryption_key"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The whole configuration. `Config()` is the defaults: a SQLite file below the current folder."""

    profile: str | None = setting(None, "text", "which block of `profiles` overlays this file")
    environment: str = setting(
        "production", "text", "whose deployments decide which version a workflow's bare name starts"
    )
    storage: Storage = field(default_factory=Storage)
    event_log: EventLog = field(default_factory=EventLog)
    scheduler: Scheduler = field(default_factory=Scheduler)
    http: Http = field(default_factory=Http)
    logging: Logging = field(default_factory=Logging)
    worker: Worker = field(default_factory=Worker)
    security: Security = field(default_factory=Security)

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

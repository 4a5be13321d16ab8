"""From a configuration to a store: the one place that knows which driver stands behind which setting."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from holdfast.config.hosts import hosts_of
from holdfast.config.loader import load
from holdfast.config.schema import Config, EventLog, Mysql, Postgresql, Tls
from holdfast.config.storage import SessionTarget
from holdfast.config.urls import convert_store_url, direct_tls
from holdfast.errors import UnsupportedStorage
from holdfast.fleet.ownership import has_neighbours
from holdfast.store.options import StoreOptions
from holdfast.store.store import Store

if TYPE_CHECKING:
    from holdfast.events.files.following import LogFollower
    from holdfast.events.files.kinds import FileSystemEventLog
    from holdfast.events.files.layout import LogOptions
    from holdfast.store.drivers.base import Driver
    from holdfast.store.drivers.postgresql import PostgresqlOptions

_logger = logging.getLogger("holdfast.config")


def build_store(config: Config, *, create: bool = False) -> Store:
    """A store as configured, not yet open. `create` lets opening make a SQLite file that is not there."""
    storage = config.storage
    options = StoreOptions(
        retry_on_conflict=storage.retry.on_conflict,
        retry_backoff=storage.retry.backoff,
        migrate_lock_timeout=storage.migrations.lock_timeout,
        migrations_folder=storage.migrations.dir,
        slow_query=storage.slow_query,
        environment=config.environment,
        hints=storage.hints,
        http=config.http,
    )
    match storage.type:
        case "postgresql":
            driver = _postgresql(config)
        case "mysql":
            driver = _mysql(config)
        case "file":
            driver = _file(config, create=create)
        case "memory" if config.event_log.type == "filesystem":
            driver = _recorded(config, create=create)
        case _:
            driver = _sqlite(config, create=create)
    store = Store(driver, options, place=str(storage.url))
    _keep_log(config, store)
    return store


def ends_with_its_process(config: Config) -> bool:
    """Whether nothing of the store is left when the process ends."""
    return config.storage.type == "memory" and config.event_log.type != "filesystem"


def log_options(log: EventLog) -> LogOptions:
    """How a log in files is written, as configured."""
    from holdfast.events.files.layout import LogOptions

    return LogOptions(fsync=log.fsync, rotate=log.rotate, compress=log.compress)


def with_log(config: Config, log: FileSystemEventLog) -> Config:
    """The configuration with its event log in files."""
    chosen = EventLog(
        type="filesystem", dir=Path(log.dir), fsync=log.fsync, rotate=log.rotate, compress=log.compress
    )
    return replace(config, event_log=chosen)


def follower_for(store: Store, log: object, *, is_built: bool) -> LogFollower | None:
    """What writes the log that a program named; None where the store itself does.

    Raises `UnsupportedStorage` for files beside a store in memory that `is_built` already.
    """
    from holdfast.events.files.copying import CopiedFiles, InMemoryEventLog
    from holdfast.events.files.following import LogFollower
    from holdfast.events.files.kinds import FileSystemEventLog
    from holdfast.events.files.layout import LogOptions

    if isinstance(log, InMemoryEventLog):
        return LogFollower(store, log)
    if not isinstance(log, FileSystemEventLog) or not is_built:
        return None
    if not store.driver.shared:
        raise UnsupportedStorage(
            "the event log of a store in memory is its record: the store has to be made with it",
            where="events",
            fix='pass "memory://" instead of the open store',
        )
    options = LogOptions(fsync=log.fsync, rotate=log.rotate, compress=log.compress)
    return LogFollower(store, CopiedFiles(Path(os.path.abspath(log.dir)), options))


def _recorded(config: Config, *, create: bool) -> Driver:
    """A store in memory whose event log is its record."""
    from holdfast.events.files.record import RecordedFiles
    from holdfast.store.drivers.recorded import RecordedDriver

    base = Path(os.path.abspath(config.event_log.dir))
    record = RecordedFiles(base, log_options(config.event_log), create=create)
    return RecordedDriver(record, migrations_folder=config.storage.migrations.dir)


def _keep_log(config: Config, store: Store) -> None:
    """Have the log followed into files by the processes that run executions."""
    log, is_memory = config.event_log, config.storage.type == "memory"
    if log.type == "memory" and not is_memory:
        raise UnsupportedStorage(
            "a store on disk keeps its events with its state: they can not be in memory alone",
            where="event_log.type",
            fix="set event_log.type to database, or storage.type to memory",
        )
    if log.type == "filesystem" and not is_memory:
        from holdfast.events.files.copying import CopiedFiles
        from holdfast.events.files.following import LogFollower

        base = Path(os.path.abspath(log.dir))
        store.beside.append(LogFollower(store, CopiedFiles(base, log_options(log))))


def _sqlite(config: Config, *, create: bool) -> Driver:
    from holdfast.store.drivers.sqlite import SqliteDriver, SqliteOptions

    storage = config.storage
    if storage.type == "memory":
        return SqliteDriver(None)
    path = Path(os.path.abspath(storage.sqlite.path))
    owners = path.parent / "owners"
    return SqliteDriver(
        path,
        SqliteOptions(
            busy_timeout=storage.sqlite.busy_timeout,
            synchronous=storage.sqlite.synchronous,
            file_mode=storage.sqlite.file_mode,
            statement_timeout=storage.statement_timeout,
        ),
        create=create,
        neighbours=lambda: has_neighbours(owners),
    )


def _file(config: Config, *, create: bool) -> Driver:
    from holdfast.store.drivers.file import FileDriver
    from holdfast.store.drivers.sqlite import SqliteOptions
    from holdfast.store.files.place import Form

    storage = config.storage
    base = Path(os.path.abspath(storage.file.base_path))
    options = SqliteOptions(
        busy_timeout=storage.sqlite.busy_timeout,
        synchronous=storage.sqlite.synchronous,
        statement_timeout=storage.statement_timeout,
    )
    return FileDriver(base, Form(storage.file.format, storage.file.compress), options, create=create)


def _postgresql(config: Config) -> Driver:
    with _extra("PostgreSQL", "postgres"):
        from holdfast.store.drivers.postgresql import PostgresqlDriver, PostgresqlOptions

    server = config.storage.postgresql
    options = PostgresqlOptions(schema=server.schema, **_server(config, server))
    return PostgresqlDriver(replace(options, direct=_direct(server, options)))


def _mysql(config: Config) -> Driver:
    with _extra("MySQL", "mysql"):
        from holdfast.store.drivers.mysql import MysqlDriver, MysqlOptions

    return MysqlDriver(MysqlOptions(**_server(config, config.storage.mysql)))


@contextmanager
def _extra(what: str, extra: str) -> Iterator[None]:
    """Name the extra that has the package a database needs, when it is not there."""
    try:
        yield
    except ModuleNotFoundError as error:
        from holdfast.errors import MissingExtra

        raise MissingExtra(
            f"{what} needs the package {error.name}", fix=f'pip install "holdfast[{extra}]"'
        ) from error


def _server(config: Config, server: Postgresql | Mysql) -> dict[str, Any]:
    """What the options of all servers have in common."""
    return _addresses(server.host, server.port, server.ssl, server.target_session_attrs) | {
        "database": server.database,
        "user": server.username,
        "password": server.password.reveal() if server.password else None,
        "pool_min": server.pool.min,
        "pool_max": server.pool.max,
        "acquire_timeout": server.pool.acquire_timeout,
        "idle_timeout": server.pool.idle_timeout,
        "max_lifetime": server.pool.max_lifetime,
        "connect_timeout": server.connect_timeout,
        "statement_timeout": config.storage.statement_timeout,
    }


def _addresses(host: str, port: int, ssl: Tls, target: SessionTarget) -> dict[str, Any]:
    """One server or several, each with the encryption that its host asks for."""
    from holdfast.store.drivers.hosts import Address
    from holdfast.store.drivers.tls import TlsMode, TlsOptions

    first, *others = (
        Address(name, at, TlsOptions(mode=TlsMode(ssl.mode_for(name)), ca=ssl.ca, cert=ssl.cert, key=ssl.key))
        for name, at in hosts_of(host, port)
    )
    writable = target == "read-write" or (target == "auto" and bool(others))
    return {**first._asdict(), "others": tuple(others), "writable": writable}


def _direct(server: Postgresql, options: PostgresqlOptions) -> PostgresqlOptions | None:
    """The way around a pooler; what its URL leaves out is the default, as for every URL."""
    if server.direct_url is None:
        return None
    given = convert_store_url(server.direct_url.reveal())
    said = {path.removeprefix("storage.postgresql."): value for path, value in given.items()}
    usual, password = Postgresql(), said.get("password")
    target = said.get("target_session_attrs", server.target_session_attrs)
    return replace(
        options,
        **_addresses(
            said.get("host", usual.host), said.get("port", usual.port), direct_tls(server, given), target
        ),
        database=said.get("database", usual.database),
        user=said.get("username", usual.username),
        password=password.reveal() if password else None,
        connect_timeout=said.get("connect_timeout", options.connect_timeout),
    )


@asynccontextmanager
async def open_store(config: Config, *, migrate: bool = False) -> AsyncIterator[Store]:
    """A store as configured, open for the block; `migrate` makes it and brings its schema up to date."""
    store = build_store(config, create=migrate)
    await store.open(migrate=migrate and config.storage.migrations.enabled)
    try:
        yield store
    finally:
        await store.close()


def config_for(url: str | None) -> Config:
    """The configuration of a library user: a URL, or what the environment and files say."""
    flags = {} if url is None else {"storage.url": url}
    loaded = load(environ=os.environ, cwd=Path.cwd(), flags=flags)
    for warning in loaded.warnings:
        _logger.warning("%s (%s)", warning.message, warning.where)
    return loaded.config

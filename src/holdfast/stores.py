"""From a configuration to a store: the one place that knows which driver stands behind which setting."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from holdfast.config.loader import load
from holdfast.config.schema import Config, Postgresql
from holdfast.config.urls import parse_store_url
from holdfast.fleet.ownership import has_neighbours
from holdfast.store.store import Store, StoreOptions

if TYPE_CHECKING:
    from holdfast.store.drivers.base import Driver
    from holdfast.store.drivers.postgresql import PostgresqlOptions


def build_store(config: Config, *, create: bool = False) -> Store:
    """A store as configured, not yet open. `create` lets opening make a SQLite file that is not there."""
    storage = config.storage
    options = StoreOptions(
        retry_on_conflict=storage.retry.on_conflict,
        retry_backoff=storage.retry.backoff,
        migrate_lock_timeout=storage.migrations.lock_timeout,
        migrations_folder=storage.migrations.dir,
        hints=storage.hints,
    )
    driver = _postgresql(config) if storage.type == "postgresql" else _sqlite(config, create=create)
    return Store(driver, options, place=str(storage.url))


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


def _postgresql(config: Config) -> Driver:
    try:
        from holdfast.store.drivers.postgresql import PostgresqlDriver, PostgresqlOptions
        from holdfast.store.drivers.postgresql_tls import TlsMode, TlsOptions
    except ModuleNotFoundError as error:
        from holdfast.errors import MissingExtra

        raise MissingExtra(
            f"PostgreSQL needs the package {error.name}", fix='pip install "holdfast[postgres]"'
        ) from error

    storage = config.storage
    server = storage.postgresql
    options = PostgresqlOptions(
        host=server.host,
        port=server.port,
        database=server.database,
        user=server.username,
        password=server.password.reveal() if server.password else None,
        schema=server.schema,
        pool_min=server.pool.min,
        pool_max=server.pool.max,
        acquire_timeout=server.pool.acquire_timeout,
        idle_timeout=server.pool.idle_timeout,
        max_lifetime=server.pool.max_lifetime,
        connect_timeout=server.connect_timeout,
        statement_timeout=storage.statement_timeout,
        tls=TlsOptions(
            mode=TlsMode(server.ssl.mode_for(server.host)),
            ca=server.ssl.ca,
            cert=server.ssl.cert,
            key=server.ssl.key,
        ),
    )
    return PostgresqlDriver(replace(options, direct=_direct(server, options)))


def _direct(server: Postgresql, options: PostgresqlOptions) -> PostgresqlOptions | None:
    """The way around a pooler; what its URL leaves out is the default, as for every URL."""
    from holdfast.store.drivers.postgresql_tls import TlsMode

    if server.direct_url is None:
        return None
    parts = parse_store_url(server.direct_url.reveal())
    given = {path.removeprefix("storage.postgresql."): text for path, text in parts.items()}
    host = given.get("host", Postgresql().host)
    files = {name: Path(given[f"ssl.{name}"]) for name in ("ca", "cert", "key") if f"ssl.{name}" in given}
    return replace(
        options,
        host=host,
        port=int(given.get("port", Postgresql().port)),
        database=given.get("database", Postgresql().database),
        user=given.get("username", Postgresql().username),
        password=given.get("password"),
        tls=replace(options.tls, mode=TlsMode(given.get("ssl.mode") or server.ssl.mode_for(host)), **files),
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
    return load(environ=os.environ, cwd=Path.cwd(), flags=flags).config

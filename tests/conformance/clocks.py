"""The clock of a store, stopped or hurried by a test: what its statements take for the present."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from holdfast.store.rows import microseconds
from holdfast.store.store import Store
from tests.conformance.hands import is_mysql, is_sqlite, moment_text


def stop_at(store: Store, at: datetime) -> None:
    """From now on it is `at` for this store object, until it is told otherwise."""
    wanted = microseconds(at)
    if is_sqlite(store):
        _inner(store)._clock = lambda: wanted
    else:
        _use(store, moment_text(store, wanted))


def run_from(store: Store, at: datetime, since: float, speed: float) -> None:
    """Let the store's clock have shown `at` at the system's time `since`, and go `speed` times as fast."""
    begin, since_us = microseconds(at), round(since * 1_000_000)
    if is_sqlite(store):
        _inner(store)._clock = lambda: begin + round((time.time() * 1_000_000 - since_us) * speed)
    elif is_mysql(store):
        passed = f"TIMESTAMPDIFF(MICROSECOND, {moment_text(store, since_us)}, UTC_TIMESTAMP(6))"
        _use(store, f"({moment_text(store, begin)} + INTERVAL ROUND({passed} * {speed}) MICROSECOND)")
    else:
        passed = f"(clock_timestamp() - {moment_text(store, since_us)})"
        _use(store, f"({moment_text(store, begin)} + {passed} * {speed})")


def utc(text: str) -> datetime:
    """A time such as `2026-03-29 00:59`."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def _inner(store: Store) -> Any:
    return store.driver.inner  # type: ignore[attr-defined]


def _use(store: Store, now: str) -> None:
    driver = _inner(store)
    store.driver.now = driver.now = now
    statements = driver._scripts._statements if is_mysql(store) else driver._sql
    fresh = type(statements)(driver.dialect, schema=driver.schema, now=now)
    if is_mysql(store):
        driver._scripts._statements = fresh
    else:
        driver._sql = fresh

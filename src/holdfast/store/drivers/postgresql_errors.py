"""PostgreSQL's SQLSTATEs and the client's own failures as our errors; codes only, never texts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg

from holdfast.errors import (
    AccessDenied,
    ConstraintViolated,
    DamagedData,
    HoldfastError,
    InvalidData,
    NoStore,
    PoolerDetected,
    ReadOnlyServer,
    RetryLater,
    StatementTimeout,
    StoreUnavailable,
    TransactionConflict,
)

_BY_STATE: dict[str, tuple[type[HoldfastError], str]] = {
    "40001": (TransactionConflict, "the transaction collided with another one"),
    "40P01": (TransactionConflict, "the transaction was part of a deadlock"),
    "55P03": (RetryLater, "a lock could not be had in time"),
    "57014": (StatementTimeout, "the statement was cancelled"),
    "42501": (AccessDenied, "the database user lacks a privilege"),
    "3D000": (NoStore, "the database does not exist"),
    "3F000": (NoStore, "the schema does not exist in this database"),
    "42P01": (NoStore, "the tables do not exist in this database"),
    "26000": (PoolerDetected, "a prepared statement is gone, as behind a pooler in transaction mode"),
    "42P05": (
        PoolerDetected,
        "a prepared statement is there already, as behind a pooler in transaction mode",
    ),
    "25006": (ReadOnlyServer, "the server is read-only"),
    "53300": (StoreUnavailable, "the server takes no more connections"),
    "53100": (RetryLater, "the server's disk is full"),
    "54000": (InvalidData, "a value is too long for the index of its column"),
}
_BY_CLASS: dict[str, tuple[type[HoldfastError], str]] = {
    "08": (StoreUnavailable, "the connection to the database broke"),
    "22": (InvalidData, "the database refused a value"),
    "23": (ConstraintViolated, "a value breaks a constraint"),
    "28": (AccessDenied, "the database refused the user or the password"),
    "40": (TransactionConflict, "the transaction was rolled back"),
    "53": (StoreUnavailable, "the server is out of resources"),
    "57": (StoreUnavailable, "the server is shutting down or starting"),
    "58": (StoreUnavailable, "the server reported a system error"),
    "XX": (DamagedData, "the server reported an internal error"),
}
_FIX = {
    "53300": "lower storage.postgresql.pool.max of each process, or raise the server's max_connections",
    "53100": "make room on the server's disk; what was acknowledged is safe",
}


FAILURES = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)
"""What asyncpg raises. `InternalClientError`: the server ended the session while its connection lay in the
pool, and the client had read the message of that but not the end of the connection."""


def is_connection_lost(error: BaseException) -> bool:
    """Whether the connection is gone, so that what was under way has no known outcome."""
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        return state.startswith(("08", "57P")) or isinstance(error, asyncpg.PostgresConnectionError)
    if isinstance(error, asyncpg.InterfaceError):
        return not isinstance(error, asyncpg.DataError | ValueError)
    return isinstance(error, OSError | TimeoutError | asyncpg.InternalClientError)


def translate(error: BaseException, where: str) -> HoldfastError:
    """Our error for a failure of asyncpg, of the server, or of the network."""
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        found = _BY_STATE.get(state) or _BY_CLASS.get(state[:2])
        if found is None:
            return HoldfastError(f"PostgreSQL refused the operation ({state}: {error})", where=where)
        branch, cause = found
        constraint = getattr(error, "constraint_name", None)
        named = f" {constraint}" if constraint else ""
        return branch(f"{cause}{named} ({state})", where=where, fix=_FIX.get(state), constraint=constraint)
    if isinstance(error, asyncpg.InterfaceError) and isinstance(error, ValueError):
        return InvalidData("a value does not fit its column", where=where)
    if isinstance(error, TimeoutError):
        return StatementTimeout("the server did not answer in time", where=where)
    return StoreUnavailable(f"the database can not be reached ({type(error).__name__})", where=where)


@contextmanager
def detecting_poolers(where: str) -> Iterator[None]:
    """Say so when what answers refuses the settings of a connection, which a server never does."""
    try:
        yield
    except StoreUnavailable as error:
        state = getattr(error.__cause__, "sqlstate", None)
        if state == asyncpg.ProtocolViolationError.sqlstate:
            raise PoolerDetected(
                f"the address does not take a connection with settings, as a pooler ({state})", where=where
            ) from error
        raise


@contextmanager
def translated(where: str) -> Iterator[None]:
    """Translate what a block raises."""
    try:
        yield
    except FAILURES as error:
        raise translate(error, where) from error

"""SQLite's result codes as our errors. Codes only: SQLite's texts change between releases."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import apsw

from holdfast.errors import (
    AccessDenied,
    ConstraintViolated,
    DamagedData,
    HoldfastError,
    InvalidData,
    NoStore,
    RetryLater,
    StatementTimeout,
    StoreUnavailable,
    TransactionConflict,
    UnsupportedStorage,
)

_BRANCH: dict[int, tuple[type[HoldfastError], str]] = {
    apsw.SQLITE_BUSY: (StoreUnavailable, "the database stayed locked by another process"),
    apsw.SQLITE_LOCKED: (TransactionConflict, "the table is locked"),
    apsw.SQLITE_INTERRUPT: (StatementTimeout, "the statement was interrupted"),
    apsw.SQLITE_FULL: (RetryLater, "the disk is full"),
    apsw.SQLITE_IOERR: (StoreUnavailable, "the disk reported an error"),
    apsw.SQLITE_NOMEM: (RetryLater, "SQLite ran out of memory"),
    apsw.SQLITE_CANTOPEN: (NoStore, "the database file can not be opened"),
    apsw.SQLITE_READONLY: (AccessDenied, "the database is not writable"),
    apsw.SQLITE_PERM: (AccessDenied, "access to the database file is denied"),
    apsw.SQLITE_AUTH: (AccessDenied, "access is denied"),
    apsw.SQLITE_CORRUPT: (DamagedData, "the database file is damaged"),
    apsw.SQLITE_NOTADB: (DamagedData, "the file is not a SQLite database"),
    apsw.SQLITE_TOOBIG: (InvalidData, "a value is too large for SQLite"),
    apsw.SQLITE_MISMATCH: (InvalidData, "a value has the wrong type"),
    apsw.SQLITE_RANGE: (InvalidData, "a statement has the wrong number of values"),
    apsw.SQLITE_SCHEMA: (TransactionConflict, "the schema changed meanwhile"),
    apsw.SQLITE_NOLFS: (UnsupportedStorage, "the file system can not hold the database"),
}

_FIX = {
    apsw.SQLITE_BUSY: "raise storage.sqlite.busy_timeout, or end what keeps the file for so long",
    apsw.SQLITE_FULL: "make room on the disk; what was acknowledged is safe",
}

# After these nothing in the handle can be trusted: it is closed, and what was written is read again.
_DEADLY = frozenset({apsw.SQLITE_IOERR, apsw.SQLITE_CORRUPT, apsw.SQLITE_NOTADB, apsw.SQLITE_NOMEM})


def primary_code(error: apsw.Error) -> int:
    """The primary result code, 0 for an error that did not come from SQLite itself."""
    return int(getattr(error, "result", 0) or 0)


def is_deadly(error: apsw.Error) -> bool:
    """Whether the connection has to be closed after `error`."""
    return primary_code(error) in _DEADLY


def translate(error: apsw.Error, where: str) -> HoldfastError:
    """Our error for `error`; the place is the operation that was under way."""
    code = primary_code(error)
    extended = int(getattr(error, "extendedresult", code) or code)
    if code == apsw.SQLITE_CONSTRAINT:
        kind = str(apsw.mapping_extended_result_codes.get(extended, "SQLITE_CONSTRAINT"))
        branch = (
            InvalidData if extended == apsw.SQLITE_CONSTRAINT_DATATYPE else ConstraintViolated
        )  # STRICT tables report a wrong type as a constraint
        return branch(f"a value breaks a constraint ({kind})", where=where, constraint=kind)
    found = _BRANCH.get(code)
    if found is None:
        return HoldfastError(f"SQLite refused the operation (code {extended}: {error})", where=where)
    branch_type, cause = found
    return branch_type(f"{cause} (code {extended})", where=where, fix=_FIX.get(code))


@contextmanager
def translated(where: str) -> Iterator[None]:
    """Translate what a block raises. Not for the flush, which has to look at the error first."""
    try:
        yield
    except apsw.Error as error:
        raise translate(error, where) from error

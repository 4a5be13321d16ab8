"""HF2xxx: the store, its connections and its migrations."""

from __future__ import annotations

from holdfast.errors.root import Conflict, DamagedData, Failed, Misuse, NotFound, RetryLater


class StoreUnavailable(RetryLater):
    """The store cannot be reached, or refuses connections for now."""

    code = "HF2001"


class PoolTimeout(RetryLater):
    """No connection became free within the acquire timeout."""

    code = "HF2002"
    default_fix = "raise storage.postgresql.pool.max or lower the concurrency"


class NoStore(NotFound):
    """There is no database at the configured place."""

    code = "HF2003"
    default_fix = "holdfast storage init        or point --storage at an existing database"


class StatementTimeout(RetryLater):
    """A statement took longer than the statement timeout and was cancelled."""

    code = "HF2004"
    default_fix = "raise storage.statement_timeout, or look for what blocks the database"


class TransactionConflict(RetryLater):
    """A deadlock or serialization failure; nothing was changed and the transaction may run again."""

    code = "HF2005"
    default_fix = "run the transaction again"


class UnknownOutcome(RetryLater):
    """The connection was lost while COMMIT was under way: the transaction may or may not have happened."""

    code = "HF2006"
    default_fix = "read what the transaction would have written before doing it again"


class UnsupportedStorage(Misuse):
    """The place or the server cannot hold a store safely (network file system, too old a server …)."""

    code = "HF2010"
    default_fix = "choose a local file system or a supported server"


class AccessDenied(Misuse):
    """The database refused the user or lacks a privilege."""

    code = "HF2011"
    default_fix = "check the user, the password and the grants"


class ConstraintViolated(Conflict):
    """A value breaks a constraint of the schema; `details['constraint']` names it."""

    code = "HF4002"


class InvalidData(Misuse):
    """The database refused a value as malformed or out of range."""

    code = "HF2012"
    default_fix = "correct the value"


class PoolerDetected(Misuse):
    """The address is a pooler in transaction mode, which takes no session settings or prepared statements."""

    code = "HF2020"
    default_fix = "keep the address and set storage.postgresql.direct_url to the server itself"


class DirectUrlElsewhere(Misuse):
    """`storage.postgresql.direct_url` leads to another database than the store's address."""

    code = "HF2021"
    default_fix = "let both lead to the same database of the same server"


class TlsFailed(StoreUnavailable):
    """TLS with the server did not come about, and nothing goes without it; `details["reason"]` says why."""

    code = "HF2022"
    default_fix = "compare the server's certificate with the settings below ssl"


class ReadOnlyServer(StoreUnavailable):
    """The server takes no writes: it is a standby, or was made read-only. Its connections are given up."""

    code = "HF2023"
    default_fix = "name all servers in the host, so that the one that takes writes is found"


class NoWritableServer(StoreUnavailable):
    """None of several servers takes writes now; `details["servers"]` has what each of them said."""

    code = "HF2024"
    default_fix = "bring one of the servers back, or wait until another one has taken over"


# HF21xx: migrations.


class MigrationFailed(Failed):
    """A migration statement failed; its fix says what stays: on most databases nothing."""

    code = "HF2101"


class MigrationsPending(Conflict):
    """The schema is older than this program needs."""

    code = "HF2102"
    default_fix = "holdfast storage migrate up"


class SchemaTooNew(Conflict):
    """The schema is newer than this program knows."""

    code = "HF2103"
    default_fix = "upgrade holdfast on this machine"


class MigrationChanged(DamagedData):
    """An applied migration differs from its file."""

    code = "HF2104"
    default_fix = "restore the migration file as it was applied; write a new migration for the change"


class MigrationLocked(RetryLater):
    """Another process holds the migration lock."""

    code = "HF2105"
    default_fix = "wait for the other migration to finish, then run the command again"


class InvalidMigration(Misuse):
    """A migration file breaks the grammar or the numbering; `where` is the file and line."""

    code = "HF2106"
    default_fix = "correct the file"


class MigrationNotFound(NotFound):
    """No migration file has this version."""

    code = "HF2107"
    default_fix = "holdfast storage migrate status"


class DowngradeRefused(Conflict):
    """A migration cannot be taken back, or taking it back would lose data."""

    code = "HF2108"
    default_fix = "write a new migration that makes the change"


class MigrationInterrupted(Conflict):
    """On MySQL a migration stopped half-way, and what was asked for would not finish it."""

    code = "HF2109"
    default_fix = "finish it the way it went: holdfast storage migrate up, or down"


class MigrationUnclear(Conflict):
    """On MySQL a migration stopped at a statement, and nothing in the database tells whether that ran."""

    code = "HF2110"
    default_fix = "look at it, then: holdfast storage migrate resolve VERSION --ran or --did-not-run"


class CopyDiffers(DamagedData):
    """Two stores that should hold the same do not; `details['tables']` names where."""

    code = "HF6010"
    default_fix = "stop what writes to either store and copy again with --resume"


class AuditBroken(DamagedData):
    """The chain of audit entries does not hold: one was changed, taken out, put in or moved."""

    code = "HF6080"
    default_fix = (
        "keep the store as it is, find out who can write to its tables, and compare with the last export"
    )

"""Every expected failure, with a stable code, its cause and its fix.

One root, branches by what the caller can do: retry later, resolve a conflict, look elsewhere, correct
the call, or treat data as damaged. A class is one kind of failure; its `code` never changes once
released, and `exit_code` is what the command line returns for it. The text of an error names the
operation, the ids involved and the remedy, and never a secret: URLs are redacted before they get here.
"""

from __future__ import annotations

from typing import Any, ClassVar


class HoldfastError(Exception):
    """The root of all expected failures.

    `cause` is one line about what happened, `where` the place (a file and line, a command, a step),
    `fix` what to do about it. `details` are machine-readable facts for `--json` and logs.
    """

    code: ClassVar[str] = "HF9000"
    exit_code: ClassVar[int] = 1
    default_fix: ClassVar[str] = "run the command again with -vv and report what it prints"

    def __init__(
        self, cause: str, *, where: str | None = None, fix: str | None = None, **details: Any
    ) -> None:
        super().__init__(cause)
        self.cause = cause
        self.where = where
        self.fix = fix or self.default_fix
        self.details = details

    def as_problem(self) -> dict[str, Any]:
        """The JSON form printed by `--json` (RFC 9457 problem details)."""
        return {
            "type": f"/problems/{self.code.lower()}",
            "title": type(self).__name__,
            "code": self.code,
            "detail": self.cause,
            "where": self.where,
            "fix": self.fix,
            "exit_code": self.exit_code,
            **self.details,
        }

    def __str__(self) -> str:
        place = f" ({self.where})" if self.where else ""
        return f"{self.code} {self.cause}{place}"


# Branches: what the caller can do.


class Misuse(HoldfastError):
    """The call, the file or the setting is wrong; correcting it is the only remedy."""

    code = "HF1000"
    exit_code = 2
    default_fix = "correct the call; see `holdfast --help`"


class RetryLater(HoldfastError):
    """Something outside is unreachable or busy; the same call may succeed later."""

    code = "HF2000"
    exit_code = 5
    default_fix = "try again; check `holdfast storage test-connection`"


class NotFound(HoldfastError):
    """The named thing does not exist."""

    code = "HF3000"
    exit_code = 3
    default_fix = "list what exists and check the spelling"


class Conflict(HoldfastError):
    """The state is not the one the call needs: somebody owns it, or it has changed."""

    code = "HF4000"
    exit_code = 4
    default_fix = "look at the current state and decide"


class DamagedData(HoldfastError):
    """Stored data does not read back as it was written."""

    code = "HF6000"
    exit_code = 6
    default_fix = "stop writing to this store and run `holdfast events verify`"


class Failed(HoldfastError):
    """The operation ran and ended in failure."""

    code = "HF7000"
    exit_code = 1
    default_fix = "look at the error of the failed part"


# HF10xx: calls and values.


class InvalidArgument(Misuse):
    """An argument is outside what the operation accepts."""

    code = "HF1002"


class NoApp(Misuse):
    """A workflow was called while its app was not open."""

    code = "HF1001"
    default_fix = "open the app first: `async with app:`"


class InvalidUsage(Misuse):
    """The command line has an unknown command or option, or a value that does not fit."""

    code = "HF1003"


class UnsupportedValue(Misuse):
    """A value cannot be stored faithfully on every backend; `where` is the path of the value."""

    code = "HF1010"
    default_fix = "return or pass a value made of JSON types, or annotate the model type"


class InvalidConfiguration(Misuse):
    """A setting is unknown, malformed or contradicts another."""

    code = "HF1100"
    default_fix = "run `holdfast config validate`"


class SettingUnavailable(Misuse):
    """A setting is right, but its feature is not part of this version."""

    code = "HF1101"
    default_fix = "choose what this version has; `holdfast config validate` lists what has no effect yet"


class InvalidDefinition(Misuse):
    """A workflow definition has mistakes; `details['problems']` lists them with their lines."""

    code = "HF1200"
    default_fix = "correct the definition and run it again"


class InvalidInput(Misuse):
    """The input of an execution does not fit what its workflow declares."""

    code = "HF1210"
    default_fix = "pass the declared inputs with --input or as arguments"


class MissingExtra(Misuse):
    """A feature needs a package that an extra of Holdfast installs."""

    code = "HF1110"
    default_fix = 'pip install "holdfast[all]"'


# HF20xx: the store and its connections.


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


# HF21xx: migrations.


class MigrationFailed(Failed):
    """A migration statement failed; the database is as it was before that migration."""

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


# HF30xx: what does not exist.


class ExecutionNotFound(NotFound):
    """No execution has this id."""

    code = "HF3001"
    default_fix = "holdfast executions list"


class WorkflowNotFound(NotFound):
    """No workflow has this name, or the file or module that defines it is missing."""

    code = "HF3002"
    default_fix = "holdfast workflows list"


# HF40xx: ownership and replay.


class OwnedElsewhere(Conflict):
    """A live owner is running this execution."""

    code = "HF4001"
    default_fix = "wait for it (`holdfast executions wait ID`), or take it over with --steal"


class LeaseLost(Conflict):
    """Another owner took this execution; this process stopped working on it."""

    code = "HF4003"
    default_fix = "look at the new owner: `holdfast executions show ID`"


class IdTaken(Conflict):
    """The id belongs to an execution with another workflow or other inputs."""

    code = "HF4004"
    default_fix = "choose another --id"


class DefinitionChanged(Conflict):
    """The definition is not the one this execution started with."""

    code = "HF4005"
    default_fix = "restore the definition, or start anew with --new"


class VersionTaken(Conflict):
    """This name and version are registered with another definition."""

    code = "HF4006"
    default_fix = "raise `version` in the definition"


class VersionConflict(Conflict):
    """Somebody else wrote in between; `details` has the actual and the expected version."""

    code = "HF4008"
    default_fix = "read again, decide again, write again"


class NotResumable(Conflict):
    """The execution is in a state from which it cannot go on."""

    code = "HF4007"
    default_fix = "holdfast executions show ID"


# HF70xx: executions and steps.


class ExecutionFailed(Failed):
    """The execution ended in failure."""

    code = "HF7001"
    exit_code = 7


class ExecutionCancelled(Failed):
    """The execution was cancelled."""

    code = "HF7002"
    exit_code = 8
    default_fix = "start it again if that was not intended"


class StepFailed(Failed):
    """A step failed for good: its attempts are used up or its error is not retried."""

    code = "HF7003"


class StepTimeout(Failed):
    """One attempt of a step took longer than its timeout."""

    code = "HF7004"
    retry_type = "timeout"  # the name `retry.on` knows it by
    default_fix = "raise `timeout` of the step"


class TooManyRecoveries(Failed):
    """The execution was taken over too often without a new result and is dead-lettered."""

    code = "HF7005"
    exit_code = 7
    default_fix = "look for the step that kills its process"


class UnnamedBranch(Misuse):
    """A step was called from a task that `gather` or `scope` did not start."""

    code = "HF1220"
    default_fix = (
        "start parallel steps with holdfast.gather(...), or name the branch with holdfast.scope(...)"
    )


# What a step's body reports about itself.


class BodyFailed(Failed):
    """A step's body failed in a way it can describe; `details['kind']` is its error type for `retry.on`.

    Kinds: `exit` (a command ended non-zero; `exit_code`, `stderr`), `output` (its output is not the JSON
    it promised), `spawn` (the command could not be started), `expression` (a template gave no value).
    """

    code = "HF7006"

    @property
    def retry_type(self) -> str:
        """The word that `retry.on` compares with."""
        return str(self.details.get("kind", type(self).__name__))

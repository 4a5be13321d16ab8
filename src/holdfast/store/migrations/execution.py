"""Runs one statement of a migration: with an error that names it, and not when it would lose rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.errors import DowngradeRefused, HoldfastError, MigrationFailed, StoreUnavailable, UnknownOutcome
from holdfast.store.migrations.files import Migration
from holdfast.store.migrations.ledger import render
from holdfast.store.migrations.session import MigrationSession
from holdfast.store.migrations.splitter import Dialect

if TYPE_CHECKING:
    from holdfast.store.migrations.data_loss import Loss
    from holdfast.store.migrations.parser import Section, Statement


class Execution:
    """The statements of one command, through its session."""

    def __init__(self, session: MigrationSession, dialect: Dialect) -> None:
        self._session = session
        self._dialect = dialect

    def text(self, statement: Statement) -> str:
        """The statement as the database gets it."""
        return render(statement.text, self._session.schema, self._session.binary)

    async def run(self, migration: Migration, section: Section, statement: Statement) -> None:
        """Run it. Raises `MigrationFailed`; StoreUnavailable and UnknownOutcome for a lost connection."""
        try:
            await self._session.execute(self.text(statement))
        except (StoreUnavailable, UnknownOutcome):
            raise  # the connection, not the statement; the same command may succeed
        except HoldfastError as error:
            raise MigrationFailed(
                f"migration {migration.label} failed at `{statement.summary}`: {_reason(error)}",
                where=f"{migration.source}:{statement.line}",
                fix=self._advice(section, statement),
                version=migration.version,
                statement=statement.text,
                cause_code=error.code,
            ) from error

    async def refuse_loss(self, migration: Migration, statement: Statement, *, lock: bool) -> None:
        """Raise `DowngradeRefused` when the statement would lose rows now; `lock` as in `find_loss`."""
        from holdfast.store.migrations.data_loss import find_loss

        loss = await find_loss(self._session, self.text(statement), self._dialect, lock=lock)
        if loss is not None:
            raise refusal(migration, statement, loss)

    def failed_outside(self, migration: Migration, section: Section, error: HoldfastError) -> MigrationFailed:
        """The error for the ledger row or the COMMIT: deferred constraints are checked there."""
        return MigrationFailed(
            f"migration {migration.label} failed outside its statements: {_reason(error)}",
            where=migration.source,
            fix=self._advice(section, None),
            version=migration.version,
            cause_code=error.code,
        )

    def _advice(self, section: Section, statement: Statement | None) -> str:
        is_first = statement is None or statement is section.statements[0]
        if self._session.undoes_ddl and section.transactional:
            return (
                "the database is as it was before this migration; correct the cause and run the command again"
            )
        if is_first:
            return "nothing was changed; correct the cause and run the command again"
        if self._session.undoes_ddl:
            return (
                "this migration is not a transaction: what it did before this statement stays; correct the "
                "cause, see that its statements can be repeated, and run the command again"
            )
        return (
            "what it did before this statement stays and is not done again: leave those statements as they "
            "are, correct the cause and run the command again"
        )


def refusal(migration: Migration, statement: Statement, loss: Loss) -> DowngradeRefused:
    """The error for a statement that would lose rows."""
    what = f"{loss.action} {loss.table}, which has rows" if loss.table else loss.action
    return DowngradeRefused(
        f"taking back migration {migration.label} would lose data: {what}",
        where=f"{migration.source}:{statement.line}",
        fix="make a backup, then repeat the command with --allow-data-loss",
        version=migration.version,
    )


def _reason(error: HoldfastError) -> str:
    """Our cause and the database's own first line: who mends a statement needs the name it complains of."""
    told = str(error.__cause__ or "").split("\n", 1)[0]
    return error.cause if not told or told in error.cause else f"{error.cause}: {told}"

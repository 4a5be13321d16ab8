"""Migrations as SQL text for `psql`, `sqlite3` or `mysql`, without a database.

For places where a person with other rights changes the schema: the text does what the runner would do,
ledger rows included, so a later `up` finds everything applied. It takes no lock; run it alone. On MySQL it
notes no steps: what was interrupted there is for the person to finish.
"""

from __future__ import annotations

from collections.abc import Iterator

from holdfast.errors import DowngradeRefused, InvalidArgument
from holdfast.store.migrations.files import Migration, MigrationSet
from holdfast.store.migrations.ledger import ledger_statements, quoted, render, with_literals
from holdfast.store.migrations.parser import Section
from holdfast.store.migrations.plan import Direction, check_target
from holdfast.store.migrations.splitter import Dialect, is_routine, pieces

# Each server reads its own comment as code and skips the other's.
_EITHER_BINARY = "/*M!100600 utf8mb4_nopad_bin */ /*!80000 utf8mb4_0900_bin */"


def sql(
    migrations: MigrationSet,
    start: int = 0,
    end: int | None = None,
    direction: Direction = Direction.UP,
    *,
    schema: str | None = None,
) -> str:
    """The text that brings a database from version `start` to version `end`.

    UP: everything above `start`, up to and with `end` (None: the newest); from 0 it begins with the
    ledger. DOWN: everything from `start` (0: the newest) back to above `end` (None: nothing is left).
    `schema` is needed on PostgreSQL. Raises MigrationNotFound and, for DOWN, DowngradeRefused.
    """
    if (migrations.dialect == "postgresql") != (schema is not None):
        raise InvalidArgument("a schema is for PostgreSQL, and PostgreSQL needs one")
    for version in (start, end or 0):
        check_target(migrations, version)
    if direction is Direction.UP:
        chosen = [m for m in migrations.migrations if start < m.version and (end is None or m.version <= end)]
    else:
        chosen = [
            m for m in migrations.migrations if (end or 0) < m.version and (not start or m.version <= start)
        ]
        chosen.reverse()
    parts = [_head(migrations.dialect, schema)] if direction is Direction.UP and start == 0 else []
    if parts or chosen:
        parts = [*_setting("enter_client", migrations.dialect, schema), *parts]
    parts += ["\n".join(_one(migration, direction, migrations.dialect, schema)) for migration in chosen]
    return "\n".join(parts)


def _head(dialect: Dialect, schema: str | None) -> str:
    statements = ledger_statements(dialect)
    lines = [] if schema is None else [f"CREATE SCHEMA IF NOT EXISTS {quoted(schema)};"]
    for name in ("create_steps", "create_table"):
        if text := statements.get(name):
            if "IF NOT EXISTS" not in text:
                text = text.replace("CREATE TABLE", "CREATE TABLE IF NOT EXISTS", 1)
            lines.append(f"{_rendered(text, schema)};")
    return "\n".join([*lines, ""])


def _rendered(text: str, schema: str | None) -> str:
    return render(text, schema, _EITHER_BINARY)


def _one(migration: Migration, direction: Direction, dialect: Dialect, schema: str | None) -> Iterator[str]:
    section = migration.up if direction is Direction.UP else migration.down
    if section is None:
        raise DowngradeRefused(
            f"migration {migration.label} cannot be taken back: it has no Down section",
            where=migration.source,
        )
    yield f"-- {direction} {migration.version} {migration.name}"
    record = _record(migration, direction, dialect, schema)
    if dialect == "mysql":
        yield from _texts(section, dialect, schema)
        yield record
    elif section.transactional:
        yield "BEGIN;"
        yield from _setting("enter_transaction", dialect, schema)
        yield record
        yield from _texts(section, dialect, schema)
        yield "COMMIT;"
    else:
        yield from _setting("enter_session", dialect, schema)
        yield from _texts(section, dialect, schema)
        yield record
        yield from _setting("leave_session", dialect, schema)
    yield ""


def _record(migration: Migration, direction: Direction, dialect: Dialect, schema: str | None) -> str:
    statements = ledger_statements(dialect)
    if direction is Direction.UP:
        values = (migration.version, migration.name, migration.checksum, "printed SQL")
        text = with_literals(statements["add"], *values)
    else:
        text = with_literals(statements["remove"], migration.version)
    return f"{_rendered(text, schema)};"


def _setting(name: str, dialect: Dialect, schema: str | None) -> Iterator[str]:
    if (statement := ledger_statements(dialect).get(name)) is not None:
        yield f"{_rendered(statement, schema)};"


def _texts(section: Section, dialect: Dialect, schema: str | None) -> Iterator[str]:
    for statement in section.statements:
        text = _rendered(statement.text, schema)
        if dialect == "mysql" and is_routine(text):
            yield _delimited(text)
            continue
        # A StatementBegin block may lack its semicolon, or end in a comment after it.
        *_, last = pieces(text, dialect)
        yield text if last.closed or last.head is None else f"{text}\n;"


def _delimited(text: str) -> str:
    """A body with semicolons, as MySQL's client takes it."""
    end = "$$"
    while end in text:
        end += "$"
    return f"DELIMITER {end}\n{text}\n{end}\nDELIMITER ;"

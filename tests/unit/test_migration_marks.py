"""What is known about a MySQL statement before it runs, and what its migration files may not hold."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.errors import InvalidMigration
from holdfast.store.migrations.data_loss import Loss, possible_losses
from holdfast.store.migrations.files import load
from holdfast.store.migrations.marks import Handling, Mark, Trace, trace_of
from holdfast.store.migrations.parser import parse
from holdfast.store.migrations.splitter import SplitError

THERE, GONE = True, False


def table(name: str, present: bool, schema: str | None = None) -> Mark:
    return Mark("table", schema, None, name, present)


def of(kind: str, name: str, present: bool, on: str = "t", schema: str | None = None) -> Mark:
    return Mark(kind, schema, on, name, present)


VISIBLE: list[tuple[str, list[Mark]]] = [
    ("CREATE TABLE t (a INT);", [table("t", THERE)]),
    ("create table if not exists `a``b`.`c d` (x INT)", [table("c d", THERE, "a`b")]),
    ("CREATE TABLE t AS SELECT 1 AS a;", [table("t", THERE)]),
    ("CREATE SEQUENCE s START WITH 1;", [table("s", THERE)]),
    ("DROP TABLE IF EXISTS a, b.c CASCADE;", [table("a", GONE), table("c", GONE, "b")]),
    ("RENAME TABLE a TO b, c TO d;",
     [table("a", GONE), table("b", THERE), table("c", GONE), table("d", THERE)]),
    ("CREATE UNIQUE INDEX i USING BTREE ON s.t (a);", [of("index", "i", THERE, schema="s")]),
    ("CREATE FULLTEXT INDEX i ON t (a);", [of("index", "i", THERE)]),
    ("DROP INDEX i ON t;", [of("index", "i", GONE)]),
    (
        "CREATE ALGORITHM=MERGE DEFINER=`a`@`b` SQL SECURITY INVOKER VIEW v AS SELECT 1;",
        [Mark("view", None, None, "v", THERE)],
    ),
    ("DROP VIEW v;", [Mark("view", None, None, "v", GONE)]),
    (
        "CREATE DEFINER=root@localhost TRIGGER IF NOT EXISTS r BEFORE INSERT ON t FOR EACH ROW SET @a = 1;",
        [Mark("trigger", None, None, "r", THERE)],
    ),
    ("CREATE PROCEDURE p(IN a INT) SELECT 1;", [Mark("procedure", None, None, "p", THERE)]),
    ("DROP FUNCTION IF EXISTS f;", [Mark("function", None, None, "f", GONE)]),
    ("ALTER TABLE t ADD a INT DEFAULT (concat('x,', 'y')) FIRST, ADD COLUMN IF NOT EXISTS `b c` INT;",
     [of("column", "a", THERE), of("column", "b c", THERE)]),
    ("ALTER TABLE t ADD (a INT, b VARCHAR(3)), DROP c, ENGINE=InnoDB;",
     [of("column", "a", THERE), of("column", "b", THERE), of("column", "c", GONE)]),
    ("ALTER TABLE s.t ADD PRIMARY KEY (a), DROP INDEX i, ADD KEY j (b), ADD UNIQUE k (c);",
     [of("index", "PRIMARY", THERE, schema="s"), of("index", "i", GONE, schema="s"),
      of("index", "j", THERE, schema="s"), of("index", "k", THERE, schema="s")]),
    ("ALTER TABLE t ADD CONSTRAINT c CHECK (a IN (1, 2)), DROP FOREIGN KEY f, DROP CONSTRAINT g,"
     " DROP CHECK h;",
     [of("constraint", "c", THERE), of("constraint", "f", GONE), of("constraint", "g", GONE),
      of("constraint", "h", GONE)]),
    ("ALTER TABLE t ADD CONSTRAINT p PRIMARY KEY (a);", [of("index", "PRIMARY", THERE)]),
    ("ALTER TABLE t RENAME COLUMN a TO b, RENAME INDEX i TO j, CHANGE c d INT, CHANGE e e BIGINT;",
     [of("column", "a", GONE), of("column", "b", THERE), of("index", "i", GONE), of("index", "j", THERE),
      of("column", "c", GONE), of("column", "d", THERE)]),
    ("ALTER TABLE t ADD a INT, RENAME TO u;", [table("t", GONE), table("u", THERE)]),
    ("ALTER TABLE t ADD CHECK (a > 0), ADD b INT;", [of("column", "b", THERE)]),
    ("ALTER TABLE t DROP PRIMARY KEY, ADD PRIMARY KEY (a), DROP b;", [of("column", "b", GONE)]),
]  # fmt: skip


@pytest.mark.parametrize(("statement", "marks"), VISIBLE, ids=lambda value: str(value)[:40])
def test_the_marks_of_a_statement(statement: str, marks: list[Mark]) -> None:
    assert trace_of(statement) == Trace(Handling.VISIBLE, tuple(marks))


@pytest.mark.parametrize(
    ("handling", "statement"),
    [
        (Handling.ROWS, "INSERT INTO t VALUES ('CREATE TABLE x');"),
        (Handling.ROWS, "with a as (select 1) delete from t;"),
        (Handling.ROWS, "SELECT 1;"),
        (Handling.SETTING, "SET @a = 1;"),
        (Handling.REPEATABLE, "CREATE OR REPLACE VIEW v AS SELECT 1;"),
        (Handling.REPEATABLE, "ALTER TABLE t MODIFY a BIGINT, ALTER b SET DEFAULT 3, COMMENT = 'x, y';"),
        (Handling.REPEATABLE, "ALTER TABLE t ENGINE=InnoDB ROW_FORMAT=DYNAMIC;"),
        (Handling.REPEATABLE, "ANALYZE TABLE t;"),
        (Handling.BLIND, "ALTER TABLE t DROP COLUMN a, ADD COLUMN a INT;"),
        (Handling.BLIND, "RENAME TABLE a TO x, b TO a, x TO b;"),
        (Handling.BLIND, "ALTER TABLE t ADD INDEX (a);"),
        (Handling.BLIND, "ALTER TABLE t ADD PARTITION (PARTITION p VALUES LESS THAN (3));"),
        (Handling.BLIND, "ALTER TABLE t ADD FOREIGN KEY (a) REFERENCES u (a);"),
        (Handling.BLIND, "TRUNCATE TABLE t;"),
        (Handling.BLIND, "CALL p();"),
        (Handling.BLIND, "/*!50003 CREATE TABLE t (a INT) */;"),
        (Handling.BLIND, "CREATE USER u;"),
        (Handling.BLIND, "CREATE TABLE"),
        (Handling.BLIND, "ALTER TABLE t ADD (a INT"),
    ],
)
def test_how_a_statement_is_handled(handling: Handling, statement: str) -> None:
    assert trace_of(statement).handling is handling


@given(
    st.lists(
        st.sampled_from(
            ["CREATE", "DROP", "ALTER", "TABLE", "RENAME", "TO", "ADD", "COLUMN", "INDEX", "ON", "t", "`a`",
             "(", ")", ",", ".", "IF", "EXISTS", "NOT", "CONSTRAINT", "PRIMARY", "KEY", "CHANGE", "'x'", ";",
             "VIEW"]
        )
    ).map(" ".join) | st.text()
)  # fmt: skip
@settings(deadline=None)
def test_any_text_has_a_handling(text: str) -> None:
    try:
        found = trace_of(text)
    except SplitError:
        return
    assert bool(found.marks) == (found.handling is Handling.VISIBLE)


def test_holdfasts_own_migrations_can_be_finished_after_a_death_at_any_statement() -> None:
    """No statement of theirs is blind, and none drops several things, which MariaDB does one by one."""
    for migration in load("mysql").migrations:
        for section in (migration.up, migration.down):
            assert section is not None, migration.label
            for statement in section.statements:
                trace = trace_of(statement.text)
                assert trace.handling is not Handling.BLIND, f"{migration.source}:{statement.line}"
                drops = statement.text.upper().startswith("DROP")
                assert not drops or len(trace.marks) == 1, f"{migration.source}:{statement.line}"


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("DROP TABLE IF EXISTS a, `b c`;", [("DROP TABLE", "a"), ("DROP TABLE", "`b c`")]),
        ("DELETE FROM a;", [("DELETE FROM", "a")]),
        ("ALTER TABLE a DROP COLUMN b;", [("DROP COLUMN of", "a")]),
        ("ALTER TABLE a DROP b, ADD c INT;", [("DROP COLUMN of", "a")]),
        ("ALTER TABLE a DROP PARTITION p;", [("DROP COLUMN of", "a")]),
        ("ALTER TABLE a TRUNCATE PARTITION p;", [("DROP COLUMN of", "a")]),
        ("DROP DATABASE a;", [("DROP SCHEMA", None)]),
        ("ALTER TABLE a DROP INDEX i, DROP KEY j, DROP PRIMARY KEY, DROP FOREIGN KEY f, DROP CHECK c;", []),
        ("ALTER TABLE a DROP CONSTRAINT c, ALTER b DROP DEFAULT;", []),
        ('SELECT "DROP TABLE a"; # DROP TABLE b', []),
    ],
)
def test_possible_losses(statement: str, found: list[tuple[str, str | None]]) -> None:
    assert list(possible_losses(statement, "mysql")) == [Loss(*expected) for expected in found]


BODY = "CREATE TRIGGER r BEFORE INSERT ON t FOR EACH ROW\nBEGIN\n  SET NEW.a = 1;\n  SET NEW.b = 2;\nEND;\n"
CASES = "CREATE TRIGGER r BEFORE INSERT ON t FOR EACH ROW IF NEW.a THEN SET NEW.b = 1; END IF;\n"


@pytest.mark.parametrize("body", [BODY, CASES])
def test_a_body_stands_in_a_block(body: str) -> None:
    text = f"-- +migrate Up\n-- +migrate StatementBegin\n{body}-- +migrate StatementEnd\nSELECT 1;\n"
    found = parse(text, dialect="mysql", source="f").up.statements
    assert [statement.text for statement in found] == [body.rstrip(), "SELECT 1;"]


@pytest.mark.parametrize(
    ("text", "line", "cause"),
    [
        (BODY, 2, "the statement is not finished: a body of BEGIN"),
        ("SELECT 1;\nDELIMITER $$\n;", 3, "DELIMITER is not allowed"),
        ("USE other;", 2, "USE is not allowed"),
        ("LOCK TABLES t WRITE;", 2, "LOCK is not allowed"),
        ("START TRANSACTION;", 2, "START is not allowed"),
        ("CREATE TEMPORARY TABLE t (a INT);", 2, "a temporary table ends with its session"),
        ("CREATE OR REPLACE TEMPORARY TABLE t (a INT);", 2, "a temporary table"),
        (
            "-- +migrate StatementBegin\nSELECT 1;\nCREATE TABLE t (a INT);\n-- +migrate StatementEnd",
            4,
            "a block holds one statement",
        ),
    ],
)
def test_what_a_file_may_not_hold(text: str, line: int, cause: str) -> None:
    with pytest.raises(InvalidMigration) as caught:
        parse(f"-- +migrate Up\n{text}\n", dialect="mysql", source="f")
    assert cause in caught.value.cause
    assert caught.value.where == f"f:{line}"

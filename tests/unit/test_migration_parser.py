"""The grammar of migration files and the splitting of SQL text, without a database."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.errors import InvalidArgument, InvalidMigration
from holdfast.store.migrations.data_loss import Loss, possible_losses
from holdfast.store.migrations.files import collect, create, load, read_text
from holdfast.store.migrations.parser import Script, parse
from holdfast.store.migrations.splitter import Dialect, SplitError, code, pieces, tokens

DIALECTS: tuple[Dialect, ...] = ("sqlite", "postgresql", "mysql")


class Shape(NamedTuple):
    """A text that is a whole number of statements: where each starts, by line, and its first words."""

    what: str
    dialect: Dialect
    text: str
    heads: list[tuple[int, str]]


SHAPES = [
    Shape("nothing", "sqlite", "", []),
    Shape("blanks and comments only", "sqlite", "\n -- one\n/* two\n */\n", []),
    Shape("lone semicolons", "postgresql", ";;\n ; ", []),
    Shape("two on one line", "sqlite", "SELECT 1; SELECT 2;", [(1, "SELECT 1"), (1, "SELECT 2")]),
    Shape("leading comment", "sqlite", "-- why\nDROP TABLE a;\n", [(2, "DROP TABLE a")]),
    Shape("trailing comment", "sqlite", "SELECT 1; -- a; b\nSELECT 2;", [(1, "SELECT 1"), (2, "SELECT 2")]),
    Shape("comment inside", "sqlite", "SELECT 1 -- ;\n, 2;", [(1, "SELECT 1")]),
    Shape("block comment", "sqlite", "SELECT /* ; ' */ 1;", [(1, "SELECT")]),
    Shape("comment that does not nest", "sqlite", "/* /* */SELECT 1;", [(1, "SELECT 1")]),
    Shape("comment of three signs", "sqlite", "/*/ ; */SELECT 1;", [(1, "SELECT 1")]),
    Shape("slash star slash inside", "sqlite", "/* x /*/ SELECT 1;", [(1, "SELECT 1")]),
    Shape("nested comment", "postgresql", "/* a /* ; */ ; */ SELECT 1;", [(1, "SELECT 1")]),
    Shape("deeply nested", "postgresql", "/*/*/*;*/;*/;*/\nSELECT 1;", [(2, "SELECT 1")]),
    Shape("doubled quote", "sqlite", "SELECT 'it''s; fine';", [(1, "SELECT 'it''s; fine'")]),
    Shape("only quotes", "sqlite", "SELECT '''';SELECT '';", [(1, "SELECT ''''"), (1, "SELECT ''")]),
    Shape("backslash is plain", "postgresql", r"SELECT 'a\'; SELECT 2;", [(1, "SELECT 'a"), (1, "SELECT 2")]),
    Shape("escape string", "postgresql", r"SELECT E'a\'; b'; SELECT 2;", [(1, "SELECT E"), (1, "SELECT 2")]),
    Shape("small e string", "postgresql", r"SELECT e'\\'; SELECT 2;", [(1, "SELECT e"), (1, "SELECT 2")]),
    Shape("escape and doubled", "postgresql", r"SELECT E'''\'''';", [(1, "SELECT E")]),
    Shape("word before", "postgresql", r"SELECT date'a\'; SELECT 2;", [(1, "SELECT d"), (1, "SELECT 2")]),
    Shape("no escapes on sqlite", "sqlite", r"SELECT 'a\'; SELECT 2;", [(1, "SELECT 'a"), (1, "SELECT 2")]),
    Shape("string over lines", "sqlite", "SELECT '\n;\n';\nSELECT 2;", [(1, "SELECT '"), (4, "SELECT 2")]),
    Shape("quoted name", "postgresql", 'SELECT "a;""b" FROM t;', [(1, 'SELECT "a')]),
    Shape("backtick name", "sqlite", "SELECT `a;b` FROM t;", [(1, "SELECT `a")]),
    Shape("bracket name", "sqlite", "SELECT [a;'b] FROM t;", [(1, "SELECT [a")]),
    Shape("array", "postgresql", "SELECT ARRAY[1,2]; SELECT a[1];", [(1, "SELECT A"), (1, "SELECT a")]),
    Shape("dollar quote", "postgresql", "DO $$ BEGIN a; b; END $$;", [(1, "DO")]),
    Shape("tagged", "postgresql", "DO $x$ a; $$ ; $$ $x$; SELECT 1;", [(1, "DO"), (1, "SELECT 1")]),
    Shape("tag in capitals differs", "postgresql", "DO $a$ ; $A$ ; $a$;", [(1, "DO")]),
    Shape("quotes inside dollars", "postgresql", "DO $$ it's \" /* $$;", [(1, "DO")]),
    Shape("name with dollars", "postgresql", "SELECT a$b$c; SELECT 2;", [(1, "SELECT a$b"), (1, "SELECT 2")]),
    Shape("parameter", "postgresql", "EXECUTE p($1, $2); SELECT 2;", [(1, "EXECUTE"), (1, "SELECT 2")]),
    Shape("sqlite parameter", "sqlite", "SELECT $a; SELECT $b;", [(1, "SELECT $a"), (1, "SELECT $b")]),
    Shape(
        "function", "postgresql",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $f$\nBEGIN\n  RETURN 1;\nEND;\n$f$;\nSELECT f();",
        [(1, "CREATE FUNCTION"), (6, "SELECT f")],
    ),
    Shape(
        "routine body", "postgresql",
        "CREATE OR REPLACE PROCEDURE p() BEGIN ATOMIC\n INSERT INTO t VALUES (1);"
        " SELECT CASE WHEN a THEN 1 END;\nEND; SELECT 2;",
        [(1, "CREATE OR"), (3, "SELECT 2")],
    ),
    Shape("rule", "postgresql", "CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2);", [(1, "CREATE")]),
    Shape("enum", "postgresql", "CREATE TYPE e AS ENUM ('a;', 'b');", [(1, "CREATE TYPE")]),
    Shape("strict table", "sqlite", "CREATE TABLE t (a INT) STRICT, WITHOUT ROWID;", [(1, "CREATE TABLE")]),
    Shape(
        "trigger", "sqlite",
        "CREATE TRIGGER r AFTER INSERT ON t BEGIN\n  UPDATE t SET a = 1;\n  DELETE FROM u;\nEND;\nSELECT 1;",
        [(1, "CREATE TRIGGER"), (5, "SELECT 1")],
    ),
    Shape(
        "trigger with case", "sqlite",
        "CREATE TEMP TRIGGER r AFTER INSERT ON t BEGIN SELECT CASE WHEN 1 THEN 2 END; END; SELECT 1;",
        [(1, "CREATE TEMP"), (1, "SELECT 1")],
    ),
    Shape(
        "comment before the end", "sqlite",
        "create trigger if not exists r after insert on t begin select 1; -- END;\n end ;",
        [(1, "create trigger")],
    ),
    Shape("trigger on the server", "postgresql",
          "CREATE TRIGGER r AFTER INSERT ON t EXECUTE FUNCTION f(); SELECT 1;",
          [(1, "CREATE TRIGGER"), (1, "SELECT 1")]),
    Shape("hash comment", "mysql", "# a; b\nSELECT 1; # c;", [(2, "SELECT 1")]),
    Shape("minus minus is no comment", "mysql", "SELECT 1--1; SELECT 2;", [(1, "SELECT 1"), (1, "SELECT 2")]),
    Shape("minus minus at the end", "mysql", "SELECT 1; --", [(1, "SELECT 1")]),
    Shape("backslash escapes", "mysql", r"SELECT 'a\'; b', "  r'"c\"; d";SELECT 2;',
          [(1, "SELECT 'a"), (1, "SELECT 2")]),
    Shape("double quotes hold a string", "mysql", 'SELECT "a;""b\';"; SELECT 2;',
          [(1, "SELECT \"a"), (1, "SELECT 2")]),
    Shape("backtick name on the server", "mysql", "SELECT `a;``b\\`; SELECT 2;",
          [(1, "SELECT `a"), (1, "SELECT 2")]),
    Shape("executable comment", "mysql", "/*!40101 SET a = 1; */; /*M!100600 SELECT 2 */;",
          [(1, "/*!40101"), (1, "/*M!100600")]),
    Shape("trigger of one statement", "mysql",
          "CREATE TRIGGER r BEFORE INSERT ON t FOR EACH ROW SET NEW.a = 1; SELECT 1;",
          [(1, "CREATE TRIGGER"), (1, "SELECT 1")]),
    Shape("unicode", "sqlite", "SELECT 'ключ;' AS größe; SELECT 2;", [(1, "SELECT 'к"), (1, "SELECT 2")]),
]  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape.dialect}: {shape.what}")
def test_splitting(shape: Shape) -> None:
    found = list(pieces(shape.text, shape.dialect))
    statements = [piece for piece in found if piece.head is not None]
    lines = [shape.text.count("\n", 0, piece.head) + 1 for piece in statements]
    texts = [shape.text[piece.head : piece.end] for piece in statements]
    assert lines == [line for line, _ in shape.heads]
    assert all(text.startswith(head) for text, (_, head) in zip(texts, shape.heads, strict=True)), texts
    assert all(piece.closed for piece in statements)
    assert "".join(shape.text[piece.start : piece.end] for piece in found) == shape.text


@pytest.mark.parametrize("shape", [s for s in SHAPES if s.dialect == "sqlite"], ids=lambda shape: shape.what)
def test_sqlite_itself_finds_each_statement_complete_and_none_sooner(shape: Shape) -> None:
    for piece in pieces(shape.text, "sqlite"):
        if piece.head is None:
            continue
        text = shape.text[piece.head : piece.end]
        assert apsw.complete(text)
        ends = [at for at, sign in enumerate(text[:-1], start=1) if sign == ";"]
        assert not any(apsw.complete(text[:end]) for end in ends)


@pytest.mark.parametrize(
    ("dialect", "text", "problem", "line"),
    [
        ("sqlite", "SELECT 1;\nSELECT 'a;\n", "string '", 2),
        ("postgresql", "SELECT 'it''s;", "string '", 1),
        ("postgresql", r"SELECT E'\';", "string '", 1),
        ("postgresql", 'SELECT\n"a""', 'quoted name "', 2),
        ("sqlite", "SELECT `a", "quoted name `", 1),
        ("sqlite", "SELECT [a", "quoted name [", 1),
        ("postgresql", "/* /* */\n", "comment /*", 1),
        ("sqlite", "\n/* a", "comment /*", 2),
        ("postgresql", "DO\n$x$ $y$", "string $x$", 2),
        ("mysql", "SELECT 'a\\';", "string '", 1),
        ("mysql", '\nSELECT "a', 'string "', 2),
        ("mysql", "/*! SELECT 1;", "comment /*!", 1),
    ],
)
def test_what_is_never_closed_is_named_with_its_line(
    dialect: Dialect, text: str, problem: str, line: int
) -> None:
    with pytest.raises(SplitError) as caught:
        list(pieces(text, dialect))
    assert caught.value.problem == f"the {problem} is never closed"
    assert caught.value.line == line


@given(
    st.lists(
        st.sampled_from(
            [*"';\"`[]()$\n- /*\\e", "$$", "$a$", "--", "/*", "*/", "E'", "CREATE TRIGGER t ",
             " BEGIN ATOMIC ",
             "CREATE FUNCTION f ", " CASE ", "END", "x", "ü", "\x00", "\u2028"]
        )
    ).map("".join) | st.text(),
    st.sampled_from(DIALECTS),
)  # fmt: skip
@settings(deadline=None, max_examples=500)
def test_the_pieces_of_any_text_are_the_text(text: str, dialect: Dialect) -> None:
    try:
        found = list(pieces(text, dialect))
    except SplitError as error:
        assert 1 <= error.line <= text.count("\n") + 1
        return
    assert "".join(text[piece.start : piece.end] for piece in found) == text
    assert "".join(text[token.start : token.end] for token in tokens(text, dialect)) == text
    assert all(piece.closed for piece in found[:-1])
    assert all(text[piece.end - 1] == ";" for piece in found if piece.closed)


@given(
    st.lists(st.sampled_from([s for s in SHAPES if s.heads])),
    st.sampled_from(["\n", "\n \n", "\n-- a 'comment\n", "\n/* ; */"]),  # a shape may end in a comment
    st.sampled_from(DIALECTS),
)
@settings(deadline=None)
def test_statements_put_together_come_apart_again(parts: list[Shape], between: str, dialect: Dialect) -> None:
    chosen = [shape for shape in parts if shape.dialect == dialect]
    text = between.join(shape.text for shape in chosen)
    expected = [head for shape in chosen for _, head in shape.heads]
    found = [text[piece.head :] for piece in pieces(text, dialect) if piece.head is not None]
    assert len(found) == len(expected)
    assert all(part.startswith(head) for part, head in zip(found, expected, strict=True))


def test_an_unclosed_string_of_a_megabyte_is_refused_at_once() -> None:
    with pytest.raises(SplitError):
        list(pieces("SELECT '" + "''" * 500_000, "postgresql"))


def test_code_blanks_what_a_reader_of_keywords_must_not_see() -> None:
    text = "a /* DROP */ 'DROP' \"b\" -- DROP\n$$DROP TABLE c$$"
    assert code(text, "postgresql").split() == ["a", '"b"', "$$DROP", "TABLE", "c$$"]


# The grammar of files.


def read(text: str, dialect: Dialect = "sqlite") -> Script:
    return parse(text, dialect=dialect, source="0002_tags.sql")


def test_both_sections_with_lines() -> None:
    script = read(
        "-- what it is for\n"
        "-- +migrate Up\n"
        "CREATE TABLE a (x);\n"
        "CREATE INDEX i\n  ON a (x);\n"
        "\n"
        "-- +migrate Down\n"
        "DROP TABLE a;\n"
    )
    assert [(s.line, s.text) for s in script.up.statements] == [
        (3, "CREATE TABLE a (x);"),
        (4, "CREATE INDEX i\n  ON a (x);"),
    ]
    assert script.down is not None
    assert [(s.line, s.text) for s in script.down.statements] == [(8, "DROP TABLE a;")]
    assert script.up.transactional and script.down.transactional


def test_down_may_come_first_or_be_missing_or_empty() -> None:
    turned = read("-- +migrate Down\nSELECT 2;\n-- +migrate Up\nSELECT 1;")
    assert turned.up.statements[0].text == "SELECT 1;"
    assert turned.down is not None and turned.down.statements[0].text == "SELECT 2;"
    assert read("-- +migrate Up\nSELECT 1;").down is None
    assert read("-- +migrate Up\nSELECT 1;\n-- +migrate Down\n-- nothing\n").down is None


def test_notransaction_holds_for_its_section() -> None:
    script = read("-- +migrate Up notransaction\nVACUUM;\n-- +migrate Down\nSELECT 1;")
    assert not script.up.transactional
    assert script.down is not None and script.down.transactional


@pytest.mark.parametrize("marker", ["--+migrate Up", "  -- +migrate Up  ", "--  +migrate\tUp"])
def test_spaces_in_a_marker_do_not_matter(marker: str) -> None:
    assert len(read(f"{marker}\nSELECT 1;").up.statements) == 1


def test_a_block_is_one_statement_whatever_is_inside() -> None:
    script = read(
        "-- +migrate Up\nSELECT 1;\n-- +migrate StatementBegin\n-- a\nSELECT 2;\nSELECT 3\n"
        "-- +migrate StatementEnd\nSELECT 4;\n"
    )
    assert [(s.line, s.text) for s in script.up.statements] == [
        (2, "SELECT 1;"),
        (5, "SELECT 2;\nSELECT 3"),
        (8, "SELECT 4;"),
    ]


def test_a_trigger_needs_no_block() -> None:
    script = read("-- +migrate Up\nCREATE TRIGGER r AFTER INSERT ON t BEGIN SELECT 1; END;\nSELECT 2;\n")
    assert len(script.up.statements) == 2


def test_the_summary_is_the_first_line_and_short() -> None:
    statement = read("-- +migrate Up\nSELECT " + "1 + " * 100 + "1\n;").up.statements[0]
    assert len(statement.summary) == 120 and statement.summary.endswith("…")


@pytest.mark.parametrize(
    ("text", "line", "cause", "fix"),
    [
        ("", 1, "no `-- +migrate Up`", "above the first statement"),
        ("-- only a comment\n", 1, "no `-- +migrate Up`", ""),
        ("-- +migrate Down\nSELECT 1;", 1, "no `-- +migrate Up`", ""),
        ("SELECT 1;\n-- +migrate Up\nSELECT 2;", 1, "before the first", "only comments"),
        ("\nSELECT 1\n-- +migrate Up\nSELECT 2;", 2, "before the first", ""),
        ("-- +migrate Up\n\n-- +migrate Down\nSELECT 1;", 1, "Up section has no statement", ""),
        ("-- +migrate Up\nSELECT 1;\n-- +migrate Up\nSELECT 2;", 3, "second `-- +migrate Up`", "two files"),
        ("-- +migrate Up\nSELECT 1;\n-- +migrate Down\n-- +migrate Down", 4, "the first is in line 3", ""),
        ("-- +migrate up\nSELECT 1;", 1, "'up' is not a known marker", "did you mean Up?"),
        ("-- +migrate Donw\n", 1, "'Donw' is not a known marker", "did you mean Down?"),
        ("-- +migrate\n", 1, "'' is not a known marker", "known: Up, Down"),
        ("-- +migrate Up notransactions\n", 1, "not a known option of Up", "did you mean notransaction?"),
        ("-- +migrate Up\n-- +migrate StatementBegin x\n", 2, "option of StatementBegin", "known: none"),
        ("-- +migrate StatementBegin\n", 1, "StatementBegin before", ""),
        ("-- +migrate Up\n-- +migrate StatementEnd\n", 2, "StatementEnd without", ""),
        ("-- +migrate Up\n-- +migrate StatementBegin\nSELECT 1;", 2, "not ended before the end of", ""),
        ("-- +migrate Up\n-- +migrate StatementBegin\n-- +migrate Down", 2, "not ended before `-- +mig", ""),
        ("-- +migrate Up\n-- +migrate StatementBegin\n-- +migrate StatementBegin", 3, "opened in line 2", ""),
        ("-- +migrate Up\n-- +migrate StatementBegin\n-- +migrate StatementEnd", 2, "block has no stat", ""),
        ("-- +migrate Up\nSELECT 1;\nSELECT 2\n-- +migrate Down", 3, "semicolon is missing", "Begin"),
        ("-- +migrate Up\nSELECT\n'a", 3, "string ' is never closed", ""),
        ("-- +migrate Up\nCREATE TRIGGER r BEGIN\nSELECT 1;\n", 2, "CREATE TRIGGER has no `END;`", ""),
        ("-- +migrate Up\n\nBEGIN;\nSELECT 1;\nCOMMIT;", 3, "BEGIN is not allowed", "notransaction"),
        ("-- +migrate Up\nSELECT 1; commit;", 2, "COMMIT is not allowed", ""),
        ("-- +migrate Up\n-- +migrate StatementBegin\nSELECT 1;\nROLLBACK;\n-- +migrate StatementEnd", 4,
         "ROLLBACK is not allowed", ""),
    ],
)  # fmt: skip
def test_mistakes(text: str, line: int, cause: str, fix: str) -> None:
    with pytest.raises(InvalidMigration) as caught:
        read(text)
    assert caught.value.where == f"0002_tags.sql:{line}"
    assert cause in caught.value.cause
    assert fix in caught.value.fix


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("-- +migrate Up\nSELECT (1;\nSELECT 2;", "a parenthesis is never closed"),
        ("-- +migrate Up\nCREATE FUNCTION f() BEGIN ATOMIC SELECT 1;", "BEGIN ATOMIC has no END"),
    ],
)
def test_mistakes_on_postgresql(text: str, cause: str) -> None:
    with pytest.raises(InvalidMigration, match=cause) as caught:
        read(text, "postgresql")
    assert caught.value.where == "0002_tags.sql:2"


@given(
    st.text(alphabet=st.sampled_from("-+ migrateUpDownStBgEd;'\n$(")) | st.text(), st.sampled_from(DIALECTS)
)
@settings(deadline=None)
def test_any_text_is_read_or_refused_with_a_line(text: str, dialect: Dialect) -> None:
    for whole in (text, f"-- +migrate Up\n{text}"):
        try:
            assert read(whole, dialect).up.statements
        except InvalidMigration as error:
            assert error.where is not None and error.where.startswith("0002_tags.sql:")


# Files and their numbers.

SCRIPT = b"-- +migrate Up\nSELECT 1;\n"


@pytest.mark.parametrize(
    ("file_name", "version", "name"),
    [
        ("0001_foundation.sql", 1, "foundation"),
        ("20260101120000_add_tags.sql", 20260101120000, "add_tags"),
        ("20240115_a-b.c.sql", 20240115, "a-b.c"),
    ],
)
def test_file_names(file_name: str, version: int, name: str) -> None:
    migration = read_text(SCRIPT, file_name=file_name, dialect="sqlite", source=file_name)
    assert (migration.version, migration.name) == (version, name)


@pytest.mark.parametrize(
    "file_name",
    ["tags.sql", "V001_tags.sql", "0001.sql", "0000_zero.sql", "001-tags.sql", "1_.sql", "²_a.sql"],
)
def test_other_file_names_are_refused(file_name: str) -> None:
    with pytest.raises(InvalidMigration, match="not the name of a migration"):
        read_text(SCRIPT, file_name=file_name, dialect="sqlite", source=file_name)


def test_the_checksum_is_of_the_text_and_not_of_its_line_ends() -> None:
    forms = [SCRIPT, SCRIPT.replace(b"\n", b"\r\n"), b"\xef\xbb\xbf" + SCRIPT]
    found = {read_text(f, file_name="1_a.sql", dialect="sqlite", source="a").checksum for f in forms}
    assert found == {hashlib.sha256(SCRIPT).hexdigest()}
    other = read_text(SCRIPT + b"-- more\n", file_name="1_a.sql", dialect="sqlite", source="a")
    assert other.checksum not in found


def test_a_file_that_is_not_utf_8_is_refused_with_its_line() -> None:
    with pytest.raises(InvalidMigration, match="UTF-8") as caught:
        read_text(SCRIPT + b"-- \xe4\n", file_name="1_a.sql", dialect="sqlite", source="1_a.sql")
    assert caught.value.where == "1_a.sql:3"


def test_a_version_is_given_once() -> None:
    first = read_text(SCRIPT, file_name="1_a.sql", dialect="sqlite", source="x/1_a.sql")
    second = read_text(SCRIPT, file_name="01_b.sql", dialect="sqlite", source="x/01_b.sql")
    with pytest.raises(InvalidMigration, match=r"version 1 is taken by x/1_a\.sql"):
        collect("sqlite", [first, second])


def test_own_files_exist_for_each_dialect_under_the_same_versions_and_can_be_taken_back() -> None:
    sets = [load(dialect) for dialect in DIALECTS]
    names = [[(m.version, m.name) for m in found.migrations] for found in sets]
    assert all(found == names[0] for found in names)
    assert names[0][0][0] == 1
    assert all(m.down is not None for found in sets for m in found.migrations)


def test_a_folder_is_mixed_in_by_number_and_by_dialect(tmp_path: Path) -> None:
    (tmp_path / "20240115_tags.sql").write_bytes(SCRIPT)
    (tmp_path / "notes.txt").write_text("not a migration")
    for dialect in DIALECTS:
        (tmp_path / dialect).mkdir()
        (tmp_path / dialect / f"20240116_{dialect}.sql").write_bytes(SCRIPT)
    own = [m.version for m in load("sqlite").migrations]
    found = load("sqlite", tmp_path)
    assert [m.version for m in found.migrations] == [*own, 20240115, 20240116]
    assert found.migrations[-1].name == "sqlite"
    for dialect in DIALECTS:
        assert load(dialect, tmp_path).migrations[-1].name == dialect


def test_a_folder_stays_out_of_the_numbers_of_the_package(tmp_path: Path) -> None:
    (tmp_path / "9999_tags.sql").write_bytes(SCRIPT)
    with pytest.raises(InvalidMigration, match="one of Holdfast's own"):
        load("sqlite", tmp_path)


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidMigration, match="does not exist"):
        load("sqlite", tmp_path / "nowhere")


def test_create_starts_with_a_time_stamp_and_goes_on_from_there(tmp_path: Path) -> None:
    now = datetime(2026, 1, 15, 9, 30, tzinfo=UTC)
    first = create(tmp_path / "new", "Add tags!", now=now)
    second = create(tmp_path / "new", "more", now=now)
    assert [first.name, second.name] == ["20260115093000_add_tags.sql", "20260115093001_more.sql"]


def test_create_goes_on_with_plain_numbers(tmp_path: Path) -> None:
    (tmp_path / "0009_a.sql").write_bytes(SCRIPT)
    assert create(tmp_path, "b").name == "0010_b.sql"


def test_what_create_writes_is_refused_until_it_has_a_statement(tmp_path: Path) -> None:
    path = create(tmp_path, "tags")
    with pytest.raises(InvalidMigration, match="Up section has no statement"):
        load("sqlite", tmp_path)
    path.write_text(path.read_text().replace("-- +migrate Up\n", "-- +migrate Up\nSELECT 1;\n"))
    assert load("sqlite", tmp_path).migrations[-1].name == "tags"


def test_create_needs_a_name(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument):
        create(tmp_path, " ../ ")


# What a downgrade would lose.


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("DROP TABLE a;", [("DROP TABLE", "a")]),
        ('drop  table if exists "s"."a b", c CASCADE;', [("DROP TABLE", '"s"."a b"'), ("DROP TABLE", "c")]),
        ("TRUNCATE a, ONLY b;", [("TRUNCATE", "a"), ("TRUNCATE", "b")]),
        ("TRUNCATE TABLE ONLY a RESTART IDENTITY;", [("TRUNCATE", "a")]),
        ("DELETE FROM a WHERE x = 1;", [("DELETE FROM", "a")]),
        ("WITH gone AS (DELETE FROM ONLY a RETURNING *) SELECT 1;", [("DELETE FROM", "a")]),
        ("ALTER TABLE a DROP COLUMN b;", [("DROP COLUMN of", "a")]),
        ("ALTER TABLE IF EXISTS ONLY s.a ADD c int, DROP b;", [("DROP COLUMN of", "s.a")]),
        ("DO $$ BEGIN DROP TABLE a; END $$;", [("DROP TABLE", "a")]),
        ("DROP SCHEMA s CASCADE;", [("DROP SCHEMA", None)]),
        ("ALTER TABLE a DROP CONSTRAINT c;", []),
        ("ALTER TABLE a ALTER b DROP NOT NULL, ALTER c DROP DEFAULT;", []),
        ("DROP INDEX i;", []),
        ("DROP VIEW v; -- DROP TABLE a", []),
        ("SELECT 'DROP TABLE a';", []),
        ("CREATE TABLE a (deleted int);", []),
    ],
)
def test_possible_losses(statement: str, found: list[tuple[str, str | None]]) -> None:
    assert list(possible_losses(statement, "postgresql")) == [Loss(*expected) for expected in found]


# The package.


def test_every_public_name_is_there_and_the_port_alone_is_cheap() -> None:
    import holdfast.store.migrations as package

    assert all(getattr(package, name) is not None for name in package.__all__)
    assert set(package.__all__) == set(package._HOME)
    with pytest.raises(AttributeError):
        package.nothing  # noqa: B018
    probe = (
        "import sys, holdfast.store.migrations.session;"
        "print('holdfast.store.migrations.parser' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "False\n"

"""A kind of record that only the tests have, with migrations of its own: the way a platform adds one."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

from holdfast.records.declare import SoftRecord, field, record


class Mood(StrEnum):
    CALM = "calm"
    CROSS = "cross"


@record(table="notes")
class Note(SoftRecord):
    title: str = field(search=True)
    body: str | None = field(default=None, search=True, filter=None)
    mood: Mood = Mood.CALM
    priority: int = 0
    weight: float = 0.0
    done: bool = False
    due_at: datetime | None = field(default=None, filter="due")
    takes: timedelta = field(default=timedelta(0))
    tags: tuple[str, ...] = field(default=(), filter="tag")
    owner: str = field(default="", immutable=True)
    facts: dict[str, Any] = field(default_factory=dict)
    blob: bytes = b""
    anything: Any = None
    pin: str | None = field(default=None, secret=True)


_UP = {
    "sqlite": """
CREATE TABLE notes (
    position INTEGER PRIMARY KEY, tenant_id TEXT NOT NULL, id TEXT NOT NULL, revision INTEGER NOT NULL,
    created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL, deleted_at INTEGER,
    title TEXT NOT NULL, body TEXT, mood TEXT NOT NULL, priority INTEGER NOT NULL, weight REAL NOT NULL,
    done INTEGER NOT NULL, due_at INTEGER, takes INTEGER NOT NULL, tags TEXT NOT NULL, owner TEXT NOT NULL,
    facts TEXT NOT NULL, blob BLOB NOT NULL, anything BLOB, pin TEXT,
    words_first TEXT NOT NULL, words_rest TEXT NOT NULL, UNIQUE (tenant_id, id)
) STRICT;
CREATE VIRTUAL TABLE notes_words USING fts5(
    words_first, words_rest, content = 'notes', content_rowid = 'position', tokenize = 'ascii'
);
-- +migrate StatementBegin
CREATE TRIGGER notes_words_in AFTER INSERT ON notes BEGIN
    INSERT INTO notes_words (rowid, words_first, words_rest)
    VALUES (new.position, new.words_first, new.words_rest);
END;
-- +migrate StatementEnd
-- +migrate StatementBegin
CREATE TRIGGER notes_words_out AFTER DELETE ON notes BEGIN
    INSERT INTO notes_words (notes_words, rowid, words_first, words_rest)
    VALUES ('delete', old.position, old.words_first, old.words_rest);
END;
-- +migrate StatementEnd
-- +migrate StatementBegin
CREATE TRIGGER notes_words_new AFTER UPDATE OF words_first, words_rest ON notes BEGIN
    INSERT INTO notes_words (notes_words, rowid, words_first, words_rest)
    VALUES ('delete', old.position, old.words_first, old.words_rest);
    INSERT INTO notes_words (rowid, words_first, words_rest)
    VALUES (new.position, new.words_first, new.words_rest);
END;
-- +migrate StatementEnd
""",
    "postgresql": """
CREATE TABLE {schema}.notes (
    tenant_id text COLLATE "C" NOT NULL, id text COLLATE "C" NOT NULL, revision bigint NOT NULL,
    created_at timestamptz NOT NULL, updated_at timestamptz NOT NULL, deleted_at timestamptz,
    title text COLLATE "C" NOT NULL, body text, mood text COLLATE "C" NOT NULL, priority bigint NOT NULL,
    weight double precision NOT NULL, done boolean NOT NULL, due_at timestamptz, takes bigint NOT NULL,
    tags text[] NOT NULL, owner text COLLATE "C" NOT NULL, facts json NOT NULL, blob bytea NOT NULL,
    anything bytea, pin text, words_first text NOT NULL, words_rest text NOT NULL,
    search tsvector GENERATED ALWAYS AS (
        array_to_tsvector(array_remove(string_to_array(words_first || ' ' || words_rest, ' '), ''))
    ) STORED,
    PRIMARY KEY (tenant_id, id)
);
CREATE INDEX notes_search ON {schema}.notes USING gin (search);
""",
    "mysql": """
CREATE TABLE notes (
    tenant_id VARCHAR(255) NOT NULL, id VARCHAR(255) NOT NULL, revision BIGINT NOT NULL,
    created_at DATETIME(6) NOT NULL, updated_at DATETIME(6) NOT NULL, deleted_at DATETIME(6),
    title VARCHAR(255) NOT NULL, body LONGTEXT, mood VARCHAR(20) NOT NULL, priority BIGINT NOT NULL,
    weight DOUBLE NOT NULL, done BOOLEAN NOT NULL, due_at DATETIME(6), takes BIGINT NOT NULL,
    tags LONGTEXT NOT NULL, owner VARCHAR(255) NOT NULL, facts LONGTEXT NOT NULL, `blob` LONGBLOB NOT NULL,
    anything LONGBLOB, pin VARCHAR(255), words_first LONGTEXT NOT NULL, words_rest LONGTEXT NOT NULL,
    PRIMARY KEY (tenant_id, id)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE={binary};
CREATE FULLTEXT INDEX notes_first ON notes (words_first);
CREATE FULLTEXT INDEX notes_words ON notes (words_first, words_rest);
""",
}


def write_migrations(folder: Path) -> Path:
    """The migrations of `Note`, one folder per dialect, below `folder`; the setting for it."""
    for dialect, up in _UP.items():
        place = folder / dialect
        place.mkdir(parents=True)
        table = "{schema}.notes" if dialect == "postgresql" else "notes"
        words = "DROP TABLE notes_words;\n" if dialect == "sqlite" else ""
        (place / "10001_notes.sql").write_text(
            f"-- +migrate Up\n{up}\n-- +migrate Down\n{words}DROP TABLE {table};\n"
        )
    return folder

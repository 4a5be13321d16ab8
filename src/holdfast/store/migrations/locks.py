"""Whom a statement of a migration holds up, and what it has to do: rules by dialect, from the manuals.

The rules know the usual forms. What they do not know is told as "unknown", never as harmless. Every rule is
compared with a server in the tests: PostgreSQL shows the lock it took, MariaDB refuses a lock that is too
weak.
"""

from __future__ import annotations

import re
from enum import StrEnum
from functools import reduce
from typing import NamedTuple

from holdfast.store.migrations.splitter import NAME, Dialect, code


class Blocks(StrEnum):
    """Who waits for the statement, from the least to the most."""

    NOBODY = "nobody"
    SAME_ROWS = "writers of the same rows"
    WRITERS = "writers"
    EVERYBODY = "everybody"
    UNKNOWN = "unknown"


class Work(StrEnum):
    """What grows with the rows of the table, from the least to the most."""

    NOTHING = "nothing"
    SCAN = "reads the table"
    INDEX = "builds an index"
    ROWS = "changes rows"
    REWRITE = "writes the table anew"


class Impact(NamedTuple):
    """What one statement does to others; `lock` is the database's own word."""

    lock: str
    blocks: Blocks
    work: Work = Work.NOTHING

    def and_also(self, other: Impact) -> Impact:
        """Both at once: the stronger lock and the larger work."""
        blocking = max(self, other, key=lambda impact: _BLOCKS.index(impact.blocks))
        work = max(self.work, other.work, key=_WORKS.index)
        return Impact(blocking.lock, blocking.blocks, work)


_BLOCKS, _WORKS = tuple(Blocks), tuple(Work)
_FREE = Impact("none", Blocks.NOBODY)
_UNKNOWN = Impact("unknown", Blocks.UNKNOWN)

_Rules = tuple[tuple[re.Pattern[str], Impact], ...]


def _rules(*rules: tuple[str, Impact]) -> _Rules:
    return tuple((re.compile(pattern), impact) for pattern, impact in rules)


_ALTER_TABLE = re.compile(rf"ALTER (ONLINE |IGNORE )*TABLE (IF EXISTS )?(ONLY )?{NAME}\s*")

# PostgreSQL.
_EXCLUSIVE = Impact("ACCESS EXCLUSIVE", Blocks.EVERYBODY)
_SHARE_ROW = Impact("SHARE ROW EXCLUSIVE", Blocks.WRITERS)
_UPDATE = Impact("SHARE UPDATE EXCLUSIVE", Blocks.NOBODY)
_ROWS = Impact("ROW EXCLUSIVE", Blocks.SAME_ROWS, Work.ROWS)
_POSTGRESQL = _rules(
    (r"CREATE (UNLOGGED )?TABLE\b", _FREE),
    (r"CREATE (UNIQUE )?INDEX CONCURRENTLY\b", _UPDATE._replace(work=Work.INDEX)),
    (r"CREATE (UNIQUE )?INDEX\b", Impact("SHARE", Blocks.WRITERS, Work.INDEX)),
    (r"DROP INDEX CONCURRENTLY\b", _UPDATE),
    (r"(DROP (TABLE|INDEX)|TRUNCATE)\b", _EXCLUSIVE),
    (r"INSERT\b(?!.*\bSELECT\b)", Impact("ROW EXCLUSIVE", Blocks.NOBODY)),
    (r"(INSERT|UPDATE|DELETE|MERGE|WITH)\b", _ROWS),
    (r"CREATE (OR REPLACE )?(CONSTRAINT )?TRIGGER\b", _SHARE_ROW),
    (r"(DROP TRIGGER|(CREATE|ALTER|DROP) POLICY)\b", _EXCLUSIVE),
    (
        r"(CREATE|ALTER|DROP) (OR REPLACE )?(VIEW|FUNCTION|PROCEDURE|SEQUENCE|TYPE|SCHEMA|ROLE|DOMAIN)\b",
        _FREE,
    ),
    (r"CREATE MATERIALIZED VIEW\b", Impact("ACCESS SHARE", Blocks.NOBODY, Work.SCAN)),
    (r"DROP MATERIALIZED VIEW\b", _EXCLUSIVE),
    (r"(GRANT|REVOKE|SET|SELECT)\b", _FREE),
    (r"(COMMENT ON|ANALYZE)\b", _UPDATE),
)
_VOLATILE = r"(RANDOM|GEN_RANDOM_UUID|CLOCK_TIMESTAMP|NEXTVAL|UUID_GENERATE_V4)\s*\("
_POSTGRESQL_CLAUSES = _rules(
    (r"VALIDATE CONSTRAINT\b", _UPDATE._replace(work=Work.SCAN)),
    (r"ADD (CONSTRAINT \S+ )?FOREIGN KEY\b.*\bNOT VALID\b", _SHARE_ROW),
    (r"ADD (CONSTRAINT \S+ )?FOREIGN KEY\b", _SHARE_ROW._replace(work=Work.SCAN)),
    (r"ADD (CONSTRAINT \S+ )?(PRIMARY KEY|UNIQUE) USING INDEX\b", _EXCLUSIVE),
    (r"ADD (CONSTRAINT \S+ )?(PRIMARY KEY|UNIQUE)\b", _EXCLUSIVE._replace(work=Work.INDEX)),
    (r"ADD (CONSTRAINT \S+ )?CHECK\b.*\bNOT VALID\b", _EXCLUSIVE),
    (r"ADD (CONSTRAINT \S+ )?CHECK\b", _EXCLUSIVE._replace(work=Work.SCAN)),
    (r"ALTER (COLUMN )?\S+ SET NOT NULL\b", _EXCLUSIVE._replace(work=Work.SCAN)),
    (r"ALTER (COLUMN )?\S+ (SET DATA )?TYPE\b", _EXCLUSIVE._replace(work=Work.REWRITE)),
    (rf"ADD\b.*({_VOLATILE}|\bSTORED\b|SERIAL\b|\bAS IDENTITY\b)", _EXCLUSIVE._replace(work=Work.REWRITE)),
    (r"ATTACH PARTITION\b", _UPDATE._replace(work=Work.SCAN)),
    (r"(ENABLE|DISABLE) (REPLICA |ALWAYS )?TRIGGER\b", _SHARE_ROW),
    (r"(SET|RESET) \(", _UPDATE),
)

# MySQL and MariaDB.
_METADATA = Impact("metadata lock, exclusive", Blocks.EVERYBODY)
_SHARED = Impact("LOCK=SHARED", Blocks.WRITERS)
_ONLINE = Impact("LOCK=NONE", Blocks.NOBODY)
_MYSQL = _rules(
    (r"CREATE (OR REPLACE )?TABLE\b", _FREE),
    # The first full-text index of a table gives it a hidden column.
    (r"CREATE (FULLTEXT|SPATIAL) INDEX\b", _SHARED._replace(work=Work.REWRITE)),
    (r"CREATE (UNIQUE )?INDEX\b", _ONLINE._replace(work=Work.INDEX)),
    (r"DROP INDEX\b", _ONLINE),
    (r"(DROP TABLE|RENAME TABLES?|TRUNCATE)\b", _METADATA),
    (r"(CREATE|DROP) .*\bTRIGGER\b", _METADATA),
    (r"(INSERT|REPLACE)\b(?!.*\bSELECT\b)", Impact("row locks", Blocks.NOBODY)),
    (r"(INSERT|REPLACE|UPDATE|DELETE|WITH|LOAD)\b", Impact("row locks", Blocks.SAME_ROWS, Work.ROWS)),
    (r"(CREATE|ALTER|DROP) .*\b(VIEW|FUNCTION|PROCEDURE|EVENT|SEQUENCE)\b", _FREE),
    (r"(GRANT|REVOKE|SET|SELECT|ANALYZE|DO)\b", _FREE),
)
_MYSQL_CLAUSES = _rules(
    (r"(MODIFY|CHANGE|CONVERT TO)\b", _SHARED._replace(work=Work.REWRITE)),
    (r"ADD (CONSTRAINT \S+ )?(FOREIGN KEY|CHECK)\b", _SHARED._replace(work=Work.REWRITE)),
    (r"ADD\b.*\b(STORED|PERSISTENT)\b", _SHARED._replace(work=Work.REWRITE)),
    (r"ADD (FULLTEXT|SPATIAL)\b", _SHARED._replace(work=Work.REWRITE)),
    (r"DROP PRIMARY KEY\b", _SHARED._replace(work=Work.REWRITE)),
    (r"ADD (CONSTRAINT \S+ )?PRIMARY KEY\b", _ONLINE._replace(work=Work.REWRITE)),
    (r"ADD (CONSTRAINT \S+ )?(UNIQUE|INDEX|KEY)\b", _ONLINE._replace(work=Work.INDEX)),
    (r"(ENGINE|ROW_FORMAT|KEY_BLOCK_SIZE)\b|FORCE\b", _ONLINE._replace(work=Work.REWRITE)),
    # At once on MariaDB and the newest MySQL; by writing the table anew on an older MySQL.
    (r"DROP (COLUMN )?(?!PRIMARY|INDEX|KEY|CONSTRAINT|FOREIGN|CHECK|PARTITION|DEFAULT)\S",
     _ONLINE._replace(work=Work.REWRITE)),
    (r"(ADD|DROP|REORGANIZE|TRUNCATE|COALESCE) PARTITION\b", _UNKNOWN),
)  # fmt: skip

# SQLite: one writer, for as long as its transaction lasts; readers go on.
_WRITER = Impact("the write lock", Blocks.WRITERS)
_SQLITE = _rules(
    (r"(SELECT|PRAGMA)\b", _FREE),
    (r"CREATE (UNIQUE )?INDEX\b", _WRITER._replace(work=Work.INDEX)),
    (r"INSERT\b(?!.*\bSELECT\b)", _WRITER),
    (r"(INSERT|REPLACE|UPDATE|DELETE|WITH)\b", _WRITER._replace(work=Work.ROWS)),
    (r"VACUUM\b", _WRITER._replace(work=Work.REWRITE)),
    (r"REINDEX\b", _WRITER._replace(work=Work.INDEX)),
    (r"(CREATE|DROP|ANALYZE)\b", _WRITER),
)
_SQLITE_CLAUSES = _rules(
    (r"DROP (COLUMN )?\S", _WRITER._replace(work=Work.REWRITE)),
    (r"ADD\b.*\b(CHECK|NOT NULL)\b", _WRITER._replace(work=Work.SCAN)),
)
_STATEMENTS = {"postgresql": _POSTGRESQL, "mysql": _MYSQL, "sqlite": _SQLITE}
_CLAUSES = {"postgresql": _POSTGRESQL_CLAUSES, "mysql": _MYSQL_CLAUSES, "sqlite": _SQLITE_CLAUSES}
# What an ALTER TABLE takes whose clauses none of the rules knows.
_ALTER = {"postgresql": _EXCLUSIVE, "mysql": _ONLINE, "sqlite": _WRITER}


def impact_of(statement: str, dialect: Dialect) -> Impact:
    """What a statement of a migration does to others while it runs."""
    text = " ".join(code(statement, dialect).upper().split())
    if (alter := _ALTER_TABLE.match(text)) is not None:
        return _of_clauses(text[alter.end() :], dialect)
    return next((impact for rule, impact in _STATEMENTS[dialect] if rule.match(text)), _UNKNOWN)


def _of_clauses(text: str, dialect: Dialect) -> Impact:
    rules, otherwise = _CLAUSES[dialect], _ALTER[dialect]
    found = [
        next((impact for rule, impact in rules if rule.match(clause)), otherwise) for clause in _clauses(text)
    ]
    together = reduce(Impact.and_also, found)
    # Neither at once nor in place: MySQL's ways for the one clause do not go with the other.
    if dialect == "mysql" and together.work is Work.INDEX and len({impact.work for impact in found}) > 1:
        return together._replace(work=Work.REWRITE)
    return together


def _clauses(text: str) -> list[str]:
    """The clauses of an ALTER TABLE, cut at the commas that stand outside of parentheses."""
    parts, depth, begun = [], 0, 0
    for place, sign in enumerate(text):
        depth += (sign == "(") - (sign == ")")
        if sign == "," and depth == 0:
            parts.append(text[begun:place])
            begun = place + 1
    return [part.strip() for part in (*parts, text[begun:])]

-- The ledger of applied migrations. Every column but the version has a default, so a person can mark a
-- version as applied with INSERT INTO schema_migrations (version) VALUES ('20240115'); such a row has no
-- checksum and is never compared with its file.

-- name: ledger.exists
SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'schema_migrations')

-- name: ledger.create_table
-- WITHOUT ROWID: an INTEGER PRIMARY KEY of a rowid table would invent a version for NULL.
CREATE TABLE schema_migrations (
    version INTEGER NOT NULL PRIMARY KEY CHECK (version > 0),
    name TEXT NOT NULL DEFAULT '',
    checksum TEXT,
    applied_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    duration_ms INTEGER NOT NULL DEFAULT 0 CHECK (duration_ms >= 0),
    applied_by TEXT NOT NULL DEFAULT ''
) STRICT, WITHOUT ROWID

-- name: ledger.read
SELECT version, name, checksum, applied_at, duration_ms, applied_by
FROM schema_migrations ORDER BY version

-- name: ledger.add
INSERT INTO schema_migrations (version, name, checksum, applied_by) VALUES (?1, ?2, ?3, ?4)

-- name: ledger.finish
UPDATE schema_migrations SET duration_ms = ?2 WHERE version = ?1

-- name: ledger.amend
UPDATE schema_migrations SET name = ?2, checksum = ?3 WHERE version = ?1

-- name: ledger.remove
DELETE FROM schema_migrations WHERE version = ?1

-- The ledger of applied migrations. Every column but the version has a default, so a person can mark a
-- version as applied with INSERT INTO schema_migrations (version) VALUES ('20240115'); such a row has no
-- checksum and is never compared with its file.

-- name: ledger.exists
SELECT EXISTS (
    SELECT FROM pg_catalog.pg_tables WHERE schemaname = $1 AND tablename = 'schema_migrations'
)

-- name: ledger.schema_exists
SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1)

-- name: ledger.create_schema
-- Not IF NOT EXISTS: that needs the right to create schemas even when this one is there.
CREATE SCHEMA {schema}

-- name: ledger.create_table
CREATE TABLE {schema}.schema_migrations (
    version bigint PRIMARY KEY CHECK (version > 0),
    name text NOT NULL DEFAULT '',
    checksum text,
    applied_at timestamptz NOT NULL DEFAULT now(),
    duration_ms bigint NOT NULL DEFAULT 0 CHECK (duration_ms >= 0),
    applied_by text NOT NULL DEFAULT ''
)

-- name: ledger.read
SELECT version, name, checksum, applied_at, duration_ms, applied_by
FROM {schema}.schema_migrations ORDER BY version

-- name: ledger.add
INSERT INTO {schema}.schema_migrations (version, name, checksum, applied_by) VALUES ($1, $2, $3, $4)

-- name: ledger.finish
UPDATE {schema}.schema_migrations SET duration_ms = $2 WHERE version = $1

-- name: ledger.amend
UPDATE {schema}.schema_migrations SET name = $2, checksum = $3 WHERE version = $1

-- name: ledger.remove
DELETE FROM {schema}.schema_migrations WHERE version = $1

-- name: ledger.enter_transaction
-- Files may leave the schema out: new tables go into it, and its tables are found.
SET LOCAL search_path TO {schema}, public

-- name: ledger.enter_session
SET search_path TO {schema}, public

-- name: ledger.leave_session
RESET search_path

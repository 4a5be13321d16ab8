-- The ledger of applied migrations. Every column but the version has a default, so a person can mark a
-- version as applied with INSERT INTO schema_migrations (version) VALUES ('20240115'); such a row has no
-- checksum and is never compared with its file.
--
-- DDL commits by itself, so a migration is noted statement by statement in schema_migration_steps until its row
-- stands in the ledger; outside of a migration that table is empty.

-- name: ledger.exists
SELECT EXISTS (
    SELECT 1 FROM information_schema.tables
    WHERE table_schema = database() AND table_name = 'schema_migrations'
)

-- name: ledger.create_steps
-- Before the ledger, so that a ledger that is there never lacks it.
CREATE TABLE IF NOT EXISTS schema_migration_steps (
    version BIGINT NOT NULL,
    step INT NOT NULL CHECK (step > 0),
    direction VARCHAR(4) NOT NULL CHECK (direction IN ('up', 'down')),
    checksum CHAR(64) NOT NULL,
    state VARCHAR(5) NOT NULL CHECK (state IN ('begun', 'done')),
    -- Whether the catalogue looked as after the statement before it ran: then it tells nothing.
    seen_before BOOLEAN NOT NULL,
    begun_at DATETIME(6) NOT NULL DEFAULT (utc_timestamp(6)),
    PRIMARY KEY (version, step)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE={binary}

-- name: ledger.create_table
CREATE TABLE IF NOT EXISTS schema_migrations (
    version BIGINT NOT NULL PRIMARY KEY CHECK (version > 0),
    name VARCHAR(255) NOT NULL DEFAULT '',
    checksum CHAR(64),
    applied_at DATETIME(6) NOT NULL DEFAULT (utc_timestamp(6)),
    duration_ms BIGINT NOT NULL DEFAULT 0 CHECK (duration_ms >= 0),
    applied_by VARCHAR(255) NOT NULL DEFAULT ''
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE={binary}

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

-- name: ledger.steps
SELECT version, step, direction, checksum, state, seen_before FROM schema_migration_steps ORDER BY version, step

-- name: ledger.begin_step
INSERT INTO schema_migration_steps (version, step, direction, checksum, state, seen_before)
VALUES (?1, ?2, ?3, ?4, 'begun', ?5)

-- name: ledger.end_steps
UPDATE schema_migration_steps SET state = 'done' WHERE version = ?1 AND step BETWEEN ?2 AND ?3

-- name: ledger.forget_steps
DELETE FROM schema_migration_steps WHERE version = ?1 AND step BETWEEN ?2 AND ?3

-- name: ledger.enter_client
-- For printed SQL: what the driver's own sessions are set to. Triggers and routines keep the mode they are made in.
SET NAMES utf8mb4, time_zone = '+00:00',
    sql_mode = 'STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION,ERROR_FOR_DIVISION_BY_ZERO'

-- What SQLite tells about the tables that a migration touches.

-- name: catalogue.table
SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND lower(name) = lower(?1))

-- name: catalogue.rows
-- It keeps no estimate. `{table}` is a name as a statement has it; counting ends at a million.
SELECT count(*) FROM (SELECT 1 FROM {table} LIMIT 1000000)

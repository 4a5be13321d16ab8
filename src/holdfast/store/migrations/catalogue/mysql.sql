-- Whether something is in MySQL's catalogue. ?1 is its database (NULL: the store's own), ?2 the table it belongs
-- to, ?3 its name. Names of tables and triggers are compared as the server compares them; the others never
-- tell capitals from small letters.

-- name: catalogue.table
SELECT count(*) FROM information_schema.tables
WHERE table_schema = coalesce(?1, database()) AND table_name = ?3

-- name: catalogue.view
SELECT count(*) FROM information_schema.tables
WHERE table_schema = coalesce(?1, database()) AND table_name = ?3 AND table_type LIKE '%VIEW'

-- name: catalogue.column
SELECT count(*) FROM information_schema.columns
WHERE table_schema = coalesce(?1, database()) AND table_name = ?2 AND lower(column_name) = lower(?3)

-- name: catalogue.index
SELECT count(*) FROM information_schema.statistics
WHERE table_schema = coalesce(?1, database()) AND table_name = ?2 AND lower(index_name) = lower(?3)

-- name: catalogue.constraint
SELECT count(*) FROM information_schema.table_constraints
WHERE table_schema = coalesce(?1, database()) AND table_name = ?2 AND lower(constraint_name) = lower(?3)

-- name: catalogue.trigger
SELECT count(*) FROM information_schema.triggers
WHERE trigger_schema = coalesce(?1, database()) AND trigger_name = ?3

-- name: catalogue.procedure
SELECT count(*) FROM information_schema.routines
WHERE routine_type = 'PROCEDURE' AND routine_schema = coalesce(?1, database())
    AND lower(routine_name) = lower(?3)

-- name: catalogue.function
SELECT count(*) FROM information_schema.routines
WHERE routine_type = 'FUNCTION' AND routine_schema = coalesce(?1, database())
    AND lower(routine_name) = lower(?3)

-- name: catalogue.event
SELECT count(*) FROM information_schema.events
WHERE event_schema = coalesce(?1, database()) AND lower(event_name) = lower(?3)

-- name: catalogue.rows
-- The server's estimate; ?1 is a name as a statement has it, split into database and table.
SELECT coalesce(table_rows, 0) FROM information_schema.tables
WHERE table_schema = coalesce(?1, database()) AND table_name = ?2 AND table_type = 'BASE TABLE'

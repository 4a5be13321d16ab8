-- name: store.now
SELECT {now}

-- name: store.sizes
-- Rows are the server's estimate, which costs nothing; bytes are the pages of a table and of its indexes.
SELECT table_name, CAST(coalesce(table_rows, 0) AS SIGNED),
       CAST(coalesce(data_length + index_length, 0) AS SIGNED)
FROM information_schema.tables
WHERE table_schema = DATABASE() AND table_type = 'BASE TABLE' ORDER BY table_name

-- name: health.write
-- Inside a transaction that is rolled back.
INSERT INTO mailboxes (tenant_id, name, created_at) VALUES (?1, ?2, {now}) RETURNING name

-- name: health.server
-- Version, whether it refuses writes, how many copies follow it, how far behind they or it are (microseconds).
SELECT sqlite_version(), 0, NULL, NULL

-- name: health.write
-- Inside a transaction that is rolled back.
INSERT INTO mailboxes (tenant_id, name, created_at) VALUES (?1, ?2, {now})
-- then
SELECT name FROM mailboxes WHERE tenant_id = ?1 AND name = ?2

-- name: health.server
-- Version, whether it refuses writes, how many copies follow it, how far behind they or it are (microseconds).
-- What is known of copies takes a privilege that a program has no other need of.
SELECT VERSION(), @@global.read_only, NULL, NULL

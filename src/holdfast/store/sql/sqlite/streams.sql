-- name: streams.make
-- The head's row is what appenders lock, so it has to be there before anything is numbered.
INSERT INTO streams (tenant_id, name, head, created_at) VALUES (?1, ?2, 0, {now})
ON CONFLICT (tenant_id, name) DO NOTHING

-- name: streams.lock
SELECT head FROM streams WHERE tenant_id = ?1 AND name = ?2

-- name: streams.advance
UPDATE streams SET head = ?3 WHERE tenant_id = ?1 AND name = ?2

-- name: streams.insert
INSERT INTO stream_events (tenant_id, stream, seq, type, payload, at)
VALUES (?1, ?2, ?3, ?4, ?5, {now})

-- name: streams.read
SELECT stream, seq, type, payload, at, position FROM stream_events
WHERE tenant_id = ?1 AND stream = ?2 AND seq > ?3 ORDER BY seq LIMIT ?4

-- name: streams.follow
-- One writer at a time makes `position` the order of commits.
SELECT stream, seq, type, payload, at, position FROM stream_events
WHERE tenant_id = ?1 AND position > ?2 AND stream GLOB ?3 ORDER BY position LIMIT ?4

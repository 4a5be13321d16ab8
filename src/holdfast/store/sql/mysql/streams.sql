-- name: streams.make
-- The head's row is what appenders lock, so it has to be there before anything is numbered.
INSERT INTO streams (tenant_id, name, head, created_at) VALUES (?1, ?2, 0, {now})
ON DUPLICATE KEY UPDATE head = streams.head

-- name: streams.lock
SELECT head FROM streams WHERE tenant_id = ?1 AND name = ?2 FOR UPDATE

-- name: streams.advance
UPDATE streams SET head = ?3 WHERE tenant_id = ?1 AND name = ?2

-- name: streams.insert
SET @hf_era = NULL
-- then
SELECT era INTO @hf_era FROM log_eras ORDER BY era DESC LIMIT 1 LOCK IN SHARE MODE
-- then
INSERT INTO stream_events (tenant_id, stream, seq, type, payload, at) VALUES (?1, ?2, ?3, ?4, ?5, {now})

-- name: streams.read
SELECT stream, seq, type, payload, at, position FROM stream_events
WHERE tenant_id = ?1 AND stream = ?2 AND seq > ?3 ORDER BY seq LIMIT ?4

-- name: streams.follow
-- Nothing can appear at or below the positions that the oldest era began with; see `log_eras`.
SET @hf_before = NULL
-- then
SELECT stream_events_before INTO @hf_before FROM log_eras ORDER BY era LIMIT 1
-- then
SELECT stream, seq, type, payload, at, position FROM stream_events FORCE INDEX (stream_events_log_order)
WHERE tenant_id = ?1 AND position > ?2 AND position <= @hf_before AND stream LIKE ?3 ORDER BY position LIMIT ?4

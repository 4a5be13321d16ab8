-- name: streams.make
-- The head's row is what appenders lock, so it has to be there before anything is numbered.
INSERT INTO {schema}.streams (tenant_id, name, head, created_at) VALUES ($1, $2, 0, {now})
ON CONFLICT DO NOTHING

-- name: streams.lock
SELECT head FROM {schema}.streams WHERE tenant_id = $1 AND name = $2 FOR NO KEY UPDATE

-- name: streams.advance
UPDATE {schema}.streams SET head = $3 WHERE tenant_id = $1 AND name = $2

-- name: streams.insert
INSERT INTO {schema}.stream_events (tenant_id, stream, seq, type, payload, at)
VALUES ($1, $2, $3, $4, $5, {now})

-- name: streams.read
SELECT stream, seq, type, payload, at, xid::text FROM {schema}.stream_events
WHERE tenant_id = $1 AND stream = $2 AND seq > $3 ORDER BY seq LIMIT $4

-- name: streams.follow
-- Below the oldest transaction that still runs, as for the log: nothing appears behind a position once told.
SELECT stream, seq, type, payload, at, xid::text FROM {schema}.stream_events
WHERE tenant_id = $1 AND xid >= $2::text::xid8 AND (xid, stream, seq) > ($2::text::xid8, $3::text, $4::bigint)
  AND xid < pg_snapshot_xmin(pg_current_snapshot()) AND stream LIKE $5
ORDER BY xid, stream, seq LIMIT $6

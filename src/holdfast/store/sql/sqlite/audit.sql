-- name: audit.begin
-- The beginning of a chain, unless there is one: ?2 is the hash that its first entry follows.
INSERT INTO audit_heads (tenant_id, id, revision, created_at, updated_at, seq, hash, at)
SELECT ?1, 'head', 1, c.now, c.now, 0, ?2, c.now FROM (SELECT {now} AS now) c WHERE true
ON CONFLICT DO NOTHING

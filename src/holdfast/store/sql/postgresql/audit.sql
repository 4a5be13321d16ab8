-- name: audit.begin
-- The beginning of a chain, unless there is one: $2 is the hash that its first entry follows.
INSERT INTO {schema}.audit_heads (tenant_id, id, revision, created_at, updated_at, seq, hash, at)
VALUES ($1, 'head', 1, {now}, {now}, 0, $2, {now})
ON CONFLICT DO NOTHING

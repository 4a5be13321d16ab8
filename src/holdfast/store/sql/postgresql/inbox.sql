-- name: inbox.post
-- The message id makes sending again harmless.
INSERT INTO {schema}.inbox (execution, message, tenant_id, kind, name, payload, created_at)
SELECT $1, $2, e.tenant_id, $3, $4, $5, {now} FROM {schema}.executions e WHERE e.key = $1
ON CONFLICT DO NOTHING
RETURNING message

-- name: inbox.read
SELECT message, kind, name, payload FROM {schema}.inbox WHERE execution = $1 ORDER BY created_at, message

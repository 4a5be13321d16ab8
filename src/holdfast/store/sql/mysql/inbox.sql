-- name: inbox.post
-- The message id makes sending again harmless.
INSERT INTO inbox (execution, message, tenant_id, kind, name, payload, created_at)
SELECT ?1, ?2, e.tenant_id, ?3, ?4, ?5, {now} FROM executions e WHERE e.`key` = ?1
ON DUPLICATE KEY UPDATE message = inbox.message
-- then
SELECT ?2 AS done FROM DUAL WHERE ROW_COUNT() = 1

-- name: inbox.read
SELECT message, kind, name, payload FROM inbox WHERE execution = ?1 ORDER BY created_at, message

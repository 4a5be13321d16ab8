-- name: sessions.by_token
-- The columns of `Session` in their order, the present, and whether the user is deleted.
SELECT s.id, s.revision, s.created_at, s.updated_at, s.user_id, s.token_hash, s.device, s.ip,
       s.user_agent, s.context, s.expires_at, s.idle_timeout, s.last_seen_at, s.terminated_at,
       s.termination, {now}, u.deleted_at IS NOT NULL
FROM sessions s JOIN users u ON u.tenant_id = s.tenant_id AND u.id = s.user_id
WHERE s.tenant_id = ?1 AND s.token_hash = ?2

-- name: sessions.seen
-- Of several who see a session at once, one writes it; nobody takes an end back.
UPDATE sessions SET last_seen_at = {now}, revision = revision + 1, updated_at = {now}
WHERE tenant_id = ?1 AND id = ?2 AND revision = ?3 AND terminated_at IS NULL
-- then
SET @hf_n = ROW_COUNT()
-- then
SELECT revision, last_seen_at, updated_at FROM sessions WHERE tenant_id = ?1 AND id = ?2 AND @hf_n > 0

-- name: sessions.purge
-- Sessions that expired so many microseconds ago, the oldest first.
SET @hf_ids = NULL
-- then
SELECT JSON_ARRAYAGG(id) INTO @hf_ids FROM (
    SELECT id FROM sessions WHERE tenant_id = ?1 AND expires_at <= {now} - INTERVAL ?2 MICROSECOND
    ORDER BY expires_at LIMIT ?3 FOR UPDATE SKIP LOCKED
) AS picked
-- then
DELETE FROM sessions WHERE tenant_id = ?1 AND id IN (
    SELECT id
    FROM JSON_TABLE(@hf_ids, '$[*]' COLUMNS (id VARCHAR(255) CHARACTER SET utf8mb4 COLLATE {binary} PATH '$')) j
)
-- then
SELECT id
FROM JSON_TABLE(@hf_ids, '$[*]' COLUMNS (id VARCHAR(255) CHARACTER SET utf8mb4 COLLATE {binary} PATH '$')) j

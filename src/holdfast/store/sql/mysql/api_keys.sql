-- name: api_keys.by_prefix
-- The columns of `ApiKey` in their order, the present, and whether the user is deleted. A prefix hardly ever
-- stands for two keys.
SELECT k.id, k.revision, k.created_at, k.updated_at, k.user_id, k.name, k.prefix, k.hash, k.scopes,
       k.expires_at, k.last_used_at, k.revoked_at, {now}, u.deleted_at IS NOT NULL
FROM api_keys k JOIN users u ON u.tenant_id = k.tenant_id AND u.id = k.user_id
WHERE k.tenant_id = ?1 AND k.prefix = ?2 LIMIT 10

-- name: api_keys.used
-- Written again only after a while, so that a busy key costs one write in that time.
UPDATE api_keys SET last_used_at = {now}, hash = COALESCE(?4, hash), revision = revision + 1, updated_at = {now}
WHERE tenant_id = ?1 AND id = ?2 AND revoked_at IS NULL
  AND (last_used_at IS NULL OR last_used_at <= {now} - INTERVAL ?3 MICROSECOND)
-- then
SET @hf_n = ROW_COUNT()
-- then
SELECT revision, last_used_at, updated_at FROM api_keys
WHERE tenant_id = ?1 AND id = ?2 AND @hf_n > 0

-- name: users.by_email
-- At most one, by the index that makes it so.
SELECT id, password_hash FROM users WHERE tenant_id = ?1 AND email_key = ?2 AND deleted_at IS NULL

-- name: users.with_mfa
-- Users with a second factor behind an id, also deleted ones: they may come back.
SELECT id, mfa_secret FROM users WHERE tenant_id = ?1 AND id > ?2 AND mfa_secret IS NOT NULL
ORDER BY id LIMIT ?3

-- name: users.reseal
-- Nothing happens to a secret that was replaced meanwhile.
UPDATE users SET mfa_secret = ?4, revision = revision + 1, updated_at = {now}
WHERE tenant_id = ?1 AND id = ?2 AND mfa_secret = ?3 RETURNING id

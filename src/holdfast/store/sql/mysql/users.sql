-- name: users.by_email
-- At most one, by the index that makes it so; the column is NULL for deleted users.
SELECT id, password_hash FROM users WHERE tenant_id = ?1 AND live_email_key = ?2

-- name: users.with_mfa
-- Users with a second factor behind an id, also deleted ones: they may come back.
SELECT id, mfa_secret FROM users WHERE tenant_id = ?1 AND mfa_user > ?2 ORDER BY mfa_user LIMIT ?3

-- name: users.reseal
-- Nothing happens to a secret that was replaced meanwhile.
UPDATE users SET mfa_secret = ?4, revision = revision + 1, updated_at = {now}
WHERE tenant_id = ?1 AND id = ?2 AND mfa_secret = ?3
-- then
SET @hf_n = ROW_COUNT()
-- then
SELECT id FROM users WHERE tenant_id = ?1 AND id = ?2 AND @hf_n > 0

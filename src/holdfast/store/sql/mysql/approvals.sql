-- Decisions that executions ask people for. A decision, its expiry and its withdrawal exclude each other by the
-- row's lock.

-- name: approvals.ask
INSERT INTO approvals (tenant_id, id, execution, path, title, form, status, deadline, created_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'pending', TIMESTAMP'1970-01-01 00:00:00' + INTERVAL ?7 MICROSECOND, {now})
ON DUPLICATE KEY UPDATE id = approvals.id
-- then
SELECT ?2 AS done FROM DUAL WHERE ROW_COUNT() = 1

-- name: approvals.lock
SELECT execution, path, status, form, decided_by, coalesce(deadline <= {now}, 0)
FROM approvals WHERE tenant_id = ?1 AND id = ?2 FOR UPDATE

-- name: approvals.close
UPDATE approvals FORCE INDEX (PRIMARY) SET status = ?3, decided_by = ?4, decided_at = {now}, answer = ?5
WHERE tenant_id = ?1 AND id = ?2 AND status = 'pending'
-- then
SELECT decided_at FROM approvals WHERE tenant_id = ?1 AND id = ?2 AND ROW_COUNT() > 0

-- name: approvals.get
SELECT a.id, e.id, a.path, a.title, a.form, a.status, a.deadline, a.decided_by, a.decided_at, a.answer, a.created_at
FROM approvals a JOIN executions e ON e.`key` = a.execution
WHERE a.tenant_id = ?1 AND a.id = ?2

-- name: approvals.pending
-- The longest pending first. The page is cut before it is joined, or the order would be made anew.
SELECT a.id, e.id, a.path, a.title, a.form, a.status, a.deadline, a.decided_by, a.decided_at, a.answer, a.created_at
FROM (SELECT * FROM approvals FORCE INDEX (approvals_pending)
      WHERE tenant_id = ?1 AND status = 'pending' ORDER BY created_at LIMIT ?2) a
JOIN executions e ON e.`key` = a.execution
ORDER BY a.created_at, a.id

-- name: approvals.all
-- The newest first.
SELECT a.id, e.id, a.path, a.title, a.form, a.status, a.deadline, a.decided_by, a.decided_at, a.answer, a.created_at
FROM approvals a JOIN executions e ON e.`key` = a.execution
WHERE a.tenant_id = ?1 ORDER BY a.created_at DESC, a.id LIMIT ?2

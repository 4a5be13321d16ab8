-- Decisions that executions ask people for. A decision, its expiry and its withdrawal exclude each other by the
-- row's lock.

-- name: approvals.ask
INSERT INTO {schema}.approvals (tenant_id, id, execution, path, title, form, status, deadline, created_at)
VALUES ($1, $2, $3, $4, $5, $6, 'pending',
        timestamptz 'epoch' + $7::bigint * interval '1 microsecond', {now})
ON CONFLICT DO NOTHING
RETURNING id

-- name: approvals.lock
SELECT execution, path, status, form, decided_by, coalesce(deadline <= {now}, false)
FROM {schema}.approvals WHERE tenant_id = $1 AND id = $2 FOR NO KEY UPDATE

-- name: approvals.close
UPDATE {schema}.approvals SET status = $3, decided_by = $4, decided_at = {now}, answer = $5
WHERE tenant_id = $1 AND id = $2 AND status = 'pending'
RETURNING decided_at

-- name: approvals.get
SELECT a.id, e.id, a.path, a.title, a.form, a.status, a.deadline, a.decided_by, a.decided_at, a.answer, a.created_at
FROM {schema}.approvals a JOIN {schema}.executions e ON e.key = a.execution
WHERE a.tenant_id = $1 AND a.id = $2

-- name: approvals.pending
-- The longest pending first.
SELECT a.id, e.id, a.path, a.title, a.form, a.status, a.deadline, a.decided_by, a.decided_at, a.answer, a.created_at
FROM {schema}.approvals a JOIN {schema}.executions e ON e.key = a.execution
WHERE a.tenant_id = $1 AND a.status = 'pending' ORDER BY a.created_at, a.id LIMIT $2

-- name: approvals.all
-- The newest first.
SELECT a.id, e.id, a.path, a.title, a.form, a.status, a.deadline, a.decided_by, a.decided_at, a.answer, a.created_at
FROM {schema}.approvals a JOIN {schema}.executions e ON e.key = a.execution
WHERE a.tenant_id = $1 ORDER BY a.created_at DESC, a.id LIMIT $2

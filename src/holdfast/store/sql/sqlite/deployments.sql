-- Which version of a workflow an environment runs.

-- name: deployments.end
UPDATE deployments SET status = ?3, ended_at = {now}, ended_by = ?4, revision = revision + 1, updated_at = {now}
WHERE tenant_id = ?1 AND id = ?2

-- name: deployments.reactivate
UPDATE deployments
SET status = 'active', ended_at = NULL, ended_by = NULL, revision = revision + 1, updated_at = {now}
WHERE tenant_id = ?1 AND id = ?2

-- name: deployments.active_version
SELECT version FROM deployments WHERE tenant_id = ?1 AND workflow = ?2 AND environment = ?3 AND status = 'active'

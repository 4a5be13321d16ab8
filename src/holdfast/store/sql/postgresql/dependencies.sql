-- Tasks that wait for other tasks. Rows are locked from what is waited for to what waits, and by id among equals.

-- name: dependencies.lock
SELECT id, status, execution FROM {schema}.tasks WHERE tenant_id = $1 AND id = ANY ($2::text[]) ORDER BY id FOR UPDATE

-- name: dependencies.add
INSERT INTO {schema}.task_dependencies (tenant_id, task, dependency) SELECT $1, $2, unnest($3::text[])

-- name: dependencies.lock_dependents
-- The tasks that wait for one of some tasks.
SELECT id, on_failed_dependency FROM {schema}.tasks
WHERE tenant_id = $1 AND status = 'blocked'
  AND id IN (SELECT task FROM {schema}.task_dependencies WHERE tenant_id = $1 AND dependency = ANY ($2::text[]))
ORDER BY id FOR UPDATE

-- name: dependencies.held
-- Those of some locked tasks that wait for another one still. A statement of its own, so that it sees what was
-- written until the lock was given.
SELECT DISTINCT e.task
FROM {schema}.task_dependencies e JOIN {schema}.tasks d ON d.tenant_id = e.tenant_id AND d.id = e.dependency
WHERE e.tenant_id = $1 AND e.task = ANY ($2::text[]) AND d.status <> 'completed'

-- name: dependencies.release
UPDATE {schema}.tasks SET status = 'pending', revision = revision + 1, updated_at = {now}
WHERE tenant_id = $1 AND id = ANY ($2::text[]) AND status = 'blocked'

-- name: dependencies.end
UPDATE {schema}.tasks
SET status = $3, error = $4, finished_at = {now}, revision = revision + 1, updated_at = {now}
WHERE tenant_id = $1 AND id = ANY ($2::text[]) AND status = 'blocked'

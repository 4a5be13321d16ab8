-- name: runbooks.lock
-- Deleted or not: what was started before counts still.
SELECT id, edition, deleted_at IS NOT NULL FROM {schema}.runbooks WHERE tenant_id = $1 AND id = $2 FOR UPDATE

-- name: runbooks.find
SELECT id FROM {schema}.runbooks WHERE tenant_id = $1 AND name = $2 AND deleted_at IS NULL

-- name: runbooks.count
-- One more run, $3, has ended; $4 is 1 if it completed. Its row tells by now when it ended.
UPDATE {schema}.runbooks
SET execution_count = execution_count + 1, success_count = success_count + $4::bigint,
    last_execution_at = greatest(last_execution_at,
        (SELECT r.finished_at FROM {schema}.runbook_runs r WHERE r.tenant_id = $1 AND r.id = $3)),
    revision = revision + 1, updated_at = {now}
WHERE tenant_id = $1 AND id = $2

-- name: runbooks.publish
-- $3 is the number of the new edition.
UPDATE {schema}.runbooks SET edition = $3::bigint, revision = revision + 1, updated_at = {now}
WHERE tenant_id = $1 AND id = $2

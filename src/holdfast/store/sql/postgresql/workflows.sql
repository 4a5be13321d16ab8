-- name: workflows.put_definition
-- The hash names the content, so a second copy is the same definition.
INSERT INTO {schema}.definitions (tenant_id, hash, name, version, kind, document, created_at)
VALUES ($1, $2, $3, $4, $5, $6, {now})
ON CONFLICT DO NOTHING

-- name: workflows.get_definition
SELECT hash, name, version, kind, document, created_at FROM {schema}.definitions
WHERE tenant_id = $1 AND hash = $2

-- name: workflows.newest_definition
-- Of those that were not deleted after they were registered.
SELECT d.hash, d.name, d.version, d.kind, d.document, d.created_at FROM {schema}.definitions d
WHERE d.tenant_id = $1 AND d.name = $2
  AND NOT EXISTS (SELECT 1 FROM {schema}.workflows w
                  WHERE w.tenant_id = d.tenant_id AND w.name = d.name AND w.version = d.version
                    AND w.definition = d.hash AND w.deleted_at IS NOT NULL)
ORDER BY d.created_at DESC LIMIT 1

-- name: workflows.lock
-- Held by whoever decides which versions of a name there are and which one is deployed.
SELECT version FROM {schema}.workflows WHERE tenant_id = $1 AND name = $2 ORDER BY version
FOR UPDATE

-- name: workflows.deleted
SELECT id, definition FROM {schema}.workflows
WHERE tenant_id = $1 AND name = $2 AND version = $3 AND deleted_at IS NOT NULL

-- name: workflows.used_by
-- An execution of a workflow that has not ended.
SELECT id FROM {schema}.executions
WHERE tenant_id = $1 AND workflow = $2 AND ($3::text IS NULL OR version = $3) AND finished_at IS NULL
ORDER BY key DESC LIMIT 1

-- name: workflows.list
-- Every name that is registered or ever ran, with its newest definition and how it fares.
SELECT name, version, kind, created_at, registered, executions
FROM (
    SELECT d.name, d.version, d.kind, d.created_at,
           (SELECT count(*) FROM {schema}.workflows w
            WHERE w.tenant_id = d.tenant_id AND w.name = d.name AND w.deleted_at IS NULL) AS registered,
           (SELECT count(*) FROM {schema}.executions e
            WHERE e.tenant_id = d.tenant_id AND e.workflow = d.name) AS executions
    FROM {schema}.definitions d
    WHERE d.tenant_id = $1
      AND d.hash = (SELECT hash FROM {schema}.definitions l WHERE l.tenant_id = d.tenant_id AND l.name = d.name
                    ORDER BY l.created_at DESC, l.hash LIMIT 1)
) AS told
WHERE registered > 0 OR executions > 0
ORDER BY name

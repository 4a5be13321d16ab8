-- name: workflows.put_definition
-- The hash names the content, so a second copy is the same definition.
INSERT INTO definitions (tenant_id, hash, name, version, kind, document, created_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, {now})
ON CONFLICT (tenant_id, hash) DO NOTHING

-- name: workflows.get_definition
SELECT hash, name, version, kind, document, created_at FROM definitions
WHERE tenant_id = ?1 AND hash = ?2

-- name: workflows.newest_definition
SELECT hash, name, version, kind, document, created_at FROM definitions
WHERE tenant_id = ?1 AND name = ?2 ORDER BY created_at DESC LIMIT 1

-- name: workflows.register
INSERT INTO workflows (tenant_id, name, version, definition, description, author, tags, created_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, {now})
ON CONFLICT (tenant_id, name, version) DO NOTHING
RETURNING version

-- name: workflows.get_version
SELECT name, version, definition, description, author, tags, created_at
FROM workflows WHERE tenant_id = ?1 AND name = ?2 AND version = ?3

-- name: workflows.versions
SELECT name, version, definition, description, author, tags, created_at
FROM workflows WHERE tenant_id = ?1 AND name = ?2 ORDER BY created_at DESC

-- name: workflows.list
-- Every name that was registered or ever ran, with its newest definition and how it fares.
SELECT d.name, d.version, d.kind, d.created_at,
       (SELECT count(*) FROM workflows w WHERE w.tenant_id = d.tenant_id AND w.name = d.name),
       (SELECT count(*) FROM executions e WHERE e.tenant_id = d.tenant_id AND e.workflow = d.name)
FROM definitions d
WHERE d.tenant_id = ?1
  AND d.hash = (SELECT hash FROM definitions l WHERE l.tenant_id = d.tenant_id AND l.name = d.name
                ORDER BY l.created_at DESC, l.hash LIMIT 1)
ORDER BY d.name

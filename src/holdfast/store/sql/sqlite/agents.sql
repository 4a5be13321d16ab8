-- name: agents.register
INSERT INTO agents (tenant_id, id, role, type, capabilities, status, metadata, heartbeat_at, created_at,
                    updated_at)
VALUES (?1, ?2, ?3, ?4, ?5, 'idle', ?6, {now}, {now}, {now})
ON CONFLICT (tenant_id, id) DO UPDATE
SET role = excluded.role, type = excluded.type, capabilities = excluded.capabilities, status = 'idle',
    metadata = excluded.metadata, heartbeat_at = {now}, updated_at = {now}

-- name: agents.beat
UPDATE agents SET status = ?3, heartbeat_at = {now}, updated_at = {now} WHERE tenant_id = ?1 AND id = ?2

-- name: agents.list
SELECT id, role, type, capabilities, status, metadata, heartbeat_at, created_at
FROM agents WHERE tenant_id = ?1 ORDER BY id

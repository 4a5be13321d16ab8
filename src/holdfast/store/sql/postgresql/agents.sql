-- name: agents.register
INSERT INTO {schema}.agents (tenant_id, id, role, type, capabilities, status, metadata, heartbeat_at, created_at,
                             updated_at)
VALUES ($1, $2, $3, $4, ARRAY(SELECT jsonb_array_elements_text($5::text::jsonb)), 'idle', $6::text::jsonb, {now},
        {now}, {now})
ON CONFLICT (tenant_id, id) DO UPDATE
SET role = excluded.role, type = excluded.type, capabilities = excluded.capabilities, status = 'idle',
    metadata = excluded.metadata, heartbeat_at = {now}, updated_at = {now}

-- name: agents.beat
UPDATE {schema}.agents SET status = $3, heartbeat_at = {now}, updated_at = {now} WHERE tenant_id = $1 AND id = $2

-- name: agents.list
SELECT id, role, type, array_to_json(capabilities)::text, status, metadata::text, heartbeat_at, created_at
FROM {schema}.agents WHERE tenant_id = $1 ORDER BY id

-- name: agents.register
INSERT INTO {schema}.agents (tenant_id, id, role, type, capabilities, status, metadata, heartbeat_at, created_at,
                             updated_at)
VALUES ($1, $2, $3, $4, ARRAY(SELECT jsonb_array_elements_text($5::text::jsonb)), 'idle', $6::text::json, {now},
        {now}, {now})
ON CONFLICT (tenant_id, id) DO UPDATE
SET role = excluded.role, type = excluded.type, capabilities = excluded.capabilities, status = 'idle',
    metadata = excluded.metadata, heartbeat_at = {now}, revision = agents.revision + 1, updated_at = {now}

-- name: agents.beat
UPDATE {schema}.agents SET status = $3, heartbeat_at = {now}, revision = revision + 1, updated_at = {now}
WHERE tenant_id = $1 AND id = $2
RETURNING id

-- name: agents.vitals
-- Whether each of some agents gives signs of life, and how many tasks it has.
SELECT a.id, a.status <> 'offline' AND coalesce(a.heartbeat_at > {now} - $3::bigint * interval '1 microsecond', false),
       coalesce(held.tasks, 0)
FROM {schema}.agents a
LEFT JOIN (SELECT agent, count(*) AS tasks FROM {schema}.tasks
           WHERE tenant_id = $1 AND status = 'claimed' GROUP BY agent)
     AS held ON held.agent = a.id
WHERE a.tenant_id = $1 AND a.id = ANY ($2::text[])

-- name: agents.register
INSERT INTO agents (tenant_id, id, role, type, capabilities, status, metadata, heartbeat_at, created_at,
                    updated_at)
VALUES (?1, ?2, ?3, ?4, ?5, 'idle', ?6, {now}, {now}, {now})
ON DUPLICATE KEY UPDATE
    role = VALUES(role), type = VALUES(type), capabilities = VALUES(capabilities), status = 'idle',
    metadata = VALUES(metadata), heartbeat_at = {now}, revision = agents.revision + 1, updated_at = {now}

-- name: agents.beat
UPDATE agents SET status = ?3, heartbeat_at = {now}, revision = revision + 1, updated_at = {now}
WHERE tenant_id = ?1 AND id = ?2
-- then
SELECT ?2 AS done FROM DUAL WHERE ROW_COUNT() > 0

-- name: agents.vitals
-- Whether each of some agents gives signs of life, and how many tasks it has.
SELECT a.id, a.status <> 'offline' AND coalesce(a.heartbeat_at > {now} - INTERVAL ?3 MICROSECOND, 0),
       coalesce(held.tasks, 0)
FROM JSON_TABLE(?2, '$[*]' COLUMNS (v VARCHAR(255) CHARACTER SET utf8mb4 COLLATE {binary} PATH '$')) j
STRAIGHT_JOIN agents a ON a.tenant_id = ?1 AND a.id = j.v
LEFT JOIN (SELECT agent, count(*) AS tasks FROM tasks WHERE tenant_id = ?1 AND status = 'claimed' GROUP BY agent)
     AS held ON held.agent = a.id

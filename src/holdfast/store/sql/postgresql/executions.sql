-- name: executions.get
SELECT key, id, tenant_id, workflow, version, definition, fingerprint, status, queue, priority, due_at, owner,
       epoch, recoveries, wakes, parent, created_at, finished_at
FROM {schema}.executions WHERE tenant_id = $1 AND id = $2

-- name: executions.by_prefix
-- Two at most: enough to find an id by the beginning that nothing else has. Ids compare byte by byte.
SELECT key, id, tenant_id, workflow, version, definition, fingerprint, status, queue, priority, due_at, owner,
       epoch, recoveries, wakes, parent, created_at, finished_at
FROM {schema}.executions WHERE tenant_id = $1 AND id >= $2 AND starts_with(id, $2) ORDER BY id LIMIT 2

-- name: executions.by_key
SELECT key, id, tenant_id, workflow, version, definition, fingerprint, status, queue, priority, due_at, owner,
       epoch, recoveries, wakes, parent, created_at, finished_at
FROM {schema}.executions WHERE key = $1

-- name: executions.newest
SELECT key, id, tenant_id, workflow, version, definition, fingerprint, status, queue, priority, due_at, owner,
       epoch, recoveries, wakes, parent, created_at, finished_at
FROM {schema}.executions WHERE tenant_id = $1 AND parent IS NULL ORDER BY key DESC LIMIT 1

-- name: executions.unfinished_twins
-- The unfinished executions of one workflow name and input, newest first.
SELECT key, id, tenant_id, workflow, version, definition, fingerprint, status, queue, priority, due_at, owner,
       epoch, recoveries, wakes, parent, created_at, finished_at
FROM {schema}.executions
WHERE tenant_id = $1 AND fingerprint = $2 AND finished_at IS NULL AND parent IS NULL
ORDER BY key DESC

-- name: executions.interrupted
-- What could go on now if somebody drove it; children come back with their parents, also one that was woken while
-- its parent waits for it. What nobody ever had is not interrupted: it waits in its queue.
WITH RECURSIVE woken(key, parent) AS (
    SELECT key, parent FROM {schema}.executions
    WHERE tenant_id = $1 AND finished_at IS NULL AND epoch > 0
      AND (status = 'ready' OR (status = 'running' AND parent IS NULL) OR (status = 'waiting' AND due_at <= {now}))
    UNION
    SELECT e.key, e.parent FROM woken JOIN {schema}.executions e ON e.key = woken.parent WHERE e.finished_at IS NULL
)
SELECT key, id, tenant_id, workflow, version, definition, fingerprint, status, queue, priority, due_at, owner,
       epoch, recoveries, wakes, parent, created_at, finished_at
FROM {schema}.executions WHERE key IN (SELECT key FROM woken WHERE parent IS NULL) ORDER BY key

-- name: executions.lock
-- Taken after the owner's row, always in that order.
SELECT owner, epoch, recoveries, status, wakes FROM {schema}.executions WHERE key = $1 FOR NO KEY UPDATE

-- name: executions.take
UPDATE {schema}.executions
SET owner = $2, epoch = epoch + 1, recoveries = $3, status = 'running', due_at = NULL
WHERE key = $1 AND epoch = $4
RETURNING epoch, wakes

-- name: executions.has_progress
-- Whether an owner of this epoch recorded any result.
SELECT 1 FROM {schema}.events WHERE execution = $1 AND result AND epoch = $2 LIMIT 1

-- name: executions.wakes
SELECT key, epoch, wakes FROM {schema}.executions WHERE key = ANY ($1::bytea[])

-- name: executions.wake
-- Unconditional and by primary key: the owner compares `wakes`, so a message is never overlooked.
UPDATE {schema}.executions
SET wakes = wakes + 1, status = CASE status WHEN 'waiting' THEN 'ready' ELSE status END
WHERE key = $1 AND finished_at IS NULL
RETURNING key

-- name: executions.counts
SELECT status, count(*) FROM {schema}.executions GROUP BY status ORDER BY status

-- name: executions.details
SELECT tags, trigger_source, started_by, metadata, context FROM {schema}.execution_details WHERE execution = $1

-- name: executions.parent_path
SELECT parent_path FROM {schema}.executions WHERE key = $1

-- name: executions.hold
-- The fence for what is written beside the journal: the row stays locked while the epoch is the caller's.
SELECT epoch FROM {schema}.executions WHERE key = $1 AND epoch = $2 FOR NO KEY UPDATE

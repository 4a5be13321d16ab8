-- name: fleet.peek
-- All that an idle worker asks, in one statement that writes nothing. Its rows are of several kinds, named by the
-- first column: which lanes (queue, class, tenant) have work, by a loose scan of the partial index; the time to
-- the next timer in microseconds; workers whose lease is over; versions that are waited for and offered here;
-- queues with limits; the newest migration.
WITH RECURSIVE ready(queue, class, tenant_id) AS (
    SELECT busy.q, c.value, (SELECT min(e.tenant_id) FROM executions e
                             WHERE e.status = 'ready' AND e.queue = busy.q AND e.class = c.value
                               AND e.tenant_id > ?3)
    FROM (SELECT value AS q FROM json_each(?1)
          WHERE EXISTS (SELECT 1 FROM executions e WHERE e.status = 'ready' AND e.queue = value)) busy
    CROSS JOIN json_each(?2) c
    UNION ALL
    SELECT r.queue, r.class, (SELECT min(e.tenant_id) FROM executions e
                              WHERE e.status = 'ready' AND e.queue = r.queue AND e.class = r.class
                                AND e.tenant_id > r.tenant_id)
    FROM ready r WHERE r.tenant_id IS NOT NULL
)
SELECT 'lane', queue, class, tenant_id, NULL
FROM (SELECT queue, class, tenant_id FROM ready WHERE tenant_id IS NOT NULL LIMIT ?5)
UNION ALL
SELECT 'due', NULL, NULL, NULL, due_at - {now}
FROM (SELECT due_at FROM executions WHERE status = 'waiting' AND due_at IS NOT NULL ORDER BY due_at LIMIT 1)
UNION ALL
SELECT 'dead', lower(hex(boot_id)), NULL, NULL, NULL FROM workers WHERE lease_until <= {now}
UNION ALL
SELECT 'offered', value, NULL, NULL, NULL FROM json_each(?4)
WHERE EXISTS (SELECT 1 FROM executions e WHERE e.blocked_on = value)
UNION ALL
SELECT 'limited', name, NULL, NULL, NULL FROM queues WHERE name IN (SELECT value FROM json_each(?1))
UNION ALL
SELECT 'schema', NULL, NULL, NULL, max(version) FROM schema_migrations

-- name: fleet.claim
-- In the order of the partial index, so that nothing is read but what is taken; only for a worker whose lease
-- has not run out, or others would have to take it all from it again, and that knows the newest migration; and
-- nothing of a queue that has got limits since the worker looked. The last column is the input of one that nobody
-- has touched since it was started, which spares a look at its log.
UPDATE executions
SET status = 'running', owner = ?4, epoch = epoch + 1, due_at = NULL, blocked_on = NULL
WHERE key IN (SELECT key FROM executions
              WHERE status = 'ready' AND queue = ?1 AND class = ?2 AND tenant_id = ?3
                AND definition NOT IN (SELECT unhex(value) FROM json_each(?6))
                AND EXISTS (SELECT 1 FROM workers WHERE boot_id = ?4 AND lease_until > {now})
                AND (SELECT max(version) FROM schema_migrations) <= ?7
                AND NOT EXISTS (SELECT 1 FROM queues WHERE name = ?1)
              ORDER BY priority DESC, key LIMIT ?5)
RETURNING key, id, tenant_id, workflow, version, definition, queue, epoch, wakes, recoveries, parent, parent_path,
          limit_key,
          CASE WHEN epoch = 1
                    AND NOT EXISTS (SELECT 1 FROM events n WHERE n.execution = executions.key AND n.seq = 2)
               THEN (SELECT v.payload FROM events v WHERE v.execution = executions.key AND v.seq = 1) END

-- name: fleet.claim_oldest
-- The oldest of each priority, so that a steady stream of urgent work does not keep the rest waiting for ever.
UPDATE executions
SET status = 'running', owner = ?4, epoch = epoch + 1, due_at = NULL, blocked_on = NULL
WHERE key IN (
    WITH RECURSIVE levels(priority) AS (
        SELECT (SELECT max(e.priority) FROM executions e
                WHERE e.status = 'ready' AND e.queue = ?1 AND e.class = ?2 AND e.tenant_id = ?3)
        UNION ALL
        SELECT (SELECT max(e.priority) FROM executions e
                WHERE e.status = 'ready' AND e.queue = ?1 AND e.class = ?2 AND e.tenant_id = ?3
                  AND e.priority < levels.priority)
        FROM levels WHERE levels.priority IS NOT NULL
    ), oldest(key) AS (
        SELECT (SELECT e.key FROM executions e
                WHERE e.status = 'ready' AND e.queue = ?1 AND e.class = ?2 AND e.tenant_id = ?3
                  AND e.priority = levels.priority
                  AND e.definition NOT IN (SELECT unhex(value) FROM json_each(?6))
                ORDER BY e.key LIMIT 1)
        FROM levels WHERE levels.priority IS NOT NULL
    )
    SELECT key FROM oldest
    WHERE key IS NOT NULL AND EXISTS (SELECT 1 FROM workers WHERE boot_id = ?4 AND lease_until > {now})
      AND (SELECT max(version) FROM schema_migrations) <= ?7
      AND NOT EXISTS (SELECT 1 FROM queues WHERE name = ?1)
    ORDER BY key LIMIT ?5)
RETURNING key, id, tenant_id, workflow, version, definition, queue, epoch, wakes, recoveries, parent, parent_path,
          limit_key, NULL

-- name: fleet.histories
-- The logs of several executions: `events.history` with the execution in front.
SELECT e.execution, e.seq, e.type, e.path, e.generation, e.ordinal, e.attempt, e.epoch, e.result, e.at,
       e.duration_us, e.input_digest, coalesce(e.payload, p.body)
FROM json_each(?1) k
JOIN events e ON e.execution = unhex(k.value)
LEFT JOIN payloads p ON p.execution = e.execution AND p.digest = e.payload_ref
ORDER BY e.execution, e.seq

-- name: fleet.put_back
-- What was claimed and can not be run here, by its owner; NULL puts it back into its queue.
UPDATE executions
SET status = CASE WHEN ?4 IS NULL THEN 'ready' ELSE 'waiting' END, owner = NULL, blocked_on = ?4
WHERE key = ?1 AND owner = ?2 AND epoch = ?3
RETURNING key

-- name: fleet.wake_due
UPDATE executions SET status = 'ready'
WHERE key IN (SELECT key FROM executions
              WHERE status = 'waiting' AND due_at IS NOT NULL AND due_at <= {now} ORDER BY due_at LIMIT ?1)
RETURNING queue

-- name: fleet.unblock
UPDATE executions SET status = 'ready', blocked_on = NULL
WHERE key IN (SELECT key FROM executions WHERE blocked_on = ?1 AND status = 'waiting'
              ORDER BY priority DESC, key LIMIT ?2)
RETURNING queue

-- name: fleet.recover
-- What a dead owner ran goes back into its queue, under a new epoch: from this commit on the old owner's writes
-- are refused.
UPDATE executions
SET status = 'ready', owner = NULL, epoch = epoch + 1, due_at = NULL,
    recoveries = CASE WHEN EXISTS (SELECT 1 FROM events v
                                   WHERE v.execution = executions.key AND v.result AND v.epoch = executions.epoch)
                 THEN 1 ELSE recoveries + 1 END
WHERE key IN (SELECT key FROM executions WHERE owner = ?1 AND status = 'running' LIMIT ?2)
RETURNING queue

-- name: fleet.forget
-- A dead worker is forgotten when it owns nothing any more.
DELETE FROM workers
WHERE boot_id = ?1 AND NOT EXISTS (SELECT 1 FROM executions WHERE owner = ?1 AND status = 'running')

-- name: fleet.orphans
-- Owners of running executions that have no row: nothing should leave any, and nothing else would find them.
SELECT DISTINCT e.owner FROM executions e
WHERE e.status = 'running' AND NOT EXISTS (SELECT 1 FROM workers w WHERE w.boot_id = e.owner)

-- name: fleet.registered
-- Which of some owners are registered in this store: lock files of a host may belong to several.
SELECT boot_id FROM workers WHERE boot_id IN (SELECT unhex(value) FROM json_each(?1))

-- name: fleet.owned
SELECT e.key, e.epoch, EXISTS (SELECT 1 FROM slots s WHERE s.holder = e.key)
FROM executions e WHERE e.owner = ?1 AND e.status = 'running'

-- name: fleet.missing_versions
-- Definitions that executions wait for, each with the tenant of one of them. A range of the index.
SELECT blocked_on, min(tenant_id) FROM executions
WHERE blocked_on >= 'version:' AND blocked_on < 'version;' GROUP BY blocked_on LIMIT ?1

-- name: fleet.describe
UPDATE workers SET details = ?2 WHERE boot_id = ?1

-- name: fleet.holds_slots
SELECT 1 FROM slots WHERE holder = ?1 LIMIT 1

-- name: fleet.free_slots
UPDATE slots SET holder = NULL WHERE holder = ?1

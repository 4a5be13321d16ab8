-- name: fleet.peek
-- All that an idle worker asks, in one statement that writes nothing. Its rows are of several kinds, named by the
-- first column: which lanes (queue, class, tenant) have work, by a loose scan of the partial index; the time to
-- the next timer in microseconds; workers whose lease is over; versions that are waited for and offered here;
-- queues with limits; the newest migration. All are asked for in the full order of one index: for EXISTS and min()
-- the planner reads the table, or the order of another index, when most of it fits; and what fits may come last.
WITH RECURSIVE ready(queue, class, tenant_id) AS (
    SELECT q, c, (SELECT e.tenant_id FROM {schema}.executions e
                  WHERE e.status = 'ready' AND e.queue = q AND e.class = c AND e.tenant_id > $3
                  ORDER BY e.tenant_id, e.priority DESC, e.key LIMIT 1)
    FROM (SELECT q FROM unnest($1::text[]) q
          WHERE (SELECT e.key FROM {schema}.executions e WHERE e.status = 'ready' AND e.queue = q
                 ORDER BY e.class, e.tenant_id, e.priority DESC, e.key LIMIT 1) IS NOT NULL) busy
    CROSS JOIN unnest($2::text[]) c
    UNION ALL
    SELECT r.queue, r.class, (SELECT e.tenant_id FROM {schema}.executions e
                              WHERE e.status = 'ready' AND e.queue = r.queue AND e.class = r.class
                                AND e.tenant_id > r.tenant_id
                              ORDER BY e.tenant_id, e.priority DESC, e.key LIMIT 1)
    FROM ready r WHERE r.tenant_id IS NOT NULL
)
SELECT 'lane', queue, class, tenant_id, NULL::bigint
FROM (SELECT queue, class, tenant_id FROM ready WHERE tenant_id IS NOT NULL LIMIT $5) lanes
UNION ALL
SELECT 'due', NULL, NULL, NULL, (extract(epoch FROM soonest.due_at - {now}) * 1000000)::bigint
FROM (SELECT due_at FROM {schema}.executions
      WHERE status = 'waiting' AND due_at IS NOT NULL ORDER BY due_at LIMIT 1) soonest
UNION ALL
SELECT 'dead', encode(boot_id, 'hex'), NULL, NULL, NULL FROM {schema}.workers WHERE lease_until <= {now}
UNION ALL
SELECT 'offered', offer, NULL, NULL, NULL FROM unnest($4::text[]) offer
WHERE (SELECT e.key FROM {schema}.executions e WHERE e.blocked_on = offer
       ORDER BY e.priority DESC, e.key LIMIT 1) IS NOT NULL
UNION ALL
SELECT 'limited', name, NULL, NULL, NULL FROM {schema}.queues WHERE name = ANY ($1::text[])
UNION ALL
SELECT 'schema', NULL, NULL, NULL, max(version) FROM {schema}.schema_migrations

-- name: fleet.claim
-- In the order of the partial index, so that nothing is read but what is taken; only for a worker whose lease
-- has not run out, or others would have to take it all from it again, and that knows the newest migration; and
-- nothing of a queue that has got limits since the worker looked. The two odd forms keep the planner from reading
-- the whole table: it takes a plain <> for very selective, and a join for one with unknown length.
-- The last column is the input of one that nobody has touched since its start was written, which spares a look at
-- its log. Its log is read by this statement's snapshot, its row as it is now: so both must come from one
-- transaction, and from one that wrote nothing else (a fork begins with many events). The comparison stands in
-- the list and not behind WHERE, where it would become a join that is made anew for every row. For NOT EXISTS the
-- planner of a store that was empty would collect the second events of all there are.
WITH picked AS MATERIALIZED (
    SELECT key, xmin::text AS written_by FROM {schema}.executions
    WHERE status = 'ready' AND queue = $1 AND class = $2 AND tenant_id = $3
      AND CASE WHEN definition = ANY ($6::bytea[]) THEN false ELSE true END
      AND EXISTS (SELECT FROM {schema}.workers WHERE boot_id = $4 AND lease_until > {now})
      AND (SELECT max(version) FROM {schema}.schema_migrations) <= $7
      AND NOT EXISTS (SELECT FROM {schema}.queues WHERE name = $1)
    ORDER BY priority DESC, key LIMIT $5
    FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE {schema}.executions e
SET status = 'running', owner = $4, epoch = e.epoch + 1, due_at = NULL, blocked_on = NULL
WHERE e.key = ANY (ARRAY(SELECT key FROM picked))
RETURNING e.key, e.id, e.tenant_id, e.workflow, e.version, e.definition, e.queue, e.epoch, e.wakes, e.recoveries,
          e.parent, e.parent_path, e.limit_key,
          CASE WHEN e.epoch = 1
                    AND (SELECT n.seq FROM {schema}.events n WHERE n.execution = e.key AND n.seq = 2 LIMIT 1) IS NULL
               THEN (SELECT CASE WHEN (v.execution, v.xid::xid::text) IN (SELECT key, written_by FROM picked)
                                 THEN v.payload END
                     FROM {schema}.events v WHERE v.execution = e.key AND v.seq = 1) END

-- name: fleet.claim_oldest
-- The oldest of each priority, so that a steady stream of urgent work does not keep the rest waiting for ever. From one
-- priority to the next by the order of the partial index: asked for the first key of one priority, the planner may
-- read the table in the order of its keys instead, past all that has ended.
WITH RECURSIVE oldest(priority, key) AS (
    (SELECT e.priority, e.key FROM {schema}.executions e
     WHERE e.status = 'ready' AND e.queue = $1 AND e.class = $2 AND e.tenant_id = $3
       AND CASE WHEN e.definition = ANY ($6::bytea[]) THEN false ELSE true END
     ORDER BY e.priority DESC, e.key LIMIT 1)
    UNION ALL
    SELECT further.* FROM oldest CROSS JOIN LATERAL (
        SELECT e.priority, e.key FROM {schema}.executions e
        WHERE e.status = 'ready' AND e.queue = $1 AND e.class = $2 AND e.tenant_id = $3
          AND e.priority < oldest.priority AND CASE WHEN e.definition = ANY ($6::bytea[]) THEN false ELSE true END
        ORDER BY e.priority DESC, e.key LIMIT 1) further
), picked AS MATERIALIZED (
    SELECT key FROM {schema}.executions
    WHERE key = ANY (ARRAY(SELECT key FROM oldest ORDER BY key LIMIT $5))
      AND CASE status WHEN 'ready' THEN true ELSE false END
      AND EXISTS (SELECT FROM {schema}.workers WHERE boot_id = $4 AND lease_until > {now})
      AND (SELECT max(version) FROM {schema}.schema_migrations) <= $7
      AND NOT EXISTS (SELECT FROM {schema}.queues WHERE name = $1)
    FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE {schema}.executions e
SET status = 'running', owner = $4, epoch = e.epoch + 1, due_at = NULL, blocked_on = NULL
WHERE e.key = ANY (ARRAY(SELECT key FROM picked))
RETURNING e.key, e.id, e.tenant_id, e.workflow, e.version, e.definition, e.queue, e.epoch, e.wakes, e.recoveries,
          e.parent, e.parent_path, e.limit_key, NULL::bytea

-- name: fleet.histories
-- The logs of several executions: `events.history` with the execution in front.
SELECT k.key, e.seq, e.type, e.path, e.generation, e.ordinal, e.attempt, e.epoch, e.result, e.at, e.duration_us,
       e.input_digest, coalesce(e.payload, p.body)
FROM unnest($1::bytea[]) AS k(key)
CROSS JOIN LATERAL (SELECT * FROM {schema}.events v WHERE v.execution = k.key ORDER BY v.seq) e
LEFT JOIN LATERAL (SELECT body FROM {schema}.payloads q
                   WHERE q.execution = k.key AND q.digest = e.payload_ref) p ON true
ORDER BY k.key, e.seq

-- name: fleet.put_back
-- What was claimed and can not be run here, by its owner; NULL puts it back into its queue.
UPDATE {schema}.executions
SET status = CASE WHEN $4::text IS NULL THEN 'ready' ELSE 'waiting' END, owner = NULL, blocked_on = $4
WHERE key = $1 AND owner = $2 AND epoch = $3
RETURNING key

-- name: fleet.wake_due
UPDATE {schema}.executions SET status = 'ready'
WHERE key IN (SELECT key FROM {schema}.executions
              WHERE status = 'waiting' AND due_at IS NOT NULL AND due_at <= {now}
              ORDER BY due_at LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED)
RETURNING queue

-- name: fleet.unblock
UPDATE {schema}.executions SET status = 'ready', blocked_on = NULL
WHERE key IN (SELECT key FROM {schema}.executions WHERE blocked_on = $1 AND status = 'waiting'
              ORDER BY priority DESC, key LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED)
RETURNING queue

-- name: fleet.recover
-- What a dead owner ran goes back into its queue, under a new epoch: from this commit on the old owner's writes
-- are refused. Rows that a flush of its holds right now are passed over; the sweep comes again.
UPDATE {schema}.executions e
SET status = 'ready', owner = NULL, epoch = e.epoch + 1, due_at = NULL,
    recoveries = CASE WHEN EXISTS (SELECT FROM {schema}.events v
                                   WHERE v.execution = e.key AND v.result AND v.epoch = e.epoch)
                 THEN 1 ELSE e.recoveries + 1 END
WHERE e.key IN (SELECT key FROM {schema}.executions WHERE owner = $1 AND status = 'running'
                LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED)
RETURNING e.queue

-- name: fleet.forget
-- A dead worker is forgotten when it owns nothing any more.
DELETE FROM {schema}.workers
WHERE boot_id = $1 AND NOT EXISTS (SELECT FROM {schema}.executions WHERE owner = $1 AND status = 'running')

-- name: fleet.orphans
-- Owners of running executions that have no row: nothing should leave any, and nothing else would find them.
SELECT DISTINCT e.owner FROM {schema}.executions e
WHERE e.status = 'running' AND NOT EXISTS (SELECT FROM {schema}.workers w WHERE w.boot_id = e.owner)

-- name: fleet.registered
-- Which of some owners are registered in this store: lock files of a host may belong to several.
SELECT boot_id FROM {schema}.workers WHERE boot_id = ANY ($1::bytea[])

-- name: fleet.owned
SELECT e.key, e.epoch, EXISTS (SELECT FROM {schema}.slots s WHERE s.holder = e.key)
FROM {schema}.executions e WHERE e.owner = $1 AND e.status = 'running'

-- name: fleet.missing_versions
-- Definitions that executions wait for, each with the tenant of one of them. A range of the index.
SELECT blocked_on, min(tenant_id) FROM {schema}.executions
WHERE blocked_on >= 'version:' AND blocked_on < 'version;' GROUP BY blocked_on LIMIT $1

-- name: fleet.describe
UPDATE {schema}.workers SET details = $2 WHERE boot_id = $1

-- name: fleet.holds_slots
SELECT 1 FROM {schema}.slots WHERE holder = $1 LIMIT 1

-- name: fleet.free_slots
UPDATE {schema}.slots SET holder = NULL WHERE holder = $1

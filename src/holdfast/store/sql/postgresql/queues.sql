-- name: queues.settings
SELECT name, paused, concurrency, key_concurrency, tenant_concurrency, rate_count, rate_period_us
FROM {schema}.queues ORDER BY name

-- name: queues.lock
-- The row of a queue is locked by whoever gives out its places. With it comes what its bucket holds now: the
-- clock is that of the transaction's beginning, which may lie before the last one's, so that time never counts
-- twice.
SELECT name, paused, concurrency, key_concurrency, tenant_concurrency, rate_count, rate_period_us,
       CASE WHEN rate_at IS NULL THEN rate_count
            ELSE least(rate_count, rate_tokens + rate_count::double precision
                 * greatest(extract(epoch FROM {now} - rate_at) * 1000000, 0) / rate_period_us) END,
       greatest({now}, rate_at)
FROM {schema}.queues WHERE name = $1 FOR NO KEY UPDATE

-- name: queues.spend
UPDATE {schema}.queues SET rate_tokens = $2, rate_at = $3 WHERE name = $1

-- name: queues.set_row
-- A bucket begins full, and begins anew when the rate changes.
INSERT INTO {schema}.queues (name, paused, concurrency, key_concurrency, tenant_concurrency, rate_count,
                             rate_period_us, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, {now})
ON CONFLICT (name) DO UPDATE
SET paused = excluded.paused, concurrency = excluded.concurrency, key_concurrency = excluded.key_concurrency,
    tenant_concurrency = excluded.tenant_concurrency,
    rate_at = CASE WHEN queues.rate_count IS NOT DISTINCT FROM excluded.rate_count
                    AND queues.rate_period_us IS NOT DISTINCT FROM excluded.rate_period_us
              THEN queues.rate_at END,
    rate_count = excluded.rate_count, rate_period_us = excluded.rate_period_us

-- name: queues.candidates
-- In the order of the partial index, like `fleet.claim`. What this worker refuses is asked for in a form of which
-- the planner knows nothing: it takes `<> ALL` of an unknown array for so rare that it would rather sort.
SELECT key, limit_key, epoch FROM {schema}.executions
WHERE status = 'ready' AND queue = $1 AND class = $2 AND tenant_id = $3
  AND CASE WHEN definition = ANY ($5::bytea[]) THEN false ELSE true END
ORDER BY priority DESC, key LIMIT $4
FOR NO KEY UPDATE SKIP LOCKED

-- name: queues.candidates_by_age
-- The oldest of each priority, like `fleet.claim_oldest`.
WITH RECURSIVE oldest(priority, key) AS (
    (SELECT e.priority, e.key FROM {schema}.executions e
     WHERE e.status = 'ready' AND e.queue = $1 AND e.class = $2 AND e.tenant_id = $3
       AND CASE WHEN e.definition = ANY ($5::bytea[]) THEN false ELSE true END
     ORDER BY e.priority DESC, e.key LIMIT 1)
    UNION ALL
    SELECT further.* FROM oldest CROSS JOIN LATERAL (
        SELECT e.priority, e.key FROM {schema}.executions e
        WHERE e.status = 'ready' AND e.queue = $1 AND e.class = $2 AND e.tenant_id = $3
          AND e.priority < oldest.priority AND CASE WHEN e.definition = ANY ($5::bytea[]) THEN false ELSE true END
        ORDER BY e.priority DESC, e.key LIMIT 1) further
)
SELECT key, limit_key, epoch FROM {schema}.executions
WHERE key = ANY (ARRAY(SELECT key FROM oldest ORDER BY key LIMIT $4)) AND CASE status WHEN 'ready' THEN true ELSE false END
ORDER BY key
FOR NO KEY UPDATE SKIP LOCKED

-- name: queues.holding
-- Ready executions that hold a place already, because their owner died or a message woke them.
SELECT e.key, e.limit_key, e.epoch
FROM {schema}.slots s JOIN {schema}.executions e ON e.key = s.holder
WHERE s.queue = $1 AND s.scope = $4 AND s.holder IS NOT NULL
  AND e.status = 'ready' AND e.queue = $1 AND e.class = $2 AND e.tenant_id = $3
  AND CASE WHEN e.definition = ANY ($6::bytea[]) THEN false ELSE true END
ORDER BY e.priority DESC, e.key LIMIT $5
FOR NO KEY UPDATE OF e SKIP LOCKED

-- name: queues.places
-- Of each asked scope: its highest number, how many places above the limit are still held, and the free ones
-- below it. The numbers of a scope run from 1 without a hole.
SELECT a.scope,
       coalesce((SELECT max(s.no) FROM {schema}.slots s WHERE s.queue = $1 AND s.scope = a.scope), 0),
       (SELECT count(*) FROM {schema}.slots s
        WHERE s.queue = $1 AND s.scope = a.scope AND s.no > a.most AND s.holder IS NOT NULL),
       array_to_json(ARRAY(SELECT s.no FROM {schema}.slots s
                           WHERE s.queue = $1 AND s.scope = a.scope AND s.no <= a.most AND s.holder IS NULL
                           ORDER BY s.no LIMIT $3))::text
FROM jsonb_to_recordset($2::text::jsonb) AS a(scope text, most integer)

-- name: queues.held_by
SELECT holder, scope FROM {schema}.slots WHERE queue = $1 AND holder = ANY ($2::bytea[])

-- name: queues.occupy
-- Gives places out, those that never were among them. Called under the lock of the queue's row.
INSERT INTO {schema}.slots (queue, scope, no, holder)
SELECT $1, a.scope, a.no, decode(a.holder, 'hex')
FROM jsonb_to_recordset($2::text::jsonb) AS a(scope text, no integer, holder text)
ON CONFLICT (queue, scope, no) DO UPDATE SET holder = excluded.holder WHERE slots.holder IS NULL

-- name: queues.claim
-- The planner must not see how many keys there are: for a thousand it would rather read the whole table.
UPDATE {schema}.executions
SET status = 'running', owner = $2, epoch = epoch + 1, due_at = NULL, blocked_on = NULL
WHERE key = ANY (ARRAY(SELECT unnest($1::bytea[]))) AND status = 'ready'
RETURNING key, id, tenant_id, workflow, version, definition, queue, epoch, wakes, recoveries, parent, parent_path,
          limit_key, NULL::bytea

-- name: queues.park
-- Out of the ready set until a place is free. Without a time, or the timer sweep would bring it back.
UPDATE {schema}.executions e
SET status = 'waiting', due_at = NULL, blocked_on = a.mark
FROM jsonb_to_recordset($1::text::jsonb) AS a(key text, mark text)
WHERE e.key = decode(a.key, 'hex') AND e.status = 'ready'

-- name: queues.promote
-- A row that somebody holds right now is passed over: a message wakes it by itself, and the sweep comes again.
UPDATE {schema}.executions SET status = 'ready', blocked_on = NULL
WHERE key = ANY (ARRAY(SELECT key FROM {schema}.executions WHERE blocked_on = $1 AND status = 'waiting'
                       ORDER BY priority DESC, key LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED))
RETURNING key

-- name: queues.astray
-- What a process that died at the wrong moment leaves behind, in one look: places of executions that do not run,
-- executions that wait for a place that may be free, and the rows of keys that nobody uses. A mark that is waited
-- for has a holder, so there are no more of them than there are places held.
WITH RECURSIVE marks(mark) AS (
    SELECT (SELECT e.blocked_on FROM {schema}.executions e
            WHERE e.blocked_on >= 'slot:' AND e.blocked_on < 'slot;'
            ORDER BY e.blocked_on, e.priority DESC, e.key LIMIT 1)
    UNION ALL
    SELECT (SELECT e.blocked_on FROM {schema}.executions e
            WHERE e.blocked_on > marks.mark AND e.blocked_on < 'slot;'
            ORDER BY e.blocked_on, e.priority DESC, e.key LIMIT 1)
    FROM marks WHERE marks.mark IS NOT NULL
), parked AS (
    SELECT p.queue, substr(marks.mark, length('slot:' || p.queue || ':') + 1) AS scope
    FROM marks CROSS JOIN LATERAL (SELECT e.queue FROM {schema}.executions e
                                   WHERE e.blocked_on = marks.mark AND e.status = 'waiting' LIMIT 1) p
    WHERE marks.mark IS NOT NULL
)
(SELECT 'held', s.queue, encode(s.holder, 'hex')
 FROM {schema}.slots s LEFT JOIN {schema}.executions e ON e.key = s.holder
 WHERE s.holder IS NOT NULL AND (e.key IS NULL OR e.status NOT IN ('running', 'ready')) LIMIT $1)
UNION ALL
(SELECT 'parked', p.queue, p.scope
 FROM parked p LEFT JOIN {schema}.queues q ON q.name = p.queue
 WHERE q.key_concurrency IS NULL
    OR q.key_concurrency > coalesce((SELECT max(s.no) FROM {schema}.slots s
                                     WHERE s.queue = p.queue AND s.scope = p.scope), 0)
    OR EXISTS (SELECT FROM {schema}.slots s WHERE s.queue = p.queue AND s.scope = p.scope
               AND s.no <= q.key_concurrency AND s.holder IS NULL)
 LIMIT $1)
UNION ALL
(SELECT 'idle', queue, scope FROM {schema}.slots
 WHERE starts_with(scope, 'key:') GROUP BY queue, scope HAVING count(holder) = 0 LIMIT $1)

-- name: queues.free
-- Looked at again under the lock of the execution: it may have been taken up meanwhile.
UPDATE {schema}.slots SET holder = NULL
WHERE queue = $1 AND holder IN (
    SELECT k.key FROM unnest($2::bytea[]) AS k(key)
    LEFT JOIN LATERAL (SELECT e.status FROM {schema}.executions e WHERE e.key = k.key
                       FOR NO KEY UPDATE SKIP LOCKED) e ON true
    WHERE e.status NOT IN ('running', 'ready')
       OR NOT EXISTS (SELECT FROM {schema}.executions g WHERE g.key = k.key))
RETURNING scope

-- name: queues.forget_keys
DELETE FROM {schema}.slots s
WHERE s.queue = $1 AND s.scope = ANY ($2::text[])
  AND NOT EXISTS (SELECT FROM {schema}.slots h
                  WHERE h.queue = s.queue AND h.scope = s.scope AND h.holder IS NOT NULL)

-- name: queues.shrink
-- Drops the free places above a lowered limit, from the top down to the first that is held: no holes.
DELETE FROM {schema}.slots s
WHERE s.queue = $1 AND s.scope = $2 AND s.no > $3
  AND NOT EXISTS (SELECT FROM {schema}.slots h WHERE h.queue = s.queue AND h.scope = s.scope AND h.no >= s.no
                  AND h.holder IS NOT NULL)

-- name: queues.by_dedupe_key
-- The unfinished execution that has this key in this queue.
SELECT key, id, tenant_id, workflow, version, definition, fingerprint, status, queue, priority, due_at, owner,
       epoch, recoveries, wakes, parent, created_at, finished_at
FROM {schema}.executions
WHERE tenant_id = $1 AND queue = $2 AND dedupe_key = $3 AND finished_at IS NULL

-- name: queues.names
-- Queues that have a row, ready executions or dead letters: the indexes are hopped over, not read.
WITH RECURSIVE ready(queue) AS (
    SELECT (SELECT min(e.queue) FROM {schema}.executions e WHERE e.status = 'ready')
    UNION ALL
    SELECT (SELECT min(e.queue) FROM {schema}.executions e WHERE e.status = 'ready' AND e.queue > ready.queue)
    FROM ready WHERE ready.queue IS NOT NULL
), failed(queue) AS (
    SELECT (SELECT min(e.queue) FROM {schema}.executions e WHERE e.status = 'failed' AND e.tenant_id = $1)
    UNION ALL
    SELECT (SELECT min(e.queue) FROM {schema}.executions e
            WHERE e.status = 'failed' AND e.tenant_id = $1 AND e.queue > failed.queue)
    FROM failed WHERE failed.queue IS NOT NULL
)
SELECT name FROM {schema}.queues
UNION SELECT queue FROM ready WHERE queue IS NOT NULL
UNION SELECT queue FROM failed WHERE queue IS NOT NULL

-- name: queues.unfinished
-- A bounded look at all that has not ended, row by row along an index: asked for in one piece, the planner would
-- rather read the whole table and sort it.
WITH RECURSIVE walk AS (
    (SELECT 1 AS n, tenant_id, fingerprint, key, queue, status, blocked_on IS NOT NULL AS blocked
     FROM {schema}.executions WHERE finished_at IS NULL ORDER BY tenant_id, fingerprint, key LIMIT 1)
    UNION ALL
    SELECT walk.n + 1, next.*
    FROM walk CROSS JOIN LATERAL (
        SELECT e.tenant_id, e.fingerprint, e.key, e.queue, e.status, e.blocked_on IS NOT NULL
        FROM {schema}.executions e
        WHERE e.finished_at IS NULL
          AND (e.tenant_id, e.fingerprint, e.key) > (walk.tenant_id, walk.fingerprint, walk.key)
        ORDER BY e.tenant_id, e.fingerprint, e.key LIMIT 1) next
    WHERE walk.n < $1
)
SELECT queue, status, blocked AND status = 'waiting', count(*) FROM walk GROUP BY 1, 2, 3

-- name: queues.running
SELECT r.queue, count(*)
FROM (SELECT queue FROM {schema}.executions WHERE status = 'running' ORDER BY owner LIMIT $1) r
GROUP BY 1

-- name: queues.depths
-- Of each queue: the ready ones and when the oldest came, those that wait for a place, and dead letters. Each
-- count reads an index up to its bound.
SELECT n.name,
       (SELECT count(*) FROM (SELECT FROM {schema}.executions e WHERE e.status = 'ready' AND e.queue = n.name
                              ORDER BY e.class, e.tenant_id, e.priority DESC, e.key LIMIT $2) r),
       (SELECT min(r.created_at)
        FROM (SELECT e.created_at FROM {schema}.executions e WHERE e.status = 'ready' AND e.queue = n.name
              ORDER BY e.class, e.tenant_id, e.priority DESC, e.key LIMIT $2) r),
       (SELECT count(*)
        FROM (SELECT FROM {schema}.executions e
              WHERE e.blocked_on >= 'slot:' || n.name || ':' AND e.blocked_on < 'slot:' || n.name || ';'
                AND e.status = 'waiting'
              ORDER BY e.blocked_on, e.priority DESC, e.key LIMIT $2) b),
       (SELECT count(*)
        FROM (SELECT FROM {schema}.executions e
              WHERE e.status = 'failed' AND e.tenant_id = $3 AND e.queue = n.name ORDER BY e.key LIMIT $2) f)
FROM unnest($1::text[]) AS n(name)

-- name: queues.dead_letters
-- Newest first, with the error of the last failure.
SELECT x.id, x.workflow, x.version, x.finished_at, x.recoveries, f.payload, x.key
FROM (SELECT * FROM {schema}.executions
      WHERE status = 'failed' AND tenant_id = $1 AND queue = $2 AND ($4::bytea IS NULL OR key < $4)
      ORDER BY key DESC LIMIT $3) x
LEFT JOIN LATERAL (
    SELECT coalesce(e.payload, p.body) AS payload
    FROM {schema}.events e
    LEFT JOIN {schema}.payloads p ON p.execution = e.execution AND p.digest = e.payload_ref
    WHERE e.execution = x.key AND e.type = 'execution.failed' ORDER BY e.seq DESC LIMIT 1
) f ON true
ORDER BY x.key DESC

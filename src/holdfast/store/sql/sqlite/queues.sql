-- name: queues.settings
SELECT name, paused, concurrency, key_concurrency, tenant_concurrency, rate_count, rate_period_us
FROM queues ORDER BY name

-- name: queues.lock
-- BEGIN IMMEDIATE is the lock. With the row comes what its bucket holds now.
SELECT name, paused, concurrency, key_concurrency, tenant_concurrency, rate_count, rate_period_us,
       CASE WHEN rate_at IS NULL THEN rate_count
            ELSE min(rate_count, rate_tokens + rate_count * 1.0 * max({now} - rate_at, 0) / rate_period_us) END,
       max({now}, coalesce(rate_at, 0))
FROM queues WHERE name = ?1

-- name: queues.spend
UPDATE queues SET rate_tokens = ?2, rate_at = ?3 WHERE name = ?1

-- name: queues.set_row
-- A bucket begins full, and begins anew when the rate changes.
INSERT INTO queues (name, paused, concurrency, key_concurrency, tenant_concurrency, rate_count, rate_period_us,
                    created_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, {now})
ON CONFLICT (name) DO UPDATE
SET paused = excluded.paused, concurrency = excluded.concurrency, key_concurrency = excluded.key_concurrency,
    tenant_concurrency = excluded.tenant_concurrency,
    rate_at = CASE WHEN rate_count IS excluded.rate_count AND rate_period_us IS excluded.rate_period_us
              THEN rate_at END,
    rate_count = excluded.rate_count, rate_period_us = excluded.rate_period_us

-- name: queues.candidates
-- In the order of the partial index, like `fleet.claim`.
SELECT key, limit_key, epoch FROM executions
WHERE status = 'ready' AND queue = ?1 AND class = ?2 AND tenant_id = ?3
  AND definition NOT IN (SELECT unhex(value) FROM json_each(?5))
ORDER BY priority DESC, key LIMIT ?4

-- name: queues.candidates_by_age
-- The oldest of each priority, like `fleet.claim_oldest`.
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
              AND e.priority = levels.priority AND e.definition NOT IN (SELECT unhex(value) FROM json_each(?5))
            ORDER BY e.key LIMIT 1)
    FROM levels WHERE levels.priority IS NOT NULL
)
SELECT key, limit_key, epoch FROM executions
WHERE key IN (SELECT key FROM oldest WHERE key IS NOT NULL ORDER BY key LIMIT ?4)
ORDER BY key

-- name: queues.holding
-- Ready executions that hold a place already, because their owner died or a message woke them.
SELECT e.key, e.limit_key, e.epoch
FROM slots s JOIN executions e ON e.key = s.holder
WHERE s.queue = ?1 AND s.scope = ?4 AND s.holder IS NOT NULL
  AND e.status = 'ready' AND e.queue = ?1 AND e.class = ?2 AND e.tenant_id = ?3
  AND e.definition NOT IN (SELECT unhex(value) FROM json_each(?6))
ORDER BY e.priority DESC, e.key LIMIT ?5

-- name: queues.places
-- Of each asked scope: its highest number, how many places above the limit are still held, and the free ones
-- below it. The numbers of a scope run from 1 without a hole.
SELECT a.value ->> 'scope',
       coalesce((SELECT max(s.no) FROM slots s WHERE s.queue = ?1 AND s.scope = a.value ->> 'scope'), 0),
       (SELECT count(*) FROM slots s
        WHERE s.queue = ?1 AND s.scope = a.value ->> 'scope' AND s.no > a.value ->> 'most' AND s.holder IS NOT NULL),
       (SELECT json_group_array(f.no)
        FROM (SELECT s.no FROM slots s
              WHERE s.queue = ?1 AND s.scope = a.value ->> 'scope' AND s.no <= a.value ->> 'most'
                AND s.holder IS NULL
              ORDER BY s.no LIMIT ?3) f)
FROM json_each(?2) a

-- name: queues.held_by
SELECT holder, scope FROM slots WHERE queue = ?1 AND holder IN (SELECT unhex(value) FROM json_each(?2))

-- name: queues.occupy
-- Gives places out, those that never were among them.
INSERT INTO slots (queue, scope, no, holder)
SELECT ?1, a.value ->> 'scope', a.value ->> 'no', unhex(a.value ->> 'holder') FROM json_each(?2) a WHERE true
ON CONFLICT (queue, scope, no) DO UPDATE SET holder = excluded.holder WHERE slots.holder IS NULL

-- name: queues.claim
UPDATE executions
SET status = 'running', owner = ?2, epoch = epoch + 1, due_at = NULL, blocked_on = NULL
WHERE key IN (SELECT unhex(value) FROM json_each(?1)) AND status = 'ready'
RETURNING key, id, tenant_id, workflow, version, definition, queue, epoch, wakes, recoveries, parent, parent_path,
          limit_key, NULL

-- name: queues.park
-- Out of the ready set until a place is free. Without a time, or the timer sweep would bring it back.
UPDATE executions
SET status = 'waiting', due_at = NULL, blocked_on = a.value ->> 'mark'
FROM json_each(?1) a
WHERE executions.key = unhex(a.value ->> 'key') AND executions.status = 'ready'

-- name: queues.promote
UPDATE executions SET status = 'ready', blocked_on = NULL
WHERE key IN (SELECT key FROM executions WHERE blocked_on = ?1 AND status = 'waiting'
              ORDER BY priority DESC, key LIMIT ?2)
RETURNING key

-- name: queues.astray
-- What a process that died at the wrong moment leaves behind, in one look: places of executions that do not run,
-- executions that wait for a place that may be free, and the rows of keys that nobody uses. A mark that is waited
-- for has a holder, so there are no more of them than there are places held.
WITH RECURSIVE marks(mark) AS (
    SELECT (SELECT min(e.blocked_on) FROM executions e
            WHERE e.blocked_on >= 'slot:' AND e.blocked_on < 'slot;')
    UNION ALL
    SELECT (SELECT min(e.blocked_on) FROM executions e
            WHERE e.blocked_on > marks.mark AND e.blocked_on < 'slot;')
    FROM marks WHERE marks.mark IS NOT NULL
), queued(mark, queue) AS (
    SELECT mark, (SELECT e.queue FROM executions e WHERE e.blocked_on = mark AND e.status = 'waiting' LIMIT 1)
    FROM marks WHERE mark IS NOT NULL
), parked(queue, scope) AS (
    SELECT queue, substr(mark, length('slot:' || queue || ':') + 1) FROM queued WHERE queue IS NOT NULL
)
SELECT * FROM (
    SELECT 'held', s.queue, lower(hex(s.holder))
    FROM slots s LEFT JOIN executions e ON e.key = s.holder
    WHERE s.holder IS NOT NULL AND (e.key IS NULL OR e.status NOT IN ('running', 'ready')) LIMIT ?1)
UNION ALL
SELECT * FROM (
    SELECT 'parked', p.queue, p.scope
    FROM parked p LEFT JOIN queues q ON q.name = p.queue
    WHERE q.key_concurrency IS NULL
       OR q.key_concurrency > coalesce((SELECT max(s.no) FROM slots s
                                        WHERE s.queue = p.queue AND s.scope = p.scope), 0)
       OR EXISTS (SELECT 1 FROM slots s WHERE s.queue = p.queue AND s.scope = p.scope
                  AND s.no <= q.key_concurrency AND s.holder IS NULL)
    LIMIT ?1)
UNION ALL
SELECT * FROM (
    SELECT 'idle', queue, scope FROM slots
    WHERE scope >= 'key:' AND scope < 'key;' GROUP BY queue, scope HAVING count(holder) = 0 LIMIT ?1)

-- name: queues.free
-- Looked at again inside the transaction: it may have been taken up meanwhile.
UPDATE slots SET holder = NULL
WHERE queue = ?1 AND holder IN (
    SELECT unhex(k.value) FROM json_each(?2) k LEFT JOIN executions e ON e.key = unhex(k.value)
    WHERE e.key IS NULL OR e.status NOT IN ('running', 'ready'))
RETURNING scope

-- name: queues.forget_keys
DELETE FROM slots
WHERE queue = ?1 AND scope IN (SELECT value FROM json_each(?2))
  AND NOT EXISTS (SELECT 1 FROM slots h
                  WHERE h.queue = slots.queue AND h.scope = slots.scope AND h.holder IS NOT NULL)

-- name: queues.shrink
-- Drops the free places above a lowered limit, from the top down to the first that is held: no holes.
DELETE FROM slots
WHERE queue = ?1 AND scope = ?2 AND no > ?3
  AND NOT EXISTS (SELECT 1 FROM slots h WHERE h.queue = slots.queue AND h.scope = slots.scope AND h.no >= slots.no
                  AND h.holder IS NOT NULL)

-- name: queues.by_dedupe_key
-- The unfinished execution that has this key in this queue.
SELECT key, id, tenant_id, workflow, version, definition, fingerprint, status, queue, priority, due_at, owner,
       epoch, recoveries, wakes, parent, created_at, finished_at
FROM executions
WHERE tenant_id = ?1 AND queue = ?2 AND dedupe_key = ?3 AND finished_at IS NULL

-- name: queues.names
-- Queues that have a row, ready executions or dead letters: the indexes are hopped over, not read.
WITH RECURSIVE ready(queue) AS (
    SELECT (SELECT min(e.queue) FROM executions e WHERE e.status = 'ready')
    UNION ALL
    SELECT (SELECT min(e.queue) FROM executions e WHERE e.status = 'ready' AND e.queue > ready.queue)
    FROM ready WHERE ready.queue IS NOT NULL
), failed(queue) AS (
    SELECT (SELECT min(e.queue) FROM executions e WHERE e.status = 'failed' AND e.tenant_id = ?1)
    UNION ALL
    SELECT (SELECT min(e.queue) FROM executions e
            WHERE e.status = 'failed' AND e.tenant_id = ?1 AND e.queue > failed.queue)
    FROM failed WHERE failed.queue IS NOT NULL
)
SELECT name FROM queues
UNION SELECT queue FROM ready WHERE queue IS NOT NULL
UNION SELECT queue FROM failed WHERE queue IS NOT NULL

-- name: queues.unfinished
-- A bounded look at all that has not ended. The order is that of an index, which is what makes it bounded.
SELECT u.queue, u.status, u.blocked, count(*)
FROM (SELECT queue, status, blocked_on IS NOT NULL AND status = 'waiting' AS blocked
      FROM executions WHERE finished_at IS NULL ORDER BY tenant_id, fingerprint, key LIMIT ?1) u
GROUP BY 1, 2, 3

-- name: queues.running
SELECT r.queue, count(*)
FROM (SELECT queue FROM executions WHERE status = 'running' ORDER BY owner LIMIT ?1) r
GROUP BY 1

-- name: queues.depths
-- Of each queue: the ready ones and when the oldest came, those that wait for a place, and dead letters. Each
-- count reads an index up to its bound.
SELECT n.value,
       (SELECT count(*) FROM (SELECT 1 FROM executions e WHERE e.status = 'ready' AND e.queue = n.value
                              ORDER BY e.class, e.tenant_id, e.priority DESC, e.key LIMIT ?2)),
       (SELECT min(r.created_at)
        FROM (SELECT e.created_at FROM executions e WHERE e.status = 'ready' AND e.queue = n.value
              ORDER BY e.class, e.tenant_id, e.priority DESC, e.key LIMIT ?2) r),
       (SELECT count(*)
        FROM (SELECT 1 FROM executions e
              WHERE e.blocked_on >= 'slot:' || n.value || ':' AND e.blocked_on < 'slot:' || n.value || ';'
                AND e.status = 'waiting'
              ORDER BY e.blocked_on, e.priority DESC, e.key LIMIT ?2)),
       (SELECT count(*)
        FROM (SELECT 1 FROM executions e
              WHERE e.status = 'failed' AND e.tenant_id = ?3 AND e.queue = n.value ORDER BY e.key LIMIT ?2))
FROM json_each(?1) n

-- name: queues.dead_letters
-- Newest first, with the error of the last failure.
SELECT x.id, x.workflow, x.version, x.finished_at, x.recoveries,
       (SELECT coalesce(e.payload, p.body)
        FROM events e
        LEFT JOIN payloads p ON p.execution = e.execution AND p.digest = e.payload_ref
        WHERE e.execution = x.key AND e.type = 'execution.failed' ORDER BY e.seq DESC LIMIT 1),
       x.key
FROM executions x
WHERE x.status = 'failed' AND x.tenant_id = ?1 AND x.queue = ?2 AND (?4 IS NULL OR x.key < ?4)
ORDER BY x.key DESC LIMIT ?3

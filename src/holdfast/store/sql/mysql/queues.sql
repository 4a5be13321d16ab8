-- name: queues.settings
SELECT name, paused, concurrency, key_concurrency, tenant_concurrency, rate_count, rate_period_us
FROM queues ORDER BY name

-- name: queues.lock
-- The row of a queue is locked by whoever gives out its places. With it comes what its bucket holds now: the
-- clock may lie before the last one's, so that time never counts twice.
SELECT name, paused, concurrency, key_concurrency, tenant_concurrency, rate_count, rate_period_us,
       CASE WHEN rate_at IS NULL THEN rate_count * 1e0
            ELSE LEAST(rate_count, rate_tokens + rate_count * 1e0
                 * GREATEST(TIMESTAMPDIFF(MICROSECOND, rate_at, {now}), 0) / rate_period_us) END,
       GREATEST({now}, coalesce(rate_at, {now}))
FROM queues WHERE name = ?1 FOR UPDATE

-- name: queues.spend
UPDATE queues SET rate_tokens = ?2, rate_at = ?3 WHERE name = ?1

-- name: queues.set_row
-- A bucket begins full, and begins anew when the rate changes: asked before the rate is set.
INSERT INTO queues (name, paused, concurrency, key_concurrency, tenant_concurrency, rate_count, rate_period_us,
                    created_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, {now})
ON DUPLICATE KEY UPDATE
    paused = VALUES(paused), concurrency = VALUES(concurrency), key_concurrency = VALUES(key_concurrency),
    tenant_concurrency = VALUES(tenant_concurrency),
    rate_at = CASE WHEN queues.rate_count <=> VALUES(rate_count)
                    AND queues.rate_period_us <=> VALUES(rate_period_us)
              THEN queues.rate_at END,
    rate_count = VALUES(rate_count), rate_period_us = VALUES(rate_period_us)

-- name: queues.candidates
-- In the order of the index, like `fleet.claim`.
SELECT `key`, limit_key, epoch FROM executions FORCE INDEX (executions_ready)
WHERE status = 'ready' AND queue = ?1 AND class = ?2 AND tenant_id = ?3
  AND INSTR(?5, CONCAT('"', LOWER(HEX(definition)), '"')) = 0
ORDER BY urgency, priority, `key` LIMIT ?4 FOR UPDATE SKIP LOCKED

-- name: queues.candidates_by_age
-- The oldest of each priority, like `fleet.claim_oldest`.
SET @hf_oldest = NULL
-- then
SELECT JSON_ARRAYAGG(HEX(oldest.k)) INTO @hf_oldest
FROM (SELECT firsts.k
      FROM (SELECT (SELECT e.`key` FROM executions e FORCE INDEX (executions_ready)
                    WHERE e.status = 'ready' AND e.queue = ?1 AND e.class = ?2 AND e.tenant_id = ?3
                      AND e.urgency = levels.urgency AND e.priority = levels.priority
                      AND INSTR(?5, CONCAT('"', LOWER(HEX(e.definition)), '"')) = 0
                    ORDER BY e.`key` LIMIT 1) AS k
            FROM (SELECT DISTINCT status, queue, class, tenant_id, urgency, priority
                  FROM executions FORCE INDEX (executions_ready)
                  WHERE status = 'ready' AND queue = ?1 AND class = ?2 AND tenant_id = ?3) levels) firsts
      WHERE firsts.k IS NOT NULL
      ORDER BY firsts.k LIMIT ?4) oldest
-- then
SELECT e.`key`, e.limit_key, e.epoch
FROM JSON_TABLE(@hf_oldest, '$[*]' COLUMNS (k CHAR(32) PATH '$')) j
STRAIGHT_JOIN executions e FORCE INDEX (PRIMARY) ON e.`key` = UNHEX(j.k)
WHERE e.status = 'ready' FOR UPDATE SKIP LOCKED

-- name: queues.holding
-- Ready executions that hold a place already, because their owner died or a message woke them. They are looked
-- for without a lock, which would be one on their places as well.
SET @hf_keys = NULL
-- then
SELECT JSON_ARRAYAGG(HEX(holding.k)) INTO @hf_keys
FROM (SELECT e.`key` AS k
      FROM slots s JOIN executions e ON e.`key` = s.holder
      WHERE s.queue = ?1 AND s.scope = ?4 AND s.holder IS NOT NULL
        AND e.status = 'ready' AND e.queue = ?1 AND e.class = ?2 AND e.tenant_id = ?3
        AND INSTR(?6, CONCAT('"', LOWER(HEX(e.definition)), '"')) = 0
      ORDER BY e.urgency, e.`key` LIMIT ?5) holding
-- then
SELECT e.`key`, e.limit_key, e.epoch
FROM JSON_TABLE(@hf_keys, '$[*]' COLUMNS (k CHAR(32) PATH '$')) j
STRAIGHT_JOIN executions e FORCE INDEX (PRIMARY) ON e.`key` = UNHEX(j.k)
WHERE e.status = 'ready' FOR UPDATE SKIP LOCKED

-- name: queues.places
-- Of each asked scope: its highest number, how many places above the limit are still held, and the free ones
-- below it. The numbers of a scope run from 1 without a hole.
SELECT a.scope, coalesce(max(s.no), 0),
       CAST(coalesce(sum(s.no > a.most AND s.holder IS NOT NULL), 0) AS SIGNED),
       CONCAT('[', coalesce(SUBSTRING_INDEX(GROUP_CONCAT(CASE WHEN s.no <= a.most AND s.holder IS NULL THEN s.no END
                                                         ORDER BY s.no SEPARATOR ','), ',', ?3), ''), ']')
FROM JSON_TABLE(?2, '$[*]' COLUMNS (
         scope VARCHAR(508) CHARACTER SET utf8mb4 COLLATE {binary} PATH '$.scope',
         most INTEGER PATH '$.most')) a
LEFT JOIN slots s ON s.queue = ?1 AND s.scope = a.scope
GROUP BY a.scope

-- name: queues.held_by
SELECT s.holder, s.scope
FROM JSON_TABLE(?2, '$[*]' COLUMNS (k CHAR(32) PATH '$')) j
STRAIGHT_JOIN slots s FORCE INDEX (slots_held) ON s.holder = UNHEX(j.k)
WHERE s.queue = ?1

-- name: queues.occupy
-- Gives places out, those that never were among them. Called under the lock of the queue's row.
INSERT INTO slots (queue, scope, no, holder)
SELECT ?1, a.scope, a.no, UNHEX(a.holder)
FROM JSON_TABLE(?2, '$[*]' COLUMNS (
         scope VARCHAR(508) CHARACTER SET utf8mb4 COLLATE {binary} PATH '$.scope',
         no INTEGER PATH '$.no',
         holder CHAR(32) PATH '$.holder')) a
WHERE TRUE
ON DUPLICATE KEY UPDATE holder = coalesce(slots.holder, VALUES(holder))

-- name: queues.claim
SET @hf_keys = NULL
-- then
SELECT JSON_ARRAYAGG(HEX(picked.k)) INTO @hf_keys
FROM (SELECT e.`key` AS k
      FROM JSON_TABLE(?1, '$[*]' COLUMNS (k CHAR(32) PATH '$')) j
      STRAIGHT_JOIN executions e FORCE INDEX (PRIMARY) ON e.`key` = UNHEX(j.k)
      WHERE e.status = 'ready' FOR UPDATE) picked
-- then
UPDATE JSON_TABLE(@hf_keys, '$[*]' COLUMNS (k CHAR(32) PATH '$')) j
STRAIGHT_JOIN executions e FORCE INDEX (PRIMARY) ON e.`key` = UNHEX(j.k)
SET e.status = 'running', e.owner = ?2, e.epoch = e.epoch + 1, e.due_at = NULL, e.blocked_on = NULL
-- then
SELECT e.`key`, e.id, e.tenant_id, e.workflow, e.version, e.definition, e.queue, e.epoch, e.wakes, e.recoveries,
       e.parent, e.parent_path, e.limit_key, NULL
FROM JSON_TABLE(@hf_keys, '$[*]' COLUMNS (k CHAR(32) PATH '$')) j
STRAIGHT_JOIN executions e FORCE INDEX (PRIMARY) ON e.`key` = UNHEX(j.k)

-- name: queues.park
-- Out of the ready set until a place is free. Without a time, or the timer sweep would bring it back.
UPDATE JSON_TABLE(?1, '$[*]' COLUMNS (
           k CHAR(32) PATH '$.key',
           mark VARCHAR(750) CHARACTER SET utf8mb4 COLLATE {binary} PATH '$.mark')) a
STRAIGHT_JOIN executions e FORCE INDEX (PRIMARY) ON e.`key` = UNHEX(a.k) AND e.status = 'ready'
SET e.status = 'waiting', e.due_at = NULL, e.blocked_on = a.mark

-- name: queues.promote
-- A row that somebody holds right now is passed over: a message wakes it by itself, and the sweep comes again.
SET @hf_keys = NULL
-- then
SELECT JSON_ARRAYAGG(HEX(parked.k)) INTO @hf_keys
FROM (SELECT `key` AS k FROM executions FORCE INDEX (executions_blocked)
      WHERE blocked_on = ?1 AND status = 'waiting'
      ORDER BY urgency, `key` LIMIT ?2 FOR UPDATE SKIP LOCKED) parked
-- then
UPDATE JSON_TABLE(@hf_keys, '$[*]' COLUMNS (k CHAR(32) PATH '$')) j
STRAIGHT_JOIN executions e FORCE INDEX (PRIMARY) ON e.`key` = UNHEX(j.k)
SET e.status = 'ready', e.blocked_on = NULL
-- then
SELECT UNHEX(j.k) FROM JSON_TABLE(@hf_keys, '$[*]' COLUMNS (k CHAR(32) PATH '$')) j

-- name: queues.astray
-- What a process that died at the wrong moment leaves behind, in one look: places of executions that do not run,
-- executions that wait for a place that may be free, and the rows of keys that nobody uses. The marks are hopped
-- over, not read; one that is waited for has a holder, so there are no more of them than there are places held.
WITH marks AS (
    SELECT DISTINCT blocked_on AS mark FROM executions FORCE INDEX (executions_blocked)
    WHERE blocked_on >= 'slot:' AND blocked_on < 'slot;'
), queued AS (
    SELECT mark, (SELECT e.queue FROM executions e WHERE e.blocked_on = mark AND e.status = 'waiting' LIMIT 1) AS queue
    FROM marks
), parked AS (
    SELECT queue, SUBSTR(mark, CHAR_LENGTH(CONCAT('slot:', queue, ':')) + 1) AS scope
    FROM queued WHERE queue IS NOT NULL
)
SELECT * FROM (
    SELECT 'held', s.queue, LOWER(HEX(s.holder)) AS what
    FROM slots s LEFT JOIN executions e ON e.`key` = s.holder
    WHERE s.holder IS NOT NULL AND (e.`key` IS NULL OR e.status NOT IN ('running', 'ready')) LIMIT ?1) held
UNION ALL
SELECT * FROM (
    SELECT 'parked', p.queue, p.scope
    FROM parked p LEFT JOIN queues q ON q.name = p.queue
    WHERE q.key_concurrency IS NULL
       OR q.key_concurrency > coalesce((SELECT max(s.no) FROM slots s
                                        WHERE s.queue = p.queue AND s.scope = p.scope), 0)
       OR EXISTS (SELECT 1 FROM slots s WHERE s.queue = p.queue AND s.scope = p.scope
                  AND s.no <= q.key_concurrency AND s.holder IS NULL)
    LIMIT ?1) parked_
UNION ALL
SELECT * FROM (
    SELECT 'idle', queue, scope FROM slots
    WHERE scope >= 'key:' AND scope < 'key;' GROUP BY queue, scope HAVING count(holder) = 0 LIMIT ?1) idle

-- name: queues.free
-- Looked at again under the lock of the execution: it may have been taken up meanwhile. One that is locked
-- elsewhere is passed over, and one that is not there has no lock.
SET @hf_over = NULL, @hf_gone = NULL, @hf_scopes = NULL
-- then
SELECT JSON_ARRAYAGG(HEX(over_.k)) INTO @hf_over
FROM (SELECT e.`key` AS k
      FROM JSON_TABLE(?2, '$[*]' COLUMNS (k CHAR(32) PATH '$')) j
      STRAIGHT_JOIN executions e FORCE INDEX (PRIMARY) ON e.`key` = UNHEX(j.k)
      WHERE e.status NOT IN ('running', 'ready') FOR UPDATE SKIP LOCKED) over_
-- then
SELECT JSON_ARRAYAGG(j.k) INTO @hf_gone
FROM JSON_TABLE(?2, '$[*]' COLUMNS (k CHAR(32) PATH '$')) j
WHERE NOT EXISTS (SELECT 1 FROM executions e WHERE e.`key` = UNHEX(j.k))
-- then
SET @hf_over = JSON_MERGE_PRESERVE(coalesce(@hf_over, '[]'), coalesce(@hf_gone, '[]'))
-- then
SELECT JSON_ARRAYAGG(s.scope) INTO @hf_scopes
FROM JSON_TABLE(@hf_over, '$[*]' COLUMNS (k CHAR(32) PATH '$')) j
STRAIGHT_JOIN slots s FORCE INDEX (slots_held) ON s.holder = UNHEX(j.k)
WHERE s.queue = ?1
-- then
UPDATE JSON_TABLE(@hf_over, '$[*]' COLUMNS (k CHAR(32) PATH '$')) j
STRAIGHT_JOIN slots s FORCE INDEX (slots_held) ON s.holder = UNHEX(j.k) AND s.queue = ?1
SET s.holder = NULL
-- then
SELECT j.scope
FROM JSON_TABLE(@hf_scopes, '$[*]' COLUMNS (
         scope VARCHAR(508) CHARACTER SET utf8mb4 COLLATE {binary} PATH '$')) j

-- name: queues.forget_keys
-- Those that are still idle are looked for first: a DELETE may not read its own table on every server.
SET @hf_scopes = NULL
-- then
SELECT JSON_ARRAYAGG(idle.scope) INTO @hf_scopes
FROM (SELECT s.scope
      FROM JSON_TABLE(?2, '$[*]' COLUMNS (
               scope VARCHAR(508) CHARACTER SET utf8mb4 COLLATE {binary} PATH '$')) j
      STRAIGHT_JOIN slots s ON s.queue = ?1 AND s.scope = j.scope
      GROUP BY s.scope HAVING count(s.holder) = 0) idle
-- then
DELETE s
FROM JSON_TABLE(@hf_scopes, '$[*]' COLUMNS (
         scope VARCHAR(508) CHARACTER SET utf8mb4 COLLATE {binary} PATH '$')) j
STRAIGHT_JOIN slots s ON s.queue = ?1 AND s.scope = j.scope

-- name: queues.shrink
-- Drops the free places above a lowered limit, from the top down to the first that is held: no holes.
SELECT coalesce(max(no), 0) INTO @hf_top FROM slots WHERE queue = ?1 AND scope = ?2 AND holder IS NOT NULL
-- then
DELETE FROM slots WHERE queue = ?1 AND scope = ?2 AND no > GREATEST(?3, @hf_top)

-- name: queues.by_dedupe_key
-- The unfinished execution that has this key in this queue.
SELECT `key`, id, tenant_id, workflow, version, definition, fingerprint, status, queue, priority, due_at, owner,
       epoch, recoveries, wakes, parent, created_at, finished_at
FROM executions
WHERE tenant_id = ?1 AND queue = ?2 AND open_dedupe_key = ?3

-- name: queues.names
-- Queues that have a row, ready executions or dead letters. The ready ones are hopped over, not read.
SELECT name FROM queues
UNION
SELECT queue FROM (SELECT DISTINCT status, queue FROM executions FORCE INDEX (executions_ready)
                   WHERE status = 'ready') ready
UNION
SELECT failed_queue FROM executions FORCE INDEX (executions_failed)
WHERE tenant_id = ?1 AND failed_queue IS NOT NULL

-- name: queues.unfinished
-- A bounded look at all that has not ended. The order is that of an index, which is what makes it bounded.
SELECT u.queue, u.status, u.blocked, count(*)
FROM (SELECT queue, status, blocked_on IS NOT NULL AND status = 'waiting' AS blocked
      FROM executions FORCE INDEX (executions_unfinished)
      WHERE open_tenant IS NOT NULL ORDER BY open_tenant, fingerprint, `key` LIMIT ?1) u
GROUP BY u.queue, u.status, u.blocked

-- name: queues.running
SELECT r.queue, count(*)
FROM (SELECT queue FROM executions FORCE INDEX (executions_owned)
      WHERE owner IS NOT NULL ORDER BY owner LIMIT ?1) r
GROUP BY r.queue

-- name: queues.depths
-- Of each queue: the ready ones and when the oldest came, those that wait for a place, and dead letters. Each
-- count reads an index up to its bound: is there a row behind it, nothing is counted. The oldest is among the
-- first of each group, and to these and to the marks that are waited for the index is hopped along.
WITH firsts AS (
    SELECT g.queue, (SELECT e.created_at FROM executions e FORCE INDEX (executions_ready)
                     WHERE e.status = 'ready' AND e.queue = g.queue AND e.class = g.class
                       AND e.tenant_id = g.tenant_id AND e.urgency = g.urgency AND e.priority = g.priority
                     ORDER BY e.`key` LIMIT 1) AS created_at
    FROM (SELECT DISTINCT status, queue, class, tenant_id, urgency, priority
          FROM executions FORCE INDEX (executions_ready)
          WHERE status = 'ready') g
), oldest AS (
    SELECT queue, min(created_at) AS created_at FROM firsts GROUP BY queue
), marks AS (
    SELECT DISTINCT blocked_on AS mark FROM executions FORCE INDEX (executions_blocked)
    WHERE blocked_on >= 'slot:' AND blocked_on < 'slot;'
), queued AS (
    SELECT mark, (SELECT e.queue FROM executions e FORCE INDEX (executions_blocked)
                  WHERE e.blocked_on = mark AND e.status = 'waiting' LIMIT 1) AS queue
    FROM marks
), parked AS (
    SELECT q.queue,
           sum(CASE WHEN (SELECT 1 FROM executions e FORCE INDEX (executions_blocked)
                          WHERE e.blocked_on = q.mark AND e.status = 'waiting' LIMIT ?2, 1) IS NOT NULL THEN ?2
                    ELSE (SELECT count(*) FROM executions e FORCE INDEX (executions_blocked)
                          WHERE e.blocked_on = q.mark AND e.status = 'waiting') END) AS count
    FROM queued q WHERE q.queue IS NOT NULL GROUP BY q.queue
)
SELECT n.v,
       CASE WHEN (SELECT 1 FROM executions e FORCE INDEX (executions_ready)
                  WHERE e.status = 'ready' AND e.queue = n.v LIMIT ?2, 1) IS NOT NULL THEN ?2
            ELSE (SELECT count(*) FROM executions e FORCE INDEX (executions_ready)
                  WHERE e.status = 'ready' AND e.queue = n.v) END,
       (SELECT o.created_at FROM oldest o WHERE o.queue = n.v),
       CAST(LEAST(coalesce((SELECT p.count FROM parked p WHERE p.queue = n.v), 0), ?2) AS SIGNED),
       CASE WHEN (SELECT 1 FROM executions e FORCE INDEX (executions_failed)
                  WHERE e.tenant_id = ?3 AND e.failed_queue = n.v LIMIT ?2, 1) IS NOT NULL THEN ?2
            ELSE (SELECT count(*) FROM executions e FORCE INDEX (executions_failed)
                  WHERE e.tenant_id = ?3 AND e.failed_queue = n.v) END
FROM JSON_TABLE(?1, '$[*]' COLUMNS (v VARCHAR(255) CHARACTER SET utf8mb4 COLLATE {binary} PATH '$')) n

-- name: queues.dead_letters
-- Newest first, with the error of the last failure.
SELECT x.id, x.workflow, x.version, x.finished_at, x.recoveries,
       (SELECT coalesce(e.payload, p.body)
        FROM events e
        LEFT JOIN payloads p ON p.execution = e.execution AND p.digest = e.payload_ref
        WHERE e.execution = x.`key` AND e.type = 'execution.failed' ORDER BY e.seq DESC LIMIT 1),
       x.`key`
FROM executions x FORCE INDEX (executions_failed)
WHERE x.tenant_id = ?1 AND x.failed_queue = ?2 AND (?4 IS NULL OR x.`key` < ?4)
ORDER BY x.`key` DESC LIMIT ?3

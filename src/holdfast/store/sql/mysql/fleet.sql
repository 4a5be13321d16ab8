-- name: fleet.peek
-- All that an idle worker asks, in one statement that writes nothing. Its rows are of several kinds, named by the
-- first column: which lanes (queue, class, tenant) have work, by a loose scan of the index, which hops only when
-- all that is asked for is a prefix of it; the time to the next timer in microseconds; workers whose lease is over;
-- versions that are waited for and offered here; queues with limits; the newest migration.
SELECT 'lane', lanes.queue, lanes.class, lanes.tenant_id, NULL
FROM (SELECT r.queue, r.class, r.tenant_id
      FROM (SELECT DISTINCT status, queue, class, tenant_id FROM executions FORCE INDEX (executions_ready)
            WHERE status = 'ready' AND tenant_id > ?3) r
      JOIN JSON_TABLE(?1, '$[*]' COLUMNS (
           place FOR ORDINALITY, v VARCHAR(255) CHARACTER SET utf8mb4 COLLATE {binary} PATH '$')) q ON q.v = r.queue
      JOIN JSON_TABLE(?2, '$[*]' COLUMNS (v VARCHAR(255) CHARACTER SET utf8mb4 COLLATE {binary} PATH '$')) c
           ON c.v = r.class
      ORDER BY r.tenant_id, q.place, r.class LIMIT ?5) lanes
UNION ALL
SELECT 'due', NULL, NULL, NULL, TIMESTAMPDIFF(MICROSECOND, {now}, soonest.timer_at)
FROM (SELECT timer_at FROM executions FORCE INDEX (executions_due)
      WHERE timer_at IS NOT NULL ORDER BY timer_at LIMIT 1) soonest
UNION ALL
SELECT 'dead', LOWER(HEX(boot_id)), NULL, NULL, NULL FROM workers WHERE lease_until <= {now}
UNION ALL
SELECT 'offered', o.v, NULL, NULL, NULL
FROM JSON_TABLE(?4, '$[*]' COLUMNS (v VARCHAR(255) CHARACTER SET utf8mb4 COLLATE {binary} PATH '$')) o
WHERE EXISTS (SELECT 1 FROM executions e WHERE e.blocked_on = o.v)
UNION ALL
SELECT 'limited', l.name, NULL, NULL, NULL
FROM JSON_TABLE(?1, '$[*]' COLUMNS (v VARCHAR(255) CHARACTER SET utf8mb4 COLLATE {binary} PATH '$')) q
STRAIGHT_JOIN queues l ON l.name = q.v
UNION ALL
SELECT 'schema', NULL, NULL, NULL, max(version) FROM schema_migrations

-- name: fleet.claim
-- In the order of the index, so that nothing is read but what is taken; only for a worker whose lease has not run
-- out, or others would have to take it all from it again, and that knows the newest migration; and nothing of a
-- queue that has got limits since the worker looked. That is asked first, in a statement that locks nothing. What
-- the worker refuses is asked for in a form that says nothing about any index.
-- The last column is the input of one that nobody has touched since its start was written, which spares a look at
-- its log: its row is locked by now, and this last statement sees all that was committed until then.
SET @hf_keys = NULL
-- then
SELECT count(*) INTO @hf_may FROM workers
WHERE boot_id = ?4 AND lease_until > {now}
  AND (SELECT max(version) FROM schema_migrations) <= ?7
  AND NOT EXISTS (SELECT 1 FROM queues WHERE name = ?1)
-- then
SELECT JSON_ARRAYAGG(HEX(picked.k)) INTO @hf_keys
FROM (SELECT `key` AS k FROM executions FORCE INDEX (executions_ready)
      WHERE status = 'ready' AND queue = ?1 AND class = ?2 AND tenant_id = ?3 AND @hf_may > 0
        AND INSTR(?6, CONCAT('"', LOWER(HEX(definition)), '"')) = 0
      ORDER BY urgency, priority, `key` LIMIT ?5 FOR UPDATE SKIP LOCKED) picked
-- then
UPDATE JSON_TABLE(@hf_keys, '$[*]' COLUMNS (k CHAR(32) PATH '$')) j
STRAIGHT_JOIN executions e FORCE INDEX (PRIMARY) ON e.`key` = UNHEX(j.k)
SET e.status = 'running', e.owner = ?4, e.epoch = e.epoch + 1, e.due_at = NULL, e.blocked_on = NULL
-- then
SELECT e.`key`, e.id, e.tenant_id, e.workflow, e.version, e.definition, e.queue, e.epoch, e.wakes, e.recoveries,
       e.parent, e.parent_path, e.limit_key,
       CASE WHEN e.epoch = 1 AND NOT EXISTS (SELECT 1 FROM events n WHERE n.execution = e.`key` AND n.seq = 2)
            THEN (SELECT v.payload FROM events v WHERE v.execution = e.`key` AND v.seq = 1) END
FROM JSON_TABLE(@hf_keys, '$[*]' COLUMNS (k CHAR(32) PATH '$')) j
STRAIGHT_JOIN executions e FORCE INDEX (PRIMARY) ON e.`key` = UNHEX(j.k)

-- name: fleet.claim_oldest
-- The oldest of each priority, so that a steady stream of urgent work does not keep the rest waiting for ever.
SET @hf_oldest = NULL, @hf_keys = NULL
-- then
SELECT count(*) INTO @hf_may FROM workers
WHERE boot_id = ?4 AND lease_until > {now}
  AND (SELECT max(version) FROM schema_migrations) <= ?7
  AND NOT EXISTS (SELECT 1 FROM queues WHERE name = ?1)
-- then
SELECT JSON_ARRAYAGG(HEX(oldest.k)) INTO @hf_oldest
FROM (SELECT firsts.k
      FROM (SELECT (SELECT e.`key` FROM executions e FORCE INDEX (executions_ready)
                    WHERE e.status = 'ready' AND e.queue = ?1 AND e.class = ?2 AND e.tenant_id = ?3
                      AND e.urgency = levels.urgency AND e.priority = levels.priority
                      AND INSTR(?6, CONCAT('"', LOWER(HEX(e.definition)), '"')) = 0
                    ORDER BY e.`key` LIMIT 1) AS k
            FROM (SELECT DISTINCT status, queue, class, tenant_id, urgency, priority
                  FROM executions FORCE INDEX (executions_ready)
                  WHERE status = 'ready' AND queue = ?1 AND class = ?2 AND tenant_id = ?3) levels) firsts
      WHERE firsts.k IS NOT NULL AND @hf_may > 0
      ORDER BY firsts.k LIMIT ?5) oldest
-- then
SELECT JSON_ARRAYAGG(HEX(picked.k)) INTO @hf_keys
FROM (SELECT e.`key` AS k
      FROM JSON_TABLE(@hf_oldest, '$[*]' COLUMNS (k CHAR(32) PATH '$')) j
      STRAIGHT_JOIN executions e FORCE INDEX (PRIMARY) ON e.`key` = UNHEX(j.k)
      WHERE e.status = 'ready' FOR UPDATE SKIP LOCKED) picked
-- then
UPDATE JSON_TABLE(@hf_keys, '$[*]' COLUMNS (k CHAR(32) PATH '$')) j
STRAIGHT_JOIN executions e FORCE INDEX (PRIMARY) ON e.`key` = UNHEX(j.k)
SET e.status = 'running', e.owner = ?4, e.epoch = e.epoch + 1, e.due_at = NULL, e.blocked_on = NULL
-- then
SELECT e.`key`, e.id, e.tenant_id, e.workflow, e.version, e.definition, e.queue, e.epoch, e.wakes, e.recoveries,
       e.parent, e.parent_path, e.limit_key, NULL
FROM JSON_TABLE(@hf_keys, '$[*]' COLUMNS (k CHAR(32) PATH '$')) j
STRAIGHT_JOIN executions e FORCE INDEX (PRIMARY) ON e.`key` = UNHEX(j.k)

-- name: fleet.histories
-- The logs of several executions: `events.history` with the execution in front.
SELECT e.execution, e.seq, e.type, e.path, e.generation, e.ordinal, e.attempt, e.epoch, e.result, e.at,
       e.duration_us, e.input_digest, coalesce(e.payload, p.body)
FROM JSON_TABLE(?1, '$[*]' COLUMNS (k CHAR(32) PATH '$')) j
STRAIGHT_JOIN events e ON e.execution = UNHEX(j.k)
LEFT JOIN payloads p ON p.execution = e.execution AND p.digest = e.payload_ref
ORDER BY e.execution, e.seq

-- name: fleet.put_back
-- What was claimed and can not be run here, by its owner; NULL puts it back into its queue. By the primary key, for
-- others lock the row first and then its place in the index of owners.
UPDATE executions FORCE INDEX (PRIMARY)
SET status = CASE WHEN ?4 IS NULL THEN 'ready' ELSE 'waiting' END, owner = NULL, blocked_on = ?4
WHERE `key` = ?1 AND owner = ?2 AND epoch = ?3
-- then
SELECT ?1 AS done FROM DUAL WHERE ROW_COUNT() > 0

-- name: fleet.wake_due
SET @hf_keys = NULL
-- then
SELECT JSON_ARRAYAGG(HEX(due.k)) INTO @hf_keys
FROM (SELECT `key` AS k FROM executions FORCE INDEX (executions_due)
      WHERE timer_at <= {now} ORDER BY timer_at LIMIT ?1 FOR UPDATE SKIP LOCKED) due
-- then
UPDATE JSON_TABLE(@hf_keys, '$[*]' COLUMNS (k CHAR(32) PATH '$')) j
STRAIGHT_JOIN executions e FORCE INDEX (PRIMARY) ON e.`key` = UNHEX(j.k)
SET e.status = 'ready'
-- then
SELECT e.queue FROM JSON_TABLE(@hf_keys, '$[*]' COLUMNS (k CHAR(32) PATH '$')) j
STRAIGHT_JOIN executions e FORCE INDEX (PRIMARY) ON e.`key` = UNHEX(j.k)

-- name: fleet.unblock
SET @hf_keys = NULL
-- then
SELECT JSON_ARRAYAGG(HEX(blocked.k)) INTO @hf_keys
FROM (SELECT `key` AS k FROM executions FORCE INDEX (executions_blocked)
      WHERE blocked_on = ?1 AND status = 'waiting'
      ORDER BY urgency, `key` LIMIT ?2 FOR UPDATE SKIP LOCKED) blocked
-- then
UPDATE JSON_TABLE(@hf_keys, '$[*]' COLUMNS (k CHAR(32) PATH '$')) j
STRAIGHT_JOIN executions e FORCE INDEX (PRIMARY) ON e.`key` = UNHEX(j.k)
SET e.status = 'ready', e.blocked_on = NULL
-- then
SELECT e.queue FROM JSON_TABLE(@hf_keys, '$[*]' COLUMNS (k CHAR(32) PATH '$')) j
STRAIGHT_JOIN executions e FORCE INDEX (PRIMARY) ON e.`key` = UNHEX(j.k)

-- name: fleet.recover
-- What a dead owner ran goes back into its queue, under a new epoch: from this commit on the old owner's writes
-- are refused. Rows that a flush of its holds right now are passed over; the sweep comes again. Whether there was
-- progress is looked at under the lock, so that the last flush of the old owner counts.
SET @hf_keys = NULL, @hf_rows = NULL
-- then
SELECT JSON_ARRAYAGG(HEX(left_.k)) INTO @hf_keys
FROM (SELECT `key` AS k FROM executions FORCE INDEX (executions_owned)
      WHERE owner = ?1 AND status = 'running' LIMIT ?2 FOR UPDATE SKIP LOCKED) left_
-- then
SELECT JSON_ARRAYAGG(JSON_OBJECT(
           'key', HEX(e.`key`),
           'recoveries', CASE WHEN EXISTS (SELECT 1 FROM events v
                                           WHERE v.execution = e.`key` AND v.result AND v.epoch = e.epoch)
                         THEN 1 ELSE e.recoveries + 1 END)) INTO @hf_rows
FROM JSON_TABLE(@hf_keys, '$[*]' COLUMNS (k CHAR(32) PATH '$')) j
STRAIGHT_JOIN executions e FORCE INDEX (PRIMARY) ON e.`key` = UNHEX(j.k)
-- then
UPDATE JSON_TABLE(@hf_rows, '$[*]' COLUMNS (k CHAR(32) PATH '$.key', recoveries INTEGER PATH '$.recoveries')) j
STRAIGHT_JOIN executions e FORCE INDEX (PRIMARY) ON e.`key` = UNHEX(j.k)
SET e.status = 'ready', e.owner = NULL, e.epoch = e.epoch + 1, e.due_at = NULL, e.recoveries = j.recoveries
-- then
SELECT e.queue FROM JSON_TABLE(@hf_keys, '$[*]' COLUMNS (k CHAR(32) PATH '$')) j
STRAIGHT_JOIN executions e FORCE INDEX (PRIMARY) ON e.`key` = UNHEX(j.k)

-- name: fleet.forget
-- A dead worker is forgotten when it owns nothing any more. That is asked first: a DELETE would lock what it finds
-- of executions, and wait for those that somebody else has locked.
SELECT count(*) INTO @hf_owned FROM (SELECT 1 FROM executions WHERE owner = ?1 LIMIT 1) owned
-- then
DELETE FROM workers WHERE boot_id = ?1 AND @hf_owned = 0

-- name: fleet.orphans
-- Owners of running executions that have no row: nothing should leave any, and nothing else would find them.
SELECT owners.owner
FROM (SELECT DISTINCT owner FROM executions FORCE INDEX (executions_owned) WHERE owner IS NOT NULL) owners
WHERE NOT EXISTS (SELECT 1 FROM workers w WHERE w.boot_id = owners.owner)

-- name: fleet.registered
-- Which of some owners are registered in this store: lock files of a host may belong to several.
SELECT w.boot_id
FROM JSON_TABLE(?1, '$[*]' COLUMNS (boot CHAR(32) PATH '$')) j STRAIGHT_JOIN workers w ON w.boot_id = UNHEX(j.boot)

-- name: fleet.owned
SELECT e.`key`, e.epoch, EXISTS (SELECT 1 FROM slots s WHERE s.holder = e.`key`)
FROM executions e WHERE e.owner = ?1

-- name: fleet.missing_versions
-- Definitions that executions wait for, each with the tenant of one of them. A range of the index.
SELECT blocked_on, min(tenant_id) FROM executions FORCE INDEX (executions_blocked)
WHERE blocked_on >= 'version:' AND blocked_on < 'version;' GROUP BY blocked_on LIMIT ?1

-- name: fleet.describe
UPDATE workers SET details = ?2 WHERE boot_id = ?1

-- name: fleet.holds_slots
SELECT 1 FROM slots WHERE holder = ?1 LIMIT 1

-- name: fleet.free_slots
UPDATE slots SET holder = NULL WHERE holder = ?1
